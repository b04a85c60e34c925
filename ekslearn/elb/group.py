"""Target groups: who gets what a balancer forwards, and how it is found out that they live.

Source: Elastic Load Balancing user guides, "Target groups" and "Health checks" of the Application,
Network and Classic Load Balancer; ELBv2 API reference, TargetGroupAttribute. Defaults are the
API's; a controller that makes the group may ask for others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address
from typing import Any

from ..errors import EkslearnError
from ..vpc.error import rows

ALB, NLB, CLB = "alb", "nlb", "clb"
NAMES = {ALB: "Application", NLB: "Network", CLB: "Classic"}
# What a target group may speak, by the balancer's kind; and what that is on the wire.
PROTOCOLS = {
    ALB: ("HTTP", "HTTPS"),
    NLB: ("TCP", "TLS", "UDP", "TCP_UDP"),
    CLB: ("TCP", "SSL", "HTTP", "HTTPS"),
}
WIRE = {"UDP": ("udp",), "TCP_UDP": ("tcp", "udp")}
DATAGRAMS = ("UDP", "TCP_UDP")
ATTRIBUTES = {  # of a target group: the name AWS has for it, ours, and how it is read
    "preserve_client_ip.enabled": ("preserve_client_ip", bool),
    "proxy_protocol_v2.enabled": ("proxy_protocol", bool),
    "stickiness.enabled": ("sticky", bool),
    "deregistration_delay.timeout_seconds": ("deregistration_delay_s", int),
    "load_balancing.cross_zone.enabled": ("cross_zone", bool),
}
# Seconds and counts: interval, timeout, healthy, unhealthy threshold.
CHECKS = {ALB: (30, 5, 5, 2), NLB: (30, 10, 5, 2), CLB: (30, 5, 10, 2)}
HTTP_TIMEOUT_S = 6  # of a Network Load Balancer's HTTP checks, where TCP and HTTPS have 10
MATCHERS = {ALB: (range(200, 201),), NLB: (range(200, 400),), CLB: (range(200, 201),)}
LAST_CODE = {ALB: 499, NLB: 599, CLB: 599}  # that an HTTP check may take for a success
# Seconds till every node of a balancer acts on a change of its targets. [model]: AWS publishes
# none; those who measured tell of seconds, and of more for a Network Load Balancer.
PROPAGATION_S = {ALB: 4.0, NLB: 30.0, CLB: 4.0}
DEREGISTRATION_S, MOST_DEREGISTRATION_S = 300, 3600


@cache
def _refusals() -> dict[str, tuple[str, str]]:
    return {row["refusal"]: (row["code"], row["sentence"]) for row in rows("elb_errors.csv")}


def refuse(so: object, refusal: str, *values: object) -> None:
    """Raise EkslearnError if it is so; ``refusal`` is a row of data/elb_errors.csv."""
    if so:
        code, sentence = _refusals()[refusal]
        raise EkslearnError(f"{code}: {sentence.format(*values)}")


def within(what: str, value: int, low: int, high: int) -> None:
    """Refuse a number that the API doesn't take."""
    refuse(not low <= value <= high, "number", what, low, high, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """What a balancer asks its targets, and when it believes the answer.

    ``port`` None is the traffic port. A TCP check passes if the connection is made; an HTTP check
    if the answer's status is in one of ``matcher``, too. ``healthy`` and ``unhealthy`` are
    thresholds.
    """

    protocol: str
    port: int | None
    path: str
    interval_s: int
    timeout_s: int
    healthy: int
    unhealthy: int
    matcher: tuple[range, ...]

    def __str__(self) -> str:
        where = f"{self.protocol}:{self.port or 'traffic-port'}"
        return where + (self.path if self.protocol.startswith("HTTP") else "")


def health_check(kind: str, **given: Any) -> HealthCheck:
    """The check of a new group of that balancer kind, some of it ``given``; EkslearnError if AWS
    would refuse it.

    >>> str(health_check("nlb")), health_check("alb", interval_s=15).healthy
    ('TCP:traffic-port', 5)
    """
    protocol = given.get("protocol", "HTTP" if kind == ALB else "TCP")
    numbers = ("interval_s", "timeout_s", "healthy", "unhealthy")
    usual = dict(zip(numbers, CHECKS[kind], strict=True))
    if kind == NLB and protocol == "HTTP":
        usual["timeout_s"] = HTTP_TIMEOUT_S
    rest = {"protocol": protocol, "port": None, "path": "/", "matcher": MATCHERS[kind]}
    made = HealthCheck(**{**rest, **usual, **given})
    known = ("HTTP", "HTTPS") if kind == ALB else ("TCP", "HTTP", "HTTPS")
    refuse(made.protocol not in known, "check protocol", ", ".join(known), made.protocol)
    within("HealthCheckIntervalSeconds", made.interval_s, 5, 300)
    within("HealthCheckTimeoutSeconds", made.timeout_s, 2, 60 if kind == CLB else 120)
    within("HealthyThresholdCount", made.healthy, 2, 10)
    within("UnhealthyThresholdCount", made.unhealthy, 2, 10)
    within("HealthCheckPort", 1 if made.port is None else made.port, 1, 65535)
    for code in [one[end] for one in made.matcher for end in (0, -1)]:
        within("Matcher.HttpCode", code, 200, LAST_CODE[kind])
    refuse(not made.path.startswith("/"), "check path", made.path)
    most = made.interval_s - (kind != NLB)  # a Network one may take all of the interval
    refuse(made.timeout_s > most, "timeout", made.timeout_s, made.interval_s)
    return made


@dataclass(slots=True, eq=False, kw_only=True)
class Target:
    """One registered target, and what the balancer holds of it.

    ``state`` is the API's: initial, healthy, unhealthy, draining or unused; ``reason`` too. An
    instance is reached at the primary address of its primary ENI. ``counts`` is how many checks
    in a row passed (above 0) or failed (below). Times are the caller's seconds.
    """

    address: IPv4Address
    port: int
    zone: str
    instance: str = ""
    state: str = "unused"
    reason: str = "Target.NotInUse"
    counts: int = 0
    due: float = 0.0  # the next check
    left: float = 0.0  # when it was deregistered

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"

    def checked(self, check: HealthCheck, fault: str) -> None:
        """Take the outcome of a check in: ``fault`` is the API's reason, empty if it passed."""
        self.counts = min(self.counts, 0) - 1 if fault else max(self.counts, 0) + 1
        first = self.state == "initial" and self.counts > 0  # one success is enough at first
        if first or self.counts >= check.healthy:
            self.state, self.reason = "healthy", ""
        elif -self.counts >= check.unhealthy:
            self.state, self.reason = "unhealthy", fault


@dataclass(slots=True, eq=False, kw_only=True)
class TargetGroup:
    """Targets of one kind, with the attributes that decide what they get to see.

    Made by ``target_group``. ``cross_zone`` None is the balancer's own setting. ``balancer`` is
    the place of the one that uses it.
    """

    name: str
    kind: str
    target_type: str
    protocol: str
    port: int
    check: HealthCheck
    preserve_client_ip: bool
    proxy_protocol: bool
    deregistration_delay_s: int
    cross_zone: bool | None
    sticky: bool
    balancer: str = ""
    targets: list[Target] = field(default_factory=list)
    clock: Callable[[], float]

    @property
    def carries(self) -> tuple[str, ...]:
        """What it speaks on the wire: tcp, udp or both."""
        return WIRE.get(self.protocol, ("tcp",))

    def start(self, target: Target) -> None:
        """A balancer begins to check a target."""
        target.state, target.reason = "initial", "Elb.RegistrationInProgress"
        target.counts, target.due = 0, self.clock()

    def deregister(self, address: IPv4Address, port: int | None = None) -> None:
        """Drain a target: after the deregistration delay it is gone; EkslearnError if unknown."""
        wanted = address, port or self.port
        found = [each for each in self.targets if (each.address, each.port) == wanted]
        refuse(not found, "no target", self.name, *wanted)
        if found[0].state != "draining":
            found[0].left = self.clock()
        found[0].state, found[0].reason = "draining", "Target.DeregistrationInProgress"

    def serves(self, target: Target) -> bool:
        """Whether the balancer's nodes still give new connections to a draining target."""
        return self.clock() < target.left + PROPAGATION_S[self.kind]

    def expire(self, now: float) -> None:
        """Forget targets that have drained."""
        self.targets = [each for each in self.targets if each.state != "draining"
                        or now < each.left + self.deregistration_delay_s]  # fmt: skip


def target_group(name: str, kind: str, *, clock: Callable[[], float], protocol: str, port: int,
                 target_type: str = "instance", check: HealthCheck | None = None,
                 preserve_client_ip: bool | None = None, proxy_protocol: bool = False,
                 deregistration_delay_s: int = DEREGISTRATION_S, cross_zone: bool | None = None,
                 sticky: bool = False) -> TargetGroup:  # fmt: skip
    """A target group with AWS's defaults; EkslearnError for what AWS refuses or isn't modelled.

    A Classic Load Balancer has no target groups: its instances are kept in one all the same.
    """
    refuse(kind not in NAMES, "no kind", kind)
    named, spoken = f"{NAMES[kind]} Load Balancers", PROTOCOLS[kind]
    refuse(protocol not in spoken, "group protocol", named, ", ".join(spoken), protocol)
    types = ("instance",) if kind == CLB else ("instance", "ip")
    refuse(target_type not in types, "target type", named, " or ".join(types), target_type)
    within("Port", port, 1, 65535)
    within("deregistration_delay.timeout_seconds", deregistration_delay_s, 0, MOST_DEREGISTRATION_S)
    for name_of, wanted in (
        ("preserve_client_ip.enabled", kind != NLB and preserve_client_ip is not None),
        ("proxy_protocol_v2.enabled", kind == ALB and proxy_protocol),
        ("load_balancing.cross_zone.enabled", kind == CLB and cross_zone is not None),
    ):
        refuse(wanted, "no attribute", name_of, named)
    refuse(sticky and kind != NLB, "cookies", named)
    forced = protocol in DATAGRAMS
    refuse(forced and preserve_client_ip is False, "preserve", protocol)
    usual = kind == NLB and (target_type == "instance" or forced)
    return TargetGroup(
        name=name, kind=kind, target_type=target_type, protocol=protocol, port=port,
        check=check or health_check(kind), proxy_protocol=proxy_protocol, sticky=sticky,
        preserve_client_ip=usual if preserve_client_ip is None else preserve_client_ip,
        deregistration_delay_s=deregistration_delay_s, cross_zone=cross_zone, clock=clock,
    )  # fmt: skip
