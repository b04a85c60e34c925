"""YAML text into nodes that know where they stood, or one sentence saying why not.

Two stages, each refusing what it can: the bytes (size, text at all) and the YAML (events are
composed here, by hand, so that aliases, depth, tags and duplicate keys are judged before anything
is built). Every refusal names file, line and field. Scenarios and manifests are read through it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from .errors import EkslearnError, NotModelled
from .paths import data_path

LIMIT = 1_000_000  # bytes in one file; the longest scenario of the course has 4,000
EXPANSION = 100  # aliases may make a document this many times as long as its text
DEPTH = 40  # a scenario is five levels deep
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
LONGEST = 253  # characters of a name with dots
NOT_TEXT = re.compile(
    r"|~|null|true|false|[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)(e[-+]?\d+)?|[-+]?\.inf|\.nan"
    r"|0[xo][\da-f]+",
    re.ASCII | re.IGNORECASE,
)
NOTHING = "", "~", "null", "Null", "NULL"
KINDS = {
    str: "text",
    list: "a list",
    dict: "a mapping",
    type(None): "a number, true, false or nothing (put quotes around it if it is meant as text)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A piece of YAML and where it stood.

    ``value`` is text, a list of nodes or a dict of nodes, and None for a plain number, truth
    value or nothing, which ``plain`` spells. ``weight`` is its length in characters once aliases
    are written out.
    """

    value: Any
    file: str
    line: int
    field: str
    weight: int
    plain: str = ""

    def refuse(self, why: str, kind: type[EkslearnError] = EkslearnError) -> NoReturn:
        """Raise ``kind`` with file, line and field before ``why``."""
        field = self.field if len(self.field) <= 60 else f"...{self.field[-57:]}"
        at = " ".join(f"{self.file}:{self.line}: {field}".split()).removesuffix(":")
        raise kind(f"{at}: {why}")

    def expect(self, kind: type) -> Any:
        """The value, if it is of that kind."""
        if not isinstance(self.value, kind):
            self.refuse(f"expected {KINDS[kind]}, found {KINDS[type(self.value)]}")
        return self.value

    def fields(self, *names: str, optional: tuple[str, ...] = ()) -> dict[str, Node]:
        """The mapping's nodes, if it has all of ``names`` and nothing unknown."""
        found: dict[str, Node] = self.expect(dict)
        known = [*names, *optional]
        for name, node in found.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                node.refuse(
                    f"unknown field; did you mean {near[0]}?"
                    if near
                    else f"unknown field; known here: {', '.join(known)}"
                )
        for name in names:
            if name not in found:
                self.refuse(f"the field {name} is missing")
        return found

    @property
    def absent(self) -> bool:
        """Whether it says null, or nothing."""
        return self.value is None and self.plain in NOTHING

    def at(self, *path: str) -> Node | None:
        """The node some fields deeper, None if there is none; what stands beside it is let be.

        A field that says null, or nothing, isn't there.
        """
        here: Node | None = self
        for name in path:
            here = here.value.get(name) if here and isinstance(here.value, dict) else None
        return None if here and here.absent else here

    def text(self, *path: str, default: str = "") -> str:
        """The text some fields deeper, ``default`` if there is none."""
        found = self.at(*path)
        return str(found.expect(str)) if found else default

    def flag(self, *path: str, default: bool = False) -> bool:
        """The truth value some fields deeper, ``default`` if there is none."""
        found = self.at(*path)
        return found.truth() if found else default

    def items(self, *path: str) -> list[Node]:
        """The nodes of the list some fields deeper, none if there is no list."""
        found = self.at(*path)
        return list(found.expect(list)) if found else []

    def texts(self, *path: str) -> dict[str, str]:
        """The mapping of texts some fields deeper, empty if there is none."""
        found = self.at(*path)
        return {key: one.expect(str) for key, one in found.expect(dict).items()} if found else {}

    def choice(self, *known: str, path: tuple[str, ...] = ()) -> str:
        """The word some fields deeper, one of ``known``; the first of them if there is none."""
        found = self.at(*path)
        return found.known(known, "word") if found else known[0]

    def known(self, there: Collection[str], what: str) -> str:
        """The text, if it is one of ``there``."""
        name: str = self.expect(str)
        if name not in there:
            self.refuse(f"there is no {what} {short(name)}; there are {', '.join(there) or 'none'}")
        return name

    def network(self) -> IPv4Network:
        """The text, if it spells an IPv4 network."""
        try:
            return IPv4Network(self.expect(str))
        except ValueError as error:
            self.refuse(f"{short(self.value)} isn't a network such as 10.0.0.0/16: {error}")

    def address(self) -> IPv4Address:
        """The text, if it spells an IPv4 address."""
        try:
            return IPv4Address(self.expect(str))
        except ValueError:
            self.refuse(f"{short(self.value)} isn't an IPv4 address")

    @contextmanager
    def placed(self) -> Iterator[None]:
        """What is refused inside is refused with this node's file, line and field."""
        try:
            yield
        except EkslearnError as error:
            if str(error).startswith(f"{self.file}:"):
                raise
            self.refuse(
                str(error), NotModelled if isinstance(error, NotModelled) else EkslearnError
            )

    def whole(self, low: int, high: int) -> int:
        """The number, if it is a whole one from ``low`` to ``high``."""
        if not re.fullmatch(r"[0-9]{1,9}", self.plain) or not low <= int(self.plain) <= high:
            said = short(self.plain or self.value) if self.plain or isinstance(self.value, str) \
                else KINDS[type(self.value)] if self.value is not None else "nothing"  # fmt: skip
            self.refuse(f"expected a whole number from {low} to {high}, found {said}")
        return int(self.plain)

    def truth(self) -> bool:
        """The value, if it is true or false."""
        if self.plain.lower() not in ("true", "false"):
            self.refuse(f"expected true or false, found {self.plain or KINDS[type(self.value)]}")
        return self.plain.lower() == "true"

    def name(self, *, dotted: bool = False) -> str:
        """The text, if it can name something; a ``dotted`` name is one or more such (RFC 1123)."""
        text: str = self.expect(str)
        parts = text.split(".") if dotted else [text]
        if len(text) > LONGEST or not all(map(NAME.fullmatch, parts)):
            self.refuse(
                f"{short(text)} can't be a name; use at most 63 small letters, digits"
                f" and -, with a letter or digit at both ends{' of each part' * (len(parts) > 1)}"
            )
        return text


