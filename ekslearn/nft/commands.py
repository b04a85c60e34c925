"""``nft``: add, insert, delete, flush and list tables, chains and rules.

Source: nftables 1.0.6, rule.c, cmd.c, misspell.c and erec.c; nf_tables_api.c and nft_chain_nat.c
in net/netfilter of Linux 6.18.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from ..linux import netfilter as nf
from ..linux.namespace import NetworkNamespace
from ..tools.words import Done, GaveUp, give_up
from .statements import BASE_TEXT, NAME, RESERVED, read_rule, refuse, rule_text, spaced

OPTIONS = {"-a": "a", "--handle": "a", "-s": "s", "--stateless": "s", "-as": "as", "-sa": "as"}
HOOK = "PREROUTING"  # a base chain stands in its table under the hook it is asked at


@dataclass(frozen=True, slots=True)
class Rule(nf.ChainRule):
    """A rule, and the number it goes by within its table."""

    handle: int = 0


@dataclass(slots=True)
class Chain(nf.Chain):
    """A chain, and the number it goes by within its table; a base chain has a policy."""

    handle: int = 0


class Table(dict[str, nf.Chain]):
    """The chains of a table; ``last`` is the number that was given last in it."""

    handle = last = 0

    def named(self, name: str) -> nf.Chain | None:
        """The chain of that name."""
        return next((chain for chain in self.values() if chain.name == name), None)


@dataclass(slots=True)
class Line:
    """A command line: its options' letters, and what ``found`` says of its parts."""

    held: nf.Netfilter
    options: str
    found: re.Match[str]
    key: str  # what the model's netfilter calls the table

    def fail(self, why: str, part: str = "") -> NoReturn:
        """Complain, arrows under the table, the chain or, without a ``part``, the last word."""
        text, kernel = self.found.string, not self.found.string.startswith(("list", "add chain"))
        start, end = self.found.span(part) if part else (text.rindex(" ") + 1, len(text))
        give_up(f"Error: {'Could not process rule: ' * kernel}{why}\n"
                f"{text}\n{' ' * start}{'^' * (end - start)}", 1)  # fmt: skip

    def missing(self, part: str = "") -> NoReturn:
        """Complain that something isn't there; where nft guesses what was meant, refuse that."""
        if not self.found.string.startswith(("list", "flush")) and self.held.tables:
            refuse(f"{self.found.string}, and nft's guess at what was meant,")
        self.fail("No such file or directory", part)

    def table(self) -> Table:
        """The table that is meant."""
        table = self.held.tables.get(self.key)
        return table if isinstance(table, Table) else self.missing("table")

    def chain(self) -> nf.Chain:
        """The chain that is meant."""
        return self.table().named(self.found["chain"]) or self.missing("chain")

    def handle(self, thing: object) -> str:
        """The number of a table, a chain or a rule, where -a asks for it."""
        return f" # handle {getattr(thing, 'handle', 0)}" if "a" in self.options else ""


def _list_tables(line: Line) -> str:
    return "".join(f"table ip {key.removeprefix('ip ')}\n" for key in line.held.tables)


def _list_ruleset(line: Line) -> str:
    if nf.BUILT_IN.keys() & line.held.tables.keys():
        refuse("list ruleset, while there are tables of iptables,")
    return "".join(_listed(line, key, table) for key, table in line.held.tables.items())


def _list(line: Line) -> str:
    only = line.chain() if "chain" in line.found.re.groupindex else None
    return _listed(line, line.key, line.table(), only)


def _listed(line: Line, key: str, table: dict[str, nf.Chain], only: nf.Chain | None = None) -> str:
    blocks = []
    for chain in [only] if only else table.values():
        rows = [BASE_TEXT] * bool(chain.policy)
        rows += [rule_text(rule, "s" in line.options) + line.handle(rule) for rule in chain.rules]
        body = "".join(f"\t\t{row}\n" for row in rows)
        blocks.append(f"\tchain {chain.name} {{{line.handle(chain)}\n{body}\t}}\n")
    head = "" if only else line.handle(table)
    return f"table {key} {{{head}\n" + "\n".join(blocks) + "}\n"


