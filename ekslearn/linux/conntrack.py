"""Conntrack: the connections a namespace has seen, and the translations bound to them.

Source: net/netfilter/nf_conntrack_core.c, nf_nat_core.c and nf_nat_proto.c of Linux 6.18.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from .packet import ECHO_REPLY, ECHO_REQUEST, REDIRECT, Packet, Skb

if TYPE_CHECKING:
    from .link import Link
    from .namespace import NetworkNamespace

PORTS = (1024, 65535)  # where a translated port is drawn from (nf_nat_l4proto_unique_tuple)
# The hooks that translate a destination; INPUT and POSTROUTING translate a source.
TO_TARGET = ("PREROUTING", "OUTPUT")
OTHER = {"source": "target", "target": "source"}


@dataclass(frozen=True, slots=True)
class Tuple:
    """One direction of a connection. For ICMP both ports are the echo's id."""

    protocol: str
    src: IPv4Address
    sport: int
    dst: IPv4Address
    dport: int
    icmp: int = 0

    def inverted(self) -> Tuple:
        """The direction that answers this one."""
        icmp = {ECHO_REQUEST: ECHO_REPLY, ECHO_REPLY: ECHO_REQUEST}.get(self.icmp, self.icmp)
        icmp = icmp if self.protocol == "icmp" else 0
        return Tuple(self.protocol, self.dst, self.dport, self.src, self.sport, icmp)


def tuple_of(packet: Packet) -> Tuple:
    """The tuple of a packet as it is now."""
    if packet.protocol == "icmp":
        kind = packet.icmp[0] if packet.icmp else 0
        return Tuple("icmp", packet.src, packet.ident, packet.dst, packet.ident, kind)
    return Tuple(packet.protocol, packet.src, packet.sport or 0, packet.dst, packet.dport or 0)


@dataclass(slots=True, eq=False)
class Connection:
    """Two tuples, what a packet of each direction looks like when it comes in, and a mark.

    Where ``reply`` isn't the inverse of ``original``, the difference is the translation.
    ``random`` is set if a port was drawn: such a port is nobody's to predict.
    """

    original: Tuple
    reply: Tuple
    mark: int = 0
    replied: bool = False
    confirmed: bool = False
    bound: set[str] = field(default_factory=set)
    random: bool = False
    echo: bool = False  # an echo's id was drawn with its target: that counts as one translated
    leaves: Link | None = None  # the interface that MASQUERADE bound it to
    tcp_state: str = "SYN_SENT"

    @property
    def translates_source(self) -> bool:
        """Whether packets of the original direction leave with another source."""
        wanted, seen = self.original.inverted(), self.reply
        return seen.dst != wanted.dst or (seen.dport != wanted.dport and not self.echo)

    @property
    def translates_target(self) -> bool:
        """Whether packets of the original direction are sent to another destination."""
        wanted, icmp = self.original.inverted(), self.original.protocol == "icmp"
        moved = self.reply.sport != wanted.sport and not icmp  # an echo's id is its source's
        return moved or self.echo or self.reply.src != wanted.src


@dataclass(frozen=True, slots=True)
class Binding:
    """A packet's place in a connection: with it or against it, and the state a rule sees."""

    connection: Connection
    is_reply: bool
    state: str

    @property
    def goal(self) -> Tuple:
        """What the packet looks like once it is translated."""
        against = self.connection.original if self.is_reply else self.connection.reply
        return against.inverted()

    @property
    def related(self) -> Binding:
        """That of a packet the kernel sends about this one (nf_conntrack_attach)."""
        return Binding(self.connection, not self.is_reply, "RELATED")

    def changes(self, end: str) -> bool:
        """Whether the translation changes that end, "source" or "target", of the packet."""
        source = end == ("target" if self.is_reply else "source")
        return self.connection.translates_source if source else self.connection.translates_target


