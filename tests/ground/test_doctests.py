"""The examples in the package's docstrings, each module's in turn."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.ground import PACKAGE, sources

MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sources()
    if path.name != "__main__.py"
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    said: list[str] = []
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder().find(importlib.import_module(name)):
        runner.run(example, out=said.append)
    assert runner.failures == 0, "".join(said)
