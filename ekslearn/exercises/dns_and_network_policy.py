"""Exercises of lesson 16: what a name costs, and which calls a policy lets through."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from textwrap import dedent, indent
from typing import ClassVar

from ekslearn.cluster import Cluster
from ekslearn.dns import CoreDns, Query, ResolvConf, queries, resolv_conf, service_names
from ekslearn.document import Composer
from ekslearn.exercises.format import (
    FLOWS,
    Dice,
    Exercise,
    Flows,
    Look,
    Variant,
    Verdict,
    as_words,
    cluster_of,
    renamed,
    whole,
)
from ekslearn.policy import read_network_policy
from ekslearn.trace import Trace
from ekslearn.vpc.resolver import Resolver

SCENARIO = "dns-and-policy"
KUBE_DNS = "service/kube-system/kube-dns:53/udp"
OUTSIDE = ("api.github.com", "example.com", "sts.eu-west-1.amazonaws.com", "a.b.c.d.example.org")
SHOP = ("shop", "store", "market", "kiosk")
SPACE = ("bank", "ledger", "vault", "mint")
INTRO = (
    "- In namespace **{shop}** run **client** (label `app: client`) and **web** (label `app: web`,"
    " listens on {listens}), both on node-b. The Service **web** has port 80 and targetPort"
    " {listens}.\n"
    "- In **{bank}** runs **audit** (label `app: client`); that namespace has the label"
    " `team: money`.\n"
    "- In kube-system, CoreDNS (label `k8s-app: kube-dns`, port 53) stands behind the Service"
    " **kube-dns**.\n\n"
)


def policy(name: str, namespace: str, spec: str) -> str:
    """The text of a NetworkPolicy, a YAML document to be put behind a scenario's.

    ``spec`` is YAML as well, a block or in flow style.
    """
    head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy"
    metadata = f"metadata: {{name: {name}, namespace: {namespace}}}"
    first, _, rest = spec.strip().partition("\n")
    body = indent(f"{first}\n{dedent(rest)}", "  ")
    return f"\n---\n{head}\n{metadata}\nspec:\n{body}\n"


def allow_out(peers: str, port: int = 8080) -> str:
    """The spec of a policy that lets client call ``peers`` by one port, and send nothing else."""
    rule = f"  - to: [{peers}]\n    ports: [{{port: {port}}}]"
    return f"{SELECTS}\npolicyTypes: [Egress]\negress:\n{rule}"


def wires(trace: Trace) -> str:
    """A line for each time the request was seen: where, which way, and its two ends."""
    return "\n".join(
        f"{one.place:22} {one.direction:3} {one.interface:15} {one.src} -> {one.dst}:{one.dport}"
        for one in trace.request
    )


def decided(trace: Trace, way: str) -> str:
    """The row by which a policy, or the lack of one, decided about "ingress" or "egress"."""
    return next(step.because for step in trace.steps if step.decision.startswith(f"{way} of"))


def burst(conf: ResolvConf, enis: Sequence[str], names: int = 300) -> str:
    """What becomes of a second in which so many outside names are looked up: a line for each ENI.

    They are shared out evenly among CoreDNS pods, each of which asks by one of ``enis``.
    """
    resolver = Resolver()
    pods = [CoreDns(eni, resolver) for eni in enis]
    for number in range(names):
        name = f"shop-{number}.example.com"
        for query in queries(name, conf, name.__eq__):
            pods[number % len(pods)].ask(query, clock=0.0)
    return "\n".join(
        f"  by {eni}: sent {resolver.sent[eni, 0]}, dropped {resolver.exceeded[eni]}"
        for eni in dict.fromkeys(enis)
    )


def draw(dice: Dice) -> tuple[Cluster, dict[str, str]]:
    """This learner's shop: other addresses and namespaces, the same pods."""
    words = {"shop": dice.one("shop", SHOP), "bank": dice.one("bank", SPACE)}
    second = dice.number("net", 1, 250)
    words["listens"] = str(dice.number("listens", 8001, 8999))
    lab = cluster_of(renamed(SCENARIO, {
        "10.0.0.0": f"10.{second}.0.0", "10.0.32.0": f"10.{second}.32.0", "shop": words["shop"],
        "bank": words["bank"], "8080": words["listens"],
    }))  # fmt: skip
    return lab, words | {"vpc": str(lab.vpc.cidrs[0]), "services": str(lab.services.cidr)}


