"""Lab and Cluster: network namespaces wired by command lines, ready to be asked.

A Lab is bare namespaces on one machine. A Cluster is what AWS, the VPC CNI and Kubernetes make of
such namespaces: nodes, pods and hosts, whose ENIs meet in a VPC.
"""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TYPE_CHECKING, TypeVar

from . import iptables as iptables  # adds its commands to the tools
from . import nft as nft  # likewise
from . import tools
from .cni import node as host
from .cni.settings import Settings
from .control import ControlPlane
from .controller import KubeNode
from .errors import EkslearnError, KernelError
from .fabric import PATH_MTU, Fabric
from .ipamd.daemon import INTERFACE, NoAddress
from .ipamd.pool import EniConfig, eniconfig_for
from .kubernetes import SERVICE_CIDR, Pod, SecurityGroupPolicy
from .linux import NetworkNamespace, World
from .linux.link import invented_mac
from .linux.socket import Serve
from .machine import Machine
from .tools import Done
from .vpc.ec2 import Ec2
from .vpc.instance import InstanceType, instance_type
from .vpc.model import Eni, Vpc
from .vpc.reading import PinnedEni
from .vpc.security import SecurityGroup

if TYPE_CHECKING:
    from .trace import Trace

T = TypeVar("T")
HEREDOC = " <<'EOF'\n"
End = tuple[str, str]
# Listings: what they ask changes nothing, even where they print nothing.
READS = re.compile(
    r"nft(\s+-\S+)*\s+list\b.*|ip(\s+-\S+)*\s+\S+(\s+(sh|sho|show|l|li|lis|list|lst|g|ge|get)\b.*)?"
)


