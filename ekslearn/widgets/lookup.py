"""RouteLookup: a destination against rules and tables, bit by bit, and why each row lost.

Every answer is the model's: the browser sends what stands in the fields and shows the words and
the table that come back. The same table is what a page without a kernel has.
"""

from __future__ import annotations

import html
import re
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from ekslearn.draw.display import Renew, show
from ekslearn.errors import EkslearnError
from ekslearn.linux import Flow
from ekslearn.widgets.decision import (
    ARROW,
    BITS,
    DECIDES,
    NOT_ASKED,
    Asked,
    RouteRow,
    Told,
    decide,
    lines_of,
)
from ekslearn.widgets.page import HERE, module

if TYPE_CHECKING:
    from ekslearn.cluster import Lab

OUTSIDE = "198.51.100.9"  # a documentation address (RFC 5737), where a lab has no other place
FIELDS = ("destination", "source", "iif", "mark")


class RouteLookup(anywidget.AnyWidget):
    """Set ``destination``, ``source``, ``iif`` or ``mark``; ``words`` says what came of it.

    What can't be read is answered by a sentence in ``wrong``, and then there is no table.
    """

    _esm = module("lookup", "lookup_table")
    title = traitlets.Unicode("").tag(sync=True)
    about = traitlets.Unicode("").tag(sync=True)
    links = traitlets.List(traitlets.Unicode()).tag(sync=True)
    destination = traitlets.Unicode("").tag(sync=True)
    source = traitlets.Unicode("").tag(sync=True)
    iif = traitlets.Unicode("").tag(sync=True)
    mark = traitlets.Union([traitlets.Int(), traitlets.Unicode()], default_value=0).tag(sync=True)
    wrong = traitlets.List(traitlets.Unicode()).tag(sync=True)  # field, sentence; or nothing
    said = traitlets.Unicode("").tag(sync=True)
    body = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        lab: Lab,
        place: str,
        destination: str | None = None,
        *,
        source: str | None = None,
        iif: str | None = None,
        mark: int | str = 0,
    ) -> None:
        self.lab, self.place = lab, place
        self.told: Told | None = None
        self._renew: Renew | None = None
        lab.namespace(place)
        super().__init__(
            title=f"Where does {place} send it?",
            about=lab.name,
            destination=elsewhere(lab, place) if destination is None else destination,
            source=source or "",
            iif=iif or "",
            mark=mark,
        )
        self.refresh()
        if self.wrong:
            raise EkslearnError(self.wrong[1])
        self.observe(lambda _: self.refresh(), names=list(FIELDS))
        self.on_msg(lambda _, message, __: self._hear(message))

    def refresh(self) -> None:
        """Decide again, with the lab as it is now."""
        namespace = self.lab.namespace(self.place)
        self.told, wrong = None, []
        try:
            self.told = decide(namespace, self._flow())
        except Misread as error:
            wrong = [error.field, str(error)]
        with self.hold_sync():
            self.links = [name for name in namespace.links if name != "lo"]
            self.wrong = wrong
            told = self.told
            self.said = " ".join(filter(None, (told.said, told.but))) if told else wrong[1]
            self.body = body_of(told) if told else ""

    def follow(self, lab: Lab) -> str:
        """Decide again after a shell's command; the sentence is shown below the command."""
        self.lab = lab
        self.refresh()
        return self.said

    def _flow(self) -> Flow:
        iif = self.iif.strip() or "lo"
        if iif not in self.lab.namespace(self.place).links:
            there = ", ".join(self.links)
            raise Misread("iif", f"{self.place} has no interface {iif[:40]!r}; it has {there}")
        return Flow(
            self._address("destination", self.destination),
            self._address("source", self.source) if self.source.strip() else IPv4Address(0),
            iif,
            mark=mark_of(self.mark),
        )

    def _address(self, field: str, text: str) -> IPv4Address:
        text = text.strip()
        try:
            return IPv4Address(self.lab.address(text) if text in self.lab.places else text)
        except ValueError:
            raise Misread(
                field,
                f"{text[:40]!r} isn't an IPv4 address: write four numbers from 0 to 255, such as"
                f" 10.0.2.5, or one of the places {', '.join(self.lab.places)}",
            ) from None
        except EkslearnError as error:
            raise Misread(field, str(error)) from None

    def _hear(self, message: dict[str, Any]) -> None:
        """Take over what stands in the browser's fields; every request is answered."""
        with self.hold_trait_notifications():
            for field in FIELDS:
                setattr(self, field, str(message.get(field, ""))[:200])
        self.refresh()
        self.send({"serial": message.get("serial")})
        if self._renew:
            self._renew(self.fallback())

    @property
    def words(self) -> str:
        """The whole decision as text; the complaint, if a field can't be read."""
        return "\n".join(lines_of(self.told)) if self.told else self.said

    def __repr__(self) -> str:
        """Short, and the same on every run."""
        return f"<RouteLookup on {self.place}>"

    def fallback(self) -> str:
        """What stands here without a kernel: what was asked, and the same table."""
        asked = [f"destination {self.destination}"]
        asked += [f"source {self.source}"] if self.source else []
        asked += [f"came in by {self.iif}"] if self.iif else []
        asked += [f"mark {mark_of(self.mark):#x}"] if self.told and mark_of(self.mark) else []
        style = table_style()
        return (
            f'<div class="ekslearn-lookup"><style>{style}</style>'
            f"<p><strong>{html.escape(self.title)}</strong> {html.escape(', '.join(asked))}."
            " To ask for others, run this cell.</p>"
            f"<p>{html.escape(self.said)}</p>{self.body}</div>"
        )

    def _ipython_display_(self) -> None:
        self._renew = show(self.fallback(), repr(self), self.said, view=self)


