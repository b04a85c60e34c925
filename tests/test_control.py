"""What goes on above the nodes: balancers come out of objects, and follow them as time passes."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

import ekslearn
from ekslearn.cluster import Cluster
from ekslearn.errors import EkslearnError
from ekslearn.scenario import load

HEAD = """
apiVersion: ekslearn/v1
kind: Cluster
metadata: {name: doors}
spec:
  vpc:
    cidrs: [10.0.0.0/16]
    subnets:
      - {name: private-a, cidr: 10.0.1.0/24, zone: us-east-1a}
      - {name: private-b, cidr: 10.0.2.0/24, zone: us-east-1b}
      - {name: public-a, cidr: 10.0.0.0/26, zone: us-east-1a, tags: {kubernetes.io/role/elb: "1"},
         routes: [{destination: 0.0.0.0/0, target: igw}]}
      - {name: public-b, cidr: 10.0.0.64/26, zone: us-east-1b, tags: {kubernetes.io/role/elb: "1"},
         routes: [{destination: 0.0.0.0/0, target: igw}]}
    securityGroups: [{name: nodes, ingress: [{group: nodes}]}]
  nodes:
    - {name: node-a, instanceType: m5.large, subnet: private-a, securityGroups: [nodes]}
    - {name: node-b, instanceType: m5.large, subnet: private-b, securityGroups: [nodes]}
  hosts: [{name: browser, addresses: [203.0.113.7]}]
"""
POD = """---
apiVersion: v1
kind: Pod
metadata: {{name: {0}, namespace: shop, labels: {{app: {1}}}}}
spec:
  nodeName: {2}
  containers: [{{name: c, ports: [{{name: http, containerPort: 8080}}]}}]
"""
PODS = "".join((POD.format("web-1", "web", "node-a"), POD.format("web-2", "web", "node-b"),
                POD.format("cart-1", "cart", "node-b")))  # fmt: skip
SERVICE = """---
apiVersion: v1
kind: Service
metadata:
  name: {0}
  namespace: shop
  annotations: {{service.beta.kubernetes.io/aws-load-balancer-scheme: internet-facing{2}}}
spec: {{type: {1}, selector: {{app: {0}}}, ports: [{{name: http, port: 80, targetPort: http}}]{3}}}
"""
KEEP_OUT = "service.beta.kubernetes.io/aws-load-balancer-manage-backend-security-group-rules"
NLB = ", loadBalancerClass: service.k8s.aws/nlb"
INGRESS = """---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: site
  namespace: shop
  annotations: {alb.ingress.kubernetes.io/scheme: internet-facing,
                alb.ingress.kubernetes.io/target-type: ip}
spec:
  ingressClassName: alb
  rules:
    - http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}
          - {path: /cart, pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}
"""


def doors(*parts: str) -> Cluster:
    made = load(HEAD + PODS + "".join(parts))
    assert isinstance(made, Cluster)
    return made


def states(cluster: Cluster, place: str) -> dict[str, str]:
    """The targets of a balancer's first listener, and how they are."""
    return {str(one): one.state for one in cluster.elb.balancers[place].listeners[0].group.targets}


def test_a_network_load_balancer_comes_out_of_a_service() -> None:
    cluster = doors(SERVICE.format("web", "LoadBalancer", "", NLB))
    port = cluster.services["shop/web"].ports[0].node_port
    nodes = [cluster.address(node) for node in ("node-a", "node-b")]
    assert states(cluster, "lb/shop/web") == {f"{one}:{port}": "healthy" for one in nodes}
    trace = cluster.trace("browser", "lb/shop/web:80")
    assert trace.verdict == "delivered"
    assert trace.answer.split()[1] in nodes  # policy Cluster: the pod sees the node


def test_a_classic_one_where_no_class_is_named() -> None:
    cluster = doors(SERVICE.format("web", "LoadBalancer", "", ""))
    balancer = cluster.elb.balancers["lb/shop/web"]
    assert (balancer.kind, balancer.scheme) == ("clb", "internet-facing")
    check = balancer.listeners[0].group.check
    assert (check.interval_s, check.timeout_s, check.healthy, check.unhealthy) == (10, 5, 2, 6)


