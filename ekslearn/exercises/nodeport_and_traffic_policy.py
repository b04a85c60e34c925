"""Exercises of lesson 13: who answers at a node's port, whom the pod sees, and how it is shared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from typing import ClassVar

from ekslearn.cluster import Cluster, Lab
from ekslearn.errors import EkslearnError
from ekslearn.exercises.format import (
    LETTERS,
    Dice,
    Exercise,
    Flows,
    Look,
    Mend,
    Variant,
    as_words,
    cluster_of,
    plain,
    renamed,
    whole,
)
from ekslearn.kubernetes import Container, Pod
from ekslearn.trace import Trace

SCENARIO = "traffic-policy"
SERVICE = "shop/web"
NODES = ("node-a", "node-b", "node-c")
INTRO = (
    "The Service **shop/web** ({cluster_ip}:80) has the nodePort {port}. The nodes are **node-a**"
    " ({node_a} on eth0, {card_a} on eth1), **node-b** ({node_b}, {card_b}) and **node-c**"
    " ({node_c}). {said_a}; {said_b}; node-c runs none of its pods, but the pod **client**"
    " ({client}). **laptop** ({laptop}) is a machine in the VPC. "
)
UNMARK = "iptables -t mangle -D PREROUTING 2"  # then no answer gets its connection's mark


def draw(dice: Dice) -> tuple[Cluster, dict[str, str]]:
    """This learner's three nodes, with other addresses and another port."""
    net = f"10.{dice.number('net', 1, 250)}"
    port = str(dice.number("port", 30000, 32767))
    words, names = {"port": port}, {"31380": port, "10.0.0.0": f"{net}.0.0"}
    for third in ("1", "2", "3", "9"):
        names[f"10.0.{third}.0"] = f"{net}.{third}.0"
    for what, old, low, high in (
        ("node_a", "1.10", 4, 19), ("web_2", "1.12", 20, 60), ("card_a", "1.40", 64, 99),
        ("web_1", "1.45", 100, 250), ("node_b", "2.10", 4, 19), ("spare_b", "2.12", 20, 60),
        ("card_b", "2.70", 64, 99), ("web_3", "2.77", 100, 250), ("node_c", "3.10", 4, 19),
        ("client", "3.12", 20, 250), ("laptop", "9.9", 4, 250),
    ):  # fmt: skip
        third, _, last = old.partition(".")
        given = dice.number(what, low, high)
        words[what] = names[f"10.0.{old}"] = f"{net}.{third}.{given}"
        if what in ("web_1", "web_2", "web_3", "spare_b"):  # the next one is theirs as well
            names[f"10.0.{third}.{int(last) + 1}"] = f"{net}.{third}.{given + 1}"
    lab = cluster_of(renamed(SCENARIO, names))
    words["cluster_ip"] = str(lab.services[SERVICE].cluster_ip)
    return lab, words


def serve(lab: Cluster, policy: str) -> None:
    """Give the Service this externalTrafficPolicy; kube-proxy sees to it."""
    lab.services.add(replace(lab.services[SERVICE], external_policy=policy))
    lab.sleep(1)


def place(name: str) -> str:
    """Where somebody asks from, as the lab calls it."""
    return "default/client" if name == "client" else name


def alone(lab: Cluster, words: dict[str, str]) -> None:
    """Leave one pod of the Service on node-a and one on node-b, both of eth1; policy Local."""
    lab.delete_pod("shop/web-2")
    serve(lab, "Local")
    words["said_a"] = f"node-a runs its pod **web-1** ({words['web_1']}, of eth1)"
    words["said_b"] = f"node-b its pod **web-3** ({words['web_3']}, of eth1)"


