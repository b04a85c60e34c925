"""Pictures are inspected mark by mark: nothing is compared as pixels."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

from ekslearn import data_path, load
from ekslearn.cluster import Lab
from ekslearn.draw import Drawing, describe, draw_lab
from ekslearn.draw.grammar import (
    CHOSEN,
    ENI_FILL,
    INK,
    MUTED,
    PACKET,
    PAPER,
    PICKED,
    SMALL,
    STYLE,
    TUBE,
)
from tests.draw.labs import (
    ALL,
    both_plugs_here,
    chain,
    four_pods,
    one_node,
    one_pod,
    two_enis,
    two_rooms,
)

COLOURS = {colour.lower() for colour in (INK, MUTED, CHOSEN, PACKET, ENI_FILL, PICKED, PAPER)}
every = pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
widths = pytest.mark.parametrize("width", [420, 1000])
Make = Callable[[], Lab]
SCENARIOS = sorted(data_path("scenarios").glob("*.yaml"))


def boxes_of(drawing: Drawing) -> tuple[dict[str, Bbox], dict[str, Bbox]]:
    """The extents of all texts and of all marks with an id, in the figure's own units."""
    with matplotlib.rc_context(STYLE):
        renderer = FigureCanvasAgg(drawing.figure).get_renderer()
        texts = {
            str(text.get_gid()): text.get_window_extent(renderer)
            for text in drawing.figure.axes[0].texts
        }
        marks = {
            str(patch.get_gid()): patch.get_window_extent(renderer)
            for patch in drawing.figure.axes[0].patches
            if patch.get_gid()
        }
    return texts, marks


def overlap(one: Bbox, other: Bbox) -> bool:
    """Whether two boxes share more than a hair's breadth."""
    shared = Bbox.intersection(one, other)
    return shared is not None and min(shared.width, shared.height) > 0.5


@every
@widths
def test_no_label_overlaps_another_or_an_interface(make: Make, width: float) -> None:
    texts, marks = boxes_of(draw_lab(make(), width=width))
    for (name, one), (other, two) in itertools.combinations(texts.items(), 2):
        assert not overlap(one, two), f"{name} overlaps {other}"
    ports = {name: box for name, box in marks.items() if name.startswith("if-")}
    for (name, text), (port, circle) in itertools.product(texts.items(), ports.items()):
        assert not overlap(text, circle), f"the label {name} overlaps the mark {port}"


@every
@widths
def test_no_label_is_clipped_and_each_stands_in_its_box(make: Make, width: float) -> None:
    drawing = draw_lab(make(), width=width)
    texts, marks = boxes_of(drawing)
    page = Bbox.from_extents(0, 0, drawing.layout.width, drawing.layout.height)
    rooms = {name: box for name, box in marks.items() if name.startswith("ns-")}
    for name, text in texts.items():
        assert page.contains(text.x0, text.y0), name
        assert page.contains(text.x1, text.y1), name
        inside = [room for room, box in rooms.items() if overlap(text, box)]
        if name.startswith("link-"):
            assert inside == [], f"{name} runs into {inside}"
        else:
            (room,) = inside
            assert (
                name.split("-label")[0]
                .split("-title")[0]
                .split("-note")[0]
                .startswith((room, room.replace("ns-", "if-", 1)))
            )
            assert rooms[room].contains(text.x0, text.y0)
            assert rooms[room].contains(text.x1, text.y1)


def crosses(box: Bbox, one: tuple[float, float], other: tuple[float, float], room: float) -> bool:
    """Whether the line from one point to the other comes nearer to the box than ``room``."""
    steps = 200
    near = Bbox.from_extents(box.x0 - room, box.y0 - room, box.x1 + room, box.y1 + room)
    return any(
        near.contains(
            one[0] + (other[0] - one[0]) * n / steps, one[1] + (other[1] - one[1]) * n / steps
        )
        for n in range(steps + 1)
    )