def test_requests_go_by_their_path() -> None:
    cluster = doors(SERVICE.format("web", "ClusterIP", "", ""),
                    SERVICE.format("cart", "ClusterIP", "", ""), INGRESS)  # fmt: skip
    seen = {path: {cluster.trace("browser", f"ingress/shop/site{path}").answer.split()[0]
                   for _ in range(3)} for path in ("", "/cart", "/cart/2", "/cartoon")}  # fmt: skip
    assert seen["/cart"] == seen["/cart/2"] == {"shop/cart-1"}
    assert seen[""] == seen["/cartoon"] == {"shop/web-1", "shop/web-2"}


def test_a_path_without_rule_is_404() -> None:
    only = INGRESS.replace("path: /,", "path: /shop,")
    cluster = doors(SERVICE.format("web", "ClusterIP", "", ""),
                    SERVICE.format("cart", "ClusterIP", "", ""), only)  # fmt: skip
    assert cluster.trace("browser", "ingress/shop/site/shop").verdict == "delivered"
    lost = cluster.trace("browser", "ingress/shop/site/other")
    assert lost.verdict == "refused" and "404 Not Found" in lost.reason


def test_a_path_is_asked_for_at_the_host_that_has_it() -> None:
    by_host = INGRESS.replace("- http:", "- host: a.example.com\n      http:").replace(
        "path: /,", "path: /shop,").replace("          - {path: /cart,", """\
    - host: "*.example.org"
      http:
        paths:
          - {path: /cart,""")  # fmt: skip
    cluster = doors(SERVICE.format("web", "ClusterIP", "", ""),
                    SERVICE.format("cart", "ClusterIP", "", ""), by_host)  # fmt: skip
    asked = {path: cluster.named(f"ingress/shop/site{path}")[1] for path in
             ("/shop", "/cart", "/other", "")}  # fmt: skip
    assert asked == {
        "/shop": "GET http://a.example.com/shop", "/cart": "GET http://www.example.org/cart",
        "/other": "GET http://a.example.com/other", "": "GET http://a.example.com/",
    }  # fmt: skip
    assert cluster.trace("browser", "ingress/shop/site/cart").answer.startswith("shop/cart-1 ")


def test_what_balancers_listen_on_is_theirs() -> None:
    """Whatever their place is called."""
    cluster = doors(SERVICE.format("web", "LoadBalancer", "", ""))
    made = cluster.elb.create_load_balancer("front", "clb", ["public-a"])
    group = cluster.elb.create_target_group("back", "clb", protocol="TCP", port=30086)
    made.add_listener("TCP", 80, group)
    assert {place for place, _ in cluster.listeners()} == {
        "shop/web-1",
        "shop/web-2",
        "shop/cart-1",
    }


def test_targets_follow_the_pods() -> None:
    cluster = doors(SERVICE.format("web", "ClusterIP", "", ""),
                    SERVICE.format("cart", "ClusterIP", "", ""), INGRESS)  # fmt: skip
    group = cluster.elb.groups["shop/site web:80"]
    address = cluster.address("shop/web-2")
    cluster.delete_pod("shop/web-2")
    cluster.sleep(1)
    assert {str(one.address): one.state for one in group.targets}[address] == "draining"
    cluster.add_pod(replace(cluster.pods["shop/web-1"], name="web-3", node="node-b"))
    cluster.sleep(60)
    fresh = cluster.address("shop/web-3")
    assert {str(one.address): one.state for one in group.targets}[fresh] == "healthy"
    cluster.sleep(300)
    assert address == fresh or address not in {str(one.address) for one in group.targets}


