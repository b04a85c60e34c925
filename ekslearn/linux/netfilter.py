"""Netfilter: tables of chains of rules, asked at five hooks, in the kernel's order.

Each match and each target is one small class: what it holds, what it tests, what it saw.
Source: net/ipv4/netfilter and net/netfilter of Linux 6.18, and iptables-extensions(8).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from .link import GLOBAL
from .packet import ECHO_REQUEST, UNREACHABLE, Skb

if TYPE_CHECKING:
    from .conntrack import Connection
    from .namespace import NetworkNamespace

ALL_BITS = 0xFFFFFFFF
WHOLE = IPv4Address(ALL_BITS)  # the mask that leaves an address as it is
FULL_CHANCE = 1 << 31  # a statistic match compares 31 random bits (net/netfilter/xt_statistic.c)
LISTED = 100  # addresses a list of -m recent has room for (ip_list_tot of xt_recent)
# Which table is asked in which order at each hook (linux/netfilter_ipv4.h, nf_ip_hook_priorities).
ORDER = {
    "PREROUTING": ("mangle", "nat"), "INPUT": ("mangle", "filter", "nat"),
    "FORWARD": ("mangle", "filter"), "OUTPUT": ("mangle", "nat", "filter"),
    "POSTROUTING": ("mangle", "nat"),
}  # fmt: skip
BUILT_IN = {table: tuple(hook for hook, tables in ORDER.items() if table in tables)
            for table in ("mangle", "filter", "nat")}  # fmt: skip


@dataclass(slots=True)
class Passage:
    """A packet passing a hook: what matches may look at and targets may change.

    ``iif`` and ``oif`` are interface names, empty where the packet has none at this hook.
    """

    namespace: NetworkNamespace
    hook: str
    skb: Skb
    iif: str = ""
    oif: str = ""

    @property
    def connection(self) -> Connection | None:
        """The connection the packet belongs to, if it is tracked."""
        return self.skb.binding.connection if self.skb.binding else None

    def address(self, side: str) -> IPv4Address:
        """The packet's "source" or "destination" address."""
        return self.skb.packet.src if side == "source" else self.skb.packet.dst

    def interface(self, way: str) -> str:
        """The interface the packet goes "in" or "out" by."""
        return self.iif if way == "in" else self.oif


# Matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One condition of a rule; ``negated`` where an exclamation mark stands before it."""

    negated: bool = False

    def holds(self, at: Passage) -> bool | None:
        """Whether the packet fulfils the condition, the exclamation mark left aside.

        None if it has nothing to compare: then it fails, exclamation mark or not.
        """
        raise NotImplementedError  # every match says it for itself

    def saw(self, at: Passage) -> str:
        """What the packet has instead, in words."""
        return ""

    def fulfilled(self, at: Passage) -> bool:
        """Whether the packet fulfils the condition as it stands in the rule."""
        holds = self.holds(at)
        return holds is not None and holds != self.negated


