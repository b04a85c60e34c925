"""The exercises of lesson 14, four ways (see tests.exercises.ways)."""

from __future__ import annotations

from collections.abc import Mapping

from ekslearn.exercises import EXERCISES, exercise
from ekslearn.exercises.format import Variant, cluster_of
from tests.exercises.ways import LEARNERS, FourWays, Suite, Words, flipped, words_of

LESSON = "load-balancers-and-ingress"


def preserves(words: Words) -> bool:
    usual = "true" if words["targets"] == "instance" else "false"
    return words["kind"] == "nlb" and (words["preserve"] or usual) == "true"


def whose_address(words: Words) -> str:
    if words["targets"] == "instance" and words["policy"] == "Cluster":
        return "node"
    return "browser" if preserves(words) else "balancer"


def which_port(words: Words) -> str:
    if words["where"] == "balancer":
        return words["door"]
    by_node = words["targets"] == "instance" and words["where"] == "node"
    return words["node_port" if by_node else "listens"]


def who_must_admit(words: Words) -> str:
    port = "node_port" if words["targets"] == "instance" else "listens"
    good = [x for x in "abcd" if words[f"port_{x}"] == port
            and (words[f"peer_{x}"] == "group" or not preserves(words))]  # fmt: skip
    return " ".join(good) or "none"


def see_the_browser(words: Words) -> str:
    if words["targets"] == "ip":
        return "target-group-attributes: preserve_client_ip.enabled=true"
    return "externalTrafficPolicy: Local\ntarget-group-attributes: preserve_client_ip.enabled=true"


SOLVERS = {
    f"{LESSON}/whose-address": whose_address,
    f"{LESSON}/which-port": which_port,
    f"{LESSON}/who-must-admit": who_must_admit,
    f"{LESSON}/see-the-browser": see_the_browser,
}
OPEN = f"{LESSON}/see-the-browser"
NONSENSE = ("perhaps", "e f", "{", "scheme", "name: x", "😀", "-1", "99999", "9" * 5000,
            "target-group-attributes: \\9", "nlb-target-type: \\d")  # fmt: skip


def slips(name: str, words: Words) -> Mapping[str, str]:
    right = SOLVERS[name](words)
    match name.split("/")[1]:
        case "whose-address":
            if right == "node":
                return dict.fromkeys(("browser", "balancer"), "does externalTrafficPolicy Cluster")
            other = "balancer" if right == "browser" else "browser"
            said = "How many connections" if words["kind"] == "alb" else "What is the default"
            return {"node": "Which node translates", other: said}
        case "which-port":
            asked = {
                words["node_port"]: "Who calls a NodePort",
                words["listens"]: "On which side of the translation",
                words["door"]: "Who listens on that port",
                "80": "Which three ports are there",
            }
            return {port: said for port, said in asked.items() if port != right}
        case "who-must-admit":
            port = "node_port" if words["targets"] == "instance" else "listens"
            return {
                flipped(right, x): (
                    "does a balancer with target type"
                    if words[f"port_{x}"] != port
                    else "covered by it?"
                    if x in right.replace("none", "")
                    else "when the balancer preserves it?"
                )
                for x in "abcd"
            }
        case _:
            node = "externalTrafficPolicy: Cluster\nnlb-target-type: instance"
            balancer = "nlb-target-type: ip\ntarget-group-attributes: "
            return {
                node: "Which chain marks the packet",
                f"{balancer}preserve_client_ip.enabled=false": "Which attribute",
                "scheme: internal": "What is the controller looking for?",
                "target-group-attributes: preserve_client_ip.enabled=yes": "expected true or false",
                "nlb-target-type: pod": "unknown nlb-target-type",
            }


def without_doors(variant: Variant) -> None:
    """No node leads from a NodePort to a pod, nor marks what comes in."""
    for node in cluster_of(variant.lab).machines:
        variant.lab.run(node, "iptables -t mangle -F PREROUTING")
        variant.lab.run(node, "iptables -t nat -F KUBE-NODEPORTS")


class TestBalancers(FourWays):
    suite = Suite(
        lessons=(LESSON,), solvers=SOLVERS, slips=slips, nonsense=NONSENSE, strict=(OPEN,), asked=4,
        changes={
            f"{LESSON}/whose-address": without_doors,
            f"{LESSON}/which-port": without_doors,
            f"{LESSON}/who-must-admit": without_doors,
        },
    )  # fmt: skip


def test_another_way_and_whole_names_are_right_too() -> None:
    annotation = "service.beta.kubernetes.io/aws-load-balancer"
    kept = f"{annotation}-target-group-attributes: preserve_client_ip.enabled=true"
    for learner in LEARNERS[:6]:
        lines = [f"{annotation}-nlb-target-type: ip", kept]
        assert exercise(OPEN, learner=learner).check(lines).right
        assert words_of(OPEN, learner)["fault"]


def test_owners_and_ports_are_read_kindly() -> None:
    for learner in LEARNERS[:3]:
        name = f"{LESSON}/whose-address"
        owner = whose_address(words_of(name, learner))
        for answer in (f"the {owner}", f"a {owner}'s", f"{owner}'s."):
            assert EXERCISES[name].check(answer, learner=learner).right, answer
        name = f"{LESSON}/which-port"
        port = which_port(words_of(name, learner))
        for answer in (f"port {port}", f"{port}/tcp", f"0{port}"[-5:]):
            assert EXERCISES[name].check(answer, learner=learner).right, answer


def test_lines_of_a_manifest_may_have_room_and_remarks_between_them() -> None:
    learner = LEARNERS[0]
    lines = see_the_browser(words_of(OPEN, learner)).replace("\n", "\n\n# and\n")
    assert exercise(OPEN, learner=learner).check(f"# mine\n{lines}").right
    quoted = [line.replace(": ", ': "') + '"' for line in lines.splitlines() if ": " in line]
    assert exercise(OPEN, learner=learner).check(quoted).right
