"""kube-proxy's other dialect: names and rules as upstream's tests have them, and nft takes them."""

from __future__ import annotations

import re
import subprocess
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from ekslearn.kubernetes import Backed, Endpoint, Service, ServicePort
from ekslearn.kubernetes.proxy import choose
from ekslearn.kubernetes.proxy_nft import LONGEST, chain, rule_set, rules
from tests.tools.test_kube_rules import services

NODE = IPv4Address("192.168.0.2")
CIDR = IPv4Network("172.30.0.0/16")
PRIVATE = ["unshare", "--user", "--map-root-user", "--net", "--"]


def one(number: int, **more: object) -> Backed:
    """svcN of nsN with one endpoint elsewhere, as in upstream's TestOverallNFTablesRules."""
    node_port = more.pop("node_port", 0)
    ends = more.pop("ends", ((f"10.180.0.{min(number, 3)}", ""),))
    port = ServicePort(port=80, target=80, name="p80", node_port=node_port)
    service = Service(name=f"svc{number}", namespace=f"ns{number}", ports=(port,),
                      cluster_ip=IPv4Address(f"172.30.0.4{number}"), **more)  # fmt: skip
    return Backed(service, port, tuple(Endpoint(ip=IPv4Address(ip), port=80, node=node)
                                       for ip, node in ends))  # fmt: skip


SERVICES = {
    "a ClusterIP": one(1),
    "external policy Local, no endpoint here": one(
        2, kind="LoadBalancer", node_port=3001, external_policy="Local",
        external_ips=(IPv4Address("192.168.99.22"),),
    ),
    "two endpoints, an external address": one(
        4, kind="NodePort", external_ips=(IPv4Address("192.168.99.33"),),
        ends=(("10.180.0.4", ""), ("10.180.0.5", "test-node")),
    ),
    "affinity": one(5, kind="LoadBalancer", node_port=3002, affinity_s=10800),
    "no endpoints": one(6, ends=()),
}  # fmt: skip


def expected(name: str) -> list[str]:
    """What upstream's test expects for a Service."""
    path = Path(__file__).parents[1] / "data" / "kube-proxy-nft.txt"
    return (
        path.read_text(encoding="utf-8")
        .partition(f"== {name}\n")[2]
        .partition("== ")[0]
        .splitlines()
    )


def by_object(lines: list[str]) -> list[str]:
    """Sorted by kind and name; rules of one chain stay in their order."""
    return sorted(lines, key=lambda line: (line.split()[:2], "" if line[:4] == "rule" else line))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_written_as_upstreams_tests_expect(name: str) -> None:
    found = rules(choose(SERVICES[name], "test-node"))
    assert all(line.startswith("add ") and " ip kube-proxy " in line for line in found)
    mine = [line.removeprefix("add ").replace(" ip kube-proxy", "", 1) for line in found]
    assert by_object(mine) == by_object(expected(name))


def test_a_name_that_is_too_long_is_cut_off() -> None:
    service = Service(name="s" * 63, namespace="n" * 63)
    backed = Backed(service, ServicePort(port=1, target=1, name="p" * 115), ())
    name = chain("service", backed)
    assert len(name.partition("-")[2]) == LONGEST and name.endswith("...")


def fed(text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Feed a text to the real nft; without -c it lists the table afterwards."""
    listing = "" if "-c" in options else " && nft list table ip kube-proxy"
    return subprocess.run(
        [*PRIVATE, "sh", "-c", f"nft {' '.join(options)} -f -{listing}"], input=text,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.kernel
def test_the_real_nft_takes_a_whole_nodes_rules() -> None:
    """By check alone, and for real: every chain, element and set is there again."""
    many = [*SERVICES.values(), *services(40, 3)]
    text = rule_set(many, "n1", NODE, CIDR)
    checked = fed(text, "-c")
    assert (checked.stderr, checked.returncode) == ("", 0)
    done = fed(text)
    assert (done.stderr, done.returncode) == ("", 0)
    for what in ("chain", "set", "map"):
        added = re.findall(rf"(?m)^add {what} ip kube-proxy (\S+)", text)
        assert added and sorted(re.findall(rf"(?m)^\t{what} (\S+) ", done.stdout)) == sorted(added)
    listed = " ".join(done.stdout.split())
    for element in re.findall(r"(?m)^add element .* \{ (.*) \}$", text):
        key, _, goal = element.partition(" : ")
        assert key in listed and goal in listed
    for word in ("numgen random mod ", "dnat to ", "update @affinity"):
        assert done.stdout.count(word) == text.count(word) > 0


@pytest.mark.kernel
def test_nft_refuses_a_text_with_a_fault() -> None:
    text = rule_set(services(4, 3), "n1", NODE, CIDR)
    for fault in (text.replace("add chain ip kube-proxy services\n", ""),
                  text.replace("goto service-", "goto servce-", 1)):  # fmt: skip
        assert fed(fault, "-c").returncode == 1
