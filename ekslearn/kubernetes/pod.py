"""Pods, read from ordinary manifests.

What bears on the network is read: name, namespace, labels, annotations, node, hostNetwork, the
containers' ports, the pod's address. Images, volumes, probes and the like stand in a manifest too
and move no packet; a host port would, and is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from ..document import Node, short
from ..errors import NotModelled
from .fields import check_object

PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)


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
    ``ready`` is what its readiness probe says, ``terminating`` that it is being deleted. ``owner``
    is the name of the ReplicaSet that made it.
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
    owner: str = ""

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
    namespace, _ = check_object(manifest, "SecurityGroupPolicy")
    return SecurityGroupPolicy(
        namespace=namespace, labels=manifest.texts("spec", "podSelector", "matchLabels"),
        groups=tuple(one.expect(str)
                     for one in manifest.items("spec", "securityGroups", "groupIds")),
    )  # fmt: skip


def read_pod(manifest: Node) -> Pod:
    """The pod of one manifest; EkslearnError, with file, line and field, if it can't be one."""
    namespace, name = check_object(manifest, "Pod")
    spec, ip = manifest.value["spec"], manifest.at("status", "podIP")
    host = spec.flag("hostNetwork")
    beside = [one for one in spec.items("initContainers") if one.text("restartPolicy") == "Always"]
    said = {one.text("type"): one.text("status") for one in manifest.items("status", "conditions")}
    return Pod(
        name=name, namespace=namespace, node=spec.text("nodeName"), host_network=host,
        containers=tuple(_container(one, host) for one in [*spec.items("containers"), *beside]),
        labels=manifest.texts("metadata", "labels"), ip=ip.address() if ip else None,
        annotations=manifest.texts("metadata", "annotations"), ready=said.get("Ready") != "False",
        terminating=manifest.at("metadata", "deletionTimestamp") is not None,
        owner=next((one.text("name") for one in manifest.items("metadata", "ownerReferences")
                    if one.text("kind") == "ReplicaSet"), ""),
    )  # fmt: skip


def _container(node: Node, host: bool) -> Container:
    nodes = node.items("ports")
    found = [_port(one, host) for one in nodes]
    names = {(port_name(one.value["name"]), port[1]): port[0]
             for one, port in zip(nodes, found, strict=True) if one.at("name")}  # fmt: skip
    return Container(name=node.value["name"].name(), ports=tuple(found), names=names)


def _port(node: Node, host: bool) -> tuple[int, str]:
    port, outside = node.value["containerPort"].whole(1, 65535), node.at("hostPort")
    if outside and not (host and outside.whole(1, 65535) == port):
        outside.refuse("hostPort isn't modelled; use a Service, or hostNetwork: true", NotModelled)
    return port, protocol(node)


def port_name(node: Node) -> str:
    """The text, if it can name a container's port (RFC 6335)."""
    text: str = node.expect(str)
    if not PORT_NAME.fullmatch(text) or len(text) > 15:
        node.refuse(f"{short(text)} can't name a port: at most 15 of a-z, 0-9, single -; a letter")
    return text


def protocol(node: Node) -> str:
    """The protocol that a port names: tcp or udp."""
    found = node.at("protocol")
    if found and found.expect(str) not in ("TCP", "UDP"):
        found.refuse(
            f"the protocol {short(found.value)} isn't modelled; use TCP or UDP", NotModelled
        )
    return str(found.value).lower() if found else "tcp"
