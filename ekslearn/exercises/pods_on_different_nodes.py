"""Exercises of lesson 09: by which interface a pod's packet leaves its node, and who lets it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import ClassVar

from ekslearn.cluster import Cluster
from ekslearn.errors import EkslearnError
from ekslearn.exercises.format import (
    LETTERS,
    PODS,
    Dice,
    Exercise,
    Flows,
    Letters,
    Look,
    Mend,
    Variant,
    as_words,
    cluster_of,
    fault,
    plain,
    renamed,
)

NODE = "node-a"
ENI = re.compile(r"eth\d|none")
INTRO = (
    "On node-a ({host}) run, among others, **{a}** ({address_a}), whose address eth0 owns, and"
    " **{d}** ({address_d}), whose address eth1 owns. **{far}** ({address_far}) runs on node-b."
    " bastion ({bastion}) is an instance in node-a's subnet {subnet}. "
)


def interface_of(lab: Cluster, address: str) -> str:
    """What its machine calls the ENI that EC2 gave ``address`` to; none if there is no such ENI."""
    eni = lab.vpc.owner(IPv4Address(address))
    return next((one.interface for one in lab.wires if eni and one.eni == eni.eni_id), "none")


def draw(dice: Dice, scenario: str = "two-nodes") -> tuple[Cluster, dict[str, str]]:
    """This learner's two nodes: other pods, other addresses, the same wiring."""
    second = dice.number("second", 1, 250)
    net = f"10.{second}"
    names = {
        "10.0.0.0": f"{net}.0.0",
        "10.0.32.0": f"{net}.32.0",
        "10.0.4.9": f"{net}.{dice.number('third', 2, 30)}.{dice.number('bastion', 4, 250)}",
    }
    pods = dice.order("pods", PODS)
    names |= dict(zip(("web-1", "web-2", "web-3", "web-4", "api-1"), pods, strict=False))
    lab = cluster_of(renamed(scenario, names))
    by_eni: dict[str, list[str]] = {"eth0": [], "eth1": []}
    for place, pod in lab.pods.items():
        if pod.node == NODE:
            by_eni.setdefault(interface_of(lab, lab.address(place)), []).append(place)
    chosen = {
        "a": dice.one("a", by_eni["eth0"]),
        "d": dice.one("d", by_eni["eth1"]),
        "far": f"default/{names['api-1']}",
    }
    subnet = lab.vpc.subnets["private-a"]
    words = chosen | {f"address_{key}": lab.address(place) for key, place in chosen.items()}
    words |= {
        "host": lab.address(NODE),
        "bastion": lab.address("bastion"),
        "subnet": str(subnet.cidr),
        "router": str(subnet.gateway),
        "eth1": str(lab.namespace(NODE).links["eth1"].addresses[0].ip),
    }
    return lab, words


def address(words: Mapping[str, str], who: str) -> str:
    """The address that a flow's receiver has."""
    return words.get(f"address_{who}") or words["host" if who == NODE else who]