def _flush_ruleset(line: Line) -> None:
    line.held.tables.clear()  # those of iptables as well


def _flush(line: Line) -> None:
    for chain in [line.chain()] if "chain" in line.found.re.groupindex else line.table().values():
        chain.rules.clear()


def _add_table(line: Line) -> None:
    if line.key not in line.held.tables:
        line.held.put(line.key, table := Table())
        table.handle = line.held.made


def _add_chain(line: Line) -> None:
    table, name, base = line.table(), line.found["chain"], bool(line.found["base"])
    chain, tables = table.named(name), line.held.tables.values()
    bases = [each[HOOK] for each in tables if isinstance(each, Table) and HOOK in each]
    if name == HOOK or (base and bases != ([chain] if chain else [])):
        refuse(line.found.string)  # a second base chain, or one that would be called like it
    if chain is None:
        table.last += 1
        table[HOOK if base else name] = Chain(name, "ACCEPT" * base, handle=table.last)


def _add_rule(line: Line) -> None:
    rule, chain, table = read_rule(line.found["rule"]), line.chain(), line.table()
    if isinstance(rule.target, nf.Jump):
        goal = table.named(rule.target.chain) or line.missing()
        if goal.policy or not chain.policy:
            refuse("a jump, but from the base chain to another,")
    table.last += 1
    at = 0 if line.found.string.startswith("insert") else len(chain.rules)
    chain.rules.insert(at, Rule(rule.matches, rule.target, handle=table.last))


def _delete_table(line: Line) -> None:
    line.table()
    del line.held.tables[line.key]


def _delete_chain(line: Line) -> None:
    chain, base = line.chain(), line.table().get(HOOK)
    if base and nf.Jump(chain.name) in [rule.target for rule in base.rules]:
        line.fail("Device or resource busy", "chain")
    del line.table()[HOOK if chain is base else chain.name]


def _delete_rule(line: Line) -> None:
    rules, number = line.chain().rules, int(line.found["number"])
    doomed = [rule for rule in rules if isinstance(rule, Rule) and rule.handle == number]
    rules.remove(doomed[0] if doomed else line.missing())


TABLE = rf"(?: ip)? (?P<table>(?!(?:{'|'.join(nf.BUILT_IN)}|raw|security)(?!\S)){NAME})"
CHAIN = rf"{TABLE} (?P<chain>{NAME})"
BASE = (r"(?P<base> \{ *type nat hook prerouting priority (?:-90|dstnat *\+ *10) *; *"
        r"(?:policy accept *; *)?\})?")  # fmt: skip
COMMANDS: list[tuple[re.Pattern[str], Callable[[Line], str | None]]] = [
    (spaced(form), act) for form, act in (
        ("list tables(?: ip)?", _list_tables), ("list ruleset(?: ip)?", _list_ruleset),
        (f"list table{TABLE}", _list), (f"list chain{CHAIN}", _list),
        ("flush ruleset(?: ip)?", _flush_ruleset), (f"flush table{TABLE}", _flush),
        (f"flush chain{CHAIN}", _flush), (f"add table{TABLE}", _add_table),
        (f"add chain{CHAIN}{BASE}", _add_chain), (f"delete table{TABLE}", _delete_table),
        (f"(?:add|insert) rule{CHAIN}(?P<rule> .+)", _add_rule),
        (f"delete chain{CHAIN}", _delete_chain),
        (f"delete rule{CHAIN} handle (?P<number>[0-9]+)", _delete_rule),
    )
]  # fmt: skip


def nft(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``nft`` with ``words``."""
    options, held = "", namespace.netfilter
    while words and words[0] in OPTIONS:
        options, words = options + OPTIONS[words[0]], words[1:]
    text = " ".join(words)
    for pattern, act in COMMANDS:
        found = pattern.fullmatch(text)
        if found and not RESERVED.intersection(found.groupdict().values()):
            line = Line(held, options, found, f"ip {found.groupdict().get('table')}")
            try:
                said = act(line)
            except GaveUp as stopped:
                return stopped.done
            held.put(line.key, held.tables.get(line.key))  # conntrack runs while a rule needs it
            return Done(said or "")
    refuse(text or "a line without a command")