class Lab:
    """Some network namespaces, each a place to run commands in and to ask from.

    The wiring is text: lines ``PLACE$ COMMAND`` are the only way to build or to break anything.
    """

    def __init__(self, name: str, places: Sequence[str], *, seed: int = 0) -> None:
        self.name = name
        self.lines: list[str] = []
        self.notes: list[str] = []  # what its scenario holds to no effect
        self.aliases: dict[str, str] = {}  # a pod on its node's network: the node
        self._world = World(seed)
        for place in places:
            NetworkNamespace(self._world, place)

    @property
    def places(self) -> tuple[str, ...]:
        """The names of the namespaces, in the order they were given."""
        return tuple(self._world.namespaces)

    def namespace(self, place: str) -> NetworkNamespace:
        """The namespace called ``place``; EkslearnError if there is none."""
        try:
            return self._world.namespaces[self.aliases.get(place, place)]
        except KeyError:
            there = ", ".join(self.places)
            raise EkslearnError(f"there is no place {place!r} in {self.name}; there are {there}"
                                ) from None  # fmt: skip

    def run(self, place: str, command: str | Sequence[str]) -> Done:
        """Run one command line in a place as the real tool would; note a change in ``lines``."""
        namespace = self.namespace(place)
        self._world.changing()
        done = tools.run(namespace, *heredoc(command))
        text = command if isinstance(command, str) else " ".join(command)
        quiet = not done.stdout or (text.startswith("sysctl") and "=" in text)
        if done.status == 0 and quiet and text.strip() and not READS.fullmatch(text.strip()):
            self.lines.append(f"{place}$ {text}")
        return done

    def line(self, line: str) -> Done:
        """Run one line ``PLACE$ COMMAND``; EkslearnError if it isn't one."""
        place, dollar, command = line.partition("$")
        if not dollar:
            raise EkslearnError(f"{line!r} isn't a line of the form PLACE$ COMMAND")
        return self.run(place.strip(), command.strip())

    def listen(self, place: str, socket: str, *, process: str = "",
               serve: Serve | None = None) -> None:  # fmt: skip
        """Let a process in ``place`` listen on ``socket`` ("0.0.0.0:80/tcp").

        ``serve`` is what it answers, if that isn't whom it sees. Raises EkslearnError: the text
        isn't a socket, or the kernel refuses it ("Address already in use": the containers of one
        pod share their ports).
        """
        address, port, protocol = socket_of(socket)
        try:
            self.namespace(place).sockets.listen(address, port, protocol, process, serve)
        except KernelError as error:
            raise EkslearnError(f"bind {socket} in {place}: {error}") from error

    def listeners(self) -> list[tuple[str, str]]:
        """Who listens: (place, "0.0.0.0:80/tcp") pairs."""
        return [(place, f"{one.address}:{one.port}/{one.protocol}") for place in self.places
                for one in self.namespace(place).sockets.listeners]  # fmt: skip

    def address(self, place: str) -> str:
        """The first address of a place that isn't on ``lo``; EkslearnError if it has none."""
        for link in self.namespace(place).links.values():
            if link.kind != "loopback" and link.addresses:
                return str(link.addresses[0].ip)
        raise EkslearnError(f"{place} has no address but those on lo")

    def source(self, text: str) -> str:
        """The place that PLACE or PLACE:CONTAINER asks from; EkslearnError if there is none."""
        place, colon, container = text.partition(":")
        if colon and place in self.places:
            raise EkslearnError(f"{place} is a bare namespace: it has no container {container!r}; "
                                f"ask from {place}")  # fmt: skip
        return self.namespace(text).name

    def named(self, destination: str) -> tuple[str, str]:
        """What a name that Kubernetes gives stands for: address, port and protocol, and what is to
        be asked there. Other words stay as they are.
        """
        return destination, ""

    def links(self) -> list[tuple[End, End]]:
        """The two ends of every veth, as (place, interface) pairs, sorted."""
        pairs = set()
        for namespace in self._world.namespaces.values():
            for link in namespace.links.values():
                if link.peer:
                    ends = sorted((each.namespace.name, each.name) for each in (link, link.peer))
                    pairs.add((ends[0], ends[1]))
        return sorted(pairs)

    def trace(self, source: str, destination: str) -> Trace:
        """Send one probe from ``source`` to ``destination`` and follow it and what answers it.

        A probe, not a query: it leaves learned neighbors and connections behind.
        """
        from .trace import follow

        return follow(self, source, destination)

    def copy(self) -> Lab:
        """An independent lab in the same state: a scratch state for pictures and what-ifs."""
        twin: Lab = pickle.loads(pickle.dumps(self))
        return twin

    def sleep(self, seconds: float) -> None:
        """Let time pass in the lab."""
        self._world.clock += seconds

    @property
    def world(self) -> World:
        """What the namespaces share: the order of events, the clock and the dice."""
        return self._world


@dataclass(slots=True)
class Wire:
    """An interface that AWS plugs into a namespace: no command of the machine makes it.

    ``eni`` is empty for a machine outside the VPC. It is there from before line number ``at`` of
    the cluster's lines to before line number ``until``, or to the end.
    """

    place: str
    interface: str
    mac: str
    eni: str
    at: int
    until: int | None = None


