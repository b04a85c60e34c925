"""Labs of many shapes, for pictures: short, wide, tall, with long names, half built."""

from __future__ import annotations

from ekslearn import data_path, load
from ekslearn.cluster import Lab


def wire(lab: Lab, one: str, other: str, *, addresses: tuple[str, str] = ("", "")) -> None:
    """Join ``PLACE/INTERFACE`` and ``PLACE/INTERFACE`` and set both up."""
    (place, name), (far, peer) = one.split("/"), other.split("/")
    lab.run(place, f"ip link add {name} type veth peer name {peer} netns {far}")
    for where, link, address in ((place, name, addresses[0]), (far, peer, addresses[1])):
        lab.run(where, f"ip link set dev {link} up")
        if address:
            assert lab.run(where, f"ip addr add {address} dev {link}").status == 0


def two_rooms() -> Lab:
    return load(data_path("scenarios/two-rooms.yaml"))


def one_node() -> Lab:
    return load(data_path("scenarios/one-node.yaml"))


def one_pod() -> Lab:
    return load(data_path("scenarios/one-pod.yaml"))


def four_pods() -> Lab:
    lab = Lab("four-pods", ["host", "pod-a", "pod-b", "pod-c", "pod-d"])
    for number, pod in enumerate(lab.places[1:], 31):
        wire(
            lab, f"host/eni5e1c4d6c6{number}", f"{pod}/eth0", addresses=("", f"10.0.1.{number}/32")
        )
    return lab


def chain() -> Lab:
    lab = Lab("chain", ["red", "router", "blue"])
    wire(lab, "red/veth0", "router/to-red", addresses=("10.1.1.2/24", "10.1.1.1/24"))
    wire(lab, "router/to-blue", "blue/veth0", addresses=("10.1.2.1/24", "10.1.2.2/24"))
    return lab


def five() -> Lab:
    lab = Lab("five", ["red", "blue", "green", "router", "violet"])
    for number, place in enumerate(("red", "blue", "green", "violet")):
        wire(
            lab,
            f"{place}/eth0",
            f"router/to-{place}",
            addresses=(f"10.1.{number}.2/24", f"10.1.{number}.1/24"),
        )
    return lab


def long_names() -> Lab:
    lab = Lab("long", ["a-namespace-whose-name-is-as-long-as-it-may-be-or-nearly-so", "b"])
    wire(
        lab,
        f"{lab.places[0]}/eni5e1c4d6c68cf",
        "b/a-long-ifname-x",
        addresses=("192.168.100.200/24", "192.168.100.201/24"),
    )
    for last in range(2, 6):
        lab.run("b", f"ip addr add 192.168.{last}.201/24 dev a-long-ifname-x")
    lab.run("b", "ip link set dev a-long-ifname-x down")
    return lab


def not_wired() -> Lab:
    return Lab("not-wired", ["red", "blue", "green", "violet"])


def both_plugs_here() -> Lab:
    lab = Lab("both-plugs-here", ["red", "blue"])
    lab.run("red", "ip link add veth0 type veth peer name veth1")
    return lab


def ring() -> Lab:
    lab = Lab("ring", ["red", "blue", "green"])
    wire(lab, "red/r-b", "blue/b-r")
    wire(lab, "blue/b-g", "green/g-b")
    wire(lab, "green/g-r", "red/r-g")
    return lab


def two_enis() -> Lab:
    return load(data_path("scenarios/two-enis.yaml"))


def crossroads() -> Lab:
    return load(data_path("scenarios/crossroads.yaml"))


def two_hosts() -> Lab:
    """Two hosts with one VPC: cables that slope upwards and downwards."""
    lab = Lab("two-hosts", ["host-a", "host-b", "pod-a", "pod-b", "vpc"])
    wire(lab, "host-a/eth0", "vpc/a", addresses=("10.0.1.10/24", "10.0.1.1/24"))
    wire(lab, "host-b/eth0", "vpc/b", addresses=("10.0.2.10/24", "10.0.2.1/24"))
    wire(lab, "pod-a/eth0", "host-a/eni-a", addresses=("10.0.1.31/32", ""))
    wire(lab, "pod-b/eth0", "host-b/eni-b", addresses=("10.0.2.31/32", ""))
    return lab


ALL = [
    two_rooms,
    one_node,
    one_pod,
    four_pods,
    chain,
    five,
    long_names,
    not_wired,
    both_plugs_here,
    ring,
    two_enis,
    crossroads,
    two_hosts,
]
