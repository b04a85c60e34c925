"""Exercises of lesson 06: how many addresses there are, whose they are, and why a pod waits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import ClassVar

from ekslearn.cluster import Cluster
from ekslearn.errors import EkslearnError
from ekslearn.exercises.format import (
    PODS,
    Dice,
    Exercise,
    Letters,
    Look,
    Variant,
    Verdict,
    cluster_of,
    plain,
    renamed,
    whole,
)
from ekslearn.kubernetes import Pod
from ekslearn.scenario import load
from ekslearn.vpc.instance import CAP, CAP_LARGE, instance_type, instance_types, max_pods
from ekslearn.vpc.subnet import BLOCK, FREE

FAMILIES = re.compile(r"(t2|t3|t3a|t4g|[mc][4-7]|r[4-7]|[mcr][6-8][gi])\.")
SMALL = "private-b"  # the subnet of the scenario that is nearly full
MOST_WAITING = 12  # pods that are added until one waits, at most


def draw(dice: Dice, scenario: str = "small-subnets") -> tuple[Cluster, dict[str, str]]:
    """This learner's two nodes, in subnets of the same sizes at other places."""
    second, third = dice.number("second", 1, 250), dice.number("third", 2, 250)
    names = {
        "10.0.0.0": f"10.{second}.0.0",
        "10.0.1.0": f"10.{second}.1.0",
        "10.0.2.0": f"10.{second}.{third}.{16 * dice.number('block', 0, 15)}",
    }
    lab = cluster_of(renamed(scenario, names))
    return lab, {"small": str(lab.vpc.subnets[SMALL].cidr), "block": names["10.0.2.0"]}


class HowManyPods(Look):
    """How many pods fit on one node of a type?"""

    name = "enis-and-their-addresses/how-many-pods"
    place = "easy"
    beat = "ask before you buy"
    question = (
        "EC2 says of **{kind}**: {enis} ENIs, {each} IPv4 addresses on each, {vcpus} vCPUs,"
        " {hypervisor}. {said} How many pods fit on one node, aws-node and kube-proxy counted?"
    )
    restated = (
        "ENIs that pods may use, times addresses for pods on each, plus the pods that need no"
        " address of their own."
    )
    first_step = "Of {each} addresses of an ENI, one is its own: that leaves how many?"
    modes: ClassVar[Mapping[str, str]] = {
        "plain": "Each pod gets a secondary address.",
        "custom": "With custom networking: pods get secondary addresses, but none of the first"
        " ENI's.",
        "prefixes": "With prefix delegation, and no cap.",
        "capped": "With prefix delegation, and the cap that EKS recommends.",
    }

    def vary(self, dice: Dice) -> Variant:
        """Another type, another mode."""
        names = [name for name in sorted(instance_types()) if FAMILIES.match(name)]
        kind, mode = instance_type(dice.one("model", names)), dice.one("mode", list(self.modes))
        words = {"kind": kind.name, "mode": mode, "said": self.modes[mode]}
        words |= {"enis": str(kind.enis), "each": str(kind.ipv4_per_eni)}
        words |= {"vcpus": str(kind.vcpus), "hypervisor": kind.hypervisor or "bare metal"}
        return Variant(lab=draw(dice)[0], words=words)

    def truth(self, variant: Variant) -> str:
        """What the formula says of the type."""
        return str(self.count(variant.words))

    def count(self, words: Mapping[str, str]) -> int:
        """The formula, with what the mode switches on."""
        mode = words["mode"]
        return max_pods(
            instance_type(words["kind"]),
            prefixes=mode in ("prefixes", "capped"),
            custom_networking=mode == "custom",
            capped=mode == "capped",
        )

    def read(self, variant: Variant, answer: str) -> str:
        """A number."""
        return whole(answer, "pods", 29)

    def back(self, variant: Variant, answer: str) -> str:
        """Each thing that can be forgotten has a question of its own."""
        words, right, said = variant.words, self.count(variant.words), int(answer)
        kind = instance_type(words["kind"])
        many = BLOCK if words["mode"] in ("prefixes", "capped") and kind.prefix_delegation else 1
        enis = kind.enis - (words["mode"] == "custom")
        uncapped = enis * (kind.ipv4_per_eni - 1) * many + 2
        if said in (enis * kind.ipv4_per_eni * many, enis * kind.ipv4_per_eni * many + 2):
            return "Does every address of an ENI go to a pod? Whose is the first?"
        if said == uncapped - 2:
            return "Which pods use the node's own address, and are counted all the same?"
        if said == max_pods(kind) and words["mode"] == "custom":
            return "Which ENI gives its addresses to nobody in custom networking?"
        if said == max_pods(kind, prefixes=True) and words["mode"] == "capped":
            return "That is what fits by addresses. How many pods does EKS recommend at most?"
        if said in (CAP, CAP_LARGE) and words["mode"] == "capped" and uncapped > said:
            return "The cap depends on something that isn't the network. How many vCPUs are there?"
        if many == 1 and words["mode"] in ("prefixes", "capped") and said > right:
            return "On which hypervisors can an ENI have prefixes? Which one is this?"
        if many == BLOCK and said == max_pods(kind):
            return "How many addresses does a slot of an ENI hold with prefix delegation?"
        return (
            "How many ENIs, how many addresses for pods on each, how many pods that need none?"
            " Write the three numbers down first."
        )

    def why(self, variant: Variant) -> str:
        """The numbers that went in."""
        return (
            "{enis} ENIs with {each} addresses each, one of which is the ENI's own; two pods need"
            " none. {said}"
        ).format_map(variant.words)


