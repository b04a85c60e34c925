"""Command sessions with what the real kernel and its tools said, kept as text.

A file of ``tests/data/sessions`` holds lines ``PLACE$ COMMAND``, each with what came of it: output
(``>``), complaint (``!``), status (``=``) if not 0. ``python -m tests.linux.sessions`` asks the
real kernel again and writes the answers; write commands with no answers to add some. What changes
from run to run (indexes, MACs, timed states) is masked as in ``ekslearn kernel verify``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ekslearn.cluster import Lab
from ekslearn.kernel.verify import _masked
from ekslearn.tools import Done

FOLDER = Path(__file__).parents[1] / "data" / "sessions"


def commands(path: Path) -> list[str]:
    """The commands of a session and the comments between them."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line[:2] not in ("> ", "! ", "= ", ">", "!")]


def lab(lines: list[str]) -> Lab:
    """A lab with the places that a session names, and nothing in them."""
    places = dict.fromkeys(line.partition("$")[0] for line in lines if "$ " in line)
    return Lab("session", list(places))


def played(lines: list[str], run: Callable[[str, str], Done], bare: Lab) -> Iterator[str]:
    """The session with answers."""
    for line in lines:
        yield line
        place, dollar, command = line.partition("$ ")
        if not dollar or line.startswith("#"):
            continue
        done = run(place, command)
        for mark, text in ((">", done.stdout), ("!", done.stderr)):
            yield from (f"{mark} {row}".rstrip() for row in _masked(bare, text, command))
        if done.status:
            yield f"= {done.status}"


def by_model(path: Path) -> list[str]:
    """What the model answers."""
    lines = commands(path)
    made = lab(lines)
    return list(played(lines, made.run, lab(lines)))


def by_kernel(path: Path) -> list[str]:
    """What this machine's kernel answers."""
    from ekslearn.kernel import World

    lines = commands(path)
    with World() as world:
        world.build(lab(lines))
        return list(played(lines, world.run, lab(lines)))


if __name__ == "__main__":
    for each in sorted(FOLDER.glob("*.txt")):
        each.write_text("\n".join(by_kernel(each)) + "\n", encoding="utf-8")
        print(
            each.name, "the model says the same" if by_model(each) == by_kernel(each) else "DIFFERS"
        )