class Misread(EkslearnError):
    """What stands in a field can't be read; ``field`` says in which."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field


def mark_of(value: int | str) -> int:
    """A packet mark, as a number or as text; Misread if it is none.

    >>> mark_of("0x80"), mark_of(128), mark_of("")
    (128, 128, 0)
    """
    text = str(value).strip() or "0"
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10}", text):
        number = int(text, 16 if text[:2] in ("0x", "0X") else 10)
        if number < 1 << BITS:
            return number
    raise Misread("mark", f"{text[:40]!r} isn't a mark: write 32 bits as a number, 128 or 0x80")


def elsewhere(lab: Lab, place: str) -> str:
    """An address to begin with: the first other place's that has one."""
    for other in lab.places:
        try:
            if other != place:
                return lab.address(other)
        except EkslearnError:
            continue
    return OUTSIDE


def body_of(told: Told) -> str:
    """Everything under the sentence, as HTML that reads well with and without its style."""
    rules = "".join(
        f'<tr class="{css_of(rule.state)}"><td class="sign">{sign(rule.state == DECIDES)}</td>'
        f'<td class="mono">{html.escape(rule.text)}</td>'
        f"<td><b>{rule.state}</b>: {html.escape(rule.why)}</td></tr>"
        for rule in told.rules
    )
    return (
        f'<p class="tool"><code>{html.escape(told.command)}</code><br>'
        f"<code>{html.escape(told.output.splitlines()[0] if told.output else '')}</code></p>"
        '<div class="wide" tabindex="0" role="region" aria-label="Rules">'
        '<table class="rules"><caption>Rules, in order of priority</caption>'
        f"<tbody>{rules}</tbody></table></div>"
        + "".join(table_html(asked, told) for asked in told.asked)
    )


def table_html(asked: Asked, told: Told) -> str:
    """One asked table: the destination's bits, and under them every prefix's."""
    name = html.escape(asked.table)
    head = f"Table {name}, asked by rule {asked.rule}: {asked.words}"
    if not asked.rows:
        return f'<p class="none">{head}.</p>'
    octets = " ".join(f"{int(told.bits[at : at + 8], 2):<8d}" for at in range(0, BITS, 8))
    groups = " ".join(told.bits[at : at + 8] for at in range(0, BITS, 8))
    rows = "".join(
        f'<tr class="{"won" if row.wins else "lost"}"><td class="sign">{sign(row.wins)}</td>'
        f'<td class="bits"><code>{bits_html(row)}</code></td>'
        f'<td><div class="two"><code class="row">{html.escape(row.text)}</code>'
        f' <span class="why">{html.escape(row.differs or row.why)}</span></div></td></tr>'
        for row in asked.rows
    )
    table = (
        f'<div class="wide" tabindex="0" role="region" aria-label="Table {name}, bit by bit">'
        f'<table class="routes"><caption>{head}</caption><tbody>'
        f'<tr class="asked"><td class="sign"></td><td class="bits"><code>{octets}</code><br>'
        f"<code>{groups}</code></td><td>the destination, bit by bit</td></tr>"
        f"{rows}</tbody></table></div>"
    )
    if asked.decides or any(row.same == row.length for row in asked.rows):
        return table
    return f"<details><summary>{head}</summary>{table}</details>"


def bits_html(row: RouteRow) -> str:
    """A prefix's bits: those that agree, the first that doesn't, the rest, and those left free."""
    found, before = [], ""
    for at, bit in enumerate(row.bits):
        kind = "same" if at < row.same else "first" if at == row.same else "after"
        kind, bit = (kind, bit) if at < row.length else ("free", "\N{MIDDLE DOT}")
        gap = " " if at and at % 8 == 0 else ""
        if kind == before:
            found.append(gap + bit)
        else:
            found.append(("</span>" if before else "") + gap + f'<span class="{kind}">')
            found.append(f"<mark><u>{bit}</u></mark>" if kind == "first" else bit)
        before = kind
    return "".join(found) + "</span>"


def sign(wins: bool) -> str:
    """The mark of the row that decides, with its word for those who can't see it."""
    return f'<span role="img" aria-label="decides">{ARROW}</span>' if wins else ""


def css_of(state: str) -> str:
    """The class of a rule's row."""
    return {DECIDES: "won", NOT_ASKED: "unasked"}.get(state, "lost")


def table_style() -> str:
    """The style of the tables, for pages without the widget's own."""
    return re.sub(r"\s+", " ", (HERE / "lookup_table.css").read_text()).strip()


def route_lookup(
    lab: Lab,
    place: str,
    destination: str | None = None,
    *,
    source: str | None = None,
    iif: str | None = None,
    mark: int | str = 0,
) -> RouteLookup:
    """Ask where ``place`` sends a packet, and see why every other row lost.

    ``destination`` and ``source`` are addresses or places; ``iif`` is the interface a packet to be
    passed on came in by (none: it is sent from here). Raises EkslearnError for what isn't there.
    """
    return RouteLookup(lab, place, destination, source=source, iif=iif, mark=mark)
