"""Clusters of many shapes, for pictures: small, with every gateway, crowded, half broken."""

from __future__ import annotations

from functools import cache

from ekslearn import data_path, load
from ekslearn.cluster import Cluster

OFFICE = """
apiVersion: ekslearn/v1
kind: Cluster
metadata: {name: office}
spec:
  connmark: iptables
  vpc:
    cidrs: [10.0.0.0/16, 100.64.0.0/16]
    securityGroups:
      - name: web
        ingress: [{protocol: tcp, port: 80, cidr: 0.0.0.0/0}, {protocol: icmp}]
    subnets:
      - name: public-a
        cidr: 10.0.64.0/24
        zone: us-east-1a
        routes: [{destination: 0.0.0.0/0, target: igw}]
      - name: private-a
        cidr: 10.0.0.0/19
        zone: us-east-1a
        routes:
          - {destination: 0.0.0.0/0, target: nat}
          - {destination: 10.1.0.0/16, target: tgw}
          - {destination: 10.2.0.0/16, target: pcx}
      - name: private-b
        cidr: 10.0.32.0/19
        zone: us-east-1b
        routes: [{destination: 0.0.0.0/0, target: nat}, {destination: 10.1.0.0/16, target: tgw}]
  nodes:
    - {name: public, instanceType: m5.large, subnet: public-a, securityGroups: [web]}
    - {name: node-a, instanceType: m5.large, subnet: private-a}
    - {name: node-b, instanceType: t3.small, subnet: private-b}
  hosts:
    - {name: bastion, subnet: public-a, address: 10.0.64.200, listen: [22/tcp]}
    - {name: internet, addresses: [198.51.100.9, 203.0.113.50], listen: [8080/tcp]}
    - {name: office, addresses: [10.1.0.7], listen: [53/udp, 80/tcp]}
    - {name: peered-database, addresses: [10.2.0.7], listen: [5432/tcp]}
"""
POD = """---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{nodeName: {node}, hostNetwork: {host}, containers: [{{name: main, ports: [{ports}]}}]}}
"""
CROWD = """
apiVersion: ekslearn/v1
kind: Cluster
metadata: {name: crowd}
spec:
  connmark: iptables
  cni: {WARM_IP_TARGET: "1", MINIMUM_IP_TARGET: "1"}
  vpc:
    cidrs: [10.0.0.0/16]
    subnets:
      - {name: private-a, cidr: 10.0.0.0/19, zone: us-east-1a}
      - {name: private-b, cidr: 10.0.32.0/19, zone: us-east-1b}
  nodes:
"""


def pods(node: str, *names: str, port: int = 80, host: bool = False) -> str:
    """The manifests of pods, ``NAMESPACE/NAME`` each, on one node."""
    split = [name.split("/") for name in names]
    return "".join(
        POD.format(
            name=name,
            namespace=namespace,
            node=node,
            host=str(host).lower(),
            ports="" if host else f"{{containerPort: {port}}}",
        )
        for namespace, name in split
    )


@cache
def _load(text: str) -> Cluster:
    made = load(text)
    assert isinstance(made, Cluster)
    return made


def cluster(text: str) -> Cluster:
    """A fresh copy of the cluster of a scenario."""
    copy = _load(text).copy()
    assert isinstance(copy, Cluster)
    return copy


def two_nodes() -> Cluster:
    return cluster(data_path("scenarios/two-nodes.yaml").read_text())


def out_to_the_world() -> Cluster:
    return cluster(data_path("scenarios/out-to-the-world.yaml").read_text())


def security_groups() -> Cluster:
    return cluster(data_path("scenarios/security-groups-for-pods.yaml").read_text())


def custom_networking() -> Cluster:
    return cluster(data_path("scenarios/custom-networking.yaml").read_text())


def ingress() -> Cluster:
    return cluster(data_path("scenarios/ingress.yaml").read_text())


def office() -> Cluster:
    many = [f"default/web-7d9f8-{n:02d}" for n in range(14)]
    return cluster(
        OFFICE
        + pods("node-a", *many)
        + pods("node-b", "shop/api", "shop/cache", "shop/db", "shop/web", port=8080)
        + pods("public", "kube-system/coredns-5d78c9869d-abcde", port=53)
        + pods("node-a", "kube-system/aws-node-x1", host=True)
    )


def crowd() -> Cluster:
    """Eight nodes, two pods each."""
    names = [f"node-{n}" for n in range(8)]
    nodes = "".join(
        f"    - {{name: {name}, instanceType: t3.small, subnet: private-{'ab'[n % 2]}}}\n"
        for n, name in enumerate(names)
    )
    return cluster(
        CROWD + nodes + "".join(pods(n, f"default/{n}-x", f"default/{n}-y") for n in names)
    )


def empty() -> Cluster:
    return cluster(CROWD.replace("  nodes:", "  nodes: []"))


def broken() -> Cluster:
    """Links down, addresses gone, a cable too many, a pod that waits."""
    lab = two_nodes()
    for line in (
        "node-a$ ip link set dev eth1 down",
        "node-a$ ip addr flush dev eth0",
        "default/web-1$ ip link set dev eth0 down",
        "default/web-2$ ip addr add 10.9.9.9/32 dev eth0",
        "node-b$ ip link add spare0 type veth peer name spare1",
        "bastion$ ip addr add 203.0.113.7/32 dev lo",
    ):
        assert lab.line(line).status == 0, line
    lab.delete_pod("default/web-3")
    return lab


ALL = [
    two_nodes,
    out_to_the_world,
    security_groups,
    custom_networking,
    ingress,
    office,
    crowd,
    empty,
    broken,
]
