"""Exercises of lesson 10: whose address the machine outside sees, and which way a packet took."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import ClassVar

from ekslearn.cluster import Cluster, Lab
from ekslearn.errors import EkslearnError
from ekslearn.exercises.format import (
    FLOWS,
    Dice,
    Exercise,
    Letters,
    Look,
    Mend,
    Variant,
    as_words,
    cluster_of,
    fault,
    plain,
    renamed,
    whole,
)
from ekslearn.trace import Trace
from ekslearn.vpc.model import NAT_GATEWAY

SCENARIO = "out-to-the-world"
SIDES = ("public", "private")
HOSTS = ("internet", "peer", "data-center", "store")
PORT = "443/tcp"
HEADERS = 28  # bytes of an IPv4 and an ICMP header, before what ping adds
INTRO = (
    "The nodes **public-node** ({public_host} on eth0, {public_card} on eth1) and **private-node**"
    " ({private_host}, {private_card}) each run two pods, called after the ENI that has their"
    " address: public-eth0 {public_eth0}, public-eth1 {public_eth1}, private-eth0 {private_eth0},"
    " private-eth1 {private_eth1}. The VPC is {vpc} and {added}; store ({store}) is in the second."
    " internet ({internet}), peer ({peer}) and data-center ({data_center}) are outside. "
)


def draw(dice: Dice) -> tuple[Cluster, dict[str, str]]:
    """This learner's two nodes: other addresses, the same subnets, gateways and machines."""
    net = f"10.{dice.number('net', 1, 120)}"
    added = f"10.{dice.number('added', 130, 250)}"
    words = {
        "vpc": f"{net}.0.0/16",
        "added": f"{added}.0.0/16",
        "store": f"{added}.0.4",
        "internet": f"203.0.113.{dice.number('internet', 2, 250)}",
        "peer": f"172.31.{dice.number('peer net', 1, 250)}.{dice.number('peer', 2, 250)}",
        "data_center": f"192.168.{dice.number('dc net', 1, 250)}.{dice.number('dc', 2, 250)}",
    }
    names = {
        "10.0.0.0": f"{net}.0.0",
        "10.0.32.0": f"{net}.32.0",
        "10.20.0.0": f"{added}.0.0",
        "203.0.113.50": words["internet"],
        "172.31.5.20": words["peer"],
        "192.168.7.7": words["data_center"],
    }
    for side, third in zip(SIDES, ("0", "32"), strict=True):
        first = dice.number(f"{side} eth0", 5, 100)
        second = dice.number(f"{side} eth1", 110, 200)
        for part, old, new in (("host", 10, first), ("eth0", 11, first + 1),
                               ("card", 20, second), ("eth1", 21, second + 1)):  # fmt: skip
            words[f"{side}_{part}"] = names[f"10.0.{third}.{old}"] = f"{net}.{third}.{new}"
    lab = cluster_of(renamed(SCENARIO, names))
    owner = lab.vpc.owner(IPv4Address(words["public_host"]))
    words |= {"public": str(owner.public_ip if owner else ""), "nat": str(NAT_GATEWAY)}
    return lab, words


def place(name: str) -> str:
    """A pod's place, or the name of a machine as it is."""
    return f"default/{name}" if re.fullmatch(r"\w+-eth\d", name) else name


def seen(lab: Lab, source: str, target: str) -> str:
    """The address that ``target`` sees ``source`` come from; none if nothing arrives."""
    said = lab.copy().trace(place(source), f"{target}:{PORT}").answer
    return said.split()[1] if said else "none"


