"""Private worlds: what their wires show, and that nothing of them gets out or stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ekslearn.kernel.world as world_module
from ekslearn.errors import EkslearnError
from ekslearn.kernel import World
from ekslearn.kernel.probe import Probe, Seen
from ekslearn.kernel.space import TOOLS
from ekslearn.kernel.wiring import base_sysctls
from tests.kernel.labs import ROOMS, ROOT, Wires, privately, rooms, routed


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as one:
        yield one


def wire(seen: Seen, leg: str) -> list[tuple[str, str, str, int]]:
    """Namespace, interface, direction and TTL of each packet of a leg."""
    return [(name, i, way, p.ttl) for name, i, way, p in seen.packets if p.leg == leg]


def ask(world: World, namespace: str, *wanted: tuple[str, str, int | None]) -> list[Seen]:
    return world.probe(
        [
            Probe(namespace=namespace, protocol=p, destination=d, dport=port, sport=40000 + at)
            for at, (p, d, port) in enumerate(wanted)
        ]
    )


def test_an_echo_crosses_a_cable(world: World) -> None:
    world.build(rooms())
    (seen,) = ask(world, "red", ("icmp", "10.1.1.2", None))
    assert seen.outcome == "answered"
    assert wire(seen, "request") == [("red", "veth0", "out", 64), ("blue", "veth1", "in", 64)]
    assert wire(seen, "reply") == [("blue", "veth1", "out", 64), ("red", "veth0", "in", 64)]
    assert [p.icmp for *_, p in seen.packets] == [(8, 0), (8, 0), (0, 0), (0, 0)]


def test_each_outcome_is_told(world: World) -> None:
    world.build(rooms())
    found = ask(
        world, "red",
        ("tcp", "10.1.1.2", 80), ("tcp", "10.1.1.2", 81), ("udp", "10.1.1.2", 53),
        ("udp", "10.1.1.2", 54), ("icmp", "10.1.1.9", None), ("tcp", "10.9.9.9", 80),
    )  # fmt: skip
    assert [(one.outcome, one.answer) for one in found] == [
        ("answered", "blue 10.1.1.1 40000"),
        ("RST", ""),
        ("answered", "blue 10.1.1.1 40002"),
        ("icmp 3/3 from 10.1.1.2", ""),
        ("icmp 3/1 from 10.1.1.1", ""),
        ("error ENETUNREACH", ""),
    ]
    assert wire(found[4], "request") == []  # nobody answered ARP: the echo was never sent
    assert wire(found[4], "reply") == [("red", "lo", "out", 64), ("red", "lo", "in", 64)]
    assert found[5].packets == []


def test_a_router_takes_one_from_the_ttl(world: World) -> None:
    world.build(routed())
    (seen,) = ask(world, "left", ("tcp", "10.0.2.2", 80))
    assert seen.answer == "right 10.0.1.2 40000"
    assert wire(seen, "request") == [
        ("left", "eth0", "out", 64), ("router", "to-left", "in", 64),
        ("router", "to-right", "out", 63), ("right", "eth0", "in", 63),
    ]  # fmt: skip
    assert [one[3] for one in wire(seen, "reply")] == [64, 64, 63, 63]


def test_silence_is_an_outcome(world: World) -> None:
    world.build(routed("router$ sysctl -w net.ipv4.ip_forward=0"))
    seen = ask(world, "left", ("icmp", "10.0.2.2", None), ("udp", "10.0.2.2", 53))
    assert [one.outcome for one in seen] == ["nothing"] * 2
    assert [len(one.packets) for one in seen] == [2, 2]


def test_a_loop_is_seen_to_its_end(world: World) -> None:
    world.build(routed("router$ ip route add 10.3.0.0/16 via 10.0.2.2",
                       "right$ sysctl -w net.ipv4.ip_forward=1",
                       "router$ sysctl -w net.ipv4.conf.all.send_redirects=0",
                       "router$ sysctl -w net.ipv4.conf.to-right.send_redirects=0"))  # fmt: skip
    (seen,) = ask(world, "left", ("udp", "10.3.0.1", 53))
    ttls = [one[3] for one in wire(seen, "request")]
    assert ttls == [ttl for ttl in range(64, 0, -1) for _ in range(2)]
    assert seen.outcome.startswith("icmp 11/0 from ")


def test_translation_does_not_hide_a_probe(world: World) -> None:
    """A port and both addresses change on the way; the mark still says whose packet it is."""
    world.build(routed(
        "router$ iptables -t nat -A PREROUTING -d 10.0.1.1 -p tcp --dport 8080"
        " -j DNAT --to-destination 10.0.2.2:80",
        "router$ iptables -t nat -A POSTROUTING -o to-right -p tcp"
        " -j MASQUERADE --to-ports 5000-5009",
    ))  # fmt: skip
    (seen,) = ask(world, "left", ("tcp", "10.0.1.1", 8080))
    assert seen.outcome == "answered"
    place, client, port = seen.answer.split()
    assert (place, client) == ("right", "10.0.2.1") and 5000 <= int(port) <= 5009
    tuples = [(p.src, p.dst, p.dport) for *_, p in seen.packets if p.leg == "request"]
    assert tuples == [("10.0.1.2", "10.0.1.1", 8080)] * 2 + [("10.0.2.1", "10.0.2.2", 80)] * 2
    assert len(wire(seen, "reply")) == 4


def test_a_hundred_probes_at_once(world: World) -> None:
    world.build(routed())
    wanted = [("icmp", "udp", "tcp")[at % 3] for at in range(100)]
    start = time.monotonic()
    found = ask(world, "left", *((p, "10.0.2.2", {"udp": 53, "tcp": 80}.get(p)) for p in wanted))
    assert {(one.outcome, len(one.packets)) for one in found} == {("answered", 8)}
    assert time.monotonic() - start < 2


def test_every_switch_stands_as_written(world: World) -> None:
    world.build(rooms())
    keys = base_sysctls()
    read = world.run("red", "sysctl -n " + " ".join(key for key, _ in keys))
    assert read.stderr == ""  # this kernel knows each of them
    assert read.stdout.split() == [value for _, value in keys]


def test_a_lab_replaces_the_one_before(world: World) -> None:
    world.build(routed())
    world.build(rooms())
    assert sorted(world.run("red", "ip netns list").stdout.split()) != []
    names = [line.split()[0] for line in world.run("red", "ip netns list").stdout.splitlines()]
    assert sorted(names) == ["blue", "red"]


def test_a_refused_line_is_named(world: World) -> None:
    bad: Any = Wires("bad", [*ROOMS, "red$ ip route add 10.2.0.0/16 via 10.9.9.9"])
    with pytest.raises(EkslearnError, match=r"via 10\.9\.9\.9.*Nexthop has invalid gateway"):
        world.build(bad)
    done = world.build(bad, strict=False)
    assert [one.status for one in done] == [0] * len(ROOMS) + [2]


def test_a_world_is_used_inside_its_block_only() -> None:
    with pytest.raises(EkslearnError, match="inside its `with` block"):
        World().run("red", "ip link")


def test_where_it_is_forbidden_a_sentence_says_what_to_do() -> None:
    """A user who may make no namespaces: no capabilities left, and a limit of zero."""
    code = (
        "from ekslearn.kernel import World\n"
        "from ekslearn.errors import EkslearnError\n"
        "try:\n  World().__enter__()\n"
        "except EkslearnError as error:\n  print(error)\n"
    )
    limit = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -all "$@"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh", "--inh-caps=-all",
         sys.executable, "-c", code],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("this system allows no private network namespaces (unshare")
    assert "run as root" in done.stdout and done.stdout.count("\n") == 1


def test_root_needs_no_user_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid():
        code = "import tests.kernel.test_world as t; t.without_user_namespaces()"
        assert privately(code).returncode == 0
        return
    monkeypatch.setattr(world_module, "USER", ["--no-such-option"])
    with World() as one:
        one.build(rooms())


def without_user_namespaces() -> None:
    world_module.USER[:] = ["--no-such-option"]
    with World() as one:
        one.build(rooms())


def test_the_program_inside_refuses_to_run_outside() -> None:
    own = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net")]
    for arguments in ([], own):
        done = subprocess.run(
            [sys.executable, "-m", "ekslearn.kernel.inside", *arguments],
            cwd=ROOT, input="", capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 1 and "no private world" in done.stderr


# -- nothing gets out, nothing stays -----------------------------------------------------------


def started(pid: int) -> str:
    """When a process began (proc(5), field 22), empty if there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def descendants(pid: int) -> set[tuple[int, str]]:
    """The processes that ``pid`` started, and theirs, each with the time it began."""
    found: set[tuple[int, str]] = set()
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return found
    for child in map(int, children):
        found |= {(child, started(child))} | descendants(child)
    return {one for one in found if one[1]}  # without those that ended while we looked


