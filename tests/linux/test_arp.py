"""ARP: who answers, what is said of it, and how a redirect's new gateway becomes known."""

from __future__ import annotations

from ipaddress import IPv4Address

from ekslearn.cluster import Lab
from ekslearn.linux import NetworkNamespace, Packet
from ekslearn.linux.route import MAIN, Learned

from .labs import chain, pair
from .segment import Segment

ONE_NET = "left$ ip route del default\nleft$ ip route add 10.0.2.0/24 dev eth0"


def arp_words(lab: Lab, source: str, goal: str) -> list[str]:
    """What each namespace made of the ARP requests it got."""
    return [step.decision for step in lab.trace(source, goal).steps if step.stage == "arp"]


def test_proxy_arp_says_whether_it_is_on() -> None:
    words = "{} the ARP request for 10.0.2.2 on vl: proxy ARP is {} and the address isn't its own"
    assert words.format("ignores", "off") in arp_words(chain(ONE_NET), "left", "10.0.2.2")
    lab = chain(ONE_NET + "\nrouter$ sysctl -w net.ipv4.conf.vl.proxy_arp=1")
    assert words.format("answers", "on") in arp_words(lab, "left", "10.0.2.2")


def test_an_answer_says_that_the_address_is_its_own() -> None:
    assert arp_words(pair(), "red", "10.1.1.2") == [
        "answers the ARP request for 10.1.1.2 on veth1: 10.1.1.2 is one of its addresses"
    ]


def test_proxy_arp_never_answers_for_the_link_that_asked() -> None:
    """Whoever is reached by the same link can answer for himself."""
    lab = pair("blue$ sysctl -w net.ipv4.ip_forward=1\nblue$ sysctl -w "
               "net.ipv4.conf.veth1.proxy_arp=1")  # fmt: skip
    assert arp_words(lab, "red", "10.1.1.9") == [
        "ignores the ARP request for 10.1.1.9 on veth1: the address isn't its own"
    ]


def test_what_cannot_be_forwarded_is_not_answered_for_either() -> None:
    lab = chain(ONE_NET + "\nrouter$ sysctl -w net.ipv4.conf.vl.proxy_arp=1\n"
                "router$ ip route add unreachable 10.0.2.2/32")  # fmt: skip
    assert all(word.startswith("ignores") for word in arp_words(lab, "left", "10.0.2.2"))
    lab = chain(ONE_NET + "\nrouter$ sysctl -w net.ipv4.conf.vl.proxy_arp=1\n"
                "router$ sysctl -w net.ipv4.conf.vl.forwarding=0")  # fmt: skip
    assert all(word.startswith("ignores") for word in arp_words(lab, "left", "10.0.2.2"))


def on_one_wire() -> Lab:
    """host, first and second on one Ethernet; second alone leads to 10.8.0.1 (on its own lo)."""
    lab = Lab("wire", ["host", "first", "second"])
    links = []
    for at, place in enumerate(lab.places, 1):
        namespace: NetworkNamespace = lab.namespace(place)
        links.append(namespace.add_link("eth0", "ethernet", f"02:00:00:00:00:0{at}"))
    Segment(*links)
    for at, place in enumerate(lab.places, 1):
        for command in ("ip link set lo up", "ip link set eth0 up",
                        f"ip addr add 10.0.0.{at}/24 dev eth0"):  # fmt: skip
            assert lab.run(place, command).status == 0
    for place, command in (
        ("first", "sysctl -w net.ipv4.ip_forward=1"),
        ("first", "ip route add 10.8.0.0/16 via 10.0.0.3"),
        ("second", "ip addr add 10.8.0.1/32 dev lo"),
        ("host", "ip route add 10.8.0.0/16 via 10.0.0.2"),
    ):
        assert lab.run(place, command).status == 0
    return lab


def test_a_redirect_is_believed_from_the_second_on_when_its_gateway_had_to_be_asked_for() -> None:
    lab = on_one_wire()
    lab.run("second", "ip route add 10.0.0.1/32 via 10.0.0.2")  # so that host isn't asked for
    get = "ip route get 10.8.0.1"
    assert lab.trace("host", "10.8.0.1").verdict == "delivered"
    assert "via 10.0.0.2 " in lab.run("host", get).stdout
    assert "10.0.0.3 dev eth0 lladdr 02:00:00:00:00:03" in lab.run("host", "ip neigh show").stdout
    assert lab.trace("host", "10.8.0.1").verdict == "delivered"
    assert "via 10.0.0.3 " in lab.run("host", get).stdout
    direct = lab.trace("host", "10.8.0.1")
    assert [s.place for s in direct.request if s.direction == "out"] == ["host"]


def test_everybody_on_a_wire_hears_a_frame_and_one_takes_it() -> None:
    trace = on_one_wire().trace("host", "10.0.0.2")
    assert trace.verdict == "delivered"
    heard = {s.place for s in trace.request if s.direction == "in"}
    assert heard == {"first", "second"}
    words = [s.decision for s in trace.steps if s.stage == "link"]
    assert "the frame is for 02:00:00:00:00:02 and eth0 is 02:00:00:00:00:03" in words


def test_a_learned_gateway_is_used_for_what_is_forwarded_too() -> None:
    """Linux keeps what a redirect taught with the route, whoever sends (__mkroute_input)."""
    lab = on_one_wire()
    first, goal = lab.namespace("first"), IPv4Address("10.8.0.1")
    lab.run("first", "ip route replace 10.8.0.0/16 via 10.0.0.99")
    route = next(row for row in first.routing.tables[MAIN] if goal in row.dst)
    assert lab.trace("host", str(goal)).verdict == "unreachable"
    first.routing.learned[route, goal] = Learned(gateway=IPv4Address("10.0.0.3"))
    assert lab.trace("host", str(goal)).verdict == "delivered"


def test_an_error_about_somebody_elses_packet_teaches_nothing() -> None:
    lab = pair()
    red, blue = lab.namespace("red"), lab.namespace("blue")
    ours, theirs = red.links["veth0"].addresses[0].ip, blue.links["veth1"].addresses[0].ip
    for source, learned in ((IPv4Address("10.9.9.9"), 0), (ours, 1)):
        about = Packet(src=source, dst=theirs, protocol="udp", sport=1, dport=2)
        error = Packet(src=theirs, dst=ours, protocol="icmp", icmp=(3, 4), mtu=600, quoted=about)
        assert blue.ip.send(error) == 0
        lab.world.settle()
        assert len(red.routing.learned) == learned


def test_a_broadcast_address_is_one_on_every_link() -> None:
    """arp_constructor asks the local table, whatever the link (inet_addr_type_dev_table)."""
    lab = chain("router$ ip addr add 10.0.3.1/24 brd + dev vr\n"
                "router$ ip neigh add 10.0.3.255 dev vl nud stale")  # fmt: skip
    shown = lab.run("router", "ip neigh show").stdout
    assert "10.0.3.255 dev vl lladdr ff:ff:ff:ff:ff:ff STALE" in shown
