"""Random sequences of nft commands, in the model and on the real kernel, to the letter.

The interface of ``tests.parity.iptables_text``, which sequences of commands share with it:
``commands(seed)`` makes one, ``play`` and ``disagreement`` say what each side says of it. As a
program, ``python -m tests.nft.text FIRST COUNT``.
"""

from __future__ import annotations

import sys
from random import Random

import ekslearn.nft  # noqa: F401 (adds its command to the tools)
from tests.parity.iptables_text import disagreement, play, shrink
from tests.parity.real import Real, Step
from tests.parity.text import Maker

LIST: Step = ("red", ("nft", "-a", "list", "table", "ip", "aws-cni"))
BASE = "{ type nat hook prerouting priority %s; policy accept; }"
TABLES = ("aws-cni", "aws-cni", "aws-cni", "b", "aws-cn")
CHAINS = ("nat-prerouting", "snat-mark", "snat-mark", "c", "nosuch")
STATEMENTS = ("counter", "counter", "counter packets 3 bytes 180", 'iifname "eni*"', "iifname eth0",
              "iifname eni*", "fib daddr type local", "ip daddr 10.0.0.0/16", "ip daddr 10.1.2.3/9",
              "ip daddr 10.1.2.3", "ip daddr 0.0.0.0/0")  # fmt: skip
LAST = ("return", "accept", "drop", "jump snat-mark", "jump snat-mark", "jump c", "",
        "meta mark set ct mark & 0x80", "ct mark set ct mark | 0x80", "ct mark set ct mark | 12",
        "meta mark set ct mark & 0x00000004")  # fmt: skip
ODD = ("tcp dport 80", "ip daddr 10.0.0.256", "goto c", "foo", "ct state new", "ip6", "{", ";",
       "meta mark set 0x80", "ip daddr { 10.0.0.0/8, 10.1.0.0/16 }", "handle", "")  # fmt: skip


class Commands(Maker):
    """Makes nft commands, and some of iptables between them."""

    def step(self) -> Step:
        """One command, good or bad."""
        makers = {self.rule: 40, self.chain: 14, self.table: 6, self.delete: 14, self.listing: 18,
                  self.flush: 4, self.iptables: 6}  # fmt: skip
        words = self.random.choices(list(makers), list(makers.values()))[0]()
        if self.random.random() < 0.06:
            at = self.random.randrange(1, len(words) + 1)
            words[at : at + self.random.randrange(2)] = self.maybe(0.8, self.pick(*ODD))
        return "red", tuple(words)

    def where(self, chain: bool = True) -> list[str]:
        """A table, perhaps its family, perhaps a chain."""
        names = [*self.maybe(0.8, "ip"), self.pick(*TABLES)]
        return [*names, self.pick(*CHAINS)] if chain else names

    def rule(self) -> list[str]:
        """A rule to add."""
        some = [self.pick(*STATEMENTS) for _ in range(self.random.choice((0, 1, 1, 2, 3)))]
        text = " ".join([*some, self.pick(*LAST)]).strip()
        verb = self.pick("add", "add", "insert")
        return ["nft", verb, "rule", *self.where(), *self.maybe(1, *self.split(text))]

    def split(self, text: str) -> list[str]:
        """The words apart or together: nft puts blanks between them."""
        return text.split() if self.random.random() < 0.7 else [text]

    def chain(self) -> list[str]:
        """A chain to add, often a base chain."""
        base = BASE % self.pick("-90", "-90", "dstnat + 10", "dstnat+10", "-100", "filter")
        return ["nft", "add", "chain", *self.where(), *self.maybe(0.4, base)]

    def table(self) -> list[str]:
        """A table to add or to delete."""
        return ["nft", self.pick("add", "add", "delete"), "table", *self.where(False)]

    def delete(self) -> list[str]:
        """A rule or a chain to delete."""
        if self.random.random() < 0.4:
            return ["nft", "delete", "chain", *self.where()]
        return ["nft", "delete", "rule", *self.where(), "handle", str(self.random.randrange(1, 12))]

    def listing(self) -> list[str]:
        """Something to list."""
        options = self.pick("", "", "-a", "-s", "-a -s", "-as", "--handle", "-n").split()
        what = self.pick("table", "chain", "ruleset", "tables", "table")
        where = self.where(what == "chain") if what in ("table", "chain") else self.maybe(0.3, "ip")
        return ["nft", *options, "list", what, *where]

    def flush(self) -> list[str]:
        """Something to empty."""
        what = self.pick("table", "chain", "chain", "ruleset")
        return ["nft", "flush", what, *(self.where(what == "chain") if what != "ruleset" else [])]

    def iptables(self) -> list[str]:
        """What stands beside nft's tables, and doesn't speak of them."""
        return self.pick(
            "iptables -t nat -A PREROUTING -j ACCEPT", "iptables -t nat -S", "iptables -L",
            "iptables -t mangle -A PREROUTING -j ACCEPT", "iptables-save -t nat",
        ).split()  # fmt: skip


def commands(seed: int, length: int = 40) -> list[Step]:
    """The sequence of ``seed``: a table and its chains, some of what the CNI writes, anything."""
    maker = Commands(Random(seed).randrange(1 << 30))
    lines = ["nft add table ip aws-cni", "nft add chain ip aws-cni snat-mark"]
    steps: list[Step] = [("red", tuple(line.split())) for line in lines]
    base = ("nft", "add", "chain", "ip", "aws-cni", "nat-prerouting", BASE % "-90")
    steps += [("red", base)] * maker.random.randrange(2)
    for _ in range(length):
        steps += [maker.step(), LIST]
    return steps


def main() -> None:
    """Play seeds FIRST, FIRST + 1, … and print each disagreement."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    bad = played = 0
    with Real() as real:
        for seed in range(first, first + count):
            found = disagreement(commands(seed), real)
            played += len(play(commands(seed))[0])
            if found:
                bad += 1
                print(f"=== seed {seed}: {shrink(found, real)}", flush=True)
    print(f"{played} commands, {bad} disagreements")


if __name__ == "__main__":
    main()
