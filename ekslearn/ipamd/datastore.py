"""ipamd's store: the addresses a node has, and the pods that have them.

It is ipamd's opinion, no more: EC2 knows what is really on each ENI, the kernel what is really
wired. Behaviour, names and the wording of errors follow pkg/ipamd/datastore/data_store.go of
amazon-vpc-cni-k8s v1.23.1. Where Go walks a map, whose order is random, the dice given decide.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from random import Random
from typing import Any, NamedTuple, TypeVar

from ekslearn.errors import EkslearnError

from ..cni import names

MIN_ENI_AGE_S = 60  # minENILifeTime
IPS_PER_PREFIX, PREFIX_LENGTH, PREFIXES_AT_A_TIME = 16, 28, 1  # GetPrefixDelegationDefaults
CHECKPOINT_VERSION = "vpc-cni-ipam/1"
KEY_NAMES = ("networkName", "containerID", "ifName")


T = TypeVar("T")


class StoreError(EkslearnError):
    """The store's refusal, in ipamd's own words."""


class PodKey(NamedTuple):
    """What one CNI ADD is known by (IPAMKey): network, container id, interface."""

    network: str
    container: str
    interface: str


@dataclass(frozen=True, slots=True)
class AddressInfo:
    """An address that was handed out at some time; ``key`` is None once its pod is gone.

    Times are the clock's seconds. An address is *cooling* while its pod has been gone no longer
    than the cooldown period.
    """

    address: IPv4Address
    key: PodKey | None
    namespace: str
    pod: str
    assigned_at: float
    unassigned_at: float | None = None

    def cooling(self, now: float, cooldown_s: float) -> bool:
        """Whether it may not be handed out yet; the comparison is <= (inCoolingPeriod)."""
        gone = self.unassigned_at
        return self.key is None and gone is not None and now - gone <= cooldown_s

    def freed(self, now: float | None) -> AddressInfo:
        """The same without its pod; ``now`` is None where no cooldown begins."""
        return replace(self, key=None, namespace="", pod="", unassigned_at=now)


@dataclass(slots=True)
class Cidr:
    """A secondary address (/32) or a prefix (/28), and its addresses handed out so far."""

    network: IPv4Network
    prefix: bool
    addresses: dict[IPv4Address, AddressInfo] = field(default_factory=dict)

    @property
    def assigned(self) -> int:
        """How many of its addresses pods have."""
        return sum(info.key is not None for info in self.addresses.values())


@dataclass(slots=True, kw_only=True)
class StoredEni:
    """An ENI as ipamd knows it. ``excluded``: its subnet's tags say it gives no pod addresses."""

    eni_id: str
    device: int
    primary: bool = False
    trunk: bool = False
    efa: bool = False
    subnet: str = ""
    excluded: bool = False
    table: int = 0
    created_at: float = 0.0
    cidrs: dict[IPv4Network, Cidr] = field(default_factory=dict)

    @property
    def pods(self) -> int:
        """How many pods have an address of this ENI."""
        return sum(cidr.assigned for cidr in self.cidrs.values())


class Stats(NamedTuple):
    """What GetIPStats counts; a cooling address is available, though it can't be assigned."""

    total_ips: int = 0
    assigned_ips: int = 0
    cooldown_ips: int = 0
    total_prefixes: int = 0

    @property
    def available(self) -> int:
        """TotalIPs less AssignedIPs."""
        return self.total_ips - self.assigned_ips


class Held(NamedTuple):
    """An address a pod has, and where it lies."""

    eni: StoredEni
    cidr: Cidr
    info: AddressInfo


