"""The same picture in words: for screen readers, for printed pages, and for comparing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ekslearn.cluster import Lab
    from ekslearn.trace import Trace


def count(number: int, noun: str) -> str:
    """``2 veth pairs``: a number with its noun.

    >>> count(1, "veth pair"), count(2, "veth pair")
    ('1 veth pair', '2 veth pairs')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")


def describe(lab: Lab, *, trace: Trace | None = None) -> str:
    """Every place, interface, address and cable that the picture of ``lab`` shows."""
    order = {place: n for n, place in enumerate(lab.places)}
    pairs = [sorted(pair, key=lambda end: (order[end[0]], end[1])) for pair in lab.links()]
    lines = [
        f"{lab.name}: {count(len(lab.places), 'network namespace')},"
        f" {count(len(pairs), 'veth pair')}"
    ]
    for place in lab.places:
        shown = []
        for name, link in lab.namespace(place).links.items():
            words = [name, *(str(address.interface) for address in link.addresses)]
            shown.append(" ".join([*words, *([] if link.up else ["DOWN"])]))
        lines.append(f"  netns {place}: " + "; ".join(shown))
        lines += [
            f"    listens: {one.address}:{one.port}/{one.protocol}"
            + (f" ({one.process})" if one.process else "")
            for one in lab.namespace(place).sockets.listeners
        ]
    lines += [f"  veth: {a[1]} in {a[0]} = {b[1]} in {b[0]}" for a, b in sorted(pairs)]
    if trace is not None:
        lines.append(f"  drawn in: {verdict(trace)}")
    return "\n".join(lines)


def verdict(trace: Trace) -> str:
    """How the walk ended: a mark, the word, and the reason."""
    mark = "\N{CHECK MARK}" if trace.verdict == "delivered" else "\N{BALLOT X}"
    return f"{mark} {trace.verdict.upper()}: {trace.reason}"
