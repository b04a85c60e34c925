"""``ping``, ``traceroute`` and ``curl``: the questions a learner asks of a network.

The same words and columns as iputils 20221126, traceroute 2.1 and curl 7.88; times are the
model's and always 0.
"""

from __future__ import annotations

import os
import re
from errno import EHOSTUNREACH
from ipaddress import IPv4Address

from ..linux.namespace import NetworkNamespace
from ..linux.packet import ECHO_REPLY, REDIRECT, TIME_EXCEEDED, UNREACHABLE, Packet
from ..linux.socket import Client
from .words import Done, Words, ipv4

UNREACHABLE_WORDS = {0: "Destination Net Unreachable", 1: "Destination Host Unreachable",
                     3: "Destination Port Unreachable", 4: "Frag needed and DF set",
                     9: "Destination Net Prohibited", 10: "Destination Host Prohibited",
                     13: "Packet filtered"}  # fmt: skip
TRACE_MARKS = {0: "!N", 1: "!H", 9: "!X", 10: "!X", 13: "!X"}
PING_HEADERS = 28  # bytes of the IP and ICMP headers around ping's data


def _options(
    words: list[str], tool: str, takes: str, switches: str
) -> tuple[dict[str, str], list[str]]:
    """Split into options and the rest: ``takes`` and ``switches`` are the letters known."""
    found: dict[str, str] = {}
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if not word.startswith("-") or word == "-":
            rest.append(word)
            continue
        for at, letter in enumerate(word[1:], start=1):
            if letter in switches:
                found[letter] = ""
            elif letter in takes:
                found[letter] = word[at + 1 :] or (queue.pop(0) if queue else "")
                break
            else:
                Words([], tool).refuse(f'the option "{word}"')
    return found, rest


