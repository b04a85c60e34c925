"""The README's picture is one that a lesson really stores."""

from tests.notebooks.regenerate import PICTURE, pictured


def test_the_readmes_picture_is_the_lessons_own() -> None:
    assert PICTURE.read_bytes() == pictured(), "run make notebooks"
    assert b"<svg" in pictured()
