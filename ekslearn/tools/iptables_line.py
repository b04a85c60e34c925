"""A command line of ``iptables``, read: what to do, where, and the rules it stands for.

Source: iptables 1.8.9, xshared.c (do_parse) and libxtables (xtoptions.c, xtables.c).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from itertools import product
from typing import Any

from ..linux import netfilter as nf
from .iptables_rows import MATCHES, TARGETS, Extension, OutOfRange, Trouble, refuse, refused
from .words import number

# getopt(3)'s table: a letter, then ":" where it takes an argument, "::" where it may.
SHORT = dict(re.findall(r"(\w)(:*)", "A:C:D:R:I:L::S::M:F::Z::N:X::E:P:Vh::o:p:s:d:j:i:fvw::W::nt:"
                                     "m:xc:g:460"))  # fmt: skip
LONG = dict(pair.split("=") for pair in (
    "append=A delete=D check=C insert=I replace=R list=L list-rules=S flush=F zero=Z new-chain=N "
    "delete-chain=X rename-chain=E policy=P source=s destination=d src=s dst=d protocol=p "
    "in-interface=i jump=j table=t match=m numeric=n out-interface=o verbose=v wait=w "
    "wait-interval=W exact=x fragments=f version=V help=h line-numbers=0 modprobe=M "
    "set-counters=c goto=g ipv4=4 ipv6=6"
).split())  # fmt: skip
ALIASES = {"--sport": "--source-port", "--dport": "--destination-port"}
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17}
# The options that may stand beside a command; beside one that isn't here, none.
BESIDE = dict.fromkeys("ACDIR", "sdpjio") | {"L": "n0"}
ALL = IPv4Network("0.0.0.0/0")

Key = tuple[Any, str]  # who knows an option ("" for iptables itself), and its name


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
        if not self.rest() or self.rest()[0].startswith(("-", "!")):
            return None
        return self._take()

    def _take(self) -> str:
        self._at += 1
        return self._words[self._at - 1]

    def next(self, tables: list[dict[str, tuple[Key, str]]]) -> tuple[Key, str | None] | None:
        """The next option and its argument; key ("", "") for a word that is none; None at the end.

        ``tables`` of long options are tried one after another.
        """
        if not self._cluster:
            if not self.rest() or (word := self._take()) == "--":
                return None
            if len(word) < 2 or word[0] != "-":
                return ("", ""), word
            if word.startswith("--"):
                return self._long(word, tables)
            self._cluster = word[1:]
        letter, self._cluster = self._cluster[0], self._cluster[1:]
        if letter not in SHORT or letter == "0":
            raise Trouble(f'unknown option "{self._words[self._at - 1 - bool(self._cluster)]}"')
        if not SHORT[letter]:
            return ("", letter), None
        argument, self._cluster = self._cluster or None, ""
        return ("", letter), self._argument(argument, SHORT[letter])

    def _long(self, word: str, tables: list[dict[str, tuple[Key, str]]]) -> tuple[Key, str | None]:
        name, equals, argument = word.partition("=")
        for table in tables:
            found = {table[name]} if name in table else \
                {row for each, row in table.items() if each.startswith(name)}  # fmt: skip
            if len(found) == 1:
                key, arity = found.pop()
                if arity or not equals:
                    return key, self._argument(argument if equals else None, arity)
        raise Trouble(f'unknown option "{word}"')

    def _argument(self, given: str | None, arity: str) -> str | None:
        if given is None and arity == ":":
            if not self.rest():
                raise Trouble(f'option "{self._words[-1]}" requires an argument')
            return self._take()
        return given


@dataclass(slots=True, eq=False)
class Loaded:
    """A match or target of this command line, and what was given to it."""

    name: str
    extension: Extension
    given: dict[str, Any] = field(default_factory=dict)

    def take(self, word: str, argument: str | None, negated: bool, protocol: str) -> None:
        """Read one option; ``protocol`` is what -p has said by now."""
        word, about = ALIASES.get(word, word), f'{self.name}: option "{ALIASES.get(word, word)}"'
        if word in self.given:
            raise Trouble(f"Only one `{word}' allowed" if self.name == "tcp"
                          else f"{about} can only be used once.\n")  # fmt: skip
        if negated and word not in self.extension.inverts.split():
            raise Trouble(f"{about} cannot be inverted.\n")
        ported = word == "--to-ports" or (word.startswith("--to-") and ":" in (argument or ""))
        if ported and not protocol:
            raise Trouble("Need TCP, UDP, SCTP or DCCP with port specification")
        read = self.extension.options[word]
        try:
            self.given[word] = True if read is None else read(argument or "")
        except OutOfRange as wrong:
            kind, bounds = wrong.args
            said = f'{self.name}: bad {kind} for option "{word}", or out of range{bounds}.\n'
            raise Trouble(said) from None
        if negated:
            self.given[f"! {word}"] = True

    def check(self) -> None:
        """Complain about what is missing and what can't stand together."""
        for words, complaint in self.extension.needs.items():
            if not any(word in self.given for word in words.split()):
                raise Trouble(complaint or f'{self.name}: option "{words}" must be specified\n')
        for group in self.extension.rivals:
            rivals = [word for word in group.split() if word in self.given]
            if len(rivals) > 1:
                raise Trouble(f'{self.name}: option "{rivals[0]}" cannot be used together with '
                              f'"{rivals[1]}".\n')  # fmt: skip


