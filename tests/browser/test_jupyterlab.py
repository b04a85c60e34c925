"""The widgets in JupyterLab, driven by keyboard as a learner does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import WIDTHS, Open, serious, shut_down

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
    if width == 1280:
        assert (
            line.bounding_box()["y"] + 30 < page.locator("#jp-main-statusbar").bounding_box()["y"]
        )
    line.scroll_into_view_if_needed()
    line.focus()
    before = page.locator("section.card").first.bounding_box()
    page.keyboard.type("ip route del 10.1.1.0/24")
    page.keyboard.press("Enter")
    page.locator(".follows >> text=UNREACHABLE").wait_for(timeout=5_000)
    assert page.locator(".diff pre").all_inner_texts() == [
        "- 10.1.1.0/24 dev veth0 proto kernel scope link src 10.1.1.1"
    ]
    assert page.locator("section.card").first.bounding_box() == before, "the walk's card jumps"
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
    where_to = page.get_by_label("Destination address")
    where_to.scroll_into_view_if_needed()
    where_to.focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("10.0.1.41")
    page.keyboard.press("Enter")
    page.locator(".said >> text=10.0.1.41 goes out by eth0, straight").wait_for(timeout=9_000)
    page.keyboard.press("ArrowUp")
    page.locator(".said >> text=10.0.1.42 goes out by eni2f5353dd8c5").wait_for(timeout=9_000)
    assert (
        page.locator("section.card tr.won .row").inner_text()
        == "10.0.1.42 dev eni2f5353dd8c5 scope link"
    )
    page.keyboard.press("Control+a")
    page.keyboard.type("10.0.2.")
    page.keyboard.press("Tab")
    page.locator(".said.wrong >> text=isn't an IPv4 address").wait_for(timeout=9_000)
    assert where_to.get_attribute("aria-invalid") == "true"
    assert page.locator("section.card table").count() == 0
    assert serious(page, ".jp-CodeCell:nth-of-type(2) .jp-OutputArea") == []
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("End")
    page.keyboard.type("9")
    page.keyboard.press("Tab")
    page.keyboard.type("pod-b")
    page.keyboard.press("Tab")
    page.keyboard.type("eni2")
    page.keyboard.press("Tab")
    page.locator("section.card .tool >> text=iif eni2f5353dd8c5").wait_for(timeout=9_000)
    page.locator(".said >> text=Rule 1536 asks table 2").wait_for(timeout=9_000)
    assert page.get_by_label("Came in by").input_value() == "eni2f5353dd8c5"
    page.screenshot(path=shots / f"lookup-{width}.png")
    page.keyboard.type("0x80")
    page.keyboard.press("Enter")
    page.locator(".said >> text=Rule 1024 asks table main").wait_for(timeout=9_000)
    page.locator("section.card").screenshot(path=shots / f"lookup-card-{width}.png")
    page.locator("section.card summary >> text=Table local, asked by rule 0").click()
    assert page.locator("section.card details[open] tr.lost").count() == 7
    assert page.locator("section.card").evaluate("(it) => it.scrollWidth <= it.clientWidth")
    assert page.locator(".jp-CodeCell").count() == 2, "no key reached the notebook"
    assert serious(page, ".jp-CodeCell:nth-of-type(2) .jp-OutputArea") == []


@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_of_a_walk_is_smaller_than_ten_pixels(
    notebook: Open, shots: Path, width: int
) -> None:
    for name, ask in (("one-node", '"pod-a", "pod-b:80/tcp"'), ("two-enis", '"pod-b", "peer"')):
        page = notebook(LOAD.format(name), f"packet_walk(lab, {ask})", width=width)
        smallest = page.evaluate("""() => {
          const svg = document.querySelector('[data-step]').shadowRoot.querySelector('svg');
          const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
          return scale * Math.min(...[...svg.querySelectorAll('text')]
            .map((node) => parseFloat(getComputedStyle(node).fontSize)));
        }""")
        assert smallest > 9.9
        page.get_by_role("button", name="Next step").focus()
        for _ in range(12):
            page.keyboard.press("ArrowRight")
        x, _ = where(page)
        assert 120 < x < width - 40, "the packet is in sight"
        page.locator("section.card").screenshot(path=shots / f"{name}-{width}.png")
        assert serious(page, ".jp-CodeCell:nth-of-type(2) .jp-OutputArea") == []


def test_a_long_listing_shows_the_row_that_decides(notebook: Open, shots: Path) -> None:
    page = notebook(LOAD.format("node-port"), 'packet_walk(lab, "client", "10.0.1.10:31380/tcp")')
    page.get_by_role("button", name="Next step").focus()
    seen = 0
    for _ in range(60):
        page.keyboard.press("ArrowRight")
        if page.locator(".panel.now .cap").inner_text().startswith("host$ iptables-save -t nat"):
            frame = page.locator(".panel.now .rows").first.bounding_box()
            for lit in page.locator(".panel.now .row.lit").all():
                box = lit.bounding_box()
                assert frame["y"] <= box["y"] < frame["y"] + frame["height"]
                seen += 1
            if seen == 1:
                page.locator("section.card").screenshot(path=shots / "iptables-1280.png")
    assert seen
    assert serious(page, ".jp-CodeCell:nth-of-type(2) .jp-OutputArea") == []


def test_a_slow_and_a_silent_kernel_are_told(notebook: Open) -> None:
    page = notebook(
        LOAD.format("two-rooms"),
        "import time\nterminal = shell(lab, 'red')\n"
        "terminal.on_change(lambda lab: time.sleep(0.6) or 'slept')\nterminal",
    )
    line = page.get_by_label("Command line on red")
    line.focus()
    page.keyboard.type("ip route")
    page.keyboard.press("Enter")
    page.locator(".status >> text=working").wait_for(timeout=2_000)
    page.locator(".status >> text=Enter runs").wait_for(timeout=5_000)
    shut_down(page)
    line.focus()
    page.keyboard.type("ip route")
    page.keyboard.press("Enter")
    page.locator(".status >> text=No answer").wait_for(timeout=8_000)
