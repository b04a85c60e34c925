"""``make bench``: everything measured in one run, as one table with its conditions.

Nothing is judged here: the aims stand beside the figures. ``python -m tests.bench [REPEATS]``.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from tests.bench import labs, routes
from tests.bench.figures import Row, table

REPEATS = 15


def conditions(repeats: int) -> list[str]:
    """What the figures depend on."""
    found = []
    for name in ("networkx", "pytricia", "pyroute2"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    return [
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs, load {load}",
        ", ".join(found),
        f"Medians of {repeats} rounds (fewer where a round is long), both sides in turn; a ratio is"
        " the median of ours by theirs, so below 1 ekslearn is faster.",
    ]


def everything(repeats: int) -> list[Row]:
    """All rows; the widget's only where its part is there."""
    found = [*routes.rows(repeats), *labs.rows(repeats)]
    if importlib.util.find_spec("tests.bench.widget_step"):
        found += import_module("tests.bench.widget_step").rows(repeats)
    return found


def main() -> None:
    """Measure and print."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS
    head = conditions(repeats)
    print("\n".join(head), table(everything(repeats)), sep="\n\n")


if __name__ == "__main__":
    main()
