"""What all tools share: the words of a command line, how they are read, how a tool gives up.

A tool's options are a table of rows. A row knows the words it goes by, which attribute it stands
for, how its argument is read, and how the attribute is printed again. A real option that isn't
modelled is a row too, made by ``refused``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv4Network
from typing import Any, NoReturn, TypeVar

from ..errors import NotModelled
from ..paths import data_path

T = TypeVar("T")


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


def give_up(text: str, status: int = 255) -> NoReturn:
    """Stop with ``text`` as the last line on standard error."""
    raise GaveUp(text + "\n", status)


def data_text(name: str) -> str:
    """The text of a file in data/."""
    return data_path(name).read_text(encoding="utf-8")


def usage(tool: str) -> str:
    """What ``TOOL help`` prints (data/usage.txt, read off the real tools)."""
    return data_text("usage.txt").partition(f"=== {tool}\n")[2].partition("=== ")[0]


@cache
def refused_words() -> dict[str, str]:
    """The real words each tool refuses (data/refused/ip.txt)."""
    lines = data_text("refused/ip.txt").splitlines()
    return dict(line.split(": ") for line in lines if ": " in line)


class Words:
    """The words of a command line, taken one after another.

    ``tool`` is how the command so far is called in a refusal ("ip route"). ``family`` is what
    iproute2 calls the kind of address it expects: anything, until the first one says which.
    """

    def __init__(self, words: Iterable[str], tool: str, family: str = "any valid") -> None:
        self._words = list(words)
        self.tool = tool
        self.family = family
        self.learns = True
        self.warnings = ""
        self.namespaces: Collection[str] = ()

    def __bool__(self) -> bool:
        return bool(self._words)

    def peek(self) -> str:
        """The next word, left where it is; empty at the end."""
        return self._words[0] if self._words else ""

    def take(self) -> str:
        """The next word; iproute2's complaint where there is none."""
        if not self._words:
            give_up('Command line is not complete. Try option "help"')
        return self._words.pop(0)

    def ahead(self) -> list[str]:
        """All the words that are left, left where they are."""
        return list(self._words)

    def rest(self) -> list[str]:
        """All that is left, taken."""
        rest, self._words = self._words, []
        return rest

    def put_back(self, words: Iterable[str]) -> None:
        """Put ``words`` at the end again."""
        self._words += words

    def refuse(self, what: str) -> NoReturn:
        """Refuse a real option or object by name."""
        raise NotModelled(f"{self.tool}: {what} isn't modelled (data/not-modelled.md)")

    def learn_family(self) -> None:
        """An IPv4 address was read: another kind won't do any more (where the command learns)."""
        if self.learns:
            self.family = "inet"

    def help(self) -> NoReturn:
        """Print how the tool is used, as after a word like ``help``."""
        raise GaveUp(usage(self.tool), 255)


Reader = Callable[[Words], Any]


@lru_cache(10_000)
def _fits(names: str, word: str) -> bool:
    for name in names.split():
        short, star, rest = name.partition("*")
        if word == name or (star and word.startswith(short) and (short + rest).startswith(word)):
            return True
    return False


@dataclass(frozen=True, slots=True)
class Row:
    """One option of a tool.

    ``names`` are its words; a star stands behind the shortest beginning that will do
    ("m*etric"). ``key`` is the attribute it stands for, empty if it is refused; ``read`` takes
    its argument off the line. It is printed as ``word`` and what ``show`` makes of the
    attribute, unless that is the ``default``. ``once``: a second one is a complaint (this one).
    """

    names: str
    key: str = ""
    read: Reader = Words.take
    show: Callable[[Any], str] = str
    default: Any = None
    once: bool | str = False
    word: str = field(init=False, repr=False, compare=False)  # it is printed with

    def __post_init__(self) -> None:
        object.__setattr__(self, "word", self.names.partition(" ")[0].replace("*", ""))

    def fits(self, word: str) -> bool:
        """Whether ``word`` is this option, spelled out or shortened."""
        return _fits(self.names, word)

    def text(self, thing: object) -> str:
        """How this attribute of ``thing`` is printed; empty if it needn't be."""
        value = getattr(thing, self.key)
        if value is None or (self.default is not None and value == self.default):
            return ""
        return f"{self.word} " if value is True else f"{self.word} {self.show(value)} "


Table = Sequence[Row]
GARBAGE = 'either "{0}" is duplicate, or "{1}" is a garbage.'


def refused(tool: str) -> Row:
    """The row for the real options of ``tool`` that are refused by name."""
    return Row(refused_words()[tool])


def flag(constant: object) -> Reader:
    """A reader for an option without an argument: being there says it all."""
    return lambda words: constant


