"""Sessions the real kernel once answered: the model gives the same answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import sessions

FILES = sorted(sessions.FOLDER.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_model_answers_as_the_kernel_did(path: Path) -> None:
    assert sessions.by_model(path) == path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_session_says_something_and_is_refused_something(path: Path) -> None:
    marks = {line[:2] for line in path.read_text(encoding="utf-8").splitlines()}
    assert {"> ", "! ", "= "} <= marks
