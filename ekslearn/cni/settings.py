"""The environment of the ``aws-node`` container, as far as it touches the data path or the pool.

Source: pkg/networkutils/network.go (getConnmark, parseCIDRString, typeOfSNAT, GetPodMTU),
pkg/sgpp/utils.go, pkg/ipamd/ipamd.go (getWarmIPTarget ..., isConfigValid, getNetworkPolicyMode),
cmd/aws-vpc-cni/main.go (validateEnvVars, validateMTU) and config/master/aws-k8s-cni.yaml.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from ipaddress import IPv4Network
from typing import Any

from ..errors import EkslearnError, NotModelled

DEFAULT_MTU = 9001
MTU_LIMITS = {4: (576, DEFAULT_MTU), 6: (1280, DEFAULT_MTU)}  # bytes
TRUE, FALSE = "1 t T TRUE true True".split(), "0 f F FALSE false False".split()  # ParseBool of Go
MODES = ("strict", "standard")
POLICY_MODES = ("none", "standard", "strict")
ENI_CONFIG = "k8s.amazonaws.com/eniConfig"
# What each kind of SNAT adds to the rule.
RANDOM = {"prng": " --random-fully", "hashrandom": " --random", "none": ""}
# Variables that change neither a packet's way nor the pool: logs, metrics, names.
WITHOUT_EFFECT = (
    "AWS_VPC_K8S_CNI_BACKING_STORE AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER "
    "AWS_VPC_K8S_CNI_LOGLEVEL AWS_VPC_K8S_CNI_LOG_FILE AWS_VPC_K8S_PLUGIN_LOG_FILE "
    "AWS_VPC_K8S_PLUGIN_LOG_LEVEL CLUSTER_ENDPOINT DISABLE_INTROSPECTION "
    "DISABLE_METRICS ENABLE_V4_EGRESS INTROSPECTION_BIND_ADDRESS MY_NODE_NAME MY_POD_NAME "
    "VPC_CNI_VERSION VPC_ID"
).split()


# Readers: what a text means, None where it means nothing and the default holds.


def _flag(text: str) -> bool | None:
    return True if text in TRUE else False if text in FALSE else None


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else None


def _target(text: str) -> int | None:
    found = _whole(text)
    return found if found is not None and found >= 0 else None


def _mark(text: str) -> int | None:
    """1 to 4294967295, decimal, octal (0...) or hexadecimal (0x...)."""
    base = {"0x": 16, "0b": 2, "0o": 8}.get(text[:2].lower(), 8 if text.startswith("0") else 10)
    try:
        found = int(text, base)
    except ValueError:
        return None
    return found if 0 < found < 1 << 32 else None


def _cidrs(text: str) -> tuple[IPv4Network, ...]:
    """IPv4 prefixes with commas between them; host bits are cleared, what is none is skipped."""
    found = []
    for word in text.split(","):
        if "/" in word:
            try:
                found.append(IPv4Network(word.strip(), strict=False))
            except ValueError:
                continue
    return tuple(found)


def _one_of(words: Collection[str]) -> Callable[[str], str | None]:
    return lambda text: text if text in words else None


def _tags(text: str) -> dict[str, str] | None:
    """Tags as a JSON object; AWS keeps keys with k8s.amazonaws.com to itself."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    return {key: value for key, value in found.items() if "k8s.amazonaws.com" not in key}


def pod_mtu(text: str) -> int:
    """The MTU of a pod's veth in bytes, as the plugin reads it out of its conflist."""
    low, high = MTU_LIMITS[4]
    found = _whole(text)
    return found if found is not None and low <= found <= high else DEFAULT_MTU


