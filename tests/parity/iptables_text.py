"""Random sequences of iptables commands, in the model and on the real kernel, to the letter.

The same interface as ``tests.parity.text``: ``commands(seed)`` makes a sequence, ``compare(seed,
real)`` plays it on both sides, ``python -m tests.parity.iptables_text FIRST COUNT`` is a program.
After each step iptables-save is compared too, its dates and counters left out.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from random import Random

import ekslearn.iptables  # noqa: F401 (adds the commands to the tools)
from ekslearn.linux import NetworkNamespace, World
from ekslearn.tools import run
from tests.parity.real import Real, Step
from tests.parity.text import REFUSED, Disagreement, Maker, confirmed

SAVE: Step = ("red", ("iptables-save",))
RESTORE = "iptables-restore"
Said = list[object]


def masked(text: str) -> str:
    """Without dates and packet counters."""
    text = re.sub(r"(?m)^(# \w+(?: by iptables-save \S+ \(nf_tables\))?) on .*$", r"\1", text)
    return re.sub(r"\[\d+:\d+\]$", "[0:0]", text, flags=re.M)


def model_run(namespace: NetworkNamespace, step: Step) -> Said:
    """What a step prints in the model; ``sh -c SCRIPT TEXT OPTIONS`` feeds iptables-restore."""
    words = step[1]
    if words[0] == "sh":
        done = run(namespace, [RESTORE, *words[4:]], stdin=words[3])
    else:
        done = run(namespace, list(words))
    return [done.stdout, done.stderr, done.status]


def restore(text: str, *options: str) -> Step:
    """A step that feeds ``text`` to iptables-restore."""
    return "red", ("sh", "-c", 'printf %s "$0" | iptables-restore "$@"', text, *options)


def play(steps: Sequence[Step]) -> tuple[list[Step], list[tuple[Said, Said]]]:
    """The steps that the model doesn't refuse, and what it and iptables-save then said."""
    namespace, kept, said = NetworkNamespace(World(), "red"), list[Step](), []
    for step in steps:
        done = model_run(namespace, step)
        if done[2] != REFUSED:
            kept.append(step)
            said.append((done, model_run(namespace, SAVE)))
    return kept, said


def disagreement(steps: Sequence[Step], real: Real) -> Disagreement | None:
    """Play ``steps`` on both sides; the first thing they say differently."""
    kept, expected = play(steps)
    found = real.play([each for step in kept for each in (step, SAVE)], listings=False)
    for number, (mine, saved) in enumerate(expected):
        for what, want, got in (
            ("", mine, found[2 * number]),
            ("save ", saved, found[2 * number + 1]),
        ):
            for name, model, kernel in zip(
                ("stdout", "stderr", "status"), want, got[:3], strict=True
            ):
                if masked(f"{model}\n") != masked(f"{kernel}\n"):
                    return Disagreement(kept[: number + 1], what + name, masked(f"{model}\n"),
                                        masked(f"{kernel}\n"))  # fmt: skip
    return None


