"""Every annotation that the controllers read: a value with its effect, and one that can't be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ekslearn.cluster import Cluster
from ekslearn.controller.plan import CHECKS, INGRESS, OTHERS, RANGES, SERVICE
from ekslearn.errors import EkslearnError
from ekslearn.scenario import load
from tests.matrix.cells import CLUSTER, POD

POD_TEXT = POD.format(endpoint="here", eni="primary", node="node-a", ip="10.0.1.12", port=8080)
KINDS = {
    "Service": """\
---
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  annotations:
{notes}
spec:
  type: LoadBalancer
{class_}
  selector: {{at: here-primary}}
  ports: [{{name: http, port: 443, targetPort: 8080}}, {{name: more, port: 80, targetPort: 8080}}]
""",
    "Ingress": """\
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec: {{type: NodePort, selector: {{at: here-primary}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  namespace: shop
  annotations:
{notes}
spec: {{ingressClassName: alb, defaultBackend: {{service: {{name: web, port: {{number: 80}}}}}}}}
""",
}
# The balancer that says it, the annotation, a value, where that shows and as what; a value that
# can't be, and the complaint about it: with file, line and field, or the controller's event (!).
Case = tuple[str, str, str, str, Any, str, str]
BOTH: list[Case] = [
    ("nlb", "type", "external", "kind", "nlb", "alb", "unknown type 'alb'; there are "),
    ("nlb", "nlb-target-type", "ip", "group.target_type", "ip", "pod",
     "unknown nlb-target-type 'pod'; there are instance, ip, nlb-ip"),
    ("nlb", "scheme", "internal", "scheme", "internal", "public",
     "unknown scheme 'public'; there are internal, internet-facing"),
    ("clb", "internal", "true", "scheme", "internal", "yes", "expected true or false, found 'yes'"),
    ("nlb", "subnets", "private-b", "subnets", ["private-b"], "nowhere",
     "!there is no subnet 'nowhere'; there are public-a, "),
    ("nlb", "security-groups", "nodes", "groups", ["nodes"], "nobody",
     "!there is no security group 'nobody'; there are nodes"),
    ("nlb", "attributes", "load_balancing.cross_zone.enabled=true", "cross_zone", True,
     "deletion_protection.enabled=true", "'deletion_protection.enabled' isn't modelled"),
    ("nlb", "target-group-attributes", "preserve_client_ip.enabled=false, stickiness.enabled=true",
     "group.preserve_client_ip", False, "preserve_client_ip.enabled=perhaps",
     "expected true or false, found 'perhaps'"),
    ("nlb", "target-group-attributes", "deregistration_delay.timeout_seconds=30",
     "group.deregistration_delay_s", 30, "deregistration_delay.timeout_seconds=3601",
     "!deregistration_delay.timeout_seconds must be 0 to 3600: 3601"),
    ("nlb", "proxy-protocol", "*", "group.proxy_protocol", True, "v2",
     "unknown proxy-protocol 'v2'; there are "),
    ("clb", "backend-protocol", "http", "listener", "HTTP", "ftp",
     "unknown backend-protocol 'ftp'; there are tcp, http, https, ssl"),
    ("clb", "cross-zone-load-balancing-enabled", "true", "cross_zone", True, "1",
     "expected true or false, found '1'"),
    ("nlb", "backend-protocol", "ssl", "listener", "TCP", "http",
     "unknown backend-protocol 'http'; there are tcp, ssl"),
    ("nlb-tls", "backend-protocol", "tcp", "group.protocol", "TCP", "https",
     "unknown backend-protocol 'https'; there are tcp, ssl"),
    ("nlb-tls", "backend-protocol", "ssl", "group.protocol", "TLS", "", ""),
    ("nlb", "ssl-cert", "arn:aws:acm:x", "listener", "TLS", "", ""),
    ("nlb-tls", "ssl-ports", "more", "listener", "TCP", "8443", "the Service has no port '8443'"),
    ("nlb", "manage-backend-security-group-rules", "false", "opened", [], "no",
     "unknown manage-backend-security-group-rules 'no'; there are true, false"),
    ("nlb", "healthcheck-protocol", "http", "check.protocol", "HTTP", "ftp",
     "!a health check's protocol is TCP, HTTP, HTTPS, not 'FTP'"),
    ("nlb", "healthcheck-port", "8081", "check.port", 8081, "http",
     "expected a whole number, found 'http'"),
    ("nlb", "healthcheck-path", "/live", "check.path", "/live", "live",
     "!Health check path 'live' must begin with a '/' character"),
    ("nlb", RANGES, "203.0.113.0/24", "admitted",
     ["tcp 443 203.0.113.0/24", "tcp 80 203.0.113.0/24"], "all",
     "'all' isn't a network such as 203.0.113.0/24"),
    ("nlb", "healthcheck-interval", "20", "check.interval_s", 20, "4",
     "!HealthCheckIntervalSeconds must be 5 to 300: 4"),
    ("nlb", "healthcheck-timeout", "5", "check.timeout_s", 5, "5s",
     "expected a whole number, found '5s'"),
    ("nlb", "healthcheck-healthy-threshold", "4", "check.healthy", 4, "1",
     "!HealthyThresholdCount must be 2 to 10: 1"),
    ("nlb", "healthcheck-unhealthy-threshold", "4", "check.unhealthy", 4, "11",
     "!UnhealthyThresholdCount must be 2 to 10: 11"),
    ("nlb", "healthcheck-success-codes", "200,202-299", "check.matcher",
     (range(200, 201), range(202, 300)), "2xx",
     "expected a whole number, found '2xx'"),
    ("alb", "scheme", "internet-facing", "scheme", "internet-facing", "public",
     "unknown scheme 'public'; there are internal, internet-facing"),
    ("alb", "target-type", "ip", "group.target_type", "ip", "pod",
     "unknown target-type 'pod'; there are instance, ip"),
    ("alb", "subnets", "private-a,private-b", "subnets", ["private-a", "private-b"], "private-a",
     "!At least two subnets in two different"),
    ("alb", "security-groups", "nodes", "groups", ["nodes"], "nobody",
     "!there is no security group 'nobody'; there are nodes"),
    ("alb", "listen-ports", '[{"HTTP": 8000}]', "port", 8000, "8000",
     "'8000' should read like [{\"HTTP\": 80}]"),
    ("alb", "listen-ports", '[{"HTTP": 8000}]', "port", 8000, '[{"HTTPS": 443}]',
     "HTTPS needs certificate-arn"),
    ("alb", "listen-ports", '[{"HTTP": 8000}]', "port", 8000, '[{"HTTP": true}]',
     "'[{\"HTTP\": true}]' should read like "),
    ("alb", "listen-ports", '[{"HTTP": 8000}]', "port", 8000, "[" * 9000,
     f"'{'[' * 57}...' should read like "),
    ("alb", "certificate-arn", "arn:aws:acm:x", "listener", "HTTPS", "", ""),
    ("alb", "target-group-attributes", "deregistration_delay.timeout_seconds=30",
     "group.deregistration_delay_s", 30, "load_balancing.algorithm.type=weighted",
     "'load_balancing.algorithm.type=weighted' is no attribute that is modelled; there are "),
    ("alb", "inbound-cidrs", "203.0.113.0/24", "admitted", ["tcp 80 203.0.113.0/24"], "everyone",
     "'everyone' isn't a network such as 203.0.113.0/24"),
    ("alb", "backend-protocol", "HTTPS", "group.protocol", "HTTPS", "GRPC",
     "unknown backend-protocol 'GRPC'; there are HTTP, HTTPS"),
    ("alb", "manage-backend-security-group-rules", "false", "opened", [], "no",
     "unknown manage-backend-security-group-rules 'no'; there are true, false"),
    ("alb", "healthcheck-protocol", "HTTPS", "check.protocol", "HTTPS", "TCP",
     "!a health check's protocol is HTTP, HTTPS, not 'TCP'"),
    ("alb", "healthcheck-port", "8081", "check.port", 8081, "http",
     "expected a whole number, found 'http'"),
    ("alb", "healthcheck-path", "/live", "check.path", "/live", "",
     "!Health check path '' must begin with a '/' character"),
    ("alb", "healthcheck-interval-seconds", "20", "check.interval_s", 20, "301",
     "!HealthCheckIntervalSeconds must be 5 to 300: 301"),
    ("alb", "healthcheck-timeout-seconds", "6", "check.timeout_s", 6, "15",
     "!the timeout (15 s) is too long for an interval of 15 s"),
    ("alb", "healthy-threshold-count", "4", "check.healthy", 4, "two",
     "expected a whole number, found 'two'"),
    ("alb", "healthy-threshold-count", "4", "check.healthy", 4, "\uff14",
     "expected a whole number, found '\uff14'"),
    ("alb", "unhealthy-threshold-count", "4", "check.unhealthy", 4, "11",
     "!UnhealthyThresholdCount must be 2 to 10: 11"),
    ("alb", "success-codes", "200-299", "check.matcher", (range(200, 300),), "299-200",
     "'299-200' should read like 200, 200-299 or 200,202"),
    ("alb", "success-codes", "200", "check.matcher", (range(200, 201),), "200,500",
     "!Matcher.HttpCode must be 200 to 499: 500"),
]  # fmt: skip


def made(folder: Path, kind: str, name: str, value: str) -> tuple[Cluster, str]:
    """A cluster with one balancer, and where in its file the annotation stands."""
    prefix, object_ = (INGRESS, "Ingress") if kind == "alb" else (SERVICE, "Service")
    inside = "internal" in (name, value)
    scheme = "internal" if inside or name == "subnets" else "internet-facing"
    said = name if "/" in name else f"{prefix}{name}"
    notes = {f"{prefix}scheme": scheme, said: value}
    if kind == "nlb-tls":
        notes[f"{prefix}ssl-cert"] = "arn:aws:acm:x"
    lines = "\n".join(f"    {key}: '{one}'" for key, one in notes.items())
    class_ = "" if kind == "clb" or name == "type" else "  loadBalancerClass: service.k8s.aws/nlb"
    text = CLUSTER.format(ports="").replace(
        "role/elb", "role/internal-elb" if inside else "role/elb"
    )
    text += POD_TEXT + KINDS[object_].format(notes=lines, class_=class_)
    path = folder / "one.yaml"
    path.write_text(text, encoding="utf-8")
    at = next(n for n, line in enumerate(text.splitlines(), 1) if f"{said}:" in line)
    try:
        lab = load(path)
    except EkslearnError as error:
        raise EkslearnError(str(error).replace(f"{path}:{at}: ", "HERE: ")) from None
    assert isinstance(lab, Cluster)
    return lab, lab.control.controller.events.get("lb/shop/web", "")


def shown(lab: Cluster, what: str) -> Any:
    """What the balancer that was made is like."""
    balancer = lab.elb.balancers["lb/shop/web"]
    listener = balancer.listeners[0]
    group = listener.group
    first, _, rest = what.partition(".")
    if rest:
        return getattr(group if first == "group" else group.check, rest)
    return {
        "kind": balancer.kind, "scheme": balancer.scheme, "cross_zone": balancer.cross_zone,
        "subnets": [eni.subnet.name for eni in balancer.enis.values()],
        "groups": [one.name for one in balancer.security_groups],
        "listener": listener.protocol, "port": listener.port,
        "admitted": [str(one) for one in balancer.security_groups[0].rules["ingress"]],
        "opened": [str(one) for one in lab.vpc.security_groups["nodes"].rules["ingress"]
                   if one.group != "nodes"],
    }[what]  # fmt: skip


def test_every_annotation_has_its_case() -> None:
    for kinds, prefix in (("nlb", "nlb-tls", "clb"), SERVICE), (("alb",), INGRESS):
        told = {name for kind, name, *_ in BOTH if kind in kinds}
        assert told == {*OTHERS[prefix], *CHECKS[prefix]}


@pytest.mark.parametrize("case", BOTH, ids=lambda case: f"{case[0]} {case[1]} {case[5]}")
def test_a_good_value_and_a_wrong_one(case: Case, tmp_path: Path) -> None:
    kind, name, good, what, wanted, wrong, complaint = case
    lab, event = made(tmp_path, kind, name, good)
    assert not event and shown(lab, what) == wanted
    if not wrong:  # any text is as good
        return
    if complaint.startswith("!"):
        _, event = made(tmp_path, kind, name, wrong)
        assert complaint[1:] in event
        return
    with pytest.raises(EkslearnError) as caught:
        made(tmp_path, kind, name, wrong)
    found = re.fullmatch(r"HERE: (\S+): (.*)", str(caught.value))
    assert found and found[1].endswith(name[-30:]) and found[2].startswith(complaint)


def test_what_means_nothing_is_told(tmp_path: Path) -> None:
    lab, _ = made(tmp_path, "nlb", "name", "mine")
    [note] = [one for one in lab.notes if "annotation" in one]
    text = (tmp_path / "one.yaml").read_text(encoding="utf-8").splitlines()
    assert f"{SERVICE}name:" in text[int(note.split(":")[1]) - 1]
    assert note.endswith(f"ignored: the annotation {SERVICE}name, which isn't modelled")


def test_a_classic_one_reaches_its_nodes_by_a_group_of_its_own(tmp_path: Path) -> None:
    lab, _ = made(tmp_path, "clb", "backend-protocol", "tcp")
    assert shown(lab, "groups") == ["k8s-elb-shop-web"]
    assert shown(lab, "admitted") == ["tcp 443 0.0.0.0/0", "tcp 80 0.0.0.0/0"]
    assert shown(lab, "opened") == ["all k8s-elb-shop-web"]
    assert lab.trace("browser", "lb/shop/web:443").verdict == "delivered"
    lab.vpc.security_groups["nodes"].rules["ingress"].pop()
    copy = lab.copy()
    assert copy.trace("browser", "lb/shop/web:443").verdict == "dropped"
