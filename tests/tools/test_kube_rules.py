"""The rules of a node with many Services: loaded, changed and printed as the real tools do."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

import pytest

from ekslearn.kernel import space
from ekslearn.kernel.world import PRIVATE, USER
from ekslearn.kubernetes.endpoints import Backed
from ekslearn.kubernetes.proxy import rule_set, start_lines
from ekslearn.kubernetes.service import Endpoint, Service, ServicePort
from ekslearn.linux import NetworkNamespace, World
from ekslearn.tools import run
from tests.parity.iptables_text import SAVE, disagreement, restore
from tests.parity.real import Real, Step

# What kube-proxy and kubelet write and this project's own kube-proxy doesn't: an address of a load
# balancer with its source ranges, a clusterCIDR, SCTP left out, and rules of other times.
OTHERS = """\
*filter
:KUBE-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FIREWALL -m comment --comment "kubernetes firewall for dropping marked packets" -m mark --mark 0x8000/0x8000 -j DROP
-A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 has no endpoints" -m tcp -p tcp -d 172.20.0.41 --dport 80 -j REJECT
-A KUBE-SERVICES -m comment --comment "ns1/dns:udp has no endpoints" -m udp -p udp -d 172.20.0.42 --dport 53 -j REJECT
-A KUBE-EXTERNAL-SERVICES -m comment --comment "ns2/svc2:p80 has no local endpoints" -m tcp -p tcp -m addrtype --dst-type LOCAL --dport 30001 -j DROP
-A KUBE-EXTERNAL-SERVICES -m comment --comment "ns2/svc2:p80 has no local endpoints" -m tcp -p tcp -d 1.2.3.4 --dport 80 -j DROP
-A KUBE-PROXY-FIREWALL -m comment --comment "ns5/svc5:p80 traffic not accepted by KUBE-FW-NUKIZ6OKUXPJNT4C" -m tcp -p tcp -d 5.6.7.8 --dport 80 -j DROP
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-FW-NUKIZ6OKUXPJNT4C - [0:0]
:KUBE-EXT-NUKIZ6OKUXPJNT4C - [0:0]
:KUBE-SVC-NUKIZ6OKUXPJNT4C - [0:0]
:KUBE-SEP-I77PXRDZVX7PMWMN - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-MARK-DROP - [0:0]
:KUBE-POSTROUTING - [0:0]
-A KUBE-SERVICES -m comment --comment "ns5/svc5:p80 loadbalancer IP" -m tcp -p tcp -d 5.6.7.8 --dport 80 -j KUBE-FW-NUKIZ6OKUXPJNT4C
-A KUBE-FW-NUKIZ6OKUXPJNT4C -m comment --comment "ns5/svc5:p80 loadbalancer IP" -s 203.0.113.0/25 -j KUBE-EXT-NUKIZ6OKUXPJNT4C
-A KUBE-FW-NUKIZ6OKUXPJNT4C -m comment --comment "other traffic to ns5/svc5:p80 will be dropped by KUBE-PROXY-FIREWALL"
-A KUBE-EXT-NUKIZ6OKUXPJNT4C -m comment --comment "pod traffic for ns5/svc5:p80 external destinations" -s 10.0.0.0/8 -j KUBE-SVC-NUKIZ6OKUXPJNT4C
-A KUBE-EXT-NUKIZ6OKUXPJNT4C -j KUBE-SVC-NUKIZ6OKUXPJNT4C
-A KUBE-SVC-NUKIZ6OKUXPJNT4C -m comment --comment "ns5/svc5:p80 cluster IP" -m tcp -p tcp -d 172.20.0.45 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
-A KUBE-SVC-NUKIZ6OKUXPJNT4C -m comment --comment "ns5/svc5:p80 -> 10.180.0.3:80" -m recent --name KUBE-SEP-I77PXRDZVX7PMWMN --rcheck --seconds 10800 --reap -j KUBE-SEP-I77PXRDZVX7PMWMN
-A KUBE-SVC-NUKIZ6OKUXPJNT4C -m comment --comment "ns5/svc5:p80 -> 10.180.0.3:80" -m statistic --mode random --probability 0.3333333333 -j KUBE-SEP-I77PXRDZVX7PMWMN
-A KUBE-SEP-I77PXRDZVX7PMWMN -m comment --comment ns5/svc5:p80 -s 10.180.0.3 -j KUBE-MARK-MASQ
-A KUBE-SEP-I77PXRDZVX7PMWMN -m comment --comment ns5/svc5:p80 -m recent --name KUBE-SEP-I77PXRDZVX7PMWMN --set -m tcp -p tcp -j DNAT --to-destination 10.180.0.3:80
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-MARK-DROP -j MARK --or-mark 0x8000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-POSTROUTING -m comment --comment "hairpin" ! -d 127.0.0.0/8 -m addrtype --src-type LOCAL -j MASQUERADE --random
COMMIT
"""  # noqa: E501


def services(count: int, seed: int) -> list[Backed]:
    """Ports of Services of every kind, mixed by a seed."""
    dice, found = Random(f"services {seed}"), list[Backed]()
    for number in range(count):
        kind = dice.choice(("ClusterIP", "ClusterIP", "NodePort", "LoadBalancer"))
        outer = dice.choice(("Cluster", "Local")) if kind != "ClusterIP" else "Cluster"
        port = ServicePort(
            port=80 + number % 3, target=8080, name=dice.choice(("", "http", "web")),
            protocol=dice.choice(("tcp", "tcp", "udp")),
            node_port=31000 + number if kind != "ClusterIP" else 0,
        )  # fmt: skip
        checked = kind == "LoadBalancer" and outer == "Local"
        service = Service(
            name=f"svc-{number}", namespace=f"ns{number % 5}", kind=kind, ports=(port,),
            cluster_ip=IPv4Address("172.20.0.0") + number + 10, external_policy=outer,
            internal_policy=dice.choice(("Cluster", "Cluster", "Local")),
            affinity_s=dice.choice((0, 0, 10800, 60)),
            health_check_node_port=32000 + number if checked else 0,
            external_ips=(IPv4Address("198.51.100.9") + number,) if dice.random() < 0.1 else (),
        )  # fmt: skip
        ends = tuple(
            Endpoint(ip=IPv4Address("10.0.0.0") + number * 8 + at, port=8080,
                     node=dice.choice(("n1", "n2")), ready=dice.random() < 0.9)
            for at in range(dice.choice((0, 1, 2, 3, 5)))
        )  # fmt: skip
        found.append(Backed(service, port, ends))
    return found


def started() -> list[Step]:
    """kubelet's and kube-proxy's first lines, each a command."""
    return [("red", tuple(shlex.split(line.partition("$ ")[2]))) for line in start_lines("red")]


def synced(ports: list[Backed], nat: str = "") -> Step:
    """One round of kube-proxy, with the options it gives to iptables-restore."""
    return restore(rule_set(ports, "n1", nat), "-w", "5", "--noflush", "--counters")


def test_a_node_with_many_services_is_read_changed_and_printed_alike() -> None:
    # Within a user namespace a transaction has to fit into net.core.wmem_max, 208 KiB.
    many = services(24, 1)
    fewer = [replace(one, endpoints=one.endpoints[1:]) for one in many[::2]]
    namespace = NetworkNamespace(World(), "red")
    run(namespace, "iptables-restore -n", stdin=rule_set(many, "n1"))
    nat = run(namespace, "iptables-save -t nat").stdout
    gone = synced(fewer, nat)
    assert gone[1][3].count("\n-X KUBE-") > 20
    steps = [*started(), synced(many), gone, synced(many)]
    steps += [("red", ("iptables", "-t", table, flag, *more)) for table in ("nat", "filter")
              for flag, *more in (("-S",), ("-nL",), ("-L", "KUBE-SERVICES"))]  # fmt: skip
    with Real() as real:
        assert (found := disagreement(steps, real)) is None, str(found)


@pytest.mark.kernel
def test_a_hundred_services_go_through_the_real_tool_and_come_back(tmp_path: Path) -> None:
    """Loaded without complaint, printed back alike; and what is printed loads as well."""
    root = os.geteuid() == 0  # who isn't works in a user namespace: 208 KiB at a time
    text = rule_set(services(100 if root else 24, 7), "n1")
    namespace = NetworkNamespace(World(), "red")
    run(namespace, "iptables-restore -n", stdin=text)
    saved = run(namespace, "iptables-save").stdout
    assert saved.count("\n-A ") > (900 if root else 200)
    (tmp_path / "rules").write_text(text, encoding="utf-8")
    twice = "iptables-restore -w 5 --noflush --counters < rules && iptables-save > once" \
            " && iptables-restore < once && iptables-save > twice"  # fmt: skip
    done = subprocess.run(
        [*PRIVATE, *([] if root else USER), "--", "sh", "-c", twice], cwd=tmp_path,
        env={"PATH": space.TOOLS}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("once", "twice"):
        assert plain((tmp_path / name).read_text(encoding="utf-8")) == plain(saved)


def plain(text: str) -> list[str]:
    """A listing without comments and packet counts, each table's lines; tables in any order."""
    lines = [re.sub(r"\[\d+:\d+\]$", "", line) for line in text.splitlines() if line[:1] != "#"]
    return sorted("\n".join(lines).split("COMMIT"))


