"""Reads what AWS holds out of a scenario: the VPC that ``spec.vpc`` describes."""

from __future__ import annotations

from ..document import Node
from .model import Vpc
from .security import ANYWHERE, SecurityGroup, SecurityRule
from .subnet import Subnet


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
