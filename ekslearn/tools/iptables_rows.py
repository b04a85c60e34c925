"""The rows of ``iptables``: each match and each target, how it is read and how it is printed.

Source: the extensions of iptables 1.8.9 (libxt_*.c, libipt_*.c), as Debian 12 ships them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import AddressValueError, IPv4Address
from typing import Any, NoReturn

from .. import data_path
from ..linux import netfilter as nf
from .words import Words, number

STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")  # as printed
ADDRESS_TYPES = (
    "UNSPEC UNICAST LOCAL BROADCAST ANYCAST MULTICAST BLACKHOLE UNREACHABLE PROHIBIT THROW NAT "
    "XRESOLVE"
).split()
# Each kind of REJECT: its name, the alias, the code of the ICMP message.
REJECTS: tuple[tuple[str, str, int | None], ...] = (
    ("icmp-net-unreachable", "net-unreach", 0), ("icmp-host-unreachable", "host-unreach", 1),
    ("icmp-proto-unreachable", "proto-unreach", 2), ("icmp-port-unreachable", "port-unreach", 3),
    ("icmp-net-prohibited", "net-prohib", 9), ("icmp-host-prohibited", "host-prohib", 10),
    ("tcp-reset", "tcp-rst", None), ("icmp-admin-prohibited", "admin-prohib", 13),
)  # fmt: skip

Given = Mapping[str, Any]  # option -> its value; "! option" is there too where it was negated
Reader = Callable[[str], Any]


class Trouble(Exception):
    """What iptables or the kernel objects to; ``kind`` is the form it is told in.

    ``at`` is the line of iptables-restore's input it is about, where that isn't the last one read.
    """

    def __init__(self, text: str, kind: str = "usage") -> None:
        super().__init__(text)
        self.text, self.kind, self.at = text, kind, 0


class OutOfRange(Exception):
    """An argument isn't a number of its ``kind``, or none within the ``bounds`` that are told."""

    def __init__(self, kind: str = "value", bounds: str = "") -> None:
        super().__init__(kind, bounds)


@dataclass(frozen=True, slots=True)
class Extension:
    """One match or target: its options, how it is built from them and how it is printed.

    A reader None means that an option takes no argument. ``inverts`` are the options that may
    stand behind an exclamation mark, each of ``rivals`` a group that excludes one another. Of the
    words of each of ``needs`` one must be there, or the complaint beside it is made. ``text``
    prints what stands behind ``-m name`` or ``-j NAME``, ``listing`` what ``-L`` shows (told
    whether in numbers); both get a match in a list with those printed together.
    """

    options: Mapping[str, Reader | None]
    build: Callable[[Given], Any]
    text: Callable[[Any], str]
    listing: Callable[[Any, bool], str]
    inverts: str = ""
    rivals: Sequence[str] = ()
    needs: Mapping[str, str] = field(default_factory=dict)


def refuse(what: str) -> NoReturn:
    """Refuse a real word by name."""
    Words([], "iptables").refuse(what)


def _table(name: str) -> Iterator[list[str]]:
    text = data_path(name).read_text(encoding="utf-8")
    yield from (line.split() for line in text.splitlines() if line and line[0] != "#")


@cache
def refused() -> dict[str, list[str]]:
    """The words refused by name, by their kind."""
    found: dict[str, list[str]] = {}
    for kind, *words in _table("refused/iptables.txt"):
        found.setdefault(kind.rstrip(":"), []).extend(words)
    return found


@cache
def services() -> dict[tuple[str, int], list[str]]:
    """The names of the ports."""
    return {(protocol, int(port)): names for protocol, port, *names in _table("services.txt")}


def quoted(text: str) -> str:
    """A word as iptables-save writes it (xtables_save_string)."""
    plain = re.fullmatch(r"[-_0-9A-Za-z]+", text)
    return text if plain else '"' + re.sub(r"([\"\\'])", r"\\\1", text) + '"'


