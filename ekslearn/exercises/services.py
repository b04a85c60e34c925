"""Exercises of lesson 12: an address that nobody has, the dice behind it, and whoever says no."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from ekslearn.cluster import Cluster, Lab
from ekslearn.errors import EkslearnError
from ekslearn.exercises.format import (
    LETTERS,
    PODS,
    Dice,
    Exercise,
    Letters,
    Look,
    Mend,
    Variant,
    Verdict,
    as_words,
    cluster_of,
    plain,
    renamed,
)
from ekslearn.kubernetes import Service, ServicePort
from ekslearn.kubernetes.proxy import chain
from ekslearn.linux.netfilter import FULL_CHANCE, Chance, Jump
from ekslearn.trace import Trace

NODE, CLIENT = "node-a", "default/client"
TRIES = 16  # so many connections miss one of two endpoints once in 65,536
INTRO = (
    "The Service **{service}** has the ClusterIP {vip}, port 80, and node port {door}. Its"
    " endpoints are **{near}** ({address_near}:8080), on node-a ({host}), and **{far}**"
    " ({address_far}:8080), on node-b. **{client}** ({address_client}) runs on node-a. laptop"
    " ({address_laptop}) is in the VPC, and no node. "
)


def draw(dice: Dice) -> tuple[Cluster, dict[str, str]]:
    """This learner's Service: other names and addresses, the same wiring."""
    app = dice.one("app", [one for one in PODS if one != "shop"])
    net, door = f"10.{dice.number('net', 1, 250)}", dice.number("door", 30100, 32700)
    vip = f"172.20.{dice.number('third', 2, 250)}.{dice.number('fourth', 2, 250)}"
    last = {
        "10.0.1.12": dice.number("client", 11, 30),
        "10.0.1.45": dice.number("near", 41, 90),
        "10.0.2.77": dice.number("far", 71, 120),
        "10.0.9.9": dice.number("laptop", 4, 90),
    }
    names = {
        one: one.replace("10.0.", f"{net}.", 1)
        for one in ("10.0.0.0", "10.0.1.0", "10.0.2.0", "10.0.9.0", "10.0.1.10", "10.0.1.13",
                    "10.0.1.40", "10.0.1.46", "10.0.2.10", "10.0.2.12", "10.0.2.13", "10.0.2.70")
    } | {one: f"{net}.{one.split('.')[2]}.{end}" for one, end in last.items()}  # fmt: skip
    names["10.0.1.13"], names["10.0.1.46"] = f"{net}.1.31", f"{net}.1.91"
    names |= {"172.20.45.6": vip, "31380": str(door), "web": app}
    names |= {f"web-{number}": f"{app}-{number}" for number in (1, 2)}
    lab = cluster_of(renamed("services", names))
    near, far, name = f"shop/{app}-1", f"shop/{app}-2", f"shop/{app}:http"
    words = {"near": near, "far": far, "client": CLIENT, "laptop": "laptop"}
    words |= {f"address_{who}": lab.address(place) for who, place in words.items()}
    for who in ("near", "far"):
        words[f"sep_{who}"] = chain("SEP", name, "tcp", f"{words[f'address_{who}']}:8080")
    return lab, words | {
        "service": f"shop/{app}", "target": f"service/shop/{app}:80", "vip": vip,
        "door": str(door), "host": lab.address(NODE),
        "svc": chain("SVC", name, "tcp"),
    }  # fmt: skip


def cascade(lab: Cluster, node: str = NODE) -> list[tuple[str, float, str]]:
    """A Service's dice in order: the endpoint's pod, its row's probability, and the row's end.

    The end begins behind the words that all such rows share.
    """
    pods, found = {lab.address(place): place for place in lab.pods}, []
    listing = lab.run(node, "iptables -t nat -S").stdout
    ends = dict(re.findall(r"^-A (KUBE-SEP-\S+) .*--to-destination ([\d.]+)", listing, re.M))
    for row in re.findall(r"^-A KUBE-SVC-.*? (--probability \S+ -j \S+|-j \S+)$", listing, re.M):
        *chance, _, chain_of_end = row.removeprefix("--probability ").split()
        found.append((pods[ends[chain_of_end]], float(chance[0]) if chance else 1.0, row))
    return found


