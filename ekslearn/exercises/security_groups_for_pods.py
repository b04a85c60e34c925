"""Exercises of lesson 11: which security group is asked, and which packet never gets that far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from ekslearn.cluster import Cluster
from ekslearn.errors import EkslearnError
from ekslearn.exercises.format import (
    FLOWS,
    LETTERS,
    Dice,
    Exercise,
    Flows,
    Look,
    Mend,
    Variant,
    as_words,
    cluster_of,
    fault,
    plain,
    renamed,
)
from ekslearn.trace import Trace

SCENARIO = "security-groups-for-pods"
PORTS = {"app": ":80/tcp", "app-far": ":80/tcp", "plain": ":80/tcp", "db": ":5432/tcp"}
GROUPS = ("node", "app", "db")
ASKED = "vpc security group"
INTRO = (
    "node-a ({node_a}) runs the pods **app** ({app}, group *app*), **db** ({db}, group *db*) and"
    " **plain** ({plain}, the node's ENI); node-b ({node_b}) runs **app-far** ({app_far}, group"
    " *app*). *node* admits everything from *node* and *app*, *app* everything from *node*, *db*"
    " TCP 5432 from *app*; all let everything out. The mode is **{mode}**. "
)


def draw(dice: Dice, mode: str = "strict") -> tuple[Cluster, dict[str, str]]:
    """This learner's two nodes: other addresses, the same groups."""
    internet = f"203.0.113.{dice.number('internet', 2, 250)}"
    names = {
        "10.0.0.0": f"10.{dice.number('net', 1, 250)}.0.0",
        "203.0.113.50": internet,
        "strict": mode,
    }
    lab = cluster_of(renamed(SCENARIO, names))
    words = {name.replace("-", "_"): lab.address(f"default/{name}") for name in PORTS}
    words |= {"node_a": lab.address("node-a"), "node_b": lab.address("node-b")}
    return lab, words | {"mode": mode, "internet": internet}


def place(name: str) -> str:
    """A pod's place, or a machine's name as it is."""
    return f"default/{name}" if name in PORTS else name


def target(name: str) -> str:
    """Where a pod listens."""
    return f"{place(name)}{PORTS.get(name, ':443/tcp')}"


def asked(trace: Trace) -> list[str]:
    """The rows of security groups that a request was shown."""
    return [s.because for s in trace.steps if s.stage == ASKED and s.leg == "request"]


class WhoIsAsked(Look):
    """Which group admits a packet to its receiver, or doesn't?"""

    name = "security-groups-for-pods/who-is-asked"
    place = "easy"
    beat = "who was asked"
    question = (
        INTRO + "**{source}** calls **{to}**. Which security group is asked whether the packet"
        " may *come in*? Answer `node`, `app`, `db`, or `none` if no group is asked."
    )
    restated = (
        "A group is asked where the packet enters the ENI that it belongs to. Which ENI owns"
        " the address of {to}, and does the packet enter it?"
    )
    first_step = "Look for the label of {to}: is it one that a SecurityGroupPolicy selects?"
    flows: ClassVar[tuple[tuple[str, str], ...]] = (
        ("app", "db"),
        ("plain", "db"),
        ("app", "plain"),
        ("plain", "app"),
        ("node-a", "app"),
        ("node-a", "plain"),
        ("app-far", "plain"),
        ("node-b", "db"),
    )

    def vary(self, dice: Dice) -> Variant:
        """Another sender and receiver."""
        lab, words = draw(dice)
        source, to = dice.one("flow", self.flows)
        return Variant(lab=lab, words=words | {"source": source, "to": to})

    def truth(self, variant: Variant) -> str:
        """The group of the deciding row of the last question."""
        words = variant.words
        trace = variant.lab.copy().trace(place(words["source"]), target(words["to"]))
        found = [row.split()[0] for row in asked(trace) if row.split()[1] == "ingress:"]
        return found[0] if found else "none"

    def read(self, variant: Variant, answer: str) -> str:
        """A group's name, or none."""
        text = plain(answer).strip("*")
        if text not in (*GROUPS, "none"):
            raise EkslearnError(f"{answer[:40]!r} is no group here; answer node, app, db or none")
        return text

    def back(self, variant: Variant, answer: str) -> str:
        """The node's ENI passed by, the sender's group taken, or the node's for all pods."""
        words, right = variant.words, self.truth(variant)
        if right == "none":
            return f"Does the packet to {words['to']} pass any ENI, or only cables?"
        if answer == "none":
            return "In strict mode, by which interface does the packet leave the node?"
        if answer == "node":
            return f"Does {words['to']} share the node's ENI, or has it one of its own?"
        return f"Which ENI owns {words['to']}'s address? A sender's group is asked on the way out."

    def why(self, variant: Variant) -> str:
        """All rows that were asked."""
        words = variant.words
        trace = variant.lab.copy().trace(place(words["source"]), target(words["to"]))
        return f"Asked were: {'; '.join(asked(trace)) or 'nobody, for the packet passed no ENI'}."