class WhoIsSeen(Look):
    """Which source address does the pod see?"""

    name = "nodeport-and-traffic-policy/who-is-seen"
    place = "easy"
    beat = "the client's own address"
    question = (
        INTRO + "Its `externalTrafficPolicy` is **{policy}**. **{source}** connects to the"
        " nodePort of **{node}**. Which source address does the pod see that answers? Answer"
        " `none` if no pod ever sees it. (`.lab` is this cluster; try not to send the packet"
        " first.)"
    )
    restated = (
        "Two things are to be known: has the asked node an endpoint that it may use, and does"
        " it masquerade this connection?"
    )
    first_step = (
        "`iptables -t nat -S` the chain KUBE-EXT of {node}, and ask each row whether"
        " it is about {source}."
    )

    def vary(self, dice: Dice) -> Variant:
        """Another policy, another node asked, another one who asks."""
        lab, words = draw(dice)
        policy = dice.one("policy", ("Cluster", "Local", "Local"))
        source = dice.one("source", ("laptop", "client", "node-a", "node-c"))
        serve(lab, policy)
        words |= {"policy": policy, "source": source, "node": dice.one("node", NODES)}
        words["said_a"] = "node-a runs two of its pods"
        words["said_b"] = "node-b one"
        return Variant(lab=lab, words=words)

    def truth(self, variant: Variant) -> str:
        """What the pod said it saw."""
        words = variant.words
        target = f"{words['node']}:{words['port']}"
        said = variant.lab.copy().trace(place(words["source"]), target).answer
        return said.split()[1] if said else "none"

    def read(self, variant: Variant, answer: str) -> str:
        """An address, or none."""
        if (text := plain(answer)) in ("none", "-", "nobody"):
            return "none"
        try:
            return str(IPv4Address(text))
        except ValueError:
            raise EkslearnError(
                f"{answer[:40]!r} is no address; answer with one, such as"
                f" {variant.words['cluster_ip']}, or none"
            ) from None

    def back(self, variant: Variant, answer: str) -> str:
        """Masquerade forgotten or imagined, a node's own question, an endpoint missed."""
        words, right = variant.words, self.truth(variant)
        node = words["node"]
        asked, asking = (words[words[each].replace("-", "_")] for each in ("node", "source"))
        if right == "none":
            return f"Where does KUBE-EXT lead on {node}, if no endpoint is its own?"
        if answer == "none":
            if words["policy"] == "Cluster":
                return "Under Cluster, has the pod to run on the node that is asked?"
            return f"Under Local: has {node} an endpoint, or is it asked by itself?"
        if answer == asking:
            return (
                f"Under Cluster the pod may be on another node. By whom must its answer come back,"
                f" so that {words['source']} knows it?"
            )
        if answer == asked:
            return "Under Local, for whom does KUBE-EXT masquerade, and for whom not?"
        return f"Whose address is that? Does it stand anywhere on the way from {words['source']}?"

    def why(self, variant: Variant) -> str:
        """What the node that was asked did."""
        words = variant.words
        trace = variant.lab.copy().trace(place(words["source"]), f"{words['node']}:{words['port']}")
        told = [
            step.decision
            for step in trace.steps
            if step.place == words["node"] and step.leg == "request" and "bind" in step.decision
        ]
        done = "; ".join(told) or trace.reason.partition(": ")[2]
        return f"This is what {words['node']} does: {done}."


def chances(lab: Lab, node: str, chain: str, left: float = 1.0) -> dict[str, float]:
    """How a connection from outside that enters ``chain`` falls to endpoints, by their address.

    Reads the node's own rules: each dice takes its part of what the rows before it have left.
    """
    found: dict[str, float] = {}
    for rule in lab.run(node, f"iptables -t nat -S {chain}").stdout.splitlines():
        jump = re.search(r" -j (KUBE-(?:SVC|SVL|SEP|EXT)-\w+)", rule)
        said = re.search(r"--probability (\S+)", rule)
        if end := re.search(r"--to-destination ([\d.]+):", rule):
            found[end[1]] = left
        elif jump and "--src-type LOCAL" not in rule:
            part = left * float(said[1]) if said else left
            found |= chances(lab, node, jump[1], part)
            left -= part
    return found


