"""kube-proxy in iptables mode: the rules it writes for Services, and kubelet's few beside them.

As on EKS: an empty clusterCIDR, so it can't tell pods from others (no rule masquerades what comes
from elsewhere, none short-cuts a pod's way to a load balancer), and no address of a load balancer,
for AWS publishes names. Source: Kubernetes 1.31, pkg/proxy/iptables/proxier.go (syncProxyRules),
pkg/proxy/topology.go, pkg/kubelet/kubelet_network_linux.go.
"""

from __future__ import annotations

import re
from base64 import b32encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from .endpoints import Backed
from .service import Endpoint

MASQUERADE = "0x4000"  # the mark of what POSTROUTING is to masquerade
MANY = 1000  # with more endpoints than these, rules lose their comments
NEW = "-m conntrack --ctstate NEW "
# Where the built-in chains jump: table, chain, jump, condition, comment. Each is put first, so they
# end up in reverse.
JUMPS = (
    ("filter", "INPUT", "KUBE-FIREWALL", "", ""),
    ("filter", "OUTPUT", "KUBE-FIREWALL", "", ""),
    ("filter", "INPUT", "KUBE-EXTERNAL-SERVICES", NEW, "kubernetes externally-visible service"
     " portals"),
    ("filter", "FORWARD", "KUBE-EXTERNAL-SERVICES", NEW, "kubernetes externally-visible service"
     " portals"),
    ("filter", "INPUT", "KUBE-NODEPORTS", "", "kubernetes health check service ports"),
    ("filter", "FORWARD", "KUBE-SERVICES", NEW, "kubernetes service portals"),
    ("filter", "OUTPUT", "KUBE-SERVICES", NEW, "kubernetes service portals"),
    ("filter", "FORWARD", "KUBE-FORWARD", "", "kubernetes forwarding rules"),
    ("filter", "INPUT", "KUBE-PROXY-FIREWALL", NEW, "kubernetes load balancer firewall"),
    ("filter", "OUTPUT", "KUBE-PROXY-FIREWALL", NEW, "kubernetes load balancer firewall"),
    ("filter", "FORWARD", "KUBE-PROXY-FIREWALL", NEW, "kubernetes load balancer firewall"),
    ("nat", "OUTPUT", "KUBE-SERVICES", "", "kubernetes service portals"),
    ("nat", "PREROUTING", "KUBE-SERVICES", "", "kubernetes service portals"),
    ("nat", "POSTROUTING", "KUBE-POSTROUTING", "", "kubernetes postrouting rules"),
)  # fmt: skip
FIREWALL = (
    '-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet'
    ' connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP'
)
# A chain that is only there to be missed: kubelet's and kube-proxy's sign that rules were flushed.
CANARIES = "KUBE-KUBELET-CANARY", "KUBE-PROXY-CANARY"
OWN = re.compile(r":(KUBE-(?:SVC|SVL|EXT|FW|SEP)-\w+) ")


def chain(kind: str, name: str, protocol: str, endpoint: str = "") -> str:
    """What a chain of one Service's port, or endpoint, is called; ``kind`` is SVC, SEP and so on.

    >>> chain("SVC", "kube-system/kube-dns:dns", "udp")
    'KUBE-SVC-TCOU7JCQXEZGVUNU'
    """
    digest = sha256(f"{name}{protocol}{endpoint}".encode()).digest()
    return f"KUBE-{kind}-{b32encode(digest).decode()[:16]}"


@dataclass(frozen=True, slots=True)
class Choice:
    """What one node does for one port of a Service: which endpoints each policy leaves it.

    ``cluster`` are those of everywhere, ``local`` those of this node; where none is ready, those
    that are about to go but still serve (KEP-1669). ``anywhere`` says whether there are any at all.
    """

    backed: Backed
    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    anywhere: bool

    @property
    def reachable(self) -> tuple[Endpoint, ...]:
        """All that some rule of this node leads to."""
        both = {*self.cluster, *self.local}
        return tuple(one for one in self.backed.endpoints if one in both)


def choose(backed: Backed, node: str) -> Choice:
    """The endpoints that kube-proxy on ``node`` takes for a port (CategorizeEndpoints)."""
    service, every = backed.service, backed.endpoints
    anywhere = _usable(every)
    uses_local = "Local" in (
        service.internal_policy, service.external_policy if service.external else "",
    )  # fmt: skip
    uses_cluster = service.internal_policy == "Cluster" or service.external or service.external_ips
    local = _usable([one for one in every if one.node == node]) if uses_local else ()
    return Choice(backed, anywhere if uses_cluster else (), local, bool(anywhere))