class WhoReachesTheDatabase(Flows):
    """Which calls to a pod are answered, in either mode?"""

    name = "security-groups-for-pods/who-reaches-the-database"
    place = "end"
    beat = "standard: the usual rules, and their gap"
    question = INTRO + "Which of these calls are answered?\n\n" + FLOWS
    restated = (
        "In {mode} mode, which of the four packets pass the receiver's ENI? Only"
        " there is its group asked."
    )
    first_step = "Write beside each: same node or not, the sender's group, and the receiver's rule."

    def vary(self, dice: Dice) -> Variant:
        """Another mode, and four of seven callers of two pods."""
        lab, words = draw(dice, dice.one("mode", ("strict", "standard")))
        flows = [
            ("app", "db"),
            ("plain", "db"),
            ("app-far", "db"),
            ("node-a", "db"),
            ("node-b", "db"),
            ("app-far", "app"),
            ("plain", "app"),
        ]
        return Variant(lab=lab, words=words | as_words(dice.lettered("flows", flows)))

    def flow(self, words: Mapping[str, str], letter: str) -> tuple[str, str]:
        """One call."""
        return place(words[f"from_{letter}"]), target(words[f"to_{letter}"])

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """A group overlooked, or asked where no ENI is passed."""
        words = variant.words
        source, to = words[f"from_{wrong}"], words[f"to_{wrong}"]
        said = f"About {wrong}, from {source} to {to}:"
        if chosen:
            return f"{said} the packet enters {to}'s branch ENI. Which rule of its group admits it?"
        if words["mode"] == "standard" and source not in ("app-far", "node-b"):
            return f"{said} which rule of node-a carries it, and does it pass an ENI?"
        return f"{said} of which group is the sender's ENI, and does a rule name that group?"

    def why(self, variant: Variant) -> str:
        """What was asked about each."""
        told = []
        for x, trace in self.outcomes(variant):
            rows = asked(trace)
            told.append(f"{x}: {rows[-1] if rows else 'nobody asked'}")
        return f"{'; '.join(told)}."


class WhichProbesPass(Flows):
    """Which of the kubelets' questions are answered, with early demux on or off?"""

    name = "security-groups-for-pods/which-probes-pass"
    place = "end"
    beat = "break it on purpose, and mend it"
    question = (
        INTRO + "On both nodes `net.ipv4.tcp_early_demux` is **{switch}**. Which are answered?"
        "\n\n- a: {kind_a} from {from_a} to {to_a}\n- b: {kind_b} from {from_b} to {to_b}\n"
        "- c: {kind_c} from {from_c} to {to_c}\n- d: {kind_d} from {from_d} to {to_d}\n\n" + LETTERS
    )
    restated = (
        "Two things can stop a probe: the group of the pod's branch ENI, and, on the way back,"
        " a socket found too early. Which of the four meet the one or the other?"
    )
    first_step = (
        "In {mode} mode: does the probe leave the node at all? If it doesn't, neither matters."
    )
    unharmed = "Nothing stands in their way"

    def vary(self, dice: Dice) -> Variant:
        """Another mode and switch; TCP or ping."""
        lab, words = draw(dice, dice.one("mode", ("strict", "strict", "standard")))
        switch = dice.one("switch", ("1", "1", "0"))
        made = fault(lab, [f"{node}$ sysctl -w net.ipv4.tcp_early_demux={switch}"
                           for node in ("node-a", "node-b")])  # fmt: skip
        flows = [
            ("node-a", "app", "a TCP probe"),
            ("node-a", "app", "a ping"),
            ("node-a", "plain", "a TCP probe"),
            ("node-b", "app", "a TCP probe"),
            ("node-b", "app-far", "a TCP probe"),
            ("node-a", "db", "a TCP probe"),
        ]
        words |= {"switch": switch}
        words |= as_words(dice.lettered("flows", flows), ("from", "to", "kind"))
        return Variant(lab=made, words=words)

    def flow(self, words: Mapping[str, str], letter: str) -> tuple[str, str]:
        """One probe."""
        to = words[f"to_{letter}"]
        ping = words[f"kind_{letter}"] == "a ping"
        return words[f"from_{letter}"], place(to) if ping else target(to)

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """The switch or the group overlooked, or feared where they have no say."""
        words = variant.words
        said = f"About {wrong}, {words[f'kind_{wrong}']} from {words[f'from_{wrong}']} to" \
               f" {words[f'to_{wrong}']}:"  # fmt: skip
        if chosen and dict(self.outcomes(variant))[wrong].reason.startswith("reply:"):
            return f"{said} on which node does the SYN-ACK meet the socket that it is for?"
        if chosen:
            return f"{said} which group is asked, and does a rule of it name the node's?"
        return f"{said} does the answer have to be forwarded by the node that asked, and is it TCP?"


