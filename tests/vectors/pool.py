"""Areas of ipamd: its store, its decisions, its calls. IPv6 and multi-NIC pods are absent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from random import Random
from typing import Any

from ekslearn.cni.settings import Settings, parse
from ekslearn.errors import EkslearnError
from ekslearn.ipamd import pool
from ekslearn.ipamd.awsutils import NotDetached
from ekslearn.ipamd.daemon import NoAddress, stale_pod_commands
from ekslearn.ipamd.datastore import (
    IPS_PER_PREFIX,
    MIN_ENI_AGE_S,
    PREFIX_LENGTH,
    PREFIXES_AT_A_TIME,
    DataStore,
    PodKey,
    Stats,
    StoredEni,
    StoreError,
    div_ceil,
)
from ekslearn.vpc.error import Ec2Error
from ekslearn.vpc.instance import InstanceType, instance_type
from ekslearn.vpc.model import Eni, Vpc
from ekslearn.vpc.subnet import Subnet
from tests.cni.node import Node
from tests.vectors import Absent, Handler

Given = Mapping[str, Any]
TARGETS = ("warm_eni_target", "warm_ip_target", "minimum_ip_target", "warm_prefix_target")


def settings(given: Given) -> Settings:
    """The targets a vector names; those it doesn't are 0, as in a Go struct nobody filled."""
    targets = {name: given.get(name, 0) for name in TARGETS}
    return Settings(prefix_delegation=given.get("prefix_delegation", False), **targets)


# The store


class Steps:
    """A store, and one method for each operation of a sequence."""

    def __init__(self, given: Given) -> None:
        self.now = 1000.0
        self.broken = False
        self.store = DataStore(
            clock=lambda: self.now,
            dice=Random(0),
            prefix_delegation=given.get("prefix_delegation", False),
            cooldown_s=given.get("cooldown_s", 30),
            save=self.save,
        )

    def save(self) -> None:
        if self.broken:
            raise StoreError("fake checkpoint error")

    def run(self, step: Given) -> dict[str, Any]:
        operation = getattr(self, step["op"], None)
        if operation is None or (step["op"] == "stats" and step.get("family") == "6"):
            raise Absent(f"{step['op']}: IPv6 isn't modelled")
        try:
            return {"ok": True} | (operation(**{k: v for k, v in step.items() if k != "op"}) or {})
        except StoreError as error:
            return {"error": str(error)}

    @staticmethod
    def network(cidr: str) -> IPv4Network:
        if ":" in cidr:
            raise Absent("IPv6 isn't modelled")
        return IPv4Network(cidr, strict=False)

    def add_eni(self, eni: str, device: int, primary: bool, trunk: bool, efa: bool) -> None:
        self.store.add_eni(
            StoredEni(eni_id=eni, device=device, primary=primary, trunk=trunk, efa=efa)
        )

    def add_cidr(self, eni: str, cidr: str, prefix: bool) -> None:
        self.store.add_cidr(eni, self.network(cidr), prefix=prefix)

    def del_cidr(self, eni: str, cidr: str, force: bool) -> None:
        self.store.del_cidr(eni, self.network(cidr), force=force)

    def assign(self, key: str, namespace: str = "", pod: str = "") -> dict[str, Any]:
        held = self.store.assign(PodKey(*key.split("/")), namespace, pod)
        return {"ip": str(held.info.address), "device": held.eni.device, "table": held.eni.table}

    def unassign(self, key: str) -> dict[str, Any]:
        held = self.store.unassign(PodKey(*key.split("/")))
        return {"ip": str(held.info.address), "device": held.eni.device, "table": held.eni.table}

    def remove_eni(self, eni: str, force: bool) -> None:
        self.store.remove_eni(eni, force=force)

    def remove_unused_eni(
        self, warm_ip_target: int, minimum_ip_target: int, warm_prefix_target: int
    ) -> dict[str, Any]:
        gone, _ = self.store.remove_unused_eni(
            warm_ip_target, minimum_ip_target, warm_prefix_target
        )
        return {"removed": gone.eni_id if gone else ""}

    def age_eni(self, eni: str) -> None:
        self.store.eni(eni).created_at -= MIN_ENI_AGE_S + 1

    def clear_cooldown(self, eni: str) -> None:
        for cidr in self.store.eni(eni).cidrs.values():
            for address, info in cidr.addresses.items():
                cidr.addresses[address] = replace(info, unassigned_at=None)

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def set_excluded(self, eni: str, excluded: bool) -> None:
        self.store.eni(eni).excluded = excluded

    def set_prefix_delegation(self, enabled: bool) -> None:
        self.store.prefix_delegation = enabled

    def checkpoint_fails(self, value: bool) -> None:
        self.broken = value

    def stats(self, family: str = "4") -> dict[str, Any]:
        stats = self.store.stats()
        return {
            "TotalIPs": stats.total_ips,
            "AssignedIPs": stats.assigned_ips,
            "CooldownIPs": stats.cooldown_ips,
            "TotalPrefixes": stats.total_prefixes,
            "available": stats.available,
        }

    def totals(self) -> dict[str, Any]:
        store = self.store
        return {"total": store.total, "assigned": store.assigned, "prefixes": store.prefixes}

    def eni_count(self) -> dict[str, Any]:
        return {"count": len(self.store.enis)}

    def cidr_count(self, eni: str) -> dict[str, Any]:
        return {"count": len(self.store.eni(eni).cidrs)}

    def assigned_on_eni(self, eni: str) -> dict[str, Any]:
        return {"count": self.store.eni(eni).pods}

    def allocatable_enis(self, max_per_eni: int, skip_primary: bool) -> dict[str, Any]:
        enis = self.store.allocatable_enis(max_per_eni, skip_primary=skip_primary)
        return {"enis": sorted(eni.eni_id for eni in enis)}

    def free_prefixes(self) -> dict[str, Any]:
        return {"count": self.store.free_prefixes()}

    def freeable_eni_exists(self) -> dict[str, Any]:
        return {"value": self.store.freeable_eni_exists()}


