"""The widgets in JupyterLab, driven by keyboard as a learner does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import WIDTHS, Open, serious

pytestmark = pytest.mark.browser

LOAD = """from ekslearn import data_path, load
from ekslearn.draw import draw_lab
from ekslearn.widgets import packet_walk, route_lookup, shell, workbench
lab = load(data_path("scenarios/{}.yaml"))"""


def where(page: Any) -> tuple[float, float]:
    """The middle of the packet's diamond on the screen, once it stands still."""
    page.wait_for_function(
        "() => { const walk = document.querySelector('[data-step]').shadowRoot;"
        " return walk.querySelector('.packet').getAnimations().length === 0; }"
    )
    box = page.locator(".packet path").first.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.parametrize("width", WIDTHS)
def test_a_walk_is_stepped_by_keyboard(notebook: Open, shots: Path, width: int) -> None:
    page = notebook(
        LOAD.format("one-node"), 'packet_walk(lab, "pod-a", "pod-b:80/tcp")', width=width
    )
    next_step = page.get_by_role("button", name="Next step")
    next_step.scroll_into_view_if_needed()
    next_step.focus()
    start, first = where(page), page.locator(".panel.now .row.lit").inner_text()
    heights = {page.locator("section.card").bounding_box()["height"]}
    seen = [start]
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        seen.append(where(page))
        heights.add(page.locator("section.card").bounding_box()["height"])
    page.screenshot(path=shots / f"walk-{width}.png")
    assert len(set(seen)) >= 3, "the packet has moved"
    page.keyboard.press("Home")
    assert where(page) == start
    assert page.locator(".panel.now .row.lit").inner_text() == first
    page.keyboard.press("ArrowRight")
    assert page.locator(".panel.now .row.lit").inner_text() == "default via 169.254.1.1 dev eth0"
    page.keyboard.press("End")
    assert page.locator(".verdict.shown").inner_text() == "\N{CHECK MARK} DELIVERED"
    heights.add(page.locator("section.card").bounding_box()["height"])
    assert len(heights) == 1, f"the page jumps: {heights}"
    assert page.locator(".jp-CodeCell").count() == 2, "no key reached the notebook"
    assert serious(page, ".jp-OutputArea-output [data-step]") == []
    assert serious(page, ".jp-CodeCell:nth-of-type(2) .jp-OutputArea") == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_broken_route_is_seen_and_mended(notebook: Open, shots: Path, width: int) -> None:
    page = notebook(LOAD.format("two-rooms"), 'workbench(lab, "red", "blue")', width=width)
    line = page.get_by_label("Command line on red")
    line.scroll_into_view_if_needed()
    line.focus()
    page.keyboard.type("ip route del 10.1.1.0/24")
    page.keyboard.press("Enter")
    page.locator(".follows >> text=UNREACHABLE").wait_for(timeout=5_000)
    assert page.locator(".diff pre").all_inner_texts() == [
        "- 10.1.1.0/24 dev veth0 proto kernel scope link src 10.1.1.1"
    ]
    page.get_by_role("slider", name="Step of the walk").focus()
    page.keyboard.press("End")
    assert page.locator(".verdict.shown").inner_text() == "\N{BALLOT X} UNREACHABLE"
    page.screenshot(path=shots / f"workbench-{width}.png")
    line.focus()
    page.keyboard.type("dd x a b ip")  # each a command of JupyterLab's own
    assert line.input_value() == "dd x a b ip"
    assert page.locator(".jp-CodeCell").count() == 2
    page.keyboard.press("Control+a")
    page.keyboard.type("ip ro")
    page.keyboard.press("Tab")
    page.wait_for_function("(it) => it.value === 'ip route '", arg=line.element_handle())
    page.keyboard.press("ArrowUp")
    assert line.input_value() == "ip route del 10.1.1.0/24"
    page.get_by_role("button", name="Undo the last command").click()
    page.locator(".follows >> text=DELIVERED").wait_for(timeout=5_000)
    page.get_by_role("button", name="Share this state as text").click()
    shared = page.get_by_label("The scenario and every command")
    shared.wait_for()
    page.wait_for_function("(it) => it.value.includes('kind: Lab')", arg=shared.element_handle())
    page.locator("section.card").nth(1).screenshot(path=shots / f"shell-{width}.png")
    assert serious(page, ".jp-CodeCell:nth-of-type(2) .jp-OutputArea") == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_lookup_is_asked_by_keyboard(notebook: Open, shots: Path, width: int) -> None:
    page = notebook(LOAD.format("two-enis"), 'route_lookup(lab, "host", "10.0.2.9")', width=width)
    said = page.locator(".said")
    assert said.inner_text().startswith("10.0.2.9 goes out by eth0, via 10.0.1.1. Rule 32766")
    where_to = page.get_by_label("Destination (address)")
    where_to.scroll_into_view_if_needed()
    where_to.focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("10.0.1.41")
    page.keyboard.press("Enter")
    page.locator(".said >> text=10.0.1.41 goes out by eth0, straight").wait_for(timeout=3_000)
    page.keyboard.press("ArrowUp")
    page.locator(".said >> text=10.0.1.42 goes out by eni2f5353dd8c5").wait_for(timeout=3_000)
    assert page.locator("tr.won .row").inner_text() == "10.0.1.42 dev eni2f5353dd8c5 scope link"
    page.keyboard.press("Control+a")
    page.keyboard.type("10.0.2.")
    page.keyboard.press("Tab")
    page.locator(".said.wrong >> text=isn't an IPv4 address").wait_for(timeout=3_000)
    assert where_to.get_attribute("aria-invalid") == "true"
    assert page.locator(".ekslearn-lookup table").count() == 0
    assert serious(page, ".jp-CodeCell:nth-of-type(2) .jp-OutputArea") == []
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("End")
    page.keyboard.type("9")
    page.keyboard.press("Tab")
    page.keyboard.type("pod-b")
    page.keyboard.press("Tab")
    page.keyboard.type("eni2")
    page.keyboard.press("Tab")
    page.locator(".said >> text=Rule 1536 asks table 2").wait_for(timeout=3_000)
    page.screenshot(path=shots / f"lookup-{width}.png")
    page.keyboard.type("0x80")
    page.keyboard.press("Enter")
    page.locator(".said >> text=Rule 1024 asks table main").wait_for(timeout=3_000)
    page.locator("section.card").screenshot(path=shots / f"lookup-card-{width}.png")
    page.locator("summary >> text=Table local, asked by rule 0").click()
    assert page.locator("details[open] tr.lost").count() == 7
    assert page.locator("section.card").evaluate("(it) => it.scrollWidth <= it.clientWidth")
    assert page.locator(".jp-CodeCell").count() == 2, "no key reached the notebook"
    assert serious(page, ".jp-CodeCell:nth-of-type(2) .jp-OutputArea") == []
