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
from itertools import product
from typing import TypeVar

from ..elb import Elb, LoadBalancer, Rule, Target, TargetGroup
from ..elb.group import health_check
from ..errors import EkslearnError
from ..kubernetes import Backed
from ..kubernetes.workload import letters
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
# What a balancer is made anew for; AWS itself can change all but type and scheme.
FIXED = ("kind", "cloud", "scheme", "subnets", "security_groups", "opens_backend", "cross_zone")
BINDING = "targetgroupbinding/"  # what their events stand under, before NAMESPACE/NAME
T = TypeVar("T")
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
        self._made: dict[str, list[Plan]] = {}  # by place: what each of theirs was made of
        self._walls: dict[str, SecurityGroup] = {}  # the security groups that are theirs, likewise
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
        shared = self._walls.get(BACKEND)
        if shared and not any(shared in one.security_groups for one in self.elb.balancers.values()):
            del self.vpc.security_groups[self._walls.pop(BACKEND).name]

    # Making

    def _have(self, plan: Plan, backs: Mapping[Route, Backed]) -> None:
        """Make a balancer as planned, change it as far as AWS can, or make it anew.

        Its target groups are new ones then. Where anything of it is refused, nothing is made.
        """
        place, owns = plan.place, [self._own(plan, back) for back in backs.values()]
        was = self._made.get(place)
        if was == [plan, *owns]:
            return
        for own, back in zip(owns, backs.values(), strict=True):
            _ends(own.target_type, back, ())  # refuses what can't be one
        subnets = [one.name for one in self._subnets(plan)]
        self._named(plan.security_groups)
        if was and [getattr(was[0], one) for one in FIXED] != [getattr(plan, one) for one in FIXED]:
            self._delete(place)
        try:
            groups = self._groups(plan)
            if place not in self._made:
                self.elb.create_load_balancer(
                    place, plan.kind, subnets, scheme=plan.scheme, groups=groups,
                    cross_zone=plan.cross_zone)  # fmt: skip
            self._made[place] = [plan, *owns]
            self._strip(place)
            for door in plan.doors:
                self._listen(plan, door, backs)
        except EkslearnError:
            self._delete(place)
            raise

    def _listen(self, plan: Plan, door: Door, backs: Mapping[Route, Backed]) -> None:
        groups = {route: self._group(plan, door, backs[route]) for route in door.routes}
        last = door.routes[-1]
        rules = [Rule(group=groups[one], paths=one.patterns, host=one.host)
                 for one in door.routes if one.path]  # fmt: skip
        self.elb.balancers[plan.place].add_listener(
            door.protocol, door.port, groups[last], rules, answers_404=bool(last.path)
        )

    def _own(self, plan: Plan, back: Backed) -> Plan:
        """The plan for one Service: what its annotations say comes before the Ingress's."""
        if plan.kind != "alb":
            return plan
        ingress = self.ingresses[plan.place.removeprefix("lb/")]
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
        if plan.subnets:
            return _known("subnet", plan.subnets, self.vpc.subnets)
        role, zones = ROLES[plan.scheme], dict[str, Subnet]()
        for one in sorted(self.vpc.subnets.values(), key=lambda each: each.subnet_id):
            if one.tags.get(role) in ("", "1") and one.free >= LEAST_FREE:
                zones.setdefault(one.zone, one)
        if not zones:
            raise EkslearnError("couldn't auto-discover subnets: unable to resolve at least one"
                f" subnet: none has the tag {role} and {LEAST_FREE} free addresses")  # fmt: skip
        return list(zones.values())

    def _groups(self, plan: Plan) -> list[SecurityGroup]:
        """A group of its own that lets clients in, and the one that targets let in.

        Nodes let all in that comes from the own group of a Classic one; a Network one of the cloud
        provider has none.
        """
        if plan.security_groups:
            named = self._named(plan.security_groups)
            return [*named, self._backend()] if plan.opens_backend else named
        if plan.cloud and plan.kind == "nlb":
            return []
        prefix = "k8s-elb-" if plan.kind == "clb" else "k8s-"
        own = self._wall(plan.place, prefix + plan.place.removeprefix("lb/").replace("/", "-"))
        own.rules["ingress"][:] = _admitted(plan)
        return [own] if plan.kind == "clb" else [own, self._backend()]

    def _named(self, names: Iterable[str]) -> list[SecurityGroup]:
        return _known("security group", names, self.vpc.security_groups)

    def _backend(self) -> SecurityGroup:
        return self.vpc.security_groups.get(BACKEND) or self._wall(BACKEND, BACKEND)

    def _wall(self, whose: str, name: str) -> SecurityGroup:
        """A security group of theirs; where the name is taken a few letters tell the two apart."""
        if whose not in self._walls:
            name += f"-{letters(whose, 10)}" if name in self.vpc.security_groups else ""
            self._walls[whose] = self.vpc.add_security_group(SecurityGroup(name))
        return self._walls[whose]

    def _delete(self, place: str) -> None:
        self._opened.pop(place, None)
        if self._made.pop(place, None):
            self._strip(place)
            self.elb.delete_load_balancer(place)
        if own := self._walls.pop(place, None):
            del self.vpc.security_groups[own.name]

    def _strip(self, place: str) -> None:
        """Take a balancer's listeners away, and the target groups that were made for them."""
        self.elb.balancers[place].drop_listeners()
        for name in [one for one in self.elb.groups if one.startswith(f"{place[3:]} ")]:
            del self.elb.groups[name]

    # Targets

    def _serve(self, plan: Plan, ports: Sequence[Backed], nodes: Sequence[KubeNode]) -> None:
        """Have a balancer as planned, and its targets."""
        backs = {route: _backed(plan.namespace, route, ports)
                 for door in plan.doors for route in door.routes}  # fmt: skip
        self._have(plan, backs)
        balancer, opened = self.elb.balancers[plan.place], list[Opening]()
        for back in backs.values():
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
        for one in list(group.targets):
            if (one.instance or str(one.address), one.port) not in ends and one.state != "draining":
                group.deregister(one.address, one.port)
        if not ends:
            self._opened.pop(place, None)
        return [self.elb.register(group, *one) for one in ends]

    def _openings(self, target: Target, rules: Iterable[SecurityRule]) -> list[Opening]:
        """Rules for the first security group of the target's ENI, if it has any."""
        eni = self.vpc.owner(target.address)
        return [(one, rule) for one in (eni.security_groups if eni else [])[:1] for rule in rules]


def _known(what: str, names: Iterable[str], there: Mapping[str, T]) -> list[T]:
    """What has these names; EkslearnError for one that nothing has."""
    for name in (names := list(names)):
        if name not in there:
            found = ", ".join(there) or "none"
            raise EkslearnError(f"there is no {what} {name!r}; there are {found}")
    return [there[name] for name in names]


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
    for door, cidr in product(plan.doors, plan.inbound or (ANYWHERE,)):
        protocol = "udp" if door.protocol == "UDP" else "tcp"
        yield SecurityRule(protocol=protocol, from_port=door.port, cidr=cidr)


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
        return [(str(one.ip), one.port) for one in back.endpoints if one.ready and one.pod]
    if not back.port.node_port:
        why = ("unable to support instance target type with an unallocated NodePort"
               if back.service.external else "service type must be either 'NodePort' or"
               " 'LoadBalancer' for target type instance")  # fmt: skip
        raise EkslearnError(f"{why}: {back.service.key}")
    return [(node, back.port.node_port) for node in nodes]


def _name(plan: Plan, back: Backed) -> str:
    return f"{plan.place.removeprefix('lb/')} {back.service.name}:{back.port.port}"
