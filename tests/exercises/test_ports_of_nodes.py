"""The exercises of lesson 13, four ways (see tests.exercises.ways)."""

from __future__ import annotations

from collections.abc import Mapping

from tests.exercises.ways import (
    FourWaysAndFaults,
    Solver,
    Suite,
    Words,
    flipped,
    sees_through,
    with_fault,
)

LESSON = "nodeport-and-traffic-policy"
SVL = "KUBE-SVL-67NZLRHBNDSAWJRO"  # of shop/web:http, whatever its addresses


def address(words: Words, name: str) -> str:
    return words[name.replace("-", "_")]


def who_is_seen(words: Words) -> str:
    if words["policy"] == "Cluster" or words["source"] == words["node"]:
        return address(words, words["node"])
    return "none" if words["node"] == "node-c" else address(words, words["source"])


def counts(words: Words) -> tuple[int, int]:
    """Pods beside the one asked about, itself included, and on the other node."""
    a, b = int(words["count_a"]), int(words["count_b"])
    return (a, b) if words["pod"] == "web-1" else (b, a)


def how_many_arrive(words: Words) -> str:
    here, there = counts(words)
    every = int(words["connections"].replace(",", ""))
    return str(every // 2 // here if words["policy"] == "Local" else every // (here + there))


def answered(words: Words, letter: str) -> bool:
    source, target = words[f"from_{letter}"], words[f"to_{letter}"]
    if source == target or target in ("the clusterIP", "eth1 of node-a"):
        return True
    silent = {"node-c", {"unready": "node-b", "mark": "node-a"}.get(words["state"], "node-c")}
    return target not in silent


def which_are_answered(words: Words) -> str:
    return " ".join(x for x in "abcd" if answered(words, x)) or "none"


def mend_the_door(words: Words) -> str:
    local = "-m addrtype --dst-type LOCAL --limit-iface-in"
    return (
        f"node-a$ iptables -t mangle -A PREROUTING -i eth0 {local} -j CONNMARK --set-xmark"
        " 0x80/0x80",
        "node-b$ iptables -t mangle -A PREROUTING -i eni+ -j CONNMARK --restore-mark --mask 0x80",
        "node-a$ ip rule add priority 1024 fwmark 0x80/0x80 lookup main",
        "node-b$ sysctl -w net.ipv4.conf.eth0.rp_filter=2",
        f"node-a$ iptables -t nat -A KUBE-NODEPORTS -p tcp --dport {words['port']} -j"
        f" {words['ext']}",
        f"node-b$ iptables -t nat -A {words['ext']} -j {SVL}",
    )[int(words["fault"])]


SOLVERS: dict[str, Solver] = {
    f"{LESSON}/who-is-seen": who_is_seen,
    f"{LESSON}/how-many-arrive": how_many_arrive,
    f"{LESSON}/which-are-answered": which_are_answered,
    f"{LESSON}/mend-the-door": mend_the_door,
}


def slips(name: str, words: Words) -> Mapping[str, str]:
    right = SOLVERS[name](words)
    match name.split("/")[1]:
        case "who-is-seen":
            cluster, own = words["policy"] == "Cluster", words["source"] == words["node"]
            asked = {
                address(words, words["source"]): "By whom must its answer come back",
                address(words, words["node"]): "for whom does KUBE-EXT masquerade",
                "none": "has the pod to run on the node" if cluster else "is it asked by itself?",
                words["cluster_ip"]: "Whose address is that?",
            }
            if right == "none":
                asked = dict.fromkeys(asked, "if no endpoint is its own?")
            if own:
                asked.pop(address(words, words["node"]), None)
            asked.pop(right, None)
            return asked | {"300.1.2.3": "is no address"}
        case "how-many-arrive":
            here, there = counts(words)
            every = int(words["connections"].replace(",", ""))
            asked = {"1": "how many pods share it?", "many": "is no number of connections"}
            if words["policy"] == "Cluster":
                own = str(every // 2 // here)
                return asked | {"1": "prefer pods of its own?", own: "prefer pods"}
            asked |= {str(every // 2 // there): "share on the other node"}
            asked |= {str(every // 3 // here): "Does node-c answer"}
            asked |= {str(every // (here + there)): "a pod of another node?"}
            asked.pop(right, None)
            return asked
        case "which-are-answered":
            asked = {}
            for x in "abcd":
                source, target = words[f"from_{x}"], words[f"to_{x}"]
                if not answered(words, x):
                    said = "without that rule?" if target == "node-a" else "of its own that is"
                elif source == target:
                    said = "say of LOCAL traffic?"
                elif target == "the clusterIP":
                    said = "say anything about a clusterIP?"
                elif target == "eth1 of node-a":
                    said = "is that the wrong one?"
                elif words["state"] == "going" and target == "node-b":
                    said = "if none of its own is ready?"
                else:
                    said = "what could stop the answer?"
                asked[flipped(right, x)] = said
            return asked
        case _:
            node = mend_the_door(words).partition("$")[0]
            return {
                "laptop$ ip route show": "Only the nodes are yours",
                f"{node}$ iptables -t nat -A POSTROUTING -j MASQUERADE": "Whom should it see",
                f"{node}$ ip rule del priority 1536": "Who checks that?",
                f"{node}$ iptables -t mangle -F PREROUTING": "takes healthy rows as well",
                f"{node}$ iptables -t mangle --flush": "takes healthy rows as well",
                f"{node}$ ip rule show": "Is the pod ever asked",
                "ip rule show": "doesn't say where to run",
            }


class TestPortsOfNodes(FourWaysAndFaults):
    suite = Suite(
        lessons=(LESSON,), solvers=SOLVERS, slips=slips, changes={
            f"{LESSON}/who-is-seen": "node-a$ iptables -t nat -F KUBE-NODEPORTS",
            f"{LESSON}/how-many-arrive": "node-b$ iptables -t nat -F KUBE-NODEPORTS",
            f"{LESSON}/which-are-answered": "node-b$ ip rule del priority 1024",
        },
    )  # fmt: skip


def test_a_door_that_hides_the_client_is_not_mended() -> None:
    """Every connection is answered, but node-b does as under Cluster."""
    asked, words = with_fault(f"{LESSON}/mend-the-door", "5")
    ext = words["ext"]
    verdict = asked.check(
        [f"node-b$ iptables -t nat -A {ext} -j {to}" for to in ("KUBE-MARK-MASQ", SVL)]
    )
    assert not verdict.right
    assert "Whose address should it see under Local" in verdict.message


def test_a_node_that_can_no_longer_ask_itself_is_noticed() -> None:
    drop = "node-c$ iptables -I OUTPUT -p tcp -j DROP"
    sees_through(f"{LESSON}/mend-the-door", mend_the_door, drop, "From node-c to node-c:{port}")
