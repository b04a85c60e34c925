"""Command sequences with what the real tools said: read off once, held ever after.

``tests/data/ip-cases.txt`` is written by ``python -m tests.tools.cases`` on a machine whose kernel
and tools are the real ones; the tests read it anywhere. A case is its name after ``#``, then
commands, each with its output (``>``), its complaint (``!``) and its status (``=``) if not 0.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from tests.parity.real import Real, Step

FILE = Path(__file__).parents[1] / "data" / "ip-cases.txt"


@dataclass
class Said:
    """One command and what came of it."""

    step: Step
    stdout: str = ""
    stderr: str = ""
    status: int = 0

    def __str__(self) -> str:
        lines = [f"{self.step[0]}$ {shlex.join(self.step[1])}"]
        lines += [f"> {line}" for line in self.stdout.splitlines()]
        lines += [f"! {line}" for line in self.stderr.splitlines()]
        return "\n".join(lines + [f"= {self.status}"] * bool(self.status)) + "\n"


@dataclass
class Case:
    """A named sequence."""

    name: str
    said: list[Said] = field(default_factory=list)

    def __str__(self) -> str:
        return f"# {self.name}\n" + "".join(map(str, self.said)) + "\n"


def read(path: Path = FILE) -> list[Case]:
    """All the cases in a file."""
    cases: list[Case] = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        mark, text = line[:2], line[2:]
        if mark == "# ":
            cases.append(Case(text))
        elif mark == "> ":
            cases[-1].said[-1].stdout += text + "\n"
        elif mark == "! ":
            cases[-1].said[-1].stderr += text + "\n"
        elif mark == "= ":
            cases[-1].said[-1].status = int(text)
        elif "$ " in line:
            place, _, command = line.partition("$ ")
            cases[-1].said.append(Said((place, tuple(shlex.split(command)))))
    return cases


def asked(cases: list[Case], real: Real) -> list[Case]:
    """The same cases with what the real tools say here and now."""
    answers = []
    for case in cases:
        found = real.play([said.step for said in case.said], listings=False)
        said = [Said(one.step, *got[:3]) for one, got in zip(case.said, found, strict=True)]
        answers.append(Case(case.name, said))
    return answers


def main() -> None:
    """Ask the real tools again and write the file anew."""
    with Real() as real:
        cases = asked(read(), real)
    FILE.write_text("".join(map(str, cases)).rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
