"""Exercises of lesson 04: rules choose the table, on a node with two network cards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from ekslearn.cluster import Lab
from ekslearn.errors import EkslearnError
from ekslearn.exercises.format import (
    Dice,
    Exercise,
    Letters,
    Look,
    Mend,
    Variant,
    fault,
    plain,
    renamed,
    two_pods,
)

CARD = re.compile(r"eth\d|eni[0-9a-f]{11}|none")


def draw(dice: Dice, scenario: str = "two-enis") -> tuple[Lab, dict[str, str]]:
    """A healthy node of this learner: other pods, other addresses, the same wiring."""
    second, third = dice.number("second", 1, 250), dice.number("third", 1, 200)
    net, other = f"10.{second}.{third}", f"10.{second}.{third + 1}"
    words, names = two_pods(dice, net, lowest=40)
    words |= {
        "card": f"{net}.{dice.number('card', 20, 39)}",
        "subnet": f"{net}.0/24",
        "vpc": f"10.{second}.0.0/16",
        "peer": f"{other}.{dice.number('peer', 4, 250)}",
        "client": f"203.0.113.{dice.number('client', 2, 250)}",
        "port": str(dice.number("port", 30000, 32767)),
    }
    names |= {
        "10.0.1.42:80": f"{words['address_b']}:80",
        "10.0.1.20": words["card"],
        "10.0.1.0": f"{net}.0",
        "10.0.0.0": f"10.{second}.0.0",
        "10.0.2.1": f"{other}.1",
        "10.0.2.9": words["peer"],
        "203.0.113.7": words["client"],
        "31380": words["port"],
    }
    return renamed(scenario, names), words


def read_card(answer: str) -> str:
    """An interface of the node, or none; EkslearnError if it is nothing of that kind."""
    text = plain(answer)
    if not CARD.fullmatch(text):
        raise EkslearnError(
            f"{answer[:40]!r} is no interface of this node; answer eth0, eth1, the name of a veth,"
            " or none"
        )
    return text


INTRO = (
    "A node has the cards eth0 ({host}) and eth1 ({card}), both in {subnet}. The pod **{a}**"
    " ({address_a}) has an address of eth0, the pod **{b}** ({address_b}) one of eth1. peer"
    " ({peer}) is a machine elsewhere in the VPC. "
)


class WhichRule(Look):
    """Which rule of the node decides about a packet?"""

    name = "rules-choose-the-table/which-rule"
    place = "easy"
    beat = "a table for each card"
    question = (
        INTRO + "In **{source}** somebody runs `ping {target}`. Which rule of the node decides"
        " about the request? Answer with its priority, the number in front of it (`.lab` is"
        " this node: try `ip rule show` on `host`)."
    )
    restated = (
        "Rules are asked from the lowest number up. A rule decides if all of its conditions"
        " hold and its table has a row for the destination."
    )
    first_step = (
        "Note the packet's source and destination ({target}), and go down the list"
        " of `ip rule show` with a finger."
    )
    flows: ClassVar[tuple[tuple[str, str], ...]] = (
        ("{b}", "peer"),
        ("{a}", "peer"),
        ("{b}", "{address_a}"),
        ("{a}", "{address_b}"),
        ("peer", "{address_b}"),
        ("peer", "{address_a}"),
        ("host", "peer"),
        ("peer", "{card}"),
    )

    def vary(self, dice: Dice) -> Variant:
        """Another sender and receiver."""
        lab, words = draw(dice)
        source, target = (part.format_map(words) for part in dice.one("flow", self.flows))
        to = words["peer"] if target == "peer" else target
        return Variant(lab=lab, words=words | {"source": source, "target": to})

    def truth(self, variant: Variant) -> str:
        """The priority of the rule that the host's first lookup chose."""
        trace = variant.lab.copy().trace(variant.words["source"], variant.words["target"])
        steps = [s for s in trace.steps if (s.place, s.stage) == ("host", "rule")]
        return steps[0].because.split(":")[0] if steps else "none"

    def read(self, variant: Variant, answer: str) -> str:
        """The priority of a rule that is there."""
        text = answer.strip().strip("`'\".:").lower().split(":")[0]
        rules = variant.lab.run("host", "ip rule show").stdout.splitlines()
        if text not in {rule.split(":")[0] for rule in rules}:
            raise EkslearnError(
                f"{answer[:40]!r} is no rule of this node; answer with the number at the start of"
                " a line of `ip rule show`"
            )
        return text

    def back(self, variant: Variant, answer: str) -> str:
        """A selector that doesn't match, or a rule that stands too late."""
        words, right = variant.words, self.truth(variant)
        asked = {
            "0": "Table local holds the node's own addresses. Is {target} one of them?",
            "512": "Rule 512 says `to`. Is {target} the address of a pod on this node?",
            "1024": "That rule wants a mark. Has anybody marked this packet?",
            "1536": "Rule 1536 says `from`. Is the sender's address the one that it names?",
            "32765": "That rule is for packets from the card's own address. Is {source} the card?",
            "32767": "Table default is asked last, and it is empty. Does an earlier rule match?",
            "32766": "That rule matches every packet. Does one that stands before it match too,"
            " and has its table a row?",
        }
        if right == "512" and answer == "1536":
            return "That rule would match. Is there one with a lower number that matches as well?"
        if right == "0":
            return "Whose address is {target}? Which table knows that?".format_map(words)
        return asked.get(answer, asked["32766"]).format_map(words)

    def why(self, variant: Variant) -> str:
        """The rule and the row."""
        trace = variant.lab.copy().trace(variant.words["source"], variant.words["target"])
        rule, route = [s.because for s in trace.steps if s.place == "host"][:2]
        return f"`{rule}` is the first rule that matches and whose table has a row: `{route}`."


