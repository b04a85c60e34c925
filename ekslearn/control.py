"""What goes on above a cluster's nodes: Services, kube-proxy, the controllers, the balancers.

They hear of changes as time passes (``Cluster.sleep``, ``Cluster.settle``), all within one step.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from .cni.settings import Settings
from .controller import Controller, Ingress, KubeNode, plan_of_ingress, plan_of_service
from .controller.plan import unread
from .document import Node
from .elb import Elb, LoadBalancer
from .elb.service import Site as Account
from .errors import EkslearnError
from .kubernetes import Backed, KubeProxy, Pod, Service, Services
from .linux import Packet
from .linux.socket import Serve
from .machine import Machine
from .policy import PolicyAgent

# What comes of a pod that is being deleted, in this order.
STOPS, GONE = 1, 2


class Site(Account, Protocol):
    """A cluster, as far as this uses it."""

    settings: Settings
    machines: dict[str, Machine]
    pods: dict[str, Pod]
    pending: dict[str, str]

    def address(self, place: str) -> str:
        """The first address of a place."""

    def shows(self, place: str, command: str) -> str:
        """What a listing prints in a place."""

    def delete_pod(self, place: str) -> None:
        """Take a pod away."""

    def listen(self, place: str, socket: str, *, process: str = "",
               serve: Serve | None = None) -> None:  # fmt: skip
        """Let a process listen."""


class ControlPlane:
    """The control plane of one cluster, and what acts on its behalf."""

    def __init__(self, site: Site, cidr: IPv4Network) -> None:
        self.site, self.services, self.proxy = site, Services(cidr), KubeProxy()
        mode = site.settings.network_policy_mode
        self.policies = PolicyAgent(site.world, mode, services=self.services)
        self.elb = Elb(site)
        self.controller = Controller(self.elb, site.vpc)
        self.nodes: dict[str, KubeNode] = {}
        self._ports: list[Backed] = []
        self._due: list[tuple[float, int, str]] = []  # what becomes of pods that leave

    def add_service(self, service: Service, at: Node | None = None) -> list[str]:
        """Take a Service in, or change one; a sentence for each annotation without effect.

        Raises EkslearnError, with the place in its manifest ``at``, for what can't be.
        """
        plan = plan_of_service(service, at)
        self.services.add(service, at)
        return unread(service, at, plan)

    def add_ingress(self, ingress: Ingress, at: Node | None = None) -> list[str]:
        """The same for an Ingress."""
        plan = plan_of_ingress(ingress, at)
        if plan and any(plan_of_service(one) for one in self.services if one.key == ingress.key):
            why = f"a Service has {plan.place} already; give the Ingress another name"
            raise EkslearnError(f"{at.file}:{at.line}: metadata.name: {why}" if at else why)
        self.controller.ingresses[ingress.key] = ingress
        return unread(ingress, at, plan)

    def act(self) -> None:
        """Let everybody do what follows from how things are now."""
        site = self.site
        addresses = {place: IPv4Address(site.address(place))
                     for place in site.pods if place not in site.pending}  # fmt: skip
        self._ports = self.services.backed(site.pods, addresses)
        # A cluster without Services is one without kube-proxy.
        for node in site.machines if self.services or self.proxy.written else ():
            nat = partial(site.shows, node, "iptables-save -t nat")
            site.wire(self.proxy.lines(node, self._ports, nat))
        self._answer_checks()
        self.controller.reconcile(self._ports, [*self.nodes.values()])

    def settle(self) -> None:
        """Let new targets be checked until each is known to be healthy or not."""
        self.elb.settle()

    def terminate_pod(self, place: str, *, prestop_s: float = 0.0, work_s: float = 0.0,
                      grace_s: float = 30.0) -> None:  # fmt: skip
        """Delete a pod as ``kubectl delete pod`` does: not at once, but as time passes.

        At once it is terminating, and everybody hears of that: its Services, kube-proxy, the
        controllers ([model]: without the moment that takes). Its containers run their preStop hook
        for ``prestop_s`` seconds, then get SIGTERM and listen no more; after ``work_s`` more for
        what they have begun they end, and the pod is gone. ``grace_s`` is the
        terminationGracePeriodSeconds, which begins with the hook: no hook and no container runs
        longer (but for two seconds that kubelet adds for a late hook: left out here). Source:
        Kubernetes documentation, "Pod Lifecycle", termination of Pods. Raises EkslearnError for a
        pod that doesn't run, is leaving already, or is on its node's network.
        """
        pod = self.site.pods.get(place)
        if pod is None or pod.terminating or pod.host_network or place in self.site.pending:
            raise EkslearnError(f"{place} is no pod that runs, with a network of its own, and isn't"
                                " leaving already")  # fmt: skip
        if min(prestop_s, work_s, grace_s) < 0:
            raise EkslearnError("prestop_s, work_s and grace_s are seconds, 0 or more")
        stops, now = min(prestop_s, grace_s), self.site.world.clock
        gone = min(stops + work_s, grace_s)
        self.site.pods[place] = replace(pod, terminating=True)
        self._due += [(now + stops, STOPS, place), (now + gone, GONE, place)]
        self.pass_time()

    def next_event(self) -> float | None:
        """When something is due next: a check of a target, or a step of a pod that leaves."""
        due = [self.elb.next_event(), *(one[0] for one in self._due)]
        return min((one for one in due if one is not None), default=None)

    def pass_time(self) -> None:
        """Do what was due by now."""
        self._leave()
        self.act()
        self.elb.catch_up()

    def _leave(self) -> None:
        now, pods = self.site.world.clock, self.site.pods
        for due in sorted(one for one in self._due if one[0] <= now):
            self._due.remove(due)
            _, step, place = due
            if place in pods and pods[place].terminating:
                self.site.namespace(place).sockets.listeners.clear()
                if step == GONE:
                    self.site.delete_pod(place)

    def _answer_checks(self) -> None:
        """kube-proxy's health check server, on every node, on the port of every Service with one.

        It stops to listen once the Service has gone.
        """
        wanted = {one.health_check_node_port for one in self.services} - {0}
        for node in self.site.machines:
            listeners = self.site.namespace(node).sockets.listeners
            listeners[:] = [one for one in listeners if one.port in wanted or not one.serve
                            or one.process != "kube-proxy"]  # fmt: skip
            for port in sorted(wanted - {one.port for one in listeners}):
                self.site.listen(node, f"0.0.0.0:{port}/tcp", process="kube-proxy",
                                 serve=partial(self._health, node, port))  # fmt: skip

    def _health(self, node: str, port: int, packet: Packet) -> tuple[str, str]:
        """200 if a ready endpoint of the Service with this port is on the node, else 503.

        A real one's answer tells how many there are, in JSON (pkg/proxy/healthcheck).
        """
        here = any(one.node == node and one.ready for back in self._ports
                   if back.service.health_check_node_port == port
                   for one in back.endpoints)  # fmt: skip
        return "200 OK" if here else "503 Service Unavailable", ""

    def named(self, destination: str) -> tuple[str, str]:
        """What the name of a Service, balancer or Ingress stands for: address, port and protocol,
        and what a browser's request would begin with: of an Ingress's hosts it asks the first that
        has a rule for the path. Other words stay as they are.

        Raises EkslearnError for one that isn't there.
        """
        kind, _, rest = destination.partition("/")
        if kind == "service":
            return self.services.target(rest), ""
        if kind == "lb":
            key, colon, port = rest.partition(":")
            balancer = self._balancer(key)
            if not colon:
                return str(self.site.world.random.choice(balancer.addresses())), ""
            return self._door(balancer, port), ""
        if kind == "ingress":
            namespace, name, *path = [*rest.split("/", 2), ""][:3]
            found = self.controller.ingresses.get(f"{namespace}/{name}")
            if found is None:
                there = ", ".join(self.controller.ingresses) or "none"
                raise EkslearnError(f"there is no Ingress {namespace}/{name}; there are {there}")
            hosts = [*filter(None, (one.host for one in found.routes)), name]
            asks = [f"GET http://{host.replace('*', 'www')}/{''.join(path)}" for host in hosts]
            balancer = self._balancer(found.key)
            taken = (one for one in asks if balancer.listeners[0].rule(one))
            return self._door(balancer, ""), next(taken, asks[0])
        return destination, ""

    def _balancer(self, key: str) -> LoadBalancer:
        """The balancer of a Service or Ingress; EkslearnError if there is none, and why."""
        place = f"lb/{key}"
        if place not in self.elb.balancers:
            there = ", ".join(self.elb.balancers) or "none"
            why = self.controller.events.get(place)
            raise EkslearnError(f"{place} was refused: {why}" if why else
                                f"there is no {place}; there are {there}")  # fmt: skip
        return self.elb.balancers[place]

    def _door(self, balancer: LoadBalancer, port: str) -> str:
        """One of a balancer's addresses, with a port that it listens on; any if none is named."""
        wanted, _, protocol = port.partition("/")
        fitting = [(one.port, each) for one in balancer.listeners for each in one.carries
                   if wanted in ("", str(one.port)) and protocol in ("", each)]  # fmt: skip
        if not fitting:
            there = ", ".join(str(one.port) for one in balancer.listeners)
            raise EkslearnError(f"{balancer.place} doesn't listen on {port}; it listens on {there}")
        number, spoken = fitting[0]
        return f"{self.site.world.random.choice(balancer.addresses())}:{number}/{spoken}"
