"""The script, and ``up`` and ``down``, tried as root of a private world."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from ekslearn.errors import EkslearnError
from ekslearn.kernel import World, down, places, script, up
from ekslearn.kernel.inside import ONCE, PING
from ekslearn.kernel.wiring import split
from tests.kernel.labs import Wires, privately, rooms, routed

LOOK = ("ip -o addr show", "ip route show table all", "ip neigh show", "sysctl -a --pattern ipv4")


def test_places_are_their_own_namespaces() -> None:
    assert places(rooms()) == [("red", "red"), ("blue", "blue")]
    pod: Any = Wires("w", ["default/web-1$ x"])
    both: Any = Wires("w", ["a/b$ x", "a_b$ x"])
    assert places(pod) == [("default/web-1", "default_web-1")]
    with pytest.raises(EkslearnError, match="'a/b' and 'a_b' would both be"):
        places(both)


def test_only_the_word_after_netns_is_a_place() -> None:
    line = "a/b$ ip link add x type veth peer name y netns a/c alias 'a/c d'"
    assert split(line) == (
        "a/b",
        ["ip", "link", "add", "x", "type", "veth", "peer", "name", "y", "netns", "a_c",
         "alias", "a/c d"],
    )  # fmt: skip


def test_the_script_builds_what_a_world_builds() -> None:
    lab = rooms()
    done = privately(
        "import subprocess, sys\n"
        "from tests.kernel.labs import rooms\n"
        "from ekslearn.kernel import script\n"
        "text = script(rooms())\n"
        "first = subprocess.run(['sh'], input=text, text=True)\n"
        "for place in ('red', 'blue'):\n"
        f"  for command in {LOOK!r}:\n"
        "    print(place, command, flush=True)\n"
        "    subprocess.run(['ip', 'netns', 'exec', place, *command.split()])\n"
        "before = subprocess.run(['ip', 'netns'], capture_output=True).stdout\n"
        "again = subprocess.run(['sh'], input=text, text=True)\n"
        "assert before == subprocess.run(['ip', 'netns'], capture_output=True).stdout\n"
        "sys.exit(10 * first.returncode + again.returncode)\n"
    )
    assert done.returncode == 1, done.stderr  # the first run went well, the second refused
    assert "network namespace red exists already" in done.stderr
    with World() as world:
        world.build(lab)
        expected = "".join(
            f"{place} {command}\n{world.run(place, command).stdout}"
            for place in lab.places
            for command in LOOK
        )
    assert masked(done.stdout) == masked(expected)


def masked(text: str) -> list[str]:
    """MACs apart, and the switches that a World sets for its own probes."""
    return [
        line.partition(" link/ether")[0]
        for line in text.splitlines()
        if line.partition(" =")[0] not in dict([PING, ONCE]) and "_stable_secret" not in line
    ]


def test_the_script_reads_like_the_scenario() -> None:
    text = script(routed())
    assert text.startswith("#!/bin/sh\n# routed: ")
    assert "set -eu" in text
    wiring = [line for line in text.splitlines() if line.startswith("ip netns exec ")]
    assert wiring == [f"ip netns exec {line.replace('$', '', 1)}" for line in routed().lines]
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)


def test_up_and_down() -> None:
    done = privately(
        "import subprocess, time\n"
        "from tests.kernel.labs import rooms\n"
        "from ekslearn.errors import EkslearnError\n"
        "from ekslearn.kernel import up, down\n"
        "def sh(text): return subprocess.run(text, shell=True, capture_output=True, text=True)\n"
        "def refused(what):\n"
        "  try: what(rooms())\n"
        "  except EkslearnError as error: print(error)\n"
        "refused(down)\n"
        "sh('ip netns add other')\n"
        "up(rooms())\n"
        "print(sh('ip netns exec red curl -s --max-time 5 http://10.1.1.2').stdout, end='')\n"
        "print(sh('echo hello | ip netns exec red nc -N -w 5 10.1.1.2 80').stdout, end='')\n"
        "refused(up)\n"
        "down(rooms())\n"
        "print(sh('ip netns').stdout, end='')\n"
        "time.sleep(0.3)\n"
        "print(sh('ps -eo args | grep -c [k]ernel.listener').stdout, end='')\n"
        "print(sh('ls /run/ekslearn').stdout, end='')\n"
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "rooms isn't up: no /run/ekslearn/rooms.json"
    assert lines[1].startswith("blue 10.1.1.1 ")
    assert lines[-3:] == ["rooms is up already; `ekslearn kernel down` removes it", "other", "0"]


@pytest.mark.parametrize(
    ("more", "listen", "sentence"),
    [
        ("red$ ip link set nothing up", [], 'Cannot find device "nothing"'),
        ("red$ ip link show", [("red", "10.9.9.9:80/tcp")], "Cannot assign requested address"),
    ],
)
def test_a_failed_up_leaves_nothing(
    more: str, listen: list[tuple[str, str]], sentence: str
) -> None:
    done = privately(
        "import subprocess\n"
        "from tests.kernel.labs import ROOMS, Wires\n"
        "from ekslearn.errors import EkslearnError\n"
        "from ekslearn.kernel import up\n"
        f"lab = Wires('bad', [*ROOMS, {more!r}], {listen!r})\n"
        "try: up(lab)\n"
        "except EkslearnError as error: print(error)\n"
        "subprocess.run('ip netns; ls /run/ekslearn', shell=True)\n"
    )
    assert done.stderr == ""
    assert sentence in done.stdout and done.stdout.count("\n") == 1


def test_without_root_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for verb in (up, down):
        with pytest.raises(EkslearnError, match="needs root"):
            verb(rooms())
