"""ipamd's store, EC2's truth and the kernel are three: each pair disagrees, and is mended."""

from __future__ import annotations

from dataclasses import replace as _replace
from itertools import pairwise
from typing import Any

import pytest

from ekslearn.cni.names import host_veth
from ekslearn.vpc.instance import instance_type
from ekslearn.vpc.model import Eni
from tests.cni.node import Node
from tests.cni.test_awsutils import failing


def started(**env: Any) -> Node:
    node = Node(instance_type("m5.large"), env)
    node.ipamd.start()
    node.schedule("a", "b", "c")
    node.settle(quiet=15)
    return node


def minute(node: Node) -> None:
    """Long enough for a reconcile."""
    node.tick(14)


def agree(node: Node) -> None:
    """Store, EC2 and kernel say the same."""
    machine = node.ec2.instances[node.primary.instance]
    assert {
        eni.eni_id: sorted(map(str, [*eni.secondary, *eni.prefixes])) for eni in machine.enis
    } == {
        eni.eni_id: sorted(
            str(cidr.network if cidr.prefix else cidr.network[0]) for cidr in eni.cidrs.values()
        )
        for eni in node.store.enis.values()
    }
    others = {eni.eni_id for eni in machine.enis} - {node.primary.eni_id}
    assert node.kernel.links.keys() == others
    assert all(node.kernel.links[eni] == node.store.eni(eni).table for eni in others)


def did(node: Node) -> str:
    return " ".join(words for each in node.ipamd.decisions for words in each.did)


# The store against EC2


def test_an_address_taken_away_behind_its_back() -> None:
    """Somebody unassigns a pod's address by hand: within a minute the store knows."""
    node = started()
    taken = node.running["a"].ip
    eni = node.ec2.vpc.owner(taken)
    assert eni is not None
    node.ec2.unassign_private_ip_addresses(eni.eni_id, [taken])
    minute(node)
    assert f"hasn't {taken}/32 any more" in did(node)
    node.settle(quiet=5)
    agree(node)
    assert node.store.assigned == 2


def test_an_address_added_behind_its_back() -> None:
    node = started(WARM_IP_TARGET=1)
    (more,) = node.ec2.assign_private_ip_addresses(node.primary.eni_id, count=1)
    node.ipamd.reconcile()
    agree(node)
    assert f"{more}/32" in str(node.addresses())


def test_a_prefix_taken_away_behind_its_back() -> None:
    node = started(ENABLE_PREFIX_DELEGATION="true", WARM_PREFIX_TARGET=1)
    node.ec2.unassign_private_ip_addresses(node.primary.eni_id, (), node.primary.prefixes[:1])
    minute(node)
    node.settle(quiet=5)
    agree(node)


def test_stale_metadata_takes_nothing_away() -> None:
    """The metadata lacks an address that EC2 still has: ipamd asks EC2, and believes it."""
    node = started()
    stale = _copy(node.primary)
    stale.secondary = stale.secondary[1:]
    others = node.ec2.instances[node.primary.instance].enis[1:]
    node.ipamd.client.metadata = lambda: [stale, *others]  # type: ignore[method-assign]
    before = node.addresses()
    since = len(node.ec2.calls)
    node.ipamd.reconcile()
    assert node.addresses() == before
    assert node.calls(since) == ["DescribeNetworkInterfaces"]


def test_what_was_given_back_isnt_taken_in_for_a_minute() -> None:
    """The metadata still shows an address returned to EC2; after a minute EC2 is asked."""
    node = started(WARM_IP_TARGET=1)
    old = [_copy(eni) for eni in node.ec2.instances[node.primary.instance].enis]
    node.delete("a")
    node.tick()
    (gone,) = node.ipamd.freed
    node.ipamd.client.metadata = lambda: old  # type: ignore[method-assign]
    describe = node.ec2.describe_network_interfaces
    node.ec2.describe_network_interfaces = (  # type: ignore[method-assign]
        lambda eni_ids, **rest: describe(eni_ids, **rest) and [
            eni for eni in old if eni.eni_id in eni_ids
        ]
    )  # fmt: skip
    node.ipamd.reconcile()
    assert str(gone) not in str(node.addresses())
    node.kernel.now += 60
    node.ec2.describe_network_interfaces = describe  # type: ignore[method-assign]
    node.ipamd.reconcile()
    assert str(gone) not in str(node.addresses())  # EC2 says that it is gone
    node.ec2.assign_private_ip_addresses(node.primary.eni_id, addresses=[gone[0]])
    node.ipamd.reconcile()
    assert str(gone) in str(node.addresses())
    assert node.ipamd.freed == {}


