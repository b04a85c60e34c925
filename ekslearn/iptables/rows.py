"""The rows of ``iptables``: each match and each target, how it is read and how it is printed.

Source: the extensions of iptables 1.8.9 (libxt_*.c, libipt_*.c), as Debian 12 ships them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from ipaddress import AddressValueError, IPv4Address
from typing import Any, NoReturn

from ..linux import netfilter as nf
from ..tools.words import Words, data_text, number

ALL_PORTS = ALL_PORTS = (0, 65535)

Given = Mapping[str, Any]  # option -> its value; "! option" is there too where it was negated
Reader = Callable[[str], Any]


class Trouble(Exception):
    """What iptables or the kernel objects to; ``kind`` is the form it is told in.

    ``at`` is the line of iptables-restore's input it is about, where that isn't the last one read.
    """

    def __init__(self, text: str, kind: str = "usage") -> None:
        super().__init__(text)
        self.text, self.kind, self.at = text, kind, 0


def object_if(so: object, text: str, kind: str = "usage") -> None:
    """Complain with ``text`` if it is so."""
    if so:
        raise Trouble(text, kind)


class OutOfRange(Exception):
    """An argument isn't a number of its ``kind``, or none within the ``bounds`` that are told."""

    def __init__(self, kind: str = "value", bounds: str = "") -> None:
        super().__init__(kind, bounds)


def refuse(what: str) -> NoReturn:
    """Refuse a real word by name."""
    Words([], "iptables").refuse(what)


@cache
def table(name: str) -> dict[str, list[list[str]]]:
    """The lines of a table in data/, by their first word: the words behind it."""
    found: dict[str, list[list[str]]] = {}
    for line in data_text(name).splitlines():
        if line and line[0] != "#":
            first, *words = line.split()
            found.setdefault(first.rstrip(":"), []).append(words)
    return found


@cache
def refused(kind: str) -> frozenset[str]:
    """The real words of a kind that are refused by name."""
    return frozenset(word for line in table("refused/iptables.txt").get(kind, ()) for word in line)


@cache
def rows(kind: str, name: str) -> list[list[str]]:
    """What stands behind ``name`` in the lines of that kind."""
    return [row[1:] for row in table("iptables.txt")[kind] if row[0] == name]


STATES, ADDRESS_TYPES = rows("words", "states")[0], rows("words", "types")[0]
# Each kind of REJECT: its name, the alias, the code of the ICMP message (a TCP reset has none).
REJECTS = [(name, alias, int(code) if code != "-" else None)
           for name, alias, code in rows("words", "reject")]  # fmt: skip


@cache
def service(protocol: str, port: int) -> str:
    """What -L calls a port."""
    names = (name for code, name, *_ in table("services.txt")[protocol] if code == str(port))
    return next(names, str(port))


# Readers


def _masked(text: str) -> tuple[int, int]:
    value, slash, mask = text.partition("/")
    found = number(value), number(mask) if slash else nf.ALL_BITS
    if found[0] is None or found[1] is None:
        raise OutOfRange("integer value")
    return found[0], found[1]


def _whole(least: int, text: str) -> int:
    found = number(text)
    if found is None or found < least:
        raise OutOfRange(bounds=f" ({least}-4294967295)")
    return found


def _share(text: str) -> int:
    if not re.fullmatch(r"[-+.0-9eE]+", text) or not 0 <= float(text) <= 1:
        raise OutOfRange(bounds=" (0-1)")
    return round(float(text) * nf.FULL_CHANCE)


def _mode(text: str) -> str:
    if text == "nth":
        refuse('"--mode nth"')
    object_if(text != "random", f'Bad mode "{text}"')
    return text


def _some_of(words: Sequence[str], complaint: str, text: str) -> list[str]:
    """Several of ``words`` with commas between, put into their order."""
    found = text.upper().split(",")
    for at, word in enumerate(found):
        rest = ",".join(text.split(",")[at:])
        object_if(not rest and complaint == "Bad state", '"--state" requires a list of states with '
                  "no spaces, e.g. ESTABLISHED,RELATED")  # fmt: skip
        object_if(word not in words, f'{complaint} "{rest}"')
    return [word for word in words if word in found]


