"""``ip link``: interfaces as text, both ways.

Source: ip/iplink.c, ip/iplink_veth.c and ip/ipaddress.c of iproute2 6.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from errno import EADDRNOTAVAIL, EINVAL, EOPNOTSUPP
from typing import Any

from ..errors import KernelError
from ..linux.link import NO_MAC, Link
from ..linux.namespace import NetworkNamespace
from .ip_route import link_named
from .words import (
    GaveUp,
    Row,
    Words,
    flag,
    give_up,
    hardware,
    interface_name,
    number,
    parse,
    reading,
    refused,
    refused_words,
    usage,
    wrong,
)  # fmt: skip

# In bytes: a veth's (drivers/net/veth.c, ETH_MIN_MTU .. ETH_MAX_MTU), an ENI's (the ENA device's).
MTU_LIMITS = {"veth": (68, 65535), "ethernet": (68, 9216), "vlan": (0, 65535),
              "loopback": (68, 1 << 31)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Style:
    """How a listing looks: ``brief`` for -br, ``oneline`` for -o, ``ipv4`` for -4."""

    brief: bool = False
    oneline: bool = False
    ipv4: bool = False


# Printing


def _flags(link: Link) -> str:
    peer = link.peer
    here = peer is not None and peer.namespace is link.namespace
    flags = [
        ("NO-CARRIER", link.up and not link.carrier),
        ("LOOPBACK", link.kind == "loopback"),
        ("BROADCAST,MULTICAST", link.kind != "loopback"),
        ("UP", link.up),
        ("LOWER_UP", link.up and link.carrier),
        ("M-DOWN", here and peer is not None and not peer.up),
    ]
    return "<" + ",".join(name for name, there in flags if there) + ">"


def _state(link: Link) -> str:
    if link.kind == "loopback":
        return "UNKNOWN" if link.up else "DOWN"
    if not link.up or link.carrier:
        return "UP" if link.up else "DOWN"
    return "LOWERLAYERDOWN" if link.over_dead else "DOWN"


def _name(link: Link) -> str:
    peer = link.peer
    if peer is None:
        return f"{link.name}@{link.parent.name}" if link.parent else link.name
    return f"{link.name}@{peer.name if peer.namespace is link.namespace else f'if{peer.index}'}"


def link_text(link: Link, style: Style, *, mode: bool) -> str:
    """The lines of one link; ``mode`` as ``ip link`` has it and ``ip addr`` hasn't."""
    if style.brief:
        first = f"{_name(link):<16} {_state(link):<14} "
        return f"{first}{link.mac} {_flags(link)} " if mode else first
    qdisc = "noqueue" if link.up or link.was_up else "noop"
    first = (
        f"{link.index}: {_name(link)}: {_flags(link)} mtu {link.mtu} qdisc {qdisc} "
        f"state {_state(link)} {'mode DEFAULT ' if mode else ''}group default qlen 1000"
    )
    kind = "loopback" if link.kind == "loopback" else "ether"
    broadcast = "00:00:00:00:00:00" if link.kind == "loopback" else "ff:ff:ff:ff:ff:ff"
    second = f"    link/{kind} {link.mac} brd {broadcast}"
    second = "" if style.ipv4 and not mode else ("\\" if style.oneline else "\n") + second
    if link.peer and link.peer.namespace is not link.namespace:
        second += f" link-netns {link.peer.namespace.name}"
    return first + second


# Listing; `ip addr` takes the same words.

FILTERS = (
    Row("up", "up", flag(True)), Row("type", "kind"), Row("label", "label"),
    refused("ip addr show"),
)  # fmt: skip
DEVICE = Row("dev", "dev", once=True)


def chosen_links(namespace: NetworkNamespace, found: dict[str, Any]) -> list[Link]:
    """The links that a selector picks."""
    name = found.get("dev", "")
    links = list(namespace.links.values())
    if name:
        links = [link for link in links if name in (link.name, f"if{link.index}")]
        if not links:
            give_up(f'Device "{name}" does not exist.', 1)
    return [
        link for link in links
        if (link.up or "up" not in found) and found.get("kind", link.kind) == link.kind
    ]  # fmt: skip


