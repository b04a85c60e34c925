"""Exercises of lesson 05: hooks, address translation, and marks that find the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from ekslearn.cluster import Lab
from ekslearn.errors import EkslearnError
from ekslearn.exercises import rules_choose_the_table as rules
from ekslearn.exercises.format import Dice, Exercise, Letters, Look, Mend, Variant, fault, plain
from ekslearn.trace import Trace

INTRO = (
    "A node ({host} on eth0, {card} on eth1) runs the pods **{a}** ({address_a}, of eth0) and"
    " **{b}** ({address_b}, of eth1). Its port {port} leads to {b}. peer ({peer}) is in the VPC,"
    " client ({client}) isn't. "
)
REQUESTS = {
    "node port": ("client", "{host}:{port}/tcp"),
    "outbound": ("{b}", "{client}:8080/tcp"),
    "inside": ("{b}", "{peer}:80/tcp"),
}


def draw(dice: Dice) -> tuple[Lab, dict[str, str]]:
    """A node of this learner with its netfilter rules."""
    return rules.draw(dice, "node-port")


def asked(lab: Lab, words: Mapping[str, str], source: str, target: str) -> Trace:
    """One connection on a fresh copy, so that none meets another's entries."""
    return lab.copy().trace(source.format_map(words), target.format_map(words))


def read_address(answer: str, known: Mapping[str, str]) -> str:
    """One of the addresses of the question; EkslearnError if it is none."""
    text = plain(answer).split("/")[0].split(":")[0]
    if text not in known.values() or "." not in text:
        raise EkslearnError(f"{answer[:40]!r} is no address that the question names")
    return text


class WhatTheServerSees(Look):
    """From which address does a server see its client?"""

    name = "hooks-nat-and-marks/what-the-server-sees"
    place = "easy"
    beat = "the source changes last"
    question = (
        INTRO + "In **{source}** somebody runs `curl http://{url}`. Which source address does"
        " the process in **{server}** see?"
    )
    restated = "Does the packet leave the VPC? Only then does the CNI give it another source."
    first_step = (
        "Look at `iptables-save -t nat` on the host of `.lab`, with {url} in mind:"
        " which rules match, and what do they change?"
    )
    flows: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("client", "{host}:{port}/tcp", "{b}"),
        ("peer", "{host}:{port}/tcp", "{b}"),
        ("{b}", "{client}:8080/tcp", "client"),
        ("{a}", "{client}:8080/tcp", "client"),
        ("{b}", "{peer}:80/tcp", "peer"),
        ("{a}", "{peer}:80/tcp", "peer"),
        ("{b}", "{address_a}:80/tcp", "{a}"),
    )

    def vary(self, dice: Dice) -> Variant:
        """Another connection."""
        lab, words = draw(dice)
        source, target, server = (x.format_map(words) for x in dice.one("flow", self.flows))
        url = target.removesuffix("/tcp")
        words |= {"source": source, "target": target, "server": server, "url": url}
        return Variant(lab=lab, words=words)

    def truth(self, variant: Variant) -> str:
        """What the listener wrote into its answer."""
        answer = asked(variant.lab, variant.words, "{source}", "{target}").answer.split()
        return answer[1] if len(answer) > 1 else "none"

    def read(self, variant: Variant, answer: str) -> str:
        """An address of the question."""
        return read_address(answer, variant.words)

    def back(self, variant: Variant, answer: str) -> str:
        """Every NAT, no NAT, or the wrong card's address."""
        words, right = variant.words, self.truth(variant)
        if answer == words["card"]:
            return (
                "That address belongs to the second card, true. Which address does the SNAT rule"
                " write, whatever card the pod's own address is from?"
            )
        if right == words["host"]:
            return (
                "Outside the VPC nobody knows the pod's own address. Which chain does the packet"
                " pass just before it leaves the node, and does a RETURN save it there?"
            )
        if answer == words["host"] and words["target"].startswith(words["host"]):
            return (
                "The node port's rule is a DNAT. Which of the two addresses of a packet does a"
                " DNAT change?"
            )
        if answer == words["host"]:
            return (
                f"Follow AWS-SNAT-CHAIN-0 from its top: which rule does a packet to"
                f" {words['url'].split(':')[0]} meet first?"
            )
        return f"Who sent the packet, and does any rule on its way to {words['server']} change it?"

    def why(self, variant: Variant) -> str:
        """The rule that changed the source, or that none did."""
        trace = asked(variant.lab, variant.words, "{source}", "{target}")
        changed = [s.because for s in trace.steps if "-j SNAT" in s.because]
        if changed:
            return f"`{changed[0]}` bound the connection's source."
        return "No rule on the way changed the source."


