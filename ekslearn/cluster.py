"""Lab: bare network namespaces on one machine, wired by command lines, ready to be asked."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from . import iptables as iptables  # adds its commands to the tools
from . import tools
from .errors import EkslearnError, KernelError
from .linux import NetworkNamespace, World
from .tools import Done

if TYPE_CHECKING:
    from .trace import Trace

End = tuple[str, str]
# Listings of `ip`: what they ask changes nothing, even where they print nothing.
READS = re.compile(r"ip(\s+-\S+)*\s+\S+(\s+(sh|sho|show|l|li|lis|list|lst|g|ge|get)\b.*)?")


class Lab:
    """Some network namespaces, each a place to run commands in and to ask from.

    The wiring is text: lines ``PLACE$ COMMAND`` are the only way to build or to break anything.
    """

    def __init__(self, name: str, places: Sequence[str], *, seed: int = 0) -> None:
        self.name = name
        self.lines: list[str] = []
        self._listeners: list[tuple[str, str]] = []
        self._world = World(seed)
        for place in places:
            NetworkNamespace(self._world, place)

    @property
    def places(self) -> tuple[str, ...]:
        """The names of the namespaces, in the order they were given."""
        return tuple(self._world.namespaces)

    def namespace(self, place: str) -> NetworkNamespace:
        """The namespace called ``place``; EkslearnError if there is none."""
        try:
            return self._world.namespaces[place]
        except KeyError:
            there = ", ".join(self.places)
            raise EkslearnError(
                f"there is no place {place!r} in {self.name}; there are {there}"
            ) from None

    def run(self, place: str, command: str | Sequence[str]) -> Done:
        """Run one command line in a place as the real tool would; note a change in ``lines``."""
        namespace = self.namespace(place)
        self._world.changing()
        done = tools.run(namespace, command)
        text = command if isinstance(command, str) else " ".join(command)
        quiet = not done.stdout or (text.startswith("sysctl") and "=" in text)
        if done.status == 0 and quiet and text.strip() and not READS.fullmatch(text.strip()):
            self.lines.append(f"{place}$ {text}")
        return done

    def line(self, line: str) -> Done:
        """Run one line ``PLACE$ COMMAND``; EkslearnError if it isn't one."""
        place, dollar, command = line.partition("$")
        if not dollar:
            raise EkslearnError(f"{line!r} isn't a line of the form PLACE$ COMMAND")
        return self.run(place.strip(), command.strip())

    def listen(self, place: str, socket: str, *, process: str = "") -> None:
        """Let a process in ``place`` listen on ``socket`` ("0.0.0.0:80/tcp").

        Raises EkslearnError: the text isn't a socket, or the kernel refuses it ("Address already
        in use": the containers of one pod share their ports).
        """
        address, port, protocol = socket_of(socket)
        try:
            self.namespace(place).sockets.listen(address, port, protocol, process)
        except KernelError as error:
            raise EkslearnError(f"bind {socket} in {place}: {error}") from error
        self._listeners.append((place, socket.strip()))

    def listeners(self) -> list[tuple[str, str]]:
        """Who listens: (place, "0.0.0.0:80/tcp") pairs, in the order they were made."""
        return list(self._listeners)

    def address(self, place: str) -> str:
        """The first address of a place that isn't on ``lo``; EkslearnError if it has none."""
        for link in self.namespace(place).links.values():
            if link.kind != "loopback" and link.addresses:
                return str(link.addresses[0].ip)
        raise EkslearnError(f"{place} has no address but those on lo")

    def links(self) -> list[tuple[End, End]]:
        """The two ends of every veth, as (place, interface) pairs, sorted."""
        pairs = set()
        for namespace in self._world.namespaces.values():
            for link in namespace.links.values():
                if link.peer:
                    ends = sorted((each.namespace.name, each.name) for each in (link, link.peer))
                    pairs.add((ends[0], ends[1]))
        return sorted(pairs)

    def trace(self, source: str, destination: str) -> Trace:
        """Send one probe from ``source`` to ``destination`` and follow it and what answers it.

        A probe, not a query: it leaves learned neighbors and connections behind.
        """
        from .trace import follow

        return follow(self, source, destination)

    def copy(self) -> Lab:
        """An independent lab in the same state: a scratch state for pictures and what-ifs."""
        twin: Lab = pickle.loads(pickle.dumps(self))
        return twin

    def sleep(self, seconds: float) -> None:
        """Let time pass in the lab."""
        self._world.clock += seconds

    @property
    def world(self) -> World:
        """What the namespaces share: the order of events, the clock and the dice."""
        return self._world


def socket_of(text: str) -> tuple[IPv4Address, int, str]:
    """Read "0.0.0.0:80/tcp"; EkslearnError if it isn't a socket."""
    found = re.fullmatch(r"([0-9.]+):([0-9]+)(?:/(tcp|udp))?", text.strip())
    try:
        if found and 0 < int(found[2]) < 65536:
            return IPv4Address(found[1]), int(found[2]), found[3] or "tcp"
    except ValueError:
        pass
    raise EkslearnError(f"{text!r} isn't a socket such as 0.0.0.0:80/tcp")
