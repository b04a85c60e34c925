"""Walks, workbenches and lookups on clusters: AWS's decisions, and pictures that grow."""

from __future__ import annotations

import pytest

from ekslearn.draw.journey import by_aws
from ekslearn.trace import Step
from ekslearn.widgets import packet_walk, route_lookup, shell, workbench
from tests.draw.clusters import crowd, office, two_nodes

WALKS = [
    (two_nodes, "default/web-3", "default/api-1:8080/tcp"),
    (two_nodes, "default/web-1", "default/web-2:80/tcp"),
    (two_nodes, "bastion", "default/api-1:8080/tcp"),
    (office, "shop/api", "198.51.100.9:8080/tcp"),
    (office, "default/web-7d9f8-13", "10.2.0.7:5432/tcp"),
    (office, "office", "shop/api:8080/tcp"),
    (office, "bastion", "public:81/tcp"),
    (office, "bastion", "203.0.113.50:8080/tcp"),
    (office, "shop/api", "10.9.9.9:80/tcp"),
    (crowd, "default/node-1-x", "default/node-6-y:80/tcp"),
]
every = pytest.mark.parametrize(
    ("make", "source", "destination"), WALKS, ids=lambda each: getattr(each, "__name__", each)
)


@every
def test_at_every_stop_the_words_are_the_traces_own(make, source, destination) -> None:
    lab = make()
    trace = lab.copy().trace(source, destination)
    walk = packet_walk(lab, source, destination)
    assert len(walk.stops) == len(trace.events) + 1
    layout = walk.drawing.layout
    for number, event in enumerate(trace.events):
        walk.step = number
        stop = walk.stops[number]
        if by_aws(event):
            assert isinstance(event, Step)
            assert walk.now == f"AWS as documented, {event.stage}: {event.decision}"
            assert stop["caption"] == f"AWS as documented: {event.stage}"
            assert not any(row[0] == "mark" for row in stop["header"])
        elif isinstance(event, Step):
            assert walk.now == f"{event.place}, {event.stage}: {event.decision}"
        else:
            assert event.interface in walk.now
        if isinstance(event, Step):
            assert stop["passed_over"] == list(event.passed_over)
            if event.because:
                assert stop["rows"][stop["lit"]].strip() == event.because
        assert 0 < stop["at"][0] < layout.width
        assert 0 < stop["at"][1] < layout.height
        assert all(f'id="{mark}"' in walk.walk["svg"] for mark in stop["marks"])
        if number:
            assert stop["way"][0] == walk.stops[number - 1]["at"]
        assert stop["words"] in walk.words
    walk.step = 0
    assert walk.html() == packet_walk(make(), source, destination).html()


def test_a_route_that_the_vpc_passed_over_is_told_with_its_reason() -> None:
    walk = packet_walk(office(), "shop/api", "198.51.100.9:8080/tcp")
    (stop,) = [each for each in walk.stops if each["words"].endswith("send to nat")]
    assert stop["rows"] == ["0.0.0.0/0 -> nat (route table of private-b)"]
    assert "10.1.0.0/16 -> tgw — 198.51.100.9 isn't in it" in stop["passed_over"]


def test_a_workbench_breaks_and_mends_a_node_and_the_picture_follows() -> None:
    bench = workbench(two_nodes(), "default/web-1", "default/api-1:8080/tcp", place="node-a")
    assert bench.walk.trace.verdict == "delivered"
    bench.shell.type("ip link set dev eth0 down")
    assert bench.walk.trace.verdict != "delivered"
    assert "eth0 10.0.0.4/19 DOWN" in bench.walk.drawing.words
    bench.shell.undo()
    assert bench.walk.trace.verdict == "delivered"
    assert "DOWN" not in bench.walk.drawing.words


def test_what_is_undone_in_a_cluster_leaves_nodes_that_know_their_cluster() -> None:
    lab = two_nodes()
    terminal = shell(lab, "node-a")
    terminal.type("ip rule del prio 1024")
    terminal.undo()
    assert all(machine.cluster is lab for machine in lab.machines.values())
    before = lab.machines["node-a"].ipamd.store.assigned
    lab.delete_pod("default/web-1")
    lab.sleep(60)
    assert lab.machines["node-a"].ipamd.store.assigned == before - 1


def test_a_walk_that_comes_to_a_pod_not_drawn_yet_draws_it() -> None:
    lab = office()
    walk = packet_walk(lab, "shop/api", "default/web-7d9f8-05:80")
    assert "default/web-7d9f8-09" not in walk.drawing.layout.boxes
    walk.destination = "default/web-7d9f8-09:80"
    walk.follow(lab)
    boxes = walk.drawing.layout.boxes
    assert {"default/web-7d9f8-05", "default/web-7d9f8-09"} <= set(boxes)
    lab.delete_pod("default/web-7d9f8-05")
    walk.follow(lab)
    assert "default/web-7d9f8-05" not in walk.drawing.words


def test_a_lookup_is_asked_on_a_node() -> None:
    look = route_lookup(two_nodes(), "node-a", "default/web-1")
    assert "goes out by eni0761ccbeace, straight to its neighbor" in look.said
    look.destination = "default/api-1"
    assert "goes out by eth0, via 10.0.0.1" in look.said
