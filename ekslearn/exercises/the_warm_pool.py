"""Exercises of lesson 07: the pool of addresses that ipamd keeps warm."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import ceil
from typing import ClassVar

from ekslearn.cluster import Cluster
from ekslearn.errors import EkslearnError
from ekslearn.exercises.format import (
    LETTERS,
    Dice,
    Exercise,
    Letters,
    Look,
    Variant,
    Verdict,
    cluster_of,
    node_of,
    replaced,
    text_of,
    whole,
)
from ekslearn.kubernetes import Pod
from ekslearn.scenario import load
from ekslearn.vpc.instance import instance_type

REST_S = 60  # by then the pool of one node is at rest
KINDS = ("t3.small", "t3.medium", "m5.large", "t3.large", "m5.xlarge")
SETTING = re.compile(r"\b([A-Z][A-Z0-9_]{3,})=(\S+)")


def node_with(settings: Mapping[str, str], words: Mapping[str, str], kind: str) -> Cluster:
    """The lesson's node with another instance type, subnet and settings; "" leaves them be."""
    text = text_of("warm-pool")
    if settings:
        said = ", ".join(f'{name}: "{value}"' for name, value in settings.items())
        text = re.sub(r"cni: \{.*\}", f"cni: {{{said}}}", text)
    names = {"m5.large": kind} | {old: words[old] for old in ("10.0.0.0/16", "10.0.1.0/24")}
    made = cluster_of(load(replaced(text, names)))
    made.sleep(REST_S)
    return made


def where(dice: Dice) -> dict[str, str]:
    """Another VPC, and the subnet's name in it."""
    second, third = dice.number("second", 1, 250), dice.number("third", 1, 250)
    subnet = f"10.{second}.{third}.0/24"
    return {"10.0.0.0/16": f"10.{second}.0.0/16", "10.0.1.0/24": subnet, "subnet": subnet}


def come(cluster: Cluster, count: int, name: str = "pod") -> int:
    """Schedule pods at one moment; how many of them get no address at once."""
    for number in range(count):
        cluster.add_pod(Pod(name=f"{name}-{number}"))
    return len(cluster.pending)


def taken(cluster: Cluster) -> int:
    """How many addresses of the subnet the cluster's ENIs have."""
    return sum(1 + len(eni.secondary) + 16 * len(eni.prefixes) for eni in cluster.vpc.enis.values())


class WhatTheSubnetLoses(Look):
    """How many addresses does a node take from its subnet for so many pods?"""

    name = "the-warm-pool/what-the-subnet-loses"
    place = "easy"
    beat = "the first pod"
    question = (
        "A node of type {kind} may have {enis} ENIs with {each} addresses each. It is set to"
        " WARM_ENI_TARGET={warm}, and to no other target. {pods} pods have come to it, all of"
        " them run, and ipamd is at rest. How many addresses of the subnet"
        " {subnet} does the node hold now, its own included? (`.lab` is this cluster; try to"
        " reckon before you look.)"
    )

    def vary(self, dice: Dice) -> Variant:
        """Another instance type and number of pods."""
        kind = instance_type(dice.one("kind", KINDS))
        pods = dice.number("pods", 1, min(20, kind.enis * (kind.ipv4_per_eni - 1)))
        words = where(dice)
        lab = node_with({}, words, kind.name)
        come(lab, pods)
        lab.sleep(REST_S)
        words |= {"kind": kind.name, "enis": str(kind.enis), "each": str(kind.ipv4_per_eni),
                  "pods": str(pods), "warm": str(lab.settings.warm_eni_target)}  # fmt: skip
        return Variant(lab=lab, words=words)

    def truth(self, variant: Variant) -> str:
        """What EC2 has assigned to the node's ENIs."""
        return str(taken(cluster_of(variant.lab)))

    def read(self, variant: Variant, answer: str) -> str:
        """A number."""
        return whole(answer, "addresses")

    def back(self, variant: Variant, answer: str) -> str:
        """The pods alone; the ENIs' own addresses left out; an ENI too many or too few."""
        words, said, right = variant.words, int(answer), int(self.truth(variant))
        pods, each = int(words["pods"]), int(words["each"])
        enis = right // each
        if said in (pods, pods + 1):
            return "Those are the pods that run. What does ipamd hold for pods that may come?"
        if said == enis * (each - 1):
            return (
                "Those are the addresses that pods can have. Does an ENI have one that no pod ever"
                " gets?"
            )
        if said > right and said % each == 0:
            return (
                f"WARM_ENI_TARGET={words['warm']} asks for {words['warm']} × {each - 1} available"
                " addresses. Has the node fewer with one ENI less, and may it have that many ENIs?"
            )
        if said % each == 0:
            return (
                f"Then how many addresses would be available beside the {pods} pods, and is that"
                f" {words['warm']} × {each - 1}?"
            )
        return (
            "With WARM_ENI_TARGET an ENI is filled as soon as it comes. How many ENIs has the node,"
            " and how many addresses has each of them?"
        )

    def why(self, variant: Variant) -> str:
        """ENIs and what they hold."""
        found = node_of(variant.lab).ipamd.pool().numbers()
        return (
            f"{found['ENIs']} ENIs with {variant.words['each']} each; for pods there are"
            f" {found['TotalIPs']}, of which {found['available']} are available."
        )

    def hints(self, words: Mapping[str, str]) -> tuple[str, str]:
        """Restated; first step."""
        return (
            "The pool grows by a whole ENI while fewer than WARM_ENI_TARGET × (addresses of an ENI,"
            " without its own) are available, and while there is room for an ENI.",
            f"Start with one ENI: {int(words['each']) - 1} addresses for pods. How many are left"
            f" after {words['pods']} pods, and is that enough?",
        )


