"""Exercises of lesson 14: whose address a pod sees, by which port, and who has to admit whom."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network

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
    plain,
    replaced,
    text_of,
)
from ekslearn.scenario import load
from ekslearn.trace import Sighting, Trace
from ekslearn.vpc.security import SecurityRule

SCENARIO = "ingress"
NLB, ALB = "service.beta.kubernetes.io/aws-load-balancer-", "alb.ingress.kubernetes.io/"
KEPT = "target-group-attributes: preserve_client_ip.enabled"
OPENS = "manage-backend-security-group-rules"
NAMES = {"alb": "an Application Load Balancer", "nlb": "a Network Load Balancer"}
PLACE = "lb/shop/web"
INTRO = (
    "The nodes are in private subnets, the balancer in public ones. **browser** ({browser}) calls"
    " **{name}** with target type **{targets}**, port {door}. Behind it is the Service"
    " **web**, with nodePort {node_port} and `externalTrafficPolicy: {policy}`; its pods listen on"
    " {listens}.{kept} "
)


def manifest(text: str, name: str, value: str) -> str:
    """A scenario's text with another value for one annotation or field, or with one more.

    ``name`` is an annotation's end, such as "nlb-target-type", or "externalTrafficPolicy".
    """
    field = re.compile(rf"^( *(?:\S*[/-])?{re.escape(name)}): .*$", re.MULTILINE)
    if field.search(text):
        return field.sub(lambda found: f"{found[1]}: {value}", text, count=1)
    first = re.compile(rf"^( *){re.escape(NLB)}scheme:", re.MULTILINE)
    return first.sub(lambda found: f"{found[1]}{NLB}{name}: {value}\n{found[0]}", text, count=1)


def cluster(text: str) -> Cluster:
    """The cluster of a text."""
    return cluster_of(load(text))


def draw(dice: Dice, **more: str) -> tuple[str, dict[str, str]]:
    """This learner's scenario, as text: other addresses and ports."""
    net = dice.number("net", 1, 250)
    words = {
        "browser": f"203.0.113.{dice.number('browser', 2, 250)}",
        "door": str(dice.one("door", (443, 8443, 9443, 6443))),
        "node_port": str(dice.number("node port", 30000, 32767)),
        "listens": str(dice.number("listens", 8001, 8999)),
        "vpc": f"10.{net}.0.0/16",
        "policy": dice.one("policy", ("Cluster", "Local")),
    } | more
    text = replaced(text_of(SCENARIO), {"203.0.113.7": words["browser"]})
    text = text.replace("10.0.", f"10.{net}.").replace("31380", words["node_port"])
    text = text.replace("443, targetPort", f"{words['door']}, targetPort")
    text = text.replace("number: 443", f"number: {words['door']}").replace("8080", words["listens"])
    return manifest(text, "externalTrafficPolicy", words["policy"]), words


def mode(dice: Dice, **more: str) -> tuple[str, dict[str, str]]:
    """A scenario with one of the modes, told in words."""
    text, words = draw(dice, **more)
    kind = dice.one("balancer", ("alb", "nlb", "nlb"))
    targets = dice.one("targets", ("instance", "ip"))
    kept = dice.one("kept", ("", "true", "false")) if kind == "nlb" else ""
    name = "alb.ingress.kubernetes.io/target-type" if kind == "alb" else "nlb-target-type"
    text = manifest(text, name, targets)
    if kind == "nlb" and kept:
        text = manifest(text, KEPT.partition(":")[0], f"{KEPT.partition(': ')[2]}={kept}")
    said = f" `preserve_client_ip.enabled` is set to {kept}." if kept else ""
    if kind == "nlb" and not kept:
        said = " Nothing is said of `preserve_client_ip.enabled`."
    words |= {"kind": kind, "name": NAMES[kind], "targets": targets, "kept": said, "preserve": kept}
    words["door"] = words["door"] if kind == "nlb" else "443"
    return text, words


def door(words: Mapping[str, str]) -> str:
    """Whom the browser calls."""
    return "ingress/shop/site" if words["kind"] == "alb" else f"{PLACE}:{words['door']}"


def call(lab: Cluster, words: Mapping[str, str]) -> Trace:
    """One call through the balancer, on a copy."""
    return lab.copy().trace("browser", door(words))


def at_pod(lab: Cluster, trace: Trace) -> Sighting | None:
    """The request as it comes to a pod."""
    came = [one for one in trace.request if one.place in lab.pods and one.direction == "in"]
    return came[-1] if came else None


def places(lab: Cluster) -> dict[str, list[str]]:
    """Who is a node, a pod, a balancer."""
    return {"node": list(lab.machines), "pod": list(lab.pods), "balancer": list(lab.elb.balancers)}