class WhichWayOut(Look):
    """By which card does the pod's packet leave?"""

    name = "hooks-nat-and-marks/which-way-out"
    place = "end"
    beat = "a mark on the connection"
    restated = (
        "A mark on the connection is set once, copied to a packet, and read by rule 1024. If"
        " one of the three doesn't happen, the sender's rule decides."
    )
    first_step = (
        "Trace the connection in `.lab` and look at the host's steps called mangle"
        " PREROUTING and nat PREROUTING, on the right leg."
    )
    cases: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("node port", "", ""),
        ("node port", "iptables -t mangle -D PREROUTING 1",
         "the mangle rule with `-i eth0` is deleted"),
        ("node port", "iptables -t mangle -D PREROUTING 2",
         "the mangle rule with `-i eni+` is deleted"),
        ("node port", "iptables -t nat -D PREROUTING 3",
         "the nat rule with `--restore-mark` is deleted"),
        ("node port", "ip rule del priority 1024", "the node loses its rule 1024"),
        ("outbound", "", ""),
        ("outbound", "iptables -t mangle -D PREROUTING 2",
         "the mangle rule with `-i eni+` is deleted"),
        ("outbound", "iptables -t nat -D PREROUTING 3",
         "the nat rule with `--restore-mark` is deleted"),
        ("outbound", "ip rule del priority 1024", "the node loses its rule 1024"),
        ("inside", "", ""),
        ("inside", "iptables -t nat -D AWS-CONNMARK-CHAIN-0 1",
         "the connmark chain loses its RETURN"),
    )  # fmt: skip

    def vary(self, dice: Dice) -> Variant:
        """Another packet, and on most nodes one rule less."""
        lab, words = draw(dice)
        kind, line, story = dice.one("case", self.cases)
        words |= {"kind": kind, "line": line, "story": story}
        return Variant(lab=fault(lab, [f"host$ {line}"] if line else []), words=words)

    def ask(self, words: Mapping[str, str]) -> str:
        """The question."""
        packets = {
            "node port": "client connects to {host}:{port}. By which card does {b}'s **answer**"
            " leave the node?",
            "outbound": "{b} connects to client. By which card does its **first packet** leave?",
            "inside": "{b} connects to peer. By which card does its **first packet** leave?",
        }
        first = "Now {story}: `{line}`. Then " if words["line"] else ""
        return (
            INTRO + first + packets[words["kind"]] + " Answer `eth0`, `eth1`, or `none`."
        ).format_map(words)

    def truth(self, variant: Variant) -> str:
        """Where the packet was seen leaving the node."""
        trace = asked(variant.lab, variant.words, *REQUESTS[variant.words["kind"]])
        leg = trace.reply if variant.words["kind"] == "node port" else trace.request
        seen = [s for s in leg if (s.place, s.direction) == ("host", "out")]
        return seen[0].interface if seen else "none"

    def read(self, variant: Variant, answer: str) -> str:
        """An interface, or none."""
        return rules.read_card(answer)

    def back(self, variant: Variant, answer: str) -> str:
        """The pod's card by habit, or a mark where there is none."""
        words, right = variant.words, self.truth(variant)
        if answer == "none":
            return "Something may be missing, but has the host really no row for this packet?"
        if answer.startswith("eni"):
            return "That is a pod's cable. Where does the packet go when it leaves the node?"
        if right == "eth0":
            return (
                f"{words['b']} lives on the second card, so rule 1536 would say eth1. Does a rule"
                " with a lower number match, because of something the packet carries?"
            )
        if words["kind"] == "inside":
            return "Where does this packet get a mark? Follow AWS-CONNMARK-CHAIN-0 from its top."
        return (
            "Follow the mark: who sets it on the connection, who copies it to this packet, and"
            " who reads it? Is each of the three still there?"
        )

    def why(self, variant: Variant) -> str:
        """The rule that the host's route lookup used."""
        words = variant.words
        leg = "reply" if words["kind"] == "node port" else "request"
        steps = asked(variant.lab, words, *REQUESTS[words["kind"]]).steps
        mine = [s for s in steps if (s.place, s.leg, s.stage) == ("host", leg, "rule")]
        return f"With the mark {mine[0].header['mark']:#x} on it, `{mine[0].because}` decided."


