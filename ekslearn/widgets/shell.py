"""Shell: a terminal on any place of a lab, whose effects are shown row by row.

The shell works on the caller's own lab, so what was typed holds for every later cell; undo and
reset put that same lab back. It needs Python for every line, and so is shown as a live view, with
a sentence in its place where there is no kernel.
"""

from __future__ import annotations

import html
import io
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import anywidget
import traitlets

from ekslearn.draw.display import Renew, show
from ekslearn.errors import EkslearnError
from ekslearn.widgets.changes import changed, listings
from ekslearn.widgets.complete import complete
from ekslearn.widgets.page import module

if TYPE_CHECKING:
    from ekslearn.cluster import Lab

REFUSED = 125  # the exit status of a refusal of ours
LONGEST = 2_000  # characters in one line; the longest real one has about 200
Hook = Callable[["Lab"], "str | None"]


class Follower(Protocol):
    """What can stand beside a shell and keep up with it: a walk, a lookup."""

    def follow(self, lab: Lab) -> str:
        """Look at ``lab`` again after a command; say in a sentence what is seen."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one line came to; the same fields as the tools' own ``Done``."""

    stdout: str = ""
    stderr: str = ""
    status: int = 0


class Shell(anywidget.AnyWidget):
    """A terminal; ``entries`` is all that was typed and came of it, ``place`` where it stands."""

    _esm = module("shell")
    title = traitlets.Unicode("").tag(sync=True)
    place = traitlets.Unicode("").tag(sync=True)
    places = traitlets.List(traitlets.Unicode()).tag(sync=True)
    entries = traitlets.List(traitlets.Dict()).tag(sync=True)
    depth = traitlets.Int(0).tag(sync=True)  # how many commands can be undone
    compact = traitlets.Bool(False).tag(sync=True)  # under a walk there is less room

    def __init__(
        self, lab: Lab, place: str | None = None, *, follow: Iterable[Follower | Hook] = ()
    ) -> None:
        self.lab = lab
        self._past: list[bytes] = []
        self._hooks: list[Hook] = []
        self._renew: Callable[[], None] | None = None
        super().__init__(
            title=lab.name,
            places=list(lab.places),
            place=self._known(lab.places[0] if place is None else place),
        )
        for each in follow:
            self.on_change(each if callable(each) else each.follow)
        self.on_msg(lambda _, message, __: self._hear(message))

    def _known(self, place: str) -> str:
        if place not in self.lab.places:
            raise EkslearnError(
                f"there is no place {place!r} in {self.lab.name};"
                f" it has {', '.join(self.lab.places)}"
            )
        return place

    @traitlets.validate("place")
    def _valid_place(self, proposal: dict[str, Any]) -> str:
        return self._known(str(proposal["value"]))

    def on_change(self, hook: Hook) -> None:
        """Call ``hook(lab)`` after every command; the sentence it returns is shown below it."""
        self._hooks.append(hook)

    def type(self, line: str) -> Result:
        """Run a line as if it had been typed: ``ip route``, or ``blue$ ip route`` elsewhere."""
        line, place = " ".join(line.splitlines()).strip(), self.place
        head, dollar, rest = line.partition("$")
        named = head.strip() if dollar and len(head.split()) == 1 else ""
        if named in self.lab.places:
            place, line = named, rest.strip()
        before, past = listings(self.lab), kept(self.lab)
        try:
            if named:
                self._known(named)
            if len(line) > LONGEST:
                raise EkslearnError(f"the line is longer than {LONGEST} characters")
            done = self.lab.run(place, line)
            result = Result(done.stdout, done.stderr, done.status)
        except EkslearnError as error:
            result = Result(stderr=f"ekslearn: {error}", status=REFUSED)
        except Exception as error:  # a fault of ours mustn't leave a learner without an answer
            put_back(self.lab, past)
            result = Result(stderr=broken(error), status=REFUSED)
        self._past.append(past)
        self._note(place, line, result, before)
        return result

    def undo(self) -> None:
        """Take back the last command; without one, do nothing."""
        if self._past:
            before = listings(self.lab)
            put_back(self.lab, self._past.pop())
            self._note("", "", Result("Undone: the last command."), before)

    def reset(self) -> None:
        """Take back every command."""
        if self._past:
            before = listings(self.lab)
            put_back(self.lab, self._past[0])
            self._past.clear()
            self._note("", "", Result("Reset: the lab is as it was at first."), before)

    def share(self) -> str:
        """The state as text: the scenario and every command so far; ekslearn.load reads it."""
        from ekslearn.scenario import dump

        return dump(self.lab)

    def complete(self, text: str, place: str | None = None) -> list[str]:
        """What Tab offers for the last word of ``text``."""
        return complete(self.lab, self.place if place is None else self._known(place), text)

    @property
    def words(self) -> str:
        """The terminal as text."""
        lines: list[str] = []
        for entry in self.entries:
            lines += [f"{entry['place']}$ {entry['line']}"] if entry["line"] else []
            lines += [part for part in (entry["stdout"], entry["stderr"]) if part]
            lines += [f"exit status {entry['status']}"] if entry["status"] else []
            for change in entry["changed"]:
                lines += [change["words"], *(f"  {sign} {row}" for sign, row in change["rows"])]
            lines += entry["notes"]
        return "\n".join(lines)

    def _note(
        self, place: str, line: str, result: Result, before: dict[tuple[str, str], tuple[str, ...]]
    ) -> None:
        entry = {
            "place": place,
            "line": line,
            "stdout": result.stdout.rstrip("\n"),
            "stderr": result.stderr.rstrip("\n"),
            "status": result.status,
            "changed": changed(before, listings(self.lab)),
            "notes": [words for hook in self._hooks if (words := heard(hook, self.lab))],
        }
        with self.hold_sync():
            self.entries = [*self.entries, entry]
            self.depth = len(self._past)

    def _hear(self, message: dict[str, Any]) -> None:
        """Do what the browser asks; every request is answered, whatever it was."""
        answer: dict[str, Any] = {"serial": message.get("serial")}
        what, place = message.get("do"), str(message.get("place"))
        try:
            if what == "run":
                self.place = place
                self.type(str(message.get("line", "")))
            elif what == "complete":
                text = str(message.get("text", ""))
                answer |= {"options": self.complete(text, place), "text": text}
            elif what == "share":
                answer["shared"] = self.share()
            elif what in ("undo", "reset"):
                self.undo() if what == "undo" else self.reset()
        except Exception as error:
            known = isinstance(error, EkslearnError)
            complaint = f"ekslearn: {error}" if known else broken(error)
            self._note("", "", Result(stderr=complaint, status=REFUSED), listings(self.lab))
        self.send(answer)
        if what != "complete" and self._renew:
            self._renew()

    def __repr__(self) -> str:
        """Short, and the same on every run."""
        return f"<Shell on {self.title}: {', '.join(self.places)}>"

    def fallback(self) -> str:
        """What stands here without a kernel: what was typed, and what came of it."""
        return (
            f"<p><strong>Terminal on {html.escape(', '.join(self.places))}.</strong>"
            " It needs a running kernel: run this cell.</p>"
            + (f"<pre>{html.escape(self.words)}</pre>" if self.entries else "")
        )

    def _ipython_display_(self) -> None:
        self.kept_by(show(self.fallback(), repr(self), view=self), self.fallback)

    def kept_by(self, renew: Renew | None, html: Callable[[], str]) -> None:
        """Bring what stands for the live view up to date after every line typed in the browser.

        Lines typed by code leave it alone: a notebook's stored output must not depend on later
        cells.
        """
        self._renew = (lambda: renew(html())) if renew else None


