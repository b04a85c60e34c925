"""Ledger: every way through a load balancer to a Service, header by header, in both directions.

All ways are traced beforehand. Choosing among them and stepping through their headers happens in
the browser: it is shown as HTML that carries its own player, and needs no kernel.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from ekslearn.draw.display import folded, show
from ekslearn.draw.hops import ARROW, Hop
from ekslearn.draw.shown import count
from ekslearn.errors import EkslearnError
from ekslearn.widgets.comparison import Comparison, rule_of
from ekslearn.widgets.modes import CHOICES, LABELS, Modes, Way, some
from ekslearn.widgets.page import module, paragraph, standalone

if TYPE_CHECKING:
    from ekslearn.cluster import Cluster

LEGS = {"request": "there", "reply": "back"}


class Ledger(anywidget.AnyWidget):
    """The ways; ``at`` is the number of the chosen one, from 0."""

    _esm = module("ledger")
    ledger_data = traitlets.Dict().tag(sync=True)
    at = traitlets.Int(0).tag(sync=True)

    def __init__(self, lab: Cluster, source: str, service: str, **chosen: str) -> None:
        self.modes = Modes(lab, source, service)
        self.ways: list[Way] = list(self.modes.ways())
        self.title = f"{source} {ARROW} {service}, through a load balancer"
        super().__init__(ledger_data=data_of(self.title, self.ways), at=0)
        self.at = self.choose(**chosen)

    @traitlets.validate("at")
    def _within(self, proposal: dict[str, Any]) -> int:
        return max(0, min(int(proposal["value"]), len(self.ways) - 1))

    def choose(self, **chosen: str) -> int:
        """Choose a way by some of its values, and return its number; others stay as they are.

        Raises EkslearnError for a value that isn't there.
        """
        wanted = dict(zip(CHOICES, self.way.choice, strict=True)) | chosen
        for name, value in chosen.items():
            if value not in CHOICES.get(name, ()):
                there = ", ".join(map(repr, CHOICES.get(name, CHOICES)))
                raise EkslearnError(f"{name} {value!r} is no choice; there are {there}")
        choices = [way.choice for way in self.ways]
        self.at = choices.index(tuple(wanted.values()))
        return self.at

    def comparison(self) -> Comparison:
        """Every mode on one page, the pod on another node than the first."""
        return Comparison(self.ways, self.modes.node_ports())

    @property
    def way(self) -> Way:
        """The chosen way."""
        return self.ways[self.at]

    @property
    def now(self) -> str:
        """What comes of the chosen way, in a sentence."""
        return summary(self.way)

    @property
    def words(self) -> str:
        """The chosen way's headers, then what comes of every way, a line each."""
        lines = [f"{self.way.name}: {self.now}", *map(line_of, self.way.rows), "", "all ways:"]
        why: dict[str, list[Way]] = {}
        for way in self.ways:
            if way.refused:
                why.setdefault(way.refused, []).append(way)
            else:
                lines.append(f"  {way.name}: {way.short}")
        for said, ways in why.items():
            lines.append(f"  refused, {count(len(ways), 'choice')} such as {ways[0].name}: {said}")
        return "\n".join(lines)

    def fallback(self) -> str:
        """The chosen way as a table, for where scripts don't run."""
        cells = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells_of(hop)) + "</tr>"
            for hop in self.way.rows
        )
        return paragraph(f"{self.way.name}: {self.now}") + f"<table>{cells}</table>"

    def html(self) -> str:
        """The ledger as HTML that works by itself, at the chosen way."""
        return standalone("ledger", self.ledger_data, step=self.at, fallback=self.fallback())

    def __repr__(self) -> str:
        """Short, and the same on every run."""
        return f"<Ledger of {len(self.ways)} ways: {self.title}>"

    def _ipython_display_(self) -> None:
        show(self.html() + folded(self.words, "The ledger as text"), repr(self), self.words)


def summary(way: Way) -> str:
    """What comes of a way, in sentences."""
    if way.row is None:
        return f"Refused: {way.refused}."
    if not way.sees:
        return f"The request is {way.row.verdict}: {way.row.reason}."
    address, _, whose = way.sees.partition(", ")
    reads = f", and can read {way.reads}" if way.reads else ""
    verdict = way.row.verdict
    end = "" if verdict == "delivered" else f" But the {way.row.client}'s view is: {verdict}."
    return f"The pod sees {address}, the address of {whose}{reads}.{end}"


def cells_of(hop: Hop) -> tuple[str, ...]:
    """One header as cells of a table."""
    return LEGS[hop.leg], hop.wire, hop.src, hop.dst, hop.who


def line_of(hop: Hop) -> str:
    """One header as text."""
    who = f"; {hop.who}" if hop.who else ""
    return f"  {LEGS[hop.leg]}  {hop.src} -> {hop.dst}  {hop.wire}{who}"


def told(hop: Hop) -> str:
    """One header in a sentence."""
    names = {"src": "source", "dst": "destination"}
    changed = " and ".join(names[name] for name in hop.changed)
    new = f" New: {changed}, by {hop.who}." if changed else ""
    return f"{hop.wire}: {hop.src} {ARROW} {hop.dst}.{new}"


def facts(way: Way) -> list[list[str]]:
    """What to take home from a way: name and value."""
    if way.row is None:
        return []
    pairs = {
        "The pod sees": way.sees or "nothing",
        "It can read": way.reads or ("nothing of the client" if way.sees else ""),
        "DNAT by": some(way.row.dnat),
        "SNAT by": some(way.row.snat),
        "Nodes passed": some(way.row.nodes),
        "Admitted by": "; ".join(map(rule_of, way.row.admits)),
        "Targets": "; ".join(way.targets) or "none",
    }
    return [[name, value] for name, value in pairs.items() if value]


def data_of(title: str, ways: list[Way]) -> dict[str, Any]:
    """The ledger as the browser gets it: equal ways once."""
    pages: list[dict[str, Any]] = []
    places: list[int] = []
    for way in ways:
        page = {
            "summary": summary(way), "facts": facts(way),
            "rows": [{"cells": cells_of(hop), "changed": hop.changed, "told": told(hop)}
                     for hop in way.rows],
        }  # fmt: skip
        if page not in pages:
            pages.append(page)
        places.append(pages.index(page))
    return {
        "title": title, "label": f"Headers: {title}",
        "choices": [{"name": name, "label": LABELS[name], "values": list(values.items())}
                    for name, values in CHOICES.items()],
        "pages": pages, "ways": places,
        "heads": ["", "where", "source", "destination", "changed by"],
    }  # fmt: skip


def ledger(
    lab: Cluster, source: str = "browser", service: str = "shop/web", **chosen: str
) -> Ledger:
    """See every header of a connection from outside to a Service, for each kind of balancer.

    ``chosen`` is where to begin: balancer "alb", "nlb" or "clb"; targets "instance" or "ip";
    policy "Cluster" or "Local"; preserve "", "true" or "false"; pod "here", "far" or "none".
    Raises EkslearnError for what isn't there.
    """
    return Ledger(lab, source, service, **chosen)