@every
@widths
def test_no_cable_runs_through_a_label_or_another_namespace(make: Make, width: float) -> None:
    drawing = draw_lab(make(), width=width)
    texts, marks = boxes_of(drawing)
    tall = drawing.layout.height
    for wire in drawing.layout.wires:
        ends = {f"ns-{port.place}" for port in wire.ends}
        path = [(x, tall - y) for x, y in wire.path]  # the figure counts from below
        for one, other in itertools.pairwise(path):
            for name, box in texts.items():
                assert not crosses(box, one, other, TUBE), f"{wire.id} runs through {name}"
            for name, box in marks.items():
                if name.startswith("ns-") and name not in ends:
                    assert not crosses(box, one, other, 0), f"{wire.id} runs through {name}"


@every
def test_namespaces_do_not_overlap(make: Make) -> None:
    _, marks = boxes_of(draw_lab(make()))
    rooms = [box for name, box in marks.items() if name.startswith("ns-")]
    assert not any(overlap(one, other) for one, other in itertools.combinations(rooms, 2))


@every
def test_every_namespace_interface_and_cable_has_one_mark_with_its_id(make: Make) -> None:
    lab = make()
    _, marks = boxes_of(draw_lab(lab))
    expected = {f"ns-{place}" for place in lab.places}
    expected |= {
        f"if-{place}-{name}" for place in lab.places for name in lab.namespace(place).links
    }
    order = list(lab.places).index
    for pair in lab.links():
        ends = sorted(pair, key=lambda end: (order(end[0]), end[1]))
        expected.add("link-" + "--".join(f"{place}-{name}" for place, name in ends))
    assert set(marks) == expected


def test_ids_are_what_lessons_and_players_look_for() -> None:
    svg = draw_lab(two_rooms()).svg
    for mark in ("ns-red", "if-red-veth0", "if-blue-lo", "link-red-veth0--blue-veth1"):
        assert svg.count(f'id="{mark}"') == 1


@every
def test_the_svg_is_one_readable_accessible_element(make: Make) -> None:
    lab = make()
    drawing = draw_lab(lab)
    root = ET.fromstring(drawing.svg)
    svg = "{http://www.w3.org/2000/svg}"
    assert [child.tag for child in root][:2] == [f"{svg}title", f"{svg}desc"]
    assert root.get("role") == "img"
    assert root.findtext(f"{svg}desc") == drawing.words == describe(lab)
    ids = [node.get("id") for node in root.iter() if node.get("id")]
    assert len(ids) == len(set(ids))
    shown = {node.text for node in root.iter(f"{svg}text")}
    assert {f"netns: {place}" for place in lab.places} <= shown
    assert not root.findall(f".//{svg}style")  # it would leak into the whole page
    used = set(re.findall(r"#[0-9a-f]{6}", drawing.svg.split("</desc>")[1]))
    assert used <= COLOURS


def test_down_is_a_word_in_picture_and_words() -> None:
    lab = two_rooms()
    assert "DOWN" not in draw_lab(lab).svg
    lab.run("blue", "ip link set dev veth1 down")
    drawing = draw_lab(lab)
    assert ">veth1  DOWN<" in drawing.svg
    assert "veth1 10.1.1.2/24 DOWN" in drawing.words


def test_who_listens_is_written_in_the_pod() -> None:
    drawing = draw_lab(one_pod())
    for words in ("listens: 0.0.0.0:80/tcp (web)", "listens: 127.0.0.1:9000/tcp (sidecar)"):
        assert words in drawing.words
        assert f">{words}<" in drawing.svg


def middles(lab: Lab) -> dict[str, tuple[float, float]]:
    return {place: box.middle for place, box in draw_lab(lab).layout.boxes.items()}


def test_columns_read_as_the_packet_goes() -> None:
    at = middles(chain())
    assert at["red"][0] < at["router"][0] < at["blue"][0]
    assert len({y for _, y in at.values()}) == 1
    at = middles(one_node())
    assert at["pod-a"][0] == at["pod-b"][0] < at["host"][0] < at["vpc"][0]
    at = middles(four_pods())
    assert at["pod-a"][1] < at["pod-b"][1] < at["pod-c"][1] < at["pod-d"][1]