def short(text: str) -> str:
    """``text`` quoted on one line, cut to a length fit for a sentence."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


class Composer:
    """Composes the nodes of one text from its YAML events."""

    def __init__(self, text: str, file: str) -> None:
        """Begin to read ``text``, which stands in ``file``."""
        self.text, self.file, self.most = text, file, EXPANSION * len(text)
        self.events: Iterator[Any] = iter(YAML(typ="safe", pure=True).parse(text))
        self.anchors: dict[str, Node] = {}

    def documents(self) -> list[Node]:
        """Every document of the text but empty ones; EkslearnError for YAML that can't be read."""
        line, found = 1, []
        try:
            for event in self.events:
                line = event.start_mark.line + 1
                if type(event).__name__ == "DocumentStartEvent":
                    self.anchors = {}
                    found.append(self.node(next(self.events), "", DEPTH))
                    if found[-1].absent:
                        found.pop()
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            why = " ".join(f"{error.problem or error.context}".split())
            raise EkslearnError(
                f"{self.file}:{mark.line + 1 if mark else line}: this isn't YAML:"
                f" {why}, at column {mark.column + 1 if mark else 1}"
            ) from None
        except ReaderError as error:
            line = self.text.count("\n", 0, error.position) + 1
            raise EkslearnError(
                f"{self.file}:{line}: this isn't text: it holds the character"
                f" U+{error.character:04X}"
            ) from None
        except (YAMLError, ValueError, ArithmeticError, LookupError) as error:
            why = " ".join(str(error).split())
            raise EkslearnError(f"{self.file}:{line}: this isn't YAML: {why}") from None
        return found

    def node(self, event: Any, field: str, depth: int) -> Node:
        """The node that begins with ``event``; what it holds may be ``depth`` levels deep."""
        here = Node(
            value=None, file=self.file, line=event.start_mark.line + 1, field=field, weight=1
        )
        kind, anchor = type(event).__name__, event.anchor
        if kind == "AliasEvent":
            if anchor not in self.anchors:
                here.refuse(f"the alias *{anchor} stands before or inside what it repeats")
            return replace(self.anchors[anchor], line=here.line, field=field)
        if event.ctag is not None:
            here.refuse(f"the YAML tag {short(str(event.ctag))} isn't read here; leave it out")
        if not depth:
            here.refuse(f"this is nested more than {DEPTH} levels deep")
        if kind == "ScalarEvent":
            plain = event.style is None and NOT_TEXT.fullmatch(event.value)
            here = replace(
                here, value=None if plain else event.value, weight=1 + len(event.value),
                plain=event.value if plain else "",
            )  # fmt: skip
        elif kind == "SequenceStartEvent":
            here = replace(here, value=[])
            while type(event := next(self.events)).__name__ != "SequenceEndEvent":
                item = self.node(event, f"{field}[{len(here.value)}]", depth - 1)
                here.value.append(item)
                here = self.grown(here, item.weight)
        else:
            here = replace(here, value={})
            while type(event := next(self.events)).__name__ != "MappingEndEvent":
                key = self.node(event, field, depth - 1)
                at = f"{field}.{key.expect(str)}" if field else key.expect(str)
                if key.value in here.value:
                    first = here.value[key.value].line
                    replace(key, field=at).refuse(
                        f"the field stands here twice; the first is on line {first}"
                    )
                item = replace(self.node(next(self.events), at, depth - 1), line=key.line)
                here.value[key.value] = item
                here = self.grown(here, key.weight + item.weight)
        if anchor is not None:
            self.anchors[anchor] = here
        return here

    def grown(self, here: Node, by: int) -> Node:
        """``here`` that much heavier, unless aliases have made it too heavy."""
        if here.weight + by > self.most:
            here.refuse(f"aliases make this more than {EXPANSION} times as long as the file")
        return replace(here, weight=here.weight + by)


