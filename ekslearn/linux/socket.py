"""Sockets: who listens, who asked, and what the kernel answers where nobody does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL, ENETUNREACH
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from ..errors import kernel_refuses
from .conntrack import tuple_of
from .ip import LOOPBACK
from .packet import ECHO_REPLY, ECHO_REQUEST, UNREACHABLE, Packet, Skb

if TYPE_CHECKING:
    from .namespace import NetworkNamespace

ANY = IPv4Address(0)
FIRST_PORT = 40000
PORT_UNREACHABLE = (UNREACHABLE, 3)
SIZES = {"icmp": 84, "tcp": 60, "udp": 33}  # bytes of the IP packets probes are made of


# What a process answers a packet with: a line and, where that is no success, what it means.
Serve = Callable[[Packet], tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A socket that waits: ``address`` 0.0.0.0 takes what is for any of the namespace's own.

    ``serve`` is the process behind it, where that does more than to say whom it saw.
    """

    address: IPv4Address
    port: int
    protocol: str
    process: str = ""
    serve: Serve | None = None

    def takes(self, packet: Packet) -> bool:
        """Whether a packet for this namespace is for this socket."""
        same = packet.protocol == self.protocol and packet.dport == self.port
        return same and self.address in (ANY, packet.dst)


@dataclass(slots=True)
class Client:
    """A socket that asked: its question, and what came back for it."""

    question: Packet
    errno: int = 0
    answers: list[Packet] = field(default_factory=list)

    def asked(self, packet: Packet) -> bool:
        """Whether ``packet`` belongs to this question, judged by addresses, ports and id."""
        question, about = self.question, packet.quoted
        if question.protocol == "icmp":  # whatever address was asked (ping_lookup)
            told, kind = (about, ECHO_REQUEST) if about else (packet, ECHO_REPLY)
            return told.icmp == (kind, 0) and told.ident == question.ident
        return tuple_of(about or packet.answer()) == tuple_of(question)