def sequence(given: Given) -> dict[str, Any]:
    steps = Steps(given)
    return {"results": [steps.run(step) for step in given["steps"]]}


def restore(given: Given) -> dict[str, Any]:
    """One allocation, or several, read back against the links the host has."""
    several = given.get("allocations")
    entries = [
        {
            "ipv4": each["ipv4"],
            "containerID": str(number),
            "metadata": each.get("metadata")
            or {"k8sPodNamespace": each.get("ns", ""), "k8sPodName": each.get("pod", "")},
        }
        for number, each in enumerate(several or [given["allocation"]])
    ]
    steps = Steps({})
    steps.add_eni("eni", 0, True, False, False)
    for entry in entries:
        steps.add_cidr("eni", f"{entry['ipv4']}/32", False)
    checkpoint = {"version": "vpc-cni-ipam/1", "allocations": entries}
    stale = steps.store.restore(checkpoint, given["host_links"])
    kept = [str(held.info.address) for held in steps.store.allocations()]
    if several is None:
        return {"kept": bool(kept), "error": next(iter(stale.values()), None)}
    commands = [command for ip in stale for command in stale_pod_commands(ip)]
    return {"kept": kept, "rules_deleted_in_order": [rule(command) for command in commands]}


def rule(command: str) -> dict[str, Any]:
    """``ip rule del ...`` as the fields a vector has; 0 is no table."""
    words = command.split()
    told = dict(zip(words[3::2], words[4::2], strict=True))
    ends = {"to": "dst", "from": "src"}
    selectors = {ends[word]: f"{told[word]}/32" for word in ends if word in told}
    table = {"main": 254, "": 0}[told.get("lookup", "")]
    return {"priority": int(told["prio"]), **selectors, "table": table}


def introspection(given: Given) -> dict[str, Any]:
    node = Node(instance_type("m5.large"), {})
    node.store.card = given["network_card"]
    node.store.add_eni(
        StoredEni(
            eni_id=given["eni"],
            device=given["device"],
            primary=given["primary"],
            subnet=given["subnet"],
        )
    )
    assert node.store.eni(given["eni"]).table == given["route_table"]
    for cidr in given["ips"]:
        node.store.add_cidr(given["eni"], IPv4Network(cidr), prefix=not cidr.endswith("/32"))
    key = PodKey(*(given["assign"][name] for name in ("networkName", "containerID", "ifName")))
    node.store.assign(key, given["assign"]["namespace"], given["assign"]["pod"])
    shown = node.ipamd.introspect()
    pods = [
        info["IPAMKey"]
        for card in shown.values()
        for eni in card["ENIs"].values()
        for cidr in eni["AvailableIPv4Cidrs"].values()
        for info in cidr["IPAddresses"].values()
    ]
    return {
        "path": "/v1/enis",
        "top_level_keys": list(shown),
        "containerID": pods[0]["containerID"],
        "ifName": pods[0]["ifName"],
        "networkName": pods[0]["networkName"],
        "all": str(shown),
    }


