"""Nodes beside a scenario, as ``kubectl get nodes -o yaml`` prints them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ekslearn.cluster import Cluster
from ekslearn.errors import EkslearnError
from ekslearn.scenario import load
from tests.controller.test_binding import states
from tests.test_control import HEAD, PODS, SERVICE

NODE = """---
apiVersion: v1
kind: Node
metadata:
  name: node-b
  labels: {topology.kubernetes.io/zone: us-east-1b, node.kubernetes.io/instance-type: m5.large}
  annotations: {}
spec:
  providerID: aws:///us-east-1b/i-0123456789abcdef0
status:
  addresses: [{address: 10.0.2.20, type: InternalIP}, {address: node-b.local, type: Hostname}]
  allocatable: {pods: '29'}
  conditions:
    - {type: MemoryPressure, status: 'False'}
    - {type: Ready, status: 'True'}
"""
DEPLOYMENT = """---
apiVersion: apps/v1
kind: Deployment
metadata: {name: job, namespace: shop}
spec:
  replicas: 4
  selector: {matchLabels: {app: job}}
  template: {metadata: {labels: {app: job}}, spec: {containers: [{name: c}]}}
"""
NLB = SERVICE.format("web", "LoadBalancer", "", ", loadBalancerClass: service.k8s.aws/nlb")
CLASSIC = SERVICE.format("web", "LoadBalancer", "", "")


def made(*parts: str) -> Cluster:
    cluster = load("".join((HEAD, *parts)))
    assert isinstance(cluster, Cluster)
    return cluster


def test_it_says_what_the_scenario_leaves_open() -> None:
    cluster = made(NODE, PODS, NLB)
    assert cluster.address("node-b") == "10.0.2.20"
    assert cluster.control.nodes["node-b"].labels["topology.kubernetes.io/zone"] == "us-east-1b"
    assert not [note for note in cluster.notes if "Node" in note]
    group = next(iter(cluster.elb.groups))
    assert "10.0.2.20:30086" in states(cluster, group) and len(states(cluster, group)) == 2


def test_its_labels_and_annotations_choose_an_eniconfig() -> None:
    custom = HEAD.replace("  nodes:\n", "  cni: {AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG: 'true',"
                          " ENI_CONFIG_LABEL_DEF: pods}\n  nodes:\n")  # fmt: skip
    config = """---
