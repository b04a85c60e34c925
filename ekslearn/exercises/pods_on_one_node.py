"""Exercises of lesson 02: two pods, one node, and the node is a router between them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from ekslearn.cluster import Lab
from ekslearn.errors import EkslearnError
from ekslearn.exercises.format import (
    LETTERS,
    Dice,
    Exercise,
    Flows,
    Look,
    Mend,
    Variant,
    fault,
    plain,
    renamed,
    two_pods,
)

MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
GATEWAY = "169.254.1.1"


def draw(dice: Dice) -> tuple[Lab, dict[str, str]]:
    """A healthy node of this learner: one-node with other pods, addresses and MACs."""
    net = f"10.{dice.number('second', 1, 250)}.{dice.number('third', 1, 250)}"
    words, names = two_pods(dice, net, lowest=20)
    serial = dice.number("mac", 0x10, 0xEF)
    words |= {
        "pod_mac_a": f"02:00:00:{serial:02x}:a0:01",
        "host_mac_a": f"02:00:00:{serial:02x}:a0:00",
        "pod_mac_b": f"02:00:00:{serial:02x}:b0:01",
        "host_mac_b": f"02:00:00:{serial:02x}:b0:00",
    }
    names |= {
        "02:00:00:00:31:00": words["host_mac_a"],
        "02:00:00:00:31:01": words["pod_mac_a"],
        "02:00:00:00:42:00": words["host_mac_b"],
        "02:00:00:00:42:01": words["pod_mac_b"],
    }
    return renamed("one-node", names), words


class NextHop(Look):
    """To which MAC address does a pod send its frames?"""

    name = "pods-on-one-node/next-hop"
    place = "easy"
    beat = "the gateway that nobody owns"
    question = (
        "The pods **{a}** ({address_a}) and **{b}** ({address_b}) run on one node. {a} sends"
        " a packet to {b}. To which MAC address does {a} send the frame? (`.lab` is this"
        " node: try `ip neigh show` and `ip link show` in `{a}`, `host` and `{b}`.)"
    )
    restated = (
        "A frame travels one wire. The pod knows the next hop's IP address from its routes;"
        " which table gives it the MAC address that belongs to it?"
    )
    first_step = (
        "Run `ip route get {address_b}` in {a}: which address stands after"
        " `via`? Then `ip neigh show`."
    )

    def vary(self, dice: Dice) -> Variant:
        """Other pods, addresses and MACs."""
        lab, words = draw(dice)
        return Variant(lab=lab, words=words)

    def truth(self, variant: Variant) -> str:
        """The MAC of the neighbor that the pod chose."""
        a = variant.words["a"]
        trace = variant.lab.copy().trace(a, variant.words["address_b"])
        rows = [step.because for step in trace.steps if step.place == a and step.leg == "request"]
        found = [mac for row in rows for mac in re.findall(rf"lladdr ({MAC.pattern})", row)]
        return found[0] if found else "none"

    def read(self, variant: Variant, answer: str) -> str:
        """A MAC address, or the gateway's IP address, which is a slip of its own."""
        text = plain(answer).replace("-", ":").removesuffix("/32")
        known = (GATEWAY, variant.words["address_b"], variant.words["host"])
        if not MAC.fullmatch(text) and text not in known:
            raise EkslearnError(
                f"{answer[:40]!r} is no MAC address; one reads like {variant.words['pod_mac_a']}"
            )
        return text

    def back(self, variant: Variant, answer: str) -> str:
        """Bridge, own card, far veth and IP address are different slips."""
        words = variant.words
        asked = {
            words["pod_mac_b"]: "That would do if both pods hung on one bridge. Is there one? Which"
            " machine stands between them, and what does it do with the packet?",
            words["pod_mac_a"]: "That is the sender's own address. A frame carries it too, but as"
            " its source; who is to pick the frame up?",
            words["host_mac_b"]: "That is where the node sends from when it hands the packet on."
            " Which wire does the first frame travel, and who listens at its other end?",
        }
        if answer == GATEWAY or "." in answer:
            return (
                "That is an IP address; it picks the next hop. What does a frame need in order to"
                " be picked up, and which table of the pod tells it?"
            )
        return asked.get(
            answer,
            "Nothing on this wire has that address. Which table of the pod turns the next hop"
            " into a MAC address?",
        )

    def why(self, variant: Variant) -> str:
        """The neighbor entry, and whose MAC it is."""
        words = variant.words
        row = variant.lab.run(words["a"], "ip neigh show").stdout.strip().split("\n")[0].strip()
        return (
            f"`ip neigh show` in {words['a']} says: {row}. No machine owns {GATEWAY}; the entry"
            f" names the MAC address of {words['veth_a']}, the node's end of the pod's veth."
        )


