from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekslearn.errors import EkslearnError
from ekslearn.linux.packet import Packet
from ekslearn.vpc.model import Eni
from ekslearn.vpc.security import NetworkAcl, SecurityGroup, SecurityRule, VpcRow, judge
from tests.vpc.labs import Site

VPC = IPv4Network("10.0.0.0/16")
WEB = SecurityRule(protocol="tcp", from_port=80)


def packet(protocol: str = "tcp", port: int | None = 80, *, icmp: tuple[int, int] | None = None,
           src: str = "10.0.1.4", dst: str = "10.0.2.4") -> Packet:  # fmt: skip
    return Packet(src=IPv4Address(src), dst=IPv4Address(dst), protocol=protocol, sport=40000,
                  dport=port, icmp=icmp)  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "text", "holds"),
    [
        (SecurityRule(), "all 0.0.0.0/0", [True] * 5),
        (WEB, "tcp 80 0.0.0.0/0", [True, False, False, False, False]),
        (SecurityRule(protocol="tcp", from_port=80, to_port=90, cidr=VPC), "tcp 80-90 10.0.0.0/16",
         [True, True, False, False, False]),
        (SecurityRule(protocol="udp"), "udp 0.0.0.0/0", [False, False, True, False, False]),
        (SecurityRule(protocol="icmp", from_port=3, to_port=4), "icmp 3-4 0.0.0.0/0",
         [False, False, False, False, True]),
        (SecurityRule(protocol="icmp", from_port=8, group="web"), "icmp 8 web",
         [False, False, False, True, False]),
        (SecurityRule(number=100, deny=True), "100 deny all 0.0.0.0/0", [True] * 5),
        (SecurityRule(number=90, protocol="tcp", from_port=443, to_port=443),
         "90 allow tcp 443 0.0.0.0/0", [False] * 5),
    ],
)  # fmt: skip
def test_what_a_rule_speaks_of(rule: SecurityRule, text: str, holds: list[bool]) -> None:
    assert str(rule) == text
    packets = [packet(), packet(port=85), packet("udp"), packet("icmp", None, icmp=(8, 0)),
               packet("icmp", None, icmp=(3, 4))]  # fmt: skip
    assert [rule.holds(each) for each in packets] == holds


def test_rules_that_cant_be() -> None:
    with pytest.raises(EkslearnError, match="no rule is for sctp None; there are all"):
        SecurityRule(protocol="sctp")
    with pytest.raises(EkslearnError, match="no rule is for all 80; there are all \\(without"):
        SecurityRule(from_port=80)


def test_security_groups_are_one_set_of_rules() -> None:
    one = SecurityGroup("one", [SecurityRule(protocol="udp", from_port=53)])
    two = SecurityGroup("two", [SecurityRule(protocol="tcp", from_port=80, cidr=VPC)])
    assert judge([one, two], "ingress", packet()) == VpcRow(
        "two ingress: tcp 80 10.0.0.0/16", ("one ingress: udp 53 0.0.0.0/0 — it is other traffic",)
    )
    assert judge([one, two], "ingress", packet(src="192.0.2.1")) == VpcRow(
        "one, two ingress: no rule, so deny",
        ("one ingress: udp 53 0.0.0.0/0 — it is other traffic",
         "two ingress: tcp 80 10.0.0.0/16 — 192.0.2.1 isn't in 10.0.0.0/16"), admits=False,
    )  # fmt: skip
    assert judge([two], "egress", packet()).text == "two egress: all 0.0.0.0/0"
    assert not judge([SecurityGroup("shut", egress=[])], "egress", packet()).admits


def test_a_group_stands_for_who_is_in_it() -> None:
    books = [SecurityGroup("db", [SecurityRule(protocol="tcp", from_port=80, group="web")])]
    assert judge(books, "ingress", packet(), [SecurityGroup("x"), SecurityGroup("web")]).admits
    row = judge(books, "ingress", packet(), [SecurityGroup("x")])
    assert not row.admits and row.passed_over == ("db ingress: tcp 80 web — 10.0.1.4 isn't in web",)


