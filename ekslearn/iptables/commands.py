"""``iptables``, ``iptables-save`` and ``iptables-restore``: chains of rules as text, both ways.

Source: iptables 1.8.9 (nf_tables), xshared.c, xtables.c, nft.c and xtables-restore.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from ..linux import netfilter as nf
from ..linux.namespace import NetworkNamespace
from ..tools.words import Done
from .line import PROTOCOLS, Line, check_chain_name, check_table, read_line
from .rows import Trouble, listed, name_of, object_if, refuse, refused, saved

VERSION = "1.8.9 (nf_tables)"
NO_SUCH = "No chain/target/match by that name."
BAD_RULE = "Bad rule (does a matching rule exist in that chain?)."
# Where a target may stand: the table, and the hooks a packet may come from.
PLACES = {
    "DNAT": ("nat", ("PREROUTING", "OUTPUT")), "SNAT": ("nat", ("POSTROUTING", "INPUT")),
    "MASQUERADE": ("nat", ("POSTROUTING",)), "REJECT": ("filter", nf.BUILT_IN["filter"]),
}  # fmt: skip
COLUMNS = "target     prot opt source               destination         "
JUMPS = 16  # how many chains a packet may be in at once (NFT_JUMP_STACK_SIZE)

Chains = dict[str, nf.Chain]
# Each kind of complaint: how it reads (``tool`` and ``name``, which is the tool with its version),
# and the exit status.
FORMS = {
    "usage": ("{name}: {text}\n{where}{advice}", 2), "bare": ("{text}{where}{advice}", 2),
    "plain": ("{tool}: {line}{text}\n", 1), "named": ("{name}: {text}\n", 1),
    "table": ("{name}: {text}\nPerhaps iptables or your kernel needs to be upgraded.\n", 3),
    "kernel": ("{name}: {space}{text}\n", 4),
}  # fmt: skip


def _told(trouble: Trouble, tool: str = "iptables", at: int = 0) -> Done:
    """A complaint as the tool prints it; ``at`` is the line iptables-restore has come to."""
    if trouble.kind == "version":
        return Done(f"Not {VERSION} ;-)\n" if trouble.text else f"iptables v{VERSION}\n")
    form, status = FORMS[trouble.kind]
    first = trouble.kind == "kernel" and not at  # of several objections iptables tells the first
    advice = f"Try `{tool} -h' or '{tool} --help' for more information.\n"
    return Done("", form.format(
        tool=tool, name=f"{tool} v{VERSION}", advice=advice,
        text=trouble.text.partition("\n")[0] if first else trouble.text, space="" if at else " ",
        where=f"Error occurred at line: {at}\n" * bool(at), line=f"line {at} failed: " * bool(at),
    ), status)  # fmt: skip


# Text of rules


def rule_text(chain: str, rule: nf.ChainRule) -> str:
    """A rule as iptables-save prints it, ``-A CHAIN`` in front."""
    words = [f"-A {chain}"]
    for match in rule.matches:
        words += ["!"] * (match.negated and not name_of(match))
        if isinstance(match, nf.Network):
            words.append(f"-{match.side[0]} {match.net}")
        elif isinstance(match, nf.Interface):
            words.append(f"-{match.way[0]} {match.name}")
        elif isinstance(match, nf.Protocol):
            words.append(f"-p {match.name}")
    words += [f"-m {name_of(group[0])} {saved(group)}".strip(" ") for group in _groups(rule)]
    words += [f"-{'g' if rule.final else 'j'} {name_of(rule.target)}"] * (rule.target is not None)
    return " ".join([*words, *filter(None, (saved([target]) for target in _extension(rule)))])


def _groups(rule: nf.ChainRule) -> list[list[nf.Match]]:
    """The extension matches, those printed behind one ``-m`` together."""
    found: list[list[nf.Match]] = []
    for match in filter(name_of, rule.matches):
        ports = isinstance(match, nf.Port) and found and name_of(found[-1][0]) == name_of(match)
        if ports or (isinstance(match, nf.AddressType) and match.beside):
            found[-1].append(match)
        else:
            found.append([match])
    return found


def _extension(rule: nf.ChainRule) -> list[nf.Target]:
    """The target in a list, if it is one that has more to say than its name."""
    plain = rule.target is None or isinstance(rule.target, nf.Jump | nf.Verdict)
    return [] if plain or rule.target is None else [rule.target]


def _listed(rule: nf.ChainRule, numeric: bool) -> str:
    """A rule as a row of ``iptables -L``."""
    nets = dict.fromkeys(("source", "destination"), "0.0.0.0/0" if numeric else "anywhere")
    protocol, bangs = "all", dict[str, str]()
    for match in rule.matches:
        if isinstance(match, nf.Network):
            nets[match.side] = str(match.net).removesuffix("/32")
            bangs[match.side] = "!" if match.negated else " "
        elif isinstance(match, nf.Protocol):
            protocol, bangs["protocol"] = match.name, "!" if match.negated else " "
    if numeric:
        protocol = str(PROTOCOLS.get(protocol, 0))
    text = f"{name_of(rule.target):<9} {bangs.get('protocol', ' ')}{protocol:<4} -- "
    text += "".join(f"{bangs.get(side, ' ')}{net:<19} " for side, net in nets.items())
    text += "[goto] " * rule.final
    words = [listed(group, numeric) for group in _groups(rule)]
    words += [listed([target], numeric) for target in _extension(rule)]
    return text + "".join(f" {word}" for word in words if word)


def _shown(chains: Chains, table: str) -> list[nf.Chain]:
    """Built-in chains in their order, used or not, then the user's by name."""
    own = [chains[name] for name in sorted(chains) if not chains[name].policy]
    return [chains.get(hook, nf.Chain(hook, "ACCEPT")) for hook in nf.BUILT_IN[table]] + own


