"""The comparison of ways in: read off traces, so it changes with what decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ekslearn
from ekslearn.cluster import Cluster
from ekslearn.ingress_table import comparison
from tests.matrix.cells import SERVICE, Cell, load, scenario

ALB = Cell("ALB", "instance", "Cluster", "off", "here", "secondary")
NLB = Cell("NLB", "ip", "Local", "on", "elsewhere", "primary")
CLASSIC = Cell("Classic", "instance", "Local", "off", "here", "primary")
NODEPORT = Cell("NodePort", "instance", "Cluster", "off", "here", "secondary")


def test_a_row_for_each_way_in() -> None:
    lab = load([ALB, NLB, CLASSIC, NODEPORT])
    before = lab.run("node-a", "conntrack -L")
    rows = comparison(lab, "laptop")
    assert {one.way: (one.mode, one.arrives, one.pod_sees, one.reads) for one in rows} == {
        ALB.way: ("ALB instance, Cluster", "ALB", "node-a", "X-Forwarded-For"),
        NLB.way: ("NLB ip, Local, preserve on", "client", "client", ""),
        CLASSIC.way: ("CLB instance, Local", "CLB", "CLB", "nothing"),
        NODEPORT.way: ("NodePort, Cluster", "client", "node-a", ""),
    }
    assert all(one.verdict == "delivered" and not one.reason for one in rows)
    assert lab.run("node-a", "conntrack -L") == before  # asked on a copy


def test_rows_come_from_the_tables() -> None:
    """One rule less on the node, and the row is another: only where that rule decided."""
    lab = load([ALB, NLB])
    for rule in lab.run("node-a", "iptables-save -t nat").stdout.splitlines():
        if rule.startswith("-A KUBE-EXT") and rule.endswith("KUBE-MARK-MASQ"):
            lab.wire([f"node-a$ iptables -t nat -D{rule[2:]}"])
    whole, broken = ({one.way: one for one in comparison(each, "browser")}
                     for each in (load([ALB, NLB]), lab))  # fmt: skip
    assert broken[NLB.way] == whole[NLB.way]
    assert broken[ALB.way] == replace(whole[ALB.way], pod_sees="ALB", snat=())


def test_what_the_application_can_read(tmp_path: Path) -> None:
    kept = "preserve_client_ip.enabled=true"
    for cell, old, new, said in (
        (NLB, kept, f"{kept},proxy_protocol_v2.enabled=true", "PROXY v2"),
        (CLASSIC, f"{{{SERVICE}", f"{{{SERVICE}proxy-protocol: '*', {SERVICE}", "PROXY TCP4"),
    ):  # fmt: skip
        path = tmp_path / "one.yaml"
        path.write_text(scenario([cell]).replace(old, new), encoding="utf-8")
        lab = ekslearn.load(path)
        assert isinstance(lab, Cluster)
        assert [one.reads for one in comparison(lab, "browser")] == [said]


def test_what_is_lost_has_a_reason() -> None:
    lab = load([NODEPORT, replace(NODEPORT, endpoint="none")])
    lost = {one.way: one.reason for one in comparison(lab, "laptop")}
    assert lost[replace(NODEPORT, endpoint="none").way] == (
        "node-a: drop, and tell the sender (node-a KUBE-EXTERNAL-SERVICES)"
    )
    lab = load([NODEPORT])
    [row] = comparison(lab, "browser")
    assert row.verdict == "dropped" and row.reason
    [row] = comparison(lab, "laptop", node="node-b")
    assert row.nodes == ("node-b", "node-a") and row.pod_sees == "node-b"
    lab.vpc.security_groups["nodes"].rules["ingress"].clear()
    [row] = comparison(lab, "laptop")
    assert (row.verdict, row.admits, row.nodes) == ("dropped", (), ())
