"""Deployments and ReplicaSets, as far as placing pods goes.

Source: Kubernetes API reference, "Deployment apps/v1". The names of real pods end in letters drawn
at random; here they are drawn from the owner's name, the same every time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256

from ..document import Node
from .fields import check_object
from .pod import Pod, read_pod

LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # of which Kubernetes makes names (SafeEncodeString)


def read_workload(manifest: Node, pods: Iterable[Pod]) -> Iterator[Pod]:
    """The pods of a Deployment or ReplicaSet that aren't among ``pods``, which it may have made.

    Raises EkslearnError if it can't be one.
    """
    namespace, own = check_object(manifest, manifest.text("kind"))
    template, copies = manifest.value["spec"].value["template"], manifest.at("spec", "replicas")
    wanted = manifest.texts("spec", "selector", "matchLabels")
    labels = template.texts("metadata", "labels")
    if not wanted or not wanted.items() <= labels.items():
        (manifest.at("spec", "selector") or manifest).refuse(
            "spec.selector.matchLabels has to name labels that spec.template's pods have"
        )
    meta = template.value["metadata"]
    meta = replace(meta, value={**meta.value, "name": manifest.value["metadata"].value["name"]})
    named = replace(template, value={**template.value, "metadata": meta})
    pod = replace(read_pod(named), namespace=namespace)
    alone = manifest.text("kind") == "ReplicaSet"
    there = sum(one.namespace == namespace and own == (
        one.owner if alone else one.owner.rpartition("-")[0]) for one in pods)  # fmt: skip
    own += "" if alone else f"-{letters(pod.place, 9)}"
    for number in range(there, copies.whole(0, 10000) if copies else 1):
        yield replace(pod, name=f"{own}-{letters(f'{pod.place} {number}', 5)}")


def letters(text: str, count: int) -> str:
    """So many letters, drawn from a text."""
    return "".join(LETTERS[byte % len(LETTERS)] for byte in sha256(text.encode()).digest()[:count])
