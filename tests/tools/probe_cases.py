"""What real ``ping``, ``traceroute``, ``curl`` and ``conntrack`` say in one small lab.

``tests/data/probe-cases.txt`` is written by ``python -m tests.tools.probe_cases``, which asks them
in a private world; the tests read it anywhere. Its form is that of ``tests.tools.cases``. Volatile
words are masked on both sides: times, ids, ports that somebody drew, the order of connections, and
the state of a TCP connection that was used, since the model's ends with the handshake.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from ekslearn.cluster import Lab
from ekslearn.kernel import World
from tests.kernel.labs import ROUTED, modelled
from tests.tools.cases import Case, Said, read

FILE = Path(__file__).parents[1] / "data" / "probe-cases.txt"
LISTEN = [
    ("right", "0.0.0.0:80/tcp"), ("right", "0.0.0.0:8080/tcp"), ("left", "127.0.0.1:9000/tcp"),
]  # fmt: skip
STATES = "SYN_RECV|ESTABLISHED|FIN_WAIT|CLOSE_WAIT|LAST_ACK|TIME_WAIT"
VOLATILE = (
    (r"= [0-9./]+ ms", "= TIMES"), (r"\d+\.\d{3} ms", "TIME"), (r"time \d+ms", "time TIME"),
    (r"after \d+ (ms|milliseconds)", r"after TIME \1"), (r"\bid=\d+", "id=*"),
    (r"\b(sport|dport)=[3-6]\d{4}", r"\1=*"), (r"(?m)^(right|left) (\S+) \d+$", r"\1 \2 *"),
    (r"(?m)^(icmp +1|udp +17|tcp +6) \d+ ", r"\1 TIME "), (rf"\b({STATES})(?= src)", "USED"),
    (r"\[ASSURED\] ", ""),
)  # fmt: skip


def lab() -> Lab:
    """left - router - right, each with its loopback."""
    up = [f"{place}$ ip link set lo up" for place in ("left", "router", "right")]
    return modelled("probes", [*up, *ROUTED], LISTEN)


def masked(text: str) -> str:
    """A text without what changes from run to run."""
    for pattern, put in VOLATILE:
        text = re.sub(pattern, put, text)
    lines = text.splitlines(keepends=True)
    return "".join(sorted(lines) if " use=1" in text else lines)


def asked(case: Case, side: Any) -> Case:
    """The case with what ``side``, a Lab or a World with one built, says to it."""
    said = []
    for one in case.said:
        done = side.run(one.step[0], shlex.join(one.step[1]))
        said.append(Said(one.step, masked(done.stdout), masked(done.stderr), done.status))
    return Case(case.name, said)


def from_the_kernel(case: Case, world: World) -> Case:
    """The case asked anew of the real tools, in a lab built anew."""
    world.build(lab())
    world.probe([])  # neighbors give up fast from now on
    return asked(case, world)


def main() -> None:
    """Ask the real tools again and write the file anew."""
    with World() as world:
        cases = [from_the_kernel(case, world) for case in read(FILE)]
    FILE.write_text("".join(map(str, cases)).rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
