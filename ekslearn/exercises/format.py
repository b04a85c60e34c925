"""The one format of all exercises: a variant per learner, a check by the model, hints that climb.

No answer is stored. A check builds the learner's own lab, asks the model, and compares. A known
slip isn't told off but asked a question back; the right answer is never part of what is said
about a wrong one.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import ClassVar, TypeVar

from ekslearn.cluster import Cluster, Lab
from ekslearn.errors import EkslearnError
from ekslearn.machine import Machine
from ekslearn.scenario import dump, load
from ekslearn.tools import REFUSED
from ekslearn.trace import Trace

LONGEST = 10_000  # characters of an answer; a table of iptables-save has fewer
NOBODY = "anonymous"  # the learner in stored notebooks, so that their outputs never differ
PODS = ("cart", "shop", "mail", "blog", "pay", "search", "users", "stock")
# How a question with letters ends; and one about four flows, whose words ``as_words`` makes.
LETTERS = "Answer with letters, as in `a c`, or `none`."
FLOWS = (
    "- a: from {from_a} to {to_a}\n- b: from {from_b} to {to_b}\n"
    "- c: from {from_c} to {to_c}\n- d: from {from_d} to {to_d}\n\n" + LETTERS
)
Thing = TypeVar("Thing")


def pick(low: int, high: int, *, exercise: str, learner: str) -> int:
    """A number in [low, high]: the same for this learner on every machine and Python.

    >>> pick(1, 6, exercise="dice", learner="ada") == pick(1, 6, exercise="dice", learner="ada")
    True
    """
    digest = hashlib.sha256(f"{exercise}/{learner}".encode(errors="surrogatepass")).digest()
    return low + int.from_bytes(digest[:8], "big") % (high - low + 1)


def called(learner: object) -> str:
    """A learner's name as it is drawn from: however its accents are typed, without space around it.

    Raises EkslearnError if nothing is left.

    >>> called(" Jose\u0301 ") == called("Jos\u00e9"), called(7)
    (True, '7')
    """
    name = "" if learner is None else unicodedata.normalize("NFC", str(learner)).strip()
    if not name:
        raise EkslearnError("the learner has no name; give a name or a number, or leave it out")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Dice:
    """What a learner draws in one exercise; each draw has a name of its own."""

    exercise: str
    learner: str

    def number(self, what: str, low: int, high: int) -> int:
        """A number in [low, high]."""
        return pick(low, high, exercise=f"{self.exercise}/{what}", learner=self.learner)

    def one(self, what: str, things: Sequence[Thing]) -> Thing:
        """One of ``things``."""
        return things[self.number(what, 0, len(things) - 1)]

    def order(self, what: str, things: Sequence[Thing]) -> list[Thing]:
        """All of ``things``, shuffled."""
        left, found = list(things), []
        while left:
            found.append(left.pop(self.number(f"{what}/{len(left)}", 0, len(left) - 1)))
        return found

    def lettered(self, what: str, things: Sequence[Thing]) -> list[tuple[str, Thing]]:
        """Four of ``things``, shuffled, each behind its letter, a to d."""
        return list(zip("abcd", self.order(what, things), strict=False))


def as_words(
    lettered: Iterable[tuple[str, Sequence[str]]], parts: Sequence[str] = ("from", "to")
) -> dict[str, str]:
    """The parts of things with letters as words of a question: from_a, to_a, from_b, and so on."""
    return {f"{part}_{letter}": text for letter, thing in lettered
            for part, text in zip(parts, thing, strict=True)}  # fmt: skip


def veth_name(pod: str, namespace: str = "default") -> str:
    """The node's end of a pod's veth pair, as the VPC CNI names it.

    Source: VPC CNI v1.23, pkg/networkutils/names.go.

    >>> veth_name("web-7d4b9c-x2x9p", "shop")
    'enif9948118fe5'
    """
    return "eni" + hashlib.sha1(f"{namespace}.{pod}".encode()).hexdigest()[:11]


def two_pods(dice: Dice, net: str, *, lowest: int) -> tuple[dict[str, str], dict[str, str]]:
    """A node in ``net``.0/24 with two pods, the first one's address ending in ``lowest`` or more.

    The words of a question, and what they replace in a scenario (for ``renamed``).
    """
    a, b = dice.order("pods", PODS)[:2]
    last = dice.number("last", lowest, 120)
    words = {
        "a": a,
        "b": b,
        "address_a": f"{net}.{last}",
        "address_b": f"{net}.{last + dice.number('apart', 1, 120)}",
        "host": f"{net}.{dice.number('node', 4, 19)}",
        "router": f"{net}.1",
        "veth_a": veth_name(a),
        "veth_b": veth_name(b),
    }
    names = {
        "pod-a": a,
        "pod-b": b,
        "10.0.1.31": words["address_a"],
        "10.0.1.42": words["address_b"],
        "10.0.1.10": words["host"],
        "10.0.1.1": words["router"],
        veth_name("pod-a"): words["veth_a"],
        veth_name("pod-b"): words["veth_b"],
    }
    return words, names


def renamed(scenario: str, names: Mapping[str, str]) -> Lab:
    """A scenario with other names and addresses: each whole word in ``names`` is replaced."""
    return load(replaced(text_of(scenario), names))


def replaced(text: str, names: Mapping[str, str]) -> str:
    """A text in which each whole word in ``names`` is replaced."""
    longest_first = sorted(names, key=len, reverse=True)
    word = rf"(?<![\w.:-])({'|'.join(map(re.escape, longest_first))})(?![\w:-]|\.\w)"
    return re.sub(word, lambda found: names[found[0]], text)


@cache
def text_of(scenario: str) -> str:
    """A scenario as text that can be edited; read once, since it never changes."""
    return dump(load(scenario))


def twins(lab: Lab) -> Iterator[Lab]:
    """Any number of copies of a lab as it is now: what is sent in one helps none of the others."""
    kept = pickle.dumps(lab)
    while True:
        yield pickle.loads(kept)


def cluster_of(lab: Lab) -> Cluster:
    """The lab, which has to be a cluster: EkslearnError if it is bare namespaces."""
    if not isinstance(lab, Cluster):
        raise EkslearnError(f"{lab.name} is no Cluster: it has no nodes, no ENIs and no VPC")
    return lab


def node_of(lab: Lab) -> Machine:
    """The only node of a cluster."""
    (machine,) = cluster_of(lab).machines.values()
    return machine


def fault(lab: Lab, lines: Sequence[str]) -> Lab:
    """A broken copy of a healthy lab: ordinary lines, run in order.

    Raises EkslearnError if a line fails, since such a fault would break nothing.
    """
    broken = lab.copy()
    for line in lines:
        done = broken.line(line)
        if done.status:
            raise EkslearnError(f"the fault {line!r} fails: {' '.join(done.stderr.split())}")
    return broken


def plain(answer: str) -> str:
    """An answer of one word or line in small letters, without quotes or a full stop around it."""
    return answer.strip().strip("`'\".").lower()


def letters(answer: str) -> str:
    """The letters a to d of an answer such as "b, A", in order; "none" gives none."""
    text = plain(answer)
    if text in ("none", "-", "no", "nothing"):
        return ""
    found = "".join(word for word in re.findall(r"\w+", text) if word != "and")
    if not re.fullmatch("[a-d]+", found):
        raise EkslearnError(
            f"{answer[:40]!r} can't be read; answer with letters, as in a c, or none"
        )
    return "".join(sorted(set(found)))


def whole(answer: str, what: str, like: int = 12) -> str:
    """A whole number such as "29", "29 pods" or "1,472 bytes", without anything around it.

    Raises EkslearnError, which names ``what`` is counted and a number ``like`` it.
    """
    found = re.fullmatch(rf"(\d[\d,]{{0,6}})(\s*{what}|\s*{what[:-1]})?", plain(answer), re.ASCII)
    if not found:
        raise EkslearnError(f"{answer[:40]!r} is no number of {what}; answer as in {like}")
    return str(int(found[1].replace(",", "")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check says: whether the answer is right, and one or two sentences."""

    right: bool
    message: str

    def __str__(self) -> str:
        """The verdict in words."""
        return f"{'Right' if self.right else 'Not yet'}. {self.message}"

    __repr__ = __str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One learner's version of an exercise: a lab, and the words its question is made of."""

    lab: Lab
    words: Mapping[str, str]


