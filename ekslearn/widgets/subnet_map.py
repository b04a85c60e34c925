"""A subnet address by address: what each one is, whose it is, and where a whole /28 is free.

Read from EC2's truth (``ekslearn.vpc``); from a cluster also which pod has an address. The states
are the subnet's own, so what is called free here is what EC2 would hand out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import groupby
from typing import TYPE_CHECKING

from ekslearn.cluster import Cluster
from ekslearn.errors import EkslearnError
from ekslearn.vpc import subnet as states
from ekslearn.vpc.model import Vpc
from ekslearn.vpc.subnet import BLOCK, PREFIX, Subnet

if TYPE_CHECKING:
    from ekslearn.vpc.model import Eni

# What an address can be: its letter, and the words for it.
KINDS = {
    "r": "reserved by AWS",
    "P": "primary address",
    "s": "secondary address",
    "x": "in a prefix",
    "t": "taken",
    ".": "free",
    "p": "free, kept for prefixes",
    "e": "free, kept for who names it",
}
SHORT = KINDS | {"P": "primary", "s": "secondary", "x": "in prefixes"}  # for a number of them
LETTER = {
    states.FREE: ".", states.RESERVED: "r", states.TAKEN: "t", states.DELEGATED: "x",
    states.FOR_PREFIXES: "p", states.EXPLICIT: "e",
}  # fmt: skip
RESERVED = {
    0: "the network's own address",
    1: "the VPC's router",
    2: "for the DNS server",
    3: "for future use",
    -1: "the broadcast address, which a VPC doesn't support",
}  # Amazon VPC user guide, "Subnet CIDR blocks"
MOST_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetMap:
    """A subnet's addresses in order: ``letters`` has one of KINDS for each, ``owners`` whose.

    ``blocks`` are the offsets of the /28s that EC2 could hand out whole, lowest first.
    """

    name: str
    cidr: str
    zone: str
    base: int
    letters: str
    owners: dict[int, str]
    blocks: tuple[int, ...]

    def address(self, offset: int) -> str:
        """An address, by its place in the subnet."""
        return str(IPv4Address(self.base + offset))

    @property
    def free(self) -> int:
        """How many addresses nobody has."""
        return sum(self.letters.count(letter) for letter in ".pe")

    @property
    def title(self) -> str:
        """What it is a picture of."""
        return f"{self.name} {self.cidr}, {self.zone}"

    @property
    def tally(self) -> str:
        """How many addresses of each kind there are."""
        found = Counter(self.letters)
        parts = [f"{found[letter]} {words}" for letter, words in SHORT.items() if found[letter]]
        return f"{len(self.letters)} addresses: {'; '.join(parts)}"

    @property
    def room(self) -> str:
        """Where a prefix fits."""
        whole, all_ = len(self.blocks), len(self.letters) // BLOCK
        if whole:
            lowest = f"{self.address(self.blocks[0])}/{PREFIX}"
            verb = "is" if whole == 1 else "are"
            return f"{whole} of {all_} aligned /28s {verb} wholly free, the lowest is {lowest}"
        return (
            f"none of {all_} aligned /28s is wholly free, although {self.free} addresses are:"
            " EC2 refuses a prefix with InsufficientCidrBlocks"
        )

    def says(self, offset: int) -> str:
        """One address in a sentence."""
        owner = self.owners.get(offset, "")
        return f"{self.address(offset)}: {KINDS[self.letters[offset]]}" + (
            f", {owner}" if owner else "")  # fmt: skip

    def runs(self) -> Iterator[str]:
        """Neighboring addresses of which the same is to be said, a line each."""

        def key(offset: int) -> tuple[str, str]:
            return self.letters[offset], self.owners.get(offset, "")

        for (letter, owner), found in groupby(range(len(self.letters)), key):
            offsets = list(found)
            ends = list(dict.fromkeys((self.address(offsets[0]), self.address(offsets[-1]))))
            size = f" ({len(offsets)})" if len(offsets) > 1 else ""
            yield f"{' to '.join(ends)}{size}: {KINDS[letter]}" + (f", {owner}" if owner else "")

    @property
    def words(self) -> list[str]:
        """All of it as lines; of a very patchy subnet the first ones."""
        runs = list(self.runs())
        more = len(runs) - MOST_LINES
        lines = [*runs[:MOST_LINES], *([f"and {more} more lines"] if more > 0 else [])]
        return [f"{self.title}; {self.tally}", self.room, *(f"  {line}" for line in lines)]


def subnet_map(where: Cluster | Vpc | Subnet, name: str | None = None) -> SubnetMap:
    """The map of the subnet called ``name`` (the first one); EkslearnError if there is none."""
    if isinstance(where, Subnet):
        return read(where, Whose(None, None))
    vpc = where.vpc if isinstance(where, Cluster) else where
    if not isinstance(vpc, Vpc):
        raise EkslearnError("a subnet is looked at in a cluster, in a VPC, or by itself")
    if name is None and vpc.subnets:
        name = next(iter(vpc.subnets))
    if name not in vpc.subnets:
        there = ", ".join(vpc.subnets) or "none"
        raise EkslearnError(f"there is no subnet {name!r}; there are {there}")
    cluster = where if isinstance(where, Cluster) else None
    return read(vpc.subnets[name], Whose(vpc, cluster))


class Whose:
    """Says whose an address is, as far as the VPC and the cluster know."""

    def __init__(self, vpc: Vpc | None, cluster: Cluster | None) -> None:
        self.vpc = vpc
        wires = cluster.wires if cluster else []
        self.names = {one.eni: f"{one.interface} of {one.place}" for one in wires if not one.until}
        self.pods = dict(pod_addresses(cluster)) if cluster else {}

    def has(self, address: IPv4Address) -> tuple[str, str]:
        """A taken address's letter, and its owner in words; "" where nobody knows."""
        eni = self.vpc.owner(address) if self.vpc else None
        if eni is None:
            return "", ""
        pod = f"; {self.pods[address]} has it" if address in self.pods else ""
        what = "P" if address == eni.primary else "s" if address in eni.secondary else "x"
        return what, f"{self.of(eni)}{pod}"

    def of(self, eni: Eni) -> str:
        """An ENI in words."""
        name = self.names.get(eni.eni_id)
        return f"{name} ({eni.eni_id})" if name else eni.eni_id


def pod_addresses(cluster: Cluster) -> Iterator[tuple[IPv4Address, str]]:
    """Which pod has which address, by the pods' own kernels."""
    for place in cluster.places:
        if place in cluster.pods:
            for link in cluster.namespace(place).links.values():
                yield from ((address.ip, place) for address in link.addresses)


def read(subnet: Subnet, whose: Whose) -> SubnetMap:
    """The map of a subnet."""
    size, base = subnet.cidr.num_addresses, int(subnet.cidr.network_address)
    letters = [LETTER[state] for state in subnet.states]
    owners = {offset % size: words for offset, words in RESERVED.items()}
    for offset, letter in enumerate(letters):
        if letter in "tx":
            found, owner = whose.has(IPv4Address(base + offset))
            letters[offset] = found or letter
            owners |= {offset: owner} if owner else {}
    text = "".join(letters)
    blocks = [at for at in range(0, size, BLOCK) if text[at : at + BLOCK] in (
        "." * BLOCK, "p" * BLOCK)]  # fmt: skip
    return SubnetMap(
        name=subnet.name, cidr=str(subnet.cidr), zone=subnet.zone, base=base, letters=text,
        owners=owners, blocks=tuple(blocks),
    )  # fmt: skip
