"""The exercises of lesson 15, four ways (see tests.exercises.ways)."""

from __future__ import annotations

from collections.abc import Mapping

from ekslearn.exercises import EXERCISES
from ekslearn.exercises.format import Variant, cluster_of
from tests.exercises.ways import LEARNERS, FourWays, Suite, Words, flipped, words_of

LESSON = "hairpin-health-and-rollouts"
OPEN = f"{LESSON}/no-call-lost"


def home(words: Words, who: str) -> str:
    """The node that somebody is on; a node is on itself."""
    return {"client": words.get("home", ""), "web-1": words["first"], "web-2": words["second"],
            "desk": ""}.get(who, who)  # fmt: skip


def which_time_out(words: Words) -> str:
    near = [x for x in "abcd" if home(words, words[f"from_{x}"]) == home(words, words[f"to_{x}"])]
    return " ".join(near) if words["kept"] == "on" and near else "none"


def is_healthy(words: Words, by: str, node: str) -> bool:
    asked = words["check"] if by == "local" else "31380"
    if (words["node"], words["port"]) == (node, asked):
        return False
    left = {home(words, pod) for pod in {"web-1", "web-2"} - {words["gone"]}}
    return by == "any-node" or node in left


def who_is_healthy(words: Words) -> str:
    found = (x for x in "abcd" if is_healthy(words, words[f"by_{x}"], words[f"to_{x}"]))
    return " ".join(found) or "none"


def how_many_are_lost(words: Words) -> str:
    if words["by"] == "any-node":
        return "0"
    return str(max(0, 30 - min(int(words["prestop"]), int(words["grace"]))))


def no_call_lost(words: Words) -> str:
    return f"30 {30 + int(words['work'])}"


SOLVERS = {
    f"{LESSON}/which-time-out": which_time_out,
    f"{LESSON}/who-is-healthy": who_is_healthy,
    f"{LESSON}/how-many-are-lost": how_many_are_lost,
    OPEN: no_call_lost,
}
NONSENSE = ("perhaps", "e f", "[]", "😀", "-1", "99999", "1 2 3", "-5 30")


def slips(name: str, words: Words) -> Mapping[str, str]:
    right = SOLVERS[name](words)
    match name.split("/")[1]:
        case "which-time-out":
            return {
                flipped(right, x): (
                    "whose address does"
                    if words["kept"] == "off"
                    else "on the same node as any target?"
                    if words[f"from_{x}"] == "desk"
                    else "which two addresses has the packet"
                    if words[f"from_{x}"] == words[f"to_{x}"]
                    else "by which rule does"
                    if x in right.replace("none", "")
                    else "leave a node?"
                )
                for x in "abcd"
            }
        case "who-is-healthy":
            return {
                flipped(right, x): (
                    "does its check go, and what becomes of it?"
                    if words[f"to_{x}"] == words["node"] and words["port"] != "none"
                    else "and must that be on"
                    if words[f"by_{x}"] == "any-node"
                    else "is a pod of the Service there"
                    if x in right.replace("none", "")
                    else "which endpoints does kube-proxy count"
                )
                for x in "abcd"
            }
        case "how-many-are-lost":
            prestop, grace = int(words["prestop"]), int(words["grace"])
            asked = {"many": "is no number"}
            if words["by"] == "any-node":
                return asked | {"30": "who on them chooses a pod"}
            asked |= {"300": "New calls, or open ones", str(int(right) + 1) if int(right) < 29
                      else "7": "stop listening, and in which is it used last?"}  # fmt: skip
            if prestop and right != "30":
                asked["30"] = "answer while its hook sleeps?"
            if prestop > grace:
                asked[str(max(0, 30 - prestop))] = "When does the grace period begin?"
            return asked
        case _:
            work, limit = int(words["work"]), int(words["limit"])
            return {
                f"{29} {29 + work}": "Who still sends",
                f"30 {29 + work}": "What else does the grace period",
                f"30 {limit + 1}": "From when to when does a grace period run?",
                f"{limit} {28}": "Who still sends",
                "30": "answer with two numbers",
                f"30 -{30 + work}": "answer with two numbers",
            }


def turned(variant: Variant) -> None:
    """Clients are preserved where they weren't, and the other way round."""
    for group in cluster_of(variant.lab).elb.groups.values():
        group.preserve_client_ip = not group.preserve_client_ip


def unheard(variant: Variant) -> None:
    """No pod hears of a call, and checks have noticed."""
    for node in cluster_of(variant.lab).machines:
        line = f"{node}$ iptables -t mangle -I FORWARD -p tcp --dport 8080 -j DROP"
        assert not variant.lab.line(line).status
    cluster_of(variant.lab).sleep(90)


class TestRollouts(FourWays):
    suite = Suite(
        lessons=(LESSON,), solvers=SOLVERS, slips=slips, nonsense=NONSENSE,
        changes={
            f"{LESSON}/which-time-out": turned,
            f"{LESSON}/who-is-healthy": unheard,
            f"{LESSON}/how-many-are-lost": unheard,
        },
    )  # fmt: skip


def test_more_than_one_choice_loses_nothing() -> None:
    for learner in LEARNERS[:5]:
        words = words_of(OPEN, learner)
        work, limit = int(words["work"]), int(words["limit"])
        for answer in (f"{limit - work}, {limit}", f"preStop 30 s and {limit} s of grace",
                       f"pre-stop 30, grace {limit}"):  # fmt: skip
            assert EXERCISES[OPEN].check(answer, learner=learner).right, (answer, dict(words))


def test_as_many_calls_fail_as_the_dice_say() -> None:
    """One, two or three of the four, so that nobody needs only to count to two."""
    name = f"{LESSON}/which-time-out"
    found = {len(which_time_out(words_of(name, each)).split()) for each in LEARNERS[:16]
             if words_of(name, each)["kept"] == "on"}  # fmt: skip
    assert found == {1, 2, 3}
