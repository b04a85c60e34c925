"""Every way into a cluster: what its trace says, and that the kernel's capture says the same."""

from __future__ import annotations

from random import Random

import pytest

from ekslearn.kernel import World
from tests.matrix.cells import CELLS, table
from tests.matrix.played import AWS, BOTH, KERNEL, cells_told, play, refusals

WANTED = table()
VALID = [cell for cell in CELLS if not WANTED[cell]["refusal"]]
BATCH, SAMPLE = 16, 12


def test_the_table_has_every_cell() -> None:
    assert list(WANTED) == CELLS and len(VALID) == 96
    for cell, said in WANTED.items():
        assert bool(said["refusal"]) != bool(said["inside"]), cell


@pytest.mark.parametrize("first", range(0, len(VALID), BATCH))
def test_every_trace_is_as_the_table_says(first: int) -> None:
    for cell, said in cells_told(play(VALID[first : first + BATCH])):
        assert said == WANTED[cell]


def test_every_other_cell_is_refused() -> None:
    others = [cell for cell in CELLS if cell not in VALID]
    assert refusals(others) == {cell: WANTED[cell]["refusal"] for cell in others}


def test_a_sample_on_the_real_kernel() -> None:
    """The whole of it is played by ``make sweep``."""
    cells = Random(4).sample(VALID, SAMPLE)
    with World() as world:
        played = play(cells, world)
    assert not [one.words for one in played if not one.agrees]
    assert {one.proof for one in played} == {KERNEL, BOTH, AWS}
    for cell, said in cells_told(played):
        assert said == WANTED[cell]