def measured(lab: Lab, source: str, url: str, calls: int) -> dict[str, list[tuple[int, float]]]:
    """Who answers so many curls, one after another: each pod's share in percent so far.

    Noted ten times, at equal distances.
    """
    seen, points = Counter[str](), dict[str, list[tuple[int, float]]]()
    for call in range(1, calls + 1):
        seen[lab.run(source, f"curl {url}").stdout.split(" ")[0]] += 1
        for pod in sorted(seen) if call % (calls // 10) == 0 else ():
            points.setdefault(pod, []).append((call, round(100 * seen[pod] / call, 1)))
    return points


def called(lab: Lab, source: str, target: str, server: str) -> Trace:
    """The first connection, of many tries, that the place ``server`` answers; else the last one."""
    copy = lab.copy()
    for _ in range(TRIES):
        trace = copy.trace(source, target)
        if trace.answer.startswith(f"{server} "):
            break
    return trace


class OnWhichWire(Look):
    """Which address does a packet of the connection carry, seen at one interface?"""

    name = "services/on-the-wire"
    place = "easy"
    beat = "row by row"
    question = (
        INTRO
        + "**{source}** runs `curl http://{vip}`, and the dice choose **{server}**. You capture"
        " the {packet} where it {goes} by **{card}** of **{at}**. Which **{asked}** address has"
        " it there?"
    )
    restated = (
        "The caller's own node translates, there and back. Every wire on the caller's side of"
        " it shows the ClusterIP; every other one the endpoint."
    )
    first_step = (
        "Trace it in `.lab` a few times and look at `.request` and `.reply`, place by place."
    )
    # Who calls whom; then leg, place, interface, direction and field of what is asked.
    cases: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("client", "far", "request", NODE, "eth0", "out", "dst"),
        ("client", "far", "request", "far", "eth0", "in", "dst"),
        ("client", "far", "reply", NODE, "eth0", "in", "src"),
        ("client", "far", "reply", "far", "eth0", "out", "src"),
        ("client", "near", "request", "near", "eth0", "in", "dst"),
        ("client", "near", "reply", "client", "eth0", "in", "src"),
        ("client", "far", "request", "client", "eth0", "out", "dst"),
        ("near", "far", "request", "far", "eth0", "in", "src"),
        ("near", "near", "request", "near", "eth0", "in", "src"),
        ("near", "near", "reply", "near", "eth0", "out", "dst"),
    )

    def vary(self, dice: Dice) -> Variant:
        """Another packet at another interface."""
        lab, words = draw(dice)
        source, server, leg, at, card, way, field = dice.one("case", self.cases)
        words |= {"source": words[source], "server": words[server], "leg": leg, "card": card,
                  "at": words.get(at, at), "way": way, "field": field}  # fmt: skip
        words["packet"] = "first packet" if leg == "request" else "answer"
        words["goes"] = "comes in" if way == "in" else "leaves"
        words["asked"] = "source" if field == "src" else "destination"
        return Variant(lab=lab, words=words)

    def seen(self, variant: Variant) -> Trace:
        """The connection that is asked about."""
        words = variant.words
        return called(variant.lab, words["source"], words["target"], words["server"])

    def truth(self, variant: Variant) -> str:
        """What a capture there shows."""
        words, trace = variant.words, self.seen(variant)
        found = [s for s in (trace.request if words["leg"] == "request" else trace.reply)
                 if (s.place, s.interface, s.direction)
                 == (words["at"], words["card"], words["way"])]  # fmt: skip
        return str(getattr(found[0], words["field"])) if found else "none"

    def read(self, variant: Variant, answer: str) -> str:
        """An address of the question."""
        text = plain(answer).removeprefix("http://").split(":")[0].split("/")[0]
        if "." not in text or text not in variant.words.values():
            raise EkslearnError(f"{answer[:40]!r} is no address that the question names")
        return text

    def back(self, variant: Variant, answer: str) -> str:
        """Translated too late or too early, or the caller that is its own server."""
        words, right = variant.words, self.truth(variant)
        own = words["source"] == words["server"]
        if own and (words["asked"] == "source" or right == words["host"]):
            return (
                "A pod that got a packet from its own address would throw it away. Which row of"
                f" {words['sep_near']} sees to that, and whose address comes in instead?"
            )
        if answer == words["vip"]:
            return (
                "Which node translates: the caller's or the endpoint's? Is this interface before"
                " that place on the packet's way, or behind it?"
            )
        if right == words["vip"]:
            return (
                "Whom does the caller believe it talks to? Has anybody on the node been asked yet,"
                " or is the answer already back at its caller?"
            )
        return f"Is it the {words['asked']} that you name, or the other of the packet's addresses?"

    def why(self, variant: Variant) -> str:
        """Where the packet was rewritten."""
        changes = [f"{s.place}: {s.decision}" for s in self.seen(variant).steps
                   if s.stage.startswith("conntrack")]  # fmt: skip
        return f"The connection is translated here: {'; '.join(changes)}."


