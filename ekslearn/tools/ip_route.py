"""``ip route``: routes as text, both ways.

Source: ip/iproute.c of iproute2 6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from errno import EINVAL
from functools import partial
from ipaddress import IPv4Address, IPv4Network

from ..errors import KernelError
from ..linux.ip import Departure
from ..linux.link import GLOBAL, HOST, LINK, NOWHERE, Link
from ..linux.namespace import NetworkNamespace
from ..linux.route import DEFAULT, LOCAL, MAIN, NOBODY, Flow, Route
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
    number,
    parse,
    prefix,
    reading,
    refused,
    refused_words,
    wrong,
)  # fmt: skip

# The numbers that have names: /etc/iproute2/rt_tables, rt_protos and rt_scopes; linux/rtnetlink.h.
TABLES = {"default": DEFAULT, "main": MAIN, "local": LOCAL, "unspec": 0}
PROTOCOLS = {
    "unspec": 0, "redirect": 1, "kernel": 2, "boot": 3, "static": 4, "gated": 8, "ra": 9,
    "mrt": 10, "zebra": 11, "bird": 12, "dnrouted": 13, "xorp": 14, "ntk": 15, "dhcp": 16,
    "keepalived": 18, "babel": 42, "openr": 99, "bgp": 186, "isis": 187, "ospf": 188, "rip": 189,
    "eigrp": 192,
}  # fmt: skip
SCOPES = {"global": GLOBAL, "nowhere": NOWHERE, "host": HOST, "link": LINK, "site": 200}
KINDS = {
    "unicast": GLOBAL,
    "local": HOST,
    "broadcast": LINK,
    "blackhole": GLOBAL,
    "unreachable": GLOBAL,
    "prohibit": GLOBAL,
    "throw": GLOBAL,
}  # and their usual scopes

LOCALHOST = IPv4Address("127.0.0.1")

table_id = named(TABLES)
scope_id = named(SCOPES, 256)


def _via(words: Words) -> IPv4Address:
    if words.peek() in ("inet6", "mpls", "bridge", "link"):
        words.refuse(f'"via {words.take()}"')
    if words.peek() == "inet":
        words.family = words.take()
    return address(words)


def _kind(words: Words) -> dict[str, str]:
    if words.peek() in refused_words()["ip route type"].split():
        words.refuse(f'"{words.take()}"')
    return {"kind": words.take()} if words.peek() in KINDS else {}


# In the order in which a route's attributes are printed.
DEVICE = Row("dev oif", "dev", show=lambda link: str(link.name))
ROUTE = (
    Row("via", "via", _via,
        once='argument "via" is wrong: use nexthop syntax to specify multiple via\n'),
    DEVICE,
    Row("t*able", "table", reading(table_id, '"table" value is invalid\n'),
        naming(TABLES), MAIN),
    Row("proto pro*tocol", "protocol",
        reading(named(PROTOCOLS, 256), '"protocol" value is invalid\n'),
        naming(PROTOCOLS), PROTOCOLS["boot"]),
    Row("scope", "scope", reading(scope_id, 'invalid "scope" value\n'), naming(SCOPES),
        GLOBAL),
    Row("src", "src", address),
    Row("m*etric p*riority preference", "metric",
        reading(number, '"metric" value is invalid\n'), default=0),
    Row("onlink", "onlink", flag(True), default=False),
    refused("ip route"),
)  # fmt: skip
TO = Row("to", "dst", prefix, once=True)


def text(route: Route, *, hide: Collection[str] = frozenset(), linkdown: bool = True) -> str:
    """A route as ``ip route show`` prints it; ``hide`` names what a filter makes superfluous."""
    kind = "" if route.kind == "unicast" else f"{route.kind} "
    down = linkdown and route.dev and route.scope != HOST and not route.dev.carrier
    said = "".join(row.text(route) for row in ROUTE if row.key and row.key not in hide)
    return f"{kind}{prefix_text(route.dst)} {said}{'linkdown ' if down else ''}"


def prefix_text(net: IPv4Network) -> str:
    """A prefix as the tools print it: ``default`` for all, a bare address for one."""
    if net.prefixlen == 0:
        return "default" if not int(net.network_address) else "0/0"
    return str(net.network_address) if net.prefixlen == 32 else str(net)


def link_named(namespace: NetworkNamespace, name: str) -> Link:
    """The link called ``name`` (or "if" and its index), or iproute2's complaint."""
    for link in namespace.links.values():
        if name in (link.name, f"if{link.index}"):
            return link
    give_up(f'Cannot find device "{name}"', 1)


