"""Names and numbers that the VPC CNI gives to what it makes.

Source: pkg/networkutils/names.go and helper.go, cmd/routed-eni-cni-plugin/driver/driver.go.
"""

from __future__ import annotations

from hashlib import sha1
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

MAIN = 254
STRICT_PREFIX = "vlan"
Ip = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def veth_suffix(namespace: str, pod: str, index: int = 0) -> str:
    """The 11 hexadecimal digits that stand for a pod in the name of its host veth.

    >>> veth_suffix("default", "sample-pod")
    'cc21c2d7785'
    """
    card = f".{index}" if index else ""
    text = f"{namespace}.{pod}{card}"
    return sha1(text.encode(), usedforsecurity=False).hexdigest()[:11]


def host_veth(namespace: str, pod: str, prefix: str = "eni", index: int = 0) -> str:
    """The node's end of a pod's veth; ``index`` counts the interfaces of a multi-NIC pod.

    >>> host_veth("kube-system", "coredns-57ff979f67-qqbdh")
    'enib5faff8a083'
    """
    return prefix + veth_suffix(namespace, pod, index)


def veth_prefix(prefix: str, mode: str, *, branch: bool) -> str:
    """What a host veth's name begins with: a branch ENI's pod in strict mode has its own.

    So ``-i vlan+`` and ``! -o vlan+`` in iptables mean these as well as the VLAN devices.
    """
    return STRICT_PREFIX if branch and mode == "strict" else prefix


def pod_interface(index: int = 0) -> str:
    """The pod's end of the veth."""
    return f"mNicIf{index}" if index else "eth0"


def pod_gateway(index: int = 0, version: int = 4) -> Ip:
    """The next hop of a pod, an address nobody has: 169.254.1.1, or fe80::1.

    >>> pod_gateway()
    IPv4Address('169.254.1.1')
    """
    return ip_address("169.254.1.0" if version == 4 else "fe80::") + index + 1


def route_table(device: int, card: int = 0) -> int:
    """The route table of the ENI at ``device`` of network card ``card``; main for the primary.

    >>> route_table(0), route_table(1), route_table(1, 1)
    (254, 2, 10101)
    """
    if card:
        return 10000 + 100 * card + device
    return device + 1 if device else MAIN


def legacy_route_table(device: int, card: int, enis_per_card: int) -> int:
    """What releases before v1.20 made of it; the primary ENI's 1 was read as main."""
    return device + 1 + card * enis_per_card


def vlan_link(vlan_id: int) -> str:
    """The VLAN device of a branch ENI."""
    return f"vlan.eth.{vlan_id}"


def vlan_table(vlan_id: int) -> int:
    """The route table of a branch ENI."""
    return vlan_id + 100


def next_address(address: Ip) -> Ip:
    """The address behind another one."""
    return address + 1


def subnet_gateway(network: Network) -> Ip:
    """Where the VPC's router answers: the subnet's second address, in IPv6 always fe80:ec2::1."""
    router = IPv6Address("fe80:ec2::1")
    return router if network.version == 6 else next_address(network.network_address)
