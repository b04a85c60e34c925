"""SubnetView: a subnet as a bitmap, one cell an address.

Like a walk it is shown as HTML that carries its own player: moving about and looking for a free
/28 need no kernel.
"""

from __future__ import annotations

import html
from collections import Counter
from ipaddress import AddressValueError, IPv4Address
from itertools import groupby
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from ekslearn.draw.display import folded, show
from ekslearn.draw.shown import count
from ekslearn.errors import EkslearnError
from ekslearn.vpc.subnet import BLOCK, PREFIX
from ekslearn.widgets.page import module, paragraph, standalone
from ekslearn.widgets.subnet_map import KINDS, SHORT, SubnetMap, subnet_map

if TYPE_CHECKING:
    from ekslearn.cluster import Cluster
    from ekslearn.vpc.model import Vpc
    from ekslearn.vpc.subnet import Subnet

WIDE, HIGH = 64, 40  # the still: addresses in a row; lines at most


class SubnetView(anywidget.AnyWidget):
    """The map of a subnet; ``at`` is the place of the chosen address, from 0."""

    _esm = module("subnet_view")
    map_data = traitlets.Dict().tag(sync=True)
    at = traitlets.Int(0).tag(sync=True)

    def __init__(
        self, where: Cluster | Vpc | Subnet, name: str | None = None, address: str | None = None
    ) -> None:
        self.where, self.name = where, name
        self.map: SubnetMap = subnet_map(where, name)
        super().__init__(map_data=data_of(self.map), at=self._place(address))

    @traitlets.validate("at")
    def _within(self, proposal: dict[str, Any]) -> int:
        return max(0, min(int(proposal["value"]), len(self.map.letters) - 1))

    def _place(self, address: str | None) -> int:
        if address is None:
            return 0
        try:
            offset = int(IPv4Address(address)) - self.map.base
        except AddressValueError:
            raise EkslearnError(f"{address[:40]!r} isn't an IPv4 address") from None
        if not 0 <= offset < len(self.map.letters):
            raise EkslearnError(f"{address} isn't in {self.map.name} {self.map.cidr}")
        return offset

    @property
    def now(self) -> str:
        """The chosen address in a sentence."""
        return self.map.says(self.at)

    @property
    def words(self) -> str:
        """The whole subnet as text."""
        return "\n".join(self.map.words)

    def follow(self, cluster: Cluster) -> str:
        """Look again, after a shell's command or in a later cell; say what is free."""
        self.where = cluster
        self.map = subnet_map(cluster, self.name)
        self.map_data = data_of(self.map)
        return f"{self.map.name}: {self.map.room}"

    def fallback(self) -> str:
        """The map as letters, for where scripts don't run."""
        found = self.map
        starts = range(0, len(found.letters), WIDE)
        rows = []
        for line, same in groupby(starts, lambda at: found.letters[at : at + WIDE]):
            first, *more = same
            cells = " ".join(line[at : at + BLOCK] for at in range(0, len(line), BLOCK))
            rows.append(f"{found.address(first):15} {cells}")
            rows += [f"{'':15} and {count(len(more), 'row')} more of the same"] if more else []
        left = len(rows) - HIGH
        rows = [*rows[:HIGH], *([f"and {left} more lines"] if left > 0 else [])]
        key = "; ".join(f"{letter} {KINDS[letter]}" for letter in KINDS if letter in found.letters)
        return (
            paragraph(f"{found.title}; {found.tally}. {found.room}.")
            + f"<pre>{html.escape(chr(10).join(rows))}</pre>"
            + paragraph(f"{key}.")
        )

    def html(self) -> str:
        """The map as HTML that works by itself, at the chosen address."""
        return standalone("subnet_view", self.map_data, step=self.at, fallback=self.fallback())

    def __repr__(self) -> str:
        """Short, and the same on every run."""
        return f"<SubnetView of {self.map.name} {self.map.cidr}>"

    def _ipython_display_(self) -> None:
        told = folded(self.words, "The subnet as text")
        show(self.html() + told, repr(self), self.words)


def data_of(found: SubnetMap) -> dict[str, Any]:
    """The map as the browser gets it."""
    tally = Counter(found.letters)
    return {
        "title": found.title,
        "label": f"Addresses of {found.name} {found.cidr}",
        "about": found.tally.partition(":")[0],
        "base": found.base,
        "block": BLOCK,
        "length": PREFIX,
        "letters": found.letters,
        "owners": {str(offset): words for offset, words in found.owners.items()},
        "blocks": list(found.blocks),
        "room": found.room[0].upper() + found.room[1:] + ".",
        "kinds": [[letter, SHORT[letter], tally[letter], words]
                  for letter, words in KINDS.items() if tally[letter]],
    }  # fmt: skip


def subnet_view(
    where: Cluster | Vpc | Subnet, name: str | None = None, *, address: str | None = None
) -> SubnetView:
    """See every address of a subnet, one cell each: whose it is, and where a /28 still fits.

    ``where`` is a cluster, a VPC or a subnet; ``name`` is the subnet's (the first one), and
    ``address`` the one to begin at. Raises EkslearnError for what isn't there.
    """
    return SubnetView(where, name, address)
