"""The two translators at the edge of a VPC: the internet gateway and the NAT gateway.

Source: Amazon VPC user guide, "Internet gateways" (one to one) and "NAT gateways".
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from random import Random

from ..linux.conntrack import PORTS, Tuple, rewritten, tuple_of
from ..linux.packet import ECHO_REQUEST, Packet
from ..vpc.model import NAT_GATEWAY


def moved(packet: Packet, end: str, address: IPv4Address) -> Packet:
    """A packet with another source or target, and what an error quotes the other way round."""
    about = packet.quoted
    if end == "source":
        return replace(packet, src=address, quoted=about and replace(about, dst=address))
    return replace(packet, dst=address, quoted=about and replace(about, src=address))


class NatGateway:
    """Many private sources behind one public address; only what answers them comes back.

    A port stays where it can, else the dice draw one: how AWS chooses is not published. A TCP
    packet that belongs to no connection is dropped, where the real one answers with a reset.
    """

    def __init__(self, dice: Random, public: IPv4Address = NAT_GATEWAY) -> None:
        self.public = public
        self._dice = dice
        self._out: dict[Tuple, Tuple] = {}
        self._back: dict[Tuple, Tuple] = {}

    def out(self, packet: Packet) -> Packet | None:
        """What a packet from inside becomes; None if it belongs to nothing and begins nothing."""
        about = packet.quoted
        own = tuple_of(about).inverted() if about else tuple_of(packet)
        begins = packet.flags == "SYN" or packet.protocol == "udp"
        if own not in self._out and (begins or packet.icmp == (ECHO_REQUEST, 0)):
            self._bind(own)
        shown = self._out.get(own)
        if shown is None:
            return None
        if about is None:
            return rewritten(packet, shown, "source")
        return replace(packet, src=shown.src, quoted=rewritten(about, shown.inverted(), "target"))

    def back(self, packet: Packet) -> Packet | None:
        """What a packet from outside becomes; None if nobody inside asked for it."""
        about = packet.quoted
        own = self._back.get(tuple_of(about).inverted() if about else tuple_of(packet))
        if own is None:
            return None
        if about is None:
            return rewritten(packet, own.inverted(), "target")
        return replace(packet, dst=own.src, quoted=rewritten(about, own, "source"))

    def _bind(self, own: Tuple) -> None:
        shown = replace(own, src=self.public)
        while shown.inverted() in self._back:
            port = self._dice.randint(*PORTS)
            dport = port if own.protocol == "icmp" else own.dport
            shown = replace(shown, sport=port, dport=dport)
        self._out[own], self._back[shown.inverted()] = shown, own
