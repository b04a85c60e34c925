"""The warm pool's decisions: pure functions that return their answer with its numbers and words.

Source: pkg/ipamd/ipamd.go and pkg/awsutils/awsutils.go of amazon-vpc-cni-k8s v1.23.1; each
function names the Go function it plays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import NamedTuple

from ekslearn.errors import EkslearnError

from ..cni.settings import Settings
from ..document import Node
from .datastore import IPS_PER_PREFIX, Stats, div_ceil

SUBNET_FULL_PAUSE_S = 120  # insufficientCidrErrorCooldown
RECONCILE_COOLDOWN_S = 60  # ipReconcileCooldown
SUBNET_TAG = "kubernetes.io/role/cni"
CLUSTER_TAGS = "cni.networking.k8s.aws/cluster/"
INSTANCE_TAG = "node.k8s.amazonaws.com/instance_id"
NO_MANAGE_TAG = "node.k8s.amazonaws.com/no_manage"
CREATED_TAG = "node.k8s.amazonaws.com/createdAt"
EXTERNAL_ENICONFIG_LABEL = "vpc.amazonaws.com/externalEniConfig"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What a decision looks at: the store's counts, the node's limits and the settings.

    ``ips_per_eni`` is maxIPsPerENI, ``prefixes_per_eni`` maxPrefixesPerENI (0 without prefix
    delegation); ``enis`` counts those in the store, ``unmanaged`` those ipamd leaves alone.
    """

    stats: Stats
    settings: Settings
    ips_per_eni: int
    prefixes_per_eni: int = 0
    max_enis: int = 0
    max_pods: int = 0
    enis: int = 0
    unmanaged: int = 0
    free_prefixes: int = 0

    @property
    def slots(self) -> int:
        """CIDRs an ENI can carry besides its primary address."""
        return self.prefixes_per_eni or self.ips_per_eni

    def numbers(self) -> dict[str, int]:
        """Everything a decision compares, by its real name."""
        env, target = self.settings, target_state(self)
        return {
            "TotalIPs": self.stats.total_ips, "AssignedIPs": self.stats.assigned_ips,
            "CooldownIPs": self.stats.cooldown_ips, "available": self.stats.available,
            "TotalPrefixes": self.stats.total_prefixes, "freePrefixes": self.free_prefixes,
            "short": target.short, "over": target.over, "ENIs": self.enis,
            "maxENI": self.max_enis, "unmanagedENIs": self.unmanaged,
            "maxIPsPerENI": self.ips_per_eni, "maxPrefixesPerENI": self.prefixes_per_eni,
            "maxPods": self.max_pods, "WARM_ENI_TARGET": env.warm_eni_target,
            "WARM_IP_TARGET": env.warm_ip_target, "MINIMUM_IP_TARGET": env.minimum_ip_target,
            "WARM_PREFIX_TARGET": env.warm_prefix_target,
        }  # fmt: skip


class Check(NamedTuple):
    """One comparison: the Go function's name, whether it holds, and the comparison in numbers."""

    name: str
    holds: bool
    words: str


class TargetState(NamedTuple):
    """datastoreTargetState's answer, in addresses, or in prefixes with prefix delegation."""

    short: int
    over: int
    enabled: bool
    words: str


def ip_targets_defined(settings: Settings) -> bool:
    """Whether WARM_IP_TARGET or MINIMUM_IP_TARGET is set: they replace the other two targets."""
    return bool(settings.warm_ip_target or settings.minimum_ip_target)


def prefix_target_defined(settings: Settings) -> bool:
    """WarmPrefixTargetDefined: its default, 0, counts as defined too."""
    return settings.prefix_delegation and settings.warm_prefix_target >= 0


def target_state(pool: Pool) -> TargetState:
    """How many addresses (or prefixes) the pool is short of its IP targets, or over them."""
    stats, env = pool.stats, pool.settings
    if not ip_targets_defined(env):
        return TargetState(0, 0, False, "neither WARM_IP_TARGET nor MINIMUM_IP_TARGET is set")
    warm, least, have = env.warm_ip_target, env.minimum_ip_target, stats.available
    short = max(warm - have, 0, least - stats.total_ips)
    over = max(min(max(have - warm, 0), stats.total_ips - least), 0)
    words = (
        f"short = max(WARM_IP_TARGET {warm} - available {have},"
        f" MINIMUM_IP_TARGET {least} - TotalIPs {stats.total_ips}, 0) = {short}"
    )
    if not env.prefix_delegation:
        words += f"; over = max(min({have} - {warm}, {stats.total_ips} - {least}), 0) = {over}"
        return TargetState(short, over, True, words)
    needed = div_ceil(stats.assigned_ips + warm, IPS_PER_PREFIX), div_ceil(least, IPS_PER_PREFIX)
    spare = stats.total_prefixes - max(needed)
    prefixes, over = div_ceil(short, IPS_PER_PREFIX), max(min(pool.free_prefixes, spare), 0)
    words += (
        f", {prefixes} prefixes; over = max(min(freePrefixes {pool.free_prefixes},"
        f" TotalPrefixes {stats.total_prefixes} - needed {max(needed)}), 0) = {over} prefixes"
    )
    return TargetState(prefixes, over, True, words)


