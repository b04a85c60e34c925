"""The controllers at work: AWS's load balancers are made, and kept, as the objects say.

Two programs share the work: the AWS Load Balancer Controller (Ingresses of class alb, Services of
class service.k8s.aws/nlb) and the cloud provider's service controller (all other Services of type
LoadBalancer). Source: kubernetes-sigs/aws-load-balancer-controller, pkg/networking (subnets,
security groups, target registration) and docs/deploy/subnet_discovery.md, security_groups.md;
kubernetes/cloud-provider-aws, pkg/providers/v1/aws.go (a Classic one's security groups).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network
from itertools import product

from ..elb import Elb, LoadBalancer, Rule, Target, TargetGroup
from ..elb.group import health_check
from ..errors import EkslearnError
from ..kubernetes import Backed
from ..vpc.model import Vpc
from ..vpc.security import ANYWHERE, KeptRules, SecurityGroup, SecurityRule
from ..vpc.subnet import Subnet
from .binding import ALL, Binding
from .ingress import Ingress, Route
from .node import KubeNode, proxies
from .plan import Door, Plan, plan_of_ingress, plan_of_service

ROLES = {"internet-facing": "kubernetes.io/role/elb", "internal": "kubernetes.io/role/internal-elb"}
LEAST_FREE = 8  # addresses a subnet must have left to be discovered
BACKEND = "k8s-traffic"  # the security group that all balancers of a cluster share
BINDING = "targetgroupbinding/"  # what their events stand under, before NAMESPACE/NAME
Opening = tuple[SecurityGroup, SecurityRule]


class Controller:
    """Both controllers.

    ``ingresses`` and ``bindings`` are those they know of by NAMESPACE/NAME, ``events`` what they
    complained about, by the balancer's place or the binding's, as ``kubectl describe`` would show.
    """

    def __init__(self, elb: Elb, vpc: Vpc) -> None:
        self.elb, self.vpc = elb, vpc
        self.ingresses: dict[str, Ingress] = {}
        self.bindings: dict[str, Binding] = {}
        self.events: dict[str, str] = {}
        self._made: list[str] = []  # the places of balancers that are theirs
        self._bound: dict[str, TargetGroup] = {}
        self._opened: dict[str, list[Opening]] = {}  # what the targets of each are to let in
        self._rules = KeptRules()

    def reconcile(self, ports: Sequence[Backed], nodes: Sequence[KubeNode]) -> None:
        """Make, change and delete balancers, register and deregister targets.

        What AWS or the controller refuses becomes an event, and is tried again the next time.
        """
        services = {one.service.key: one.service for one in ports}
        plans = [plan_of_service(one) for one in services.values()]
        plans += [plan_of_ingress(one) for one in self.ingresses.values()]
        wanted = {plan.place: partial(self._serve, plan, ports, nodes) for plan in plans if plan}
        for gone in [place for place in self._made if place not in wanted]:
            self._delete(gone)
        bound = {BINDING + key: partial(self._bind, one, ports, nodes)
                 for key, one in self.bindings.items()}  # fmt: skip
        for gone in [place for place in self._bound if place not in bound]:
            self._keep(gone, self._bound.pop(gone), ())
        self.events.clear()
        for place, act in (wanted | bound).items():
            try:
                act()
            except EkslearnError as error:
                self.events[place] = str(error)
        self._rules.keep(one for each in self._opened.values() for one in each)

    # Making

    def _make(self, plan: Plan, ports: Sequence[Backed]) -> LoadBalancer:
        """Make a balancer with its listeners, groups and security groups, or nothing at all."""
        backs = {route: _backed(plan.namespace, route, ports) for route in _routes(plan)}
        for back in backs.values():
            _ends(self._own(plan, back).target_type, back, ())  # refuses what can't be one
        subnets = self._subnets(plan)
        groups = self._groups(plan)
        made = self.elb.create_load_balancer(
            plan.place, plan.kind, [one.name for one in subnets], scheme=plan.scheme, groups=groups,
            cross_zone=plan.cross_zone,
        )  # fmt: skip
        self._made.append(plan.place)
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

    def _own(self, plan: Plan, back: Backed) -> Plan:
        """The plan for one Service: what its annotations say comes before the Ingress's."""
        ingress = self.ingresses.get(plan.place.removeprefix("lb/"))
        if plan.kind != "alb" or ingress is None:
            return plan
        notes = ingress.annotations | back.service.annotations
        return plan_of_ingress(replace(ingress, annotations=notes)) or plan

    def _group(self, plan: Plan, door: Door, back: Backed) -> TargetGroup:
        """The target group for one port of a Service, made where it isn't there yet."""
        name, own = _name(plan, back), self._own(plan, back)
        if name in self.elb.groups:
            return self.elb.groups[name]
        port = back.port.node_port if own.target_type == "instance" else back.port.target
        return self.elb.create_target_group(
            name, plan.kind, target_type=own.target_type,
            protocol=own.doors[0].backend if own.kind == "alb" else door.backend,
            port=port if isinstance(port, int) else 1,  # as the controller does for a name
            check=health_check(plan.kind, **own.check), **own.group,
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
            named = self._named(plan.security_groups)
            return [*named, self._backend()] if plan.opens_backend and not plan.cloud else named
        if plan.cloud and plan.kind == "nlb":
            return []
        prefix = "k8s-elb-" if plan.kind == "clb" else "k8s-"
        own = prefix + plan.place.removeprefix("lb/").replace("/", "-")
        if own not in held:
            self.vpc.add_security_group(SecurityGroup(own, _admitted(plan)))
        return [held[own]] if plan.kind == "clb" else [held[own], self._backend()]

    def _named(self, names: Iterable[str]) -> list[SecurityGroup]:
        held, found = self.vpc.security_groups, list(names)
        for name in found:
            if name not in held:
                raise EkslearnError(f"there is no security group {name!r}; there are"
                                    f" {', '.join(held) or 'none'}")  # fmt: skip
        return [held[name] for name in found]

    def _backend(self) -> SecurityGroup:
        held = self.vpc.security_groups
        return held.get(BACKEND) or self.vpc.add_security_group(SecurityGroup(BACKEND))

    def _delete(self, place: str) -> None:
        self._opened.pop(place, None)
        self._made.remove(place)
        listeners = self.elb.balancers[place].listeners
        names = {group.name for one in listeners for group in one.groups}
        self.elb.delete_load_balancer(place)
        for kind in ("k8s-", "k8s-elb-"):
            self.vpc.security_groups.pop(kind + place[3:].replace("/", "-"), None)
        for name in names:
            del self.elb.groups[name]

    # Targets

    def _serve(self, plan: Plan, ports: Sequence[Backed], nodes: Sequence[KubeNode]) -> None:
        """Have a balancer as planned, and its targets."""
        made = plan.place in self._made
        balancer = self.elb.balancers[plan.place] if made else self._make(plan, ports)
        opened = list[Opening]()
        for route in _routes(plan):
            back = _backed(plan.namespace, route, ports)
            group = self.elb.groups[_name(plan, back)]
            ends = _ends(group.target_type, back, proxies(nodes, not plan.cloud))
            for target in self._keep(plan.place, group, ends):
                opened += self._openings(target, _needs(plan, balancer, group, target))
        self._opened[plan.place] = opened

    def _bind(self, one: Binding, ports: Sequence[Backed], nodes: Sequence[KubeNode]) -> None:
        """Keep the targets of a group that is in AWS already."""
        place = BINDING + one.key
        group = self._bound[place] = self.elb.target_group(one.group)
        try:
            back = _backed(one.key.partition("/")[0], one.route, ports)
        except EkslearnError as error:
            self._keep(place, group, ())
            raise EkslearnError(f"backend not found: {error}") from None
        kind = one.target_type or group.target_type
        if kind == "ip" and one.nodes != ALL:
            raise EkslearnError("TargetGroupBinding cannot set NodeSelector when TargetType is ip")
        chosen = proxies(each for each in nodes if one.nodes.selects(each.labels))
        ends = _ends(kind, back, chosen)
        self._named(rule.group for rule in one.ingress if rule.group)
        self._opened[place] = [opening for each in self._keep(place, group, ends)
                               for opening in self._openings(each, one.ingress)]  # fmt: skip

    def _keep(
        self, place: str, group: TargetGroup, ends: Sequence[tuple[str, int]]
    ) -> list[Target]:
        """Have these registered in a group, and nobody else; without any, nothing is let in."""
        wanted = [self.elb.register(group, *one) for one in ends]
        for target in list(group.targets):
            if target not in wanted and target.state != "draining":
                group.deregister(target.address, target.port)
        if not wanted:
            self._opened.pop(place, None)
        return wanted

    def _openings(self, target: Target, rules: Iterable[SecurityRule]) -> list[Opening]:
        """Rules for the first security group of the target's ENI, if it has any."""
        eni = self.vpc.owner(target.address)
        return [(one, rule) for one in (eni.security_groups if eni else [])[:1] for rule in rules]


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


def _routes(plan: Plan) -> list[Route]:
    return list(dict.fromkeys(route for door in plan.doors for route in door.routes))


def _backed(namespace: str, route: Route, ports: Sequence[Backed]) -> Backed:
    """The port of a Service that a route means."""
    key = f"{namespace}/{route.service}"
    found = [one for one in ports if one.service.key == key]
    for one in found:
        if route.port in (one.port.port, one.port.name):
            return one
    there = ", ".join(str(one.port.port) for one in found)
    raise EkslearnError(f"the Service {key} has no port {route.port}; it has {there}" if found
                        else f"there is no Service {key}")  # fmt: skip


def _ends(kind: str, back: Backed, nodes: Iterable[str]) -> list[tuple[str, int]]:
    """What is to be registered: pods that are ready, or the Service's port on nodes."""
    if kind == "ip":
        return [(str(one.ip), one.port) for one in back.endpoints if one.ready]
    if not back.port.node_port:
        why = ("unable to support instance target type with an unallocated NodePort"
               if back.service.external else "service type must be either 'NodePort' or"
               " 'LoadBalancer' for target type instance")  # fmt: skip
        raise EkslearnError(f"{why}: {back.service.key}")
    return [(node, back.port.node_port) for node in nodes]


def _name(plan: Plan, back: Backed) -> str:
    return f"{plan.place.removeprefix('lb/')} {back.service.name}:{back.port.port}"
