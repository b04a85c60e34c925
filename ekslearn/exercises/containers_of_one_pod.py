"""Exercises of lesson 01: the containers of one pod share one namespace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from ekslearn.errors import EkslearnError
from ekslearn.exercises.format import (
    PODS,
    Dice,
    Exercise,
    Letters,
    Look,
    Mend,
    Variant,
    plain,
    renamed,
    veth_name,
)


def draw(dice: Dice) -> tuple[dict[str, str], dict[str, str]]:
    """A pod of this learner: the names to put into one-pod, and the words of the question."""
    pod = dice.one("pod", PODS)
    net = f"10.{dice.number('second', 1, 250)}.{dice.number('third', 1, 250)}"
    words = {
        "pod": pod,
        "address": f"{net}.{dice.number('last', 20, 250)}",
        "host": f"{net}.{dice.number('node', 4, 19)}",
        "veth": veth_name(pod),
        "port": str(dice.number("port", 3000, 8900)),
    }
    names = {
        "pod": pod,
        "10.0.1.31": words["address"],
        "10.0.1.10": words["host"],
        veth_name("web"): words["veth"],
    }
    return names, words


class WhichInterface(Look):
    """Where is a packet seen that a pod sends to its own address?"""

    name = "containers-of-one-pod/which-interface"
    place = "easy"
    beat = "the packet that never leaves"
    question = (
        "The pod **{pod}** has the address {address} on its `eth0`. One of its containers"
        " listens on 0.0.0.0:{port}. Another container of the same pod runs"
        " `curl http://{address}:{port}`. On which interface of the pod would a capture"
        " see the packet?"
    )
    restated = (
        "Both containers sit in one namespace, so the packet's source and destination are the"
        " same machine. Which way do packets take that a machine sends to itself?"
    )
    first_step = "Run `ip route get {address}` in the pod and read the word after `dev`."

    def vary(self, dice: Dice) -> Variant:
        """Another pod, address and port."""
        names, words = draw(dice)
        lab = renamed("one-pod", names)
        lab.listen(words["pod"], f"0.0.0.0:{words['port']}/tcp", process="api")
        return Variant(lab=lab, words=words)

    def truth(self, variant: Variant) -> str:
        """The interfaces of the request's sightings, which are one."""
        to = "{address}:{port}/tcp".format_map(variant.words)
        trace = variant.lab.copy().trace(variant.words["pod"], to)
        return " ".join(sorted({sighting.interface for sighting in trace.request}))

    def read(self, variant: Variant, answer: str) -> str:
        """An interface's name."""
        text = plain(answer)
        text = {"loopback": "lo", "localhost": "lo", "127.0.0.1": "lo"}.get(text, text)
        if text not in ("lo", "eth0", variant.words["veth"]):
            raise EkslearnError(
                f"{answer[:40]!r} is no interface of the pod; `ip link` in the pod lists them"
            )
        return text

    def back(self, variant: Variant, answer: str) -> str:
        """The pod's end and the node's end of the veth are two different slips."""
        if answer == "eth0":
            return (
                "The address is written on eth0, but who owns it? Ask the pod itself with"
                f" `ip route get {variant.words['address']}`: which device does it name?"
            )
        return (
            "That is the node's end of the veth. Does a packet between two containers of one"
            " namespace have any business outside it?"
        )

    def why(self, variant: Variant) -> str:
        """What the pod's own tool says."""
        command = f"ip route get {variant.words['address']}"
        said = variant.lab.run(variant.words["pod"], command).stdout.split("\n")[0].strip()
        return f"`{command}` in the pod says: {said}."


