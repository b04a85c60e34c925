"""The rows of AWS's documents on warm targets, by the whole daemon; wrong rows are called out."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ekslearn.vpc.instance import instance_type
from tests.cni.node import Node

FILE = Path(__file__).parents[1] / "data" / "warm-targets.csv"
ROWS = list(csv.DictReader(line for line in FILE.open(encoding="utf-8") if line[0] != "#"))
TARGETS = {"warm_ip": "WARM_IP_TARGET", "minimum_ip": "MINIMUM_IP_TARGET"}


def label(row: dict[str, str]) -> str:
    names = ("mode", "instance_type", "warm", "warm_ip", "minimum_ip", "pods")
    return "/".join(row[name] for name in names)


def settled(row: dict[str, str], *, burst: bool, seed: int) -> list[int]:
    """ENIs, CIDRs, unused addresses and the CIDRs of each ENI once nothing changes any more.

    As in the documents, kubelet's maxPods is out of reach (at its usual 11 a t3.small would stop
    after its first prefix) and the subnet is large.
    """
    prefixes = row["mode"] == "prefix"
    names = {**TARGETS, "warm": "WARM_PREFIX_TARGET" if prefixes else "WARM_ENI_TARGET"}
    env = {name: row[column] for column, name in names.items() if row[column] != "-"}
    node = Node(
        instance_type(row["instance_type"]),
        {**env, "ENABLE_PREFIX_DELEGATION": prefixes},
        seed=seed,
    )
    node.ipamd.start()
    pods = [f"pod-{number}" for number in range(int(row["pods"]))]
    for wave in [pods] if burst else [[pod] for pod in pods]:
        node.schedule(*wave)
        node.tick()
    node.settle()
    assert not node.pending
    counts = sorted((len(eni.cidrs) for eni in node.store.enis.values()), reverse=True)
    return [len(counts), sum(counts), node.store.stats().available, *counts]


def documented(row: dict[str, str]) -> list[int]:
    counts = map(int, row["per_eni"].split())
    return [int(row["enis"]), int(row["cidrs"]), int(row["unused"]), *counts]


@pytest.mark.parametrize("row", ROWS, ids=label)
@pytest.mark.parametrize("burst", [True, False], ids=["at-once", "one-by-one"])
def test_row(row: dict[str, str], burst: bool) -> None:
    really = [int(word) for word in row["really"].split()] or documented(row)
    for seed in range(2):
        assert settled(row, burst=burst, seed=seed) == really


def test_the_rows_called_wrong_are_wrong() -> None:
    """Each differs from what it is said to be; and no other row is."""
    wrong = [row for row in ROWS if row["really"]]
    assert all([int(word) for word in row["really"].split()] != documented(row) for row in wrong)
    assert [label(row) for row in wrong] == [
        "prefix/t3.small/-/7/20/0",
        "prefix/p3dn.24xlarge/1/-/-/3",
        "prefix/p3dn.24xlarge/1/-/-/95",
        "prefix/p3dn.24xlarge/-/5/10/45",
    ]
    assert len(ROWS) == 36


def test_the_readme_counts_one_eni_too_many() -> None:
    """README says that a node with 0 to 29 pods has one ENI more than its pods need.

    With WARM_ENI_TARGET=1 the warm ENI of an empty m4.4xlarge is its primary one; the second
    comes with the first pod.
    """
    node = Node(instance_type("m4.4xlarge"), {})
    node.ipamd.start()
    node.settle()
    assert [len(eni.cidrs) for eni in node.store.enis.values()] == [29]
    node.schedule("first")
    node.settle()
    assert [len(eni.cidrs) for eni in node.store.enis.values()] == [29, 29]
    node.schedule(*(f"pod-{number}" for number in range(29)))
    node.settle()
    assert node.store.stats()[:2] == (87, 30)