class WhichInterface(Look):
    """By which ENI does a packet leave its node, if by any?"""

    name = "pods-on-different-nodes/which-interface"
    place = "easy"
    beat = "the rule of the second eni"
    question = (
        INTRO + "In **{source}** somebody runs `ping {target}`. By which ENI does the request"
        " leave node-a? Answer `eth0`, `eth1`, `eth2`, or `none` if it leaves by no ENI."
        " (`.lab` is this cluster: try `ip rule show` on node-a.)"
    )
    restated = (
        "Two rules matter here: one for receivers on this node, one for senders with an address"
        " of a second ENI. Which of them holds, if any?"
    )
    first_step = (
        "Go down `ip rule show` of node-a with the receiver {target}, then with the"
        " sender's address."
    )
    flows: ClassVar[tuple[tuple[str, str], ...]] = (
        ("d", "far"),
        ("d", "bastion"),
        ("d", "a"),
        ("a", "far"),
        ("a", "bastion"),
        ("a", "d"),
        (NODE, "far"),
    )

    def vary(self, dice: Dice) -> Variant:
        """Another sender and receiver."""
        lab, words = draw(dice)
        source, target = dice.one("who", self.flows)
        words |= {"source": words.get(source, source), "target": address(words, target)}
        return Variant(lab=lab, words=words | {"from": source, "to": target})

    def truth(self, variant: Variant) -> str:
        """Where the request was seen leaving the node, if that is an ENI."""
        trace = variant.lab.copy().trace(variant.words["source"], variant.words["target"])
        seen = [s for s in trace.request if (s.place, s.direction) == (NODE, "out")]
        return seen[0].interface if seen and ENI.fullmatch(seen[0].interface) else "none"

    def read(self, variant: Variant, answer: str) -> str:
        """An ENI of the node, or none; a veth is none."""
        text = plain(answer)
        if text in variant.lab.namespace(NODE).links and text.startswith("eni"):
            return "none"
        if not ENI.fullmatch(text):
            raise EkslearnError(
                f"{answer[:40]!r} is no ENI of node-a; answer eth0, eth1, eth2, or none"
            )
        return text

    def back(self, variant: Variant, answer: str) -> str:
        """A pod of the same node, a rule that isn't there, or one overlooked."""
        words, right = variant.words, self.truth(variant)
        if right == "none":
            return (
                "Which rule comes first for a packet to {target}: one that asks who sends, or one"
                " that asks who is to get it? And where does that row of main lead?"
            ).format_map(words)
        if answer == "none":
            return f"Does {words['target']} live on node-a? If not, how does a packet get out?"
        if answer == "eth2":
            return "Which pod has an address of eth2? Which rule leads to its table?"
        if right == "eth0":
            return (
                f"Is there a rule that names {words['source']} as the sender? If there is none,"
                " which table is left?"
            )
        return f"Does a rule ask who the sender is, and does it name {words['address_d']}?"

    def why(self, variant: Variant) -> str:
        """The rule and the row."""
        trace = variant.lab.copy().trace(variant.words["source"], variant.words["target"])
        found = {s.stage: s.because for s in trace.steps if s.place == NODE and s.leg == "request"}
        return f"`{found['rule']}`, and in its table `{found['route']}`."


class ToTheRouter(Letters):
    """Which frames are addressed to the router's MAC?"""

    name = "pods-on-different-nodes/to-the-router"
    place = "end"
    beat = "neighbor or gateway"
    question = (
        INTRO + "node-a sends four packets on, each in a frame:\n\n"
        "- a: {said_a}\n- b: {said_b}\n- c: {said_c}\n- d: {said_d}\n\n"
        "Which of these frames carry the MAC address of the subnet's router, {router}, as their"
        " destination? " + LETTERS
    )
    restated = (
        "A route with `via` sends to the router. A route without sends to the receiver itself."
        " Which of the two does each packet meet?"
    )
    first_step = (
        "Compare `ip route show` and `ip route show table 2` on node-a: which of them has a row"
        " for {subnet}?"
    )
    flows: ClassVar[tuple[tuple[str, str], ...]] = (
        ("a", "bastion"),
        ("d", "bastion"),
        ("a", "far"),
        ("d", "far"),
        (NODE, "bastion"),
        ("d", "a"),
        ("a", "d"),
    )

    def vary(self, dice: Dice) -> Variant:
        """Four of the flows, in another order."""
        lab, words = draw(dice)
        return Variant(lab=lab, words=words | four(dice, words, self.flows))

    def neighbor(self, variant: Variant, letter: str) -> str:
        """The node's neighbor entry for one flow; the probe before it lets the node learn it."""
        lab, words = variant.lab.copy(), variant.words
        source, target = words[f"from_{letter}"], address(words, words[f"to_{letter}"])
        lab.trace(words.get(source, source), target)
        trace = lab.trace(words.get(source, source), target)
        rows = [s.because for s in trace.steps
                if (s.place, s.stage, s.leg) == (NODE, "neighbor", "request")]  # fmt: skip
        return rows[-1] if rows else "none"

    def truth(self, variant: Variant) -> str:
        """Every flow, sent, and its entry compared with the router's MAC."""
        lab = cluster_of(variant.lab)
        router = lab.fabric.router_mac(lab.vpc.subnets["private-a"])
        return "".join(x for x in "abcd" if router in self.neighbor(variant, x))

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """A neighbor taken for a stranger, a table without neighbors, or a packet that stays."""
        words = variant.words
        said = f"About {wrong}, {words[f'said_{wrong}']}:"
        if not chosen and words[f"to_{wrong}"] == "far":
            return f"{said} is the receiver's address in {words['subnet']}?"
        if not chosen:
            return (
                f"{said} which table is asked about this sender, and has it a row for the subnet?"
            )
        if words[f"to_{wrong}"] == "bastion":
            return f"{said} which row of main holds bastion's address, and is there a `via` in it?"
        return f"{said} does this packet leave by an ENI at all? At whom does its veth end?"

    def why(self, variant: Variant) -> str:
        """The neighbor entries that were used."""
        told = "; ".join(f"{x}: `{self.neighbor(variant, x)}`" for x in "abcd")
        return f"The node's neighbor entries say {told}."


