"""What the tools print for an object is read back to an equal object."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from hypothesis import given, settings
from hypothesis import strategies as st

from ekslearn.linux import Address, Neighbor, NetworkNamespace, Route, Rule, World
from ekslearn.tools import Style, address_text, link_text, neighbor_text, route_text, rule_text, run

ips = st.integers(1 << 24, (224 << 24) - 1).map(IPv4Address).filter(lambda ip: not ip.is_loopback)
nets = st.tuples(ips, st.integers(1, 32)).map(lambda pair: IPv4Network(pair, strict=False))
numbers = st.integers(0, (1 << 32) - 1)
tables = st.sampled_from([254, 253, 2, 100, 300])


def place() -> NetworkNamespace:
    namespace = NetworkNamespace(World(), "red")
    for line in ("ip link add v0 address 02:00:00:00:00:01 type veth peer name v1 address "
                 "02:00:00:00:00:02", "ip link set v0 up", "ip link set v1 up",
                 "ip addr add 198.18.0.1/24 dev v0"):  # fmt: skip
        assert run(namespace, line).status == 0
    return namespace


@given(
    dst=nets, kind=st.sampled_from(["unicast", "blackhole", "unreachable", "prohibit", "throw"]),
    table=tables, metric=numbers, protocol=st.integers(0, 255),
    onlink=st.booleans(), via=st.booleans(), src=st.booleans(),
    scope=st.sampled_from([0, 200, 253]),
)  # fmt: skip
@settings(deadline=None)
def test_route(dst: IPv4Network, kind: str, table: int, metric: int, protocol: int, onlink: bool,
               via: bool, src: bool, scope: int) -> None:  # fmt: skip
    namespace = place()
    direct = kind == "unicast"
    route = Route(
        dst=dst, kind=kind, table=table, metric=metric, protocol=protocol,
        dev=namespace.links["v0"] if direct else None,
        via=IPv4Address("198.18.0.9") if direct and via else None, onlink=direct and via and onlink,
        src=IPv4Address("198.18.0.1") if direct and src else None,
        scope=(0 if via else scope) if direct else 0,
    )  # fmt: skip
    text = route_text(route)
    said = text if direct and (via or route.scope) else f"{text} scope 0" if direct else text
    done = run(namespace, f"ip route add {said}")
    assert done.status == 0, (text, done.stderr)
    assert route in list(namespace.routing.tables[table])
    assert run(namespace, f"ip route del {said}").status == 0
    assert route not in list(namespace.routing.tables[table])


@given(
    priority=numbers, table=st.sampled_from([254, 253, 255, 1, 77, 1000]), src=st.none() | nets,
    dst=st.none() | nets, iif=st.sampled_from(["", "v0", "lo"]), oif=st.sampled_from(["", "v1"]),
    mark=st.none() | st.tuples(numbers, st.integers(1, (1 << 32) - 1)), inverted=st.booleans(),
)  # fmt: skip
@settings(deadline=None)
def test_rule(priority: int, table: int, src: IPv4Network | None, dst: IPv4Network | None, iif: str,
              oif: str, mark: tuple[int, int] | None, inverted: bool) -> None:  # fmt: skip
    namespace = place()
    rule = Rule(
        priority=priority, table=table, src=src, dst=dst, iif=iif, oif=oif, inverted=inverted,
        mark=mark and mark[0], mask=mark and mark[1],
    )  # fmt: skip
    number, _, text = rule_text(rule).partition(":\t")
    done = run(namespace, f"ip rule add {text} prio {number}")
    assert done.status == 0, (text, done.stderr)
    assert rule in namespace.routing.rules


@given(
    ip=ips, length=st.integers(8, 32), scope=st.sampled_from([0, 200, 253, 254]),
    broadcast=st.none() | ips, label=st.sampled_from(["v1", "v1:a", "x"]), alone=st.booleans(),
)  # fmt: skip
@settings(deadline=None)
def test_address(ip: IPv4Address, length: int, scope: int, broadcast: IPv4Address | None,
                 label: str, alone: bool) -> None:  # fmt: skip
    namespace = place()
    address = Address(
        interface=IPv4Interface((ip, length)), scope=scope, broadcast=broadcast, label=label,
        no_prefix_route=alone,
    )  # fmt: skip
    words = address_text(address, Style()).splitlines()[0].split()
    assert words[0] == "inet" and words[-1] == label
    done = run(namespace, ["ip", "addr", "add", *words[1:-1], "label", label, "dev", "v1"])
    assert done.status == 0, done.stderr
    assert namespace.links["v1"].addresses == [address]


@given(ip=ips, mac=st.binary(min_size=6, max_size=6), state=st.sampled_from(["PERMANENT", "STALE"]))
@settings(deadline=None)
def test_neighbor(ip: IPv4Address, mac: bytes, state: str) -> None:
    namespace = place()
    entry = Neighbor(ip, namespace.links["v0"], ":".join(f"{each:02x}" for each in mac), state)
    *words, last = neighbor_text(entry).split()
    done = run(namespace, ["ip", "neigh", "replace", *words, "nud", last.lower()])
    assert done.status == 0, done.stderr
    assert list(namespace.neighbors.entries.values()) == [entry]


@given(mac=st.binary(min_size=5, max_size=5), mtu=st.integers(68, 65535), up=st.booleans())
@settings(deadline=None)
def test_link(mac: bytes, mtu: int, up: bool) -> None:
    namespace = place()
    told = "02:" + ":".join(f"{each:02x}" for each in mac)
    assert (
        run(namespace, f"ip link set v0 address {told} mtu {mtu} {'up' if up else 'down'}").status
        == 0
    )
    words = link_text(namespace.links["v0"], Style(oneline=True), mode=True).split()
    assert ("UP" in words[2].strip("<>").split(",")) is up
    assert words[words.index("mtu") + 1] == str(mtu)
    assert words[words.index("link/ether") + 1] == told
