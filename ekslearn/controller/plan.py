"""What load balancer an object asks for, read from its annotations as the controllers read them.

Source: kubernetes-sigs/aws-load-balancer-controller, docs/guide/service/annotations.md and
docs/guide/ingress/annotations.md, pkg/service and pkg/ingress; for Classic ones and those that the
cloud provider makes, kubernetes/cloud-provider-aws, docs/service_controller.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any, NoReturn

from ..document import Node, short
from ..errors import EkslearnError
from ..kubernetes.service import CLASS as NLB_CLASS
from ..kubernetes.service import Service
from .ingress import CLASS, Ingress, Route

SERVICE = "service.beta.kubernetes.io/aws-load-balancer-"
INGRESS = "alb.ingress.kubernetes.io/"
ATTRIBUTES = {  # of a target group: the name AWS has for it, ours, and how it is read
    "preserve_client_ip.enabled": ("preserve_client_ip", bool),
    "proxy_protocol_v2.enabled": ("proxy_protocol", bool),
    "stickiness.enabled": ("sticky", bool),
    "deregistration_delay.timeout_seconds": ("deregistration_delay_s", int),
    "load_balancing.cross_zone.enabled": ("cross_zone", bool),
}
# Each annotation of a health check, and its field of elb.HealthCheck, by who reads it.
CHECKS = {
    SERVICE: {"healthcheck-protocol": "protocol", "healthcheck-port": "port",
              "healthcheck-path": "path", "healthcheck-interval": "interval_s",
              "healthcheck-timeout": "timeout_s", "healthcheck-healthy-threshold": "healthy",
              "healthcheck-unhealthy-threshold": "unhealthy",
              "healthcheck-success-codes": "matcher"},
    INGRESS: {"healthcheck-protocol": "protocol", "healthcheck-port": "port",
              "healthcheck-path": "path", "healthcheck-interval-seconds": "interval_s",
              "healthcheck-timeout-seconds": "timeout_s", "healthy-threshold-count": "healthy",
              "unhealthy-threshold-count": "unhealthy", "success-codes": "matcher"},
}  # fmt: skip
NUMBERS = ("interval_s", "timeout_s", "healthy", "unhealthy")
# What the controllers ask for where nothing is said: interval, timeout, thresholds. The ones of the
# last two are for a Service with externalTrafficPolicy Local, and for a Classic Load Balancer.
USUAL = {
    "alb": dict(zip(NUMBERS, (15, 5, 2, 2), strict=True)),
    "nlb": dict(zip(NUMBERS, (10, 10, 3, 3), strict=True)),
    "local": dict(zip(NUMBERS, (10, 6, 2, 2), strict=True)),
    "clb": dict(zip(NUMBERS, (10, 5, 2, 6), strict=True)),
}
OTHERS = {  # read besides those of the check
    SERVICE: ("type", "nlb-target-type", "scheme", "internal", "subnets", "security-groups",
              "attributes", "target-group-attributes", "proxy-protocol", "backend-protocol",
              "cross-zone-load-balancing-enabled", "ssl-cert", "ssl-ports",
              "manage-backend-security-group-rules"),
    INGRESS: ("scheme", "target-type", "subnets", "security-groups", "listen-ports",
              "certificate-arn", "target-group-attributes", "inbound-cidrs",
              "backend-protocol", "manage-backend-security-group-rules"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A listener to be: its protocol and port, and where what comes goes, the last for the rest."""

    protocol: str
    port: int
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A load balancer to be, at ``place``: kind "alb", "nlb" or "clb".

    ``subnets`` and ``security_groups`` are empty where the controller is to find them. ``group``
    and ``check`` are what ``elb`` takes for each target group, as far as it is asked for.
    """

    place: str
    namespace: str
    kind: str
    scheme: str
    target_type: str
    doors: tuple[Door, ...]
    backend_protocol: str
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    inbound: tuple[IPv4Network, ...] = ()
    opens_backend: bool = True
    cross_zone: bool | None = None
    group: dict[str, Any] = field(default_factory=dict)
    check: dict[str, Any] = field(default_factory=dict)


class Annotations:
    """An object's annotations with one prefix; a refusal names file, line and field."""

    def __init__(self, prefix: str, given: Mapping[str, str], manifest: Node | None) -> None:
        self.prefix, self._node = prefix, manifest
        self.given = {name.removeprefix(prefix): value for name, value in given.items()
                      if name.startswith(prefix)}  # fmt: skip

    def refuse(self, name: str, why: str) -> NoReturn:
        """Refuse a value."""
        node = self._node and self._node.at("metadata", "annotations", self.prefix + name)
        if node:
            node.refuse(why)
        raise EkslearnError(f"{self.prefix}{name}: {why}")

    def choice(self, name: str, *known: str) -> str:
        """One of some words; the first of them where nothing is said."""
        found = self.given.get(name, known[0])
        if found not in known:
            self.refuse(name, f"unknown {name} {short(found)}; there are {', '.join(known)}")
        return found

    def some(self, name: str) -> tuple[str, ...]:
        """Words with commas between."""
        return tuple(filter(None, (one.strip() for one in self.given.get(name, "").split(","))))

    def truth(self, name: str, value: str) -> bool:
        """What "true" or "false" says."""
        if value not in ("true", "false"):
            self.refuse(name, f"expected true or false, found {short(value)}")
        return value == "true"

    def whole(self, name: str, value: str) -> int:
        """What a number says; AWS judges its range."""
        if not value.isdecimal() or len(value) > 9:
            self.refuse(name, f"expected a whole number, found {short(value)}")
        return int(value)

    def attributes(self, name: str) -> dict[str, Any]:
        """Attributes "NAME=VALUE,…" of a target group, as ``elb`` calls them."""
        found: dict[str, Any] = {}
        for pair in self.some(name):
            key, equals, value = pair.partition("=")
            if not equals or key not in ATTRIBUTES:
                self.refuse(name, f"{short(pair)} is no attribute that is modelled; there are"
                            f" {', '.join(ATTRIBUTES)}")  # fmt: skip
            own, kind = ATTRIBUTES[key]
            found[own] = (self.truth if kind is bool else self.whole)(name, value)
        return found

    def check(self, usual: Mapping[str, Any]) -> dict[str, Any]:
        """The health check that is asked for, on top of the usual one."""
        found = dict(usual)
        for name, own in CHECKS[self.prefix].items():
            value = self.given.get(name)
            if value is None or (own == "port" and value == "traffic-port"):
                continue
            if own == "matcher":
                low, _, high = value.partition("-")
                found[own] = range(self.whole(name, low), self.whole(name, high or low) + 1)
            elif own in ("path", "protocol"):
                found[own] = value if own == "path" else value.upper()
            else:
                found[own] = self.whole(name, value)
        return found


