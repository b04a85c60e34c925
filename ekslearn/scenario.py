"""Reads and writes scenarios: YAML text in, a ``Lab`` out, or one sentence saying why not.

``ekslearn.document`` reads the text; here the fields are judged. Every refusal names file, line
and field.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from ruamel.yaml import YAML

from ekslearn import data_path
from ekslearn.cluster import Cluster, Lab, PinnedEni, socket_of
from ekslearn.cni.settings import Settings
from ekslearn.cni.settings import read as read_settings
from ekslearn.document import LIMIT, Composer, Node, read, reason, short
from ekslearn.errors import EkslearnError, NotModelled
from ekslearn.kubernetes import read_pod
from ekslearn.vpc.instance import instance_type
from ekslearn.vpc.model import Vpc
from ekslearn.vpc.security import ANYWHERE, SecurityGroup, SecurityRule
from ekslearn.vpc.subnet import Subnet

API = "ekslearn/v1"
MANIFESTS = [("v1", "Pod"), ("crd.k8s.amazonaws.com/v1alpha1", "ENIConfig")]


# A listener to be: where it was written, place, "0.0.0.0:80/tcp", its address, its process.
Socket = tuple[Node, str, str, IPv4Address, str]


def load(source: str | Path) -> Lab:
    """The lab that a scenario describes, wired and ready.

    ``source`` is a file, a folder of YAML files, the bare name of a scenario that comes with
    the package, or YAML text (recognised by having several lines). Raises EkslearnError, one
    sentence with file, line and field, if any part of it can't be; then nothing is loaded.
    """
    if isinstance(source, str) and ("\n" in source or source.lstrip()[:1] in ("", "{")):
        if len(source.encode(errors="replace")) > LIMIT:
            raise EkslearnError(f"(text): over {LIMIT:,} bytes, the limit for a scenario")
        documents = Composer(source.removeprefix("\ufeff"), "(text)").documents()
        where = "(text)"
    else:
        documents = [
            one for file in files(source) for one in Composer(read(file), str(file)).documents()
        ]
        where = str(source)
    if not documents:
        raise EkslearnError(
            f"{where}: there is no scenario in it; it needs one document with"
            f" apiVersion: {API} and kind: Lab or Cluster"
        )
    own = [one for one in documents if kind_of(one)[0] == API]
    if not own:
        documents[0].refuse(f"no document here has apiVersion: {API} and kind: Lab or Cluster")
    if len(own) > 1:
        own[1].refuse("a second scenario begins here; one is expected")
    rest = [one for one in documents if one is not own[0]]
    if kind_of(own[0])[1] == "Cluster":
        return cluster(own[0], rest)
    if rest:
        rest[0].refuse("a Lab has no Kubernetes objects beside it; a Cluster has")
    return build(own[0])


def files(source: str | Path) -> list[Path]:
    """The YAML files that ``source`` means, in the order of their names."""
    path = Path(source)
    try:
        if not path.exists() and len(path.parts) == 1:
            shelf = data_path("scenarios")
            known = sorted(file.stem for file in shelf.glob("*.yaml"))
            if path.name.removesuffix(".yaml") not in known:
                near = difflib.get_close_matches(path.name, known, n=1) or known
                raise EkslearnError(
                    f"{short(str(path))}: there is no such file, nor a scenario"
                    f" of that name; did you mean {' or '.join(near)}?"
                )
            path = shelf / f"{path.name.removesuffix('.yaml')}.yaml"
        if not path.is_dir():
            return [path]
        found = sorted(one for one in path.iterdir() if one.suffix in (".yaml", ".yml"))
    except (OSError, ValueError) as error:
        raise EkslearnError(f"{short(str(path))}: it can't be read: {reason(error)}") from None
    if not found:
        raise EkslearnError(f"{path}: this folder holds no scenario (no file ends in .yaml)")
    return found


def kind_of(document: Node) -> tuple[str, str]:
    """The apiVersion and kind of a document; refuse one that isn't read here, by its kind."""
    found = document.expect(dict)
    for name in ("apiVersion", "kind"):
        if name not in found:
            document.refuse(
                f"the field {name} is missing; a scenario begins with"
                f" apiVersion: {API} and kind: Lab or Cluster"
            )
    api, kind = (str(found[name].expect(str)) for name in ("apiVersion", "kind"))
    if api == API and kind not in ("Lab", "Cluster"):
        found["kind"].refuse(f"{short(kind)} is no kind of scenario; known here: Lab, Cluster")
    if api != API and (api, kind) not in MANIFESTS:
        known = ", ".join(f"{kind} of {api}" for api, kind in MANIFESTS)
        found["kind"].refuse(f"{kind[:60]} of {api[:60]} isn't read by this version, which reads"
                             f" {known} beside a Cluster", NotModelled)  # fmt: skip
    return api, kind