def _modify(namespace: NetworkNamespace, words: Words, how: str) -> str:
    found = parse(words, ROUTE, TO, _kind)
    if "dst" not in found:
        words.help()
    (base, length), kind = found.pop("dst"), found.get("kind", "unicast")
    if "dev" in found:
        found["dev"] = link_named(namespace, found["dev"])
    if int(base) & (0xFFFFFFFF >> length if length < 32 else 0):
        raise KernelError(EINVAL, "Invalid prefix for given prefix length")
    dst = IPv4Network((base, length))
    found["table"] = found.get("table") or (LOCAL if kind in ("local", "broadcast") else MAIN)
    if how != "delete":
        direct = kind == "unicast" and "via" not in found
        found.setdefault("scope", LINK if direct else KINDS[kind])
        for key in ("via", "src"):  # 0.0.0.0 is as good as none
            if key in found and not int(found[key]):
                del found[key]
        namespace.add_route(Route(dst=dst, **{"kind": kind, **found}), how)
        return ""
    found.setdefault("scope", KINDS[kind] or NOWHERE)
    asked = {key: wanted for key, wanted in found.items()
             if (wanted or key == "scope") and key != "onlink"
             and (key, wanted) != ("scope", NOWHERE)}  # fmt: skip
    namespace.routing.delete(
        dst, found["table"],
        lambda route: all(getattr(route, key) == wanted for key, wanted in asked.items()),
    )  # fmt: skip
    return ""


# Listing

_all = {"all": -1}


def _type(words: Words) -> str:
    word = words.take()
    if word in refused_words()["ip route type"].split() or number(word, 256) is not None:
        words.refuse(f'"type {word}"')
    return word if word in KINDS else wrong(word, "node type value is invalid\n")


def _table(words: Words) -> int:
    if words.peek() == "help":
        words.help()
    return reading(named(TABLES | _all), "table id value is invalid\n")(words)


FILTERS = (
    Row("t*able", "table", _table),
    Row("p*rotocol", "protocol", reading(named(PROTOCOLS | _all, 256), 'invalid "protocol"\n')),
    Row("s*cope", "scope", reading(named(SCOPES | _all, 256), 'invalid "scope"\n')),
    Row("ty*pe", "kind", _type),
    Row("dev oif", "dev"), Row("via", "via", network), Row("src", "src", network),
    refused("ip route show"),
)  # fmt: skip
WHERE = ((Row("r*oot"), True, False), (Row("ma*tch"), False, True), (Row("e*xact"), True, True))


def _prefixes(words: Words) -> tuple[IPv4Network | None, IPv4Network | None]:
    """The prefix a listed route must lie in, and the one it must hold."""
    row, inside, around = next((each for each in WHERE if each[0].fits(words.peek())), WHERE[2])
    if row.fits(words.peek()):
        words.take()
    if words.peek() in ("all", "any"):
        words.take()
        return None, None
    net = network(words)
    return (net if inside else None, net if around else None)


def _fits(found: object, wanted: object) -> bool:
    if isinstance(wanted, IPv4Network):
        return (found or IPv4Address(0)) in wanted
    return wanted in (-1, found)


def _selected(
    namespace: NetworkNamespace, words: Words, what: str = "Dump"
) -> tuple[list[Route], set[str]]:
    """The routes a selector picks, in the kernel's order, and what needn't be printed of them."""
    words.learns = False
    found = parse(words, FILTERS, Row("to*", "dst", _prefixes))
    inside, around = found.pop("dst", (None, None))
    wanted = found.pop("table", MAIN)
    hidden = {key for key, value in found.items()
              if value != -1 and getattr(value, "prefixlen", 32) == 32}  # fmt: skip
    hidden |= {"table"} if wanted > 0 else set()
    if "dev" in found:
        found["dev"] = link_named(namespace, found["dev"])
    tables = namespace.routing.tables
    if wanted not in tables and wanted > 0 and (wanted, what) != (MAIN, "Dump"):
        give_up(f"Error: ipv4: FIB table does not exist.\n{what} terminated", 2)
    order = sorted(tables, key=lambda table: table % 256)  # the kernel's hash of tables
    return [
        route for table in order if wanted in (-1, 0, table) for route in tables[table]
        if (inside is None or route.dst.subnet_of(inside))
        and (around is None or around.subnet_of(route.dst))
        and all(_fits(getattr(route, key), value) for key, value in found.items())
    ], hidden  # fmt: skip


def _show(namespace: NetworkNamespace, words: Words) -> str:
    routes, hidden = _selected(namespace, words)
    return "".join(text(route, hide=hidden) + "\n" for route in routes)


def _flush(namespace: NetworkNamespace, words: Words) -> str:
    if not words:
        give_up('"ip route flush" requires arguments.', 1)
    if Row("c*ached").fits(words.peek()):
        return ""  # there is no cache to empty
    for route in _selected(namespace, words, "Flush")[0]:
        namespace.routing.remove(route)
    return ""


