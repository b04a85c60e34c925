"""A node of a cluster: an EC2 instance, what the VPC CNI did to its kernel, and its ipamd."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Protocol

from .cni import names
from .cni import node as host
from .cni import pod as wiring
from .cni.settings import Settings
from .errors import EkslearnError
from .ipamd.daemon import INTERFACE, NETWORK, SANDBOX_FAILED, Ipamd, NoAddress
from .ipamd.datastore import CHECKPOINT_VERSION
from .ipamd.pool import EniConfig
from .kubernetes import Pod
from .linux import NetworkNamespace, World
from .linux.link import invented_mac
from .linux.socket import FIRST_PORT
from .paths import data_path
from .vpc.ec2 import Ec2
from .vpc.instance import InstanceType, max_pods
from .vpc.model import Eni, Vpc
from .vpc.reading import PinnedEni
from .vpc.security import SecurityGroup

RULES, ROUTES = "ip rule show", "ip route show table all"
CONTROLLER = "aws-k8s-trunk-eni"  # what the VPC resource controller calls a trunk


class Site(Protocol):
    """What a node stands in: the cluster, as far as the node uses it."""

    settings: Settings
    connmark: str
    vpc: Vpc
    ec2: Ec2

    @property
    def world(self) -> World:
        """The clock and the dice."""

    def namespace(self, place: str) -> NetworkNamespace:
        """The namespace of a place."""

    def wire(self, lines: Iterable[str]) -> None:
        """Run lines that have to work."""

    def shows(self, place: str, command: str) -> str:
        """What a listing prints in a place."""

    def plug(self, place: str, interface: str, eni: Eni) -> None:
        """Let an ENI appear in a namespace."""

    def unplug(self, eni_id: str) -> None:
        """Let it disappear."""


def sandbox(pod: Pod) -> str:
    """The id of a pod's sandbox, 64 hexadecimal digits: the same on every run."""
    return sha256(pod.place.encode()).hexdigest()


