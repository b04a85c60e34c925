"""Every way through a load balancer to one Service, traced: what the ledger steps through.

Each way is built as a cluster of its own: the objects are changed, the controllers act, health
checks run, and a probe is sent. What can't be built has the sentence of whoever refused it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from itertools import product
from typing import TYPE_CHECKING, cast

from ekslearn.cluster import Cluster, Lab
from ekslearn.controller import Ingress
from ekslearn.controller.ingress import Route
from ekslearn.controller.plan import INGRESS, SERVICE
from ekslearn.draw.hops import Hop, hops
from ekslearn.errors import EkslearnError
from ekslearn.ingress_table import Row, row
from ekslearn.kubernetes.service import CLASS
from ekslearn.vpc.security import SecurityRule

if TYPE_CHECKING:
    from ekslearn.elb import LoadBalancer
    from ekslearn.kubernetes import Service
    from ekslearn.trace import Trace

# Each choice: its name, and its values with their words. The first values are where one begins.
CHOICES = {
    "balancer": {"alb": "Application", "nlb": "Network", "clb": "Classic"},
    "targets": {"instance": "instance", "ip": "ip"},
    "policy": {"Cluster": "Cluster", "Local": "Local"},
    "preserve": {"": "not said", "true": "true", "false": "false"},
    "pod": {"here": "on the first node", "far": "on another node", "none": "no pod"},
}
LABELS = {
    "balancer": "Load balancer",
    "targets": "Target type",
    "policy": "externalTrafficPolicy",
    "preserve": "preserve_client_ip",
    "pod": "The only pod",
}
NAMES = {"alb": "ALB", "nlb": "NLB", "clb": "CLB"}
Choice = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One choice and what came of it: ``refused``, or the headers (``rows``) and what they mean.

    ``sees`` is the address that the pod sees, and whose it is; ``reads`` what else it is told.
    """

    choice: Choice
    refused: str = ""
    row: Row | None = None
    rows: tuple[Hop, ...] = ()
    sees: str = ""
    reads: str = ""
    targets: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The choice in a few words."""
        balancer, targets, policy, preserve, pod = self.choice
        kept = f", preserve {preserve}" if preserve else ""
        return f"{NAMES[balancer]} {targets}, {policy}{kept}, {CHOICES['pod'][pod]}"

    @property
    def short(self) -> str:
        """What came of it, in one line."""
        if self.row is None:
            return f"refused: {self.refused}"
        if not self.sees:
            return f"{self.row.verdict}: {self.row.reason}"
        return f"the pod sees {self.sees}; {translated(self.row)}"


def translated(made: Row) -> str:
    """Who translated, and which nodes were passed."""
    return (f"DNAT by {some(made.dnat)}; SNAT by {some(made.snat)};"
            f" nodes {some(made.nodes)}")  # fmt: skip


def some(words: tuple[str, ...]) -> str:
    """A few names, or that there are none.

    >>> some(("node-a", "node-b")), some(())
    ('node-a, node-b', 'none')
    """
    return ", ".join(words) or "none"


class Modes:
    """Builds each way to one Service of a cluster, from one place outside it."""

    def __init__(self, lab: Lab, source: str, service: str) -> None:
        if not isinstance(lab, Cluster):
            raise EkslearnError(f"{lab.name} is no Cluster: it has no Services and no balancers")
        there = ", ".join(one.key for one in lab.services)
        if service not in {one.key for one in lab.services}:
            raise EkslearnError(f"there is no Service {service!r}; there are {there or 'none'}")
        lab.namespace(source)
        self.source, self.service = source, lab.services[service]
        self.entry = next(iter(lab.machines))  # the node that packets are led to first
        self.bare = cast("Cluster", lab.copy())
        self.bare.control.controller.ingresses.clear()
        for one in list(self.bare.services):
            if one.kind == "LoadBalancer" or one.key == service:
                self.bare.services.remove(one.key)
        self.bare.settle()
        for node in self.bare.machines:  # a new balancer may get an old one's address and ports
            self.bare.run(node, "conntrack -F")
        self.bare.fabric.forget()
        self._built: dict[Choice, Way] = {}

    def ways(self) -> Iterator[Way]:
        """All of them, in order."""
        for choice in product(*CHOICES.values()):
            yield self.way(choice)

    def way(self, choice: Choice) -> Way:
        """One of them. What the choice means is traced once, however it is said."""
        balancer, targets, policy, preserve, pod = choice
        if preserve == "" and balancer == "nlb":  # the default is one of the two that can be said
            try:
                lab = self._cluster(choice)
            except EkslearnError as error:
                return Way(choice=choice, refused=str(error))
            kept = str(next(iter(lab.elb.groups.values())).preserve_client_ip).lower()
            return replace(self.way((balancer, targets, policy, kept, pod)), choice=choice)
        if choice not in self._built:
            self._built[choice] = self._trace(choice)
        return self._built[choice]

    def _objects(self, choice: Choice) -> tuple[Service, Ingress | None]:
        """The Service, and the Ingress if one is needed, as somebody would write them."""
        balancer, targets, policy, preserve, _ = choice
        said = {"target-group-attributes": f"preserve_client_ip.enabled={preserve}"}
        said = said if preserve else {}
        service = replace(self.service, external_policy=policy, annotations={},
                          load_balancer_class="", source_ranges=())  # fmt: skip
        if balancer == "alb":
            said |= {"scheme": "internet-facing", "target-type": targets}
            route = Route(service=service.name, port=service.ports[0].port, path="/")
            return replace(service, kind="NodePort"), Ingress(
                name=service.name, namespace=service.namespace, class_name="alb", routes=(route,),
                annotations={INGRESS + name: value for name, value in said.items()},
            )  # fmt: skip
        said |= {"nlb-target-type": "ip"} if targets == "ip" else {}
        if balancer == "nlb":
            said["scheme"] = "internet-facing"
        return replace(
            service, kind="LoadBalancer", load_balancer_class=CLASS if balancer == "nlb" else "",
            annotations={SERVICE + name: value for name, value in said.items()},
        ), None  # fmt: skip

    def _cluster(self, choice: Choice) -> Cluster:
        """A cluster with one balancer, or EkslearnError, in the words of who refused it."""
        lab = cast("Cluster", self.bare.copy())
        service, ingress = self._objects(choice)
        self._place(lab, service, choice[-1])
        lab.control.add_service(service)
        if ingress:
            lab.control.add_ingress(ingress)
        lab.settle()
        for event in lab.control.controller.events.values():
            raise EkslearnError(event)
        return lab

    def _place(self, lab: Cluster, service: Service, where: str) -> None:
        """Keep one pod of the Service, on the first node or another, or none."""
        mine = [place for place, pod in lab.pods.items() if service.selects(pod)]
        keep = [
            place
            for place in mine
            if where != "none" and (lab.pods[place].node == self.entry) == (where == "here")
        ]
        if where != "none" and not keep:
            raise EkslearnError(f"no pod of {service.key} is {CHOICES['pod'][where]}")
        for place in mine:
            if place not in keep[:1]:
                lab.delete_pod(place)

    def _trace(self, choice: Choice) -> Way:
        try:
            lab = self._cluster(choice)
        except EkslearnError as error:
            return Way(choice=choice, refused=str(error))
        (balancer,) = lab.elb.balancers.values()
        held = [target for group in lab.elb.groups.values() for target in group.targets]
        targets = tuple(f"{each} {each.state} {each.reason}".strip() for each in held)
        owners = owners_of(lab)
        port = balancer.listeners[0].port
        trace = lab.trace(self.source, f"{self._door(lab, balancer)}:{port}/tcp")
        return _read(choice, lab, trace, owners, targets)

    def node_ports(self) -> Iterator[tuple[str, str, Row]]:
        """A node's port called without a balancer, by a machine in the VPC that the nodes admit.

        Each has its policy and which node is called. None, if the VPC has no such machine, or
        another node than the first no pod.
        """
        bare = self.bare
        known = {*bare.pods, *bare.machines}
        inside = [each for each in bare.places if each not in known
                  and not bare.fabric.outside(each)]  # fmt: skip
        far = [pod for pod in bare.pods.values()
               if self.service.selects(pod) and pod.node != self.entry]  # fmt: skip
        for policy in CHOICES["policy"] if inside and far else ():
            lab = cast("Cluster", bare.copy())
            service = replace(self.service, kind="NodePort", external_policy=policy,
                              annotations={}, load_balancer_class="", source_ranges=())  # fmt: skip
            self._place(lab, service, "far")
            lab.control.add_service(service)
            lab.settle()
            port = lab.services[service.key].ports[0].node_port
            for node, which in ((far[0].node, "the pod's node"), (self.entry, "another node")):
                called = lab.address(node)
                eni = lab.vpc.owner(IPv4Address(called))
                rule = SecurityRule(protocol="tcp", from_port=port, to_port=port,
                                    cidr=IPv4Network(lab.address(inside[0])))  # fmt: skip
                for group in eni.security_groups if eni else ():
                    group.rules["ingress"].append(rule)
                trace = lab.trace(inside[0], f"{called}:{port}/tcp")
                yield policy, which, row(lab, trace)

    def _door(self, lab: Cluster, balancer: LoadBalancer) -> str:
        """The balancer's address in the first node's zone, if its name stands for that now."""
        eni = lab.vpc.owner(IPv4Address(lab.address(self.entry)))
        named, door = balancer.addresses(), balancer.zones.get(eni.subnet.zone if eni else "")
        own = door and (door.public_ip or door.primary)
        return str(own if own in named else named[0])


def owners_of(lab: Cluster) -> dict[str, str]:
    """Whose address each one is."""
    found = {
        str(address.interface.ip): place
        for place in lab.places
        for link in lab.namespace(place).links.values()
        for address in link.addresses
    }
    for place, balancer in lab.elb.balancers.items():
        found |= {str(eni.public_ip): place for eni in balancer.enis.values() if eni.public_ip}
    return found


def _read(
    choice: Choice, lab: Cluster, trace: Trace, owners: dict[str, str], targets: tuple[str, ...]
) -> Way:
    """What one trace says."""
    came = [seen for seen in trace.request if seen.place in lab.pods and seen.direction == "in"]
    sees = f"{came[-1].src}, {owners.get(came[-1].src, 'a stranger')}" if came else ""
    return Way(
        choice=choice, row=row(lab, trace), rows=tuple(hops(trace)), sees=sees, targets=targets,
        reads="; ".join(step.decision.partition(" and can read ")[2] for step in trace.steps
                        if step.place in lab.pods and " and can read " in step.decision),
    )  # fmt: skip
