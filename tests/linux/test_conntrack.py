"""Conntrack and NAT: bindings made once, undone on the way back, and in what errors quote."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from ekslearn.cluster import Lab
from ekslearn.linux.conntrack import Connection
from ekslearn.tools import run

from .labs import chain

DNAT = "router$ iptables -t nat -A PREROUTING -d 10.0.1.1 -p tcp --dport 8080 -j DNAT " \
       "--to-destination 10.0.2.2:80"  # fmt: skip
SNAT = "router$ iptables -t nat -A POSTROUTING -o vr -j SNAT --to-source 10.0.2.1"


def ends(lab: Lab, goal: str, source: str = "left") -> tuple[list[str], list[str]]:
    """What the wires show of a request and its reply: src:sport>dst:dport, doubles left out."""
    trace = lab.trace(source, goal)
    legs = []
    for leg in (trace.request, trace.reply):
        rows = [f"{s.src}:{s.sport}>{s.dst}:{s.dport}" for s in leg]
        legs.append(list(dict.fromkeys(rows)))
    return legs[0], legs[1]


def test_dnat_there_and_back() -> None:
    lab = chain(DNAT)
    assert ends(lab, "10.0.1.1:8080") == (
        ["10.0.1.2:40000>10.0.1.1:8080", "10.0.1.2:40000>10.0.2.2:80"],
        ["10.0.2.2:80>10.0.1.2:40000", "10.0.1.1:8080>10.0.1.2:40000"],
    )


def test_snat_is_undone_before_routing() -> None:
    lab = chain(SNAT + "\nright$ ip route del default")  # right knows its own subnet alone
    assert ends(lab, "10.0.2.2:80") == (
        ["10.0.1.2:40000>10.0.2.2:80", "10.0.2.1:40000>10.0.2.2:80"],
        ["10.0.2.2:80>10.0.2.1:40000", "10.0.2.2:80>10.0.1.2:40000"],
    )


def test_a_replys_dnat_is_undone_after_routing() -> None:
    """The reply is filtered and routed with the real server's address as its source."""
    lab = chain(DNAT + "\nrouter$ iptables -A FORWARD -s 10.0.2.2 -m comment --comment here")
    steps = [s for s in lab.trace("left", "10.0.1.1:8080").steps if s.leg == "reply"]
    there = [s for s in steps if s.stage == "filter FORWARD" and "here" in s.because]
    assert there and there[0].header["src"] == "10.0.2.2"
    order = [s.stage for s in steps if s.place == "router"]
    assert order.index("route") < order.index("conntrack POSTROUTING")


def test_nat_is_asked_for_the_first_packet_only() -> None:
    lab = chain(DNAT)
    trace = lab.trace("left", "10.0.1.1:8080")
    stages = [(s.leg, s.stage) for s in trace.steps]
    assert ("request", "nat PREROUTING") in stages
    assert ("reply", "nat PREROUTING") not in stages and ("reply", "nat POSTROUTING") not in stages
    connection = lab.namespace("router").conntrack.connections[0]
    assert connection.replied and connection.translates_target
    assert not connection.translates_source


def test_a_taken_port_is_moved() -> None:
    lab = chain(SNAT)
    lab.line("left$ ip addr add 10.0.1.3/24 dev eth0")
    lab.trace("left", "10.0.2.2:80")
    ns = lab.namespace("router")
    first = ns.conntrack.connections[0]
    packet_ports = {first.reply.dport}
    way = replace(first.original, src=IPv4Address("10.0.1.3"))
    other = Connection(way, way.inverted())
    ns.conntrack.bind(other, "source", IPv4Address("10.0.2.1"), 0, False)
    assert other.reply.dport not in packet_ports and other.random
    assert 1024 <= other.reply.dport <= 65535
    quiet = Connection(replace(way, sport=5), replace(way, sport=5).inverted())
    ns.conntrack.bind(quiet, "source", IPv4Address("10.0.2.1"), 0, False)
    assert quiet.reply.dport == 5 and not quiet.random


def test_random_ports_are_drawn_from_the_seed() -> None:
    def port(seed: int) -> int | None:
        lab = chain(SNAT + " --random-fully")
        lab.namespace("router").world.random.seed(seed)
        return lab.trace("left", "10.0.2.2:80").request[-1].sport

    assert port(1) == port(1) != port(2)
    assert port(1) != 40000


def test_masquerade_takes_the_devices_address_or_borrows_one() -> None:
    rule = "router$ iptables -t nat -A POSTROUTING -o vr -j MASQUERADE"
    request, _ = ends(chain(rule), "10.0.2.2:80")
    assert request[-1] == "10.0.2.1:40000>10.0.2.2:80"
    lab = chain(rule + "\nrouter$ ip addr del 10.0.2.1/24 dev vr"
                       "\nrouter$ ip route add 10.0.2.0/24 dev vr")  # fmt: skip
    request, _ = ends(lab, "10.0.2.2:80")
    assert request[-1] == "10.0.1.1:40000>10.0.2.2:80"


