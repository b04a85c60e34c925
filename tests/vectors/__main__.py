"""``python -m tests.vectors FILE`` prints ``ID pass|fail|absent`` a line; 1 unless all pass."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.vectors import run


def main(words: list[str]) -> int:
    if len(words) != 1:
        print("usage: python -m tests.vectors FILE", file=sys.stderr)
        return 2
    try:
        vectors = json.loads(Path(words[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"{words[0]} can't be read as vectors: {error}", file=sys.stderr)
        return 2
    passed = True
    for vector, verdict, why in run(vectors):
        print(vector["id"], verdict)
        if verdict == "fail":
            print(f"{vector['id']} ({vector['area']}): {why}", file=sys.stderr)
        passed = passed and verdict == "pass"
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
