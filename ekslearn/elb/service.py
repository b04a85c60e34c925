"""The load balancing service of one account: makes balancers, and lets their time pass."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address
from typing import Any, Protocol

from ..fabric import Fabric
from ..linux import NetworkNamespace, World
from ..vpc.ec2 import Ec2
from ..vpc.model import Eni, Vpc
from ..vpc.security import SecurityGroup
from ..vpc.subnet import Subnet
from .balancer import LoadBalancer
from .group import ALB, CLB, NAMES, NLB, Target, TargetGroup, refuse, target_group

SCHEMES = ("internet-facing", "internal")
# What an ENI's description begins with; a Classic Load Balancer's has nothing before its name.
DESCRIBED = {ALB: "ELB app/", NLB: "ELB net/", CLB: "ELB "}
FREE = {ALB: 8, CLB: 8, NLB: 1}  # addresses a subnet must have left
FIRST_TABLE = 101


class Site(Protocol):
    """What balancers stand in: a cluster, as far as they use it."""

    vpc: Vpc
    ec2: Ec2
    fabric: Fabric

    @property
    def world(self) -> World:
        """The clock and the dice."""

    def namespace(self, place: str) -> NetworkNamespace:
        """The namespace of a place."""

    def wire(self, lines: Iterable[str]) -> None:
        """Run lines that have to work."""

    def plug(self, place: str, interface: str, eni: Eni) -> None:
        """Let an ENI appear in a namespace."""

    def unplug(self, eni_id: str) -> None:
        """Let it disappear."""


def boot_lines(place: str, interfaces: Sequence[tuple[str, Eni]]) -> Iterator[str]:
    """A balancer's interfaces: each has a table of its own, for what comes and goes by it."""
    yield f"{place}$ ip link set lo up"
    for at, (name, eni) in enumerate(interfaces):
        table, way = FIRST_TABLE + at, f"via {eni.subnet.gateway} dev {name}"
        address = f"{eni.primary}/{eni.subnet.cidr.prefixlen}"
        yield f"{place}$ ip link set {name} up"
        yield f"{place}$ ip addr add {address} brd + dev {name}"
        yield f"{place}$ ip route add {eni.subnet.cidr} dev {name} table {table}"
        yield f"{place}$ ip route add default {way} table {table}"
        yield f"{place}$ ip rule add pref {table} from {eni.primary} lookup {table}"
        yield f"{place}$ ip rule add pref {table} iif {name} lookup {table}"
        if not at:
            yield f"{place}$ ip route add default {way}"


