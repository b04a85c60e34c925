"""Where everything stands in the picture of a cluster.

The VPC is the outer frame, its subnets are rows in it, nodes and hosts stand in their subnets. All
ENIs are on the right edge of their machine, and a line leads from each to the VPC's router, the
bar on the right. The bar goes down to the gateways on the frame's lower edge; whatever stands
outside the VPC stands below them. Nothing here draws.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ekslearn.draw.grammar import LABEL, PAGE, PORT, SMALL, TITLE, width_of
from ekslearn.draw.layout import Box, Layout, Point, Port, Spot, Wire
from ekslearn.draw.shown import GATEWAYS, Place, Row, Shown, count
from ekslearn.draw.shown import Port as Link
from ekslearn.draw.vpc_words import (
    LINE,
    aside,
    eni_breadth,
    eni_height,
    eni_lines,
    head_breadth,
    host_words,
    listening,
    most,
    near_names,
    pod_breadth,
    pod_words,
    row_heads,
    side_words,
)

# Around all; inside a frame; between frames; length of a veth.
MARGIN, PAD, GAP, CABLE = 4.0, 10.0, 8.0, 34.0
HEAD = 28.0  # a frame's title
INSET = 16.0  # from an ENI's middle to its label
POD = 46.0  # height of a pod with one interface
FREE = 14.0  # half the width in which a packet is considered
LANE, BAR = 18.0, 10.0  # room on either side of the router; its own width
PILL, SILL = (64.0, 26.0), 58.0  # a gateway; the height of the VPC's lower edge with gateways


@dataclass(slots=True, kw_only=True)
class Frame:
    """A box of any kind: vpc, subnet, node, host, netns, gateway or router."""

    id: str
    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(slots=True, kw_only=True)
class Text:
    """One line of text; ``at`` is the left end of its baseline, or what ``align`` says."""

    id: str
    at: Point
    text: str
    size: float = SMALL
    bold: bool = False
    mono: bool = False
    muted: bool = False
    align: str = "left"

    @property
    def width(self) -> float:
        """How wide it is as measured."""
        return width_of(self.text, self.size, mono=self.mono, bold=self.bold)


@dataclass(slots=True, kw_only=True)
class Road:
    """A line that AWS plays: from an ENI to the router, from the router to a gateway, outside."""

    id: str
    path: tuple[Point, ...]


@dataclass(slots=True, kw_only=True)
class VpcLayout(Layout):
    """The picture of a cluster, ready to be drawn."""

    frames: list[Frame] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    roads: list[Road] = field(default_factory=list)
    bar: float = 0.0  # x of the router
    bus: float = 0.0  # y of the line that joins what is outside
    # Each ENI's subnet, and the x of the edge at which it leaves its machine's subnet.
    subnets: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    outside: dict[str, Point] = field(default_factory=dict)
    gateways: dict[str, tuple[Point, ...]] = field(default_factory=dict)  # from it to the bar
    homes: dict[str, Spot] = field(default_factory=dict)  # an address: the ENI that has it
    rooms: dict[Spot, str] = field(default_factory=dict)  # whose box isn't named after the place

    def room(self, spot: Spot) -> str:
        """The box that an interface is on."""
        return self.rooms.get(spot, spot[0])

    def way(self, place: str, interface: str | None = None) -> tuple[Point, ...]:
        """The points from the middle of a box out to an interface; AWS's spots are points."""
        if not place and interface:
            return (self.point(interface),)
        port = self.ports.get((place, interface)) if interface else None
        middle = self.boxes[self.room((place, interface))].middle
        return (middle,) if port is None else (middle, port.inner, port.at)

    def point(self, what: str) -> Point:
        """Where AWS's part decides: a gateway, or ``route|acl|eni PLACE INTERFACE``."""
        if what in self.gateways:
            return self.gateways[what][0]
        kind, place, interface = what.split(" ", 2)
        x, y = self.ports[place, interface].at
        far = {"route": self.bar, "acl": self.subnets[place, interface][1], "eni": x + PORT + 15}
        return far[kind], y

    def lead(self, spot: Spot) -> tuple[Point, ...]:
        """The points from a spot to the router's bar, or to the line outside."""
        place, what = spot
        if what in self.gateways:
            return self.gateways[what]
        here = self.way(place, what)[-1]
        if place in self.outside:
            return here, (here[0], self.bus)
        return here, (self.bar, here[1])

    def beyond(self, one: Spot, other: Spot) -> tuple[Point, ...]:
        """The points from one spot to another through the VPC, or outside it."""
        out, back = self.lead(one), self.lead(other)
        inside, outside = sorted((one, other), key=lambda spot: spot[0] in self.outside)
        if outside[0] in self.outside and inside[1] in self.gateways:
            gate, host = self.point(str(inside[1])), self.lead(outside)
            path = (gate, (gate[0], self.bus), *host[::-1])
            return path if one == inside else path[::-1]
        if out[-1] == back[-1] and out[-2:-1] and back[-2:-1] and out[-2][1] == back[-2][1]:
            return (*out[:-1], *back[-2::-1])  # on one ENI's line: not to the bar and back
        while len(out) > 1 and len(back) > 1 and out[-2:] == back[-2:]:
            out, back = out[:-1], back[:-1]
        return (*out, *back[::-1])


