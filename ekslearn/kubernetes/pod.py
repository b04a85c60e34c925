"""Pods, read from ordinary manifests.

What bears on the network is read: name, namespace, labels, annotations, node, hostNetwork, the
containers' ports, the pod's address. Images, volumes, probes and the like stand in a manifest too
and move no packet; a host port would, and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address

from ..document import Node, short
from ..errors import NotModelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container: its name, and the ports it listens on as (80, "tcp")."""

    name: str
    ports: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod as its manifest describes it.

    ``node`` is empty where the scheduler is to choose; ``ip`` is a pinned ``status.podIP``.
    """

    name: str
    namespace: str = "default"
    node: str = ""
    host_network: bool = False
    containers: tuple[Container, ...] = ()
    ip: IPv4Address | None = None
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """What the pod is called as a place: NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"


def read_pod(manifest: Node) -> Pod:
    """The pod of one manifest; EkslearnError, with file, line and field, if it can't be one."""
    metadata, spec = manifest.at("metadata"), manifest.at("spec")
    if metadata is None or (name := metadata.at("name")) is None:
        manifest.refuse("a Pod needs metadata.name")
    if spec is None:
        manifest.refuse("a Pod needs a spec")
    namespace, host = metadata.at("namespace"), spec.at("hostNetwork")
    containers = spec.at("containers")
    return Pod(
        name=name.name(),
        namespace=namespace.name() if namespace else "default",
        node=spec.text("nodeName"),
        host_network=host.truth() if host else False,
        containers=tuple(map(_container, containers.expect(list))) if containers else (),
        ip=_address(manifest.at("status", "podIP")),
        labels=_texts(metadata.at("labels")),
        annotations=_texts(metadata.at("annotations")),
    )


def _container(node: Node) -> Container:
    name, ports = node.at("name"), node.at("ports")
    if name is None:
        node.refuse("a container needs a name")
    return Container(name=name.name(), ports=tuple(map(_port, ports.expect(list))) if ports else ())


def _port(node: Node) -> tuple[int, str]:
    number = node.at("containerPort")
    if number is None:
        node.refuse("a port needs its containerPort")
    if (host := node.at("hostPort")) is not None:
        host.refuse("hostPort isn't modelled; use a Service, or hostNetwork: true", NotModelled)
    protocol = node.text("protocol", default="TCP")
    if protocol not in ("TCP", "UDP"):
        node.value["protocol"].refuse(f"the protocol {short(protocol)} isn't modelled; use TCP or"
                                      " UDP", NotModelled)  # fmt: skip
    return number.whole(1, 65535), protocol.lower()


def _address(node: Node | None) -> IPv4Address | None:
    if node is None:
        return None
    try:
        return IPv4Address(node.expect(str))
    except AddressValueError:
        node.refuse(f"{short(node.value)} isn't an IPv4 address")


def _texts(node: Node | None) -> dict[str, str]:
    return {key: one.expect(str) for key, one in node.expect(dict).items()} if node else {}
