"""What of a cluster is shown: its public state as a few frozen records, and the same in words.

A large cluster doesn't fit on a wall. A node shows its pods as long as there are few; else those
that are named, by a trace or by the caller, and says how many more there are. So do subnets with
their nodes. Everything is read from the model; nothing here knows what a picture looks like.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count as numbers
from typing import TYPE_CHECKING

from ekslearn.elb.group import NAMES
from ekslearn.vpc.model import NAT_GATEWAY

if TYPE_CHECKING:
    from ekslearn.cluster import Cluster
    from ekslearn.linux import Link
    from ekslearn.vpc.model import Eni
    from ekslearn.vpc.subnet import Subnet

FEW_PODS, FEW_NODES, FIRST = 5, 4, 3  # up to so many all are shown; else the first few, if any
GATEWAYS = {
    "igw": ("internet", "gateway"),
    "nat": ("NAT gateway", str(NAT_GATEWAY)),
    "tgw": ("transit", "gateway"),
    "pcx": ("VPC", "peering"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An interface of a node, a host or a pod. ``eni`` has its id where AWS plugged it in.

    ``address`` is what is written beside it: for an ENI its primary address, else the kernel's.
    ``peer`` is a veth's other end, (place, interface, "" or " DOWN"). ``owner`` is the interface
    whose ENI has a pod's address. ``notes`` say whatever else is to be known.
    """

    name: str
    address: str = ""
    up: bool = True
    kind: str = "ethernet"
    eni: str = ""
    short: str = ""  # the id, cut as far as the picture allows
    where: str = ""  # its device index, or the VLAN of a branch ENI
    subnet: str = ""  # an ENI's
    peer: tuple[str, str, str] | None = None
    owner: str = ""
    notes: tuple[str, ...] = ()
    homes: tuple[str, ...] = ()  # all addresses that EC2 leads to this ENI

    @property
    def state(self) -> str:
        """What follows the name if the link is down."""
        return "" if self.up else " DOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A pod, a node or a host: its interfaces, what listens in it, and what else it has.

    A load balancer stands in each of its subnets, with the ENI that it has there; ``room`` tells
    those apart.
    """

    name: str
    ports: tuple[Port, ...]
    kind: str = ""  # a node's instance type; what kind of load balancer
    room: str = ""  # its name in the picture, if that's another
    listens: tuple[str, ...] = ()
    pods: tuple[Place, ...] = ()
    more: int = 0  # pods that aren't shown
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A subnet with the machines that stand in it; ``more`` counts nodes not shown."""

    name: str
    cidr: str
    zone: str
    routes: tuple[str, ...]
    notes: tuple[str, ...]
    nodes: tuple[Place, ...]
    hosts: tuple[Place, ...]
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """All of the picture."""

    name: str
    cidrs: tuple[str, ...]
    rows: tuple[Row, ...]
    gateways: tuple[str, ...]
    outside: tuple[Place, ...]
    counts: str
    notes: tuple[str, ...] = ()


def shown(cluster: Cluster, named: Iterable[str] = ()) -> Shown:
    """What a picture of ``cluster`` shows; ``named`` are places that it has to show.

    Raises EkslearnError for a name that isn't there.
    """
    wanted = {cluster.namespace(name).name for name in named}
    return Reader(cluster, wanted).all()


