"""Areas that are EC2's: how many pods an instance type takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ekslearn.vpc.instance import InstanceType, instance_type, instance_types, max_pods


def pods(given: Mapping[str, Any]) -> dict[str, Any]:
    """A type that EC2 has is looked up; what isn't named, or isn't there, has the given limits.

    Where both are there they have to agree, else the data file is out of date.
    """
    name = given.get("instance_type", "")
    if name in instance_types():
        kind = instance_type(name)
        limits = given.get("max_enis", kind.enis), given.get("ipv4_per_eni", kind.ipv4_per_eni)
        if limits != (kind.enis, kind.ipv4_per_eni):
            return {"limits": [kind.enis, kind.ipv4_per_eni]}
    else:
        kind = InstanceType(name=name, enis=given["max_enis"], ipv4_per_eni=given["ipv4_per_eni"],
                            vcpus=given.get("vcpus", 2))  # fmt: skip
    mode = given.get("mode", "")
    count = max_pods(
        kind, prefixes="prefix" in mode or bool(given.get("prefix_delegation")),
        custom_networking="custom" in mode or bool(given.get("custom_networking")),
        capped=bool(given.get("cap")),
    )  # fmt: skip
    return {"max_pods": count, "usable_ips_per_eni": kind.ipv4_per_eni - 1}


AREAS: dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {"max-pods": pods}
