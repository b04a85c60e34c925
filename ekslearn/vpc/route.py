"""A subnet's VPC route table. Not to be taken for a Linux one: it belongs to the subnet, not to a
machine, and the router that reads it stands nowhere and takes no TTL.

Source: Amazon VPC user guide, "Route tables" and "Configure route tables" (route priority).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from ..errors import EkslearnError
from .error import cidr_of, ec2_refuses

LOCAL = "local"  # implied; the others are written
TARGETS = ("igw", "nat", "tgw", "pcx")


@dataclass(frozen=True, slots=True)
class VpcRoute:
    """Packets to ``destination`` go to ``target``: local, igw, nat, tgw or pcx."""

    destination: IPv4Network
    target: str

    def __str__(self) -> str:
        return f"{self.destination} -> {self.target}"


class RouteTable:
    """The routes of one subnet, longest prefix first; ``name`` is the subnet's."""

    def __init__(self, name: str, routes: Iterable[tuple[str, str]] = ()) -> None:
        self.name = name
        self.routes: list[VpcRoute] = []
        for destination, target in routes:
            self.add(destination, target)

    def add(self, destination: str | IPv4Network, target: str) -> VpcRoute:
        """Add a route (CreateRoute).

        Raises EkslearnError for a target that isn't modelled, Ec2Error: RouteAlreadyExists;
        InvalidParameterValue for no CIDR, or one that the VPC's own CIDRs hold.
        """
        if target not in TARGETS:
            there = ", ".join(TARGETS)
            raise EkslearnError(f"{self.name} has a route to {target!r}; targets are {there}")
        return self._put(VpcRoute(cidr_of(destination, what="destinationCidrBlock"), target))

    def add_local(self, cidr: IPv4Network) -> VpcRoute:
        """Lead one of the VPC's own CIDRs to the VPC itself, as every table does."""
        return self._put(VpcRoute(cidr, LOCAL))

    def _put(self, made: VpcRoute) -> VpcRoute:
        for other in self.routes:
            same = other.destination == made.destination
            ec2_refuses(same, "route twice", made.destination)
            inner, outer = (made, other) if other.target == LOCAL else (other, made)
            within = outer.target == LOCAL and inner.destination.subnet_of(outer.destination)
            ec2_refuses(within, "route inside", inner.destination)
        self.routes.append(made)
        self.routes.sort(key=lambda each: (-each.destination.prefixlen, each.destination))
        return made

    def lookup(self, address: IPv4Address) -> VpcRoute | None:
        """The route with the longest prefix that holds ``address``, or None."""
        return next((route for route in self.routes if address in route.destination), None)

    def leads_to(self, target: str) -> bool:
        """Whether any route has this target: what makes a subnet "public" is one to igw."""
        return any(route.target == target for route in self.routes)
