"""Exercises of lesson 03: which row of a table decides, and what happens when it goes away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import ClassVar

from ekslearn.cluster import Lab
from ekslearn.errors import EkslearnError
from ekslearn.exercises.format import (
    Dice,
    Exercise,
    Letters,
    Look,
    Mend,
    Variant,
    fault,
    letters,
    plain,
    renamed,
)


def draw(dice: Dice) -> tuple[Lab, dict[str, str]]:
    """A crossroads of this learner: other prefixes, the same shape."""
    net = f"10.{dice.number('second', 21, 250)}"
    far, twice, dead = (
        dice.number("far", 20, 90),
        dice.number("twice", 100, 180),
        dice.number("dead", 190, 250),
    )
    one = dice.number("one", 40, 60)
    two = one - dice.number("apart", 1, 20)
    words = {
        "host": f"{net}.1.10",
        "north": f"{net}.1.1",
        "south": f"{net}.2.1",
        "host_south": f"{net}.4.1",
        "nobody": f"{net}.1.{dice.number('nobody', 90, 250)}",
        "wide": f"{net}.0.0/16",
        "narrow": f"{net}.{far}.0/24",
        "half": f"{net}.{far}.0/26",
        "next": f"{net}.{far + 1}.0/24",
        "metric": f"{net}.{twice}.0/24",
        "single": f"{net}.{far}.{one}",
        "near": f"{net}.{far}.{two}",
        "beside": f"{net}.{far + 1}.{one}",
        "priced": f"{net}.{twice}.5",
        "away": f"198.51.100.{dice.number('away', 1, 250)}",
    }
    cables = ("1.1", "1.10", "2.0", "2.1", "2.10", "3.1", "3.2", "4.1", "4.2", "0.0")
    names = {f"10.20.{each}": f"{net}.{each}" for each in cables} | {
        "10.20.30.0": f"{net}.{far}.0",
        "10.20.30.40": words["single"],
        "10.20.30.41": words["near"],
        "10.20.31.40": words["beside"],
        "10.20.50.0": f"{net}.{twice}.0",
        "10.20.50.5": words["priced"],
        "10.20.66.0": f"{net}.{dead}.0",
        "10.20.67.0": f"{net}.{dead + 1}.0",
        "10.20.68.0": f"{net}.{dead + 2}.0",
        "198.51.100.9": words["away"],
    }
    return renamed("crossroads", names), words


def row(lab: Lab, destination: str) -> str:
    """The host's row that decides about a destination, or nothing."""
    steps = lab.copy().trace("host", destination).steps
    return next((s.because for s in steps if (s.place, s.stage) == ("host", "route")), "")


def prefix(text: str) -> IPv4Network:
    """The prefix of a row, or of an answer; EkslearnError if it is none."""
    try:
        return IPv4Network(text.replace("default", "0.0.0.0/0"))
    except ValueError as error:
        raise EkslearnError(
            f"{text[:40]!r} is no prefix: {str(error)[:80]}; one reads like 10.1.2.0/24, or default"
        ) from None


class WhichRow(Look):
    """Which row of the host's table decides?"""

    name = "how-a-route-is-chosen/which-row"
    place = "easy"
    beat = "the narrowest row wins"
    question = (
        "On **host**, `ip route show` prints\n\n```\n{table}\n```\n\nA packet goes to **{to}**."
        " Which row decides? Answer with the row's first word (a prefix, an address, or"
        " `default`)."
    )
    restated = "Several rows may hold {to}; one of them says the most about it."
    first_step = (
        "Strike out the rows whose prefix doesn't hold {to}. Of the rest, compare"
        " the numbers after the slash."
    )
    kinds: ClassVar[tuple[str, ...]] = ("single", "near", "beside", "away", "north")

    def vary(self, dice: Dice) -> Variant:
        """Another destination."""
        lab, words = draw(dice)
        table = lab.run("host", "ip route show").stdout.replace(" \n", "\n").rstrip()
        return Variant(
            lab=lab, words=words | {"to": words[dice.one("to", self.kinds)], "table": table}
        )

    def truth(self, variant: Variant) -> str:
        """The prefix of the row that decided."""
        found = row(variant.lab, variant.words["to"])
        return str(prefix(found.split()[0])) if found else "none"

    def read(self, variant: Variant, answer: str) -> str:
        """A prefix that stands in the table."""
        text = plain(answer).split(" ")[0]
        read = str(prefix(text))
        rows = [str(prefix(line.split()[0])) for line in variant.words["table"].splitlines()]
        if read not in rows:
            raise EkslearnError(f"{answer[:40]!r} isn't the first word of a row of this table")
        return read

    def back(self, variant: Variant, answer: str) -> str:
        """Too wide, the default, or a row that doesn't hold the address."""
        to = variant.words["to"]
        if answer == "0.0.0.0/0":
            return (
                "`default` is a prefix of no bits: it holds every address. Does a row with a"
                f" longer prefix hold {to}?"
            )
        if IPv4Address(to) in IPv4Network(answer):
            return f"{answer} holds {to}, that's true. Is there a narrower row that holds it too?"
        length = IPv4Network(answer).prefixlen
        return (
            f"Lay {answer} and {to} side by side: are their first {length} bits the same? All of"
            " them have to be."
        )

    def why(self, variant: Variant) -> str:
        """The row itself."""
        found = row(variant.lab, variant.words["to"])
        return f"`{found}` decides: no longer prefix of this table holds {variant.words['to']}."


