"""kube-proxy's rules: written out by hand where the facts have them, and by every policy."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

import ekslearn
from ekslearn import data_path
from ekslearn.cluster import Cluster
from ekslearn.kernel import World
from ekslearn.kubernetes import Backed, Endpoint, Service, ServicePort, rule_set
from ekslearn.kubernetes.proxy import chain
from ekslearn.scenario import load

RUNNING = data_path("scenarios/services.yaml").read_text(encoding="utf-8")
# The facts' running example, node N1: the rules of kube-proxy and the CNI in mangle and nat. Three
# deviations: AWS-CONNMARK's rule that restores stands behind the jump (as in the facts); the lines
# of the two canaries aren't rules; the facts leave the filter table out.
APPENDIX_A = """
*mangle
-A PREROUTING -i eth0 -m comment --comment "AWS, primary ENI" -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80
-A PREROUTING -i eni+ -m comment --comment "AWS, primary ENI" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
-A PREROUTING -i vlan+ -m comment --comment "AWS, primary ENI" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
*nat
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -i eni+ -m comment --comment "AWS, outbound connections" -j AWS-CONNMARK-CHAIN-0
-A PREROUTING -m comment --comment "AWS, CONNMARK" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A POSTROUTING -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0
-A AWS-CONNMARK-CHAIN-0 -d 10.0.0.0/16 -m comment --comment "AWS CONNMARK CHAIN" -j RETURN
-A AWS-CONNMARK-CHAIN-0 -m comment --comment "AWS, CONNMARK" -j CONNMARK --set-xmark 0x80/0x80
-A AWS-SNAT-CHAIN-0 -d 10.0.0.0/16 -m comment --comment "AWS SNAT CHAIN" -j RETURN
-A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL -j SNAT --to-source 10.0.1.10 --random-fully
-A KUBE-SERVICES -d 172.20.45.6/32 -p tcp -m comment --comment "shop/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-67NZLRHBNDSAWJRO
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m comment --comment "shop/web:http" -m tcp --dport 31380 -j KUBE-EXT-67NZLRHBNDSAWJRO
-A KUBE-EXT-67NZLRHBNDSAWJRO -m comment --comment "masquerade traffic for shop/web:http external destinations" -j KUBE-MARK-MASQ
-A KUBE-EXT-67NZLRHBNDSAWJRO -j KUBE-SVC-67NZLRHBNDSAWJRO
-A KUBE-SVC-67NZLRHBNDSAWJRO -m comment --comment "shop/web:http -> 10.0.1.45:8080" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-5RNPZ3PAGTXMEYKA
-A KUBE-SVC-67NZLRHBNDSAWJRO -m comment --comment "shop/web:http -> 10.0.2.77:8080" -j KUBE-SEP-FCFP67RRRQ3MNCKC
-A KUBE-SEP-5RNPZ3PAGTXMEYKA -s 10.0.1.45/32 -m comment --comment "shop/web:http" -j KUBE-MARK-MASQ
-A KUBE-SEP-5RNPZ3PAGTXMEYKA -p tcp -m comment --comment "shop/web:http" -m tcp -j DNAT --to-destination 10.0.1.45:8080
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
"""  # noqa: E501
# What the facts' excerpt leaves out of these two tables.
BESIDES = [
    '-A KUBE-SEP-FCFP67RRRQ3MNCKC -p tcp -m comment --comment "shop/web:http" -m tcp -j DNAT'
    " --to-destination 10.0.2.77:8080",
    '-A KUBE-SEP-FCFP67RRRQ3MNCKC -s 10.0.2.77/32 -m comment --comment "shop/web:http" -j'
    " KUBE-MARK-MASQ",
    '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
]
FILTER = """
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
"""  # noqa: E501


def running(text: str = RUNNING) -> Cluster:
    made = load(text)
    assert isinstance(made, Cluster)
    return made


def rules(listing: str) -> list[str]:
    """The rules of iptables-save, a chain's own in their order."""
    return [line for line in listing.splitlines() if line.startswith("-A ")]


