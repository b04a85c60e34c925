"""One routing decision told row by row: which rules matched, which tables were asked, who won.

Plain functions of a namespace and a flow. The model decides and says why each row lost; what is
added here is where bits differ, and the order things stand in, which is the listings' own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from ekslearn import tools
from ekslearn.draw.words import count
from ekslearn.linux import Flow, Lookup, PassedOver, Route, Rule

if TYPE_CHECKING:
    from ekslearn.linux import NetworkNamespace

ARROW = "\N{BLACK RIGHT-POINTING TRIANGLE}"
BITS = 32
NO_MATCH, NO_ROUTE, DECIDES, NOT_ASKED = "no match", "match, no route", "decides", "not asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRow:
    """A row of ``ip rule show``; ``state`` is one of the four words above, ``why`` its reason."""

    text: str
    state: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRow:
    """A row of an asked table. ``bits`` are its prefix's own, ``length`` of them count.

    ``same`` is how many of them, from the left, equal the destination's; ``why`` is the model's
    reason.
    """

    text: str
    bits: str
    length: int
    same: int
    wins: bool
    why: str

    @property
    def differs(self) -> str:
        """Which bit, counted from 1, is the first that differs; empty if none does."""
        return f"bit {self.same + 1} differs" if self.same < self.length else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A table that a matching rule asked, its rows in the order the tool lists them."""

    rule: int
    table: str
    rows: tuple[RouteRow, ...]

    @property
    def decides(self) -> bool:
        """Whether one of its rows won."""
        return any(row.wins for row in self.rows)

    @property
    def words(self) -> str:
        """What the table said, in a phrase."""
        if self.decides:
            return "its answer decides"
        if not self.rows:
            return "it is empty"
        if any(row.same == row.length for row in self.rows):
            return "it has no answer"
        return f"none of its {count(len(self.rows), 'row')} holds the destination"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A decision in words: ``said`` is the outcome, ``but`` what stops the packet all the same."""

    said: str
    but: str
    command: str
    output: str
    bits: str
    rules: tuple[RuleRow, ...]
    asked: tuple[Asked, ...]


def decide(namespace: NetworkNamespace, flow: Flow) -> Told:
    """Ask the model where ``flow`` goes in ``namespace``, and put its reasons in order."""
    lookup = namespace.routing.lookup(flow)
    over = tuple(namespace.routing.passed_over(lookup))
    rules, asked = [], []
    passed = list(over)
    for rule in namespace.routing.rules:
        if lookup.rule is rule or any(each.row is rule for each in passed):
            at = next((n for n, each in enumerate(passed) if each.row is rule), len(passed))
            before, passed = passed[:at], passed[at + 1 :]
            if not rule.refuses(flow):
                asked.append(table_of(namespace, flow, rule, lookup, before))
    why = {id(each.row): each.why for each in over}
    decided = False
    for rule in namespace.routing.rules:
        state = NO_MATCH if rule.refuses(flow) else NO_ROUTE
        reason = why.get(id(rule), "")
        if rule is lookup.rule:
            decided, state, reason = True, DECIDES, "its table has the answer"
        elif decided:
            state, reason = NOT_ASKED, "a rule above has decided"
        text = tools.rule_text(rule).replace("\t", " ")
        rules.append(RuleRow(text=text, state=state, why=reason))
    command = get_line(flow)
    done = tools.run(namespace, command)
    return Told(
        said=outcome(namespace, flow, lookup),
        but=hindrance(namespace, flow, lookup),
        command=f"{namespace.name}$ {command}",
        output=(done.stdout or done.stderr).strip(),
        bits=f"{int(flow.dst):032b}",
        rules=tuple(rules),
        asked=tuple(asked),
    )


def table_of(
    namespace: NetworkNamespace, flow: Flow, rule: Rule, lookup: Lookup, over: list[PassedOver]
) -> Asked:
    """One asked table with every row's reason."""
    why = {each.row: each.why for each in over}
    rows = []
    for route in namespace.routing.tables.get(rule.table, ()):
        wins = rule is lookup.rule and route == lookup.route
        same = alike(route, flow.dst)
        rows.append(
            RouteRow(
                text=tools.route_text(route, hide=frozenset({"table"})).strip(),
                bits=f"{int(route.dst.network_address):032b}",
                length=route.dst.prefixlen,
                same=same,
                wins=wins,
                why="wins" if wins else why[route],
            )
        )
    return Asked(rule=rule.priority, table=tools.table_name(rule.table), rows=tuple(rows))


