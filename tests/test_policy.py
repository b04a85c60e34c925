"""NetworkPolicies: what manifests say, whom they let through, and when the agent knows them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ekslearn
from ekslearn import EkslearnError
from ekslearn.cluster import Cluster
from ekslearn.document import Composer
from ekslearn.errors import NotModelled
from ekslearn.kubernetes import Pod
from ekslearn.linux import Packet
from ekslearn.policy import (
    ALLOW,
    APPLIED,
    DENY,
    STAGE,
    PolicyAgent,
    PolicyPort,
    PolicyRule,
    judge,
    read_network_policy,
)
from ekslearn.trace import Step, Trace
from tests.policies import SCENARIO, apply, guarded, policy, start

IP, NET = IPv4Address, IPv4Network
DENY_IN = "{podSelector: {}, policyTypes: [Ingress]}"
DENY_OUT = "{podSelector: {}, policyTypes: [Egress]}"
SHUT = "{podSelector: {}, policyTypes: [Ingress, Egress]}"


def judged(trace: Trace) -> list[Step]:
    return [step for step in trace.steps if step.stage == STAGE]


def passes(cluster: Cluster, source: str, destination: str) -> bool:
    trace = cluster.trace(source, destination)
    assert trace.verdict in ("delivered", "refused", "dropped"), trace
    return trace.verdict != "dropped"


# Where the programs stand


def test_a_capture_sees_what_the_pod_sent_and_nothing_that_was_not_let_to_it() -> None:
    cluster, _ = guarded(policy(DENY_OUT))
    trace = cluster.trace("shop/client", "shop/web:8080")
    veth = cluster.namespace("shop/client").links["eth0"].peer
    assert veth is not None
    # AF_PACKET's tap on the way in comes before TC: the node's end shows the packet, then nobody.
    assert [(s.place, s.interface, s.direction) for s in trace.request] == [
        ("shop/client", "eth0", "out"), ("node-b", veth.name, "in"),
    ]  # fmt: skip
    assert trace.reason == "node-b: egress of shop/client: not admitted"

    cluster, _ = guarded(policy(DENY_IN))
    trace = cluster.trace("shop/client", "shop/web:8080")
    # And on the way out behind it: what is dropped there is never seen.
    assert (trace.request[-1].place, trace.request[-1].direction) == ("node-a", "in")
    assert trace.request[-1].interface == "eth0"
    assert [step.decision for step in judged(trace)] == [
        "egress of shop/client: admitted", "ingress of shop/web: not admitted",
    ]  # fmt: skip


def test_it_isnt_netfilter() -> None:
    cluster, _ = guarded(policy(DENY_IN))
    before = cluster.run("node-a", "iptables-save").stdout
    assert "policy" not in before.lower()
    assert not passes(cluster, "shop/client", "shop/web:8080")
    # The kernel's conntrack knows the flow; it is the agent that doesn't let it in.
    cluster.run("node-a", "iptables -t nat -F")
    assert not passes(cluster, "shop/client", "shop/web:8080")


# What Kubernetes says (kubernetes.io, "Network Policies")

CLIENT = "{podSelector: {matchLabels: {app: client}}}"
TEAM_B = "{namespaceSelector: {matchLabels: {team: b}}}"
BOTH = "{namespaceSelector: {matchLabels: {team: b}}, podSelector: {matchLabels: {app: client}}}"
BY_NAME = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}}"


def into(peers: str, ports: str = "") -> str:
    """A policy for shop/web that lets in ``peers`` by ``ports``."""
    rule = ", ".join(each for each in (peers and f"from: [{peers}]", ports and f"ports: [{ports}]")
                     if each)  # fmt: skip
    return policy(f"{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{{rule}}}]}}")


def chosen(key: str, how: str, *values: str) -> str:
    said = f", values: [{', '.join(values)}]" if values else ""
    return into(f"{{podSelector: {{matchExpressions: [{{key: {key}, operator: {how}{said}}}]}}}}")


SEMANTICS: list[tuple[str, str, str, bool]] = [
    # A rule without peers lets in everybody, one without ports by every port.
    (into(""), "other/client", "shop/web:9000", True),
    (into("", "{port: 8080}"), "other/client", "shop/web:8080", True),
    (into("", "{port: 8080}"), "other/client", "shop/web:9000", False),
    # A podSelector alone means the policy's own namespace.
    (into(CLIENT), "shop/client", "shop/web:8080", True),
    (into(CLIENT), "other/client", "shop/web:8080", False),
    (into(CLIENT), "shop/near", "shop/web:8080", False),
    # A namespaceSelector means all pods of what it selects; every namespace bears its own name.
    (into(TEAM_B), "other/client", "shop/web:8080", True),
    (into(TEAM_B), "shop/client", "shop/web:8080", False),
    (into(BY_NAME), "other/client", "shop/web:8080", True),
    # One peer with both is AND, two peers are OR.
    (into(BOTH), "other/client", "shop/web:8080", True),
    (into(BOTH), "shop/client", "shop/web:8080", False),
    (into(f"{TEAM_B}, {CLIENT}"), "shop/client", "shop/web:8080", True),
    (into("{namespaceSelector: {}}"), "shop/near", "shop/web:8080", True),
    # Ports: protocol, name, range.
    (into(CLIENT, "{port: http}"), "shop/client", "shop/web:8080", True),
    (into(CLIENT, "{port: http}"), "shop/client", "shop/web:9000", False),
    (into(CLIENT, "{port: nowhere}"), "shop/client", "shop/web:8080", False),
    (into(CLIENT, "{port: 8000, endPort: 8080}"), "shop/client", "shop/web:8080", True),
    (into(CLIENT, "{port: 8000, endPort: 8079}"), "shop/client", "shop/web:8080", False),
    (into(CLIENT, "{protocol: UDP}"), "shop/client", "shop/web:53/udp", True),
    (into(CLIENT, "{port: 53, protocol: UDP}"), "shop/client", "shop/web:53/tcp", False),
    (into(CLIENT, "{port: 53}"), "shop/client", "shop/web:53/udp", False),  # TCP unless it says
    # Blocks and what is excepted of them.
    (into("{ipBlock: {cidr: 10.0.0.0/16}}"), "bastion", "shop/web:8080", True),
    (into("{ipBlock: {cidr: 10.0.32.0/19}}"), "bastion", "shop/web:8080", False),
    (into("{ipBlock: {cidr: 10.0.0.0/16, except: [10.0.4.0/24]}}"), "bastion", "shop/web:8080",
     False),
    (into("{ipBlock: {cidr: 10.0.0.0/16, except: [10.0.5.0/24]}}"), "bastion", "shop/web:8080",
     True),
    # A port by name means nothing where nobody knows the pods (getAllowAllNetworkPeers).
    (into("{ipBlock: {cidr: 0.0.0.0/0}}", "{port: http}"), "shop/client", "shop/web:8080", False),
    (into("", "{port: http}, {port: 9000}"), "shop/client", "shop/web:9000", True),
    # Expressions.
    (chosen("app", "In", "client", "x"), "shop/client", "shop/web:8080", True),
    (chosen("app", "In", "x"), "shop/client", "shop/web:8080", False),
    (chosen("app", "NotIn", "client"), "shop/client", "shop/web:8080", False),
    (chosen("nothing", "NotIn", "client"), "shop/client", "shop/web:8080", True),
    (chosen("tier", "Exists"), "shop/near", "shop/web:8080", True),
    (chosen("tier", "Exists"), "shop/client", "shop/web:8080", False),
    (chosen("tier", "DoesNotExist"), "shop/client", "shop/web:8080", True),
    (chosen("tier", "DoesNotExist"), "shop/near", "shop/web:8080", False),
    # ICMP has no ports: only a rule that names none lets it in.
    (into(CLIENT), "shop/client", "shop/web", True),
    (into(CLIENT, "{protocol: TCP}"), "shop/client", "shop/web", False),
]  # fmt: skip


@pytest.mark.parametrize(("manifest", "source", "destination", "expected"), SEMANTICS)
def test_what_a_rule_admits(manifest: str, source: str, destination: str, expected: bool) -> None:
    cluster, _ = guarded(manifest)
    assert passes(cluster, source, destination) is expected
    assert passes(cluster, "shop/web", "shop/client:8080"), "it doesn't isolate the other way"


def test_policies_add_up() -> None:
    cluster, agent = guarded(policy(SHUT), into(CLIENT).replace("name: p", "name: q"))
    assert not passes(cluster, "shop/client", "shop/web:8080"), "its own egress is shut"
    out = "{podSelector: {matchLabels: {app: client}}, egress: [{}], policyTypes: [Egress]}"
    apply(agent, policy(out, "out"))
    cluster.world.clock += agent.delay_s
    assert passes(cluster, "shop/client", "shop/web:8080")
    assert not passes(cluster, "shop/near", "shop/web:8080")
    agent.withdraw("shop", "q")
    assert not passes(cluster, "shop/client", "shop/web:8080")


@pytest.mark.parametrize(("spec", "ways"), [
    ("{podSelector: {}}", ["ingress"]),
    ("{podSelector: {}, egress: [{}]}", ["ingress", "egress"]),
    ("{podSelector: {}, ingress: [{}]}", ["ingress"]),
    ("{podSelector: {}, egress: []}", ["ingress"]),
    ("{podSelector: {}, policyTypes: [Egress]}", ["egress"]),
    ("{podSelector: {}, policyTypes: [Egress], ingress: [{}]}", ["egress"]),
])  # fmt: skip
def test_which_ways_it_isolates(spec: str, ways: list[str]) -> None:
    (document,) = Composer(policy(spec), "p.yaml").documents()
    assert list(read_network_policy(document).rules) == ways


# The node, and pods on its network


def test_the_node_reaches_its_own_pods_and_no_others() -> None:
    cluster, _ = guarded(policy(SHUT))
    probe = cluster.trace("node-a", "shop/web:8080")  # as kubelet does
    assert probe.verdict == "delivered"
    assert "its own node is let through" in judged(probe)[0].because
    assert not passes(cluster, "node-b", "shop/web:8080")
    assert passes(cluster, "shop/web", f"{cluster.address('node-a')}:10250")


def test_a_pod_on_its_nodes_network_isnt_guarded() -> None:
    cluster, agent = guarded(policy(SHUT))
    assert passes(cluster, "other/client", "shop/agent:7000")
    assert not judged(cluster.trace("bastion", "shop/agent:7000"))
    assert agent.state("shop/agent") == ALLOW


def test_what_is_masqueraded_on_the_pods_node_comes_in() -> None:
    """A node port of the pod's own node masquerades: the program sees the node, and lets it in."""
    cluster, _ = guarded(policy(DENY_IN))
    assert not passes(cluster, "bastion", "shop/web:8080")
    cluster.run("node-a", "iptables -t nat -A PREROUTING -p tcp -m tcp --dport 31380 -j DNAT"
                f" --to-destination {cluster.address('shop/web')}:8080")  # fmt: skip
    assert not passes(cluster, "bastion", f"{cluster.address('node-a')}:31380")
    cluster.run("node-a", "iptables -t nat -A POSTROUTING -p tcp -m tcp --dport 8080 -j MASQUERADE")
    assert passes(cluster, "bastion", f"{cluster.address('node-a')}:31380")


