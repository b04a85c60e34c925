"""The way of a packet: received, delivered, forwarded, sent, and what the kernel says of it."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from .labs import chain, pair, seen


def test_there_and_back_across_a_veth() -> None:
    assert seen(pair(), "red", "10.1.1.2") == [
        "red veth0 out 10.1.1.1>10.1.1.2 64",
        "blue veth1 in 10.1.1.1>10.1.1.2 64",
        "blue veth1 out 10.1.1.2>10.1.1.1 64",
        "red veth0 in 10.1.1.2>10.1.1.1 64",
    ]


def test_an_own_address_never_leaves_lo() -> None:
    for goal in ("10.1.1.1", "127.0.0.1", "127.9.9.9"):
        assert {row.split()[1] for row in seen(pair(), "red", goal)} == {"lo"}


def test_a_router_takes_one_from_the_ttl() -> None:
    ttls = [row.split()[-1] for row in seen(chain(), "left", "10.0.2.2:80")]
    assert ttls == ["64", "64", "63", "63", "64", "64", "63", "63"]


@pytest.mark.parametrize(
    ("goal", "verdict"),
    [
        ("10.0.2.2", "delivered"),
        ("10.0.2.2:80", "delivered"),
        ("10.0.2.2:81", "refused"),
        ("10.0.2.2:53/udp", "delivered"),
        ("10.0.2.2:54/udp", "refused"),
        ("10.0.2.9", "unreachable"),  # nobody answers ARP
        ("10.9.9.9", "unreachable"),  # the router has no route
        ("10.0.1.1:7", "refused"),
    ],
)
def test_what_the_asker_sees(goal: str, verdict: str) -> None:
    assert chain().trace("left", goal).verdict == verdict


def icmp(lab, source: str, goal: str) -> list[tuple[tuple[int, int] | None, str]]:
    """ICMP messages that reach the asker: (type, code) and who sent them."""
    return [(s.icmp, s.src) for s in lab.trace(source, goal).reply
            if s.place == source and s.direction == "in" and s.icmp]  # fmt: skip


def test_icmp_errors_come_from_who_noticed() -> None:
    assert icmp(chain(), "left", "10.0.2.9") == [((3, 1), "10.0.1.1")]
    assert icmp(chain(), "left", "10.9.9.9") == [((3, 0), "10.0.1.1")]
    assert icmp(chain(), "left", "10.0.2.2:54/udp") == [((3, 3), "10.0.2.2")]
    for kind, code in (("unreachable", 1), ("prohibit", 13)):
        lab = chain(f"router$ ip route add {kind} 10.7.0.0/16")
        assert icmp(lab, "left", "10.7.0.1") == [((3, code), "10.0.1.1")]
    silent = chain("router$ ip route add blackhole 10.7.0.0/16").trace("left", "10.7.0.1")
    assert (silent.verdict, silent.reply) == ("dropped", ())


def test_a_lonely_sender_tells_itself_over_lo() -> None:
    lab = pair()
    assert seen(lab, "red", "10.1.1.9") == [
        "red lo out 10.1.1.1>10.1.1.1 64", "red lo in 10.1.1.1>10.1.1.1 64",
    ]  # fmt: skip
    assert lab.trace("red", "10.9.9.9").reason == "red: Network is unreachable"


def test_without_forwarding_a_host_is_silent() -> None:
    trace = chain("router$ sysctl -w net.ipv4.ip_forward=0").trace("left", "10.0.2.2")
    assert trace.verdict == "dropped"
    assert trace.reason == "router: it is for another host and forwarding is off on vl"


def test_ttl_runs_out() -> None:
    lab = chain()
    done = lab.run("left", "ping -c1 -t1 10.0.2.2")
    assert "From 10.0.1.1 icmp_seq=1 Time to live exceeded" in done.stdout
    assert "10.0.2.2" in lab.run("left", "ping -c1 -t2 10.0.2.2").stdout
    assert lab.run("left", "traceroute -n -q 1 10.0.2.2").stdout.splitlines()[1:] == [
        " 1  10.0.1.1  0.000 ms", " 2  10.0.2.2  0.000 ms",
    ]  # fmt: skip


def test_a_packet_larger_than_the_next_link_is_sent_back_and_the_size_remembered() -> None:
    lab = chain("router$ ip link set vr mtu 1400\nright$ ip link set eth0 mtu 1400")
    first = lab.run("left", "ping -c1 -M do -s 1372 10.0.2.2")
    assert first.status == 0
    large = lab.run("left", "ping -c1 -M do -s 1373 10.0.2.2").stdout
    assert "From 10.0.1.1 icmp_seq=1 Frag needed and DF set (mtu = 1400)" in large
    goal = IPv4Address(lab.address("right"))
    again = lab.namespace("left").sockets.ask("icmp", goal, size=1401)
    assert again.errno == 90  # EMSGSIZE: the sender remembers


def test_rp_filter_strict_loose_and_off() -> None:
    """right answers through a second way, which router's strict filter refuses."""
    lines = """
        router$ ip route add 10.7.0.0/24 via 10.0.2.2
        left$ ip addr add 10.7.0.1/32 dev lo
        left$ ip route add 10.0.2.0/24 via 10.0.1.1 src 10.7.0.1
        right$ ip route add 10.7.0.0/24 via 10.0.2.1
    """
    for value, all_value, way in ((0, 0, True), (2, 0, True), (1, 0, False), (0, 1, False),
                                  (2, 1, True)):  # fmt: skip
        lab = chain(lines)
        lab.line(f"router$ sysctl -w net.ipv4.conf.vl.rp_filter={value}")
        lab.line(f"router$ sysctl -w net.ipv4.conf.all.rp_filter={all_value}")
        arrived = any(row.startswith("right eth0 in") for row in seen(lab, "left", "10.0.2.2"))
        assert arrived is way, (value, all_value)