class MendTheBranch(Mend):
    """A pod with a branch ENI has lost some of its connections; mend it."""

    name = "security-groups-for-pods/mend-the-branch"
    place = "open"
    beat = "rules that ask where a packet comes in"
    question = (
        INTRO + "app's branch is vlan.eth.1, its cable {veth}. Somebody has changed node-a;"
        " since then not every flow of app works. Find what is missing or wrong (`.lab` is the"
        " broken cluster) and mend it, in strict mode: give the lines to run, each as"
        " `PLACE$ COMMAND`, for instance `node-a$ ip rule show`."
    )
    restated = (
        "A branch pod needs two rules by incoming interface, three rows in its table, and one"
        " switch of the kernel. One of these is missing, or a rule is too much."
    )
    first_step = "db is healthy: lay its rules and its table 102 beside those of app."
    faults = (
        ("node-a$ sysctl -w net.ipv4.tcp_early_demux=1",),
        ("node-a$ ip rule del priority 10 iif vlan.eth.1",),
        ("node-a$ ip rule del priority 10 iif {veth}",),
        ("node-a$ ip route del default table 101",),
        ("node-a$ ip route del {app} table 101",),
        ("node-a$ ip rule add priority 5 iif {veth} lookup main",),
    )
    dangers = (
        (r"^(?!node-[ab]\$)", "Only the nodes are yours to change. Which of them leads a packet"
         " astray, or drops it?"),
        (r"\bto\b.*\blookup main\b|priority 512", "That is standard mode's way: past"
         " the ENI, so that nobody asks the group. Is that what this pod was given one for?"),
        (r"MASQUERADE|SNAT", "Then the receiver would see another address, and its group another"
         " sender. Which address does a pod in strict mode show?"),
        (r"\bflush\b", "A flush takes the rows of the healthy pod as well. Which single one is"
         " missing or wrong?"),
    )  # fmt: skip

    def vary(self, dice: Dice) -> Variant:
        """One of six faults, on other nodes."""
        lab, words = draw(dice)
        routes = lab.run("node-a", "ip route show table 101").stdout.split()
        words["veth"] = next((word for word in routes if word.startswith("vlan") and "." not in
                              word), "none")  # fmt: skip
        words["gateway"] = str(lab.vpc.subnets["private-a"].gateway)
        return self.broken(dice, lab, words)

    def flows(self, words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """app in and out, its probe, and a flow that has nothing to do with it."""
        pairs = (
            ("node-a", "app"),
            ("node-b", "app"),
            ("plain", "app"),
            ("app", "db"),
            ("app", "plain"),
            ("app", "internet"),
            ("app-far", "db"),
            ("node-a", "plain"),
        )
        return tuple((place(source), target(to)) for source, to in pairs)

    def amiss(
        self, words: Mapping[str, str], source: str, destination: str, trace: Trace
    ) -> str:  # fmt: skip
        """Whether a flow of app went past the group that is to be asked."""
        free = (source, destination) == self.flows(words)[-1]
        if free or any(step.stage == ASKED for step in trace.steps):
            return ""
        return f"From {source} to {destination} no group was asked. Which way was it to take?"

    def look(self, words: Mapping[str, str], source: str, destination: str) -> str:
        """Where to look next."""
        return (
            f"Which rule of node-a does `.lab.trace({source!r}, {destination!r})` name last, and"
            " which interface did the packet come in by?"
        )


EXERCISES: Sequence[Exercise] = (
    WhoIsAsked(),
    WhoReachesTheDatabase(),
    WhichProbesPass(),
    MendTheBranch(),
)