class ArrivingTtl(Look):
    """With which TTL does a packet arrive?"""

    name = "pods-on-one-node/arriving-ttl"
    place = "end"
    beat = "the node is a router"
    question = (
        "On a node ({host}) run the pods **{a}** ({address_a}) and **{b}** ({address_b}); vpc"
        " is the subnet's router ({router}). In **{source}** somebody runs `ping {target}`. The"
        " packet sets out with TTL 64. With which TTL does it arrive?"
    )
    restated = (
        "A machine that forwards a packet takes one off its TTL. How many machines forward"
        " this one?"
    )
    first_step = (
        "List the namespaces that the packet passes, and strike out the first and the last."
    )
    ways: ClassVar[tuple[tuple[str, str], ...]] = (
        ("{a}", "{address_b}"),
        ("{b}", "{address_a}"),
        ("host", "{address_a}"),
        ("vpc", "{address_b}"),
        ("{a}", "{router}"),
        ("{b}", "{host}"),
    )

    def vary(self, dice: Dice) -> Variant:
        """Another sender and receiver."""
        lab, words = draw(dice)
        source, target = (part.format_map(words) for part in dice.one("way", self.ways))
        return Variant(lab=lab, words=words | {"source": source, "target": target})

    def truth(self, variant: Variant) -> str:
        """The TTL in the request's last sighting."""
        trace = variant.lab.copy().trace(variant.words["source"], variant.words["target"])
        return str(trace.request[-1].ttl) if trace.request else "none"

    def read(self, variant: Variant, answer: str) -> str:
        """A number."""
        text = re.sub(r"^ttl\s*[=:]?\s*", "", plain(answer))
        if not re.fullmatch(r"\d{1,3}", text, re.ASCII) or int(text) > 255:
            raise EkslearnError(f"{answer[:40]!r} is no TTL; answer with a number from 0 to 255")
        return str(int(text))

    def back(self, variant: Variant, answer: str) -> str:
        """Counting nobody, everybody, or upwards."""
        right = int(self.truth(variant))
        words = variant.words
        if int(answer) > 64:
            return "Does a router make a packet's life longer, or shorter?"
        if int(answer) > right:
            return (
                f"Somebody between {words['source']} and {words['target']} hands the packet on. Is"
                " it a bridge, which passes frames, or a router, which passes packets?"
            )
        if words["source"] == "host" or words["target"] == words["host"]:
            return (
                "Who takes one off the TTL: every machine, or one that hands on a packet that isn't"
                " its own? Does anybody here do that?"
            )
        return (
            "A veth is a cable with two ends; the namespaces are the machines. How many machines"
            " stand between sender and receiver?"
        )

    def why(self, variant: Variant) -> str:
        """The places that the packet was seen in."""
        trace = variant.lab.copy().trace(variant.words["source"], variant.words["target"])
        places = list(dict.fromkeys(sighting.place for sighting in trace.request))
        between = " and ".join(places[1:-1]) or "Nobody"
        return f"The packet passes {' -> '.join(places)}. {between} stands between and routes."


class WhatStillWorks(Flows):
    """One line of the wiring is lost. Which flows still get an answer?"""

    name = "pods-on-one-node/what-still-works"
    place = "end"
    beat = "there and back"
    question = (
        "The pods **{a}** ({address_a}) and **{b}** ({address_b}) run on one node. Now"
        " {story}: `{fault}`. Which of these pings still get an answer?\n\n"
        "- a: {said_a}\n- b: {said_b}\n- c: {said_c}\n- d: {said_d}\n\n" + LETTERS
    )
    restated = (
        "A ping is two packets. For each letter, follow both and see whether one of them"
        " needs what was changed."
    )
    first_step = "Take {said_a} first: write down the route each namespace uses, there and back."
    faults: ClassVar[tuple[tuple[str, str], ...]] = (
        ("host$ ip route del {address_b}", "the node's route to {b} is deleted"),
        ("{a}$ ip route del default", "the default route of {a} is deleted"),
        (
            "{a}$ ip neigh del 169.254.1.1 dev eth0",
            "the permanent neighbor entry of {a} is deleted",
        ),
        ("host$ sysctl -w net.ipv4.ip_forward=0", "`net.ipv4.ip_forward` on the node is set to 0"),
        ("host$ ip link set dev {veth_a} down", "{veth_a} is set down on the node"),
        ("{b}$ ip addr del {address_b}/32 dev eth0", "{b} loses its address"),
    )

    def vary(self, dice: Dice) -> Variant:
        """Another fault, and the flows in another order."""
        lab, words = draw(dice)
        line, story = dice.one("fault", self.faults)
        flows = [("a", "b"), ("b", "a"), ("host", "a"), ("host", "b")]
        for letter, (source, target) in dice.lettered("flows", flows):
            place = words.get(source, source) if source != "host" else "host"
            words |= {f"from_{letter}": place, f"to_{letter}": words[f"address_{target}"]}
            words |= {f"said_{letter}": f"from {place} to {words[target]}"}
        words |= {"fault": line.format_map(words), "story": story.format_map(words)}
        return Variant(lab=fault(lab, [words["fault"]]), words=words)

    def flow(self, words: Mapping[str, str], letter: str) -> tuple[str, str]:
        """One ping."""
        return words[f"from_{letter}"], words[f"to_{letter}"]

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """Too hopeful, or too gloomy."""
        said = f"About {wrong}, {variant.words[f'said_{wrong}']}:"
        if chosen:
            if dict(self.outcomes(variant))[wrong].reason.startswith("reply:"):
                return f"{said} the request gets there. Which way does the answer have to take?"
            return f"{said} does the packet meet the thing that was changed, and what then?"
        if "ip_forward" in variant.words["fault"]:
            return f"{said} does the node forward a packet that it sends itself?"
        return f"{said} does this packet, or its answer, ever use what was changed?"