def test_an_own_source_from_outside_is_a_martian_even_without_rp_filter() -> None:
    lab = pair("red$ ip addr add 10.5.0.5/32 dev lo\nblue$ ip addr add 10.5.0.5/32 dev lo")
    lab.line("red$ ip route replace 10.1.1.0/24 dev veth0 src 10.5.0.5")
    mac = lab.namespace("blue").links["veth1"].mac  # an ARP request would be refused as well
    lab.line(f"red$ ip neigh add 10.1.1.2 lladdr {mac} dev veth0")
    trace = lab.trace("red", "10.1.1.2")
    assert trace.verdict == "dropped"
    assert trace.reason == "blue: martian source 10.5.0.5: it is an own address"
    lab.line("blue$ sysctl -w net.ipv4.conf.veth1.accept_local=1")
    assert [row for row in seen(lab, "red", "10.1.1.2") if row.startswith("blue veth1 in")]


def test_loopback_addresses_never_come_in_from_a_wire() -> None:
    lab = pair("red$ ip route add 127.5.0.0/16 via 10.1.1.2 table 9\nred$ ip rule add prio 0 "
               "to 127.5.0.0/16 table 9\nred$ ip rule del prio 0 table local\n"
               "red$ ip rule add prio 5 table local")  # fmt: skip
    trace = lab.trace("red", "127.5.0.1")
    assert trace.reason == "blue: martian destination 127.5.0.1"


def test_a_frame_for_another_mac_is_heard_and_dropped() -> None:
    lab = pair("red$ ip neigh add 10.1.1.2 lladdr 02:00:00:00:00:99 dev veth0")
    trace = lab.trace("red", "10.1.1.2")
    assert trace.verdict == "dropped"
    assert "the frame is for 02:00:00:00:00:99" in trace.reason
    assert trace.request[-1].place == "blue"


