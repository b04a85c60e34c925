"""The daemon: its loop, growth and shrinking, what stops it, what a pod without an address sees."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ekslearn.cni.names import host_veth
from ekslearn.cni.settings import parse
from ekslearn.errors import EkslearnError
from ekslearn.ipamd.daemon import Decision, NoAddress
from ekslearn.ipamd.datastore import StoreError
from ekslearn.ipamd.pool import SUBNET_TAG, EniConfig
from ekslearn.vpc.instance import instance_type
from ekslearn.vpc.model import Vpc
from ekslearn.vpc.subnet import Subnet
from tests.cni.node import Node
from tests.cni.test_awsutils import failing

ASSIGN = "AssignPrivateIpAddresses"


def started(kind: str = "m5.large", *subnets: Subnet, **env: Any) -> Node:
    vpc = Vpc(["10.0.0.0/16"], subnets) if subnets else None
    node = Node(instance_type(kind), env, vpc=vpc)
    node.ipamd.start()
    return node


def names(count: int, prefix: str = "pod") -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


def last(node: Node, step: str = "pool") -> Decision:
    return next(each for each in reversed(node.ipamd.decisions) if each.step == step)


def said(decision: Decision, name: str) -> list[tuple[bool, str]]:
    return [(check.holds, check.words) for check in decision.checks if check.name == name]


# The loop


def test_a_turn_takes_five_seconds_and_what_ec2_takes() -> None:
    node = started(WARM_ENI_TARGET=1)
    began = node.kernel.now
    node.tick()
    assert node.kernel.now - began == 5
    assert (last(node).time, last(node).took_s, last(node).calls) == (began + 2.5, 0, ())
    node.schedule("one")
    began = node.kernel.now
    node.tick()
    decision = last(node)
    assert [call.name for call in decision.calls] == [
        "DescribeSubnets", "CreateNetworkInterface", "DescribeInstances", "AttachNetworkInterface",
        "ModifyNetworkInterfaceAttribute", "DescribeSubnets",
    ]  # fmt: skip
    spent = sum(call.took_s for call in decision.calls)
    assert decision.took_s == pytest.approx(spent)
    assert node.kernel.now - began == pytest.approx(5 + spent)


def test_a_decision_has_the_comparison_and_what_was_done() -> None:
    node = started(WARM_ENI_TARGET=1)
    node.schedule("one")
    node.tick()
    decision = last(node)
    assert (decision.numbers["TotalIPs"], decision.numbers["AssignedIPs"]) == (9, 1)
    assert said(decision, "isDatastorePoolTooLow")[-1] == (
        True, "available 8 < maxIPsPerENI 9 × WARM_ENI_TARGET 1",
    )  # fmt: skip
    assert said(decision, "hasRoomForEni") == [(True, "ENIs 1 < maxENI 3 - unmanaged 0")]
    assert decision.did[0].startswith("set up eni-")
    assert "device 1, table 2" in decision.did[0]
    assert decision.words.startswith(
        "TotalIPs 9 < maxPods 1000000: yes; available 8 < maxIPsPerENI"
    )
    assert " -> set up eni-" in decision.words
    assert node.kernel.links == {eni: 2 for eni in node.store.enis if eni != node.primary.eni_id}


def test_a_fresh_node_has_one_eni_and_the_first_pod_brings_the_second() -> None:
    node = started(WARM_ENI_TARGET=1)
    node.tick(20)
    assert [len(each) for each in node.addresses()] == [9]
    node.schedule("one")
    node.tick(20)
    assert [len(each) for each in node.addresses()] == [9, 9]


def test_the_same_seed_gives_the_same_story() -> None:
    def story(seed: int) -> tuple[list[Any], list[Decision]]:
        node = Node(instance_type("m5.large"), {"WARM_IP_TARGET": 2}, seed=seed)
        node.ipamd.start()
        node.schedule(*names(12))
        node.tick(10)
        node.delete(*names(6))
        node.tick(20)
        return node.addresses(), [
            (each.step, each.time, each.checks, each.did) for each in node.ipamd.decisions
        ]

    assert story(3) == story(3)
    assert story(3) != story(4)


def test_without_provisioning_nothing_is_asked_for() -> None:
    node = started(DISABLE_NETWORK_RESOURCE_PROVISIONING="true")
    assert (node.addresses(), node.calls()[1:]) == ([[]], ["DescribeNetworkInterfaces",
                                                           "DescribeSubnets"])  # fmt: skip
    began = node.kernel.now
    node.tick(4)
    assert node.kernel.now - began >= 10
    assert {each.step for each in node.ipamd.decisions} == {"start", "reconcile"}


# Growing


def test_warm_ip_target_asks_for_what_is_short() -> None:
    node = started(WARM_IP_TARGET=2)
    assert [len(each) for each in node.addresses()] == [2]
    node.schedule(*names(2))
    node.tick()
    assert [call.parameters["count"] for call in node.ec2.calls if call.name == ASSIGN] == [2, 2]


def test_growth_stops_at_the_enis_and_at_max_pods() -> None:
    node = started("t3.small", WARM_ENI_TARGET=1)
    node.schedule(*names(12))
    node.settle()
    assert (len(node.running), len(node.pending), len(node.store.enis)) == (9, 3, 3)
    assert said(last(node), "hasRoomForEni") == [(False, "ENIs 3 < maxENI 3 - unmanaged 0")]
    small = Node(instance_type("t3.small"), {"MAX_ENI": 2}, max_pods=4)
    small.ipamd.start()
    small.schedule(*names(12))
    small.settle()
    assert len(small.store.enis) == 2
    assert said(last(small), "isDatastorePoolTooLow") == [(False, "TotalIPs 6 >= maxPods 4")]


def test_a_pod_without_an_address_and_what_kubelet_says() -> None:
    """The words of kubelet's event FailedCreatePodSandBox, with containerd."""
    node = started("t3.small", WARM_ENI_TARGET=1)
    node.schedule(*names(3))
    sandbox = "0b8b83755004d7dfbe839f0db315a4775f4f41e683695f6d24d6cb8f5a1902bc"
    calls = len(node.ec2.calls)
    with pytest.raises(NoAddress) as event:
        node.ipamd.assign("default", "late", sandbox)
    assert str(event.value) == (
        "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network"
        f' for sandbox "{sandbox}": plugin type="aws-cni" name="aws-cni" failed (add): add cmd:'
        " failed to assign an IP address to container"
    )
    assert len(node.ec2.calls) == calls  # it neither waits nor asks EC2
    node.tick()
    assert node.ipamd.assign("default", "late", sandbox).table == 2