def test_the_lowest_number_of_a_network_acl_decides() -> None:
    near = IPv4Network("10.0.1.0/24")
    rules = [SecurityRule(number=200), SecurityRule(number=100, deny=True, cidr=near)]
    acl = NetworkAcl("acl", rules)
    row = judge([acl], "ingress", packet())
    assert (row.admits, row.text) == (False, "acl ingress: 100 deny all 10.0.1.0/24")
    row = judge([acl], "ingress", packet(src="10.0.9.9"))
    assert (row.admits, row.text) == (True, "acl ingress: 200 allow all 0.0.0.0/0")
    assert not judge([acl], "egress", packet()).admits  # a new one denies everything


# On the way through the VPC


def open_to(*rules: SecurityRule, name: str = "sg") -> SecurityGroup:
    return SecurityGroup(name, rules)


def site(left: SecurityGroup, right: SecurityGroup) -> tuple[Site, Eni, Eni]:
    """left in subnet a and right in subnet b, each listening on 80 and 53/udp."""
    made = Site(routes=[("0.0.0.0/0", "igw")])
    ends = made.machine("left", groups=[left]), made.machine("right", "b", groups=[right])
    for name in ("left", "right"):
        made.listen(name, "0.0.0.0:80/tcp")
        made.listen(name, "0.0.0.0:53/udp")
    return made, *ends


def test_an_answer_needs_no_rule() -> None:
    made, left, right = site(open_to(), open_to(WEB))
    assert made.verdict("left", f"{right.primary}:80") == "answered"
    assert (
        made.verdict("right", f"{left.primary}:80") == "vpc security group: ingress: not admitted"
    )
    assert made.verdict("left", f"{right.primary}:53/udp").startswith("vpc security group")
    assert made.verdict("left", str(right.primary)).startswith("vpc security group")
    _, notes = made.ask("left", f"{right.primary}:80")
    assert [line for line in notes.vpc() if "security" in line] == [
        "vpc security group: egress: admitted | sg egress: all 0.0.0.0/0",
        "vpc security group: ingress: admitted | sg ingress: tcp 80 0.0.0.0/0",
        "vpc security group: egress: a known connection | ",
        "vpc security group: ingress: a known connection | ",
    ]


def test_egress_rules_count_too() -> None:
    shut = SecurityGroup("shut", egress=[SecurityRule(protocol="udp", from_port=53)])
    made, left, right = site(shut, open_to(SecurityRule()))
    assert made.verdict("left", f"{right.primary}:80") == "vpc security group: egress: not admitted"
    assert made.verdict("left", f"{right.primary}:53/udp") == "answered"
    # who may not ask still answers
    made, left, right = site(SecurityGroup("mute", [WEB], []), open_to())
    assert made.verdict("right", f"{left.primary}:80") == "answered"


def test_a_connection_known_to_one_eni_is_unknown_to_another() -> None:
    made, _, right = site(open_to(), open_to(WEB))
    assert made.verdict("left", f"{right.primary}:80") == "answered"
    made.machine("third", groups=[open_to()])
    third = made.ec2.instances[made.vpc.owner(IPv4Address("10.0.1.5")).instance]  # type: ignore[union-attr]
    assert third.name == "third"
    assert made.verdict("right", "10.0.1.5:80") == "vpc security group: ingress: not admitted"


def test_who_refuses_is_heard_and_so_is_an_icmp_error_about_a_known_connection() -> None:
    made, _, right = site(open_to(), open_to(SecurityRule()))
    assert made.verdict("left", f"{right.primary}:81") == "refused"  # a reset
    assert made.verdict("left", f"{right.primary}:54/udp") == "refused"  # port unreachable


def test_an_icmp_error_about_nothing_known_needs_a_rule() -> None:
    made, left, right = site(open_to(), open_to())
    about = Packet(src=left.primary, dst=right.primary, protocol="udp", sport=9, dport=9)
    error = Packet(src=right.primary, dst=left.primary, protocol="icmp", icmp=(3, 3), quoted=about)
    notes = made.record(lambda: made.namespace("right").ip.send(error))
    assert notes.lost == "vpc security group: ingress: not admitted"


