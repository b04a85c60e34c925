"""The benchmarks run, on sizes so small that their figures mean nothing. No time is judged."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench import __main__ as bench
from tests.bench import clusters, labs, mutants, routes
from tests.bench.figures import Row, in_turn, table
from tests.bench.inside import KernelBench
from tests.kernel.labs import ROOMS, modelled


class Slow(dict[str, str]):
    """What pytricia is, for those who haven't a compiler: the same answers from plain strings."""

    def __getitem__(self, key: Any) -> str:
        from ipaddress import IPv4Address, IPv4Network

        fits = [net for net in self if IPv4Address(key) in IPv4Network(net)]
        return max(fits, key=lambda net: int(net.partition("/")[2]))


def test_a_row_says_median_range_and_ratio() -> None:
    row = Row(what="a", ours=[1e-3, 3e-3, 2e-3], against="b", theirs=[2e-3, 2e-3, 1e-3], aim="c")
    assert row.cells() == [
        "a", "2 ms (1–3)", "b", "2 ms (1–2)", "1.5 (0.5–2)", "c",
    ]  # fmt: skip
    memory = Row(what="m", ours=[2.0**21], unit="MiB").cells()
    assert memory == ["m", "2 MiB (2–2)", "", "", "", ""]
    assert table([row]).splitlines()[2].split("  ")[0].strip() == "a"


def test_both_sides_are_measured_in_turn_after_one_round_that_is_not_counted() -> None:
    calls: list[str] = []
    numbers = iter(range(99))

    def side(name: str) -> float:
        calls.append(name)
        return float(next(numbers))

    assert in_turn(2, lambda: side("a"), lambda: side("b")) == ([2.0, 4.0], [3.0, 5.0])
    assert calls == ["a", "b"] * 3


def test_decisions_agree_with_a_tree_of_prefixes() -> None:
    rows = routes.against_pytricia(5, 1, Slow(), decisions=10)
    assert [bool(row.ratios) for row in rows] == [True, True, False]


def test_a_tree_that_answers_otherwise_is_no_yardstick() -> None:
    class Wrong(Slow):
        def __getitem__(self, key: Any) -> str:
            return "0.0.0.0/0"

    with pytest.raises(AssertionError):
        routes.against_pytricia(5, 1, Wrong(), decisions=10)


@pytest.mark.kernel
def test_the_kernels_decisions_pings_and_builds_are_measured() -> None:
    with KernelBench() as world:
        world.build(modelled("bench", ROOMS, []))
        rows = routes.against_kernel(20, 1, world, decisions=20)
        rows += labs.against_ping("two-rooms", "red", "blue", 1, world)
        rows.append(labs.unexplained("two-rooms", "red", "blue", 1))
        rows += labs.building("two-rooms", 1, world)
    assert all(min(row.ours) > 0 for row in rows)
    assert [len(row.ratios) for row in rows] == [1, 1, 1, 1, 0, 1, 0]


def test_imports_and_memory_are_measured_in_fresh_processes() -> None:
    (row,) = labs.importing(1, labs.IMPORTS[1:2])
    assert min(row.ours) > 0 and row.ratios
    memory = labs.remembering("two-rooms", "red", "blue", 1)
    assert [row.unit for row in memory] == ["MiB"] * 6
    bare, imported = memory[-1].ours[0], memory[0].ours[0]
    assert 1e6 < bare < imported < 1e9


def test_a_cluster_is_measured_and_growth_is_the_slope(tmp_path: Path) -> None:
    one = clusters.measure(1)
    assert one.lines > clusters.PODS and min(one.build_s, one.trace_s, one.mib) > 0
    sizes = [replace(one, nodes=n, build_s=n**1.5, mib=7.0) for n in (10, 100, 1000)]
    assert clusters.exponent(sizes, "build_s") == pytest.approx(1.5)
    assert clusters.exponent(sizes, "mib") == pytest.approx(0)
    clusters.draw(sizes, tmp_path / "new" / "clusters.svg")
    assert (tmp_path / "new" / "clusters.svg").stat().st_size > 1000


def test_the_head_of_the_table_names_the_conditions() -> None:
    head = "\n".join(bench.conditions(3))
    assert re.search(r"Python 3\.\d+\.\d+, \w+ \S+, \d+ CPUs, load", head)
    assert "Medians of 3 rounds" in head


def test_the_sample_of_mutants_is_drawn_by_the_seed_and_keeps_when_others_come() -> None:
    names = [f"mutant {n}" for n in range(100)]
    first = mutants.sample(names, 10, 1)
    assert first == mutants.sample(names[::-1], 10, 1) != mutants.sample(names, 10, 2)
    assert set(mutants.sample([n for n in names if n != first[0]], 9, 1)) == set(first[1:])


def test_a_mutant_is_found_in_its_file() -> None:
    path = Path("ekslearn/linux/route.py")
    root = Path(__file__).parents[2]
    line = mutants.start("ekslearn.linux.route.xǁRouteTableǁlookup__mutmut_3", root / path)
    assert "def lookup" in (root / path).read_text(encoding="utf-8").splitlines()[line - 1]


def test_the_benchmarks_lock_is_exact_hashed_and_names_no_place() -> None:
    lock = Path(__file__).with_name("requirements.lock").read_text(encoding="utf-8")
    entries = [line for line in lock.splitlines() if not line.startswith(" ")]
    assert all(re.fullmatch(r"[\w-]+==\S+ \\", entry) for entry in entries)
    assert lock.count("--hash=sha256:") >= len(entries) == 2
    assert "://" not in lock
