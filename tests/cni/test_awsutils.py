"""What ipamd asks of AWS: subnets, ENIs made and freed, back-off; all in simulated time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any

import pytest

from ekslearn.errors import EkslearnError
from ekslearn.ipamd.awsutils import NotDetached
from ekslearn.ipamd.pool import SUBNET_TAG, EniConfig
from ekslearn.vpc.error import Ec2Error
from ekslearn.vpc.instance import instance_type
from ekslearn.vpc.model import Vpc
from ekslearn.vpc.security import SecurityGroup
from ekslearn.vpc.subnet import Subnet
from tests.cni.node import Node

CREATED = ["CreateNetworkInterface", "DescribeInstances", "AttachNetworkInterface"]
MODIFIED = "ModifyNetworkInterfaceAttribute"
EMPTY = {"WARM_ENI_TARGET": 0}


def node(*subnets: Subnet, kind: str = "m5.large", **env: Any) -> Node:
    """An instance in the first of the subnets; ipamd isn't started."""
    subnets = subnets or (Subnet("a", "10.0.0.0/24", "us-east-1a"),)
    vpc = Vpc(["10.0.0.0/16"], subnets)
    return Node(instance_type(kind), env, vpc=vpc)


def failing(a_node: Node, action: str, code: str, times: int = 10**6) -> None:
    """Make EC2 answer an action with an error, so many times."""
    admit, left = a_node.ec2.admit, [times]

    def refusing(name: str) -> None:
        if name == action and left[0]:
            left[0] -= 1
            raise Ec2Error(code, "as the test wants it")
        admit(name)

    a_node.ec2.admit = refusing  # type: ignore[method-assign]


def calls_of(a_node: Node, act: Callable[[], object]) -> list[str]:
    since = len(a_node.ec2.calls)
    act()
    return a_node.calls(since)


def test_the_emptiest_usable_subnet_of_the_zone() -> None:
    tagged = {SUBNET_TAG: "1"}
    a = Subnet("a", "10.0.0.0/24", "us-east-1a")
    b = Subnet("b", "10.0.4.0/22", "us-east-1a", tags=tagged)
    other_zone = Subnet("c", "10.0.16.0/20", "us-east-1b", tags=tagged)
    untagged = Subnet("d", "10.0.32.0/20", "us-east-1a")
    kept_off = Subnet("e", "10.0.48.0/20", "us-east-1a", tags={SUBNET_TAG: "0"})
    it = node(a, b, other_zone, untagged, kept_off)
    eni = it.ec2.vpc.enis[it.ipamd.client.alloc_eni(None, 3)]
    assert (eni.subnet.name, len(eni.secondary)) == ("b", 3)
    assert eni.delete_on_termination
    for _ in range(b.free):
        b.take()
    since = len(it.ec2.calls)
    eni = it.ec2.vpc.enis[it.ipamd.client.alloc_eni(None, 3)]
    assert eni.subnet.name == "a"
    assert it.calls(since) == ["DescribeSubnets", *CREATED, MODIFIED]
    for _ in range(a.free):
        a.take()
    with pytest.raises(Ec2Error, match="InsufficientFreeAddressesInSubnet"):
        it.ipamd.client.alloc_eni(None, 3)
    assert it.calls()[-2:] == ["CreateNetworkInterface"] * 2  # each candidate is tried


def test_without_discovery_the_primary_enis_subnet() -> None:
    b = Subnet("b", "10.0.4.0/22", "us-east-1a", tags={SUBNET_TAG: "1"})
    a = Subnet("a", "10.0.0.0/24", "us-east-1a")
    it = node(a, b, ENABLE_SUBNET_DISCOVERY="false")
    assert it.ec2.vpc.enis[it.ipamd.client.alloc_eni(None, 3)].subnet is a
    a.tags[SUBNET_TAG] = "0"
    with pytest.raises(EkslearnError, match="no valid subnets available for ENI creation"):
        it.ipamd.client.alloc_eni(None, 3)


