"""Who reads what: two controllers, two kinds of object, and what is said of the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ekslearn.cluster import Cluster
from ekslearn.controller.plan import INGRESS, RANGES, SERVICE
from ekslearn.elb import TargetGroup
from ekslearn.errors import EkslearnError
from ekslearn.scenario import load
from tests.matrix.cells import CLUSTER, POD

NLB = {"loadBalancerClass": "service.k8s.aws/nlb"}
PLACE, PUBLIC = "lb/shop/web", {"scheme": "internet-facing"}
PORTS: list[dict[str, Any]] = [{"name": "http", "port": 443, "targetPort": 8080, "nodePort": 31380}]
UDP: list[dict[str, Any]] = [
    {"name": "dns", "port": 53, "targetPort": 53, "protocol": "UDP", "nodePort": 31053}
]


def service(notes: dict[str, str] | None = None, name: str = "web", **spec: Any) -> dict[str, Any]:
    """A Service of type LoadBalancer before the pod on node-a; ``notes`` by their last word."""
    said = {key if "/" in key else SERVICE + key: one for key, one in (notes or {}).items()}
    whole = {"type": "LoadBalancer", "selector": {"at": "here-primary"}, "ports": PORTS} | spec
    return {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "shop", "annotations": said},
            "spec": whole}  # fmt: skip


def ingress(notes: dict[str, str] | None = None, name: str = "site", **spec: Any) -> dict[str, Any]:
    """An Ingress of class alb with ip targets."""
    said = {"scheme": "internet-facing", "target-type": "ip"} | (notes or {})
    said = {key if "/" in key else INGRESS + key: one for key, one in said.items()}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": name, "namespace": "shop", "annotations": said},
            "spec": {"ingressClassName": "alb"} | spec}  # fmt: skip


def to(name: str = "web", port: int = 443) -> dict[str, Any]:
    return {"service": {"name": name, "port": {"number": port}}}


def path(kind: str, text: str, name: str = "web", port: int = 443) -> dict[str, Any]:
    return {"pathType": kind, "path": text, "backend": to(name, port)}


def lab(folder: Path, *objects: dict[str, Any], namespace: str = "shop") -> Cluster:
    """A cluster of the matrix with one pod, on node-a, and those objects."""
    ports = "8080}, {containerPort: 53, protocol: UDP"
    pod = POD.format(endpoint="here", eni="primary", node="node-a", ip="10.0.1.12", port=ports)
    text = CLUSTER.format(ports="") + pod
    file = folder / "one.yaml"
    text += "".join(f"---\n{json.dumps(one)}\n" for one in objects)
    text = text.replace("namespace: shop", f'namespace: "{namespace}"')
    text = text.replace('"namespace": "shop"', f'"namespace": "{namespace}"')
    file.write_text(text, encoding="utf-8")
    made = load(file)
    assert isinstance(made, Cluster)
    return made


def group(made: Cluster) -> TargetGroup:
    return made.elb.balancers[PLACE].listeners[0].group


def opened(made: Cluster) -> set[str]:
    """What the nodes' security group admits, besides the nodes."""
    return {str(one) for one in made.vpc.security_groups["nodes"].rules["ingress"]} - {"all nodes"}


def said(made: Cluster, word: str) -> list[str]:
    """What the notes say of an annotation."""
    return [one.rpartition(", ")[2] for one in made.notes if word in one]


@pytest.mark.parametrize(
    ("spec", "notes", "wanted"),
    [
        (NLB, {}, ("TCP:traffic-port", 10, 10, 3, 3)),
        (NLB | {"externalTrafficPolicy": "Local"}, {}, ("HTTP:32100/healthz", 10, 6, 2, 2)),
        (NLB | {"externalTrafficPolicy": "Local"}, {"nlb-target-type": "ip"},
         ("TCP:traffic-port", 10, 10, 3, 3)),
        (NLB | {"externalTrafficPolicy": "Local"}, {"healthcheck-port": "traffic-port"},
         ("HTTP:traffic-port/healthz", 10, 6, 2, 2)),
        ({}, {"type": "nlb"}, ("TCP:traffic-port", 30, 10, 3, 3)),
        ({"externalTrafficPolicy": "Local"}, {"type": "nlb"}, ("HTTP:32100/healthz", 10, 10, 2, 2)),
        ({}, {}, ("TCP:traffic-port", 10, 5, 2, 6)),
        ({"externalTrafficPolicy": "Local"}, {}, ("HTTP:32100/healthz", 10, 5, 2, 6)),
    ],
)  # fmt: skip
def test_what_is_checked_where_nothing_is_said(
    spec: dict[str, Any], notes: dict[str, str], wanted: tuple[Any, ...], tmp_path: Path
) -> None:
    """The AWS controller's defaults, and the cloud provider's (aws_loadbalancer.go)."""
    local = {"healthCheckNodePort": 32100} if "externalTrafficPolicy" in spec else {}
    check = group(lab(tmp_path, service(notes | PUBLIC, **spec, **local))).check
    found = check.interval_s, check.timeout_s, check.healthy, check.unhealthy
    assert (str(check), *found) == wanted


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_a_check_of_datagrams_is_let_in_by_tcp(policy: str, tmp_path: Path) -> None:
    made = lab(tmp_path, service(PUBLIC, **NLB, ports=UDP,
                                 externalTrafficPolicy=policy))  # fmt: skip
    check = group(made).check.port or 31053
    assert opened(made) == {"udp 31053 k8s-traffic", f"tcp {check} k8s-traffic"}
    [here, there] = group(made).targets
    wanted = ["healthy", "unhealthy"] if policy == "Local" else ["unhealthy", "unhealthy"]
    assert [here.state, there.state] == wanted
    why = "Target.ResponseCodeMismatch" if policy == "Local" else "Target.FailedHealthChecks"
    assert there.reason == why
    assert made.trace("browser", f"{PLACE}:53/udp").verdict == "delivered"