class WhichOfFour(Look):
    """Four rows are written; length, metric and order pull in different directions."""

    name = "how-a-route-is-chosen/which-of-four"
    place = "end"
    beat = "the same prefix twice"
    restated = (
        "First the prefix, then the metric, and never the order in which the rows were written."
    )
    first_step = "Which of the four prefixes hold {to}? Keep only the longest of those."

    def vary(self, dice: Dice) -> Variant:
        """Other prefixes and metrics, in another order; in half of the variants one row goes."""
        lab, words = draw(dice)
        net = f"172.{dice.number('net', 16, 31)}"
        third, last = dice.number("third", 1, 250), dice.number("address", 2, 250)
        cheap = dice.number("cheap", 20, 90)
        dear, gone = cheap + dice.number("more", 10, 400), dice.number("gone", 0, 1)
        other_half = f"{net}.{third}.{0 if last >= 128 else 128}/25"
        rows = {
            "wide": f"{net}.0.0/16 via {{}} metric {dice.number('low', 1, 9)}",
            "cheap": f"{net}.{third}.0/24 via {{}} metric {cheap}",
            "dear": f"{net}.{third}.0/24 via {{}} metric {dear}",
            "beside": f"{other_half} via {{}} metric {dice.number('side', 1, 900)}",
        }
        words |= {"to": f"{net}.{third}.{last}", "gone": str(gone)}
        for letter, kind in dice.lettered("rows", list(rows)):
            gate = dice.one(f"gate/{kind}", (words["north"], words["south"]))
            words |= {letter: f"ip route add {rows[kind].format(gate)}", kind: letter}
        lines = [f"host$ {words[letter]}" for letter in "abcd"]
        if gone:
            words["del"] = words[words["cheap"]].replace("add", "del")
            lines.append(f"host$ {words['del']}")
        return Variant(lab=fault(lab, lines), words=words)

    def ask(self, words: Mapping[str, str]) -> str:
        """The question."""
        then = "and then `{del}`. " if words["gone"] == "1" else ""
        return (
            "On **host** somebody runs, in this order,\n\n- a: `{a}`\n- b: `{b}`\n- c: `{c}`\n-"
            f" d: `{{d}}`\n\n{then}Which of the four rows decides about a packet to **{{to}}**?"
            " Answer with its letter."
        ).format_map(words)

    def truth(self, variant: Variant) -> str:
        """The letter of the row that decided."""
        decided = set(row(variant.lab, variant.words["to"]).split())
        found = [x for x in "abcd" if set(variant.words[x].split()[3:]) <= decided]
        return "".join(found) or "none"

    def read(self, variant: Variant, answer: str) -> str:
        """One letter."""
        read = letters(answer)
        if len(read) != 1:
            raise EkslearnError("one row decides, so answer with one letter")
        return read

    def back(self, variant: Variant, answer: str) -> str:
        """Metric before length, a row that doesn't hold, the dearer one, the deleted one."""
        words = variant.words
        if answer == words["wide"]:
            return (
                "Its metric is the lowest of all. But what does the kernel compare first, the"
                " prefix or the price?"
            )
        if answer == words["beside"]:
            return (
                f"Its prefix is the longest. Does it hold {words['to']}? Which addresses does a"
                " /25 hold?"
            )
        if answer == words["cheap"]:
            return "That row would have won. Is it still in the table?"
        return "Two rows have this prefix. Is a metric a price, or a prize?"

    def why(self, variant: Variant) -> str:
        """The row as the kernel prints it."""
        return f"The kernel says: `{row(variant.lab, variant.words['to'])}`."