def test_a_pod_with_the_address_of_one_that_has_gone_begins_anew() -> None:
    """What a node's conntrack knows is of the other's connections."""
    cluster = doors(SERVICE.format("cart", "ClusterIP", "", ""))
    client, server = (cluster.pods[f"shop/{name}-1"] for name in ("web", "cart"))
    before = cluster.trace("shop/web-1", "service/shop/cart:80").request[0]
    for place in ("shop/web-1", "shop/cart-1"):
        cluster.delete_pod(place)
    cluster.add_pod(replace(server, name="cart-2"))
    cluster.sleep(60)
    cluster.add_pod(replace(client, name="web-3", ip=IPv4Address(before.src)))
    trace = cluster.trace("shop/web-3", "service/shop/cart:80")
    assert (trace.verdict, trace.answer.split()[0]) == ("delivered", "shop/cart-2")


def test_the_health_check_port_tells_where_endpoints_are() -> None:
    local = SERVICE.format("cart", "LoadBalancer", "", NLB + ", externalTrafficPolicy: Local")
    cluster = doors(local)
    port = cluster.services["shop/cart"].ports[0].node_port
    a, b = (f"{cluster.address(node)}:{port}" for node in ("node-a", "node-b"))
    assert states(cluster, "lb/shop/cart") == {a: "unhealthy", b: "healthy"}
    reasons = {str(one): one.reason for one in
               cluster.elb.balancers["lb/shop/cart"].listeners[0].group.targets}  # fmt: skip
    assert reasons[a] == "Target.ResponseCodeMismatch"
    check = cluster.services["shop/cart"].health_check_node_port
    asked = [cluster.run("browser", "true").status,
             cluster.trace("node-a", f"{cluster.address('node-b')}:{check}").answer,
             cluster.trace("node-b", f"{cluster.address('node-a')}:{check}").answer]  # fmt: skip
    assert asked == [0, "200 OK", "503 Service Unavailable"]
    trace = cluster.trace("browser", "lb/shop/cart:80")
    assert trace.answer == f"shop/cart-1 203.0.113.7 {trace.request[0].sport}"  # its own address


def test_the_health_check_port_goes_with_its_service() -> None:
    cluster = doors(SERVICE.format("cart", "LoadBalancer", "",
                                   NLB + ", externalTrafficPolicy: Local"))  # fmt: skip
    check = f"0.0.0.0:{cluster.services['shop/cart'].health_check_node_port}/tcp"
    assert [place for place, where in cluster.listeners() if where == check] == ["node-a", "node-b"]
    cluster.services.remove("shop/cart")
    cluster.sleep(1)
    assert check not in [where for _, where in cluster.listeners()]
    asked = f"{cluster.address('node-b')}:{check.partition(':')[2]}"
    assert cluster.trace("node-a", asked).verdict == "refused"


def test_nobody_lists_rules_where_nothing_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = doors(SERVICE.format("web", "ClusterIP", "", ""))
    asked: list[str] = []
    shows = cluster.shows

    def counted(place: str, command: str) -> str:
        asked.append(f"{place}$ {command}")
        return shows(place, command)

    monkeypatch.setattr(cluster, "shows", counted)
    cluster.sleep(1)
    assert not [one for one in asked if "nat" in one]
    cluster.delete_pod("shop/web-1")
    cluster.sleep(1)
    assert [one for one in asked if "nat" in one] == [
        f"node-{end}$ iptables-save -t nat" for end in "ab"
    ]


def test_a_security_group_of_the_nodes_lets_the_balancers_in() -> None:
    cluster = doors(SERVICE.format("web", "LoadBalancer", "", NLB))
    rules = cluster.vpc.security_groups["nodes"].rules["ingress"]
    assert "tcp 30086 k8s-traffic" in map(str, rules)
    shut = doors(SERVICE.format("web", "LoadBalancer", f", {KEEP_OUT}: 'false'", NLB))
    assert set(states(shut, "lb/shop/web").values()) == {"unhealthy"}
    assert shut.trace("browser", "lb/shop/web:80").verdict == "dropped"


