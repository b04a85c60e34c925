"""EC2 instance types, and how many pods fit on one.

The numbers come from EC2's own description (data/instance_types.csv says which copy of it).
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from ..errors import EkslearnError
from .error import rows
from .subnet import BLOCK

HOST_NETWORK_PODS = 2  # aws-node and kube-proxy, which use the node's own address
CAP, CAP_LARGE, LARGE_VCPUS = 110, 250, 30  # amazon-eks-ami, max-pods-calculator.sh (AL2)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceType:
    """What one EC2 instance type can carry.

    ``enis`` is the limit of the default network card, ``ipv4_per_eni`` counts an ENI's primary
    address too. ``network_cards`` has the limit of each card. ``hypervisor`` is nitro, xen or
    empty (bare metal has none). EC2's description doesn't say how many branch ENIs fit.
    """

    name: str
    enis: int
    ipv4_per_eni: int
    hypervisor: str = "nitro"
    bare_metal: bool = False
    vcpus: int = 2
    network_cards: tuple[int, ...] = ()

    @property
    def prefix_delegation(self) -> bool:
        """Whether an ENI can carry /28 prefixes: Nitro and bare metal only."""
        return self.hypervisor == "nitro" or self.bare_metal


@cache
def instance_types() -> dict[str, InstanceType]:
    """Every instance type of the data file, by name."""
    return {row["instance_type"]: InstanceType(
        name=row["instance_type"], enis=int(row["enis"]), ipv4_per_eni=int(row["ipv4_per_eni"]),
        hypervisor=row["hypervisor"], bare_metal=row["bare_metal"] == "yes",
        vcpus=int(row["vcpus"]), network_cards=tuple(map(int, row["network_cards"].split())),
    ) for row in rows("instance_types.csv")}  # fmt: skip


def instance_type(name: str) -> InstanceType:
    """The type called ``name``; EkslearnError, with names that look like it, if there is none.

    >>> instance_type("m5.large").enis
    3
    """
    known = instance_types()
    if name not in known:
        near = ", ".join(get_close_matches(name, known)) or "m5.large, t3.medium"
        raise EkslearnError(f"EC2 has no instance type {name!r}; there are, for instance, {near}")
    return known[name]


def max_pods(
    kind: InstanceType, *, prefixes: bool = False, custom_networking: bool = False,
    capped: bool = False,
) -> int:  # fmt: skip
    """How many pods kubelet is told to take, by the published formula.

    An ENI's primary address never goes to a pod; custom networking spares the whole primary ENI.
    ``capped`` applies the calculator's 110, or 250 above 30 vCPUs. Where the type can't have
    prefixes, ``prefixes`` changes nothing: the CNI falls back to single addresses.

    >>> max_pods(instance_type("m5.large"), prefixes=True), max_pods(instance_type("t3.small"))
    (434, 11)
    """
    each = (kind.ipv4_per_eni - 1) * (BLOCK if prefixes and kind.prefix_delegation else 1)
    pods = (kind.enis - custom_networking) * each + HOST_NETWORK_PODS
    return min(pods, CAP_LARGE if kind.vcpus > LARGE_VCPUS else CAP) if capped else pods
