"""Trace: the contract's JSON, the verdicts, and what every step says."""

from __future__ import annotations

import json

import pytest

from ekslearn import EkslearnError
from ekslearn.cluster import Lab

from .linux.labs import chain, pair

STEP_KEYS = ["place", "stage", "decision", "because", "passed_over"]
SIGHTING_KEYS = ["place", "interface", "direction", "src", "sport", "dst", "dport", "protocol",
                 "ttl"]  # fmt: skip


def test_the_json_has_the_contracts_keys_and_nothing_else() -> None:
    found = json.loads(json.dumps(chain().trace("left", "right:80").to_dict()))
    assert list(found) == ["scenario", "verdict", "reason", "request", "reply", "steps"]
    for sighting in found["request"] + found["reply"]:
        assert list(sighting) == SIGHTING_KEYS
    assert all(list(step) == STEP_KEYS for step in found["steps"])
    assert found["request"][0] == {
        "place": "left", "interface": "eth0", "direction": "out", "src": "10.0.1.2",
        "sport": 40000, "dst": "10.0.2.2", "dport": 80, "protocol": "tcp", "ttl": 64,
    }  # fmt: skip


def test_icmp_has_no_ports_but_type_and_code() -> None:
    found = pair().trace("red", "blue").to_dict()
    assert (found["request"][0]["sport"], found["request"][0]["dport"]) == (None, None)
    assert [s["icmp"] for s in found["request"] + found["reply"]] == [[8, 0]] * 2 + [[0, 0]] * 2


@pytest.mark.parametrize(
    ("line", "verdict", "reason"),
    [
        ("", "delivered", "10.0.2.2:80 answered"),
        ("router$ iptables -A FORWARD -j DROP", "dropped", "router: filter FORWARD: drop"),
        ("router$ iptables -P FORWARD DROP", "dropped",
         "router: filter FORWARD: no rule decided: policy DROP"),
        ("router$ iptables -A FORWARD -j REJECT", "rejected",
         "router: filter FORWARD: drop, and tell the sender"),
        ("router$ iptables -A FORWARD -p tcp -j REJECT --reject-with tcp-reset", "rejected",
         "router: filter FORWARD: drop, and tell the sender"),
        ("right$ iptables -A INPUT -j REJECT", "rejected",
         "right: filter INPUT: drop, and tell the sender"),
        ("left$ iptables -A OUTPUT -j DROP", "dropped", "left: filter OUTPUT: drop"),
        ("right$ ip route del default", "dropped", "reply: right: no route to 10.0.1.2"),
        ("router$ iptables -A FORWARD -s 10.0.2.2 -j DROP", "dropped",
         "reply: router: filter FORWARD: drop"),
        ("router$ ip route add unreachable 10.0.2.2", "unreachable", "router: unreachable route"),
        ("router$ ip link set vr down", "unreachable", "router: no route to the destination"),
    ],
)  # fmt: skip
def test_verdicts_and_reasons(line: str, verdict: str, reason: str) -> None:
    trace = chain(line).trace("left", "10.0.2.2:80")
    assert (trace.verdict, trace.reason[: len(reason)]) == (verdict, reason)


def test_every_row_named_stands_in_the_listing_beside_it() -> None:
    lab = chain("""
        router$ iptables -t nat -A POSTROUTING -o vr -j MASQUERADE
        router$ iptables -A FORWARD -p tcp -m comment --comment "a note" -j ACCEPT
        router$ iptables -t mangle -A PREROUTING -i vl -j MARK --set-mark 7
        router$ ip rule add fwmark 7 table 9 prio 100
        router$ ip route add default via 10.0.2.2 table 9
    """)
    trace = lab.trace("left", "10.0.2.2:80")
    named = [step for step in trace.steps if step.because]
    assert {step.stage for step in named} >= {
        "rule", "route", "neighbor", "mangle PREROUTING", "nat POSTROUTING", "filter FORWARD",
        "conntrack POSTROUTING",
    }  # fmt: skip
    for step in named:
        assert step.lit is not None, step
        assert step.rows[step.lit] == step.because
    decided = [step.because for step in trace.steps if step.place == "router"]
    assert "100: from all fwmark 0x7 lookup 9" in decided
    assert "default via 10.0.2.2 dev vr" in decided


