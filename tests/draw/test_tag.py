"""The word beside a packet covers nothing, wherever a packet can be in any lesson's map."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.transforms import Bbox

from ekslearn import load
from ekslearn.cluster import Cluster, Lab
from ekslearn.draw import Drawing, draw_lab
from ekslearn.draw.grammar import SMALL, width_of
from ekslearn.draw.journey import journey
from ekslearn.errors import EkslearnError
from ekslearn.trace import Trace
from tests.draw.clusters import office
from tests.draw.test_picture import SCENARIOS, boxes_of, overlap

LINES = ("link-", "road-", "outside")  # marks that are lines; a pill and a bar are boxes
UP, DOWN = 9, 3  # what a small bold word without capitals takes above and below its baseline


def traces(lab: Lab, places: list[str]) -> Iterator[Trace]:
    """From each of these places to each other, and to every Service and balancer."""
    doors: list[str] = []
    if isinstance(lab, Cluster):
        doors = [f"{kind}/{one.namespace}/{one.name}:{one.ports[0].port}"
                 for one in lab.services for kind in ("service", "lb")]  # fmt: skip
    for source, destination in itertools.product(places, [*places, *doors]):
        try:
            yield lab.copy().trace(source, destination)
        except EkslearnError:
            continue  # a place that has no address, or that nothing can be sent from


def words_of(drawing: Drawing, found: Iterator[Trace]) -> dict[str, tuple[Bbox, Bbox]]:
    """Each word beside a packet, and its packet, wherever it was met."""
    seen, taken, tall = {}, drawing.taken, drawing.layout.height
    for trace in found:
        for stop in journey(drawing.layout, trace):
            (x, y), leg = stop.at, stop.event.leg
            right, down = taken.free(stop.at, leg)
            half, base = width_of(leg, SMALL, bold=True) / 2, tall - y - down
            word = Bbox.from_extents(x + right - half, base - DOWN, x + right + half, base + UP)
            packet = Bbox.from_bounds(x - 7, tall - y - 7, 14, 14)  # its middle; its tips are thin
            seen[f"{leg} at {stop.at}, {stop.event.place}"] = (word, packet)
    return seen


def check(lab: Lab, drawing: Drawing, places: list[str]) -> None:
    """No word covers a label, an edge, an interface or a line, or leaves the picture."""
    texts, marks = boxes_of(drawing)
    page = Bbox.from_extents(0, 0, drawing.layout.width, drawing.layout.height)
    words = words_of(drawing, traces(lab, places))
    pieces = [
        Bbox.from_extents(min(x, u) - 0.5, drawing.layout.height - max(y, v) - 0.5,
                          max(x, u) + 0.5, drawing.layout.height - min(y, v) + 0.5)
        for line in [*getattr(drawing.layout, "roads", []), *drawing.layout.wires]
        for (x, y), (u, v) in itertools.pairwise(line.path)
    ]  # fmt: skip
    for said, (word, packet) in words.items():
        assert page.contains(word.x0, word.y0), said
        assert page.contains(word.x1, word.y1), said
        assert not overlap(word, packet), f"{said}: on its own packet"
        for name, text in texts.items():
            assert not overlap(word, text), f"{said}: over the label {name}"
        for name, mark in marks.items():
            if name.startswith("if-"):
                assert not overlap(word, mark), f"{said}: over the interface {name}"
            elif not name.startswith(LINES) and overlap(word, mark):
                inside = mark.contains(word.x0, word.y0) and mark.contains(word.x1, word.y1)
                assert inside, f"{said}: over the edge of {name}"
        assert not any(overlap(word, piece) for piece in pieces), f"{said}: over a line"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_word_beside_a_packet_covers_nothing(path: Path) -> None:
    lab = load(path)
    check(lab, draw_lab(lab, width=540, show=list(lab.places)), list(lab.places))


def test_nor_in_a_map_with_every_gateway() -> None:
    lab = office()
    few = [place for place in lab.places if "web-7d9f8" not in place]
    check(lab, draw_lab(lab, width=540, show=few), few)