def test_arp_is_answered_for_an_address_on_any_link_and_learned_from() -> None:
    lab = pair("blue$ ip addr add 10.1.1.77/32 dev lo")
    assert lab.trace("red", "10.1.1.77").verdict == "delivered"
    red = {str(ip): entry.state for (_, ip), entry in
           lab.namespace("red").neighbors.entries.items()}  # fmt: skip
    blue = {str(ip): entry.state for (_, ip), entry in
            lab.namespace("blue").neighbors.entries.items()}  # fmt: skip
    assert (red, blue) == ({"10.1.1.77": "REACHABLE"}, {"10.1.1.1": "STALE"})


def test_proxy_arp_answers_for_what_the_router_can_reach() -> None:
    lines = "left$ ip route del default\nleft$ ip route add 10.0.2.0/24 dev eth0"
    assert chain(lines).trace("left", "10.0.2.2").verdict == "unreachable"
    lab = chain(lines + "\nrouter$ sysctl -w net.ipv4.conf.vl.proxy_arp=1")
    assert lab.trace("left", "10.0.2.2").verdict == "delivered"


def test_rp_filter_stops_an_arp_request_too() -> None:
    lab = pair("""
        blue$ sysctl -w net.ipv4.conf.veth1.rp_filter=1
        red$ ip addr add 10.44.0.1/32 dev lo
        red$ ip route replace 10.1.1.0/24 dev veth0 src 10.44.0.1
    """)
    trace = lab.trace("red", "10.1.1.2")
    assert trace.verdict == "unreachable"
    assert any("rp_filter 1" in step.decision for step in trace.steps if step.stage == "arp")


TURN = """
    left$ ip addr add 10.0.1.3/24 dev eth0
    left$ ip route add 10.8.0.0/16 via 10.0.1.1
    router$ ip route add 10.8.0.0/16 via 10.0.1.77
    router$ ip neigh add 10.0.1.77 lladdr 02:00:00:00:00:77 dev vl
"""


def test_a_packet_turned_back_brings_a_redirect_unless_switched_off() -> None:
    assert icmp(chain(TURN), "left", "10.8.0.1") == [((5, 1), "10.0.1.1")]
    lab = chain(TURN + "router$ sysctl -w net.ipv4.conf.vl.send_redirects=0\n"
                       "router$ sysctl -w net.ipv4.conf.all.send_redirects=0")  # fmt: skip
    assert icmp(lab, "left", "10.8.0.1") == []


def test_a_redirect_is_believed_once_the_new_gateway_is_known() -> None:
    lab = chain(TURN + "left$ ip neigh add 10.0.1.77 lladdr 02:00:00:00:00:77 dev eth0")
    get = "ip route get 10.8.0.1"
    assert "via 10.0.1.1 " in lab.run("left", get).stdout
    lab.trace("left", "10.8.0.1")
    assert "via 10.0.1.77 " in lab.run("left", get).stdout
    deaf = chain(TURN + "left$ ip neigh add 10.0.1.77 lladdr 02:00:00:00:00:77 dev eth0\n"
                 "left$ sysctl -w net.ipv4.conf.all.accept_redirects=0\n"
                 "left$ sysctl -w net.ipv4.conf.eth0.accept_redirects=0")  # fmt: skip
    deaf.trace("left", "10.8.0.1")
    assert "via 10.0.1.1 " in deaf.run("left", get).stdout


def test_forwarding_turns_accept_redirects_over() -> None:
    lab = pair("red$ sysctl -w net.ipv4.ip_forward=1")
    switches = lab.namespace("red").sysctls
    assert switches["net.ipv4.conf.all.accept_redirects"] == 0
    assert switches["net.ipv4.conf.default.forwarding"] == 1
    assert switches.own("veth0", "forwarding") == 1
    lab.line("red$ sysctl -w net.ipv4.ip_forward=0")
    assert switches["net.ipv4.conf.all.accept_redirects"] == 1
    assert switches.own("veth0", "forwarding") == 0