def _show(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    links = chosen_links(namespace, parse(words, FILTERS, DEVICE))
    return "".join(link_text(link, style, mode=True) + "\n" for link in links)


# Changing


def _netns(words: Words) -> str:
    name = words.take()
    if name not in words.namespaces and number(name) is None:
        wrong(name, 'Invalid "netns" value\n')
    if name not in words.namespaces:
        words.refuse("a process in the place of a namespace")
    return name


DEV = Row("dev", "dev", interface_name('"dev" not a valid ifname', 127),
          once='either "dev" is duplicate, or "{1}" is a garbage.')  # fmt: skip
LINK = (
    Row("up", "up", flag(True)), Row("down", "up", flag(False)),
    Row("name", "name", interface_name('"name" not a valid ifname'), once=True),
    Row("a*ddress", "mac", hardware),
    Row("mtu", "mtu", reading(lambda word: number(word, 1 << 31), 'Invalid "mtu" value\n'),
        once=True),
    Row("netns", "netns", _netns, once=True),
    Row("ty*pe", "kind"), Row("l*ink", "parent", once=True), DEV,
    refused("ip link"),
)  # fmt: skip
NAMED = replace(DEV, names="")  # "help" is a name behind "dev" alone


def _parse(namespace: NetworkNamespace, words: Words) -> dict[str, Any]:
    """Read words as far as "type KIND", which ends them."""
    ahead = words.ahead()
    at = next((i for i, word in enumerate(ahead) if LINK[6].fits(word)), len(ahead))
    until, rest = words.rest()[: at + 2], ahead[at + 2 :]
    words.put_back(until)
    found = parse(words, LINK, NAMED)
    words.put_back(rest)
    found.setdefault("dev", found.get("name", ""))
    return found


def _set(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    found = _existing(namespace, words)
    apply(namespace, found["link"], found)
    return ""


def _existing(namespace: NetworkNamespace, words: Words) -> dict[str, Any]:
    found = _parse(namespace, words)
    if not found["dev"]:
        give_up('Not enough information: "dev" argument is required.')
    if "kind" in found or "parent" in found:
        words.refuse('"type"' if "kind" in found else '"link"')
    if found["dev"] in namespace.links and isinstance(found.get("mac"), bytes):
        give_up(f"Invalid address length {len(found['mac'])} - must be 6 bytes", 1)
    found["link"] = link_named(namespace, found["dev"])
    return found


def apply(namespace: NetworkNamespace, link: Link, found: dict[str, Any]) -> None:
    """Change a link as ``ip link set`` does, in the kernel's order (do_setlink)."""
    if "netns" in found and namespace.world.namespaces[found["netns"]] is not namespace:
        if link.kind == "loopback":
            raise KernelError(EINVAL, "The interface netns is immutable")
        namespace.move_link(link, namespace.world.namespaces[found["netns"]])
        namespace = link.namespace
    if "mac" in found:
        if found["mac"] != link.mac and (int(found["mac"][:2], 16) & 1 or found["mac"] == NO_MAC):
            raise KernelError(EADDRNOTAVAIL)
        link.mac = found["mac"]
    if "mtu" in found:
        low, high = MTU_LIMITS[link.kind]
        if link.kind == "loopback" and found["mtu"] < low:
            Words([], "ip link").refuse(f"an MTU below {low} on lo, which turns IPv4 off,")
        if link.kind != "loopback" and not low <= found["mtu"] <= high:
            sides = "less than device minimum", "greater than device maximum"
            raise KernelError(EINVAL, f"mtu {sides[found['mtu'] > high]}")
        link.mtu = found["mtu"]
    if found.get("name", link.name) != link.name:
        namespace.rename_link(link, found["name"])
    if "up" in found:
        namespace.set_up(link, found["up"])


def _named(namespace: NetworkNamespace, words: Words) -> dict[str, Any]:
    found = _parse(namespace, words)
    if found.get("name", found["dev"]) != found["dev"]:
        give_up('both "name" and "dev" cannot be used when creating devices.')
    return found


def _add(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    near = _named(namespace, words)
    name = near["dev"]
    kind = near.get("kind", "")
    if not kind:
        give_up('Not enough information: "type" argument is required', 1)
    if "parent" in near:
        return _add_vlan(namespace, near, words)
    if kind in refused_words()["ip link type"].split():
        words.refuse(f'"type {kind}"')
    far: dict[str, Any] = {}
    if kind == "veth" and words:
        if words.take() != "peer":
            raise GaveUp("", 1, usage("veth"))
        far = _named(namespace, words)
        if "kind" in far:
            give_up(f'Error: duplicate "type": "{words.peek()}" is the second value.')
    elif words:
        rest = words.take()
        if "help".startswith(rest):
            words.help()
        give_up(f'Garbage instead of arguments "{rest} ...". Try "ip link help".', 1)
    if kind != "veth":
        raise KernelError(EOPNOTSUPP, "Unknown device type")
    if any(isinstance(found.get("mac"), bytes) for found in (near, far)):
        raise KernelError(EINVAL)
    spaces = namespace.world.namespaces
    home = spaces[near["netns"]] if "netns" in near else namespace
    away = spaces[far["netns"]] if "netns" in far else namespace
    free = (f"veth{n}" for n in range(1000))
    name = name or next(n for n in free if n not in home.links)
    peer = far.get("dev") or next(n for n in free if n not in away.links)
    ends = home.add_veth(name, near.get("mac", ""), away, peer, far.get("mac", ""))
    for link, found in zip(ends, (near, far), strict=True):
        apply(link.namespace, link, {key: found[key] for key in ("mtu", "up") if key in found})
    return ""


def _add_vlan(namespace: NetworkNamespace, found: dict[str, Any], words: Words) -> str:
    """A VLAN device on an ENI: ``... type vlan id N``."""
    parent = link_named(namespace, found["parent"])
    vlan = number(words.take(), 4095) if words.take() == "id" else None
    if not (parent.segment and vlan and found["kind"] == "vlan" and "mac" in found) or words:
        words.refuse("a VLAN device other than `link ENI name NAME address MAC type vlan id N`")
    namespace.add_vlan(found["dev"], found["mac"], parent, vlan)
    return ""


def _delete(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    link = _existing(namespace, words)["link"]
    if link.kind == "loopback":
        raise KernelError(EOPNOTSUPP)
    namespace.remove_link(link)
    return ""


def _refuse(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    words.refuse("xstats, afstats or property")


COMMANDS: dict[str, Callable[[NetworkNamespace, Words, Style], str]] = {
    "add": _add, "set": _set, "change": _set, "delete": _delete, "show": _show, "lst": _show,
    "list": _show, "xstats": _refuse, "afstats": _refuse, "property": _refuse,
}  # fmt: skip
