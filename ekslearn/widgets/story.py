"""A walk as data: every step in words, with its rows, header and spot in the picture.

Plain functions of a trace and a layout, so that the words can be tested without a browser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ekslearn.draw.journey import Stop, journey
from ekslearn.draw.words import verdict

if TYPE_CHECKING:
    from ekslearn.draw import Drawing
    from ekslearn.trace import Sighting, Step, Trace

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
FIELDS = ("source", "destination", "protocol", "TTL", "mark")


def icmp_words(icmp: Any) -> str:
    """What an ICMP type and code are called.

    >>> icmp_words((8, 0)), icmp_words((42, 1))
    ('echo request', 'type 42 code 1')
    """
    pair = (int(icmp[0]), int(icmp[1]))
    return ICMP.get(pair, f"type {pair[0]} code {pair[1]}")


def header_of(event: Step | Sighting) -> dict[str, str]:
    """The packet's header at an event, as texts by field."""
    raw: dict[str, Any] = (
        dict(event.header)
        if hasattr(event, "header")
        else {
            name: getattr(event, name)
            for name in ("src", "sport", "dst", "dport", "protocol", "ttl", "icmp")
        }
    )

    def end(address: str, port: str) -> str:
        number = raw.get(port)
        return f"{raw[address]}" + (f":{number}" if number is not None else "")

    found = {
        "source": end("src", "sport"),
        "destination": end("dst", "dport"),
        "protocol": str(raw.get("protocol", "")),
        "TTL": str(raw.get("ttl", "")),
    }
    if raw.get("icmp"):
        found["protocol"] += f", {icmp_words(raw['icmp'])}"
    if raw.get("mark"):
        found["mark"] = hex(int(raw["mark"]))
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
    if hasattr(event, "stage"):
        return f"{event.place}, {event.stage}: {event.decision}"
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


def stop_data(stop: Stop, before: Stop | None) -> dict[str, Any]:
    """One stop as the browser gets it."""
    event = stop.event
    same = before is not None and before.event.leg == event.leg
    header = changes(header_of(before.event) if same and before else None, header_of(event))
    data: dict[str, Any] = {
        "leg": event.leg,
        "place": event.place,
        "words": sentence(event),
        "leg_words": event.leg.capitalize(),
        "at": point(stop.at),
        "way": [point(spot) for spot in stop.way],
        "marks": [mark for mark in stop.marks if not mark.startswith("link-")],
        "header": header,
        "passed_over": list(getattr(event, "passed_over", ())),
    }
    if hasattr(event, "stage"):
        rows, lit = list(event.rows), event.lit
        if not rows and event.because:
            rows, lit = [event.because], 0
        caption = f"{event.place}$ {event.show}" if event.show else f"{event.place}: {event.stage}"
        note = "No row of this listing matched." if rows and lit is None else ""
        return data | {
            "kind": "step",
            "tag": -17,
            "rows": rows,
            "lit": lit,
            "caption": caption,
            "note": note,
        }
    verb = "out of" if event.direction == "out" else "into"
    line = [f"{name} {value}" for name, value in header_of(event).items()]
    return data | {
        "kind": "sighting",
        "tag": 25,
        "rows": [],
        "lit": None,
        "caption": f"On the wire: {verb} {event.interface} of {event.place}",
        "note": "What a capture on this interface shows.",
        "line": ", ".join(line),
    }


def walk_data(trace: Trace, drawing: Drawing, title: str) -> dict[str, Any]:
    """Everything the player needs, once: the picture, the stops and the verdict."""
    stops = journey(drawing.layout, trace)
    found = [stop_data(stop, stops[n - 1] if n else None) for n, stop in enumerate(stops)]
    end = (
        dict(found[-1])
        if found
        else {"leg": "request", "at": [0, 0], "marks": [], "header": [], "place": "", "tag": -17}
    )
    found.append(
        end
        | {
            "kind": "end",
            "way": [end["at"]],
            "leg_words": "The end",
            "words": verdict(trace),
            "rows": [],
            "lit": None,
            "passed_over": [],
            "note": "",
            "caption": "The packet at last",
        }
    )
    for stop in found:
        stop.pop("line", None)
    mark, word = verdict(trace).split(":")[0].split(" ", 1)
    return {
        "title": title,
        "label": f"Packet walk, {title}",
        "about": trace.scenario,
        "verdict": f"{mark} {word}",
        "svg": drawing.svg,
        "stops": found,
        "width": round(drawing.layout.width),
    }


def point(at: tuple[float, float]) -> list[float]:
    """A point rounded to what a screen can show."""
    return [round(at[0], 1), round(at[1], 1)]
