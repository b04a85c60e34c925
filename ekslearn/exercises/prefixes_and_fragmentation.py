"""Exercises of lesson 08: prefixes of sixteen, and a subnet too patchy to give one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise
from math import ceil
from typing import Any, ClassVar

from ekslearn.cluster import Cluster
from ekslearn.errors import EkslearnError
from ekslearn.exercises.format import (
    Dice,
    Exercise,
    Letters,
    Look,
    Variant,
    Verdict,
    cluster_of,
    node_of,
    renamed,
    whole,
)
from ekslearn.exercises.the_warm_pool import REST_S, come
from ekslearn.vpc.instance import instance_type, max_pods
from ekslearn.vpc.subnet import BLOCK, PREFIX

KINDS = ("t3.small", "t3.medium", "m5.large", "t3.large", "m5.xlarge", "m5.4xlarge")
SPARE = "spare-a"


def node_in(words: Mapping[str, str], kind: str = "m5.large") -> Cluster:
    """The lesson's node with another instance type, in a VPC with other addresses."""
    old = ("10.0.0.0/16", "10.0.1.0/24", "10.0.2.0/24")
    names = {"m5.large": kind} | {name: words[name] for name in old}
    return cluster_of(renamed("prefixes", names))


def where(dice: Dice) -> dict[str, str]:
    """Another VPC with two subnets."""
    second, third = dice.number("second", 1, 250), dice.number("third", 1, 250)
    subnet, spare = f"10.{second}.{third}.0/24", f"10.{second}.{third + 1}.0/24"
    return {"10.0.0.0/16": f"10.{second}.0.0/16", "10.0.1.0/24": subnet, "10.0.2.0/24": spare,
            "subnet": subnet, "spare": spare}  # fmt: skip


class HowManyPods(Look):
    """How many pods does the published formula allow?"""

    name = "prefixes-and-fragmentation/how-many-pods"
    place = "easy"
    beat = "how many pods"
    question = (
        "A node of type {kind} may have {enis} ENIs with {each} addresses each; its subnet is"
        " {subnet}. It is set to {mode}. What is max pods by the formula, without the cap of"
        " 110 or 250?"
    )
    restated = (
        "ENIs that carry pods, times the slots of each, times what fits into a slot; and two"
        " pods that use the node's own network."
    )
    first_step = "An ENI with {each} addresses keeps one for itself. What is left?"
    modes: ClassVar = {
        "single addresses": (False, False),
        "prefixes": (True, False),
        "custom networking and single addresses": (False, True),
        "custom networking and prefixes": (True, True),
    }

    def vary(self, dice: Dice) -> Variant:
        """Another instance type and mode."""
        words = where(dice)
        kind = instance_type(dice.one("kind", KINDS))
        words |= {"mode": dice.one("mode", list(self.modes)), "kind": kind.name,
                  "enis": str(kind.enis), "each": str(kind.ipv4_per_eni)}  # fmt: skip
        return Variant(lab=node_in(words, kind.name), words=words)

    def reckon(self, variant: Variant, *, prefixes: bool, custom: bool) -> int:
        """The formula, for the type of the variant's node."""
        return max_pods(node_of(variant.lab).kind, prefixes=prefixes, custom_networking=custom)

    def truth(self, variant: Variant) -> str:
        """The formula for this mode."""
        prefixes, custom = self.modes[variant.words["mode"]]
        return str(self.reckon(variant, prefixes=prefixes, custom=custom))

    def read(self, variant: Variant, answer: str) -> str:
        """A number."""
        return whole(answer, "pods")

    def back(self, variant: Variant, answer: str) -> str:
        """The ENIs' own addresses, the two host pods, the first ENI, or the sixteen forgotten."""
        said, right, words = int(answer), int(self.truth(variant)), variant.words
        prefixes, custom = self.modes[words["mode"]]
        size = BLOCK if prefixes else 1
        enis, each = int(words["enis"]) - custom, int(words["each"])
        if said == right - 2:
            return "Which two pods run on every node and need no address of their own?"
        if said in (enis * each * size + 2, enis * each * size):
            return "Does an ENI's own address ever go to a pod, or a prefix take its place?"
        if said == self.reckon(variant, prefixes=not prefixes, custom=custom):
            return f"How many addresses does a slot hold with {words['mode']}?"
        if said == self.reckon(variant, prefixes=prefixes, custom=not custom):
            return f"Does the first ENI carry pods with {words['mode']}?"
        if said in (110, 250):
            return "That is the cap, which holds for kubelet. What does the formula say before it?"
        return "How many ENIs carry pods, how many slots has each, and how much fits into a slot?"

    def why(self, variant: Variant) -> str:
        """The formula with its numbers."""
        prefixes, custom = self.modes[variant.words["mode"]]
        enis, each = int(variant.words["enis"]) - custom, int(variant.words["each"]) - 1
        return f"{enis} × {each}{' × 16' if prefixes else ''} + 2."


