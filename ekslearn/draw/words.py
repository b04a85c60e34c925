"""The same picture in words: for screen readers, for printed pages, and for comparing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ekslearn.cluster import Cluster
from ekslearn.draw.shown import count, shown, words_of

__all__ = ["count", "describe", "verdict"]

if TYPE_CHECKING:
    from ekslearn.cluster import Lab
    from ekslearn.trace import Trace


def describe(lab: Lab, *, trace: Trace | None = None, show: Iterable[str] = ()) -> str:
    """Every place, interface, address and cable that the picture of ``lab`` shows.

    ``show`` names places that a picture of a large cluster has to show.
    """
    lines = words_of(shown(lab, show)) if isinstance(lab, Cluster) else lab_lines(lab)
    if trace is not None:
        lines.append(f"  drawn in: {verdict(trace)}")
    return "\n".join(lines)


def lab_lines(lab: Lab) -> list[str]:
    """The same for bare namespaces."""
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
    return lines + [f"  veth: {a[1]} in {a[0]} = {b[1]} in {b[0]}" for a, b in sorted(pairs)]


def verdict(trace: Trace) -> str:
    """How the walk ended: a mark, the word, and the reason."""
    mark = "\N{CHECK MARK}" if trace.verdict == "delivered" else "\N{BALLOT X}"
    return f"{mark} {trace.verdict.upper()}: {trace.reason}"
