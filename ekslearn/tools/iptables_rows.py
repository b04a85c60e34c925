"""The rows of ``iptables``: each match and each target, how it is read and how it is printed.

Source: the extensions of iptables 1.8.9 (libxt_*.c, libipt_*.c), as Debian 12 ships them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from ..linux.netfilter import (
    ALL_BITS,
    FULL_CHANCE,
    AddressType,
    Chance,
    Comment,
    ConnectionMark,
    MarkMatch,
    Match,
    Port,
    Reject,
    SetMark,
    State,
    Target,
    Translate,
)  # fmt: skip
from .words import GaveUp, Words, number

VERSION = "v1.8.9 (nf_tables)"
STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")  # as printed
ADDRESS_TYPES = (
    "UNSPEC UNICAST LOCAL BROADCAST ANYCAST MULTICAST BLACKHOLE UNREACHABLE PROHIBIT THROW NAT "
    "XRESOLVE"
).split()
REJECTS: dict[str, int | None] = {
    "icmp-net-unreachable": 0, "icmp-host-unreachable": 1, "icmp-proto-unreachable": 2,
    "icmp-port-unreachable": 3, "icmp-net-prohibited": 9, "icmp-host-prohibited": 10,
    "tcp-reset": None, "icmp-admin-prohibited": 13,
}  # fmt: skip
REJECT_ALIASES: dict[str, int | None] = {
    "net-unreach": 0, "host-unreach": 1, "proto-unreach": 2, "port-unreach": 3, "net-prohib": 9,
    "host-prohib": 10, "tcp-rst": None, "admin-prohib": 13,
}  # fmt: skip

Given = Mapping[str, Any]  # an option's word -> its value, and "!word" where it was negated


@dataclass(frozen=True, slots=True)
class Extension:
    """One match or target: its options with their readers, how it is built and printed.

    A reader None means that the option takes no argument. ``needs`` is an option that must be
    there. ``text`` prints what stands behind ``-m name`` or ``-j NAME``, ``listing`` what ``-L``
    shows.
    """

    options: Mapping[str, Callable[[str], Any] | None]
    build: Callable[[Given], Any]
    text: Callable[[Any], str]
    listing: Callable[[Any], str]
    needs: str = ""


def fail(text: str, status: int = 2) -> GaveUp:
    """iptables' complaint, with the advice it adds where the command line was wrong."""
    advice = "Try `iptables -h' or 'iptables --help' for more information.\n" if status == 2 else ""
    return GaveUp(f"iptables {VERSION}: {text}\n{advice}", status)


def quoted(text: str) -> str:
    """A word as iptables-save writes it (xtables_save_string)."""
    if re.fullmatch(r"[-_0-9A-Za-z]+", text):
        return text
    return '"' + re.sub(r"([\"\\'])", r"\\\1", text) + '"'


def _masked(text: str) -> tuple[int, int]:
    value, slash, mask = text.partition("/")
    numbers = number(value), number(mask) if slash else ALL_BITS
    if numbers[0] is None or numbers[1] is None:
        raise fail(f'mark: bad mark value for option "--mark", or out of range ("{text}")')
    return numbers[0], numbers[1]


def _whole(text: str) -> int:
    found = number(text)
    if found is None:
        raise fail(f'"{text}" is not a whole number')
    return found


def _hex(value: int, mask: int) -> str:
    return f"{value:#x}" + (f"/{mask:#x}" if mask != ALL_BITS else "")


def _bang(match: Match) -> str:
    return "! " if match.negated else ""


def _ports(text: str) -> tuple[int, int]:
    low, colon, high = text.partition(":")
    try:
        pair = int(low or 0), int(high or 65535) if colon else int(low)
    except ValueError:
        raise fail(f"invalid port/service `{text}' specified") from None
    if not 0 <= pair[0] <= pair[1] <= 65535:
        raise fail(f"invalid portrange `{text}' specified (min > max, or above 65535)")
    return pair


