"""The real tools' language on the model: a command line in, what the tool prints out.

``run(namespace, "ip route show")`` answers with the output, the complaint and the exit status of
the real tool (iproute2 6.1, procps 4.0.2). What isn't modelled is refused by name, status 125.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from ..errors import NotModelled
from ..linux.namespace import NetworkNamespace
from .conntrack import connection_text, conntrack
from .ip import ip
from .ip_addr import address_text
from .ip_link import Style, link_text
from .ip_neigh import neighbor_text
from .ip_route import TABLES
from .ip_route import text as route_text
from .ip_rule import rule_text
from .iptables import iptables, iptables_restore, iptables_save
from .iptables import rule_text as chain_rule_text
from .probe import curl, ping, traceroute
from .sysctl import sysctl
from .words import Done, name_of

REFUSED = 125
TOOLS: dict[str, Callable[[NetworkNamespace, list[str]], Done]] = {
    "ip": lambda namespace, words: ip(namespace, words, run),
    "iptables": iptables, "iptables-save": iptables_save, "conntrack": conntrack,
    "sysctl": sysctl, "ping": ping, "traceroute": traceroute, "curl": curl,
    "true": lambda namespace, words: Done(), "false": lambda namespace, words: Done(status=1),
}  # fmt: skip


def table_name(number: int) -> str:
    """A table's name, or its number where it has none."""
    return name_of(TABLES, number)


def run(namespace: NetworkNamespace, line: str | Sequence[str], stdin: str = "") -> Done:
    """Run one command line in ``namespace``; it never raises, a refusal is status 125.

    ``stdin`` is what ``iptables-restore`` reads; the other tools read nothing.
    """
    try:
        words = shlex.split(line, comments=True) if isinstance(line, str) else list(line)
    except ValueError as error:
        return Done(stderr=f"ekslearn: {line!r} can't be split into words: {error}\n", status=125)
    if not words:
        return Done()
    name = words[0].rpartition("/")[2]
    if name not in TOOLS and name != "iptables-restore":
        known = ", ".join(name for name in TOOLS if name not in ("true", "false"))
        complaint = f"ekslearn: {words[0]}: there is no such command here; there are {known}\n"
        return Done(stderr=complaint, status=REFUSED)
    try:
        if name == "iptables-restore":
            return iptables_restore(namespace, words[1:], stdin)
        return TOOLS[name](namespace, words[1:])
    except NotModelled as refusal:
        return Done(stderr=f"ekslearn: {refusal}\n", status=REFUSED)


__all__ = [
    "Done", "Style", "address_text", "chain_rule_text", "connection_text",
    "iptables_restore", "link_text", "neighbor_text", "route_text", "rule_text", "run",
    "table_name",
]  # fmt: skip
