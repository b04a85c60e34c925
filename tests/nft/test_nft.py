"""nft to the letter, and nothing accepted that isn't modelled; walks in nft's own words."""

from __future__ import annotations

import re

import pytest

import ekslearn.nft
from ekslearn.linux import NetworkNamespace, World
from ekslearn.linux import netfilter as nf
from ekslearn.nft.statements import read_rule
from ekslearn.tools import run
from tests.ground import ROOT
from tests.nft.labs import BESIDE, MARKED, node
from tests.nft.text import LIST, commands
from tests.parity.iptables_text import disagreement, play, restore
from tests.parity.real import Real, Step

CNI = [line.removeprefix("node$ ") for line in MARKED]
LISTED = """\
table ip aws-cni { # handle 1
	chain nat-prerouting { # handle 1
		type nat hook prerouting priority dstnat + 10; policy accept;
		fib daddr type local return # handle 3
		iifname "eni*" counter packets 0 bytes 0 jump snat-mark # handle 4
		counter packets 0 bytes 0 meta mark set ct mark & 0x00000080 # handle 5
	}

	chain snat-mark { # handle 2
		ip daddr 10.0.0.0/16 counter packets 0 bytes 0 return # handle 6
		counter packets 0 bytes 0 ct mark set ct mark | 0x00000080 # handle 7
	}
}
"""  # nft 1.0.6 on Debian 12, Linux 6.18


@pytest.fixture
def marked() -> NetworkNamespace:
    namespace = NetworkNamespace(World(), "node")
    for line in CNI:
        assert run(namespace, line).status == 0, line
    return namespace


def test_the_table_of_the_cni_is_listed_as_nft_lists_it(marked: NetworkNamespace) -> None:
    assert run(marked, "nft -a list table ip aws-cni").stdout == LISTED
    plain = re.sub(" # handle .*", "", LISTED)
    assert run(marked, "nft list table aws-cni").stdout == plain
    assert run(marked, "nft list ruleset").stdout == plain
    stateless = plain.replace(" packets 0 bytes 0", "")
    assert run(marked, "nft -s list table ip aws-cni").stdout == stateless
    assert run(marked, "nft list tables").stdout == "table ip aws-cni\n"


def test_a_rule_goes_by_its_number(marked: NetworkNamespace) -> None:
    run(marked, "nft delete rule ip aws-cni nat-prerouting handle 5")
    assert "meta mark" not in run(marked, "nft list ruleset").stdout
    done = run(marked, "nft list chain ip aws-cni nosuch")
    assert done.status == 1
    assert done.stderr == ("Error: No such file or directory\nlist chain ip aws-cni nosuch\n"
                           "                      ^^^^^^\n")  # fmt: skip


@pytest.mark.kernel
def test_random_commands_agree_with_the_real_nft() -> None:
    steps = [("red", tuple(line.split())) for line in CNI[:1]]
    with Real() as real:
        assert disagreement([*steps, LIST], real) is None
        for seed in range(4):
            found = disagreement(commands(seed), real)
            assert found is None, str(found)


def test_the_random_commands_do_something() -> None:
    kept, said = play([step for seed in range(6) for step in commands(seed)])
    assert len(kept) > 300
    assert sum(mine[2] == 1 for (mine, _) in said) > 10
    text = "".join(str(mine[0]) for (mine, _) in said)
    for word in ("jump", "fib", "iifname", "ip daddr", "ct mark set", "meta mark set", "return"):
        assert word in text


@pytest.mark.kernel
def test_tables_stand_in_the_order_they_were_made() -> None:
    """iptables-restore makes a table anew; a table made again has another number."""
    text = "*nat\n-A PREROUTING -j ACCEPT\nCOMMIT\n"
    lines = """nft add table ip a
        iptables -t nat -A PREROUTING -j ACCEPT
        nft add table ip b
        nft list tables
        nft delete table ip a
        nft add table ip a
        nft -a list table ip a
        nft list tables ip"""
    steps: list[Step] = [("red", tuple(line.split())) for line in lines.splitlines()]
    some = [*steps[:4], restore(text), *steps[3:], restore(text, "-n"), *steps[3:]]
    kept, said = play(some)
    assert len(kept) == len(some)
    assert said[5][0][0] == "table ip a\ntable ip b\ntable ip nat\n"
    with Real() as real:
        assert disagreement(some, real) is None


