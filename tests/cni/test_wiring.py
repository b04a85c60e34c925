"""What the CNI mends when it looks again: other CIDRs, other back ends, old releases."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest

from ekslearn.cluster import Lab
from ekslearn.cni.node import eni_lines, find_link, host_lines, snat_update_lines, stale_chain_lines
from ekslearn.cni.pod import pod_gone_lines, pod_lines
from ekslearn.cni.settings import Settings
from ekslearn.errors import EkslearnError
from ekslearn.kernel import World
from tests.cni.wired import plain

VPC, MORE, OTHER = (IPv4Network(net) for net in ("10.0.0.0/16", "100.64.0.0/16", "10.1.2.3/32"))
MACS = {"host_mac": "02:00:00:00:00:01", "pod_mac": "02:00:00:00:00:02"}


class Node:
    """A node, in the model or on the kernel: lines run there must succeed."""

    def __init__(self, world: World | None = None) -> None:
        self.lab, self.world = Lab("node", ["node"]), world
        self.nft = ""
        if world:
            world.build(self.lab)
        self.run(["node$ ip link set lo up"])

    def run(self, lines: list[str]) -> list[str]:
        """Run lines of the node; those that changed something on it are given back."""
        for line in lines:
            command = line.removeprefix("node$ ")
            done = self.world.run("node", command) if self.world else self.lab.line(line)
            assert done.status == 0, f"{line}: {done.stderr}"
        return lines

    def print(self, command: str) -> str:
        """What a listing prints."""
        return (self.world.run if self.world else self.lab.run)("node", command).stdout

    def update(self, cidrs: list[IPv4Network], settings: Settings, backend: str) -> list[str]:
        """Run what ipamd does about a new list of CIDRs."""
        nft = self.print("nft list table ip aws-cni")
        return self.run(snat_update_lines(
            "node", "lo", "10.0.0.1", cidrs, settings, backend=backend, nft=nft,
            nat=self.print("iptables-save -t nat"), mangle=self.print("iptables-save -t mangle"),
        ))  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as one:
        yield one


def returns(node: Node, chain: str) -> list[str]:
    """The CIDRs of a chain that go back, in order."""
    rows = plain(node.print(f"iptables -t nat -S {chain}"))
    return [row.split()[3] for row in rows if row.endswith("-j RETURN")]


@pytest.mark.parametrize("real", [False, True])
def test_cidrs_come_and_go(real: bool, world: World) -> None:
    """New ones go in as the first, the last rule stays the last; what is gone goes (facts 1.3)."""
    node, settings = Node(world if real else None), Settings()
    for cidrs, wanted in (
        ([VPC], ["10.0.0.0/16"]), ([VPC, MORE], ["100.64.0.0/16", "10.0.0.0/16"]),
        ([VPC, MORE, OTHER], ["10.1.2.3/32", "100.64.0.0/16", "10.0.0.0/16"]),
        ([OTHER, VPC], ["10.1.2.3/32", "10.0.0.0/16"]),
    ):  # fmt: skip
        node.update(cidrs, settings, "iptables")
        for chain, last in (
            ("AWS-SNAT-CHAIN-0", "--random-fully"),
            ("AWS-CONNMARK-CHAIN-0", "0x80"),
        ):
            assert returns(node, chain) == wanted
            assert plain(node.print(f"iptables -t nat -S {chain}"))[-1].endswith(last)


@pytest.mark.parametrize("real", [False, True])
def test_a_second_look_only_renews_the_last_rules(real: bool, world: World) -> None:
    """The SNAT rule, the mark and its restoring are deleted and added; nothing else is touched."""
    node, settings = Node(world if real else None), Settings(exclude_snat_cidrs=(MORE,))
    node.update([VPC], settings, "iptables")
    before = node.print("iptables-save")
    again = node.update([VPC], settings, "iptables")
    assert [line.split()[4] for line in again] == ["-D", "-A"] * 3
    assert plain(node.print("iptables-save")) == plain(before)


def test_an_excluded_cidr_of_the_vpc_is_marked_once() -> None:
    """Its two rules for SNAT differ by their comments; those for the mark would be the same."""
    node = Node()
    node.update([VPC], Settings(exclude_snat_cidrs=(VPC,)), "iptables")
    assert returns(node, "AWS-SNAT-CHAIN-0") == ["10.0.0.0/16"] * 2
    assert returns(node, "AWS-CONNMARK-CHAIN-0") == ["10.0.0.0/16"]


def test_an_excluded_zero_is_written_without_d() -> None:
    node, settings = Node(), Settings(exclude_snat_cidrs=(IPv4Network("0.0.0.0/0"),))
    for _ in range(2):
        node.update([VPC], settings, "iptables")
        rows = plain(node.print("iptables -t nat -S AWS-SNAT-CHAIN-0"))
        assert (
            rows[1]
            == '-A AWS-SNAT-CHAIN-0 -m comment --comment "AWS SNAT CHAIN EXCLUSION" -j RETURN'
        )


def table(node: Node) -> list[str]:
    """The nft table of the CNI, without counters."""
    rows = plain(node.print("nft list table ip aws-cni"))
    return [row.replace("counter packets 0 bytes 0 ", "") for row in rows]


def test_nft_cidrs_come_and_go(world: World) -> None:
    node, settings = Node(world), Settings(veth_prefix="pod", connmark=0xFF00)
    for cidrs in ([VPC], [VPC, OTHER], [OTHER, MORE], [MORE]):
        node.update(cidrs, settings, "nft")
        rows = table(node)
        assert sorted(row for row in rows if row.startswith("ip daddr")) == sorted(
            f"ip daddr {str(cidr).removesuffix('/32')} return" for cidr in cidrs
        )
        assert rows[-3] == "ct mark set ct mark | 0x0000ff00"
        assert 'iifname "pod*" jump snat-mark' in rows
        for order in (cidrs, cidrs[::-1]):
            again = node.update(order, settings, "nft")
            assert [line for line in again if "nft" in line] == []


def test_nft_rules_of_somebody_else_go(world: World) -> None:
    node, settings = Node(world), Settings()
    node.update([VPC], settings, "nft")
    good = table(node)
    for command in (
        "nft insert rule ip aws-cni nat-prerouting counter accept",
        "nft add rule ip aws-cni snat-mark counter accept",
        "nft flush chain ip aws-cni snat-mark",
        "nft flush chain ip aws-cni nat-prerouting",
    ):
        node.run([f"node$ {command}"])
        assert table(node) != good
        node.update([VPC], settings, "nft")
        assert table(node) == good
    rules = [row.replace(" jump", " counter jump") for row in good[3:5]]
    node.run(
        [
            "node$ nft flush chain ip aws-cni nat-prerouting",
            *(f"node$ nft add rule ip aws-cni nat-prerouting '{row}'" for row in rules[::-1]),
            "node$ nft add rule ip aws-cni nat-prerouting 'counter meta mark set ct mark & 0x80'",
        ]
    )
    node.run(
        [
            "node$ nft flush chain ip aws-cni snat-mark",
            "node$ nft add rule ip aws-cni snat-mark 'counter ct mark set ct mark | 0x80'",
            "node$ nft add rule ip aws-cni snat-mark 'counter ip daddr 10.0.0.0/16 return'",
        ]
    )
    for wrong in (True, False):
        assert sorted(table(node)) == sorted(good)
        assert (table(node) != good) == wrong
        node.update([VPC], settings, "nft")


def test_the_back_ends_take_over_from_each_other(world: World) -> None:
    """Each removes what the other left; with external SNAT neither leaves anything."""
    node, settings = Node(world), Settings()
    for backend in ("iptables", "nft", "iptables"):
        node.update([VPC], settings, backend)
        assert ("AWS-CONNMARK-CHAIN-0" in node.print("iptables-save")) == (backend == "iptables")
        assert ("ip aws-cni" in node.print("nft list tables")) == (backend == "nft")
    node.update([VPC], Settings(external_snat=True), "iptables")
    node.update([VPC], settings, "nft")
    node.update([VPC], Settings(external_snat=True), "nft")
    assert "aws-cni" not in node.print("nft list tables")
    nat = node.print("iptables-save -t nat")
    assert "CONNMARK" not in nat
    assert [row for row in plain(nat) if row.startswith("-A")] == []


@pytest.mark.parametrize("backend", ["iptables", "nft"])
def test_no_cidr_at_all_is_an_error(backend: str) -> None:
    with pytest.raises(EkslearnError, match="exemptCIDRs cannot be empty"):
        snat_update_lines("node", "lo", "10.0.0.1", [], Settings(), backend=backend)
    snat_update_lines("node", "lo", "10.0.0.1", [], Settings(external_snat=True), backend=backend)
    with pytest.raises(EkslearnError, match="'ipset' is no back end"):
        snat_update_lines("node", "lo", "10.0.0.1", [VPC], Settings(), backend="ipset")


def test_chains_of_old_releases() -> None:
    """One chain for each CIDR, the last with the SNAT rule: emptied, then deleted (facts 1.2)."""
    node = Node()
    node.run([f"node$ iptables -t nat {words}" for words in (
        "-N AWS-SNAT-CHAIN-0", "-N AWS-SNAT-CHAIN-1", "-N AWS-SNAT-CHAIN-2",
        "-N AWS-CONNMARK-CHAIN-0", "-N AWS-CONNMARK-CHAIN-1",
        "-A POSTROUTING -m comment --comment 'AWS SNAT CHAIN' -j AWS-SNAT-CHAIN-0",
        "-A AWS-SNAT-CHAIN-0 ! -d 10.0.0.0/16 -j AWS-SNAT-CHAIN-1",
        "-A AWS-SNAT-CHAIN-1 ! -d 100.64.0.0/16 -j AWS-SNAT-CHAIN-2",
        "-A AWS-SNAT-CHAIN-2 -j SNAT --to-source 10.0.0.7",
        "-A PREROUTING -i eni+ -m comment --comment 'AWS, outbound connections' "
        "-m state --state NEW -j AWS-CONNMARK-CHAIN-0",
        "-A AWS-CONNMARK-CHAIN-0 ! -d 10.0.0.0/16 -j AWS-CONNMARK-CHAIN-1",
    )])  # fmt: skip
    node.run(host_lines("node", "lo", "10.0.0.1", [VPC], Settings(), backend="iptables",
                        nat=node.print("iptables-save -t nat")))  # fmt: skip
    node.run(stale_chain_lines("node", node.print("iptables-save -t nat")))
    fresh = Node()
    fresh.run(host_lines("node", "lo", "10.0.0.1", [VPC], Settings(), backend="iptables"))
    assert plain(node.print("iptables-save -t nat")) == plain(fresh.print("iptables-save -t nat"))
    assert stale_chain_lines("node", fresh.print("iptables-save -t nat")) == []


def test_another_veth_prefix_leaves_the_old_rules() -> None:
    """A known oddity of the CNI (facts 1.3)."""
    node = Node()
    node.update([VPC], Settings(), "iptables")
    node.update([VPC], Settings(veth_prefix="pod"), "iptables")
    rows = plain(node.print("iptables-save"))
    for prefix in ("eni+", "pod+"):
        assert sum(f"-i {prefix} " in row for row in rows) == 2


def test_an_interface_that_shows_late() -> None:
    waited: list[float] = []
    looks = iter([{}, {"eth0": "a"}, {"eth0": "a", "eth1": "b"}])
    assert find_link("b", lambda: next(looks), waited.append) == "eth1"
    assert waited == [3.0, 3.0]
    waited.clear()
    with pytest.raises(EkslearnError, match="5 looks found no interface"):
        find_link("b", dict, waited.append)
    assert waited == [3.0] * 4


def test_the_primary_eni_is_not_set_up() -> None:
    with pytest.raises(EkslearnError, match="never be called on the primary ENI"):
        eni_lines("node", "eth0", primary_ip="10.0.0.4", subnet="10.0.0.0/24", table=254, mtu=9001)


def test_what_an_eni_had_before_is_replaced() -> None:
    """Routes that are there are deleted first, except where they go with the last address."""
    table = "default via 10.0.0.1 dev eth1 table 2\n10.0.0.1 dev eth1 table 2 scope link\n"

    def deleted(*addresses: str) -> list[str]:
        made = eni_lines("node", "eth1", primary_ip="10.0.0.9", subnet="10.0.0.0/24", table=2,
                         mtu=9001, addresses=addresses, routes=table)  # fmt: skip
        assert made[-1] == "node$ ip rule add from 10.0.0.9 lookup 2 prio 32765"
        return [line.split()[4] for line in made if " del " in line]

    kept, lost, subnet = "169.254.7.7/16", "10.0.0.8/24", "10.0.0.0/24"
    assert deleted() == deleted(kept) == ["10.0.0.1", "default", subnet]
    assert deleted(lost) == [lost, subnet]
    assert deleted(lost, kept) == [lost, "10.0.0.1", "default", subnet]


def test_old_ipamds_called_main_0_or_1() -> None:
    for number in (0, 1):
        lines = [pod_lines("node", "pod", namespace="a", pod="b", ip="10.0.0.9", table=table_id,
                           settings=Settings(), **MACS) for table_id in (number, 254)]  # fmt: skip
        assert lines[0] == lines[1]
    rules = "512: from all to 10.0.0.9 lookup main\n1536: from 10.0.0.9 lookup 2\n"
    gone = pod_gone_lines("node", ip="10.0.0.9", table=1, rules=rules, routes="")
    assert gone == ["node$ ip rule del from all to 10.0.0.9 lookup main prio 512"]


def test_rules_of_old_releases_go_with_the_pod() -> None:
    """One rule from the pod for each CIDR of the VPC (facts 2.4)."""
    rules = ("1536: from 10.0.0.9 to 10.0.0.0/16 lookup 2\n1536: from 10.0.0.9 lookup 2\n"
             "1536: from 10.0.0.9 lookup 3\n1536: from 10.0.0.99 lookup 2\n")  # fmt: skip
    gone = pod_gone_lines("node", ip="10.0.0.9", table=2, rules=rules, routes="")
    assert [line.partition(" del ")[2] for line in gone] == [
        "from 10.0.0.9 to 10.0.0.0/16 lookup 2 prio 1536", "from 10.0.0.9 lookup 2 prio 1536",
    ]  # fmt: skip


@pytest.mark.parametrize("index", [0, 1])
def test_the_real_tools_take_the_lines_of_ipv6(index: int, world: World) -> None:
    """The package refuses IPv6 clusters; a pod's lines, which vectors ask for, are real ones."""
    lab = Lab("six", ["node", "pod"])
    world.build(lab)
    world.run("node", "sysctl -w net.ipv6.conf.all.disable_ipv6=0")
    lines = ["pod$ ip link set lo up", "node$ ip link add eth1 type veth peer name far netns pod",
             "pod$ ip link set far up"]  # fmt: skip
    lines += eni_lines("node", "eth1", primary_ip="2001:db8::4", subnet="2001:db8::/64", table=2,
                       mtu=9001, addresses=["fe80::1/64"])  # fmt: skip
    lines += pod_lines("node", "pod", namespace="a", pod="b", ip="2001:db8::9", table=2,
                       settings=Settings(), index=index, **MACS)  # fmt: skip
    for line in lines:
        place, _, command = line.partition("$ ")
        done = world.run(place, command)
        assert done.status == 0, f"{line}: {done.stderr}"
    rules = plain(world.run("node", "ip -6 rule").stdout)
    assert {"1536: from 2001:db8::9 lookup 2", "32765: from 2001:db8::4 lookup 2"} <= set(rules)
    assert ("from 2001:db8::9 lookup 1" in world.run("pod", "ip -6 rule").stdout) == bool(index)
    assert "default via fe80:ec2::1" in world.run("node", "ip -6 route show table 2").stdout
    assert "2001:db8::/64" not in world.run("node", "ip -6 route show").stdout
