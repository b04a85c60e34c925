"""A node as the VPC CNI wires it with the nftables backend, small: one pod, one host outside.

``node`` has eth0 to ``out`` (10.0.1.1, which also is 10.0.9.9 of the VPC and 198.51.100.9 of the
internet) and a veth to ``pod`` (10.0.1.31). A connection with the mark 0x80 is routed by a table
of its own, so that a wire shows the mark: to ``other`` behind eth1, and never back by eth0.
"""

from __future__ import annotations

from ekslearn.cluster import Lab
from tests.kernel.labs import modelled
from tests.parity.wirings import Question

SIZES = {"icmp": 84, "udp": 60, "tcp": None}

NODE = [
    "node$ ip link set lo up",
    "node$ ip link add eth0 address 02:00:00:00:01:10 type veth peer name wire address"
    " 02:00:00:00:01:01 netns out",
    "node$ ip link add eth1 address 02:00:00:00:02:10 type veth peer name wire address"
    " 02:00:00:00:02:01 netns other",
    "node$ ip link add eni0a address 02:00:00:00:03:10 type veth peer name eth0 address"
    " 02:00:00:00:03:31 netns pod",
    "node$ ip addr add 10.0.1.10/24 dev eth0",
    "node$ ip addr add 10.0.2.10/24 dev eth1",
    *(f"{place}$ ip link set {link} up" for place, link in (
        ("node", "eth0"), ("node", "eth1"), ("node", "eni0a"), ("out", "lo"), ("out", "wire"),
        ("other", "lo"), ("other", "wire"), ("pod", "lo"), ("pod", "eth0"))),
    "out$ ip addr add 10.0.1.1/24 dev wire",
    "other$ ip addr add 10.0.2.1/24 dev wire",
    *(f"{place}$ ip addr add {address}/32 dev lo" for place in ("out", "other")
      for address in ("10.0.9.9", "198.51.100.9")),
    "pod$ ip addr add 10.0.1.31/32 dev eth0",
    "pod$ ip route add 169.254.1.1 dev eth0 scope link",
    "pod$ ip route add default via 169.254.1.1",
    "pod$ ip neigh add 169.254.1.1 lladdr 02:00:00:00:03:10 dev eth0 nud permanent",
    "node$ sysctl -w net.ipv4.ip_forward=1",
    "node$ ip route add 10.0.1.31 dev eni0a scope link",
    "node$ ip route add default via 10.0.1.1",
    "node$ ip route add default via 10.0.2.1 table 80",
    "node$ ip route add default via 10.0.2.1 table 3",
    "node$ ip rule add to 10.0.1.31 lookup main prio 512",
    "node$ ip rule add fwmark 0x80/0x80 lookup 80 prio 1024",
    "node$ ip rule add fwmark 0x3/0x7f lookup 3 prio 1025",
    "out$ ip route add 10.0.1.31 via 10.0.1.10",
    "out$ ip route add default via 10.0.1.10",
    "other$ ip route add default via 10.0.2.10",
    "other$ ip route add 10.0.1.0/24 via 10.0.2.10",
]  # fmt: skip
MARKED = [
    "node$ nft add table ip aws-cni",
    "node$ nft add chain ip aws-cni nat-prerouting"
    " '{ type nat hook prerouting priority -90; policy accept; }'",
    "node$ nft add chain ip aws-cni snat-mark",
    "node$ nft add rule ip aws-cni nat-prerouting fib daddr type local return",
    "node$ nft add rule ip aws-cni nat-prerouting iifname '\"eni*\"' counter jump snat-mark",
    "node$ nft add rule ip aws-cni nat-prerouting counter meta mark set ct mark '&' 0x80",
    "node$ nft add rule ip aws-cni snat-mark ip daddr 10.0.0.0/16 counter return",
    "node$ nft add rule ip aws-cni snat-mark counter ct mark set ct mark '|' 0x80",
]
RESTORED = [
    "node$ iptables -t mangle -A PREROUTING -i eth0 -m addrtype --dst-type LOCAL --limit-iface-in"
    " -j CONNMARK --set-mark 0x80/0x80",
    "node$ iptables -t mangle -A PREROUTING -i eni+ -j CONNMARK --restore-mark --mask 0x80",
]
# A listener on a certain address answers from there: from another, it would be a new connection.
LISTEN = [*((place, "0.0.0.0:80/tcp") for place in ("out", "other", "pod", "node")),
          *((place, f"{address}:53/udp") for place, addresses in (
              ("out", ("10.0.1.1", "10.0.9.9", "198.51.100.9")), ("pod", ("10.0.1.31",)),
              ("other", ("10.0.2.1", "10.0.9.9", "198.51.100.9")),
              ("node", ("10.0.1.10", "10.0.2.10"))) for address in addresses)]  # fmt: skip
