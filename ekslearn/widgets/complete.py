"""What Tab offers: command words, and names and addresses from the model's own state."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ekslearn.cluster import Lab

COMMANDS = ("ip", "ping", "curl", "traceroute", "sysctl")
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
        return {*COMMANDS, *(f"{name}$" for name in lab.places)}
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
    from ekslearn.tools import run

    shown = run(lab.namespace(place), "ip route show").stdout
    return {line.split()[0] for line in shown.splitlines() if line.strip()}