class Elb:
    """Elastic Load Balancing: ``balancers`` by place, ``groups`` by name."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.balancers: dict[str, LoadBalancer] = {}
        self.groups: dict[str, TargetGroup] = {}

    def now(self) -> float:
        """The time, in seconds."""
        return self.site.world.clock

    # Making

    def create_load_balancer(self, place: str, kind: str, subnets: Sequence[str], *,
                             scheme: str = "internet-facing", cross_zone: bool | None = None,
                             groups: Sequence[SecurityGroup] = ()) -> LoadBalancer:  # fmt: skip
        """Make a balancer at ``place`` ("lb/NAMESPACE/NAME"), with an ENI in each subnet.

        Raises EkslearnError where AWS refuses, with its code; nothing is made then.
        """
        refuse(place in self.balancers, "balancer twice", place)
        refuse(kind not in NAMES, "no kind", kind)
        refuse(scheme not in SCHEMES, "no scheme", scheme)
        refuse(kind == ALB and cross_zone is False, "cross-zone")
        there = self.site.vpc.subnets
        for each in subnets:
            refuse(each not in there, "no subnet", each, ", ".join(there))
        where = [there[each] for each in subnets]
        _fit(kind, scheme, where)
        name = place.rpartition("/")[2]
        public, enis = scheme == "internet-facing", dict[str, Eni]()
        namespace = NetworkNamespace(self.site.world, place)
        for at, subnet in enumerate(where):
            eni = enis[f"eth{at}"] = self.site.ec2.create_network_interface(
                subnet, groups, description=DESCRIBED[kind] + name)  # fmt: skip
            eni.source_dest_check, eni.attachment_id = kind != NLB, f"ela-attach-{at}"
            if public:
                self.site.vpc.give_public(eni)
            self.site.plug(place, f"eth{at}", eni)
        self.site.wire(boot_lines(place, list(enis.items())))
        crosses = kind == ALB if cross_zone is None else cross_zone
        made = self.balancers[place] = LoadBalancer(namespace, kind, scheme, enis, groups, crosses)
        self.site.fabric.balancers |= dict.fromkeys(enis.values(), made)
        return made

    def delete_load_balancer(self, place: str) -> None:
        """Delete a balancer: its ENIs go, its target groups stay, unused."""
        refuse(place not in self.balancers, "no balancer", place)
        gone = self.balancers.pop(place)
        gone.drop_listeners()
        for eni in gone.enis.values():
            del self.site.fabric.balancers[eni]
            self.site.unplug(eni.eni_id)
            eni.attachment_id = ""
            self.site.ec2.delete_network_interface(eni.eni_id)
        del self.site.world.namespaces[place]

    def set_security_groups(self, place: str, groups: Sequence[SecurityGroup]) -> None:
        """Give a balancer other security groups (SetSecurityGroups)."""
        balancer = self.balancers[place]
        refuse(balancer.kind == NLB and not balancer.security_groups, "no groups", place)
        refuse(not groups, "all groups", place)
        balancer.security_groups = list(groups)
        for eni in balancer.enis.values():
            eni.security_groups = list(groups)

    def create_target_group(self, name: str, kind: str, **given: Any) -> TargetGroup:
        """Make a target group; for what can be given, and refused, see ``group.target_group``."""
        refuse(name in self.groups, "group twice", name)
        made = self.groups[name] = target_group(name, kind, clock=self.now, **given)
        return made

    def target_group(self, name: str) -> TargetGroup:
        """The target group of that name (DescribeTargetGroups); EkslearnError if there is none."""
        found = [one for one in self.groups.values() if one.name == name and one.kind != CLB]
        refuse(not found, "no group", name, ", ".join(self.groups) or "none")
        return found[0]

    # Targets

    def register(self, group: TargetGroup, target: str | IPv4Address,
                 port: int | None = None) -> Target:  # fmt: skip
        """Register an address, or an instance by its name; EkslearnError if AWS refuses.

        An instance is reached at the primary address of its primary ENI.
        """
        instance, name = "", str(target)
        if group.target_type == "instance":
            enis = [each.enis[0] for each in self.site.ec2.instances.values()
                    if name in (each.name, each.instance_id)]  # fmt: skip
            refuse(not enis, "no instance", group.name, name)
            instance, address, zone = name, enis[0].primary, enis[0].subnet.zone
        else:
            try:
                address = IPv4Address(name)
            except ValueError:
                refuse(True, "no address", group.name, name)
                raise
            zones = [each.zone for each in self.site.vpc.subnets.values() if address in each.cidr]
            refuse(not zones, "far address", address)
            zone = zones[0]
        made = Target(address=address, port=port or group.port, zone=zone, instance=instance)
        there = [each for each in group.targets if str(each) == str(made)]
        if there and there[0].state != "draining":
            return there[0]
        group.targets = [each for each in group.targets if each not in there] + [made]
        if group.balancer:
            self.balancers[group.balancer].take(group, made)
        return made

    # Time

    def next_event(self) -> float | None:
        """When the next target is to be checked; None if there is none."""
        due = [target.due for _, target in self._checked()]
        return min(due, default=None)

    def catch_up(self) -> None:
        """Do all the checks that were due by now, and forget what has drained.

        Each finds things as they are now: let time pass in steps where they change.
        """
        now = self.now()
        while found := min((pair for pair in self._checked() if pair[1].due <= now),
                           key=lambda pair: pair[1].due, default=None):  # fmt: skip
            self.check(*found)
            found[1].due += found[0].check.interval_s
        for group in self.groups.values():
            group.expire(now)

    def settle(self) -> None:
        """Check new targets until each is healthy or isn't: as if all had been there for long.

        Each is checked again an interval after its last check; the others as they were to be.
        """
        for group, target in list(self._checked()):
            while target.state == "initial":
                self.check(group, target)
                target.due = self.now() + group.check.interval_s

    def _checked(self) -> Iterator[tuple[TargetGroup, Target]]:
        for group in self.groups.values():
            if group.balancer:
                for target in group.targets:
                    if target.state in ("initial", "healthy", "unhealthy"):
                        yield group, target

    def check(self, group: TargetGroup, target: Target) -> str:
        """Ask a target how it is: a probe through the model, from the balancer's own address.

        One node asks, that of the target's zone; which of them would all ask, is [model]. Returns
        the API's reason for a failure, or nothing.
        """
        balancer, check = self.balancers[group.balancer], group.check
        eni = balancer.zones[target.zone]
        sockets, port = self.site.namespace(balancer.place).sockets, check.port or target.port
        client = sockets.ask("tcp", target.address, port, src=eni.primary)
        answer = next((each for each in client.answers if each.flags == "SYN-ACK"), None)
        fault = ""
        if answer is None:
            fault = "Target.FailedHealthChecks" if client.answers else "Target.Timeout"
        elif check.protocol.startswith("HTTP"):
            status = re.match(r"(\d{3}) ", answer.data)
            code = int(status[1]) if status else 200
            good = any(code in codes for codes in check.matcher)
            fault = "" if good else "Target.ResponseCodeMismatch"
        target.checked(check, fault)
        return fault


def _fit(kind: str, scheme: str, subnets: Sequence[Subnet]) -> None:
    """Refuse subnets as CreateLoadBalancer does."""
    zones = {each.zone for each in subnets}
    refuse(len(zones) < (2 if kind == ALB else 1), "one zone")
    refuse(len(zones) < len(subnets), "same zone")
    for each in subnets:
        refuse(each.free < FREE[kind], "subnet full", each.subnet_id, FREE[kind])
        refuse(scheme == "internet-facing" and not each.table.leads_to("igw"), "no igw", each.name)