# What stands beside the CNI's nft table: each a lab of its own.
BESIDE = {
    "the CNI's mangle rules": RESTORED,
    "nothing": [],
    "a DNAT before it": [*RESTORED, "node$ iptables -t nat -A PREROUTING -d 198.51.100.9 -p tcp"
                         " --dport 80 -j DNAT --to-destination 10.0.9.9:80"],
    "a DNAT to where it goes anyway": [*RESTORED, "node$ iptables -t nat -A PREROUTING -p udp"
                                       " -d 198.51.100.9 -j DNAT --to-destination 198.51.100.9"],
    "an ACCEPT before it": [*RESTORED, "node$ iptables -t nat -A PREROUTING -j ACCEPT"],
    "a node port": [*RESTORED, "node$ iptables -t nat -A PREROUTING -d 10.0.1.10 -p tcp --dport"
                    " 9 -j DNAT --to-destination 10.0.1.31:80"],
    "a mark that is overwritten": [
        "node$ iptables -t mangle -A PREROUTING -j MARK --set-mark 3"],
    "a mark for the connection": [
        "node$ iptables -t mangle -A PREROUTING -j CONNMARK --set-mark 0x83"],
    "a verdict in the chain": [
        *RESTORED, "node$ nft insert rule ip aws-cni nat-prerouting ip daddr 198.51.100.9 counter"
        " drop", "node$ nft insert rule ip aws-cni snat-mark ip daddr 10.0.9.9 accept"],
    "an SNAT behind it": [*RESTORED, "node$ iptables -t nat -A POSTROUTING ! -d 10.0.0.0/16"
                          " -m addrtype ! --dst-type LOCAL -j SNAT --to-source 10.0.1.10"],
}  # fmt: skip
# Counters count bytes, so a probe's size is said.
QUESTIONS = [
    Question(source, protocol, address, port, size=SIZES[protocol]) for source, addresses in (
        ("pod", ("198.51.100.9", "10.0.9.9", "10.0.1.10", "10.0.1.1")),
        ("out", ("10.0.1.31", "10.0.1.10", "10.0.2.10")), ("other", ("10.0.1.31", "10.0.1.10")),
        ("node", ("198.51.100.9", "10.0.1.31", "10.0.1.10")),
    ) for address in addresses
    for protocol, port in (("icmp", None), ("tcp", 80), ("tcp", 9), ("udp", 53), ("udp", 9))
]  # fmt: skip
# A router whose neighbor has the better way: it tells the sender so, unless a nat chain might
# still translate the connection (nf_nat_icmp_reply_translation).
TURNED = [
    "pod$ ip link add eth0 address 02:00:00:00:00:01 type veth peer name e0 address"
    " 02:00:00:00:00:02 netns node",
    "pod$ ip link set eth0 up",
    "pod$ ip link set lo up",
    "node$ ip link set e0 up",
    "node$ ip link set lo up",
    "pod$ ip addr add 10.0.0.1/24 dev eth0",
    "node$ ip addr add 10.0.0.2/24 dev e0",
    "node$ sysctl -w net.ipv4.ip_forward=1",
    "node$ ip neigh add 10.0.0.3 lladdr 02:00:00:00:00:09 dev e0 nud permanent",
    "node$ ip route add 10.0.9.0/24 via 10.0.0.3",
    "pod$ ip route add default via 10.0.0.2",
]


def node(name: str, *more: str) -> Lab:
    """The node with the CNI's table, and other rules beside it."""
    return modelled(name, [*NODE, *MARKED, *more], LISTEN)


def turned(*more: str) -> Lab:
    """The router that isn't the best way."""
    return modelled("turned", [*TURNED, *more], [])
