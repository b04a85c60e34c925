"""Health in time: every state comes of real probes through the model."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from ekslearn.elb import LoadBalancer, TargetGroup
from ekslearn.elb.group import health_check
from ekslearn.linux import Packet
from tests.elb.site import N1, N2, P0, P1, P2, PLACE, Site, node_port, steps

QUICK = {"interval_s": 10, "timeout_s": 5, "healthy": 3, "unhealthy": 2}


def states(site: Site) -> dict[str, str]:
    group = group_of(site)
    return {str(each.address): each.state for each in group.targets}


def group_of(site: Site) -> TargetGroup:
    return site.elb.balancers[PLACE].listeners[0].group


def wait(site: Site, seconds: float) -> None:
    site.cluster.sleep(seconds)
    site.elb.catch_up()


def test_one_success_makes_a_new_target_healthy_and_failures_take_the_threshold() -> None:
    site = Site()
    site.balancer("alb", [P1, P2], check=health_check("alb", **QUICK), settle=False)
    assert states(site) == {P1: "initial", P2: "initial"}
    wait(site, 0)
    assert states(site) == {P1: "healthy", P2: "healthy"}
    site.cluster.wire([f"n2$ iptables -I FORWARD -d {P2} -j DROP"])
    wait(site, 10)
    assert states(site)[P2] == "healthy"  # one failure isn't enough
    wait(site, 10)
    [_, second] = group_of(site).targets
    assert (second.state, second.reason) == ("unhealthy", "Target.Timeout")
    site.cluster.wire([f"n2$ iptables -D FORWARD -d {P2} -j DROP"])
    wait(site, 20)
    assert states(site)[P2] == "unhealthy"
    wait(site, 10)
    assert states(site) == {P1: "healthy", P2: "healthy"}
    assert site.elb.next_event() == site.elb.now() + 10


def test_settling_makes_no_check_late() -> None:
    """A new target is checked at once, then every interval, whenever one waits for it."""
    site = Site()
    site.balancer("alb", [P1, P2], check=health_check("alb", **QUICK), settle=False)
    began = site.elb.now()
    wait(site, 0)  # checked, and healthy
    wait(site, 4)
    site.elb.settle()
    assert [one.due for one in group_of(site).targets] == [began + 10, began + 10]
    late = site.elb.register(group_of(site), P0)
    site.elb.settle()
    assert (late.state, late.due) == ("healthy", began + 14)


def test_requests_are_lost_till_the_check_has_noticed() -> None:
    """Interval times threshold: the window the facts give for an endpoint that moved away."""
    site = Site(*node_port("n1", P1), *node_port("n2", P2))
    site.balancer("alb", ["n1", "n2"], check=health_check("alb", **QUICK))
    site.cluster.wire(["n1$ iptables -I INPUT -p tcp --dport 31380 -j DROP",
                       "n1$ iptables -t nat -D PREROUTING 1"])  # fmt: skip
    seen = []
    for _ in range(6):
        seen.append({site.trace().answer.split()[0] for _ in range(2)})
        wait(site, 5)
    late = {"504", "shop/p2"}
    assert seen[:3] == [late, late, late] and seen[-1] == {"shop/p2"}


def test_all_unhealthy_is_as_good_as_all_healthy() -> None:
    for kind, opened in ("alb", True), ("nlb", True), ("clb", False):
        site = Site(*node_port("n1", P1))
        site.balancer(kind, ["n1"])
        [target] = group_of(site).targets
        target.state, target.reason = "unhealthy", "Target.Timeout"
        trace = site.trace()
        assert (trace.verdict == "delivered") is opened, kind
        assert any("fail open" in row for row in steps(trace, "elb target")) is opened


def test_passed_over_says_why() -> None:
    site = Site()
    site.balancer("alb", [P0, P1, P2])
    group = group_of(site)
    group.targets[0].state, group.targets[0].reason = "unhealthy", "Target.Timeout"
    [step] = [one for one in site.trace().steps if one.stage == "elb target"]
    assert step.decision == f"forward to {P1}:8080"
    assert step.passed_over == (f"{P0}:8080 — Target.Timeout",
                                f"{P2}:8080 — the round robin says {P1}:8080")  # fmt: skip


def test_cross_zone() -> None:
    site = Site()
    site.balancer("nlb", [P2])
    trace = site.trace()  # to the address in us-east-1a
    assert trace.verdict == "dropped" and "there is no target" in trace.reason
    assert site.elb.balancers[PLACE].addresses() == [
        eni.public_ip for eni in list(site.elb.balancers[PLACE].enis.values())[1:]
    ]
    assert site.trace(zone=1).verdict == "delivered"
    group_of(site).cross_zone = True
    assert site.trace().verdict == "delivered"
    assert len(site.elb.balancers[PLACE].addresses()) == 2


def test_a_target_in_a_zone_that_is_not_enabled_is_unused() -> None:
    site = Site()
    site.balancer("nlb", [P1, P2], subnets=["lb-a"], cross_zone=True)
    assert states(site) == {P1: "healthy", P2: "unused"}
    [step] = [one for one in site.trace().steps if one.stage == "elb target"]
    assert step.passed_over == (f"{P2}:8080 — us-east-1b isn't enabled",)


def test_healthz_decides_for_nodes_with_local_endpoints() -> None:
    """A check on a port of its own, over HTTP: 200 or 503, as kube-proxy answers."""
    site = Site(*node_port("n1", P1, local=True))

    def says(status: str) -> Any:
        return lambda packet: (status, "")

    for node, status in ("n1", "200 OK"), ("n2", "503 Service Unavailable"):
        sockets = site.cluster.namespace(node).sockets
        sockets.listen(IPv4Address(0), 32100, "tcp", "kube-proxy", says(status))
    check = health_check("nlb", protocol="HTTP", port=32100, path="/healthz", interval_s=10,
                         healthy=2)  # fmt: skip
    site.balancer("nlb", ["n1", "n2"], check=check, cross_zone=True)
    assert states(site) == {N1: "healthy", N2: "unhealthy"}
    assert group_of(site).targets[1].reason == "Target.ResponseCodeMismatch"
    assert all(site.trace().answer == f"shop/p1 203.0.113.7 {40000 + at}" for at in range(4))


def test_draining() -> None:
    """New connections still come till the change has reached the balancer's nodes."""
    site = Site()
    balancer: LoadBalancer = site.balancer("nlb", [P1, P0], deregistration_delay_s=60)
    group = group_of(site)
    group.deregister(group.targets[0].address)
    assert states(site) == {P1: "draining", P0: "healthy"}
    wait(site, 29)
    before = {site.trace().answer.split()[0] for _ in range(8)}
    assert before == {"shop/p1", "shop/p0"}
    wait(site, 1)
    assert {site.trace().answer.split()[0] for _ in range(8)} == {"shop/p0"}
    flows = len(balancer.flows)
    [old] = [flow for flow in list(balancer.flows.values()) if str(flow.back.dst) == P1][:1]
    packet = Packet(src=old.front.src, dst=old.front.dst, protocol="tcp", sport=old.front.sport,
                    dport=443, flags="SYN")  # fmt: skip
    assert balancer.wants(packet) and len(balancer.flows) == flows
    wait(site, 29)
    assert P1 in states(site)
    wait(site, 1)
    assert states(site) == {P0: "healthy"}


