"""Is the kernel model tested? Change it in a few hundred random places and see who notices.

``make mutants`` (or ``python -m tests.bench.mutants [COUNT [SEED]]``). A mutant is one small change
of one function of ekslearn/linux, made by mutmut; it is killed if a test that reaches the function
then fails. Which mutants are tried is drawn by a hash of seed and name, so the same tree gives the
same sample. Prints how many were killed and, for each survivor, where it is and what it changes.
"""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mutmut.configuration import config
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import get_mutant_name

COUNT, SEED, PROCESSES = 330, 2, 2
KILLED = {"killed", "timeout", "suspicious", "segfault"}
# Changes that change nothing anybody could see: what the changed line says, and why.
EQUIVALENT = {
    "if packet.icmp else 1": "an ICMP packet always has a type",
    "packet.sport or 1": "a TCP or UDP packet always has ports",
    "packet.dport or 1": "a TCP or UDP packet always has ports",
    'NO_MAC if link.kind == "LOOPBACK"': "nobody looks at the MAC of a frame on lo",
    'bind(connection, "XXsourceXX", connection.original.src': "whatever isn't target is source",
    'bind(connection, "source", connection.original.src, 0, True)': "it is taken: drawn either way",
    "if (leaving.lookup) or True else None": "a source of its own always gets a lookup",
    'if (route.dev) or True else "nowhere"': "a unicast or local route always has a link",
    'self._is_direct(bound)), "XXXX"': "nobody reads the reason of what passes",
    'return "XXXX"': "each target says what it did; the base class's word is never used",
    "Skb(None, mark=skb.mark)": "only the mark of this Skb is read",
    'Wire | None = ""': "both say that there is no segment",
    "permanent=None": "both say no",
    "skb.iif is None and not ns.is_local": "a foreign source gets no route two lines further down",
}
WORK = Path("mutants")  # where mutmut works; nothing of it is kept


def every_mutant() -> dict[str, Path]:
    """The name of each mutant there can be, and the file it is in."""
    found = {}
    for folder in config().source_paths:
        for path in sorted(folder.rglob("*.py")):
            made = mutate_file_contents(str(path), path.read_text(encoding="utf-8"))
            found.update({get_mutant_name(path, name): path for name in made.mutant_names})
    return found


def sample(names: list[str], count: int, seed: int) -> list[str]:
    """``count`` of the names; a name keeps its place in the draw whatever else is there."""
    return sorted(names, key=lambda n: hashlib.sha256(f"{seed}/{n}".encode()).digest())[:count]


def outcome(path: Path) -> dict[str, str]:
    """What mutmut noted for the mutants of one file: killed, survived, no tests, timeout …"""
    meta = WORK / f"{path}.meta"
    codes = json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
    return {name: status_by_exit_code[code] for name, code in codes.items()}


def change(name: str, path: Path) -> tuple[int, str, str]:
    """The line a mutant changes, the line as it was and as the mutant has it."""
    diff = get_diff_for_mutant(name, path=path).splitlines()[2:]
    before = [line[1:].strip() for line in diff if line.startswith("-")]
    after = [line[1:].strip() for line in diff if line.startswith("+")]
    at = int(diff[0].split(",")[0].removeprefix("@@ -").split()[0])
    for line in diff[1:]:
        if line[:1] in "-+":
            break
        at += 1
    return start(name, path) + at - 1, " ".join(before), " ".join(after)


def start(name: str, path: Path) -> int:
    """The line the mutated function begins in."""
    words = name.rpartition(".")[2].rpartition("__mutmut_")[0].split("ǁ")
    owner, function = (words[1], words[2]) if len(words) == 3 else ("", words[0].removeprefix("x_"))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = node.body if isinstance(node, ast.ClassDef | ast.Module) else []
        if (node.name if isinstance(node, ast.ClassDef) else "") == owner:
            for each in body:
                if isinstance(each, ast.FunctionDef) and each.name == function:
                    return each.lineno
    return 1


def report(chosen: list[str], files: dict[str, Path]) -> Iterator[str]:
    """The counts, and a line for each mutant that no test noticed."""
    status = {name: what for path in set(files.values()) for name, what in outcome(path).items()}
    counts = Counter(status[name] for name in chosen)
    killed = sum(counts[what] for what in KILLED)
    yield (
        f"{len(chosen)} of {len(files)} mutants tried: {killed} killed "
        f"({killed / len(chosen):.1%}), {len(chosen) - killed} not; {dict(counts)}"
    )
    alive = [(files[n], *change(n, files[n]), status[n]) for n in chosen if status[n] not in KILLED]
    for path, line, before, after, what in sorted(alive):
        reasons = [f"equivalent: {why}" for text, why in EQUIVALENT.items() if text in after]
        words = reasons or ([what] if what != "survived" else [])
        yield " ".join([f"{path}:{line}: {before} -> {after}", *(f"({word})" for word in words)])


def main(count: int = COUNT, seed: int = SEED) -> None:
    """Try a sample and print what came of it."""
    files = every_mutant()
    chosen = sample(list(files), count, seed)
    shutil.rmtree(WORK, ignore_errors=True)
    mutmut = [sys.executable, "-m", "mutmut", "run", "--max-children", str(PROCESSES), *chosen]
    done = subprocess.run(mutmut, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    print("\n".join(report(chosen, files)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