def space(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def machine() -> dict[str, str]:
    """What of this machine a careless kernel test would change."""
    commands = (
        "ip netns list",
        "ip addr",
        "ip route show table all",
        "ip rule",
        "iptables-save",
        "findmnt -R -o TARGET,FSTYPE /run",
        "sysctl -a --pattern ^net",
    )
    seen = {}
    for command in commands:
        env = {"PATH": TOOLS, "LC_ALL": "C"}
        done = subprocess.run(command.split(), env=env, capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        seen[command] = "\n".join(one for one in lines if not one.startswith(("#", "net.netfilter"
                                  ".nf_conntrack_count")))  # fmt: skip
    return seen


def test_the_caller_is_untouched() -> None:
    before = machine()
    assert before["ip addr"]
    with World() as one:
        one.build(routed("router$ iptables -t nat -A POSTROUTING -j MASQUERADE"))
        ask(one, "left", ("tcp", "10.0.2.2", 80))
        during = machine()
    assert before == during == machine()


@pytest.mark.parametrize("moment", ["starting", "building", "probing", "waiting"])
def test_a_kill_leaves_nothing(moment: str) -> None:
    code = (
        "from ekslearn.kernel import World\n"
        "import tests.kernel.test_world as t\n"
        "world = World().__enter__()\n"
        f"while {moment == 'building'}: world.build(t.routed())\n"
        "world.build(t.routed())\n"
        f"if {moment == 'waiting'}: world.run('left', 'sleep 19')\n"
        "while True: t.ask(world, 'left', ('icmp', '10.0.2.77', None))\n"
    )
    ours = os.readlink("/proc/self/ns/net")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    deadline = time.monotonic() + 20
    while not any(space(pid) not in ("", ours) for pid, _ in descendants(process.pid)):
        assert time.monotonic() < deadline, "no private world was ever seen"
        time.sleep(0.005)
    time.sleep({"starting": 0, "building": 0.5, "probing": 1, "waiting": 1}[moment])
    process.send_signal(signal.SIGSTOP)  # so that it starts nothing while we look
    family = descendants(process.pid)
    assert any(space(pid) != ours for pid, _ in family)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while (left := {one for one in family if started(one[0]) == one[1]}) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.01)
    assert left == set()
