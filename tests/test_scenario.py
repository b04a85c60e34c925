"""Scenarios: what is read, what is refused and in which words, and the way back to text."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import ekslearn
from ekslearn.errors import EkslearnError, NotModelled
from ekslearn.scenario import dump, load

SHELF = ["one-node", "one-pod", "two-rooms"]
HEAD = """\
apiVersion: ekslearn/v1
kind: Lab
metadata: {name: x}
spec:
  namespaces: [red, blue]
"""
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)

# text, what the sentence says after "(text):"
BAD = {
    "malformed": (HEAD + "  listen: [a\n  b: c]\n", "7: this isn't YAML: expected ',' or ']'"),
    "tab": ("a:\n\t- b\n", "2: this isn't YAML: found character '\\t'"),
    "undefined alias": (HEAD + "  listen: *a\n", "6: spec.listen: the alias *a stands before"),
    "alias inside itself": ("a: &a [*a]\n", "1: a[0]: the alias *a stands before or inside"),
    "alias bomb": (BOMB, "5: e: aliases make this more than 100 times as long as the file"),
    "python tag": ("a: !!python/object:os.system x\n", "1: a: the YAML tag 'tag:yaml.org,2002:py"),
    "set tag": (HEAD + "  commands: !!set {a}\n", "6: spec.commands: the YAML tag "),
    "deep flow": ("[" * 100_000 + "\n", "1: ...[0][0]"),
    "deep block": ("- " * 5000 + "\n", "1: ...[0][0]"),
    "bad escape": ('a: "\\UFFFFFFFF"\n', "1: this isn't YAML: "),
    "control character": (
        HEAD + "  x: \x07\n",
        "6: this isn't text: it holds the character U+0007",
    ),
    "lone surrogate": ("a: \ud800\n", "1: this isn't text: it holds the character U+D800"),
    "unknown field, near": (
        HEAD + "  comands: []\n",
        "6: spec.comands: unknown field; did you mean commands?",
    ),
    "unknown field": (
        HEAD.replace("{name: x}", "{name: x, annotations: {}}"),
        "3: metadata.annotations: unknown field; known here: name",
    ),
    "merge key": (HEAD + "  <<: {}\n", "6: spec.<<: unknown field; known here: namespaces, "),
    "field twice": (
        HEAD + "  namespaces: [a]\n",
        "6: spec.namespaces: the field stands here twice; the first is on line 5",
    ),
    "list as key": (HEAD + "  [a]: b\n", "6: spec: expected text, found a list"),
    "text for a list": (
        HEAD.replace("[red, blue]", "red"),
        "5: spec.namespaces: expected a list, found text",
    ),
    "number for a list": (HEAD + "  commands: 5\n", "6: spec.commands: expected a list, found a "),
    "number for a name": (
        HEAD.replace("blue", "7"),
        "5: spec.namespaces[1]: expected text, found a number",
    ),
    "nothing for text": ("apiVersion:\nkind: Lab\n", "1: apiVersion: expected text, found a "),
    "just text": ("hello\nworld\n", "1: expected a mapping, found text"),
    "just a list": ("- a\n- b\n", "1: expected a mapping, found a list"),
    "empty": ("\n", " there is no scenario in it; it needs a document with apiVersion: "),
    "nothing at all": ("", " there is no scenario in it"),
    "comments only": ("# a\n", " there is no scenario in it"),
    "no name": (HEAD.replace("{name: x}", "{}"), "3: metadata: the field name is missing"),
    "bad name": (HEAD.replace("name: x", "name: X_y"), "3: metadata.name: 'X_y' can't be a name; "),
    "no kind": (HEAD.replace("kind: Lab\n", ""), "1: the field kind is missing; a scenario begins"),
    "odd kind": (HEAD.replace("Lab", "Lob"), "2: kind: 'Lob' is no kind of scenario; known here: "),
    "no namespace": (HEAD.replace("[red, blue]", "[]"), "5: spec.namespaces: the list is empty; "),
    "namespace twice": (
        HEAD.replace("[red, blue]", "\n    - red\n    - red"),
        "7: spec.namespaces[1]: the namespace red is here twice; the first is on line 6",
    ),
    "two scenarios": (HEAD + "---\n" + HEAD, "7: a second scenario begins here; one is expected"),
    "listen, no such namespace": (
        HEAD + "  listen: [green 0.0.0.0:80/tcp]\n",
        "6: spec.listen[0]: there is no namespace 'green'; this lab has red, blue",
    ),
    "listen, no address": (
        HEAD + "  listen: [blue 80/tcp]\n",
        "6: spec.listen[0]: '80/tcp' isn't a socket such as 0.0.0.0:80/tcp",
    ),
    "listen, one word": (HEAD + "  listen: [blue]\n", "6: spec.listen[0]: 'blue' should read PLA"),
    "listen, odd port": (
        HEAD + "  listen: [blue 0.0.0.0:99999/tcp]\n",
        "6: spec.listen[0]: '0.0.0.0:99999/tcp' isn't a socket such as 0.0.0.0:80/tcp",
    ),
    "listen, odd address": (
        HEAD + "  listen: [blue 300.0.0.0:80/tcp]\n",
        "6: spec.listen[0]: '300.0.0.0:80/tcp' isn't a socket such as 0.0.0.0:80/tcp",
    ),
    "listen, port taken": (
        HEAD + "  listen:\n    - blue 0.0.0.0:80/tcp\n    - blue 0.0.0.0:80/tcp\n",
        "8: spec.listen[1]: bind 0.0.0.0:80/tcp in blue: Address already in use",
    ),
    "listen, address nowhere": (
        HEAD + "  listen: [blue 10.0.0.1:80/tcp]\n",
        "6: spec.listen[0]: bind 10.0.0.1:80/tcp in blue: Cannot assign requested address",
    ),
    "command, no such place": (HEAD + "  commands: [green$ ip link]\n", "6: spec.commands[0]: "),
    "command, no place": (HEAD + "  commands: [ip link]\n", "6: spec.commands[0]: "),
    "command, no such device": (
        HEAD + "  commands:\n    - red$ ip link set lo up\n    - red$ ip link set eth9 up\n",
        "8: spec.commands[1]: 'red$ ip link set eth9 up' ends with status 1: "
        'Cannot find device "eth9"',
    ),
    "command, bad address": (
        HEAD + "  commands: [red$ ip addr add 10.0.0.300/24 dev lo]\n",
        "6: spec.commands[0]: 'red$ ip addr add 10.0.0.300/24 dev lo' ends with status 1: Error:",
    ),
    "command, address twice": (
        HEAD + "  commands:\n" + "    - red$ ip addr add 10.0.0.3/24 dev lo\n" * 2,
        "8: spec.commands[1]: 'red$ ip addr add 10.0.0.3/24 dev lo' ends with status 2: "
        "Error: ipv4: Address already assigned.",
    ),
    "too long": (HEAD + "# " + "x" * 1_000_000 + "\n", " over 1,000,000 bytes, the limit for a sc"),
}
LATER = {
    "other version": (HEAD.replace("v1", "v2"), "1: apiVersion: 'ekslearn/v2' isn't read by this ")
}


def refusal(source: str | Path, kind: type[EkslearnError] = EkslearnError) -> str:
    with pytest.raises(kind) as caught:
        load(source)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 400
    return sentence


@pytest.mark.parametrize("case", BAD)
def test_bad_text_is_refused_in_one_sentence(case: str) -> None:
    text, said = BAD[case]
    assert refusal(text).startswith(f"(text):{said}")


@pytest.mark.parametrize("case", LATER)
def test_what_comes_later_is_refused_by_name(case: str) -> None:
    text, said = LATER[case]
    assert refusal(text, NotModelled).startswith(f"(text):{said}")


def test_deep_nesting_says_so() -> None:
    assert refusal(BAD["deep flow"][0]).endswith("this is nested more than 40 levels deep")


def test_the_head_alone_is_a_scenario() -> None:
    lab = load(HEAD)
    assert (lab.name, lab.places, lab.lines) == ("x", ("red", "blue"), [])


def test_harmless_aliases_are_read() -> None:
    lab = load(HEAD.replace("[red, blue]", "[red, blue]\n  commands: [&up red$ ip link set lo up]"))
    twice = HEAD + "  commands: [&up red$ ip link set lo up, *up]\n"
    assert load(twice).lines == lab.lines * 2


@pytest.mark.parametrize("name", SHELF)
def test_a_scenario_comes_back_equal_from_its_own_text(name: str) -> None:
    lab = ekslearn.load(name)
    again = load(dump(lab))
    assert dump(again) == dump(lab)
    assert (again.name, again.places, again.lines) == (lab.name, lab.places, lab.lines)
    for place in lab.places:
        for command in ("ip addr", "ip route show table all", "ip neigh", "ip link"):
            assert again.run(place, command) == lab.run(place, command)


def test_a_listener_starts_once_its_address_is_there_and_may_lose_it_again() -> None:
    lines = """\
  listen: [red 10.0.0.3:80/tcp]
  commands:
    - red$ ip link set lo up
    - red$ ip addr add 10.0.0.3/24 dev lo
