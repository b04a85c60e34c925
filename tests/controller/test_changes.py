"""Balancers follow their objects: what a change asks for is there, and nothing of before is."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from ekslearn.cluster import Cluster
from ekslearn.controller.plan import INGRESS, SERVICE
from ekslearn.elb import LoadBalancer
from ekslearn.kubernetes import Endpoint, EndpointSlice, ServicePort
from ekslearn.scenario import load
from ekslearn.vpc.security import SecurityGroup
from tests.test_control import HEAD, KEEP_OUT, NLB, PODS, doors
from tests.test_control import INGRESS as SITE
from tests.test_control import SERVICE as WEB

PLACE = "lb/shop/web"
INTERNAL = HEAD.replace("private-a, cidr: 10.0.1.0/24, zone: us-east-1a",
                        "private-a, cidr: 10.0.1.0/24, zone: us-east-1a,"
                        ' tags: {kubernetes.io/role/internal-elb: "1"}')  # fmt: skip


def cluster(text: str) -> Cluster:
    made = load(text)
    assert isinstance(made, Cluster)
    return made


def changed(lab: Cluster, **fields: Any) -> LoadBalancer:
    """The balancer of shop/web once the Service has been changed."""
    lab.control.add_service(replace(lab.services["shop/web"], **fields))
    lab.settle()
    return lab.elb.balancers[PLACE]


def network() -> Cluster:
    return doors(WEB.format("web", "LoadBalancer", "", NLB))


def walls(lab: Cluster) -> dict[str, list[str]]:
    """The security groups that scenarios don't hold, and what they let in."""
    return {name: [str(rule) for rule in one.rules["ingress"]]
            for name, one in lab.vpc.security_groups.items() if name != "nodes"}  # fmt: skip


def test_a_new_port_of_a_service_is_a_new_listener() -> None:
    lab = network()
    before, [port] = lab.elb.balancers[PLACE], lab.services["shop/web"].ports
    more = ServicePort(port=81, target="http", name="more")
    made = changed(lab, ports=(port, more))
    assert made is before
    assert [one.port for one in made.listeners] == [80, 81]
    assert walls(lab)["k8s-shop-web"] == ["tcp 80 0.0.0.0/0", "tcp 81 0.0.0.0/0"]
    assert [lab.trace("browser", f"{PLACE}:{one}").verdict for one in (80, 81)] == 2 * ["delivered"]
    made = changed(lab, ports=(more,))
    assert [one.port for one in made.listeners] == [81]
    assert list(lab.elb.groups) == ["shop/web web:81"]
    assert walls(lab)["k8s-shop-web"] == ["tcp 81 0.0.0.0/0"]
    assert [str(one) for one in lab.vpc.security_groups["nodes"].rules["ingress"]] == [
        "all nodes", f"tcp {lab.services['shop/web'].ports[0].node_port} k8s-traffic",
    ]  # fmt: skip


def test_a_classic_one_stops_to_listen_on_a_port_that_has_gone() -> None:
    lab = doors(WEB.format("web", "LoadBalancer", "", ""))
    [port] = lab.services["shop/web"].ports
    made = changed(lab, ports=(replace(port, port=81, node_port=0),))
    assert [one.port for one in lab.namespace(PLACE).sockets.listeners] == [81, 81]
    address = made.addresses()[0]
    assert lab.trace("browser", f"{address}:80/tcp").verdict != "delivered"
    assert lab.trace("browser", f"{address}:81/tcp").verdict == "delivered"


def test_another_policy_is_another_check_of_the_same_balancer() -> None:
    lab = network()
    before = lab.elb.balancers[PLACE]
    made = changed(lab, external_policy="Local")
    check = lab.services["shop/web"].health_check_node_port
    assert made is before and made.listeners[0].group.check.port == check
    trace = lab.trace("browser", f"{PLACE}:80")
    assert trace.answer.endswith(f"203.0.113.7 {trace.request[0].sport}")


def test_pods_instead_of_nodes() -> None:
    lab = network()
    notes = lab.services["shop/web"].annotations | {f"{SERVICE}nlb-target-type": "ip"}
    made = changed(lab, annotations=notes)
    pods = {f"{lab.address(f'shop/web-{n}')}:8080" for n in (1, 2)}
    assert set(map(str, made.listeners[0].group.targets)) == pods
    assert [str(one) for one in lab.vpc.security_groups["nodes"].rules["ingress"]] == [
        "all nodes", "tcp 8080 k8s-traffic",
    ]  # fmt: skip


def test_another_scheme_is_another_balancer() -> None:
    lab = cluster(INTERNAL + PODS + WEB.format("web", "LoadBalancer", "", NLB))
    before = lab.elb.balancers[PLACE]
    made = changed(lab, annotations={})
    assert made is not before and made.scheme == "internal"
    assert [eni.subnet.name for eni in made.enis.values()] == ["private-a"]
    owned = [one for one in lab.vpc.enis.values() if one.description.startswith("ELB")]
    assert owned == list(made.enis.values())


