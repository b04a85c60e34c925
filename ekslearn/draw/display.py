"""The one way anything is shown in a notebook: HTML, a word for it, then the words as text."""

from __future__ import annotations

from typing import Any


def show(html: str, plain: str, words: str = "", *, view: Any = None) -> None:
    """Show ``html``, and print ``words`` under it; ``view`` is a widget to show live instead.

    Where there is no kernel to serve the live view, the HTML is what a page has.
    """
    from IPython.display import display

    data: dict[str, Any] = {"text/html": html, "text/plain": plain}
    if view is not None:
        data["application/vnd.jupyter.widget-view+json"] = {
            "version_major": 2,
            "version_minor": 0,
            "model_id": view.model_id,
        }
    display(data, raw=True)  # type: ignore[no-untyped-call]
    if words:
        print(words)