class WhichAreFree(Letters):
    """Which of four addresses could EC2 still give away?"""

    name = "enis-and-their-addresses/which-are-free"
    place = "end"
    beat = "an eni and its addresses"
    question = (
        "The node node-b and one pod live in the subnet {small}. Which of these addresses could"
        " EC2 still give to a new ENI?\n\n- a: {a}\n- b: {b}\n- c: {c}\n- d: {d}\n\nAnswer with"
        " letters, as in `a c`, or `none`. (`.lab` is this cluster; `.lab.vpc.enis` has what"
        " EC2 knows.)"
    )
    restated = (
        "An address isn't free if AWS keeps it, or if an ENI has it: as its own, for a pod, or"
        " for a pod to come."
    )
    first_step = "Begin with {a}: is it among the subnet's first four, or the last?"
    offsets: ClassVar[tuple[tuple[int, ...], ...]] = (
        (0, 1, 2, 3, 15),
        (4, 8),
        (5, 6, 7, 9, 10, 11),
        (9, 10, 11),
        (12, 13, 14),
        (13, 14, 15),
    )

    def vary(self, dice: Dice) -> Variant:
        """Four addresses of the small subnet."""
        lab, words = draw(dice)
        found: dict[int, None] = {}
        for number, group in enumerate(dice.order("sets", self.offsets)):
            found[dice.one(f"at/{number}", group)] = None
        base = lab.vpc.subnets[SMALL].cidr.network_address
        for letter, offset in zip("abcd", found, strict=False):
            words |= {letter: str(base + offset), f"offset_{letter}": str(offset)}
        return Variant(lab=lab, words=words)

    def state(self, variant: Variant, letter: str) -> int:
        """What an address is, by the subnet itself."""
        subnet = cluster_of(variant.lab).vpc.subnets[SMALL]
        at = int(IPv4Address(variant.words[letter])) - int(subnet.cidr.network_address)
        return subnet.states[at]

    def truth(self, variant: Variant) -> str:
        """The addresses that are free."""
        return "".join(one for one in "abcd" if self.state(variant, one) == FREE)

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """A reserved one, an ENI's own, one that waits for a pod, or a free one overlooked."""
        address = IPv4Address(variant.words[wrong])
        eni = cluster_of(variant.lab).vpc.owner(address)
        said = f"About {wrong}, {address}:"
        if not chosen:
            return f"{said} has any ENI got it, or does AWS keep it for itself?"
        if eni is None:
            return f"{said} how many addresses of a subnet does AWS keep, and which?"
        if address == eni.primary:
            return f"{said} whose own address is it?"
        return f"{said} perhaps no pod has it. But has EC2 given it away already, and to whom?"

    def why(self, variant: Variant) -> str:
        """What EC2 knows of each."""
        vpc = cluster_of(variant.lab).vpc
        told = []
        for letter in "abcd":
            eni = vpc.owner(IPv4Address(variant.words[letter]))
            free = self.state(variant, letter) == FREE
            told.append(f"{letter}: {eni.eni_id if eni else 'free' if free else 'kept by AWS'}")
        return "; ".join(told) + "."


