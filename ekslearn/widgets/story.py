"""A walk as data: every step in words, with its rows, header and spot in the picture.

Plain functions of a trace and a layout, so that the words can be tested without a browser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ekslearn.draw.grammar import LEAST
from ekslearn.draw.journey import Stop, by_aws, journey
from ekslearn.draw.words import verdict
from ekslearn.trace import Sighting, Step, Trace

if TYPE_CHECKING:
    from ekslearn.draw import Drawing

# ICMP types and codes a learner meets (RFC 792); anything else is given by its numbers.
ICMP = {
    (8, 0): "echo request",
    (0, 0): "echo reply",
    (3, 0): "net unreachable",
    (3, 1): "host unreachable",
    (3, 3): "port unreachable",
    (3, 4): "fragmentation needed",
    (3, 13): "administratively prohibited",
    (5, 0): "redirect",
    (5, 1): "redirect host",
    (11, 0): "time to live exceeded",
}
AWS = "AWS as documented"  # no kernel can confirm what follows
FIELDS = ("source", "destination", "protocol", "TTL", "mark")


def icmp_words(icmp: Any) -> str:
    """What an ICMP type and code are called.

    >>> icmp_words((8, 0)), icmp_words((42, 1))
    ('echo request', 'type 42 code 1')
    """
    pair = (int(icmp[0]), int(icmp[1]))
    return ICMP.get(pair, f"type {pair[0]} code {pair[1]}")


def header_of(event: Step | Sighting) -> dict[str, str]:
    """The packet's header at an event, as texts by field; empty where there is no packet."""
    raw: dict[str, Any] = vars_of(event)
    if not raw:
        return {}

    def end(address: str, port: str) -> str:
        number, known = raw.get(port), str(raw[address])
        known = "none yet" if known == "0.0.0.0" else known
        return known + (f":{number}" if number is not None else "")

    found = {
        "source": end("src", "sport"),
        "destination": end("dst", "dport"),
        "protocol": str(raw["protocol"]),
        "TTL": str(raw["ttl"]),
    }
    if raw.get("icmp"):
        found["protocol"] += f" {icmp_words(raw['icmp'])}"
    if raw.get("flags"):
        found["protocol"] += f" {raw['flags']}"
    if "mark" in raw:  # a capture doesn't show marks: they never leave the machine
        found["mark"] = hex(raw["mark"]) if raw["mark"] else ""
    return found


def vars_of(event: Step | Sighting) -> dict[str, Any]:
    """The header's fields as the trace has them."""
    if isinstance(header := getattr(event, "header", None), dict):
        return header
    names = ("src", "sport", "dst", "dport", "protocol", "ttl", "icmp", "flags")
    return {name: getattr(event, name) for name in names}


def headers(trace: Trace) -> list[dict[str, str]]:
    """The header at every event; what an event doesn't tell is as it was before."""
    found: list[dict[str, str]] = []
    for number, event in enumerate(trace.events):
        same = number > 0 and trace.events[number - 1].leg == event.leg
        found.append((found[-1] if same else {}) | header_of(event))
    return found


def changes(before: dict[str, str] | None, after: dict[str, str]) -> list[list[str]]:
    """Rows ``[field, old value or "", value]``; ``old`` only where a step changed it."""
    rows = []
    for name in FIELDS:
        value, old = after.get(name, ""), (before or after).get(name, "")
        if value or old:
            rows.append([name, "" if value == old else old or "none", value or "none"])
    return rows


def sentence(event: Step | Sighting) -> str:
    """One event as one sentence."""
    if isinstance(event, Step):
        where = f"{AWS}, {event.stage}" if by_aws(event) else f"{event.place}, {event.stage}"
        return f"{where}: {event.decision}"
    way = "leaves by" if event.direction == "out" else "comes in on"
    header = header_of(event)
    return (
        f"{event.place}: {way} {event.interface}: {header['source']} \N{RIGHTWARDS ARROW}"
        f" {header['destination']}, {header['protocol']}, TTL {header['TTL']}"
    )


def lines_of(trace: Trace) -> list[str]:
    """The whole walk, one line per event, the verdict last."""
    found, before = [], ""
    for number, event in enumerate(trace.events, 1):
        if event.leg != before:
            found.append(f"{event.leg}:")
            before = event.leg
        found.append(f"{number:4d}  {sentence(event)}")
        because = getattr(event, "because", "")
        if because and because not in found[-1]:
            found.append(f"      \N{BLACK RIGHT-POINTING TRIANGLE} {because}")
    return [*found, verdict(trace)]