def test_registering_a_draining_target_again() -> None:
    site = Site()
    site.balancer("alb", [P1])
    group = group_of(site)
    assert site.elb.register(group, P1) is group.targets[0]
    group.deregister(group.targets[0].address)
    site.elb.register(group, P1)
    assert states(site) == {P1: "initial"}


def test_the_check_comes_from_the_balancers_own_address() -> None:
    site = Site()
    site.balancer("nlb", [P1], preserve_client_ip=True)
    seen: list[str] = []
    site.cluster.namespace("shop/p1").sockets.receive = (  # type: ignore[method-assign]
        lambda skb: seen.append(str(skb.packet.src))
    )
    [target] = group_of(site).targets
    assert site.elb.check(group_of(site), target) == "Target.Timeout"
    target.zone = "us-east-1b"  # the node of the target's zone asks
    site.elb.check(group_of(site), target)
    assert seen == [str(site.lip()), str(site.lip(1))]


@pytest.mark.parametrize(("kind", "seconds"), [("alb", 4.0), ("nlb", 30.0)])
def test_the_rollout_race(kind: str, seconds: float) -> None:
    """A pod that stops at once loses what still comes; one that waits for the balancer doesn't."""
    site = Site()
    site.balancer(kind, [P1, P0])
    group = group_of(site)
    group.deregister(group.targets[0].address)
    site.cluster.wire([f"n1$ iptables -I FORWARD -d {P1} -j DROP"])  # SIGTERM, and no preStop
    lost = [site.trace().verdict for _ in range(8)]
    assert "dropped" in lost
    wait(site, seconds)
    assert {site.trace().verdict for _ in range(8)} == {"delivered"}
