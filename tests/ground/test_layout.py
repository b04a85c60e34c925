"""The project's outer shape: what stands at the top, and that nothing private has slipped in."""

from __future__ import annotations

import re

from tests.ground import ROOT, tracked

FOLDERS = {"notebooks", "ekslearn", "data", "tests", ".ci"}
FILES = {
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "environment.yml",
    "pyproject.toml",
    "requirements.lock",
}
REGISTRY = re.compile(rb"pypi\.org|pythonhosted|npmjs|conda\.anaconda|index-url")


def test_the_top_level_is_fixed() -> None:
    paths = [path.relative_to(ROOT) for path in tracked()]
    assert {path.parts[0] for path in paths if len(path.parts) > 1} == FOLDERS
    assert {path.name for path in paths if len(path.parts) == 1} == FILES


def test_no_registry_is_named() -> None:
    this = ROOT / "tests" / "ground" / "test_layout.py"
    found = [str(path) for path in tracked() if path != this and REGISTRY.search(path.read_bytes())]
    assert not found


def test_the_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text
    for clause in range(1, 10):
        assert re.search(rf"^ +{clause}\. ", text, re.MULTILINE), f"clause {clause} is missing"