"""
    lab = load(HEAD + lines)
    assert lab.trace("red", "10.0.0.3:80/tcp").verdict == "delivered"
    lab = load(HEAD + lines + "    - red$ ip addr del 10.0.0.3/24 dev lo\n")
    assert lab.trace("red", "10.0.0.3:80/tcp").verdict != "delivered"
    assert dump(load(dump(lab))) == dump(lab)


def test_dump_keeps_what_was_typed() -> None:
    lab = load("two-rooms")
    lab.line("red$ ip addr add 10.9.9.9/32 dev lo")
    again = load(dump(lab))
    assert again.lines == lab.lines
    assert "10.9.9.9/32" in again.run("red", "ip addr show dev lo").stdout
    lab = load("two-rooms")
    lab.listen("red", "127.0.0.1:81/udp", process="dns")
    assert dump(load(dump(lab))) == dump(lab)
    assert "red 127.0.0.1:81/udp dns" in dump(lab)


def test_a_file_is_named_with_line_and_field(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD["odd kind"][0], encoding="utf-8")
    assert refusal(file).startswith(f"{file}:2: kind: 'Lob' is no kind of scenario")
    assert refusal(str(file)) == refusal(file)
    assert refusal(tmp_path).startswith(f"{file}:2: kind: ")


def test_a_folder_holds_one_scenario(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: this folder holds no scenario (no file ends in .yaml)"
    (tmp_path / "a.yml").write_text(HEAD, encoding="utf-8-sig")
    (tmp_path / "notes.txt").write_text("not read", encoding="utf-8")
    assert load(tmp_path).name == "x"
    (tmp_path / "b.yaml").write_text(HEAD, encoding="utf-8")
    assert refusal(tmp_path) == f"{tmp_path / 'b.yaml'}:1: a second scenario begins here; one is" \
        " expected"  # fmt: skip


def test_files_that_are_no_scenarios(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"apiVersion\x00\x01")
    assert refusal(binary) == f"{binary}: this isn't text: byte 10 is zero"
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: \xe9\n")
    assert refusal(latin) == f"{latin}: this isn't text in UTF-8: byte 3 can't be read"
    big = tmp_path / "big.yaml"
    big.write_bytes(b"- hello\n" * 1_310_720)
    assert refusal(big) == f"{big}: over 1,000,000 bytes, the limit for a scenario"
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    assert refusal(pipe) == f"{pipe}: this is neither a file nor a folder"
    gone = tmp_path / "gone.yaml"
    assert refusal(gone) == f"{gone}: it can't be read: no such file or directory"
    assert "it can't be read: file name too long" in refusal("a" * 5000)


def test_a_bare_name_is_looked_up_on_the_shelf() -> None:
    assert load("one-node").name == load("one-node.yaml").name == "one-node"
    assert refusal("one-nod") == "'one-nod': there is no such file, nor a scenario of that name;" \
        " did you mean one-node?"  # fmt: skip
    shelf = sorted(path.stem for path in ekslearn.data_path("scenarios").glob("*.yaml"))
    assert f"did you mean {' or '.join(shelf)}?" in refusal("zzz")


def test_nothing_but_our_own_exception_ever_comes_out() -> None:
    dice = random.Random(20261123)
    texts = [text[:1500] for text, _ in BAD.values()] + [HEAD]
    for _ in range(400):
        letters = list(dice.choice(texts)) or ["a"]
        for _ in range(dice.randint(1, 10)):
            at = dice.randrange(len(letters))
            letters[at : at + dice.randint(0, 4)] = dice.choice("{}[]:,-&*!|>'\"%@`#\n \t\\\0u~?<é")
            letters = letters or ["a"]
        try:
            load("".join(letters) + "\n")
        except EkslearnError as error:
            assert "\n" not in str(error)