def build(document: Node) -> Lab:
    """The lab of one document."""
    top = document.fields("apiVersion", "kind", "metadata", "spec")
    name = top["metadata"].fields("name")["name"].name()
    spec = top["spec"].fields("namespaces", optional=("listen", "commands"))
    places: dict[str, int] = {}
    for node in spec["namespaces"].expect(list):
        if node.name() in places:
            node.refuse(
                f"the namespace {node.value} is here twice; the first is on line"
                f" {places[node.value]}"
            )
        places[node.value] = node.line
    if not places:
        spec["namespaces"].refuse("the list is empty; a lab needs at least one namespace")
    lab = Lab(name, list(places))
    sockets = spec["listen"].expect(list) if "listen" in spec else ()
    waiting = start(lab, [socket(lab, node) for node in sockets])
    for node in items(spec.get("commands")):
        command(lab, node)
        waiting = start(lab, waiting)
    start(lab, waiting, late=True)
    return lab


def cluster(document: Node, manifests: list[Node]) -> Cluster:
    """The cluster of one document and the Kubernetes objects beside it."""
    top = document.fields("apiVersion", "kind", "metadata", "spec")
    spec = top["spec"].fields("vpc", "nodes", optional=(
        "cni", "connmark", "serviceCIDR", "hosts", "commands", "seed"
    ))  # fmt: skip
    name = top["metadata"].fields("name")["name"].name()
    made = Cluster(name, vpc_of(spec["vpc"]), settings_of(spec.get("cni")),
                   connmark=choice(spec.get("connmark"), "nft", "iptables"))  # fmt: skip
    for node in items(spec["nodes"]):
        add_node(made, node)
    for node in items(spec.get("hosts")):
        add_host(made, node)
    for manifest in manifests:
        if kind_of(manifest)[1] == "Pod":
            with placed(manifest):
                made.add_pod(read_pod(manifest))
    made.settle()
    for line in items(spec.get("commands")):
        command(made, line)
    return made


@contextmanager
def placed(node: Node) -> Iterator[None]:
    """What is refused inside is refused with file, line and field of ``node``."""
    try:
        yield
    except EkslearnError as error:
        at = f"{node.file}:"
        if str(error).startswith(at):
            raise
        node.refuse(str(error), NotModelled if isinstance(error, NotModelled) else EkslearnError)


def choice(node: Node | None, *known: str) -> str:
    """The word of a node, one of ``known``; the first of them if there is no node."""
    if node is None:
        return known[0]
    if node.expect(str) not in known:
        node.refuse(f"{short(node.value)} is none of {', '.join(known)}")
    return str(node.value)


def network(node: Node) -> IPv4Network:
    """The network that a node spells."""
    try:
        return IPv4Network(node.expect(str))
    except ValueError as error:
        node.refuse(f"{short(node.value)} isn't a network such as 10.0.0.0/16: {error}")


def address(node: Node) -> IPv4Address:
    """The address that a node spells."""
    try:
        return IPv4Address(node.expect(str))
    except ValueError:
        node.refuse(f"{short(node.value)} isn't an IPv4 address")


def items(node: Node | None) -> list[Node]:
    """The nodes of a list, none if there is no list."""
    return list(node.expect(list)) if node else []


