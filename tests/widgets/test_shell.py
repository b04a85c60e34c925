"""Shell and Workbench without a browser."""

from __future__ import annotations

import pytest
import traitlets

from ekslearn import load
from ekslearn.draw import describe
from ekslearn.errors import EkslearnError
from ekslearn.iptables.line import LETTERS, LONG
from ekslearn.widgets import Shell, shell, workbench
from ekslearn.widgets.changes import listings
from ekslearn.widgets.complete import IPTABLES
from tests.draw.labs import one_node, one_pod, two_rooms

ROUTE = "10.1.1.0/24 dev veth0 proto kernel scope link src 10.1.1.1"


def ask(terminal: Shell, **message: object) -> dict[str, object]:
    """Send what the browser sends; return what it is answered."""
    answers: list[dict[str, object]] = []
    terminal.send = answers.append  # type: ignore[method-assign]
    terminal._hear({"serial": 7, "place": terminal.place, **message})
    (answer,) = answers
    assert answer["serial"] == 7
    return answer


def test_a_line_answers_as_the_tool_does_and_acts_on_the_callers_lab() -> None:
    lab = two_rooms()
    terminal = shell(lab, "red")
    assert terminal.type("ip route").stdout == lab.run("red", "ip route").stdout == f"{ROUTE} \n"
    assert terminal.type("ip route del 10.1.1.0/24").status == 0
    assert lab.run("red", "ip route").stdout == ""


def test_changed_rows_are_told_per_listing() -> None:
    terminal = shell(two_rooms(), "red")
    terminal.type("ip route")
    assert terminal.entries[-1]["changed"] == []
    terminal.type("ip route del 10.1.1.0/24")
    assert terminal.entries[-1]["changed"] == [
        {"words": "red$ ip route show: 1 row gone", "rows": [["-", ROUTE]]}
    ]
    terminal.type("blue$ ip link set dev veth1 down")
    told = {change["words"].split(":")[0] for change in terminal.entries[-1]["changed"]}
    assert {"blue$ ip addr show", "blue$ ip route show", "red$ ip addr show"} <= told


def test_undo_and_reset_put_back_the_very_same_lab() -> None:
    lab = two_rooms()
    start = (describe(lab), listings(lab), list(lab.lines))
    terminal = shell(lab, "red")
    terminal.type("ip addr add 10.9.9.9/24 dev veth0")
    middle = (describe(lab), listings(lab), list(lab.lines))
    terminal.type("ip link del veth0")
    assert "veth0" not in describe(lab)
    terminal.undo()
    assert (describe(lab), listings(lab), list(lab.lines)) == middle
    assert terminal.depth == 1
    terminal.type("ip route flush table main")
    terminal.reset()
    assert (describe(lab), listings(lab), list(lab.lines)) == start
    terminal.undo()
    terminal.reset()
    assert terminal.depth == 0
    terminal.type("ip addr add 10.9.9.9/24 dev veth0")  # and it still works afterwards
    assert (describe(lab), listings(lab)) == middle[:2]


def test_what_is_shared_brings_the_same_state_back() -> None:
    for make in (two_rooms, one_node, one_pod):
        lab = make()
        terminal = shell(lab)
        terminal.type("ip addr add 10.9.9.9/24 dev lo")
        terminal.type("ip route add 198.51.100.0/24 dev lo")
        again = load(terminal.share())
        assert describe(again) == describe(lab)
        assert listings(again) == listings(lab)


NONSENSE = [
    "",
    "   ",
    "'",
    '"unclosed',
    "nonsense",
    "ip",
    "ip route del 1.2.3.4/99",
    "ip route add",
    "ip link set dev nothing up",
    "\x00",
    "\N{SNOWMAN}",
    "a" * 3000,
    "<script>alert(1)",
    "ip route\nip route",
    "rm -rf /",
    "ip netns exec nowhere ip addr",
    "$",
    "red$",
    "-",
    "ip addr add 10.0.0.0/8",
    "sysctl -w net.ipv4.ip_forward",
    "ping",
    "green$ ip route",
    "ip -j route",
    "iptables -L",
    "| ;",
    "ip route get x",
    "curl http://",
    "ip route add 1",
]


@pytest.mark.parametrize("line", NONSENSE)
def test_nonsense_is_refused_in_the_tools_own_words(line: str) -> None:
    lab = two_rooms()
    terminal = shell(lab, "red")
    before = describe(lab)
    ask(terminal, do="run", line=line)
    entry = terminal.entries[-1]
    text = f"{entry['stdout']}{entry['stderr']}"
    assert "Traceback" not in text
    assert "Error(" not in text
    assert (entry["status"] == 0) == (not entry["stderr"])
    assert describe(lab) == before


