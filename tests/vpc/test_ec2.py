from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekslearn.errors import EkslearnError
from ekslearn.vpc.ec2 import CHANGING, READING, Ec2, Rate
from ekslearn.vpc.error import Ec2Error, aws_id, rows
from ekslearn.vpc.instance import instance_type
from ekslearn.vpc.model import MOST_CIDRS, NAT_GATEWAY, PUBLIC, Eni, Vpc
from ekslearn.vpc.security import NetworkAcl, SecurityGroup, SecurityRule
from ekslearn.vpc.subnet import Private, Subnet
from tests.ground import PACKAGE

IP = IPv4Address


class Region:
    """A VPC of three subnets, its EC2, and a clock to move."""

    def __init__(self, **more: Any) -> None:
        self.now = 0.0
        self.vpc = Vpc(["10.0.0.0/16"], [
            Subnet("a", "10.0.1.0/24", "us-east-1a"), Subnet("small", "10.0.2.0/28", "us-east-1a"),
            Subnet("c", "10.0.3.0/24", "us-east-1c", routes=[("0.0.0.0/0", "igw")]),
        ])  # fmt: skip
        self.a, self.small, self.c = self.vpc.subnets.values()
        self.ec2 = Ec2(self.vpc, clock=lambda: self.now, **more)

    def node(self, name: str = "node", kind: str = "m5.large", subnet: Subnet | None = None) -> Eni:
        return self.ec2.run_instances(name, instance_type(kind), subnet or self.a)

    def state(self) -> tuple[object, ...]:
        """Everything a refused call must leave alone."""
        enis = {eni.eni_id: (eni.primary, [*eni.secondary], [*eni.prefixes], eni.attachment_id,
                             eni.device_index) for eni in self.vpc.enis.values()}  # fmt: skip
        machines = [(each.name, len(each.enis)) for each in self.ec2.instances.values()]
        return enis, machines, [bytes(each.states) for each in self.vpc.subnets.values()]

    def refused(self, action: str, *words: object, **more: object) -> str:
        """What a call is refused with: code and sentence; it changes nothing, and is recorded."""
        before = self.state()
        with pytest.raises(Ec2Error) as refusal:
            getattr(self.ec2, action)(*words, **more)
        assert self.state() == before
        assert self.ec2.calls[-1].error == refusal.value.code
        return str(refusal.value)


# The VPC itself


@pytest.mark.parametrize(
    ("cidrs", "said"),
    [
        (["10.0.0.0/15"], "InvalidVpc.Range: The CIDR '10.0.0.0/15' is invalid."),
        (["10.0.0.0/29"], "InvalidVpc.Range: The CIDR '10.0.0.0/29' is invalid."),
        (["10.0.0.0/16", "10.0.9.0/24"], "InvalidVpc.Range: The CIDR '10.0.9.0/24' conflicts with"
                                         " another CIDR of the VPC"),
        (["10.0.0.0/24", "10.0.0.0/16"], "InvalidVpc.Range: The CIDR '10.0.0.0/16' conflicts with"
                                         " another CIDR of the VPC"),
        (["ten/16"], "InvalidParameterValue: Value (ten/16) for parameter cidrBlock is invalid."
                     " This is not a valid CIDR block."),
        ([f"10.{n}.0.0/16" for n in range(6)], "CidrLimitExceeded: This network 'vpc' has met its"
                                               " maximum number of allowed CIDRs: 5"),
    ],
)  # fmt: skip
def test_cidrs_a_vpc_cant_have(cidrs: list[str], said: str) -> None:
    with pytest.raises(Ec2Error) as refusal:
        Vpc(cidrs)
    assert str(refusal.value) == said


@pytest.mark.parametrize(
    ("cidr", "said"),
    [
        ("10.1.0.0/24", "InvalidSubnet.Range: The CIDR '10.1.0.0/24' is invalid."),
        ("10.0.1.128/25", "InvalidSubnet.Conflict: The CIDR '10.0.1.128/25' conflicts with another"
                          " subnet"),
        ("10.0.0.0/16", "InvalidSubnet.Conflict: The CIDR '10.0.0.0/16' conflicts with another"
                        " subnet"),
    ],
)  # fmt: skip
def test_subnets_a_vpc_cant_have(cidr: str, said: str) -> None:
    vpc = Region().vpc
    with pytest.raises(Ec2Error) as refusal:
        vpc.add_subnet(Subnet("d", cidr, "us-east-1a"))
    assert str(refusal.value) == said and len(vpc.subnets) == 3
    with pytest.raises(EkslearnError, match="two subnets called a"):
        vpc.add_subnet(Subnet("a", "10.0.7.0/24", "us-east-1a"))


