"""Walks of clusters, pools and subnets in a browser: every stop of every control, by keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from ekslearn.widgets.export import main
from tests.browser.conftest import WIDTHS, Open, serious

pytestmark = pytest.mark.browser
CELLS = [
    "from ekslearn.draw import draw_lab\n"
    "from ekslearn.widgets import packet_walk, pool_view, subnet_view, workbench\n"
    "from tests.draw.clusters import office, two_nodes\n"
    "lab, two = office(), two_nodes()",
    "draw_lab(two)",
    'packet_walk(two, "default/web-3", "default/api-1:8080/tcp")',
    'packet_walk(lab, "shop/api", "198.51.100.9:8080/tcp")',
    'pool_view(two, "node-b", ["create 3", "sleep 30", "delete 2", "sleep 90"])',
    'subnet_view(lab, "public-a")',
    'subnet_view(lab, "private-a")',
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook that was run, exported as `make html` does."""
    folder = tmp_path_factory.mktemp("export")
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120).execute()
    nbformat.write(notebook, folder / "lesson.ipynb")
    assert main([str(folder / "lesson.ipynb"), "--to", str(folder / "html")]) == 0
    return folder / "html/lesson.html"


def step_through(page: Any, player: Any) -> list[str]:
    """Press the right arrow until the end; every sentence on the way."""
    player.get_by_role("button", name="Next step").focus()
    said = []
    while True:
        said.append(player.locator(".sentence").last.inner_text())
        at = player.get_attribute("data-step")
        page.keyboard.press("ArrowRight")
        if player.get_attribute("data-step") == at:
            return said


@pytest.mark.parametrize("width", WIDTHS)
def test_every_stop_in_an_exported_page_with_the_network_off(
    chromium: Any, page_file: Path, shots: Path, width: int
) -> None:
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, reduced_motion="reduce"
    )
    context.set_offline(True)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(page_file.as_uri())
    players = page.locator("[data-step]")
    assert players.count() == 5
    for number, (stops, words) in enumerate(
        [(40, "AWS as documented, vpc route: send to local"),
         (30, "AWS as documented, vpc nat: ")]
    ):  # fmt: skip
        walk = players.nth(number)
        said = step_through(page, walk)
        assert len(said) > stops
        assert any(each.startswith(words) for each in said), said
        assert walk.locator(".verdict.shown").inner_text() == "\N{CHECK MARK} DELIVERED"
        smallest = page.evaluate(SMALLEST, number)
        assert smallest > 9.9
        page.keyboard.press("Home")
        for _ in range(17):
            page.keyboard.press("ArrowRight")
        walk.locator("section.card").screenshot(path=shots / f"cluster-walk-{number}-{width}.png")
    pool = players.nth(2)
    said = step_through(page, pool)
    assert len(said) > 5
    assert said[1] == "0 s: default/pod-1, default/pod-2, default/pod-3 scheduled"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert pool.locator(".slot.assigned.new").count() == 3
    page.keyboard.press("End")
    assert pool.locator(".slot").count() == pool.locator(".slots").count() * 4
    pool.locator("section.card").screenshot(path=shots / f"pool-{width}.png")
    pool.locator(".chart").click(position={"x": 1, "y": 20})
    assert pool.get_attribute("data-step") == "0"
    for number in (3, 4):
        walk_subnet(page, players.nth(number))
        card = players.nth(number).locator("section.card")
        card.screenshot(path=shots / f"subnet-{number}-{width}.png")
    assert errors == []
    for number in range(players.count()):
        page.evaluate("(n) => document.querySelectorAll('[data-step]')[n].id = `p-${n}`", number)
        assert serious(page, f"#p-{number}") == []
        card = players.nth(number).locator("section.card")
        assert card.evaluate("(it) => it.scrollWidth <= it.clientWidth"), "nothing is cut off"
    context.close()


SMALLEST = """(n) => {
  const svg = document.querySelectorAll('[data-step]')[n].shadowRoot
    .querySelector('.picture svg');
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  return scale * Math.min(...[...svg.querySelectorAll('text')]
    .map((node) => parseFloat(getComputedStyle(node).fontSize)));
}"""


