"""A packet, the frame that carries it over one link, and an ARP message.

All three are values: whoever changes a packet makes a new one, so a trace can keep what it saw.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conntrack import Binding
    from .link import Link
    from .route import Route

BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"
ECHO_REPLY, UNREACHABLE, REDIRECT, ECHO_REQUEST, TIME_EXCEEDED = 0, 3, 5, 8, 11  # RFC 792
ICMP_ERRORS = (UNREACHABLE, REDIRECT, TIME_EXCEEDED)
DEFAULT_TTL = 64  # net.ipv4.ip_default_ttl


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One IPv4 packet: the header fields a wire shows.

    ``size`` is the whole IP packet in bytes. ``quoted`` is the packet an ICMP error is about,
    ``gateway`` the better next hop a redirect names. ``meaning`` never travels: it is the model's
    note of why an answer was made ("refused", "rejected", "unreachable", "expired").
    """

    src: IPv4Address
    dst: IPv4Address
    protocol: str
    sport: int | None = None
    dport: int | None = None
    flags: str = ""
    icmp: tuple[int, int] | None = None
    ident: int = 0
    ttl: int = DEFAULT_TTL
    size: int = 60
    df: bool = True
    quoted: Packet | None = None
    gateway: IPv4Address | None = None
    mtu: int = 0
    data: str = ""
    meaning: str = field(default="", compare=False)

    @property
    def is_error(self) -> bool:
        """True for the ICMP messages that must never cause another one (RFC 1122, 3.2.2)."""
        return self.icmp is not None and self.icmp[0] in ICMP_ERRORS

    def answer(self, **changes: object) -> Packet:
        """A fresh packet going back the way this one came, ports and addresses exchanged."""
        turned = replace(self, src=self.dst, dst=self.src, sport=self.dport, dport=self.sport,
                         ttl=DEFAULT_TTL, quoted=None, data="")  # fmt: skip
        return replace(turned, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arp:
    """One ARP message: ``op`` is "request" or "reply"."""

    op: str
    sender: IPv4Address
    sender_mac: str
    target: IPv4Address


@dataclass(frozen=True, slots=True)
class Frame:
    """What one link carries: two MAC addresses and an IP packet or an ARP message."""

    dst: str
    src: str
    payload: Packet | Arp


@dataclass(slots=True)
class Skb:
    """A packet on its way through one namespace, with what the kernel remembers beside it.

    ``mark`` and ``binding`` (the connection, and whether this packet runs with or against it)
    live only here: neither is ever on a wire. ``iif`` is the link it came in by, None for a
    packet made in this namespace; ``route`` is what the last routing decision chose.
    """

    packet: Packet
    iif: Link | None = None
    oif: Link | None = None
    mark: int = 0
    route: Route | None = None
    gateway: IPv4Address | None = None
    binding: Binding | None = None
    local: bool = False
    broadcast: bool = False
    redirect: bool = False
