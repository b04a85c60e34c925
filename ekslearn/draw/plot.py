"""Plots numbers as a lesson computes them: steps in time, or a curve; the words say every point.

The same look as the pictures: four line colours, a dash of its own for each line, its name at its
end instead of a legend, and an image whose alternative text is the words that stand under it.
"""

from __future__ import annotations

import base64
import html
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby

import matplotlib
from matplotlib.figure import Figure

from ekslearn.draw.display import folded
from ekslearn.draw.display import show as display
from ekslearn.draw.grammar import CHOSEN, INK, LEAST, MUTED, PACKET, PAPER, SMALL, STYLE, width_of
from ekslearn.draw.topology import to_svg
from ekslearn.errors import EkslearnError

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 620, 300, 58, 46, 34  # CSS pixels
LOOKS = ((CHOSEN, "-"), (PACKET, (0, (6, 3))), (INK, (0, (1.5, 2))), (MUTED, (0, (8, 2, 1, 2))))
Points = Sequence[tuple[float, float]]


class Plot:
    """A finished plot: ``figure`` (matplotlib), ``svg`` and ``words`` say the same thing."""

    def __init__(self, figure: Figure, title: str, words: str) -> None:
        self.figure, self.title, self.words = figure, title, words
        self.svg = to_svg(figure, title, words)

    def __repr__(self) -> str:
        """Short, and the same on every run."""
        return f"<plot: {self.title}>"

    def img(self) -> str:
        """The plot as one HTML image element that needs no other file."""
        data = base64.b64encode(self.svg.encode()).decode()
        return (
            f'<div style="overflow-x:auto" tabindex="0"><img alt="{html.escape(self.words)}"'
            f' width="{WIDTH}" style="max-width:100%;min-width:{WIDTH * LEAST:.0f}px;'
            f'height:auto" src="data:image/svg+xml;base64,{data}"></div>'
        )

    def _ipython_display_(self) -> None:
        told = folded(self.words, "The plot in numbers")
        display(self.img() + told, repr(self), self.words)


def draw_plot(
    lines: Mapping[str, Points], *, title: str, x: str, y: str, steps: bool = False
) -> Plot:
    """Plot up to four lines by name; with ``steps`` a value holds until the next point.

    ``x`` and ``y`` name the axes, with their units. Raises EkslearnError for no line, too many,
    or one without points.
    """
    if not 1 <= len(lines) <= len(LOOKS) or not all(lines.values()):
        raise EkslearnError(f"a plot has one to {len(LOOKS)} lines, each with points;"
                            f" here are {len(lines)}")  # fmt: skip
    names = [textwrap.wrap(name, 22) for name in lines]
    right = 14 + max(width_of(line, SMALL) for label in names for line in label)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72, facecolor=PAPER)
        box = (LEFT / WIDTH, BOTTOM / HEIGHT, (WIDTH - LEFT - right) / WIDTH)
        ax = figure.add_axes((*box, (HEIGHT - BOTTOM - TOP) / HEIGHT))
        for (name, points), (color, dash) in zip(lines.items(), LOOKS, strict=False):
            xs, ys = zip(*points, strict=True)
            ax.plot(xs, ys, color=color, linestyle=dash, linewidth=2, gid=f"line-{name}",
                    drawstyle="steps-post" if steps else "default")  # fmt: skip
        top = max(value for points in lines.values() for _, value in points)
        ax.set_ylim(0, top * 1.08 or 1)
        ax.set_xlim(min(p[0][0] for p in lines.values()), max(p[-1][0] for p in lines.values()))
        whole = all(float(value).is_integer() for points in lines.values() for _, value in points)
        ax.locator_params(axis="y", integer=whole)  # of whole things there is no half
        ax.tick_params(labelsize=SMALL, color=MUTED)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_xlabel(x, size=SMALL)
        figure.text(8 / WIDTH, 1 - 20 / HEIGHT, y, size=SMALL)
        pixel = top * 1.08 / (HEIGHT - BOTTOM - TOP)
        high = [len(label) * 15 * pixel for label in names]
        places = spread([points[-1][1] for points in lines.values()], high)
        for label, at, (color, _) in zip(names, places, LOOKS, strict=False):
            ax.annotate("\n".join(label), (ax.get_xlim()[1], at), (8, 0), va="center", color=color,
                        size=SMALL, textcoords="offset points", annotation_clip=False)  # fmt: skip
    return Plot(figure, title, words_of(lines, title, x, y, steps=steps))


def spread(values: Sequence[float], high: Sequence[float]) -> list[float]:
    """The middles of labels so high, at the values, moved up where two would overlap."""
    found, edge = dict.fromkeys(range(len(values)), 0.0), float("-inf")
    for place in sorted(found, key=lambda each: values[each]):
        found[place] = max(values[place], edge + high[place] / 2)
        edge = found[place] + high[place] / 2
    return list(found.values())


def words_of(lines: Mapping[str, Points], title: str, x: str, y: str, *, steps: bool) -> str:
    """Every line with its points; of steps, those at which the value changes."""
    said = [f"{title} ({y}, by {x})"]
    for name, points in lines.items():
        kept = [next(same) for _, same in groupby(points, lambda one: one[1])] if steps else points
        said.append(f"  {name}: " + ", ".join(f"{at:g}: {value:g}" for at, value in kept))
    return "\n".join(said)
