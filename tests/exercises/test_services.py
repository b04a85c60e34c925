"""The exercises of lesson 12, four ways (see tests.exercises.ways)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from ekslearn.exercises import EXERCISES, exercise
from ekslearn.exercises.format import Mend
from tests.exercises.ways import (
    LEARNERS,
    NONSENSE,
    FourWays,
    Solver,
    Suite,
    Words,
    flipped,
    sees_through,
    with_fault,
    words_of,
)


def on_the_wire(words: Words) -> str:
    caller, server = words["source"], words["server"]
    own = next(words[f"address_{who}"] for who in ("client", "near", "far") if words[who] == caller)
    shown = (
        words["host"] if caller == server else own
    )  # a pod that is its own server is masqueraded
    there = next(words[f"address_{who}"] for who in ("near", "far") if words[who] == server)
    if words["at"] == caller and words["at"] != server:
        return words["vip"]  # its own node translates
    if words["leg"] == "request":
        return shown if words["field"] == "src" else there
    return there if words["field"] == "src" else shown


def rows_of(words: Words) -> list[float]:
    found = [re.search(r"--probability (\S+)", row) for row in words["rows"].splitlines()]
    return [float(one[1]) if one else 1.0 for one in found]


def which_share(words: Words) -> str:
    left = 100.0
    *above, own = rows_of(words)[: int(words["asked"])]
    for chance in above:
        left *= 1 - chance
    return f"{left * own:.0f}"


def who_says_no(words: Words) -> str:
    no = []
    for x in "abcd":
        host, port = words[f"to_{x}"].split(":")
        ruled = words[f"from_{x}"] != "laptop"
        there = (host, port) in ((words["address_far"], "80"), (words["host"], "80"))
        no += [x] if (host == words["idle"] and ruled) or there else []
    return " ".join(no) or "none"


def mend_the_service(words: Words) -> str:
    nat, row = "node-a$ iptables -t nat", "-p tcp -m tcp"
    dice = "-m statistic --mode random --probability 0.5"
    jump = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
    lines = (
        f"{nat} -I {{sep_near}} 1 -s {{address_near}} -j KUBE-MARK-MASQ",
        f"{nat} -D PREROUTING 3\n{nat} -I PREROUTING 1 {jump}",
        f"{nat} -I KUBE-SERVICES 1 -d {{vip}} {row} --dport 80 -j {{svc}}",
        f"{nat} -R {{sep_near}} 2 {row} -j DNAT --to-destination {{address_near}}:8080",
        f"{nat} -I POSTROUTING 1 -j KUBE-POSTROUTING",
        f"{nat} -A {{svc}} -j {{sep_far}}",
        f"{nat} -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
        f"{nat} -R {{svc}} 1 {dice} -j {{sep_near}}",
    )
    return lines[int(words["fault"])].format_map(words)


SOLVERS: dict[str, Solver] = {
    "services/on-the-wire": on_the_wire,
    "services/which-share": which_share,
    "services/who-says-no": who_says_no,
    "services/mend-the-service": mend_the_service,
}


def wire_slips(words: Words, right: str) -> Mapping[str, str]:
    own = words["source"] == words["server"]
    asked = {}
    for name in ("address_client", "address_near", "address_far", "vip", "host"):
        if words[name] == right:
            continue
        asked[words[name]] = (
            "would throw it away" if own and (words["field"] == "src" or right == words["host"])
            else "Which node translates" if name == "vip"
            else "Whom does the caller believe" if right == words["vip"]
            else "or the other of the packet's addresses?"
        )  # fmt: skip
    return asked | {"9.9.9.9": "is no address that the question names"}


def share_slips(words: Words, right: str) -> Mapping[str, str]:
    asked, count, found = int(words["asked"]), int(words["count"]), {"many": "is no share"}
    own = round(100 * rows_of(words)[asked - 1])
    if abs(own - float(right)) > 2:
        found[str(own)] = "How many get as far as that row?"
    if abs(100 / count - float(right)) > 2 and abs(100 / count - own) > 2:
        found[f"{100 / count:.0f} %"] = "What did the edit do?"
    other = next(n for n in (1, 99, 97) if abs(n - own) > 2 and abs(n - float(right)) > 2)
    return found | {str(other): "left after each row above"}


def call_slips(words: Words, right: str) -> Mapping[str, str]:
    asked = {}
    for x in "abcd":
        target, source = words[f"to_{x}"], words[f"from_{x}"]
        asked[flipped(right, x)] = (
            "write into table filter" if x in right and target.startswith(words["idle"])
            else "for a port nobody holds?" if x in right.replace("none", "")
            else "whose rules know a ClusterIP?"
            if source == "laptop" and not target.startswith(words["host"])
            else "which row of KUBE-SERVICES"
            if target.startswith((f"{words['vip']}:81", words["unused"]))
            else "Who listens there?"
        )  # fmt: skip
    return asked


def slips(name: str, words: Words) -> Mapping[str, str]:
    right = SOLVERS[name](words)
    match name.split("/")[1]:
        case "on-the-wire":
            return wire_slips(words, right)
        case "which-share":
            return share_slips(words, right)
        case "who-says-no":
            return call_slips(words, right)
    nat = "node-a$ iptables -t nat"
    idle = words["fault"] == "7"
    return {
        "node-b$ ip route show": "Callers of other nodes are served well.",
        f"{nat} -A POSTROUTING -j MASQUERADE": "no longer see who calls them",
        f"{nat} -I {words['sep_near']} 1 -j KUBE-MARK-MASQ": "Which single caller needs it?",
        f"{nat} -F KUBE-SERVICES": "takes the healthy rows too",
        "node-a$ sysctl -w net.ipv4.conf.all.rp_filter=0": "as it was before the fault",
        "node-a$ ip rule show": "answers none" if idle else "Which row of node-a met this packet",
        "iptables -S": "doesn't say where to run",
    }


class TestServices(FourWays):
    suite = Suite(
        lessons=("services",), solvers=SOLVERS, slips=slips, nonsense=(*NONSENSE, "300 %"),
        changes={
            "services/on-the-wire": "node-a$ iptables -t nat -D KUBE-SERVICES 1",
            "services/which-share": "node-a$ iptables -t nat -D {svc} 1",
            "services/who-says-no": "node-a$ iptables -D KUBE-SERVICES 1",
        },
    )  # fmt: skip


def test_each_question_is_asked_of_somebody() -> None:
    """Of the wire's four questions none is there for nobody, the hairpin's in either direction."""
    name, asked = "services/on-the-wire", Counter[str]()
    hairpins = set()
    for learner in LEARNERS[:20]:
        words = words_of(name, learner)
        for answer, question in wire_slips(words, on_the_wire(words)).items():
            said = exercise(name, learner=learner).check(answer).message
            assert question in said, (learner, answer, said)
            asked[question] += 1
        hairpins |= {words["leg"]} if words["source"] == words["server"] else set()
    assert len(asked) == 5 and hairpins == {"request", "reply"}


def test_every_fault_is_drawn_and_is_no_mended_lab() -> None:
    name, drawn = "services/mend-the-service", set()
    one = EXERCISES[name]
    assert isinstance(one, Mend)
    for learner in LEARNERS:
        if len(drawn) == len(one.faults):
            break
        fault = words_of(name, learner)["fault"]
        if fault not in drawn:  # a line that changes nothing mends nothing
            assert not one.check("node-a$ ip rule show", learner=learner).right
        drawn.add(fault)
    assert len(drawn) == len(one.faults)


def test_a_way_past_the_dice_is_not_mended() -> None:
    """Each of these lets every call be answered: by one endpoint, or by strangers to it."""
    asked, words = with_fault("services/mend-the-service", "2")
    past = f"-d {words['vip']} -p tcp --dport 80 -j {words['sep_near']}"
    verdict = asked.check(f"node-a$ iptables -t nat -I KUBE-SERVICES 1 {past}")
    assert not verdict.right and f"but {words['far']} answers none" in verdict.message
    asked, words = with_fault("services/mend-the-service", "0")
    wide = f"-s {words['address_near'].rsplit('.', 1)[0]}.0/24 -j KUBE-MARK-MASQ"
    verdict = asked.check(f"node-a$ iptables -t nat -I {words['sep_near']} 1 {wide}")
    assert not verdict.right and f"seen as {words['host']}" in verdict.message


def test_a_share_may_be_rounded_or_not() -> None:
    one = exercise("services/which-share", learner="learner-1")
    right = float(which_share(words_of("services/which-share", "learner-1")))
    for answer in (f"{right:g} %", f"{right + 0.04:.2f}", f"{right:g} percent",
                   f"{right + 0.04:.2f}".replace(".", ",")):  # fmt: skip
        assert one.check(answer).right, answer
    assert not one.check(f"{right + 2:g}").right


def test_a_caller_who_is_shut_out_instead_is_noticed() -> None:
    drop = "node-a$ iptables -I FORWARD -s {address_client} -p tcp -j DROP"
    sees_through("services/mend-the-service", mend_the_service, drop, "From default/client to")
