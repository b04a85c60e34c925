"""Whatever a tool refuses by name stands in data/not-modelled.md."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import ekslearn.tools
from ekslearn.tools.words import REFUSED
from tests.ground import ROOT


def refused() -> Iterator[str]:
    """Every word in the tools' tables of options whose row is a refusal, and every switch that
    ``sysctl`` knows to be real without having it."""
    for found in pkgutil.iter_modules(ekslearn.tools.__path__):
        module = importlib.import_module(f"ekslearn.tools.{found.name}")
        for value in vars(module).values():
            if isinstance(value, dict):
                yield from (word for word, row in value.items() if row is REFUSED)
        for names in ("REAL", "REAL_CONF"):
            yield from (key.rpartition(".")[2] for key in vars(module).get(names, ()))
        for option in vars(module).get("REFUSED_OPTIONS", ()):
            yield option if option.startswith("-") else f"-{option}"


def test_each_refusal_is_listed_with_its_reason() -> None:
    text = (ROOT / "data" / "not-modelled.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([^`]+)`", text))
    words = set(refused())
    assert len(words) > 100
    assert sorted(words - listed) == []
