"""Tests of the ground the project stands on: its files, sizes, imports and environments."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ekslearn"


def tracked() -> list[Path]:
    """Every file of the project as git sees it: committed, or about to be."""
    listing = subprocess.run(
        [
            "git",
            "-c",
            "safe.directory=*",
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).exists()]


def sources() -> list[Path]:
    """The Python files of the package."""
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def unit(path: Path) -> str:
    """The part of the house a file of the package belongs to: ``linux``, ``trace``, …"""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")