class WhyDoesItWait(Look):
    """A pod waits. What is it that there isn't enough of?"""

    name = "enis-and-their-addresses/why-does-it-wait"
    place = "end"
    beat = "two ways to wait"
    restated = (
        "First ask who makes it wait: the scheduler, which finds no node, or the CNI, which"
        " finds no address. In the second case: what keeps the node from another ENI?"
    )
    first_step = "`.lab.pending[{pod!r}]` has the words that `kubectl describe pod` shows."
    question = (
        "In a cluster of two nodes, **{pod}** waits. Why?\n\n- a: {said_a}\n- b: {said_b}\n- c:"
        " {said_c}\n- d: {said_d}\n\nAnswer with one letter. (Look around in `.lab`:"
        " `.lab.pending`, `.lab.vpc.enis`, `.lab.vpc.subnets`, and"
        " `.lab.machines[...].ipamd.settings`.)"
    )
    causes: ClassVar[Mapping[str, str]] = {
        "kubelet": "every node has as many pods as its kubelet takes",
        "type": "the node's instance type allows no further ENI",
        "subnet": "the subnet has too few free addresses for another ENI",
        "setting": "a setting of the CNI allows no further ENI",
    }

    def vary(self, dice: Dice) -> Variant:
        """Another cause, and the four in another order."""
        lab, words = draw(dice)
        cause = dice.one("cause", list(self.causes))
        node = {"type": "node-a", "setting": "node-a", "subnet": "node-b", "kubelet": ""}[cause]
        lab.machines["node-a"].max_pods += 4 * (cause == "type")  # told to kubelet, and too high
        if cause == "setting":
            lab.restart_cni(node, replace(lab.settings, max_eni=2))
        job = dice.one("job", PODS)
        pod = waiting(lab, job, node, "Too many pods" if cause == "kubelet" else "assign")
        words |= {"pod": pod, "cause": cause}
        for letter, name in dice.lettered("causes", list(self.causes)):
            words |= {letter: name, f"said_{letter}": self.causes[name]}
        return Variant(lab=lab, words=words)

    def cause(self, variant: Variant) -> str:
        """What the cluster's state says."""
        lab, place = cluster_of(variant.lab), variant.words["pod"]
        if "Too many pods" in lab.pending.get(place, ""):
            return "kubelet"
        machine = lab.machines[lab.pods[place].node]
        ipamd = machine.ipamd
        attached = [eni for eni in lab.vpc.enis.values() if eni.instance == ipamd.instance]
        if len(attached) >= machine.kind.enis:
            return "type"
        return "setting" if 0 < ipamd.settings.max_eni <= len(attached) else "subnet"

    def truth(self, variant: Variant) -> str:
        """The letter of the cause."""
        cause = self.cause(variant)
        return next(letter for letter in "abcd" if variant.words[letter] == cause)

    def read(self, variant: Variant, answer: str) -> str:
        """One letter."""
        text = plain(answer)
        if not re.fullmatch("[a-d]", text):
            raise EkslearnError(f"{answer[:40]!r} can't be read; answer with one letter, a to d")
        return text

    def back(self, variant: Variant, answer: str) -> str:
        """Where to look for what was said."""
        place = variant.words["pod"]
        return {
            "kubelet": f"What does `.lab.pending[{place!r}]` say: that no node takes it, or that a"
            " node took it and found no address?",
            "type": "How many ENIs of the pod's node are in `.lab.vpc.enis`, and how many does its"
            " type allow? If it has a node at all.",
            "subnet": "How many addresses of the node's subnet are free, and how many does one more"
            " ENI want? If anybody asks for one.",
            "setting": "Which setting would that be, and what is its value on the pod's node?",
        }[variant.words[answer]]

    def why(self, variant: Variant) -> str:
        """What the pod is told, and what stands behind it."""
        lab, place = cluster_of(variant.lab), variant.words["pod"]
        said = lab.pending[place].rpartition("add cmd: ")[2].rstrip(".")
        return f"{place} is told: {said}. And {self.causes[self.cause(variant)]}."


def waiting(lab: Cluster, name: str, node: str, sign: str) -> str:
    """Add pods, to a node if one is named, until one waits for that reason; its place."""
    for number in range(3 * MOST_WAITING):
        pod = Pod(name=f"{name}-{number + 1}", node=node)
        lab.add_pod(pod)
        if node or not number % 8:
            lab.settle(20)
        if sign in lab.pending.get(pod.place, ""):
            return pod.place
    raise EkslearnError(f"no pod of {lab.name} waits: {sign}")


PLAN = """\
apiVersion: ekslearn/v1
kind: Cluster
metadata: {{name: plan}}
spec:
  vpc:
    cidrs: [{vpc}]
    subnets:
      - {{name: load-balancers, cidr: {taken_1}, zone: us-east-1a}}
      - {{name: databases, cidr: {taken_2}, zone: us-east-1a}}
      - {{name: nodes, cidr: {nodes}, zone: us-east-1a}}
  nodes:
"""
LEFT_OVER = 8  # free addresses that a load balancer's subnet needs (Elastic Load Balancing guide)


