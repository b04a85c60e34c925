"""What load balancer an object asks for, read from its annotations as the controllers read them.

Source: kubernetes-sigs/aws-load-balancer-controller, docs/guide/service/annotations.md and
docs/guide/ingress/annotations.md, pkg/service and pkg/ingress; for Classic ones and those that the
cloud provider makes, kubernetes/cloud-provider-aws, docs/service_controller.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any, NoReturn

from ..document import Node, short
from ..elb.group import ATTRIBUTES
from ..errors import EkslearnError
from ..kubernetes.service import CLASS as NLB_CLASS
from ..kubernetes.service import Service
from .ingress import CLASS, Ingress, Route

SERVICE = "service.beta.kubernetes.io/aws-load-balancer-"
INGRESS = "alb.ingress.kubernetes.io/"
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
# What the controllers ask for where nothing is said: interval, timeout, thresholds; "local" is for
# a Service with externalTrafficPolicy Local, "cloud" for what the cloud provider makes.
USUAL = {
    "alb": (15, 5, 2, 2), "nlb": (10, 10, 3, 3), "nlb local": (10, 6, 2, 2),
    "cloud nlb": (30, 10, 3, 3), "cloud nlb local": (10, 10, 2, 2),
    "cloud clb": (10, 5, 2, 6), "cloud clb local": (10, 5, 2, 6),
}  # fmt: skip
RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"  # spec's comes before it
TOLD = (SERVICE, INGRESS, RANGES, "service.kubernetes.io/topology-")  # if without effect
OTHERS = {  # read besides those of the check
    SERVICE: ("type", "nlb-target-type", "scheme", "internal", "subnets", "security-groups",
              "attributes", "target-group-attributes", "proxy-protocol", "backend-protocol",
              "cross-zone-load-balancing-enabled", "ssl-cert", "ssl-ports",
              "manage-backend-security-group-rules", RANGES),
    INGRESS: ("scheme", "target-type", "subnets", "security-groups", "listen-ports",
              "certificate-arn", "target-group-attributes", "inbound-cidrs",
              "backend-protocol", "manage-backend-security-group-rules"),
}  # fmt: skip
# Of those for an Ingress, what may stand on its Service, too, and comes first there.
SHARED = {INGRESS + name for name in ("target-type", "target-group-attributes", "backend-protocol",
                                      *CHECKS[INGRESS])}  # fmt: skip
# Of those for a Service, what the cloud provider doesn't read.
NOT_CLOUD = {"scheme", "attributes", "nlb-target-type", "manage-backend-security-group-rules",
             "healthcheck-success-codes"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A listener to be: its protocol and port, and where what comes goes, the last for the rest.

    ``backend`` is the protocol of its target groups.
    """

    protocol: str
    backend: str
    port: int
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A load balancer to be, at ``place``: kind "alb", "nlb" or "clb". ``cloud`` says that the
    cloud provider makes it.

    ``subnets`` and ``security_groups`` are empty where the controller is to find them. ``group``
    and ``check`` are what ``elb`` takes for each target group, as far as it is asked for.
    """

    place: str
    namespace: str
    kind: str
    scheme: str
    target_type: str
    doors: tuple[Door, ...]
    cloud: bool = False
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
                      if "/" in name}  # fmt: skip

    def refuse(self, name: str, why: str) -> NoReturn:
        """Refuse a value."""
        full = name if "/" in name else self.prefix + name
        node = self._node and self._node.at("metadata", "annotations", full)
        if node:
            node.refuse(why)
        raise EkslearnError(f"{full}: {why}")

    def choice(self, name: str, *known: str) -> str:
        """One of some words; the first of them where nothing is said."""
        found = self.given.get(name, known[0])
        if found not in known:
            self.refuse(name, f"unknown {name} {short(found)}; there are {', '.join(known)}")
        return found

    def some(self, name: str) -> tuple[str, ...]:
        """Words with commas between."""
        return tuple(filter(None, (one.strip() for one in self.given.get(name, "").split(","))))

    def networks(self, name: str) -> tuple[IPv4Network, ...]:
        """Networks with commas between."""
        found = []
        for one in self.some(name):
            try:
                found.append(IPv4Network(one))
            except ValueError:
                self.refuse(name, f"{short(one)} isn't a network such as 203.0.113.0/24")
        return tuple(found)

    def truth(self, name: str, value: str) -> bool:
        """What "true" or "false" says."""
        if value not in ("true", "false"):
            self.refuse(name, f"expected true or false, found {short(value)}")
        return value == "true"

    def whole(self, name: str, value: str) -> int:
        """What a number says; AWS judges its range."""
        if not re.fullmatch(r"[0-9]{1,9}", value):
            self.refuse(name, f"expected a whole number, found {short(value)}")
        return int(value)

    def opens(self) -> bool:
        """Whether the controller opens the targets' security groups: not for groups of yours,
        unless it is asked to.
        """
        usual = ("false", "true") if self.given.get("security-groups") else ("true", "false")
        return self.choice("manage-backend-security-group-rules", *usual) == "true"

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

    def check(self, usual: str, **given: Any) -> dict[str, Any]:
        """The health check that is asked for, on top of the usual one, some of it ``given``."""
        found: dict[str, Any] = dict(zip(NUMBERS, USUAL[usual], strict=True)) | given
        for name, own in CHECKS[self.prefix].items():
            value = self.given.get(name)
            if value is None:
                continue
            if own == "port" and value == "traffic-port":
                found[own] = None
            elif own == "matcher":
                spans = [one.partition("-")[::2] for one in value.split(",")]
                found[own] = tuple(range(self.whole(name, low), self.whole(name, high or low) + 1)
                                   for low, high in spans)  # fmt: skip
                if not all(found[own]):
                    self.refuse(name, f"{short(value)} should read like 200, 200-299 or 200,202")
            elif own in ("path", "protocol"):
                found[own] = value if own == "path" else value.upper()
            else:
                found[own] = self.whole(name, value)
        return found


def unread(item: Service | Ingress, manifest: Node | None, plan: Plan | None) -> list[str]:
    """A sentence for whatever an object says to no effect."""
    prefix, class_name, modelled = (
        (INGRESS, item.class_name or "none", CLASS) if isinstance(item, Ingress)
        else (SERVICE, item.load_balancer_class or NLB_CLASS, NLB_CLASS)
    )  # fmt: skip
    if not plan and class_name != modelled:
        kind = type(item).__name__
        return [f"{kind} {item.key} is of class {class_name}: only {modelled} is modelled"]
    known = {*OTHERS[prefix], *CHECKS[prefix]} if plan else set[str]()
    known |= SHARED if prefix == SERVICE else set()
    found = dict[tuple[str, ...], str]()  # by where it stands
    if prefix == INGRESS and manifest and manifest.at("spec", "tls"):
        found["spec", "tls"] = (f"spec.tls, which isn't modelled: name a certificate by"
                                f" {INGRESS}certificate-arn")  # fmt: skip
    for name in item.annotations:
        own = name.removeprefix(prefix)
        why = "which isn't modelled" if plan else "since the object asks for no load balancer"
        if plan and plan.cloud and own in NOT_CLOUD:
            why = "which the cloud provider doesn't read"
        elif own in known or not name.startswith(TOLD):
            continue
        elif own == name and (prefix, name) != (SERVICE, RANGES):
            why = "which isn't modelled on this kind of object"
        found["metadata", "annotations", name] = f"the annotation {name}, {why}"
    nodes = [manifest and manifest.at(*path) for path in found]
    return [f"{at.file}:{at.line}: ignored: {one}" if at else f"ignored: {one}"
            for at, one in zip(nodes, found.values(), strict=True)]  # fmt: skip


def plan_of_service(service: Service, manifest: Node | None = None) -> Plan | None:
    """What a Service of type LoadBalancer asks for; None if it is of another type, or of a class
    that isn't modelled.

    Raises EkslearnError for an annotation with a value that the controller doesn't take.
    """
    if service.kind != "LoadBalancer" or service.load_balancer_class not in ("", NLB_CLASS):
        return None
    said = Annotations(SERVICE, service.annotations, manifest)
    kind = said.choice("type", "", "external", "nlb", "nlb-ip")
    cloud = not service.load_balancer_class and kind in ("", "nlb")
    target = said.choice("nlb-target-type", "instance", "ip", "nlb-ip")
    target = "ip" if "ip" in (target.removeprefix("nlb-"), kind.removeprefix("nlb-")) else target
    if target == "ip" and cloud:
        said.refuse("nlb-target-type", f"only the AWS Load Balancer Controller registers pods; set"
                    f" loadBalancerClass: {NLB_CLASS}")  # fmt: skip
    balancer = "clb" if cloud and not kind else "nlb"
    for name in NOT_CLOUD if cloud else ():
        said.given.pop(name, None)
    inside = said.truth("internal", said.given.get("internal", str(not cloud).lower()))
    schemes = "internal", "internet-facing"
    scheme = said.choice("scheme", *(schemes if inside else schemes[::-1]))
    words = ("tcp", "ssl") if balancer == "nlb" else ("tcp", "http", "https", "ssl")
    backend = said.choice("backend-protocol", *words).upper()
    there = {text for one in service.ports for text in (str(one.port), one.name) if text}
    tls = [one for one in said.some("ssl-ports") if not cloud or one != "*"] or there
    if strange := set(tls) - there:
        said.refuse("ssl-ports", f"the Service has no port {short(min(strange))}")
    doors = []
    for one in service.ports:
        secure = "ssl-cert" in said.given and (str(one.port) in tls or one.name in tls)
        front, back = _protocols(one.protocol, balancer, backend, secure)
        route = Route(service=service.name, port=one.port)
        doors.append(Door(protocol=front, backend=back, port=one.port, routes=(route,)))
    usual, given = f"{'cloud ' if cloud else ''}{balancer}", dict[str, Any]()
    if service.external_policy == "Local" and target == "instance":
        usual += " local"
        given = {"protocol": "HTTP", "port": service.health_check_node_port, "path": "/healthz"}
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
        target_type=target, doors=tuple(doors), cloud=cloud, subnets=said.some("subnets"),
        group=group, security_groups=said.some("security-groups"),
        inbound=service.source_ranges or said.networks(RANGES), opens_backend=said.opens(),
        cross_zone=None if cross is None else said.truth(source, cross),
        check=said.check(usual, **given),
    )  # fmt: skip


def _protocols(protocol: str, kind: str, backend: str, secure: bool) -> tuple[str, str]:
    """The protocols of a listener for a port of a Service and of its target group."""
    if protocol == "udp":
        return "UDP", "UDP"
    if kind == "nlb":
        return ("TLS", "TLS" if backend == "SSL" else "TCP") if secure else ("TCP", "TCP")
    return {"HTTP": "HTTPS", "TCP": "SSL"}.get(backend, backend) if secure else backend, backend


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
    except (ValueError, AttributeError, TypeError, RecursionError):
        ports = []
    good = all(name in ("HTTP", "HTTPS") and type(port) is int for name, port in ports)
    if not ports or not good:
        said.refuse("listen-ports", f'{short(text)} should read like [{{"HTTP": 80}}]')
    if not secure and any(name == "HTTPS" for name, _ in ports):
        said.refuse("listen-ports", "HTTPS needs certificate-arn")
    last = (ingress.default,) if ingress.default else ()
    backend = said.choice("backend-protocol", "HTTP", "HTTPS")
    return Plan(
        place=f"lb/{ingress.key}", namespace=ingress.namespace, kind="alb",
        inbound=said.networks("inbound-cidrs"), opens_backend=said.opens(),
        scheme=said.choice("scheme", "internal", "internet-facing"),
        target_type=said.choice("target-type", "instance", "ip"), subnets=said.some("subnets"),
        security_groups=said.some("security-groups"), check=said.check("alb"),
        group=said.attributes("target-group-attributes"),
        doors=tuple(Door(protocol=name, backend=backend, port=port,
                         routes=(*ingress.routes, *last)) for name, port in ports),
    )  # fmt: skip
