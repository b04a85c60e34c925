"""Exercises of lesson 17: ten questions about one connection, in a cluster of the learner's own.

All ten are about the same cluster and the same call, drawn once for each learner; only the last
one breaks something.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address

from ekslearn.cluster import Cluster, Lab
from ekslearn.errors import EkslearnError
from ekslearn.exercises.format import (
    LETTERS,
    Dice,
    Exercise,
    Letters,
    Look,
    Variant,
    cluster_of,
    plain,
    renamed,
)
from ekslearn.trace import Sighting, Step, Trace

SCENARIO = "capstone"
DRAWN = "capstone/cluster"  # in whose name a learner draws the cluster and the call
BALANCER = "lb/shop/web"
NODES = ("node-a", "node-b")
PODS_OF = {"node-a": "shop/web-1", "node-b": "shop/web-2"}
KEEPS, HIDES = "preserve_client_ip.enabled=true", "preserve_client_ip.enabled=false"
INTRO = (
    "**node-a** ({node_a}) runs **web-1** ({web_1}), **node-b** ({node_b}) runs **web-2**"
    " ({web_2}); both pods' addresses belong to their node's **eth1**, and both listen on"
    " {listens}. The Service **shop/web** ({cluster_ip}:{port}, nodePort {node_port},"
    " `externalTrafficPolicy: {policy}`) has a Network Load Balancer with instance targets and"
    " `{keeps}`. **browser** ({client}) connects to its address {door}, which leads to **{node}**"
)
ASK = f"{INTRO}; **{{pod}}** answers."


def doors(lab: Cluster) -> dict[str, str]:
    """For each node, what a browser asks to get to it: the balancer's address in its zone."""
    balancer = lab.elb.balancers[BALANCER]
    port = balancer.listeners[0].port
    return {
        node: f"{balancer.zones[eni.subnet.zone].public_ip}:{port}/tcp"
        for node in NODES
        if (eni := lab.vpc.owner(IPv4Address(lab.address(node))))
    }


def reaches(trace: Trace, pod: str) -> bool:
    """Whether a call came as far as ``pod``."""
    return any(seen.place == pod for seen in trace.request)


def answered(lab: Lab, door: str, pod: str) -> Trace:
    """Ask at a door, again and again, until the dice of the chains choose ``pod``.

    If they never do, it is the last call.
    """
    for _ in range(40):
        if reaches(trace := lab.trace("browser", door), pod):
            break
    return trace


def outcomes(lab: Cluster) -> str:
    """What becomes of a call by each door that falls to each pod, and why."""
    lines = []
    for node, door in doors(lab).items():
        for pod in PODS_OF.values():
            trace = answered(lab, door, pod)
            lines += [f"by {node} to {pod}: {trace.verdict}", f"  {trace.reason}"]
    return "\n".join(lines)


def health(lab: Cluster, seconds: int = 360, every: int = 30) -> str:
    """How many of the balancer's targets are healthy, looked at again and again."""
    targets, seen = lab.elb.balancers[BALANCER].listeners[0].group.targets, []
    for _ in range(0, seconds, every):
        lab.sleep(every)
        seen.append(str(sum(each.state == "healthy" for each in targets)))
    return " ".join(seen)


def chains(trace: Trace, node: str) -> list[str]:
    """The chains of table nat that the request went through on a node, up to its DNAT."""
    return [
        step.decision.removeprefix("go on in ") for step in trace.steps
        if (step.place, step.leg, step.stage) == (node, "request", "nat PREROUTING")
        and step.decision.startswith("go on")
    ]  # fmt: skip


def grep(lab: Lab, place: str, command: str, *words: str) -> str:
    """The lines of a command's output that hold one of ``words``."""
    lines = lab.run(place, command).stdout.splitlines()
    return "\n".join(line for line in lines if any(word in line for word in words))


def wires(seen: Iterable[Sighting]) -> str:
    """A line for each sighting: where, which way, and both ends."""
    return "\n".join(
        f"{one.place:11} {one.direction:3} {one.interface:14}"
        f" {one.src}:{one.sport} -> {one.dst}:{one.dport}"
        for one in seen
    )


