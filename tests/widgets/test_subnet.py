"""SubnetView without a browser: every address against EC2's own records."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Address, IPv4Network

import pytest

from ekslearn.errors import EkslearnError
from ekslearn.vpc.error import Ec2Error
from ekslearn.vpc.model import Vpc
from ekslearn.vpc.subnet import Subnet
from ekslearn.widgets import subnet_view
from ekslearn.widgets.subnet_map import KINDS, subnet_map
from tests.draw.clusters import office, two_nodes
from tests.draw.labs import two_rooms
from tests.widgets.test_pool import prefixes


def patchy() -> Subnet:
    """A /24 of which every other address is taken, with one free /28 in the middle."""
    subnet = Subnet("patchy", "10.0.0.0/24", "us-east-1a")
    for at in range(4, 254, 2):
        if not 128 <= at < 144:
            subnet.take(subnet.cidr[at])
    return subnet


@pytest.mark.parametrize("make", [two_nodes, office, prefixes], ids=lambda make: make.__name__)
def test_every_address_says_what_ec2_and_the_pods_say(make) -> None:
    lab = make()
    pods = {str(link.addresses[0].ip): place for place in lab.places if place in lab.pods
            for link in lab.namespace(place).links.values() if link.kind == "veth"}  # fmt: skip
    for name, subnet in lab.vpc.subnets.items():
        view = subnet_view(lab, name)
        assert view.map.free == subnet.free
        for offset in range(min(len(view.map.letters), 300)):
            view.at = offset
            address = subnet.cidr[offset]
            eni = lab.vpc.owner(address)
            assert view.now.startswith(f"{address}: ")
            letter = view.map.letters[offset]
            assert (letter in "Psx") == (eni is not None)
            if eni is not None:
                assert eni.eni_id in view.now
                assert (letter == "P") == (address == eni.primary)
                assert (letter == "x") == any(address in prefix for prefix in eni.prefixes)
            if str(address) in pods:
                assert view.now.endswith(f"; {pods[str(address)]} has it")
        view.at = 10**9
        assert view.at == len(view.map.letters) - 1


def test_the_lowest_free_block_is_the_one_that_ec2_gives() -> None:
    for subnet in (
        patchy(),
        Subnet("new", "10.0.0.0/24", "z"),
        Subnet("small", "10.0.0.0/27", "z"),
    ):
        found = subnet_map(subnet)
        for at in found.blocks:
            assert str(subnet.take_prefix()) == f"{found.address(at)}/28"
        with pytest.raises(Ec2Error, match="InsufficientCidrBlocks"):
            subnet.take_prefix()
        assert subnet_map(subnet).blocks == ()


def test_a_fragmented_subnet_says_that_it_is() -> None:
    subnet = patchy()
    view = subnet_view(subnet)
    assert "1 of 16 aligned /28s is wholly free, the lowest is 10.0.0.128/28" in view.words
    subnet.take(IPv4Address("10.0.0.130"))
    assert ("none of 16 aligned /28s is wholly free, although 133 addresses are: EC2 refuses a"
            " prefix with InsufficientCidrBlocks") in subnet_view(subnet).words  # fmt: skip


def test_reservations_are_told_apart_from_free_and_taken() -> None:
    subnet = Subnet("kept", "10.0.0.0/24", "z")
    subnet.reserve("10.0.0.64/26", "prefix")
    subnet.reserve("10.0.0.144/28", "explicit")
    found = subnet_map(subnet)
    assert found.letters[64:128] == "p" * 64
    assert found.letters[144:160] == "e" * 16
    assert 9 * 16 not in found.blocks
    assert "10.0.0.64 to 10.0.0.127 (64): free, kept for prefixes" in "\n".join(found.words)
    subnet.take_prefix(IPv4Network("10.0.0.64/28"))
    assert subnet_map(subnet).letters[64:128] == "x" * 16 + "p" * 48


def test_the_five_reserved_addresses_say_what_for() -> None:
    view = subnet_view(Subnet("s", "10.0.1.0/28", "z"))
    said = [view.map.says(at) for at in (0, 1, 2, 3, 15)]
    assert said == [
        "10.0.1.0: reserved by AWS, the network's own address",
        "10.0.1.1: reserved by AWS, the VPC's router",
        "10.0.1.2: reserved by AWS, for the DNS server",
        "10.0.1.3: reserved by AWS, for future use",
        "10.0.1.15: reserved by AWS, the broadcast address, which a VPC doesn't support",
    ]


def test_words_and_still_hold_every_kind_and_end_somewhere() -> None:
    view = subnet_view(patchy())
    assert len(view.words.splitlines()) == 43
    assert view.words.splitlines()[-1] == "  and 199 more lines"
    large = subnet_view(Subnet("large", "10.0.0.0/16", "z"))
    assert len(large.fallback()) < 2_000
    assert "and 1021 rows more of the same" in large.fallback()
    for letter in set(view.map.letters):
        assert f"{letter} {KINDS[letter]}" in view.fallback()


def test_the_html_holds_all_of_it_and_asks_for_nothing() -> None:
    view = subnet_view(office(), "public-a", address="10.0.64.200")
    assert view.now.startswith("10.0.64.200: primary address, eth0 of bastion (eni-")
    html = view.html()
    data = re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    assert data
    assert json.loads(data[1]) == view.map_data
    assert 'data-step="200"' in html
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert html == subnet_view(office(), "public-a", address="10.0.64.200").html()


def test_what_isnt_there_is_refused_in_a_sentence() -> None:
    for bad in ({"name": "nowhere"}, {"address": "10.9.9.9"}, {"address": "x" * 200}):
        with pytest.raises(EkslearnError) as refusal:
            subnet_view(two_nodes(), **bad)
        assert len(str(refusal.value)) < 120
    with pytest.raises(EkslearnError, match="in a cluster, in a VPC, or by itself"):
        subnet_view(two_rooms())  # type: ignore[arg-type]
    with pytest.raises(EkslearnError, match="there is no subnet None; there are none"):
        subnet_view(Vpc(["10.0.0.0/16"]))


def test_a_view_follows_what_changes() -> None:
    lab = two_nodes()
    view = subnet_view(lab, "private-a")
    whole = len(view.map.blocks)
    lab.vpc.subnets["private-a"].take(IPv4Address("10.0.1.1"))
    assert f"{whole - 1} of 512" in view.follow(lab)
    assert view.map_data["letters"][257] == "t"