def guard(lab: Cluster, words: Mapping[str, str], spec: str, name: str = "one") -> None:
    """Apply a policy of the shop and wait until it is loaded; EkslearnError if it can't be one."""
    text = policy(name, words["shop"], spec).removeprefix("\n---\n")
    for document in Composer(text, "your policy").documents():
        lab.network_policy.apply(read_network_policy(document))
    lab.sleep(lab.network_policy.delay_s)


def ends(words: Mapping[str, str], source: str, target: str) -> tuple[str, str]:
    """A call as ``Lab.trace`` takes it, by what its two ends are called in a question."""
    places = {"client": f"{words['shop']}/client", "audit": f"{words['bank']}/audit",
              "node-a": "node-a", "node-b": "node-b"}  # fmt: skip
    targets = {"web": f"{words['shop']}/web:{words['listens']}/tcp", "DNS": KUBE_DNS,
               "the Service web": f"service/{words['shop']}/web:80/tcp"}  # fmt: skip
    return places[source], targets[target]


class HowManyQuestions(Look):
    """How often is CoreDNS asked until a name is found?"""

    name = "dns-and-network-policy/how-many-questions"
    place = "easy"
    beat = "one name, many questions"
    question = (
        INTRO + "In a container of client, whose /etc/resolv.conf says `ndots:{ndots}` and"
        " names four endings to search, a program looks up **{name}**. How many questions does"
        " it ask, A and AAAA counted apart, until the name is found? Answer with a number."
    )
    restated = (
        "A name with fewer dots than ndots gets each ending before it is tried as it stands;"
        " the first one found ends the search."
    )
    first_step = "Write the names down in order for {name} and ndots {ndots}; which of them exist?"

    def vary(self, dice: Dice) -> Variant:
        """A name of the cluster's or an outside one, with or without a last dot."""
        lab, words = draw(dice)
        inside = ("web", f"web.{words['shop']}", "kube-dns.kube-system", "kube-dns.kube-system.svc",
                  f"web.{words['shop']}.svc.cluster.local")  # fmt: skip
        name = dice.one("name", (*inside, *OUTSIDE, *OUTSIDE[:3], "api.github.com."))
        return Variant(lab=lab, words=words | {"name": name, "ndots": dice.one("ndots", "5525")})

    def asked(self, variant: Variant) -> list[Query]:
        """The questions, in order."""
        lab, words = cluster_of(variant.lab), variant.words
        known = service_names(lab.services) | set(OUTSIDE)
        conf = resolv_conf(words["shop"], IPv4Address("172.20.0.10"), "eu-west-1")
        return queries(words["name"], replace(conf, ndots=int(words["ndots"])), known.__contains__)

    def truth(self, variant: Variant) -> str:
        """How many there are."""
        return str(len(self.asked(variant)))

    def read(self, variant: Variant, answer: str) -> str:
        """A number."""
        return whole(answer, "questions")

    def back(self, variant: Variant, answer: str) -> str:
        """One kind alone, the last dot overlooked, all endings tried, or none."""
        words, right = variant.words, int(self.truth(variant))
        if int(answer) * 2 == right:
            return "Which two kinds of record does a program ask for?"
        if words["name"].endswith("."):
            return "What does a dot at the end say about a name?"
        if int(answer) > right:
            return f"At which of the names is one found first? Count {words['name']}'s dots, too."
        return f"{words['name']} has {words['name'].count('.')} dots: what is tried before it?"

    def why(self, variant: Variant) -> str:
        """The names in order."""
        names = dict.fromkeys(query.name for query in self.asked(variant))
        return f"Asked for were, A and AAAA each: {', '.join(names)}."


WEB = "podSelector: {matchLabels: {app: web}}"
SELECTS = "podSelector: {matchLabels: {app: client}}"
MONEY = "namespaceSelector: {matchLabels: {team: money}}"
INGRESS = {
    "from client pods": f"from: [{{{SELECTS}}}]",
    "from the namespaces of team money": f"from: [{{{MONEY}}}]",
    "from client pods of the namespaces of team money": f"from: [{{{MONEY}, {SELECTS}}}]",
    "from client pods, or from the namespaces of team money":
        f"from: [{{{SELECTS}}}, {{{MONEY}}}]",
    "from nobody": "",
}  # fmt: skip