class WhoseAddress(Look):
    """Which source address does the machine at the other end see?"""

    name = "out-to-the-world/whose-address"
    place = "easy"
    beat = "the second translation"
    question = (
        INTRO + "public-node's eth0 has the public address {public}; the NAT gateway is {nat}."
        " In **{source}** somebody runs `curl` against **{target}**. Which source address does"
        " {target} see? (`.lab` is this cluster; try not to send the packet first.)"
    )
    restated = (
        "Two places may translate: the node, and a gateway at the VPC's edge. Ask each of them"
        " about a packet to {target}."
    )
    first_step = (
        "Is {target} in {vpc} or {added}? Then `iptables -t nat -S AWS-SNAT-CHAIN-0` on the node."
    )
    pods: ClassVar[tuple[str, ...]] = ("private-eth1", "private-eth0", "public-eth1", "public-eth0")

    def vary(self, dice: Dice) -> Variant:
        """Another pod and machine."""
        lab, words = draw(dice)
        source, target = dice.one("source", self.pods), dice.one("target", HOSTS)
        return Variant(lab=lab, words=words | {"source": source, "target": target})

    def truth(self, variant: Variant) -> str:
        """What the machine said it saw."""
        return seen(variant.lab, variant.words["source"], variant.words["target"])

    def read(self, variant: Variant, answer: str) -> str:
        """An address."""
        try:
            return str(IPv4Address(plain(answer)))
        except ValueError:
            raise EkslearnError(
                f"{answer[:40]!r} is no address; answer with one, such as {variant.words['store']}"
            ) from None

    def back(self, variant: Variant, answer: str) -> str:
        """One translation too few, one too many, or the wrong translator's address."""
        words, right = variant.words, self.truth(variant)
        side, _, eni = words["source"].partition("-")
        pod = words[f"{side}_{eni}"]
        if answer == words[f"{side}_card"]:
            return (
                "Is there one SNAT rule for each ENI, or one for the node? Which address does it"
                " write, and by which ENI does a marked packet leave?"
            )
        if answer == pod:
            return f"Is {words['target']} in a range that AWS-SNAT-CHAIN-0 exempts?"
        if right == pod:
            return (
                "Before the SNAT rule stands a RETURN for each CIDR of the VPC. Is"
                f" {words['target']} in one?"
            )
        if answer == words[f"{side}_host"]:
            return (
                f"That is what leaves the node. Is such an address carried all the way to"
                f" {words['target']}?"
            )
        if answer in (words["public"], words["nat"]):
            return (
                f"Which route of {side}-node's subnet holds {words['target']}, and does that"
                " gateway translate?"
            )
        return (
            f"Who has that address? Follow the packet from {words['source']}: who translates it,"
            " and into what?"
        )

    def why(self, variant: Variant) -> str:
        """Everybody who translated."""
        words = variant.words
        trace = variant.lab.copy().trace(place(words["source"]), f"{words['target']}:{PORT}")
        told = [
            f"{step.stage} in {step.place}: {step.decision}"
            for step in trace.steps
            if step.leg == "request" and "rewrite" in step.decision
        ]
        return f"{'; '.join(told) or 'Nobody translates it'}."


