"""What is left without a kernel: exported pages with the network off, and saved notebooks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from ekslearn.widgets.export import main
from tests.browser.conftest import WIDTHS, Open, run_all, serious, shut_down
from tests.browser.test_jupyterlab import LOAD, where

pytestmark = pytest.mark.browser
LESSONS = Path(__file__).parents[2] / "notebooks"
CELLS = [
    LOAD.format("two-rooms"),
    "draw_lab(lab)",
    'packet_walk(lab, "red", "10.1.1.2")',
    'shell(lab, "red")',
    'workbench(lab, "blue", "10.1.1.1")',
    'route_lookup(lab, "red")',
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook that was run, exported as `make html` does."""
    folder = tmp_path_factory.mktemp("export")
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=60).execute()
    nbformat.write(notebook, folder / "lesson.ipynb")
    assert main([str(folder / "lesson.ipynb"), "--to", str(folder / "html")]) == 0
    return folder / "html/lesson.html"


def test_hints_fold_and_code_is_set_as_code(chromium: Any, tmp_path: Path) -> None:
    """A hint that can be seen unasked gives an exercise away."""
    source = LESSONS / "16_dns_and_network_policy.ipynb"
    assert main([str(source), "--to", str(tmp_path)]) == 0
    page = chromium.new_page()
    page.goto((tmp_path / f"{source.stem}.html").as_uri())
    folds = page.locator("details:has(> summary:text-is('Hint 1'))")
    assert folds.count() == 4
    for fold in folds.all():
        hint = fold.locator("p").first
        assert not hint.is_visible()
        fold.locator("summary").first.click()
        assert hint.is_visible()
    for block in page.locator(".jp-RenderedMarkdown pre").all():
        assert "mono" in block.evaluate("(it) => getComputedStyle(it).fontFamily")


@pytest.mark.parametrize("width", WIDTHS)
def test_an_exported_page_steps_with_the_network_off(
    chromium: Any, page_file: Path, shots: Path, width: int
) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 900})
    context.set_offline(True)
    asked: list[str] = []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(page_file.as_uri())
    walks = page.locator("[data-step]")
    assert walks.count() == 2
    walks.first.locator("button >> text=Next").focus()
    start = where(page)
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert where(page) != start
    assert walks.first.locator(".sentence").last.inner_text().startswith("red: leaves by veth0")
    page.screenshot(path=shots / f"page-{width}.png", full_page=True)
    page.keyboard.press("End")
    assert walks.first.locator(".verdict.shown").inner_text() == "\N{CHECK MARK} DELIVERED"
    assert walks.nth(1).get_attribute("data-step") == "0", "each walk steps for itself"
    assert page.get_by_text("It needs a running kernel").count() == 2
    assert page.get_by_text("10.1.1.2 goes out by veth0, straight").count() == 1
    assert page.locator(".ekslearn-lookup tr.won").count() == 2
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    for number in range(page.locator(".jp-OutputArea").count()):
        page.evaluate(
            "(n) => document.querySelectorAll('.jp-OutputArea')[n].id = `out-${n}`", number
        )
        assert serious(page, f"#out-{number}") == []
    context.close()


def test_a_step_takes_less_than_a_frame_or_two(chromium: Any, page_file: Path) -> None:
    page = chromium.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page.goto(page_file.as_uri())
    page.locator("[data-step]").first.locator("button >> text=Next").focus()
    taken = page.evaluate(STEPPING)
    page.close()
    print(json.dumps(taken))
    assert taken["handler_p95"] < 16
    assert taken["painted_p95"] < 100  # two frames, and room for a busy machine


STEPPING = """async () => {
  const card = document.querySelector('[data-step]').shadowRoot.querySelector('.card');
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const handler = [], painted = [];
  for (let n = 0; n < 60; n += 1) {
    const key = n % 20 < 10 ? 'ArrowRight' : 'ArrowLeft';
    await frame();
    const start = performance.now();
    card.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    handler.push(performance.now() - start);
    await frame();
    painted.push(performance.now() - start);
  }
  const at = (list, part) => list.sort((a, b) => a - b)[Math.floor(list.length * part)];
  return { handler_median: at(handler, 0.5), handler_p95: at(handler, 0.95),
    painted_median: at(painted, 0.5), painted_p95: at(painted, 0.95) };
}"""


