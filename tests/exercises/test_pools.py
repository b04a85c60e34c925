"""The exercises of lessons 07 and 08, four ways (see tests.exercises.ways)."""

from __future__ import annotations

from math import ceil

import pytest

from ekslearn.exercises import EXERCISES
from ekslearn.exercises.format import Variant, cluster_of
from tests.exercises.ways import (
    LEARNERS,
    NONSENSE,
    FourWays,
    Solver,
    Suite,
    Words,
    flipped,
    words_of,
)

# --- lesson 07 --------------------------------------------------------------------------------


def what_the_subnet_loses(words: Words) -> str:
    enis, each, pods, warm = (int(words[name]) for name in ("enis", "each", "pods", "warm"))
    return str(min(enis, ceil(pods / (each - 1)) + warm) * each)


def how_many_more(words: Words) -> str:
    names = ("warm", "least", "total", "assigned")
    warm, least, total, assigned = (int(words[name]) for name in names)
    return str(max(warm - (total - assigned), least - total, 0))


def ready(wish: str, words: Words) -> int:
    """How many addresses for pods an empty node has ready."""
    slots, found = int(words["each"]) - 1, []
    for one in wish.split():
        name, _, value = one.partition("=")
        found.append(int(value) * (slots if "ENI" in name else 1))
    return min(max(found), slots * int(words["enis"]))


def who_waits(words: Words) -> str:
    right = [x for x in "abcd" if ready(words[x], words) >= int(words["pods"])]
    return " ".join(right) or "none"


def set_the_targets(words: Words) -> str:
    return f"WARM_IP_TARGET={int(words['jobs']) * (ceil(31 / int(words['pace'])))}"


# --- lesson 08 --------------------------------------------------------------------------------


def how_many_pods(words: Words) -> str:
    custom, prefixes = "custom" in words["mode"], "prefixes" in words["mode"]
    enis, slots = int(words["enis"]) - custom, int(words["each"]) - 1
    return str(enis * slots * (16 if prefixes else 1) + 2)


def how_many_prefixes(words: Words) -> str:
    return str(ceil(int(words["pods"]) / 16) + int(words["warm"]))


def which_fit(words: Words) -> str:
    taken, right = [int(one.rpartition(".")[2]) for one in words["taken"].split(", ")], []
    for letter in "abcd":
        first, last = (int(one.rpartition(".")[2]) for one in words[letter].split(" to "))
        fits = first % 16 == 0 and last != 255 and not any(first <= one <= last for one in taken)
        right += [letter] if fits else []
    return " ".join(right) or "none"


TAG = "aws ec2 create-tags --resources {} --tags Key=kubernetes.io/role/cni,Value=1"


SOLVERS: dict[str, Solver] = {
    "prefixes-and-fragmentation/how-many-pods": how_many_pods,
    "prefixes-and-fragmentation/how-many-prefixes": how_many_prefixes,
    "prefixes-and-fragmentation/which-fit": which_fit,
    "prefixes-and-fragmentation/mend-the-subnet": lambda words: TAG.format(words["id"]),
    "the-warm-pool/what-the-subnet-loses": what_the_subnet_loses,
    "the-warm-pool/how-many-more": how_many_more,
    "the-warm-pool/who-waits": who_waits,
    "the-warm-pool/set-the-targets": set_the_targets,
}
WRITTEN = ("the-warm-pool/set-the-targets", "prefixes-and-fragmentation/mend-the-subnet")
SLOW = ("the-warm-pool/who-waits", *WRITTEN)  # whole stories are run


LESSONS = ("the-warm-pool", "prefixes-and-fragmentation")


