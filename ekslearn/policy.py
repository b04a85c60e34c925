"""NetworkPolicies: read from manifests, and enforced as the VPC CNI's agent does.

Source: Kubernetes API reference, "NetworkPolicy networking.k8s.io/v1";
aws/amazon-network-policy-controller-k8s (pkg/resolvers/endpoints.go, pkg/k8s/service_utils.go),
which turns selectors into addresses; aws/aws-network-policy-agent
(pkg/ebpf/c/tc.v4ingress.bpf.c and tc.v4egress.bpf.c, pkg/fwruleprocessor, pkg/rpc), whose programs
stand at TC on the host end of a pod's veth. Not modelled: its limit of 24 pairs of protocol and
port for one address, replicas that find their node's maps loaded, the clean-up of remembered flows
every 300 s, ClusterNetworkPolicy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network

from .document import Node
from .kubernetes.fields import check_object
from .kubernetes.pod import Pod, port_name, protocol
from .kubernetes.service import Service
from .linux import Decision, Link, Packet, World
from .vpc.security import ANYWHERE, VpcRow

OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
SIDES = {"ingress": "from", "egress": "to"}
SIDES_OF_VETH = (("ingress", "egress"), ("egress", "ingress"))  # the link's way, and the pod's
NAME_LABEL = "kubernetes.io/metadata.name"  # every namespace bears it (KEP-2161)
DELAY_S = 2.0  # until a pod's policies are loaded: 1 to 2 s (aws-network-policy-agent issue 345)
STAGE = "network policy, AWS as documented"  # no kernel is asked
ALLOW, DENY, APPLIED = "default allow", "default deny", "policies applied"  # states of a pod


@dataclass(frozen=True, slots=True)
class Selector:
    """Chooses pods or namespaces by their labels; without conditions it chooses all.

    An expression is (key, operator, values).
    """

    labels: dict[str, str] = field(default_factory=dict)
    expressions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether something with these labels is chosen."""
        there = self.labels.items() <= labels.items()
        for key, how, values in self.expressions:
            found = key in labels if "Exist" in how else labels.get(key) in values
            there = there and found == (how in ("In", "Exists"))
        return there


@dataclass(frozen=True, slots=True)
class PolicyPort:
    """A protocol, and a port by number or name, to ``end`` if that isn't 0; None is any."""

    protocol: str
    port: int | str | None = None
    end: int = 0

    def holds(self, packet: Packet) -> bool:
        """Whether a packet is of this protocol and goes to one of these ports."""
        first = self.port if isinstance(self.port, int) else 0
        last = max(first, self.end) or 65535
        return packet.protocol == self.protocol and first <= (packet.dport or 0) <= last

    def __str__(self) -> str:
        ports = "-".join(str(each) for each in (self.port, self.end) if each)
        return f"{self.protocol}/{ports}" if ports else self.protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRule:
    """Admits one peer by ``ports``, () for any: an address block, or pods by labels.

    A rule of a manifest is one of these for each of its peers; the controller makes of it one for
    each address, as the agent's maps hold it. ``origin`` says where the rule stands.
    """

    origin: str
    ports: tuple[PolicyPort, ...] = ()
    pods: Selector = Selector()
    namespaces: Selector = Selector()
    block: IPv4Network | None = ANYWHERE
    excepts: tuple[IPv4Network, ...] = ()

    def at(
        self, address: IPv4Network, port_of: Callable[[int | str, str], int | None]
    ) -> list[PolicyRule]:
        """The rule for one address; none if it names ports and not one is found there."""
        ports = [
            replace(one, port=found)
            for one in self.ports
            if (found := one.port and port_of(one.port, one.protocol)) or not one.port
        ]
        fits = bool(ports) == bool(self.ports)
        return [replace(self, block=address, ports=tuple(ports))] if fits else []

    def __str__(self) -> str:
        but = f" except {', '.join(map(str, self.excepts))}" if self.excepts else ""
        return f"{self.block}{but} {' '.join(map(str, self.ports)) or 'any'} ({self.origin})"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicy:
    """Isolates the pods it selects, but for what its rules admit.

    ``rules`` has a key for each way it isolates them, "ingress" and "egress".
    """

    name: str
    namespace: str = "default"
    pods: Selector = Selector()
    rules: dict[str, tuple[PolicyRule, ...]]

    def selects(self, pod: Pod) -> bool:
        """Whether it is about this pod; one on its node's network is never selected."""
        mine = pod.namespace == self.namespace and not pod.host_network
        return mine and self.pods.selects(pod.labels)


