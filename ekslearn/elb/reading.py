"""Reads load balancers that AWS has apart from Kubernetes: ``spec.loadBalancers``.

Each is a place ``lb/aws/NAME``, and has a target group for each listener; who its targets are, a
TargetGroupBinding or ``Elb.register`` says. ``type``, ``scheme`` and ``targetType`` are network,
internet-facing and instance where nothing is said; attributes have the names that AWS gives them::

    loadBalancers:
      - name: shared
        type: network
        scheme: internal
        subnets: [private-a, private-b]
        securityGroups: [front]
        crossZone: true
        listeners:
          - protocol: TCP
            port: 80
            targetGroup:
              name: web
              protocol: TCP
              port: 8080
              targetType: ip
              attributes:
                preserve_client_ip.enabled: true
                proxy_protocol_v2.enabled: true
                stickiness.enabled: true
                deregistration_delay.timeout_seconds: 30
                load_balancing.cross_zone.enabled: false
"""

from __future__ import annotations

from ..document import Node
from ..vpc.reading import read_groups
from .group import ALB, ATTRIBUTES, NLB, TargetGroup
from .service import SCHEMES, Elb

PLACE = "lb/aws/"  # what their places begin with: no namespace of Kubernetes has made them
TYPES = {"network": NLB, "application": ALB}


def read_load_balancer(elb: Elb, node: Node) -> None:
    """Make one of ``spec.loadBalancers``, with a listener and a target group for each port."""
    spec = node.fields("name", "subnets", "listeners", optional=(
        "type", "scheme", "securityGroups", "crossZone"))  # fmt: skip
    with node.placed():
        made = elb.create_load_balancer(
            PLACE + spec["name"].name(), TYPES[node.choice(*TYPES, path=("type",))],
            [one.expect(str) for one in node.items("subnets")],
            scheme=node.choice(*SCHEMES, path=("scheme",)),
            groups=read_groups(elb.site.vpc, node),
            cross_zone=spec["crossZone"].truth() if "crossZone" in spec else None,
        )  # fmt: skip
    for each in node.items("listeners"):
        found = each.fields("protocol", "port", "targetGroup")
        group = _target_group(elb, made.kind, found["targetGroup"])
        with each.placed():
            made.add_listener(found["protocol"].expect(str), found["port"].whole(1, 65535), group)


def _target_group(elb: Elb, kind: str, node: Node) -> TargetGroup:
    spec = node.fields("name", "protocol", "port", optional=("targetType", "attributes"))
    attributes = spec["attributes"].fields(optional=(*ATTRIBUTES,)) if "attributes" in spec else {}
    given = {ATTRIBUTES[name][0]: value.whole(0, 99999) if ATTRIBUTES[name][1] is int
             else value.truth() for name, value in attributes.items()}  # fmt: skip
    with node.placed():
        return elb.create_target_group(
            spec["name"].expect(str), kind, protocol=spec["protocol"].expect(str),
            port=spec["port"].whole(1, 65535),
            target_type=node.choice("instance", "ip", path=("targetType",)), **given,
        )  # fmt: skip