def draw(dice: Dice, policy: str = "") -> tuple[Cluster, dict[str, str]]:
    """This learner's cluster, and the words for it; another ``policy`` than the drawn one."""
    net = f"10.{dice.number('net', 1, 250)}"
    words = {
        "policy": policy or dice.one("policy", ("Cluster", "Cluster", "Cluster", "Local")),
        "keeps": dice.one("keeps", (KEEPS, KEEPS, HIDES)),
        "port": str(dice.one("port", (443, 8443, 9443))),
        "node_port": str(dice.number("node port", 30000, 32767)),
        "listens": str(dice.number("listens", 3000, 3999)),
        "cluster_ip": f"172.20.{dice.number('third', 1, 250)}.{dice.number('fourth', 1, 250)}",
        "client": f"203.0.113.{dice.number('client', 4, 250)}",
    }
    names = {
        "externalTrafficPolicy: Cluster": f"externalTrafficPolicy: {words['policy']}",
        KEEPS: words["keeps"], "443": words["port"], "31380": words["node_port"],
        "8080": words["listens"], "172.20.45.6": words["cluster_ip"],
        "203.0.113.7": words["client"], "10.0.0.0": f"{net}.0.0", "10.0.0.64": f"{net}.0.64",
        "10.0.1.0": f"{net}.1.0", "10.0.2.0": f"{net}.2.0",
    }  # fmt: skip
    for what, old, low, high in (
        ("node_a", "1.10", 4, 19), ("spare_a", "1.12", 20, 60), ("card_a", "1.40", 64, 99),
        ("web_1", "1.45", 100, 250), ("node_b", "2.10", 4, 19), ("spare_b", "2.12", 20, 60),
        ("card_b", "2.70", 64, 99), ("web_2", "2.77", 100, 250),
    ):  # fmt: skip
        third = old.partition(".")[0]
        words[what] = names[f"10.0.{old}"] = f"{net}.{third}.{dice.number(what, low, high)}"
    lab = cluster_of(renamed(SCENARIO, names))
    node, other = dice.order("nodes", NODES)
    home = node if words["policy"] == "Local" else dice.one("home", (node, other, other))
    balancer = lab.elb.balancers[BALANCER]
    zones = {eni.subnet.zone: eni for eni in balancer.zones.values()}
    own = lab.vpc.owner(IPv4Address(lab.address(node)))
    words |= {"node": node, "other": other, "home": home, "pod": PODS_OF[home].split("/")[1]}
    for word, which in (("door", node), ("other_door", other)):
        words[word] = doors(lab)[which].removesuffix("/tcp")
    words["balancer"] = str(zones[own.subnet.zone].primary) if own else ""
    words["host"], words["host_home"] = lab.address(node), lab.address(home)
    words["pod_ip"], words["other_ip"] = lab.address(PODS_OF[home]), lab.address(other)
    return lab, words


@lru_cache(maxsize=64)
def own_cluster(learner: str) -> Variant:
    """A learner's cluster, just before the call that the questions are about."""
    lab, words = draw(Dice(exercise=DRAWN, learner=learner))
    for _ in range(40):
        if reaches(call(lab, words), PODS_OF[words["home"]]):
            return Variant(lab=lab, words=words)
        lab.trace("browser", words["door"])
    raise EkslearnError(f"{words['pod']} never answers at {words['door']}")


def call(lab: Lab, words: Mapping[str, str]) -> Trace:
    """The call that is asked about, on a copy: the dice fall as they would in ``lab``."""
    return lab.copy().trace("browser", words["door"])


def at(trace: Trace, leg: str, place: str, stage: str) -> Step:
    """The first step of a kind; EkslearnError if the packet never got there."""
    for step in trace.steps:
        if (step.leg, step.place, step.stage) == (leg, place, stage):
            return step
    raise EkslearnError(f"no {leg} comes to {place}: {trace.reason}")


def sighted(seen: Iterable[Sighting], place: str, direction: str) -> Sighting:
    """The first time a packet was seen at a place; EkslearnError if it never was."""
    for one in seen:
        if (one.place, one.direction) == (place, direction):
            return one
    raise EkslearnError(f"nothing is seen at {place}")