def _port(protocol: str, complaint: str, text: str) -> int:
    """A port; UDP's reader takes any service's name, and of a number its last 16 bits."""
    found = number(text)
    for spoken, lines in table("services.txt").items() if found is None else ():
        for code, *names in lines:
            if text in names and protocol in (spoken, "udp"):
                found = int(code)
    if found is None or (found > ALL_PORTS[1] and protocol == "tcp"):
        raise Trouble(complaint.format(text))
    return found & ALL_PORTS[1]


def _ports(protocol: str, complaint: str, text: str) -> tuple[int, int]:
    """A port or a range; only TCP's reader (libxt_tcp.c) minds one that is upside down."""
    low, colon, high = text.partition(":")
    text = text or "0" * (protocol == "udp")
    if not colon:
        return (_port(protocol, complaint, text),) * 2
    first, last = (_port(protocol, complaint, end) if end else every
                   for end, every in zip((low, high), ALL_PORTS, strict=True))  # fmt: skip
    object_if(first > last and protocol == "tcp", "invalid portrange (min > max)")
    return first, last


def _one_port(text: str) -> int:
    if "-" in text:
        refuse(f'the range "{text}"')
    object_if(re.match(r"\d+:", text), "Invalid port:port syntax - use dash")
    return _port("tcp", "Port `{}' not valid", text) or refuse("the port 0")


def _address(text: str) -> IPv4Address | None:
    with suppress(AddressValueError):
        return IPv4Address(text)
    return None


def _goal(text: str) -> tuple[IPv4Address, int]:
    """An address, and a port or 0."""
    address, colon, port = text.partition(":")
    if "-" in text or (colon and not address):
        refuse(f'"{text}", a range or a port alone,')
    code = _one_port(port) if colon else 0
    found = _address(address)
    if found is None:
        raise Trouble(f'Bad IP address "{address}"')
    return found, code


def _reject(text: str) -> int | None:
    found = [code for name, alias, code in REJECTS
             if name.startswith(text.lower()) or alias.startswith(text.lower())]  # fmt: skip
    object_if(not found, f'unknown reject type "{text}"')
    return found[0]


READERS: dict[str, Reader] = {
    "text": lambda text: text[:255], "list": lambda text: text[:199], "masked": _masked,
    "address": lambda text: _address(text) or refuse(f'"--mask {text}"'), "share": _share,
    "whole": partial(_whole, 0), "seconds": partial(_whole, 1),
    "mode": _mode, "reject": _reject, "goal": _goal, "port": _one_port,
    "states": partial(_some_of, STATES[:5], "Bad state"),
    "ctstates": partial(_some_of, STATES, "Bad ctstate"),
    "types": partial(_some_of, ADDRESS_TYPES, "addrtype: bad type"),
    "tcp": partial(_ports, "tcp", "invalid port/service `{}' specified"),
    "udp": partial(_ports, "udp", 'Port "{}" does not resolve to anything.\n'),
}  # fmt: skip


