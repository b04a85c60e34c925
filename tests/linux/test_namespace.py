"""Links, addresses and the routes the kernel keeps by itself."""

from __future__ import annotations

from .labs import pair, wired


def rows(lab, place: str, command: str = "ip route show table all") -> list[str]:
    return [row.rstrip() for row in lab.run(place, command).stdout.splitlines()]


def test_an_address_brings_its_routes_and_takes_them_away() -> None:
    lab = pair()
    own = [row for row in rows(lab, "red") if "veth0" in row]
    assert own == [
        "10.1.1.0/24 dev veth0 proto kernel scope link src 10.1.1.1",
        "local 10.1.1.1 dev veth0 table local proto kernel scope host src 10.1.1.1",
        "broadcast 10.1.1.255 dev veth0 table local proto kernel scope link src 10.1.1.1",
    ]
    lab.line("red$ ip addr del 10.1.1.1/24 dev veth0")
    assert not [row for row in rows(lab, "red") if "veth0" in row]


def test_a_link_that_goes_down_keeps_only_local_routes() -> None:
    lab = pair("red$ ip route add 10.9.0.0/16 via 10.1.1.2")
    lab.line("red$ ip link set veth0 down")
    assert [row for row in rows(lab, "red") if "veth0" in row] == [
        "local 10.1.1.1 dev veth0 table local proto kernel scope host src 10.1.1.1"
    ]
    lab.line("red$ ip link set veth0 up")
    kept = [row for row in rows(lab, "red") if "veth0" in row]
    assert len(kept) == 3  # the kernel's own come back, the user's is gone for good
    assert not [row for row in kept if "10.9" in row]


def test_no_carrier_while_the_other_end_is_down() -> None:
    lab = pair("blue$ ip link set veth1 down")
    link = lab.namespace("red").links["veth0"]
    assert link.up
    assert not link.carrier
    assert "linkdown" in " ".join(rows(lab, "red", "ip route"))
    assert lab.trace("red", "10.1.1.2").verdict == "unreachable"
    lab.line("blue$ ip link set veth1 up")
    assert lab.trace("red", "10.1.1.2").verdict == "delivered"


def test_slash_32_31_and_0_0_0_0() -> None:
    lab = pair("red$ ip addr flush dev veth0")
    for address, expected in (
        ("10.5.0.1/32", ["local"]),
        ("10.6.0.0/31", ["", "local"]),
        ("10.7.0.1/30", ["", "local", "broadcast"]),
    ):
        lab.line(f"red$ ip addr add {address} dev veth0")
        beginnings = [row.split()[0] if not row[0].isdigit() else "" for row in rows(lab, "red")
                      if "veth0" in row]  # fmt: skip
        assert beginnings == expected
        lab.line(f"red$ ip addr del {address} dev veth0")


def test_a_second_address_of_a_subnet_is_secondary_and_goes_with_the_first() -> None:
    lab = pair("red$ ip addr add 10.1.1.5/24 dev veth0")
    assert " secondary veth0" in lab.run("red", "ip addr show dev veth0").stdout
    assert sum("10.1.1.0/24" in row for row in rows(lab, "red")) == 1
    lab.line("red$ ip addr del 10.1.1.1/24 dev veth0")
    assert not lab.namespace("red").links["veth0"].addresses
    assert not [row for row in rows(lab, "red") if "veth0" in row]


def test_a_route_goes_with_the_source_address_it_names() -> None:
    lab = pair("""
        red$ ip addr add 10.8.0.1/32 dev lo
        red$ ip route add 10.9.0.0/16 dev veth0 src 10.8.0.1
    """)
    lab.line("red$ ip addr del 10.8.0.1/32 dev lo")
    assert not [row for row in rows(lab, "red") if "10.9" in row]


def test_loopback_gets_its_address_when_it_comes_up() -> None:
    lab = wired("red$ ip link set lo up")
    assert "inet 127.0.0.1/8 scope host lo" in lab.run("red", "ip addr").stdout
    lab.line("red$ ip link set lo down")
    lab.line("red$ ip link set lo up")
    assert lab.run("red", "ip addr").stdout.count("127.0.0.1") == 1


def test_a_renamed_link_keeps_routes_addresses_and_switches() -> None:
    lab = pair("""
        red$ sysctl -w net.ipv4.conf.veth0.rp_filter=2
        red$ ip link set veth0 name out
    """)
    assert rows(lab, "red", "ip route") == [
        "10.1.1.0/24 dev out proto kernel scope link src 10.1.1.1"
    ]
    assert lab.namespace("red").sysctls.own("out", "rp_filter") == 2
    assert "net.ipv4.conf.veth0.rp_filter" not in lab.namespace("red").sysctls
    assert lab.trace("red", "10.1.1.2").verdict == "delivered"