class OfTheCall(Look):
    """A question about the learner's one call."""

    place = "end"
    situation = ASK

    def vary(self, dice: Dice) -> Variant:
        """The learner's own cluster: the same in all ten questions."""
        own = own_cluster(dice.learner)
        return self.vary_from(dice, own)

    def vary_from(self, dice: Dice, own: Variant) -> Variant:
        """What else is drawn for this question alone."""
        return own

    def trace(self, variant: Variant) -> Trace:
        """The call."""
        return call(variant.lab, variant.words)


def address_of(answer: str, like: str) -> str:
    """An IPv4 address; EkslearnError if it is none."""
    try:
        return str(IPv4Address(plain(answer)))
    except ValueError:
        raise EkslearnError(
            f"{answer[:40]!r} is no address; answer with one, such as {like}"
        ) from None


class WhoIsSeen(OfTheCall):
    """Whose address does the pod see?"""

    name = "capstone/who-is-seen"
    place = "easy"
    beat = "the second node"
    situation = ""
    question = f"{ASK}\n\nWhich source address does {{pod}} see? Answer with an address."
    restated = (
        "Two machines may change the source: the balancer, and the node that is asked. Which of"
        " them does, with these settings?"
    )
    first_step = (
        "Read KUBE-EXT's rows in `iptables-save -t nat` on {node}, and the balancer's attribute."
    )

    def truth(self, variant: Variant) -> str:
        """The source of the request as it came in there."""
        home = PODS_OF[variant.words["home"]]
        return sighted(self.trace(variant).request, home, "in").src

    def read(self, variant: Variant, answer: str) -> str:
        """An address."""
        return address_of(answer, variant.words["cluster_ip"])

    def back(self, variant: Variant, answer: str) -> str:
        """The client's, the balancer's, a node's, or one that is none of the way's."""
        words = variant.words
        if answer == words["client"]:
            if words["policy"] == "Local":
                return "Under Local the node keeps the source. Does this balancer, too?"
            return f"Does {words['node']} send the packet on as it came, under Cluster?"
        if answer == words["balancer"]:
            if words["policy"] == "Local":
                return "Whose address does an NLB send from, if it preserves the client's?"
            return f"What has {words['node']} done to the source before it sends the packet on?"
        if answer == words["host"]:
            return "For whom does KUBE-EXT mark packets to be masqueraded? Under Local, too?"
        if answer in (words["other_ip"], words["host_home"]):
            return "Does a node masquerade whose nodePort nobody asked for?"
        return "Is that an address somebody sends from? Which machine changes sources on this way?"

    def why(self, variant: Variant) -> str:
        """Who changed the source last."""
        told = [
            f"{step.place}: {step.decision}" for step in self.trace(variant).steps
            if step.leg == "request" and ("connection's source" in step.decision
                                          or step.stage == "elb rewrite")
        ]  # fmt: skip
        return f"{'; '.join(told)}."


class WhereToFirst(OfTheCall):
    """Which destination has the packet as it comes in on the first node?"""

    name = "capstone/where-to-first"
    beat = "the door"
    question = (
        "Which destination does the request have when `tcpdump -i eth0` on {node} shows it coming"
        " in? Answer as `ADDRESS:PORT`."
    )
    restated = "The balancer replaces the destination by that of a target. What is a target here?"
    first_step = "`kubectl get svc -n shop web` shows three ports. Which one do all nodes have?"

    def truth(self, variant: Variant) -> str:
        """As it was seen there."""
        seen = sighted(self.trace(variant).request, variant.words["node"], "in")
        return f"{seen.dst}:{seen.dport}"

    def read(self, variant: Variant, answer: str) -> str:
        """An address and a port."""
        address, colon, port = plain(answer).removesuffix("/tcp").rpartition(":")
        if not colon or not re.fullmatch(r"[0-9]{1,5}", port):
            raise EkslearnError(
                f"{answer[:40]!r} is no destination; answer as in {variant.words['door']}"
            )
        return f"{address_of(address, variant.words['client'])}:{int(port)}"

    def back(self, variant: Variant, answer: str) -> str:
        """The balancer's, the Service's, the pod's, or half of it."""
        words, address = variant.words, answer.partition(":")[0]
        if address in (words["door"].split(":")[0], words["balancer"]):
            return "That is what the browser asks, or the gateway. Does an NLB leave it so?"
        if address == words["cluster_ip"]:
            return "Who has that address, outside the cluster's own rules?"
        if address in (words["web_1"], words["web_2"]):
            return "Does a balancer with instance targets know of pods?"
        if address == words["host"]:
            return "Which port of a node is a Service's door, whatever the pods listen on?"
        return f"Is that a target of the balancer, in the zone of {words['door']}?"

    def why(self, variant: Variant) -> str:
        """The balancer's choice."""
        step = at(self.trace(variant), "request", BALANCER, "elb target")
        return f"The balancer: {step.decision} ({step.because})."


