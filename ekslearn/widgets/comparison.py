"""Every mode of coming in on one page: what an engineer keeps open at work.

Each line is a row of ``ekslearn.ingress_table``, read off a trace.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from itertools import count

from ekslearn.draw.display import show
from ekslearn.ingress_table import Row
from ekslearn.widgets.modes import NAMES, Way, some, translated

HEADS = ("way in", "policy", "pod sees", "application reads", "DNAT by", "SNAT by", "nodes passed")
# Written on each cell: a page of lessons has styles of its own for tables.
CELL = "text-align:left;vertical-align:top;padding:3px 5px;background:#fff"
RULED = CELL + ";border-bottom:1px solid #c9c9c9"
NAME = CELL + ";min-width:112px"  # the longest in three lines where the page is narrow
QUIET = RULED + ";color:#5c5c5c"
WHOLE = "white-space:nowrap"  # a name isn't broken at its hyphens
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
        heads = "".join(f'<th scope="col" style="{RULED}">{head}</th>' for head in HEADS)
        body = "".join(
            "<tr>" + "".join(map(ruled, cells(*line), count())) + "</tr>"
            f'<tr><td colspan="{len(HEADS)}" style="{QUIET}">{under(line[2])}</td></tr>'
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


def ruled(cell: str, column: int) -> str:
    """One cell as HTML; the first column holds names."""
    return f'<td style="{CELL if column else NAME}">{cell}</td>'


def cells(name: str, policy: str, row: Row) -> list[str]:
    """A line as HTML."""
    reads = row.reads if row.reads != "nothing" else ""
    lines = [name, policy, row.pod_sees or row.verdict, reads or "–", some(row.dnat),
             some(row.snat), some(row.nodes)]  # fmt: skip
    told = [" ".join(f'<span style="{WHOLE}">{html.escape(word)}</span>' for word in line.split())
            for line in lines]  # fmt: skip
    return [f"<b>{told[0]}</b>", *told[1:]]


def under(row: Row) -> str:
    """Who has to admit whom, and why nothing came, as HTML: broken between rules, if it can be."""
    told = [*map(rule_of, row.admits), *([row.reason] if row.reason else [])]
    return "; ".join(f'<span style="display:inline-block">{html.escape(each)}</span>'
                     for each in told)  # fmt: skip
