"""Security groups, which remember connections, and network ACLs, which don't.

Source: Amazon VPC user guide, "Security group rules" and "Network ACLs"; EC2 user guide, "Security
group connection tracking". Not modelled: untracked connections, prefix lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from ..errors import EkslearnError
from ..linux.packet import Packet
from .error import ec2_refuses

ANYWHERE = IPv4Network("0.0.0.0/0")
PROTOCOLS = ("all", "tcp", "udp", "icmp")


@dataclass(frozen=True, slots=True)
class VpcRow:
    """What decided in the VPC: a route, a rule, a record; and the rows before it, with reasons.

    ``admits`` is False where what it says is that the packet may not pass.
    """

    text: str
    passed_over: tuple[str, ...] = ()
    admits: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityRule:
    """One rule of a security group or a network ACL; EkslearnError for one that can't be.

    The ports are the destination's, for ICMP type and code; None is any. The other end is in
    ``cidr`` or, for a security group alone, in the security group named ``group``. ``number`` and
    ``deny`` are a network ACL's.
    """

    protocol: str = "all"
    from_port: int | None = None
    to_port: int | None = None
    cidr: IPv4Network = ANYWHERE
    group: str = ""
    number: int = 0
    deny: bool = False

    def __post_init__(self) -> None:
        portless = self.protocol == "all" and self.from_port is not None
        if self.protocol not in PROTOCOLS or portless:
            there = "all (without ports), tcp, udp and icmp"
            raise EkslearnError(
                f"no rule is for {self.protocol} {self.from_port}; there are {there}"
            )

    def holds(self, packet: Packet) -> bool:
        """Whether the packet is of the rule's protocol and ports."""
        if self.protocol not in ("all", packet.protocol) or self.from_port is None:
            return self.protocol in ("all", packet.protocol)
        if packet.icmp:
            return packet.icmp[0] == self.from_port and self.to_port in (None, packet.icmp[1])
        last = self.from_port if self.to_port is None else self.to_port
        return packet.dport is not None and self.from_port <= packet.dport <= last

    def __str__(self) -> str:
        verb = "deny" if self.deny else "allow"
        ports = (str(port) for port in (self.from_port, self.to_port) if port is not None)
        words = (f"{self.number} {verb}" if self.number else "", self.protocol,
                 "-".join(dict.fromkeys(ports)), self.group or str(self.cidr))  # fmt: skip
        return " ".join(word for word in words if word)


class SecurityGroup:
    """Rules that admit; what none admits is dropped. A new group lets everything out."""

    def __init__(
        self, name: str, ingress: Iterable[SecurityRule] = (),
        egress: Iterable[SecurityRule] = (SecurityRule(),),
    ) -> None:  # fmt: skip
        self.name = name
        self.rules = {"ingress": list(ingress), "egress": list(egress)}


class NetworkAcl(SecurityGroup):
    """Numbered rules for what enters and leaves a subnet: the lowest that matches decides.

    It remembers nothing: an answer needs a rule for the asker's port, 1024 to 65535. Raises
    Ec2Error: NetworkAclEntryAlreadyExists for a number twice, InvalidParameterValue for one that
    isn't 1 to 32766.
    """

    def __init__(
        self, name: str, ingress: Iterable[SecurityRule] = (), egress: Iterable[SecurityRule] = ()
    ) -> None:
        super().__init__(name, ingress, egress)
        for rules in self.rules.values():
            rules.sort(key=lambda rule: rule.number)
            numbers = [rule.number for rule in rules]
            for number in numbers:
                ec2_refuses(not 1 <= number <= 32766, "acl number", number)
                ec2_refuses(numbers.count(number) > 1, "acl twice", number)


class KeptRules:
    """Ingress rules that a program keeps in the security groups of others: what it has written."""

    def __init__(self) -> None:
        self._written: dict[tuple[SecurityGroup, SecurityRule], None] = {}

    def keep(self, wanted: Iterable[tuple[SecurityGroup, SecurityRule]]) -> None:
        """Write what is wanted and isn't there; take out what was written and no longer is."""
        found = dict.fromkeys(wanted)
        for group, rule in found:
            if rule not in group.rules["ingress"]:
                group.rules["ingress"].append(rule)
                self._written[group, rule] = None
        for group, rule in [one for one in self._written if one not in found]:
            del self._written[group, rule]
            if rule in group.rules["ingress"]:
                group.rules["ingress"].remove(rule)


def judge(
    books: Sequence[SecurityGroup], way: str, packet: Packet, peer: Sequence[SecurityGroup] = ()
) -> VpcRow:
    """The first rule of ``books`` that speaks of a packet, else what stands for none: a drop.

    ``way`` is "ingress" or "egress", ``peer`` the security groups of the ENI at the other end.
    """
    far = packet.src if way == "ingress" else packet.dst
    groups = {group.name for group in peer}
    passed: list[str] = []
    for book in books:
        for rule in book.rules[way]:
            text = f"{book.name} {way}: {rule}"
            if not rule.holds(packet):
                passed.append(f"{text} — it is other traffic")
            elif rule.group not in groups if rule.group else far not in rule.cidr:
                passed.append(f"{text} — {far} isn't in {rule.group or rule.cidr}")
            else:
                return VpcRow(text, tuple(passed), not rule.deny)
    names = ", ".join(book.name for book in books)
    return VpcRow(f"{names} {way}: no rule, so deny", tuple(passed), admits=False)
