"""Pods, read from ordinary manifests.

What bears on the network is read: name, namespace, labels, annotations, node, hostNetwork, the
containers' ports, the pod's address. Images, volumes, probes and the like stand in a manifest too
and move no packet; a host port would, and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address

from ..document import Node, short
from ..errors import NotModelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container: its name, and the ports it listens on as (80, "tcp").

    ``names`` are the ports that have a name, by (name, protocol).
    """

    name: str
    ports: tuple[tuple[int, str], ...] = ()
    names: dict[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod as its manifest describes it.

    ``node`` is empty where the scheduler is to choose; ``ip`` is a pinned ``status.podIP``.
    ``ready`` is what its readiness probe says, ``terminating`` that it is being deleted.
    """

    name: str
    namespace: str = "default"
    node: str = ""
    host_network: bool = False
    containers: tuple[Container, ...] = ()
    ip: IPv4Address | None = None
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    ready: bool = True
    terminating: bool = False

    @property
    def place(self) -> str:
        """What the pod is called as a place: NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"

    def port(self, target: int | str, protocol: str) -> int | None:
        """The port that a Service's targetPort means here; None if no container has the name."""
        if isinstance(target, int):
            return target
        named = (each.names.get((target, protocol)) for each in self.containers)
        return next(filter(None, named), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityGroupPolicy:
    """Gives the pods of a namespace that bear all of ``labels`` security groups of their own.

    Source: the VPC resource controller's SecurityGroupPolicy, vpcresources.k8s.aws/v1beta1.
    """

    namespace: str
    labels: dict[str, str]
    groups: tuple[str, ...]

    def selects(self, pod: Pod) -> bool:
        """Whether it is about this pod; a pod on its node's network is never selected."""
        mine = pod.namespace == self.namespace and not pod.host_network
        return mine and self.labels.items() <= pod.labels.items()


def read_policy(manifest: Node) -> SecurityGroupPolicy:
    """The policy of one manifest; EkslearnError if it can't be one."""
    groups = manifest.items("spec", "securityGroups", "groupIds")
    if not groups:
        manifest.refuse("a SecurityGroupPolicy needs spec.securityGroups.groupIds")
    return SecurityGroupPolicy(
        namespace=manifest.text("metadata", "namespace", default="default"),
        labels=manifest.texts("spec", "podSelector", "matchLabels"),
        groups=tuple(each.expect(str) for each in groups),
    )


def read_pod(manifest: Node) -> Pod:
    """The pod of one manifest; EkslearnError, with file, line and field, if it can't be one."""
    metadata, spec = manifest.at("metadata"), manifest.at("spec")
    if metadata is None or (name := metadata.at("name")) is None:
        manifest.refuse("a Pod needs metadata.name")
    if spec is None:
        manifest.refuse("a Pod needs a spec")
    namespace, host = metadata.at("namespace"), spec.at("hostNetwork")
    ip = manifest.at("status", "podIP")
    return Pod(
        name=name.name(dotted=True),
        namespace=namespace.name() if namespace else "default",
        node=spec.text("nodeName"),
        host_network=host.truth() if host else False,
        containers=tuple(map(_container, spec.items("containers"))),
        ip=ip.address() if ip else None,
        labels=metadata.texts("labels"),
        annotations=metadata.texts("annotations"),
    )


def _container(node: Node) -> Container:
    name, ports = node.at("name"), node.at("ports")
    if name is None:
        node.refuse("a container needs a name")
    nodes = ports.expect(list) if ports else []
    found = [_port(one) for one in nodes]
    names = {(one.text("name"), port[1]): port[0] for one, port in zip(nodes, found, strict=True)
             if one.at("name")}  # fmt: skip
    return Container(name=name.name(), ports=tuple(found), names=names)


def _port(node: Node) -> tuple[int, str]:
    number = node.at("containerPort")
    if number is None:
        node.refuse("a port needs its containerPort")
    if (host := node.at("hostPort")) is not None:
        host.refuse("hostPort isn't modelled; use a Service, or hostNetwork: true", NotModelled)
    return number.whole(1, 65535), protocol(node)


def protocol(node: Node) -> str:
    """The protocol that a port names: tcp or udp."""
    found = node.text("protocol", default="TCP")
    if found not in ("TCP", "UDP"):
        node.value["protocol"].refuse(f"the protocol {short(found)} isn't modelled; use TCP or"
                                      " UDP", NotModelled)  # fmt: skip
    return found.lower()
