"""Which rows of the listings a command changed: the listings before, after, and the difference."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ekslearn.cluster import Lab

SHOWN = ("ip addr show", "ip rule show", "ip neigh show", "iptables-save")
NFT = "nft list tables"
Listings = dict[tuple[str, str], tuple[str, ...]]


def listings(lab: Lab) -> Listings:
    """What every place's listings say now; looking adds nothing to the lab's own lines."""
    from ekslearn.tools import run, table_name

    found: Listings = {}
    for place in lab.places:
        namespace = lab.namespace(place)
        names = ["main", *(table_name(number) for number in sorted(namespace.routing.tables))]
        tables = [f"ip route show table {name}" for name in dict.fromkeys(names)]
        tables += [f"nft -s list {table}" for table in run(namespace, NFT).stdout.splitlines()]
        for show in (*SHOWN, *tables):
            # Nothing comes of nft's view of a table that iptables-save has shown.
            rows = [line.strip() for line in run(namespace, show).stdout.splitlines()]
            show = show.removesuffix(" table main")
            found[place, show] = tuple(row for row in rows if row[:1] != "#")  # dates, no state
    return found


def changed(before: Listings, after: Listings) -> list[dict[str, Any]]:
    """One item per listing that differs: its words, and its rows marked ``-`` or ``+``."""
    found = []
    for place, show in {**before, **after}:
        rows = after.get((place, show), ())
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