def four(dice: Dice, words: Mapping[str, str], flows: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Four flows as words: from_a, to_a and said_a, and so on."""
    drawn = dice.lettered("flows", flows)
    found = as_words(drawn)
    for letter, (source, target) in drawn:
        to = words.get(target, target) if target != "bastion" else target
        found[f"said_{letter}"] = f"from {words.get(source, source)} to {to}"
    return found


class WhatStillWorks(Flows):
    """One row of node-a is lost. Which flows still get an answer?"""

    name = "pods-on-different-nodes/what-still-works"
    place = "end"
    beat = "break it on purpose"
    question = (
        INTRO + "Now {story} on node-a: `{line}`. Which of these pings still get an answer?\n\n"
        "- a: {said_a}\n- b: {said_b}\n- c: {said_c}\n- d: {said_d}\n\n" + LETTERS
    )
    restated = (
        "A ping is two packets. For each letter, ask of both: which rule, which row, which ENI,"
        " and does that ENI own the sender's address?"
    )
    first_step = "Take {said_a} first, and trace it in `.lab`: where does the last step stand?"
    unharmed = "None of the four needs what was changed"
    faults: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ip rule del priority 1536", "rule 1536 is deleted"),
        ("ip route flush table 2", "table 2 is emptied"),
        ("ip route del default", "table main loses its default route"),
        ("ip rule del priority 1024", "rule 1024 is deleted"),
        ("ip rule del priority 32765 from {eth1}", "the rule for eth1's own address is deleted"),
        ("ip link set dev eth1 down", "eth1 is set down"),
        ("ip route del {address_a}", "main loses its route to {a}"),
    )
    ways: ClassVar[tuple[tuple[str, str], ...]] = (
        ("d", "far"),
        ("far", "d"),
        ("a", "far"),
        ("far", "a"),
        ("d", "a"),
        ("d", "bastion"),
        ("a", "bastion"),
    )

    def vary(self, dice: Dice) -> Variant:
        """Another fault, and four other flows."""
        lab, words = draw(dice)
        line, story = dice.one("fault", self.faults)
        words |= {"line": line.format_map(words), "story": story.format_map(words)}
        words |= four(dice, words, self.ways)
        return Variant(lab=fault(lab, [f"{NODE}$ {words['line']}"]), words=words)

    def flow(self, words: Mapping[str, str], letter: str) -> tuple[str, str]:
        """One ping."""
        source = words[f"from_{letter}"]
        return words.get(source, source), address(words, words[f"to_{letter}"])

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """Too hopeful, or too gloomy."""
        said = f"About {wrong}, {variant.words[f'said_{wrong}']}:"
        if not chosen:
            return f"{said} does this packet, or its answer, ever use what was changed?"
        reason = dict(self.outcomes(variant))[wrong].reason
        if reason.startswith("reply:"):
            return f"{said} the request gets there. Which way does the answer take, by whose rules?"
        if "no address of the ENI" in reason:
            return f"{said} by which ENI does the packet leave now, and does it own the sender?"
        return f"{said} which row would have carried this packet, and is there another for it?"


class MendTheNode(Mend):
    """The rules and tables of a node are not as the CNI left them; mend it."""

    name = "pods-on-different-nodes/mend-the-node"
    place = "open"
    beat = "break it on purpose"
    question = (
        INTRO + "Since a service of node-a's operating system was restarted, some of its pods"
        " can't get out any more. Find the fault (`.lab` is the broken cluster to look around"
        " in) and mend it: give the lines to run, each as `PLACE$ COMMAND`, for instance"
        " `node-a$ ip rule show`."
    )
    restated = (
        "A packet from {d} has to leave by eth1. For that a rule must name its address, the"
        " rule's table must have a way out, and nothing may come before it."
    )
    first_step = (
        "Compare `ip rule show`, `ip route show` and `ip route show table 2` on node-a with the"
        " lesson's: {router} is the router, {eth1} is eth1's own address."
    )
    faults = (
        ("node-a$ ip rule del priority 1536", "node-a$ ip route flush table 2"),
        ("node-a$ ip route flush table 2",),
        ("node-a$ ip rule del priority 1536",
         "node-a$ ip rule add priority 1536 from {address_d} lookup 3"),
        ("node-a$ ip route replace default via {router} dev eth0 table 2",),
        ("node-a$ ip rule add priority 1000 from {address_d} lookup main",),
        ("node-a$ ip route replace {subnet} dev eth1 scope link src {eth1}",),
    )  # fmt: skip
    dangers = (
        (r"^(?!node-a\$)", "Only node-a's services were restarted; other machines work. Which row"
         " of node-a sends the packet the wrong way?"),
        (r"SNAT|DNAT|MASQUERADE", "Then the receiver would see another address than the pod's own."
         " Which ENI does that address belong to?"),
        (r"\brule\b.*\bflush\b|\bflush\b.*\b(main|local|all)\b", "That takes what the healthy pods"
         " need as well. Which single row is missing or wrong?"),
        (r"\brule\b\s+add\b.*\bfrom all\b.*\blookup [23]\b|\brule\b\s+add\b(?!.*\bfrom\b).*\blookup"
         r" [23]\b", "Then every packet would ask that table, those of eth0's pods too. Whose"
         " packets belong there?"),
        (r"\bdown\b|ip_forward\s*=\s*0", "That switches something off. Is an interface at fault, or"
         " the choice between them?"),
    )  # fmt: skip

    def vary(self, dice: Dice) -> Variant:
        """One of six faults, in another cluster."""
        return self.broken(dice, *draw(dice))

    def flows(self, words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Both pods out and in, and to each other."""
        a, d, far = words["a"], words["d"], words["far"]
        return (
            (d, words["address_far"]),
            (far, words["address_d"]),
            (a, words["address_far"]),
            (d, words["bastion"]),
            ("bastion", words["address_d"]),
            (a, words["bastion"]),
            (d, words["address_a"]),
        )

    def look(self, words: Mapping[str, str], source: str, destination: str) -> str:
        """Where to look next."""
        return (
            f"In `.lab.trace({source!r}, {destination!r})`, which rule of node-a decided, and by"
            " which ENI did the packet leave?"
        )


EXERCISES: Sequence[Exercise] = (WhichInterface(), ToTheRouter(), WhatStillWorks(), MendTheNode())