def slips(name: str, words: Words) -> dict[str, str]:
    """Wrong answers, and the question each must be asked."""
    match name.split("/")[1]:
        case "what-the-subnet-loses":
            right, each = int(what_the_subnet_loses(words)), int(words["each"])
            pods = int(words["pods"])
            asked = {
                str(right + 1): "how many addresses has each of them?",
                str(right - each): "how many addresses would be available beside",
                str(right + each): "may it have that many ENIs?",
                str(right // each * (each - 1)): "one that no pod ever gets?",
            }
            return asked | dict.fromkeys(
                (str(pods), str(pods + 1)), "What does ipamd hold for pods that may come?"
            )
        case "how-many-more":
            right = how_many_more(words)
            names = ("warm", "least", "total", "assigned", "cooling")
            warm, least, total, assigned, cooling = (int(words[each]) for each in names)
            ready = total - assigned
            asked = {
                str(max(warm + least - total, 0)): "Do the two targets add up",
                str(max(warm - ready, 0) + max(least - total, 0)): "is the smaller one still open?",
                str(max(least - total, 0)): "what MINIMUM_IP_TARGET asks for",
                str(max(warm - ready, 0)): "what WARM_IP_TARGET asks for",
                str(max(warm - ready + cooling, least - total, 0)): "take the cooling addresses",
            }
            return {said: asked[said] for said in asked if said != right} | {
                "999": "How much does each lack?"}  # fmt: skip
        case "who-waits":
            return {flipped(who_waits(words), x): f"About {x}, {words[x]}:" for x in "abcd"}
        case "set-the-targets":
            return {
                "WARM_IP_TARGET=1": "How many addresses are cooling",
                "WARM_ENI_TARGET=1": "Which target takes whole ENIs",
                "IP_COOLDOWN_PERIOD=1": "Who might still be sending",
                "ENABLE_PREFIX_DELEGATION=true": "it is the next lesson",
                "MINIMUM_IP_TARGET": "sets nothing",
            }
        case "how-many-pods":
            right = how_many_pods(words)
            custom, size = "custom" in words["mode"], 16 if "prefixes" in words["mode"] else 1
            enis, each = int(words["enis"]) - custom, int(words["each"])
            other = enis + (1 if custom else -1)
            asked = {
                "9999": "how much fits into a slot?",
                str(other * (each - 1) * size + 2): "Does the first ENI carry pods",
                str(enis * (each - 1) * (17 - size) + 2): "How many addresses does a slot hold",
                str(enis * each * size + 2): "Does an ENI's own address ever go to a pod",
                str(int(right) - 2): "Which two pods run on every node",
            }
            return {said: asked[said] for said in asked if said != right}
        case "how-many-prefixes":
            right, pods = how_many_prefixes(words), int(words["pods"])
            asked = {
                str(int(right) + 3): "With one prefix less",
                "1": "how many more have to be available?",
                str(ceil(pods / 16)): "How many addresses would be available beside them",
                str(ceil(pods / 14) + int(words["warm"])): "as a subnet does?",
                str(int(right) * 16): "How many of them come in one prefix?",
                str(pods): "How many of them come in one prefix?",
            }
            return {said: asked[said] for said in asked if said != right}
        case "which-fit":
            return {flipped(which_fit(words), x): f"About {x}, {words[x]}:" for x in "abcd"}
        case "mend-the-subnet":
            set_env = "kubectl set env daemonset aws-node -n kube-system"
            reserve = "aws ec2 create-subnet-cidr-reservation --reservation-type prefix"
            upper = words["subnet"].replace(".0/24", ".128/25")
            return {
                f"{reserve} --subnet-id private-a --cidr {upper}": "Does a reservation move",
                f"{set_env} WARM_PREFIX_TARGET=2": "which subnets it may put an ENI into?",
                f"{set_env} IP_COOLDOWN_PERIOD=1": "here can be set",
                TAG.format("private-a"): "which subnets it may put an ENI into?",
                TAG.format("nowhere"): "names no subnet",
                TAG.format("spare-a").replace("Value=1", ""): "tags are written",
                TAG.format("spare-a").replace("=1", "=0"): "which subnets it may put",
                "aws ec2 create-tags --resources 'spare-a": "has a quote too many",
                "ip route flush table main": "can't be run here",
            }
    raise AssertionError(name)


def less(variant: Variant) -> None:
    """EC2 takes an address back."""
    ec2 = cluster_of(variant.lab).ec2
    eni = next(iter(ec2.vpc.enis.values()))
    ec2.unassign_private_ip_addresses(eni.eni_id, eni.secondary[:1])


def gone(variant: Variant) -> None:
    """A pod is deleted."""
    cluster = cluster_of(variant.lab)
    cluster.delete_pod(next(iter(cluster.pods)))


class TestPools(FourWays):
    suite = Suite(
        lessons=LESSONS, solvers=SOLVERS, slips=slips, nonsense=(*NONSENSE, "-1", "WARM = 3"),
        asked=12, slow=SLOW, strict=WRITTEN, alike=("prefixes-and-fragmentation/mend-the-subnet",),
        changes={
            "the-warm-pool/what-the-subnet-loses": less, "the-warm-pool/how-many-more": gone,
        },
    )  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_settings_may_come_as_a_list_or_with_comments(name: str) -> None:
    for learner in LEARNERS[:3]:
        answer = SOLVERS[name](words_of(name, learner))
        kinder: list[object] = [[answer], f"# mine\n\n  {answer}\n"]
        if answer.startswith("WARM"):
            kinder.append(f"kubectl set env daemonset aws-node -n kube-system {answer}")
        for one in kinder:
            assert EXERCISES[name].check(one, learner=learner).right, one


def test_the_settings_that_starve_really_do() -> None:
    """The open one's lab is broken as it is, and the shipped setting takes too much."""
    one = EXERCISES["the-warm-pool/set-the-targets"]
    for learner in LEARNERS[:3]:
        variant = one.variant(learner)
        jobs, pace = int(variant.words["jobs"]), int(variant.words["pace"])
        waited, most = one.play(variant.lab, jobs, pace)
        assert waited and most <= int(variant.words["limit"])
