"""AWS's part on the real kernel: what the router does, said by hand and not asked of the model."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network

import pytest

from ekslearn.cluster import Cluster
from ekslearn.kernel import Report, Row, World, places, script, verify
from ekslearn.kernel.probe import Probe, Seen
from ekslearn.kernel.router import SPACE
from ekslearn.kernel.wiring import netns
from ekslearn.vpc.security import NetworkAcl, SecurityGroup, SecurityRule
from tests.ground import PACKAGE
from tests.ground.test_size import code_lines
from tests.kernel.labs import CLUSTER, cluster, privately

verifying = importlib.import_module("ekslearn.kernel.verify")  # the name is the function's
WIRING = re.compile(r"\b(?:rule|route|neigh) (?:add|del|replace|change)\b|iptables|-j [A-Z]{3}")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as one:
        yield one


def ask(
    world: World, lab: Cluster, source: str, *wanted: tuple[str, str, int | None]
) -> list[Seen]:
    """Build the cluster and ask; each question is (protocol, address, port)."""
    world.build(lab)
    return world.probe([
        Probe(namespace=netns(source), protocol=protocol, destination=address, dport=port,
              sport=40000 + at)
        for at, (protocol, address, port) in enumerate(wanted)
    ])  # fmt: skip


def seen_at(seen: Seen, leg: str = "request") -> list[str]:
    """Where a packet was seen, its source and its TTL."""
    return [f"{space} {interface} {way} {one.src} {one.ttl}"
            for space, interface, way, one in seen.packets if one.leg == leg]  # fmt: skip


def wrong(rows: Sequence[Row]) -> str:
    """Those that differ."""
    return "\n".join(str(row) for row in rows if not row.ok)


def test_only_the_router_wires_by_itself() -> None:
    """And AWS's balancers; the rest of the kernel's side runs lines that it is given."""
    for path in sorted((PACKAGE / "kernel").glob("*.py")):
        found = WIRING.search(path.read_text(encoding="utf-8"))
        ours = path.name in ("router.py", "balancer.py")
        assert bool(found) == ours, (path.name, found)


@pytest.mark.parametrize(("name", "limit"), [("router", 150), ("balancer", 110), ("proxy", 100)])
def test_what_plays_aws_is_small(name: str, limit: int) -> None:
    source = (PACKAGE / "kernel" / f"{name}.py").read_text(encoding="utf-8")
    assert code_lines(source) <= limit


def test_from_pod_to_pod_on_another_node_and_back(world: World) -> None:
    """By the ENI that has the pod's address, and no TTL is taken on the way."""
    (seen,) = ask(world, cluster(), "default/second", ("tcp", "10.0.1.11", 80))
    assert seen.answer == "default/far 10.0.0.21 40000"
    assert [line for line in seen_at(seen) if "eni" not in line] == [
        "default_second eth0 out 10.0.0.21 64", "node-a eth1 out 10.0.0.21 63",
        "node-b eth0 in 10.0.0.21 63", "default_far eth0 in 10.0.0.21 62",
    ]  # fmt: skip
    back = seen_at(seen, "reply")
    assert "node-a eth1 in 10.0.1.11 63" in back and not any(SPACE in line for line in back)


def test_out_to_the_world(world: World) -> None:
    """Through a NAT gateway, through the internet gateway, and by a transit gateway as it is."""
    asked = ("tcp", "198.51.100.9", 80), ("udp", "198.51.100.9", 53)
    by_nat = ask(world, cluster(), "default/first", *asked)
    assert [one.answer.rpartition(" ")[0] for one in by_nat] == ["internet 198.19.0.1"] * 2
    by_igw = ask(world, cluster(), "default/far", *asked)
    assert [one.answer.rpartition(" ")[0] for one in by_igw] == ["internet 198.18.0.1"] * 2
    lab = cluster("node-a$ iptables -t nat -I AWS-SNAT-CHAIN-0 -d 10.9.0.0/16 -j RETURN")
    (by_tgw,) = ask(world, lab, "default/first", ("tcp", "10.9.0.5", 80))
    assert by_tgw.answer == "on-prem 10.0.0.11 40000"


def test_in_from_the_world(world: World) -> None:
    """To a public address, never to a private one; nobody comes in by the NAT gateway."""
    seen = ask(world, cluster(), "internet", ("icmp", "198.18.0.1", None),
               ("icmp", "10.0.1.10", None), ("icmp", "198.19.0.1", None))  # fmt: skip
    assert [one.outcome for one in seen] == ["answered", "nothing", "nothing"]
    assert "node-b eth0 in 198.51.100.9 64" in seen_at(seen[0])
    from_on_prem = ask(world, cluster(), "on-prem", ("icmp", "10.0.0.10", None),
                       ("icmp", "10.0.1.10", None))  # fmt: skip
    assert [one.outcome for one in from_on_prem] == ["answered", "nothing"]


