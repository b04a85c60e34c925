"""Every vector of the areas that are modelled passes; the others are named, with the reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ground import ROOT
from tests.vectors import MODULES, areas, difference, run

FILE = Path(__file__).parents[1] / "data" / "vpc-cni.json"
VECTORS: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
# The areas that must pass as a whole, by the module that runs them.
WHOLE = {
    "wiring": """
        route-table-number host-ip-rules host-iptables host-iptables-connmark
        host-nftables-connmark iptables-mode snat-random-flag external-service-cidr-rules eni-setup
        subnet-gateway veth-name veth-prefix mtu env-parsing pod-netns pod-setup pod-teardown
        branch-pod-setup branch-pod-teardown vlan-name vlan-routes
    """,
    "ec2": "max-pods",
    "pool": """
        datastore-assign datastore-cidr datastore-cooldown datastore-eni datastore-exclusion
        datastore-force-remove datastore-free-prefixes datastore-toggle-pd pool-too-low
        pool-too-low-sequence pool-grow pool-shrink steady-state warm-target-state
        warm-targets-defined warm-prefix-target-defined prefix-defaults div-ceil eni-free
        eni-free-decision insufficient-cidr-cooldown subnet-usable subnet-excluded eniconfig-choice
        create-eni ec2-error-class assign-ips reconcile reconcile-cooldown ips-similar
        unmanaged-enis wait-eni-attached checkpoint-restore eni-tags introspection
    """,
}
HERE = [name for name in MODULES if (Path(__file__).parent / f"{name}.py").is_file()]
REQUIRED = {area for name in HERE for area in WHOLE[name].split()}
RESULTS = list(run(VECTORS))


@pytest.mark.parametrize(
    ("vector", "verdict", "why"), RESULTS, ids=[vector["id"] for vector, _, _ in RESULTS]
)
def test_vector(vector: dict[str, Any], verdict: str, why: str) -> None:
    """A vector fails nowhere, and is absent in no area that must pass as a whole."""
    assert verdict in (("pass",) if vector["area"] in REQUIRED else ("pass", "absent")), why


def test_every_required_area_has_vectors_and_a_handler() -> None:
    assert areas().keys() >= REQUIRED
    assert {vector["area"] for vector in VECTORS} >= REQUIRED


def test_what_is_absent_is_listed_with_its_reason() -> None:
    text = (ROOT / "data" / "not-modelled.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([^`]+)`", text))
    others = {area for name in MODULES if name not in HERE for area in WHOLE[name].split()}
    absent = {vector["area"] for vector, verdict, _ in RESULTS if verdict == "absent"}
    assert len(HERE) < len(MODULES) or sorted(absent - listed - others) == []


def test_the_comparison_sees_each_difference() -> None:
    assert difference({"a": 1}, {"a": 1, "b": 2}) == ""
    for expect, actual in (
        ({"a": 1}, {}), ({"a": None}, {}), ({"a": 1}, {"a": 2}),
        ({"contains": ["x"]}, {"all": "y"}), ({"absent": ["x"]}, {"all": ["x"]}),
        ({"error_contains": "no"}, {"error": "yes"}),
        ({"l_any_order": [1, 1]}, {"l_any_order": [1, 2]}),
        ({"results": [{"ip": "a"}]}, {"results": [{"ip": "b", "ok": True}]}),
    ):  # fmt: skip
        assert difference(expect, actual), expect
    assert not difference({"results": [{"ip": "a"}]}, {"results": [{"ip": "a", "ok": True}]})
    assert not difference({"l_any_order": [2, 1]}, {"l_any_order": [1, 2]})
    assert not difference({"contains": ["x"], "absent": ["z"]}, {"all": "xy"})


def test_the_runner(tmp_path: Path) -> None:
    """One line for each vector, status 1 unless all pass, 2 for what can't be read."""
    known = next(vector for vector in VECTORS if vector["area"] == "div-ceil")
    wrong = {**known, "id": "wrong", "expect": {"value": -1}}
    broken = {**known, "id": "broken", "given": {}}
    strange = {**known, "id": "strange", "area": "nobody-knows"}
    for vectors, lines, status in (
        ([known], [f"{known['id']} pass"], 0),
        ([wrong, broken, strange], ["wrong fail", "broken fail", "strange absent"], 1),
        ([strange], ["strange absent"], 1),
    ):
        path = tmp_path / "vectors.json"
        path.write_text(json.dumps(vectors), encoding="utf-8")
        done = _run(str(path))
        assert (done.stdout.splitlines(), done.returncode) == (lines, status)
    assert _run(str(tmp_path / "none.json")).returncode == 2
    assert _run().returncode == 2


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.vectors", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
