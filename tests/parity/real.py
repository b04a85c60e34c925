"""Command sequences on the real kernel: namespaces in a private world, played fast.

A process of its own (it must leave its caller's namespaces) plays a whole sequence at a time and
tells what each command printed and what the listings said after it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from ekslearn.kernel import space
from ekslearn.kernel.world import PRIVATE, USER

PLACES = ("red", "blue", "green")
# One `ip -batch` prints them all; the switches are read from /proc.
LISTINGS = ("addr", "link", "route show table all", "rule", "neigh")
SWITCHES = (
    "accept_local", "accept_redirects", "arp_ignore", "forwarding", "proxy_arp", "route_localnet",
    "rp_filter", "send_redirects", "shared_media", "src_valid_mark",
)  # fmt: skip
OTHER_SWITCHES = ("ip_forward",)

Step = tuple[str, tuple[str, ...]]


def seen_after(step: Step, last: bool) -> Sequence[str]:
    """The namespaces to list after a step: those it can have changed."""
    place, words = step
    line = " ".join(words)
    wide = last or any(word in line for word in ("link", " l ", " li ", "netns", "-n"))
    return PLACES if wide else (place,)


class Real:
    """A context manager; ``play`` runs a sequence in fresh namespaces."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Real:
        if self._start([*PRIVATE, *USER]) or (os.geteuid() == 0 and self._start(PRIVATE)):
            return self
        raise OSError("this system allows no private network namespaces")

    def _start(self, unshare: list[str]) -> bool:
        path = os.pathsep.join(word for word in sys.path if word) or "."
        self._process = subprocess.Popen(
            [*unshare, "--", sys.executable, "-m", "tests.parity.real"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"PATH": space.TOOLS, "PYTHONPATH": os.getcwd() + os.pathsep + path},
        )  # fmt: skip
        assert self._process.stdout
        return bool(self._process.stdout.readline())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process and self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def play(self, steps: Sequence[Step], option: str = "", *, listings: bool = True) -> list[Any]:
        """Each step's [stdout, stderr, status, {place: listings}]."""
        assert self._process and self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([list(steps), option, listings]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise OSError("the private world ended")
        found: list[Any] = json.loads(answer)
        return found


# The process inside


def _switches() -> str:
    lines = []
    root = "/proc/sys/net/ipv4"
    for key in OTHER_SWITCHES:
        with open(f"{root}/{key}", encoding="ascii") as file:
            lines.append(f"{key} {file.read().strip()}")
    for interface in sorted(os.listdir(f"{root}/conf")):
        for key in SWITCHES:
            with open(f"{root}/conf/{interface}/{key}", encoding="ascii") as file:
                lines.append(f"{interface}.{key} {file.read().strip()}")
    return "\n".join(lines) + "\n"


def _listing(place: str, option: str, batch: str) -> str:
    with space.entered(place):
        out, err, status = space.spawn_here(["ip", *option.split(), "-batch", batch])
        return out + err + ("" if status == 0 else f"status {status}\n") + _switches()


def _play(steps: list[Step], option: str, listings: bool, batch: str) -> list[Any]:
    found: list[Any] = []
    for place in PLACES:
        space.add(place)
    try:
        for number, (place, words) in enumerate(steps):
            done = space.spawn(place, words)
            space.settle(PLACES)
            last = number == len(steps) - 1
            places = seen_after((place, tuple(words)), last) if listings else ()
            shown = {each: _listing(each, option, batch) for each in places}
            found.append([*done, shown])
    finally:
        for place in PLACES:
            space.remove(place)
    return found


def main() -> None:
    """Serve sequences, one JSON a line, until the pipe closes."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True, env=space.ENVIRONMENT)
    batch = "/run/listings"
    with open(batch, "w", encoding="ascii") as file:
        file.write("".join(line + "\n" for line in LISTINGS))
    tempfile.tempdir = "/run"
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_play(*json.loads(line), batch)), flush=True)


if __name__ == "__main__":
    main()