apiVersion: crd.k8s.amazonaws.com/v1alpha1
kind: ENIConfig
metadata: {{name: {0}}}
spec: {{subnet: {0}}}
"""
    configs = "".join(config.format(one) for one in ("private-a", "private-b", "public-b"))
    first = NODE.replace("node-b", "node-a").replace("us-east-1b", "us-east-1a")
    first = first.replace("10.0.2.20", "10.0.1.20").replace(
        "labels: {", "labels: {pods: private-a, "
    )
    both = "labels: {pods: private-b, "
    second = NODE.replace("labels: {", both).replace(
        "annotations: {}", "annotations: {k8s.amazonaws.com/eniConfig: public-b}"
    )
    cluster = load(custom + configs + first + second)
    assert isinstance(cluster, Cluster)
    chosen = {name: machine.ipamd.eniconfig for name, machine in cluster.machines.items()}
    assert {name: one and one.subnet for name, one in chosen.items()} == {
        "node-a": "private-a", "node-b": "public-b"}  # fmt: skip


CONTRADICTIONS = {
    "name": ("name: node-b", "name: node-c", "metadata.name: there is no node 'node-c'; there are"
             " node-a, node-b"),
    "subnet": ("10.0.2.20", "10.0.1.20", "status.addresses[0].address: InvalidParameterValue: "),
    "zone": ("us-east-1b/i-", "us-east-1a/i-", "spec.providerID: 'aws:///us-east-1a/i-"
             "0123456789abcdef0', where the scenario's node-b is in us-east-1b"),
    "zone's label": ("zone: us-east-1b", "zone: us-east-1a", "metadata.labels.topology.kubernetes."
                     "io/zone: 'us-east-1a', where the scenario's node-b has us-east-1b"),
    "type": ("m5.large", "m5.xlarge", "metadata.labels.node.kubernetes.io/instance-type: "
             "'m5.xlarge', where the scenario's node-b has m5.large"),
    "ready": ("status: 'True'", "status: 'Perhaps'", "status.conditions[1].status: there is no word"
              " 'Perhaps'; there are True, False, Unknown"),
    "kind": ("kind: Node", "kind: Nodes", "kind: there is no kind 'Nodes'; did you mean Node?"),
    "no name": ("  name: node-b\n", "", "expected text, found a mapping"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_contradicts_the_scenario(case: str, tmp_path: Path) -> None:
    old, new, said = CONTRADICTIONS[case]
    (tmp_path / "a.yaml").write_text(HEAD, encoding="utf-8")
    (tmp_path / "b.yaml").write_text(NODE.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(EkslearnError) as caught:
        load(tmp_path)
    found = re.fullmatch(rf"{tmp_path / 'b.yaml'}:\d+: (.*)", str(caught.value))
    assert found and found[1].startswith(said)


def test_an_address_that_is_pinned_otherwise(tmp_path: Path) -> None:
    pinned = HEAD.replace("private-b, securityGroups", "private-b, enis: [{deviceIndex: 0,"
                          " primaryAddress: 10.0.2.10}], securityGroups")  # fmt: skip
    said = "addresses.0..address: '10.0.2.20', where the scenario's node-b has 10.0.2.10"
    with pytest.raises(EkslearnError, match=said):
        load(pinned + NODE)


OUT = {
    "cordoned": ("spec:", "spec:\n  unschedulable: true", "node(s) were unschedulable"),
    "tainted": ("spec:", "spec:\n  taints: [{key: only, value: gpu, effect: NoSchedule}]",
                "node(s) had untolerated taint {only: gpu}"),
    "evicting": ("spec:", "spec:\n  taints: [{key: out, effect: NoExecute}]",
                 "node(s) had untolerated taint {out: }"),
}  # fmt: skip


@pytest.mark.parametrize("case", OUT)
def test_the_scheduler_passes_it_over(case: str) -> None:
    old, new, said = OUT[case]
    pods = made(DEPLOYMENT, NODE.replace(old, new, 1)).pods.values()
    assert {pod.node for pod in pods} == {"node-a"} and len(pods) == 4
    mine = PODS.partition("---\n")[2].partition("---\n")[2]  # web-2, which names its node
    assert made("---\n" + mine, NODE.replace(old, new, 1)).pods["shop/web-2"].node == "node-b"
    full = HEAD.replace("subnet: private-a, ", "subnet: private-a, maxPods: 3, ")
    cluster = load(full + DEPLOYMENT + NODE.replace(old, new, 1))
    assert isinstance(cluster, Cluster)
    [why] = cluster.pending.values()
    assert why == f"0/2 nodes are available: 1 Too many pods, 1 {said}."


def test_a_taint_that_only_prefers_is_no_wall() -> None:
    soft = NODE.replace("spec:", "spec:\n  taints: [{key: a, effect: PreferNoSchedule}]", 1)
    assert {pod.node for pod in made(DEPLOYMENT, soft).pods.values()} == {"node-a", "node-b"}


EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"
# What keeps a node out of a balancer of AWS's own controller, and of the cloud provider's.
KEPT_OUT = {
    "label": ("labels: {", f"labels: {{{EXCLUDE}: '', ", True, True),
    "taint": ("spec:", "spec:\n  taints: [{key: ToBeDeletedByClusterAutoscaler, value: '1',"
              " effect: NoSchedule}]", True, True),
    "not ready": ("status: 'True'", "status: 'False'", True, False),
    "unknown": ("status: 'True'", "status: Unknown", True, False),
    "Fargate": ("labels: {", "labels: {eks.amazonaws.com/compute-type: fargate, ", True, False),
    "master": ("labels: {", "labels: {node-role.kubernetes.io/master: '', ", True, False),
    "cordoned": ("spec:", "spec:\n  unschedulable: true", False, False),
}  # fmt: skip


@pytest.mark.parametrize("case", KEPT_OUT)
def test_who_is_a_target(case: str) -> None:
    old, new, *out = KEPT_OUT[case]
    for service, kept in zip((NLB, CLASSIC), out, strict=True):
        cluster = made(NODE.replace(old, new, 1), PODS, service)
        group = next(iter(cluster.elb.groups))
        wanted = {cluster.address(name) for name in ("node-a", *(() if kept else ("node-b",)))}
        assert {one.partition(":")[0] for one in states(cluster, group)} == wanted, service


def test_fail_open_where_nobody_knows() -> None:
    lost = NODE.replace("status: 'True'", "status: Unknown")
    first = lost.replace("node-b", "node-a").replace("us-east-1b", "us-east-1a")
    cluster = made(first.replace("10.0.2.20", "10.0.1.20"), lost, PODS, NLB)
    assert len(states(cluster, next(iter(cluster.elb.groups)))) == 2


def test_a_node_that_is_kept_out_later_drains() -> None:
    cluster = made(PODS, NLB)
    nodes, group = cluster.control.nodes, next(iter(cluster.elb.groups))
    nodes["node-b"] = replace(nodes["node-b"], labels={EXCLUDE: ""})
    cluster.sleep(1)
    assert sorted(states(cluster, group).values()) == ["draining", "healthy"]
