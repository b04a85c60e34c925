"""ipamd, the daemon that keeps a node's pool of addresses warm, in simulated time.

Three objects can disagree, as they do in real incidents: ipamd's ``store``, EC2's truth (``Ec2``)
and what the kernel has (the ``Host``). ``tick`` is one turn of the daemon's loop; reconcile,
within it, mends the store. Source: pkg/ipamd/ipamd.go and rpc_handler.go of amazon-vpc-cni-k8s
v1.23.1; methods name the Go functions they play.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from random import Random
from typing import Any, Protocol

from ekslearn.errors import EkslearnError
from ekslearn.vpc.ec2 import Call, Ec2
from ekslearn.vpc.error import Ec2Error
from ekslearn.vpc.instance import InstanceType
from ekslearn.vpc.model import Eni

from ..cni.settings import Settings
from . import pool
from .awsutils import AwsClient, NotDetached
from .datastore import IPS_PER_PREFIX, DataStore, Held, PodKey, StoredEni, StoreError
from .pool import Check, EniConfig, Pool

HALF_TURN_S = 2.5  # half of ipPoolMonitorInterval
RECONCILE_EVERY_S = 60  # nodeIPPoolReconcileInterval
DECREASE_EVERY_S = 30  # decreaseIPPoolInterval
SETUP_TRIES, SETUP_PAUSE_S = 6, 10  # maxRetryCheckENI, eniAttachTime
NETWORK, INTERFACE = "aws-cni", "eth0"  # what the runtime calls a pod's network and its link
SANDBOX_FAILED = (
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for"
    ' sandbox "{}": plugin type="aws-cni" name="aws-cni" failed (add): add cmd: failed to assign'
    " an IP address to container"
)


class NoAddress(EkslearnError):
    """A pod got no address. The message is what kubelet's FailedCreatePodSandBox event says."""