class Machine:
    """A node. For its ipamd it is the host: it does to the kernel what ipamd asks for.

    ``time`` is the node's own, in seconds: what waits on one node holds up no other.
    """

    def __init__(
        self, cluster: Site, name: str, kind: InstanceType, *, interfaces: Sequence[str] = (),
        pods: int | None = None,
    ) -> None:  # fmt: skip
        self.name, self.kind, self.cluster, self._interfaces = name, kind, cluster, interfaces
        settings = cluster.settings
        self.max_pods = pods if pods is not None else max_pods(
            kind, prefixes=settings.prefix_delegation, custom_networking=settings.custom_networking,
            capped=settings.prefix_delegation,
        )  # fmt: skip
        self.time = cluster.world.clock
        self.expected: list[str] = []
        self.pinned = False  # whether the scenario says which ENIs and addresses it has
        self.trunk: Eni | None = None
        self.branches: dict[str, Eni] = {}  # by the place of the pod that has it
        # Where a new pod's ports begin: connections of one that had its address are still known.
        self.next_port = FIRST_PORT
        self.ipamd: Ipamd

    def interface(self, device: int) -> str:
        """What the node calls the ENI of a device index: eth1, unless the scenario names it."""
        return self._interfaces[device] if device < len(self._interfaces) else f"eth{device}"

    def now(self) -> float:
        """The node's time."""
        return self.time

    def shows(self, command: str) -> str:
        """What a listing prints on the node."""
        return self.cluster.shows(self.name, command)

    def start(self, primary: Eni, enis: Sequence[PinnedEni], eniconfig: EniConfig | None) -> None:
        """What happens once the system has booted: switches, init container, ipamd.

        ``enis`` pins what ipamd would otherwise ask EC2 for: then nothing more is asked for.
        """
        cluster, name = self.cluster, self.name
        switches = data_path("node-sysctls.conf").read_text(encoding="utf-8").splitlines()
        rows = (line.partition("#")[0].replace(" ", "") for line in switches)
        cluster.wire(f"{name}$ sysctl -w {row}" for row in rows if row)
        self._network(primary, cluster.settings)
        for one in sorted(enis, key=lambda each: each.device):
            self._pin(one, primary)
        self.pinned = bool(enis)
        self.ipamd = self._ipamd(cluster.settings, primary.instance, eniconfig)
        self.ipamd.start()
        cluster.wire(host.startup_rule_lines(name, (), self.shows(RULES), cluster.settings))
        if cluster.settings.enable_pod_eni:
            self._attach_trunk(primary)

    def restart(self, settings: Settings) -> None:
        """Start aws-node anew with other settings, ipamd from the checkpoint the last one left.

        The host's rules are written again; the pods' are as they were made.
        """
        old = self.ipamd
        primary = next(eni for eni in self.cluster.vpc.enis.values()
                       if (eni.instance, eni.device_index) == (old.instance, 0))  # fmt: skip
        self._network(primary, settings)
        self.ipamd = self._ipamd(settings, old.instance, old.eniconfig)
        self.ipamd.start(old.checkpoint())

    def _network(self, primary: Eni, settings: Settings) -> None:
        """What the init container and ipamd do to the host before the pool is looked at."""
        cluster, name, first = self.cluster, self.name, self.interface(0)
        cluster.wire(host.init_lines(name, first, settings))
        cluster.wire(host.host_lines(
            name, first, str(primary.primary), cluster.vpc.cidrs, settings,
            backend=cluster.connmark, rules=self.shows(RULES),
            nat=self.shows("iptables-save -t nat"), mangle=self.shows("iptables-save -t mangle"),
            nft=self.shows(f"nft list table {host.NFT}"),
        ))  # fmt: skip

    def _ipamd(self, settings: Settings, instance: str, eniconfig: EniConfig | None) -> Ipamd:
        """An ipamd to be started; it asks EC2 for nothing if the scenario pins its ENIs."""
        no_more = settings.disable_network_resource_provisioning or self.pinned
        return Ipamd(
            replace(settings, disable_network_resource_provisioning=no_more), self.cluster.ec2,
            instance, self.kind, host=self, clock=self.now, dice=self.cluster.world.random,
            max_pods=self.max_pods, eniconfig=eniconfig,
        )  # fmt: skip

    def _pin(self, pinned: PinnedEni, primary: Eni) -> None:
        """Give an ENI the addresses that a scenario pins, or attach one that has them."""
        ec2 = self.cluster.ec2
        if not pinned.device:
            ec2.assign_private_ip_addresses(primary.eni_id, addresses=pinned.secondary,
                                            prefixes=pinned.prefixes)  # fmt: skip
            return
        made = ec2.create_network_interface(
            self.cluster.vpc.subnets[pinned.subnet] if pinned.subnet else primary.subnet,
            primary.security_groups, private_ip=pinned.primary, secondary=pinned.secondary,
            prefixes=pinned.prefixes, description=f"aws-K8S-{primary.instance}",
        )  # fmt: skip
        ec2.attach_network_interface(made.eni_id, primary.instance, pinned.device)

    # Pods

    def connect(self, pod: Pod, groups: Sequence[SecurityGroup]) -> None:
        """Get a pod an address and wire it: from the pool, or with ``groups`` by a branch ENI.

        Raises NoAddress, in kubelet's words, and nothing is done; EkslearnError for a pinned
        address that the node hasn't got.
        """
        cluster, settings = self.cluster, self.cluster.settings
        host_end = self._veth(pod, bool(groups))
        host_mac, pod_mac = invented_mac(self.name, host_end), invented_mac(pod.place, INTERFACE)
        if groups:
            eni = self._branch(pod, groups)
            made = wiring.branch_pod_lines(
                self.name, pod.place, namespace=pod.namespace, pod=pod.name, ip=str(eni.primary),
                trunk=self.interface(self.trunk.device_index if self.trunk else 0),
                vlan_id=eni.vlan_id, eni_mac=eni.mac, gateway=str(eni.subnet.gateway),
                settings=settings, links=self.veths(), rules=self.shows(RULES), host_mac=host_mac,
                pod_mac=pod_mac,
            )  # fmt: skip
        else:
            if pod.ip:  # as after a restart of ipamd, whose checkpoint says who has what
                self.expected = [host_end]
                self.ipamd.restore({"version": CHECKPOINT_VERSION, "allocations": [{
                    "ipv4": str(pod.ip), "networkName": NETWORK, "containerID": sandbox(pod),
                    "ifName": INTERFACE,
                    "metadata": {"k8sPodNamespace": pod.namespace, "k8sPodName": pod.name},
                }]})  # fmt: skip
                self.expected = []
            given = self.ipamd.assign(pod.namespace, pod.name, sandbox(pod))
            if pod.ip not in (None, given.ip):
                raise EkslearnError(f"{pod.ip} is no free address of an ENI of {self.name}")
            made = wiring.pod_lines(
                self.name, pod.place, namespace=pod.namespace, pod=pod.name, ip=str(given.ip),
                table=given.table, settings=settings, host_mac=host_mac, pod_mac=pod_mac,
            )  # fmt: skip
        NetworkNamespace(cluster.world, pod.place).sockets.next_port = self.next_port
        cluster.wire([f"{pod.place}$ ip link set lo up", *made])

    def disconnect(self, pod: Pod) -> None:
        """Take a pod's wiring away; its address cools down, or its branch ENI goes.

        One on the node's own network has none, but what it listened on is free again.
        """
        if pod.host_network:
            ports = {port for each in pod.containers for port in each.ports}
            held = self.cluster.namespace(self.name).sockets.listeners
            held[:] = [one for one in held if (one.port, one.protocol) not in ports]
            return
        self.next_port = max(self.next_port, self.cluster.namespace(pod.place).sockets.next_port)
        rules, routes = self.shows(RULES), self.shows(ROUTES)
        branch = self.branches.pop(pod.place, None)
        if branch:
            gone = wiring.branch_pod_gone_lines(
                self.name, ip=str(branch.primary), vlan_id=branch.vlan_id, links=self.veths(),
                rules=rules, routes=routes,
            )  # fmt: skip
        else:
            had = self.ipamd.release(pod.namespace, pod.name, sandbox(pod))
            gone = wiring.pod_gone_lines(
                self.name, ip=str(had.ip), table=had.table, rules=rules, routes=routes
            )
        # With the pod's namespace its veth goes; a line can only take the veth.
        veth = f"{self.name}$ ip link del {self._veth(pod, branch is not None)}"
        self.cluster.wire([*gone, veth])
        if branch:
            branch.attachment_id = ""
            self.cluster.ec2.delete_network_interface(branch.eni_id)

    def _veth(self, pod: Pod, branch: bool) -> str:
        settings = self.cluster.settings
        prefix = names.veth_prefix(settings.veth_prefix, settings.enforcing_mode, branch=branch)
        return names.host_veth(pod.namespace, pod.name, prefix)

    # What the VPC resource controller does, outside the cluster (security groups for pods)

    def _attach_trunk(self, primary: Eni) -> None:
        """Attach a trunk ENI; ipamd finds it when it reconciles."""
        ec2 = self.cluster.ec2
        taken = {eni.device_index for eni in ec2.describe_network_interfaces(
            instance=primary.instance)}  # fmt: skip
        self.trunk = ec2.create_network_interface(
            primary.subnet, primary.security_groups, description=f"{CONTROLLER}-{self.name}"
        )
        self.trunk.interface_type = "trunk"
        free = next(device for device in range(1, 100) if device not in taken)
        ec2.attach_network_interface(self.trunk.eni_id, primary.instance, free)

    def _branch(self, pod: Pod, groups: Sequence[SecurityGroup]) -> Eni:
        """Create the pod's branch ENI and associate it with the trunk."""
        if self.trunk is None:
            raise EkslearnError(f"{pod.place} has security groups, and {self.name} has no trunk"
                                " ENI; set ENABLE_POD_ENI")  # fmt: skip
        if self.interface(self.trunk.device_index) not in self.veths():  # ipamd hasn't seen it yet
            raise NoAddress(SANDBOX_FAILED.format(sandbox(pod)))
        eni = self.cluster.ec2.create_network_interface(
            self.trunk.subnet, groups, description=f"aws-k8s-branch-eni-{pod.place}",
            private_ip=pod.ip,
        )  # fmt: skip
        used = {each.vlan_id for each in self.branches.values()}
        eni.interface_type, eni.trunk = "branch", self.trunk
        eni.vlan_id = next(number for number in range(1, 4095) if number not in used)
        eni.attachment_id = f"trunk-assoc-{eni.eni_id.partition('-')[2]}"
        self.branches[pod.place] = eni
        return eni

    # What ipamd asks of its host

    def wait(self, seconds: float) -> None:
        """Something takes so long."""
        self.time += seconds

    def attached(self, eni: Eni, device: int, table: int) -> None:
        """An ENI is to be set up: plugged in, if it has only just appeared, and wired."""
        cluster, interface = self.cluster, self.interface(device)
        if interface not in self.veths():
            cluster.plug(self.name, interface, eni)
        link = cluster.namespace(self.name).links[interface]
        cluster.wire(host.eni_lines(
            self.name, interface, primary_ip=str(eni.primary), subnet=str(eni.subnet.cidr),
            table=table, mtu=cluster.settings.eni_mtu, trunk=eni.interface_type == "trunk",
            addresses=[str(each.interface) for each in link.addresses],
            routes=self.shows(ROUTES), rules=self.shows(RULES),
        ))  # fmt: skip

    def detached(self, eni: Eni) -> None:
        """An ENI has gone."""
        self.cluster.unplug(eni.eni_id)

    def veths(self) -> set[str]:
        """The names of the links there are, and of those that pinned pods are about to have."""
        return {*self.cluster.namespace(self.name).links, *self.expected}

    def delete_rules_by_source(self, ip: str) -> None:
        """Delete the rules of an ENI that is given up."""
        self.cluster.wire(host.eni_gone_lines(self.name, ip, self.shows(RULES)))

    def forget_pod(self, ip: str) -> None:
        """Delete the rules of a pod that is gone."""
        self.cluster.wire(wiring.pod_gone_lines(
            self.name, ip=ip, table=names.MAIN, rules=self.shows(RULES), routes=self.shows(ROUTES)
        ))  # fmt: skip
