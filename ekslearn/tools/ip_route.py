"""``ip route``: routes as text, both ways.

Source: ip/iproute.c of iproute2 6.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from errno import EINVAL
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from ..errors import KernelError
from ..linux.ip import Departure
from ..linux.link import GLOBAL, HOST, LINK, NOWHERE, Link
from ..linux.namespace import NetworkNamespace
from ..linux.route import DEFAULT, ERRORS, LOCAL, MAIN, Flow, Route
from .words import (
    Row,
    Words,
    address,
    command,
    give_up,
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

KINDS = ("unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit", "throw")
TABLES = {"default": DEFAULT, "main": MAIN, "local": LOCAL}
PROTOCOLS = {"redirect": 1, "kernel": 2, "boot": 3, "static": 4, "ra": 9, "dhcp": 16}
SCOPES = {"global": GLOBAL, "universe": GLOBAL, "site": 200, "link": LINK, "host": HOST,
          "nowhere": NOWHERE}  # fmt: skip
BOOT = PROTOCOLS["boot"]
ALL_TABLES = 0

table_id = named(TABLES, "table id value is invalid")


def name_of(names: dict[str, int], found: int) -> str:
    """The name a number goes by, or the number."""
    return next((name for name, each in names.items() if each == found), str(found))


def _metric(text: str) -> int:
    found = number(text)
    if found is None:
        wrong(text, '"metric" value is invalid', blank=True)
    return found


def _via(words: Words) -> IPv4Address:
    word = words.take()
    if word in ("inet6", "mpls", "bridge", "link"):
        words.refuse(f'"via {word}"')
    return address(words.take() if word == "inet" else word)


NODE = options(
    to=Row("to", value(str)),
    via=Row("via", _via),
    dev_oif=Row("dev", value(str)),
    src=Row("src", value(address)),
    metric_priority_preference=Row("metric", value(_metric)),
    table=Row("table", value(table_id)),
    protocol_proto=Row("protocol", value(named(PROTOCOLS, '"protocol" value is invalid'))),
    scope=Row("scope", value(named(SCOPES, 'invalid "scope" value'))),
    onlink=Row("onlink", switch(True)),
) | refused(
    "tos dsfield mtu advmss as rtt rttvar reordering window cwnd initcwnd initrwnd ssthresh realms "
    "realm rto_min hoplimit features quickack congctl pref expires fastopen_no_cookie nexthop "
    "nhid encap weight pervasive ttl-propagate vrf multicast nat anycast"
)


def text(route: Route, *, hide: frozenset[str] = frozenset(), linkdown: bool = True) -> str:
    """A route as ``ip route show`` prints it; ``hide`` names what a filter makes superfluous."""
    pieces = [
        "" if route.kind == "unicast" else route.kind,
        prefix_text(route.dst),
        f"via {route.via}" if route.via and "via" not in hide else "",
        f"dev {route.dev.name}" if route.dev and "dev" not in hide else "",
        f"table {name_of(TABLES, route.table)}"
        if route.table != MAIN and "table" not in hide else "",
        f"proto {name_of(PROTOCOLS, route.protocol)}"
        if route.protocol != BOOT and "protocol" not in hide else "",
        f"scope {name_of(SCOPES, route.scope)}"
        if route.scope != GLOBAL and "scope" not in hide else "",
        f"src {route.src}" if route.src and "src" not in hide else "",
        f"metric {route.metric}" if route.metric else "",
        "onlink" if route.onlink else "",
        "linkdown" if linkdown and route.dev and route.scope != HOST and not route.dev.carrier
        else "",
    ]  # fmt: skip
    return "".join(piece + " " for piece in pieces if piece)


def prefix_text(net: IPv4Network) -> str:
    """A prefix as the tools print it: ``default`` for all, a bare address for one."""
    if net.prefixlen == 0:
        return "default"
    return str(net.network_address) if net.prefixlen == 32 else str(net)


def link_named(namespace: NetworkNamespace, name: str) -> Link:
    """The link called ``name``, or iproute2's complaint."""
    if name not in namespace.links:
        give_up(f'Cannot find device "{name}"', 1)
    return namespace.links[name]


