"""TargetGroupBindings: what AWS has apart from Kubernetes gets its targets from a Service."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ekslearn.cluster import Cluster
from ekslearn.errors import EkslearnError
from ekslearn.scenario import load
from tests.elb.site import SHARED
from tests.test_control import HEAD, PODS, SERVICE

ACCOUNT = (
    HEAD.replace("securityGroups: [{", "securityGroups: [{name: front}, {", 1)
    + SHARED.partition("      listeners:")[0]
    + """\
      listeners:
        - protocol: TCP
          port: 80
          targetGroup: {name: pods, protocol: TCP, port: 8080, targetType: ip}
        - protocol: TCP
          port: 81
          targetGroup: {name: ports, protocol: TCP, port: 30080,
                        attributes: {preserve_client_ip.enabled: false}}
"""
)
ACCOUNT = ACCOUNT.replace("{name: front}", "{name: front, ingress: [{cidr: 0.0.0.0/0}]}")
BINDING = """---
apiVersion: elbv2.k8s.aws/v1beta1
kind: TargetGroupBinding
metadata: {{name: {name}, namespace: shop}}
spec:
  serviceRef: {{name: web, port: {port}}}
  targetGroupName: {name}
  networking:
    ingress:
      - from: [{{securityGroup: {{groupID: front}}}}]
        ports: [{{protocol: TCP, port: {opens}}}]
