from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekslearn.fabric.nat import NatGateway
from ekslearn.linux import Link, NetworkNamespace, Packet
from ekslearn.linux.packet import Arp, Frame
from ekslearn.vpc.model import Eni
from ekslearn.vpc.subnet import Subnet
from tests.vpc.labs import Site

IP = IPv4Address
INTERNET, CENTER = "198.51.100.9", "192.168.1.9"


def public_site() -> tuple[Site, Eni]:
    """A node in a subnet with a route to igw, and a machine on the internet, both listening."""
    site = Site(routes=[("0.0.0.0/0", "igw")])
    node = site.machine("node")
    site.host("internet", INTERNET)
    for name in ("node", "internet"):
        site.listen(name, "0.0.0.0:80/tcp")
    return site, node


def private_site(target: str = "nat") -> tuple[Site, Eni]:
    """Two nodes behind a NAT gateway (or another target), and a machine on the internet."""
    site = Site(routes=[("0.0.0.0/0", target)])
    node = site.machine("node")
    site.machine("other")
    site.host("internet", INTERNET)
    site.listen("internet", "0.0.0.0:80/tcp")
    return site, node


# The router nobody sees


def test_two_subnets_and_no_hop_between_them() -> None:
    site = Site()
    site.machine("a1")
    b1 = site.machine("b1", "b")
    client, notes = site.ask("a1", str(b1.primary))
    assert [str(each.src) for each in client.answers] == ["10.0.2.4"]
    assert notes.seen == ["a1 out 10.0.1.4>10.0.2.4 64", "b1 in 10.0.1.4>10.0.2.4 64",
                          "b1 out 10.0.2.4>10.0.1.4 64", "a1 in 10.0.2.4>10.0.1.4 64"]  # fmt: skip
    assert notes.vpc() == [
        "vpc route: send to local | 10.0.0.0/16 -> local (route table of a)",
        "vpc route: send to local | 10.0.0.0/16 -> local (route table of b)",
    ]
    assert site.must("a1", "ip neigh show").split()[:4] == ["10.0.1.1", "dev", "eth0", "lladdr"]


def test_a_ttl_of_one_is_enough() -> None:
    site = Site()
    site.machine("a1")
    b1 = site.machine("b1", "b")
    assert "ttl=64" in site.must("a1", f"ping -t 1 -c 1 {b1.primary}")
    assert f" 1  {b1.primary}" in site.run("a1", f"traceroute -n {b1.primary}").stdout


def test_addresses_are_known_centrally() -> None:
    """A secondary address has its ENI's MAC before it ever spoke."""
    site = Site()
    site.machine("a1")
    a2 = site.machine("a2")
    [pod] = site.ec2.assign_private_ip_addresses(a2.eni_id, count=1)
    site.must("a2", f"ip addr add {pod}/32 dev lo")
    assert site.verdict("a1", str(pod)) == "answered"
    assert f"{pod} dev eth0 lladdr {a2.mac} REACHABLE" in site.must("a1", "ip neigh show")


@pytest.mark.parametrize(
    ("target", "answer"),
    [("10.0.1.1", "router"), ("10.0.1.5", "a2"), ("10.0.1.17", "a2"), ("10.0.1.6", ""),
     ("10.0.1.4", ""), ("10.0.1.2", ""), ("10.0.2.4", ""), ("10.0.2.1", ""),
     ("169.254.169.254", ""), ("10.0.1.99", "")],
)  # fmt: skip
def test_who_has(target: str, answer: str) -> None:
    site = Site()
    site.machine("a1")
    a2 = site.machine("a2")
    site.ec2.assign_private_ip_addresses(a2.eni_id, prefix_count=1)  # 10.0.1.16/28
    site.ec2.create_network_interface(site.vpc.subnets["a"])  # 10.0.1.6, plugged in nowhere
    site.machine("b1", "b")
    macs = {"router": site.fabric.router_mac(site.vpc.subnets["a"]), "a2": a2.mac, "": None}
    assert heard(site, "a1", target) == macs[answer]