def test_the_same_sandbox_has_the_same_answer() -> None:
    node = started()
    first = node.ipamd.assign("default", "web", "abc")
    assert node.ipamd.assign("default", "web", "abc") == first
    assert node.ipamd.release("default", "web", "abc") == first
    with pytest.raises(StoreError, match="datastore: unknown pod"):
        node.ipamd.release("default", "web", "abc")


def test_a_full_subnet_means_a_pause_of_two_minutes() -> None:
    subnet = Subnet("a", "10.0.0.0/28", "us-east-1a")
    node = started("m5.large", subnet, ENABLE_SUBNET_DISCOVERY="false", WARM_ENI_TARGET=1)
    assert node.store.stats().total_ips == 9
    node.schedule("one")
    node.tick()
    failed = [call for call in last(node).calls if call.error]
    assert [call.error for call in failed] == ["InsufficientFreeAddressesInSubnet"]
    assert "nothing is asked for 120 s" in " ".join(last(node).did)
    full_at = failed[0].started + failed[0].took_s
    for _ in range(30):
        node.tick()
        pause = said(last(node), "inInsufficientCidrCoolingPeriod")
        assert pause[0][0] == (last(node).time - full_at <= 120)
        if any(call.error for call in last(node).calls):
            break
    assert last(node).time - full_at > 120


def test_a_full_subnet_with_another_one_tagged() -> None:
    """With discovery the next ENI is made in the other subnet, and there is no pause."""
    subnet = Subnet("a", "10.0.0.0/28", "us-east-1a")
    more = Subnet("b", "10.0.4.0/24", "us-east-1a", tags={SUBNET_TAG: "1"})
    node = started("m5.large", subnet, more, WARM_ENI_TARGET=1)
    node.schedule("one")
    node.tick()
    assert [eni.subnet for eni in node.store.enis.values()] == [subnet.subnet_id, more.subnet_id]


def test_at_the_limit_with_a_full_subnet_there_is_no_pause() -> None:
    """Every turn asks again, for all and for one, on each ENI (facts 3.9, item 4)."""
    subnet = Subnet("a", "10.0.0.0/28", "us-east-1a")
    node = started("m5.large", subnet, WARM_ENI_TARGET=1, MAX_ENI=1)
    assert node.store.stats().total_ips == 9
    node.ec2.unassign_private_ip_addresses(node.primary.eni_id, node.primary.secondary[-2:])
    for _ in range(subnet.free):
        subnet.take()
    node.ipamd.reconcile()
    since = len(node.ec2.calls)
    node.tick(3)
    asked = [call for call in node.ec2.calls[since:] if call.name == ASSIGN]
    assert [call.parameters["count"] for call in asked] == [2, 1] * 3
    assert f"{node.primary.eni_id} gets no more: Insufficient" in last(node).did[0]
    assert node.ipamd._last_full is None


