"""Compare a lab's model with the real kernel: what tools list, and what a wire shows."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from ekslearn.cluster import Cluster, Lab
from ekslearn.kernel import balancer, dice, router
from ekslearn.kernel.frame import Packet
from ekslearn.kernel.probe import Probe, Seen
from ekslearn.kernel.wiring import commands, netns, places
from ekslearn.kernel.world import World

if TYPE_CHECKING:
    from ekslearn.trace import Sighting, Trace

CLOSED = 9  # the port tried besides those that listen (discard, RFC 863)
NOWHERE = "198.51.100.99"  # an address nobody has (TEST-NET-2, RFC 5737)
LISTINGS = ("ip link show", "ip addr show", "ip rule show", "ip route show table all",
            "ip neigh show")  # fmt: skip
LIMITED = {(3, 0), (3, 1), (3, 13), (5, 0), (5, 1)}  # ICMP the kernel limits for each source
MOST = 500  # probes of one verify; of a lab that has more to ask, so many are drawn
KERNEL, AWS = "kernel", "AWS as documented"  # whose word the right side is
PARTS = ("vpc", "internet", "outside", "tgw", "pcx", "elb")  # stages of a trace that are AWS's
EDGES = ("vpc igw", "vpc nat", "vpc mtu")  # stages at which AWS changes or makes a packet
FIRST_PORT, LAST_PORT = 40000, 65000  # in a cluster each place asks from ports of its own
FEW = 10  # disagreements that may be a stall of the machine
AT_ONCE = {3: 4, 5: 1}  # how many of a type one source gets before the limit can show
Question = tuple[str, str]  # source and destination, as ``Lab.trace`` takes them


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One compared step. ``proof`` is whose word the right side is: "kernel", or "AWS as
    documented" where AWS's part decided, which on both sides is ours.
    """

    proof: str
    step: str
    model: tuple[str, ...]
    kernel: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if both sides say the same."""
        return self.model == self.kernel

    def __str__(self) -> str:
        line = f"{self.proof}  {'same' if self.ok else 'DIFFERENT'}  {self.step}"
        if self.ok:
            return line
        diff = difflib.unified_diff(self.model, self.kernel, "model", "kernel", lineterm="", n=9)
        return "\n".join([line, *(f"    {one}" for one in diff)])


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of ``verify``: its rows, and what the command line prints."""

    scenario: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if there is something to compare and no row differs."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    @property
    def text(self) -> str:
        """A line for each row, a diff where one differs, and a closing line with the counts."""
        wrong = sum(not row.ok for row in self.rows)
        probes = sum(row.step.startswith("probe") for row in self.rows)
        counts = f"{probes} probes, {len(self.rows) - probes} listings"
        if ours := sum(row.proof == AWS for row in self.rows):
            counts += f"; {ours} of them say {AWS}: there both sides are this project's own words"
        verdict = "model and kernel agree" if self.ok else f"{wrong} disagree"
        return "\n".join([*map(str, self.rows), *self.notes,
                          f"{self.scenario}: {verdict} ({counts})"])  # fmt: skip


def verify(lab: Lab, *, world: World | None = None) -> Report:
    """Build the lab for real in a private world, and compare it with the model step by step.

    Compared are the status of each wiring line, the listings of each place, and for each pair of
    places an ICMP echo, every listener, and a closed port of TCP and of UDP: what each interface
    saw, what the asking process got, and what the listener saw. The lab itself isn't changed.
    Probes go out in rounds, each on a fresh copy: see ``rounds``. What disagrees is asked again.
    Of a lab with more than ``MOST`` questions so many are drawn, the same every time.
    Raises ``EkslearnError`` where private worlds are forbidden or the kernel refuses a line.
    """
    if world is None:
        with World() as world:
            return verify(lab, world=world)
    world.build(lab)
    scratch, notes = fresh(lab), dict.fromkeys(one.note for one in commands(lab) if one.note)
    rows = [listing(scratch, world, place, one) for place in lab.places for one in LISTINGS]
    for at, wanted in enumerate(rounds(lab)):
        if at:
            world.build(lab)
        rows += settled(lab, wanted, world)
    return Report(lab.name, tuple(rows), (*notes, *drawn(lab)))


