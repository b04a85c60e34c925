"""A Lab's lines as the real kernel takes them: names, base switches, and the script to read."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ekslearn import data_path
from ekslearn.cluster import HEREDOC, Cluster, Lab, Wire, heredoc
from ekslearn.errors import EkslearnError
from ekslearn.kernel import balancer, router
from ekslearn.linux.link import invented_mac

JUMBO = "9216"  # bytes: the most an ENI can be set to
PLAYED = "the namespace aws_vpc plays AWS: its router, its filters and its gateways, as documented"
NO_VLAN = "{} has a veth named {} into the router in place of a VLAN device: it needs no 802.1Q"
SWITCHES = """net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0
net.ipv4.conf.default.send_redirects=0 net.ipv4.conf.default.proxy_arp=1""".split()


def netns(place: str) -> str:
    """The network namespace that plays a place: its own name, unless that can't be a file name.

    No Kubernetes name holds an underscore, so two places of a cluster never meet in one name.

    >>> netns("red"), netns("default/web-1")
    ('red', 'default_web-1')
    """
    return place.replace("/", "_")


def places(lab: Lab) -> list[tuple[str, str]]:
    """Each place with the name of its network namespace, in the lab's order; last those that have
    none of their own, as a pod with ``hostNetwork``.

    Raises ``EkslearnError`` if two places would share a namespace or one has no possible name.
    """
    taken: dict[str, str] = {}
    for place in lab.places:
        name = netns(place)
        if name in taken:
            raise EkslearnError(
                f"places {taken[name]!r} and {place!r} would both be network namespace {name!r};"
                " rename one of them"
            )
        if name in ("", ".", "..") or not name.isprintable() or len(name) > 255:
            raise EkslearnError(f"place {place!r} can't name a network namespace; rename it")
        taken[name] = place
    own = [(place, name) for name, place in taken.items()]
    return own + [(place, netns(node)) for place, node in lab.aliases.items()]


def spaces(lab: Lab) -> list[str]:
    """The network namespaces to make: the places', those of places that have gone since, and
    one that plays AWS.
    """
    found = dict.fromkeys(netns(place) for place in lab.places)
    found |= dict.fromkeys(one.namespace for one in commands(lab))
    return list(found)


def base_sysctls() -> list[tuple[str, str]]:
    """Key and value of each switch a namespace starts with, in order (data/sysctls.conf).

    >>> base_sysctls()[0]
    ('net.ipv4.ip_forward', '0')
    """
    table = []
    for line in data_path("sysctls.conf").read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            key, _, value = text.partition("=")
            table.append((key.strip(), value.strip()))
    return table


def split(line: str) -> tuple[str, list[str]]:
    """Take ``PLACE$ COMMAND`` apart; the place a line names after ``netns`` becomes a namespace.

    >>> split("red$ ip link add a type veth peer name b netns default/web-1")[1][-2:]
    ['netns', 'default_web-1']
    """
    place, dollar, command = line.partition("$")
    if not dollar:
        raise EkslearnError(f"{line!r} isn't a wiring line; it would be PLACE$ COMMAND")
    return place.strip(), argv(command)


def argv(command: str) -> list[str]:
    """The words of a command, as a shell without variables would; the model splits alike."""
    try:
        words = shlex.split(command, comments=True)
    except ValueError as error:
        raise EkslearnError(f"{command!r} can't be split into words: {error}") from None
    if not words:
        raise EkslearnError("a wiring line holds no command")
    return words[:1] + [
        netns(word) if before == "netns" else word for before, word in pairwise(words)
    ]


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run in a network namespace, with what it reads.

    ``line`` is the wiring line that it stands for, by its number; None for what AWS does.
    ``note`` says where it is another command than the line's own.
    """

    namespace: str
    words: tuple[str, ...]
    text: str = ""
    line: int | None = None
    note: str = ""


def commands(lab: Lab) -> list[Command]:
    """All that builds a lab, in order: its lines, and in a cluster what AWS does between them."""
    if isinstance(lab, Cluster):
        return list(_Plugging(lab).commands())
    return [own_command(lab, at, line) for at, line in enumerate(lab.lines)]


def own_command(lab: Lab, at: int | None, line: str) -> Command:
    """A wiring line as it is, with what its command reads."""
    words, text = heredoc(line)
    place, found = split(str(words))
    return Command(netns(lab.aliases.get(place, place)), tuple(found), text, at)


