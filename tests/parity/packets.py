"""Random probes in random labs, in the model and on the real kernel, compared wire by wire.

``Case`` is a lab with its questions; ``Case.model`` asks the model, in rounds of probes that don't
disturb each other; ``compare`` asks the kernel the same and says where they differ; ``shrink``
makes a disagreement as small as it gets. As a program, ``python -m tests.parity.packets FIRST
COUNT`` plays seeds and prints what disagrees.
"""

from __future__ import annotations

import difflib
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from errno import EPERM
from ipaddress import IPv4Address
from typing import Any

from ekslearn.cluster import Lab
from ekslearn.errors import EkslearnError
from ekslearn.kernel import World, dice
from ekslearn.kernel.probe import Probe, Seen
from ekslearn.kernel.verify import LIMITED, kernel_says, model_says, named_ports, undrawn
from ekslearn.kernel.wiring import netns
from ekslearn.linux import Decision, Link, NetworkNamespace, Packet
from ekslearn.linux.ip import Ip
from ekslearn.linux.netfilter import ChainRule, Chance, Walk
from ekslearn.linux.packet import Skb
from ekslearn.trace import Recording, Trace, _teller, _verdict
from tests.parity.coverage import decided, remembers
from tests.parity.wirings import Question, Wiring

ROUND = 60  # probes sent at once
ERRORS = 4  # routing errors for one source before the kernel's limit can show (five at once)
REDIRECTS = 4  # redirects for one source that we wait for
PORTS = 1500  # source ports a place may use: each place has a range of its own
VERDICTS = ("delivered", "refused", "rejected", "dropped", "unreachable", "expired")


class Watch(Recording):
    """Keeps sightings as the trace does, and of the decisions what a count needs."""

    def __init__(self) -> None:
        super().__init__()
        self.decided: set[str] = set()
        self.limited: Counter[tuple[str, str, int]] = Counter()
        self.disturbs = False
        self.turned_later = False  # what follows the handshake brings another redirect
        self.draws: list[dice.Draw] = []
        self.came: dict[str, str] = {}  # namespace: the link its last packet came in by

    def sighting(self, namespace: NetworkNamespace, link: Link, way: str, packet: Packet) -> None:
        """A packet passed a link."""
        super().sighting(namespace, link, way, packet)
        if way == "in":
            self.came[namespace.name] = link.name
            redirected = packet.icmp and packet.icmp[0] == 5
            if redirected and not namespace.sysctls.takes_redirects(link.name):
                self.decided.add("sysctl accept_redirects")
        if packet.icmp and (packet.icmp[0] == 5 or packet.icmp == (3, 4)):
            self.disturbs = True
        if packet.icmp and way == "out" and packet.is_error:
            self.decided.add(f"icmp error {packet.icmp[0]}/{packet.icmp[1]}")

    def decision(self, decision: Decision) -> None:
        """Something was decided."""
        leg = self._leg_of(decision.packet)
        if decision.lost and not self.lost.startswith("reply:"):
            prefix = "reply: " if leg == "reply" else ""
            self.lost = f"{prefix}{decision.namespace.name}: {decision.verdict}"
        self.decided |= decided(decision)
        self.disturbs |= remembers(decision)
        if isinstance(decision.row, Walk) and any(map(chancy, rows_of(decision.row))):
            self.draws += filter(None, map(dice.draw, self._walk_step(decision, leg, decision.row)))
        came = self.came.get(decision.namespace.name, "")
        ours = decision.verdict == "the packet is for this namespace"
        if ours and came != "lo" and decision.packet and decision.packet.dst.is_loopback:
            self.decided.add("sysctl route_localnet")
        turned = decision.verdict.partition(" via ")[0] == f"forward through {came}"
        if turned and not decision.namespace.sysctls.either(came, "send_redirects"):
            self.decided.add("sysctl send_redirects")


def rows_of(walk: Walk) -> Iterator[ChainRule]:
    """The rows of a chain that a packet met at one step."""
    yield from (seen.rule for seen in walk.passed_over)
    yield from [walk.rule] if walk.rule else []


def chancy(rule: ChainRule) -> bool:
    """Whether dice are thrown for a row."""
    return any(isinstance(match, Chance) for match in rule.matches)


