"""TargetGroupBindings: a port of a Service, and a target group that AWS has apart from Kubernetes.

Source: kubernetes-sigs/aws-load-balancer-controller, docs/guide/targetgroupbinding, webhooks/elbv2
(what is refused) and pkg/targetgroupbinding/networking_manager.go (what targets let in).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..document import Node
from ..errors import NotModelled
from ..kubernetes.pod import protocol
from ..policy import Selector, read_selector
from ..vpc.security import ANYWHERE, SecurityRule
from .ingress import Route

# How labels begin of the bindings that the controller makes for an Ingress or a Service.
OWN = ("ingress.k8s.aws/stack", "service.k8s.aws/stack")
ALL = Selector()
LEFT_OUT = ("multiClusterTargetGroup", "iamRoleArnToAssume", "assumeRoleExternalId")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A TargetGroupBinding as its manifest describes it; ``key`` is NAMESPACE/NAME.

    ``target_type`` is empty where the group's own is meant. ``nodes`` chooses among the nodes,
    ``ingress`` is what the targets are to let in.
    """

    key: str
    route: Route
    group: str
    target_type: str = ""
    nodes: Selector = ALL
    ingress: tuple[SecurityRule, ...] = ()


def add_binding(manifest: Node, there: dict[str, Binding]) -> list[str]:
    """Take the binding of one manifest in, or say why it means nothing here.

    Raises EkslearnError for one that can't be, or that the controller's webhooks refuse.
    """
    name, spec = manifest.at("metadata", "name"), manifest.at("spec")
    service, port = (manifest.at("spec", "serviceRef", each) for each in ("name", "port"))
    if name is None or spec is None or service is None or port is None:
        manifest.refuse("a TargetGroupBinding needs metadata.name and, in spec.serviceRef, the"
                        " name and port of a Service")  # fmt: skip
    if any(one.startswith(OWN) for one in manifest.texts("metadata", "labels")):
        return [f"{manifest.file}:{manifest.line}: ignored: TargetGroupBinding {name.value}, which"
                " the controller makes itself, of an Ingress or a Service"]  # fmt: skip
    for left in filter(None, map(spec.at, LEFT_OUT)):
        if left.plain != "false":
            left.refuse("it isn't modelled; leave it out", NotModelled)
    spec.choice("ipv4", path=("ipAddressType",))
    _, _, arn = spec.text("targetGroupARN").partition(":targetgroup/")
    kind = spec.at("targetType")
    made = Binding(
        key=f"{manifest.text('metadata', 'namespace', default='default')}/{name.name()}",
        route=Route(service=service.name(), port=port.value or port.whole(1, 65535)),
        group=arn.partition("/")[0] or spec.text("targetGroupName"),
        nodes=read_selector(spec.at("nodeSelector")),
        target_type=kind.known(("instance", "ip"), "targetType") if kind else "",
        ingress=tuple(rule for one in spec.items("networking", "ingress") for rule in _rules(one)),
    )  # fmt: skip
    if not made.group:
        spec.refuse("must provide either TargetGroupARN or TargetGroupName")
    if made.key in there:
        manifest.refuse(f"a second TargetGroupBinding {made.key}")
    for one in there.values():
        if one.group == made.group:
            spec.refuse(f"TargetGroup {made.group} is already bound to TargetGroupBinding"
                        f" {one.key}")  # fmt: skip
    there[made.key] = made
    return []


def _rules(node: Node) -> Iterator[SecurityRule]:
    """What one rule of ``networking.ingress`` opens: without ports all of TCP."""
    for peer in node.items("from"):
        group, cidr = peer.at("securityGroup", "groupID"), peer.at("ipBlock", "cidr")
        if (group is None) == (cidr is None):
            peer.refuse("either ipBlock or securityGroup should be specified")
        for one in node.items("ports") or [node]:
            port = one.at("port")
            yield SecurityRule(
                protocol=protocol(one), from_port=port.whole(1, 65535) if port else None,
                cidr=cidr.network() if cidr else ANYWHERE, group=group.expect(str) if group else "",
            )  # fmt: skip
