"""Model and kernel agree; and when either is changed behind the other's back, verify says so."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import ekslearn
from ekslearn.cluster import Lab
from ekslearn.kernel import World, verify
from ekslearn.kernel.verify import LIMITED, questions, rounds
from tests.kernel.labs import ROOMS, ROUTED, SCENARIOS, modelled, privately, rooms, routed

LISTEN = [("right", "0.0.0.0:80/tcp"), ("right", "0.0.0.0:53/udp")]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as one:
        yield one


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_every_scenario_agrees(path, world: World) -> None:  # type: ignore[no-untyped-def]
    lab = ekslearn.load(path)
    before = list(lab.lines)
    start = time.monotonic()
    report = verify(lab, world=world)
    assert report.ok, report.text
    assert time.monotonic() - start < 60
    assert lab.lines == before
    assert report.text.splitlines()[-1].startswith(f"{lab.name}: model and kernel agree (")


# Each of these builds a lab on which model and kernel could differ; what it is about, then lines.
CASES = {
    "a cable pulled": [*ROOMS, "blue$ ip link set veth1 down"],
    "nobody answers": [*ROOMS, "blue$ ip addr del 10.1.1.2/24 dev veth1"],
    "no loopback": [line for line in ROOMS if " lo " not in line],
    "a wrong mask": [*ROOMS[:2], "blue$ ip addr add 10.1.2.2/24 dev veth1", *ROOMS[3:]],
    "two addresses": [*ROOMS, "blue$ ip addr add 10.1.1.3/24 dev veth1",
                      "red$ ip addr add 10.7.0.1/32 dev lo"],
    "a router": ROUTED,
    "a router that isn't one": ROUTED[:-1],
    "no way back": [*ROUTED, "right$ ip route del default"],
    "a black hole": [*ROUTED, "router$ ip route add blackhole 10.0.2.2"],
    "unreachable": [*ROUTED, "router$ ip route add unreachable 10.0.2.2/32"],
    "prohibited": [*ROUTED, "router$ ip route add prohibit 10.0.2.2/32"],
    "a static neighbor": [*ROUTED, "router$ ip neigh add 10.0.2.2 lladdr 02:00:00:00:00:99"
                          " dev to-right nud permanent"],
    "a loop": [*ROUTED, "router$ ip route add 198.51.100.0/24 via 10.0.2.2",
               "right$ sysctl -w net.ipv4.ip_forward=1"],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_labs_that_break_agree_too(case: str, world: World) -> None:
    lines = CASES[case]
    places = {line.partition("$")[0] for line in lines}
    listen = LISTEN if "right" in places else [("blue", "0.0.0.0:80/tcp")]
    report = verify(modelled(case, lines, listen), world=world)
    assert report.ok, report.text


def planted(lines: list[str], listen: list[tuple[str, str]], *secret: str) -> Lab:
    """A lab whose model never heard of the last lines, but the kernel will."""
    lab = modelled("planted", lines, listen)
    lab.lines.extend(secret)
    return lab


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("router$ ip route add blackhole 10.0.2.2", ["+blackhole 10.0.2.2", "-outcome answered"]),
        ("router$ sysctl -w net.ipv4.ip_forward=0", ["+outcome nothing", "-outcome answered"]),
        ("router$ sysctl -w net.ipv4.ip_default_ttl=63", ["ttl 63"]),
        ("left$ ip link set eth0 mtu 1400", ["mtu 1400"]),
        ("right$ iptables -A INPUT -p udp -j REJECT", ["+outcome icmp 3/3 from 10.0.2.2"]),
        ("right$ iptables -A INPUT -p tcp -j REJECT --reject-with tcp-reset", ["+outcome RST"]),
        ("router$ iptables -t nat -A POSTROUTING -o to-right -j SNAT --to-source 10.0.2.1",
         ["+request router to-right out 10.0.2.1 -> 10.0.2.2", "+answer right 10.0.2.1"]),
        ("left$ ip neigh add 10.0.1.9 lladdr 02:00:00:00:00:09 dev eth0", ["+10.0.1.9 dev eth0"]),
        ("left$ ip rule add prio 9 from all lookup 9", ["+9:\tfrom all lookup 9"]),
    ],
)  # fmt: skip
def test_a_planted_difference_is_found(secret: str, said: list[str], world: World) -> None:
    lab = planted(ROUTED, LISTEN, secret)
    report = verify(lab, world=world)
    assert not report.ok
    assert "disagree" in report.text.splitlines()[-1]
    for words in said:
        assert words in report.text


@pytest.mark.parametrize("stalls", [1, 2])
def test_what_disagrees_once_is_asked_again(stalls: int, world: World) -> None:
    """A stall of the machine isn't a finding: the probes go out once more, one by one."""
    lab = modelled("stall", list(ROOMS), [("blue", "0.0.0.0:80/tcp")])
    calls = []

    class Stalling(World):
        def probe(self, probes):  # type: ignore[no-untyped-def]
            calls.append(len(probes))
            found = world.probe(probes)
            if len(calls) <= stalls:
                found[0].outcome = "nothing"
            return found

        def build(self, lab, *, strict=True):  # type: ignore[no-untyped-def]
            return world.build(lab, strict=strict)

        def run(self, place, command):  # type: ignore[no-untyped-def]
            return world.run(place, command)

    report = verify(lab, world=Stalling())
    assert report.ok, report.text
    assert calls[0] > 1 and calls[1:] == [calls[0], 1]


def test_rounds_stay_below_the_kernels_limits() -> None:
    lab = modelled("limits", [*ROUTED, "router$ ip route add unreachable 10.0.2.2/32"], LISTEN)
    found = list(rounds(lab))
    assert [one for group in found for one in group] == list(questions(lab))
    assert len(found) > 1
    for group in found:
        model = lab.copy()
        errors = [
            (one.place, one.dst)
            for question in group
            for one in model.trace(*question).reply
            if one.direction == "out" and one.icmp in LIMITED
        ]
        assert max((errors.count(one) for one in errors), default=0) <= 4


def test_questions_reach_everybody_and_nobody() -> None:
    lab = modelled("asks", list(ROUTED), LISTEN)
    asked = list(questions(lab))
    assert len(set(asked)) == len(asked)
    assert ("left", "10.0.2.2:80/tcp") in asked and ("left", "10.0.2.2:53/udp") in asked
    assert ("right", "127.0.0.1:80/tcp") in asked and ("left", "198.51.100.99") in asked


def test_an_ordinary_user_may_verify() -> None:
    """No capability but those of the private world (here: one world inside another)."""
    done = privately(
        "import ekslearn\n"
        "from ekslearn.kernel import verify\n"
        "report = verify(ekslearn.load('data/scenarios/two-rooms.yaml'))\n"
        "print(report.text.splitlines()[-1])\n"
    )
    assert "model and kernel agree" in done.stdout, done.stderr


def test_stand_ins_and_labs_are_alike() -> None:
    """What the other kernel tests build is what the model would accept."""
    for wires in (rooms(), routed()):
        assert modelled(wires.name, wires.lines, wires.listen).lines == wires.lines