def heard(site: Site, place: str, target: str, op: str = "request") -> str | None:
    """The MAC the fabric tells for an address, None if it stays silent."""
    namespace = site.namespace(place)
    link = namespace.links["eth0"]
    got: list[Frame] = []
    namespace.receive = lambda link, frame, skb=None: got.append(frame)  # type: ignore[method-assign, assignment]
    arp = Arp(op=op, sender=link.addresses[0].ip, sender_mac=link.mac, target=IP(target))
    site.fabric.carry(link, Frame("ff:ff:ff:ff:ff:ff", link.mac, arp))
    site.world.settle()
    for frame in got:
        assert isinstance(frame.payload, Arp)
        assert (frame.payload.op, frame.payload.sender) == ("reply", IP(target))
        assert frame.dst == link.mac and frame.src == frame.payload.sender_mac
        return frame.payload.sender_mac
    return None


def test_only_requests_are_answered() -> None:
    site, _ = public_site()
    assert heard(site, "node", "10.0.1.1", op="reply") is None
    assert heard(site, "internet", INTERNET) is None  # its own
    assert heard(site, "internet", "198.51.100.1")  # whoever its own router is


def test_routers_of_two_subnets_have_two_macs() -> None:
    site = Site()
    macs = {site.fabric.router_mac(each) for each in site.vpc.subnets.values()}
    assert len(macs) == 3


@pytest.mark.parametrize(
    ("destination", "why"),
    [
        ("10.0.1.99", "neighbor: nobody on eth0 answers for 10.0.1.99"),
        ("10.0.2.99", "vpc route: no ENI has 10.0.2.99"),
        ("10.0.77.1", "vpc route: no ENI has 10.0.77.1"),
        ("10.0.2.2", "vpc route: no ENI has 10.0.2.2"),
        ("8.8.8.8", "vpc route: no route to 8.8.8.8"),
        ("169.254.169.254", "vpc: a VPC doesn't carry packets for 169.254.169.254"),
    ],
)
def test_where_nobody_is(destination: str, why: str) -> None:
    site = Site()
    site.machine("a1")
    site.must("a1", "ip route add 10.0.0.0/16 via 10.0.1.1")
    client, notes = site.ask("a1", destination)
    assert notes.lost == why
    if notes.lost.startswith("vpc"):
        assert not client.answers  # the fabric drops, and tells nobody


def test_multicast_and_broadcast_arent_carried() -> None:
    site = Site()
    a1 = site.machine("a1")
    site.machine("a2")
    for text in ("224.0.0.1", "10.0.1.255"):
        packet = Packet(src=a1.primary, dst=IP(text), protocol="udp", sport=1, dport=1)
        notes = site.record(lambda p=packet: site.namespace("a1").ip.send(p))  # type: ignore[misc]
        assert notes.lost == f"vpc: a VPC doesn't carry packets for {text}"


def test_an_address_of_an_eni_in_no_machine() -> None:
    site = Site()
    site.machine("a1")
    eni = site.ec2.create_network_interface(site.vpc.subnets["b"])
    assert site.verdict("a1", str(eni.primary)) == f"vpc: {eni.eni_id} (10.0.2.4) is in no machine"


def test_unplugged() -> None:
    site = Site()
    site.machine("a1")
    b1 = site.machine("b1", "b")
    link = site.namespace("b1").links["eth0"]
    assert site.verdict("a1", str(b1.primary)) == "answered"
    site.fabric.unplug(link)
    assert site.verdict("a1", str(b1.primary)).endswith("is in no machine")
    assert link.segment is None
    site.fabric.plug(link, b1)
    assert site.verdict("a1", str(b1.primary)) == "answered"
    host = site.host("dc", CENTER)
    site.fabric.unplug(host)
    site.vpc.subnets["a"].table.add("192.168.0.0/16", "tgw")
    assert site.verdict("a1", CENTER) == f"tgw: no machine outside has {CENTER}"


# Source and destination check


def second_eni(site: Site, name: str, subnet: str = "a") -> tuple[Eni, Link]:
    """A second ENI of a machine, plugged in as eth1 and up, without address or route."""
    first = site.fabric_eni(name)
    eni = site.ec2.create_network_interface(site.vpc.subnets[subnet], secondary_count=1)
    site.ec2.attach_network_interface(eni.eni_id, first.instance, 1)
    link = site.namespace(name).add_link("eth1", "ethernet", eni.mac)
    site.fabric.plug(link, eni)
    site.must(name, "ip link set eth1 up")
    return eni, link