"""
WEB = SERVICE.format("web", "NodePort", "", "")
TO_PODS = BINDING.format(name="pods", port="http", opens=8080)
TO_PORTS = BINDING.format(name="ports", port=80, opens=30086)


def account(*parts: str) -> Cluster:
    made = load("".join((ACCOUNT, PODS, *parts)))
    assert isinstance(made, Cluster)
    return made


def states(cluster: Cluster, group: str) -> dict[str, str]:
    return {str(one): one.state for one in cluster.elb.groups[group].targets}


def opened(cluster: Cluster) -> list[str]:
    return [str(one) for one in cluster.vpc.security_groups["nodes"].rules["ingress"]][1:]


def test_a_group_gets_pods_and_another_nodes() -> None:
    cluster = account(WEB, TO_PODS, TO_PORTS)
    pods = [cluster.address(f"shop/web-{n}") for n in (1, 2)]
    nodes = [cluster.address(f"node-{end}") for end in "ab"]
    assert states(cluster, "pods") == {f"{one}:8080": "healthy" for one in pods}
    assert states(cluster, "ports") == {f"{one}:30086": "healthy" for one in nodes}
    assert opened(cluster) == ["tcp 8080 front", "tcp 30086 front"]
    assert not cluster.control.controller.events
    for port in (80, 81):
        trace = cluster.trace("shop/cart-1", f"lb/aws/shared:{port}")
        assert trace.verdict == "delivered" and trace.answer.startswith("shop/web-")
    cluster.sleep(100)  # what the controllers haven't made isn't theirs to delete
    assert list(cluster.elb.balancers) == ["lb/aws/shared"]


def test_targets_follow_the_service_and_leave_with_the_binding() -> None:
    cluster = account(WEB, TO_PODS)
    gone = f"{cluster.address('shop/web-1')}:8080"
    cluster.delete_pod("shop/web-1")
    cluster.sleep(1)
    assert sorted(states(cluster, "pods").values()) == ["draining", "healthy"]
    assert states(cluster, "pods")[gone] == "draining"
    del cluster.control.controller.bindings["shop/pods"]
    cluster.sleep(1)
    assert set(states(cluster, "pods").values()) == {"draining"} and opened(cluster) == []


def test_without_networking_nothing_is_let_in() -> None:
    cluster = account(WEB, TO_PODS.partition("  networking:")[0])
    assert set(states(cluster, "pods").values()) == {"unhealthy"} and opened(cluster) == []


def test_a_rule_without_ports_opens_all_of_tcp() -> None:
    cluster = account(WEB, TO_PODS.partition("        ports:")[0] + "\n")
    assert set(states(cluster, "pods").values()) == {"healthy"}
    assert opened(cluster) and not any("8080" in one for one in opened(cluster))


def test_an_arn_has_the_name_in_it_and_comes_first() -> None:
    arn = "arn:aws:elasticloadbalancing:us-east-1:111122223333:targetgroup/pods/73e2d6bc24d8a067"
    both = f"targetGroupName: none\n  targetGroupARN: {arn}"
    cluster = account(WEB, TO_PODS.replace("targetGroupName: pods", both))
    assert len(states(cluster, "pods")) == 2


def test_nodes_are_chosen_by_their_labels() -> None:
    label = "subnet: private-b, labels: {door: wide}, securityGroups"
    text = ACCOUNT.replace("subnet: private-b, securityGroups", label)
    one = TO_PORTS.replace("spec:", "spec:\n  nodeSelector: {matchLabels: {door: wide}}")
    cluster = load(text + PODS + WEB + one)
    assert isinstance(cluster, Cluster)
    assert list(states(cluster, "ports")) == [f"{cluster.address('node-b')}:30086"]


SPEC = "spec:\n  serviceRef"
# The binding, what spoils it, and what the controller says then.
EVENTS = {
    "no group": (TO_PODS, "Name: pods", "Name: pod", "TargetGroupNotFound: One or more target"
                 " groups not found: there is no 'pod'; there are pods, ports"),
    "no Service": (TO_PODS, "name: web, port", "name: wep, port",
                   "backend not found: there is no Service shop/wep"),
    "no port": (TO_PODS, "port: http", "port: 81",
                "backend not found: the Service shop/web has no port 81; it has 80"),
    "ClusterIP": (TO_PORTS, "type: NodePort", "type: ClusterIP",
                  "service type must be either 'NodePort' or 'LoadBalancer'"),
    "instances wanted": (TO_PODS, SPEC, "spec:\n  targetType: instance\n  serviceRef",
                         "ValidationError: pods takes addresses, and 'node-a' is none"),
    "pods wanted": (TO_PORTS, SPEC, "spec:\n  targetType: ip\n  serviceRef",
                    "is not valid: ports takes instances"),
    "selector": (TO_PODS, SPEC, "spec:\n  nodeSelector: {matchLabels: {a: b}}\n  serviceRef",
                 "TargetGroupBinding cannot set NodeSelector when TargetType is ip"),
    "no security group": (TO_PODS, "groupID: front", "groupID: back",
                          "there is no security group 'back'; there are front, nodes"),
}  # fmt: skip


@pytest.mark.parametrize("case", EVENTS)
def test_what_cannot_be_done_is_an_event_and_a_note(case: str) -> None:
    binding, old, new, said = EVENTS[case]
    cluster = load((ACCOUNT + PODS + WEB + binding).replace(old, new))
    assert isinstance(cluster, Cluster)
    [(name, event)] = cluster.control.controller.events.items()
    assert said in event and f"{name}: {event}" in cluster.notes
    assert not any(group.targets for group in cluster.elb.groups.values())


def test_it_is_tried_again() -> None:
    cluster = account(WEB, TO_PODS.replace("Name: pods", "Name: more"))
    assert "there is no 'more'" in cluster.control.controller.events["targetgroupbinding/shop/pods"]
    group = cluster.elb.create_target_group("more", "nlb", protocol="TCP", port=1, target_type="ip")
    cluster.sleep(1)
    assert len(group.targets) == 2 and not cluster.control.controller.events
    cluster.services.remove("shop/web")
    cluster.sleep(1)
    assert {one.state for one in group.targets} == {"draining"} and opened(cluster) == []


def test_without_services_there_is_an_event_and_nothing_else() -> None:
    cluster = account(TO_PODS)
    assert list(cluster.control.controller.events) == ["targetgroupbinding/shop/pods"]
    assert "KUBE-SERVICES" not in cluster.run("node-a", "iptables-save").stdout


def test_the_controllers_own_is_only_noted() -> None:
    labels = ("{ingress.k8s.aws/stack: site}", "{service.k8s.aws/stack-name: web}")
    own = (TO_PODS.replace("namespace: shop", f"namespace: {space}, labels: {one}")
           for space, one in zip(("shop", "b"), labels, strict=True))  # fmt: skip
    cluster = account(WEB, *own)
    told = [one for one in cluster.notes if "TargetGroupBinding" in one]
    assert len(told) == 2 and not cluster.control.controller.bindings
    assert re.fullmatch(r"\(text\):\d+: ignored: TargetGroupBinding pods, which the controller"
                        r" makes itself, of an Ingress or a Service", told[0])  # fmt: skip


def test_a_service_cannot_take_the_place_of_a_balancer_in_aws() -> None:
    service = SERVICE.format("web", "LoadBalancer", "", ", loadBalancerClass: service.k8s.aws/nlb")
    cluster = account(TO_PODS, service.replace("namespace: shop", "namespace: aws")
                      .replace("name: web\n", "name: shared\n"))  # fmt: skip
    event = cluster.control.controller.events["lb/aws/shared"]
    assert event == "DuplicateLoadBalancerName: there is a lb/aws/shared already"
    assert len(cluster.elb.balancers["lb/aws/shared"].listeners) == 2


REFUSED = {
    "no reference": ("serviceRef: {name: web", "service: {name: web", r"^ a TargetGroupBinding"
                     " needs metadata.name and, in spec.serviceRef, the name and port"),
    "no group": ("targetGroupName: pods", "targetGroupName: ''",
                 "^ spec: must provide either TargetGroupARN or TargetGroupName"),
    "type": (SPEC, "spec:\n  targetType: pod\n  serviceRef",
             "^ spec.targetType: there is no targetType 'pod'; there are instance, ip"),
    "peer": ("{securityGroup: {groupID: front}}", "{}", r"^ spec.networking.ingress\[0\].from\[0\]:"
             " either ipBlock or securityGroup should be specified"),
    "two peers": ("{securityGroup: {groupID: front}}",
                  "{securityGroup: {groupID: front}, ipBlock: {cidr: 10.0.0.0/16}}",
                  r"^ spec.networking.ingress\[0\].from\[0\]: either ipBlock or securityGroup"),
    "port": ("port: 8080", "port: http", r"^ spec.networking.ingress\[0\].ports\[0\].port: expected"
             " a whole number from 1 to 65535, found 'http'"),
    "many clusters": (SPEC, "spec:\n  multiClusterTargetGroup: true\n  serviceRef",
                      "^ spec.multiClusterTargetGroup: it isn't modelled"),
    "role": (SPEC, "spec:\n  iamRoleArnToAssume: arn:aws:iam::1:role/x\n  serviceRef",
             "^ spec.iamRoleArnToAssume: it isn't modelled"),
    "IPv6": (SPEC, "spec:\n  ipAddressType: ipv6\n  serviceRef",
             "^ spec.ipAddressType: there is no word 'ipv6'; there are ipv4"),
    "operator": (SPEC, "spec:\n  nodeSelector: {matchExpressions: [{key: a, operator: Is}]}\n"
                 "  serviceRef", r"^ spec.nodeSelector.matchExpressions\[0\].operator: "),
    "API": ("elbv2.k8s.aws/v1beta1", "v1", "^ apiVersion: 'v1' has no TargetGroupBinding"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_refused(case: str, tmp_path: Path) -> None:
    old, new, said = REFUSED[case]
    assert TO_PODS.count(old) == 1
    (tmp_path / "a.yaml").write_text(ACCOUNT + PODS + WEB, encoding="utf-8")
    (tmp_path / "b.yaml").write_text(TO_PODS.replace(old, new), encoding="utf-8")
    with pytest.raises(EkslearnError) as caught:
        load(tmp_path)
    found = re.fullmatch(rf"{tmp_path / 'b.yaml'}:\d+:(.*)", str(caught.value))
    assert found and re.match(said, found[1]), found and found[1]


@pytest.mark.parametrize(("second", "said"), [
    (TO_PODS.replace("name: pods,", "name: more,"),
     "spec: TargetGroup pods is already bound to TargetGroupBinding shop/pods"),
    (TO_PODS.replace("Name: pods", "Name: ports"), "a second TargetGroupBinding shop/pods"),
], ids=["group", "name"])  # fmt: skip
def test_one_binding_for_a_group_and_one_of_a_name(second: str, said: str) -> None:
    with pytest.raises(EkslearnError, match=said):
        account(WEB, TO_PODS, second)
