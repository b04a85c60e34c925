"""More exercises of lesson 17: the way back, what one call needs, and a way that is broken."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from ekslearn.cluster import Lab
from ekslearn.errors import EkslearnError
from ekslearn.exercises.capstone import (
    DRAWN,
    INTRO,
    OfTheCall,
    address_of,
    at,
    call,
    draw,
    grep,
    sighted,
)
from ekslearn.exercises.format import (
    LETTERS,
    Dice,
    Exercise,
    Letters,
    Mend,
    Variant,
    as_words,
    fault,
    plain,
)
from ekslearn.trace import Trace


class WayOut(OfTheCall):
    """By which ENI does the answer leave the pod's node?"""

    name = "capstone/way-out"
    beat = "the way back"
    question = (
        "By which ENI does {pod}'s answer leave {home}, `eth0` or `eth1`, and by which row of"
        " `ip rule`? Answer as in `eth2 100`."
    )
    restated = (
        "Rule 1024 wants the mark 0x80, rule 1536 the pod's address as the sender. The mark"
        " comes first, if there is one."
    )
    first_step = "Does {home} hold this connection as one to its nodePort? Then it is marked."

    def truth(self, variant: Variant) -> str:
        """Where it was seen, and the rule that decided."""
        trace, home = self.trace(variant), variant.words["home"]
        out = sighted(trace.reply, home, "out")
        return f"{out.interface} {at(trace, 'reply', home, 'rule').because.partition(':')[0]}"

    def read(self, variant: Variant, answer: str) -> str:
        """An ENI and a number."""
        found = re.fullmatch(r"(eth\d)[ ,]+(?:rule )?(\d+):?", plain(answer), re.ASCII)
        if not found:
            raise EkslearnError(f"{answer[:40]!r} isn't an ENI and a rule; answer as in eth2 100")
        return " ".join(found.groups())

    def back(self, variant: Variant, answer: str) -> str:
        """The other ENI, or the right one by another rule."""
        words, right = variant.words, self.truth(variant)
        if answer.split()[0] == right.split()[0]:
            return "That is the ENI. Which row led there: one that asks for a mark, or a sender?"
        if answer.startswith("eth1"):
            return (
                f"The answer leaves {words['home']} as an answer of its nodePort, from eth0's"
                " address. Which mark has it got, before rules are asked?"
            )
        if answer.startswith("eth0"):
            return (
                f"Did the request come to {words['home']} at a node's address, or at the pod's?"
                " Which mark has the connection there?"
            )
        return "How many ENIs has this node?"

    def why(self, variant: Variant) -> str:
        """The rule and the row."""
        trace, home = self.trace(variant), variant.words["home"]
        rule, route = (at(trace, "reply", home, each).because for each in ("rule", "route"))
        return f"`{rule}`, and there `{route}`."


class LookedUpAs(OfTheCall):
    """With which ends is the answer routed on the node that was asked?"""

    name = "capstone/looked-up-as"
    beat = "the way back"
    question = (
        "The answer comes to {node}, and {node} asks its rules and tables. Which source and which"
        " destination address has the packet at that moment? Answer as in `10.0.0.1 > 10.0.0.2`."
    )
    restated = (
        "Two translations are to be undone. One is undone in PREROUTING, the other in"
        " POSTROUTING; routing stands between them."
    )
    first_step = (
        "Read the entry in `conntrack -L` on {node}: its second half is the answer as it comes in."
    )

    def truth(self, variant: Variant) -> str:
        """The header at the lookup."""
        header = at(self.trace(variant), "reply", variant.words["node"], "rule").header
        return f"{header['src']} > {header['dst']}"

    def read(self, variant: Variant, answer: str) -> str:
        """Two addresses."""
        ends = re.split(r"\s*(?:->|\N{RIGHTWARDS ARROW}|>|,|\s)\s*", plain(answer))
        if len(ends) != 2:
            raise EkslearnError(f"{answer[:50]!r} isn't two addresses; write SOURCE > DESTINATION")
        return " > ".join(address_of(end, variant.words["cluster_ip"]) for end in ends)

    def back(self, variant: Variant, answer: str) -> str:
        """Undone too early, or too late, or turned round."""
        words, right = variant.words, self.truth(variant)
        source, destination = answer.split(" > ")
        if answer == " > ".join(reversed(right.split(" > "))):
            return "That is the direction of the request. Who sends the answer?"
        if source == words["host"]:
            return "Is DNAT undone before the routing, or after it?"
        if source != words["pod_ip"]:
            return "Who sent this answer, and has anybody changed its source before?"
        if destination == words["host"]:
            return "Is SNAT undone before the routing, or after it?"
        return f"From whom did {words['node']} get the request: who is the client, for a node?"

    def why(self, variant: Variant) -> str:
        """The rule that was asked about it."""
        step = at(self.trace(variant), "reply", variant.words["node"], "rule")
        return f"SNAT is undone, DNAT isn't yet; so it meets `{step.because}`."


