"""A node's log bundle, as eks-log-collector gathers it, read into a scenario of that one node.

Read are the listings of rules, routes, iptables and switches, and what ipamd answered; everything
is pinned. What the node has and the VPC CNI alone would not have made becomes ``commands:``. What
the bundle doesn't hold is said. Nothing else is read: bundles can hold secrets.
Source: amazon-eks-ami, log-collector-script/linux/eks-log-collector.sh 0.7.9.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from .cluster import Lab
from .cni.names import host_veth, route_table
from .cni.settings import VARIABLES
from .errors import EkslearnError
from .scenario import load
from .vpc.instance import InstanceType, instance_type, instance_types

LIMIT = 50_000_000  # bytes of one file
RULES, ROUTES, SAVE = (
    "networking/iprule.txt",
    "networking/iproute.txt",
    "networking/iptables-save.txt",
)
SWITCHES, ENIS = "sysctls/sysctl_all.txt", "ipamd/enis.json"
ENVIRONMENT = "cni/cni-configuration-variables-containerd.json"
REGION = "system/region.txt"
NODE = "node"
LACKING = (
    "nft tables: with iptables-nft the CNI's connmark rules are in one of them, table ip aws-cni",
    "what is inside the pods' network namespaces: the CNI's own wiring is taken",
    "what listens where: no pod of this scenario has a port",
    "EC2's side: VPC route tables, security groups and network ACLs are left at nothing",
    "MAC addresses and neighbors",
)


@dataclass(slots=True)
class Reading:
    """A bundle's files and what is found out from them; ``notes`` are sentences for the reader."""

    where: str
    texts: dict[str, str]
    notes: list[str] = field(default_factory=list)

    def text(self, name: str) -> str:
        """A file that has to be there; EkslearnError if it isn't or is empty."""
        if not self.texts.get(name, "").strip():
            what = "is empty" if name in self.texts else "isn't there"
            raise EkslearnError(
                f"{self.where}: {name} {what}; a bundle of eks-log-collector has it"
            )
        return self.texts[name]

    def lines(self, name: str) -> list[str]:
        """The lines of a file, one blank between two words."""
        return [" ".join(line.split()) for line in self.text(name).splitlines() if line.strip()]


def read_bundle(source: str | Path, *, kind: str = "") -> tuple[str, list[str]]:
    """The scenario (YAML text) of the node a bundle is from, and what the bundle lacks.

    ``source`` is the folder or the .tar.gz; ``kind`` the instance type, which no bundle says.
    Raises EkslearnError, one sentence, where it is no bundle or too damaged to be read.
    """
    found = Reading(str(source), dict(_files(Path(source))))
    spec = _spec(found, kind)
    lab = load(_yaml(found, *spec))
    spec[0]["spec"]["commands"] = list(_differences(found, lab))
    notes = [*found.notes, *(f"the bundle doesn't hold {each}" for each in LACKING)]
    return _yaml(found, *spec, notes=notes), notes


def _files(path: Path) -> Iterator[tuple[str, str]]:
    """Name and text of the files that are read, from a folder or an archive."""
    wanted = (RULES, ROUTES, SAVE, SWITCHES, ENIS, ENVIRONMENT, REGION)
    try:
        if path.is_dir():
            inner = [one for one in path.iterdir() if one.is_dir()]
            root = path if (path / "networking").is_dir() or len(inner) != 1 else inner[0]
            for name in wanted:
                if (root / name).is_file() and (root / name).stat().st_size <= LIMIT:
                    yield name, (root / name).read_text(encoding="utf-8", errors="replace")
            return
        with tarfile.open(path) as archive:
            for member in archive:
                name = next((one for one in wanted if f"/{member.name}".endswith(f"/{one}")), "")
                held = archive.extractfile(member) if name and member.size <= LIMIT else None
                if held:
                    yield name, held.read().decode("utf-8", errors="replace")
    except (OSError, EOFError, tarfile.TarError) as error:
        why = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise EkslearnError(f"{path}: this bundle can't be read: {why}") from None


# What the node is


@dataclass(slots=True)
class _Eni:
    eni_id: str
    device: int
    subnet: str
    interface: str
    primary: IPv4Address
    network: IPv4Network
    addresses: list[str]
    prefixes: list[str]
    pods: list[tuple[str, str, str]]  # namespace, name, address