def test_four_columns_are_folded_and_no_cable_crosses_another() -> None:
    layout = draw_lab(two_enis()).layout
    boxes, away = layout.boxes, [wire for wire in layout.wires if len(wire.path) > 2]
    assert boxes["pod-a"].x == boxes["peer"].x < boxes["host"].x == boxes["vpc"].x
    assert boxes["pod-b"].y < boxes["peer"].y
    inner, outer = sorted((wire.path for wire in away), key=lambda path: path[1][0])
    (x, top), (_, bottom) = outer[1:3]
    assert top < inner[0][1] < inner[3][1] < bottom
    assert inner[1][0] < x < layout.width
    lab = two_enis()
    lab.run("host", "ip link del eth1")
    assert draw_lab(lab, like=draw_lab(two_enis())).layout.cells == layout.cells


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_lessons_map_fits_a_page_at_800_pixels(path: Path) -> None:
    """600 pixels are left of a window of 800; 11 of them are the smallest text."""
    drawing = draw_lab(load(path))
    found = re.search(r"min-width:(\d+)px", drawing.img())
    assert found and int(found[1]) <= 600
    assert int(found[1]) * SMALL / drawing.layout.width >= 10.99


def test_cables_to_pods_are_level() -> None:
    layout = draw_lab(four_pods()).layout
    assert [one.at[1] - other.at[1] for wire in layout.wires for one, other in [wire.ends]] == [
        0
    ] * 4


def test_a_cable_with_both_plugs_in_one_room_is_drawn_as_a_bracket() -> None:
    (wire,) = draw_lab(both_plugs_here()).layout.wires
    assert len(wire.path) == 4


def test_places_stay_where_they_were_when_told_so() -> None:
    lab = one_node()
    first = draw_lab(lab)
    lab.run("host", "ip link del eth0")
    assert draw_lab(lab).layout.cells != first.layout.cells
    assert draw_lab(lab, like=first).layout.cells == first.layout.cells


def test_an_address_that_goes_leaves_every_box_in_its_column() -> None:
    lab = one_node()
    first = draw_lab(lab).layout.cells
    lab.run("pod-a", "ip addr flush dev eth0")
    assert draw_lab(lab).layout.cells == first


def test_text_from_names_is_escaped() -> None:
    lab = Lab("a<b>&c", ["red"])
    assert "<b>" not in draw_lab(lab).svg
    assert "<b>" not in draw_lab(lab).img()


def test_the_way_of_a_trace_is_drawn_with_its_verdict() -> None:
    lab = two_rooms()
    drawing = draw_lab(lab, trace=lab.copy().trace("red", "10.1.1.2"))
    for mark in ("way-request", "way-reply", "packet", "verdict"):
        assert drawing.svg.count(f'id="{mark}"') == 1
    assert "\N{CHECK MARK} DELIVERED" in drawing.words
    lab.run("red", "ip route del 10.1.1.0/24")
    drawing = draw_lab(lab, trace=lab.copy().trace("red", "10.1.1.2"))
    assert "\N{BALLOT X} UNREACHABLE" in drawing.words
    assert 'id="way-reply"' not in drawing.svg


def test_drawing_leaves_the_lab_and_matplotlib_as_they_were() -> None:
    lab = one_node()
    before, style = describe(lab), dict(matplotlib.rcParams)
    draw_lab(lab, trace=lab.copy().trace("pod-a", "pod-b"))
    assert describe(lab) == before
    assert dict(matplotlib.rcParams) == style


def test_the_same_state_is_the_same_bytes_in_any_process() -> None:
    code = (
        "import sys; from tests.draw.labs import one_node; from ekslearn.draw import draw_lab;"
        "sys.stdout.buffer.write(draw_lab(one_node()).svg.encode())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert runs == {draw_lab(one_node()).svg.encode()}
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert draw_lab(one_node()).svg.encode() in runs
