"""The exercises of lessons 06 and 09, four ways (see tests.exercises.ways)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from ekslearn.exercises import EXERCISES
from ekslearn.exercises.format import Look, Mend
from tests.exercises.ways import (
    LEARNERS,
    Solver,
    Words,
    asks_back,
    flipped,
    passes,
    reads_kindly,
    speaks,
    words_of,
)

# --- lesson 09 --------------------------------------------------------------------------------

HERE = ("a", "d", "node-a")  # who is on node-a


def which_interface(words: Words) -> str:
    if words["to"] in HERE:
        return "none"
    return "eth1" if words["from"] == "d" else "eth0"


def to_the_router(words: Words) -> str:
    found = [
        x for x in "abcd"
        if words[f"to_{x}"] == "far" or (words[f"from_{x}"], words[f"to_{x}"]) == ("d", "bastion")
    ]  # fmt: skip
    return " ".join(found) or "none"


def what_still_works(words: Words) -> str:
    line, found = words["line"], []
    for x in "abcd":
        way = words[f"from_{x}"], words[f"to_{x}"]
        second = "d" in way and way != ("d", "a")  # needs rule 1536, table 2 and eth1
        if "1536" in line or "table 2" in line or "eth1 down" in line:
            lost = second
        elif line == "ip route del default":
            lost = way in (("a", "far"), ("far", "a"))
        else:
            lost = "a" in way and "route del" in line
        found += [] if lost else [x]
    return " ".join(found) or "none"


def mend_the_node(words: Words) -> str:
    table = (
        "node-a$ ip route replace {router} dev eth1 scope link table 2\n"
        "node-a$ ip route replace default via {router} dev eth1 table 2"
    )
    rule = "node-a$ ip rule add priority 1536 from {address_d} lookup 2"
    return (
        f"{rule}\n{table}",
        table,
        f"node-a$ ip rule del priority 1536\n{rule}",
        table,
        "node-a$ ip rule del priority 1000",
        "node-a$ ip route replace {subnet} dev eth0 scope link src {host}",
    )[int(words["fault"])].format_map(words)


SOLVERS: dict[str, Solver] = {
    "pods-on-different-nodes/which-interface": which_interface,
    "pods-on-different-nodes/to-the-router": to_the_router,
    "pods-on-different-nodes/what-still-works": what_still_works,
    "pods-on-different-nodes/mend-the-node": mend_the_node,
}
LESSONS = ("pods-on-different-nodes",)
NONSENSE = ("42 is it", "?", "<q>", "e", "{}", "ip route", 7.5, "1.2.3.4/99")


def slips(name: str, words: Words) -> Mapping[str, str]:
    right = SOLVERS[name](words)
    match name.split("/")[1]:
        case "which-interface":
            asked = {
                "none": "how does a packet get out?",
                "eth2": "Which pod has an address of eth2?",
                "eth0": f"does it name {words['address_d']}?",
                "eth1": "a rule that names",
            }
            if right == "none":
                asked = dict.fromkeys(asked, "who is to get it?")
            asked.pop(right)
            return asked | {"wlan0": "is no ENI of node-a"}
        case "to-the-router":
            asked = {}
            for x in "abcd":
                asked[flipped(right, x)] = (
                    f"is the receiver's address in {words['subnet']}?"
                    if words[f"to_{x}"] == "far"
                    else "has it a row for the subnet?"
                    if words[f"from_{x}"] == "d" and words[f"to_{x}"] == "bastion"
                    else "is there a `via` in it?"
                    if words[f"to_{x}"] == "bastion"
                    else "does this packet leave by an ENI at all?"
                )
            return asked
        case "what-still-works":
            asked = {}
            for x in "abcd":
                inward = words[f"from_{x}"] == "far" and "eth1 down" not in words["line"]
                stays = words["line"] == "ip route del default"
                asked[flipped(right, x)] = (
                    "ever use what was changed?"
                    if x in right.replace("none", "")
                    else "Which way does the answer take"
                    if inward and "route del 10" not in words["line"]
                    else "which row would have carried this packet"
                    if stays or "route del" in words["line"] or words[f"from_{x}"] == "far"
                    else "does it own the sender?"
                )
            return asked
        case _:
            return {
                "node-b$ ip rule del priority 512": "Which row of node-a sends",
                "node-a$ iptables -t nat -A POSTROUTING -j MASQUERADE": "another address than the",
                "node-a$ ip rule flush": "Which single row is missing or wrong?",
                "node-a$ ip route flush table main": "Which single row is missing or wrong?",
                "node-a$ ip rule add from all lookup 2": "Whose packets belong there?",
                "node-a$ ip link set eth1 down": "or the choice between them?",
                "node-a$ ip rule show": "by which ENI did the packet leave?",
                "ip rule show": "doesn't say where to run",
            }


# --- all of them ------------------------------------------------------------------------------

MENDS = [name for name in SOLVERS if isinstance(EXERCISES[name], Mend)]


def test_every_exercise_has_a_solver_and_a_lesson_has_its_kinds() -> None:
    assert set(SOLVERS) == {name for name in EXERCISES if name.startswith(LESSONS)}
    for lesson in LESSONS:
        kinds = Counter(EXERCISES[name].place for name in SOLVERS if name.startswith(lesson))
        assert kinds == {"easy": 1, "end": 2, "open": 1}


@pytest.mark.parametrize("name", SOLVERS)
def test_the_solver_passes_for_every_learner(name: str) -> None:
    passes(name, SOLVERS[name])


@pytest.mark.parametrize("name", SOLVERS)
def test_blank_and_nonsense_get_a_sentence(name: str) -> None:
    speaks(name, NONSENSE)


@pytest.mark.parametrize("name", SOLVERS)
def test_answers_are_read_kindly(name: str) -> None:
    reads_kindly(name, SOLVERS[name])


@pytest.mark.parametrize("name", SOLVERS)
def test_each_slip_is_asked_its_own_question_and_nothing_gives_the_answer_away(name: str) -> None:
    asks_back(name, SOLVERS[name], slips)


@pytest.mark.parametrize("name", MENDS)
def test_every_fault_is_drawn_and_breaks_a_part(name: str) -> None:
    one, drawn = EXERCISES[name], set()
    assert isinstance(one, Mend)
    for learner in LEARNERS:
        variant = one.variant(learner)
        drawn.add(variant.words["fault"])
        verdicts = {variant.lab.copy().trace(*flow).verdict for flow in one.flows(variant.words)}
        assert "delivered" in verdicts and verdicts - {"delivered"}
    assert len(drawn) == len(one.faults)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("pods-on-different-nodes/which-interface", "node-a$ ip rule del priority 1536"),
        ("pods-on-different-nodes/to-the-router", "node-a$ ip rule add pref 5 from all lookup 2"),
        ("pods-on-different-nodes/what-still-works", "node-a$ ip link set eth0 down"),
    ],
)
def test_the_truth_follows_the_model(name: str, line: str) -> None:
    one, changed = EXERCISES[name], 0
    assert isinstance(one, Look)
    for learner in LEARNERS[:20]:
        variant = one.variant(learner)
        before = one.truth(variant)
        variant.lab.line(line.format_map(variant.words))
        changed += one.truth(variant) != before
    assert changed
    assert words_of(name, LEARNERS[0]) != words_of(name, LEARNERS[1])
