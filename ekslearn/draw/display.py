"""The one way anything is shown in a notebook: HTML, a word for it, then the words as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

VIEW = "application/vnd.jupyter.widget-view+json"
# A live view and what stands for it follow each other; the page shows one of them. A view without
# its kernel is only an error message, so whatever stands before a still without being live goes.
STILL = "ekslearn-still"
CHOOSE = """<style>
.jp-OutputArea-child:has(.ekslearn-live) + .jp-OutputArea-child:has(.ekslearn-still),
.jp-OutputArea-child:has(+ .jp-OutputArea-child .ekslearn-still):not(:has(.ekslearn-live)) {
  display: none; }
</style>
"""


Renew = Callable[[str], None]


def show(html: str, plain: str, words: str = "", *, view: Any = None) -> Renew | None:
    """Show ``html``, and print ``words`` under it; ``view`` is a widget to show live instead.

    Where there is no kernel to serve the live view, also in a notebook that was saved and opened
    again, the HTML is what a page has; with what is returned it can be brought up to date.
    """
    from IPython.display import display

    if view is None:
        display({"text/html": html, "text/plain": plain}, raw=True)  # type: ignore[no-untyped-call]
        handle = None
    else:
        live: dict[str, Any] = {"version_major": 2, "version_minor": 0, "model_id": view.model_id}
        display({"text/plain": plain, VIEW: live}, raw=True)  # type: ignore[no-untyped-call]
        stands = still(html, plain)
        handle = display(stands, raw=True, display_id=True)  # type: ignore[no-untyped-call]
    if words:
        print(words)
    if handle is None:
        return None
    return lambda html: handle.update(still(html, plain), raw=True)


def still(html: str, plain: str) -> dict[str, str]:
    """What stands for a live view."""
    return {"text/html": f'<div class="{STILL}">{CHOOSE}{html}</div>', "text/plain": plain}
