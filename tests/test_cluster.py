"""Lab: places, lines, listeners, copies."""

from __future__ import annotations

import pytest

import ekslearn
from ekslearn import EkslearnError, data_path
from ekslearn.cluster import Lab, socket_of

from .linux.labs import pair


def test_a_name_that_is_not_there() -> None:
    lab = pair()
    for call in (lambda: lab.run("green", "ip addr"), lambda: lab.trace("green", "red"),
                 lambda: lab.address("green"), lambda: lab.line("green$ true")):  # fmt: skip
        with pytest.raises(EkslearnError, match="no place 'green' in test; there are red, blue"):
            call()
    with pytest.raises(EkslearnError, match="PLACE\\$ COMMAND"):
        lab.line("ip addr")


@pytest.mark.parametrize(
    "text", ["", "80", "1.2.3.4", "1.2.3:80", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:80/sctp"]
)
def test_what_is_no_socket(text: str) -> None:
    with pytest.raises(EkslearnError, match=r"isn't a socket such as 0\.0\.0\.0:80/tcp"):
        socket_of(text)


def test_lines_hold_what_changed_something_and_nothing_else() -> None:
    lab = Lab("x", ["red"])
    for line in (
        "red$ ip link set lo up", "red$ ip addr", "red$ ip neigh", "red$ ip -br neigh show",
        "red$ ip route list table 255", "red$ ping 127.0.0.1", "red$ ip link set lo sideways",
        "red$ sysctl net.ipv4.ip_forward", "red$ sysctl -w net.ipv4.ip_forward=1", "red$",
        "red$ ip link show type veth", "red$ ip rule add prio 5 table 9",
        "red$ iptables -A INPUT -j DROP", "red$ iptables -S",
    ):  # fmt: skip
        lab.line(line)
    assert lab.lines == [
        "red$ ip link set lo up", "red$ sysctl -w net.ipv4.ip_forward=1",
        "red$ ip rule add prio 5 table 9", "red$ iptables -A INPUT -j DROP",
    ]  # fmt: skip


def test_a_copy_is_independent_both_ways() -> None:
    lab = pair()
    twin = lab.copy()
    twin.line("red$ ip link set veth0 down")
    assert lab.trace("red", "blue").verdict == "delivered"
    assert twin.trace("red", "blue").verdict == "unreachable"
    assert len(twin.lines) == len(lab.lines) + 1


def test_links_are_named_once_with_both_ends() -> None:
    assert pair().links() == [(("blue", "veth1"), ("red", "veth0"))]
    assert ekslearn.load("one-node").links() == sorted(ekslearn.load("one-node").links())


def test_time_passes_only_when_told() -> None:
    lab = pair()
    lab.trace("red", "blue")
    assert lab.world.clock == 0
    lab.sleep(2.5)
    assert lab.world.clock == 2.5


def test_machines_and_pods_may_have_names_with_dots() -> None:
    """As EC2 names nodes, and kubelet static pods (RFC 1123 subdomains)."""
    text = data_path("scenarios/two-nodes.yaml").read_text(encoding="utf-8")
    renamed = text.replace("node-a", "ip-10-0-0-10.ec2.internal").replace("web-1", "web.one")
    made = ekslearn.load(renamed)
    assert "ip-10-0-0-10.ec2.internal" in made.places
    assert made.trace("default/web.one", "ip-10-0-0-10.ec2.internal").verdict == "delivered"
    assert made.run("ip-10-0-0-10.ec2.internal", "ip rule show priority 1536").stdout
    for bad in ("ip..internal", ".internal", "ip-.internal", "a." * 130 + "a"):
        with pytest.raises(EkslearnError, match="can't be a name"):
            ekslearn.load(text.replace("node-a", bad))
