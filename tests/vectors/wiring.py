"""Areas of the wiring: the package's lines are run on a model, or read, and told as vectors tell.

What of IPv6 there is to tell (a pod's inside, a branch ENI) is read from the lines alone: the
model has none.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any
from unittest.mock import patch

from ekslearn.cluster import Lab
from ekslearn.cni import names
from ekslearn.cni import rules as text
from ekslearn.cni.chains import Table
from ekslearn.cni.node import (
    CONNMARK,
    connmark,
    connmark_backend,
    eni_lines,
    find_link,
    host_lines,
    snat_update_lines,
    stale_chain_lines,
    startup_rule_lines,
)
from ekslearn.cni.pod import branch_pod_gone_lines, branch_pod_lines, pod_gone_lines, pod_lines
from ekslearn.cni.settings import VARIABLES, Settings, config_refusal, netconf, parse, pod_mtu
from ekslearn.errors import EkslearnError
from ekslearn.iptables.line import read_line
from ekslearn.linux.link import invented_mac
from ekslearn.linux.netfilter import ChainRule
from tests.vectors import Handler

Given = Mapping[str, Any]
NODE, POD = "node", "default/pod"
BACKENDS = {"iptables": "iptables", "nftables": "nft"}
HOST_MAC, POD_MAC = invented_mac("host"), invented_mac("pod")
TABLES = {name: number for number, name in text.TABLES.items()}


# Telling: how vectors write what a line says


class Told(dict[str, Any]):
    """Fields of which a vector may leave out what follows from the others, such as a family."""

    optional = ("family",)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, dict):
            return False
        mine = {key: value for key, value in self.items()
                if key in other or key not in self.optional}  # fmt: skip
        return mine == dict(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None


def prefix(word: str, version: int) -> str:
    """An address of a line as a prefix; ``default`` has its family's zeros."""
    if word == "default":
        return "0.0.0.0/0" if version == 4 else "::/0"
    return word if "/" in word else f"{word}/{ip_address(word).max_prefixlen}"


class Said:
    """A wiring line, taken apart."""

    def __init__(self, line: str) -> None:
        self.place, _, self.command = line.partition("$ ")
        self.words = shlex.split(self.command)
        self.version = 6 if self.words[1:2] == ["-6"] else 4
        if self.version == 6:
            del self.words[1]
        self.tool = self.words[0]
        self.what = self.words[1] if self.tool == "ip" else ""
        self.verb = self.words[2] if self.tool == "ip" else ""

    def after(self, word: str) -> str:
        """The word behind another one."""
        return self.words[self.words.index(word) + 1] if word in self.words else ""

    def rule(self) -> Told:
        """A line of ``ip rule``."""
        told = Told(priority=int(self.after("prio")), family=f"inet{self.version}".rstrip("4"))
        for key, word in {"src": "from", "dst": "to"}.items():
            if (found := self.after(word)) not in ("", "all"):
                told[key] = prefix(found, self.version)
        for key, word in {"iif": "iif", "fwmark": "fwmark"}.items():
            if found := self.after(word):
                told[key] = found
        if table := self.after("lookup"):
            told["table"] = TABLES.get(table) or int(table)
        return told

    def route(self) -> dict[str, Any]:
        """A line of ``ip route``."""
        told = {
            "dst": prefix(self.words[3], self.version),
            "table": int(self.after("table") or 254),
        }
        told |= {key: found for key in ("via", "dev", "src") if (found := self.after(key))}
        return told | {"scope": self.after("scope") or "universe"}

    def sysctl(self) -> list[str]:
        """A line of ``sysctl``: key and value."""
        return list(self.words[-1].split("="))


def said(lines: Iterable[str], what: str, *verbs: str, place: str = "") -> list[Said]:
    """The lines that are about ``what`` (rule, route, sysctl ...) with one of the verbs."""
    found = (Said(line) for line in lines)
    return [each for each in found if what in (each.what, each.tool) and
            (not verbs or each.verb in verbs) and place in ("", each.place)]  # fmt: skip


def rules(lines: Iterable[str], *verbs: str, place: str = NODE) -> list[Told]:
    """The rules that lines add or delete."""
    return [each.rule() for each in said(lines, "rule", *verbs, place=place)]