def test_an_icmp_error_is_translated_with_what_it_quotes() -> None:
    lab = chain(SNAT)
    trace = lab.trace("left", "10.0.2.2:54/udp")  # nobody listens: 3/3 comes back
    assert trace.verdict == "refused"
    out = [s for s in trace.reply if s.place == "right" and s.direction == "out"]
    back = [s for s in trace.reply if s.place == "left" and s.direction == "in"]
    assert (out[0].dst, out[0].icmp) == ("10.0.2.1", (3, 3))
    assert (back[0].src, back[0].dst, back[0].icmp) == ("10.0.2.2", "10.0.1.2", (3, 3))
    lab = chain("router$ iptables -t nat -A PREROUTING -d 10.0.1.1 -p udp -j DNAT "
                "--to-destination 10.0.2.2:54")  # fmt: skip
    trace = lab.trace("left", "10.0.1.1:99/udp")
    back = [s for s in trace.reply if s.place == "left" and s.direction == "in"]
    assert trace.verdict == "refused"  # so the quoted packet was found to be the asker's own
    assert (back[0].src, back[0].icmp) == ("10.0.1.1", (3, 3))


def test_states_of_request_reply_and_error() -> None:
    lab = chain("router$ iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP")
    for state in ("NEW", "ESTABLISHED", "RELATED"):
        lab.line(f"router$ iptables -A FORWARD -m conntrack --ctstate {state} -j ACCEPT")
    for goal, states in (("10.0.2.2:80", ["NEW", "ESTABLISHED"]),
                         ("10.0.2.2:54/udp", ["NEW", "RELATED"]),
                         ("10.0.2.2", ["NEW", "ESTABLISHED"])):  # fmt: skip
        steps = lab.trace("left", goal).steps
        took = [s.because for s in steps if s.stage == "filter FORWARD"]
        assert [row.split()[5] for row in took] == states


def test_a_reply_without_its_request_is_invalid() -> None:
    lab = chain("router$ iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP")
    lab.line("router$ ip rule add from 10.0.1.2 lookup main")
    assert lab.trace("left", "10.0.2.2:80").verdict == "delivered"
    ns = lab.namespace("router")
    assert len(ns.conntrack.connections) == 1
    done = run(ns, "conntrack -L")
    assert "src=10.0.1.2 dst=10.0.2.2 sport=40000 dport=80 src=10.0.2.2 dst=10.0.1.2" in done.stdout
    assert "SYN_RECV" in done.stdout and "1 flow entries have been shown" in done.stderr
    assert "been emptied" in run(ns, "conntrack -F").stderr and not ns.conntrack.connections
    assert run(ns, "conntrack -D").status == 125


def test_connmark_survives_to_the_reply() -> None:
    lab = chain("""router$ iptables -t mangle -A PREROUTING -i vl -j CONNMARK --set-mark 0x80/0x80
router$ iptables -t mangle -A PREROUTING -i vr -j CONNMARK --restore-mark --mask 0x80""")
    steps = lab.trace("left", "10.0.2.2:80").steps
    marks = {s.leg: s.header["mark"] for s in steps
             if s.place == "router" and s.stage == "mangle PREROUTING"}  # fmt: skip
    assert marks == {"request": 0, "reply": 0x80}


def test_masquerade_leaves_a_packet_from_nobody_as_it_is() -> None:
    """A sender without any address: what the real kernel showed of random lab 22."""
    lab = Lab("nobody", ["a", "b"])
    for line in (
        "a$ ip link add veth0 type veth peer name eth0 netns b", "a$ ip link set veth0 up",
        "b$ ip link set eth0 up", "a$ ip route add default dev veth0",
        "a$ iptables -t nat -A POSTROUTING -o veth0 -j MASQUERADE",
    ):  # fmt: skip
        assert lab.line(line).status == 0
    trace = lab.trace("a", "10.0.8.2:53/udp")
    assert [(seen.place, seen.direction, seen.src) for seen in trace.request] == [
        ("a", "out", "0.0.0.0"), ("b", "in", "0.0.0.0"),
    ]  # fmt: skip


def test_a_port_asked_for_is_the_only_one_even_if_another_was_drawn_for_the_source() -> None:
    lab = chain(SNAT + " --random-fully")
    lab.trace("left", "10.0.2.2:80")
    ns = lab.namespace("router")
    first = ns.conntrack.connections[0]
    assert first.random
    way = replace(first.original, dport=81)
    kept, asked = (Connection(way, way.inverted()) for _ in range(2))
    ns.conntrack.bind(kept, "source", IPv4Address("10.0.2.1"), 0, False)
    assert kept.reply.dport == first.reply.dport
    ns.conntrack.bind(asked, "source", IPv4Address("10.0.2.1"), 5000, False)
    assert asked.reply.dport == 5000


def test_two_connections_that_would_be_answered_alike_are_told_apart() -> None:
    """The second one isn't translated by any rule, and still gets another source port."""
    lab = chain(DNAT)
    asker = lab.namespace("left").sockets
    lab.trace("left", "10.0.1.1:8080")
    asker.next_port = 40000
    request, reply = ends(lab, "10.0.2.2:80")
    assert request[0] == "10.0.1.2:40000>10.0.2.2:80" and len(request) == 2
    moved = request[1].partition(">")[0]
    assert moved.startswith("10.0.1.2:") and moved != "10.0.1.2:40000"
    assert reply == [f"10.0.2.2:80>{moved}", "10.0.2.2:80>10.0.1.2:40000"]
