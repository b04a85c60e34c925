"""Sequences of iptables commands with what the real tools said: read off once, held ever after.

``tests/data/iptables-cases.txt`` is written by ``python -m tests.tools.iptables_cases`` where there
is iptables 1.8.9 (nf_tables); the tests read it anywhere. A case is its name after ``#``, then
commands, each with what it said: ``>`` output, ``!`` complaint, ``=`` status if not 0. ``<`` is a
line of the text that iptables-restore gets.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.parity.iptables_text import Said, masked, restore
from tests.parity.real import Real, Step

FILE = Path(__file__).parents[1] / "data" / "iptables-cases.txt"


@dataclass
class Case:
    """A named sequence: the steps, and what was said to each."""

    name: str
    steps: list[Step]
    said: list[Said]

    def __str__(self) -> str:
        rows = [f"# {self.name}"]
        for (_, words), (out, err, status) in zip(self.steps, self.said, strict=True):
            rows.append(
                "$ " + shlex.join(["iptables-restore", *words[4:]] if words[0] == "sh" else words)
            )
            texts = {
                "<": words[3] if words[0] == "sh" else "",
                ">": masked(str(out)),
                "!": str(err),
            }
            rows += [f"{mark} {row}" for mark, text in texts.items() for row in text.splitlines()]
            rows += [f"= {status}"] * bool(status)
        return "\n".join(rows) + "\n\n"


def read() -> list[Case]:
    """All the cases in the file."""
    return [_case(block) for block in FILE.read_text(encoding="utf-8").split("\n\n") if block]


def _case(block: str) -> Case:
    name, *rows = block.strip("\n").split("\n")
    case = Case(name.removeprefix("# "), [], [])
    for row in rows:
        mark, text = row[:1], row[2:]
        if mark == "$":
            words = shlex.split(text)
            case.steps.append(("red", tuple(words)))
            if words[0] == "iptables-restore":
                case.steps[-1] = restore("", *words[1:])
            case.said.append(["", "", 0])
        elif mark == "<":
            words = list(case.steps[-1][1])
            case.steps[-1] = restore(words[3] + text + "\n", *words[4:])
        elif mark == "=":
            case.said[-1][2] = int(text)
        else:
            at = ">!".index(mark)
            case.said[-1][at] = f"{case.said[-1][at]}{text}\n"
    return case


def asked(cases: list[Case], real: Real) -> list[Case]:
    """The same cases with what the real tools say here and now."""
    return [Case(case.name, case.steps,
                 [[masked(out), err, status] for out, err, status, _
                  in real.play(case.steps, listings=False)]) for case in cases]  # fmt: skip


def main() -> None:
    """Ask the real tools again and write the file anew."""
    with Real() as real:
        cases = asked(read(), real)
    FILE.write_text("".join(map(str, cases)).rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
