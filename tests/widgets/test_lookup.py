"""RouteLookup without a browser: at several stops, against the decision told here apart."""

from __future__ import annotations

import html
import json
import re
import time
from ipaddress import IPv4Address

import pytest

from ekslearn import data_path, load, tools
from ekslearn.cluster import Lab
from ekslearn.errors import EkslearnError
from ekslearn.linux import Flow, Lookup, Route
from ekslearn.widgets import RouteLookup, route_lookup, shell
from ekslearn.widgets.changes import listings
from tests.draw.labs import two_rooms


def crossroads() -> Lab:
    return load(data_path("scenarios/crossroads.yaml"))


def two_enis() -> Lab:
    return load(data_path("scenarios/two-enis.yaml"))


STOPS = [
    (crossroads, "host", "10.20.30.40", "", "", 0),
    (crossroads, "host", "10.20.30.41", "", "", 0),
    (crossroads, "host", "10.20.50.5", "", "", 0),
    (crossroads, "host", "198.51.100.9", "", "", 7),
    (crossroads, "host", "10.20.1.10", "", "", 0),
    (crossroads, "host", "10.20.1.255", "10.20.1.10", "", 0),
    (crossroads, "host", "0.0.0.0", "", "", 0),
    (crossroads, "host", "255.255.255.255", "", "", 0),
    (crossroads, "south", "10.20.66.1", "", "", 0),
    (crossroads, "south", "10.20.67.1", "10.20.2.10", "eth0", 0),
    (crossroads, "town", "10.20.2.10", "10.20.30.40", "", 0),
    (two_enis, "host", "10.0.2.9", "", "", 0),
    (two_enis, "host", "10.0.2.9", "10.0.1.42", "eni2f5353dd8c5", 0),
    (two_enis, "host", "10.0.2.9", "10.0.1.42", "eni2f5353dd8c5", 0x80),
    (two_enis, "host", "10.0.1.42", "10.0.2.9", "eth1", 0),
    (two_enis, "host", "10.0.1.31", "10.0.1.31", "", 0),
    (two_rooms, "red", "203.0.113.1", "", "", 0),
]
every = pytest.mark.parametrize(("make", "place", "destination", "source", "iif", "mark"), STOPS)


def asked(
    lab: Lab, place: str, destination: str, source: str, iif: str, mark: int
) -> tuple[Flow, Lookup]:
    """The flow and what the model decides about it, asked without the widget."""
    flow = Flow(IPv4Address(destination), IPv4Address(source or 0), iif or "lo", mark=mark)
    return flow, lab.namespace(place).routing.lookup(flow)


def row(route: Route) -> str:
    return tools.route_text(route, hide=frozenset({"table"})).strip()


@every
def test_the_sentence_names_the_rule_the_table_and_the_way(
    make, place, destination, source, iif, mark
) -> None:
    lab = make()
    look = route_lookup(lab, place, destination, source=source, iif=iif, mark=mark)
    _, lookup = asked(lab, place, destination, source, iif, mark)
    first = look.words.splitlines()[0]
    assert first.startswith(destination)
    if lookup.route is None:
        assert first.endswith("no table has a route to it. Network is unreachable.")
        return
    assert f"Rule {lookup.rule.priority} asks table {tools.table_name(lookup.rule.table)}" in first
    if lookup.route.kind in ("blackhole", "unreachable", "prohibit"):
        assert f"goes nowhere: the row that wins is of type {lookup.route.kind}" in first
    elif lookup.route.kind == "unicast":
        assert f"goes out by {lookup.route.dev.name}" in first
        assert (f"via {lookup.route.via}." in first) == bool(lookup.route.via)


@every
def test_every_row_of_every_asked_table_stands_there_with_its_reason(
    make, place, destination, source, iif, mark
) -> None:
    lab = make()
    look = route_lookup(lab, place, destination, source=source, iif=iif, mark=mark)
    flow, lookup = asked(lab, place, destination, source, iif, mark)
    rules = lab.namespace(place).routing.rules
    assert [each.text for each in look.told.rules] == [
        line.replace("\t", " ") for line in lab.run(place, "ip rule show").stdout.splitlines()
    ]
    upto = rules.index(lookup.rule) if lookup.rule else len(rules) - 1
    matching = [rule for rule in rules[: upto + 1] if not rule.refuses(flow)]
    assert [(each.rule, each.table) for each in look.told.asked] == [
        (rule.priority, tools.table_name(rule.table)) for rule in matching
    ]
    for number, (rule, told) in enumerate(zip(rules, look.told.rules, strict=True)):
        expected = (
            "decides" if rule is lookup.rule
            else "not asked" if number > upto
            else "no match" if rule.refuses(flow) else "match, no route"
        )  # fmt: skip
        assert told.state == expected
        if expected == "no match":
            assert told.why == rule.refuses(flow)
    passed = lab.namespace(place).routing.passed_over(lookup)
    over = {id(each.row): each.why for each in passed}
    winners = 0
    for rule, table in zip(matching, look.told.asked, strict=True):
        routes = list(lab.namespace(place).routing.tables.get(rule.table, ()))
        assert [each.text for each in table.rows] == [row(route) for route in routes]
        for route, told in zip(routes, table.rows, strict=True):
            winners += told.wins
            assert told.wins == (route is lookup.route and rule is lookup.rule)
            assert told.why == ("wins" if told.wins else over[id(route)])
    assert winners == (lookup.route is not None)


