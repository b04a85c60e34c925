"""Exercises of lesson 15: hairpins, what a health check knows, and pods that leave."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

from ekslearn.cluster import Cluster
from ekslearn.elb import Target
from ekslearn.elb.group import PROPAGATION_S as PROPAGATION_S
from ekslearn.errors import EkslearnError
from ekslearn.exercises.format import (
    LETTERS,
    Dice,
    Exercise,
    Letters,
    Look,
    Variant,
    Verdict,
    as_words,
    cluster_of,
    renamed,
    whole,
)
from ekslearn.linux.conntrack import Tuple
from ekslearn.trace import Trace

SCENARIO = "rollout"
BALANCERS = ("any-node", "local", "pods")
WATCHED_S = 35  # how long a pod's leaving is watched: till every balancer has heard of it
TRIES = 40  # source ports tried to find one for each of a few targets
INTRO = (
    "There are **node-a** ({node-a}), **node-b** ({node-b}) and **node-c** ({node-c}). The pods"
    " **web-1** on {first} and **web-2** on {second} stand behind three internal Network Load"
    " Balancers, cross-zone on:\n\n"
    "- **any-node**: every node is an instance target, externalTrafficPolicy Cluster\n"
    "- **local**: the same with policy Local, healthCheckNodePort {check}\n"
    "- **pods**: the two pods are ip targets\n\n"
)


def name_of(lab: Cluster, target: Target) -> str:
    """What a target is: an instance's name, a pod's place, or the address of one that is gone."""
    pods = {lab.address(place): place for place in lab.pods if place not in lab.pending}
    return target.instance or pods.get(str(target.address), str(target.address))


def ports_to(lab: Cluster, source: str, balancer: str) -> tuple[str, dict[str, int]]:
    """Where a balancer listens, and by which source port a call comes to which target in use.

    A Network Load Balancer takes the target by a hash of the flow; so ports are tried in turn.
    """
    found = lab.elb.balancers[f"lb/{balancer}"]
    listener, address = found.listeners[0], found.addresses()[0]
    eni = next(each for each in found.enis.values() if address in (each.public_ip, each.primary))
    first, ports = lab.namespace(source).sockets.next_port, dict[Target, int]()
    for port in range(first, first + TRIES):
        flow = Tuple("tcp", IPv4Address(lab.address(source)), port, address, listener.port)
        target, _ = found.choose(eni, listener.group, flow)
        if target:
            ports.setdefault(target, port)
    used = {name_of(lab, each): ports[each] for each in listener.group.targets if each in ports}
    return f"{address}:{listener.port}/tcp", used


def one_each(lab: Cluster, source: str, balancer: str) -> dict[str, Trace]:
    """One call by a balancer to each target that it uses now, by the target's name; on a copy."""
    twin = cluster_of(lab.copy())
    where, ports = ports_to(twin, source, balancer)
    traces = {}
    for target, port in ports.items():
        twin.namespace(source).sockets.next_port = port
        traces[target] = twin.trace(source, where)
    return traces


def verdicts(lab: Cluster, source: str, balancer: str) -> dict[str, str]:
    """What becomes of a call to each target in use, by the target's name."""
    return {target: call.verdict for target, call in one_each(lab, source, balancer).items()}


def told(things: Mapping[str, str]) -> str:
    """What is said of each thing, in one line."""
    return ", ".join(f"{name} {each}" for name, each in things.items())


def grouped(things: Mapping[str, str]) -> str:
    """What is said, behind the names of those of whom it is said."""
    names = dict[str, list[str]]()
    for name, each in things.items():
        names.setdefault(each, []).append(name)
    return "; ".join(f"{', '.join(who)} {each}" for each, who in names.items())


def table(lab: Cluster, *sources: str) -> str:
    """What becomes of a call from each source by each balancer to each of its targets."""
    return "\n".join(f"{source:11} {each:8} {told(verdicts(lab, source, f'shop/{each}'))}"
                     for source in sources for each in BALANCERS)  # fmt: skip


def captured(trace: Trace) -> str:
    """A line for each time that a packet of a call was seen: both addresses, the server's port."""
    return "\n".join(
        f"{one.place:14} {one.direction:3} {one.interface:15}"
        + (f" {one.src} -> {one.dst}:{one.dport}" if one.leg == "request"
           else f" {one.src}:{one.sport} -> {one.dst}") + f" {one.flags}"
        for one in (*trace.request, *trace.reply) if one.flags != "RST"
    )  # fmt: skip