def test_a_new_cidr_is_local_in_every_route_table() -> None:
    vpc = Region().vpc
    vpc.add_cidr("100.64.0.0/16")
    for subnet in vpc.subnets.values():
        route = subnet.table.lookup(IP("100.64.9.9"))
        assert route and route.target == "local"
    assert IP("100.64.9.9") in vpc and IP("10.1.0.1") not in vpc
    vpc.add_subnet(Subnet("pods", "100.64.0.0/19", "us-east-1a"))
    assert MOST_CIDRS == 5


def test_security_groups_have_names_of_their_own() -> None:
    vpc = Region().vpc
    web = vpc.add_security_group(SecurityGroup("web"))
    assert vpc.security_groups == {"web": web}
    with pytest.raises(Ec2Error, match=r"InvalidGroup\.Duplicate: The security group 'web'"):
        web = vpc.add_security_group(SecurityGroup("web"))
    assert vpc.security_groups == {"web": web}
    with pytest.raises(Ec2Error, match="The network acl entry identified by 7 already exists"):
        NetworkAcl("acl", [SecurityRule(number=7), SecurityRule(number=7, deny=True)])
    for number in (0, 32767):
        with pytest.raises(Ec2Error, match="for parameter ruleNumber is invalid"):
            NetworkAcl("acl", [], [SecurityRule(number=number)])


# Instances and ENIs


def test_an_instance_has_one_eni_from_the_start() -> None:
    region = Region()
    eni = region.node("node-a")
    machine = region.ec2.describe_instances(eni.instance)
    assert (machine.name, machine.kind.name, machine.enis) == ("node-a", "m5.large", [eni])
    assert (eni.device_index, eni.attached, eni.delete_on_termination) == (0, True, True)
    assert (str(eni.primary), eni.public_ip) == ("10.0.1.4", None)
    assert re.fullmatch(r"i-0[0-9a-f]{16}", eni.instance)
    assert re.fullmatch(r"eni-0[0-9a-f]{16}", eni.eni_id)
    assert re.fullmatch(r"02(:[0-9a-f]{2}){5}", eni.mac)
    assert eni.source_dest_check


def test_ids_depend_on_names_alone() -> None:
    one, other = Region(), Region()
    other.node("first")
    assert one.node("x").eni_id == other.node("x").eni_id
    made = [one.ec2.create_network_interface(one.a, description=text).eni_id
            for text in ("aws-K8S-i-1", "aws-K8S-i-2", "aws-K8S-i-1")]  # fmt: skip
    assert len(set(made)) == 3
    for text, eni_id in (("aws-K8S-i-2", made[1]), ("aws-K8S-i-1", made[0])):
        assert other.ec2.create_network_interface(other.a, description=text).eni_id == eni_id
    assert aws_id("i", "x") != aws_id("eni", "x")


def test_only_a_subnet_that_leads_to_the_internet_gives_public_addresses() -> None:
    region = Region()
    assert region.node("private").public_ip is None
    public = [region.node(f"n{n}", subnet=region.c).public_ip for n in range(3)]
    assert [str(each) for each in public] == ["198.18.0.1", "198.18.0.2", "198.18.0.3"]
    assert all(each in PUBLIC for each in public) and NAT_GATEWAY not in PUBLIC
    eni = region.ec2.create_network_interface(region.c)
    assert eni.public_ip is None  # only an instance's first
    found = region.vpc.public_owner(IP("198.18.0.2"))
    assert found and region.ec2.instances[found.instance].name == "n1"


