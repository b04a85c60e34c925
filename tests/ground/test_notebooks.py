"""Every lesson is collected by the tests and stored in its normal form."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ground import ROOT, normal


def test_every_notebook_is_collected() -> None:
    """As many notebooks as there are files, each with all its code cells."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--collect-only",
            "-q",
            "-p",
            "no:cacheprovider",
            "notebooks",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST")},
    )
    collected: dict[str, int] = {}
    for name in re.findall(r"^notebooks/([^:]+\.ipynb)::", done.stdout, re.MULTILINE):
        collected[name] = collected.get(name, 0) + 1
    cells = {
        path.relative_to(ROOT / "notebooks").as_posix(): sum(
            cell["cell_type"] == "code"
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        )
        for path in (ROOT / "notebooks").rglob("*.ipynb")
        if ".ipynb_checkpoints" not in path.parts
    }
    assert collected == cells, done.stdout + done.stderr


def test_no_cell_hides_its_output() -> None:
    """Nothing is exempt from strict comparison, by comment or by tag."""
    for path in normal.lessons():
        found = re.findall(r"nbval[-_]\w+|raises-exception", path.read_text(encoding="utf-8"), re.I)
        assert not found, f"{path.name}: {found}"


@pytest.mark.parametrize("path", normal.lessons(), ids=lambda path: path.stem)
def test_a_lesson_is_in_normal_form(path: Path) -> None:
    assert normal.complaints(path) == []
    stored = path.read_text(encoding="utf-8")
    assert stored == normal.text(normal.normal(json.loads(stored)))


def test_the_normal_form_mends_what_jupyter_leaves(tmp_path: Path) -> None:
    cell = {
        "cell_type": "code",
        "execution_count": 7,
        "id": "route-look",
        "metadata": {"execution": {"iopub.execute_input": "now"}, "tags": ["widget"]},
        "outputs": [{"output_type": "stream", "name": "stdout", "text": ["hello\n"]}],
        "source": "print('hello')",
    }
    path = tmp_path / "lesson.ipynb"
    path.write_text(json.dumps({"cells": [cell], "metadata": {"widgets": {}}, "nbformat": 4}))
    assert normal.main([str(path)]) == 1
    assert normal.main(["--write", str(path)]) == 0
    assert normal.main([str(path)]) == 0
    (mended,) = json.loads(path.read_text())["cells"]
    assert mended["execution_count"] == 1
    assert mended["metadata"] == {"tags": ["widget"]}
    assert mended["outputs"] == cell["outputs"]
    cell["id"] = "0a1b2c3d"
    path.write_text(normal.text(normal.normal({"cells": [cell, cell]})))
    assert len(normal.complaints(path)) == 3
