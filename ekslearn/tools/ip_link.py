"""``ip link``, ``ip addr`` and ``ip netns``: interfaces and their addresses as text, both ways.

Source: ip/iplink.c, ip/ipaddress.c and ip/ipnetns.c of iproute2 6.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from errno import EADDRNOTAVAIL, EINVAL, EOPNOTSUPP
from ipaddress import IPv4Interface
from typing import Any

from ..errors import KernelError
from ..linux.link import HOST, Address, Link
from ..linux.namespace import NetworkNamespace
from .ip_route import SCOPES, link_named, name_of
from .words import (
    GaveUp,
    Row,
    Words,
    address,
    command,
    give_up,
    mac,
    named,
    number,
    options,
    parse,
    prefix,
    refused,
    switch,
    value,
    wrong,
)  # fmt: skip

MTU_LIMITS = (68, 65535)  # of a veth, in bytes (drivers/net/veth.c, ETH_MIN_MTU .. ETH_MAX_MTU)


@dataclass(frozen=True, slots=True)
class Style:
    """How a listing looks: ``brief`` for -br, ``oneline`` for -o, ``details`` for -d."""

    brief: bool = False
    oneline: bool = False


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
    return "<" + ",".join(flag for flag, there in flags if there) + ">"


def _state(link: Link) -> str:
    if link.kind == "loopback":
        return "UNKNOWN" if link.up else "DOWN"
    return "UP" if link.up and link.carrier else "DOWN"


def _name(link: Link) -> str:
    peer = link.peer
    if peer is None:
        return link.name
    here = peer.namespace is link.namespace
    return f"{link.name}@{peer.name if here else f'if{peer.index}'}"


def link_text(link: Link, style: Style, *, mode: bool) -> str:
    """The lines of one link; ``mode`` as ``ip link`` has it and ``ip addr`` hasn't."""
    if style.brief:
        return f"{_name(link):<16} {_state(link):<14} "
    qdisc = "noqueue" if link.up or link.was_up else "noop"
    first = (
        f"{link.index}: {_name(link)}: {_flags(link)} mtu {link.mtu} qdisc {qdisc} "
        f"state {_state(link)} {'mode DEFAULT ' if mode else ''}group default qlen 1000"
    )
    kind = "loopback" if link.kind == "loopback" else "ether"
    broadcast = "00:00:00:00:00:00" if link.kind == "loopback" else "ff:ff:ff:ff:ff:ff"
    second = f"    link/{kind} {link.mac} brd {broadcast}"
    if link.peer and link.peer.namespace is not link.namespace:
        second += f" link-netns {link.peer.namespace.name}"
    return first + ("\\" if style.oneline else "\n") + second


def address_text(each: Address, style: Style) -> str:
    """One address as ``ip addr`` prints it below its link."""
    broadcast = f" brd {each.broadcast}" if each.broadcast else ""
    secondary = " secondary" if each.secondary else ""
    scope = name_of(SCOPES, each.scope)
    first = f"inet {each.interface}{broadcast} scope {scope}{secondary} {each.label}"
    if style.oneline:
        return f"{first}\\       valid_lft forever preferred_lft forever"
    return f"    {first}\n       valid_lft forever preferred_lft forever"


LISTING = options(
    dev=Row("dev", value(str)),
    up=Row("up", switch(True)),
    type=Row("kind", value(str)),
    scope=Row("scope", value(named(SCOPES, 'invalid "scope" value.'))),
    to=Row("to", value(prefix)),
    label=Row("label", value(str)),
) | refused(
    "master vrf group nomaster permanent dynamic secondary primary -tentative tentative deprecated "
    "-deprecated dadfailed -dadfailed temporary home nodad mngtmpaddr noprefixroute autojoin vf"
)


