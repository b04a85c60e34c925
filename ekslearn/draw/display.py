"""The one way anything is shown in a notebook: HTML, with its words folded away under it."""

from __future__ import annotations

import html
import re
import textwrap
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


def folded(words: str, head: str) -> str:
    """Text that a reader opens: a page of pictures stays short, and nothing is told by them alone.

    >>> folded("a < b", "In words")[:35]
    '<details><summary>In words</summary'
    """
    style = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.35;margin:4px 0 0"
    return (
        f"<details><summary>{html.escape(head)}</summary>"
        f'<pre style="{style}">{html.escape(words)}</pre></details>'
    )


def narrow(listing: str, indent: int = 0) -> str:
    """The rows of a listing, each in as many lines as a page of 800 pixels shows whole.

    A notebook breaks a longer line wherever its edge is; here only words part, an option keeps
    its value, and what belongs to one row is set in.

    >>> print(narrow("-A KUBE-SERVICES " + "-p tcp " * 6 + "-j KUBE-NODEPORTS", 2))
      -A KUBE-SERVICES -p tcp -p tcp -p tcp -p tcp -p tcp -p tcp
          -j KUBE-NODEPORTS
    """
    first, more = " " * indent, " " * (indent + 4)
    page = textwrap.TextWrapper(77, first, more, break_long_words=False, break_on_hyphens=False)
    whole = re.compile(r"(?:(?<= )|^)--?\w[\w-]* (?!-)|\"[^\"]{,50}\"")
    rows = [whole.sub(lambda found: found[0].replace(" ", "\0"), row)
            for row in listing.splitlines()]  # fmt: skip
    return "\n".join(line for row in rows for line in page.wrap(row)).replace("\0", " ")


def show(page: str, plain: str, words: str = "", *, view: Any = None) -> Renew | None:
    """Show the HTML ``page``; ``view`` is a widget to show live instead.

    Where no HTML is shown, in a console and to nbval, ``plain`` and ``words`` stand for it.
    Where there is no kernel to serve the live view, also in a notebook that was saved and opened
    again, the HTML is what a page has; with what is returned it can be brought up to date.
    """
    from IPython.display import display

    plain, short = (f"{plain}\n{words}" if words else plain), plain
    if view is None:
        display({"text/html": page, "text/plain": plain}, raw=True)  # type: ignore[no-untyped-call]
        handle = None
    else:
        live: dict[str, Any] = {"version_major": 2, "version_minor": 0, "model_id": view.model_id}
        display({"text/plain": short, VIEW: live}, raw=True)  # type: ignore[no-untyped-call]
        stands = still(page, plain)
        handle = display(stands, raw=True, display_id=True)  # type: ignore[no-untyped-call]
    if handle is None:
        return None
    return lambda page: handle.update(still(page, plain), raw=True)


def still(page: str, plain: str) -> dict[str, str]:
    """What stands for a live view."""
    return {"text/html": f'<div class="{STILL}">{CHOOSE}{page}</div>', "text/plain": plain}
