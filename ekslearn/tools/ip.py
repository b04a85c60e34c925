"""``ip``: the options before the object, and which object it is.

Source: ip/ip.c and ip/ipnetns.c of iproute2 6.1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import KernelError
from ..linux.namespace import NetworkNamespace
from . import ip_addr, ip_link, ip_neigh, ip_route, ip_rule
from .ip_link import Style
from .words import Done, GaveUp, Row, Words, command, flag, give_up, refused

Runner = Callable[[NetworkNamespace, list[str]], Done]
OPTIONS = (
    Row("-4", "ipv4", flag(True)), Row("-o*neline", "oneline", flag(True)),
    Row("-br*ief", "brief", flag(True)), Row("-he*lp", "_", Words.help),
    Row("-n*etns", "netns", lambda words: words.take() if words else "(null)"), refused("ip"),
)  # fmt: skip
# In the order in which a shortened word is looked for.
OBJECTS: dict[str, Any] = {
    "address": (ip_addr.COMMANDS, "ip addr"), "addrlabel": None, "maddress": None,
    "route": (ip_route.COMMANDS, "ip route"), "rule": (ip_rule.COMMANDS, "ip rule"),
    "neighbor": (ip_neigh.COMMANDS, "ip neigh"), "neighbour": (ip_neigh.COMMANDS, "ip neigh"),
    "ntable": None, "ntbl": None, "link": (ip_link.COMMANDS, "ip link"),
    **dict.fromkeys("l2tp fou ila macsec tunnel tunl tuntap tap token tcpmetrics tcp_metrics "
                    "monitor xfrm mroute mrule".split()),
    "netns": ({}, "ip netns"),
    **dict.fromkeys("netconf vrf sr nexthop mptcp ioam amt stats".split()),
}  # fmt: skip


def ip(namespace: NetworkNamespace, argv: list[str], run: Runner) -> Done:
    """Run ``ip`` with ``argv``; ``run`` is what ``ip netns exec`` hands its command to."""
    words = Words(argv, "ip")
    try:
        return Done(_ip(namespace, words, run), words.warnings)
    except GaveUp as stop:
        return Done(stop.done.stdout, words.warnings + stop.done.stderr, stop.done.status)
    except KernelError as error:
        said = f"Error: {error.said}." if error.said else f"RTNETLINK answers: {error}"
        return Done(stderr=f"{words.warnings}{said}\n", status=2)


def _ip(namespace: NetworkNamespace, words: Words, run: Runner) -> str:
    style: dict[str, Any] = {}
    while words.peek().startswith("-"):
        option = "-" + words.peek().lstrip("-")
        row = next((row for row in OPTIONS if row.fits(option)), None)
        if row is None:
            give_up(f'Option "{option}" is unknown, try "ip -help".')
        words.take()
        if not row.key:
            words.refuse(option)
        style[row.key] = row.read(words)
        if row.key == "netns":
            namespace = _named(namespace, style.pop("netns"))
    words.namespaces = namespace.world.namespaces
    if style.get("ipv4"):
        words.family = "inet"
    word = words.take() if words else "help"
    name = next((each for each in (*OBJECTS, "help") if word and each.startswith(word)), "")
    if name == "help":
        words.help()
    if not name:
        give_up(f'Object "{word}" is unknown, try "ip help".', 1)
    if OBJECTS[name] is None:
        words.refuse(f'the object "{name}"')
    commands, words.tool = OBJECTS[name]
    if words.tool == "ip netns":
        return _netns(namespace, words, run)
    default = "list" if "list" in commands else "show"
    chosen = command(words, commands, default, words.tool.replace("addr", "address"))
    if words.tool in ("ip addr", "ip link", "ip neigh"):
        chosen = partial(chosen, style=Style(**style))
    return str(chosen(namespace, words))


def _named(namespace: NetworkNamespace, name: str) -> NetworkNamespace:
    found = namespace.world.namespaces.get(name)
    if found is None:
        give_up(f'Cannot open network namespace "{name}": No such file or directory')
    return found


def _netns(namespace: NetworkNamespace, words: Words, run: Runner) -> str:
    names = "list show lst list-id add set delete identify pids exec monitor attach".split()
    chosen = command(words, dict(zip(names, names, strict=True)), "list")
    if chosen in ("list", "show", "lst"):
        return "".join(f"{name}\n" for name in sorted(namespace.world.namespaces))
    if chosen != "exec":
        words.refuse(f'"{chosen}": a scenario names its places, and they stay')
    if not words:
        give_up("No netns name specified", 1)
    inside = _named(namespace, words.take())
    if not words:
        give_up("No command specified", 1)
    done = run(inside, words.rest())
    raise GaveUp(done.stderr, done.status, done.stdout)
