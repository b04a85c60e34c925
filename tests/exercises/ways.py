"""The ways in which every exercise is tested: solved, left blank, misread, slipped, and changed.

A module inherits the tests and says in a ``Suite`` what its lessons have of their own. Tests of
one exercise stand next to each other: a learner's variant is then made only once, and copied for
each check.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest

from ekslearn.exercises import EXERCISES, Question, exercise
from ekslearn.exercises.format import Look, Mend, Variant, twins

LEARNERS = [f"learner-{number}" for number in range(50)]
# How many of them solve every exercise: a sample in `make test`, all in `make sweep`.
SOLVING = int(os.environ.get("EKSLEARN_LEARNERS", "12"))
NONSENSE = ("42 is it", "?", "<q>", "e", "{}", "ip route", 7.5, "7.5.", "1.2.3.4/99")
Words = Mapping[str, str]
Solver = Callable[[Words], str]  # reasons from the question's words, never asks the model
Change = str | Callable[[Variant], object]  # a line, whose {names} are words; or anything else


def mends(names: Iterable[str]) -> list[str]:
    """Those of the exercises that are answered by commands."""
    return [name for name in names if isinstance(EXERCISES[name], Mend)]


def words_of(name: str, learner: str) -> Words:
    """What a learner's question is made of."""
    return EXERCISES[name].variant(learner).words


def with_fault(name: str, fault: str) -> tuple[Question, Words]:
    """The question to the first learner whose variant has the fault of that number."""
    learner = next(each for each in LEARNERS if words_of(name, each)["fault"] == fault)
    return exercise(name, learner=learner), words_of(name, learner)


def complete(lessons: Iterable[str], solvers: Mapping[str, Solver], *, end: int = 2) -> None:
    """Every exercise of the lessons has a solver, and each lesson its kinds."""
    for lesson in lessons:
        names = [name for name in EXERCISES if name.startswith(f"{lesson}/")]
        assert names == [name for name in solvers if name.startswith(f"{lesson}/")], lesson
        kinds = Counter(EXERCISES[name].place for name in names)
        assert kinds == {"easy": 1, "end": end, "open": 1}


def passes(name: str, solver: Solver, *, learners: int = 50, answers: int = 2) -> None:
    """A solver is right for every learner; no two have the same variant, nor all one answer.

    An answer copied from a neighbour is wrong, unless the two happen to be the same.
    """
    one, seen, given = EXERCISES[name], set(), list[str]()
    learners = min(learners, SOLVING)
    for learner in LEARNERS[:learners]:
        words = words_of(name, learner)
        answer = solver(words)
        verdict = one.check(answer, learner=learner)
        assert verdict.right, (learner, answer, dict(words), str(verdict))
        assert "`none`" not in verdict.message and "``" not in verdict.message
        seen.add(tuple(words.items()))
        given.append(answer)
    assert len(seen) == learners
    assert len(set(given)) >= answers
    for copied, own, learner in zip(given, given[1:], LEARNERS[1:4], strict=False):
        if isinstance(one, Look):
            assert one.check(copied, learner=learner).right == (copied == own), (learner, copied)


def speaks(name: str, nonsense: tuple[object, ...], *, perhaps: tuple[object, ...] = ()) -> None:
    """Blank and nonsense get one sentence each, and so does what is ``perhaps`` right."""
    for blank in ("", "  ", "\n", None, [], [""]):
        verdict = exercise(name).check(blank)
        assert not verdict.right
        assert str(verdict).startswith("Not yet. There is no answer yet:")
        assert len(str(verdict)) <= 78, "it stands in every lesson: one line of a narrow page"
    for answer in (*nonsense, *perhaps):
        verdict = exercise(name).check(answer)
        assert not verdict.right or answer in perhaps, answer
        assert "\n" not in str(verdict)
        assert str(verdict).endswith((".", "?", ")")), str(verdict)


