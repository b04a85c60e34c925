"""On continuous integration a skip is a failure, for tests, for modules and for notebook cells."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ground import ROOT

TEST = """
import pytest

def test_skips():
    pytest.skip("no browser here")

@pytest.mark.skipif(True, reason="never")
def test_is_marked():
    pass

@pytest.mark.xfail(reason="known")
def test_is_expected_to_fail():
    assert False

def test_passes():
    pass
"""
MODULE = "import pytest\npytest.skip('not on this system', allow_module_level=True)\n"
CELL = {
    "cell_type": "code",
    "execution_count": 1,
    "id": "a-cell",
    "metadata": {},
    "outputs": [],
    "source": "# NBVAL_SKIP\nanswer = 42",
}
METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with our conftest.py and one of each kind of skip."""
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    (tmp_path / "tests" / "test_some.py").write_text(TEST)
    (tmp_path / "tests" / "test_module.py").write_text(MODULE)
    notebook = {"cells": [CELL], "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "lesson.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --nbval --nbval-current-env\n")
    return tmp_path


@pytest.mark.parametrize(
    ("ci", "workers", "closing"),
    [
        ("true", "0", "2 failed, 1 passed, 1 xfailed, 2 errors"),
        ("true", "1", "2 failed, 1 passed, 1 xfailed, 2 errors"),
        ("", "0", "1 passed, 4 skipped, 1 xfailed"),
    ],
)
def test_a_skip_is_a_failure_on_ci(project: Path, ci: str, workers: str, closing: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--continue-on-collection-errors", "-n", workers, "."],
        cwd=project,
        capture_output=True,
        text=True,
        env=os.environ | {"CI": ci},
    )
    assert closing in done.stdout.splitlines()[-1], done.stdout
    assert done.returncode == (1 if ci == "true" else 0)
    if ci == "true":
        assert "nothing is skipped on CI, but this was: Skipped: no browser here" in done.stdout