def drawn(lab: Lab) -> Iterator[str]:
    """A sentence about the questions that weren't asked, if there are any."""
    asked, there = len(questions(lab)), len(Asking(lab))
    if asked < there:
        yield f"{asked} of {there} possible probes were drawn, by the lab's name"


def questions(lab: Lab) -> list[Question]:
    """The sources and destinations worth a probe, as ``Lab.trace`` takes them; ``MOST`` of them."""
    asking = Asking(lab)
    numbers = range(len(asking))
    if len(numbers) > MOST:
        return [asking[at] for at in sorted(Random(lab.name).sample(numbers, MOST))]
    return [asking[at] for at in numbers]


class Asking:
    """All the questions that could be asked in a lab, by number, without a list of them."""

    def __init__(self, lab: Lab) -> None:
        self.places = lab.places
        scratch, listeners = lab.copy(), lab.listeners()
        ports: dict[str, dict[str, None]] = {}
        for place, where in listeners:
            ports.setdefault(place, {})[where.rpartition(":")[2]] = None
        for each in balancer.balancers(lab):
            ports[each.place] = {f"{one.port}/{protocol}": None for one in each.listeners
                                 for protocol in one.carries}  # fmt: skip
        self.own: dict[str, list[str]] = {}
        self.all, ends = [NOWHERE], {}
        for place in self.places:
            wanted = ["", *ports.get(place, ()), f"{CLOSED}/tcp", f"{CLOSED}/udp"]
            ends[place] = [f":{port}" if port else "" for port in dict.fromkeys(wanted)]
            self.own[place] = [f"127.0.0.1{end}" for end in ends[place]]
            self.all += [one + end for one in _addresses(scratch, place) for end in ends[place]]
        if isinstance(lab, Cluster):
            self.all += _services(lab)
            for place in self.places:
                for where, address in _public(lab, place):
                    self.own[place] += [address + end for end in ends[where]]

    def __len__(self) -> int:
        return sum(map(len, self.own.values())) + len(self.places) * len(self.all)

    def __getitem__(self, number: int) -> Question:
        for place in self.places:
            for some in (self.own[place], self.all):
                if number < len(some):
                    return place, some[number]
                number -= len(some)
        raise IndexError(number)


def _addresses(lab: Lab, place: str) -> list[str]:
    """The place's addresses of its own, those on ``lo`` included."""
    found = re.findall(r" inet ([0-9.]+)", lab.run(place, "ip -o addr show").stdout)
    return [one for one in found if not one.startswith("127.")]


def _services(cluster: Cluster) -> Iterator[str]:
    """Where Services are to be had: each port at its own address, and on every node."""
    for service in cluster.services:
        for port in service.ports:
            if service.cluster_ip:
                yield f"{service.cluster_ip}:{port.port}/{port.protocol}"
            if port.node_port:
                yield from (f"{cluster.address(node)}:{port.node_port}/{port.protocol}"
                            for node in cluster.machines)  # fmt: skip


def _public(cluster: Cluster, source: str) -> Iterator[tuple[str, str]]:
    """Places with a public address that a machine outside can ask for, and be answered by."""
    for wire in cluster.wires:
        eni = cluster.vpc.enis.get(wire.eni)
        for far in cluster.fabric.outside(source)[:1]:
            way = eni.subnet.table.lookup(far) if eni and eni.public_ip else None
            if eni and way and way.target == "igw" and wire.until is None:
                yield wire.place, str(eni.public_ip)