class PlanASubnet(Exercise):
    """Find a subnet that is large enough, and no larger."""

    name = "enis-and-their-addresses/plan-a-subnet"
    place = "open"
    beat = "a /24 isn't 256 pods"
    restated = (
        "A subnet holds, besides five addresses of AWS's, every address of every ENI, also of"
        " those that the CNI keeps in reserve."
    )
    first_step = "Count in `.lab`: `sum(eni.slots_used for eni in question.lab.vpc.enis.values())`."

    def vary(self, dice: Dice) -> Variant:
        """Other nodes, another number of pods, other subnets that are there already."""
        kind = instance_type(dice.one("kind", ["t3.small", "t3.medium", "m5.large"]))
        second = dice.number("second", 1, 250)
        words = {
            "kind": kind.name,
            "count": str(dice.number("count", 2, 5)),
            "pods": str(dice.number("pods", 2, max_pods(kind) - 2)),
            "vpc": f"10.{second}.0.0/16",
            "taken_1": f"10.{second}.0.0/24",
            "taken_2": f"10.{second}.{dice.number('taken', 1, 15)}.128/25",
        }
        words["sample"] = f"10.{second}.128.0/17"
        return Variant(lab=self.build(words | {"count": "1"}, words["sample"]), words=words)

    def build(self, words: Mapping[str, str], nodes: str) -> Cluster:
        """The cluster with that subnet, its pods added, and time for them to get addresses."""
        text = PLAN.format_map({**words, "nodes": nodes})
        for number in range(int(words["count"])):
            text += f"    - {{name: node-{number}, instanceType: {words['kind']}, subnet: nodes}}\n"
        made = cluster_of(load(text))
        for number in range(int(words["count"])):
            for pod in range(int(words["pods"])):
                made.add_pod(Pod(name=f"pod-{number}-{pod}", node=f"node-{number}"))
        made.settle(90)
        return made

    def ask(self, words: Mapping[str, str]) -> str:
        """The question."""
        return (
            "You plan a subnet for **{count} nodes** of type **{kind}**, each with **{pods} pods**"
            " that need an address, in the VPC {vpc}. Taken already: {taken_1} and {taken_2}. The"
            f" CNI has its default settings. EC2 is never to refuse it anything, and when all pods"
            f" run, {LEFT_OVER} addresses have to be free for a load balancer. Give a CIDR, as"
            " small as will do. (`.lab` is one such node with its pods in a large subnet, {sample}:"
            " what does it take?)"
        ).format_map(words)

    def read(self, words: Mapping[str, str], answer: str) -> IPv4Network:
        """A CIDR; EkslearnError if it is none, or none that can be had."""
        text = plain(answer)
        try:
            if "/" not in text:
                raise ValueError
            cidr = IPv4Network(text, strict=False)
        except ValueError:
            raise EkslearnError(f"{answer[:40]!r} is no CIDR; one reads like {words['taken_2']}"
                                ) from None  # fmt: skip
        if str(cidr) != text:
            raise EkslearnError(f"{text} doesn't begin where a /{cidr.prefixlen} can begin. Which"
                                " address is the first of that block?")  # fmt: skip
        if not 16 <= cidr.prefixlen <= 28:
            raise EkslearnError("A subnet is a /16 to a /28. Which of them is the smallest?")
        if not cidr.subnet_of(IPv4Network(words["vpc"])):
            raise EkslearnError(f"Is {cidr} within {words['vpc']}?")
        for taken in (words["taken_1"], words["taken_2"]):
            if cidr.overlaps(IPv4Network(taken)):
                raise EkslearnError(f"Do {cidr} and {taken} share addresses?")
        return cidr

    def lacks(self, words: Mapping[str, str], cidr: IPv4Network) -> str:
        """What goes wrong with that subnet, as a sentence; "" if nothing does."""
        made = self.build(words, str(cidr))
        if made.pending:
            total = int(words["count"]) * int(words["pods"])
            return f"With a /{cidr.prefixlen}, {len(made.pending)} of {total} pods wait."
        refused = sum(bool(call.error) for call in made.ec2.calls)
        if refused:
            return f"With a /{cidr.prefixlen}, all pods run, but EC2 refuses {refused} calls."
        free = made.vpc.subnets["nodes"].free
        if free < LEFT_OVER:
            return f"With a /{cidr.prefixlen}, all pods run, and {free} addresses are left."
        return ""

    def judge(self, variant: Variant, answer: str) -> Verdict:
        """Build it, then build one of half the size."""
        words = variant.words
        cidr = self.read(words, answer)
        if problem := self.lacks(words, cidr):
            return Verdict(
                right=False,
                message=f"{problem} Whose addresses did you count: those of pods, of ENIs, and"
                " those that no pod has yet? And how many does AWS keep?",
            )
        if cidr.prefixlen < 28 and not self.lacks(words, next(cidr.subnets())):
            return Verdict(right=False, message="It fits. Would half of it do as well?")
        return Verdict(right=True, message=f"All pods run in {cidr}, and half of it wouldn't do.")


EXERCISES: Sequence[Exercise] = (HowManyPods(), WhichAreFree(), WhyDoesItWait(), PlanASubnet())