def calls(lines: Iterable[str]) -> list[list[Any]]:
    """Rules added and deleted, in order."""
    return [[each.verb, each.rule()] for each in said(lines, "rule")]


# The model


class Node:
    """A node of the model with a pod's namespace; lines are run in it, and must succeed."""

    def __init__(self, *links: str) -> None:
        self.lab = Lab("vector", [NODE, POD])
        for name in links:
            self.lab.namespace(NODE).add_link(name, "ethernet", invented_mac(name))
            self.run([f"{NODE}$ ip link set {name} up"])

    def run(self, lines: Iterable[str]) -> None:
        """Run the lines; a VLAN device, which the model has none of, is made as an Ethernet one."""
        for line in lines:
            one = Said(line)
            if one.version == 6 or one.tool in ("ip6tables", "nft"):
                continue
            if one.after("type") == "vlan":
                device = self.lab.namespace(NODE).add_link(
                    one.after("name"), "ethernet", one.after("address")
                )
                assert device.name == one.after("name")
                continue
            if one.words[:3] == ["ip", "link", "del"] and one.words[3].startswith("vlan.eth."):
                self.lab.namespace(NODE).remove_link(self.lab.namespace(NODE).links[one.words[3]])
                continue
            done = self.lab.line(line)
            assert done.status == 0, f"{line}: {done.stderr}"

    def print(self, command: str) -> str:
        """What a listing prints on the node."""
        return self.lab.run(NODE, command).stdout

    def tables(self) -> dict[str, str]:
        """What ``host_lines`` looks at."""
        return {"nat": self.print("iptables-save -t nat"),
                "mangle": self.print("iptables-save -t mangle"),
                "rules": self.print("ip rule show")}  # fmt: skip


def rules_listing(given: Iterable[Mapping[str, Any]]) -> str:
    """Rules of a vector as ``ip rule show`` prints them."""
    rows = []
    for each in given:
        to = f" to {_bare(each['dst'])}" if "dst" in each else ""
        selector = f"from {_bare(each.get('src'))}{to}"
        rows.append(text.rule(each.get("priority", 32765), selector, each["table"]))
    return "\n".join(rows)


def _bare(net: str | None) -> str:
    return text.shown(ip_network(net, strict=False)) if net else "all"


# Names and numbers


def route_table_number(given: Given) -> Given:
    return {"table": names.route_table(given["device_number"], given.get("network_card", 0))}


def route_table_number_legacy(given: Given) -> Given:
    table = names.legacy_route_table(
        given["device_number"], given["network_card"], given["max_enis_per_card"]
    )
    return {"table": table}


def subnet_gateway(given: Given) -> Given:
    """A subnet's gateway, and the step from its base to there."""
    if "ip" in given:
        return {"ip": str(names.next_address(ip_address(given["ip"])))}
    return {"gateway": str(names.subnet_gateway(ip_network(given["subnet_cidr"], strict=False)))}


def veth_name(given: Given) -> Given:
    index = given.get("index", 0)
    veth = names.host_veth(given["namespace"], given["pod"], given["prefix"], index)
    return {"host_veth": veth, "container_if": names.pod_interface(index)}


def veth_name_suffix(given: Given) -> Given:
    index = given.get("index", 0)
    return {"suffix": names.veth_suffix(given["namespace"], given["pod"], index)}


def veth_prefix(given: Given) -> Given:
    mode, branch = given["pod_sg_enforcing_mode"], given.get("branch_eni_pod", True)
    return {"prefix": names.veth_prefix(given["veth_prefix"], mode, branch=branch)}


def vlan_name(given: Given) -> Given:
    vlan_id = given["vlan_id"]
    return {"link": names.vlan_link(vlan_id), "table": names.vlan_table(vlan_id)}


# Settings


def env_parsing(given: Given) -> Given:
    """What is read of the variables a vector names: prefixes, a mode, or another value."""
    env = {name: value for name, value in given["env"].items() if value is not None}
    told: dict[str, Any] = {}
    for name in given["env"]:
        value = getattr(parse(env), VARIABLES[name].name)
        if isinstance(value, tuple):
            told["cidrs"] = [str(net) for net in value]
        else:
            told |= {"value": value, "mode": value}
    return told


