"""The ways in which every exercise of a lesson is tested: solved, left blank, misread, slipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ekslearn.exercises import EXERCISES, exercise
from ekslearn.exercises.format import Mend

LEARNERS = [f"learner-{number}" for number in range(50)]
Words = Mapping[str, str]
Solver = Callable[[Words], str]  # reasons from the question's words, never asks the model


def words_of(name: str, learner: str) -> Words:
    """What a learner's question is made of."""
    return EXERCISES[name].variant(learner).words


def passes(name: str, solver: Solver) -> None:
    """A solver is right for every learner; no two learners have the same variant."""
    seen, answers = set(), set()
    for learner in LEARNERS:
        words = words_of(name, learner)
        answer = solver(words)
        verdict = EXERCISES[name].check(answer, learner=learner)
        assert verdict.right, (learner, answer, dict(words), str(verdict))
        assert "`none`" not in verdict.message and "``" not in verdict.message
        seen.add(tuple(words.items()))
        answers.add(answer)
    assert len(seen) == len(LEARNERS)
    assert len(answers) >= 2


def speaks(name: str, nonsense: tuple[object, ...]) -> None:
    """Blank and nonsense get one sentence each."""
    for blank in ("", "  ", "\n", None, [], [""]):
        verdict = exercise(name).check(blank)
        assert not verdict.right
        assert str(verdict).startswith("Not yet. There is no answer yet.")
    for answer in nonsense:
        verdict = exercise(name).check(answer)
        assert not verdict.right, answer
        assert "\n" not in str(verdict)
        assert str(verdict).endswith((".", "?", ")")), str(verdict)


def reads_kindly(name: str, solver: Solver) -> None:
    """Spaces, quotes and capitals don't matter; commands may come as a list, or with comments."""
    for learner in LEARNERS[:5]:
        answer = solver(words_of(name, learner))
        kinder: list[object] = [f"  {answer.upper()} ", f"`{answer}`.", f'"{answer}"']
        if isinstance(EXERCISES[name], Mend):
            kinder = [answer.splitlines(), f"# mine\n\n  {answer}\n"]
        for one in kinder:
            assert EXERCISES[name].check(one, learner=learner).right, one


def asks_back(name: str, solver: Solver, slips: Callable[[str, Words], Mapping[str, str]]) -> None:
    """Each slip is asked its own question, and nothing that is said gives a command away."""
    for learner in LEARNERS[:8]:
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


def flipped(right: str, letter: str) -> str:
    """An answer of letters with one of them wrong."""
    return " ".join(sorted(set(right.replace("none", "").split()) ^ {letter})) or "none"