def vpc_of(node: Node) -> Vpc:
    """The VPC that ``spec.vpc`` describes."""
    spec = node.fields("cidrs", "subnets", optional=("securityGroups",))
    vpc = Vpc([])
    for each in items(spec["cidrs"]):
        with placed(each):
            vpc.add_cidr(network(each))
    if not vpc.cidrs:
        spec["cidrs"].refuse("the list is empty; a VPC has at least one CIDR")
    for each in items(spec.get("securityGroups")):
        group = each.fields("name", optional=("ingress", "egress"))
        with placed(each):
            vpc.add_security_group(SecurityGroup(
                group["name"].name(), map(rule, items(group.get("ingress"))),
                *([map(rule, items(group["egress"]))] if "egress" in group else []),
            ))  # fmt: skip
    for each in items(spec["subnets"]):
        subnet = each.fields("name", "cidr", "zone", optional=("routes", "tags", "reservations"))
        made = Subnet(
            subnet["name"].name(), network(subnet["cidr"]), str(subnet["zone"].expect(str)),
            tags=texts(subnet.get("tags")),
        )  # fmt: skip
        with placed(subnet["cidr"]):
            vpc.add_subnet(made)
        for one in items(subnet.get("routes")):
            way = one.fields("destination", "target")
            with placed(way["target"]):
                made.table.add(str(network(way["destination"])), way["target"].expect(str))
        for one in items(subnet.get("reservations")):
            kept = one.fields("cidr", "type")
            with placed(one):
                made.reserve(str(network(kept["cidr"])), choice(kept["type"], "prefix", "explicit"))
    return vpc


def rule(node: Node) -> SecurityRule:
    """One rule of a security group: protocol, port or ports, and who is at the other end."""
    found = node.fields(optional=("protocol", "port", "cidr", "group"))
    port = found["port"].whole(1, 65535) if "port" in found else None
    with placed(node):
        return SecurityRule(
            protocol=choice(found.get("protocol"), "all", "tcp", "udp", "icmp"), from_port=port,
            cidr=network(found["cidr"]) if "cidr" in found else ANYWHERE, group=node.text("group"),
        )  # fmt: skip


def settings_of(node: Node | None) -> Settings:
    """The CNI's settings: the environment of the aws-node container."""
    env = texts(node)
    with placed(node) if node else nullcontext():
        return read_settings(env)


def texts(node: Node | None) -> dict[str, str]:
    """A mapping of texts."""
    return {key: str(one.expect(str)) for key, one in node.expect(dict).items()} if node else {}


def groups_of(made: Cluster, node: Node | None) -> list[SecurityGroup]:
    """The security groups that a list names."""
    return [made.vpc.security_groups[one.value] for one in items(node)
            if known(one, made.vpc.security_groups, "security group")]  # fmt: skip


def known(node: Node, there: Collection[str], what: str) -> str:
    """The name that a node spells, if it is one of ``there``."""
    name = str(node.expect(str))
    if name not in there:
        node.refuse(f"there is no {what} {short(name)}; there are {', '.join(there) or 'none'}")
    return name


def add_node(made: Cluster, node: Node) -> None:
    """Launch one of ``spec.nodes``."""
    spec = node.fields("name", "instanceType", "subnet", optional=(
        "address", "interfaces", "enis", "maxPods", "labels", "securityGroups", "unschedulable",
    ))  # fmt: skip
    names = [str(one.expect(str)) for one in items(spec.get("interfaces"))]
    name, subnet = free_name(made, spec["name"]), known(spec["subnet"], made.vpc.subnets, "subnet")
    with placed(spec["instanceType"]):
        instance_type(spec["instanceType"].expect(str))
    with placed(node):
        made.add_node(
            name, spec["instanceType"].value, subnet, interfaces=names,
            enis=[pinned(made, one) for one in items(spec.get("enis"))],
            pods=spec["maxPods"].whole(1, 10000) if "maxPods" in spec else None,
            labels=texts(spec.get("labels")), groups=groups_of(made, spec.get("securityGroups")),
        )  # fmt: skip


