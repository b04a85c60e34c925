"""Disagreements of model and kernel that were found and mended: each a small lab and its probes.

They stand in ``tests/kernel/kept/*.yaml`` with what the kernel's wires showed. ``python -m
tests.kernel.kept`` asks the kernel again and writes its answers into the files.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ekslearn.cluster import Lab
from ekslearn.kernel import World
from tests.parity.packets import Case, Group, kernel_lines
from tests.parity.wirings import Question

FOLDER = Path(__file__).parent / "kept"
FILES = sorted(FOLDER.glob("*.yaml"))


@dataclass
class Kept:
    """One file: why it was kept, its lab, its probes, and what the wire showed of each."""

    why: str
    lines: list[str]
    listen: list[str]
    ask: list[str]
    wire: list[list[str]]

    def case(self, name: str) -> Case:
        """The lab, wired anew, with its questions."""
        lab = Lab(name, list(dict.fromkeys(line.partition("$")[0] for line in self.lines)))
        for line in self.lines:
            done = lab.line(line)
            if done.status:
                raise ValueError(f"{name}: {line}: {done.stderr}")
        for one in self.listen:
            place, _, where = one.partition(" ")
            lab.listen(place, where)
        return Case(lab, [question(one) for one in self.ask])


def question(text: str) -> Question:
    """Read ``PLACE PROTOCOL ADDRESS[:PORT] [ttl N] [size N]``."""
    source, protocol, target, *more = text.split()
    address, _, port = target.partition(":")
    options = dict(zip(more[::2], map(int, more[1::2]), strict=True))
    return Question(source, protocol, address, int(port) if port else None,
                    options.get("ttl", 64), options.get("size"))  # fmt: skip


def words(asked: Question) -> str:
    """The same, written."""
    text = f"{asked.source} {asked.protocol} {asked.address}"
    text += f":{asked.port}" if asked.port else ""
    text += f" ttl {asked.ttl}" if asked.ttl != 64 else ""
    return text + (f" size {asked.size}" if asked.size else "")


def read(path: Path) -> Kept:
    """One kept file."""
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Kept(**{"listen": [], "wire": [], **found})


def wires(case: Case, world: World) -> list[list[str]]:
    """What the kernel shows of each probe, sent alone, in the order of the questions."""
    groups = [Group(group.wait_s, [one]) for group in case.model() for one in group.asked]
    _, found = world.quickly(case.lab, [(one.wait_s, [one.asked[0].probe]) for one in groups])
    return [list(kernel_lines(seen[0], group.asked[0], case))
            for group, seen in zip(groups, found, strict=True)]  # fmt: skip


def write(path: Path, kept: Kept) -> None:
    """Write a kept file."""
    text = yaml.safe_dump(vars(kept), sort_keys=False, width=110, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Ask the kernel about the files named, or all of them, and store what it shows."""
    with World() as world:
        for path in [Path(name) for name in sys.argv[1:]] or FILES:
            kept = read(path)
            kept.wire = wires(kept.case(path.stem), world)
            write(path, kept)


if __name__ == "__main__":
    main()
