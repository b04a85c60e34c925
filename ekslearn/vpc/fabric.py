"""The Fabric: what every ENI is plugged into. It is all of AWS's part in a packet's way.

The implicit router is no hop and takes no TTL. It doesn't learn by flooding: which ENI has which
address is known centrally. Source: Amazon VPC user guide, "Route tables", "Security groups",
"Network ACLs", "Path MTU Discovery"; EC2 user guide, "Network interfaces". Not published, so the
model's choice: from which address an ICMP error comes (the subnet's gateway); that an ENI gets no
answer to ARP for an address of its own, and gets back what it sends to one; the routers' MACs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from ..linux.conntrack import Tuple, tuple_of
from ..linux.ip import FRAGMENTATION_NEEDED, QUOTED_BYTES
from ..linux.link import Link, invented_mac
from ..linux.neighbor import VLAN_HEADER
from ..linux.packet import UNREACHABLE, Arp, Frame, Packet
from ..linux.world import Decision, World
from .model import Eni, Vpc
from .nat import NatGateway, moved
from .route import LOCAL
from .security import admitted
from .subnet import Subnet

# Bytes. EC2 user guide, "Network MTU": 1500 through an internet gateway, 8500 by peering between
# Regions (within one it would be 9001) and through a transit gateway, 9001 inside.
PATH_MTU = {LOCAL: 9001, "tgw": 8500, "pcx": 8500, "igw": 1500, "nat": 1500}
# What the internet doesn't carry: RFC 1918 and RFC 6598.
PRIVATE = [IPv4Network(text) for text in
           ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")]  # fmt: skip


@dataclass(frozen=True, slots=True)
class VpcRow:
    """What decided in the VPC: a route, a rule, a record; and the rows before it, with reasons."""

    text: str
    passed_over: tuple[str, ...] = ()


class Fabric:
    """The VPC's router, filters and gateways, and the world outside that they lead to."""

    def __init__(self, world: World, vpc: Vpc) -> None:
        self.world = world
        self.vpc = vpc
        self._enis: dict[Link, Eni] = {}
        self._links: dict[Eni, Link] = {}
        self._macs: dict[str, Eni] = {}
        self._hosts: dict[IPv4Address, Link] = {}
        self._nat = NatGateway(world.random)
        self._flows: set[tuple[str, Tuple]] = set()  # what security groups let through, both ways

    def plug(self, link: Link, eni: Eni) -> None:
        """Make a machine's link the one that ``eni`` appears as."""
        link.segment = self
        self._enis[link], self._links[eni], self._macs[eni.mac] = eni, link, eni

    def plug_host(self, link: Link, addresses: Iterable[IPv4Address]) -> None:
        """Connect a machine outside the VPC that has these addresses."""
        link.segment = self
        self._hosts |= dict.fromkeys(addresses, link)

    def unplug(self, link: Link) -> None:
        """Take a link out, an ENI's or a host's."""
        link.segment = None
        eni = self._enis.pop(link, None)
        if eni:
            del self._links[eni], self._macs[eni.mac]
        self._hosts = {ip: other for ip, other in self._hosts.items() if other is not link}

    def outside(self, place: str) -> list[IPv4Address]:
        """The addresses of a machine outside the VPC, by its namespace's name."""
        return [ip for ip, link in self._hosts.items() if link.namespace.name == place]

    def carry(self, link: Link, frame: Frame) -> None:
        """Take a frame from a link to wherever AWS takes it."""
        if isinstance(frame.payload, Arp):
            self._answer_arp(link, frame.payload)
        elif link in self._enis:
            self._from_eni(link, self._enis[link], frame, frame.payload)
        else:
            self._from_host(link, frame.payload)

    def router_mac(self, subnet: Subnet) -> str:
        """The MAC the implicit router shows to a subnet."""
        return invented_mac("vpc router", self.vpc.name, subnet.name)

    def _answer_arp(self, link: Link, arp: Arp) -> None:
        mac = ""
        eni, owner = self._enis.get(link), self.vpc.owner(arp.target)
        if eni is None:  # whoever stands outside has its own router there
            mac = "" if self._hosts.get(arp.target) is link else invented_mac("outside")
        elif arp.target == eni.subnet.gateway:
            mac = self.router_mac(eni.subnet)
        elif owner and owner is not eni and owner.subnet is eni.subnet and owner in self._links:
            mac = owner.mac
        if mac and arp.op == "request":
            reply = Arp(op="reply", sender=arp.target, sender_mac=mac, target=arp.sender)
            self.world.later(link.namespace.receive, link, Frame(arp.sender_mac, mac, reply))

    # From inside

    def _from_eni(self, link: Link, eni: Eni, frame: Frame, packet: Packet) -> None:
        if packet.dst.is_link_local or packet.dst.is_multicast or int(packet.dst) == 0xFFFFFFFF:
            self._note(link, "vpc", f"{packet.dst} isn't forwarded by a VPC", packet, lost=True)
            return
        if eni.source_dest_check and not eni.owns(packet.src):
            why = f"{packet.src} is no address of {eni.eni_id}"
            self._note(link, "vpc source check", why, packet, _check(eni), lost=True)
            return
        if not self._secured(link, eni, "egress", packet):
            return
        near = self._macs.get(frame.dst)
        if near and near.subnet is eni.subnet:  # by its MAC, whatever address the packet is for
            self._enter(link, near, packet, frame.src, acl=False)
            return
        table = eni.subnet.table
        route = table.lookup(packet.dst)
        passed = tuple(f"{each} — {packet.dst} isn't in it" for each in table.routes[
            : table.routes.index(route) if route else None])  # fmt: skip
        if route is None or frame.dst != self.router_mac(eni.subnet):
            why = f"no route to {packet.dst}" if route is None else f"nobody has {frame.dst}"
            row = VpcRow(f"route table of {table.name}", passed)
            self._note(link, "vpc route", why, packet, row, lost=True)
            return
        row = VpcRow(f"{route} (route table of {table.name})", passed)
        self._note(link, "vpc route", f"send to {route.target}", packet, row)
        if not self._fits(link, packet, route.target, eni.subnet):
            return
        owner = self.vpc.owner(packet.dst) if route.target == LOCAL else None
        leaves = owner is None or owner.subnet is not eni.subnet
        if leaves and not self._acl(link, eni.subnet, "egress", packet):
            return
        if owner:
            self._enter(link, owner, packet, acl=owner.subnet is not eni.subnet)
        elif route.target == LOCAL:
            self._note(link, "vpc route", f"no ENI has {packet.dst}", packet, lost=True)
        elif route.target in ("tgw", "pcx"):
            self._to_host(link, packet, route.target)
        else:
            self._translated(link, eni, packet, route.target)

    def _translated(self, link: Link, eni: Eni, packet: Packet, target: str) -> None:
        """Through a gateway onto the internet, with a public source."""
        if target == "nat":
            out = self._nat.out(packet)
            row = VpcRow(f"NAT gateway {self._nat.public}")
            why = "the NAT gateway knows no such connection"
        else:
            public = eni.public_ip if packet.src == eni.primary else None
            out = moved(packet, "source", public) if public else None
            row = VpcRow(f"{eni.eni_id}: {eni.primary} <-> {eni.public_ip or 'no public address'}")
            why = f"{packet.src} has no public address: the internet gateway drops it"
        if out is None:
            self._note(link, f"vpc {target}", why, packet, row, lost=True)
            return
        port = f":{out.sport}" if out.sport else ""
        self._note(link, f"vpc {target}", f"the source becomes {out.src}{port}", out, row)
        self._internet(link, out)

    # From outside

    def _from_host(self, link: Link, packet: Packet) -> None:
        if self._hosts.get(packet.src) is not link:
            why = f"{packet.src} is no address of this host"
            self._note(link, "outside", why, packet, lost=True)
        elif packet.dst not in self.vpc:
            self._internet(link, packet)
        else:
            owner = self.vpc.owner(packet.dst)
            route = owner.subnet.table.lookup(packet.src) if owner else None
            if owner is None or route is None or route.target not in ("tgw", "pcx"):
                why = f"no route of {packet.dst}'s subnet leads to {packet.src} by tgw or pcx"
                why = why if owner else f"no ENI has {packet.dst}"
                self._note(link, "vpc route", why, packet, lost=True)
                return
            row = VpcRow(f"{route} (route table of {owner.subnet.name})")
            self._note(link, "vpc route", f"comes in by {route.target}", packet, row)
            if self._fits(link, packet, route.target, owner.subnet):
                self._enter(link, owner, packet)

    def _internet(self, link: Link, packet: Packet) -> None:
        """Carry a packet between public addresses."""
        private = [each for each in (packet.src, packet.dst) if any(each in n for n in PRIVATE)]
        owner = self.vpc.public_owner(packet.dst)
        if private:
            why = f"{private[0]} is private: the internet doesn't carry it"
            self._note(link, "internet", why, packet, lost=True)
        elif owner:
            if self._fits(link, packet, "igw", owner.subnet):
                row = VpcRow(f"{owner.eni_id}: {owner.public_ip} <-> {owner.primary}")
                packet = moved(packet, "target", owner.primary)
                self._note(link, "vpc igw", f"the target becomes {packet.dst}", packet, row)
                self._enter(link, owner, packet)
        elif packet.dst == self._nat.public:
            back = self._nat.back(packet)
            row = VpcRow(f"NAT gateway {self._nat.public}")
            if back is None:
                self._note(link, "vpc nat", "nobody inside asked for it", packet, row, lost=True)
                return
            port = f":{back.dport}" if back.dport else ""
            self._note(link, "vpc nat", f"the target becomes {back.dst}{port}", back, row)
            asker = self.vpc.owner(back.dst)
            if asker:
                self._enter(link, asker, back)
            else:
                self._note(link, "vpc nat", f"no ENI has {back.dst} any more", back, lost=True)
        else:
            self._to_host(link, packet, "internet")

    def _to_host(self, link: Link, packet: Packet, stage: str) -> None:
        host = self._hosts.get(packet.dst)
        if host is None or link not in self._enis:
            why = f"no machine outside has {packet.dst}"
            why = (
                f"how hosts outside reach each other isn't modelled ({packet.dst})" if host else why
            )
            self._note(link, stage, why, packet, lost=True)
            return
        self._deliver(host, Frame(host.mac, invented_mac("outside"), packet))

    # Filters, and the last steps

    def _enter(
        self, link: Link, eni: Eni, packet: Packet, mac: str = "", *, acl: bool = True
    ) -> None:
        """Hand a packet to an ENI, if its subnet and its security groups let it in."""
        to = self._links.get(eni)
        if to is None:
            why = f"{eni.eni_id} has {packet.dst} and no instance has {eni.eni_id}"
            self._note(link, "vpc", why, packet, lost=True)
        elif (acl and not self._acl(to, eni.subnet, "ingress", packet)) or not self._secured(
            to, eni, "ingress", packet
        ):
            return
        elif eni.source_dest_check and not eni.owns(packet.dst):
            why = f"{packet.dst} is no address of {eni.eni_id}"
            self._note(to, "vpc destination check", why, packet, _check(eni), lost=True)
        else:
            self._deliver(to, Frame(eni.mac, mac or self.router_mac(eni.subnet), packet))

    def _deliver(self, link: Link, frame: Frame) -> None:
        packet = frame.payload
        if isinstance(packet, Packet) and packet.size > link.mtu + VLAN_HEADER:
            self._note(link, "vpc", f"{link.name} takes {link.mtu} bytes", packet, lost=True)
            return
        self.world.later(link.namespace.receive, link, frame)

    def _acl(self, link: Link, subnet: Subnet, way: str, packet: Packet) -> bool:
        if subnet.nacl is None:
            return True
        allowed, text, passed = subnet.nacl.judge(way, packet)
        verdict = f"the network ACL of {subnet.name} {'allows' if allowed else 'denies'} it"
        self._note(link, "vpc network acl", verdict, packet, VpcRow(text, passed), lost=not allowed)
        return allowed

    def _secured(self, link: Link, eni: Eni, way: str, packet: Packet) -> bool:
        """Ask the ENI's security groups: an answer passes, whatever the rules say."""
        if not eni.security_groups:
            return True
        flow = tuple_of(packet.quoted or packet)
        names = ", ".join(group.name for group in eni.security_groups)
        if (eni.eni_id, flow) in self._flows:
            row = VpcRow(f"{names} {way}: connection tracked")
            self._note(link, "vpc security group", "it belongs to a known connection", packet, row)
            return True
        peer = self.vpc.owner(packet.src if way == "ingress" else packet.dst)
        groups = peer.security_groups if peer else ()
        rule, passed = admitted(eni.security_groups, way, packet, groups)
        verdict = "a rule admits it" if rule else f"no {way} rule of {names} admits it"
        row = VpcRow(rule or f"{names} {way}: what no rule admits is dropped", passed)
        self._note(link, "vpc security group", verdict, packet, row, lost=not rule)
        if rule and not packet.quoted:
            self._flows |= {(eni.eni_id, flow), (eni.eni_id, flow.inverted())}
        return bool(rule)

    def _fits(self, link: Link, packet: Packet, target: str, subnet: Subnet) -> bool:
        """Whether the packet is small enough for the path; its sender is told if it isn't.

        One that may be cut is carried whole, as everywhere in the model.
        """
        mtu = PATH_MTU[target]
        if packet.size <= mtu or not packet.df:
            return True
        why = f"{packet.size} bytes are more than the {mtu} that {target} carries"
        self._note(link, "vpc mtu", why, packet, VpcRow(f"path MTU {target}: {mtu}"), lost=True)
        error = Packet(
            src=subnet.gateway, dst=packet.src, protocol="icmp", df=False, quoted=packet, mtu=mtu,
            icmp=(UNREACHABLE, FRAGMENTATION_NEEDED), meaning="unreachable",
            size=min(packet.size, QUOTED_BYTES) + 28,
        )  # fmt: skip
        eni = self._enis.get(link)
        if packet.is_error or target == "tgw":
            return False
        if eni:
            self._enter(link, eni, error)
        else:
            self._deliver(link, Frame(link.mac, invented_mac("outside"), error))
        return False

    def _note(self, link: Link, stage: str, verdict: str, packet: Packet,
              row: VpcRow | None = None, *, lost: bool = False) -> None:  # fmt: skip
        if self.world.recorder:
            told = Decision(link.namespace, stage, verdict, row, packet, lost=lost)
            self.world.recorder.decision(told)


def _check(eni: Eni) -> VpcRow:
    return VpcRow(f"{eni.eni_id}: SourceDestCheck true, {eni.primary} and"
                  f" {eni.slots_used - 1} more")  # fmt: skip
