"""kube-proxy in nftables mode: what it feeds to ``nft`` for the same Services, as text alone.

The second dialect of what ``proxy`` writes for iptables: verdict maps find a Service by its address
and port at once, one rule draws the endpoint, and sets with a timeout remember a client. The model
doesn't run it; ``nft -f`` takes it. Source: Kubernetes 1.33, pkg/proxy/nftables/proxier.go
(syncProxyRules, writeServiceToEndpointRules).
"""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network

from ..paths import data_path
from .endpoints import SERVICE_CIDR, Backed
from .proxy import Choice, choose
from .service import Endpoint

LONGEST = 240  # of a chain's name without its kind; what is longer is cut off (hashAndTruncate)


def chain(kind: str, backed: Backed, endpoint: Endpoint | None = None) -> str:
    """What a chain, or a set, of one Service's port or endpoint is called.

    ``kind`` is "service", "local", "external", "endpoint" or "affinity".
    """
    service, port = backed.service, backed.port
    name = f"{service.namespace}/{service.name}/{port.protocol}/{port.name}"
    if endpoint:
        name += f"__{endpoint.ip}/{endpoint.port}"
    name = f"{b32encode(sha256(name.encode()).digest()).decode()[:8]}-{name}"
    return f"{kind}-{name if len(name) <= LONGEST else name[: LONGEST - 3] + '...'}"


def rule_set(
    ports: Sequence[Backed], node: str, address: IPv4Address, cidr: IPv4Network = SERVICE_CIDR
) -> str:
    """What kube-proxy on ``node``, whose primary address is ``address``, feeds to ``nft -f``.

    ``cidr`` is the range of ClusterIPs: one that isn't given to a Service is dropped.
    """
    base = data_path("kube-proxy.nft").read_text(encoding="utf-8")
    base = base.replace("NODE", str(address)).replace("CIDR", str(cidr))
    lines = [line for line in base.splitlines() if line[0] != "#"]
    chosen = [choose(one, node) for one in ports if one.service.cluster_ip]
    return "".join(f"{line}\n" for line in [*lines, *(row for one in chosen for row in rules(one))])


def rules(choice: Choice) -> list[str]:
    """What is added for one port of a Service: chains, elements of maps and sets, and rules."""
    return [f"add {what} ip kube-proxy {rest}" for what, rest in _rules(choice)]


def _rules(choice: Choice) -> Iterator[tuple[str, str]]:
    backed, service, port = choice.backed, choice.backed.service, choice.backed.port
    own, local, outer = (chain(kind, backed) for kind in ("service", "local", "external"))
    inside, beyond = (local if policy == "Local" else own
                      for policy in (service.internal_policy, service.external_policy))  # fmt: skip
    ends = {own: choice.cluster, local: choice.local}
    reached = bool(port.node_port or service.external_ips)
    for one in choice.reachable:
        yield "chain", chain("endpoint", backed, one)
    for each in (own, local):
        if ends[each]:
            yield "chain", each
    if choice.anywhere and reached:
        yield "chain", outer
    yield "element", f"cluster-ips {{ {service.cluster_ip} }}"
    refusal = "drop" if choice.anywhere else "goto reject-chain"
    said = f'comment "{backed.name}"'
    key = f"{service.cluster_ip} . {port.protocol} . {port.port}"
    if ends[inside]:
        yield "element", f"service-ips {{ {key} : goto {inside} }}"
    else:
        yield "element", f"no-endpoint-services {{ {key} {said} : {refusal} }}"
    doors = [("services", "service-ips", f"{ip} . {port.protocol} . {port.port}")
             for ip in service.external_ips]  # fmt: skip
    if port.node_port:
        doors.append(("nodeports", "service-nodeports", f"{port.protocol} . {port.node_port}"))
    for kind, where, key in doors:
        if choice.anywhere:
            yield "element", f"{where} {{ {key} : goto {outer} }}"
        if not ends[beyond]:
            yield "element", f"no-endpoint-{kind} {{ {key} {said} : {refusal} }}"
    if choice.anywhere and reached:
        if service.external_policy == "Local":
            host = f"{outer} fib saddr type local"
            yield "rule", f'{host} jump mark-for-masquerade comment "masquerade local traffic"'
            yield "rule", f'{host} goto {own} comment "short-circuit local traffic"'
        else:
            yield "rule", f"{outer} jump mark-for-masquerade"
        if ends[beyond]:
            yield "rule", f"{outer} goto {beyond}"
    if service.affinity_s:
        timeout = f"timeout {service.affinity_s}s"
        for one in choice.reachable:
            name = chain("affinity", backed, one)
            yield "set", f"{name} {{ type ipv4_addr ; flags dynamic,timeout ; {timeout} ; }}"
    for each, endpoints in ends.items():
        if endpoints:
            yield from (("rule", f"{each} {rule}") for rule in _balance(backed, endpoints))
    for one in choice.reachable:
        end = chain("endpoint", backed, one)
        yield "rule", f"{end} ip saddr {one.ip} jump mark-for-masquerade"
        if service.affinity_s:
            yield "rule", f"{end} update @{chain('affinity', backed, one)} {{ ip saddr }}"
        yield "rule", f"{end} meta l4proto {port.protocol} dnat to {one}"


def _balance(backed: Backed, endpoints: Sequence[Endpoint]) -> Iterator[str]:
    """Who is remembered goes where it went; anybody else is sent to one of them by the dice."""
    if backed.service.affinity_s:
        for one in endpoints:
            known = f"@{chain('affinity', backed, one)}"
            yield f"ip saddr {known} goto {chain('endpoint', backed, one)}"
    goals = (f"{at} : goto {chain('endpoint', backed, one)}" for at, one in enumerate(endpoints))
    yield f"numgen random mod {len(endpoints)} vmap {{ {' , '.join(goals)} }}"