def too_low(pool: Pool) -> list[Check]:
    """isDatastorePoolTooLow: whether the pool must grow; the last comparison decides."""
    name, stats, env = "isDatastorePoolTooLow", pool.stats, pool.settings
    full = stats.total_ips >= pool.max_pods
    words = f"TotalIPs {stats.total_ips} {'>=' if full else '<'} maxPods {pool.max_pods}"
    checks = [Check(name, not full, words)]
    if full:
        return checks
    if (target := target_state(pool)).enabled:
        return [*checks, Check(name, target.short > 0, target.words)]
    unit, want, of = pool.ips_per_eni, env.warm_eni_target, "maxIPsPerENI {} × WARM_ENI_TARGET {}"
    if env.prefix_delegation:
        unit, want, of = IPS_PER_PREFIX, env.warm_prefix_target, "{} × WARM_PREFIX_TARGET {}"
    low = stats.available < unit * want or (want == 0 and stats.available == 0)
    sign = "<" if stats.available < unit * want else ">="
    words = f"available {stats.available} {sign} {of.format(unit, want)}"
    if not want:
        words += f", and with a target of 0 the pool is low once available is 0: {low}"
    return [*checks, Check(name, low, words)]


def too_high(pool: Pool) -> Check:
    """isDatastorePoolTooHigh: never with plain WARM_ENI_TARGET, where only whole ENIs go."""
    name, env = "isDatastorePoolTooHigh", pool.settings
    if (target := target_state(pool)).enabled:
        return Check(name, target.over > 0, f"over {target.over} > 0")
    if prefix_target_defined(env):
        words = f"freePrefixes {pool.free_prefixes} > WARM_PREFIX_TARGET {env.warm_prefix_target}"
        return Check(name, surplus(pool) > 0, words)
    return Check(name, False, "single addresses aren't returned while WARM_ENI_TARGET rules")


def surplus(pool: Pool) -> int:
    """How many CIDRs to return: over, or the free prefixes above WARM_PREFIX_TARGET."""
    if (target := target_state(pool)).enabled:
        return target.over
    extra = max(pool.free_prefixes - pool.settings.warm_prefix_target, 0)
    return extra if prefix_target_defined(pool.settings) else 0


def wanted(pool: Pool) -> int:
    """How many CIDRs to ask for, at most a whole ENI's: tryAssignIPs, getPrefixesNeeded."""
    target = target_state(pool)
    if not pool.settings.prefix_delegation:
        return min(target.short, pool.slots) if target.enabled else pool.slots
    lacking = pool.settings.warm_prefix_target - pool.free_prefixes
    return min(max(1, target.short if target.enabled else lacking), pool.slots)


def has_room(pool: Pool, *, trunk_awaited: bool) -> Check:
    """hasRoomForEni: a slot is kept for the trunk ENI until it is there."""
    room = pool.max_enis - pool.unmanaged - trunk_awaited
    words = f"ENIs {pool.enis} < maxENI {pool.max_enis} - unmanaged {pool.unmanaged}"
    words += " - 1 for the trunk" if trunk_awaited else ""
    return Check("hasRoomForEni", pool.enis < room, words)


def may_free_eni(pool: Pool, *, freeable: bool) -> Check:
    """shouldRemoveExtraENIs; ``freeable``: the store has an ENI without pods to look at."""
    name, env, have = "shouldRemoveExtraENIs", pool.settings, pool.stats.available
    if ip_targets_defined(env):
        return Check(name, True, "with IP targets each ENI is looked at")
    target = env.warm_prefix_target if env.prefix_delegation else env.warm_eni_target
    kind, threshold = "PREFIX" if env.prefix_delegation else "ENI", (target + 1) * pool.ips_per_eni
    words = f"available {have} >= (WARM_{kind}_TARGET {target} + 1) × {pool.ips_per_eni}"
    if have < threshold and env.prefix_delegation:
        return Check(name, freeable, f"not {words}, but an ENI without pods exists: {freeable}")
    return Check(name, have >= threshold, words)


def subnet_full(code: str) -> bool:
    """Whether EC2's answer means that the subnet has no more to give (a pause of 120 s)."""
    return code in ("InsufficientCidrBlocks", "InsufficientFreeAddressesInSubnet")