def files(source: str | Path) -> list[Path]:
    """The YAML files that ``source`` means, in the order of their names."""
    path = Path(source)
    try:
        if not path.exists() and len(path.parts) == 1:
            shelf = data_path("scenarios")
            known = sorted(file.stem for file in shelf.glob("*.yaml"))
            if path.name.removesuffix(".yaml") not in known:
                near = difflib.get_close_matches(path.name, known, n=1) or known
                raise EkslearnError(
                    f"{short(str(path))}: there is no such file, nor a scenario"
                    f" of that name; did you mean {' or '.join(near)}?"
                )
            path = shelf / f"{path.name.removesuffix('.yaml')}.yaml"
        if not path.is_dir():
            return [path]
        found = sorted(one for one in path.iterdir() if one.suffix in (".yaml", ".yml"))
    except (OSError, ValueError) as error:
        raise EkslearnError(f"{short(str(path))}: it can't be read: {reason(error)}") from None
    if not found:
        raise EkslearnError(f"{path}: this folder holds no scenario (no file ends in .yaml)")
    return found


def read(file: Path) -> str:
    """The text of ``file``, if it is a file of text no longer than a scenario may be."""
    try:
        if file.exists() and not file.is_file():
            raise EkslearnError(f"{file}: this is neither a file nor a folder")
        with file.open("rb") as stream:
            raw = stream.read(LIMIT + 1)
    except (OSError, ValueError) as error:
        raise EkslearnError(f"{file}: it can't be read: {reason(error)}") from None
    if b"\0" in raw:
        raise EkslearnError(f"{file}: this isn't text: byte {raw.index(0)} is zero")
    if len(raw) > LIMIT:
        raise EkslearnError(f"{file}: over {LIMIT:,} bytes, the limit for a scenario")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EkslearnError(
            f"{file}: this isn't text in UTF-8: byte {error.start} can't be read"
        ) from None


def reason(error: Exception) -> str:
    """What the system said, in its own words and without its number."""
    return (getattr(error, "strerror", None) or str(error)).lower()
