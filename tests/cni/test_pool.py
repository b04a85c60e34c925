"""The decisions: what they say is what they did, and can be worked out again from their words."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from itertools import product

import pytest

from ekslearn.cni.settings import Settings
from ekslearn.errors import EkslearnError
from ekslearn.ipamd import pool
from ekslearn.ipamd.datastore import IPS_PER_PREFIX, Stats, div_ceil
from ekslearn.ipamd.pool import Pool


def looked_at(
    total: int, assigned: int, *, prefixes: int = 0, free: int = 0, max_pods: int = 500, **env: int
) -> Pool:
    delegation = bool(prefixes)
    return Pool(
        stats=Stats(total, assigned, 0, prefixes),
        settings=Settings(prefix_delegation=delegation, **env),
        ips_per_eni=144 if delegation else 9,
        prefixes_per_eni=9 if delegation else 0,
        max_enis=3,
        max_pods=max_pods,
        enis=1,
        free_prefixes=free,
    )


@pytest.mark.parametrize(
    ("total", "assigned", "warm"), list(product((0, 9, 18), (0, 1, 9), (0, 1, 2)))
)
def test_the_words_of_too_low_give_its_answer(total: int, assigned: int, warm: int) -> None:
    """Compare the numbers in the words again: the answer is the same."""
    if assigned > total:
        return
    check = pool.too_low(looked_at(total, assigned, warm_eni_target=warm))[-1]
    have, unit, target = map(int, re.findall(r"\d+", check.words)[:3])
    assert (have, unit, target) == (total - assigned, 9, warm)
    assert check.holds == (have < unit * target or (target == 0 and have == 0))


def test_every_number_has_its_real_name() -> None:
    numbers = looked_at(16, 3, prefixes=1, warm_prefix_target=1).numbers()
    assert numbers["available"] == numbers["TotalIPs"] - numbers["AssignedIPs"] == 13
    assert {name: numbers[name] for name in ("maxIPsPerENI", "maxPrefixesPerENI", "maxENI")} == {
        "maxIPsPerENI": 144, "maxPrefixesPerENI": 9, "maxENI": 3,
    }  # fmt: skip
    assert numbers["WARM_PREFIX_TARGET"] == 1


def test_max_pods_stops_growth() -> None:
    low = pool.too_low(looked_at(29, 29, max_pods=29, warm_eni_target=1))
    assert [check.holds for check in low] == [False]
    assert low[0].words == "TotalIPs 29 >= maxPods 29"


def test_ip_targets_replace_the_others() -> None:
    both = looked_at(9, 0, warm_eni_target=9, warm_ip_target=2)
    assert not pool.too_low(both)[-1].holds
    assert pool.too_high(both).holds
    assert pool.surplus(both) == 7
    assert not pool.too_high(looked_at(18, 0, warm_eni_target=0)).holds  # never addresses alone


@pytest.mark.parametrize("assigned", range(0, 49, 3))
@pytest.mark.parametrize("warm", [1, 5, 16, 17])
@pytest.mark.parametrize("least", [0, 10, 33])
def test_prefixes_short_and_over(assigned: int, warm: int, least: int) -> None:
    """Short enough prefixes bring the targets; giving back what is over keeps them."""
    prefixes = div_ceil(assigned, IPS_PER_PREFIX) + 1
    total, free = prefixes * IPS_PER_PREFIX, 1
    state = pool.target_state(
        looked_at(total, assigned, prefixes=prefixes, free=free, warm_ip_target=warm,
                  minimum_ip_target=least)
    )  # fmt: skip
    grown = total + state.short * IPS_PER_PREFIX
    assert grown - assigned >= warm
    assert grown >= least
    shrunk = total - state.over * IPS_PER_PREFIX
    assert state.over in (0, 1)
    assert not state.over or (shrunk - assigned >= warm and shrunk >= least and not state.short)


def test_fifteen_spare_addresses_can_need_both_prefixes() -> None:
    """One pod and WARM_IP_TARGET 16: 31 are free, yet 17 addresses need two prefixes."""
    state = pool.target_state(looked_at(32, 1, prefixes=2, free=1, warm_ip_target=16))
    assert (state.short, state.over) == (0, 0)


def test_what_is_asked_for() -> None:
    assert pool.wanted(looked_at(0, 0, warm_eni_target=5)) == 9  # a whole ENI, never more
    assert pool.wanted(looked_at(9, 9, warm_ip_target=3)) == 3
    assert pool.wanted(looked_at(9, 9, warm_ip_target=30)) == 9
    assert pool.wanted(looked_at(9, 0, warm_ip_target=3)) == 0
    assert pool.wanted(looked_at(16, 1, prefixes=1, free=0, warm_prefix_target=3)) == 3
    assert pool.wanted(looked_at(16, 1, prefixes=1, free=5, warm_prefix_target=3)) == 1


def test_when_an_eni_may_go() -> None:
    """With WARM_ENI_TARGET one ENI more than the target must be free."""
    assert not pool.may_free_eni(looked_at(27, 10, warm_eni_target=1), freeable=True).holds
    assert pool.may_free_eni(looked_at(27, 9, warm_eni_target=1), freeable=True).holds
    assert pool.may_free_eni(looked_at(9, 9, warm_ip_target=1), freeable=False).holds
    few = looked_at(32, 0, prefixes=2, free=2, warm_prefix_target=1)
    assert pool.may_free_eni(few, freeable=True).holds
    assert not pool.may_free_eni(few, freeable=False).holds
    many = looked_at(288, 0, prefixes=18, free=18, warm_prefix_target=1)
    assert pool.may_free_eni(many, freeable=False).holds  # 288 is twice an ENI's 144


def test_room_for_an_eni() -> None:
    assert pool.has_room(looked_at(9, 0), trunk_awaited=False).holds
    words = pool.has_room(looked_at(9, 0), trunk_awaited=True).words
    assert words == "ENIs 1 < maxENI 3 - unmanaged 0 - 1 for the trunk"


def test_the_pause_after_a_full_subnet() -> None:
    assert not pool.paused(500, None).holds
    assert pool.paused(120, 0).holds  # <=
    assert not pool.paused(120.001, 0).holds


def test_what_was_given_back_is_fresh_for_a_minute() -> None:
    cidr = IPv4Network("10.0.0.5")
    assert pool.recently_freed(0, {}, cidr) == (False, False)
    assert pool.recently_freed(59.9, {cidr: 0}, cidr) == (True, True)
    assert pool.recently_freed(60, {cidr: 0}, cidr) == (True, False)


def test_the_external_label_comes_before_everything() -> None:
    configs = [pool.EniConfig(name=name, subnet=name) for name in ("a", "b", "c", "default")]
    key = "k8s.amazonaws.com/eniConfig"
    external = {"vpc.amazonaws.com/externalEniConfig": "c"}
    labels, annotations = {key: "a"}, {key: "b"}
    chosen = pool.eniconfig_for(configs, labels=labels | external, annotations=annotations)
    assert chosen.name == "c"
    assert pool.eniconfig_for(configs, labels=labels, annotations=annotations).name == "b"
    assert pool.eniconfig_for(configs, labels=labels, annotations={}).name == "a"
    assert pool.eniconfig_for(configs, labels={}, annotations={}).name == "default"
    with pytest.raises(EkslearnError, match="eniconfig is not available"):
        pool.eniconfig_for(configs[:3], labels={}, annotations={})


def test_a_subnet_of_another_cluster() -> None:
    ours, theirs = (pool.CLUSTER_TAGS + name for name in ("ours", "theirs"))
    tagged = {pool.SUBNET_TAG: "1"}
    for tags, cluster, usable in (
        (tagged, "ours", True), ({**tagged, theirs: ""}, "ours", False),
        ({**tagged, theirs: ""}, "", True), ({**tagged, theirs: "", ours: ""}, "ours", True),
    ):  # fmt: skip
        assert pool.subnet_usable(tags, primary=False, cluster=cluster) is usable
        assert pool.subnet_excluded(tags, cluster) is not usable