@dataclass(slots=True)
class Line:
    """What a command line says. ``basic`` has the matches of -s, -d, -i, -o and -p by letter."""

    table: str = "filter"
    command: str = ""
    chain: str | None = None
    number: int = 0
    second: str = ""
    given: dict[str, str | None] = field(default_factory=dict)
    negated: set[str] = field(default_factory=set)
    loaded: list[Loaded] = field(default_factory=list)
    target: Loaded | None = None
    goto: bool = False
    rules: list[nf.ChainRule] = field(default_factory=list)

    @property
    def protocol(self) -> str:
        """The protocol behind -p, in letters; empty where there is none."""
        return self.given.get("p") or ""

    def tables(self) -> list[dict[str, tuple[Key, str]]]:
        """The long options known by now; then also those of the protocol's own match."""
        own = {f"--{name}": (("", letter), SHORT[letter]) for name, letter in LONG.items()}
        for loaded in self.loaded:
            own |= _long_options(loaded, loaded.name, loaded.extension.options)
        if self.protocol in MATCHES:
            more = _long_options(self.protocol, self.protocol, MATCHES[self.protocol].options)
        else:
            more = _long_options("", self.protocol, {})
        return [own, own | more]


def _long_options(owner: Any, name: str, known: Mapping[str, Any]) -> dict[str, tuple[Key, str]]:
    known = {**known, **dict.fromkeys(refused().get(name, ()), str)}
    return {word: ((owner, ALIASES.get(word, word)), ":" if read else "")
            for word, read in known.items()}  # fmt: skip


def read_line(words: list[str], restoring: str = "") -> Line:
    """Read a command line; ``restoring`` is the table that iptables-restore is in."""
    line, queue, no = Line(restoring or "filter"), Words(words), False
    while found := queue.next(line.tables()):
        (owner, name), argument = found
        if not name:
            if argument != "!":
                raise Trouble(f"Bad argument `{argument}'\n", "bare")
            if no:
                raise Trouble("multiple consecutive ! not allowed")
            no = True
            continue
        if name.startswith("--"):
            _extension_option(line, owner, name, argument, no)
        elif name in BESIDE or name in "SFZNXEP":
            _command(line, queue, name, argument, no)
        else:
            _option(line, queue, name, argument, no, restoring)
        no = False
    _check(line, queue, no)
    return line


def _extension_option(line: Line, owner: Any, name: str, argument: str | None, no: bool) -> None:
    if isinstance(owner, str) and owner:
        owner = _load(line, owner, MATCHES)
    if not owner or name not in owner.extension.options:
        refuse(f'"{name}"')
    owner.take(name, argument, no, line.protocol)


def _load(line: Line, name: str, table: Mapping[str, Extension]) -> Loaded:
    line.loaded.append(Loaded(name, table[name]))
    return line.loaded[-1]