class WhichMark(OfTheCall):
    """Which mark does a node keep with the connection?"""

    name = "capstone/which-mark"
    beat = "the same door, the other pod"
    question = (
        "Once it is answered, `conntrack -L` on **{where}** lists this connection. What stands"
        " behind `mark=` in its line? Answer with a number."
    )
    restated = (
        "One row of table mangle marks connections. It asks two things: by which interface, and"
        " to whose address."
    )
    first_step = "Which destination has the request as it comes in on {where}?"

    def vary_from(self, dice: Dice, own: Variant) -> Variant:
        """The node that is asked, or the pod's."""
        where = dice.one("where", (own.words["node"], own.words["home"], own.words["home"]))
        return Variant(lab=own.lab, words={**own.words, "where": where})

    def line(self, variant: Variant) -> str:
        """The entry, found by the ends of the request as it came in."""
        lab, words = variant.lab.copy(), variant.words
        seen = sighted(lab.trace("browser", words["door"]).request, words["where"], "in")
        ends = f"src={seen.src} dst={seen.dst} sport={seen.sport} dport={seen.dport} "
        return grep(lab, words["where"], "conntrack -L", ends)

    def truth(self, variant: Variant) -> str:
        """What the entry says."""
        found = re.search(r"\bmark=(\d+)", self.line(variant))
        if not found:
            raise EkslearnError(f"{variant.words['where']} doesn't know this connection")
        return found[1]

    def read(self, variant: Variant, answer: str) -> str:
        """A number, decimal or with 0x."""
        text = plain(answer).removeprefix("mark=")
        if not re.fullmatch(r"0x[0-9a-f]{1,8}|[0-9]{1,9}", text):
            raise EkslearnError(f"{answer[:40]!r} is no mark; answer with a number, or as 0x1")
        return str(int(text, 16 if text.startswith("0x") else 10))

    def back(self, variant: Variant, answer: str) -> str:
        """A mark too many, one forgotten, or the packet's."""
        words = variant.words
        if answer == str(0x4000):
            return "That is a mark of the packet, for the masquerade. Who writes it to the entry?"
        if answer == "80":
            return "Is that number written in the way in which conntrack prints marks?"
        if answer == "0":
            return (
                f"Did the request come to an address of {words['where']} itself, by eth0? Which row"
                " of mangle asks just that?"
            )
        return f"Is {words['where']} the packet's destination, as it comes in there? Or a pod?"

    def why(self, variant: Variant) -> str:
        """The line."""
        return f"`{self.line(variant)}`."


class WhatItNeeds(OfTheCall, Letters):
    """Which of four changes stop this call?"""

    name = "capstone/what-it-needs"
    beat = "the same door, the other pod"
    question = (
        "Four people each want to change one thing, in clusters just like it. Which of these lines"
        " would have stopped this call?\n\n- a: `{line_a}`\n- b: `{line_b}`\n- c: `{line_c}`\n"
        "- d: `{line_d}`\n\n" + LETTERS
    )
    restated = (
        "A call is stopped by what it needs and has no second way around. Go through both"
        " directions, and write down which row decides at each node."
    )
    first_step = (
        "The request needs {node}'s chains, then a way to {pod_ip}; the"
        " answer has to come back to {node}. Which of the four is on that way?"
    )
    # A line; what is asked of who thinks that it stops the call; and of who overlooks that it does.
    lines: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("{node}$ iptables -t mangle -D PREROUTING 1",
         "does {pod}'s answer come to {node} by a veth (`eni+`), where marks are restored?",
         "which rule does {pod}'s answer meet on {node} if its connection isn't marked?"),
        ("{node}$ ip rule del priority 1024",
         "does {pod}'s answer bear a mark when {node} routes it?",
         "what does a mark do by itself? Which rule is next for {pod}'s answer?"),
        ("{home}$ ip rule del priority 1536",
         "which rule does the answer meet before 1536 on {home}, with its connection's mark?",
         "by which ENI does main lead, and does it own {pod_ip}?"),
        ("{home}$ ip route flush table 2",
         "is table 2 asked at all, if the answer's connection has a mark on {home}?",
         "where does a lookup go on if a table has no row that fits, and by which ENI then?"),
        ("{home}$ ip rule del priority 512",
         "which table does 512 lead to, and does a later rule lead there, too?", ""),
        ("{node}$ iptables -t nat -F KUBE-MARK-MASQ",
         "has the packet to leave {node} again with a stranger's source, under {policy}?",
         "with which source would the packet leave {node}'s eth0, if at all; who checks that?"),
        ("{other}$ iptables -t nat -F KUBE-SERVICES",
         "is {other} asked for its nodePort?", ""),
        ("{home}$ iptables -P FORWARD DROP",
         "which row of KUBE-FORWARD accepts a packet for the mark 0x4000 alone?",
         "which row of KUBE-FORWARD would accept a first packet without a mark?"),
        ("{node}$ iptables -t nat -F AWS-SNAT-CHAIN-0",
         "which packets of this call are new to nat, and go out of the VPC?", ""),
    )  # fmt: skip

    def vary_from(self, dice: Dice, own: Variant) -> Variant:
        """Four of the lines, with the question that stands behind each."""
        chosen = [tuple(one.format_map(own.words) for one in row) for row in self.lines]
        words = as_words(dice.lettered("lines", chosen), ("line", "why_not", "why"))
        return Variant(lab=own.lab, words={**own.words, **words})

    def outcome(self, variant: Variant, letter: str) -> Trace:
        """The call, after one of the lines."""
        return call(fault(variant.lab, [variant.words[f"line_{letter}"]]), variant.words)

    def truth(self, variant: Variant) -> str:
        """Every line, tried."""
        return "".join(x for x in "abcd" if self.outcome(variant, x).verdict != "delivered")

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """Chosen and harmless, or overlooked."""
        words = variant.words
        asked = words[f"why_not_{wrong}" if chosen else f"why_{wrong}"]
        return f"About {wrong}, `{words[f'line_{wrong}']}`: {asked}"

    def why(self, variant: Variant) -> str:
        """What becomes of each."""
        told = (f"{x}: {trace.verdict}, {trace.reason.rstrip('.')}"
                for x in "abcd" if (trace := self.outcome(variant, x)))  # fmt: skip
        return f"{'; '.join(told)}."


