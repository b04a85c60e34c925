"""Probes and answers by themselves: sizes, who answers, what a listener is called."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from ekslearn.errors import KernelError
from ekslearn.linux import Packet

from .labs import pair

BLUE = IPv4Address("10.1.1.2")


@pytest.mark.parametrize(("protocol", "size"), [("icmp", 84), ("tcp", 60), ("udp", 33)])
def test_a_probe_is_as_large_as_the_real_one(protocol: str, size: int) -> None:
    red = pair().namespace("red")
    port = None if protocol == "icmp" else 9
    assert red.sockets.ask(protocol, BLUE, port).question.size == size
    question = red.sockets.ask(protocol, BLUE, port, size=99).question
    assert (question.size, question.flags) == (99, "SYN" if protocol == "tcp" else "")


def test_a_datagrams_answer_is_its_line_with_a_newline_and_headers() -> None:
    lab = pair()
    lab.listen("blue", "0.0.0.0:53/udp")
    (answer,) = lab.namespace("red").sockets.ask("udp", BLUE, 53).answers
    assert answer.data == "blue 10.1.1.1 40000"
    assert answer.size == 20 + 8 + len("blue 10.1.1.1 40000\n")


def test_a_reset_is_forty_bytes() -> None:
    (answer,) = pair().namespace("red").sockets.ask("tcp", BLUE, 9).answers
    assert (answer.flags, answer.size) == ("RST", 40)


def test_an_error_quotes_what_fits_into_576_bytes() -> None:
    red = pair().namespace("red")
    sizes = [red.sockets.ask("udp", BLUE, 9, size=size).answers[0].size for size in (33, 1200)]
    assert sizes == [33 + 28, 576]


def test_a_listener_is_called_by_its_process_else_by_its_place() -> None:
    lab = pair()
    lab.listen("blue", "0.0.0.0:80/tcp", process="web")
    lab.listen("blue", "0.0.0.0:81/tcp")
    told = [lab.trace("red", f"10.1.1.2:{port}").steps for port in (80, 81)]
    assert any(step.decision == "web accepts on port 80/tcp" for step in told[0])
    assert any(step.decision == "blue accepts on port 81/tcp" for step in told[1])


def test_a_permanent_neighbor_is_not_overwritten_by_a_request() -> None:
    lab = pair("blue$ ip neigh add 10.1.1.1 lladdr 02:00:00:00:00:99 dev veth1 nud permanent")
    lab.trace("red", "10.1.1.2")
    assert lab.run("blue", "ip neigh show").stdout == (
        "10.1.1.1 dev veth1 lladdr 02:00:00:00:00:99 PERMANENT \n"
    )


def test_who_is_asked_learns_the_asker() -> None:
    lab = pair()
    lab.trace("red", "10.1.1.2")
    red = lab.namespace("red").links["veth0"].mac
    entry = lab.run("blue", "ip neigh show").stdout
    assert entry.startswith(f"10.1.1.1 dev veth1 lladdr {red} ")


def test_a_packet_that_answers_starts_with_a_full_ttl_and_nothing_quoted() -> None:
    asked = Packet(src=BLUE, dst=IPv4Address(9), protocol="udp", sport=1, dport=2, ttl=3, data="x")
    back = asked.answer()
    assert (back.src, back.dst, back.sport, back.dport) == (asked.dst, BLUE, 2, 1)
    assert (back.ttl, back.data, back.quoted) == (64, "", None)


def test_a_process_behind_a_listener_may_say_what_it_likes() -> None:
    """What it answers, and that this is no success; what the asker sent first it can read."""
    lab = pair()
    read: list[Packet] = []

    def serve(packet: Packet) -> tuple[str, str]:
        read.append(packet)
        return "503 Service Unavailable", "refused"

    lab.namespace("blue").sockets.listen(BLUE, 80, "tcp", "web", serve)
    trace = lab.trace("red", "10.1.1.2:80")
    assert (trace.verdict, trace.answer) == ("refused", "503 Service Unavailable")
    (answer,) = lab.namespace("red").sockets.ask("tcp", BLUE, 80, data="PROXY").answers
    assert answer.flags == "SYN-ACK"
    assert [packet.data for packet in read] == ["", "PROXY"]


def test_a_socket_may_be_bound_to_one_of_its_addresses() -> None:
    lab = pair("red$ ip addr add 10.1.1.7/24 dev veth0")
    red = lab.namespace("red")
    lab.listen("blue", "0.0.0.0:80/tcp")
    (answer,) = red.sockets.ask("tcp", BLUE, 80, src=IPv4Address("10.1.1.7")).answers
    assert answer.data == "blue 10.1.1.7 40000"
    with pytest.raises(KernelError):
        red.sockets.ask("tcp", BLUE, 80, src=IPv4Address("10.1.1.8"))
