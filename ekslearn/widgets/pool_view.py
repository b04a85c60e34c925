"""PoolView: a node's ENIs as rows of slots, and ipamd's decisions, stepped through in time.

Like a walk it is shown as HTML that carries its own player, so it steps with a kernel and
without. Only a view that is asked to go on (``live=True``) is a live view: then Python lets the
pods come and go and the time pass that the buttons ask for.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from ekslearn.draw.display import Renew, folded, show
from ekslearn.draw.shown import count
from ekslearn.errors import EkslearnError
from ekslearn.widgets import pool_film
from ekslearn.widgets.page import module, paragraph, standalone
from ekslearn.widgets.pool_film import Film, Frame, Row, Slot, film

if TYPE_CHECKING:
    from ekslearn.cluster import Cluster
    from ekslearn.vpc.ec2 import Call

LIST = "padding:0;margin:4px 0 10px;list-style:none;display:flex;flex-wrap:wrap;gap:4px"
ITEM = "border:1px solid #6e6e6e;border-radius:5px;padding:2px 7px;font-size:13px"


class PoolView(anywidget.AnyWidget):
    """A film of one node's pool; ``step`` counts its frames from 0."""

    _esm = module("pool_view")
    film_data = traitlets.Dict().tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    wrong = traitlets.Unicode("").tag(sync=True)

    def __init__(self, film: Film, *, live: bool = False) -> None:
        self.film, self.live = film, live
        self._renew: Renew | None = None
        kind = film.cluster.machines[film.node].kind
        self.title = f"The pool of {film.node}"
        self.about = (
            f"{kind.name}: {kind.enis} ENIs with {kind.ipv4_per_eni} addresses each,"
            f" {film.cluster.machines[film.node].max_pods} pods"
        )
        super().__init__(film_data=self._data(), step=len(film.frames) - 1 if live else 0)
        self.on_msg(lambda _, message, __: self._hear(message))

    @traitlets.validate("step")
    def _within(self, proposal: dict[str, Any]) -> int:
        return max(0, min(int(proposal["value"]), len(self.film.frames) - 1))

    @property
    def frames(self) -> list[Frame]:
        """The frames, in order."""
        return self.film.frames

    @property
    def taken(self) -> list[tuple[float, int]]:
        """When the node had how many of the subnet's addresses, for a plot in steps."""
        points = [(frame.time, frame.taken) for frame in self.frames]
        return [*points, (self.frames[-1].until, points[-1][1])]

    @property
    def waits(self) -> list[float]:
        """How long, in seconds, each pod that came has waited for its address, or waits by now."""
        now = self.film.cluster.world.clock
        return [*self.film.waits, *(now - since for since in self.film.asked.values())]

    @property
    def calls(self) -> list[Call]:
        """The EC2 calls that ipamd made."""
        return [call for frame in self.frames for one in frame.decisions for call in one.calls]

    def run(self, line: str) -> None:
        """Let one more thing happen, and show it; EkslearnError for a line that isn't one."""
        before = len(self.frames)
        self.film.run(line)
        with self.hold_sync():
            self.film_data, self.wrong = self._data(), ""
            self.step = min(before, len(self.frames) - 1)

    @property
    def words(self) -> str:
        """Every frame as text, and what each ENI has in the end."""
        film = self.film
        lines = [f"{self.title} ({self.about})"]
        for frame in self.frames:
            lines += pool_film.lines_of(frame, film.began)
        lines += ["in the end:", *(f"  {pool_film.row_words(row)}" for row in self.frames[-1].rows)]
        return "\n".join([*lines, *(f"  pending {each}" for each in self.frames[-1].pending)])

    def fallback(self) -> str:
        """The last frame as plain HTML, for where scripts don't run."""
        frame = self.frames[-1]
        return paragraph(f"{self.title}, {self.about}. {frame_words(frame)}") + "".join(
            f"<p><code>{html.escape(row_title(row))}</code></p><ul style='{LIST}'>"
            + "".join(f"<li style='{ITEM}'>{html.escape(slot.words)}</li>" for slot in row.slots)
            + "</ul>"
            for row in frame.rows
        )

    def html(self) -> str:
        """The film as HTML that plays by itself, starting at the current step."""
        return standalone("pool_view", self.film_data, step=self.step, fallback=self.fallback())

    def __repr__(self) -> str:
        """Short, and the same on every run."""
        return f"<PoolView of {self.film.node}: {count(len(self.frames), 'frame')}>"

    def _ipython_display_(self) -> None:
        view = self if self.live else None
        self._renew = show(self._still(), repr(self), self.words, view=view)

    def _still(self) -> str:
        """What stands here without a kernel."""
        needs = "<p>Letting time pass needs a running kernel: run this cell.</p>" * self.live
        return self.html() + needs + folded(self.words, "The pool as text")

    def _hear(self, message: dict[str, Any]) -> None:
        """Let happen what the browser asks for; every request is answered."""
        try:
            for line in str(message.get("line", ""))[:200].split(";"):
                self.run(line)
        except EkslearnError as error:
            self.wrong = str(error)
        self.send({"serial": message.get("serial")})
        if self._renew:
            self._renew(self._still())

    def _data(self) -> dict[str, Any]:
        """Everything the player needs."""
        settings, names = self.film.ipamd.settings, pool_film.SETTINGS
        return {
            "title": self.title,
            "about": self.about,
            "frames": [frame_data(frame, self.film.began) for frame in self.frames],
            "settings": {name: getattr(settings, names[name]) for name in names},
            "live": self.live,
        }


