"""Every lesson as a page: each of its widgets at every stop of every control, by keyboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ekslearn.widgets.export import export
from tests.browser.conftest import WIDTHS
from tests.notebooks import book

pytestmark = pytest.mark.browser

# Presses a player's keys, moves its slider and clicks its buttons; tells what was seen at each
# stop. All of it in the browser, since two thousand stops are walked.
EVERY_STOP = """(host) => {
  const card = host.shadowRoot.querySelector('section.card');
  const at = () => Number(host.dataset.step);
  const find = (name) => host.shadowRoot.querySelector(`[aria-label="${name}"]`);
  const key = (node, name) => node.dispatchEvent(
    new KeyboardEvent('keydown', { key: name, bubbles: true, composed: true }));
  const said = () => [...card.querySelectorAll('.sentence')].at(-1).innerText;
  const cells = card.querySelector('.map');
  const found = { words: [], heights: [], wrong: [] };
  const check = (what, holds) => holds || found.wrong.push(`${what} at ${at()}`);
  if (cells) {
    const last = Number(cells.getAttribute('aria-valuemax'));
    key(cells, 'Home');
    for (let n = 0; n < last; n += 1) {
      found.words.push(said());
      check('valuenow', Number(cells.getAttribute('aria-valuenow')) === n);
      key(cells, 'ArrowRight');
    }
    check('the end', at() === last);
    for (const name of ['ArrowLeft', 'ArrowUp', 'ArrowDown', 'PageUp', 'PageDown', 'End', 'Home'])
      key(cells, name);
    check('Home', at() === 0);
    card.querySelectorAll('button, input[type=checkbox]').forEach((each) => each.click());
    return found;
  }
  const groups = [...card.querySelectorAll('fieldset')]
    .map((each) => [...each.querySelectorAll('input')]);
  const ways = groups.reduce((product, radios) => product * radios.length, 1);
  for (let n = 0; groups.length && n < ways; n += 1) {
    let rest = n;
    for (const radios of groups.toReversed()) {
      const radio = radios[rest % radios.length];
      rest = Math.floor(rest / radios.length);
      if (!radio.checked) radio.click();
    }
    check(`way ${n}`, at() === n);
    found.heights.push(card.offsetHeight);
    found.words.push(card.querySelector('.sum').lastChild.textContent);
    const lines = [...card.querySelectorAll('tbody tr')];
    lines.forEach((line, row) => {
      check(`row ${row}`, line.classList.contains('now') && line.ariaCurrent === 'step');
      check('its sentence', said().includes(line.cells[2].firstChild.textContent));
      key(card.querySelector('.page'), 'ArrowRight');
    });
    key(card.querySelector('.page'), 'Home');
    check('the first row', !lines.length || lines[0].classList.contains('now'));
  }
  if (groups.length) return found;
  const slider = card.querySelector('.steps input'), last = Number(slider.max);
  const next = find('Next step'), back = find('Back one step'), play = find('Play all steps');
  for (let n = 0; n <= last; n += 1) {
    check('step', at() === n);
    found.words.push(said());
    found.heights.push(host.dataset.kind === 'walk' ? card.offsetHeight : 0);
    check('back', back.disabled === (n === 0));
    check('next', next.disabled === (n === last));
    const lit = card.querySelector('.panel.now .row.lit'), rows = card.querySelector('.now .rows');
    if (lit) {
      const [a, b] = [lit, rows].map((node) => node.getBoundingClientRect());
      check('lit row in sight', a.top >= b.top - 2 && a.top < b.bottom);
    }
    key(card, n % 2 ? 'ArrowUp' : 'ArrowRight');
  }
  for (let n = last; n > 0; n -= 1) { check('going back', at() === n); back.click(); }
  check('back at the start', at() === 0);
  for (let n = last; n >= 0; n -= 1) {
    slider.value = n;
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    check(`slider ${n}`, at() === n && said() === found.words[n]);
  }
  key(card, 'End');
  check('End', at() === last);
  key(card, 'Home');
  check('Home', at() === 0);
  card.querySelector('.chart')?.dispatchEvent(new MouseEvent('click', { clientX: 1e5 }));
  if (last) { play.click(); check('playing', play.textContent === 'Pause'); play.click(); }
  card.querySelectorAll('summary').forEach((each) => each.click());
  return found;
}"""


@pytest.mark.parametrize("path", book.LESSONS, ids=lambda path: path.stem)
def test_every_stop_of_every_widget(chromium: Any, path: Path, tmp_path: Path) -> None:
    page_file = export(path, tmp_path)
    for width in WIDTHS:
        page = chromium.new_page(
            viewport={"width": width, "height": 900}, reduced_motion="reduce", offline=True
        )
        errors: list[str] = []
        page.on("pageerror", lambda error, seen=errors: seen.append(str(error)))
        page.on(
            "console",
            lambda said, seen=errors: seen.append(said.text) if said.type == "error" else None,
        )
        page.goto(page_file.as_uri())
        hosts = page.locator("[data-step]").element_handles()
        stored = [
            json.loads("".join(text))
            for cell in book.cells(path, "code")
            for shown in book.shown(cell)[1]
            for text in book.DATA.findall(shown)
        ]
        assert len(hosts) == len(stored)
        assert hosts
        for host, data in zip(hosts, stored, strict=True):
            page.evaluate("([it, walk]) => { if (walk) it.dataset.kind = 'walk'; }",
                          [host, "stops" in data])  # fmt: skip
            found = page.evaluate(EVERY_STOP, host)
            assert found["wrong"] == []
            assert len(set(found["heights"])) <= 1, "the card jumps"
            told = [each["words"] for each in data.get("stops", data.get("frames", []))]
            told += [data["pages"][number]["summary"] for number in data.get("ways", [])]
            assert found["words"] == told or ("letters" in data and len(set(found["words"])) > 10)
            assert host.evaluate(
                "(it) => { const card = it.shadowRoot.querySelector('.card');"
                " return card.scrollWidth <= card.clientWidth; }"
            ), "something is cut off"
        assert errors == []
        page.close()
