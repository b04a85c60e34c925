"""iptables to the letter: what the real one said, its own help, text and objects."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import ekslearn.iptables  # noqa: F401 (adds the commands to the tools)
from ekslearn.linux import NetworkNamespace, World
from ekslearn.linux import netfilter as nf
from ekslearn.tools import run
from tests.ground import ROOT
from tests.parity.iptables_text import commands, compare, disagreement, masked, model_run, restore
from tests.parity.real import Real
from tests.tools.iptables_cases import Case, asked, read

DATA = Path(__file__).parents[1] / "data"
EKS = (DATA / "eks-rules.txt").read_text(encoding="utf-8")


def fresh() -> NetworkNamespace:
    return NetworkNamespace(World(), "red")


def saved(namespace: NetworkNamespace) -> str:
    return run(namespace, "iptables-save").stdout


# What the real tool said


@pytest.mark.parametrize("case", read(), ids=lambda case: case.name)
def test_the_model_says_what_iptables_said(case: Case) -> None:
    namespace = fresh()
    for step, said in zip(case.steps, case.said, strict=True):
        out, err, status = model_run(namespace, step)
        assert [masked(str(out)), err, status] == said, step


def test_the_real_iptables_still_says_it() -> None:
    cases = read()
    with Real() as real:
        for was, now in zip(cases, asked(cases, real), strict=True):
            for step, old, new in zip(was.steps, was.said, now.said, strict=True):
                assert new == old, step


def test_random_commands_agree_with_the_real_iptables() -> None:
    with Real() as real:
        for seed in range(12):
            found = compare(seed, real)
            assert found is None, str(found)


def test_the_rules_of_a_node_are_read_and_printed_alike() -> None:
    with Real() as real:
        assert disagreement([restore(EKS)], real) is None
    namespace = fresh()
    assert run(namespace, "iptables-restore", stdin=EKS).status == 0
    rules = [line for line in EKS.splitlines() if line.startswith("-A")]
    assert [
        line for line in saved(namespace).splitlines() if line.startswith("-A")
    ] == sorted_as_saved(rules)


def sorted_as_saved(rules: list[str]) -> list[str]:
    """Chains that are the user's own come by name, behind the built-in ones."""
    own = [rule for rule in rules if rule.split()[1].startswith(("AWS", "KUBE"))]
    return [rule for rule in rules if rule not in own] + sorted(
        own, key=lambda rule: rule.split()[1]
    )


# Text and objects


@given(st.integers(0, 1 << 20))
@settings(max_examples=40, deadline=None)
def test_what_is_saved_is_restored(seed: int) -> None:
    namespace = fresh()
    for step in commands(seed, 25):
        model_run(namespace, step)
    text = saved(namespace)
    assume("x" * 29 not in text)  # -E gives a chain a name that iptables-restore refuses
    assume("--name a b" not in text)  # the blank in a list's name isn't quoted
    other = fresh()
    done = run(other, "iptables-restore", stdin=text)
    assert (done.stdout, done.stderr, done.status) == ("", "", 0)
    assert saved(other) == text
    for table, chains in namespace.netfilter.tables.items():
        for name, chain in chains.items():
            restored = other.netfilter.tables[table][name]
            assert restored.policy == chain.policy
            assert [masks_named(one) for one in restored.rules] == [
                masks_named(one) for one in chain.rules
            ]


def masks_named(rule: nf.ChainRule) -> nf.ChainRule:
    """The rule as iptables-save prints it: every mask of -m recent is there."""
    matches = (
        replace(one, masked=True) if isinstance(one, nf.Recent) else one for one in rule.matches
    )
    return replace(rule, matches=tuple(matches))


# Every option of the help texts


def help_sections() -> dict[str, str]:
    text = (DATA / "iptables_help.txt").read_text(encoding="utf-8")
    sections = re.split(r"(?m)^=== iptables (.*)\n", text)
    return dict(zip(sections[1::2], sections[2::2], strict=True))


def help_options() -> list[tuple[str, str]]:
    found = []
    for command, text in help_sections().items():
        words = re.findall(r"(?m)^(?:[\s\[\]!]|-\w,?)*?(--[a-z0-9-]+)|\[(--[a-z-]+)[\] ]", text)
        words += [("", word) for word in re.findall(r"^\s+(-\w)\b", text, flags=re.M)]
        words += [("", word) for word in re.findall(r"\s(-\w) ", text)] if command == "-h" else []
        found += [(command, a or b) for a, b in dict.fromkeys(words)]
    return found


