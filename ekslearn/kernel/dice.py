"""Lets the kernel's dice fall as the model's did, so that what follows can be compared.

Where a ``statistic`` match drew, a rule put first in its chain sends the one probe, known by its
source port, to where the model's draw led. That the draws themselves are fair is shown elsewhere:
by the rules' own probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ekslearn.cluster import HEREDOC

if TYPE_CHECKING:
    from ekslearn.trace import Step

DICE, JUMP = "-m statistic", " -j "


class Draw(NamedTuple):
    """One draw: whose packet (protocol and source port) went from which chain to which target.

    ``left`` are the rows that could have been taken, ``at`` the number of the one that was.
    """

    place: str
    tool: str
    table: str
    chain: str
    protocol: str
    sport: int
    target: str
    left: int
    at: int


def draw(step: Step) -> Draw | None:
    """What was drawn at a step; None if nothing was."""
    chain = step.because.split(" ")[1:2]
    over = [row for row in step.passed_over if DICE in row and row.split(" ")[1:2] == chain]
    port, rows = step.header.get("sport"), [row for row in step.rows if row.split()[1:2] == chain]
    if not port or JUMP not in step.because or not (over or DICE in step.because):
        return None
    dice = [row for row in rows if DICE in row or row == step.because]
    return Draw(
        step.place, step.show.partition("-save")[0], step.stage.split()[0], chain[0],
        step.header["protocol"], port, step.because.rpartition(JUMP)[2],
        1 + sum(DICE in row for row in rows), dice.index(step.because),
    )  # fmt: skip


def lines(draws: Iterable[Draw]) -> list[str]:
    """The wiring lines that make the kernel draw the same."""
    parts: dict[str, list[str]] = {}
    for one in draws:
        rule = f"-I {one.chain} -p {one.protocol} -m {one.protocol} --sport {one.sport} -j"
        part = f"*{one.table}\n{rule} {one.target}\nCOMMIT\n"
        parts.setdefault(f"{one.place}$ {one.tool}-restore --noflush", []).append(part)
    return [f"{head}{HEREDOC}{''.join(some)}EOF" for head, some in parts.items()]
