"""A trace laid over a layout: where the packet stands at each event and how it gets there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ekslearn.draw.layout import Layout, Point
    from ekslearn.trace import Sighting, Step, Trace


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
    before: tuple[str, str | None, str] | None = None
    for event in trace.events:
        interface: str | None = getattr(event, "interface", None)
        here = (event.place, interface, event.leg)
        out = layout.way(event.place, interface)
        way = (out[-1],) if before is None else between(layout, before[:2], here[:2])
        marks = [f"ns-{event.place}"] + ([f"if-{event.place}-{interface}"] if interface else [])
        marks += [wire.id for wire in layout.wires if crosses(wire.ends, before, here)]
        stops.append(Stop(event=event, at=out[-1], way=way, marks=tuple(marks)))
        before = here
    return tuple(stops)


def crosses(
    ends: tuple[object, ...],
    before: tuple[str, str | None, str] | None,
    here: tuple[str, str | None, str],
) -> bool:
    """Whether going from one event to the next uses the cable with these ends."""
    names = {(getattr(port, "place", ""), getattr(port, "name", "")) for port in ends}
    return before is not None and {before[:2], here[:2]} == names


def between(
    layout: Layout, one: tuple[str, str | None], other: tuple[str, str | None]
) -> tuple[Point, ...]:
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