class Exercise(ABC):
    """One exercise, for every learner. A new one says what varies, what is asked, what counts.

    ``place`` is easy (in the flow of the lesson), end (two of them) or open (several right
    answers); ``beat`` names the part of the lesson that the second hint points to. ``question``
    (in Markdown) and the first and the last hint, the question ``restated`` and the ``first_step``
    towards the answer, have words of the variant for their {names}. So has the ``situation``: what
    another question has told already, and what stands behind this one, folded away.
    """

    name: ClassVar[str]
    place: ClassVar[str]
    beat: ClassVar[str]
    question: ClassVar[str]
    situation: ClassVar[str] = ""
    restated: ClassVar[str]
    first_step: ClassVar[str]

    @abstractmethod
    def vary(self, dice: Dice) -> Variant:
        """The variant of one learner."""

    @abstractmethod
    def judge(self, variant: Variant, answer: str) -> Verdict:
        """What is to be said of an answer that isn't blank; EkslearnError if it is nonsense."""

    def ask(self, words: Mapping[str, str]) -> str:
        """The question to one learner."""
        return self.question.format_map(words)

    def hints(self, words: Mapping[str, str]) -> tuple[str, str]:
        """The question put in other words, and the first step towards the answer."""
        return self.restated.format_map(words), self.first_step.format_map(words)

    def variant(self, learner: str = NOBODY) -> Variant:
        """The variant of this learner, whose lab nobody has touched."""
        fresh: Variant = pickle.loads(_varied(self, called(learner)))
        return fresh

    def check(self, answer: object, *, learner: str = NOBODY) -> Verdict:
        """Judge an answer by asking the model."""
        lines = answer if isinstance(answer, (list, tuple)) else [answer]
        text = "\n".join(str(line).strip() for line in lines if line is not None).strip()
        if not text:
            return Verdict(right=False, message="There is no answer yet: write it between the"
                           " quotes, or ask .hint().")  # fmt: skip
        if len(text) > LONGEST:
            return Verdict(right=False, message=f"That has {len(text):,} characters; no answer"
                           f" needs more than {LONGEST:,}.")  # fmt: skip
        try:
            return self.judge(self.variant(learner), text)
        except EkslearnError as error:
            return Verdict(right=False, message=f"{error}.".replace("..", ".").replace("?.", "?"))


