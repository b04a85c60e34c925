"""The kept walks: what a real wire showed, the model shows; and it says why in the same words."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import kept

FILES = sorted(kept.FOLDER.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_model_shows_what_the_kernel_showed(path: Path) -> None:
    """Words changed on purpose? ``python -m tests.linux.kept words`` keeps the new ones."""
    walks = kept.read(path)
    now = walks.played()
    assert now.asked == walks.asked
    assert now.words == walks.words


def test_lost_listeners_are_noticed() -> None:
    """The test above can fail: without its listeners, some walk ends otherwise."""
    walks = kept.read(FILES[0])
    walks.listeners.clear()
    assert walks.played().asked != kept.read(FILES[0]).asked
