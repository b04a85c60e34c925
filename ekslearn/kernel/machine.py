"""Build a lab on this machine itself, as root, where other programs see it; and remove it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import ekslearn
from ekslearn.errors import EkslearnError
from ekslearn.kernel import space
from ekslearn.kernel.wiring import netns, script, spaces

if TYPE_CHECKING:
    from ekslearn.cluster import Lab

RECORDS = Path("/run/ekslearn")  # one file a lab: what `up` made, so that `down` removes no more


def up(lab: Lab) -> None:
    """Run the lab's script, then start its listeners, one process for all.

    Raises ``EkslearnError`` without root, if one of its namespaces exists already, or if the
    kernel refuses a line or a listener; then nothing of it is left.
    """
    _need_root("up")
    if _record(lab).exists():
        raise EkslearnError(f"{lab.name} is up already; `ekslearn kernel down` removes it")
    names = spaces(lab)
    for name in names:
        if (space.FOLDER / name).exists():
            raise EkslearnError(
                f"network namespace {name} exists already; if it is"
                f" yours to remove: `ip netns del {name}`"
            )
    RECORDS.mkdir(exist_ok=True)
    _record(lab).write_text(json.dumps({"namespaces": names}), encoding="utf-8")
    try:
        built = subprocess.run(
            ["sh"], input=script(lab), env=space.ENVIRONMENT, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if built.returncode:
            raise EkslearnError(f"the kernel refused {lab.name}: {built.stderr.strip()}")
        started = {"pid": (pid := _listen(lab)), "start": _start_time(pid), "namespaces": names}
        _record(lab).write_text(json.dumps(started), encoding="utf-8")
    except BaseException:
        down(lab)
        raise


def down(lab: Lab) -> None:
    """Stop the listeners and remove the namespaces that ``up`` made, and nothing else.

    Raises ``EkslearnError`` without root, or if the lab isn't up.
    """
    _need_root("down")
    try:
        made = json.loads(_record(lab).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EkslearnError(f"{lab.name} isn't up: no {_record(lab)}") from None
    pid = made.get("pid")
    if pid and _start_time(pid) == made["start"]:  # a number may belong to another process by now
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    for name in made["namespaces"]:
        if (space.FOLDER / name).exists():
            space.remove(name)
    _record(lab).unlink()


def _need_root(verb: str) -> None:
    if os.geteuid() != 0:
        raise EkslearnError(
            f"`kernel {verb}` changes this machine and needs root; `kernel verify` does not"
        )


def _record(lab: Lab) -> Path:
    return RECORDS / f"{netns(lab.name)}.json"


def _start_time(pid: int) -> str:
    """When a process began, in ticks since boot (proc(5), field 22); empty if there is none."""
    with suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        return stat.rpartition(")")[2].split()[19]
    return ""


def _listen(lab: Lab) -> int:
    """Start the process that listens; it says ``ready``, or what went wrong."""
    wanted = [(place, netns(place), where) for place, where in lab.listeners()]
    root = str(Path(ekslearn.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "ekslearn.kernel.listener"], text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/",
        env={**space.ENVIRONMENT, "PYTHONPATH": root},
    )  # fmt: skip
    assert process.stdin and process.stdout
    with process.stdin, process.stdout:
        process.stdin.write(json.dumps(wanted) + "\n")
        process.stdin.flush()
        said = process.stdout.readline().strip()
    if said != "ready":
        process.wait()
        raise EkslearnError(f"{lab.name} can't listen: {said or 'the listener ended'}")
    process.returncode = 0  # it outlives us on purpose: no warning that it still runs
    return process.pid