def read_network_policy(manifest: Node) -> NetworkPolicy:
    """The policy of one manifest; EkslearnError, with file, line and field, if it can't be one."""
    space, name = check_object(manifest, "NetworkPolicy")
    spec = manifest.value["spec"]
    found = spec.fields(optional=("podSelector", "policyTypes", *SIDES))
    rules = {way: tuple(each for n, one in enumerate(spec.items(way), 1) for each in _rules(
        one, SIDES[way], space, f"NetworkPolicy {space}/{name}, {way} rule {n}"
    )) for way in SIDES}  # fmt: skip
    ways = [one.known(("Ingress", "Egress"), "policy type").lower()
            for one in spec.items("policyTypes")]  # fmt: skip
    ways = ways or ["ingress"] + ["egress"] * bool(rules["egress"])
    return NetworkPolicy(name=name, namespace=space, rules={way: rules[way] for way in ways},
                         pods=read_selector(found.get("podSelector")))  # fmt: skip


def _rules(node: Node, side: str, namespace: str, origin: str) -> list[PolicyRule]:
    node.fields(optional=(side, "ports"))
    own = Selector({NAME_LABEL: namespace})
    rule = PolicyRule(origin=origin, ports=tuple(map(_port, node.items("ports"))), namespaces=own)
    return [_peer(one, rule) for one in node.items(side)] or [rule]


def _peer(node: Node, rule: PolicyRule) -> PolicyRule:
    found = node.fields(optional=("podSelector", "namespaceSelector", "ipBlock"))
    if not found or ("ipBlock" in found and len(found) > 1):
        node.refuse("a peer is an ipBlock alone, or a podSelector, a namespaceSelector or both")
    if "ipBlock" not in found:
        spaces = found.get("namespaceSelector")
        return replace(rule, block=None, pods=read_selector(found.get("podSelector")),
                       namespaces=read_selector(spaces) if spaces else rule.namespaces)  # fmt: skip
    block = found["ipBlock"].fields("cidr", optional=("except",))["cidr"].network()
    holes = found["ipBlock"].items("except")
    for hole in holes:
        if hole.network() == block or not hole.network().subnet_of(block):
            hole.refuse(f"{hole.value} isn't a part of {block}, from which it is to be excepted")
    return replace(rule, block=block, excepts=tuple(hole.network() for hole in holes))


def _port(node: Node) -> PolicyPort:
    found = node.fields(optional=("protocol", "port", "endPort"))
    number, end, port = found.get("port"), found.get("endPort"), None
    if number:
        port = port_name(number) if isinstance(number.value, str) else number.whole(1, 65535)
    if end and not isinstance(port, int):
        end.refuse("endPort needs a port with a number, where the range begins")
    return PolicyPort(protocol(node), port, end.whole(int(port or 0), 65535) if end else 0)


def read_selector(node: Node | None) -> Selector:
    """A label selector; one that isn't there chooses all."""
    expressions = []
    for one in node.items("matchExpressions") if node else ():
        found = one.fields("key", "operator", optional=("values",))
        how = found["operator"].known(OPERATORS, "operator")
        values = tuple(each.expect(str) for each in one.items("values"))
        if bool(values) != (how in OPERATORS[:2]):
            one.refuse(f"{how} takes no values" if values else f"{how} needs values")
        expressions.append((found["key"].expect(str), how, values))
    if node:
        node.fields(optional=("matchLabels", "matchExpressions"))
    return Selector(node.texts("matchLabels") if node else {}, tuple(expressions))