class HowManyMore(Look):
    """Some pods went, some came. How many addresses is the pool short of its targets?"""

    name = "the-warm-pool/how-many-more"
    place = "end"
    beat = "a target in addresses"
    question = (
        "A node in {subnet} has WARM_IP_TARGET={warm} and MINIMUM_IP_TARGET={least}. A moment"
        " ago pods went and others came. Its store says TotalIPs {total}, AssignedIPs"
        " {assigned}, and {cooling} of the others cool down. By how many addresses does the"
        " next round find the pool short? Answer with a number; 0 means that it doesn't grow."
    )
    restated = (
        "short is the larger of two lacks: WARM_IP_TARGET against what is available, and"
        " MINIMUM_IP_TARGET against all there are; and never less than 0."
    )
    first_step = (
        "Available is TotalIPs - AssignedIPs, {total} - {assigned}. Do you"
        " have to take the cooling ones off?"
    )

    def vary(self, dice: Dice) -> Variant:
        """Other targets, and other pods that go and come."""
        words = where(dice)
        warm, least = dice.number("warm", 1, 6), dice.number("least", 4, 14)
        before = dice.number("before", 3, 8)
        gone = dice.number("gone", 1, 3)
        lab = node_with({"WARM_IP_TARGET": str(warm), "MINIMUM_IP_TARGET": str(least)}, words,
                        "m5.large")  # fmt: skip
        come(lab, before, "old")
        lab.sleep(REST_S)
        for number in range(gone):
            lab.delete_pod(f"default/old-{number}")
        ipamd = node_of(lab).ipamd
        stats = ipamd.store.stats()
        free = stats.available - stats.cooldown_ips
        come(lab, dice.number("new", max(free - 2, 0), free), "new")
        found = ipamd.pool().numbers()
        words |= {"warm": str(warm), "least": str(least), "gone": str(gone),
                  "total": str(found["TotalIPs"]), "assigned": str(found["AssignedIPs"]),
                  "cooling": str(found["CooldownIPs"])}  # fmt: skip
        return Variant(lab=lab, words=words)

    def truth(self, variant: Variant) -> str:
        """What ipamd reckons at this moment."""
        return str(node_of(variant.lab).ipamd.pool().numbers()["short"])

    def read(self, variant: Variant, answer: str) -> str:
        """A number."""
        return whole(answer, "addresses")

    def back(self, variant: Variant, answer: str) -> str:
        """Cooling ones taken off, one of the targets forgotten, both added, or pods counted."""
        said = int(answer)
        named = ("warm", "least", "total", "assigned", "cooling")
        warm, least, total, assigned, cooling = (int(variant.words[each]) for each in named)
        available = total - assigned
        if said == max(warm - (available - cooling), least - total, 0):
            return "Does ipamd take the cooling addresses off when it says *available*?"
        if said == max(warm - available, 0):
            return "That is what WARM_IP_TARGET asks for. Does the other target ask for more?"
        if said == max(least - total, 0):
            return "That is what MINIMUM_IP_TARGET asks for. Does the other target ask for more?"
        if said == max(warm - available, 0) + max(least - total, 0):
            return "If one call brings enough for the larger wish, is the smaller one still open?"
        if said == max(warm + least - total, 0):
            return "Do the two targets add up, or does each look at another number?"
        return (
            "One target is held against TotalIPs, the other against TotalIPs - AssignedIPs. How"
            " much does each lack?"
        )

    def why(self, variant: Variant) -> str:
        """The comparison as ipamd makes it."""
        ipamd = node_of(variant.lab).ipamd
        ipamd.tick()
        pools = [one for one in ipamd.decisions if one.step == "pool"]
        said = [check.words for check in pools[-1].checks if check.words.startswith("short")]
        return f"`{said[0].partition(';')[0]}`." if said else "The pool is as large as it may be."