def test_when_ec2_has_more_than_the_store_knows() -> None:
    """PrivateIpAddressLimitExceeded is no error: ipamd asks what is really there."""
    node = started("m5.large", WARM_IP_TARGET=4)
    node.ec2.assign_private_ip_addresses(node.primary.eni_id, count=5)
    node.schedule(*names(2))
    node.tick()
    assert [call.error for call in last(node).calls] == [
        "PrivateIpAddressLimitExceeded", "",
    ]  # fmt: skip
    assert node.store.stats().total_ips == 9


def test_other_errors_only_stop_the_start() -> None:
    node = Node(instance_type("m5.large"), {})
    failing(node, ASSIGN, "UnauthorizedOperation", times=4)
    with pytest.raises(EkslearnError, match="UnauthorizedOperation"):
        node.ipamd.start()
    assert last(node, "start").did[-1].startswith("failed: UnauthorizedOperation")
    node.tick()
    assert "the pool didn't grow: UnauthorizedOperation" in " ".join(last(node).did)
    node.tick()
    assert node.store.stats().total_ips == 9


def test_a_failed_call_is_made_again_for_one() -> None:
    node = Node(instance_type("m5.large"), {})
    failing(node, ASSIGN, "InternalError", times=1)
    node.ipamd.start()
    assert [call.parameters["count"] for call in node.ec2.calls if call.name == ASSIGN] == [9, 1]
    assert node.store.stats().total_ips == 1


def test_a_fragmented_subnet_has_addresses_and_no_prefix() -> None:
    subnet = Subnet("a", "10.0.0.0/26", "us-east-1a")
    for address in list(subnet.cidr)[8::16]:
        subnet.take(address)
    node = started(
        "m5.large", subnet, ENABLE_PREFIX_DELEGATION="true", WARM_PREFIX_TARGET=1,
        ENABLE_SUBNET_DISCOVERY="false",
    )  # fmt: skip
    assert subnet.free > 48
    assert {call.error for call in last(node, "start").calls} == {"", "InsufficientCidrBlocks"}
    node.tick(23)
    assert not any(each.calls for each in node.ipamd.decisions if each.step == "pool")


def test_prefixes_on_an_instance_that_cant() -> None:
    """Xen: ipamd falls back to secondary addresses."""
    node = started("m4.large", ENABLE_PREFIX_DELEGATION="true", WARM_PREFIX_TARGET=1)
    assert [len(each) for each in node.addresses()] == [9]
    assert node.primary.prefixes == []


@pytest.mark.parametrize("managed", ["false", "true"])
def test_a_cordoned_node_is_frozen_both_ways(managed: str) -> None:
    node = started(WARM_IP_TARGET=1, AWS_MANAGE_ENIS_NON_SCHEDULABLE=managed)
    node.ipamd.unschedulable = True
    node.schedule(*names(2))
    node.settle()
    assert len(node.pending) == (0 if managed == "true" else 1)
    if managed == "false":
        node.ipamd.unschedulable = False
        node.settle()
        assert not node.pending


def test_on_the_way_out_nothing_is_attached() -> None:
    node = started(WARM_ENI_TARGET=1)
    node.schedule("one")
    node.ipamd.terminating = True
    node.tick(3)
    assert len(node.store.enis) == 1
    assert said(last(node), "isENIAttachmentAllowed")[0][0] is False


def test_custom_networking_leaves_the_primary_eni_alone() -> None:
    a, b = Subnet("a", "10.0.0.0/24", "us-east-1a"), Subnet("b", "10.0.4.0/24", "us-east-1a")
    config = EniConfig(name="us-east-1a", subnet="b")
    env = {"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": "true", "WARM_ENI_TARGET": 1}
    node = Node(instance_type("m5.large"), env, vpc=Vpc(["10.0.0.0/16"], [a, b]), eniconfig=config)
    node.ipamd.start()
    node.schedule(*names(20))
    node.settle()
    assert [len(each) for each in node.addresses()] == [0, 9, 9]
    assert (len(node.running), len(node.pending)) == (18, 2)
    lost = Node(instance_type("m5.large"), env)
    with pytest.raises(EkslearnError, match="Failed to attach any ENIs for custom networking"):
        lost.ipamd.start()
    assert "eniconfig: eniconfig is not available" in " ".join(last(lost, "start").did)


