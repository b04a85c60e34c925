"""Where the word that belongs to a packet stands: beside it, and over nothing that is drawn.

What is in the way is read from the finished figure, so that nothing drawn can be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Rectangle
from matplotlib.text import Text

from ekslearn.draw.grammar import MONO, SMALL, width_of
from ekslearn.draw.layout import Point

Area = tuple[float, float, float, float]  # left, top, right, bottom

HALF = 11.0  # half the packet's diamond
FAR, STEP = 76, 4  # how far from the packet its word may stand, and in which steps it is tried
UP, DOWN = 10.0, 3.5  # what a small word takes above and below its baseline
EDGE = 1.5  # half a frame's line
HALO = 1.5  # paper around the word
OVER, CROSSED, ELSEWHERE = 1000.0, 30.0, 24.0  # costs: a label or an edge, a line, another box


class Taken:
    """What a word in a figure must not cover."""

    def __init__(self, figure: Figure) -> None:
        (ax,) = figure.axes
        self.width, self.height = ax.get_xlim()[1], ax.get_ylim()[0]
        self.solid: list[Area] = [area_of(text) for text in ax.texts]  # labels, marks, edges
        self.frames: list[Area] = []
        self.lines: list[Area] = []
        for patch in ax.patches:
            if isinstance(patch, FancyBboxPatch):
                x, y = patch.get_x(), patch.get_y()
                frame = (x, y, x + patch.get_width(), y + patch.get_height())
                self.frames.append(frame)
                self.solid += edges(frame)
            elif isinstance(patch, Circle):
                x, y = np.asarray(patch.get_center(), dtype=float).tolist()
                radius = patch.get_radius()
                self.solid.append((x - radius, y - radius, x + radius, y + radius))
            elif isinstance(patch, Rectangle):
                x, y = patch.get_xy()
                self.solid.append((x, y, x + patch.get_width(), y + patch.get_height()))
            elif isinstance(patch, PathPatch):
                half = max(EDGE, patch.get_linewidth() / 2)
                self.lines += strokes(
                    np.asarray(patch.get_path().vertices, dtype=float).tolist(), half
                )
        self.found: dict[tuple[Point, str], Point] = {}

    def free(self, at: Point, word: str) -> Point:
        """The middle of the baseline, seen from ``at``, of a word beside a packet that is there."""
        if (at, word) not in self.found:
            self.found[at, word] = self.search(at, word)
        return self.found[at, word]

    def search(self, at: Point, word: str) -> Point:
        """The cheapest place; the nearer the better."""
        reach = (at[0] - FAR - 60, at[1] - FAR - 20, at[0] + FAR + 60, at[1] + FAR + 20)
        solid = [area for area in self.solid if meet(area, reach)]
        lines = [area for area in self.lines if meet(area, reach)]
        home = self.rooms(at)
        best, least = (0.0, HALF + UP + 4), float("inf")
        for away, spot in spots(word):
            if away >= least:
                break
            taken = around(at, spot, word)
            if not (taken[0] > 0 and taken[2] < self.width and 0 < taken[1] < self.height - UP):
                continue
            middle = ((taken[0] + taken[2]) / 2, (taken[1] + taken[3]) / 2)
            cost = away + ELSEWHERE * (self.rooms(middle) != home)
            cost += CROSSED * sum(meet(taken, area) for area in lines)
            cost += OVER * sum(meet(taken, area) for area in solid)
            if cost < least:
                best, least = spot, cost
        return best

    def rooms(self, at: Point) -> list[Area]:
        """The frames around a point."""
        return [f for f in self.frames if f[0] < at[0] < f[2] and f[1] < at[1] < f[3]]


def around(at: Point, spot: Point, word: str) -> Area:
    """What a word takes, with its paper, whose baseline's middle is at ``spot`` from ``at``."""
    half = width_of(word, SMALL, bold=True) / 2 + HALO
    x, y = at[0] + spot[0], at[1] + spot[1]
    return (x - half, y - UP - HALO, x + half, y + DOWN + HALO)


@cache
def spots(word: str) -> tuple[tuple[float, Point], ...]:
    """Where a word may stand, seen from its packet: how far away, and the spot; nearest first."""
    tried: list[tuple[float, Point]] = []
    for down in range(-FAR, FAR + 1, STEP):
        for right in range(-FAR - 24, FAR + 25, STEP):
            left, top, end, bottom = around((0.0, 0.0), (right, down), word)
            aside, above = max(left, -end, 0.0), max(top, -bottom, 0.0)
            if aside + above > HALF + 1:  # outside the diamond
                lean = abs(right) / 100 + (down < 0) / 50  # below, and in the middle, if all is one
                tried.append((round((aside**2 + above**2) ** 0.5 + lean, 3), (right, down)))
    return tuple(sorted(tried))


def meet(one: Area, other: Area) -> bool:
    """Whether two areas share something."""
    return (one[0] < other[2] and other[0] < one[2]) and (one[1] < other[3] and other[1] < one[3])


def area_of(text: Text) -> Area:
    """What a text takes."""
    (x, y), size = text.get_position(), float(text.get_fontsize())
    wide = width_of(text.get_text(), size, mono=MONO in text.get_fontfamily(),
                    bold=text.get_fontweight() == "bold")  # fmt: skip
    left = x - wide * {"left": 0.0, "center": 0.5, "right": 1.0}[text.get_horizontalalignment()]
    return (left, y - size * UP / SMALL, left + wide, y + size * DOWN / SMALL)


def edges(frame: Area) -> list[Area]:
    """The four edges of a frame."""
    left, top, right, bottom = frame
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return list(strokes(corners, EDGE))


def strokes(points: Iterable[Iterable[float]], half: float) -> Iterator[Area]:
    """The pieces of a line, each as the area that it takes."""
    for (x, y), (u, v) in pairwise(points):
        yield min(x, u) - half, min(y, v) - half, max(x, u) + half, max(y, v) + half
