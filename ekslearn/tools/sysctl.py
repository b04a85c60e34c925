"""``sysctl``: a namespace's switches as text, both ways.

Source: sysctl of procps-ng 4.0.2.
"""

from __future__ import annotations

import re

from ..linux.namespace import NetworkNamespace
from ..linux.sysctl import FIXED, LIMITS
from .words import Done, Words

REFUSED_OPTIONS = {"-p", "--load", "-f", "--system", "-r", "--pattern", "-b", "--binary",
                   "--deprecated", "--dry-run", "-V", "--version", "-h", "--help", "-d"}  # fmt: skip
MUTE = {"-q", "--quiet"}
VALUES = {"-n", "--values"}
NAMES = {"-N", "--names"}
IGNORE = {"-e", "--ignore"}
WRITE = {"-w", "--write", "-o", "-x"}
ALL = {"-a", "--all", "-A", "-X"}


def sysctl(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``sysctl`` with ``words``."""
    flags = {word for word in words if word.startswith("-")}
    flags = {f"-{letter}" for word in flags if not word.startswith("--") for letter in word[1:]} | {
        word for word in flags if word.startswith("--")
    }
    for flag in sorted(flags):
        if flag.partition("=")[0] in REFUSED_OPTIONS:
            Words([], "sysctl").refuse(flag)
    unknown = flags - MUTE - VALUES - NAMES - IGNORE - WRITE - ALL
    if unknown:
        flag = sorted(unknown)[0].lstrip("-")
        return Done(stderr=f"sysctl: invalid option -- '{flag}'\n", status=1)
    keys = [word for word in words if not word.startswith("-")]
    out, errors = [], []
    if flags & ALL:
        out = [_line(namespace, key, flags) for key in namespace.sysctls.names()]
    for word in keys:
        line, error = _one(namespace, word, flags)
        out += line
        errors += error
    if not keys and not flags & ALL:
        return Done(stderr="\nUsage:\n sysctl [options] [variable[=value] ...]\n", status=1)
    return Done("".join(out), "".join(errors), int(bool(errors)))


def _one(namespace: NetworkNamespace, word: str, flags: set[str]) -> tuple[list[str], list[str]]:
    name, assigned, wanted = word.partition("=")
    key = name.strip().replace("/", ".")
    if not assigned and flags & WRITE:
        return [], ["sysctl: command line(0): invalid syntax, continuing...\n"]
    if key not in namespace.sysctls:
        if key in REAL or re.fullmatch(r"net\.ipv4\.conf\.[^.]+\.(%s)" % "|".join(REAL_CONF), key):
            Words([], "sysctl").refuse(key)
        path = key.replace(".", "/")
        missing = f"sysctl: cannot stat /proc/sys/{path}: No such file or directory\n"
        return [], [] if flags & IGNORE else [missing]
    if assigned:
        wanted = wanted.strip()
        low, high = LIMITS.get(key.rpartition(".")[2], (-(1 << 31), (1 << 31) - 1))
        if not re.fullmatch(r"-?[0-9]+", wanted) or not low <= int(wanted) <= high:
            return [], [f'sysctl: setting key "{key}": Invalid argument\n']
        fixed = FIXED.get(key.rpartition(".")[2], int(wanted))
        if fixed != int(wanted):
            Words([], "sysctl").refuse(f"{key} other than {fixed}")
        namespace.sysctls.write(key, int(wanted))
        if flags & MUTE:
            return [], []
    return [_line(namespace, key, flags)], []


def _line(namespace: NetworkNamespace, key: str, flags: set[str]) -> str:
    if flags & NAMES:
        return f"{key}\n"
    found = namespace.sysctls[key]
    return f"{found}\n" if flags & VALUES else f"{key} = {found}\n"


# Real switches of Linux 6.18 that the model doesn't have: refused by name, not as a typing error.
REAL_CONF = (
    "accept_source_route arp_accept arp_announce arp_evict_nocarrier arp_filter arp_notify "
    "bc_forwarding bootp_relay disable_policy disable_xfrm drop_gratuitous_arp "
    "drop_unicast_in_l2_multicast force_igmp_version igmpv2_unsolicited_report_interval "
    "igmpv3_unsolicited_report_interval ignore_routes_with_linkdown log_martians mc_forwarding "
    "medium_id promote_secondaries proxy_arp_pvlan secure_redirects tag"
).split()
REAL = frozenset(
    f"net.ipv4.{name}"
    for name in (
    "ip_default_ttl ip_local_port_range ip_nonlocal_bind ip_no_pmtu_disc ip_dynaddr "
    "ip_early_demux ip_forward_use_pmtu ip_forward_update_priority fwmark_reflect "
    "tcp_fwmark_accept tcp_early_demux icmp_echo_ignore_all icmp_echo_ignore_broadcasts "
    "icmp_errors_use_inbound_ifaddr icmp_ratelimit icmp_ratemask tcp_syncookies tcp_timestamps"
).split()
)
