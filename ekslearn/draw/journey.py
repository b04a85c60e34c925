"""A trace laid over a layout: where the packet stands at each event and how it gets there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ekslearn.draw.layout import Layout, Point, Spot
from ekslearn.draw.vpc_layout import VpcLayout
from ekslearn.trace import Sighting, Step, Trace

Event = Step | Sighting
AWS = ("vpc", "tgw", "pcx", "internet", "outside", "elb")  # how the stages begin that AWS plays


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One event of a trace as a spot in the picture; ``way`` leads there from the one before."""

    event: Step | Sighting
    at: Point
    way: tuple[Point, ...]
    marks: tuple[str, ...]  # ids of the marks that belong to it


def by_aws(event: Event) -> bool:
    """Whether AWS decided it, not a kernel."""
    return isinstance(event, Step) and event.stage.split(" ")[0] in AWS


def journey(layout: Layout, trace: Trace) -> tuple[Stop, ...]:
    """One stop per event, in the order things happened."""
    stops: list[Stop] = []
    before: Spot | None = None
    gate = ""  # the gateway that the packet has been sent to and hasn't passed yet
    rooms: dict[str, str] = {}  # where a place was last entered or left
    for number, event in enumerate(trace.events):
        here: Spot = (event.place, getattr(event, "interface", None))
        aside = before is not None and not getattr(event, "header", True)
        if aside and before:  # about the packet, but not where it is: an ARP answer
            here = before
        elif isinstance(layout, VpcLayout) and isinstance(event, Step) and by_aws(event):
            here = aws_spot(layout, trace.events, number, gate) or before or here
        if here[0] and not here[1]:
            here = rooms.get(here[0], here[0]), None
        elif isinstance(event, Sighting):
            rooms[event.place] = layout.room(here)
        through: list[Spot] = []
        if isinstance(layout, VpcLayout) and gate and here[0] in layout.outside:
            through = [("", gate)]
        way = path(layout, [before, *through, here]) if before else (layout.way(*here)[-1],)
        on = (f"ns-{event.place}",) if aside else marks(layout, here, event.place)
        stops.append(Stop(event=event, at=way[-1], way=way, marks=on))
        if isinstance(layout, VpcLayout):
            gate = sent_to(layout, event) or ("" if through or here == ("", gate) else gate)
        before = here
    return tuple(stops)


def marks(layout: Layout, here: Spot, place: str) -> tuple[str, ...]:
    """The ids of what is drawn at a spot."""
    where, what = here
    if where or not what:
        drawn = what and (where or place, what) in layout.ports  # a cluster's loopbacks aren't
        room = layout.room(here) if where else place
        return (f"ns-{room}", *((f"if-{where}-{what}",) if drawn else ()))
    kind, _, rest = what.partition(" ")
    if kind == "route":
        return ("vpc-router",)
    owner, _, interface = rest.partition(" ")
    if kind == "acl" and isinstance(layout, VpcLayout):
        return (f"subnet-{layout.subnets[owner, interface][0]}",)
    return (f"if-{owner}-{interface}",) if rest else (f"gw-{kind}",)


def target_of(event: Event) -> str:
    """The target of the VPC route that decided, as the row says: ``0.0.0.0/0 -> nat (…)``."""
    if isinstance(event, Step) and event.stage == "vpc route" and " -> " in event.because:
        return event.because.split(" -> ")[1].split(" ")[0]
    return ""


def sent_to(layout: VpcLayout, event: Event) -> str:
    """The gateway that an event sends the packet to from inside; "" for any other event."""
    target = target_of(event)
    return target if target in layout.gateways and event.place not in layout.outside else ""


def aws_spot(layout: VpcLayout, events: Sequence[Event], number: int, gate: str) -> Spot | None:
    """Where AWS takes a decision: at an ENI, at a subnet's edge, at the router or a gateway."""
    event = events[number]
    assert isinstance(event, Step)
    place, kind = event.place, event.stage.removeprefix("vpc ")
    if kind.startswith("elb "):
        return place, None
    if kind in layout.gateways or (kind in ("internet", "outside") and gate):
        return "", kind if kind in layout.gateways else gate
    if place in layout.outside:
        target = target_of(event)
        return ("", target) if target in layout.gateways else None
    port = port_of(layout, events, number)
    if port is None:
        return None
    where = {"network acl": "acl", "source check": "eni", "destination check": "eni",
             "security group": "eni"}.get(kind, "route")  # fmt: skip
    return "", f"{where} {port[0]} {port[1]}"


def port_of(layout: VpcLayout, events: Sequence[Event], number: int) -> Spot | None:
    """The ENI that a decision of AWS's is about.

    It is the one that the packet has left its machine by; for another machine, the one it will
    come in on, or, if it never does, the one that has its destination.
    """
    event = events[number]
    assert isinstance(event, Step)
    coming = event.decision.startswith("ingress: ") or event.stage == "vpc destination check"
    left = next((e for e in reversed(events[:number]) if isinstance(e, Sighting)), None)
    if left and left.direction == "out" and left.place == event.place and not coming:
        return left.place, left.interface
    next_seen = next((e for e in events[number:] if isinstance(e, Sighting)), None)
    if next_seen and next_seen.direction == "in" and next_seen.place == event.place:
        return next_seen.place, next_seen.interface
    return layout.homes.get(str(event.header.get("dst")))


def path(layout: Layout, spots: Sequence[Spot]) -> tuple[Point, ...]:
    """The points of a way over several spots."""
    legs = [between(layout, one, two) for one, two in pairwise(spots)]
    return tidy(tuple(point for leg in legs for point in leg))


def between(layout: Layout, one: Spot, other: Spot) -> tuple[Point, ...]:
    """The points from one spot to another: through a box, along a cable, else beyond them."""
    if one == other:
        return (layout.way(*one)[-1],)
    if one[0] and layout.room(one) == layout.room(other):
        back, out = layout.way(*one)[::-1], layout.way(*other)
        return tidy((*back, *out[1:]))
    for wire in layout.wires:
        ends = [(port.place, port.name) for port in wire.ends]
        if ends == [one, other]:
            return wire.path
        if ends == [other, one]:
            return wire.path[::-1]
    return layout.beyond(one, other)


def tidy(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """The points without repeats."""
    return tuple(p for n, p in enumerate(points) if n == 0 or p != points[n - 1])


def line_of(stops: Sequence[Stop]) -> list[Point]:
    """One line through stops, without going to where a machine decides and straight back.

    It does go where a machine gives the packet another address.
    """
    ends: dict[Point, set[tuple[object, object]]] = {}
    for stop in stops:
        if isinstance(stop.event, Step) and not by_aws(stop.event) and (head := stop.event.header):
            ends.setdefault(stop.at, set()).add((head["src"], head["dst"]))
    decided = {at for at, seen in ends.items() if len(seen) == 1}
    line: list[Point] = []
    for point in tidy(tuple(each for stop in stops for each in stop.way)):
        while len(line) > 1 and line[-1] in decided and turns_back(line[-2], line[-1], point):
            line.pop()
        line.append(point)
    return line


def turns_back(before: Point, here: Point, after: Point) -> bool:
    """Whether a line goes back, at ``here``, on the way that it came."""
    (x, y), (u, v) = ((b[0] - a[0], b[1] - a[1]) for a, b in ((before, here), (here, after)))
    return x * v == y * u and x * u + y * v < 0