class HowManyPrefixes(Look):
    """How many prefixes does a node hold for so many pods?"""

    name = "prefixes-and-fragmentation/how-many-prefixes"
    place = "end"
    beat = "a slot holds sixteen"
    question = (
        "A node in {subnet} uses prefixes, with WARM_PREFIX_TARGET={warm} and no other target."
        " {pods} pods with an address of their own run on it, and ipamd is at rest. How many"
        " prefixes does the node hold? (`.lab` is this cluster; try to reckon before you look.)"
    )
    restated = (
        "The pool grows while fewer than 16 × WARM_PREFIX_TARGET addresses are available,"
        " wherever they lie; each time by a whole prefix."
    )
    first_step = "How many prefixes do {pods} pods fill, the last one perhaps in part?"

    def vary(self, dice: Dice) -> Variant:
        """Another number of pods."""
        words = where(dice)
        lab = node_in(words)
        pods = dice.number("pods", 2, 70)
        come(lab, pods - len(lab.pods))
        lab.sleep(REST_S)
        words |= {"pods": str(pods), "warm": str(lab.settings.warm_prefix_target)}
        return Variant(lab=lab, words=words)

    def truth(self, variant: Variant) -> str:
        """What EC2 has assigned."""
        return str(sum(len(eni.prefixes) for eni in cluster_of(variant.lab).vpc.enis.values()))

    def read(self, variant: Variant, answer: str) -> str:
        """A number."""
        return whole(answer, "prefixes")

    def back(self, variant: Variant, answer: str) -> str:
        """No spare, a spare too much, addresses instead of prefixes, or fourteen of sixteen."""
        said, right = int(answer), int(self.truth(variant))
        pods, warm = int(variant.words["pods"]), int(variant.words["warm"])
        if said == pods or said == right * BLOCK:
            return "That is a number of addresses. How many of them come in one prefix?"
        if said == ceil(pods / (BLOCK - 2)) + warm:
            return "Does a prefix lose its first and its last address, as a subnet does?"
        if said == ceil(pods / BLOCK):
            return (
                "That holds the pods. How many addresses would be available beside them, and how"
                f" many does WARM_PREFIX_TARGET={warm} want?"
            )
        if said > right:
            return "With one prefix less, would fewer than the wanted addresses be available?"
        return "How many addresses do the pods use, and how many more have to be available?"

    def why(self, variant: Variant) -> str:
        """The comparison."""
        found = node_of(variant.lab).ipamd.pool().numbers()
        return (
            f"They hold {found['TotalIPs']} addresses, of which {found['available']} are available;"
            f" the pool is low below 16 × {found['WARM_PREFIX_TARGET']}."
        )


