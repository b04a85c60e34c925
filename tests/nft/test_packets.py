"""Where nft's nat chain stands in a packet's way: the model beside the kernel, counters and all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ekslearn.cluster import Lab
from ekslearn.kernel import World
from tests.nft.labs import BESIDE, MARKED, QUESTIONS, SIZES, node, turned
from tests.parity.packets import PORTS, Case, Group, ask, differences
from tests.parity.wirings import Question

LIST = "nft list table ip aws-cni"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as one:
        yield one


def asked(lab: Lab, questions: list[Question]) -> tuple[Lab, Group]:
    """A copy of the lab after the questions, and what it said to them."""
    model = lab.copy()
    for at, place in enumerate(model.places):
        model.namespace(place).sockets.next_port = 40000 + PORTS * at
    return model, Group(0.0, [ask(model, one)[0] for one in questions])


def counters(lab: Lab) -> dict[str, int]:
    """How many packets each counter has seen, by the rule it stands in."""
    found = {}
    for line in lab.run("node", LIST).stdout.splitlines():
        before, counts, rest = line.strip().partition("counter packets ")
        if counts:
            count, _, _, *words = rest.split()
            found[" ".join([*before.split(), *words])] = int(count)
    return found


@pytest.mark.kernel
@pytest.mark.parametrize("beside", BESIDE)
def test_packets_and_counters_agree(beside: str, world: World) -> None:
    lab = node(beside, *BESIDE[beside])
    model, group = asked(lab, QUESTIONS)
    found = differences(Case(lab, QUESTIONS), [group], world)
    assert not found, str(found[0])
    assert model.run("node", LIST) == world.run("node", LIST)
    assert counters(model)["meta mark set ct mark & 0x00000080"] > 10


@pytest.mark.kernel
@pytest.mark.parametrize("lines", [(), MARKED[:2], MARKED[:1]], ids=["none", "chain", "table"])
def test_a_nat_chain_keeps_a_redirect_back(lines: tuple[str, ...], world: World) -> None:
    ask_mark = "node$ iptables -A FORWARD -m conntrack --ctstate NEW"
    lab = turned(*lines, ask_mark)
    questions = [Question("pod", "icmp", "10.0.9.9", size=SIZES["icmp"])]
    _, group = asked(lab, questions)
    found = differences(Case(lab, questions), [group], world)
    assert not found, str(found[0])
    assert ("icmp 5/1" in " ".join(group.asked[0].says)) == (len(lines) < 2)


# What the kernel showed, held where there is no kernel to ask


def test_only_the_first_packet_of_a_connection_comes_by() -> None:
    lab = node("first", *BESIDE["the CNI's mangle rules"])
    for _ in range(2):
        lab.trace("pod", "198.51.100.9:80/tcp")
    assert counters(lab) == {
        'iifname "eni*" jump snat-mark': 2, "meta mark set ct mark & 0x00000080": 2,
        "ip daddr 10.0.0.0/16 return": 0, "ct mark set ct mark | 0x00000080": 2,
    }  # fmt: skip


def test_a_dnat_before_it_and_the_chain_is_not_asked() -> None:
    lab = node("bound", *BESIDE["a DNAT before it"])
    lab.trace("pod", "198.51.100.9:80/tcp")
    assert set(counters(lab).values()) == {0}
    lab.trace("pod", "198.51.100.9:9/tcp")
    assert counters(lab)['iifname "eni*" jump snat-mark'] == 1


def test_the_whole_mark_of_a_packet_is_overwritten() -> None:
    lab = node("mark", *BESIDE["a mark that is overwritten"])
    steps = lab.trace("pod", "10.0.9.9").steps
    marks = [step.header["mark"] for step in steps if step.place == "node" and step.leg != "reply"]
    assert marks[0] == 3 and marks[-1] == 0