def _spec(found: Reading, kind: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The Cluster document and the Pod manifests."""
    enis = list(_enis(found))
    subnets = {each.subnet: each.network for each in enis}
    region = found.texts.get(REGION, "").strip() or "us-east-1"
    cidrs = list(dict.fromkeys(re.findall(
        r'-A AWS-SNAT-CHAIN-0 -d (\S+) -m comment --comment "AWS SNAT CHAIN" ', found.text(SAVE)
    )))  # fmt: skip
    if not cidrs:
        found.notes.append("no AWS SNAT rule names the VPC's CIDRs: the subnets are taken for them")
    held = [IPv4Network(each) for each in cidrs]
    cidrs += [str(each) for each in subnets.values() if not any(each.subnet_of(c) for c in held)]
    chosen = _kind(found, enis, kind)
    spec = {
        "vpc": {"cidrs": cidrs, "subnets": [
            {"name": name, "cidr": str(net), "zone": f"{region}a"} for name, net in subnets.items()
        ]},
        "cni": _environment(found, enis),
        "connmark": "iptables" if "AWS-CONNMARK-CHAIN-0" in found.text(SAVE) else "nft",
        "nodes": [{
            "name": NODE, "instanceType": chosen.name, "subnet": enis[0].subnet,
            "interfaces": [each.interface for each in enis],
            "enis": [{
                "deviceIndex": each.device, "subnet": each.subnet,
                "primaryAddress": str(each.primary), "addresses": each.addresses,
                "prefixes": each.prefixes,
            } for each in enis],
        }],
    }  # fmt: skip
    top = {"apiVersion": "ekslearn/v1", "kind": "Cluster", "metadata": {"name": "captured-node"}}
    rules = found.text(RULES)  # in the order in which pods came
    named = sorted((pod for each in enis for pod in each.pods),
                   key=lambda pod: rules.find(f" to {pod[2]} "))  # fmt: skip
    pods = [{
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": NODE, "containers": [{"name": "captured"}]}, "status": {"podIP": ip},
    } for namespace, name, ip in named]  # fmt: skip
    return top | {"spec": spec}, pods


def _enis(found: Reading) -> Iterator[_Eni]:
    """The ENIs, from what ipamd answered and from where rules and routes lead.

    A broken node lacks some of these: each fact is looked for in more than one row.
    """
    routes = "\n".join(found.lines(ROUTES))
    own = {ip: dev for ip, dev in re.findall(r"^local (\S+) dev (\S+) table local", routes, re.M)
           if not ip.startswith("127.")}  # fmt: skip
    enis = {int(told.get("DeviceNumber", 0)): told for told in _told(found)}
    names = {device: _interface(found, routes, own, device) for device in sorted(enis)}
    networks: dict[str, IPv4Network] = {}
    for device, interface in names.items():
        told = enis[device]
        subnet = told.get("SubnetID") or "subnet"
        left = {dev for ip, dev in own.items() if dev not in names.values()
                and any(IPv4Address(ip) in each for each in networks.values())}  # fmt: skip
        if not interface and len(left) == 1:  # the only one that it can be
            (interface,) = left
        primary = next((ip for ip, dev in own.items() if dev == interface), "")
        if not primary:
            raise EkslearnError(f"{found.where}: neither {ROUTES} nor {RULES} tells which interface"
                                f" {told['ID']}, device {device}, is and what its address"
                                " is")  # fmt: skip
        if subnet not in networks:
            networks[subnet] = _network(found, routes, interface)
        cidrs = told.get("AvailableIPv4Cidrs") or {}
        yield _Eni(
            told["ID"], device, subnet, interface, IPv4Address(primary), networks[subnet],
            [name.partition("/")[0] for name, one in cidrs.items() if not one.get("IsPrefix")],
            [name for name, one in cidrs.items() if one.get("IsPrefix")],
            list(_pods(found, cidrs)),
        )  # fmt: skip


def _interface(found: Reading, routes: str, own: dict[str, str], device: int) -> str:
    """What the node calls the ENI of a device index; empty if nothing tells."""
    table = route_table(device)
    if not device:
        ways = [r"^default via \S+ dev (\S+)(?= |$)(?!.*\btable\b)"]
        address = re.search(r'"AWS, SNAT".*--to-source ([0-9.]+)', found.text(SAVE))
    else:
        ways = [rf"^\S+ via \S+ dev (\S+) table {table}\b", rf"^\S+ dev (\S+) table {table}\b"]
        address = re.search(rf"\b32765: from (\S+) lookup {table}\b", " ".join(found.lines(RULES)))
    named = next((seen[1] for way in ways if (seen := re.search(way, routes, re.M))), "")
    return named or own.get(address[1] if address else "", "")


def _network(found: Reading, routes: str, interface: str) -> IPv4Network:
    """The subnet behind an interface: its connected route, or what its gateway and its broadcast
    address leave.
    """
    if near := re.search(rf"^(\S+/\d+) dev {interface} proto kernel", routes, re.M):
        return IPv4Network(near[1])
    gateway = re.search(rf"^default via (\S+) dev {interface}\b", routes, re.M)
    ends = re.findall(rf"^broadcast (\S+) dev {interface} table local", routes, re.M)
    if not gateway or not ends:
        raise EkslearnError(f"{found.where}: {ROUTES} doesn't tell the subnet of {interface}")
    span = int(IPv4Address(ends[-1])) - int(IPv4Address(gateway[1])) + 2
    return IPv4Network((int(IPv4Address(gateway[1])) - 1, 33 - span.bit_length()))


def _told(found: Reading) -> list[dict[str, Any]]:
    """The ENIs of enis.json: the last answer, where the collector ran twice; card 0 only."""
    text, last = found.text(ENIS).strip(), None
    while text:
        try:
            last, end = json.JSONDecoder().raw_decode(text)
        except ValueError:
            break
        text = text[end:].lstrip()
    inner = last.get("0", last) if isinstance(last, dict) else None
    enis = inner.get("ENIs") if isinstance(inner, dict) else None
    if not isinstance(enis, dict) or not enis or not all(
        isinstance(each, dict) and "ID" in each for each in enis.values()
    ):  # fmt: skip
        raise EkslearnError(f"{found.where}: {ENIS} isn't what ipamd answers on /v1/enis")
    if isinstance(last, dict) and len(last) > 1 and "0" in last:
        found.notes.append("network cards other than 0 are left out: multi-NIC isn't modelled")
    return list(enis.values())


def _pods(found: Reading, cidrs: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The pods that hold addresses; one whose name isn't told gets the address for a name."""
    for one in cidrs.values():
        for ip, info in (one.get("IPAddresses") or {}).items():
            if not info.get("IPAMKey", {}).get("networkName"):
                continue
            meta = info.get("IPAMMetadata") or {}
            name = meta.get("k8sPodName")
            if not name:
                found.notes.append(f"{ENIS} doesn't name the pod of {ip}: its veth is called anew")
            yield (meta.get("k8sPodNamespace") or "default", name or f"pod-{ip.replace('.', '-')}",
                   ip)  # fmt: skip


def _kind(found: Reading, enis: list[_Eni], kind: str) -> InstanceType:
    """The instance type that was named, else the smallest one that has room for all this."""
    if kind:
        return instance_type(kind)
    most = max(1 + len(each.addresses) + len(each.prefixes) for each in enis)
    room = (each for each in instance_types().values() if each.prefix_delegation
            and each.enis > enis[-1].device and each.ipv4_per_eni >= most)  # fmt: skip
    chosen = min(room, key=lambda each: (each.enis, each.ipv4_per_eni, each.vcpus, each.name))
    found.notes.append(f"no bundle says the instance type: {chosen.name}, the smallest that has"
                       " room, stands in (--instance-type names another)")  # fmt: skip
    return chosen


def _environment(found: Reading, enis: list[_Eni]) -> dict[str, str]:
    """The variables of aws-node that matter, from its container's description if it is there."""
    env: dict[str, str] = {}
    try:
        told = json.loads(found.texts.get(ENVIRONMENT) or "{}")
        pairs = (told.get("Spec") or told.get("spec") or told)["process"]["env"]
        env = dict(pair.partition("=")[::2] for pair in pairs)
    except (ValueError, KeyError, TypeError, AttributeError):
        found.notes.append(f"{ENVIRONMENT} isn't there or can't be read: settings are guessed from"
                           " the rules")  # fmt: skip
    kept = {name: value for name, value in env.items() if name in VARIABLES and value}
    save = found.text(SAVE)
    if not kept:
        kept["AWS_VPC_K8S_CNI_EXTERNALSNAT"] = str("AWS, SNAT" not in save).lower()
        kept["AWS_VPC_CNI_NODE_PORT_SUPPORT"] = str("--limit-iface-in" in save).lower()
    if any(each.prefixes for each in enis):
        kept["ENABLE_PREFIX_DELEGATION"] = "true"
    ends = {line.split()[2] for line in found.lines(ROUTES) if " scope link" in line}
    for namespace, name, _ in (pod for each in enis for pod in each.pods):
        suffix = host_veth(namespace, name, "")
        if prefix := next((end[: -len(suffix)] for end in ends if end.endswith(suffix)), ""):
            kept["AWS_VPC_K8S_CNI_VETHPREFIX"] = prefix
            break
    return dict(sorted(kept.items()))


# Where the node isn't what the CNI would have made


def _differences(found: Reading, lab: Lab) -> Iterator[str]:
    """Lines that make the modelled node what the captured one was; what can't be is noted."""
    for line in (*_rules(found, lab), *_routes(found, lab), *_iptables(found, lab),
                 *_switches(found, lab)):  # fmt: skip
        if found.notes[-1:] == [TOO_MANY]:
            return
        done = lab.run(NODE, line)
        if not done.status:
            yield f"{NODE}$ {line}"
            continue
        said = " ".join((done.stderr or done.stdout).split())
        found.notes.append(f"left out, since the model says {said!r}: {line}")
        if sum(note.startswith("left out") for note in found.notes) > MOST_LEFT_OUT:
            found.notes.append(TOO_MANY)


MOST_LEFT_OUT = 200
TOO_MANY = f"more than {MOST_LEFT_OUT} lines can't be taken over; the rest isn't tried"


def _listed(lab: Lab, command: str) -> list[str]:
    text = lab.run(NODE, command).stdout
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def _apart(model: Iterable[str], real: Iterable[str]) -> tuple[list[str], list[str]]:
    """What only the model has, and what only the captured node has, in their order."""
    mine, theirs = Counter(model), Counter(real)
    return list((mine - theirs).elements()), list((theirs - mine).elements())


def _rules(found: Reading, lab: Lab) -> Iterator[str]:
    gone, new = _apart(_listed(lab, "ip rule show"), found.lines(RULES))
    for verb, rules in (("add", new), ("del", gone)):
        for rule in rules:
            priority, _, rest = rule.replace("[detached]", "").partition(":")
            yield f"ip rule {verb} {rest.strip()} prio {priority}"


def _routes(found: Reading, lab: Lab) -> Iterator[str]:
    """Routes of IPv4; those of table local follow from addresses."""
    real = [line for line in found.lines(ROUTES)
            if " table local" not in line and ":" not in line.split()[0]]  # fmt: skip
    mine = [line for line in _listed(lab, "ip route show table all") if " table local" not in line]
    gone, new = _apart(mine, (line.replace(" linkdown", "") for line in real))
    yield from (f"ip route add {line}" for line in new)
    yield from (f"ip route del {line}" for line in gone)


def _iptables(found: Reading, lab: Lab) -> Iterator[str]:
    """The tables that differ, emptied and filled again; EkslearnError if one isn't whole."""
    begun, ended = (re.findall(rf"^{mark}", found.text(SAVE), re.M) for mark in (r"\*", "COMMIT$"))
    if not begun or len(begun) != len(ended):
        raise EkslearnError(f"{found.where}: {SAVE} is cut off: not every table has its COMMIT")
    mine, real = (dict(_tables(text)) for text in
                  (lab.run(NODE, "iptables-save").stdout, found.text(SAVE)))  # fmt: skip
    for table in sorted({*mine, *real}):
        if table not in ("filter", "nat", "mangle"):
            found.notes.append(f"left out: the iptables table {table}, which isn't modelled")
        elif mine.get(table) != real.get(table):
            yield from (f"iptables -t {table} -F", f"iptables -t {table} -X")
            for line in real.get(table, ()):
                chain, policy = [*line[1:].split(), ""][:2]
                if line.startswith("-A"):
                    yield f"iptables -t {table} {line}"
                elif policy == "-":
                    yield f"iptables -t {table} -N {chain}"
                elif policy != "ACCEPT":
                    yield f"iptables -t {table} -P {chain} {policy}"


def _tables(save: str) -> Iterator[tuple[str, list[str]]]:
    """The tables of an iptables-save: chains and rules without their counters."""
    for name, body in re.findall(r"^\*(\w+)\n(.*?)^COMMIT", save, re.M | re.S):
        yield name, [re.sub(r" ?\[\d+:\d+\] ?", "", line).strip() for line in body.splitlines()]


def _switches(found: Reading, lab: Lab) -> Iterator[str]:
    """Switches that the model knows and that stood otherwise; one for all comes first."""
    if not found.texts.get(SWITCHES, "").strip():
        found.notes.append(f"{SWITCHES} isn't there: switches are those of the model")
        return
    real = dict(line.split(" = ", 1) for line in found.lines(SWITCHES) if " = " in line)
    mine = dict(line.split(" = ", 1) for line in _listed(lab, "sysctl -a"))
    for key in sorted(mine, key=lambda key: (".all." not in key, ".default." not in key, key)):
        if real.get(key, mine[key]) != mine[key]:
            yield f"sysctl -w {key}={real[key]}"


def _yaml(
    found: Reading, top: dict[str, Any], pods: list[dict[str, Any]], notes: Iterable[str] = ()
) -> str:
    text, out = YAML(), io.StringIO()
    text.width = 4096
    text.indent(mapping=2, sequence=4, offset=2)
    out.write("# One node, read from a log bundle; everything that the bundle says is pinned.\n")
    out.writelines(f"# - {note}\n" for note in notes)
    text.dump_all([top, *pods], out)
    return out.getvalue()
