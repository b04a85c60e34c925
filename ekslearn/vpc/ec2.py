"""EC2's API, as far as the VPC CNI calls it: one method for each action, with EC2's own errors.

Source: Amazon EC2 API reference and "Error codes for the Amazon EC2 API"; data/ec2_errors.csv has
the sentences. Every call is recorded with the time it takes; the clock is the caller's, and so is
waiting for an answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from .error import Ec2Error, aws_id, ec2_refuses
from .instance import InstanceType, instance_type, instance_types
from .model import Eni, Vpc
from .security import SecurityGroup
from .subnet import BLOCK, Private, Subnet

# Seconds a call takes. AWS publishes none: the model's own, of the size that CNI logs show.
LATENCY: Mapping[str, float] = {
    "RunInstances": 2.0, "CreateNetworkInterface": 0.6, "AttachNetworkInterface": 1.2,
    "DetachNetworkInterface": 0.5, "AssignPrivateIpAddresses": 0.4,
    "UnassignPrivateIpAddresses": 0.4, "DeleteNetworkInterface": 0.3,
}  # fmt: skip
USUAL_LATENCY = 0.15


class Rate(NamedTuple):
    """A token bucket, one for each action: how many calls it holds, how many a second come back."""

    size: float
    refill: float


# "Request throttling for the Amazon EC2 API", the general rates: Describe*, and what changes.
READING, CHANGING = Rate(100, 20), Rate(50, 5)


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the action, what was asked, when it began, its seconds and its error's code."""

    name: str
    parameters: Mapping[str, Any]
    started: float
    took_s: float
    error: str = ""