def test_a_source_of_another_eni_is_dropped_on_its_way_out() -> None:
    """The wrong interface: a pod's address that belongs to eth1 leaves by eth0."""
    site = Site()
    first, other = site.machine("a1"), site.machine("b1", "b")
    eni, _ = second_eni(site, "a1")
    pod = eni.secondary[0]
    site.must("a1", f"ip addr add {pod}/32 dev lo")
    site.must("a1", f"ip route add 10.0.2.0/24 via 10.0.1.1 dev eth0 src {pod}")
    client, notes = site.ask("a1", str(other.primary))
    assert notes.lost == f"vpc source check: {pod} is no address of the ENI it comes from"
    assert notes.vpc()[-1].endswith(f"| {first.eni_id}: the source/destination check is on")
    assert not client.answers
    site.ec2.modify_network_interface_attribute(first.eni_id, source_dest_check=False)
    assert site.verdict("a1", str(other.primary)) == "answered"  # out by eth0, back by eth1


def test_a_packet_for_another_address_is_dropped_on_its_way_in() -> None:
    """An instance as a router: the subnet hands over by MAC, the check has to be off."""
    site = Site()
    site.machine("a1")
    router = site.machine("router")
    site.must("router", "sysctl -w net.ipv4.ip_forward=1")
    site.must("a1", f"ip route add 192.0.2.0/24 via {router.primary}")
    site.must("router", "ip addr add 192.0.2.1/32 dev lo")
    assert site.verdict("a1", "192.0.2.1") == (
        "vpc destination check: 192.0.2.1 is no address of the ENI it goes to")  # fmt: skip
    site.ec2.modify_network_interface_attribute(router.eni_id, source_dest_check=False)
    assert site.verdict("a1", "192.0.2.1") == "answered"


def test_a_frame_for_a_mac_of_another_subnet_reaches_nobody() -> None:
    site = Site()
    site.machine("a1")
    b1 = site.machine("b1", "b")
    site.must("a1", f"ip neigh replace 10.0.1.1 lladdr {b1.mac} dev eth0")
    assert site.verdict("a1", str(b1.primary)) == f"vpc: nobody in a has {b1.mac}"


def test_an_eni_gets_back_what_it_sends_to_itself() -> None:
    """What AWS does here isn't published; the model hands it back."""
    site = Site()
    first = site.machine("a1")
    [pod] = site.ec2.assign_private_ip_addresses(first.eni_id, count=1)
    site.must("a1", f"ip route add {pod}/32 via 10.0.1.1")
    _, notes = site.ask("a1", str(pod))
    assert notes.seen[:2] == [f"a1 out 10.0.1.4>{pod} 64", f"a1 in 10.0.1.4>{pod} 64"]


# Gateways


def test_internet_gateway_translates_one_to_one() -> None:
    site, node = public_site()
    client, notes = site.ask("node", f"{INTERNET}:80")
    assert client.answers[0].data == f"internet {node.public_ip} 40000"
    assert notes.seen == [
        f"node out 10.0.1.4>{INTERNET} 64", f"internet in 198.18.0.1>{INTERNET} 64",
        f"internet out {INTERNET}>198.18.0.1 64", f"node in {INTERNET}>10.0.1.4 64",
    ]  # fmt: skip
    assert notes.vpc() == [
        "vpc route: send to igw | 0.0.0.0/0 -> igw (route table of a)",
        "vpc igw: rewrite the source: 198.18.0.1:40000 | 10.0.1.4 <-> 198.18.0.1",
        "vpc igw: rewrite the destination: 10.0.1.4:40000 | 198.18.0.1 <-> 10.0.1.4",
    ]
    assert site.decided(notes, "vpc route")[0].row.passed_over == (  # type: ignore[attr-defined]
        f"10.0.0.0/16 -> local — {INTERNET} isn't in it",)  # fmt: skip


