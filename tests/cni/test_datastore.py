"""ipamd's store by itself: who gets which address, and what is kept of it."""

from __future__ import annotations

from ipaddress import IPv4Network
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekslearn.cni.names import host_veth
from ekslearn.ipamd.datastore import DataStore, PodKey, StoredEni, StoreError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(
    *enis: list[str], prefixes: bool = False, seed: int = 0, cooldown_s: float = 30
) -> DataStore:
    """A store whose ENIs, the primary first, have these CIDRs."""
    store = DataStore(
        clock=Clock(), dice=Random(seed), prefix_delegation=prefixes, cooldown_s=cooldown_s
    )
    for device, cidrs in enumerate(enis):
        store.add_eni(StoredEni(eni_id=f"eni-{device}", device=device, primary=not device))
        for cidr in cidrs:
            network = IPv4Network(cidr)
            store.add_cidr(f"eni-{device}", network, prefix=network.prefixlen < 32)
    return store


def clock(store: DataStore) -> Clock:
    assert isinstance(store._clock, Clock)
    return store._clock


def key(name: str) -> PodKey:
    return PodKey("aws-cni", name, "eth0")


def give(store: DataStore, name: str) -> str:
    return str(store.assign(key(name), "default", name).info.address)


def test_pods_spread_over_the_enis_as_the_dice_fall() -> None:
    """Neither the primary ENI comes first nor a fuller one."""
    enis = [f"10.0.{device}.{host}" for device in range(3) for host in range(9)]
    three = [enis[:9], enis[9:18], enis[18:]]
    first = {give(made(*three, seed=seed), "pod") for seed in range(200)}
    assert len(first) > 20
    store = made(*three)
    assert len({give(store, f"pod-{number}") for number in range(27)}) == 27
    with pytest.raises(StoreError, match="no available IP/Prefix addresses"):
        give(store, "one-more")


def test_a_prefix_is_filled_from_its_base_and_loses_nothing() -> None:
    store = made(["10.0.1.16/28"], prefixes=True)
    given = [give(store, f"pod-{number}") for number in range(16)]
    assert given == [f"10.0.1.{host}" for host in range(16, 32)]


def test_a_cooling_address_is_available_and_not_given() -> None:
    store = made(["10.0.0.5"])
    give(store, "first")
    clock(store).now = 100
    store.unassign(key("first"))
    clock(store).now = 130  # the comparison is <=
    assert store.stats()[:3] == (1, 0, 1)
    assert store.stats().available == 1
    with pytest.raises(StoreError):
        give(store, "second")
    clock(store).now = 130.001
    assert give(store, "second") == "10.0.0.5"


def test_a_cooled_address_comes_before_a_new_one() -> None:
    """In a prefix; so the same address comes back as soon as it may."""
    store = made(["10.0.1.16/28"], prefixes=True)
    assert [give(store, name) for name in "abc"] == ["10.0.1.16", "10.0.1.17", "10.0.1.18"]
    store.unassign(key("b"))
    assert give(store, "d") == "10.0.1.19"
    clock(store).now = 31
    assert give(store, "e") == "10.0.1.17"
    assert give(store, "f") == "10.0.1.20"


def test_a_fresh_record_has_no_time_of_an_earlier_pod() -> None:
    store = made(["10.0.0.5"])
    give(store, "first")
    store.unassign(key("first"))
    clock(store).now = 31
    give(store, "second")
    shown = store.introspect()["ENIs"]["eni-0"]["AvailableIPv4Cidrs"]["10.0.0.5/32"]
    assert shown["IPAddresses"]["10.0.0.5"]["UnassignedTime"] == "0001-01-01T00:00:00Z"
    assert shown["IPAddresses"]["10.0.0.5"]["AssignedTime"] == "1970-01-01T00:00:31Z"


