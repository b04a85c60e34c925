"""Packet by packet: kept disagreements, and a seeded sample of the sweep's random labs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import ekslearn
from ekslearn import data_path
from ekslearn.kernel import World
from ekslearn.linux.conntrack import Conntrack, rewritten
from ekslearn.linux.packet import Skb
from ekslearn.scenario import load
from tests.kernel.kept import FILES, question, read, wires, words
from tests.kernel.labs import modelled
from tests.parity import clusters, services
from tests.parity.packets import Case, Tally, differences, play, same, shrink
from tests.parity.text import Disagreement, confirmed
from tests.parity.wirings import Question, Wiring

SAMPLE_S = 40.0  # how long the sample goes on; at least FEWEST labs
FEWEST, FIRST = 8, 90_000


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as one:
        yield one


def test_there_are_kept_disagreements() -> None:
    assert len(FILES) >= 10
    assert all(read(path).why for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_model_says_what_the_kernel_showed(path: Path) -> None:
    kept = read(path)
    says = [one for group in kept.case(path.stem).model() for one in group.asked]
    assert [words(one.question) for one in says] == kept.ask
    assert len(says) == len(kept.wire)
    for one, wire in zip(says, kept.wire, strict=True):
        assert same(one, tuple(wire)), (one.says, wire)


@pytest.mark.kernel
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_kernel_still_shows_it(path: Path, world: World) -> None:
    kept = read(path)
    assert wires(kept.case(path.stem), world) == kept.wire


@pytest.mark.kernel
def test_a_sample_of_random_labs_agrees(world: World) -> None:
    tally, end, seed = Tally(), time.monotonic() + SAMPLE_S, FIRST
    while time.monotonic() < end or tally.labs < FEWEST:
        play(seed, world, tally)
        seed += 1
    assert not tally.found, "\n".join(tally.found)
    assert tally.probes > 50 * tally.labs
    assert len(tally.features) > 40


@pytest.mark.kernel
def test_a_planted_difference_is_found_and_shrunk(world: World) -> None:
    wiring = Wiring(7)
    case = Case(wiring.lab, [Question("a", "icmp", "10.0.0.2"), *wiring.questions[:5]])
    groups = case.model()
    case.lab.lines.append("b$ sysctl -w net.ipv4.ip_default_ttl=63")
    found = differences(case, groups, world)
    assert found and all("ttl 63" in "".join(one.kernel) for one in found)
    smaller = shrink(found[0], world, 10)
    assert len(smaller.case.questions) <= len(found[0].case.questions)


def test_a_redirect_after_the_handshake_leaves_the_probe_out() -> None:
    """The answer's port marks the connection, and the asker's next packet is turned back."""
    lines = [
        "a$ ip link add veth0 type veth peer name eth0 netns b",
        "b$ ip link add veth1 type veth peer name eth1 netns c",
        *(f"{end}$ ip link set {name} up"
          for end, name in (("a", "veth0"), ("b", "eth0"), ("b", "veth1"), ("c", "eth1"))),
        "a$ ip addr add 10.0.0.1/24 dev veth0", "b$ ip addr add 10.0.0.2/24 dev eth0",
        "b$ ip addr add 10.0.1.1/28 dev veth1", "c$ ip addr add 10.0.1.2/28 dev eth1",
        "a$ ip route add default via 10.0.0.2", "c$ ip route add 10.0.0.0/24 via 10.0.1.1",
        "b$ sysctl -w net.ipv4.ip_forward=1",
        "b$ iptables -t mangle -A PREROUTING -p tcp --dport 1024: -j CONNMARK --set-mark 0x80",
        "b$ iptables -t mangle -A PREROUTING -p tcp --dport 80 -j CONNMARK --restore-mark",
        "b$ ip rule add fwmark 0x80 prio 1024 lookup 200",
    ]  # fmt: skip
    question = Question("c", "tcp", "10.0.0.1", 80)
    for more, asked in ([], 1), (["b$ ip route add 10.0.0.0/8 via 10.0.1.2 table 200"], 0):
        case = Case(modelled("turned", lines + more, [("a", "0.0.0.0:80/tcp")]), [question])
        assert sum(len(group.asked) for group in case.model()) == asked


def test_what_differs_once_is_no_finding() -> None:
    real = Disagreement([], "stdout", "one", "another")
    for played, found in ([real, None], None), ([None], None), ([real] * 3, real):
        assert confirmed(iter(played).__next__) is found


@pytest.mark.kernel
def test_a_sample_of_random_clusters_agrees(world: World) -> None:
    tally, end, seed = Tally(), time.monotonic() + SAMPLE_S / 2, FIRST
    while time.monotonic() < end or tally.labs < FEWEST / 2:
        clusters.play(seed, world, tally)
        seed += 1
    assert not tally.found, "\n".join(tally.found)
    assert tally.probes > 30 * tally.labs
    assert {"vpc route send to local", "ip rule 512"} < tally.features.keys()


@pytest.mark.kernel
def test_a_sample_of_random_services_agrees(world: World) -> None:
    tally, end, seed = Tally(), time.monotonic() + SAMPLE_S / 2, FIRST
    while time.monotonic() < end or tally.labs < FEWEST / 2:
        services.play(seed, world, tally)
        seed += 1
    assert not tally.found, "\n".join(tally.found)
    assert {"nat KUBE-SVC: to KUBE-SEP", "nat KUBE-SEP: DNAT"} < tally.features.keys()
    assert not services.unfair(tally.features)


def test_dice_that_favour_one_endpoint_are_found() -> None:
    fair = Counter({f"draw {n} of 3": 400 for n in (1, 2, 3)})
    assert not services.unfair(fair)
    # 1/4, then 1/3: the chances of one endpoint more than there are
    off = Counter({"draw 1 of 3": 300, "draw 2 of 3": 300, "draw 3 of 3": 600})
    assert services.unfair(off)
    assert services.unfair(Counter({"draw 1 of 2": 100}))


PLANTED = {
    "no hairpin mark": "iptables -t nat -D {sep} 1",
    "no mark from outside": "iptables -t nat -D {ext} 1",
    "connmark behind its restore": "iptables -t mangle -A PREROUTING -i eth0 -j CONNMARK"
                                   " --set-xmark 0x0/0x80",
}  # fmt: skip


@pytest.mark.kernel
@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_planted_in_kube_proxys_rules_is_found(world: World, fault: str) -> None:
    """Only the kernel has it: then both can't agree."""
    lab, questions = ekslearn.load("services"), list[Question]()
    if fault.startswith("connmark"):  # it matters where the client's address is left alone
        text = data_path("scenarios/services.yaml").read_text(encoding="utf-8")
        lab = load(text.replace("type: NodePort", "type: NodePort\n  externalTrafficPolicy: Local"))
    for _ in range(6):
        questions += [Question("shop/web-1", "tcp", "172.20.45.6", 80),
                      Question("laptop", "tcp", "10.0.1.10", 31380)]  # fmt: skip
    case = Case(lab, questions, services.ServiceWatch)
    groups = case.model()
    assert not differences(case, groups, world)
    names = {"sep": "KUBE-SEP-5RNPZ3PAGTXMEYKA", "ext": "KUBE-EXT-67NZLRHBNDSAWJRO"}
    case.lab = lab.copy()
    case.lab.lines.append("node-a$ " + PLANTED[fault].format(**names))
    assert differences(case, groups, world)