@dataclass(slots=True, eq=False)
class Loaded:
    """A match or target of a command line, and what was given to it by now."""

    name: str
    given: dict[str, Any] = field(default_factory=dict)

    def take(self, word: str, argument: str | None, negated: bool, protocol: str) -> None:
        """Read one option; ``protocol`` is what -p has said by now."""
        reader, word = next((row[0], row[1]) for row in table("iptables.txt")[self.name]
                            if word in row)  # fmt: skip
        about = f'{self.name}: option "{word}"'
        object_if(word in self.given, f"Only one `{word}' allowed" if self.name == "tcp"
                  else f"{about} can only be used once.\n")  # fmt: skip
        object_if(negated and not reader.endswith("!"), f"{about} cannot be inverted.\n")
        ported = reader == "port" or (reader == "goal" and ":" in (argument or ""))
        object_if(ported and not protocol,
                  "Need TCP, UDP, SCTP or DCCP with port specification")  # fmt: skip
        try:
            self.given[word] = reader[0] == "-" or READERS[reader.rstrip("!")](argument or "")
        except OutOfRange as wrong:
            kind, bounds = wrong.args
            said = f'{self.name}: bad {kind} for option "{word}", or out of range{bounds}.\n'
            raise Trouble(said) from None
        if negated:
            self.given[f"! {word}"] = True

    def check(self) -> None:
        """Complain about what is missing and what can't stand together."""
        for options, *complaint in rows("needs", self.name):
            usual = f'{self.name}: option "{options}" must be specified\n'
            missing = not any(word in self.given for word in options.split(","))
            object_if(missing, " ".join(complaint) or usual)
        for (options,) in rows("rivals", self.name):
            both = [f'"{word}"' for word in options.split(",") if word in self.given]
            against = " cannot be used together with ".join(both[:2])
            object_if(len(both) > 1, f"{self.name}: option {against}.\n")
        for word, other in rows("also", self.name):
            alone = word in self.given and other not in self.given
            object_if(alone, f'{self.name}: option "{word}" also requires "{other}".\n')


# How each is built from what was given


def _build_ports(protocol: str, given: Given) -> Iterator[nf.Match]:
    sides = {"source": "--source-port", "destination": "--destination-port"}
    for side, word in sides.items():
        low, high = given.get(word, ALL_PORTS)
        negated = f"! {word}" in given
        if negated and 0 == low < high < ALL_PORTS[1]:
            low, high, negated = high + 1, ALL_PORTS[1], False  # as nft writes it
        if (low, high) != ALL_PORTS:
            yield nf.Port(protocol=protocol, side=side, low=low, high=high, negated=negated)
        elif negated:
            refuse("the negation of all ports")
    if all(given.get(word, ALL_PORTS) == ALL_PORTS for word in sides.values()):
        yield nf.Port(protocol=protocol, side="destination", low=0, high=65535)


def _build_types(given: Given) -> Iterator[nf.Match]:
    limit = "".join(way for way in ("in", "out") if f"--limit-iface-{way}" in given)
    for word, side in (("--src-type", "source"), ("--dst-type", "destination")):
        if word in given:
            beside = side == "destination" and "--src-type" in given
            yield nf.AddressType(side=side, kind=",".join(given[word]), limit=limit, beside=beside,
                                 negated=f"! {word}" in given)  # fmt: skip


def _build_mark(of_connection: bool, given: Given) -> Iterator[nf.Match]:
    value, mask = given["--mark"]
    yield nf.MarkMatch(value=value, mask=mask, of_connection=of_connection,
                       negated="! --mark" in given)  # fmt: skip


def _build_states(option: str, given: Given) -> Iterator[nf.Match]:
    yield nf.State(states=frozenset(given[option]), option=option, negated=f"! {option}" in given)


def _build_recent(given: Given) -> Iterator[nf.Match]:
    what = next(word for word in ("--set", "--rcheck", "--update", "--remove") if word in given)
    sides = [word for word in given if word in ("--rsource", "--rdest")]  # the last one counts
    yield nf.Recent(
        what=what[2:], name=given.get("--name", "DEFAULT"), seconds=given.get("--seconds", 0),
        reap="--reap" in given, mask=given.get("--mask", nf.WHOLE), negated=f"! {what}" in given,
        side="destination" if sides[-1:] == ["--rdest"] else "source", masked="--mask" in given,
    )  # fmt: skip


def _set_mark(given: Given) -> tuple[int, int]:
    """(value, mask) of --set-xmark, whichever of its spellings was used."""
    for word in ("--set-xmark", "--set-mark"):
        if word in given:
            value, mask = given[word]
            return value, mask | value if word == "--set-mark" else mask
    if "--and-mark" in given:
        return 0, ~given["--and-mark"] & nf.ALL_BITS
    if "--or-mark" in given:
        return given["--or-mark"], given["--or-mark"]
    return given["--xor-mark"], 0


