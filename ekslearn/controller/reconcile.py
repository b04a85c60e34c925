"""The controllers at work: AWS's load balancers are made, and kept, as the objects say.

Two programs share the work: the AWS Load Balancer Controller (Ingresses of class alb, Services of
class service.k8s.aws/nlb) and the cloud provider's service controller (all other Services of type
LoadBalancer). Source: kubernetes-sigs/aws-load-balancer-controller, pkg/networking (subnets,
security groups, target registration) and docs/deploy/subnet_discovery.md, security_groups.md;
kubernetes/cloud-provider-aws, pkg/providers/v1/aws.go (a Classic one's security groups).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network
from itertools import product

from ..elb import Elb, LoadBalancer, Rule, Target, TargetGroup
from ..elb.group import health_check
from ..errors import EkslearnError
from ..kubernetes import Backed
from ..vpc.model import Vpc
from ..vpc.security import ANYWHERE, SecurityGroup, SecurityRule
from ..vpc.subnet import Subnet
from .ingress import Ingress, Route
from .plan import Door, Plan, plan_of_ingress, plan_of_service

ROLES = {"internet-facing": "kubernetes.io/role/elb", "internal": "kubernetes.io/role/internal-elb"}
LEAST_FREE = 8  # addresses a subnet must have left to be discovered
BACKEND = "k8s-traffic"  # the security group that all balancers of a cluster share
Opening = tuple[SecurityGroup, SecurityRule]


class Controller:
    """Both controllers; ``nodes`` are those that are eligible for instance targets.

    ``ingresses`` are those it knows of by NAMESPACE/NAME, ``events`` what it complained about, by
    the balancer's place, as ``kubectl describe`` would show it.
    """

    def __init__(self, elb: Elb, vpc: Vpc) -> None:
        self.elb, self.vpc = elb, vpc
        self.ingresses: dict[str, Ingress] = {}
        self.events: dict[str, str] = {}
        self._opened: dict[str, list[Opening]] = {}  # what each balancer's targets are to let in
        self._written: dict[Opening, None] = {}

    def reconcile(self, ports: Sequence[Backed], nodes: Iterable[str]) -> None:
        """Make, change and delete balancers, register and deregister targets.

        What AWS or the controller refuses becomes an event, and is tried again the next time.
        """
        services = {one.service.key: one.service for one in ports}
        plans = [plan_of_service(one) for one in services.values()]
        plans += [plan_of_ingress(one) for one in self.ingresses.values()]
        wanted = {plan.place: plan for plan in plans if plan}
        for gone in [place for place in self.elb.balancers if place not in wanted]:
            self._delete(gone)
        self.events.clear()
        for place, plan in wanted.items():
            try:
                balancer = self.elb.balancers.get(place) or self._make(plan, ports)
                self._register(plan, balancer, ports, list(nodes))
            except EkslearnError as error:
                self.events[place] = str(error)
        self._let_in()

    # Making

    def _make(self, plan: Plan, ports: Sequence[Backed]) -> LoadBalancer:
        """Make a balancer with its listeners, groups and security groups, or nothing at all."""
        backs = {route: _backed(plan, route, ports) for door in plan.doors for route in door.routes}
        for back in backs.values():
            if plan.target_type == "instance" and not back.port.node_port:
                why = "unable to support instance target type with an unallocated NodePort"
                if not back.service.external:
                    why = ("service type must be either 'NodePort' or 'LoadBalancer' for target"
                           " type instance")  # fmt: skip
                raise EkslearnError(f"{why}: {back.service.key}")
        subnets = self._subnets(plan)
        groups = self._groups(plan)
        made = self.elb.create_load_balancer(
            plan.place, plan.kind, [one.name for one in subnets], scheme=plan.scheme, groups=groups,
            cross_zone=plan.cross_zone,
        )  # fmt: skip
        try:
            for door in plan.doors:
                self._listen(plan, made, door, backs)
        except EkslearnError:
            self._delete(plan.place)
            raise
        return made

    def _listen(
        self, plan: Plan, made: LoadBalancer, door: Door, backs: Mapping[Route, Backed]
    ) -> None:
        groups = {route: self._group(plan, door, backs[route]) for route in door.routes}
        last = door.routes[-1]
        rules = [
            Rule(group=groups[one], paths=one.patterns, host=one.host)
            for one in door.routes if one.path
        ]  # fmt: skip
        made.add_listener(door.protocol, door.port, groups[last], rules,
                          answers_404=bool(last.path))  # fmt: skip

    def _group(self, plan: Plan, door: Door, back: Backed) -> TargetGroup:
        """The target group for one port of a Service, made where it isn't there yet."""
        name = _name(plan, back)
        if name in self.elb.groups:
            return self.elb.groups[name]
        port = back.port.node_port if plan.target_type == "instance" else back.port.target
        return self.elb.create_target_group(
            name, plan.kind, target_type=plan.target_type, protocol=door.backend,
            port=port if isinstance(port, int) else 1,  # as the controller does for a name
            check=health_check(plan.kind, **plan.check), **plan.group,
        )  # fmt: skip

    def _subnets(self, plan: Plan) -> list[Subnet]:
        """Those that are named, or one in each zone that is tagged for the scheme."""
        there = self.vpc.subnets
        if plan.subnets:
            for name in plan.subnets:
                if name not in there:
                    raise EkslearnError(f"there is no subnet {name!r}; there are"
                                        f" {', '.join(there)}")  # fmt: skip
            return [there[name] for name in plan.subnets]
        role = ROLES[plan.scheme]
        zones: dict[str, Subnet] = {}
        for one in sorted(there.values(), key=lambda each: each.subnet_id):
            if one.tags.get(role) in ("", "1") and one.free >= LEAST_FREE:
                zones.setdefault(one.zone, one)
        if not zones:
            raise EkslearnError("couldn't auto-discover subnets: unable to resolve at least one"
                                f" subnet: none has the tag {role} and {LEAST_FREE} free addresses"
                                )  # fmt: skip
        return list(zones.values())

    def _groups(self, plan: Plan) -> list[SecurityGroup]:
        """A group of its own that lets clients in, and the one that targets let in.

        Nodes let all in that comes from the own group of a Classic one; a Network one of the cloud
        provider has none.
        """
        held = self.vpc.security_groups
        if plan.security_groups:
            for name in plan.security_groups:
                if name not in held:
                    raise EkslearnError(f"there is no security group {name!r}; there are"
                                        f" {', '.join(held) or 'none'}")  # fmt: skip
            named = [held[name] for name in plan.security_groups]
            return [*named, self._backend()] if plan.opens_backend and not plan.cloud else named
        if plan.cloud and plan.kind == "nlb":
            return []
        prefix = "k8s-elb-" if plan.kind == "clb" else "k8s-"
        own = prefix + plan.place.removeprefix("lb/").replace("/", "-")
        if own not in held:
            self.vpc.add_security_group(SecurityGroup(own, _admitted(plan)))
        return [held[own]] if plan.kind == "clb" else [held[own], self._backend()]

    def _backend(self) -> SecurityGroup:
        held = self.vpc.security_groups
        return held.get(BACKEND) or self.vpc.add_security_group(SecurityGroup(BACKEND))

    def _delete(self, place: str) -> None:
        self._opened.pop(place, None)
        listeners = self.elb.balancers[place].listeners
        names = {group.name for one in listeners for group in one.groups}
        self.elb.delete_load_balancer(place)
        for kind in ("k8s-", "k8s-elb-"):
            self.vpc.security_groups.pop(kind + place[3:].replace("/", "-"), None)
        for name in names:
            del self.elb.groups[name]

    # Targets

    def _register(
        self, plan: Plan, balancer: LoadBalancer, ports: Sequence[Backed], nodes: Sequence[str]
    ) -> None:
        opened = []
        for route in dict.fromkeys(route for door in plan.doors for route in door.routes):
            back = _backed(plan, route, ports)
            group = self.elb.groups[_name(plan, back)]
            if plan.target_type == "instance":
                wanted = [self.elb.register(group, node) for node in nodes]
            else:
                wanted = [self.elb.register(group, str(one.ip), one.port)
                          for one in back.endpoints if one.ready]  # fmt: skip
            for target in list(group.targets):
                if target not in wanted and target.state != "draining":
                    group.deregister(target.address, target.port)
            for target in wanted:
                opened += self._openings(target, _needs(plan, balancer, group, target))
        self._opened[plan.place] = opened

    def _openings(self, target: Target, rules: Iterable[SecurityRule]) -> list[Opening]:
        """Rules for the first security group of the target's ENI, if it has any."""
        eni = self.vpc.owner(target.address)
        return [(one, rule) for one in (eni.security_groups if eni else [])[:1] for rule in rules]

    def _let_in(self) -> None:
        """Write what is needed into the targets' groups, and take out what no longer is."""
        wanted = dict.fromkeys(one for each in self._opened.values() for one in each)
        for group, rule in wanted:
            if rule not in group.rules["ingress"]:
                group.rules["ingress"].append(rule)
                self._written[group, rule] = None
        for group, rule in [one for one in self._written if one not in wanted]:
            del self._written[group, rule]
            if rule in group.rules["ingress"]:
                group.rules["ingress"].remove(rule)