# Services: the program stands before kube-proxy's DNAT


def out(peer: str, ports: str) -> str:
    rule = ", ".join(each for each in (peer and f"to: [{peer}]", f"ports: [{ports}]") if each)
    return policy(f"{{podSelector: {{matchLabels: {{app: client}}}}, policyTypes: [Egress],"
                  f" egress: [{{{rule}}}]}}")  # fmt: skip


WEB = "{podSelector: {matchLabels: {app: web}}}"
BLOCKS = "{ipBlock: {cidr: 10.0.0.0/16}}, {ipBlock: {cidr: 172.20.0.0/16}}"


@pytest.mark.parametrize(("manifest", "service", "pod"), [
    # Selectors: the controller adds the Service's own address and port for the pods' port.
    (out(WEB, "{port: 8080}"), True, True),
    (out(WEB, "{port: http}"), True, True),
    (out("{podSelector: {}}", "{port: 8080}"), True, True),  # {} chooses whatever a Service selects
    (out("{podSelector: {matchLabels: {app: x}}}", "{port: 8080}"), False, False),
    (out(WEB, "{port: 80}"), False, False),  # the Service's port is no port of its pods
    # Blocks, and rules for everybody: nobody translates the port.
    (out(BLOCKS, "{port: 8080}"), False, True),
    (out(BLOCKS, "{port: 80}"), True, False),
    (out("", "{port: 8080}"), False, True),
    (out("", "{port: 80}, {port: 8080}"), True, True),
])  # fmt: skip
def test_a_service_call_is_judged_by_the_services_address(
    manifest: str, service: bool, pod: bool
) -> None:
    cluster, _ = guarded(manifest)
    trace = cluster.trace("shop/client", "service/shop/web:80")
    first = judged(trace)[0]
    assert (first.header["dst"], first.header["dport"]) == ("172.20.45.6", 80)
    assert (trace.verdict == "delivered") is service, first
    assert passes(cluster, "shop/client", "shop/web:8080") is pod