def asks(lab: Cluster, source: str, balancer: str) -> dict[str, str]:
    """What a balancer's check would be told by each target: who answers, or an HTTP status."""
    group, told = lab.elb.balancers[f"lb/{balancer}"].listeners[0].group, {}
    for each in group.targets:
        port = group.check.port or each.port
        trace = lab.trace(source, f"{each.address}:{port}/tcp")
        told[name_of(lab, each)] = (trace.answer or trace.verdict).split()[0]
    return told


def checks(lab: Cluster, source: str) -> str:
    """Each balancer's check, what it would be told if ``source`` asked, and what it holds."""
    lines = []
    for each in BALANCERS:
        check = lab.elb.balancers[f"lb/shop/{each}"].listeners[0].group.check
        lines += [f"{each} {check} every {check.interval_s} s; {check.healthy} good ones count,"
                  f" or {check.unhealthy} bad ones",
                  f"  is told {told(asks(lab, source, f'shop/{each}'))}",
                  f"  holds {grouped(states(lab, f'shop/{each}'))}"]  # fmt: skip
    return "\n".join(lines)


def states(lab: Cluster, balancer: str) -> dict[str, str]:
    """The targets of a balancer by name, each with its state and, if it has one, the reason."""
    group = lab.elb.balancers[f"lb/{balancer}"].listeners[0].group
    return {name_of(lab, each): f"{each.state} {each.reason}".strip() for each in group.targets}


def healthy(lab: Cluster, balancer: str) -> int:
    """How many targets of a balancer are healthy."""
    return list(states(lab, balancer).values()).count("healthy")


def losses(lab: Cluster, source: str, balancer: str, pod: str, **given: float) -> list[int]:
    """A pod is deleted: how many calls of each second after that get no answer.

    Each second one call goes to each target that the balancer uses. ``given`` is what
    ``terminate_pod`` takes: ``prestop_s``, ``work_s``, ``grace_s``.
    """
    twin, lost = cluster_of(lab.copy()), list[int]()
    twin.control.terminate_pod(pod, **given)
    sockets = twin.namespace(source).sockets
    for _ in range(WATCHED_S):
        where, ports = ports_to(twin, source, balancer)
        address, _, number = where.removesuffix("/tcp").partition(":")
        unanswered = 0
        for port in sorted(ports.values()):  # so that none comes again: it would be an old flow's
            sockets.next_port = port
            client = sockets.ask("tcp", IPv4Address(address), int(number))
            unanswered += not any(each.flags == "SYN-ACK" for each in client.answers)
        lost.append(unanswered)
        twin.sleep(1)
    return lost


def draw(dice: Dice) -> tuple[Cluster, dict[str, str]]:
    """This learner's cluster: other addresses, and the nodes' names in another order."""
    net = f"10.{dice.number('net', 1, 250)}"
    nodes = dice.order("nodes", ("node-a", "node-b", "node-c"))
    places = {"10.0.1.10": f"{net}.1.{dice.number('a', 20, 80)}",
              "10.0.2.10": f"{net}.2.{dice.number('b', 30, 80)}",
              "10.0.2.20": f"{net}.2.{dice.number('c', 90, 140)}"}  # fmt: skip
    check = str(dice.number("check", 32000, 32700))
    kept = {f"10.0.{row}": f"{net}.{row}" for row in (
        "0.0", "1.0", "2.0", "1.12", "1.13", "1.14", "1.90", "2.12", "2.13", "2.14", "2.22", "2.23",
        "2.24",
    )}  # fmt: skip
    old = ("node-a", "node-b", "node-c")
    lab = cluster_of(renamed(SCENARIO, {
        **dict(zip(old, nodes, strict=True)), **places, **kept, "32100": check,
    }))  # fmt: skip
    words = {name: lab.address(name) for name in old}
    return lab, words | {"first": nodes[0], "second": nodes[1], "check": check}


SOURCES = {"desk": "desk", "client": "shop/client", "web-1": "shop/web-1", "web-2": "shop/web-2"}
TARGETS = {"any-node": ("node-a", "node-b", "node-c"), "local": (), "pods": ("web-1", "web-2")}


