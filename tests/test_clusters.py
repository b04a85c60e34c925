"""Cluster: what a scenario of nodes, pods and hosts becomes, and what becomes of it in time."""

from __future__ import annotations

import re

import pytest

import ekslearn
from ekslearn import EkslearnError
from ekslearn.cluster import Cluster
from ekslearn.kubernetes import Container, Pod
from ekslearn.scenario import dump, load

HEAD = """\
apiVersion: ekslearn/v1
kind: Cluster
metadata: {name: test}
spec:
  vpc:
    cidrs: [10.0.0.0/16]
    subnets:
      - {name: private-a, cidr: 10.0.0.0/19, zone: us-east-1a}
      - {name: private-b, cidr: 10.0.32.0/19, zone: us-east-1b}
      - {name: tiny, cidr: 10.0.64.0/28, zone: us-east-1a}
  connmark: iptables
  nodes:
    - {name: node-a, instanceType: t3.small, subnet: private-a}
    - {name: node-b, instanceType: t3.small, subnet: private-b}
"""
POD = """\
---
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec: {nodeName: %s, containers: [{name: c, ports: [{containerPort: 80}]}]}
"""


def cluster(text: str = HEAD, **pods: str) -> Cluster:
    made = load(text + "".join(POD % (name, node) for name, node in pods.items()))
    assert isinstance(made, Cluster)
    return made


def test_a_pod_reaches_a_pod_of_another_node_and_is_answered() -> None:
    made = cluster(one="node-a", two="node-b")
    trace = made.trace("default/one", "default/two:80")
    assert trace.verdict == "delivered"
    assert [(seen.place, seen.direction) for seen in trace.request] == [
        ("default/one", "out"), ("node-a", "in"), ("node-a", "out"),
        ("node-b", "in"), ("node-b", "out"), ("default/two", "in"),
    ]  # fmt: skip
    assert [seen.ttl for seen in trace.request] == [64, 64, 63, 63, 62, 62]  # the VPC is no hop


def test_a_pod_of_the_second_eni_leaves_by_it_and_without_its_rule_by_the_first() -> None:
    made = cluster(**{f"p{n}": "node-a" for n in range(5)}, far="node-b")
    rules = made.run("node-a", "ip rule show").stdout
    second = next(
        place for place in made.places
        if place.startswith("default/p") and f"from {made.address(place)} lookup 2" in rules
    )  # fmt: skip

    def leaves_by() -> str:
        trace = made.trace(second, "default/far:80")
        return next(one.interface for one in trace.request
                    if one.place == "node-a" and one.direction == "out")  # fmt: skip

    assert leaves_by() == "eth1"
    made.run("node-a", f"ip rule del from {made.address(second)} lookup 2 prio 1536")
    assert leaves_by() == "eth0"
    trace = made.trace(second, "default/far:80")
    assert trace.verdict == "dropped"
    assert "is no address of the ENI it comes from" in trace.reason


def test_a_pod_without_address_says_what_kubelet_says() -> None:
    text = HEAD.replace("t3.small, subnet: private-a", "t3.nano, subnet: private-a, maxPods: 20")
    made = cluster(text, **{f"p{n}": "node-a" for n in range(4)})
    (place,) = [place for place in made.pods if place not in made.places][:1]
    with pytest.raises(EkslearnError, match="failed to assign an IP address"):
        made.run(place, "ip addr")
    made.delete_pod(next(each for each in made.places if each.startswith("default/")))
    made.sleep(25)
    assert made.pending  # the address cools down
    made.sleep(15)
    assert len(made.pending) == 1


def test_a_deleted_pod_leaves_nothing_on_its_node() -> None:
    made = cluster()
    before = made.run("node-a", "ip rule show").stdout, made.run("node-a", "ip -br link").stdout
    made = cluster(one="node-a")
    address = made.address("default/one")
    made.delete_pod("default/one")
    assert address not in made.run("node-a", "ip rule show").stdout
    assert address not in made.run("node-a", "ip route show table all").stdout
    assert "eni" not in made.run("node-a", "ip -br link").stdout
    assert before[0].splitlines()[:2] == made.run("node-a", "ip rule show").stdout.splitlines()[:2]


