"""The matrix played: in the model, and on the real kernel."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ekslearn.cluster import Cluster
from ekslearn.errors import EkslearnError
from ekslearn.ingress_table import Row, row
from ekslearn.kernel import World
from ekslearn.trace import Trace
from tests.matrix.cells import AXES, CLIENTS, NODE, NODE_PORTS, Cell, load

verifying = importlib.import_module("ekslearn.kernel.verify")  # the name is the function's
COLUMNS = ("arrives", "pod_sees", "dnat", "snat", "nodes", "admits")
KERNEL, AWS = verifying.KERNEL, verifying.AWS
BOTH = f"{AWS}, then kernel"
TRIES = 8  # connections, until the balancer chooses the node that is wanted


@dataclass(frozen=True, slots=True)
class Played:
    """One client's connection in one cell: its row, whose word it is, and the model's words.

    ``agrees`` says that the kernel's capture shows what the trace does, ``words`` how they compare.
    """

    cell: Cell
    row: Row
    proof: str
    model: tuple[str, ...]
    agrees: bool = False
    words: str = ""


def play(cells: Sequence[Cell], world: World | None = None) -> list[Played]:
    """Each client in each cell, by one cluster that has them all; without a world, no kernel.

    Where a balancer chooses among nodes, connections are made until it chooses ``NODE``; the kernel
    makes them all, too. What a stalled machine spoilt is played once more.
    """
    lab = load(cells)
    refused = lab.control.controller.events
    assert not refused, refused
    asked, found = _asked(lab, cells)
    rows = []
    for _ in range(2 if world else 0):
        assert world
        world.build(lab)
        rows = verifying.compare(lab, asked, world)[: len(asked)]
        if all(one.ok for one in rows):
            break
    return [replace(one, words=str(rows[at]) if rows else "",
                    agrees=bool(rows) and rows[at].ok and rows[at].model == one.model)
            for at, one in found.items()]  # fmt: skip


def _asked(lab: Cluster, cells: Sequence[Cell]) -> tuple[list[tuple[str, str]], dict[int, Played]]:
    """What to ask, and which of it shows each cell."""
    model = verifying.fresh(lab)
    asked: list[tuple[str, str]] = []
    found = {}
    of = {cell.way: cell for cell in cells}
    for client in CLIENTS:
        for way, destination in ways(model, client, NODE):
            made_here = list(tries(model, client, destination, NODE))
            asked += [(client, destination)] * len(made_here)
            sport, trace = made_here[-1]
            made = row(model, trace)
            known = verifying.named_ports(lab) | {sport, int(destination[:-4].rpartition(":")[2])}
            says = tuple(verifying.undrawn(verifying.model_says(trace), known))
            aws = verifying.by_aws(trace)
            proof = KERNEL if not aws else BOTH if made.nodes else AWS
            found[len(asked) - 1] = Played(of[way], made, proof, says)
    return asked, found


def tries(model: Cluster, client: str, destination: str, node: str) -> Iterator[tuple[int, Trace]]:
    """Connections with their source ports, until one comes to ``node`` first, or to none."""
    for _ in range(TRIES):
        sport = model.namespace(client).sockets.next_port
        trace = model.trace(client, destination)
        yield sport, trace
        if (nodes := row(model, trace).nodes) == () or nodes[0] == node:
            break


def ways(cluster: Cluster, client: str, node: str) -> Iterator[tuple[str, str]]:
    """Each way in, and the address that ``client`` asks: a balancer's first, or a node's port."""
    outside = cluster.fabric.outside(client)
    behind = set()
    for place, each in cluster.elb.balancers.items():
        eni = next(iter(each.enis.values()))
        address = eni.public_ip if outside and eni.public_ip else eni.primary
        for one in each.listeners:
            behind.add(place.removeprefix("lb/"))
            yield place, f"{address}:{one.port}/{one.carries[0]}"
    for service in cluster.services:
        for port in service.ports if service.key not in behind else ():
            if port.node_port:
                end = f"{cluster.address(node)}:{port.node_port}/{port.protocol}"
                yield f"service/{service.key}", end


def told(cell: Cell, rows: Sequence[Row], proofs: Sequence[str]) -> dict[str, str]:
    """A cell's rows as the table of expectations has them."""
    own = {f"k8s-shop-{cell.name}": "k8s-shop-WEB", f"k8s-elb-shop-{cell.name}": "k8s-elb-shop-WEB",
           str(NODE_PORTS[cell]): "NODEPORT"}  # fmt: skip
    inside = next(one for one in rows if one.client == CLIENTS[1])
    outside = next(one for one in rows if one.client == CLIENTS[0])
    said = {name: getattr(inside, name) for name in COLUMNS}
    said = {name: value if isinstance(value, str) else "; ".join(value)
            for name, value in said.items()}  # fmt: skip
    for old, new in own.items():
        said["admits"] = said["admits"].replace(old, new)
    said |= {"outside": outside.verdict, "inside": inside.verdict, "proof": proofs[1]}
    return {axis: getattr(cell, axis) for axis in AXES} | said | {"refusal": ""}


def cells_told(played: Sequence[Played]) -> Iterator[tuple[Cell, dict[str, str]]]:
    """Each cell that was played, as the table of expectations has it."""
    for cell in dict.fromkeys(one.cell for one in played):
        both = sorted((one for one in played if one.cell == cell), key=lambda one: one.row.client)
        yield cell, told(cell, [one.row for one in both], [one.proof for one in both])


def refusals(cells: Sequence[Cell]) -> dict[Cell, str]:
    """Why each cell can't be: what loading it says, or the controller; empty if nothing is said."""
    found, kept = {}, []
    for cell in cells:
        if cell.balancer == "Classic":
            found[cell] = _at_load(cell)
        else:
            kept.append(cell)
    if kept:
        lab = load(kept)
        events = lab.control.controller.events
        unread = [note.partition(": ")[2] for note in lab.notes if "the annotation" in note]
        for cell in kept:
            found[cell] = events[cell.way] if cell.way in events else unread.pop(0)
            if cell.balancer == "NodePort" and (cell.target, cell.preserve) == ("ip", "on"):
                unread.pop(0)  # it has two annotations, each with its note
        assert not unread, unread
    return found


def _at_load(cell: Cell) -> str:
    """The annotation and the reason, where loading refuses a cell with file, line and field."""
    try:
        load([cell])
    except EkslearnError as error:
        found = re.fullmatch(r"\S+\.yaml:\d+: \S+/aws-load-balancer-(\S+: .*)", str(error))
        return found[1] if found else f"without file, line and field: {error}"
    return ""
