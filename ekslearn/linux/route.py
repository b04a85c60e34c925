"""Routes, tables and rules: which way a packet goes, and why not another.

A table is a set of routes; the longest matching prefix wins, then the lowest metric. Rules, in
order of priority, say which table is asked; a table without an answer passes on to the next rule.
Source: net/ipv4/fib_trie.c, net/core/fib_rules.c and net/ipv4/fib_semantics.c of Linux 6.18.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from errno import EACCES, EEXIST, EHOSTUNREACH, EINVAL, ENETUNREACH, ENOENT, ESRCH
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from ..errors import KernelError, kernel_refuses
from .link import GLOBAL, Link

NOBODY = IPv4Address(0)
LOCAL, MAIN, DEFAULT = 255, 254, 253  # table numbers, linux/rtnetlink.h
EVERYWHERE = IPv4Network("0.0.0.0/0")
MASKS = [(0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF for length in range(33)]
# What a route of an error type answers to whoever asked (fib_props); throw ends only this table.
ERRORS = {"blackhole": EINVAL, "unreachable": EHOSTUNREACH, "prohibit": EACCES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One row of a table. ``dev`` is None for the types that send nothing anywhere."""

    dst: IPv4Network = EVERYWHERE
    kind: str = "unicast"
    via: IPv4Address | None = None
    dev: Link | None = None
    table: int = MAIN
    protocol: int = 3
    scope: int = GLOBAL
    metric: int = 0
    src: IPv4Address | None = None
    onlink: bool = False
    own_gateway: bool = False

    @property
    def gateway(self) -> IPv4Address | None:
        """The next hop; None if the destination itself is.

        A gateway that is one of the namespace's own addresses is taken and never used.
        """
        return None if self.own_gateway else self.via


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of ``ip rule``: if the selectors match, ask ``table``.

    ``mark`` and ``mask`` are None where the rule has no fwmark; an empty ``iif`` or ``oif``
    matches any. ``iif`` "lo" matches what this namespace itself sends.
    ``selects`` is False for a rule every packet matches.
    """

    priority: int
    table: int = MAIN
    src: IPv4Network | None = None
    dst: IPv4Network | None = None
    iif: str = ""
    oif: str = ""
    mark: int | None = None
    mask: int | None = None
    inverted: bool = False
    protocol: int = 3
    selects: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        wanted = (self.iif, self.oif, self.mark is not None, self.src, self.dst, self.inverted)
        object.__setattr__(self, "selects", any(wanted))

    def differs(self, flow: Flow) -> str:
        """Why the selectors don't match ``flow``, in words; empty if they do."""
        if self.iif and self.iif != flow.iif:
            return f"the packet came in by {flow.iif}"
        if self.oif and self.oif != flow.oif:
            return f"the packet is bound to {flow.oif or 'no interface'}"
        if self.mark is not None and (flow.mark ^ self.mark) & (self.mask or 0):
            return f"the packet's mark is {flow.mark:#x}"
        if self.src and int(flow.src) & MASKS[self.src.prefixlen] != int(self.src.network_address):
            return f"the source is {flow.src}"
        if self.dst and int(flow.dst) & MASKS[self.dst.prefixlen] != int(self.dst.network_address):
            return f"the destination is {flow.dst}"
        return ""

    def refuses(self, flow: Flow) -> str:
        """Why this rule is passed over for ``flow``, in words; empty if it applies."""
        differs = self.differs(flow)
        if self.inverted:
            return "" if differs else "all of its selectors match, and it says not"
        return differs