def test_fwmark_is_left_out_of_the_reverse_path_unless_src_valid_mark() -> None:
    lines = """
        router$ iptables -t mangle -A PREROUTING -i vl -j MARK --set-mark 1
        router$ ip rule add fwmark 1 table 7 prio 10
        router$ ip route add default via 10.0.2.2 table 7
        router$ ip route add 10.0.1.0/24 dev vl table 7
        router$ ip route del 10.0.1.0/24
        router$ sysctl -w net.ipv4.conf.vl.rp_filter=1
        router$ ip link set vl address 02:00:00:00:00:01
        left$ ip neigh add 10.0.1.1 lladdr 02:00:00:00:00:01 dev eth0
    """
    assert "rp_filter 1 on vl" in chain(lines).trace("left", "10.0.2.2").reason
    lab = chain(lines + "router$ sysctl -w net.ipv4.conf.vl.src_valid_mark=1")
    assert any(row.startswith("right eth0 in") for row in seen(lab, "left", "10.0.2.2"))


def test_a_broadcast_is_for_everybody_and_an_echo_request_to_it_unanswered() -> None:
    lab = pair("red$ ip route del broadcast 10.1.1.255 dev veth0 table local")
    lab.line("red$ ip neigh add 10.1.1.255 lladdr ff:ff:ff:ff:ff:ff dev veth0")
    trace = lab.trace("red", "10.1.1.255")
    assert trace.reason == "blue: an echo request to a broadcast isn't answered"
    assert lab.trace("red", "10.1.1.255:99").reply == ()
    refused = pair().run("red", "ping -c1 10.1.1.255")
    assert refused.status == 2
    assert "Do you want to ping broadcast?" in refused.stderr


def test_listeners_share_the_ports_of_their_namespace() -> None:
    from ekslearn.errors import EkslearnError

    lab = pair()
    lab.listen("blue", "0.0.0.0:80/tcp")
    lab.listen("blue", "0.0.0.0:80/udp")
    lab.listen("blue", "10.1.1.2:81/tcp")
    for socket in ("0.0.0.0:80/tcp", "127.0.0.1:80/tcp", "0.0.0.0:81", "10.1.1.2:81/tcp"):
        with pytest.raises(EkslearnError, match="Address already in use"):
            lab.listen("blue", socket)
    lab.listen("blue", "127.0.0.1:81/tcp")
    with pytest.raises(EkslearnError, match="Cannot assign requested address"):
        lab.listen("blue", "10.7.7.7:82/tcp")
    assert lab.run("red", "curl 10.1.1.2:81").stdout == "blue 10.1.1.1 40000\n"


def test_a_listener_on_one_address_is_deaf_on_others() -> None:
    lab = pair("blue$ ip addr add 10.1.1.3/24 dev veth1")
    lab.listen("blue", "10.1.1.3:80/tcp")
    assert lab.trace("red", "10.1.1.3:80").verdict == "delivered"
    assert lab.trace("red", "10.1.1.2:80").verdict == "refused"


def test_a_udp_server_on_all_addresses_answers_from_the_one_routing_chooses() -> None:
    lab = pair("blue$ ip addr add 10.1.1.77/32 dev lo")
    lab.listen("blue", "0.0.0.0:53/udp")
    trace = lab.trace("red", "10.1.1.77:53/udp")
    assert trace.verdict == "dropped"  # the answer comes from 10.1.1.2, which red didn't ask
    assert {s.src for s in trace.reply if s.protocol == "udp"} == {"10.1.1.2"}
    assert [s.icmp for s in trace.reply if s.icmp][:1] == [(3, 3)]


