"""Run the lessons and store their outputs, the same bytes on every machine.

``python -m tests.notebooks.regenerate [--check] [FILE…]`` (all lessons, if none is named) is what
`make notebooks` calls. Each lesson runs from its top in a fresh kernel and is stored in its normal
form. Live views are left out, so that a reader without a kernel gets the HTML that stands for them.
``--check`` writes nothing and fails if anything would change.
"""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from tests.ground import ROOT, normal

# The README's picture, and the cell of a lesson that it is taken from.
PICTURE = ROOT / "data" / "readme.svg"
SHOWN_IN = ("02_pods_on_one_node.ipynb", "router-look")
LIVE_VIEW = "application/vnd.jupyter.widget-view+json"
TIMEOUT_S = 120


def execute(notebook: Any, folder: Path) -> Any:
    """A copy of the notebook, run in ``folder`` by a fresh kernel; a cell that fails raises."""
    fresh = nbformat.from_dict(notebook)
    client = NotebookClient(
        fresh,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=False,
    )
    client.execute()
    return settled(fresh)


def settled(notebook: Any) -> Any:
    """The notebook without live views, its streams in one piece and its outputs as plain data."""
    for cell in notebook["cells"]:
        outputs: list[Any] = []
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop(LIVE_VIEW, None)
            before = outputs[-1] if outputs else {}
            if output["output_type"] == "stream" and before.get("name") == output["name"]:
                before["text"] += output["text"]
            else:
                outputs.append(output)
        if cell["cell_type"] == "code":
            cell["outputs"] = outputs
    return notebook


def in_lines(notebook: Any) -> Any:
    """The notebook with its long texts as lists of lines, as Jupyter stores them."""
    return nbformat.v4.rwbase.split_lines(nbformat.from_dict(notebook))


def renewed(path: Path) -> str:
    """What the file of a lesson should hold."""
    notebook = nbformat.read(path, as_version=4)
    return normal.text(normal.normal(in_lines(execute(notebook, path.parent))))


def pictured() -> bytes:
    """The picture that its lesson stores, as an SVG file."""
    lesson, cell_id = SHOWN_IN
    notebook = nbformat.read(ROOT / "notebooks" / lesson, as_version=4)
    cell = next(cell for cell in notebook["cells"] if cell["id"] == cell_id)
    shown = "".join(output.get("data", {}).get("text/html", "") for output in cell["outputs"])
    return base64.b64decode(shown.partition("data:image/svg+xml;base64,")[2].partition('"')[0])


def main(arguments: list[str] | None = None) -> int:
    """Renew or check; the status is 1 if a check found a difference."""
    parser = argparse.ArgumentParser(prog="tests.notebooks.regenerate", description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("files", nargs="*", type=Path)
    given = parser.parse_args(arguments)
    status = 0
    for path in given.files or normal.lessons():
        wanted = renewed(path)
        if wanted == path.read_text(encoding="utf-8"):
            continue
        name = path.resolve().relative_to(ROOT) if path.resolve().is_relative_to(ROOT) else path
        if given.check:
            print(f"{name}: its stored outputs aren't what it prints now: make notebooks")
            status = 1
        else:
            path.write_text(wanted, encoding="utf-8")
            print(f"{name}: renewed")
    if PICTURE.read_bytes() != pictured():
        if given.check:
            print(f"{PICTURE.name}: not the picture that its lesson stores: make notebooks")
            return 1
        PICTURE.write_bytes(pictured())
    return status


if __name__ == "__main__":
    sys.exit(main())