def _usable(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    ready = tuple(one for one in endpoints if one.ready)
    return ready or tuple(one for one in endpoints if one.serving and one.terminating)


@dataclass(slots=True)
class Rules:
    """The rule set of one node on its way: chains and rules of both tables, in kube-proxy's order.

    ``comments`` is false in a large cluster, where kube-proxy saves itself those of Services.
    """

    comments: bool = True
    chains: dict[str, list[str]] = field(default_factory=lambda: {
        "filter": ["KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS",
                   "KUBE-PROXY-FIREWALL"],
        "nat": ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"],
    })  # fmt: skip
    rules: dict[str, list[str]] = field(default_factory=lambda: {"filter": [], "nat": []})

    def put(self, table: str, chain: str, rule: str, comment: str = "") -> None:
        """Append a rule."""
        said = f'-m comment --comment "{comment}" ' if comment else ""
        self.rules[table].append(f"-A {chain} {said}{rule}")

    def text(self) -> str:
        """What iptables-restore reads."""
        parts = []
        for table, rules in self.rules.items():
            heads = [f":{one} - [0:0]" for one in self.chains[table]]
            parts += [f"*{table}", *heads, *rules, "COMMIT"]
        return "\n".join([*parts, ""])

    # One Service's port

    def add(self, choice: Choice) -> None:
        """Write the rules for one port of a Service."""
        backed, service, port = choice.backed, choice.backed.service, choice.backed.port
        protocol, name = port.protocol, backed.name
        svc, svl, ext = (chain(kind, name, protocol) for kind in ("SVC", "SVL", "EXT"))
        inside = svl if service.internal_policy == "Local" else svc
        beyond = svl if service.external_policy == "Local" else svc
        ends = {svc: choice.cluster, svl: choice.local}
        inner, outer = bool(ends[inside]), bool(ends[beyond])
        refusal = ("REJECT", "has no endpoints")
        if choice.anywhere:
            refusal = ("DROP", "has no local endpoints")
        here = f"-m {protocol} -p {protocol} -d {service.cluster_ip} --dport {port.port}"
        if inner:
            self.put("nat", "KUBE-SERVICES", f"{here} -j {inside}", f"{name} cluster IP")
        else:
            self.put("filter", "KUBE-SERVICES", f"{here} -j {refusal[0]}", f"{name} {refusal[1]}")
        for ip in service.external_ips:
            there = f"-m {protocol} -p {protocol} -d {ip} --dport {port.port}"
            self._outside("KUBE-SERVICES", there, there, f"{name} external IP", ext, choice,
                          "" if outer else refusal)  # fmt: skip
        if port.node_port:
            end = f"-m {protocol} -p {protocol} --dport {port.node_port}"
            self._outside("KUBE-NODEPORTS", end, f"-m addrtype --dst-type LOCAL {end}", name, ext,
                          choice, "" if outer else refusal)  # fmt: skip
        if service.health_check_node_port:
            rule = f"-m tcp -p tcp --dport {service.health_check_node_port} -j ACCEPT"
            self.put("filter", "KUBE-NODEPORTS", rule, f"{name} health check node port")
        if choice.anywhere and (port.node_port or service.external_ips):
            self._external(ext, svc, beyond if outer else "", name, service.external_policy)
        for own, endpoints in ends.items():
            if endpoints and (own == svl or choice.cluster):
                self._balance(own, choice, endpoints)
        for one in choice.reachable:
            self._endpoint(choice, one)

    def _outside(
        self, first: str, rule: str, filtered: str, comment: str, ext: str, choice: Choice,
        refusal: tuple[str, str] | str,
    ) -> None:  # fmt: skip
        if choice.anywhere:
            self.put("nat", first, f"{rule} -j {ext}", comment)
        if refusal:
            said = f"{choice.backed.name} {refusal[1]}"
            self.put("filter", "KUBE-EXTERNAL-SERVICES", f"{filtered} -j {refusal[0]}", said)

    def _external(self, ext: str, svc: str, beyond: str, name: str, policy: str) -> None:
        """The chain that everything from outside goes through."""
        self.chains["nat"].append(ext)
        if policy == "Cluster":  # the endpoint may be on another node, and must answer by this one
            said = f"masquerade traffic for {name} external destinations"
            self.put("nat", ext, "-j KUBE-MARK-MASQ", said)
        else:
            for verb, target in (("masquerade", "KUBE-MARK-MASQ"), ("route", svc)):
                said = f"{verb} LOCAL traffic for {name} external destinations"
                self.put("nat", ext, f"-m addrtype --src-type LOCAL -j {target}", said)
        if beyond:
            self.put("nat", ext, f"-j {beyond}")

    def _balance(self, own: str, choice: Choice, endpoints: Sequence[Endpoint]) -> None:
        """The chain that picks one of the endpoints, each with the same chance."""
        backed = choice.backed
        self.chains["nat"].append(own)
        seps = [chain("SEP", backed.name, backed.port.protocol, str(one)) for one in endpoints]
        said = [f"{backed.name} -> {one}" * self.comments for one in endpoints]
        if seconds := backed.service.affinity_s:
            for sep, comment in zip(seps, said, strict=True):
                seen = f"-m recent --name {sep} --rcheck --seconds {seconds} --reap"
                self.put("nat", own, f"{seen} -j {sep}", comment)
        for left, sep, comment in zip(range(len(seps), 0, -1), seps, said, strict=True):
            dice = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
            self.put("nat", own, f"{dice}-j {sep}", comment)

    def _endpoint(self, choice: Choice, endpoint: Endpoint) -> None:
        """The chain of one endpoint: its own connections are masqueraded, all are translated."""
        backed, protocol = choice.backed, choice.backed.port.protocol
        sep, said = chain("SEP", backed.name, protocol, str(endpoint)), backed.name * self.comments
        self.chains["nat"].append(sep)
        self.put("nat", sep, f"-s {endpoint.ip} -j KUBE-MARK-MASQ", said)
        seen = f"-m recent --name {sep} --set " if backed.service.affinity_s else ""
        self.put("nat", sep, f"{seen}-m {protocol} -p {protocol} -j DNAT --to-destination"
                 f" {endpoint}", said)  # fmt: skip


def rule_set(ports: Sequence[Backed], node: str, nat: str = "") -> str:
    """What kube-proxy on ``node`` feeds to ``iptables-restore --noflush``.

    ``nat`` is that table as ``iptables-save`` shows it: chains of Services that have gone are
    deleted. The Services stand in the order of their names, where kube-proxy's own is random.
    """
    made = Rules(comments=sum(len(one.endpoints) for one in ports) <= MANY)
    unmarked = f"-m mark ! --mark {MASQUERADE}/{MASQUERADE} -j RETURN"
    made.put("nat", "KUBE-POSTROUTING", unmarked)
    made.put("nat", "KUBE-POSTROUTING", f"-j MARK --xor-mark {MASQUERADE}")
    made.put("nat", "KUBE-POSTROUTING", "-j MASQUERADE --random-fully",
             "kubernetes service traffic requiring SNAT")  # fmt: skip
    made.put("nat", "KUBE-MARK-MASQ", f"-j MARK --or-mark {MASQUERADE}")
    for one in ports:
        if one.service.cluster_ip:
            made.add(choose(one, node))
    for gone in OWN.findall(nat):
        if gone not in made.chains["nat"]:
            made.chains["nat"].append(gone)
            made.rules["nat"].append(f"-X {gone}")
    made.put("nat", "KUBE-SERVICES", "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
             "kubernetes service nodeports; NOTE: this must be the last rule in this chain"
             )  # fmt: skip
    made.put("filter", "KUBE-FORWARD", "-m conntrack --ctstate INVALID -j DROP")
    made.put("filter", "KUBE-FORWARD", f"-m mark --mark {MASQUERADE}/{MASQUERADE} -j ACCEPT",
             "kubernetes forwarding rules")  # fmt: skip
    made.put("filter", "KUBE-FORWARD", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
             "kubernetes forwarding conntrack rule")  # fmt: skip
    return made.text()


def start_lines(node: str) -> list[str]:
    """What kubelet and kube-proxy do to a node once: their chains, and the jumps to them."""
    return [f"{node}$ {command}" for command in _start()]


def _start() -> Iterator[str]:
    yield "sysctl -q -w net.ipv4.conf.all.route_localnet=1"  # so that 127.0.0.1 has NodePorts
    tables = ("mangle", "nat", "filter")
    first = {table: list(CANARIES) for table in tables}
    for table, _, target, _, _ in JUMPS:
        first[table].append(target)
    for table, chains in first.items():
        for one in dict.fromkeys(chains):
            yield f"iptables -t {table} -N {one}"
    yield f"iptables -t filter {FIREWALL}"
    for table, hook, target, condition, comment in JUMPS:
        said = f'-m comment --comment "{comment}" ' if comment else ""
        yield f"iptables -t {table} -I {hook} {condition}{said}-j {target}"


class KubeProxy:
    """kube-proxy on every node: ``written`` is what it last wrote there."""

    def __init__(self) -> None:
        self.written: dict[str, str] = {}

    def lines(self, node: str, ports: Sequence[Backed], nat: Callable[[], str]) -> list[str]:
        """What it does now: nothing, if nothing changed.

        ``nat`` lists that table as iptables-save does; it is asked only where there is work to do.
        """
        wanted = rule_set(ports, node)
        if self.written.get(node) == wanted:
            return []
        first = [] if node in self.written else start_lines(node)
        self.written[node] = wanted
        text = rule_set(ports, node, nat())
        return [*first, f"{node}$ iptables-restore --noflush <<'EOF'\n{text}EOF"]
