"""``iptables``, ``iptables-save`` and ``iptables-restore``: chains of rules as text, both ways.

Source: iptables 1.8.9 (nf_tables), xshared.c, xtables.c, nft.c and xtables-restore.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from ..linux import netfilter as nf
from ..linux.namespace import NetworkNamespace
from .iptables_line import PROTOCOLS, Line, check_chain_name, read_line
from .iptables_rows import MATCHES, TARGETS, Trouble, module_of, no, refuse, refused, target_name
from .words import Done

VERSION = "1.8.9 (nf_tables)"
NO_SUCH = "No chain/target/match by that name."
BAD_RULE = "Bad rule (does a matching rule exist in that chain?)."
# Where a target may stand: the table, and the hooks a packet may come from.
PLACES = {
    "DNAT": ("nat", ("PREROUTING", "OUTPUT")), "SNAT": ("nat", ("POSTROUTING", "INPUT")),
    "MASQUERADE": ("nat", ("POSTROUTING",)), "REJECT": ("filter", nf.BUILT_IN["filter"]),
}  # fmt: skip
JUMPS = 16  # how many chains a packet may be in at once (NFT_JUMP_STACK_SIZE)

Chains = dict[str, nf.Chain]
# Each kind of complaint: how it reads (``tool`` and ``name``, which is the tool with its version),
# and the exit status.
FORMS = {
    "usage": ("{name}: {text}\n{where}{advice}", 2), "bare": ("{text}{where}{advice}", 2),
    "plain": ("{tool}: {line}{text}\n", 1), "named": ("{name}: {text}\n", 1),
    "table": ("{name}: {text}\nPerhaps iptables or your kernel needs to be upgraded.\n", 3),
    "kernel": ("{name}: {at}{text}\n", 4),
}  # fmt: skip


def _told(trouble: Trouble, tool: str = "iptables", at: int = 0) -> Done:
    """A complaint as the tool prints it; ``at`` is the line iptables-restore has come to."""
    if trouble.kind == "version":
        known = f"{trouble.text} 1.8.9 (nf_tables) ;-)" if trouble.text == "Not" else ""
        return Done(known or f"iptables v{VERSION}\n")
    form, status = FORMS[trouble.kind]
    advice = f"Try `{tool} -h' or '{tool} --help' for more information.\n"
    return Done("", form.format(
        tool=tool, name=f"{tool} v{VERSION}", text=trouble.text, advice=advice,
        where=f"Error occurred at line: {at}\n" if at else "",
        line=f"line {at} failed: " if at else "", at=f"\nline {at}: " if at else " ",
    ), status)  # fmt: skip


# Text of rules


def rule_text(chain: str, rule: nf.ChainRule) -> str:
    """A rule as iptables-save prints it, ``-A CHAIN`` in front."""
    words = [f"-A {chain}"]
    words += [f"{no(m)}-s {m.net}" for m in rule.matches if isinstance(m, nf.Source)]
    words += [f"{no(m)}-d {m.net}" for m in rule.matches if isinstance(m, nf.Destination)]
    words += [f"{no(m)}-{m.way[0]} {m.name}" for m in rule.matches if isinstance(m, nf.Interface)]
    words += [f"{no(m)}-p {m.name}" for m in rule.matches if isinstance(m, nf.Protocol)]
    words += [f"-m {module} {MATCHES[module].text(group)}".rstrip(" ")
              for module, group in _modules(rule)]  # fmt: skip
    if rule.target:
        name = target_name(rule.target)
        words.append(f"-{'g' if rule.final else 'j'} {name}")
        if name in TARGETS and not isinstance(rule.target, nf.Jump):
            words.append(TARGETS[name].text(rule.target))
    return " ".join(filter(None, words))


def _modules(rule: nf.ChainRule) -> list[tuple[str, list[nf.Match]]]:
    """The extension matches, those printed behind one ``-m`` together."""
    found: list[tuple[str, list[nf.Match]]] = []
    for match in rule.matches:
        module = module_of(match)
        if found and found[-1][0] == module and module in ("tcp", "udp", "addrtype"):
            found[-1][1].append(match)
        elif module:
            found.append((module, [match]))
    return found


def _listed(rule: nf.ChainRule, numeric: bool) -> str:
    """A rule as a row of ``iptables -L``."""
    found = {type(match): match for match in rule.matches}
    protocol = found.get(nf.Protocol)
    name = protocol.name if isinstance(protocol, nf.Protocol) else "all"
    spoken = str(PROTOCOLS.get(name, 0)) if numeric else name
    text = f"{target_name(rule.target):<9} {_bang(protocol)}{spoken:<4} -- "
    for kind in (nf.Source, nf.Destination):
        match = found.get(kind)
        where = "0.0.0.0/0" if numeric else "anywhere"
        if isinstance(match, nf.Source | nf.Destination) and match.net.prefixlen:
            where = str(match.net).removesuffix("/32")
        text += f"{_bang(match)}{where:<19} "
    words = [MATCHES[module].listing(group, numeric) for module, group in _modules(rule)]
    words += ["[goto] "] * rule.final
    if target_name(rule.target) in TARGETS and not isinstance(rule.target, nf.Jump):
        words.append(TARGETS[target_name(rule.target)].listing(rule.target, numeric))
    return text + "".join(f" {word}" for word in words if word)


def _bang(match: nf.Match | None) -> str:
    return "!" if match and match.negated else " "


def _shown(chains: Chains, table: str) -> list[nf.Chain]:
    """Built-in chains in their order, used or not, then the user's by name."""
    own = sorted((chain for chain in chains.values() if not chain.policy), key=lambda c: c.name)
    return [chains.get(hook, nf.Chain(hook, "ACCEPT")) for hook in nf.BUILT_IN[table]] + own


