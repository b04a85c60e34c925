"""Load balancers on the real kernel: every cell of the facts' tables, packet by packet."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from ekslearn.elb import Rule
from ekslearn.elb.group import health_check
from ekslearn.kernel import World
from ekslearn.vpc.security import SecurityGroup, SecurityRule
from tests.elb.site import N1, NODEPORT, P0, P1, P2, Site, node_port

verifying = importlib.import_module("ekslearn.kernel.verify")  # the name is the function's
HERE, LOCAL, THERE = (node_port("n1", pod, local=local)
                      for pod, local in ((P1, False), (P1, True), (P2, False)))  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as one:
        yield one


def compared(world: World, site: Site, *wanted: tuple[str, str]) -> list[str]:
    """Ask all at once; what each got, if both sides agree on everything."""
    world.build(site.cluster)
    rows = verifying.compare(site.cluster, list(wanted), world)
    assert all(row.ok for row in rows), "\n".join(str(row) for row in rows if not row.ok)
    ends = rows[: len(wanted)]
    return [next(line for line in row.kernel if line.startswith("outcome")) for row in ends]


# What each is about: balancer, lines, kind, targets, attributes.
CELLS: dict[str, tuple[list[str], str, list[str], dict[str, Any]]] = {
    "2.1 alb, instance, here": (HERE, "alb", ["n1"], {}),
    "2.1 alb, instance, elsewhere": (THERE, "alb", ["n1"], {}),
    "2.2 alb, instance, local": (LOCAL, "alb", ["n1"], {}),
    "2.3 alb, ip, second ENI": ([], "alb", [P1], {}),
    "2.3 alb, ip, primary ENI": ([], "alb", [P0], {}),
    "2.4 nlb, instance, here": (HERE, "nlb", ["n1"], {}),
    "2.4 nlb, instance, elsewhere": (THERE, "nlb", ["n1"], {}),
    "2.4 nlb, instance, local": (LOCAL, "nlb", ["n1"], {}),
    "2.5 nlb, instance, not preserved": (HERE, "nlb", ["n1"], {"preserve_client_ip": False}),
    "2.5 nlb, instance, local": (LOCAL, "nlb", ["n1"], {"preserve_client_ip": False}),
    "2.6 nlb, ip": ([], "nlb", [P1], {}),
    "2.6 nlb, ip, preserved": ([], "nlb", [P1], {"preserve_client_ip": True}),
    "2.6 nlb, ip, primary ENI": ([], "nlb", [P0], {"preserve_client_ip": True}),
    "2.7 clb, here": (HERE, "clb", ["n1"], {}),
    "2.7 clb, local": (LOCAL, "clb", ["n1"], {}),
    "several targets": ([], "alb", [P0, P1, P2], {}),
    "several targets of a flow": ([], "nlb", [P0, P1, P2], {"cross_zone": True}),
    "several targets, preserved": (
        [], "nlb", [P0, P1, P2], {"cross_zone": True, "preserve_client_ip": True}),
}  # fmt: skip


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell(cell: str, world: World) -> None:
    lines, kind, targets, given = CELLS[cell]
    site = Site(*lines)
    made = site.balancer(kind, targets, **given)
    public = [f"{eni.public_ip}:443/tcp" for eni in made.enis.values()]
    inside = [f"{eni.primary}:443/tcp" for eni in made.enis.values()]
    # A pod's own reset after a hairpin leaves by another ENI than the masqueraded connection did:
    # there the kernel drops it (nf_nat_oif_changed), and the model doesn't yet.
    pod = "shop/p2" if lines is THERE else "shop/p1"
    asked = [(source, end) for source, ends in (
        ("client", public), ("vpc-client", inside), (pod, inside), ("n2", inside),
    ) for end in ends for _ in range(2)]  # fmt: skip
    got = compared(world, site, *asked)
    assert got.count("outcome answered") >= 3, got


@pytest.mark.parametrize("preserve", [False, True])
@pytest.mark.parametrize("targets", [["n1"], ["n2"], [P0], [P1], [P2]], ids=str)
def test_hairpins(targets: list[str], preserve: bool, world: World) -> None:
    site = Site(*node_port("n1", P0, local=True), *node_port("n2", P2, local=True))
    site.balancer("nlb", targets, preserve_client_ip=preserve, scheme="internal", cross_zone=True)
    [got] = compared(world, site, ("shop/p1", f"{site.lip()}:443/tcp"))
    lost = preserve and targets in (["n1"], [P0], [P1])
    assert got == ("outcome nothing" if lost else "outcome answered")


@pytest.mark.parametrize("kind", ["alb", "clb", "nlb"])
def test_both_zones_answer_by_their_own_interface(kind: str, world: World) -> None:
    site = Site(*HERE, *node_port("n2", P2))
    made = site.balancer(kind, ["n1", "n2"], protocol="HTTP" if kind == "clb" else "")
    ends = [f"{eni.public_ip}:443/tcp" for eni in made.enis.values()]
    got = compared(world, site, *(("client", end) for end in ends))
    assert got == ["outcome answered"] * 2


@pytest.mark.parametrize(
    ("kind", "break_", "outcome"),
    [
        ("alb", [f"n1$ iptables -t nat -I KUBE-EXT -p tcp -j DNAT --to-destination {P1}:9"],
         "outcome answered"),
        ("alb", [f"n1$ iptables -A FORWARD -d {P1} -j DROP"], "outcome answered"),
        ("nlb", [f"n1$ iptables -t nat -I KUBE-EXT -p tcp -j DNAT --to-destination {P1}:9"],
         "outcome RST"),
        ("nlb", [f"n1$ iptables -A FORWARD -d {P1} -j DROP"], "outcome nothing"),
    ],
)  # fmt: skip
def test_what_fails_fails_alike(kind: str, break_: list[str], outcome: str, world: World) -> None:
    site = Site(*HERE)
    site.balancer(kind, ["n1"])
    site.cluster.wire(break_)
    assert compared(world, site, ("client", "198.18.0.1:443/tcp")) == [outcome]


def test_no_target(world: World) -> None:
    for kind, outcome in ("alb", "outcome answered"), ("clb", "outcome answered"), (
        "nlb", "outcome nothing"):  # fmt: skip
        site = Site()
        site.balancer(kind, [], target_type="instance")
        assert compared(world, site, ("client", "198.18.0.1:443/tcp")) == [outcome]


def test_no_rule_takes_the_request(world: World) -> None:
    site = Site()
    made = site.balancer("alb", [P0])
    group = made.listeners[0].group
    cart = Rule(group=group, paths=("/cart",))
    made.add_listener("HTTP", 80, group, [cart], answers_404=True)
    assert compared(world, site, ("client", "198.18.0.1:80/tcp")) == ["outcome answered"]


def test_datagrams_and_their_errors(world: World) -> None:
    site = Site()
    made = site.balancer("nlb", [P1], protocol="UDP", port=53, target_type="ip")
    [target] = made.listeners[0].group.targets
    for port, outcome in (53, "outcome answered"), (54, "outcome icmp 3/3 from 198.18.0.1"):
        target.port = port
        got = compared(world, site, ("client", "198.18.0.1:53/udp"))
        assert got == [outcome]


def test_a_rejection_is_turned_back_to_the_balancer_of_its_flow_alone(world: World) -> None:
    """One client's errors from one node: about what it sent itself, and through the balancer."""
    site = Site(f"n1$ iptables -A INPUT -p tcp -m tcp --dport {NODEPORT} -j REJECT")
    site.balancer("nlb", ["n1"])
    lip = site.lip()
    got = compared(world, site, *(("vpc-client", f"{ip}:{port}/tcp") for ip, port in (
        (lip, 443), (N1, NODEPORT), (lip, 443))))  # fmt: skip
    through = f"outcome icmp 3/3 from {lip}"
    assert got == [through, f"outcome icmp 3/3 from {N1}", through]


