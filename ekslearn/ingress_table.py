"""A way into a cluster as one row: what the pod sees, who translated what, who admitted it.

Each row is read off a trace; nothing in it is known beforehand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .cluster import Cluster
from .trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one client's connection by one way in.

    ``arrives`` and ``pod_sees`` say whose the source address is: "client", the balancer's kind, or
    a node's name; empty where nothing came. ``reads`` is what a balancer adds to the data.
    ``dnat`` and ``snat`` are who translated, in order; ``nodes`` the nodes on the way; ``admits``
    the rules of security groups that let it in; ``reason`` is there where the connection failed.
    """

    client: str
    arrives: str
    pod_sees: str
    reads: str
    dnat: tuple[str, ...]
    snat: tuple[str, ...]
    nodes: tuple[str, ...]
    verdict: str
    reason: str
    admits: tuple[str, ...]


def row(cluster: Cluster, trace: Trace) -> Row:
    """What one trace through ``cluster`` says."""
    at_nodes = [each for each in trace.request if each.place in cluster.machines]
    at_pods = [each for each in trace.request if each.place in cluster.pods]
    kinds = {place: each.kind.upper() for place, each in cluster.elb.balancers.items()}
    dnat, snat, admits, reads = list[str](), list[str](), list[str](), ""
    for step in trace.steps:
        chain = re.match(r"-A (\S+?)(-[A-Z0-9]{16})? ", step.because)
        who = f"{step.place} {chain[1]}" if chain else kinds.get(step.place, "")
        adds = re.search(r"(?:it adds|before the data:) (nothing|X-[\w-]+|PROXY \w+)", step.because)
        reads = adds[1] if adds else reads
        if step.decision.startswith("bind the connection's destination"):
            dnat.append(who)
        elif step.decision.startswith("bind the connection's source"):
            snat.append(who)
        elif step.stage == "elb rewrite":
            dnat.append(who)
            came = next(each for each in trace.request if each.place == step.place)
            snat += [who] if step.header["src"] != came.src else []
        elif step.stage == "vpc security group" and step.decision == "ingress: admitted":
            admits.append(step.because.replace(" ingress:", ":"))
    sources = [_whose(cluster, trace, seen[0].src) if seen else "" for seen in (at_nodes, at_pods)]
    return Row(
        client=trace.source, arrives=sources[0], pod_sees=sources[1],
        reads=reads, dnat=tuple(dnat), snat=tuple(snat), admits=tuple(admits),
        nodes=tuple(dict.fromkeys(each.place for each in at_nodes)),
        verdict=trace.verdict + (f" ({trace.answer})" if trace.answer[:3].isdigit() else ""),
        reason="" if trace.verdict == "delivered" else trace.reason,
    )  # fmt: skip


def _whose(cluster: Cluster, trace: Trace, address: str) -> str:
    """Whose address that is; the address itself if nobody's that is on the way."""
    known = {cluster.address(name): name for name in cluster.machines}
    for balancer in cluster.elb.balancers.values():
        known |= {str(eni.primary): balancer.kind.upper() for eni in balancer.enis.values()}
    return (known | {trace.request[0].src: "client"}).get(address, address)
