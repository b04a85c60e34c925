"""The statements of a rule of ``nft``: each is one row that reads it and prints it again.

Source: nftables 1.0.6, scanner.l and parser_bison.y, as Debian 12 ships it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any, NoReturn

from ..linux import netfilter as nf
from ..tools.words import Words, data_text

RESERVED = frozenset(word for line in data_text("refused/nft.txt").splitlines()
                     if line[:1] != "#" for word in line.split())  # fmt: skip
NAME = "[A-Za-z_][A-Za-z0-9_/.-]{0,127}"  # {string} of scanner.l; none of RESERVED
BASE_TEXT = "type nat hook prerouting priority dstnat + 10; policy accept;"  # of a base chain
OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
BITS = r"(?P<bits>(?!0x(?:0+|f{8})\b)0x[0-9a-f]{1,8}|[1-9][0-9]{0,8})"  # neither none nor all


def refuse(what: str) -> NoReturn:
    """Refuse by name what isn't modelled; what nft itself couldn't read is refused alike."""
    Words([], "nft").refuse(f'"{what.strip()}"')


def spaced(form: str) -> re.Pattern[str]:
    """A form as a pattern: some blanks where it has one, and a blank or the end behind it."""
    return re.compile(re.sub(r" (?!\*)", " +", form) + r"(?!\S)")


def _mark(given: re.Match[str]) -> nf.ConnectionMark:
    bits = int(given["bits"], 0)
    what, value = ("restore", 0) if given["restore"] else ("set", bits)
    return nf.ConnectionMark(what, value, bits)  # "restore" overwrites the packet's whole mark


def _mark_text(row: nf.ConnectionMark) -> str:
    form = "meta mark set ct mark &" if row.what == "restore" else "ct mark set ct mark |"
    return f"{form} {row.ctmask:#010x}"


# Each statement: the row of netfilter it stands for, how it looks, how it is read and printed.
# An interface's name has 15 letters at most, and without quotes it is none of nft's own words.
STATEMENTS: list[tuple[type, str, Callable[[re.Match[str]], Any], Callable[[Any], str]]] = [
    (nf.Interface, rf'iifname (?!(?:{"|".join(RESERVED)})(?!\S))(?P<quote>")?'
     rf'(?P<name>(?![^\s"]{{16}}){NAME}\*?)(?(quote)")',
     lambda given: nf.Interface(name=given["name"].replace("*", "+"), way="in"),
     lambda row: f'iifname "{row.name.replace("+", "*")}"'),
    (nf.AddressType, "fib daddr type local",
     lambda given: nf.AddressType(side="destination", kind="LOCAL"),
     lambda row: "fib daddr type local"),
    (nf.Network, rf"ip daddr ({OCTET}(?:\.{OCTET}){{3}}(?:/(?:3[0-2]|[12]?[0-9]))?)",
     lambda given: nf.Network(side="destination", net=IPv4Network(given[1], strict=False)),
     lambda row: f"ip daddr {row.net}".removesuffix("/32")),
    (nf.Counter, "counter(?: packets ([0-9]+) bytes ([0-9]+))?",
     lambda given: nf.Counter(seen=[int(given[1] or 0), int(given[2] or 0)]),
     lambda row: "counter packets {} bytes {}".format(*row.seen)),
    (nf.ConnectionMark, rf"(?:(?P<restore>meta mark set ct mark &)|ct mark set ct mark \|) {BITS}",
     _mark, _mark_text),
    (nf.Verdict, "(return|accept|drop)", lambda given: nf.Verdict(given[1].upper()),
     lambda row: row.name.lower()),
    (nf.Jump, f"jump ({NAME})", lambda given: nf.Jump(given[1]), lambda row: f"jump {row.chain}"),
]  # fmt: skip
PATTERNS = [(spaced(f" {form}"), read) for _, form, read, _ in STATEMENTS]


def read_rule(text: str) -> nf.ChainRule:
    """The rule that ``text`` stands for.

    What decides, or sets a mark, comes last, as the CNI has it; nft knows other orders too.
    """
    matches, target, at = list[nf.Match](), None, 0
    while at < len(text.rstrip()):
        found, read = next(((found, read) for pattern, read in PATTERNS
                            if (found := pattern.match(text, at))), (None, None))  # fmt: skip
        if found is None or read is None or target:
            refuse(text[at:])
        row, at = read(found), found.end()
        if isinstance(row, nf.Match):
            matches.append(row)
        else:
            target = row
    return nf.ChainRule(tuple(matches), target)


def rule_text(rule: nf.ChainRule, stateless: bool = True) -> str:
    """A rule as nft prints it; ``stateless`` (-s) leaves out what its counters have counted."""
    shows = {kind: show for kind, _, _, show in STATEMENTS}
    rows = [*rule.matches, *([rule.target] if rule.target else [])]
    return " ".join("counter" if stateless and isinstance(row, nf.Counter) else
                    shows[type(row)](row) for row in rows)  # fmt: skip