class WhichShare(Look):
    """A row of the cascade has been edited: how much does an endpoint get now?"""

    name = "services/which-share"
    place = "end"
    beat = "a cascade of dice"
    question = (
        "The Service **{service}** has {count} endpoints. Somebody has edited row {edited} of"
        " its chain on node-a, which now reads:\n\n{rows}\n\nWhich share of new connections"
        " from node-a does **{endpoint}** get, in percent, to the nearest whole number?"
    )
    restated = "A row takes its probability of what reaches it, and passes the rest on to the next."
    first_step = (
        "Begin with 100 connections at the first row. How many does it take, how many go on?"
    )
    chances: ClassVar[tuple[str, ...]] = ("0.1", "0.2", "0.4", "0.6", "0.7", "0.8", "0.9")

    def vary(self, dice: Dice) -> Variant:
        """Three to five endpoints, one probability, and another endpoint asked about."""
        lab, words = draw(dice)
        count = dice.number("count", 3, 5)
        for number in range(3, count + 1):
            twin = lab.pods[words["far" if number % 2 else "near"]]
            lab.add_pod(replace(twin, name=f"{twin.name[:-1]}{number}", ip=None))
        lab.sleep(1)
        edited = dice.number("edited", 1, count - 1)
        asked = dice.number("asked", max(2, edited), count)
        chance = dice.one("chance", self.chances)
        row = self.rows(lab, words["svc"])[edited - 1]
        row = re.sub(r"--probability \S+", f"--probability {chance}", row)
        lab.run(
            NODE, row.replace(f"-A {words['svc']}", f"iptables -t nat -R {words['svc']} {edited}")
        )
        rows = self.rows(lab, words["svc"])
        words |= {
            "edited": str(edited), "asked": str(asked), "count": str(count),
            "rows": "\n".join(self.short(one) for one in rows),
            "endpoint": self.end(rows[asked - 1]),
        }  # fmt: skip
        return Variant(lab=lab, words=words)

    def rows(self, lab: Lab, svc: str) -> list[str]:
        """The rows of the Service's chain as iptables lists them."""
        listing = lab.run(NODE, f"iptables -t nat -S {svc}").stdout.splitlines()
        return [row for row in listing if row.startswith("-A")]

    def end(self, row: str) -> str:
        """The endpoint of a row: the comment has it."""
        return row.split(" -> ")[1].split('"')[0]

    def short(self, row: str) -> str:
        """What a row says of its chance and its endpoint."""
        chance = re.search(r"--probability \S+", row)
        return f"    {chance[0] if chance else '(no probability)'} -> {self.end(row)}"

    def shares(self, variant: Variant) -> list[float]:
        """What each row of the chain gets, out of what the kernel's 31 bits say."""
        found, left = list[float](), 1.0
        for rule in variant.lab.namespace(NODE).netfilter.tables["nat"][variant.words["svc"]].rules:
            if not isinstance(rule.target, Jump):
                continue
            chance = 1.0
            for match in rule.matches:
                chance *= match.threshold / FULL_CHANCE if isinstance(match, Chance) else 1
            found.append(100 * left * chance)
            left *= 1 - chance
        return found

    def truth(self, variant: Variant) -> str:
        """The row's share, in whole percent."""
        shares, asked = self.shares(variant), int(variant.words["asked"])
        return str(round(shares[asked - 1])) if asked <= len(shares) else "0"

    def read(self, variant: Variant, answer: str) -> str:
        """A number; half a percent off is rounding."""
        text = plain(answer).removesuffix("percent").rstrip("% ").replace(",", ".")
        if not re.fullmatch(r"\d{1,3}(\.\d+)?", text) or float(text) > 100:
            raise EkslearnError(f"{answer[:40]!r} is no share in percent; answer with a number")
        shares, asked = self.shares(variant), int(variant.words["asked"])
        exact = shares[asked - 1] if asked <= len(shares) else 0.0
        return self.truth(variant) if abs(float(text) - exact) <= 0.6 else f"{float(text):g}"

    def back(self, variant: Variant, answer: str) -> str:
        """A row's own number, equal parts, or what is left over."""
        asked, count = int(variant.words["asked"]), int(variant.words["count"])
        found = re.search(r"--probability (\S+)", variant.words["rows"].splitlines()[asked - 1])
        own = 100 * float(found[1]) if found else 100.0
        if abs(float(answer) - own) <= 1:
            return (
                f"That is what row {asked} takes of the connections that reach it. How many get as"
                " far as that row?"
            )
        if abs(float(answer) - 100 / count) <= 1:
            return "Equal parts, if kube-proxy's numbers still stood there. What did the edit do?"
        return "What part of all connections is left after each row above, from the top?"

    def why(self, variant: Variant) -> str:
        """All shares."""
        told = ", ".join(f"{share:.1f} %" for share in self.shares(variant))
        return f"From the top the rows get {told}."


