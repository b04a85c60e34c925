"""``iptables``, ``iptables-save`` and ``iptables-restore``: chains of rules as text, both ways.

Source: iptables 1.8.9 (nf_tables), xshared.c, xtables.c, nft.c and xtables-restore.c.
"""

from __future__ import annotations

import copy
import shlex
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from itertools import groupby, product
from typing import Any

from ..linux.namespace import NetworkNamespace
from ..linux.netfilter import (
    BUILT_IN,
    Chain,
    ChainRule,
    Destination,
    Interface,
    Jump,
    Match,
    Netfilter,
    Protocol,
    Reject,
    Source,
    Target,
    Translate,
    Verdict,
)  # fmt: skip
from .iptables_rows import MATCHES, TARGETS, VERSION, fail, module_of, target_name
from .words import Done, GaveUp, Words, ipv4

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17}
COMMANDS = {
    "append": "A", "check": "C", "delete": "D", "insert": "I", "replace": "R", "list": "L",
    "list-rules": "S", "flush": "F", "zero": "Z", "new-chain": "N", "delete-chain": "X",
    "policy": "P", "rename-chain": "E",
}  # fmt: skip
OPTIONS = {
    "protocol": "p", "proto": "p", "source": "s", "src": "s", "destination": "d", "dst": "d",
    "in-interface": "i", "out-interface": "o", "jump": "j", "goto": "g", "match": "m",
    "table": "t", "numeric": "n", "verbose": "v", "wait": "w", "ipv4": "4", "ipv6": "6",
    "fragments": "f", "exact": "x", "set-counters": "c", "version": "V", "help": "h",
    "line-numbers": "line-numbers", "modprobe": "modprobe",
}  # fmt: skip
REFUSED = {"v", "6", "f", "x", "c", "modprobe", "h", "Z"}
ARGUMENT = "ACDIRNPEpsdijgomt"
NO_SUCH = "No chain/target/match by that name."
BAD_RULE = "Bad rule (does a matching rule exist in that chain?)."
# The hooks a target may stand at: the kernel refuses it elsewhere.
HOOKS = {"DNAT": ("PREROUTING", "OUTPUT"), "SNAT": ("POSTROUTING", "INPUT"),
         "MASQUERADE": ("POSTROUTING",), "REJECT": ("INPUT", "FORWARD", "OUTPUT")}  # fmt: skip


@dataclass(slots=True)
class _Line:
    """A command line as it is read: what to do, where, and the parts of the rule."""

    command: str = ""
    table: str = "filter"
    names: list[str] = field(default_factory=list)
    numeric: bool = False
    numbered: bool = False
    nets: dict[str, tuple[bool, list[IPv4Network]]] = field(default_factory=dict)
    basic: dict[str, Match] = field(default_factory=dict)
    modules: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    target: str = ""
    goto: bool = False
    target_given: dict[str, Any] = field(default_factory=dict)


# Text of rules


def rule_text(chain: str, rule: ChainRule) -> str:
    """A rule as iptables-save prints it, ``-A CHAIN`` in front."""
    words = [f"-A {chain}"]
    for flag, kind in (("s", Source), ("d", Destination)):
        words += [f"{_no(m)}-{flag} {m.net}" for m in rule.matches if isinstance(m, kind)]
    for way in ("in", "out"):
        words += [f"{_no(m)}-{way[0]} {m.name}" for m in rule.matches
                  if isinstance(m, Interface) and m.way == way]  # fmt: skip
    words += [f"{_no(m)}-p {m.name}" for m in rule.matches if isinstance(m, Protocol)]
    for module, group in _modules(rule):
        words.append(f"-m {module}")
        words += [MATCHES[module].text(match) for match in group]
        words += [f"--limit-iface-{limit}" for limit in {getattr(m, "limit", "") for m in group}
                  if limit]  # fmt: skip
    return " ".join(words + _target_words(rule))


def _modules(rule: ChainRule) -> list[tuple[str, list[Match]]]:
    """The extension matches, those printed behind one ``-m`` together."""
    found = []
    for module, group in groupby(rule.matches, module_of):
        together = list(group)
        if module in ("tcp", "udp", "addrtype"):
            found.append((module, together))
        elif module:
            found += [(module, [match]) for match in together]
    return found


def _no(match: Match) -> str:
    return "! " if match.negated else ""


