"""A pod's network: what the CNI plugin does on ADD and DEL, in the pod and on the node.

Source: cmd/routed-eni-cni-plugin/driver/driver.go. As in ``node``, listings that the plugin would
look at are arguments, empty where nothing is. ``ip`` is the pod's address, IPv4 or IPv6.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address, ip_network

from . import rules as text
from .names import MAIN, host_veth, pod_gateway, pod_interface, veth_prefix, vlan_link, vlan_table
from .node import ipv6_sysctls, lines
from .settings import Settings


def pod_lines(
    node: str, pod_place: str, *, namespace: str, pod: str, ip: str, table: int, host_mac: str,
    pod_mac: str, settings: Settings, index: int = 0, links: Collection[str] = (), rules: str = "",
) -> list[str]:  # fmt: skip
    """Wire a pod whose address belongs to the ENI with route table ``table`` (SetupPodNetwork).

    ``links`` are the node's interfaces: one left by an earlier pod of this name is deleted first.
    """
    veth = host_veth(namespace, pod, settings.veth_prefix, index)
    done = _veth_lines(
        node, pod_place, veth, ip, (host_mac, pod_mac), settings.pod_mtu, index, links
    )
    return done + lines(node, _by_address(veth, ip, _main_or(table), rules))


def pod_gone_lines(node: str, *, ip: str, table: int, rules: str, routes: str) -> list[str]:
    """Take a pod's rules and route away (TeardownPodNetwork); its veth goes with its namespace."""
    return lines(node, _address_gone(ip, _main_or(table), rules, routes))


def branch_pod_lines(
    node: str, pod_place: str, *, namespace: str, pod: str, ip: str, trunk: str, vlan_id: int,
    eni_mac: str, gateway: str, host_mac: str, pod_mac: str, settings: Settings,
    links: Collection[str] = (), rules: str = "",
) -> list[str]:  # fmt: skip
    """Wire a pod that has a branch ENI, behind the interface ``trunk`` (SetupBranchENIPodNetwork).

    In strict mode whatever comes from the pod or from its ENI is routed by the ENI's own table,
    even between pods of one node; in standard mode only what the pod sends elsewhere.
    """
    mode, device, table = settings.enforcing_mode, vlan_link(vlan_id), vlan_table(vlan_id)
    veth = host_veth(namespace, pod, veth_prefix(settings.veth_prefix, mode, branch=True))
    command = _command(ip)
    there = text.rules_in(rules)
    old = [rule for rule in there if rule.startswith(f"{text.VLAN}: from all iif {veth} ")]
    there = [rule for rule in there if rule not in old]
    done = [text.delete(rule, command) for rule in old]
    done += [f"ip link del {device}"] if device in links else []
    done.append(f"ip link add link {trunk} name {device} address {eni_mac} type vlan id {vlan_id}")
    done += [*ipv6_sysctls(device), f"ip link set {device} up"]
    done += [f"{command} route replace {dst} {rest}"
             for dst, rest in text.gateway_routes(device, gateway, table)]  # fmt: skip
    if mode == "strict":
        done.append(f"{command} route replace {ip} dev {veth} scope link table {table}")
        for interface in (device, veth):
            rule = text.rule(text.VLAN, f"from all iif {interface}", table)
            done += text.add_missing(rule, there, command)
    else:
        done += _by_address(veth, ip, table, rules)
    return _veth_lines(node, pod_place, veth, ip, (host_mac, pod_mac), settings.pod_mtu, 0,
                       links) + lines(node, done)  # fmt: skip


def branch_pod_gone_lines(
    node: str, *, ip: str, vlan_id: int, links: Collection[str], rules: str, routes: str
) -> list[str]:
    """Take a branch ENI's pod away (TeardownBranchENIPodNetwork): the rules of either mode."""
    device, table = vlan_link(vlan_id), vlan_table(vlan_id)
    done = [f"ip link del {device}"] if device in links else []
    done += [text.delete(rule, _command(ip)) for rule in text.rules_in(rules)
             if rule.startswith(f"{text.VLAN}: ") and text.table_of(rule) == table]  # fmt: skip
    return lines(node, done + _address_gone(ip, table, rules, routes))


def _main_or(table: int) -> int:
    """The table an ipamd names; before v1.20 it called main 0 or 1."""
    return table if table > 1 else MAIN


def _command(ip: str) -> str:
    return text.ip_command(ip_address(ip).version)


def _veth_lines(
    node: str, pod_place: str, veth: str, ip: str, macs: tuple[str, str], mtu: int, index: int,
    links: Collection[str],
) -> list[str]:  # fmt: skip
    """The veth and all that is inside the pod (setupVeth, createVethPairContext.run).

    The kernel draws the MACs; here they are given, so that every run is like the other. ``lo`` is
    up already, by the container runtime.
    """
    version, command, end = ip_address(ip).version, _command(ip), pod_interface(index)
    gateway = str(pod_gateway(index, version))
    in_table = f" table {index}" if index else ""
    host = [f"ip link del {veth}"] if veth in links else []
    host.append(f"ip link add {veth} address {macs[0]} mtu {mtu} type veth "
                f"peer name {end} address {macs[1]} mtu {mtu} netns {pod_place}")  # fmt: skip
    host += [*ipv6_sysctls(veth), f"ip link set {veth} up"]
    pod = [f"ip link set {end} up"]
    if version == 6:
        pod += [f"sysctl -e -q -w net/ipv6/conf/{each}/disable_ipv6=0" for each in (end, "lo")]
    pod.append(f"{command} route replace {gateway} dev {end} scope link{in_table}")
    if index:
        pod.append(text.add(text.rule(text.FROM_INTERFACE, f"from {ip}", index), command))
    length = ip_network(ip).prefixlen
    pod += [f"{command} route add default via {gateway} dev {end}{in_table}",
            f"{command} addr add {ip}/{length} dev {end}",
            f"{command} neigh add {gateway} lladdr {macs[0]} dev {end} nud permanent"]  # fmt: skip
    return lines(node, host) + lines(pod_place, pod)


def _by_address(veth: str, ip: str, table: int, rules: str) -> list[str]:
    """The node's route and rules by the pod's address (setupIPBasedContainerRouteRules)."""
    command, there = _command(ip), text.rules_in(rules)
    done = [f"{command} route replace {ip} dev {veth} scope link"]
    done += text.add_missing(text.rule(text.TO_POD, f"from all to {ip}", MAIN), there, command)
    if table != MAIN:
        done += text.add_missing(text.rule(text.FROM_POD, f"from {ip}", table), there, command)
    return done


def _address_gone(ip: str, table: int, rules: str, routes: str) -> list[str]:
    """The reverse (teardownIPBasedContainerRouteRules).

    Old releases wrote a rule from the pod for each CIDR of the VPC: all of them go.
    """
    command, there = _command(ip), text.rules_in(rules)
    to_pod = text.rule(text.TO_POD, f"from all to {ip}", MAIN)
    done = [text.delete(to_pod, command)] if to_pod in there else []
    start, end = f"{text.FROM_POD}: from {ip} ", f"lookup {table}"
    if table != MAIN:
        done += [text.delete(rule, command) for rule in there
                 if rule.startswith(start) and rule.endswith(end)]  # fmt: skip
    for route in text.routes_in(routes):
        if (route["dst"], route.get("scope"), route["table"]) == (ip, "link", "main"):
            done.append(f"{command} route del {ip} scope link")
    return done