class Reader:
    """Reads one cluster for one picture."""

    def __init__(self, cluster: Cluster, wanted: Collection[str]) -> None:
        self.cluster, self.wanted = cluster, wanted
        plugged = [wire for wire in cluster.wires if wire.until is None and wire.eni]
        self.enis = {(w.place, w.interface): cluster.vpc.enis.get(w.eni) for w in plugged}
        self.enis |= dict(self.branches())
        self.short = shortest([eni.eni_id for eni in self.enis.values() if eni])
        # The subnet that each machine stands in: its first ENI's; a load balancer in all of them.
        self.home: dict[str, list[str]] = {}
        for (place, _), eni in self.enis.items():
            if eni and (place not in self.home or place in cluster.elb.balancers):
                self.home.setdefault(place, []).append(eni.subnet.name)

    def branches(self) -> Iterator[tuple[tuple[str, str], Eni]]:
        """The branch ENIs, by the node's VLAN device that each appears as."""
        found = {(e.trunk, e.vlan_id): e for e in self.cluster.vpc.enis.values() if e.trunk}
        for node in self.cluster.machines:
            for link in self.cluster.namespace(node).links.values():
                trunk = self.enis.get((node, link.parent.name)) if link.parent else None
                if trunk and (branch := found.get((trunk, link.vlan))):
                    yield (node, link.name), branch

    def all(self) -> Shown:
        """The whole of it."""
        cluster, vpc = self.cluster, self.cluster.vpc
        places = [each for each in cluster.places if each not in cluster.pods]
        hosts = {*places} - {*cluster.machines, *cluster.elb.balancers}
        used = {r.target for each in vpc.subnets.values() for r in each.table.routes}
        outside = [self.place(name) for name in places if name not in self.home]
        waiting = [f"{pod}: {why}" for pod, why in cluster.pending.items()]
        counts = (
            f"{count(len(vpc.subnets), 'subnet')}, {count(len(cluster.machines), 'node')},"
            f" {count(len(cluster.pods), 'pod')}, {count(len(hosts), 'host')}"
        )
        if cluster.elb.balancers:
            counts += f", {count(len(cluster.elb.balancers), 'load balancer')}"
        return Shown(
            name=cluster.name,
            cidrs=tuple(map(str, vpc.cidrs)),
            rows=tuple(map(self.row, vpc.subnets.values())),
            gateways=tuple(name for name in GATEWAYS if name in used),
            outside=tuple(outside),
            counts=counts,
            notes=tuple(f"pending pod {words}" for words in waiting),
        )

    def row(self, subnet: Subnet) -> Row:
        """One subnet and what stands in it."""
        cluster = self.cluster
        mine = [place for place, names in self.home.items() if subnet.name in names]
        nodes = [place for place in mine if place in cluster.machines]
        kept = nodes
        if len(cluster.machines) > FEW_NODES:
            kept = [node for node in nodes if self.concerns(node)]
            kept = kept if self.wanted else nodes[:FIRST]
        return Row(
            name=subnet.name,
            cidr=str(subnet.cidr),
            zone=subnet.zone,
            routes=tuple(
                f"{r.destination} \N{RIGHTWARDS ARROW} {r.target}"
                for r in subnet.table.routes
                if r.target != "local"
            ),
            notes=("a network ACL filters it",) if subnet.nacl else (),
            nodes=tuple(map(self.node, kept)),
            hosts=tuple(
                self.host(place, subnet.name) for place in mine if place not in cluster.machines
            ),
            more=len(nodes) - len(kept),
        )

    def concerns(self, node: str) -> bool:
        """Whether a node is named, or one of its pods."""
        pods = self.cluster.pods
        return node in self.wanted or any(
            pods[place].node == node for place in self.wanted if place in pods
        )

    def node(self, name: str) -> Place:
        """A node with its pods."""
        cluster = self.cluster
        mine = [place for place, pod in cluster.pods.items() if pod.node == name]
        waiting = [place for place in mine if place in cluster.pending]
        shared = [place for place in mine if place in cluster.aliases]
        pods = [place for place in mine if place in cluster.places]
        kept = pods
        if len(pods) > FEW_PODS:
            kept = [place for place in pods if place in self.wanted] or pods[:FIRST]
        notes = [f"hostNetwork: {place}" for place in shared]
        notes += [f"pending: {place}" for place in waiting]
        return self.place(
            name,
            kind=cluster.machines[name].kind.name,
            pods=tuple(self.place(pod) for pod in kept),
            more=len(pods) - len(kept),
            notes=tuple(notes),
        )

    def host(self, name: str, subnet: str) -> Place:
        """A machine that is no node; of a load balancer, what stands in one subnet."""
        whole, balancer = self.place(name), self.cluster.elb.balancers.get(name)
        if balancer is None:
            return whole
        also = [each for each in self.home[name] if each != subnet]
        return replace(
            whole,
            kind=f"{NAMES[balancer.kind]} Load Balancer",
            room=name if subnet == self.home[name][0] else f"{name}@{subnet}",
            ports=tuple(port for port in whole.ports if port.subnet == subnet),
            notes=(*([f"also in {', '.join(also)}"] if also else []), *whole.notes),
        )

    def place(self, name: str, **more: object) -> Place:
        """A place with its interfaces and what listens there."""
        space = self.cluster.namespace(name)
        links = [link for link in space.links.values() if link.kind != "loopback"]
        links.sort(key=lambda link: self.order(name, link.name))
        ports = [
            self.port(link)
            for link in links
            if not (name in self.cluster.machines and self.to_hidden(link))
        ]
        listens = tuple(dict.fromkeys(  # a balancer does on each of its addresses
            f"{one.port}/{one.protocol}" + (f" ({one.process})" if one.process else "")
            for one in space.sockets.listeners
        ))  # fmt: skip
        extra = [
            f"lo {address.interface}" for address in space.links["lo"].addresses[1:]
        ] if "lo" in space.links else []  # fmt: skip
        given = {"notes": (), **more}
        given["notes"] = (*extra, *given["notes"])  # type: ignore[misc]
        ends = tuple(ports)
        return Place(name=name, ports=ends, listens=listens, **given)  # type: ignore[arg-type]

    def order(self, place: str, interface: str) -> tuple[int, int]:
        """ENIs by their device index, each trunk before its branches."""
        eni = self.enis.get((place, interface))
        trunk = eni.trunk or eni if eni else None
        return (trunk.device_index, eni.vlan_id) if trunk and eni else (0, 0)

    def to_hidden(self, link: Link) -> bool:
        """Whether a node's veth leads to a pod: such are told with the pods."""
        return link.peer is not None and link.peer.namespace.name in self.cluster.pods

    def port(self, link: Link) -> Port:
        """One interface."""
        place, eni = link.namespace.name, self.enis.get((link.namespace.name, link.name))
        addresses = [str(each.interface) for each in link.addresses]
        notes: list[str] = []
        if eni is not None:
            own = next((a for a in link.addresses if a.ip == eni.primary), None)
            address = str(own.interface) if own else str(eni.primary)
            address += "" if own or eni.trunk else " (EC2's alone)"
            notes += self.eni_notes(place, eni)
            rest = [text for text in addresses if text != address]
        else:
            address, rest = (addresses or ["no address"])[0], addresses[1:]
        notes += [f"and {text}" for text in rest]
        return Port(
            name=link.name,
            address=address,
            up=link.up,
            kind=link.kind,
            eni=eni.eni_id if eni else "",
            short=self.short.get(eni.eni_id, "") if eni else "",
            where=where(link, eni) if eni else "",
            subnet=eni.subnet.name if eni else "",
            peer=far(link),
            owner=self.owner(link) if place in self.cluster.pods else "",
            notes=tuple(notes),
            homes=tuple(homes(eni)) if eni else (),
        )

    def eni_notes(self, place: str, eni: Eni) -> list[str]:
        """What an ENI has beyond its address and its number."""
        notes = ["trunk"] if eni.interface_type == "trunk" else []
        notes += [f"subnet {eni.subnet.name}"] if eni.subnet.name not in self.home[place] else []
        notes += [f"public {eni.public_ip}"] if eni.public_ip else []
        groups = ", ".join(group.name for group in eni.security_groups)
        notes += [f"security group {groups}"] if groups else []
        notes += [] if eni.source_dest_check else ["no source/destination check"]
        return notes

    def owner(self, link: Link) -> str:
        """The ENI, by its node's name for it, to which EC2 leads a pod's first address."""
        eni = self.cluster.vpc.owner(link.addresses[0].ip) if link.addresses else None
        found = [name for (_, name), one in self.enis.items() if one is eni and eni]
        if found and eni and eni.trunk:
            return f"branch {found[0]}"
        return f"ENI {found[0]}" if found else "no ENI" if link.addresses else ""