def test_an_unknown_class_is_nobodys(tmp_path: Path) -> None:
    made = lab(tmp_path, service({"scheme": "internal"}, loadBalancerClass="example.com/mine"))
    assert not made.elb.balancers
    assert "Service shop/web is of class example.com/mine: only service.k8s.aws/nlb is modelled" \
        in made.notes  # fmt: skip


@pytest.mark.parametrize(
    ("notes", "spec", "wanted"),
    [
        ({}, NLB, "internal"),
        ({"internal": "true"}, NLB, "internal"),
        ({"internal": "false"}, NLB, "internet-facing"),
        ({"internal": "false", "scheme": "internal"}, NLB, "internal"),
        ({}, {}, "internet-facing"),
        ({"internal": "true"}, {}, "internal"),
        ({"scheme": "internal"}, {}, "internet-facing"),  # the cloud provider doesn't read it
    ],
)
def test_the_scheme(
    notes: dict[str, str], spec: dict[str, Any], wanted: str, tmp_path: Path
) -> None:
    made = lab(tmp_path, service(notes | {"subnets": "public-a"}, **spec))
    assert made.elb.balancers[PLACE].scheme == wanted


def test_the_cloud_provider_reads_less(tmp_path: Path) -> None:
    notes = {"attributes": "load_balancing.cross_zone.enabled=true", "healthcheck-protocol": "http",
             "healthcheck-success-codes": "404", "nlb-target-type": "instance"}  # fmt: skip
    made = lab(tmp_path, service(notes | {"manage-backend-security-group-rules": "false"}))
    for name in *(set(notes) - {"healthcheck-protocol"}), "manage-backend":
        assert said(made, name) == ["which the cloud provider doesn't read"]
    assert not said(made, "healthcheck-protocol")
    assert not made.elb.balancers[PLACE].cross_zone
    assert [one.state for one in group(made).targets] == ["healthy", "healthy"]


def test_what_is_on_the_wrong_object(tmp_path: Path) -> None:
    near = "service.kubernetes.io/topology-mode"
    made = lab(tmp_path, service({INGRESS + "scheme": "internal", near: "Auto"}, type="NodePort"),
               ingress({RANGES: "10.0.0.0/8", SERVICE + "scheme": "internal"},
                       defaultBackend=to(), tls=[{"hosts": ["a.example.com"]}]))  # fmt: skip
    for name in INGRESS + "scheme", "load-balancer-scheme", RANGES, near:
        assert said(made, name) == ["which isn't modelled on this kind of object"]
    assert said(made, "spec.tls") == ["which isn't modelled: name a certificate by"
                                      f" {INGRESS}certificate-arn"]  # fmt: skip


