"""kube-proxy in iptables mode: the rules it writes for Services, and kubelet's few beside them.

As on EKS: an empty clusterCIDR, so it can't tell pods from others (no rule masquerades what comes
from elsewhere, none short-cuts a pod's way to a load balancer), and no address of a load balancer,
for AWS publishes names. Source: Kubernetes 1.31, pkg/proxy/iptables/proxier.go (syncProxyRules),
pkg/proxy/topology.go, pkg/kubelet/kubelet_network_linux.go.
"""

from __future__ import annotations

import re
from base64 import b32encode
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from ..paths import data_path
from .endpoints import Backed
from .service import Endpoint

MANY = 1000  # with more endpoints than these, rules lose their comments
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
    outside = backed.port.node_port or service.external_ips
    uses_local = "Local" in (service.internal_policy, service.external_policy if outside else "")
    uses_cluster = service.internal_policy == "Cluster" or outside
    local = _usable([one for one in every if one.node == node]) if uses_local else ()
    return Choice(backed, anywhere if uses_cluster else (), local, bool(anywhere))


def _usable(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    ready = tuple(one for one in endpoints if one.ready)
    return ready or tuple(one for one in endpoints if one.serving and one.terminating)


@dataclass(slots=True)
class Rules:
    """The rule set of one node on its way: what Services add to both tables, in kube-proxy's order.

    ``comments`` is false in a large cluster, where kube-proxy saves itself those of Services.
    """

    comments: bool = True
    rows: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def put(self, table: str, chain: str, rule: str, comment: str = "") -> None:
        """Append a rule."""
        said = f'-m comment --comment "{comment}" ' if comment else ""
        self.rows[table].append(f"-A {chain} {said}{rule}\n")

    def head(self, chain: str) -> None:
        """Begin a chain of the table nat."""
        self.rows["chains"].append(f":{chain} - [0:0]\n")

    def text(self) -> str:
        """What iptables-restore reads: this, amid what is always there."""
        frame = data_path("kube-proxy.restore").read_text(encoding="utf-8")
        rows = {each: "".join(self.rows[each]) for each in ("chains", "filter", "nat")}
        return frame[frame.index("*filter") :].format(**rows)

    # One Service's port

    def add(self, choice: Choice) -> None:
        """Write the rules for one port of a Service."""
        backed, service, port = choice.backed, choice.backed.service, choice.backed.port
        protocol, name = port.protocol, backed.name
        svc, svl, ext = (chain(kind, name, protocol) for kind in ("SVC", "SVL", "EXT"))
        inside = svl if service.internal_policy == "Local" else svc
        beyond = svl if service.external_policy == "Local" else svc
        ends = {svc: choice.cluster, svl: choice.local}
        verdict = "DROP" if choice.anywhere else "REJECT"
        why = "has no local endpoints" if choice.anywhere else "has no endpoints"
        spoken = f"-m {protocol} -p {protocol}"
        here = f"{spoken} -d {service.cluster_ip} --dport {port.port}"
        if ends[inside]:
            self.put("nat", "KUBE-SERVICES", f"{here} -j {inside}", f"{name} cluster IP")
        else:
            self.put("filter", "KUBE-SERVICES", f"{here} -j {verdict}", f"{name} {why}")
        doors = [("KUBE-SERVICES", "", f"{spoken} -d {ip} --dport {port.port}",
                  f"{name} external IP") for ip in service.external_ips]  # fmt: skip
        if port.node_port:
            doors.append(("KUBE-NODEPORTS", "-m addrtype --dst-type LOCAL ",
                          f"{spoken} --dport {port.node_port}", name))  # fmt: skip
        for first, local, rule, comment in doors:
            if choice.anywhere:
                self.put("nat", first, f"{rule} -j {ext}", comment)
            if not ends[beyond]:
                self.put("filter", "KUBE-EXTERNAL-SERVICES", f"{local}{rule} -j {verdict}",
                         f"{name} {why}")  # fmt: skip
        if service.health_check_node_port:
            rule = f"-m tcp -p tcp --dport {service.health_check_node_port} -j ACCEPT"
            self.put("filter", "KUBE-NODEPORTS", rule, f"{name} health check node port")
        if choice.anywhere and doors:
            self._external(ext, svc, beyond if ends[beyond] else "", name, service.external_policy)
        for own, endpoints in ends.items():
            if endpoints:
                self._balance(own, choice, endpoints)
        for one in choice.reachable:
            self._endpoint(choice, one)

    def _external(self, ext: str, svc: str, beyond: str, name: str, policy: str) -> None:
        """The chain that everything from outside goes through."""
        self.head(ext)
        said, local = f"traffic for {name} external destinations", "-m addrtype --src-type LOCAL"
        if policy == "Cluster":  # the endpoint may be on another node, and must answer by this one
            self.put("nat", ext, "-j KUBE-MARK-MASQ", f"masquerade {said}")
        else:
            self.put("nat", ext, f"{local} -j KUBE-MARK-MASQ", f"masquerade LOCAL {said}")
            self.put("nat", ext, f"{local} -j {svc}", f"route LOCAL {said}")
        if beyond:
            self.put("nat", ext, f"-j {beyond}")

    def _balance(self, own: str, choice: Choice, endpoints: Sequence[Endpoint]) -> None:
        """The chain that picks one of the endpoints, each with the same chance."""
        backed = choice.backed
        self.head(own)
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
        self.head(sep)
        self.put("nat", sep, f"-s {endpoint.ip} -j KUBE-MARK-MASQ", said)
        seen = f"-m recent --name {sep} --set " if backed.service.affinity_s else ""
        self.put("nat", sep, f"{seen}-m {protocol} -p {protocol} -j DNAT --to-destination"
                 f" {endpoint}", said)  # fmt: skip


def rule_set(ports: Sequence[Backed], node: str, nat: str = "") -> str:
    """What kube-proxy on ``node`` feeds to ``iptables-restore --noflush``.

    ``nat`` is that table as ``iptables-save`` shows it: chains of Services that have gone are
    deleted. The Services stand in the order of their names, where kube-proxy's own is random.
    """
    ports = [one for one in ports if one.service.cluster_ip]
    made = Rules(comments=sum(len(one.endpoints) for one in ports) <= MANY)
    for one in ports:
        made.add(choose(one, node))
    for gone in OWN.findall(nat):
        if f":{gone} - [0:0]\n" not in made.rows["chains"]:
            made.head(gone)
            made.rows["nat"].append(f"-X {gone}\n")
    return made.text()


def start_lines(node: str) -> list[str]:
    """What kubelet and kube-proxy do to a node once: their chains, and the jumps to them."""
    lines = data_path("kube-proxy.iptables").read_text(encoding="utf-8").splitlines()
    return [f"{node}$ {line}" for line in lines if line[0] != "#"]


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
        here = f"<<'EOF'\n{rule_set(ports, node, nat())}EOF"
        return [*first, f"{node}$ iptables-restore --noflush {here}"]
