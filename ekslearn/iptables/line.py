"""A command line of ``iptables``, read: what to do, where, and the rules it stands for.

Source: iptables 1.8.9, xshared.c (do_parse) and libxtables (xtables.c).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Network
from itertools import product

from ..linux import netfilter as nf
from ..tools.words import ipv4, number
from .rows import MATCHES, TARGETS, Loaded, Trouble, object_if, refuse, refused, table

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17}
# The options that may stand beside a command; beside one that isn't here, none.
BESIDE = dict.fromkeys("ACDIR", "sdpjio") | {"L": "n0"}
COMMANDS = "ACDIRLSFZNXEP"

# An option as getopt knows it: who has it (a loaded extension, the protocol's own match by its
# name, "" for iptables itself), its name or letter, and whether it takes an argument.
Option = tuple[Loaded | str, str, str]
LETTERS = {letter: arity for letter, arity, *_ in table("iptables.txt")["option"]}
LONG: dict[str, Option] = {f"--{name}": ("", letter, arity) for letter, arity, *names
                           in table("iptables.txt")["option"] for name in names}  # fmt: skip
ANY = IPv4Network("0.0.0.0/0")


class Words:
    """getopt_long(3) as iptables calls it: word by word, each beginning of a name that is clear."""

    def __init__(self, words: list[str]) -> None:
        self._words, self._at, self._cluster = ["iptables", *words], 1, ""

    @property
    def last(self) -> str:
        """The word taken last."""
        return self._words[self._at - 1]

    def rest(self) -> list[str]:
        """The words that aren't taken yet."""
        return self._words[self._at :]

    def following(self) -> str | None:
        """Take the next word, unless it looks like an option."""
        return None if not self.rest() or self.rest()[0].startswith(("-", "!")) else self._take()

    def _take(self) -> str:
        self._at += 1
        return self.last

    def next(self, known: Iterable[dict[str, Option]]) -> tuple[Option, str | None] | None:
        """The next option and its argument, a word that is no option, or None at the end.

        The tables of long options ``known`` are tried one after another.
        """
        if not self._cluster:
            if self._at == len(self._words) or (word := self._take()) == "--":
                return None
            if len(word) < 2 or word[0] != "-":
                return ("", "", ""), word
            if word.startswith("--"):
                return self._long(word, known)
            self._cluster = word[1:]
        letter, self._cluster = self._cluster[0], self._cluster[1:]
        arity = LETTERS.get(letter, "") if letter != "0" else ""
        object_if(not arity, f'unknown option "{self._words[self._at - 1 - bool(self._cluster)]}"')
        argument = None
        if arity != "-":
            argument, self._cluster = self._argument(self._cluster or None, arity), ""
        return ("", letter, arity), argument

    def _long(self, word: str, known: Iterable[dict[str, Option]]) -> tuple[Option, str | None]:
        name, equals, argument = word.partition("=")
        for options in known:
            option = options.get(name)
            if option is None:
                found = {option for each, option in options.items() if each.startswith(name)}
                option = found.pop() if len(found) == 1 else None
            if option and (not equals or option[2] != "-"):
                return option, self._argument(argument if equals else None, option[2])
        raise Trouble(f'unknown option "{word}"')

    def _argument(self, given: str | None, arity: str) -> str | None:
        if given is not None or arity != ":":
            return given
        object_if(not self.rest(), f'option "{self._words[-1]}" requires an argument')
        return self._take()


@dataclass(slots=True)
class Line:
    """What a command line says.

    ``given`` has the arguments of -s, -d, -p, -i, -o, -j, -n and --line-numbers by letter ("0"),
    ``negated`` those behind an exclamation mark; ``loaded`` are the matches and the target,
    ``known`` the long options by now.
    """

    table: str = "filter"
    command: str = ""
    chain: str | None = None
    number: int = 0
    second: str = ""
    given: dict[str, str] = field(default_factory=dict)
    negated: set[str] = field(default_factory=set)
    loaded: list[Loaded] = field(default_factory=list)
    goto: bool = False
    rules: list[nf.ChainRule] = field(default_factory=list)
    known: dict[str, Option] = field(default_factory=LONG.copy)

    def options(self) -> Iterator[dict[str, Option]]:
        """The long options known by now; then also those of the protocol's own match."""
        yield self.known
        protocol = self.given.get("p", "")
        yield self.known | {word: (protocol, *option) for word, option in options_of(protocol)}

    def load(self, name: str) -> Loaded:
        """Load a match or a target."""
        self.loaded.append(loaded := Loaded(name))
        self.known |= {word: (loaded, *option) for word, option in options_of(name)}
        return loaded


@cache
def options_of(name: str) -> list[tuple[str, tuple[str, str]]]:
    """The options of an extension: each of its names; the first of them and its argument."""
    rows = [*table("iptables.txt").get(name, ()), *(["?", word] for word in refused(name))]
    return [(word, (words[0], {"-": "-", "?": "::"}.get(reader.rstrip("!"), ":")))
            for reader, *words in rows for word in words]  # fmt: skip


