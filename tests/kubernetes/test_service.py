"""Services and what the control plane gives them, and every refusal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from ekslearn import data_path
from ekslearn.cluster import Cluster
from ekslearn.errors import EkslearnError
from ekslearn.kubernetes import Service, ServicePort, Services
from ekslearn.scenario import load

RUNNING = data_path("scenarios/services.yaml").read_text(encoding="utf-8")
SERVICE = """---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80}]
"""


def loaded(text: str) -> Cluster:
    made = load(text)
    assert isinstance(made, Cluster)
    return made


def behind(cluster: Cluster, key: str) -> list[str]:
    """The endpoints of a Service's first port."""
    addresses = {place: cluster.namespace(place).links["eth0"].addresses[0].ip
                 for place in cluster.pods}  # fmt: skip
    found = cluster.services.backed(cluster.pods, addresses)
    return [str(one) for each in found if each.service.key == key for one in each.endpoints]


def test_a_service_gets_what_it_does_not_ask_for() -> None:
    cluster = loaded(RUNNING + SERVICE + SERVICE.replace("name: api", "name: more"))
    api, more = cluster.services["shop/api"], cluster.services["shop/more"]
    assert {api.cluster_ip, more.cluster_ip} <= set(cluster.services.cidr.hosts())
    assert api.cluster_ip != more.cluster_ip
    # behind what is kept for those who ask: 256 addresses, 86 ports
    assert (str(api.cluster_ip), api.ports[0].node_port) == ("172.20.1.1", 30086)
    assert more.ports[0].node_port == 30087
    again = cluster.services.add(api)
    assert again == api


def test_a_small_range_gives_every_address_once() -> None:
    cluster = loaded(RUNNING.replace("172.20.0.0/16", "172.20.45.0/29"))
    held = [str(cluster.services.add(one).cluster_ip) for one in named(cluster, 5)]
    assert sorted([*held, "172.20.45.6"]) == [f"172.20.45.{n}" for n in range(1, 7)]
    with pytest.raises(EkslearnError, match=r"no address of 172\.20\.45\.0/29 is free"):
        cluster.services.add(next(named(cluster, 1, "z")))


def named(cluster: Cluster, count: int, prefix: str = "s") -> Iterator[Service]:
    """Services that ask for nothing."""
    web = cluster.services["shop/web"]
    for number in range(count):
        yield replace(web, name=f"{prefix}{number}", cluster_ip=None, kind="ClusterIP", ports=())


def test_endpoints_are_the_pods_with_the_labels_and_the_named_port() -> None:
    cluster = loaded(RUNNING)
    assert behind(cluster, "shop/web") == ["10.0.1.45:8080", "10.0.2.77:8080"]
    cluster.delete_pod("shop/web-2")
    assert behind(cluster, "shop/web") == ["10.0.1.45:8080"]
    other = loaded(RUNNING.replace("{name: http, containerPort", "{name: web, containerPort", 1))
    assert behind(other, "shop/web") == ["10.0.2.77:8080"]  # its port alone has the name


SLICE = """---
apiVersion: v1
kind: Service
metadata: {name: kubernetes}
spec: {clusterIP: 172.20.0.1, ports: [{name: https, port: 443, targetPort: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
endpoints:
  - {addresses: [10.0.9.9]}
  - {addresses: [10.0.9.8], conditions: {ready: false}}
ports: [{name: https, port: 443, protocol: TCP}]
"""


def test_a_slice_stands_for_pods() -> None:
    cluster = loaded(RUNNING.replace("22/tcp", "443/tcp") + SLICE)
    assert behind(cluster, "default/kubernetes") == ["10.0.9.8:443", "10.0.9.9:443"]
    trace = cluster.trace("shop/web-1", "service/default/kubernetes:https")
    assert (trace.verdict, trace.answer) == ("delivered", "laptop 10.0.1.45 40000")


DEPLOYMENT = """---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: more}}
  template:
    metadata: {labels: {app: more, tier: front}}
    spec: {containers: [{name: nginx, ports: [{containerPort: 8080}]}]}
"""


def test_a_deployment_places_its_pods() -> None:
    roomy = RUNNING.replace("10.0.2.13]", "10.0.2.13, 10.0.2.14, 10.0.2.15]")
    cluster = loaded(roomy + DEPLOYMENT)
    made = [pod for pod in cluster.pods.values() if pod.labels.get("app") == "more"]
    assert len({pod.name for pod in made}) == 3
    assert {pod.namespace for pod in made} == {"shop"}
    assert {pod.labels["tier"] for pod in made} == {"front"}
    assert not cluster.pending


