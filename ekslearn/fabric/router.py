"""The Fabric: what every ENI is plugged into. It is all of AWS's part in a packet's way.

The implicit router is no hop and takes no TTL. It doesn't learn by flooding: which ENI has which
address is known centrally. Source: Amazon VPC user guide, "Route tables", "Security groups",
"Network ACLs", "Path MTU Discovery"; EC2 user guide, "Network interfaces". Not published, so the
model's choice: from which address an ICMP error comes (the subnet's gateway); that an ENI gets no
answer to ARP for an address of its own, and gets back what it sends to one; the routers' MACs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from ..linux.conntrack import Tuple, tuple_of
from ..linux.ip import FRAGMENTATION_NEEDED, QUOTED_BYTES
from ..linux.link import Link, Wire, invented_mac
from ..linux.neighbor import VLAN_HEADER
from ..linux.packet import BROADCAST_MAC, UNREACHABLE, Arp, Frame, Packet
from ..linux.world import Decision, World
from ..vpc.model import Eni, Vpc
from ..vpc.resolver import LIMIT, PORT, Resolver, addresses
from ..vpc.route import LOCAL, RouteTable, VpcRoute
from ..vpc.security import SecurityGroup, judge
from ..vpc.security import VpcRow as VpcRow
from ..vpc.subnet import Subnet
from .nat import NatGateway, moved

# Bytes. EC2 user guide, "Network MTU": 1500 through an internet gateway, 8500 by peering between
# Regions (within one it would be 9001) and through a transit gateway, 9001 inside. All answer what
# is too large; a transit gateway dropped it silently before (AWS networking blog, "Performance and
# metrics enhancements for AWS Transit Gateway and AWS Cloud WAN").
PATH_MTU = {LOCAL: 9001, "tgw": 8500, "pcx": 8500, "igw": 1500, "nat": 1500}
# What the internet doesn't carry: RFC 1918 and RFC 6598.
PRIVATE = [IPv4Network(cidr) for cidr in
           ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")]  # fmt: skip
CHECK = "the source/destination check is on"
OUTSIDE = invented_mac("outside")  # the router of a machine outside, wherever that is


class Balancer(Protocol):
    """A load balancer, as far as packets meet it before any machine does (``ekslearn.elb``)."""

    place: str

    def turns(self, packet: Packet) -> Eni | None:
        """Its ENI, if a packet answers one of its flows, whoever it is addressed to."""

    def wants(self, packet: Packet) -> bool:
        """Whether it deals with a packet that came to its ENI; else its sockets do."""

    def receive(self, link: Link, packet: Packet) -> None:
        """Deal with it."""


class Fabric(Wire):
    """The VPC's router, filters and gateways, and the world outside that they lead to."""

    def __init__(self, world: World, vpc: Vpc) -> None:
        self.world = world
        self.vpc = vpc
        self._enis: dict[Link, Eni] = {}
        self._links: dict[Eni, Link] = {}
        self._macs: dict[str, Eni] = {}
        self._hosts: dict[IPv4Address, Link] = {}
        self.balancers: dict[Eni, Balancer] = {}  # by their ENIs
        self.resolver = Resolver()
        self._nat = NatGateway(world.random)
        self._flows: set[tuple[str, Tuple]] = set()  # what security groups let through, both ways

    def plug(self, link: Link, eni: Eni) -> None:
        """Make a machine's link the one that ``eni`` appears as."""
        link.segment = self
        self._enis[link], self._links[eni], self._macs[eni.mac] = eni, link, eni

    def joined(self, link: Link) -> None:
        """A VLAN device was made on a trunk ENI: the branch ENI of that VLAN appears as it."""
        link.segment = self
        trunk = self._enis.get(link.parent) if link.parent else None
        for eni in self.vpc.enis.values():
            if trunk and eni.trunk is trunk and eni.vlan_id == link.vlan:
                self.plug(link, eni)

    def plug_host(self, link: Link, addresses: Iterable[IPv4Address]) -> None:
        """Connect a machine outside the VPC that has these addresses."""
        link.segment = self
        self._hosts |= dict.fromkeys(addresses, link)

    def unplug(self, link: Link) -> None:
        """Take a link out, an ENI's or a host's."""
        link.segment = None
        if eni := self._enis.pop(link, None):
            del self._links[eni], self._macs[eni.mac]
        self._hosts = {ip: other for ip, other in self._hosts.items() if other is not link}

    def outside(self, place: str) -> list[IPv4Address]:
        """The addresses of a machine outside the VPC, by its namespace's name."""
        return [ip for ip, link in self._hosts.items() if link.namespace.name == place]

    def router_mac(self, subnet: Subnet) -> str:
        """The MAC the implicit router shows to a subnet."""
        return invented_mac("vpc router", self.vpc.name, subnet.name)

    def carry(self, link: Link, frame: Frame) -> None:
        """Take a frame from a link to wherever AWS takes it."""
        eni = self._enis.get(link)
        if isinstance(frame.payload, Arp):
            self._answer_arp(link, eni, frame.payload)
        elif eni:
            self._from_eni(link, eni, frame, frame.payload)
        else:
            self._from_host(link, frame.payload)

    def _answer_arp(self, link: Link, eni: Eni | None, arp: Arp) -> None:
        owner, mac = self.vpc.owner(arp.target), ""
        if eni is None:
            mac = "" if self._hosts.get(arp.target) is link else OUTSIDE
        elif arp.target in (eni.subnet.gateway, addresses(self.vpc.cidrs[0])[0]):
            mac = self.router_mac(eni.subnet)
        elif owner in self._links and owner is not eni and owner.subnet is eni.subnet:
            mac = owner.mac
        if mac and arp.op == "request":
            reply = Arp(op="reply", sender=arp.target, sender_mac=mac, target=arp.sender)
            self._deliver(link, Frame(arp.sender_mac, mac, reply))

    # From inside

    def _from_eni(self, link: Link, eni: Eni, frame: Frame, packet: Packet) -> None:
        dst, table = packet.dst, eni.subnet.table
        near, route = self._macs.get(frame.dst), table.lookup(packet.dst)
        served = dst in addresses(self.vpc.cidrs[0])
        if not served and (dst.is_link_local or dst.is_multicast or frame.dst == BROADCAST_MAC):
            self._drop(link, "vpc", f"a VPC doesn't carry packets for {dst}", packet)
        elif eni.source_dest_check and self.vpc.owner(packet.src) is not eni:
            why = f"{packet.src} is no address of the ENI it comes from"
            self._drop(link, "vpc source check", why, packet, VpcRow(f"{eni.eni_id}: {CHECK}"))
        elif served:
            self._resolve(link, eni, packet)
        elif not self._secured(link, eni, "egress", packet):
            return
        elif turned := self._turned(packet):
            self._across(link, eni, turned, packet)
        elif near and near.subnet is eni.subnet:  # by its MAC, as flannel's host-gw relies on
            self._enter(link, near, packet, frame.src, acl=False)
        elif frame.dst != self.router_mac(eni.subnet):
            self._drop(link, "vpc", f"nobody in {table.name} has {frame.dst}", packet)
        elif route is None:
            self._drop(link, "vpc route", f"no route to {dst}", packet, _row(table, None, dst))
        else:
            row = _row(table, route, dst)
            self._note(link, "vpc route", f"send to {route.target}", packet, row)
            if self._fits(link, packet, route.target, eni.subnet):
                self._send(link, eni, packet, route.target)

    def _resolve(self, link: Link, eni: Eni, packet: Packet) -> None:
        """Let the resolver answer: no security group or network ACL stands before it."""
        if packet.dport != PORT:
            self._drop(link, "vpc resolver", f"it answers on port {PORT} alone", packet)
        elif not self.resolver.admits(eni.eni_id, self.world.clock):
            row = VpcRow(f"{LIMIT} packets per second and ENI, in this second sent by {eni.eni_id}")
            self._drop(link, "vpc resolver", "linklocal_allowance_exceeded", packet, row)
        else:
            self._note(link, "vpc resolver", "it answers", packet)
            flags = "SYN-ACK" if packet.protocol == "tcp" else ""
            answer = packet.answer(flags=flags, data=f"resolver {packet.src} {packet.sport}")
            self._deliver(link, Frame(link.mac, self.router_mac(eni.subnet), answer))

    def _send(self, link: Link, eni: Eni, packet: Packet, target: str) -> None:
        owner = self.vpc.owner(packet.dst) if target == LOCAL else None
        if owner:
            self._across(link, eni, owner, packet)
        elif not self._acl(link, eni.subnet, "egress", packet):
            return
        elif target == LOCAL:
            self._drop(link, "vpc route", f"no ENI has {packet.dst}", packet)
        elif target in ("tgw", "pcx"):
            self._to_host(link, packet, target)
        elif target == "nat":
            why = "the NAT gateway knows no such connection"
            self._internet(link, self._became(link, target, packet, self._nat.out(packet), why))
        else:
            public = eni.public_ip if packet.src == eni.primary else None
            out = moved(packet, "source", public) if public else None
            why = f"{packet.src} has no public address: the internet gateway drops it"
            self._internet(link, self._became(link, target, packet, out, why))

    def _across(self, link: Link, eni: Eni, owner: Eni, packet: Packet) -> None:
        """From one ENI to another: network ACLs stand between subnets only."""
        leaves = owner.subnet is not eni.subnet
        if not leaves or self._acl(link, eni.subnet, "egress", packet):
            self._enter(link, owner, packet, acl=leaves)

    def _turned(self, packet: Packet) -> Eni | None:
        """The ENI of the balancer whose flow a packet answers.

        That a Network Load Balancer sees what is addressed to its client is documented, by which
        way isn't: the model keeps it as state of the VPC and hands the packet over.
        """
        found = (each.turns(packet) for each in dict.fromkeys(self.balancers.values()))
        return next((eni for eni in found if eni), None)

    # From outside

    def _from_host(self, link: Link, packet: Packet) -> None:
        owner = self.vpc.owner(packet.dst)
        route = owner.subnet.table.lookup(packet.src) if owner else None
        if self._hosts.get(packet.src) is not link:
            self._drop(link, "outside", f"{packet.src} is no address of this host", packet)
        elif packet.dst not in self.vpc:
            self._internet(link, packet)
        elif owner is None:
            self._drop(link, "vpc route", f"no ENI has {packet.dst}", packet)
        elif route is None or route.target not in ("tgw", "pcx"):
            public = not any(packet.src in cidr for cidr in PRIVATE)
            why = f"the internet carries nothing to {packet.dst}, an address of the VPC, and "
            why = (why if public else "") + f"no route of {owner.subnet.name} leads to"
            why += f" {packet.src} by tgw or pcx (transit gateway, peering)"
            row = _row(owner.subnet.table, route, packet.src)
            self._drop(link, "vpc route", why, packet, row)
        elif self._fits(link, packet, route.target, owner.subnet):
            row = _row(owner.subnet.table, route, packet.src)
            self._note(link, "vpc route", f"comes in by {route.target}", packet, row)
            self._enter(link, owner, packet)

    def _internet(self, link: Link, packet: Packet | None) -> None:
        """Carry a packet between public addresses."""
        if packet is None:
            return
        private = [ip for ip in (packet.src, packet.dst) if any(ip in cidr for cidr in PRIVATE)]
        owner, inside = self.vpc.public_owner(packet.dst), None
        if private:
            self._drop(link, "internet", f"{private[0]} is private: not carried there", packet)
        elif owner:
            if self._fits(link, packet, "igw", owner.subnet):
                inside = self._became(link, "igw", packet, moved(packet, "target", owner.primary))
        elif packet.dst == self._nat.public:
            why = "nobody inside asked the NAT gateway for it"
            inside = self._became(link, "nat", packet, self._nat.back(packet), why)
            owner = self.vpc.owner(inside.dst) if inside else None
        else:
            self._to_host(link, packet, "internet")
        if inside and owner:
            self._enter(link, owner, inside)
        elif inside:
            self._drop(link, "vpc nat", f"no ENI has {inside.dst} any more", inside)

    def _to_host(self, link: Link, packet: Packet, stage: str) -> None:
        host = self._hosts.get(packet.dst)
        if host is None:
            self._drop(link, stage, f"no machine outside has {packet.dst}", packet)
        elif link not in self._enis:
            why = "what machines outside say to each other isn't modelled"
            self._drop(link, stage, why, packet)
        else:
            self._deliver(host, Frame(host.mac, OUTSIDE, packet))

    # Filters, and the last steps

    def _enter(
        self, link: Link, eni: Eni, packet: Packet, mac: str = "", *, acl: bool = True
    ) -> None:
        """Hand a packet to an ENI, if its subnet and its security groups let it in."""
        to = self._links.get(eni)
        if to is None:
            self._drop(link, "vpc", f"{eni.eni_id} ({packet.dst}) is in no machine", packet)
        elif (acl and not self._acl(to, eni.subnet, "ingress", packet)) or not self._secured(
            to, eni, "ingress", packet, self._enis.get(link)
        ):
            pass
        elif eni.source_dest_check and self.vpc.owner(packet.dst) is not eni:
            why = f"{packet.dst} is no address of the ENI it goes to"
            self._drop(to, "vpc destination check", why, packet, VpcRow(f"{eni.eni_id}: {CHECK}"))
        elif (balancer := self.balancers.get(eni)) and balancer.wants(packet):
            self.world.later(balancer.receive, to, packet)
        else:
            self._deliver(to, Frame(eni.mac, mac or self.router_mac(eni.subnet), packet))

    def _deliver(self, link: Link, frame: Frame) -> None:
        packet = frame.payload
        # One that may be cut comes in pieces.
        if isinstance(packet, Packet) and packet.df and packet.size > link.mtu + VLAN_HEADER:
            self._drop(link, "vpc", f"{link.name} takes {link.mtu} bytes", packet)
            return
        self.world.later(link.namespace.receive, link, frame)

    def _acl(self, link: Link, subnet: Subnet, way: str, packet: Packet) -> bool:
        acl = subnet.nacl
        return acl is None or self._judged(link, "vpc network acl", [acl], way, packet)

    def _secured(
        self, link: Link, eni: Eni, way: str, packet: Packet, sender: Eni | None = None
    ) -> bool:
        """Ask the ENI's security groups: what belongs to a known connection passes anyway.

        What a balancer hands on comes from its groups, whoever's address it bears.
        """
        if not eni.security_groups:
            return True
        flow, stage = tuple_of(packet.quoted or packet), "vpc security group"
        if (eni.eni_id, flow) in self._flows:
            self._note(link, stage, f"{way}: a known connection", packet)
            return True
        peer = self.vpc.owner(packet.src if way == "ingress" else packet.dst)
        peer = sender if sender in self.balancers else peer
        groups = peer.security_groups if peer else ()
        passes = self._judged(link, stage, eni.security_groups, way, packet, groups)
        if passes and not packet.quoted:
            self._flows |= {(eni.eni_id, flow), (eni.eni_id, flow.inverted())}
        return passes

    def forget(self) -> None:
        """Let every connection that security groups remember be over."""
        self._flows.clear()

    def _judged(
        self, link: Link, stage: str, books: Sequence[SecurityGroup], way: str, packet: Packet,
        peer: Sequence[SecurityGroup] = (),
    ) -> bool:  # fmt: skip
        row = judge(books, way, packet, peer)
        verdict = f"{way}: {'admitted' if row.admits else 'not admitted'}"
        self._note(link, stage, verdict, packet, row, lost=not row.admits)
        return row.admits

    def _fits(self, link: Link, packet: Packet, target: str, subnet: Subnet) -> bool:
        """Whether the packet is small enough for the path; its sender is told if it isn't.

        One that may be cut is carried whole, as everywhere in the model.
        """
        mtu, eni = PATH_MTU[target], self._enis.get(link)
        if packet.size <= mtu or not packet.df:
            return True
        why = f"{packet.size} bytes are more than {target} carries, and it says don't fragment"
        self._drop(link, "vpc mtu", why, packet, VpcRow(f"MTU of the path by {target}: {mtu}"))
        error = Packet(
            src=subnet.gateway, dst=packet.src, protocol="icmp", df=False, quoted=packet, mtu=mtu,
            icmp=(UNREACHABLE, FRAGMENTATION_NEEDED), meaning="unreachable",
            size=min(packet.size, QUOTED_BYTES) + 28,
        )  # fmt: skip
        if packet.is_error:  # never causes another (RFC 1122)
            return False
        if eni:
            self._enter(link, eni, error)
        else:
            self._deliver(link, Frame(link.mac, OUTSIDE, error))
        return False

    def _became(self, link: Link, gateway: str, before: Packet, after: Packet | None,
                why: str = "") -> Packet | None:  # fmt: skip
        """Tell what a gateway made of a packet: None, and ``why``, if it dropped it."""
        if after is None:
            self._drop(link, f"vpc {gateway}", why, before)
            return None
        end, old, ip, port = "source", before.src, after.src, after.sport
        if ip == old:
            end, old, ip, port = "destination", before.dst, after.dst, after.dport
        verdict = f"rewrite the {end}: {ip}" + (f":{port}" if port else "")
        self._note(link, f"vpc {gateway}", verdict, after, VpcRow(f"{old} <-> {ip}"))
        return after

    def _drop(self, link: Link, stage: str, why: str, packet: Packet,
              row: VpcRow | None = None) -> None:  # fmt: skip
        self._note(link, stage, why, packet, row, lost=True)

    def _note(self, link: Link, stage: str, verdict: str, packet: Packet,
              row: VpcRow | None = None, *, lost: bool = False) -> None:  # fmt: skip
        if self.world.recorder:
            told = Decision(link.namespace, stage, verdict, row, packet, lost=lost)
            self.world.recorder.decision(told)


def _row(table: RouteTable, route: VpcRoute | None, ip: IPv4Address) -> VpcRow:
    before = table.routes[: table.routes.index(route) if route else None]
    passed = tuple(f"{each} — {ip} isn't in it" for each in before)
    return VpcRow(f"{route or 'no route'} (route table of {table.name})", passed)