class Calls(Flows):
    """Which of four calls are answered under a policy?"""

    asked: ClassVar[str]  # which program of a pod decides: "ingress of" or "egress of"
    question = (
        INTRO + "{shop} has one NetworkPolicy, and it is loaded:\n\n```yaml\n{spec}\n```\n\n"
        "Which of these calls are answered?\n\n" + FLOWS
    )

    def flow(self, words: Mapping[str, str], letter: str) -> tuple[str, str]:
        """One call."""
        return ends(words, words[f"from_{letter}"], words[f"to_{letter}"])

    def why(self, variant: Variant) -> str:
        """The row that decided about each."""
        told = []
        for x, trace in self.outcomes(variant):
            steps = [step for step in trace.steps if step.decision.startswith(self.asked)]
            told.append(f"{x}: {steps[0].because if steps else 'not asked'}")
        return f"{'; '.join(told)}."


class WhoGetsThrough(Calls):
    """Which calls does an ingress policy let through?"""

    name = "dns-and-network-policy/who-gets-through"
    place = "end"
    beat = "a policy at the pod's cable"
    asked = "ingress of"
    restated = (
        "The policy lets in what comes {peers}; everybody else is shut out, but for one who always"
        " may."
    )
    first_step = (
        "Write beside each caller its namespace, its labels, and whether it is web's own node."
    )

    def vary(self, dice: Dice) -> Variant:
        """Another rule, with the pod's port, the Service's, or none."""
        lab, words = draw(dice)
        peers = dice.one("peers", tuple(INGRESS))
        port = dice.one("port", (words["listens"], words["listens"], "80", ""))
        ports = f"ports: [{{port: {port}}}]" if port else ""
        rule = "\n    ".join(filter(None, (INGRESS[peers], ports)))
        spec = f"{WEB}\npolicyTypes: [Ingress]\ningress:\n  - {rule}"
        if not INGRESS[peers]:
            spec = "podSelector: {}\npolicyTypes: [Ingress]"
        calls = [("client", "web"), ("client", "the Service web"), ("audit", "web"),
                 ("audit", "the Service web"), ("node-a", "web"), ("node-b", "web")]  # fmt: skip
        words |= as_words(dice.lettered("calls", calls))
        words |= {"spec": spec, "peers": peers, "port": port}
        guard(lab, words, words["spec"])
        return Variant(lab=lab, words=words)

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """The node forgotten, the port mistaken, or AND taken for OR."""
        words = variant.words
        source, to = words[f"from_{wrong}"], words[f"to_{wrong}"]
        said = f"About {wrong}, from {source} to {to}:"
        if source not in ("node-a", "node-b") and not INGRESS[words["peers"]]:
            return f"{said} has this policy any rule that lets a pod in?"
        if source == "node-b":
            return f"{said} on which node does web run, and who asks there whether it is alive?"
        if source == "node-a":
            return f"{said} is a node a pod, and is it web's own node?"
        if words["port"] == "80" or (to != "web" and not chosen):
            return f"{said} which port does the packet have when it reaches web's cable?"
        if chosen:
            return f"{said} does one single entry of `from` hold for all that {source} bears?"
        return f"{said} which namespace does a podSelector alone mean, and which entries are there?"


EGRESS = {
    "to web pods": f"to: [{{{WEB}}}]",
    "to the VPC's and the Services' addresses":
        "to: [{ipBlock: {cidr: VPC}}, {ipBlock: {cidr: SERVICES}}]",
    "to the VPC's addresses": "to: [{ipBlock: {cidr: VPC}}]",
    "to everybody": "",
}  # fmt: skip
CALLS = (("client", "web"), ("client", "the Service web"), ("client", "DNS"), ("audit", "web"))


class ServiceOrPod(Calls):
    """Which calls does an egress policy let out, judged before kube-proxy's DNAT?"""

    name = "dns-and-network-policy/service-or-pod"
    place = "end"
    beat = "judged before kube-proxy"
    asked = "egress of"
    restated = (
        "client may send {peers}, by port {port}. A call of the Service is judged by the Service's"
        " own address and port."
    )
    first_step = "Write beside each call the destination and port that leave the caller's cable."

    def vary(self, dice: Dice) -> Variant:
        """Another peer and port, and the four calls in another order."""
        lab, words = draw(dice)
        peers = dice.one("peers", tuple(EGRESS))
        port = dice.one("port", (words["listens"], words["listens"], "80", "http", "53"))
        kind = ", protocol: UDP" if port == "53" else ""
        to = EGRESS[peers].replace("VPC", words["vpc"]).replace("SERVICES", words["services"])
        rule = "\n    ".join(filter(None, (to, f"ports: [{{port: {port}{kind}}}]")))
        spec = f"{SELECTS}\npolicyTypes: [Egress]\negress:\n  - {rule}"
        words |= as_words(dice.lettered("calls", CALLS))
        words |= {"spec": spec, "peers": peers, "port": port}
        guard(lab, words, spec)
        return Variant(lab=lab, words=words)

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """The namespace, the translation, or names forgotten."""
        words = variant.words
        source, to = words[f"from_{wrong}"], words[f"to_{wrong}"]
        said = f"About {wrong}, from {source} to {to}:"
        if source == "audit":
            return f"{said} in which namespace is the policy, and whom does it select?"
        if to == "DNS":
            return f"{said} of which protocol is a question for CoreDNS, and is it let out?"
        if to == "web":
            return f"{said} which port does the packet have when it leaves client's cable?"
        said += " which address and port does it have *before* kube-proxy translates it, and"
        return f"{said} who could have put these into the agent's map?"


