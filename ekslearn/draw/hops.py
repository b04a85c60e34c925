"""The headers of a trace, wire by wire and in both directions, and who changed them.

Everything is read from sightings and steps; no address is known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import wrap
from typing import TYPE_CHECKING

from ekslearn.trace import Sighting, Step

if TYPE_CHECKING:
    from ekslearn.trace import Trace

ARROW = "\N{RIGHTWARDS ARROW}"
COLUMNS = 76  # what a page of 800 pixels shows of a line of text
SENT, CAME = "from", "to"  # a wire of which one end alone shows this header
GATES = {"vpc igw": "internet gateway, one to one", "vpc nat": "NAT gateway"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One header on one wire.

    ``start`` and ``end`` are "PLACE INTERFACE"; one is empty where the VPC changed the header on
    the way. ``by`` says what changed it since the hop before, ``changed`` which of "src" and "dst".
    """

    leg: str
    src: str
    dst: str
    start: str = ""
    end: str = ""
    by: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def wire(self) -> str:
        """Where it was seen."""
        if self.start and self.end:
            return f"{self.start} {ARROW} {self.end}"
        return f"{SENT} {self.start}" if self.start else f"{CAME} {self.end}"

    @property
    def who(self) -> str:
        """Who changed it."""
        return "; ".join(self.by)


@dataclass(slots=True)
class _Reader:
    found: list[Hop] = field(default_factory=list)
    by: list[str] = field(default_factory=list)

    def see(self, seen: Sighting) -> None:
        """A packet passed an interface."""
        where = f"{seen.place} {seen.interface}"
        src, dst = _end(seen.src, seen.sport), _end(seen.dst, seen.dport)
        last = self.found[-1] if self.found else None
        same = last is not None and (last.leg, last.src, last.dst) == (seen.leg, src, dst)
        if last and same and seen.direction == "in" and last.start and not last.end:
            self.found[-1] = _hop(last, end=where)
            return
        before = last if last and last.leg == seen.leg else None
        changed = [name for name, now, then in (("src", src, before and before.src),
                                                ("dst", dst, before and before.dst))
                   if then and now != then]  # fmt: skip
        sides = {"end" if seen.direction == "in" else "start": where}
        self.found.append(Hop(leg=seen.leg, src=src, dst=dst, changed=tuple(changed),
                              by=tuple(self.by) if changed else (), **sides))  # fmt: skip
        self.by.clear()


def _hop(hop: Hop, *, end: str) -> Hop:
    return Hop(leg=hop.leg, src=hop.src, dst=hop.dst, start=hop.start, end=end, by=hop.by,
               changed=hop.changed)  # fmt: skip


def _end(address: str, port: int | None) -> str:
    return address if port is None else f"{address}:{port}"


def changes(step: Step) -> Iterator[str]:
    """Who changed the header in a step, and how."""
    place, stage, said = step.place, step.stage, step.decision
    if stage in GATES and said.startswith("rewrite"):
        yield GATES[stage]
    elif stage == "elb rewrite":
        yield f"{place}, {step.because}"
    elif stage == "elb return":
        mark = " [model]" if "[model]" in step.because else ""
        yield f"{place}, by the flow's state{mark}"
    elif stage == "elb connection":
        yield f"{place} opens a second connection; {step.because}"
    elif stage == "elb answer":
        yield f"{place} answers on the first connection"
    elif stage.startswith("nat ") and said.startswith("bind the connection's "):
        kind = "DNAT" if "destination" in said else "SNAT"
        yield f"{place}, {kind} in {step.because.split()[1]}"
    elif stage.startswith("conntrack") and step.leg == "reply" and said.startswith("rewrite"):
        kind = "SNAT" if "destination" in said else "DNAT"
        yield f"{place} undoes its {kind}"


def hops(trace: Trace) -> list[Hop]:
    """Each header of a trace, in order."""
    reader = _Reader()
    for event in trace.events:
        if isinstance(event, Sighting):
            reader.see(event)
        else:
            reader.by += changes(event)
    return reader.found


def admitted(trace: Trace) -> list[str]:
    """What each security group said of the request where it came in, or didn't."""
    return [step.because or f"{step.place}: {step.decision}" for step in trace.steps
            if step.stage == "vpc security group" and step.leg == "request"
            and not step.decision.startswith("egress: admitted")]  # fmt: skip


def header_table(trace: Trace) -> str:
    """The headers as text, a line for each wire, under a line for each one who changed them."""
    found, lines = hops(trace), []
    for leg in ("request", "reply"):
        mine = [hop for hop in found if hop.leg == leg]
        width = max((len(hop.src) for hop in mine), default=0)
        far = max((len(hop.dst) for hop in mine), default=0)
        lines += [f"{leg}:"] if mine else []
        for hop in mine:
            for change in hop.by:
                lines += wrap(change, COLUMNS, initial_indent="  ", subsequent_indent="    ")
            lines.append(f"{hop.src:{width}} -> {hop.dst:{far}}  {hop.wire}")
    return "\n".join([*lines, f"{trace.verdict}: {trace.reason}"])