class HowManyArrive(Look):
    """How many of many connections does one pod get?"""

    name = "nodeport-and-traffic-policy/how-many-arrive"
    place = "end"
    beat = "uneven load"
    question = (
        INTRO + "Its `externalTrafficPolicy` is **{policy}**. A balancer in front gives every"
        " node that answers the same share of {connections} connections. How many of them does"
        " **{pod}** get, on average?"
    )
    restated = (
        "First the balancer chooses a node that answers, then that node one of the pods that"
        " its policy allows. Multiply the two chances."
    )
    first_step = "Under {policy}: which nodes answer, and which pods may each of them choose?"

    def vary(self, dice: Dice) -> Variant:
        """Another number of pods on either node, never the same on both; calls that divide."""
        lab, words = draw(dice)
        policy = dice.one("policy", ("Local", "Local", "Cluster"))
        counts = dice.order("counts", (1, 2, 3))[:2]
        lab.delete_pod("shop/web-2")
        http = Container(name="nginx", ports=((8080, "tcp"),), names={("http", "tcp"): 8080})
        for node, count in zip(NODES, counts, strict=False):
            for number in range(1, count):
                lab.add_pod(Pod(name=f"more-{number}-{node[-1]}", namespace="shop", node=node,
                                labels={"app": "web"}, containers=(http,)))  # fmt: skip
        serve(lab, policy)
        for side, count, pod in zip("ab", counts, ("web-1", "web-3"), strict=True):
            words[f"count_{side}"] = str(count)
            words[f"said_{side}"] = (
                f"node-{side} runs {count} of its pods, {pod} ({words[pod.replace('-', '_')]})"
                f" {'among them' if count > 1 else 'alone'}"
            )
        words |= {"policy": policy, "pod": dice.one("pod", ("web-1", "web-3"))}
        words["connections"] = f"{180 * dice.number('connections', 3, 40):,}"
        return Variant(lab=lab, words=words)

    def all_of(self, words: Mapping[str, str]) -> int:
        """How many connections there are."""
        return int(words["connections"].replace(",", ""))

    def truth(self, variant: Variant) -> str:
        """Each node's own rules, read; nodes that lead nowhere get nothing."""
        words, lab = variant.words, variant.lab
        row = f"--dport {words['port']} -j (KUBE-EXT-\\w+)"
        listed = {node: lab.run(node, "iptables -t nat -S KUBE-NODEPORTS").stdout for node in NODES}
        doors = {node: door[1] for node, text in listed.items() if (door := re.search(row, text))}
        answering = list(filter(None, (chances(lab, *door) for door in doors.items())))
        mine = words[words["pod"].replace("-", "_")]
        share = sum(one.get(mine, 0) for one in answering) / max(1, len(answering))
        return str(round(self.all_of(words) * share))

    def read(self, variant: Variant, answer: str) -> str:
        """A number."""
        return whole(answer, "connections", 1000)

    def back(self, variant: Variant, answer: str) -> str:
        """The other policy's share, the other node's, or node-c counted in."""
        words = variant.words
        mine, other = words["count_a"], words["count_b"]
        if words["pod"] == "web-3":
            mine, other = other, mine
        a, b, given, connections = int(mine), int(other), int(answer), self.all_of(words)
        if words["policy"] == "Cluster":
            return (
                "Under Cluster, does a node prefer pods of its own? How many endpoints does each"
                " node's chain choose among?"
            )
        if given == connections // (a + b):
            return "Under Local, may a node hand a connection to a pod of another node?"
        if given == connections // 3 // a:
            return "Does node-c answer, under Local?"
        if given == connections // 2 // b:
            return f"That is a pod's share on the other node. With how many does {words['pod']}" \
                " share its own node's?"  # fmt: skip
        return f"How much does {words['pod']}'s node get, and how many pods share it?"

    def why(self, variant: Variant) -> str:
        """How the shares multiply."""
        words = variant.words
        if words["policy"] == "Cluster":
            return "Each node chooses among all pods, wherever they are, with equal chances."
        count = words["count_a" if words["pod"] == "web-1" else "count_b"]
        return f"Two nodes answer; {words['pod']}'s node has {count} of its own to choose among."