def test_only_the_mode_in_force_serves() -> None:
    store = made(["10.0.0.5", "10.0.1.16/28"])
    assert (store.total, store.stats().total_ips, store.stats().total_prefixes) == (17, 1, 1)
    assert give(store, "a") == "10.0.0.5"
    store.prefix_delegation = True
    assert give(store, "b") == "10.0.1.16"
    assert (store.stats().total_ips, store.stats().assigned_ips, store.assigned) == (16, 1, 2)


def test_an_excluded_eni_gives_nothing_and_counts_for_nothing() -> None:
    store = made(["10.0.0.5"], ["10.0.0.6"])
    store.eni("eni-0").excluded = True
    assert give(store, "a") == "10.0.0.6"
    assert store.stats()[:2] == (1, 1)
    assert store.allocatable_enis(5, skip_primary=False) == [store.eni("eni-1")]
    assert store.total == 2  # the raw counter, which /v1/enis shows, has both


def test_a_disk_that_fails_undoes_the_change() -> None:
    store = made(["10.0.0.5"])

    def fail() -> None:
        raise StoreError("no space left on device")

    store.save = fail
    with pytest.raises(StoreError, match="no space left"):
        give(store, "a")
    assert store.assigned == 0
    store.save = lambda: None
    give(store, "a")
    store.save = fail
    with pytest.raises(StoreError, match="no space left"):
        store.unassign(key("a"))
    assert store.assigned == 1
    store.del_cidr("eni-0", IPv4Network("10.0.0.5"), force=True)  # what is forced stands anyway
    assert store.assigned == 0


def test_removing_by_force_counts_twice_as_ipamd_does() -> None:
    """A known slip of the real one (RemoveENIFromDataStore), which /v1/enis shows."""
    store = made(["10.0.0.5"], ["10.0.0.6", "10.0.0.7"])
    for name in "abc":
        give(store, name)
    with pytest.raises(StoreError, match="ENI is used"):
        store.remove_eni("eni-1")
    store.remove_eni("eni-1", force=True)
    assert (store.total, store.assigned, store.stats().total_ips) == (-1, 1, 1)


def test_an_eni_that_might_go() -> None:
    store = made(["10.0.0.5"], ["10.0.0.6"])
    assert store.freeable_eni_exists()
    while not store.eni("eni-1").pods:
        give(store, f"pod-{store.assigned}")
    assert not store.freeable_eni_exists()
    store.unassign(key(f"pod-{store.assigned - 1}"))
    other = store.eni("eni-1")
    assert store.freeable_eni_exists() is (other.pods == 0)
    other.efa = True
    assert not store.freeable_eni_exists()
    assert not made(["10.0.0.5"]).freeable_eni_exists()


def test_what_keeps_an_eni_in_the_order_it_is_tested() -> None:
    store = made(["10.0.0.5", "10.0.0.6"], ["10.0.0.8", "10.0.0.9"])
    primary, other = store.eni("eni-0"), store.eni("eni-1")
    assert store.why_kept(primary, 0, 0, 0) == "it is the primary ENI"
    clock(store).now = 59.9
    assert store.why_kept(other, 0, 0, 0) == "in the store for 59.9 s < 60 s"
    clock(store).now = 60
    assert store.why_kept(other, 0, 0, 0) == ""
    assert "the others' 2 unassigned addresses < WARM_IP_TARGET 3" in store.why_kept(other, 3, 9, 0)
    assert "the others' 2 addresses < MINIMUM_IP_TARGET 3" in store.why_kept(other, 2, 3, 0)
    assert store.why_kept(other, 2, 2, 9) == ""  # WARM_PREFIX_TARGET means nothing here
    while store.eni("eni-1").pods == 0:
        give(store, f"pod-{store.assigned}")
    name = next(held.info.key for held in store.allocations() if held.eni is other)
    assert store.why_kept(other, 0, 0, 0) == "it has 1 pods"
    assert name is not None
    store.unassign(name)
    assert store.why_kept(other, 0, 0, 0) == "it has a cooling address"
    clock(store).now = 91
    other.trunk = True
    assert store.why_kept(other, 0, 0, 0) == "it is the trunk ENI"
    other.trunk, other.efa = False, True
    assert store.why_kept(other, 0, 0, 0) == "it is an EFA"