def _env(name: str, read: Callable[[str], Any], default: Any, manifest: str = "") -> Any:
    """A field with the variable it stands for, and that variable's value in the manifest."""
    return field(default=default, metadata={"env": name, "read": read, "manifest": manifest})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the VPC CNI is told; the defaults are those of its code, not of its manifest.

    MTUs are in bytes, ``pod_mtu`` 0 stands for ``eni_mtu``; ``max_eni`` below 1 is no limit;
    an empty ``network_policy_mode`` turns network policies off.
    """

    external_snat: bool = _env("AWS_VPC_K8S_CNI_EXTERNALSNAT", _flag, False, "false")
    exclude_snat_cidrs: tuple[IPv4Network, ...] = _env(
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", _cidrs, ()
    )
    node_port_support: bool = _env("AWS_VPC_CNI_NODE_PORT_SUPPORT", _flag, True, "true")
    connmark: int = _env("AWS_VPC_K8S_CNI_CONNMARK", _mark, 0x80)
    randomize_snat: str = _env("AWS_VPC_K8S_CNI_RANDOMIZESNAT", _one_of(RANDOM), "prng", "prng")
    veth_prefix: str = _env("AWS_VPC_K8S_CNI_VETHPREFIX", str, "eni", "eni")
    eni_mtu: int = _env("AWS_VPC_ENI_MTU", _whole, DEFAULT_MTU, "9001")
    pod_mtu: int = _env("POD_MTU", pod_mtu, 0)
    external_service_cidrs: tuple[IPv4Network, ...] = _env("AWS_EXTERNAL_SERVICE_CIDRS", _cidrs, ())
    enable_pod_eni: bool = _env("ENABLE_POD_ENI", _flag, False, "false")
    enforcing_mode: str = _env("POD_SECURITY_GROUP_ENFORCING_MODE", _one_of(MODES), "strict")
    disable_tcp_early_demux: bool = _env("DISABLE_TCP_EARLY_DEMUX", _flag, False, "false")
    enable_ipv4: bool = _env("ENABLE_IPv4", _flag, False, "true")
    enable_ipv6: bool = _env("ENABLE_IPv6", _flag, False, "false")
    enable_v6_egress: bool = _env("ENABLE_V6_EGRESS", _flag, False)
    # The pool
    warm_eni_target: int = _env("WARM_ENI_TARGET", _target, 1, "1")
    warm_ip_target: int = _env("WARM_IP_TARGET", _target, 0)
    minimum_ip_target: int = _env("MINIMUM_IP_TARGET", _target, 0)
    warm_prefix_target: int = _env("WARM_PREFIX_TARGET", _target, 0, "1")
    max_eni: int = _env("MAX_ENI", _whole, -1)
    prefix_delegation: bool = _env("ENABLE_PREFIX_DELEGATION", _flag, False, "false")
    custom_networking: bool = _env("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", _flag, False, "false")
    eni_config_label: str = _env("ENI_CONFIG_LABEL_DEF", str, ENI_CONFIG)
    eni_config_annotation: str = _env("ENI_CONFIG_ANNOTATION_DEF", str, ENI_CONFIG)
    subnet_discovery: bool = _env("ENABLE_SUBNET_DISCOVERY", _flag, True, "true")
    manage_enis_non_schedulable: bool = _env("AWS_MANAGE_ENIS_NON_SCHEDULABLE", _flag, False)
    manage_untagged_eni: bool = _env("MANAGE_UNTAGGED_ENI", _flag, True)
    multi_nic: bool = _env("ENABLE_MULTI_NIC", _flag, False, "false")
    annotate_pod_ip: bool = _env("ANNOTATE_POD_IP", _flag, False)
    ip_cooldown_s: int = _env("IP_COOLDOWN_PERIOD", _target, 30)
    network_policy_mode: str = _env("NETWORK_POLICY_ENFORCING_MODE", str, "", "standard")
    disable_network_resource_provisioning: bool = _env(
        "DISABLE_NETWORK_RESOURCE_PROVISIONING", _flag, False, "false"
    )
    imds_only: bool = _env("ENABLE_IMDS_ONLY_MODE", _flag, False, "false")
    cluster_name: str = _env("CLUSTER_NAME", str, "")
    additional_eni_tags: Mapping[str, str] | None = _env("ADDITIONAL_ENI_TAGS", _tags, None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pod_mtu", self.pod_mtu or self.eni_mtu)

    @property
    def strict(self) -> bool:
        """Whether a branch ENI's security groups hold for all that its pod sends and gets."""
        return self.enable_pod_eni and self.enforcing_mode == "strict"


VARIABLES = {each.metadata["env"]: each for each in fields(Settings)}
MANIFEST = {name: each.metadata["manifest"] for name, each in VARIABLES.items()
            if each.metadata["manifest"]}  # fmt: skip


def parse(env: Mapping[str, str]) -> Settings:
    """What the code makes of an environment: an unreadable value counts as none."""
    found = {}
    for name, each in VARIABLES.items():
        value = each.metadata["read"](env[name]) if env.get(name) else None
        if value is not None:
            found[each.name] = value
    if found.get("external_snat"):
        found.pop("exclude_snat_cidrs", None)  # nothing is translated (GetExcludeSNATCIDRs)
    return Settings(**found)