def test_a_services_own_word_comes_before_its_ingress(tmp_path: Path) -> None:
    notes = {"target-type": "instance", "healthcheck-path": "/mine", "backend-protocol": "HTTPS",
             "target-group-attributes": "deregistration_delay.timeout_seconds=9"}  # fmt: skip
    mine = service({INGRESS + name: one for name, one in notes.items()}, type="NodePort")
    ports = [{"name": "http", "port": 443, "targetPort": 8080}]
    made = lab(tmp_path, mine, service(name="app", type="ClusterIP", ports=ports),
               ingress({"healthcheck-path": "/all", "healthy-threshold-count": "5"},
                       rules=[{"http": {"paths": [path("Prefix", "/app", "app")]}}],
                       defaultBackend=to()))  # fmt: skip
    assert not made.notes and not made.control.controller.events
    own, other = made.elb.groups["shop/site web:443"], made.elb.groups["shop/site app:443"]
    assert (own.target_type, own.check.path, own.protocol, own.deregistration_delay_s,
            own.check.healthy) == ("instance", "/mine", "HTTPS", 9, 5)  # fmt: skip
    assert (other.target_type, other.check.path, other.protocol) == ("ip", "/all", "HTTP")
    assert [str(one) for one in own.targets] == ["10.0.1.10:31380", "10.0.2.10:31380"]
    assert opened(made) == {"tcp 31380 k8s-traffic", "tcp 8080 k8s-traffic"}
    wrong = service({INGRESS + "target-type": "pod"}, type="NodePort")
    made = lab(tmp_path, wrong, ingress(defaultBackend=to()))
    assert made.control.controller.events == {
        "lb/shop/site": f"{INGRESS}target-type: unknown target-type 'pod'; there are instance, ip"
    }


def test_groups_of_ones_own(tmp_path: Path) -> None:
    """The targets have to be opened by hand, unless the controller is asked to."""
    notes = {"scheme": "internet-facing", "security-groups": "nodes"}
    made = lab(tmp_path, service(notes, **NLB))
    assert not opened(made)
    asked = {"manage-backend-security-group-rules": "true"}
    made = lab(tmp_path, service(notes | asked, **NLB))
    names = [one.name for one in made.elb.balancers[PLACE].security_groups]
    assert names == ["nodes", "k8s-traffic"] and opened(made) == {"tcp 31380 k8s-traffic"}


def test_a_network_balancer_of_the_cloud_provider_has_no_groups(tmp_path: Path) -> None:
    """The nodes' group admits clients, and checks from the balancer's subnets: where the client's
    address isn't kept, everybody comes from there, and source ranges hold nobody off.
    """
    ranges = {"loadBalancerSourceRanges": ["198.51.100.0/24"]}
    made = lab(tmp_path, service({"type": "nlb"}, **ranges))
    assert not made.elb.balancers[PLACE].security_groups
    assert opened(made) == {"tcp 31380 198.51.100.0/24", "tcp 31380 10.0.4.0/24",
                            "tcp 31380 10.0.5.0/24"}  # fmt: skip
    assert {one.state for one in group(made).targets} == {"healthy"}
    lost = made.trace("browser", f"{PLACE}:443")
    assert (lost.verdict, lost.reason.partition(":")[0][:5]) == ("dropped", "node-")
    off = {"type": "nlb", "target-group-attributes": "preserve_client_ip.enabled=false"}
    made = lab(tmp_path, service(off, **ranges))
    assert made.trace("browser", f"{PLACE}:443").verdict == "delivered"
    made = lab(tmp_path, service({"type": "nlb"}))
    assert made.trace("browser", f"{PLACE}:443").verdict == "delivered"


def test_source_ranges_of_the_spec_come_first(tmp_path: Path) -> None:
    made = lab(tmp_path, service({"scheme": "internet-facing", RANGES: "198.51.100.0/24"}, **NLB))
    assert made.trace("browser", f"{PLACE}:443").verdict == "dropped"
    spec = {"loadBalancerSourceRanges": ["203.0.113.7/32"]}
    notes = {"scheme": "internet-facing", RANGES: "198.51.100.0/24"}
    made = lab(tmp_path, service(notes, **NLB, **spec))
    assert made.trace("browser", f"{PLACE}:443").verdict == "delivered"


@pytest.mark.parametrize(
    ("objects", "event"),
    [
        ([service(PUBLIC, **NLB, ports=[UDP[0] | {"port": 443}, PORTS[0]])],
         "DuplicateListener: a listener of lb/shop/web is on port 443 already"),
        ([service(**NLB, ports=[{"port": 443}], allocateLoadBalancerNodePorts=False)],
         "unable to support instance target type with an unallocated NodePort: shop/web"),
        ([service(type="ClusterIP", ports=[{"port": 443}]),
          ingress({"target-type": "instance"}, name="web", defaultBackend=to())],
         "service type must be either 'NodePort' or 'LoadBalancer' for target type instance:"
         " shop/web"),
        ([service(name="app", type="NodePort"), ingress(name="web", rules=[
            {"http": {"paths": [path("Prefix", "/a*", "app")]}}])],
         "prefix path shouldn't contain wildcards: /a*"),
        ([service(name="app", type="NodePort"), ingress(name="web", rules=[
            {"http": {"paths": [path("Exact", "/a?", "app")]}}])],
         "exact path shouldn't contain wildcards: /a?"),
    ],
)  # fmt: skip
def test_what_becomes_an_event(objects: list[dict[str, Any]], event: str, tmp_path: Path) -> None:
    made = lab(tmp_path, *objects)
    assert made.control.controller.events == {PLACE: event} and not made.elb.balancers