def mtu(given: Given) -> Given:
    told: dict[str, Any] = {}
    if "env" in given:
        settings = parse({name: value for name, value in given["env"].items() if value is not None})
        told = {"eni_mtu": settings.eni_mtu, "pod_mtu": settings.pod_mtu}
    if "conflist_mtu" in given:
        told["pod_mtu"] = pod_mtu(given["conflist_mtu"])
    return told


def config_valid(given: Given) -> Given:
    env = {name: str(value).lower() for name, value in given.items() if name in VARIABLES}
    env["AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG"] = str(given.get("custom_networking", False)).lower()
    return {"valid": not config_refusal(parse(env), prefixes=given.get("nitro", True))}


def cni_netconf(given: Given) -> Given:
    try:
        found = netconf(given["conflist_plugin"])
    except EkslearnError as error:
        return {"error": str(error)}
    return {"mtu": found["mtu"], "veth_prefix": found["vethPrefix"],
            "pod_sg_enforcing_mode": found["podSGEnforcingMode"], "error": None}  # fmt: skip


def iptables_mode(given: Given) -> Given:
    chosen = connmark_backend(given["iptables_version_output"])
    mode, backend = {"iptables": ("legacy", "iptables"), "nft": ("nf_tables", "nftables")}[chosen]
    return {"mode": mode, "connmark_backend": backend}


# The host


def host_settings(given: Given) -> Settings:
    """The settings a vector of the host names."""
    nets = tuple(ip_network(cidr) for cidr in given.get("exclude_snat_cidrs", ()))
    return Settings(
        external_snat=given.get("external_snat", False),
        exclude_snat_cidrs=nets,
        node_port_support=given.get("node_port_support", True),
        enable_pod_eni=given.get("enable_pod_eni", False),
        enforcing_mode=given.get("pod_sg_enforcing_mode", "strict"),
        enable_ipv6=given.get("ipv6_cluster", False),
        enable_v6_egress=given.get("enable_v6_egress", False),
        connmark=int(str(given.get("connmark", "0x80")), 0),
        veth_prefix=given.get("veth_prefix", "eni"),
        randomize_snat=given.get("randomize_snat", "prng"),
        eni_mtu=given.get("mtu", 9001),
    )


def set_up(node: Node, given: Given, **seen: str) -> list[str]:
    """The lines of SetupHostNetwork for a vector, on what ``node`` has; run there."""
    cidrs = [ip_network(cidr) for cidr in given.get("vpc_cidrs", ["10.0.0.0/16"])]
    lines = host_lines(
        NODE, given.get("primary_if", "lo"), given.get("primary_ip", "10.0.0.1"),
        cidrs, host_settings(given),
        backend=BACKENDS.get(given.get("connmark_backend", "iptables"), "iptables"),
        **{**node.tables(), **seen},
    )  # fmt: skip
    node.run(lines)
    return lines


def host_ip_rules(given: Given) -> Given:
    """Of a node on which the rule of an earlier run and that of the kernel are there."""
    mark = f"{int(given.get('connmark', '0x80'), 0):#x}"
    seen = f"0: from all lookup local\n1024: from all fwmark {mark}/{mark} lookup main\n"
    node = Node()
    node.run([f"{NODE}$ {text.add(rule)}" for rule in text.rules_in(seen)[1:]])
    return {"calls": calls(set_up(node, given, rules=seen))}


class Written:
    """Rules as somebody wrote them, found again by what iptables makes of them."""

    def __init__(self) -> None:
        self.tokens: dict[tuple[str, ChainRule], list[str]] = {}

    def note(self, line: str) -> None:
        """Remember what a line of iptables (or ip6tables) writes."""
        one = Said(line)
        if one.tool == "iptables":
            read = read_line(one.words[1:])
            for rule in read.rules:
                at = next(i for i, word in enumerate(one.words) if word == read.chain)
                first = at + 1 + (one.words[at - 1] == "-I" and one.words[at + 1].isdigit())
                self.tokens.setdefault((read.table, rule), one.words[first:])

    def all_of(self, node: Node) -> dict[str, dict[str, list[list[str]]]]:
        """Table, chain and rules of the node, each rule as it was written."""
        tables = node.lab.namespace(NODE).netfilter.tables
        return {table: {name: [self.tokens[table, rule] for rule in chain.rules]
                        for name, chain in chains.items()}
                for table, chains in tables.items()}  # fmt: skip


