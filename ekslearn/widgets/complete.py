"""What Tab offers: command words, and names and addresses from the model's own state."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ekslearn.iptables.line import PROTOCOLS
from ekslearn.iptables.rows import MATCHES, TARGETS
from ekslearn.linux.netfilter import BUILT_IN
from ekslearn.tools import TOOLS, run

if TYPE_CHECKING:
    from ekslearn.cluster import Lab

UNTYPED = ("true", "false", "iptables-restore")  # the last reads a file, which no line here has
VERBS = {
    "addr": ("show", "add", "del", "flush"),
    "link": ("show", "add", "del", "set"),
    "route": ("show", "get", "add", "del", "replace", "change", "flush"),
    "neigh": ("show", "add", "del", "replace", "change", "flush"),
    "rule": ("show", "add", "del", "flush"),
    "netns": ("list", "exec"),
}
WORDS = {
    "addr": ("dev", "scope", "broadcast"),
    "link": ("dev", "up", "down", "mtu", "address", "name", "netns", "type", "veth", "peer"),
    "route": (
        "dev",
        "via",
        "src",
        "table",
        "scope",
        "metric",
        "proto",
        "onlink",
        "default",
        "blackhole",
        "unreachable",
        "prohibit",
        "throw",
    ),
    "neigh": ("dev", "lladdr", "nud", "permanent", "proxy"),
    "rule": ("from", "to", "iif", "oif", "fwmark", "table", "lookup", "priority", "not"),
    "netns": (),
}
CHAINED = ("-A", "-C", "-D", "-F", "-I", "-L", "-P", "-R", "-S", "-X")  # a chain's name follows
IPTABLES = {*CHAINED, "-N", "-d", "-i", "-j", "-m", "-n", "-o", "-p", "-s", "-t", "--line-numbers"}
VERDICTS = ("ACCEPT", "DROP", "RETURN")
AFTER = {  # the words of commands that have few
    "iptables-save": {"-t"}, "conntrack": {"-L", "-F", "-g", "-j", "-n"}, "nft": {"list"},
}  # fmt: skip
SYSCTLS = ("-w", "net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter")


def complete(lab: Lab, place: str, text: str) -> list[str]:
    """Every way to go on from the last word of ``text``, typed on ``place``, sorted."""
    *before, last = text.split(" ") if text else [""]
    before = [word for word in before if word]
    found = {word for word in choices(lab, place, before) if word.startswith(last)}
    return sorted(found - {last} if len(found) > 1 else found)


def choices(lab: Lab, place: str, before: list[str]) -> set[str]:
    """The words that can stand after ``before``."""
    links = lab.namespace(place).links
    if not before:
        return {*TOOLS, *(f"{name}$" for name in lab.places)} - {*UNTYPED}
    if before[0].endswith("$"):
        there = before[0][:-1]
        return choices(lab, there if there in lab.places else place, before[1:])
    if before[-1] in ("dev", "iif", "oif"):
        return set(links)
    if before[-1] == "netns":
        return {*lab.places, *(VERBS["netns"] if before == ["ip", "netns"] else ())}
    if before[-1] in ("table", "lookup"):
        return {"main", "local", "default"}
    if before[0] == "sysctl":
        return set(SYSCTLS)
    if before[0].startswith("iptables") and before[-1] in ("-t", "--table"):
        return set(BUILT_IN)
    if before[0] == "iptables":
        return {*links} if before[-1] in ("-i", "-o") else filtering(lab, place, before)
    if before[0] in AFTER:
        return AFTER[before[0]] - {*before}
    if before[0] == "curl":
        return {each for address in targets(lab) for each in (address, f"http://{address}")}
    if before[0] != "ip":
        return addresses(lab)
    words = [word for word in before[1:] if not word.startswith("-")]
    kind = next((kind for kind in VERBS if words and kind.startswith(words[0])), None)
    if kind is None:
        return set(VERBS) if not words else set()
    if len(words) == 1:
        return set(VERBS[kind])
    names = set(links) if kind == "link" else addresses(lab)
    return {*WORDS[kind], *names, *(destinations(lab, place) if kind == "route" else ())}


def filtering(lab: Lab, place: str, before: list[str]) -> set[str]:
    """What can stand next in a line of ``iptables``; chains are those that ``place`` has."""
    table = next((word for flag, word in pairwise(before) if flag == "-t"), "filter")
    listed = run(lab.namespace(place), f"iptables -t {table} -S").stdout
    chains = {line.split()[1] for line in listed.splitlines() if line.startswith(("-P", "-N"))}
    said = {
        "-j": {*chains, *TARGETS, *VERDICTS} - {*BUILT_IN.get(table, ())},
        "-m": set(MATCHES),
        "-p": set(PROTOCOLS),
        "-s": addresses(lab),
        "-d": targets(lab),
    }
    return said.get(before[-1], chains if before[-1] in CHAINED else IPTABLES)


def targets(lab: Lab) -> set[str]:
    """Every address that can be called: the places', and the Services' of a cluster."""
    services = getattr(lab, "services", ())
    return addresses(lab) | {str(each.cluster_ip) for each in services if each.cluster_ip}


def addresses(lab: Lab) -> set[str]:
    """Every address of every place that isn't on a loopback."""
    return {
        str(address.interface.ip)
        for place in lab.places
        for name, link in lab.namespace(place).links.items()
        if name != "lo"
        for address in link.addresses
    }


def destinations(lab: Lab, place: str) -> set[str]:
    """The destinations of the place's main table, as ``ip route`` prints them."""
    shown = run(lab.namespace(place), "ip route show").stdout
    return {line.split()[0] for line in shown.splitlines() if line.strip()}