class WhichRulesMatch(Letters):
    """Which rules does this very packet meet?"""

    name = "hooks-nat-and-marks/which-rules-match"
    place = "end"
    beat = "nat is asked once"
    question = (
        INTRO + "{story}. Which of these rules of the node does **this packet** match?\n\n"
        "- a: `{rule_a}`\n- b: `{rule_b}`\n- c: `{rule_c}`\n- d: `{rule_d}`\n\nAnswer with"
        " letters, as in `a c`, or `none`. (`iptables-save` on the host of `.lab` shows which"
        " table each is in.)"
    )
    restated = (
        "Two questions for each rule: is its table shown this packet at all, and do its"
        " conditions hold?"
    )
    first_step = (
        "Is it the first packet of its connection? If not, cross out everything that stands"
        " in the table nat."
    )
    packets: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("node port", "request", "client connects to {host}:{port}. The packet is client's first"),
        ("node port", "reply", "client has connected to {host}:{port}. The packet is {b}'s answer"),
        ("outbound", "request", "{b} connects to client. The packet is {b}'s first"),
        ("outbound", "reply", "{b} has connected to client. The packet is client's answer"),
    )

    def vary(self, dice: Dice) -> Variant:
        """Another packet, and four rules in another order."""
        lab, words = draw(dice)
        kind, leg, story = dice.one("packet", self.packets)
        saved = lab.run("host", "iptables-save").stdout.splitlines()
        found = [r for r in saved if r.startswith(("-A PREROUTING", "-A POSTROUTING"))]
        five = [r for r in found if "-i vlan+" not in r and "AWS-CONNMARK-CHAIN-0" not in r]
        words |= {"kind": kind, "leg": leg, "story": story.format_map(words)}
        for letter, text in dice.lettered("rules", five):
            words[f"rule_{letter}"] = text
        return Variant(lab=lab, words=words)

    def truth(self, variant: Variant) -> str:
        """The rules that decided something about this leg on the host."""
        words = variant.words
        trace = asked(variant.lab, words, *REQUESTS[words["kind"]])
        met = {s.because for s in trace.steps if (s.place, s.leg) == ("host", words["leg"])}
        return "".join(x for x in "abcd" if words[f"rule_{x}"] in met)

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """nat for every packet, the wrong interface, or one overlooked."""
        words = variant.words
        said, rule = f"About {wrong}:", words[f"rule_{wrong}"]
        nat = rule in variant.lab.run("host", "iptables-save -t nat").stdout
        if not chosen:
            return f"{said} go through its conditions one by one. Which of them doesn't hold?"
        if nat and words["leg"] == "reply":
            return (
                f"{said} that rule stands in the table nat. Which packets of a connection are"
                " shown to it?"
            )
        if " -i " in rule:
            return f"{said} by which interface does this packet come in?"
        return f"{said} which destination has the packet when it comes in, and whose is it?"

    def why(self, variant: Variant) -> str:
        """The connection's entry, which does the rest."""
        words = variant.words
        if words["leg"] == "request":
            return "A connection's first packet is shown to mangle and to nat."
        return (
            "An answer passes mangle like any packet; its addresses are rewritten from the"
            " connection's entry (`conntrack -L`), without a look at the table nat."
        )