def test_iptables_says_nothing_of_the_tables_of_nft(marked: NetworkNamespace) -> None:
    assert run(marked, "iptables-save").stdout == ""
    run(marked, "iptables -t nat -A PREROUTING -j ACCEPT")
    assert "aws" not in run(marked, "iptables-save").stdout + run(marked, "iptables -S").stdout
    assert run(marked, "nft list tables").stdout == "table ip aws-cni\ntable ip nat\n"


def test_a_flushed_ruleset_takes_the_rules_of_iptables_along(marked: NetworkNamespace) -> None:
    run(marked, "iptables -t nat -A POSTROUTING -j MASQUERADE")
    assert marked.conntrack.active
    run(marked, "nft flush ruleset")
    assert run(marked, "iptables-save").stdout == run(marked, "nft list tables").stdout == ""
    assert not marked.conntrack.active


def test_conntrack_runs_while_a_rule_needs_it(marked: NetworkNamespace) -> None:
    assert marked.conntrack.active
    run(marked, "nft flush chain ip aws-cni snat-mark")
    assert marked.conntrack.active
    run(marked, "nft flush table ip aws-cni")
    assert not marked.conntrack.active


# Nothing is accepted and ignored


@pytest.mark.parametrize("line", [
    "nft", "nft list", "nft foo", "nft -j list ruleset", "nft -f rules", "nft list rules",
    "nft list table ip6 aws-cni", "nft add table inet x", "nft add table ip snat",
    "nft add table ip nat", "nft list table ip filter", "nft create table ip x",
    "nft 'add table ip x; add table ip y'", "nft 'add table ip x\nadd table ip y'",
    "nft add rule ip aws-cni snat-mark tcp dport 80 accept",
    "nft add rule ip aws-cni snat-mark counter return counter",
    "nft add rule ip aws-cni snat-mark ct mark set 0x80",
    "nft add rule ip aws-cni snat-mark ip daddr 10.0.0.300 return",
    "nft add rule ip aws-cni snat-mark ip daddr 10.0.0.0/33 return",
    "nft add rule ip aws-cni snat-mark ip saddr 10.0.0.1 return",
    "nft add rule ip aws-cni snat-mark iifname 0123456789abcdef return",
    "nft add rule ip aws-cni snat-mark 'iifname \"*\" return'",
    "nft add rule ip aws-cni snat-mark meta mark set ct mark '&' 0x100000000",
    "nft add rule ip aws-cni snat-mark meta mark set ct mark '&' 0",
    "nft add rule ip aws-cni snat-mark jump snat-mark",
    "nft add rule ip aws-cni nat-prerouting jump nosuch",
    "nft add rule ip aws-cni nat-prerouting jump nat-prerouting",
    "nft add rule ip aws-cni nat-prerouting goto snat-mark",
    "nft add rule ip aws-cni snat-marc counter", "nft delete table ip aws-cn",
    "nft delete rule ip aws-cni nat-prerouting handle 99",
    "nft delete rule ip aws-cni nat-prerouting", "nft delete chain ip aws-cni nosuch",
    "nft add chain ip aws-cni more '{ type nat hook prerouting priority -90; }'",
    "nft add chain ip aws-cni more '{ type filter hook input priority 0; policy drop; }'",
    "nft add chain ip aws-cni snat-mark '{ type nat hook prerouting priority -90; }'",
    "nft add chain ip aws-cni PREROUTING", "nft rename chain ip aws-cni snat-mark x",
])  # fmt: skip
def test_what_is_not_modelled_is_refused(line: str, marked: NetworkNamespace) -> None:
    done = run(marked, line)
    assert done.status == 125, done
    assert re.fullmatch(r"ekslearn: nft: \".+\" isn't modelled \(data/not-modelled.md\)\n",
                        done.stderr, re.DOTALL)  # fmt: skip
    assert run(marked, "nft -a list table ip aws-cni").stdout == LISTED


