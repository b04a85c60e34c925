"""What all namespaces of a lab share, and how they tell what they decide."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakMethod

if TYPE_CHECKING:
    from .link import Link
    from .namespace import NetworkNamespace
    from .packet import Packet


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing a namespace decided about a packet: at which stage, what, and by which row.

    ``row`` is a Lookup, a Walk, a Neighbor, a Connection, an Arp message, or None where no table
    decided; where something outside the kernel did, an object with ``text`` and ``passed_over``.
    """

    namespace: NetworkNamespace
    stage: str
    verdict: str
    row: object
    packet: Packet | None
    mark: int = 0
    lost: bool = False


class Recorder(Protocol):
    """Whoever wants to know: called for each packet on a wire and each decision, in order."""

    def sighting(self, namespace: NetworkNamespace, link: Link, way: str, packet: Packet) -> None:
        """A packet passed ``link``, ``way`` "in" or "out"."""

    def decision(self, decision: Decision) -> None:
        """Something was decided."""


class World:
    """What all namespaces of a lab share: the order of events, the clock and the dice.

    ``clock`` is in seconds and moves only when somebody moves it.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.clock = 0.0
        self.recorder: Recorder | None = None
        self.namespaces: dict[str, NetworkNamespace] = {}
        self._before: list[WeakMethod[Callable[[], None]]] = []
        self._events: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._quiet: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_before": []}

    def before_change(self, call: Callable[[], None]) -> None:
        """Call a method, if its object is still there, before more than packets change things."""
        self._before.append(WeakMethod(call))

    def changing(self) -> None:
        """A command is about to run, or a link to come or go."""
        waiting, self._before = self._before, []
        for each in waiting:
            if call := each():
                call()

    def later(self, call: Callable[..., None], *arguments: object) -> None:
        """Do ``call`` after what is under way."""
        self._events.append((call, arguments))

    def when_quiet(self, call: Callable[..., None], *arguments: object) -> None:
        """Do ``call`` once nothing else happens: how the model waits out a time limit."""
        self._quiet.append((call, arguments))

    def settle(self) -> None:
        """Let everything happen that is going to."""
        while queue := self._events or self._quiet:
            call, arguments = queue.popleft()
            call(*arguments)
