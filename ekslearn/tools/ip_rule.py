"""``ip rule`` and ``ip neigh``: rules and neighbors as text, both ways.

Source: ip/iprule.c and ip/ipneigh.c of iproute2 6.1.
"""

from __future__ import annotations

from errno import EEXIST, ENOENT
from ipaddress import IPv4Network
from typing import Any

from ..errors import KernelError
from ..linux.namespace import NetworkNamespace
from ..linux.neighbor import Neighbor
from ..linux.route import EVERYWHERE, MAIN, Rule
from .ip_route import TABLES, link_named, name_of, table_id
from .words import (
    Row,
    Words,
    address,
    command,
    give_up,
    mac,
    named,
    network,
    number,
    options,
    parse,
    prefix,
    refused,
    switch,
    value,
    wrong,
)  # fmt: skip


def rule_text(rule: Rule) -> str:
    """A rule as ``ip rule show`` prints it."""
    pieces = [
        f"{rule.priority}:\t{'not ' if rule.inverted else ''}from {_net(rule.src)}",
        f"to {_net(rule.dst)}" if rule.dst else "",
        _mark_text(rule),
        f"iif {rule.iif}" if rule.iif else "",
        f"oif {rule.oif}" if rule.oif else "",
        f"lookup {name_of(TABLES, rule.table)}",
        "proto static" if rule.protocol == 4 else "",
    ]
    return " ".join(piece for piece in pieces if piece)


def _net(net: IPv4Network | None) -> str:
    if net is None:
        return "all"
    return str(net.network_address) if net.prefixlen == 32 else str(net)


def _mark_text(rule: Rule) -> str:
    if rule.mark is None:
        return ""
    return f"fwmark {rule.mark:#x}" + (f"/{rule.mask:#x}" if rule.mask != 0xFFFFFFFF else "")


def _fwmark(text: str) -> tuple[int, int]:
    mark, slash, mask = text.partition("/")
    numbers = number(mark), number(mask) if slash else 0xFFFFFFFF
    if numbers[0] is None:
        wrong(text, "fwmark value is invalid", blank=True)
    if numbers[1] is None:
        wrong(mask, "fwmask value is invalid", blank=True)
    return numbers[0], numbers[1]


def _priority(text: str) -> int:
    found = number(text)
    if found is None:
        wrong(text, "preference value is invalid", blank=True)
    return found


SELECTORS = options(
    not_=Row("inverted", switch(True)),
    from_=Row("src", value(network)),
    to=Row("dst", value(network)),
    preference_order_priority_pref_prio=Row("priority", value(_priority)),
    fwmark=Row("fwmark", value(_fwmark)),
    iif_dev=Row("iif", value(str)),
    oif=Row("oif", value(str)),
    table_lookup=Row("table", value(named(TABLES, "invalid table ID"))),
) | refused(
    "tos dsfield l3mdev vrf suppress_prefixlength suppress_ifgroup realms protocol nat map-to "
    "ipproto sport dport uidrange tun_id type goto blackhole unreachable prohibit nop"
)


def _selectors(words: Words) -> dict[str, Any]:
    def other(word: str, found: dict[str, Any]) -> None:
        wrong(word, "Failed to parse rule type")

    found = parse(words, SELECTORS, other)
    if "fwmark" in found:
        found["mark"], found["mask"] = found.pop("fwmark")
    return found


def _add(namespace: NetworkNamespace, words: Words) -> str:
    if not words:
        give_up('"ip rule add" requires arguments.', 1)
    found = _selectors(words)
    for side in ("src", "dst"):
        if found.get(side) == EVERYWHERE:
            found[side] = None
    chosen = "priority" in found
    found.setdefault("priority", 0)
    found["table"] = found.get("table") or MAIN
    namespace.routing.add_rule(Rule(**found), chosen_priority=chosen)
    return ""


def _delete(namespace: NetworkNamespace, words: Words) -> str:
    if not words:
        give_up('"ip rule del" requires arguments.', 1)
    found = _selectors(words)
    found.pop("inverted", None)
    asked = {key: wanted for key, wanted in found.items() if wanted not in (None, EVERYWHERE)}
    namespace.routing.delete_rule(
        lambda rule: all(getattr(rule, key) == wanted for key, wanted in asked.items())
    )
    return ""


LISTING = options(
    preference_priority_pref_prio_order=Row("priority", value(_priority)),
    table_lookup=Row("table", value(table_id)),
    from_=Row("src", value(network)),
    to=Row("dst", value(network)),
    fwmark=Row("fwmark", value(_fwmark)),
    iif_dev=Row("iif", value(str)),
    oif=Row("oif", value(str)),
) | refused("not vrf tos dsfield protocol ipproto sport dport tun_id l3mdev uidrange")


def _show(namespace: NetworkNamespace, words: Words) -> str:
    def other(word: str, found: dict[str, Any]) -> None:
        found["dst"] = network(word)

    found = parse(words, LISTING, other)
    if "fwmark" in found:
        found["mark"], found["mask"] = found.pop("fwmark")
    return "".join(
        rule_text(rule) + "\n" for rule in namespace.routing.rules
        if all(getattr(rule, key) == wanted for key, wanted in found.items())
    )  # fmt: skip