def test_a_node_grows() -> None:
    region = Region()
    first = region.node()
    made = region.ec2.create_network_interface(
        region.a, first.security_groups, secondary_count=3, description="aws-K8S", tags={"k": "v"}
    )
    assert (made.tags, made.attached) == ({"k": "v"}, False)
    attachment = region.ec2.attach_network_interface(made.eni_id, first.instance, 1)
    assert re.fullmatch(r"eni-attach-0[0-9a-f]{16}", attachment)
    region.ec2.modify_network_interface_attribute(made.eni_id, delete_on_termination=True)
    assert made.delete_on_termination and made.source_dest_check
    got = region.ec2.assign_private_ip_addresses(made.eni_id, count=2)
    assert [str(each) for each in got] == ["10.0.1.9", "10.0.1.10"]
    assert [str(each) for each in made.secondary] == [f"10.0.1.{n}" for n in range(6, 11)]
    assert region.vpc.owner(IP("10.0.1.10")) is made
    region.ec2.unassign_private_ip_addresses(made.eni_id, [IP("10.0.1.6"), IP("10.0.1.6")])
    assert region.vpc.owner(IP("10.0.1.6")) is None and len(made.secondary) == 4
    region.ec2.create_tags(made.eni_id, {"k": "w", "more": "x"})
    assert made.tags == {"k": "w", "more": "x"}
    region.ec2.detach_network_interface(attachment)
    assert (made.instance, made.attached, made.device_index) == ("", False, 0)
    assert region.ec2.describe_network_interfaces(instance=first.instance) == [first]
    region.ec2.delete_network_interface(made.eni_id)
    assert region.a.free == 251 - 1 and region.vpc.owner(IP("10.0.1.7")) is None
    assert region.ec2.describe_network_interfaces() == [first]


def test_prefixes() -> None:
    region = Region()
    eni = region.node()
    got = region.ec2.assign_private_ip_addresses(eni.eni_id, prefix_count=2)
    assert [str(each) for each in got] == ["10.0.1.16/28", "10.0.1.32/28"]
    assert eni.slots_used == 3 and not eni.secondary
    assert region.vpc.owner(IP("10.0.1.47")) is eni and region.vpc.owner(IP("10.0.1.48")) is None
    region.ec2.unassign_private_ip_addresses(eni.eni_id, prefixes=[IPv4Network("10.0.1.16/28")])
    assert [str(each) for each in eni.prefixes] == ["10.0.1.32/28"]
    pinned = region.ec2.assign_private_ip_addresses(
        eni.eni_id, addresses=[IP("10.0.1.200")], prefixes=[IPv4Network("10.0.1.64/28")]
    )
    assert [str(each) for each in pinned] == ["10.0.1.200", "10.0.1.64/28"]


def test_what_describes() -> None:
    region = Region()
    assert region.ec2.describe_subnets() == [region.a, region.small, region.c]
    assert region.ec2.describe_subnets(zone="us-east-1c") == [region.c]
    assert region.ec2.describe_instance_types("m5.large").enis == 3
    one, two = region.node("one"), region.node("two")
    assert region.ec2.describe_network_interfaces([two.eni_id]) == [two]
    assert region.ec2.describe_network_interfaces(instance=one.instance) == [one]


# Refusals, each with its code and sentence

FULL = ("InsufficientFreeAddressesInSubnet: The specified subnet does not have enough free"
        " addresses to satisfy the request.")  # fmt: skip
FRAGMENTED = ("InsufficientCidrBlocks: The specified subnet does not have enough free cidr blocks"
              " to satisfy the request.")  # fmt: skip
LIMIT = "PrivateIpAddressLimitExceeded: Number of private addresses will exceed limit."


def test_names_that_arent_there() -> None:
    region = Region()
    eni, none = region.node(), "eni-0123456789abcdef0"
    missing = f"InvalidNetworkInterfaceID.NotFound: The networkInterface ID '{none}' does not exist"
    for action, words in (
        ("describe_network_interfaces", [[none]]), ("create_tags", [none, {}]),
        ("delete_network_interface", [none]), ("assign_private_ip_addresses", [none]),
        ("unassign_private_ip_addresses", [none]), ("attach_network_interface", [none, "i-0", 1]),
        ("modify_network_interface_attribute", [none]),
    ):  # fmt: skip
        if action == "modify_network_interface_attribute":
            assert region.refused(action, *words, source_dest_check=False) == missing
        else:
            assert region.refused(action, *words) == missing
    gone = "InvalidInstanceID.NotFound: The instance ID 'i-0' does not exist"
    assert region.refused("describe_instances", "i-0") == gone
    assert region.refused("describe_network_interfaces", instance="i-0") == gone
    made = region.ec2.create_network_interface(region.a)
    assert region.refused("attach_network_interface", made.eni_id, "i-0", 1) == gone
    for attachment in ("eni-attach-0", "", eni.eni_id):
        assert region.refused("detach_network_interface", attachment) == (
            f"InvalidAttachmentID.NotFound: The attachment ID '{attachment}' does not exist"
        )
    assert region.refused("describe_instance_types", "m5.huge") == (
        "InvalidInstanceType: The following supplied instance types do not exist: [m5.huge]"
    )