class WhichAreAnswered(Flows):
    """Under Local: which of four connections get an answer?"""

    name = "nodeport-and-traffic-policy/which-are-answered"
    place = "end"
    beat = "who else asks"
    question = (
        INTRO + "Its `externalTrafficPolicy` is **Local**. {said} Which of these connections"
        " are answered?\n\n- a: {from_a} asks {to_a}\n- b: {from_b} asks {to_b}\n"
        "- c: {from_c} asks {to_c}\n- d: {from_d} asks {to_d}\n\n"
        "(A node is asked at its nodePort and its address on eth0, or on eth1 where it says so;"
        " the clusterIP at port 80.) " + LETTERS
    )
    restated = (
        "A node that is asked from elsewhere uses its own endpoints only. From itself, it may"
        " use all. And an answer has to leave by the ENI that owns its source."
    )
    first_step = (
        "Write beside each node its endpoints under Local, in this state. Then go through the four."
    )
    states: ClassVar[tuple[tuple[str, str], ...]] = (
        ("well", "Every pod is ready."),
        ("going", "web-3 is **being deleted** and still answers."),
        ("unready", "web-3 **fails its readiness probe**; nobody deletes it."),
        ("mark", f"Somebody has run `{UNMARK}` on **node-a**."),
    )
    askings: ClassVar[tuple[tuple[str, str], ...]] = (
        ("laptop", "node-a"), ("laptop", "node-b"), ("laptop", "node-c"), ("client", "node-a"),
        ("client", "node-b"), ("client", "node-c"), ("node-c", "node-c"), ("node-b", "node-b"),
        ("laptop", "eth1 of node-a"), ("client", "the clusterIP"),
    )  # fmt: skip

    def vary(self, dice: Dice) -> Variant:
        """Another state of the cluster, and four who ask."""
        lab, words = draw(dice)
        alone(lab, words)
        state, said = dice.one("state", self.states)
        lab.pods["shop/web-3"] = replace(
            lab.pods["shop/web-3"], ready=state != "unready", terminating=state == "going"
        )
        lab.sleep(1)
        if state == "mark":
            lab.wire([f"node-a$ {UNMARK}"])
        words |= {"state": state, "said": said}
        flows = dice.order("flows", self.askings)
        first = next(one for one in flows if one[1] == {"mark": "node-a"}.get(state, "node-b"))
        flows = dice.order("four", [first, *[one for one in flows if one != first][:3]])
        words |= as_words(zip("abcd", flows, strict=True))
        return Variant(lab=lab, words=words)

    def flow(self, words: Mapping[str, str], letter: str) -> tuple[str, str]:
        """Source and destination, as the lab calls them."""
        target = words[f"to_{letter}"]
        end = {"eth1 of node-a": f"{words['card_a']}:{words['port']}",
               "the clusterIP": f"service/{SERVICE}:80"}  # fmt: skip
        return place(words[f"from_{letter}"]), end.get(target, f"{target}:{words['port']}")

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """A silent node taken for an answering one, or an answer overlooked."""
        words = variant.words
        source, target = words[f"from_{wrong}"], words[f"to_{wrong}"]
        said = f"About {wrong}, {source} asks {target}:"
        if chosen and target == "node-a":
            return f"{said} by which ENI does web-1's answer leave, without that rule?"
        if chosen:
            return f"{said} has {target} an endpoint of its own that is ready?"
        if source == target:
            return f"{said} what does KUBE-EXT say of LOCAL traffic?"
        if target == "the clusterIP":
            return f"{said} does externalTrafficPolicy say anything about a clusterIP?"
        if target == "eth1 of node-a":
            return f"{said} by which ENI would web-1's answer leave without a mark, and is that"\
                " the wrong one?"  # fmt: skip
        if words["state"] == "going" and target == "node-b":
            return f"{said} which endpoints does a node take, if none of its own is ready?"
        return f"{said} has {target} an endpoint? Then what could stop the answer?"


