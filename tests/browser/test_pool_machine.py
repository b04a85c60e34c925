"""The time machine of lesson 07 in JupyterLab: buttons and fields of a live pool, by keyboard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.browser.conftest import WIDTHS, Open, serious

pytestmark = pytest.mark.browser
CELLS = (
    'import ekslearn\nfrom ekslearn.widgets import pool_view\ncluster = ekslearn.load("warm-pool")',
    'pool_view(cluster, "node-a", live=True)',
)
SENTENCE = (
    "document.querySelector('.ekslearn-live').shadowRoot"
    ".querySelector('[aria-live] .sentence').innerText"
)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_time_machine_is_driven_by_keyboard(notebook: Open, shots: Path, width: int) -> None:
    page = notebook(*CELLS, width=width)
    card = page.locator(".ekslearn-live section").first
    card.wait_for()

    def press(name: str, said: str) -> None:
        button = card.get_by_role("button", name=name, exact=True)
        button.focus()
        button.press("Enter")
        page.wait_for_function(f"() => /{said}/.test({SENTENCE})")

    press("Create a pod", "pod-1 scheduled")
    press("Wait five seconds", "^5 s: time passes")
    assert "ENIs2" in re.sub(r"\s", "", card.locator(".numbers").inner_text())
    press("Create five pods", "pod-2, default.pod-3")
    press("Delete the youngest pod", "pod-6 deleted")
    assert "cooling 30 s" in card.inner_text()
    page.screenshot(path=str(shots / f"pool-machine-{width}.png"), full_page=True)
    fields = card.get_by_label("WARM_IP_TARGET"), card.get_by_label("IP_COOLDOWN_PERIOD")
    fields[1].fill("60")
    fields[0].fill("2")
    fields[0].press("Enter")
    said = "WARM_IP_TARGET=2 IP_COOLDOWN_PERIOD=60: aws-node starts again"
    page.wait_for_function(f"() => {SENTENCE}.includes('{said}')")
    press("Wait sixty seconds", "time passes")
    assert card.get_by_label("IP_COOLDOWN_PERIOD").input_value() == "60"
    field = card.get_by_label("MINIMUM_IP_TARGET")
    field.fill("many")
    field.press("Enter")
    card.locator(".wrong", has_text="isn't a number").wait_for()
    assert "isn't a number from 0 to 1000" in card.locator(".wrong").inner_text()
    page.screenshot(path=str(shots / f"pool-machine-wrong-{width}.png"), full_page=True)
    assert serious(page, ".ekslearn-live") == []
