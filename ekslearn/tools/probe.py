"""``ping``, ``traceroute`` and ``curl``: the questions a learner asks of a network.

The words of iputils 20221126, traceroute 2.1.2 and curl 7.88.1 (which writes no progress meter to a
terminal); times are the model's and always 0.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from errno import EACCES, EMSGSIZE
from getopt import GetoptError, gnu_getopt
from ipaddress import IPv4Address

from ..linux.namespace import NetworkNamespace
from ..linux.packet import ECHO_REPLY, REDIRECT, TIME_EXCEEDED, UNREACHABLE, Packet
from ..linux.socket import Client
from .words import Done, Words

UNREACHABLE_WORDS = {0: "Destination Net Unreachable", 1: "Destination Host Unreachable",
                     2: "Destination Protocol Unreachable", 3: "Destination Port Unreachable",
                     4: "Frag needed and DF set", 9: "Destination Net Prohibited",
                     10: "Destination Host Prohibited", 13: "Packet filtered"}  # fmt: skip
TRACE_MARKS = {0: " !N", 1: " !H", 2: " !P", 3: "", 9: " !X", 10: " !X", 13: " !X"}
PING_HEADERS = 28  # bytes of the IP and ICMP headers around ping's data
TIMED = 16  # bytes of data that ping needs to put the time into
SECONDS = r"\d+(\.\d*)?"
PING_TAKES = dict.fromkeys("cst", ".*") | dict.fromkeys("Wi", SECONDS) | {"M": "do"}
TRACE_TAKES = {"m": r"[1-9]\d?|1\d\d|2[0-4]\d|25[0-5]", "q": "[1-9]|10"}
TRACE_TAKES |= dict.fromkeys("wz", SECONDS)
PING_LIMITS = {"c": (1, 2**63 - 1), "s": (0, 2**31 - 1), "t": (0, 255)}
EXPIRED = "Time to live exceeded"
NO_NAMES = "Temporary failure in name resolution"  # nobody answers for names here


def _options(
    words: list[str], tool: str, takes: dict[str, str], switches: str
) -> tuple[dict[str, str], list[str]]:
    """Split into options and the rest: ``takes`` are the letters with the form of an argument."""
    try:
        pairs, rest = gnu_getopt(words, switches + "".join(f"{letter}:" for letter in takes))
    except GetoptError as error:
        Words([], tool).refuse(f'the option "{"-" * min(len(error.opt), 2)}{error.opt}"')
    found = {option[1:]: value for option, value in pairs}
    for letter, value in found.items():
        if letter in takes and not re.fullmatch(takes[letter], value):
            Words([], tool).refuse(f'"-{letter} {value}"')
    if len(rest) > 1:
        Words([], tool).refuse(f'more than one destination ("{rest[1]}")')
    return found, rest


def _address(tool: str, text: str) -> IPv4Address | None:
    """What inet_aton(3) makes of a word, which may be short; None if it would be a name."""
    try:
        address = IPv4Address(socket.inet_aton(text))
    except OSError:
        return None
    if address.is_multicast:
        Words([], tool).refuse(f'the multicast address "{text}"')
    return address


def ping(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``ping``: -c COUNT (1 if not given), -s SIZE with -M do, -t TTL, -q; -W, -i, -n idle."""
    found, rest = _options(words, "ping", PING_TAKES, "nq")
    for letter, (low, high) in PING_LIMITS.items():
        text = found.get(letter, "1")
        number = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None
        if number is None or not low <= number <= high:
            bounds = "" if number is None else f": out of range: {low} <= value <= {high}"
            return Done(stderr=f"ping: invalid argument: '{text}'{bounds}\n", status=1)
    if not rest:
        return Done(stderr="ping: usage error: Destination address required\n", status=1)
    destination = _address("ping", rest[0])
    if destination is None:
        return Done(stderr=f"ping: {rest[0]}: {NO_NAMES}\n", status=2)
    size, count, ttl = (int(found.get(letter, usual)) for letter, usual
                        in (("s", "56"), ("c", "1"), ("t", "64")))  # fmt: skip
    leaving = namespace.ip.departure(destination)
    if leaving.errno == EACCES or leaving.broadcast:
        return Done(stderr="ping: Do you want to ping broadcast? Then -b. If not, check your local "
                           "firewall rules\n", status=2)  # fmt: skip
    if leaving.link is None:
        return Done(stderr=f"ping: connect: {os.strerror(leaving.errno)}\n", status=2)
    if not ttl:
        return Done(stderr="ping: cannot set unicast time-to-live: Invalid argument\n", status=2)
    if size + PING_HEADERS > leaving.link.mtu and "M" not in found:
        Words([], "ping").refuse("a packet larger than the MTU without -M do (fragments)")
    lines, errors, complaints, received = list[str](), 0, "", 0
    ident = namespace.sockets.next_port
    for number in range(1, count + 1):
        namespace.sockets.next_port = ident  # one socket, so one id
        client = namespace.sockets.ask("icmp", destination, ttl=ttl, size=size + PING_HEADERS)
        if client.errno == EMSGSIZE:  # ping says nothing of other errors
            errors += 1
            route = leaving.lookup.route if leaving.lookup else None
            learned = route and namespace.routing.learned.get((route, destination))
            mtu = learned.mtu if learned and learned.mtu else leaving.link.mtu
            complaints += f"ping: local error: message too long, mtu={mtu}\n"
        for answer in client.answers:
            answered = answer.icmp == (ECHO_REPLY, 0)
            received, errors = received + answered, errors + (not answered)
            lines.append(_ping_line(answer, number))
    told = f", +{errors} errors" if errors else ""
    times = "rtt min/avg/max/mdev = 0.000/0.000/0.000/0.000 ms" if size >= TIMED else ""
    lines = [
        f"PING {rest[0]} ({client.question.dst}) {size}({size + PING_HEADERS}) bytes of data.",
        *([] if "q" in found else lines), "", f"--- {rest[0]} ping statistics ---",
        f"{count} packets transmitted, {received} received{told}, "
        f"{round(100 * (count - received) / count)}% packet loss, time 0ms",
        times if received else "",
    ]  # fmt: skip
    return Done("\n".join(lines) + "\n", complaints, int(not received))


