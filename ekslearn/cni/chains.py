"""One table of iptables as ``iptables-save`` shows it, and the commands that put it right.

It plays go-iptables and updateIptablesRules of pkg/networkutils/network.go: a rule is there or
not by its exact words (``iptables -C``), so that a second run finds nothing to do.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection

Words = tuple[str, ...]


def as_saved(rule: str) -> Words:
    """The words of a rule in the order and the spelling in which iptables-save prints them.

    >>> " ".join(as_saved("-m comment --comment x -i eni+ -j CONNMARK --set-mark 0x80/0x80"))
    '-i eni+ -m comment --comment x -j CONNMARK --set-xmark 0x80/0x80'
    """
    words, first, rest = shlex.split(rule), list[str](), list[str]()
    while words:
        word = words.pop(0)
        basic = words[0] if word == "!" else word
        if basic in ("-s", "-d", "-i", "-o", "-p"):
            if word == "!":
                first += [word, words.pop(0)]
            else:
                first.append(word)
            first.append(words.pop(0))
        elif word == "--set-mark":
            rest.append("--set-xmark")
        elif word == "--mask":
            mask = words.pop(0)
            rest += ["--nfmask", mask, "--ctmask", mask]
        else:
            rest.append(word)
    return (*first, *rest)


class Table:
    """A table on its way from how it is to how it should be; ``commands`` lead there."""

    def __init__(self, name: str, saved: str) -> None:
        self.name = name
        self.commands: list[str] = []
        self.chains: dict[str, list[Words]] = {}
        for line in saved.splitlines():
            word, _, rest = line.partition(" ")
            if line.startswith(":"):
                self.chains[word[1:]] = []
            elif word == "-A":
                chain, _, rule = rest.partition(" ")
                self.chains.setdefault(chain, []).append(as_saved(rule))

    def _do(self, command: str) -> None:
        self.commands.append(f"iptables -t {self.name} {command}")

    def new(self, chain: str) -> None:
        """Make a chain that isn't there (NewChain)."""
        if chain not in self.chains:
            self.chains[chain] = []
            self._do(f"-N {chain}")

    def drop(self, chain: str) -> None:
        """Empty a chain and delete it (ClearChain, DeleteChain)."""
        if chain in self.chains:
            del self.chains[chain]
            self._do(f"-F {chain}")
            self._do(f"-X {chain}")

    def have(self, chain: str, rule: str, *, first: bool = False) -> None:
        """Add a rule that isn't there, at the end or as the first."""
        rules, words = self.chains.setdefault(chain, []), as_saved(rule)
        if words in rules:
            return
        rules.insert(0 if first else len(rules), words)
        self._do(f"-I {chain} 1 {rule}" if first else f"-A {chain} {rule}")

    def lack(self, chain: str, rule: str) -> None:
        """Delete a rule that is there, the first of several like it."""
        if (words := as_saved(rule)) in self.chains.get(chain, []):
            self.chains[chain].remove(words)
            self._do(f"-D {chain} {rule}")

    def should(self, exist: bool, chain: str, rule: str, *, first: bool = False) -> None:
        """Have a rule or lack it."""
        if exist:
            self.have(chain, rule, first=first)
        else:
            self.lack(chain, rule)

    def stale(self, prefix: str, chain: str, kept: Collection[str]) -> list[tuple[str, str]]:
        """The rules of all chains called ``prefix``... that aren't ``kept`` in ``chain``.

        (computeStaleIptablesRules)
        """
        known = {as_saved(rule) for rule in kept}
        return [
            (name, shlex.join(words)) for name, rules in self.chains.items()
            if name.startswith(prefix) for words in rules if name != chain or words not in known
        ]  # fmt: skip