def read_line(words: list[str], restoring: str = "") -> Line:
    """Read a command line; ``restoring`` is the table that iptables-restore is in."""
    line, queue, no = Line(restoring or "filter"), Words(words), False
    while found := queue.next(line.options()):
        (owner, name, _), argument = found
        if not name:
            object_if(argument != "!", f"Bad argument `{argument}'\n", "bare")
            object_if(no, "multiple consecutive ! not allowed")
        elif name.startswith("--"):
            if name in refused(owner.name if isinstance(owner, Loaded) else owner):
                refuse(f'"{name}"')
            if not isinstance(owner, Loaded):
                owner = line.load(owner)
            owner.take(name, argument, no, line.given.get("p", ""))
        elif name in refused("iptables"):
            refuse(f'"-{name}"')
        elif name in COMMANDS:
            _command(line, queue, name, argument, no)
        else:
            _option(line, queue, name, argument or "", no, restoring)
        no = not name
    _check(line, queue, no)
    return line


def _command(line: Line, queue: Words, letter: str, argument: str | None, no: bool) -> None:
    if letter == "N":
        check_chain_name(argument or "")
    object_if(no, "unexpected '!' flag")
    object_if(line.command, f"Cannot use -{letter} with -{line.command}")
    line.command = letter
    line.chain = queue.following() if argument is None else argument
    if letter in "DIRLS" and (text := queue.following()) is not None:
        line.number = number(text) or 0
        object_if(not line.number, f"Invalid rule number `{text}'")
    object_if(letter == "R" and not line.number, "-R requires a rule number")
    if letter in "EP":
        second = queue.following()
        object_if(letter == "E" and second is None,
                  "-E requires old-chain-name and new-chain-name")  # fmt: skip
        object_if(second is None, "-P requires a chain and a policy")
        line.second = second or ""


def check_table(name: str) -> None:
    """Complain about a table that isn't there."""
    if name in refused("table"):
        refuse(f'the table "{name}"')
    object_if(name not in nf.BUILT_IN, f"table '{name}' does not exist", "table")


def check_chain_name(name: str) -> None:
    """What iptables objects to in a new chain's name (parse_chain)."""
    targets = ("", "ACCEPT", "DROP", "RETURN", *TARGETS, *refused("target"))
    object_if(len(name) > 28, f"chain name `{name}' too long (must be under 29 chars)")
    object_if(name[:1] in ("-", "!"), f"chain name not allowed to start with `{name[:1]}'")
    object_if(name in targets, "chain name may not clash with target name")
    object_if(re.search(r"\s", name), f"Invalid chain name `{name}'")


def _option(line: Line, queue: Words, letter: str, text: str, no: bool, restoring: str) -> None:
    if letter == "V":
        raise Trouble("Not" if no else "", "version")
    if letter == "w":
        object_if(restoring, "You cannot use `-w' from iptables-restore")
        seconds = text or queue.following() or "0"
        object_if(not re.match(r"[-+]?\d", seconds), "wait seconds not numeric")
    elif letter == "t":
        object_if(no, "unexpected ! flag before --table")
        object_if(restoring, "The -t option cannot be used in iptables-restore.\n")
        line.table = text
    elif letter == "m":
        object_if(no, "unexpected ! flag before --match")
        if text in refused("match"):
            refuse(f'"-m {text}"')
        missing = f"Couldn't load match `{text}':No such file or directory\n"
        object_if(text not in MATCHES, missing)
        line.load(text)
    elif letter in "sdpijogn0":
        if letter in "sdpijo":
            text = queue.last  # as do_parse does, even where that is "-jDROP"
        line.goto |= letter == "g"
        _basic(line, "j" if letter == "g" else letter, text, no)
        if letter == "j" and text in TARGETS:
            line.load(text)
    object_if(letter == "6", "", "bare")


def _basic(line: Line, letter: str, text: str, no: bool) -> None:
    if letter in "io":
        object_if(not text, "Empty interface is likely to be undesired")
    object_if(letter in line.given, f"multiple -{letter} flags not allowed")
    object_if(no and letter in "jn0", f"cannot have ! before -{letter}")
    if letter in "io":
        long = f"interface name `{text}' must be shorter than IFNAMSIZ (15)"
        object_if(len(text) > 15, long)
        if re.search(r"[/\s]", text) or (no and text == "+"):
            refuse(f'the interface name "{text}" here')
    elif letter == "j":
        object_if(not text, "Invalid target name (too short)")
        object_if(len(text) > 28, f"Invalid target name `{text}' (28 chars max)")
        object_if(re.search(r"\s", text), f"Invalid target name `{text}'")
        if text in refused("target"):
            refuse(f'"-j {text}"')
    line.given[letter] = _protocol(text, no) if letter == "p" else text
    line.negated |= {letter} if no else set()


