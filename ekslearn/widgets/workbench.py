"""Workbench: a walk and a terminal on one lab; every command is followed by a new walk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

from ekslearn.draw.display import show
from ekslearn.widgets.shell import Shell
from ekslearn.widgets.walk import PacketWalk, packet_walk

if TYPE_CHECKING:
    from ekslearn.cluster import Lab


class Workbench(ipywidgets.VBox):  # type: ignore[misc]
    """``walk`` above ``shell``; both are live, so ``walk.step = 3`` moves what is on the page."""

    def __init__(
        self,
        lab: Lab,
        source: str,
        destination: str,
        *,
        place: str | None = None,
        width: float = 540,
    ) -> None:
        self.walk: PacketWalk = packet_walk(lab, source, destination, width=width)
        start = source.partition(":")[0] if place is None else place
        self.shell = Shell(lab, start, follow=[self.walk])
        self.shell.compact = True
        super().__init__(children=[self.walk, self.shell])

    @property
    def words(self) -> str:
        """The walk in words, then the terminal."""
        return "\n".join(part for part in (self.walk.words, self.shell.words) if part)

    def __repr__(self) -> str:
        """Short, and the same on every run."""
        return f"<Workbench {self.walk.title}>"

    def _ipython_display_(self) -> None:
        renew = show(self._still(), repr(self), self.walk.words, view=self)
        self.shell.kept_by(renew, self._still)

    def _still(self) -> str:
        """What stands here without a kernel: the walk, which steps, and the terminal's text."""
        return self.walk.html() + self.walk.told() + self.shell.fallback()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self)}


def workbench(
    lab: Lab, source: str, destination: str, *, place: str | None = None, width: float = 540
) -> Workbench:
    """Step through a probe and type commands; after each the probe is sent again, in a copy."""
    return Workbench(lab, source, destination, place=place, width=width)
