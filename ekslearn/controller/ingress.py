"""Ingresses, read from ordinary manifests.

Source: Kubernetes API reference, "Ingress networking.k8s.io/v1".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..document import Node, short
from ..errors import EkslearnError
from ..kubernetes.fields import check_object

CLASS, OLD = "alb", "kubernetes.io/ingress.class"  # the AWS controller's class, and its old place
KINDS = ("Exact", "Prefix", "ImplementationSpecific")  # of a path; tried in this order
LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
HOST = re.compile(rf"(?!(\d+\.){{3}}\d+$)(\*\.)?({LABEL}\.)*{LABEL}", re.ASCII)  # no address


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where requests for a path go: a Service of the same namespace and its port.

    ``host`` is empty for any, ``path`` for what no other route takes. ``kind`` is its pathType.
    """

    service: str
    port: int | str
    host: str = ""
    path: str = ""
    kind: str = "Prefix"

    @property
    def patterns(self) -> tuple[str, ...]:
        """The path as a balancer's rule has it; EkslearnError for a wildcard out of place."""
        if self.kind == "ImplementationSpecific":
            return (self.path,)
        if set(self.path) & set("*?"):
            kind = self.kind.lower()
            raise EkslearnError(f"{kind} path shouldn't contain wildcards: {self.path}")
        own = self.path.removesuffix("/")
        return (self.path,) if self.kind == "Exact" else (own, f"{own}/*") if own else ("/*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """An Ingress as its manifest describes it; ``default`` is None where it has no such backend."""

    name: str
    namespace: str = "default"
    class_name: str = ""
    routes: tuple[Route, ...] = ()
    default: Route | None = None
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What it is called: NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"


def read_ingress(manifest: Node) -> Ingress:
    """The Ingress of one manifest; EkslearnError, with file, line and field, if it can't be one."""
    (namespace, name), spec = check_object(manifest, "Ingress"), manifest.value["spec"]
    notes = manifest.texts("metadata", "annotations")
    spec.fields(optional=("ingressClassName", "rules", "defaultBackend", "tls"))
    routes = []
    for rule in spec.items("rules"):
        if http := rule.fields(optional=("host", "http")).get("http"):
            http.fields("paths")
        if (host := rule.text("host")) and not HOST.fullmatch(host):
            rule.value["host"].refuse(f"{short(host)} is no host such as example.com or"
                                      " *.example.com")  # fmt: skip
        paths = [_path(one, host) for one in rule.items("http", "paths")]
        routes += sorted(paths, key=lambda one: (
            KINDS.index(one.kind), -len(one.path) if one.kind == "Prefix" else 0
        ))  # fmt: skip
    default = spec.at("defaultBackend")
    if not routes and default is None:
        spec.refuse("an Ingress needs rules or a defaultBackend")
    if (old := manifest.at("metadata", "annotations", OLD)) and spec.at("ingressClassName"):
        old.refuse("it can't be set where spec.ingressClassName is")
    return Ingress(
        name=name, namespace=namespace, routes=tuple(routes), annotations=notes,
        class_name=spec.text("ingressClassName") or notes.get(OLD, ""),
        default=_route(default) if default else None,
    )  # fmt: skip


def _path(node: Node, host: str) -> Route:
    given = node.fields("backend", "pathType", optional=("path",))
    kind, path = given["pathType"].known(KINDS, "pathType"), node.text("path")
    if not path.startswith("/") and (path or kind != KINDS[-1]):
        node.refuse(f"{short(path)} is no path: it should begin with /")
    return _route(given["backend"], host=host, path=path or "/*", kind=kind)


def _route(backend: Node, **more: str) -> Route:
    service = backend.fields("service")["service"].fields("name", "port")
    port = service["port"].fields(optional=("name", "number"))
    if len(port) != 1:
        service["port"].refuse("a port has a number or a name")
    said = port["number"].whole(1, 65535) if "number" in port else port["name"].name()
    return Route(service=service["name"].name(), port=said, **more)