def test_pods_are_spread_where_no_node_is_named_and_wait_where_none_takes_more() -> None:
    text = HEAD.replace("subnet: private-a}\n    -", "subnet: private-a, maxPods: 1}\n    -")
    text = text.replace("subnet: private-b}\n", "subnet: private-b, maxPods: 2}\n", 2)
    text = text.replace("cidr: 10.0.32.0/19, zone: us-east-1b, maxPods: 2", "cidr: 10.0.32.0/19, "
                        "zone: us-east-1b")  # fmt: skip
    pod = POD.replace("nodeName: %s, ", "")
    made = load(text + "".join(pod % f"p{n}" for n in range(4)))
    assert isinstance(made, Cluster)
    assert sorted(each.node for each in made.pods.values()) == ["", "node-a", "node-b", "node-b"]
    assert "2 Too many pods" in next(iter(made.pending.values()))


def test_pinned_addresses_are_kept() -> None:
    text = HEAD.replace(
        "    - {name: node-a, instanceType: t3.small, subnet: private-a}\n",
        "    - name: node-a\n      instanceType: t3.small\n      subnet: private-a\n"
        "      interfaces: [ens5, ens6]\n      enis:\n"
        "        - {deviceIndex: 0, primaryAddress: 10.0.1.10, addresses: [10.0.1.31]}\n"
        "        - {deviceIndex: 1, primaryAddress: 10.0.1.20, addresses: [10.0.1.42]}\n",
    )
    pods = "".join(POD % (name, "node-a") + f"status: {{podIP: {ip}}}\n"
                   for name, ip in (("a", "10.0.1.31"), ("b", "10.0.1.42")))  # fmt: skip
    made = load(text + pods)
    assert (made.address("default/a"), made.address("default/b")) == ("10.0.1.31", "10.0.1.42")
    assert (
        made.run("node-a", "ip rule show").stdout.split()
        == (
            "0: from all lookup local 512: from all to 10.0.1.31 lookup main "
            "512: from all to 10.0.1.42 lookup main 1024: from all fwmark 0x80/0x80 lookup main "
            "1536: from 10.0.1.42 lookup 2 32765: from 10.0.1.20 lookup 2 "
            "32766: from all lookup main 32767: from all lookup default"
        ).split()
    )
    with pytest.raises(EkslearnError, match=r"10\.0\.1\.99 is no free address of an ENI of node-a"):
        load(text + pods.replace("10.0.1.42", "10.0.1.99"))


def test_an_instance_takes_jumbo_frames_and_a_machine_outside_none() -> None:
    """EC2 user guide, "Network MTU"; what the CNI is told is for nodes alone (facts 1.13)."""
    hosts = ("  cni: {AWS_VPC_ENI_MTU: '8000'}\n  hosts:\n"
             "    - {name: bastion, subnet: private-a}\n"
             "    - {name: other, subnet: private-b}\n"
             "    - {name: outside, addresses: [198.51.100.9]}\n")  # fmt: skip
    made = cluster(HEAD + hosts)
    for place, mtu in (("bastion", 9001), ("node-a", 8000), ("outside", 1500)):
        assert f" mtu {mtu} " in made.run(place, "ip link show eth0").stdout
    other = made.address("other")
    for size, lost in ((9001, "0%"), (9002, "100%")):
        ping = made.run("bastion", f"ping -c 1 -W 1 -M do -s {size - 28} {other}")
        assert f" {lost} packet loss" in ping.stdout


def test_host_network_pods_are_their_node() -> None:
    pod = (POD % ("agent", "node-a")).replace("containers", "hostNetwork: true, containers")
    made = load(HEAD + pod + POD % ("one", "node-b"))
    assert made.address("default/agent") == made.address("node-a")
    assert made.trace("default/one", "default/agent:80").verdict == "delivered"
    assert made.trace("default/agent:c", "default/one:80").verdict == "delivered"


AGENT = (POD % ("agent", "node-a")).replace("containers", "hostNetwork: true, containers")