@every
def test_the_bits_are_those_of_the_addresses(make, place, destination, source, iif, mark) -> None:
    look = route_lookup(make(), place, destination, source=source, iif=iif, mark=mark)
    wanted = "".join(f"{int(octet):08b}" for octet in destination.split("."))
    assert look.told.bits == wanted
    for table in look.told.asked:
        for told in table.rows:
            text = told.text.removeprefix("default").strip() and told.text
            found = re.search(r"[0-9.]+(?:/(\d+))?", text.split(" via ")[0].split(" dev ")[0])
            length = 0 if told.text.startswith("default") else int((found and found[1]) or 32)
            assert told.length == length
            same = 0
            while same < length and told.bits[same] == wanted[same]:
                same += 1
            assert told.same == same
            assert told.differs == (f"bit {same + 1} differs" if same < length else "")


@every
def test_what_the_browser_shows_is_the_same_as_the_words(
    make, place, destination, source, iif, mark
) -> None:
    look = route_lookup(make(), place, destination, source=source, iif=iif, mark=mark)
    text = html.unescape(re.sub(r"<[^>]+>", "", look.body))
    for line in look.words.splitlines()[2:]:
        for part in re.split(r"\s{2,}|\N{EM DASH}|\N{BLACK RIGHT-POINTING TRIANGLE}", line):
            part = re.sub(r"(bit \d+ differs): .*", r"\1", part)
            plain = part.strip().rstrip(":").replace("rules,", "Rules,").replace("table ", "Table ")
            if not re.fullmatch(r"[01. ]+|cache.*|", plain):
                assert plain in text or part.strip() in text, (plain, text)
    assert look.body.count("<mark>") == sum(
        each.same < each.length for table in look.told.asked for each in table.rows
    )
    assert look.said in html.unescape(re.sub(r"<[^>]+>", "", look.fallback()))


@every
def test_the_tool_and_the_tables_agree_or_it_is_said_why_not(
    make, place, destination, source, iif, mark
) -> None:
    lab = make()
    look = route_lookup(lab, place, destination, source=source, iif=iif, mark=mark)
    _, lookup = asked(lab, place, destination, source, iif, mark)
    done = lab.run(place, look.told.command.partition("$ ")[2])
    assert look.told.output == (done.stdout or done.stderr).strip()
    if done.status == 0 and lookup.route and lookup.route.kind == "unicast":
        assert (f"dev {lookup.route.dev.name}" in done.stdout) == (not look.told.but)
    elif done.status and not lookup.error:
        assert look.told.but in look.said
        assert look.told.but.startswith("But ")


def test_each_control_moves_the_answer() -> None:
    look = route_lookup(two_enis(), "host", "10.0.2.9")
    assert "out by eth0, via 10.0.1.1. Rule 32766" in look.said
    look.source, look.iif = "10.0.1.42", "eni2f5353dd8c5"
    assert "out by eth1, via 10.0.1.1. Rule 1536 asks table 2" in look.said
    look.mark = 0x80
    assert "out by eth0, via 10.0.1.1. Rule 1024 asks table main" in look.said
    look.mark = "0"
    look.destination = "10.0.1.31"
    assert "Rule 512 asks table main" in look.said
    look.source = "pod-b"
    look.destination = "peer"
    assert "Rule 1536 asks table 2" in look.said
    look.source = look.iif = ""
    assert "Rule 32766" in look.said


def test_a_source_nobody_has_and_a_missing_source_are_told() -> None:
    look = route_lookup(crossroads(), "host", "198.51.100.9", source="9.9.9.9")
    assert look.said.endswith("But 9.9.9.9 is no address of host: nothing can be sent from it.")
    look.iif = "eth0"
    assert look.said.endswith("it is for another host and forwarding is off on eth0.")
    look = route_lookup(crossroads(), "south", "198.51.100.9", iif="eth0")
    assert look.said.endswith("But a packet that comes in by eth0 has a source: give one.")


