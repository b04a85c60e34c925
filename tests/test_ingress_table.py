"""Rows of ways in: read off traces, so they change with what decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ekslearn
from ekslearn.cluster import Cluster
from ekslearn.ingress_table import Row, row
from tests.matrix.cells import NODE, SERVICE, Cell, load, scenario
from tests.matrix.played import tries, ways

ALB = Cell("ALB", "instance", "Cluster", "off", "here", "secondary")
NLB = Cell("NLB", "ip", "Local", "on", "elsewhere", "primary")
CLASSIC = Cell("Classic", "instance", "Local", "off", "here", "primary")
NODEPORT = Cell("NodePort", "instance", "Cluster", "off", "here", "secondary")


def rows(lab: Cluster, client: str, node: str = NODE) -> dict[str, Row]:
    """A row for each way in, asked on a copy."""
    model = lab.copy()
    assert isinstance(model, Cluster)
    return {way: [row(model, trace) for _, trace in tries(model, client, end, node)][-1]
            for way, end in ways(model, client, node)}  # fmt: skip


def test_a_row_for_each_way_in() -> None:
    made = rows(load([ALB, NLB, CLASSIC, NODEPORT]), "laptop")
    assert {way: (one.arrives, one.pod_sees, one.reads) for way, one in made.items()} == {
        ALB.way: ("ALB", "node-a", "X-Forwarded-For"),
        NLB.way: ("client", "client", ""),
        CLASSIC.way: ("CLB", "CLB", "nothing"),
        NODEPORT.way: ("client", "node-a", ""),
    }
    assert all(one.verdict == "delivered" and not one.reason for one in made.values())


def test_rows_come_from_the_tables() -> None:
    """One rule less on the node, and the row is another: only where that rule decided."""
    lab = load([ALB, NLB])
    for rule in lab.run("node-a", "iptables-save -t nat").stdout.splitlines():
        if rule.startswith("-A KUBE-EXT") and rule.endswith("KUBE-MARK-MASQ"):
            lab.wire([f"node-a$ iptables -t nat -D{rule[2:]}"])
    whole, broken = (rows(each, "browser") for each in (load([ALB, NLB]), lab))
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
        assert [one.reads for one in rows(lab, "browser").values()] == [said]


def test_what_is_lost_has_a_reason() -> None:
    lab = load([NODEPORT, replace(NODEPORT, endpoint="none")])
    assert rows(lab, "laptop")[replace(NODEPORT, endpoint="none").way].reason == (
        "node-a: filter KUBE-EXTERNAL-SERVICES: drop, and tell the sender"
    )
    lab = load([NODEPORT])
    [one] = rows(lab, "browser").values()
    assert one.verdict == "dropped" and one.reason
    [one] = rows(lab, "laptop", "node-b").values()
    assert one.nodes == ("node-b", "node-a") and one.pod_sees == "node-b"
    lab.vpc.security_groups["nodes"].rules["ingress"].clear()
    [one] = rows(lab, "laptop").values()
    assert (one.verdict, one.admits, one.nodes) == ("dropped", (), ())