class WhichCard(Look):
    """Something changes in rules or tables. By which card does the pod's packet leave?"""

    name = "rules-choose-the-table/which-card"
    place = "end"
    beat = "no row, next rule"
    question = (
        INTRO + "Now {story}: `{line}`. By which interface of the node does a packet from"
        " **{b}** to **peer** leave? Answer `eth0`, `eth1`, or `none`."
    )
    restated = (
        "The rules are asked in order until a table has a row. Which rule is that, after the"
        " change?"
    )
    first_step = "Run `ip route get {peer} from {address_b} iif {veth_b}` on the host of `.lab`."
    faults: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ip rule del priority 1536", "rule 1536 is deleted"),
        ("ip route flush table 2", "table 2 is emptied"),
        ("ip route del default table 2", "table 2 loses its default route"),
        ("ip rule del priority 1024", "rule 1024 is deleted"),
        ("ip route del default", "table main loses its default route"),
        ("ip route replace unreachable default table 2", "table 2 gets an unreachable default"),
        ("ip rule add priority 1000 to {vpc} lookup main", "a rule is added"),
        ("ip rule add priority 40000 from {address_b} lookup main", "a rule is added"),
    )

    def vary(self, dice: Dice) -> Variant:
        """Another change."""
        lab, words = draw(dice)
        line, story = dice.one("fault", self.faults)
        words |= {"line": line.format_map(words), "story": story}
        return Variant(lab=fault(lab, [f"host$ {words['line']}"]), words=words)

    def truth(self, variant: Variant) -> str:
        """Where the request was seen leaving the node."""
        trace = variant.lab.copy().trace(variant.words["b"], variant.words["peer"])
        seen = [s for s in trace.request if (s.place, s.direction) == ("host", "out")]
        return seen[0].interface if seen else "none"

    def read(self, variant: Variant, answer: str) -> str:
        """An interface, or none."""
        return read_card(answer)

    def back(self, variant: Variant, answer: str) -> str:
        """Giving up too early, or trusting a row that is gone or never asked."""
        words, right = variant.words, self.truth(variant)
        if answer.startswith("eni"):
            return f"That is a cable to a pod of this node. Where does {words['peer']} live?"
        if answer == "none":
            return (
                "If the table of a matching rule has no row for the destination, is the packet"
                " lost, or is there another rule to ask?"
            )
        if right == "none":
            return (
                "There is a row now that matches. Does a row that says *unreachable* mean: look"
                " elsewhere?"
            )
        if right == "eth0":
            return (
                f"Go down the rules with a packet from {words['address_b']}: which is the first"
                " that matches and whose table still has a row?"
            )
        return "Does the thing that was changed decide about this packet, or does a rule before it?"

    def why(self, variant: Variant) -> str:
        """The rule and the row that decided."""
        trace = variant.lab.copy().trace(variant.words["b"], variant.words["peer"])
        rule, route = [s.because for s in trace.steps if s.place == "host"][:2]
        return f"`{rule}`, and in its table `{route}`."