def no(match: nf.Match) -> str:
    """The exclamation mark of a negated match."""
    return "! " if match.negated else ""


# Readers


def _masked(text: str) -> tuple[int, int]:
    value, slash, mask = text.partition("/")
    found = number(value), number(mask) if slash else nf.ALL_BITS
    if found[0] is None or found[1] is None:
        raise OutOfRange("integer value")
    return found[0], found[1]


def _whole(text: str) -> int:
    found = number(text)
    if found is None:
        raise OutOfRange(bounds=" (0-4294967295)")
    return found


def _probability(text: str) -> int:
    if not re.fullmatch(r"[-+.0-9eE]+", text) or not 0 <= float(text) <= 1:
        raise OutOfRange(bounds=" (0-1)")
    return round(float(text) * nf.FULL_CHANCE)


def _mode(text: str) -> str:
    if text == "nth":
        refuse('"--mode nth"')
    if text != "random":
        raise Trouble(f'Bad mode "{text}"')
    return text


def _some_of(words: Sequence[str], complaint: str) -> Callable[[str], tuple[str, ...]]:
    """A reader of several of ``words`` with commas between; it puts them into their order."""

    def read(text: str) -> tuple[str, ...]:
        found = text.upper().split(",")
        for at, word in enumerate(found):
            if word not in words:
                rest = ",".join(text.split(",")[at:])
                raise Trouble(f'{complaint} "{rest}"' if rest or "state" not in complaint.split()
                              else '"--state" requires a list of states with no spaces, e.g. '
                                   "ESTABLISHED,RELATED")  # fmt: skip
        return tuple(word for word in words if word in found)

    return read


def _port(protocol: str, text: str, complaint: str) -> int:
    found = number(text or "0") if protocol == "udp" else number(text)
    for (spoken, code), names in services().items():
        found = code if spoken == protocol and text in names else found
    if found is None or found > 65535:
        raise Trouble(complaint.format(text))
    return found


def _ports(protocol: str, complaint: str) -> Callable[[str], tuple[int, int]]:
    """A reader of a port or a range; only TCP's (libxt_tcp.c) minds one that is upside down."""

    def read(text: str) -> tuple[int, int]:
        low, colon, high = text.partition(":")
        first = _port(protocol, low, complaint) if low or not colon else 0
        last = _port(protocol, high, complaint) if high else 65535 if colon else first
        if first > last and protocol == "tcp":
            raise Trouble("invalid portrange (min > max)")
        return first, last

    return read


def _one_port(text: str) -> int:
    if "-" in text:
        refuse(f'the range "{text}"')
    return _port("tcp", text, "Port `{}' not valid") or refuse("the port 0")


def _goal(text: str) -> tuple[IPv4Address, int]:
    """An address, and a port or 0."""
    address, colon, port = text.partition(":")
    if "-" in text or (colon and not address):
        refuse(f'"{text}", a range or a port alone,')
    code = _one_port(port) if colon else 0
    try:
        return IPv4Address(address), code
    except AddressValueError:
        raise Trouble(f'Bad IP address "{address}"') from None


def _reject(text: str) -> int | None:
    for name, alias, code in REJECTS:
        if name.startswith(text.lower()) or alias.startswith(text.lower()):
            return code
    raise Trouble(f'unknown reject type "{text}"')


# Matches


