"""The cells of the matrix, and the scenario that has them."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import ekslearn
from ekslearn.cluster import Cluster
from ekslearn.paths import data_path

SERVICE = "service.beta.kubernetes.io/aws-load-balancer-"
INGRESS = "alb.ingress.kubernetes.io/"
AXES = {
    "balancer": ("ALB", "NLB", "Classic", "NodePort"), "target": ("instance", "ip"),
    "policy": ("Cluster", "Local"), "preserve": ("on", "off"),
    "endpoint": ("here", "elsewhere", "none"), "eni": ("primary", "secondary"),
}  # fmt: skip
NODE, FIRST_PORT, POD_PORT, PORT = "node-a", 30001, 8080, 443
CLIENTS = ("browser", "laptop")  # outside, and in the VPC
PODS = {
    ("here", "primary"): ("node-a", "10.0.1.12"),
    ("here", "secondary"): ("node-a", "10.0.1.45"),
    ("elsewhere", "primary"): ("node-b", "10.0.2.12"),
    ("elsewhere", "secondary"): ("node-b", "10.0.2.77"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: a value on each axis."""

    balancer: str
    target: str
    policy: str
    preserve: str
    endpoint: str
    eni: str

    @property
    def name(self) -> str:
        """What its Service is called."""
        return "-".join(getattr(self, axis).lower() for axis in AXES)

    @property
    def way(self) -> str:
        """What its rows are called."""
        return f"{'service' if self.balancer == 'NodePort' else 'lb'}/shop/{self.name}"


CELLS = [Cell(*values) for values in product(*AXES.values())]
NODE_PORTS = {cell: FIRST_PORT + at for at, cell in enumerate(CELLS)}


