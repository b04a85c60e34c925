"""The visual grammar: the few colours, sizes and fonts every picture is made of.

Shape and word carry the meaning, colour only repeats it. The four line colours keep 3:1 against
white and stay apart under the three kinds of colour blindness; the two fills never stand without
an outline in INK.
"""

from __future__ import annotations

from functools import cache
from typing import Any

INK, MUTED, CHOSEN, PACKET = "#000000", "#6E6E6E", "#0072B2", "#D55E00"
ENI_FILL, PICKED = "#56B4E9", "#F0E442"
PAPER = "#FFFFFF"

# Lengths in user units of the SVG, which are CSS pixels when the picture isn't scaled.
TITLE, LABEL, SMALL = 14.0, 13.0, 12.0  # text sizes
LEAST = 11.0 / SMALL  # a picture isn't scaled below this: the smallest text keeps 11 pixels
# As wide a picture is shown whole, and its smallest text with 11 pixels, in the 600 pixels that a
# window of 800 leaves it in JupyterLab.
PAGE = 650.0
LINE = 17.0  # from one line of a label to the next
PORT = 7.0  # radius of an interface's circle
TUBE = 5.5  # half the distance between the two lines of a veth

SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"  # measured; both come with matplotlib
# What the page shows instead: the reader's own fonts, none of them wider than DejaVu.
SHOWN = {
    MONO: "ui-monospace,'Cascadia Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace",
    SANS: "system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,'DejaVu Sans',sans-serif",
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ekslearn",
    "path.simplify": False,
    "path.sketch": None,
    "path.effects": [],
    "text.usetex": False,
    "font.family": SANS,
    "text.parse_math": False,
    "text.color": INK,
}


@cache
def width_of(text: str, size: float, *, mono: bool = False, bold: bool = False) -> float:
    """How wide ``text`` is in the fonts that are measured with."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(
        family=MONO if mono else SANS, size=size, weight="bold" if bold else "normal"
    )
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])
