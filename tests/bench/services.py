"""How a node with many Services grows: rules written, loaded, and a first packet, from 10 to 1,000.

``python -m tests.bench.services [SERVICES ...]`` measures beside the real ``iptables-restore`` of
the same rules, prints the exponents of growth, and draws them (build/services.svg). Run as root:
in a user namespace the kernel takes no rule set of more than some dozen Services at once.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import ekslearn
from ekslearn.cluster import Cluster, Lab
from ekslearn.kernel import space
from ekslearn.kernel.world import PRIVATE, USER
from ekslearn.kubernetes import rule_set
from ekslearn.kubernetes.proxy import start_lines
from tests.bench.figures import seconds
from tests.tools.test_kube_rules import services

SIZES = (10, 100, 1000)
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Size:
    """Medians for one number of Services, in seconds; ``real_s`` is nan where none was allowed."""

    services: int
    rules: int
    write_s: float
    load_s: float
    real_s: float
    trace_s: float


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def real(text: str) -> float:
    """The seconds of one ``iptables-restore`` in a fresh network namespace of the real kernel."""
    user = [] if os.geteuid() == 0 else USER
    script = ("import subprocess, sys, time; t = time.perf_counter();"
              "done = subprocess.run(['iptables-restore', '--noflush'], stdin=open(sys.argv[1]));"
              "print(time.perf_counter() - t if not done.returncode else 'nan')")  # fmt: skip
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        done = subprocess.run(
            [*PRIVATE, *user, "--", sys.executable, "-c", script, file.name],
            capture_output=True, text=True, check=False, env={"PATH": space.TOOLS},
        )  # fmt: skip
    return float(done.stdout or "nan")


def busy(count: int) -> Cluster:
    """The running example with so many Services more, before the one that is asked for."""
    made = ekslearn.load("services")
    assert isinstance(made, Cluster)
    web = made.services["shop/web"]
    for number in range(count):
        made.services.add(replace(web, name=f"a-{number}", cluster_ip=None, kind="ClusterIP"))
    made.sleep(1)
    return made


def measure(count: int) -> Size:
    """Write, load and ask."""
    ports = services(count, 1)
    text = rule_set(ports, "n1")
    lab = Lab("bench", ["n1"])
    for line in start_lines("n1"):
        assert not lab.line(line).status
    heredoc = f"iptables-restore --noflush <<'EOF'\n{text}EOF"
    write, load, there, trace = list[float](), list[float](), list[float](), list[float]()
    cluster = busy(count)
    for _ in range(ROUNDS):
        write.append(seconds(lambda: rule_set(ports, "n1")))
        fresh = lab.copy()
        load.append(seconds(lambda fresh=fresh: fresh.run("n1", heredoc)))  # type: ignore[misc]
        there.append(real(text))
        trace.append(seconds(lambda: cluster.trace("default/client", "service/shop/web:80")))
    made = fresh.run("n1", "iptables-save").stdout
    return Size(count, made.count("\n-A "), *map(median, (write, load, there, trace)))


def exponent(sizes: list[Size], what: str) -> float:
    """How a figure grows from the first size to the last."""
    first, last = sizes[0], sizes[-1]
    grown = math.log(getattr(last, what) / getattr(first, what))
    return grown / math.log(last.services / first.services)


def draw(sizes: list[Size], path: Path) -> None:
    """Seconds against Services."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = figure.add_subplot()
    for what, label in (
        ("write_s", "rules written"), ("load_s", "loaded into the model"),
        ("real_s", "real iptables-restore"), ("trace_s", "first packet traced"),
    ):  # fmt: skip
        ax.loglog([one.services for one in sizes], [getattr(one, what) for one in sizes], "o-",
                  label=label)  # fmt: skip
    ax.set(xlabel="Services", ylabel="seconds")
    ax.legend()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)


def main(sizes: tuple[int, ...]) -> None:
    """Measure, print and draw."""
    found = []
    for count in sizes:
        one = measure(count)
        found.append(one)
        print(f"{one.services:6} Services {one.rules:7} rules: written in"
              f" {one.write_s * 1000:7.1f} ms, loaded in {one.load_s * 1000:7.1f} ms (real"
              f" iptables-restore {one.real_s * 1000:7.1f} ms, ratio"
              f" {(one.write_s + one.load_s) / one.real_s:4.1f}), first packet traced in"
              f" {one.trace_s * 1000:6.1f} ms", flush=True)  # fmt: skip
    if len(found) > 1:
        grows = ", ".join(f"{what.removesuffix('_s')} {exponent(found, what):.2f}"
                          for what in ("write_s", "load_s", "real_s", "trace_s"))  # fmt: skip
        print(f"exponents of growth with Services: {grows}")
    draw(found, Path("build/services.svg"))


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or SIZES)
