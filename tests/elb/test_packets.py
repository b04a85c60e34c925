"""Every wire of the facts' tables 2.1 to 2.8: source and destination, both ways, out of traces."""

from __future__ import annotations

from typing import Any

import pytest

from ekslearn.vpc.security import SecurityGroup, SecurityRule
from tests.elb.site import N1, N2, NODEPORT, P0, P1, P2, PLACE, Site, node_port, rows, steps

VIP, C = "198.18.0.1:443", "203.0.113.7:40000"
M = "*"  # a port that was drawn


def drawn(lines: list[str], *known: int) -> list[str]:
    """The rows without interfaces' hashes, and with * for ports that nobody names."""
    found = []
    for line in lines:
        place, interface, way, src, _, dst = line.split()
        ends = []
        for end in (src, dst):
            address, port = end.split(":")
            named = {443, 8080, NODEPORT, 40000, 53, *known}
            ends.append(f"{address}:{port if int(port) in named else M}")
        interface = "veth" if interface.startswith("eni") else interface
        found.append(f"{place} {interface} {way} {ends[0]} > {ends[1]}")
    return found


def walk(site: Site, source: str = "client", **given: Any) -> tuple[list[str], list[str]]:
    trace = site.trace(source, **given)
    assert trace.verdict == "delivered", trace.reason
    return drawn(rows(trace, "request")), drawn(rows(trace, "reply"))


def front(to: str) -> list[str]:
    return [f"client eth0 out {C} > {VIP}", f"{PLACE} eth0 in {C} > {to}:443"]


def test_2_1_alb_instance_cluster_pod_here() -> None:
    site = Site(*node_port("n1", P1))
    site.balancer("alb", ["n1"])
    request, reply = walk(site)
    lip = str(site.lip())
    assert request == [
        *front(lip), f"{PLACE} eth0 out {lip}:* > {N1}:31380", f"n1 eth0 in {lip}:* > {N1}:31380",
        f"n1 veth out {N1}:* > {P1}:8080", f"shop/p1 eth0 in {N1}:* > {P1}:8080",
    ]  # fmt: skip
    assert reply == [
        f"shop/p1 eth0 out {P1}:8080 > {N1}:*", f"n1 veth in {P1}:8080 > {N1}:*",
        f"n1 eth0 out {N1}:31380 > {lip}:*", f"{PLACE} eth0 in {N1}:31380 > {lip}:*",
        f"{PLACE} eth0 out {lip}:443 > {C}", f"client eth0 in {VIP} > {C}",
    ]  # fmt: skip


def test_2_1_alb_instance_cluster_pod_elsewhere() -> None:
    site = Site(*node_port("n1", P2))
    site.balancer("alb", ["n1"])
    request, reply = walk(site)
    lip = str(site.lip())
    assert request[3:] == [
        f"n1 eth0 in {lip}:* > {N1}:31380", f"n1 eth0 out {N1}:* > {P2}:8080",
        f"n2 eth1 in {N1}:* > {P2}:8080", f"n2 veth out {N1}:* > {P2}:8080",
        f"shop/p2 eth0 in {N1}:* > {P2}:8080",
    ]  # fmt: skip
    assert reply[2:5] == [
        f"n2 eth1 out {P2}:8080 > {N1}:*", f"n1 eth0 in {P2}:8080 > {N1}:*",
        f"n1 eth0 out {N1}:31380 > {lip}:*",
    ]  # fmt: skip


def test_2_2_alb_instance_local() -> None:
    """The pod sees the balancer, never the client; a node without endpoint is a 504."""
    site = Site(*node_port("n1", P1, local=True))
    site.balancer("alb", ["n1"])
    request, reply = walk(site)
    lip = str(site.lip())
    assert request[-2:] == [
        f"n1 veth out {lip}:* > {P1}:8080",
        f"shop/p1 eth0 in {lip}:* > {P1}:8080",
    ]
    assert reply[2] == f"n1 eth0 out {N1}:31380 > {lip}:*"
    site.cluster.wire(["n1$ iptables -t mangle -D PREROUTING 2"])  # no restoring of the mark: B03
    trace = site.trace()
    assert trace.verdict == "dropped" and "504 Gateway Timeout" in trace.answer


def test_2_3_alb_ip() -> None:
    site = Site()
    site.balancer("alb", [P1])
    request, reply = walk(site)
    lip = str(site.lip())
    assert request[2:] == [f"{where} {lip}:* > {P1}:8080" for where in (
        f"{PLACE} eth0 out", "n1 eth1 in", "n1 veth out", "shop/p1 eth0 in")]  # fmt: skip
    assert reply[:4] == [f"{where} {P1}:8080 > {lip}:*" for where in (
        "shop/p1 eth0 out", "n1 veth in", "n1 eth1 out", f"{PLACE} eth0 in")]  # fmt: skip