class WhatMoves(Letters):
    """Rows are deleted. Which packets take another way now?"""

    name = "how-a-route-is-chosen/what-moves"
    place = "end"
    beat = "break it on purpose"
    question = (
        "The crossroads again, with other addresses (`.lab` is healthy; look at the table of"
        " `host`). On **host** somebody runs `{gone}`. Which of these packets from host now"
        " leave by another interface than before, or not at all?\n\n- a: to {a}\n- b: to {b}\n-"
        " c: to {c}\n- d: to {d}\n\nAnswer with letters, as in `a c`, or `none`."
    )
    restated = (
        "A deleted row matters to the packets it decided about, and to no others. Where one"
        " decided, the next longest prefix takes over."
    )
    first_step = (
        "Take a, to {a}: note its row and interface, cross out the deleted rows, and look again."
    )
    rows: ClassVar[tuple[str, ...]] = (
        "{single}",
        "{narrow}",
        "{wide}",
        "{metric} metric 100",
        "default",
    )

    def vary(self, dice: Dice) -> Variant:
        """One row or two, and four of five destinations."""
        lab, words = draw(dice)
        count = dice.number("count", 1, 2)
        gone = [each.format_map(words) for each in dice.order("gone", self.rows)[:count]]
        kinds = dice.lettered("to", ["single", "near", "beside", "priced", "away"])
        words |= {letter: words[kind] for letter, kind in kinds}
        words["gone"] = "` and `".join(f"ip route del {each}" for each in gone)
        words["first"], words["last"] = gone[0], gone[-1]
        return Variant(lab=lab, words=words)

    def exit(self, lab: Lab, destination: str) -> str:
        """The interface a packet leaves by."""
        seen = [s for s in lab.copy().trace("host", destination).request if s.place == "host"]
        return seen[0].interface if seen else "none"

    def after(self, variant: Variant) -> Lab:
        """The lab without the rows."""
        rows = dict.fromkeys((variant.words["first"], variant.words["last"]))
        return fault(variant.lab, [f"host$ ip route del {each}" for each in rows])

    def truth(self, variant: Variant) -> str:
        """Every packet, sent before and after."""
        words, after = variant.words, self.after(variant)
        return "".join(
            x for x in "abcd" if self.exit(variant.lab, words[x]) != self.exit(after, words[x])
        )

    def about(self, variant: Variant, wrong: str, *, chosen: bool) -> str:
        """Overlooked, untouched, or taken over."""
        words = variant.words
        said = f"About {wrong}, to {words[wrong]}:"
        if not chosen:
            return f"{said} which row decided before, and is it still there?"
        if row(variant.lab, words[wrong]) == row(self.after(variant), words[wrong]):
            return f"{said} did a deleted row ever decide about it?"
        return f"{said} another row takes over, true. By which interface does that one send?"

    def why(self, variant: Variant) -> str:
        """What decides afterwards about each."""
        after = self.after(variant)
        told = [f"{x}: `{row(after, variant.words[x]) or 'no row'}`" for x in "abcd"]
        return f"Now these rows decide: {'; '.join(told)}."


class MendTheCrossroads(Mend):
    """A part of the town can't be reached any more; mend it."""

    name = "how-a-route-is-chosen/mend-the-crossroads"
    place = "open"
    beat = "three ways of saying no"
    question = (
        "At this crossroads the town answers for {single}, {near}, {beside}, {priced} and"
        " {away}, on port 80, but **host** doesn't reach them all any more. Find the fault"
        " (`.lab` is the broken crossroads) and mend it: give the lines to run, each as"
        " `PLACE$ COMMAND`, for instance `host$ ip route show`."
    )
    restated = (
        "One row too many, one too few, or one that points at nobody: on host, on a router, or"
        " in the town, for the way back."
    )
    first_step = (
        "Trace from host to each of the five addresses. If a request reaches the town and the"
        " answer doesn't come, look at the town's table; start with {near}."
    )
    faults = (
        ("host$ ip route add blackhole {near}",),
        ("host$ ip route add unreachable {half}",),
        ("host$ ip route del default",),
        ("host$ ip route replace {single} via {nobody}",),
        ("host$ ip route add 128.0.0.0/1 via {nobody}",),
        ("south$ ip route add prohibit {next}",),
        ("south$ ip route del default", "south$ ip route add blackhole default"),
        ("town$ ip route del default",),
    )
    dangers = (
        (r"\bflush\b", "A flush takes every row, the good ones as well. Which single row is wrong"
         " or missing?"),
        (r"host\$ .*\baddr(ess)?\b\s+(add|replace)", "Then the host would answer itself, and nobody"
         " would ever reach the town. Whose addresses are these?"),
        (r"\blink\b.*\b(down|del(ete)?)\b", "That takes a whole road away. Is the cable at fault,"
         " or what a table says about it?"),
        (r"SNAT|DNAT|MASQUERADE", "Did anything on this way change addresses before? Which row is"
         " at fault?"),
    )  # fmt: skip

    def vary(self, dice: Dice) -> Variant:
        """One of eight faults, in other prefixes."""
        return self.broken(dice, *draw(dice))

    def flows(self, words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """The host to every address of the town."""
        kinds = ("single", "near", "beside", "priced", "away")
        return tuple(("host", f"{words[kind]}:80/tcp") for kind in kinds)

    def look(self, words: Mapping[str, str], source: str, destination: str) -> str:
        """Where to look next."""
        return (
            f"What does `.lab.trace({source!r}, {destination!r})` say last? On that machine, which"
            " row decided, and should it?"
        )


EXERCISES: Sequence[Exercise] = (WhichRow(), WhichOfFour(), WhatMoves(), MendTheCrossroads())