def test_a_ruleset_with_tables_of_iptables_is_refused(marked: NetworkNamespace) -> None:
    run(marked, "iptables -t nat -A PREROUTING -j ACCEPT")
    assert run(marked, "nft list ruleset").status == 125


def test_the_words_of_nft_are_all_refused_as_names() -> None:
    text = (ROOT / "data" / "refused" / "nft.txt").read_text(encoding="utf-8")
    words = [word for line in text.splitlines() if line[0] != "#" for word in line.split()]
    assert len(words) > 150
    for word in words:
        done = run(NetworkNamespace(World(), "node"), ["nft", "add", "table", "ip", word])
        assert done.status == 125, word


# Text and objects


@pytest.mark.parametrize("text", [
    'iifname "eni*" counter packets 3 bytes 180 jump snat-mark', "fib daddr type local return",
    "ip daddr 10.0.0.0/16 counter packets 0 bytes 0 return", "ip daddr 10.0.0.1 drop",
    "counter packets 1 bytes 60 meta mark set ct mark & 0x00000080", 'iifname "eth0" accept',
    "counter packets 0 bytes 0 ct mark set ct mark | 0x00000080",
])  # fmt: skip
def test_what_is_printed_is_read_back(text: str) -> None:
    rule = read_rule(f" {text}")
    assert ekslearn.nft.rule_text(rule, False) == text
    counted = [match.seen for match in rule.matches if isinstance(match, nf.Counter)]
    again = [match.seen for match in read_rule(f" {text}").matches if isinstance(match, nf.Counter)]
    assert (read_rule(f" {text}"), again) == (rule, counted)


# A walk explains itself


def test_a_walk_says_which_row_decided_in_the_words_of_nft() -> None:
    lab = node("walk", *BESIDE["the CNI's mangle rules"])
    trace = lab.trace("pod", "198.51.100.9:80/tcp")
    steps = [step for step in trace.steps if step.show == "nft -s list table ip aws-cni"]
    assert [step.because for step in steps] == [
        'iifname "eni*" counter jump snat-mark', "counter ct mark set ct mark | 0x00000080",
        "counter meta mark set ct mark & 0x00000080",
    ]  # fmt: skip
    assert {step.stage for step in steps} == {"ip aws-cni PREROUTING"}
    assert steps[0].passed_over == (
        "fib daddr type local return — the destination is a UNICAST address here",
    )
    assert steps[1].passed_over == (
        "ip daddr 10.0.0.0/16 counter return — the destination is 198.51.100.9",
    )
    assert [step.decision for step in steps] == [
        "go on in snat-mark", "the connection's mark is now 0x80",
        "the packet's mark is now 0x80, from its connection",
    ]  # fmt: skip
    for step in steps:
        assert step.lit is not None and step.rows[step.lit].strip() == step.because
        assert list(step.rows) == lab.run("node", step.show).stdout.splitlines()


def test_a_row_is_lit_in_its_own_chain() -> None:
    lab = node("twice", "node$ nft add rule ip aws-cni nat-prerouting ip daddr 10.0.0.0/16 counter"
               " return")  # fmt: skip
    trace = lab.trace("pod", "10.0.9.9")
    steps = [step for step in trace.steps if step.because == "ip daddr 10.0.0.0/16 counter return"]
    assert [step.rows[: step.lit].count("\t}") for step in steps] == [1, 0]


def test_the_end_of_the_base_chain_is_told() -> None:
    lab = node("end", "node$ nft flush chain ip aws-cni nat-prerouting",
               "node$ nft add rule ip aws-cni nat-prerouting iifname eth7 return")  # fmt: skip
    steps = [step for step in lab.trace("pod", "10.0.9.9").steps if "aws-cni" in step.show]
    assert [step.because for step in steps] == [
        "type nat hook prerouting priority dstnat + 10; policy accept;"
    ]
    assert steps[0].passed_over == ('iifname "eth7" return — the packet goes in by eni0a',)
    assert steps[0].lit is not None and steps[0].rows[steps[0].lit].strip() == steps[0].because