# When policies are loaded


def test_standard_mode_is_open_until_the_policies_are_there() -> None:
    cluster, agent = guarded(policy(DENY_IN), wait=False)
    assert agent.state("shop/web") == ALLOW
    assert passes(cluster, "shop/client", "shop/web:8080")
    cluster.world.clock += agent.delay_s - 0.001
    assert passes(cluster, "shop/client", "shop/web:8080")
    cluster.world.clock += 0.001
    assert agent.state("shop/web") == APPLIED
    assert not passes(cluster, "shop/client", "shop/web:8080")
    assert agent.state("other/client") == ALLOW, "no policy selects it"


def test_strict_mode_is_shut_until_then_and_for_good_where_there_is_none() -> None:
    cluster, agent = guarded(into(""), mode="strict", wait=False)
    assert agent.state("shop/web") == DENY
    assert not passes(cluster, "node-a", "shop/web:8080"), "not even kubelet's probe"
    cluster.world.clock += agent.delay_s
    assert passes(cluster, "node-a", "shop/web:8080")
    assert not passes(cluster, "shop/client", "shop/web:8080"), "the client has no policy"
    apply(agent, policy("{podSelector: {}, egress: [{}], ingress: [{}]}", "open"))
    cluster.world.clock += agent.delay_s
    assert passes(cluster, "shop/client", "shop/web:8080")


