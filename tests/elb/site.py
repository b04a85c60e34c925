"""The facts' running example: two nodes, three pods, a client outside; balancers made by hand."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from textwrap import dedent, indent
from typing import Any

import ekslearn
from ekslearn.cluster import Cluster
from ekslearn.elb import Elb, LoadBalancer, reading
from ekslearn.trace import Trace
from ekslearn.vpc.security import SecurityGroup

CLIENT, P0, P1, P2, N1, N2 = (
    "203.0.113.7", "10.0.1.12", "10.0.1.45", "10.0.2.77", "10.0.1.10", "10.0.2.10",
)  # fmt: skip
# The example of the module that reads a scenario's balancers, with every field they have.
SHARED = indent(dedent((reading.__doc__ or "").partition("::\n\n")[2]), "  ")
PLACE, NODEPORT = "lb/shop/web", 31380
SCENARIO = """\
apiVersion: ekslearn/v1
kind: Cluster
metadata: {name: running-example}
spec:
  vpc:
    cidrs: [10.0.0.0/16]
    subnets:
      - name: lb-a
        cidr: 10.0.0.0/25
        zone: us-east-1a
        routes: [{destination: 0.0.0.0/0, target: igw}]
      - name: lb-b
        cidr: 10.0.0.128/25
        zone: us-east-1b
        routes: [{destination: 0.0.0.0/0, target: igw}]
      - name: private-a
        cidr: 10.0.1.0/24
        zone: us-east-1a
        routes: [{destination: 0.0.0.0/0, target: nat}]
      - name: private-b
        cidr: 10.0.2.0/24
        zone: us-east-1b
        routes: [{destination: 0.0.0.0/0, target: nat}]
      - {name: private-c, cidr: 10.0.9.0/24, zone: us-east-1c}
      - {name: tiny, cidr: 10.0.3.0/28, zone: us-east-1b}
  connmark: iptables
  nodes:
    - name: n1
      instanceType: t3.small
      subnet: private-a
      enis:
        - {deviceIndex: 0, primaryAddress: 10.0.1.10, addresses: [10.0.1.12]}
        - {deviceIndex: 1, primaryAddress: 10.0.1.40, addresses: [10.0.1.45]}
    - name: n2
      instanceType: t3.small
      subnet: private-b
      enis:
        - {deviceIndex: 0, primaryAddress: 10.0.2.10, addresses: [10.0.2.12]}
        - {deviceIndex: 1, primaryAddress: 10.0.2.40, addresses: [10.0.2.77]}
  hosts:
    - {name: vpc-client, subnet: private-c, address: 10.0.9.9}
    - {name: client, addresses: [203.0.113.7]}
"""
SCENARIO += "".join(f"""\
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: web}}}}
spec: {{nodeName: {node}, containers: [{{name: web, ports: [{{containerPort: 8080}},
  {{containerPort: 53, protocol: UDP}}]}}]}}
status: {{podIP: {ip}}}
""" for name, node, ip in (("p0", "n1", P0), ("p1", "n1", P1), ("p2", "n2", P2)))  # fmt: skip


def cluster(more: str = "") -> Cluster:
    """The example; ``more`` are manifests."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(SCENARIO + more)
        file.flush()
        made = ekslearn.load(file.name)
    assert isinstance(made, Cluster)
    return made


def node_port(node: str, pod: str, *, local: bool = False) -> list[str]:
    """What kube-proxy does for one endpoint, in as few rules: DNAT, and MASQUERADE for Cluster."""
    mark = [] if local else [
        "iptables -t nat -A KUBE-EXT -j MARK --set-xmark 0x4000/0x4000",
    ]  # fmt: skip
    rules = [
        "iptables -t nat -N KUBE-EXT", "iptables -t nat -N KUBE-POSTROUTING",
        f"iptables -t nat -I PREROUTING -p tcp -m addrtype --dst-type LOCAL -m tcp"
        f" --dport {NODEPORT} -j KUBE-EXT",
        *mark, f"iptables -t nat -A KUBE-EXT -p tcp -m tcp -j DNAT --to-destination {pod}:8080",
        "iptables -t nat -I POSTROUTING -j KUBE-POSTROUTING",
        "iptables -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "iptables -t nat -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
        "iptables -t nat -A KUBE-POSTROUTING -j MASQUERADE --random-fully",
    ]  # fmt: skip
    return [f"{node}$ {rule}" for rule in rules]


class Site:
    """A cluster with a load balancing service."""

    def __init__(self, *lines: str, more: str = "") -> None:
        self.cluster = cluster(more)
        self.cluster.wire(lines)
        self.elb = Elb(self.cluster)

    def balancer(
        self, kind: str, targets: Sequence[Any], *, protocol: str = "", subnets: Sequence[str] = (),
        scheme: str = "internet-facing", groups: Sequence[SecurityGroup] = (), port: int = 443,
        cross_zone: bool | None = None, settle: bool = True, place: str = PLACE, **given: Any,
    ) -> LoadBalancer:  # fmt: skip
        """One listener, one group; targets are addresses or instances."""
        protocol = protocol or {"alb": "HTTP", "nlb": "TCP", "clb": "TCP"}[kind]
        made = self.elb.create_load_balancer(
            place, kind, subnets or ["lb-a", "lb-b"], scheme=scheme, groups=groups,
            cross_zone=cross_zone,
        )  # fmt: skip
        kinds = "ip" if targets and targets[0][0].isdigit() else "instance"
        usual = 8080 if kinds == "ip" else NODEPORT
        given = {"target_type": kinds, "port": usual, "protocol": protocol} | given
        group = self.elb.create_target_group(f"{place}-web", kind, **given)
        for each in targets:
            self.elb.register(group, each)
        made.add_listener(protocol, port, group)
        if settle:
            self.elb.settle()
        return made

    def trace(self, source: str = "client", *, port: int = 443, zone: int = 0, place: str = PLACE,
              protocol: str = "tcp") -> Trace:  # fmt: skip
        eni = list(self.elb.balancers[place].enis.values())[zone]
        address = eni.public_ip or eni.primary
        return self.cluster.trace(source, f"{address}:{port}/{protocol}")

    def lip_subnet(self) -> IPv4Network:
        return next(iter(self.elb.balancers[PLACE].enis.values())).subnet.cidr

    def lip(self, zone: int = 0, place: str = PLACE) -> IPv4Address:
        return list(self.elb.balancers[place].enis.values())[zone].primary


def rows(trace: Trace, leg: str) -> list[str]:
    """Every sighting as "place interface way src:port > dst:port"."""
    return [f"{one.place} {one.interface} {one.direction} {one.src}:{one.sport} >"
            f" {one.dst}:{one.dport}" for one in getattr(trace, leg)]  # fmt: skip


def steps(trace: Trace, stage: str) -> list[str]:
    return [f"{one.decision} | {one.because}" for one in trace.steps if one.stage == stage]
