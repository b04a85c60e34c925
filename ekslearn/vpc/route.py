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

LOCAL = "local"
TARGETS = ("igw", "nat", "tgw", "pcx")  # the contract's; "local" is implied and can't be written
INSIDE = (
    "The destination CIDR block {} is equal to or more specific than one of this VPC's CIDR"
    " blocks. This route can target only an interface or an instance."
)


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

    def add(self, destination: str, target: str) -> VpcRoute:
        """Add a route (CreateRoute).

        Raises EkslearnError for a target that isn't modelled, Ec2Error: RouteAlreadyExists;
        InvalidParameterValue for no CIDR, or one that the VPC's own CIDRs hold.
        """
        if target not in TARGETS:
            raise EkslearnError(
                f"the route table of {self.name}: {target!r} is no target that is modelled;"
                f" there are {', '.join(TARGETS)}, and {LOCAL} is implied"
            )
        network = cidr_of(destination, what="destinationCidrBlock")
        twice = any(route.destination == network for route in self.routes)
        said = f"The route identified by {network} already exists."
        ec2_refuses(twice, "RouteAlreadyExists", said)
        self._refuse_inside(network, [r.destination for r in self.routes if r.target == LOCAL])
        return self._put(VpcRoute(network, target))

    def add_local(self, cidr: IPv4Network) -> None:
        """Lead one of the VPC's own CIDRs to the VPC itself."""
        for route in self.routes:
            self._refuse_inside(route.destination, [cidr])
        self._put(VpcRoute(cidr, LOCAL))

    def remove(self, destination: str) -> None:
        """Delete a route (DeleteRoute); Ec2Error InvalidRoute.NotFound if there is none."""
        left = [each for each in self.routes
                if each.target == LOCAL or str(each.destination) != destination]  # fmt: skip
        said = f"no route with destination-cidr-block {destination} in route table {self.name}"
        ec2_refuses(len(left) == len(self.routes), "InvalidRoute.NotFound", said)
        self.routes = left

    def lookup(self, address: IPv4Address) -> VpcRoute | None:
        """The route with the longest prefix that holds ``address``, or None."""
        return next((route for route in self.routes if address in route.destination), None)

    def leads_to(self, target: str) -> bool:
        """Whether any route has this target: what makes a subnet "public" is one to igw."""
        return any(route.target == target for route in self.routes)

    def _put(self, route: VpcRoute) -> VpcRoute:
        self.routes.append(route)
        self.routes.sort(key=lambda each: (-each.destination.prefixlen, each.destination))
        return route

    @staticmethod
    def _refuse_inside(network: IPv4Network, cidrs: Iterable[IPv4Network]) -> None:
        inside = any(network.subnet_of(cidr) for cidr in cidrs)
        ec2_refuses(inside, "InvalidParameterValue", INSIDE.format(network))
