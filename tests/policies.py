"""Clusters whose pods are guarded by NetworkPolicies, for the tests."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import ekslearn
from ekslearn.cluster import Cluster
from ekslearn.document import Composer
from ekslearn.policy import PolicyAgent, read_network_policy

SCENARIO = """
apiVersion: ekslearn/v1
kind: Cluster
metadata: {name: guarded}
spec:
  vpc:
    cidrs: [10.0.0.0/16]
    subnets:
      - {name: private-a, cidr: 10.0.0.0/19, zone: us-east-1a}
      - {name: private-b, cidr: 10.0.32.0/19, zone: us-east-1b}
  cni: {NETWORK_POLICY_ENFORCING_MODE: standard}
  nodes:
    - {name: node-a, instanceType: m5.large, subnet: private-a}
    - {name: node-b, instanceType: m5.large, subnet: private-b}
  hosts:
    - {name: bastion, subnet: private-a, address: 10.0.4.9, listen: [22/tcp]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web, tier: front}}
spec:
  nodeName: node-a
  containers:
    - name: web
      ports:
        - {name: http, containerPort: 8080}
        - {name: admin, containerPort: 9000}
        - {containerPort: 53, protocol: UDP}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {nodeName: node-b, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: shop, labels: {app: near, tier: front}}
spec: {nodeName: node-a, containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: other, labels: {app: client}}
spec: {nodeName: node-b, containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: shop, labels: {app: web}}
spec: {nodeName: node-b, hostNetwork: true, containers: [{name: c, ports: [{containerPort: 7000}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 172.20.45.6
  selector: {app: web, tier: front}
  ports: [{port: 80, targetPort: 8080}]
"""


def policy(spec: str, name: str = "p", namespace: str = "shop") -> str:
    """The manifest of a policy with that spec, in flow style."""
    return (f"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
            f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n")  # fmt: skip


def apply(agent: PolicyAgent, *manifests: str) -> None:
    for each in Composer("---\n".join(manifests), "p.yaml").documents():
        agent.apply(read_network_policy(each))


def start(cluster: Cluster, agent: PolicyAgent, place: str) -> None:
    """What the cluster does once a pod has its network."""
    pod, end = cluster.pods[place], cluster.namespace(place).links["eth0"]
    ip, node = (IPv4Address(cluster.address(each)) for each in (place, pod.node))
    agent.started(pod, ip, node, end.peer)


def guarded(
    *manifests: str, mode: str = "standard", wait: bool = True, **more: Any
) -> tuple[Cluster, PolicyAgent]:
    """The cluster above with these policies, loaded unless nobody is to ``wait`` for that."""
    cluster = ekslearn.load(SCENARIO)
    assert isinstance(cluster, Cluster)
    agent = PolicyAgent(cluster.world, mode, services=cluster.services, **more)
    cluster.network_policy.enforce(False)
    agent.namespaces = {"shop": {"team": "a"}, "other": {"team": "b"}}
    for place in cluster.pods:
        start(cluster, agent, place)
    apply(agent, *manifests)
    if wait:
        cluster.world.clock += agent.delay_s
    return cluster, agent
