"""Reads what AWS holds out of a scenario: the VPC, and what its machines say of their ENIs."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from ..document import Node
from .model import Vpc
from .security import ANYWHERE, SecurityGroup, SecurityRule
from .subnet import Subnet


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedEni:
    """An ENI with the addresses it has on a real node; ``subnet`` empty is the node's own."""

    device: int
    primary: IPv4Address
    subnet: str = ""
    secondary: tuple[IPv4Address, ...] = ()
    prefixes: tuple[IPv4Network, ...] = ()


def read_vpc(node: Node) -> Vpc:
    """The VPC that ``spec.vpc`` describes."""
    spec = node.fields("cidrs", "subnets", optional=("securityGroups",))
    vpc = Vpc([])
    for each in node.items("cidrs"):
        with each.placed():
            vpc.add_cidr(each.network())
    if not vpc.cidrs:
        spec["cidrs"].refuse("the list is empty; a VPC has at least one CIDR")
    for each in node.items("securityGroups"):
        group = each.fields("name", optional=("ingress", "egress"))
        with each.placed():
            vpc.add_security_group(SecurityGroup(
                group["name"].name(), map(rule, each.items("ingress")),
                *([map(rule, each.items("egress"))] if "egress" in group else []),
            ))  # fmt: skip
    for each in node.items("subnets"):
        subnet = each.fields("name", "cidr", "zone", optional=("routes", "tags", "reservations"))
        made = Subnet(subnet["name"].name(), subnet["cidr"].network(), each.text("zone"),
                      tags=each.texts("tags"))  # fmt: skip
        with subnet["cidr"].placed():
            vpc.add_subnet(made)
        for one in each.items("routes"):
            way = one.fields("destination", "target")
            with way["target"].placed():
                made.table.add(str(way["destination"].network()), way["target"].expect(str))
        for one in each.items("reservations"):
            kept = one.fields("cidr", "type")
            with one.placed():
                made.reserve(str(kept["cidr"].network()), kept["type"].choice("prefix", "explicit"))
    return vpc


def rule(node: Node) -> SecurityRule:
    """One rule of a security group: protocol, port, and who is at the other end."""
    found = node.fields(optional=("protocol", "port", "cidr", "group"))
    with node.placed():
        return SecurityRule(
            protocol=node.choice("all", "tcp", "udp", "icmp", path=("protocol",)),
            from_port=found["port"].whole(1, 65535) if "port" in found else None,
            cidr=found["cidr"].network() if "cidr" in found else ANYWHERE, group=node.text("group"),
        )  # fmt: skip


def read_groups(vpc: Vpc, node: Node) -> list[SecurityGroup]:
    """The security groups that something names."""
    there = vpc.security_groups
    return [there[one.known(there, "security group")] for one in node.items("securityGroups")]


def read_enis(vpc: Vpc, node: Node) -> list[PinnedEni]:
    """A node's ``enis:``, with the addresses they have on a real node."""
    found = []
    for one in node.items("enis"):
        spec = one.fields("deviceIndex", "primaryAddress", optional=(
            "subnet", "addresses", "prefixes",
        ))  # fmt: skip
        found.append(PinnedEni(
            device=spec["deviceIndex"].whole(0, 99), primary=spec["primaryAddress"].address(),
            subnet=spec["subnet"].known(vpc.subnets, "subnet") if "subnet" in spec else "",
            secondary=tuple(each.address() for each in one.items("addresses")),
            prefixes=tuple(each.network() for each in one.items("prefixes")),
        ))  # fmt: skip
    return found