class DataStore:
    """The store of one network card.

    ``total`` and ``prefixes`` are ipamd's running counters over all ENIs, which GetIPStats
    (``stats``) doesn't always agree with. ``save`` is called at each change of an allocation, when
    ipamd writes its checkpoint file; if it raises, nothing changes, unless the change is forced.
    """

    def __init__(
        self, *, clock: Callable[[], float], dice: Random, prefix_delegation: bool,
        cooldown_s: float, card: int = 0, save: Callable[[], object] = bool,  # which does nothing
    ) -> None:  # fmt: skip
        self._clock, self._dice, self.save = clock, dice, save
        self.prefix_delegation, self.cooldown_s, self.card = prefix_delegation, cooldown_s, card
        self.enis: dict[str, StoredEni] = {}
        self.total = self.prefixes = 0
        self._held: dict[PodKey, Held] = {}

    @property
    def assigned(self) -> int:
        """How many addresses pods have, on whatever ENI."""
        return len(self._held)

    def any_order(self, things: Iterable[T]) -> list[T]:
        """The things in an order nobody may rely on: that of a walk over a Go map."""
        mixed = list(things)
        self._dice.shuffle(mixed)
        return mixed

    # ENIs

    def eni(self, eni_id: str) -> StoredEni:
        """The ENI; raises StoreError if it isn't in the store."""
        if eni_id not in self.enis:
            raise StoreError("datastore: unknown ENI")
        return self.enis[eni_id]

    def add_eni(self, eni: StoredEni) -> None:
        """Take an ENI in, with its age and its route table; raises StoreError for a known one."""
        if eni.eni_id in self.enis:
            raise StoreError("data store: duplicate ENI")
        eni.created_at, eni.table = self._clock(), names.route_table(eni.device, self.card)
        self.enis[eni.eni_id] = eni

    def remove_eni(self, eni_id: str, *, force: bool = False) -> None:
        """Take an ENI out; with ``force`` its pods lose their addresses.

        Forced on an ENI with pods, ipamd subtracts its addresses from ``total`` twice: so here.
        """
        eni = self.eni(eni_id)
        if eni.pods:
            if not force:
                raise StoreError("datastore: ENI is used and can not be deleted")
            for cidr in eni.cidrs.values():
                self._evict(cidr)
                self._count(cidr, -1)
        self._forget(eni)

    def allocatable_enis(self, slots: int, *, skip_primary: bool) -> list[StoredEni]:
        """ENIs with a slot for another CIDR, in any order (GetAllocatableENIs)."""
        enis = [e for e in self.enis.values() if not (e.trunk or (skip_primary and e.primary))]
        return self.any_order(e for e in enis if not e.excluded and len(e.cidrs) < slots)

    def freeable_eni_exists(self) -> bool:
        """Whether an ENI might be freed: a quick look that getDeletableENI repeats in full."""
        return any(not (e.primary or e.trunk or e.efa or e.pods) for e in self.enis.values())

    def why_kept(self, eni: StoredEni, warm_ips: int, min_ips: int, warm_prefixes: int) -> str:
        """Why the ENI stays, or "" if it may go: the tests of getDeletableENI in their order.

        The last three numbers are WARM_IP_TARGET, MINIMUM_IP_TARGET and WARM_PREFIX_TARGET.
        """
        now = self._clock()
        age = now - eni.created_at
        infos = (info for cidr in eni.cidrs.values() for info in cidr.addresses.values())
        others = [other for other in self.enis.values() if other is not eni and not other.excluded]
        serving = list(self._serving(others))
        total = sum(cidr.network.num_addresses for cidr in serving)
        spare = total - sum(cidr.assigned for cidr in serving)
        free = sum(not cidr.assigned for other in others for cidr in other.cidrs.values())
        unit = IPS_PER_PREFIX if self.prefix_delegation else 1
        warm, least = div_ceil(warm_ips, unit) * unit, div_ceil(min_ips, unit) * unit
        free_wanted = warm_prefixes if self.prefix_delegation else 0
        tests: list[tuple[object, str]] = [
            (eni.primary, "it is the primary ENI"),
            (age < MIN_ENI_AGE_S, f"in the store for {age:.1f} s < {MIN_ENI_AGE_S} s"),
            (any(info.cooling(now, self.cooldown_s) for info in infos), "it has a cooling address"),
            (eni.pods, f"it has {eni.pods} pods"),
            (spare < warm, f"the others' {spare} unassigned addresses < WARM_IP_TARGET {warm}"),
            (total < least, f"the others' {total} addresses < MINIMUM_IP_TARGET {least}"),
            (free < free_wanted, f"the others' {free} free CIDRs < WARM_PREFIX_TARGET"),
            (eni.trunk, "it is the trunk ENI"),
            (eni.efa, "it is an EFA"),
        ]
        return next((words for kept, words in tests if kept), "")

    def remove_unused_eni(
        self, warm_ips: int, min_ips: int, warm_prefixes: int
    ) -> tuple[StoredEni | None, dict[str, str]]:
        """Take out the first ENI, in any order, that nothing keeps; and what kept those before it.

        RemoveUnusedENIFromStore: it is gone from the store before EC2 hears of it.
        """
        kept: dict[str, str] = {}
        for eni in self.any_order(self.enis.values()):
            if not (why := self.why_kept(eni, warm_ips, min_ips, warm_prefixes)):
                self._forget(eni)
                return eni, kept
            kept[eni.eni_id] = why
        return None, kept

    # CIDRs

    def add_cidr(self, eni_id: str, network: IPv4Network, *, prefix: bool) -> None:
        """Put a secondary address or a prefix on an ENI; raises StoreError if it can't be."""
        if eni_id not in self.enis:
            raise StoreError("add ENI's IP to datastore: unknown ENI")
        cidrs = self.enis[eni_id].cidrs
        if network in cidrs:
            raise StoreError("datastore: IP already in data store")
        cidrs[network] = Cidr(network, prefix)
        self._count(cidrs[network], +1)

    def del_cidr(self, eni_id: str, network: IPv4Network, *, force: bool = False) -> None:
        """Take a CIDR off an ENI; with ``force`` its pods lose their addresses."""
        cidrs = self.eni(eni_id).cidrs
        if network not in cidrs:
            raise StoreError("datastore: unknown IP")
        if cidrs[network].assigned:
            if not force:
                raise StoreError("datastore: IP is used and can not be deleted")
            self._evict(cidrs[network])
        self._count(cidrs.pop(network), -1)

    def freeable_cidrs(self, eni: StoredEni) -> list[Cidr]:
        """CIDRs of an ENI no pod has an address of, in any order; cooling ones are among them."""
        return self.any_order(cidr for cidr in eni.cidrs.values() if not cidr.assigned)

    def free_prefixes(self) -> int:
        """Prefixes no pod has an address of, on excluded ENIs too (GetFreePrefixes)."""
        cidrs = (cidr for eni in self.enis.values() for cidr in eni.cidrs.values())
        return sum(cidr.prefix and not cidr.assigned for cidr in cidrs)

    # pods

    def assign(self, key: PodKey, namespace: str = "", pod: str = "") -> Held:
        """Give a pod an address: any ENI, any of its CIDRs, then a used one or the lowest new one.

        The same key again has the same answer. Raises StoreError if there is none to give: it
        neither waits nor asks EC2.
        """
        if key in self._held:
            return self._held[key]
        now = self._clock()
        for eni in self.any_order(eni for eni in self.enis.values() if not eni.excluded):
            for cidr in self.any_order(self._serving([eni])):
                if (address := self._unused(cidr, now)) is None:
                    continue
                self.save()
                return self._hold(eni, cidr, AddressInfo(address, key, namespace, pod, now))
        raise StoreError("AssignPodIPAddress: no available IP/Prefix addresses")

    def unassign(self, key: PodKey) -> Held:
        """Take a pod's address back; it stays on its ENI, and its cooldown begins."""
        if key not in self._held:
            raise StoreError("datastore: unknown pod")
        self.save()
        held = self._held.pop(key)
        held.cidr.addresses[held.info.address] = held.info.freed(self._clock())
        return held

    def allocations(self) -> list[Held]:
        """Every address a pod has."""
        return list(self._held.values())

    def stats(self) -> Stats:
        """GetIPStats: only ENIs that aren't excluded and CIDRs of the mode in force."""
        now = self._clock()
        cidrs = list(self._serving(eni for eni in self.enis.values() if not eni.excluded))
        infos = (info for cidr in cidrs for info in cidr.addresses.values())
        return Stats(
            sum(cidr.network.num_addresses for cidr in cidrs),
            sum(cidr.assigned for cidr in cidrs),
            sum(info.cooling(now, self.cooldown_s) for info in infos),
            self.prefixes,
        )

    # what is kept on disk, and what is shown

    def checkpoint(self) -> dict[str, Any]:
        """The checkpoint file, /var/run/aws-node/ipam.json; cooldowns aren't in it."""
        held = ((key, held.info) for key, held in self._held.items())
        entries = [{
            **dict(zip(KEY_NAMES, key, strict=True)),
            "ipv4": str(info.address), "allocationTimestamp": round(info.assigned_at * 1e9),
            "metadata": _metadata(info),
        } for key, info in held]  # fmt: skip
        return {"version": CHECKPOINT_VERSION, "allocations": entries}

    def restore(self, checkpoint: Mapping[str, Any], links: Iterable[str]) -> dict[str, str]:
        """Read a checkpoint back, once the ENIs are known, against the host's ``links``.

        A pod whose host veth is missing isn't restored; it is returned, by its address, with the
        reason. An address that no CIDR has is skipped.
        """
        if checkpoint["version"] != CHECKPOINT_VERSION:
            raise StoreError("datastore: unknown backing store version")
        stale, suffixes = {}, {link[-11:] for link in links}
        cidrs = [(eni, cidr) for eni in self.enis.values() for cidr in eni.cidrs.values()]
        for entry in checkpoint["allocations"]:
            address, meta = IPv4Address(entry["ipv4"]), entry.get("metadata", {})
            namespace, pod = meta.get("k8sPodNamespace", ""), meta.get("k8sPodName", "")
            if pod and names.veth_suffix(namespace, pod) not in suffixes:
                stale[str(address)] = f"host-side veth not found for pod {namespace}/{pod}"
                continue
            key = PodKey(*(entry.get(name, "") for name in KEY_NAMES))
            since = entry.get("allocationTimestamp", 0) / 1e9
            for eni, cidr in cidrs:
                if address in cidr.network:
                    self._hold(eni, cidr, AddressInfo(address, key, namespace, pod, since))
        return stale

    def introspect(self) -> dict[str, Any]:
        """The inner object of http://localhost:61679/v1/enis; TotalIPs is the raw counter."""
        enis = {eni.eni_id: {
            "ID": eni.eni_id, "IsPrimary": eni.primary, "IsTrunk": eni.trunk, "IsEFA": eni.efa,
            "DeviceNumber": eni.device,
            "AvailableIPv4Cidrs": {str(each.network): _shown(each) for each in eni.cidrs.values()},
            "IPv6Cidrs": {}, "IsExcludedForPodIPs": eni.excluded, "RouteTableID": eni.table,
            "SubnetID": eni.subnet,
        } for eni in self.enis.values()}  # fmt: skip
        return {"TotalIPs": self.total, "AssignedIPs": self.assigned, "ENIs": enis}

    def _serving(self, enis: Iterable[StoredEni]) -> Iterator[Cidr]:
        """The CIDRs of the mode in force: prefixes with prefix delegation, else addresses."""
        cidrs = (cidr for eni in enis for cidr in eni.cidrs.values())
        return (cidr for cidr in cidrs if cidr.prefix == self.prefix_delegation)

    def _unused(self, cidr: Cidr, now: float) -> IPv4Address | None:
        """An address to hand out (getUnusedIP): used before and cooled down, or the lowest new."""
        infos = [info for info in cidr.addresses.values() if info.key is None]
        cooled = [info.address for info in infos if not info.cooling(now, self.cooldown_s)]
        for address in cooled:
            del cidr.addresses[address]
        if cooled:
            return self._dice.choice(cooled)
        return next((ip for ip in cidr.network if ip not in cidr.addresses), None)

    def _hold(self, eni: StoredEni, cidr: Cidr, info: AddressInfo) -> Held:
        cidr.addresses[info.address] = info
        held = Held(eni, cidr, info)
        if info.key is not None:
            self._held[info.key] = held
        return held

    def _count(self, cidr: Cidr, sign: int) -> None:
        self.total += sign * cidr.network.num_addresses
        self.prefixes += sign * cidr.prefix

    def _forget(self, eni: StoredEni) -> None:
        for cidr in eni.cidrs.values():
            self._count(cidr, -1)
        del self.enis[eni.eni_id]

    def _evict(self, cidr: Cidr) -> None:
        """Take every pod of a CIDR its address, with no cooldown and whether the disk writes."""
        for address, info in list(cidr.addresses.items()):
            if info.key is not None:
                del self._held[info.key]
                cidr.addresses[address] = info.freed(None)
        with suppress(EkslearnError):
            self.save()