@lru_cache(maxsize=64)
def _varied(exercise: Exercise, learner: str) -> bytes:
    """A learner's variant, to be copied from: a question and every check of it need the same."""
    return pickle.dumps(exercise.vary(Dice(exercise=exercise.name, learner=learner)))


class Look(Exercise):
    """An exercise whose answer can be looked up in the model."""

    @abstractmethod
    def truth(self, variant: Variant) -> str:
        """The answer, asked of the model at this moment."""

    @abstractmethod
    def read(self, variant: Variant, answer: str) -> str:
        """The answer in the form of ``truth``; EkslearnError if it is nothing of that kind."""

    @abstractmethod
    def back(self, variant: Variant, answer: str) -> str:
        """The question that a wrong answer is asked back."""

    @abstractmethod
    def why(self, variant: Variant) -> str:
        """What a right answer is told: the row or rule that decided."""

    def judge(self, variant: Variant, answer: str) -> Verdict:
        """Compare with what the model says."""
        read = self.read(variant, answer)
        if read == self.truth(variant):
            return Verdict(right=True, message=self.why(variant))
        return Verdict(right=False, message=self.back(variant, read))


class Letters(Look):
    """An exercise that asks which of four things, a to d, are so."""

    @abstractmethod
    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """The question asked back about a letter: one wrongly ``chosen``, or one overlooked."""

    def read(self, variant: Variant, answer: str) -> str:
        """Letters in order."""
        return letters(answer)

    def back(self, variant: Variant, answer: str) -> str:
        """Ask about the first letter judged wrongly."""
        right = self.truth(variant)
        wrong = next(letter for letter in "abcd" if (letter in answer) != (letter in right))
        return self.about(variant, wrong, chosen=wrong in answer)


class Flows(Letters):
    """An exercise that asks which of four flows, a to d, are answered."""

    #: what a right answer is told where no flow fails
    unharmed: ClassVar[str] = "None of the four fails"

    @abstractmethod
    def flow(self, words: Mapping[str, str], letter: str) -> tuple[str, str]:
        """Source and destination of one, as ``Lab.trace`` takes them."""

    def outcomes(self, variant: Variant) -> list[tuple[str, Trace]]:
        """Every flow, sent in a copy of its own, behind its letter."""
        return [(letter, twin.trace(*self.flow(variant.words, letter)))
                for letter, twin in zip("abcd", twins(variant.lab), strict=False)]  # fmt: skip

    def truth(self, variant: Variant) -> str:
        """The letters of those that are delivered."""
        sent = self.outcomes(variant)
        return "".join(letter for letter, trace in sent if trace.verdict == "delivered")

    def why(self, variant: Variant) -> str:
        """The reasons of those that fail."""
        told = [f"{letter}: {trace.reason.rstrip('.')}" for letter, trace in self.outcomes(variant)
                if trace.verdict != "delivered"]  # fmt: skip
        return f"{'; '.join(told) or self.unharmed}."