def _listing(namespace: NetworkNamespace, words: Words, style: Style, *, addresses: bool) -> str:
    def device(word: str, found: dict[str, Any]) -> None:
        if "dev" in found:
            give_up(f'Error: either "dev" is duplicate, or "{word}" is a garbage.', 255)
        found["dev"] = word

    found = parse(words, LISTING, device)
    if found.get("dev", "lo") not in namespace.links:
        give_up(f'Device "{found["dev"]}" does not exist.', 1)
    links = [link for link in namespace.links.values() if _chosen(link, found)]
    if not addresses:
        return "".join(_link_line(link, style) + "\n" for link in links)
    blocks = []
    for link in links:
        shown = [each for each in link.addresses if _shown(each, found)]
        if not shown and {"scope", "to", "label"} & set(found):
            continue
        if style.oneline:
            blocks += [f"{link.index}: {link.name}    {address_text(e, style)}" for e in shown]
        elif style.brief:
            blocks.append(link_text(link, style, mode=False)
                          + "".join(f"{each.interface} " for each in shown))  # fmt: skip
        else:
            below = [address_text(each, style) for each in shown]
            blocks.append("\n".join([link_text(link, style, mode=False), *below]))
    return "".join(block + "\n" for block in blocks)


def _link_line(link: Link, style: Style) -> str:
    line = link_text(link, style, mode=True)
    return f"{line}{link.mac} {_flags(link)} " if style.brief else line


def _chosen(link: Link, found: dict[str, Any]) -> bool:
    return (
        found.get("dev", link.name) == link.name
        and (link.up or "up" not in found)
        and found.get("kind", link.kind) == link.kind
    )


def _shown(each: Address, found: dict[str, Any]) -> bool:
    if found.get("scope", each.scope) != each.scope:
        return False
    if found.get("label", each.label) != each.label:
        return False
    if "to" in found:
        base, length = found["to"]
        return each.ip in IPv4Interface((base, length)).network
    return True


# ip link


