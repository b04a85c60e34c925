"""Which features decided about a packet, by name, so that a sweep can say that all were tried."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ekslearn.linux import Decision, Lookup, Neighbor, Route, Rule
from ekslearn.linux import netfilter as nf
from ekslearn.linux.conntrack import Connection

# Every feature a sweep must have seen decide at least once.
WANTED: tuple[str, ...] = (
    *(f"match {name}" for name in (
        "-s", "-d", "-i", "-o", "-i name+", "-o name+", "-p icmp", "-p tcp", "-p udp", "--dport",
        "--sport", "port range", "addrtype --src-type", "addrtype --dst-type",
        "addrtype --limit-iface-in", "addrtype --limit-iface-out", "mark", "connmark", "comment",
        "statistic", "conntrack NEW", "conntrack ESTABLISHED", "conntrack RELATED",
        "conntrack INVALID", "conntrack SNAT", "conntrack DNAT", "! -s", "! -d", "! -i", "! -o",
        "! -p", "! port", "! addrtype", "! conntrack", "! mark", "! connmark", "! statistic",
        "recent --set", "recent --rcheck", "recent --update", "recent --remove", "recent --rdest",
        "recent --mask", "! recent",
    )),
    *(f"target {name}" for name in (
        "ACCEPT", "DROP", "RETURN", "jump", "goto", "MARK", "CONNMARK set", "CONNMARK save",
        "CONNMARK restore", "DNAT", "DNAT to port", "SNAT", "SNAT --random-fully", "MASQUERADE",
        "MASQUERADE --random-fully", "policy DROP", "policy ACCEPT", "REJECT tcp-reset",
        *(f"REJECT {code}" for code in (0, 1, 2, 3, 9, 10, 13)),
    )),
    *(f"route {name}" for name in (
        "unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit", "throw", "via",
        "on link", "onlink", "src", "longest prefix", "metric", "none",
    )),
    *(f"rule {name}" for name in (
        "from", "to", "iif", "oif", "fwmark", "fwmark/mask", "not", "other table",
        "table without an answer",
    )),
    *(f"conntrack {name}" for name in ("source", "destination", "error", "reply")),
    *(f"neighbor {name}" for name in ("PERMANENT", "learned", "no answer", "proxy ARP")),
    *(f"sysctl {name}" for name in (
        "rp_filter 1", "rp_filter 2", "forwarding off", "accept_local", "src_valid_mark",
        "send_redirects", "accept_redirects", "proxy_arp", "route_localnet",
    )),
    "martian source", "martian destination", "frame for another MAC", "link down", "TTL", "MTU",
    "sender told at once", "no route after OUTPUT", "veth's other end",
    *(f"icmp error {name}" for name in (
        "3/0", "3/1", "3/2", "3/3", "3/4", "3/9", "3/10", "3/13", "5/1", "11/0",
    )),
)  # fmt: skip


# What AWS decides, by a trace's stage and words; the words in brackets are part of the name.
AWS = tuple(re.compile(f"({stage}): .*?({words})") for stage, words in (
    ("vpc source check", ""), ("vpc destination check", ""), ("vpc mtu", ""), ("outside", ""),
    ("vpc security group|vpc network acl", "(?:in|e)gress: (?:not admitted|admitted|a known).*"),
    ("vpc route", "send to \\w+|comes in by \\w+|no route to|no ENI has|by tgw or pcx"),
    ("vpc igw|vpc nat", "rewrite the \\w+|has no public address|knows no such|nobody inside asked"),
    ("internet|tgw|pcx", "is private|no machine outside has|isn't modelled"),
    ("vpc", "doesn't carry|takes|is in no machine|nobody in"),
))  # fmt: skip
# Every decision of AWS and of the CNI that a sweep of clusters must have seen at least once.
WANTED_OF_CLUSTERS: tuple[str, ...] = (
    "vpc source check", "vpc mtu", "vpc takes", "vpc doesn't carry",
    *(f"vpc security group {way}: {word}" for way in ("ingress", "egress")
      for word in ("admitted", "not admitted", "a known connection")),
    *(f"vpc network acl {way}: {word}" for way in ("ingress", "egress")
      for word in ("admitted", "not admitted")),
    *(f"vpc route send to {target}" for target in ("local", "igw", "nat", "tgw", "pcx")),
    *(f"vpc route comes in by {target}" for target in ("tgw", "pcx")),
    "vpc route no route to", "vpc route no ENI has", "vpc route by tgw or pcx",
    *(f"vpc {gateway} rewrite the {end}" for gateway in ("igw", "nat")
      for end in ("source", "destination")),
    "vpc igw has no public address", "vpc nat nobody inside asked", "internet is private",
    "internet no machine outside has", "tgw no machine outside has",
    *(f"ip rule {priority}" for priority in (10, 512, 1024, 1535, 1536, 32765)),
    *(f"AWS {words}" for words in (
        "SNAT CHAIN: RETURN", "SNAT CHAIN EXCLUSION: RETURN", "SNAT: SNAT",
        "SNAT: SNAT --random", "SNAT: SNAT --random-fully", "primary ENI: CONNMARK set",
        "primary ENI: CONNMARK restore", "outbound connections: jump", "CONNMARK CHAIN: RETURN",
        "CONNMARK: CONNMARK set", "CONNMARK: CONNMARK restore",
    )),
    *(f"nft nat-prerouting: {word}" for word in ("RETURN", "jump", "CONNMARK restore")),
    "nft snat-mark: RETURN", "nft snat-mark: CONNMARK set", "branch ENI",
    *(f"in a cluster with {words}" for words in (
        "connmark by iptables", "connmark by nft", "external SNAT", "custom networking",
        "prefixes", "veth prefix", "no NodePort support", "another mark",
        "security groups for pods strict", "security groups for pods standard",
    )),
)  # fmt: skip


def decided_in_cluster(decision: Decision) -> Iterator[str]:
    """What AWS or the CNI decided here."""
    row, text = decision.row, f"{decision.stage}: {decision.verdict}"
    yield from (" ".join(found.groups()).strip() for one in AWS if (found := one.match(text)))
    if isinstance(row, Lookup) and row.rule and row.rule.priority not in (0, 32766, 32767):
        yield f"ip rule {row.rule.priority}"
    if isinstance(row, nf.Walk) and row.table not in nf.BUILT_IN:
        does = [name for name in _walk(row) if name.startswith("target")]
        yield f"nft {row.chain}: {' '.join(does).removeprefix('target ')}"
    elif isinstance(row, nf.Walk) and row.rule:
        comments = [one.text for one in row.rule.matches if isinstance(one, nf.Comment)]
        target = next((name for name in _walk(row) if name.startswith("target")), "target none")
        for comment in comments:
            if comment.startswith("AWS"):
                yield f"{comment.replace(',', '')}: {target.removeprefix('target ')}"


def remembers(decision: Decision) -> bool:
    """Whether a rule with -m recent was met: what it wrote down the next packet finds."""
    row = decision.row
    rules = [row.rule, *(each.rule for each in row.passed_over)] if isinstance(row, nf.Walk) else []
    return any(isinstance(match, nf.Recent) for rule in rules if rule for match in rule.matches)


def decided(decision: Decision) -> set[str]:
    """The features that made this decision."""
    row = decision.row
    if isinstance(row, nf.Walk):
        return set(_walk(row))
    if isinstance(row, Lookup):
        return set(_lookup(row, decision))
    if isinstance(row, Neighbor):
        return {f"neighbor {'PERMANENT' if row.state == 'PERMANENT' else 'learned'}"}
    if isinstance(row, Connection):
        if "error" in decision.verdict:
            return {"conntrack error"}
        return {"conntrack source" if "source" in decision.verdict else "conntrack destination",
                *(["conntrack reply"] if row.replied else [])}  # fmt: skip
    return set(_words(decision))


def _walk(walk: nf.Walk) -> Iterator[str]:
    if walk.rule is None:
        yield f"target policy {walk.verdict}"
        return
    for match in walk.rule.matches:
        yield from _match(match)
    target = walk.rule.target
    if isinstance(target, nf.Verdict):
        yield f"target {target.name}"
    elif isinstance(target, nf.Jump):
        yield f"target {'goto' if walk.rule.final else 'jump'}"
    elif isinstance(target, nf.Reject):
        yield f"target REJECT {'tcp-reset' if target.code is None else target.code}"
    elif isinstance(target, nf.SetMark):
        yield "target MARK"
    elif isinstance(target, nf.ConnectionMark):
        yield f"target CONNMARK {target.what}"
    elif isinstance(target, nf.Translate):
        name = "DNAT" if target.what == "target" else "SNAT" if target.address else "MASQUERADE"
        yield f"target {name}" + (f" {target.random}" if target.random else "")
        if target.port and name == "DNAT":
            yield "target DNAT to port"


def _match(match: nf.Match) -> Iterator[str]:
    names: list[str] = []
    plain = ""
    if isinstance(match, nf.Network):
        plain = f"-{match.side[0]}"
        names = [plain]
    elif isinstance(match, nf.Interface):
        plain = "-i" if match.way == "in" else "-o"
        names = [plain + (" name+" if match.name.endswith("+") else "")]
    elif isinstance(match, nf.Protocol):
        names, plain = [f"-p {match.name}"], "-p"
    elif isinstance(match, nf.Port):
        names = ["--dport" if match.side != "source" else "--sport"]
        names += ["port range"] if match.low != match.high else []
        plain = "port"
    elif isinstance(match, nf.AddressType):
        names = [f"addrtype --{'src' if match.side == 'source' else 'dst'}-type"]
        names += [f"addrtype --limit-iface-{match.limit}"] if match.limit else []
        plain = "addrtype"
    elif isinstance(match, nf.MarkMatch):
        plain = "connmark" if match.of_connection else "mark"
        names = [plain]
    elif isinstance(match, nf.State):
        names, plain = [f"conntrack {state}" for state in match.states], "conntrack"
    elif isinstance(match, nf.Chance):
        names, plain = ["statistic"], "statistic"
    elif isinstance(match, nf.Comment):
        names = ["comment"]
    elif isinstance(match, nf.Recent):
        names, plain = [f"recent --{match.what}"], "recent"
        names += ["recent --rdest"] if match.side == "destination" else []
        names += ["recent --mask"] if match.mask != nf.WHOLE else []
    for name in [f"! {plain}"] if match.negated else names:
        yield f"match {name}"


def _lookup(lookup: Lookup, decision: Decision) -> Iterator[str]:
    yield from _selectors(lookup.rule) if lookup.rule else ()
    over = tuple(decision.namespace.routing.passed_over(lookup))
    whys = {each.why for each in over}
    for each in over:
        if isinstance(each.row, Route) and each.why.startswith("it throws"):
            yield "route throw"
        if isinstance(each.row, Route) and " is longer than " in each.why:
            yield "route longest prefix"
        if isinstance(each.row, Route) and each.why.startswith("metric"):
            yield "route metric"
    if "its table has no route there" in whys:
        yield "rule table without an answer"
    route = lookup.route
    if route is None:
        yield "route none"
        return
    yield f"route {route.kind}"
    if route.kind == "unicast":
        yield "route via" if route.via else "route on link"
    if route.onlink:
        yield "route onlink"
    if route.src and route.protocol != 2 and decision.verdict.startswith("send"):
        yield "route src"
    packet, sysctls = decision.packet, decision.namespace.sysctls
    came = packet is not None and not decision.verdict.startswith(("send", "the packet stays"))
    if came and packet and decision.namespace.owns(packet.src):
        yield "sysctl accept_local"
    if came and decision.mark and sysctls["net.ipv4.conf.all.src_valid_mark"]:
        yield "sysctl src_valid_mark"


def _selectors(rule: Rule) -> Iterator[str]:
    if rule.inverted:
        yield "rule not"
    for name, value in (("from", rule.src), ("to", rule.dst), ("iif", rule.iif), ("oif", rule.oif)):
        if value:
            yield f"rule {name}"
    if rule.mark is not None:
        yield "rule fwmark" if rule.mask in (None, 0xFFFFFFFF) else "rule fwmark/mask"
    if rule.table not in (253, 254, 255):
        yield "rule other table"


def _words(decision: Decision) -> Iterator[str]:
    for words, name in (
        ("rp_filter 1", "sysctl rp_filter 1"), ("rp_filter 2", "sysctl rp_filter 2"),
        ("forwarding is off", "sysctl forwarding off"), ("martian source", "martian source"),
        ("martian destination", "martian destination"),
        ("the frame is for", "frame for another MAC"),
        ("the frame isn't sent", "link down"), ("the TTL is used up", "TTL"),
        ("and the packet says don't fragment", "MTU"), ("answers for", "neighbor no answer"),
        ("no route any more", "no route after OUTPUT"),
        ("the other end of", "veth's other end"), ("proxy ARP is on", "neighbor proxy ARP"),
    ):  # fmt: skip
        if words in decision.verdict:
            yield name
    if "proxy ARP is" in decision.verdict:
        yield "sysctl proxy_arp"


KINDS = re.compile(r"(KUBE-(?:SVC|SVL|EXT|SEP))-[A-Z2-7]{16}")  # chains of one Service's port


def decided_by_proxy(decision: Decision) -> Iterator[str]:
    """What kube-proxy's rules decided here: the kind of chain and what its row did."""
    row = decision.row
    if isinstance(row, nf.Walk) and row.rule and row.chain.startswith("KUBE-"):
        does = next((name for name in _walk(row) if name.startswith("target")), "target none")
        if isinstance(row.rule.target, nf.Jump):
            does = f"to {_kind(row.rule.target.chain)}"
        yield f"{row.table} {_kind(row.chain)}: {does.removeprefix('target ')}"