class MendTheWay(Mend):
    """Something is broken between the browser and the pods."""

    name = "capstone/mend-the-way"
    place = "open"
    beat = "break it on purpose"
    question = (
        INTRO + ".\n\nSomebody has changed a node: since then some calls hang, or are refused, and"
        " others work. Find what is wrong (`.lab` is the broken cluster; ask it more than once,"
        " since dice choose the pod) and mend it: give the lines to run, each as `PLACE$"
        " COMMAND`, for instance `node-a$ iptables-save`."
    )
    restated = (
        "Each call needs kube-proxy's rows on the node that is asked, the CNI's mark and rule"
        " 1024 for its own pod, and rule 1536 with table 2 and a way through FORWARD on the"
        " other one."
    )
    first_step = (
        "node-a and node-b were wired alike. Print `ip rule`, `ip route show table 2`,"
        " `iptables-save` on both, and lay them side by side."
    )
    faults = (
        ("{node}$ iptables -t mangle -D PREROUTING 1",),
        ("{other}$ ip rule del priority 1536",),
        ("{node}$ ip rule del priority 1024",),
        ("{other}$ ip route flush table 2",),
        ("{node}$ iptables -t nat -F KUBE-MARK-MASQ",),
        ("{node}$ iptables -t nat -D KUBE-NODEPORTS 1",),
        ("{other}$ iptables -P FORWARD DROP",),
        ("{node}$ iptables -t mangle -D PREROUTING 2",),
    )
    dangers = (
        (r"^(?!node-[ab]\$)", "Only the two nodes are yours. At which of them does a packet take a"
         " wrong way, or none?"),
        (r"-[AI]\s+(PREROUTING|POSTROUTING|OUTPUT)\b.*-j (MASQUERADE|SNAT|DNAT)\b", "That"
         " translates what is none of its business. Which chain of kube-proxy's does it properly?"),
        (r"\brule\b\s+add\b(?!.*(fwmark|from \d))", "Then packets of every sender would ask that"
         " table. Whose should?"),
        (r"\brule\b.*\bflush\b|iptables\b.*\s(-F|--flush)\b", "A flush takes healthy rows as"
         " well. Which single row is missing or wrong?"),
        (r"\bdown\b|ip_forward\s*=\s*0", "That switches something off. What is missing?"),
    )  # fmt: skip

    def vary(self, dice: Dice) -> Variant:
        """One of the faults, in the learner's own cluster with policy Cluster."""
        lab, words = draw(Dice(exercise=DRAWN, learner=dice.learner), policy="Cluster")
        rows = lab.run(words["node"], "iptables -t nat -S KUBE-NODEPORTS").stdout
        words["ext"] = re.findall(r"KUBE-EXT-\w+", rows)[0]
        return self.broken(dice, lab, words)

    def flows(self, words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """The browser, at the balancer's address in each zone."""
        door = words["door"]
        return (("browser", door), ("browser", words["other_door"]))

    def send(self, lab: Lab, source: str, destination: str) -> Trace:
        """A dozen calls, so that both pods are asked; the first one that fails, else the last."""
        for _ in range(12):
            trace = lab.trace(source, destination)
            if trace.verdict != "delivered":
                break
        return trace

    def amiss(self, words: Mapping[str, str], source: str, destination: str, trace: Trace) -> str:
        """Under Cluster a pod sees the node that was asked."""
        node = "node" if destination == words["door"] else "other"
        if trace.answer.split()[1] == words[words[node].replace("-", "_")]:
            return ""
        return (
            f"By {destination} the pod sees {trace.answer.split()[1]}. Whom should it see under"
            " Cluster, and which chain gives the mark for that?"
        )

    def look(self, words: Mapping[str, str], source: str, destination: str) -> str:
        """Where to look next."""
        return (
            f"In `.lab.trace({source!r}, {destination!r})` of such a call, which row decides last,"
            " and which row should have?"
        )


EXERCISES: Sequence[Exercise] = (
    WayOut(), LookedUpAs(), WhichMark(), WhatItNeeds(), MendTheWay(),
)  # fmt: skip