class Host(Protocol):
    """The node's kernel, as far as ipamd sees it or acts on it."""

    def attached(self, eni: Eni, device: int, table: int) -> None:
        """Set up the secondary ENI's link (SetupENINetwork); EkslearnError if there is none."""

    def detached(self, eni: Eni) -> None:
        """Lose the link of an ENI that ipamd has detached."""

    def veths(self) -> set[str]:
        """The names of the links in the node's own namespace."""

    def delete_rules_by_source(self, ip: str) -> None:
        """Delete the rules "from ``ip``"."""

    def forget_pod(self, ip: str) -> None:
        """Delete rule 512 to a pod that is gone and the rules 1536 from it, where they are."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a pod gets: an address, and the ENI's device number, network card and route table."""

    ip: IPv4Address
    device: int
    card: int
    table: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One step of the daemon: what it compared, with the numbers, and what it did then.

    ``step`` is start, pool, reconcile or release. ``numbers`` are those before anything was done;
    ``checks`` the comparisons in their order; ``calls`` the EC2 calls. Times are in seconds.
    """

    step: str
    time: float
    took_s: float
    numbers: Mapping[str, int]
    checks: tuple[Check, ...]
    did: tuple[str, ...]
    calls: tuple[Call, ...]

    @property
    def words(self) -> str:
        """All of it in a line: each comparison, whether it holds, and what was done."""
        looked = [f"{check.words}: {'yes' if check.holds else 'no'}" for check in self.checks]
        return f"{'; '.join(looked)} -> {'; '.join(self.did) or 'nothing'}"


class Ipamd:
    """The daemon of one node.

    ``max_pods`` is kubelet's number; ``eniconfig`` the node's, with custom networking.
    ``unschedulable`` (the node is cordoned) and ``terminating`` may be set at any time.
    """

    def __init__(
        self, settings: Settings, ec2: Ec2, instance: str, kind: InstanceType, *, host: Host,
        clock: Callable[[], float], dice: Random, max_pods: int, eniconfig: EniConfig | None = None,
    ) -> None:  # fmt: skip
        prefixes = settings.prefix_delegation and kind.prefix_delegation
        self.settings = replace(settings, prefix_delegation=prefixes)
        self.instance, self.kind, self.host, self.clock = instance, kind, host, clock
        self.max_pods, self.eniconfig = max_pods, eniconfig
        self.unschedulable = self.terminating = False
        self.client = AwsClient(
            ec2, instance, self.settings, clock=clock, dice=dice, wait=host.wait
        )
        self.store = DataStore(
            clock=clock, dice=dice, prefix_delegation=prefixes, cooldown_s=settings.ip_cooldown_s
        )
        self.decisions: list[Decision] = []
        self.primary_ips: dict[str, str] = {}
        self.freed: dict[IPv4Network, float] = {}  # reconcileCooldownCache
        self._unmanaged: set[str] = set()
        self._last_full: float | None = None
        self._last_decrease: float | None = None
        self._last_action = float("-inf")
        self._checks: list[Check] = []
        self._did: list[str] = []

    # What is called from outside

    def start(self, checkpoint: Mapping[str, Any] | None = None) -> None:
        """NodeInit: take in the ENIs that are there, restore ``checkpoint``, fill the pool.

        Raises EkslearnError where the container would exit and be started again.
        """
        with self._deciding("start"):
            for eni in self._discover():
                set_up = partial(self._set_up, eni)
                again = partial(self.client.again, set_up, SETUP_PAUSE_S, 0, tries=SETUP_TRIES)
                self._try(partial(again, growth=1), f"{eni.eni_id} isn't set up")
            if checkpoint:
                self.restore(checkpoint)
            for stored in self.store.any_order(self.store.enis.values()):
                mode = self.settings.prefix_delegation
                self._give_back(stored, [each.network for each in self.store.freeable_cidrs(stored)
                                         if stored.excluded or each.prefix != mode])  # fmt: skip
            if self._provisions and self._check(*pool.too_low(self.pool())):
                self.grow()
                if self.settings.custom_networking and not self.store.stats().total_ips:
                    raise EkslearnError("Failed to attach any ENIs for custom networking")

    def tick(self) -> None:
        """One turn of StartNodeIPPoolManager: 5 s, and however long its EC2 calls take."""
        if self._provisions:
            self.host.wait(HALF_TURN_S)
            with self._deciding("pool"):
                self._update_pool()
        self.host.wait(HALF_TURN_S)
        if self.clock() - self._last_action > RECONCILE_EVERY_S or self._trunk_awaited:
            with self._deciding("reconcile"):
                self._try(self.reconcile, "reconcile is given up")

    def assign(self, namespace: str, pod: str, container_id: str) -> Assignment:
        """Give a pod an address (AddNetwork); raises NoAddress if the store has none left."""
        try:
            held = self.store.assign(PodKey(NETWORK, container_id, INTERFACE), namespace, pod)
        except StoreError as error:
            raise NoAddress(SANDBOX_FAILED.format(container_id)) from error
        return self._assignment(held)

    def release(self, namespace: str, pod: str, container_id: str) -> Assignment:
        """Take a pod's address back (DelNetwork); StoreError for a pod that isn't known.

        The plugin takes that error for success: it names the pod and asks for nothing more.
        """
        held = self.store.unassign(PodKey(NETWORK, container_id, INTERFACE))
        if held.cidr.prefix and not self.settings.prefix_delegation:
            empty = [cidr.network for cidr in self.store.freeable_cidrs(held.eni) if cidr.prefix]
            with self._deciding("release"):
                self._give_back(held.eni, empty)
        return self._assignment(held)

    def checkpoint(self) -> dict[str, Any]:
        """What the checkpoint file holds now."""
        return self.store.checkpoint()

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Take over the allocations of an earlier run; those whose veth is gone are dropped."""
        for ip, why in self.store.restore(checkpoint, self.host.veths()).items():
            self._did.append(f"{ip} isn't restored: {why}")
            self.host.forget_pod(ip)

    def introspect(self) -> dict[str, Any]:
        """http://localhost:61679/v1/enis: an object for each network card."""
        return {str(self.store.card): self.store.introspect()}

    def pool(self) -> Pool:
        """What the decisions look at, as it is now."""
        slots, limit = self.kind.ipv4_per_eni - 1, self.settings.max_eni
        prefixes = self.settings.prefix_delegation
        return Pool(
            stats=self.store.stats(), settings=self.settings, max_pods=self.max_pods,
            ips_per_eni=slots * (IPS_PER_PREFIX if prefixes else 1),
            prefixes_per_eni=slots if prefixes else 0,
            max_enis=min(limit, self.kind.enis) if limit >= 1 else self.kind.enis,
            enis=len(self.store.enis), unmanaged=len(self._unmanaged),
            free_prefixes=self.store.free_prefixes(),
        )  # fmt: skip

    # The pool

    def _update_pool(self) -> None:
        """UpdateIPPoolIfRequired; the counts are those from before anything is done."""
        before, name = self.pool(), "shouldSkipDataStorePoolDecrease"
        last, every = self._last_decrease, DECREASE_EVERY_S
        skip = pool.within(name, self.clock(), last, every, "decrease")
        if self._check(*pool.too_low(before)):
            self._try(self.grow, "the pool didn't grow")
        elif self._check(pool.too_high(before)) and not self._check(skip):
            self.shrink()
            self._last_decrease = self._last_action = self.clock()
        if self._check(pool.may_free_eni(before, freeable=self.store.freeable_eni_exists())):
            self.free_eni()

    def grow(self) -> None:
        """IncreaseDatastorePool: on an ENI that has room, else on a new one.

        Raises EkslearnError if EC2 refuses addresses for another reason than a full subnet.
        """
        if not self._may_act() or self._check(pool.paused(self.clock(), self._last_full)):
            return
        try:
            added = self._add_cidrs()
        except Ec2Error as error:
            if not self._subnet_full(error):
                raise
            return
        if not added:
            if not self._check(pool.has_room(self.pool(), trunk_awaited=self._trunk_awaited)):
                return
            if refusal := self._try(self._add_eni, "no new ENI"):
                self._subnet_full(refusal)
                return
        self._last_action = self.clock()

    def _add_cidrs(self) -> bool:
        """TryAssignIPs, tryAssignPrefixes: all that is wanted goes to the first ENI with room."""
        now, custom = self.pool(), self.settings.custom_networking
        enis = self.store.allocatable_enis(now.slots, skip_primary=custom)
        for eni in enis if pool.wanted(now) else ():
            count = min(pool.wanted(now), now.slots - len(eni.cidrs))
            try:
                self._take_in(eni.eni_id, self._alloc(eni.eni_id, count))
                return True
            except Ec2Error as error:
                if not (self.settings.subnet_discovery and pool.subnet_full(error.code)):
                    raise
                self._did.append(f"{eni.eni_id} gets no more: {error}")
        return False

    def _alloc(self, eni_id: str, count: int) -> list[IPv4Network]:
        """Ask for ``count``, then for one; what EC2 lists, where it says that the ENI is full."""
        for ask in (count, 1):
            try:
                return self.client.alloc_addresses(eni_id, ask)
            except Ec2Error as error:
                refusal = error
                if pool.eni_full(error.code):
                    return self._true(eni_id, self.settings.prefix_delegation)
        raise refusal

    def _add_eni(self) -> None:
        """TryAllocateENI."""
        config = self.eniconfig if self.settings.custom_networking else None
        if self.settings.custom_networking and config is None:
            raise EkslearnError("eniconfig: eniconfig is not available")
        if count := pool.wanted(self.pool()):
            eni_id = self.client.alloc_eni(config, count)
            self._set_up(self.client.wait_attached(eni_id, count))

    def shrink(self) -> None:
        """TryUnassignCidrsFromAll: give the surplus back, from any ENI, cooling or not."""
        over = pool.surplus(self.pool())
        for eni in self.store.any_order(self.store.enis.values()):
            cidrs = [cidr.network for cidr in self.store.freeable_cidrs(eni)][: max(over, 0)]
            self.freed |= dict.fromkeys(cidrs, self.clock())
            self._give_back(eni, cidrs)
            over -= len(cidrs)

    def free_eni(self) -> None:
        """TryFreeENI: at most one; it leaves the store before EC2 is asked."""
        if not self._may_act():
            return
        env = self.settings
        targets = env.warm_ip_target, env.minimum_ip_target, env.warm_prefix_target
        eni, kept = self.store.remove_unused_eni(*targets)
        for eni_id, why in kept.items():
            self._check(Check("getDeletableENI", False, f"{eni_id}: {why}"))
        if eni is None:
            return
        eni_id = eni.eni_id
        self._check(Check("getDeletableENI", True, f"{eni_id}: nothing keeps it"))
        attached = [each for each in self.client.metadata() if each.eni_id == eni_id]
        error = self._try(partial(self.client.free_eni, eni_id), f"{eni_id} isn't freed")
        if isinstance(error, NotDetached):
            return
        for gone in (each for each in attached if not each.attached):
            self.host.detached(gone)
        self.host.delete_rules_by_source(self.primary_ips.pop(eni_id, ""))
        self._did.append(f"freed {eni_id}")

    # Reconcile

    def reconcile(self) -> None:
        """NodeIPPoolReconcile: compare store and metadata, and ask EC2 where they differ."""
        enis = [eni for eni in self.client.metadata() if eni.eni_id not in self._unmanaged]
        if not enis:
            self._did.append("the metadata service lists no ENI: nothing is reconciled")
            return
        if any(eni.eni_id not in self.store.enis for eni in enis):
            enis = self._discover()
        gone = self.store.enis.keys() - {eni.eni_id for eni in enis}
        for eni in enis:
            mend = self._reconcile_eni if eni.eni_id in self.store.enis else self._set_up
            self._try(partial(mend, eni), f"{eni.eni_id} isn't reconciled")
        for eni_id in sorted(gone):
            pods = self.store.enis[eni_id].pods
            self.store.remove_eni(eni_id, force=True)
            self.primary_ips.pop(eni_id, None)
            self._did.append(f"{eni_id} is attached no more: removed, with {pods} pods' addresses")
        self._last_action = self.clock()

    def _reconcile_eni(self, eni: Eni) -> None:
        """EniIPPoolReconcile, eniPrefixPoolReconcile: only EC2's word takes a CIDR away."""
        for prefix in (False, True):
            cidrs = self.store.enis[eni.eni_id].cidrs.values()
            known = {cidr.network for cidr in cidrs if cidr.prefix == prefix}
            seen, asked = _networks(eni, prefix), False
            if not pool.similar(known, seen):
                seen, asked = self._true(eni.eni_id, prefix), True
            freed = {each: pool.recently_freed(self.clock(), self.freed, each) for each in seen}
            if not asked and any(found and not fresh for found, fresh in freed.values()):
                true = self._true(eni.eni_id, prefix)
                seen = [each for each in seen if not freed[each][0] or each in true]
            real = {each for each in seen if not freed[each][1]}
            for network in real & self.freed.keys():
                del self.freed[network]
            self._take_in(eni.eni_id, sorted(real - known))
            for network in sorted(known - real):
                self.store.del_cidr(eni.eni_id, network, force=True)
                self._did.append(f"{eni.eni_id} hasn't {network} any more: removed")

    def _true(self, eni_id: str, prefix: bool) -> list[IPv4Network]:
        """What EC2 says is on an ENI."""
        return _networks(self.client.describe([eni_id])[0], prefix)

    # What these share

    @contextmanager
    def _deciding(self, step: str) -> Iterator[None]:
        """Record what is compared and done meanwhile as one decision, even if it fails."""
        began, numbers, calls = self.clock(), self.pool().numbers(), len(self.client.calls)
        self._checks, self._did = [], []
        try:
            yield
        except EkslearnError as error:
            self._did.append(f"failed: {error}")
            raise
        finally:
            self.decisions.append(Decision(
                step=step, time=began, took_s=self.clock() - began, numbers=numbers,
                checks=tuple(self._checks), did=tuple(self._did),
                calls=tuple(self.client.calls[calls:]),
            ))  # fmt: skip

    def _try(self, action: Callable[[], object], words: str) -> EkslearnError | None:
        """Do something; if it is refused, note why, and go on."""
        try:
            action()
        except EkslearnError as error:
            self._did.append(f"{words}: {error}")
            return error
        return None

    def _check(self, *checks: Check) -> bool:
        self._checks += checks
        return checks[-1].holds

    @property
    def _provisions(self) -> bool:
        return not (self.settings.disable_network_resource_provisioning or self.settings.imds_only)

    @property
    def _trunk_awaited(self) -> bool:
        there = any(eni.trunk for eni in self.store.enis.values())
        return self.settings.enable_pod_eni and not there

    def _may_act(self) -> bool:
        """IsENIAttachmentAllowed: not on the way out, nor on a cordoned node unless told so."""
        cordoned = self.unschedulable and not self.settings.manage_enis_non_schedulable
        words = f"terminating {self.terminating}, unschedulable {self.unschedulable}"
        allowed = not (self.terminating or cordoned)
        return self._check(Check("isENIAttachmentAllowed", allowed, words))

    def _subnet_full(self, error: EkslearnError) -> bool:
        """Whether the error begins a pause of 120 s."""
        if not (isinstance(error, Ec2Error) and pool.subnet_full(error.code)):
            return False
        self._last_full = self.clock()
        self._did.append(f"{error.code}: nothing is asked for {pool.SUBNET_FULL_PAUSE_S} s")
        return True

    def _discover(self) -> list[Eni]:
        """DescribeAllENIs: the attached ENIs that ipamd manages, with the tags they should have."""
        enis = self.client.describe(eni.eni_id for eni in self.client.metadata())
        self._unmanaged = pool.unmanaged(
            {eni.eni_id: eni.tags for eni in enis}, primary=self.client.primary.eni_id,
            instance=self.instance, manage_untagged=self.settings.manage_untagged_eni,
        )  # fmt: skip
        managed = [eni for eni in enis if eni.eni_id not in self._unmanaged]
        for eni in managed:
            if eni.interface_type != "trunk" and self._provisions:
                self.client.tag(eni)
        return managed

    def _set_up(self, eni: Eni) -> None:
        """SetupENI: into the store, into the kernel, and its addresses into the store."""
        primary = eni is self.client.primary
        if eni.eni_id not in self.store.enis:
            self.store.add_eni(StoredEni(
                eni_id=eni.eni_id, device=eni.device_index, primary=primary,
                trunk=eni.interface_type == "trunk", subnet=eni.subnet.subnet_id,
            ))  # fmt: skip
        stored = self.store.enis[eni.eni_id]
        self.primary_ips[eni.eni_id] = str(eni.primary)

        def look() -> None:
            stored.excluded = self.settings.subnet_discovery and self.client.excluded(eni)

        self._try(look, f"{eni.eni_id} counts as not excluded")
        if not primary:
            try:
                self.host.attached(eni, stored.device, stored.table)
            except EkslearnError:
                self.store.remove_eni(eni.eni_id, force=True)
                del self.primary_ips[eni.eni_id]
                raise
        self._did.append(f"set up {eni.eni_id}, device {stored.device}, table {stored.table}")
        self._take_in(eni.eni_id, [*_networks(eni, False), *_networks(eni, True)])

    def _take_in(self, eni_id: str, networks: Iterable[IPv4Network]) -> None:
        new = [each for each in networks if each not in self.store.enis[eni_id].cidrs]
        for network in new:
            self.store.add_cidr(eni_id, network, prefix=network.prefixlen < 32)
        if new:
            self._did.append(f"{eni_id} has {' '.join(map(str, new))} more")

    def _give_back(self, eni: StoredEni, cidrs: list[IPv4Network]) -> None:
        """Out of the store first, then off the ENI; EC2's refusal changes nothing more."""
        for network in cidrs:
            self.store.del_cidr(eni.eni_id, network)
        if cidrs:
            self._did.append(f"{eni.eni_id} gives back {' '.join(map(str, cidrs))}")
            self._try(partial(self.client.dealloc, eni.eni_id, cidrs), f"{eni.eni_id} keeps them")

    def _assignment(self, held: Held) -> Assignment:
        return Assignment(held.info.address, held.eni.device, self.store.card, held.eni.table)


def _networks(eni: Eni, prefix: bool) -> list[IPv4Network]:
    """An ENI's prefixes, or its addresses but the primary one, which never enters the pool."""
    cidrs = eni.prefixes if prefix else [each for each in eni.secondary if each != eni.primary]
    return [IPv4Network(each) for each in cidrs]


def stale_pod_commands(ip: str) -> list[str]:
    """What a node runs to forget a pod that is gone (PruneStaleAllocations), missing rules or not.

    The rule from the pod may be in any table.
    """
    return [f"ip rule del prio 512 to {ip} lookup main", f"ip rule del prio 1536 from {ip}"]
