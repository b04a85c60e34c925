"""``ip addr``: the addresses of interfaces as text, both ways.

Source: ip/ipaddress.c of iproute2 6.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from errno import EADDRNOTAVAIL, EINVAL, EOPNOTSUPP
from fnmatch import fnmatchcase
from functools import partial
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from ..errors import KernelError
from ..linux.link import GLOBAL, HOST, Address, Link
from ..linux.namespace import NetworkNamespace
from ..linux.route import NOBODY
from .ip_link import DEVICE, FILTERS, Style, chosen_links, link_text
from .ip_route import SCOPES, link_named, scope_id
from .words import (
    EVERY,
    Row,
    Words,
    address,
    flag,
    give_up,
    named,
    naming,
    network,
    parse,
    prefix,
    reading,
    refused,
)  # fmt: skip

FOREVER = "       valid_lft forever preferred_lft forever"
WILDCARD = """\
Warning: Executing wildcard deletion to stay compatible with old scripts.
         Explicitly specify the prefix length ({0}/32) to avoid this warning.
         This special behaviour is likely to disappear in further releases,
         fix your scripts!
"""


def _broadcast(words: Words) -> IPv4Address | str:
    if words.peek() == "default":
        return IPv4Address(words.take() and 0)
    return words.take() if words.peek() in ("+", "-", *EVERY) else address(words)


# In the order in which an address's attributes are printed.
ADDRESS = (
    Row("brd b*roadcast", "broadcast", _broadcast,
        once='duplicate "broadcast": "{1}" is the second value.'),
    Row("scope", "scope", reading(scope_id, "invalid scope value."), naming(SCOPES)),
    Row("noprefixroute", "no_prefix_route", flag(True), default=False),
    Row("dev", "dev"), Row("label", "label"),
    refused("ip addr"),
)  # fmt: skip


def address_text(each: Address, style: Style) -> str:
    """One address as ``ip addr`` prints it below its link."""
    told = ADDRESS[0].text(each) + ADDRESS[1].text(each)
    secondary = "secondary " if each.secondary else ""
    first = f"inet {each.interface} {told}{secondary}{ADDRESS[2].text(each)}{each.label}"
    return f"{first}\\{FOREVER}" if style.oneline else f"    {first}\n{FOREVER}"


# Listing

_scopes = reading(named(SCOPES | {"all": -1}, 256), 'invalid "scope"\n')
SHOWN = (*FILTERS, Row("scope", "scope", _scopes), Row("to", "to", network))


def _shown(link: Link, found: dict[str, Any]) -> list[Address]:
    """The addresses of a link that a selector picks."""
    return [
        each for each in link.addresses
        if found.get("scope", -1) in (-1, each.scope)
        and fnmatchcase(each.label, found.get("label", "*"))
        and ("to" not in found or each.ip in found["to"])
    ]  # fmt: skip


def _show(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    found = parse(words, SHOWN, DEVICE)
    style = replace(style, ipv4=style.ipv4 or "to" in found)
    blocks = []
    if style.brief and "label" in found:
        words.refuse('"label" with -br')
    named = {"dev": found.get("dev", "")}
    for link in chosen_links(namespace, named if style.oneline and not style.brief else found):
        shown = _shown(link, found)
        if not shown and (link.addresses or style.ipv4 or "label" in found):
            continue
        if "label" in found:  # then the links themselves aren't told
            start = f"{link.index}: {link.name}    " if style.oneline else ""
            blocks += [start + address_text(each, style) for each in shown]
        elif style.brief:
            told = "".join(f"{each.interface} " for each in shown)
            blocks.append(link_text(link, style, mode=False) + told)
        elif style.oneline:
            blocks += [f"{link.index}: {link.name}    {address_text(e, style)}" for e in shown]
        else:
            below = [address_text(each, style) for each in shown]
            blocks.append("\n".join([link_text(link, style, mode=False), *below]))
    return "".join(block + "\n" for block in blocks)


def _flush(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    if not words:
        give_up("Flush requires arguments.", 1)
    found = parse(words, SHOWN, DEVICE)
    for link in chosen_links(namespace, {"dev": found.get("dev", "")}):
        for each in _shown(link, found):
            if each in link.addresses:
                namespace.remove_address(link, each)
    return ""


# Changing


def _local(words: Words) -> tuple[IPv4Interface, str]:
    given = words.peek()
    if given in EVERY:  # the kernel objects, in one way or another
        words.refuse(f'"{given}" as an address')
    return IPv4Interface(prefix(words)), given


def _modify(namespace: NetworkNamespace, words: Words, style: Style, how: str) -> str:
    found = parse(words, ADDRESS, Row("local", "local", _local, once=True))
    if "dev" not in found:
        give_up('Not enough information: "dev" argument is required.', 1)
    interface, given = found.get("local", (None, "/"))
    exact = "/" in given
    if how == "delete" and not exact:
        words.warnings += WILDCARD.format(given)
    signs = how != "delete" and found.get("broadcast") in ("+", "-")
    if interface is None and signs and not style.ipv4:
        give_up("Broadcast can be set only for IPv4 addresses", 1)
    link = link_named(namespace, found["dev"])
    if interface is None:
        raise KernelError(EOPNOTSUPP)
    if how == "delete":
        for each in link.addresses:
            same = each.interface == interface if exact else each.ip == interface.ip
            if same and found.get("label", each.label) == each.label:
                namespace.remove_address(link, each)
                return ""
        raise KernelError(EADDRNOTAVAIL, "ipv4: Address not found")
    net, broadcast = interface.network, found.get("broadcast")
    if broadcast in EVERY:
        raise KernelError(EINVAL, "Attribute failed policy validation")
    if isinstance(broadcast, str):  # for a /31 or /32 there is none to work out
        edge = net.broadcast_address if broadcast == "+" else net.network_address
        broadcast = edge if net.prefixlen < 31 else None
    new = Address(
        interface=interface, broadcast=broadcast if broadcast != NOBODY else None,
        label=found.get("label", link.name),
        scope=found.get("scope", HOST if interface.ip.is_loopback else GLOBAL),
        no_prefix_route=found.get("no_prefix_route", False),
    )  # fmt: skip
    namespace.add_address(link, new, replace_same=how == "replace")
    return ""


def _refuse(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    words.refuse("save, restore or showdump")


COMMANDS: dict[str, Callable[[NetworkNamespace, Words, Style], str]] = {
    "add": partial(_modify, how="add"), "change": partial(_modify, how="replace"),
    "chg": partial(_modify, how="replace"), "replace": partial(_modify, how="replace"),
    "delete": partial(_modify, how="delete"), "show": _show, "lst": _show, "list": _show,
    "flush": _flush, "save": _refuse, "showdump": _refuse, "restore": _refuse,
}  # fmt: skip