class WhichChain(OfTheCall):
    """In which chain is the pod's address written?"""

    name = "capstone/which-chain"
    beat = "chains"
    question = (
        "In which chain of {node}'s table nat stands the row that gives this call its new"
        " destination? Answer with the chain's name. (`.lab` is your cluster:"
        " `print(question.lab.run('{node}', 'iptables-save -t nat').stdout)`.)"
    )
    restated = (
        "Follow the jumps from KUBE-NODEPORTS. One kind of chain belongs to a single endpoint."
    )
    first_step = "Print the table and look for {pod_ip} behind `--to-destination`."

    def truth(self, variant: Variant) -> str:
        """The chain of the row that decided."""
        for step in self.trace(variant).steps:
            if step.place == variant.words["node"] and "connection's destination" in step.decision:
                return step.because.split()[1]
        raise EkslearnError("no row gives this call a destination")

    def read(self, variant: Variant, answer: str) -> str:
        """A chain that is there."""
        node, chain = variant.words["node"], plain(answer).upper().removeprefix("-A ")
        there = grep(variant.lab, node, "iptables-save -t nat", f":{chain} ")
        if not there or not chain:
            raise EkslearnError(f"there is no chain {answer[:40]!r} in {node}'s table nat")
        return chain

    def back(self, variant: Variant, answer: str) -> str:
        """A chain on the way, the other pod's, or none of it."""
        words = variant.words
        if answer.startswith("KUBE-SEP"):
            return f"Whose address stands in that chain, and is it {words['pod']}'s?"
        if answer.startswith(("KUBE-SVC", "KUBE-SVL")):
            return "That chain rolls the dice. Does it write an address itself, or jump?"
        if answer.startswith(("KUBE-EXT", "KUBE-NODEPORTS", "KUBE-SERVICES", "PREROUTING")):
            return "The packet comes through it. Is there a row with `-j DNAT` in it?"
        return "What do that chain's rows do: choose a destination, or change a source?"

    def why(self, variant: Variant) -> str:
        """The row."""
        node, chain = variant.words["node"], self.truth(variant)
        listed = variant.lab.run(node, f"iptables -t nat -S {chain}").stdout
        return f"`{listed.splitlines()[-1]}`."