@pytest.mark.parametrize("kind", ["nlb", "clb"])
def test_what_nodes_let_in_goes_with_the_balancer(kind: str) -> None:
    class_ = NLB if kind == "nlb" else ""
    cluster = doors(SERVICE.format("web", "LoadBalancer", "", class_),
                    SERVICE.format("cart", "LoadBalancer", "", class_))  # fmt: skip
    rules = cluster.vpc.security_groups["nodes"].rules["ingress"]
    before = [str(one) for one in rules]
    assert len(before) == 3
    cluster.services.remove("shop/web")
    cluster.sleep(1)
    assert len(rules) == 2
    assert cluster.trace("browser", "lb/shop/cart:80").verdict == "delivered"
    cluster.services.remove("shop/cart")
    cluster.sleep(1)
    assert [str(one) for one in rules] == before[:1] == ["all nodes"]


def test_a_rule_that_was_there_before_stays() -> None:
    mine = HEAD.replace("[{group: nodes}]", "[{group: nodes}, {group: k8s-elb-shop-web}]")
    cluster = load(mine + PODS + SERVICE.format("web", "LoadBalancer", "", ""))
    assert isinstance(cluster, Cluster)
    cluster.services.remove("shop/web")
    cluster.sleep(1)
    rules = cluster.vpc.security_groups["nodes"].rules["ingress"]
    assert [str(one) for one in rules] == ["all nodes", "all k8s-elb-shop-web"]


EVENTS = {
    "no tag": (lambda text: text.replace("kubernetes.io/role/elb", "role/elb"),
               "couldn't auto-discover subnets: unable to resolve at least one subnet"),
    "one zone": (lambda text: text.replace("public-b, cidr: 10.0.0.64/26, zone: us-east-1b",
                                           "public-b, cidr: 10.0.0.64/26, zone: us-east-1a"),
                 "At least two subnets in two different Availability Zones must be specified"),
    "no NodePort": (lambda text: text.replace("target-type: ip", "target-type: instance"),
                    "service type must be either 'NodePort' or 'LoadBalancer'"),
    "no Service": (lambda text: text.replace("name: cart, port", "name: carts, port"),
                   "there is no Service shop/carts"),
    "no port": (lambda text: text.replace("number: 80", "number: 81"),
                "the Service shop/cart has no port 81; it has 80"),
}  # fmt: skip


@pytest.mark.parametrize("case", EVENTS)
def test_what_the_controller_refuses_is_an_event(case: str) -> None:
    spoil, said = EVENTS[case]
    text = spoil(HEAD + PODS + SERVICE.format("web", "ClusterIP", "", "")
                 + SERVICE.format("cart", "ClusterIP", "", "") + INGRESS)  # fmt: skip
    cluster = load(text)
    assert isinstance(cluster, Cluster)
    assert said in cluster.control.controller.events["lb/shop/site"]
    assert "lb/shop/site" not in cluster.places
    with pytest.raises(EkslearnError, match="lb/shop/site was refused: "):
        cluster.trace("browser", "ingress/shop/site")


def test_a_service_that_goes_takes_its_balancer_along() -> None:
    cluster = doors(SERVICE.format("web", "LoadBalancer", "", NLB))
    before = len(cluster.vpc.enis)
    cluster.services.remove("shop/web")
    cluster.sleep(1)
    assert "lb/shop/web" not in cluster.places and len(cluster.vpc.enis) == before - 2
    assert not cluster.elb.groups
    with pytest.raises(EkslearnError, match="there is no lb/shop/web; there are none"):
        cluster.trace("browser", "lb/shop/web:80")


NAMES = {
    "lb/shop/web:81": "lb/shop/web doesn't listen on 81; it listens on 80",
    "lb/shop/wep:80": "there is no lb/shop/wep; there are lb/shop/web",
    "ingress/shop/site": "there is no Ingress shop/site; there are none",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_destination_that_is_not_there(name: str) -> None:
    cluster = doors(SERVICE.format("web", "LoadBalancer", "", NLB))
    with pytest.raises(EkslearnError, match=NAMES[name]):
        cluster.trace("browser", name)


def test_other_listeners_of_a_node_are_let_be() -> None:
    """kube-proxy closes its own health ports, and nobody else's."""
    lab = ekslearn.load("services")
    lab.listen("node-a", "0.0.0.0:9000/tcp", process="agent", serve=lambda _: ("here", ""))
    lab.sleep(60)
    assert ("node-a", "0.0.0.0:9000/tcp") in lab.listeners()
