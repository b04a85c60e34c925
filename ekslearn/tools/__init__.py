"""The real tools' language on the model: a command line in, what the tool prints out.

``run(namespace, "ip route show")`` answers with the output, the complaint and the exit status of
the real tool (iproute2 6.1, procps 4.0.2). What isn't modelled is refused by name, status 125.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence

from ..errors import NotModelled
from ..linux.namespace import NetworkNamespace
from .ip import ip
from .ip_addr import address_text
from .ip_link import Style, link_text
from .ip_neigh import neighbor_text
from .ip_route import TABLES
from .ip_route import text as route_text
from .ip_rule import rule_text
from .probe import curl, ping, traceroute
from .sysctl import sysctl
from .words import Done, naming

REFUSED = 125
PLAIN = re.compile(r"[\w ./:@%+=,!*<>-]*", re.ASCII)  # nothing that shlex would make anything of
Tool = Callable[[NetworkNamespace, list[str], str], Done]  # a place, the words, standard input
TOOLS: dict[str, Tool] = {  # ``ekslearn.iptables`` adds the commands of netfilter
    "ip": lambda namespace, words, stdin: ip(namespace, words, run),
    "sysctl": lambda namespace, words, stdin: sysctl(namespace, words),
    "ping": lambda namespace, words, stdin: ping(namespace, words),
    "traceroute": lambda namespace, words, stdin: traceroute(namespace, words),
    "curl": lambda namespace, words, stdin: curl(namespace, words),
    "true": lambda namespace, words, stdin: Done(),
    "false": lambda namespace, words, stdin: Done(status=1),
}


table_name = naming(TABLES)  # or its number where it has none


def run(namespace: NetworkNamespace, line: str | Sequence[str], stdin: str = "") -> Done:
    """Run one command line in ``namespace``; it never raises, a refusal is status 125.

    ``stdin`` is what ``iptables-restore`` reads; the other tools read nothing.
    """
    try:
        if isinstance(line, str) and not PLAIN.fullmatch(line):
            words = shlex.split(line, comments=True)
        else:
            words = line.split() if isinstance(line, str) else list(line)
    except ValueError as error:
        return Done(stderr=f"ekslearn: {line!r} can't be split into words: {error}\n", status=125)
    if not words:
        return Done()
    name = words[0].rpartition("/")[2]
    if name not in TOOLS:
        known = ", ".join(name for name in TOOLS if name not in ("true", "false"))
        complaint = f"ekslearn: {words[0]}: there is no such command here; there are {known}\n"
        return Done(stderr=complaint, status=REFUSED)
    try:
        return TOOLS[name](namespace, words[1:], stdin)
    except NotModelled as refusal:
        return Done(stderr=f"ekslearn: {refusal}\n", status=REFUSED)


__all__ = [
    "TOOLS", "Done", "Style", "address_text", "link_text", "neighbor_text", "route_text",
    "rule_text", "run", "table_name",
]  # fmt: skip
