"""Ingresses, read from ordinary manifests.

Source: Kubernetes API reference, "Ingress networking.k8s.io/v1".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..document import Node

CLASS = "alb"  # the ingress class of the AWS Load Balancer Controller


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where requests for a path go: a Service of the same namespace and its port.

    ``host`` and ``path`` are empty for any; ``exact`` says that the path is all of it.
    """

    service: str
    port: int | str
    host: str = ""
    path: str = ""
    exact: bool = False


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
    name, spec = manifest.at("metadata", "name"), manifest.at("spec")
    if name is None or spec is None:
        manifest.refuse("an Ingress needs metadata.name and a spec")
    notes = manifest.texts("metadata", "annotations")
    routes = []
    for rule in spec.items("rules"):
        for path in rule.items("http", "paths"):
            kind = path.choice("Prefix", "Exact", "ImplementationSpecific", path=("pathType",))
            routes.append(_route(path, host=rule.text("host"), path=path.text("path", default="/"),
                                 exact=kind == "Exact"))  # fmt: skip
    default = spec.at("defaultBackend")
    if not routes and default is None:
        spec.refuse("an Ingress needs rules or a defaultBackend")
    namespace = manifest.at("metadata", "namespace")
    return Ingress(
        name=name.name(), namespace=namespace.name() if namespace else "default",
        class_name=spec.text("ingressClassName") or notes.get("kubernetes.io/ingress.class", ""),
        routes=tuple(routes), annotations=notes,
        default=_route(spec, "defaultBackend") if default else None,
    )  # fmt: skip


def _route(node: Node, backend: str = "backend", **more: str | bool) -> Route:
    service = node.at(backend, "service", "name")
    number, name = (node.at(backend, "service", "port", each) for each in ("number", "name"))
    if service is None or (number is None) == (name is None):
        node.refuse(f"{backend} needs service.name and service.port with a number or a name")
    port = number.whole(1, 65535) if number else name.name() if name else 0
    return Route(service=service.name(), port=port, **more)  # type: ignore[arg-type]
