"""No path, address or answer is scripted: change the wiring, and everything said changes with it.

A lesson says ``ekslearn.load("one-node")``, and a file of that name in the folder it runs in goes
before the one that comes with the package. So nothing is patched: the same notebook runs beside an
altered scenario.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from ekslearn.kubernetes import Backed, Endpoint, Service, ServicePort, proxy, proxy_nft
from tests.ground import ROOT
from tests.notebooks import book, regenerate

SCENARIOS = sorted((ROOT / "data" / "scenarios").glob("*.yaml"))

# Per lesson: what is taken away from which scenario, by a last line or by another text in place of
# one, and an exercise whose answer depends on it.
LOST: dict[str, tuple[Mapping[str, str | tuple[str, str]], str]] = {
    "00_start_here": (
        {"one-node": "pod-b$ ip route del default", "one-pod": "pod$ ip rule del priority 0"},
        "containers-of-one-pod/which-interface",
    ),
    "01_containers_of_one_pod": (
        {"one-pod": "pod$ ip rule del priority 0"},
        "containers-of-one-pod/which-interface",
    ),
    "02_pods_on_one_node": (
        {"one-node": "host$ ip route del 10.0.1.31"},
        "pods-on-one-node/arriving-ttl",
    ),
    "03_how_a_route_is_chosen": (
        {"crossroads": "host$ ip route del 10.20.30.40"},
        "how-a-route-is-chosen/which-row",
    ),
    "04_rules_choose_the_table": (
        {"two-enis": "host$ ip route del default table 2"},
        "rules-choose-the-table/which-rule",
    ),
    "05_hooks_nat_and_marks": (
        {"node-port": "host$ iptables -t mangle -D PREROUTING 2"},
        "hooks-nat-and-marks/which-way-out",
    ),
    "06_enis_and_their_addresses": (
        {"small-subnets": ("instanceType: t3.small", "instanceType: t3.micro")},
        "enis-and-their-addresses/which-are-free",
    ),
    "07_the_warm_pool": (
        {"warm-pool": ('WARM_ENI_TARGET: "1"', 'WARM_ENI_TARGET: "2"')},
        "the-warm-pool/what-the-subnet-loses",
    ),
    "08_prefixes_and_fragmentation": (
        {"prefixes": ('DELEGATION: "true"', 'DELEGATION: "false"')},
        "prefixes-and-fragmentation/how-many-prefixes",
    ),
    "09_pods_on_different_nodes": (
        {"two-nodes": "node-a$ ip route del default table 2"},
        "pods-on-different-nodes/which-interface",
    ),
    "10_out_to_the_world": (
        {"out-to-the-world": "private-node$ ip rule del priority 1024"},
        "out-to-the-world/by-the-second-eni",
    ),
    "11_security_groups_for_pods": (
        {"security-groups-for-pods": "node-a$ ip route del default table 102"},
        "security-groups-for-pods/who-reaches-the-database",
    ),
    "12_services": (
        {"services": "node-a$ iptables -t nat -D KUBE-SERVICES 1"},
        "services/on-the-wire",
    ),
    "13_nodeport_and_traffic_policy": (
        {"traffic-policy": "node-b$ iptables -t mangle -D PREROUTING 2"},
        "nodeport-and-traffic-policy/which-are-answered",
    ),
    "14_load_balancers_and_ingress": (
        {"ingress": ("selector: {app: web}", "selector: {app: wob}")},
        "load-balancers-and-ingress/who-must-admit",
    ),
    "15_hairpin_health_and_rollouts": (
        {"rollout": ("Policy: Local\n  healthCheckNodePort: 32100", "Policy: Cluster")},
        "hairpin-health-and-rollouts/who-is-healthy",
    ),
    "16_dns_and_network_policy": (
        {"dns-and-policy": ("labels: {app: web}", "labels: {app: wob}")},
        "dns-and-network-policy/service-or-pod",
    ),
    "17_capstone": ({"capstone": "node-b$ ip route del default table 2"}, "capstone/way-out"),
}
# Other addresses of the same length, so that columns stay where they are.
RENAMED = {
    "10.0.0.": "10.9.0.",
    "10.0.1.": "10.9.7.",
    "10.0.2.": "10.9.8.",
    "10.0.3.": "10.9.3.",
    "10.0.4.": "10.9.4.",
    "10.0.9.": "10.9.9.",
    "10.0.32.": "10.9.32.",
    "10.0.255.": "10.9.255.",
    "10.1.1.": "10.8.3.",
    "10.20.": "10.77.",
    "0000101000010100": "0000101001001101",  # 10.20 in binary
    "172.20.45.": "172.20.54.",
    "198.51.100.": "198.51.101.",
    "203.0.113.": "203.0.114.",
    "02:00:00:00:": "02:00:00:77:",
}


def readdressed(text: str) -> str:
    for old, new in RENAMED.items():
        text = re.sub(rf"(?<![\d.]){re.escape(old)}", new, text)
    return text


def chains_of_endpoints() -> dict[str, str]:
    """Names made of a hash of an endpoint's address, in both of kube-proxy's dialects."""
    found: dict[str, str] = {}
    port = ServicePort(port=80, target="http", name="http")
    backed = Backed(Service(name="web", namespace="shop", ports=(port,)), port, ())
    text = (ROOT / "data" / "scenarios" / "services.yaml").read_text(encoding="utf-8")
    for address in re.findall(r"\b10\.0\.\d+\.\d+\b", text):
        ends = [Endpoint(ip=IPv4Address(one), port=8080) for one in (address, readdressed(address))]
        old, new = (proxy.chain("SEP", backed.name, "tcp", str(end)) for end in ends)
        found[old] = new
        old, new = (proxy_nft.chain("endpoint", backed, end).split("shop")[0] for end in ends)
        found[old] = new
    return found


def test_every_lesson_is_altered() -> None:
    assert sorted(LOST) == [path.stem for path in book.LESSONS]


def altered(folder: Path, change: Callable[[str, str], str]) -> Path:
    """A folder in which every scenario's name means that scenario, changed."""
    for file in SCENARIOS:
        text = file.read_text(encoding="utf-8")
        (folder / file.stem).write_text(change(file.stem, text), encoding="utf-8")
    return folder


