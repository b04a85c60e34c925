"""EC2's API, as far as the VPC CNI calls it: one method for each action, with EC2's own errors.

Source: Amazon EC2 API reference and "Error codes for the Amazon EC2 API". Every call is recorded
with the time it takes; the clock is the caller's, and so is waiting for an answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Concatenate, ParamSpec, TypeVar

from ..errors import EkslearnError
from ..linux.link import invented_mac
from .error import Ec2Error, aws_id, ec2_refuses
from .instance import InstanceType, instance_type
from .model import Eni, Private, Vpc
from .security import SecurityGroup
from .subnet import BLOCK, Subnet

# Seconds a call takes. AWS publishes none: the model's own, of the size that CNI logs show.
LATENCY: Mapping[str, float] = {
    "RunInstances": 2.0, "CreateNetworkInterface": 0.6, "AttachNetworkInterface": 1.2,
    "DetachNetworkInterface": 0.5, "AssignPrivateIpAddresses": 0.4,
    "UnassignPrivateIpAddresses": 0.4, "DeleteNetworkInterface": 0.3,
}  # fmt: skip
USUAL_LATENCY = 0.15
OTHER_ZONE = (
    "You may not attach a network interface to an instance if they are not in the same"
    " availability zone"
)


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: how many calls it holds, and how many a second come back."""

    size: float
    refill: float


# "Request throttling for the Amazon EC2 API": Describe* and the rest; a bucket for each action.
READING, CHANGING = Rate(100, 20), Rate(50, 5)


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the action, what was asked, when it began, its seconds and its error's code."""

    name: str
    parameters: Mapping[str, Any]
    started: float
    took_s: float
    error: str = ""


@dataclass(slots=True, kw_only=True, eq=False)
class Instance:
    """An EC2 instance; ``enis`` are those attached, which is what its metadata service lists."""

    instance_id: str
    name: str
    kind: InstanceType
    zone: str
    enis: list[Eni] = field(default_factory=list)


P = ParamSpec("P")
R = TypeVar("R")


def _action(method: Callable[Concatenate[Ec2, P], R]) -> Callable[Concatenate[Ec2, P], R]:
    """Make a method an API action: throttled, and recorded whether it succeeds or not."""
    name = "".join(word.capitalize() for word in method.__name__.split("_"))
    signature = inspect.signature(method)

    @wraps(method)
    def call(self: Ec2, /, *args: P.args, **kwargs: P.kwargs) -> R:
        asked = dict(list(signature.bind(self, *args, **kwargs).arguments.items())[1:])
        started, error = self.clock(), ""
        try:
            self.admit(name)
            return method(self, *args, **kwargs)
        except Ec2Error as refusal:
            error = refusal.code
            raise
        finally:
            took = self.latency.get(name, USUAL_LATENCY)
            self.calls.append(Call(name, asked, started, took, error))

    return call