class Chains(Told):
    """Table, chain and rules; a built-in chain without rules may be left out on either side."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and self._full(self) == self._full(other)

    @staticmethod
    def _full(tables: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
        return {(table, name): rules for table, chains in tables.items()
                for name, rules in chains.items() if rules or name.startswith("AWS-")}  # fmt: skip


OPERATIONS = {"append": "-A {chain} {rule}", "insert": "-I {chain} {pos} {rule}",
              "delete": "-D {chain} {rule}", "new_chain": "-N {chain}",
              "clear_chain": "-F {chain}", "delete_chain": "-X {chain}"}  # fmt: skip


def existing(node: Node, operations: Iterable[Mapping[str, Any]]) -> list[str]:
    """Operations of a vector as lines, run; a chain that is jumped to has to be there first."""
    lines = []
    for each in operations:
        fields = {"pos": 1, **each, "rule": shlex.join(each.get("rule", ()))}
        chains = node.lab.namespace(NODE).netfilter.tables.get(each["table"], {})
        goal = each.get("rule", ["", ""])[-1]
        if goal.startswith("AWS-") and goal not in chains:
            node.run([f"{NODE}$ iptables -t {each['table']} -N {goal}"])
        lines.append(
            f"{NODE}$ iptables -t {each['table']} {OPERATIONS[each['op']].format(**fields)}"
        )
        node.run(lines[-1:])
    return lines


def host_iptables(given: Given) -> Given:
    """Lines run on the model; of ip6tables, which it hasn't, the rules are read.

    Where a vector's test puts a mock in the place of the connmark back end, so does this.
    """
    node, written, asked = Node(), Written(), list[str]()
    real = connmark

    def mock(nat: Table, exempt: Any, settings: Settings, backend: str, nft: str) -> None:
        scratch = Table("nat", "", [])
        real(scratch, [ip_network("192.0.2.0/24")], settings, backend, nft)
        asked.append("Setup" if CONNMARK in scratch.chains else "Cleanup")

    mocked = given.get("connmark_backend") not in BACKENDS
    lines = existing(node, given.get("existing", ()))
    with patch("ekslearn.cni.node.connmark", mock) if mocked else nullcontext():
        for _ in range(given.get("repeat", 1)):
            lines += set_up(node, given)
    if given.get("then") == "CleanUpStaleAWSChains":
        node.run(stale_chain_lines(NODE, node.tables()["nat"]))
    for line in lines:
        written.note(line)
    tables = written.all_of(node)
    for one in said(lines, "ip6tables"):
        chain = tables.setdefault(one.after("-t"), {}).setdefault(one.after("-I"), [])
        chain.insert(0, one.words[one.words.index("-I") + 3 :])
    user = {table: sorted(name for name in chains if name.startswith("AWS-"))
            for table, chains in tables.items()}  # fmt: skip
    return {
        "rules": Chains(tables), "connmark_call": asked[-1] if asked else None,
        "user_chains": {table: chains for table, chains in user.items() if chains},
        "all": [[table, name, rule] for table, chains in tables.items()
                for name, rules in chains.items() for rule in rules],
    }  # fmt: skip


class Cidrs(Told):
    """``contains`` and ``absent`` of a vector, asked of the CIDRs that are there."""

    def __eq__(self, other: object) -> bool:
        there = self["there"]
        return isinstance(other, dict) and set(other) <= {"contains", "absent"} and \
            all(each in there for each in other.get("contains", ())) and \
            not any(each in there for each in other.get("absent", ()))  # fmt: skip


def host_iptables_connmark(given: Given) -> Given:
    node, after = Node(), []
    for cidrs in given["calls"]:
        table = Table("nat", node.tables()["nat"], [])
        nets = [ip_network(cidr) for cidr in cidrs]
        try:
            connmark(table, nets, host_settings(given), BACKENDS[given["backend"]], "")
        except EkslearnError as error:
            return {"error": str(error), "after": after}
        node.run(f"{NODE}$ {command}" for command in table.commands)
        rows = node.print(f"iptables -t nat -S {CONNMARK}")
        there = re.findall(r"-d (\S+) .*-j RETURN", rows)
        after.append(Cidrs(there=there))
    return {"after": after, "error": None}


class NftTable:
    """What lines of ``nft`` make of an empty machine, and its ``nft list ruleset``."""

    def __init__(self) -> None:
        self.name = ""
        self.chains: dict[str, list[str]] = {}

    def run(self, command: str) -> None:
        """One command: the verbs the CNI needs."""
        _, verb, what, *rest = shlex.split(command)
        table, rest = " ".join(rest[:2]), rest[2:]
        if (verb, what) == ("delete", "table"):
            self.name, self.chains = "", {}
        elif what == "table":
            self.name = table
        elif (verb, what) == ("add", "chain"):
            self.chains[rest[0]] = [rest[1].strip("{} ")] if rest[1:] else []
        elif what == "chain":
            assert verb == "flush", command
            self.chains[rest[0]] = [row for row in self.chains[rest[0]] if row.startswith("type ")]
        else:
            assert (verb, what) == ("add", "rule"), command
            self.chains[rest[0]].append(rest[1])

    def listing(self) -> str:
        """As nft 1.0.6 prints it."""
        text_ = "\n".join(f"\tchain {name} {{\n" + "".join(f"\t\t{row}\n" for row in rows) + "\t}\n"
                          for name, rows in self.chains.items())  # fmt: skip
        text_ = re.sub(r"counter(?= )", "counter packets 0 bytes 0", text_)
        text_ = re.sub(r"(?<=[&|] )0x([0-9a-f]+)", lambda m: f"0x{m[1]:>08}", text_)
        text_ = text_.replace("priority -90", "priority dstnat + 10")
        return f"table {self.name} {{\n{text_}}}\n" if self.name else ""

    def rules(self, chain: str) -> list[str]:
        """The rules of a chain, without its hook."""
        return [row for row in self.chains.get(chain, []) if not row.startswith("type ")]


def host_nftables_connmark(given: Given) -> Given:
    nft, node = NftTable(), Node()
    for cidrs in given["calls"]:
        table = Table("nat", node.tables()["nat"], [])
        nets = [ip_network(cidr) for cidr in cidrs]
        try:
            connmark(table, nets, host_settings(given), BACKENDS[given["backend"]], nft.listing())
        except EkslearnError as error:
            return {"error": str(error)}
        for command in table.commands:
            if command.startswith("nft "):
                nft.run(command)
            else:
                node.run([f"{NODE}$ {command}"])
    base, marks = list(nft.chains)
    order = []
    for rule in nft.rules(base):
        plain = rule.replace("counter ", "").replace('"', "")
        restores = re.fullmatch(r"meta mark set ct mark & 0x[0-9a-f]+", plain)
        order.append("restore ct mark to fwmark" if restores else plain)
    returns = [found[1] for rule in nft.rules(marks)
               if (found := re.search(r"ip daddr (\S+) return", rule))]  # fmt: skip
    return {
        "table": nft.name, "base_chain": base, "base_chain_rule_order": order, "chain": marks,
        "base_chain_rule_count": len(order), "snat_mark_rule_count": len(nft.rules(marks)),
        "return_cidrs_any_order": [prefix(each, 4) for each in returns], "error": None,
    }  # fmt: skip


def snat_random_flag(given: Given) -> Given:
    """What stands behind the address of the SNAT rule, on the model."""
    node, env = Node(), "AWS_VPC_K8S_CNI_RANDOMIZESNAT"
    settings = parse({env: given[env]} if given.get(env) is not None else {})
    cidrs = [ip_network("10.0.0.0/16")]
    node.run(snat_update_lines(
        NODE, "lo", "10.0.0.1", cidrs, settings, backend="iptables",
        random_fully=given["iptables_has_random_fully"],
    ))  # fmt: skip
    rule = next(row for row in node.print("iptables-save -t nat").splitlines() if "SNAT --" in row)
    return {"flags": rule.split()[rule.split().index("--to-source") + 2 :]}


def external_service_cidr_rules(given: Given) -> Given:
    settings = parse({"AWS_EXTERNAL_SERVICE_CIDRS": ",".join(given["AWS_EXTERNAL_SERVICE_CIDRS"])})
    node = Node()
    listing = rules_listing(given["existing"])
    node.run(f"{NODE}$ {text.add(rule)}" for rule in text.rules_in(listing))
    lines = startup_rule_lines(NODE, [], node.print("ip rule show"), settings)
    node.run(lines)
    return {"calls": calls(lines)}


def update_rules_by_src(given: Given) -> Given:
    """A rule without priority in a vector has one that isn't told."""
    listing = rules_listing(given["rules"])
    told = calls(startup_rule_lines(NODE, [given["src"]], listing, Settings()))
    for verb, rule in told:
        if verb == "del" and not any("priority" in each for each in given["rules"]):
            del rule["priority"]
    return {"calls": told}