@pytest.mark.parametrize("admits", [True, False])
def test_security_groups_name_the_balancer(admits: bool, world: World) -> None:
    anyone = SecurityGroup("anyone", [SecurityRule(protocol="tcp", from_port=443)])
    site = Site(*HERE)
    check = health_check("nlb", interval_s=10)
    site.balancer("nlb", ["n1"], groups=[anyone], check=check)
    node = next(each for each in site.cluster.vpc.enis.values() if str(each.primary) == N1)
    rule = SecurityRule(protocol="tcp", from_port=NODEPORT, group="anyone" if admits else "node")
    node.security_groups = [SecurityGroup("node", [rule])]
    got = compared(world, site, ("client", "198.18.0.1:443/tcp"), ("n2", f"{N1}:{NODEPORT}/tcp"))
    assert got == ["outcome answered" if admits else "outcome nothing", "outcome nothing"]


def test_drawn_ports(world: World) -> None:
    """A pod to the public name: the node and the NAT gateway translate it first."""
    site = Site(*node_port("n1", P0, local=True))
    site.balancer("nlb", ["n1"])
    site.balancer("alb", [P0], place="lb/shop/other")
    got = compared(
        world, site, ("shop/p1", "198.18.0.1:443/tcp"), ("shop/p1", "198.18.0.3:443/tcp")
    )
    assert got == ["outcome answered"] * 2


