"""The ledger without a browser: every header out of a trace, every refusal a sentence."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from typing import Any

import pytest

import ekslearn
from ekslearn.cluster import Cluster
from ekslearn.draw.hops import admitted, header_table, hops
from ekslearn.errors import EkslearnError
from ekslearn.ingress_table import Row
from ekslearn.widgets import Ledger, ledger
from ekslearn.widgets.modes import CHOICES, Way

ADDRESS = re.compile(r"\b(?:\d+\.){3}\d+(?::\d+)?")


@cache
def lab() -> Cluster:
    made = ekslearn.load("ingress")
    assert isinstance(made, Cluster)
    return made


@cache
def book() -> Ledger:
    return ledger(lab())


def way(**chosen: str) -> Way:
    book().choose(balancer="alb", targets="instance", policy="Cluster", preserve="", pod="here")
    book().choose(**chosen)
    return book().way


def row(one: Way) -> Row:
    assert one.row, one.refused
    return one.row


# The facts' master table: whom the pod sees, by balancer, target type, policy and preservation.
SEEN = {
    ("alb", "instance", "Cluster", ""): "node-a",
    ("alb", "instance", "Local", ""): "lb/shop/web",
    ("alb", "ip", "Cluster", ""): "lb/shop/web",
    ("alb", "ip", "Local", ""): "lb/shop/web",
    ("nlb", "instance", "Cluster", ""): "node-a",
    ("nlb", "instance", "Cluster", "true"): "node-a",
    ("nlb", "instance", "Cluster", "false"): "node-a",
    ("nlb", "instance", "Local", ""): "browser",
    ("nlb", "instance", "Local", "true"): "browser",
    ("nlb", "instance", "Local", "false"): "lb/shop/web",
    ("nlb", "ip", "Cluster", ""): "lb/shop/web",
    ("nlb", "ip", "Cluster", "true"): "browser",
    ("nlb", "ip", "Cluster", "false"): "lb/shop/web",
    ("nlb", "ip", "Local", ""): "lb/shop/web",
    ("nlb", "ip", "Local", "true"): "browser",
    ("nlb", "ip", "Local", "false"): "lb/shop/web",
    ("clb", "instance", "Cluster", ""): "node-a",
    ("clb", "instance", "Local", ""): "lb/shop/web",
}


@pytest.mark.parametrize("pod", ["here", "far"])
def test_the_pod_sees_whom_the_facts_say(pod: str) -> None:
    there = {}
    for one in book().ways:
        if one.choice[-1] == pod and not one.refused:
            assert row(one).verdict == "delivered", one
            there[one.choice[:-1]] = one.sees.partition(", ")[2]
    assert there == SEEN


def test_who_translates_and_how_many_nodes_are_passed() -> None:
    for one in book().ways:
        if not one.sees:
            continue
        balancer, targets, policy, preserve, pod = one.choice
        by_node = targets == "instance"
        at_nodes = [[each for each in who if "KUBE-" in each]
                    for who in (row(one).dnat, row(one).snat)]  # fmt: skip
        assert [len(each) for each in at_nodes] == [by_node, by_node and policy == "Cluster"]
        by_balancer = ["NLB" in who for who in (row(one).dnat, row(one).snat)]
        kept = preserve == "true" or (preserve == "" and by_node)
        assert by_balancer == [balancer == "nlb", balancer == "nlb" and not kept]
        assert len(row(one).nodes) == (2 if by_node and policy == "Cluster" and pod == "far" else 1)
        assert one.rows[0].start.startswith("browser")
        assert one.rows[-1].end.startswith("browser")
        for hop in one.rows:  # whatever changed was changed by somebody
            assert bool(hop.changed) == bool(hop.by), hop


def test_what_cant_be_is_refused_in_somebodys_words() -> None:
    said = Counter(one.refused.split(":")[0] for one in book().ways if one.refused)
    assert sum(said.values()) == 54
    assert "Application" in way(preserve="true").refused
    assert way(balancer="clb", preserve="false").refused
    assert "only the AWS Load Balancer Controller" in way(balancer="clb", targets="ip").refused
    assert "502" in row(way(pod="none")).verdict
    assert "503" in row(way(targets="ip", pod="none")).verdict
    assert row(way(balancer="nlb", pod="none")).verdict == "rejected"


def test_other_ports_and_addresses_change_every_row() -> None:
    """No row knows an address: another Service range and nodePort, another VPC and client."""
    text = lab().text
    for old, new in {"172.20.": "172.21.", "31380": "31999", "10.0.": "10.7.", "203.0.113.7":
                     "203.0.114.8", "8080": "8088"}.items():  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    other = ekslearn.load(text)
    assert isinstance(other, Cluster)
    for mine, theirs in zip(book().ways, ledger(other).ways, strict=True):
        assert (mine.choice, mine.refused) == (theirs.choice, theirs.refused)
        assert mine.row is theirs.row is None or row(mine).verdict == row(theirs).verdict
        assert len(mine.rows) == len(theirs.rows)
        for old_row, new_row in zip(mine.rows, theirs.rows, strict=True):
            assert (old_row.src, old_row.dst) != (new_row.src, new_row.dst)
            ports = [each.rpartition(":")[2] for each in (new_row.src, new_row.dst)]
            assert "31380" not in ports and "8080" not in ports


def test_only_the_node_port_changes_where_a_node_is_called() -> None:
    other = ekslearn.load(lab().text.replace("31380", "31999"))
    assert isinstance(other, Cluster)
    changed = Counter(
        mine.choice[1]
        for mine, theirs in zip(book().ways, ledger(other).ways, strict=True)
        if [(row.src, row.dst) for row in mine.rows] != [(row.src, row.dst) for row in theirs.rows]
    )
    called = [one for one in book().ways
              if one.choice[1] == "instance" and one.row and one.row.nodes]  # fmt: skip
    assert changed["instance"] == len(called) > 20
    assert changed["ip"] == 0


def test_a_lost_rule_is_seen_in_the_ledger() -> None:
    """Without the restored mark, the answer of a pod of eth1 leaves by the wrong ENI."""
    broken = lab().copy()
    assert isinstance(broken, Cluster)
    for node in broken.machines:
        broken.run(node, "iptables -t mangle -F PREROUTING")
    found = ledger(broken, balancer="nlb", policy="Local", pod="here")
    whole = book().ways[found.at]
    assert (row(found.way).verdict, row(whole).verdict) == ("dropped", "delivered")
    assert found.way.sees  # the request came
    assert "the browser's view is: dropped" in found.now


def test_the_lab_itself_stays_as_it_is() -> None:
    one = ekslearn.load("ingress")
    assert isinstance(one, Cluster)
    before = one.run("node-a", "iptables-save").stdout, list(one.elb.balancers), list(one.pods)
    ledger(one)
    after = one.run("node-a", "iptables-save").stdout, list(one.elb.balancers), list(one.pods)
    assert before == after


def test_the_browser_gets_what_the_words_say() -> None:
    data = json.loads(json.dumps(book().ledger_data))
    sizes = [len(each["values"]) for each in data["choices"]]
    total = 1
    for size in sizes:
        total *= size
    assert len(data["ways"]) == total == len(book().ways)
    for number, one in enumerate(book().ways):
        page = data["pages"][data["ways"][number]]
        book().at = number
        assert page["summary"] == book().now
        assert [row["cells"][2:4] for row in page["rows"]] == [[h.src, h.dst] for h in one.rows]
        if one.refused:
            assert one.refused in page["summary"] and page["rows"] == []
        else:
            assert f"{one.name}: {one.short}" in book().words
    book().at = 10**6
    assert book().at == total - 1


def test_the_page_of_comparison_has_a_line_for_each_mode() -> None:
    page = book().comparison()
    lines = {(name, policy): made for name, policy, made in page.lines}
    assert len(lines) == len(page.lines) == page.html().count("<tr>") // 2 == 15
    bastion = f"{lab().address('bastion')}/32"
    assert not ADDRESS.search(page.words.replace("0.0.0.0/0", "").replace(bastion, ""))
    kept = lines["NLB instance, client preserved", "Local"]
    assert (kept.pod_sees, kept.dnat, kept.snat) == ("client", ("NLB", "node-b KUBE-SEP"), ())
    assert lines["NLB ip, client not preserved", "any"].snat == ("NLB",)
    assert lines["CLB instance", "Cluster"].nodes == ("node-a", "node-b")
    port = {(name[12:], policy): made for (name, policy), made in lines.items() if "Port" in name}
    assert {which: made.pod_sees for which, made in port.items()} == {
        ("the pod's node", "Cluster"): "node-b", ("another node", "Cluster"): "node-a",
        ("the pod's node", "Local"): "client", ("another node", "Local"): "",
    }  # fmt: skip
    lost = port["another node", "Local"]
    assert (lost.verdict, lost.client) == ("dropped", "bastion")
    assert f"node admits tcp 31380 from {bastion}" in page.words
    assert "k8s-shop-web admits tcp 443 from 0.0.0.0/0; node admits tcp 31380 from k8s-traffic" in (
        page.words
    )


def test_the_page_comes_from_the_tables() -> None:
    """One rule less, and the page is another; with no machine in the VPC, no port is called."""
    broken = lab().copy()
    assert isinstance(broken, Cluster)
    broken.vpc.security_groups["node"].rules["ingress"].clear()  # nor do nodes admit each other
    page = ledger(broken).comparison()
    lines = {(name, policy): made for name, policy, made in page.lines}
    assert lines["ALB instance", "Cluster"].nodes == ("node-b",)  # node-a's checks are lost
    assert lines["ALB instance", "Local"].pod_sees == "ALB"
    for text in (re.sub(r"\n.*name: bastion.*", "", lab().text),
                 lab().text.replace("selector: {app: web}", "selector: {app: wob}")):  # fmt: skip
        alone = ekslearn.load(text)
        assert isinstance(alone, Cluster)
        assert not [name for name, *_ in ledger(alone).comparison().lines if "NodePort" in name]


def test_bad_choices_get_a_sentence() -> None:
    for given, said in (
        ({"balancer": "elb"}, "there are 'alb', 'nlb', 'clb'"),
        ({"colour": "red"}, "is no choice"),
        ({"service": "shop/wob"}, "there is no Service"),
        ({"source": "nobody"}, "nobody"),
    ):
        with pytest.raises(EkslearnError, match=said):
            ledger(lab(), **given)
    assert list(CHOICES) == ["balancer", "targets", "policy", "preserve", "pod"]


def test_hops_of_a_call_that_is_lost_end_where_it_is() -> None:
    closed = lab().copy()
    assert isinstance(closed, Cluster)
    closed.vpc.security_groups["node"].rules["ingress"].clear()
    trace = closed.trace("browser", "lb/shop/web:443")
    assert trace.verdict == "dropped"
    last = hops(trace)[-1]
    assert last.start.startswith("lb/shop/web") and last.end == ""
    assert "no rule, so deny" in admitted(trace)[-1]
    assert header_table(trace).splitlines()[-1].startswith("dropped: node-")


def test_a_lab_of_bare_namespaces_has_no_ways_in() -> None:
    rooms: Any = ekslearn.load("two-rooms")
    with pytest.raises(EkslearnError, match="two-rooms is no Cluster: it has no Services"):
        ledger(rooms, "red", "shop/web")
