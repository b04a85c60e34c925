"""What the control plane makes of Services: their addresses and ports, and their endpoints.

Source: kube-apiserver's allocators (pkg/registry/core/service), and the EndpointSlice controller
(staging/src/k8s.io/endpointslice/utils.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import NoReturn

from ..document import Node
from ..errors import EkslearnError
from .pod import Pod
from .service import NODE_PORTS, Endpoint, EndpointSlice, Service, ServicePort

# What EKS picks: the second where the VPC has the first.
SERVICE_CIDRS = SERVICE_CIDR, _ = IPv4Network("172.20.0.0/16"), IPv4Network("10.100.0.0/16")
# How many of each range are kept for those who ask for one by name: what is given without being
# asked for comes from behind them (KEP-3070, KEP-3668). kube-apiserver draws it, here the first
# free one is taken.
KEPT_ADDRESSES, KEPT_PORTS = 256, 86


@dataclass(frozen=True, slots=True)
class Backed:
    """One port of one Service with the endpoints behind it, in the order of their text."""

    service: Service
    port: ServicePort
    endpoints: tuple[Endpoint, ...]

    @property
    def name(self) -> str:
        """What kube-proxy calls it: shop/web:http."""
        return self.service.port_name(self.port)


class Services:
    """The Services of a cluster by NAMESPACE/NAME, with what was given to them."""

    def __init__(self, cidr: IPv4Network = SERVICE_CIDR) -> None:
        self.cidr = cidr
        self.slices: list[EndpointSlice] = []
        self._held: dict[str, Service] = {}

    def __iter__(self) -> Iterator[Service]:
        return iter(self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, key: str) -> Service:
        """The Service NAMESPACE/NAME; EkslearnError if there is none."""
        if key not in self._held:
            there = ", ".join(self._held) or "none"
            raise EkslearnError(f"there is no Service {key}; there are {there}")
        return self._held[key]

    def add(self, service: Service, at: Node | None = None) -> Service:
        """Take a Service in, or change one; it comes back with the address and ports it is given.

        ``at`` is its manifest, for the refusal: EkslearnError where an address or port that it asks
        for isn't to be had.
        """
        old = self._held.get(service.key)
        rest = [one for one in self if one is not old]
        was = {port.name: port.node_port for port in old.ports} if old else {}
        checked_at = old.health_check_node_port if old else 0
        taken = {port.node_port for one in rest for port in one.ports}
        taken |= {one.health_check_node_port for one in rest}
        address = self._address(service, old, rest, at)
        kept = {service.health_check_node_port or checked_at} - taken
        taken |= kept
        ports, given = list(service.ports), dict[int, int]()
        # First those that ask for one, then those that had one (patchAllocatedValues); TCP and UDP
        # of one number share it (initNodePorts).
        for number, port in sorted(enumerate(ports), key=lambda one: (
                not one[1].node_port, one[1].name not in was)):  # fmt: skip
            if service.external and (port.node_port or service.allocates_node_ports):
                if port.port not in given or port.node_port not in (0, given[port.port]):
                    node = at.items("spec", "ports")[number] if at else None
                    given[port.port] = _port(port.node_port, was.get(port.name, 0), taken,
                                             node and (node.at("nodePort") or node))  # fmt: skip
                ports[number] = replace(port, node_port=given[port.port])
        checked = (service.kind, service.external_policy) == ("LoadBalancer", "Local")
        check = checked and _port(
            service.health_check_node_port, checked_at, taken - kept,
            at and (at.at("spec", "healthCheckNodePort") or at))  # fmt: skip
        made = self._held[service.key] = replace(service, cluster_ip=address, ports=tuple(ports),
                                                 health_check_node_port=int(check))  # fmt: skip
        return made

    def _address(self, service: Service, old: Service | None, rest: list[Service],
                 at: Node | None) -> IPv4Address | None:  # fmt: skip
        """The address asked for, the one there was, or the first that is free."""
        if service.headless or service.kind == "ExternalName":
            return None
        asked, here = service.cluster_ip, at and (at.at("spec", "clusterIP") or at)
        holders = {one.cluster_ip: one.key for one in rest}
        if asked and old and old.cluster_ip not in (None, asked):
            _refuse(here, f"{asked} can't take the place of {old.cluster_ip}: it may not change")
        if asked and asked in holders:
            _refuse(here, f"{asked} is the address of {holders[asked]}; leave clusterIP out")
        first, last = self.cidr.network_address, self.cidr.broadcast_address
        if asked and not first < asked < last:
            _refuse(here, f"{asked} isn't in {self.cidr}, the Services' range (spec.serviceCIDR)")
        if found := asked or (old.cluster_ip if old else None):
            return found
        kept = min(max(16, self.cidr.num_addresses // 16), KEPT_ADDRESSES)
        for number in (*range(kept + 1, self.cidr.num_addresses - 1), *range(1, kept + 1)):
            if first + number not in holders and first + number < last:
                return IPv4Address(int(first) + number)
        _refuse(here, f"no address of {self.cidr} is free")

    def target(self, text: str) -> str:
        """The address, port and protocol of NAMESPACE/NAME:PORT, where PORT may be a name.

        Raises EkslearnError for a Service or port that isn't there, or has no address.
        """
        key, _, end = text.partition(":")
        service, (wanted, _, protocol) = self[key], end.partition("/")
        fitting = [one for one in service.ports if wanted in (str(one.port), one.name)
                   and protocol in ("", one.protocol)]  # fmt: skip
        if not service.cluster_ip:
            instead = service.external_name or "the addresses of its pods"
            raise EkslearnError(f"{key} has no address of its own: DNS answers with {instead}")
        if not fitting:
            there = ", ".join(f"{one.port}/{one.protocol}" for one in service.ports)
            raise EkslearnError(f"service/{text}: the Service {key} has no such port; it has"
                                f" {there}")  # fmt: skip
        return f"{service.cluster_ip}:{fitting[0].port}/{fitting[0].protocol}"

    def remove(self, key: str) -> None:
        """Delete a Service; EkslearnError if there is none."""
        del self._held[self[key].key]

    def backed(self, pods: Mapping[str, Pod], addresses: Mapping[str, IPv4Address]) -> list[Backed]:
        """Every port of every Service with its endpoints, sorted by name.

        ``addresses`` are those of the pods that have one, by their places.
        """
        found = []
        for service in self:
            for port in service.ports:
                # one for each address and port, whichever slice has it
                ends = {str(one): one for one in self._behind(service, port, pods, addresses)}
                found.append(Backed(service, port, tuple(ends[key] for key in sorted(ends))))
        return sorted(found, key=lambda one: (one.service.key.split("/"), one.port.name,
                                              one.port.port))  # fmt: skip

    def _behind(
        self, service: Service, port: ServicePort, pods: Mapping[str, Pod],
        addresses: Mapping[str, IPv4Address],
    ) -> Iterator[Endpoint]:  # fmt: skip
        for piece in self.slices:
            number = piece.ports.get((port.name, port.protocol))
            anew = piece.of_controller and service.selector  # as pods change
            if piece.service == service.key and number and not anew:
                yield from (replace(one, port=number) for one in piece.endpoints)
        for place, pod in pods.items():
            number = pod.port(port.target, port.protocol)
            if number and place in addresses and service.selects(pod):
                ready = (pod.ready and not pod.terminating) or service.publishes_not_ready
                yield Endpoint(
                    ip=addresses[place], port=number, node=pod.node, ready=ready,
                    serving=pod.ready, terminating=pod.terminating,
                )  # fmt: skip


def service_cidr(asked: Node | None, vpc: Iterable[IPv4Network]) -> IPv4Network:
    """The range of ClusterIPs that is asked for, else the one of EKS's that the VPC leaves free.

    Raises EkslearnError for one that the VPC has too (EKS user guide, "VPC and subnet
    requirements").
    """
    for one in [asked.network()] if asked else SERVICE_CIDRS:
        if not any(map(one.overlaps, vpc)):
            return one
    _refuse(asked, "Services need a range that the VPC doesn't have; choose another serviceCIDR")


def _port(asked: int, before: int, taken: set[int], at: Node | None) -> int:
    """The port asked for, the one there was, or the first that is free; then it is taken."""
    if asked and asked in taken:
        _refuse(at, f"{asked} is taken: another Service, or port, has it as its nodePort")
    free = (one for one in range(NODE_PORTS[0] + KEPT_PORTS, NODE_PORTS[1] + 1) if one not in taken)
    found = asked or (before not in taken and before) or next(free, 0)
    if not found:
        _refuse(at, f"no port from {NODE_PORTS[0]} to {NODE_PORTS[1]} is free")
    taken.add(found)
    return found


def _refuse(at: Node | None, why: str) -> NoReturn:
    if at:
        at.refuse(why)
    raise EkslearnError(why)