def _target_words(rule: ChainRule) -> list[str]:
    target = rule.target
    if target is None:
        return []
    if isinstance(target, Jump):
        return [f"-{'g' if rule.final else 'j'} {target.chain}"]
    if isinstance(target, Verdict):
        return [f"-j {target.name}"]
    name = target_name(target)
    return [word for word in (f"-j {name}", TARGETS[name].text(target)) if word]


def _save(namespace: NetworkNamespace, table: str) -> list[str]:
    chains = _sorted(namespace.netfilter.tables[table])
    lines = [f"*{table}"]
    lines += [f":{chain.name} {chain.policy or '-'} [0:0]" for chain in chains]
    lines += [rule_text(chain.name, rule) for chain in chains for rule in chain.rules]
    return [*lines, "COMMIT"]


def _sorted(chains: dict[str, Chain]) -> list[Chain]:
    """Built-in chains in their order, then the user's by name, as the nft back end lists them."""
    own = sorted((chain for chain in chains.values() if not chain.policy), key=lambda c: c.name)
    return [chain for chain in chains.values() if chain.policy] + own


def iptables_save(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``iptables-save [-t TABLE]``. The two comment lines bear no date: the model has none."""
    tables = list(namespace.netfilter.tables)
    if words[:1] in (["-t"], ["--table"]) and len(words) == 2:
        if words[1] not in BUILT_IN:
            return _unknown_table(words[1], "iptables-save")
        tables = [table for table in tables if table == words[1]]
    elif words:
        Words([], "iptables-save").refuse(f'the option "{words[0]}"')
    out = []
    for table in tables:
        out += [f"# Generated by iptables-save {VERSION}", *_save(namespace, table), "# Completed"]
    return Done("".join(line + "\n" for line in out))


# Reading a command line


def _split(words: list[str]) -> list[str]:
    """Take clusters apart: "-nL" becomes -n -L, "-tnat" -t nat."""
    out: list[str] = []
    for word in words:
        if not word.startswith("-") or word.startswith("--") or len(word) <= 2:
            out.append(word)
            continue
        for at, letter in enumerate(word[1:], start=1):
            out.append(f"-{letter}")
            if letter in ARGUMENT and word[at + 1 :]:
                out.append(word[at + 1 :])
                break
    return out


def _read(words: list[str], table: str) -> _Line:
    line, queue, no = _Line(table=table), _split(words), False

    def argument(option: str) -> str:
        if not queue:
            raise fail(f'option "{option}" requires an argument')
        return queue.pop(0)

    while queue:
        word = queue.pop(0)
        if word == "!":
            no = True
            continue
        if not word.startswith("-"):
            raise GaveUp(f"Bad argument `{word}'\nTry `iptables -h' or 'iptables --help' for more "
                         "information.\n", 2)  # fmt: skip
        name = word.lstrip("-")
        letter = name if not word.startswith("--") else \
            COMMANDS.get(name, OPTIONS.get(name, ""))  # fmt: skip
        if letter in REFUSED:
            Words([], "iptables").refuse(word)
        if letter in COMMANDS.values():
            if line.command:
                raise fail(f"Cannot use -{letter} with -{line.command}\n")
            line.command = letter
            line.names = [argument(word)] if letter in "ACDIRNPE" else []
            while letter not in "AC" and queue and not queue[0].startswith("-") and queue[0] != "!":
                line.names.append(queue.pop(0))
        elif letter in OPTIONS.values():
            _option(line, letter, no, argument, word)
        elif not _extension_option(line, word, no, argument):
            if word in ("--icmp-type", "--tcp-flags", "--syn", "--tcp-option", "--persistent"):
                Words([], "iptables").refuse(word)
            raise fail(f'unknown option "{word}"')
        no = False
    return line


def _option(line: _Line, letter: str, no: bool, argument: Any, word: str) -> None:
    if letter in ("n", "w", "4"):
        line.numeric |= letter == "n"
    elif letter == "line-numbers":
        line.numbered = True
    elif letter == "t":
        line.table = argument(word)
    elif letter in "sd":
        if letter in line.nets:
            raise fail(f"multiple -{letter} flags not allowed")
        line.nets[letter] = no, [_net(part) for part in argument(word).split(",")]
    elif letter in "io":
        name = argument(word)
        if len(name) > 15:
            raise fail(f"interface name `{name}' must be shorter than IFNAMSIZ (15)")
        way = "in" if letter == "i" else "out"
        line.basic[letter] = Interface(name=name, way=way, negated=no)
    elif letter == "p":
        _protocol(line, argument(word), no)
    elif letter == "m":
        module = argument(word)
        if module not in MATCHES:
            _unknown_extension(module)
        line.modules.append((module, {}))
    elif letter in "jg":
        line.target, line.goto = argument(word), letter == "g"
    elif letter == "V":
        raise GaveUp("", 0, f"iptables {VERSION}\n")


def _protocol(line: _Line, name: str, no: bool) -> None:
    name = next((each for each, code in PROTOCOLS.items() if name == str(code)), name.lower())
    if name in ("all", "0"):
        return
    if name not in PROTOCOLS:
        if name.isdigit() or name in ("sctp", "udplite", "esp", "ah", "dccp", "gre", "igmp"):
            Words([], "iptables").refuse(f'"-p {name}"')
        raise fail(f'unknown protocol "{name}" specified')
    line.basic["p"] = Protocol(name=name, negated=no)


REAL_MATCHES = (
    "ah bpf cgroup cluster connbytes connlabel connlimit cpu dccp devgroup dscp ecn esp hashlimit "
    "helper icmp iprange ipvs length limit mac multiport nfacct osf owner physdev pkttype policy "
    "quota rateest realm recent rpfilter sctp set socket string tcpmss time tos ttl u32"
).split()
REAL_TARGETS = (
    "AUDIT CHECKSUM CLASSIFY CLUSTERIP CONNSECMARK CT DSCP ECN HMARK IDLETIMER LED LOG NETMAP "
    "NFLOG NFQUEUE NOTRACK RATEEST REDIRECT SECMARK SET SYNPROXY TCPMSS TCPOPTSTRIP TEE TOS TPROXY "
    "TRACE TTL ULOG QUEUE"
).split()


def _unknown_extension(module: str) -> None:
    if module in REAL_MATCHES:
        Words([], "iptables").refuse(f'"-m {module}"')
    raise fail(f"Couldn't load match `{module}':No such file or directory\n")


def _net(text: str) -> IPv4Network:
    base, slash, length = text.partition("/")
    address = ipv4(base)
    if address is None:
        raise fail(f"host/network `{base}' not found")
    try:
        return IPv4Network(f"{address}/{length if slash else 32}", strict=False)
    except ValueError:
        raise fail(f"invalid mask `{length}' specified") from None


def _extension_option(line: _Line, word: str, no: bool, argument: Any) -> bool:
    """Give an option to the extension that knows it, the last one named first."""
    protocol = line.basic.get("p")
    implied = protocol.name if isinstance(protocol, Protocol) and not protocol.negated else ""
    if line.target in TARGETS and word in TARGETS[line.target].options:
        read = TARGETS[line.target].options[word]
        line.target_given[word] = read(argument(word)) if read else True
        return True
    loaded = [module for module, _ in line.modules]
    if implied in MATCHES and implied not in loaded and word in MATCHES[implied].options:
        line.modules.append((implied, {}))
    for module, given in reversed(line.modules):
        if word in MATCHES[module].options:
            read = MATCHES[module].options[word]
            given[word] = read(argument(word)) if read else True
            if no:
                given[f"!{word}"] = True
            return True
    return False


def _rules(line: _Line, chains: dict[str, Chain]) -> list[ChainRule]:
    """The rules a command line stands for: one, or several for -s A,B."""
    matches: list[Match] = [line.basic[key] for key in "iop" if key in line.basic]
    for module, given in line.modules:
        needs = MATCHES[module].needs
        if needs and needs not in given:
            raise fail(f'{module}: option "{needs}" must be specified\n')
        protocol = line.basic.get("p")
        if module in PROTOCOLS and getattr(protocol, "name", "") != module:
            raise fail(f"{module}: needs -p {module}", 2)
        matches += MATCHES[module].build(given)
    target = _target(line, chains)
    sources = line.nets.get("s", (False, [IPv4Network("0.0.0.0/0")]))
    goals = line.nets.get("d", (False, [IPv4Network("0.0.0.0/0")]))
    found = []
    for source, goal in product(sources[1], goals[1]):
        ends: list[Match] = []
        if source.prefixlen or sources[0]:
            ends.append(Source(net=source, negated=sources[0]))
        if goal.prefixlen or goals[0]:
            ends.append(Destination(net=goal, negated=goals[0]))
        found.append(ChainRule((*ends, *matches), target, line.goto))
    return found


def _target(line: _Line, chains: dict[str, Chain]) -> Target | None:
    name = line.target
    if not name:
        return None
    if name in ("ACCEPT", "DROP", "RETURN") and not line.goto:
        return Verdict(name)
    if name in TARGETS and not line.goto:
        extension = TARGETS[name]
        marks = name.endswith("MARK") and any("mark" in word for word in line.target_given)
        if extension.needs and not marks and extension.needs not in line.target_given:
            raise fail(f'{name}: option "{extension.needs}" must be specified\n')
        target: Target = extension.build(line.target_given)
        protocol = line.basic.get("p")
        if getattr(target, "port", 0) and getattr(protocol, "name", "") not in ("tcp", "udp"):
            raise fail("Need TCP, UDP, SCTP or DCCP with port specification")
        return target
    if name in chains and not chains[name].policy:
        return Jump(name)
    if name in REAL_TARGETS:
        Words([], "iptables").refuse(f'"-j {name}"')
    raise fail(f"Chain '{name}' does not exist")


def _check_place(chain: str, table: str, rules: list[ChainRule], line: _Line, verb: str) -> None:
    """What iptables and the kernel refuse at this chain."""
    for letter, hooks in (("i", ("OUTPUT", "POSTROUTING")), ("o", ("PREROUTING", "INPUT"))):
        if letter in line.basic and chain in hooks:
            raise fail(f"Can't use -{letter} with {chain}\n")
    for rule in rules:
        name = target_name(rule.target) if rule.target else ""
        protocol = getattr(line.basic.get("p"), "name", "")
        bad = chain in BUILT_IN[table] and name in HOOKS and chain not in HOOKS[name]
        bad |= isinstance(rule.target, Translate) and table != "nat"
        bad |= isinstance(rule.target, Reject) and table != "filter"
        bad |= isinstance(rule.target, Reject) and rule.target.code is None and protocol != "tcp"
        if bad:
            raise fail(f" RULE_{verb} failed (Invalid argument): rule in chain {chain}", 4)


# Commands


def iptables(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``iptables`` with ``words``."""
    try:
        return Done(_run(namespace, _read(words, "filter")))
    except GaveUp as stop:
        return stop.done


def _unknown_table(table: str, tool: str) -> Done:
    if table in ("raw", "security"):
        Words([], tool).refuse(f'the table "{table}"')
    text = f"{tool} {VERSION}: table '{table}' does not exist\n"
    return Done(stderr=f"{text}Perhaps iptables or your kernel needs to be upgraded.\n", status=3)


def _no_way(sentence: str, status: int = 1) -> GaveUp:
    return GaveUp(f"iptables: {sentence}\n", status)


def _run(namespace: NetworkNamespace, line: _Line) -> str:
    if not line.command:
        raise fail("no command specified")
    if line.table not in BUILT_IN:
        done = _unknown_table(line.table, "iptables")
        raise GaveUp(done.stderr, done.status)
    filters, table = namespace.netfilter, line.table
    if line.command in "LS" and table not in filters.tables:
        chains = {hook: Chain(hook, "ACCEPT") for hook in BUILT_IN[table]}
    else:
        chains = filters.table(table)
    if line.command in "LS":
        return _list(line, chains)
    chain = line.names[0] if line.names else ""
    if line.command in "ACDIR":
        _change(filters, line, chains, chain)
    elif line.command == "F":
        for each in _named(chains, chain):
            each.rules.clear()
    elif line.command == "N":
        _new_chain(chains, chain)
    elif line.command == "X":
        _delete_chains(filters, table, chains, chain)
    elif line.command == "P":
        if chain not in BUILT_IN[table]:
            raise _no_way("Bad built-in chain name.")
        if line.names[1:2] not in (["ACCEPT"], ["DROP"]):
            raise _no_way("Bad policy name. Run `dmesg' for more information.")
        chains[chain].policy = line.names[1]
    else:
        _rename(chains, *line.names)
    filters.activate(table)
    return ""


def _named(chains: dict[str, Chain], name: str) -> list[Chain]:
    if not name:
        return list(chains.values())
    if name not in chains:
        raise _no_way(NO_SUCH)
    return [chains[name]]


def _new_chain(chains: dict[str, Chain], name: str) -> None:
    if name in ("ACCEPT", "DROP", "RETURN", *TARGETS):
        raise fail("chain name may not clash with target name")
    if name.startswith("-"):
        raise fail("chain name not allowed to start with `-'")
    if len(name) > 28:
        raise fail(f"chain name `{name}' too long (must be under 29 chars)")
    if name in chains:
        raise _no_way("Chain already exists.")
    chains[name] = Chain(name)


def _delete_chains(filters: Netfilter, table: str, chains: dict[str, Chain], name: str) -> None:
    doomed = [each for each in _named(chains, name) if name or not each.policy]
    jumps = {target for source, target in filters.jumps(table)
             if name or source not in {each.name for each in doomed}}  # fmt: skip
    for each in doomed:
        if each.policy:
            Words([], "iptables").refuse("-X of a built-in chain")
        if each.name in jumps or each.rules:
            problem = f" CHAIN_DEL failed (Device or resource busy): chain {each.name}"
            raise fail(problem, 4)
    for each in doomed:
        del chains[each.name]


def _rename(chains: dict[str, Chain], old: str, new: str = "") -> None:
    if new in chains or not new:
        raise _no_way("File exists.")
    if old not in chains or chains[old].policy:
        raise _no_way(NO_SUCH)
    chain = chains.pop(old)
    chain.name = new
    chains[new] = chain
    for each in chains.values():
        each.rules = [
            ChainRule(rule.matches, Jump(new), rule.final) if rule.target == Jump(old) else rule
            for rule in each.rules
        ]


def _number(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise fail(f"Invalid rule number `{text}'")
    return int(text)


def _change(filters: Netfilter, line: _Line, chains: dict[str, Chain], name: str) -> None:
    command = line.command
    position = _number(line.names[1]) if len(line.names) > 1 else 0
    rules = _rules(line, chains)
    verb = {"A": "APPEND", "I": "INSERT", "R": "REPLACE"}.get(command, "DELETE")
    if name not in chains:
        raise _no_way(NO_SUCH)
    _check_place(name, line.table, rules, line, verb)
    rows = chains[name].rules
    before = list(rows)
    if command == "C" or (command == "D" and not position):
        for rule in rules:
            if rule not in rows:
                raise _no_way(BAD_RULE)
            if command == "D":
                rows.remove(rule)
        return
    words = {"D": "deletion", "R": "replacement", "I": "insertion"}.get(command, "")
    if position > len(rows) + (command == "I"):
        raise _no_way(f"Index of {words} too big.")
    if command == "D":
        del rows[position - 1]
    elif command == "R":
        rows[position - 1 : position] = rules[:1]
    else:
        at = len(rows) if command == "A" else max(position - 1, 0)
        rows[at:at] = rules if command == "A" else rules[::-1]
    if any(filters.loops(line.table, each) for each in _reachable(filters, line.table)):
        rows[:] = before
        raise fail(f" RULE_{verb} failed (Too many links): rule in chain {name}", 4)


def _reachable(filters: Netfilter, table: str) -> set[str]:
    """The chains a packet can come to: nft looks for loops only there."""
    reached, ahead = set[str](), list(BUILT_IN[table])
    while ahead:
        name = ahead.pop()
        for source, target in filters.jumps(table):
            if source == name and target not in reached:
                reached.add(target)
                ahead.append(target)
    return reached


# Listings


def _list(line: _Line, chains: dict[str, Chain]) -> str:
    ordered = _sorted(chains)
    number = _number(line.names[1]) if len(line.names) > 1 else 0
    if line.names:
        ordered = [chain for chain in ordered if chain.name == line.names[0]]
        if not ordered:
            raise fail(f"chain `{line.names[0]}' in table `{line.table}' is incompatible, use "
                       "'nft' tool.", 1)  # fmt: skip
    if line.command == "S":
        heads = [] if number else [
            f"-P {chain.name} {chain.policy}" if chain.policy else f"-N {chain.name}"
            for chain in ordered
        ]  # fmt: skip
        rules = [rule_text(chain.name, rule) for chain in ordered
                 for at, rule in enumerate(chain.rules, 1) if number in (0, at)]  # fmt: skip
        return "".join(text + "\n" for text in heads + rules)
    blocks = [_block(line, chains, chain, number) for chain in ordered]
    return "\n".join(blocks)


def _block(line: _Line, chains: dict[str, Chain], chain: Chain, number: int) -> str:
    references = sum(rule.target == Jump(chain.name) for each in chains.values()
                     for rule in each.rules)  # fmt: skip
    about = f"policy {chain.policy}" if chain.policy else f"{references} references"
    lines = [] if number else [
        f"Chain {chain.name} ({about})",
        ("num  " if line.numbered else "")
        + "target     prot opt source               destination         ",
    ]  # fmt: skip
    for at, rule in enumerate(chain.rules, 1):
        if number in (0, at):
            head = f"{at:<4} " if line.numbered else ""
            lines.append(head + _listed(rule, line.numeric))
    return "".join(text + "\n" for text in lines)


def _listed(rule: ChainRule, numeric: bool) -> str:
    target, protocol = rule.target, next((m for m in rule.matches if isinstance(m, Protocol)), None)
    name = ""
    if target is not None:
        name = target_name(target) or getattr(target, "chain", "") or getattr(target, "name", "")
    spoken = protocol.name if protocol else "all"
    if numeric:
        spoken = str(PROTOCOLS.get(spoken, 0))
    no = "!" if protocol and protocol.negated else " "
    text = f"{name:<9} {no}{spoken:<4} -- "
    for kind in (Source, Destination):
        match = next((m for m in rule.matches if isinstance(m, kind)), None)
        where = "0.0.0.0/0" if numeric else "anywhere"
        if match:
            net = match.net
            where = str(net.network_address) if net.prefixlen == 32 else str(net)
        text += f"{'!' if match and match.negated else ' '}{where:<19} "
    words = []
    for module, group in _modules(rule):
        spoken = " ".join(MATCHES[module].listing(match) for match in group)
        if module == "addrtype":
            limit = next((limit for m in group if (limit := getattr(m, "limit", ""))), "")
            spoken = f"ADDRTYPE match {spoken}" + (f" limit-{limit}" if limit else "")
        words.append(f"{module} {spoken}" if module in ("tcp", "udp") else spoken)
    if rule.final:
        words.append("[goto] ")
    if target is not None and target_name(target):
        words.append(TARGETS[target_name(target)].listing(target))
    return text + "".join(f" {word}" for word in words if word)


# Restore


def iptables_restore(namespace: NetworkNamespace, words: list[str], text: str) -> Done:
    """Run ``iptables-restore``, ``text`` being its standard input.

    All or nothing, table by table: a table named in the text is replaced by what stands there.
    ``-n`` (--noflush) keeps what is there.
    """
    keep = any(word in ("-n", "--noflush") for word in words)
    others = [word for word in words if word not in ("-n", "--noflush", "-w", "--wait")]
    if others:
        Words([], "iptables-restore").refuse(f'"{others[0]}"')
    fresh = Netfilter(namespace)
    fresh.tables = copy.deepcopy(namespace.netfilter.tables)
    table, at = "", 0
    for at, raw in enumerate(text.splitlines(), 1):
        row = raw.strip()
        if not row or row.startswith("#"):
            continue
        error = _restore_row(fresh, row, table, keep)
        if isinstance(error, Done):
            said = error.stderr.partition("\nTry")[0].replace("iptables ", "iptables-restore ", 1)
            said += f"\nError occurred at line: {at}\nTry `iptables-restore -h' or "
            said += "'iptables-restore --help' for more information.\n"
            return Done(stderr=said, status=error.status)
        table = error
    if table:
        return Done(stderr=f"iptables-restore: COMMIT expected at line {at + 1}\n", status=1)
    namespace.netfilter.tables = fresh.tables
    for name in fresh.tables:
        namespace.netfilter.activate(name)
    return Done()


def _restore_row(fresh: Netfilter, row: str, table: str, keep: bool) -> str | Done:
    """Take in one line; the table it leaves us in, or what is wrong with the line."""
    if row.startswith("*"):
        name = row[1:].strip()
        if name not in BUILT_IN:
            return _unknown_table(name, "iptables-restore")
        if not keep:
            fresh.tables.pop(name, None)
        fresh.table(name)
        return name
    if row == "COMMIT":
        return ""
    chains = fresh.table(table)
    if row.startswith(":"):
        name, policy = row[1:].split()[:2]
        if name in BUILT_IN[table]:
            chains[name].policy = policy if policy != "-" else chains[name].policy
        elif name in chains:
            chains[name].rules.clear()
        else:
            chains[name] = Chain(name)
        return table
    try:
        line = _read(shlex.split(row), table)
        if line.command not in ("A", "I", "D", "R"):
            raise fail(f'unknown option "-{line.command}"')
        _change(fresh, line, chains, line.names[0])
    except GaveUp as stop:
        return stop.done
    return table
