"""Where everything stands: a lab's public state as a graph, and the graph as boxes and wires.

Nothing here draws. Positions follow from names and cables alone, so the same state always gives
the same picture, and a picture doesn't jump when an address or a route goes away. Coordinates are
in user units of the SVG, y pointing down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import networkx as nx

from ekslearn.draw.grammar import LABEL, LINE, PAGE, PORT, SMALL, TITLE, width_of

if TYPE_CHECKING:
    from ekslearn.cluster import Lab

Point = tuple[float, float]
Spot = tuple[str, str | None]  # a place, and the interface if it is at one
Cell = tuple[int, int, int]  # group of places that hang together, column in it, row

MARGIN, PAD, HEAD = 4.0, 12.0, 34.0  # around the picture; inside a box; a box's title
BETWEEN, BELOW = 32.0, 24.0  # between columns; between boxes of a column
BRACKET, ASIDE = 26.0, 48.0  # how far a cable goes out that comes back; the next one beside it
ROOM = 16.0  # half the free space in which a packet is considered
ACROSS = 3  # places without any cable stand in rows of this many


@dataclass(slots=True, kw_only=True)
class Port:
    """An interface as drawn: a circle (veth), a square (Ethernet) or the loopback's ring."""

    place: str
    name: str
    kind: str
    up: bool
    lines: tuple[str, ...]  # the label: first the name, then the addresses
    side: str = "right"  # or "left", "below"
    label: str = "right"  # where the label of one that is "below" stands
    at: Point = (0.0, 0.0)
    inner: Point = (0.0, 0.0)  # where a packet passes on its way to the middle of the box

    @property
    def id(self) -> str:
        """The id of the mark in the SVG."""
        return f"if-{self.place}-{self.name}"

    @property
    def ends_at_mark(self) -> bool:
        """Whether the label stands left of the mark."""
        return self.side == "right" or (self.side == "below" and self.label == "left")

    @property
    def breadth(self) -> float:
        """Width of the label."""
        return max(
            width_of(line, LABEL if n == 0 else SMALL, mono=True, bold=n == 0)
            for n, line in enumerate(self.lines)
        )


@dataclass(slots=True, kw_only=True)
class Box:
    """A network namespace as drawn."""

    place: str
    ports: list[Port]
    notes: tuple[str, ...] = ()
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    middle: Point = (0.0, 0.0)  # where the packet stands while this place decides

    @property
    def id(self) -> str:
        """The id of the mark in the SVG."""
        return f"ns-{self.place}"

    @property
    def title(self) -> str:
        """What the box is labelled with."""
        return f"netns: {self.place}"

    def on(self, side: str) -> list[Port]:
        """The interfaces of one side, from top to bottom."""
        return [port for port in self.ports if port.side == side]


@dataclass(slots=True, kw_only=True)
class Wire:
    """A veth pair as drawn: the cable between two ports."""

    ends: tuple[Port, Port]
    path: tuple[Point, ...] = ()

    @property
    def id(self) -> str:
        """The id of the mark in the SVG."""
        return "link-" + "--".join(f"{port.place}-{port.name}" for port in self.ends)


@dataclass(slots=True, kw_only=True)
class Layout:
    """The whole picture, ready to be drawn."""

    boxes: dict[str, Box]
    wires: list[Wire]
    cells: dict[str, Cell]
    width: float = 0.0
    height: float = 0.0
    ports: dict[tuple[str, str], Port] = field(default_factory=dict)

    def way(self, place: str, interface: str | None = None) -> tuple[Point, ...]:
        """The points from the middle of a place out to an interface (to the middle alone)."""
        middle = self.boxes[place].middle
        port = self.ports.get((place, interface)) if interface else None
        return (middle,) if port is None else (middle, port.inner, port.at)

    def room(self, spot: Spot) -> str:
        """The box that a spot is in."""
        return spot[0]

    def beyond(self, one: Spot, other: Spot) -> tuple[Point, ...]:
        """The points from one place to another that no cable joins: straight."""
        return (self.way(*one)[-1], self.way(*other)[-1])


def graph_of(lab: Lab) -> nx.MultiGraph:
    """Places as nodes (attribute ``ports``), veth pairs as edges (attribute ``ends``)."""
    graph = nx.MultiGraph(name=lab.name)
    for place in lab.places:
        ports = []
        for name, link in lab.namespace(place).links.items():
            up = "" if link.up else "  DOWN"
            ports.append(
                Port(
                    place=place,
                    name=name,
                    up=link.up,
                    kind=link.kind,
                    lines=(name + up, *(str(address.interface) for address in link.addresses)),
                )
            )
        notes = [
            f"listens: {one.address}:{one.port}/{one.protocol}"
            + (f" ({one.process})" if one.process else "")
            for one in lab.namespace(place).sockets.listeners
        ]
        graph.add_node(place, ports=ports, notes=notes)
    order = {place: n for n, place in enumerate(lab.places)}
    for pair in lab.links():
        one, other = sorted(pair, key=lambda end: (order[end[0]], end[1]))
        graph.add_edge(one[0], other[0], ends=(one, other))
    return graph


