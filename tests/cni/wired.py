"""A node with two ENIs, wired by the package's lines as the head of a listing says.

A listing (tests/cni/listings/*.txt) is written by hand. Its head: ``env NAME=VALUE``, ``connmark
iptables|nft``, ``vpc CIDR ...``, ``eni INTERFACE ADDRESS SUBNET DEVICE [trunk]``, ``pod NAME
ADDRESS TABLE``, ``branch NAME ADDRESS VLAN GATEWAY``, ``pods none``. Behind it, what commands
print.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from ekslearn.cluster import Lab
from ekslearn.cni.names import route_table
from ekslearn.cni.node import (
    boot_lines,
    eni_lines,
    host_lines,
    init_lines,
    stale_chain_lines,
    startup_rule_lines,
)
from ekslearn.cni.pod import branch_pod_lines, pod_lines
from ekslearn.cni.settings import Settings, read

FOLDER = Path(__file__).parent / "listings"
FILES = sorted(FOLDER.glob("*.txt"))
PRIMARY, PRIMARY_IP = "ens5", "10.0.1.10"
Prints = Callable[[str, str], str]  # a place and a command: what it prints


@dataclass
class Listing:
    """One file: how the node is made, and what is to be seen there."""

    settings: Settings
    connmark: str = "iptables"
    vpc: list[IPv4Network] = field(default_factory=lambda: [IPv4Network("10.0.0.0/16")])
    eni: list[str] = field(default_factory=lambda: "ens6 10.0.1.20 10.0.1.0/24 1".split())
    pods: list[list[str]] = field(
        default_factory=lambda: [["pod", "a", "10.0.1.31", "254"], ["pod", "b", "10.0.1.42", "2"]]
    )
    shown: list[tuple[str, str, list[str]]] = field(default_factory=list)


def read_listing(path: Path) -> Listing:
    """Read a file; lines with a # in front are for whoever reads it."""
    env: dict[str, str] = {}
    found, pods = Listing(Settings()), list[list[str]]()
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if place := re.match(r"(\S+)\$ (.*)", line):
            found.shown.append((place[1], place[2], []))
        elif found.shown:
            found.shown[-1][2].append(line)
        elif words[0] == "env":
            name, _, value = line.removeprefix("env ").partition("=")
            env[name] = value
        elif words[0] == "vpc":
            found.vpc = [IPv4Network(word) for word in words[1:]]
        elif words[0] in ("connmark", "eni"):
            setattr(found, words[0], words[1:] if words[0] == "eni" else words[1])
        else:
            assert words[0] in ("pod", "branch", "pods"), line
            pods.append(words)
    found.settings = read(env)
    found.pods = [pod for pod in pods or found.pods if pod[0] != "pods"]
    return found


def plain(text: str) -> list[str]:
    """Lines as they are compared: no comments, no counters of chains, one blank between words."""
    kept = []
    for line in text.splitlines():
        words = (
            re.sub(r"^(:\S+ \S+) \[\d+:\d+\]", r"\1", line).replace("default_", "default/").split()
        )
        if words and not words[0].startswith("#"):
            kept.append(" ".join(words))
    return kept


def places(listing: Listing) -> list[str]:
    """The node, the VPC's end of its ENIs, and its pods."""
    return ["node", "vpc", *(f"default/{pod[1]}" for pod in listing.pods)]


def wiring(listing: Listing) -> list[str]:
    """Every line that makes the node; a veth to ``vpc`` stands in for an ENI and a VLAN device."""
    settings = listing.settings
    interface, address, subnet, device, *trunk = listing.eni
    lines = ["vpc$ ip link set lo up"]
    for at, name in ((5, PRIMARY), (6, interface)):
        lines += _plugged(f"ip link add {name} address 02:00:00:00:00:{at:02x}", name)
    lines += boot_lines("node", PRIMARY, f"{PRIMARY_IP}/24", "10.0.1.1")
    lines += init_lines("node", PRIMARY, settings)
    lines += host_lines("node", PRIMARY, PRIMARY_IP, listing.vpc, settings,
                        backend=listing.connmark)  # fmt: skip
    lines += stale_chain_lines("node", "")
    lines += eni_lines("node", interface, primary_ip=address, subnet=subnet, trunk=bool(trunk),
                       table=route_table(int(device)), mtu=settings.eni_mtu)  # fmt: skip
    lines += startup_rule_lines("node", [], "", settings)
    for pod in listing.pods:
        lines += pod_wiring(listing, pod)
    return lines