@pytest.mark.parametrize("truly", [True, False], ids=["there", "gone"])
def test_what_was_given_back_and_is_there_again(truly: bool) -> None:
    """Store and metadata agree on it: a minute later EC2 is asked all the same, and believed."""
    node = started(WARM_IP_TARGET=1)
    node.delete("a")
    node.tick()
    (back,) = node.ipamd.freed
    eni = node.primary
    node.ec2.assign_private_ip_addresses(eni.eni_id, addresses=[back[0]])
    node.store.add_cidr(eni.eni_id, back, prefix=False)
    stale = [_copy(each) for each in node.ec2.instances[eni.instance].enis]
    node.ipamd.client.metadata = lambda: stale  # type: ignore[method-assign]
    if not truly:
        node.ec2.unassign_private_ip_addresses(eni.eni_id, [back[0]])
    node.kernel.now += 60
    for asked in (["DescribeNetworkInterfaces"], [] if truly else ["DescribeNetworkInterfaces"]):
        since = len(node.ec2.calls)
        node.ipamd.reconcile()
        assert node.calls(since) == asked
        assert (back in node.store.eni(eni.eni_id).cidrs) is truly
        assert (back in node.ipamd.freed) is not truly


def _copy(eni: Eni) -> Eni:
    return _replace(eni, secondary=list(eni.secondary), prefixes=list(eni.prefixes))


# EC2 against the kernel


def test_an_eni_attached_behind_its_back() -> None:
    """EC2 has it, neither the store nor the kernel's tables do: it is tagged and set up."""
    node = started(WARM_IP_TARGET=1)
    eni = node.ec2.create_network_interface(node.subnet, secondary_count=2)
    node.ec2.attach_network_interface(eni.eni_id, node.primary.instance, 1)
    assert eni.eni_id not in node.kernel.links
    node.ipamd.reconcile()
    agree(node)
    assert eni.tags == {"node.k8s.amazonaws.com/instance_id": node.primary.instance}


def test_an_eni_that_was_seen_too_late() -> None:
    """Growth fails as the metadata doesn't show the new ENI in time; reconcile takes it in."""
    node = Node(instance_type("m5.large"), {"WARM_ENI_TARGET": 1})
    node.ipamd.start()
    true = node.ipamd.client.metadata
    node.ipamd.client.metadata = lambda: true()[:1]  # type: ignore[method-assign]
    node.schedule("a")
    node.tick()
    assert "no new ENI: waitForENIAndIPsAttached: giving up" in did(node)
    assert (len(node.store.enis), len(node.ec2.vpc.enis)) == (1, 2)
    node.ipamd.client.metadata = true  # type: ignore[method-assign]
    node.ipamd.reconcile()
    agree(node)
    assert len(node.store.enis) == 2


def test_an_eni_whose_link_isnt_there() -> None:
    """The kernel lacks the link: the ENI leaves the store again, until the link appears."""
    node = Node(instance_type("m5.large"), {"WARM_ENI_TARGET": 1})
    node.ipamd.start()
    node.kernel.broken = True
    node.schedule("a")
    node.tick()
    assert "no new ENI: failed to find the link which uses MAC address" in did(node)
    assert (len(node.store.enis), len(node.ec2.vpc.enis)) == (1, 2)
    node.kernel.broken = False
    node.ipamd.reconcile()
    agree(node)


def test_an_eni_detached_behind_its_back() -> None:
    """Its pods lose their addresses; rules and routes are nobody's business (facts 3.13)."""
    node = started(WARM_ENI_TARGET=1)
    eni = node.ec2.instances[node.primary.instance].enis[1]
    node.ec2.detach_network_interface(eni.attachment_id)
    del node.kernel.links[eni.eni_id]  # the link goes with the attachment
    told = list(node.kernel.told)
    minute(node)
    assert f"{eni.eni_id} is attached no more" in did(node)
    assert node.kernel.told == told
    node.settle(quiet=5)
    agree(node)


