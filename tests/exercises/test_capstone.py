"""The ten questions of lesson 17, four ways; the solvers live here only."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address

from ekslearn.exercises import EXERCISES, exercise
from ekslearn.exercises.format import Mend, Variant, cluster_of
from ekslearn.kubernetes import proxy
from tests.exercises.ways import (
    LEARNERS,
    Change,
    FourWays,
    Solver,
    Suite,
    Words,
    flipped,
    sees_through,
    with_fault,
    words_of,
)

LESSON = "capstone"
NEEDS_MARK = ("mangle -D PREROUTING 1", "priority 1024")
NEEDS_ENI = ("priority 1536", "table 2")


def near(words: Words) -> bool:
    return words["home"] == words["node"]


def keeps(words: Words) -> bool:
    return words["keeps"].endswith("true")


def seen_by_node(words: Words) -> str:
    return words["client"] if keeps(words) else words["balancer"]


def who_is_seen(words: Words) -> str:
    return words["host"] if words["policy"] == "Cluster" else seen_by_node(words)


def sep(address: str, words: Words) -> str:
    return proxy.chain("SEP", "shop/web:http", "tcp", f"{address}:{words['listens']}")


def who_rewrites(words: Words) -> str:
    if words["side"] == "destination":
        return "a b c"
    changed = ["b"] * (not keeps(words)) + ["c"] * (words["policy"] == "Cluster")
    return " ".join(changed) or "none"


def stops(words: Words, line: str) -> bool:
    if any(part in line for part in NEEDS_MARK):
        return near(words)
    if "MASQ" in line:
        return words["policy"] == "Cluster" and not near(words)
    if "FORWARD" in line:
        return not near(words) or words["policy"] == "Local"
    return any(part in line for part in NEEDS_ENI) and not near(words)


def what_it_needs(words: Words) -> str:
    return " ".join(x for x in "abcd" if stops(words, words[f"line_{x}"])) or "none"


def mend_the_way(words: Words) -> str:
    node, other = words["node"], words["other"]
    local = "-m addrtype --dst-type LOCAL --limit-iface-in"
    net, other_pod = words["other_ip"].rsplit(".", 1)[0], words["web_" + "ab12"["ab".index(
        other[-1]) + 2]]  # fmt: skip
    return (
        f"{node}$ iptables -t mangle -I PREROUTING 1 -i eth0 {local} -j CONNMARK --set-xmark"
        " 0x80/0x80",
        f"{other}$ ip rule add priority 1536 from {other_pod} lookup 2",
        f"{node}$ ip rule add priority 1024 fwmark 0x80/0x80 lookup main",
        f"{other}$ ip route add {net}.1 dev eth1 scope link table 2\n"
        f"{other}$ ip route add default via {net}.1 dev eth1 table 2",
        f"{node}$ iptables -t nat -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
        f"{node}$ iptables -t nat -A KUBE-NODEPORTS -p tcp --dport {words['node_port']} -j"
        f" {words['ext']}",
        f"{other}$ iptables -P FORWARD ACCEPT",
        f"{node}$ iptables -t mangle -A PREROUTING -i eni+ -j CONNMARK --restore-mark --nfmask 0x80"
        " --ctmask 0x80",
    )[int(words["fault"])]


SOLVERS: dict[str, Solver] = {
    f"{LESSON}/who-is-seen": who_is_seen,
    f"{LESSON}/where-to-first": lambda words: f"{words['host']}:{words['node_port']}",
    f"{LESSON}/which-chain": lambda words: sep(words["pod_ip"], words),
    f"{LESSON}/which-rule": lambda words: "512" if near(words) else "32766",
    f"{LESSON}/who-rewrites": who_rewrites,
    f"{LESSON}/way-out": lambda words: "eth0 1024" if near(words) else "eth1 1536",
    f"{LESSON}/looked-up-as": lambda words: f"{words['pod_ip']} > {seen_by_node(words)}",
    f"{LESSON}/which-mark": lambda words: "128" if words["where"] == words["node"] else "0",
    f"{LESSON}/what-it-needs": what_it_needs,
    f"{LESSON}/mend-the-way": mend_the_way,
}
# In each node's PREROUTING, before kube-proxy's chains.
AWRY = "{node}$ iptables -t nat -I PREROUTING 1 -p tcp --dport {node_port} -j DNAT --to-destination"


# Each line, by a part of it: what is asked of who thinks that it stops the call, or overlooks it.
NEEDS = {
    "PREROUTING 1": ("where marks are restored?", "if its connection isn't marked?"),
    "priority 1024": ("bear a mark when", "what does a mark do by itself?"),
    "priority 1536": ("meet before 1536", "by which ENI does main lead"),
    "table 2": ("is table 2 asked at all", "where does a lookup go on"),
    "priority 512": ("does a later rule lead there, too?", "nobody"),
    "KUBE-MARK-MASQ": ("with a stranger's source, under", "who checks that?"),
    "KUBE-SERVICES": ("asked for its nodePort?", "nobody"),
    "FORWARD": ("for the mark 0x4000 alone?", "would accept a first packet without a mark?"),
    "SNAT": ("new to nat, and go out of the VPC?", "nobody"),
}


def need_question(words: Words, right: str, letter: str) -> str:
    part = next(part for part in NEEDS if part in words[f"line_{letter}"])
    return NEEDS[part][letter in right.replace("none", "")]


def rewrite_question(words: Words, right: str, letter: str) -> str:
    source = words["side"] == "source"
    overlooked = {"a": "still", "b": "get its packet" if source else "know any target's address?",
                  "c": "Which row reads it" if source else "for the port it came to?"}  # fmt: skip
    chosen = {"a": "a public address of this VPC?", "b": "leave as it is?",
              "c": "have masqueraded under", "d": "a matter for"}  # fmt: skip
    return (overlooked if letter in right.replace("none", "") else chosen)[letter]


def slips(name: str, words: Words) -> Mapping[str, str]:
    right = SOLVERS[name](words)
    asked: dict[str, str] = {}
    match name.split("/")[1]:
        case "who-is-seen":
            local = words["policy"] == "Local"
            asked[words["client"]] = "Does this balancer, too?" if local else "as it came, under"
            asked[words["balancer"]] = (
                "if it preserves the client's?" if local else "done to the source before"
            )
            asked[words["host"]] = "Under Local, too?"
            asked[words["other_ip"]] = "whose nodePort nobody asked for?"
            asked[words["cluster_ip"]] = "an address somebody sends from?"
            asked["300.1.2.3"] = "is no address"
        case "where-to-first":
            host = words["host"]
            asked = {
                words["door"]: "Does an NLB leave it so?",
                f"{words['balancer']}:{words['port']}": "Does an NLB leave it so?",
                f"{words['cluster_ip']}:{words['port']}": "outside the cluster's own rules?",
                f"{words['pod_ip']}:{words['listens']}": "know of pods?",
                f"{host}:{words['listens']}": "Which port of a node",
                f"{words['other_ip']}:{words['node_port']}": "in the zone of",
                host: "is no destination",
            }
        case "which-chain":
            kind = "SVC" if words["policy"] == "Cluster" else "SVL"
            wrong = words["web_1" if words["pod"] == "web-2" else "web_2"]
            if words["policy"] == "Cluster":
                asked[sep(wrong, words)] = "Whose address stands in that chain"
            asked |= {
                proxy.chain(kind, "shop/web:http", "tcp", ""): "rolls the dice",
                "KUBE-NODEPORTS": "a row with `-j DNAT`",
                "kube-services": "a row with `-j DNAT`",
                "KUBE-POSTROUTING": "choose a destination, or change a source?",
                "KUBE-SEP-NOWHERE": "there is no chain",
            }
        case "which-rule":
            asked = {
                "0": "still an address of the node itself?",
                "512": "run there?",
                "1024": "Which mark has the packet",
                "1536": "Who sends the request?",
                "32765": "Who sends the request?",
                "32766": "above that fits?",
                "32767": "above that fits?",
                "7": "is no rule's number",
            }
        case "who-rewrites":
            asked = {flipped(right, x): rewrite_question(words, right, x) for x in "abcd"}
        case "way-out":
            asked = {
                "eth1 1536": "answer of its nodePort",
                "eth0 1024": "at a node's address, or at the pod's?",
                right.split()[0] + " 32766": "for a mark, or a sender?",
                "eth7 1024": "How many ENIs",
                "eth0": "isn't an ENI and a rule",
            }
        case "looked-up-as":
            pod, host = words["pod_ip"], words["host"]
            client = seen_by_node(words)
            asked = {
                f"{client} > {pod}": "the direction of the request",
                f"{host} > {client}": "Is DNAT undone before",
                f"{pod} > {host}": "Is SNAT undone before",
                f"{words['cluster_ip']} > {client}": "changed its source before?",
                f"{pod} > {words['cluster_ip']}": "who is the client, for a node?",
                pod: "isn't two addresses",
            }
        case "which-mark":
            asked = {
                "0x4000": "for the masquerade",
                "80": "in which conntrack prints",
                "0": "to an address of",
                "128": "packet's destination, as it comes in",
                "seven": "is no mark",
            }
        case "what-it-needs":
            asked = {flipped(right, x): need_question(words, right, x) for x in "abcd"}
        case _:
            node = right.partition("$")[0]
            return {
                "browser$ ip route show": "Only the two nodes are yours",
                f"{node}$ iptables -t nat -A POSTROUTING -j MASQUERADE": "none of its business",
                f"{node}$ ip rule add priority 100 lookup 2": "packets of every sender",
                f"{node}$ iptables -t mangle -F PREROUTING": "takes healthy rows as well",
                f"{node}$ iptables --flush -t mangle": "takes healthy rows as well",
                f"{node}$ ip link set eth1 down": "switches something off",
                f"{node}$ ip rule show": "which row decides last",
                "ip rule show": "doesn't say where to run",
            }
    asked.pop(right, None)
    return asked


def another_target(variant: Variant) -> None:
    """The balancer has each node's second address as its target."""
    (group,) = cluster_of(variant.lab).elb.groups.values()
    for target in group.targets:
        side = "a" if str(target.address) == variant.words["node_a"] else "b"
        target.address = IPv4Address(variant.words[f"card_{side}"])