def pinned(made: Cluster, node: Node) -> PinnedEni:
    """One of a node's ``enis:``: an ENI with the addresses it has on a real node."""
    spec = node.fields("deviceIndex", "primaryAddress", optional=(
        "subnet", "addresses", "prefixes", "securityGroups",
    ))  # fmt: skip
    return PinnedEni(
        device=spec["deviceIndex"].whole(0, 99), primary=address(spec["primaryAddress"]),
        subnet=known(spec["subnet"], made.vpc.subnets, "subnet") if "subnet" in spec else "",
        secondary=tuple(map(address, items(spec.get("addresses")))),
        prefixes=tuple(map(network, items(spec.get("prefixes")))),
    )  # fmt: skip


def add_host(made: Cluster, node: Node) -> None:
    """Add one of ``spec.hosts``."""
    spec = node.fields("name", optional=(
        "subnet", "address", "addresses", "listen", "securityGroups",
    ))  # fmt: skip
    found = [spec["address"]] if "address" in spec else items(spec.get("addresses"))
    if not found and "subnet" not in spec:
        node.refuse("a machine outside the VPC needs addresses")
    name = free_name(made, spec["name"])
    subnet = known(spec["subnet"], made.vpc.subnets, "subnet") if "subnet" in spec else ""
    with placed(node):
        made.add_host(name, [address(one) for one in found], subnet,
                      groups_of(made, spec.get("securityGroups")))  # fmt: skip
    for one in items(spec.get("listen")):
        with placed(one):
            made.listen(name, f"0.0.0.0:{one.expect(str)}")


def free_name(made: Cluster, node: Node) -> str:
    """The name of a machine to be, if no other has it."""
    if node.name() in made.places:
        node.refuse(f"there is a machine called {node.value} already")
    return str(node.value)


def command(lab: Lab, node: Node) -> None:
    """Run one line of ``commands:``; a line that fails makes the scenario invalid."""
    with placed(node):
        done = lab.line(node.expect(str))
    if done.status:
        said = " ".join((done.stderr or done.stdout).split())
        node.refuse(f"{short(node.value)} ends with status {done.status}: {said}")


def socket(lab: Lab, node: Node) -> Socket:
    """What ``PLACE ADDRESS:PORT/PROTOCOL [PROCESS]`` describes: where, on what, by whom."""
    match node.expect(str).split():
        case [place, what, *process] if len(process) < 2:
            pass
        case _:
            node.refuse(
                f"{short(node.value)} should read PLACE ADDRESS:PORT/PROTOCOL, as in"
                " blue 0.0.0.0:80/tcp"
            )
    if place not in lab.places:
        node.refuse(f"there is no namespace {short(place)}; this lab has {', '.join(lab.places)}")
    try:
        return node, place, what, socket_of(what)[0], "".join(process)
    except EkslearnError as error:
        node.refuse(str(error))


def start(lab: Lab, waiting: list[Socket], *, late: bool = False) -> list[Socket]:
    """Let those listen whose address is there by now, or all if it is ``late``; return the rest.

    So a later line may take the address away again, as on a real machine.
    """
    rest = []
    for one in waiting:
        node, place, what, address, process = one
        if not (late or address.is_unspecified or lab.namespace(place).is_local(address)):
            rest.append(one)
            continue
        try:
            lab.listen(place, what, process=process)
        except EkslearnError as error:
            node.refuse(str(error))
    return rest


def dump(lab: Lab) -> str:
    """YAML text that loads to an equal lab: its namespaces, its listeners, every line run."""
    listen = [
        f"{place} {one.address}:{one.port}/{one.protocol} {one.process}".rstrip()
        for place in lab.places
        for one in lab.namespace(place).sockets.listeners
    ]
    spec = {"namespaces": list(lab.places), "listen": listen, "commands": list(lab.lines)}
    top = {"apiVersion": API, "kind": "Lab", "metadata": {"name": lab.name}}
    text, out = YAML(), io.StringIO()
    text.width = 4096
    text.indent(mapping=2, sequence=4, offset=2)
    text.dump(top | {"spec": {key: value for key, value in spec.items() if value}}, out)
    return out.getvalue()
