"""The node's own network: before the VPC CNI, by its init container, and by ipamd.

Source: pkg/networkutils/network.go, iptables_connmark.go and nftables_connmark.go,
cmd/aws-vpc-cni-init/main.go. Every function returns lines ``PLACE$ COMMAND`` in the order in which
the CNI acts. Where it looks first, the listings it would see are arguments (``iptables-save -t
nat``, ``ip rule show`` ...), empty where nothing is; what isn't there isn't deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, ip_interface, ip_network

from ..errors import EkslearnError
from . import rules as ip
from .chains import Table
from .names import MAIN, subnet_gateway
from .settings import Settings

SNAT, CONNMARK = "AWS-SNAT-CHAIN-0", "AWS-CONNMARK-CHAIN-0"
RANDOM = {"prng": " --random-fully", "hashrandom": " --random", "none": ""}
NFT_TABLE = "ip aws-cni"
BASE_CHAIN = "type nat hook prerouting priority -90; policy accept;"


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
    mangle: str = "", filters: str = "", rules: str = "", nft: str = "",
) -> list[str]:  # fmt: skip
    """Set the node up when ipamd starts (SetupHostNetwork, CleanUpStaleAWSChains).

    ``filters`` is the filter table of the family that isn't the cluster's. EkslearnError if
    packets are to be marked and no CIDR is exempt.
    """
    there = ip.rules_in(rules)
    command = ip.ip_command(6 if settings.enable_ipv6 else 4)
    done = [f"ip link set {interface} mtu {settings.eni_mtu}"]
    done += _block_node_local(settings, filters)
    mark = f"from all fwmark {settings.connmark:#x}/{settings.connmark:#x}"
    by_main = ip.rule(ip.HOST, mark, MAIN)
    if by_main in there:
        done.append(ip.delete(by_main, command))
    if settings.node_port_support or not settings.external_snat:
        done.append(ip.add(by_main, command))
    if settings.strict:
        done += ip.add_missing(ip.rule(ip.LOCAL_MOVED, "from all", 255), there, command)
        first = ip.rule(0, "from all", 255)
        done += [ip.delete(first, command)] if first in there else []
    return lines(place, done) + snat_update_lines(
        place, interface, primary_ip, vpc_cidrs, settings, backend=backend,
        random_fully=random_fully, nat=nat, mangle=mangle, nft=nft,
    ) + lines(place, _stale_chains(nat))  # fmt: skip


def _block_node_local(settings: Settings, filters: str) -> list[str]:
    """Nobody else may open a connection to the pods' addresses for egress in the other family."""
    if not (settings.enable_ipv6 or settings.enable_v6_egress):
        return []
    tool, family, net = ("iptables", "v4", "169.254.172.0/22") if settings.enable_ipv6 else \
        ("ip6tables", "v6", "fd00::ac:00/118")  # fmt: skip
    comment = f"Block Node Local Pod access via IP{family}"
    rule = f'-d {net} -m conntrack --ctstate NEW -m comment --comment "{comment}" -j REJECT'
    return [] if comment in filters else [f"{tool} -t filter -I FORWARD 1 {rule}"]


def _stale_chains(nat: str) -> list[str]:
    """Chains of releases that had one for each CIDR; by now they are empty."""
    chains = Table("nat", nat).chains
    old = [name for name in chains if re.fullmatch(r"AWS-(SNAT|CONNMARK)-CHAIN-[1-9]\d*", name)]
    return [f"iptables -t nat -X {name}" for name in old if "AWS-SNAT-CHAIN-1" in chains]


def snat_update_lines(
    place: str, interface: str, primary_ip: str, vpc_cidrs: Sequence[IPv4Network],
    settings: Settings, *, backend: str, random_fully: bool = True, nat: str = "",
    mangle: str = "", nft: str = "",
) -> list[str]:  # fmt: skip
    """Translate and mark what leaves the VPC (UpdateHostSNATRules).

    At the start, and again when the VPC's list of CIDRs has changed (every 30 s ipamd looks).
    """
    if settings.enable_ipv6:
        return []
    tables = Table("nat", nat), Table("mangle", mangle)
    _translate(tables[0], primary_ip, vpc_cidrs, settings, random_fully)
    _restore(tables[1], interface, settings)
    done = tables[0].commands + tables[1].commands
    tables[0].commands = []
    exempt = [*vpc_cidrs, *settings.exclude_snat_cidrs]
    return lines(place, done + connmark_commands(tables[0], exempt, settings, backend, nft))


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
    wanted = not settings.external_snat
    nat.new(SNAT)
    nat.should(wanted, "POSTROUTING", f'-m comment --comment "AWS SNAT CHAIN" -j {SNAT}')
    returns = _returns(cidrs, "AWS SNAT CHAIN")
    returns += _returns(settings.exclude_snat_cidrs, "AWS SNAT CHAIN EXCLUSION")
    stale = nat.stale("AWS-SNAT-CHAIN", SNAT, returns)
    for rule in returns:
        nat.should(wanted, SNAT, rule, first=True)
    for chain, rule in stale:
        nat.lack(chain, rule)
    dice = RANDOM[settings.randomize_snat] if fully else RANDOM[settings.randomize_snat][:9]
    nat.should(wanted, SNAT, f'! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype '
               f"! --dst-type LOCAL -j SNAT --to-source {primary_ip}{dice}")  # fmt: skip