ARGUMENTS = {
    "--ctstate": "NEW", "--state": "NEW", "--mode": "random", "--probability": "0.5",
    "--src-type": "LOCAL", "--dst-type": "LOCAL", "--comment": "x", "--source-port": "1",
    "--destination-port": "1", "--sport": "1", "--dport": "1", "--to-destination": "1.2.3.4",
    "--to-source": "1.2.3.4", "--to-ports": "5", "--reject-with": "tcp-reset",
    "--limit-iface-in": "", "--limit-iface-out": "", "--save-mark": "", "--restore-mark": "",
    "--random": "", "--random-fully": "", "--syn": "", "--persistent": "", "--set": "",
    "--rcheck": "", "--update": "", "--remove": "", "--reap": "", "--rsource": "", "--rdest": "",
}  # fmt: skip
BESIDE = {
    "--probability": "--mode random", "--mode": "--probability 0.5", "--random": "NEEDED",
    "--ctmask": "--save-mark", "--nfmask": "--save-mark", "--mask": "--save-mark",
    "--limit-iface-in": "--src-type LOCAL", "--limit-iface-out": "--src-type LOCAL",
    "--random-fully": "NEEDED", "--seconds": "--rcheck", "--reap": "--rcheck --seconds 5",
    "--name": "--set", "--rsource": "--set", "--rdest": "--set",
}  # fmt: skip
WHOLE = {
    "--append": "INPUT", "--check": "INPUT -p tcp", "--delete": "INPUT -p tcp", "--insert": "INPUT",
    "--replace": "INPUT 1", "--new": "C", "--policy": "INPUT DROP", "--rename-chain": "A B",
    "-A": "INPUT", "-C": "INPUT -p tcp", "-D": "INPUT -p tcp", "-I": "INPUT", "-R": "INPUT 1",
    "--set-counters": "1 2", "-c": "1 2", "--modprobe": "x",
    "-N": "C", "-P": "INPUT DROP", "-E": "A B", "--delete-chain": "A", "-X": "A",
}  # fmt: skip
RULE = {"p": "tcp", "s": "10.0.0.1", "d": "10.0.0.1", "i": "eth0", "o": "eth0", "j": "ACCEPT",
        "g": "A", "m": "tcp -p tcp", "t": "filter"}  # fmt: skip
LONG = {"--protocol": "p", "--source": "s", "--destination": "d", "--in-interface": "i",
        "--out-interface": "o", "--jump": "j", "--goto": "g", "--match": "m",
        "--table": "t"}  # fmt: skip


def line_for(command: str, option: str) -> str:
    """A command line that is good if only the option is honoured."""
    if command == "-h":
        letter = LONG.get(option, option.lstrip("-"))
        if letter in RULE:
            return f"iptables -A FORWARD {option} {RULE[letter]}"
        return f"iptables {option} {WHOLE.get(option, '')}" + (
            " -S" if option in ("--ipv4", "-4", "--ipv6", "-6", "--wait", "-w", "--exact", "-x")
            else " -L" if option in ("--numeric", "-n", "--line-numbers", "--verbose", "-v") else ""
        )  # fmt: skip
    flag, name, _ = command.split()
    needed = {"DNAT": "--to-destination 1.2.3.4", "SNAT": "--to-source 1.2.3.4"}.get(name, "")
    beside = BESIDE.get(option, "").replace("NEEDED", needed)
    if (name, option) == ("recent", "--mask"):
        option, beside = "--mask 255.0.0.0 --name", "--set"  # CONNMARK has another --mask
    table = "nat" if name in ("DNAT", "SNAT", "MASQUERADE") else "filter"
    chain = {"DNAT": "PREROUTING", "SNAT": "POSTROUTING", "MASQUERADE": "POSTROUTING"}
    protocol = f"-p {name if name in ('tcp', 'udp') else 'tcp'}"
    return (f"iptables -t {table} -A {chain.get(name, 'FORWARD')} {protocol} {flag} {name} "
            f"{beside} {option} {ARGUMENTS.get(option, '1')}")  # fmt: skip


@pytest.mark.parametrize(("command", "option"), help_options())
def test_each_option_in_the_help_is_honoured_or_refused_by_name(command: str, option: str) -> None:
    namespace = fresh()
    run(namespace, "iptables -N A")
    run(namespace, "iptables -A INPUT -p tcp")
    before = saved(namespace)
    done = run(namespace, line_for(command, option))
    if done.status == 125:
        assert "isn't modelled" in done.stderr and saved(namespace) == before
        return
    if option in ("--ipv6", "-6"):
        assert done.status == 2  # "Error", says the help
        return
    assert (done.stderr, done.status) == ("", 0)
    assert saved(namespace) != before or done.stdout or option in (
        "--check", "-C", "--modprobe", "--zero", "--flush", "-F",
    ) or "-j" in command  # fmt: skip


def test_the_help_has_all_that_iptables_has() -> None:
    assert len(help_options()) > 110
    assert len({command for command, _ in help_options()}) == 17


def test_what_is_refused_stands_in_not_modelled() -> None:
    text = (ROOT / "data" / "not-modelled.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([^`]+)`", text))
    for row in (
        (ROOT / "data" / "refused" / "iptables.txt").read_text(encoding="utf-8").splitlines()
    ):
        if row and row[0] != "#":
            kind, *words = row.split()
            dash = "-" if kind == "iptables:" else ""
            assert not {dash + word for word in words} - listed, row