def test_the_source_check_asks_which_eni_has_the_address(world: World) -> None:
    """Without its rule a pod of the second ENI leaves by the first, and AWS drops it there."""
    lab = cluster("node-a$ ip rule del from 10.0.0.21 lookup 2 prio 1536")
    (seen,) = ask(world, lab, "default/second", ("icmp", "10.0.1.11", None))
    assert seen.outcome == "nothing"
    assert seen_at(seen)[-1] == "node-a eth0 out 10.0.0.21 63"
    primary = next(eni for eni in lab.vpc.enis.values() if str(eni.primary) == "10.0.0.10")
    primary.source_dest_check = False
    (seen,) = ask(world, lab, "default/second", ("icmp", "10.0.1.11", None))
    assert seen.outcome == "answered"


def test_who_answers_arp(world: World) -> None:
    """The gateway answers ARP and nothing else; nobody answers for an address nobody has."""
    seen = ask(world, cluster(), "bastion", ("icmp", "10.0.0.1", None), ("icmp", "10.0.0.22", None),
               ("icmp", "10.0.0.77", None), ("icmp", "10.0.1.10", None))  # fmt: skip
    assert [one.outcome for one in seen] == [
        "nothing", "nothing", "icmp 3/1 from 10.0.0.9", "answered",
    ]  # fmt: skip
    neighbors = world.run("bastion", "ip neigh show").stdout
    assert "10.0.0.77 dev eth0 FAILED" in neighbors
    macs = dict(re.findall(r"(\S+) dev eth0 lladdr (\S+)", neighbors))
    assert macs["10.0.0.1"] == macs["10.0.0.22"]  # here the router's; in AWS the ENI's own
    # another subnet's gateway is nobody here
    world.run("bastion", "ip route add 10.0.1.1 dev eth0")
    assert world.run("bastion", "ping -c1 -W1 10.0.1.1").status == 1
    assert "10.0.1.1 dev eth0 FAILED" in world.run("bastion", "ip neigh show").stdout


def test_security_groups_remember(world: World) -> None:
    lab = cluster()
    for eni in lab.vpc.enis.values():
        name = "db" if eni.subnet.name == "public-b" else "app"
        rule = SecurityRule(protocol="tcp", from_port=80, to_port=81, group="app")
        eni.security_groups = [SecurityGroup(name, [rule] if name == "db" else [])]
    wanted = ("tcp", "10.0.1.11", 80), ("tcp", "10.0.1.11", 82), ("icmp", "10.0.1.11", None)
    assert [one.outcome for one in ask(world, lab, "default/first", *wanted)] == [
        "answered", "nothing", "nothing",
    ]  # fmt: skip
    (seen,) = ask(world, lab, "default/far", ("tcp", "10.0.0.11", 80))
    assert seen.outcome == "nothing" and len(seen_at(seen)) == 3  # no further than AWS


def test_network_acls_forget(world: World) -> None:
    """What may go out isn't let in as an answer, unless a rule says so; none is asked within."""
    lab = cluster()
    back = SecurityRule(number=10, protocol="tcp", from_port=1024, to_port=65535)
    everything = SecurityRule(number=20)
    lab.vpc.subnets["private-a"].nacl = NetworkAcl("a", [], [everything])
    asked = ("tcp", "10.0.1.11", 80), ("icmp", "10.0.1.11", None), ("icmp", "10.0.0.9", None)
    assert [one.outcome for one in ask(world, lab, "default/first", *asked)] == [
        "nothing", "nothing", "answered",
    ]  # fmt: skip
    lab.vpc.subnets["private-a"].nacl = NetworkAcl("a", [back], [everything])
    assert [one.outcome for one in ask(world, lab, "default/first", *asked)] == [
        "answered", "nothing", "answered",
    ]  # fmt: skip
    deny = SecurityRule(number=5, cidr=IPv4Network("10.0.1.0/24"), deny=True)
    lab.vpc.subnets["private-a"].nacl = NetworkAcl("a", [deny, back], [everything])
    assert ask(world, lab, "default/first", asked[0])[0].outcome == "nothing"


