"""Every word of the help texts is fed in: the real tool's outcome, or a refusal that names it."""

from __future__ import annotations

import re
import subprocess

import pytest

from ekslearn.tools.words import usage
from tests.parity.real import Real, Step
from tests.parity.text import Model

# For each object commands that work; each word of its help is put at the end, alone and with "1".
BASES = {
    "ip link": ("ip link set v0", "ip link add w0 type", "ip link show", "ip link"),
    "ip addr": ("ip addr add 10.0.0.5/24 dev v0", "ip addr show dev v0", "ip addr"),
    "ip route": ("ip route add 10.9.0.0/16 dev v0", "ip route show", "ip route get 10.0.0.1",
                 "ip route", "ip route add"),
    "ip rule": ("ip rule add from 10.0.0.1", "ip rule show", "ip rule"),
    "ip neigh": ("ip neigh add 10.0.0.9 dev v0 lladdr 2:0:0:0:0:1", "ip neigh show", "ip neigh"),
}  # fmt: skip
WIRING: list[Step] = [
    ("red", tuple(line.split()))
    for line in (
        "ip link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02",
        "ip link set lo up", "ip link set v0 up", "ip link set v1 up",
        "ip addr add 10.0.0.1/24 dev v0",
    )
]  # fmt: skip
REFUSED = 125


def words_of(tool: str) -> list[str]:
    """The words one types, in a help text: small letters; capitals stand for something else."""
    found = re.findall(r"(?<![\w.-])-?[a-z][a-z0-9_.-]*(?![\w:])", usage(tool))
    found += [short + rest for short, rest in re.findall(r"(-\w+)\[(\w+)\]", usage(tool))]
    return sorted(set(found))


@pytest.mark.parametrize("tool", [*BASES, "ip", "ip netns"])
def test_the_stored_help_is_the_real_one(tool: str) -> None:
    done = subprocess.run([*tool.split(), "help"], capture_output=True, text=True, check=False)
    assert done.stderr == usage(tool) and done.returncode == 255


@pytest.mark.parametrize("tool", BASES)
def test_each_word_is_honoured_or_refused_by_name(tool: str) -> None:
    words = words_of(tool)
    assert len(words) > 10
    with Real() as real:
        for base in BASES[tool]:
            lines = [f"{base} {word}{end}" for word in words for end in ("", " 1")]
            changing, harmless = [], []
            for line in lines:
                model, step = Model(), ("red", tuple(line.split()))
                for each in WIRING:
                    model.run(each)
                said = model.run(step)
                if said[2] == REFUSED:
                    named = [word for word in words if word in str(said[1]) and word in line]
                    assert named or "isn't modelled" not in str(said[1]), (line, said)
                    continue
                (harmless if said[2] else changing).append((step, said))
            for group in [harmless, *([each] for each in changing)]:
                steps = [*WIRING, *(step for step, _ in group)]
                found = real.play(steps, listings=False)[len(WIRING) :]
                for (step, said), (*heard, _) in zip(group, found, strict=True):
                    assert said == heard, step


def test_other_objects_are_refused_by_name() -> None:
    objects = re.findall(r"[a-z2]\w+", usage("ip").partition("OBJECT := {")[2].partition("}")[0])
    assert len(objects) > 20
    model = Model()
    for word in objects:
        if word == "help":
            continue
        _, stderr, status = model.run(("red", ("ip", word)))
        assert status in (0, REFUSED), (word, stderr)
        assert status == 0 or f'"{word}"' in str(stderr)


def test_each_option_before_the_object_is_honoured_or_refused_by_name() -> None:
    model = Model()
    for word in words_of("ip"):
        if word.startswith("-") and word not in ("-help",):
            _, stderr, status = model.run(("red", ("ip", word, "link")))
            assert status in (0, REFUSED, 255), (word, stderr)
            assert "is unknown" not in str(stderr), (word, stderr)
            assert status != REFUSED or word in str(stderr)
