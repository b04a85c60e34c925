"""PacketWalk without a browser: every stop's words against the trace, told here apart."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ekslearn.cluster import Lab
from ekslearn.draw import describe
from ekslearn.errors import EkslearnError
from ekslearn.trace import Step
from ekslearn.widgets import PacketWalk, packet_walk
from ekslearn.widgets.changes import listings
from ekslearn.widgets.story import changes, headers
from tests.draw.labs import chain, four_pods, one_node, one_pod, ring, two_rooms

WALKS = [
    (two_rooms, "red", "10.1.1.2"),
    (one_node, "pod-a", "pod-b:80/tcp"),
    (one_node, "pod-a", "10.0.1.1"),
    (one_pod, "pod", "127.0.0.1:9000"),
    (chain, "red", "10.1.1.1"),
    (chain, "red", "blue"),
    (four_pods, "pod-a", "pod-b"),
    (two_rooms, "red", "10.1.1.2:81/tcp"),
    (two_rooms, "red", "203.0.113.9"),
    (two_rooms, "red", "10.1.1.77:53/udp"),
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
    for number, event in enumerate(trace.events):
        walk.step = number
        stop = walk.stops[number]
        assert stop["leg"] == event.leg
        if isinstance(event, Step):
            assert walk.now == f"{event.place}, {event.stage}: {event.decision}"
            assert stop["passed_over"] == list(event.passed_over)
            if event.because:
                assert stop["rows"][stop["lit"]] == event.because
        else:
            for word in (
                event.place,
                event.interface,
                event.src,
                event.dst,
                event.protocol,
                f"TTL {event.ttl}",
            ):
                assert word in walk.now
            assert ("leaves" in walk.now) == (event.direction == "out")
    walk.step = 10_000
    assert walk.step == len(trace.events)
    mark = "\N{CHECK MARK}" if trace.verdict == "delivered" else "\N{BALLOT X}"
    assert walk.now == f"{mark} {trace.verdict.upper()}: {trace.reason}"


@every
def test_the_printed_words_hold_every_event_in_order(make, source, destination) -> None:
    walk = packet_walk(make(), source, destination)
    rest = walk.words
    for stop in walk.stops:
        assert stop["words"] in rest
        rest = rest[rest.index(stop["words"]) + len(stop["words"]) :]


@every
def test_the_packet_stands_on_marks_that_are_drawn(make, source, destination) -> None:
    walk = packet_walk(make(), source, destination)
    layout = walk.drawing.layout
    for before, stop in zip(walk.stops, walk.stops[1:], strict=False):
        assert stop["way"][0] == before["at"], "a way begins where the packet stood"
        assert stop["way"][-1] == stop["at"]
        x, y = stop["at"]
        assert 0 < x < layout.width
        assert 0 < y < layout.height
        assert all(f'id="{mark}"' in walk.walk["svg"] for mark in stop["marks"])


def test_a_capture_puts_the_packet_on_its_interface() -> None:
    walk = packet_walk(one_node(), "pod-a", "pod-b")
    ports = {port.id: port.at for port in walk.drawing.layout.ports.values()}
    seen = 0
    for event, stop in zip(walk.trace.events, walk.stops, strict=False):
        if not isinstance(event, Step):
            seen += 1
            assert tuple(stop["at"]) == pytest.approx(
                ports[f"if-{event.place}-{event.interface}"], abs=0.06
            )
    assert seen == 8  # out, in, out, in: there and back


def test_a_changed_header_is_told_as_old_and_new() -> None:
    walk = packet_walk(one_node(), "pod-a", "pod-b")
    changed = [row for stop in walk.stops for row in stop["header"] if row[1]]
    assert changed == [["TTL", "64", "63"], ["TTL", "64", "63"]]
    assert changes({"source": "a", "mark": ""}, {"source": "b", "mark": "0x80"}) == [
        ["source", "a", "b"],
        ["mark", "none", "0x80"],
    ]


def test_a_walk_leaves_the_lab_as_it_was() -> None:
    lab = two_rooms()
    before = (describe(lab), listings(lab), list(lab.lines))
    packet_walk(lab, "red", "10.1.1.2")
    assert (describe(lab), listings(lab), list(lab.lines)) == before


def test_a_deleted_route_changes_words_and_stops() -> None:
    lab = two_rooms()
    whole = packet_walk(lab, "red", "10.1.1.2")
    assert lab.run("red", "ip route del 10.1.1.0/24").status == 0
    broken = packet_walk(lab, "red", "10.1.1.2")
    assert whole.words != broken.words
    assert len(broken.stops) < len(whole.stops)
    assert "UNREACHABLE" in broken.words


def test_a_given_trace_is_walked_as_it_is() -> None:
    lab = ring()
    trace = lab.copy().trace("red", "203.0.113.1")
    assert packet_walk(lab, "red", "203.0.113.1", trace=trace).trace is trace


def test_names_that_do_not_exist_are_refused_in_a_sentence() -> None:
    for source, destination in (("green", "10.1.1.2"), ("red", "nowhere")):
        with pytest.raises(EkslearnError):
            packet_walk(two_rooms(), source, destination)


def data_of(walk: PacketWalk) -> dict:
    text = re.search(r'<script type="application/json">(.*?)</script>', walk.html(), re.DOTALL)
    return json.loads(text[1])


def test_the_html_holds_all_of_it_and_asks_for_nothing() -> None:
    walk = packet_walk(two_rooms(), "red", "10.1.1.2")
    assert data_of(walk) == walk.walk
    html = walk.html()
    assert html == packet_walk(two_rooms(), "red", "10.1.1.2").html()
    assert not re.search(r'(src|href)="(?!data:)', html)
    picture = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert base64.b64decode(picture[1]).decode() == walk.drawing.svg


def test_text_from_outside_cannot_end_the_script() -> None:
    lab = Lab("</script><script>alert(1)", ["red"])
    lab.run("red", "ip link set dev lo up")
    walk = packet_walk(lab, "red", "127.0.0.1")
    assert "</script><script>alert" not in walk.html()
    assert data_of(walk)["about"] == lab.name
    walk.title = "<b>x</b>"
    assert walk.html().count("<script") == 2


def test_following_keeps_the_step_and_every_place() -> None:
    lab = one_node()
    walk = packet_walk(lab, "pod-a", "pod-b")
    walk.step, cells = 5, walk.drawing.layout.cells
    lab.run("host", "ip route del 10.0.1.42")
    assert walk.follow(lab).startswith(
        "pod-a \N{RIGHTWARDS ARROW} pod-b: \N{BALLOT X}"
    ) or "DELIVERED" not in walk.follow(lab)
    assert walk.step == min(5, len(walk.stops) - 1)
    assert walk.drawing.layout.cells == cells
    lab.run("pod-b", "ip addr flush dev eth0")
    assert "no probe could be sent" in walk.follow(lab)


def test_a_mark_does_not_pass_from_the_request_to_the_reply() -> None:
    """A capture shows none; so the first packet of the reply has to begin without."""
    trace = one_node().trace("pod-a", "pod-b:80/tcp")
    step = next(one for one in trace.steps if one.header)
    marked = replace(step, header={**step.header, "mark": 5})
    told: Any = SimpleNamespace(events=[marked, trace.reply[0]])
    there, back = headers(told)
    assert there["mark"] == "0x5" and not back.get("mark")


def test_a_walk_that_gets_shorter_is_shown_at_its_end() -> None:
    lab = one_node()
    walk = packet_walk(lab, "pod-a", "pod-b:80/tcp")
    walk.step = len(walk.stops) - 1
    lab.run("pod-a", "ip route del default")
    walk.follow(lab)
    assert walk.step == len(walk.stops) - 1 and walk.now.startswith("\N{BALLOT X}")