@dataclass(slots=True)
class Flow:
    """What a routing decision may look at. ``iif`` is "lo" for what the namespace itself sends."""

    dst: IPv4Address
    src: IPv4Address = NOBODY
    iif: str = "lo"
    oif: str = ""
    mark: int = 0
    scope: int = GLOBAL
    bits: int = field(init=False)

    def __post_init__(self) -> None:
        self.bits = int(self.dst)


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A row that was looked at and not chosen, and why, in words."""

    row: Rule | Route
    why: str


class Lookup(NamedTuple):
    """The outcome of a routing decision: a route, or the error the asker gets.

    ``error`` is an errno, 0 if ``route`` can be used. ``passed_over`` is filled only if asked.
    """

    rule: Rule | None
    route: Route | None
    error: int
    passed_over: tuple[PassedOver, ...] = ()


@dataclass(frozen=True, slots=True)
class Learned:
    """What an ICMP error taught about one destination of a route: another gateway, a smaller MTU.

    ``mtu`` is in bytes, 0 if none was learned.
    """

    gateway: IPv4Address | None = None
    mtu: int = 0


class RouteTable:
    """The routes of one table, found by mask, longest first, and the bits under the mask."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, dict[int, list[Route]]]] = []

    def __iter__(self) -> Iterator[Route]:
        """By address, then longer prefixes first: the order the kernel's trie is walked in."""
        keys = [(key, -mask, rows) for mask, rows in self._rows for key in rows]
        for key, _, rows in sorted(keys):
            yield from rows[key]

    def same_prefix(self, dst: IPv4Network) -> list[Route]:
        """The routes to exactly ``dst``, lowest metric first; the list itself, to be changed."""
        rows = dict(self._rows).get(int(dst.netmask))
        if rows is None:
            rows = {}
            self._rows = sorted([*self._rows, (int(dst.netmask), rows)], reverse=True)
        return rows.setdefault(int(dst.network_address), [])

    def tidy(self, dst: IPv4Network) -> None:
        """Forget the place of ``dst`` if no route is left there."""
        rows = dict(self._rows).get(int(dst.netmask), {})
        if not rows.get(int(dst.network_address), True):
            del rows[int(dst.network_address)]
        self._rows = [row for row in self._rows if row[1]]

    def lookup(self, flow: Flow) -> Route | None:
        """The route that wins for ``flow``; None when no row can be used."""
        bits, plain = flow.bits, not (flow.scope or flow.oif)
        for mask, rows in self._rows:
            if found := rows.get(bits & mask):
                for route in found:
                    if plain or not self._unfit(route, flow):
                        return route
        return None

    @staticmethod
    def _unfit(route: Route, flow: Flow) -> str:
        if route.scope < flow.scope:
            return "it goes through a gateway, and a gateway must be on a link"
        if flow.oif and route.dev and route.dev.name != flow.oif:
            return f"the packet is bound to {flow.oif}"
        return ""

    def passed_over(self, flow: Flow, chosen: Route | None) -> Iterator[PassedOver]:
        """Every row but the chosen one, with the reason it lost."""
        for route in self:
            if route is chosen:
                continue
            if flow.dst not in route.dst:
                yield PassedOver(route, f"{route.dst} doesn't hold {flow.dst}")
            elif unfit := self._unfit(route, flow):
                yield PassedOver(route, unfit)
            elif chosen and chosen.dst.prefixlen > route.dst.prefixlen:
                yield PassedOver(route, f"/{chosen.dst.prefixlen} is longer than "
                                        f"/{route.dst.prefixlen}")  # fmt: skip
            elif chosen and chosen.metric < route.metric:
                yield PassedOver(route, f"metric {chosen.metric} is lower than {route.metric}")
            else:
                yield PassedOver(route, "the same prefix and metric stand above it")


class Tables(dict[int, RouteTable]):
    """Tables by number; the kernel makes each with its first route, till then it reads empty."""

    def __missing__(self, number: int) -> RouteTable:
        return RouteTable()


