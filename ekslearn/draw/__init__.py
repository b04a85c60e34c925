"""Pictures of labs, plots of numbers: SVG with an id on every mark, and words that say the same."""

from __future__ import annotations

from ekslearn.draw.display import narrow
from ekslearn.draw.plot import Plot, draw_plot
from ekslearn.draw.topology import Drawing, draw_lab
from ekslearn.draw.words import describe

__all__ = ["Drawing", "Plot", "describe", "draw_lab", "draw_plot", "narrow"]