def _flush(namespace: NetworkNamespace, words: Words) -> str:
    words.rest()
    for rule in list(namespace.routing.rules):
        if rule.priority:
            namespace.routing.rules.remove(rule)
    return ""


RULE_COMMANDS = {"show": _show, "list": _show, "lst": _show, "add": _add, "delete": _delete,
                 "flush": _flush}  # fmt: skip


def rule(namespace: NetworkNamespace, words: Words) -> str:
    """Run ``ip rule`` with ``words``; what it prints."""
    return str(command(words, RULE_COMMANDS, "list", "ip rule")(namespace, words))


# ip neigh


def neighbor_text(entry: Neighbor, *, dev: bool = True) -> str:
    """A neighbor as ``ip neigh`` prints it."""
    pieces = [str(entry.ip), f"dev {entry.link.name}" if dev else "",
              f"lladdr {entry.mac}" if entry.mac else "", entry.state]  # fmt: skip
    return "".join(piece + " " for piece in pieces if piece)


STATES = ("permanent", "reachable", "stale", "failed", "incomplete", "noarp")
NEIGHBOR = options(
    to=Row("to", value(address)),
    lladdr=Row("mac", value(mac)),
    dev=Row("dev", value(str)),
    nud_state=Row("state", value(str)),
) | refused("router extern_learn use managed vrf nomaster master protocol unused")


def _neighbor(namespace: NetworkNamespace, words: Words, how: str) -> str:
    if words.peek() == "proxy":
        words.refuse('"proxy"')

    def target(word: str, found: dict[str, Any]) -> None:
        if "to" in found:
            give_up(f'Error: either "to" is duplicate, or "{word}" is a garbage.', 255)
        found["to"] = address(word)

    found = parse(words, NEIGHBOR, target)
    if "dev" not in found or "to" not in found:
        give_up("Device and destination are required arguments.", 255)
    link = link_named(namespace, found["dev"])
    key = (link, found["to"])
    entries = namespace.neighbors.entries
    if how == "del":
        if key not in entries:
            raise KernelError(ENOENT)
        del entries[key]
        return ""
    state = found.get("state", "permanent")
    if state not in STATES:
        wrong(state, "nud state is bad")
    if how == "add" and key in entries:
        raise KernelError(EEXIST)
    if how == "change" and key not in entries:
        raise KernelError(ENOENT)
    entries[key] = Neighbor(found["to"], link, found.get("mac", ""), state.upper())
    return ""


def _list_neighbors(namespace: NetworkNamespace, words: Words) -> str:
    found = _neighbor_filter(words)
    if "dev" in found:
        link_named(namespace, found["dev"])
    # An entry nobody needs yet (NOARP) isn't listed unless asked for.
    lines = [neighbor_text(each, dev="dev" not in found) for each in _filtered(namespace, found)]
    return "".join(line + "\n" for line in lines)


def _neighbor_filter(words: Words) -> dict[str, Any]:
    def target(word: str, found: dict[str, Any]) -> None:
        found["to"] = prefix(word)

    table = dict(NEIGHBOR) | {"to": Row("to", value(prefix))}
    return parse(words, table, target)


def _filtered(namespace: NetworkNamespace, found: dict[str, Any]) -> list[Neighbor]:
    shown = []
    for entry in namespace.neighbors.entries.values():
        if found.get("dev", entry.link.name) != entry.link.name:
            continue
        if "to" in found and entry.ip not in IPv4Network(found["to"], strict=False):
            continue
        state = found.get("state", "all")
        if state != "all" and state.upper() != entry.state:
            continue
        shown.append(entry)
    return shown


def _flush_neighbors(namespace: NetworkNamespace, words: Words) -> str:
    if not words:
        give_up("Flush requires arguments.", 1)
    if words.peek() == "all":
        words.take()
    found = _neighbor_filter(words)
    for entry in _filtered(namespace, found):
        if entry.state not in ("PERMANENT", "NOARP") or "state" in found:
            del namespace.neighbors.entries[entry.link, entry.ip]
    return ""


NEIGHBOR_COMMANDS = {
    "add": lambda n, w: _neighbor(n, w, "add"),
    "change": lambda n, w: _neighbor(n, w, "change"),
    "chg": lambda n, w: _neighbor(n, w, "change"),
    "replace": lambda n, w: _neighbor(n, w, "replace"),
    "delete": lambda n, w: _neighbor(n, w, "del"),
    "show": _list_neighbors, "lst": _list_neighbors, "list": _list_neighbors,
    "flush": _flush_neighbors,
}  # fmt: skip


def neigh(namespace: NetworkNamespace, words: Words) -> str:
    """Run ``ip neigh`` with ``words``; what it prints."""
    return str(command(words, NEIGHBOR_COMMANDS, "show", "ip neigh")(namespace, words))