BAD = {
    "unknown kind": (SERVICE.replace("kind: Service", "kind: Servise"), "kind: there is no kind"
                     " 'Servise'; did you mean Service?"),
    "api": (SERVICE.replace("v1", "apps/v1"), "apiVersion: 'apps/v1' has no Service; it is of v1"),
    "port": (SERVICE.replace("port: 80", "port: 80000"), "spec.ports[0].port: expected a whole"
             " number from 1 to 65535, found '80000'"),
    "nodePort": (SERVICE.replace("80}", "80, nodePort: 80}"), "spec.ports[0].nodePort: expected a"
                 " whole number from 30000 to 32767, found '80'"),
    "nodePort taken": (SERVICE.replace("80}", "80, nodePort: 31380}"), "spec.ports[0].nodePort:"
                       " 31380 is taken: another Service, or port, has it"),
    "address taken": (SERVICE.replace("spec:", "spec:\n  clusterIP: 172.20.45.6"), "spec.clusterIP:"
                      " 172.20.45.6 is the address of "),
    "address outside": (SERVICE.replace("spec:", "spec:\n  clusterIP: 10.1.2.3"), "spec.clusterIP:"
                        " 10.1.2.3 isn't in 172.20.0.0/16"),
    "policy": (SERVICE.replace("NodePort", "ClusterIP\n  externalTrafficPolicy: Local"),
               "spec.externalTrafficPolicy: a Service of type ClusterIP has no external"),
    "policy's word": (SERVICE.replace("spec:", "spec:\n  internalTrafficPolicy: local"),
                      "spec.internalTrafficPolicy: there is no word 'local'; there are Cluster, L"),
    "check": (SERVICE.replace("spec:", "spec:\n  healthCheckNodePort: 32100"),
              "spec.healthCheckNodePort: healthCheckNodePort is for type: LoadBalancer"),
    "type": (SERVICE.replace("NodePort", "Nodeport"), "spec.type: there is no word 'Nodeport'"),
    "no ports": (SERVICE.replace("[{name: http, port: 80}]", "[]"), "spec: a Service needs ports"),
    "no name": (SERVICE.replace("80}", "80}, {port: 81}"), "spec.ports[1]: each port of several"
                " needs a name"),
    "same port": (SERVICE.replace("80}", "80}, {name: b, port: 80}"), "spec.ports[1]: another port"
                  " of the Service has the same number and protocol"),
    "same name": (SERVICE.replace("80}", "80}, {name: http, port: 81}"), "spec.ports[1].name:"
                  " another ServicePort here has the same name"),
    "protocol": (SERVICE.replace("80}", "80, protocol: SCTP}"), "spec.ports[0].protocol: the"
                 " protocol 'SCTP' isn't modelled"),
    "family": (SERVICE.replace("spec:", "spec:\n  ipFamilies: [IPv6]"), "spec.ipFamilies[0]: 'IPv6'"
               " isn't modelled; use IPv4"),
    "external name": (SERVICE.replace("NodePort", "ExternalName"), "spec: a Service of type"
                      " ExternalName needs externalName"),
    "headless": (SERVICE.replace("spec:", "spec:\n  clusterIP: None"), "spec.clusterIP: a headless"
                 " Service can't be of type NodePort"),
    "twice": (SERVICE + SERVICE, "metadata.name: a second Service shop/api"),
    "no metadata": (SERVICE.replace("metadata", "meta"), "meta: Kubernetes' Service has no such"
                    " field; did you mean metadata?"),
    "affinity": (SERVICE.replace("spec:", "spec:\n  sessionAffinity: ClientIP\n"
                                 "  sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}"),
                 "spec.sessionAffinityConfig.clientIP.timeoutSeconds: expected a whole number"),
    "slice": (SLICE.replace("labels: {kubernetes.io/service-name: kubernetes}", "labels: {}"),
              "an EndpointSlice needs the label kubernetes.io/service-name"),
    "selector of a deployment": (DEPLOYMENT.replace("{app: more}}\n  temp", "{app: less}}\n  temp"),
                                 "spec.selector: spec.selector.matchLabels has to name labels"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_manifests_are_one_sentence_with_line_and_field(case: str) -> None:
    text, said = BAD[case]
    with pytest.raises(EkslearnError) as caught:
        load(RUNNING + text)
    where, line, why = str(caught.value).split(":", 2)
    assert (where, line.isdigit()) == ("(text)", True)
    assert int(line) > RUNNING.count("\n")
    assert said in why
    assert "\n" not in why


def test_what_has_no_effect_is_listed() -> None:
    nobody = SERVICE.replace("app: web", "app: wep")
    config = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n"
    cluster = loaded(RUNNING + nobody + config)
    lines = RUNNING.count("\n")
    assert cluster.notes == [
        f"(text):{lines + nobody.count(chr(10)) + 2}: ignored: ConfigMap settings, which isn't"
        " modelled",
        f"(text):{lines + 7}: spec.selector: no pod of shop has these labels",
    ]


def test_a_list_is_what_kubectl_prints() -> None:
    head, *objects = RUNNING.split("---\n")
    items = "".join("  - " + "    ".join(one.splitlines(keepends=True)) for one in objects)
    made = loaded(f"{head}---\napiVersion: v1\nkind: List\nitems:\n{items}")
    assert made.lines == loaded(RUNNING).lines


def test_a_list_of_one_kind_is_what_the_api_answers() -> None:
    """``kubectl get --raw``: its items don't say what they are."""
    services = SERVICE.partition("kind: Service\n")[2]
    item = "  - " + "    ".join(services.splitlines(keepends=True))
    plain = loaded(RUNNING + SERVICE)
    made = loaded(
        f"{RUNNING}---\napiVersion: v1\nkind: ServiceList\nmetadata: {{}}\nitems:\n{item}"
    )
    assert made.services["shop/api"] == plain.services["shop/api"]
    where = r"^\(text\):\d+: items\[0\]\.spec\.port: Kubernetes' ServiceSpec has no such field"
    with pytest.raises(EkslearnError, match=where):
        loaded(f"{RUNNING}---\napiVersion: v1\nkind: ServiceList\nitems:\n"
               + item.replace("ports:", "port:"))  # fmt: skip
    with pytest.raises(EkslearnError, match=r"apiVersion: 'v2' has no Service; it is of v1"):
        loaded(f"{RUNNING}---\napiVersion: v2\nkind: ServiceList\nitems:\n{item}")
    none = loaded(
        f"{RUNNING}---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSliceList\nitems:\n"
    )
    assert not none.services.slices
    other = loaded(f"{RUNNING}---\napiVersion: v1\nkind: ConfigMapList\nitems: [{{}}]\n")
    assert [one for one in other.notes if one.endswith("ConfigMapList , which isn't modelled")]


def numbers(service: Service) -> list[int]:
    return [*(one.node_port for one in service.ports), service.health_check_node_port]


def test_ports_that_are_asked_for_are_kept_for_those_who_ask() -> None:
    """kube-apiserver draws the others, and hardly ever draws one of these."""
    made = Services()
    ports = tuple(ServicePort(name=name, port=port, target=80, node_port=node) for name, port, node
                  in (("a", 80, 0), ("b", 81, 30086)))  # fmt: skip
    assert numbers(made.add(Service(name="x", kind="NodePort", ports=ports))) == [30087, 30086, 0]
    local = Service(name="y", kind="LoadBalancer", ports=ports[:1], external_policy="Local")
    assert numbers(made.add(replace(local, health_check_node_port=30088))) == [30089, 30088]
    with pytest.raises(EkslearnError, match="30089 is taken"):
        made.add(replace(local, name="z", health_check_node_port=30089))


def test_a_service_that_changes_keeps_what_it_was_given() -> None:
    made = Services()
    a, b = (ServicePort(name=name, port=port, target=80) for name, port in (("a", 80), ("b", 81)))
    plain = Service(name="x", kind="LoadBalancer", ports=(a,), external_policy="Local")
    first = made.add(plain)
    assert numbers(first) == [30086, 30087]
    second = made.add(replace(plain, ports=(b, replace(a, port=8080))))  # by name, as the server
    assert second.cluster_ip == first.cluster_ip
    assert numbers(second) == [30088, 30086, 30087]
    third = made.add(replace(plain, ports=(replace(b, node_port=30086), a)))
    assert numbers(third) == [30086, 30088, 30087]  # what it had is another's now
    with pytest.raises(EkslearnError, match=r"172\.20\.9\.9 can't take the place of 172\.20\.1\.1"):
        made.add(replace(plain, cluster_ip=IPv4Address("172.20.9.9")))
    assert made["default/x"] == third


NAMES = {
    "service/shop/web:81": "the Service shop/web has no such port; it has 80/tcp",
    "service/shop/web:80/udp": "the Service shop/web has no such port; it has 80/tcp",
    "service/shop/wep:80": "there is no Service shop/wep; there are shop/web",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_service_that_is_not_there(name: str) -> None:
    with pytest.raises(EkslearnError, match=NAMES[name]):
        loaded(RUNNING).trace("default/client", name)


def test_services_without_an_address() -> None:
    none = SERVICE.replace("NodePort", "ClusterIP\n  clusterIP: None")
    cluster = loaded(RUNNING + none)
    with pytest.raises(EkslearnError, match="DNS answers with the addresses of its pods"):
        cluster.trace("default/client", "service/shop/api:80")
    text = SERVICE.replace("NodePort", "ExternalName\n  externalName: example.com")
    with pytest.raises(EkslearnError, match=r"DNS answers with example\.com"):
        loaded(RUNNING + text).trace("default/client", "service/shop/api:80")
