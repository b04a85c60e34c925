from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekslearn.errors import EkslearnError
from ekslearn.vpc.error import Ec2Error
from ekslearn.vpc.route import RouteTable
from ekslearn.vpc.subnet import DELEGATED, FOR_PREFIXES, RESERVED, TAKEN, UNTAKEN, Subnet, prefix_of

FULL = (
    "InsufficientFreeAddressesInSubnet: The specified subnet does not have enough free addresses"
    " to satisfy the request."
)
NO_BLOCK = (
    "InsufficientCidrBlocks: The specified subnet does not have enough free cidr blocks to"
    " satisfy the request."
)


def subnet(cidr: str = "10.0.1.0/24") -> Subnet:
    return Subnet("a", cidr, "us-east-1a")


def refused(call: object, *words: object) -> str:
    with pytest.raises(Ec2Error) as refusal:
        call(*words)  # type: ignore[operator]
    assert str(refusal.value) == f"{refusal.value.code}: {refusal.value.said}"
    return str(refusal.value)


def test_five_addresses_are_reserved() -> None:
    one = subnet("10.0.1.0/28")
    assert [at for at, state in enumerate(one.states) if state == RESERVED] == [0, 1, 2, 3, 15]
    assert one.free == 11
    assert str(one.gateway) == "10.0.1.1"
    assert one.subnet_id.startswith("subnet-0") and len(one.subnet_id) == len("subnet-") + 17


def test_the_lowest_free_address_is_next() -> None:
    one = subnet("10.0.1.0/28")
    assert [str(one.take()) for _ in range(3)] == ["10.0.1.4", "10.0.1.5", "10.0.1.6"]
    one.give_back(IPv4Address("10.0.1.5"))
    assert str(one.take()) == "10.0.1.5"
    for _ in range(8):
        one.take()
    assert one.free == 0
    assert refused(one.take) == FULL


BAD = "InvalidParameterValue: Address"
USED = "InvalidIPAddress.InUse: The specified address is already in use."


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("10.0.2.9", f"{BAD} 10.0.2.9 does not fall within the subnet's address range"),
        ("10.0.1.0", f"{BAD} 10.0.1.0 is in subnet's reserved address range"),
        ("10.0.1.3", f"{BAD} 10.0.1.3 is in subnet's reserved address range"),
        ("10.0.1.255", f"{BAD} 10.0.1.255 is in subnet's reserved address range"),
        ("10.0.1.9", USED),
        ("10.0.1.33", USED),
    ],
)
def test_an_address_that_cant_be_had(address: str, said: str) -> None:
    one = subnet()
    one.take(IPv4Address("10.0.1.9"))
    one.take_prefix(IPv4Network("10.0.1.32/28"))
    before = bytes(one.states)
    assert refused(one.take, IPv4Address(address)) == said
    assert bytes(one.states) == before


def test_a_prefix_is_aligned_and_wholly_free() -> None:
    one = subnet("10.0.1.0/26")
    assert str(one.take_prefix()) == "10.0.1.16/28"  # the first block has reserved addresses
    one.take(IPv4Address("10.0.1.40"))
    assert one.free == 64 - 5 - 16 - 1
    assert refused(one.take_prefix) == NO_BLOCK  # fragmented: 42 are free
    one.give_back(IPv4Address("10.0.1.40"))
    assert str(one.take_prefix()) == "10.0.1.32/28"
    one.give_back(IPv4Network("10.0.1.16/28"))
    assert str(one.take_prefix()) == "10.0.1.16/28"


def test_free_addresses_across_two_blocks_are_no_prefix() -> None:
    one = subnet("10.0.1.0/26")
    one.take(IPv4Address("10.0.1.16"))
    one.take(IPv4Address("10.0.1.47"))  # 17 to 46 are free, sixteen in a row, but none aligned
    assert refused(one.take_prefix) == NO_BLOCK


@pytest.mark.parametrize("prefix", ["10.0.1.16/27", "10.0.2.0/28", "10.0.0.0/8", "10.0.1.16/29"])
def test_a_prefix_that_is_none(prefix: str) -> None:
    network = IPv4Network(prefix, strict=False)
    assert refused(subnet().take_prefix, network) == (
        f"InvalidParameterValue: Value ({network}) for parameter ipv4Prefix is invalid."
    )


def test_a_named_prefix_that_isnt_free() -> None:
    one = subnet()
    one.take(IPv4Address("10.0.1.20"))
    assert refused(one.take_prefix, IPv4Network("10.0.1.16/28")) == NO_BLOCK
    assert refused(one.take_prefix, IPv4Network("10.0.1.0/28")) == NO_BLOCK


def test_only_what_is_taken_comes_back() -> None:
    one = subnet()
    one.take(IPv4Address("10.0.1.9"))
    one.take_prefix()
    for wrong in (IPv4Address("10.0.1.10"), IPv4Address("10.0.1.1"), IPv4Address("10.0.1.17"),
                  IPv4Network("10.0.1.32/28"), IPv4Network("10.0.1.0/28")):  # fmt: skip
        with pytest.raises(EkslearnError, match="isn't taken in a"):
            one.give_back(wrong)