def test_a_cluster_without_policies_knows_nothing_of_the_agent() -> None:
    cluster, agent = guarded()
    assert not judged(cluster.trace("shop/client", "shop/web:8080"))
    agent.mode = "strict"
    agent.enforce()
    assert not passes(cluster, "shop/client", "shop/web:8080")


@pytest.mark.parametrize("mode", ["", "none"])
def test_without_a_mode_nothing_is_enforced(mode: str) -> None:
    cluster, _ = guarded(policy(SHUT), mode=mode)
    trace = cluster.trace("shop/client", "shop/web:8080")
    assert (trace.verdict, judged(trace)) == ("delivered", [])


def test_the_later_of_pod_and_policy_counts() -> None:
    cluster, agent = guarded(policy(DENY_IN))
    cluster.add_pod(Pod(name="late", namespace="shop", node="node-b"))
    start(cluster, agent, "shop/late")
    assert (agent.state("shop/late"), agent.state("shop/web")) == (ALLOW, APPLIED)
    apply(agent, policy(SHUT, "q"))
    cluster.world.clock += 1
    assert len(agent.entries("shop/web", "egress")) == 2, "its own node, and everybody still"
    cluster.world.clock += 1
    assert agent.state("shop/late") == APPLIED
    assert len(agent.entries("shop/web", "egress")) == 1


