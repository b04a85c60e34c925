"""A trace laid over a layout: where the packet stands at each event and how it gets there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ekslearn.draw.layout import Layout, Point
    from ekslearn.trace import Sighting, Step, Trace

Spot = tuple[str, str | None]  # a place, and the interface if it is at one


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One event of a trace as a spot in the picture; ``way`` leads there from the one before."""

    event: Step | Sighting
    at: Point
    way: tuple[Point, ...]
    marks: tuple[str, ...]  # ids of the marks that belong to it


def journey(layout: Layout, trace: Trace) -> tuple[Stop, ...]:
    """One stop per event, in the order things happened."""
    stops: list[Stop] = []
    before: Spot | None = None
    for event in trace.events:
        here: Spot = (event.place, getattr(event, "interface", None))
        aside = before is not None and not getattr(event, "header", True)
        if aside and before:  # about the packet, but not where it is: an ARP answer
            here = before
        way = between(layout, before, here) if before else (layout.way(*here)[-1],)
        marks = [f"ns-{event.place}"] + (
            [f"if-{event.place}-{here[1]}"] if here[1] and not aside else []
        )
        stops.append(Stop(event=event, at=way[-1], way=way, marks=tuple(marks)))
        before = here
    return tuple(stops)


def between(layout: Layout, one: Spot, other: Spot) -> tuple[Point, ...]:
    """The points from one spot to another: through a box, along a cable, else straight."""
    if one == other:
        return (layout.way(*one)[-1],)
    if one[0] == other[0]:
        back, out = layout.way(*one)[::-1], layout.way(*other)
        return tidy((*back, *out[1:]))
    for wire in layout.wires:
        ends = [(port.place, port.name) for port in wire.ends]
        if ends == [one, other]:
            return wire.path
        if ends == [other, one]:
            return wire.path[::-1]
    return (layout.way(*one)[-1], layout.way(*other)[-1])


def tidy(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """The points without repeats."""
    return tuple(p for n, p in enumerate(points) if n == 0 or p != points[n - 1])
