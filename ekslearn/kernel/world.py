"""A private world on this machine's kernel: namespaces nobody else sees, gone with their owner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import ekslearn
from ekslearn.cluster import heredoc
from ekslearn.errors import EkslearnError
from ekslearn.kernel.balancer import Program, balancers
from ekslearn.kernel.frame import Packet
from ekslearn.kernel.probe import Probe, Seen
from ekslearn.kernel.space import TOOLS
from ekslearn.kernel.wiring import argv, commands, netns, own_command, spaces
from ekslearn.tools import Done

if TYPE_CHECKING:
    from ekslearn.cluster import Lab

PRIVATE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
USER = ["--user", "--map-root-user"]
FORBIDDEN = (
    "this system allows no private network namespaces ({why}); allow them with"
    " `sysctl -w kernel.unprivileged_userns_clone=1` (Debian),"
    " `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu) or"
    " `sysctl -w user.max_user_namespaces=10000`, or run as root"
)


class World:
    """A context manager: inside it, ``build`` a lab, ``run`` commands and send ``probe``s.

    It needs no root. Nothing of it is seen outside, and nothing is left of it when the block
    ends or the calling process dies, however that happens. Raises ``EkslearnError`` where the
    system forbids it.
    """

    program = "ekslearn.kernel.inside"  # the module that serves inside

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> World:
        why = self._start([*PRIVATE, *USER])
        if why and os.geteuid() == 0:  # root needs no user namespace
            why = self._start(PRIVATE)
        if why.startswith(("unshare:", "mount:")) and "failed to execute" not in why:
            raise EkslearnError(FORBIDDEN.format(why=why))
        if why:
            raise EkslearnError(f"the private world didn't start: {why}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _start(self, unshare: list[str]) -> str:
        """Start the process inside; return why that failed, or nothing."""
        own = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net")]
        path = {"PATH": TOOLS, "PYTHONPATH": str(Path(ekslearn.__file__).parents[1])}
        try:
            self._process = subprocess.Popen(
                [*unshare, "--", sys.executable, "-m", self.program, *own],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, env=path,
            )  # fmt: skip
        except FileNotFoundError:
            return "unshare: not found; it is part of util-linux"
        assert self._process.stdout and self._process.stderr
        if self._process.stdout.readline():
            return ""
        why = self._process.stderr.read().strip().rpartition("\n")[2]
        self._stop()
        return why or "unshare: no word why"

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process:
            assert process.stdin and process.stdout and process.stderr
            process.stdin.close()  # the world ends when this pipe does
            process.wait()
            process.stdout.close()
            process.stderr.close()

    def _ask(self, name: str, *arguments: object) -> Any:
        if self._process is None:
            raise EkslearnError("a World is used inside its `with` block only")
        assert self._process.stdin and self._process.stdout and self._process.stderr
        try:
            self._process.stdin.write(json.dumps([name, arguments]) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            why = self._process.stderr.read().strip().rpartition("\n")[2]
            self._stop()
            raise EkslearnError(f"the private world ended while it was asked to {name}: {why}")
        found = json.loads(answer)
        if "error" in found:
            raise EkslearnError(f"the kernel refused to {name}: {found['error']}")
        return found["result"]

    def build(self, lab: Lab, *, strict: bool = True) -> list[Done]:
        """Make the lab's namespaces, run its lines in order, open its listeners.

        Replaces whatever was built before. Returns what each line gave; ``strict`` raises
        ``EkslearnError`` for a line that fails.
        """
        done = self._build(lab)
        if strict:
            for line, one in zip(lab.lines, done, strict=True):
                if one.status:
                    raise EkslearnError(f"the kernel refused {line!r}: {one.stderr.strip()}")
        self._ask("settle")
        return done

    def _build(self, lab: Lab, more: Sequence[str] = ()) -> list[Done]:
        """What each line gave; ``more`` lines, and what AWS does, have to succeed."""
        wanted = commands(lab) + [own_command(lab, None, line) for line in more]
        asked = [(one.namespace, one.words, one.text) for one in wanted]
        listeners = [(place, netns(place), where) for place, where in lab.listeners()]
        found = [Done(*one) for one in self._ask("build", spaces(lab), asked, listeners)]
        for command, done in zip(wanted, found, strict=True):
            if command.line is None and done.status:
                words = " ".join(command.words)
                raise EkslearnError(f"{command.namespace}: {words!r} failed: {done.stderr.strip()}")
        proxies = [(netns(each.place), str(eni.primary), one.port) for each in balancers(lab)
                   if each.kind != "nlb" for eni in each.enis.values()
                   for one in each.listeners]  # fmt: skip
        self._ask("balance", proxies)
        return [done for one, done in zip(wanted, found, strict=True) if one.line is not None]

    def steer(self, programs: Sequence[Program]) -> None:
        """Make balancers do what the model's did; raise ``EkslearnError`` if they can't."""
        asked = [(netns(place), words, text) for place, words, text in programs]
        for done in self._ask("steer", asked) if asked else ():
            if done[2]:
                raise EkslearnError(f"a load balancer: {done[1].strip()}")

    def run(self, place: str, command: str) -> Done:
        """Run a real command in a place; a here-document behind it is what it reads."""
        words, text = heredoc(command)
        return Done(*self._ask("run", netns(place), argv(str(words)), text))

    def probe(self, probes: Sequence[Probe]) -> list[Seen]:
        """Send the probes at once and return what came of each, in their order."""
        found = self._ask("probe", [asdict(one) for one in probes])
        return [_seen(one) for one in found]

    def quickly(
        self, lab: Lab, groups: Sequence[tuple[float, Sequence[Probe]]], more: Sequence[str] = ()
    ) -> tuple[list[Done], list[list[Seen]]]:
        """Build a lab and send groups of probes, one group after the other, all in two requests.

        Each group is (seconds to wait before it, its probes); ``more`` lines are run last.
        Nothing settles between two lines, as in a script. Returns what each line gave, and what
        came of each probe.
        """
        done = self._build(lab, more)
        asked = [(wait_s, [asdict(one) for one in group]) for wait_s, group in groups]
        found = self._ask("rounds", asked)
        return done, [[_seen(one) for one in group] for group in found]


def _seen(found: dict[str, Any]) -> Seen:
    packets = []
    for namespace, interface, direction, fields in found["packets"]:
        icmp = tuple(fields["icmp"]) if fields["icmp"] else None
        packets.append((namespace, interface, direction, Packet(**{**fields, "icmp": icmp})))
    return Seen(found["outcome"], found["answer"], packets)