def test_an_eniconfig_decides_subnet_and_groups() -> None:
    a, b = Subnet("a", "10.0.0.0/24", "us-east-1a"), Subnet("b", "10.0.4.0/22", "us-east-1a")
    it = node(a, b, AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG="true")
    vpc = it.ec2.vpc
    pods, nodes = SecurityGroup("pods"), SecurityGroup("nodes")
    for group in (pods, nodes):
        vpc.add_security_group(group)
    it.primary.security_groups = [nodes]
    config = EniConfig(name="us-east-1a", subnet="b", security_groups=("pods",))
    eni = vpc.enis[it.ipamd.client.alloc_eni(config, 2)]
    assert (eni.subnet, eni.security_groups) == (b, [pods])
    bare = EniConfig(name="us-east-1a", subnet=b.subnet_id)
    assert vpc.enis[it.ipamd.client.alloc_eni(bare, 2)].security_groups == [nodes]


def test_tags_and_description() -> None:
    it = node(
        CLUSTER_NAME="blue", ADDITIONAL_ENI_TAGS='{"team": "net", "k8s.amazonaws.com/x": "1"}'
    )
    it.kernel.now = 61
    eni = it.ec2.vpc.enis[it.ipamd.client.alloc_eni(None, 1)]
    assert eni.description == f"aws-K8S-{it.primary.instance}"
    assert eni.tags == {
        "node.k8s.amazonaws.com/instance_id": it.primary.instance,
        "node.k8s.amazonaws.com/createdAt": "1970-01-01T00:01:01Z",
        "cluster.k8s.amazonaws.com/name": "blue",
        "eks:eni:owner": "amazon-vpc-cni",
        "team": "net",
    }
    assert calls_of(it, lambda: it.ipamd.client.tag(eni)) == []
    del eni.tags["team"]
    assert calls_of(it, lambda: it.ipamd.client.tag(eni)) == ["CreateTags"]
    assert eni.tags["team"] == "net"


def test_the_lowest_free_device_number() -> None:
    it = node(kind="m5.4xlarge")
    for device in (1, 3):
        eni = it.ec2.create_network_interface(it.subnet)
        it.ec2.attach_network_interface(eni.eni_id, it.primary.instance, device)
    made = it.ec2.vpc.enis[it.ipamd.client.alloc_eni(None, 1)]
    assert made.device_index == 2


def test_what_was_made_in_vain_is_deleted() -> None:
    it = node(kind="t3.small")
    for _ in range(2):
        it.ipamd.client.alloc_eni(None, 1)
    with pytest.raises(Ec2Error, match="AttachmentLimitExceeded"):
        it.ipamd.client.alloc_eni(None, 1)
    assert it.calls()[-2:] == ["AttachNetworkInterface", "DeleteNetworkInterface"]
    assert len(it.ec2.vpc.enis) == 3

    it = node()
    failing(it, MODIFIED, "InternalError")
    with pytest.raises(Ec2Error, match="InternalError"):
        it.ipamd.client.alloc_eni(None, 1)
    assert it.calls()[-4:] == [
        MODIFIED, "DescribeNetworkInterfaces", "DetachNetworkInterface", "DeleteNetworkInterface",
    ]  # fmt: skip
    assert list(it.ec2.vpc.enis.values()) == [it.primary]


def test_a_throttled_call_is_made_again_ten_times() -> None:
    """The AWS SDK's back-off: up to 2, 4, 8, 16 seconds by the dice, then 20 each time."""
    it = node()
    failing(it, "AssignPrivateIpAddresses", "RequestLimitExceeded")
    with pytest.raises(Ec2Error, match="RequestLimitExceeded"):
        it.ipamd.client.alloc_addresses(it.primary.eni_id, 1)
    mine = it.ipamd.client.calls
    assert [call.error for call in mine] == ["RequestLimitExceeded"] * 10
    gaps = [
        later.started - earlier.started - earlier.took_s
        for earlier, later in itertools.pairwise(mine)
    ]
    assert all(0 <= gap < 2**number for number, gap in enumerate(gaps[:4], 1))
    assert gaps[4:] == pytest.approx([20] * 5)
    assert it.kernel.now == pytest.approx(sum(gaps) + 10 * mine[0].took_s)


def test_another_error_isnt_tried_again() -> None:
    it = node()
    failing(it, "AssignPrivateIpAddresses", "UnauthorizedOperation")
    with pytest.raises(Ec2Error):
        it.ipamd.client.alloc_addresses(it.primary.eni_id, 1)
    assert len(it.ipamd.client.calls) == 1