def _modify(namespace: NetworkNamespace, words: Words, how: str) -> str:
    if not words:
        give_up(USAGE, 255)
    kind = ""

    def destination(word: str, found: dict[str, Any]) -> None:
        nonlocal kind
        if word in KINDS and not kind and "to" not in found:
            kind = word
            return
        if "to" in found:
            give_up(f'Error: either "to" is duplicate, or "{word}" is a garbage.', 255)
        prefix(word)
        found["to"] = word

    found = parse(words, NODE, destination)
    base, length = prefix(found.pop("to", "default"))
    link = link_named(namespace, found["dev"]) if "dev" in found else None
    if int(base) & ((1 << (32 - length)) - 1):
        raise KernelError(EINVAL, "Invalid prefix for given prefix length")
    dst = IPv4Network((base, length))
    if how == "del":
        _delete(namespace, dst, kind, found, link)
        return ""
    kind = kind or "unicast"
    default = LOCAL if kind in ("local", "broadcast") else MAIN
    scope = {"local": HOST, "broadcast": LINK}.get(kind, GLOBAL)
    if kind == "unicast" and "via" not in found:
        scope = LINK
    route = Route(
        dst=dst, kind=kind, via=found.get("via"), dev=link, table=found.get("table") or default,
        protocol=found.get("protocol", BOOT), scope=found.get("scope", scope),
        metric=found.get("metric", 0), src=found.get("src"), onlink=found.get("onlink", False),
    )  # fmt: skip
    namespace.add_route(route, how)
    return ""


def _delete(
    namespace: NetworkNamespace,
    dst: IPv4Network,
    kind: str,
    found: dict[str, Any],
    link: Link | None,
) -> None:
    asked = {key: found[key] for key in ("via", "src", "metric", "protocol", "scope")
             if found.get(key)}  # fmt: skip

    def fits(route: Route) -> bool:
        if (kind and route.kind != kind) or (link and route.dev is not link):
            return False
        return all(getattr(route, key) == wanted for key, wanted in asked.items())

    default = LOCAL if kind in ("local", "broadcast") else MAIN
    namespace.routing.delete(dst, found.get("table") or default, fits)


@dataclass(slots=True)
class _Selector:
    """Which routes a listing shows."""

    table: int = MAIN
    fields: dict[str, Any] | None = None
    root: IPv4Network | None = None
    match: IPv4Network | None = None
    exact: IPv4Network | None = None

    def shows(self, route: Route) -> bool:
        if self.table not in (ALL_TABLES, route.table):
            return False
        if self.root and not route.dst.subnet_of(self.root):
            return False
        if self.match and not self.match.subnet_of(route.dst):
            return False
        if self.exact and route.dst != self.exact:
            return False
        return all(getattr(route, key) == wanted for key, wanted in (self.fields or {}).items())


LISTING = options(
    table=Row("table", value(lambda word: ALL_TABLES if word == "all" else table_id(word))),
    dev_oif=Row("dev", value(str)),
    via=Row("via", _via),
    src=Row("src", value(address)),
    protocol_proto=Row("protocol", NODE["proto"].read),
    scope=Row("scope", NODE["scope"].read),
    type=Row("kind", value(str)),
    root=Row("root", value(prefix)),
    match=Row("match", value(prefix)),
    exact=Row("exact", value(prefix)),
) | refused("tos vrf from cached cloned realm realms iif mark metric")


def _selector(namespace: NetworkNamespace, words: Words) -> _Selector:
    def destination(word: str, found: dict[str, Any]) -> None:
        found["exact"] = prefix(words.take() if word == "to" else word)

    found = parse(words, LISTING, destination)
    if "dev" in found:
        found["dev"] = link_named(namespace, found["dev"])
    nets = {key: IPv4Network(found.pop(key), strict=False)
            for key in ("root", "match", "exact") if key in found}  # fmt: skip
    return _Selector(found.pop("table", MAIN), found, **nets)


def rows(namespace: NetworkNamespace, selector: _Selector | None = None) -> list[Route]:
    """The routes of a listing, in the order the kernel dumps them."""
    selector = selector or _Selector()
    order = sorted(namespace.routing.tables, key=lambda n: n % 256)  # the kernel's hash of tables
    return [route for number_ in order for route in namespace.routing.tables[number_]
            if selector.shows(route)]  # fmt: skip


def _show(namespace: NetworkNamespace, words: Words) -> str:
    selector = _selector(namespace, words)
    wanted = selector.table
    if wanted not in (ALL_TABLES, DEFAULT) and wanted not in namespace.routing.tables:
        give_up("Error: ipv4: FIB table does not exist.\nDump terminated", 2)
    hide: set[str] = {key for key in ("dev", "via", "src", "protocol", "scope")
            if selector.fields and key in selector.fields}  # fmt: skip
    if wanted != ALL_TABLES:
        hide.add("table")
    return "".join(text(route, hide=frozenset(hide)) + "\n" for route in rows(namespace, selector))