def test_a_slot_is_kept_for_the_trunk() -> None:
    node = started("t3.small", ENABLE_POD_ENI="true", WARM_ENI_TARGET=1)
    node.schedule(*names(9))
    node.tick(20)
    assert len(node.store.enis) == 2
    trunk = node.ec2.create_network_interface(node.subnet)
    trunk.interface_type = "trunk"
    node.ec2.attach_network_interface(trunk.eni_id, node.primary.instance, 2)
    node.tick()  # it is looked for in every turn, not once a minute
    assert node.store.eni(trunk.eni_id).trunk
    node.settle()
    assert node.store.eni(trunk.eni_id).cidrs == {}


# Shrinking


def test_with_warm_eni_target_only_whole_enis_go() -> None:
    node = started("m5.large", WARM_ENI_TARGET=1)
    node.schedule(*names(19))
    node.settle()
    assert [len(each) for each in node.addresses()] == [9, 9, 9]
    node.delete(*names(19))
    began = node.kernel.now
    node.tick(5)
    assert len(node.store.enis) == 3  # addresses are still cooling
    assert "has a cooling address" in str(said(last(node), "getDeletableENI"))
    node.settle()
    assert [len(each) for each in node.addresses()] == [9]
    freed = [each for each in node.ipamd.decisions if "freed" in " ".join(each.did)]
    assert len(freed) == 2  # one in a turn
    assert all(each.time - began > 30 for each in freed)
    assert [call.name for call in freed[0].calls] == [
        "DescribeNetworkInterfaces", "DetachNetworkInterface", "DeleteNetworkInterface",
    ]  # fmt: skip
    detach, delete = freed[0].calls[1:]
    assert delete.started - detach.started - detach.took_s == pytest.approx(2)
    gone = [told[1] for told in node.kernel.told if told[0] == "DeleteRulesBySrc"]
    assert len(gone) == 2
    assert node.kernel.links == {}
    assert len(node.ec2.vpc.enis) == 1


def test_an_eni_stays_a_minute() -> None:
    node = started("m5.large", WARM_ENI_TARGET=1)
    node.schedule("one")
    node.tick()
    made = node.kernel.now
    node.delete("one")
    node.until(lambda: len(node.store.enis) == 1)
    assert node.kernel.now - made >= 60


def test_with_ip_targets_addresses_go_back_every_half_minute() -> None:
    node = started("m5.large", WARM_IP_TARGET=2)
    node.schedule(*names(9))
    node.settle()
    assert node.store.stats().total_ips == 11
    node.delete(*names(5))
    began = node.kernel.now
    node.tick()
    decision = last(node)
    assert node.store.stats()[:2] == (6, 4)
    assert decision.numbers["CooldownIPs"] == 5  # cooling ones aren't spared
    assert [call.name for call in decision.calls].count("UnassignPrivateIpAddresses") in (1, 2)
    node.delete(*names(7)[5:])
    node.tick()
    node.until(lambda: any("gives back" in word for word in last(node).did))
    assert last(node).time - began > 30
    name = "shouldSkipDataStorePoolDecrease"
    skipped = [said(each, name)[0] for each in node.ipamd.decisions if said(each, name)]
    assert skipped[0] == (False, "no decrease so far")
    assert skipped[1][0]
    assert re.fullmatch(r"\d+\.\d s since the last decrease <= 30 s", skipped[1][1])


def test_free_prefixes_go_back() -> None:
    node = started("m5.large", ENABLE_PREFIX_DELEGATION="true", WARM_PREFIX_TARGET=1)
    node.schedule(*names(40))
    node.settle()
    assert node.store.stats().total_prefixes == 4
    node.delete(*names(40))
    node.settle()
    assert node.store.stats().total_prefixes == 1
    assert len(node.primary.prefixes) == 1


def test_an_eni_ec2_doesnt_detach_keeps_its_rules() -> None:
    node = started("m5.large", WARM_ENI_TARGET=1)
    node.schedule("one")
    node.tick()
    node.delete("one")
    eni_id = list(node.store.enis)[1]
    failing(node, "DetachNetworkInterface", "InternalError", times=12)
    node.until(lambda: "isn't freed: unable to detach" in " ".join(last(node).did))
    assert node.kernel.told == []
    assert eni_id in node.kernel.links
    assert f"set up {eni_id}" in last(node, "reconcile").did[0]  # the wait was longer than a minute
    node.settle()
    assert list(node.ec2.vpc.enis) == [node.primary.eni_id]


