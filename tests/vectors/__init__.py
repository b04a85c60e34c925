"""Runs test vectors, cases taken from the CNI's own tests, against the package.

A vector is {id, area, given, expect, source, basis, note?}. Each module here exports ``AREAS``: for
each area a function from ``given`` to what the package makes of it. What is expected is compared
key by key, by these rules:

- ``contains`` and ``absent`` hold what must (not) be in the answer's ``all``, a text or a list;
- ``X_contains`` is part of the answer's ``X_text``, or of its ``X``; ``X_any_order`` has any order;
- each of ``results``, the answers of a sequence, names only the fields to compare;
- everything else is equal, and nothing of it may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]
MODULES = ("wiring", "pool", "ec2")


class Absent(Exception):
    """What this vector is about isn't modelled."""


def areas() -> dict[str, Handler]:
    """Every area that can be run, and who runs it."""
    found: dict[str, Handler] = {}
    for name in MODULES:
        if find_spec(f"{__name__}.{name}"):
            found |= import_module(f"{__name__}.{name}").AREAS
    return found


def difference(expect: Mapping[str, Any], actual: Mapping[str, Any]) -> str:
    """Where the answer isn't what is expected; empty if it is."""
    for key, wanted in expect.items():
        if key in ("contains", "absent"):
            wrong = [each for each in wanted if (each in actual["all"]) != (key == "contains")]
            if wrong:
                return f"{key}: {wrong}"
        elif key.endswith("_contains"):
            name = key.removesuffix("_contains")
            text = actual.get(f"{name}_text", actual.get(name))
            if wanted not in str(text):
                return f"{key}: {text!r}"
        elif key not in actual:
            return f"{key} is missing"
        elif key.endswith("_any_order"):
            if sorted(map(repr, wanted)) != sorted(map(repr, actual[key])):
                return f"{key}: {actual[key]}"
        elif key == "results":
            for at, (one, other) in enumerate(zip(wanted, actual[key], strict=True)):
                if one != {name: other.get(name) for name in one}:
                    return f"step {at}: {other} is not {one}"
        elif wanted != actual[key]:
            return f"{key}: {actual[key]!r} is not {wanted!r}"
    return ""


def run(vectors: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], str, str]]:
    """Each vector with its verdict, pass, fail or absent, and what was wrong."""
    known = areas()
    for vector in vectors:
        handler = known.get(vector["area"])
        if handler is None:
            yield vector, "absent", ""
            continue
        try:
            wrong = difference(vector["expect"], handler(vector["given"]))
        except Absent as reason:
            yield vector, "absent", str(reason)
        except Exception as error:  # a handler that breaks has failed, whatever broke it
            yield vector, "fail", f"{type(error).__name__}: {error}"
        else:
            yield vector, "fail" if wrong else "pass", wrong