def test_nodes_share_what_ec2_allows() -> None:
    """A bucket of two calls: the third is throttled, waits, and goes through."""
    it = Node(instance_type("m5.large"), EMPTY, rates={"AssignPrivateIpAddresses": (2, 0.5)})
    for _ in range(3):
        it.ipamd.client.alloc_addresses(it.primary.eni_id, 1)
    errors = [call.error for call in it.ipamd.client.calls]
    assert errors[:2] == ["", ""]
    assert errors[2:-1] == ["RequestLimitExceeded"] * (len(errors) - 3)
    assert len(errors) > 3
    assert len(it.primary.secondary) == 3


@pytest.mark.parametrize(
    ("act", "pauses"),
    [("metadata", 162.3), ("detach", 222.2), ("delete", 303.5)],
    ids=["metadata", "detach", "delete"],
)
def test_how_long_ipamd_waits_at_most(act: str, pauses: float) -> None:
    """Twelve tries, the pause doubling up to a minute, and up to 15 percent of jitter on top."""
    it = node()
    client = it.ipamd.client
    eni_id = client.alloc_eni(None, 1)
    began, calls = it.kernel.now, len(client.calls)
    if act == "metadata":
        client.metadata = lambda: [it.primary]  # type: ignore[method-assign]
        with pytest.raises(EkslearnError, match="waitForENIAndIPsAttached: giving up"):
            client.wait_attached(eni_id, 1)
    elif act == "detach":
        failing(it, "DetachNetworkInterface", "InternalError")
        with pytest.raises(NotDetached, match="unable to detach ENI from EC2 instance, giving up"):
            client.free_eni(eni_id)
    else:
        failing(it, "DeleteNetworkInterface", "InternalError")
        with pytest.raises(Ec2Error, match="InternalError"):
            client.free_eni(eni_id)
    waited = it.kernel.now - began - sum(call.took_s for call in client.calls[calls:])
    waited -= 2 if act == "delete" else 0  # between detach and delete
    assert pauses < waited < pauses * 1.15
    tries = sum(call.name.startswith(act.capitalize()) for call in client.calls[calls:])
    assert tries == (0 if act == "metadata" else 12)


def test_a_part_of_the_addresses_will_do() -> None:
    """One secondary address; of prefixes, as the code compares, two."""
    for prefixes, count, accepted in ((False, 1, True), (False, 0, False),
                                      (True, 2, True), (True, 1, False)):  # fmt: skip
        it = node(ENABLE_PREFIX_DELEGATION=prefixes)
        eni_id = it.ipamd.client.alloc_eni(None, count)
        if accepted:
            assert it.ipamd.client.wait_attached(eni_id, 9).eni_id == eni_id
        else:
            with pytest.raises(EkslearnError, match="giving up"):
                it.ipamd.client.wait_attached(eni_id, 9)


def test_an_eni_that_is_gone_is_freed() -> None:
    it = node()
    eni_id = it.ipamd.client.alloc_eni(None, 1)
    it.ec2.detach_network_interface(it.ec2.vpc.enis[eni_id].attachment_id)
    with pytest.raises(NotDetached, match="attachment id"):
        it.ipamd.client.free_eni(eni_id)
    it.ec2.delete_network_interface(eni_id)
    assert calls_of(it, lambda: it.ipamd.client.free_eni(eni_id)) == ["DescribeNetworkInterfaces"]


def test_prefixes_and_addresses_go_back_in_two_calls() -> None:
    it = node()
    eni = it.primary
    it.ec2.assign_private_ip_addresses(eni.eni_id, count=2)
    it.ec2.assign_private_ip_addresses(eni.eni_id, prefix_count=1)
    since = len(it.ec2.calls)
    it.ipamd.client.dealloc(eni.eni_id, [*map(IPv4Network, eni.secondary), *eni.prefixes])
    assert it.calls(since) == ["UnassignPrivateIpAddresses"] * 2
    assert (eni.secondary, eni.prefixes) == ([], [])
    assert calls_of(it, lambda: it.ipamd.client.dealloc(eni.eni_id, [])) == []
