"""Defaults and refusals: each as AWS has it, said in one sentence with its code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ekslearn import EkslearnError
from ekslearn.elb import Elb, Rule
from ekslearn.elb.group import health_check
from ekslearn.vpc.error import rows
from ekslearn.vpc.security import SecurityGroup
from tests.elb.site import P1, Site, cluster


@pytest.mark.parametrize(
    ("protocol", "target_type", "on"),
    [
        ("TCP", "instance", True), ("TLS", "instance", True), ("UDP", "instance", True),
        ("TCP", "ip", False), ("TLS", "ip", False), ("UDP", "ip", True), ("TCP_UDP", "ip", True),
    ],
)  # fmt: skip
def test_client_ip_preservation_by_default(protocol: str, target_type: str, on: bool) -> None:
    made = Elb(cluster()).create_target_group(
        "g", "nlb", protocol=protocol, target_type=target_type, port=80
    )
    assert made.preserve_client_ip is on
    assert made.deregistration_delay_s == 300 and not made.proxy_protocol and not made.sticky


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("alb", {}, ("HTTP", 30, 5, 5, 2)), ("nlb", {}, ("TCP", 30, 10, 5, 2)),
        ("nlb", {"protocol": "HTTP"}, ("HTTP", 30, 6, 5, 2)),
        ("nlb", {"protocol": "HTTPS"}, ("HTTPS", 30, 10, 5, 2)),
        ("clb", {}, ("TCP", 30, 5, 10, 2)),
        ("nlb", {"interval_s": 10, "unhealthy": 3}, ("TCP", 10, 10, 5, 3)),
        ("alb", {"interval_s": 15, "healthy": 2}, ("HTTP", 15, 5, 2, 2)),  # the controller's
    ],
)  # fmt: skip
def test_health_checks_by_default(kind: str, given: Any, expected: tuple[Any, ...]) -> None:
    made = health_check(kind, **given)
    assert expected == (
        made.protocol, made.interval_s, made.timeout_s, made.healthy, made.unhealthy
    )  # fmt: skip
    [codes] = made.matcher
    assert (399 in codes) is (kind == "nlb") and 200 in codes


@pytest.mark.parametrize(("kind", "on"), [("alb", True), ("nlb", False), ("clb", False)])
def test_cross_zone_by_default(kind: str, on: bool) -> None:
    made = Elb(cluster()).create_load_balancer("lb/a/b", kind, ["lb-a", "lb-b"])
    assert made.cross_zone is on


def test_its_enis() -> None:
    site = Site()
    for kind, said, checks in (
        ("alb", "ELB app/b", True), ("nlb", "ELB net/b", False), ("clb", "ELB b", True),
    ):  # fmt: skip
        made = site.elb.create_load_balancer(f"lb/{kind}/b", kind, ["lb-a", "lb-b"])
        assert [eni.description for eni in made.enis.values()] == [said] * 2
        assert all(eni.source_dest_check is checks for eni in made.enis.values())
        assert all(eni.public_ip for eni in made.enis.values())
        assert [str(eni.subnet.zone) for eni in made.enis.values()] == ["us-east-1a", "us-east-1b"]
        shown = site.cluster.run(made.place, "ip -o addr show").stdout
        assert all(str(eni.primary) in shown for eni in made.enis.values())
    inner = site.elb.create_load_balancer("lb/a/in", "nlb", ["private-a"], scheme="internal")
    assert inner.addresses() == [eni.primary for eni in inner.enis.values()]
    assert site.cluster.vpc.enis[next(iter(inner.enis.values())).eni_id].public_ip is None


def group(elb: Elb, kind: str = "nlb", **given: Any) -> Any:
    given = {"protocol": {"alb": "HTTP", "nlb": "TCP", "clb": "TCP"}[kind], "port": 80} | given
    return elb.create_target_group(f"g{len(elb.groups)}", kind, **given)


def balancer(elb: Elb, kind: str = "nlb", *subnets: str, **given: Any) -> Any:
    place = f"lb/x/b{len(elb.balancers)}"
    return elb.create_load_balancer(place, kind, subnets or ("lb-a", "lb-b"), **given)


def used_twice(elb: Elb) -> None:
    shared = group(elb)
    balancer(elb).add_listener("TCP", 80, shared)
    balancer(elb).add_listener("TCP", 80, shared)


def port_twice(elb: Elb, first: str = "TCP", second: str = "TCP_UDP") -> None:
    made = balancer(elb)
    made.add_listener(first, 80, group(elb, protocol=first))
    made.add_listener(second, 80, group(elb, protocol=second))


def other_groups(elb: Elb, *before: SecurityGroup, after: tuple[SecurityGroup, ...] = ()) -> None:
    elb.set_security_groups(balancer(elb, groups=before).place, after)


def filled(elb: Elb, count: int) -> Elb:
    """A subnet with so many addresses taken of its eleven."""
    for _ in range(count):
        elb.site.ec2.create_network_interface(elb.site.vpc.subnets["tiny"])
    return elb


SG = SecurityGroup("sg")
REFUSALS: dict[str, list[tuple[Callable[[Elb], object], str]]] = {
    "no kind": [
        (lambda elb: elb.create_load_balancer("lb/a/b", "gwlb", ["lb-a"]), "not 'gwlb'"),
        (lambda elb: elb.create_target_group("g", "gwlb", protocol="TCP", port=1), "not 'gwlb'"),
    ],
    "no scheme": [(lambda elb: balancer(elb, scheme="public"), "not 'public'")],
    "balancer twice": [(lambda elb: [elb.create_load_balancer("lb/a/b", "nlb", ["lb-a"])
                                     for _ in range(2)], "lb/a/b")],
    "group twice": [(lambda elb: [elb.create_target_group("g", "alb", protocol="HTTP", port=1)
                                  for _ in range(2)], "group g")],
    "no balancer": [(lambda elb: elb.delete_load_balancer("lb/a/b"), "no lb/a/b")],
    "no subnet": [(lambda elb: balancer(elb, "nlb", "lb-z"), "'lb-z'; there are lb-a")],
    "one zone": [(lambda elb: balancer(elb, "alb", "lb-a"), "two subnets"),
                 (lambda elb: elb.create_load_balancer("lb/a/b", "nlb", []), "two subnets")],
    "same zone": [(lambda elb: balancer(elb, "nlb", "lb-a", "private-a"), "same Availability"),
                  (lambda elb: balancer(elb, "alb", "lb-a", "private-a", "lb-b"), "same")],
    "subnet full": [(lambda elb: balancer(filled(elb, 4), "alb", "lb-a", "tiny"), "8 free"),
                    (lambda elb: balancer(filled(elb, 11), "nlb", "tiny"), "1 free")],
    "no igw": [(lambda elb: balancer(elb, "nlb", "private-a"), "private-a has no route")],
    "cross-zone": [(lambda elb: balancer(elb, "alb", cross_zone=False), "always true")],
    "no groups": [(lambda elb: other_groups(elb, after=(SG,)), "made without")],
    "all groups": [(lambda elb: other_groups(elb, SG), "left without")],
    "listener protocol": [
        (lambda elb: balancer(elb).add_listener("HTTP", 80, group(elb)), "not 'HTTP'"),
        (lambda elb: balancer(elb, "alb").add_listener("UDP", 80, group(elb, "alb")), "'UDP'"),
    ],
    "listener twice": [(port_twice, "port 80"),
                       (lambda elb: port_twice(elb, "UDP", "TCP_UDP"), "port 80"),
                       (lambda elb: port_twice(elb, "TCP", "UDP"), "port 80")],
    "other kind": [(lambda elb: balancer(elb, "alb").add_listener("HTTP", 80, group(elb)), "nlb")],
    "other balancer": [(used_twice, "one balancer is all")],
    "other protocol": [
        (lambda elb: balancer(elb).add_listener("UDP", 80, group(elb)), "speaks TCP"),
        (lambda elb: balancer(elb, "clb").add_listener("HTTP", 80, group(elb, "clb")), "TCP"),
    ],
    "number": [
        (lambda elb: group(elb, port=0), "Port must be 1 to 65535: 0"),
        (lambda elb: balancer(elb).add_listener("TCP", 65536, group(elb)), "65536"),
        (lambda elb: group(elb, deregistration_delay_s=3601), "0 to 3600"),
        (lambda elb: health_check("nlb", interval_s=4, timeout_s=2), "5 to 300"),
        (lambda elb: health_check("nlb", timeout_s=1), "2 to 120"),
        (lambda elb: health_check("nlb", healthy=1), "2 to 10"),
        (lambda elb: health_check("nlb", unhealthy=11), "2 to 10"),
        (lambda elb: health_check("nlb", port=70000), "HealthCheckPort"),
        (lambda elb: health_check("nlb", port=0), "HealthCheckPort"),
        (lambda elb: health_check("clb", interval_s=90, timeout_s=61), "2 to 60: 61"),
        (lambda elb: health_check("nlb", matcher=(range(200, 601),)), "200 to 599: 600"),
        (lambda elb: health_check("alb", matcher=(range(200, 201), range(500, 501))), "499: 500"),
        (lambda elb: health_check("alb", matcher=(range(199, 201),)), "200 to 499: 199"),
    ],
    "timeout": [(lambda elb: health_check("alb", interval_s=5, timeout_s=5), "too long"),
                (lambda elb: health_check("nlb", interval_s=9), "(10 s) is too long")],
    "check protocol": [(lambda elb: health_check("alb", protocol="TCP"), "HTTP, HTTPS"),
                       (lambda elb: health_check("nlb", protocol="UDP"), "TCP, HTTP, HTTPS")],
    "check path": [(lambda elb: health_check("alb", path="live"), "'live'"),
                   (lambda elb: health_check("clb", path=""), "''")],
    "group protocol": [(lambda elb: group(elb, "alb", protocol="TCP"), "HTTP, HTTPS, not 'TCP'")],
    "target type": [(lambda elb: group(elb, "clb", target_type="ip"), "instance, not 'ip'"),
                    (lambda elb: group(elb, "nlb", target_type="alb"), "aren't modelled")],
    "no attribute": [
        (lambda elb: group(elb, "alb", preserve_client_ip=True), "preserve_client_ip.enabled"),
        (lambda elb: group(elb, "clb", preserve_client_ip=False), "preserve_client_ip.enabled"),
        (lambda elb: group(elb, "alb", proxy_protocol=True), "proxy_protocol_v2.enabled"),
        (lambda elb: group(elb, "clb", cross_zone=True), "cross_zone.enabled"),
    ],
    "cookies": [(lambda elb: group(elb, "alb", sticky=True), "cookies")],
    "preserve": [(lambda elb: group(elb, protocol="UDP", preserve_client_ip=False), "for UDP"),
                 (lambda elb: group(elb, protocol="TCP_UDP", target_type="ip",
                                    preserve_client_ip=False), "for TCP_UDP")],
    "no instance": [(lambda elb: elb.register(group(elb), "n9"), "'n9'")],
    "no address": [(lambda elb: elb.register(group(elb, target_type="ip"), "n1"), "'n1'")],
    "far address": [(lambda elb: elb.register(group(elb, target_type="ip"), "8.8.8.8"), "8.8.8.8")],
    "no group": [(lambda elb: elb.target_group("web"), "there is no 'web'; there are none"),
                 (lambda elb: [group(elb, "clb"), elb.target_group("g0")], "there is no 'g0'")],
    "rules": [(lambda elb: balancer(elb, "nlb", "lb-a").add_listener(
        "TCP", 80, (to := group(elb)), [Rule(group=to)]), "no Application Load Balancer")],
    "no target": [(lambda elb: group(elb).deregister("10.0.0.1"), "10.0.0.1:80")],
}  # fmt: skip


@pytest.mark.parametrize("row", rows("elb_errors.csv"), ids=lambda row: row["refusal"])
def test_each_refusal(row: dict[str, str]) -> None:
    """With its code and in one sentence; and what was refused is not there afterwards."""
    for act, word in REFUSALS[row["refusal"]]:
        elb = Elb(cluster())
        with pytest.raises(EkslearnError) as caught:
            act(elb)
        said = str(caught.value)
        assert said.startswith(f"{row['code']}: ") and word in said and "\n" not in said


@pytest.mark.parametrize(
    ("rule", "takes", "leaves"),
    [
        ({}, ["a/", "/", "a/b?c"], []),
        ({"paths": ("/foo", "/foo/*")}, ["/foo", "/foo/", "/foo/bar"], ["/foobar", "/", "/Foo"]),
        ({"paths": ("/foo",)}, ["/foo"], ["/foo/", "/foo/bar"]),
        ({"paths": ("/img*.pn?",)}, ["/img/a.png", "/img.pn1"], ["/img.pn", "/img.pngs"]),
        ({"paths": ("/[a]",)}, ["/[a]"], ["/a"]),
        ({"host": "*.Example.com"}, ["a.example.COM/", "a.b.example.com/"], ["example.com/", "/"]),
        ({"host": "example.com"}, ["EXAMPLE.com/x"], ["a.example.com/"]),
    ],
)
def test_what_a_rule_takes(rule: dict[str, Any], takes: list[str], leaves: list[str]) -> None:
    """As the guide of Application Load Balancers has it, "Condition types for listener rules"."""
    made = Rule(group=group(Elb(cluster()), "alb"), **rule)
    for wanted, urls in (True, takes), (False, leaves):
        for url in urls:
            host, _, path = url.partition("/")
            assert made.takes(host, f"/{path}") is wanted, url


def test_what_is_asked_for_is_no_part_of_the_path() -> None:
    elb = Elb(cluster())
    rule = Rule(group=group(elb, "alb"), paths=("/foo",))
    made = balancer(elb, "alb").add_listener("HTTP", 80, group(elb, "alb"), [rule])
    assert made.goal("GET http://x/foo?a=/b") is rule.group
    assert made.goal("GET http://x/foo/b") is made.group


def test_nothing_is_left_of_a_refused_balancer() -> None:
    made = cluster()
    before = len(made.vpc.enis), made.places, len(made.lines)
    with pytest.raises(EkslearnError):
        Elb(made).create_load_balancer("lb/a/b", "alb", ["lb-a", "private-b"])
    assert (len(made.vpc.enis), made.places, len(made.lines)) == before


def test_a_deleted_balancer_gives_its_addresses_back() -> None:
    site = Site()
    free = site.cluster.vpc.subnets["lb-a"].free
    made = site.balancer("alb", [P1])
    assert site.cluster.vpc.subnets["lb-a"].free == free - 1
    used = made.listeners[0].group
    site.elb.delete_load_balancer(made.place)
    assert site.cluster.vpc.subnets["lb-a"].free == free and made.place not in site.cluster.places
    assert [each.state for each in used.targets] == ["unused"]
    assert site.cluster.trace("client", "198.18.0.1:443").verdict == "dropped"
    site.balancer("nlb", [P1], place="lb/shop/again")
    assert site.trace(place="lb/shop/again").verdict == "delivered"