NONSENSE = [
    ("destination", "10.20.1", "'10.20.1' isn't an IPv4 address"),
    ("destination", "", "'' isn't an IPv4 address"),
    ("destination", "10.20.1.256", "isn't an IPv4 address"),
    ("destination", "<b>x</b>", "'<b>x</b>' isn't an IPv4 address"),
    ("destination", "10.0.0.0/8", "isn't an IPv4 address"),
    ("destination", "::1", "isn't an IPv4 address"),
    ("destination", "9" * 5000, "isn't an IPv4 address"),
    ("source", "nobody", "or one of the places host, north, south, town"),
    ("iif", "eth9", "host has no interface 'eth9'; it has eth0, eth1"),
    ("mark", "many", "'many' isn't a mark"),
    ("mark", "-1", "'-1' isn't a mark"),
    ("mark", "4294967296", "isn't a mark"),
    ("mark", "0x", "isn't a mark"),
]


@pytest.mark.parametrize(("field", "value", "sentence"), NONSENSE)
def test_nonsense_is_answered_by_a_sentence_in_place(field, value, sentence) -> None:
    look = route_lookup(crossroads(), "host")
    good = look.words
    before = getattr(look, field)
    setattr(look, field, value)
    assert sentence in look.words
    assert look.wrong == [field, look.said]
    assert len(look.said) < 200
    assert look.body == ""
    assert "<b>x" not in look.fallback()
    setattr(look, field, before)
    assert look.words == good
    assert look.wrong == []


def test_what_isnt_there_is_refused_at_once() -> None:
    for bad in ({"place": "nowhere"}, {"destination": "x"}, {"iif": "eth9"}, {"mark": "x"}):
        with pytest.raises(EkslearnError):
            route_lookup(**{"lab": crossroads(), "place": "host", **bad})


def test_the_browser_is_answered_whatever_it_sends() -> None:
    look = route_lookup(two_enis(), "host")
    answers: list[dict[str, object]] = []
    look.send = answers.append  # type: ignore[method-assign]
    look._hear({"serial": 3, "destination": "10.0.2.9", "source": "10.0.1.42", "mark": "0x80",
                "iif": "eni2f5353dd8c5"})  # fmt: skip
    assert "Rule 1024" in look.said
    for odd in ({}, {"destination": None}, {"mark": [1]}, {"iif": {"a": 1}}):
        look._hear({"serial": 4, **odd})
        assert look.wrong
    assert [each["serial"] for each in answers] == [3, 4, 4, 4, 4]


def test_looking_changes_nothing_and_says_the_same_again() -> None:
    lab = two_enis()
    before, lines = listings(lab), list(lab.lines)
    one = route_lookup(lab, "host", "10.0.2.9")
    two = route_lookup(two_enis(), "host", "10.0.2.9")
    assert (one.words, one.fallback(), repr(one)) == (two.words, two.fallback(), repr(two))
    assert (listings(lab), lab.lines) == (before, lines)


def test_a_lookup_follows_a_shell() -> None:
    lab = crossroads()
    look = route_lookup(lab, "host", "10.20.30.40")
    terminal = shell(lab, "host", follow=[look])
    terminal.type("ip route del 10.20.30.40")
    assert "10.20.30.0/24 is the longest" in look.said
    assert terminal.entries[-1]["notes"] == [look.said]
    terminal.undo()
    assert "10.20.30.40/32 is the longest" in look.said


def test_a_route_thrown_back_and_a_table_without_rows_are_told() -> None:
    lab = two_rooms()
    lab.run("red", "ip route add throw 203.0.113.0/24 table 7")
    lab.run("red", "ip rule add priority 100 lookup 7")
    lab.run("red", "ip rule add priority 101 not from 10.0.0.0/8 lookup 9")
    look: RouteLookup = route_lookup(lab, "red", "203.0.113.1")
    states = {rule.text.split(":")[0]: rule.state for rule in look.told.rules}
    assert states["100"] == states["101"] == "match, no route"
    assert "it throws the packet back" in look.words
    assert "asked by rule 101: it is empty" in look.words


def test_an_answer_is_there_in_far_less_than_a_tenth_of_a_second() -> None:
    look = route_lookup(two_enis(), "host", "10.0.2.9")
    times = []
    for number in range(30):
        start = time.perf_counter()
        look.destination = f"10.0.2.{number}"
        times.append(time.perf_counter() - start)
    assert sorted(times)[15] < 0.1
    assert len(json.dumps(look.get_state(), default=str)) < 60_000