def test_a_place_can_be_named_in_the_line_or_chosen() -> None:
    terminal = shell(two_rooms(), "red")
    assert "veth1" in terminal.type("blue$ ip addr").stdout
    assert terminal.place == "red"
    terminal.place = "blue"
    assert "veth1" in terminal.type("ip addr").stdout
    with pytest.raises((EkslearnError, traitlets.TraitError)):
        terminal.place = "green"
    with pytest.raises(EkslearnError, match="there is no place 'green' in two-rooms; it has red"):
        shell(two_rooms(), "green")
    ask(terminal, do="run", line="ip route", place="green")
    assert "there is no place" in terminal.entries[-1]["stderr"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i", ["ip", "iptables", "iptables-save"]),
        ("ip ro", ["route"]),
        ("ip route d", ["default", "del", "dev"][1:2]),
        ("ip route del 10", ["10.1.1.0/24", "10.1.1.1", "10.1.1.2"]),
        ("ip link set dev v", ["veth0"]),
        ("ip addr add 10.0.0.1/8 dev ", ["lo", "veth0"]),
        ("blue$ ip link set dev v", ["veth1"]),
        ("blu", ["blue$"]),
        ("ping 10.", ["10.1.1.1", "10.1.1.2"]),
        ("ip netns exec re", []),
        ("ip rule add from all table m", ["main"]),
        ("zzz", []),
        ("ip zzz ", []),
        ("<", []),
    ],
)
def test_completion_knows_commands_interfaces_and_rows(text: str, expected: list[str]) -> None:
    terminal = shell(two_rooms(), "red")
    assert terminal.complete(text) == expected
    assert ask(terminal, do="complete", text=text)["options"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("con", ["conntrack"]),
        ("iptables -", sorted(IPTABLES)),
        ("iptables -t n", ["nat"]),
        ("iptables-save -t m", ["mangle"]),
        ("iptables -t nat -S KUBE-N", ["KUBE-NODEPORTS"]),
        ("iptables -S KUBE-N", ["KUBE-NODEPORTS"]),
        ("iptables -S KUBE-P", ["KUBE-PROXY-CANARY", "KUBE-PROXY-FIREWALL"]),
        ("iptables -t nat -A KUBE-SERVICES -j KUBE-MARK", ["KUBE-MARK-MASQ"]),
        ("iptables -t nat -A PREROUTING -j MA", ["MARK", "MASQUERADE"]),
        ("iptables -t nat -A PREROUTING -j PRE", []),
        ("iptables -A INPUT -i eth", ["eth0", "eth1"]),
        ("iptables -A INPUT -m con", ["connmark", "conntrack"]),
        ("iptables -A INPUT -p t", ["tcp"]),
        ("iptables -t nat -A KUBE-SERVICES -d 172", ["172.20.45.6"]),
        ("curl http://172", ["http://172.20.45.6"]),
        ("curl 172", ["172.20.45.6"]),
        ("conntrack -", ["-F", "-L", "-g", "-j", "-n"]),
        ("laptop$ iptables -S K", []),
    ],
)
def test_completion_knows_chains_and_services(text: str, expected: list[str]) -> None:
    assert shell(load("services"), "node-a").complete(text) == expected


@pytest.mark.parametrize("option", sorted(IPTABLES))
def test_iptables_knows_every_option_that_is_offered(option: str) -> None:
    assert option[1] in LETTERS or option in LONG


def test_hooks_and_walks_follow_every_command() -> None:
    bench = workbench(two_rooms(), "red", "blue")
    assert bench.shell.place == "red"
    whole = bench.words
    bench.shell.type("ip route del 10.1.1.0/24")
    assert bench.walk.trace.verdict == "unreachable"
    assert bench.shell.entries[-1]["notes"] == [
        "red \N{RIGHTWARDS ARROW} blue: \N{BALLOT X} UNREACHABLE: red: Network is unreachable"
    ]
    assert bench.words != whole
    bench.shell.undo()
    assert bench.walk.trace.verdict == "delivered"
    seen = []
    bench.shell.on_change(lambda lab: seen.append(lab))
    bench.shell.type("ip route")
    assert seen == [bench.shell.lab]


def test_the_terminals_words_hold_everything() -> None:
    terminal = shell(two_rooms(), "red")
    terminal.type("ip route del 10.1.1.0/24")
    terminal.type("ip route del 10.1.1.0/24")
    assert terminal.words == (
        f"red$ ip route del 10.1.1.0/24\nred$ ip route show: 1 row gone\n  - {ROUTE}\n"
        "red$ ip route del 10.1.1.0/24\nRTNETLINK answers: No such process\nexit status 2"
    )
    terminal.type("echo <b>")
    assert "<b>" not in terminal.fallback()


