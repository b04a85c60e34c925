"""Security groups, which remember connections, and network ACLs, which don't.

Source: Amazon VPC user guide, "Security group rules" and "Network ACLs"; EC2 user guide, "Security
group connection tracking". Not modelled: untracked connections, referenced prefix lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from ..errors import EkslearnError
from ..linux.packet import Packet
from .error import ec2_refuses

ANYWHERE = IPv4Network("0.0.0.0/0")
PROTOCOLS = ("tcp", "udp", "icmp", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a rule speaks of: a protocol and its ports, for ICMP type and code; None is any."""

    protocol: str = "all"
    from_port: int | None = None
    to_port: int | None = None

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            known = ", ".join(PROTOCOLS)
            raise EkslearnError(f"{self.protocol!r} is no protocol of a rule; there are {known}")
        if self.protocol == "all" and self.from_port is not None:
            raise EkslearnError("a rule for all protocols has no ports")

    def holds(self, packet: Packet) -> bool:
        """Whether the packet is of this traffic; ports are the destination's."""
        if self.protocol != "all" and packet.protocol != self.protocol:
            return False
        if self.from_port is None:
            return True
        if packet.icmp:
            kind, code = packet.icmp
            return kind == self.from_port and self.to_port in (None, code)
        last = self.from_port if self.to_port is None else self.to_port
        return packet.dport is not None and self.from_port <= packet.dport <= last

    def __str__(self) -> str:
        ends = [str(each) for each in (self.from_port, self.to_port) if each is not None]
        return " ".join([self.protocol, "-".join(dict.fromkeys(ends))]).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityRule(Traffic):
    """Admit traffic from, or to, a CIDR or whoever is in the security group named ``group``."""

    cidr: IPv4Network = ANYWHERE
    group: str = ""

    def __str__(self) -> str:
        return f"{Traffic.__str__(self)} {self.group or self.cidr}"


ALL = SecurityRule()


class SecurityGroup:
    """Rules that admit; what none admits is dropped. A new group lets everything out."""

    def __init__(
        self, name: str, ingress: Iterable[SecurityRule] = (),
        egress: Iterable[SecurityRule] = (ALL,),
    ) -> None:  # fmt: skip
        self.name = name
        self.ingress = list(ingress)
        self.egress = list(egress)


def admitted(
    groups: Sequence[SecurityGroup], way: str, packet: Packet, peer: Sequence[SecurityGroup] = (),
) -> tuple[str, tuple[str, ...]]:  # fmt: skip
    """The rule of any of ``groups`` that admits a packet, as text, empty if none does; and the
    rules passed over, each with the reason. ``way`` is "ingress" or "egress", ``peer`` the
    security groups of the ENI at the other end.
    """
    far = packet.src if way == "ingress" else packet.dst
    names = {group.name for group in peer}
    passed = []
    for group in groups:
        for rule in group.ingress if way == "ingress" else group.egress:
            text = f"{group.name} {way}: {rule}"
            if not rule.holds(packet):
                passed.append(f"{text} — it is other traffic")
            elif rule.group not in names if rule.group else far not in rule.cidr:
                where = f"in {rule.group}" if rule.group else f"in {rule.cidr}"
                passed.append(f"{text} — {far} isn't {where}")
            else:
                return text, tuple(passed)
    return "", tuple(passed)


@dataclass(frozen=True, slots=True, kw_only=True)
class AclRule(Traffic):
    """One numbered rule of a network ACL: allow or deny traffic from, or to, ``cidr``."""

    number: int
    allow: bool = True
    cidr: IPv4Network = ANYWHERE

    def __str__(self) -> str:
        verb = "allow" if self.allow else "deny"
        return f"{self.number} {verb} {Traffic.__str__(self)} {self.cidr}"


class NetworkAcl:
    """Numbered rules for what enters and leaves a subnet: the lowest that matches decides.

    It remembers nothing: an answer needs a rule for the asker's port, 1024 to 65535.
    """

    def __init__(
        self, name: str, ingress: Iterable[AclRule] = (), egress: Iterable[AclRule] = ()
    ) -> None:
        self.name = name
        self.ingress: list[AclRule] = []
        self.egress: list[AclRule] = []
        for way, rules in (("ingress", ingress), ("egress", egress)):
            for rule in rules:
                self.add(way, rule)

    def add(self, way: str, rule: AclRule) -> None:
        """Add a rule; Ec2Error NetworkAclEntryAlreadyExists for a number twice."""
        rules = self.ingress if way == "ingress" else self.egress
        twice = any(rule.number == other.number for other in rules)
        said = f"The network acl entry identified by {rule.number} already exists."
        ec2_refuses(twice, "NetworkAclEntryAlreadyExists", said)
        said = f"Value ({rule.number}) for parameter ruleNumber is invalid."
        ec2_refuses(not 1 <= rule.number <= 32766, "InvalidParameterValue", said)
        rules.append(rule)
        rules.sort(key=lambda each: each.number)

    def judge(self, way: str, packet: Packet) -> tuple[bool, str, tuple[str, ...]]:
        """Whether a packet may pass, the deciding rule as text, and the rules passed over."""
        far: IPv4Address = packet.src if way == "ingress" else packet.dst
        passed: list[str] = []
        for rule in self.ingress if way == "ingress" else self.egress:
            text = f"{self.name} {way}: {rule}"
            if rule.holds(packet) and far in rule.cidr:
                return rule.allow, text, tuple(passed)
            why = "it is other traffic" if far in rule.cidr else f"{far} isn't in {rule.cidr}"
            passed.append(f"{text} — {why}")
        return False, f"{self.name} {way}: * deny all {ANYWHERE}", tuple(passed)