# ip route get

QUESTION = (
    Row("f*rom", "src", prefix), Row("i*if", "iif"), Row("o*if dev", "oif"),
    Row("m*ark", "mark", reading(number, "invalid mark value")),
    refused("ip route get"),
)  # fmt: skip
ANSWER = tuple(row for row in ROUTE if row.key in ("via", "dev", "table", "src"))


@dataclass(frozen=True, slots=True)
class _Answer:
    """What ``ip route get`` prints of a decision."""

    via: IPv4Address | None
    dev: Link
    table: int
    src: IPv4Address | None


def _target(words: Words) -> tuple[IPv4Address, int]:
    given = words.peek()
    if given in EVERY and words.family == "inet":
        words.refuse(f'"{given}" behind an address')
    found, length = prefix(words)
    if length != 32 and given not in EVERY:
        words.warnings += (f"Warning: /{length} as prefix is invalid, only /32 (or none) is "
                           "supported.\n")  # fmt: skip
    return found, length


def _get(namespace: NetworkNamespace, words: Words) -> str:
    found = parse(words, QUESTION, Row("to", "dst", _target))
    if "dst" not in found:
        give_up("need at least a destination address", 1)
    for key in ("iif", "oif"):
        if key in found:
            found[key] = link_named(namespace, found[key]).name
    (dst, _), (src, src_length) = found["dst"], found.get("src", (NOBODY, 32))
    source = src if int(src) else None
    route: Route | None
    mark, iif, turned = found.get("mark", 0), found.get("iif", ""), False

    def asked(table: int) -> int:  # until there is a rule of one's own, all are asked as one
        return table if namespace.routing.custom_rules else MAIN

    if dst.is_multicast:
        words.refuse(f'"{dst}" (multicast)')
    if src_length not in (0, 32):
        raise KernelError(EINVAL, "ipv4: Invalid values in header for route get request")
    if iif:
        flow = Flow(dst, src, iif, mark=mark)
        arrival = namespace.ip.arrival(flow, namespace.links[iif])
        route = arrival.route or Route(kind="broadcast", dev=namespace.links["lo"])
        if route.dev is None or arrival.verdict in ("drop", "error"):
            raise KernelError(arrival.errno or EINVAL)
        dev, turned = namespace.links["lo"], arrival.redirect and arrival.verdict == "forward"
        if arrival.verdict == "forward":
            dev = route.dev
        answer = _Answer(route.via, dev, asked(route.table), None)
    else:
        leaving = namespace.ip.departure(dst, source, found.get("oif", ""), mark)
        own = source is None or namespace.owns(source) or namespace.is_local(source)
        if not int(dst) and own and not (leaving.errno and found.get("oif")):
            leaving = Departure(None, src=source or LOCALHOST, link=namespace.links["lo"])
        if leaving.link is None:
            raise KernelError(leaving.errno)
        route = leaving.lookup.route if leaving.lookup and not leaving.lookup.error else None
        table = asked(route.table) if route else MAIN
        answer = _Answer(
            leaving.gateway,
            leaving.link,
            table,
            None if source or not int(leaving.src) else leaving.src,
        )
    kind = "local" if not int(dst) and not iif else route.kind if route else "unicast"
    line = "" if kind == "unicast" else f"{kind} "
    line += f"{dst} " + (f"from {source} " if source else "")
    line += "".join(row.text(answer) for row in ANSWER)
    line += f"mark {mark:#x} " if mark >= 16 else f"mark {mark} " if mark else ""
    line += "" if iif else "uid 0 "
    line += "\n    cache " + (
        "<local,brd> "
        if kind == "broadcast"
        else "<local> "
        if answer.dev.kind == "loopback"
        else "<redirect> "
        if turned
        else ""
    )
    return f"{line}{f'iif {iif} ' if iif else ''}\n"


def _refuse(namespace: NetworkNamespace, words: Words) -> str:
    words.refuse("test, save, restore or showdump")


COMMANDS: dict[str, Callable[[NetworkNamespace, Words], str]] = {
    "add": partial(_modify, how="add"), "change": partial(_modify, how="change"),
    "chg": partial(_modify, how="change"), "replace": partial(_modify, how="replace"),
    "prepend": partial(_modify, how="prepend"), "append": partial(_modify, how="append"),
    "test": _refuse, "delete": partial(_modify, how="delete"), "list": _show, "show": _show,
    "lst": _show, "get": _get, "flush": _flush, "save": _refuse, "restore": _refuse,
    "showdump": _refuse,
}  # fmt: skip
