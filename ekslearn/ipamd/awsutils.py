"""ipamd's side of EC2 and of the instance metadata service: calls, back-off, waiting.

Source: pkg/awsutils/awsutils.go and awssession/session.go of amazon-vpc-cni-k8s v1.23.1; back-off
of a throttled call: aws-sdk-go-v2, aws/retry (standard retryer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network
from random import Random
from typing import Any, ParamSpec, TypeVar

from ekslearn.errors import EkslearnError
from ekslearn.vpc.ec2 import Call, Ec2
from ekslearn.vpc.error import Ec2Error
from ekslearn.vpc.model import Eni
from ekslearn.vpc.subnet import Subnet

from ..cni.settings import Settings
from .datastore import rfc3339
from .pool import CREATED_TAG, EniConfig, eni_tags, subnet_excluded, subnet_usable

SDK_ATTEMPTS, SDK_MAX_BACKOFF_S = 10, 20.0  # session.go maxRetries; retry.DefaultMaxBackoff
TRIES, MAX_BACKOFF_S = 12, 60.0  # maxENIEC2APIRetries, maxENIBackoffDelay
DETACH_PAUSE_S = 2.0  # "it does take awhile for EC2 to detach"
DEVICES = 100  # maxENIs: device numbers looked through for a free one

P = ParamSpec("P")
R = TypeVar("R")


class NotDetached(EkslearnError):
    """EC2 knows no attachment of an ENI, or doesn't detach it."""


