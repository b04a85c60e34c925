"""``sysctl``: a namespace's switches as text, both ways.

Source: sysctl of procps-ng 4.0.2.
"""

from __future__ import annotations

import re
from typing import Any

from ..linux.namespace import NetworkNamespace
from ..linux.sysctl import FIXED
from .words import Done, Row, Words, flag, refused, refused_words, usage

OPTIONS = (
    Row("-w --write -o -x", "write", flag(True)), Row("-q --quiet", "quiet", flag(True)),
    Row("-n --values", "values", flag(True)), Row("-N --names", "names", flag(True)),
    Row("-e --ignore", "ignore", flag(True)), Row("-a --all -A -X", "all", flag(True)),
    Row("-b --binary", "binary", flag(True)), refused("sysctl"),
)  # fmt: skip
ELSEWHERE = re.compile(r"(abi|debug|dev|fs|kernel|user|vm|net\.(?!ipv4\b)\w+)(\.|$)")
NOTHING = "sysctl: no variables specified\nTry `sysctl --help' for more information.\n"


def sysctl(namespace: NetworkNamespace, argv: list[str]) -> Done:
    """Run ``sysctl`` with ``argv``; options may stand anywhere."""
    words, found, keys = Words(argv, "sysctl"), dict[str, Any](), list[str]()
    if not argv:
        return Done(stderr=usage("sysctl"), status=1)
    for word in words.rest():
        if not word.startswith("-") or word == "-":
            keys.append(word)
            continue
        name = word.partition("=")[0]
        for option in [name] if name.startswith("--") else [f"-{letter}" for letter in word[1:]]:
            row = next((row for row in OPTIONS if row.fits(option)), None)
            if row is None:
                text = f"unrecognized option '{word}'" if name.startswith("--") else \
                    f"invalid option -- '{option[1:]}'"  # fmt: skip
                return Done(usage("sysctl"), f"sysctl: {text}\n")
            if not row.key:
                words.refuse(option)
            found[row.key] = True
    if found.get("all"):
        lines = [_told(key, namespace.sysctls[key], found) for key in namespace.sysctls.names()]
        return Done("".join(lines))
    if not keys:
        return Done(stderr=NOTHING, status=1)
    out, errors, status = "", "", 0
    for word in keys:
        if found.get("write") or "=" in word:
            line, error = _write(namespace, word, found)
            status |= bool(error)
        else:
            line, error = _read(namespace, word, found)
            status += bool(error) if word else -1
        out, errors = out + line, errors + error
    return Done(out, errors, status % 256)


def _told(key: str, value: object, found: dict[str, Any], *, written: bool = False) -> str:
    if found.get("names"):
        return f"{value}\n" if written else f"{key}\n"
    if found.get("values") or found.get("binary"):
        return str(value) if found.get("binary") else f"{value}\n"
    return f"{key} = {value}\n"


def _path(word: str) -> str:
    """The file a word means: dots and slashes change places, unless a slash comes first."""
    return word if re.match(r"[^./]*/", word) else word.translate({ord("."): "/", ord("/"): "."})


def _missing(namespace: NetworkNamespace, path: str, found: dict[str, Any]) -> str:
    """The complaint about a file that isn't there; a real one, or a folder of them, is refused."""
    key = path.replace("/", ".")
    last = key.rpartition(".")[2]
    interface = re.fullmatch(r"net\.ipv4\.conf\.([^.]+)\.[^.]+", key)
    known = ("all", "default", *namespace.links)
    switches = "sysctl net.ipv4.conf" if interface and interface[1] in known else "sysctl net.ipv4"
    if (interface or key == f"net.ipv4.{last}") and last in refused_words()[switches].split():
        Words([], "sysctl").refuse(key)
    inside = [name for name in namespace.sysctls.names() if name.startswith(key.rstrip(".") + ".")]
    if not key or inside or (ELSEWHERE.match(key) and not found.get("ignore")):
        Words([], "sysctl").refuse(f'"{key}", a folder or none of net.ipv4,')
    missing = f"sysctl: cannot stat /proc/sys/{path}: No such file or directory\n"
    return "" if found.get("ignore") else missing


def _read(namespace: NetworkNamespace, word: str, found: dict[str, Any]) -> tuple[str, str]:
    key = _path(word).replace("/", ".")
    if not word:
        return "", 'sysctl: "" is an unknown key\n'
    if key not in namespace.sysctls:
        return "", _missing(namespace, _path(word), found)
    return _told(key, namespace.sysctls[key], found), ""


def _write(namespace: NetworkNamespace, word: str, found: dict[str, Any]) -> tuple[str, str]:
    name, assigned, text = word.partition("=")
    path, text = _path(name.strip()), text.strip()
    key = path.replace("/", ".")
    if not assigned:
        return "", "sysctl: command line(0): invalid syntax, continuing...\n"
    if key not in namespace.sysctls:
        return "", _missing(namespace, path, found)
    value = _integer(text)
    if value is None:
        return "", f'sysctl: setting key "{key}": Invalid argument\n'
    fixed = FIXED.get(key.rpartition(".")[2], value)
    if fixed != value:
        Words([], "sysctl").refuse(f"{key} other than {fixed}")
    namespace.sysctls.write(key, value)
    return ("" if found.get("quiet") else _told(key, text, found, written=True)), ""


def _integer(text: str) -> int | None:
    """What the kernel reads: 32 bits with a sign, and nothing behind a blank (proc_dointvec)."""
    match = re.match(r"(-?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))(?=\s|$)", text)
    if not match:
        return None
    digits = next((part, base) for part, base in zip(match.groups()[1:], (16, 8, 10), strict=True)
                  if part)  # fmt: skip
    value = int(*digits) * (-1 if match[1] else 1)
    return value if -(1 << 31) <= value < 1 << 31 else None
