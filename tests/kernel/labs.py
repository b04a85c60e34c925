"""Small labs to build for real, and private places to run whole programs in."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ekslearn.cluster import Lab

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted((ROOT / "data" / "scenarios").glob("*.yaml"))

ROOMS = [
    "red$ ip link add veth0 type veth peer name veth1 netns blue",
    "red$ ip addr add 10.1.1.1/24 dev veth0",
    "blue$ ip addr add 10.1.1.2/24 dev veth1",
    "red$ ip link set lo up",
    "blue$ ip link set lo up",
    "red$ ip link set veth0 up",
    "blue$ ip link set veth1 up",
]
# left - router - right
ROUTED = [
    "router$ ip link set lo up",
    "router$ ip link add to-left type veth peer name eth0 netns left",
    "router$ ip link add to-right type veth peer name eth0 netns right",
    "router$ ip addr add 10.0.1.1/24 dev to-left",
    "router$ ip addr add 10.0.2.1/24 dev to-right",
    "left$ ip addr add 10.0.1.2/24 dev eth0",
    "right$ ip addr add 10.0.2.2/24 dev eth0",
    "router$ ip link set to-left up",
    "router$ ip link set to-right up",
    "left$ ip link set eth0 up",
    "right$ ip link set eth0 up",
    "left$ ip route add default via 10.0.1.1",
    "right$ ip route add default via 10.0.2.1",
    "router$ sysctl -w net.ipv4.ip_forward=1",
]


@dataclass
class Wires:
    """As much of a Lab as the kernel side looks at; its lines may hold what isn't modelled."""

    name: str
    lines: list[str]
    listen: list[tuple[str, str]] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(line.partition("$")[0] for line in self.lines))

    def listeners(self) -> list[tuple[str, str]]:
        return self.listen


def rooms() -> Any:
    return Wires("rooms", list(ROOMS), [("blue", "0.0.0.0:80/tcp"), ("blue", "0.0.0.0:53/udp")])


def routed(*more: str) -> Any:
    listen = [("right", "0.0.0.0:80/tcp"), ("right", "0.0.0.0:53/udp")]
    return Wires("routed", [*ROUTED, *more], listen)


def privately(code: str, *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run Python as root of a private world with a /run of its own, where ``up`` does no harm."""
    unshare = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork"]
    shell = 'mount -t tmpfs tmpfs /run && exec "$@"'
    return subprocess.run(
        [*unshare, "--kill-child", "sh", "-c", shell, "sh", sys.executable, "-c", code],
        cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip


def modelled(name: str, lines: list[str], listen: list[tuple[str, str]]) -> Lab:
    """A real Lab from lines; each must succeed."""
    lab = Lab(name, list(dict.fromkeys(line.partition("$")[0] for line in lines)))
    for line in lines:
        done = lab.line(line)
        assert done.status == 0, (line, done.stderr)
    for place, where in listen:
        lab.listen(place, where)
    return lab