def where(link: Link, eni: Eni) -> str:
    """Where an ENI is in its instance, or what it is of where a service of AWS's has it."""
    if eni.attachment_id.startswith("ela-"):
        return eni.description
    if link.parent:
        return f"VLAN {link.vlan} on {link.parent.name}"
    return f"device {eni.device_index}"


def far(link: Link) -> tuple[str, str, str] | None:
    """A veth's other end."""
    if link.peer is None:
        return None
    return link.peer.namespace.name, link.peer.name, "" if link.peer.up else " DOWN"


def homes(eni: Eni) -> Iterable[str]:
    """Every address that EC2 leads to an ENI."""
    yield from map(str, (eni.primary, *eni.secondary))
    for prefix in eni.prefixes:
        yield from map(str, prefix)


def shortest(ids: list[str]) -> dict[str, str]:
    """Each id cut to as few digits as keep all apart, five at least.

    >>> shortest(["eni-0abcdef", "eni-0abcd11"])
    {'eni-0abcdef': 'eni-0abcde', 'eni-0abcd11': 'eni-0abcd1'}
    """
    for length in numbers(len("eni-") + 5):
        cut = {each: each[:length] for each in ids}
        if len(set(cut.values())) == len(cut) or length > 40:
            return cut
    raise AssertionError