@pytest.mark.parametrize(
    ("kind", "targets", "given"),
    [("nlb", ["n1", "n2"], {}), ("alb", [P1, P2], {}),
     ("nlb", [P0, P1], {"preserve_client_ip": True})],
)  # fmt: skip
def test_verify_of_all_there_is(
    kind: str, targets: list[str], given: dict[str, Any], world: World
) -> None:
    """Every place asks every other, balancers among them: every packet on every interface."""
    site = Site(*LOCAL, *node_port("n2", P2))
    site.balancer(kind, targets, **given)
    report = verifying.verify(site.cluster, world=world)
    assert report.ok, report.text
    asked = [row for row in report.rows if row.step.startswith("probe client -> 198.18.0.")]
    assert len(asked) == 8 and all(row.proof == "AWS as documented" for row in asked)
    assert sum("outcome answered" in row.kernel for row in asked) >= 1


SERVICE = """\
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  externalTrafficPolicy: POLICY
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 31380}]
"""


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
@pytest.mark.parametrize(
    ("kind", "given"),
    [("alb", {}), ("clb", {}), ("nlb", {}), ("nlb", {"preserve_client_ip": False})],
)  # fmt: skip
def test_kube_proxys_own_rules(kind: str, given: dict[str, Any], policy: str, world: World) -> None:
    """Node ports of a real Service with three endpoints, whose dice fall alike on both sides."""
    site = Site(more=SERVICE.replace("POLICY", policy))
    made = site.balancer(kind, ["n1", "n2"], **given)
    public = [f"{eni.public_ip}:443/tcp" for eni in made.enis.values()]
    got = compared(world, site, *(("client", end) for end in public for _ in range(8)))
    assert got == ["outcome answered"] * 16
    places = {site.trace(zone=zone).request[-1].place for zone in (0, 1) for _ in range(8)}
    assert places == {"shop/p0", "shop/p1", "shop/p2"}


def test_a_balancer_that_does_something_else_is_noticed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another target, no turning back, another status: each alone makes a row differ."""
    balancer = importlib.import_module("ekslearn.kernel.balancer")
    steering, proxied = balancer.steering, balancer.proxied

    def changed(old: str, new: str) -> Any:
        return lambda *given: [(place, words, text.replace(old, new))
                               for place, words, text in steering(*given)]  # fmt: skip

    faults: list[tuple[str, str, Any]] = [
        ("nlb", "steering", changed(f"--to-destination {P1}:8080", f"--to-destination {P0}:8080")),
        ("nlb", "steering", changed("-g turned-far1", "-j RETURN")),
        ("alb", "proxied", lambda *given: (P0, *proxied(*given)[1:])),
        ("alb", "proxied", lambda *given: ("", 0, 0, "503 Service Unavailable")),
    ]
    for kind, name, fault in faults:
        site = Site()
        site.balancer(kind, [P1], **({"preserve_client_ip": True} if kind == "nlb" else {}))
        world.build(site.cluster)
        wanted = [("client", "198.18.0.1:443/tcp")]
        assert all(row.ok for row in verifying.compare(site.cluster, wanted, world))
        world.build(site.cluster)
        with monkeypatch.context() as patch:
            patch.setattr(balancer, name, fault)
            rows = verifying.compare(site.cluster, wanted, world)
        assert not rows[0].ok, (kind, name)
