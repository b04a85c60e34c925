"""The process that lives inside a private world and does what ``World`` asks, line by line.

Started by ``World`` alone, through ``unshare``. It dies with its caller: the pipe on its standard
input breaks, and as the first process of its PID namespace it takes everything along.
"""

from __future__ import annotations

import json
import os
import select
import selectors
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from ekslearn.kernel import space
from ekslearn.kernel.capture import Ring
from ekslearn.kernel.listener import Listeners
from ekslearn.kernel.probe import Probe, Round
from ekslearn.kernel.proxy import Proxies
from ekslearn.kernel.router import SPACE

# What no wire shows, set on every interface before probes go out: a neighbor that doesn't answer
# is given up after 2 x 20 ms, proxy ARP answers at once (arp(7); a kernel waits up to 0.8 s),
# what was learned isn't asked again within the minute, and what ARP says next is believed at once
# (a kernel keeps to the first word for a second: locktime, in arp_process; -1 is less than a tick).
NEIGHBOR = {"retrans_time_ms": "20", "mcast_solicit": "2", "ucast_solicit": "2",
            "mcast_resolicit": "0", "proxy_delay": "0", "delay_first_probe_time": "60",
            "locktime": "-1"}  # fmt: skip
# For each namespace: whoever is root here may send ICMP echoes; and before probes go out, a SYN-ACK
# isn't repeated (a second later it would take a redirect's turn away from another probe).
PING = ("net.ipv4.ping_group_range", "0 0")
ONCE = ("net.ipv4.tcp_synack_retries", "0")


class Inside:
    """The state of a private world: its namespaces, and the listeners in them."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.listeners = Listeners(self.selector)
        self.proxies = Proxies(self.selector)
        self.namespaces: list[str] = []
        self.marks = 0

    def add(self, namespaces: list[str]) -> None:
        """Make namespaces with the base switches."""
        for name in namespaces:
            space.add(name)
            self.namespaces.append(name)
            with space.entered(name):
                space.write_sysctl(*PING)

    def clear(self) -> None:
        """Remove every namespace and listener."""
        self.listeners.close()
        self.proxies.close()
        while self.namespaces:
            space.remove(self.namespaces.pop())

    def run(self, namespace: str, words: list[str], text: str) -> tuple[str, str, int]:
        """Run a program, the listeners going on: its output, its errors, its status."""
        space.settle([namespace])
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(space.run, namespace, words, text)
            while not done.done():
                for key, _ in self.selector.select(0.002):
                    key.data()
            return done.result()

    def settle(self) -> None:
        """Wait until every carrier is known."""
        space.settle(self.namespaces)

    def listen(self, place: str, namespace: str, where: str) -> None:
        """Open a listener."""
        self.listeners.open(place, namespace, where)

    def probe(self, probes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Send probes with a capture running in every namespace; see ``Round``."""
        return self.rounds([[0, probes]])[0]

    def rounds(self, groups: list[Any]) -> list[list[dict[str, Any]]]:
        """Send groups of probes, one group after the other; each waits so many seconds before."""
        rings: list[Ring] = []
        found = []
        try:
            space.settle(self.namespaces)
            for name in self.namespaces:
                self._hurry(name)
            for name in self.namespaces:
                if name == SPACE:  # AWS's router is no place: it sees, and nobody sees it
                    continue
                rings.append(Ring(name))
                self.selector.register(rings[-1], selectors.EVENT_READ, lambda: None)
            for wait_s, probes in groups:
                self._idle(wait_s)
                first, self.marks = self.marks, self.marks + len(probes)
                self.proxies.wanted |= {first + at: probe["proxied"]
                                        for at, probe in enumerate(probes)}  # fmt: skip
                seen = Round(self.selector, rings).run([Probe(**one) for one in probes], first)
                found.append([asdict(one) for one in seen])
        finally:
            for ring in rings:
                with suppress(KeyError):
                    self.selector.unregister(ring)
                ring.close()
        return found

    def _idle(self, wait_s: float) -> None:
        """Let time pass; the listeners go on."""
        end = time.monotonic() + wait_s
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.02))
            for key, _ in self.selector.select(0):
                key.data()

    def balance(self, proxies: list[Any]) -> None:
        """Open the listeners of proxies: namespace, address and port of each."""
        for one in proxies:
            self.proxies.open(*one)

    def steer(self, commands: list[Any]) -> list[tuple[str, str, int]]:
        """Run programs that read something."""
        return space.spawn_all(commands)

    def build(
        self, namespaces: list[str], commands: list[Any], listeners: list[Any]
    ) -> list[tuple[str, str, int]]:
        """Replace what is there: namespaces, commands run one after the other, listeners."""
        self.clear()
        self.add(namespaces)
        done, held = [], list[Any]()
        for name, words, stdin in commands:
            held.append((name, words, stdin))
            if words[-1:] == ["down"]:  # or the other end may never notice
                done += space.spawn_all(held)
                held.clear()
                space.settle(namespaces)
        done += space.spawn_all(held)
        for place, name, where in listeners:
            self.listeners.open(place, name, where)
        return done

    def _hurry(self, namespace: str) -> None:
        with space.entered(namespace):
            space.write_sysctl(*ONCE)
            for interface in os.listdir("/proc/sys/net/ipv4/neigh"):
                for key, value in NEIGHBOR.items():
                    path = f"/proc/sys/net/ipv4/neigh/{interface}/{key}"
                    with open(path, "w", encoding="ascii") as switch:
                        switch.write(value)


def _die_with_caller() -> None:
    watch = select.poll()
    watch.register(0, 0)  # nothing but the hang-up of the other end
    watch.poll()
    os._exit(1)


def main(inside: Inside) -> None:
    """Refuse to work in the caller's own namespaces; else serve requests, one JSON a line."""
    theirs = sys.argv[1:]
    ours = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net")]
    if any(mine in theirs for mine in ours) or len(theirs) != 2:
        raise SystemExit("this is no private world: ekslearn.kernel.World starts this program")
    threading.Thread(target=_die_with_caller, daemon=True).start()
    mount = ["mount", "-t", "tmpfs", "tmpfs", "/run"]
    done = subprocess.run(mount, env=space.ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"mount: {done.stderr.strip()}")
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = {"result": getattr(inside, name)(*arguments)}
        except (OSError, subprocess.SubprocessError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Inside())