# The decisions


def stats_of(given: Given) -> Stats:
    told = given["stats"]
    return Stats(told["TotalIPs"], told["AssignedIPs"], 0, told.get("TotalPrefixes", 0))


def too_low(given: Given) -> dict[str, Any]:
    looked_at = pool.Pool(
        stats=stats_of(given),
        settings=settings(given),
        ips_per_eni=given["max_ips_per_eni"],
        max_pods=given["max_pods"],
        free_prefixes=given["stats"].get("free_prefixes", 0),
    )
    return {"too_low": pool.too_low(looked_at)[-1].holds}


def too_low_sequence(given: Given) -> dict[str, Any]:
    answers = []
    for state in given["states"]:
        steps = Steps(given)
        fill(steps.store, state["enis"])
        stats = steps.store.stats()._asdict()
        names = {"total_ips": "TotalIPs", "assigned_ips": "AssignedIPs"}
        counted = {names[name]: stats[name] for name in names}
        answers.append(too_low({**given, "stats": counted})["too_low"])
    return {"too_low": answers}


def target_state(given: Given) -> dict[str, Any]:
    state = pool.target_state(
        pool.Pool(
            stats=stats_of(given),
            settings=settings(given),
            ips_per_eni=0,
            free_prefixes=given.get("free_prefixes", 0),
        )
    )
    return {"short": state.short, "over": state.over, "enabled": state.enabled}


def paused(given: Given) -> dict[str, Any]:
    since = given["seconds_since_last_error"]
    return {"in_cooldown": pool.paused(0, None if since is None else -since).holds}


def reconcile_cooldown(given: Given) -> dict[str, Any]:
    """Events in words: lookup, add, and how long after the last one a lookup comes."""
    now, freed, found, cidr = 0.0, {}, [], IPv4Network("10.0.0.1")
    units = {"s": 1, "m": 60, "h": 3600}
    for event in given["events"]:
        if after := re.search(r"after (\d+) ?([smh])", event):
            now += int(after[1]) * units[after[2]]
        if event.startswith("add"):
            freed[cidr] = now
        elif event.startswith("remove"):
            freed.pop(cidr, None)
        else:
            found.append(list(pool.recently_freed(now, freed, cidr)))
    return {"found,recently_freed": found}


def similar(given: Given) -> dict[str, Any]:
    secondary = [IPv4Network(ip) for ip, primary in given["imds"] if not primary]
    store = [IPv4Network(ip) for ip in given["datastore"]]
    return {"similar": pool.similar(store, secondary)}


def unmanaged(given: Given) -> dict[str, Any]:
    left = pool.unmanaged(
        given["tags"],
        primary=given["primary_eni"],
        instance=given["instance_id"],
        manage_untagged=given["MANAGE_UNTAGGED_ENI"],
    )
    return {"unmanaged": sorted(left)}


def excluded(given: Given) -> dict[str, Any]:
    tags = given["tags"] if given["found_in_vpc_and_az"] else None
    return {"excluded": pool.subnet_excluded(tags, given["CLUSTER_NAME"])}


def usable(given: Given) -> dict[str, Any]:
    primary, cluster = given["is_primary_subnet"], given["CLUSTER_NAME"]
    return {"usable": pool.subnet_usable(given["tags"], primary=primary, cluster=cluster)}


def tags(given: Given) -> dict[str, Any]:
    if "ADDITIONAL_ENI_TAGS" in given:
        told = {"ADDITIONAL_ENI_TAGS": given["ADDITIONAL_ENI_TAGS"]}
        return {"additional": parse(told).additional_eni_tags}
    return {"tags": pool.eni_tags(given["instance_id"], given["CLUSTER_NAME"], given["additional"])}