class MarkedPackets(Letters):
    """Which marks match a rule with a mask?"""

    name = "rules-choose-the-table/marked-packets"
    place = "end"
    beat = "a mark beats the sender"
    question = (
        INTRO + "This node's rule 1024 reads `from all fwmark {mask}/{mask} lookup main`. Four"
        " packets from **{b}** to **peer** carry these marks:\n\n- a: {mark_a}\n- b: {mark_b}\n"
        "- c: {mark_c}\n- d: {mark_d}\n\nWhich of them leave by eth0? Answer with letters, as"
        " in `a c`, or `none`."
    )
    restated = (
        "`fwmark VALUE/MASK` looks only at the bits of the mask: mark AND mask must equal the"
        " value."
    )
    first_step = "In Python: `{mark_a} & {mask} == {mask}`, and so on for the other three."
    masks: ClassVar[tuple[int, ...]] = (0x80, 0x40, 0x200, 0x8, 0x1000)

    def vary(self, dice: Dice) -> Variant:
        """Another mark, as AWS_VPC_K8S_CNI_CONNMARK would set it, and four packets."""
        lab, words = draw(dice)
        mask = dice.one("mask", self.masks)
        extra = dice.one("extra", [0x4000, 0x1, 0x20])
        marks = [mask, mask | extra, mask << 1, mask >> 1, extra, (mask << 1) | mask, mask - 1]
        marks = list(dict.fromkeys(marks))
        words |= {"mask": hex(mask)}
        for letter, mark in dice.lettered("marks", marks):
            words[f"mark_{letter}"] = hex(mark)
        lines = [
            "host$ ip rule del priority 1024",
            f"host$ ip rule add priority 1024 fwmark {words['mask']}/{words['mask']} lookup main",
        ]
        return Variant(lab=fault(lab, lines), words=words)

    def leaves(self, variant: Variant, mark: str) -> str:
        """The kernel's own answer for one mark."""
        words = variant.words
        command = (
            f"ip route get {words['peer']} from {words['address_b']} iif {words['veth_b']}"
            f" mark {mark}"
        )
        return variant.lab.run("host", command).stdout.split("\n")[0].strip()

    def truth(self, variant: Variant) -> str:
        """Every mark, asked."""
        found = {x: self.leaves(variant, variant.words[f"mark_{x}"]).split() for x in "abcd"}
        return "".join(x for x in "abcd" if "eth0" in found[x])

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """The mask forgotten, or a bit misread."""
        words = variant.words
        said = f"About {wrong}, the mark {words[f'mark_{wrong}']}:"
        if not chosen:
            return f"{said} what does the mask after the slash do with all the other bits?"
        return f"{said} write it in binary. Is the one bit of {words['mask']} set in it?"

    def why(self, variant: Variant) -> str:
        """What ip route get says of each."""
        found = {x: self.leaves(variant, variant.words[f"mark_{x}"]) for x in "abcd"}
        told = [f"{x}: `via {said.split(' via ')[-1]}`" for x, said in found.items()]
        return f"`ip route get … mark …` says {'; '.join(told)}."


class MendTheRules(Mend):
    """Some pods of a node have lost the network; mend it."""

    name = "rules-choose-the-table/mend-the-rules"
    place = "open"
    beat = "break it on purpose"
    question = (
        INTRO + "Since somebody restarted a service of the operating system, not every flow"
        " works. Find what is missing or wrong (`.lab` is the broken node) and mend it: give"
        " the lines to run, each as `PLACE$ COMMAND`, for instance `host$ ip rule show`."
    )
    restated = (
        "A rule is missing, or one is too much, or a table doesn't hold its two rows. Only one"
        " of these."
    )
    first_step = (
        "Lay `ip rule show` and `ip route show table 2` of the lesson's node beside those of"
        " `.lab`; {b} needs one rule more than {a}."
    )
    faults = (
        ("host$ ip rule del priority 1536",),
        ("host$ ip route flush table 2",),
        ("host$ ip route replace default via {router} dev eth0 table 2",),
        ("host$ ip rule del priority 1536",
         "host$ ip rule add priority 1536 from {address_b} lookup 3"),
        ("host$ ip rule add priority 1000 from {address_b} lookup main",),
        ("host$ ip rule del priority 512 to {address_a} lookup main",),
        ("host$ ip link set dev eth1 down", "host$ ip link set dev eth1 up"),
    )  # fmt: skip
    dangers = (
        (r"^(vpc|peer)\$", "That machine isn't yours: AWS checks every sender, and you can't switch"
         " that off for others. What on the node makes the packet leave by the wrong card?"),
        (r"\brule\b.*\bflush\b|\bflush\b.*\b(main|local|all)\b", "That takes the rules and rows of"
         " the healthy pods as well. Which single line is missing or wrong?"),
        (r"SNAT|DNAT|MASQUERADE", "Then peer would no longer see the pod's own address. Which card"
         " does that address belong to?"),
        (r"\brule\b\s+add\b.*\bfrom all\b.*\blookup 2\b|\brule\b\s+add\s+lookup 2\b", "Then every"
         " packet would use the second card, those of the first card's pods too. Whose packets"
         " belong there?"),
    )  # fmt: skip

    def vary(self, dice: Dice) -> Variant:
        """One of seven faults, on another node."""
        return self.broken(dice, *draw(dice))

    def flows(self, words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Pods to each other, pods and peer both ways, and the node to all."""
        a, b = words["address_a"], words["address_b"]
        return (
            (words["b"], f"{words['peer']}:80/tcp"),
            ("peer", f"{b}:80/tcp"),
            (words["a"], f"{words['peer']}:80/tcp"),
            ("peer", f"{a}:80/tcp"),
            (words["b"], f"{a}:80/tcp"),
            (words["a"], f"{b}:80/tcp"),
            ("host", f"{a}:80/tcp"),
            ("host", f"{b}:80/tcp"),
            ("host", words["peer"]),
        )

    def look(self, words: Mapping[str, str], source: str, destination: str) -> str:
        """Where to look next."""
        return (
            f"Which rule of the host does `.lab.trace({source!r}, {destination!r})` name, which"
            " row, and which would a healthy node name?"
        )


EXERCISES: Sequence[Exercise] = (WhichRule(), WhichCard(), MarkedPackets(), MendTheRules())
