"""What one name costs in packets: the pod's search list, CoreDNS, and the VPC's resolver behind it.

Source: resolv.conf(5) and glibc's __res_context_search (resolv/res_query.c); kubelet's
pkg/kubelet/network/dns; EKS's Corefile ("kubernetes cluster.local", "forward . /etc/resolv.conf",
"cache 30"). Not modelled: musl, which asks for A and AAAA at once and gives up sooner; dnsPolicy
and dnsConfig; NodeLocal DNSCache, which would answer on the pod's own node what it has kept; lost
answers, asked for again after 5 s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from .kubernetes import Service
from .vpc.resolver import Resolver

ZONE = "cluster.local"
CACHE_S = 30.0  # how long CoreDNS keeps an answer, or that there is none
KINDS = ("A", "AAAA")  # getaddrinfo asks for both


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvConf:
    """A pod's /etc/resolv.conf, as str() writes it.

    A name with fewer dots than ``ndots`` is tried with each ending of ``search`` first.
    """

    nameserver: IPv4Address
    search: tuple[str, ...]
    ndots: int = 5

    def __str__(self) -> str:
        return (f"search {' '.join(self.search)}\nnameserver {self.nameserver}\n"
                f"options ndots:{self.ndots}")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Query:
    """One question for a name server: a full name, and whether its A or AAAA is wanted."""

    name: str
    kind: str
    found: bool


def resolv_conf(namespace: str, nameserver: IPv4Address, region: str) -> ResolvConf:
    """What kubelet writes for a pod (dnsPolicy: ClusterFirst) of a namespace in an AWS Region.

    The last ending is the node's own, from DHCP (VPC user guide, "DHCP option sets").
    """
    own = "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"
    search = (f"{namespace}.svc.{ZONE}", f"svc.{ZONE}", ZONE, own)
    return ResolvConf(nameserver=nameserver, search=search)


def queries(name: str, conf: ResolvConf, exists: Callable[[str], bool]) -> list[Query]:
    """What is asked until a name is found, or none is left to try.

    ``exists`` says of a full name, without the last dot, whether there is one.

    >>> conf = resolv_conf("shop", IPv4Address("172.20.0.10"), "eu-west-1")
    >>> [each.name for each in queries("web", conf, "web.shop.svc.cluster.local".__eq__)]
    ['web.shop.svc.cluster.local', 'web.shop.svc.cluster.local']
    >>> len(queries("api.github.com", conf, "api.github.com".__eq__))
    10
    """
    ended = [f"{name}.{each}" for each in conf.search]
    tried = [*ended, name] if name.count(".") < conf.ndots else [name, *ended]
    asked: list[Query] = []
    for each in [name[:-1]] if name.endswith(".") else tried:
        asked += [Query(each, kind, exists(each)) for kind in KINDS]
        if asked[-1].found:
            break
    return asked


def service_names(services: Iterable[Service]) -> set[str]:
    """The names that CoreDNS knows of Services."""
    return {f"{each.name}.{each.namespace}.svc.{ZONE}" for each in services}


class CoreDns:
    """A CoreDNS pod: it answers for the cluster's zone, and asks the VPC's resolver for the rest.

    ``eni`` is the ENI that carries what it asks.
    """

    def __init__(self, eni: str, resolver: Resolver, *, cache_s: float = CACHE_S) -> None:
        self.eni, self.resolver, self.cache_s = eni, resolver, cache_s
        self._kept: dict[tuple[str, str], float] = {}

    def ask(self, query: Query, clock: float) -> str:
        """What becomes of a query at ``clock`` seconds: own, kept, forwarded or dropped."""
        key = query.name, query.kind
        if query.name == ZONE or query.name.endswith(f".{ZONE}"):
            return "own"
        if clock < self._kept.get(key, clock):
            return "kept"
        if not self.resolver.admits(self.eni, clock):
            return "dropped"
        self._kept[key] = clock + self.cache_s
        return "forwarded"