def test_the_internet_reaches_a_public_address_and_no_private_one() -> None:
    site, node = public_site()
    client, _ = site.ask("internet", f"{node.public_ip}:80")
    assert client.answers[0].data == f"node {INTERNET} 40000"
    assert site.verdict("internet", str(node.public_ip)) == "answered"
    assert site.verdict("internet", f"{node.primary}:80") == (
        f"vpc route: the internet carries nothing to {node.primary}, an address of the VPC, and no"
        f" route of a leads to {INTERNET} by tgw or pcx (transit gateway, peering)")  # fmt: skip
    assert site.verdict("internet", "198.18.0.77") == "internet: no machine outside has 198.18.0.77"
    assert site.verdict("internet", "10.0.2.77") == "vpc route: no ENI has 10.0.2.77"


def test_the_internet_gateway_translates_what_an_error_quotes() -> None:
    site, node = public_site()
    assert site.verdict("node", f"{INTERNET}:54/udp") == "refused"  # from outside
    assert site.verdict("internet", f"{node.public_ip}:54/udp") == "refused"  # from inside


def test_only_the_first_address_of_an_instance_has_a_public_one() -> None:
    """With external SNAT in a public subnet a pod's own address gets no further than the igw."""
    site, node = public_site()
    [pod] = site.ec2.assign_private_ip_addresses(node.eni_id, count=1)
    site.must("node", f"ip addr add {pod}/32 dev lo")
    site.must("node", f"ip route replace default via 10.0.1.1 dev eth0 src {pod}")
    assert site.verdict("node", f"{INTERNET}:80") == (
        f"vpc igw: {pod} has no public address: the internet gateway drops it")  # fmt: skip


def test_nodes_reach_each_other_by_public_addresses_too() -> None:
    site, _ = public_site()
    other = site.machine("other", "b")
    site.listen("other", "0.0.0.0:80/tcp")
    client, _ = site.ask("node", f"{other.public_ip}:80")
    assert client.answers[0].data == "other 198.18.0.1 40000"


def test_nat_gateway_hides_many_behind_one() -> None:
    site, _ = private_site()
    client, notes = site.ask("node", f"{INTERNET}:80")
    assert client.answers[0].data == "internet 198.19.0.1 40000"
    assert notes.vpc() == [
        "vpc route: send to nat | 0.0.0.0/0 -> nat (route table of a)",
        "vpc nat: rewrite the source: 198.19.0.1:40000 | 10.0.1.4 <-> 198.19.0.1",
        "vpc nat: rewrite the destination: 10.0.1.4:40000 | 198.19.0.1 <-> 10.0.1.4",
    ]
    client, _ = site.ask("other", f"{INTERNET}:80")  # the same port, so another is drawn
    name, address, port = client.answers[0].data.split()
    assert (name, address) == ("internet", "198.19.0.1") and 1024 <= int(port) != 40000
    assert site.verdict("node", INTERNET) == site.verdict("other", INTERNET) == "answered"  # ping
    assert site.verdict("node", f"{INTERNET}:81") == "refused"
    assert site.verdict("node", f"{INTERNET}:53/udp") == "refused"  # an error is translated too


def test_nothing_comes_in_through_a_nat_gateway_unasked() -> None:
    site, _ = private_site()
    gone = "vpc nat: nobody inside asked the NAT gateway for it"
    assert site.verdict("internet", "198.19.0.1:40000") == gone
    assert site.verdict("node", f"{INTERNET}:80") == "answered"  # from port 40000
    assert site.verdict("internet", "198.19.0.1:40000") == gone  # not from port 80


def test_a_nat_gateway_forgets_nobody_but_who_is_gone() -> None:
    site, node = private_site()
    [pod] = site.ec2.assign_private_ip_addresses(node.eni_id, count=1)
    site.must("node", f"ip addr add {pod}/32 dev lo")
    site.must("node", f"ip route replace default via 10.0.1.1 dev eth0 src {pod}")
    assert site.verdict("node", f"{INTERNET}:80") == "answered"
    site.ec2.unassign_private_ip_addresses(node.eni_id, [pod])
    reply = Packet(src=IP(INTERNET), dst=IP("198.19.0.1"), protocol="tcp", sport=80, dport=40000)
    notes = site.record(lambda: site.namespace("internet").ip.send(reply))
    assert notes.lost == f"vpc nat: no ENI has {pod} any more"