@dataclass(frozen=True, slots=True, kw_only=True)
class Network(Match):
    """``-s`` or ``-d``: the address of that ``side`` ("source", "destination") is in ``net``."""

    side: str
    net: IPv4Network

    def holds(self, at: Passage) -> bool:
        return at.address(self.side) in self.net

    def saw(self, at: Passage) -> str:
        return f"the {self.side} is {at.address(self.side)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface(Match):
    """``-i`` or ``-o``: the interface's name; one that ends in ``+`` stands for a beginning."""

    name: str
    way: str

    def holds(self, at: Passage) -> bool:
        name = at.interface(self.way)
        return name.startswith(self.name[:-1]) if self.name.endswith("+") else name == self.name

    def saw(self, at: Passage) -> str:
        return f"the packet goes {self.way} by {at.interface(self.way) or 'no interface'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol(Match):
    """``-p``: tcp, udp or icmp."""

    name: str

    def holds(self, at: Passage) -> bool:
        return at.skb.packet.protocol == self.name

    def saw(self, at: Passage) -> str:
        return f"the protocol is {at.skb.packet.protocol}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Port(Match):
    """``--sport`` or ``--dport``: a port, or a range of them, of TCP or UDP (``protocol``)."""

    protocol: str
    side: str
    low: int
    high: int

    def _port(self, at: Passage) -> int | None:
        packet = at.skb.packet
        return packet.sport if self.side == "source" else packet.dport

    def holds(self, at: Passage) -> bool:
        port = self._port(at)
        return port is not None and self.low <= port <= self.high

    def saw(self, at: Passage) -> str:
        return f"the {self.side} port is {self._port(at)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment(Match):
    """``-m comment``: always fulfilled; a note for whoever reads the rule."""

    text: str

    def holds(self, at: Passage) -> bool:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressType(Match):
    """``-m addrtype``: what kind of address this namespace's local table calls it.

    ``kind`` is upper case ("LOCAL"), or several with commas; ``side`` "source" or "destination";
    with ``limit`` "in" or "out" only an address of that interface counts. ``beside`` is set if one
    ``-m`` told it together with the condition before it.
    """

    side: str
    kind: str
    limit: str = ""
    beside: bool = False

    def _kind(self, at: Passage) -> str:
        link = at.namespace.links.get(at.interface(self.limit)) if self.limit else None
        return at.namespace.address_kind(at.address(self.side), link).upper()

    def holds(self, at: Passage) -> bool:
        return self._kind(at) in self.kind.split(",")

    def saw(self, at: Passage) -> str:
        return f"the {self.side} is a {self._kind(at)} address here"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkMatch(Match):
    """``-m mark`` or ``-m connmark``: the packet's, or its connection's, mark under a mask."""

    value: int
    mask: int = ALL_BITS
    of_connection: bool = False

    def holds(self, at: Passage) -> bool | None:
        owner = at.connection if self.of_connection else at.skb
        return owner.mark & self.mask == self.value if owner else None

    def saw(self, at: Passage) -> str:
        owner = at.connection if self.of_connection else at.skb
        whose = "connection" if self.of_connection else "packet"
        return f"the {whose}'s mark is {owner.mark:#x}" if owner else "there is no connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Match):
    """``-m conntrack --ctstate``: NEW, ESTABLISHED, RELATED, INVALID; SNAT and DNAT as well."""

    states: frozenset[str]
    option: str = "--ctstate"  # or --state, its older spelling

    def _states(self, at: Passage) -> set[str]:
        if at.skb.binding is None or at.connection is None:
            return {"INVALID"}
        connection = at.connection
        translated = {"SNAT": connection.translates_source, "DNAT": connection.translates_target}
        return {at.skb.binding.state} | {name for name, is_so in translated.items() if is_so}

    def holds(self, at: Passage) -> bool:
        return bool(self.states & self._states(at))

    def saw(self, at: Passage) -> str:
        return f"the connection is {' '.join(sorted(self._states(at)))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance(Match):
    """``-m statistic --mode random``: fulfilled ``threshold`` times in 2^31."""

    threshold: int

    def holds(self, at: Passage) -> bool:
        return at.namespace.world.random.getrandbits(31) < self.threshold

    def saw(self, at: Passage) -> str:
        return "the dice said no"


