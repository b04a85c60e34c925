"""The way of a packet through one namespace: received, delivered, forwarded, sent.

The order of decisions is the kernel's: net/ipv4/ip_input.c, route.c, ip_forward.c, ip_output.c
and fib_frontend.c of Linux 6.18.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from errno import EACCES, EHOSTUNREACH, EINVAL, EMSGSIZE, ENETUNREACH, EPERM
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from .link import LINK, Link
from .netfilter import ORDER
from .packet import REDIRECT, TIME_EXCEEDED, UNREACHABLE, Packet, Skb
from .route import ERRORS, Flow, Lookup, Route

if TYPE_CHECKING:
    from .conntrack import Binding
    from .namespace import NetworkNamespace

NOBODY = IPv4Address(0)
DUMMY = IPv4Address("192.0.0.8")  # whoever reports an error without an address (RFC 7600)
LOOPBACK = IPv4Address("127.0.0.1")
ALL_HOSTS = IPv4Address("255.255.255.255")
# The ICMP code (of type 3) that stands for a routing error; EINVAL, a blackhole, says nothing.
CODES = {ENETUNREACH: 0, EHOSTUNREACH: 1, EACCES: 13}
FRAGMENTATION_NEEDED = 4
LEAST_LEARNED_MTU = 552  # net.ipv4.route.min_pmtu
LOCALNET = "route_localnet"  # the switch that lets 127/8 come in and go out like any network
QUOTED_BYTES = 548  # an ICMP error with what it quotes stays within 576 bytes (RFC 1812)


@dataclass(frozen=True, slots=True)
class Arrival:
    """What routing makes of a packet that came in: local, broadcast, forward, drop or error."""

    verdict: str
    lookup: Lookup | None = None
    why: str = ""
    errno: int = 0
    redirect: bool = False

    @property
    def route(self) -> Route | None:
        """The route found, if any."""
        return self.lookup.route if self.lookup else None


@dataclass(frozen=True, slots=True)
class Departure:
    """What routing makes of a packet about to be sent: an error, or link, next hop and source."""

    lookup: Lookup | None
    errno: int = 0
    src: IPv4Address = NOBODY
    link: Link | None = None
    gateway: IPv4Address | None = None
    broadcast: bool = False


class Ip:
    """The IPv4 layer of one namespace."""

    def __init__(self, namespace: NetworkNamespace) -> None:
        self._ns = namespace

    # Coming in

    def receive(self, skb: Skb, link: Link) -> None:
        """Take in a packet: PREROUTING, then the routing decision, then whatever that says."""
        skb.iif, skb.oif, before = link, None, skb.packet
        looped = link.kind == "loopback" and skb.local
        if not self._pass("PREROUTING", skb):
            return
        if looped and skb.packet.dst == before.dst:  # routed already, on its way out
            self.deliver(skb)
            return
        packet = skb.packet
        arrival = self.arrival(Flow(packet.dst, packet.src, link.name, mark=skb.mark), link)
        if arrival.lookup:
            self._ns.note(skb, "route", self._words(arrival), arrival.lookup)
        if arrival.verdict in ("drop", "error"):
            self._ns.drop(skb, "route", arrival.why)
            if arrival.verdict == "error":
                self.report_route_error(skb, arrival.errno)
        elif arrival.verdict == "forward" and arrival.route:
            skb.redirect = arrival.redirect
            self.forward(skb, arrival.route)
        else:
            skb.local, skb.broadcast = True, skb.broadcast or arrival.verdict == "broadcast"
            self.deliver(skb)

    @staticmethod
    def _words(arrival: Arrival) -> str:
        route = arrival.route
        if arrival.verdict in ("local", "broadcast"):
            return "the packet is for this namespace"
        if route and route.dev and arrival.verdict == "forward":
            return f"forward through {route.dev.name}" + (f" via {route.via}" if route.via else "")
        return route.kind if route else "no route"

    def arrival(self, flow: Flow, link: Link) -> Arrival:
        """Decide about a packet, or an ARP request, that came in by ``link``."""
        src, dst = flow.src, flow.dst
        to_all = dst == ALL_HOSTS or dst == src == NOBODY
        localnet = self._ns.sysctls.either(link.name, LOCALNET)
        nobodys = not to_all and (src == NOBODY or (src.is_loopback and not localnet))
        if src.is_multicast or src == ALL_HOSTS or nobodys:
            return Arrival("drop", why=f"martian source {src}")
        if to_all:
            return self._checked(Arrival("broadcast"), flow, link)
        if dst == NOBODY or (dst.is_loopback and not localnet):
            return Arrival("drop", why=f"martian destination {dst}")
        lookup = self._ns.routing.lookup(flow)
        route = lookup.route
        if route and route.kind in ("local", "broadcast"):
            return self._checked(Arrival(route.kind, lookup), flow, link)
        if not self._ns.sysctls.own(link.name, "forwarding"):
            why = f"it is for another host and forwarding is off on {link.name}"
            return Arrival("drop", lookup, why, EHOSTUNREACH)
        if lookup.error or route is None or route.dev is None:
            why = f"{route.kind} route" if route else "no route to the destination"
            verdict = "error" if lookup.error in CODES else "drop"
            return Arrival(verdict, lookup, why, lookup.error)
        return self._checked(Arrival("forward", lookup), flow, link, route.dev)

    def _checked(self, arrival: Arrival, flow: Flow, link: Link,
                 oif: Link | None = None) -> Arrival:  # fmt: skip
        """``arrival`` if the source passes the reverse path filter, else a drop."""
        why, redirect = self._validate(flow, link, oif)
        if why:
            return Arrival("drop", arrival.lookup, why, EINVAL)
        return replace(arrival, redirect=redirect)

    def _validate(self, flow: Flow, link: Link, oif: Link | None) -> tuple[str, bool]:
        """fib_validate_source: would a packet to this source go out where it came in?

        What speaks against it, if anything; and whether the sender is to be told that the next
        hop is a neighbor of its own.
        """
        ns, src = self._ns, flow.src
        if src == NOBODY:
            return "", False
        strictness = ns.sysctls.highest(link.name, "rp_filter")
        accept_local = ns.sysctls.either(link.name, "accept_local")
        may_redirect = oif is link and ns.sysctls.either(link.name, "send_redirects")
        if not strictness and not may_redirect:
            if accept_local:
                return "", False
            if not ns.routing.custom_rules and not ns.routing.custom_locals:
                martian = f"martian source {src}: it is an own address"
                return martian if ns.owns(src) else "", False
        mark = flow.mark if ns.sysctls.either(link.name, "src_valid_mark") else 0
        back = Flow(src, flow.dst, oif.name if oif else "lo", mark=mark)
        route = ns.routing.lookup(back).route
        reason = f"rp_filter {strictness} on {link.name}"
        nothing = f"{reason}: no way back to {src}" if strictness else ""
        if route is None or route.kind in ERRORS:
            return nothing, False
        if route.kind != "unicast" and not (route.kind == "local" and accept_local):
            return f"martian source {src}: its route here is {route.kind}", False
        if route.dev is link or (route.kind == "local" and link.kind == "loopback"):
            return "", may_redirect and self._is_direct(route)
        if not link.addresses:
            return nothing, False
        if strictness == 1:
            name = route.dev.name if route.dev else "nowhere"
            return f"{reason}: the way back to {src} is {name}, not {link.name}", False
        bound = ns.routing.lookup(replace(back, oif=link.name)).route
        direct = bound and bound.kind == "unicast" and self._is_direct(bound)
        return "", bool(may_redirect and direct)

    @staticmethod
    def _is_direct(route: Route) -> bool:
        return route.own_gateway or (route.via is None and route.scope >= LINK)

    def deliver(self, skb: Skb) -> None:
        """Hand the packet to this namespace's own sockets, if INPUT lets it pass."""
        if self._pass("INPUT", skb) and self._ns.conntrack.confirm(skb):
            self._ns.sockets.receive(skb)

    def forward(self, skb: Skb, route: Route) -> None:
        """Pass the packet on: TTL, MTU, perhaps a redirect, then out."""
        packet, link = skb.packet, route.dev
        assert link is not None  # the routing decision chose a route with a link
        # A socket here waits for it and has it already; such a packet isn't forwarded (ip_forward).
        tcp = self._ns.sysctls["net.ipv4.tcp_early_demux"]
        early = packet.protocol == "udp" or (packet.protocol == "tcp" and tcp)
        if early and any(client.asked(packet) for client in self._ns.sockets.clients):
            self._ns.drop(skb, "forward", "early demux: it belongs to a socket of this namespace")
            return
        if skb.broadcast:
            self._ns.drop(skb, "forward", "a frame for everybody isn't forwarded")
            return
        if packet.ttl <= 1:
            self._ns.drop(skb, "forward", "the TTL is used up")
            self.send_error(skb, (TIME_EXCEEDED, 0), "expired")
            return
        if packet.df and packet.size > link.mtu:
            why = f"{packet.size} bytes are more than the MTU {link.mtu} of {link.name}"
            self._ns.drop(skb, "forward", f"{why}, and the packet says don't fragment")
            self.send_error(skb, (UNREACHABLE, FRAGMENTATION_NEEDED), "unreachable", mtu=link.mtu)
            return
        skb.packet = replace(packet, ttl=packet.ttl - 1)
        gateway = self._ns.routing.taught(route, packet.dst).gateway or route.gateway
        next_hop = gateway or packet.dst
        if skb.redirect:
            self.send_error(skb, (REDIRECT, 1), "", gateway=next_hop)
        skb.oif, skb.gateway = link, gateway
        if self._pass("FORWARD", skb):
            self.finish(skb)

    # Going out

    def departure(self, dst: IPv4Address, src: IPv4Address | None = None, oif: str = "",
                  mark: int = 0, *, any_source: bool = False) -> Departure:  # fmt: skip
        """Decide how a packet of this namespace's own leaves, and with which source address.

        A source that isn't local is ENETUNREACH, unless ``any_source`` allows it.
        """
        ns = self._ns
        if src and (src.is_multicast or src == ALL_HOSTS):
            return Departure(None, EINVAL)
        bound = ns.links.get(oif)
        strange = src and not any_source and not ns.owns(src) and not ns.is_local(src)
        if strange or (bound and not bound.up):
            return Departure(None, ENETUNREACH)
        lookup = ns.routing.lookup(Flow(dst, src or NOBODY, "lo", oif, mark))
        route = lookup.route
        if lookup.error or route is None or route.dev is None:
            if not bound:
                return Departure(lookup, lookup.error or EINVAL)
            source = src or ns.select_address(bound, None, LINK) or NOBODY
            return Departure(lookup, 0, source, bound)
        if route.kind == "local":
            return Departure(lookup, 0, src or route.src or dst, ns.links["lo"])
        gateway = ns.routing.taught(route, dst).gateway or route.gateway
        chosen = src or route.src or ns.select_address(route.dev, route.via, route.scope)
        localnet = route.dev.kind == "loopback" or ns.sysctls.either(route.dev.name, LOCALNET)
        if chosen and chosen.is_loopback and not localnet:
            return Departure(lookup, EINVAL)  # 127/8 doesn't leave (__mkroute_output)
        to_all = route.kind == "broadcast" or dst == ALL_HOSTS
        return Departure(lookup, 0, chosen or NOBODY, route.dev, gateway, to_all)

    def send(self, packet: Packet, *, binding: Binding | None = None,
             any_source: bool = False) -> int:  # fmt: skip
        """Send a packet of this namespace's own; an errno for the sender, 0 if it went its way."""
        if not int(packet.dst):  # nobody's address stands for this host (ip_route_output_key)
            packet = replace(packet, dst=packet.src if int(packet.src) else LOOPBACK)
        skb = Skb(packet, binding=binding)
        if (errno := self._route_out(skb, any_source=any_source)) != 0:
            self._ns.drop(skb, "route", f"no route to {packet.dst}")
            return errno
        mtu = self._ns.routing.taught(skb.route, packet.dst).mtu if skb.route else 0
        # Without DF a packet too large leaves in fragments; the model draws them as one.
        if packet.df and skb.oif and packet.size > (mtu or skb.oif.mtu):
            return EMSGSIZE
        return self._pass_output(skb) or self.finish(skb)

    def _route_out(self, skb: Skb, *, any_source: bool) -> int:
        """Route an own packet by what it is now: link, next hop, and the source if it has none."""
        packet = skb.packet
        src = packet.src if int(packet.src) else None
        leaving = self.departure(packet.dst, src, "", skb.mark, any_source=any_source)
        skb.oif, skb.gateway, skb.broadcast = leaving.link, leaving.gateway, leaving.broadcast
        words = "no route"
        if leaving.link:
            nameless = packet.is_error and not int(leaving.src)
            skb.packet = replace(packet, src=DUMMY if nameless else leaving.src)
            skb.route = leaving.lookup.route if leaving.lookup else None
            skb.local = leaving.link.kind == "loopback"
            via = f" via {leaving.gateway}" if leaving.gateway else ""
            words = f"send by {leaving.link.name}{via}"
            if skb.local:
                words = "the packet stays here, through lo"
        if leaving.lookup:
            self._ns.note(skb, "route", words, leaving.lookup)
        return leaving.errno

    def _pass_output(self, skb: Skb) -> int:
        """OUTPUT: a packet whose mark, source or destination changed there is routed again."""
        ns = self._ns
        ns.conntrack.track(skb)
        for table in ORDER["OUTPUT"]:
            before = skb.packet.src, skb.packet.dst, skb.mark
            if not self._ask(table, "OUTPUT", skb):
                return EPERM
            after = skb.packet.src, skb.packet.dst, skb.mark
            again = before != after if table == "mangle" else before[1] != after[1]
            if again and (errno := self._route_out(skb, any_source=True)) != 0:
                ns.drop(skb, "route", "changed in OUTPUT, the packet has no route any more")
                return errno
        return 0

    def _pass(self, hook: str, skb: Skb) -> bool:
        """Ask the tables of a hook in their order; False if one of them ended the packet."""
        if hook == "PREROUTING":
            self._ns.conntrack.track(skb)
        return all(self._ask(table, hook, skb) for table in ORDER[hook])

    def _ask(self, table: str, hook: str, skb: Skb) -> bool:
        if table == "nat":
            return self._ns.conntrack.translate(hook, skb)
        return self._ns.netfilter.run(table, hook, skb)

    def finish(self, skb: Skb) -> int:
        """The last steps out: POSTROUTING, the neighbor, the link."""
        assert skb.oif is not None  # set by whoever routed the packet
        if not self._pass("POSTROUTING", skb) or not self._ns.conntrack.confirm(skb):
            return EPERM
        self._ns.neighbors.send(skb, skb.oif, skb.gateway or skb.packet.dst)
        return 0

    # Errors

    def report_route_error(self, skb: Skb, errno: int) -> None:
        """Tell the sender by ICMP that its packet couldn't be routed (or no neighbor answered)."""
        if errno in CODES:
            self.send_error(skb, (UNREACHABLE, CODES[errno]), "unreachable")

    def send_error(self, skb: Skb, icmp: tuple[int, int], meaning: str, *,
                   gateway: IPv4Address | None = None, mtu: int = 0) -> None:  # fmt: skip
        """Send an ICMP error about ``skb`` to its source (icmp_send).

        Never about another ICMP error, nor about a broadcast. It comes from the address the
        packet was for, if that is ours, else from the one routing chooses.
        """
        about = skb.packet
        if about.is_error or skb.broadcast:
            return
        error = Packet(
            src=about.dst if skb.local and skb.iif else NOBODY, dst=about.src, protocol="icmp",
            icmp=icmp, size=min(about.size, QUOTED_BYTES) + 28, df=False, quoted=about,
            gateway=gateway, mtu=mtu, meaning=meaning,
        )  # fmt: skip
        self.send(error, binding=skb.binding and skb.binding.related)

    def learn(self, skb: Skb) -> None:
        """Take an ICMP error's advice: a smaller MTU, or from a redirect a better gateway.

        A redirect is believed only from the gateway in use, where accept_redirects allows it, and
        once the new gateway's MAC is known (net/ipv4/route.c, __ip_do_redirect).
        """
        ns, packet, about = self._ns, skb.packet, skb.packet.quoted
        if about is None or skb.iif is None or not ns.is_local(about.src):
            return
        leaving = self.departure(about.dst, about.src)
        route = leaving.lookup.route if leaving.lookup else None
        if route is None or leaving.link is None or route.kind != "unicast":
            return
        old = ns.routing.taught(route, about.dst)
        if packet.icmp == (UNREACHABLE, FRAGMENTATION_NEEDED) and packet.mtu:
            mtu = max(packet.mtu, LEAST_LEARNED_MTU)
            ns.routing.learned[route, about.dst] = replace(old, mtu=mtu)
        elif packet.gateway and packet.src == leaving.gateway != packet.gateway:
            takes = ns.sysctls.takes_redirects(skb.iif.name) and not ns.is_local(packet.gateway)
            if takes and ns.neighbors.knows(leaving.link, packet.gateway):
                ns.routing.learned[route, about.dst] = replace(old, gateway=packet.gateway)

    def send_reset(self, skb: Skb) -> None:
        """Answer a TCP packet with a reset in its destination's name, as REJECT does."""
        reset = skb.packet.answer(flags="RST", size=40, meaning="rejected")
        self.send(reset, binding=skb.binding and skb.binding.related, any_source=True)
