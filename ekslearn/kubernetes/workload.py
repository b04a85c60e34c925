"""Deployments and ReplicaSets, as far as placing pods goes.

Source: Kubernetes API reference, "Deployment apps/v1". The names of real pods end in letters drawn
at random; here they are drawn from the owner's name, the same every time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256

from ..document import Node
from .pod import Pod, read_pod

LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # of which Kubernetes makes names (SafeEncodeString)


def read_workload(manifest: Node) -> Iterator[Pod]:
    """The pods of a Deployment or ReplicaSet; EkslearnError if it can't be one."""
    name, template = manifest.at("metadata", "name"), manifest.at("spec", "template")
    if name is None or template is None:
        manifest.refuse("this needs metadata.name and spec.template")
    wanted = manifest.texts("spec", "selector", "matchLabels")
    labels = template.texts("metadata", "labels")
    if not wanted or not wanted.items() <= labels.items():
        (manifest.at("spec", "selector") or manifest).refuse(
            "spec.selector.matchLabels has to name labels that spec.template's pods have"
        )
    copies, namespace = manifest.at("spec", "replicas"), manifest.at("metadata", "namespace")
    given = {"name": name, **({"namespace": namespace} if namespace else {})}
    head = replace(template, value={**template.value.get("metadata", name).value, **given})
    pod = read_pod(replace(template, value={**template.value, "metadata": head}))
    own = "" if manifest.text("kind") == "ReplicaSet" else f"-{letters(pod.place, 9)}"
    for number in range(copies.whole(0, 10000) if copies else 1):
        yield replace(pod, name=f"{pod.name}{own}-{letters(f'{pod.place} {number}', 5)}")


def letters(text: str, count: int) -> str:
    """So many letters, drawn from a text."""
    return "".join(LETTERS[byte % len(LETTERS)] for byte in sha256(text.encode()).digest()[:count])
