"""Draws a lab: matplotlib marks from a layout, each with an id, and the SVG they become.

The picture is shown as an image with its words as the alternative text, and the words stand
under it to be opened: an image survives where a notebook isn't trusted yet (inline SVG is stripped
there), it can't clash with the ids of another picture on the page, and words can be compared by
nbval.
"""

from __future__ import annotations

import base64
import html
import io
import re
import textwrap
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path

from ekslearn.cluster import Cluster
from ekslearn.draw.display import folded
from ekslearn.draw.display import show as display
from ekslearn.draw.grammar import (
    ENI_FILL,
    INK,
    LABEL,
    LEAST,
    LINE,
    MONO,
    MUTED,
    PACKET,
    PAPER,
    PORT,
    SHOWN,
    SMALL,
    STYLE,
    TITLE,
    TUBE,
)
from ekslearn.draw.journey import Stop, journey, line_of
from ekslearn.draw.layout import PAD, Box, Layout, Point, Port, Wire, graph_of, lay_out
from ekslearn.draw.shown import shown
from ekslearn.draw.tag import Taken
from ekslearn.draw.vpc_layout import VpcLayout, lay_out_vpc
from ekslearn.draw.vpc_marks import paint
from ekslearn.draw.words import describe, verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ekslearn.cluster import Lab
    from ekslearn.trace import Trace

__all__ = ["Drawing", "draw_lab"]


class Drawing:
    """A finished picture: ``figure`` (matplotlib), ``svg`` and ``words`` say the same thing.

    As the last line of a notebook's cell it shows the picture, its words folded away under it.
    """

    def __init__(
        self, figure: Figure, layout: Layout, title: str, words: str, named: tuple[str, ...] = ()
    ) -> None:
        self.figure, self.layout, self.title, self.words = figure, layout, title, words
        self.named = named  # the places it was told to show
        self.svg = to_svg(figure, title, words)

    @cached_property
    def taken(self) -> Taken:
        """What a word in the picture must not cover, and where words were found to fit."""
        return Taken(self.figure)

    def __repr__(self) -> str:
        """Short, and the same on every run."""
        return f"<picture of {self.title}>"

    def img(self) -> str:
        """The picture as one HTML image element that needs no other file."""
        data = base64.b64encode(self.svg.encode()).decode()
        width = self.layout.width
        return (
            f'<div style="overflow-x:auto" tabindex="0"><img alt="{html.escape(self.words)}"'
            f' width="{width:.0f}" style="max-width:100%;min-width:{width * LEAST:.0f}px;'
            f'height:auto" src="data:image/svg+xml;base64,{data}"></div>'
        )

    def _ipython_display_(self) -> None:
        told = folded(self.words, "The picture in words")
        display(self.img() + told, repr(self), self.words)


def draw_lab(
    lab: Lab,
    *,
    trace: Trace | None = None,
    width: float = 620,
    like: Drawing | None = None,
    show: Iterable[str] = (),
) -> Drawing:
    """Draw the places, interfaces, addresses and cables of ``lab``; of a cluster, its VPC too.

    ``trace`` draws a packet's way into the picture. ``width`` (CSS pixels) is the least the
    picture takes; ``like`` keeps every place in the cell where another picture had it. Where a
    cluster has more nodes and pods than fit, those that ``trace`` meets and that ``show`` names
    are shown. Raises EkslearnError for a name that isn't there.
    """
    kept = [place for place in like.named if place in lab.places] if like else []
    named = seen(lab, trace, [*kept, *show])
    layout, title = plan(lab, named, width, like)
    with matplotlib.rc_context(STYLE):
        caption = [] if trace is None else textwrap.wrap(verdict(trace), int(layout.width / 8.4))
        height = layout.height + (LINE * len(caption) + 14 if caption else 0)
        figure = Figure(figsize=(layout.width / 72, height / 72), dpi=72, facecolor=PAPER)
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, layout.width), ylim=(height, 0))
        ax.axis("off")
        for wire in layout.wires:
            draw_wire(ax, wire)
        if isinstance(layout, VpcLayout):
            paint(ax, layout)
        else:
            for box in layout.boxes.values():
                draw_box(ax, box)
        if trace is not None:
            draw_way(ax, journey(layout, trace), 2.2 if isinstance(layout, VpcLayout) else 0.0)
        for n, line in enumerate(caption):
            ax.text(
                20,
                layout.height + LINE * n + 12,
                line,
                size=LABEL,
                weight="bold",
                gid="verdict" if n == 0 else f"verdict-{n + 1}",
            )
        for patch in ax.patches:
            patch.set_clip_on(False)
        words = describe(lab, trace=trace, show=named)
        return Drawing(figure, layout, title, words, named)


def plan(lab: Lab, named: Iterable[str], width: float, like: Drawing | None) -> tuple[Layout, str]:
    """Where everything stands, and what the picture is called."""
    if isinstance(lab, Cluster):
        return lay_out_vpc(
            shown(lab, named), width=width
        ), f"{lab.name}: a VPC, its nodes, their pods"
    cells = like.layout.cells if like else None
    layout = lay_out(graph_of(lab), width=width, cells=cells)
    return layout, f"{lab.name}: network namespaces and the cables between them"


def seen(lab: Lab, trace: Trace | None, show: Iterable[str]) -> tuple[str, ...]:
    """The places that are named and those that a trace meets; EkslearnError for one not there."""
    met = [event.place for event in trace.events] if trace else []
    return tuple(dict.fromkeys(lab.namespace(place).name for place in [*show, *met]))