class ByTheSecondEni(Letters):
    """Which packets leave their node by its second ENI?"""

    name = "out-to-the-world/by-the-second-eni"
    place = "end"
    beat = "leave it to the vpc"
    question = INTRO + "{said} Which of these packets leave their node by **eth1**?\n\n" + FLOWS
    restated = (
        "A pod of eth1 has a rule 1536 that leads to eth1. A marked packet meets rule 1024"
        " before it. So: which of the four is marked?"
    )
    first_step = (
        "Write down the exempt ranges under this setting, and strike out every flow whose"
        " target isn't in one; without marks there is nothing to strike out."
    )
    settings: ClassVar[tuple[tuple[str, str], ...]] = (
        ("", "The CNI has its default settings."),
        ("external", "`AWS_VPC_K8S_CNI_EXTERNALSNAT` is `true`."),
        ("exclude", "`AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS` is `{excluded}`."),
    )

    def vary(self, dice: Dice) -> Variant:
        """Another setting, and four flows of which not all are from pods of eth1."""
        lab, words = draw(dice)
        kind, said = dice.one("setting", self.settings)
        other = dice.one("excluded", ("peer", "data_center"))
        words["excluded"] = str(IPv4Network(f"{words[other]}/16", strict=False))
        changed = replace(
            lab.settings,
            external_snat=kind == "external",
            exclude_snat_cidrs=(IPv4Network(words["excluded"]),) if kind == "exclude" else (),
        )
        for node in lab.machines if kind else ():
            lab.restart_cni(node, changed)
        flows = [(f"{dice.one(f'side {host}', SIDES)}-eth1", host) for host in HOSTS]
        flows.append((f"{dice.one('side', SIDES)}-eth0", dice.one("host", HOSTS)))
        flows.append((f"{dice.one('pair', SIDES)}-eth1", dice.one("again", HOSTS[1:3])))
        drawn = dice.lettered("flows", list(dict.fromkeys(flows)))
        words |= {"setting": kind, "said": said.format_map(words)}
        return Variant(lab=lab, words=words | as_words(drawn))

    def leaves(self, variant: Variant, letter: str) -> str:
        """The interface that the request was last seen leaving its node by."""
        source, target = (variant.words[f"{end}_{letter}"] for end in ("from", "to"))
        trace = variant.lab.copy().trace(place(source), f"{target}:{PORT}")
        node = f"{source.partition('-')[0]}-node"
        out = [s.interface for s in trace.request if (s.place, s.direction) == (node, "out")]
        return out[-1] if out else "none"

    def truth(self, variant: Variant) -> str:
        """Every packet, sent."""
        return "".join(x for x in "abcd" if self.leaves(variant, x) == "eth1")

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """The mark overlooked, or seen where there is none."""
        words = variant.words
        source, target = words[f"from_{wrong}"], words[f"to_{wrong}"]
        said = f"About {wrong}, from {source} to {target}:"
        if source.endswith("eth0"):
            return f"{said} is there a rule 1536 for this pod?"
        if chosen:
            return f"{said} is {target} in an exempt range? If not, what does its packet carry?"
        if words["setting"] == "external":
            return f"{said} who marks a connection, once the CNI has taken its rules away?"
        return f"{said} does this packet get the mark? Which ranges are exempt?"

    def why(self, variant: Variant) -> str:
        """The rule that chose the table, for each."""
        told = []
        for letter in "abcd":
            source, target = (variant.words[f"{end}_{letter}"] for end in ("from", "to"))
            trace = variant.lab.copy().trace(place(source), f"{target}:{PORT}")
            rule = next(s.because for s in trace.steps
                        if s.stage == "rule" and s.place.endswith("-node"))  # fmt: skip
            told.append(f"{letter}: `{rule}`")
        return f"These rules decided: {'; '.join(told)}."


class LargestPing(Look):
    """How much may a ping carry, if nobody may cut it?"""

    name = "out-to-the-world/largest-ping"
    place = "end"
    beat = "too big for the way"
    question = (
        INTRO + "With `POD_MTU` the interface of **{source}** was given an MTU of {mtu}. What"
        " is the largest N for which `ping -M do -s N` from it to **{target}** gets an answer?"
    )
    restated = (
        "A packet must fit the narrowest part of its way. ping's N is what is left of that"
        " packet without its headers."
    )
    first_step = (
        "Write down the pod's MTU ({mtu}) and what the gateway towards"
        " {target} carries; take the smaller one."
    )
    mtus: ClassVar[tuple[int, ...]] = (9001, 9001, 8600, 4000, 1500, 1400, 1300)

    def vary(self, dice: Dice) -> Variant:
        """Another pod, another MTU in it, another machine."""
        lab, words = draw(dice)
        source = f"private-{dice.one('source', ('eth0', 'eth1'))}"
        mtu = dice.one("mtu", self.mtus) - dice.number("less", 0, 60) * 2
        target = dice.one("target", HOSTS)
        words |= {"source": source, "target": target, "mtu": str(mtu)}
        made = fault(lab, [f"{place(source)}$ ip link set eth0 mtu {mtu}"])
        return Variant(lab=made, words=words)

    def passes(self, lab: Lab, words: Mapping[str, str], size: int) -> bool:
        """Whether a ping of that size is answered."""
        to = words[words["target"].replace("-", "_")]
        return not lab.run(place(words["source"]), f"ping -c 1 -M do -s {size} {to}").status

    def truth(self, variant: Variant) -> str:
        """Halving, with real pings: what passes and what doesn't."""
        lab = variant.lab.copy()
        low, high = 0, 9001
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.passes(lab, variant.words, middle) else (low, middle)
        return str(low)

    def read(self, variant: Variant, answer: str) -> str:
        """A number of bytes."""
        return whole(answer, "bytes", 1000)

    def back(self, variant: Variant, answer: str) -> str:
        """The headers forgotten or counted twice, or another limit taken."""
        words, right, given = variant.words, int(self.truth(variant)), int(answer)
        if given == right + HEADERS:
            return "That is a whole packet. What stands in it before the bytes that ping adds?"
        if given == right + 20 or given == right + 8:
            return "A packet of ping has two headers. How long are they together?"
        if given == right + 1:
            return "One byte more than passes. May a packet be as large as the MTU?"
        if given > right:
            return (
                f"Which is narrower, the pod's interface or the way to {words['target']}? Which"
                " gateway leads there, and what does it carry?"
            )
        return f"Less than passes. Which limit holds for {words['target']}, and for the pod?"

    def why(self, variant: Variant) -> str:
        """Who stops the next one."""
        lab, words = variant.lab.copy(), variant.words
        size = int(self.truth(variant)) + 1
        to = words[words["target"].replace("-", "_")]
        done = lab.run(place(words["source"]), f"ping -c 1 -M do -s {size} {to}")
        told = (done.stderr or done.stdout.split("\n")[1]).strip()
        return f"With {size} bytes it says: `{told}`."