def _connmark(given: Given) -> nf.ConnectionMark:
    both = given.get("--mask", nf.ALL_BITS)
    for what in ("save", "restore"):
        if f"--{what}-mark" in given:
            masks = given.get("--ctmask", both), given.get("--nfmask", both)
            return nf.ConnectionMark(what, 0, *masks)
    value, mask = _set_mark(given)
    return nf.ConnectionMark("set", value, both if {"--set-mark", "--mask"} <= set(given) else mask)


def _translate(what: str, given: Given) -> nf.Translate:
    found: tuple[IPv4Address | None, int] = None, given.get("--to-ports", 0)
    address, port = given.get("--to-destination", given.get("--to-source", found))
    dice = " ".join(word for word in ("--random", "--random-fully") if word in given)
    return nf.Translate(what, address, port, dice)


# How each is printed


def words_of(row: nf.Match | nf.Target, numeric: bool = True) -> dict[str, str]:
    """What the forms of a row may speak of."""
    if isinstance(row, nf.Port):
        ends = [str(port) if numeric else service(row.protocol, port)
                for port in dict.fromkeys((row.low, row.high))]  # fmt: skip
        return {"s": row.side[0], "span": ":".join(ends), "plural": "s" * (len(ends) > 1)}
    if isinstance(row, nf.AddressType):
        return {"side": {"source": "src", "destination": "dst"}[row.side], "kind": row.kind}
    if isinstance(row, nf.MarkMatch):
        return {"mark": f"{row.value:#x}" + f"/{row.mask:#x}" * (row.mask != nf.ALL_BITS)}
    if isinstance(row, nf.State):
        return {"states": ",".join(state for state in STATES if state in row.states)}
    if isinstance(row, nf.Chance):
        return {"share": f"{row.threshold / nf.FULL_CHANCE:.11f}"}
    if isinstance(row, nf.Recent):
        seconds = row.seconds - (row.seconds >> 31 << 32)  # printed as a C int
        within = f"--seconds {seconds} " * bool(seconds) + "--reap " * row.reap
        said = within.replace("--seconds", "seconds:").replace("--", "")
        return {"what": row.what, "check": row.what.upper().replace("RCHECK", "CHECK"),
                "name": row.name, "side": row.side.removesuffix("ination"), "mask": str(row.mask),
                "within": within, "said": said}  # fmt: skip
    if isinstance(row, nf.Comment):
        plain = re.fullmatch(r"[-_0-9A-Za-z]+", row.text)
        escaped = re.sub(r"([\"\\'])", r"\\\1", row.text)
        return {"text": row.text, "quoted": row.text if plain else f'"{escaped}"'}
    if isinstance(row, nf.SetMark):
        return {"xmark": f"{row.value:#x}/{row.mask:#x}", "said": _mark_said(row.value, row.mask)}
    if isinstance(row, nf.ConnectionMark):
        return _connmark_words(row)
    if isinstance(row, nf.Translate):
        port = f":{row.port}" if row.port and row.address else ""
        dice = "".join(f" {word}" for word in row.random.split())
        return {"goal": f"{row.address}{port}", "dice": dice, "said": dice.replace("--", ""),
                "ports": f"--to-ports {row.port}" * bool(row.port),
                "masq": f"masq ports: {row.port}" * bool(row.port)}  # fmt: skip
    assert isinstance(row, nf.Reject)
    return {"kind": next(name for name, _, code in REJECTS if code == row.code)}


def _mark_said(value: int, mask: int) -> str:
    if mask == nf.ALL_BITS:
        return f"set {value:#x}"
    if value == 0:
        return f"and {~mask & nf.ALL_BITS:#x}"
    if value == mask:
        return f"or {value:#x}"
    return f"xor {value:#x}" if mask == 0 else f"xset {value:#x}/{mask:#x}"