def _command(line: Line, queue: Words, letter: str, argument: str | None, no: bool) -> None:
    if f"--{next(name for name in LONG if LONG[name] == letter)}" in refused()["iptables"]:
        refuse(f'"-{letter}"')
    if letter == "N":
        check_chain_name(argument or "")
    if no:
        raise Trouble("unexpected '!' flag")
    if line.command:
        raise Trouble(f"Cannot use -{letter} with -{line.command}")
    line.command = letter
    line.chain = queue.following() if argument is None else argument
    if letter in "DIRLS" and (text := queue.following()) is not None:
        line.number = number(text) or 0
        if not line.number:
            raise Trouble(f"Invalid rule number `{text}'")
    if letter == "R" and not line.number:
        raise Trouble("-R requires a rule number")
    if letter in "EP":
        second = queue.following()
        if second is None:
            raise Trouble("-E requires old-chain-name and new-chain-name" if letter == "E"
                          else "-P requires a chain and a policy")  # fmt: skip
        line.second = second


def check_chain_name(name: str) -> None:
    """What iptables objects to in a new chain's name (parse_chain)."""
    if len(name) > 28:
        raise Trouble(f"chain name `{name}' too long (must be under 29 chars)")
    if name.startswith(("-", "!")):
        raise Trouble(f"chain name not allowed to start with `{name[0]}'")
    if name in ("", "ACCEPT", "DROP", "RETURN", *TARGETS, *refused()["target"]):
        raise Trouble("chain name may not clash with target name")
    if re.search(r"\s", name):
        raise Trouble(f"Invalid chain name `{name}'")


def _option(line: Line, queue: Words, letter: str, argument: str | None, no: bool,
            restoring: str) -> None:  # fmt: skip
    text = argument or ""
    if f"--{next(name for name in LONG if LONG[name] == letter)}" in refused()["iptables"]:
        refuse(f'"-{letter}"')
    elif letter == "V":
        raise Trouble(f"{'Not' if no else 'iptables'}", "version")
    elif letter == "6":
        raise Trouble("", "bare")
    elif letter == "w":
        if restoring:
            raise Trouble("You cannot use `-w' from iptables-restore")
        if not re.match(r"[-+]?\d", text or queue.following() or "0"):
            raise Trouble("wait seconds not numeric")
    elif letter == "t":
        if no:
            raise Trouble("unexpected ! flag before --table")
        if restoring:
            raise Trouble("The -t option cannot be used in iptables-restore.\n")
        line.table = text
    elif letter == "m":
        _match(line, text, no)
    elif letter != "4":
        text = queue.last if letter in "sdpjio" else text  # as do_parse does, "-jDROP" or not
        _basic(line, "j" if letter == "g" else letter, text, no)
        line.goto |= letter == "g"
        if letter == "j" and text in TARGETS:
            line.target = _load(line, text, TARGETS)


def _match(line: Line, name: str, no: bool) -> None:
    if no:
        raise Trouble("unexpected ! flag before --match")
    if name in refused()["match"]:
        refuse(f'"-m {name}"')
    if name not in MATCHES:
        raise Trouble(f"Couldn't load match `{name}':No such file or directory\n")
    _load(line, name, MATCHES)


def _basic(line: Line, letter: str, text: str, no: bool) -> None:
    if letter in "io" and not text:
        raise Trouble("Empty interface is likely to be undesired")
    if letter in line.given:
        raise Trouble(f"multiple -{letter} flags not allowed")
    if no and letter in "jn0":
        raise Trouble(f"cannot have ! before -{letter}")
    if letter in "io" and len(text) > 15:
        raise Trouble(f"interface name `{text}' must be shorter than IFNAMSIZ (15)")
    if letter in "io" and (re.search(r"[/\s]", text) or (no and text == "+")):
        refuse(f'the interface name "{text}" here')
    if letter == "j" and not text:
        raise Trouble("Invalid target name (too short)")
    if letter == "j" and len(text) > 28:
        raise Trouble(f"Invalid target name `{text}' (28 chars max)")
    if letter == "j" and text in refused()["target"]:
        refuse(f'"-j {text}"')
    line.given[letter] = _protocol(text, no) if letter == "p" else text
    line.negated |= {letter} if no else set()


def _protocol(text: str, no: bool) -> str:
    """A protocol's name; empty for all of them."""
    name = next((each for each, code in PROTOCOLS.items() if number(text) == code), text.lower())
    if name == "all" or number(name) == 0:
        if no:
            raise Trouble("rule would never match protocol")
        return ""
    if name not in PROTOCOLS:
        if (number(name) or 256) < 256 or name in refused()["protocol"]:
            refuse(f'"-p {name}"')
        raise Trouble(f'unknown protocol "{name}" specified')
    return name