def test_an_icmp_error_that_a_rule_admits_begins_no_connection() -> None:
    made, left, right = site(open_to(SecurityRule(protocol="icmp")), open_to())
    about = Packet(src=left.primary, dst=right.primary, protocol="tcp", sport=9, dport=9)
    error = Packet(src=right.primary, dst=left.primary, protocol="icmp", icmp=(3, 3), quoted=about)
    send = made.namespace("right").ip.send
    assert not made.record(lambda: send(error)).lost.startswith("vpc")
    answer = Packet(src=right.primary, dst=left.primary, protocol="tcp", sport=9, dport=9)
    assert made.record(lambda: send(answer)).lost == "vpc security group: ingress: not admitted"


def test_rules_by_group_follow_the_enis() -> None:
    web = SecurityGroup("web")
    database = open_to(SecurityRule(protocol="tcp", from_port=80, group="web"), name="db")
    made, left, right = site(web, database)
    assert made.verdict("left", f"{right.primary}:80") == "answered"
    left.security_groups = [SecurityGroup("other")]
    assert made.verdict("left", f"{right.primary}:80").startswith("vpc security group: ingress")


def test_without_groups_everything_is_admitted_and_nothing_remembered() -> None:
    made = Site()
    made.machine("left")
    right = made.machine("right", "b")
    assert made.verdict("left", str(right.primary)) == "answered"


def test_a_network_acl_remembers_nothing() -> None:
    made, _, right = site(open_to(), open_to(WEB))
    both = {"ingress": [SecurityRule(number=100)], "egress": [SecurityRule(number=100)]}
    web = SecurityRule(number=100, protocol="tcp", from_port=80, to_port=80)
    replies = SecurityRule(number=110, protocol="tcp", from_port=1024, to_port=65535)
    acl = made.vpc.subnets["b"]
    to, back = f"{right.primary}:80", "vpc network acl: "
    acl.nacl = NetworkAcl("b", **both)
    assert made.verdict("left", to) == "answered"
    acl.nacl = NetworkAcl("b", [web], [])
    assert made.verdict("left", to) == back + "egress: not admitted"  # the answer is lost
    acl.nacl = NetworkAcl("b", [web], [replies])
    assert made.verdict("left", to) == "answered"
    acl.nacl = NetworkAcl("b", [], [replies])
    assert made.verdict("left", to) == back + "ingress: not admitted"
    made.vpc.subnets["a"].nacl = NetworkAcl("a", [], [])
    assert made.verdict("left", to) == back + "egress: not admitted"


def test_a_network_acl_is_asked_where_a_subnet_ends() -> None:
    made = Site()
    made.machine("one")
    two = made.machine("two")
    made.vpc.subnets["a"].nacl = NetworkAcl("shut")
    assert made.verdict("one", str(two.primary)) == "answered"  # straight to its MAC
    made.must("one", "ip route del 10.0.1.0/24")  # as from a secondary ENI's table: by the gateway
    assert made.verdict("one", str(two.primary)) == "answered"


RULES = st.lists(st.builds(
    SecurityRule, protocol=st.sampled_from(["tcp", "udp"]), from_port=st.sampled_from([53, 80]),
    cidr=st.sampled_from([VPC, IPv4Network("10.0.1.0/24"), IPv4Network("192.0.2.0/24")]),
), max_size=3)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(RULES, RULES, RULES, RULES, st.sampled_from(["80", "53/udp"]))
def test_who_is_let_in_gets_its_answer_out(
    out_left: list[SecurityRule], in_left: list[SecurityRule], out_right: list[SecurityRule],
    in_right: list[SecurityRule], port: str,
) -> None:  # fmt: skip
    """Whether a question is answered depends on the rules for the question alone."""
    left, right = (
        SecurityGroup("left", in_left, out_left),
        SecurityGroup("right", in_right, out_right),
    )
    made, one, two = site(left, right)
    protocol = "udp" if port.endswith("udp") else "tcp"
    number = int(port.partition("/")[0])

    def admits(rules: list[SecurityRule], far: IPv4Address) -> bool:
        return any(rule.protocol == protocol and rule.from_port == number and far in rule.cidr
                   for rule in rules)  # fmt: skip

    expected = admits(out_left, two.primary) and admits(in_right, one.primary)
    asked: Callable[[], str] = lambda: made.verdict("left", f"{two.primary}:{port}")  # noqa: E731
    assert (asked() == "answered") == expected
    assert (asked() == "answered") == expected  # what was let through before changes nothing
