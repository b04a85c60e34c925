"""Lists of -m recent in the model: who is on one, for how long, and how long the list lives."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

import ekslearn.iptables  # noqa: F401 (adds the commands to the tools)
from ekslearn.linux import NetworkNamespace, World
from ekslearn.linux import netfilter as nf
from ekslearn.linux.packet import Packet, Skb
from ekslearn.tools import run

A, B, C = (IPv4Address(f"10.0.{n}.2") for n in (1, 2, 3))


def at(namespace: NetworkNamespace, src: IPv4Address) -> nf.Passage:
    packet = Packet(src=src, dst=C, protocol="udp", sport=1, dport=2)
    return nf.Passage(namespace, "OUTPUT", Skb(packet))


def listed(mask: IPv4Address = nf.WHOLE, **came: float) -> NetworkNamespace:
    """A namespace with a list L, and on it A or B since then; it is 100 s now."""
    namespace = NetworkNamespace(World(), "x")
    held = {"a": A, "b": B}
    found = nf.RecentList(mask, {held[name]: when for name, when in came.items()})
    namespace.netfilter.recent = {"L": found}
    namespace.world.clock = 100.0
    return namespace


@pytest.mark.parametrize(
    ("match", "came", "fulfilled", "after"),
    [
        ({"what": "set"}, {"b": 1}, True, {"b": 1, "a": 100}),
        ({"what": "set"}, {"a": 1, "b": 2}, True, {"b": 2, "a": 100}),
        ({"what": "set", "negated": True}, {}, False, {"a": 100}),
        ({"what": "rcheck"}, {"a": 1}, True, {"a": 1}),
        ({"what": "rcheck"}, {"b": 1}, False, {"b": 1}),
        ({"what": "rcheck", "negated": True}, {"b": 1}, True, {"b": 1}),
        ({"what": "rcheck", "seconds": 60}, {"a": 40}, True, {"a": 40}),
        ({"what": "rcheck", "seconds": 60}, {"a": 39.9}, False, {"a": 39.9}),
        ({"what": "rcheck", "seconds": 60, "reap": True}, {"a": 39.9}, False, {}),
        ({"what": "rcheck", "seconds": 60, "reap": True}, {"b": 1, "a": 50}, True, {"a": 50}),
        ({"what": "rcheck", "seconds": 60, "reap": True}, {"a": 50, "b": 1}, True,
         {"a": 50, "b": 1}),  # only the oldest of the list is looked at
        ({"what": "update"}, {"a": 1, "b": 2}, True, {"b": 2, "a": 100}),
        ({"what": "update"}, {"b": 2}, False, {"b": 2}),
        ({"what": "update", "seconds": 60}, {"a": 1}, False, {"a": 1}),
        ({"what": "update", "seconds": 60, "negated": True}, {"a": 1}, True, {"a": 100}),
        ({"what": "update", "seconds": 60, "negated": True}, {"a": 99}, False, {"a": 99}),
        ({"what": "update", "seconds": 60, "reap": True, "negated": True}, {"a": 1}, True,
         {"a": 100}),  # what is updated isn't reaped
        ({"what": "remove"}, {"a": 1, "b": 2}, True, {"b": 2}),
        ({"what": "remove"}, {"b": 2}, False, {"b": 2}),
    ],
)  # fmt: skip
def test_what_a_match_does_to_its_list(
    match: dict[str, object], came: dict[str, float], fulfilled: bool, after: dict[str, float]
) -> None:
    namespace = listed(**came)
    assert nf.Recent(name="L", **match).fulfilled(at(namespace, A)) is fulfilled
    names = {A: "a", B: "b"}
    held = namespace.netfilter.recent["L"].came
    assert [(names[ip], when) for ip, when in held.items()] == list(after.items())


def test_why_a_match_passes_a_packet_over() -> None:
    namespace = listed(a=39.5)
    match = nf.Recent(name="L", what="rcheck", seconds=60)
    for source, words in (A, "came 60.5 s ago"), (B, "isn't on it"):
        assert not match.fulfilled(at(namespace, source))
        assert match.saw(at(namespace, source)) == f"of the list L: the source {source} {words}"


def test_the_lists_mask_counts_not_the_rules() -> None:
    namespace = listed(IPv4Address("255.255.0.0"))
    nf.Recent(name="L", what="set", mask=nf.WHOLE).holds(at(namespace, A))
    assert list(namespace.netfilter.recent["L"].came) == [IPv4Address("10.0.0.0")]
    assert nf.Recent(name="L", what="rcheck").holds(at(namespace, B))


def test_a_list_lives_as_long_as_a_rule_names_it() -> None:
    namespace = NetworkNamespace(World(), "x")
    lists = namespace.netfilter
    run(namespace, "iptables -A OUTPUT -m recent --set --name L --mask 255.0.0.0")
    lists.recent["L"].put(A, 1.0)
    run(namespace, "iptables -t mangle -A OUTPUT -m recent --rcheck --name L")
    for text in ("*filter\n:K - [0:0]\n-A K -m recent --rcheck --name L\nCOMMIT\n",
                 "*filter\n-A OUTPUT -m recent --rcheck --name L\nCOMMIT\n"):  # fmt: skip
        run(namespace, "iptables-restore", stdin=text)  # all in one step: the list stays
        assert list(lists.recent["L"].came) == [A]
    run(namespace, "iptables -F OUTPUT")
    assert lists.recent["L"].mask == IPv4Address("255.0.0.0")  # mangle still has a rule
    run(namespace, "iptables -t mangle -F")
    assert not lists.recent
    run(namespace, "iptables -A OUTPUT -m recent --set --name L")
    assert (lists.recent["L"].mask, lists.recent["L"].came) == (nf.WHOLE, {})


def test_the_first_rule_of_a_name_gives_the_list_its_mask() -> None:
    namespace = NetworkNamespace(World(), "x")
    rules = [f"-A OUTPUT -m recent --set --name L --mask {mask}"
             for mask in ("255.0.0.0", "255.255.0.0", "255.255.255.0")]  # fmt: skip
    text = "\n".join(["*filter", *rules, "COMMIT", ""])
    assert run(namespace, "iptables-restore", stdin=text).status == 0
    assert namespace.netfilter.recent["L"].mask == IPv4Address("255.0.0.0")