def table() -> dict[Cell, dict[str, str]]:
    """What data/ingress_matrix.csv says of each cell."""
    with data_path("ingress_matrix.csv").open(encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {Cell(*(one[axis] for axis in AXES)): one for one in rows}


CLUSTER = """\
apiVersion: ekslearn/v1
kind: Cluster
metadata: {{name: matrix}}
spec:
  vpc:
    cidrs: [10.0.0.0/16]
    securityGroups:
      - name: nodes
        ingress:
          - {{group: nodes}}
{ports}
    subnets:
      - name: public-a
        cidr: 10.0.4.0/24
        zone: us-east-1a
        routes: [{{destination: 0.0.0.0/0, target: igw}}]
        tags: {{kubernetes.io/role/elb: "1"}}
      - name: public-b
        cidr: 10.0.5.0/24
        zone: us-east-1b
        routes: [{{destination: 0.0.0.0/0, target: igw}}]
        tags: {{kubernetes.io/role/elb: "1"}}
      - name: private-a
        cidr: 10.0.1.0/24
        zone: us-east-1a
        routes: [{{destination: 0.0.0.0/0, target: nat}}]
      - name: private-b
        cidr: 10.0.2.0/24
        zone: us-east-1b
        routes: [{{destination: 0.0.0.0/0, target: nat}}]
      - {{name: office, cidr: 10.0.9.0/24, zone: us-east-1a}}
  connmark: iptables
  nodes:
    - name: node-a
      instanceType: m5.large
      subnet: private-a
      securityGroups: [nodes]
      enis:
        - {{deviceIndex: 0, primaryAddress: 10.0.1.10, addresses: [10.0.1.12, 10.0.1.13]}}
        - {{deviceIndex: 1, primaryAddress: 10.0.1.40, addresses: [10.0.1.45, 10.0.1.46]}}
    - name: node-b
      instanceType: m5.large
      subnet: private-b
      securityGroups: [nodes]
      enis:
        - {{deviceIndex: 0, primaryAddress: 10.0.2.10, addresses: [10.0.2.12, 10.0.2.13]}}
        - {{deviceIndex: 1, primaryAddress: 10.0.2.70, addresses: [10.0.2.77]}}
  hosts:
    - {{name: laptop, subnet: office, address: 10.0.9.9}}
    - {{name: browser, addresses: [203.0.113.7]}}
"""
POD = """\
---
apiVersion: v1
kind: Pod
metadata: {{name: {endpoint}-{eni}, namespace: shop, labels: {{at: {endpoint}-{eni}}}}}
spec: {{nodeName: {node}, containers: [{{name: web, ports: [{{containerPort: {port}}}]}}]}}
status: {{podIP: {ip}}}
"""


def scenario(cells: Sequence[Cell]) -> str:
    """A cluster that has them all: four pods, and a Service (and an Ingress) for each cell."""
    opened = "\n".join(
        f"          - {{protocol: tcp, port: {NODE_PORTS[cell]}, cidr: 10.0.9.0/24}}"
        for cell in cells if cell.balancer == "NodePort"
    )  # fmt: skip
    text = CLUSTER.format(ports=opened)
    for (endpoint, eni), (node, ip) in PODS.items():
        text += POD.format(endpoint=endpoint, eni=eni, node=node, ip=ip, port=POD_PORT)
    return text + "".join(manifests(cell) for cell in cells)


def manifests(cell: Cell) -> str:
    """The objects of one cell, as a user would write them."""
    notes, spec = {}, {"type": "LoadBalancer"}
    if cell.balancer == "ALB" or cell.balancer == "NodePort":
        spec = {"type": "NodePort"}
    if cell.balancer == "NLB":
        spec["loadBalancerClass"] = "service.k8s.aws/nlb"
        notes = {"nlb-target-type": cell.target, "scheme": "internet-facing",
                 "attributes": "load_balancing.cross_zone.enabled=true"}  # fmt: skip
        notes["target-group-attributes"] = (
            f"preserve_client_ip.enabled={str(cell.preserve == 'on').lower()}"
        )
    elif cell.balancer != "ALB":
        notes = {"cross-zone-load-balancing-enabled": "true"} if cell.balancer == "Classic" else {}
        notes |= {"nlb-target-type": "ip"} if cell.target == "ip" else {}
        if cell.preserve == "on":
            notes["target-group-attributes"] = "preserve_client_ip.enabled=true"
    if cell.policy == "Local" and spec["type"] == "LoadBalancer":
        spec["healthCheckNodePort"] = str(NODE_PORTS[cell] + 1000)
    lines = "\n  ".join(f"{name}: {value}" for name, value in spec.items())
    at = "nowhere" if cell.endpoint == "none" else f"{cell.endpoint}-{cell.eni}"
    made = f"""\
---
apiVersion: v1
kind: Service
metadata:
  name: {cell.name}
  namespace: shop
  annotations: {_flow(SERVICE, notes)}
spec:
  {lines}
  externalTrafficPolicy: {cell.policy}
  selector: {{at: {at}}}
  ports: [{{name: http, port: {PORT}, targetPort: {POD_PORT}, nodePort: {NODE_PORTS[cell]}}}]
"""
    if cell.balancer != "ALB":
        return made
    notes = {"scheme": "internet-facing", "target-type": cell.target}
    if cell.preserve == "on":
        notes["target-group-attributes"] = "preserve_client_ip.enabled=true"
    notes["listen-ports"] = f'[{{"HTTP": {PORT}}}]'
    return (
        made
        + f"""\
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {cell.name}
  namespace: shop
  annotations: {_flow(INGRESS, notes)}
spec:
  ingressClassName: alb
  defaultBackend: {{service: {{name: {cell.name}, port: {{number: {PORT}}}}}}}
"""
    )


def _flow(prefix: str, notes: dict[str, str]) -> str:
    return "{" + ", ".join(f"{prefix}{name}: '{value}'" for name, value in notes.items()) + "}"


def load(cells: Sequence[Cell]) -> Cluster:
    """The cluster that has them all."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/matrix.yaml"
        with open(path, "w", encoding="utf-8") as file:
            file.write(scenario(cells))
        made = ekslearn.load(path)
    assert isinstance(made, Cluster)
    return made