@dataclass(slots=True)
class RecentList:
    """A list of -m recent: each address under ``mask``, and when it came last; oldest first."""

    mask: IPv4Address
    came: dict[IPv4Address, float] = field(default_factory=dict)

    def put(self, address: IPv4Address, now: float) -> None:
        """Note that ``address`` came; where there is no room the oldest one goes."""
        if self.came.pop(address, None) is None and len(self.came) == LISTED:
            del self.came[next(iter(self.came))]
        self.came[address] = now


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent(Match):
    """``-m recent``: whether the address of that ``side`` is on the namespace's list ``name``.

    ``what`` is "set" (put it there), "rcheck" (it came within the last ``seconds``, if not 0),
    "update" (the same, and put it there anew) or "remove". With ``reap`` the list's oldest address
    goes if it came longer ago. The list has the mask of its first rule (net/netfilter/xt_recent.c);
    ``masked`` tells a rule that named its mask from one that didn't: for iptables they differ.
    """

    what: str
    name: str
    seconds: int = 0
    reap: bool = False
    mask: IPv4Address = WHOLE
    side: str = "source"
    masked: bool = False

    def _find(self, at: Passage) -> tuple[RecentList, IPv4Address, float]:
        held = at.namespace.netfilter.recent[self.name]
        address = IPv4Address(int(at.address(self.side)) & int(held.mask))
        return held, address, at.namespace.world.clock

    def holds(self, at: Passage) -> bool:
        held, address, now = self._find(at)
        if self.what == "set":
            held.put(address, now)
        if self.what == "remove" or address not in held.came:
            return held.came.pop(address, None) is not None
        fresh = not self.seconds or now - held.came[address] <= self.seconds
        again = self.what == "update" and fresh != self.negated
        oldest, since = next(iter(held.came.items()))
        if self.reap and now - since > self.seconds:
            del held.came[oldest]
        if again:
            held.put(address, now)
        return fresh

    def saw(self, at: Passage) -> str:
        held, address, now = self._find(at)
        when = f"came {now - held.came[address]:g} s ago" if address in held.came else "isn't on it"
        return f"of the list {self.name}: the {self.side} {address} {when}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter(Match):
    """``counter`` of nft: always fulfilled; ``seen`` is how many packets came so far, and bytes."""

    seen: list[int] = field(default_factory=lambda: [0, 0], compare=False)

    def holds(self, at: Passage) -> bool:
        self.seen[:] = self.seen[0] + 1, self.seen[1] + at.skb.packet.size
        return True


# Targets


# What a rule does with a packet. ``act`` answers with a verdict, or "" to go on; ``did`` says
# afterwards, in words, what was done.


def flipped(mark: int, mask: int, bits: int) -> int:
    """``mark`` with the bits of ``mask`` cleared, then ``bits`` flipped."""
    return (mark & ~mask & ALL_BITS) ^ bits


@dataclass(frozen=True, slots=True)
class Verdict:
    """ACCEPT, DROP or RETURN."""

    name: str

    def act(self, at: Passage) -> str:
        return self.name

    def did(self, at: Passage) -> str:
        return {"ACCEPT": "accept", "DROP": "drop", "RETURN": "go back"}[self.name]


@dataclass(frozen=True, slots=True)
class Jump:
    """Go on in another chain; come back if that one doesn't decide."""

    chain: str

    def act(self, at: Passage) -> str:
        return "JUMP"

    def did(self, at: Passage) -> str:
        return f"go on in {self.chain}"


@dataclass(frozen=True, slots=True)
class Reject:
    """REJECT: drop, and say so by ICMP (``code`` of type 3) or, with code None, by a TCP reset."""

    code: int | None = 3

    def act(self, at: Passage) -> str:
        ns, skb, icmp = at.namespace, at.skb, at.skb.packet.icmp
        if skb.iif is None and icmp and icmp[0] != ECHO_REQUEST:
            return "DROP"  # while the kernel speaks ICMP itself it can't complain (icmp_xmit_lock)
        if self.code is not None:
            ns.world.later(ns.ip.send_error, skb, (UNREACHABLE, self.code), "rejected")
        elif skb.packet.protocol == "tcp" and skb.packet.flags != "RST":
            ns.world.later(ns.ip.send_reset, skb)
        return "DROP"

    def did(self, at: Passage) -> str:
        return "drop, and tell the sender"


@dataclass(frozen=True, slots=True)
class SetMark:
    """MARK --set-xmark: clear the bits of ``mask``, then flip those of ``value``."""

    value: int
    mask: int = ALL_BITS

    def act(self, at: Passage) -> str:
        at.skb.mark = flipped(at.skb.mark, self.mask, self.value)
        return ""

    def did(self, at: Passage) -> str:
        return f"the packet's mark is now {at.skb.mark:#x}"