def div_ceil(number: int, unit: int) -> int:
    """How many units hold the number (DivCeil).

    >>> div_ceil(20, 16)
    2
    """
    return (number + unit - 1) // unit


def _metadata(info: AddressInfo) -> dict[str, Any]:
    interfaces = int(info.key is not None)
    return {
        "k8sPodNamespace": info.namespace, "k8sPodName": info.pod, "interfacesCount": interfaces,
    }  # fmt: skip


def _shown(cidr: Cidr) -> dict[str, Any]:
    """A CIDR as Go prints it; since v1.23.0 container id and interface are blanked."""
    mask = b64encode(cidr.network.netmask.packed).decode()
    addresses = {str(info.address): {
        "Address": str(info.address),
        "IPAMKey": {
            "networkName": info.key.network if info.key else "", "containerID": "", "ifName": "",
        },
        "IPAMMetadata": _metadata(info),
        "AssignedTime": rfc3339(info.assigned_at), "UnassignedTime": rfc3339(info.unassigned_at),
    } for info in cidr.addresses.values()}  # fmt: skip
    return {
        "Cidr": {"IP": str(cidr.network.network_address), "Mask": mask},
        "IPAddresses": addresses, "IsPrefix": cidr.prefix, "AddressFamily": "",
    }  # fmt: skip


def rfc3339(seconds: float | None) -> str:
    """A time of the simulated clock as Go writes it; one that isn't set is in the year 1.

    >>> rfc3339(61.5)
    '1970-01-01T00:01:01.5Z'
    """
    if seconds is None:
        return "0001-01-01T00:00:00Z"
    moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)
    return (moment.isoformat().rstrip("0") if moment.microsecond else moment.isoformat()) + "Z"