class Routing:
    """The rules and tables of one namespace."""

    def __init__(self) -> None:
        self.tables = Tables()
        first = ((0, LOCAL), (32766, MAIN), (32767, DEFAULT))
        self.rules = [Rule(priority=at, table=number, protocol=2) for at, number in first]
        self.learned: dict[tuple[Route, IPv4Address], Learned] = {}
        # Never off again once set: the kernel then looks closer at sources (fib_validate_source).
        self.custom_rules = False
        self.custom_locals = False

    def lookup(self, flow: Flow, *, explain: bool = False) -> Lookup:
        """Decide where ``flow`` goes; with ``explain``, say of every other row why it lost.

        No rule with an answer gives ENETUNREACH.
        """
        for rule in self.rules:
            if rule.selects and rule.refuses(flow):
                continue
            route = self.tables[rule.table].lookup(flow)
            if route and route.kind != "throw":
                passed = tuple(self._passed_over(flow, rule)) if explain else ()
                return Lookup(rule, route, ERRORS.get(route.kind, 0), passed)
        passed = tuple(self._passed_over(flow, None)) if explain else ()
        return Lookup(None, None, ENETUNREACH, passed)

    def _passed_over(self, flow: Flow, chosen: Rule | None) -> Iterator[PassedOver]:
        """Every row that was looked at until ``chosen`` had the answer, with the reason it lost."""
        for rule in self.rules:
            why = rule.refuses(flow)
            if not why:
                route = self.tables[rule.table].lookup(flow)
                why = f"its table {'throws the packet back' if route else 'has no route there'}"
                if route and route.kind == "throw":
                    yield PassedOver(route, "it throws the packet back")
                yield from self.tables[rule.table].passed_over(flow, route)
            if rule is chosen:
                return
            yield PassedOver(rule, why)

    def table(self, number: int) -> RouteTable:
        """The table with that number, made if it isn't there (fib_new_table)."""
        if number == LOCAL and not self.custom_rules:
            self.tables.setdefault(MAIN, RouteTable())  # the two are one until a rule parts them
        return self.tables.setdefault(number, RouteTable())

    def add(self, route: Route, how: str = "add") -> None:
        """Put ``route`` in its table; ``how`` is add, append, prepend, replace or change.

        Raises KernelError: EEXIST (the key prefix and metric is taken), ENOENT (change found
        nothing to change).
        """
        table = self.table(route.table)
        rows = table.same_prefix(route.dst)
        same = [row for row in rows if row.metric == route.metric]
        at = next((i for i, row in enumerate(rows) if row.metric >= route.metric), len(rows))
        try:
            if same and how == "add":
                raise KernelError(EEXIST)
            if same and how in ("replace", "change"):
                if route in same and route != same[0]:
                    raise KernelError(EEXIST)
                self._forget(rows[at])
                rows[at] = route
                return
            if route in same:
                raise KernelError(EEXIST)
            if how == "change":
                raise KernelError(ENOENT)
            rows.insert(at + len(same) if how == "append" else at, route)
        finally:
            table.tidy(route.dst)

    def delete(self, dst: IPv4Network, table: int, fits: Callable[[Route], bool]) -> None:
        """Delete the first route to ``dst`` that ``fits``; KernelError ESRCH if there is none."""
        if table not in self.tables:
            raise KernelError(ESRCH, "FIB table does not exist")
        for route in self.tables[table].same_prefix(dst):
            if fits(route):
                self.remove(route)
                return
        self.tables[table].tidy(dst)
        raise KernelError(ESRCH)

    def remove(self, route: Route) -> None:
        """Take exactly this route away."""
        table = self.tables[route.table]
        table.same_prefix(route.dst).remove(route)
        table.tidy(route.dst)
        self._forget(route)

    def _forget(self, route: Route) -> None:
        """What was learned about a route goes with it."""
        self.learned = {key: found for key, found in self.learned.items() if key[0] != route}

    def remove_where(self, doomed: Callable[[Route], bool]) -> None:
        """Take away every route that ``doomed`` picks, as the kernel does when a link goes."""
        for table in list(self.tables.values()):
            for route in [row for row in table if doomed(row)]:
                self.remove(route)

    def add_rule(self, rule: Rule, *, chosen_priority: bool = True) -> None:
        """Add ``rule`` behind the others of its priority; KernelError EEXIST for a twin.

        Without a chosen priority the kernel takes one less than the second rule's; table 0 stands
        for the first number that is no table yet (fib_empty_table).
        """
        if not rule.table:
            rule = replace(rule, table=next(n for n in range(1, 256) if n not in self.tables))
            self.tables[rule.table] = RouteTable()
        if not chosen_priority:
            second = self.rules[1].priority if len(self.rules) > 1 else 0
            rule = replace(rule, priority=max(second - 1, 0))
        same = (replace(row, inverted=rule.inverted) for row in self.rules)
        kernel_refuses(rule in same, EEXIST)  # rule_exists takes no notice of "not"
        at = sum(1 for row in self.rules if row.priority <= rule.priority)
        self.rules.insert(at, rule)
        self.custom_rules = True

    def delete_rule(self, fits: Callable[[Rule], bool]) -> None:
        """Delete the first rule that ``fits``; KernelError ENOENT if there is none."""
        for rule in self.rules:
            if fits(rule):
                self.rules.remove(rule)
                self.custom_rules = True
                return
        raise KernelError(ENOENT)
