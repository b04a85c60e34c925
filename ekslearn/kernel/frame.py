"""Read a captured Ethernet frame: whose probe it belongs to, and what it says.

Every probe has a number of its own, its mark, which no router rewrites: in TCP it sets the
sequence number of the SYN, in UDP and ICMP it stands in the payload. So a packet is recognised
after any translation, and inside the ICMP error that quotes it. Offsets are those of RFC 791,
792, 768 and 9293.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from socket import inet_ntoa

ICMP, TCP, UDP = 1, 6, 17
NAMES = {ICMP: "icmp", TCP: "tcp", UDP: "udp"}
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
ECHO_REPLY, ECHO = 0, 8
ICMP_ERRORS = (3, 4, 5, 11, 12)  # unreachable, quench, redirect, time exceeded, bad parameter
TAG = b"ekslearn "  # a payload begins with this and eight hexadecimal digits
TAGGED = re.compile(TAG + rb"([0-9a-f]{8})")
SEQUENCE = 0x10000000  # a mark's first sequence number; each mark has a room of 4,096
HOP = 2048  # of it, for the connection that a proxy opens in a probe's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One IPv4 packet of a probe, as a wire shows it. ``leg`` is "request" or "reply".

    ``hop`` is 1 in the connection that a proxy opens in the probe's name, else 0.
    """

    mark: int
    leg: str
    src: str
    sport: int | None
    dst: str
    dport: int | None
    protocol: str
    ttl: int
    icmp: tuple[int, int] | None = None
    flags: int = 0  # TCP's; 0 for the others
    hop: int = 0


def payload(mark: int) -> bytes:
    """What a UDP or ICMP probe carries."""
    return TAG + b"%08x" % mark


def sequence(mark: int, hop: int = 0) -> int:
    """The sequence number of a TCP probe's SYN."""
    return SEQUENCE + (mark << 12) + hop * HOP & 0xFFFFFFFF


def mark_of(number: int) -> int:
    """The mark that a sequence number of a conversation's beginning belongs to."""
    return (number - SEQUENCE & 0xFFFFFFFF) >> 12


def read(frame: bytes) -> Packet | None:
    """The probe's packet in this frame; None if it holds anything else (ARP, data, a later ACK)."""
    if len(frame) < 34 or frame[12:14] != b"\x08\x00":
        return None
    return _ipv4(frame[14:])


def _ipv4(data: bytes, quoted: bool = False) -> Packet | None:
    """Read an IPv4 packet, or as much of it as an ICMP error quotes."""
    if len(data) < 20 or data[0] >> 4 != 4:
        return None
    length = (data[0] & 15) * 4
    (fragment,) = struct.unpack_from("!H", data, 6)
    protocol, body = data[9], data[length:]
    if fragment & 0x1FFF or protocol not in NAMES or len(body) < 8:
        return None
    icmp, ports, flags = None, (None, None), 0
    found: tuple[int, str] | tuple[int, str, int] | None
    if protocol == TCP:
        found = _tcp(body)
        ports = struct.unpack_from("!HH", body)
        flags = body[13] if len(body) > 13 else 0
    elif protocol == UDP:
        found = _tagged(body[8:], "request" if body[8:].startswith(TAG) else "reply")
        ports = struct.unpack_from("!HH", body)
    else:
        icmp = (body[0], body[1])
        if body[0] in ICMP_ERRORS and not quoted:
            inner = _ipv4(body[8:], quoted=True)
            found = (inner.mark, "reply", inner.hop) if inner else None
        else:
            found = _tagged(body[8:], "request" if body[0] == ECHO else "reply")
    if not found:
        return None
    return Packet(
        mark=found[0], leg=found[1], src=inet_ntoa(data[12:16]), sport=ports[0],
        dst=inet_ntoa(data[16:20]), dport=ports[1], protocol=NAMES[protocol], ttl=data[8],
        icmp=icmp, flags=flags, hop=found[2] if len(found) > 2 else 0,
    )  # fmt: skip


def _tagged(data: bytes, leg: str) -> tuple[int, str] | None:
    found = TAGGED.search(data)
    return (int(found[1], 16), leg) if found else None


def _tcp(body: bytes) -> tuple[int, str, int] | None:
    """SYN, SYN-ACK and RST; the rest of a conversation is beyond the model's one probe.

    A quotation may end after 8 bytes (RFC 792): then only the sequence number is there.
    """
    (number,) = struct.unpack_from("!I", body, 4)
    if len(body) < 14:
        return _marked(number, "request")
    (answered,) = struct.unpack_from("!I", body, 8)
    flags = body[13] & (SYN | RST | ACK)
    if flags == SYN:
        return _marked(number, "request")
    if flags in (SYN | ACK, RST | ACK):
        return _marked(answered - 1, "reply")
    if flags == RST:  # by one who was sent a SYN-ACK that isn't for them
        return _marked(number - 1, "reply")
    return None


def _marked(number: int, leg: str) -> tuple[int, str, int] | None:
    hop, rest = divmod(number - SEQUENCE & 0xFFF, HOP)
    return None if rest else (mark_of(number), leg, hop)
