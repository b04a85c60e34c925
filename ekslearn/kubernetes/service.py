"""Services and EndpointSlices, read from ordinary manifests.

Source: Kubernetes API reference, "Service v1" and "EndpointSlice discovery.k8s.io/v1".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from ..document import Node, short
from ..errors import NotModelled
from .pod import Pod, protocol

AFFINITY_S = 10800  # seconds that sessionAffinity: ClientIP lasts, unless the manifest says
NODE_PORTS = (30000, 32767)  # kube-apiserver's --service-node-port-range
SLICE_OF = "kubernetes.io/service-name"  # the label by which a slice belongs to a Service
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
    """

    ip: IPv4Address
    port: int
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlice:
    """Endpoints that somebody wrote down: of a Service without selector.

    ``ports`` has a number for each (name, protocol); an endpoint's own port is left 0.
    """

    service: str
    ports: dict[tuple[str, str], int]
    endpoints: tuple[Endpoint, ...]


def read_service(manifest: Node) -> Service:
    """The Service of one manifest; EkslearnError, with file, line and field, if it can't be one."""
    name, spec = manifest.at("metadata", "name"), manifest.at("spec")
    if name is None or spec is None:
        manifest.refuse("a Service needs metadata.name and a spec")
    kind = spec.choice("ClusterIP", "NodePort", "LoadBalancer", "ExternalName", path=("type",))
    ip = spec.at("clusterIP")
    headless = ip is not None and ip.value == "None"
    for family in spec.items("ipFamilies"):
        if family.expect(str) != "IPv4":
            family.refuse(f"{short(family.value)} isn't modelled; use IPv4", NotModelled)
    external_name = spec.text("externalName")
    if (kind == "ExternalName") != bool(external_name):
        spec.refuse("externalName belongs to a Service of type ExternalName, and it needs one")
    affinity = spec.choice("None", "ClientIP", path=("sessionAffinity",))
    timeout = spec.at("sessionAffinityConfig", "clientIP", "timeoutSeconds")
    policies = [spec.choice("Cluster", "Local", path=(each,))
                for each in ("internalTrafficPolicy", "externalTrafficPolicy")]  # fmt: skip
    if (policy := spec.at("externalTrafficPolicy")) and kind not in ("NodePort", "LoadBalancer"):
        policy.refuse(f"a Service of type {kind} has no externalTrafficPolicy: nothing outside"
                      " the cluster reaches it")  # fmt: skip
    check = spec.at("healthCheckNodePort")
    if check and (kind, policies[1]) != ("LoadBalancer", "Local"):
        check.refuse("healthCheckNodePort is for type: LoadBalancer with externalTrafficPolicy:"
                     " Local")  # fmt: skip
    allocates = spec.at("allocateLoadBalancerNodePorts")
    unready = spec.at("publishNotReadyAddresses")
    made = Service(
        name=name.name(), namespace=_namespace(manifest), kind=kind,
        selector=spec.texts("selector"), ports=_ports(spec, kind, headless),
        cluster_ip=ip.address() if ip and ip.value not in ("None", "") else None,
        headless=headless, internal_policy=policies[0], external_policy=policies[1],
        affinity_s=0 if affinity == "None" else timeout.whole(1, 86400) if timeout else AFFINITY_S,
        health_check_node_port=check.whole(*NODE_PORTS) if check else 0,
        external_name=external_name,
        external_ips=tuple(one.address() for one in spec.items("externalIPs")),
        source_ranges=tuple(one.network() for one in spec.items("loadBalancerSourceRanges")),
        allocates_node_ports=allocates.truth() if allocates else True,
        load_balancer_class=spec.text("loadBalancerClass"),
        publishes_not_ready=unready.truth() if unready else False,
        annotations=manifest.texts("metadata", "annotations"),
    )  # fmt: skip
    if headless and made.external:
        ip = spec.value["clusterIP"]
        ip.refuse(f"a headless Service can't be of type {kind}")
    return made


def _namespace(manifest: Node) -> str:
    node = manifest.at("metadata", "namespace")
    return node.name() if node else "default"


def _ports(spec: Node, kind: str, headless: bool) -> tuple[ServicePort, ...]:
    nodes, ports = spec.items("ports"), list[ServicePort]()
    if not nodes and not headless and kind != "ExternalName":
        spec.refuse("a Service needs ports")
    for node in nodes:
        number, target, at_node = node.at("port"), node.at("targetPort"), node.at("nodePort")
        if number is None:
            node.refuse("a port needs its port")
        port = number.whole(1, 65535)
        if at_node and kind not in ("NodePort", "LoadBalancer"):
            at_node.refuse(f"a Service of type {kind} has no nodePort")
        ports.append(ServicePort(
            port=port, name=node.text("name"), protocol=protocol(node),
            target=port if target is None
            else target.expect(str) if isinstance(target.value, str) else target.whole(1, 65535),
            node_port=at_node.whole(*NODE_PORTS) if at_node else 0,
        ))  # fmt: skip
        if len(nodes) > 1 and not ports[-1].name:
            node.refuse("each port of several needs a name")
        twins = [
            one
            for one in ports[:-1]
            if one.name == ports[-1].name or (one.port, one.protocol) == (port, protocol(node))
        ]
        if twins:
            node.refuse("another port of the Service has the same name, or the same number and"
                        " protocol")  # fmt: skip
    return tuple(ports)


def read_slice(manifest: Node) -> EndpointSlice:
    """The EndpointSlice of one manifest; EkslearnError if it can't be one."""
    manifest.choice("IPv4", path=("addressType",))
    service = manifest.text("metadata", "labels", SLICE_OF)
    if not service:
        manifest.refuse(f"an EndpointSlice needs the label {SLICE_OF}: the Service it belongs to")
    endpoints = []
    for node in manifest.items("endpoints"):
        for address in node.items("addresses"):
            said = {each: one.truth() if (one := node.at("conditions", each)) else None
                    for each in ("ready", "serving", "terminating")}  # fmt: skip
            ready = said["ready"] is not False
            serving = ready if said["serving"] is None else said["serving"]
            endpoints.append(Endpoint(
                ip=address.address(), port=0, node=node.text("nodeName"), ready=ready,
                serving=serving, terminating=bool(said["terminating"]),
            ))  # fmt: skip
    ports = {}
    for node in manifest.items("ports"):
        if (number := node.at("port")) is None:
            node.refuse("a port of an EndpointSlice needs its port")
        ports[node.text("name"), protocol(node)] = number.whole(1, 65535)
    return EndpointSlice(
        service=f"{_namespace(manifest)}/{service}", ports=ports, endpoints=tuple(endpoints)
    )