class MendTheNode(Mend):
    """Two pods of a node can't talk any more; mend it."""

    name = "pods-on-one-node/mend-the-node"
    place = "open"
    beat = "break it on purpose, and mend it"
    question = (
        "On a node ({host}) run the pods **{a}** ({address_a}, behind {veth_a}) and **{b}**"
        " ({address_b}, behind {veth_b}). They can't reach each other any more. Find the fault"
        " (`.lab` is the broken node to look around in) and mend it: give the lines to run,"
        " each as `PLACE$ COMMAND`, for instance `host$ ip route show`."
    )
    restated = (
        "Something in the path, a link, a route, a neighbor entry or a switch, isn't as the VPC"
        " CNI left it. It is enough to put that back."
    )
    first_step = (
        "Trace from {a} to {address_b} and from {b} to"
        " {address_a}; compare the place where the packets end with the lesson's"
        " healthy node."
    )
    faults = (
        ("host$ ip route del {address_b}",),
        ("{a}$ ip route del default",),
        ("{a}$ ip neigh del 169.254.1.1 dev eth0",),
        ("{a}$ ip neigh replace 169.254.1.1 lladdr {pod_mac_b} dev eth0 nud permanent",),
        ("host$ sysctl -w net.ipv4.ip_forward=0",),
        ("host$ ip link set dev {veth_b} down",),
        ("host$ ip route del {address_a}", "host$ ip route add {address_a} dev {veth_b}"),
    )
    dangers = (
        (r"\bflush\b", "A flush takes everything, the rows of the healthy pod as well. Which single"
         " row is wrong or missing?"),
        (r"proxy_arp", "Then the node would answer for addresses that it doesn't own. How does a"
         " pod of the VPC CNI find its gateway without asking anybody?"),
        (r"addr(ess)?\s+(add|replace)\s+169\.254\.1\.1", "Then a machine would own 169.254.1.1, and"
         " every pod has a gateway of that name. How did it work when nobody owned it?"),
        (r"\bbridge\b|\bmaster\b", "A bridge would put the pods on one wire, past the node's"
         " routes and rules. Was there a bridge before the fault?"),
        (r"\blink\b.*\bdel(ete)?\b|\bnetns\s+del", "That removes the pod's only wire, and"
         " everything that hangs on it. Is the wire at fault, or what somebody set on it?"),
        (r"\bdown\b|ip_forward\s*=\s*0", "That switches something off. Which flows need it, and"
         " does this node need less, or more?"),
        (r"MASQUERADE|SNAT|DNAT", "Then the pods would no longer see each other's addresses. Was"
         " any address changed on the way before the fault?"),
    )  # fmt: skip

    def vary(self, dice: Dice) -> Variant:
        """One of seven faults, on another node."""
        return self.broken(dice, *draw(dice))

    def flows(self, words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Pods to each other, the node to both, and the subnet's router to both."""
        a, b = words["address_a"], words["address_b"]
        return (
            (words["a"], f"{b}:80/tcp"),
            (words["b"], f"{a}:80/tcp"),
            ("host", a),
            ("host", b),
            ("vpc", a),
            ("vpc", b),
        )

    def look(self, words: Mapping[str, str], source: str, destination: str) -> str:
        """Where to look next."""
        return (
            f"What does `.lab.trace({source!r}, {destination!r})` say of the last step, and which"
            " row should have been there?"
        )


EXERCISES: Sequence[Exercise] = (NextHop(), ArrivingTtl(), WhatStillWorks(), MendTheNode())