def _ping_line(answer: Packet, number: int) -> str:
    kind, code = answer.icmp or (0, 0)
    if kind == ECHO_REPLY:
        size = answer.size - PING_HEADERS
        time = " time=0.000 ms" if size >= TIMED else ""
        return f"{size + 8} bytes from {answer.src}: icmp_seq={number} ttl={answer.ttl}{time}"
    words = f"Redirect Host(New nexthop: {answer.gateway})" if kind == REDIRECT else EXPIRED
    if kind == UNREACHABLE:
        words = UNREACHABLE_WORDS[code] + (f" (mtu = {answer.mtu})" if code == 4 else "")
    return f"From {answer.src} icmp_seq={number} {words}"


def traceroute(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``traceroute``: UDP, -q PROBES of a hop (3), -m MAX_TTL, -n; -w and -z idle."""
    found, rest = _options(words, "traceroute", TRACE_TAKES, "n")
    if not rest:
        Words([], "traceroute").refuse("a line without a host")
    destination = _address("traceroute", rest[0])
    if destination is None:
        complaint = f'{rest[0]}: {NO_NAMES}\nCannot handle "host" cmdline arg `{rest[0]}\''
        argc = words.index(rest[0]) + 1
        return Done(stderr=f"{complaint} on position 1 (argc {argc})\n", status=2)
    hops, probes = int(found.get("m", "30")), int(found.get("q", "3"))
    text = f"traceroute to {rest[0]} ({destination}), {hops} hops max, 60 byte packets"
    leaving = namespace.ip.departure(destination)
    if errno := leaving.errno or leaving.broadcast * EACCES:
        return Done(text, f"\nconnect: {os.strerror(errno)}\n", 1)
    for ttl in range(1, hops + 1):
        port = 33434 + (ttl - 1) * probes
        asked = [namespace.sockets.ask("udp", destination, port + at, ttl=ttl, size=60)
                 for at in range(probes)]  # fmt: skip
        if errno := next((client.errno for client in asked if client.errno), 0):
            return Done(text, f"\nsend: {os.strerror(errno)}\n", 1)
        answers = [_final(client) for client in asked]
        text += f"\n{ttl:2} " + "".join(_row(answers, "n" not in found))
        if any(answer and answer.icmp != (TIME_EXCEEDED, 0) for answer in answers):
            break
    return Done(text + "\n")


def _final(client: Client) -> Packet | None:
    """The answer that ends the question; a redirect is none."""
    return next((one for one in client.answers if not one.icmp or one.icmp[0] != REDIRECT), None)


def _row(answers: list[Packet | None], named: bool) -> Iterator[str]:
    """What a line says of each probe: who answered, if another one than before, and when."""
    before = None
    for answer in answers:
        if answer is None:
            yield " *"
            continue
        if answer.src != before:
            yield f" {answer.src}" + f" ({answer.src})" * named
        before = answer.src
        kind, code = answer.icmp or (TIME_EXCEEDED, 0)
        yield "  0.000 ms" + (TRACE_MARKS[code] if kind == UNREACHABLE else "")


def curl(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``curl``: print the line the listener answers with, or curl's own complaint.

    -s, -S and -m SECONDS; -f, which minds what the listeners never say, is idle.
    """
    found, rest = _options(words, "curl", {"m": SECONDS}, "sSf")
    if not rest:
        complaint = "curl: try 'curl --help' or 'curl --manual' for more information\n"
        return Done(stderr=complaint, status=2)
    target = re.fullmatch(r"(?:http://)?([^/:]*)(?::([^/]*))?(/.*)?", rest[0])
    if target is None or "://" in rest[0].removeprefix("http://"):
        Words([], "curl").refuse(f'"{rest[0]}" (http://ADDRESS:PORT is)')
    destination, port = _address("curl", target[1]), target[2] or "80"
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        status, said = 3, "URL using bad/illegal format or missing URL"
    elif destination is None:
        status, said = 6, f"Could not resolve host: {target[1]}"
    else:
        client = namespace.sockets.ask("tcp", destination, int(port))
        status, said = _curl_outcome(client, f"{destination} port {port}", found.get("m", ""))
    if status == 0:
        return Done(said + "\n")
    quiet = "s" in found and "S" not in found
    return Done(stderr="" if quiet else f"curl: ({status}) {said}\n", status=status)


def _curl_outcome(client: Client, server: str, limit: str) -> tuple[int, str]:
    failed = f"Failed to connect to {server} after 0 ms: Couldn't connect to server"
    answer = _final(client)
    if answer and answer.flags == "SYN-ACK":
        return 0, answer.data
    if limit and not answer and not client.errno:
        return 28, f"Connection timed out after {float(limit) * 1000:.0f} milliseconds"
    return (7 if answer or client.errno else 28), failed
