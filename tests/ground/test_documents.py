"""The README and CONTRIBUTING do what they say: their examples are run, their files exist."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ground import ROOT

DOCUMENTS = ["README.md", "CONTRIBUTING.md"]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return [body for name, body in FENCE.findall(text) if name == language]


def conversations(body: str) -> Iterator[tuple[str, str]]:
    """Each command of a `console` block (`$ `, going on at `> `) and what it is said to print."""
    for piece in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        lines = piece.splitlines()
        end = next(
            (n for n, line in enumerate(lines[1:], 1) if not line.startswith("> ")), len(lines)
        )
        command = "\n".join([lines[0], *(line[2:] for line in lines[1:end])])
        yield command, "\n".join(lines[end:])


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"},
    )


CONSOLE = [
    pytest.param(command, printed, id=f"{document}: {command.splitlines()[0]}")
    for document in DOCUMENTS
    for body in blocks(document, "console")
    for command, printed in conversations(body)
]
# A document's python blocks are one conversation.
PYTHON = [
    (document, "\n".join(conversation))
    for document in DOCUMENTS
    if (conversation := blocks(document, "python"))
]
SHELL = [
    pytest.param(line.partition("#")[0].strip(), id=f"{document}: {line}")
    for document in DOCUMENTS
    for body in blocks(document, "sh")
    for line in body.splitlines()
    if line.strip()
]


@pytest.mark.parametrize(("command", "printed"), CONSOLE)
def test_an_example_prints_what_it_says(command: str, printed: str) -> None:
    # Some tools end a line with a blank; nobody sees it in a document.
    assert [line.rstrip() for line in shell(command).stdout.splitlines()] == printed.splitlines()


@pytest.mark.parametrize(("document", "body"), PYTHON, ids=[name for name, _ in PYTHON])
def test_a_python_example_does_too(
    document: str, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    example = doctest.DocTestParser().get_doctest(body, {}, document, document, 0)
    assert example.examples, "a python block is a conversation with >>>"
    said: list[str] = []
    assert doctest.DocTestRunner().run(example, out=said.append).failed == 0, "".join(said)


@pytest.mark.parametrize("line", SHELL)
def test_a_command_to_type_exists(line: str) -> None:
    """Commands that would take long or open a browser aren't run; what they name must be there."""
    words = shlex.split(line)
    if words[0] == "make":
        done = shell(f"make --dry-run {shlex.join(words[1:])}")
        assert done.returncode == 0, done.stdout
        return
    program = ROOT / words[0].replace(".venv/bin", str(BIN))
    assert program.exists(), line
    if words[1:2] == ["-m"]:
        done = shell(f"{shlex.join([str(program), *words[1:3]])} --help")
        assert done.returncode == 0, done.stdout
    for word in words[1:]:
        if "/" in word and not word.startswith("-"):
            assert (ROOT / word).exists(), f"{word} in: {line}"


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_a_file_that_is_named_exists(document: str) -> None:
    text = FENCE.sub("", (ROOT / document).read_text(encoding="utf-8"))
    links = re.findall(r"\]\((?!\w+:|#)([^)#]+)", text)
    quoted = re.findall(r"`((?:data|tests|notebooks|ekslearn|\.ci)/[\w./-]*)`", text)
    missing = [name for name in links + quoted if not (ROOT / name).exists()]
    assert not missing


def test_the_course_map_is_the_course() -> None:
    """Every lesson stands in the README; one that isn't there yet is marked as planned."""
    rows = re.findall(
        r"^\| `(\d\d_\w+)` \| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    promised = [name for name, question in rows if not question.startswith("*(planned)*")]
    assert promised == sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
