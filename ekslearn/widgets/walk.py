"""PacketWalk: a packet moves over the drawn topology, step by step, and every step says why.

How it is shown, and why. A widget view needs a kernel that still holds the widget: in a saved
notebook JupyterLab prints "model not found" instead. So a walk that stands alone is shown as HTML
that carries its own player: it steps with a kernel and without, in JupyterLab, Notebook and
exported pages, with the network off. Where a notebook isn't trusted yet, scripts are taken out
and what is left is the picture with its words. Only a walk that follows a shell is shown as a
live view, for there Python has to send it new steps. Stepping never asks Python for anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from ekslearn.draw import Drawing, describe, draw_lab
from ekslearn.draw.display import folded, show
from ekslearn.draw.shown import count
from ekslearn.draw.words import verdict
from ekslearn.errors import EkslearnError
from ekslearn.widgets.page import module, paragraph, standalone
from ekslearn.widgets.story import lines_of, walk_data

if TYPE_CHECKING:
    from ekslearn.cluster import Lab
    from ekslearn.trace import Trace


class PacketWalk(anywidget.AnyWidget):
    """A request and its reply as stops one can step through; ``step`` counts from 0."""

    _esm = module("packet_walk")
    walk = traitlets.Dict().tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)

    def __init__(
        self, lab: Lab, trace: Trace, source: str, destination: str, *, width: float = 540
    ) -> None:
        self.trace, self.source, self.destination, self.width = trace, source, destination, width
        self.title = f"{source} \N{RIGHTWARDS ARROW} {destination}"
        self.drawing: Drawing = draw_lab(lab, width=width, show=met(trace))
        super().__init__(walk=walk_data(trace, self.drawing, self.title))

    @traitlets.validate("step")
    def _within(self, proposal: dict[str, Any]) -> int:
        return max(0, min(int(proposal["value"]), len(self.stops) - 1))

    @property
    def stops(self) -> list[dict[str, Any]]:
        """The stops, as the browser has them."""
        stops: list[dict[str, Any]] = self.walk.get("stops", [{}])
        return stops

    @property
    def now(self) -> str:
        """The sentence of the current stop."""
        words: str = self.stops[self.step]["words"]
        return words

    @property
    def words(self) -> str:
        """The whole walk, one line per event."""
        return "\n".join(lines_of(self.trace))

    def renew(self, lab: Lab, trace: Trace) -> None:
        """Show another trace; every place stays where it was drawn."""
        self.trace = trace
        shown, places = self.drawing.layout.boxes, met(trace)
        words = describe(lab, show=[p for p in self.drawing.named if p in lab.places])
        if words != self.drawing.words or not shown.keys() >= set(places):
            # a route that goes isn't in the picture; a place that a packet comes to has to be
            self.drawing = draw_lab(lab, width=self.width, like=self.drawing, show=places)
        data = walk_data(trace, self.drawing, self.title)
        with self.hold_sync():
            self.step = min(self.step, len(data["stops"]) - 1)
            self.walk = data

    def follow(self, lab: Lab) -> str:
        """Send the probe again, in a copy of ``lab`` as it is now; return how it ended."""
        try:
            self.renew(lab, lab.copy().trace(self.source, self.destination))
        except EkslearnError as error:
            return f"{self.title}: no probe could be sent: {error}"
        return f"{self.title}: {verdict(self.trace)}"

    def html(self) -> str:
        """The walk as HTML that plays by itself, starting at the current step."""
        return standalone(
            "packet_walk",
            self.walk,
            step=self.step,
            fallback=(
                self.drawing.img()
                + paragraph(
                    "Run this cell, or open the exported page, to step"
                    " through the walk; its words stand below."
                )
            ),
        )

    def told(self) -> str:
        """Its words, to be opened under the player."""
        return folded(self.words, f"The walk as text ({count(len(self.trace.events), 'step')})")

    def save(self, path: str | Path) -> None:
        """Write a page that plays this walk with no kernel and no network."""
        Path(path).write_text(
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>{self.title}</title><body>{self.html()}</body></html>\n",
            encoding="utf-8",
        )

    def __repr__(self) -> str:
        """Short, and the same on every run."""
        return f"<PacketWalk {self.title}: {len(self.stops)} stops>"

    def _ipython_display_(self) -> None:
        show(self.html() + self.told(), repr(self), self.words)


def met(trace: Trace) -> list[str]:
    """The places that a trace tells of."""
    return list(dict.fromkeys(event.place for event in trace.events))


def packet_walk(
    lab: Lab, source: str, destination: str, *, trace: Trace | None = None, width: float = 540
) -> PacketWalk:
    """Step through one probe from ``source`` to ``destination`` and what comes back.

    The probe is sent in a copy of ``lab``: a picture must not change what it shows. Give a
    ``trace`` to walk through one that has been taken already. Raises EkslearnError for a source
    or destination that doesn't exist.
    """
    found = lab.copy().trace(source, destination) if trace is None else trace
    return PacketWalk(lab, found, source, destination, width=width)
