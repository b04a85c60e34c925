"""A load balancer: its ENIs, its listeners, how it chooses a target, and what it does then.

Application and Classic Load Balancers are proxies: they accept a connection and open one of their
own to the target. A Network Load Balancer changes the addresses of a flow's packets. Source:
Elastic Load Balancing user guides; the Application one's "Troubleshoot" for the status codes.

[model], since AWS doesn't publish it: the target of a flow is drawn by a hash with a seeded salt,
proxies go round from the first target; a Network Load Balancer's source port is drawn by the dice;
the answer of a flow with its client's address is handed to the balancer by the VPC; what comes to
a port without listener is dropped; where a proxy's answer is late, so is the model's SYN-ACK: a
real one is sent at once, and the answer after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from hashlib import sha256
from ipaddress import IPv4Address
from itertools import takewhile

from ..fabric import VpcRow
from ..linux import Decision, Link, NetworkNamespace, Packet
from ..linux import Flow as Asked
from ..linux.conntrack import PORTS, Tuple, rewritten, tuple_of
from ..linux.packet import Skb
from ..vpc.model import Eni
from ..vpc.security import SecurityGroup
from .group import ALB, CLB, NLB, PROTOCOLS, WIRE, Target, TargetGroup, refuse, within

MODEL = "[model]"
# What a browser is told: by how the connection to the target ended, and where there is no target.
BAD_GATEWAY, UNAVAILABLE, LATE, NO_RULE = (
    "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout", "404 Not Found",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Of an Application Load Balancer's listener: requests for a path go to a target group.

    ``host`` and each of ``paths`` is a pattern: * is any text, ? one character. An empty ``host``
    is any; capitals count in a path alone.
    """

    group: TargetGroup
    paths: tuple[str, ...] = ("/*",)
    host: str = ""

    def takes(self, host: str, path: str) -> bool:
        """Whether a request is for it."""
        named = _fits(self.host.lower() or "*", host.lower())
        return named and any(_fits(one, path) for one in self.paths)

    def __str__(self) -> str:
        return f"{self.host}{' '.join(self.paths)} -> {self.group.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A port that a balancer listens on, and the target group that it forwards to.

    ``rules`` are asked first, in order; ``group`` is for the rest, unless ``answers_404``.
    """

    protocol: str
    port: int
    group: TargetGroup
    rules: tuple[Rule, ...] = ()
    answers_404: bool = False

    @property
    def groups(self) -> list[TargetGroup]:
        """Every group it may forward to."""
        return list(dict.fromkeys([self.group, *(rule.group for rule in self.rules)]))

    def rule(self, request: str) -> Rule | None:
        """The rule that takes a request ("GET http://HOST/PATH")."""
        host, _, path = request.removeprefix("GET http://").partition("?")[0].partition("/")
        return next((rule for rule in self.rules if rule.takes(host, f"/{path}")), None)

    def goal(self, request: str) -> TargetGroup | None:
        """The group for a request; None if it answers 404."""
        rule = self.rule(request)
        return rule.group if rule else None if self.answers_404 else self.group

    @property
    def carries(self) -> tuple[str, ...]:
        """What it takes from the wire: tcp, udp or both."""
        return WIRE.get(self.protocol, ("tcp",))

    def __str__(self) -> str:
        return f"{self.protocol}:{self.port} -> {self.group.name}"


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection through a Network Load Balancer: what its client sends, what the target gets.

    ``header`` is what stands before a TCP client's data, if the group wants PROXY protocol.
    """

    front: Tuple
    back: Tuple
    eni: Eni
    header: str