def test_the_nat_gateway_translates_what_an_error_quotes() -> None:
    """A late answer: the node tells that nobody waits for it any more."""
    site, _ = private_site()
    site.listen("internet", "0.0.0.0:53/udp")
    assert site.verdict("node", f"{INTERNET}:53/udp") == "answered"  # from port 40000
    late = Packet(src=IP(INTERNET), dst=IP("198.19.0.1"), protocol="udp", sport=53, dport=40000)
    notes = site.record(lambda: site.namespace("internet").ip.send(late))
    told = next(each.packet for each in notes.decisions if each.packet and each.packet.is_error
                and each.namespace.name == "internet")  # fmt: skip
    assert str(told.src) == "198.19.0.1" and told.quoted
    assert (str(told.quoted.dst), told.quoted.dport) == ("198.19.0.1", 40000)


def test_what_a_nat_gateway_knows_nothing_of() -> None:
    site, node = private_site()
    for flags, icmp in (("SYN-ACK", None), ("RST", None), ("", (0, 0))):
        packet = Packet(src=node.primary, dst=IP(INTERNET), protocol="icmp" if icmp else "tcp",
                        sport=80, dport=9, flags=flags, icmp=icmp)  # fmt: skip
        notes = site.record(lambda p=packet: site.namespace("node").ip.send(p))  # type: ignore[misc]
        assert notes.lost == "vpc nat: the NAT gateway knows no such connection"


@pytest.mark.parametrize("target", ["igw", "nat"])
def test_the_internet_carries_no_private_address(target: str) -> None:
    site, _ = private_site(target)
    site.host("dc", CENTER)
    assert site.verdict("node", CENTER) == f"internet: {CENTER} is private: not carried there"
    assert (
        site.verdict("dc", "198.19.0.1:80") == f"internet: {CENTER} is private: not carried there"
    )


@pytest.mark.parametrize("target", ["tgw", "pcx"])
def test_transit_and_peering_translate_nothing(target: str) -> None:
    site = Site(routes=[("192.168.0.0/16", target)])
    node = site.machine("node")
    site.host("dc", CENTER, "192.168.7.7")
    site.host("branch", "172.16.0.9")
    for name in ("node", "dc"):
        site.listen(name, "0.0.0.0:80/tcp")
    client, _ = site.ask("node", f"{CENTER}:80")
    assert client.answers[0].data == "dc 10.0.1.4 40000"
    assert site.verdict("node", "192.168.7.7") == "answered"
    client, notes = site.ask("dc", f"{node.primary}:80")
    assert client.answers[0].data == f"node {CENTER} 40000"
    row = f"192.168.0.0/16 -> {target} (route table of a)"
    assert notes.vpc()[0] == f"vpc route: comes in by {target} | {row}"
    assert site.verdict("node", "192.168.9.9") == f"{target}: no machine outside has 192.168.9.9"
    assert site.verdict("node", "172.16.0.9") == "vpc route: no route to 172.16.0.9"
    assert site.verdict("branch", str(node.primary)) == (
        "vpc route: no route of a leads to 172.16.0.9 by tgw or pcx (transit gateway, peering)"
    )
    # the gateway leads to this VPC, not through it to somebody else's
    assert site.verdict("dc", "172.16.0.9") == (
        "internet: 192.168.1.9 is private: not carried there")  # fmt: skip


def test_a_subnet_without_a_route_back_isnt_reached() -> None:
    site = Site(routes=[("192.168.0.0/16", "tgw")])
    site.host("dc", CENTER)
    hidden = site.machine("hidden", "c")
    assert site.verdict("dc", str(hidden.primary)) == (
        f"vpc route: no route of c leads to {CENTER} by tgw or pcx (transit gateway, peering)"
    )


def test_machines_outside_keep_to_themselves() -> None:
    site, _ = public_site()
    site.host("second", "203.0.113.50")
    assert site.verdict("second", INTERNET) == (
        "internet: what machines outside say to each other isn't modelled")  # fmt: skip
    site.must("second", "ip addr add 203.0.113.51/32 dev lo")
    site.must("second", "ip route replace default via 169.254.1.1 dev eth0 onlink src 203.0.113.51")
    assert site.verdict("second", INTERNET) == "outside: 203.0.113.51 is no address of this host"


# How large a packet may be


