"""Small labs for the tests of the Linux layer, wired by the tools' own lines."""

from __future__ import annotations

from ekslearn.cluster import Lab

PAIR = """
red$ ip link add veth0 type veth peer name veth1 netns blue
red$ ip link set lo up
blue$ ip link set lo up
red$ ip addr add 10.1.1.1/24 dev veth0
blue$ ip addr add 10.1.1.2/24 dev veth1
red$ ip link set veth0 up
blue$ ip link set veth1 up
"""
# left -- router -- right, the router forwarding.
CHAIN = """
router$ ip link add vl type veth peer name eth0 netns left
router$ ip link add vr type veth peer name eth0 netns right
left$ ip link set lo up
right$ ip link set lo up
router$ ip link set lo up
left$ ip addr add 10.0.1.2/24 dev eth0
right$ ip addr add 10.0.2.2/24 dev eth0
router$ ip addr add 10.0.1.1/24 dev vl
router$ ip addr add 10.0.2.1/24 dev vr
left$ ip link set eth0 up
right$ ip link set eth0 up
router$ ip link set vl up
router$ ip link set vr up
left$ ip route add default via 10.0.1.1
right$ ip route add default via 10.0.2.1
router$ sysctl -w net.ipv4.ip_forward=1
"""


def wired(lines: str, more: str = "") -> Lab:
    """A lab wired by ``lines`` and then ``more``; every line must work."""
    rows = [row.strip() for row in (lines + "\n" + more).splitlines() if row.strip()]
    places = dict.fromkeys(row.partition("$")[0] for row in rows)
    lab = Lab("test", list(places))
    for row in rows:
        done = lab.line(row)
        assert done.status == 0, (row, done)
    return lab


def pair(more: str = "") -> Lab:
    """red and blue, joined by one veth."""
    return wired(PAIR, more)


def chain(more: str = "") -> Lab:
    """left, router and right, with a listener on right's port 80 and 53/udp."""
    lab = wired(CHAIN, more)
    lab.listen("right", "0.0.0.0:80/tcp")
    lab.listen("right", "0.0.0.0:53/udp")
    return lab


def seen(lab: Lab, source: str, destination: str) -> list[str]:
    """A trace's sightings as short lines: place, interface, way, source, destination, TTL."""
    trace = lab.trace(source, destination)
    return [f"{s.place} {s.interface} {s.direction} {s.src}>{s.dst} {s.ttl}"
            for s in (*trace.request, *trace.reply)]  # fmt: skip