def in_balancer(event: Step | Sighting) -> bool:
    """Whether it happens in a load balancer, lb/NAMESPACE/NAME, where nobody can look."""
    return event.place.startswith("lb/") and event.place.count("/") == 2


def stop_data(stop: Stop, before: dict[str, str] | None, now: dict[str, str]) -> dict[str, Any]:
    """One stop as the browser gets it; ``before`` and ``now`` are the packet's headers."""
    event = stop.event
    if by_aws(event):  # a mark never leaves its machine: that it is gone is no news here
        before, now = before and {**before, "mark": ""}, {**now, "mark": ""}
    data: dict[str, Any] = {
        "leg": event.leg,
        "leg_words": event.leg.capitalize(),
        "words": sentence(event),
        "at": point(stop.at),
        "way": [point(spot) for spot in stop.way],
        "marks": list(stop.marks),
        "header": changes(before, now),
        "note": "",
        "rows": [],
        "lit": None,
        "others": [],
        "passed_over": [],
        "kind": "sighting",
    }
    if not isinstance(event, Step):
        verb = "out of" if event.direction == "out" else "into"
        return data | {
            "caption": f"On the wire: {verb} {event.interface} of {event.place}",
            "note": f"{AWS}: nobody can capture there."
            if in_balancer(event)
            else "What a capture on this interface shows.",
        }
    rows, lit = list(event.rows), event.lit
    if not rows and event.because:
        rows, lit = [event.because], 0
    rows, others = part(rows, [event.because, *event.passed_over])
    lit = rows.index(event.because) if lit is not None and event.because in rows else lit
    caption = f"{event.place}$ {event.show}" if event.show else f"{event.place}: {event.stage}"
    caption = f"{AWS}: {event.place}, {event.stage}" if in_balancer(event) else caption
    caption = f"{AWS}: {event.stage}" if by_aws(event) else caption
    note = "No row of this listing matched." if rows and lit is None else ""
    return data | {
        "kind": "step",
        "rows": rows,
        "others": others,
        "lit": lit,
        "caption": caption,
        "note": note,
        "passed_over": list(event.passed_over),
    }


def chain_of(row: str) -> str:
    """The chain a row of ``iptables-save`` belongs to; empty for any other row.

    >>> chain_of("-A INPUT -p tcp -j DROP"), chain_of(":KUBE-SEP - [0:0]"), chain_of("default")
    ('INPUT', 'KUBE-SEP', '')
    """
    words = row.split()
    if words and words[0].startswith(":"):
        return words[0][1:]
    return words[1] if len(words) > 1 and words[0] == "-A" else ""


def part(rows: list[str], named: list[str]) -> tuple[list[str], list[str]]:
    """The rows of the chains that ``named`` rows belong to, and the others; else all and none."""
    chains = {chain_of(row) for row in named} - {""}
    if not chains:
        return rows, []
    kept = [row for row in rows if chain_of(row) in chains]
    return kept, [row for row in rows if chain_of(row) not in chains]


def walk_data(trace: Trace, drawing: Drawing, title: str) -> dict[str, Any]:
    """Everything the player needs, once: the picture, the stops and the verdict."""
    known, found = headers(trace), []
    for n, stop in enumerate(journey(drawing.layout, trace)):
        same = n > 0 and trace.events[n - 1].leg == trace.events[n].leg
        found.append(stop_data(stop, known[n - 1] if same else None, known[n]))
        found[-1]["tag"] = point(drawing.taken.free(stop.at, stop.event.leg))
    last = found[-1] if found else {"leg": "request", "at": [0.0, 0.0], "tag": [0.0, 0.0]}
    found.append(
        {
            "leg": last["leg"],
            "leg_words": "The end",
            "words": verdict(trace),
            "at": last["at"],
            "way": [last["at"]],
            "marks": last.get("marks", []),
            "kind": "end",
            "tag": last["tag"],
            "header": changes(None, known[-1]) if known else [],
            "note": "",
            "rows": [],
            "lit": None,
            "others": [],
            "passed_over": [],
            "caption": "The last packet" if known else "No packet was sent",
        }
    )
    mark, word = verdict(trace).split(":")[0].split(" ", 1)
    return {
        "title": title,
        "label": f"Packet walk, {title}",
        "about": trace.scenario,
        "verdict": f"{mark} {word}",
        "svg": drawing.svg,
        "stops": found,
        "width": round(drawing.layout.width),
        "least": round(drawing.layout.width * LEAST),
    }


def point(at: tuple[float, float]) -> list[float]:
    """A point rounded to what a screen can show."""
    return [round(at[0], 1), round(at[1], 1)]