def row_title(row: Row) -> str:
    """What stands above an ENI's slots."""
    notes = "".join(f", {note}" for note in row.notes)
    return f"{row.name} \N{MIDDLE DOT} device {row.device} \N{MIDDLE DOT} {row.eni}{notes}"


def frame_words(frame: Frame) -> str:
    """A frame as a sentence."""
    return f"{pool_film.when(frame)}: {frame.title}; {pool_film.counts(frame)}"


def frame_data(frame: Frame, began: float) -> dict[str, Any]:
    """A frame as the browser gets it."""
    return {
        "words": f"{pool_film.when(frame)}: {frame.title}",
        "time": round(frame.time, 1),
        "until": round(frame.until, 1),
        "numbers": [[name, frame.numbers[name]] for name in pool_film.COUNTS],
        "pending": list(frame.pending),
        "rows": [
            {"title": row_title(row), "slots": [slot_data(slot) for slot in row.slots]}
            for row in frame.rows
        ],
        "decisions": [
            {
                "head": pool_film.decision_head(one, began),
                "checks": [[check.name, check.holds, check.words] for check in one.checks],
                "did": list(one.did),
                "calls": [pool_film.call_words(call) for call in one.calls],
            }
            for one in frame.decisions
        ],
    }


def slot_data(slot: Slot) -> dict[str, Any]:
    """A slot as the browser gets it: its kind, what is written in it, and its whole phrase."""
    data: dict[str, Any] = {"kind": slot.kind, "address": slot.address, "words": slot.words}
    said = {"assigned": slot.pod, "cooling": f"cooling {slot.left_s:.0f} s", "prefix": slot.words}
    data["said"] = said.get(slot.kind, slot.kind)
    if slot.cells:
        data["cells"] = [slot_data(cell) for cell in slot.cells]
        data["said"] = slot.words.partition(": ")[2]
    return data


def pool_view(
    cluster: Cluster, node: str | None = None, happenings: Iterable[str] = (), *, live: bool = False
) -> PoolView:
    """Watch the pool of ``node`` (the first one) while ``happenings`` come one after another.

    A happening is a line: ``create 3`` (pods), ``create NAMESPACE/POD``, ``delete 2``, ``sleep 30``
    (seconds), ``set WARM_IP_TARGET=2``. All of it comes to pass in a copy of ``cluster``. With
    ``live`` the view has buttons for more of the same, which need a kernel. Raises EkslearnError
    for a node that isn't there and for a line that isn't one.
    """
    name = next(iter(getattr(cluster, "machines", {})), "") if node is None else node
    return PoolView(film(cluster, name, happenings), live=live)