def part(text: str, table: str) -> list[str]:
    return rules(text.partition(f"*{table}\n")[2].partition("*")[0])


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.kernel)])
def test_the_running_example_is_the_facts_line_for_line(real: bool) -> None:
    """Each chain has its rules in the facts' order; iptables-save lists chains by name."""
    cluster = running()
    if real:
        with World() as world:
            world.build(cluster)
            said = {table: world.run("node-a", f"iptables-save -t {table}").stdout
                    for table in ("mangle", "nat", "filter")}  # fmt: skip
    else:
        said = {table: cluster.run("node-a", f"iptables-save -t {table}").stdout
                for table in ("mangle", "nat", "filter")}  # fmt: skip
    for table in ("mangle", "nat"):
        wanted, got = part(APPENDIX_A, table), rules(said[table])
        by_chain = [[one for one in wanted if one.split()[1] == name] for name in chains(wanted)]
        for own in by_chain:
            assert [one for one in got if one.split()[1] == own[0].split()[1]] == own
        assert sorted(set(got) - set(wanted)) == (sorted(BESIDES) if table == "nat" else [])
    lines = [line for line in said["filter"].splitlines() if line[:1] in ":-"]
    assert [one for one in lines if "ACCEPT [" not in one] == FILTER.strip().splitlines()


def chains(of: list[str]) -> dict[str, None]:
    return dict.fromkeys(one.split()[1] for one in of)


NAMES = {
    ("SVC", "default/kubernetes:https", "tcp", ""): "KUBE-SVC-NPX46M4PTMTKRN6Y",
    ("SVC", "kube-system/kube-dns:dns", "udp", ""): "KUBE-SVC-TCOU7JCQXEZGVUNU",
    ("SVC", "shop/web:http", "tcp", ""): "KUBE-SVC-67NZLRHBNDSAWJRO",
    ("SEP", "shop/web:http", "tcp", "10.0.1.45:8080"): "KUBE-SEP-5RNPZ3PAGTXMEYKA",
    ("SEP", "shop/web:http", "tcp", "10.0.2.77:8080"): "KUBE-SEP-FCFP67RRRQ3MNCKC",
}


@pytest.mark.parametrize("of", NAMES)
def test_names_are_the_published_ones(of: tuple[str, str, str, str]) -> None:
    assert chain(*of) == NAMES[of]


def backed(count: int, node: str = "node-a", **of: object) -> Backed:
    """A Service with so many endpoints, all of them on one node."""
    port = ServicePort(name="http", port=80, target=8080, node_port=31380)
    service = replace(Service(name="web", namespace="shop", kind="NodePort", ports=(port,),
                              cluster_ip=IPv4Address("172.20.45.6")), **of)  # type: ignore[arg-type]  # fmt: skip
    ends = tuple(Endpoint(ip=IPv4Address(f"10.0.1.{n}"), port=8080, node=node)
                 for n in range(100, 100 + count))  # fmt: skip
    return Backed(service, port, ends)


# As iptables prints them, from the facts: the kernel keeps 31 bits.
SHARES = {
    2: [".50000000000"], 3: [".33333333349", ".50000000000"],
    4: [".25000000000", ".33333333349", ".50000000000"], 5: [".20000000019"],
    6: [".16666666651"], 7: [".14285714272"],
}  # fmt: skip


@pytest.mark.parametrize("count", SHARES)
def test_probabilities_are_printed_as_the_kernel_keeps_them(count: int) -> None:
    lab = ekslearn.cluster.Lab("x", ["n"])
    lab.run("n", "iptables-restore <<'EOF'\n" + rule_set([backed(count)], "node-a") + "EOF")
    printed = re.findall(r"--probability 0(\.\d+)", lab.run("n", "iptables-save").stdout)
    assert printed[: len(SHARES[count])] == SHARES[count]
    assert len(printed) == count - 1


def test_every_endpoint_has_the_same_share() -> None:
    """What the rules' own probabilities multiply to, and what the model's dice make of them."""
    text = rule_set([backed(5)], "node-a")
    left, shares = 1.0, []
    for row in re.findall(r"-A KUBE-SVC-\S+ .*", text):
        said = re.search(r"--probability (\S+)", row)
        chance = float(said[1]) if said else 1.0
        shares.append(left * chance)
        left *= 1 - chance
    assert shares == pytest.approx([0.2] * 5, abs=1e-9)
    cluster = running()
    seen = Counter(cluster.trace("default/client", "service/shop/web:80").answer.split()[0]
                   for _ in range(400))  # fmt: skip
    assert seen.total() == 400
    assert abs(seen["shop/web-1"] - 200) < 5 * 10  # five standard deviations


def said_of(table: str, text: str, word: str) -> list[str]:
    found = text.partition(f"*{table}\n")[2].partition("COMMIT")[0].splitlines()
    return [re.sub(r" ?-m comment --comment \"([^\"]*)\"", r" [\1]", line) for line in found
            if word in line and line.startswith("-A")]  # fmt: skip