class WhichFit(Letters):
    """Which runs of sixteen free addresses could be a prefix?"""

    name = "prefixes-and-fragmentation/which-fit"
    place = "end"
    beat = "sixteen in a row, and aligned"
    question = (
        "In the subnet {subnet} the node holds its own address and some prefixes below the"
        " middle; besides, {taken} are taken. Which of these could EC2 hand out as a prefix"
        " now?\n\n- a: {a}\n- b: {b}\n- c: {c}\n- d: {d}\n\nAnswer with letters, as in `a c`,"
        " or `none`. (`subnet_view(question.lab)` shows this subnet.)"
    )
    restated = (
        "A prefix begins where the last four bits are 0, so its last number is a multiple of"
        " 16, and all sixteen have to be free."
    )
    first_step = "Take a, {a}: divide the last number of its first address by 16."

    def vary(self, dice: Dice) -> Variant:
        """Other runs: whole ones, one with a hole, one out of line, the first or the last."""
        words = where(dice)
        lab = node_in(words)
        subnet = lab.vpc.subnets["private-a"]
        blocks = dice.order("blocks", range(5, 14))
        holes = [subnet.cidr[block * BLOCK + dice.number(f"hole-{block}", 1, 14)]
                 for block in blocks[:3]]  # fmt: skip
        for hole in holes:
            subnet.take(hole)
        odd = dice.one("odd", (4, 8, 12))
        starts = [
            blocks[0] * BLOCK, blocks[3] * BLOCK, blocks[4] * BLOCK, 15 * BLOCK,
            min(set(range(5, 14)) - set(blocks[:3]) - {block - 1 for block in blocks[:3]} or {3})
            * BLOCK + odd,
        ]  # fmt: skip
        for letter, start in dice.lettered("starts", starts):
            words[letter] = f"{subnet.cidr[start]} to {subnet.cidr[start + BLOCK - 1]}"
        words |= {"taken": ", ".join(map(str, sorted(holes)))}
        return Variant(lab=lab, words=words)

    def refusal(self, variant: Variant, letter: str) -> str:
        """Why EC2 doesn't hand it out; "" if it does."""
        first = IPv4Address(variant.words[letter].split()[0])
        twin = cluster_of(variant.lab.copy())
        try:
            network = IPv4Network((first, PREFIX))
        except ValueError:
            return f"a /28 doesn't begin at {first}"
        try:
            twin.vpc.subnets["private-a"].take_prefix(network)
        except EkslearnError as error:
            return str(error)
        return ""

    def truth(self, variant: Variant) -> str:
        """Every run, asked for."""
        return "".join(letter for letter in "abcd" if not self.refusal(variant, letter))

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """Out of line, a hole, the end of the subnet, or needlessly afraid."""
        run = variant.words[wrong]
        first = int(IPv4Address(run.split()[0]))
        said = f"About {wrong}, {run}:"
        if first % BLOCK:
            return f"{said} can the first address of a /28 end in these four bits?"
        if not chosen:
            return f"{said} which of its sixteen addresses does anybody have?"
        if (first & 0xFF) == 15 * BLOCK:
            return f"{said} which addresses of a subnet does AWS keep for itself?"
        return f"{said} are all sixteen free? Compare with those that are taken."

    def why(self, variant: Variant) -> str:
        """What EC2 said to those that don't fit."""
        refused = {letter: self.refusal(variant, letter) for letter in "abcd"}
        told = [f"{letter}: {said.rstrip('.')}" for letter, said in refused.items() if said]
        return "; ".join(told) + "." if told else "All four are aligned, and free as a whole."