def _needs(
    plan: Plan, balancer: LoadBalancer, group: TargetGroup, target: Target
) -> Iterator[SecurityRule]:
    """What a target has to let in: a Classic one's own group, else what all balancers share.

    The cloud provider's Network one has no group: its clients, and checks from its subnets.
    """
    traffic = [(one, target.port) for one in group.carries]
    checks = [("tcp", group.check.port or target.port)]
    if plan.kind == "clb":
        yield SecurityRule(group=balancer.security_groups[0].name)
    elif plan.cloud:
        subnets = [eni.subnet.cidr for eni in balancer.enis.values()]
        for ways, networks in (traffic, plan.inbound or (ANYWHERE,)), (checks, subnets):
            for (protocol, port), cidr in product(ways, networks):
                yield SecurityRule(protocol=protocol, from_port=port, cidr=cidr)
    elif plan.opens_backend:
        for protocol, port in sorted({*traffic, *checks}):
            yield SecurityRule(protocol=protocol, from_port=port, group=BACKEND)


def _admitted(plan: Plan) -> Iterator[SecurityRule]:
    """Who may come to a balancer's own ports."""
    for door in plan.doors:
        protocol = "udp" if door.protocol == "UDP" else "tcp"
        for cidr in plan.inbound or (ANYWHERE,):
            yield SecurityRule(protocol=protocol, from_port=door.port, cidr=IPv4Network(cidr))


def _backed(plan: Plan, route: Route, ports: Sequence[Backed]) -> Backed:
    """The port of a Service that a route means."""
    key = f"{plan.namespace}/{route.service}"
    found = [one for one in ports if one.service.key == key]
    for one in found:
        if route.port in (one.port.port, one.port.name):
            return one
    there = ", ".join(str(one.port.port) for one in found)
    raise EkslearnError(f"the Service {key} has no port {route.port}; it has {there}" if found
                        else f"there is no Service {key}")  # fmt: skip


def _name(plan: Plan, back: Backed) -> str:
    return f"{plan.place.removeprefix('lb/')} {back.service.name}:{back.port.port}"