class MendTheDoor(Mend):
    """Some connections to a nodePort hang or are refused; mend it under Local."""

    name = "nodeport-and-traffic-policy/mend-the-door"
    place = "open"
    beat = "break it on purpose, and mend it"
    question = (
        INTRO + "Its `externalTrafficPolicy` is **Local**. Somebody has changed a node. Since"
        " then some connections to it hang, are refused, or show the pod a wrong source. Find"
        " what is missing or too much (`.lab` is the broken cluster) and mend it: give the"
        " lines to run, each as `PLACE$ COMMAND`, for instance `node-a$ iptables-save -t nat`."
    )
    restated = (
        "A connection needs kube-proxy's rows to find its pod, and the CNI's mark, its rule"
        " 1024 and a lenient rp_filter to find back. One of them isn't as it was."
    )
    first_step = (
        "node-a and node-b were wired alike. Print table mangle, the chains KUBE-NODEPORTS and"
        " KUBE-EXT, `ip rule` and rp_filter on both, and lay them side by side."
    )
    faults = (
        ("node-a$ iptables -t mangle -D PREROUTING 1",),
        ("node-b$ iptables -t mangle -D PREROUTING 2",),
        ("node-a$ ip rule del priority 1024",),
        ("node-b$ sysctl -w net.ipv4.conf.eth0.rp_filter=1",),
        ("node-a$ iptables -t nat -F KUBE-NODEPORTS",),
        ("node-b$ iptables -t nat -D {ext} 3",),
    )
    dangers = (
        (r"^(?!node-[abc]\$)", "Only the nodes are yours to change. Which of them loses an answer,"
         " or never asks a pod?"),
        (r"-[AI]\b.*-j (MASQUERADE|SNAT)\b", "Then the pod sees a node. Whom should it see, under"
         " Local?"),
        (r"\brule\b\s+del\w*\b.*(1536|from)", "Then every packet of that pod would leave by eth0,"
         " with an address of eth1. Who checks that?"),
        (r"iptables\b.*\s(-F|--flush)\b", "A flush takes healthy rows as well. Which single"
         " row is missing or too much?"),
    )  # fmt: skip

    def vary(self, dice: Dice) -> Variant:
        """One of six faults, on other nodes."""
        lab, words = draw(dice)
        alone(lab, words)
        listed = lab.run("node-a", "iptables -t nat -S KUBE-NODEPORTS").stdout
        words["ext"] = re.findall(r"KUBE-EXT-\w+", listed)[0]
        return self.broken(dice, lab, words)

    def flows(self, words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """From outside and from a pod to both nodes that have an endpoint; and from a node."""
        doors = [f"{node}:{words['port']}" for node in NODES[:2]]
        asked = [(source, door) for source in ("laptop", "default/client") for door in doors]
        return (*asked, ("node-c", f"node-c:{words['port']}"))

    def amiss(self, words: Mapping[str, str], source: str, destination: str, trace: Trace) -> str:
        """The pod has to see who asked; a node that asks itself is masqueraded."""
        node, found = destination.partition(":")[0], trace.answer.split()[1]
        if source == node or found == words[source.rpartition("/")[2]]:
            return ""
        return (
            f"By {node} the pod sees {found} when {source} asks. Whose address should it see under"
            " Local, and which row gives the mark for masquerading?"
        )

    def look(self, words: Mapping[str, str], source: str, destination: str) -> str:
        """Where to look next."""
        return (
            f"Is the pod ever asked, and by which ENI does its answer leave, in"
            f" `.lab.trace({source!r}, {destination!r})`?"
        )


EXERCISES: Sequence[Exercise] = (
    WhoIsSeen(), HowManyArrive(), WhichAreAnswered(), MendTheDoor(),
)  # fmt: skip
