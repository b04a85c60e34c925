"""Nodes as Kubernetes sees them: who gets pods, and whose NodePorts balancers may use.

Source: Kubernetes API reference, "Node v1"; the scheduler's plugins NodeUnschedulable and
TaintToleration; kubernetes-sigs/aws-load-balancer-controller, pkg/backend/endpoint_utils.go;
kubernetes/cloud-provider, controllers/service (stableNodeSetPredicates).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..document import Node, short

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
OTHERS = {"node-role.kubernetes.io/master",
          "alpha.service-controller.kubernetes.io/exclude-balancer"}  # fmt: skip
FARGATE = ("eks.amazonaws.com/compute-type", "fargate")
AUTOSCALER = "ToBeDeletedByClusterAutoscaler"  # the taint of a node that is about to go
ZONE, TYPE = "topology.kubernetes.io/zone", "node.kubernetes.io/instance-type"


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeNode:
    """What Kubernetes holds of a node: ``taints`` as (key, value, effect).

    ``ready`` is the status of its condition Ready: True, False or Unknown.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[tuple[str, str, str], ...] = ()
    unschedulable: bool = False
    ready: str = "True"

    @property
    def repels(self) -> str:
        """Why the scheduler puts no pod here, in its words; empty if it does."""
        if self.unschedulable:
            return "node(s) were unschedulable"
        keeps = (f"node(s) had untolerated taint {{{key}: {value}}}"
                 for key, value, effect in self.taints if effect != "PreferNoSchedule")  # fmt: skip
        return next(keeps, "")

    def forwards(self, ours: bool) -> bool:
        """Whether a balancer may use its NodePorts; ``ours`` asks AWS's own controller.

        The cloud provider asks for less: it lets the balancer find out who is ready.
        """
        leaves = any(key == AUTOSCALER for key, _, _ in self.taints)
        out = OTHERS & self.labels.keys() or FARGATE in self.labels.items()
        return not (EXCLUDED in self.labels or leaves or (ours and out))


def proxies(nodes: Iterable[KubeNode], ours: bool = True) -> list[str]:
    """The nodes that balancers may use.

    For AWS's own controller those that are ready; if none is, those of which nobody knows.
    """
    fitting = [one for one in nodes if one.forwards(ours)]
    for status in ("True", "Unknown") if ours else ():
        if found := [one.name for one in fitting if one.ready == status]:
            return found
    return [] if ours else [one.name for one in fitting]


def internal_ip(manifest: Node | None) -> Node | None:
    """Where a Node says its address, if it does."""
    there = manifest.items("status", "addresses") if manifest else []
    return next((one.at("address") for one in there if one.text("type") == "InternalIP"), None)


def read_node(
    manifest: Node, labels: Mapping[str, str], *, address: str, zone: str, kind: str
) -> KubeNode:
    """The Node of one manifest, with all its ``labels``; the rest is what the scenario has.

    Raises EkslearnError, with file, line and field, where the two contradict each other.
    """
    name, provider = manifest.text("metadata", "name"), manifest.at("spec", "providerID")
    told = (manifest.at("metadata", "labels", each) for each in (ZONE, TYPE))
    for at, known in zip((internal_ip(manifest), *told), (address, zone, kind), strict=True):
        if at and known and at.expect(str) != known:
            at.refuse(f"{short(at.value)}, where the scenario's {name} has {known}")
    if provider and zone and provider.expect(str).split("/")[-2:-1] != [zone]:
        provider.refuse(f"{short(provider.value)}, where the scenario's {name} is in {zone}")
    cordoned = manifest.at("spec", "unschedulable")
    return KubeNode(
        name=name, labels=labels, unschedulable=cordoned.truth() if cordoned else False,
        taints=tuple((one.text("key"), one.text("value"), one.text("effect"))
                     for one in manifest.items("spec", "taints")),
        ready=next((one.choice("True", "False", "Unknown", path=("status",))
                    for one in manifest.items("status", "conditions")
                    if one.text("type") == "Ready"), "True"),
    )  # fmt: skip