def unread(
    prefix: str, given: Mapping[str, str], manifest: Node | None, plan: Plan | None
) -> list[str]:
    """A sentence for each annotation that means nothing here: without a ``plan``, for all."""
    known = {*OTHERS[prefix], *CHECKS[prefix]} if plan else set()
    where = f"{manifest.file}:{manifest.line}: " if manifest else ""
    why = "which isn't modelled" if plan else "since the object asks for no load balancer"
    return [f"{where}ignored: the annotation {name}, {why}" for name in given
            if name.startswith(prefix) and name.removeprefix(prefix) not in known]  # fmt: skip


def plan_of_service(service: Service, manifest: Node | None = None) -> Plan | None:
    """What a Service of type LoadBalancer asks for; None if it is of another type.

    Raises EkslearnError for an annotation with a value that the controller doesn't take.
    """
    if service.kind != "LoadBalancer":
        return None
    said = Annotations(SERVICE, service.annotations, manifest)
    kind = said.choice("type", "", "external", "nlb", "nlb-ip")
    ours = service.load_balancer_class == NLB_CLASS or kind in ("external", "nlb-ip")
    target = said.choice("nlb-target-type", "instance", "ip", "nlb-ip")
    target = "ip" if "ip" in (target.removeprefix("nlb-"), kind.removeprefix("nlb-")) else target
    if target == "ip" and not ours:
        said.refuse("nlb-target-type", f"only the AWS Load Balancer Controller registers pods; set"
                    f" loadBalancerClass: {NLB_CLASS}")  # fmt: skip
    inside = said.truth("internal", said.given.get("internal", "false"))
    scheme = said.choice("scheme", "internal", "internet-facing")
    balancer = "nlb" if ours or kind == "nlb" else "clb"
    if not ours:
        scheme = "internal" if inside else "internet-facing"
    protocol = said.choice("backend-protocol", "tcp", "http", "https", "ssl").upper()
    there = {text for one in service.ports for text in (str(one.port), one.name) if text}
    tls = [one for one in said.some("ssl-ports") if ours or one != "*"] or there
    if strange := set(tls) - there:
        said.refuse("ssl-ports", f"the Service has no port {short(min(strange))}")
    doors = tuple(
        Door(protocol=_listens(one.protocol, balancer, protocol, "ssl-cert" in said.given
                               and (str(one.port) in tls or one.name in tls)), port=one.port,
             routes=(Route(service=service.name, port=one.port),))
        for one in service.ports
    )  # fmt: skip
    local = service.external_policy == "Local" and target == "instance"
    usual: dict[str, Any] = USUAL[balancer]
    if local:
        usual = {**USUAL["local" if balancer == "nlb" else "clb"], "protocol": "HTTP",
                 "port": service.health_check_node_port, "path": "/healthz"}  # fmt: skip
    group = said.attributes("target-group-attributes")
    if group and balancer == "clb":
        said.refuse("target-group-attributes", "the annotation is only supported for NLB")
    if said.choice("proxy-protocol", "", "*"):
        group["proxy_protocol"] = True
    source = "cross-zone-load-balancing-enabled"
    cross = said.given.get(source)
    for pair in said.some("attributes"):
        name, _, value = pair.partition("=")
        if name != "load_balancing.cross_zone.enabled":
            said.refuse("attributes", f"{short(name)} isn't modelled; there is"
                        " load_balancing.cross_zone.enabled")  # fmt: skip
        cross, source = value, "attributes"
    return Plan(
        place=f"lb/{service.key}", namespace=service.namespace, kind=balancer, scheme=scheme,
        target_type=target, doors=doors, subnets=said.some("subnets"), group=group,
        backend_protocol=protocol if balancer == "clb" else "",
        security_groups=said.some("security-groups"), inbound=service.source_ranges,
        opens_backend=said.choice("manage-backend-security-group-rules", "true", "false") == "true",
        cross_zone=None if cross is None else said.truth(source, cross),
        check=said.check(usual),
    )  # fmt: skip


