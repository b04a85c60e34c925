"""Probes in labs, kept with what a wire showed of them and what the model said about them.

Each file of ``tests/data/walks`` holds a lab's lines and probes. Most labs are random; those named
``hand-`` are made up by hand: write ``lab``, ``line``, ``listen`` and ``ask``, the answers come by
themselves. ``python -m tests.linux.kept`` on a machine with the real kernel writes the files anew,
and leaves out every lab in which the kernel sees one packet otherwise; the tests read them
anywhere. After a change of words alone, ``python -m tests.linux.kept words`` writes the words
again and insists that the wires show what they did.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from ekslearn.cluster import Lab
from ekslearn.kernel.verify import model_says
from ekslearn.trace import Recording, Step, Trace

FOLDER = Path(__file__).parents[1] / "data" / "walks"
# Of the first 219 random labs those that bring up the most different decisions and words.
SEEDS = (25, 27, 29, 33, 59, 67, 69, 70, 78, 94, 96, 98, 107, 108, 117, 131, 134, 135, 138,
         162, 176, 184, 190, 192, 215)  # fmt: skip
PROBES = 30
PORTS = 1500  # each place has a range of source ports of its own, as in tests.parity


@dataclass
class Walks:
    """A lab, and its probes with what a wire shows of each; the words they brought up."""

    name: str
    seed: int
    places: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    listeners: list[str] = field(default_factory=list)
    asked: list[tuple[str, list[str]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = [f"lab {self.name} {self.seed} {' '.join(self.places)}"]
        head += [f"line {line}" for line in self.lines]
        head += [f"listen {each}" for each in self.listeners]
        for question, says in self.asked:
            head += [f"ask {question}", *(f"  {line}" for line in says)]
        return "\n".join([*head, *(f"word {each}" for each in self.words), ""])

    def lab(self) -> Lab:
        """The lab, wired anew."""
        made = Lab(self.name, self.places, seed=self.seed)
        for line in self.lines:
            assert made.line(line).status == 0, line
        for each in self.listeners:
            made.listen(*each.split(" ", 1))
        for at, place in enumerate(self.places):
            made.namespace(place).sockets.next_port += PORTS * at
        return made

    def played(self) -> Walks:
        """The same lab and probes with what the model says today."""
        lab, words = self.lab(), set[str]()
        twin = Walks(self.name, self.seed, self.places, self.lines, self.listeners)
        for question, _ in self.asked:
            trace = ask(lab, question)
            twin.asked.append((question, [*model_says(trace), f"{trace.verdict}: {trace.reason}"]))
            words.update(said(trace))
        twin.words = sorted(words)
        return twin


def ask(lab: Lab, question: str) -> Trace:
    """Send the probe ``SOURCE PROTOCOL ADDRESS PORT TTL SIZE`` (a dash for none)."""
    source, protocol, address, port, ttl, size = question.split()
    recording = Recording()
    lab.world.recorder = recording
    try:
        client = lab.namespace(source).sockets.ask(
            protocol, IPv4Address(address), None if port == "-" else int(port),
            ttl=int(ttl), size=None if size == "-" else int(size),
        )  # fmt: skip
    finally:
        lab.world.recorder = None
    from ekslearn.trace import _verdict  # what Lab.trace adds; it takes no TTL and no size

    verdict, reason = _verdict(client, recording, source)
    return Trace(scenario=lab.name, source=source, destination=address, verdict=verdict,
                 reason=reason, recording=recording)  # fmt: skip


def said(trace: Trace) -> Iterator[str]:
    """What each step decided, and why rows were passed over; not which: the wires show that."""
    for step in trace.events:
        if isinstance(step, Step):
            yield f"{step.stage}: {step.decision}"
            yield from (f"{step.stage}: not, {row.partition(' — ')[2]}" for row in step.passed_over)


def read(path: Path) -> Walks:
    """One file of walks."""
    found = Walks("", 0)
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, _, text = line.partition(" ")
        if kind == "lab":
            found.name, seed, *found.places = text.split()
            found.seed = int(seed)
        elif kind == "line":
            found.lines.append(text)
        elif kind == "listen":
            found.listeners.append(text)
        elif kind == "ask":
            found.asked.append((text, []))
        elif kind == "word":
            found.words.append(text)
        else:
            found.asked[-1][1].append(line.strip())
    return found


def write(walks: Walks) -> None:
    """Keep walks as the model plays them now."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{walks.name}.txt").write_text(str(walks), encoding="utf-8")


def random_walks(seed: int) -> Walks:
    """A random lab and its probes."""
    from tests.parity.wirings import Wiring

    wiring = Wiring(seed, PROBES)
    walks = Walks(wiring.lab.name, seed, list(wiring.lab.places), list(wiring.lab.lines))
    walks.listeners = [" ".join(each) for each in wiring.lab.listeners()]
    for one in wiring.questions:
        words = (one.source, one.protocol, one.address, one.port, one.ttl, one.size)
        text = " ".join("-" if each is None else str(each) for each in words)
        walks.asked.append((text, []))
    return walks


def from_kernel(walks: Walks) -> tuple[Walks, list[str]]:
    """The walks as the model plays them, and how the real kernel disagrees with them."""
    from ekslearn.kernel import World
    from tests.parity.packets import Case, confirmed, differences
    from tests.parity.wirings import Question

    questions = {}
    for text, _ in walks.asked:
        words = [None if word == "-" else word for word in text.split()]
        numbers = [int(word) if word else None for word in words[3:]]
        questions[Question(*words[:3], numbers[0], numbers[1] or 64, numbers[2])] = text
    case = Case(walks.lab(), list(questions))
    groups = case.model()
    with World() as world:
        found = differences(case, groups, world)
        found = confirmed(found, world) if found else []
    asked = [questions[one.question] for group in groups for one in group.asked]
    walks.asked = [(text, []) for text in asked]
    return walks.played(), [str(each) for each in found]


def main(words_alone: bool) -> int:
    """Write the files; 1 if the kernel disagrees or a wire shows something else than before."""
    wrong = []
    if words_alone:
        for path in sorted(FOLDER.glob("*.txt")):
            old = read(path)
            new = old.played()
            changed = [
                question
                for (question, was), (_, now) in zip(old.asked, new.asked, strict=True)
                if was[:-1] != now[:-1]
            ]
            wrong += [f"{path.name}: {question}: the wire differs" for question in changed]
            if not changed:
                write(new)
    else:
        by_hand = [read(path) for path in sorted(FOLDER.glob("hand-*.txt"))]
        for each in [*by_hand, *map(random_walks, SEEDS)]:
            walks, found = from_kernel(each)
            wrong += found
            if not found:
                write(walks)
    print("\n".join(wrong) or "written")
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:] == ["words"]))