def test_an_eni_ec2_cant_describe_loses_its_rules_all_the_same() -> None:
    """A slip of the real one (facts 3.18): only the two errors of detaching spare them."""
    node = started("m5.large", WARM_ENI_TARGET=1)
    node.schedule("one")
    node.tick()
    node.delete("one")
    eni_id = list(node.store.enis)[1]
    failing(node, "DescribeNetworkInterfaces", "InternalError", times=1)
    node.until(lambda: "isn't freed: InternalError" in " ".join(last(node).did))
    assert [told for told, _ in node.kernel.told] == ["DeleteRulesBySrc"]
    assert eni_id in node.kernel.links  # it is attached as before, and taken in again later
    node.until(lambda: eni_id in node.store.enis)


# Starting again


def test_a_new_start_reads_its_checkpoint() -> None:
    node = started("m5.large", WARM_ENI_TARGET=1)
    node.schedule(*names(12))
    node.settle()
    node.kernel.pods = {host_veth("default", name) for name in names(11)}
    saved, had = node.ipamd.checkpoint(), dict(node.running)
    node.ipamd = node.new_ipamd()
    node.ipamd.start(saved)
    assert node.store.assigned == 11
    for name in names(11):
        assert node.ipamd.assign("default", name, f"sandbox-{name}") == had[name]
    dropped = str(had["pod-11"].ip)
    assert node.kernel.told == [("forget_pod", dropped)]
    assert f"{dropped} isn't restored: host-side veth not found for pod default/pod-11" in (
        last(node, "start").did
    )


@pytest.mark.parametrize("first", ["false", "true"])
def test_the_other_modes_unused_addresses_go_back_at_the_start(first: str) -> None:
    node = started("m5.large", ENABLE_PREFIX_DELEGATION=first, WARM_PREFIX_TARGET=1)
    node.schedule("one")
    node.kernel.pods = {host_veth("default", "one")}
    saved = node.ipamd.checkpoint()
    second = "true" if first == "false" else "false"
    node.settings = parse({"ENABLE_PREFIX_DELEGATION": second, "WARM_PREFIX_TARGET": "1"})
    node.ipamd = node.new_ipamd()
    node.ipamd.start(saved)
    kept = node.primary.secondary if first == "false" else node.primary.prefixes
    assert len(kept) == 1  # the one that the pod has
    assert node.store.assigned == 1
    node.delete("one")
    if first == "true":  # an empty prefix goes at once when its last pod does
        assert node.primary.prefixes == []
        assert [call.name for call in last(node, "release").calls] == ["UnassignPrivateIpAddresses"]


def test_an_excluded_subnets_eni_holds_a_slot_and_gives_nothing() -> None:
    subnet = Subnet("a", "10.0.0.0/24", "us-east-1a", tags={SUBNET_TAG: "0"})
    more = Subnet("b", "10.0.4.0/24", "us-east-1a", tags={SUBNET_TAG: "1"})
    node = started("m5.large", subnet, more, WARM_ENI_TARGET=1)
    node.schedule(*names(20))
    node.settle()
    assert [len(each) for each in node.addresses()] == [0, 9, 9]
    assert (node.store.eni(node.primary.eni_id).excluded, len(node.pending)) == (True, 2)


def test_unmanaged_enis_are_left_alone_and_use_slots() -> None:
    node = Node(instance_type("m5.large"), {"WARM_ENI_TARGET": 1})
    left = node.ec2.create_network_interface(node.subnet)
    left.tags["node.k8s.amazonaws.com/no_manage"] = "true"
    node.ec2.attach_network_interface(left.eni_id, node.primary.instance, 1)
    node.ipamd.start()
    node.schedule(*names(30))
    node.settle()
    assert left.eni_id not in node.store.enis
    assert len(node.running) == 18
    assert said(last(node), "hasRoomForEni") == [(False, "ENIs 2 < maxENI 3 - unmanaged 1")]


def test_what_localhost_shows() -> None:
    node = started("m5.large", WARM_ENI_TARGET=1)
    node.schedule("web")
    shown = node.ipamd.introspect()
    assert list(shown) == ["0"]
    assert (shown["0"]["TotalIPs"], shown["0"]["AssignedIPs"]) == (9, 1)
    eni = shown["0"]["ENIs"][node.primary.eni_id]
    assert (eni["IsPrimary"], eni["DeviceNumber"], eni["RouteTableID"]) == (True, 0, 254)
    assert eni["SubnetID"] == node.subnet.subnet_id
