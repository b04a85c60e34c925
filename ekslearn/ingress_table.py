"""Every way into a cluster beside the others: what the pod sees, and who translated what.

Each row is read off a trace; nothing in it is known beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .cluster import Cluster
from .elb import TargetGroup
from .trace import Trace

TRIES = 8  # connections, until the balancer chooses the node that is wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one client's connection by one way in.

    ``arrives`` and ``pod_sees`` say whose the source address is: "client", the balancer's kind, or
    a node's name; empty where nothing came. ``reads`` is what a balancer adds to the data.
    ``dnat`` and ``snat`` are who translated, in order; ``nodes`` the nodes on the way; ``admits``
    the rules of security groups that let it in; ``reason`` and its chain are there where the
    connection failed.
    """

    way: str
    mode: str
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


def comparison(cluster: Cluster, client: str, *, node: str = "") -> list[Row]:
    """A row for each balancer, and for each port of a Service on the nodes alone.

    ``node`` is the one that is asked first, the first by default: where the balancer chooses among
    several, connections are made until it chooses this one, or ``TRIES`` were made. The cluster
    itself isn't changed. Raises EkslearnError for a client that isn't there.
    """
    scratch = cluster.copy()
    assert isinstance(scratch, Cluster)
    first = node or next(iter(scratch.machines))
    rows = []
    for way, mode, destination in ways(scratch, client, first):
        for _ in range(TRIES):
            trace = scratch.trace(client, destination)
            made = row(scratch, trace, way, mode)
            if first in made.nodes[:1] or not made.nodes:
                break
        rows.append(made)
    return rows


def ways(cluster: Cluster, client: str, node: str) -> Iterator[tuple[str, str, str]]:
    """Each way in: its name, its mode, and the address that ``client`` asks."""
    outside = cluster.fabric.outside(client)
    for place, each in cluster.elb.balancers.items():
        eni = next(iter(each.enis.values()))
        address = eni.public_ip if outside and eni.public_ip else eni.primary
        for one in each.listeners:
            yield place, _mode(cluster, place, one.group), f"{address}:{one.port}/{one.carries[0]}"
    behind = {_service(place, group) for place, each in cluster.elb.balancers.items()
              for one in each.listeners for group in one.groups}  # fmt: skip
    for service in cluster.services:
        for port in service.ports if service.key not in behind else ():
            if port.node_port:
                end = f"{cluster.address(node)}:{port.node_port}/{port.protocol}"
                yield f"service/{service.key}", f"NodePort, {service.external_policy}", end


def _service(place: str, group: TargetGroup) -> str:
    """The Service behind a target group, by NAMESPACE/NAME."""
    return f"{place.split('/')[1]}/{group.name.rpartition(' ')[2].partition(':')[0]}"


def _mode(cluster: Cluster, place: str, group: TargetGroup) -> str:
    """What a target group makes of a balancer."""
    policy = cluster.services[_service(place, group)].external_policy
    said = f"{group.kind.upper()} {group.target_type}, {policy}"
    kept = ", preserve on" if group.preserve_client_ip else ", preserve off"
    return said + kept if group.kind == "nlb" else said


def row(cluster: Cluster, trace: Trace, way: str, mode: str) -> Row:
    """What one trace says."""
    at_nodes = [each for each in trace.request if each.place in cluster.machines]
    at_pods = [each for each in trace.request if each.place in cluster.pods]
    kinds = {place: each.kind.upper() for place, each in cluster.elb.balancers.items()}
    dnat, snat, admits, reads, lost = list[str](), list[str](), list[str](), "", ""
    for step in trace.steps:
        chain = re.match(r"-A (\S+?)(-[A-Z0-9]{16})? ", step.because)
        who = f"{step.place} {chain[1]}" if chain else kinds.get(step.place, "")
        lost = f" ({who})" if chain and f"{step.place}: {step.decision}" in trace.reason else lost
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
        way=way, mode=mode, client=trace.source, arrives=sources[0], pod_sees=sources[1],
        reads=reads, dnat=tuple(dnat), snat=tuple(snat), admits=tuple(admits),
        nodes=tuple(dict.fromkeys(each.place for each in at_nodes)),
        verdict=trace.verdict + (f" ({trace.answer})" if trace.answer[:3].isdigit() else ""),
        reason="" if trace.verdict == "delivered" else trace.reason + lost,
    )  # fmt: skip


def _whose(cluster: Cluster, trace: Trace, address: str) -> str:
    """Whose address that is; the address itself if nobody's that is on the way."""
    known = {cluster.address(name): name for name in cluster.machines}
    for balancer in cluster.elb.balancers.values():
        known |= {str(eni.primary): balancer.kind.upper() for eni in balancer.enis.values()}
    return (known | {trace.request[0].src: "client"}).get(address, address)