@pytest.mark.parametrize(
    ("pod", "local", "seen"), [(P1, False, N1), (P2, False, N1), (P1, True, "203.0.113.7")]
)
def test_2_4_nlb_instance_preserved(pod: str, local: bool, seen: str) -> None:
    site = Site(*node_port("n1", pod, local=local))
    site.balancer("nlb", ["n1"])
    request, reply = walk(site)
    lip = str(site.lip())
    assert request[:4] == [
        *front(lip), f"{PLACE} eth0 out {C} > {N1}:31380", f"n1 eth0 in {C} > {N1}:31380",
    ]  # fmt: skip
    assert request[-1].split()[3].split(":")[0] == seen
    assert reply[-4:] == [
        f"n1 eth0 out {N1}:31380 > {C}", f"{PLACE} eth0 in {N1}:31380 > {C}",
        f"{PLACE} eth0 out {lip}:443 > {C}", f"client eth0 in {VIP} > {C}",
    ]  # fmt: skip


@pytest.mark.parametrize("local", [False, True])
def test_2_5_nlb_instance_not_preserved(local: bool) -> None:
    site = Site(*node_port("n1", P1, local=local))
    site.balancer("nlb", ["n1"], preserve_client_ip=False)
    request, reply = walk(site)
    lip = str(site.lip())
    assert request[3] == f"n1 eth0 in {lip}:* > {N1}:31380"
    assert request[-1] == f"shop/p1 eth0 in {lip if local else N1}:* > {P1}:8080"
    assert reply[2] == f"n1 eth0 out {N1}:31380 > {lip}:*"


@pytest.mark.parametrize("preserve", [False, True])
def test_2_6_nlb_ip(preserve: bool) -> None:
    site = Site()
    site.balancer("nlb", [P1], preserve_client_ip=preserve)
    request, reply = walk(site)
    lip = str(site.lip())
    src = C if preserve else f"{lip}:*"
    assert request == [*front(lip), *(f"{where} {src} > {P1}:8080" for where in (
        f"{PLACE} eth0 out", "n1 eth1 in", "n1 veth out", "shop/p1 eth0 in"))]  # fmt: skip
    assert reply == [
        *(f"{where} {P1}:8080 > {src}" for where in (
            "shop/p1 eth0 out", "n1 veth in", "n1 eth1 out", f"{PLACE} eth0 in")),
        f"{PLACE} eth0 out {lip}:443 > {C}", f"client eth0 in {VIP} > {C}",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["alb", "nlb"])
@pytest.mark.parametrize("target", [P1, P2])
def test_each_node_of_a_balancer_uses_its_own_interface(kind: str, target: str) -> None:
    """What comes to the address in the second zone leaves, is checked and comes back by it."""
    site = Site()
    given = {"preserve_client_ip": True} if kind == "nlb" else {}
    made = site.balancer(kind, [target], cross_zone=True, **given)
    assert made.zones["us-east-1b"] is made.enis["eth1"]
    trace = site.trace(zone=1)
    here = [one.interface for one in (*trace.request, *trace.reply) if one.place == PLACE]
    assert trace.verdict == "delivered" and here == ["eth1"] * 4
    if kind == "alb":
        assert trace.answer.split()[1] == str(site.lip(1))


def test_2_6_without_its_rule_the_reply_leaves_by_the_wrong_eni() -> None:
    """B04: rule 1536 gone, and AWS drops what leaves eth0 with an address of eth1."""
    site = Site()
    site.balancer("nlb", [P1], preserve_client_ip=True)
    site.cluster.wire([f"n1$ ip rule del from {P1} prio 1536"])
    trace = site.trace()
    assert trace.verdict == "dropped" and "no address of the ENI it comes from" in trace.reason


def test_udp_is_always_preserved_and_its_errors_come_back() -> None:
    site = Site()
    site.balancer("nlb", [P1], protocol="UDP", port=53, target_type="ip")
    group = site.elb.balancers[PLACE].listeners[0].group
    group.targets[0].port = 53
    trace = site.trace(port=53, protocol="udp")
    assert trace.answer == "shop/p1 203.0.113.7 40000"
    group.targets[0].port = 54
    trace = site.trace(port=53, protocol="udp")
    assert trace.verdict == "refused"
    assert rows(trace, "reply")[-1].startswith("client eth0 in 198.18.0.1:")


def test_2_7_classic() -> None:
    site = Site(*node_port("n1", P1, local=True))
    site.balancer("clb", ["n1"], subnets=["lb-a"])
    request, _ = walk(site)
    assert request[-1] == f"shop/p1 eth0 in {site.lip()}:* > {P1}:8080"


