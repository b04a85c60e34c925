"""Which rows of the listings a command changed: the listings before, after, and the difference."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ekslearn.cluster import Lab

SHOWN = ("ip addr show", "ip route show", "ip neigh show", "ip rule show")
Listings = dict[tuple[str, str], tuple[str, ...]]


def listings(lab: Lab) -> Listings:
    """What every place's listings say now; looking adds nothing to the lab's own lines."""
    from ekslearn.tools import run

    return {
        (place, show): tuple(
            line.strip() for line in run(lab.namespace(place), show).stdout.splitlines()
        )
        for place in lab.places
        for show in SHOWN
    }


def changed(before: Listings, after: Listings) -> list[dict[str, Any]]:
    """One item per listing that differs: its words, and its rows marked ``-`` or ``+``."""
    found = []
    for (place, show), rows in after.items():
        diff = [
            [line[0], line[2:]]
            for line in difflib.ndiff(before.get((place, show), ()), rows)
            if line[0] in "-+"
        ]
        if diff:
            lost = sum(sign == "-" for sign, _ in diff)
            found.append(
                {"rows": diff, "words": f"{place}$ {show}: {tally(lost, len(diff) - lost)}"}
            )
    return found


def tally(lost: int, new: int) -> str:
    """How many rows went and came, in words.

    >>> tally(1, 0), tally(1, 2)
    ('1 row gone', '1 row gone, 2 rows new')
    """
    parts = [
        f"{number} row{'' if number == 1 else 's'} {word}"
        for number, word in ((lost, "gone"), (new, "new"))
        if number
    ]
    return ", ".join(parts)
