"""What a name costs in packets, and which ENI pays."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from ekslearn.dns import CoreDns, Query, queries, resolv_conf, service_names
from ekslearn.kubernetes import Service
from ekslearn.vpc.resolver import LIMIT, Resolver

KUBE_DNS = IPv4Address("172.20.0.10")
CONF = resolv_conf("shop", KUBE_DNS, "eu-west-1")
KNOWN = {"api.github.com", "a.b.c.d.e.example", "web.shop.svc.cluster.local",
         "pay.bank.svc.cluster.local"}  # fmt: skip


def asked(name: str, **changes: int) -> list[Query]:
    return queries(name, replace(CONF, **changes), KNOWN.__contains__)


def test_the_file_that_a_pod_reads() -> None:
    assert str(CONF) == (
        "search shop.svc.cluster.local svc.cluster.local cluster.local eu-west-1.compute.internal\n"
        "nameserver 172.20.0.10\n"
        "options ndots:5"
    )
    assert resolv_conf("shop", KUBE_DNS, "us-east-1").search[-1] == "ec2.internal"


@pytest.mark.parametrize(("name", "ndots", "count"), [
    ("api.github.com", 5, 10),  # the facts' own numbers
    ("api.github.com.", 5, 2),
    ("api.github.com", 2, 2),
    ("api.github.com", 3, 10),
    ("a.b.c.d.e.example", 5, 2),  # five dots are enough
    ("web", 5, 2),
    ("web.shop", 5, 4),
    ("pay.bank", 5, 4),
    ("pay.bank.svc", 5, 6),
    ("pay.bank.svc.cluster.local", 5, 10),  # four dots: even the full name
    ("pay.bank.svc.cluster.local.", 5, 2),
    ("nowhere.example", 5, 10),
    ("nowhere.example", 1, 10),  # a failure tries the endings afterwards
    ("nowhere.example.", 5, 2),
])  # fmt: skip
def test_how_many_questions_a_name_costs(name: str, ndots: int, count: int) -> None:
    assert len(asked(name, ndots=ndots)) == count


def test_in_which_order_they_are_asked() -> None:
    names = [each.name for each in asked("api.github.com")]
    assert names[::2] == names[1::2] == [
        "api.github.com.shop.svc.cluster.local", "api.github.com.svc.cluster.local",
        "api.github.com.cluster.local", "api.github.com.eu-west-1.compute.internal",
        "api.github.com",
    ]  # fmt: skip
    assert [each.kind for each in asked("web")] == ["A", "AAAA"]
    assert [each.found for each in asked("web.shop")] == [False, False, True, True]
    assert asked("nowhere.example", ndots=1)[0].name == "nowhere.example"


def test_the_names_of_services() -> None:
    services = [Service(name="web", namespace="shop"), Service(name="pay", namespace="bank")]
    assert service_names(services) == {each for each in KNOWN if each.endswith("cluster.local")}


# CoreDNS and the resolver behind it


def test_coredns_answers_for_the_cluster_and_keeps_the_rest() -> None:
    dns = CoreDns("eni-1", Resolver())
    fates = [dns.ask(each, 0.0) for each in asked("api.github.com")]
    assert fates == ["own"] * 6 + ["forwarded"] * 4
    assert [dns.ask(each, 29.9) for each in asked("api.github.com")][6:] == ["kept"] * 4
    assert [dns.ask(each, 30.0) for each in asked("api.github.com")][6:] == ["forwarded"] * 4
    assert dns.ask(Query("cluster.local", "A", False), 0.0) == "own"
    assert dns.ask(Query("mycluster.local", "A", False), 0.0) == "forwarded"


def load(enis: list[str], names: int) -> Resolver:
    """So many different names asked for in one second, CoreDNS pods in turn, one at each ENI."""
    resolver = Resolver()
    pods = [CoreDns(eni, resolver) for eni in enis]
    for number in range(names):
        for query in queries(f"n{number}.example.", CONF, lambda _: True):
            pods[number % len(pods)].ask(query, 7.5)
    return resolver


def test_the_limit_is_per_eni_not_per_pod() -> None:
    names = LIMIT  # two questions each: twice what one ENI may ask
    one, same, spread = load(["a"], names), load(["a", "a"], names), load(["a", "b"], names)
    assert (one.sent["a", 7], one.exceeded["a"]) == (LIMIT, LIMIT)
    assert (same.sent["a", 7], same.exceeded["a"]) == (LIMIT, LIMIT), "two pods, one ENI"
    assert (spread.sent["a", 7], spread.sent["b", 7]) == (LIMIT, LIMIT)
    assert spread.exceeded.total() == 0


def test_each_second_begins_anew_and_what_was_dropped_isnt_kept() -> None:
    resolver = Resolver()
    for _ in range(LIMIT):
        assert resolver.admits("a", 1.0)
    dns, query = CoreDns("a", resolver), Query("example", "A", True)
    assert [dns.ask(query, clock) for clock in (1.9, 1.99, 2.0, 2.1)] == [
        "dropped", "dropped", "forwarded", "kept",
    ]  # fmt: skip
    assert resolver.exceeded["a"] == 2