class WhoSaysNo(Letters):
    """Which calls are refused at once, and which get nothing at all?"""

    name = "services/who-says-no"
    place = "end"
    beat = "endpoints come and go"
    question = (
        INTRO + "**shop/idle** has the ClusterIP {idle}, port 80, and its selector matches no"
        " pod. No Service has {unused}. Four calls by curl:\n\n"
        "- a: {from_a} calls {to_a}\n- b: {from_b} calls {to_b}\n- c: {from_c} calls {to_c}\n"
        "- d: {from_d} calls {to_d}\n\nWhich of them are **refused at once**? (The others are"
        " answered, or wait in vain.) " + LETTERS
    )
    restated = (
        "Somebody has to say no: a REJECT row on the caller's node, or the kernel of a machine"
        " that really has the address. Else there is silence."
    )
    first_step = "Run the curl of {from_a} in `.lab`, with `-m 5`, and read its complaint."
    calls: ClassVar[tuple[tuple[str, str], ...]] = (
        ("client", "{vip}:80"),
        ("client", "{vip}:81"),
        ("client", "{idle}:80"),
        (NODE, "{idle}:80"),
        ("laptop", "{idle}:80"),
        ("laptop", "{vip}:80"),
        ("client", "{unused}:80"),
        ("client", "{address_far}:8080"),
        ("client", "{address_far}:80"),
        ("laptop", "{host}:{door}"),
        ("laptop", "{host}:80"),
    )

    def vary(self, dice: Dice) -> Variant:
        """A second Service that selects nothing, and four calls."""
        lab, words = draw(dice)
        port = ServicePort(name="http", port=80, target=8080)
        idle = lab.services.add(Service(name="idle", namespace="shop", selector={"app": "idle"},
                                        ports=(port,)))  # fmt: skip
        lab.sleep(1)
        assert idle.cluster_ip is not None
        words |= {"idle": str(idle.cluster_ip), "unused": str(idle.cluster_ip + 1)}
        calls = [(words.get(source, source), target.format_map(words))
                 for source, target in self.calls]  # fmt: skip
        words |= as_words(dice.lettered("calls", calls))
        return Variant(lab=lab, words=words)

    def verdict(self, variant: Variant, letter: str) -> str:
        """What one call comes to, on a copy."""
        source, target = variant.words[f"from_{letter}"], variant.words[f"to_{letter}"]
        return variant.lab.copy().trace(source, f"{target}/tcp").verdict

    def truth(self, variant: Variant) -> str:
        """Every call, made."""
        refused = ("refused", "rejected")
        return "".join(x for x in "abcd" if self.verdict(variant, x) in refused)

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """Silence taken for a no, or a no for silence."""
        words = variant.words
        target = words[f"to_{wrong}"]
        said = f"About {wrong}, {target} called by {words[f'from_{wrong}']}:"
        if not chosen and target.startswith(words["idle"]):
            return f"{said} what does kube-proxy write into table filter for such a Service?"
        if not chosen:
            return f"{said} that machine is there. What does a kernel say for a port nobody holds?"
        if words[f"from_{wrong}"] == "laptop" and not target.startswith(words["host"]):
            return f"{said} whose rules know a ClusterIP? Does this packet ever meet them?"
        if target.startswith((f"{words['vip']}:81", words["unused"])):
            return f"{said} which row of KUBE-SERVICES, in nat or in filter, names this?"
        return f"{said} follow it to its end. Who listens there?"

    def why(self, variant: Variant) -> str:
        """What each came to."""
        told = ", ".join(f"{x}: {self.verdict(variant, x)}" for x in "abcd")
        return f"The calls come to this: {told}."