def eni_full(code: str) -> bool:
    """Whether EC2's answer means that the ENI has more than the store knows."""
    return code == "PrivateIpAddressLimitExceeded"


def within(name: str, now: float, then: float | None, limit_s: int, what: str) -> Check:
    """Whether something happened no longer than ``limit_s`` ago; the comparison is <=."""
    if then is None:
        return Check(name, False, f"no {what} so far")
    since = now - then
    return Check(name, since <= limit_s, f"{since:.1f} s since the last {what} <= {limit_s} s")


def paused(now: float, last_full: float | None) -> Check:
    """inInsufficientCidrCoolingPeriod: for 120 s after a subnet was full."""
    name = "inInsufficientCidrCoolingPeriod"
    return within(name, now, last_full, SUBNET_FULL_PAUSE_S, "full subnet")


def recently_freed(
    now: float, freed: Mapping[IPv4Network, float], cidr: IPv4Network
) -> tuple[bool, bool]:
    """RecentlyFreed: whether a CIDR is in the cache of those given back, and still fresh."""
    return cidr in freed, cidr in freed and now - freed[cidr] < RECONCILE_COOLDOWN_S


def similar(store: Collection[IPv4Network], seen: Collection[IPv4Network]) -> bool:
    """IPsSimilar: whether store and metadata name the same CIDRs, primary addresses left out."""
    return len(store) == len(seen) and set(store) == set(seen)


def _other_cluster(tags: Mapping[str, str], cluster: str) -> bool:
    """Whether a subnet is reserved to clusters that aren't this one."""
    reserved = [tag for tag in tags if tag.startswith(CLUSTER_TAGS)]
    return bool(cluster and reserved) and CLUSTER_TAGS + cluster not in reserved


def subnet_usable(tags: Mapping[str, str], *, primary: bool, cluster: str) -> bool:
    """isSubnetValidForENICreation: untagged, only the primary ENI's own subnet is."""
    if not tags.get(SUBNET_TAG):
        return primary
    return tags[SUBNET_TAG] != "0" and not _other_cluster(tags, cluster)


def subnet_excluded(tags: Mapping[str, str] | None, cluster: str) -> bool:
    """IsSubnetExcluded: whether an ENI of this subnet gives no pod addresses."""
    if not tags or not tags.get(SUBNET_TAG):
        return False
    return tags[SUBNET_TAG] == "0" or _other_cluster(tags, cluster)


def unmanaged(
    tags: Mapping[str, Mapping[str, str]], *, primary: str, instance: str, manage_untagged: bool
) -> set[str]:
    """setUnmanagedENIs: which ENIs, of those in ``tags``, ipamd leaves alone."""
    left = set()
    for eni_id, mine in tags.items():
        if NO_MANAGE_TAG in mine:
            leave = mine[NO_MANAGE_TAG] == "true"
        else:
            leave = not manage_untagged and mine.get(INSTANCE_TAG) != instance
        if leave and eni_id != primary:
            left.add(eni_id)
    return left


def eni_tags(instance: str, cluster: str, additional: Mapping[str, str]) -> dict[str, str]:
    """buildENITags: what every ENI that ipamd manages carries."""
    tags = {INSTANCE_TAG: instance}
    if cluster:
        tags |= {"cluster.k8s.amazonaws.com/name": cluster, "eks:eni:owner": "amazon-vpc-cni"}
    return tags | dict(additional)


@dataclass(frozen=True, slots=True, kw_only=True)
class EniConfig:
    """Custom networking's object: where a node's new ENIs go, and their security groups."""

    name: str
    subnet: str
    security_groups: tuple[str, ...] = ()


def read_eniconfig(manifest: Node) -> EniConfig:
    """The ENIConfig of one manifest."""
    groups = manifest.items("spec", "securityGroups")
    return EniConfig(name=manifest.text("metadata", "name"), subnet=manifest.text("spec", "subnet"),
                     security_groups=tuple(one.expect(str) for one in groups))  # fmt: skip


def eniconfig_for(
    configs: Iterable[EniConfig], *, labels: Mapping[str, str], annotations: Mapping[str, str],
    label_key: str = "k8s.amazonaws.com/eniConfig",
    annotation_key: str = "k8s.amazonaws.com/eniConfig",
) -> EniConfig:  # fmt: skip
    """MyENIConfig: the node's ENIConfig by label or annotation, else the one called default."""
    places = (
        (labels, EXTERNAL_ENICONFIG_LABEL), (annotations, annotation_key), (labels, label_key),
    )  # fmt: skip
    name = next((where[key] for where, key in places if key in where), "default")
    for config in configs:
        if config.name == name:
            return config
    raise EkslearnError("eniconfig: eniconfig is not available")
