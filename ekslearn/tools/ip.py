"""``ip``: the options before the object, and which object it is.

Source: ip/ip.c of iproute2 6.1.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import KernelError
from ..linux.namespace import NetworkNamespace
from . import ip_link, ip_route, ip_rule
from .ip_link import Style
from .words import Done, GaveUp, Words, command, give_up

REFUSED_OPTIONS = {
    "Version": "-V", "statistics": "-s", "details": "-d", "resolve": "-r", "human-readable": "-h",
    "human": "-human", "iec": "-iec", "json": "-j", "pretty": "-p", "family": "-f", "6": "-6",
    "M": "-M", "B": "-B", "0": "-0", "loops": "-l", "timestamp": "-t", "tshort": "-ts",
    "batch": "-b", "rcvbuf": "-rc", "Numeric": "-N", "all": "-a", "color": "-c", "force": "-force",
}  # fmt: skip
OBJECTS = (
    "address addrlabel neighbor neighbour route rule link l2tp netns tunnel tunl tuntap tap "
    "token tcpmetrics tcp_metrics monitor xfrm mroute mrule netconf maddress ntable ntbl vrf sr "
    "nexthop mptcp ioam ila macsec fou amt help stats"
).split()

Runner = Callable[[NetworkNamespace, list[str]], Done]


def ip(namespace: NetworkNamespace, words: list[str], run: Runner) -> Done:
    """Run ``ip`` with ``words``; ``run`` is what ``ip netns exec`` hands its command to."""
    try:
        return Done(stdout=_ip(namespace, Words(words, "ip"), run))
    except GaveUp as stop:
        return stop.done
    except KernelError as error:
        said = f"Error: {error.said}." if error.said else f"RTNETLINK answers: {error}"
        return Done(stderr=said + "\n", status=2)


def _ip(namespace: NetworkNamespace, words: Words, run: Runner) -> str:
    brief = oneline = False
    while words.peek().startswith("-"):
        option = words.take().lstrip("-")
        if option == "4":
            continue
        if option and "netns".startswith(option):
            namespace = _named(namespace, words.take(), words)
        elif option and "oneline".startswith(option):
            oneline = True
        elif len(option) > 1 and "brief".startswith(option):
            brief = True
        elif any(name.startswith(option) for name in REFUSED_OPTIONS if option):
            words.refuse(f"-{option}")
        else:
            give_up(f'Option "-{option}" is unknown, try "ip -help".', 255)
    if not words:
        give_up("Usage: ip [ OPTIONS ] OBJECT { COMMAND | help }", 255)
    word, style = words.take(), Style(brief, oneline)
    name = next((each for each in OBJECTS if each.startswith(word)), "")
    if name == "address":
        return ip_link.addr(namespace, _as(words, "ip addr"), style)
    if name == "link":
        return ip_link.link(namespace, _as(words, "ip link"), style)
    if name == "route":
        return ip_route.route(namespace, _as(words, "ip route"))
    if name == "rule":
        return ip_rule.rule(namespace, _as(words, "ip rule"))
    if name in ("neighbor", "neighbour"):
        return ip_rule.neigh(namespace, _as(words, "ip neigh"))
    if name == "netns":
        return _netns(namespace, _as(words, "ip netns"), run)
    if name:
        words.refuse(f'the object "{name}"')
    give_up(f'Object "{word}" is unknown, try "ip help".', 255)


def _as(words: Words, tool: str) -> Words:
    return Words(words.rest(), tool)


def _named(namespace: NetworkNamespace, name: str, words: Words) -> NetworkNamespace:
    found = namespace.world.namespaces.get(name)
    if found is None:
        complaint = f'Cannot open network namespace "{name}": No such file or directory'
        give_up(complaint, 255)
    return found


def _netns(namespace: NetworkNamespace, words: Words, run: Runner) -> str:
    table = {"list": "list", "show": "list", "lst": "list", "add": "", "attach": "", "set": "",
             "identify": "", "pids": "", "delete": "", "exec": "exec", "monitor": "",
             "list-id": ""}  # fmt: skip
    chosen = command(words, table, "list", "ip netns")
    if chosen == "list":
        return "".join(f"{name}\n" for name in sorted(namespace.world.namespaces))
    if chosen == "exec":
        if not words:
            give_up("No netns name specified", 255)
        inside = _named(namespace, words.take(), words)
        if not words:
            give_up("No command specified", 255)
        done = run(inside, words.rest())
        if done.status or done.stderr:
            raise GaveUp(done.stderr, done.status, done.stdout)
        return done.stdout
    words.refuse("anything but list and exec")