def test_the_header_shows_the_mark_and_the_translation() -> None:
    lab = chain("router$ iptables -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT "
                "--to-destination 10.0.2.2:80")  # fmt: skip
    trace = lab.trace("left", "10.0.1.1:8080")
    assert trace.verdict == "delivered"
    heads = [(step.header["dst"], step.header["dport"]) for step in trace.steps
             if step.stage == "conntrack PREROUTING"]  # fmt: skip
    assert heads == [("10.0.2.2", 80)]


@pytest.mark.parametrize("goal", ["green", "10.0.0", "10.0.0.300", "left:0", "left:80/sctp",
                                  "left:99999", "", "left:http"])  # fmt: skip
def test_a_destination_that_is_none(goal: str) -> None:
    with pytest.raises(EkslearnError):
        chain().trace("left", goal)


def test_a_bare_namespace_has_no_containers() -> None:
    with pytest.raises(EkslearnError, match="has no container 'web'; ask from left"):
        chain().trace("left:web", "right")


def test_chains_can_be_decided_again_from_what_was_passed_over() -> None:
    """Every rule passed over differs from the packet in the point its reason names."""
    lab = chain("""
        router$ iptables -A FORWARD -s 10.9.0.0/16 -j DROP
        router$ iptables -A FORWARD -p udp -j DROP
        router$ iptables -A FORWARD -p tcp --dport 81 -j DROP
        router$ iptables -A FORWARD -i vr -j DROP
        router$ iptables -A FORWARD -m mark --mark 5 -j DROP
        router$ iptables -A FORWARD -p tcp -j ACCEPT
        router$ iptables -A FORWARD -j DROP
    """)
    step = next(s for s in lab.trace("left", "right:80").steps if s.stage == "filter FORWARD")
    assert step.because == "-A FORWARD -p tcp -j ACCEPT"
    reasons = [row.rpartition(" — ")[2] for row in step.passed_over]
    assert reasons == [
        "the source is 10.0.1.2", "the protocol is tcp", "the destination port is 80",
        "the packet goes in by vl", "the packet's mark is 0x0",
    ]  # fmt: skip


def test_who_tells_is_whom_the_asker_hears_not_whom_the_wire_shows() -> None:
    """Behind a DNAT in OUTPUT the error's sender is translated back on its way up."""
    lab = chain(
        "left$ iptables -t nat -A OUTPUT -d 172.20.0.10 -p udp -j DNAT"
        " --to-destination 10.0.2.2:9\nleft$ ip route add 172.20.0.10 via 10.0.1.1"
    )
    trace = lab.trace("left", "172.20.0.10:53/udp")
    assert (trace.verdict, trace.teller) == ("refused", "172.20.0.10")
    assert trace.reply[-1].src == "10.0.2.2"


CHANGES = (
    "ip link set vl name other", "ip link set vr down", "ip route flush table main",
    "ip route add blackhole 10.0.2.0/25", "ip rule add prio 5 lookup 9", "ip rule del prio 32767",
    "iptables -F", "iptables -t nat -F", "iptables -P FORWARD DROP", "ip neigh flush all",
    "conntrack -F", "ip addr flush dev vr", "ping -c1 10.0.2.2",
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_trace_read_later_says_what_was_so_when_it_was_made(change: str) -> None:
    def made() -> Lab:
        return chain("router$ iptables -A FORWARD -p tcp -j ACCEPT\n"
                     "router$ iptables -t nat -A POSTROUTING -o vr -j MASQUERADE\n"
                     "router$ ip rule add iif nowhere lookup 7")  # fmt: skip

    read = made().trace("left", "right:80").events
    lab = made()
    trace = lab.trace("left", "right:80")
    assert lab.run("router", change).status == 0
    assert trace.events == read


def test_a_link_that_goes_without_a_command_is_still_told_of() -> None:
    read = chain().trace("left", "right:80").events
    lab = chain()
    trace, router = lab.trace("left", "right:80"), lab.namespace("router")
    router.remove_link(router.links["vr"])
    assert trace.events == read


def test_a_copy_of_a_lab_and_its_trace_go_their_own_ways() -> None:
    lab = chain()
    trace = lab.trace("left", "right:80")
    twin = lab.copy()
    twin.line("router$ ip link set vr name other")
    assert all("other" not in row for step in trace.steps for row in step.rows)