class WhichTimeOut(Letters):
    """Which calls of a balancer get no answer?"""

    name = "hairpin-health-and-rollouts/which-time-out"
    place = "easy"
    beat = "who answers past the balancer"
    question = (
        INTRO + "Client-IP preservation is **{kept}** for all of them. A pod **client** runs on"
        " {home}; **desk** is no node. Which of these calls get no answer?\n\n"
        "- a: from {from_a} by {by_a}, which chooses {to_a}\n"
        "- b: from {from_b} by {by_b}, which chooses {to_b}\n"
        "- c: from {from_c} by {by_c}, which chooses {to_c}\n"
        "- d: from {from_d} by {by_d}, which chooses {to_d}\n\n" + LETTERS
    )  # fmt: skip
    restated = (
        "A call fails if its answer comes to the caller without passing the balancer, which"
        " alone can turn the addresses back."
    )
    first_step = (
        "Write the node of each caller and of each target. Preservation is {kept}: to which"
        " address is the answer sent?"
    )

    def vary(self, dice: Dice) -> Variant:
        """The client on any node, addresses preserved or not, four calls."""
        lab, words = draw(dice)
        home = dice.one("home", ("node-a", "node-b", "node-c"))
        client = lab.pods["shop/client"]
        if home != client.node:
            lab.delete_pod(client.place)
            lab.add_pod(replace(client, node=home, ip=None))
        kept = dice.one("kept", ("on", "on", "on", "off"))
        for group in lab.elb.groups.values():
            group.preserve_client_ip = kept == "on"
        words |= {"home": home, "kept": kept}
        at = {"client": home, "web-1": words["first"], "web-2": words["second"]}
        calls = [(source, balancer, target) for source in SOURCES for balancer in TARGETS
                 for target in TARGETS[balancer] or (words["first"], words["second"])]  # fmt: skip
        near = [one for one in calls if at.get(one[0]) == at.get(one[2], one[2])]
        far = [one for one in calls if one not in near]
        count = dice.number("how many near", 1, 3)
        drawn = dice.order("near", near)[:count] + dice.order("far", far)[: 4 - count]
        words |= as_words(dice.lettered("calls", drawn), ("from", "by", "to"))
        return Variant(lab=lab, words=words)

    def truth(self, variant: Variant) -> str:
        """Every call, made."""
        lab, words, found = cluster_of(variant.lab), variant.words, ""
        for x in "abcd":
            source, target = SOURCES[words[f"from_{x}"]], words[f"to_{x}"]
            calls = verdicts(lab, source, f"shop/{words[f'by_{x}']}")
            found += x * (calls[SOURCES.get(target, target)] != "delivered")
        return found

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """The setting, the place, or the way of the answer forgotten."""
        words = variant.words
        source, target = words[f"from_{wrong}"], words[f"to_{wrong}"]
        said = f"About {wrong}:"
        if words["kept"] == "off":
            return f"{said} whose address does {target} see, and where does it send its answer?"
        if source == "desk":
            return f"{said} is desk on the same node as any target?"
        if source == target:
            return f"{said} which two addresses has the packet that comes to {target}?"
        if chosen:
            return f"{said} on which node is {source}, and does what {target} answers leave a node?"
        return f"{said} by which rule does {target} send a packet for {source}'s address?"

    def why(self, variant: Variant) -> str:
        """Where everybody is."""
        words = variant.words
        if words["kept"] == "off":
            return "Targets see the balancer's address, so every answer passes it."
        return (f"client is on {words['home']}, web-1 on {words['first']}, web-2 on"
                f" {words['second']}: an answer that stays on its node passes no balancer."
                )  # fmt: skip