@dataclass(slots=True, eq=False)
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
    ``latency`` overrides what single actions take. ``rates`` gives single actions another token
    bucket than READING or CHANGING; without it, not even {}, nothing is throttled. A bucket is
    the account's: all nodes share it. What is returned is EC2's own record, no copy.
    """

    def __init__(
        self, vpc: Vpc, *, clock: Callable[[], float], latency: Mapping[str, float] | None = None,
        rates: Mapping[str, Rate] | None = None,
    ) -> None:  # fmt: skip
        self.vpc = vpc
        self.clock = clock
        self.latency = {**LATENCY, **(latency or {})}
        self.rates = rates
        self.calls: list[Call] = []
        self.instances: dict[str, Instance] = {}
        self._tokens: dict[str, tuple[float, float]] = {}  # what a bucket held, and when
        self._made: dict[str, int] = {}  # ENIs created, by description

    def admit(self, name: str) -> None:
        """Take a token for a call; Ec2Error RequestLimitExceeded if the bucket is empty."""
        if self.rates is None:
            return
        size, refill = self.rates.get(name, READING if name.startswith("Describe") else CHANGING)
        now = self.clock()
        held, since = self._tokens.get(name, (size, now))
        held = min(size, held + (now - since) * refill)
        self._tokens[name] = (held - (held >= 1), now)
        ec2_refuses(held < 1, "throttled")

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
        ec2_refuses(name not in instance_types(), "no type", name)
        return instance_type(name)

    @_action
    def describe_network_interfaces(
        self, eni_ids: Iterable[str] | None = None, *, instance: str | None = None
    ) -> list[Eni]:
        """ENIs by id, or those attached to an instance; InvalidNetworkInterfaceID.NotFound."""
        if eni_ids is not None:
            return [self._eni(eni_id) for eni_id in eni_ids]
        return list(self._instance(instance).enis if instance else self.vpc.enis.values())

    # Changing

    @_action
    def run_instances(
        self, name: str, kind: InstanceType, subnet: Subnet, *,
        private_ip: IPv4Address | None = None, groups: Sequence[SecurityGroup] = (),
    ) -> Eni:  # fmt: skip
        """Launch an instance; its primary ENI. A subnet with a route to igw gives it a public IP.

        Raises Ec2Error, whatever an address can cause.
        """
        made = Instance(aws_id("i", self.vpc.name, name), name, kind, subnet.zone)
        eni = self.vpc.add_eni(aws_id("eni", self.vpc.name, name), subnet, groups, private_ip)
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
        ec2_refuses(prefix_count and subnet.free < BLOCK * prefix_count + 1, "too few")
        number = self._made[description] = self._made.get(description, 0) + 1
        eni_id = aws_id("eni", self.vpc.name, description, str(number))
        eni = self.vpc.add_eni(eni_id, subnet, groups, private_ip)
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
        ec2_refuses(eni.attached, "eni attached", eni_id)
        ec2_refuses(eni.subnet.zone != machine.zone, "other zone")
        limits = (kind.enis, *kind.network_cards[1:])
        ec2_refuses(not 0 <= network_card < len(limits), "no card", network_card, kind.name)
        there = [each for each in machine.enis if each.network_card == network_card]
        used = [each.device_index for each in there]
        ec2_refuses(device_index in used, "index used", instance, device_index)
        full = len(there) >= limits[network_card]
        ec2_refuses(full, "eni limit", len(machine.enis) + 1, kind.name)
        self._check_slots(kind, eni.slots_used, bool(eni.prefixes))
        return self._attach(eni, machine, device_index, network_card)

    @_action
    def modify_network_interface_attribute(
        self, eni_id: str, *, delete_on_termination: bool | None = None,
        source_dest_check: bool | None = None, groups: Sequence[SecurityGroup] | None = None,
    ) -> None:  # fmt: skip
        """Change what is named of an ENI."""
        named = {"delete_on_termination": delete_on_termination,
                 "source_dest_check": source_dest_check,
                 "security_groups": None if groups is None else list(groups)}  # fmt: skip
        for attribute, value in named.items():
            if value is not None:
                setattr(self._eni(eni_id), attribute, value)

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
        ec2_refuses(eni.primary in wanted, "primary stays")
        strange = wanted.keys() - {*eni.secondary, *eni.prefixes}
        ec2_refuses(strange, "not assigned", eni_id)
        for what in wanted:
            self.vpc.release(eni, what)

    @_action
    def detach_network_interface(self, attachment_id: str) -> None:
        """Detach an ENI; InvalidAttachmentID.NotFound, OperationNotPermitted for device 0."""
        held = {eni.attachment_id: eni for eni in self.vpc.enis.values() if eni.attached}
        ec2_refuses(attachment_id not in held, "no attachment", attachment_id)
        eni = held[attachment_id]
        ec2_refuses(eni.device_index == eni.network_card == 0, "device 0")
        self._instance(eni.instance).enis.remove(eni)
        eni.instance, eni.attachment_id, eni.device_index, eni.network_card = "", "", 0, 0

    @_action
    def delete_network_interface(self, eni_id: str) -> None:
        """Delete an ENI that nothing holds; InvalidParameterValue if something does."""
        eni = self._eni(eni_id)
        ec2_refuses(eni.attached, "eni in use", eni_id)
        self.vpc.remove_eni(eni)

    @_action
    def create_tags(self, eni_id: str, tags: Mapping[str, str]) -> None:
        """Add tags to an ENI, or give them new values."""
        self._eni(eni_id).tags.update(tags)

    # What the actions share

    def _eni(self, eni_id: str) -> Eni:
        ec2_refuses(eni_id not in self.vpc.enis, "no eni", eni_id)
        return self.vpc.enis[eni_id]

    def _instance(self, instance_id: str) -> Instance:
        ec2_refuses(instance_id not in self.instances, "no instance", instance_id)
        return self.instances[instance_id]

    @staticmethod
    def _attach(eni: Eni, machine: Instance, device_index: int, network_card: int) -> str:
        eni.instance, eni.device_index, eni.network_card = (
            machine.instance_id, device_index, network_card)  # fmt: skip
        eni.attachment_id = aws_id("eni-attach", machine.instance_id, eni.eni_id)
        machine.enis.append(eni)
        return eni.attachment_id

    @staticmethod
    def _check_slots(kind: InstanceType, slots: int, prefixes: bool) -> None:
        ec2_refuses(prefixes and not kind.prefix_delegation, "no prefixes", kind.name)
        ec2_refuses(slots > kind.ipv4_per_eni, "address limit")

    def _assign(
        self, eni: Eni, count: int, prefix_count: int, addresses: Sequence[IPv4Address],
        prefixes: Sequence[IPv4Network],
    ) -> list[Private]:  # fmt: skip
        ec2_refuses((count and addresses) or (prefix_count and prefixes), "both")
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