def rounds(lab: Lab) -> Iterator[list[Question]]:
    """The questions in groups that can be asked at once.

    The kernel limits redirects and some ICMP errors for each source, and that can't be switched
    off in a private world. So a group ends before any router would, by the model's own word,
    send one source a fifth error or a second redirect.
    """
    group: list[Question] = []
    sent: Counter[tuple[str, str, int]] = Counter()
    scratch = lab.copy()
    for question in questions(lab):
        trace = scratch.trace(*question)
        new = Counter(
            (one.place, one.dst, one.icmp[0])
            for one in trace.reply
            if one.direction == "out" and one.icmp and tuple(one.icmp) in LIMITED
        )
        total = sent + new
        pairs = Counter(key[:2] for key in total)  # a redirect takes the errors' tokens along
        many = any(count > AT_ONCE[kind] for (_, _, kind), count in total.items())
        if group and (many or max(pairs.values(), default=0) > 1):
            yield group
            group, total = [], new
        group.append(question)
        sent = total
    if group:
        yield group


def compare(lab: Lab, wanted: list[Question], world: World) -> list[Row]:
    """Ask the model and the freshly built kernel the same, in the same order."""
    model = fresh(lab)
    traces, probes = [], []
    for one in wanted:
        sport = model.namespace(one[0]).sockets.next_port
        traces.append(model.trace(*one))
        passed = balancer.proxied(model, traces[-1])
        probes.append(replace(probe(*one, sport), proxied=passed))
    world.steer(list(balancer.steering(model, router.SPACE, {each.sport for each in probes})))
    drawn_there = filter(None, (dice.draw(step) for trace in traces for step in trace.steps))
    for line in dice.lines(drawn_there):
        place, _, command = line.partition("$ ")
        world.run(place, command)
    place_of, named = {netns(place): place for place in model.places}, named_ports(lab)
    rows = []
    for question, sent, trace, seen in zip(
        wanted, probes, traces, world.probe(probes), strict=True
    ):
        known = named | {sent.sport, sent.dport or 0}
        rows.append(Row(
            proof=AWS if by_aws(trace) else KERNEL, step="probe " + " -> ".join(question),
            model=tuple(undrawn(model_says(trace), known)),
            kernel=tuple(undrawn(kernel_says(seen, place_of), known)),
        ))  # fmt: skip
    return rows + [listing(model, world, place, "ip neigh show", "then") for place in lab.places]


def fresh(lab: Lab) -> Lab:
    """A copy in which health checks have left no neighbors and connections behind, each place asks
    from ports of its own, and no NetworkPolicy is enforced: no kernel has the agent's programs.
    """
    model = lab.copy()
    if isinstance(model, Cluster):
        model.network_policy.enforce(False)
        room = (LAST_PORT - FIRST_PORT) // len(lab.places)
        for at, place in enumerate(lab.places):  # a NAT gateway's port is free again sooner here
            model.namespace(place).sockets.next_port = FIRST_PORT + room * at
    for place in model.places if balancer.balancers(lab) else ():
        namespace = model.namespace(place)
        namespace.conntrack.flush()
        for link in namespace.links.values():
            namespace.neighbors.forget(link, permanent=False)
    return model


def by_aws(trace: Trace) -> bool:
    """Whether AWS dropped, answered or translated the probe, or what came of it."""
    steps = [step for step in trace.steps if step.stage.split()[0] in PARTS]
    return any(step.stage in EDGES or step.stage.startswith("elb ")
               or step.decision in trace.reason for step in steps)  # fmt: skip


def listing(lab: Lab, world: World, place: str, command: str, when: str = "listing") -> Row:
    """Run one command that only looks, on both sides."""
    looked = lab.run(place, command), world.run(place, command)
    sides = (_masked(lab, done.stdout + done.stderr, command, place) for done in looked)
    model, kernel = (
        (*lines, f"status {done.status}") for lines, done in zip(sides, looked, strict=True)
    )
    return Row(proof=KERNEL, step=f"{when} {place}$ {command}", model=model, kernel=kernel)