class WhichRule(OfTheCall):
    """Which rule routes the request on the node that was asked?"""

    name = "capstone/which-rule"
    beat = "on to the wire"
    question = (
        "The request has its new destination; now {node} routes it. Which row of `ip rule` leads to"
        " the table that is used? Answer with its number."
    )
    restated = (
        "Routing sees the destination that the chains have written, and a source that isn't"
        " changed yet."
    )
    first_step = "Go down `ip rule show` on {node} with {pod_ip} as the destination."

    def truth(self, variant: Variant) -> str:
        """The rule's number."""
        step = at(self.trace(variant), "request", variant.words["node"], "rule")
        return step.because.partition(":")[0]

    def read(self, variant: Variant, answer: str) -> str:
        """The number of a rule that is there."""
        text = re.sub(r"^(rule|prio\w*|pref\w*) ", "", plain(answer)).rstrip(":")
        there = variant.lab.run(variant.words["node"], "ip rule show").stdout
        if text not in re.findall(r"^(\d+):", there, re.MULTILINE):
            raise EkslearnError(f"{answer[:40]!r} is no rule's number on {variant.words['node']}")
        return text

    def back(self, variant: Variant, answer: str) -> str:
        """Each rule asks something else of the packet."""
        words = variant.words
        asked = {
            "0": "Is the destination still an address of the node itself?",
            "512": f"Rules 512 name pods of {words['node']}. Does {words['pod']} run there?",
            "1024": "The *connection* is marked 0x80. Which mark has the packet, on its way in?",
            "1536": "That rule asks who sends. Who sends the request?",
            "32765": "That rule asks who sends. Who sends the request?",
        }
        return asked.get(answer, "Rules are asked from the top. Is there one above that fits?")

    def why(self, variant: Variant) -> str:
        """The rule and the row."""
        trace, node = self.trace(variant), variant.words["node"]
        rule, route = (at(trace, "request", node, each).because for each in ("rule", "route"))
        return f"`{rule}`, and there `{route}`."


class WhoRewrites(OfTheCall, Letters):
    """Which machines change one end of the request?"""

    name = "capstone/who-rewrites"
    beat = "the door"
    question = (
        "Who on the request's way changes its **{side}**, address or port?\n\n- a: the internet"
        " gateway\n- b: the balancer\n- c: {node}\n- d: {other}\n\n" + LETTERS
    )
    restated = "Compare what goes into each machine with what comes out of it."
    first_step = (
        "Put the settings together first: what does `{keeps}` leave alone, and for whom does"
        " `externalTrafficPolicy: {policy}` masquerade? Then look at the sightings in"
        " `question.lab.copy().trace('browser', '{door}').request`."
    )

    def vary_from(self, dice: Dice, own: Variant) -> Variant:
        """Source or destination."""
        side = dice.one("side", ("source", "source", "destination"))
        return Variant(lab=own.lab, words={**own.words, "side": side})

    def truth(self, variant: Variant) -> str:
        """Each machine's packet going in, and coming out."""
        seen, words = self.trace(variant).request, variant.words
        ends = [(one.src, one.sport) if words["side"] == "source" else (one.dst, one.dport)
                for one in seen]  # fmt: skip
        who = {BALANCER: "b", words["node"]: "c", words["other"]: "d"}
        found = {"a"} if ends[0] != ends[1] else set()
        for before, after, old, new in zip(seen, seen[1:], ends, ends[1:], strict=False):
            if before.place == after.place and old != new:
                found.add(who[before.place])
        return "".join(sorted(found))

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """One of the four, taken for one that changes this end, or for one that doesn't."""
        words = variant.words
        asked = {
            ("a", True): "which end of a packet that comes in is a public address of this VPC?",
            ("a", False): f"has the packet that comes to the balancer still {words['door']} in it?",
            ("b", True): f"what does an NLB with `{words['keeps']}` leave as it is?",
            ("b", False): "from whom does a target get its packet, with `{keeps}`?"
            if words["side"] == "source" else "does the browser know any target's address?",
            ("c", True): f"whom does KUBE-EXT have masqueraded under {words['policy']}?",
            ("c", False): "the mark 0x4000 is set under {policy}. Which row reads it, and when?"
            if words["side"] == "source" else "does the packet leave it for the port it came to?",
            ("d", True): "is a packet to a pod's own address a matter for {other}'s KUBE-SERVICES?",
        }  # fmt: skip
        return f"About {wrong}: {asked[wrong, chosen].format_map(words)}"

    def why(self, variant: Variant) -> str:
        """Every change of that end."""
        said = [f"{step.place}: {step.decision}" for step in self.trace(variant).steps
                if step.leg == "request" and re.search("rewrite|bind|igw|->", step.decision)
                and not step.stage.startswith("conntrack")]  # fmt: skip
        return f"{'; '.join(said)}."


EXERCISES: Sequence[Exercise] = (
    WhoIsSeen(), WhereToFirst(), WhichChain(), WhichRule(), WhoRewrites(),
)  # fmt: skip