def _check(line: Line, queue: Words, no: bool) -> None:
    """Complain where the command line as a whole makes no sense, then make its rules."""
    if line.table == "nat" and "DROP" in (line.given.get("j"), line.second * (line.command == "P")):
        raise Trouble('\nThe "nat" table is not intended for filtering, the use of DROP is '
                      "therefore inhibited.\n\n")  # fmt: skip
    for loaded in sorted(line.loaded, key=lambda each: each is line.target):
        loaded.check()
    if queue.rest():
        raise Trouble("unknown arguments found on commandline")
    if not line.command:
        raise Trouble("no command specified")
    if no:
        raise Trouble("nothing appropriate following !")
    by_rule = line.command in "ACDIR" and not (line.command == "D" and line.number)
    nets = {letter: list(_nets(line, letter)) for letter in "sd" if by_rule or letter in line.given}
    if line.command == "R" and len(nets["s"]) * len(nets["d"]) > 1:
        raise Trouble("Replacement rule does not specify a unique address")
    allowed = BESIDE.get(line.command, "") if by_rule or line.command == "L" else ""
    for letter in "nsdpjio0":
        if letter in line.given and letter not in allowed:
            raise Trouble(f"Illegal option `-{letter}' with this command")
    if line.chain and len(line.chain) > 28:
        raise Trouble(f"chain name `{line.chain}' too long (must be under 29 chars)")
    for letter, hooks in (("o", ("PREROUTING", "INPUT")), ("i", ("POSTROUTING", "OUTPUT"))):
        if letter in line.given and line.chain in hooks:
            raise Trouble(f"Can't use -{letter} with {line.chain}\n")
    if by_rule:
        line.rules = list(_rules(line, nets))


def _nets(line: Line, letter: str) -> Iterator[IPv4Network]:
    texts = (line.given.get(letter, "0.0.0.0/0") or "").split(",")
    for text in texts:
        base, slash, mask = text.strip().partition("/")
        parts = [number(part) for part in base.split(".")]
        if not 1 <= len(parts) <= 4 or any(part is None or part > 255 for part in parts):
            raise Trouble(f"host/network `{base}' not found")
        address = IPv4Address(bytes([*(part or 0 for part in parts), *[0] * (4 - len(parts))]))
        try:
            length = mask if "." in mask or not slash else number(mask)
            yield IPv4Network(f"{address}/{length if slash else 32}", strict=False)
        except ValueError:
            raise Trouble(f"invalid mask `{mask}' specified") from None
    if len(texts) > 1 and line.negated & {"s", "d"}:
        raise Trouble("! not allowed with multiple source or destination IP addresses")


def _rules(line: Line, nets: Mapping[str, list[IPv4Network]]) -> Iterator[nf.ChainRule]:
    """The rules a command line stands for: one, or several for -s A,B."""
    matches: list[nf.Match] = [
        nf.Interface(name=line.given[letter] or "", way=way, negated=letter in line.negated)
        for letter, way in (("i", "in"), ("o", "out")) if line.given.get(letter, "+") != "+"
    ]  # fmt: skip
    if line.protocol:
        matches.append(nf.Protocol(name=line.protocol, negated="p" in line.negated))
    merged: dict[str, dict[str, Any]] = {}
    for loaded in line.loaded:
        ports = loaded.name in PROTOCOLS
        if ports and loaded.given and line.protocol != loaded.name:
            raise Trouble(f"{loaded.name.upper()} match requires '-p {loaded.name}'")
        if ports and loaded.name in merged:
            refuse(f'"-m {loaded.name}" twice')
        merged[loaded.name] = loaded.given
        if loaded is not line.target:
            matches += loaded.extension.build(loaded.given)
    for source, goal in product(nets["s"], nets["d"]):
        ends: list[nf.Match] = []
        if source != ALL or "s" in line.negated:
            ends.append(nf.Source(net=source, negated="s" in line.negated))
        if goal != ALL or "d" in line.negated:
            ends.append(nf.Destination(net=goal, negated="d" in line.negated))
        yield nf.ChainRule((*ends, *matches), _target(line), line.goto)


def _target(line: Line) -> nf.Target | None:
    name = line.given.get("j")
    if not name:
        return None
    if line.target:
        built: nf.Target = line.target.extension.build(line.target.given)
        return built
    plain = name in ("ACCEPT", "DROP", "RETURN") and not line.goto
    return nf.Verdict(name) if plain else nf.Jump(name)