def iptables_save(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``iptables-save [-t TABLE]``. The two comment lines bear no date: the model has none."""
    tables = namespace.netfilter.tables
    held = {table: tables[table] for table in nf.BUILT_IN if table in tables}
    if words:
        if words[0] not in ("-t", "--table") or len(words) != 2 or words[1] in refused("table"):
            refuse(f'"iptables-save {" ".join(words)}"')
        if words[1] not in nf.BUILT_IN:
            return Done(stderr=f"Table `{words[1]}' does not exist\n", status=1)
        held = {words[1]: held.get(words[1], {})}
    lines = []
    for table, chains in held.items():
        shown = _shown(chains, table)
        lines += [f"# Generated by iptables-save v{VERSION}", f"*{table}"]
        lines += [f":{chain.name} {chain.policy or '-'} [0:0]" for chain in shown]
        lines += [rule_text(chain.name, rule) for chain in shown for rule in chain.rules]
        lines += ["COMMIT", "# Completed"]
    return Done("".join(line + "\n" for line in lines))


def _list(line: Line, chains: Chains) -> str:
    """What -L or -S prints."""
    shown = [chain for chain in _shown(chains, line.table) if line.chain in (None, chain.name)]
    object_if(not shown, f"chain `{line.chain}' in table `{line.table}' is incompatible, use 'nft' "
              "tool.", "named")  # fmt: skip
    numbered, heads, blocks = "0" in line.given, [""], []
    for chain in shown:
        rules = [(at, rule) for at, rule in enumerate(chain.rules, 1) if line.number in (0, at)]
        if line.command == "S":
            heads[0] += f"-P {chain.name} {chain.policy}\n" if chain.policy else \
                f"-N {chain.name}\n"  # fmt: skip
            blocks += [rule_text(chain.name, rule) + "\n" for _, rule in rules]
            continue
        uses = sum(name == chain.name for each in chains.values() for name in _jumps(each))
        about = f"policy {chain.policy}" if chain.policy else f"{uses} references"
        head = f"Chain {chain.name} ({about})\n{'num  ' * numbered}{COLUMNS}\n" * (not line.number)
        blocks.append(head + "".join(
            f"{at:<4} " * numbered + _listed(rule, "n" in line.given) + "\n" for at, rule in rules
        ))  # fmt: skip
    return "\n".join(blocks) if line.command == "L" else "".join(heads[line.number :] + blocks)


# Changes


def _jumps(chain: nf.Chain) -> Iterator[str]:
    return (rule.target.chain for rule in chain.rules if isinstance(rule.target, nf.Jump))


def _change(line: Line, chains: Chains, at_once: bool = True) -> None:
    """Do to the chains of a table what a line says; ``at_once``, so is the kernel's look at it."""
    name, command, built_in = line.chain or "", line.command, nf.BUILT_IN[line.table]
    if command == "P":
        object_if(line.second not in ("ACCEPT", "DROP"),
                  "Bad policy name. Run `dmesg' for more information.", "plain")  # fmt: skip
        object_if(name not in built_in, "Bad built-in chain name.", "plain")
    if command in "AIPF" and name in built_in:
        chains.setdefault(name, nf.Chain(name, "ACCEPT"))
    if command == "N":
        object_if(name in chains or name in built_in, "Chain already exists.", "plain")
        chains[name] = nf.Chain(name)
    elif command in "CD" and not line.number:
        for rule in line.rules:
            there = name in chains and rule in chains[name].rules
            object_if(not there, BAD_RULE, "plain")
            if command == "D":
                chains[name].rules.remove(rule)
    elif command == "E":
        object_if(line.second in (*chains, *built_in), "File exists.", "plain")
        if name in built_in:
            refuse("-E of a built-in chain")
        object_if(name not in chains, NO_SUCH, "plain")
        _rename(chains, name, line.second)
    else:
        object_if(line.chain is not None and name not in chains, NO_SUCH, "plain")
        if command == "P":
            chains[name].policy = line.second
        elif command == "F":
            for chain in [chains[name]] if name else chains.values():
                chain.rules.clear()
        elif command == "X":
            _delete(chains, name)
        else:
            _edit(line, chains, chains[name].rules, at_once)


def _rename(chains: Chains, old: str, new: str) -> None:
    chains[new] = replace(chains.pop(old), name=new)
    for chain in chains.values():
        chain.rules = [replace(rule, target=nf.Jump(new)) if rule.target == nf.Jump(old) else rule
                       for rule in chain.rules]  # fmt: skip


def _delete(chains: Chains, name: str) -> None:
    """-X: one chain, or all the user's and the built-in ones that do nothing."""
    object_if(name and chains[name].policy == "DROP", "Directory not empty.", "plain")
    used = {rule.target.chain for chain in chains.values() for rule in chain.rules
            if isinstance(rule.target, nf.Jump)}  # fmt: skip
    objections = []
    for each in [name] if name else sorted(chains):
        busy = bool(chains[each].rules) or each in used
        if busy and (name or not chains[each].policy):
            objections.append(f"CHAIN_DEL failed (Device or resource busy): chain {each}")
        if not busy and chains[each].policy != "DROP":
            del chains[each]
    object_if(objections, "\n".join(objections), "kernel")


def _edit(line: Line, chains: Chains, rows: list[nf.ChainRule], at_once: bool) -> None:
    """-A, -I, -R, and -D of a number."""
    verb, noun = {"A": ("APPEND", ""), "I": ("INSERT", "insertion"), "D": ("", "deletion"),
                  "R": ("REPLACE", "replacement")}[line.command]  # fmt: skip
    too_big = line.number > len(rows) + (line.command == "I")
    object_if(too_big, f"Index of {noun} too big.", "plain")
    before = list(rows) if at_once else rows
    at = len(rows) if line.command == "A" else max(line.number - 1, 0)
    rows[at : at + (line.command in "DR")] = line.rules[:: -1 if line.command == "I" else 1]
    for rule in line.rules:
        problem = _objection(line, chains, rule) or (at_once and _astray(line.table, chains))
        if problem:
            rows[:] = before
        text = f"RULE_{verb} failed ({problem}): rule in chain {line.chain}"
        object_if(problem, text, "kernel")


def _objection(line: Line, chains: Chains, rule: nf.ChainRule) -> str:
    """Why the kernel doesn't take a new rule for what it says itself; empty if it does."""
    protocols = [m.name for m in rule.matches if isinstance(m, nf.Protocol) and not m.negated]
    limits = {"in": ("OUTPUT", "POSTROUTING"), "out": ("PREROUTING", "INPUT")}
    for match in rule.matches:
        if (
            (isinstance(match, nf.Network) and match.negated and not match.net.prefixlen)
            or (isinstance(match, nf.Port) and (match.low, match.high) == (0, 65535)
                and match.protocol not in protocols)
            or (isinstance(match, nf.AddressType) and line.chain in limits.get(match.limit, ()))
            or (isinstance(match, nf.Recent) and (
                re.fullmatch(r"\.{0,2}|.*/.*", match.name, re.DOTALL)
                or (match.seconds and match.what in ("set", "remove"))))
        ):  # fmt: skip
            return "Invalid argument"
    target, name = rule.target, name_of(rule.target)
    if isinstance(target, nf.Jump):
        if name in nf.BUILT_IN[line.table]:
            return "Operation not supported" if name in chains else "No such file or directory"
    elif name in PLACES and line.table != PLACES[name][0]:
        return "Invalid argument"
    if isinstance(target, nf.Reject) and target.code is None and "tcp" not in protocols:
        return "Invalid argument"
    return ""


def _astray(table: str, chains: Chains) -> str:
    """What the kernel finds wrong on the ways a packet can take; empty if nothing."""
    ways = (_walk(chains, hook, (hook,)) for hook in nf.BUILT_IN[table] if hook in chains)
    return next(filter(None, ways), "")


def _walk(chains: Chains, hook: str, path: tuple[str, ...]) -> str:
    """What the kernel finds wrong on the ways a packet can take from ``hook``."""
    for rule in chains[path[-1]].rules:
        name = name_of(rule.target)
        if not isinstance(rule.target, nf.Jump):
            if name in PLACES and hook not in PLACES[name][1]:
                return "Invalid argument"
        elif name in path or len(path) == JUMPS:
            return "Too many links"
        elif name in chains and (problem := _walk(chains, hook, (*path, name))):
            return problem
    return ""


# Running


def _copied(chains: Chains) -> Chains:
    return {name: replace(chain, rules=list(chain.rules)) for name, chain in chains.items()}


def _check_targets(line: Line, chains: Chains) -> None:
    for rule in line.rules:
        name = name_of(rule.target)
        known = name in chains or name in nf.BUILT_IN[line.table]
        object_if(isinstance(rule.target, nf.Jump) and not known, f"Chain '{name}' does not exist")


def iptables(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``iptables`` with ``words``."""
    try:
        line = read_line(words)
        chains = _copied(namespace.netfilter.tables.get(line.table, {}))
        _check_targets(line, chains)
        if line.command in "LS":
            return Done(_list(line, chains))
        _change(line, chains)
        makes = line.command not in "CDRXE" and (line.command != "F" or line.chain)
        if makes or line.table in namespace.netfilter.tables:
            namespace.netfilter.put(line.table, chains)
        return Done()
    except Trouble as trouble:
        return _told(trouble)


def iptables_restore(namespace: NetworkNamespace, words: list[str], text: str) -> Done:
    """Run ``iptables-restore``, ``text`` being its standard input.

    All or nothing, table by table: a table is replaced by what stands between its name and
    COMMIT. ``-n`` (--noflush) keeps what is there; ``-c`` (--counters) takes those if all are 0.
    """
    options = re.sub(r"(?<!\S)(-w|--wait)( [^-!]\S*|=\S+)?(?!\S)", "", " ".join(words)).split()
    for word in options:
        if word not in ("-n", "--noflush", "-c", "--counters"):
            refuse(f'"iptables-restore {word}"')
    counted = re.search(r"(?m)^(?:\[(?!0:0\])|:(?!.* \[0:0\]$))", text)
    if counted and {"-c", "--counters"}.intersection(options):
        refuse("a counter that isn't [0:0]")
    kept, table, at = bool({"-n", "--noflush"}.intersection(options)), "", 0
    chains: Chains = {}
    lines: list[tuple[int, Line]] = []
    for at, row in enumerate(text.splitlines(), 1):
        try:
            if not row or row[0] == "#":
                continue
            if table and row == "COMMIT":
                held = kept and table in namespace.netfilter.tables
                there, chains = bool(chains) or held, _commit(lines, chains, held)
                there |= bool(chains)
                namespace.netfilter.put(table, chains if there else None, anew=not kept)
                table, lines = "", []
            elif row[0] == "*" and not table:
                table = row[1:].strip()
                if table not in nf.BUILT_IN and table not in refused("table"):
                    raise Trouble(f"iptables-restore: line {at} table name '{table}' invalid")
                check_table(table)
                chains = _copied(namespace.netfilter.tables.get(table, {})) if kept else {}
            elif row[0] == ":" and table:
                lines += _declare(row, chains, table, at)
            elif table:
                lines.append((at, read_line(_split(row), table)))
                if lines[-1][1].command in "LS":
                    refuse("listing within iptables-restore")
            else:
                return Done(stderr=f"iptables-restore: line {at} failed\n", status=1)
        except Trouble as trouble:
            return _told(trouble, "iptables-restore", trouble.at or at)
    missing = f"iptables-restore: COMMIT expected at line {at + 1}\n" if table else ""
    return Done("", missing, int(bool(table)))


def _commit(lines: list[tuple[int, Line]], chains: Chains, held: bool) -> Chains:
    """The chains, once the lines of a table are done; ``held`` if it keeps what was in it.

    Where lines only add, what is wrong with the ways of a packet stays wrong: if there is nothing
    at the end there never was. Else they are looked at line by line.
    """
    if lines and all(line.command in "AINPX" for _, line in lines):
        with suppress(Trouble):
            _play(lines, tried := _copied(chains), held, at_once=False)
            if not _astray(lines[0][1].table, tried):
                return tried
    _play(lines, chains, held, at_once=True)
    return chains


def _play(lines: list[tuple[int, Line]], chains: Chains, held: bool, at_once: bool) -> None:
    """Do what the lines of a table say, its policies last: till then -P just makes its chain.

    The kernel speaks after iptables, as it gets all of them at once.
    """
    objections: list[tuple[str, str]] = []  # the chain a line is about, and what is wrong
    gone: dict[str, int] = {}  # built-in chains that -X took away; their policies went with them
    policies = [row for row in lines if row[1].command == "P"]
    for number, (at, line) in enumerate([*lines, *policies]):
        before, name = set(chains) if line.command == "X" else set[str](), line.chain or ""
        if line.command == "P" and number < len(lines):
            if name in nf.BUILT_IN[line.table]:
                chains.setdefault(name, nf.Chain(name, "ACCEPT"))
            continue
        try:
            _check_targets(line, chains)
            if line.command != "P" or at > gone.get(name, 0):
                _change(line, chains, at_once)
            if line.command == "F" and (name or held):  # it takes back what is yet to be sent
                objections = [each for each in objections
                              if name not in ("", each[0]) or "RULE_" not in each[1]]  # fmt: skip
            gone |= dict.fromkeys(before - set(chains) if before else (), at)
        except Trouble as trouble:
            trouble.at = at * (trouble.kind == "plain")
            if trouble.kind != "kernel":
                raise
            objections += [(name, f"line {at}: {text}") for text in trouble.text.split("\n")]
    object_if(objections, "\n" + "\n".join(text for _, text in objections), "kernel")


def _declare(row: str, chains: Chains, table: str, at: int) -> list[tuple[int, Line]]:
    """A line ":CHAIN POLICY [counters]": the chain is there, and empty; its policy comes later."""
    name, policy, *_ = *row[1:].split(), "", ""
    what = "policy" if name else "chain name"
    object_if(not name or not policy, f"iptables-restore: line {at} {what} invalid")
    if name not in nf.BUILT_IN[table]:
        check_chain_name(name)
        chains[name] = nf.Chain(name)
        return []
    object_if(policy not in ("ACCEPT", "DROP", "-"), "Bad policy name.", "plain")
    chains.setdefault(name, nf.Chain(name, "ACCEPT"))
    return [] if policy == "-" else [(at, Line(table, "P", name, second=policy))]


def _split(row: str) -> list[str]:
    """The words of a line, as iptables-restore takes them apart (add_param_to_argv)."""
    row = re.sub(r"^\[\d+:\d+\]", "", row)
    words = re.findall(r'([^\s"]*)"((?:[^"\\]|\\.)*)"|([^\s"]+)', row)
    return [plain or before + re.sub(r"\\(.)", r"\1", quoted) for before, quoted, plain in words]
