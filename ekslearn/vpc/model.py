"""A VPC: its CIDRs, subnets and ENIs, and who has which address.

This is EC2's truth. What a node's kernel has, and what ipamd believes, are kept elsewhere and can
disagree with it. Source: Amazon VPC user guide, "VPC CIDR blocks"; EC2 user guide, "Elastic
network interfaces".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from ..errors import EkslearnError
from ..linux.link import invented_mac
from .error import cidr_of, ec2_refuses
from .security import SecurityGroup
from .subnet import Private, Subnet, prefix_of

# Where the model's public addresses come from: the range for benchmarks (RFC 2544), so that no
# lesson shows somebody's real one.
PUBLIC = IPv4Network("198.18.0.0/16")
NAT_GATEWAY = IPv4Address("198.19.0.1")
MOST_CIDRS = 5  # Amazon VPC quotas, "IPv4 CIDR blocks per VPC", the default


@dataclass(slots=True, kw_only=True, eq=False)
class Eni:
    """EC2's record of an elastic network interface.

    ``interface_type`` is EC2's word: interface, trunk or branch (``vlan_id`` and ``trunk`` then
    say where it hangs). ``instance`` is an instance id, empty while nothing holds the ENI.
    Its addresses change through the Vpc only, which keeps the index of owners.
    """

    eni_id: str
    subnet: Subnet
    mac: str
    primary: IPv4Address
    secondary: list[IPv4Address] = field(default_factory=list)
    prefixes: list[IPv4Network] = field(default_factory=list)
    security_groups: list[SecurityGroup] = field(default_factory=list)
    source_dest_check: bool = True
    tags: dict[str, str] = field(default_factory=dict)
    description: str = ""
    instance: str = ""
    device_index: int = 0
    network_card: int = 0
    attachment_id: str = ""
    delete_on_termination: bool = False
    public_ip: IPv4Address | None = None
    interface_type: str = "interface"
    vlan_id: int = 0
    trunk: Eni | None = None

    @property
    def attached(self) -> bool:
        """Whether an instance holds it (status in-use, else available)."""
        return bool(self.attachment_id)

    @property
    def slots_used(self) -> int:
        """Of the instance type's IPv4 addresses per ENI: a prefix takes one slot too."""
        return 1 + len(self.secondary) + len(self.prefixes)

    def like(self, what: Private) -> list[Any]:
        """The list for what is of its kind: ``secondary`` or ``prefixes``."""
        return self.secondary if isinstance(what, IPv4Address) else self.prefixes


class Vpc:
    """A VPC and everything in it. ``subnets`` are kept by name, ``enis`` by id."""

    def __init__(
        self, cidrs: Iterable[str | IPv4Network], subnets: Iterable[Subnet] = (), *,
        name: str = "vpc",
    ) -> None:  # fmt: skip
        self.name = name
        self.cidrs: list[IPv4Network] = []
        self.subnets: dict[str, Subnet] = {}
        self.enis: dict[str, Eni] = {}
        self.security_groups: dict[str, SecurityGroup] = {}
        self._owners: dict[Private, Eni] = {}
        self._public: dict[IPv4Address, Eni] = {}
        for cidr in cidrs:
            self.add_cidr(cidr)
        for subnet in subnets:
            self.add_subnet(subnet)

    def __contains__(self, address: IPv4Address) -> bool:
        return any(address in cidr for cidr in self.cidrs)

    def add_cidr(self, cidr: str | IPv4Network) -> IPv4Network:
        """Give the VPC a CIDR, the first or one more (AssociateVpcCidrBlock).

        Raises Ec2Error: InvalidVpc.Range for a size outside /16 to /28 or an overlap with another
        of its CIDRs (that sentence is ours); CidrLimitExceeded.
        """
        network = cidr_of(cidr, "vpc size")
        twice = any(network.overlaps(other) for other in self.cidrs)
        ec2_refuses(twice, "vpc overlap", network)
        ec2_refuses(len(self.cidrs) == MOST_CIDRS, "vpc cidrs", self.name, MOST_CIDRS)
        for subnet in self.subnets.values():
            subnet.table.add_local(network)
        self.cidrs.append(network)
        return network

    def add_subnet(self, subnet: Subnet) -> Subnet:
        """Take a subnet in, and lead its route table to the VPC's own CIDRs (CreateSubnet).

        Raises Ec2Error: InvalidSubnet.Range if it isn't within one of the CIDRs,
        InvalidSubnet.Conflict if it overlaps another subnet; EkslearnError for a name twice.
        """
        if subnet.name in self.subnets:
            raise EkslearnError(f"there are two subnets called {subnet.name}")
        outside = not any(subnet.cidr.subnet_of(cidr) for cidr in self.cidrs)
        ec2_refuses(outside, "subnet size", subnet.cidr)
        twice = any(subnet.cidr.overlaps(other.cidr) for other in self.subnets.values())
        ec2_refuses(twice, "subnet overlap", subnet.cidr)
        for cidr in self.cidrs:
            subnet.table.add_local(cidr)
        self.subnets[subnet.name] = subnet
        return subnet

    def add_security_group(self, group: SecurityGroup) -> SecurityGroup:
        """Take a security group in; Ec2Error InvalidGroup.Duplicate for a name twice."""
        twice = group.name in self.security_groups
        ec2_refuses(twice, "group twice", group.name, self.name)
        self.security_groups[group.name] = group
        return group

    # Who has what

    def owner(self, address: IPv4Address) -> Eni | None:
        """The ENI that has a private ``address``, attached or not."""
        return self._owners.get(address) or self._owners.get(prefix_of(address))

    def public_owner(self, address: IPv4Address) -> Eni | None:
        """The ENI whose primary address the internet gateway translates to ``address``."""
        return self._public.get(address)

    def add_eni(self, eni_id: str, subnet: Subnet, groups: Iterable[SecurityGroup],
                address: IPv4Address | None) -> Eni:  # fmt: skip
        """Make an ENI whose primary address is ``address``, or the lowest that is free."""
        eni = Eni(eni_id=eni_id, subnet=subnet, mac=invented_mac(eni_id),
                  primary=subnet.take(address), security_groups=list(groups))  # fmt: skip
        self.enis[eni_id] = self._owners[eni.primary] = eni
        return eni

    def remove_eni(self, eni: Eni) -> None:
        """Forget an ENI and give all its addresses back."""
        held: list[Private] = [*eni.secondary, *eni.prefixes, eni.primary]
        for what in held:
            del self._owners[what]
            eni.subnet.give_back(what)
        del self.enis[eni.eni_id]

    def assign(self, eni: Eni, what: Private) -> None:
        """Note that an ENI has a secondary address or a prefix, taken in its subnet already."""
        eni.like(what).append(what)
        self._owners[what] = eni

    def release(self, eni: Eni, what: Private) -> None:
        """Take a secondary address or a prefix from an ENI and give it back to the subnet."""
        eni.like(what).remove(what)
        del self._owners[what]
        eni.subnet.give_back(what)

    def give_public(self, eni: Eni) -> IPv4Address:
        """Give an ENI's primary address a public one, the lowest free of the model's range."""
        address = next(each for each in PUBLIC.hosts() if each not in self._public)
        eni.public_ip, self._public[address] = address, eni
        return address