def test_limits_of_the_type() -> None:
    region = Region()
    first = region.node()
    for number in (1, 2):
        made = region.ec2.create_network_interface(region.a)
        region.ec2.attach_network_interface(made.eni_id, first.instance, number)
    more = region.ec2.create_network_interface(region.a)
    assert region.refused("attach_network_interface", more.eni_id, first.instance, 3) == (
        "AttachmentLimitExceeded: Interface count 4 exceeds the limit for m5.large")  # fmt: skip
    assert region.refused("assign_private_ip_addresses", first.eni_id, count=10) == LIMIT
    region.ec2.assign_private_ip_addresses(first.eni_id, count=9)
    assert region.refused("assign_private_ip_addresses", first.eni_id, count=1) == LIMIT
    assert region.refused("assign_private_ip_addresses", made.eni_id, prefix_count=10) == LIMIT
    region.ec2.assign_private_ip_addresses(more.eni_id, count=30)  # nothing holds it: no limit
    tiny = region.node("tiny", "t3.nano")
    assert region.refused("attach_network_interface", more.eni_id, tiny.instance, 1) == LIMIT


def test_only_nitro_has_prefixes() -> None:
    region = Region()
    old = region.node("old", "m4.large")
    said = region.refused("assign_private_ip_addresses", old.eni_id, prefix_count=1)
    assert said.startswith("InvalidParameterCombination: m4.large can't have prefixes")
    made = region.ec2.create_network_interface(region.a, prefix_count=1)
    assert region.refused("attach_network_interface", made.eni_id, old.instance, 1) == said
    metal = region.node("metal", "m5.metal")
    assert region.ec2.assign_private_ip_addresses(metal.eni_id, prefix_count=1)


def test_where_an_eni_may_be_attached() -> None:
    region = Region()
    one, two = region.node("one"), region.node("two", subnet=region.c)
    made = region.ec2.create_network_interface(region.a)
    assert region.refused("attach_network_interface", one.eni_id, two.instance, 1) == (
        f"InvalidNetworkInterface.InUse: Interface: [{one.eni_id}] in use.")  # fmt: skip
    assert region.refused("attach_network_interface", made.eni_id, two.instance, 1) == (
        "InvalidParameterCombination: You may not attach a network interface to an instance if"
        " they are not in the same availability zone")  # fmt: skip
    assert region.refused("attach_network_interface", made.eni_id, one.instance, 0) == (
        f"InvalidParameterValue: Instance '{one.instance}' already has an interface attached at"
        " device index '0'.")  # fmt: skip
    for card in (1, -1):
        assert region.refused("attach_network_interface", made.eni_id, one.instance, 1, card) == (
            f"InvalidParameterValue: Invalid value '{card}' for networkCardIndex on m5.large"
        )
    assert region.refused("detach_network_interface", one.attachment_id) == (
        "OperationNotPermitted: The network interface at device index 0 cannot be detached."
    )
    assert region.refused("delete_network_interface", one.eni_id) == (
        f"InvalidParameterValue: Network interface '{one.eni_id}' is currently in use."
    )


def test_network_cards_have_limits_and_indexes_of_their_own() -> None:
    region = Region()
    first = region.node("gpu", "p5.48xlarge")
    enis = [region.ec2.create_network_interface(region.a).eni_id for _ in range(5)]
    region.ec2.attach_network_interface(enis[0], first.instance, 1)
    assert region.refused("attach_network_interface", enis[1], first.instance, 2) == (
        "AttachmentLimitExceeded: Interface count 3 exceeds the limit for p5.48xlarge")  # fmt: skip
    region.ec2.attach_network_interface(enis[1], first.instance, 1, 31)
    region.ec2.attach_network_interface(enis[2], first.instance, 0, 31)
    assert "exceeds" in region.refused("attach_network_interface", enis[3], first.instance, 2, 31)
    card = region.vpc.enis[enis[2]]
    region.ec2.detach_network_interface(card.attachment_id)  # device 0, but of another card
    assert not card.attached and card.network_card == 0