def test_a_path_has_its_mtu(world: World) -> None:
    world.build(cluster())
    probes = [
        Probe(namespace="node-b", protocol="icmp", destination=address, sport=500 + size, size=size)
        for address, size in (("198.51.100.9", 1500), ("198.51.100.9", 1501), ("10.0.0.10", 9001))
    ]
    assert [one.outcome for one in world.probe(probes)] == [
        "answered", "icmp 3/4 from 10.0.1.1", "answered",
    ]  # fmt: skip


def test_an_eni_is_there_while_it_is_attached(world: World) -> None:
    """Between two lines it appears, and what is gone at the end answers nobody."""
    lab = cluster("node-a$ sysctl -w net.ipv4.conf.eth1.rp_filter=1")
    lab.unplug(next(wire.eni for wire in lab.wires if wire.interface == "eth1"))
    lab.wire(["node-a$ ip route add 10.77.0.0/16 via 10.0.0.1"])
    (seen,) = ask(world, lab, "bastion", ("icmp", "10.0.0.20", None))
    assert "eth1" not in world.run("node-a", "ip link show").stdout
    assert "10.77.0.0/16 via 10.0.0.1" in world.run("node-a", "ip route show").stdout
    assert seen.outcome == "icmp 3/1 from 10.0.0.9"


def test_a_pod_on_its_nodes_network_is_in_its_nodes_namespace(world: World) -> None:
    lab = cluster()
    assert dict(places(lab))["kube-system/agent"] == "node-a"
    assert SPACE not in dict(places(lab)).values()
    (seen,) = ask(world, lab, "default/far", ("tcp", "10.0.0.10", 9100))
    assert seen.answer.startswith("node-a 10.0.1.11 ")
    lab.run("kube-system/agent", "ip link set dev eth0 txqueuelen 1000")
    lab.lines.append("kube-system/agent$ ip route add 10.78.0.0/16 via 10.0.0.1")
    world.build(lab)
    assert "10.78.0.0/16" in world.run("node-a", "ip route show").stdout


def test_a_deleted_pod_takes_nothing_with_it(world: World) -> None:
    """What is sent to its address goes round: out by eth1, through AWS, in by eth0, and again."""
    lab = cluster()
    lab.delete_pod("default/first")
    (seen,) = ask(world, lab, "default/second", ("icmp", "10.0.0.11", None))
    assert seen.outcome == "icmp 11/0 from 10.0.0.10"
    rows = compared(world, lab, ("default/second", "10.0.0.11"), ("bastion", "10.0.0.11"))
    assert all(row.ok for row in rows), wrong(rows)


PLAIN = {
    "  nodes:": '  cni: {ENABLE_POD_ENI: "true", DISABLE_TCP_EARLY_DEMUX: "true"}\n  nodes:',
    "t3.small": "m5.large",
    "address: 10.0.0.9": "address: 10.0.0.200",
    "    subnets:": "    securityGroups: [{name: db, ingress: [{protocol: tcp, port: 80}]}]\n"
                    "    subnets:",
}  # fmt: skip
BRANCHES = CLUSTER
for old, new in PLAIN.items():
    BRANCHES = BRANCHES.replace(old, new)
BRANCHES = re.sub(r"      enis:.*(\n        - .*)*\n|status: .*\n", "", BRANCHES)
BRANCHES += """\
---
apiVersion: vpcresources.k8s.aws/v1beta1
kind: SecurityGroupPolicy
metadata: {name: db}
spec:
  podSelector: {matchLabels: {role: db}}
  securityGroups: {groupIds: [db]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, labels: {role: db}}
spec: {nodeName: node-a, containers: [{name: c, ports: [{containerPort: 80}]}]}
"""