def test_what_else_kube_proxy_writes_is_read_and_printed_alike() -> None:
    with Real() as real:
        steps = [restore(OTHERS, "--noflush"), restore(OTHERS, "-n"), restore(OTHERS)]
        steps += [("red", ("iptables", "-t", table, "-nL")) for table in ("nat", "filter")]
        assert (found := disagreement(steps, real)) is None, str(found)
        (*_, (text, _, _, _)) = real.play([restore(OTHERS), SAVE], listings=False)
    rules = OTHERS.count("\n-A ")
    assert len(re.findall(r"(?m)^-A ", text)) == rules
    assert text.count("--mask 255.255.255.255 --rsource") == 2


def test_a_chain_still_in_use_is_told_by_its_line() -> None:
    """A stale chain that something jumps to, a flushed chain that is declared anew, counters."""
    text = "*nat\n:A - [0:0]\n:B - [0:0]\n-A A -j B\n-X B\nCOMMIT\n"
    steps = [restore(text, "-n"), restore(text.replace("-A A -j B\n", ""), "-n"),
             restore("*nat\n:A - [0:0]\n-A A -j RETURN\nCOMMIT\n", "-w", "--noflush"),
             restore("*nat\n:A - [0:0]\n-A A -j ACCEPT\nCOMMIT\n", "--wait=5", "-n", "-c"),
             restore("*nat\n:A - [0:0]\n-X A\nCOMMIT\n", "-n", "--counters")]  # fmt: skip
    with Real() as real:
        assert (found := disagreement(steps, real)) is None, str(found)
    namespace = NetworkNamespace(World(), "red")
    for counted in ("*nat\n[1:2] -A A -j B\nCOMMIT\n", "*nat\n:PREROUTING ACCEPT [1:9]\nCOMMIT\n"):
        done = run(namespace, "iptables-restore -n --counters", stdin=counted)
        assert done.status == 125 and "counter" in done.stderr
