"""Pictures of labs, as SVG with an id on every mark, and the words that say the same."""

from __future__ import annotations

from ekslearn.draw.topology import Drawing, draw_lab
from ekslearn.draw.words import describe

__all__ = ["Drawing", "describe", "draw_lab"]