def test_a_moved_link_arrives_down_and_bare() -> None:
    lab = wired("""
        red$ ip link add veth0 type veth peer name veth1
        red$ ip addr add 10.1.1.2/24 dev veth1
        red$ ip link set veth1 up
        red$ ip link set veth1 netns blue
        blue$ ip link set lo up
    """)
    link = lab.namespace("blue").links["veth1"]
    assert (link.up, link.addresses) == (False, [])
    assert link.peer is lab.namespace("red").links["veth0"]
    assert not [row for row in rows(lab, "red") if "10.1.1" in row]


def test_deleting_one_end_of_a_veth_deletes_the_other() -> None:
    lab = pair("red$ ip link del veth0")
    assert list(lab.namespace("blue").links) == ["lo"]
    assert not [row for row in rows(lab, "blue") if "veth1" in row]
    assert "net.ipv4.conf.veth1.rp_filter" not in lab.namespace("blue").sysctls


def test_the_peer_has_the_lower_index_and_an_index_is_kept_on_a_move() -> None:
    lab = wired("red$ ip link add va type veth peer name vb\nblue$ ip link set lo up")
    links = lab.namespace("red").links
    assert (links["vb"].index, links["va"].index) == (2, 3)
    lab.line("red$ ip link set va netns blue")
    assert lab.namespace("blue").links["va"].index == 3
    lab.line("blue$ ip link add vc type veth peer name vd")
    assert [link.index for link in lab.namespace("blue").links.values()] == [1, 2, 3, 4]


def test_which_source_address_is_chosen() -> None:
    lab = pair("""
        red$ ip addr add 10.2.0.1/24 dev veth0
        red$ ip route add 10.3.0.0/16 via 10.2.0.9
        red$ ip route add 10.4.0.0/16 dev veth0
        red$ ip route add 10.5.0.0/16 dev veth0 src 10.2.0.1
        red$ ip link add bare type veth peer name other
        red$ ip link set bare up
        red$ ip link set other up
        red$ ip route add 10.6.0.0/16 dev bare
    """)
    chosen = {
        goal: lab.run("red", f"ip route get {goal}").stdout.partition("src ")[2].split()[0]
        for goal in ("10.3.0.1", "10.4.0.1", "10.5.0.1", "10.6.0.1", "10.1.1.2")
    }
    assert chosen == {
        "10.3.0.1": "10.2.0.1",  # the address in the gateway's subnet
        "10.4.0.1": "10.1.1.1",  # the link's first
        "10.5.0.1": "10.2.0.1",  # what the route says
        "10.6.0.1": "10.1.1.1",  # a bare link borrows the namespace's first
        "10.1.1.2": "10.1.1.1",
    }


def test_invented_macs_are_local_unicast_and_repeatable() -> None:
    macs = {link.mac for lab in (pair(), pair()) for place in lab.places
            for link in lab.namespace(place).links.values() if link.kind == "veth"}  # fmt: skip
    assert len(macs) == 2
    assert all(mac.startswith("02:") for mac in macs)


def test_a_segment_carries_a_frame_to_every_link_plugged_in() -> None:
    from ipaddress import IPv4Interface

    from ekslearn.linux import Address, NetworkNamespace, World
    from tests.linux.segment import Segment

    world = World()
    spaces = [NetworkNamespace(world, name) for name in "abc"]
    links = [space.add_link("eth0", "ethernet") for space in spaces]
    Segment(*links)
    for number, (space, link) in enumerate(zip(spaces, links, strict=True), 1):
        space.set_up(link, True)
        space.add_address(link, Address(interface=IPv4Interface(f"10.0.0.{number}/24")))
    client = spaces[0].sockets.ask("icmp", links[2].addresses[0].ip)
    assert [answer.src for answer in client.answers] == [links[2].addresses[0].ip]
    heard = spaces[1].neighbors.entries
    assert not heard  # b heard the request, but nobody asked for its own address


def test_the_last_address_takes_all_routes_of_its_link_along() -> None:
    lab = pair("red$ ip route add 10.9.0.0/16 dev veth0 scope link\n"
               "red$ ip addr add 10.1.2.1/24 dev veth0")  # fmt: skip
    lab.line("red$ ip addr del 10.1.2.1/24 dev veth0")
    assert "10.9.0.0/16 dev veth0 scope link" in rows(lab, "red")
    lab.line("red$ ip addr del 10.1.1.1/24 dev veth0")
    assert not [row for row in rows(lab, "red") if "veth0" in row]
