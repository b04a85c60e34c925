"""Routes, tables and rules: the lookup against a second, slow and obvious one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from errno import EACCES, EEXIST, EHOSTUNREACH, EINVAL, ENETUNREACH, ENOENT, ESRCH
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekslearn.errors import KernelError
from ekslearn.linux import Flow, Lookup, PassedOver, Route, Rule
from ekslearn.linux.route import LOCAL, MAIN, Routing

ERRNO = {"blackhole": EINVAL, "unreachable": EHOSTUNREACH, "prohibit": EACCES}
KINDS = ["unicast", "unicast", "local", "throw", *ERRNO]


def obvious(rules: Sequence[Rule], routes: Sequence[Route], flow: Flow) -> tuple[object, int]:
    """Which route wins, written once more from the manual: no tables by length, no shortcuts."""
    for rule in sorted(rules, key=lambda each: each.priority):  # stable: the order of equals stays
        fits = [
            not rule.iif or rule.iif == flow.iif,
            not rule.oif or rule.oif == flow.oif,
            rule.mark is None or flow.mark & (rule.mask or 0) == rule.mark & (rule.mask or 0),
            rule.src is None or flow.src in rule.src,
            rule.dst is None or flow.dst in rule.dst,
        ]
        if all(fits) == rule.inverted:
            continue
        usable = [r for r in routes if r.table == rule.table and flow.dst in r.dst]
        usable = [r for r in usable if r.scope >= flow.scope]
        if not usable:
            continue
        longest = max(r.dst.prefixlen for r in usable)
        usable = [r for r in usable if r.dst.prefixlen == longest]
        best = min(usable, key=lambda r: r.metric)
        if best.kind != "throw":
            return best, ERRNO.get(best.kind, 0)
    return None, ENETUNREACH


addresses = st.integers(0, 7).map(lambda n: IPv4Address(0x0A000000 + n * 0x55))
prefixes = st.tuples(addresses, st.sampled_from([0, 8, 16, 24, 25, 30, 31, 32])).map(
    lambda pair: IPv4Network(pair, strict=False)
)
routes = st.builds(
    Route, dst=prefixes, kind=st.sampled_from(KINDS), table=st.sampled_from([2, MAIN, LOCAL]),
    metric=st.integers(0, 2), scope=st.sampled_from([0, 253]),
)  # fmt: skip
rules = st.builds(
    Rule, priority=st.integers(0, 5), table=st.sampled_from([2, 3, MAIN, LOCAL]),
    src=st.none() | prefixes, dst=st.none() | prefixes, iif=st.sampled_from(["", "lo", "a"]),
    oif=st.sampled_from(["", "b"]), mark=st.none() | st.integers(0, 3),
    mask=st.just(3), inverted=st.booleans(),
)  # fmt: skip
flows = st.builds(
    Flow, dst=addresses, src=addresses, iif=st.sampled_from(["lo", "a"]),
    oif=st.sampled_from(["", "b"]), mark=st.integers(0, 5), scope=st.sampled_from([0, 253]),
)  # fmt: skip


def routing(chosen_rules: Sequence[Rule], chosen_routes: Sequence[Route]) -> Routing:
    """A Routing that holds these rows, twins left out as the kernel does."""
    made = Routing()
    made.rules.clear()
    for row in (*chosen_rules, *chosen_routes):
        try:
            made.add_rule(row) if isinstance(row, Rule) else made.add(row, "append")
        except KernelError as error:
            assert error.errno == EEXIST
    return made


@settings(max_examples=400, deadline=None)
@given(st.lists(rules, max_size=6), st.lists(routes, max_size=12), flows)
def test_the_lookup_equals_the_obvious_one(
    some_rules: list[Rule], some_routes: list[Route], flow: Flow
) -> None:
    made = routing(some_rules, some_routes)
    kept = [route for table in made.tables.values() for route in table]
    found = made.lookup(flow)
    assert (found.route, found.error) == obvious(made.rules, kept, flow)


@settings(max_examples=400, deadline=None)
@given(st.lists(rules, max_size=6), st.lists(routes, max_size=12), flows)
def test_a_lookup_can_be_decided_again_from_what_it_passed_over(
    some_rules: list[Rule], some_routes: list[Route], flow: Flow
) -> None:
    made = routing(some_rules, some_routes)
    found = made.lookup(flow)
    over = tuple(made.passed_over(found))
    assert again(found, over) == (found.route, found.error)
    assert all(each.why for each in over)


def again(found: Lookup, over: Sequence[PassedOver]) -> tuple[object, int]:
    """The decision, from the rows that were named and nothing else."""
    rows = [each.row for each in over]
    named_rules = [row for row in rows if isinstance(row, Rule)] + ([found.rule] * bool(found.rule))
    named_routes = [found.route] * bool(found.route) + [r for r in rows if isinstance(r, Route)]
    return obvious(named_rules, named_routes, found.flow)  # type: ignore[arg-type]


def test_a_missing_row_changes_the_decision() -> None:
    """The test above can fail: leave out what decided, and another row wins."""
    wide, narrow = (Route(dst=IPv4Network(net)) for net in ("10.0.0.0/8", "10.0.0.0/24"))
    made = routing([Rule(priority=1)], [wide, narrow])
    found = made.lookup(Flow(IPv4Address("10.0.0.1")))
    assert found.route == narrow
    over = tuple(made.passed_over(found))
    assert again(found._replace(route=None), over)[0] == wide


def test_reasons_name_what_the_packet_has() -> None:
    made = routing([Rule(priority=1, mark=0x80, mask=0x80), Rule(priority=2)], [])
    reasons = [each.why for each in made.passed_over(made.lookup(Flow(IPv4Address(1))))]
    assert reasons == ["the packet's mark is 0x0", "its table has no route there"]
    rule = Rule(priority=1, iif="eth0", oif="eth1")
    assert rule.differs(Flow(IPv4Address(1), iif="lo")) == "the packet came in by lo"
    assert "no interface" in rule.differs(Flow(IPv4Address(1), iif="eth0"))
    assert "not" in Rule(priority=1, inverted=True).refuses(Flow(IPv4Address(1)))
    only = Rule(priority=1, src=IPv4Network("10.0.0.0/8"))
    assert only.differs(Flow(IPv4Address(1), IPv4Address("11.0.0.1"))) == "the source is 11.0.0.1"
    to = Rule(priority=1, dst=IPv4Network("10.0.0.0/8"))
    assert to.differs(Flow(IPv4Address("11.0.0.1"))) == "the destination is 11.0.0.1"


NET = IPv4Network("10.0.0.0/8")


def table(made: Routing) -> list[tuple[int, int]]:
    """(metric, protocol) of every route of main, in order."""
    return [(route.metric, route.protocol) for route in made.tables[MAIN]]


def test_add_keeps_one_route_a_metric_append_and_prepend_more() -> None:
    made = Routing()
    made.add(Route(dst=NET, metric=5))
    made.add(Route(dst=NET, metric=1))
    with pytest.raises(KernelError) as refused:
        made.add(Route(dst=NET, metric=5, protocol=4))
    assert refused.value.errno == EEXIST
    made.add(Route(dst=NET, metric=5, protocol=4), "append")
    made.add(Route(dst=NET, metric=5, protocol=9), "prepend")
    assert table(made) == [(1, 3), (5, 9), (5, 3), (5, 4)]
    with pytest.raises(KernelError):
        made.add(Route(dst=NET, metric=5, protocol=4), "append")


def test_replace_takes_the_first_of_its_metric_change_needs_one() -> None:
    made = Routing()
    made.add(Route(dst=NET, metric=5))
    made.add(Route(dst=NET, metric=5, protocol=4), "append")
    made.add(Route(dst=NET, metric=5, protocol=9), "replace")
    assert table(made) == [(5, 9), (5, 4)]
    made.add(Route(dst=NET, metric=7), "replace")
    assert table(made) == [(5, 9), (5, 4), (7, 3)]
    with pytest.raises(KernelError) as refused:
        made.add(Route(dst=NET, metric=9), "change")
    assert refused.value.errno == ENOENT
    made.add(Route(dst=NET, metric=7, protocol=16), "change")
    assert table(made)[-1] == (7, 16)


def test_delete_takes_the_first_that_fits_or_says_there_is_none() -> None:
    made = Routing()
    for metric in (1, 2):
        made.add(Route(dst=NET, metric=metric))
    made.delete(NET, MAIN, lambda route: True)
    assert table(made) == [(2, 3)]
    for net, number in ((NET, 77), (IPv4Network("10.0.0.0/9"), MAIN)):
        with pytest.raises(KernelError) as refused:
            made.delete(net, number, lambda route: True)
        assert refused.value.errno == ESRCH
    with pytest.raises(KernelError):
        made.delete(NET, MAIN, lambda route: False)


def test_a_table_is_listed_by_address_the_longer_prefix_first() -> None:
    made = Routing()
    for net in ("10.0.0.0/8", "0.0.0.0/0", "10.0.0.0/24", "9.0.0.0/8"):
        made.add(Route(dst=IPv4Network(net)))
    listed = [str(route.dst) for route in made.tables[MAIN]]
    assert listed == ["0.0.0.0/0", "9.0.0.0/8", "10.0.0.0/24", "10.0.0.0/8"]


def test_a_rule_without_priority_goes_before_the_second_one() -> None:
    made = Routing()
    made.add_rule(Rule(priority=0, table=5), chosen_priority=False)
    made.add_rule(Rule(priority=0, table=6), chosen_priority=False)
    assert [rule.priority for rule in made.rules] == [0, 32764, 32765, 32766, 32767]
    assert [rule.table for rule in made.rules[1:3]] == [6, 5]


def test_rules_of_one_priority_keep_their_order_and_twins_are_refused() -> None:
    made = Routing()
    assert not made.custom_rules
    for number in (5, 6):
        made.add_rule(Rule(priority=100, table=number))
    assert [rule.table for rule in made.rules[1:3]] == [5, 6]
    assert made.custom_rules
    with pytest.raises(KernelError) as refused:
        made.add_rule(Rule(priority=100, table=5))
    assert refused.value.errno == EEXIST
    made.delete_rule(lambda rule: rule.priority == 100)
    assert [rule.table for rule in made.rules[1:2]] == [6]
    with pytest.raises(KernelError) as refused:
        made.delete_rule(lambda rule: rule.priority == 99)
    assert refused.value.errno == ENOENT


def test_what_was_learned_goes_with_its_route() -> None:
    from ekslearn.linux.route import Learned

    made, other = Routing(), Route(dst=IPv4Network("11.0.0.0/8"))
    for route in (Route(dst=NET), other):
        made.add(route)
        made.learned[route, IPv4Address(1)] = Learned(mtu=1000)
    made.remove(Route(dst=NET))
    assert list(made.learned) == [(other, IPv4Address(1))]
    made.add(Route(dst=other.dst, protocol=9), "replace")
    assert not made.learned


@settings(max_examples=300, deadline=None)
@given(st.lists(routes, max_size=12), flows)
def test_until_a_rule_parts_them_local_and_main_are_one_trie(
    some_routes: list[Route], flow: Flow
) -> None:
    """The longest prefix of both wins (fib_unmerge); the kernel's word: one-trie-until-a-rule."""
    made = Routing()
    for row in some_routes:
        if row.table in (LOCAL, MAIN) and row.kind != "throw":
            with suppress(KernelError):
                made.add(row, "append")
    flow = replace(flow, oif="")
    kept = [route for table in made.tables.values() for route in table]
    one = [replace(row, table=LOCAL, metric=row.metric + 9 * (row.table == MAIN)) for row in kept]
    wanted, error = obvious(made.rules, one, flow)
    found = made.lookup(flow)
    assert (found.route and kept[one.index(wanted)], error) == (found.route, found.error)  # type: ignore[arg-type]
    assert all(each.why for each in made.passed_over(found))
    made.add_rule(Rule(priority=9, table=99))
    assert made.lookup(flow).route == obvious(made.rules, kept, flow)[0]


def test_the_one_trie_says_so() -> None:
    made = Routing()
    made.add(Route(dst=IPv4Network("127.0.0.0/8"), kind="local", table=LOCAL))
    made.add(Route(dst=IPv4Network("127.0.0.0/25")))
    found = made.lookup(Flow(IPv4Address("127.0.0.2")))
    assert found.route and found.route.table == MAIN
    reasons = [each.why for each in made.passed_over(found)]
    assert reasons == ["/25 is longer than /8", "main, in one trie with it, has a longer prefix"]