def settled(lab: Lab, wanted: list[Question], world: World) -> list[Row]:
    """``compare``, and what disagrees is asked once more, alone, on a fresh build.

    A machine that stalls for longer than an ARP timer isn't a finding. Where more than ``FEW``
    probes disagree it can't be that, and the first answer stands.
    """
    rows = compare(lab, wanted, world)
    doubtful = [at for at, row in enumerate(rows[: len(wanted)]) if not row.ok]
    if len(doubtful) <= FEW and not all(row.ok for row in rows):
        world.build(lab)
        rows = compare(lab, wanted, world)
        for at in doubtful:
            world.build(lab)
            rows[at] = compare(lab, [wanted[at]], world)[0]
    return rows


def probe(source: str, destination: str, sport: int) -> Probe:
    """The real probe for a question: from the port that the model's own probe takes."""
    address, _, rest = destination.partition(":")
    port, _, protocol = rest.partition("/")
    return Probe(
        namespace=netns(source), protocol=protocol or ("tcp" if port else "icmp"),
        destination=address, dport=int(port) if port else None, sport=sport,
    )  # fmt: skip


def named_ports(lab: Lab) -> set[int]:
    """The ports that a line or a listener of the lab names."""
    words = r"(?:--to-\w+ [0-9.]+:|port )(\d+)"
    listening = {int(where.rpartition(":")[2].partition("/")[0]) for _, where in lab.listeners()}
    return listening | {int(port) for port in re.findall(words, "\n".join(lab.lines))}


def undrawn(lines: Iterable[str], known: set[int]) -> Iterator[str]:
    """The lines with ``*`` for every port that isn't known: it was drawn, and dice differ."""

    def port(found: re.Match[str]) -> str:
        return found[0] if int(found[2]) in known else f"{found[1]}*"

    for line in lines:
        pattern = (
            r"(\S+ )(\d+)$" if line.startswith("answer ") else r"((?:tcp|udp|->) )(\d+)(?= |$)"
        )
        yield re.sub(pattern, port, line)


def model_says(trace: Trace) -> Iterator[str]:
    """What a wire would show of a trace, a line each, and what the asking process gets."""
    for leg in ("request", "reply"):
        yield from _redirected_once(
            _sighting(leg, one.place, one.interface, one.direction, one)
            for one in getattr(trace, leg)
        )
    yield f"outcome {_outcome(trace)}"
    if trace.verdict == "delivered" and trace.request and trace.request[-1].protocol != "icmp":
        last = trace.request[-1]
        yield f"answer {last.place} {last.src} {last.sport}"
    elif trace.verdict == "refused" and trace.answer:  # a proxy's word for it
        yield f"answer {trace.answer}"


def kernel_says(seen: Seen, place_of: dict[str, str]) -> Iterator[str]:
    """The same lines from what was captured."""
    for leg in ("request", "reply"):
        yield from _redirected_once(
            _sighting(leg, place_of[namespace], interface, direction, packet)
            for namespace, interface, direction, packet in by_hop(seen, leg)
        )
    outcome = seen.outcome
    # The sender's own firewall, or a veth whose other end takes less: gone all the same.
    if outcome in ("error EPERM", "error ENOBUFS"):
        outcome = "nothing"
    yield f"outcome {'error' if outcome.startswith('error ') else outcome}"
    if seen.answer:
        yield f"answer {seen.answer}"


def by_hop(seen: Seen, leg: str) -> list[tuple[str, str, str, Packet]]:
    """The packets of a leg. A proxy answers at once; the model's, once its target has answered."""
    found = [one for one in seen.packets if one[3].leg == leg]
    return sorted(found, key=lambda one: -one[3].hop) if leg == "reply" else found


def _redirected_once(lines: Iterable[str]) -> Iterator[str]:
    """The lines, a redirect that is sent again for the same probe left out.

    A loop brings a packet back to the same router within microseconds, and the kernel sends one
    source at most one redirect in 20 ms (net/ipv4/route.c, ip_rt_send_redirect).
    """
    redirects = set()
    for line in lines:
        if " icmp 5/" in line:
            if line in redirects:
                continue
            redirects.add(line)
        yield line