class MendTheWayOut(Mend):
    """Some packets don't find out any more, or show the wrong address; mend it."""

    name = "out-to-the-world/mend-the-way-out"
    place = "open"
    beat = "break it on purpose, and mend it"
    question = (
        INTRO + "Somebody has changed a node. Since then some connections hang. Find what is"
        " missing or wrong (`.lab` is the broken cluster) and mend it, so that store sees pods"
        " and every private network outside sees nodes, as the CNI would have it: give the"
        " lines to run, each as `PLACE$ COMMAND`, for instance `private-node$ iptables-save"
        " -t nat`."
    )
    restated = (
        "Four things play together: the chain with the SNAT rule, the jump to it, nft's list,"
        " and the rule that reads the mark. One of them isn't as the CNI leaves it."
    )
    first_step = (
        "Print the four on both nodes and lay them side by side; but for the addresses they"
        " should be the same."
    )
    faults = (
        ("private-node$ iptables -t nat -D AWS-SNAT-CHAIN-0 1",),
        ("public-node$ iptables -t nat -D AWS-SNAT-CHAIN-0 3",),
        ("private-node$ nft flush chain ip aws-cni snat-mark",),
        ("private-node$ ip rule del priority 1024",),
        ("public-node$ iptables -t nat -D POSTROUTING 1",),
        ("private-node$ iptables -t nat -R AWS-SNAT-CHAIN-0 3 -j SNAT --to-source {private_card}",),
        ("private-node$ nft insert rule ip aws-cni snat-mark ip daddr {data_center} return",),
    )
    dangers = (
        (r"^(?!(public|private)-node\$)", "Only the two nodes are yours to change. Which of them"
         " sends a packet that nobody can answer?"),
        (r"MASQUERADE", "MASQUERADE writes the address of the interface that a packet leaves by."
         " Which address does the CNI write, whatever the interface?"),
        (r"\brule\b\s+del\w*\b.*(1536|from)", "Then pods of the second ENI would leave by the first"
         " even within the VPC, with their own address. Who checks that?"),
        (r"iptables\b.*\s-F\b", "A flush takes the exempt ranges as well. Which single"
         " rule is missing or wrong?"),
    )  # fmt: skip

    def vary(self, dice: Dice) -> Variant:
        """One of seven faults, on other nodes."""
        return self.broken(dice, *draw(dice))

    def flows(self, words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Every pod to every machine."""
        pods = (f"{side}-{eni}" for side in SIDES for eni in ("eth0", "eth1"))
        return tuple((place(pod), f"{host}:{PORT}") for pod in pods for host in HOSTS)

    def amiss(
        self, words: Mapping[str, str], source: str, destination: str, trace: Trace
    ) -> str:  # fmt: skip
        """Whether the packet shows the address that it should."""
        host = destination.partition(":")[0]
        side, _, eni = source.partition("/")[2].partition("-")
        wanted = words[f"{side}_{eni if host == 'store' else 'host'}"]
        found = trace.answer.split()[1]
        if host == "internet" or found == wanted:
            return ""
        return f"{host} sees {found} when {source} calls. Whose address should it see?"

    def look(self, words: Mapping[str, str], source: str, destination: str) -> str:
        """Where to look next."""
        return (
            f"Which address does the packet carry, and by which ENI does it leave, in"
            f" `.lab.trace({source!r}, {destination!r})`?"
        )


EXERCISES: Sequence[Exercise] = (WhoseAddress(), ByTheSecondEni(), LargestPing(), MendTheWayOut())