class WhichPorts(Letters):
    """Which of four further listeners can still be opened in the pod?"""

    name = "containers-of-one-pod/which-ports"
    place = "end"
    beat = "one set of ports"
    question = (
        "In the pod **{pod}** ({address}) the container *web* listens on 0.0.0.0:{one}/tcp and"
        " the container *admin* on 127.0.0.1:{two}/tcp. A third container starts. Which of"
        " these could it open, each tried alone?\n\n"
        "- a: {a}\n- b: {b}\n- c: {c}\n- d: {d}\n\n"
        "Answer with letters, as in `a c`, or `none`."
    )
    restated = (
        "All containers of the pod open their ports in one namespace. For each candidate: is"
        " there already a listener that would take the same packets?"
    )
    first_step = (
        "Begin with the candidates on port {one}. Which protocols, and which"
        " addresses, does *web* already hold there?"
    )

    def vary(self, dice: Dice) -> Variant:
        """Two open ports, and four candidates in another order, with other ports."""
        names, words = draw(dice)
        one = dice.number("one", 3000, 5900)
        two = dice.number("two", 6000, 8900)
        binds = {
            "same": f"0.0.0.0:{one}/tcp",
            "udp": f"0.0.0.0:{one}/udp",
            "loopback": f"127.0.0.1:{one}/tcp",
            "every": f"0.0.0.0:{two}/tcp",
            "other": f"{words['address']}:{two}/tcp",
        }
        words |= {"one": str(one), "two": str(two)}
        words |= {x: binds[kind] for x, kind in dice.lettered("binds", sorted(binds))}
        lab = renamed("one-pod", names)
        lab.listen(words["pod"], f"0.0.0.0:{one}/tcp", process="web")
        lab.listen(words["pod"], f"127.0.0.1:{two}/tcp", process="admin")
        return Variant(lab=lab, words=words)

    def opens(self, variant: Variant, what: str) -> bool:
        """Whether the pod lets a third container listen there."""
        try:
            variant.lab.copy().listen(variant.words["pod"], what, process="third")
        except EkslearnError:
            return False
        return True

    def truth(self, variant: Variant) -> str:
        """Every candidate, tried on a copy."""
        return "".join(one for one in "abcd" if self.opens(variant, variant.words[one]))

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """Another protocol, the same listener, one that covers it, or one beside it."""
        what = variant.words[wrong]
        taken = f"0.0.0.0:{variant.words['one']}/tcp"
        if what.endswith("/udp"):
            return f"About {what}: is a port of UDP the same thing as the port of TCP?"
        if what == taken:
            return (
                f"About {what}: whose are the ports, the container's or the namespace's? How many"
                " namespaces do these containers have?"
            )
        if what.startswith(("127.0.0.1", "0.0.0.0")):
            return (
                f"About {what}: which addresses does 0.0.0.0 stand for, and is 127.0.0.1 one"
                " of them?"
            )
        return (
            f"About {what}: could the kernel tell from a packet's destination which of the two"
            " listeners it is for?"
        )

    def why(self, variant: Variant) -> str:
        """What the kernel says to the others."""
        return (
            "A listener is a protocol, an address and a port, once per namespace; 0.0.0.0 covers"
            " every address. The refused ones get: Address already in use."
        )