class Ec2:
    """The EC2 of one account in one Region, with one VPC.

    ``clock`` tells the seconds; a call doesn't move it: who calls waits for ``calls[-1].took_s``.
    ``latency`` overrides what single actions take. ``rates`` gives actions their token buckets
    (None: nothing is throttled); a bucket is the account's, so all nodes share it. What is
    returned is EC2's own record, not a copy.
    """

    def __init__(
        self, vpc: Vpc, *, clock: Callable[[], float], latency: Mapping[str, float] | None = None,
        rates: Mapping[str, Rate] | None = None, throttled: bool = False,
    ) -> None:  # fmt: skip
        self.vpc = vpc
        self.clock = clock
        self.latency = {**LATENCY, **(latency or {})}
        self.rates = dict(rates or {})
        self.throttled = throttled or bool(rates)
        self.calls: list[Call] = []
        self.instances: dict[str, Instance] = {}
        self._tokens: dict[str, tuple[float, float]] = {}  # what a bucket held, and when
        self._made: dict[str, int] = {}  # ENIs created, by description

    def admit(self, name: str) -> None:
        """Take a token for a call; Ec2Error RequestLimitExceeded if the bucket is empty."""
        if not self.throttled:
            return
        rate = self.rates.get(name, READING if name.startswith("Describe") else CHANGING)
        now = self.clock()
        held, since = self._tokens.get(name, (rate.size, now))
        held = min(rate.size, held + (now - since) * rate.refill)
        self._tokens[name] = (held - 1 if held >= 1 else held, now)
        ec2_refuses(held < 1, "RequestLimitExceeded", "Request limit exceeded.")

    # Reading

    @_action
    def describe_subnets(self, *, zone: str = "") -> list[Subnet]:
        """The VPC's subnets, or those of one zone."""
        return [each for each in self.vpc.subnets.values() if zone in ("", each.zone)]

    @_action
    def describe_instances(self, instance: str) -> Instance:
        """One instance; Ec2Error InvalidInstanceID.NotFound."""
        return self._instance(instance)

    @_action
    def describe_instance_types(self, name: str) -> InstanceType:
        """One instance type; Ec2Error InvalidInstanceType."""
        return _kind(name, "InvalidInstanceType",
                     f"The following supplied instance types do not exist: [{name}]")  # fmt: skip

    @_action
    def describe_network_interfaces(
        self, eni_ids: Iterable[str] | None = None, *, instance: str | None = None
    ) -> list[Eni]:
        """ENIs by id, or those attached to an instance; InvalidNetworkInterfaceID.NotFound."""
        if eni_ids is not None:
            return [self._eni(eni_id) for eni_id in eni_ids]
        enis = self.vpc.enis.values()
        return [eni for eni in enis if instance is None or eni.instance == instance]

    # Changing

    @_action
    def run_instances(
        self, name: str, kind: InstanceType | str, subnet: Subnet, *,
        private_ip: IPv4Address | None = None, groups: Sequence[SecurityGroup] = (),
    ) -> Eni:  # fmt: skip
        """Launch an instance; its primary ENI. A subnet with a route to igw gives it a public IP.

        Raises Ec2Error: InvalidParameterValue for an unknown type, and whatever an address can
        cause.
        """
        if isinstance(kind, str):
            kind = _kind(kind, "InvalidParameterValue",
                         f"Invalid value '{kind}' for InstanceType.")  # fmt: skip
        made = Instance(instance_id=aws_id("i", self.vpc.name, name), name=name, kind=kind,
                        zone=subnet.zone)  # fmt: skip
        eni = self._create(aws_id("eni", self.vpc.name, name), subnet, groups, private_ip)
        eni.delete_on_termination = True
        self.instances[made.instance_id] = made
        self._attach(eni, made, 0, 0)
        if subnet.table.leads_to("igw"):
            self.vpc.give_public(eni)
        return eni

    @_action
    def create_network_interface(
        self, subnet: Subnet, groups: Sequence[SecurityGroup] = (), *,
        private_ip: IPv4Address | None = None, secondary_count: int = 0, prefix_count: int = 0,
        secondary: Sequence[IPv4Address] = (), prefixes: Sequence[IPv4Network] = (),
        description: str = "", tags: Mapping[str, str] | None = None,
    ) -> Eni:  # fmt: skip
        """Create an ENI with all its addresses, or none of it.

        Where fewer addresses are free than the prefixes need, EC2 says InvalidParameterValue and
        not InsufficientCidrBlocks (amazon-vpc-cni-k8s issue 3105, cilium pull request 31016).
        """
        full = prefix_count and subnet.free < BLOCK * prefix_count + 1
        said = "There aren't sufficient free Ipv4 addresses or prefixes"
        ec2_refuses(full, "InvalidParameterValue", said)
        number = self._made[description] = self._made.get(description, 0) + 1
        eni_id = aws_id("eni", self.vpc.name, description, str(number))
        eni = self._create(eni_id, subnet, groups, private_ip)
        eni.description, eni.tags = description, dict(tags or {})
        try:
            self._assign(eni, secondary_count, prefix_count, secondary, prefixes)
        except Ec2Error:
            self.vpc.remove_eni(eni)
            raise
        return eni

    @_action
    def attach_network_interface(
        self, eni_id: str, instance: str, device_index: int, network_card: int = 0
    ) -> str:
        """Attach an ENI; the attachment's id.

        Raises Ec2Error: AttachmentLimitExceeded; InvalidNetworkInterface.InUse;
        InvalidParameterValue for a device index in use; InvalidParameterCombination for another
        zone. That more addresses than the type carries are refused here is not published.
        """
        eni, machine = self._eni(eni_id), self._instance(instance)
        kind = machine.kind
        said = f"Interface: [{eni_id}] in use."
        ec2_refuses(eni.attached, "InvalidNetworkInterface.InUse", said)
        ec2_refuses(eni.subnet.zone != machine.zone, "InvalidParameterCombination", OTHER_ZONE)
        limits = (kind.enis, *kind.network_cards[1:])
        said = f"Invalid value '{network_card}' for networkCardIndex on {kind.name}"
        ec2_refuses(not 0 <= network_card < len(limits), "InvalidParameterValue", said)
        there = [each for each in machine.enis if each.network_card == network_card]
        said = (f"Instance '{instance}' already has an interface attached at device index"
                f" '{device_index}'.")  # fmt: skip
        used = any(each.device_index == device_index for each in there)
        ec2_refuses(used, "InvalidParameterValue", said)
        said = f"Interface count {len(machine.enis) + 1} exceeds the limit for {kind.name}"
        ec2_refuses(len(there) >= limits[network_card], "AttachmentLimitExceeded", said)
        self._check_slots(kind, eni.slots_used, bool(eni.prefixes))
        return self._attach(eni, machine, device_index, network_card)

    @_action
    def modify_network_interface_attribute(
        self, eni_id: str, *, delete_on_termination: bool | None = None,
        source_dest_check: bool | None = None, groups: Sequence[SecurityGroup] | None = None,
    ) -> None:  # fmt: skip
        """Change what is named of an ENI."""
        eni = self._eni(eni_id)
        if delete_on_termination is not None:
            eni.delete_on_termination = delete_on_termination
        if source_dest_check is not None:
            eni.source_dest_check = source_dest_check
        if groups is not None:
            eni.security_groups = list(groups)

    @_action
    def assign_private_ip_addresses(
        self, eni_id: str, *, count: int = 0, prefix_count: int = 0,
        addresses: Sequence[IPv4Address] = (), prefixes: Sequence[IPv4Network] = (),
    ) -> list[Private]:  # fmt: skip
        """Give an ENI more addresses or prefixes, all of them or none.

        Raises Ec2Error: PrivateIpAddressLimitExceeded, InsufficientFreeAddressesInSubnet,
        InsufficientCidrBlocks, InvalidParameterValue, InvalidIPAddress.InUse.
        """
        return self._assign(self._eni(eni_id), count, prefix_count, addresses, prefixes)

    @_action
    def unassign_private_ip_addresses(
        self, eni_id: str, addresses: Iterable[IPv4Address] = (),
        prefixes: Iterable[IPv4Network] = (),
    ) -> None:  # fmt: skip
        """Take addresses or prefixes from an ENI, all of them or none."""
        eni = self._eni(eni_id)
        wanted: dict[Private, None] = dict.fromkeys([*addresses, *prefixes])
        said = "The primary IP address of an interface cannot be unassigned"
        ec2_refuses(eni.primary in wanted, "InvalidParameterValue", said)
        strange = wanted.keys() - {*eni.secondary, *eni.prefixes}
        said = f"Some of the specified addresses are not assigned to interface {eni_id}"
        ec2_refuses(strange, "InvalidParameterValue", said)
        for what in wanted:
            self.vpc.release(eni, what)

    @_action
    def detach_network_interface(self, attachment_id: str) -> None:
        """Detach an ENI; InvalidAttachmentID.NotFound, OperationNotPermitted for device 0."""
        held = {eni.attachment_id: eni for eni in self.vpc.enis.values() if eni.attached}
        said = f"The attachment ID '{attachment_id}' does not exist"
        ec2_refuses(attachment_id not in held, "InvalidAttachmentID.NotFound", said)
        eni = held[attachment_id]
        said = "The network interface at device index 0 cannot be detached."
        primary = eni.device_index == eni.network_card == 0
        ec2_refuses(primary, "OperationNotPermitted", said)
        self._instance(eni.instance).enis.remove(eni)
        eni.instance, eni.attachment_id, eni.device_index, eni.network_card = "", "", 0, 0

    @_action
    def delete_network_interface(self, eni_id: str) -> None:
        """Delete an ENI that nothing holds; InvalidParameterValue if something does."""
        eni = self._eni(eni_id)
        said = f"Network interface '{eni_id}' is currently in use."
        ec2_refuses(eni.attached, "InvalidParameterValue", said)
        self.vpc.remove_eni(eni)

    @_action
    def create_tags(self, eni_id: str, tags: Mapping[str, str]) -> None:
        """Add tags to an ENI, or give them new values."""
        self._eni(eni_id).tags.update(tags)

    # What the actions share

    def _eni(self, eni_id: str) -> Eni:
        said = f"The networkInterface ID '{eni_id}' does not exist"
        ec2_refuses(eni_id not in self.vpc.enis, "InvalidNetworkInterfaceID.NotFound", said)
        return self.vpc.enis[eni_id]

    def _instance(self, instance_id: str) -> Instance:
        said = f"The instance ID '{instance_id}' does not exist"
        ec2_refuses(instance_id not in self.instances, "InvalidInstanceID.NotFound", said)
        return self.instances[instance_id]

    def _create(self, eni_id: str, subnet: Subnet, groups: Sequence[SecurityGroup],
                private_ip: IPv4Address | None) -> Eni:  # fmt: skip
        primary = subnet.take(private_ip)
        return self.vpc.add_eni(Eni(
            eni_id=eni_id, subnet=subnet, mac=invented_mac(eni_id), primary=primary,
            security_groups=list(groups),
        ))  # fmt: skip

    @staticmethod
    def _attach(eni: Eni, machine: Instance, device_index: int, network_card: int) -> str:
        eni.instance, eni.device_index, eni.network_card = (
            machine.instance_id, device_index, network_card)  # fmt: skip
        eni.attachment_id = aws_id("eni-attach", machine.instance_id, eni.eni_id)
        machine.enis.append(eni)
        return eni.attachment_id

    @staticmethod
    def _check_slots(kind: InstanceType, slots: int, prefixes: bool) -> None:
        said = f"{kind.name} can't have prefixes: it isn't built on the Nitro System"
        unfit = prefixes and not kind.prefix_delegation  # code and sentence are the model's own
        ec2_refuses(unfit, "InvalidParameterCombination", said)
        said = "Number of private addresses will exceed limit."
        ec2_refuses(slots > kind.ipv4_per_eni, "PrivateIpAddressLimitExceeded", said)

    def _assign(
        self, eni: Eni, count: int, prefix_count: int, addresses: Sequence[IPv4Address],
        prefixes: Sequence[IPv4Network],
    ) -> list[Private]:  # fmt: skip
        both = (count and addresses) or (prefix_count and prefixes)
        said = "Name addresses or ask for a number of them, not both"  # the sentence is ours
        ec2_refuses(both, "InvalidParameterCombination", said)
        more = count + prefix_count + len(addresses) + len(prefixes)
        if eni.attached:
            kind = self._instance(eni.instance).kind
            self._check_slots(kind, eni.slots_used + more, bool(prefix_count or prefixes))
        taken: list[Private] = []
        try:
            for address in (*addresses, *[None] * count):
                taken.append(eni.subnet.take(address))
            for prefix in (*prefixes, *[None] * prefix_count):
                taken.append(eni.subnet.take_prefix(prefix))
        except Ec2Error:
            for what in taken:
                eni.subnet.give_back(what)
            raise
        for what in taken:
            self.vpc.assign(eni, what)
        return taken


def _kind(name: str, code: str, said: str) -> InstanceType:
    try:
        return instance_type(name)
    except EkslearnError as error:
        raise Ec2Error(code, said) from error