class WhoWaits(Letters):
    """Which of four settings are enough for so many pods at once?"""

    name = "the-warm-pool/who-waits"
    place = "end"
    beat = "what each costs"
    question = (
        "A node of type {kind} may have {enis} ENIs with {each} addresses each. It runs no pod"
        " yet, its pool is at rest. Now {pods} pods are scheduled on it, all at one moment."
        " With which of these settings does every pod get its address at once?\n\n- a: {a}\n"
        "- b: {b}\n- c: {c}\n- d: {d}\n\n" + LETTERS
    )
    restated = (
        "A pod gets an address that is already on the node, or it waits. How many are there"
        " with each setting, before the first pod comes?"
    )
    first_step = "Take a, {a}: in whole ENIs, or in addresses? Then compare with {pods}."

    def vary(self, dice: Dice) -> Variant:
        """Another number of pods, another instance type, four of seven settings."""
        words = where(dice)
        kind = instance_type(dice.one("kind", KINDS[1:4]))
        slots = kind.ipv4_per_eni - 1
        pods = dice.number("pods", slots - 1, slots + 3)
        wishes = [
            "WARM_ENI_TARGET=1", "WARM_ENI_TARGET=2", f"WARM_IP_TARGET={pods}",
            f"WARM_IP_TARGET={pods - 2}", f"MINIMUM_IP_TARGET={pods}",
            f"MINIMUM_IP_TARGET={pods - 1} WARM_IP_TARGET=1", "WARM_IP_TARGET=1",
        ]  # fmt: skip
        words |= dict(dice.lettered("wishes", wishes))
        words |= {"kind": kind.name, "enis": str(kind.enis), "each": str(kind.ipv4_per_eni),
                  "pods": str(pods)}  # fmt: skip
        return Variant(lab=node_with({}, words, kind.name), words=words)

    def ready(self, variant: Variant, letter: str) -> tuple[int, int]:
        """How many addresses wait for pods with a setting, and how many pods then wait."""
        settings = dict(SETTING.findall(variant.words[letter]))
        cluster = node_with(settings, variant.words, variant.words["kind"])
        free = node_of(cluster).ipamd.store.stats().available
        return free, come(cluster, int(variant.words["pods"]))

    def truth(self, variant: Variant) -> str:
        """Each setting tried on a node of its own."""
        return "".join(letter for letter in "abcd" if not self.ready(variant, letter)[1])

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """How many are ready?"""
        wish = variant.words[wrong]
        said = f"About {wrong}, {wish}:"
        if "ENI" in wish:
            return f"{said} how many addresses for pods do that many whole ENIs hold, none used?"
        if "MINIMUM" in wish:
            return f"{said} how many addresses does the node hold before the first pod comes?"
        if chosen:
            return f"{said} is that many ready, or is the rest only asked for when pods wait?"
        return f"{said} how many addresses are available on the empty node?"

    def why(self, variant: Variant) -> str:
        """What was ready with each."""
        told = [f"{letter}: {self.ready(variant, letter)[0]}" for letter in "abcd"]
        return f"Ready before the pods came: {', '.join(told)}; wanted: {variant.words['pods']}."


