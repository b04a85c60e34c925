"""The normal form of a notebook, so that a change shows only what somebody changed.

``python -m tests.ground.normal [--write] [FILE…]`` checks notebooks (all lessons, if none is
named) and prints one line for each that isn't normal; ``--write`` puts them right. Normal is:
hand-written cell ids, no metadata but the kernel's name and cell tags, execution counts from 1 in
order, a key order and an indent that never vary. Outputs stay: strict nbval compares them.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.ground import ROOT

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
HAND_WRITTEN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")
VOLATILE = re.compile(r"\b0x(?!0000)[0-9a-f]{8,}\b|/(?:home|root|tmp|Users)/")


def lessons() -> list[Path]:
    """Every lesson, in order."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def text(notebook: dict[str, Any]) -> str:
    """The notebook as it is stored."""
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def normal(notebook: dict[str, Any]) -> dict[str, Any]:
    """The same notebook in its normal form."""
    result = copy.deepcopy(notebook)
    result["metadata"] = METADATA
    result["nbformat"], result["nbformat_minor"] = 4, 5
    count = 0
    for cell in result["cells"]:
        tags = cell["metadata"].get("tags")
        cell["metadata"] = {"tags": tags} if tags else {}
        cell["source"] = "".join(cell["source"]).splitlines(keepends=True)
        if cell["cell_type"] != "code":
            continue
        ran = bool("".join(cell["source"]).strip())
        count += ran
        cell["execution_count"] = count if ran else None
        for output in cell["outputs"]:
            if "execution_count" in output:
                output["execution_count"] = cell["execution_count"]
            if "metadata" in output:
                output["metadata"] = {}
    return result


def complaints(path: Path) -> list[str]:
    """What a person has to put right: ids, volatile output, widgets whose state was stored."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    found = []
    ids = [cell.get("id", "") for cell in notebook["cells"]]
    found += [
        f"cell id {each!r} isn't hand-written" for each in ids if not HAND_WRITTEN.fullmatch(each)
    ]
    found += [
        f"cell id {each!r} stands twice" for each in sorted({i for i in ids if ids.count(i) > 1})
    ]
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if match := VOLATILE.search(json.dumps(output)):
                found.append(f"cell {cell['id']!r} printed {match[0]!r}, which differs elsewhere")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Check or write; the exit status is 1 if anything was, or still is, not normal."""
    parser = argparse.ArgumentParser(prog="tests.ground.normal", description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("files", nargs="*", type=Path)
    given = parser.parse_args(arguments)
    status = 0
    for path in given.files or lessons():
        stored = path.read_text(encoding="utf-8")
        wanted = text(normal(json.loads(stored)))
        found = complaints(path)
        if stored != wanted:
            if given.write:
                path.write_text(wanted, encoding="utf-8")
            else:
                found.append("not in normal form: python -m tests.ground.normal --write")
        for line in found:
            print(f"{path.name}: {line}", file=sys.stderr)
        status = max(status, bool(found))
    return status


if __name__ == "__main__":
    sys.exit(main())