def _kind(chain: str) -> str:
    return KINDS.sub(r"\1", chain)


WANTED_OF_SERVICES = [
    "nat KUBE-SERVICES: to KUBE-SVC", "nat KUBE-SERVICES: to KUBE-SVL",
    "nat KUBE-SERVICES: to KUBE-NODEPORTS", "nat KUBE-SERVICES: to KUBE-EXT",
    "nat KUBE-NODEPORTS: to KUBE-EXT", "nat KUBE-EXT: to KUBE-MARK-MASQ",
    "nat KUBE-EXT: to KUBE-SVC", "nat KUBE-EXT: to KUBE-SVL", "nat KUBE-SVC: to KUBE-SEP",
    "nat KUBE-SVL: to KUBE-SEP", "nat KUBE-SEP: to KUBE-MARK-MASQ", "nat KUBE-SEP: DNAT",
    "nat KUBE-MARK-MASQ: MARK", "nat KUBE-POSTROUTING: RETURN", "nat KUBE-POSTROUTING: MARK",
    "nat KUBE-POSTROUTING: MASQUERADE --random-fully", "filter KUBE-SERVICES: REJECT 3",
    "filter KUBE-SERVICES: DROP", "filter KUBE-EXTERNAL-SERVICES: REJECT 3",
    "filter KUBE-EXTERNAL-SERVICES: DROP", "filter KUBE-FORWARD: ACCEPT",
    "filter KUBE-NODEPORTS: ACCEPT",
]  # fmt: skip
