"""A small VPC with machines in it, wired by hand: no cluster, no CNI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface

from ekslearn.cluster import Lab
from ekslearn.fabric import Fabric
from ekslearn.linux import Client, Decision, Link, NetworkNamespace, Packet
from ekslearn.vpc.ec2 import Ec2
from ekslearn.vpc.instance import instance_type
from ekslearn.vpc.model import Eni, Vpc
from ekslearn.vpc.security import SecurityGroup
from ekslearn.vpc.subnet import Subnet

OUT = "169.254.1.1"  # the next hop of a host outside: its own router, wherever that is


@dataclass
class Notes:
    """Everything the fabric and the kernels decided, and what was seen where."""

    decisions: list[Decision] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def sighting(self, namespace: NetworkNamespace, link: Link, way: str, packet: Packet) -> None:
        self.seen.append(f"{namespace.name} {way} {packet.src}>{packet.dst} {packet.ttl}")

    def decision(self, decision: Decision) -> None:
        self.decisions.append(decision)

    @property
    def lost(self) -> str:
        """Where the first packet ended."""
        return next((f"{d.stage}: {d.verdict}" for d in self.decisions if d.lost), "")

    def vpc(self) -> list[str]:
        """The fabric's own decisions, as "stage: verdict | row"."""
        own = (d for d in self.decisions if d.stage.startswith(("vpc", "internet", "outside")))
        return [f"{d.stage}: {d.verdict} | {getattr(d.row, 'text', '')}" for d in own]


class Site(Lab):
    """Machines in and outside a VPC with three subnets: a, b (both in one zone) and c."""

    def __init__(self, *, routes: Sequence[tuple[str, str]] = (), seed: int = 0) -> None:
        super().__init__("site", [], seed=seed)
        self.vpc = Vpc(["10.0.0.0/16"], [
            Subnet("a", "10.0.1.0/24", "us-east-1a", routes=routes),
            Subnet("b", "10.0.2.0/24", "us-east-1a", routes=routes),
            Subnet("c", "10.0.3.0/24", "us-east-1c"),
        ])  # fmt: skip
        self.ec2 = Ec2(self.vpc, clock=self.now)
        self.fabric = Fabric(self.world, self.vpc)

    def now(self) -> float:
        return self.world.clock

    def machine(self, name: str, subnet: str = "a", *, groups: Sequence[SecurityGroup] = (),
                kind: str = "m5.large") -> Eni:  # fmt: skip
        """An instance with one ENI: address, mask, route and MTU as DHCP brings them."""
        eni = self.ec2.run_instances(
            name, instance_type(kind), self.vpc.subnets[subnet], groups=groups
        )
        namespace = NetworkNamespace(self.world, name)
        link = namespace.add_link("eth0", "ethernet", eni.mac)
        self.fabric.plug(link, eni)
        self.up(name, f"{eni.primary}/{eni.subnet.cidr.prefixlen}", str(eni.subnet.gateway), 9001)
        return eni

    def host(self, name: str, *addresses: str, mtu: int = 1500) -> Link:
        """A machine outside, with its first address on eth0 and the others on lo."""
        namespace = NetworkNamespace(self.world, name)
        link = namespace.add_link("eth0", "ethernet")
        self.fabric.plug_host(link, [IPv4Address(each) for each in addresses])
        self.up(name, f"{addresses[0]}/32", OUT, mtu)
        for each in addresses[1:]:
            self.must(name, f"ip addr add {each}/32 dev lo")
        return link

    def up(self, name: str, address: str, gateway: str, mtu: int) -> None:
        self.must(name, "ip link set lo up")
        self.must(name, f"ip link set eth0 mtu {mtu} up")
        self.must(name, f"ip addr add {IPv4Interface(address)} dev eth0")
        self.must(name, f"ip route add default via {gateway} dev eth0 onlink")

    def must(self, place: str, command: str) -> str:
        done = self.run(place, command)
        assert done.status == 0, (place, command, done)
        return done.stdout

    def ask(self, place: str, destination: str, *, size: int | None = None) -> tuple[Client, Notes]:
        """One probe, ADDRESS or ADDRESS:PORT/PROTOCOL, and all that was decided about it."""
        host, _, rest = destination.partition(":")
        port, _, protocol = rest.partition("/")
        found: list[Client] = []
        notes = self.record(lambda: found.append(self.namespace(place).sockets.ask(
            protocol or ("tcp" if port else "icmp"), IPv4Address(host),
            int(port) if port else None, size=size,
        )))  # fmt: skip
        return found[0], notes

    def record(self, call: Callable[[], object]) -> Notes:
        """All that is decided while ``call`` and what comes of it happens."""
        self.world.recorder = notes = Notes()
        call()
        self.world.settle()
        self.world.recorder = None
        return notes

    @staticmethod
    def decided(notes: Notes, stage: str) -> list[Decision]:
        return [each for each in notes.decisions if each.stage == stage]

    def fabric_eni(self, name: str) -> Eni:
        """The first ENI of a machine."""
        return next(each.enis[0] for each in self.ec2.instances.values() if each.name == name)

    def verdict(self, place: str, destination: str, **more: int) -> str:
        """What the asker experiences, or where the packet ended."""
        client, notes = self.ask(place, destination, **more)
        answers = [each for each in client.answers if not each.meaning]
        told = [each.meaning for each in client.answers if each.meaning]
        return "answered" if answers else told[0] if told else notes.lost or "nothing"