# ENIs


def eni_setup(given: Given) -> Given:
    """The calls in words; what a listing must show for a deletion to be tried is there."""
    looks = 0
    mac = given.get("mac", HOST_MAC)

    def links() -> dict[str, str]:
        nonlocal looks
        looks += 1
        if given.get("link_list") == "always fails":
            raise EkslearnError("link list")
        return {"eth1": mac} if looks >= given.get("link_found_on_attempt", 1) else {}

    try:
        interface = find_link(mac, links, lambda seconds: None)
    except EkslearnError:
        return {"error": True, "link_list_attempts": looks}
    table = names.route_table(given["device_number"], given["network_card"])
    try:
        subnet = ip_network(given.get("subnet", "10.0.0.0/16"))
        gateway = str(names.subnet_gateway(subnet))
        bits = text.gateway_routes(interface, gateway, table)
        rule = text.rule(text.FROM_ENI, f"from {given.get('eni_ip')}", table)
        lines = eni_lines(
            NODE, interface, primary_ip=given.get("eni_ip", "10.0.0.9"), subnet=str(subnet),
            table=table, mtu=given.get("mtu", 9001), trunk=given.get("trunk", False),
            routes="".join(f"{dst} {rest}\n" for dst, rest in bits),
            rules=rule if given.get("rule_already_configured") else "",
        )  # fmt: skip
    except EkslearnError as error:
        return {"error": str(error)}
    node = Node(interface)
    node.run(line for line in lines if f"table {table}" not in line or " route del " not in line)
    told = ["link_list" + (f" x{looks} (first without the device)" if looks > 1 else "")]
    found: dict[str, Any] = {}
    deleted: list[str] = []
    for one in map(Said, lines):
        told += eni_calls(one, table, deleted)
        if one.what == "rule":
            found["rule"] = one.rule()
    return {"calls": told, "error": None, **found}