def _port_rows(protocol: str) -> Extension:
    sides = {"--sport": "source", "--source-port": "source", "--dport": "destination",
             "--destination-port": "destination"}  # fmt: skip

    def build(given: Given) -> list[Match]:
        found = {sides[word]: (word, given[word]) for word in sides if word in given}
        return [
            Port(protocol=protocol, side=side, low=found[side][1][0], high=found[side][1][1],
                 negated=f"!{found[side][0]}" in given)
            for side in ("source", "destination") if side in found
        ]  # fmt: skip

    def text(match: Port) -> str:
        span = f"{match.low}:{match.high}" if match.low != match.high else str(match.low)
        return f"{_bang(match)}--{'s' if match.side == 'source' else 'd'}port {span}"

    def listing(match: Port) -> str:
        name = f"{'s' if match.side == 'source' else 'd'}pt"
        no = "!" if match.negated else ""
        if match.low != match.high:
            return f"{name}s:{no}{match.low}:{match.high}"
        return f"{name}:{no}{match.low}"

    return Extension(dict.fromkeys(sides, _ports), build, text, listing)


def _kind(text: str) -> str:
    if text not in ADDRESS_TYPES:
        raise fail(f'addrtype: bad type "{text}"')
    return text


def _address_types(given: Given) -> list[Match]:
    limit = "in" if "--limit-iface-in" in given else "out" if "--limit-iface-out" in given else ""
    return [
        AddressType(side=side, kind=given[word], limit=limit, negated=f"!{word}" in given)
        for word, side in (("--src-type", "source"), ("--dst-type", "destination"))
        if word in given
    ]


def _mark_rows(of_connection: bool) -> Extension:
    title = "connmark match " if of_connection else "mark match"

    def listing(match: MarkMatch) -> str:
        return f"{title} {'!' if match.negated else ''}{_hex(match.value, match.mask)}"

    return Extension(
        {"--mark": _masked},
        lambda given: [MarkMatch(value=given["--mark"][0], mask=given["--mark"][1],
                                 of_connection=of_connection, negated="!--mark" in given)],
        lambda match: f"{_bang(match)}--mark {_hex(match.value, match.mask)}",
        listing, needs="--mark",
    )  # fmt: skip


def _state_rows(option: str, title: str) -> Extension:
    def read(text: str) -> frozenset[str]:
        states = text.split(",")
        for state in states:
            if state not in STATES or (title == "state" and state in ("SNAT", "DNAT")):
                raise fail(f'conntrack: Bad ctstate "{state}"')
            if state == "UNTRACKED":
                Words([], "iptables").refuse("the state UNTRACKED")
        return frozenset(states)

    def names(match: State) -> str:
        return ",".join(state for state in STATES if state in match.states)

    return Extension(
        {option: read},
        lambda given: [State(states=given[option], option=option, negated=f"!{option}" in given)],
        lambda match: f"{_bang(match)}{option} {names(match)}",
        lambda match: f"{'! ' if match.negated else ''}{title} {names(match)}",
        needs=option,
    )


def _probability(text: str) -> int:
    try:
        chance = float(text)
    except ValueError:
        chance = -1.0
    if not 0 <= chance <= 1:
        raise fail(f'statistic: bad value for option "--probability", or out of range ({text})')
    return round(chance * FULL_CHANCE)


def _mode(text: str) -> str:
    if text == "nth":
        Words([], "iptables").refuse('"--mode nth"')
    if text != "random":
        raise fail(f'Bad mode "{text}"')
    return text


def _chance_text(match: Chance) -> str:
    return f"--mode random {_bang(match)}--probability {match.threshold / FULL_CHANCE:.11f}"


def _comment(text: str) -> str:
    if len(text) > 255:
        raise fail('comment: option "--comment" must be shorter than 256 characters')
    return text