def kind_of(place: str) -> str:
    """What a place plays, told by its name; only the column it stands in depends on it."""
    for kind, words in {"host": ("host", "node"), "vpc": ("vpc", "internet")}.items():
        if place.startswith(words):
            return kind
    return "other"


COLUMN = {"other": 0, "host": 1, "vpc": 2}


def arrange(graph: nx.MultiGraph) -> dict[str, Cell]:
    """A cell for each place: pods, host, VPC, its machines, left to right; else along the chain."""
    order = {place: n for n, place in enumerate(graph.nodes)}
    groups = sorted(
        (sorted(group, key=order.__getitem__) for group in nx.connected_components(graph)),
        key=lambda g: order[g[0]],
    )
    cells: dict[str, Cell] = {}
    lone = [group[0] for group in groups if len(group) == 1]
    joined = [group for group in groups if len(group) > 1]
    for number, group in enumerate(joined):
        column = columns_of(graph.subgraph(group), group)
        taken: dict[int, int] = {}
        for place in group:
            row = taken[column[place]] = taken.get(column[place], -1) + 1
            cells[place] = (number, column[place], row)
    for n, place in enumerate(lone):
        cells[place] = (len(joined) + n // ACROSS, n % ACROSS, 0)
    return cells


def columns_of(graph: nx.MultiGraph, order: list[str]) -> dict[str, int]:
    """Columns of one group of places that hang together."""
    hosts, vpcs = ({p for p in order if kind_of(p) == kind} for kind in ("host", "vpc"))
    found = {place: COLUMN[kind_of(place)] for place in order}
    for place in order:  # a machine that hangs on the VPC stands beyond it
        if kind_of(place) == "other" and set(graph[place]) <= vpcs:
            found[place] = COLUMN["vpc"] + 1
    if hosts and all(set(graph[p]) <= {*hosts, *vpcs} for p in {*order} - hosts - vpcs):
        return {place: column - min(found.values()) for place, column in found.items()}
    far = {place: nx.single_source_shortest_path_length(graph, place) for place in order}
    longest = max(max(reach.values()) for reach in far.values())
    start = next(place for place in order if max(far[place].values()) == longest)
    return dict(far[start])


def fold(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    """The third column under the second, and the fourth under the first: a way out and back."""
    beneath = {0: 0, 1: 0, 2: 1, 3: 1}
    return {
        place: (group, (0, 1, 1, 0)[column], row + len(cells) * beneath[column])
        for place, (group, column, row) in cells.items()
    }


def lay_out(
    graph: nx.MultiGraph, *, width: float = 0.0, cells: Mapping[str, Cell] | None = None
) -> Layout:
    """Boxes, ports and wires with their coordinates; ``cells`` keeps places where they stood.

    Four columns that are wider than a page are folded.
    """
    if cells and set(cells) == set(graph.nodes):
        return set_down(graph, dict(cells), width)
    at = arrange(graph)
    made = set_down(graph, at, width)
    wide = made.width > max(PAGE, width) and {cell[1] for cell in at.values()} == {0, 1, 2, 3}
    return set_down(graph, fold(at), width) if wide else made


def set_down(graph: nx.MultiGraph, at: dict[str, Cell], width: float) -> Layout:
    """Boxes, ports and wires with their coordinates, places in their cells."""
    boxes = {
        place: Box(
            place=place,
            ports=list(graph.nodes[place]["ports"]),
            notes=tuple(graph.nodes[place].get("notes", ())),
        )
        for place in graph.nodes
    }
    ports = {(port.place, port.name): port for box in boxes.values() for port in box.ports}
    wires = [Wire(ends=(ports[ends[0]], ports[ends[1]])) for *_, ends in graph.edges(data="ends")]
    layout = Layout(boxes=boxes, wires=wires, cells=at, ports=ports)
    partner = {id(a): b for wire in wires for a, b in (wire.ends, wire.ends[::-1])}
    for port in ports.values():
        if port.kind == "loopback":
            port.side = "below"
        elif (other := partner.get(id(port))) is not None:
            port.side = "left" if at[other.place][1] < at[port.place][1] else "right"
    right = widths(layout, width)
    heights(layout, partner)
    heights(layout, partner)  # again, now that the right neighbours' heights are known
    out: dict[int, float] = {}
    for wire in sorted(wires, key=span):  # the shorter bracket within the longer one
        column = at[wire.ends[0].place][1]
        wire.path = path_of(wire, out.get(column, 0.0))
        out[column] = out.get(column, 0.0) + ASIDE * (len(wire.path) > 2)
    layout.width = max(width, right + MARGIN)
    layout.height = max(box.y + box.height for box in boxes.values()) + MARGIN
    return layout


def widths(layout: Layout, width: float) -> float:
    """Give every box its x and width: one width per column, the spare width between columns.

    Returns where the last column ends, with the cables beside it.
    """
    columns = sorted({column for _, column, _ in layout.cells.values()})
    need: dict[int, tuple[float, float]] = {}
    for column in columns:
        mine = [box for place, box in layout.boxes.items() if layout.cells[place][1] == column]
        left = max((side_width(box.on("left")) for box in mine), default=0.0) + ROOM
        right = max((side_width(box.on("right")) for box in mine), default=0.0) + ROOM
        for box in mine:  # the loopback's label goes where there is more room for it
            for port in box.on("below"):
                port.label = "left" if left > right else "right"
                need_below = PORT + 8 + port.breadth + PAD
                left, right = (
                    (max(left, need_below), right)
                    if port.label == "left"
                    else (left, max(right, need_below))
                )
            words = [
                width_of(box.title, TITLE, bold=True),
                *(width_of(note, SMALL, mono=True) for note in box.notes),
            ]
            right = max(right, max(words) + 2 * PAD - left)
        need[column] = (left, right)
    aside = dict.fromkeys(columns, 0.0)  # for brackets
    for wire in layout.wires:
        if wire.ends[0].side == wire.ends[1].side == "right":
            column = layout.cells[wire.ends[0].place][1]
            aside[column] = (aside[column] or BRACKET) + ASIDE
    taken = sum(map(sum, need.values())) + sum(aside.values()) + BETWEEN * (len(columns) - 1)
    spare = width - 2 * MARGIN - taken
    extra = min(max(spare, 0.0) / (len(columns) + 1), 90.0)
    x = MARGIN + max(0.0, spare - extra * (len(columns) - 1)) / 2
    for column in columns:
        left, right = need[column]
        for place, box in layout.boxes.items():
            if layout.cells[place][1] == column:
                box.x, box.width, box.middle = x, left + right, (x + left, 0.0)
        x += left + right + aside[column] + BETWEEN + extra
    return x - BETWEEN - extra


def side_width(ports: Iterable[Port]) -> float:
    """Width the labels of one side take inside the box, its edge included."""
    return max((port.breadth + PORT + 8 for port in ports), default=0.0)


def heights(layout: Layout, partner: Mapping[int, Port]) -> None:
    """Give every box its y and height, and every port its place, cables as level as can be."""
    floor = MARGIN
    for group in sorted({cell[0] for cell in layout.cells.values()}):
        members = sorted(
            (place for place, cell in layout.cells.items() if cell[0] == group),
            key=lambda place: layout.cells[place][1:],
        )
        below: dict[int, float] = {}
        for place in members:
            column = layout.cells[place][1]
            stand(layout.boxes[place], below.get(column, floor), partner)
            box = layout.boxes[place]
            below[column] = box.y + box.height + BELOW
        floor = max(below.values())


def stand(box: Box, top: float, partner: Mapping[int, Port]) -> None:
    """Set one box down at ``top`` or lower, its ports level with their partners if it can be."""

    def level(port: Port) -> float:
        other = partner.get(id(port))
        there = other is not None and other.place != box.place and other.side != port.side
        return other.at[1] if other is not None and there else 0.0

    def order(port: Port) -> float:  # a bracket around another one comes down below it
        other = partner.get(id(port))
        bent = other is not None and other.place != box.place and other.side == port.side
        return -other.at[1] if other is not None and bent and other.at[1] < top else level(port)

    for side in ("left", "right"):
        box.ports.sort(key=lambda port: order(port) if port.side == side else -1e9)
    drop = [level(port) - rise(port) - HEAD for port in box.on("left")[:1] if level(port)]
    box.y = max([top, *drop])
    ends = [box.y + HEAD]
    for side, x in (("left", box.x), ("right", box.x + box.width)):
        y = box.y + HEAD
        if side == "right" and not any(map(level, box.on(side))):
            y += max(0.0, (ends[-1] - y - sum(rise(port) + 12 for port in box.on(side))) / 2)
        for port in box.on(side):
            y = max(y + rise(port), level(port))
            port.at = (x, y)
            inward = port.breadth + PORT + 8
            port.inner = (x + inward if side == "left" else x - inward, y)
            y += 12
        ends.append(y)
    across = [port.at[1] for port in box.ports if port.side != "below"]
    centre = sum(across) / len(across) if across else box.y + HEAD + 30
    box.middle = (box.middle[0], centre)
    y = max(*ends, centre + 20)
    for port in box.on("below"):
        y += 18
        port.at = port.inner = (box.middle[0], y)
        y += LINE * (len(port.lines) - 1) + 10
    box.height = y + 8 + LINE * len(box.notes) - box.y


def rise(port: Port) -> float:
    """How much height a port's label takes above the port."""
    return LINE * len(port.lines) + 10


def span(wire: Wire) -> float:
    """How far apart the ends of a cable are, up and down."""
    return abs(wire.ends[0].at[1] - wire.ends[1].at[1])


def path_of(wire: Wire, aside: float) -> tuple[Point, ...]:
    """A straight cable, or a bracket where both ends are on the right of one column."""
    one, other = (port.at for port in wire.ends)
    if wire.ends[0].side == wire.ends[1].side == "right":
        out = max(one[0], other[0]) + BRACKET + aside
        return (one, (out, one[1]), (out, other[1]), other)
    return (one, other)