@dataclass(frozen=True, slots=True)
class ConnectionMark:
    """CONNMARK: ``what`` is "set", "save" (packet to connection) or "restore" (the other way).

    For "set", ``value`` and ``ctmask`` are those of --set-xmark.
    """

    what: str
    value: int = 0
    ctmask: int = ALL_BITS
    nfmask: int = ALL_BITS

    def act(self, at: Passage) -> str:
        connection, skb = at.connection, at.skb
        if connection is None:
            return ""
        if self.what == "set":
            connection.mark = flipped(connection.mark, self.ctmask, self.value)
        elif self.what == "save":
            connection.mark = flipped(connection.mark, self.ctmask, skb.mark & self.nfmask)
        else:
            skb.mark = flipped(skb.mark, self.nfmask, connection.mark & self.ctmask)
        return ""

    def did(self, at: Passage) -> str:
        if at.connection is None:
            return "nothing: the packet belongs to no connection"
        if self.what == "restore":
            return f"the packet's mark is now {at.skb.mark:#x}, from its connection"
        return f"the connection's mark is now {at.connection.mark:#x}"


@dataclass(frozen=True, slots=True)
class Translate:
    """SNAT ("source"), DNAT ("target") or MASQUERADE (``address`` None): bind a new address.

    ``port`` 0 keeps the port where it is free. ``random`` is "", "--random" or "--random-fully".
    """

    what: str
    address: IPv4Address | None = None
    port: int = 0
    random: str = ""

    def act(self, at: Passage) -> str:
        ns, address = at.namespace, self.address
        if at.connection is None or (address is None and not int(at.skb.packet.src)):
            return "ACCEPT"  # MASQUERADE leaves 0.0.0.0 as it is
        if address is None:
            next_hop, at.connection.leaves = at.skb.gateway or at.skb.packet.dst, at.skb.oif
            address = ns.select_address(ns.links[at.oif], next_hop, GLOBAL)
        if address is None:
            return "DROP"
        ns.conntrack.bind(at.connection, self.what, address, self.port, bool(self.random))
        return "ACCEPT"

    def did(self, at: Passage) -> str:
        if at.connection is None:
            return "nothing: the packet belongs to no connection"
        reply = at.connection.reply
        if self.what == "target":
            return f"bind the connection's destination to {reply.src}:{reply.sport}"
        return f"bind the connection's source to {reply.dst}:{reply.dport}"


Target = Verdict | Jump | Reject | SetMark | ConnectionMark | Translate


# Rules and chains


@dataclass(frozen=True, slots=True)
class ChainRule:
    """One row of a chain: conditions, and what to do where all of them are fulfilled.

    A rule without target only counts. ``final`` is -g: don't come back to this chain.
    """

    matches: tuple[Match, ...] = ()
    target: Target | None = None
    final: bool = False

    @property
    def tracks(self) -> bool:
        """Whether the rule can't do without conntrack."""
        marks = (match.of_connection for match in self.matches if isinstance(match, MarkMatch))
        states = (isinstance(match, State) for match in self.matches)
        return isinstance(self.target, ConnectionMark | Translate) or any(marks) or any(states)

    def differs(self, at: Passage) -> Match | None:
        """The first condition the packet doesn't fulfil, None if it fulfils them all."""
        return next((match for match in self.matches if not match.fulfilled(at)), None)


@dataclass(slots=True)
class Chain:
    """A list of rules; ``policy`` is what a built-in chain does at its end, else empty."""

    name: str
    policy: str = ""
    rules: list[ChainRule] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Seen:
    """A row of a chain that a packet met, and why it was passed over; empty if it was taken."""

    chain: str
    rule: ChainRule
    why: str = ""