class Sockets:
    """All sockets of one namespace, and the kernel's own answers."""

    def __init__(self, namespace: NetworkNamespace) -> None:
        self._ns = namespace
        self.listeners: list[Listener] = []
        self.clients: list[Client] = []
        self.next_port = FIRST_PORT

    def listen(self, address: IPv4Address, port: int, protocol: str, process: str = "",
               serve: Serve | None = None) -> None:  # fmt: skip
        """Bind a listener.

        Raises KernelError: EADDRINUSE if one of the namespace's sockets holds that port on the
        same address (0.0.0.0 is every address), EADDRNOTAVAIL if the address isn't local.
        """
        kernel_refuses(address != ANY and not self._ns.is_local(address), EADDRNOTAVAIL)
        for other in self.listeners:
            same = (other.port, other.protocol) == (port, protocol)
            here = ANY in (other.address, address) or other.address == address
            kernel_refuses(same and here, EADDRINUSE)
        self.listeners.append(Listener(
            address=address, port=port, protocol=protocol, process=process, serve=serve
        ))  # fmt: skip

    def ask(self, protocol: str, dst: IPv4Address, dport: int | None = None, *,
            ttl: int = 64, size: int | None = None, src: IPv4Address | None = None,
            data: str = "") -> Client:  # fmt: skip
        """Send one probe and let everything happen that comes of it.

        A TCP SYN, a UDP datagram or an ICMP echo request, from the next port or id, and from
        ``src`` if the socket is bound (KernelError EADDRNOTAVAIL if that isn't local). ``data`` is
        what the connection is to carry first.
        """
        kernel_refuses(src and not self._ns.is_local(src), EADDRNOTAVAIL)
        number, self.next_port = self.next_port, self.next_port + 1
        dst = dst if int(dst) else LOOPBACK  # nobody's address stands for this host (connect)
        leaving = self._ns.ip.departure(dst, src)
        size = size or SIZES[protocol]
        packet = Packet(src=leaving.src, dst=dst, protocol=protocol, ttl=ttl, size=size, data=data)
        if protocol == "icmp":
            packet = replace(packet, icmp=(ECHO_REQUEST, 0), ident=number)
        else:
            flags = "SYN" if protocol == "tcp" else ""
            packet = replace(packet, sport=number, dport=dport, flags=flags)
        client = Client(packet)
        self.clients.append(client)
        if leaving.broadcast:  # a socket must ask for that (SO_BROADCAST); tcp_v4_connect never may
            client.errno = ENETUNREACH if protocol == "tcp" else EACCES
        else:
            client.errno = self._ns.ip.send(packet)
            if protocol == "tcp":  # tcp_connect minds nothing but that there is no route
                source = leaving.src if int(leaving.src) else None
                client.errno = self._ns.ip.departure(dst, source).errno
        self._ns.world.settle()
        self.clients.remove(client)
        return client

    def receive(self, skb: Skb) -> None:
        """Give a packet to the socket it is for, or answer as the kernel does where none is."""
        packet = skb.packet
        if packet.icmp == (ECHO_REQUEST, 0):
            if skb.broadcast and self._ns.address_kind(packet.dst) != "local":
                self._ns.drop(skb, "deliver", "an echo request to a broadcast isn't answered")
                return
            self._ns.note(skb, "deliver", "the kernel answers the echo request", None)
            self._ns.ip.send(packet.answer(icmp=(ECHO_REPLY, 0), df=False))
            return
        if packet.is_error:
            self._ns.ip.learn(skb)
        for client in self.clients:
            if client.asked(packet):
                self._ns.note(skb, "deliver", "the answer reaches the process that asked", None)
                client.answers.append(packet)
                return
        if packet.protocol == "icmp":
            asker = "the socket it is about is gone" if packet.is_error else "nobody waits for it"
            self._ns.drop(skb, "deliver", asker)
        elif listener := self._listener(skb):
            self._serve(skb, listener)
        else:
            self._refuse(skb)

    def _listener(self, skb: Skb) -> Listener | None:
        """Who takes the packet; of TCP only what opens a connection is for a listener."""
        fitting = [each for each in self.listeners if each.takes(skb.packet)]
        if skb.packet.protocol == "tcp" and (skb.packet.flags != "SYN" or skb.broadcast):
            fitting = []
        return max(fitting, key=lambda each: int(each.address), default=None)

    def _serve(self, skb: Skb, listener: Listener) -> None:
        """Answer with one line: the place, and the client's address and port as seen here.

        Or with what the process behind the listener says, once it knows.
        """
        packet, name, tcp = skb.packet, self._ns.name, listener.protocol == "tcp"
        read = f" and can read {packet.data!r}" if packet.data else ""
        verb, port = "accepts on" if tcp else "reads from", f"{listener.port}/{listener.protocol}"
        self._ns.note(skb, "deliver", f"{listener.process or name} {verb} port {port}{read}")
        plain = f"{name} {packet.src} {packet.sport}", ""
        line, meaning = listener.serve(packet) if listener.serve else plain
        # A server bound to 0.0.0.0 lets routing choose the address a datagram is answered from.
        answer = packet.answer(flags="SYN-ACK", data=line) if tcp else packet.answer(
            src=listener.address, data=line, size=28 + len(line) + 1)  # fmt: skip
        self._ns.ip.send(replace(answer, meaning=meaning))

    def _refuse(self, skb: Skb) -> None:
        packet = skb.packet
        goal = f"{packet.dst}:{packet.dport}/{packet.protocol}"
        self._ns.drop(skb, "deliver", f"nothing listens on {goal}")
        if packet.protocol == "udp":
            self._ns.ip.send_error(skb, PORT_UNREACHABLE, "refused")
        elif packet.flags != "RST" and not skb.broadcast:
            self._ns.ip.send(packet.answer(flags="RST", size=40, meaning="refused"))