@pytest.mark.parametrize(
    ("kind", "given", "read"),
    [
        ("alb", {}, "X-Forwarded-For: 203.0.113.7"),
        ("clb", {"protocol": "HTTP"}, "X-Forwarded-For: 203.0.113.7"),
        ("clb", {"proxy_protocol": True}, "PROXY TCP4 203.0.113.7 10.0.0.4 40000 443"),
        ("clb", {}, ""), ("nlb", {}, ""),
        ("nlb", {"proxy_protocol": True}, "PROXY v2 203.0.113.7:40000 -> 10.0.0.4:443"),
    ],
)  # fmt: skip
def test_what_the_process_can_read_beside_the_address(
    kind: str, given: dict[str, Any], read: str
) -> None:
    site = Site(*node_port("n1", P1))
    site.balancer(kind, ["n1"], **given)
    trace = site.trace()
    said = [one.decision for one in trace.steps
            if one.place == "shop/p1" and one.stage == "deliver"]  # fmt: skip
    assert trace.verdict == "delivered"
    assert said[0] == "web accepts on port 8080/tcp" + (f" and can read {read!r}" if read else "")


# 2.8, hairpins: a pod of the cluster asks the internal balancer of its own cluster


@pytest.mark.parametrize(
    ("caller", "targets", "preserve", "verdict"),
    [
        ("shop/p1", [P2], False, "delivered"), ("shop/p1", [P2], True, "delivered"),
        ("shop/p1", ["n2"], False, "delivered"), ("shop/p1", ["n2"], True, "delivered"),
        ("shop/p1", ["n1"], False, "delivered"), ("shop/p1", ["n1"], True, "dropped"),
        ("shop/p1", [P0], False, "delivered"), ("shop/p1", [P0], True, "dropped"),
        ("shop/p1", [P1], False, "delivered"), ("shop/p1", [P1], True, "dropped"),
    ],
)  # fmt: skip
def test_2_8_hairpins(caller: str, targets: list[str], preserve: bool, verdict: str) -> None:
    site = Site(*node_port("n1", P0, local=True), *node_port("n2", P2, local=True))
    site.balancer("nlb", targets, preserve_client_ip=preserve, scheme="internal", cross_zone=True)
    trace = site.trace(caller)
    assert trace.verdict == verdict, trace.reason
    if verdict == "dropped" and targets != [P1]:  # the answer never passes the balancer
        assert not any(row.startswith(PLACE) for row in rows(trace, "reply")[:-2])
        assert any(row.startswith("shop/p1 eth0 in") for row in rows(trace, "reply"))


def test_2_8_from_a_pod_to_the_public_name() -> None:
    """By the NAT gateway and the internet gateway: the balancer sees the gateway's address."""
    site = Site(*node_port("n1", P0, local=True))
    site.balancer("nlb", ["n1"])
    trace = site.trace("shop/p1")
    assert trace.answer.startswith("shop/p0 198.19.0.1 ")


# Security groups


def group(name: str, *rules: SecurityRule) -> SecurityGroup:
    return SecurityGroup(name, rules)


def test_a_preserved_flow_needs_the_client_or_the_balancers_group_at_the_node() -> None:
    anyone = group("anyone", SecurityRule(protocol="tcp", from_port=443))
    site = Site(*node_port("n1", P1))
    site.balancer("nlb", ["n1"], groups=[anyone])
    eni = next(each for each in site.cluster.vpc.enis.values() if str(each.primary) == N1)
    eni.security_groups = [group("node")]
    trace = site.trace()
    assert trace.verdict == "dropped" and "not admitted" in trace.reason
    rule = SecurityRule(protocol="tcp", from_port=NODEPORT, group="anyone")
    eni.security_groups = [group("node", rule)]
    assert site.trace().verdict == "delivered"


def test_without_groups_the_balancers_address_is_no_help_to_a_preserved_flow() -> None:
    """What lbc#3521 saw: the check passes by the subnet's CIDR, and the client doesn't."""
    site = Site(*node_port("n1", P1))
    site.balancer("nlb", ["n1"])
    eni = next(each for each in site.cluster.vpc.enis.values() if str(each.primary) == N1)
    eni.security_groups = [group("node", SecurityRule(cidr=site.lip_subnet()))]
    [target] = site.elb.balancers[PLACE].listeners[0].group.targets
    assert site.elb.check(site.elb.balancers[PLACE].listeners[0].group, target) == ""
    assert site.trace().verdict == "dropped"
    site = Site(*node_port("n1", P1))
    site.balancer("nlb", ["n1"], preserve_client_ip=False)
    eni = next(each for each in site.cluster.vpc.enis.values() if str(each.primary) == N1)
    eni.security_groups = [group("node", SecurityRule(cidr=site.lip_subnet()))]
    assert site.trace().verdict == "delivered"


