"""One table of iptables as ``iptables-save`` shows it, and the commands that put it right.

It plays go-iptables and updateIptablesRules of pkg/networkutils/network.go: a rule is there or
not by its exact words (``iptables -C``), so that a second run finds next to nothing to do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection


def as_saved(rule: str) -> list[str]:
    """The words of a rule in the order and the spelling in which iptables-save prints them.

    >>> " ".join(as_saved('-m comment --comment "x" -i eni+ -j CONNMARK --set-mark 0x80/0x80'))
    '-i eni+ -m comment --comment x -j CONNMARK --set-xmark 0x80/0x80'
    """
    text = re.sub(r"--mask (\S+)", r"--nfmask \1 --ctmask \1", rule)
    text = re.sub(r'^(-m comment --comment "[^"]*") (-i \S+)', r"\2 \1", text)
    return shlex.split(text.replace("--set-mark", "--set-xmark"))


class Table:
    """A table on its way from how it is to how it should be.

    ``saved`` is how it is; the commands that lead on are added to ``commands``.
    """

    def __init__(self, name: str, saved: str, commands: list[str]) -> None:
        self.name = name
        self.commands = commands
        self.chains: dict[str, list[list[str]]] = {}
        for line in saved.splitlines():
            word, _, rest = line.partition(" ")
            if line.startswith(":"):
                self.chains[word[1:]] = []
            elif word == "-A":
                chain, _, rule = rest.partition(" ")
                self.chains[chain].append(as_saved(rule))

    def _do(self, command: str) -> None:
        self.commands.append(f"iptables -t {self.name} {command}")

    def new(self, chain: str) -> None:
        """Make a chain that isn't there (NewChain)."""
        if chain not in self.chains:
            self.chains[chain] = []
            self._do(f"-N {chain}")

    def drop(self, chain: str) -> None:
        """Empty a chain that is there, and delete it (ClearChain, DeleteChain)."""
        if chain in self.chains:
            del self.chains[chain]
            self._do(f"-F {chain}")
            self._do(f"-X {chain}")

    def put(self, chain: str, rule: str, exist: bool = True, *, first: bool = False) -> None:
        """Add a rule that isn't there, as the last or the first; or delete one that is."""
        rules, words = self.chains.setdefault(chain, []), as_saved(rule)
        if exist == (words in rules):
            return
        if not exist:
            rules.remove(words)  # of several alike the first one goes
            self._do(f"-D {chain} {rule}")
        else:
            rules.insert(0 if first else len(rules), words)
            self._do(f"-I {chain} 1 {rule}" if first else f"-A {chain} {rule}")

    def stale(self, prefix: str, chain: str, kept: Collection[str]) -> list[tuple[str, str]]:
        """Chain and rule of all that is in chains called ``prefix``..., but ``kept`` in ``chain``.

        (computeStaleIptablesRules)
        """
        known = [as_saved(rule) for rule in kept]
        return [
            (name, shlex.join(words)) for name, rules in self.chains.items()
            if name.startswith(prefix) for words in rules if name != chain or words not in known
        ]  # fmt: skip
