"""What is written in the picture of a cluster, line by line, and how much room it takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ekslearn.draw.grammar import LABEL, SMALL, TITLE, width_of
from ekslearn.draw.shown import Place, Row
from ekslearn.draw.shown import Port as Link

ENI, LINE = 55.0, 15.0  # height of an ENI with two lines; from line to line
NOTE = 184.0  # what an ENI has beyond its id is broken into lines of this width
ASIDE = 292.0  # and as wide are the lines about a machine that is no node


def most(values: Iterable[float]) -> float:
    """The largest, 0 without any."""
    return max(values, default=0.0)


def listening(place: Place) -> str:
    """Where something listens, as short as it can be: ``:80 :53/udp``."""
    ports = [one.split(" ")[0].removesuffix("/tcp") for one in place.listens]
    return " ".join(f":{port}" for port in ports)


def pod_words(port: Link, narrow: bool) -> list[str]:
    """The address of a pod's interface, and whose it is: in one line, or in two."""
    owner = port.owner.removeprefix("branch ")  # its device's name says so: vlan.eth.1
    own = port.address.removesuffix("/32") + port.state
    rest = " ".join(filter(None, [f"({owner})" if owner else "", *port.notes]))
    return [own, rest] if narrow else [f"{own} {rest}".rstrip()]


def pod_breadth(pod: Place, narrow: bool) -> float:
    """The width of a pod's words."""
    title, listens = width_of(pod.name, LABEL, bold=True), width_of(listening(pod), SMALL)
    lines = [title, listens] if narrow else [title + 6 + listens]
    return most([*lines, *(width_of(f"{p.name} {words}", SMALL, mono=True) + 6
                           for p in pod.ports for words in pod_words(p, narrow))])  # fmt: skip


def head_breadth(node: Place) -> float:
    """The width of a node's title."""
    return width_of(node.name, TITLE, bold=True) + 8 + width_of(node.kind, SMALL)


def side_words(port: Link) -> str:
    """The label of an interface on the left of the node's namespace."""
    peer = f" = veth = {port.peer[1]}" if port.peer else ""
    return f"{port.name}{port.state}{peer}" + (
        f" {port.address}" if port.address[:1].isdigit() else ""
    )


def near_names(node: Place) -> list[str]:
    """The labels of all interfaces on the left of the node's namespace."""
    ends = [f"{port.peer[1]}{port.peer[2]}" for pod in node.pods for port in pod.ports if port.peer]
    return [*ends, *(side_words(port) for port in node.ports if not port.eni)]


def eni_lines(port: Link) -> list[str]:
    """The lines under an ENI's name: its id and device index, and what else is to be known."""
    first = f"{port.short} \N{MIDDLE DOT} {port.where}"
    lines = joined(port.notes, width_of(first, SMALL, mono=True) + 20)
    return [first, *(part for line in lines for part in broken(line))]


def joined(notes: Iterable[str], wide: float) -> list[str]:
    """Notes as lines, as many in one as fit."""
    lines: list[str] = []
    for note in notes:
        both = f"{lines[-1]}, {note}" if lines else note
        fits = lines and width_of(both, SMALL) <= wide
        lines[-1 if fits else len(lines) :] = [both if fits else note]
    return lines


def broken(line: str) -> list[str]:
    """A line as several, none wider than NOTE if it has spaces to break at."""
    made: list[str] = []
    for word in line.split(" "):
        both = f"{made[-1]} {word}" if made else word
        fits = made and width_of(both, SMALL) <= NOTE
        made[-1 if fits else len(made) :] = [both if fits else word]
    return made


def eni_height(port: Link) -> float:
    """The height of an ENI with its label."""
    return ENI + LINE * (len(eni_lines(port)) - 1)


def eni_breadth(port: Link) -> float:
    """The width of an ENI's label."""
    first = width_of(port.address, SMALL, mono=True) + 8 + width_of(
        port.name + port.state, LABEL, mono=True, bold=True)  # fmt: skip
    return max(first, *(width_of(line, SMALL, mono=True) for line in eni_lines(port)))


def host_words(host: Place) -> list[tuple[str, float, bool]]:
    """A machine's title and notes: text, size, bold."""
    listens = [f"listens: {one}" for one in host.listens]
    notes = joined([*([host.kind] if host.kind else []), *listens, *host.notes], ASIDE)
    return [(host.name, TITLE, True), *((text, SMALL, False) for text in notes)]


def aside(host: Place) -> Place:
    """A machine with what is to be said about its only ENI beside it, where there is room."""
    if len(host.ports) != 1:
        return host
    (port,) = host.ports
    return replace(host, ports=(replace(port, notes=()),), notes=(*host.notes, *port.notes))


def row_heads(row: Row) -> list[str]:
    """The lines at the top of a subnet: name, CIDR and zone; then what else there is."""
    routes = ", ".join(row.routes)
    first = f"{row.name}  {row.cidr} \N{MIDDLE DOT} {row.zone}"
    return [first, *([f"VPC route table: local, {routes}"] if routes else []), *row.notes]