def owner(lab: Cluster, address: str) -> str:
    """Whose address it is: browser, balancer, node or pod."""
    for place in lab.places:
        links = lab.namespace(place).links.values()
        if any(str(one.interface.ip) == address for link in links for one in link.addresses):
            return next((kind for kind, them in places(lab).items() if place in them), place)
    return "nobody"


class WhoseAddress(Look):
    """Whose address does the pod see?"""

    name = "load-balancers-and-ingress/whose-address"
    place = "easy"
    beat = "one connection, its addresses rewritten"
    known = ("browser", "balancer", "node")
    question = (
        INTRO + "Whose address does the pod see as source: the `browser`'s, the `balancer`'s or a"
        " `node`'s?"
    )
    restated = (
        "Two may have put their own address in: the balancer, and the node whose NodePort was"
        " called."
    )
    first_step = "With target type {targets}, is a NodePort called at all?"

    def vary(self, dice: Dice) -> Variant:
        """Another mode."""
        text, words = mode(dice)
        return Variant(lab=cluster(text), words=words)

    def truth(self, variant: Variant) -> str:
        """The owner of the source at the pod."""
        lab = cluster_of(variant.lab)
        seen = at_pod(lab, call(lab, variant.words))
        return owner(lab, seen.src) if seen else "nobody"

    def read(self, variant: Variant, answer: str) -> str:
        """One of three."""
        text = re.sub(r"^(the|a) |'s$", "", plain(answer))
        if text not in self.known:
            raise EkslearnError(f"{answer[:40]!r} is none of {', '.join(self.known)}")
        return text

    def back(self, variant: Variant, answer: str) -> str:
        """Masquerading forgotten, or put where no NodePort is; preservation mistaken."""
        words, right = variant.words, self.truth(variant)
        if right == "node":
            return f"Which chain does a packet to port {words['node_port']} pass, and what does" \
                   " externalTrafficPolicy Cluster add there?"  # fmt: skip
        if answer == "node":
            return "Which node translates this packet's source? Look at the target type and at" \
                   " externalTrafficPolicy."  # fmt: skip
        if words["kind"] == "alb":
            return "How many connections are there, and who opened the one that the pod has?"
        return "What is the default of preserve_client_ip for this target type, and is another" \
               " value set?"  # fmt: skip

    def why(self, variant: Variant) -> str:
        """Who changed the source."""
        lab = cluster_of(variant.lab)
        trace = call(lab, variant.words)
        rows = [step for step in trace.steps if step.leg == "request" and (
            step.stage in ("elb rewrite", "elb connection")
            or step.decision.startswith("bind the connection's source"))]  # fmt: skip
        return "; ".join(f"{one.place}: {one.decision}" for one in rows) + "."


SEEN = {
    ("request", "balancer"): "when it comes in at the balancer",
    ("request", "node"): "when it comes in at the first node's ENI",
    ("request", "pod"): "when it comes in at the pod",
    ("reply", "balancer"): "when it leaves the balancer for the browser",
    ("reply", "node"): "when it leaves the last node on its way to the balancer",
    ("reply", "pod"): "when it leaves the pod",
}


class WhichPort(Look):
    """By which port is somebody addressed on the way, or does he answer?"""

    name = "load-balancers-and-ingress/which-port"
    place = "end"
    beat = "the node's port in between"
    question = INTRO + "Which {field} does the {leg} have {said}? Answer with a number."
    restated = (
        "A balancer listens on one port, a node on another, a pod on a third; an answer bears the"
        " port of whoever was called."
    )
    first_step = "With target type {targets}, whom does the balancer call, and on which port?"

    def vary(self, dice: Dice) -> Variant:
        """Another mode, place and direction."""
        text, words = mode(dice)
        where = dice.one("where", ("node", "pod", "node", "balancer"))
        leg = dice.one("leg", ("request", "reply"))
        words |= {"where": where, "leg": leg, "said": SEEN[leg, where]}
        words["field"] = "destination port" if leg == "request" else "source port"
        return Variant(lab=cluster(text), words=words)

    def truth(self, variant: Variant) -> str:
        """The port in the first, or for the reply the last, sighting there."""
        words, lab = variant.words, cluster_of(variant.lab)
        trace, asks = call(lab, words), words["leg"] == "request"
        where = places(lab)
        seen = [one for one in (trace.request if asks else trace.reply)
                if one.place in where[words["where"]]
                and one.direction == ("in" if asks else "out")]  # fmt: skip
        if not seen:
            return "none"
        return str(seen[0].dport if asks else seen[-1].sport)

    def read(self, variant: Variant, answer: str) -> str:
        """A port."""
        text = plain(answer).removeprefix("port ").removesuffix("/tcp")
        if not re.fullmatch(r"\d{1,5}", text) or not 0 < int(text) < 65536:
            raise EkslearnError(f"{answer[:40]!r} is no port; answer with one, such as 22")
        return str(int(text))

    def back(self, variant: Variant, answer: str) -> str:
        """The Service's own ports and the pod's taken for each other."""
        words = variant.words
        if answer == words["node_port"]:
            return f"Who calls a NodePort with target type {words['targets']}, and when is it" \
                   " translated to the pod's port?"  # fmt: skip
        if answer == words["listens"]:
            return "On which side of the translation is this packet seen?"
        if answer == words["door"]:
            return "Who listens on that port: the balancer, a node or the pod?"
        return "Which three ports are there, and who listens on each?"

    def why(self, variant: Variant) -> str:
        """What the trace shows."""
        words = variant.words
        return f"The {words['leg']} has {words['field']} {self.truth(variant)} there."