def _sighting(leg: str, place: str, interface: str, direction: str, one: object) -> str:
    value = one.__getattribute__
    ports = ""
    if value("sport") is not None:
        ports = f" {value('sport')} -> {value('dport')}"
    icmp = value("icmp")
    kind = f" {icmp[0]}/{icmp[1]}" if icmp else ""
    return (
        f"{leg} {place} {interface} {direction} {value('src')} -> {value('dst')}"
        f" {value('protocol')}{ports}{kind} ttl {value('ttl')}"
    )


def _outcome(trace: Trace) -> str:
    """A model's verdict in the words of the wire: refused and rejected look alike there."""
    if trace.verdict == "delivered":
        return "answered"
    back = [one for one in trace.reply if _arrived(one, trace)]
    if trace.teller and back and back[-1].flags == "SYN-ACK":
        return "answered"  # by a proxy, whatever it then says
    if trace.verdict == "dropped":
        return "nothing"  # the answer may have come near, in a frame for another MAC
    if back and back[-1].protocol == "tcp":
        return "RST"
    if back and back[-1].icmp:
        kind, code = back[-1].icmp
        return f"icmp {kind}/{code} from {trace.teller or back[-1].src}"
    return "error" if trace.verdict == "unreachable" and not trace.request else "nothing"


def _arrived(one: Sighting, trace: Trace) -> bool:
    """Whether this is the word that reached the asking place; a redirect is none."""
    start = trace.request[0].place if trace.request else one.place
    redirect = one.icmp and one.icmp[0] == 5
    return one.place == start and one.direction == "in" and not redirect


def _masked(lab: Lab, text: str, command: str, place: str = "") -> tuple[str, ...]:
    """A listing without what changes from run to run.

    That is: interface indexes, MACs that dice chose (no line of the lab names them), the timed
    states of neighbors, and the neighbors' order, which follows a hash seeded at boot.
    """
    fixed = "\n".join(lab.lines).lower()

    def mac(found: re.Match[str]) -> str:
        known = found[0] in fixed or found[0] in ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff")
        return found[0] if known else "MAC"

    if isinstance(lab, Cluster):
        fixed += " ".join(wire.mac for wire in lab.wires)
        text = _as_eni(lab, place, text)
    for pattern, put in (
        (r"(?m)^\d+: (?=.*<)", "N: "),
        (r"@if\d+", "@ifN"),
        (r"link-netnsid \d+", "link-netnsid N"),
        (r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", mac),
        (r"\b(?:REACHABLE|STALE|DELAY|PROBE)\b", "LEARNED"),
        (r"\b(?:INCOMPLETE)\b", "FAILED"),
    ):
        text = re.sub(pattern, put, text)
    lines = text.splitlines()
    return tuple(sorted(lines) if command.startswith("ip neigh") else lines)


def _as_eni(cluster: Cluster, place: str, text: str) -> str:
    """A listing as if what AWS plugs in were no veth.

    And without the MAC of a neighbor behind it: AWS names the neighbor's ENI, our router itself.
    """
    names = {name: each for each, name in places(cluster)}
    text = re.sub(f" link-netns {router.SPACE}$", "", text, flags=re.M)
    text = re.sub(r"(?<= link-netns )\S+", lambda found: names.get(found[0], found[0]), text)
    vlans = [link.name for link in cluster.namespace(place).links.values() if link.kind == "vlan"]
    for one in (*vlans, *(wire.interface for wire in cluster.wires if wire.place == place)):
        name = re.escape(one)
        text = re.sub(rf"(^\d+: {name})@[^:]+", r"\1", text, flags=re.M)
        text = re.sub(rf"( dev {name} lladdr )\S+(?= (?!PERMANENT))", r"\1AWS's", text)
    return text
