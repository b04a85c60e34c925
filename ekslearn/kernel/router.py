"""AWS's part of a cluster on the real kernel: one namespace, ``aws_vpc``, plays all of the VPC.

Every interface that AWS gives a machine is a veth whose other end is ``portN`` here. It says the
same as ``ekslearn.fabric``, so about AWS it proves nothing but that; what a machine's own
kernel does with a packet, it proves for good. How it works:

- raw: the subnet's route table chooses a way, kept as the packet's mark. Each way has a conntrack
  zone of its own: what comes back by another way is no answer.
- mangle: no TTL is taken; source check, security groups, network ACLs. nat: igw and NAT gateway.
- Routes: each address leads to its ENI's port, with the ENI's MAC. The MTU is that of the way.
- ARP has no mark. It sees the subnet's gateway and the subnet's addresses and nothing else.

Where it can't say what the model says, and nobody asks: from inside to a public address of the
VPC, filters see the private ones, and the MTU is 9001; a connection that came in by the igw and
is answered through another gateway is a new one to security groups; once a reset has ended one,
an error about it isn't translated. ARP names the router's MAC, where AWS names the ENI's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network

from ekslearn.cluster import Cluster, Wire
from ekslearn.fabric import PATH_MTU, PRIVATE
from ekslearn.kernel import balancer
from ekslearn.vpc.model import NAT_GATEWAY
from ekslearn.vpc.security import SecurityRule

SPACE = "aws_vpc"  # no Kubernetes name holds an underscore
# The ways, as marks: within the subnet, within the VPC, and by the gateways. Of those, 4 is what
# translates nothing, 16 what does.
MARKS = {"near": 1, "local": 2, "tgw": 4, "pcx": 4 | 8, "igw": 16, "nat": 16 | 32}
IGW, NAT = (f"-m mark --mark {MARKS[way]}/0xff" for way in ("igw", "nat"))
INSIDE, INTERNET, BEYOND, ASKED, FIRST = 1, 2, 3, 99, 100  # tables; a subnet's ARP from FIRST on
NOT_PUBLIC = ",".join(map(str, PRIVATE))
NOT_CARRIED = "169.254.0.0/16,224.0.0.0/4,255.255.255.255"
# A connection's mark says whose security groups have let it out, and whose in.
BEGINS = "-m conntrack --ctstate NEW -j CONNMARK"
KNOWN = "-m conntrack --ctstate ESTABLISHED,RELATED -m connmark"
# What a machine sends and what it gets: hook, its port's end, the other's address, the rules.
SIDES = ("PREROUTING", "-i", "-d", "egress"), ("POSTROUTING", "-o", "-s", "ingress")


class Router:
    """What the router holds at the end, for the interfaces that are there by then."""

    def __init__(self, cluster: Cluster, ports: Mapping[str, Wire]) -> None:
        self.vpc, self.subnets = cluster.vpc, list(cluster.vpc.subnets.values())
        self.enis = {port: self.vpc.enis[one.eni] for port, one in ports.items() if one.eni}
        self.at = {port: self.subnets.index(eni.subnet) for port, eni in self.enis.items()}
        self.networks = balancer.ports(cluster, self.enis)
        self.hosts = {port: one for port, one in ports.items() if not one.eni}
        self.outside, enis = cluster.fabric.outside, self.vpc.enis.values()
        self.groups = {each.name: each for one in enis for each in one.security_groups}
        self.held = {one: [one.primary, *one.secondary, *one.prefixes] for one in enis}
        self._numbers: dict[str, int] = {}

    def programs(self) -> tuple[tuple[list[str], str], ...]:
        """The programs that set it up, and what they read."""
        rows = "\n".join(["link set lo up", *self._gateways(), *self._rules(), *self._routes(), ""])
        return (["ip", "-batch", "-"], rows), (["iptables-restore", "--noflush"], self._tables())

    def _gateways(self) -> Iterator[str]:
        """Who is answered for in a subnet."""
        for at, subnet in enumerate(self.subnets, FIRST):
            yield f"addr add {subnet.gateway}/32 dev lo"
            ways = f"local {subnet.gateway} dev lo", f"throw {subnet.cidr}", "blackhole default"
            yield from (f"route add {way} table {at}" for way in ways)

    def _rules(self) -> Iterator[str]:
        for port, at in self.at.items():
            yield f"rule add pref 10 iif {port} fwmark 0/0xff lookup {FIRST + at}"
        for port in self.hosts:  # what machines outside say to each other isn't modelled
            yield f"rule add pref 10 iif {port} fwmark 0/0xff lookup {ASKED}"
            yield f"rule add pref 40 iif {port} blackhole"
        yield f"rule add pref 20 lookup {INSIDE}"
        yield "rule add pref 30 lookup local"
        yield "rule del pref 0"
        yield f"rule add pref 50 fwmark {MARKS['tgw']:#x}/{MARKS['tgw']:#x} lookup {BEYOND}"
        yield f"rule add pref 60 lookup {INTERNET}"

    def _routes(self) -> Iterator[str]:
        yield from balancer.routed(self.enis, self.networks)
        for cidr in self.vpc.cidrs:
            yield f"route add blackhole {cidr} table {INSIDE}"
        for port, eni in self.enis.items():
            for what in self.held[eni]:
                rest = f"dev {port} src {eni.subnet.gateway} mtu {PATH_MTU['local']}"
                yield f"route add {what} {rest} table {INSIDE}"
                for each in what if isinstance(what, IPv4Network) else [what]:
                    yield f"neigh add {each} lladdr {eni.mac} dev {port} nud permanent"
        for table, way in (ASKED, "igw"), (INTERNET, "igw"), (BEYOND, "tgw"):
            yield f"route add default dev lo mtu {PATH_MTU[way]} table {table}"  # to nobody
            for port, wire in self.hosts.items():
                for each in self.outside(wire.place):
                    yield f"route add {each} dev {port} mtu {PATH_MTU[way]} table {table}"
                    yield f"neigh replace {each} lladdr {wire.mac} dev {port} nud permanent"

    def _tables(self) -> str:
        """Rules of each table."""
        text = []
        for table, rules in ("raw", self._ways), ("mangle", self._filters), ("nat", self._edge):
            rows = list(rules())
            chains = dict.fromkeys(re.findall(r"-[Ajg] ([a-z]\S*)", "\n".join(rows)))
            rows = [*(f":{chain} -" for chain in chains), *rows]
            text.append(balancer.restored(table, rows))
        return "".join(text)

    def _ways(self) -> Iterator[str]:
        """By which way a packet goes: the subnets' route tables."""
        yield from balancer.marked(self.networks)
        yield from (f"-A PREROUTING -i {port} -g table{at}" for port, at in self.at.items())
        yield from (f"-A PREROUTING -i {port} -g outside" for port in self.hosts)
        yield f"-A outside -d {NAT_GATEWAY} -g nat"
        for at, subnet in enumerate(self.subnets):
            yield f"-A table{at} -d {NOT_CARRIED} -j DROP"
            yield f"-A table{at} -d {subnet.cidr} -g near"
            yield f"-A outside -d {subnet.cidr} -g into{at}"
            for route in subnet.table.routes:
                yield f"-A table{at} -d {route.destination} -g {route.target}"
                way = f"-g {route.target}" if route.target in ("tgw", "pcx") else "-j DROP"
                yield f"-A into{at} -s {route.destination} {way}"
            yield from (f"-A {chain}{at} -j DROP" for chain in ("table", "into"))
        yield from (f"-A outside -d {cidr} -j DROP" for cidr in self.vpc.cidrs)
        yield from (f"-A outside -s {NOT_PUBLIC} -j DROP", "-A outside -g igw")
        yield f"-A igw -d {NAT_GATEWAY} -g nat"
        for way, mark in MARKS.items():
            yield f"-A {way} -j MARK --set-xmark {mark}/0xff"
            yield from (f"-A {way} -j CT --zone {max(mark, MARKS['local'])}", f"-A {way} -j ACCEPT")

    def _filters(self) -> Iterator[str]:
        """What AWS drops, each where the packet looks as AWS sees it."""
        far = f"-m mark ! --mark {MARKS['near']}/0xff"
        yield from ("-A PREROUTING -j TTL --ttl-inc 1", "-A FORWARD -o lo -j DROP")
        yield f"-A PREROUTING {NAT} -m conntrack --ctstate INVALID -j DROP"
        for port in self.hosts:
            yield f"-A FORWARD -o {port} -m mark --mark 16/16 -d {NOT_PUBLIC} -j DROP"
        checked = [port for port, eni in self.enis.items() if eni.source_dest_check]
        for port in (*checked, *self.hosts):
            yield f"-A PREROUTING -i {port} -m rpfilter --invert -j DROP"
        for port, eni in self.enis.items():
            public = f"! -s {eni.primary}" if eni.public_ip else ""
            yield f"-A FORWARD -i {port} {IGW} {public} -j DROP"
            yield f"-A FORWARD -i {port} {far} -j acl{self.at[port]}-i"
            yield f"-A POSTROUTING -o {port} {far} -j acl{self.at[port]}-o"
        yield "-A POSTROUTING -m mark --mark 0 -j ACCEPT"  # the router's own: an ICMP error
        for number, (port, eni) in enumerate(self.enis.items(), 1):
            marks = f"{number:#x}/0xfff", f"{number << 12:#x}/0xfff000"
            for own, (hook, end, _, _) in zip(marks, SIDES, strict=True):
                here = f"-A {hook} {end} {port}"
                if eni.security_groups:
                    yield from (f"{here} {KNOWN} --mark {mark} -j ACCEPT" for mark in marks)
                    yield f"{here} {BEGINS} --set-mark {own}"
                    chains = [f"{self._chain(group.name)}{end}" for group in eni.security_groups]
                    yield from (f"{here} -j {chain}" for chain in (*chains, "DROP"))
        yield from self._books()

    def _books(self) -> Iterator[str]:
        """A chain for each side of a network ACL or security group, and one of who is in it."""
        for _, end, far, side in SIDES:
            for at, subnet in enumerate(self.subnets):
                for rule in subnet.nacl.rules[side] if subnet.nacl else [SecurityRule()]:
                    verdict = "DROP" if rule.deny else "RETURN"
                    yield f"-A acl{at}{end} {far} {rule.cidr} {_traffic(rule)} -j {verdict}"
                yield f"-A acl{at}{end} -j DROP"
            if far == "-s":
                yield from balancer.members(self.groups, self.enis, self.networks, self._chain)
            for eni, held in self.held.items():
                for name in (self._chain(group.name) for group in eni.security_groups):
                    yield from (f"-A {name}{far} {far} {ip} -j ACCEPT" for ip in held)
            for name, group in self.groups.items():
                for rule in group.rules[side]:
                    whom = f"{far} {rule.cidr} -j ACCEPT"
                    whom = f"-j {self._chain(rule.group)}{far}" if rule.group else whom
                    yield f"-A {self._chain(name)}{end} {_traffic(rule)} {whom}"

    def _chain(self, group: str) -> str:
        """A chain's name for a security group; its own may be too long for one."""
        return f"sg{self._numbers.setdefault(group, len(self._numbers))}"

    def _edge(self) -> Iterator[str]:
        """The internet gateway, one to one, and the NAT gateway."""
        for eni in self.enis.values():
            if eni.public_ip:
                target, source = f"-d {eni.public_ip} -j DNAT", f"-s {eni.primary} -j SNAT"
                yield f"-A PREROUTING -m mark --mark 16/16 {target} --to-destination {eni.primary}"
                yield f"-A POSTROUTING {IGW} {source} --to-source {eni.public_ip}"
        yield f"-A POSTROUTING {NAT} -j SNAT --to-source {NAT_GATEWAY}"


def _traffic(rule: SecurityRule) -> str:
    """A rule's protocol and ports."""
    ends = [str(each) for each in (rule.from_port, rule.to_port) if each is not None]
    option, between = ("--icmp-type", "/") if rule.protocol == "icmp" else ("--dport", ":")
    text = "" if rule.protocol == "all" else f"-p {rule.protocol}"
    return f"{text} {option} {between.join(ends)}" if ends else text