class MendTheNodePort(Mend):
    """A node port that doesn't answer; mend it (cni#75, cni#231)."""

    name = "hooks-nat-and-marks/mend-the-node-port"
    place = "open"
    beat = "break it on purpose"
    question = (
        INTRO + "Some of their connections hang. Find what is missing or wrong (`.lab` is the"
        " broken node; there may be more than one thing) and mend it, so that the pod still"
        " sees its client's own address: give the lines to run, each as `PLACE$ COMMAND`, for"
        " instance `host$ iptables-save`."
    )
    restated = (
        "Four things have to be right: the translation, the check of the way back, the"
        " permission to forward, and the mark that leads the answer out by eth0."
    )
    first_step = (
        "Lay `iptables-save`, `ip rule show` and `sysctl net.ipv4.conf.eth0.rp_filter` of the"
        " lesson's node beside those of `.lab`."
    )
    strict = "host$ sysctl -w net.ipv4.conf.eth0.rp_filter=1"
    faults = (
        ("host$ iptables -t mangle -D PREROUTING 2", "host$ iptables -t mangle -D PREROUTING 1",
         strict),
        ("host$ iptables -t mangle -D PREROUTING 2",),
        ("host$ iptables -t mangle -D PREROUTING 1",),
        (strict,),
        ("host$ ip rule del priority 1024",),
        ("host$ iptables -P FORWARD DROP",),
        ("host$ iptables -t nat -R KUBE-NODEPORTS 1 -p tcp -m tcp --dport {port} -j DNAT"
         " --to-destination {address_b}:8081",),
        ("host$ iptables -t nat -D AWS-SNAT-CHAIN-0 2",),
    )  # fmt: skip
    dangers = (
        (r"^(vpc|client|peer)\$", "That machine isn't yours. In AWS the sender's check can't be"
         " mended away from here: why does the packet leave by the wrong card?"),
        (r"(?i)masquerade|-d \S+ .*-j SNAT", "Then the pod sees the node instead of its client."
         " Which of the two addresses was wrong before the fault, if any?"),
        (r"src_valid_mark\s*=\s*1", "Then the check of the way back looks at the packet's mark."
         " Which mark does the client's first packet carry when it comes in?"),
        (r"iptables\b.*\s(-F|--flush|-X)\b", "A flush takes the healthy rules too. Which one is"
         " missing or wrong?"),
        (r"\brule\b\s+del(ete)?\b.*\b1536\b", "Then the pod's other packets leave by a card that"
         " doesn't own its address. Which packets should use the first card, and which not?"),
    )  # fmt: skip

    def vary(self, dice: Dice) -> Variant:
        """One of eight faults, on another node."""
        return self.broken(dice, *draw(dice))

    def flows(self, words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """The node port from two sides, the pods outwards, and inside the VPC."""
        to_node = f"{words['host']}:{words['port']}/tcp"
        return (
            ("client", to_node),
            ("peer", to_node),
            (words["b"], f"{words['client']}:8080/tcp"),
            (words["a"], f"{words['client']}:8080/tcp"),
            (words["b"], f"{words['peer']}:80/tcp"),
            ("peer", f"{words['address_b']}:80/tcp"),
            (words["a"], f"{words['address_b']}:80/tcp"),
        )

    def look(self, words: Mapping[str, str], source: str, destination: str) -> str:
        """Where to look next."""
        return (
            f"In `.lab.trace({source!r}, {destination!r})`, does the request arrive? If not, at"
            " which step does it end; if so, by which card does the answer leave, and with which"
            " mark?"
        )


EXERCISES: Sequence[Exercise] = (
    WhatTheServerSees(), WhichWayOut(), WhichRulesMatch(), MendTheNodePort(),
)  # fmt: skip
