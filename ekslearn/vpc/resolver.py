"""The Route 53 Resolver, as a VPC's ENIs meet it: its addresses, and how often each may ask.

Source: Amazon VPC user guide, "Amazon DNS server" (its addresses; neither security groups nor
network ACLs block it); AWS whitepaper "Hybrid Cloud DNS Options for Amazon VPC", "Constraints"
(1,024 packets that a network interface can send each second). In which steps AWS counts isn't
published: [model] whole seconds.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv4Network

LIMIT = 1024  # packets per ENI and second; nobody can have it raised
LINK_LOCAL = IPv4Address("169.254.169.253")
PORT = 53


class Resolver:
    """Counts what each ENI sends to the resolver.

    ``exceeded`` is what was dropped, by ENI: what `ethtool -S` on the instance calls
    linklocal_allowance_exceeded.
    """

    def __init__(self) -> None:
        self.sent: Counter[tuple[str, int]] = Counter()  # by ENI and second
        self.exceeded: Counter[str] = Counter()

    def admits(self, eni_id: str, clock: float) -> bool:
        """Whether one more packet of an ENI gets through now, at ``clock`` seconds."""
        key = eni_id, int(clock)
        passes = self.sent[key] < LIMIT
        self.sent[key] += passes
        self.exceeded[eni_id] += not passes
        return passes


def addresses(cidr: IPv4Network) -> tuple[IPv4Address, IPv4Address]:
    """Where the resolver answers in a VPC whose primary range is ``cidr``.

    >>> [str(each) for each in addresses(IPv4Network("10.0.0.0/16"))]
    ['10.0.0.2', '169.254.169.253']
    """
    return cidr[2], LINK_LOCAL
