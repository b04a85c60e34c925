"""AWS's load balancers on the real kernel: AWS as documented, said as ``ekslearn.elb`` says it.

Each is a namespace, as in the model. A proxy is a process in the world's own loop (``proxy``) that
connects to the target that the model chose. A Network Load Balancer translates in its namespace,
one rule for each flow that the model had; the router hands it the answers of those that keep their
client's address. So whom a flow goes to is the model's word on both sides, and what becomes of it
on a machine is the kernel's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from ekslearn.cluster import Cluster, Lab
from ekslearn.elb import LoadBalancer
from ekslearn.vpc.model import Eni
from ekslearn.vpc.security import SecurityGroup

if TYPE_CHECKING:
    from ekslearn.trace import Trace

AT_ONCE = 50  # rules in one message
QUOTED_PORTS = 48  # bytes before the ports of the packet that an ICMP error is about
NEAR, LOCAL = 1, 2  # the router's marks for a way within a subnet, and within the VPC
# A target, its port (0: none), from which port it is asked, and what is said if that fails.
Proxied = tuple[str, int, int, str]
Program = tuple[str, list[str], str]  # namespace, words, what it reads


def balancers(lab: Lab) -> list[LoadBalancer]:
    """A cluster's balancers."""
    found = lab.fabric.balancers.values() if isinstance(lab, Cluster) else ()
    return [each for each in dict.fromkeys(found) if isinstance(each, LoadBalancer)]


def networks(lab: Lab) -> list[LoadBalancer]:
    """Those that are Network Load Balancers."""
    return [each for each in balancers(lab) if each.kind == "nlb"]


def numbers(lab: Lab) -> dict[Eni, int]:
    """A number for each ENI of a Network Load Balancer, for the router's marks."""
    enis = [eni for each in networks(lab) for eni in each.enis.values()]
    return {eni: number for number, eni in enumerate(enis, 1)}


def programs(lab: Lab) -> Iterator[tuple[str, list[str], str]]:
    """What a Network Load Balancer's namespace needs: it forwards, takes no TTL, answers nobody."""
    for each in networks(lab):
        off = [f"net.ipv4.conf.{name}.send_redirects=0" for name in ("all", *each.enis)]
        yield each.place, ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", *off], ""
        ends = "".join(f"-A INPUT -i {name} -j DROP\n" for name in each.enis)
        known = "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n"
        text = "*mangle\n-A PREROUTING -j TTL --ttl-inc 1\nCOMMIT\n*filter\n"
        yield each.place, ["iptables-restore", "--noflush"], f"{text}{known}{ends}COMMIT\n"


# The router's share


def ports(lab: Lab, enis: Mapping[str, Eni]) -> dict[str, int]:
    """The router's interfaces to Network Load Balancers, with their numbers."""
    known = numbers(lab)
    return {port: known[eni] for port, eni in enis.items() if eni in known}


def marked(ports: Mapping[str, int]) -> Iterator[str]:
    """The raw table: what comes from a balancer bears its number; what is turned to it, too."""
    for port, number in ports.items():
        yield f"-A PREROUTING -i {port} -j MARK --set-mark {number << 16:#x}"
        for name, way in ("near", NEAR), ("far", LOCAL):
            yield f"-A turned-{name}{number} -j MARK --set-mark {way | number << 8:#x}"
            yield f"-A turned-{name}{number} -j CT --zone {LOCAL}"
            yield f"-A turned-{name}{number} -j ACCEPT"


def routed(enis: Mapping[str, Eni], ports: Mapping[str, int]) -> Iterator[str]:
    """What bears a balancer's number goes to it, whoever it is addressed to."""
    for port, number in ports.items():
        table = 1000 + number
        yield f"rule add pref 15 fwmark {number << 8:#x}/0xff00 lookup {table}"
        yield f"route add default via {enis[port].primary} dev {port} onlink table {table}"


