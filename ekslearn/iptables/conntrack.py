"""``conntrack -L``: the connections of a namespace as text.

Source: conntrack of conntrack-tools 1.4.7; time-outs are the kernel's defaults at the start.
"""

from __future__ import annotations

from ..linux.conntrack import Connection, Tuple
from ..linux.namespace import NetworkNamespace
from ..tools.words import Done, Words

NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17}
TIMEOUTS = {"icmp": 30, "udp": 30, "SYN_SENT": 120, "SYN_RECV": 60, "CLOSE": 10}  # seconds

# The options of -L that want one end translated, or either.
TRANSLATED = {"-n": "s", "--src-nat": "s", "-g": "d", "--dst-nat": "d", "-j": "sd",
              "--any-nat": "sd"}  # fmt: skip


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
    """Run ``conntrack -L``, of all or with -n, -g, -j; or -F, which forgets every connection."""
    if words in (["-F"], ["--flush"]):
        namespace.conntrack.flush()
        stderr = "conntrack v1.4.7 (conntrack-tools): connection tracking table has been emptied.\n"
        return Done(stderr=stderr)
    wanted = [word for at, word in enumerate(words) if at and (at, word) != (1, "conntrack")]
    if words[:1] not in (["-L"], ["--dump"]) or wanted[1:] or not {*wanted} <= {*TRANSLATED}:
        Words([], "conntrack").refuse(f'"{" ".join(words)}" (-L with -n, -g or -j, and -F are)')
    ends = TRANSLATED[wanted[0]] if wanted else ""
    lines = [connection_text(each) for each in namespace.conntrack.connections
             if not ends or ("s" in ends and each.translates_source)
             or ("d" in ends and each.translates_target)]  # fmt: skip
    stderr = f"conntrack v1.4.7 (conntrack-tools): {len(lines)} flow entries have been shown.\n"
    return Done("".join(line + "\n" for line in lines), stderr)