def test_without_endpoints_the_filter_rejects() -> None:
    text = rule_set([backed(0)], "node-a")
    assert said_of("nat", text, "shop/web") == []
    assert [one.rpartition(" -j ")[2] for one in said_of("filter", text, "no endpoints")] == [
        "REJECT", "REJECT",
    ]  # fmt: skip


def test_local_policies_without_an_endpoint_here_drop() -> None:
    text = rule_set([backed(2, external_policy="Local")], "node-b")
    dropped = said_of("filter", text, "no local endpoints")
    assert [one.split()[1] for one in dropped] == ["KUBE-EXTERNAL-SERVICES"]
    assert dropped[0].endswith("--dport 31380 -j DROP")
    ext = [one for one in said_of("nat", text, "KUBE-EXT") if one.startswith("-A KUBE-EXT")]
    assert [one.rpartition(" -j ")[2][:8] for one in ext] == ["KUBE-MAR", "KUBE-SVC"]
    [door] = [one for one in said_of("nat", text, "31380") if "-A KUBE-NODEPORTS " in one]
    assert " -j KUBE-EXT-" in door  # for what comes from the node itself
    inside = rule_set([backed(2, internal_policy="Local")], "node-b")
    assert [one.split()[1] for one in said_of("filter", inside, "no local")] == ["KUBE-SERVICES"]
    here = rule_set([backed(2, internal_policy="Local", external_policy="Local")], "node-a")
    assert said_of("filter", here, "no local") == []
    assert len(said_of("nat", here, "-A KUBE-SVL-")) == 2


def test_endpoints_that_are_about_to_go_are_the_last_resort() -> None:
    one = backed(2, external_policy="Local")
    going = tuple(replace(each, ready=False, terminating=True) for each in one.endpoints)
    text = rule_set([replace(one, endpoints=going)], "node-a")
    assert len(said_of("nat", text, "-A KUBE-SVL-")) == 2
    mixed = replace(one, endpoints=(going[0], one.endpoints[1]))
    assert len(said_of("nat", rule_set([mixed], "node-a"), "-A KUBE-SVL-")) == 1
    unready = tuple(replace(each, ready=False) for each in one.endpoints)  # but not about to go
    assert said_of("filter", rule_set([replace(one, endpoints=unready)], "node-a"), "no endpoints")
    dead = tuple(replace(each, ready=False, serving=False) for each in one.endpoints)
    assert said_of("filter", rule_set([replace(one, endpoints=dead)], "node-a"), "no endpoints")


def test_a_health_check_port_is_let_in() -> None:
    one = backed(1, kind="LoadBalancer", external_policy="Local", health_check_node_port=32100)
    assert said_of("filter", rule_set([one], "node-b"), "32100") == [
        "-A KUBE-NODEPORTS [shop/web:http health check node port] -m tcp -p tcp --dport 32100"
        " -j ACCEPT"
    ]


def test_affinity_asks_who_was_where_first() -> None:
    rows = said_of("nat", rule_set([backed(2, affinity_s=10800)], "node-a"), "-m recent")
    assert [re.findall(r"--(rcheck|set)", one)[0] for one in rows] == [
        "rcheck", "rcheck", "set", "set",
    ]  # fmt: skip


def test_a_large_cluster_loses_its_comments() -> None:
    many = Backed(backed(0).service, backed(0).port, tuple(
        Endpoint(ip=IPv4Address(int(IPv4Address("10.1.0.0")) + n), port=1) for n in range(1001)
    ))  # fmt: skip
    assert said_of("nat", rule_set([many], "node-a"), " -> ") == []
    assert said_of(
        "nat", rule_set([replace(many, endpoints=many.endpoints[:1000])], "node-a"), " ->"
    )


def test_what_is_gone_is_deleted_once_and_nothing_is_written_twice() -> None:
    cluster = running()
    before = len(cluster.lines)
    cluster.sleep(1)
    assert len(cluster.lines) == before
    cluster.delete_pod("shop/web-2")
    cluster.sleep(1)
    nat = cluster.run("node-a", "iptables-save -t nat").stdout
    assert "FCFP67RRRQ3MNCKC" not in nat
    assert "KUBE-SEP-5RNPZ3PAGTXMEYKA" in nat
    cluster.services.remove("shop/web")
    cluster.sleep(1)
    assert "67NZLRHBNDSAWJRO" not in cluster.run("node-a", "iptables-save").stdout
    assert cluster.trace("default/client", "172.20.45.6:80").verdict == "dropped"
    count = len(cluster.lines)
    cluster.sleep(60)
    assert len(cluster.lines) == count