def _set(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    def device(word: str, found: dict[str, Any]) -> None:
        if "dev" in found:
            give_up(f'Error: either "dev" is duplicate, or "{word}" is a garbage.', 255)
        found["dev"] = word

    found = parse(words, SET, device)
    if "dev" not in found:
        give_up('Not enough information: "dev" argument is required.', 255)
    link = link_named(namespace, found["dev"])
    apply(namespace, link, found)
    return ""


def apply(namespace: NetworkNamespace, link: Link, found: dict[str, Any]) -> None:
    """Change a link as ``ip link set`` does, in the kernel's order (do_setlink)."""
    if "netns" in found:
        namespace.move_link(link, _namespace(namespace, found["netns"]))
        namespace = link.namespace
    if "mac" in found:
        if int(found["mac"][:2], 16) & 1 or link.kind == "loopback":
            raise KernelError(EADDRNOTAVAIL if link.kind != "loopback" else EOPNOTSUPP)
        link.mac = found["mac"]
    if "mtu" in found:
        low, high = MTU_LIMITS
        if link.kind != "loopback" and not low <= found["mtu"] <= high:
            edge = (
                "less than device minimum" if found["mtu"] < low else "greater than device maximum"
            )
            raise KernelError(EINVAL, f"mtu {edge}")
        namespace.set_mtu(link, found["mtu"])
    if found.get("name", link.name) != link.name:
        namespace.rename_link(link, found["name"])
    if "up" in found:
        namespace.set_up(link, found["up"])


def _namespace(namespace: NetworkNamespace, name: str) -> NetworkNamespace:
    target = namespace.world.namespaces.get(name)
    if target is None:
        give_up(f'Error: argument "{name}" is wrong: Invalid "netns" value\n', 255)
    return target


def _mtu(text: str) -> int:
    found = number(text)
    if found is None:
        wrong(text, 'Invalid "mtu" value', blank=True)
    return found


ATTRIBUTES = options(
    address=Row("mac", value(mac)),
    mtu=Row("mtu", value(_mtu)),
    netns=Row("netns", value(str)),
    name=Row("name", value(str)),
)  # fmt: skip
OTHERS = refused(
    "txqueuelen qlen txqlen broadcast brd index group numtxqueues numrxqueues gso_max_size "
    "gso_max_segs gro_max_size gso_ipv4_max_size gro_ipv4_max_size tso_max_size alias vf master "
    "vrf nomaster link-netnsid protodown protodown_reason addrgenmode state carrier dynamic "
    "multicast allmulticast promisc trailers arp min_tx_rate xdp xdpgeneric xdpdrv xdpoffload "
    "parentdev altname property"
)
SET = ATTRIBUTES | OTHERS | options(
    dev=Row("dev", value(str)), up=Row("up", switch(True)), down=Row("up", switch(False)),
    type=Row("type", lambda words: words.refuse('"type"')),
)  # fmt: skip


def _add(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    near: dict[str, Any] = {}
    far: dict[str, Any] = {}

    def bare_name(word: str, found: dict[str, Any]) -> None:
        if "name" in found:
            give_up(f'Error: either "name" is duplicate, or "{word}" is a garbage.', 255)
        found["name"] = word

    def kind(taken: Words) -> str:
        word = taken.take()
        if word == "veth":
            if taken and taken.take() != "peer":
                taken.refuse("a veth option other than peer")
            far.update(parse(taken, ATTRIBUTES | OTHERS, bare_name))
        elif word in KNOWN_KINDS:
            taken.refuse(f'"type {word}"')
        taken.rest()
        return word

    table = ATTRIBUTES | OTHERS | {"type": Row("kind", kind), "dev": Row("name", value(str)),
                                   "up": Row("up", switch(True))}  # fmt: skip
    near = parse(words, table, bare_name)
    if "kind" not in near:
        give_up('Not enough information: "type" argument is required', 1)
    if near["kind"] != "veth":
        raise KernelError(EOPNOTSUPP, "Unknown device type")
    home = _namespace(namespace, near["netns"]) if "netns" in near else namespace
    away = _namespace(namespace, far["netns"]) if "netns" in far else home
    free = (f"veth{n}" for n in range(1000))
    name = near.get("name") or next(n for n in free if n not in home.links)
    peer = far.get("name") or next(n for n in free if n not in away.links and n != name)
    ends = home.add_veth(name, near.get("mac", ""), away, peer, far.get("mac", ""))
    for link, found in zip(ends, (near, far), strict=True):
        apply(link.namespace, link, {key: found[key] for key in ("mtu", "up") if key in found})
    return ""


KNOWN_KINDS = (
    "amt bareudp bond bond_slave bridge bridge_slave dummy erspan geneve gre gretap gtp hsr ifb "
    "ip6erspan ip6gre ip6gretap ip6tnl ipip ipoib ipvlan ipvtap macsec macvlan macvtap "
    "netdevsim nlmon rmnet sit team team_slave vcan virt_wifi vlan vrf vti vxcan vxlan wwan "
    "xfrm"
).split()


def _delete(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    name = words.take() if words else ""
    name = words.take() if name == "dev" else name
    if not name:
        give_up('Not enough information: "dev" argument is required.', 255)
    link = link_named(namespace, name)
    if link.kind == "loopback":
        raise KernelError(EOPNOTSUPP)
    namespace.remove_link(link)
    return ""


# ip addr


ADDRESS = options(
    local=Row("local", value(str)),
    dev=Row("dev", value(str)),
    broadcast_brd=Row("broadcast", value(str)),
    label=Row("label", value(str)),
    scope=Row("scope", value(named(SCOPES, 'invalid "scope" value.'))),
    noprefixroute=Row("no_prefix_route", switch(True)),
) | refused(
    "peer remote anycast metric priority preference valid_lft preferred_lft home nodad mngtmpaddr "
    "autojoin optimistic proto"
)


def _change_address(namespace: NetworkNamespace, words: Words, how: str) -> str:
    def local(word: str, found: dict[str, Any]) -> None:
        if "local" in found:
            give_up(f'Error: either "local" is duplicate, or "{word}" is a garbage.', 255)
        prefix(word)
        found["local"] = word

    found = parse(words, ADDRESS, local)
    if "dev" not in found:
        give_up('Not enough information: "dev" argument is required.', 1)
    given = found.get("local", "")
    link = link_named(namespace, found["dev"])
    if not given:
        raise KernelError(EOPNOTSUPP)
    base, length = prefix(given)
    interface = IPv4Interface((base, length))
    if how == "del":
        return _delete_address(namespace, link, interface, given, found)
    if found.get("broadcast") in ("+", "-"):
        plus = found["broadcast"] == "+"
        net = interface.network
        # For a /32 there is no broadcast address to work out; a /31 leaves it out too.
        found["broadcast"] = (net.broadcast_address if plus else net.network_address) \
            if length < 31 else None  # fmt: skip
    elif "broadcast" in found:
        found["broadcast"] = address(found["broadcast"])
    label = found.get("label", link.name)
    if label.partition(":")[0] != link.name:
        give_up(f'"dev" ({link.name}) must match "label" ({label}).', 1)
    new = Address(
        interface=interface, broadcast=found.get("broadcast"), label=label,
        scope=found.get("scope", HOST if base.is_loopback else 0),
        no_prefix_route=found.get("no_prefix_route", False),
    )  # fmt: skip
    namespace.add_address(link, new, replace_same=how == "replace")
    return ""


def _delete_address(
    namespace: NetworkNamespace, link: Link, interface: IPv4Interface, given: str,
    found: dict[str, Any],
) -> str:  # fmt: skip
    exact = "/" in given
    for each in link.addresses:
        same = each.interface == interface if exact else each.ip == interface.ip
        if same and found.get("label", each.label) == each.label:
            namespace.remove_address(link, each)
            break
    else:
        error = "Error: ipv4: Address not found.\n"
        raise GaveUp(error if exact else WILDCARD.format(given) + error, 2)
    if not exact:
        raise GaveUp(WILDCARD.format(given), 0)
    return ""


WILDCARD = """\
Warning: Executing wildcard deletion to stay compatible with old scripts.
         Explicitly specify the prefix length ({0}/32) to avoid this warning.
         This special behaviour is likely to disappear in further releases,
         fix your scripts!
"""


def _flush_addresses(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    if not words:
        give_up("Flush requires arguments.", 1)

    def device(word: str, found: dict[str, Any]) -> None:
        found["dev"] = word

    found = parse(words, LISTING, device)
    if found.get("dev", "lo") not in namespace.links:
        give_up(f'Device "{found["dev"]}" does not exist.', 1)
    for link in namespace.links.values():
        if _chosen(link, found):
            for each in [each for each in link.addresses if _shown(each, found)]:
                if each in link.addresses:
                    namespace.remove_address(link, each)
    return ""


LINK_COMMANDS = {
    "set": _set, "show": lambda n, w, s: _listing(n, w, s, addresses=False),
    "list": lambda n, w, s: _listing(n, w, s, addresses=False),
    "lst": lambda n, w, s: _listing(n, w, s, addresses=False),
    "add": _add, "delete": _delete,
}  # fmt: skip
ADDRESS_COMMANDS = {
    "add": lambda n, w, s: _change_address(n, w, "add"),
    "change": lambda n, w, s: _change_address(n, w, "replace"),
    "chg": lambda n, w, s: _change_address(n, w, "replace"),
    "replace": lambda n, w, s: _change_address(n, w, "replace"),
    "delete": lambda n, w, s: _change_address(n, w, "del"),
    "show": lambda n, w, s: _listing(n, w, s, addresses=True),
    "list": lambda n, w, s: _listing(n, w, s, addresses=True),
    "lst": lambda n, w, s: _listing(n, w, s, addresses=True),
    "flush": _flush_addresses,
}  # fmt: skip


def link(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    """Run ``ip link`` with ``words``; what it prints."""
    run = command(words, LINK_COMMANDS, "show", "ip link")
    return str(run(namespace, words, style))


def addr(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    """Run ``ip addr`` with ``words``; what it prints."""
    run = command(words, ADDRESS_COMMANDS, "show", "ip address")
    return str(run(namespace, words, style))