class WhoIsHealthy(Letters):
    """Which targets does a health check find healthy?"""

    name = "hairpin-health-and-rollouts/who-is-healthy"
    place = "end"
    beat = "what a health check asks"
    question = (
        INTRO + "any-node's node port is 31380, and its check opens a connection to it."
        " {happened}A minute and a half passes. Which of these targets are healthy?\n\n"
        "- a: {to_a}, target of {by_a}\n- b: {to_b}, target of {by_b}\n"
        "- c: {to_c}, target of {by_c}\n- d: {to_d}, target of {by_d}\n\n" + LETTERS
    )
    restated = (
        "Two checks: any-node's asks the node port, which any pod of the Service may answer;"
        " local's asks kube-proxy for pods on that very node."
    )
    first_step = (
        "Write below each node which pods are left there. To which port does each check go, and"
        " does it arrive?"
    )

    def vary(self, dice: Dice) -> Variant:
        """A pod gone or not, a node that drops what comes to a port or none, four targets."""
        lab, words = draw(dice)
        gone = dice.one("gone", ("web-1", "web-2", "neither"))
        node = dice.one("node", ("node-a", "node-b", "node-c"))
        port = dice.one("port", (words["check"], "31380", "none"))
        if gone != "neither":
            lab.delete_pod(f"shop/{gone}")
        if port != "none":
            # Before kube-proxy's translation: what INPUT and FORWARD drop comes later.
            lab.line(f"{node}$ iptables -t mangle -I PREROUTING -p tcp --dport {port} -j DROP")
        lab.sleep(90)
        happened = "" if gone == "neither" else f"**{gone}** has been deleted. "
        if port != "none":
            happened += (f"On **{node}** a new rule drops every packet that comes in for TCP port"
                         f" **{port}**. ")  # fmt: skip
        targets = [(by, each) for by in ("any-node", "local") for each in TARGETS["any-node"]]
        words |= as_words(dice.lettered("targets", targets), ("by", "to"))
        words |= {"gone": gone, "node": node, "port": port, "happened": happened}
        return Variant(lab=lab, words=words)

    def truth(self, variant: Variant) -> str:
        """What the balancers hold of their targets."""
        lab, words = cluster_of(variant.lab), variant.words
        return "".join(x for x in "abcd" if states(lab, f"shop/{words[f'by_{x}']}")[
            words[f"to_{x}"]] == "healthy")  # fmt: skip

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """The port, the node, or the policy mistaken."""
        words = variant.words
        by, node = words[f"by_{wrong}"], words[f"to_{wrong}"]
        said = f"About {wrong}, {node} of {by}:"
        asked = words["check"] if by == "local" else "31380"
        if node == words["node"] and words["port"] != "none":
            return f"{said} to which port of {node} does its check go, and what becomes of it?"
        if by == "any-node":
            return f"{said} who answers what comes to port {asked}, and must that be on {node}?"
        if chosen:
            return f"{said} which endpoints does kube-proxy count when {asked} is asked there?"
        return f"{said} is a pod of the Service there, and is port {asked} dropped there?"

    def why(self, variant: Variant) -> str:
        """Each target's state."""
        lab = cluster_of(variant.lab)
        return " | ".join(f"{by}: {grouped(states(lab, f'shop/{by}'))}"
                         for by in ("any-node", "local")) + "."  # fmt: skip


class HowManyAreLost(Look):
    """How many calls get no answer while a pod leaves?"""

    name = "hairpin-health-and-rollouts/how-many-are-lost"
    place = "end"
    beat = "three who must hear of it"
    question = (
        INTRO + "Now **web-2** is deleted; its preStop hook sleeps **{prestop} s**, and its"
        " terminationGracePeriodSeconds is **{grace}**. It stops at once when it gets SIGTERM."
        " Each second, the first at the moment of deletion, one new call goes by **{by}** to each"
        " target that it still uses; a balancer uses a target for 30 s after it is deregistered"
        " [model]. How many calls get no answer? Answer with a number."
    )
    restated = "Calls are lost while the balancer still uses web-2 and web-2 listens no more."
    first_step = (
        "Draw a line of time. When does a hook of {prestop} s end under a grace period of {grace}"
        " s? And are pods the targets of {by}?"
    )

    def vary(self, dice: Dice) -> Variant:
        """Another balancer, hook and grace period."""
        lab, words = draw(dice)
        return Variant(lab=lab, words=words | {
            "by": dice.one("by", ("pods", "pods", "pods", "any-node")),
            "prestop": str(dice.number("prestop", 0, 32)),
            "grace": str(dice.one("grace", (10, 15, 25, 60, 60))),
        })  # fmt: skip

    def truth(self, variant: Variant) -> str:
        """The pod leaves, and the calls are made."""
        words = variant.words
        given = {"prestop_s": float(words["prestop"]), "grace_s": float(words["grace"])}
        lab, by = cluster_of(variant.lab), f"shop/{words['by']}"
        return str(sum(losses(lab, "desk", by, "shop/web-2", **given)))

    def read(self, variant: Variant, answer: str) -> str:
        """A number."""
        return whole(answer, "calls", 99)

    def back(self, variant: Variant, answer: str) -> str:
        """The grace period, the hook or the target's kind forgotten."""
        words = variant.words
        prestop, grace = int(words["prestop"]), int(words["grace"])
        if words["by"] == "any-node":
            return "Which targets has any-node, and who on them chooses a pod for a new call?"
        if prestop > grace and int(answer) == max(0, 30 - prestop):
            return "How long may a preStop hook run? When does the grace period begin?"
        if int(answer) == 30 and prestop:
            return "Does web-2 answer while its hook sleeps?"
        if int(answer) > 30:
            return "New calls, or open ones: for which of the two is the deregistration delay?"
        return "In which second does web-2 stop listening, and in which is it used last?"

    def why(self, variant: Variant) -> str:
        """The two moments."""
        words = variant.words
        if words["by"] == "any-node":
            return "Nodes stay targets, and kube-proxy hears of the endpoint at once [model]."
        stops = min(int(words["prestop"]), int(words["grace"]))
        return f"web-2 stops listening after {stops} s; the balancer uses it for 30 s [model]."