def _port_row(protocol: str, complaint: str) -> Extension:
    sides = {"source": "--source-port", "destination": "--destination-port"}

    def build(given: Given) -> list[nf.Match]:
        found = [
            nf.Port(protocol=protocol, side=side, low=given[word][0], high=given[word][1],
                    negated=f"! {word}" in given)
            for side, word in sides.items() if given.get(word, (0, 65535)) != (0, 65535)
        ]  # fmt: skip
        if any(f"! {word}" in given and given[word] == (0, 65535) for word in sides.values()):
            refuse("the negation of all ports")
        any_port = nf.Port(protocol=protocol, side="destination", low=0, high=65535)
        return list(found or [any_port])

    def text(match: nf.Port) -> str:
        span = f"{match.low}:{match.high}" if match.low != match.high else str(match.low)
        return "" if span == "0:65535" else f"{no(match)}--{match.side[0]}port {span}"

    def listing(match: nf.Port, numeric: bool) -> str:
        ends = [
            str(port) if numeric else services().get((protocol, port), [str(port)])[0]
            for port in sorted({match.low, match.high}, key=(match.low, match.high).index)
        ]
        plural = "s" if len(ends) > 1 else ""
        span = f"{match.side[0]}pt{plural}:{'!' * match.negated}{':'.join(ends)}"
        return "" if (match.low, match.high) == (0, 65535) else span

    read = _ports(protocol, complaint)
    return Extension(
        dict.fromkeys(("--source-port", "--sport", "--destination-port", "--dport"), read), build,
        lambda group: " ".join(filter(None, map(text, group))),
        lambda group, numeric: " ".join([protocol, *filter(None, (listing(m, numeric)
                                                                  for m in group))]),
        inverts="--source-port --destination-port",
    )  # fmt: skip


def _address_types(given: Given) -> list[nf.Match]:
    limit = "".join(way for way in ("in", "out") if f"--limit-iface-{way}" in given)
    return [
        nf.AddressType(side=side, kind=",".join(given[word]), limit=limit,
                       negated=f"! {word}" in given)
        for word, side in (("--src-type", "source"), ("--dst-type", "destination"))
        if word in given
    ]  # fmt: skip


def _address_type_words(group: Sequence[nf.AddressType], form: str, limit: str) -> str:
    words = [form.format(side={"source": "src", "destination": "dst"}[match.side], kind=match.kind,
                         no=no(match), bang="!" * match.negated) for match in group]  # fmt: skip
    return " ".join(words + [limit + group[0].limit for _ in "x" if group[0].limit])


def _hex(match: nf.MarkMatch) -> str:
    return f"{match.value:#x}" + (f"/{match.mask:#x}" if match.mask != nf.ALL_BITS else "")


def _mark_row(of_connection: bool, title: str) -> Extension:
    return Extension(
        {"--mark": _masked},
        lambda given: [nf.MarkMatch(value=given["--mark"][0], mask=given["--mark"][1],
                                    of_connection=of_connection, negated="! --mark" in given)],
        lambda group: f"{no(group[0])}--mark {_hex(group[0])}",
        lambda group, _: f"{title} {no(group[0])}{_hex(group[0])}",
        inverts="--mark", needs={"--mark": ""},
    )  # fmt: skip


def _state_row(option: str, title: str, names: Sequence[str], complaint: str) -> Extension:
    def said(match: nf.State) -> str:
        return ",".join(state for state in STATES if state in match.states)

    return Extension(
        {option: _some_of(names, f"Bad {title}")},
        lambda given: [nf.State(states=frozenset(given[option]), option=option,
                                negated=f"! {option}" in given)],
        lambda group: f"{no(group[0])}{option} {said(group[0])}",
        lambda group, _: f"{no(group[0])}{title} {said(group[0])}",
        inverts=option, needs={option: complaint},
    )  # fmt: skip


def _chance(match: nf.Chance, dashes: str) -> str:
    share = match.threshold / nf.FULL_CHANCE
    return f"{dashes}mode random {no(match)}{dashes}probability {share:.11f}"