class AwsClient:
    """What ipamd asks of AWS for one instance. It waits by ``wait`` as long as an answer takes.

    ``primary`` is the ENI the instance was launched with; ``calls`` are the API calls so far.
    """

    def __init__(
        self, ec2: Ec2, instance: str, settings: Settings, *, clock: Callable[[], float],
        dice: Random, wait: Callable[[float], None],
    ) -> None:  # fmt: skip
        self.ec2, self.instance, self.settings = ec2, instance, settings
        self._clock, self._dice, self._wait = clock, dice, wait
        self._machine = ec2.instances[instance]
        self._most = self._machine.kind.ipv4_per_eni - 1  # GetENIIPv4Limit
        self.primary = self._machine.enis[0]
        self.calls: list[Call] = []

    def call(self, action: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Make an API call; one that is throttled is made again, up to ten times."""
        for attempt in range(1, SDK_ATTEMPTS + 1):
            try:
                return action(*args, **kwargs)
            except Ec2Error as error:
                if error.code != "RequestLimitExceeded" or attempt == SDK_ATTEMPTS:
                    raise
            finally:
                self.calls.append(self.ec2.calls[-1])
                self._wait(self.calls[-1].took_s)
            few = 2**attempt <= SDK_MAX_BACKOFF_S
            self._wait(self._dice.random() * 2**attempt if few else SDK_MAX_BACKOFF_S)
        raise AssertionError  # not reached: the last attempt returns or raises

    def again(
        self, action: Callable[[], R], first_s: float, jitter: float, *, tries: int = TRIES,
        growth: int = 2,
    ) -> R:  # fmt: skip
        """Try again after a pause, which grows and has a little jitter on top (NWithBackoff)."""
        for attempt in range(tries - 1):
            try:
                return action()
            except EkslearnError:
                pause = min(first_s * growth**attempt, MAX_BACKOFF_S)
                self._wait(pause * (1 + jitter * self._dice.random()))
        return action()

    def metadata(self) -> list[Eni]:
        """The ENIs that the instance metadata service lists. It costs no API call.

        The real one lags behind EC2 by seconds; this one doesn't.
        """
        return list(self._machine.enis)

    def describe(self, eni_ids: Iterable[str]) -> list[Eni]:
        """What EC2 knows of ENIs."""
        return self.call(self.ec2.describe_network_interfaces, list(eni_ids))

    def excluded(self, eni: Eni) -> bool:
        """IsSubnetExcluded: whether the tags of its subnet, in this zone, take an ENI out."""
        tags = next((each.tags for each in self._subnets() if each is eni.subnet), None)
        return subnet_excluded(tags, self.settings.cluster_name)

    def tags(self) -> dict[str, str]:
        """What every managed ENI is tagged with."""
        additional = self.settings.additional_eni_tags or {}
        return eni_tags(self.instance, self.settings.cluster_name, additional)

    def tag(self, eni: Eni) -> None:
        """TagENI: add the tags an ENI lacks."""
        lacking = {key: value for key, value in self.tags().items() if eni.tags.get(key) != value}
        if lacking:
            tag = self.ec2.create_tags
            self.again(lambda: self.call(tag, eni.eni_id, lacking), 0.5, 0.3, tries=5)

    def alloc_eni(self, config: EniConfig | None, count: int) -> str:
        """AllocENI: create an ENI with ``count`` addresses or prefixes and attach it; its id.

        ``config`` is given with custom networking. Raises EkslearnError; what was made in vain is
        deleted.
        """
        eni_id = self._create(config, count).eni_id
        try:
            machine = self.call(self.ec2.describe_instances, self.instance)
            used = {eni.device_index for eni in machine.enis if eni.network_card == 0}
            free = next((number for number in range(DEVICES) if number not in used), None)
            if free is None:
                raise EkslearnError("awsGetFreeDeviceNumber: no available device number")
            self.call(self.ec2.attach_network_interface, eni_id, self.instance, free)
        except EkslearnError:
            self._delete(eni_id)
            raise
        modify = self.ec2.modify_network_interface_attribute
        try:
            self.call(modify, eni_id, delete_on_termination=True)
        except EkslearnError:
            self.free_eni(eni_id)
            raise
        return eni_id

    def _create(self, config: EniConfig | None, count: int) -> Eni:
        """createENI: in the ENIConfig's subnet, or where the tags allow it, the emptiest first."""
        vpc, own, cluster = self.ec2.vpc, self.primary.subnet, self.settings.cluster_name
        subnets, groups = [own], self.primary.security_groups
        if config:
            subnets = [subnet for subnet in vpc.subnets.values()
                       if config.subnet in (subnet.name, subnet.subnet_id)]  # fmt: skip
            groups = [vpc.security_groups[name] for name in config.security_groups] or groups
        elif self.settings.subnet_discovery:
            subnets = [
                subnet
                for subnet in self._subnets()
                if subnet_usable(subnet.tags, primary=subnet is own, cluster=cluster)
            ]
        elif self.excluded(self.primary):
            subnets = []
        if not subnets:
            raise EkslearnError("no valid subnets available for ENI creation")
        tags = {CREATED_TAG: rfc3339(int(self._clock()))} | self.tags()
        kind = "prefix_count" if self.settings.prefix_delegation else "secondary_count"
        ask: Any = {kind: min(count, self._most), "tags": tags}
        ask["description"] = f"aws-K8S-{self.instance}"
        for subnet in sorted(subnets, key=lambda subnet: -subnet.free):
            try:
                return self.call(self.ec2.create_network_interface, subnet, groups, **ask)
            except Ec2Error as error:
                refusal = error
        raise refusal

    def _subnets(self) -> list[Subnet]:
        return self.call(self.ec2.describe_subnets, zone=self._machine.zone)

    def wait_attached(self, eni_id: str, count: int) -> Eni:
        """WaitForENIAndIPsAttached: until the metadata service shows an ENI and its addresses.

        After twelve tries fewer are taken too: one address, or (as the code has it) two prefixes.
        """

        def look(enough: int) -> Eni:
            for eni in self.metadata():
                cidrs = eni.prefixes if self.settings.prefix_delegation else eni.secondary
                if eni.eni_id == eni_id and len(cidrs) >= max(enough, 1):
                    return eni
            raise EkslearnError("waitForENIAndIPsAttached: giving up trying to retrieve ENIs"
                                " from metadata service")  # fmt: skip

        try:
            return self.again(lambda: look(count), 0.1, 0.15)
        except EkslearnError:
            return look(2 if self.settings.prefix_delegation else 1)

    def alloc_addresses(self, eni_id: str, count: int) -> list[IPv4Network]:
        """AllocIPAddresses: ``count`` more addresses or prefixes, at most an ENI's; none for 0."""
        if count < 1:
            return []
        kind = "prefix_count" if self.settings.prefix_delegation else "count"
        ask: Any = {kind: min(count, self._most)}
        got = self.call(self.ec2.assign_private_ip_addresses, eni_id, **ask)
        return [IPv4Network(each) for each in got]

    def dealloc(self, eni_id: str, cidrs: Iterable[IPv4Network]) -> None:
        """DeallocCidrs: give prefixes back, then addresses; an empty list makes no call."""
        cidrs, give = list(cidrs), self.ec2.unassign_private_ip_addresses
        if prefixes := [cidr for cidr in cidrs if cidr.prefixlen < 32]:
            self.call(give, eni_id, prefixes=prefixes)
        if addresses := [cidr[0] for cidr in cidrs if cidr.prefixlen == 32]:
            self.call(give, eni_id, addresses=addresses)

    def free_eni(self, eni_id: str) -> None:
        """FreeENI: detach an ENI, wait, delete it. Raises NotDetached if it stays attached."""
        detach = self.ec2.detach_network_interface
        try:
            attachment = self.describe([eni_id])[0].attachment_id
        except Ec2Error as error:
            if _gone(error):
                return
            raise
        if not attachment:
            raise NotDetached("failed to get ENI's attachment id")
        try:
            self.again(lambda: self.call(detach, attachment), 0.2, 0.15)
        except Ec2Error as error:
            raise NotDetached("unable to detach ENI from EC2 instance, giving up") from error
        self._wait(DETACH_PAUSE_S)
        self._delete(eni_id)

    def _delete(self, eni_id: str) -> None:
        def delete() -> None:
            try:
                self.call(self.ec2.delete_network_interface, eni_id)
            except Ec2Error as error:
                if not _gone(error):
                    raise

        self.again(delete, 0.5, 0.15)


def _gone(error: Ec2Error) -> bool:
    return error.code == "InvalidNetworkInterfaceID.NotFound"