MATCHES: dict[str, Extension] = {
    "tcp": _port_rows("tcp"),
    "udp": _port_rows("udp"),
    "comment": Extension(
        {"--comment": _comment}, lambda given: [Comment(text=given["--comment"])],
        lambda match: f"--comment {quoted(match.text)}", lambda match: f"/* {match.text} */",
        needs="--comment",
    ),
    "addrtype": Extension(
        {"--src-type": _kind, "--dst-type": _kind, "--limit-iface-in": None,
         "--limit-iface-out": None},
        _address_types,
        lambda match: f"{_bang(match)}--{'src' if match.side == 'source' else 'dst'}-type "
                      f"{match.kind}",
        lambda match: f"{'src' if match.side == 'source' else 'dst'}-type "
                      f"{'!' if match.negated else ''}{match.kind}",
    ),
    "mark": _mark_rows(False),
    "connmark": _mark_rows(True),
    "conntrack": _state_rows("--ctstate", "ctstate"),
    "state": _state_rows("--state", "state"),
    "statistic": Extension(
        {"--mode": _mode, "--probability": _probability},
        lambda given: [Chance(threshold=given["--probability"],
                              negated="!--probability" in given)],
        _chance_text,
        lambda match: "statistic mode random probability "
                      f"{'!' if match.negated else ''}{match.threshold / FULL_CHANCE:.11f}",
        needs="--mode",
    ),
}  # fmt: skip


def module_of(match: Match) -> str:
    """The extension a match is printed by; empty for -s, -d, -i, -o and -p."""
    if isinstance(match, Port):
        return match.protocol
    if isinstance(match, MarkMatch):
        return "connmark" if match.of_connection else "mark"
    if isinstance(match, State):
        return "state" if match.option == "--state" else "conntrack"
    names: dict[type, str] = {Comment: "comment", AddressType: "addrtype", Chance: "statistic"}
    return names.get(type(match), "")


# Targets


def _set_mark(given: Given) -> tuple[int, int]:
    """(value, mask) of --set-xmark, whichever of its spellings was used."""
    if "--set-mark" in given:
        value, mask = given["--set-mark"]
        return value, mask | value
    if "--set-xmark" in given:
        found: tuple[int, int] = given["--set-xmark"]
        return found
    if "--or-mark" in given:
        return given["--or-mark"], given["--or-mark"]
    if "--and-mark" in given:
        return 0, ~given["--and-mark"] & ALL_BITS
    return given["--xor-mark"], 0


def _mark_words(name: str, value: int, mask: int) -> str:
    if value == 0 and mask:
        return f"{name} and {~mask & ALL_BITS:#x}"
    if value == mask:
        return f"{name} or {value:#x}"
    if mask == 0:
        return f"{name} xor {value:#x}"
    return f"{name} set {value:#x}" if mask == ALL_BITS else f"{name} xset {value:#x}/{mask:#x}"


MARKS = {"--set-xmark": _masked, "--set-mark": _masked, "--or-mark": _whole, "--and-mark": _whole,
         "--xor-mark": _whole}  # fmt: skip


def _connmark(given: Given) -> ConnectionMark:
    for what in ("save", "restore"):
        if f"--{what}-mark" in given:
            both = given.get("--mask", ALL_BITS)
            return ConnectionMark(what, 0, given.get("--ctmask", both), given.get("--nfmask", both))
    return ConnectionMark("set", *_set_mark(given))


def _connmark_text(target: ConnectionMark) -> str:
    if target.what == "set":
        return f"--set-xmark {target.value:#x}/{target.ctmask:#x}"
    return f"--{target.what}-mark --nfmask {target.nfmask:#x} --ctmask {target.ctmask:#x}"


