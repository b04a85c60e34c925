"""Every mode of coming in on one page: what an engineer keeps open at work.

Each line is a row of ``ekslearn.ingress_table``, read off a trace.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from ekslearn.draw.display import show
from ekslearn.ingress_table import Row
from ekslearn.widgets.modes import NAMES, Way, some, translated

HEADS = (
    "way in",
    "policy",
    "pod sees",
    "can read",
    "DNAT by",
    "SNAT by",
    "nodes passed",
    "who must admit",
)
# Written on each cell: a page of lessons has styles of its own for tables.
CELL = "text-align:left;vertical-align:top;padding:3px 6px;border-bottom:1px solid #c9c9c9"
KEPT = {"": "", "true": ", client preserved", "false": ", client not preserved"}


class Comparison:
    """``lines``: a mode's name, its policy ("any", where nobody asks it), and its row."""

    def __init__(self, ways: Iterable[Way], ports: Iterable[tuple[str, str, Row]]) -> None:
        found = [(name_of(way), way.choice[2], way.row) for way in ways
                 if way.row and wanted(way)]  # fmt: skip
        found += [(f"NodePort of {which}", policy, row) for policy, which, row in ports]
        merged: dict[tuple[str, Row], list[str]] = {}
        for name, policy, row in found:
            merged.setdefault((name, row), []).append(policy)
        self.lines = [(name, "any" if policies[1:] else policies[0], row)
                      for (name, row), policies in merged.items()]  # fmt: skip

    @property
    def words(self) -> str:
        """The page in sentences, one for each line."""
        return "\n".join(
            f"{name}, {policy}: {sees(row)}"
            + (f", can read {row.reads}" if row.reads else "")
            + f"; {translated(row)}; {'; '.join(map(rule_of, row.admits))}"
            for name, policy, row in self.lines
        )

    def html(self) -> str:
        """The page as one table."""
        heads = "".join(f'<th scope="col" style="{CELL}">{head}</th>' for head in HEADS)
        body = "".join(
            "<tr>" + "".join(f'<td style="{CELL}">{cell}</td>' for cell in cells(*line)) + "</tr>"
            for line in self.lines
        )
        return (
            '<table style="border-collapse:collapse;table-layout:auto;width:100%;font-size:12px">'
            f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        )

    def __repr__(self) -> str:
        """Short, and the same on every run."""
        return f"<Comparison of {len(self.lines)} ways in>"

    def _ipython_display_(self) -> None:
        show(self.html(), repr(self), self.words)


def wanted(way: Way) -> bool:
    """Whether the page has it: the pod isn't on the first node, and preservation is said."""
    balancer, _, _, preserve, pod = way.choice
    return pod == "far" and (balancer != "nlb" or preserve != "")


def name_of(way: Way) -> str:
    """A mode without its policy."""
    balancer, targets, _, preserve, _ = way.choice
    return f"{NAMES[balancer]} {targets}{KEPT[preserve]}"


def sees(row: Row) -> str:
    """Whose address the pod sees, or why nothing came."""
    return f"the pod sees {row.pod_sees}" if row.pod_sees else f"{row.verdict}, {row.reason}"


def rule_of(said: str) -> str:
    """A rule as a sentence: the group that has it, what it admits, and from whom.

    >>> rule_of("node: tcp 31380 k8s-traffic")
    'node admits tcp 31380 from k8s-traffic'
    """
    group, _, rule = said.partition(": ")
    what, _, whom = rule.rpartition(" ")
    return f"{group} admits {what} from {whom}"


def cells(name: str, policy: str, row: Row) -> list[str]:
    """A line as HTML."""
    came = row.pod_sees or f"{row.verdict}: {row.reason}"
    lines = [name, policy, came, row.reads or "–", some(row.dnat), some(row.snat), some(row.nodes)]
    admits = "<br>".join(html.escape(rule_of(each)) for each in row.admits)
    return [*map(html.escape, lines), admits]