class MendTheService(Mend):
    """The rules of a Service are not as kube-proxy left them; mend them."""

    name = "services/mend-the-service"
    place = "open"
    beat = "calls its own service"
    question = (
        INTRO + "Somebody has changed rules of kube-proxy or of the CNI on node-a. Since then"
        " some connections to {service} fail, or one of the endpoints idles. Find what is"
        " missing, wrong or out of its place (`.lab` is the broken cluster) and mend it: give"
        " the lines to run, each as `PLACE$ COMMAND`, for instance `node-a$ iptables-save -t"
        " nat`. Trace more than once: there are dice."
    )
    restated = (
        "Compare with the lesson's node: the order of PREROUTING, one row for the Service, two"
        " for the endpoints, two in each endpoint's chain, and what the mark is for."
    )
    first_step = (
        "Print `iptables -t nat -S` of node-a and go through PREROUTING, KUBE-SERVICES,"
        " {svc}, {sep_near}, KUBE-MARK-MASQ, POSTROUTING, in this order."
    )
    portals = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
    faults = (
        ("node-a$ iptables -t nat -D {sep_near} 1",),
        ("node-a$ iptables -t nat -D PREROUTING 1",
         f"node-a$ iptables -t nat -A PREROUTING {portals}"),
        ("node-a$ iptables -t nat -D KUBE-SERVICES 1",),
        ("node-a$ iptables -t nat -R {sep_near} 2 -p tcp -m tcp -j DNAT --to-destination"
         " {address_near}:8081",),
        ("node-a$ iptables -t nat -D POSTROUTING 1",),
        ("node-a$ iptables -t nat -D {svc} 2",),
        ("node-a$ iptables -t nat -D KUBE-MARK-MASQ 1",),
        ("node-a$ iptables -t nat -R {svc} 1 -j {sep_near}",),
    )  # fmt: skip
    dangers = (
        (r"^(?!node-a\$)", "Callers of other nodes are served well. On which node are the rules"
         " that translate for the caller who isn't?"),
        (r"(?i)-j (MASQUERADE|SNAT)", "Then servers no longer see who calls them. Which"
         " connections does kube-proxy give the node's address, and by which mark?"),
        (r"^(?!.*\s-s\s).*-j KUBE-MARK-MASQ", "Then every caller would be masqueraded. Which single"
         " caller needs it?"),
        (r"iptables\b.*\s(-F|--flush|-X)\b", "A flush takes the healthy rows too. Which one is"
         " missing or wrong?"),
        (r"rp_filter|accept_local", "The kernel's check is as it was before the fault. Which"
         " address should the packet have carried?"),
    )  # fmt: skip

    def vary(self, dice: Dice) -> Variant:
        """One of eight faults, in another cluster."""
        return self.broken(dice, *draw(dice))

    def flows(self, words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Every caller to the Service, and one past it."""
        near, far, service = words["near"], words["far"], words["target"]
        door = f"{words['host']}:{words['door']}/tcp"
        return (
            (far, f"{words['address_near']}:8080/tcp"),
            (CLIENT, service),
            (near, service),
            (far, service),
            (NODE, service),
            ("laptop", door),
        )

    def send(self, lab: Lab, source: str, destination: str) -> Trace:
        """The first of many connections that fails, since dice may hide a fault."""
        lost = "" in self.answers(lab, source, destination)
        for _ in range(TRIES if lost else 1):
            trace = lab.trace(source, destination)
            if trace.verdict != "delivered":
                break
        return trace

    def answers(self, lab: Lab, source: str, destination: str) -> list[str]:
        """What many connections are answered; curl is quicker than a trace with its reasons."""
        copy = lab.copy()
        line = f"curl -m 5 http://{copy.named(destination)[0].removesuffix('/tcp')}"
        return [copy.run(source, line).stdout for _ in range(TRIES)]

    def judge(self, variant: Variant, answer: str) -> Verdict:
        """The flows; and from node-a both endpoints are reached, by callers they can see."""
        verdict, words = super().judge(variant, answer), variant.words
        if not verdict.right:
            return verdict
        answers = [one.split() for one in self.answers(variant.lab, CLIENT, words["target"])]
        served = {answer[0] for answer in answers}
        if idle := {words["near"], words["far"]} - served:
            return Verdict(right=False, message=f"Every call is answered, but {idle.pop()} answers"
                           " none. Which row should have led there, and when?")  # fmt: skip
        if strangers := {answer[1] for answer in answers} - {words["address_client"]}:
            return Verdict(right=False, message=f"Every call of {CLIENT} is answered, but seen as"
                           f" {strangers.pop()}. Who may be masqueraded?")  # fmt: skip
        return verdict

    def look(self, words: Mapping[str, str], source: str, destination: str) -> str:
        """Where to look next."""
        return (
            f"Repeat `.lab.trace({source!r}, {destination!r})` until it fails. Which row of node-a"
            " met this packet last, and which one should have?"
        )


EXERCISES: Sequence[Exercise] = (OnWhichWire(), WhichShare(), WhoSaysNo(), MendTheService())