def test_a_host_network_pod_that_is_deleted_listens_no_more() -> None:
    made = cluster(HEAD + AGENT + POD % ("one", "node-b"))
    made.listen("node-a", "0.0.0.0:80/udp", process="another")
    made.delete_pod("default/agent")
    assert [one for one in made.listeners() if one[0] == "node-a"] == [("node-a", "0.0.0.0:80/udp")]
    assert made.trace("default/one", f"{made.address('node-a')}:80").verdict == "refused"
    assert "node-a" in made.places and "default/agent" not in made.aliases
    made.add_pod(Pod(name="agent", node="node-a", host_network=True,
                     containers=(Container(name="c", ports=((80, "tcp"),)),)))  # fmt: skip
    assert made.trace("default/one", "default/agent:80").verdict == "delivered"


def test_a_host_network_pod_has_the_address_of_its_node() -> None:
    own = cluster(HEAD + AGENT).address("node-a")
    assert cluster(f"{HEAD}{AGENT}status: {{podIP: {own}}}\n").address("default/agent") == own
    with pytest.raises(
        EkslearnError, match=r"^\(text\):\d+: 192\.0\.2\.9 isn't the address of node-a"
    ):
        load(f"{HEAD}{AGENT}status: {{podIP: 192.0.2.9}}\n")


def test_a_loaded_cluster_rests() -> None:
    """A node that still waits for EC2 has no round in a step; that is no rest."""
    made = cluster(**{f"p{n}": "node-a" for n in range(4)})
    for machine in made.machines.values():
        calls = [call for one in machine.ipamd.decisions for call in one.calls]
        (last,) = [one for one in machine.ipamd.decisions if one.step == "pool"][-1:]
        assert last.did == () and last.time > max(call.started for call in calls)


def test_the_same_text_gives_the_same_cluster() -> None:
    one, two = (cluster(**{f"p{n}": "node-a" for n in range(6)}) for _ in range(2))
    assert one.lines == two.lines


def test_a_dump_loads_to_the_same_cluster_with_what_was_typed() -> None:
    made = cluster(one="node-a", two="node-b")
    assert load(dump(made)).lines == made.lines
    made.run("node-a", "ip rule del prio 1024")
    again = load(dump(made))
    assert again.lines == made.lines
    assert "1024" not in again.run("node-a", "ip rule show").stdout


def test_external_service_cidrs_have_their_rule() -> None:
    made = cluster(HEAD.replace(
        "  connmark", "  cni: {AWS_EXTERNAL_SERVICE_CIDRS: 203.0.113.0/24}\n  connmark"
    ))  # fmt: skip
    assert "1535:\tfrom all to 203.0.113.0/24 lookup main" in made.run("node-a", "ip rule").stdout


def test_branch_pods_wait_for_the_trunk_and_are_asked_by_their_own_group() -> None:
    made = ekslearn.load("security-groups-for-pods")
    assert isinstance(made, Cluster)
    assert "vlan.eth.1@eth1" in made.run("node-a", "ip -br link").stdout
    assert made.trace("default/app", "default/db:5432").verdict == "delivered"
    assert made.trace("default/plain", "default/db:5432").verdict == "dropped"
    before = made.vpc.subnets["private-a"].free
    made.delete_pod("default/app")
    assert "vlan.eth.1@" not in made.run("node-a", "ip -br link").stdout
    assert made.vpc.subnets["private-a"].free == before + 1


