"""Random clusters and random probes in them, in the model and on the real kernel.

``Clustering`` makes a cluster from a seed: a VPC with subnets, route tables, security groups and
machines, a VPC CNI with random settings, pods, and often something broken by a line or by a call
that nobody told ipamd of. As a program, ``python -m tests.parity.clusters FIRST COUNT`` plays
seeds and prints what disagrees.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from random import Random

from ekslearn.cluster import Cluster
from ekslearn.cni.pool import EniConfig
from ekslearn.cni.settings import read
from ekslearn.errors import EkslearnError
from ekslearn.kernel import World
from ekslearn.kubernetes import Pod
from ekslearn.kubernetes.pod import Container
from ekslearn.vpc.instance import instance_type
from ekslearn.vpc.model import Vpc
from ekslearn.vpc.security import NetworkAcl, SecurityGroup, SecurityRule
from ekslearn.vpc.subnet import Subnet
from tests.parity.packets import (
    VERDICTS,
    Case,
    Refused,
    Tally,
    confirmed,
    differences,
)
from tests.parity.wirings import NOWHERE, Question

PROBES = 80
KINDS = ("t3.nano", "t3.small", "t3.small", "t3.medium", "m5.large", "m5.xlarge")
REFUSED = 125
OUTSIDE = ("198.51.100.9", "203.0.113.50", "192.0.2.7", "10.9.0.5", "172.16.5.5")
NODE_PORT = 30080


class Clustering:
    """One random cluster, and the probes to send in it."""

    def __init__(self, seed: int, probes: int = PROBES) -> None:
        self.random = Random(f"cluster {seed}")
        self.custom = self.chance(0.15)
        self.lab = Cluster(
            f"random-{seed}", self._vpc(), self._settings(), seed=seed,
            connmark=self.pick("iptables", "iptables"),
            eniconfigs=[EniConfig(name=f"us-east-1{zone}", subnet=f"pods-{zone}")
                        for zone in "ab" if self.custom],
        )  # fmt: skip
        self.nodes: list[str] = []
        self.hosts: list[str] = []
        self.outside: list[str] = []
        self._machines()
        self._pods()
        self._services()
        self.safe = not self.groups
        self._alter()
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
        if self.chance(0.2):
            vpc.add_cidr("10.1.0.0/16")
        if self.custom:
            vpc.add_cidr("100.64.0.0/16")
        self.groups = self._groups(vpc) if self.chance(0.3) else []
        names = ["one-a", "two-b", "three-a", "four-b"][: self.random.randint(1, 4)]
        if self.custom:
            names = [*names, "pods-a", "pods-b"]
        for at, name in enumerate(names):
            length = self.random.choice((19, 20, 24, 24))
            net = f"10.{1 if len(vpc.cidrs) > 1 and not self.custom and self.chance(0.3) else 0}"
            cidr = f"{net}.{32 * at}.0/{length}"
            if name.startswith("pods"):
                cidr = f"100.64.{32 * at}.0/{length}"
            subnet = vpc.add_subnet(Subnet(
                name, cidr, f"us-east-1{name[-1]}", routes=self._routes(), nacl=self._acl(name)
            ))  # fmt: skip
            if self.chance(0.1):
                first = IPv4Network(cidr).network_address + 32
                subnet.reserve(f"{first}/28", self.pick("prefix", "explicit"))
        return vpc

    def _routes(self) -> list[tuple[str, str]]:
        """A private, public or translated subnet; some roads to single networks outside."""
        routes = [("0.0.0.0/0", target)
                  for target in [self.pick("", "igw", "nat", "nat", "igw", "tgw")] if target]  # fmt: skip
        for address in OUTSIDE:
            if self.chance(0.25):
                length = self.random.choice((24, 32))
                net = IPv4Network(f"{address}/{length}", strict=False)
                routes.append((str(net), self.pick("tgw", "pcx")))
        return routes

    def _groups(self, vpc: Vpc) -> list[SecurityGroup]:
        names = ["web", "db", "all"]
        made = []
        for name in names[: self.random.randint(1, 3)]:
            ingress = [self._rule(names) for _ in range(self.random.randint(0, 4))]
            egress = [[SecurityRule()], [self._rule(names) for _ in range(3)]][self.chance(0.3)]
            made.append(vpc.add_security_group(SecurityGroup(name, ingress, egress)))
        return made

    def _rule(self, names: list[str]) -> SecurityRule:
        protocol, low, high = self._traffic()
        group = self.random.choice(names) if self.chance(0.3) else ""
        cidr = IPv4Network(self.pick("0.0.0.0/0", "0.0.0.0/0", "10.0.0.0/16", "10.0.0.0/20",
                                     "198.51.100.0/24", "203.0.113.50/32"))  # fmt: skip
        return SecurityRule(protocol=protocol, from_port=low, to_port=high, cidr=cidr, group=group)

    def _traffic(self) -> tuple[str, int | None, int | None]:
        return self.random.choice((
            ("all", None, None), ("all", None, None), ("tcp", 80, 80), ("tcp", 1, 65535), ("udp", 53, None),
            ("tcp", 1024, 65535), ("icmp", None, None), ("icmp", 8, 0), ("udp", None, None),
        ))  # fmt: skip

    def _acl(self, name: str) -> NetworkAcl | None:
        if not self.chance(0.12):
            return None
        ways = []
        for _ in ("ingress", "egress"):
            rules = []
            for number in (100, 110, 120)[: self.random.randint(0, 3)]:
                protocol, low, high = self._traffic()
                cidr = IPv4Network(self.pick("0.0.0.0/0", "10.0.0.0/19", "198.51.100.0/24"))
                rules.append(SecurityRule(number=number, deny=self.chance(0.4), protocol=protocol,
                                          from_port=low, to_port=high, cidr=cidr))  # fmt: skip
            ways.append([*rules, *[SecurityRule(number=200)][: self.chance(0.85)]])
        return NetworkAcl(name, *ways)

    # The CNI

    def _settings(self):
        env = {}
        for share, name, *values in (
            (0.25, "AWS_VPC_K8S_CNI_EXTERNALSNAT", "true"),
            (0.3, "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "203.0.113.0/24", "198.51.100.9/32,192.0.2.0/24", "10.9.0.0/16", "0.0.0.0/0"),
            (0.3, "AWS_VPC_CNI_NODE_PORT_SUPPORT", "false"),
            (0.4, "AWS_VPC_K8S_CNI_RANDOMIZESNAT", "none", "hashrandom"),
            (0.15, "AWS_VPC_K8S_CNI_VETHPREFIX", "pod", "veth"),
            (0.15, "AWS_VPC_K8S_CNI_CONNMARK", "0x40", "256"),
            (0.2, "AWS_EXTERNAL_SERVICE_CIDRS", "198.51.100.0/24", "10.9.0.0/16,203.0.113.50/32"),
            (0.3, "AWS_VPC_ENI_MTU", "1500", "8500", "1300"),
            (0.2, "POD_MTU", "1400", "1500"),
            (0.2, "WARM_IP_TARGET", "2", "5"),
            (0.2, "ENABLE_PREFIX_DELEGATION", "true"),
            (1.0 if self.custom else 0.0, "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true"),
            (1.0 if self.custom else 0.0, "ENI_CONFIG_LABEL_DEF", "topology.kubernetes.io/zone"),
        ):  # fmt: skip
            if self.chance(share):
                env[name] = self.pick(*values)
        return read(env)

    def _machines(self) -> None:
        usual = [one for one in self.lab.vpc.subnets if not one.startswith("pods")]
        for at in range(self.random.randint(1, 6)):
            subnet, name = self.pick(*usual), f"node-{'abcdef'[at]}"
            zone = {"topology.kubernetes.io/zone": self.lab.vpc.subnets[subnet].zone}
            names = ["ens5", "ens6", "ens7", "ens8"] if self.chance(0.2) else []
            self.lab.add_node(name, instance_type(self.pick(*KINDS)), subnet, interfaces=names, labels=zone,
                              groups=self._some())  # fmt: skip
            self.nodes.append(name)
        for at in range(self.random.randint(0, 2)):
            self.lab.add_host(f"host-{at}", [], self.pick(*usual), self._some())
            self.hosts.append(f"host-{at}")
        addresses = list(OUTSIDE)
        self.random.shuffle(addresses)
        for at in range(self.random.randint(1, 3)):
            name = f"far-{at}"
            own = [IPv4Address(addresses.pop()) for _ in range(self.random.choice((1, 1, 2)))]
            if len(addresses) < 2:
                break
            self.lab.add_host(name, own)
            self.outside.append(name)
        for name in (*self.hosts, *self.outside):
            for port in ("80/tcp", "53/udp"):
                if self.chance(0.7):
                    self.lab.listen(name, f"0.0.0.0:{port}")

    def _some(self) -> list[SecurityGroup]:
        if not self.groups or self.chance(0.3):
            return []
        return self.random.sample(self.groups, self.random.randint(1, min(2, len(self.groups))))

    def _pods(self) -> None:
        for at in range(self.random.choice((0, 2, 5, 8, 12, 20, 40))):
            ports = tuple(one for one in ((80, "tcp"), (53, "udp")) if self.chance(0.7))
            host = self.chance(0.04)
            if host:
                ports = ((8000 + at, "tcp"),)
            self.lab.add_pod(Pod(
                name=f"p{at}", namespace=self.pick("default", "shop"),
                node=self.pick(*self.nodes) if self.chance(0.8) else "", host_network=host,
                containers=(Container(name="c", ports=ports),),
            ))  # fmt: skip
        self.lab.settle(60)
        for place in list(self.lab.pods):
            if self.chance(0.08):
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
            for protocol, port in ("tcp", 80), ("udp", 53):
                self.go(node, "iptables -t nat -I PREROUTING -m addrtype --dst-type LOCAL"
                              f" -p {protocol} --dport {NODE_PORT} -j DNAT"
                              f" --to-destination {pod}:{port}")  # fmt: skip
            if self.chance(0.5):
                self.go(node, f"iptables -t mangle -A PREROUTING -p tcp --dport {NODE_PORT}"
                              " -j MARK --set-xmark 0x4000/0x4000")  # fmt: skip
                self.go(node, "iptables -t nat -I POSTROUTING -m mark --mark 0x4000/0x4000"
                              f" -j MASQUERADE{self.pick('', ' --random-fully')}")  # fmt: skip

    # Something else than it should be

    def _alter(self) -> None:
        if self.chance(0.45):
            return
        for _ in range(self.random.choice((1, 1, 2, 3))):
            node = self.pick(*self.nodes)
            alter = self.random.choice(list(self._alterations(node)))
            alter()

    def _alterations(self, node: str) -> Iterator[Callable[[], object]]:
        lab = self.lab
        rules = [line for line in lab.shows(node, "ip rule show").splitlines()
                 if line.partition(":")[0] not in ("0", "32766", "32767")]  # fmt: skip
        interfaces = [wire.interface for wire in lab.wires
                      if wire.place == node and wire.until is None]  # fmt: skip
        one = self.pick(*interfaces)
        if rules:
            rule = self.random.choice(rules).replace("\t", " ")
            number, _, rest = rule.partition(":")
            yield lambda: self.go(node, f"ip rule del prio {number}{rest}")
        for value in (0, 1, 1, 2):
            yield lambda value=value: self.go(
                node, f"sysctl -w net.ipv4.conf.{one.replace('.', '/')}.rp_filter={value}")
        yield lambda: self.go(node, f"ip link set {one} down")
        yield lambda: self.go(node, f"ip link set {one} mtu {self.pick('1500', '9001', '1400', '9216')}")
        yield lambda: self.go(node, "sysctl -w net.ipv4.ip_forward=0")
        yield lambda: self.go(node, "iptables -t mangle -F PREROUTING")
        yield lambda: self.go(node, "iptables -t nat -F AWS-SNAT-CHAIN-0")
        yield lambda: self.go(node, "iptables -t nat -D PREROUTING 1")
        yield lambda: self.go(node, "iptables -A FORWARD -p udp -j DROP")
        for rule in ("-p tcp --dport 80", "-p icmp", "-p udp --dport 53", "-p icmp -d 10.0.0.0/16"):
            yield lambda rule=rule: self.go(node, f"iptables -A FORWARD {rule} -j REJECT")
        yield lambda: self.go(node, "iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP")
        yield lambda: self.go(node, "ip route flush table 2")
        yield lambda: self.go(node, "ip route del default")
        yield lambda: self.go(node, f"ip route add 198.51.100.0/24 dev {one}")
        enis = [eni for eni in lab.vpc.enis.values() if eni.attached]
        eni = self.random.choice(enis)
        yield lambda: setattr(eni, "source_dest_check", False)
        if eni.secondary:
            address = self.random.choice(eni.secondary)
            yield lambda: lab.vpc.release(eni, address)
        if self.pods:
            pod = self.pick(*self.pods)
            yield lambda: self.go(pod, "ip neigh del 169.254.1.1 dev eth0")
            yield lambda: self.go(pod, "ip link set eth0 down")
            yield lambda: self.go(pod, "ip route del default")
            yield lambda: self.go(pod, "sysctl -w net.ipv4.ip_forward=1")
        outside = self.pick(*self.outside) if self.outside else ""
        if outside:
            yield lambda: self.go(outside, "ip link set eth0 mtu 1300")

    # Probes

    def _question(self) -> Question:
        source = self.pick(*self._sources())
        address = self._target(source)
        protocol = self.pick("icmp", "icmp", "tcp", "tcp", "udp", "udp")
        port: int | None = None
        if protocol != "icmp":
            usual = (80, 80, 53) if protocol == "tcp" else (53, 53, 80)
            port = self.random.choice((*usual, *usual, *usual, 9, NODE_PORT, 8001))
        ttl = self.random.choice((1, 2, 3, 4)) if self.chance(0.1) else 64
        size = None
        if protocol != "tcp" and self.chance(0.08):
            size = self.random.choice((1300, 1301, 1400, 1500, 1504, 1505, 2000, 8500, 8501, 9001))
        return Question(source, protocol, address, port, ttl, size)

    def _sources(self) -> list[str]:
        group = self.random.choice((self.pods, self.pods, self.pods, self.nodes, self.nodes,
                                    self.hosts, self.outside, self.outside))  # fmt: skip
        return group or self.nodes

    def _target(self, source: str) -> str:
        lab, draw = self.lab, self.random.random()
        if draw < 0.45 and self.pods:
            return lab.address(self.pick(*self.pods))
        if draw < 0.6:
            return self._own(self.pick(*self.nodes))
        enis = list(lab.vpc.enis.values())
        eni = self.random.choice(enis)
        if draw < 0.66:
            return str(self.random.choice([eni.primary, *eni.secondary,
                                           *(net[3] for net in eni.prefixes)]))  # fmt: skip
        if draw < 0.85 and self.outside:
            host = self.pick(*self.outside)
            return self.pick(*map(str, lab.fabric.outside(host)))
        public = [str(one.public_ip) for one in enis if one.public_ip]
        if draw < 0.91 and public and (self.safe or source in self.outside):
            return self.pick(*public)
        if draw < 0.95 and self.hosts:
            return self._own(self.pick(*self.hosts))
        return self.pick(NOWHERE, "10.0.0.77", "10.0.32.200", str(eni.subnet.gateway), "198.19.0.1",
                         "169.254.169.254", "169.254.1.1", str(eni.subnet.cidr[-1]), "172.20.0.10",
                         "10.9.0.5", *OUTSIDE)  # fmt: skip

    def _own(self, place: str) -> str:
        try:
            return self.lab.address(place)
        except EkslearnError:  # a line took it
            return NOWHERE


def play(seed: int, world: World, tally: Tally, *, probes: int = PROBES) -> None:
    """Compare one random cluster."""
    made = Clustering(seed, probes)
    case = Case(made.lab, made.questions)
    groups = case.model()
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
        texts = []
        for one in found[:4]:
            text = str(one)
            texts.append("\n".join(line for line in text.splitlines() if not line.startswith("    ask") and "$" not in line and "    listen" not in line))
        tally.found.append(f"{len(found)} probes\n" + "\n".join(texts))


def main() -> None:
    """Play seeds FIRST, FIRST + 1, … and print each disagreement."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    tally, started = Tally(), time.monotonic()
    with World() as world:
        for seed in range(first, first + count):
            before = len(tally.found)
            began = time.monotonic()
            try:
                play(seed, world, tally)
            except Exception as error:
                if "-x" in sys.argv:
                    raise
                tally.found.append(f"{type(error).__name__}: {error}")
            if "-t" in sys.argv:
                print(seed, f"{time.monotonic() - began:.1f} s", flush=True)
            for text in tally.found[before:]:
                print(f"=== seed {seed}: {text}", flush=True)
    print(tally.labs, "labs", tally.probes, "probes", len(tally.found), "labs disagree",
          tally.doubtful, "doubtful", f"{time.monotonic() - started:.1f} s")  # fmt: skip
    print({name: f"{100 * tally.verdicts[name] / tally.probes:.1f}%" for name in VERDICTS})
    if "-c" in sys.argv:
        for name, number in sorted(tally.features.items()):
            print(f"{number:8} {name}")


if __name__ == "__main__":
    main()
