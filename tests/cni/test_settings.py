"""The environment of aws-node: what is read, what counts as nothing, what stops the container."""

from __future__ import annotations

from dataclasses import fields
from ipaddress import IPv4Network

import pytest

from ekslearn.cni.settings import MANIFEST, Settings, config_refusal, parse, pod_mtu, read
from ekslearn.errors import EkslearnError, NotModelled


def test_defaults_of_the_code_and_of_the_manifest() -> None:
    """Facts, 1.8 and 3.17: the columns of the two tables."""
    code, manifest = parse({}), read({})
    assert code == Settings()
    changed = {each.name for each in fields(Settings)
               if getattr(code, each.name) != getattr(manifest, each.name)}  # fmt: skip
    assert changed == {"enable_ipv4", "warm_prefix_target", "network_policy_mode"}
    assert (manifest.warm_prefix_target, manifest.network_policy_mode) == (1, "standard")
    assert read({}, manifest=False) == code


def test_the_environment_wins_over_the_manifest() -> None:
    assert MANIFEST["WARM_ENI_TARGET"] == "1"
    assert read({"WARM_ENI_TARGET": "0"}).warm_eni_target == 0


@pytest.mark.parametrize(
    ("name", "text", "field", "found"),
    [
        ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "T", "external_snat", True),
        ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "yes", "external_snat", False),
        ("AWS_VPC_CNI_NODE_PORT_SUPPORT", "no", "node_port_support", True),
        ("AWS_VPC_CNI_NODE_PORT_SUPPORT", "0", "node_port_support", False),
        ("AWS_VPC_K8S_CNI_CONNMARK", "0x100", "connmark", 0x100),
        ("AWS_VPC_K8S_CNI_CONNMARK", "256", "connmark", 256),
        ("AWS_VPC_K8S_CNI_CONNMARK", "0200", "connmark", 128),
        ("AWS_VPC_K8S_CNI_CONNMARK", "4294967295", "connmark", 4294967295),
        ("AWS_VPC_K8S_CNI_CONNMARK", "4294967296", "connmark", 0x80),
        ("AWS_VPC_K8S_CNI_CONNMARK", "0", "connmark", 0x80),
        ("AWS_VPC_K8S_CNI_CONNMARK", "-1", "connmark", 0x80),
        ("AWS_VPC_K8S_CNI_CONNMARK", "mark", "connmark", 0x80),
        ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "", "randomize_snat", "prng"),
        ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "none", "randomize_snat", "none"),
        ("WARM_ENI_TARGET", "-1", "warm_eni_target", 1),
        ("WARM_IP_TARGET", "7", "warm_ip_target", 7),
        ("WARM_IP_TARGET", "7.5", "warm_ip_target", 0),
        ("MAX_ENI", "-3", "max_eni", -3),
        ("ADDITIONAL_ENI_TAGS", '{"a": "b", "k8s.amazonaws.com/x": "y"}', "additional_eni_tags",
         {"a": "b"}),
        ("ADDITIONAL_ENI_TAGS", "[1]", "additional_eni_tags", None),
    ],
)  # fmt: skip
def test_values(name: str, text: str, field: str, found: object) -> None:
    assert getattr(read({name: text}), field) == found


def test_cidrs() -> None:
    """What is none is skipped, host bits are cleared; with external SNAT nothing is excluded."""
    env = {
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "10.1.2.3/16, 10.2.0.0,::/0,10.3.0.0/33,10.4.4.4/32"
    }
    nets = (IPv4Network("10.1.0.0/16"), IPv4Network("10.4.4.4/32"))
    assert read(env).exclude_snat_cidrs == nets
    assert read(env | {"AWS_VPC_K8S_CNI_EXTERNALSNAT": "true"}).exclude_snat_cidrs == ()


def test_mtus() -> None:
    assert read({"AWS_VPC_ENI_MTU": "1500"}).pod_mtu == 1500
    assert read({"AWS_VPC_ENI_MTU": "1500", "POD_MTU": "1400"}).pod_mtu == 1400
    assert [pod_mtu(text) for text in ("575", "576", "9001", "9002", "x")] == [
        9001, 576, 9001, 9001, 9001,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "env",
    [
        {"AWS_VPC_K8S_CNI_VETHPREFIX": "toolong"}, {"AWS_VPC_K8S_CNI_VETHPREFIX": "vlan"},
        {"AWS_VPC_K8S_CNI_VETHPREFIX": "eth"}, {"AWS_VPC_K8S_CNI_VETHPREFIX": "lo"},
        {"AWS_VPC_ENI_MTU": "575"}, {"AWS_VPC_ENI_MTU": "9002"}, {"POD_MTU": "jumbo"},
        {"ENABLE_POD_ENI": "true", "POD_SECURITY_GROUP_ENFORCING_MODE": "lax"},
        {"IP_COOLDOWN_PERIOD": "-1"}, {"IP_COOLDOWN_PERIOD": "soon"},
        {"ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "0"},
        {"NETWORK_POLICY_ENFORCING_MODE": "lax"},
    ],
    ids=lambda env: " ".join(env),
)  # fmt: skip
def test_the_container_does_not_start(env: dict[str, str]) -> None:
    """One sentence that names the variable; the same without what was wrong is fine."""
    with pytest.raises(EkslearnError, match="aws-node doesn't start with") as raised:
        read(env)
    wrong = str(raised.value).partition(" with ")[2].partition("=")[0]
    assert wrong in env
    read({name: value for name, value in env.items() if name != wrong})


def test_a_wrong_mode_matters_only_with_pod_enis() -> None:
    assert read({"POD_SECURITY_GROUP_ENFORCING_MODE": "lax"}).enforcing_mode == "strict"


def test_names() -> None:
    with pytest.raises(EkslearnError, match="did you mean WARM_ENI_TARGET"):
        read({"WARM_ENI_TARGETS": "1"})
    assert read({"AWS_VPC_K8S_CNI_LOGLEVEL": "DEBUG"}) == read({})
    for name in ("ENABLE_IPv6", "ENABLE_V6_EGRESS", "ENABLE_MULTI_NIC"):
        with pytest.raises(NotModelled, match=f"{name}=true"):
            read({name: "true"})
        assert read({name: "false"}) == read({})


def test_what_ipamd_refuses() -> None:
    """Facts, 2.7 and 3.4; one that can't have prefixes falls back in an IPv4 cluster."""
    four, six = Settings(enable_ipv4=True), Settings(enable_ipv6=True, prefix_delegation=True)
    assert not config_refusal(four, prefixes=False)
    assert not config_refusal(Settings(enable_ipv4=True, prefix_delegation=True), prefixes=False)
    assert not config_refusal(six, prefixes=True)
    for wrong in (
        config_refusal(Settings(), prefixes=True),
        config_refusal(Settings(enable_ipv4=True, enable_ipv6=True), prefixes=True),
        config_refusal(six, prefixes=False),
        config_refusal(Settings(enable_ipv6=True), prefixes=True),
        config_refusal(
            Settings(enable_ipv6=True, prefix_delegation=True, custom_networking=True),
            prefixes=True,
        ),
    ):
        assert wrong