class MendTheSubnet(Exercise):
    """A patchy subnet gives no prefix and pods wait; mend it by typed commands."""

    name = "prefixes-and-fragmentation/mend-the-subnet"
    place = "open"
    beat = "break it on purpose, and mend it"
    question = (
        "On a node with prefixes {waiting} pods wait for an address. Its subnet private-a"
        " ({subnet}, {own}) has {free} free addresses, but no whole /28. In the same zone there"
        " is spare-a ({spare}, {id}), and nobody uses it. Mend it: give the lines to type, of"
        " the kinds `aws ec2 create-tags`, `aws ec2 create-subnet-cidr-reservation` or"
        " `kubectl set env daemonset aws-node -n kube-system NAME=VALUE`. Within five minutes"
        " every pod must have an address. (`.lab` is this cluster.)"
    )
    restated = "The node has room for more ENIs. They need not lie in the node's own subnet."
    first_step = "Which tag on a subnet lets the CNI use it, and which command sets a tag?"

    def vary(self, dice: Dice) -> Variant:
        """One taken address in every free /28, and more pods than the node has addresses for."""
        words = where(dice)
        lab = node_in(words)
        subnet = lab.vpc.subnets["private-a"]
        for block in range(len(subnet.states) // BLOCK):
            if not any(subnet.states[block * BLOCK : (block + 1) * BLOCK]):
                subnet.take(subnet.cidr[block * BLOCK + dice.number(f"hole-{block}", 0, 15)])
        come(lab, dice.number("pods", 36, 60))
        lab.sleep(10)
        words |= {"waiting": str(len(lab.pending)), "free": str(subnet.free),
                  "id": lab.vpc.subnets[SPARE].subnet_id, "own": subnet.subnet_id}  # fmt: skip
        return Variant(lab=lab, words=words)

    def judge(self, variant: Variant, answer: str) -> Verdict:
        """Type the lines, let five minutes pass, and count the pods that wait."""
        cluster = cluster_of(variant.lab)
        for line in answer.splitlines():
            if line.strip() and not line.strip().startswith("#"):
                typed(cluster, line.strip())
        cluster.sleep(300)
        if not cluster.pending:
            return Verdict(right=True, message="Every pod has an address. "
                           f"{fullness(cluster)}.")  # fmt: skip
        kept = cluster.vpc.subnets["private-a"].reservations
        question = (
            "Does a reservation move the addresses that are taken already?" if kept else
            "How does the CNI know which subnets it may put an ENI into?"
        )  # fmt: skip
        return Verdict(right=False, message=f"{len(cluster.pending)} pods still wait. {question}")


def fullness(cluster: Cluster) -> str:
    """Where the node's prefixes lie now."""
    found = {eni.subnet.name: 0 for eni in cluster.vpc.enis.values()}
    for eni in cluster.vpc.enis.values():
        found[eni.subnet.name] += len(eni.prefixes)
    return "Prefixes: " + ", ".join(f"{count} in {name}" for name, count in found.items())


def typed(cluster: Cluster, line: str) -> None:
    """Let one typed line act on a cluster; EkslearnError for one that can't be read."""
    try:
        words = shlex.split(line)
    except ValueError:
        raise EkslearnError(f"{line[:60]!r} has a quote too many") from None
    options = {name: value for name, value in pairwise(words)
               if name.startswith("--")}  # fmt: skip
    known = {key: subnet for subnet in cluster.vpc.subnets.values()
             for key in (subnet.name, subnet.subnet_id)}  # fmt: skip

    def subnet(option: str) -> str:
        if options.get(option) not in known:
            raise EkslearnError(f"{line[:60]!r}: {option} names no subnet; there are"
                                f" {', '.join(cluster.vpc.subnets)}")  # fmt: skip
        return options[option]

    if words[:3] == ["aws", "ec2", "create-tags"]:
        found = re.fullmatch(r"Key=([^,]+),Value=(.*)", options.get("--tags", ""))
        if not found:
            raise EkslearnError(f"{line[:60]!r}: tags are written --tags Key=NAME,Value=TEXT")
        known[subnet("--resources")].tags[found[1]] = found[2]
    elif words[:3] == ["aws", "ec2", "create-subnet-cidr-reservation"]:
        where = known[subnet("--subnet-id")]
        where.reserve(options.get("--cidr", ""), options.get("--reservation-type", ""))
    elif words[:2] == ["kubectl", "set"] and "aws-node" in line:
        pairs = [word.partition("=") for word in words if re.match(r"[A-Z_]+=", word)]
        fields = {"WARM_PREFIX_TARGET", "WARM_IP_TARGET", "MINIMUM_IP_TARGET", "MAX_ENI"}
        for name, _, value in pairs:
            if name not in fields or not value.isdecimal():
                raise EkslearnError(f"{line[:60]!r}: here can be set, to a whole number,"
                                    f" {', '.join(sorted(fields))}")  # fmt: skip
        node = node_of(cluster)
        changed: dict[str, Any] = {name.lower(): int(value) for name, _, value in pairs}
        cluster.restart_cni(node.name, replace(node.ipamd.settings, **changed))
    else:
        raise EkslearnError(f"{line[:60]!r} can't be run here; the lines begin with aws ec2"
                            " create-tags, aws ec2 create-subnet-cidr-reservation or kubectl set"
                            " env daemonset aws-node")  # fmt: skip


EXERCISES: Sequence[Exercise] = (HowManyPods(), HowManyPrefixes(), WhichFit(), MendTheSubnet())