def count(number: int, noun: str) -> str:
    """``2 veth pairs``: a number with its noun.

    >>> count(1, "veth pair"), count(2, "veth pair")
    ('1 veth pair', '2 veth pairs')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")


def words_of(all_: Shown) -> list[str]:
    """Every line of what the picture shows."""
    lines = [f"{all_.name}: VPC {', '.join(all_.cidrs)}; {all_.counts}"]
    for row in all_.rows:
        routes = "".join(f", {route}" for route in row.routes)
        notes = "".join(f"; {note}" for note in row.notes)
        lines.append(f"  subnet {row.name} {row.cidr}, {row.zone}; routes: local{routes}{notes}")
        for node in row.nodes:
            lines += place_lines(node, f"node {node.name} ({node.kind})", "    ")
            lines += [f"      and {count(node.more, 'more pod')}"] if node.more else []
        lines += [f"    and {count(row.more, 'more node')}"] if row.more else []
        for host in row.hosts:
            lines += place_lines(host, f"{host.kind or 'host'} {host.name}", "    ")
    lines += [f"  gateway {name}: {' '.join(GATEWAYS[name])}" for name in all_.gateways]
    for host in all_.outside:
        lines += place_lines(host, f"outside host {host.name}", "  ")
    return [*lines, *(f"  {note}" for note in all_.notes)]


def place_lines(place: Place, title: str, indent: str) -> list[str]:
    """A machine with its interfaces, and under a node its pods."""
    notes = [*([f"listens: {', '.join(place.listens)}"] if place.listens else []), *place.notes]
    lines = [indent + "; ".join([title, *notes])]
    for port in place.ports:
        owner = f" ({port.owner})" if port.owner else ""
        where = f", {port.eni}, {port.where}" if port.eni else ""
        more = "".join(f", {note}" for note in port.notes)
        peer = f" = veth = {port.peer[1]}{port.peer[2]} in {port.peer[0]}" if port.peer else ""
        lines.append(f"{indent}  {port.name} {port.address}{port.state}{owner}{where}{more}{peer}")
    for pod in place.pods:
        lines += place_lines(pod, f"pod {pod.name}", indent + "  ")
    return lines