def _counted(self: Ip, skb: Skb, icmp: tuple[int, int], *words: str, **more: Any) -> None:
    """Count every limited error that is begun, even if a table or conntrack then drops it."""
    watch = self._ns.world.recorder
    if isinstance(watch, Watch) and icmp in LIMITED:
        watch.limited[self._ns.name, str(skb.packet.src), icmp[0]] += 1
    _send_error(self, skb, icmp, *words, **more)


_send_error = Ip.send_error
Ip.send_error = _counted  # type: ignore[method-assign]


@dataclass(frozen=True, slots=True)
class Asked:
    """One probe as the model sees it: what to send, what a wire would show, how it ended."""

    question: Question
    probe: Probe
    says: tuple[str, ...]
    verdict: str
    decided: frozenset[str]
    draws: tuple[dice.Draw, ...] = ()


@dataclass(slots=True)
class Group:
    """Probes sent at once, after a pause."""

    wait_s: float
    asked: list[Asked] = field(default_factory=list)


@dataclass
class Case:
    """A lab and the questions to ask in it, in order."""

    lab: Lab
    questions: Sequence[Question]
    watch: type[Watch] = Watch

    def model(self) -> list[Group]:
        """Ask the model. A question too many for a limit of the kernel is left out.

        A probe after which routing or a list of -m recent knows more than before (a redirect, a
        smaller MTU, an address) is sent alone, so that the kernel learns it in the same place of
        the order.
        """
        lab = self.lab.copy()
        groups = [Group(0.0)]
        sent: Counter[tuple[str, str, int]] = Counter()
        room = min(PORTS, (65000 - 40000) // len(lab.places))
        for at, place in enumerate(lab.places):
            lab.namespace(place).sockets.next_port = 40000 + room * at
        for question in self.questions:
            near = any(count >= (ERRORS if kind == 3 else 1) for (*_, kind), count in sent.items())
            turned = {key[:2] for key in sent if key[2] == 5}
            trial = lab.copy() if near or question.protocol == "tcp" else lab
            asked, watch = ask(trial, question, self.watch())
            weight = 2 if question.protocol == "tcp" else 1  # what follows the SYN is limited too
            new = sent.copy()
            for key, count in watch.limited.items():
                new[key] += count * weight
            many = any(count > (ERRORS if key[2] == 3 else REDIRECTS) for key, count in new.items())
            # A redirect takes away the tokens for errors too (ip_rt_send_redirect).
            if near and (many or any(k[:2] in turned for k in watch.limited if k[2] == 3)):
                continue
            if watch.turned_later or any(one.sport != asked.probe.sport for one in watch.draws):
                continue  # the second: who can't be known by its port can't be helped to draw alike
            lab = trial
            turns = [key for key in watch.limited if key[2] == 5]
            # ip_rt_send_redirect: the n-th waits 20 ms times 2^n after the one before.
            wait_s = max((0.03 + 0.02 * 2 ** sent[key] for key in turns if sent[key]), default=0.0)
            sent = new
            if watch.disturbs:
                groups += [Group(wait_s, [asked]), Group(0.0)]
            else:
                if len(groups[-1].asked) >= ROUND:
                    groups.append(Group(0.0))
                groups[-1].asked.append(asked)
        return [group for group in groups if group.asked]


def ask(lab: Lab, question: Question, watch: Watch | None = None) -> tuple[Asked, Watch]:
    """Send one probe in the model."""
    watch = watch or Watch()
    namespace = lab.namespace(question.source)
    lab.world.recorder = watch
    try:
        client = namespace.sockets.ask(
            question.protocol, IPv4Address(question.address), question.port, ttl=question.ttl,
            size=question.size,
        )  # fmt: skip
    finally:
        lab.world.recorder = None
    verdict, reason = _verdict(client, watch, question.source)
    trace = Trace(scenario=lab.name, source=question.source, destination="", verdict=verdict,
                  reason=reason, recording=watch, teller=_teller(client))  # fmt: skip
    number = client.question.sport or client.question.ident
    if client.errno and client.errno != EPERM:
        watch.decided.add("sender told at once")
    if question.protocol == "tcp" and verdict == "delivered":
        later = after_the_handshake(lab, question.source, client.question)
        watch.turned_later = any(key[2] == 5 for key in later - watch.limited.keys())
    probe = Probe(
        namespace=netns(question.source), protocol=question.protocol,
        destination=question.address, dport=question.port, sport=number, ttl=question.ttl,
        size=question.size,
    )  # fmt: skip
    says = normal(model_says(trace), lab, probe)
    found = frozenset(watch.decided), tuple(watch.draws)
    return Asked(question, probe, says, verdict, *found), watch


def after_the_handshake(lab: Lab, source: str, syn: Packet) -> set[tuple[str, str, int]]:
    """The limited errors for what the real asker says next: an ACK, in a copy that is thrown away.

    The model sends nothing then, but a mark saved on the connection may lead that packet elsewhere.
    """
    scratch, watch = lab.copy(), Watch()
    scratch.world.recorder = watch
    scratch.namespace(source).ip.send(replace(syn, flags="ACK"))
    scratch.world.settle()
    return set(watch.limited)


def normal(lines: Iterable[str], lab: Lab, probe: Probe) -> tuple[str, ...]:
    """What a wire shows, with drawn ports as ``*``.

    The request comes first, in its order; then each kind of answer in its own, since nothing
    orders an ICMP error against the answer to a packet that went on.
    """
    known = named_ports(lab) | {probe.sport, probe.dport or 0}
    return tuple(sorted(undrawn(lines, known), key=_kind))


def _kind(line: str) -> str:
    words = line.split()
    if words[0] != "reply":
        return {"request": "a", "outcome": "y", "answer": "z"}[words[0]]
    return "b" + " ".join(words[7:9] if words[7] == "icmp" else words[7:8])


@dataclass
class Difference:
    """A probe that the two kernels answer differently."""

    case: Case
    question: Question
    model: tuple[str, ...]
    kernel: tuple[str, ...]

    def __str__(self) -> str:
        lines = [*self.case.lab.lines, *(f"listen {one}" for one in self.case.lab.listeners())]
        lines += [f"ask {one}" for one in self.case.questions]
        return "\n    ".join([self.case.lab.name, *lines, self.diff()])

    def diff(self) -> str:
        """The question, and where the answers differ."""
        diff = difflib.unified_diff(self.model, self.kernel, "model", "kernel", lineterm="", n=9)
        return "\n    ".join([str(self.question), *diff])


def kernel_lines(seen: Seen, asked: Asked, case: Case) -> tuple[str, ...]:
    """What the wire showed of a probe."""
    place_of = {netns(place): place for place in case.lab.places}
    return normal(kernel_says(seen, place_of), case.lab, asked.probe)


def same(asked: Asked, kernel: tuple[str, ...]) -> bool:
    """Whether both say the same.

    The line of a TCP listener comes after the handshake, in packets that the model doesn't send:
    it is compared only where it came.
    """
    mine = asked.says
    if asked.question.protocol == "tcp" and not any(one.startswith("answer") for one in kernel):
        mine = tuple(one for one in mine if not one.startswith("answer"))
    return mine == kernel


class Refused(EkslearnError):
    """The kernel refused a line that the model took."""


def differences(case: Case, groups: list[Group], world: World) -> list[Difference]:
    """Ask the kernel what the model was asked; every probe whose answers differ."""
    done, found = world.quickly(
        case.lab, [(group.wait_s, [one.probe for one in group.asked]) for group in groups],
        dice.lines(one for group in groups for asked in group.asked for one in asked.draws),
    )  # fmt: skip
    for line, one in zip(case.lab.lines, done, strict=True):
        if one.status:
            raise Refused(f"{case.lab.name}: the kernel refused {line!r}: {one.stderr.strip()}")
    different = []
    for group, seen in zip(groups, found, strict=True):
        for asked, one in zip(group.asked, seen, strict=True):
            kernel = kernel_lines(one, asked, case)
            if not same(asked, kernel):
                different.append(Difference(case, asked.question, asked.says, kernel))
    return different


def alone(case: Case, world: World) -> list[Difference]:
    """The same with every probe sent alone, as the model does: no stall, nothing at once."""
    groups = [Group(max(group.wait_s, 0.0), [one]) for group in case.model() for one in group.asked]
    return differences(case, groups, world)


def confirmed(found: list[Difference], world: World) -> list[Difference]:
    """The differences that are there when each probe is sent alone, twice."""
    case = found[0].case
    wanted = [one.question for one in found]
    for _ in range(2):
        again = {one.question: one for one in alone(case, world)}
        found = [again[one] for one in wanted if one in again]
        if not found:
            return []
    return found


def rebuilt(lab: Lab, lines: Sequence[str], listeners: Sequence[tuple[str, str]]) -> Lab | None:
    """The lab with fewer lines; None if one of them fails now."""
    fewer = Lab(lab.name, lab.places)
    for line in lines:
        if fewer.line(line).status:
            return None
    for place, where in listeners:
        try:
            fewer.listen(place, where)
        except EkslearnError:
            continue
    return fewer


def shrink(found: Difference, world: World, limit_s: float = 60) -> Difference:
    """Leave out probes, then lines, as long as the same probe still differs."""
    end = time.monotonic() + limit_s
    case = found.case

    def still(lines: Sequence[str], questions: Sequence[Question]) -> Difference | None:
        lab = rebuilt(case.lab, lines, case.lab.listeners())
        if lab is None:
            return None
        try:
            left = alone(Case(lab, questions), world)
        except EkslearnError:
            return None
        return next((one for one in left if one.question == found.question), None)

    one = still(case.lab.lines, [found.question])
    found = one or found
    lines, questions = list(found.case.lab.lines), list(found.case.questions)
    size = max(1, len(lines) // 3)
    while size and time.monotonic() < end:
        at = 0
        while at < len(lines) and time.monotonic() < end:
            fewer = lines[:at] + lines[at + size :]
            smaller = still(fewer, questions)
            if smaller:
                found, lines = smaller, fewer
            else:
                at += size
        size //= 2
    while len(questions) > 1 and time.monotonic() < end:
        for at in range(len(questions)):
            fewer_questions = questions[:at] + questions[at + 1 :]
            smaller = still(lines, fewer_questions)
            if smaller:
                found, questions = smaller, fewer_questions
                break
        else:
            break
    return found


@dataclass
class Tally:
    """What a sweep counted."""

    labs: int = 0
    probes: int = 0
    doubtful: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    features: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)

    def add(self, groups: list[Group]) -> None:
        """Count the probes of one lab."""
        self.labs += 1
        for group in groups:
            for asked in group.asked:
                self.probes += 1
                self.verdicts[asked.verdict] += 1
                self.features.update(asked.decided)

    def join(self, other: Tally) -> None:
        """Add what another worker counted."""
        self.labs += other.labs
        self.probes += other.probes
        self.doubtful += other.doubtful
        self.verdicts.update(other.verdicts)
        self.features.update(other.features)
        self.found += other.found


def play(
    seed: int, world: World, tally: Tally, *, shrinking: bool = True, probes: int = 130
) -> None:
    """Compare one random lab."""
    wiring = Wiring(seed, probes)
    case = Case(wiring.lab, wiring.questions)
    groups = case.model()
    tally.add(groups)
    try:
        found = differences(case, groups, world)
        if found:
            real = confirmed(found, world)
            for one in found:
                if one.question not in [each.question for each in real] and "-v" in sys.argv:
                    print("DOUBTFUL", seed, one.question, one.model, one.kernel, flush=True)
            tally.doubtful += len(found) - len(real)
            found = real
    except Refused as error:
        tally.found.append(str(error))
        return
    if found:
        first = shrink(found[0], world) if shrinking else found[0]
        tally.found.append(f"{len(found)} probes\n{first}")


def main() -> None:
    """Play seeds FIRST, FIRST + 1, … and print each disagreement."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    tally, started = Tally(), time.monotonic()
    with World() as world:
        for seed in range(first, first + count):
            before = len(tally.found)
            play(seed, world, tally, shrinking="-q" not in sys.argv)
            for text in tally.found[before:]:
                print(f"=== seed {seed}: {text}", flush=True)
    print(tally.labs, "labs", tally.probes, "probes", len(tally.found), "labs disagree",
          tally.doubtful, "doubtful", f"{time.monotonic() - started:.1f} s")  # fmt: skip
    print({name: f"{100 * tally.verdicts[name] / tally.probes:.1f}%" for name in VERDICTS})
    if "-c" in sys.argv:
        for name, number in sorted(tally.features.items()):
            print(f"{number:8} {name}")


if __name__ == "__main__":
    main()
