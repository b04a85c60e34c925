"""Nodes wired in each mode, against listings written by hand; in the model and on the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from ekslearn.cluster import Lab
from ekslearn.cni import rules
from ekslearn.cni.node import eni_gone_lines
from ekslearn.cni.pod import branch_pod_gone_lines, pod_gone_lines
from ekslearn.kernel import World, verify
from ekslearn.kernel.wiring import netns, split
from ekslearn.scenario import load
from ekslearn.tools import TOOLS
from tests.cni import wired
from tests.cni.wired import FILES, Listing, plain, read_listing

COMMANDS = {"ip rule", "ip route show table all", "iptables-save"}
by_name = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
in_model = pytest.mark.parametrize(
    "path", [path for path in FILES if read_listing(path).connmark == "iptables" or "nft" in TOOLS],
    ids=lambda path: path.stem,
)  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as one:
        yield one


def check(listing: Listing, prints: wired.Prints) -> None:
    for place, command, wanted in listing.shown:
        assert plain(prints(place, command)) == plain("\n".join(wanted)), f"{place}$ {command}"


def model(path: Path) -> tuple[Listing, Lab]:
    listing = read_listing(path)
    return listing, wired.model(listing, wired.wiring(listing))


def real(world: World, listing: Listing) -> wired.Prints:
    """The node on the real kernel."""
    lab = Lab("wired", wired.places(listing))
    lab.lines = wired.wiring(listing)
    world.build(lab)
    return lambda place, command: world.run(place, command).stdout


@by_name
def test_listings_are_whole(path: Path) -> None:
    """Each shows rules, routes and chains of the node."""
    shown = {command for place, command, _ in read_listing(path).shown if place == "node"}
    assert shown >= COMMANDS


@in_model
def test_the_model_shows_it(path: Path) -> None:
    listing, lab = model(path)
    check(listing, lambda place, command: lab.run(place, command).stdout)


@in_model
def test_ipamd_starts_again_in_the_model(path: Path) -> None:
    listing, lab = model(path)

    def prints(place: str, command: str) -> str:
        return lab.run(place, command).stdout

    wired.run(lab, wired.restart(listing, prints))
    check(listing, prints)


@by_name
def test_the_kernel_shows_it(path: Path, world: World) -> None:
    """The real tools print the same, also after ipamd has started again."""
    listing = read_listing(path)
    prints = real(world, listing)
    check(listing, prints)
    for line in wired.restart(listing, prints):
        place, _ = split(line)
        done = world.run(place, line.partition("$ ")[2])
        assert (done.status, netns(place)) == (0, "node"), f"{line}: {done.stderr}"
    check(listing, prints)


NAMES = ("VLAN", "LOCAL_MOVED", "TO_POD", "HOST", "EXTERNAL_SERVICE", "FROM_POD", "FROM_ENI")


@pytest.mark.parametrize(("one", "other"), list(pairwise(NAMES)))
def test_swapped_priorities_are_noticed(
    one: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two priorities change places in the wiring: some listing doesn't fit any more."""
    first, second = getattr(rules, one), getattr(rules, other)
    monkeypatch.setattr(rules, one, second)
    monkeypatch.setattr(rules, other, first)
    broken = set()
    for name in ("default", "external-services", "pod-eni-strict"):
        listing, lab = model(wired.FOLDER / f"{name}.txt")
        wanted = next(text for _, command, text in listing.shown if command == "ip rule")
        if plain(lab.run("node", "ip rule").stdout) != plain("\n".join(wanted)):
            broken.add(name)
    assert broken


# The node of listings/default.txt as a scenario's.
SCENARIO = """\
apiVersion: ekslearn/v1
kind: Cluster
metadata: {name: as-listed}
spec:
  vpc:
    cidrs: [10.0.0.0/16]
    subnets: [{name: private-a, cidr: 10.0.1.0/24, zone: us-east-1a}]
  connmark: iptables
  nodes:
    - name: node
      instanceType: t3.small
      subnet: private-a
      interfaces: [ens5, ens6]
      enis:
        - {deviceIndex: 0, primaryAddress: 10.0.1.10, addresses: [10.0.1.31]}
        - {deviceIndex: 1, primaryAddress: 10.0.1.20, addresses: [10.0.1.42]}
""" + "".join(
    "---\napiVersion: v1\nkind: Pod\n"
    f"metadata: {{name: {name}}}\n"
    "spec: {nodeName: node, containers: [{name: c, ports: [{containerPort: 80}]}]}\n"
    f"status: {{podIP: {ip}}}\n"
    for name, ip in (("a", "10.0.1.31"), ("b", "10.0.1.42"))
)
FEW_RULES = ("TO_POD", "HOST", "FROM_POD")  # 512, 1024, 1536


@pytest.mark.parametrize("swap", [(), *combinations(FEW_RULES, 2)], ids="-".join)
def test_only_the_listing_tells_a_wrong_wiring(
    swap: tuple[str, ...], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model and kernel run the same lines: verify can't know that these aren't the CNI's."""
    values = [getattr(rules, name) for name in swap]
    for name, value in zip(swap, reversed(values), strict=True):
        monkeypatch.setattr(rules, name, value)
    cluster = load(SCENARIO)
    listing = read_listing(wired.FOLDER / "default.txt")
    wrong = {command for place, command, wanted in listing.shown
             if place == "node" and command in COMMANDS
             and plain(cluster.run(place, command).stdout) != plain("\n".join(wanted))}  # fmt: skip
    assert wrong == ({"ip rule"} if swap else set())
    report = verify(cluster, world=world)
    assert report.ok, report.text


@in_model
def test_a_pod_of_the_same_name_comes_again(path: Path) -> None:
    """What an earlier one left is replaced, and the node looks as before."""
    listing, lab = model(path)

    def prints(place: str, command: str) -> str:
        return lab.run(place, command).stdout

    for pod in listing.pods:
        links = list(lab.namespace("node").links)
        wired.run(lab, wired.pod_wiring(listing, pod, links=links, rules=prints("node", "ip rule")))
    for place, command, wanted in listing.shown:
        if command in ("ip rule", "iptables-save"):
            assert plain(prints(place, command)) == plain("\n".join(wanted))
        elif command.startswith("ip route"):
            assert sorted(plain(prints(place, command))) == sorted(plain("\n".join(wanted)))


@in_model
def test_everything_is_taken_away_again(path: Path) -> None:
    """After all pods and the second ENI, the node's rules are those of a node without them."""
    listing, lab = model(path)
    links = set(lab.namespace("node").links)
    for pod in listing.pods:
        seen = {"rules": lab.run("node", "ip rule").stdout,
                "routes": lab.run("node", "ip route show table all").stdout}  # fmt: skip
        if pod[0] == "pod":
            wired.run(lab, pod_gone_lines("node", ip=pod[2], table=int(pod[3]), **seen))
        else:
            lines = branch_pod_gone_lines("node", ip=pod[2], vlan_id=int(pod[3]), links=links,
                                          **seen)  # fmt: skip
            wired.run(lab, lines)
            links -= {f"vlan.eth.{pod[3]}"}
        assert pod[2] not in lab.run("node", "ip rule").stdout
        assert f"\n{pod[2]} " not in lab.run("node", "ip route").stdout
    wired.run(lab, eni_gone_lines("node", listing.eni[1], lab.run("node", "ip rule").stdout))
    left = {line.partition(":")[0] for line in plain(lab.run("node", "ip rule").stdout)}
    assert left <= {"0", "20", "1024", "1535", "32766", "32767"}