def judge(entries: Sequence[PolicyRule], far: IPv4Address, packet: Packet) -> VpcRow:
    """The first entry that lets a packet from or to ``far`` pass, else that none does.

    The agent's map finds the longest prefix only. An entry is copied into narrower ones inside it;
    an exception isn't, so it holds against a wider entry of another rule as well.
    """
    around = [one for one in entries if one.block and far in one.block]
    found = [each for one in around for each in (one.block, *one.excepts) if each and far in each]
    longest = max(found, key=lambda each: each.prefixlen, default=ANYWHERE)
    passed: list[str] = []
    for one in entries:
        if one not in around:
            why = f"{far} isn't in it"
        elif any(far in each for each in one.excepts):
            why = f"{far} is excepted"
        elif all(each.block != longest for each in around):
            why = f"another rule excepts {longest}, and the longest prefix decides"
        elif one.ports and not any(port.holds(packet) for port in one.ports):
            why = "it is other traffic"
        else:
            return VpcRow(str(one), tuple(passed))
        passed.append(f"{one} — {why}")
    return VpcRow("no rule allows it", tuple(passed), admits=False)


@dataclass(slots=True, eq=False)
class Guard:
    """A pod as the agent of its node knows it: since when, and the flows that were let through.

    ``node`` is its node's primary address, ``link`` the host end of its veth. A flow is kept with
    the state the pod was in then.
    """

    pod: Pod
    ip: IPv4Address
    node: IPv4Address
    link: Link | None
    since: float
    flows: dict[tuple[object, ...], str] = field(default_factory=dict)


