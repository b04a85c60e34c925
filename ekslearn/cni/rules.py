"""Rules and routes as the listings of ``ip`` show them, and the lines that make and unmake them.

A rule is written here as ``ip rule show`` prints it ("1536: from 10.0.1.42 lookup 2"), because
``ip rule add`` reads that as well: one text is what to look for, what to add and what to delete.
"""

from __future__ import annotations

import re

from .names import MAIN, Network

# The rules of the VPC CNI by priority (pkg/networkutils/network.go; data/eks-rules.txt of tests).
FROM_INTERFACE = 1  # inside a pod of several interfaces
VLAN = 10  # of a branch ENI, strict mode
LOCAL_MOVED = 20  # where strict mode puts the lookup of table local
TO_POD = 512
HOST = 1024  # what bears the mark goes by main, thus by the primary ENI
EXTERNAL_SERVICE = 1535
FROM_POD = 1536
FROM_ENI = 32765

LOCAL = 255
KERNELS_OWN = "0: from all lookup local"  # and the two behind, which nobody moves
TABLES = {MAIN: "main", LOCAL: "local", 253: "default"}


def ip_command(version: int) -> str:
    """``ip`` for a family: it takes IPv4 where nothing says otherwise."""
    return "ip" if version == 4 else "ip -6"


def shown(net: Network) -> str:
    """A prefix as ``ip`` prints it: a bare address for one, ``default`` for all."""
    if not net.prefixlen:
        return "default"
    return str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net)


def rule(priority: int, selector: str, table: int) -> str:
    """A rule as ``ip rule show`` prints it."""
    return f"{priority}: {selector} lookup {TABLES.get(table, table)}"


def rules_in(listing: str) -> list[str]:
    """The rules of an ``ip rule show``, one blank between two words.

    "[detached]" says that a rule's interface isn't there now; it is no part of the rule.
    """
    lines = (" ".join(line.replace("[detached]", "").split()) for line in listing.splitlines())
    return [line for line in lines if line]


def table_of(text: str) -> int:
    """The table a rule looks up."""
    word = text.rpartition("lookup ")[2]
    return next((number for number, name in TABLES.items() if name == word), 0) or int(word)


def by_source(listing: str, source: str) -> list[str]:
    """The rules whose source is ``source``, an address with or without a prefix length."""
    start = re.compile(rf"\d+: from {re.escape(source.partition('/')[0])}[/ ]")
    return [text for text in rules_in(listing) if start.match(text)]


def add(text: str, command: str = "ip") -> str:
    """The command that adds a rule."""
    priority, _, rest = text.partition(": ")
    return f"{command} rule add {rest} prio {priority}"


def delete(text: str, command: str = "ip") -> str:
    """The command that deletes a rule, the first of several like it."""
    priority, _, rest = text.partition(": ")
    return f"{command} rule del {rest} prio {priority}"


def add_missing(text: str, there: list[str], command: str = "ip") -> list[str]:
    """The command that adds a rule, unless it is there: the CNI takes "File exists" for done."""
    return [] if text in there else [add(text, command)]


def gateway_routes(interface: str, gateway: str, table: int) -> list[tuple[str, str]]:
    """The two routes of an ENI's own table, each as (destination, the rest of the route).

    The first one makes the gateway of the second reachable: there is no ``onlink``.
    """
    return [(gateway, f"dev {interface} scope link table {table}"),
            ("default", f"via {gateway} dev {interface} table {table}")]  # fmt: skip


def routes_in(listing: str) -> list[dict[str, str]]:
    """The routes of an ``ip route show table all``, as words and what follows them."""
    found = []
    for line in listing.splitlines():
        words = re.sub(r"\b(onlink|linkdown)\b", "", line).split()
        kind = words.pop(0) if len(words) % 2 == 0 else "unicast"
        found.append({"kind": kind, "dst": words[0], "table": "main",
                      **dict(zip(words[1::2], words[2::2], strict=True))})  # fmt: skip
    return found