class LoadBalancer:
    """One balancer, of kind alb, nlb or clb: one place with an interface in each subnet.

    ``enis`` are its ENIs by interface. ``Elb`` makes it, wires it and lets its time pass.
    """

    def __init__(self, namespace: NetworkNamespace, kind: str, scheme: str, enis: Mapping[str, Eni],
                 groups: Sequence[SecurityGroup], cross_zone: bool) -> None:  # fmt: skip
        self.place, self.kind, self.scheme = namespace.name, kind, scheme
        self.enis, self.cross_zone = dict(enis), cross_zone
        self.security_groups = list(groups)
        self.listeners: list[Listener] = []
        self.flows: dict[Tuple, Flow] = {}  # by what the client sends
        self.chosen: dict[Tuple, Target] = {}  # what a proxy did with a connection
        self._answers: dict[Tuple, Flow] = {}  # by what the target sends
        self._ns = namespace
        self._salt = namespace.world.random.getrandbits(32)
        self._turn: Counter[tuple[str, str]] = Counter()

    @property
    def zones(self) -> dict[str, Eni]:
        """The ENI in each zone that is enabled."""
        return {eni.subnet.zone: eni for eni in self.enis.values()}

    def addresses(self) -> list[IPv4Address]:
        """What its DNS name stands for: an address in each zone where a target is healthy.

        If there is none anywhere, all of them.
        """
        fine = [eni for zone, eni in self.zones.items() if any(
            target.state == "healthy" and (target.zone == zone or self._crosses(group))
            for each in self.listeners for group in each.groups for target in group.targets
        )]  # fmt: skip
        return [eni.public_ip or eni.primary for eni in fine or self.enis.values()]

    def add_listener(self, protocol: str, port: int, group: TargetGroup, rules: Sequence[Rule] = (),
                     *, answers_404: bool = False) -> Listener:  # fmt: skip
        """Listen; EkslearnError for what AWS refuses (CreateListener)."""
        spoken = PROTOCOLS[self.kind]
        refuse(protocol not in spoken, "listener protocol", self.place, ", ".join(spoken), protocol)
        within("Port", port, 1, 65535)
        refuse(rules and self.kind != ALB, "rules", self.place)
        made = Listener(protocol=protocol, port=port, group=group, rules=tuple(rules),
                        answers_404=answers_404)  # fmt: skip
        for other in self.listeners:
            refuse(other.port == port, "listener twice", self.place, port)
        for each in made.groups:
            refuse(each.kind != self.kind, "other kind", each.name, each.kind)
            taken = each.balancer not in ("", self.place)
            refuse(taken, "other balancer", each.name, each.balancer)
            layer = self.kind == CLB and ("HTTP" in protocol) != ("HTTP" in each.protocol)
            wrong = made.carries != each.carries or layer
            refuse(wrong, "other protocol", protocol, each.name, each.protocol)
        self.listeners.append(made)
        for each in made.groups:
            if not each.balancer:
                each.balancer = self.place
                for target in each.targets:
                    self.take(each, target)
        for eni in self.enis.values() if self.kind != NLB else ():
            self._ns.sockets.listen(eni.primary, port, "tcp", self.kind, self.serve)
        return made

    def drop_listeners(self) -> None:
        """Listen no more (DeleteListener): its target groups stay, unused."""
        for group in {group for each in self.listeners for group in each.groups}:
            group.balancer = ""
            for target in [one for one in group.targets if one.state != "draining"]:
                target.state, target.reason = "unused", "Target.NotInUse"
        self.listeners.clear()
        self._ns.sockets.listeners.clear()

    def take(self, group: TargetGroup, target: Target) -> None:
        """Begin to check a target of one of its groups, if it is in an enabled zone."""
        if target.zone in self.zones:
            group.start(target)

    # Choosing

    def _crosses(self, group: TargetGroup) -> bool:
        return self.cross_zone if group.cross_zone is None else group.cross_zone

    def choose(self, eni: Eni, group: TargetGroup, own: Tuple) -> tuple[Target | None, VpcRow]:
        """The target for a new connection that came to ``eni``, and why.

        Targets that are healthy, in the zone of ``eni`` unless cross-zone is on. If none is
        healthy in any zone, all are as good (fail open), but not for a Classic Load Balancer.
        """
        here, crosses = eni.subnet.zone, self._crosses(group)
        open_ = self.kind != CLB and not any(each.state == "healthy" for each in group.targets)
        passed, fitting = [], []
        for each in group.targets:
            why = each.reason or each.state
            if each.state == "healthy" or (open_ and each.state in ("initial", "unhealthy")):
                why = ""
            if each.state == "draining" and group.serves(each):
                why = ""
            if each.zone not in self.zones:
                why = f"{each.zone} isn't enabled"
            elif not crosses and each.zone != here:
                why = f"it is in {each.zone}, and cross-zone is off"
            passed += [f"{each} — {why}"] if why else []
            fitting += [] if why else [each]
        if not fitting:
            return None, VpcRow(f"{group.name}: no target for {here}", tuple(passed), admits=False)
        if self.kind == NLB:
            known = (own.protocol, own.src) if group.sticky else own
            digest = sha256(f"{self._salt} {known}".encode()).digest()
            at, how = int.from_bytes(digest[:8], "big") % len(fitting), "hash of the flow"
        else:
            at = self._turn[here, group.name] % len(fitting)
            self._turn[here, group.name] += 1
            how = "round robin"
        chosen = fitting[at]
        passed += [f"{each} — the {how} says {chosen}" for each in fitting if each is not chosen]
        words = f"{group.name}: {how} over {len(fitting)} of {len(group.targets)} {MODEL}"
        return chosen, VpcRow(words + ("; none is healthy: fail open" if open_ else ""),
                              tuple(passed))  # fmt: skip

    def listening(self, port: int) -> Listener:
        """The listener on a TCP port."""
        return next(each for each in self.listeners if each.port == port and "tcp" in each.carries)

    def _listeners(self, packet: Packet) -> list[Listener]:
        """Who takes a packet: one, or nobody."""
        return [each for each in self.listeners
                if packet.dport == each.port and packet.protocol in each.carries]  # fmt: skip

    def _tell(self, stage: str, verdict: str, packet: Packet, row: VpcRow | None = None, *,
              lost: bool = False) -> None:  # fmt: skip
        if self._ns.world.recorder:
            told = Decision(self._ns, f"elb {stage}", verdict, row, packet, lost=lost)
            self._ns.world.recorder.decision(told)

    def _pick(self, packet: Packet, eni: Eni, listener: Listener) -> Target | None:
        """The target for a new connection, told as steps."""
        passed = tuple(f"{each} — another port" for each in self.listeners if each is not listener)
        group, rule = listener.goal(packet.data), listener.rule(packet.data)
        before = takewhile(lambda one: one is not rule, listener.rules)
        passed += tuple(f"{one} — {packet.data} is another" for one in before)
        said = f"a new connection for {group.name}" if group else "no rule takes the request"
        chosen = str(rule or listener) if group else NO_RULE
        self._tell("listener", said, packet, VpcRow(chosen, passed))
        if group is None:
            return None
        target, row = self.choose(eni, group, tuple_of(packet))
        verdict = f"forward to {target}" if target else "there is no target"
        self._tell("target", verdict, packet, row, lost=target is None and self.kind == NLB)
        return target

    # A proxy: two connections

    def serve(self, packet: Packet) -> tuple[str, str]:
        """Accept a connection, open one to a target, and give on what that answers."""
        eni = next(each for each in self.enis.values() if each.primary == packet.dst)
        listener = self.listening(packet.dport or 0)
        target = self._pick(packet, eni, listener)
        if target is None:
            how = "none" if listener.goal(packet.data) else "no rule"
            return self._fails(packet, self.status(listener, how), "refused", "no target")
        self.chosen[tuple_of(packet)] = target
        header = _header(listener, packet)
        words = f"to {target} from {eni.primary}:{self._ns.sockets.next_port}"
        added = VpcRow(f"it adds {header}" if header else "it adds nothing: the client is unseen")
        self._tell("connection", f"open a second connection, {words}", packet, added)
        client = self._ns.sockets.ask("tcp", target.address, target.port, src=eni.primary,
                                      data=header)  # fmt: skip
        answer = next((each for each in client.answers if each.flags == "SYN-ACK"), None)
        if answer:
            said = f"pass on what {target} answers"
            self._tell("answer", said, answer)
            return answer.data, answer.meaning
        told = [each for each in client.answers if each.meaning]
        why = f"{target} {'refused the connection' if told else 'did not answer'}"
        meaning = "refused" if told else "dropped"
        return self._fails(packet, self.status(listener, meaning), meaning, why)

    def status(self, listener: Listener, how: str) -> str:
        """What a proxy tells a browser: no target ("none"), one that "refused" or was "dropped".

        Over TCP it tells nothing, and closes. A Classic one's guide knows no 502 for this.
        """
        if not listener.protocol.startswith("HTTP"):
            return ""
        refused = LATE if self.kind == CLB else BAD_GATEWAY
        return {"none": UNAVAILABLE, "refused": refused, "dropped": LATE, "no rule": NO_RULE}[how]

    def _fails(self, packet: Packet, status: str, meaning: str, why: str) -> tuple[str, str]:
        said = f"answer {status}" if status else "close the connection"
        self._tell("answer", f"{said}: {why}", packet, lost=True)
        return status, meaning

    # A Network Load Balancer: one connection, its addresses rewritten

    def _own(self, packet: Packet) -> Tuple:
        """The flow's tuple in the direction of a packet, or of the error about one."""
        return tuple_of(packet.quoted).inverted() if packet.quoted else tuple_of(packet)

    def turns(self, packet: Packet) -> Eni | None:
        """Its ENI, if a packet answers a flow and is addressed past the balancer."""
        flow = self._answers.get(self._own(packet))
        return flow.eni if flow and packet.dst != flow.eni.primary else None

    def wants(self, packet: Packet) -> bool:
        """Whether it deals with a packet, where its sockets, which check health, don't."""
        return self.kind == NLB and not any(each.asked(packet) for each in self._ns.sockets.clients)

    def receive(self, link: Link, packet: Packet) -> None:
        """Take a packet of a flow, rewrite it, and send it on by the interface it came by."""
        if not link.up:
            return
        self._ns.sight(link, "in", packet)
        eni, own = self.enis[link.name], self._own(packet)
        if own in self._answers:
            goal, said = self._answers[own].front.inverted(), "return"
            row = VpcRow(f"the flow's state: it is an answer to {_end(goal, 'dst')} {MODEL}")
        else:
            flow = self.flows.get(own) or self._begin(packet, eni, own)
            if flow is None:
                return
            goal, said, packet = flow.back, "rewrite", replace(packet, data=flow.header)
            kept = str(flow.back.src == own.src).lower()
            before = f"; before the data: {flow.header}" if flow.header else ""
            row = VpcRow(f"preserve_client_ip.enabled={kept}{before}")
        packet = _turned(packet, own, goal)
        verdict = f"{_end(goal, 'src')} -> {_end(goal, 'dst')}"
        self._tell(said, verdict, packet, row)
        self._send(link, packet)

    def _begin(self, packet: Packet, eni: Eni, own: Tuple) -> Flow | None:
        opens = packet.flags == "SYN" or packet.protocol == "udp"
        taken = self._listeners(packet) if opens and not packet.quoted else []
        if not taken:
            why = f"nothing listens on {packet.dport or packet.protocol}: no answer {MODEL}"
            self._tell("listener", why, packet, lost=True)
            return None
        listener = taken[0]
        target = self._pick(packet, eni, listener)
        if target is None:
            return None
        back = replace(own, dst=target.address, dport=target.port)
        if not listener.group.preserve_client_ip:
            back = replace(back, src=eni.primary, sport=self._ns.world.random.randint(*PORTS))
        header = _header(listener, packet) if packet.flags else ""
        flow = self.flows[own] = self._answers[back.inverted()] = Flow(own, back, eni, header)
        return flow

    def _send(self, link: Link, packet: Packet) -> None:
        """Send by the tables of the place: its rules lead out by the interface it came by."""
        lookup = self._ns.routing.lookup(Asked(packet.dst, packet.src, link.name))
        route = lookup.route
        if route is None or route.dev is None or route.kind != "unicast":
            self._tell("route", f"no way to {packet.dst}", packet, lost=True)
        else:
            self._ns.neighbors.send(Skb(packet, link), route.dev, route.gateway or packet.dst)