class Mend(Exercise):
    """An exercise whose answer is a list of commands that mend a broken lab.

    Any commands will do that bring back every flow and don't work by a forbidden means.
    """

    #: the ways to break a healthy lab, each as lines whose {names} are words of the variant
    faults: ClassVar[tuple[tuple[str, ...], ...]]
    #: what a mending line must not match, and the question it is asked
    dangers: ClassVar[tuple[tuple[str, str], ...]] = ()

    @abstractmethod
    def flows(self, words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Source and destination of everything that must be delivered afterwards."""

    @abstractmethod
    def look(self, words: Mapping[str, str], source: str, destination: str) -> str:
        """The question asked when that flow still fails."""

    def amiss(
        self, words: Mapping[str, str], source: str, destination: str, trace: Trace
    ) -> str:  # fmt: skip
        """The question asked when that flow is delivered, but not as it should be; or ""."""
        return ""

    def broken(self, dice: Dice, lab: Lab, words: Mapping[str, str]) -> Variant:
        """A variant with one of ``faults``; the word "fault" is its number.

        Its lines don't stand among the lab's own: nobody who mends a node has a list of what was
        typed there.
        """
        number = dice.number("fault", 0, len(self.faults) - 1)
        broken = fault(lab, [line.format_map(words) for line in self.faults[number]])
        del broken.lines[len(lab.lines) :]
        return Variant(lab=broken, words={**words, "fault": str(number)})

    def send(self, lab: Lab, source: str, destination: str) -> Trace:
        """One flow through ``lab``, a copy that nothing else needs: what became of it."""
        return lab.trace(source, destination)

    def judge(self, variant: Variant, answer: str) -> Verdict:
        """Run the lines on the broken lab, then send every flow through it."""
        lab = variant.lab
        for line in answer.splitlines():
            if not (line := line.strip()) or line.startswith("#"):
                continue
            if not re.match(r"\S+\$ ", line):
                raise EkslearnError(
                    f"{line[:60]!r} doesn't say where to run; a line reads PLACE$ COMMAND, and"
                    f" the places are {', '.join(lab.places)}"
                )
            line = line.replace("$ sudo ", "$ ", 1)  # everybody is root here
            for danger, question in self.dangers:
                if re.search(danger, line):
                    return Verdict(right=False, message=question)
            done = lab.line(line)
            if done.status:
                said = " ".join((done.stderr or done.stdout).split())[:200]
                if done.status == REFUSED:
                    raise EkslearnError(f"{line[:100]!r} can't be run here: {said}")
                raise EkslearnError(f"{line[:100]!r} fails, as it would on a real machine: {said}")
        sent = []
        for (source, destination), twin in zip(self.flows(variant.words), twins(lab), strict=False):
            trace = self.send(twin, source, destination)
            sent.append((source, destination, trace))
            if trace.verdict != "delivered":
                question = self.look(variant.words, source, destination)
                return Verdict(
                    right=False,
                    message=f"From {source} to {destination}: {trace.verdict}. {question}",
                )
        for one in sent:
            if question := self.amiss(variant.words, *one):
                return Verdict(right=False, message=question)
        return Verdict(right=True, message=f"All {len(sent)} flows are delivered, there and back.")


class Question:
    """One exercise as one learner sees it in a notebook."""

    def __init__(self, exercise: Exercise, learner: str) -> None:
        """The learner's own variant of ``exercise``."""
        self.exercise, self.learner, self.asked = exercise, learner, 0
        variant = exercise.variant(learner)
        self.lab = variant.lab  # to look around in; a check builds its own
        self.text = exercise.ask(variant.words)
        self.situation = exercise.situation.format_map(variant.words)
        restated, first_step = exercise.hints(variant.words)
        self.hints = (restated, f"Look again at the part *{exercise.beat}*.", first_step)

    def check(self, answer: object = "") -> Verdict:
        """Judge an answer: text, or a list of lines."""
        return self.exercise.check(answer, learner=self.learner)

    def hint(self) -> str:
        """The next hint; after the last one, the last again."""
        self.asked = min(self.asked + 1, len(self.hints))
        return self.hints[self.asked - 1]

    def __repr__(self) -> str:
        """The question as plain text."""
        return f"{self.text}\n\n{self.situation}".rstrip()

    def _repr_markdown_(self) -> str:
        """The question, with what is known folded away, and its hints one inside the other."""
        hints = ""
        for number, hint in reversed(list(enumerate(self.hints, 1))):
            hints = folded(f"Hint {number}", f"{hint}\n\n{hints}")
        if self.situation:
            hints = f"{folded('What you know already', self.situation)}\n\n{hints}"
        return f"{self.text}\n\n{hints}"


def folded(summary: str, text: str) -> str:
    """Markdown that shows a line, and the rest once a reader opens it."""
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"