def _protocol(text: str, no: bool) -> str:
    """A protocol's name; empty for all of them."""
    name = next((each for each, code in PROTOCOLS.items() if number(text) == code), text.lower())
    if name == "all" or number(name) == 0:
        object_if(no, "rule would never match protocol")
        return ""
    if (number(name) or 256) < 256 or name in refused("protocol"):
        refuse(f'"-p {name}"')
    object_if(name not in PROTOCOLS, f'unknown protocol "{name}" specified')
    return name


def _check(line: Line, queue: Words, no: bool) -> None:
    """Complain where the command line as a whole makes no sense, then make its rules."""
    policy = line.second if line.command == "P" else ""
    drops = line.table == "nat" and "DROP" in (line.given.get("j"), policy)
    object_if(drops, '\nThe "nat" table is not intended for filtering, the use of DROP is '
              "therefore inhibited.\n\n")  # fmt: skip
    for loaded in sorted(line.loaded, key=lambda each: each.name in TARGETS):
        loaded.check()
    object_if(queue.rest(), "unknown arguments found on commandline")
    object_if(not line.command, "no command specified")
    object_if(no, "nothing appropriate following !")
    by_rule = line.command in "ACIR" or (line.command == "D" and not line.number)
    nets = {letter: _nets(line, letter) for letter in "sd" if by_rule or letter in line.given}
    object_if(line.command == "R" and len(nets["s"]) * len(nets["d"]) > 1,
              "Replacement rule does not specify a unique address")  # fmt: skip
    allowed = BESIDE.get(line.command, "") if by_rule or line.command == "L" else ""
    for letter in "nsdpjio0":
        wrong = letter in line.given and letter not in allowed
        object_if(wrong, f"Illegal option `-{letter}' with this command")
    object_if(len(line.chain or "") > 28,
              f"chain name `{line.chain}' too long (must be under 29 chars)")  # fmt: skip
    for letter, hooks in (("o", ("PREROUTING", "INPUT")), ("i", ("POSTROUTING", "OUTPUT"))):
        wrong = letter in line.given and line.chain in hooks
        object_if(wrong, f"Can't use -{letter} with {line.chain}\n")
    check_table(line.table)
    line.rules = list(_rules(line, nets)) if by_rule else []


def _nets(line: Line, letter: str) -> list[IPv4Network]:
    """The networks behind -s or -d, commas between them."""
    if letter not in line.given:
        return [ANY]
    found, texts = [], line.given[letter].split(",")
    for text in texts:
        base, slash, mask = text.strip().partition("/")
        address = ipv4(base)
        object_if(address is None, f"host/network `{base}' not found")
        length = mask if "." in mask else number(mask) if slash else 32
        try:
            found.append(IPv4Network(f"{address}/{length}", strict=False))
        except ValueError:
            if "." in mask:
                refuse(f'the mask "{mask}"')
            raise Trouble(f"invalid mask `{mask}' specified") from None
    object_if(len(texts) > 1 and line.negated & {"s", "d"},
              "! not allowed with multiple source or destination IP addresses")  # fmt: skip
    return found


def _rules(line: Line, nets: Mapping[str, list[IPv4Network]]) -> Iterator[nf.ChainRule]:
    """The rules a command line stands for: one, or several for -s A,B."""
    matches: list[nf.Match] = [
        nf.Interface(name=line.given[letter], way=way, negated=letter in line.negated)
        for letter, way in (("i", "in"), ("o", "out")) if line.given.get(letter, "+") != "+"
    ]  # fmt: skip
    protocol, target = line.given.get("p"), _target(line)
    if protocol:
        matches.append(nf.Protocol(name=protocol, negated="p" in line.negated))
    for loaded in line.loaded:
        if loaded.name in PROTOCOLS:
            strange = loaded.given and protocol != loaded.name
            object_if(strange, f"{loaded.name.upper()} match requires '-p {loaded.name}'")
            if [each.name for each in line.loaded].count(loaded.name) > 1:
                refuse(f'"-m {loaded.name}" twice')
        if loaded.name in MATCHES:
            matches += MATCHES[loaded.name](loaded.given)
        else:
            target = TARGETS[loaded.name](loaded.given)
    for source, goal in product(nets["s"], nets["d"]):
        ends = [nf.Network(side=side, net=net, negated=side[0] in line.negated)
                for side, net in (("source", source), ("destination", goal))
                if net.prefixlen or side[0] in line.negated]  # fmt: skip
        yield nf.ChainRule((*ends, *matches), target, line.goto)


def _target(line: Line) -> nf.Target | None:
    name = line.given.get("j", "")
    plain = name in ("ACCEPT", "DROP", "RETURN") and not line.goto
    return nf.Verdict(name) if plain else nf.Jump(name) if name else None
