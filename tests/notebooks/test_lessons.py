"""What every lesson keeps to: its anatomy, its budgets, its links; and the seed's statements."""

from __future__ import annotations

import csv
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from ekslearn.exercises import EXERCISES
from tests.ground import ROOT
from tests.notebooks import book, regenerate

each_lesson = pytest.mark.parametrize("path", book.LESSONS, ids=lambda path: path.stem)
ADDRESS = re.compile(
    r"\b(?:\d{1,3}\.){3}\d{1,3}\b|\beni[0-9a-f]{11}\b|\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"
)
WELL_KNOWN = {"0.0.0.0", "127.0.0.1"}
WIDGET = re.compile(
    r"^(packet_walk|workbench|shell|route_lookup|pool_view|subnet_view|ledger)\(", re.MULTILINE
)
WIDE = 78  # characters of code that a page 800 pixels wide shows
SENTENCES = 26  # of the seed article, its headings left out


@each_lesson
def test_budgets(path: Path) -> None:
    lengths = [book.code_lines(cell) for cell in book.cells(path, "code")]
    words = sum(len(book.source(cell).split()) for cell in book.cells(path, "markdown"))
    assert 10 <= len(lengths) <= 20
    assert max(lengths) <= 15
    code = [line for cell in book.cells(path, "code") for line in book.source(cell).splitlines()]
    assert max(map(len, code)) <= WIDE
    assert 2 <= statistics.median(lengths) <= 4
    assert 6 <= words / sum(lengths) <= 20


@each_lesson
def test_anatomy(path: Path) -> None:
    first = book.source(book.cells(path)[0])
    assert first.startswith("# ")
    text = book.prose(path)
    for part in ("**You will build**", "**You will be able to**", "**You need**"):
        assert part in first
    for part in ("\n> *", "## Recap", "**Where the model lies.**", "**On a live cluster**"):
        assert part in text
    assert 4 <= len(re.findall(r"^## \d+\. ", text, re.MULTILINE)) <= 8
    assert text.count("**Predict.**") >= 2
    code = [book.source(cell) for cell in book.cells(path, "code")]
    assert [n for n, lines in enumerate(code) if re.search(r"^(import|from) ", lines, re.M)] == [0]
    assert [
        n for n, lines in enumerate(code) if re.search(r"import \*|^[%!]|;\s*$", lines, re.M)
    ] == []


@each_lesson
def test_a_beat_has_one_widget_at_most_after_its_figure(path: Path) -> None:
    figure = widget = False
    for cell in book.cells(path):
        text = book.source(cell)
        if cell["cell_type"] == "markdown":
            if re.search(r"^## ", text, re.MULTILINE):
                widget = False
            continue
        figure = figure or "draw_lab(" in text
        if WIDGET.search(text):
            assert book.code_lines(cell) == 1, cell["id"]
            assert figure and not widget, cell["id"]
            widget = True


@each_lesson
def test_a_picture_is_told_in_words(path: Path) -> None:
    """What a figure's alternative text says stands under it too; a walk does line by line."""
    pictures = 0
    for cell in book.cells(path, "code"):
        printed, pages, _ = book.shown(cell)
        for page in pages:
            pictures += 1
            if "ekslearn-packet-walk" in page:
                assert re.search(r"^request:\n +1  ", printed, re.M), cell["id"]
            elif alts := book.words_of(page):
                assert alts[0] in printed, cell["id"]
            else:
                assert re.sub(r"<[^>]+>", "", page).strip(), cell["id"]
    assert pictures >= 3


@each_lesson
def test_code_knows_no_address(path: Path) -> None:
    """Names and addresses come from the lab; a path or an answer is never written down."""
    for cell in book.cells(path, "code"):
        found = set(ADDRESS.findall(book.source(cell))) - WELL_KNOWN
        assert not found, f"{cell['id']}: {found}"


@each_lesson
def test_links_lead_somewhere(path: Path) -> None:
    links = book.LINK.findall(book.prose(path))
    assert links
    for link in links:
        file, _, part = link.partition("#")
        if link.startswith("https://"):
            continue
        assert "://" not in link, link
        assert (path.parent / file).is_file() if file else part, link