def alike(route: Route, address: IPv4Address) -> int:
    """How many bits of the route's prefix, from the left, the address shares."""
    different = int(route.dst.network_address) ^ int(address)
    return min(BITS - different.bit_length(), route.dst.prefixlen)


def get_line(flow: Flow) -> str:
    """The command that asks the same of a real machine."""
    return (
        f"ip route get {flow.dst}"
        + (f" from {flow.src}" if int(flow.src) else "")
        + (f" iif {flow.iif}" if flow.iif != "lo" else "")
        + (f" mark {flow.mark:#x}" if flow.mark else "")
    )


def outcome(namespace: NetworkNamespace, flow: Flow, lookup: Lookup) -> str:
    """Where the packet goes and which two rows say so."""
    route, rule, dst = lookup.route, lookup.rule, flow.dst
    if route is None or rule is None:
        return f"{dst} goes nowhere: no table has a route to it. {os.strerror(lookup.error)}."
    name = tools.table_name(rule.table)
    by = f" Rule {rule.priority} asks table {name}, and there {standing(namespace, flow, route)}."
    if route.kind == "local":
        return f"{dst} stays here: it is an address of {namespace.name}'s own.{by}"
    if route.kind == "broadcast":
        return f"{dst} is a broadcast address: for {namespace.name} and all its neighbors.{by}"
    if route.dev is None:
        told = f": {os.strerror(lookup.error)}" if flow.iif == "lo" else ""
        return f"{dst} goes nowhere: the row that wins is of type {route.kind}{told}.{by}"
    way = f"via {route.gateway}" if route.gateway else "straight to its neighbor"
    return f"{dst} goes out by {route.dev.name}, {way}.{by}"


def standing(namespace: NetworkNamespace, flow: Flow, winner: Route) -> str:
    """Why the winner won, against the rows of its table that hold the destination too."""
    prefix = "default" if not winner.dst.prefixlen else str(winner.dst)
    holds = [row for row in namespace.routing.tables[winner.table] if flow.dst in row.dst]
    rivals = {row.dst for row in holds} - {winner.dst}
    twins = [row for row in holds if row.dst == winner.dst and row != winner]
    if any(rival.prefixlen > winner.dst.prefixlen for rival in rivals):
        return f"{prefix} is the longest prefix whose row can be used"
    if twins:
        return f"{prefix} with the lowest metric wins"
    if rivals:
        return f"{prefix} is the longest of {len(rivals) + 1} prefixes that hold it"
    return f"{prefix} is the only prefix that holds it"


def hindrance(namespace: NetworkNamespace, flow: Flow, lookup: Lookup) -> str:
    """What stops the packet although the tables have a way for it; empty if nothing does."""
    if flow.iif == "lo" and not int(flow.dst):
        return f"But a packet sent to {flow.dst} stays in {namespace.name}: it means this machine."
    if flow.iif == "lo":
        src = flow.src if int(flow.src) else None
        leaving = namespace.ip.departure(flow.dst, src, "", flow.mark)
        if leaving.lookup is None and leaving.errno:
            return f"But {src} is no address of {namespace.name}: nothing can be sent from it."
        return ""
    arrival = namespace.ip.arrival(flow, namespace.links[flow.iif])
    if arrival.verdict != "drop" or lookup.error:
        return ""
    if not int(flow.src):
        return f"But a packet that comes in by {flow.iif} has a source: give one."
    return f"But the packet is dropped as it comes in: {arrival.why}."


def spaced(bits: str) -> str:
    """Bits in groups of eight.

    >>> spaced("0" * 31 + "1")
    '00000000 00000000 00000000 00000001'
    """
    return " ".join(bits[at : at + 8] for at in range(0, BITS, 8))


def lines_of(told: Told) -> list[str]:
    """The decision as text, everything that the picture shows."""
    found = [told.said, *([told.but] if told.but else []), "", told.command]
    found += [f"  {line}".rstrip() for line in told.output.splitlines()]
    found += ["", "rules, in order of priority:"]
    for rule in told.rules:
        sign = ARROW if rule.state == DECIDES else " "
        found.append(f"{sign} {rule.text} \N{EM DASH} {rule.state}: {rule.why}")
    for asked in told.asked:
        found += ["", f"table {asked.table}, asked by rule {asked.rule}: {asked.words}"]
        if asked.rows:
            found.append(f"  {spaced(told.bits)}  the destination")
        for row in asked.rows:
            bits = spaced(row.bits[: row.length].ljust(BITS, "."))
            why = f"{row.differs}: {row.why}" if row.differs else row.why
            found.append(f"{ARROW if row.wins else ' '} {bits}  {row.text} \N{EM DASH} {why}")
    return found
