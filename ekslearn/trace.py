"""Trace: one probe followed through every namespace, and all that answers it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from errno import EPERM
from functools import cache
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from . import iptables, tools
from .errors import EkslearnError
from .linux import Client, Decision, Link, Lookup, Neighbor, NetworkNamespace, Packet, Rule
from .linux.conntrack import Connection
from .linux.netfilter import Walk
from .linux.packet import ECHO_REQUEST, REDIRECT

if TYPE_CHECKING:
    from .cluster import Lab


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One packet on one interface, as a capture there shows it.

    ``direction`` is "in" or "out"; ``icmp`` is (type, code), None for TCP and UDP; ``leg`` is
    "request" for the probe itself, "reply" for all that comes of it; ``flags`` are TCP's ("SYN").
    """

    place: str
    interface: str
    direction: str
    src: str
    sport: int | None
    dst: str
    dport: int | None
    protocol: str
    ttl: int
    icmp: tuple[int, int] | None
    leg: str
    flags: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The sighting as the contract's JSON has it."""
        found: dict[str, Any] = {key: getattr(self, key) for key in self.__slots__
                                 if key not in ("icmp", "leg", "flags")}  # fmt: skip
        return found | ({"icmp": list(self.icmp)} if self.icmp else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One decision about the packet: where, at which stage, what, and because of which row.

    ``because`` is the deciding row as its tool prints it, ``passed_over`` the rows looked at and
    not chosen, each with the reason. ``rows`` is the listing that ``show`` printed at that moment,
    ``lit`` the place of the deciding row in it. ``header`` is the packet at that moment.
    """

    place: str
    stage: str
    decision: str
    because: str = ""
    passed_over: tuple[str, ...] = ()
    leg: str = "request"
    show: str = ""
    rows: tuple[str, ...] = ()
    lit: int | None = None
    header: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The step as the contract's JSON has it."""
        return {"place": self.place, "stage": self.stage, "decision": self.decision,
                "because": self.because, "passed_over": list(self.passed_over)}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What became of one probe.

    ``verdict`` is what the asking process sees, there and back: delivered, refused, rejected,
    dropped, unreachable or expired. ``events`` holds steps and sightings as they happened.
    ``answer`` is a listener's line, ``teller`` the address the asking process hears of as the
    sender of what decided: behind a NAT of its own not the one on the wire.
    """

    scenario: str
    source: str
    destination: str
    verdict: str
    reason: str
    events: tuple[Step | Sighting, ...]
    answer: str = ""
    teller: str = ""

    @property
    def request(self) -> tuple[Sighting, ...]:
        """The probe, wherever it was seen."""
        return tuple(e for e in self.events if isinstance(e, Sighting) and e.leg == "request")

    @property
    def reply(self) -> tuple[Sighting, ...]:
        """Everything the probe caused, wherever it was seen."""
        return tuple(e for e in self.events if isinstance(e, Sighting) and e.leg == "reply")

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every decision, in order."""
        return tuple(e for e in self.events if isinstance(e, Step))

    def to_dict(self) -> dict[str, Any]:
        """The trace as the contract's JSON has it."""
        return {
            "scenario": self.scenario, "verdict": self.verdict, "reason": self.reason,
            "request": [each.to_dict() for each in self.request],
            "reply": [each.to_dict() for each in self.reply],
            "steps": [each.to_dict() for each in self.steps],
        }  # fmt: skip


def header(packet: Packet, mark: int = 0) -> dict[str, Any]:
    """The fields of a packet a learner watches, as plain values."""
    return {
        "src": str(packet.src), "sport": packet.sport, "dst": str(packet.dst),
        "dport": packet.dport, "protocol": packet.protocol, "ttl": packet.ttl, "mark": mark,
        "icmp": packet.icmp, "flags": packet.flags,
    }  # fmt: skip


def _is_probe(packet: Packet) -> bool:
    if packet.protocol == "icmp":
        return packet.icmp == (ECHO_REQUEST, 0)
    return packet.flags == "SYN" or (packet.protocol == "udp" and not packet.data)


MOVING = ("ip neigh show", "conntrack -L")  # listings that a packet on its way changes


class Recording:
    """Writes down what the namespaces tell, in the tools' words."""

    def __init__(self) -> None:
        self.events: list[Step | Sighting] = []
        self.lost = ""
        self._leg = "request"
        self._listed: dict[tuple[str, str], tuple[str, ...]] = {}
        self._text = cache(tools.route_text)

    def _leg_of(self, packet: Packet | None) -> str:
        if packet is not None:
            self._leg = "request" if _is_probe(packet) else "reply"
        return self._leg

    def sighting(self, namespace: NetworkNamespace, link: Link, way: str, packet: Packet) -> None:
        """A packet passed a link."""
        self.events.append(Sighting(
            place=namespace.name, interface=link.name, direction=way, src=str(packet.src),
            sport=packet.sport, dst=str(packet.dst), dport=packet.dport,
            protocol=packet.protocol, ttl=packet.ttl, icmp=packet.icmp, leg=self._leg_of(packet),
            flags=packet.flags,
        ))  # fmt: skip

    def decision(self, decision: Decision) -> None:
        """Something was decided: one step, or two where a rule chose the table first."""
        leg = self._leg_of(decision.packet)
        if decision.lost and not self.lost.startswith("reply:"):  # the first answer's loss counts
            prefix = "reply: " if leg == "reply" else ""
            self.lost = f"{prefix}{decision.namespace.name}: {decision.verdict}"
        head = header(decision.packet, decision.mark) if decision.packet else {}
        base: dict[str, Any] = {"place": decision.namespace.name, "leg": leg, "header": head}
        if isinstance(decision.row, Lookup):
            self.events += self._lookup_steps(decision, decision.row, base)
        elif isinstance(decision.row, Walk):
            self.events.append(self._walk_step(decision, decision.row, base))
        elif isinstance(decision.row, Neighbor):
            row = tools.neighbor_text(decision.row).strip()
            self.events.append(self._step(decision, row, "ip neigh show", base))
        elif isinstance(decision.row, Connection):
            row = iptables.connection_text(decision.row)
            self.events.append(self._step(decision, row, "conntrack -L", base))
        else:
            self.events.append(Step(stage=decision.stage, decision=decision.verdict, **base))

    def _listing(self, namespace: NetworkNamespace, command: str) -> tuple[str, ...]:
        """What a command lists; what no packet changes is listed once."""
        key = namespace.name, command
        if key not in self._listed or command in MOVING:
            done = tools.run(namespace, command.split())
            self._listed[key] = tuple(line.rstrip() for line in done.stdout.splitlines())
        return self._listed[key]

    def _lookup_steps(self, decision: Decision, lookup: Lookup, base: dict[str, Any]) -> list[Step]:
        namespace, table = decision.namespace, lookup.rule.table if lookup.rule else None
        hide = frozenset({"table"})
        here: list[str] = []
        before: list[str] = []
        for each in namespace.routing.passed_over(lookup):
            if isinstance(each.row, Rule):
                before.append(f"{_words(tools.rule_text(each.row, namespace.links))} — {each.why}")
            else:
                inside = each.row.table == table
                text = self._text(each.row, hide=hide if inside else frozenset()).strip()
                (here if inside else before).append(f"{text} — {each.why}")
        rules = tuple(_words(line) for line in self._listing(namespace, "ip rule show"))
        if lookup.rule is None or lookup.route is None:
            return [Step(
                stage="rule", decision="no table has a route to the destination",
                passed_over=tuple(before), show="ip rule show", rows=rules, **base,
            )]  # fmt: skip
        name = tools.table_name(lookup.rule.table)
        rule = _words(tools.rule_text(lookup.rule, namespace.links))
        show = f"ip route show table {name}"
        rows = self._listing(namespace, show)
        row = self._text(lookup.route, hide=hide).strip()
        return [
            Step(stage="rule", decision=f"look in table {name}", because=rule,
                 passed_over=tuple(before), show="ip rule show", rows=rules,
                 lit=_place(rules, rule), **base),
            Step(stage="route", decision=decision.verdict, because=row, passed_over=tuple(here),
                 show=show, rows=rows, lit=_place(rows, row), **base),
        ]  # fmt: skip

    def _step(self, decision: Decision, row: str, show: str, base: dict[str, Any]) -> Step:
        rows = self._listing(decision.namespace, show)
        if row not in rows:  # a connection is listed once its first packet has left or arrived
            rows = (*rows, row)
        return Step(stage=decision.stage, decision=decision.verdict, because=row, show=show,
                    rows=rows, lit=_place(rows, row), **base)  # fmt: skip

    def _walk_step(self, decision: Decision, walk: Walk, base: dict[str, Any]) -> Step:
        show = f"iptables-save -t {walk.table}"
        rows = tuple(row for row in self._listing(decision.namespace, show) if row[:1] in ":-")
        passed = [f"{iptables.rule_text(seen.chain, seen.rule)} — {seen.why}"
                  for seen in walk.passed_over]  # fmt: skip
        row = f":{walk.chain} {walk.verdict} [0:0]"
        if walk.rule:
            row = iptables.rule_text(walk.chain, walk.rule)
        return Step(stage=decision.stage, decision=decision.verdict, because=row, show=show,
                    passed_over=tuple(passed), rows=rows, lit=_place(rows, row),
                    **base)  # fmt: skip


def _place(rows: tuple[str, ...], row: str) -> int | None:
    return rows.index(row) if row in rows else None


def _words(text: str) -> str:
    return text.replace("\t", " ")


def follow(lab: Lab, source: str, destination: str) -> Trace:
    """Send the probe and write down what happens; EkslearnError for a name that isn't there."""
    namespace = lab.namespace(_source(lab, source))
    protocol, address, port = destination_of(lab, destination)
    recording = Recording()
    world = lab.world
    world.recorder = recording
    try:
        client = namespace.sockets.ask(protocol, address, port)
    finally:
        world.recorder = None
    verdict, reason = _verdict(client, recording, namespace.name)
    answer = next((each.data for each in client.answers if each.data), "")
    return Trace(scenario=lab.name, source=source, destination=destination, verdict=verdict,
                 reason=reason, events=tuple(recording.events), answer=answer,
                 teller=_teller(client))  # fmt: skip


def _teller(client: Client) -> str:
    heard = (each for each in client.answers if not each.icmp or each.icmp[0] != REDIRECT)
    return next((str(each.src) for each in heard), "")


def _source(lab: Lab, source: str) -> str:
    place, colon, container = source.partition(":")
    if colon and place in lab.places:
        raise EkslearnError(f"{place} is a bare namespace: it has no container {container!r}; "
                            f"ask from {place}")  # fmt: skip
    return source


def destination_of(lab: Lab, text: str) -> tuple[str, IPv4Address, int | None]:
    """Read ADDRESS[:PORT[/tcp|udp]] or a place; EkslearnError if it is neither."""
    if text in lab.places:
        return "icmp", IPv4Address(lab.address(text)), None
    found = re.fullmatch(r"(.+?)(?::([0-9]+)(?:/([a-z]+))?)?", text)
    host, port, protocol = found.groups() if found else (text, None, None)
    if host in lab.places and port:
        host = lab.address(host)
    try:
        address = IPv4Address(host)
    except ValueError:
        there = ", ".join(lab.places)
        raise EkslearnError(
            f"{text!r} is no destination: an address such as 10.0.0.1 or 10.0.0.1:80/tcp, "
            f"or one of the places {there}"
        ) from None
    if port is None:
        return "icmp", address, None
    if protocol not in (None, "tcp", "udp") or not 0 < int(port) < 65536:
        raise EkslearnError(f"{text!r}: a port is 1 to 65535, followed by /tcp or /udp")
    return protocol or "tcp", address, int(port)


def _verdict(client: Client, recording: Recording, place: str) -> tuple[str, str]:
    if client.errno and client.errno != EPERM:
        return "unreachable", f"{place}: {os.strerror(client.errno)}"
    for answer in client.answers:
        if answer.icmp and answer.icmp[0] == REDIRECT:
            continue
        if answer.meaning:
            return answer.meaning, recording.lost or f"{answer.src} said so"
        port = f":{answer.sport}" if answer.sport else ""
        return "delivered", f"{answer.src}{port} answered"
    return "dropped", recording.lost or f"{place}: no answer came"
