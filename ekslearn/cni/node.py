"""The node's own network: before the VPC CNI, by its init container, and by ipamd.

Source: pkg/networkutils/network.go, iptables_connmark.go and nftables_connmark.go,
cmd/aws-vpc-cni-init/main.go. Functions return lines ``PLACE$ COMMAND`` in the order in which the
CNI acts. Where it looks first, the listings it would see are arguments (``iptables-save -t nat``,
``ip rule show`` ...), empty where nothing is; what isn't there isn't deleted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Network, ip_interface, ip_network

from ..errors import EkslearnError
from . import rules as ip
from .chains import Table
from .names import MAIN, subnet_gateway
from .settings import RANDOM, Settings

SNAT, CONNMARK = "AWS-SNAT-CHAIN-0", "AWS-CONNMARK-CHAIN-0"
NFT = "ip aws-cni"
# The pods' addresses for egress in the family that isn't the cluster's, and who keeps them.
NODE_LOCAL = {"v4": ("iptables", "169.254.172.0/22"), "v6": ("ip6tables", "fd00::ac:00/118")}
HOOK = "type nat hook prerouting priority -90; policy accept;"
ATTEMPTS, INTERVAL_S = 5, 3.0  # to find an ENI's interface


def lines(place: str, commands: Iterable[str]) -> list[str]:
    """Commands of one place as wiring lines."""
    return [f"{place}$ {command}" for command in commands]


def ipv6_sysctls(interface: str) -> list[str]:
    """What the CNI writes for a veth or VLAN device; without IPv6 in the kernel, nothing."""
    pairs = ("accept_ra", 0), ("accept_redirects", 1), ("forwarding", 0)
    return [f"sysctl -e -q -w net/ipv6/conf/{interface}/{key}={value}" for key, value in pairs]


def boot_lines(place: str, interface: str, address: str, gateway: str) -> list[str]:
    """What the system has done before the CNI starts: DHCP on the primary ENI.

    ``address`` has the subnet's mask ("10.0.1.10/24").
    """
    return lines(place, [
        "sysctl -q -w net.ipv4.ip_forward=1", "ip link set lo up", f"ip link set {interface} up",
        f"ip addr add {address} brd + dev {interface}",
        f"ip route add default via {gateway} dev {interface}",
    ])  # fmt: skip


def init_lines(place: str, interface: str, settings: Settings) -> list[str]:
    """What the init container sets (configureSystemParams)."""
    demux = int(not settings.disable_tcp_early_demux)
    return lines(place, [
        f"sysctl -q -w net/ipv4/conf/{interface}/rp_filter=2",
        f"sysctl -e -q -w net.ipv4.tcp_early_demux={demux}",
    ])  # fmt: skip


def connmark_backend(version: str) -> str:
    """Who marks: "iptables" or "nft", by what ``iptables --version`` says (NewConnmark)."""
    return "iptables" if "legacy" in version else "nft"


def host_lines(
    place: str, interface: str, primary_ip: str, vpc_cidrs: Sequence[IPv4Network],
    settings: Settings, *, backend: str, random_fully: bool = True, nat: str = "",
    mangle: str = "", filters: str = "", rules: str = ip.KERNELS_OWN, nft: str = "",
) -> list[str]:  # fmt: skip
    """Set the node up when ipamd starts (SetupHostNetwork); then come ``stale_chain_lines``.

    ``random_fully``: whether iptables knows --random-fully. ``filters`` is the filter table of
    the family that isn't the cluster's. EkslearnError as in ``snat_update_lines``.
    """
    there, command = ip.rules_in(rules), ip.ip_command(6 if settings.enable_ipv6 else 4)
    done = [f"ip link set {interface} mtu {settings.eni_mtu}"]
    if settings.enable_ipv6 or settings.enable_v6_egress:
        done += _block_node_local("v4" if settings.enable_ipv6 else "v6", filters)
    mark = f"from all fwmark {settings.connmark:#x}/{settings.connmark:#x}"
    by_main = ip.rule(ip.HOST, mark, MAIN)
    done += [ip.delete(by_main, command)] if by_main in there else []
    if settings.node_port_support or not settings.external_snat:
        done.append(ip.add(by_main, command))
    if settings.strict:
        done += ip.add_missing(ip.rule(ip.LOCAL_MOVED, "from all", ip.LOCAL), there, command)
        done += [ip.delete(ip.KERNELS_OWN, command)] if ip.KERNELS_OWN in there else []
    return lines(place, done) + snat_update_lines(
        place, interface, primary_ip, vpc_cidrs, settings, backend=backend,
        random_fully=random_fully, nat=nat, mangle=mangle, nft=nft,
    )  # fmt: skip


def _block_node_local(family: str, filters: str) -> list[str]:
    """Nobody else may open a connection to an address that pods have for egress by ``family``."""
    tool, net = NODE_LOCAL[family]
    comment = f"Block Node Local Pod access via IP{family}"
    rule = f'-d {net} -m conntrack --ctstate NEW -m comment --comment "{comment}" -j REJECT'
    return [] if comment in filters else [f"{tool} -t filter -I FORWARD 1 {rule}"]


def stale_chain_lines(place: str, nat: str) -> list[str]:
    """Delete the chains of releases that had one for each CIDR (CleanUpStaleAWSChains).

    ``host_lines`` has emptied those of SNAT.
    """
    chains = Table("nat", nat, []).chains
    old = [name for name in chains if re.fullmatch(r"AWS-(SNAT|CONNMARK)-CHAIN-[1-9]\d*", name)]
    return lines(place, [f"iptables -t nat -X {name}" for name in old if f"{SNAT[:-1]}1" in chains])


def snat_update_lines(
    place: str, interface: str, primary_ip: str, vpc_cidrs: Sequence[IPv4Network],
    settings: Settings, *, backend: str, random_fully: bool = True, nat: str = "",
    mangle: str = "", nft: str = "",
) -> list[str]:  # fmt: skip
    """Translate and mark what leaves the VPC (UpdateHostSNATRules).

    At the start, and again when the VPC's list of CIDRs has changed (every 30 s ipamd looks).
    EkslearnError if packets are to be marked and no CIDR is exempt.
    """
    if settings.enable_ipv6:
        return []
    done: list[str] = []
    table = Table("nat", nat, done)
    _translate(table, primary_ip, vpc_cidrs, settings, random_fully)
    _restore(Table("mangle", mangle, done), interface, settings)
    connmark(table, [*vpc_cidrs, *settings.exclude_snat_cidrs], settings, backend, nft)
    return lines(place, done)


def _returns(cidrs: Iterable[IPv4Network], comment: str) -> list[str]:
    """A way back for each CIDR; iptables keeps no ``-d 0.0.0.0/0``."""
    return [f'{f"-d {cidr} " if cidr.prefixlen else ""}-m comment --comment "{comment}" -j RETURN'
            for cidr in cidrs]  # fmt: skip


def _translate(
    nat: Table, primary_ip: str, cidrs: Sequence[IPv4Network], settings: Settings, fully: bool
) -> None:
    """The chain that leaves the VPC and the excluded CIDRs alone and translates the rest.

    Each RETURN goes in as the first, so they end up in reverse; the SNAT rule counts as stale and
    is added again behind them on every run (buildIptablesSNATRules).
    """
    wanted, dice = not settings.external_snat, RANDOM[settings.randomize_snat]
    nat.new(SNAT)
    nat.put("POSTROUTING", f'-m comment --comment "AWS SNAT CHAIN" -j {SNAT}', wanted)
    returns = _returns(cidrs, "AWS SNAT CHAIN")
    returns += _returns(settings.exclude_snat_cidrs, "AWS SNAT CHAIN EXCLUSION")
    stale = nat.stale("AWS-SNAT-CHAIN", SNAT, returns)
    for rule in returns:
        nat.put(SNAT, rule, wanted, first=True)
    for chain, rule in stale:
        nat.put(chain, rule, False)
    nat.put(SNAT, '! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL '
            f"-j SNAT --to-source {primary_ip}{dice if fully else dice[:9]}", wanted)  # fmt: skip


def _restore(mangle: Table, interface: str, settings: Settings) -> None:
    """Mark connections that came in by the primary ENI, and the packets of marked connections."""
    mark, node_port = f"{settings.connmark:#x}", settings.node_port_support
    about = '-m comment --comment "AWS, primary ENI" -i'
    local = f"-m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-mark {mark}/{mark}"
    restore = f"-j CONNMARK --restore-mark --mask {mark}"
    either = node_port or not settings.external_snat
    mangle.put("PREROUTING", f"{about} {interface} {local}", node_port)
    mangle.put("PREROUTING", f"{about} {settings.veth_prefix}+ {restore}", either)
    mangle.put("PREROUTING", f"{about} vlan+ {restore}", node_port)


def connmark(
    nat: Table, exempt: Sequence[IPv4Network], settings: Settings, backend: str, nft: str
) -> None:
    """Mark connections of pods that leave the VPC, by iptables or by nft, in ``nat.commands``.

    What the other back end left is removed. EkslearnError if no CIDR is exempt.
    """
    gone = [f"nft delete table {NFT}"] if f"table {NFT} " in nft else []
    if backend not in ("iptables", "nft"):
        raise EkslearnError(f"connmark: {backend!r} is no back end; there are iptables and nft")
    if settings.external_snat:
        nat.commands += gone if backend == "nft" else []
        _unmark(nat, settings)
    elif not exempt:
        raise EkslearnError("exemptCIDRs cannot be empty")
    elif backend == "nft":
        nat.commands += _nft_commands(exempt, settings, nft)
        _unmark(nat, settings)
    else:
        _mark(nat, exempt, settings)
        nat.commands += gone


def _prerouting(settings: Settings) -> tuple[str, str]:
    """The jump to the chain that marks, and the rule that gives its packets their mark."""
    about = f'-i {settings.veth_prefix}+ -m comment --comment "AWS, outbound connections"'
    restore = '-m comment --comment "AWS, CONNMARK" -j CONNMARK --restore-mark --mask'
    return f"{about} -j {CONNMARK}", f"{restore} {settings.connmark:#x}"


def _mark(nat: Table, exempt: Sequence[IPv4Network], settings: Settings) -> None:
    """The rules of the iptables back end (iptables_connmark.go, buildRules)."""
    jump, restore = _prerouting(settings)
    nat.new(CONNMARK)
    nat.put("PREROUTING", jump.replace(" -j", " -m state --state NEW -j"), False)  # of old releases
    nat.put("PREROUTING", jump)
    returns = _returns(exempt, "AWS CONNMARK CHAIN")
    stale = nat.stale(CONNMARK, CONNMARK, returns)
    for rule in returns:
        nat.put(CONNMARK, rule, first=True)
    for exist in (False, True):  # so that it comes to stand behind the jump
        nat.put("PREROUTING", restore, exist)
    for chain, rule in stale:
        nat.put(chain, rule, False)
    mark = f"--set-xmark {settings.connmark:#x}/{settings.connmark:#x}"
    nat.put(CONNMARK, f'-m comment --comment "AWS, CONNMARK" -j CONNMARK {mark}')


def _unmark(nat: Table, settings: Settings) -> None:
    """Take the rules of the iptables back end away (Cleanup)."""
    for rule in _prerouting(settings):
        nat.put("PREROUTING", rule, False)
    nat.drop(CONNMARK)


def _nft_commands(exempt: Sequence[IPv4Network], settings: Settings, listing: str) -> list[str]:
    """The table of the nft back end (nftables_connmark.go, Setup); ``nft list ruleset`` before.

    The CNI deletes a stale rule by its handle and puts new CIDRs first; here a chain that isn't
    right is emptied and filled again, which comes to the same.
    """
    mark = f"{settings.connmark:#x}"
    returns = [f"counter ip daddr {str(cidr).removesuffix('/32')} return" for cidr in exempt]
    wanted = {
        "nat-prerouting": ["fib daddr type local return",
                           f'iifname "{settings.veth_prefix}*" counter jump snat-mark',
                           f"counter meta mark set ct mark & {mark}"],
        "snat-mark": [*reversed(returns), f"counter ct mark set ct mark | {mark}"],
    }  # fmt: skip
    held = _nft_chains(listing)
    done = [] if held else [f"nft add table {NFT}"]
    heads = {"nat-prerouting": f" '{{ {HOOK} }}'", "snat-mark": ""}
    done += [f"nft add chain {NFT} {name}{heads[name]}" for name in wanted if name not in held]
    for name, rules in wanted.items():
        now = held.get(name, [])
        any_order = name == "snat-mark" and now[-1:] == rules[-1:] and sorted(now) == sorted(rules)
        if now != rules and not any_order:
            done += [f"nft flush chain {NFT} {name}"] if now else []
            done += [f"nft add rule {NFT} {name} '{rule}'" for rule in rules]
    return done


def _nft_chains(listing: str) -> dict[str, list[str]]:
    """The chains of the CNI's table, their rules as they were written: nothing counted yet."""
    table = re.search(rf"^table {NFT} {{\n(.*?)^}}", listing, re.M | re.S)
    text = re.sub(r"counter packets \d+ bytes \d+", "counter", table[1] if table else "")
    text = re.sub(r"\b0x0+(?=[0-9a-f])", "0x", text)
    bodies = re.findall(r"^\tchain (\S+) {\n(.*?)^\t}", text, re.M | re.S)
    return {name: [line.strip() for line in body.splitlines() if "type nat" not in line]
            for name, body in bodies}  # fmt: skip