def members(
    groups: Mapping[str, SecurityGroup], enis: Mapping[str, Eni], ports: Mapping[str, int],
    chain_of: Callable[[str], str],
) -> Iterator[str]:  # fmt: skip
    """Of what balancers hand on, who is in a security group: the balancer, not the source."""
    for name, group in groups.items():
        chain = f"{chain_of(name)}-s"
        for port, number in ports.items():
            if group in enis[port].security_groups:
                yield f"-A {chain} -m mark --mark {number << 16:#x}/0xff0000 -j ACCEPT"
        if ports:
            yield f"-A {chain} -m mark ! --mark 0/0xff0000 -j RETURN"


def steering(lab: Lab, space: str, named: Collection[int]) -> Iterator[Program]:
    """Make the kernel's flows go where the model's went; ``named`` are the ports nobody drew.

    ``space`` is the router's namespace. Sources whose ports were drawn come last, by address.
    """
    turned: list[tuple[bool, str]] = []
    restore = ["iptables-restore", "--noflush"]
    for each in networks(lab):
        rows: list[tuple[bool, str]] = []
        for flow in each.flows.values():
            front, back, drawn = flow.front, flow.back, flow.front.sport not in named
            sport = "" if drawn else f"--sport {front.sport}"
            to = f"-p {front.protocol} -s {front.src} {sport} -d {front.dst} --dport {front.dport}"
            goal = f"{back.dst}:{back.dport}"
            rows.append((drawn, f"-A PREROUTING {to} -j DNAT --to-destination {goal}"))
            if back.src != front.src:
                to = f"-p {back.protocol} -s {front.src} {sport}"
                to += f" -m conntrack --ctorigdst {front.dst}"
                shown = f"{back.src} --random-fully" if drawn else f"{back.src}:{back.sport}"
                rows.append((drawn, f"-A POSTROUTING {to} -j SNAT --to-source {shown}"))
                continue
            owner = lab.vpc.owner(back.dst) if isinstance(lab, Cluster) else None
            near = "near" if owner and owner.subnet is flow.eni.subnet else "far"
            chain = f"-g turned-{near}{numbers(lab)[flow.eni]}"
            answer = f"-s {back.dst} -d {back.src}"
            dport = "" if drawn else f"--dport {front.sport}"
            port = f"-p {back.protocol} --sport {back.dport} {dport}"
            turned.append((drawn, f"-I PREROUTING {answer} {port} {chain}"))
            quoted = f"{QUOTED_PORTS}&0xffff={back.dport}" if drawn else (
                f"{QUOTED_PORTS}={front.sport << 16 | back.dport}")  # fmt: skip
            error = f"{answer} -p icmp --icmp-type 3 -m u32 --u32 {quoted} {chain}"
            turned.append((drawn, f"-I PREROUTING {error}"))
        if rows:
            yield each.place, restore, restored("nat", [row for _, row in sorted(rows)])
    if turned:
        yield space, restore, restored("raw", [row for _, row in sorted(turned, reverse=True)])


def restored(table: str, rows: Iterable[str]) -> str:
    """What iptables-restore reads, in parts: no message to the kernel may be too long."""
    text, once = list[str](), list(dict.fromkeys(rows))
    for at in range(0, len(once), AT_ONCE):
        text += [f"*{table}", *once[at : at + AT_ONCE], "COMMIT", ""]
    return "\n".join(text)


def proxied(lab: Lab, trace: Trace) -> Proxied | None:
    """What a proxy on a trace's way did: its target, and what it says where that fails."""
    at = {each.place: each for each in balancers(lab) if each.kind != "nlb"}
    steps = [step for step in trace.steps if step.place in at]
    stages = {step.stage for step in steps}
    for step in steps:
        if step.stage == "elb listener":
            listener = at[step.place].listening(step.header["dport"])
            opened = next((one.decision for one in steps if one.stage == "elb connection"), "")
            found = re.search(r"to ([0-9.]+):(\d+) from [0-9.]+:(\d+)$", opened)
            how = "refused" if found else "none" if "elb target" in stages else "no rule"
            status = at[step.place].status(listener, how)
            return (found[1], int(found[2]), int(found[3]), status) if found else ("", 0, 0, status)
    return None
