"""The format that all exercises share."""

from __future__ import annotations

import re
from collections import Counter

import pytest

import ekslearn
from ekslearn.errors import EkslearnError
from ekslearn.exercises import EXERCISES, exercise, fault, pick, renamed
from ekslearn.exercises.format import Dice, as_words, cluster_of, letters, veth_name, whole


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


@pytest.mark.parametrize("name", ["pods-on-one-node/next-hop", "out-to-the-world/mend-the-way-out"])
def test_every_variant_is_a_learners_own(name: str) -> None:
    """It is made once; what somebody does to a lab, nobody else sees."""
    one, learner = EXERCISES[name], "grace"
    first = one.variant(learner)
    lines = list(first.lab.lines)
    for place in first.lab.places:
        first.lab.line(f"{place}$ ip link set dev lo down")
    again = one.variant(learner)
    assert first.lab.lines != lines == again.lab.lines
    assert again.words == first.words and again.lab is not first.lab
    made = one.vary(Dice(exercise=name, learner=learner))
    assert (made.lab.lines, made.words) == (again.lab.lines, again.words)


def test_a_learners_name_may_be_any_text() -> None:
    name = "services/on-the-wire"
    accents = [
        exercise(name, learner=each).text for each in ("Jos\xe9", "Jose\u0301", " Jos\xe9\n")
    ]
    assert len(set(accents)) == 1
    odd = ("jose", "{x}", "%s", "<b>", "a/b", "\N{SNOWMAN}", "\ud800", "x" * 9_999, "\0", "-7")
    assert len({exercise(name, learner=each).text for each in odd}) == len(odd)
    numbered = exercise(name, learner=7)  # type: ignore[arg-type]
    assert numbered.text == exercise(name, learner="7").text
    for nobody in ("", "  ", "\n", None):
        with pytest.raises(EkslearnError, match="the learner has no name; give a name"):
            exercise(name, learner=nobody)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", EXERCISES)
def test_what_is_too_long_is_not_read(name: str) -> None:
    for answer in ("x" * 10_001, ["a c"] * 4_000):
        said = str(exercise(name).check(answer))
        assert re.fullmatch(r"Not yet. That has 1\d,\d{3} characters; no answer needs .*", said)
    for answer in ("9" * 9_999, "x" * 9_999, "node-a$ " + "x" * 9_000, "host$ " + "x" * 9_000):
        assert len(str(exercise(name).check(answer))) < 500, answer[:9]


def test_a_line_may_begin_with_sudo_and_a_refusal_of_ours_is_no_machines() -> None:
    one = exercise("capstone/mend-the-way")
    node = one.lab.places[0]
    said = one.check(f"{node}$ sudo ip rule show").message
    assert said == one.check(f"{node}$ ip rule show").message
    refused = one.check(f"{node}$ reboot").message
    assert "can't be run here: ekslearn: reboot: there is no such command" in refused
    assert "as it would on a real machine" in one.check(f"{node}$ ip link set eth9 up").message


def test_four_things_get_letters_and_words() -> None:
    dice = Dice(exercise="x", learner="ada")
    flows = [(f"from {n}", f"to {n}") for n in range(6)]
    drawn = dice.lettered("flows", flows)
    assert [letter for letter, _ in drawn] == list("abcd")
    assert [flow for _, flow in drawn] == dice.order("flows", flows)[:4]
    words = as_words(drawn)
    assert set(words) == {f"{end}_{letter}" for end in ("from", "to") for letter in "abcd"}
    assert (words["from_c"], words["to_c"]) == drawn[2][1]


def test_letters_are_read_with_whatever_stands_between_them() -> None:
    for answer in (
        "a c d",
        "d, c, a",
        "A and C and D.",
        "acd",
        "ac d",
        "`a` `cd`",
        "a/c/d",
        "a a cd",
    ):
        assert letters(answer) == "acd", answer
    for answer in ("none", "None.", "-", "nothing"):
        assert letters(answer) == ""
    for answer in ("e", "a e", "a 1", "all", "and", "?", "a, bee", "á"):
        with pytest.raises(EkslearnError, match="answer with letters, as in a c, or none"):
            letters(answer)


def test_whole_numbers_are_read_with_their_unit_or_without() -> None:
    said = ("1,472 bytes", "`1472`.", "1472 BYTES", "01472", "1472byte")
    assert {whole(each, "bytes") for each in said} == {"1472"}
    for answer in ("1472 pods", "-1", "7.5", "", "12345678", "\N{ARABIC-INDIC DIGIT ONE}"):
        with pytest.raises(EkslearnError, match="is no number of bytes; answer as in 1000"):
            whole(answer, "bytes", 1000)


def test_a_lab_of_bare_namespaces_is_no_cluster() -> None:
    with pytest.raises(EkslearnError, match="two-rooms is no Cluster"):
        cluster_of(ekslearn.load("two-rooms"))


def test_an_unknown_exercise_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(EkslearnError, match="did you mean pods-on-one-node/next-hop"):
        exercise("pods-on-one-node/nexthop")
    with pytest.raises(EkslearnError, match="there is no exercise 'zzz'; did you mean capstone"):
        exercise("zzz")


@pytest.mark.parametrize("name", EXERCISES)
def test_a_question_shows_itself_and_its_hints_fold(name: str) -> None:
    one = exercise(name, learner="ada")
    page = one._repr_markdown_()
    assert repr(one) == repr(exercise(name, learner="ada"))
    assert repr(one).startswith(one.text) and repr(one).endswith(one.situation)
    assert page.startswith(one.text) and one.situation in page
    assert page.count("<details>") == page.count("</details>") == 3 + bool(one.situation)
    assert not re.search(r"\{\w+\}", repr(one)), "a word is missing; YAML may have braces"
    assert [one.hint() for _ in range(5)] == [*one.hints, one.hints[-1], one.hints[-1]]
    assert len(set(one.hints)) == 3
    assert f"*{EXERCISES[name].beat}*" in one.hints[1]
    assert repr(one) != repr(exercise(name, learner="bob"))


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
        assert kept == {"exercise", "learner", "asked", "lab", "text", "situation", "hints"}
        assert not vars(EXERCISES[name])
