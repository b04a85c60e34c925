"""Which fields an object of Kubernetes has: a slip of the pen is refused, as kubectl does."""

from __future__ import annotations

import difflib
import re
from functools import cache

from ..document import Node, short
from ..errors import NotModelled
from ..paths import data_path

TYPE = re.compile(r"^(\w+): (.*)$", re.MULTILINE)
FIELD = re.compile(r"([!*]?)(\w+)(?:>(\w*)(\[\])?)?(\S*)")
NEED = re.compile(r"\?(\w+)=(\w+)")
LABEL = re.compile(r"([A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?")
KEY = re.compile(rf"([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?(?=.){LABEL.pattern}")


@cache
def known() -> dict[str, dict[str, tuple[str, ...]]]:
    """The fields of every type that is read: mark, type, whether it is a list of these, needs."""
    text = data_path("kubernetes-fields.txt").read_text(encoding="utf-8")
    return {kind: {name: (mark, *rest) for mark, name, *rest in FIELD.findall(names)}
            for kind, names in TYPE.findall(text)}  # fmt: skip


def check(node: Node, kind: str) -> None:
    """Refuse a mapping that isn't of this type: a field too few or too many, or not modelled."""
    for key, value in node.expect(dict).items() if kind == "Labels" else ():
        if not (KEY.fullmatch(key) and LABEL.fullmatch(value.expect(str))):
            value.refuse(f"{short(f'{key}: {value.value}')} can't be a label: at most 63 letters,"
                         " digits, - _ and ., with a letter or digit at both ends")  # fmt: skip
    there = known().get(kind, {})
    for name, one in node.expect(dict).items() if there else ():
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1)
            said = f"; did you mean {near[0]}?" if near else ""
            one.refuse(f"Kubernetes' {kind} has no such field{said}")
        mark, inner, many, need = there[name]
        if mark == "!":
            one.refuse(f"{name} isn't modelled; leave it out", NotModelled)
        for field, wanted in NEED.findall(need):
            if node.text(field) != wanted:
                one.refuse(f"{name} is for {field}: {wanted}")
        names = dict[str, Node]()
        for each in (node.items(name) if many else [one]) if inner and node.at(name) else ():
            check(each, inner)
            if many and each.at("name") and names.setdefault(each.text("name"), each) is not each:
                each.value["name"].refuse(f"another {inner} here has the same name")
    for name, (mark, _, many, _) in there.items():
        if mark == "*" and not (node.items(name) if many else node.at(name)):
            node.refuse(f"the field {name} is missing")


def check_object(manifest: Node, kind: str) -> tuple[str, str]:
    """The same for a whole object; its namespace and its name."""
    check(manifest, kind)
    name, namespace = (manifest.at("metadata", each) for each in ("name", "namespace"))
    if name is None:
        manifest.refuse(f"a {kind} needs metadata.name")
    return (namespace.name() if namespace else "default",
            name.name(dotted=kind not in ("Service", "Namespace")))  # fmt: skip
