"""What the benchmarks ask of the real kernel, inside a private world of ``KernelBench``."""

from __future__ import annotations

import socket
import struct
import subprocess
from contextlib import suppress
from typing import Any

from ekslearn.kernel import World, space
from ekslearn.kernel.inside import Inside, main
from tests.bench.figures import seconds

# linux/netlink.h and linux/rtnetlink.h
RTM_NEWROUTE, RTM_GETROUTE, NLM_F_REQUEST, RTA_DST, RTM_F_FIB_MATCH = 24, 26, 1, 1, 0x2000
HEADER, ROUTE = struct.Struct("=IHHII"), struct.Struct("=8BI")


def question(address: str, flags: int = 0) -> bytes:
    """The netlink message of ``ip route get ADDRESS``."""
    route = ROUTE.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, flags)
    route += struct.pack("=HH", 8, RTA_DST) + socket.inet_aton(address)
    return HEADER.pack(HEADER.size + len(route), RTM_GETROUTE, NLM_F_REQUEST, 1, 0) + route


class BenchInside(Inside):
    """A private world that also times things."""

    def fill(self, namespace: str, networks: list[str]) -> None:
        """Replace the routes of a namespace that has a veth by routes to ``networks``."""
        with space.entered(namespace), suppress(subprocess.CalledProcessError):
            ip = ["ip", "-batch", "-"]
            lines = ["route flush table main", *(f"route add {net} dev veth0" for net in networks)]
            subprocess.run(ip, input="\n".join(lines), text=True, check=True, env=space.ENVIRONMENT)

    def matches(self, namespace: str, addresses: list[str]) -> list[str]:
        """Which prefix decides, as the kernel says it (``ip route get fibmatch``)."""
        found = []
        with space.entered(namespace), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as link:
            for address in addresses:
                link.send(question(address, RTM_F_FIB_MATCH))
                answer = link.recv(4096)
                kind, length = HEADER.unpack_from(answer)[1], answer[HEADER.size + 1]
                at, prefix = HEADER.size + ROUTE.size, bytes(4)
                while kind == RTM_NEWROUTE and at < len(answer):
                    size, attribute = struct.unpack_from("=HH", answer, at)
                    if attribute == RTA_DST:
                        prefix = answer[at + 4 : at + 8]
                    at += (size + 3) & ~3
                text = f"{socket.inet_ntoa(prefix)}/{length}"
                found.append(text if kind == RTM_NEWROUTE else "")
        return found

    def route_get(self, namespace: str, addresses: list[str]) -> float:
        """Seconds for one ``route get`` after another over one raw netlink socket.

        The questions are packed beforehand and the answers aren't read: the kernel's best case.
        """
        questions = [question(address) for address in addresses]
        with space.entered(namespace), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as link:

            def ask() -> None:
                for each in questions:
                    link.send(each)
                    link.recv(4096)

            return seconds(ask)

    def pyroute2_get(self, namespace: str, addresses: list[str]) -> float:
        """The same through pyroute2, as a Python program asks."""
        from pyroute2 import IPRoute

        with space.entered(namespace), IPRoute() as ip:
            return seconds(lambda: [ip.route("get", dst=address) for address in addresses])

    def ping(self, namespace: str, address: str) -> float:
        """Seconds for one ``ping -c1`` process that must be answered."""
        words = ["ping", "-n", "-q", "-c1", "-W1", address]
        with space.entered(namespace):
            return seconds(
                lambda: subprocess.run(
                    words, env=space.ENVIRONMENT, stdout=subprocess.DEVNULL, check=True
                )
            )


class KernelBench(World):
    """A private world that measures what is asked inside it."""

    program = "tests.bench.inside"

    def ask(self, name: str, *arguments: object) -> Any:
        """Call a method of ``BenchInside``."""
        return self._ask(name, *arguments)


if __name__ == "__main__":
    main(BenchInside())
