"""What all tools share: the words of a command line, how they are read, how a tool gives up.

A tool's options are rows of a table: each row knows the words it is called by, how its argument
is read, and how it is printed again. A real option that isn't modelled is a row too: ``REFUSED``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Any, NoReturn

from ..errors import NotModelled


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left behind: its output, its complaint and its exit status."""

    stdout: str = ""
    stderr: str = ""
    status: int = 0


class GaveUp(Exception):
    """A tool stops here: the text it prints on standard error, and its exit status."""

    def __init__(self, stderr: str, status: int, stdout: str = "") -> None:
        super().__init__(stderr)
        self.done = Done(stdout, stderr, status)


def give_up(text: str, status: int) -> NoReturn:
    """Stop with ``text`` as the last line on standard error."""
    raise GaveUp(text + "\n", status)


class Words:
    """The words of a command line, taken one after another.

    ``tool`` is how the command so far is called in a refusal ("ip route").
    """

    def __init__(self, words: Iterable[str], tool: str) -> None:
        self._words = list(words)
        self.tool = tool

    def __bool__(self) -> bool:
        return bool(self._words)

    def peek(self) -> str:
        """The next word, left where it is; empty at the end."""
        return self._words[0] if self._words else ""

    def take(self) -> str:
        """The next word; iproute2's complaint where there is none."""
        if not self._words:
            give_up('Command line is not complete. Try option "help"', 255)
        return self._words.pop(0)

    def rest(self) -> list[str]:
        """All that is left, taken."""
        rest, self._words = self._words, []
        return rest

    def refuse(self, what: str) -> NoReturn:
        """Refuse a real option or object by name."""
        raise NotModelled(f"{self.tool}: {what} isn't modelled (data/not-modelled.md)")


@dataclass(frozen=True, slots=True)
class Row:
    """One option of a tool: its words, the attribute it stands for, how its argument is read.

    ``read`` gets the words behind it and returns the value; a switch gets none and takes none.
    """

    attribute: str
    read: Callable[[Words], Any]


def value(read: Callable[[str], Any]) -> Callable[[Words], Any]:
    """A reader for an option with one argument."""
    return lambda words: read(words.take())


def switch(constant: object) -> Callable[[Words], Any]:
    """A reader for an option without an argument: being there says it all."""
    return lambda words: constant


def _refused(words: Words) -> NoReturn:
    raise AssertionError  # never called: parse() knows the row


REFUSED = Row("", _refused)
Options = Mapping[str, Row]


def options(**rows: Row) -> dict[str, Row]:
    """A table of options; a row called ``dev_oif`` goes by both words."""
    return {word: row for words, row in rows.items() for word in words.split("_") if word}


def refused(words: str) -> dict[str, Row]:
    """Rows for real options that are refused by name."""
    return dict.fromkeys(words.split(), REFUSED)


def parse(
    words: Words, table: Options, other: Callable[[str, dict[str, Any]], None]
) -> dict[str, Any]:
    """Read all words by ``table``; a word it doesn't have goes to ``other``."""
    found: dict[str, Any] = {}
    while words:
        word = words.take()
        row = table.get(word)
        if row is REFUSED:
            words.refuse(f'"{word}"')
        if row is None:
            other(word, found)
        else:
            found[row.attribute] = row.read(words)
    return found


def command(words: Words, table: Mapping[str, Any], default: str, tool: str) -> Any:
    """Pick a subcommand; like iproute2, take any beginning of its name, first one wins."""
    word = words.take() if words else default
    for name in table:
        if name.startswith(word):
            return table[name]
    give_up(f'Command "{word}" is unknown, try "{tool} help".', 255)


def wrong(argument: str, message: str, *, blank: bool = False) -> NoReturn:
    """iproute2's complaint about an argument it can't read."""
    give_up(f'Error: argument "{argument}" is wrong: {message}' + ("\n" if blank else ""), 255)


# Readers of single words


def ipv4(text: str) -> IPv4Address | None:
    """An address as iproute2 reads it: missing parts count as zero ("10.1" is 10.1.0.0)."""
    parts = text.split(".")
    if not 1 <= len(parts) <= 4 or not all(re.fullmatch(r"[0-9]+", part) for part in parts):
        return None
    try:
        return IPv4Address(".".join(str(int(part)) for part in (*parts, *"0" * (4 - len(parts)))))
    except AddressValueError:
        return None


def address(text: str) -> IPv4Address:
    """An address, or iproute2's complaint."""
    found = ipv4(text)
    if found is None:
        give_up(f'Error: any valid prefix is expected rather than "{text}".', 1)
    return found


def prefix(text: str) -> tuple[IPv4Address, int]:
    """An address and a prefix length, host bits allowed: whoever needs none set checks."""
    if text in ("default", "any", "all"):
        return IPv4Address(0), 0
    base, slash, length = text.partition("/")
    found = ipv4(base)
    if found and slash and re.fullmatch(r"[0-9.]+", length):
        if length.isdigit() and int(length) <= 32:
            return found, int(length)
        if "." in length and (mask := ipv4(length)) is not None:
            bits = f"{int(mask):032b}".rstrip("0")
            if "0" not in bits:
                return found, len(bits)
    if found is None or slash:
        give_up(f'Error: any valid prefix is expected rather than "{text}".', 1)
    return found, 32


def network(text: str) -> IPv4Network:
    """A prefix with its host bits cleared."""
    return IPv4Network(prefix(text), strict=False)


def number(text: str) -> int | None:
    """A whole number as C reads it: decimal, 0x hexadecimal or 0 octal; None if it isn't one."""
    try:
        if re.fullmatch(r"0[0-7]+", text):
            return int(text, 8)
        found = int(text, 16) if text.lower().startswith("0x") else int(text)
    except ValueError:
        return None
    return found if 0 <= found < 1 << 32 and "_" not in text else None


def named(names: Mapping[str, int], complaint: str, *, blank: bool = True) -> Callable[[str], int]:
    """A reader for a number that may go by a name."""

    def read(text: str) -> int:
        found = names.get(text, number(text))
        if found is None:
            wrong(text, complaint, blank=blank)
        return found

    return read


def mac(text: str) -> str:
    """A MAC address in lower case, or iproute2's complaint."""
    parts = text.split(":")
    if len(parts) != 6 or not all(re.fullmatch(r"[0-9a-fA-F]{1,2}", part) for part in parts):
        give_up(f'"{text}" is invalid lladdr.', 1)
    return ":".join(f"{int(part, 16):02x}" for part in parts)
