"""A network namespace: links, addresses, tables, neighbors, switches and sockets of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from errno import EEXIST, EINVAL, ENETDOWN, ENETUNREACH, ENODEV
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import chain, count

from ..errors import KernelError, kernel_refuses
from .conntrack import Connection, Conntrack
from .ip import Ip
from .link import HOST, LINK, NO_MAC, Address, Link, invented_mac
from .neighbor import Neighbor, Neighbors
from .netfilter import Netfilter, Walk
from .packet import BROADCAST_MAC, Arp, Frame, Packet, Skb
from .route import ERRORS, LOCAL, MAIN, Flow, Lookup, Route, Routing
from .socket import Sockets
from .sysctl import Sysctls
from .world import Decision, World

Row = Lookup | Walk | Neighbor | Connection | Arp | None
LOOPBACK = IPv4Interface("127.0.0.1/8")
LIMITED_BROADCAST = IPv4Address("255.255.255.255")
KERNEL = 2  # RTPROT_KERNEL: routes the kernel keeps by itself


class NetworkNamespace:
    """One network stack. Two of them meet only where a link of one ends in the other."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.links: dict[str, Link] = {}
        self.sysctls = Sysctls()
        self.routing = Routing()
        self.neighbors = Neighbors(self)
        self.netfilter = Netfilter(self)
        self.conntrack = Conntrack(self)
        self.sockets = Sockets(self)
        self.ip = Ip(self)
        self._last_index = 0
        world.namespaces[name] = self
        self.add_link("lo", "loopback", NO_MAC)

    # Links

    def add_link(self, name: str, kind: str, mac: str = "") -> Link:
        """Add a link, down and without addresses; KernelError EEXIST if the name is taken."""
        kernel_refuses(name in self.links, EEXIST)
        link = Link(self, name, kind, mac or invented_mac(self.name, name))
        self._adopt(link)
        return link

    def add_veth(self, name: str, mac: str, peer: NetworkNamespace, peer_name: str,
                 peer_mac: str) -> tuple[Link, Link]:  # fmt: skip
        """Add both ends of a veth; the peer is made first and so gets the lower index."""
        if name in self.links or (self is peer and name == peer_name):
            peer._last_index += name == peer_name and name not in self.links
            raise KernelError(EEXIST)
        far = peer.add_link(peer_name, "veth", peer_mac)
        near = self.add_link(name, "veth", mac)
        near.peer, far.peer = far, near
        near.settle_ends()
        return near, far

    def add_vlan(self, name: str, mac: str, parent: Link, vlan: int) -> Link:
        """Add a VLAN device on an Ethernet link; KernelError as for any link."""
        link = self.add_link(name, "vlan", mac or parent.mac)
        link.parent, link.vlan, link.mtu = parent, vlan, parent.mtu
        if parent.segment:
            parent.segment.joined(link)
        return link

    def _adopt(self, link: Link) -> None:
        self.world.changing()
        taken = {other.index for other in self.links.values()}
        if not link.index or link.index in taken:
            free = (n for n in count(self._last_index + 1) if n not in taken)
            link.index = self._last_index = next(free)
        link.namespace, link.was_up = self, False
        self.links[link.name] = link
        self.links = dict(sorted(self.links.items(), key=lambda item: item[1].index))
        self.sysctls.add_interface(link.name)

    def remove_link(self, link: Link) -> None:
        """Delete a link and, for a veth, its other end; with a trunk its VLAN devices go."""
        for other in [each for each in self.links.values() if each.parent is link]:
            self.remove_link(other)
        if link.parent and link.segment:
            link.segment.unplug(link)
        for end in link.ends:
            end.namespace._let_go(end)
            end.peer = None

    def _let_go(self, link: Link) -> None:
        self.world.changing()
        self.set_up(link, False)
        while link.addresses:
            self.remove_address(link, link.addresses[0])
        self.routing.remove_where(lambda route: route.dev is link)
        self.neighbors.forget(link, permanent=True)
        self.sysctls.remove_interface(link.name)
        del self.links[link.name]

    def move_link(self, link: Link, target: NetworkNamespace) -> None:
        """Move a link to another namespace: it arrives down and without addresses."""
        if target is self:
            return
        said = "An interface with the same name exists in the target netns"
        kernel_refuses(link.name in target.links, EEXIST, said)
        carried = link.carrier
        self._let_go(link)
        target._adopt(link)
        if carried:
            link.settle_ends()

    def rename_link(self, link: Link, name: str) -> None:
        """Give a link another name; its addresses and routes stay. EEXIST if it is taken."""
        kernel_refuses(name in self.links, EEXIST)
        old, link.name = link.name, name
        for at, each in enumerate(link.addresses):  # labels follow (inetdev_changename)
            mark = each.label.partition(":")[2] or str(at + 1)
            link.addresses[at] = replace(each, label=f"{name}:{mark}" if at else name)
        self.sysctls.add_interface(name, like=old)
        self.sysctls.remove_interface(old)
        self.links = {each.name: each for each in self.links.values()}

    def set_up(self, link: Link, up: bool) -> None:
        """Turn a link on or off. Off, its routes go, those a user added for good."""
        if link.up == up:
            return
        carried = link.peer is not None and link.peer.carrier
        link.up, link.was_up = up, True
        if link.peer and link.peer.carrier != carried:
            link.settle_ends()
        if up:
            if link.kind == "loopback":
                with suppress(KernelError):  # it may be there
                    self.add_address(link, Address(interface=LOOPBACK, scope=HOST))
            for address in link.addresses:
                self._add_routes(link, address)
            return
        self.routing.remove_where(lambda route: route.dev is link and route.scope != HOST)
        for end in link.ends:
            end.namespace.neighbors.forget(end, permanent=end is link)

    # Addresses

    def add_address(self, link: Link, address: Address, *, replace_same: bool = False) -> None:
        """Add an address, and with it the routes the kernel keeps; KernelError EEXIST."""
        if any(a.interface == address.interface for a in link.addresses):
            kernel_refuses(not replace_same, EEXIST, "ipv4: Address already assigned")
            return
        first = [a for a in link.addresses if a.network == address.network and not a.secondary]
        strange = first and first[0].scope != address.scope
        kernel_refuses(strange, EINVAL, "ipv4: Invalid scope value")
        address = replace(address, secondary=bool(first), label=address.label or link.name)
        # Primaries stand before secondaries, and a narrower scope behind a wider one (devinet.c).
        behind = (at for at, a in enumerate(link.addresses, 1) if address.secondary
                  or (not a.secondary and a.scope >= address.scope))  # fmt: skip
        link.addresses.insert(max(behind, default=0), address)
        self._add_routes(link, address)

    def remove_address(self, link: Link, address: Address) -> None:
        """Remove an address, its routes, and with a primary the secondaries behind it."""
        beside = [a for a in link.addresses if a.network == address.network and a.secondary]
        for other in beside if not address.secondary else ():
            self.remove_address(link, other)
        link.addresses.remove(address)
        if not link.addresses:  # without any, IPv4 is off on this link (fib_disable_ip)
            self.routing.remove_where(lambda route: route.dev is link)
            self.neighbors.forget(link, permanent=True)
        kept = {(route.table, route.kind, route.dst)
                for other in link.addresses for route in self._routes_of(link, other)}  # fmt: skip
        for route in self._routes_of(link, address):
            if (route.table, route.kind, route.dst) not in kept:
                self.routing.remove_where(route.__eq__)
        if not self.is_local(address.ip):
            self.routing.remove_where(lambda row: row.src == address.ip)

    def _routes_of(self, link: Link, address: Address) -> Iterator[Route]:
        """The routes the kernel keeps for one address (fib_add_ifaddr)."""
        net = address.network
        first = (a for a in link.addresses if a.network == net and not a.secondary)
        source = next(first, address).ip
        base = Route(dev=link, table=LOCAL, protocol=KERNEL, scope=LINK, src=source)
        yield replace(base, kind="local", dst=IPv4Network(address.ip), scope=HOST)
        if not link.up:
            return
        if address.broadcast and address.broadcast != LIMITED_BROADCAST:
            yield replace(base, kind="broadcast", dst=IPv4Network(address.broadcast))
        if address.secondary or not int(net.network_address):
            return
        if net.prefixlen < 32:
            if not address.no_prefix_route:
                loop = link.kind == "loopback"
                yield replace(
                    base, dst=net, kind="local" if loop else "unicast",
                    table=LOCAL if loop else MAIN, scope=HOST if loop else LINK,
                )  # fmt: skip
            if net.prefixlen < 31:
                yield replace(base, kind="broadcast", dst=IPv4Network(net.broadcast_address))

    def _add_routes(self, link: Link, address: Address) -> None:
        for route in self._routes_of(link, address):
            if self._source_is_own(route):
                with suppress(KernelError):  # another address may have brought it (EEXIST)
                    self.routing.add(route, "append")

    def owns(self, ip: IPv4Address) -> bool:
        """Whether a link of this namespace carries ``ip``."""
        return any(a.ip == ip for link in self.links.values() for a in link.addresses)

    def is_local(self, ip: IPv4Address) -> bool:
        """Whether a packet to ``ip`` would be for this namespace: its local table says so."""
        return self.address_kind(ip) == "local"

    def address_kind(self, ip: IPv4Address, link: Link | None = None) -> str:
        """What ``ip`` is (for somebody on ``link``): unicast, multicast, broadcast or local.

        Before the local table is made every address counts as broadcast (inet_addr_type).
        """
        if ip.is_multicast:
            return "multicast"
        if ip == LIMITED_BROADCAST or not int(ip) or LOCAL not in self.routing.tables:
            return "broadcast"
        found = self.routing.tables[LOCAL].lookup(flow := Flow(ip))
        found = found and (self.routing.longer_in_main(found, flow) or found)
        return found.kind if found and (link is None or found.dev is link) else "unicast"

    def _source_is_own(self, route: Route) -> bool:
        """Whether a route's source is local, or just becomes it (fib_valid_prefsrc)."""
        itself = route.kind == "local" and route.src == route.dst.network_address
        return route.src is None or itself or self.is_local(route.src)

    def add_route(self, route: Route, how: str = "add") -> None:
        """Add a user's route once the kernel's checks are passed (fib_create_info).

        Raises KernelError with the kernel's own sentence for a gateway nobody can reach, a
        source that isn't local, a link that is down.
        """
        self.routing.table(route.table)  # it is there even if the route is refused
        narrowest = {"local": HOST, "broadcast": LINK}.get(route.kind, 0)
        kernel_refuses(route.scope < narrowest, EINVAL, "Invalid scope")
        if route.kind in ERRORS or route.kind == "throw":
            kernel_refuses(route.via or route.dev, EINVAL, "Gateway, device and multipath can not "
                           "be specified for this route type")  # fmt: skip
            self.routing.add(route, how)
            return
        kernel_refuses(route.scope > HOST, EINVAL, "Invalid scope")
        if route.via and route.scope < HOST:
            own = not route.onlink and self.is_local(route.via)
            route = replace(route, dev=self._way_to(route, route.via), own_gateway=own)
        else:
            no_flag = "Invalid flags for nexthop - PERVASIVE and ONLINK can not be set"
            kernel_refuses(route.via, EINVAL, "Route with host scope can not have a gateway")
            kernel_refuses(route.onlink and route.scope < HOST, EINVAL, no_flag)
            kernel_refuses(route.dev is None, ENODEV)
            down = route.dev and not route.dev.up and route.scope < HOST
            kernel_refuses(down, ENETDOWN, "Device for nexthop is not up")
        kernel_refuses(not self._source_is_own(route), EINVAL, "Invalid prefsrc address")
        self.routing.add(route, how)
        self.routing.custom_locals |= route.table == LOCAL

    def _way_to(self, route: Route, gateway: IPv4Address) -> Link:
        """The link a gateway is reached by (fib_check_nh_v4_gw)."""
        if route.onlink:
            kernel_refuses(route.scope >= LINK, EINVAL, "Nexthop has invalid scope")
            if route.dev is None:
                raise KernelError(ENODEV, "Nexthop device required for onlink")
            kernel_refuses(not route.dev.up, ENETDOWN, "Nexthop device is not up")
            strange = self.address_kind(gateway) != "unicast"
            kernel_refuses(strange, EINVAL, "Nexthop has invalid gateway")
            return route.dev
        flow = Flow(gateway, oif=route.dev.name if route.dev else "",
                    scope=max(route.scope + 1, LINK))  # fmt: skip
        table = self.routing.tables.get(route.table) if route.table != MAIN else None
        found = table.lookup(flow) if table else None
        if found is None or found.kind in ERRORS or found.kind == "throw":
            lookup = self.routing.lookup(flow)
            found = None if lookup.error else lookup.route
        if found is None:
            raise KernelError(ENETUNREACH, "Nexthop has invalid gateway")
        if found.kind not in ("unicast", "local") or found.dev is None:
            raise KernelError(EINVAL, "Nexthop has invalid gateway")
        kernel_refuses(not found.dev.up, ENETDOWN)
        return found.dev

    def select_address(self, link: Link, near: IPv4Address | None,
                       scope: int) -> IPv4Address | None:  # fmt: skip
        """The source address for packets out of ``link`` when nobody chose one.

        The link's first address, or the one in the subnet of ``near``; a link without addresses
        borrows the first global one of the namespace (inet_select_addr).
        """
        own = [a for a in link.addresses if not a.secondary and min(a.scope, HOST) <= scope]
        beside = [a for a in own if near is None or near in a.network]
        others = (a for other in self.links.values() for a in other.addresses
                  if not a.secondary and a.scope != LINK and a.scope <= scope)  # fmt: skip
        chosen = next(chain(beside, own, others), None)
        return chosen.ip if chosen else None

    # Packets

    def receive(self, link: Link, frame: Frame, skb: Skb | None = None) -> None:
        """Take a frame off ``link``; one for another MAC is heard and dropped."""
        packet, ours = frame.payload, frame.dst in (link.mac, BROADCAST_MAC)
        if not link.up:
            return
        if isinstance(packet, Arp):
            if ours:
                self.neighbors.receive(link, packet)
            return
        self.sight(link, "in", packet)
        if not link.passes("ingress", packet):
            return
        kept = skb if link.kind == "loopback" else None
        mark, to_all = skb.mark if skb else 0, frame.dst == BROADCAST_MAC
        skb = kept or Skb(packet, mark=mark, broadcast=to_all)
        if ours:
            self.ip.receive(skb, link)
        else:
            why = f"the frame is for {frame.dst} and {link.name} is {link.mac}"
            self.drop(skb, "link", why)

    def sight(self, link: Link, way: str, packet: Packet) -> None:
        """Tell the recorder that a packet passed a link."""
        if self.world.recorder:
            self.world.recorder.sighting(self, link, way, packet)

    def note(self, skb: Skb | None, stage: str, verdict: str, row: Row = None,
             lost: bool = False) -> None:  # fmt: skip
        """Tell the recorder what was decided about a packet; ``lost`` if it ends here."""
        if self.world.recorder:
            packet, mark = (skb.packet, skb.mark) if skb else (None, 0)
            told = Decision(self, stage, verdict, row, packet, mark, lost)
            self.world.recorder.decision(told)

    def drop(self, skb: Skb, stage: str, why: str) -> None:
        """Tell the recorder that the packet ends here."""
        self.note(skb, stage, why, lost=True)