class NoCallLost(Exercise):
    """Choose a hook and a grace period with which nothing is lost."""

    name = "hairpin-health-and-rollouts/no-call-lost"
    place = "open"
    beat = "three who must hear of it"
    question = (
        INTRO + "A rollout takes **web-2** away. Callers come by **pods**, which uses a target"
        " for 30 s after it is deregistered [model]; the longest request takes **{work} s**."
        " A node drain waits **{limit} s** for a pod at most. Which preStop sleep and which"
        " terminationGracePeriodSeconds lose no new call and cut off no request? Answer with"
        " two whole numbers, in that order, such as `5 30`."
    )
    restated = (
        "Two inequalities: one for new calls, about the sleep alone; one for requests that have"
        " begun, about the grace period."
    )
    first_step = (
        "Until which second may a new call still come to web-2? Until which may that call's"
        " request last?"
    )

    def vary(self, dice: Dice) -> Variant:
        """Another longest request, and another patience."""
        lab, words = draw(dice)
        work = dice.number("work", 3, 25)
        limit = 30 + work + dice.number("spare", 0, 12)
        return Variant(lab=lab, words=words | {"work": str(work), "limit": str(limit)})

    def judge(self, variant: Variant, answer: str) -> Verdict:
        """Let the pod leave with these numbers."""
        numbers = re.findall(r"\d+", answer)
        if (
            len(numbers) != 2
            or any(len(each) > 4 for each in numbers)
            or re.search(r"-\s*\d", answer)
        ):
            raise EkslearnError(f"{answer[:40]!r} can't be read; answer with two numbers of"
                                " seconds: the sleep, then the grace period")  # fmt: skip
        prestop, grace = map(int, numbers)
        lab, words = cluster_of(variant.lab), variant.words
        work, limit = int(words["work"]), int(words["limit"])
        if grace > limit:
            return Verdict(right=False, message=f"The drain waits {limit} s. From when to when does"
                           " a grace period run?")  # fmt: skip
        given = {"prestop_s": prestop, "work_s": work, "grace_s": grace}
        lost = sum(losses(lab, "desk", "shop/pods", "shop/web-2", **given))
        if lost:
            return Verdict(right=False, message=f"{lost} new calls get no answer. Who still sends"
                           " to web-2 when it has stopped listening?")  # fmt: skip
        lab.control.terminate_pod("shop/web-2", **given)
        lab.sleep(prestop + work - 1)
        if "shop/web-2" not in lab.pods:
            return Verdict(right=False, message=f"A request that came last and takes {work} s is"
                           " cut off. What else does the grace period have to hold?"
                           )  # fmt: skip
        return Verdict(right=True, message=f"No call is lost in {WATCHED_S} s, and a request of"
                       f" {work} s ends in time.")  # fmt: skip


EXERCISES: Sequence[Exercise] = (WhichTimeOut(), WhoIsHealthy(), HowManyAreLost(), NoCallLost())
