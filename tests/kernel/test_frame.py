"""Whose packet it is, read from bytes put together by hand."""

from __future__ import annotations

import random
import struct

import pytest

from ekslearn.kernel import frame
from ekslearn.kernel.frame import Packet, payload, read, sequence

ETHER = bytes(12) + b"\x08\x00"
HERE, THERE = bytes([10, 1, 1, 1]), bytes([10, 1, 1, 2])
MARK = 0x2A


def ipv4(protocol: int, body: bytes, *, src: bytes = HERE, dst: bytes = THERE) -> bytes:
    total = 20 + len(body)
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, total, 0, 0, 63, protocol, 0, src, dst) + body


def tcp(number: int, answered: int, flags: int) -> bytes:
    return struct.pack("!HHIIBBHHH", 40000, 80, number, answered, 0x50, flags, 0, 0, 0)


def udp(data: bytes) -> bytes:
    return struct.pack("!HHHH", 40000, 53, 8 + len(data), 0) + data


def icmp(kind: int, code: int, data: bytes) -> bytes:
    return struct.pack("!BBHI", kind, code, 0, 0) + data


SYN = tcp(sequence(MARK), 0, frame.SYN)
SYN_ACK = tcp(77, sequence(MARK) + 1, frame.SYN | frame.ACK)


@pytest.mark.parametrize(
    ("protocol", "body", "leg"),
    [
        pytest.param(6, SYN, "request", id="syn"),
        pytest.param(6, SYN_ACK, "reply", id="syn-ack"),
        pytest.param(6, tcp(0, sequence(MARK) + 1, frame.RST | frame.ACK), "reply", id="refused"),
        pytest.param(6, tcp(sequence(MARK) + 1, 0, frame.RST), "reply", id="rst-to-syn-ack"),
        pytest.param(17, udp(payload(MARK)), "request", id="datagram"),
        pytest.param(17, udp(b"blue 10.1.1.1 40000\n" + payload(MARK)), "reply", id="answer"),
        pytest.param(1, icmp(8, 0, payload(MARK)), "request", id="echo"),
        pytest.param(1, icmp(0, 0, payload(MARK)), "reply", id="echo-reply"),
        pytest.param(1, icmp(11, 0, ipv4(6, SYN)), "reply", id="error-quotes-syn"),
        pytest.param(1, icmp(3, 1, ipv4(6, SYN_ACK)), "reply", id="error-quotes-syn-ack"),
        pytest.param(1, icmp(3, 4, ipv4(6, SYN[:8])), "reply", id="error-quotes-8-bytes"),
        pytest.param(1, icmp(3, 3, ipv4(17, udp(payload(MARK)))), "reply", id="error-quotes-udp"),
        pytest.param(1, icmp(5, 1, ipv4(1, icmp(8, 0, payload(MARK)))), "reply", id="redirect"),
    ],
)
def test_a_probes_packet_is_recognised(protocol: int, body: bytes, leg: str) -> None:
    found = read(ETHER + ipv4(protocol, body))
    assert found is not None
    assert (found.mark, found.leg, found.ttl) == (MARK, leg, 63)
    assert (found.src, found.dst) == ("10.1.1.1", "10.1.1.2")
    assert found.icmp == ((body[0], body[1]) if protocol == 1 else None)
    assert (found.sport is None) == (protocol == 1)


@pytest.mark.parametrize(
    ("protocol", "body"),
    [
        pytest.param(6, tcp(sequence(MARK) + 1, 78, frame.ACK), id="handshake's last"),
        pytest.param(6, tcp(78, sequence(MARK) + 1, frame.ACK | frame.FIN), id="fin"),
        pytest.param(6, tcp(sequence(MARK) + 5, 0, frame.SYN), id="another's syn"),
        pytest.param(6, tcp(sequence(MARK) + 9, 78, frame.RST | frame.ACK), id="hang-up"),
        pytest.param(17, udp(b"hello"), id="unmarked datagram"),
        pytest.param(17, udp(frame.TAG + b"no hex.."), id="a tag without its number"),
        pytest.param(1, icmp(8, 0, b"abc"), id="unmarked echo"),
        pytest.param(1, icmp(3, 1, ipv4(1, icmp(3, 1, ipv4(6, SYN)))), id="error about an error"),
        pytest.param(132, bytes(20), id="another protocol"),
    ],
)
def test_anything_else_is_nobodys(protocol: int, body: bytes) -> None:
    assert read(ETHER + ipv4(protocol, body)) is None


def test_marks_are_told_apart() -> None:
    for mark in (0, 1, 4095, 0xE0000):
        found = read(ETHER + ipv4(6, tcp(sequence(mark), 0, frame.SYN)))
        assert isinstance(found, Packet) and found.mark == mark


def test_no_bytes_upset_the_reader() -> None:
    dice = random.Random(1)
    whole = ETHER + ipv4(1, icmp(3, 1, ipv4(6, SYN)))
    for _ in range(3000):
        cut = bytearray(whole[: dice.randrange(len(whole) + 1)])
        for _ in range(dice.randrange(4)):
            if cut:
                cut[dice.randrange(len(cut))] = dice.randrange(256)
        read(bytes(cut))
