"""Random clusters and random probes in them, in the model and on the real kernel.

``Clustering`` makes a cluster from a seed: a VPC with subnets, route tables, security groups and
machines, a VPC CNI with random settings, pods, and often something broken, by a line or by a call
that nobody told ipamd of. As a program, ``python -m tests.parity.clusters FIRST COUNT`` plays
seeds and prints what disagrees.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from random import Random

from ekslearn.cluster import Cluster
from ekslearn.cni.settings import Settings, read
from ekslearn.errors import EkslearnError
from ekslearn.ipamd.pool import EniConfig
from ekslearn.kernel import World
from ekslearn.kubernetes import Pod
from ekslearn.kubernetes.pod import Container, SecurityGroupPolicy
from ekslearn.linux import Decision, Link, NetworkNamespace, Packet
from ekslearn.vpc.instance import instance_type
from ekslearn.vpc.model import PUBLIC, Eni, Vpc
from ekslearn.vpc.security import NetworkAcl, SecurityGroup, SecurityRule
from ekslearn.vpc.subnet import Subnet
from tests.parity.coverage import decided_in_cluster
from tests.parity.packets import (
    VERDICTS,
    Case,
    Group,
    Refused,
    Tally,
    Watch,
    confirmed,
    differences,
)
from tests.parity.wirings import NOWHERE, REFUSED, Question

PROBES = 80
KINDS = ("t3.nano", "t3.small", "t3.small", "t3.medium", "m5.large", "m5.xlarge")
OUTSIDE = ("198.51.100.9", "203.0.113.50", "192.0.2.7", "10.9.0.5", "172.16.5.5")
EVERYBODY, NODE_PORT = "0.0.0.0/0", 30080
SERVICES = (("tcp", 80), ("udp", 53))
SIZES = (1300, 1301, 1400, 1500, 1504, 1505, 2000, 8500, 8501, 9001, 9002)
# How often a variable of the CNI is set, and to what.
VARIABLES: tuple[tuple[float, str, tuple[str, ...]], ...] = (
    (0.25, "AWS_VPC_K8S_CNI_EXTERNALSNAT", ("true",)),
    (0.3, "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
     ("203.0.113.0/24", "198.51.100.9/32,192.0.2.0/24", "10.9.0.0/16", EVERYBODY)),
    (0.3, "AWS_VPC_CNI_NODE_PORT_SUPPORT", ("false",)),
    (0.5, "AWS_VPC_K8S_CNI_RANDOMIZESNAT", ("none", "none", "hashrandom")),
    (0.15, "AWS_VPC_K8S_CNI_VETHPREFIX", ("pod", "veth")),
    (0.15, "AWS_VPC_K8S_CNI_CONNMARK", ("0x40", "256")),
    (0.25, "AWS_EXTERNAL_SERVICE_CIDRS", ("198.51.100.0/24", "10.9.0.0/16,203.0.113.50/32")),
    (0.3, "AWS_VPC_ENI_MTU", ("1500", "8500", "1300")),
    (0.2, "POD_MTU", ("1400", "1500")),
    (0.2, "WARM_IP_TARGET", ("2", "5")),
    (0.2, "ENABLE_PREFIX_DELEGATION", ("true",)),
)  # fmt: skip


class Clustering:
    """One random cluster, and the probes to send in it. ``connmark`` fixes who marks."""

    COUNTS: tuple[int, ...] = (0, 2, 5, 8, 12, 20, 40)  # how many pods
    # How often there are security groups, a network ACL, and something is broken.
    GROUPED, GUARDED, BROKEN = 0.25, 0.12, 0.55

    def __init__(self, seed: int, probes: int = PROBES, connmark: str = "") -> None:
        self.random = Random(f"cluster {seed}")
        self.custom, self.branches = self.chance(0.15), self.chance(0.15)
        self.groups: list[SecurityGroup] = []
        vpc = self._vpc()
        policies = [
            SecurityGroupPolicy(namespace=namespace, labels={"role": "db"},
                                groups=tuple(one.name for one in self.some(1)))
            for namespace in ("default", "shop") if self.branches
        ]  # fmt: skip
        self.lab = Cluster(
            f"random-{seed}", vpc, self._settings(), seed=seed, policies=policies,
            connmark=connmark or self.pick("iptables", "nft"), eniconfigs=[
                EniConfig(name=f"us-east-1{zone}", subnet=f"pods-{zone}")
                for zone in "ab" if self.custom
            ],
        )  # fmt: skip
        self.nodes: list[str] = []
        self.hosts: list[str] = []
        self.outside: list[str] = []
        self.pods: list[str] = []
        self._machines()
        self._pods()
        self._services()
        if self.chance(self.BROKEN):
            for _ in range(self.random.choice((1, 1, 2, 3))):
                self.random.choice(list(self._alterations(self.pick(*self.nodes))))()
        self.open: dict[str, list[tuple[str, int]]] = {}
        for place, where in self.lab.listeners():
            _, _, rest = where.partition(":")
            port, _, protocol = rest.partition("/")
            self.open.setdefault(place, []).append((protocol, int(port)))
        self.questions = [self._question() for _ in range(probes)]

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def pick(self, *options: str) -> str:
        return self.random.choice(options)

    def go(self, place: str, command: str) -> bool:
        """Run a line; True if it did something."""
        done = self.lab.run(place, command)
        if done.status == REFUSED:
            raise EkslearnError(f"the generator asked for what isn't modelled: {command}: {done}")
        return done.status == 0

    # AWS

    def _vpc(self) -> Vpc:
        vpc = Vpc(["10.0.0.0/16"])
        more = "100.64.0.0/16" if self.custom else "10.1.0.0/16" if self.chance(0.2) else ""
        if more:
            vpc.add_cidr(more)
        if self.branches or self.chance(self.GROUPED):
            self._groups(vpc)
        roads = self._roads()
        firsts = (("", "igw", "igw", "nat", "nat"), ("", "tgw", "nat"))[self.chance(0.25)]
        names = ["one-a", "two-b", "three-a", "four-b"][: self.random.randint(1, 4)]
        for at, name in enumerate([*names, *(["pods-a", "pods-b"] if self.custom else [])]):
            length = self.random.choice((19, 20, 24, 24))
            second = 1 if more.startswith("10.") and self.chance(0.3) else 0
            start = "100.64" if name.startswith("pods") else f"10.{second}"
            cidr = f"{start}.{32 * at}.0/{length}"
            made = Subnet(name, cidr, f"us-east-1{name[-1]}", routes=self._routes(roads, firsts),
                          nacl=self._acl(name))  # fmt: skip
            vpc.add_subnet(made)
            if self.chance(0.1):
                first = IPv4Network(cidr).network_address + 32
                made.reserve(f"{first}/28", self.pick("prefix", "explicit"))
        return vpc

    def _roads(self) -> list[tuple[str, str]]:
        """Ways to single networks outside, by a transit gateway or to a peered VPC."""
        return [(str(IPv4Network(f"{one}/{self.random.choice((24, 32))}", strict=False)),
                 self.pick("tgw", "pcx")) for one in OUTSIDE if self.chance(0.35)]  # fmt: skip

    def _routes(
        self, roads: list[tuple[str, str]], firsts: tuple[str, ...]
    ) -> list[tuple[str, str]]:
        """A private or a public subnet or one behind a NAT, with roads.

        One with an igw has all of them: an error that leaves by an igw, about a connection that
        went by another gateway, is one thing that the router can't translate.
        """
        first = self.pick(*firsts)
        some = [one for one in roads if first == "igw" or self.chance(0.8)]
        return [*([(EVERYBODY, first)] if first else []), *some]

    def _groups(self, vpc: Vpc) -> None:
        names = ["web", "db", "all"]
        for name in names[: self.random.randint(1, 3)]:
            ingress = [self._rule(names) for _ in range(self.random.randint(1, 5))]
            egress = [self._rule(names) for _ in range(3)] if self.chance(0.3) else [SecurityRule()]
            self.groups.append(SecurityGroup(name, ingress, egress))
            vpc.add_security_group(self.groups[-1])

    def _rule(self, names: list[str]) -> SecurityRule:
        protocol, low, high = self._traffic()
        cidrs = (EVERYBODY, EVERYBODY, "10.0.0.0/16", "10.0.0.0/20", "198.51.100.0/24")
        return SecurityRule(
            protocol=protocol, from_port=low, to_port=high, cidr=IPv4Network(self.pick(*cidrs)),
            group=self.pick(*names) if self.chance(0.3) else "",
        )  # fmt: skip

    def _traffic(self) -> tuple[str, int | None, int | None]:
        return self.random.choice((
            ("all", None, None), ("all", None, None), ("tcp", 80, 80), ("tcp", 1, 65535),
            ("udp", 53, None), ("tcp", 1024, 65535), ("icmp", None, None), ("icmp", 8, 0),
            ("icmp", 3, None), ("udp", None, None),
        ))  # fmt: skip

    def _acl(self, name: str) -> NetworkAcl | None:
        if not self.chance(self.GUARDED):
            return None
        ways = []
        for _ in ("ingress", "egress"):
            rules = []
            for number in (100, 110, 120)[: self.random.randint(0, 3)]:
                protocol, low, high = self._traffic()
                cidr = IPv4Network(self.pick(EVERYBODY, "10.0.0.0/19", "198.51.100.0/24"))
                rules.append(SecurityRule(number=number, deny=self.chance(0.4), protocol=protocol,
                                          from_port=low, to_port=high, cidr=cidr))  # fmt: skip
            ways.append([*rules, *[SecurityRule(number=200)][: self.chance(0.85)]])
        return NetworkAcl(name, *ways)

    def some(self, least: int = 0) -> list[SecurityGroup]:
        """Security groups for one ENI; often none, which admits everything."""
        if not self.groups or (not least and self.chance(0.4)):
            return []
        return self.random.sample(self.groups, self.random.randint(1, min(2, len(self.groups))))

    # The CNI, machines and pods

    def _settings(self) -> Settings:
        env = {name: self.pick(*values) for share, name, values in VARIABLES if self.chance(share)}
        if self.custom:
            env["AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG"] = "true"
            env["ENI_CONFIG_LABEL_DEF"] = "topology.kubernetes.io/zone"
        if self.branches:
            env["ENABLE_POD_ENI"] = "true"
            env["POD_SECURITY_GROUP_ENFORCING_MODE"] = self.pick("strict", "standard")
            env["DISABLE_TCP_EARLY_DEMUX"] = self.pick("true", "false")
        return read(env)

    def _machines(self) -> None:
        usual = [one for one in self.lab.vpc.subnets if not one.startswith("pods")]
        for letter in "abcdef"[: self.random.randint(1, 6)]:
            subnet, name = self.pick(*usual), f"node-{letter}"
            zone = {"topology.kubernetes.io/zone": self.lab.vpc.subnets[subnet].zone}
            names = ["ens5", "ens6", "ens7", "ens8"] if self.chance(0.2) else []
            kind = instance_type("m5.large" if self.branches else self.pick(*KINDS))
            self.lab.add_node(name, kind, subnet, interfaces=names, labels=zone, groups=self.some())
            self.nodes.append(name)
        for name in ("host-a", "host-b")[: self.random.randint(0, 2)]:
            self.lab.add_host(name, [], self.pick(*usual), self.some())
            self.hosts.append(name)
        addresses = [IPv4Address(one) for one in self.random.sample(OUTSIDE, len(OUTSIDE))]
        for name in ("far-a", "far-b", "far-c")[: self.random.randint(1, 3)]:
            own = [addresses.pop() for _ in range(1 if len(addresses) < 4 else 2)]
            self.lab.add_host(name, own)
            self.outside.append(name)
        for name in (*self.hosts, *self.outside):
            for protocol, port in SERVICES:
                if self.chance(0.8):
                    self.lab.listen(name, f"0.0.0.0:{port}/{protocol}")

    def _pods(self) -> None:
        for number in range(self.random.choice(self.COUNTS)):
            ports = tuple((port, protocol) for protocol, port in SERVICES if self.chance(0.9))
            host = self.chance(0.05)
            ports = ((8000 + number, "tcp"),) if host else ports
            self.lab.add_pod(Pod(
                name=f"p{number}", namespace=self.pick("default", "shop"), host_network=host,
                node=self.pick(*self.nodes) if self.chance(0.8) else "",
                labels={"role": "db"} if self.branches and self.chance(0.5) else {},
                containers=(Container(name="c", ports=ports),),
            ))  # fmt: skip
        self.lab.settle(60)
        for place in [one for one in self.lab.pods if self.chance(0.08)]:
            self.lab.delete_pod(place)
        if self.chance(0.3):
            self.lab.sleep(self.random.choice((10, 40, 90)))
        self.pods = [place for place in self.lab.pods if place in self.lab.places]

    def _services(self) -> None:
        """A NodePort as kube-proxy would have it, on some nodes."""
        for node in self.nodes:
            if not self.pods or not self.chance(0.5):
                continue
            pod = self.lab.address(self.pick(*self.pods))
            for protocol, port in SERVICES:
                self.go(node, "iptables -t nat -I PREROUTING -m addrtype --dst-type LOCAL"
                              f" -p {protocol} --dport {NODE_PORT} -j DNAT"
                              f" --to-destination {pod}:{port}")  # fmt: skip
            if self.chance(0.15):
                what = self.pick("-p tcp --dport 80", "-p icmp", "-p udp --dport 53")
                self.go(node, f"iptables -A FORWARD {what} -j REJECT")
            if self.chance(0.5):
                self.go(node, f"iptables -t mangle -A PREROUTING -p tcp --dport {NODE_PORT}"
                              " -j MARK --set-xmark 0x4000/0x4000")  # fmt: skip
                self.go(node, "iptables -t nat -I POSTROUTING -m mark --mark 0x4000/0x4000"
                              f" -j MASQUERADE{self.pick('', ' --random-fully')}")  # fmt: skip

    # Something other than it should be

    def _alterations(self, node: str) -> Iterator[Callable[[], object]]:
        lab, vlans = self.lab, bool(self.lab.machines[node].branches)
        rules = [line.replace("\t", " ") for line in lab.shows(node, "ip rule show").splitlines()
                 if line.partition(":")[0] not in ("0", "20", "32766", "32767")]  # fmt: skip
        rules = self.random.sample(rules, min(4, len(rules)))
        eth = self.pick(*(wire.interface for wire in lab.wires
                          if wire.place == node and wire.until is None))  # fmt: skip
        commands = [
            "sysctl -w net.ipv4.ip_forward=0", "iptables -t mangle -F PREROUTING",
            "iptables -t nat -F AWS-SNAT-CHAIN-0", "iptables -t nat -D PREROUTING 1",
            "iptables -A FORWARD -p udp -j DROP", "ip route flush table 2", "ip route del default",
            "iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP",
            f"ip route add 198.51.100.0/24 dev {eth}",
            *(f"iptables -A FORWARD {what} -j REJECT" for what in (
                "-p tcp --dport 80", "-p icmp", "-p udp --dport 53", "-p icmp -d 10.0.0.0/16")),
            *(f"sysctl -w net.ipv4.conf.{eth}.rp_filter={value}" for value in (0, 1, 1, 2)),
            *(f"ip rule del prio {rule.replace(':', '', 1)}" for rule in rules),
        ]  # fmt: skip
        if not vlans:  # a VLAN device goes down with its ENI, and its stand-in doesn't
            mtu = self.pick("1500", "9001", "1400", "9216")
            commands += [f"ip link set {eth} down", f"ip link set {eth} mtu {mtu}"]
        for command in commands:
            yield lambda command=command: self.go(node, command)  # type: ignore[misc]
        eni = self.random.choice([one for one in lab.vpc.enis.values() if one.attached])
        yield lambda: setattr(eni, "source_dest_check", False)
        if eni.secondary:
            yield lambda: lab.vpc.release(eni, eni.secondary[0])
        if self.pods:
            pod = self.pick(*self.pods)
            for command in ("ip neigh del 169.254.1.1 dev eth0", "ip link set eth0 down",
                            "ip route del default", "sysctl -w net.ipv4.ip_forward=1"):  # fmt: skip
                yield lambda command=command: self.go(pod, command)  # type: ignore[misc]
        yield lambda: self.go(self.pick(*self.outside), "ip link set eth0 mtu 1300")

    # Probes

    def _question(self) -> Question:
        source = self.pick(*self.random.choice([
            group for group in (self.pods, self.pods, self.pods, self.nodes, self.hosts,
                                self.outside, self.outside, self.nodes) if group
        ]))  # fmt: skip
        place, address = self._target(source)
        protocol, port = self.random.choice([
            *self.open.get(place, [])[:3], *self.open.get(place, [])[:3], ("icmp", None),
            ("icmp", None), self.random.choice((("tcp", 9), ("udp", 9), ("tcp", 80), ("udp", 53),
                                                ("tcp", NODE_PORT), ("udp", NODE_PORT))),
        ])  # fmt: skip
        if place in self.nodes and self.chance(0.4):
            protocol, port = self.pick("tcp", "udp"), NODE_PORT
        ttl = self.random.choice((1, 1, 2, 2, 3)) if self.chance(0.12) else 64
        through = IPv4Address(address) in PUBLIC and source not in self.outside
        sized = protocol != "tcp" and not through and self.chance(0.08)
        size = self.random.choice(SIZES) if sized else None
        return Question(source, protocol, address, port, ttl, size)

    def _target(self, source: str) -> tuple[str, str]:
        """Where to: a place, if anybody is there, and an address of it."""
        lab, draw = self.lab, self.random.random()
        enis = list(lab.vpc.enis.values())
        public = {one.public_ip: one for one in enis if one.public_ip}
        if self.groups or any(one.nacl for one in lab.vpc.subnets.values()):
            far = lab.fabric.outside(source)[:1]  # kernel/router.py says what it can't say
            public = {ip: one for ip, one in public.items() if far and _by_igw(one, far[0])}
        if public and draw < (0.4 if source in self.outside else 0.05):
            ip = self.random.choice(list(public))
            return self._holder(public[ip].primary), str(ip)
        if draw < 0.6 and self.pods:
            return self._own(self.pick(*self.pods))
        if draw < 0.85:
            groups = (self.nodes, self.outside, self.outside, self.hosts)
            place = self.pick(*self.random.choice([group for group in groups if group]))
            if place in self.outside:
                return place, self.pick(*map(str, lab.fabric.outside(place)))
            return self._own(place)
        eni = self.random.choice(enis)
        if draw < 0.93:
            inside = [eni.primary, *eni.secondary, *(net[3] for net in eni.prefixes)]
            return "", str(self.random.choice(inside))
        return "", self.pick(
            NOWHERE, "10.0.0.77", "10.0.32.200", str(eni.subnet.gateway), "198.19.0.1",
            "169.254.169.254", "169.254.1.1", str(eni.subnet.cidr[-1]), "172.20.0.10", *OUTSIDE,
        )  # fmt: skip

    def _holder(self, address: IPv4Address) -> str:
        places = self.lab.world.namespaces.items()
        return next((name for name, one in places if one.owns(address)), "")

    def _own(self, place: str) -> tuple[str, str]:
        try:
            return place, self.lab.address(place)
        except EkslearnError:  # a line took it
            return "", NOWHERE


def _by_igw(eni: Eni, address: IPv4Address) -> bool:
    route = eni.subnet.table.lookup(address)
    return route is not None and route.target == "igw"


class ClusterWatch(Watch):
    """Keeps what AWS and the CNI decided, too."""

    def decision(self, decision: Decision) -> None:
        """Something was decided."""
        super().decision(decision)
        self.decided.update(decided_in_cluster(decision))

    def sighting(self, namespace: NetworkNamespace, link: Link, way: str, packet: Packet) -> None:
        """A packet passed a link."""
        super().sighting(namespace, link, way, packet)
        if link.kind == "vlan":
            self.decided.add("branch ENI")


def modes(lab: Cluster) -> set[str]:
    """The ways in which a cluster was set up, by name."""
    settings = lab.settings
    found = {
        f"connmark by {lab.connmark}": not settings.external_snat,
        "external SNAT": settings.external_snat, "custom networking": settings.custom_networking,
        "prefixes": settings.prefix_delegation, "veth prefix": settings.veth_prefix != "eni",
        "no NodePort support": not settings.node_port_support,
        "another mark": settings.connmark != 0x80,
        f"security groups for pods {settings.enforcing_mode}": settings.enable_pod_eni,
    }  # fmt: skip
    return {f"in a cluster with {name}" for name, so in found.items() if so}


def asked(made: Clustering, watch: type[Watch] = ClusterWatch) -> tuple[Case, list[Group]]:
    """Ask the model, with what a count needs."""
    case = Case(made.lab, made.questions, watch)
    groups = case.model()
    more = modes(made.lab)
    for group in groups:
        group.asked = [replace(one, decided=one.decided | more) for one in group.asked]
    return case, groups


def play(seed: int, world: World, tally: Tally, *, probes: int = PROBES) -> None:
    """Compare one random cluster."""
    played(Clustering(seed, probes), ClusterWatch, f"cluster {seed}", world, tally)


def played(made: Clustering, watch: type[Watch], name: str, world: World, tally: Tally) -> None:
    """Compare a cluster with the kernel, and count."""
    case, groups = asked(made, watch)
    tally.add(groups)
    try:
        found = differences(case, groups, world)
        if found:
            real = confirmed(found, world)
            tally.doubtful += len(found) - len(real)
            found = real
    except Refused as error:
        tally.found.append(str(error))
        return
    if found:
        tally.found.append(f"{name}, {len(found)} probes: {found[0].diff()}")


def main(play: Callable[[int, World, Tally], None] = play) -> None:
    """Play seeds FIRST, FIRST + 1, … and print each disagreement."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    tally, started = Tally(), time.monotonic()
    with World() as world:
        for seed in range(first, first + count):
            before = len(tally.found)
            play(seed, world, tally)
            for text in tally.found[before:]:
                print(f"=== {text}", flush=True)
    print(tally.labs, "clusters", tally.probes, "probes", len(tally.found), "disagree",
          tally.doubtful, "doubtful", f"{time.monotonic() - started:.1f} s")  # fmt: skip
    print({name: f"{100 * tally.verdicts[name] / tally.probes:.1f}%" for name in VERDICTS})
    if "-c" in sys.argv:
        for name, number in sorted(tally.features.items()):
            print(f"{number:8} {name}")


if __name__ == "__main__":
    main()