def test_another_class_is_another_balancer_with_other_security_groups() -> None:
    lab = network()
    made = changed(lab, load_balancer_class="")
    assert (made.kind, list(walls(lab))) == ("clb", ["k8s-elb-shop-web"])
    assert "all k8s-elb-shop-web" in map(
        str, lab.vpc.security_groups["nodes"].rules["ingress"])  # fmt: skip


def test_a_change_that_is_refused_leaves_what_was_there() -> None:
    lab = network()
    before = lab.elb.balancers[PLACE]
    notes = lab.services["shop/web"].annotations | {f"{SERVICE}subnets": "nowhere"}
    assert changed(lab, annotations=notes) is before
    assert "there is no subnet 'nowhere'" in lab.control.controller.events[PLACE]
    assert lab.trace("browser", f"{PLACE}:80").verdict == "delivered"


def test_a_service_behind_an_ingress_that_changes() -> None:
    lab = doors(WEB.format("web", "NodePort", "", ""), WEB.format("cart", "NodePort", "", ""), SITE)
    before = lab.elb.balancers["lb/shop/site"]
    assert lab.elb.groups["shop/site web:80"].target_type == "ip"
    changed_to = {f"{INGRESS}target-type": "instance"}
    lab.control.add_service(replace(lab.services["shop/web"], annotations=changed_to))
    lab.settle()
    assert lab.elb.balancers["lb/shop/site"] is before
    assert lab.elb.groups["shop/site web:80"].target_type == "instance"
    assert {lab.trace("browser", "ingress/shop/site").verdict for _ in range(3)} == {"delivered"}


def test_a_path_of_an_ingress_that_goes_takes_its_group_along() -> None:
    lab = doors(WEB.format("web", "NodePort", "", ""), WEB.format("cart", "NodePort", "", ""), SITE)
    site = lab.control.controller.ingresses["shop/site"]
    lab.control.add_ingress(replace(site, routes=tuple(
        one for one in site.routes if one.service == "web")))  # fmt: skip
    lab.settle()
    assert list(lab.elb.groups) == ["shop/site web:80"]
    assert lab.trace("browser", "ingress/shop/site/cart").answer.startswith("shop/web-")