def ping(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``ping``: -c COUNT (1 if not given), -s SIZE with -M do, -t TTL; -W, -i and -n idle."""
    found, rest = _options(words, "ping", "csWtMi", "nq")
    if not rest:
        return Done(stderr="ping: usage error: Destination address required\n", status=2)
    destination = ipv4(rest[0])
    if destination is None:
        return Done(stderr=f"ping: {rest[0]}: Name or service not known\n", status=2)
    for letter in "cst":
        if not re.fullmatch(r"[0-9]{1,5}", found.get(letter, "1")):
            return Done(stderr=f"ping: invalid argument: '{found[letter]}'\n", status=1)
    size, count = int(found.get("s", "56")), int(found.get("c", "1"))
    leaving = namespace.ip.departure(destination)
    if leaving.link is None:
        return Done(stderr=f"ping: connect: {os.strerror(leaving.errno)}\n", status=2)
    if leaving.broadcast:
        return Done(stderr="ping: Do you want to ping broadcast? Then -b. If not, check your local "
                           "firewall rules\n", status=2)  # fmt: skip
    if found.get("M", "do") != "do":
        Words([], "ping").refuse(f'"-M {found["M"]}"')
    if size + PING_HEADERS > leaving.link.mtu and "M" not in found:
        Words([], "ping").refuse("a packet larger than the MTU without -M do (fragments)")
    lines = [f"PING {destination} ({destination}) {size}({size + PING_HEADERS}) bytes of data."]
    received = errors = 0
    for number in range(1, count + 1):
        client = namespace.sockets.ask(
            "icmp", destination, ttl=int(found.get("t", "64")), size=size + PING_HEADERS
        )
        answered, line = _ping_line(client, number)
        received += answered
        errors += bool(line) and not answered
        lines += [line] if line else []
    told = f", +{errors} errors" if errors else ""
    loss = round(100 * (count - received) / count) if count else 0
    lines += ["", f"--- {destination} ping statistics ---",
              f"{count} packets transmitted, {received} received{told}, {loss}% packet loss, "
              "time 0ms"]  # fmt: skip
    if received:
        lines.append("rtt min/avg/max/mdev = 0.000/0.000/0.000/0.000 ms")
    lines += [] if received else [""]
    return Done("\n".join(lines) + "\n", status=0 if received == count else 1)


def _ping_line(client: Client, number: int) -> tuple[bool, str]:
    if client.errno:
        return False, f"ping: sendmsg: {os.strerror(client.errno)}"
    for answer in client.answers:
        if answer.icmp == (ECHO_REPLY, 0):
            size = answer.size - PING_HEADERS + 8
            return True, (f"{size} bytes from {answer.src}: icmp_seq={number} ttl={answer.ttl} "
                          "time=0.000 ms")  # fmt: skip
    for answer in client.answers:
        if answer.icmp and answer.icmp[0] != REDIRECT:
            kind, code = answer.icmp
            words = "Time to live exceeded"
            if kind == UNREACHABLE:
                words = UNREACHABLE_WORDS.get(code, f"Dest Unreachable, Bad Code: {code}")
            words += f" (mtu = {answer.mtu})" if kind == UNREACHABLE and code == 4 else ""
            return False, f"From {answer.src} icmp_seq={number} {words}"
    return False, ""


def traceroute(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``traceroute``: one UDP probe a hop (-q 1), -m MAX_TTL, -n."""
    found, rest = _options(words, "traceroute", "mqwz", "n")
    if not rest:
        return Done(stderr='Specify "host" missing argument.\n', status=2)
    destination = ipv4(rest[0])
    if destination is None:
        complaint = f'{rest[0]}: Name or service not known\nCannot handle "host" cmdline arg'
        return Done(stderr=f"{complaint} `{rest[0]}' on position 1 (argc {len(words)})\n", status=2)
    hops = int(found.get("m", "30")) if found.get("m", "30").isdigit() else 30
    lines = [f"traceroute to {destination} ({destination}), {hops} hops max, 60 byte packets"]
    for ttl in range(1, hops + 1):
        client = namespace.sockets.ask("udp", destination, 33433 + ttl, ttl=ttl, size=60)
        if client.errno and client.errno != EHOSTUNREACH:
            lines.append(f"{ttl:2}  send: {os.strerror(client.errno)}")
            return Done("\n".join(lines) + "\n", status=1)
        answer = next((a for a in client.answers if a.icmp and a.icmp[0] != REDIRECT), None)
        if answer is None or answer.icmp is None:
            lines.append(f"{ttl:2}  *")
            continue
        mark = TRACE_MARKS.get(answer.icmp[1], "") if answer.icmp[0] == UNREACHABLE else ""
        lines.append(f"{ttl:2}  {answer.src}  0.000 ms" + (f" {mark}" if mark else ""))
        if answer.icmp[0] != TIME_EXCEEDED:
            break
    return Done("\n".join(lines) + "\n")


def curl(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``curl``: print the line the listener answers with, or curl's own complaint."""
    found, rest = _options(words, "curl", "mw", "sSfv")
    if not rest:
        return Done(stderr="curl: try 'curl --help' or 'curl --manual' for more information\n",
                    status=2)  # fmt: skip
    target = re.fullmatch(r"(?:(http)://)?([0-9.]+)(?::([0-9]+))?(?:/.*)?", rest[0])
    destination = ipv4(target[2]) if target else None
    if target is None or destination is None:
        Words([], "curl").refuse(f'"{rest[0]}" (an address and a port are)')
    port = int(target[3] or 80)
    if not 0 < port < 65536:
        return Done(stderr="curl: (3) URL using bad/illegal format or missing URL\n", status=3)
    client = namespace.sockets.ask("tcp", destination, port)
    quiet = "s" in found and "S" not in found
    status, words_ = _curl_outcome(client, destination, port)
    if status == 0:
        return Done(words_ + "\n")
    return Done(stderr="" if quiet else f"curl: ({status}) {words_}\n", status=status)


def _curl_outcome(client: Client, destination: IPv4Address, port: int) -> tuple[int, str]:
    failed = f"Failed to connect to {destination} port {port} after 0 ms: "
    if client.errno:
        return 7, failed + "Couldn't connect to server"
    for answer in client.answers:
        if answer.flags == "SYN-ACK":
            return 0, answer.data
        if answer.flags == "RST" or _tells(answer):
            return 7, failed + "Couldn't connect to server"
    return 28, f"Failed to connect to {destination} port {port} after 0 ms: Timeout was reached"


def _tells(answer: Packet) -> bool:
    return answer.icmp is not None and answer.icmp[0] in (UNREACHABLE, TIME_EXCEEDED)