class Conntrack:
    """The connections of one namespace. Nothing is tracked until a rule asks for it."""

    def __init__(self, namespace: NetworkNamespace) -> None:
        self._ns = namespace
        self.active = False
        self.connections: list[Connection] = []
        self._by_tuple: dict[Tuple, tuple[Connection, bool]] = {}

    def track(self, skb: Skb) -> None:
        """Find, or begin, the connection of a packet that enters (nf_conntrack_in).

        A packet that fits none and can't begin one stays without binding: INVALID.
        """
        if not self.active or skb.binding is not None:
            return
        packet = skb.packet
        if packet.quoted is not None:
            skb.binding = self._related(packet, packet.quoted)
            return
        seen = tuple_of(packet)
        found = self._by_tuple.get(seen)
        if found is None:
            begins = packet.flags == "SYN" or packet.protocol == "udp"
            if not begins and packet.icmp != (ECHO_REQUEST, 0):
                return
            found = Connection(seen, seen.inverted()), False
        connection, is_reply = found
        if is_reply:
            if packet.flags == "RST" and not connection.replied:  # it never was one: forgotten
                self.forget(connection)
            connection.replied = True
            connection.tcp_state = "CLOSE" if packet.flags == "RST" else "SYN_RECV"
        state = "ESTABLISHED" if connection.replied else "NEW"
        skb.binding = Binding(connection, is_reply, state)

    def _related(self, packet: Packet, quoted: Packet) -> Binding | None:
        """An ICMP error belongs to the connection of the packet it quotes."""
        found = self._by_tuple.get(tuple_of(quoted).inverted())
        if found is None:
            return None
        connection, is_reply = found
        own = connection.reply if is_reply else connection.original
        if packet.dst != own.dst:
            return None
        return Binding(connection, is_reply, "RELATED")

    def confirm(self, skb: Skb) -> bool:
        """The packet is about to leave or be delivered: from now on its connection is known.

        False, and the packet is dropped, if another connection has the one port it could get.
        """
        binding = skb.binding
        if binding and not binding.is_reply and not binding.connection.confirmed:
            connection = binding.connection
            if connection.reply in self._by_tuple:
                self._ns.drop(skb, "conntrack", "another connection has the port it is to get")
                return False
            connection.confirmed = True
            self.connections.append(connection)
            self._by_tuple[connection.original] = connection, False
            self._by_tuple[connection.reply] = connection, True
        return True

    def forget(self, connection: Connection) -> None:
        """Track it no more."""
        self.connections.remove(connection)
        del self._by_tuple[connection.original], self._by_tuple[connection.reply]

    def flush(self) -> None:
        """Forget every connection."""
        self.connections.clear()
        self._by_tuple.clear()

    def bind(self, connection: Connection, what: str, address: IPv4Address, port: int,
             random: bool) -> None:  # fmt: skip
        """Bind a translation of the "source" or the "target" to a new connection.

        The port stays if it can; one that is taken, or ``random``, is drawn by the world's dice.
        A ``port`` that was asked for (not 0) is the only one there is.
        """
        reply = connection.reply
        connection.bound.add(what)
        mine, icmp = connection.original, reply.protocol == "icmp"
        port = 0 if icmp else port
        changed = replace(reply, dst=address, dport=port or reply.dport)
        if what == "target":
            changed = replace(reply, src=address, sport=port or reply.sport)
        kept = random or port or address == mine.src or icmp or what == "target"
        for other in () if kept else self.connections[::-1]:
            # A source that gets another address keeps what it got last (find_appropriate_src).
            same = replace(other.original, dst=mine.dst, dport=mine.dport) == mine
            if same and other.reply.dst == address:
                found = replace(changed, dport=other.reply.dport)
                if found not in self._by_tuple:
                    connection.random, changed = other.random, found
                break
        # Another port of the target wouldn't do; an echo's id is both ends'.
        while not port and (icmp or what == "source") and (random or changed in self._by_tuple):
            drawn = self._ns.world.random.randint(*PORTS)
            connection.random, random = True, False
            connection.echo |= what == "target"
            changed = replace(changed, dport=drawn, sport=drawn if icmp else changed.sport)
        connection.reply = changed

    def translate(self, hook: str, skb: Skb) -> bool:
        """Ask the nat table once per connection and direction, then rewrite; False is a drop."""
        binding = skb.binding
        if binding is None:
            return True
        connection, end = binding.connection, "target" if hook in TO_TARGET else "source"
        if binding.state == "RELATED" and skb.packet.quoted:
            return self._translate_error(skb, skb.packet.quoted, binding, end)
        other = connection.leaves not in (None, skb.oif)  # MASQUERADE looked at another interface
        if other and hook == "POSTROUTING" and not binding.is_reply:
            self.forget(connection)  # nf_nat_oif_changed (net/netfilter/nf_nat_core.c)
            self._ns.drop(skb, "conntrack", "it was masqueraded to leave by another interface")
            return False
        begins = not binding.is_reply or binding.state == "RELATED"  # a REJECT's reset asks too
        if begins and not connection.confirmed and end not in connection.bound:
            for table in self._ns.netfilter.nat:  # until one of them has bound a translation
                if end not in connection.bound and not self._ns.netfilter.run(table, hook, skb):
                    return False
            taken = connection.reply in self._by_tuple and not connection.translates_source
            if taken:  # nf_nat_alloc_null_binding
                address = connection.original.src if end == "source" else connection.reply.src
                self.bind(connection, end, address, 0, False)
            connection.bound.add(end)
        if binding.changes(end):
            goal = binding.goal
            skb.packet = rewritten(skb.packet, goal, end)
            new = f"source {goal.src}" if end == "source" else f"destination {goal.dst}"
            self._ns.note(skb, f"conntrack {hook}", f"rewrite the packet: {new}", connection)
        return True

    def _translate_error(self, skb: Skb, quoted: Packet, binding: Binding, end: str) -> bool:
        """Translate an ICMP error, and backwards the packet it quotes; False drops it."""
        packet, connection, goal = skb.packet, binding.connection, binding.goal
        # A redirect about a translated connection, or one not decided yet, would mislead.
        decided = not self._ns.netfilter.nat or connection.bound != {"target"}
        translated = connection.translates_source or connection.translates_target
        if packet.icmp and packet.icmp[0] == REDIRECT and (translated or not decided):
            return False
        if binding.changes(end):
            inner = rewritten(quoted, goal.inverted(), OTHER[end])
            skb.packet = replace(moved(packet, goal, end), quoted=inner)
            words = "rewrite the error, and backwards the packet it quotes"
            self._ns.note(skb, "conntrack", words, connection)
        return True


def moved(packet: Packet, goal: Tuple, end: str) -> Packet:
    """``packet`` with the address of its source or its target end as in ``goal``."""
    return replace(packet, src=goal.src) if end == "source" else replace(packet, dst=goal.dst)


def rewritten(packet: Packet, goal: Tuple, end: str) -> Packet:
    """``packet`` with address and port (or an echo's id) of one end as in ``goal``."""
    there, port = moved(packet, goal, end), goal.sport if end == "source" else goal.dport
    if packet.protocol == "icmp":
        return replace(there, ident=port)
    return replace(there, sport=port) if end == "source" else replace(there, dport=port)