class WhoMustAdmit(Letters):
    """With which one rule does a call get through?"""

    name = "load-balancers-and-ingress/who-must-admit"
    place = "end"
    beat = "who must admit whom"
    question = (
        INTRO + "There is one pod, and the controller may not change the nodes' security group,"
        " which admits only its own members so far. Which of these rules, added alone, lets the"
        " call through?\n\n- a: {rule_a}\n- b: {rule_b}\n- c: {rule_c}\n- d: {rule_d}\n\n"
        "Several may. Answer with letters, as in `a c`, or `none`."
    )
    restated = (
        "A group is asked at the target's ENI, with the header that the packet has there; a rule"
        " may name addresses or the group of who sends it."
    )
    first_step = "Write down source and destination as they come to the node's ENI."

    def vary(self, dice: Dice) -> Variant:
        """A mode; the controller changes no group; four rules.

        With policy Local, another port is asked for health, which would have to be let in, too.
        """
        text, words = mode(dice, policy="Cluster")
        prefix = f"{ALB}{OPENS}" if words["kind"] == "alb" else f"{NLB}{OPENS}"
        head = "alb.ingress.kubernetes.io/scheme" if words["kind"] == "alb" else f"{NLB}scheme"
        text = re.sub(rf"^( *){re.escape(head)}:", rf'\1{prefix}: "false"\n\g<0>', text,
                      flags=re.MULTILINE)  # fmt: skip
        text = re.sub(r"---\napiVersion: v1\nkind: Pod\nmetadata: \{name: web-2.*?\n(?=---)", "",
                      text, flags=re.DOTALL)  # fmt: skip
        other = "alb" if words["kind"] == "nlb" else "nlb"
        text = without(text, other)
        rules = [(port, peer) for port in ("node_port", "listens") for peer in ("group", "vpc")]
        for letter, (port, peer) in zip("abcd", dice.order("rules", rules), strict=True):
            words |= {f"port_{letter}": port, f"peer_{letter}": peer,
                      f"rule_{letter}": f"TCP {words[port]} from "
                      + ("the balancer's group" if peer == "group" else words["vpc"])}  # fmt: skip
        return Variant(lab=cluster(text), words=words)

    def outcome(self, variant: Variant, letter: str) -> Trace:
        """What becomes of the call with one rule."""
        words, lab = variant.words, cluster_of(variant.lab.copy())
        port = int(words[words[f"port_{letter}"]])
        rule = SecurityRule(protocol="tcp", from_port=port, group="k8s-traffic")
        if words[f"peer_{letter}"] == "vpc":
            rule = SecurityRule(protocol="tcp", from_port=port, cidr=IPv4Network(words["vpc"]))
        lab.vpc.security_groups["node"].rules["ingress"].append(rule)
        lab.sleep(120)  # checks run again
        return lab.trace("browser", door(words))

    def truth(self, variant: Variant) -> str:
        """Each rule, tried."""
        return "".join(x for x in "abcd" if self.outcome(variant, x).verdict == "delivered")

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """The port of the other target type, or a source that isn't in the VPC."""
        words = variant.words
        said = f"About {wrong}, {words[f'rule_{wrong}']}:"
        if (words[f"port_{wrong}"] == "node_port") != (words["targets"] == "instance"):
            return f"{said} to which port of whom does a balancer with target type" \
                   f" {words['targets']} send?"  # fmt: skip
        if chosen:
            return f"{said} which source does the node's ENI see when the balancer preserves it?"
        return f"{said} is the packet's source, or the balancer that sends it, covered by it?"

    def why(self, variant: Variant) -> str:
        """What the ENI said of each."""
        told = []
        for x in "abcd":
            trace = self.outcome(variant, x)
            rows = [
                s
                for s in trace.steps
                if s.stage == "vpc security group"
                and s.leg == "request"
                and s.decision.startswith("ingress")
                and s.place in variant.lab.places
            ]
            mine = [s for s in rows if not s.place.startswith("lb/")]
            told.append(f"{x}: {mine[0].decision if mine else trace.reason}")
        return f"{'; '.join(told)}."


