"""``conntrack -L``: the connections of a namespace as text.

Source: conntrack of conntrack-tools 1.4.7; time-outs are the kernel's defaults at the start.
"""

from __future__ import annotations

from ..linux.conntrack import Connection, Tuple
from ..linux.namespace import NetworkNamespace
from ..tools.words import Done, Words

NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17}
TIMEOUTS = {"icmp": 30, "udp": 30, "SYN_SENT": 120, "SYN_RECV": 60, "CLOSE": 10}  # seconds


def connection_text(connection: Connection) -> str:
    """One line of ``conntrack -L``."""
    protocol = connection.original.protocol
    state = f"{connection.tcp_state} " if protocol == "tcp" else ""
    seconds = TIMEOUTS[connection.tcp_state if protocol == "tcp" else protocol]
    unreplied = "" if connection.replied else "[UNREPLIED] "
    return (
        f"{protocol:<8} {NUMBERS[protocol]} {seconds} {state}{_tuple(connection.original)} "
        f"{unreplied}{_tuple(connection.reply)} mark={connection.mark} use=1"
    )


def _tuple(found: Tuple) -> str:
    if found.protocol == "icmp":
        return f"src={found.src} dst={found.dst} type={found.icmp} code=0 id={found.sport}"
    return f"src={found.src} dst={found.dst} sport={found.sport} dport={found.dport}"


def conntrack(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``conntrack -L`` (or -F, which forgets every connection)."""
    flags = [word for word in words if word not in ("-n", "--any-nat")]
    if flags in (["-F"], ["--flush"]):
        namespace.conntrack.flush()
        stderr = "conntrack v1.4.7 (conntrack-tools): connection tracking table has been emptied.\n"
        return Done(stderr=stderr)
    if flags not in (["-L"], ["--dump"], ["-L", "conntrack"]):
        Words([], "conntrack").refuse("anything but -L and -F")
    lines = [connection_text(each) for each in namespace.conntrack.connections]
    stderr = f"conntrack v1.4.7 (conntrack-tools): {len(lines)} flow entries have been shown.\n"
    return Done("".join(line + "\n" for line in lines), stderr)