def eni_calls(one: Said, table: int, deleted: list[str]) -> list[str]:
    """A line of an ENI's set-up in the words of the vectors; ``deleted`` notes its table's routes.

    A route that is deleted there is told with the one that takes its place.
    """
    if one.what == "link":
        return ["link_set_up" if one.words[-1] == "up" else f"link_set_mtu {one.after('mtu')}"]
    if one.what == "addr":
        return [f"addr_list inet{one.version}".rstrip("4"), f"addr_{one.verb} {one.words[3]}"]
    if one.what == "rule":
        return ["rule_add"]
    route = one.route()
    if one.verb == "del" and route["table"] == table:
        deleted.append(route["dst"])
        return []
    verb = "route_del+" * (route["dst"] in deleted) + f"route_{one.verb}"
    words = [verb, route["dst"]] + [f"{key} {route[key]}" for key in ("via", "src") if key in route]
    scope = [] if route["scope"] == "universe" else [f"scope {route['scope']}"]
    return [" ".join([*words, *scope, f"table {route['table']}"])]


# Pods


def pod_settings(given: Given) -> Settings:
    return Settings(
        pod_mtu=given.get("mtu", 9001), enable_pod_eni=True,
        enforcing_mode=given.get("pod_sg_enforcing_mode") or given.get("was_mode", "strict"),
    )  # fmt: skip


def renamed(lines: Iterable[str], given: Given) -> list[str]:
    """The lines with a vector's name of the host veth, which comes from no pod's name."""
    found = list(lines)
    added = [Said(line) for line in found if " type veth " in line]
    return [re.sub(rf"\b{added[0].words[3]}\b", given.get("host_veth", "eni0"), line)
            for line in found]  # fmt: skip


