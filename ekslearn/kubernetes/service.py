"""Services and EndpointSlices, read from ordinary manifests.

Source: Kubernetes API reference, "Service v1" and "EndpointSlice discovery.k8s.io/v1".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from ..document import NAME, Node, short
from ..errors import NotModelled
from .fields import check_object
from .pod import Pod, port_name, protocol

AFFINITY_S = 10800  # seconds that sessionAffinity: ClientIP lasts, unless the manifest says
NODE_PORTS = (30000, 32767)  # kube-apiserver's --service-node-port-range
SLICE_OF = "kubernetes.io/service-name"  # the label by which a slice belongs to a Service
# The label that says who looks after a slice, and what the controller writes there, which makes
# slices out of pods.
MANAGER, CONTROLLER = "endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"
CLASS = "service.k8s.aws/nlb"  # the load balancer class of the AWS Load Balancer Controller


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """A port of a Service; ``target`` is a port of the pods, or the name of one.

    ``node_port`` is 0 where none is asked for, or none given yet.
    """

    port: int
    target: int | str
    name: str = ""
    protocol: str = "tcp"
    node_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service as its manifest describes it.

    ``kind`` is its ``type``. ``cluster_ip`` is None until one is given, and for a headless one.
    ``affinity_s`` is how long (s) a client stays with its endpoint, 0 for not at all. The
    policies are "Cluster" or "Local".
    """

    name: str
    namespace: str = "default"
    kind: str = "ClusterIP"
    selector: dict[str, str] = field(default_factory=dict)
    ports: tuple[ServicePort, ...] = ()
    cluster_ip: IPv4Address | None = None
    headless: bool = False
    affinity_s: int = 0
    internal_policy: str = "Cluster"
    external_policy: str = "Cluster"
    health_check_node_port: int = 0
    external_name: str = ""
    external_ips: tuple[IPv4Address, ...] = ()
    source_ranges: tuple[IPv4Network, ...] = ()
    allocates_node_ports: bool = True
    load_balancer_class: str = ""
    publishes_not_ready: bool = False
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What the Service is called: NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"

    @property
    def external(self) -> bool:
        """Whether it has ports on every node."""
        return self.kind in ("NodePort", "LoadBalancer")

    @property
    def pinned(self) -> bool:
        """Whether it asks for an address or a port by number."""
        ports = any(one.node_port for one in self.ports)
        return bool(self.cluster_ip or self.health_check_node_port or ports)

    def selects(self, pod: Pod) -> bool:
        """Whether it is about this pod."""
        same = pod.namespace == self.namespace
        return same and bool(self.selector) and self.selector.items() <= pod.labels.items()

    def port_name(self, port: ServicePort) -> str:
        """What kube-proxy calls one of its ports: shop/web:http, or shop/web without a name."""
        return f"{self.key}:{port.name}" if port.name else self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a Service's port may send a connection; ``node`` is empty for none of the cluster's.

    ``serving`` stays true while a pod that is being deleted (``terminating``) still answers.
    ``pod`` says that it is one (its targetRef).
    """

    ip: IPv4Address
    port: int
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    pod: bool = True

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlice:
    """Endpoints that somebody wrote down: of a Service without selector.

    ``ports`` has a number for each (name, protocol); an endpoint's own port is left 0. One that the
    controller made (``of_controller``) says nothing of a Service with a selector but what its pods
    say.
    """

    name: str = ""
    service: str
    of_controller: bool = False
    ports: dict[tuple[str, str], int]
    endpoints: tuple[Endpoint, ...]


def read_service(manifest: Node) -> Service:
    """The Service of one manifest; EkslearnError, with file, line and field, if it can't be one."""
    namespace, name = check_object(manifest, "Service")
    spec = manifest.value["spec"]
    kind = spec.choice("ClusterIP", "NodePort", "LoadBalancer", "ExternalName", path=("type",))
    ip, named, ips = spec.at("clusterIP"), spec.at("externalName"), spec.items("externalIPs")
    headless = ip is not None and ip.value == "None"
    _one_family(spec, ip)
    if kind == "ExternalName" and (not named or (ip and ip.value)):
        spec.refuse("a Service of type ExternalName needs externalName, and has no clusterIP")
    if named and not all(map(NAME.fullmatch, named.expect(str).removesuffix(".").split("."))):
        named.refuse(f"{short(named.value)} isn't a name that DNS can know")
    affinity = spec.choice("None", "ClientIP", path=("sessionAffinity",))
    timeout = spec.at("sessionAffinityConfig", "clientIP", "timeoutSeconds")
    policies = [spec.choice("Cluster", "Local", path=(each,))
                for each in ("internalTrafficPolicy", "externalTrafficPolicy")]  # fmt: skip
    external = kind in ("NodePort", "LoadBalancer")
    if (policy := spec.at("externalTrafficPolicy")) and not (external or ips):
        policy.refuse(f"a Service of type {kind} has no externalTrafficPolicy: nothing outside"
                      " the cluster reaches it")  # fmt: skip
    health = spec.at("healthCheckNodePort")
    if headless and external:
        spec.value["clusterIP"].refuse(f"a headless Service can't be of type {kind}")
    return Service(
        name=name, namespace=namespace, kind=kind,
        selector=spec.texts("selector"), ports=_ports(spec, kind, headless),
        cluster_ip=ip.address() if ip and ip.value not in ("None", "") else None,
        headless=headless, internal_policy=policies[0], external_policy=policies[1],
        affinity_s=0 if affinity == "None" else timeout.whole(1, 86400) if timeout else AFFINITY_S,
        health_check_node_port=health.whole(*NODE_PORTS) if health else 0,
        external_name=named.value if named else "",
        external_ips=tuple(map(_reachable, ips)),
        source_ranges=tuple(one.network() for one in spec.items("loadBalancerSourceRanges")),
        allocates_node_ports=spec.flag("allocateLoadBalancerNodePorts", default=True),
        load_balancer_class=spec.text("loadBalancerClass"),
        publishes_not_ready=spec.flag("publishNotReadyAddresses"),
        annotations=manifest.texts("metadata", "annotations"),
    )  # fmt: skip