@pytest.mark.parametrize(
    ("target", "mtu"), [("igw", 1500), ("nat", 1500), ("tgw", 8500), ("pcx", 8500)]
)
def test_path_mtu(target: str, mtu: int) -> None:
    site = Site(routes=[("0.0.0.0/0", target)])
    site.machine("node")
    site.host("out", INTERNET, mtu=9001)
    assert site.verdict("node", INTERNET, size=mtu) == "answered"
    client, notes = site.ask("node", INTERNET, size=mtu + 1)
    assert notes.lost.startswith(f"vpc mtu: {mtu + 1} bytes are more than {target} carries")
    [error] = client.answers
    assert (error.icmp, error.mtu, str(error.src)) == ((3, 4), mtu, "10.0.1.1")
    client, _ = site.ask("node", INTERNET, size=mtu + 1)  # now the node knows better
    assert client.errno and not client.answers


def test_jumbo_frames_inside() -> None:
    site = Site()
    site.machine("a1")
    b1 = site.machine("b1", "b")
    assert site.verdict("a1", str(b1.primary), size=9001) == "answered"
    site.must("a1", "ip link set eth0 mtu 9216")
    assert site.verdict("a1", str(b1.primary), size=9002) == "unreachable"


def test_an_eni_takes_no_more_than_its_device() -> None:
    site = Site()
    site.machine("a1")
    site.must("a1", "ip link set eth0 mtu 68")
    for mtu, said in ((9217, "greater than device maximum"), (67, "less than device minimum")):
        assert said in site.run("a1", f"ip link set eth0 mtu {mtu}").stderr


@pytest.mark.parametrize(("target", "mtu"), [("tgw", 8500), ("pcx", 8500), ("igw", 1500)])
def test_path_mtu_from_outside(target: str, mtu: int) -> None:
    site = Site(routes=[("0.0.0.0/0", target)])
    node = site.machine("node")
    site.host("out", INTERNET, mtu=9001)
    to = str(node.public_ip or node.primary)
    assert site.verdict("out", to, size=mtu) == "answered"
    assert site.verdict("out", to, size=mtu + 1) == "unreachable"


def test_what_may_be_cut_is_carried_whole() -> None:
    site, node = public_site()
    packet = Packet(src=node.primary, dst=IP(INTERNET), protocol="udp", sport=9, dport=9,
                    size=4000, df=False)  # fmt: skip
    notes = site.record(lambda: site.namespace("node").ip.send(packet))
    assert f"internet in 198.18.0.1>{INTERNET} 64" in notes.seen


def test_no_error_about_an_error() -> None:
    site, node = public_site()
    about = Packet(src=IP(INTERNET), dst=node.primary, protocol="udp", sport=9, dport=9)
    error = Packet(src=node.primary, dst=IP(INTERNET), protocol="icmp", icmp=(3, 3), size=2000,
                   quoted=about)  # fmt: skip
    notes = site.record(lambda: site.namespace("node").ip.send(error))
    assert notes.lost.startswith("vpc mtu") and not any("node in" in line for line in notes.seen)


# A copy, and whoever doesn't listen


def test_a_copy_goes_its_own_way() -> None:
    site, _ = public_site()
    assert site.verdict("node", f"{INTERNET}:80") == "answered"
    twin = site.copy()
    assert isinstance(twin, Site)
    twin.vpc.subnets["a"].table.routes.clear()
    assert twin.verdict("node", f"{INTERNET}:80").startswith("vpc route: no route")
    assert site.verdict("node", f"{INTERNET}:80") == "answered"


def test_a_trace_names_the_vpcs_decisions() -> None:
    site, _ = private_site()
    trace = site.trace("node", f"{INTERNET}:80/tcp")
    assert trace.verdict == "delivered"
    assert {each.place for each in (*trace.request, *trace.reply)} == {"node", "internet"}
    stages = [step.stage for step in trace.steps]
    assert "vpc route" in stages and stages.count("vpc nat") == 2
    lost = site.trace("internet", "198.19.0.1:9/tcp")
    assert (lost.verdict, lost.reason) == (
        "dropped", "internet: nobody inside asked the NAT gateway for it")  # fmt: skip