def table_of(given: Given) -> int:
    return int(given.get("route_table_id", names.route_table(given.get("device_number", 0))))


def pod_wiring(given: Given, **more: Any) -> list[str]:
    """A pod's lines, run on the model if they are of IPv4."""
    lines = pod_lines(
        NODE, POD, namespace="default", pod="pod", ip=str(ip_interface(given["ip"]).ip),
        table=table_of(given), host_mac=HOST_MAC, pod_mac=POD_MAC, settings=pod_settings(given),
        **more,
    )  # fmt: skip
    Node().run(lines)
    return renamed(lines, given)


def pod_netns(given: Given) -> Given:
    lines = pod_wiring(given, index=given["index"])
    veth = next(Said(line) for line in lines if " type veth " in line)
    neighbor = next(iter(said(lines, "neigh", place=POD)))
    mac = {HOST_MAC: "host veth MAC"}.get(neighbor.after("lladdr"), "another MAC")
    return {
        "routes_in_order": [[one.verb, one.route()] for one in said(lines, "route", place=POD)],
        "addr": next(one.words[3] for one in said(lines, "addr", place=POD)),
        "neighbor": {"ip": neighbor.words[3], "lladdr": mac, "state": neighbor.after("nud"),
                     "dev": neighbor.after("dev")},
        "container_mtu": int(veth.words[len(veth.words) - veth.words[::-1].index("mtu")]),
        "pod_netns_rules": rules(lines, "add", place=POD),
        "container_sysctls": [one.sysctl() for one in said(lines, "sysctl", place=POD)],
    }  # fmt: skip


def pod_setup(given: Given) -> Given:
    lines = pod_wiring(given)
    return {"routes": [one.route() for one in said(lines, "route", place=NODE)],
            "rules_added": rules(lines, "add")}  # fmt: skip


def listings(lines: Iterable[str]) -> dict[str, str]:
    """What ``ip rule show`` and ``ip route show table all`` print once lines have been run."""
    shown_rules, shown_routes = [], []
    for one in said(lines, "rule", "add", place=NODE):
        words = [word for word in one.words[3:] if word != "prio"]
        shown_rules.append(f"{words.pop()}: {' '.join(words)}")
    for one in said(lines, "route", "replace", place=NODE):
        shown_routes.append(" ".join(one.words[3:]))
    return {"rules": "\n".join(shown_rules), "routes": "\n".join(shown_routes)}


def pod_teardown(given: Given) -> Given:
    """Of a pod that was set up, and has its from-rule twice, as old releases left it."""
    seen = listings(pod_wiring(given))
    from_rules = [row for row in text.rules_in(seen["rules"]) if row.startswith("1536: ")]
    seen["rules"] = "\n".join([seen["rules"], *from_rules])
    ip = str(ip_interface(given["ip"]).ip)
    lines = pod_gone_lines(NODE, ip=ip, table=table_of(given), **seen)
    deleted = rules(lines, "del")
    left = [rule for rule in deleted if rule["priority"] == text.FROM_POD]
    once = [rule for at, rule in enumerate(deleted) if rule not in deleted[:at]]
    return {
        "rules_deleted": once,
        "routes_deleted": [one.route() for one in said(lines, "route", "del")],
        "from_rule_delete_until": "ENOENT" if len(left) == 2 else None,
    }  # fmt: skip


def branch_wiring(given: Given, **more: Any) -> list[str]:
    """A branch ENI's pod's lines, run on the model if they are of IPv4."""
    lines = branch_pod_lines(
        NODE, POD, namespace="default", pod="pod", ip=str(ip_interface(given["ip"]).ip),
        trunk="eth1", vlan_id=given["vlan_id"], eni_mac=given.get("eni_mac", HOST_MAC),
        gateway=given.get("subnet_gw", "192.168.120.1"), host_mac=HOST_MAC, pod_mac=POD_MAC,
        settings=pod_settings(given), **more,
    )  # fmt: skip
    if not more:
        Node("eth1").run(lines)
    return lines


def common(found: list[Told]) -> Told:
    """What the rules of a list have in common: what they were chosen by."""
    return Told({key: value for key, value in found[0].items()
                 if all(each.get(key) == value for each in found)})  # fmt: skip