def test_a_branch_eni_is_a_veth_of_its_own_and_that_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even from its own node a pod is reached through AWS, whose security group is asked."""
    lab = cluster(text=BRANCHES)
    said = "node-a has a veth named vlan.eth.1 into the router in place of a VLAN device"
    assert f"\n# {said}" in script(lab) and "type vlan" not in script(lab)
    address = lab.address("default/db")
    open_, closed = ask(world, lab, "default/first", ("tcp", address, 80), ("icmp", address, None))
    assert open_.answer.startswith("default/db ") and closed.outcome == "nothing"
    assert any(line.startswith("node-a vlan.eth.1 in ") for line in seen_at(open_))
    rows = compared(world, lab, ("default/first", f"{address}:80/tcp"), ("node-a", address))
    assert all(row.ok for row in rows), wrong(rows)
    monkeypatch.setattr(verifying, "MOST", 5)
    assert said in verify(lab, world=world).text


def compared(world: World, lab: Cluster, *wanted: tuple[str, str]) -> list[Row]:
    """What verify compares, for some questions only; then what differs."""
    world.build(lab)
    rows = [verifying.listing(lab.copy(), world, place, command)
            for place in lab.places for command in verifying.LISTINGS]  # fmt: skip
    return [*rows, *verifying.compare(lab, list(wanted), world)]


def test_verify_says_whose_word_it_is(world: World) -> None:
    second, world_outside = "default/second", "198.51.100.9:80/tcp"
    rows = compared(world, cluster(), (second, "10.0.1.11:80/tcp"), (second, world_outside),
                    ("internet", "10.0.1.11"))  # fmt: skip
    assert all(row.ok for row in rows), wrong(rows)
    proof = {row.step: row.proof for row in rows}
    assert proof["probe default/second -> 10.0.1.11:80/tcp"] == "kernel"
    assert proof["probe default/second -> 198.51.100.9:80/tcp"] == "AWS as documented"  # NAT
    assert proof["probe internet -> 10.0.1.11"] == "AWS as documented"  # dropped
    assert proof["listing node-a$ ip rule show"] == "kernel"
    text = Report("x", tuple(rows), ("a note",)).text
    assert text.splitlines()[-2] == "a note" and "; 2 of them say AWS as documented" in text


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("ip rule del from 10.0.0.21 lookup 2 prio 1536", "-1536:\tfrom 10.0.0.21 lookup 2"),
        ("iptables -t nat -F AWS-SNAT-CHAIN-0", "+request node-a eth0 out 10.0.0.11 -> 198.51"),
        ("ip link set eth1 mtu 1400", "+N: eth1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1400"),
    ],
)
def test_a_planted_difference_is_found(secret: str, said: str, world: World) -> None:
    lab = cluster()
    lab.lines.append(f"node-a$ {secret}")
    different = wrong(compared(world, lab, ("default/first", "198.51.100.9")))
    assert said in different


def test_of_many_questions_some_are_drawn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "MOST", 30)
    report = verify(cluster(), world=world)
    assert report.ok, wrong(report.rows)
    assert sum(row.step.startswith("probe") for row in report.rows) == 30
    assert re.search(r"\n30 of \d{3} possible probes were drawn, by the lab's name\n", report.text)
    asked = verifying.questions(cluster())
    assert asked == verifying.questions(cluster()) and len(set(asked)) == 30


def test_the_script_builds_it_for_a_human() -> None:
    """Run by sh as root of a private machine; then one asks as one would by hand."""
    done = privately(
        "import subprocess\n"
        "from tests.kernel.labs import cluster\n"
        "from ekslearn.kernel import down, script, up\n"
        "def sh(text):\n"
        "  done = subprocess.run(text, shell=True, capture_output=True, text=True)\n"
        "  print(done.stdout + done.stderr, end='')\n"
        "subprocess.run(['sh'], input=script(cluster()), text=True, check=True,\n"
        "               stdout=subprocess.DEVNULL)\n"
        "sh('ip netns exec default_second ping -c1 -W2 10.0.1.11 | grep -o ttl=..')\n"
        "sh('ip netns exec default_first ping -c1 -W2 198.51.100.9 | grep -o ttl=..')\n"
        "sh('for n in $(ip netns | cut -d\" \" -f1); do ip netns del $n; done')\n"
        "up(cluster())\n"
        "sh('ip netns exec default_second curl -s --max-time 5 http://10.0.1.11')\n"
        "sh('ip netns exec node-b curl -s --max-time 5 http://10.0.0.10:9100')\n"
        "down(cluster())\n"
        "sh('ip netns; ls /run/ekslearn')\n"
    )
    assert done.stderr == ""
    ttls, answers = done.stdout.splitlines()[:2], done.stdout.splitlines()[2:]
    assert ttls == ["ttl=62", "ttl=63"]
    assert [one.rpartition(" ")[0] for one in answers] == [
        "default/far 10.0.0.21", "node-a 10.0.1.10",
    ]  # fmt: skip


def test_addresses_are_the_enis(world: World) -> None:
    """An address that moved to another ENI is looked for there, whatever the node believes."""
    lab = cluster()
    first = lab.vpc.owner(IPv4Address("10.0.0.11"))
    second = lab.vpc.owner(IPv4Address("10.0.0.21"))
    assert first and second
    lab.vpc.release(first, IPv4Address("10.0.0.11"))
    second.subnet.take(IPv4Address("10.0.0.11"))
    lab.vpc.assign(second, IPv4Address("10.0.0.11"))
    (seen,) = ask(world, lab, "bastion", ("icmp", "10.0.0.11", None))
    assert "node-a eth1 in 10.0.0.9 64" in seen_at(seen)