def _flush(namespace: NetworkNamespace, words: Words) -> str:
    if not words:
        give_up('"ip route flush" requires arguments.', 1)
    if words.peek() == "cache":
        return ""
    for route in rows(namespace, _selector(namespace, words)):
        namespace.routing.remove(route)
    return ""


GET = options(
    to=Row("to", value(address)),
    from_=Row("src", value(address)),
    iif=Row("iif", value(str)),
    oif_dev=Row("oif", value(str)),
    mark=Row("mark", value(named({}, "Invalid mark value", blank=False))),
) | refused("tos dsfield notify connected vrf uid ipproto sport dport fibmatch as")


def _get(namespace: NetworkNamespace, words: Words) -> str:
    def destination(word: str, found: dict[str, Any]) -> None:
        found["to"] = address(word.partition("/")[0])

    found = parse(words, GET, destination)
    if "to" not in found:
        give_up("need at least a destination address", 1)
    for key in ("iif", "oif"):
        if key in found:
            link_named(namespace, found[key])
    dst, src, mark = found["to"], found.get("src"), found.get("mark", 0)
    words_mark = f" mark {mark:#x}" if mark >= 16 else f" mark {mark}" if mark else ""
    if "iif" in found:
        return _get_arriving(namespace, dst, src, found["iif"], mark, words_mark)
    leaving: Departure = namespace.ip.departure(dst, src, found.get("oif", ""), mark)
    if leaving.link is None:
        raise KernelError(leaving.errno)
    route = leaving.lookup.route if leaving.lookup else None
    kind = route.kind if route and route.kind not in ("unicast", *ERRORS) else ""
    line = f"{kind} " if kind else ""
    line += f"{dst} " + (f"from {src} " if src else "")
    line += f"via {leaving.gateway} " if leaving.gateway else ""
    line += f"dev {leaving.link.name} "
    line += f"table {name_of(TABLES, route.table)} " if route and _told(route) else ""
    line += "" if src else f"src {leaving.src}"
    cache = {"local": "<local> ", "broadcast": "<local,brd> "}.get(kind, "")
    return f"{line.rstrip()}{words_mark} uid 0 \n    cache {cache}\n"


def _told(route: Route) -> bool:
    return route.table not in (MAIN, LOCAL)


def _get_arriving(
    namespace: NetworkNamespace, dst: IPv4Address, src: IPv4Address | None, iif: str, mark: int,
    words_mark: str,
) -> str:  # fmt: skip
    link = namespace.links[iif]
    flow = Flow(dst, src or IPv4Address(0), iif, mark=mark)
    arrival = namespace.ip.arrival(flow, link)
    route = arrival.route
    if route is None or arrival.verdict in ("drop", "error") or route.dev is None:
        raise KernelError(arrival.errno or EINVAL)
    local = arrival.verdict in ("local", "broadcast")
    line = f"{route.kind} " if local else ""
    line += f"{dst} from {src or '0.0.0.0'} " + (f"via {route.via} " if route.via else "")
    line += f"dev {'lo' if local else route.dev.name} "
    line += f"table {name_of(TABLES, route.table)} " if _told(route) else ""
    cache = {"local": "<local> ", "broadcast": "<local,brd> "}.get(arrival.verdict, "")
    return f"{line.rstrip()}{words_mark} \n    cache {cache}iif {iif} \n"


COMMANDS = {
    "list": _show, "show": _show, "lst": _show, "get": _get, "flush": _flush,
    "add": lambda n, w: _modify(n, w, "add"),
    "change": lambda n, w: _modify(n, w, "change"),
    "replace": lambda n, w: _modify(n, w, "replace"),
    "prepend": lambda n, w: _modify(n, w, "prepend"),
    "append": lambda n, w: _modify(n, w, "append"),
    "delete": lambda n, w: _modify(n, w, "del"),
    "help": lambda n, w: give_up(USAGE, 255),
}  # fmt: skip
USAGE = "Usage: ip route { list | flush } SELECTOR"


def route(namespace: NetworkNamespace, words: Words) -> str:
    """Run ``ip route`` with ``words``; what it prints."""
    run = command(words, COMMANDS, "list", "ip route")
    return str(run(namespace, words))