def _connmark_words(row: nf.ConnectionMark) -> dict[str, str]:
    if row.what == "set":
        xmark = f"--set-xmark {row.value:#x}/{row.ctmask:#x}"
        return {"xmark": xmark, "said": _mark_said(row.value, row.ctmask)}
    masks = f" mask {row.ctmask:#x}" if row.ctmask != nf.ALL_BITS else ""
    if row.nfmask != row.ctmask and row.what == "save":
        masks = f" nfmask {row.nfmask:#x} ctmask ~{row.ctmask:#x}"
    elif row.nfmask != row.ctmask:
        masks = f" ctmask {row.ctmask:#x} nfmask ~{row.nfmask:#x}"
    xmark = f"--{row.what}-mark --nfmask {row.nfmask:#x} --ctmask {row.ctmask:#x}"
    return {"xmark": xmark, "said": f"{row.what}{masks}"}


# What each is made of; how it is printed stands in data/iptables.txt
MATCHES: dict[str, Callable[[Given], Iterable[nf.Match]]] = {
    "tcp": partial(_build_ports, "tcp"), "udp": partial(_build_ports, "udp"),
    "comment": lambda given: [nf.Comment(text=given["--comment"])], "addrtype": _build_types,
    "mark": partial(_build_mark, False), "connmark": partial(_build_mark, True),
    "conntrack": partial(_build_states, "--ctstate"), "state": partial(_build_states, "--state"),
    "statistic": lambda given: [nf.Chance(threshold=given["--probability"],
                                          negated="! --probability" in given)],
    "recent": _build_recent,
}  # fmt: skip
TARGETS: dict[str, Callable[[Given], nf.Target]] = {
    "MARK": lambda given: nf.SetMark(*_set_mark(given)), "CONNMARK": _connmark,
    "REJECT": lambda given: nf.Reject(given.get("--reject-with", 3)),
    "DNAT": partial(_translate, "target"), "SNAT": partial(_translate, "source"),
    "MASQUERADE": partial(_translate, "source"),
}  # fmt: skip
NAMES: dict[type, Callable[[Any], str]] = {
    nf.Port: lambda row: row.protocol, nf.Verdict: lambda row: row.name,
    nf.Jump: lambda row: row.chain, nf.Comment: lambda _: "comment",
    nf.AddressType: lambda _: "addrtype", nf.Chance: lambda _: "statistic",
    nf.Recent: lambda _: "recent", nf.SetMark: lambda _: "MARK",
    nf.ConnectionMark: lambda _: "CONNMARK", nf.Reject: lambda _: "REJECT",
    nf.MarkMatch: lambda row: "connmark" if row.of_connection else "mark",
    nf.State: lambda row: "state" if row.option == "--state" else "conntrack",
    nf.Translate: lambda row: "DNAT" if row.what == "target" else
        "SNAT" if row.address else "MASQUERADE",
}  # fmt: skip


def name_of(row: nf.Match | nf.Target | None) -> str:
    """What stands behind -m, -j or -g; empty where nothing does."""
    return NAMES[type(row)](row) if type(row) in NAMES else ""


def saved(group: Sequence[nf.Match | nf.Target]) -> str:
    """What iptables-save prints behind ``-m name`` or ``-j NAME``."""
    limits = {f"--limit-iface-{limit}" for row in group if (limit := getattr(row, "limit", ""))}
    return " ".join(filter(None, [*(_filled("saved", row, True) for row in group), *limits]))


def listed(group: Sequence[nf.Match | nf.Target], numeric: bool) -> str:
    """What -L shows of a match or target."""
    words = [_filled("listed", row, numeric) for row in group]
    if isinstance(group[0], nf.Port):
        words.insert(0, group[0].protocol)
    elif isinstance(group[0], nf.AddressType):
        words = ["ADDRTYPE match", *words, group[0].limit and f"limit-{group[0].limit}"]
    return " ".join(filter(None, words))


def _filled(kind: str, row: nf.Match | nf.Target, numeric: bool) -> str:
    if isinstance(row, nf.Port) and (row.low, row.high) == ALL_PORTS:
        return ""
    negated, form = isinstance(row, nf.Match) and row.negated, rows(kind, name_of(row))[0]
    bangs = {"no": "! " * negated, "bang": "!" * negated, "or_blank": "! " if negated else " "}
    return " ".join(form).format(**bangs, **words_of(row, numeric)).strip(" ")