MATCHES: dict[str, Extension] = {
    "tcp": _port_row("tcp", "invalid port/service `{}' specified"),
    "udp": _port_row("udp", 'Port "{}" does not resolve to anything.\n'),
    "comment": Extension(
        {"--comment": str}, lambda given: [nf.Comment(text=given["--comment"][:255])],
        lambda group: f"--comment {quoted(group[0].text)}",
        lambda group, _: f"/* {group[0].text} */", needs={"--comment": ""},
    ),
    "addrtype": Extension(
        {"--src-type": _some_of(ADDRESS_TYPES, "addrtype: bad type"),
         "--dst-type": _some_of(ADDRESS_TYPES, "addrtype: bad type"),
         "--limit-iface-in": None, "--limit-iface-out": None},
        _address_types,
        lambda group: _address_type_words(group, "{no}--{side}-type {kind}", "--limit-iface-"),
        lambda group, _: "ADDRTYPE match "
                         + _address_type_words(group, "{side}-type {bang}{kind}", "limit-"),
        inverts="--src-type --dst-type", rivals=["--limit-iface-in --limit-iface-out"],
        needs={"--src-type --dst-type": "addrtype: you must specify --src-type or --dst-type"},
    ),
    "mark": _mark_row(False, "mark match"),
    "connmark": _mark_row(True, "connmark match "),
    "conntrack": _state_row("--ctstate", "ctstate", STATES,
                            "conntrack: At least one option is required"),
    "state": _state_row("--state", "state", STATES[:5], ""),
    "statistic": Extension(
        {"--mode": _mode, "--probability": _probability},
        lambda given: [nf.Chance(threshold=given["--probability"],
                                 negated="! --probability" in given)],
        lambda group: _chance(group[0], "--"),
        lambda group, _: f"statistic {_chance(group[0], '')}",
        inverts="--probability",
        needs={"--probability": "--probability must be specified when using random mode",
               "--mode": ""},
    ),
}  # fmt: skip


def module_of(match: nf.Match) -> str:
    """The extension a match is printed by; empty for -s, -d, -i, -o and -p."""
    if isinstance(match, nf.Port):
        return match.protocol
    if isinstance(match, nf.MarkMatch):
        return "connmark" if match.of_connection else "mark"
    if isinstance(match, nf.State):
        return "state" if match.option == "--state" else "conntrack"
    names = {nf.Comment: "comment", nf.AddressType: "addrtype", nf.Chance: "statistic"}
    return names.get(type(match), "")


# Targets

MARKS: dict[str, Reader | None] = {
    "--set-xmark": _masked, "--set-mark": _masked, "--and-mark": _whole, "--or-mark": _whole,
    "--xor-mark": _whole,
}  # fmt: skip
RANDOM: dict[str, Reader | None] = {"--random": None, "--random-fully": None}
CONNMARKS = f"{' '.join(MARKS)} --save-mark --restore-mark"


def _set_mark(given: Given) -> tuple[int, int]:
    """(value, mask) of --set-xmark, whichever of its spellings was used."""
    word = next(word for word in MARKS if word in given)
    value = given[word]
    spelt: dict[str, Callable[[], tuple[int, int]]] = {
        "--set-xmark": lambda: value, "--set-mark": lambda: (value[0], value[1] | value[0]),
        "--and-mark": lambda: (0, ~value & nf.ALL_BITS), "--or-mark": lambda: (value, value),
        "--xor-mark": lambda: (value, 0),
    }  # fmt: skip
    return spelt[word]()


def _mark_words(value: int, mask: int) -> str:
    if mask == nf.ALL_BITS:
        return f"set {value:#x}"
    if value == 0:
        return f"and {~mask & nf.ALL_BITS:#x}"
    if value == mask:
        return f"or {value:#x}"
    return f"xor {value:#x}" if mask == 0 else f"xset {value:#x}/{mask:#x}"


def _connmark(given: Given) -> nf.ConnectionMark:
    both = given.get("--mask", nf.ALL_BITS)
    for what in ("save", "restore"):
        if f"--{what}-mark" in given:
            masks = given.get("--ctmask", both), given.get("--nfmask", both)
            return nf.ConnectionMark(what, 0, *masks)
    value, mask = _set_mark(given)
    if "--set-mark" in given and "--mask" in given:
        mask = both
    return nf.ConnectionMark("set", value, mask)


def _connmark_text(target: nf.ConnectionMark) -> str:
    if target.what == "set":
        return f"--set-xmark {target.value:#x}/{target.ctmask:#x}"
    return f"--{target.what}-mark --nfmask {target.nfmask:#x} --ctmask {target.ctmask:#x}"


