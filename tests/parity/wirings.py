"""Random labs and random probes, from a seed: sane networks with odd things done to them.

Every line is run in the model as it is made, and a line that the model refuses is left out. The
proportions are chosen so that most probes arrive and each feature decides some of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from ekslearn.cluster import Lab
from ekslearn.errors import EkslearnError

NAMES = ("a", "b", "c", "d", "e")
REFUSED = 125  # the model's "isn't modelled": the generator never asks for such a thing
NOWHERE = "198.51.100.99"
SERVICE = "172.20.0.10"
REJECTS = (
    "icmp-net-unreachable", "icmp-host-unreachable", "icmp-port-unreachable",
    "icmp-proto-unreachable", "icmp-net-prohibited", "icmp-host-prohibited",
    "icmp-admin-prohibited",
)  # fmt: skip
STATES = ("NEW", "ESTABLISHED", "RELATED", "INVALID", "RELATED,ESTABLISHED", "NEW,ESTABLISHED",
          "SNAT", "DNAT")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """One probe: ``destination`` as ``Lab.trace`` takes it; ``size`` in bytes with DF, or None."""

    source: str
    protocol: str
    address: str
    port: int | None = None
    ttl: int = 64
    size: int | None = None


class Wiring:
    """One random lab, and the probes to send in it."""

    def __init__(self, seed: int, probes: int = 130) -> None:
        self.random = Random(f"wiring {seed}")
        self.places = NAMES[: self.random.choice((2, 3, 3, 3, 4, 4, 5))]
        self.lab = Lab(f"random-{seed}", self.places, seed=seed)
        self.ends: list[tuple[str, str, str, str]] = []  # place, interface, address, far place
        self.addresses: list[tuple[str, str]] = []
        self.ports = [80, 53, 9, 30080]
        self._wire()
        self._route()
        self._alter()
        for place in self.places:
            self._listen(place)
        self.questions = [self._question() for _ in range(probes)]

    # Small things

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

    def interfaces(self, place: str) -> list[str]:
        return [name for where, name, _, _ in self.ends if where == place]

    def interface(self, place: str) -> str:
        return self.random.choice(self.interfaces(place) or ["lo"])

    def address(self, place: str = "") -> str:
        """An address somebody has, usually."""
        fitting = [ip for where, ip in self.addresses if not place or where == place]
        return self.random.choice(fitting or [NOWHERE])

    def network(self) -> str:
        """A prefix that holds some addresses of the lab."""
        ip = self.address().split(".")
        length = self.random.choice((8, 16, 24, 24, 24, 25, 28, 32, 32))
        if length == 32:
            return ".".join(ip)
        number = int.from_bytes(bytes(map(int, ip)), "big") >> (32 - length) << (32 - length)
        return ".".join(map(str, number.to_bytes(4, "big"))) + f"/{length}"

    # A sane network

    def _wire(self) -> None:
        for place in self.places:
            if self.chance(0.95):
                self.go(place, "ip link set lo up")
        count = len(self.places)
        chain = [(at, at + 1) for at in range(count - 1)]
        star = [(0, at) for at in range(1, count)]
        shape = self.pick("chain", "chain", "star", "star", "pods", "pods", "ring", "ring",
                          "parallel")  # fmt: skip
        pairs = {"chain": chain, "star": star, "pods": star, "ring": [*chain, (0, count - 1)],
                 "parallel": [*chain, self.random.choice(chain)]}[shape]  # fmt: skip
        for number, (one, two) in enumerate(pairs):
            pod = shape == "pods" and self.chance(0.8)
            self._join(number, self.places[one], self.places[two], pod)
        for number, place in enumerate(self.places):
            if self.chance(0.25):
                ip = f"10.9.{number}.1"
                if self.go(
                    place, f"ip addr add {ip}/32 dev {self.pick('lo', self.interface(place))}"
                ):
                    self.addresses.append((place, ip))

    def _join(self, number: int, near: str, far: str, pod: bool) -> None:
        """A veth between two places, with a subnet of its own or as the VPC CNI wires a pod."""
        ends = [(near, f"veth{number}"), (far, f"eth{number}")]
        macs = [f"02:00:00:00:{number:02x}:{side:02x}" for side in (1, 2)]
        self.go(near, f"ip link add {ends[0][1]} address {macs[0]} type veth"
                      f" peer name {ends[1][1]} address {macs[1]} netns {far}")  # fmt: skip
        mtu = self.pick("1400", "1280", "1000") if self.chance(0.15) else ""
        for place, name in ends:
            if mtu and self.chance(0.75):  # sometimes one end takes less than the other sends
                self.go(place, f"ip link set {name} mtu {mtu}")
            self.go(place, f"ip link set {name} up")
        if pod:
            ip = f"10.0.8.{number + 2}"
            self.go(far, f"ip addr add {ip}/32 dev {ends[1][1]}")
            self.go(far, f"ip route add 169.254.1.1 dev {ends[1][1]} scope link")
            self.go(far, f"ip route add default via 169.254.1.1 dev {ends[1][1]}")
            if self.chance(0.65):
                self.go(far, f"ip neigh add 169.254.1.1 lladdr {macs[0]} dev {ends[1][1]}"
                             " nud permanent")  # fmt: skip
            else:
                self.go(near, f"sysctl -w net.ipv4.conf.{ends[0][1]}.proxy_arp=1")
            self.go(near, f"ip route add {ip} dev {ends[0][1]} scope link")
            if self.chance(0.7) and not any(where == near for where, _ in self.addresses):
                self.go(near, f"ip addr add 10.0.8.1/32 dev {self.pick('lo', ends[0][1])}")
                self.addresses.append((near, "10.0.8.1"))
            self.addresses.append((far, ip))
            self.ends += [(near, ends[0][1], "", far), (far, ends[1][1], ip, near)]
            return
        length = self.random.choice((24, 24, 24, 24, 24, 30, 28, 16))
        net = number if self.chance(0.92) else 0
        hosts = ("1", "2") if net == number else (str(2 * number + 1), str(2 * number + 2))
        for (place, name), host in zip(ends, hosts, strict=True):
            ip = f"10.0.{net}.{host}"
            self.go(place, f"ip addr add {ip}/{length} dev {name}")
            self.addresses.append((place, ip))
            self.ends.append((place, name, ip, far if place == near else near))
            if self.chance(0.08):
                more = f"10.0.{net}.{int(host) + 10}"
                if self.go(place, f"ip addr add {more}/{length} dev {name}"):
                    self.addresses.append((place, more))

    def _route(self) -> None:
        """Routes from everywhere to everywhere, by the fewest steps; and who forwards."""
        for place in self.places:
            if len(self.interfaces(place)) > 1:
                if self.chance(0.95):
                    self.go(place, "sysctl -w net.ipv4.ip_forward=1")
            elif self.chance(0.25):
                self.go(place, "sysctl -w net.ipv4.ip_forward=1")
            first = self._first_steps(place)
            ways = {far: self._gateway(place, step) for far, step in first.items()}
            used = set(filter(None, ways.values()))
            if len(used) == 1 and self.chance(0.7):
                self.go(place, f"ip route add default {used.pop()}")
                continue
            for far, way in ways.items():
                if way and first[far] != far:
                    for where, ip in self.addresses:
                        if where == far:
                            net = ip.rpartition(".")[0] + ".0/24"
                            target = ip if ip.startswith(("10.9", "10.0.8")) else net
                            self.go(place, f"ip route add {target} {way}")
                elif way:
                    shared = [ip for at, _, ip, to in self.ends if (at, to) == (far, place)]
                    for where, ip in self.addresses:
                        beyond = ip not in shared and self.chance(0.7)
                        if where == far and (beyond or ip.startswith("10.9")):
                            self.go(place, f"ip route add {ip} {way}")

    def _first_steps(self, place: str) -> dict[str, str]:
        """For every other place the neighbor on the way there."""
        first: dict[str, str] = {}
        ahead = deque([(place, "")])
        while ahead:
            here, step = ahead.popleft()
            for where, _, _, far in self.ends:
                if where == here and far != place and far not in first:
                    first[far] = step or far
                    ahead.append((far, first[far]))
        return first

    def _gateway(self, place: str, step: str) -> str:
        """The words that send a packet from ``place`` to its neighbor ``step``."""
        for where, name, ip, far in self.ends:
            if where == place and far == step:
                peer = next((ip for at, _, ip, to in self.ends if (at, to) == (step, place)), "")
                if peer and ip:
                    return f"via {peer}" + (f" dev {name}" if self.chance(0.3) else "")
                return f"dev {name}"
        return ""

    def _listen(self, place: str) -> None:
        sockets = ["0.0.0.0:80/tcp", "0.0.0.0:53/udp"] if self.chance(0.93) else []
        if self.chance(0.2):
            sockets.append(f"{self.address(place)}:8080/{self.pick('tcp', 'udp')}")
        for socket in sockets:
            try:
                self.lab.listen(place, socket)
            except EkslearnError:
                continue

    # Odd things

    def _alter(self) -> None:
        """A few changes; the common ones are in the list more than once."""
        kinds: list[Callable[[str], None]] = [
            self._odd_route, self._odd_route, self._error_route, self._error_route,
            self._neighbor, self._neighbor, self._astray, self._link,
            self._policy, self._policy, self._policy, self._policy,
            self._switch, self._switch, self._switch, self._mark, self._mark, self._mark,
            self._connmark, self._service, self._service, self._service, self._source_nat,
            self._source_nat,
            self._filter, self._filter, self._filter, self._filter, self._filter, self._filter,
            self._reject, self._reject, self._reject, self._reject, self._chain, self._chain,
            self._turn, self._turn, self._turn, self._oblique, self._oblique, self._oblique,
            self._strange, self._affinity, self._affinity, self._remember, self._remember,
            self._remember, self._localnet, self._localnet,
        ]  # fmt: skip
        for _ in range(self.random.choice((0, 0, 1, 1, 2, 3, 3, 4, 5, 7))):
            self.random.choice(kinds)(self.random.choice(self.places))

    def _table(self) -> str:
        return self.pick("", "", "", " table 100", " table 200")

    def _metric(self) -> str:
        return f" metric {self.random.choice((0, 5, 5, 9))}" if self.chance(0.3) else ""

    def _odd_route(self, place: str) -> None:
        name = self.interface(place)
        way = self.pick(f"via {self.address()}", f"dev {name}", f"via {self.address()} dev {name}"
                        " onlink")  # fmt: skip
        src = f" src {self.address(place)}" if self.chance(0.3) else ""
        how = self.pick("add", "add", "append", "prepend", "replace")
        target = self.network()
        self.go(place, f"ip route {how} {target} {way}{src}{self._table()}{self._metric()}")
        if self.chance(0.3):
            self.go(place, f"ip route add {target} dev {name} metric 7")

    def _error_route(self, place: str) -> None:
        kind = self.pick("blackhole", "unreachable", "prohibit", "throw")
        table = self._table() if kind != "throw" else self.pick("", " table 100")
        target = self.address() if self.chance(0.6) else self.network()
        self.go(place, f"ip route add {kind} {target}{table}{self._metric()}")

    def _neighbor(self, place: str) -> None:
        mac = self.pick("02:00:00:00:00:99", f"02:00:00:00:{self.random.randrange(4):02x}:02")
        state, name = self.pick("permanent", "permanent", "stale"), self.interface(place)
        fars = [far for at, link, _, far in self.ends if (at, link) == (place, name)]
        ip = self.address(*fars) if self.chance(0.6) else self.address()
        self.go(place, f"ip neigh replace {ip} lladdr {mac} dev {name} nud {state}")

    def _link(self, place: str) -> None:
        name = self.interface(place)
        self.go(place, f"ip link set {name} down")
        if self.chance(0.5):
            self.go(place, f"ip link set {name} up")
        if self.chance(0.2):
            self.go(place, f"ip link set {name} mtu {self.pick('1200', '1500', '600')}")

    def _policy(self, place: str) -> None:
        """A rule, and a table for it."""
        table = self.pick("100", "200", "main", "local")
        words = []
        if self.chance(0.35):
            words.append(f"from {self.network()}")
        if self.chance(0.3):
            words.append(f"to {self.network()}")
        if self.chance(0.25):
            words.append(f"iif {self.pick(self.interface(place), 'lo')}")
        if self.chance(0.25):
            words.append(f"oif {self.interface(place)}")  # nobody asks for one: it needs the "not"
        if self.chance(0.2):
            words.append(f"fwmark {self.pick('0x1', '0x0/0x1', '0x80/0x80')}")
        bound = any(word.startswith("oif") for word in words)
        inverted = "not " if words and self.chance(0.8 if bound else 0.3) else ""
        priority = self.pick("10", "100", "512", "1024", "32766", "40000")
        self.go(place, f"ip rule add {inverted}{' '.join(words)} prio {priority} lookup {table}")
        if table in ("100", "200"):
            self._fill(place, table)

    def _fill(self, place: str, table: str) -> None:
        gateways = [ip for where, _, _, far in self.ends if where == place
                    for at, _, ip, to in self.ends if (at, to) == (far, place) and ip]  # fmt: skip
        for _ in range(self.random.choice((0, 1, 1, 1, 2, 2))):
            target = self.pick("default", "default", self.network(), self.address())
            way = f"via {self.random.choice(gateways)}" if gateways and self.chance(0.7) else (
                self.pick(f"dev {self.interface(place)}", "REJECT"))  # fmt: skip
            if way == "REJECT":
                kind = self.pick("throw", "throw", "unreachable", "prohibit", "blackhole")
                self.go(place, f"ip route add {kind} {target} table {table}")
            else:
                self.go(place, f"ip route add {target} {way} table {table}{self._metric()}")

    def _switch(self, place: str) -> None:
        name = self.interface(place)
        owner = self.pick("all", name)
        key, value = self.random.choice((
            ("rp_filter", "1"), ("rp_filter", "1"), *[("rp_filter", "2")] * 4,
            ("accept_local", "1"), ("src_valid_mark", "1"), ("proxy_arp", "1"),
            ("send_redirects", "0"), ("accept_redirects", "0"), ("forwarding", "0"),
            ("forwarding", "1"),
        ))  # fmt: skip
        self.go(place, f"sysctl -w net.ipv4.conf.{owner}.{key}={value}")
        if key == "rp_filter" and self.chance(0.6):  # somebody to whom there is no way back
            near = [far for at, link, _, far in self.ends if (at, link) == (place, name)]
            fars = [ip for at, _, ip, to in self.ends if to == place and at in near and ip]
            far = self.pick(*fars, self.address())
            self.go(place, f"ip route add {self.pick('blackhole', 'unreachable')} {far}")

    def _mark(self, place: str) -> None:
        """A mark set in mangle, and perhaps a rule that reads it, with rp_filter beside it."""
        hook = self.pick("PREROUTING", "OUTPUT", "OUTPUT", "FORWARD", "INPUT", "POSTROUTING")
        target = self.pick("--set-mark 0x1", "--set-xmark 0x80/0x80", "--or-mark 0x80",
                           "--set-xmark 0x1/0xf")  # fmt: skip
        self._append(place, "mangle", hook, f"-j MARK {target}")
        if self.chance(0.8):
            mark = self.pick("0x1", "0x80/0x80", "0x1/0x1")
            self.go(place, f"ip rule add fwmark {mark} prio {self.pick('99', '1500')} lookup 100")
            self._fill(place, "100")
        if self.chance(0.4):
            self.go(place, f"sysctl -w net.ipv4.conf.all.rp_filter={self.pick('1', '2')}")
            if self.chance(0.6):
                self.go(place, "sysctl -w net.ipv4.conf.all.src_valid_mark=1")

    def _astray(self, place: str) -> None:
        """A mark in OUTPUT that leads to a table without a way."""
        self.go(place, f"iptables -t mangle -A OUTPUT -d {self.address()} -j MARK --set-mark 0x1")
        self.go(place, "ip rule add fwmark 0x1 prio 90 lookup 100")
        self.go(place, f"ip route add {self.pick('unreachable', 'prohibit')} default table 100")

    def _connmark(self, place: str) -> None:
        """As the CNI does: mark a connection where it begins, restore the mark on its answers."""
        hook = self.pick("PREROUTING", "PREROUTING", "INPUT", "FORWARD", "POSTROUTING")
        if self.chance(0.6):
            self._append(place, "mangle", hook, "-j CONNMARK --set-xmark 0x80/0x80")
        else:
            self._append(place, "mangle", hook, "-j MARK --set-xmark 0x80/0x80")
            self._append(place, "mangle", hook, f"-j CONNMARK --save-mark{self._masks()}")
        back = self.pick("OUTPUT", "PREROUTING")
        self._append(place, "mangle", back, f"-j CONNMARK --restore-mark{self._masks()}", 0.3)
        if self.chance(0.7):
            self.go(place, "ip rule add fwmark 0x80/0x80 prio 1024 lookup 200")
            self._fill(place, "200")
        if self.chance(0.5):
            verdict = f"-m connmark --mark 0x80/0x80 -j {self.pick('ACCEPT', 'DROP')}"
            self._append(place, self.pick("filter", "mangle"), "INPUT", verdict, 0.3)

    def _masks(self) -> str:
        return self.pick("", "", " --nfmask 0x80 --ctmask 0x80", " --nfmask 0xff --ctmask 0xff")

    def _service(self, place: str) -> None:
        """DNAT: a service address, or a port of the place itself; everybody finds the way."""
        to = "127.0.0.1" if self.chance(0.07) else self.address()
        port = self.pick("", "", ":80", ":53", ":9")
        protocol = self.pick("tcp", "tcp", "udp", "icmp")
        if protocol == "icmp":
            match = f"-d {self.pick(SERVICE, self.address(place))}/32 -p icmp"
            port = ""
        elif self.chance(0.6):
            wanted = self.pick("--dport 80", "--dport 53", "--dport 50:90")
            match = f"-d {SERVICE}/32 -p {protocol} {wanted}"
        else:
            match = f"-p {protocol} -m addrtype --dst-type LOCAL --dport 30080"
            port = port or (":80" if protocol == "tcp" else ":53")
        if self.chance(0.4):
            self.go(place, "iptables -t nat -N SVC")
            self.go(place, f"iptables -t nat -A SVC {match} -j DNAT --to-destination {to}{port}")
            for hook in ("PREROUTING", "OUTPUT"):
                self.go(place, f"iptables -t nat -A {hook} -j SVC")
        else:
            for hook in ("PREROUTING", "OUTPUT"):
                if self.chance(0.8):
                    self.go(place, f"iptables -t nat -A {hook} {match}"
                                   f" -j DNAT --to-destination {to}{port}")  # fmt: skip
        if self.chance(0.4):
            self._append(place, "nat", "POSTROUTING", "-j MASQUERADE", 0.2)
        if self.chance(0.7):
            hook = self.pick("INPUT", "FORWARD", "PREROUTING", "POSTROUTING", "POSTROUTING")
            self._translated(place, hook, "DNAT")
        for other in self.places:
            way = self._gateway(other, self._first_steps(other).get(place, ""))
            if way and other != place:
                self.go(other, f"ip route add {SERVICE} {way}")
        self.addresses += [(place, SERVICE)] * 2

    def _affinity(self, place: str) -> None:
        """A service as kube-proxy writes it: whoever came by UDP or an odd way stays there."""
        first, second = self.address(), self.address()
        for name in ("SVC", "SEP-1", "SEP-2"):
            self.go(place, f"iptables -t nat -N {name}")
        for hook in ("PREROUTING", "OUTPUT"):
            self.go(place, f"iptables -t nat -A {hook} -d {SERVICE}/32 -j SVC")
        for name in ("SEP-1", "SEP-2"):
            self.go(place, f"iptables -t nat -A SVC -m recent --name {name} --rcheck"
                           f" --seconds 10800 --reap{self._mask()} -j {name}")  # fmt: skip
        chosen = self.pick("-p udp", "-p tcp", f"-s {self.network()}")
        self.go(place, f"iptables -t nat -A SVC {chosen} -j SEP-1")
        self.go(place, "iptables -t nat -A SVC -j SEP-2")
        for name, to in (("SEP-1", first), ("SEP-2", second)):
            self.go(place, f"iptables -t nat -A {name} -m recent --name {name} --set -j DNAT"
                           f" --to-destination {to}")  # fmt: skip
        for other in self.places:
            way = self._gateway(other, self._first_steps(other).get(place, ""))
            if way and other != place:
                self.go(other, f"ip route add {SERVICE} {way}")
        self.addresses += [(place, SERVICE)] * 5

    def _localnet(self, place: str) -> None:
        """A port of 127.0.0.1 that is led elsewhere, and one from outside that is led there."""
        owner = self.pick("all", "all", self.interface(place))
        self.go(place, f"sysctl -w net.ipv4.conf.{owner}.route_localnet=1")
        protocol = self.pick("tcp", "udp", "icmp")
        self.go(place, f"iptables -t nat -A OUTPUT -d {self.pick('127.0.0.1', '127.0.0.0/8')}"
                       f" -p {protocol} -j DNAT --to-destination {self.address()}")  # fmt: skip
        if self.chance(0.8):
            self.go(place, "iptables -t nat -A POSTROUTING -s 127.0.0.0/8 ! -o lo -j MASQUERADE")
        if self.chance(0.6):
            to = self.pick("127.0.0.1", "127.0.0.1", "127.0.0.2", "127.9.9.9")
            self.go(place, f"iptables -t nat -A PREROUTING -p {self.pick('tcp', 'udp', 'icmp')}"
                           f" -s {self.network()} -j DNAT --to-destination {to}")  # fmt: skip
        if self.chance(0.3):
            self.go(place, "iptables -A INPUT ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack"
                           " ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP")  # fmt: skip
        self.addresses += [(place, self.pick("127.0.0.1", "127.0.0.2"))] * 3

    def _mask(self) -> str:
        return self.pick("", "", " --mask 255.255.255.0")

    def _remember(self, place: str) -> None:
        """A list of who came, in filter or mangle; of TCP the kernel's asker says more than one."""
        protocol, side = self.pick("udp", "icmp"), self.pick("", "", " --rdest")
        hook = self.pick("INPUT", "INPUT", "FORWARD", "OUTPUT")
        table, end = self.random.choice(
            (("filter", "DROP"), ("filter", "REJECT"), ("mangle", "DROP"), ("filter", "ACCEPT"))
        )
        match = f"-p {protocol} -m recent --name L{side}{self._mask()}"
        for _ in range(self.random.choice((1, 2, 3))):
            what = self.pick("--set", "--remove", "--rcheck", "--update", "--rcheck --seconds 9999",
                             "--update --seconds 9999 --reap")  # fmt: skip
            not_ = self.pick("", "", "! ")
            target = f" -j {end}" if self.chance(0.6) else ""
            self.go(place, f"iptables -t {table} -A {hook} {match} {not_}{what}{target}")

    def _source_nat(self, place: str) -> None:
        random = self.pick("", "", " --random-fully")
        target = self.pick(f"MASQUERADE{random}", f"SNAT --to-source {self.address(place)}{random}")
        out = f" -o {self.pick(self.interface(place), 'eth+', 'veth+')}" if self.chance(0.7) else ""
        away = self.pick("", "", "", " -m addrtype ! --dst-type LOCAL",
                         " -m addrtype --src-type LOCAL --limit-iface-out")  # fmt: skip
        src = f" -s {self.network()}" if self.chance(0.3) else ""
        self.go(place, f"iptables -t nat -A POSTROUTING{src}{out}{away} -j {target}")
        if self.chance(0.7):
            self._translated(place, self.pick("PREROUTING", "PREROUTING", "FORWARD"), "SNAT")

    def _translated(self, place: str, hook: str, state: str) -> None:
        """A mark for connections that are translated."""
        match = f"-m conntrack --ctstate {state}"
        self._append(place, "mangle", hook, f"{match} -j MARK --set-mark 0x1", 0)

    def _filter(self, place: str) -> None:
        hook = self.pick("INPUT", "FORWARD", "FORWARD", "OUTPUT")
        kind = self.random.random()
        if kind < 0.3:
            self._append(place, "filter", hook, "-m conntrack --ctstate RELATED,ESTABLISHED"
                                                " -j ACCEPT", 0)  # fmt: skip
            self._append(place, "filter", hook, "-j ACCEPT")
            if self.chance(0.5):
                self.go(place, f"iptables -P {hook} DROP")
            else:
                self._append(
                    place, "filter", hook, f"-j REJECT --reject-with {self.pick(*REJECTS)}"
                )
        elif kind < 0.45:
            ports = self.pick("", " --dport 80", " --dport 1:100")
            self._append(place, "filter", hook, f"-p tcp{ports} -j REJECT --reject-with tcp-reset",
                         0.3)  # fmt: skip
        elif kind < 0.75:
            self._append(place, "filter", hook, f"-j REJECT --reject-with {self.pick(*REJECTS)}",
                         0.75)  # fmt: skip
        else:
            self._append(place, "filter", hook, f"-j {self.pick('DROP', 'DROP', 'ACCEPT')}")

    def _reject(self, place: str) -> None:
        """A refusal for whoever speaks to this place, or for one who is spoken to beyond it."""
        how = self.pick(*REJECTS)
        if self.chance(0.65):
            match = self.pick("", " -p udp", " -p icmp", f" -s {self.address()}",
                              " -m addrtype --dst-type LOCAL --limit-iface-in",
                              " -m statistic --mode random ! --probability 0")  # fmt: skip
            self.go(place, f"iptables -A INPUT{match} -j REJECT --reject-with {how}")
        else:
            match = self.pick(f" -d {self.address()}", f" -i {self.interface(place)} -p udp")
            self.go(place, f"iptables -I FORWARD{match} -j REJECT --reject-with {how}")

    def _chain(self, place: str) -> None:
        """A user chain that is jumped or gone to, returns early, decides or does not."""
        table = self.pick("filter", "filter", "mangle")
        hook = self.pick("INPUT", "FORWARD", "OUTPUT")
        self.go(place, f"iptables -t {table} -N extra")
        self._append(place, table, hook, f"{self.pick('-j', '-j', '-g')} extra", 0.3)
        self._append(place, table, "extra", "-j RETURN", 0.9)
        self._append(
            place, table, "extra", f"-j {self.pick('ACCEPT', 'DROP', 'MARK --set-mark 0x1')}"
        )
        if table == "filter" and self.chance(0.5):
            self._append(place, table, hook, f"-j {self.pick('DROP', 'REJECT')}")

    def _append(
        self, place: str, table: str, chain: str, target: str, matched: float = 0.9
    ) -> None:
        matches = self._matches(place, chain) if self.chance(matched) else ""
        if "-p tcp" in target and "-p " in matches:
            matches = ""
        self.go(place, f"iptables -t {table} -A {chain}{matches} {target}")

    def _matches(self, place: str, chain: str) -> str:
        """One to three conditions that can hold in ``chain``."""
        comes = chain in ("PREROUTING", "INPUT", "FORWARD")
        goes = chain in ("OUTPUT", "FORWARD", "POSTROUTING")
        not_ = self.pick("", "", "! ")
        address = self.pick("-s", "-d")
        options = [f"{not_}{address} {self.network()}", f"{not_}{address} {self.address()}"]
        port = self.pick("80", "53", "9", "50:90", "1024:65535", ":52")
        side = self.pick("--dport", "--dport", "--sport")
        protocol = self.pick("tcp", "udp")
        options += [f"{not_}-p {self.pick('icmp', 'tcp', 'udp')}"]
        options += [f"-p {protocol} {not_}{side} {port}"] * 3
        kind = self.pick("LOCAL", "LOCAL", "UNICAST", "BROADCAST")
        end = self.pick("--dst-type", "--src-type")
        limit = " --limit-iface-in" if comes and self.chance(0.4) else ""
        limit = " --limit-iface-out" if not limit and goes and self.chance(0.5) else limit
        options += [f"-m addrtype {not_}{end} {kind}{limit}"] * 2
        options += [f"-m conntrack {not_}--ctstate {self.pick(*STATES)}"] * 2
        mark = self.pick("0x1", "0x0", "0x80/0x80", "0x0/0x1")
        options += [f"-m mark {not_}--mark {mark}"] * 2
        options += [f"-m connmark {not_}--mark {self.pick('0x80/0x80', '0x0')}"]
        options += [f"-m statistic --mode random {not_}--probability {self.pick('0', '1')}"]
        options += ["-m comment --comment random"]
        ways = [*self.interfaces(place), "eth+", "veth+", "lo", "e+"]
        if comes:
            options += [f"{not_}-i {self.pick(*ways)}"] * 2
        if goes:
            options += [f"{not_}-o {self.pick(*ways)}"] * 2
        chosen = self.random.sample(options, self.random.choice((1, 1, 1, 2, 2)))
        if sum("-p " in one for one in chosen) > 1 or sum(
            one.lstrip("! ").startswith(address) for one in chosen
        ) > 1 or sum("-i " in one or "-o " in one for one in chosen) > 1 or sum(
            "conntrack" in one or "mark" in one for one in chosen
        ) > 1:  # fmt: skip
            chosen = chosen[:1]
        return "".join(f" {one}" for one in chosen)

    def _turn(self, place: str) -> None:
        """Send packets for a place beyond one link over a router that turns them back."""
        ends = [end for end in self.ends if end[0] == place and end[2]]
        if not ends:
            return
        _, _name, ip, far = self.random.choice(ends)
        third = [end for end in self.ends if end[0] == far and end[3] == place and end[2]]
        if not third:
            return
        self.go(far, "sysctl -w net.ipv4.ip_forward=1")
        net = ip.rpartition(".")[0]
        self.go(place, f"ip route add {net}.{self.random.choice((2, 6, 7))}/32 via {third[0][2]}")
        if self.chance(0.4):
            who, key = self.pick(f"{place} accept", f"{far} send").split()
            for name in ("all", *self.interfaces(who)):  # one that is on is enough for a redirect
                self.go(who, f"sysctl -w net.ipv4.conf.{name}.{key}_redirects=0")
        target = self.pick(self.address(), NOWHERE, f"10.7.{self.random.randrange(3)}.1")
        self.go(place, f"ip route replace {target} via {third[0][2]}")
        self.go(far, f"ip route replace {target} via {ip}")
        if self.chance(0.5) and target.startswith("10.7"):
            self.go(place, f"ip addr add {target}/32 dev lo")
            self.addresses.append((place, target))

    def _oblique(self, place: str) -> None:
        """Answers to a neighbor go around a ring, past a place that never saw the question."""
        ring = self._around(place)
        if not ring:
            return
        asks = [ip for at, _, ip, to in self.ends if (at, to) == (ring[-1], place) and ip]
        for here, step in pairwise(ring):
            way = self._gateway(here, step)
            if not asks or not way:
                return
            if here != place:
                self.go(here, "sysctl -w net.ipv4.ip_forward=1")
            self.go(here, f"ip route replace {asks[0]} {way}")
        table, end = self.random.choice(
            (("mangle", "MARK --set-mark 0x1"), ("filter", "ACCEPT"), ("filter", "DROP"))
        )
        self._append(ring[1], table, "FORWARD", f"-m conntrack --ctstate INVALID -j {end}", 0)

    def _around(self, place: str) -> list[str]:
        """The way from ``place`` to one of its neighbors over all the others, if it is a ring."""
        ring = [place]
        while True:
            fars = [far for at, _, _, far in self.ends if at == ring[-1] and far not in ring]
            if not fars:
                break
            ring.append(fars[0])
        closed = any((at, far) == (ring[-1], place) for at, _, _, far in self.ends)
        return ring if closed and len(ring) > 2 else []

    def _strange(self, place: str) -> None:
        """Two places claim one address; an address goes; a secondary becomes nothing."""
        if self.chance(0.5):
            self.go(place, f"ip addr add {self.address()}/32 dev lo")
        else:
            ends = [end for end in self.ends if end[0] == place and end[2]]
            if ends:
                _, name, ip, _ = self.random.choice(ends)
                self.go(place, f"ip addr del {ip}/24 dev {name}")

    # Probes

    def _question(self) -> Question:
        source = self.random.choice(self.places)
        others = [ip for where, ip in self.addresses if where != source]
        kind = self.random.random()
        if kind < 0.86 and others:
            address = self.random.choice(others)
        elif kind < 0.93:
            address = self.address(source)
        elif kind < 0.98:
            net = self.address().rpartition(".")[0]
            address = self.pick(NOWHERE, f"{net}.77", f"{net}.99", f"{net}.255", "10.7.0.1")
        else:
            address = "127.0.0.1"
        ttl = self.random.choice((1, 1, 1, 2, 2, 3)) if self.chance(0.14) else 64
        protocol = self.pick("icmp", "tcp", "tcp", "udp", "udp")
        if protocol == "icmp":
            sized = self.chance(0.2) and not address.startswith("127.")  # see not-modelled.md
            size = self.random.choice((800, 1100, 1300, 1450, 1501)) if sized else None
            return Question(source, protocol, address, None, ttl, size)
        usual = "80" if protocol == "tcp" else "53"
        port = int(self.pick(*[usual] * 7, "9", "8080", "30080"))
        size = None
        if protocol == "udp" and self.chance(0.2) and not address.startswith("127."):
            size = self.random.choice((800, 1100, 1300, 1450, 1501))
        return Question(source, protocol, address, port, ttl, size)