def _restore(mangle: Table, interface: str, settings: Settings) -> None:
    """Mark connections that came in by the primary ENI, and the packets of marked connections."""
    mark, node_port = f"{settings.connmark:#x}", settings.node_port_support
    about = '-m comment --comment "AWS, primary ENI" -i'
    restore = f"-j CONNMARK --restore-mark --mask {mark}"
    mangle.should(node_port, "PREROUTING",
                  f"{about} {interface} -m addrtype --dst-type LOCAL --limit-iface-in "
                  f"-j CONNMARK --set-mark {mark}/{mark}")  # fmt: skip
    mangle.should(node_port or not settings.external_snat, "PREROUTING",
                  f"{about} {settings.veth_prefix}+ {restore}")  # fmt: skip
    mangle.should(node_port, "PREROUTING", f"{about} vlan+ {restore}")


def connmark_commands(
    nat: Table, exempt: Sequence[IPv4Network], settings: Settings, backend: str, nft: str
) -> list[str]:
    """Mark connections of pods that leave the VPC, by iptables or by nft.

    What the other one left is removed. EkslearnError if no CIDR is exempt.
    """
    if backend not in ("iptables", "nft"):
        raise EkslearnError(f"connmark: {backend!r} is no back end; there are iptables and nft")
    if not settings.external_snat and not exempt:
        raise EkslearnError("exemptCIDRs cannot be empty")
    there = f"table {NFT_TABLE} " in nft
    if backend == "nft" and not settings.external_snat:
        done = _nft_commands(exempt, settings, nft)
        _unmark(nat, settings)
        return done + nat.commands
    if settings.external_snat:
        _unmark(nat, settings)
    else:
        _mark(nat, exempt, settings)
    gone = [f"nft delete table {NFT_TABLE}"] if there else []
    return gone + nat.commands if backend == "nft" else nat.commands + gone


def _connmark_rules(settings: Settings) -> tuple[str, str]:
    """The jump to the chain that marks, and the rule that takes the mark over, in PREROUTING."""
    about = f'-i {settings.veth_prefix}+ -m comment --comment "AWS, outbound connections"'
    restore = ('-m comment --comment "AWS, CONNMARK" -j CONNMARK --restore-mark '
               f"--mask {settings.connmark:#x}")  # fmt: skip
    return f"{about} -j {CONNMARK}", restore


def _mark(nat: Table, exempt: Sequence[IPv4Network], settings: Settings) -> None:
    """The rules of the iptables back end (iptables_connmark.go, buildRules)."""
    jump, restore = _connmark_rules(settings)
    nat.new(CONNMARK)
    nat.lack("PREROUTING", jump.replace(" -j ", " -m state --state NEW -j "))  # of old releases
    nat.have("PREROUTING", jump)
    returns = _returns(exempt, "AWS CONNMARK CHAIN")
    stale = nat.stale(CONNMARK, CONNMARK, returns)
    for rule in returns:
        nat.have(CONNMARK, rule, first=True)
    nat.lack("PREROUTING", restore)  # so that it comes to stand behind the jump
    nat.have("PREROUTING", restore)
    for chain, rule in stale:
        nat.lack(chain, rule)
    mark = f"--set-xmark {settings.connmark:#x}/{settings.connmark:#x}"
    nat.have(CONNMARK, f'-m comment --comment "AWS, CONNMARK" -j CONNMARK {mark}')


def _unmark(nat: Table, settings: Settings) -> None:
    """Take the rules of the iptables back end away (Cleanup)."""
    for rule in _connmark_rules(settings):
        nat.lack("PREROUTING", rule)
    nat.drop(CONNMARK)