@each_lesson
def test_exercises_of_a_lesson_are_in_it(path: Path) -> None:
    """One easy one in the flow, two at the end (the last lesson: eight), one open; each points to a
    part that exists.
    """
    prefix = path.stem[3:].replace("_", "-")
    mine = [one for one in EXERCISES.values() if one.name.startswith(f"{prefix}/")]
    if path.stem.startswith("00_"):
        assert 'exercise("' in "".join(map(book.source, book.cells(path, "code")))
        return
    ends = 8 if path.stem.startswith("17_") else 2
    assert sorted(one.place for one in mine) == ["easy", *["end"] * ends, "open"]
    code = "".join(book.source(cell) for cell in book.cells(path, "code"))
    headings = [line.lower() for line in book.prose(path).splitlines() if line.startswith("## ")]
    for one in mine:
        assert f'exercise("{one.name}")' in code
        assert any(one.beat.lower() in heading for heading in headings), one.beat


def test_the_first_lesson_leads_to_every_other() -> None:
    first, *others = book.LESSONS
    links = set(book.LINK.findall(book.prose(first)))
    assert {path.name for path in others} <= links


def test_the_seed_is_weighed_sentence_by_sentence() -> None:
    """Every sentence of the article has a statement, a verdict, a reason, and a lesson."""
    with (ROOT / "data" / "seed_statements.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert {int(row["sentences"]) for row in rows} == set(range(1, SENTENCES + 1))
    assert len({row["statement"] for row in rows}) == len(rows)
    for row in rows:
        assert row["verdict"] in ("true", "true with a condition", "wrong")
        assert row["why"].endswith(".") and "|" not in "".join(row.values())
        link = re.fullmatch(r"\[(\d\d)\]\((\d\d)_\w+\.ipynb\)", row["shown"])
        later = re.fullmatch(r"comes with lesson (\d\d)", row["shown"])
        if later:
            there = [path.name for path in book.LESSONS if path.name.startswith(later[1])]
            assert not there, f"{there} is here: link it from {row['statement']!r}"
        else:
            assert link and link[1] == link[2], row["shown"]
            assert (book.NOTEBOOKS / row["shown"].split("(")[1].rstrip(")")).is_file()
    (table,) = (
        text
        for cell in book.cells(book.NOTEBOOKS / "00_start_here.ipynb", "code")
        for text in book.shown(cell)[2]
        if "what is said" in text
    )
    for row in rows:
        assert f"{row['statement']} | **{row['verdict']}** | {row['why']} | {row['shown']}" in table


def test_every_symptom_leads_to_a_lesson() -> None:
    """A symptom, where to look first, and a link: no more cells than the table has."""
    with (ROOT / "data" / "symptoms.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(line for line in file if not line.startswith("#")))
    assert len(rows) > 10
    for row in rows[1:]:
        assert len(row) == 3 and "|" not in "".join(row), row
        assert (book.NOTEBOOKS / book.LINK.findall(row[2])[0]).is_file(), row


@pytest.mark.kernel
def test_what_a_lesson_says_of_the_kernel_is_what_the_kernel_says() -> None:
    """Each `console` block of a lesson is run, and prints what it says."""
    allowed = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", "--mount", "true"], capture_output=True
    )
    if allowed.returncode:
        pytest.skip("this system forbids private namespaces")
    ran = 0
    for path in book.LESSONS:
        for body in re.findall(r"^```console\n(.*?)^```$", book.prose(path), re.M | re.S):
            command, _, said = body.removeprefix("$ ").partition("\n")
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=ROOT,
                env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
                capture_output=True,
                text=True,
            )
            assert done.stdout == said, done.stderr
            ran += 1
    assert ran


def test_the_regenerator_notices_and_renews(tmp_path: Path) -> None:
    """A stored output that isn't what the cell prints is found by --check, and put right."""
    path = tmp_path / "01_containers_of_one_pod.ipynb"
    shutil.copy(book.NOTEBOOKS / path.name, path)
    stored = path.read_text(encoding="utf-8")
    path.write_text(stored.replace("you said: nothing", "you said: something"), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != stored
    assert regenerate.main(["--check", str(path)]) == 1
    assert regenerate.main([str(path)]) == 0
    assert path.read_text(encoding="utf-8") == stored