def eniconfig(given: Given) -> dict[str, Any]:
    names = ("ENI_CONFIG_LABEL_DEF", "ENI_CONFIG_ANNOTATION_DEF")
    env = parse({name: given[name] for name in names if given.get(name)})
    configs = [pool.EniConfig(name=name, subnet="") for name in given["eniconfigs"]]
    try:
        chosen = pool.eniconfig_for(
            configs,
            labels=given["labels"],
            annotations=given["annotations"],
            label_key=env.eni_config_label,
            annotation_key=env.eni_config_annotation,
        )
    except EkslearnError as error:
        return {"chosen": None, "error": str(error)}
    return {"chosen": chosen.name, "error": None}


# The daemon, with EC2 or without


class FakeClient:
    """Notes what ipamd asks of AWS, and gives it; ``refuse`` is EC2's answer to more addresses."""

    def __init__(self, node: Node, refuse: str = "", free_error: str = "") -> None:
        self.asked: list[list[Any]] = []
        self.calls: list[Any] = []
        self.node, self.refuse, self.free_error = node, refuse, free_error
        self.primary = node.primary
        self.released = 0

    def metadata(self) -> list[Eni]:
        return [self.primary]

    def alloc_eni(self, config: pool.EniConfig | None, count: int) -> str:
        groups = list(config.security_groups) if config else None
        asked = {"security_groups": groups, "subnet": config.subnet if config else ""}
        self.asked.append(["AllocENI", {**asked, "count": count, "network_card": 0}])
        return "eni-new"

    def wait_attached(self, eni_id: str, count: int) -> Eni:
        self.asked.append(["WaitForENIAndIPsAttached", {"count": count}])
        subnet = self.node.subnet
        return Eni(eni_id=eni_id, subnet=subnet, mac="", primary=subnet.take(), device_index=1)

    def excluded(self, eni: Eni) -> bool:
        return False

    def alloc_addresses(self, eni_id: str, count: int) -> list[IPv4Network]:
        self.asked.append(["AllocIPAddresses", {"eni": eni_id, "count": count}])
        if self.refuse:
            raise Ec2Error(self.refuse, "refused")
        return [IPv4Network(self.node.subnet.take()) for _ in range(count)]

    def dealloc(self, eni_id: str, cidrs: list[IPv4Network]) -> None:
        self.released += len(cidrs)

    def free_eni(self, eni_id: str) -> None:
        self.asked.append(["FreeENI", eni_id])
        if self.free_error:
            named = ("attachment", "unable to detach")
            lost = any(word in self.free_error for word in named)
            raise (NotDetached if lost else EkslearnError)(self.free_error)


def fill(store: DataStore, enis: list[Given]) -> None:
    """Put ENIs into a store: id, primary, excluded, ips, age_s as a vector gives them."""
    for device, told in enumerate(enis):
        told = told if isinstance(told, Mapping) else {"id": told}
        primary = told.get("primary", told["id"] == "primary")
        eni = StoredEni(eni_id=told["id"], device=device, primary=primary)
        store.add_eni(eni)
        eni.excluded = told.get("excluded", False)
        eni.created_at -= told.get("age_s", 0)
        for number in range(told.get("ips", 0)):
            network = IPv4Network(f"10.99.{device}.{number}/32")
            store.add_cidr(eni.eni_id, network, prefix=False)


