"""The Kubernetes objects beside a scenario: which are read, in which order, and which aren't."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from ..document import Node, short
from .fields import check_object
from .pod import Pod, SecurityGroupPolicy, read_pod, read_policy
from .service import EndpointSlice, Service, read_service, read_slice
from .workload import read_workload

# The kinds that are read, and the API each is of.
KINDS = {
    "Pod": "v1", "Service": "v1", "Deployment": "apps/v1", "ReplicaSet": "apps/v1",
    "EndpointSlice": "discovery.k8s.io/v1", "ENIConfig": "crd.k8s.amazonaws.com/v1alpha1",
    "SecurityGroupPolicy": "vpcresources.k8s.aws/v1beta1", "Namespace": "v1",
    "NetworkPolicy": "networking.k8s.io/v1", "Ingress": "networking.k8s.io/v1", "Node": "v1",
    "TargetGroupBinding": "elbv2.k8s.aws/v1beta1",
}  # fmt: skip
ALIKE = 0.8  # how near a kind's name is to one that is read, to be taken for a slip


@dataclass(slots=True)
class Manifests:
    """What was read, each with the node it stands in.

    Services that ask for an address or a port come first. ``namespaces`` are their labels, by
    name. ``others`` are read by those whom they concern, by kind. ``notes`` is what has no effect,
    a sentence each.
    """

    pods: list[tuple[Node, Pod]] = field(default_factory=list)
    services: list[tuple[Node, Service]] = field(default_factory=list)
    policies: list[tuple[Node, SecurityGroupPolicy]] = field(default_factory=list)
    slices: list[tuple[Node, EndpointSlice]] = field(default_factory=list)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    others: dict[str, list[Node]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)


def read_manifests(manifests: Iterable[Node]) -> Manifests:
    """Read what is known of ordinary manifests; EkslearnError for one that can't be right."""
    made, workloads, seen = Manifests(), list[Node](), dict[tuple[str, ...], Node]()
    for one in manifests:
        kind, name = kind_of(one), one.text("metadata", "name")
        space = one.text("metadata", "namespace", default="default")
        if kind in KINDS and name and seen.setdefault((kind, space, name), one) is not one:
            one.value["metadata"].value["name"].refuse(f"a second {kind} {space}/{name}")
        match kind:
            case "Pod" if one.text("status", "phase") in ("Succeeded", "Failed"):
                made.notes.append(_ignored(one, "which has ended"))
            case "Pod":
                made.pods.append((one, read_pod(one)))
            case "Deployment" | "ReplicaSet":
                workloads.append(one)
            case "Service":
                made.services.append((one, read_service(one)))
            case "EndpointSlice":
                made.slices.append((one, read_slice(one)))
            case "SecurityGroupPolicy":
                made.policies.append((one, read_policy(one)))
            case "Namespace":
                made.namespaces[check_object(one, kind)[1]] = one.texts("metadata", "labels")
            case _ if kind in KINDS:
                made.others[kind].append(one)
            case _:
                made.notes.append(_ignored(one, "which isn't modelled"))
    for one in workloads:  # last, for the pods they have made may stand here too
        owner = [each.text("name") for each in one.items("metadata", "ownerReferences")]
        if not any(each.text("metadata", "name") in owner for each in workloads):
            made.pods += [(one, pod) for pod in read_workload(one, (pod for _, pod in made.pods))]
    made.services.sort(key=lambda one: not one[1].pinned)
    made.notes += _hardly_meant(made)
    return made


def unpacked(document: Node) -> list[Node]:
    """The objects of a List, or of a PodList and its like, whose items don't say what they are."""
    kind, api = document.value["kind"], document.value["apiVersion"]
    own = kind.value.removesuffix("List")
    if own == kind.value or (own and own not in KINDS):
        return [document]
    said = {"apiVersion": api, "kind": replace(kind, value=own)} if own else {}
    return [replace(one, value=said | one.expect(dict)) for one in document.items("items")]


def kind_of(manifest: Node) -> str:
    """The kind of an object; EkslearnError for a slip of the pen in it, or another API's."""
    api, kind = manifest.text("apiVersion"), manifest.text("kind")
    if kind in KINDS and api != KINDS[kind]:
        manifest.value["apiVersion"].refuse(f"{short(api)} has no {kind}; it is of {KINDS[kind]}")
    near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=ALIKE)
    if near and kind not in KINDS:
        manifest.value["kind"].refuse(f"there is no kind {short(kind)}; did you mean {near[0]}?")
    return kind


def _ignored(one: Node, why: str) -> str:
    kind, name = one.text("kind"), one.text("metadata", "name")
    return f"{one.file}:{one.line}: ignored: {kind} {name}, {why}"


def _hardly_meant(made: Manifests) -> Iterator[str]:
    """Selectors that match no pod, and slices of nothing."""
    found: dict[str, Service] = {}
    for node, service in made.services:
        found[service.key] = service
        if service.selector and not any(service.selects(pod) for _, pod in made.pods):
            at = node.value["spec"].value["selector"]
            yield f"{at.file}:{at.line}: {at.field}: no pod of {service.namespace} has these labels"
    for node, piece in made.slices:
        if piece.service not in found:
            yield _ignored(node, f"for there is no Service {piece.service}")
        elif piece.of_controller and found[piece.service].selector:
            yield _ignored(node, f"for {piece.service} has a selector: its pods decide")