def test_a_full_subnet() -> None:
    region = Region()
    made = region.ec2.create_network_interface(region.small, secondary_count=10)
    assert region.small.free == 0
    assert region.refused("create_network_interface", region.small) == FULL
    assert region.refused("run_instances", "x", instance_type("m5.large"), region.small) == FULL
    assert region.refused("assign_private_ip_addresses", made.eni_id, count=1) == FULL
    region.ec2.unassign_private_ip_addresses(made.eni_id, made.secondary[:3])
    assert (
        region.refused("assign_private_ip_addresses", made.eni_id, count=4) == FULL
    )  # all or none
    assert region.refused("create_network_interface", region.small, secondary_count=3) == FULL
    assert len(region.ec2.assign_private_ip_addresses(made.eni_id, count=3)) == 3


def test_a_fragmented_subnet() -> None:
    region = Region()
    eni = region.node()
    for block in range(1, 15):
        region.ec2.create_network_interface(region.a, private_ip=IP(f"10.0.1.{block * 16 + 5}"))
    assert region.a.free > 200
    assert region.refused("assign_private_ip_addresses", eni.eni_id, prefix_count=1) == FRAGMENTED
    assert region.refused("create_network_interface", region.a, prefix_count=1) == FRAGMENTED
    # With fewer addresses free than a prefix has, creating an ENI is answered otherwise.
    assert region.refused("create_network_interface", region.small, prefix_count=1) == (
        "InvalidParameterValue: There aren't sufficient free Ipv4 addresses or prefixes"
    )


def test_addresses_that_cant_be_taken_or_given_back() -> None:
    region = Region()
    eni = region.node()
    used = "InvalidIPAddress.InUse: The specified address is already in use."
    assign, give = "assign_private_ip_addresses", "unassign_private_ip_addresses"
    assert region.refused(assign, eni.eni_id, addresses=[IP("10.0.1.9"), eni.primary]) == used
    assert region.refused("create_network_interface", region.a, private_ip=eni.primary) == used
    said = region.refused(assign, eni.eni_id, count=1, addresses=[IP("10.0.1.9")])
    assert said.startswith("InvalidParameterCombination")
    assert "does not fall within" in region.refused(assign, eni.eni_id, addresses=[IP("10.0.3.9")])
    assert region.refused(give, eni.eni_id, [eni.primary]) == (
        "InvalidParameterValue: The primary IP address of an interface cannot be unassigned"
    )
    [own] = region.ec2.assign_private_ip_addresses(eni.eni_id, count=1)
    stranger = (f"InvalidParameterValue: Some of the specified addresses are not assigned to"
                f" interface {eni.eni_id}")  # fmt: skip
    assert region.refused(give, eni.eni_id, [own, IP("10.0.1.99")]) == stranger
    assert region.refused(give, eni.eni_id, (), [IPv4Network("10.0.1.16/28")]) == stranger


# What is recorded, and how fast one may ask


def test_every_call_is_recorded_in_order() -> None:
    region = Region(latency={"CreateNetworkInterface": 3.5})
    region.now = 100.0
    eni = region.node()
    region.now = 101.0
    region.ec2.create_network_interface(region.a, secondary_count=2, description="aws-K8S")
    region.refused("assign_private_ip_addresses", eni.eni_id, count=99)
    made, wrong = region.ec2.calls[1:]
    assert [call.name for call in region.ec2.calls] == [
        "RunInstances", "CreateNetworkInterface", "AssignPrivateIpAddresses"]  # fmt: skip
    assert (made.started, made.took_s, made.error) == (101.0, 3.5, "")
    assert made.parameters == {"subnet": region.a, "secondary_count": 2, "description": "aws-K8S"}
    assert wrong.error == "PrivateIpAddressLimitExceeded" and wrong.took_s > 0
    assert region.ec2.describe_network_interfaces.__doc__  # an action keeps its words


def test_nothing_is_throttled_unless_asked_for() -> None:
    region = Region()
    for _ in range(300):
        region.ec2.describe_subnets()
    assert not any(call.error for call in region.ec2.calls)


def test_a_bucket_for_each_action() -> None:
    region = Region(rates={})
    for _ in range(int(READING[0])):
        region.ec2.describe_subnets()
    limit = "RequestLimitExceeded: Request limit exceeded."
    assert region.refused("describe_subnets") == limit
    eni = region.node()  # another action, another bucket
    for number in range(int(CHANGING[0])):
        region.ec2.create_tags(eni.eni_id, {"n": str(number)})
    assert region.refused("create_tags", eni.eni_id, {"n": "more"}) == limit
    assert eni.tags == {"n": "49"}
    region.now += 1.0
    for _ in range(int(READING[1])):
        region.ec2.describe_subnets()
    assert region.refused("describe_subnets") == limit
    for _ in range(int(CHANGING[1])):
        region.ec2.create_tags(eni.eni_id, {})
    assert region.refused("create_tags", eni.eni_id, {}) == limit
    region.now += 1000.0
    for _ in range(int(READING[0])):  # it never holds more than its size
        region.ec2.describe_subnets()
    assert region.refused("describe_subnets") == limit