def pod_wiring(listing: Listing, pod: list[str], **seen: object) -> list[str]:
    """The lines of one pod, the runtime's for ``lo`` before them."""
    kind, name, ip, *rest = pod
    macs = {"host_mac": f"02:00:00:00:{ord(name) - 87:02x}:01",
            "pod_mac": f"02:00:00:00:{ord(name) - 87:02x}:02"}  # fmt: skip
    place = f"default/{name}"
    if kind == "pod":
        lines = pod_lines("node", place, namespace="default", pod=name, ip=ip, table=int(rest[0]),
                          settings=listing.settings, **macs, **seen)  # fmt: skip
    else:
        lines = branch_pod_lines(
            "node", place, namespace="default", pod=name, ip=ip, trunk=listing.eni[0],
            vlan_id=int(rest[0]), eni_mac="02:00:00:00:00:77", gateway=rest[1],
            settings=listing.settings, **macs, **seen,
        )  # fmt: skip
    return [f"{place}$ ip link set lo up", *stood_in(lines)]


def stood_in(lines: Iterable[str]) -> list[str]:
    """Lines for a kernel without 802.1Q: each VLAN device is a veth to ``vpc``."""
    found = []
    for line in lines:
        vlan = re.fullmatch(r"node\$ (ip link add) link \S+ name (\S+) (.*) type vlan id \d+", line)
        found += _plugged(f"{vlan[1]} {vlan[2]} {vlan[3]}", vlan[2]) if vlan else [line]
    return found


def _plugged(command: str, name: str) -> list[str]:
    far = f"to-{name}"[:15]
    end = f"peer name {far} address 02:00:00:00:ff:{sum(map(ord, name)) % 256:02x} netns vpc"
    return [f"node$ {command} type veth {end}", f"vpc$ ip link set {far} up"]


def restart(listing: Listing, prints: Prints) -> list[str]:
    """The lines of an ipamd that starts again and sees what is there."""

    def node(command: str) -> str:
        return prints("node", command)

    interface, address, subnet, device, *trunk = listing.eni
    there = re.findall(r"inet (\S+)", node(f"ip -o -4 addr show dev {interface}"))
    nft = node("nft list table ip aws-cni") if listing.connmark == "nft" else ""
    lines = host_lines(
        "node", PRIMARY, PRIMARY_IP, listing.vpc, listing.settings, backend=listing.connmark,
        nat=node("iptables-save -t nat"), mangle=node("iptables-save -t mangle"),
        rules=node("ip rule show"), nft=nft,
    )  # fmt: skip
    lines += eni_lines(
        "node", interface, primary_ip=address, subnet=subnet, trunk=bool(trunk),
        table=route_table(int(device)), mtu=listing.settings.eni_mtu, addresses=there,
        routes=node("ip route show table all"), rules=node("ip rule show"),
    )  # fmt: skip
    ips = [pod[2] for pod in listing.pods if pod[0] == "pod"]
    return lines + startup_rule_lines("node", ips, node("ip rule show"), listing.settings)


def model(listing: Listing, lines: Iterable[str]) -> Lab:
    """The node in the model. AssertionError for a line that fails."""
    lab = Lab("wired", places(listing))
    run(lab, lines)
    return lab


def run(lab: Lab, lines: Iterable[str]) -> None:
    """Run lines in a lab that must succeed."""
    for line in lines:
        done = lab.line(line)
        assert done.status == 0, f"{line}: {done.stderr}"
