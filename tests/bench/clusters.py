"""How building and asking a cluster grows: from 10 to 1,000 nodes of 30 pods each.

``python -m tests.bench.clusters [NODES ...]``, the end of ``make bench``, prints time, memory and
the exponent of growth, and draws them (build/clusters.svg). Each size is measured in a process of
its own, so that memory is its own too; beside it the same process adds up as many dictionary
entries as there are lines, so that a slow machine shows in both.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ekslearn.cluster import Cluster
from ekslearn.cni.settings import read
from ekslearn.kubernetes import Container, Pod
from ekslearn.vpc.instance import instance_type
from ekslearn.vpc.model import Vpc
from ekslearn.vpc.subnet import Subnet

SIZES = (10, 32, 100, 316, 1000)
PODS = 30
KIND = "m5.xlarge"  # 4 ENIs of 14 addresses for pods
CIDRS = tuple(f"10.{n}.0.0/16" for n in range(3))
CONTAINERS = (Container(name="web", ports=((80, "tcp"),)),)


@dataclass(frozen=True, slots=True)
class Size:
    """One cluster: its nodes and lines; seconds of CPU to build it, to trace in it; peak MiB."""

    nodes: int
    lines: int
    build_s: float
    trace_s: float
    mib: float
    yardstick_s: float


def build(nodes: int) -> Cluster:
    """A cluster of so many nodes with 30 pods each, its pools at rest."""
    vpc = Vpc(CIDRS)
    for n, cidr in enumerate(CIDRS):
        vpc.add_subnet(Subnet(f"private-{n}", cidr, "us-east-1a"))
    made = Cluster("big", vpc, read({}), connmark="iptables")
    for n in range(nodes):
        made.add_node(f"node-{n}", instance_type(KIND), f"private-{n % len(CIDRS)}")
    for pod in range(PODS):
        for n in range(nodes):
            made.add_pod(Pod(name=f"web-{n}-{pod}", node=f"node-{n}", containers=CONTAINERS))
    made.settle()
    return made


def measure(nodes: int) -> Size:
    """Build and ask one cluster."""
    start = time.process_time()
    made = build(nodes)
    built = time.process_time()
    found = made.trace("default/web-0-0", f"default/web-{nodes - 1}-{PODS - 1}:80/tcp")
    traced = time.process_time()
    if made.pending or found.verdict != "delivered":
        raise AssertionError(f"{len(made.pending)} pods wait, and the probe was {found.verdict}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    held: dict[str, int] = {}
    for n in range(len(made.lines) * 100):
        held[f"line {n}"] = n
    yardstick = time.process_time() - traced
    return Size(nodes, len(made.lines), built - start, traced - built, peak, yardstick)


def exponent(sizes: list[Size], what: str) -> float:
    """The slope of a straight line through the points, both axes logarithmic."""
    points = [(math.log(each.nodes), math.log(getattr(each, what))) for each in sizes]
    xs, ys = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    over = sum((x - xs) * (y - ys) for x, y in points)
    return over / sum((x - xs) ** 2 for x, _ in points)


def draw(sizes: list[Size], path: Path) -> None:
    """Time and memory against nodes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    for at, (what, unit, aim) in enumerate((("build_s", "seconds", 60), ("mib", "MiB", 2048)), 1):
        ax = figure.add_subplot(1, 2, at)
        ax.loglog([each.nodes for each in sizes], [getattr(each, what) for each in sizes], "o-")
        ax.axhline(aim, linestyle="--", color="#6E6E6E")
        ax.set(xlabel=f"nodes, {PODS} pods each", ylabel=unit,
               title=f"grows with nodes^{exponent(sizes, what):.2f}; aim {aim}")  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)


def main(sizes: tuple[int, ...]) -> None:
    """Measure each size apart, print and draw."""
    if len(sizes) == 1:
        print(json.dumps(asdict(measure(sizes[0]))))
        return
    found = []
    for nodes in sizes:
        command = [sys.executable, "-m", "tests.bench.clusters", str(nodes)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(Size(**json.loads(done.stdout)))
        one = found[-1]
        print(f"{one.nodes:6} nodes {one.nodes * PODS:7} pods {one.lines:8} lines: built in"
              f" {one.build_s:7.2f} s ({one.build_s / one.yardstick_s:4.1f} times the yardstick),"
              f" traced in {one.trace_s * 1000:5.1f} ms, peak {one.mib:6.0f} MiB",
              flush=True)  # fmt: skip
    print(f"time grows with nodes^{exponent(found, 'build_s'):.2f}, memory with"
          f" nodes^{exponent(found, 'mib'):.2f}")  # fmt: skip
    draw(found, Path("build/clusters.svg"))


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or SIZES)