def iptables_save(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``iptables-save [-t TABLE]``. The two comment lines bear no date: the model has none."""
    held = namespace.netfilter.tables
    if re.match(r"-t|--ta", " ".join(words)):
        table = words[1] if len(words) == 2 else words[0].removeprefix("-t")
        if table in refused()["table"]:
            refuse(f'the table "{table}"')
        if table not in nf.BUILT_IN:
            return Done(stderr=f"Table `{table}' does not exist\n", status=1)
        held = {table: held.get(table, {})}
    elif words:
        refuse(f'"iptables-save {words[0]}"')
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
    shown = _shown(chains, line.table)
    if line.chain is not None:
        shown = [chain for chain in shown if chain.name == line.chain]
        if not shown:
            raise Trouble(f"chain `{line.chain}' in table `{line.table}' is incompatible, use "
                          "'nft' tool.", "named")  # fmt: skip
    heads, blocks = [], []
    for chain in shown:
        rules = [(at, rule) for at, rule in enumerate(chain.rules, 1) if line.number in (0, at)]
        if line.command == "S":
            heads += [f"-P {chain.name} {chain.policy}" if chain.policy else f"-N {chain.name}"]
            blocks += [rule_text(chain.name, rule) + "\n" for _, rule in rules]
            continue
        uses = sum(name == chain.name for each in chains.values() for name in _jumps(each))
        about = f"policy {chain.policy}" if chain.policy else f"{uses} references"
        count = "num  " if "0" in line.given else ""
        head = f"Chain {chain.name} ({about})\n{count}target     prot opt source               " \
               "destination         \n"  # fmt: skip
        blocks.append("" if line.number else head)
        for at, rule in rules:
            blocks[-1] += (f"{at:<4} " if count else "") + _listed(rule, "n" in line.given) + "\n"
    if line.command == "L":
        return "\n".join(blocks)
    return "".join(head + "\n" for head in heads if not line.number) + "".join(blocks)


# Changes


def _jumps(chain: nf.Chain) -> Iterator[str]:
    return (rule.target.chain for rule in chain.rules if isinstance(rule.target, nf.Jump))


def _change(line: Line, chains: Chains) -> None:
    """Do to the chains of a table what a line says."""
    name, command = line.chain or "", line.command
    if command in "AIPF" and name in nf.BUILT_IN[line.table]:
        chains.setdefault(name, nf.Chain(name, "ACCEPT"))
    if command == "N":
        if name in chains or name in nf.BUILT_IN[line.table]:
            raise Trouble("Chain already exists.", "plain")
        chains[name] = nf.Chain(name)
    elif command == "P":
        if line.second not in ("ACCEPT", "DROP"):
            raise Trouble("Bad policy name. Run `dmesg' for more information.", "plain")
        if name not in nf.BUILT_IN[line.table]:
            raise Trouble("Bad built-in chain name.", "plain")
        chains[name].policy = line.second
    elif command == "E":
        _rename(chains, name, line.second, line.table)
    elif command in "CD" and not line.number:
        for rule in line.rules:
            if name not in chains or rule not in chains[name].rules:
                raise Trouble(BAD_RULE, "plain")
            if command == "D":
                chains[name].rules.remove(rule)
    elif line.chain is not None and name not in chains:
        raise Trouble(NO_SUCH, "plain")
    elif command == "F":
        for chain in [chains[name]] if name else chains.values():
            chain.rules.clear()
    elif command == "X":
        _delete(chains, name)
    else:
        _edit(line, chains, chains[name].rules)


def _rename(chains: Chains, old: str, new: str, table: str) -> None:
    if new in chains or new in nf.BUILT_IN[table]:
        raise Trouble("File exists.", "plain")
    if old in nf.BUILT_IN[table]:
        refuse("-E of a built-in chain")
    if old not in chains:
        raise Trouble(NO_SUCH, "plain")
    chains[new] = nf.Chain(new, "", chains.pop(old).rules)
    for chain in chains.values():
        chain.rules = [replace(rule, target=nf.Jump(new)) if rule.target == nf.Jump(old) else rule
                       for rule in chain.rules]  # fmt: skip


def _delete(chains: Chains, name: str) -> None:
    """-X: one chain, or all the user's and the built-in ones that do nothing."""
    if name and chains[name].policy == "DROP":
        raise Trouble("Directory not empty.", "plain")
    used = {target for chain in chains.values() for target in _jumps(chain)}
    for chain in [chains[name]] if name else sorted(chains.values(), key=lambda c: c.name):
        busy = bool(chain.rules) or chain.name in used
        if chain.policy and not name and (busy or chain.policy == "DROP"):
            continue
        if busy:
            text = f"CHAIN_DEL failed (Device or resource busy): chain {chain.name}"
            raise Trouble(text, "kernel")
        del chains[chain.name]


def _edit(line: Line, chains: Chains, rows: list[nf.ChainRule]) -> None:
    """-A, -I, -R, and -D of a number."""
    words = {"D": "deletion", "R": "replacement", "I": "insertion"}.get(line.command, "")
    if line.number > len(rows) + (line.command == "I"):
        raise Trouble(f"Index of {words} too big.", "plain")
    at = len(rows) if line.command == "A" else max(line.number - 1, 0)
    rows[at : at + (line.command in "DR")] = line.rules[:: -1 if line.command == "I" else 1]
    for rule in line.rules:
        problem = _objection(line, chains, rule)
        if problem:
            verb = {"A": "APPEND", "I": "INSERT", "R": "REPLACE"}[line.command]
            raise Trouble(f"RULE_{verb} failed ({problem}): rule in chain {line.chain}", "kernel")


def _objection(line: Line, chains: Chains, rule: nf.ChainRule) -> str:
    """Why the kernel doesn't take a new rule, already in ``chains``; empty if it does."""
    protocols = [m.name for m in rule.matches if isinstance(m, nf.Protocol) and not m.negated]
    limits = {"in": ("OUTPUT", "POSTROUTING"), "out": ("PREROUTING", "INPUT")}
    for match in rule.matches:
        everything = isinstance(match, nf.Source | nf.Destination) and match.net.prefixlen == 0
        portless = isinstance(match, nf.Port) and (match.low, match.high) == (0, 65535)
        if (everything and match.negated) or (portless and module_of(match) not in protocols) or (
            isinstance(match, nf.AddressType) and line.chain in limits.get(match.limit, ())
        ):  # fmt: skip
            return "Invalid argument"
    target, name = rule.target, target_name(rule.target)
    if isinstance(target, nf.Jump):
        if name in nf.BUILT_IN[line.table]:
            return "Operation not supported" if name in chains else "No such file or directory"
    elif name in PLACES and line.table != PLACES[name][0]:
        return "Invalid argument"
    if isinstance(target, nf.Reject) and target.code is None and "tcp" not in protocols:
        return "Invalid argument"
    ways = (_walk(chains, hook, (hook,)) for hook in nf.BUILT_IN[line.table] if hook in chains)
    return next(filter(None, ways), "")


def _walk(chains: Chains, hook: str, path: tuple[str, ...]) -> str:
    """What the kernel finds wrong on the ways a packet can take from ``hook``."""
    for rule in chains[path[-1]].rules:
        name = target_name(rule.target)
        if not isinstance(rule.target, nf.Jump):
            if name in PLACES and hook not in PLACES[name][1]:
                return "Invalid argument"
        elif name in path or len(path) == JUMPS:
            return "Too many links"
        elif name in chains and (problem := _walk(chains, hook, (*path, name))):
            return problem
    return ""


# Running


def _table(name: str) -> str:
    if name in refused()["table"]:
        refuse(f'the table "{name}"')
    if name not in nf.BUILT_IN:
        raise Trouble(f"table '{name}' does not exist", "table")
    return name


def _copied(namespace: NetworkNamespace, table: str) -> Chains:
    chains = namespace.netfilter.tables.get(table, {})
    return {name: replace(chain, rules=list(chain.rules)) for name, chain in chains.items()}


def _check_targets(line: Line, chains: Chains) -> None:
    for rule in line.rules:
        name = target_name(rule.target)
        if isinstance(rule.target, nf.Jump) and name not in (*chains, *nf.BUILT_IN[line.table]):
            raise Trouble(f"Chain '{name}' does not exist")


def _apply(line: Line, chains: Chains) -> str:
    if line.command in "LS":
        return _list(line, chains)
    _change(line, chains)
    return ""


def iptables(namespace: NetworkNamespace, words: list[str]) -> Done:
    """Run ``iptables`` with ``words``."""
    try:
        line = read_line(words)
        chains = _copied(namespace, _table(line.table))
        _check_targets(line, chains)
        shown = _apply(line, chains)
        makes = line.command not in "CDRLSXE" and (line.command != "F" or line.chain)
        if makes or line.table in namespace.netfilter.tables:
            namespace.netfilter.put(line.table, chains)
        return Done(shown)
    except Trouble as trouble:
        return _told(trouble)


def iptables_restore(namespace: NetworkNamespace, words: list[str], text: str) -> Done:
    """Run ``iptables-restore``, ``text`` being its standard input.

    All or nothing, table by table: a table is replaced by what stands between its name and
    COMMIT. ``-n`` (--noflush) keeps what is there.
    """
    for word in words:
        if word not in ("-n", "--noflush", "-w", "--wait"):
            refuse(f'"iptables-restore {word}"')
    kept = "-n" in words or "--noflush" in words
    table, at, out = "", 0, list[str]()
    chains: Chains = {}
    lines: list[tuple[int, Line]] = []
    for at, row in enumerate(text.splitlines(), 1):
        try:
            if not row or row[0] == "#":
                continue
            if table and row == "COMMIT":
                for _, line in lines:
                    _check_targets(line, chains)
                there = bool(chains) or (kept and table in namespace.netfilter.tables)
                _commit(lines, chains, out)
                there |= bool(chains)
                namespace.netfilter.put(table, chains if there else None)
                table, lines = "", []
            elif row[0] == "*" and not table:
                table = row[1:].strip()
                if table not in nf.BUILT_IN and table not in refused()["table"]:
                    raise Trouble(f"iptables-restore: line {at} table name '{table}' invalid")
                _table(table)
                chains = _copied(namespace, table) if kept else {}
            elif row[0] == ":" and table:
                _declare(row, chains, table, at)
            elif table:
                lines.append((at, read_line(_split(row), table)))
            else:
                return Done("".join(out), f"iptables-restore: line {at} failed\n", 1)
        except Trouble as trouble:
            done = _told(trouble, "iptables-restore", trouble.at or at)
            return replace(done, stdout="".join(out) + done.stdout)
    missing = f"iptables-restore: COMMIT expected at line {at + 1}\n" if table else ""
    return Done("".join(out), missing, int(bool(table)))


def _commit(lines: list[tuple[int, Line]], chains: Chains, out: list[str]) -> None:
    """Do what the lines of a table say; the kernel speaks last, as it gets all of them at once."""
    objection = None
    for at, line in lines:
        try:
            out.append(_apply(line, chains))
        except Trouble as trouble:
            trouble.at = at
            if trouble.kind != "kernel":
                raise
            objection = objection or trouble
    if objection:
        raise objection


def _declare(row: str, chains: Chains, table: str, at: int) -> None:
    """A line ":CHAIN POLICY [counters]": the chain is there, and empty."""
    name, policy, *_ = *row[1:].split(), "", ""
    if not name or not policy:
        what = "policy" if name else "chain name"
        raise Trouble(f"iptables-restore: line {at} {what} invalid")
    if name not in nf.BUILT_IN[table]:
        check_chain_name(name)
        chains[name] = nf.Chain(name)
        return
    chain = chains.setdefault(name, nf.Chain(name, "ACCEPT"))
    if policy in ("ACCEPT", "DROP"):
        chain.policy = policy
    elif policy != "-":
        raise Trouble("Bad policy name.", "plain")


def _split(row: str) -> list[str]:
    """The words of a line, as iptables-restore takes them apart (add_param_to_argv)."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|([^\s"]+)', re.sub(r"^\[\d+:\d+\]", "", row))
    return [plain or re.sub(r"\\(.)", r"\1", quoted) for quoted, plain in words]
