"""Small labs to build for real, and private places to run whole programs in."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ekslearn
from ekslearn.cluster import Cluster, Lab

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted((ROOT / "data" / "scenarios").glob("*.yaml"))

ROOMS = [
    "red$ ip link add veth0 type veth peer name veth1 netns blue",
    "red$ ip addr add 10.1.1.1/24 dev veth0",
    "blue$ ip addr add 10.1.1.2/24 dev veth1",
    "red$ ip link set lo up",
    "blue$ ip link set lo up",
    "red$ ip link set veth0 up",
    "blue$ ip link set veth1 up",
]
# left - router - right
ROUTED = [
    "router$ ip link set lo up",
    "router$ ip link add to-left type veth peer name eth0 netns left",
    "router$ ip link add to-right type veth peer name eth0 netns right",
    "router$ ip addr add 10.0.1.1/24 dev to-left",
    "router$ ip addr add 10.0.2.1/24 dev to-right",
    "left$ ip addr add 10.0.1.2/24 dev eth0",
    "right$ ip addr add 10.0.2.2/24 dev eth0",
    "router$ ip link set to-left up",
    "router$ ip link set to-right up",
    "left$ ip link set eth0 up",
    "right$ ip link set eth0 up",
    "left$ ip route add default via 10.0.1.1",
    "right$ ip route add default via 10.0.2.1",
    "router$ sysctl -w net.ipv4.ip_forward=1",
]


@dataclass
class Wires:
    """As much of a Lab as the kernel side looks at; its lines may hold what isn't modelled."""

    name: str
    lines: list[str]
    listen: list[tuple[str, str]] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(line.partition("$")[0] for line in self.lines))

    def listeners(self) -> list[tuple[str, str]]:
        return self.listen


def rooms() -> Any:
    return Wires("rooms", list(ROOMS), [("blue", "0.0.0.0:80/tcp"), ("blue", "0.0.0.0:53/udp")])


def routed(*more: str) -> Any:
    listen = [("right", "0.0.0.0:80/tcp"), ("right", "0.0.0.0:53/udp")]
    return Wires("routed", [*ROUTED, *more], listen)


def privately(code: str, *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run Python as root of a private world with a /run of its own, where ``up`` does no harm."""
    unshare = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork"]
    shell = 'mount -t tmpfs tmpfs /run && exec "$@"'
    return subprocess.run(
        [*unshare, "--kill-child", "sh", "-c", shell, "sh", sys.executable, "-c", code],
        cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip


def modelled(name: str, lines: list[str], listen: list[tuple[str, str]]) -> Lab:
    """A real Lab from lines; each must succeed."""
    lab = Lab(name, list(dict.fromkeys(line.partition("$")[0] for line in lines)))
    for line in lines:
        done = lab.line(line)
        assert done.status == 0, (line, done.stderr)
    for place, where in listen:
        lab.listen(place, where)
    return lab


# Two nodes in subnets of their own, one behind a NAT gateway and one public; a machine in the VPC
# and one outside. node-a's second ENI has an address of one pod; another pod is on node-a itself.
CLUSTER = """\
apiVersion: ekslearn/v1
kind: Cluster
metadata: {name: two-nodes-of-a-cluster}
spec:
  vpc:
    cidrs: [10.0.0.0/16]
    subnets:
      - name: private-a
        cidr: 10.0.0.0/24
        zone: us-east-1a
        routes: [{destination: 0.0.0.0/0, target: nat}, {destination: 10.9.0.0/16, target: tgw}]
      - name: public-b
        cidr: 10.0.1.0/24
        zone: us-east-1b
        routes: [{destination: 0.0.0.0/0, target: igw}]
  nodes:
    - name: node-a
      instanceType: t3.small
      subnet: private-a
      enis:
        - {deviceIndex: 0, primaryAddress: 10.0.0.10, addresses: [10.0.0.11]}
        - {deviceIndex: 1, primaryAddress: 10.0.0.20, addresses: [10.0.0.21, 10.0.0.22]}
    - name: node-b
      instanceType: t3.small
      subnet: public-b
      enis: [{deviceIndex: 0, primaryAddress: 10.0.1.10, addresses: [10.0.1.11]}]
  hosts:
    - {name: bastion, subnet: private-a, address: 10.0.0.9, listen: [22/tcp]}
    - {name: internet, addresses: [198.51.100.9], listen: [80/tcp, 53/udp]}
    - {name: on-prem, addresses: [10.9.0.5], listen: [80/tcp]}
"""
POD = """\
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec: {{nodeName: {node}, containers: [{{name: c, ports: [{{containerPort: 80}}]}}]}}
status: {{podIP: {ip}}}
"""
CLUSTER += "".join(
    POD.format(name=name, node=node, ip=ip)
    for name, node, ip in (
        ("first", "node-a", "10.0.0.11"), ("second", "node-a", "10.0.0.21"),
        ("far", "node-b", "10.0.1.11"),
    )
)  # fmt: skip
CLUSTER += """\
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: kube-system}
spec: {nodeName: node-a, hostNetwork: true, containers: [{name: c, ports: [{containerPort: 9100}]}]}
"""


def cluster(*commands: str, text: str = CLUSTER) -> Cluster:
    """The cluster, then some commands."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        made = ekslearn.load(file.name)
    assert isinstance(made, Cluster)
    made.wire(commands)
    return made