def _one_family(spec: Node, ip: Node | None) -> None:
    """Refuse what asks for IPv6, or for two addresses."""
    for family in spec.items("ipFamilies"):
        if family.expect(str) != "IPv4":
            family.refuse(f"{short(family.value)} isn't modelled; use IPv4", NotModelled)
    if policy := spec.at("ipFamilyPolicy"):
        policy.known(("SingleStack", "PreferDualStack"), "policy for IPv4 alone")
    for number, one in enumerate(spec.items("clusterIPs")):
        if number or one.expect(str) != (ip and ip.value):
            one.refuse("clusterIPs has to hold what clusterIP says, and nothing more")


def _reachable(node: Node) -> IPv4Address:
    """The address, if it can be one of another machine."""
    ip = node.address()
    if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        node.refuse(f"{ip} can't be the address of an endpoint, or of a Service")
    return ip


def _ports(spec: Node, kind: str, headless: bool) -> tuple[ServicePort, ...]:
    nodes, ports = spec.items("ports"), list[ServicePort]()
    if not nodes and not headless and kind != "ExternalName":
        spec.refuse("a Service needs ports")
    for node in nodes:
        target, at_node = node.at("targetPort"), node.at("nodePort")
        port = node.value["port"].whole(1, 65535)
        if at_node and kind not in ("NodePort", "LoadBalancer"):
            at_node.refuse(f"a Service of type {kind} has no nodePort")
        made = ServicePort(
            port=port, name=node.value["name"].name() if node.text("name") else "",
            protocol=protocol(node), target=port if target is None
            else port_name(target) if isinstance(target.value, str) else target.whole(1, 65535),
            node_port=at_node.whole(*NODE_PORTS) if at_node else 0,
        )  # fmt: skip
        if len(nodes) > 1 and not made.name:
            node.refuse("each port of several needs a name")
        for one in ports:
            if (one.port, one.protocol) == (port, made.protocol):
                node.refuse("another port of the Service has the same number and protocol")
        ports.append(made)
    return tuple(ports)


def read_slice(manifest: Node) -> EndpointSlice:
    """The EndpointSlice of one manifest; EkslearnError if it can't be one."""
    namespace, name = check_object(manifest, "EndpointSlice")
    service = manifest.text("metadata", "labels", SLICE_OF)
    family = manifest.value["addressType"]
    if family.known(("IPv4", "IPv6", "FQDN"), "type of address") != "IPv4":
        family.refuse(f"{family.value} isn't modelled; use IPv4", NotModelled)
    if not service:
        manifest.refuse(f"an EndpointSlice needs the label {SLICE_OF}: the Service it belongs to")
    endpoints = []
    for node in manifest.items("endpoints"):
        ready = node.flag("conditions", "ready", default=True)
        endpoints.append(Endpoint(
            ip=_reachable(node.items("addresses")[0]),  # kube-proxy doesn't look at others
            port=0, node=node.text("nodeName"), ready=ready,
            serving=node.flag("conditions", "serving", default=ready),
            terminating=node.flag("conditions", "terminating"),
            pod=node.text("targetRef", "kind") == "Pod",
        ))  # fmt: skip
    ports = {}
    for node in manifest.items("ports"):
        ports[node.text("name"), protocol(node)] = node.value["port"].whole(1, 65535)
    return EndpointSlice(
        name=name, service=f"{namespace}/{service}", ports=ports, endpoints=tuple(endpoints),
        of_controller=manifest.text("metadata", "labels", MANAGER) == CONTROLLER,
    )  # fmt: skip