def test_the_balancers_own_groups_say_who_may_ask() -> None:
    none = group("nobody", SecurityRule(protocol="tcp", from_port=80))
    for kind, targets in ("nlb", [P1]), ("alb", [P1]):
        site = Site()
        site.balancer(kind, targets, groups=[none])
        trace = site.trace()
        assert trace.verdict == "dropped" and trace.reason.startswith(PLACE)


# Steps


def test_the_balancer_says_which_target_and_why() -> None:
    site = Site(*node_port("n1", P1), *node_port("n2", P2))
    site.balancer("nlb", ["n1", "n2"])
    trace = site.trace()
    assert steps(trace, "elb listener") == [
        f"a new connection for {PLACE}-web | TCP:443 -> {PLACE}-web"
    ]
    [target] = [one for one in trace.steps if one.stage == "elb target"]
    assert target.decision == f"forward to {N1}:31380"
    assert target.because == f"{PLACE}-web: hash of the flow over 1 of 2 [model]"
    assert target.passed_over == (f"{N2}:31380 — it is in us-east-1b, and cross-zone is off",)
    assert steps(trace, "elb rewrite") == [f"{C} -> {N1}:31380 | preserve_client_ip.enabled=true"]
    [back] = steps(trace, "elb return")
    assert back.startswith(f"{site.lip()}:443 -> {C} | ") and back.endswith("[model]")


def test_a_port_without_listener_and_a_ping_get_no_answer_from_a_network_one() -> None:
    site = Site()
    site.balancer("nlb", [P1])
    assert site.trace(port=80).verdict == "dropped"
    assert site.cluster.trace("client", "198.18.0.1").verdict == "dropped"
    site = Site()
    site.balancer("alb", [P1])
    assert site.trace(port=80).verdict == "refused"


def test_one_flow_keeps_its_target_and_many_are_spread() -> None:
    site = Site()
    balancer = site.balancer("nlb", [P0, P1, P2], cross_zone=True)
    for _ in range(40):
        site.trace()
    goals = [str(flow.back.dst) for flow in balancer.flows.values()]
    assert {P0, P1, P2} == set(goals) and len(goals) == 40
    sticky = Site()
    balancer = sticky.balancer("nlb", [P0, P1, P2], cross_zone=True, sticky=True)
    for _ in range(10):
        sticky.trace()
    assert len({flow.back.dst for flow in balancer.flows.values()}) == 1


def test_a_proxy_goes_round() -> None:
    site = Site()
    site.balancer("alb", [P0, P1, P2])
    seen = [site.trace().answer.split()[0] for _ in range(6)]
    assert seen == ["shop/p0", "shop/p1", "shop/p2"] * 2


@pytest.mark.parametrize(
    ("kind", "protocol", "break_", "verdict", "status"),
    [
        ("alb", "HTTP", "refuse", "refused", "502 Bad Gateway"),
        ("alb", "HTTP", "drop", "dropped", "504 Gateway Timeout"),
        ("alb", "HTTP", "none", "refused", "503 Service Unavailable"),
        ("clb", "HTTP", "refuse", "refused", "504 Gateway Timeout"),
        ("clb", "HTTP", "none", "refused", "503 Service Unavailable"),
        ("clb", "TCP", "refuse", "refused", ""), ("clb", "TCP", "none", "refused", ""),
        ("clb", "TCP", "drop", "dropped", ""),
    ],
)  # fmt: skip
def test_what_a_browser_gets_if_the_target_fails(
    kind: str, protocol: str, break_: str, verdict: str, status: str
) -> None:
    site = Site(*node_port("n1", P1))
    site.balancer(kind, [] if break_ == "none" else ["n1"], protocol=protocol)
    lines = {
        "refuse": [f"n1$ iptables -t nat -I KUBE-EXT -p tcp -j DNAT --to-destination {P1}:9"],
        "drop": [f"n1$ iptables -A FORWARD -d {P1} -j DROP"],
    }
    site.cluster.wire(lines.get(break_, []))
    trace = site.trace()
    assert (trace.verdict, trace.answer) == (verdict, status)
    [said] = [one.decision for one in trace.steps if one.stage == "elb answer"]
    assert said in trace.reason
    assert said.startswith(f"answer {status}: " if status else "close the connection: ")


def test_a_copy_is_independent() -> None:
    site = Site()
    site.balancer("alb", [P1, P2])
    twin = site.cluster.copy()
    assert twin.trace("client", VIP).answer.split()[0] == "shop/p1"
    assert site.trace().answer.split()[0] == "shop/p1"