def test_a_new_pods_address_takes_its_time_too() -> None:
    cluster, agent = guarded(into(CLIENT))
    cluster.add_pod(Pod(name="client-2", namespace="shop", node="node-b", labels={"app": "client"}))
    start(cluster, agent, "shop/client-2")
    assert not passes(cluster, "shop/client-2", "shop/web:8080")
    cluster.world.clock += agent.delay_s
    assert passes(cluster, "shop/client-2", "shop/web:8080")
    agent.stopped("shop/client-2")
    rows = [str(each) for each in agent.entries("shop/web", "ingress")]
    assert cluster.address("shop/client") in rows[1]
    assert not any(cluster.address("shop/client-2") in row for row in rows)


def packets(cluster: Cluster) -> tuple[Packet, Packet, Any]:
    """A SYN of shop/client's, what answers it, and the node's end of its veth."""
    syn = Packet(src=IP(cluster.address("shop/client")), dst=IP("198.51.100.9"), protocol="tcp",
                 sport=50000, dport=5432, flags="SYN")  # fmt: skip
    return syn, syn.answer(flags="SYN-ACK"), cluster.namespace("shop/client").links["eth0"].peer


@pytest.mark.parametrize(("from_start", "comes"), [(True, True), (False, False)])
def test_an_answer_that_comes_after_the_policies(from_start: bool, comes: bool) -> None:
    """aws-network-policy-agent issue 345, and what pull request 361 made of it."""
    allowed = "{podSelector: {}, policyTypes: [Ingress, Egress], egress: [{}]}"
    cluster, agent = guarded(policy(allowed), wait=False, from_start=from_start)
    syn, answer, veth = packets(cluster)
    assert veth.passes("ingress", syn)
    cluster.world.clock += agent.delay_s
    assert veth.passes("egress", answer) is comes
    assert veth.passes("ingress", syn), "the pod may go on: its egress is allowed"
    assert veth.passes("egress", answer), "and from now on the agent knows the flow"


def test_a_flow_begun_in_the_open_is_judged_once_more() -> None:
    cluster, agent = guarded(policy(SHUT), wait=False)
    syn, answer, veth = packets(cluster)
    assert veth.passes("ingress", syn)
    cluster.world.clock += agent.delay_s
    assert veth.passes("egress", answer), "an answer, still"
    assert not veth.passes("ingress", syn)
    assert not veth.passes("egress", answer), "the agent has forgotten the flow"


def test_a_flow_that_was_admitted_goes_on_when_the_policy_changes() -> None:
    """The program looks at its flows first: a change of rules doesn't end what they let through."""
    cluster, agent = guarded(policy("{podSelector: {}, egress: [{}]}"))
    syn, answer, veth = packets(cluster)
    assert veth.passes("ingress", syn)
    apply(agent, policy(SHUT))
    cluster.world.clock += agent.delay_s
    assert veth.passes("ingress", syn)
    assert veth.passes("egress", answer)
    assert not veth.passes("ingress", replace(syn, sport=50001))
    agent.withdraw("shop", "p")
    assert veth.passes("ingress", syn)
    assert veth.passes("ingress", replace(syn, sport=50001))


def test_a_copy_has_an_agent_of_its_own() -> None:
    cluster, _ = guarded(policy(DENY_IN), wait=False)
    twin = cluster.copy()
    assert isinstance(twin, Cluster)
    twin.world.clock += 2
    assert not passes(twin, "shop/client", "shop/web:8080")
    assert passes(cluster, "shop/client", "shop/web:8080")


