"""A subnet: its addresses, which of them are taken, and where a whole /28 still fits.

Source: Amazon VPC user guide, "Subnet CIDR blocks" (the five reserved addresses) and "Subnet CIDR
reservations"; EC2 user guide, "Prefix delegation for Amazon EC2 network interfaces". AWS doesn't
say which free address or prefix EC2 picks: the model takes the lowest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from ..errors import EkslearnError
from .error import aws_id, cidr_of, ec2_refuses
from .route import RouteTable

if TYPE_CHECKING:
    from .security import NetworkAcl

Private = IPv4Address | IPv4Network  # what an ENI is given: one address, or a prefix
PREFIX = 28  # the length of a delegated IPv4 prefix
BLOCK = 1 << (32 - PREFIX)
# What an address of a subnet can be. The last two are free too, but kept by a CIDR reservation.
FREE, RESERVED, TAKEN, DELEGATED, FOR_PREFIXES, EXPLICIT = range(6)
UNTAKEN = (FREE, FOR_PREFIXES, EXPLICIT)
KEPT = {"prefix": FOR_PREFIXES, "explicit": EXPLICIT}


def prefix_of(address: IPv4Address) -> IPv4Network:
    """The aligned /28 that an address lies in."""
    return IPv4Network((int(address) & -BLOCK, PREFIX))


class Subnet:
    """A slice of a VPC in one zone, with one route table and one network ACL.

    ``states`` has one byte for each address, in order: FREE, RESERVED (by AWS), TAKEN, DELEGATED
    (in a prefix), FOR_PREFIXES or EXPLICIT. ``reservations`` are CIDRs kept for "prefix", the
    /28s, or "explicit", for who names the address.
    """

    def __init__(
        self, name: str, cidr: str | IPv4Network, zone: str, *,
        tags: Mapping[str, str] | None = None, routes: Iterable[tuple[str, str]] = (),
        nacl: NetworkAcl | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.subnet_id = aws_id("subnet", name)
        self.cidr = cidr_of(cidr, "subnet size")
        self.zone = zone
        self.tags = dict(tags or {})
        self.table = RouteTable(name, routes)
        self.nacl = nacl
        self.reservations: dict[IPv4Network, str] = {}
        self.states = bytearray(self.cidr.num_addresses)
        self._base = int(self.cidr.network_address)
        for at in (0, 1, 2, 3, -1):
            self.states[at] = RESERVED

    @property
    def gateway(self) -> IPv4Address:
        """Where the implicit router answers: the subnet's base plus one."""
        return self.cidr.network_address + 1

    @property
    def free(self) -> int:
        """Addresses nobody has (AvailableIpAddressCount).

        Those kept by a reservation count: AWS documents the number as the unused addresses.
        """
        return sum(self.states.count(state) for state in UNTAKEN)

    def take(self, address: IPv4Address | None = None) -> IPv4Address:
        """Take ``address``, or the lowest that is free and that no reservation keeps.

        Raises Ec2Error: InsufficientFreeAddressesInSubnet; InvalidParameterValue for one outside
        the subnet or among its reserved five; InvalidIPAddress.InUse.
        """
        at = self.states.find(FREE) if address is None else self._place(address)
        ec2_refuses(at < 0, "subnet full")
        ec2_refuses(self.states[at] == RESERVED, "address reserved", address)
        ec2_refuses(self.states[at] not in UNTAKEN, "address used")
        self.states[at] = TAKEN
        return IPv4Address(self._base + at)

    def take_prefix(self, prefix: IPv4Network | None = None) -> IPv4Network:
        """Take ``prefix``, or the lowest aligned /28 of which nothing is taken.

        One kept by a reservation for prefixes is taken first. Raises Ec2Error:
        InsufficientCidrBlocks; InvalidParameterValue for one of another length or place. EC2's
        answer for a named prefix that isn't free is not published; the model gives the same.
        """
        if prefix is None:
            at = self._block(FOR_PREFIXES)
            at = self._block(FREE) if at < 0 else at
        else:
            fits = prefix.prefixlen == PREFIX and prefix.subnet_of(self.cidr)
            ec2_refuses(not fits, "bad prefix", prefix)
            at = self._place(prefix[0])
        taken = any(state not in UNTAKEN for state in self.states[at : at + BLOCK])
        ec2_refuses(at < 0 or taken, "no block")
        self.states[at : at + BLOCK] = bytes([DELEGATED]) * BLOCK
        return IPv4Network((self._base + at, PREFIX))

    def give_back(self, what: Private) -> None:
        """Return an address or a prefix; EkslearnError if it isn't taken as such."""
        single = isinstance(what, IPv4Address)
        at = self._place(what if isinstance(what, IPv4Address) else what[0])
        count, taken = (1, TAKEN) if single else (BLOCK, DELEGATED)
        if self.states[at : at + count] != bytes([taken]) * count:
            raise EkslearnError(f"{what} isn't taken in {self.name}, so it can't be given back")
        for each in range(at, at + count):
            self.states[each] = self._untaken(each)

    def reserve(self, cidr: str, kind: str) -> None:
        """Keep part of the subnet (CreateSubnetCidrReservation).

        What is taken there already stays so. Raises Ec2Error InvalidParameterValue for a CIDR
        outside the subnet or across another reservation.
        """
        if kind not in KEPT:
            raise EkslearnError(f"a reservation is prefix or explicit, not {kind!r}")
        network = cidr_of(cidr)
        outside = not network.subnet_of(self.cidr)
        twice = any(network.overlaps(other) for other in self.reservations)
        ec2_refuses(outside or twice, "bad reservation", network, self.cidr)
        self.reservations[network] = kind
        start = self._place(network[0])
        for at in range(start, start + network.num_addresses):
            if self.states[at] in UNTAKEN:
                self.states[at] = KEPT[kind]

    def _place(self, address: IPv4Address) -> int:
        ec2_refuses(address not in self.cidr, "address elsewhere", address)
        return int(address) - self._base

    def _block(self, state: int) -> int:
        """Where the lowest aligned block begins that is all in ``state``; -1 if there is none."""
        wanted, at = bytes([state]) * BLOCK, 0
        while (at := self.states.find(wanted, at)) >= 0 and at % BLOCK:
            at += BLOCK - at % BLOCK
        return at

    def _untaken(self, at: int) -> int:
        address = IPv4Address(self._base + at)
        kept = (kind for cidr, kind in self.reservations.items() if address in cidr)
        return KEPT.get(next(kept, ""), FREE)