# What holds whatever is asked


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1024, 1027), st.sampled_from(
    ["tcp", "udp", "icmp"])), max_size=40), st.integers(0, 9))  # fmt: skip
def test_no_two_connections_share_a_port_of_the_nat_gateway(
    asked: list[tuple[int, int, str]], seed: int
) -> None:
    from random import Random

    gateway = NatGateway(Random(seed))
    shown: dict[tuple[object, ...], tuple[object, ...]] = {}
    for host, port, protocol in asked:
        packet = Packet(
            src=IP(f"10.0.0.{host}"), dst=IP(INTERNET), protocol=protocol,
            sport=None if protocol == "icmp" else port, dport=None if protocol == "icmp" else 80,
            flags="SYN" if protocol == "tcp" else "", ident=port,
            icmp=(8, 0) if protocol == "icmp" else None,
        )  # fmt: skip
        out = gateway.out(packet)
        assert (
            out
            and out.src == gateway.public
            and out.dst == packet.dst
            and out.dport == packet.dport
        )
        key = (protocol, out.ident if protocol == "icmp" else out.sport)
        assert shown.setdefault(key, (host, port)) == (host, port)
        assert gateway.out(packet) == out  # the same connection keeps its port
        answer = out.answer(icmp=(0, 0)) if protocol == "icmp" else out.answer()
        back = gateway.back(answer)
        assert back and (back.dst, back.dport, back.ident) == (
            packet.src,
            packet.sport,
            packet.ident,
        )
    assert gateway.back(Packet(src=IP(INTERNET), dst=gateway.public, protocol="tcp", sport=81,
                               dport=1024)) is None  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["10.0.1.4", "10.0.2.4", "10.0.3.4", "10.0.1.77", "8.8.8.8", INTERNET,
                        CENTER, "198.18.0.1", "198.19.0.1", "10.0.2.1"]),
       st.sampled_from(["a1", "b1", "c1", "internet", "dc"]),
       st.lists(st.sampled_from(["igw", "nat", "tgw", "pcx"]), min_size=1, max_size=2))  # fmt: skip
def test_every_packet_arrives_or_its_end_is_told(to: str, source: str, targets: list[str]) -> None:
    destinations = ["0.0.0.0/0", "192.168.0.0/16"]
    site = Site(routes=list(zip(destinations, targets, strict=False)))
    for name, subnet in (("a1", "a"), ("b1", "b"), ("c1", "c")):
        site.machine(name, subnet)
    site.host("internet", INTERNET)
    site.host("dc", CENTER)
    client, notes = site.ask(source, to)
    outs = sum(line.split()[1] == "out" for line in notes.seen)
    ins = sum(line.split()[1] == "in" for line in notes.seen)
    ended = sum(each.lost for each in notes.decisions)
    assert client.answers or client.errno or ended
    # nothing vanishes: what leaves a machine comes in somewhere or is lost with a reason
    told = [each for each in notes.decisions if each.lost and each.stage != "neighbor"
            and not each.stage.startswith(("route", "deliver"))]  # fmt: skip
    assert outs == ins + len(told)


def test_a_branch_eni_is_a_link_of_its_own() -> None:
    site = Site()
    node = site.machine("node")
    branch = site.ec2.create_network_interface(site.vpc.subnets["b"])
    branch.interface_type, branch.vlan_id, branch.trunk = "branch", 7, node
    NetworkNamespace(site.world, "pod")
    link = site.namespace("pod").add_link("eth0", "ethernet", branch.mac)
    site.fabric.plug(link, branch)
    site.up("pod", f"{branch.primary}/24", "10.0.2.1", 9001)
    assert site.verdict("node", str(branch.primary)) == "answered"


def test_the_vpcs_cidrs_are_the_longest_way() -> None:
    """A route to all of 10/8 takes nothing away from the VPC itself."""
    site = Site(routes=[("10.0.0.0/8", "tgw")])
    site.machine("a1")
    b1 = site.machine("b1", "b")
    site.host("dc", "10.200.0.9")
    assert site.verdict("a1", str(b1.primary)) == site.verdict("a1", "10.200.0.9") == "answered"
    assert isinstance(site.vpc.subnets["a"], Subnet)
    assert site.vpc.cidrs == [IPv4Network("10.0.0.0/16")]