def parse(
    words: Words, table: Table, bare: Row, first: Callable[[Words], dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Read all words by ``table``; one it doesn't have is read as ``bare``'s argument.

    ``bare``'s own word may stand before it, as in "[ to ] PREFIX"; ``first`` takes what else may.
    """
    found: dict[str, Any] = {}
    while words:
        word = words.peek()
        row = next((row for row in table if row.fits(word)), bare)
        if row is not bare or bare.fits(word):
            words.take()
        if not row.key:
            words.refuse(f'"{row.word if " " not in row.names else word}"')
        if row is bare:
            found |= first(words) if first else {}
            if (word := words.peek()) and "help".startswith(word):
                words.help()
        if row.once and row.key in found:
            usual = GARBAGE if row is bare else 'duplicate "{0}": "{1}" is the second value.'
            twice = row.once if isinstance(row.once, str) else usual
            give_up(f"Error: {twice.format(row.word, '{1}' in twice and words.take())}")
        found[row.key] = row.read(words)
    return found


def command(words: Words, table: Mapping[str, T], default: str, tool: str = "") -> T:
    """Pick a subcommand; like iproute2, take any beginning of its name, first one wins."""
    word = words.take() if words else default
    for name in table:
        if word and name.startswith(word):
            return table[name]
    if word and "help".startswith(word):
        words.help()
    give_up(f'Command "{word}" is unknown, try "{tool or words.tool} help".')


def wrong(argument: str, message: str) -> NoReturn:
    """iproute2's complaint about an argument it can't read."""
    give_up(f'Error: argument "{argument}" is wrong: {message}')


def reading(convert: Callable[[str], T | None], message: str) -> Callable[[Words], T]:
    """A reader of one word by ``convert``, with a complaint where that makes nothing of it."""

    def read(words: Words) -> T:
        word = words.take()
        found = convert(word)
        if found is None:
            wrong(word, message)
        return found

    return read


# Readers of single words


def number(text: str, limit: int = 1 << 32) -> int | None:
    """A whole number below ``limit`` as C reads it: decimal, 0x hexadecimal or 0 octal."""
    found = re.fullmatch(r"\s*\+?(?:0x([0-9a-f]+)|0([0-7]+)|([0-9]+))", text.lower())
    if not found:
        return None
    value = next(int(part, base) for part, base in zip(found.groups(), (16, 8, 10), strict=True)
                 if part)  # fmt: skip
    return value if value < limit else None


def named(names: Mapping[str, int], limit: int = 1 << 32) -> Callable[[str], int | None]:
    """A converter for a number that may go by a name."""
    return lambda text: names.get(text, number(text, limit))


def naming(names: Mapping[str, int]) -> Callable[[int], str]:
    """A converter to the name a number goes by, or the number."""
    known = {number: name for name, number in names.items()}
    return lambda found: known.get(found) or str(found)


def ipv4(text: str) -> IPv4Address | None:
    """An address as iproute2 reads it: missing parts count as zero ("10.1" is 10.1.0.0)."""
    parts = [number(part, 256) for part in text.split(".")]
    if len(parts) > 4 or None in parts:
        return None
    return IPv4Address(bytes([part or 0 for part in parts] + [0] * (4 - len(parts))))


EVERY = ("default", "any", "all")


def _expected(words: Words, text: str, what: str) -> NoReturn:
    if ":" in text and words.family != "inet" and re.fullmatch(r"[0-9a-fA-F:.]+(/\d+)?", text):
        words.refuse(f'IPv6 ("{text}")')
    give_up(f'Error: {words.family} {what} is expected rather than "{text}".', 1)


def address(words: Words) -> IPv4Address:
    """An address, or iproute2's complaint."""
    text = words.take()
    if (found := ipv4(text)) is None:
        _expected(words, text, "address")
    words.learn_family()
    return found


def prefix(words: Words) -> tuple[IPv4Address, int]:
    """An address and a prefix length, host bits allowed: whoever needs none set checks."""
    text = words.take()
    if text in EVERY:
        return IPv4Address(0), 0
    base, slash, length = text.partition("/")
    found, bits = ipv4(base), number(length or "-", 33) if slash else 32
    if bits is None and (mask := ipv4(length)) is not None and "." in length:
        ones = f"{int(mask):032b}".rstrip("0")
        bits = len(ones) if "0" not in ones else None
    if found is None or bits is None:
        _expected(words, text, "prefix")
    words.learn_family()
    return found, bits


def hardware(words: Words) -> str | bytes:
    """A MAC address; bytes if it has another length than 6, for the caller to complain about."""
    parts = []
    for part in words.take().split(":")[:20]:
        found = re.match(r"\s*(?:0[xX])?([0-9a-fA-F]+)", part)
        if not found or int(found[1], 16) > 255:
            give_up(f'"{part}" is invalid lladdr.', 1)
        parts.append(int(found[1], 16))
    return bytes(parts) if len(parts) != 6 else ":".join(f"{part:02x}" for part in parts)


def network(words: Words) -> IPv4Network:
    """A prefix with its host bits cleared."""
    return IPv4Network(prefix(words), strict=False)


def interface_name(complaint: str, longest: int = 15) -> Callable[[Words], str]:
    """A reader for what the kernel would take as a link's name."""
    valid = re.compile(rf"[^\s/]{{1,{longest}}}")
    return reading(lambda word: word if valid.fullmatch(word) else None, complaint)