class Cluster(Lab):
    """Nodes, their pods and other machines in one VPC, wired as the VPC CNI wires them.

    Everything is built through the methods below, in the order AWS and Kubernetes would: nodes
    and hosts, then pods. Then any line may change it.
    """

    def __init__(
        self, name: str, vpc: Vpc, settings: Settings, *, connmark: str = "nft", seed: int = 0,
        eniconfigs: Sequence[EniConfig] = (), policies: Sequence[SecurityGroupPolicy] = (),
        service_cidr: IPv4Network = SERVICE_CIDR,
    ) -> None:  # fmt: skip
        super().__init__(name, (), seed=seed)
        self.vpc, self.settings, self.connmark = vpc, settings, connmark
        self.eniconfigs, self.policies = eniconfigs, policies
        self.machines: dict[str, Machine] = {}
        self.pods: dict[str, Pod] = {}
        self.pending: dict[str, str] = {}  # a pod without address: what kubelet says
        self.wires: list[Wire] = []
        self.text, self.loaded = "", 0  # the scenario it was read from; how many lines that ran
        self._acting: Machine | None = None
        self.ec2 = Ec2(vpc, clock=self.now)
        self.fabric = Fabric(self.world, vpc)
        self.control = ControlPlane(self, service_cidr)
        self.services, self.elb = self.control.services, self.control.elb
        self.network_policy = self.control.policies

    def now(self) -> float:
        """The time, in seconds, of the node that is at work, else the cluster's."""
        return self._acting.time if self._acting else self.world.clock

    def namespace(self, place: str) -> NetworkNamespace:
        """The namespace of a place; EkslearnError if there is none, or a pod has none yet."""
        if place in self.pending:
            raise EkslearnError(f"{place} has no network yet. {self.pending[place]}")
        return super().namespace(place)

    def source(self, text: str) -> str:
        """The place that PLACE or POD:CONTAINER asks from; EkslearnError if there is none."""
        place, colon, container = text.partition(":")
        if not colon or place not in self.pods:
            return super().source(text)
        there = [each.name for each in self.pods[place].containers]
        if container not in there:
            raise EkslearnError(f"{place} has no container {container!r}; it has"
                                f" {', '.join(there) or 'none'}")  # fmt: skip
        return self.namespace(place).name

    def named(self, destination: str) -> tuple[str, str]:
        """What the name of a Service, balancer or Ingress stands for; see ``ControlPlane``."""
        return self.control.named(destination)

    def listeners(self) -> list[tuple[str, str]]:
        """The same, but for what load balancers listen on."""
        theirs = {one.place for one in self.fabric.balancers.values()}
        return [one for one in super().listeners() if one[0] not in theirs]

    # Wiring

    def wire(self, lines: Iterable[str]) -> None:
        """Run lines that have to work; EkslearnError if one doesn't."""
        for line in lines:
            done = self.line(line)
            if done.status:
                said = " ".join((done.stderr or done.stdout).split())
                raise EkslearnError(f"{line!r} ends with status {done.status}: {said}")

    def shows(self, place: str, command: str) -> str:
        """What a listing prints in a place."""
        return tools.run(self.namespace(place), command).stdout

    def plug(self, place: str, interface: str, eni: Eni) -> None:
        """Let an ENI appear in a namespace, as AWS does when it attaches one."""
        link = self.namespace(place).add_link(interface, "ethernet", eni.mac)
        self.fabric.plug(link, eni)
        self.wires.append(Wire(place, interface, eni.mac, eni.eni_id, len(self.lines)))

    def unplug(self, eni_id: str) -> None:
        """Let an ENI disappear from the namespace it is in."""
        wire = next(one for one in self.wires if one.eni == eni_id and one.until is None)
        wire.until = len(self.lines)
        namespace = self.namespace(wire.place)
        link = namespace.links[wire.interface]
        self.fabric.unplug(link)
        namespace.remove_link(link)

    # Machines

    def add_node(
        self, name: str, kind: InstanceType, subnet: str, *, interfaces: Sequence[str] = (),
        enis: Sequence[PinnedEni] = (), pods: int | None = None, address: IPv4Address | None = None,
        labels: Mapping[str, str] | None = None, annotations: Mapping[str, str] | None = None,
        groups: Sequence[SecurityGroup] = (),
    ) -> Machine:  # fmt: skip
        """Launch a node and let the CNI set it up; EkslearnError if AWS or the CNI refuses.

        ``enis`` pins what ipamd would otherwise ask EC2 for: then nothing more is asked for.
        ``address`` pins no more than the node's own.
        """
        machine = self.machines[name] = Machine(self, name, kind, interfaces=interfaces, pods=pods)
        self.control.nodes[name] = KubeNode(name=name, labels=labels or {})
        own = next((one.primary for one in enis if not one.device), address)
        eni = self._launch(name, kind, subnet, own, machine.interface(0), groups)
        config = self._eniconfig(labels or {}, annotations or {})
        self._act(machine, machine.start, eni, enis, config)
        return machine

    def _eniconfig(
        self, labels: Mapping[str, str], annotations: Mapping[str, str]
    ) -> EniConfig | None:
        """The ENIConfig that a node's annotations or labels choose, with custom networking."""
        if not self.settings.custom_networking:
            return None
        return eniconfig_for(
            self.eniconfigs, labels=labels, annotations=annotations,
            label_key=self.settings.eni_config_label,
            annotation_key=self.settings.eni_config_annotation,
        )  # fmt: skip

    def add_host(
        self, name: str, addresses: Sequence[IPv4Address], subnet: str = "",
        groups: Sequence[SecurityGroup] = (),
    ) -> None:  # fmt: skip
        """Add a machine that isn't a node: an EC2 instance in ``subnet``, or one outside."""
        if subnet:
            kind = instance_type("t3.micro")
            self._launch(name, kind, subnet, next(iter(addresses), None), "eth0", groups)
            # EC2's DHCP tells it to (EC2 user guide, "Network MTU"); a node's the CNI sets.
            self.wire([f"{name}$ ip link set eth0 mtu {PATH_MTU['local']}"])
            return
        NetworkNamespace(self.world, name)
        first, *more = addresses
        mac = invented_mac(name, "eth0")
        link = self.namespace(name).add_link("eth0", "ethernet", mac)
        self.fabric.plug_host(link, addresses)
        self.wires.append(Wire(name, "eth0", mac, "", len(self.lines)))
        near = IPv4Interface(f"{first}/24")
        gateway = near.network[1] if near.network[1] != first else near.network[254]
        self.wire(host.boot_lines(name, "eth0", str(near), str(gateway)))
        self.wire(f"{name}$ ip addr add {one}/32 dev lo" for one in more)

    def _launch(
        self, name: str, kind: InstanceType, subnet: str, address: IPv4Address | None,
        interface: str, groups: Sequence[SecurityGroup],
    ) -> Eni:  # fmt: skip
        where = self.vpc.subnets[subnet]
        eni = self.ec2.run_instances(name, kind, where, private_ip=address, groups=groups)
        NetworkNamespace(self.world, name)
        self.plug(name, interface, eni)
        own = f"{eni.primary}/{where.cidr.prefixlen}"
        self.wire(host.boot_lines(name, interface, own, str(where.gateway)))
        return eni

    # Pods

    def add_pod(self, pod: Pod) -> None:
        """Schedule a pod, get it an address and wire it; one that gets none stays pending."""
        if pod.place in self.pods:
            raise EkslearnError(f"there is a pod {pod.place} already")
        machine = self._schedule(pod)
        self.pods[pod.place] = replace(pod, node=machine.name if machine else "")
        if machine and pod.host_network:
            self.aliases[pod.place] = machine.name
            self._start(self.pods[pod.place])
        elif machine:
            self._address(machine, self.pods[pod.place])

    def delete_pod(self, place: str) -> None:
        """Delete a pod: its address cools down, its wiring goes, and its namespace."""
        pod = self.pods.pop(place, None)
        if pod is None:
            raise EkslearnError(f"there is no pod {place}")
        self.network_policy.stopped(place)
        if self.pending.pop(place, None):
            return
        machine = self.machines[pod.node]
        self._act(machine, machine.disconnect, pod)
        if not self.aliases.pop(place, None):
            del self.world.namespaces[place]

    def _schedule(self, pod: Pod) -> Machine | None:
        """The pod's own node, else the one with the fewest pods of those that take one more.

        If none does the pod is pending, in the scheduler's words.
        """
        if pod.node in self.machines:
            return self.machines[pod.node]
        if pod.node:
            raise EkslearnError(f"{pod.place}: there is no node {pod.node!r}; there are"
                                f" {', '.join(self.machines) or 'none'}")  # fmt: skip
        count = Counter(each.node for each in self.pods.values())
        full = [one for one, each in self.machines.items() if count[one] >= each.max_pods]
        why = {one: self.control.nodes[one].repels or ("Too many pods" if one in full else "")
               for one in self.machines}  # fmt: skip
        room = [self.machines[one] for one, said in why.items() if not said]
        if not room:
            said = sorted(f"{n} {text}" for text, n in Counter(why.values()).items())
            self.pending[pod.place] = f"0/{len(why)} nodes are available: {', '.join(said)}."
        return min(room, key=lambda each: count[each.name], default=None)

    def _address(self, machine: Machine, pod: Pod) -> None:
        """Have a pod wired; kubelet asks again and again, so one without address waits."""
        groups = [self.vpc.security_groups[name] for policy in self.policies if policy.selects(pod)
                  for name in policy.groups]  # fmt: skip
        self.pending.pop(pod.place, None)
        try:
            self._act(machine, machine.connect, pod, groups)
        except NoAddress as error:
            self.pending[pod.place] = str(error)
            return
        self._start(pod)

    def _start(self, pod: Pod) -> None:
        end = self.namespace(pod.place).links.get(INTERFACE)
        ip, node = (IPv4Address(self.address(each)) for each in (pod.place, pod.node))
        if pod.ip not in (None, ip):
            raise EkslearnError(f"{pod.ip} isn't the address of {pod.node}, on whose network"
                                f" {pod.place} is: {ip}")  # fmt: skip
        self.network_policy.started(pod, ip, node, end and end.peer)
        for container in pod.containers:
            for port, protocol in container.ports:
                self.listen(pod.place, f"0.0.0.0:{port}/{protocol}", process=container.name)

    def restart_cni(self, node: str, settings: Settings) -> None:
        """Restart a node's aws-node container with other settings, as a change of them does."""
        machine = self.machines[node]
        self._act(machine, machine.restart, settings)

    # Time

    def _act(self, machine: Machine, do: Callable[..., T], *arguments: object) -> T:
        """Let something happen in a node's own time."""
        self._acting = machine
        try:
            return do(*arguments)
        finally:
            self._acting = None

    def sleep(self, seconds: float) -> None:
        """Let time pass: every ipamd does its rounds, and pending pods ask again."""
        end = self.world.clock + seconds
        while (due := self.control.next_event()) is not None and due < end:
            self._pass(max(due, self.world.clock))
        self._pass(end)

    def _pass(self, until: float) -> None:
        self.world.clock = until
        while machine := min((each for each in self.machines.values() if each.time < until),
                             key=lambda each: each.time, default=None):  # fmt: skip
            self._act(machine, machine.ipamd.tick)
            for place in [one for one in self.pending if self.pods[one].node == machine.name]:
                self._address(machine, self.pods[place])
        self.control.pass_time()

    def settle(self, limit_s: float = 120.0) -> None:
        """Let time pass until every pool rests and no pod waits, or until waiting is hopeless.

        A pool rests once a round of its ipamd has come to nothing. A node that waits for EC2's
        answers is ahead of the cluster's time, and may have no round in a step.
        """
        end, rests = self.world.clock + limit_s, False
        while self.world.clock < end and not rests:
            done = [(each, each.time, len(each.ipamd.decisions)) for each in self.machines.values()]
            self.sleep(5.0)
            rests = not self.pending and all(
                each.time > since and not any(one.did for one in each.ipamd.decisions[count:])
                for each, since, count in done
            )
        self.control.settle()


def socket_of(text: str) -> tuple[IPv4Address, int, str]:
    """Read "0.0.0.0:80/tcp"; EkslearnError if it isn't a socket."""
    found = re.fullmatch(r"([0-9.]+):([0-9]+)(?:/(tcp|udp))?", text.strip())
    try:
        if found and 0 < int(found[2]) < 65536:
            return IPv4Address(found[1]), int(found[2]), found[3] or "tcp"
    except ValueError:
        pass
    raise EkslearnError(f"{text!r} isn't a socket such as 0.0.0.0:80/tcp")


def heredoc(command: str | Sequence[str]) -> tuple[str | Sequence[str], str]:
    """A command, and what it reads: the lines of a shell's here-document (<<'EOF') behind it."""
    if not isinstance(command, str) or HEREDOC not in command:
        return command, ""
    words, _, text = command.partition(HEREDOC)
    return words, text.removesuffix("EOF")
