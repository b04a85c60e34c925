"""The format that all exercises share."""

from __future__ import annotations

import re
from collections import Counter

import pytest

import ekslearn
from ekslearn.errors import EkslearnError
from ekslearn.exercises import EXERCISES, exercise, fault, pick, renamed
from ekslearn.exercises.format import Dice, veth_name


def test_pick_is_the_same_everywhere_and_covers_its_range() -> None:
    # The digest's first eight bytes, by hand: sha256("dice/ada").
    assert pick(0, 10**9, exercise="dice", learner="ada") == 186_900_885
    drawn = Counter(pick(1, 6, exercise="dice", learner=str(one)) for one in range(600))
    assert set(drawn) == {1, 2, 3, 4, 5, 6}
    assert min(drawn.values()) > 60


def test_dice_shuffle_without_loss() -> None:
    orders = set()
    for learner in "abcdefgh":
        dice = Dice(exercise="x", learner=learner)
        order = dice.order("letters", "pqrs")
        assert sorted(order) == list("pqrs")
        assert order == dice.order("letters", "pqrs")
        orders.add(tuple(order))
    assert len(orders) > 3


def test_renamed_replaces_whole_words_only() -> None:
    lab = renamed("one-node", {"10.0.1.1": "10.0.1.7", "pod-a": "cart", "eth0": "ens5"})
    text = "\n".join(lab.lines)
    assert "10.0.1.10/24" in text
    assert "10.0.1.7/24" in text
    assert "10.0.1.1/" not in text
    assert lab.places == ("host", "cart", "pod-b", "vpc")
    assert not re.search(r"\beth0\b", text)
    assert veth_name("pod-a") in text


def test_a_renamed_node_behaves_as_the_first() -> None:
    lab = ekslearn.load("one-node")
    names = {"10.0.1.31": "10.200.3.7", "10.0.1.42": "10.200.3.9", "10.0.1.10": "10.200.3.4",
             "10.0.1.1": "10.200.3.1", "pod-a": "x", "pod-b": "y"}  # fmt: skip
    other = renamed("one-node", names)
    first = lab.trace("pod-a", "10.0.1.42:80/tcp")
    second = other.trace("x", "10.200.3.9:80/tcp")
    assert first.verdict == second.verdict == "delivered"
    assert [one.ttl for one in first.request] == [one.ttl for one in second.request]
    assert [one.stage for one in first.steps] == [one.stage for one in second.steps]


def test_a_fault_is_an_edit_on_a_copy() -> None:
    lab = ekslearn.load("two-rooms")
    broken = fault(lab, ["blue$ ip link set veth1 down"])
    assert broken.lines == [*lab.lines, "blue$ ip link set veth1 down"]
    assert lab.trace("red", "blue").verdict == "delivered"
    assert broken.trace("red", "blue").verdict != "delivered"
    with pytest.raises(EkslearnError, match=r"the fault 'red\$ ip link set eth9 up' fails: Cannot"):
        fault(lab, ["red$ ip link set eth9 up"])


def test_an_unknown_exercise_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(EkslearnError, match="did you mean pods-on-one-node/next-hop"):
        exercise("pods-on-one-node/nexthop")
    with pytest.raises(EkslearnError, match="there is no exercise 'zzz'; did you mean containers"):
        exercise("zzz")


@pytest.mark.parametrize("name", EXERCISES)
def test_a_question_shows_itself_and_its_hints_fold(name: str) -> None:
    one = exercise(name, learner="ada")
    page = one._repr_markdown_()
    assert repr(one) == one.text == exercise(name, learner="ada").text
    assert page.startswith(one.text)
    assert page.count("<details>") == page.count("</details>") == 3
    assert not re.search(r"\{\w+\}", one.text), "a word is missing; YAML may have braces"
    assert [one.hint() for _ in range(5)] == [*one.hints, one.hints[-1], one.hints[-1]]
    assert len(set(one.hints)) == 3
    assert f"*{EXERCISES[name].beat}*" in one.hints[1]
    assert one.text != exercise(name, learner="bob").text


@pytest.mark.parametrize("name", EXERCISES)
def test_looking_around_does_not_change_what_is_checked(name: str) -> None:
    one = exercise(name)
    said = str(one.check("lo"))
    for place in one.lab.places:
        one.lab.line(f"{place}$ ip link set dev lo down")
    assert str(one.check("lo")) == said


def test_no_answer_is_stored() -> None:
    for name in EXERCISES:
        one = exercise(name)
        kept = {key for key in vars(one) if not key.startswith("_")}
        assert kept == {"exercise", "learner", "asked", "lab", "text", "hints"}
        assert not vars(EXERCISES[name])
