"""Whatever a tool refuses by name stands in data/not-modelled.md."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ekslearn.tools.ip import OBJECTS
from ekslearn.tools.words import refused_words
from tests.ground import ROOT


def refused() -> Iterator[str]:
    """Every word ``ip`` and ``sysctl`` refuse, and every object of ``ip`` that isn't there."""
    for words in refused_words().values():
        yield from (word.replace("*", "") for word in words.split() if len(word) > 1)
    yield from (name for name, known in OBJECTS.items() if known is None)


def test_each_refusal_is_listed_with_its_reason() -> None:
    text = (ROOT / "data" / "not-modelled.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([^`]+)`", text))
    words = set(refused())
    assert len(words) > 100
    assert sorted(words - listed) == []