def without(text: str, kind: str) -> str:
    """A text without its Ingress ("alb"), or with a Service that asks for no balancer ("nlb")."""
    if kind == "alb":
        return text.partition("---\napiVersion: networking.k8s.io/v1\nkind: Ingress")[0]
    text = text.replace("type: LoadBalancer", "type: NodePort")
    return re.sub(r"^ *loadBalancerClass:.*\n", "", text, flags=re.MULTILINE)


class SeeTheBrowser(Exercise):
    """Change a Service so that its pods see the client, in one hop."""

    name = "load-balancers-and-ingress/see-the-browser"
    place = "open"
    beat = "one connection, its addresses rewritten"
    question = (
        "The Service **web** has a Network Load Balancer, with {said} and"
        " `externalTrafficPolicy: {policy}`. Its application has to see the address of **browser**"
        " ({browser}) as the source of each connection, and no request may pass a second node."
        " Which lines of the manifest do you change? Write one `NAME: VALUE` a line:"
        " `externalTrafficPolicy`, or what follows"
        " `service.beta.kubernetes.io/aws-load-balancer-`: `nlb-target-type`,"
        " `target-group-attributes`, `scheme`."
    )
    restated = (
        "Two may put their own address in, the balancer and a node. Both have to be kept from it,"
        " and there is more than one way."
    )
    first_step = (
        "Either no NodePort is used at all, or the node isn't allowed to choose another node's pod."
    )
    settings = ("nlb-target-type", "target-group-attributes", "scheme", "externalTrafficPolicy")

    def vary(self, dice: Dice) -> Variant:
        """A Service whose pods don't see it."""
        text, words = draw(dice, kind="nlb")
        targets, kept, policy = dice.one("fault", (
            ("instance", "", "Cluster"), ("ip", "", "Cluster"), ("ip", "false", "Local"),
            ("instance", "false", "Local"), ("instance", "false", "Cluster")))  # fmt: skip
        text = manifest(text, "externalTrafficPolicy", policy)
        text = manifest(text, "nlb-target-type", targets)
        if kept:
            text = manifest(text, "target-group-attributes", f"preserve_client_ip.enabled={kept}")
        words |= {"policy": policy, "targets": targets, "fault": f"{targets} {kept} {policy}",
                  "said": f"`nlb-target-type: {targets}`"
                  + f" and `target-group-attributes: preserve_client_ip.enabled={kept}`"
                  * bool(kept)}  # fmt: skip
        return Variant(lab=cluster(without(text, "alb")), words=words)

    def judge(self, variant: Variant, answer: str) -> Verdict:
        """Change the manifest, make the cluster anew, and call."""
        text = cluster_of(variant.lab).text
        for line in answer.splitlines():
            if not line.strip("` ") or line.strip().startswith("#"):
                continue
            name, colon, value = (part.strip() for part in line.strip("` ").partition(":"))
            if not colon or name.removeprefix(NLB) not in self.settings or not value:
                raise EkslearnError(f"{line[:60]!r} isn't one of {', '.join(self.settings)} with"
                                    " its value")  # fmt: skip
            text = manifest(text, name.removeprefix(NLB), value)
        lab = cluster(text)
        if PLACE not in lab.elb.balancers:
            said = lab.control.controller.events.get(PLACE, "nobody asks for one")
            return Verdict(right=False, message=f"There is no balancer: {said}. What is the"
                           " controller looking for?")  # fmt: skip
        trace = lab.trace("browser", door(variant.words))
        if trace.verdict != "delivered":
            return Verdict(right=False, message=f"A call is {trace.verdict}: {trace.reason}."
                           " How far does it come?")  # fmt: skip
        if fault := self.fault(lab, trace):
            return Verdict(right=False, message=fault)
        return Verdict(right=True, message="The pod sees the browser: no node has put its own"
                       " address in, as one does that sends a packet on.")  # fmt: skip

    def fault(self, lab: Cluster, trace: Trace) -> str:
        """What is still wrong, as a question."""
        seen = at_pod(lab, trace)
        whose = owner(lab, seen.src) if seen else "nobody"
        if whose == "node":
            return "The pod sees a node. Which chain marks the packet for masquerading, and when?"
        if whose == "balancer":
            return "The pod sees the balancer. Which attribute of the target group decides that?"
        return ""


EXERCISES: Sequence[Exercise] = (WhoseAddress(), WhichPort(), WhoMustAdmit(), SeeTheBrowser())