class SetTheTargets(Exercise):
    """Short-lived jobs starve; find settings that feed them and leave the subnet something."""

    name = "the-warm-pool/set-the-targets"
    place = "open"
    beat = "starve beside free addresses"
    question = (
        "On an {kind} in {subnet} {jobs} jobs start every {pace} seconds, and end when the next"
        " ones start. Find targets with which no job waits for an address and the node never"
        " holds more than {limit} addresses of the subnet, the ENIs' own included. Give the"
        " lines to type, for instance `kubectl set env daemonset aws-node -n kube-system"
        " WARM_IP_TARGET=1`; NAME=VALUE is enough. There is more than one way. (`.lab` has"
        " settings that starve the jobs.)"
    )
    restated = (
        "An address is out of use for 30 seconds after its job. ipamd counts it as available"
        " all the same, so the target has to be large enough to cover those too."
    )
    first_step = (
        "In 30 seconds, how many times do {jobs} jobs end, if it happens every {pace} seconds?"
    )
    rounds = 8
    dangers: ClassVar[tuple[tuple[str, str], ...]] = (
        ("IP_COOLDOWN_PERIOD", "Then an address goes to a new pod sooner. Who might still be"
         " sending to the old one, and for how long? Try without touching the cooldown."),
        ("ENABLE_PREFIX_DELEGATION", "That would take sixteen addresses at a time, and it is the"
         " next lesson. Can it be done with the targets?"),
    )  # fmt: skip

    def vary(self, dice: Dice) -> Variant:
        """Another number of jobs and another pace."""
        words = where(dice)
        jobs, pace = dice.number("jobs", 2, 4), dice.one("pace", (10, 15))
        busy = jobs * (ceil(31 / pace) + 1)
        words |= {"jobs": str(jobs), "pace": str(pace), "limit": str(busy + jobs + 3),
                  "kind": dice.one("kind", ("m5.xlarge", "m5.2xlarge"))}  # fmt: skip
        starving = {"WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": str(jobs * 2)}
        return Variant(lab=node_with(starving, words, words["kind"]), words=words)

    def judge(self, variant: Variant, answer: str) -> Verdict:
        """Run the jobs on a node with these settings."""
        settings = {name: value.strip("`'\",.") for name, value in SETTING.findall(answer)}
        if not settings:
            raise EkslearnError(f"{answer[:40]!r} sets nothing; a line reads NAME=VALUE, for"
                                " instance WARM_IP_TARGET=1")  # fmt: skip
        for danger, question in self.dangers:
            if danger in settings:
                return Verdict(right=False, message=question)
        words = variant.words
        cluster = node_with(settings, words, words["kind"])
        waited, most = self.play(cluster, int(words["jobs"]), int(words["pace"]))
        if waited:
            return Verdict(right=False, message=f"{waited} jobs had to wait. How many addresses are"
                           " cooling when the busiest round begins, and does the target leave as"
                           " many as it needs beside them?")  # fmt: skip
        if most > int(words["limit"]):
            return Verdict(right=False, message=f"No job waits, but the node held {most} addresses."
                           " Which target takes whole ENIs, and which one single addresses?"
                           )  # fmt: skip
        return Verdict(right=True, message=f"No job waits, and the node holds {most} addresses at"
                       " most.")  # fmt: skip

    def play(self, cluster: Cluster, jobs: int, pace: int) -> tuple[int, int]:
        """Let the jobs come and go; how many had to wait, and the most addresses held."""
        waited, most = 0, taken(cluster)
        for turn in range(self.rounds):
            waited += come(cluster, jobs, f"job-{turn}")
            for _ in range(pace // 5):
                cluster.sleep(5)
                most = max(most, taken(cluster))
            for place in list(cluster.pods):
                cluster.delete_pod(place)
        return waited, most


EXERCISES: Sequence[Exercise] = (
    WhatTheSubnetLoses(), HowManyMore(), WhoWaits(), SetTheTargets(),
)  # fmt: skip
