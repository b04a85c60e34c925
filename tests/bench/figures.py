"""What a measurement says: many values of one thing, beside another thing measured in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

UNITS = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing measured, in seconds (``unit`` "s") or bytes ("MiB"), alone or against another.

    ``ours[i]`` and ``theirs[i]`` were measured right after each other, so that whatever else the
    machine did touched both; the ratio is the median of their quotients.
    """

    what: str
    ours: list[float]
    against: str = ""
    theirs: list[float] = field(default_factory=list)
    aim: str = ""
    unit: str = "s"

    @property
    def ratios(self) -> list[float]:
        """Ours by theirs, round by round."""
        return [mine / other for mine, other in zip(self.ours, self.theirs, strict=False)]

    def cells(self) -> list[str]:
        """The row as the table prints it."""
        ratio = [f"{n:.2g}" if n < 10 else f"{n:.0f}" for n in spread(self.ratios)]
        quotient = f"{ratio[0]} ({ratio[1]}–{ratio[2]})" if ratio else ""
        return [
            self.what,
            shown(self.ours, self.unit),
            self.against,
            shown(self.theirs, self.unit),
            quotient,
            self.aim,
        ]


def spread(values: list[float]) -> list[float]:
    """Median, smallest and largest; nothing of nothing."""
    return [median(values), min(values), max(values)] if values else []


def shown(values: list[float], unit: str) -> str:
    """Median (smallest–largest) in the unit that suits the median."""
    if not values:
        return ""
    size, name = (1024.0**2, unit)
    if unit == "s":
        size, name = next((pair for pair in UNITS if median(values) >= pair[0]), UNITS[-1])
    middle, low, high = (f"{value / size:.3g}" for value in spread(values))
    return f"{middle} {name} ({low}–{high})"


def table(rows: list[Row]) -> str:
    """All rows under one head, in columns."""
    head = ["ekslearn", "median (min–max)", "against", "median (min–max)", "ratio", "aim"]
    lines = [head, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def seconds(act: Callable[[], object]) -> float:
    """How long ``act`` takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def in_turn(
    repeats: int, ours: Callable[[], float], theirs: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Both measured ``repeats`` times, one after the other, after one round that isn't counted."""
    ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(repeats)]
    return [mine for mine, _ in pairs], [other for _, other in pairs]
