"""``ping``, ``traceroute``, ``curl`` and ``conntrack`` say in the model what the real ones said."""

from __future__ import annotations

import pytest

from ekslearn.kernel import World
from tests.tools.cases import Case, read
from tests.tools.probe_cases import FILE, asked, from_the_kernel, lab

TOOLS = ("ping", "traceroute", "curl", "conntrack")


@pytest.mark.parametrize("case", read(FILE), ids=lambda case: case.name)
def test_the_model_says_what_the_tools_said(case: Case) -> None:
    assert str(asked(case, lab())) == str(case)


def test_each_tool_is_asked_a_dozen_times() -> None:
    lines = [said.step[1][0] for case in read(FILE) for said in case.said]
    assert all(lines.count(tool) >= 12 for tool in TOOLS)


@pytest.mark.kernel
def test_the_tools_still_say_it() -> None:
    """With iputils 20221126, traceroute 2.1.2, curl 7.88.1 and conntrack-tools 1.4.7."""
    with World() as world:
        for was in read(FILE):
            now = from_the_kernel(was, world)
            if str(now) != str(was):  # a machine that stalls makes an answer late: once more
                now = from_the_kernel(was, world)
            assert str(now) == str(was)


@pytest.mark.parametrize("line", [
    "ping -z 10.0.2.2", "ping -c", "ping -c 1 224.0.0.1", "ping -c 1 10.0.2.2 10.0.1.1",
    "ping -M want 10.0.2.2", "ping -W x 10.0.2.2", "ping -s 1473 10.0.2.2",
    "traceroute", "traceroute -I 10.0.2.2",
    "traceroute -m x 10.0.2.2", "traceroute -q 11 10.0.2.2", "traceroute 10.0.2.2 40",
    "curl -m x 10.0.2.2", "curl -v 10.0.2.2", "curl -w x 10.0.2.2",
    "curl https://10.0.2.2", "curl 10.0.2.2 10.0.2.2", "conntrack -D", "conntrack -L -p tcp",
])  # fmt: skip
def test_what_is_left_out_is_refused_by_name(line: str) -> None:
    done = lab().run("left", line)
    assert (done.status, done.stdout) == (125, "")
    assert done.stderr.startswith(f"ekslearn: {line.split()[0]}: ")
    assert done.stderr.endswith(" isn't modelled (data/not-modelled.md)\n")
