"""A Lab's lines as the real kernel takes them: names, base switches, and the script to read."""

from __future__ import annotations

import shlex
from itertools import pairwise
from typing import TYPE_CHECKING

from ekslearn import data_path
from ekslearn.errors import EkslearnError

if TYPE_CHECKING:
    from ekslearn.cluster import Lab


def netns(place: str) -> str:
    """The network namespace that plays a place: its own name, unless that can't be a file name.

    No Kubernetes name holds an underscore, so two places of a cluster never meet in one name.

    >>> netns("red"), netns("default/web-1")
    ('red', 'default_web-1')
    """
    return place.replace("/", "_")


def places(lab: Lab) -> list[tuple[str, str]]:
    """Each place with the name of its network namespace, in the lab's order.

    Raises ``EkslearnError`` if two places would share a namespace or one has no possible name.
    """
    taken: dict[str, str] = {}
    for place in lab.places:
        name = netns(place)
        if name in taken:
            raise EkslearnError(
                f"places {taken[name]!r} and {place!r} would both be network namespace {name!r};"
                " rename one of them"
            )
        if name in ("", ".", "..") or not name.isprintable() or len(name) > 255:
            raise EkslearnError(f"place {place!r} can't name a network namespace; rename it")
        taken[name] = place
    return [(place, name) for name, place in taken.items()]


def base_sysctls() -> list[tuple[str, str]]:
    """Key and value of each switch a namespace starts with, in order (data/sysctls.conf).

    >>> base_sysctls()[0]
    ('net.ipv4.ip_forward', '0')
    """
    table = []
    for line in data_path("sysctls.conf").read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            key, _, value = text.partition("=")
            table.append((key.strip(), value.strip()))
    return table


def split(line: str) -> tuple[str, list[str]]:
    """Take ``PLACE$ COMMAND`` apart; the place a line names after ``netns`` becomes a namespace.

    >>> split("red$ ip link add a type veth peer name b netns default/web-1")[1][-2:]
    ['netns', 'default_web-1']
    """
    place, dollar, command = line.partition("$")
    if not dollar:
        raise EkslearnError(f"{line!r} isn't a wiring line; it would be PLACE$ COMMAND")
    return place.strip(), argv(command)


def argv(command: str) -> list[str]:
    """The words of a command, as a shell without variables would; the model splits alike."""
    try:
        words = shlex.split(command, comments=True)
    except ValueError as error:
        raise EkslearnError(f"{command!r} can't be split into words: {error}") from None
    if not words:
        raise EkslearnError("a wiring line holds no command")
    return words[:1] + [
        netns(word) if before == "netns" else word for before, word in pairwise(words)
    ]


HEAD = """\
#!/bin/sh
# {name}: built from its own lines with real network namespaces. Run as root.
# Nothing listens: this script starts no process.
# To remove all of it: for n in {spaces}; do ip netns del "$n"; done
set -eu

for n in {spaces}; do
    if ip netns list | grep -q "^$n\\( \\|\\$\\)"; then
        echo "network namespace $n exists already; remove it first: ip netns del $n" >&2
        exit 1
    fi
done

# A namespace inherits switches from the machine: set each one before any link exists.
base() {{
    ip netns exec "$1" sysctl -e -q -p - <<'SWITCHES'
{switches}
SWITCHES
}}
for n in {spaces}; do
    ip netns add "$n"
    base "$n"
done
"""


def script(lab: Lab) -> str:
    """The sh script that builds the lab in network namespaces; it starts no processes.

    Every line of the lab appears in it once, in order, as ``ip netns exec NAMESPACE COMMAND``.
    """
    pairs = places(lab)
    head = HEAD.format(
        name=lab.name,
        spaces=" ".join(shlex.quote(name) for _, name in pairs),
        switches="\n".join(f"{key} = {value}" for key, value in base_sysctls()),
    )
    lines = []
    for line in lab.lines:
        place, words = split(line)
        lines.append(f"ip netns exec {shlex.quote(netns(place))} {shlex.join(words)}")
    return head + "\n" + "\n".join(lines) + "\n"