class PolicyAgent:
    """The controller and every node's agent: which policies there are, and whom they guard.

    ``mode`` is NETWORK_POLICY_ENFORCING_MODE: until its policies are loaded a pod is open in
    "standard", shut in "strict"; with any other nothing is enforced. In standard mode the add-on's
    enableNetworkPolicy, off by default, is taken to be on once there is a policy. Loading takes
    ``delay_s``, and so does news of another pod's address. ``from_start`` is False for older
    agents, whose programs came no earlier than the policies in standard mode (pull request 361).
    ``namespaces`` are the labels of namespaces.
    """

    def __init__(
        self, world: World, mode: str = "standard", *, services: Iterable[Service] = (),
        delay_s: float = DELAY_S, from_start: bool = True,
    ) -> None:  # fmt: skip
        self.world, self.mode, self.services = world, mode, services
        self.delay_s, self.from_start = delay_s, from_start
        self.namespaces: dict[str, dict[str, str]] = {}
        self._policies: dict[tuple[str, str], tuple[NetworkPolicy, float]] = {}
        self._guards: dict[str, Guard] = {}

    def apply(self, policy: NetworkPolicy) -> None:
        """Take in a policy, or change one."""
        self._policies[policy.namespace, policy.name] = policy, self.world.clock
        self.enforce()

    def withdraw(self, namespace: str, name: str) -> None:
        """Forget a policy, at once."""
        del self._policies[namespace, name]

    def started(self, pod: Pod, ip: IPv4Address, node: IPv4Address, link: Link | None) -> None:
        """A pod is there, behind ``link``; one on its node's network has none and isn't guarded."""
        guard = self._guards[pod.place] = Guard(pod, ip, node, link, self.world.clock)
        self._enforce(guard)

    def stopped(self, place: str) -> None:
        """A pod is gone, and its veth with it."""
        self._guards.pop(place, None)

    def enforce(self, on: bool = True) -> None:
        """Put the programs on every pod's veth, if there is any use for them, or take them off.

        Without them remains what a kernel can be asked about.
        """
        for guard in self._guards.values():
            self._enforce(guard, on)

    def _enforce(self, guard: Guard, on: bool = True) -> None:
        use = self.mode == "strict" or (self.mode == "standard" and self._policies)
        if link := guard.link:  # what leaves the pod comes in here
            link.filters = {way: partial(self._judged, guard, link, other) for way, other in
                            (SIDES_OF_VETH if on and use else ())}  # fmt: skip

    def state(self, place: str) -> str:
        """What a pod's programs go by: its policies, or the mode while none is loaded."""
        loaded = self._loaded(self._guards[place])
        return APPLIED if loaded else DENY if self.mode == "strict" else ALLOW

    def entries(self, place: str, way: str) -> list[PolicyRule]:
        """What the map of a pod's "ingress" or "egress" program holds."""
        guard = self._guards[place]
        own = [one.rules[way] for one in self._loaded(guard) if way in one.rules]
        rules = own or [(PolicyRule(origin=f"no policy isolates {place} for {way}"),)]
        node = PolicyRule(origin="its own node is let through", block=IPv4Network(guard.node))
        return [node, *(each for some in rules for rule in some
                        for each in self._resolved(rule, way, guard))]  # fmt: skip

    def _judged(self, guard: Guard, link: Link, way: str, packet: Packet) -> bool:
        """Judge a packet: one that leaves the pod before kube-proxy's DNAT, one for it behind."""
        place, flows = guard.pod.place, guard.flows
        state = self.state(place)
        ends = (packet.src, packet.sport), (packet.dst, packet.dport)
        flow, back = (packet.protocol, *ends), (packet.protocol, *ends[::-1])
        known = flows.get(flow)
        row = VpcRow(f"{self.mode} mode, no policy is loaded: {state}", (), state != DENY)
        if state != DENY and not known and back in flows:
            row = VpcRow("the answer to a flow the agent knows")
        elif state == APPLIED:
            far = packet.dst if way == "egress" else packet.src
            row = (
                VpcRow("a flow the agent knows")
                if known == APPLIED
                else judge(self.entries(place, way), far, packet)
            )
        if not row.admits:
            flows.pop(flow, None)
        elif back not in flows and (state == APPLIED or self.from_start):
            flows[flow] = state
        if self.world.recorder:
            said = f"{way} of {place}: {'admitted' if row.admits else 'not admitted'}"
            told = Decision(link.namespace, STAGE, said, row, packet, lost=not row.admits)
            self.world.recorder.decision(told)
        return row.admits

    def _loaded(self, guard: Guard) -> list[NetworkPolicy]:
        return [policy for policy, since in self._policies.values()
                if policy.selects(guard.pod) and self._told(max(since, guard.since))]  # fmt: skip

    def _told(self, since: float) -> bool:
        return since + self.delay_s <= self.world.clock

    def _resolved(self, rule: PolicyRule, way: str, guard: Guard) -> list[PolicyRule]:
        """A rule in addresses: a block's machines have no ports by name that anybody knows."""
        if rule.block:
            return rule.at(rule.block, lambda port, _: port if isinstance(port, int) else None)
        found = []
        for other in self._guards.values():
            pod, target = other.pod, guard.pod if way == "ingress" else other.pod
            if self._told(other.since) and self._chosen(rule, pod.namespace, pod.labels):
                found += rule.at(IPv4Network(other.ip), target.port)
        for each in self.services if way == "egress" else ():
            if each.cluster_ip and self._chosen(rule, each.namespace, each.selector):
                found += rule.at(IPv4Network(each.cluster_ip), partial(self._service_port, each))
        return found

    def _chosen(self, rule: PolicyRule, namespace: str, labels: Mapping[str, str]) -> bool:
        bears = {NAME_LABEL: namespace, **self.namespaces.get(namespace, {})}
        return rule.namespaces.selects(bears) and rule.pods.selects(labels)

    def _service_port(self, service: Service, port: int | str, protocol: str) -> int | None:
        """The Service's own port for a port of its pods: by its targetPort, or as a pod has it."""
        pods = [one.pod for one in self._guards.values() if service.selector
                and (one.pod.namespace, one.pod.labels | service.selector)
                == (service.namespace, one.pod.labels)]  # fmt: skip
        for one in service.ports:
            means = any(pod.port(port, protocol) == pod.port(one.target, protocol) for pod in pods)
            if one.protocol == protocol and (one.target == port or means):
                return one.port
        return None
