"""Reads and writes scenarios: YAML text in, a ``Lab`` out, or one sentence saying why not.

``ekslearn.document`` reads the text; here the fields are judged. Every refusal names file, line
and field.
"""

from __future__ import annotations

import difflib
import io
from ipaddress import IPv4Address
from pathlib import Path

from ruamel.yaml import YAML

from ekslearn import data_path
from ekslearn.cluster import Lab, socket_of
from ekslearn.document import LIMIT, Composer, Node, read, reason, short
from ekslearn.errors import EkslearnError, NotModelled

API = "ekslearn/v1"


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
    for document in documents:
        check_kind(document)
    if not documents:
        raise EkslearnError(
            f"{where}: there is no scenario in it; it needs one document with"
            f" apiVersion: {API} and kind: Lab"
        )
    if len(documents) > 1:
        documents[1].refuse("a second scenario begins here; one is expected")
    return build(documents[0])


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


def check_kind(document: Node) -> None:
    """Refuse a document that isn't a Lab, by its kind."""
    found = document.expect(dict)
    for name in ("apiVersion", "kind"):
        if name not in found:
            document.refuse(
                f"the field {name} is missing; a scenario begins with"
                f" apiVersion: {API} and kind: Lab"
            )
    api, kind = (found[name].expect(str) for name in ("apiVersion", "kind"))
    if api != API:
        found["kind"].refuse(
            f"{kind[:60]} of {api[:60]} isn't read by this version, which reads"
            f" kind: Lab of {API}; Kubernetes objects arrive with a later one",
            NotModelled,
        )
    if kind == "Cluster":
        found["kind"].refuse(
            "Cluster isn't read by this version, which reads kind: Lab; it"
            " arrives with a later one",
            NotModelled,
        )
    if kind != "Lab":
        found["kind"].refuse(f"{short(kind)} is no kind of scenario; known here: Lab")


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
    for node in spec["commands"].expect(list) if "commands" in spec else ():
        try:
            done = lab.line(node.expect(str))
        except EkslearnError as error:
            node.refuse(str(error), type(error))
        if done.status:
            said = " ".join((done.stderr or done.stdout).split())
            node.refuse(f"{short(node.value)} ends with status {done.status}: {said}")
        waiting = start(lab, waiting)
    start(lab, waiting, late=True)
    return lab


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
