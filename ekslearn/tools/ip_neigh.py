"""``ip neigh``: neighbors as text, both ways.

Source: ip/ipneigh.c of iproute2 6.1. States that only last a while (DELAY, PROBE) aren't made.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EEXIST, EINVAL, ENOENT
from functools import partial
from ipaddress import IPv4Address
from typing import Any

from ..errors import KernelError
from ..linux.link import NO_MAC, Link
from ..linux.namespace import NetworkNamespace
from ..linux.neighbor import Neighbor
from ..linux.packet import BROADCAST_MAC
from ..linux.route import EVERYWHERE, NOBODY
from .ip_link import Style
from .ip_route import link_named
from .words import (
    Row,
    Words,
    address,
    give_up,
    hardware,
    network,
    number,
    parse,
    reading,
    refused,
)  # fmt: skip

STATES = ("incomplete", "reachable", "stale", "delay", "probe", "failed", "noarp", "permanent",
          "none")  # fmt: skip
SHORT = Row("p*ermanent"), Row("r*eachable"), Row("f*ailed")  # states that may be shortened
WITHOUT_MAC = ("failed", "none")
MADE = ("permanent", "noarp", "stale", *WITHOUT_MAC)


def _state(text: str) -> str | None:
    short = next((row.word for row in SHORT if row.fits(text)), text)
    return short if short in STATES or number(text, 256) is not None else None


def _states(text: str) -> set[str] | None:
    state = text if text == "all" else _state(text)
    return None if state is None else {state}


BAD = "nud state is bad"
DEVICE = Row("dev", "dev")
# In the order in which a neighbor's attributes are printed.
NEIGHBOR = (
    DEVICE,
    Row("l*laddr", "mac", default="", once=True),
    Row("nud", "state", reading(_state, BAD)),
    refused("ip neigh"),
)
LISTING = (
    Row("dev", "dev", once=True),
    Row("nud", "states", reading(_states, BAD)),
    refused("ip neigh show"),
)


def neighbor_text(entry: Neighbor, *, dev: bool = True, brief: bool = False) -> str:
    """A neighbor as ``ip neigh`` prints it."""
    if brief:
        return f"{entry.ip!s:<39} {f'{entry.link.name:<16} ' if dev else ''}{entry.mac}"
    device = f"dev {entry.link.name} " if dev else ""
    state = "" if entry.state == "NONE" else f"{entry.state} "
    return f"{entry.ip} {device}{NEIGHBOR[1].text(entry)}{state}"


def _new(link: Link, ip: IPv4Address) -> Neighbor:
    """A neighbor as the kernel makes it, before it is told anything (arp_constructor)."""
    kind = link.namespace.address_kind(ip)
    if link.kind == "loopback" or kind == "broadcast":
        mac = NO_MAC if link.kind == "loopback" else BROADCAST_MAC
        return Neighbor(ip, link, mac, "NOARP")
    if kind == "multicast":
        low = int(ip) & 0x7FFFFF
        mac = f"01:00:5e:{low >> 16:02x}:{low >> 8 & 255:02x}:{low & 255:02x}"
        return Neighbor(ip, link, mac, "NOARP")
    return Neighbor(ip, link, "", "NONE")


def _modify(namespace: NetworkNamespace, words: Words, style: Style, how: str) -> str:
    found = parse(words, NEIGHBOR, Row("to", "ip", address, once=True))
    if "dev" not in found or "ip" not in found:
        give_up("Device and destination are required arguments.")
    if "mac" in found:
        found["mac"] = hardware(Words([found["mac"]], words.tool))
    link = link_named(namespace, found["dev"])
    key, state = (link, found["ip"]), found.get("state", "permanent")
    entries = namespace.neighbors.entries
    if how == "delete":
        if key not in entries:
            raise KernelError(ENOENT)
        del entries[key]
        return ""
    known = entries.get(key)
    if known is not None and how == "add":
        raise KernelError(EEXIST)
    if known is None and link.kind == "loopback":  # all behind it is one neighbor
        key = (link, NOBODY)
        known, found["ip"] = entries.get(key), NOBODY
    if isinstance(found.get("mac"), bytes):
        raise KernelError(EINVAL, "Invalid link address")
    if known is None and how == "change":
        raise KernelError(ENOENT)
    if state not in MADE:
        words.refuse(f'"nud {state}"')
    if known is None:
        known = entries[key] = _new(link, found["ip"])
    if state not in WITHOUT_MAC:
        if "mac" not in found and known.state in ("NONE", "FAILED", "INCOMPLETE"):
            raise KernelError(EINVAL, "No link layer address given")
        known.mac = found.get("mac", known.mac)
    known.state = state.upper()
    return ""


def _selected(
    namespace: NetworkNamespace, words: Words, states: set[str]
) -> tuple[list[Neighbor], dict[str, Any]]:
    found = parse(words, LISTING, Row("to", "net", network))
    if "dev" in found:
        found["dev"] = link_named(namespace, found["dev"])
    wanted = found.get("states", states)
    if not wanted <= {*STATES, "all"}:
        words.refuse("a state by its number")
    return [
        entry for entry in namespace.neighbors.entries.values()
        if found.get("dev", entry.link) is entry.link
        and entry.ip in found.get("net", EVERYWHERE)
        and ("all" in wanted or entry.state.lower() in wanted)
    ], found  # fmt: skip


def _show(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    chosen, found = _selected(namespace, words, set(STATES) - {"noarp", "none"})
    dev = "dev" not in found
    lines = [neighbor_text(entry, dev=dev, brief=style.brief) for entry in chosen]
    return "".join(line + "\n" for line in lines)


def _flush(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    if not words:
        give_up("Flush requires arguments.", 1)
    chosen, found = _selected(namespace, words, set(STATES) - {"noarp", "permanent"})
    for entry in chosen:
        if entry.state != "FAILED" and (entry.state != "NOARP" or "all" not in found["states"]):
            del namespace.neighbors.entries[entry.link, entry.ip]
    return ""


def _refuse(namespace: NetworkNamespace, words: Words, style: Style) -> str:
    words.refuse("get")


COMMANDS: dict[str, Callable[[NetworkNamespace, Words, Style], str]] = {
    "add": partial(_modify, how="add"), "change": partial(_modify, how="change"),
    "chg": partial(_modify, how="change"), "replace": partial(_modify, how="replace"),
    "delete": partial(_modify, how="delete"), "get": _refuse, "show": _show, "lst": _show,
    "list": _show, "flush": _flush,
}  # fmt: skip
