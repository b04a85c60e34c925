"""How long a step of a walk takes to reach the screen, against the same picture by `interact`.

Run it with ``python -m tests.bench.widget_step [SAMPLES]``. Both stand in one notebook of one
JupyterLab in headless Chromium and are stepped in turn by the same key. Measured in the page, from
the keydown until the changed picture is there (decoded, where it is an image) plus one frame.

``interact`` is treated kindly: it gets the finished layout and only draws it, as PNG.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.bench.figures import Row
from tests.browser.conftest import chromium_path, run_all, serve, write

CELLS = (
    """from ekslearn import data_path, load
from ekslearn.widgets import packet_walk
lab = load(data_path("scenarios/one-node.yaml"))
walk = packet_walk(lab, "pod-a", "pod-b:80/tcp")
walk""",
    """%matplotlib inline
import matplotlib.pyplot as plt
from ipywidgets import IntSlider, interact
from ekslearn.draw.topology import draw_box, draw_wire
layout = walk.drawing.layout

def redraw(step):
    figure = plt.figure(figsize=(layout.width / 72, layout.height / 72), dpi=72)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, layout.width), ylim=(layout.height, 0))
    ax.axis("off")
    for wire in layout.wires:
        draw_wire(ax, wire)
    for box in layout.boxes.values():
        draw_box(ax, box)
    ax.plot(*walk.stops[step]["at"], "D", markersize=14)
    ax.set_title(walk.stops[step]["words"])
    plt.show()

interact(redraw, step=IntSlider(min=0, max=len(walk.stops) - 1));""",
)
MEASURE = """(kind) => {
  const walk = document.querySelector('[data-step]').shadowRoot;
  const cell = document.querySelectorAll('.jp-CodeCell')[1];
  const image = () => cell.querySelector('.jp-OutputArea-output img');
  const seen = kind === 'walk'
    ? () => walk.querySelector('.sentence:last-child').textContent
        + walk.querySelector('.steps output').textContent
    : () => (image() && image().src) || '';
  const before = seen();
  window.taken = new Promise((done) => {
    let start = 0;
    window.addEventListener('keydown', () => { start = performance.now(); },
      { capture: true, once: true });
    const watch = new MutationObserver(async () => {
      if (!start || !seen() || seen() === before) return;
      watch.disconnect();
      if (kind !== 'walk') await image().decode();
      requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
    });
    watch.observe(kind === 'walk' ? walk : cell,
      { subtree: true, childList: true, attributes: true, characterData: true });
  });
}"""
HANDLES = {"walk": "[data-step] input[type=range]", "interact": ".jp-CodeCell .noUi-handle"}


def measure(page: Any, samples: int) -> dict[str, list[float]]:
    """Milliseconds per step, both ways in turn; the first three of each only warm up."""
    found: dict[str, list[float]] = {kind: [] for kind in HANDLES}
    for number in range(samples + 3):
        key = "ArrowRight" if number % 20 < 10 else "ArrowLeft"
        for kind, handle in HANDLES.items():
            page.locator(handle).first.focus()
            page.evaluate(MEASURE, kind)
            page.keyboard.press(key)
            taken = float(page.evaluate("() => window.taken"))
            found[kind] += [taken] if number >= 3 else []
            page.wait_for_timeout(120)
    return found


def table(found: dict[str, list[float]]) -> str:
    """Median and 95th percentile of each, and how many times faster the walk is."""
    names = {"walk": "a step of packet_walk", "interact": "the same picture by interact"}
    by = {kind: (statistics.median(times), statistics.quantiles(times, n=20)[-1])
            for kind, times in found.items()}  # fmt: skip
    lines = [f"{'':30s}{'median':>10s}{'p95':>10s}"]
    lines += [f"{names[kind]:30s}{a:7.1f} ms{b:7.1f} ms" for kind, (a, b) in by.items()]
    median, p95 = (slow / fast for slow, fast in zip(by["interact"], by["walk"], strict=True))
    return "\n".join([*lines, f"{'times faster':30s}{median:10.1f}{p95:10.1f}"])


def rows(repeats: int) -> list[Row]:
    """For the table of ``make bench``: all steps, and the slowest twentieth; none unmeasured."""
    found = stepped(max(repeats, 40))
    if not found:
        return []
    ours, theirs = ([each / 1000 for each in found[kind]] for kind in HANDLES)
    what, against = "a widget's step, from key to picture", "redrawn by interact"
    late = [[statistics.quantiles(times, n=20)[-1]] for times in (ours, theirs)]
    return [
        Row(what=what, ours=ours, against=against, theirs=theirs),
        Row(what=f"{what}, p95", ours=late[0], against=against, theirs=late[1], aim="0.2"),
    ]


def stepped(samples: int) -> dict[str, list[float]]:
    """Start JupyterLab and the browser, and measure; nothing where there is no browser."""
    path = chromium_path()
    if path is None:
        return {}
    with (
        tempfile.TemporaryDirectory() as home,
        serve(Path(home)) as (address, root),
        sync_playwright() as started,
    ):
        write(root / "bench.ipynb", CELLS)
        browser = started.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 2000}, reduced_motion="reduce")
        page.goto(f"{address}/lab/tree/bench.ipynb?reset")
        page.wait_for_selector("#jp-main-statusbar >> text=Idle", timeout=60_000)
        run_all(page)
        page.locator(".jp-CodeCell").nth(1).locator("img").first.wait_for(timeout=30_000)
        found = measure(page, samples)
        browser.close()
    return found


def main(samples: int = 40) -> None:
    """Measure, and print one table."""
    found = stepped(samples)
    if not found:
        sys.exit("no Chromium on this machine: install it, or name it in CHROMIUM")
    print(f"a widget's step, key to picture, {samples} samples each in one JupyterLab")
    print(table(found))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
