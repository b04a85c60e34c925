"""Trace: one probe followed through every namespace, and all that answers it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from errno import EPERM
from functools import partial
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from . import iptables, nft, tools
from .errors import EkslearnError
from .fabric import VpcRow
from .linux import Client, Decision, Link, Lookup, Neighbor, NetworkNamespace, Packet, Route
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """What became of one probe.

    ``verdict`` is what the asking process sees, there and back: delivered, refused, rejected,
    dropped, unreachable or expired. ``answer`` is a listener's line, ``teller`` the address the
    asking process hears of as the sender of what decided: behind a NAT of its own not the one on
    the wire. ``recording`` is what happened, put into words once somebody reads it.
    """

    scenario: str
    source: str
    destination: str
    verdict: str
    reason: str
    recording: Recording = field(repr=False)
    answer: str = ""
    teller: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trace) and self.to_dict() == other.to_dict()

    @property
    def events(self) -> tuple[Step | Sighting, ...]:
        """Steps and sightings as they happened."""
        return self.recording.events

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


def _sighting(place: str, interface: str, way: str, packet: Packet, leg: str) -> Iterator[Sighting]:
    yield Sighting(
        place=place, interface=interface, direction=way, src=str(packet.src), sport=packet.sport,
        dst=str(packet.dst), dport=packet.dport, protocol=packet.protocol, ttl=packet.ttl,
        icmp=packet.icmp, leg=leg, flags=packet.flags,
    )  # fmt: skip


def _step(made: Decision, leg: str, rows: tuple[str, ...] = (), **more: Any) -> Iterator[Step]:
    """A step about a packet; ``more`` is told beside, or instead of, what the decision says."""
    found = {
        "place": made.namespace.name, "stage": made.stage, "decision": made.verdict,
        "header": header(made.packet, made.mark) if made.packet else {},
        "lit": rows.index(more["because"]) if more.get("because") in rows else None,
    }  # fmt: skip
    yield Step(leg=leg, rows=rows, **(found | more))


def _lines(made: Decision, command: str) -> tuple[str, ...]:
    """What a command lists where something was decided."""
    done = tools.run(made.namespace, command.split())
    return tuple(line.rstrip() for line in done.stdout.splitlines())


class Recording:
    """Keeps what the namespaces tell, and puts it into the tools' words when somebody reads it.

    What packets change is listed at once. What only commands change, and links that come and go, is
    listed when it is read or before it changes (``World.before_change``), whichever comes first.
    """

    def __init__(self) -> None:
        self.lost = ""
        self._leg = "request"
        self._untold: list[Callable[[], Iterable[Step | Sighting]]] = []
        self._events: tuple[Step | Sighting, ...] = ()
        self._listed: dict[tuple[str, str], tuple[str, ...]] = {}
        self._texts: dict[int, str] = {}

    @property
    def events(self) -> tuple[Step | Sighting, ...]:
        """Steps and sightings as they happened."""
        self.tell()
        return self._events

    def tell(self) -> None:
        """Put into words what was kept: the listings are as the packets met them."""
        untold, self._untold = self._untold, []
        self._events += tuple(event for tell in untold for event in tell())
        self._listed.clear()
        self._texts.clear()

    def _leg_of(self, packet: Packet | None) -> str:
        if packet is not None:
            self._leg = "request" if _is_probe(packet) else "reply"
        return self._leg

    def sighting(self, namespace: NetworkNamespace, link: Link, way: str, packet: Packet) -> None:
        """A packet passed a link."""
        where = (namespace.name, link.name, way)
        self._untold.append(partial(_sighting, *where, packet, self._leg_of(packet)))

    def decision(self, decision: Decision) -> None:
        """Something was decided."""
        leg, row = self._leg_of(decision.packet), decision.row
        if decision.lost and decision.stage == "elb answer":  # what the browser is told, and why
            why = f" ({self.lost})" if self.lost else ""
            self.lost = f"{decision.namespace.name}: {decision.verdict}{why}"
        elif decision.lost and not self.lost.startswith("reply:"):  # the first answer's loss counts
            chain = f"{row.table} {row.chain}: " if isinstance(row, Walk) else ""
            where = "reply: " * (leg == "reply") + f"{decision.namespace.name}: {chain}"
            self.lost = where + decision.verdict
        tell: Callable[[], Iterable[Step]] = partial(_step, decision, leg)
        if isinstance(row, Lookup):
            tell = partial(self._lookup_steps, decision, leg, row)
        elif isinstance(row, Walk):
            tell = partial(self._walk_step, decision, leg, row)
        elif isinstance(row, Neighbor):
            tell = _moving(decision, leg, "ip neigh show", tools.neighbor_text(row).strip())
        elif isinstance(row, Connection):
            tell = _moving(decision, leg, "conntrack -L", iptables.connection_text(row))
        elif isinstance(row, VpcRow):
            tell = partial(_step, decision, leg, because=row.text, passed_over=row.passed_over)
        self._untold.append(tell)

    def _listing(self, made: Decision, command: str) -> tuple[str, ...]:
        """What a command lists that no packet changes: it is listed once."""
        key = made.namespace.name, command
        if key not in self._listed:
            self._listed[key] = _lines(made, command)
        return self._listed[key]

    def _lookup_steps(self, made: Decision, leg: str, lookup: Lookup) -> Iterator[Step]:
        """The rule that chose the table, and the route. Rows are told as they are listed."""
        routing, chosen = made.namespace.routing, lookup.rule
        rules = tuple(row.replace("\t", " ") for row in self._listing(made, "ip rule show"))
        self._texts |= zip(map(id, routing.rules), rules, strict=True)
        inside: dict[int, str] = {}  # the routes of the chosen table; others name theirs
        if chosen:
            table = tools.table_name(chosen.table)
            show = f"ip route show table {table}"
            rows = self._listing(made, show)
            inside = dict(zip(map(id, routing.tables[chosen.table]), rows, strict=True))
        before, here = list[str](), list[str]()
        for each in routing.passed_over(lookup):
            at = id(each.row)
            told, texts = (here, inside) if at in inside else (before, self._texts)
            if at not in texts and isinstance(each.row, Route):
                texts[at] = tools.route_text(each.row).strip()
            told.append(f"{texts[at]} — {each.why}")
        said = f"look in table {table}" if chosen else "no table has a route to the destination"
        yield from _step(made, leg, rules, stage="rule", decision=said, show="ip rule show",
                         because=self._texts[id(chosen)] if chosen else "",
                         passed_over=tuple(before))  # fmt: skip
        if lookup.route:
            yield from _step(made, leg, rows, because=inside[id(lookup.route)], show=show,
                             passed_over=tuple(here))  # fmt: skip

    def _walk_step(self, made: Decision, leg: str, walk: Walk) -> Iterator[Step]:
        by_nft = " " in walk.table  # nft calls a table by its family as well
        say = (lambda _, rule: nft.rule_text(rule)) if by_nft else iptables.rule_text
        show = f"{'nft -s list table' if by_nft else 'iptables-save -t'} {walk.table}"
        rows = self._listing(made, show)
        passed = tuple(f"{say(seen.chain, seen.rule)} — {seen.why}" for seen in walk.passed_over)
        row = nft.BASE_TEXT if by_nft else f":{walk.chain} {walk.verdict} [0:0]"
        if walk.rule:
            row = say(walk.chain, walk.rule)
        lit: dict[str, int] = {}
        if by_nft:  # the same row may stand in several chains
            lit["lit"] = rows.index(f"\t\t{row}", rows.index(f"\tchain {walk.chain} {{"))
        else:
            rows = tuple(each for each in rows if each[:1] in ":-")
        yield from _step(made, leg, rows, because=row, show=show, passed_over=passed, **lit)


def _moving(made: Decision, leg: str, show: str, row: str) -> Callable[[], Iterator[Step]]:
    """A step about a row that packets change: it is listed now."""
    rows = _lines(made, show)
    if row not in rows:  # a connection is listed once its first packet has left or arrived
        rows = (*rows, row)
    return partial(_step, made, leg, rows, because=row, show=show)


def follow(lab: Lab, source: str, destination: str) -> Trace:
    """Send the probe and write down what happens; EkslearnError for a name that isn't there."""
    namespace = lab.namespace(lab.source(source))
    target, data = lab.named(destination)
    protocol, address, port = destination_of(lab, target)
    recording, world = Recording(), lab.world
    world.before_change(recording.tell)
    world.recorder = recording
    try:
        client = namespace.sockets.ask(protocol, address, port, data=data)
    finally:
        world.recorder = None
    verdict, reason = _verdict(client, recording, namespace.name)
    answer = next((each.data for each in client.answers if each.data), "")
    return Trace(scenario=lab.name, source=source, destination=destination, verdict=verdict,
                 reason=reason, recording=recording, answer=answer,
                 teller=_teller(client))  # fmt: skip


def _teller(client: Client) -> str:
    heard = (each for each in client.answers if not each.icmp or each.icmp[0] != REDIRECT)
    return next((str(each.src) for each in heard), "")


def destination_of(lab: Lab, text: str) -> tuple[str, IPv4Address, int | None]:
    """Read ADDRESS[:PORT[/tcp|udp]] or a place; EkslearnError if it is neither."""
    if text in (*lab.places, *lab.aliases):
        return "icmp", IPv4Address(lab.address(text)), None
    found = re.fullmatch(r"(.+?)(?::([0-9]+)(?:/([a-z]+))?)?", text)
    host, port, protocol = found.groups() if found else (text, None, None)
    if port and host in (*lab.places, *lab.aliases):
        host = lab.address(host)
    try:
        address = IPv4Address(host)
    except ValueError:
        why = "is no destination: an address such as 10.0.0.1 or 10.0.0.1:80/tcp, or one of the"
        raise EkslearnError(f"{text!r} {why} places {', '.join(lab.places)}") from None
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
        return "delivered", f"{answer.src}{f':{answer.sport}' * bool(answer.sport)} answered"
    return "dropped", recording.lost or f"{place}: no answer came"
