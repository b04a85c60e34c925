"""Netfilter: each match and target decides as it should, in the kernel's order."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from ekslearn.cluster import Lab
from ekslearn.linux import NetworkNamespace, World
from ekslearn.linux import netfilter as nf
from ekslearn.linux.conntrack import Binding, Connection, Tuple
from ekslearn.linux.packet import Packet, Skb

from .labs import chain

A, B = IPv4Address("10.0.1.2"), IPv4Address("10.0.2.2")


def passage(
    mark: int = 0, connmark: int | None = None, state: str = "NEW", **more: object
) -> nf.Passage:
    """A TCP packet from A:40000 to B:80 at FORWARD, in by eth0 and out by eth1."""
    packet = Packet(src=A, dst=B, protocol="tcp", sport=40000, dport=80, flags="SYN")
    way = Tuple("tcp", A, 40000, B, 80)
    found = Connection(way, way.inverted(), mark=connmark) if connmark is not None else None
    skb = Skb(packet, mark=mark, binding=Binding(found, False, state) if found else None)
    values = {"iif": "eth0", "oif": "eth1", **more}
    return nf.Passage(NetworkNamespace(World(), "x"), "FORWARD", skb, **values)


NET = IPv4Network


@pytest.mark.parametrize(
    ("match", "at", "holds"),
    [
        (nf.Network(side="source", net=NET("10.0.1.0/24")), {}, True),
        (nf.Network(side="source", net=NET("10.0.2.0/24")), {}, False),
        (nf.Network(side="destination", net=NET("10.0.2.2/32")), {}, True),
        (nf.Network(side="destination", net=NET("10.0.1.2/32")), {}, False),
        (nf.Interface(name="eth0", way="in"), {}, True),
        (nf.Interface(name="eth1", way="in"), {}, False),
        (nf.Interface(name="eth1", way="out"), {}, True),
        (nf.Interface(name="eth+", way="out"), {}, True),
        (nf.Interface(name="eth", way="out"), {}, False),
        (nf.Interface(name="eni+", way="out"), {}, False),
        (nf.Interface(name="eth0", way="in"), {"iif": ""}, False),
        (nf.Protocol(name="tcp"), {}, True),
        (nf.Protocol(name="udp"), {}, False),
        (nf.Port(protocol="tcp", side="destination", low=80, high=80), {}, True),
        (nf.Port(protocol="tcp", side="destination", low=81, high=90), {}, False),
        (nf.Port(protocol="tcp", side="destination", low=70, high=79), {}, False),
        (nf.Port(protocol="tcp", side="source", low=40000, high=40001), {}, True),
        (nf.Port(protocol="tcp", side="source", low=80, high=80), {}, False),
        (nf.Comment(text="x"), {}, True),
        (nf.MarkMatch(value=0x80, mask=0x80), {"mark": 0xFF}, True),
        (nf.MarkMatch(value=0x80), {"mark": 0xFF}, False),
        (nf.MarkMatch(value=0x80, mask=0x80), {"mark": 0x7F}, False),
        (nf.MarkMatch(value=1, mask=2), {"mark": 1}, False),
        (nf.MarkMatch(value=5, of_connection=True), {"connmark": 5, "mark": 1}, True),
        (nf.MarkMatch(value=1, of_connection=True), {"connmark": 5, "mark": 1}, False),
        (nf.State(states=frozenset({"NEW"})), {"connmark": 0}, True),
        (nf.State(states=frozenset({"NEW"})), {"connmark": 0, "state": "ESTABLISHED"}, False),
        (nf.State(states=frozenset({"NEW", "RELATED"})), {"connmark": 0, "state": "RELATED"}, True),
        (nf.State(states=frozenset({"INVALID"})), {}, True),
        (nf.State(states=frozenset({"INVALID"})), {"connmark": 0}, False),
        (nf.State(states=frozenset({"SNAT"})), {"connmark": 0}, False),
        (nf.State(states=frozenset({"UNTRACKED"})), {}, False),
        (nf.Chance(threshold=nf.FULL_CHANCE), {}, True),
        (nf.Chance(threshold=0), {}, False),
    ],
)
def test_a_match_and_its_negation(match: nf.Match, at: dict[str, object], holds: bool) -> None:
    from dataclasses import replace

    assert match.fulfilled(passage(**at)) is holds
    assert replace(match, negated=True).fulfilled(passage(**at)) is not holds


def test_connmark_of_an_untracked_packet_never_matches_negated_or_not() -> None:
    for negated in (False, True):
        match = nf.MarkMatch(value=0, mask=0, of_connection=True, negated=negated)
        assert not match.fulfilled(passage())


def test_chance_takes_its_share_of_the_dice() -> None:
    at = passage()
    hits = sum(nf.Chance(threshold=nf.FULL_CHANCE // 4).holds(at) for _ in range(4000))
    assert 850 < hits < 1150


def test_a_translated_connection_has_the_states_snat_and_dnat() -> None:
    at = passage(connmark=0)
    assert at.connection
    way = at.connection.original
    at.connection.reply = Tuple("tcp", IPv4Address("10.9.9.9"), 80, way.src, way.sport)
    assert nf.State(states=frozenset({"DNAT"})).holds(at)
    assert not nf.State(states=frozenset({"SNAT"})).holds(at)
    at.connection.reply = Tuple("tcp", way.dst, 80, way.src, 1025)
    assert nf.State(states=frozenset({"SNAT"})).holds(at)
    assert not nf.State(states=frozenset({"DNAT"})).holds(at)


def test_address_types_are_those_of_the_local_table() -> None:
    lab = chain()
    ns = lab.namespace("router")
    for dst, iif, oif, kinds in (
        ("10.0.2.1", "vl", "", {"LOCAL"}), ("10.0.2.2", "vl", "vr", {"UNICAST"}),
        ("10.0.2.255", "vl", "", {"BROADCAST"}), ("224.0.0.1", "vl", "", {"MULTICAST"}),
        ("255.255.255.255", "vl", "", {"BROADCAST"}), ("0.0.0.0", "vl", "", {"BROADCAST"}),
    ):  # fmt: skip
        packet = Packet(src=A, dst=IPv4Address(dst), protocol="udp", sport=1, dport=2)
        at = nf.Passage(ns, "PREROUTING", Skb(packet), iif, oif)
        for kind in ("LOCAL", "UNICAST", "BROADCAST", "MULTICAST"):
            match = nf.AddressType(side="destination", kind=kind)
            assert match.fulfilled(at) is (kind in kinds)
        assert nf.AddressType(side="destination", kind="LOCAL,UNICAST").holds(at) is bool(
            kinds & {"LOCAL", "UNICAST"}
        )
    packet = Packet(src=A, dst=IPv4Address("10.0.2.1"), protocol="udp", sport=1, dport=2)
    for iif, holds in (("vr", True), ("vl", False)):
        at = nf.Passage(ns, "PREROUTING", Skb(packet), iif)
        assert nf.AddressType(side="destination", kind="LOCAL", limit="in").holds(at) is holds
    assert nf.AddressType(side="source", kind="UNICAST").holds(at)
    # Where the packet has no such interface there is no limit (addrtype_mt_v1).
    for dst, kind in (("10.0.2.1", "LOCAL"), ("10.0.2.2", "UNICAST")):
        packet = Packet(src=A, dst=IPv4Address(dst), protocol="udp", sport=1, dport=2)
        at = nf.Passage(ns, "OUTPUT", Skb(packet), "", "vl")
        assert nf.AddressType(side="destination", kind=kind, limit="in").holds(at)
    assert not nf.AddressType(side="destination", kind="LOCAL", limit="out").holds(at)


# Marks


@pytest.mark.parametrize(
    ("value", "mask", "before", "after"),
    [(5, 0xFFFFFFFF, 0xFF, 5), (0x80, 0x80, 0x0F, 0x8F), (0x80, 0, 0x81, 0x01),
     (0, 0xF0, 0xFF, 0x0F), (3, 5, 0xF, 0xA ^ 3), (0x4000, 0x4000, 0x4000, 0x4000)],
)  # fmt: skip
def test_mark_clears_then_flips(value: int, mask: int, before: int, after: int) -> None:
    at = passage(mark=before)
    assert nf.SetMark(value, mask).act(at) == ""
    assert at.skb.mark == after
    at = passage(mark=7, connmark=before)
    assert nf.ConnectionMark("set", value, mask).act(at) == ""
    assert at.connection and (at.connection.mark, at.skb.mark) == (after, 7)


def test_connmark_saves_and_restores_under_its_masks() -> None:
    at = passage(mark=0xAB, connmark=0xF0F0)
    nf.ConnectionMark("save", 0, 0xFF, 0x0F).act(at)
    assert at.connection and (at.connection.mark, at.skb.mark) == (0xF000 ^ 0x0B, 0xAB)
    at = passage(mark=0xAB, connmark=0xF0F3)
    nf.ConnectionMark("restore", 0, 0xFF, 0x0F).act(at)
    assert at.connection and (at.connection.mark, at.skb.mark) == (0xF0F3, 0xA0 ^ 0xF3)
    at = passage(mark=3)
    assert nf.ConnectionMark("set", 1).act(at) == "" and at.skb.mark == 3


# Chains


def verdict(lab: Lab, *lines: str, goal: str = "10.0.2.2:80") -> str:
    for line in lines:
        done = lab.line(f"router$ iptables {line}")
        assert done.status == 0, (line, done)
    return lab.trace("left", goal).verdict


def hooks(lab: Lab, place: str, source: str, goal: str) -> list[str]:
    """Which chains a request meets in a place (each lets it pass by a rule that only counts)."""
    for table, names in nf.BUILT_IN.items():
        for name in names:
            lab.line(f"{place}$ iptables -t {table} -A {name} -m comment --comment x")
    steps = lab.trace(source, goal).steps
    return [s.stage for s in steps
            if s.place == place and s.leg == "request" and s.decision == "counted"]  # fmt: skip


def test_the_hooks_and_tables_in_the_kernels_order() -> None:
    nat = "router$ iptables -t nat -A PREROUTING -d 9.9.9.9 -j DNAT --to-destination 9.9.9.8"
    assert hooks(chain(nat), "router", "left", "10.0.2.2") == [
        "mangle PREROUTING", "nat PREROUTING", "mangle FORWARD", "filter FORWARD",
        "mangle POSTROUTING", "nat POSTROUTING",
    ]  # fmt: skip
    assert hooks(chain(nat), "router", "left", "10.0.1.1") == [
        "mangle PREROUTING", "nat PREROUTING", "mangle INPUT", "filter INPUT", "nat INPUT",
    ]  # fmt: skip
    assert hooks(chain(nat), "router", "router", "10.0.2.2") == [
        "mangle OUTPUT", "nat OUTPUT", "filter OUTPUT", "mangle POSTROUTING", "nat POSTROUTING",
    ]  # fmt: skip


def test_policies_decide_at_the_end_and_only_there() -> None:
    assert verdict(chain(), "-P FORWARD DROP") == "dropped"
    assert verdict(chain(), "-P FORWARD DROP", "-A FORWARD -j ACCEPT") == "delivered"
    assert verdict(chain(), "-A FORWARD -j DROP", "-A FORWARD -j ACCEPT") == "dropped"
    assert verdict(chain(), "-P INPUT DROP", "-P OUTPUT DROP") == "delivered"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["-A FORWARD -j A", "-A A -j RETURN", "-A A -j DROP"], "delivered"),
        (["-A FORWARD -j A", "-A A -j B", "-A B -j RETURN", "-A A -j DROP"], "dropped"),
        (["-A FORWARD -j A", "-A FORWARD -j DROP", "-A A -j ACCEPT"], "dropped-on-reply"),
        (["-A FORWARD -j A", "-A FORWARD -j DROP"], "dropped"),
        (["-A FORWARD -g A", "-A FORWARD -j DROP"], "delivered"),
        (["-A FORWARD -j B", "-A FORWARD -j DROP", "-A B -g A", "-A B -j ACCEPT"], "dropped"),
        (["-P FORWARD DROP", "-A FORWARD -j RETURN", "-A FORWARD -j ACCEPT"], "dropped"),
        (["-A FORWARD -j A", "-A A", "-A A -s 10.9.0.0/16 -j DROP"], "delivered"),
    ],
)
def test_user_chains_jumps_and_gotos(lines: list[str], says: str) -> None:
    lab = chain()
    if says == "dropped-on-reply":
        says = "delivered"  # ACCEPT in a user chain ends the whole table
    assert verdict(lab, "-N A", "-N B", *lines) == says


@pytest.mark.parametrize(
    ("kind", "seen"),
    [("icmp-net-unreachable", (3, 0)), ("icmp-host-unreachable", (3, 1)),
     ("icmp-proto-unreachable", (3, 2)), ("icmp-port-unreachable", (3, 3)),
     ("icmp-net-prohibited", (3, 9)), ("icmp-host-prohibited", (3, 10)),
     ("icmp-admin-prohibited", (3, 13)), ("", (3, 3))],
)  # fmt: skip
def test_reject_tells_the_sender(kind: str, seen: tuple[int, int]) -> None:
    lab = chain()
    how = f"--reject-with {kind}" if kind else ""
    assert verdict(lab, f"-A FORWARD -p udp -j REJECT {how}", goal="10.0.2.2:53/udp") == "rejected"
    trace = lab.trace("left", "10.0.2.2:53/udp")
    assert (trace.reply[-1].icmp, trace.reply[-1].src) == (seen, "10.0.1.1")


def test_reject_with_a_reset_comes_in_the_others_name() -> None:
    lab = chain()
    assert verdict(lab, "-A FORWARD -p tcp -j REJECT --reject-with tcp-reset") == "rejected"
    last = lab.trace("left", "10.0.2.2:80").reply[-1]
    assert (last.src, last.sport, last.icmp) == ("10.0.2.2", 80, None)


def test_conntrack_begins_with_the_first_rule_that_asks_and_ends_with_the_last() -> None:
    lab = chain()
    ns = lab.namespace("router")
    verdict(lab, "-A FORWARD -j ACCEPT", "-t nat -A PREROUTING -j ACCEPT",
            "-t mangle -A PREROUTING -j MARK --set-mark 1")  # fmt: skip
    assert not ns.conntrack.active and not ns.conntrack.connections
    for rule in ("FORWARD -m conntrack --ctstate NEW", "FORWARD -m connmark --mark 0",
                 "FORWARD -j CONNMARK --save-mark", "FORWARD -m state --state NEW"):  # fmt: skip
        verdict(lab, f"-A {rule}")
        assert ns.conntrack.active and ns.conntrack.connections, rule
        ns.conntrack.flush()
        verdict(lab, f"-D {rule}")
        assert not ns.conntrack.active, rule
    verdict(lab, "-t nat -N A", "-t nat -A A -j MASQUERADE")
    assert ns.conntrack.active


def test_a_changed_mark_or_destination_in_output_is_routed_again() -> None:
    lab = chain("""left$ ip rule add fwmark 7 lookup 100
                   left$ ip route add unreachable 10.0.2.0/24 table 100""")
    assert lab.trace("left", "10.0.2.2:80").verdict == "delivered"
    assert lab.line("left$ iptables -t mangle -A OUTPUT -j MARK --set-mark 7").status == 0
    assert lab.trace("left", "10.0.2.2:80").verdict != "delivered"
    lab = chain()
    rule = "-t nat -A OUTPUT -d 10.0.1.9 -p tcp -j DNAT --to-destination 10.0.2.2:80"
    lab.line(f"left$ iptables {rule}")
    trace = lab.trace("left", "10.0.1.9:99")
    assert trace.verdict == "delivered"
    assert (trace.request[0].dst, trace.request[0].dport) == ("10.0.2.2", 80)


def test_each_decision_says_what_was_passed_over_and_why() -> None:
    lab = chain()
    verdict(lab, "-A FORWARD -s 10.9.0.0/16 -j DROP", "-A FORWARD -p udp -j DROP",
            "-A FORWARD -p tcp -j ACCEPT")  # fmt: skip
    step = next(s for s in lab.trace("left", "10.0.2.2:80").steps if s.stage == "filter FORWARD")
    assert step.because == "-A FORWARD -p tcp -j ACCEPT" and step.decision == "accept"
    assert len(step.passed_over) == 2
    verdict(lab, "-N A", "-A OUTPUT -j A", "-A A -i vl -j DROP")
    step = next(s for s in lab.trace("router", "10.0.2.2:80").steps if "policy" in s.decision)
    assert step.passed_over == ("-A A -i vl -j DROP — the packet goes in by no interface",)
    step = next(s for s in lab.trace("left", "10.0.2.2:80").steps if s.stage == "filter FORWARD")
    assert "10.0.1.2" in step.passed_over[0] and "tcp" in step.passed_over[1]