def reads_kindly(name: str, solver: Solver) -> None:
    """Spaces, quotes and capitals don't matter; commands may come as a list, or with comments."""
    for learner in LEARNERS[: max(1, SOLVING // 8)]:
        answer = solver(words_of(name, learner))
        kinder: list[object] = [f"  {answer.upper()} ", f"`{answer}`.", f'"{answer}"']
        if isinstance(EXERCISES[name], Mend):
            kinder = [answer.splitlines(), f"# mine\n\n  {answer}\n"]
        for one in kinder:
            assert EXERCISES[name].check(one, learner=learner).right, one


def asks_back(
    name: str, solver: Solver, slips: Callable[[str, Words], Mapping[str, str]], *,
    learners: int = 8,
) -> None:  # fmt: skip
    """Each slip is asked its own question, and nothing that is said gives a command away."""
    for learner in LEARNERS[:learners]:
        words, asked = words_of(name, learner), exercise(name, learner=learner)
        said = list(asked.hints)
        for answer, question in slips(name, words).items():
            verdict = asked.check(answer)
            assert not verdict.right, (learner, answer)
            assert question in verdict.message, (learner, answer, question, verdict.message)
            said.append(verdict.message)
        if isinstance(EXERCISES[name], Mend):
            for line in solver(words).splitlines():
                assert not any(line in one for one in [*said, asked.text])


def tells_nothing(name: str) -> None:
    """What can't be read isn't told the right address; and no lab lists the lines of its fault."""
    one = EXERCISES[name]
    for learner in LEARNERS[: max(1, SOLVING // 4)]:
        variant = one.variant(learner)
        if isinstance(one, Look) and "." in (right := one.truth(variant)):
            assert right not in one.check("?", learner=learner).message, learner
        if isinstance(one, Mend):
            lines = one.faults[int(variant.words["fault"])]
            assert not {line.format_map(variant.words) for line in lines} <= {*variant.lab.lines}


def breaks_a_part(name: str, *, all_by: str = "nothing") -> None:
    """Every fault is drawn; each breaks some flows, and but for one with ``all_by`` not all."""
    one, drawn = EXERCISES[name], set()
    assert isinstance(one, Mend)
    for learner in LEARNERS:
        if len(drawn) == len(one.faults):
            break
        variant = one.variant(learner)
        drawn.add(number := int(variant.words["fault"]))
        flows = zip(one.flows(variant.words), twins(variant.lab), strict=False)
        verdicts = {twin.trace(*flow).verdict for flow, twin in flows}
        assert verdicts - {"delivered"}
        assert "delivered" in verdicts or all_by in str(one.faults[number])
    assert len(drawn) == len(one.faults)


def sees_through(name: str, solver: Solver, line: str, said: str) -> None:
    """Who mends the fault and breaks another way by ``line`` is told which one."""
    asked, words = exercise(name, learner=LEARNERS[0]), words_of(name, LEARNERS[0])
    verdict = asked.check([solver(words), line.format_map(words)])
    assert not verdict.right
    assert said.format_map(words) in verdict.message, verdict


def follows(name: str, change: Change) -> None:
    """Once the model of somebody's variant is changed, another answer is right: none is stored."""
    one = EXERCISES[name]
    assert isinstance(one, Look)
    for learner in LEARNERS[:20]:
        variant = one.variant(learner)
        before = one.truth(variant)
        if isinstance(change, str):
            variant.lab.line(change.format_map(variant.words))
        else:
            change(variant)
        if one.truth(variant) != before:
            return
    raise AssertionError(f"{name}: {change} changes nobody's answer")


def flipped(right: str, letter: str) -> str:
    """An answer of letters with one of them wrong."""
    return " ".join(sorted(set(right.replace("none", "").split()) ^ {letter})) or "none"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What the tests of some lessons' exercises have to know.

    ``changes`` are what changes the answers, for each exercise that looks them up. ``perhaps`` is
    nonsense to most exercises, and right in a few; ``end`` is how many stand at a lesson's end;
    ``asked`` how many learners are asked back, and fewer where whole stories are run (``slow``);
    ``strict`` are the exercises whose answers are a text to the letter, ``alike`` those that have
    one answer for all; ``all_by`` as in ``breaks_a_part``.
    """

    lessons: tuple[str, ...]
    solvers: Mapping[str, Solver]
    slips: Callable[[str, Words], Mapping[str, str]]
    changes: Mapping[str, Change]
    nonsense: tuple[object, ...] = NONSENSE
    perhaps: tuple[object, ...] = ()
    end: int = 2
    asked: int = 8
    slow: tuple[str, ...] = ()
    strict: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()
    all_by: str = "nothing"


class FourWays:
    """Every exercise of a suite: solved, left blank or nonsense, read kindly, slipped."""

    suite: ClassVar[Suite]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """``name`` is each exercise, ``kind`` each but the strict ones, ``broken`` each to mend.

        ``changed`` is each whose answer a change of the model changes.
        """
        solvers, strict = self.suite.solvers, self.suite.strict
        names = {"name": list(solvers), "broken": mends(solvers),
                 "kind": [name for name in solvers if name not in strict],
                 "changed": list(self.suite.changes)}  # fmt: skip
        for what in set(names) & set(metafunc.fixturenames):
            metafunc.parametrize(what, names[what], scope="module")

    def test_every_exercise_has_a_solver_and_a_lesson_has_its_kinds(self) -> None:
        complete(self.suite.lessons, self.suite.solvers, end=self.suite.end)

    def test_the_solver_passes_for_every_learner(self, name: str) -> None:
        passes(
            name, self.suite.solvers[name], learners=20 if name in self.suite.slow else 50,
            answers=1 if name in self.suite.alike else 2,
        )  # fmt: skip

    def test_blank_and_nonsense_get_a_sentence(self, name: str) -> None:
        speaks(name, self.suite.nonsense, perhaps=self.suite.perhaps)

    def test_neither_a_refusal_nor_a_lab_tells_the_answer(self, name: str) -> None:
        tells_nothing(name)

    def test_answers_are_read_kindly(self, kind: str) -> None:
        reads_kindly(kind, self.suite.solvers[kind])

    def test_each_slip_is_asked_its_own_question_and_none_gives_the_answer_away(
        self, name: str
    ) -> None:
        learners = 4 if name in self.suite.slow else self.suite.asked
        asks_back(name, self.suite.solvers[name], self.suite.slips, learners=learners)

    def test_the_truth_follows_the_model(self, changed: str) -> None:
        follows(changed, self.suite.changes[changed])


class FourWaysAndFaults(FourWays):
    """The same, where a fault does the same to everybody."""

    def test_every_fault_is_drawn_and_breaks_a_part(self, broken: str) -> None:
        breaks_a_part(broken, all_by=self.suite.all_by)
