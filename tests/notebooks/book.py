"""A lesson as the tests look at it."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from tests.ground import ROOT, normal

LESSONS = normal.lessons()
NOTEBOOKS = ROOT / "notebooks"
DATA = re.compile(r'<script type="application/json">(.*?)</script>', re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def cells(path: Path, kind: str = "") -> list[dict[str, Any]]:
    """The cells of a lesson, or those of one kind."""
    stored = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in stored if kind in ("", cell["cell_type"])]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def code_lines(cell: dict[str, Any]) -> int:
    return sum(bool(line.strip()) for line in source(cell).splitlines())


def prose(path: Path) -> str:
    """Everything written in Markdown, cells and outputs."""
    texts = [source(cell) for cell in cells(path, "markdown")]
    return "\n\n".join([*texts, *(said for cell in cells(path, "code") for said in shown(cell)[2])])


def shown(cell: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    """What a code cell printed (words that stand under a picture too), its HTML, its Markdown."""
    printed, pages, texts = "", [], []
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        printed += "".join(output.get("text", ()))
        if "text/html" in data:
            printed += "".join(data["text/plain"]).partition("\n")[2] + "\n"
        pages += ["".join(data["text/html"])] if "text/html" in data else []
        texts += ["".join(data["text/markdown"])] if "text/markdown" in data else []
    return printed, pages, texts


def words_of(page: str) -> list[str]:
    """The words inside each picture of an output: its alternative text."""
    return [html.unescape(alt) for alt in re.findall(r'<img alt="([^"]*)"', page)]