def _listens(protocol: str, kind: str, backend: str, secure: bool) -> str:
    """The protocol of a listener for a port of a Service."""
    if protocol == "udp":
        return "UDP"
    if kind == "nlb":
        return "TLS" if secure else "TCP"
    return {"HTTP": "HTTPS", "TCP": "SSL"}.get(backend, backend) if secure else backend


def plan_of_ingress(ingress: Ingress, manifest: Node | None = None) -> Plan | None:
    """What an Ingress of class alb asks for; None if it is of another class.

    Raises EkslearnError for an annotation with a value that the controller doesn't take.
    """
    if ingress.class_name != CLASS:
        return None
    said = Annotations(INGRESS, ingress.annotations, manifest)
    secure = "certificate-arn" in said.given
    text = said.given.get("listen-ports", '[{"HTTPS": 443}]' if secure else '[{"HTTP": 80}]')
    try:
        ports = [(name, port) for one in json.loads(text) for name, port in one.items()]
    except (ValueError, AttributeError, TypeError):
        ports = []
    good = all(name in ("HTTP", "HTTPS") and isinstance(port, int) for name, port in ports)
    if not ports or not good:
        said.refuse("listen-ports", f'{short(text)} should read like [{{"HTTP": 80}}]')
    if not secure and any(name == "HTTPS" for name, _ in ports):
        said.refuse("listen-ports", "HTTPS needs certificate-arn")
    last = (ingress.default,) if ingress.default else ()
    inbound = []
    for one in said.some("inbound-cidrs"):
        try:
            inbound.append(IPv4Network(one))
        except ValueError:
            said.refuse("inbound-cidrs", f"{short(one)} isn't a network such as 203.0.113.0/24")
    return Plan(
        place=f"lb/{ingress.key}", namespace=ingress.namespace, kind="alb", inbound=tuple(inbound),
        scheme=said.choice("scheme", "internal", "internet-facing"),
        target_type=said.choice("target-type", "instance", "ip"), subnets=said.some("subnets"),
        security_groups=said.some("security-groups"),
        backend_protocol=said.choice("backend-protocol", "HTTP", "HTTPS"),
        opens_backend=said.choice("manage-backend-security-group-rules", "true", "false") == "true",
        group=said.attributes("target-group-attributes"), check=said.check(USUAL["alb"]),
        doors=tuple(Door(protocol=name, port=port, routes=(*ingress.routes, *last))
                    for name, port in ports),
    )  # fmt: skip