class WhatCurlSees(Look):
    """Does a client reach a listener bound to that address?"""

    name = "containers-of-one-pod/what-curl-sees"
    place = "end"
    beat = "who can knock"
    restated = (
        "Two questions: which namespace does a packet for {target} end up in, and"
        " does anything there listen for exactly this destination?"
    )
    first_step = (
        "Write down the packet's destination address and the listener's ({bound});"
        " 0.0.0.0 would match any."
    )
    cases: ClassVar[tuple[tuple[str, str, str], ...]] = (
        # bound to, asked from, asked for
        ("127.0.0.1", "host", "{address}"),
        ("127.0.0.1", "{pod}", "{address}"),
        ("127.0.0.1", "{pod}", "127.0.0.1"),
        ("{address}", "{pod}", "127.0.0.1"),
        ("{address}", "host", "{address}"),
        ("0.0.0.0", "host", "127.0.0.1"),
        ("0.0.0.0", "host", "{address}"),
    )

    def vary(self, dice: Dice) -> Variant:
        """One of seven cases, with other names."""
        names, words = draw(dice)
        bound, source, target = (part.format_map(words) for part in dice.one("case", self.cases))
        words |= {"bound": bound, "source": source, "target": target}
        lab = renamed("one-pod", names)
        lab.listen(words["pod"], f"{bound}:{words['port']}/tcp", process="api")
        return Variant(lab=lab, words=words)

    def ask(self, words: Mapping[str, str]) -> str:
        """The question."""
        where = "on the node" if words["source"] == "host" else "in another container of the pod"
        return (
            f"A container of the pod **{words['pod']}** ({words['address']}) listens on"
            f" {words['bound']}:{words['port']}/tcp. Somebody runs"
            f" `curl http://{words['target']}:{words['port']}` {where}. What comes of it:"
            " `delivered`, `refused`, `dropped` or `unreachable`?"
        )

    def truth(self, variant: Variant) -> str:
        """The verdict of a trace."""
        to = "{target}:{port}/tcp".format_map(variant.words)
        verdict: str = variant.lab.copy().trace(variant.words["source"], to).verdict
        return verdict

    def read(self, variant: Variant, answer: str) -> str:
        """A verdict."""
        return one_of(
            answer, "delivered", "refused", "dropped", "unreachable", "rejected", "expired"
        )

    def back(self, variant: Variant, answer: str) -> str:
        """Silence, a stranger's loopback and a narrow binding are different slips."""
        words = variant.words
        if answer in ("dropped", "unreachable", "expired", "rejected"):
            return (
                "Does the packet get as far as a kernel that owns the address? And what does a"
                " kernel say, by itself, about a TCP port: silence, or something?"
            )
        if answer == "refused":
            return (
                f"Does a listener on {words['bound']} cover a packet for {words['target']}, and"
                " can the client reach that namespace?"
            )
        if words["source"] == "host" and words["target"] == "127.0.0.1":
            return "Every namespace has a loopback of its own. Whose 127.0.0.1 does this curl mean?"
        return (
            f"A listener takes packets for the address it is bound to. It is bound to"
            f" {words['bound']}; which destination does the packet carry?"
        )

    def why(self, variant: Variant) -> str:
        """The reason the trace gives."""
        to = "{target}:{port}/tcp".format_map(variant.words)
        reason: str = variant.lab.copy().trace(variant.words["source"], to).reason
        return reason if reason.endswith(".") else f"{reason}."


class MendTheLoopback(Mend):
    """The containers can't talk to each other; mend it."""

    name = "containers-of-one-pod/mend-the-loopback"
    place = "open"
    beat = "break it on purpose"
    question = (
        "In the pod **{pod}** ({address}) the container *sidecar* listens on 127.0.0.1:9000,"
        " but the other container can't reach it any more; from the node the pod answers."
        " Find the fault (`.lab` is the broken pod to look around in) and mend it: give the"
        " lines to run, each as `PLACE$ COMMAND`, for instance"
        " `{pod}$ ip addr show`."
    )
    restated = (
        "The containers talk through one interface of the pod, which every namespace has."
        " Something about it is no longer as it was."
    )
    first_step = "Run `ip addr show dev lo` in {pod} and on host, and compare the two."
    faults = (("{pod}$ ip link set dev lo down",), ("{pod}$ ip addr del 127.0.0.1/8 dev lo",))
    dangers = (
        (r"\bip\b.*\bnetns\b", "A pod's namespace is made by the runtime, and a new one has lost"
         " everything else. What is missing inside the one that is there?"),
        (r"\bflush\b|\bdel(ete)?\b|\bdown\b", "That takes more away. What would be lost with it,"
         " and does the pod need something removed, or something put back?"),
        (r"dev eth0", "That changes the way to the outside. Through which interface do two"
         " containers of one pod talk?"),
    )  # fmt: skip

    def vary(self, dice: Dice) -> Variant:
        """One of two faults, in another pod."""
        names, words = draw(dice)
        return self.broken(dice, renamed("one-pod", names), words)

    def flows(self, words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Between the containers, both ways of naming the pod; and from the node."""
        pod, address = words["pod"], words["address"]
        return (
            (pod, "127.0.0.1:9000/tcp"),
            (pod, f"{address}:80/tcp"),
            ("host", f"{address}:80/tcp"),
        )

    def look(self, words: Mapping[str, str], source: str, destination: str) -> str:
        """Where to look next."""
        if source == "host":
            return "This worked before. What did your lines change about it?"
        return f"What does `ip addr show dev lo` in {words['pod']} say, and what is missing there?"


def one_of(answer: str, *words: str) -> str:
    """The answer as one of ``words``."""
    text = plain(answer)
    if text not in words:
        raise EkslearnError(
            f"{answer[:40]!r} can't be read; answer with one of: {', '.join(words)}"
        )
    return text


EXERCISES: Sequence[Exercise] = (WhichInterface(), WhichPorts(), WhatCurlSees(), MendTheLoopback())
