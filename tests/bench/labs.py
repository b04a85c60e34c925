"""Traces, labs and imports: how long they take, and how much memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from ipaddress import IPv4Address
from pathlib import Path

import ekslearn
from tests.bench.figures import Row, in_turn, seconds
from tests.bench.inside import KernelBench

TRACES = [("two-rooms", "red", "blue"), ("one-node", "pod-a", "pod-b"),
          ("two-enis", "pod-a", "peer")]  # fmt: skip


def against_ping(
    scenario: str, source: str, target: str, repeats: int, world: KernelBench
) -> list[Row]:
    """A traced request and reply by one ``ping -c1`` process in the same namespaces.

    Its verdict and all that was decided are there; then the same with every step put into words,
    which a reader pays for once.
    """
    lab = ekslearn.load(scenario)
    world.build(lab)
    address = lab.address(target)
    assert lab.trace(source, target).verdict == "delivered", (scenario, source, target)
    made, read = (
        in_turn(repeats, lambda act=act: seconds(act),
                lambda: float(world.ask("ping", source, address)))
        for act in (lambda: lab.trace(source, target), lambda: lab.trace(source, target).events)
    )  # fmt: skip
    what, against = f"trace {source} -> {target} in {scenario}", "one ping -c1 process"
    return [
        Row(what=what, ours=made[0], against=against, theirs=made[1], aim="faster"),
        Row(what=f"{what}, in words", ours=read[0], against=against, theirs=read[1]),
    ]


def unexplained(scenario: str, source: str, target: str, repeats: int) -> Row:
    """The same probe in the model when nobody asks why."""
    lab = ekslearn.load(scenario)
    sockets, address = lab.namespace(source).sockets, IPv4Address(lab.address(target))
    sockets.ask("icmp", address)
    values = [seconds(lambda: sockets.ask("icmp", address)) for _ in range(repeats)]
    return Row(what=f"the same probe, not traced, in {scenario}", ours=values)


def building(scenario: str, repeats: int, world: KernelBench) -> list[Row]:
    """Loading a scenario by building it on the kernel, and copying the lab."""
    lab = ekslearn.load(scenario)
    ours, theirs = in_turn(
        repeats,
        lambda: seconds(lambda: ekslearn.load(scenario)),
        lambda: seconds(lambda: world.build(lab)),
    )
    copies = [seconds(lab.copy) for _ in range(repeats)]
    return [
        Row(what=f"load {scenario} ({len(lab.lines)} lines)", ours=ours,
            against="the same lines on the kernel", theirs=theirs),
        Row(what=f"copy() of {scenario}", ours=copies),
    ]  # fmt: skip


def process(*words: str) -> str:
    """What a fresh Python prints."""
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=True
    )  # fmt: skip
    return done.stdout


IMPORTS = (("import ekslearn", "import networkx"), ("import ekslearn", "pass"),
           ("import ekslearn.cluster", "import networkx"))  # fmt: skip


def importing(repeats: int, pairs: tuple[tuple[str, str], ...] = IMPORTS) -> list[Row]:
    """``import ekslearn`` by ``import networkx`` and by no import, each in a fresh process."""
    found = []
    for what, other in pairs:
        ours, theirs = in_turn(
            repeats,
            lambda what=what: seconds(lambda: process("-c", what)),
            lambda other=other: seconds(lambda: process("-c", other)),
        )
        found.append(Row(what=f"python -c '{what}'", ours=ours,
                         against=f"python -c '{other}'", theirs=theirs))  # fmt: skip
    return found


def peak() -> int:
    """The most bytes this process ever held in memory, since it became this program.

    (getrusage's maximum begins with that of the program which started it.)
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def memory(scenario: str, source: str, target: str) -> dict[str, int]:
    """Bytes in this process: its peak so far, and the peak of what loading and tracing allocate."""
    start = peak()
    lab = ekslearn.load(scenario)
    loaded = peak()
    lab.trace(source, target)
    traced = peak()
    tracemalloc.start()
    again = ekslearn.load(scenario)
    building = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    again.trace(source, target)
    tracing = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return {"peak with ekslearn imported": start, "peak with the lab loaded": loaded,
            "peak after a trace": traced, "allocated at most by loading": building,
            "allocated at most by a trace": tracing}  # fmt: skip


def remembering(scenario: str, source: str, target: str, repeats: int) -> list[Row]:
    """The memory of a fresh process that loads and traces, by one that imports networkx."""
    ours = [json.loads(process("-m", "tests.bench.labs", scenario, source, target))
            for _ in range(repeats)]  # fmt: skip
    words = "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    other, bare = (
        [float(process("-c", f"{first}; {words}")) * 1024 for _ in range(repeats)]
        for first in ("import networkx", "pass")
    )
    found = []
    for name in ours[0]:
        whole = name.startswith("peak")
        found.append(Row(
            what=f"{name}: {scenario}" if "import" not in name else name,
            ours=[float(each[name]) for each in ours],
            against="peak with networkx imported" if whole else "",
            theirs=other if whole else [], unit="MiB",
        ))  # fmt: skip
    return [*found, Row(what="peak of a bare Python", ours=bare, unit="MiB")]


def rows(repeats: int) -> list[Row]:
    """Everything about labs."""
    found = []
    with KernelBench() as world:
        for scenario, source, target in TRACES:
            found += against_ping(scenario, source, target, repeats, world)
            found.append(unexplained(scenario, source, target, repeats))
        found += building("one-node", max(repeats // 3, 1), world)
        found += building("two-enis", max(repeats // 3, 1), world)
    found += importing(max(repeats // 2, 1))
    return [*found, *remembering("two-enis", "pod-a", "peer", max(repeats // 5, 1))]


if __name__ == "__main__":
    print(json.dumps(memory(*sys.argv[1:])))