# The store against the kernel


def test_pods_that_went_while_ipamd_was_down() -> None:
    """DEL found no ipamd: the checkpoint still has them, their veths are gone; a start mends it."""
    node = started()
    node.kernel.pods = {host_veth("default", "a")}
    saved = node.ipamd.checkpoint()
    gone = {str(node.running[name].ip) for name in "bc"}
    node.ipamd = node.new_ipamd()
    node.ipamd.start(saved)
    assert node.store.assigned == 1
    assert {ip for what, ip in node.kernel.told if what == "forget_pod"} == gone
    assert node.store.stats().cooldown_ips == 0  # a new start forgets the cooldowns
    agree(node)


def test_an_eni_the_kernel_has_and_a_new_store_hasnt() -> None:
    node = started(WARM_ENI_TARGET=1)
    before = node.addresses()
    node.ipamd = node.new_ipamd()
    assert node.addresses() == []
    node.ipamd.start()
    assert sorted(map(sorted, node.addresses())) == sorted(map(sorted, before))
    agree(node)


def test_a_reconcile_that_ec2_refuses_is_given_up() -> None:
    node = started(WARM_IP_TARGET=1)
    eni = node.ec2.create_network_interface(node.subnet)
    node.ec2.attach_network_interface(eni.eni_id, node.primary.instance, 1)
    failing(node, "DescribeNetworkInterfaces", "InternalError", times=1)
    node.until(lambda: "reconcile is given up: InternalError" in did(node))
    assert eni.eni_id not in node.store.enis
    node.tick()
    agree(node)


def test_a_subnet_nobody_can_describe_excludes_nothing() -> None:
    node = Node(instance_type("m5.large"), {})
    failing(node, "DescribeSubnets", "InternalError", times=1)
    node.ipamd.start()
    assert f"{node.primary.eni_id} counts as not excluded: InternalError" in did(node)
    assert node.store.stats().total_ips == 9


def test_reconcile_waits_a_minute_after_an_action() -> None:
    node = Node(instance_type("m5.large"), {"WARM_ENI_TARGET": 1})
    node.ipamd.start()
    acted = node.kernel.now
    node.until(lambda: node.ipamd.decisions[-1].step == "reconcile")
    assert 60 < node.ipamd.decisions[-1].time - acted <= 65
    assert node.ipamd.decisions[-1].calls == ()  # nothing differs: EC2 isn't asked
    node.tick(20)
    times = [each.time for each in node.ipamd.decisions if each.step == "reconcile"]
    assert [60 < later - earlier <= 65 for earlier, later in pairwise(times)] == [True]


def test_no_eni_listed_is_no_news() -> None:
    node = started()
    node.ipamd.client.metadata = list  # type: ignore[method-assign]
    before = node.addresses()
    node.until(lambda: "lists no ENI: nothing is reconciled" in did(node))
    assert node.addresses() == before


@pytest.mark.parametrize("seed", range(5))
def test_whatever_was_done_by_hand_a_minute_mends_it(seed: int) -> None:
    node = Node(
        instance_type("m5.xlarge"), {"WARM_IP_TARGET": 3, "MINIMUM_IP_TARGET": 8}, seed=seed
    )
    node.ipamd.start()
    dice = node.dice
    for turn in range(12):
        node.schedule(f"pod-{turn}", f"more-{turn}")
        enis = node.ec2.instances[node.primary.instance].enis
        eni = dice.choice(enis)
        deed = dice.randrange(4)
        if deed == 0 and eni.secondary:
            node.ec2.unassign_private_ip_addresses(eni.eni_id, [dice.choice(eni.secondary)])
        elif deed == 1 and eni.slots_used < node.kind.ipv4_per_eni:
            node.ec2.assign_private_ip_addresses(eni.eni_id, count=1)
        elif deed == 2 and eni is not node.primary:
            node.ec2.detach_network_interface(eni.attachment_id)
            node.kernel.links.pop(eni.eni_id, None)
        node.tick(2)
    node.settle(quiet=30)
    agree(node)
