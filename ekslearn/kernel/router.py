"""AWS's part of a cluster on the real kernel: one namespace, ``aws_vpc``, plays all of the VPC.

Every interface that AWS gives a machine is a veth whose other end is ``portN`` here. Written from
the same words as ``ekslearn.vpc.fabric``, so what it proves about AWS is that both are the same
words; what a machine's own kernel does with a packet it proves for good. How it works:

- raw: the subnet's route table chooses a way, which is noted as the packet's mark. Each way has a
  conntrack zone of its own: what answers by another way is no answer.
- mangle: no TTL is taken; source check; security groups; network ACLs. nat: igw and NAT gateway.
- Routes: each address leads to the port of its ENI, with the ENI's MAC; a route's MTU is its way's.
  ARP, which has no mark, sees the subnet's gateway and the subnet's addresses and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any

from ekslearn.linux.link import invented_mac
from ekslearn.vpc.fabric import PATH_MTU, PRIVATE
from ekslearn.vpc.model import NAT_GATEWAY, Eni, Private
from ekslearn.vpc.security import NetworkAcl, SecurityGroup, Traffic

if TYPE_CHECKING:
    from ekslearn.cluster import Cluster, Wire

SPACE = "aws_vpc"  # no Kubernetes name holds an underscore
NEAR, LOCAL, TRANSIT, IGW, NAT = 1, 2, 4, 8, 16  # ways, as marks: within a subnet, within the VPC …
WAY = {"local": "local", "igw": "igw", "nat": "nat", "tgw": "transit", "pcx": "transit"}
INSIDE, INTERNET, BEYOND, ASKED, FIRST = 1, 2, 3, 99, 100  # tables; a subnet's ARP from FIRST on
JUMBO = 9216  # bytes a port takes: what the ENI may send at most
NOT_FORWARDED = "169.254.0.0/16,224.0.0.0/4,255.255.255.255"
KNOWN = "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
BASE = """\
net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0
net.ipv4.conf.default.proxy_arp=1""".split()


def stage(name: str) -> bool:
    """Whether a trace's stage is AWS's part."""
    return name.split()[0] in ("vpc", "internet", "outside", "tgw", "pcx")


def prepare() -> list[str]:
    """The switches of the router, set before any port exists."""
    return ["sysctl", "-q", "-w", *BASE]


def plug(port: str, mac: str, namespace: str, interface: str, end_mac: str) -> list[list[str]]:
    """Let an interface appear in a namespace: the words of commands to run here."""
    ours, theirs = f"{port} address {mac} mtu {JUMBO}", f"{interface} address {end_mac}"
    return [f"ip link add {ours} type veth peer name {theirs} netns {namespace}".split(),
            f"ip link set {port} up".split(),
            f"sysctl -q -w net.ipv4.neigh.{port}.proxy_delay=0".split()]  # fmt: skip


def unplug(port: str) -> list[str]:
    """Let it disappear."""
    return ["ip", "link", "del", port]


def port_mac(cluster: Cluster, eni_id: str) -> str:
    """The MAC that the router shows to an ENI, or to a machine outside (no id)."""
    fabric = cluster.fabric
    return fabric.router_mac(cluster.vpc.enis[eni_id].subnet) if eni_id else invented_mac("outside")


class Router:
    """The router's state at the end, for the interfaces that are there by then."""

    def __init__(self, cluster: Cluster, ports: Mapping[str, Wire]) -> None:
        self.ports, self.vpc = ports, cluster.vpc
        self.subnets = list(self.vpc.subnets.values())
        self.enis: dict[str, Eni] = {}
        self.hosts: dict[str, Sequence[IPv4Address]] = {}
        for port, wire in ports.items():
            if wire.eni:
                self.enis[port] = self.vpc.enis[wire.eni]
            else:
                self.hosts[port] = cluster.fabric.outside(wire.place)
        self._numbers: dict[str, int] = {}

    def batch(self) -> str:
        """What `ip -batch` reads: addresses, rules, routes and neighbors."""
        return "\n".join(["link set lo up", *self._rules(), *self._inside(), *self._outside(), ""])

    def _rules(self) -> Iterator[str]:
        for at, subnet in enumerate(self.subnets, FIRST):
            yield f"addr add {subnet.gateway}/32 dev lo"
            yield f"route add local {subnet.gateway} dev lo table {at}"
            yield f"route add throw {subnet.cidr} table {at}"
            yield f"route add blackhole default table {at}"
        yield f"route add default dev lo table {ASKED}"
        for port in (*self.enis, *self.hosts):
            eni = self.enis.get(port)
            table = FIRST + self.subnets.index(eni.subnet) if eni else ASKED
            yield f"rule add pref 10 iif {port} fwmark 0/0xff lookup {table}"
        yield f"rule add pref 20 lookup {INSIDE}"
        yield "rule add pref 30 lookup local"
        yield "rule del pref 0"
        yield f"rule add pref 40 fwmark {TRANSIT}/0xff lookup {BEYOND}"
        yield f"rule add pref 50 lookup {INTERNET}"

    def _inside(self) -> Iterator[str]:
        for cidr in self.vpc.cidrs:
            yield f"route add blackhole {cidr} table {INSIDE}"
        for port, eni in self.enis.items():
            for what in held(eni):
                own = f"src {eni.subnet.gateway} mtu {PATH_MTU['local']} table {INSIDE}"
                yield f"route add {what} dev {port} {own}"
                for each in what if isinstance(what, IPv4Network) else [what]:
                    yield f"neigh add {each} lladdr {eni.mac} dev {port} nud permanent"

    def _outside(self) -> Iterator[str]:
        yield f"route add blackhole default table {INTERNET}"
        for port, addresses in self.hosts.items():
            for each in addresses:
                yield f"neigh add {each} lladdr {self.ports[port].mac} dev {port} nud permanent"
                yield f"route add {each} dev {port} mtu {PATH_MTU['igw']} table {INTERNET}"
                yield f"route add {each} dev {port} mtu {PATH_MTU['tgw']} table {BEYOND}"

    # Filters and translations

    def tables(self) -> str:
        """What `iptables-restore` reads."""
        text = []
        for table, rules in ("raw", self._ways), ("mangle", self._filters), ("nat", self._edge):
            rows = "\n".join(rules())
            chains = dict.fromkeys(re.findall(r"-[Ajg] ([a-z]\S*)", rows))
            text += [f"*{table}", *(f":{chain} -" for chain in chains), rows, "COMMIT", ""]
        return "\n".join(text)

    def _ways(self) -> Iterator[str]:
        """By which way a packet goes: the subnets' route tables."""
        private = ",".join(map(str, PRIVATE))
        for port, eni in self.enis.items():
            yield f"-A PREROUTING -i {port} -g table{self.subnets.index(eni.subnet)}"
        yield from (f"-A PREROUTING -i {port} -g outside" for port in self.hosts)
        yield f"-A outside -d {NAT_GATEWAY} -g nat"
        for at, subnet in enumerate(self.subnets):
            yield f"-A table{at} -d {NOT_FORWARDED} -j DROP"
            yield f"-A table{at} -d {subnet.cidr} -g near"
            yield f"-A outside -d {subnet.cidr} -g into{at}"
            for route in subnet.table.routes:
                yield f"-A table{at} -d {route.destination} -g {WAY[route.target]}"
                way = "-g transit" if WAY[route.target] == "transit" else "-j DROP"
                yield f"-A into{at} -s {route.destination} {way}"
            yield from (f"-A {chain}{at} -j DROP" for chain in ("table", "into"))
        yield from (f"-A outside -d {cidr} -j DROP" for cidr in self.vpc.cidrs)
        yield f"-A outside -s {private} -j DROP"
        yield "-A outside -g igw"
        yield from (f"-A {way} -d {private} -j DROP" for way in ("igw", "nat"))
        yield f"-A igw -d {NAT_GATEWAY} -j CT --zone {NAT}"
        for way, mark, zone in (("near", NEAR, LOCAL), ("local", LOCAL, LOCAL), ("igw", IGW, IGW),
                                ("transit", TRANSIT, TRANSIT), ("nat", NAT, NAT)):  # fmt: skip
            yield f"-A {way} -j MARK --set-mark {mark}"
            yield f"-A {way} -j CT --zone {zone}"
            yield f"-A {way} -j ACCEPT"

    def _filters(self) -> Iterator[str]:
        """Source check, security groups and network ACLs, where the packet looks as it does."""
        yield "-A PREROUTING -j TTL --ttl-inc 1"
        yield f"-A PREROUTING -m mark --mark {NAT} -m conntrack --ctstate INVALID -j DROP"
        for port in self.hosts:
            yield f"-A PREROUTING -i {port} -m rpfilter --invert -j DROP"
            yield f"-A FORWARD -i {port} -g from-outside"
            yield f"-A from-outside -o {port} -j DROP"
        for port, eni in self.enis.items():
            if eni.source_dest_check:
                yield f"-A PREROUTING -i {port} -m rpfilter --invert -j DROP"
            public = f"! -s {eni.primary}" if eni.public_ip else ""
            yield f"-A FORWARD -i {port} -m mark --mark {IGW} {public} -j DROP"
            at = self.subnets.index(eni.subnet)
            for chain, end in (("FORWARD", "-i"), ("POSTROUTING", "-o")):
                if eni.subnet.nacl:
                    yield f"-A {chain} {end} {port} -m mark ! --mark {NEAR} -j acl{at}{end}"
        yield "-A POSTROUTING -m mark --mark 0 -j ACCEPT"
        yield from self._security_groups()
        for at, subnet in enumerate(self.subnets):
            for end, far, rules in _both(subnet.nacl):
                for rule in rules:
                    verdict = "RETURN" if rule.allow else "DROP"
                    yield f"-A acl{at}{end} {far} {rule.cidr} {_traffic(rule)} -j {verdict}"
                yield f"-A acl{at}{end} -j DROP"

    def _security_groups(self) -> Iterator[str]:
        for port, eni in self.enis.items():
            for hook, end in ("PREROUTING", "-i"), ("POSTROUTING", "-o"):
                if eni.security_groups:
                    yield f"-A {hook} {end} {port} {KNOWN}"
                for group in eni.security_groups:
                    yield f"-A {hook} {end} {port} -j {self._chain(group.name)}{end}"
                if eni.security_groups:
                    yield f"-A {hook} {end} {port} -j DROP"
        enis = self.vpc.enis.values()
        for group in dict.fromkeys(one for eni in enis for one in eni.security_groups):
            for end, far, rules in _both(group):
                for rule in rules:
                    whom = f"{far} {rule.cidr} -j ACCEPT"
                    whom = f"-j {self._chain(rule.group)}{far}" if rule.group else whom
                    yield f"-A {self._chain(group.name)}{end} {_traffic(rule)} {whom}"
                members = [eni for eni in enis if group in eni.security_groups]
                for each in (one for eni in members for one in held(eni)):
                    yield f"-A {self._chain(group.name)}{far} {far} {each} -j ACCEPT"

    def _chain(self, group: str) -> str:
        """A chain's name for a security group, whose own may be too long for one."""
        return f"sg{self._numbers.setdefault(group, len(self._numbers))}"

    def _edge(self) -> Iterator[str]:
        """The internet gateway, one to one, and the NAT gateway."""
        yield from (f"-A PREROUTING -m mark --mark {mark} -j public" for mark in (IGW, NAT))
        for eni in self.enis.values():
            if eni.public_ip:
                yield f"-A public -d {eni.public_ip} -j DNAT --to-destination {eni.primary}"
                source = f"-s {eni.primary} -j SNAT --to-source {eni.public_ip}"
                yield f"-A POSTROUTING -m mark --mark {IGW} {source}"
        yield f"-A POSTROUTING -m mark --mark {NAT} -j SNAT --to-source {NAT_GATEWAY}"


def held(eni: Eni) -> list[Private]:
    """The addresses and prefixes of an ENI."""
    return [eni.primary, *eni.secondary, *eni.prefixes]


def _both(rules: SecurityGroup | NetworkAcl | None) -> Iterator[tuple[str, str, Sequence[Any]]]:
    """Rules for what comes from a port and for what goes to one; and where the far end stands."""
    if rules:
        yield "-i", "-d", rules.egress
        yield "-o", "-s", rules.ingress


def _traffic(rule: Traffic) -> str:
    """A rule's protocol and ports."""
    if rule.protocol == "all":
        return ""
    first, last = rule.from_port, rule.to_port
    if first is None:
        return f"-p {rule.protocol}"
    if rule.protocol == "icmp":
        return f"-p icmp --icmp-type {first}" + ("" if last is None else f"/{last}")
    return f"-p {rule.protocol} --dport {first}:{first if last is None else last}"