def test_a_scenario_holds_policies_and_namespaces() -> None:
    space = "apiVersion: v1\nkind: Namespace\nmetadata: {name: other, labels: {team: b}}\n"
    cluster = ekslearn.load("---\n".join([SCENARIO, space, into(TEAM_B)]))
    assert isinstance(cluster, Cluster)
    assert passes(cluster, "other/client", "shop/web:8080")
    assert not passes(cluster, "shop/client", "shop/web:8080")
    assert cluster.notes == []
    cluster.delete_pod("other/client")
    assert len(cluster.network_policy.entries("shop/web", "ingress")) == 1
    late = Pod(name="late", namespace="other", node="node-b")
    cluster.add_pod(late)
    assert not passes(cluster, "other/late", "shop/web:8080")
    cluster.sleep(2)
    assert passes(cluster, "other/late", "shop/web:8080")
    cluster.network_policy.enforce(False)
    assert passes(cluster, "shop/client", "shop/web:8080")


def test_a_scenario_whose_policies_have_no_effect_says_so() -> None:
    off = SCENARIO.replace("MODE: standard", "MODE: none")
    cluster = ekslearn.load(off + "---\n" + policy(SHUT))
    assert isinstance(cluster, Cluster)
    assert passes(cluster, "shop/client", "shop/web:8080")
    assert cluster.notes == ["NETWORK_POLICY_ENFORCING_MODE is none: no NetworkPolicy has effect"]
    with pytest.raises(EkslearnError, match="podselector: unknown field"):
        ekslearn.load(off + "---\n" + policy("{podselector: {}}"))


# The agent's map


def packet(src: str = "10.1.0.5", dport: int = 80, protocol: str = "tcp") -> Packet:
    return Packet(src=IP(src), dst=IP("10.9.9.9"), protocol=protocol, sport=40000, dport=dport)


def entry(cidr: str, *excepts: str, ports: tuple[PolicyPort, ...] = ()) -> PolicyRule:
    return PolicyRule(origin="r", block=NET(cidr), excepts=tuple(map(NET, excepts)), ports=ports)


def test_an_exception_holds_against_another_rules_wider_block() -> None:
    """Unlike Kubernetes, where policies only add up: pkg/fwruleprocessor keeps an entry for it."""
    rules = [entry("0.0.0.0/0", "10.1.0.0/16"), entry("10.0.0.0/8")]
    row = judge(rules, IP("10.1.0.5"), packet())
    assert (row.admits, row.text) == (False, "no rule allows it")
    assert row.passed_over == (
        "0.0.0.0/0 except 10.1.0.0/16 any (r) — 10.1.0.5 is excepted",
        "10.0.0.0/8 any (r) — another rule excepts 10.1.0.0/16, and the longest prefix decides",
    )
    assert judge([*rules, entry("10.1.0.5/32")], IP("10.1.0.5"), packet()).admits
    assert judge([*rules, entry("10.1.0.0/16")], IP("10.1.0.5"), packet()).admits
    assert judge(rules, IP("10.2.0.5"), packet("10.2.0.5")).admits


def test_a_port_and_its_text() -> None:
    ports = [PolicyPort("tcp", 80), PolicyPort("udp"), PolicyPort("tcp", 8000, 8080)]
    assert [str(each) for each in ports] == ["tcp/80", "udp", "tcp/8000-8080"]
    assert str(entry("10.0.0.0/8", ports=(ports[0], ports[1]))) == "10.0.0.0/8 tcp/80 udp (r)"


blocks = st.builds(
    lambda ip, length: NET((ip, length), strict=False),
    st.integers(0x0A000000, 0x0A0000FF), st.integers(24, 32),
)  # fmt: skip
some_ports = st.lists(st.builds(
    lambda protocol, port, width: PolicyPort(protocol, port or None, port + width if port and width
                                             else 0),
    st.sampled_from(["tcp", "udp"]), st.integers(0, 6), st.integers(0, 3),
), max_size=2)  # fmt: skip


@given(st.lists(st.tuples(blocks, some_ports), max_size=6), st.integers(0, 255),
       st.integers(1, 8), st.sampled_from(["tcp", "udp"]))  # fmt: skip
