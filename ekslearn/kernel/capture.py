"""See every frame on every interface of a namespace, through one memory-mapped AF_PACKET ring.

``tcpdump`` refuses to work for an ordinary user in a private world, and a plain socket there can't
have a large buffer; a ring can. Source: Documentation/networking/packet_mmap.rst, TPACKET_V2.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ekslearn.kernel.space import entered

SOL_PACKET = 263  # this and the next five: include/linux/socket.h, include/uapi/linux/if_packet.h
PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 5, 6, 10
TPACKET_V2 = 1
PACKET_OUTGOING = 4
FOR_USER = 1  # TP_STATUS_USER
ETH_P_ALL = 3
FRAME, FRAMES, BLOCK = 512, 8192, 65536  # bytes of a frame; how many; bytes of one block
HEADER = struct.Struct("=IIIHHIIHH")  # status, length, kept, mac, net, sec, nsec, VLAN
ADDRESS = struct.Struct("=HHiHBB")  # sockaddr_ll, 32 bytes into the frame: ..., type of packet


@dataclass(frozen=True, slots=True)
class Captured:
    """One frame: when (ns), where, "in" before PREROUTING or "out" after POSTROUTING."""

    time_ns: int
    namespace: str
    interface: str
    direction: str
    frame: bytes


class Ring:
    """The capture of one namespace, from the moment it is made until it is closed."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._next = 0
        self._names: dict[int, str] = {}
        with entered(namespace):
            everything = socket.htons(ETH_P_ALL)
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, everything)
            self._names = dict(socket.if_nameindex())
        self.socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        ring = struct.pack("=IIII", BLOCK, FRAMES * FRAME // BLOCK, FRAME, FRAMES)
        self.socket.setsockopt(SOL_PACKET, PACKET_RX_RING, ring)
        self._map = mmap.mmap(self.socket.fileno(), FRAMES * FRAME)

    def fileno(self) -> int:
        """What a selector waits for: readable when a frame is there."""
        return self.socket.fileno()

    def read(self) -> Iterator[Captured]:
        """The frames that came since the last call."""
        while True:
            at = self._next * FRAME
            status, _, kept, mac, _, sec, nsec, _, _ = HEADER.unpack_from(self._map, at)
            if not status & FOR_USER:
                return
            *_, index, _, kind, _ = ADDRESS.unpack_from(self._map, at + 32)
            data = bytes(self._map[at + mac : at + mac + kept])
            self._map[at : at + 4] = b"\0\0\0\0"  # the frame is the kernel's again
            self._next = (self._next + 1) % FRAMES
            direction = "out" if kind == PACKET_OUTGOING else "in"
            yield Captured(
                sec * 10**9 + nsec, self.namespace, self._names.get(index, f"if{index}"),
                direction, data,
            )  # fmt: skip

    def lost(self) -> int:
        """How many frames found no room since the last call."""
        counts = self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        return int(struct.unpack("=II", counts)[1])

    def close(self) -> None:
        """Stop capturing and give the memory back."""
        self._map.close()
        self.socket.close()