BAD = {
    "instance type": (
        ("t3.small, subnet: private-a", "t3.smal, subnet: private-a"),
        "13: spec.nodes[0].instanceType: EC2 has no instance type 't3.smal'; .*t3.small",
    ),
    "subnet": (
        ("t3.small, subnet: private-a", "t3.small, subnet: private-c"),
        "13: spec.nodes[0].subnet: there is no subnet 'private-c'; there are private-a, ",
    ),
    "subnet outside": (
        ("10.0.32.0/19", "10.1.32.0/19"),
        "9: spec.vpc.subnets[1].cidr: InvalidSubnet.Range: The CIDR '10.1.32.0/19' is invalid.",
    ),
    "overlap": (
        ("10.0.32.0/19", "10.0.16.0/20"),
        "9: spec.vpc.subnets[1].cidr: InvalidSubnet.Conflict: ",
    ),
    "CIDR too small": (
        ("10.0.0.0/16]", "10.0.0.0/29]"),
        "6: spec.vpc.cidrs[0]: InvalidVpc.Range: The CIDR '10.0.0.0/29' is invalid.",
    ),
    "CIDR too large": (("10.0.0.0/16]", "10.0.0.0/8]"), "6: spec.vpc.cidrs[0]: InvalidVpc.Range: "),
    "no CIDR": (("10.0.0.0/16]", "ten]"), "6: spec.vpc.cidrs[0]: 'ten' isn't a network such as"),
    "overlapping CIDRs": (
        ("[10.0.0.0/16]", "[10.0.0.0/16, 10.0.128.0/17]"),
        "6: spec.vpc.cidrs[1]: InvalidVpc.Range: ",
    ),
    "two machines of one name": (
        ("name: node-b", "name: node-a"),
        "14: spec.nodes[1].name: there is a machine called node-a already",
    ),
    "setting": (
        ("  connmark", "  cni: {WARM_ENI_TARGE: '1'}\n  connmark"),
        "11: spec.cni: WARM_ENI_TARGE is no variable .* did you mean WARM_ENI_TARGET?",
    ),
    "setting that is a number": (
        ("  connmark", "  cni: {WARM_ENI_TARGET: 1}\n  connmark"),
        "11: spec.cni.WARM_ENI_TARGET: expected text, found a number",
    ),
    "route target": (
        ("zone: us-east-1a}", "zone: us-east-1a, routes: [{destination: 0.0.0.0/0, target: x}]}"),
        "8: spec.vpc.subnets[0].routes[0].target: private-a has a route to 'x'; targets are igw",
    ),
    "full subnet": (
        ("name: node-b, instanceType: t3.small, subnet: private-b",
         "name: node-b, instanceType: m5.large, subnet: tiny}\n"
         "    - {name: node-c, instanceType: m5.large, subnet: tiny}\n"
            "    - {name: node-d, instanceType: m5.large, subnet: tiny"),
        "16: spec.nodes[3]: InsufficientFreeAddressesInSubnet: ",
    ),
    "unknown field": (
        ("name: node-b,", "name: node-b, size: big,"),
        "14: spec.nodes[1].size: unknown field; known here: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_one_sentence(case: str) -> None:
    (old, new), said = BAD[case]
    assert old in HEAD
    with pytest.raises(EkslearnError) as caught:
        load(HEAD.replace(old, new, 1))
    text = str(caught.value)
    assert "\n" not in text
    assert re.search(r"\(text\):" + said.replace("[", r"\[").replace("]", r"\]"), text), text


POD_BAD = {
    "node": (POD % ("x", "node-z"), "there is no node 'node-z'; there are node-a, node-b"),
    "twice": (POD % ("x", "node-a") * 2, "metadata.name: a second Pod default/x"),
    "host port": (
        (POD % ("x", "node-a")).replace("80}", "80, hostPort: 80}"), "hostPort isn't modelled"
    ),
    "port": ((POD % ("x", "node-a")).replace("80}", "70000}"), "expected a whole number from 1"),
    "protocol": (
        (POD % ("x", "node-a")).replace("80}", "80, protocol: SCTP}"), "'SCTP' isn't modelled"
    ),
    "no name": (
        "---\napiVersion: v1\nkind: Pod\nmetadata: {}\nspec: {containers: [{name: c}]}\n",
        "a Pod needs metadata.name",
    ),
    "kind": ("---\napiVersion: v1\nkind: Servce\nmetadata: {}\n", "there is no kind 'Servce'; did"),
    "port twice": (
        (POD % ("x", "node-a")).replace("]}]", "]}, {name: d, ports: [{containerPort: 80}]}]"),
        "Address already in use",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", POD_BAD)
def test_bad_manifests_are_one_sentence(case: str) -> None:
    text, said = POD_BAD[case]
    with pytest.raises(EkslearnError, match=said) as caught:
        load(HEAD + text)
    assert str(caught.value).startswith("(text):")


def test_the_shelf_has_clusters() -> None:
    made = ekslearn.load("two-nodes")
    assert isinstance(made, Cluster)
    assert not made.pending


def test_a_pod_on_its_nodes_network_is_placed_by_the_scheduler() -> None:
    made = load(HEAD + (POD % ("agent", "?")).replace("nodeName: ?", "hostNetwork: true"))
    assert made.aliases == {"default/agent": "node-a"}
    assert isinstance(made, Cluster) and made.pods["default/agent"].node == "node-a"