def branch_pod_setup(given: Given) -> Given:
    """Also of a pod whose host veth has rules of an earlier pod of its name, in two tables."""
    first = branch_wiring(given)
    veth = next(Said(line) for line in first if " type veth " in line).words[3]
    old = [text.rule(text.VLAN, f"from all iif {veth}", table) for table in (111, 222)]
    again = branch_wiring(given, rules="\n".join(old))
    device = next(one for one in said(first, "link", "add") if one.after("type") == "vlan")
    name, lines = device.after("name"), renamed(first, given)
    routes = [one.route() for one in said(lines, "route", place=NODE)]
    return {
        "vlan_link": name,
        "table": next(route["table"] for route in routes if route["dev"] == name),
        "rules_deleted_first": [common(rules(renamed(again, given), "del"))],
        "routes": routes, "rules_added": rules(lines, "add"),
        "sysctls": [one.sysctl() for one in said(lines, "sysctl", place=NODE)
                    if name in one.command],
    }  # fmt: skip


def branch_pod_teardown(given: Given) -> Given:
    """The kernel's answers: how often a rule that is looked for was there, and then not.

    What is looked for is told by a node that has the rules of both modes, each twice.
    """
    ip, vlan_id = str(ip_interface(given["ip"]).ip), given["vlan_id"]
    link = names.vlan_link(vlan_id)

    def gone(modes: Iterable[str], times: int) -> list[str]:
        seen = [listings(branch_wiring({**given, "was_mode": mode})) for mode in modes]
        shown = {kind: "\n".join([each[kind] for each in seen] * times)
                 for kind in ("rules", "routes")}  # fmt: skip
        return branch_pod_gone_lines(NODE, ip=ip, vlan_id=vlan_id, links=[link], **shown)

    every, lines = gone(("strict", "standard"), 2), gone([given["was_mode"]], 1)
    deleted, attempts = rules(lines, "del"), []
    for priority in dict.fromkeys(rule["priority"] for rule in rules(every, "del")):
        alike = [rule for rule in rules(every, "del") if rule["priority"] == priority]
        count = sum(rule["priority"] == priority for rule in deleted)
        answers = ["ok"] * count + ["ENOENT"] * (len(alike) > 1 or not count)
        attempts.append({"rule": common(alike), "answers": answers})
    route = next(one.route() for one in said(every, "route", "del"))
    answer = "ok" if said(lines, "route", "del") else "ESRCH"
    return {
        "link_deleted": next(one.words[3] for one in said(lines, "link", "del")),
        "delete_attempts": attempts, "route_delete": {**route, "answer": answer}, "error": None,
    }  # fmt: skip


def vlan_routes(given: Given) -> Given:
    """The routes of a VLAN device, which a vector names by its index alone."""
    told = []
    for dst, rest in text.gateway_routes("vlan", given["gw"], given["table"]):
        command = text.ip_command(ip_address(given["gw"]).version)
        route = Said(f"{NODE}$ {command} route replace {dst} {rest}").route()
        told.append({key: value for key, value in route.items() if key != "dev"})
    return {"routes": told}


AREAS: dict[str, Handler] = {
    "branch-pod-setup": branch_pod_setup,
    "branch-pod-teardown": branch_pod_teardown,
    "cni-netconf": cni_netconf,
    "config-valid": config_valid,
    "eni-setup": eni_setup,
    "env-parsing": env_parsing,
    "external-service-cidr-rules": external_service_cidr_rules,
    "host-ip-rules": host_ip_rules,
    "host-iptables": host_iptables,
    "host-iptables-connmark": host_iptables_connmark,
    "host-nftables-connmark": host_nftables_connmark,
    "iptables-mode": iptables_mode,
    "mtu": mtu,
    "pod-netns": pod_netns,
    "pod-setup": pod_setup,
    "pod-teardown": pod_teardown,
    "route-table-number": route_table_number,
    "route-table-number-legacy": route_table_number_legacy,
    "snat-random-flag": snat_random_flag,
    "subnet-gateway": subnet_gateway,
    "update-rules-by-src": update_rules_by_src,
    "veth-name": veth_name,
    "veth-name-suffix": veth_name_suffix,
    "veth-prefix": veth_prefix,
    "vlan-name": vlan_name,
    "vlan-routes": vlan_routes,
}