def broken(error: Exception) -> str:
    """What a learner is told when the model itself fails."""
    return (
        f"ekslearn: this is a fault in the model, not in your command"
        f" ({type(error).__name__}: {str(error)[:120]}); please report the command"
    )


def heard(hook: Hook, lab: Lab) -> str | None:
    """What a hook says; if it fails, that."""
    try:
        return hook(lab)
    except Exception as error:
        return broken(error)


class Keeper(pickle.Pickler):
    """Writes down a lab's state; the lab itself stays a name in it."""

    def __init__(self, file: io.BytesIO, lab: Lab) -> None:
        super().__init__(file)
        self.lab = lab

    def persistent_id(self, thing: object) -> str | None:
        """Name the lab."""
        return "lab" if thing is self.lab else None


class Reader(pickle.Unpickler):
    """Reads such a state back for the same lab."""

    def __init__(self, file: io.BytesIO, lab: Lab) -> None:
        super().__init__(file)
        self.lab = lab

    def persistent_load(self, name: str) -> Lab:
        """The lab, where it was named."""
        return self.lab


def kept(lab: Lab) -> bytes:
    """The state of ``lab``, to be put back later."""
    file = io.BytesIO()
    Keeper(file, lab).dump(vars(lab))
    return file.getvalue()


def put_back(lab: Lab, past: bytes) -> None:
    """Make ``lab`` what it was, so that every name bound to it sees the change."""
    state = Reader(io.BytesIO(past), lab).load()
    vars(lab).clear()
    vars(lab).update(state)


def shell(lab: Lab, place: str | None = None, *, follow: Iterable[Follower | Hook] = ()) -> Shell:
    """Open a terminal on ``place`` (the first one if none is given).

    ``follow`` names walks and lookups that look again after every command, or functions of the
    lab that return a sentence. Raises EkslearnError for a place that doesn't exist.
    """
    return Shell(lab, place, follow=follow)