def find_link(
    mac: str, links: Callable[[], Mapping[str, str]], wait: Callable[[float], None]
) -> str:
    """The name of the interface with ``mac``; it may take an ENI a while to show (linkByMac).

    ``links`` gives the MACs by name, or raises EkslearnError; ``wait`` lets seconds pass.
    EkslearnError after the fifth look.
    """
    for attempt in range(ATTEMPTS):
        if attempt:
            wait(INTERVAL_S)
        with suppress(EkslearnError):
            if found := [name for name, each in links().items() if each == mac]:
                return found[0]
    raise EkslearnError(f"{ATTEMPTS} looks found no interface with the MAC address {mac}")


def eni_lines(
    place: str, interface: str, *, primary_ip: str, subnet: str, table: int, mtu: int,
    trunk: bool = False, addresses: Sequence[str] = (), routes: str = "", rules: str = "",
) -> list[str]:  # fmt: skip
    """Set up a secondary ENI that has appeared (setupENINetwork).

    ``addresses`` are those the interface has, with their masks; ``routes`` is
    ``ip route show table all``. EkslearnError for the primary ENI, whose table is main.
    """
    if table == MAIN:
        raise EkslearnError("setupENINetwork should never be called on the primary ENI")
    net = ip_network(subnet)
    command, gateway = ip.ip_command(net.version), str(subnet_gateway(net))
    broadcast = "brd + " if net.version == 4 and net.prefixlen < 31 else ""
    done = [f"ip link set {interface} mtu {mtu}", f"ip link set {interface} up"]
    old = [each for each in addresses if not ip_interface(each).is_link_local]
    done += [f"{command} addr del {each} dev {interface}" for each in old]
    done.append(f"{command} addr add {primary_ip}/{net.prefixlen} {broadcast}dev {interface}")
    held = [(route["dst"], route.get("dev"), route["table"]) for route in ip.routes_in(routes)]
    if old and len(old) == len(addresses) and net.version == 4:
        held = []  # they went with the last address (fib_disable_ip)
    for dst, rest in ip.gateway_routes(interface, gateway, table):
        there = (dst, interface, str(table)) in held
        done += [f"{command} route del {dst} {rest}"] if there else []
        done.append(f"{command} route replace {dst} {rest}")
    # The kernel's own route of the subnet would lead the primary ENI's neighbors out by this one.
    own = f"src {primary_ip} scope link" if net.version == 4 else f"dev {interface}"
    done.append(f"{command} route del {ip.shown(net)} {own}")
    if not trunk:
        rule = ip.rule(ip.FROM_ENI, f"from {primary_ip}", table)
        done += ip.add_missing(rule, ip.rules_in(rules), command)
    return lines(place, done)


def eni_gone_lines(place: str, primary_ip: str, rules: str) -> list[str]:
    """After an ENI was detached: its rules; its routes went with it (DeleteRulesBySrc)."""
    return lines(place, [ip.delete(rule) for rule in ip.by_source(rules, primary_ip)])


def startup_rule_lines(
    place: str, pod_ips: Iterable[str], rules: str, settings: Settings
) -> list[str]:
    """Write the rules of known pods and of external services again (configureIPRulesForPods)."""
    done = []
    for pod_ip in pod_ips:
        if old := ip.by_source(rules, pod_ip):
            source = ip.shown(ip_network(pod_ip, strict=False))
            again = ip.rule(ip.FROM_POD, f"from {source}", ip.table_of(old[-1]))
            done += [*map(ip.delete, old), ip.add(again)]
    services = [
        rule
        for rule in ip.rules_in(rules)
        if rule.startswith(f"{ip.EXTERNAL_SERVICE}: ") and ip.table_of(rule) == MAIN
    ]
    done += map(ip.delete, services)
    done += [ip.add(ip.rule(ip.EXTERNAL_SERVICE, f"from all to {ip.shown(cidr)}", MAIN))
             for cidr in settings.external_service_cidrs]  # fmt: skip
    return lines(place, done)