def test_without_exceptions_rules_add_up_whatever_the_map_looks_like(
    rules: list[tuple[IPv4Network, list[PolicyPort]]], host: int, port: int, protocol: str
) -> None:
    far = IP("10.0.0.0") + host
    wanted = any(
        far in block and (not ports or any(
            one.protocol == protocol and (one.port is None or one.port == port
                                          or one.port < port <= one.end) for one in ports))
        for block, ports in rules
    )  # fmt: skip
    made = [PolicyRule(origin="r", block=block, ports=tuple(ports)) for block, ports in rules]
    row = judge(made, far, packet(str(far), port, protocol))
    assert row.admits is wanted
    assert len(row.passed_over) == len(made) if not wanted else row.text in map(str, made)


# Refusals


@pytest.mark.parametrize(("spec", "said"), [
    ("{podselector: {}}", "p.yaml:4: spec.podselector: unknown field; did you mean podSelector?"),
    ("{policyTypes: [Inbound]}", "spec.policyTypes[0]: there is no policy type 'Inbound'; there"
     " are Ingress, Egress"),
    ("{ingress: [{to: []}]}", "spec.ingress[0].to: unknown field"),
    ("{ingress: [{from: [{}]}]}", "spec.ingress[0].from[0]: a peer is an ipBlock alone, or"),
    ("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}",
     "spec.ingress[0].from[0]: a peer is an ipBlock alone, or a podSelector"),
    ("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.1/8}}]}]}", "isn't a network such as"),
    ("{ingress: [{from: [{ipBlock: {cidr: '2001:db8::/64'}}]}]}", "isn't a network such as"),
    ("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}",
     "except[0]: 11.0.0.0/16 isn't a part of 10.0.0.0/8"),
    ("{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]}",
     "isn't a part of 10.0.0.0/8"),
    ("{ingress: [{from: [{ipBlock: {}}]}]}", "the field cidr is missing"),
    ("{ingress: [{ports: [{port: 0}]}]}", "expected a whole number from 1 to 65535, found '0'"),
    ("{ingress: [{ports: [{endPort: 80}]}]}", "ports[0].endPort: endPort needs a port"),
    ("{ingress: [{ports: [{port: http, endPort: 80}]}]}", "endPort needs a port with a number"),
    ("{ingress: [{ports: [{port: 80, endPort: 79}]}]}", "a whole number from 80 to 65535"),
    ("{podSelector: {matchExpressions: [{key: a, operator: Is}]}}", "there is no operator 'Is'"),
    ("{podSelector: {matchExpressions: [{key: a, operator: In}]}}", "In needs values"),
    ("{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [x]}]}}",
     "Exists takes no values"),
    ("{podSelector: {app: web}}", "spec.podSelector.app: unknown field"),
    ("[]", "spec: expected a mapping"),
])  # fmt: skip
def test_what_cant_be_a_policy(spec: str, said: str) -> None:
    (document,) = Composer(policy(spec), "p.yaml").documents()
    with pytest.raises(EkslearnError) as caught:
        read_network_policy(document)
    assert said in str(caught.value)
    assert str(caught.value).startswith("p.yaml:4: spec")


def test_sctp_isnt_modelled_and_a_policy_has_a_name_and_a_spec() -> None:
    (document,) = Composer(policy("{ingress: [{ports: [{protocol: SCTP}]}]}"), "p").documents()
    with pytest.raises(NotModelled, match="the protocol 'SCTP' isn't modelled"):
        read_network_policy(document)
    for text, said in {"metadata: {name: p}": "field spec", "spec: {}": "field metadata"}.items():
        (document,) = Composer(f"kind: NetworkPolicy\n{text}\n", "p").documents()
        with pytest.raises(EkslearnError, match=f"the {said} is missing"):
            read_network_policy(document)


def test_the_agents_defaults() -> None:
    cluster, _ = guarded()
    agent = PolicyAgent(cluster.world)
    assert (agent.mode, agent.delay_s, agent.from_start) == ("standard", 2.0, True)