REFUSED = {
    "by AWS": ("public-b, cidr: 10.0.0.64/26, zone: us-east-1b",
               "public-b, cidr: 10.0.0.64/26, zone: us-east-1a"),
    "by the controller": ("path: /cart, pathType: Prefix", "path: /c*rt, pathType: Prefix"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_nothing_stays_of_a_balancer_that_is_refused(case: str) -> None:
    text = HEAD + PODS + WEB.format("web", "NodePort", "", "")
    text = (text + WEB.format("cart", "NodePort", "", "") + SITE).replace(*REFUSED[case])
    lab = cluster(text)
    assert list(lab.control.controller.events) == ["lb/shop/site"]
    assert not lab.elb.groups and not lab.elb.balancers and not walls(lab)
    assert not [one for one in lab.vpc.enis.values() if one.description.startswith("ELB")]


def test_the_last_balancer_takes_the_shared_security_group_along() -> None:
    lab = doors(WEB.format("web", "LoadBalancer", "", NLB),
                WEB.format("cart", "LoadBalancer", "", NLB))  # fmt: skip
    lab.services.remove("shop/web")
    lab.sleep(1)
    assert set(walls(lab)) == {"k8s-traffic", "k8s-shop-cart"}
    lab.services.remove("shop/cart")
    lab.sleep(1)
    assert not walls(lab)
    mine = HEAD.replace("securityGroups: [", "securityGroups: [{name: k8s-traffic}, ", 1)
    lab = cluster(mine + PODS + WEB.format("web", "LoadBalancer", "", NLB))
    lab.services.remove("shop/web")
    lab.sleep(1)
    assert list(walls(lab)) == ["k8s-traffic"]  # the scenario's own


def test_two_balancers_never_share_a_security_group_of_their_own() -> None:
    one = WEB.format("web", "LoadBalancer", "", NLB).replace("name: web\n", "name: b\n")
    other = WEB.format("web", "LoadBalancer", "", NLB).replace("name: web\n", "name: a-b\n")
    lab = cluster(HEAD + PODS + one.replace("namespace: shop", "namespace: shop-a")
                  + other.replace("port: 80,", "port: 90,"))  # fmt: skip
    groups = {place: made.security_groups[0] for place, made in lab.elb.balancers.items()}
    ports = {place: [str(rule) for rule in each.rules["ingress"]] for place, each in groups.items()}
    assert ports == {"lb/shop-a/b": ["tcp 80 0.0.0.0/0"], "lb/shop/a-b": ["tcp 90 0.0.0.0/0"]}
    lab.services.remove("shop/a-b")
    lab.sleep(1)
    assert lab.vpc.security_groups.get(groups["lb/shop-a/b"].name) is groups["lb/shop-a/b"]


def test_a_security_group_that_was_there_isn_t_taken_over() -> None:
    mine = HEAD.replace("securityGroups: [", "securityGroups: [{name: k8s-shop-web}, ", 1)
    lab = cluster(mine + PODS + WEB.format("web", "LoadBalancer", "", NLB))
    before = lab.vpc.security_groups["k8s-shop-web"]
    assert isinstance(before, SecurityGroup) and not before.rules["ingress"]
    assert lab.trace("browser", f"{PLACE}:80").verdict == "delivered"
    lab.services.remove("shop/web")
    lab.sleep(1)
    assert lab.vpc.security_groups["k8s-shop-web"] is before


def test_a_target_that_has_gone_is_drained_though_a_new_one_is_refused() -> None:
    """As the controller does: deregister first, register then."""
    notes = f", {SERVICE}nlb-target-type: ip"
    lab = doors(WEB.format("web", "LoadBalancer", notes, NLB).replace("selector: {app: web}, ", ""))
    group = lab.elb.groups["shop/web web:80"]
    pod = Endpoint(ip=IPv4Address(lab.address("shop/web-1")), port=0)
    for far in (pod, replace(pod, ip=IPv4Address("192.0.2.9"))):
        lab.services.slices[:] = [EndpointSlice(
            service="shop/web", ports={("http", "tcp"): 8080}, endpoints=(far,))]  # fmt: skip
        lab.sleep(1)
    assert "is not within a subnet" in lab.control.controller.events[PLACE]
    assert [(str(one), one.state) for one in group.targets] == [(f"{pod.ip}:8080", "draining")]


def test_only_pods_are_targets() -> None:
    """The controller looks at an endpoint's targetRef; kube-proxy doesn't."""
    notes = f", {SERVICE}nlb-target-type: ip"
    lab = doors(WEB.format("web", "LoadBalancer", notes, NLB).replace("selector: {app: web}, ", ""),
                """---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
  - {addresses: [10.0.1.201], targetRef: {kind: Pod, name: other}}
  - {addresses: [10.0.1.202]}
""")  # fmt: skip
    assert list(map(str, lab.elb.groups["shop/web web:80"].targets)) == ["10.0.1.201:8080"]
    assert "10.0.1.202:8080" in lab.run("node-a", "iptables-save -t nat").stdout


def test_a_subnet_with_too_few_addresses_is_not_discovered() -> None:
    """AWS would take it for a Network Load Balancer; the controller doesn't offer it."""
    small = HEAD.replace("10.0.0.0/26", "10.0.0.0/28")  # 11 to give
    for hosts, wanted in (3, ["public-a", "public-b"]), (4, ["public-b"]):
        more = "".join(f", {{name: h{n}, subnet: public-a}}" for n in range(hosts))
        lab = cluster(small.replace("[203.0.113.7]}", "[203.0.113.7]}" + more) + PODS
                      + WEB.format("web", "LoadBalancer", "", NLB))  # fmt: skip
        made = lab.elb.balancers[PLACE]
        assert [eni.subnet.name for eni in made.enis.values()] == wanted


def test_what_is_opened_is_opened_in_the_first_security_group() -> None:
    two = HEAD.replace("securityGroups: [{", "securityGroups: [{name: more}, {", 1)
    lab = cluster(two.replace("securityGroups: [nodes]", "securityGroups: [nodes, more]") + PODS
                  + WEB.format("web", "LoadBalancer", "", NLB))  # fmt: skip
    held = {name: [str(rule) for rule in lab.vpc.security_groups[name].rules["ingress"]]
            for name in ("nodes", "more")}  # fmt: skip
    assert held == {"nodes": ["all nodes", "tcp 30086 k8s-traffic"], "more": []}


def test_a_classic_one_with_security_groups_of_yours_has_no_other() -> None:
    """The shared one is the other controller's."""
    notes = f", {SERVICE}security-groups: nodes, {KEEP_OUT}: 'true'"
    lab = doors(WEB.format("web", "LoadBalancer", notes, ""))
    assert [one.name for one in lab.elb.balancers[PLACE].security_groups] == ["nodes"]
    assert not walls(lab)


def test_of_two_subnets_of_a_zone_the_one_with_the_lower_id_is_taken() -> None:
    more = """
      - {name: NAME, cidr: 10.0.0.128/26, zone: us-east-1a, tags: {kubernetes.io/role/elb: "1"},
         routes: [{destination: 0.0.0.0/0, target: igw}]}
    securityGroups"""
    seen = set()
    for name in "a-public", "z-public", "q-public", "b-public":
        lab = cluster(HEAD.replace("\n    securityGroups", more.replace("NAME", name), 1) + PODS
                      + WEB.format("web", "LoadBalancer", "", NLB))  # fmt: skip
        ids = {each: lab.vpc.subnets[each].subnet_id for each in ("public-a", name)}
        taken = next(iter(lab.elb.balancers[PLACE].enis.values())).subnet.name
        assert taken == min(ids, key=lambda each: ids[each])
        seen.add(taken == min(ids))
    assert seen == {True, False}  # or it would prove nothing
