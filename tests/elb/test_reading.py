"""Balancers in AWS that a scenario describes: every field with its effect, or refused by name."""

from __future__ import annotations

import re

import pytest

from ekslearn.cluster import Cluster
from ekslearn.errors import EkslearnError
from ekslearn.scenario import load
from tests.elb.site import SCENARIO, SHARED

HEAD = SCENARIO.partition("---\n")[0].replace("  connmark:", "    securityGroups: [{name: front}]\n"
                                              "  connmark:")  # fmt: skip


def site(shared: str = SHARED) -> Cluster:
    made = load(HEAD + shared)
    assert isinstance(made, Cluster)
    return made


def test_every_field_has_its_effect() -> None:
    cluster = site()
    [made] = cluster.elb.balancers.values()
    assert (made.place, made.kind, made.scheme) == ("lb/aws/shared", "nlb", "internal")
    assert [eni.subnet.name for eni in made.enis.values()] == ["private-a", "private-b"]
    assert [one.name for one in made.security_groups] == ["front"] and made.cross_zone
    [listener] = made.listeners
    assert str(listener) == "TCP:80 -> web"
    group = cluster.elb.groups["web"]
    assert listener.group is group and (group.port, group.target_type) == (8080, "ip")
    assert group.preserve_client_ip and group.proxy_protocol and group.sticky
    assert (group.deregistration_delay_s, group.cross_zone) == (30, False)


def test_what_is_left_out_is_as_aws_has_it() -> None:
    plain = SHARED.replace("      type: network\n      scheme: internal\n", "")
    plain = plain.replace("private-a, private-b", "lb-a").partition("            targetType")[0]
    cluster = site(plain.replace("      securityGroups: [front]\n      crossZone: true\n", ""))
    [made] = cluster.elb.balancers.values()
    assert (made.kind, made.scheme, made.cross_zone) == ("nlb", "internet-facing", False)
    group = cluster.elb.groups["web"]
    assert group.target_type == "instance" and group.preserve_client_ip
    cluster.elb.register(group, "n1", 22)
    assert cluster.trace("client", "lb/aws/shared:80").verdict in ("refused", "dropped")


def test_an_application_load_balancer() -> None:
    cluster = site(SHARED.replace("network", "application").replace("TCP", "HTTP")
                   .partition("            attributes")[0])  # fmt: skip
    assert cluster.elb.balancers["lb/aws/shared"].kind == "alb"


REFUSED = {
    "field": ("crossZone", "crosszone", ".crosszone: unknown field; did you mean crossZone?"),
    "type": ("type: network", "type: classic", ".type: there is no word 'classic'; there are"),
    "scheme": ("internal", "private", ".scheme: there is no word 'private'; there are"),
    "subnet": ("private-b", "private-x", ": SubnetNotFound: there is no subnet 'private-x'"),
    "group": ("[front]", "[back]", ".securityGroups[0]: there is no security group 'back'"),
    "zone": ("private-b", "lb-a", ": InvalidConfigurationRequest: A load balancer cannot be"),
    "protocol": ("- protocol: TCP", "- protocol: HTTP", ".listeners[0]: UnsupportedProtocol: "),
    "port": ("port: 80\n", "port: 0\n", ".listeners[0].port: expected a whole number from 1"),
    "target type": (": ip", ": lambda", ".targetType: there is no word 'lambda'; there are"),
    "attribute": ("stickiness.enabled", "slow_start", "attributes.slow_start: unknown field"),
    "value": ("enabled: false", "enabled: 0", ".cross_zone.enabled: expected true or false, found"),
    "delay": ("seconds: 30", "seconds: 3601", ".targetGroup: ValidationError: deregistration_"),
    "listeners": ("      listeners:", "      doors:", ".doors: unknown field; known here: "),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be(case: str) -> None:
    old, new, said = REFUSED[case]
    with pytest.raises(EkslearnError) as caught:
        site(SHARED.replace(old, new, 1))
    found = re.fullmatch(r"\(text\):\d+: (spec|\.\.\.)(.*)", str(caught.value))
    assert found and said in found[2], str(caught.value)


def test_a_group_is_named_once() -> None:
    twice = SHARED + SHARED.partition("    - name")[2].join(["    - name", ""]).replace(
        "shared", "second")  # fmt: skip
    with pytest.raises(
        EkslearnError, match="DuplicateTargetGroupName: there is a target group web"
    ):
        site(twice)