def lay_out_vpc(what: Shown, *, width: float = 0.0) -> VpcLayout:
    """The picture of what is shown, at least ``width`` wide, and no wider than a page if it can."""
    made = Builder(what, width).build()
    return Builder(what, width, narrow=True).build() if made.width > max(PAGE, width) else made


class Builder:
    """Sets everything down from top to bottom; where it has to be ``narrow``, pods get lines."""

    def __init__(self, what: Shown, width: float, *, narrow: bool = False) -> None:
        rows = [replace(row, hosts=tuple(map(aside, row.hosts))) for row in what.rows]
        what = replace(what, rows=tuple(rows))
        self.what, self.narrow = what, narrow
        self.layout = VpcLayout(boxes={}, wires=[], cells={})
        nodes = [each for row in what.rows for each in row.nodes]
        pods = [pod for node in nodes for pod in node.pods]
        self.pod = most(
            PAD + most(pod_breadth(pod, narrow) for pod in pods) + 2 * FREE - 4 for _ in pods[:1]
        )
        title = most(head_breadth(node) for node in nodes) + 2 * PAD
        self.left = max(self.pod, title - CABLE - PAD) if nodes else 0.0
        self.veth = most(width_of(name, SMALL, mono=True) for node in nodes
                         for name in near_names(node))  # fmt: skip
        self.eni = most(eni_breadth(port) for each in nodes for port in each.ports if port.eni)
        self.far = most(eni_breadth(port) for row in what.rows for each in row.hosts
                        for port in each.ports)  # fmt: skip
        self.notes = most(width_of(n, SMALL) for node in nodes for n in node.notes)
        inner = PORT + 6 + self.veth + 2 * FREE + self.eni + INSET - PAD
        self.host = max(inner, self.notes + 2 * PAD)
        node = PAD + self.left + CABLE + self.host + PAD if nodes else 0.0
        hosts = most(self.host_width(each) for row in what.rows for each in row.hosts)
        heads = most(width_of(line, SMALL) for row in what.rows for line in row_heads(row))
        gates = sum(PILL[0] + 23 + most(width_of(line, SMALL) for line in GATEWAYS[name])
                    for name in what.gateways)  # fmt: skip
        self.row = max(max(node, hosts, heads) + 2 * PAD + 6, gates + PAD - 2 * LANE)
        sides = 2 * MARGIN + PAD + 2 * LANE
        spare = max(0.0, width - sides - self.row)
        if nodes:
            self.left, self.host = self.left + spare / 2, self.host + spare / 2
            self.pod += spare / 2 if pods else 0.0
        self.row += spare
        self.x = MARGIN + PAD

    def build(self) -> VpcLayout:
        """All of it."""
        layout, top = self.layout, MARGIN
        self.text(
            "vpc-title", self.x, top + 22, f"VPC {', '.join(self.what.cidrs)}", TITLE, bold=True
        )
        layout.bar = self.x + self.row + LANE
        right = layout.bar + LANE
        y = top + 34
        bar_top = y + 4
        self.text("vpc-router-title", right - 6, y - 6, "VPC router", align="right")
        for row in self.what.rows:
            y = self.subnet(row, y) + GAP
        bar_bottom = y - GAP
        bottom = y + 4
        if self.what.gateways:
            bottom = y + SILL - GAP
            bar_bottom = y + 8
            self.gates(bottom, bar_bottom - BAR / 2)
        self.frame("vpc", "vpc", MARGIN, top, right - MARGIN, bottom - top)
        self.frame("vpc-router", "router", layout.bar - BAR / 2, bar_top, BAR, bar_bottom - bar_top)
        floor = self.beyond(bottom) if self.what.outside or self.what.gateways else bottom
        for n, note in enumerate(self.lines(self.what.notes, right - MARGIN)):
            floor += LINE
            self.text(f"note-{n + 1}", MARGIN, floor + 4, note)
        layout.width = max([right + MARGIN, *(f.x + f.width + MARGIN for f in layout.frames)])
        layout.height = floor + MARGIN + (6 if floor > bottom else 0)
        return layout

    # The parts

    def subnet(self, row: Row, y: float) -> float:
        """A row; returns where it ends."""
        start = y
        first, *rest = row_heads(row)
        name = self.text(
            f"subnet-{row.name}-title", self.x + PAD, y + 19, row.name, LABEL, bold=True
        )
        self.text(f"subnet-{row.name}-cidr", self.x + PAD + name + 10, y + 19,
                  first[len(row.name) + 2 :], muted=True)  # fmt: skip
        y += HEAD
        for n, line in enumerate(rest):
            self.text(f"subnet-{row.name}-head-{n + 1}", self.x + PAD, y + 8, line, muted=True)
            y += LINE + 1
        for node in row.nodes:
            y = self.node(row, node, y) + GAP
        if row.more:
            self.text(f"subnet-{row.name}-more", self.x + PAD, y + 12,
                      f"and {count(row.more, 'more node')}", muted=True)  # fmt: skip
            y += LINE + 6
        for host in row.hosts:
            y = self.machine(row, host, y) + GAP
        y += 2
        self.frame(f"subnet-{row.name}", "subnet", self.x, start, self.row, y - start)
        return y

    def node(self, row: Row, node: Place, top: float) -> float:
        """A node with its pods; returns where it ends."""
        x, width = self.x + PAD, self.row - 2 * PAD - 6
        title = self.text(f"node-{node.name}-title", x + PAD, top + 19, node.name, TITLE, bold=True)
        self.text(f"node-{node.name}-kind", x + PAD + title + 8, top + 19, node.kind, muted=True)
        host_x = x + PAD + self.left + CABLE
        self.text(f"ns-{node.name}-title", host_x + 2, top + 19, "netns: host", muted=True)
        y, start = top + HEAD, top + HEAD
        for pod in node.pods:
            y = self.place_pod(pod, x + PAD, y, host_x) + GAP
        if node.more:
            self.text(f"node-{node.name}-more", x + PAD + 4, y + 12,
                      f"and {count(node.more, 'more pod')}", muted=True)  # fmt: skip
            y += LINE + 6
        for port in node.ports:
            if not port.eni:
                y += 30
                self.side_port(node, port, host_x, y)
                y += 16
        enis = [port for port in node.ports if port.eni]
        need = sum(map(eni_height, enis)) + 12  # room for a packet's word under the last
        body = max(y - GAP - start, need, POD)
        foot = LINE * len(node.notes) + (6 if node.notes else 0)
        box = self.box(node.name, "netns", host_x, start, self.host, body + foot)
        for n, note in enumerate(node.notes):
            self.text(f"ns-{node.name}-note-{n + 1}", host_x + PAD, start + body + 10 + LINE * n,
                      note, muted=True)  # fmt: skip
        at = start + 2 + max(0.0, body - need) / 2
        level = at + 24 if enis else start + body / 2  # level with the first ENI: fewer corners
        box.middle = (host_x + PORT + 6 + self.veth + FREE, level)
        for port in enis:
            self.eni_port(row, node, port, x + width, at + 24)
            at += eni_height(port)
        bottom = start + body + foot + PAD
        self.frame(f"node-{node.name}", "node", x, top, width, bottom - top)
        return bottom

    def place_pod(self, pod: Place, x: float, y: float, host_x: float) -> float:
        """A pod and its cables; returns where it ends."""
        ports = pod.ports or (Link(name="no interface", kind="none"),)
        below = LINE if self.narrow and pod.listens else 0.0  # a line for what listens
        step = 34 + LINE * self.narrow
        height = POD + (len(ports) - 1) * step + below + LINE * (self.narrow and bool(pod.ports))
        box = self.box(pod.name, "netns", x, y, self.pod, height)
        box.middle = (x + self.pod - FREE, y + POD / 2)
        title = self.text(f"ns-{pod.name}-title", x + PAD - 2, y + 18, pod.name, LABEL, bold=True)
        aside = -2.0 if self.narrow else 4 + title
        self.text(f"ns-{pod.name}-listens", x + PAD + aside, y + 18 + below, listening(pod),
                  muted=True)  # fmt: skip
        for n, port in enumerate(ports):
            at = y + POD / 2 + step * n
            down = at + 13 + below
            name = self.text(f"if-{pod.name}-{port.name}-label", x + PAD - 2, down,
                             port.name, mono=True, bold=True)  # fmt: skip
            for m, words in enumerate(pod_words(port, self.narrow)):
                self.text(f"if-{pod.name}-{port.name}-address" + (f"-{m}" if m else ""),
                          x + PAD + 4 + name, down + LINE * m, words, mono=True)  # fmt: skip
            if port.kind == "none":
                continue
            near = self.port(pod.name, port, (x + self.pod, at), "right")
            near.inner = (x + self.pod - FREE, at)
            if not port.peer:
                continue
            if port.peer[0] in self.layout.boxes or port.peer[0] in self.nodes:
                far = Link(name=port.peer[1], kind="veth", up=not port.peer[2])
                end = self.side_port(None, far, host_x, at, place=port.peer[0])
                self.cable(near, end)
        return y + height

    def side_port(
        self, node: Place | None, port: Link, x: float, y: float, *, place: str = ""
    ) -> Port:
        """An interface on the left edge of the node's own namespace, its label above it."""
        place = place or (node.name if node else "")
        made = self.port(place, port, (x, y), "left")
        made.inner = (x + PORT + 6 + self.veth + FREE, y)
        self.text(f"{made.id}-label", x + PORT + 5, y - 6, side_words(port), mono=True)
        return made

    def eni_port(self, row: Row, machine: Place, port: Link, x: float, y: float) -> None:
        """An ENI on the right edge of its machine, and its line to the router."""
        place, room = machine.name, machine.room or machine.name
        self.layout.rooms |= {(place, port.name): room} if room != place else {}
        made = self.port(place, port, (x, y), "right")
        end = x - INSET
        wide = width_of(port.address, SMALL, mono=True)
        self.text(f"{made.id}-address", end, y - 7, port.address, mono=True, align="right")
        self.text(f"{made.id}-label", end - wide - 8, y - 7, port.name + port.state, LABEL,
                  mono=True, bold=True, align="right")  # fmt: skip
        for n, line in enumerate(eni_lines(port)):
            self.text(f"{made.id}-eni" + (f"-{n}" if n else ""), end, y + 17 + LINE * n, line,
                      mono=n == 0, muted=n > 0, align="right")  # fmt: skip
        made.inner = (self.layout.boxes[room].middle[0], y)
        self.layout.subnets[place, port.name] = (port.subnet or row.name, self.x + self.row)
        self.layout.homes |= dict.fromkeys(port.homes, (place, port.name))
        self.road(f"road-{place}-{port.name}", (x + PORT, y), (self.layout.bar - BAR / 2, y))

    def host_width(self, host: Place) -> float:
        """The width of a machine that is no node."""
        return 2 * PAD + most(width_of(t, s, bold=b) for t, s, b in host_words(host)) + (
            2 * FREE + self.far + INSET)  # fmt: skip

    def machine(self, row: Row, host: Place, y: float) -> float:
        """A machine of the VPC that is no node; returns where it ends."""
        width = self.host_width(host)
        x = self.x + self.row - PAD - 6 - width
        height = max(
            sum(map(eni_height, host.ports)), PAD + LINE * (1 + len(host_words(host)[1:])) + 8
        )
        box = self.box(host.room or host.name, "host", x, y, width, height)
        self.words(host, x + PAD, y + 20)
        at = y + 24 + max(0.0, height - sum(map(eni_height, host.ports))) / 2
        level = y + height / 2 if len(host.ports) < 2 else at  # beside the labels, not in them
        box.middle = (x + width - INSET - self.far - FREE, level)
        for port in host.ports:
            self.eni_port(row, host, port, x + width, at)
            at += eni_height(port)
        return y + height

    def gates(self, bottom: float, bus: float) -> None:
        """The gateways on the VPC's lower edge."""
        x, (wide, tall) = self.x + 6, PILL
        for name in self.what.gateways:
            middle = x + 17  # a packet that stands here doesn't hide the name
            path = ((middle, bottom), (middle, bus), (self.layout.bar, bus))
            self.layout.gateways[name] = path
            self.road(f"road-{name}", (middle, bottom + tall / 2), path[1],
                      (self.layout.bar - BAR / 2, bus))  # fmt: skip
            self.frame(f"gw-{name}", "gateway", x, bottom - tall / 2, wide, tall)
            self.text(f"gw-{name}-title", x + 31, bottom + 4.5, name, LABEL, mono=True, bold=True)
            x += wide + 7
            x += 16 + most([
                self.text(f"gw-{name}-label" + (f"-{n}" if n else ""), x, bottom - 21 + LINE * n,
                          line, muted=True)
                for n, line in enumerate(GATEWAYS[name])
            ])  # fmt: skip

    def beyond(self, bottom: float) -> float:
        """Machines outside the VPC, in a row; returns where it ends."""
        layout = self.layout
        layout.bus = bottom + 32
        x, floor, ends = self.x, layout.bus, []
        for host in self.what.outside:
            words = host_words(host)
            width = 2 * PAD + most(width_of(t, s, bold=b) for t, s, b in words) + 2 * FREE
            labels = [(port.name, port.address + port.state) for port in host.ports]
            width = max(width, 2 * PAD + 2 * FREE + most(
                width_of(f"{a} {b}", SMALL, mono=True, bold=True) for a, b in labels))  # fmt: skip
            plug = x + width - PAD - FREE
            # A line straight up to a gateway would say that it goes there, and there alone.
            width += most(path[0][0] + PILL[1] - plug for path in layout.gateways.values()
                          if abs(plug - path[0][0]) < PILL[1])  # fmt: skip
            y = layout.bus + 24
            height = PAD + LINE * (len(words) + len(labels)) + 10
            box = self.box(host.name, "host", x, y, width, height)
            self.words(host, x + PAD, y + 20)
            box.middle = (x + width - PAD - FREE, y + height / 2 + 6)
            for n, port in enumerate(host.ports):
                at = (box.middle[0] + n * 24, y)
                made = self.port(host.name, port, at, "below")
                made.inner = at
                layout.outside[host.name] = at
                down = y + 20 + LINE * (len(words) + n)
                name = self.text(f"{made.id}-label", x + PAD, down, port.name, mono=True, bold=True)
                self.text(f"{made.id}-address", x + PAD + name + 6, down,
                          port.address + port.state, mono=True)  # fmt: skip
                self.road(f"road-{host.name}-{port.name}", at, (at[0], layout.bus))
                ends.append(at[0])
            x += width + 20
            floor = max(floor, y + height)
        tops = [path[0] for path in layout.gateways.values()]
        if not ends:
            return bottom + PILL[1] / 2
        if tops:
            sill = bottom + PILL[1] / 2
            for target, (gate, *_) in layout.gateways.items():
                self.road(f"road-{target}-out", (gate[0], sill), (gate[0], layout.bus))
            ends += [gate[0] for gate in tops]
            self.road("outside", (min(ends), layout.bus), (max(ends), layout.bus))
        return floor

    # What marks are made of

    @property
    def nodes(self) -> set[str]:
        """The names of all nodes shown."""
        return {node.name for row in self.what.rows for node in row.nodes}

    def words(self, host: Place, x: float, y: float) -> None:
        """The title of a machine that is no node, and what is to be said about it."""
        for n, (text, size, bold) in enumerate(host_words(host)):
            name = f"ns-{host.room or host.name}-" + ("title" if not n else f"note-{n}")
            self.text(
                name, x, y + LINE * n + (1 if n else 0), text, size, bold=bold, muted=not bold
            )

    def text(
        self, name: str, x: float, y: float, text: str, size: float = SMALL, *,
        bold: bool = False, mono: bool = False, muted: bool = False, align: str = "left",
    ) -> float:  # fmt: skip
        """Set a line of text down; returns its width."""
        if not text:
            return 0.0
        made = Text(id=name, at=(x, y), text=text, size=size, bold=bold, mono=mono, muted=muted,
                    align=align)  # fmt: skip
        self.layout.texts.append(made)
        return made.width

    def frame(self, name: str, kind: str, x: float, y: float, width: float, height: float) -> None:
        """Set a frame down."""
        self.layout.frames.append(Frame(id=name, kind=kind, x=x, y=y, width=width, height=height))

    def box(self, place: str, kind: str, x: float, y: float, width: float, height: float) -> Box:
        """A place: a frame that a packet can be in."""
        made = Box(place=place, ports=[], x=x, y=y, width=width, height=height)
        self.layout.boxes[place] = made
        self.frame(made.id, kind, x, y, width, height)
        return made

    def port(self, place: str, port: Link, at: Point, side: str) -> Port:
        """An interface's mark."""
        kind = "eni" if port.eni else port.kind
        made = Port(place=place, name=port.name, kind=kind, up=port.up, lines=(), side=side, at=at)
        self.layout.ports[place, port.name] = made
        return made

    def road(self, name: str, *path: Point) -> None:
        """A line of AWS's."""
        self.layout.roads.append(Road(id=name, path=path))

    def cable(self, one: Port, other: Port) -> None:
        """A veth pair between a pod and its node."""
        self.layout.wires.append(Wire(ends=(one, other), path=(one.at, other.at)))

    @staticmethod
    def lines(notes: Iterable[str], width: float) -> list[str]:
        """Notes as lines that fit."""
        return [line for note in notes for line in textwrap.wrap(note, int(width / 6.6))]