def _nft_commands(exempt: Sequence[IPv4Network], settings: Settings, listing: str) -> list[str]:
    """The table of the nft back end (nftables_connmark.go, Setup).

    The CNI deletes a stale rule by its handle; here a chain that isn't right is emptied and
    filled again, which comes to the same.
    """
    mark = f"{settings.connmark:#x}"
    base = ["fib daddr type local return",
            f'iifname "{settings.veth_prefix}*" counter jump snat-mark',
            f"counter meta mark set ct mark & {mark}"]  # fmt: skip
    last = f"counter ct mark set ct mark | {mark}"
    returns = [f"counter ip daddr {cidr} return" for cidr in exempt]
    table = re.search(rf"^table {NFT_TABLE} {{\n(.*?)^}}", listing, re.M | re.S)
    bodies = re.findall(r"^\tchain (\S+) {\n(.*?)^\t}", table[1] if table else "", re.M | re.S)
    chains = {name: [_counted(line) for line in body.splitlines()] for name, body in bodies}
    done = [] if table else [f"nft add table {NFT_TABLE}"]
    held = chains.get("nat-prerouting")
    if held is not None and held[:1] != [BASE_CHAIN]:
        done += [f"nft flush chain {NFT_TABLE} nat-prerouting",
                 f"nft delete chain {NFT_TABLE} nat-prerouting"]  # fmt: skip
        held = None
    if held is None:
        done.append(f"nft add chain {NFT_TABLE} nat-prerouting '{{ {BASE_CHAIN} }}'")
    if "snat-mark" not in chains:
        done.append(f"nft add chain {NFT_TABLE} snat-mark")
    if (held or [])[1:] != base:
        done += [f"nft flush chain {NFT_TABLE} nat-prerouting"] if (held or [])[1:] else []
        done += [f"nft add rule {NFT_TABLE} nat-prerouting '{rule}'" for rule in base]
    rules = chains.get("snat-mark", [])
    if rules and (rules[-1] != last or not set(rules[:-1]) <= set(returns)):
        done.append(f"nft flush chain {NFT_TABLE} snat-mark")
        rules = []
    done += [f"nft insert rule {NFT_TABLE} snat-mark '{rule}'"
             for rule in returns if rule not in rules]  # fmt: skip
    return done + ([] if rules else [f"nft add rule {NFT_TABLE} snat-mark '{last}'"])


def _counted(line: str) -> str:
    """A line of ``nft list ruleset`` as it was written: no counts, masks without leading zeros."""
    text = re.sub(r"counter packets \d+ bytes \d+", "counter", line.strip())
    return re.sub(r"0x0+(?=[0-9a-f])", "0x", text)


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
    done += [f"{command} addr del {each} dev {interface}" for each in addresses
             if not ip_interface(each).is_link_local]  # fmt: skip
    done.append(f"{command} addr add {primary_ip}/{net.prefixlen} {broadcast}dev {interface}")
    held = [(route["dst"], route.get("dev"), route["table"]) for route in ip.routes_in(routes)]
    for dst, rest in ip.gateway_routes(interface, gateway, table):
        if (dst, interface, str(table)) in held:
            done.append(f"{command} route del {dst} {rest}")
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
    return lines(place, [ip.delete(rule) for rule in _by_source(rules, primary_ip)])


def _by_source(rules: str, source: str) -> list[str]:
    wanted = ip_interface(source).ip
    return [rule for rule in ip.rules_in(rules)
            if (net := ip.source_of(rule)) and net.network_address == wanted]  # fmt: skip


def startup_rule_lines(
    place: str, pod_ips: Iterable[str], rules: str, settings: Settings
) -> list[str]:
    """Write the rules of known pods and of external services again (configureIPRulesForPods)."""
    done = []
    for pod_ip in pod_ips:
        old = _by_source(rules, pod_ip)
        done += [ip.delete(rule) for rule in old]
        if old:
            source = ip.shown(ip_network(pod_ip, strict=False))
            done.append(ip.add(ip.rule(ip.FROM_POD, f"from {source}", ip.table_of(old[-1]))))
    for rule in ip.rules_in(rules):
        if ip.priority_of(rule) == ip.EXTERNAL_SERVICE and ip.table_of(rule) == MAIN:
            done.append(ip.delete(rule))
    done += [ip.add(ip.rule(ip.EXTERNAL_SERVICE, f"from all to {ip.shown(cidr)}", MAIN))
             for cidr in settings.external_service_cidrs]  # fmt: skip
    return lines(place, done)
