"""Reads and writes scenarios: YAML text in, a ``Lab`` out, or one sentence saying why not.

``ekslearn.document`` reads the text; here the fields are judged. Every refusal names file, line
and field.
"""

from __future__ import annotations

import io
from ipaddress import IPv4Address
from pathlib import Path

from ruamel.yaml import YAML

from .cluster import Cluster, Lab, socket_of
from .cni.settings import read as read_settings
from .controller import add_binding, internal_ip, read_ingress, read_node
from .controller.reconcile import BINDING
from .document import LIMIT, Composer, Node, files, read, short
from .elb import read_load_balancer
from .errors import EkslearnError, NotModelled
from .ipamd.pool import read_eniconfig
from .kubernetes import read_manifests, service_cidr, unpacked
from .policy import read_network_policy
from .vpc.instance import instance_type
from .vpc.reading import read_enis, read_groups, read_vpc

API = "ekslearn/v1"
HEAD = f"apiVersion: {API} and kind: Lab or Cluster"


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
        where, found = "(text)", [("(text)", source.removeprefix("\ufeff"))]
    else:
        where, found = str(source), [(str(file), read(file)) for file in files(source)]
    documents = [
        one for file, text in found for document in Composer(text, file).documents()
        if kind_of(document) for one in unpacked(document)
    ]  # fmt: skip
    if not documents:
        raise EkslearnError(f"{where}: there is no scenario in it; it needs a document with {HEAD}")
    own = [one for one in documents if kind_of(one)[0] == API]
    if not own:
        documents[0].refuse(f"no document here has {HEAD}")
    if len(own) > 1:
        own[1].refuse("a second scenario begins here; one is expected")
    rest = [one for one in documents if one is not own[0]]
    if kind_of(own[0])[1] == "Cluster":
        made = cluster(own[0], rest)
        made.text, made.loaded = "\n---\n".join(text for _, text in found), len(made.lines)
        return made
    if rest:
        rest[0].refuse("a Lab has no Kubernetes objects beside it; a Cluster has")
    return build(own[0])


def kind_of(document: Node) -> tuple[str, str]:
    """The apiVersion and kind of a document; refuse one that isn't read here, by its kind."""
    found = document.expect(dict)
    for name in ("apiVersion", "kind"):
        if name not in found:
            document.refuse(f"the field {name} is missing; a scenario begins with {HEAD}")
    api, kind = (str(found[name].expect(str)) for name in ("apiVersion", "kind"))
    if api.partition("/")[0] == API.partition("/")[0] != api != API:
        found["apiVersion"].refuse(f"{short(api)} isn't read by this version, which reads {API}",
                                   NotModelled)  # fmt: skip
    if api == API and kind not in ("Lab", "Cluster"):
        found["kind"].refuse(f"{short(kind)} is no kind of scenario; known here: Lab, Cluster")
    return api, kind


def build(document: Node) -> Lab:
    """The lab of one document."""
    top = document.fields("apiVersion", "kind", "metadata", "spec")
    name = top["metadata"].fields("name")["name"].name()
    spec = top["spec"].fields("namespaces", optional=("listen", "commands"))
    places: dict[str, int] = {}
    for node in spec["namespaces"].expect(list):
        if node.name() in places:
            first = places[node.value]
            node.refuse(f"the namespace {node.value} is here twice; the first is on line {first}")
        places[node.value] = node.line
    if not places:
        spec["namespaces"].refuse("the list is empty; a lab needs at least one namespace")
    lab = Lab(name, list(places))
    sockets = spec["listen"].expect(list) if "listen" in spec else ()
    waiting = start(lab, [socket(lab, node) for node in sockets])
    for node in top["spec"].items("commands"):
        command(lab, node)
        waiting = start(lab, waiting)
    start(lab, waiting, late=True)
    return lab


def cluster(document: Node, manifests: list[Node]) -> Cluster:
    """The cluster of one document and the Kubernetes objects beside it."""
    top = document.fields("apiVersion", "kind", "metadata", "spec")
    spec = top["spec"]
    spec.fields("vpc", "nodes", optional=(
        "cni", "connmark", "serviceCIDR", "hosts", "loadBalancers", "commands"))  # fmt: skip
    with (spec.at("cni") or spec).placed():
        settings = read_settings(spec.texts("cni"))
    objects = read_manifests(manifests)
    vpc = read_vpc(spec.value["vpc"])
    for one, _ in objects.policies:
        for group in one.items("spec", "securityGroups", "groupIds"):
            group.known(vpc.security_groups, "security group")
    made = Cluster(
        top["metadata"].fields("name")["name"].name(), vpc, settings,
        connmark=spec.choice("nft", "iptables", path=("connmark",)),
        eniconfigs=[read_eniconfig(one) for one in objects.others["ENIConfig"]],
        policies=[policy for _, policy in objects.policies],
        service_cidr=service_cidr(spec.at("serviceCIDR"), vpc.cidrs),
    )  # fmt: skip
    names = [node.text("name") for node in spec.items("nodes")]
    told = {(one.at("metadata", "name") or one).known(names, "node"): one
            for one in objects.others["Node"]}  # fmt: skip
    for node in spec.items("nodes"):
        add_node(made, node, told.get(node.text("name")))
    for node in spec.items("hosts"):
        add_host(made, node)
    for node in spec.items("loadBalancers"):
        read_load_balancer(made.elb, node)
    for manifest, pod in objects.pods:
        with manifest.placed():
            made.add_pod(pod)
    for manifest, service in objects.services:
        made.notes += made.control.add_service(service, manifest)
    for manifest in objects.others["Ingress"]:
        made.notes += made.control.add_ingress(read_ingress(manifest), manifest)
    for manifest in objects.others["TargetGroupBinding"]:
        made.notes += add_binding(manifest, made.control.controller.bindings)
    made.services.slices += [piece for _, piece in objects.slices]
    made.network_policy.namespaces |= objects.namespaces
    for manifest in objects.others["NetworkPolicy"]:
        made.network_policy.apply(read_network_policy(manifest))
    if objects.others["NetworkPolicy"] and settings.network_policy_mode in ("", "none"):
        made.notes.append("NETWORK_POLICY_ENFORCING_MODE is none: no NetworkPolicy has effect")
    made.settle()
    made.notes += objects.notes
    made.notes += [f"{name}: {why}" for name, why in made.control.controller.events.items()
                   if name.startswith(BINDING)]  # fmt: skip
    for line in spec.items("commands"):
        command(made, line)
    return made