def test_play_walks_to_the_end_and_back_to_still(chromium: Any, page_file: Path) -> None:
    page = chromium.new_page(reduced_motion="reduce")
    page.clock.install()
    page.goto(page_file.as_uri())
    walk = page.locator("[data-step]").first
    play = walk.get_by_role("button", name="Play all steps")
    play.click()
    for number in range(1, 4):
        page.clock.run_for(1600)
        assert walk.get_attribute("data-step") == str(number)
    walk.get_by_role("button", name="Pause").click()
    page.clock.run_for(5000)
    assert walk.get_attribute("data-step") == "3"
    assert page.evaluate("() => document.querySelector('[data-step]').shadowRoot"
                         ".querySelector('.packet').getAnimations().length") == 0  # fmt: skip
    page.close()


def test_what_was_passed_over_is_told_on_demand(chromium: Any, page_file: Path) -> None:
    page = chromium.new_page()
    page.goto(page_file.as_uri())
    panel = page.locator("[data-step]").first.locator(".panel.now")
    assert not panel.locator("li").first.is_visible()
    panel.locator("summary").focus()
    page.keyboard.press("Enter")
    assert "doesn't hold 10.1.1.2" in panel.locator("li").first.inner_text()
    page.close()


def test_a_saved_notebook_steps_with_no_run_and_reads_well_untrusted(
    notebook: Open, jupyter: tuple[str, Path], shots: Path
) -> None:
    page = notebook(*CELLS[:3], name="saved.ipynb")
    page.keyboard.press("Control+s")
    page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')")
    page.wait_for_timeout(500)

    page = notebook(run=False, name="saved.ipynb")  # trusted: it was run on this machine
    page.locator("[data-step] button >> text=Next").focus()
    start = where(page)
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert where(page) != start

    root = jupyter[1]
    other = nbformat.read(root / "saved.ipynb", as_version=4)
    other.cells[2].source += "  # from somebody else"
    nbformat.write(other, root / "strange.ipynb")
    page = notebook(run=False, name="strange.ipynb")  # not trusted: scripts are taken out
    outputs = page.locator(".jp-OutputArea-output")
    outputs.first.wait_for()
    assert page.locator("[data-step] button").count() == 0
    assert page.locator(".jp-OutputArea img[alt^='two-rooms: 2 network namespaces']").count() == 2
    assert page.get_by_text("Run this cell, or open the exported page").is_visible()
    page.locator("summary >> text=The walk as text").click()
    assert "17  red, deliver: the answer reaches" in outputs.last.inner_text()
    assert "{" not in page.locator(".jp-RenderedHTML").last.inner_text()
    page.screenshot(path=shots / "untrusted.png")
    assert serious(page, ".jp-CodeCell:nth-of-type(3) .jp-OutputArea") == []
    run_all(page)
    assert page.locator("[data-step] button").count() == 3


def test_what_a_learner_typed_is_read_again_without_a_run(notebook: Open, shots: Path) -> None:
    cells = (LOAD.format("two-rooms"), 'workbench(lab, "red", "blue")', 'route_lookup(lab, "red")')
    page = notebook(*cells, name="mine.ipynb")
    stills = page.locator(".ekslearn-still")
    assert [stills.nth(n).is_visible() for n in range(stills.count())] == [False, False]
    page.get_by_label("Command line on red").focus()
    page.keyboard.type("ip route del 10.1.1.0/24")
    page.keyboard.press("Enter")
    page.locator(".follows >> text=UNREACHABLE").wait_for(timeout=5_000)
    page.get_by_label("Destination address").focus()
    page.keyboard.press("ArrowUp")
    page.locator(".said >> text=10.1.1.3").first.wait_for(timeout=5_000)
    page.wait_for_timeout(500)
    page.locator(".jp-CodeCell .jp-InputPrompt").first.click()  # out of the widget, whose keys
    page.keyboard.press("Control+s")  # are its own
    page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')")
    page.wait_for_timeout(500)
    shut_down(page)

    page = notebook(run=False, name="mine.ipynb")
    stills = page.locator(".ekslearn-still")
    stills.nth(1).wait_for()
    assert page.get_by_text("model not found").count() == 0 or not (
        page.get_by_text("model not found").first.is_visible()
    )
    assert "ip route del 10.1.1.0/24" in stills.first.inner_text()
    assert "10.1.1.3 goes nowhere" in stills.nth(1).inner_text()
    assert stills.first.get_by_role("button", name="Next step").is_visible()
    page.screenshot(path=shots / "reopened.png")
    assert serious(page, ".jp-CodeCell:nth-of-type(2) .jp-OutputArea") == []