def rerun(stem: str, folder: Path, *, exercises: bool = True) -> dict[str, dict[str, Any]]:
    """The lesson's code cells by id, as they come out in that folder."""
    path = book.NOTEBOOKS / f"{stem}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    if not exercises:
        notebook["cells"] = [
            cell for cell in notebook["cells"] if "exercise(" not in book.source(cell)
        ]
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
        for output in cell.get("outputs", ()):
            output.clear()
        if cell["cell_type"] == "code":
            cell["outputs"] = []
    fresh = regenerate.in_lines(regenerate.execute(notebook, folder))
    return {cell["id"]: cell for cell in fresh["cells"] if cell["cell_type"] == "code"}


ANSWER = "from ekslearn.exercises import EXERCISES as e; x = e[{!r}]; print(x.truth(x.variant()))"


def answer(name: str, folder: Path) -> str:
    """What the model says is right, for nobody in particular, in a process that starts there."""
    done = subprocess.run(
        [sys.executable, "-c", ANSWER.format(name)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("stem", sorted(LOST))
def test_without_one_row_everything_says_so(stem: str, tmp_path: Path) -> None:
    lost, name = LOST[stem]

    def take_away(scenario: str, text: str) -> str:
        change = lost.get(scenario, "")
        if isinstance(change, tuple):
            assert change[0] in text
            return text.replace(*change)
        if change and "kind: Cluster" in text:  # commands end its first document
            spec, *pods = text.split("\n---\n")
            spec += "" if "\n  commands:" in spec else "\n  commands:"
            return "\n---\n".join([f"{spec}\n    - {change}", *pods])
        return f"{text}    - {change}\n" if change else text

    folder = altered(tmp_path, take_away)
    fresh = rerun(stem, folder)
    stored = {cell["id"]: cell for cell in book.cells(book.NOTEBOOKS / f"{stem}.ipynb", "code")}
    printed = {key for key in stored if book.shown(stored[key])[0] != book.shown(fresh[key])[0]}
    assert printed, "the printed output is the same"
    drawn = {
        key
        for key in printed
        if list(map(book.words_of, book.shown(stored[key])[1]))
        != list(map(book.words_of, book.shown(fresh[key])[1]))
    }
    assert drawn, "the picture's words are the same"
    assert answer(name, folder) != answer(name, ROOT), "the exercise's answer is the same"


@pytest.mark.parametrize("stem", sorted(LOST))
def test_other_addresses_change_nothing_but_the_addresses(stem: str, tmp_path: Path) -> None:
    hashed = chains_of_endpoints()

    def rename(text: str) -> str:
        text = readdressed(text)
        for old, new in hashed.items():
            text = text.replace(old, new)
        return text

    # Exercises are left out: each gives its scenario other addresses by itself, learner by learner.
    fresh = rerun(stem, altered(tmp_path, lambda _, text: rename(text)), exercises=False)
    changed = 0
    for cell in book.cells(book.NOTEBOOKS / f"{stem}.ipynb", "code"):
        if cell["id"] not in fresh:
            continue
        old, new = book.shown(cell), book.shown(fresh[cell["id"]])
        assert new[0] == rename(old[0]), cell["id"]
        assert [book.words_of(page) for page in new[1]] == [
            [rename(words) for words in book.words_of(page)] for page in old[1]
        ], cell["id"]
        changed += new[0] != old[0]
    assert changed >= 3