@pytest.mark.parametrize(
    ("objects", "complaint"),
    [
        ([service(**NLB), ingress(name="web", defaultBackend=to())],
         "metadata.name: a Service has lb/shop/web already; give the Ingress another name"),
        ([ingress(rules=[{"host": "10.0.0.1", "http": {"paths": [path("Prefix", "/")]}}])],
         "spec.rules[0].host: '10.0.0.1' is no host such as example.com or *.example.com"),
        ([ingress(rules=[{"host": "a.*.com", "http": {"paths": [path("Prefix", "/")]}}])],
         "spec.rules[0].host: 'a.*.com' is no host such as example.com or *.example.com"),
        ([ingress(rules=[{"http": {"paths": [path("Prefix", "a")]}}])],
         "spec.rules[0].http.paths[0]: 'a' is no path: it should begin with /"),
        ([ingress(rules=[{"http": {"paths": [path("Exact", "")]}}])],
         "spec.rules[0].http.paths[0]: '' is no path: it should begin with /"),
        ([ingress(rules=[{"http": {"paths": [{"path": "/", "backend": to()}]}}])],
         "spec.rules[0].http.paths[0]: the field pathType is missing"),
        ([ingress(rules=[{"http": {"paths": [{"serviceName": "web", "servicePort": 80}]}}])],
         "spec.rules[0].http.paths[0].serviceName: unknown field; known here: backend, pathType,"
         " path"),
        ([ingress(rules=[{"http": [path("Prefix", "/")]}])],
         "spec.rules[0].http: expected a mapping, found a list"),
        ([ingress(defaultBackend={"service": {"name": "web", "port": 80}})],
         "spec.defaultBackend.service.port: expected a mapping, found a number, true, false or"
         " nothing (put quotes around it if it is meant as text)"),
        ([ingress(defaultBackend={"service": {"name": "web", "port": {}}})],
         "spec.defaultBackend.service.port: a port has a number or a name"),
        ([ingress(defaultBackend=to(), rule=[])], "spec.rule: unknown field; did you mean rules?"),
        ([ingress(rules=[{"http": {"paths": [path("prefix", "/")]}}])],
         "spec.rules[0].http.paths[0].pathType: there is no pathType 'prefix'; there are Exact,"
         " Prefix, ImplementationSpecific"),
        ([ingress({"kubernetes.io/ingress.class": "alb"}, defaultBackend=to())],
         "metadata.annotations.kubernetes.io/ingress.class: it can't be set where"
         " spec.ingressClassName is"),
    ],
)  # fmt: skip
def test_what_cant_be(objects: list[dict[str, Any]], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(EkslearnError) as caught:
        lab(tmp_path, *objects)
    where, _, found = str(caught.value).partition(": ")
    assert where.startswith(f"{tmp_path}/one.yaml:") and found == complaint


def test_paths_become_patterns_in_the_controllers_order(tmp_path: Path) -> None:
    """Rule by rule; exact ones first, then prefixes by length, then the rest as they stand."""
    paths = [path("ImplementationSpecific", "/x*y"), path("Prefix", "/"), path("Prefix", "/long/"),
             path("ImplementationSpecific", ""), path("Exact", "/a/")]  # fmt: skip
    made = lab(tmp_path, service(type="NodePort"), ingress(rules=[
        {"http": {"paths": paths}}, {"host": "*.example.com", "http": {"paths": paths[:1]}},
        {"host": "idle.example.com"},
    ]))  # fmt: skip
    [listener] = made.elb.balancers["lb/shop/site"].listeners
    wanted = [("/a/",), ("/long", "/long/*"), ("/*",), ("/x*y",), ("/*",)]
    assert [one.paths for one in listener.rules] == [*wanted, ("/x*y",)]
    assert listener.rules[-1].host == "*.example.com" and listener.answers_404
    trace = made.trace("browser", "ingress/shop/site/x")
    assert any("GET http://www.example.com/x" in one for step in trace.steps
               for one in step.passed_over)  # fmt: skip


def test_a_name_of_figures_is_no_status(tmp_path: Path) -> None:
    made = lab(tmp_path, service(), ingress(defaultBackend=to()), namespace="404")
    [target] = made.elb.groups["404/site web:443"].targets
    assert target.state == "healthy"


def test_a_classic_one_has_no_target_group_to_give_attributes(tmp_path: Path) -> None:
    notes = {"target-group-attributes": "deregistration_delay.timeout_seconds=30"}
    with pytest.raises(EkslearnError, match=r"the annotation is only supported for NLB$"):
        lab(tmp_path, service(notes))
