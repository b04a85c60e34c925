"""Links: loopback, veth and Ethernet, and the addresses they carry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TYPE_CHECKING

from .packet import Frame, Packet, Skb

if TYPE_CHECKING:
    from .namespace import NetworkNamespace

GLOBAL, LINK, HOST, NOWHERE = 0, 253, 254, 255  # route and address scopes, linux/rtnetlink.h
LOOPBACK_MTU, ETHERNET_MTU = 65536, 1500
NO_MAC = "00:00:00:00:00:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address on a link. ``secondary``: another address of the same subnet came first.

    ``broadcast`` is None unless one was given: the kernel answers the subnet's own broadcast
    address all the same.
    """

    interface: IPv4Interface
    scope: int = GLOBAL
    broadcast: IPv4Address | None = None
    label: str = ""
    secondary: bool = False
    no_prefix_route: bool = False

    @property
    def ip(self) -> IPv4Address:
        """The address itself."""
        return self.interface.ip

    @property
    def network(self) -> IPv4Network:
        """The subnet the address says it is in."""
        return self.interface.network


class Link:
    """One network interface of one namespace.

    ``kind`` is "loopback", "veth", "ethernet" or "vlan"; ``peer`` is a veth's other end,
    ``segment`` what an Ethernet link, or the one under a VLAN device, is plugged into. MTU is in
    bytes.
    """

    def __init__(self, namespace: NetworkNamespace, name: str, kind: str, mac: str = "") -> None:
        self.namespace = namespace
        self.name = name
        self.kind = kind
        self.index = 0
        self.mac = mac
        self.mtu = LOOPBACK_MTU if kind == "loopback" else ETHERNET_MTU
        self.up = False
        self.was_up = False
        self.over_dead = False
        self.peer: Link | None = None
        self.segment: Wire | None = None
        self.parent: Link | None = None  # of a VLAN device, with the VLAN's number
        self.vlan = 0
        self.addresses: list[Address] = []
        # What TC's clsact qdisc holds: a program for what comes in by "ingress", or goes out by
        # "egress", that says whether a packet may pass. A capture sees what came in before it, and
        # what goes out behind it (__netif_receive_skb_core and __dev_queue_xmit, net/core/dev.c).
        self.filters: dict[str, Callable[[Packet], bool]] = {}

    @property
    def carrier(self) -> bool:
        """Whether a frame can leave: for a veth, both ends are up."""
        if self.kind == "veth":
            return self.up and self.peer is not None and self.peer.up
        return self.up and (self.parent is None or self.parent.up)

    @property
    def ends(self) -> tuple[Link, ...]:
        """The link, and with a veth its other end."""
        return (self, self.peer) if self.peer else (self,)

    def settle_ends(self) -> None:
        """Note, for both ends, whether what carries them is dead: a carrier came or went.

        The kernel looks for it by its number among this namespace's own links, and keeps what it
        found until the next time (default_operstate in net/core/link_watch.c).
        """
        for end, other in zip(self.ends, self.ends[::-1], strict=True):
            below = (each for each in end.namespace.links.values()
                     if each.index == other.index and each is not end)  # fmt: skip
            dead = any(each.kind == "veth" and not each.carrier for each in below)
            end.over_dead = not end.carrier and dead

    def passes(self, way: str, packet: Packet) -> bool:
        """Whether the filter for that way, if there is one, lets a packet by."""
        return way not in self.filters or self.filters[way](packet)

    def transmit(self, frame: Frame, skb: Skb | None = None) -> None:
        """Put ``frame`` on the wire; the far end sees it after this packet's turn is over.

        What the kernel remembers beside a packet stays with it through ``lo``, and its mark
        through a veth whose ends are in one namespace; anywhere else it is lost.
        """
        kept = skb if self.kind == "loopback" else None
        far = self if self.kind == "loopback" else self.peer
        if self.segment:
            self.segment.carry(self, frame)
        elif far:
            if skb and far.namespace is self.namespace and not kept:
                kept = Skb(skb.packet, mark=skb.mark)
            self.namespace.world.later(far.namespace.receive, far, frame, kept)


class Wire:
    """What an Ethernet link can be plugged into."""

    def carry(self, link: Link, frame: Frame) -> None:
        """Take a frame that ``link`` sends to wherever it is to go."""

    def joined(self, link: Link) -> None:
        """A VLAN device was made on a link that is plugged in here."""

    def unplug(self, link: Link) -> None:
        """A link is gone."""


def invented_mac(*words: str) -> str:
    """A locally administered unicast MAC made from ``words``: the same on every run.

    The real kernel draws it at random; 02 in the first byte marks it as drawn, not sold.
    """
    digest = hashlib.sha256("/".join(words).encode()).hexdigest()
    return ":".join(["02", *(digest[i : i + 2] for i in range(0, 10, 2))])