@dataclass(frozen=True, slots=True)
class Walk:
    """One rule taken at one hook: ``table``, ``chain`` and rule, and the rows passed on the way.

    ``rule`` is None where the end of a built-in chain decided, by its policy.
    """

    table: str
    hook: str
    chain: str
    rule: ChainRule | None
    verdict: str
    did: str
    passed_over: tuple[Seen, ...]


class Netfilter:
    """The tables of one namespace, in the order they were made.

    Besides those of iptables there may be nft's ("ip aws-cni"), where a base chain, of type nat,
    stands under its hook. ``nat`` names the tables that are asked for translations, in their order;
    ``made`` is how many tables there ever were; ``recent`` has the lists of -m recent by name.
    """

    def __init__(self, namespace: NetworkNamespace) -> None:
        self._ns = namespace
        self.tables: dict[str, dict[str, Chain]] = {}
        self.nat: list[str] = []
        self.made = 0
        self.recent: dict[str, RecentList] = {}

    def put(self, table: str, chains: dict[str, Chain] | None, anew: bool = False) -> None:
        """Take ``chains`` as what ``table`` holds now, None for no such table.

        With ``anew`` it comes in place of a table that goes. Conntrack runs, and a list of -m
        recent is kept, while some rule needs it.
        A built-in chain that was never used isn't there, and lets everything pass.
        """
        before = {name: held for name, held in self.tables.items() if not anew or name != table}
        changed: dict[str, dict[str, Chain] | None] = {**before, table: chains}
        self.made += table not in before and chains is not None
        self.tables = {name: held for name, held in changed.items() if held is not None}
        self.nat = [name for name in sorted(self.tables, key="nat".__ne__)
                    if (name == "nat" or name not in BUILT_IN)
                    and any(each.policy for each in self.tables[name].values())]  # fmt: skip
        rules = [rule for held in self.tables.values() for c in held.values() for rule in c.rules]
        self._ns.conntrack.active = any(rule.tracks for rule in rules)
        self.recent = {match.name: self.recent.get(match.name) or RecentList(match.mask)
                       for rule in reversed(rules) for match in rule.matches
                       if isinstance(match, Recent)}  # fmt: skip

    def run(self, table: str, hook: str, skb: Skb) -> bool:
        """Walk a packet through the chain of ``hook``; False if it ends there."""
        chains = self.tables.get(table, {})
        if hook not in chains:
            return True
        iif, oif = skb.iif.name if skb.iif else "", skb.oif.name if skb.oif else ""
        at, passed = Passage(self._ns, hook, skb, iif, oif), list[Seen]()
        name, policy = chains[hook].name, chains[hook].policy
        verdict = self._walk(table, chains, hook, at, passed)
        if not verdict and (passed or policy == "DROP"):
            did = f"no rule decided: policy {policy}"
            self._note(at, Walk(table, hook, name, None, policy, did, tuple(passed)))
        return (verdict or policy) == "ACCEPT"

    def _walk(self, table: str, chains: dict[str, Chain], name: str, at: Passage,
              passed: list[Seen]) -> str:  # fmt: skip
        """What the rules of a chain decide; empty if they don't: RETURN, or the chain's end."""
        explain, chain = self._ns.world.recorder is not None, chains[name].name
        for rule in chains[name].rules:
            if differs := rule.differs(at):
                if explain:
                    passed.append(Seen(chain, rule, differs.saw(at)))
                continue
            verdict = rule.target.act(at) if rule.target else ""
            if explain:
                did = rule.target.did(at) if rule.target else "counted"
                self._note(at, Walk(table, at.hook, chain, rule, verdict, did, tuple(passed)))
                passed.clear()
            if isinstance(rule.target, Jump):
                verdict = self._walk(table, chains, rule.target.chain, at, passed)
                if rule.final and not verdict:
                    return ""
            if verdict:
                return "" if verdict == "RETURN" else verdict
        return ""

    def _note(self, at: Passage, walk: Walk) -> None:
        stage = f"{walk.table} {walk.hook}"
        self._ns.note(at.skb, stage, walk.did, walk, lost=walk.verdict == "DROP")
