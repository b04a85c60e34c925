"""Random Services in random clusters, in the model and on the real kernel.

``Serving`` is a random cluster whose pods stand behind Services, with every policy, with and
without endpoints, of pods and of machines that are none. As a program, ``python -m
tests.parity.services FIRST COUNT`` plays seeds and prints what disagrees.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address
from math import sqrt

from ekslearn.cluster import Cluster
from ekslearn.kernel import World
from ekslearn.kubernetes import Endpoint, EndpointSlice, Service, ServicePort
from ekslearn.linux import Decision
from ekslearn.vpc.model import PUBLIC
from tests.parity.clusters import OUTSIDE, Clustering, ClusterWatch, main, played
from tests.parity.coverage import decided_by_proxy
from tests.parity.packets import Tally
from tests.parity.wirings import NOWHERE, Question

PROBES = 80
APPS = ("web", "api")
POLICIES = ("Cluster",) * 4 + ("Local",)


class Serving(Clustering):
    """One random cluster with Services, and the probes to send in it."""

    COUNTS = (8, 12, 20, 40)
    GROUPED, GUARDED, BROKEN = 0.08, 0.04, 0.15

    def _services(self) -> None:
        lab: Cluster = self.lab
        for place in self.pods:
            ready, going = not self.chance(0.05), self.chance(0.05)
            labels = {**lab.pods[place].labels, "app": self.pick(*APPS)}
            lab.pods[place] = replace(
                lab.pods[place], labels=labels, ready=ready, terminating=going
            )
        for number in range(self.random.randint(1, 6)):
            self._service(number)
        lab.sleep(1)
        if self.chance(0.2) and self.pods:  # and what kube-proxy does when something changes
            lab.delete_pod(self.pods.pop(self.random.randrange(len(self.pods))))
            lab.sleep(1)
        for _ in range(self.random.choice((0, 0, 1, 2))):
            self._lost_way()

    def _lost_way(self) -> None:
        """A client without its route, or an endpoint that a node has none to."""
        if not self.pods or self.chance(0.2):
            self.go(self.pick(*self.nodes), "ip route del default")
        elif self.chance(0.5):
            self.go(self.pick(*self.pods), "ip route del default")
        else:
            address = self.lab.address(self.pick(*self.pods))
            self.go(self.pick(*self.nodes), f"ip route replace unreachable {address}")

    def _service(self, number: int) -> None:
        lab, kind = self.lab, self.pick("ClusterIP", "ClusterIP", "NodePort", "LoadBalancer")
        name, far = f"s{number}", self.chance(0.12)
        wanted = self.random.choice(((80, "tcp"), (53, "udp")) * 20 + ((9, "tcp"), (9, "udp")))
        port = ServicePort(name=self.pick("", "a"), port=self.random.choice((80, 443, 53)),
                           protocol=wanted[1], target=wanted[0])  # fmt: skip
        service = Service(
            name=name, namespace=self.pick("default", "shop"), kind=kind, ports=(port,),
            selector={} if far else {"app": self.pick(*APPS * 5, "none")},
            internal_policy=self.pick(*POLICIES),
            external_policy=self.pick(*POLICIES) if kind != "ClusterIP" else "Cluster",
            affinity_s=10800 if self.chance(0.15) else 0,
            external_ips=(IPv4Address(self.pick("192.0.2.200", "10.0.0.77")),)
            if self.chance(0.15) else (),
        )  # fmt: skip
        lab.services.add(service)
        if far:
            places = [*self.nodes, *self.hosts]
            ends = [lab.address(self.pick(*places)) for _ in range(self.random.randint(1, 3))]
            ends += [self.pick(NOWHERE, *OUTSIDE)] if self.chance(0.3) else []
            lab.services.slices.append(EndpointSlice(
                service=service.key, ports={(port.name, wanted[1]): wanted[0]}, endpoints=tuple(
                    Endpoint(ip=IPv4Address(one), port=0, node=self.pick("", *self.nodes))
                    for one in dict.fromkeys(ends)),
            ))  # fmt: skip

    def _question(self) -> Question:
        usual = super()._question()
        if self.chance(0.07):
            return usual
        service = self.random.choice(list(self.lab.services))
        port = service.ports[0]
        ways = [(str(service.cluster_ip), port.port)] * 3
        ways += [(str(ip), port.port) for ip in service.external_ips]
        if port.node_port:
            nodes = [self.lab.address(one) for one in self.nodes]
            others = [str(one.primary) for one in self.lab.vpc.enis.values() if one.attached]
            ways += [(self.pick(*nodes), port.node_port)] * 3
            ways += [(self.pick(*others), port.node_port)]
            public = [one.public_ip for one in self.lab.vpc.enis.values() if one.public_ip]
            if usual.source in self.outside and public and not self.groups:
                ways += [(str(self.random.choice(public)), port.node_port)] * 6
        if service.health_check_node_port:
            ways.append((self.lab.address(self.pick(*self.nodes)), service.health_check_node_port))
        source = usual.source
        if source in (*self.outside, *self.hosts) and not self.chance(0.1):  # no kube-proxy there
            far = source in self.outside
            ways = [one for one in ways if far == (IPv4Address(one[0]) in PUBLIC)
                    and one[1] in (port.node_port, service.health_check_node_port)]  # fmt: skip
        if not ways:
            source = self.pick(*self.pods, *self.nodes)
            ways = [(str(service.cluster_ip), port.port)]
        address, number = self.random.choice(ways)
        protocol = "tcp" if number == service.health_check_node_port else port.protocol
        return replace(usual, source=source, protocol=protocol, address=address, port=number,
                       size=None)  # fmt: skip


class ServiceWatch(ClusterWatch):
    """Keeps what kube-proxy's rules decided, too."""

    def decision(self, decision: Decision) -> None:
        """Something was decided."""
        super().decision(decision)
        self.decided.update(decided_by_proxy(decision))

    def tell_draws(self) -> None:
        """Count which of how many endpoints was drawn."""
        self.decided |= {f"draw {one.at + 1} of {one.left}" for one in self.draws}


def unfair(features: Counter[str]) -> list[str]:
    """Where one of several endpoints was drawn more or less often than the others: a sentence each.

    Each of N is drawn once in N times; five standard deviations aren't chance.
    """
    counts: dict[int, list[int]] = {}
    for name, count in features.items():
        if found := re.fullmatch(r"draw (\d+) of (\d+)", name):
            counts.setdefault(int(found[2]), []).append(count)
    wrong = []
    for left, seen in counts.items():
        total, spread = sum(seen), sqrt(sum(seen) * (left - 1)) / left
        worst = max(abs(one - total / left) for one in seen + [0] * (left - len(seen)))
        if worst > 5 * spread:
            wrong.append(f"of {left} endpoints, drawn {total} times, they got {sorted(seen)}")
    return wrong


def play(seed: int, world: World, tally: Tally, *, probes: int = PROBES) -> None:
    """Compare one random cluster."""
    played(Serving(seed, probes), ServiceWatch, f"services {seed}", world, tally)


if __name__ == "__main__":
    main(play)