def another_source(variant: Variant) -> None:
    """The balancer preserves the client's address, if it didn't."""
    (group,) = cluster_of(variant.lab).elb.groups.values()
    group.preserve_client_ip = not group.preserve_client_ip


CHANGES: Mapping[str, Change] = {
    f"{LESSON}/who-is-seen": "{node}$ iptables -t nat -I POSTROUTING 1 -p tcp -j MASQUERADE",
    f"{LESSON}/where-to-first": another_target,
    f"{LESSON}/which-chain": f"{AWRY} {{pod_ip}}:{{listens}}",
    f"{LESSON}/which-rule": "{node}$ ip rule add priority 500 from all lookup main",
    f"{LESSON}/who-rewrites": "{node}$ iptables -t nat -F KUBE-MARK-MASQ",
    f"{LESSON}/way-out": "{home}$ ip rule add priority 900 from {pod_ip} lookup 2",
    f"{LESSON}/looked-up-as": another_source,
    f"{LESSON}/which-mark": "{node}$ iptables -t mangle -D PREROUTING 1",
    f"{LESSON}/what-it-needs": "{home}$ iptables -P FORWARD DROP",
}


class TestCapstone(FourWays):
    suite = Suite(lessons=(LESSON,), solvers=SOLVERS, slips=slips, changes=CHANGES, end=8, asked=12)


