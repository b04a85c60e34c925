"""Routes, tables and rules: which way a packet goes, and why not another.

A table is a set of routes; the longest matching prefix wins, then the lowest metric. Rules, in
order of priority, say which table is asked; a table without an answer passes on to the next rule.
Source: net/ipv4/fib_trie.c, net/core/fib_rules.c and net/ipv4/fib_semantics.c of Linux 6.18.
"""

from __future__ import annotations

from bisect import bisect_right
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
    """The outcome of a routing decision: the rule and the route that were chosen, if any."""

    flow: Flow
    rule: Rule | None
    route: Route | None

    @property
    def error(self) -> int:
        """The errno the asker gets, 0 if the route can be used."""
        return ERRORS.get(self.route.kind, 0) if self.route else ENETUNREACH


@dataclass(frozen=True, slots=True)
class Learned:
    """What an ICMP error taught about one destination of a route: another gateway, a smaller MTU.

    ``mtu`` is in bytes, 0 if none was learned.
    """

    gateway: IPv4Address | None = None
    mtu: int = 0


class RouteTable:
    """The routes of one table, by address and prefix length; those of one prefix by metric.

    For looking up, the addresses are cut wherever a prefix begins or ends: from one cut to the
    next the same routes fit, and they stand ready in order, longest prefix first.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[int, int], list[Route]] = {}
        self._cuts: list[int] = []  # none: a route has come or gone since the last look-up
        self._fits: list[list[Route]] = []

    def __iter__(self) -> Iterator[Route]:
        """By address, then longer prefixes first: the order the kernel's trie is walked in."""
        for key in sorted(self._rows, key=lambda key: (key[0], -key[1])):
            yield from self._rows[key]

    def same_prefix(self, dst: IPv4Network) -> list[Route]:
        """The routes to exactly ``dst``, lowest metric first."""
        return list(self._rows.get((int(dst.network_address), dst.prefixlen), ()))

    def put(self, dst: IPv4Network, routes: list[Route]) -> None:
        """Let ``routes`` be those to exactly ``dst``."""
        key, self._cuts = (int(dst.network_address), dst.prefixlen), []
        self._rows[key] = routes
        if not routes:
            del self._rows[key]

    def _cut(self) -> None:
        edges = {0}
        for first, length in self._rows:
            edges |= {first, first + (1 << 32 - length)}
        self._cuts = sorted(edges)
        lengths = sorted({length for _, length in self._rows}, reverse=True)
        keys = [[(cut & MASKS[length], length) for length in lengths] for cut in self._cuts]
        self._fits = [[r for key in each for r in self._rows.get(key, ())] for each in keys]

    def lookup(self, flow: Flow) -> Route | None:
        """The route that wins for ``flow``; None when no row can be used."""
        if not self._cuts:
            self._cut()
        for route in self._fits[bisect_right(self._cuts, flow.bits) - 1]:
            if not (flow.scope or flow.oif) or not self._unfit(route, flow):
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
        goal = str(flow.dst)
        for route in self:
            if route is chosen:
                continue
            if flow.dst not in route.dst:
                yield PassedOver(route, f"{route.dst} doesn't hold {goal}")
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

    def lookup(self, flow: Flow) -> Lookup:
        """Decide where ``flow`` goes; ``passed_over`` says why not elsewhere."""
        for rule in self.rules:
            if rule.selects and rule.refuses(flow):
                continue
            route = self.tables[rule.table].lookup(flow)
            if route and route.kind != "throw" and not self.longer_in_main(route, flow):
                return Lookup(flow, rule, route)
        return Lookup(flow, None, None)

    def longer_in_main(self, route: Route, flow: Flow) -> Route | None:
        """Main's route for ``flow`` if it goes before ``route``, of table local.

        Until a rule first parts them both stand in one trie: the longer prefix wins (fib_unmerge).
        """
        apart = route.table != LOCAL or self.custom_rules
        main = None if apart else self.tables[MAIN].lookup(flow)
        return main if main and main.dst.prefixlen > route.dst.prefixlen else None

    def passed_over(self, made: Lookup) -> Iterator[PassedOver]:
        """Every row that was looked at for the decision just made, with the reason it lost."""
        flow = made.flow
        for rule in self.rules:
            why = rule.refuses(flow)
            if not why:
                route = self.tables[rule.table].lookup(flow)
                why = f"its table {'throws the packet back' if route else 'has no route there'}"
                if route and route.kind == "throw":
                    yield PassedOver(route, "it throws the packet back")
                elif route and (longer := self.longer_in_main(route, flow)):
                    route, why = longer, "main, in one trie with it, has a longer prefix"
                yield from self.tables[rule.table].passed_over(flow, route)
            if rule is made.rule:
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
        replaces = bool(same) and how in ("replace", "change")
        kernel_refuses(same and how == "add", EEXIST)
        kernel_refuses(route in (same[1:] if replaces else same), EEXIST)
        kernel_refuses(how == "change" and not same, ENOENT)
        if replaces:
            self._forget(rows[at])
            rows[at] = route
        else:
            rows.insert(at + len(same) if how == "append" else at, route)
        table.put(route.dst, rows)

    def delete(self, dst: IPv4Network, table: int, fits: Callable[[Route], bool]) -> None:
        """Delete the first route to ``dst`` that ``fits``; KernelError ESRCH if there is none."""
        kernel_refuses(table not in self.tables, ESRCH, "FIB table does not exist")
        for route in self.tables[table].same_prefix(dst):
            if fits(route):
                self.remove(route)
                return
        raise KernelError(ESRCH)

    def remove(self, route: Route) -> None:
        """Take exactly this route away."""
        table = self.tables[route.table]
        table.put(route.dst, [row for row in table.same_prefix(route.dst) if row != route])
        self._forget(route)

    def taught(self, route: Route, dst: IPv4Address) -> Learned:
        """What ICMP errors taught about ``dst``, reached by ``route``."""
        return (self.learned and self.learned.get((route, dst))) or Learned()

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