def test_the_browser_can_ask_for_everything() -> None:
    lab = two_rooms()
    terminal = shell(lab, "red")
    start = describe(lab)
    ask(terminal, do="run", line="ip addr flush dev veth0")
    assert "kind: Lab" in str(ask(terminal, do="share")["shared"])
    ask(terminal, do="undo")
    assert describe(lab) == start
    ask(terminal, do="reset")
    ask(terminal, do="something else")
    ask(terminal)


def test_a_fault_of_the_model_is_told_and_leaves_the_lab_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = two_rooms()
    terminal = shell(lab, "red", follow=[lambda _: 1 / 0])  # type: ignore[list-item]
    before = listings(lab)

    def fail(self: object, place: str, line: str) -> None:
        lab.namespace("red").links["veth0"].mtu = 5
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(type(lab), "run", fail)
    ask(terminal, do="run", line="ip route")
    entry = terminal.entries[-1]
    assert entry["status"] == 125
    assert "a fault in the model, not in your command (ZeroDivisionError" in entry["stderr"]
    assert "ZeroDivisionError" in entry["notes"][0]
    assert listings(lab) == before
    monkeypatch.setattr(type(terminal), "complete", fail)
    ask(terminal, do="complete", text="ip")
    assert "a fault in the model" in terminal.entries[-1]["stderr"]


def test_changed_rows_of_other_tables_rules_and_iptables_are_told() -> None:
    terminal = shell(two_rooms(), "red")
    terminal.type("ip route add default via 10.1.1.2 table 2")
    assert terminal.entries[-1]["changed"] == [
        {
            "words": "red$ ip route show table 2: 1 row new",
            "rows": [["+", "default via 10.1.1.2 dev veth0"]],
        }
    ]
    terminal.type("ip route del default table 2")
    assert terminal.entries[-1]["changed"][0]["words"] == "red$ ip route show table 2: 1 row gone"
    terminal.type("ip rule add from 10.1.1.1 lookup 2")
    assert terminal.entries[-1]["changed"][0]["words"] == "red$ ip rule show: 1 row new"
    terminal.type("iptables -A INPUT -p tcp -j DROP")
    assert terminal.entries[-1]["changed"][0]["words"].startswith("red$ iptables-save: ")
    terminal.type("iptables -A INPUT -p udp -j DROP")
    assert terminal.entries[-1]["changed"] == [
        {"words": "red$ iptables-save: 1 row new", "rows": [["+", "-A INPUT -p udp -j DROP"]]}
    ]


def test_a_row_added_by_nft_is_shown() -> None:
    terminal = shell(load("out-to-the-world"), "private-node")
    terminal.type("nft add rule ip aws-cni snat-mark ip daddr 192.168.0.0/16 return")
    (change,) = terminal.entries[-1]["changed"]
    assert change["words"] == "private-node$ nft -s list table ip aws-cni: 1 row new"
    assert change["rows"] == [["+", "ip daddr 192.168.0.0/16 return"]]


def test_a_place_that_is_not_there_is_named() -> None:
    terminal = shell(two_rooms(), "red")
    done = terminal.type("green$ ip route")
    assert done.stderr == "ekslearn: there is no place 'green' in two-rooms; it has red, blue"
    assert done.status == 125


def test_what_stands_for_it_is_renewed_by_lines_and_not_by_tab() -> None:
    terminal, kept = shell(two_rooms(), "red"), list[str]()
    terminal.kept_by(kept.append, terminal.fallback)
    ask(terminal, do="complete", text="ip ro")
    assert not kept
    ask(terminal, do="run", line="ip route")
    assert len(kept) == 1 and ROUTE in kept[0]
    terminal.type("ip rule")
    assert len(kept) == 1, "lines typed by code leave a stored page alone"


def test_a_table_that_goes_whole_is_told_and_remarks_are_no_rows() -> None:
    terminal = shell(load("out-to-the-world"), "private-node")
    terminal.type("iptables -t mangle -F PREROUTING")
    rows = [row for change in terminal.entries[-1]["changed"] for row in change["rows"]]
    assert rows and all(sign == "-" for sign, _ in rows)
    assert not any(row.startswith("#") for told in listings(terminal.lab).values() for row in told)
    terminal.type("nft delete table ip aws-cni")
    (change,) = terminal.entries[-1]["changed"]
    assert change["words"].startswith("private-node$ nft -s list table ip aws-cni: ")
    assert change["words"].endswith(" rows gone")
