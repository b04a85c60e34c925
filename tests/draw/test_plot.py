"""A plot and its words say the same points, and its labels keep clear of each other."""

from __future__ import annotations

import pytest

from ekslearn.draw import draw_plot
from ekslearn.draw.plot import spread
from ekslearn.errors import EkslearnError

LINES = {"low": [(0, 1), (5, 1), (9, 4), (20, 4)], "one that has a long name": [(0, 3), (20, 4)]}


def test_the_words_are_the_points() -> None:
    plot = draw_plot(LINES, title="Held", x="seconds", y="addresses", steps=True)
    assert plot.words == (
        "Held (addresses, by seconds)\n  low: 0: 1, 9: 4\n  one that has a long name: 0: 3, 20: 4"
    )
    assert "5: 1" in draw_plot(LINES, title="Held", x="s", y="n").words
    assert plot.words.replace("\n", "&#10;") in plot.img() or plot.words in plot.img()
    assert repr(plot) == "<plot: Held>"


def test_every_line_is_drawn_with_its_values_and_a_dash_of_its_own() -> None:
    plot = draw_plot(LINES, title="Held", x="seconds", y="addresses", steps=True)
    (ax,) = plot.figure.axes
    drawn = {line.get_gid(): line for line in ax.lines}
    assert set(drawn) == {f"line-{name}" for name in LINES}
    for name, points in LINES.items():
        assert list(map(tuple, drawn[f"line-{name}"].get_xydata())) == points
        assert drawn[f"line-{name}"].get_drawstyle() == "steps-post"
    assert len({line.get_linestyle() for line in ax.lines}) == len(LINES)
    assert "<title>Held</title>" in plot.svg


def test_the_same_numbers_make_the_same_picture() -> None:
    once, again = (draw_plot(LINES, title="t", x="x", y="y").svg for _ in range(2))
    assert once == again


@pytest.mark.parametrize(("values", "halves"), [((0, 3), False), ((0, 2.5), True)])
def test_of_whole_things_there_is_no_half(values: tuple[float, float], halves: bool) -> None:
    axis = draw_plot({"a": list(enumerate(values))}, title="T", x="s", y="nodes", steps=True)
    [ax] = axis.figure.axes
    assert any(tick % 1 for tick in ax.get_yticks()) == halves


def test_labels_keep_apart() -> None:
    assert spread([4, 4], [2, 2]) == [4, 6]
    assert spread([9, 1], [2, 2]) == [9, 1]
    assert spread([5, 4, 4], [1, 4, 2]) == [8.5, 4, 7]


@pytest.mark.parametrize("lines", [{}, {"a": []}, {name: [(0, 1)] for name in "abcde"}])
def test_what_cant_be_plotted_is_refused(lines: dict[str, list[tuple[float, float]]]) -> None:
    with pytest.raises(EkslearnError, match="a plot has one to 4 lines"):
        draw_plot(lines, title="t", x="x", y="y")
