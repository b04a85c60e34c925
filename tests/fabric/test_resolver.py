"""The VPC's resolver: an address that answers without being anybody's."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from ekslearn.vpc.resolver import LIMIT
from ekslearn.vpc.security import NetworkAcl, SecurityGroup
from tests.vpc.labs import Site

IP = IPv4Address
SHUT = SecurityGroup("shut", egress=())


@pytest.mark.parametrize("subnet", ["a", "b"])
@pytest.mark.parametrize("address", ["10.0.0.2", "169.254.169.253"])
def test_it_answers_from_every_subnet_whatever_the_filters_say(subnet: str, address: str) -> None:
    site = Site()
    site.vpc.subnets[subnet].nacl = NetworkAcl("shut")
    eni = site.machine("m", subnet, groups=[SHUT])
    for protocol in ("udp", "tcp"):
        client, notes = site.ask("m", f"{address}:53/{protocol}")
        assert [str(each.src) for each in client.answers] == [address], notes.lost
        assert client.answers[0].data.split()[:2] == ["resolver", str(eni.primary)]
        assert notes.vpc()[0].startswith("vpc resolver: it answers")
    assert site.ask("m", f"{address}:80/tcp")[1].lost == (
        "vpc resolver: it answers on port 53 alone"
    )


def test_it_answers_a_neighbor_request_of_its_own_subnet() -> None:
    site = Site()
    site.vpc.add_subnet(type(site.vpc.subnets["a"])("first", "10.0.0.0/24", "us-east-1a"))
    site.machine("m", "first")
    assert site.ask("m", "10.0.0.2:53/udp")[0].answers
    assert "10.0.0.2 dev eth0 lladdr" in site.must("m", "ip neigh show")


def test_no_other_link_local_address_is_there() -> None:
    site = Site()
    site.machine("m")
    assert site.ask("m", "169.254.169.254:80/tcp")[1].lost == (
        "vpc: a VPC doesn't carry packets for 169.254.169.254"
    )
    site.must("m", "ip addr add 10.0.1.99/32 dev lo")
    site.must("m", "ip route add 10.0.0.2 via 10.0.1.1 dev eth0 src 10.0.1.99")
    assert "no address of the ENI" in site.ask("m", "10.0.0.2:53/udp")[1].lost


def test_one_eni_asks_so_often_in_a_second_and_no_more() -> None:
    site = Site()
    first, second = site.machine("m"), site.machine("n")
    for _ in range(LIMIT):
        assert site.fabric.resolver.admits(first.eni_id, 0.4)
    _, notes = site.ask("m", "10.0.0.2:53/udp")
    assert notes.lost == "vpc resolver: linklocal_allowance_exceeded"
    assert notes.vpc()[-1].endswith(f"in this second sent by {first.eni_id}")
    assert site.ask("n", "10.0.0.2:53/udp")[0].answers, "the other ENI isn't the one that asked"
    site.sleep(1)
    assert site.ask("m", "10.0.0.2:53/udp")[0].answers
    resolver = site.fabric.resolver
    assert resolver.exceeded == {first.eni_id: 1, second.eni_id: 0}
    assert resolver.sent[first.eni_id, 1] == 1