def _fits(pattern: str, text: str) -> bool:
    """Whether a rule's pattern takes a text: * and ? are special there, brackets aren't."""
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def _header(listener: Listener, packet: Packet) -> str:
    """What tells the target's process of the client: beside the addresses, in the data."""
    if listener.protocol.startswith("HTTP"):
        return f"X-Forwarded-For: {packet.src}"
    if not listener.group.proxy_protocol:
        return ""
    if listener.group.kind == CLB:
        return f"PROXY TCP4 {packet.src} {packet.dst} {packet.sport} {packet.dport}"
    return f"PROXY v2 {packet.src}:{packet.sport} -> {packet.dst}:{packet.dport}"


def _end(goal: Tuple, end: str) -> str:
    return f"{goal.src}:{goal.sport}" if end == "src" else f"{goal.dst}:{goal.dport}"


def _turned(packet: Packet, own: Tuple, goal: Tuple) -> Packet:
    """A packet that looks like ``own`` made to look like ``goal``, with what an error quotes."""
    about = packet.quoted
    if about is None:
        return rewritten(rewritten(packet, goal, "source"), goal, "target")
    asked = goal.inverted()
    inner = rewritten(rewritten(about, asked, "source"), asked, "target")
    return replace(packet, src=goal.src, dst=goal.dst, quoted=inner)
