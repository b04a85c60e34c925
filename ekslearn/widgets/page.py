"""Puts a widget's browser side together: as a module for anywidget, as a script for any page."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
EXPORT = "export default { render };"


def module(name: str, *more: str) -> str:
    """The ES module of one widget, its style sheets inside (each draws in a shadow root)."""
    sheets = ("common", "player", name, *more)
    style = "".join((HERE / f"{each}.css").read_text() for each in sheets)
    source = "".join((HERE / f"{each}.js").read_text() for each in ("player", name))
    return source.replace('"/*style*/"', json.dumps(style), 1)


def standalone(name: str, data: dict[str, Any], *, fallback: str, step: int = 0) -> str:
    """HTML that plays by itself in any page: no kernel, no network, no other file.

    ``fallback`` is HTML for where scripts don't run (a notebook that isn't trusted yet, a
    repository's preview); where they do, the player takes its place.
    """
    kind = name.replace("_", "-")
    text = json.dumps(data, ensure_ascii=False, sort_keys=True).replace("<", "\\u003c")
    code = module(name).replace(EXPORT, "").replace("</", "<\\/")
    return (
        f'<div class="ekslearn-{kind}" data-step="{step}" data-lm-suppress-shortcuts="true">'
        f'{fallback}<script type="application/json">{text}</script></div>\n'
        f"<script>(() => {{\n{code}\n"
        f'for (const host of document.querySelectorAll(".ekslearn-{kind}:not([data-live])")) {{\n'
        '  host.dataset.live = "true";\n'
        '  const data = JSON.parse(host.querySelector("script").textContent);\n'
        "  mount(host, data, Number(host.dataset.step), () => {});\n}\n})();</script>\n"
    )


def paragraph(text: str) -> str:
    """Text as one HTML paragraph."""
    return f"<p>{html.escape(text)}</p>"