class _Plugging:
    """A cluster's lines, with the interfaces that appear and disappear between them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._ports: dict[str, Wire] = {}  # what is plugged in, by the router's interface

    def commands(self) -> Iterator[Command]:
        yield _aws(["sysctl", "-q", "-w", *SWITCHES], note=PLAYED)
        appear, go = defaultdict(list), defaultdict(list)
        for number, wire in enumerate(self._cluster.wires):
            if wire.at != wire.until:
                appear[wire.at].append((f"port{number}", wire))
                go[wire.until].append(f"port{number}")
        for at, line in enumerate([*self._cluster.lines, ""]):
            for port in go[at]:
                if self._ports.pop(port, None):  # unless a line has taken it
                    yield _aws(["ip", "link", "del", port])
            for port, wire in appear[at]:
                yield from self._plug(port, wire)
            if line:
                yield from self._line(at, line)
        for words, text in router.Router(self._cluster, self._ports).programs():
            yield _aws(words, text)
        for place, words, text in balancer.programs(self._cluster):
            yield Command(netns(place), tuple(words), text)

    def _plug(
        self, port: str, wire: Wire, *more: str, line: int | None = None, note: str = ""
    ) -> Iterator[Command]:
        self._ports[port] = wire
        mac, eni = invented_mac("outside"), self._cluster.vpc.enis.get(wire.eni)
        if eni:
            mac = self._cluster.fabric.router_mac(eni.subnet)
        here = ["ip", "link", "add", port, "address", mac, "mtu", JUMBO, "type", "veth", "peer"]
        there = ["name", wire.interface, "address", wire.mac, *more, "netns", netns(wire.place)]
        yield _aws([*here, *there], line=line, note=note)
        yield _aws(["ip", "link", "set", port, "up"])
        yield _aws(["sysctl", "-q", "-w", f"net.ipv4.neigh.{port}.proxy_delay=0"])

    def _line(self, at: int, line: str) -> Iterator[Command]:
        if HEREDOC in line:
            yield own_command(self._cluster, at, line)
            return
        place, words = split(line)
        place = self._cluster.aliases.get(place, place)
        if words[:3] == ["ip", "link", "add"] and "vlan" in words:
            try:
                yield from self._vlan(at, place, words)
            except (KeyError, ValueError) as error:
                raise EkslearnError(f"{line!r} isn't as the CNI makes a VLAN device") from error
            return
        if words[1:2] == ["link"] and words[2:3] and words[2].startswith("del"):
            self._ports = {port: wire for port, wire in self._ports.items()
                           if (wire.place, wire.interface) != (place, words[-1])}  # fmt: skip
        yield own_command(self._cluster, at, line)

    def _vlan(self, at: int, place: str, words: list[str]) -> Iterator[Command]:
        """``ip link add link ENI name NAME address MAC type vlan id N``: a veth instead."""
        given = dict(zip(words[3::2], words[4::2], strict=True))
        trunks = [wire.eni for wire in self._ports.values()
                  if (wire.place, wire.interface) == (place, given["link"])]  # fmt: skip
        branches = [eni.eni_id for eni in self._cluster.vpc.enis.values()
                    if eni.trunk and eni.trunk.eni_id in trunks
                    and eni.vlan_id == int(given["id"])]  # fmt: skip
        wire = Wire(place, given["name"], given["address"], next(iter(branches), ""), at)
        mtu = str(self._cluster.settings.eni_mtu)  # the trunk's
        note = NO_VLAN.format(place, given["name"])
        yield from self._plug(f"vlan{at}", wire, "mtu", mtu, line=at, note=note)


def _aws(words: Sequence[str], text: str = "", line: int | None = None, note: str = "") -> Command:
    return Command(router.SPACE, tuple(words), text, line, note)


HEAD = """\
#!/bin/sh
# {name}: built from its own lines with real network namespaces. Run as root.
# Nothing listens: this script starts no process.
# To remove all of it: for n in {spaces}; do ip netns del "$n"; done
set -eu

for n in {spaces}; do
    if ip netns list | grep -q "^$n\\( \\|\\$\\)"; then
        echo "network namespace $n exists already; remove it first: ip netns del $n" >&2
        exit 1
    fi
done

# A namespace inherits switches from the machine: set each one before any link exists.
base() {{
    ip netns exec "$1" sysctl -e -q -p - <<'SWITCHES'
{switches}
SWITCHES
}}
for n in {spaces}; do
    ip netns add "$n"
    base "$n"
done
"""


def script(lab: Lab) -> str:
    """The sh script that builds the lab in network namespaces; it starts no processes.

    Every line of the lab appears in it once, in order, as ``ip netns exec NAMESPACE COMMAND``.
    """
    head = HEAD.format(
        name=lab.name,
        spaces=" ".join(map(shlex.quote, spaces(lab))),
        switches="\n".join(f"{key} = {value}" for key, value in base_sysctls()),
    )
    lines = []
    for one in commands(lab):
        lines += [f"# {one.note}"] if one.note else []
        lines.append(f"ip netns exec {shlex.quote(one.namespace)} {shlex.join(one.words)}")
        if one.text:
            lines[-1] += f" <<'EOF'\n{one.text}EOF"
    return head + "\n" + "\n".join(lines) + "\n"