def _connmark_words(target: ConnectionMark) -> str:
    if target.what == "set":
        return _mark_words("CONNMARK", target.value, target.ctmask)
    if target.nfmask == target.ctmask:
        mask = "" if target.ctmask == ALL_BITS else f" mask {target.ctmask:#x}"
        return f"CONNMARK {target.what}{mask}"
    return f"CONNMARK {target.what} nfmask {target.nfmask:#x} ctmask ~{target.ctmask:#x}"


def _reject(text: str) -> int | None:
    for name, code in (REJECTS | REJECT_ALIASES).items():
        if name.startswith(text):
            return code
    raise fail(f'unknown reject type "{text}"')


def _reject_text(target: Reject) -> str:
    return next(name for name, code in REJECTS.items() if code == target.code)


def _goal(text: str) -> tuple[IPv4Address, int]:
    address, colon, port = text.partition(":")
    if "-" in text:
        Words([], "iptables").refuse(f'the range "{text}"')
    try:
        found = IPv4Address(address), int(port) if colon else 0
    except ValueError:
        raise fail(
            f'Bad IP address "{address}"' if not colon else f'Invalid port "{port}"'
        ) from None
    if not 0 <= found[1] <= 65535:
        raise fail(f"Port `{port}' not valid")
    return found


def _to_ports(text: str) -> int:
    if "-" in text:
        Words([], "iptables").refuse(f'the range "{text}"')
    return _ports(text)[0]


RANDOM: dict[str, Callable[[str], Any] | None] = {"--random": None, "--random-fully": None}


def _random(given: Given) -> str:
    return next((word for word in reversed(RANDOM) if word in given), "")


def _translation(what: str, option: str) -> Extension:
    def where(target: Translate) -> str:
        return f"{target.address}" + (f":{target.port}" if target.port else "")

    return Extension(
        {option: _goal, **RANDOM},
        lambda given: Translate(what, given[option][0], given[option][1], _random(given)),
        lambda target: f"{option} {where(target)}" + (f" {target.random}" if target.random else ""),
        lambda target: f"to:{where(target)}"
                       + (f" {target.random[2:]}" if target.random else ""),
        needs=option,
    )  # fmt: skip


def _masquerade(target: Translate, ports: str) -> str:
    words = [f"{ports} {target.port}" if target.port else "", target.random]
    return " ".join(word for word in words if word)


TARGETS: dict[str, Extension] = {
    "MARK": Extension(
        MARKS, lambda given: SetMark(*_set_mark(given)),
        lambda target: f"--set-xmark {target.value:#x}/{target.mask:#x}",
        lambda target: _mark_words("MARK", target.value, target.mask), needs="--set-xmark",
    ),
    "CONNMARK": Extension(
        MARKS | {"--save-mark": None, "--restore-mark": None, "--mask": _whole,
                 "--nfmask": _whole, "--ctmask": _whole},
        _connmark, _connmark_text, _connmark_words, needs="--set-xmark",
    ),
    "REJECT": Extension(
        {"--reject-with": _reject}, lambda given: Reject(given.get("--reject-with", 3)),
        lambda target: f"--reject-with {_reject_text(target)}",
        lambda target: f"reject-with {_reject_text(target)}",
    ),
    "DNAT": _translation("target", "--to-destination"),
    "SNAT": _translation("source", "--to-source"),
    "MASQUERADE": Extension(
        {"--to-ports": _to_ports, **RANDOM},
        lambda given: Translate("source", None, given.get("--to-ports", 0), _random(given)),
        lambda target: _masquerade(target, "--to-ports"),
        lambda target: _masquerade(target, "masq ports:").replace("--", ""),
    ),
}  # fmt: skip


def target_name(target: Target) -> str:
    """The extension a target is printed by; empty for verdicts and jumps."""
    if isinstance(target, Translate):
        if target.what == "target":
            return "DNAT"
        return "SNAT" if target.address else "MASQUERADE"
    names: dict[type, str] = {SetMark: "MARK", ConnectionMark: "CONNMARK", Reject: "REJECT"}
    return names.get(type(target), "")
