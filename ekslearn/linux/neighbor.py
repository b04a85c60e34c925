"""Neighbors: which MAC address a next hop has, and ARP, which finds it out.

Source: net/ipv4/arp.c and net/core/neighbour.c of Linux 6.18. Timed states (DELAY, PROBE) are
left out: an entry once learned is used until it is deleted, replaced, or its link loses carrier.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from errno import EHOSTUNREACH
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from .link import LINK, NO_MAC, Link
from .packet import BROADCAST_MAC, Arp, Frame, Skb
from .route import LOCAL, Flow

if TYPE_CHECKING:
    from .namespace import NetworkNamespace

VLAN_HEADER = 4  # bytes a veth takes beyond its MTU (____is_skb_forwardable)
USABLE = ("PERMANENT", "NOARP", "REACHABLE", "STALE")


@dataclass(slots=True)
class Neighbor:
    """What is known of one next hop on one link.

    ``state`` is the kernel's word: PERMANENT, NOARP, REACHABLE, STALE, INCOMPLETE or FAILED;
    ``mac`` is empty in the last two. ``waiting`` holds packets until the answer comes.
    """

    ip: IPv4Address
    link: Link
    mac: str = ""
    state: str = "INCOMPLETE"
    waiting: list[Skb] = field(default_factory=list)


class Neighbors:
    """The neighbor table of one namespace, and its side of ARP."""

    def __init__(self, namespace: NetworkNamespace) -> None:
        self._ns = namespace
        self.entries: dict[tuple[Link, IPv4Address], Neighbor] = {}

    def forget(self, link: Link, *, permanent: bool) -> None:
        """Drop what was learned on ``link``: it lost its carrier, or is gone (``permanent``)."""
        for key, entry in list(self.entries.items()):
            if key[0] is link and (permanent or entry.state != "PERMANENT"):
                del self.entries[key]

    def send(self, skb: Skb, link: Link, next_hop: IPv4Address) -> None:
        """Send ``skb`` to ``next_hop``: at once if its MAC is known, else once ARP told it."""
        # Till the first address makes the local table, all is broadcast (__inet_dev_addr_type).
        if link.kind == "loopback" or skb.broadcast or LOCAL not in self._ns.routing.tables:
            self._transmit(skb, link, NO_MAC if link.kind == "loopback" else BROADCAST_MAC)
            return
        entry = self.entries.setdefault((link, next_hop), Neighbor(next_hop, link))
        if entry.state in USABLE:
            self._ns.note(skb, "neighbor", f"{next_hop} is at {entry.mac}", entry)
            self._transmit(skb, link, entry.mac)
            return
        entry.waiting.append(skb)
        if len(entry.waiting) == 1:
            self._ns.note(skb, "neighbor", f"asks on {link.name}: who has {next_hop}?", None)
            self._ask(entry, skb.packet.src)

    def knows(self, link: Link, ip: IPv4Address) -> bool:
        """Whether the MAC of ``ip`` is known; if not, ask for it in passing."""
        entry = self.entries.setdefault((link, ip), Neighbor(ip, link))
        if entry.state in USABLE:
            return True
        if entry.state != "INCOMPLETE" or not entry.waiting:
            self._ask(entry)
        return False

    def _transmit(self, skb: Skb, link: Link, mac: str) -> None:
        if not link.carrier:
            why = f"{link.name} is down" if not link.up else f"the other end of {link.name} is down"
            self._ns.drop(skb, "link", f"{why}: the frame isn't sent")
            return
        if not link.passes("egress", skb.packet):
            return
        self._ns.sight(link, "out", skb.packet)
        if link.peer and min(skb.packet.size, link.mtu) > link.peer.mtu + VLAN_HEADER:
            self._ns.drop(skb, "link", f"the other end of {link.name} takes {link.peer.mtu} bytes")
            return
        link.transmit(Frame(mac, link.mac, skb.packet), skb)

    def _ask(self, entry: Neighbor, source: IPv4Address | None = None) -> None:
        """Ask who has the address, in the name of ``source`` if that is one of ours."""
        if source is None or not self._ns.is_local(source):
            source = self._ns.select_address(entry.link, entry.ip, LINK) or IPv4Address(0)
        entry.state = "INCOMPLETE"
        self._say(entry.link, BROADCAST_MAC, "request", source, entry.ip)
        self._ns.world.when_quiet(self._give_up, entry)

    def _say(self, link: Link, mac: str, op: str, sender: IPv4Address, target: IPv4Address) -> None:
        if link.carrier:
            arp = Arp(op=op, sender=sender, sender_mac=link.mac, target=target)
            link.transmit(Frame(mac, link.mac, arp))

    def _give_up(self, entry: Neighbor) -> None:
        """Nobody answered: the waiting packets' senders are told that the host is unreachable."""
        if entry.state != "INCOMPLETE":
            return
        entry.state, waiting, entry.waiting = "FAILED", entry.waiting, []
        for skb in waiting:
            self._ns.drop(skb, "neighbor", f"nobody on {entry.link.name} answers for {entry.ip}")
            self._ns.ip.report_route_error(skb, EHOSTUNREACH)

    def receive(self, link: Link, arp: Arp) -> None:
        """Answer a request for an address of ours, on whichever link; learn from what is said."""
        if arp.op == "request" and self._answers(link, arp):
            if int(arp.sender):
                self.entries.setdefault((link, arp.sender), Neighbor(arp.sender, link))
            self._say(link, arp.sender_mac, "reply", arp.target, arp.sender)
        entry = self.entries.get((link, arp.sender))
        if entry and entry.state != "PERMANENT":
            reached = arp.op == "reply"
            if entry.mac != arp.sender_mac or reached:
                entry.state = "REACHABLE" if reached else "STALE"
            entry.mac = arp.sender_mac
            waiting, entry.waiting = entry.waiting, []
            for skb in waiting:
                self._transmit(skb, link, entry.mac)

    def _answers(self, link: Link, arp: Arp) -> bool:
        """Whether a request gets a reply: it passes the routing decision like any packet."""
        if not int(arp.sender):  # somebody without an address asks: no way back to check
            return self._ns.is_local(arp.target)
        arrival = self._ns.ip.arrival(Flow(arp.target, arp.sender, link.name), link)
        answers = arrival.verdict == "local"
        ours = f"{arp.target} is one of its addresses"
        why = ours if answers else arrival.why or "the address isn't its own"
        if arrival.verdict == "forward" and arrival.route and arrival.route.dev is not link:
            answers = self._ns.sysctls.either(link.name, "proxy_arp")
            why = f"proxy ARP is {'on' if answers else 'off'} and the address isn't its own"
        said = f"{'answers' if answers else 'ignores'} the ARP request for {arp.target} on"
        self._ns.note(None, "arp", f"{said} {link.name}: {why}", arp)
        return answers