def shrink(found: Disagreement, real: Real) -> Disagreement:
    """Leave out steps as long as the last one still disagrees."""
    at, size = 0, max(1, len(found.steps) // 3)
    while size:
        while at < len(found.steps) - 1:
            end = min(at + size, len(found.steps) - 1)
            smaller = disagreement(found.steps[:at] + found.steps[end:], real)
            if smaller and smaller.what == found.what:
                found = smaller
            else:
                at += size
        at, size = 0, size // 2
    return found


def compare(seed: int, real: Real) -> Disagreement | None:
    """Play the sequence of ``seed``; a shrunk disagreement, or None."""
    found = confirmed(lambda: disagreement(commands(seed), real))
    return shrink(found, real) if found else None


# The generator


CHAINS = ("INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING", "A", "B", "KUBE-x", "A")
MARKS = (
    "1",
    "0x80/0x80",
    "5",
    "0/0",
    "0x4000/0x4000",
    "0xffffffff",
    "010/0x7",
    "foo",
    "1/x",
    "3/5",
)
NETS = ("10.0.0.1", "10.0.0.0/8", "10.1.2.3/16", "0.0.0.0/0", "10.0.0.1,10.0.0.2", "10/8",
        "1.2.3.4/255.255.0.0", "1.2.3.4/33", "10.0.0.256", "", "1.1.1.1,",
        "172.20.45.6/32")  # fmt: skip
GARBAGE = ("foo", "", "!", "-n", "-j", "ACCEPT", "--to", "80", "--", "-", "-Q", "--foo", "1", "0",
           "-p", "--s", "--dport", "tcp", "-m", "mark", "x y", "-nL", "--line-numbers", "-i",
           "--mark")  # fmt: skip
PORTS = (
    "80",
    "53",
    "1:100",
    ":5",
    "5:",
    "http",
    "domain",
    "70000",
    "5:1",
    "nosuch",
    "0",
    "443",
    "",
)
ADDRESSES = ("1.2.3.4", "10.0.1.45:8080", "1.2.3:80", "foo", "1.2.3.4:http", "1.2.3.4:70000",
             "10.0.0.5", "1.2.3.4:")  # fmt: skip
REJECTS = ("icmp-port-unreachable", "tcp-reset", "net-unreach", "icmp-admin-prohibited", "host",
           "foo", "tcp-rst", "icmp-host-prohibited", "proto-unreach")  # fmt: skip
TYPES = ("LOCAL", "UNICAST", "BROADCAST", "local", "LOCAL,UNICAST", "FOO", "MULTICAST", "LOCAL,")
STATES = (
    "NEW",
    "ESTABLISHED,RELATED",
    "new",
    "INVALID",
    "SNAT",
    "DNAT,NEW",
    "FOO",
    "NEW,",
    "UNTRACKED",
)
COMMENTS = ("hello", "a b", 'say "hi"', "it's", "x-y_z", "a/b: c -> d", "back\\slash", "", "é")
LISTS = ("L", "KUBE-SEP-X", "L", "a b", "a/b", "", "..", "x" * 205, "DEFAULT")
MASKS = ("255.255.255.255", "255.255.0.0", "255.0.255.0", "0.0.0.0", "1.2.3.4")
SECONDS = ("10800", "1", "0", "0x10", "x", "-1", "4294967296", "60", "")
CHANCES = ("0.5", "0.33333333349", "0", "1", "1e-3", "2", "foo", "0.25", "-0.5", "0.14285714272")


class Packets(Maker):
    """Makes iptables commands."""

    def step(self) -> Step:
        """One command, good or bad."""
        makers = {self.rule: 50, self.position: 14, self.listing: 14, self.chain: 26,
                  self.others: 4, self.again: 12}  # fmt: skip
        words = self.random.choices(list(makers), list(makers.values()))[0]()
        if self.random.random() < 0.12:
            at = self.random.randrange(1, len(words) + 1)
            words[at : at + self.random.randrange(2)] = self.maybe(0.8, self.pick(*GARBAGE))
        elif self.random.random() < 0.08:
            words = self.cluster(words)
        if self.random.random() < 0.1:
            return self.restored()
        self.last = words
        return "red", tuple(words)

    last: list[str] = ["iptables", "-L"]  # noqa: RUF012  (each maker sets its own)

    def again(self) -> list[str]:
        """The last rule once more, by another command."""
        words = list(self.last)
        other = self.pick("-D", "-C", "-A", "-D")
        return [other if word in ("-A", "-D", "-C") else word for word in words]

    def cluster(self, words: list[str]) -> list[str]:
        """Put a letter and its argument, or two letters, together."""
        at = self.random.randrange(1, max(2, len(words)))
        joint = words[at - 1 : at + 1]
        if re.fullmatch(r"-\w", joint[0]) and len(joint) == 2:
            words[at - 1 : at + 1] = [joint[0] + joint[1].removeprefix("-")]
        return words

    def table(self) -> list[str]:
        return self.maybe(0.6, "-t", self.pick("nat", "mangle", "filter", "nat", "mangle", "foo"))

    def name(self) -> str:
        return self.pick(*CHAINS, *CHAINS, *CHAINS, "nosuch", "x" * 29)

    def no(self) -> list[str]:
        return self.maybe(0.25, "!")

    def match(self) -> list[str]:
        """A match with its options."""
        protocol = self.pick("tcp", "udp", "tcp", "icmp", "all", "6", "TCP", "17", "256", "foo")
        return self.random.choice((
            lambda: [*self.no(), self.pick("-s", "--source", "--src", "-d", "-d"),
                     self.pick(*NETS)],
            lambda: [*self.no(), self.pick("-i", "-o", "--in-interface"),
                     self.pick("eth0", "eni+", "+")],
            lambda: [*self.no(), self.pick("-p", "--protocol", "--proto"), protocol],
            lambda: [
                "-p", protocol, *self.maybe(0.5, "-m", self.pick("tcp", "udp")), *self.no(),
                self.pick("--dport", "--sport", "--destination-port", "--dpo"), self.pick(*PORTS),
                *self.maybe(0.3, *self.no(), "--sport", self.pick(*PORTS)),
            ],
            lambda: ["-m", "comment", *self.no()[:0], "--comment", self.pick(*COMMENTS)],
            lambda: [
                "-m", "addrtype", *self.no(), self.pick("--src-type", "--dst-type"),
                self.pick(*TYPES),
                *self.maybe(0.3, *self.no(), "--dst-type", self.pick(*TYPES)),
                *self.maybe(0.3, self.pick("--limit-iface-in", "--limit-iface-out")),
            ],
            lambda: ["-m", self.pick("mark", "connmark"), *self.no(), "--mark", self.pick(*MARKS)],
            lambda: ["-m", "conntrack", *self.no(), "--ctstate", self.pick(*STATES)],
            lambda: ["-m", "state", *self.no(), "--state", self.pick(*STATES)],
            lambda: ["-m", "statistic", "--mode", self.pick("random", "random", "random", "foo"),
                     *self.no(), "--probability", self.pick(*CHANCES)],
            lambda: ["-m", "recent", *self.recent()],
            lambda: ["-m", self.pick("tcp", "mark", "bogus", "connmark", "statistic", "addrtype",
                                     "state", "recent")],
        ))()  # fmt: skip

    def recent(self) -> list[str]:
        """The options of -m recent, most often as kube-proxy has them, in any order."""
        what = self.pick("--set", "--rcheck", "--rcheck", "--update", "--remove", "--rch", "--rem")
        old = what not in ("--set", "--remove", "--rem") or self.random.random() < 0.1
        options = [
            [*self.no(), what], *([["--name", self.pick(*LISTS)]] * (self.random.random() < 0.8)),
            *([["--seconds", self.pick("10800", *SECONDS)]] * (old and self.random.random() < 0.6)),
            *([["--reap"]] * (old and self.random.random() < 0.4)),
            *([["--mask", self.pick(*MASKS)]] * (self.random.random() < 0.3)),
            *([[self.pick("--rsource", "--rdest")]] * (self.random.random() < 0.3)),
            *([[self.pick("--rdest", "--rsource", "--set", "--rcheck", "--hitcount")]]
              * (self.random.random() < 0.1)),
        ]  # fmt: skip
        self.random.shuffle(options)
        return [word for option in options for word in option]

    def target(self) -> list[str]:
        """A target with its options."""
        dice = self.maybe(0.3, "--random") + self.maybe(0.3, "--random-fully")
        mark = self.pick("--set-mark", "--set-xmark", "--or-mark", "--and-mark", "--xor-mark")
        return self.random.choice((
            lambda: ["-j", self.pick("ACCEPT", "DROP", "RETURN", "ACCEPT")],
            lambda: [self.pick("-j", "--jump", "-g", "--goto"), self.name()],
            lambda: ["-j", "MARK", mark, self.pick(*MARKS), *self.maybe(0.1, "--or-mark", "1")],
            lambda: ["-j", "CONNMARK", mark, self.pick(*MARKS)],
            lambda: ["-j", "CONNMARK", self.pick("--save-mark", "--restore-mark"),
                     *self.maybe(0.3, "--mask", self.pick("0x80", "1", "x")),
                     *self.maybe(0.3, "--nfmask", "0xff"), *self.maybe(0.3, "--ctmask", "0xff")],
            lambda: ["-j", "REJECT", *self.maybe(0.8, "--reject-with", self.pick(*REJECTS))],
            lambda: ["-j", "DNAT", self.pick("--to-destination", "--to"), self.pick(*ADDRESSES),
                     *dice[:1]],
            lambda: ["-j", "SNAT", "--to-source", self.pick(*ADDRESSES), *dice],
            lambda: ["-j", "MASQUERADE", *self.maybe(0.3, "--to-ports", self.pick(*PORTS)), *dice],
            lambda: ["-j", self.pick("MARK", "CONNMARK", "DNAT", "SNAT")],
            list,
        ))()  # fmt: skip

    def body(self) -> list[str]:
        """What a rule says."""
        matches = [
            word for _ in range(self.random.choice((0, 1, 1, 2, 3))) for word in self.match()
        ]
        return self.target() + matches if self.random.random() < 0.2 else matches + self.target()

    def fitting(self) -> list[str]:
        """A table, a chain and a target that go together."""
        return self.random.choice((
            lambda: ["nat", self.pick("PREROUTING", "OUTPUT"), "-j", "DNAT", "--to-destination",
                     self.pick(*ADDRESSES)],
            lambda: ["nat", "POSTROUTING", "-j", "SNAT", "--to-source", self.pick(*ADDRESSES)],
            lambda: ["nat", self.pick("POSTROUTING", "A"), "-j", "MASQUERADE"],
            lambda: ["filter", self.pick("INPUT", "FORWARD", "A"), "-j", "REJECT"],
            lambda: [self.pick("nat", "filter", "mangle"), self.name(), "-j", self.pick("A", "B")],
            lambda: [self.pick("filter", "mangle"), self.name(), "-j", self.pick("ACCEPT", "DROP")],
        ))()  # fmt: skip

    def rule(self) -> list[str]:
        verb = self.pick(
            "-A", "-A", "-A", "-A", "-I", "-D", "-C", "--append", "--insert", "--check"
        )
        if self.random.random() < 0.5:
            table, chain, *target = self.fitting()
            matches = self.match() if self.random.random() < 0.6 else []
            return ["iptables", "-t", table, verb, chain, *matches, *target]
        return ["iptables", *self.table(), verb, self.name(), *self.body()]

    def position(self) -> list[str]:
        verb, at = self.pick("-I", "-R", "-D", "-D", "-R"), self.pick("1", "2", "3", "9", "0", "x")
        body = self.body() if verb != "-D" or self.random.random() < 0.1 else []
        return ["iptables", *self.table(), verb, self.name(), at, *body]

    def listing(self) -> list[str]:
        verb = self.pick("-L", "-S", "-nL", "--list", "--list-rules", "-L", "-S")
        return [
            "iptables", *self.table(), verb, *self.maybe(0.5, self.name()),
            *self.maybe(0.2, self.pick("1", "2", "9", "0")), *self.maybe(0.5, "-n"),
            *self.maybe(0.3, "--line-numbers"),
        ]  # fmt: skip

    def chain(self) -> list[str]:
        verb = self.pick(
            "-N", "-N", "-N", "-X", "-F", "-P", "-E", "--new", "--flush", "--delete-chain"
        )
        words = ["iptables", *self.table(), verb]
        if verb == "-P":
            return [*words, self.name(), self.pick("ACCEPT", "DROP", "RETURN", "A")]
        if verb == "-E":
            return [*words, self.name(), self.name()]
        return words + (self.maybe(0.85, self.name()) if verb[:2] != "-N" else [self.name()])

    def others(self) -> list[str]:
        return self.pick("iptables", "iptables -V", "iptables-save -t nat", "iptables-save -t foo",
                         "iptables -4 -w -L", "iptables -6 -L", "iptables-save -t filter",
                         "iptables --wait 3 -S", "iptables -w x -S").split()  # fmt: skip

    def restored(self) -> Step:
        """A file for iptables-restore."""
        lines = [f"*{self.pick('nat', 'filter', 'mangle')}"]
        for _ in range(self.random.randrange(3)):
            lines.append(f":{self.name()} {self.pick('-', 'ACCEPT', 'DROP', '-')} [0:0]")
        for _ in range(self.random.randrange(4)):
            line = [self.pick("-A", "-A", "-A", "-I"), self.name(), *self.body()]
            if self.random.random() < 0.3:
                line = self.pick(
                    "-F", "-X", "-N C", "-P INPUT ACCEPT", "-D INPUT 1", "-S", "foo"
                ).split()
            lines.append(
                " ".join(
                    word
                    if re.fullmatch(r"[^\s\"\\]+", word)
                    else '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'
                    for word in line
                )
            )
        lines += self.maybe(0.9, "COMMIT")
        return restore("\n".join(lines) + "\n", *self.maybe(0.6, "-n"))


def commands(seed: int, length: int = 40) -> list[Step]:
    """The sequence of ``seed``: chains and some order first, then anything."""
    maker = Packets(Random(seed).randrange(1 << 30))
    steps: list[Step] = []
    for table in ("filter", "nat", "mangle"):
        for name in ("A", "B", "KUBE-x"):
            if maker.random.random() < 0.5:
                steps.append(("red", ("iptables", "-t", table, "-N", name)))
    return steps + [maker.step() for _ in range(length)]


def main() -> None:
    """Play seeds FIRST, FIRST + 1, … and print each disagreement."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    bad, played, started = 0, 0, time.monotonic()
    with Real() as real:
        for seed in range(first, first + count):
            found = compare(seed, real)
            played += len(play(commands(seed))[0])
            if found:
                bad += 1
                print(f"=== seed {seed}: {found}", flush=True)
    print(f"{played} commands, {bad} disagreements, {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
