"""What the real tools said, said by the model; and the real tools still say it."""

from __future__ import annotations

import os

import pytest

from ekslearn.linux import NetworkNamespace, World
from ekslearn.tools import run
from tests.parity.real import PLACES, Real
from tests.tools.cases import Case, asked, read


def sorted_neighbors(said: tuple[str, str, int], words: tuple[str, ...]) -> tuple[str, str, int]:
    """The kernel lists neighbors in an order drawn at random."""
    out = "".join(sorted(said[0].splitlines(keepends=True))) if "neigh" in words else said[0]
    return out, said[1], said[2]


@pytest.mark.parametrize("case", read(), ids=lambda case: case.name)
def test_the_model_says_what_the_tools_said(case: Case) -> None:
    world = World()
    for place in PLACES:
        NetworkNamespace(world, place)
    for said in case.said:
        done = run(world.namespaces[said.step[0]], said.step[1])
        words = said.step[1]
        got = sorted_neighbors((done.stdout, done.stderr, done.status), words)
        assert got == sorted_neighbors((said.stdout, said.stderr, said.status), words), said.step


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in read()]
    assert len(names) > 40 and len(set(names)) == len(names)


def test_the_tools_still_say_it() -> None:
    """On Linux 6.18 with iproute2 6.1; another kernel may word a complaint differently."""
    if os.uname().release.split(".")[:2] != ["6", "18"]:
        pytest.skip("the cases were read off Linux 6.18, and this is another kernel")
    cases = read()
    with Real() as real:
        for was, now in zip(cases, asked(cases, real), strict=True):
            for old, new in zip(was.said, now.said, strict=True):
                words = old.step[1]
                assert sorted_neighbors((new.stdout, new.stderr, new.status), words) == (
                    sorted_neighbors((old.stdout, old.stderr, old.status), words)
                ), (was.name, old.step)