def test_a_bucket_of_ones_own() -> None:
    region = Region(rates={"DescribeSubnets": Rate(1, 0.5)})
    region.ec2.describe_subnets()
    for _ in range(2):
        region.refused("describe_subnets")
        region.now += 1.0
    region.ec2.describe_subnets()


# The table of refusals


def test_every_refusal_stands_in_the_table_and_each_of_its_rows_is_used() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (PACKAGE / "vpc").glob("*.py"))
    names = {row["refusal"] for row in rows("ec2_errors.csv")}
    assert len(names) == len(rows("ec2_errors.csv"))
    assert {name for name in names if f'"{name}"' not in source} == set()
    asked = set(re.findall(r'ec2_refuses\([^"]*?"([^"]+)"', source))
    assert len(asked) > 25 and asked <= names
    for row in rows("ec2_errors.csv"):
        assert re.fullmatch(r"[A-Z][A-Za-z]+(\.[A-Z][A-Za-z]+)?", row["code"]), row
        assert row["source"], row


# What holds whatever is called


ACTIONS = st.tuples(
    st.sampled_from("create attach assign prefix unassign detach delete run".split()),
    st.integers(0, 20), st.integers(0, 6),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.lists(ACTIONS, max_size=50))
def test_ec2s_truth_stays_one(steps: list[tuple[str, int, int]]) -> None:
    region = Region()
    ec2, vpc = region.ec2, region.vpc
    region.node("n0", "t3.small")
    for what, which, number in steps:
        enis = list(vpc.enis.values())
        eni = enis[which % len(enis)]
        machine = list(ec2.instances.values())[which % len(ec2.instances)]
        try:
            if what == "create":
                where = region.small if which % 2 else region.a
                ec2.create_network_interface(where, secondary_count=number, prefix_count=which % 3)
            elif what == "attach":
                ec2.attach_network_interface(eni.eni_id, machine.instance_id, number)
            elif what == "assign":
                ec2.assign_private_ip_addresses(eni.eni_id, count=number)
            elif what == "prefix":
                ec2.assign_private_ip_addresses(eni.eni_id, prefix_count=number)
            elif what == "unassign":
                ec2.unassign_private_ip_addresses(
                    eni.eni_id, eni.secondary[:number], eni.prefixes[:1]
                )
            elif what == "detach":
                ec2.detach_network_interface(eni.attachment_id)
            elif what == "delete":
                ec2.delete_network_interface(eni.eni_id)
            else:
                region.node(f"n{len(ec2.instances)}", ("t3.small", "m4.large")[number % 2])
        except Ec2Error:
            assert ec2.calls[-1].error
        consistent(region)


def consistent(region: Region) -> None:
    """No address has two owners; what subnets say is what ENIs have; nobody is over a limit."""
    held: list[tuple[Eni, Private]] = []
    for eni in region.vpc.enis.values():
        held += [(eni, each) for each in (eni.primary, *eni.secondary, *eni.prefixes)]
        assert eni.attached == bool(eni.instance)
    single = [(eni, ip) for eni, each in held for ip in
              ([each] if isinstance(each, IPv4Address) else each)]  # fmt: skip
    assert len({ip for _, ip in single}) == len(single)
    for eni, ip in single:
        assert region.vpc.owner(ip) is eni and ip in eni.subnet.cidr
    for subnet in region.vpc.subnets.values():
        mine = sum(eni.subnet is subnet for eni, _ in single)
        assert subnet.free + mine + 5 == subnet.cidr.num_addresses
    for machine in region.ec2.instances.values():
        assert len(machine.enis) <= machine.kind.enis
        assert len({eni.device_index for eni in machine.enis}) == len(machine.enis)
        assert all(eni.instance == machine.instance_id for eni in machine.enis)
        assert all(eni.slots_used <= machine.kind.ipv4_per_eni for eni in machine.enis)
        assert machine.kind.prefix_delegation or not any(eni.prefixes for eni in machine.enis)