def draw_box(ax: Axes, box: Box) -> None:
    """A namespace: rounded, dashed, with its interfaces on the edge and their labels inside."""
    ax.add_patch(
        FancyBboxPatch(
            (box.x, box.y),
            box.width,
            box.height,
            gid=box.id,
            boxstyle="round,pad=0,rounding_size=12",
            facecolor=PAPER,
            edgecolor=INK,
            linewidth=1.4,
            linestyle=(0, (5, 3)),
            zorder=2,
        )
    )
    ax.text(
        box.x + PAD,
        box.y + 23,
        box.title,
        size=TITLE,
        weight="bold",
        zorder=4,
        gid=f"{box.id}-title",
    )
    for port in box.ports:
        draw_port(ax, port)
    for n, note in enumerate(box.notes):
        ax.text(
            box.x + PAD,
            box.y + box.height - 10 - LINE * (len(box.notes) - 1 - n),
            note,
            size=SMALL,
            family=MONO,
            color=MUTED,
            zorder=4,
            gid=f"{box.id}-note-{n + 1}",
        )


def draw_port(ax: Axes, port: Port) -> None:
    """An interface: its mark and its label, the name in bold and the addresses under it."""
    x, y = port.at
    if port.kind == "ethernet":
        mark: Any = Rectangle((x - PORT, y - PORT), 2 * PORT, 2 * PORT, facecolor=ENI_FILL)
    else:
        mark = Circle((x, y), PORT, facecolor=PAPER)
    mark.set(edgecolor=INK, linewidth=1.6, zorder=5, gid=port.id)
    ax.add_patch(mark)
    if port.kind == "loopback":
        ax.add_patch(Circle((x, y), 2.0, facecolor=INK, edgecolor="none", zorder=6))
    for n, line in enumerate(port.lines):
        if port.side == "below":
            away = PORT + 8 if port.label == "right" else -PORT - 8
            spot: Point = (x + away, y + 4.5 + LINE * n)
        else:
            inward = PORT + 4 if port.side == "left" else -PORT - 4
            spot = (x + inward, y - 10 - LINE * (len(port.lines) - 1 - n))
        ax.text(
            *spot,
            line,
            size=LABEL if n == 0 else SMALL,
            family=MONO,
            zorder=4,
            weight="bold" if n == 0 else "normal",
            ha="right" if port.ends_at_mark else "left",
            gid=f"{port.id}-label" + (f"-{n}" if n else ""),
        )


def draw_wire(ax: Axes, wire: Wire) -> None:
    """A veth pair: a double line without a fill, and the word."""
    ax.add_patch(
        PathPatch(
            Path(list(wire.path)),
            facecolor="none",
            edgecolor=INK,
            zorder=1,
            linewidth=2 * TUBE + 1.3,
            gid=wire.id,
            joinstyle="miter",
        )
    )
    ax.add_patch(
        PathPatch(
            Path(list(wire.path)),
            facecolor="none",
            edgecolor=PAPER,
            zorder=1,
            linewidth=2 * TUBE - 1.3,
            joinstyle="miter",
        )
    )
    half = len(wire.path) // 2
    (x, y), (u, v) = wire.path[half - 1], wire.path[half]
    beside = len(wire.path) > 2 or abs(v - y) > 1  # a bracket, or a cable that slopes
    down = 4.0 if x == u else 16.0 if v < y else -8.0
    ax.text(
        (x + u) / 2 + (12 if beside else 0),
        (y + v) / 2 + (down if beside else -12),
        "veth",
        size=SMALL,
        color=MUTED,
        style="italic",
        ha="left" if beside else "center",
        zorder=3,
        gid=f"{wire.id}-label",
    )


def draw_way(ax: Axes, stops: tuple[Stop, ...], across: float = 0.0) -> None:
    """A packet's way: the request solid, the reply dashed beside it, a diamond where it ended.

    ``across`` is how far the two stand apart where they go up and down.
    """
    for leg, dash, aside in (("request", "solid", -1), ("reply", (0, (3, 2)), 1)):
        mine = [stop for stop in stops if stop.event.leg == leg]
        points = [(x + across * aside, y + 2.2 * aside) for x, y in line_of(mine)]
        if len(points) > 1:
            ax.add_patch(
                PathPatch(
                    Path(points),
                    facecolor="none",
                    edgecolor=PACKET,
                    zorder=7,
                    linewidth=2.2,
                    linestyle=dash,
                    gid=f"way-{leg}",
                )
            )
    if stops:
        x, y = stops[-1].at
        ax.add_patch(
            PathPatch(
                Path([(x, y - 9), (x + 9, y), (x, y + 9), (x - 9, y), (x, y - 9)], closed=True),
                facecolor=PACKET,
                edgecolor=INK,
                zorder=8,
                linewidth=1.2,
                gid="packet",
            )
        )


def to_svg(figure: Figure, title: str, words: str) -> str:
    """The figure as one ``<svg>`` element: no date, no style that leaks, text kept as text."""
    out = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(
            out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="(figure|axes|patch|text|line2d)_\d+"', "", svg)
    svg = re.sub(r"\s*<!--.*?-->", "", svg, flags=re.DOTALL)
    for measured, instead in SHOWN.items():
        svg = svg.replace(f"'{measured}'", instead.replace("'", "&apos;"))
    width, height = figure.get_size_inches() * 72
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' role="img" aria-label="{html.escape(title)}" width="{width:.0f}"'
        f' height="{height:.0f}" viewBox="0 0 {width:.6g} {height:.6g}"'
        ' style="stroke-linejoin:round">\n'
        f"<title>{html.escape(title)}</title>\n<desc>{html.escape(words)}</desc>"
    )
    return re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1) + "\n"