@pytest.mark.kernel
def test_dnat_undone_before_routing_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that turns an answer's source back too early takes another route than the kernel."""
    lab = ekslearn.load("services")
    case = Case(lab, [Question("laptop", "tcp", "10.0.1.10", 31380)] * 6)
    assert not differences(case, case.model(), world)
    right = Conntrack.translate

    def early(self: Conntrack, hook: str, skb: Skb) -> bool:
        done = right(self, hook, skb)
        if hook == "PREROUTING" and skb.binding and skb.binding.is_reply:
            skb.packet = rewritten(skb.packet, skb.binding.goal, "source")
        return done

    monkeypatch.setattr(Conntrack, "translate", early)
    assert differences(case, case.model(), world)


@pytest.mark.kernel
def test_a_difference_planted_in_a_cluster_is_found(world: World) -> None:
    """A line that the model never saw; addresses that EC2 took away without its knowing."""
    made = clusters.Clustering(FIRST + 1, 40)
    case, groups = clusters.asked(made)
    assert not differences(case, groups, world)
    made.lab.lines.append(f"{made.nodes[0]}$ sysctl -w net.ipv4.ip_default_ttl=63")
    assert differences(case, groups, world)
    made.lab.lines.pop()
    for eni in made.lab.vpc.enis.values():
        eni.secondary.clear()
        eni.prefixes.clear()
    assert differences(case, groups, world)


def test_the_same_seed_gives_the_same_lab() -> None:
    one, two = Wiring(11), Wiring(11)
    assert one.lab.lines == two.lab.lines and one.questions == two.questions
    assert Wiring(12).lab.lines != one.lab.lines
    first, second = clusters.Clustering(11), clusters.Clustering(11)
    assert first.lab.lines == second.lab.lines and first.questions == second.questions


def test_questions_are_read_as_they_are_written() -> None:
    for text in ("a icmp 10.0.0.1", "b udp 10.0.0.1:53 ttl 2 size 1300", "c tcp 10.0.0.1:80"):
        assert words(question(text)) == text