def test_reservations() -> None:
    one = subnet("10.0.1.0/26")
    one.take(IPv4Address("10.0.1.20"))
    one.reserve("10.0.1.0/28", "explicit")
    one.reserve("10.0.1.16/28", "prefix")
    assert one.free == 58  # a reservation takes nothing
    assert str(one.take()) == "10.0.1.32"  # never one that is kept
    assert str(one.take(IPv4Address("10.0.1.4"))) == "10.0.1.4"  # unless it is named
    assert refused(one.take_prefix) == NO_BLOCK  # 20 is taken, 32 is, 63 is reserved
    one.give_back(IPv4Address("10.0.1.20"))
    assert one.states[20] == FOR_PREFIXES
    assert str(one.take_prefix()) == "10.0.1.16/28"
    one.give_back(IPv4Network("10.0.1.16/28"))
    for _ in range(30):
        one.take()
    assert refused(one.take) == FULL and one.free == 11 + 16


def test_a_reservation_for_prefixes_is_used_first() -> None:
    one = subnet()
    one.reserve("10.0.1.128/27", "prefix")
    assert [str(one.take_prefix()) for _ in range(3)] == [
        "10.0.1.128/28", "10.0.1.144/28", "10.0.1.16/28"]  # fmt: skip


@pytest.mark.parametrize("cidr", ["10.0.2.0/28", "10.0.0.0/16", "10.0.1.0/25", "10.0.1.16/28"])
def test_a_reservation_that_cant_be(cidr: str) -> None:
    one = subnet()
    one.reserve("10.0.1.0/27", "prefix")
    assert refused(one.reserve, cidr, "prefix").startswith("InvalidParameterValue: ")
    with pytest.raises(EkslearnError, match="prefix or explicit, not 'other'"):
        one.reserve("10.0.1.64/28", "other")


@pytest.mark.parametrize("cidr", ["10.0.0.0/15", "10.0.0.0/29", "10.0.0.0/32"])
def test_sizes_of_a_subnet(cidr: str) -> None:
    assert refused(subnet, cidr) == f"InvalidSubnet.Range: The CIDR '{cidr}' is invalid."


def test_a_cidr_with_host_bits_is_made_canonical() -> None:
    assert str(subnet("10.0.1.77/24").cidr) == "10.0.1.0/24"
    assert refused(subnet, "10.0.1.0/33") == (
        "InvalidParameterValue: Value (10.0.1.0/33) for parameter cidrBlock is invalid."
        " This is not a valid CIDR block."
    )


# Routes


def test_the_longest_prefix_wins() -> None:
    table = RouteTable("a", [("0.0.0.0/0", "nat"), ("192.168.0.0/16", "tgw"),
                             ("192.168.7.0/24", "pcx")])  # fmt: skip
    table.add_local(IPv4Network("10.0.0.0/16"))
    found = [str(table.lookup(IPv4Address(text))) for text in
             ("192.168.7.1", "192.168.8.1", "10.0.3.3", "8.8.8.8")]  # fmt: skip
    assert found == ["192.168.7.0/24 -> pcx", "192.168.0.0/16 -> tgw", "10.0.0.0/16 -> local",
                     "0.0.0.0/0 -> nat"]  # fmt: skip
    assert table.leads_to("nat") and not table.leads_to("igw")
    assert RouteTable("b").lookup(IPv4Address("8.8.8.8")) is None
    other = RouteTable("c", [("192.168.7.0/24", "pcx"), ("0.0.0.0/0", "nat")])  # in any order
    assert [str(route) for route in other.routes] == ["192.168.7.0/24 -> pcx", "0.0.0.0/0 -> nat"]


def test_routes_that_cant_be() -> None:
    table = RouteTable("a", [("0.0.0.0/0", "igw")])
    table.add_local(IPv4Network("10.0.0.0/16"))
    assert refused(table.add, "0.0.0.0/0", "nat") == (
        "RouteAlreadyExists: The route identified by 0.0.0.0/0 already exists.")  # fmt: skip
    assert "equal to or more specific" in refused(table.add, "10.0.5.0/24", "pcx")
    assert "destinationCidrBlock" in refused(table.add, "10.0.0/99", "pcx")
    for target in ("local", "vgw", ""):
        with pytest.raises(EkslearnError, match="targets are igw, nat, tgw"):
            table.add("10.1.0.0/16", target)
    assert len(table.routes) == 2


# What holds whatever happens


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["take", "named", "prefix", "back", "keep", "explicit"]),
                          st.integers(0, 127)), max_size=60))  # fmt: skip
def test_no_address_twice_and_none_lost(steps: list[tuple[str, int]]) -> None:
    one = subnet("10.0.0.0/25")
    held: list[IPv4Address | IPv4Network] = []
    for what, number in steps:
        address = one.cidr[number]
        try:
            if what == "take":
                held.append(one.take())
            elif what == "named":
                held.append(one.take(address))
            elif what == "prefix":
                held.append(one.take_prefix(prefix_of(address) if number % 2 else None))
            elif what == "back" and held:
                one.give_back(held.pop(number % len(held)))
            elif what in ("keep", "explicit"):
                one.reserve(str(prefix_of(address)), "prefix" if what == "keep" else "explicit")
        except Ec2Error:
            pass
        singles = [each for each in held if isinstance(each, IPv4Address)]
        blocks = [each for each in held if isinstance(each, IPv4Network)]
        every = [*singles, *(ip for block in blocks for ip in block)]
        assert len(set(every)) == len(every)
        assert one.free + len(every) + 5 == one.cidr.num_addresses
        assert all(block.prefixlen == 28 and int(block[0]) % 16 == 0 for block in blocks)
        assert not {one.cidr[at] for at in (0, 1, 2, 3, 127)} & set(every)
        for at, state in enumerate(one.states):
            wanted = TAKEN if one.cidr[at] in singles else \
                DELEGATED if one.cidr[at] in every else None  # fmt: skip
            assert state == wanted or (wanted is None and state in (RESERVED, *UNTAKEN))