def test_a_tcp_answer_nobody_asked_for_is_reset() -> None:
    """blue answers through a NAT that red doesn't know: red resets what it can't place."""
    lab = pair("blue$ ip addr add 10.1.1.3/24 dev veth1")
    lab.listen("blue", "0.0.0.0:80/tcp")
    red = lab.namespace("red")
    from ekslearn.linux import Packet

    ours, theirs = (IPv4Address(lab.address(place)) for place in ("red", "blue"))
    stray = Packet(src=ours, dst=theirs, protocol="tcp", sport=1, dport=80, flags="SYN")
    resets: list[str] = []

    class Watch:
        def sighting(self, namespace, link, way, packet):
            if packet.flags == "RST" and way == "out":
                resets.append(namespace.name)

        def decision(self, decision):
            pass

    lab.world.recorder = Watch()
    red.ip.send(stray)
    lab.world.settle()
    lab.world.recorder = None
    assert resets == ["red"]


def test_a_trace_moves_on_ports_and_leaves_neighbors_and_a_copy_doesnt() -> None:
    lab = pair()
    twin = lab.copy()
    assert twin.trace("red", "10.1.1.2:80").request[0].sport == 40000
    assert not lab.namespace("red").neighbors.entries
    assert [lab.trace("red", "10.1.1.2:80").request[0].sport for _ in range(3)] == [
        40000, 40001, 40002,
    ]  # fmt: skip
    assert lab.namespace("red").neighbors.entries


def test_the_same_lab_gives_the_same_trace() -> None:
    assert (
        chain().trace("left", "right:80").to_dict() == chain().trace("left", "right:80").to_dict()
    )


def test_a_loopback_source_never_leaves_by_another_link() -> None:
    """As the real kernel showed of random labs 807 and 986: no DNAT in OUTPUT takes it out."""
    lab = pair("red$ iptables -t nat -A OUTPUT -p udp --dport 30080 -j DNAT "
               "--to-destination 10.1.1.2:9")  # fmt: skip
    assert seen(lab, "red", "127.0.0.1:30080/udp") == []
    done = lab.run("red", "ip route get 10.1.1.2 from 127.0.0.1")
    assert (done.status, done.stderr) == (2, "RTNETLINK answers: Invalid argument\n")


def test_rp_filter_says_which_way_back_it_found() -> None:
    lab = chain("router$ sysctl -w net.ipv4.conf.vl.rp_filter=1\n"
                "router$ ip route add 10.0.1.2 via 10.0.2.2")  # fmt: skip
    told = [step.decision for step in lab.trace("left", "10.0.2.2").steps]
    said = "rp_filter 1 on vl: the way back to 10.0.1.2 is vr, not vl"
    assert any(said in each for each in told)


def test_what_leaves_by_lo_may_be_from_127() -> None:
    lab = pair("red$ ip route add 10.9.0.0/24 dev lo scope host")
    leaving = lab.namespace("red").ip.departure(IPv4Address("10.9.0.1"))
    assert (leaving.errno, str(leaving.src)) == (0, "127.0.0.1")


def test_a_reset_in_anothers_name_is_routed_again_where_output_marks_it() -> None:
    lab = chain("router$ iptables -A FORWARD -p tcp -j REJECT --reject-with tcp-reset\n"
                "router$ iptables -t mangle -A OUTPUT -j MARK --set-mark 1")  # fmt: skip
    assert lab.trace("left", "10.0.2.2:80").verdict == "rejected"


def test_a_size_is_learned_for_the_route_that_the_source_took() -> None:
    lab = chain("left$ ip addr add 10.0.1.3/24 dev eth0\n"
                "left$ ip route replace default via 10.0.1.1 src 10.0.1.3\n"
                "left$ ip route add default via 10.0.1.1 table 7\n"
                "left$ ip rule add from 10.0.1.3 lookup 7\n"
                "router$ ip link set vr mtu 1400\nright$ ip link set eth0 mtu 1400")  # fmt: skip
    sockets = lab.namespace("left").sockets
    sizes = [sockets.ask("icmp", IPv4Address("10.0.2.2"), size=1450).errno for _ in range(2)]
    assert sizes == [0, 90]  # EMSGSIZE