def test_targets_are_rounded_up_to_prefixes() -> None:
    store = made(["10.0.1.0/28"], ["10.0.1.16/28"], prefixes=True)
    clock(store).now = 60
    assert store.why_kept(store.eni("eni-1"), 16, 16, 1) == ""
    assert "WARM_IP_TARGET 32" in store.why_kept(store.eni("eni-1"), 17, 0, 0)
    assert "MINIMUM_IP_TARGET 32" in store.why_kept(store.eni("eni-1"), 0, 17, 0)
    assert "1 free CIDRs < WARM_PREFIX_TARGET" in store.why_kept(store.eni("eni-1"), 0, 0, 2)


def test_a_checkpoint_is_read_back() -> None:
    store = made(["10.0.0.5", "10.0.0.6"], ["10.0.1.16/28"])
    clock(store).now = 7.5
    for name in ("a", "b"):
        give(store, name)
    store.prefix_delegation = True
    give(store, "c")
    store.unassign(key("b"))
    saved = store.checkpoint()
    again = made(["10.0.0.5", "10.0.0.6"], ["10.0.1.16/28"], prefixes=True)
    links = ["eth0", "eni" + "0" * 11]  # the veths of no pod
    assert set(again.restore(saved, links)) == {"10.0.1.16", *_addresses(saved)}
    assert again.assigned == 0
    links = [host_veth("default", name) for name in ("a", "c")]
    assert again.restore(saved, links) == {}
    assert again.checkpoint() == saved
    assert saved["allocations"][0]["allocationTimestamp"] == 7_500_000_000


def _addresses(saved: dict[str, list[dict[str, str]]]) -> set[str]:
    return {entry["ipv4"] for entry in saved["allocations"]}


def test_a_checkpoint_of_another_version_is_refused() -> None:
    with pytest.raises(StoreError, match="unknown backing store version"):
        made(["10.0.0.5"]).restore({"version": "vpc-cni-ipam/2", "allocations": []}, [])


def test_a_prefix_is_shown_as_go_prints_it() -> None:
    store = made(["10.0.0.5", "10.0.1.16/28"])
    cidrs = store.introspect()["ENIs"]["eni-0"]["AvailableIPv4Cidrs"]
    assert cidrs["10.0.1.16/28"]["Cidr"] == {"IP": "10.0.1.16", "Mask": "////8A=="}
    assert cidrs["10.0.0.5/32"]["Cidr"] == {"IP": "10.0.0.5", "Mask": "/////w=="}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("adt"), st.integers(0, 39)), max_size=120), st.booleans())
def test_no_address_twice_and_the_counts_hold(steps: list[tuple[str, int]], prefixes: bool) -> None:
    """Whatever comes and goes: assigned, cooling and free are all there is."""
    cidrs = ["10.0.1.0/28"] if prefixes else [f"10.0.0.{host}" for host in range(5, 15)]
    more = ["10.0.1.16/28"] if prefixes else [f"10.0.0.{host}" for host in range(20, 30)]
    store = made(cidrs, more, prefixes=prefixes)
    pods: dict[str, str] = {}
    for act, number in steps:
        name = f"pod-{number}"
        if act == "a" and name not in pods:
            try:
                address = give(store, name)
            except StoreError:
                assert store.stats().available == store.stats().cooldown_ips
                continue
            assert address not in pods.values()
            pods[name] = address
        elif act == "d" and name in pods:
            assert str(store.unassign(key(name)).info.address) == pods.pop(name)
        elif act == "t":
            clock(store).now += number
        stats = store.stats()
        assert (stats.assigned_ips, stats.total_ips) == (len(pods), 32 if prefixes else 20)
        assert stats.assigned_ips + stats.cooldown_ips <= stats.total_ips == store.total
