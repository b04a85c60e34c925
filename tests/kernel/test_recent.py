"""Lists of -m recent on the real kernel: a client stays with its endpoint, and who has to go."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from random import Random

import pytest

from ekslearn.cluster import Lab
from ekslearn.kernel import World
from ekslearn.kernel.probe import Probe
from ekslearn.kernel.wiring import netns
from ekslearn.linux.netfilter import LISTED
from tests.kernel.labs import ROUTED, modelled

pytestmark = pytest.mark.kernel
SERVICE = "172.20.0.10"
# The endpoints' places are right and other. Without affinity the client's port chooses, where
# kube-proxy lets the dice do it.
AFFINITY = [
    *ROUTED,
    "router$ ip link add to-other type veth peer name eth0 netns other",
    "router$ ip addr add 10.0.3.1/24 dev to-other", "router$ ip link set to-other up",
    "other$ ip addr add 10.0.3.2/24 dev eth0", "other$ ip link set eth0 up",
    "other$ ip route add default via 10.0.3.1",
    *(f"router$ iptables -t nat -N {chain}" for chain in ("SVC", "SEP-R", "SEP-O")),
    f"router$ iptables -t nat -A PREROUTING -p tcp -d {SERVICE} --dport 80 -j SVC",
    *(f"router$ iptables -t nat -A SVC -m recent --name {chain} --rcheck --seconds 2 --reap"
      f" -j {chain}" for chain in ("SEP-R", "SEP-O")),
    "router$ iptables -t nat -A SVC -p tcp --sport 40001:40009 -j SEP-R",
    "router$ iptables -t nat -A SVC -j SEP-O",
    *(f"router$ iptables -t nat -A {chain} -p tcp -m recent --name {chain} --set -j DNAT"
      f" --to-destination {to}:80" for chain, to in (("SEP-R", "10.0.2.2"), ("SEP-O", "10.0.3.2"))),
]  # fmt: skip
# Seconds to wait, then the client's port, then who answers: as asked for, or as before.
TURNS = ((0, 40001, "right"), (0, 40011, "right"), (1.2, 40012, "right"), (1.2, 40013, "right"),
         (2.2, 40014, "other"), (0, 40002, "other"), (2.2, 40003, "right"))  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as one:
        yield one


def affine() -> Lab:
    return modelled(
        "affinity", AFFINITY, [("right", "0.0.0.0:80/tcp"), ("other", "0.0.0.0:80/tcp")]
    )


def test_a_client_stays_with_its_endpoint_until_the_time_is_up(world: World) -> None:
    lab = affine()
    world.build(lab)
    for wait_s, port, who in TURNS:
        time.sleep(wait_s)
        probe = Probe(namespace=netns("left"), protocol="tcp", destination=SERVICE, dport=80,
                      sport=port)  # fmt: skip
        (seen,) = world.probe([probe])
        assert seen.answer == f"{who} 10.0.1.2 {port}", port
        lab.world.clock += wait_s
        lab.namespace("left").sockets.next_port = port
        client = lab.namespace("left").sockets.ask("tcp", IPv4Address(SERVICE), 80)
        assert client.answers, port
        rewritten = [one.reply.src for one in lab.namespace("router").conntrack.connections]
        assert str(rewritten[-1]) == {"right": "10.0.2.2", "other": "10.0.3.2"}[who], port


def listed(lab: Lab, world: World) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """What is on each list of left: in the model, and on the kernel."""
    mine = {name: {str(address) for address in held.came}
            for name, held in lab.namespace("left").netfilter.recent.items()}  # fmt: skip
    real = {}
    for name in world.run("left", "ls /proc/net/xt_recent").stdout.split():
        text = world.run("left", f"cat /proc/net/xt_recent/{name}").stdout
        real[name] = set(re.findall(r"src=(\S+)", text))
    return mine, real


def ask(lab: Lab, world: World, port: int, *addresses: str, at_once: bool = False) -> None:
    """One UDP packet from left to each address, in both."""
    for address in addresses:
        lab.namespace("left").sockets.ask("udp", IPv4Address(address), 53)
    probes = [Probe(namespace=netns("left"), protocol="udp", destination=address, dport=53,
                    sport=port + at) for at, address in enumerate(addresses)]  # fmt: skip
    for group in [probes] if at_once else [[one] for one in probes]:
        world.probe(group)


def test_a_full_list_loses_who_came_longest_ago(world: World) -> None:
    rule = "left$ iptables -A OUTPUT -p udp -m recent --name L --rdest --set -j DROP"
    lab = modelled("full", [*ROUTED, rule], [])
    world.build(lab)
    first, more = ["10.9.0.1", "10.9.0.2", "10.9.0.3"], [f"10.9.1.{n}" for n in range(LISTED - 3)]
    ask(lab, world, 41000, *first)
    ask(lab, world, 41100, *more, at_once=True)
    ask(lab, world, 41300, "10.9.0.1")  # came again: it is the youngest now
    ask(lab, world, 41400, "10.9.2.1", "10.9.2.2")
    mine, real = listed(lab, world)
    assert len(real["L"]) == LISTED and mine == real
    assert "10.9.0.1" in real["L"] and not {"10.9.0.2", "10.9.0.3"} & real["L"]


MASKS = ("", "", " --mask 255.255.255.0", " --mask 255.0.255.0")


@pytest.mark.parametrize("seed", range(6))
def test_random_rules_leave_the_same_lists(world: World, seed: int) -> None:
    """Rules come and go, tables are restored whole or not, and packets pass between."""
    dice = Random(f"recent {seed}")
    lab = modelled("lists", [*ROUTED, "left$ iptables -N K"], [])
    world.build(lab)
    addresses = ["10.9.0.1", "10.9.0.2", "10.9.1.1", "10.8.0.1"]

    def rule() -> str:
        what = dice.choice(("--set", "--set", "--rcheck", "--update", "--remove",
                            "--update --seconds 900 --reap"))  # fmt: skip
        bang, target = dice.choice(("", "", "! ")), dice.choice((" -j DROP", "", " -j RETURN"))
        name, mask = dice.choice("LM"), dice.choice(MASKS)
        return f"-p udp -m recent {bang}{what} --name {name} --rdest{mask}{target}"

    for turn in range(12):
        chain = dice.choice(("OUTPUT", "OUTPUT", "K"))
        body = "\n".join(f"-A {dice.choice(('OUTPUT', 'K'))} {rule()}" for _ in range(2))
        command = dice.choice((
            f"iptables -A {chain} {rule()}", f"iptables -I {chain} {rule()}",
            f"iptables -R {chain} 1 {rule()}", f"iptables -D {chain} 1", "iptables -F K",
            f"iptables -t mangle -A OUTPUT {rule()}", "iptables -t mangle -F",
            f"iptables-restore <<'EOF'\n*filter\n:K - [0:0]\n{body}\nCOMMIT\nEOF",
            f"iptables-restore --noflush <<'EOF'\n*filter\n:K - [0:0]\n{body}\nCOMMIT\nEOF",
        ))  # fmt: skip
        assert lab.run("left", command).status == world.run("left", command).status, command
        ask(lab, world, 42000 + 10 * turn, *dice.sample(addresses, 2))
        mine, real = listed(lab, world)
        assert mine == real, command