def test_all_ten_are_about_one_cluster_and_one_call() -> None:
    for learner in LEARNERS[:5]:
        ten = [words_of(name, learner) for name in SOLVERS]
        for word in ("node_a", "web_2", "node_port", "client", "door"):
            assert len({words[word] for words in ten}) == 1
        own = exercise(f"{LESSON}/who-is-seen", learner=learner)
        trace = own.lab.trace("browser", ten[0]["door"])
        assert trace.answer.startswith(f"shop/{ten[0]['pod']} ")


def test_the_calls_differ_from_learner_to_learner() -> None:
    words = [words_of(f"{LESSON}/who-is-seen", learner) for learner in LEARNERS]
    ways = {(each["policy"], each["keeps"], each["node"], each["home"]) for each in words}
    assert len(ways) >= 9


def test_every_fault_is_drawn_and_breaks_some_calls_and_not_all() -> None:
    one, drawn = EXERCISES[f"{LESSON}/mend-the-way"], set()
    assert isinstance(one, Mend)
    for learner in LEARNERS:
        variant = one.variant(learner)
        verdicts = set()
        for _ in range(6):
            verdicts |= {variant.lab.trace(*flow).verdict for flow in one.flows(variant.words)}
        assert "delivered" in verdicts and verdicts - {"delivered"}, variant.words["fault"]
        drawn.add(variant.words["fault"])
    assert len(drawn) == len(one.faults)


def test_a_way_that_shows_pods_the_wrong_address_is_not_mended() -> None:
    """Every call is answered, but the pods see another address of eth0, or the client's."""
    asked, words = with_fault(f"{LESSON}/mend-the-way", "4")
    spare = words["spare_a" if words["node"] == "node-a" else "spare_b"]
    row = f"-o eth0 -p tcp --dport {words['listens']} -j SNAT --to-source {spare}"
    verdict = asked.check(f"{words['node']}$ iptables -t nat -I KUBE-POSTROUTING 1 {row}")
    assert not verdict.right
    assert "Whom should it see under Cluster" in verdict.message


def test_everybody_has_questions_of_an_own_kind_to_answer() -> None:
    """Whichever way a learner errs about a machine or a line, there is somebody to be asked so."""
    rewrites, needs = set(), set()
    for learner in LEARNERS:
        words = words_of(f"{LESSON}/who-rewrites", learner)
        rewrites |= {rewrite_question(words, who_rewrites(words), x) for x in "abcd"}
        words = words_of(f"{LESSON}/what-it-needs", learner)
        needs |= {need_question(words, what_it_needs(words), x) for x in "abcd"}
    assert len(rewrites) == 9
    assert needs == {one for row in NEEDS.values() for one in row if one != "nobody"}


def test_rules_and_ends_are_read_as_the_lesson_writes_them() -> None:
    learner = LEARNERS[0]
    rule, ends = f"{LESSON}/which-rule", f"{LESSON}/looked-up-as"
    number = SOLVERS[rule](words_of(rule, learner))
    for answer in (f"rule {number}", f"{number}:", f"priority {number}", f"prio {number}"):
        assert EXERCISES[rule].check(answer, learner=learner).right, answer
    both = SOLVERS[ends](words_of(ends, learner))
    for arrow in ("->", ", ", " ", "\N{RIGHTWARDS ARROW}"):
        assert EXERCISES[ends].check(both.replace(" > ", arrow), learner=learner).right, arrow


def test_another_door_that_is_shut_instead_is_noticed() -> None:
    shut = "{other}$ iptables -t nat -D KUBE-NODEPORTS 1"
    sees_through(f"{LESSON}/mend-the-way", mend_the_way, shut, "From browser to {other_door}")
