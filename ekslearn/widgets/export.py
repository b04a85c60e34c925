"""Notebooks as pages that need no kernel, no network and no other file (``make html``).

A walk's stored output carries its player, so it steps in the page; whatever needs a kernel is
shown by the sentence that stands for it. Nothing is run: a page shows the stored outputs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ekslearn.draw.display import STILL
from ekslearn.errors import EkslearnError

# nbconvert sets a block of code like prose, and breaks printed lines within words.
STYLE = """<style>
.jp-RenderedMarkdown .highlight pre { font-family: var(--jp-code-font-family);
  font-size: var(--jp-code-font-size); margin-bottom: 1em; }
.jp-OutputArea-output pre, .jp-RenderedMarkdown pre { word-break: normal; overflow-wrap: anywhere; }
</style>"""


def settle(notebook: Any) -> Any:
    """Drop live views where a still stands for them, and what a page would fetch for them.

    A notebook stored by our own script has lost the view already, and its word is left.
    """
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        stills = [STILL in "".join(o.get("data", {}).get("text/html", "")) for o in outputs]
        cell["outputs"] = [
            o for o, next_is in zip(outputs, [*stills[1:], False], strict=False) if not next_is
        ]
    return notebook


def export(source: Path, folder: Path) -> Path:
    """Write ``source`` as one HTML file into ``folder``; raise EkslearnError if it can't be read.

    Formulas stay as they are written, for a typesetter would have to be fetched.
    """
    import nbformat
    from nbconvert import HTMLExporter

    try:
        notebook = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, nbformat.reader.NotJSONError) as error:
        raise EkslearnError(
            f"{source}: this isn't a notebook that can be read ({type(error).__name__})"
        ) from error
    nothing = {
        f"{name}_url": ""
        for name in ("require_js", "mathjax", "jquery", "mermaid_js", "widget_renderer")
    }
    # Not embed_images: it reads each piece of HTML alone, and so closes what is to fold at once.
    exporter = HTMLExporter(**nothing)  # type: ignore[no-untyped-call]
    body, _ = exporter.from_notebook_node(settle(notebook))
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{source.stem}.html"
    body = body.replace('<script src=""></script>', "").replace("</head>", f"{STYLE}</head>", 1)
    target.write_text(body, encoding="utf-8")
    return target


def main(argv: Sequence[str] | None = None) -> int:
    """Export the notebooks named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ekslearn.widgets.export", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--to", type=Path, default=Path("build/html"), metavar="FOLDER")
    args = parser.parse_args(argv)
    try:
        for notebook in args.notebooks:
            print(export(notebook, args.to))
    except EkslearnError as error:
        print(f"ekslearn: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
