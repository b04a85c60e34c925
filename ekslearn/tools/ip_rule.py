"""``ip rule``: rules as text, both ways.

Source: ip/iprule.c of iproute2 6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from ..linux.namespace import NetworkNamespace
from ..linux.route import MAIN, Rule
from .ip_route import TABLES, table_id
from .words import (
    Row,
    Words,
    flag,
    give_up,
    interface_name,
    naming,
    network,
    number,
    parse,
    reading,
    refused,
    wrong,
)  # fmt: skip

ALL_BITS = 0xFFFFFFFF


def _net(net: IPv4Network | None) -> str:
    if net is None:
        return "all"
    return str(net.network_address) if net.prefixlen == 32 else str(net)


def _fwmark(words: Words) -> tuple[int, int | None]:
    word = words.take()
    mark, slash, mask = word.partition("/")
    if (found := number(mark)) is None:
        wrong(mark, "fwmark value is invalid\n")
    if slash and number(mask) is None:
        wrong(mask, "fwmask value is invalid\n")
    return found, number(mask) if slash else None


def _fwmark_text(found: tuple[int, int]) -> str:
    mark, mask = (f"{each:#x}" if each else "0" for each in found)
    return mark if found[1] == ALL_BITS else f"{mark}/{mask}"


def _action(words: Words) -> str:
    word = words.take()
    if Row(ACTIONS).fits(word) or number(word, 256) is not None:
        words.refuse(f'"{word}"')
    wrong(word, "Failed to parse rule type")


# Most may be shortened (rtnl_rtntype_a2n).
ACTIONS = ("goto nop local nat brd throw b*roadcast a*nycast m*ulticast p*rohibit u*nreachable "
           "bl*ackhole x*resolve uni*cast")  # fmt: skip
# In the order in which a rule's attributes are printed.
SELECTORS = (
    Row("not", "inverted", flag(True), default=False),
    Row("from", "src", network, _net),
    Row("to", "dst", network, _net),
    Row("fwmark", "fwmark", _fwmark, _fwmark_text),
    Row("iif dev", "iif", interface_name('"iif"/"dev" not a valid ifname'), default=""),
    Row("oif", "oif", interface_name('"oif" not a valid ifname'), default=""),
    Row("lookup ta*ble", "table", reading(table_id, "invalid table ID\n"), naming(TABLES)),
    Row("p*reference o*rder pri*ority", "priority",
        reading(number, "preference value is invalid\n")),
)  # fmt: skip
BEHIND = SELECTORS[2:-1]  # what is printed behind "PRIORITY: not from PREFIX"
ADD = (*SELECTORS, refused("ip rule"))
LISTING = (
    Row("f*rom s*rc", "src", network),
    Row("lo*okup ta*ble", "table", reading(table_id, "table id value is invalid\n")),
    *(row for row in SELECTORS if row.key not in ("src", "dst", "table")),
    refused("ip rule show"),
)


@dataclass(frozen=True, slots=True)
class _Printed:
    """A rule's attributes as the table of selectors has them."""

    rule: Rule
    links: Collection[str] | None

    def __getattr__(self, key: str) -> Any:
        value = getattr(self.rule, key, None)
        if key == "fwmark":
            return None if self.rule.mark is None else (self.rule.mark, self.rule.mask)
        gone = key in ("iif", "oif") and value and self.links is not None
        return f"{value} [detached]" if gone and value not in (self.links or ()) else value


def rule_text(rule: Rule, links: Collection[str] | None = None) -> str:
    """A rule as ``ip rule show`` prints it; ``links`` are the names of those there are."""
    printed = _Printed(rule, links)
    said = "".join(row.text(printed) for row in BEHIND).rstrip()
    return f"{rule.priority}:\t{'not ' if rule.inverted else ''}from {_net(rule.src)} {said}"


def _selectors(words: Words) -> dict[str, Any]:
    words.learns = False
    found = parse(words, ADD, Row("type", "type", _action))
    if "fwmark" in found:  # a mark of 0 without a mask selects nothing
        mark, mask = found.pop("fwmark")
        if mark or mask:
            found |= {"mark": mark, "mask": ALL_BITS if mask is None else mask}
    for side in ("src", "dst"):
        if side in found and not found[side].prefixlen:
            del found[side]
    return found


def _add(namespace: NetworkNamespace, words: Words) -> str:
    if not words:
        give_up('"ip rule add" requires arguments.', 1)
    found = _selectors(words)
    chosen = "priority" in found
    found.setdefault("table", MAIN)
    namespace.routing.add_rule(Rule(**{"priority": 0, **found}), chosen_priority=chosen)
    return ""


def _delete(namespace: NetworkNamespace, words: Words) -> str:
    if not words:
        give_up('"ip rule del" requires arguments.', 1)
    asked = _selectors(words)
    asked.pop("inverted", None)
    if not asked.get("table", 1):
        del asked["table"]
    namespace.routing.delete_rule(
        lambda rule: all(getattr(rule, key) == wanted for key, wanted in asked.items())
    )
    return ""


def _selected(namespace: NetworkNamespace, words: Words) -> list[Rule]:
    words.family, words.learns = "inet", False
    found = parse(words, LISTING, Row("d*st t*o", "dst", network))
    mark, mask = found.pop("fwmark", (0, None))
    if mark or mask:
        found |= {"mark": mark} if mark else {}
        found |= {"mask": ALL_BITS if mask is None else mask} if mask != 0 else {}

    def shows(rule: Rule) -> bool:
        for key, wanted in found.items():
            value = getattr(rule, key)
            if isinstance(wanted, IPv4Network):
                if wanted.prefixlen and not (value and value.subnet_of(wanted)):
                    return False
            elif value != wanted and (key, wanted) != ("table", 0):
                return False
        return True

    return [rule for rule in namespace.routing.rules if shows(rule)]


def _show(namespace: NetworkNamespace, words: Words) -> str:
    chosen = _selected(namespace, words)
    return "".join(rule_text(rule, namespace.links) + "\n" for rule in chosen)


def _flush(namespace: NetworkNamespace, words: Words) -> str:
    for rule in _selected(namespace, words):
        if rule.priority:
            namespace.routing.rules.remove(rule)
    return ""


def _refuse(namespace: NetworkNamespace, words: Words) -> str:
    words.refuse("save or restore")


COMMANDS: dict[str, Callable[[NetworkNamespace, Words], str]] = {
    "list": _show, "lst": _show, "show": _show, "save": _refuse, "restore": _refuse, "add": _add,
    "delete": _delete, "flush": _flush,
}  # fmt: skip