def add_node(made: Cluster, node: Node, manifest: Node | None) -> None:
    """Launch one of ``spec.nodes``; ``manifest`` is what Kubernetes holds of it."""
    spec = node.fields("name", "instanceType", "subnet", optional=(
        "interfaces", "enis", "maxPods", "labels", "securityGroups",
    ))  # fmt: skip
    name, subnet = free_name(made, spec["name"]), spec["subnet"].known(made.vpc.subnets, "subnet")
    with spec["instanceType"].placed():
        kind = instance_type(spec["instanceType"].expect(str))
    about = {each: manifest.texts("metadata", each) if manifest else {}
             for each in ("labels", "annotations")}  # fmt: skip
    about["labels"] = node.texts("labels") | about["labels"]
    enis, own = read_enis(made.vpc, node), internal_ip(manifest)
    with (own if own and not enis else node).placed():
        made.add_node(
            name, kind, subnet, interfaces=[one.expect(str) for one in node.items("interfaces")],
            enis=enis, pods=spec["maxPods"].whole(1, 10000) if "maxPods" in spec else None,
            address=own.address() if own else None, groups=read_groups(made.vpc, node), **about,
        )  # fmt: skip
    if manifest:
        made.control.nodes[name] = read_node(
            manifest, about["labels"], address=made.address(name), kind=kind.name,
            zone=made.vpc.subnets[subnet].zone,
        )  # fmt: skip


def add_host(made: Cluster, node: Node) -> None:
    """Add one of ``spec.hosts``."""
    spec = node.fields("name", optional=(
        "subnet", "address", "addresses", "listen", "securityGroups",
    ))  # fmt: skip
    found = [spec["address"]] if "address" in spec else node.items("addresses")
    if not found and "subnet" not in spec:
        node.refuse("a machine outside the VPC needs addresses")
    name = free_name(made, spec["name"])
    subnet = spec["subnet"].known(made.vpc.subnets, "subnet") if "subnet" in spec else ""
    with node.placed():
        addresses = [one.address() for one in found]
        made.add_host(name, addresses, subnet, read_groups(made.vpc, node))
    for one in node.items("listen"):
        with one.placed():
            made.listen(name, f"0.0.0.0:{one.expect(str)}")


def free_name(made: Cluster, node: Node) -> str:
    """The name of a machine to be, if no other has it."""
    if node.name(dotted=True) in made.places:
        node.refuse(f"there is a machine called {node.value} already")
    return str(node.value)


def command(lab: Lab, node: Node) -> None:
    """Run one line of ``commands:``; a line that fails makes the scenario invalid."""
    with node.placed():
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
            node.refuse(f"{short(node.value)} should read PLACE ADDRESS:PORT/PROTOCOL, as in blue"
                        " 0.0.0.0:80/tcp")  # fmt: skip
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
    """YAML text that loads to an equal lab: its namespaces, its listeners, every line run.

    For a cluster that is the text it was loaded from, with the lines run since; pods added or
    deleted since, and time that passed, aren't in it.
    """
    text, out = YAML(), io.StringIO()
    text.width = 4096
    text.indent(mapping=2, sequence=4, offset=2)
    if isinstance(lab, Cluster):
        documents = list(text.load_all(lab.text))
        spec = next(one["spec"] for one in documents if one["apiVersion"] == API)
        if more := lab.lines[lab.loaded :]:
            spec["commands"] = [*spec.get("commands", ()), *more]
        text.dump_all(documents, out)
        return out.getvalue()
    listen = [f"{place} {one.address}:{one.port}/{one.protocol} {one.process}".rstrip()
              for place in lab.places
              for one in lab.namespace(place).sockets.listeners]  # fmt: skip
    spec = {"namespaces": list(lab.places), "listen": listen, "commands": list(lab.lines)}
    top = {"apiVersion": API, "kind": "Lab", "metadata": {"name": lab.name}}
    text.dump(top | {"spec": {key: value for key, value in spec.items() if value}}, out)
    return out.getvalue()