def read(env: Mapping[str, str], *, manifest: bool = True) -> Settings:
    """The settings of a node; what ``env`` doesn't say the manifest does, else the code.

    Raises EkslearnError where the container refuses to start or a variable doesn't exist, and
    NotModelled for a mode this package leaves out.
    """
    for name in env:
        if name not in VARIABLES and name not in WITHOUT_EFFECT:
            near = get_close_matches(name, VARIABLES, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise EkslearnError(f"{name} is no variable of aws-node that is modelled{hint}")
    env = (MANIFEST if manifest else {}) | dict(env)
    _check(env)
    settings = parse(env)
    for name in ("ENABLE_IPv6", "ENABLE_V6_EGRESS", "ENABLE_MULTI_NIC"):
        if getattr(settings, VARIABLES[name].name):
            raise NotModelled(f"{name}={env[name]} isn't modelled: IPv4 on one network card is")
    return settings


def _check(env: Mapping[str, str]) -> None:
    """What the entrypoint and ipamd refuse before they start."""
    prefix = env.get("AWS_VPC_K8S_CNI_VETHPREFIX", "")
    low, high = MTU_LIMITS[6 if _flag(env.get("ENABLE_IPv6", "")) else 4]
    mode = env.get("POD_SECURITY_GROUP_ENFORCING_MODE") or "strict"
    policy = env.get("NETWORK_POLICY_ENFORCING_MODE") or "none"
    targets = ("WARM_PREFIX_TARGET", "WARM_IP_TARGET", "MINIMUM_IP_TARGET")
    none_set = all((env.get(name) or "0") <= "0" for name in targets)  # it compares the texts
    for name, wrong, right in (
        ("AWS_VPC_K8S_CNI_VETHPREFIX", len(prefix) > 4 or prefix in ("eth", "vlan", "lo"),
         "at most 4 letters, and not eth, vlan or lo"),
        *((name, not low <= (_whole(env.get(name) or str(high)) or 0) <= high,
           f"a number of bytes from {low} to {high}") for name in ("AWS_VPC_ENI_MTU", "POD_MTU")),
        ("POD_SECURITY_GROUP_ENFORCING_MODE",
         _flag(env.get("ENABLE_POD_ENI", "")) and mode not in MODES, " or ".join(MODES)),
        ("IP_COOLDOWN_PERIOD", _target(env.get("IP_COOLDOWN_PERIOD") or "30") is None,
         "a number of seconds, 0 or more"),
        ("ENABLE_PREFIX_DELEGATION",
         _flag(env.get("ENABLE_PREFIX_DELEGATION", "")) and none_set,
         f"with one of {', '.join(targets)} above 0"),
        ("NETWORK_POLICY_ENFORCING_MODE", policy not in POLICY_MODES, ", ".join(POLICY_MODES)),
    ):  # fmt: skip
        if wrong:
            raise EkslearnError(f"aws-node doesn't start with {name}={env[name]}: "
                                f"it would be {right}")  # fmt: skip


def config_refusal(settings: Settings, *, prefixes: bool) -> str:
    """Why ipamd doesn't start with these settings, empty if it does (isConfigValid).

    ``prefixes`` says whether the instance can have any. One that can't makes ipamd fall back to
    single addresses in an IPv4 cluster.
    """
    if settings.enable_ipv4 == settings.enable_ipv6:
        both = "both" if settings.enable_ipv4 else "neither"
        return f"exactly one of ENABLE_IPv4 and ENABLE_IPv6 is to be true, not {both}"
    if settings.enable_ipv6 and not (settings.prefix_delegation and prefixes):
        return "an IPv6 cluster needs ENABLE_PREFIX_DELEGATION=true, and an instance that can"
    if settings.enable_ipv6 and settings.custom_networking:
        return "an IPv6 cluster has no custom networking"
    return ""


def netconf(plugin: Mapping[str, str]) -> dict[str, str]:
    """The plugin's entry in the conflist with what it adds to it (LoadNetConf); EkslearnError."""
    found = {"mtu": str(DEFAULT_MTU), "vethPrefix": "eni", "podSGEnforcingMode": "strict"}
    found |= {key: value for key, value in plugin.items() if value}
    if len(found["vethPrefix"]) > 4:
        raise EkslearnError("conf.VethPrefix can be at most 4 characters long")
    return found