def walk_subnet(page: Any, view: Any) -> None:
    """Every key and every button."""
    cells = view.get_by_role("slider")
    cells.focus()
    at = []
    for key in ("ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft", "PageDown", "PageUp", "End",
                "ArrowRight", "Home", "ArrowLeft", "ArrowUp"):  # fmt: skip
        page.keyboard.press(key)
        at.append(int(cells.get_attribute("aria-valuenow")))
    last = int(cells.get_attribute("aria-valuemax"))
    row = at[1] - at[0]
    assert at == [1, 1 + row, 1, 0, 16, 0, last, last, 0, 0, 0]
    view.get_by_role("button", name="Next taken address").click()
    assert "primary address, eth0 of" in view.locator(".sentence").inner_text()
    view.get_by_role("button", name="Next free /28").focus()
    page.keyboard.press("Enter")
    assert "wholly free" in view.locator(".sentence").inner_text()
    assert int(cells.get_attribute("aria-valuenow")) % 16 == 0
    field = view.get_by_label("Go to address")
    field.fill("10.0.300.1")
    field.press("Enter")
    assert view.locator(".sentence").inner_text() == '"10.0.300.1" isn\'t an IPv4 address.'
    field.fill("192.0.2.1")
    field.press("Enter")
    assert view.locator(".sentence").inner_text() == "192.0.2.1 isn't in this subnet."
    base = cells.get_attribute("aria-valuetext")
    assert "/28" in base
    box = view.locator(".map canvas").bounding_box()
    page.mouse.click(box["x"] + 107, box["y"] + 8)
    assert cells.get_attribute("aria-valuenow") == "0"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_tall_map_follows_its_packet(notebook: Open, shots: Path, width: int) -> None:
    """Packet, buttons and decision are on one screen, wherever the packet is in a long picture."""
    page = notebook(
        "from ekslearn import load\nfrom ekslearn.widgets import packet_walk",
        'packet_walk(load("capstone"), "browser", "lb/shop/web:443")',
        width=width,
    )
    page.emulate_media(reduced_motion="reduce")
    frame, packet = page.locator(".picture"), page.locator(".packet path").first
    page.get_by_role("button", name="Next step").focus()
    height, tops = frame.bounding_box()["height"], set()
    assert height < 660, "it fills the window"
    assert frame.evaluate("(it) => it.scrollHeight > it.clientHeight + 200"), "the map is tall"
    for _ in range(60):
        box, it = frame.bounding_box(), packet.bounding_box()
        assert box["y"] <= it["y"], "the packet is above what is shown"
        assert it["y"] + it["height"] <= box["y"] + box["height"], "it is below what is shown"
        assert box["height"] == height
        tops.add(frame.evaluate("(it) => it.scrollTop"))
        page.keyboard.press("ArrowRight")
    assert len(tops) > 1, "nothing was followed"
    assert frame.get_attribute("tabindex") == "0"
    page.screenshot(path=shots / f"tall-walk-{width}.png")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_live_pool_goes_on_as_it_is_told(notebook: Open, shots: Path, width: int) -> None:
    page = notebook(CELLS[0], 'pool_view(two, "node-b", live=True)', width=width)
    where = page.locator(".ekslearn-live section.card .steps output")
    page.get_by_role("button", name="Create five pods").focus()
    page.keyboard.press("Enter")
    where.get_by_text("2 of 2").wait_for(timeout=9_000)
    assert page.locator(".ekslearn-live .slot.assigned").count() == 6
    page.get_by_role("button", name="Wait sixty seconds").focus()
    page.keyboard.press("Enter")
    page.locator(".ekslearn-live .decisions .holds").first.wait_for(timeout=9_000)
    before = where.inner_text()
    field = page.get_by_label("WARM_IP_TARGET")
    field.fill("many")
    field.press("Enter")
    page.locator(".wrong >> text=isn't a number").wait_for(timeout=9_000)
    assert where.inner_text() == before
    page.get_by_label("WARM_IP_TARGET").fill("2")
    page.get_by_role("button", name="Set these and restart").click()
    heard = page.locator(".ekslearn-live [aria-live] .sentence")
    heard.get_by_text("aws-node starts again").wait_for(timeout=9_000)
    assert page.locator(".wrong").inner_text() == ""
    page.locator(".ekslearn-live section.card").screenshot(path=shots / f"pool-live-{width}.png")
    page.get_by_role("slider", name="Step in time").focus()
    page.keyboard.press("Home")
    page.keyboard.type("dd x a b")  # each a command of JupyterLab's own
    assert page.locator(".jp-CodeCell").count() == 2
    assert serious(page, ".jp-CodeCell:nth-of-type(2) .jp-OutputArea") == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_node_is_broken_and_mended_in_a_workbench(
    notebook: Open, shots: Path, width: int
) -> None:
    ask = 'workbench(two, "default/web-1", "default/api-1:8080/tcp", place="node-a")'
    page = notebook(CELLS[0], ask, width=width)
    line = page.get_by_label("Command line on node-a")
    line.scroll_into_view_if_needed()
    line.focus()
    page.keyboard.type("ip link set dev eth0 down")
    page.keyboard.press("Enter")
    page.locator(".follows >> text=UNREACHABLE").or_(
        page.locator(".follows >> text=DROPPED")).wait_for(timeout=9_000)  # fmt: skip
    page.get_by_role("button", name="Undo the last command").click()
    page.locator(".follows >> text=DELIVERED").wait_for(timeout=9_000)
    page.screenshot(path=shots / f"cluster-workbench-{width}.png")
    assert serious(page, ".jp-CodeCell:nth-of-type(2) .jp-OutputArea") == []
