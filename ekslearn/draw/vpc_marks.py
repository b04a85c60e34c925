"""Draws a cluster: matplotlib marks from its layout, each with an id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path

from ekslearn.draw.grammar import ENI_FILL, INK, MONO, MUTED, PAPER, PORT, SANS
from ekslearn.draw.layout import Port
from ekslearn.draw.vpc_layout import Frame, Road, Text, VpcLayout

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Each kind of frame: corner radius, and the style of its outline.
FRAMES: dict[str, tuple[float, dict[str, Any]]] = {
    "vpc": (0, {"edgecolor": MUTED, "linewidth": 1.6, "zorder": 0.1}),
    "subnet": (0, {"edgecolor": MUTED, "linewidth": 1.3, "linestyle": (0, (1, 2)), "zorder": 0.2}),
    "node": (0, {"edgecolor": INK, "linewidth": 1.6, "zorder": 0.4}),
    "host": (0, {"edgecolor": INK, "linewidth": 1.6, "zorder": 2}),
    "netns": (10, {"edgecolor": INK, "linewidth": 1.2, "linestyle": (0, (5, 3)), "zorder": 2}),
    "router": (4, {"edgecolor": MUTED, "linewidth": 1.4, "zorder": 1.3}),
    # Above the lines, which end at it.
    "gateway": (13, {"edgecolor": INK, "linewidth": 1.4, "zorder": 1.25}),
}


def paint(ax: Axes, layout: VpcLayout) -> None:
    """Everything but the cables, which are drawn as anywhere."""
    for frame in layout.frames:
        paint_frame(ax, frame)
    for road in layout.roads:
        paint_road(ax, road)
    for port in layout.ports.values():
        paint_port(ax, port)
    for text in layout.texts:
        paint_text(ax, text)


def paint_frame(ax: Axes, frame: Frame) -> None:
    """A box, square or rounded."""
    radius, style = FRAMES[frame.kind]
    shape = f"round,pad=0,rounding_size={radius}" if radius else "square,pad=0"
    ax.add_patch(
        FancyBboxPatch(
            (frame.x, frame.y),
            frame.width,
            frame.height,
            boxstyle=shape,
            facecolor=PAPER,
            gid=frame.id,
            **style,
        )
    )


def paint_road(ax: Axes, road: Road) -> None:
    """A thin line: no cable, only AWS knows what it is."""
    ax.add_patch(
        PathPatch(
            Path(list(road.path)),
            facecolor="none",
            edgecolor=MUTED,
            linewidth=1.2,
            zorder=1.2,
            gid=road.id,
        )
    )


def paint_port(ax: Axes, port: Port) -> None:
    """An ENI is a filled square, a veth's end a circle, any other Ethernet an empty square."""
    x, y = port.at
    if port.kind in ("eni", "ethernet", "vlan"):
        fill = ENI_FILL if port.kind == "eni" else PAPER
        mark: Any = Rectangle((x - PORT, y - PORT), 2 * PORT, 2 * PORT, facecolor=fill)
    else:
        mark = Circle((x, y), PORT, facecolor=PAPER)
    mark.set(edgecolor=INK, linewidth=1.6, zorder=5, gid=port.id)
    ax.add_patch(mark)


def paint_text(ax: Axes, text: Text) -> None:
    """One line of text."""
    ax.text(
        *text.at,
        text.text,
        size=text.size,
        family=MONO if text.mono else SANS,
        weight="bold" if text.bold else "normal",
        color=MUTED if text.muted else INK,
        ha=text.align,
        zorder=4,
        gid=text.id,
    )