def grow(given: Given) -> dict[str, Any]:
    prefixes = "prefix" in given["mode"]
    ips = given.get("max_ips_per_eni", 256 if prefixes else 14)
    kind = InstanceType(
        name="t", enis=given.get("max_enis", 4),
        ipv4_per_eni=1 + (ips // IPS_PER_PREFIX if prefixes else ips),
    )  # fmt: skip
    config = given.get("eniconfig")
    chosen = config and pool.eniconfig_for(
        [pool.EniConfig(name=config["name"], subnet=config["subnet"],
                        security_groups=tuple(config["securityGroups"]))],
        labels=given.get("node_labels", {}), annotations=given.get("node_annotations", {}),
    )  # fmt: skip
    told = {name.upper(): given[name] for name in TARGETS if name in given}
    env = {
        **told,
        "ENABLE_PREFIX_DELEGATION": prefixes,
        "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": given["custom_networking"],
        "AWS_MANAGE_ENIS_NON_SCHEDULABLE": given.get("AWS_MANAGE_ENIS_NON_SCHEDULABLE", ""),
        "ENABLE_SUBNET_DISCOVERY": given.get("subnet_discovery", True),
    }
    node = Node(kind, {name: str(value) for name, value in env.items()}, eniconfig=chosen)
    taint = "node.kubernetes.io/unschedulable:NoSchedule"
    node.ipamd.unschedulable = given.get("node_taint") == taint
    fill(node.store, given["datastore_enis"])
    refusals = [value for key, value in given.items() if key.endswith("error")]
    client = node.ipamd.client = FakeClient(node, *refusals[:1])  # type: ignore[assignment]
    node.ipamd.grow()
    return {"aws_calls": client.asked}


def shrink(given: Given) -> dict[str, Any]:
    env = {name.upper(): given[name] for name in TARGETS if name in given}
    node = Node(instance_type("m5.large"), env)
    client = node.ipamd.client = FakeClient(node)  # type: ignore[assignment]
    fill(node.store, given["enis"])
    for number in range(given["assigned_total"]):
        node.store.assign(PodKey("net", str(number), "eth0"))
    before = pool.target_state(node.ipamd.pool()).over
    for _ in range(given["rounds"]):
        node.ipamd.shrink()
    after = pool.target_state(node.ipamd.pool()).over
    return {"over_before": before, "cidrs_released_total": client.released, "over_after": after}


def free(given: Given) -> dict[str, Any]:
    env = {name.upper(): given[name] for name in TARGETS if name in given}
    node = Node(instance_type("m5.large"), env)
    errors = [value for key, value in given.items() if key.endswith("error")]
    client = node.ipamd.client = FakeClient(node, "", *errors[:1])  # type: ignore[assignment]
    fill(node.store, given["enis"])
    known = {each["id"]: each["primary_ip"] for each in given["enis"] if "primary_ip" in each}
    node.ipamd.primary_ips |= known
    node.ipamd.free_eni()
    return {
        "aws_calls": client.asked,
        "then": [list(told) for told in node.kernel.told if told[0] == "DeleteRulesBySrc"],
        "datastore_enis": list(node.store.enis),
        "primary_ip_entry_kept": bool(known.keys() & node.ipamd.primary_ips.keys()),
    }


def steady_state(given: Given) -> dict[str, Any]:
    kind = InstanceType(
        name=given["instance_type"], enis=given["max_enis"], ipv4_per_eni=given["ipv4_per_eni"]
    )
    env = {"ENABLE_PREFIX_DELEGATION": given["prefix_delegation"], **given["env"]}
    node = Node(kind, env, seed=given["pods"])
    node.ipamd.start()
    node.schedule(*(f"pod-{number}" for number in range(given["pods"])))
    node.settle()
    stats = node.store.stats()
    counts = sorted((len(eni.cidrs) for eni in node.store.enis.values()), reverse=True)
    return {
        "enis": len(node.store.enis),
        "secondary_ips": stats.total_ips,
        "prefixes": stats.total_prefixes,
        "unused_ips": stats.available,
        "ips_per_eni_desc": counts,
        "prefixes_per_eni_desc": counts,
        "pods_waiting": len(node.pending),
    }


def subnets(given: Given) -> list[Subnet]:
    """The subnets a vector describes, the primary ENI's first, with as many free addresses."""
    told = given.get("subnets", [{"id": "primary", "free": 1000, "tags": {}, "primary": True}])
    made = []
    for number, each in enumerate(sorted(told, key=lambda each: not each.get("primary"))):
        zone = each.get("zone", "us-east-1a")
        subnet = Subnet(each["id"], f"10.0.{16 * number}.0/20", zone, tags=each.get("tags"))
        while subnet.free > each["free"]:
            subnet.take()
        made.append(subnet)
    return made


def create_eni(given: Given) -> dict[str, Any]:
    env = {
        "ENABLE_SUBNET_DISCOVERY": given["subnet_discovery"],
        "CLUSTER_NAME": given.get("CLUSTER_NAME", ""),
        "ENABLE_PREFIX_DELEGATION": given.get("prefix_delegation", False),
    }
    vpc = Vpc(["10.0.0.0/16"], subnets(given))
    node = Node(instance_type(given["instance_type"]), env, vpc=vpc)
    machine = node.ec2.instances[node.primary.instance]
    for number in given.get("used_device_numbers", [0]):
        if number:
            machine.enis.append(Eni(eni_id=f"eni-{number}", subnet=node.subnet, mac="",
                                    primary=IPv4Address(0), device_index=number))  # fmt: skip
    actions = {"create": "create_network_interface", "attach": "attach_network_interface",
               "modify": "modify_network_interface_attribute"}  # fmt: skip
    for verb, action in actions.items():
        if f"{verb}_error" in given:
            refuse(node, action, given[f"{verb}_error"])
    since, made, error = len(node.ec2.calls), "", None
    try:
        made = node.ipamd.client.alloc_eni(None, given["count"])
    except EkslearnError as refusal:
        error = refusal
    calls = node.ec2.calls[since:]
    created = [call for call in calls if call.name == "CreateNetworkInterface" and not call.error]
    return {
        "created_in": created[-1].parameters["subnet"].name if created else None,
        "device_index": node.ec2.vpc.enis[made].device_index if made else None,
        "error": bool(error),
        "error_text": str(error),
        "ec2_calls": [call.name for call in calls],
    }


def refuse(node: Node, action: str, code: str) -> None:
    """Make one of EC2's actions answer with an error; it is recorded as any other call."""
    name = "".join(word.capitalize() for word in action.split("_"))
    admit = node.ec2.admit

    def refusing(asked: str) -> None:
        if asked == name:
            raise Ec2Error(code, "refused")
        admit(asked)

    node.ec2.admit = refusing  # type: ignore[method-assign]


def assign_ips(given: Given) -> dict[str, Any]:
    env = {"ENABLE_PREFIX_DELEGATION": given["prefix_delegation"]}
    node = Node(instance_type(given["instance_type"]), env)
    if code := given.get("ec2_error"):
        refuse(node, "assign_private_ip_addresses", code)
    since, error = len(node.ec2.calls), None
    try:
        node.ipamd.client.alloc_addresses(node.primary.eni_id, given["wanted"])
    except Ec2Error as refusal:
        error = refusal.code
    fields = {"count": "SecondaryPrivateIpAddressCount", "prefix_count": "Ipv4PrefixCount"}
    asked = [call.parameters for call in node.ec2.calls[since:]]
    field = next((name for name in fields if asked and name in asked[0]), None)
    return {
        "requested_from_ec2": asked[0][field] if field else None,
        "ec2_field": fields[field] if field else None,
        "error": error,
    }


def wait_attached(given: Given) -> dict[str, Any]:
    prefixes = given.get("prefix_delegation", False)
    node = Node(instance_type("m5.large"), {"ENABLE_PREFIX_DELEGATION": prefixes})
    eni = Eni(eni_id="eni-2", subnet=node.subnet, mac="", primary=node.subnet.take())
    count = given.get("found_prefixes", 0) if prefixes else given["found_secondary_ips"]
    eni.prefixes = [node.subnet.take_prefix() for _ in range(count if prefixes else 0)]
    eni.secondary = [node.subnet.take() for _ in range(0 if prefixes else count)]
    client, pauses = node.ipamd.client, []
    client.metadata = lambda: [node.primary, eni]  # type: ignore[method-assign]
    client._wait = pauses.append
    try:
        client.wait_attached("eni-2", given["wanted"])
    except EkslearnError as error:
        return {"result": f"error after {len(pauses) + 1} tries", "error": str(error)}
    partial = f"partial accepted after {len(pauses) + 1} tries"
    return {"result": "ok" if count >= given["wanted"] else partial}


def add_network(given: Given) -> dict[str, Any]:
    cards = given["cards"]
    if not given["ipv4"] or len(cards) != 1 or given["multi_nic"]:
        raise Absent("IPv6 and several network cards aren't modelled")
    env = {
        "AWS_VPC_K8S_CNI_EXTERNALSNAT": given.get("external_snat", False),
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": ",".join(given.get("exclude_snat_cidrs", [])),
    }
    node = Node(instance_type("m5.large"), env)
    for eni_id, told in cards[0].items():
        node.store.add_eni(StoredEni(eni_id=eni_id, device=told["device"]))
        for ip in told["ips"]:
            node.store.add_cidr(eni_id, IPv4Network(ip), prefix=False)
    answer: dict[str, Any] = {"success": False, "allocations": []}
    try:
        got = node.ipamd.assign("default", "pod", "container")
    except NoAddress:
        return answer
    allocation = {"ipv4": str(got.ip), "device": got.device, "table": got.table}
    excluded = () if node.settings.external_snat else node.settings.exclude_snat_cidrs
    exempt = [*given.get("vpc_cidrs", []), *map(str, excluded)]
    return {
        "success": True,
        "allocations": [allocation],
        "use_external_snat": node.settings.external_snat,
        "vpc_v4_cidrs": exempt,
    }


def reconcile(given: Given) -> dict[str, Any]:
    node = Node(instance_type("m5.large"), {})
    if "sequence" in given:
        return {"enis,total_ips": [reconcile_step(node, words) for words in given["sequence"]]}
    eni = node.primary
    eni.primary = IPv4Address(given["primary_ip_of_eni"])
    eni.secondary = [IPv4Address(ip) for ip in given["attached"]]
    node.store.add_eni(StoredEni(eni_id=eni.eni_id, device=0, primary=True))
    for ip in given["datastore"]:
        node.store.add_cidr(eni.eni_id, IPv4Network(ip), prefix=False)
    node.ipamd.reconcile()
    seen = [str(network[0]) for network in node.store.eni(eni.eni_id).cidrs]
    return {"seen": seen, "total_ips": node.store.total}


def reconcile_step(node: Node, words: str) -> list[int]:
    """Bring EC2 (and the metadata with it) to what the words say, and reconcile."""
    vpc, primary = node.ec2.vpc, node.primary
    others = [eni for eni in vpc.enis.values() if eni is not primary]
    if "new ENI gone" in words:
        node.ec2.detach_network_interface(others[-1].attachment_id)
    elif "gone" in words:
        for what in (*primary.secondary, *primary.prefixes):
            vpc.release(primary, what)
    else:
        eni = primary
        if "new ENI" in words:
            eni = node.ec2.create_network_interface(node.subnet)
            node.ec2.attach_network_interface(eni.eni_id, primary.instance, 1)
        for count, kind in re.findall(r"(\d+) (secondary|prefix)", words):
            prefix = kind == "prefix"
            asked = {"prefix_count" if prefix else "count": int(count)}
            node.ec2.assign_private_ip_addresses(eni.eni_id, **asked)
    node.ipamd.reconcile()
    return [len(node.store.enis), node.store.total]


DATASTORE = (
    "datastore-assign datastore-cidr datastore-cooldown datastore-eni datastore-exclusion "
    "datastore-force-remove datastore-free-prefixes datastore-toggle-pd datastore-v6 "
    "eni-free-decision"
).split()
AREAS: dict[str, Handler] = {
    **dict.fromkeys(DATASTORE, sequence),
    "assign-ips": assign_ips,
    "checkpoint-restore": restore,
    "create-eni": create_eni,
    "div-ceil": lambda given: {"value": div_ceil(given["x"], given["y"])},
    "ec2-error-class": lambda given: {
        "subnet_exhausted": pool.subnet_full(given["code"]),
        "eni_ip_limit": pool.eni_full(given["code"]),
    },
    "eni-free": free,
    "eni-tags": tags,
    "eniconfig-choice": eniconfig,
    "insufficient-cidr-cooldown": paused,
    "introspection": introspection,
    "ipamd-addnetwork": add_network,
    "ips-similar": similar,
    "pool-grow": grow,
    "pool-shrink": shrink,
    "pool-too-low": too_low,
    "pool-too-low-sequence": too_low_sequence,
    "prefix-defaults": lambda given: {
        "prefixes_per_eni_default": PREFIXES_AT_A_TIME,
        "ips_per_prefix": IPS_PER_PREFIX,
        "prefix_len": PREFIX_LENGTH,
    },
    "reconcile": reconcile,
    "reconcile-cooldown": reconcile_cooldown,
    "steady-state": steady_state,
    "subnet-excluded": excluded,
    "subnet-usable": usable,
    "unmanaged-enis": unmanaged,
    "wait-eni-attached": wait_attached,
    "warm-prefix-target-defined": lambda given: {
        "defined": pool.prefix_target_defined(settings(given))
    },
    "warm-target-state": target_state,
    "warm-targets-defined": lambda given: {"defined": pool.ip_targets_defined(settings(given))},
}