def _connmark_words(target: nf.ConnectionMark) -> str:
    if target.what == "set":
        return f"CONNMARK {_mark_words(target.value, target.ctmask)}"
    if target.nfmask == target.ctmask:
        mask = "" if target.ctmask == nf.ALL_BITS else f" mask {target.ctmask:#x}"
    elif target.what == "save":
        mask = f" nfmask {target.nfmask:#x} ctmask ~{target.ctmask:#x}"
    else:
        mask = f" ctmask {target.ctmask:#x} nfmask ~{target.nfmask:#x}"
    return f"CONNMARK {target.what}{mask}"


def _reject_name(target: nf.Reject) -> str:
    return next(name for name, _, code in REJECTS if code == target.code)


def _translation(what: str, option: str, random: Mapping[str, Reader | None]) -> Extension:
    def words(target: nf.Translate, before: str, dashes: str) -> str:
        port = f":{target.port}" if target.port else ""
        return " ".join([f"{before}{target.address}{port}", *_dice(target, dashes)])

    return Extension(
        {option: _goal, **random},
        lambda given: nf.Translate(what, given[option][0], given[option][1], _random(given)),
        lambda target: words(target, f"{option} ", "--"),
        lambda target, _: words(target, "to:", ""), needs={option: ""},
    )  # fmt: skip


def _random(given: Given) -> str:
    return " ".join(word for word in RANDOM if word in given)


def _dice(target: nf.Translate, dashes: str) -> list[str]:
    return [dashes + word[2:] for word in target.random.split()]


def _masquerade(target: nf.Translate, ports: str, dashes: str) -> str:
    return " ".join([f"{ports} {target.port}"] * bool(target.port) + _dice(target, dashes))


TARGETS: dict[str, Extension] = {
    "MARK": Extension(
        MARKS, lambda given: nf.SetMark(*_set_mark(given)),
        lambda target: f"--set-xmark {target.value:#x}/{target.mask:#x}",
        lambda target, _: f"MARK {_mark_words(target.value, target.mask)}",
        rivals=[" ".join(MARKS)],
        needs={" ".join(MARKS): "MARK: One of the --set-xmark, --{and,or,xor,set}-mark options is "
                                "required"},
    ),
    "CONNMARK": Extension(
        MARKS | {"--save-mark": None, "--restore-mark": None, "--ctmask": _whole,
                 "--nfmask": _whole, "--mask": _whole},
        _connmark, _connmark_text, lambda target, _: _connmark_words(target),
        rivals=[CONNMARKS, "--ctmask --mask", "--nfmask --mask"],
        needs={CONNMARKS: "CONNMARK target: No operation specified"},
    ),
    "REJECT": Extension(
        {"--reject-with": _reject}, lambda given: nf.Reject(given.get("--reject-with", 3)),
        lambda target: f"--reject-with {_reject_name(target)}",
        lambda target, _: f"reject-with {_reject_name(target)}",
    ),
    "DNAT": _translation("target", "--to-destination", {"--random": None}),
    "SNAT": _translation("source", "--to-source", RANDOM),
    "MASQUERADE": Extension(
        {"--to-ports": _one_port, **RANDOM},
        lambda given: nf.Translate("source", None, given.get("--to-ports", 0), _random(given)),
        lambda target: _masquerade(target, "--to-ports", "--"),
        lambda target, _: _masquerade(target, "masq ports:", ""),
    ),
}  # fmt: skip


def target_name(target: nf.Target | None) -> str:
    """What stands behind -j or -g; empty where nothing does."""
    if isinstance(target, nf.Translate):
        return "DNAT" if target.what == "target" else "SNAT" if target.address else "MASQUERADE"
    if isinstance(target, nf.Verdict):
        return target.name
    if isinstance(target, nf.Jump):
        return target.chain
    names = {nf.SetMark: "MARK", nf.ConnectionMark: "CONNMARK", nf.Reject: "REJECT"}
    return names.get(type(target), "")
