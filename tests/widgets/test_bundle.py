"""A node read from a log bundle: every widget of the lessons opens it, healthy or broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekslearn.bundle import read_bundle
from ekslearn.cluster import Cluster
from ekslearn.scenario import load
from ekslearn.widgets import packet_walk, pool_view, route_lookup, shell, subnet_view, workbench
from tests.test_bundle import FAULTS, whole

FAR = "198.51.100.9:443"


@pytest.fixture(params=[0, len(FAULTS)], ids=["healthy", "broken"])
def lab(tmp_path: Path, request: pytest.FixtureRequest) -> Cluster:
    made = load(read_bundle(whole(tmp_path, *FAULTS[: request.param])[1])[0])
    assert isinstance(made, Cluster)
    return made


def pods(lab: Cluster) -> tuple[str, str]:
    """A pod of the second ENI and one of the first."""
    rules = lab.run("node", "ip rule show").stdout
    second = [one for one in lab.pods if f"from {lab.address(one)} lookup 2" in rules]
    return second[0], next(one for one in lab.pods if one not in second)


def veth(lab: Cluster, pod: str) -> str:
    """The node's end of a pod's veth, by its routes."""
    return lab.run("node", f"ip route show {lab.address(pod)}").stdout.split()[2]


def test_walks_step_through_it(lab: Cluster) -> None:
    second, first = pods(lab)
    ends = {}
    for source, destination in ((second, first), (first, FAR), ("node", second)):
        walk = packet_walk(lab, source, destination)
        assert len(walk.stops) == len(walk.trace.events) + 1 > 8
        for number in range(len(walk.stops)):
            walk.step = number
            assert walk.now and walk.now in walk.words
        assert all(lab.address(one) in walk.drawing.words for one in (first, second))
        assert "svg" in walk.html()
        ends[source] = walk.trace.verdict
    assert ends[second] == ends["node"] == "delivered"
    assert ends[first] == "dropped"  # the bundle doesn't hold the subnet's routes


def test_a_shell_types_undoes_and_shares(lab: Cluster) -> None:
    terminal = shell(lab, "node")
    rules = terminal.type("ip rule show").stdout
    assert not terminal.type("ip rule del prio 512").status
    assert terminal.entries[-1]["changed"]
    terminal.undo()
    assert terminal.type("ip rule show").stdout == rules
    again = load(terminal.share())
    assert again.run("node", "ip rule show").stdout == rules


def test_a_lookup_names_the_rule(lab: Cluster) -> None:
    second, first = pods(lab)
    look = route_lookup(lab, "node", first)
    assert "Rule 512 asks table main" in look.said and not look.wrong
    look.destination, look.source, look.iif = "10.0.1.9", lab.address(second), veth(lab, second)
    emptied = not lab.run("node", "ip route show table 2").stdout
    asked = "Rule 32766 asks table main" if emptied else "Rule 1536 asks table 2"
    assert asked in look.said and not look.wrong


def test_a_workbench_breaks_and_mends_it(lab: Cluster) -> None:
    second, first = pods(lab)
    bench = workbench(lab, second, first, place="node")
    bench.shell.type("ip link set dev eth0 down")
    assert "eth0 10.0.0.4/19 DOWN" in bench.walk.drawing.words
    bench.shell.type(f"ip link set dev {veth(lab, first)} down")
    assert bench.walk.trace.verdict != "delivered"
    bench.shell.reset()
    assert bench.walk.trace.verdict == "delivered"
    assert "DOWN" not in bench.walk.drawing.words


def test_pool_and_subnet_show_what_it_holds(lab: Cluster) -> None:
    pool = pool_view(lab, None, ["delete 1", "sleep 40"])
    assert not pool.wrong and "10.0.0.8" in pool.words  # the second ENI
    subnet = subnet_view(lab, address="10.0.0.8")
    assert subnet.now.startswith("10.0.0.8: ")