class WriteThePolicy(Exercise):
    """Write the spec of a policy that lets exactly some calls out."""

    name = "dns-and-network-policy/write-the-policy"
    place = "open"
    beat = "break it on purpose, and mend it"
    wanted = ("DNS", "the Service web")
    question = (
        INTRO + "A policy *shut* isolates every pod of {shop} for egress and allows nothing."
        " Write the `spec` of a second one, in YAML, such as `{{podSelector: {{}}, policyTypes:"
        " [Egress], egress: []}}`: client is to look up names by **kube-dns** (UDP 53) and to"
        " call the **Service web**, and to reach nothing else: not audit, not node-a's"
        " kubelet on 10250, not CoreDNS on another port; and web stays shut in. The VPC is"
        " {vpc}, Services are in {services}."
    )
    restated = (
        "Policies add up: yours needs two egress rules, one for each call. A peer is best"
        " chosen by labels, and a port is the pod's own."
    )
    first_step = (
        "Begin with podSelector for client. A pod of another namespace needs a"
        " namespaceSelector; each namespace bears the label `kubernetes.io/metadata.name`."
    )

    def vary(self, dice: Dice) -> Variant:
        """A shop that nothing may leave."""
        lab, words = draw(dice)
        guard(lab, words, "{podSelector: {}, policyTypes: [Egress]}", "shut")
        return Variant(lab=lab, words=words)

    def judge(self, variant: Variant, answer: str) -> Verdict:
        """Apply the policy beside the other, then make every call."""
        lab, words = cluster_of(variant.lab), variant.words
        spec = re.sub(r"\A(?:ya?ml\n)?(?:spec:)?", "", answer.strip("` \n"))
        guard(lab, words, spec, "yours")
        for target in self.wanted:
            if lab.copy().trace(*ends(words, "client", target)).verdict != "delivered":
                return Verdict(right=False, message=self.shut_out(target))
        shop, audit, dns = words["shop"], f"{words['bank']}/audit", "kube-system/coredns-a"
        leaks = {
            (f"{shop}/client", audit): "Whom does your rule for web mean?",
            (f"{shop}/client", f"{audit}:{words['listens']}/tcp"): "Whom does your rule for web"
            " mean?",
            (f"{shop}/client", f"{audit}:80/tcp"): "Whom does your rule for web mean?",
            (f"{shop}/client", f"{audit}:53/udp"): "Whom does your rule for DNS mean?",
            (f"{shop}/client", f"{dns}:9153/tcp"): "By which ports does your rule for DNS open?",
            (f"{shop}/client", f"{lab.address('node-a')}:10250/tcp"): "Is that address a pod's?",
            (f"{shop}/client", f"{shop}/web:9000/tcp"): "By which ports does your rule open web?",
            (f"{shop}/web", KUBE_DNS): "Whom does your podSelector"
            " choose?",
        }  # fmt: skip
        for (source, target), question in leaks.items():
            if any("egress of" in step.decision and "not admitted" not in step.decision
                   for step in lab.copy().trace(source, target).steps):  # fmt: skip
                message = f"From {source} to {target} a packet is let out. {question}"
                return Verdict(right=False, message=message)
        return Verdict(right=True, message=f"Both calls are answered, and {len(leaks)} others stay"
                       " shut in.")  # fmt: skip

    def shut_out(self, target: str) -> str:
        """The question asked where a wanted call fails."""
        if target == "DNS":
            return "client can't look up a name. In which namespace is kube-dns, and by which" \
                   " protocol is it asked?"  # fmt: skip
        return "client can't call the Service web. By which address and port is that call judged," \
               " and from which rule does the controller work these out?"  # fmt: skip


EXERCISES: Sequence[Exercise] = (
    HowManyQuestions(), WhoGetsThrough(), ServiceOrPod(), WriteThePolicy(),
)  # fmt: skip
