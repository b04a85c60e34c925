"""PoolView without a browser: every frame against ipamd's own store and decisions."""

from __future__ import annotations

import json
import re

import pytest

from ekslearn.cluster import Cluster
from ekslearn.draw import describe
from ekslearn.errors import EkslearnError
from ekslearn.widgets import PoolView, pool_view
from ekslearn.widgets.changes import listings
from ekslearn.widgets.pool_film import Film, Frame, film, lines_of, row_words
from tests.draw.clusters import CROWD, cluster, two_nodes
from tests.draw.labs import two_rooms

STORY = ["create 3", "sleep 30", "delete 2", "sleep 60", "set WARM_IP_TARGET=1", "sleep 90"]


def prefixes() -> Cluster:
    """One node that has prefixes, nitro and large enough."""
    return cluster(
        CROWD.replace('WARM_IP_TARGET: "1", MINIMUM_IP_TARGET: "1"',
                      'ENABLE_PREFIX_DELEGATION: "true", WARM_PREFIX_TARGET: "1"')
        + "    - {name: node-0, instanceType: m5.large, subnet: private-a}\n"
    )  # fmt: skip


@pytest.fixture(scope="module")
def story() -> PoolView:
    return pool_view(two_nodes(), "node-b", STORY)


def test_at_every_frame_slots_and_counts_agree(story: PoolView) -> None:
    assert len(story.frames) > 8
    for number, frame in enumerate(story.frames):
        story.step = number
        slots = [slot for row in frame.rows for slot in row.slots]
        kinds = [slot.kind for slot in slots]
        assert kinds.count("assigned") == frame.numbers["AssignedIPs"]
        assert kinds.count("cooling") == frame.numbers["CooldownIPs"]
        assert len(slots) - kinds.count("primary") - kinds.count("empty") == (
            frame.numbers["TotalIPs"])  # fmt: skip
        assert len(frame.rows) == kinds.count("primary") == frame.numbers["ENIs"]
        assert all(len(row.slots) == 4 for row in frame.rows), "a t3.small's ENIs have four"
    story.step = 10_000
    assert story.step == len(story.frames) - 1
    story.step = 0


def test_every_decision_is_in_one_frame_or_only_repeats_the_one_before() -> None:
    made = film(two_nodes(), "node-b", STORY[:2])
    shown = [one for frame in made.frames for one in frame.decisions]
    for one in made.ipamd.decisions[2:]:
        if one.did or one.calls:
            assert one in shown


def test_the_words_hold_every_frame_and_every_number_a_decision_compared(story: PoolView) -> None:
    words = story.words
    for frame in story.frames:
        for one in frame.decisions:
            for check in one.checks:
                assert check.words in words
            for did in one.did:
                assert f"did: {did}" in words
            for call in one.calls:
                assert call.name in words
    assert "available 2 < maxIPsPerENI 3 × WARM_ENI_TARGET 1" in words
    assert words.splitlines()[0] == (
        "The pool of node-b (t3.small: 3 ENIs with 4 addresses each, 11 pods)"
    )


def test_an_address_cools_for_thirty_seconds_and_is_free_then() -> None:
    view = pool_view(two_nodes(), "node-b", ["delete default/api-1"])
    assert "10.0.32.5 cooling, 30 s left" in row_words(view.frames[-1].rows[0])
    view.run("sleep 30")
    assert "10.0.32.5 cooling, 0 s left" in row_words(view.frames[-1].rows[0])
    view.run("sleep 5")
    assert "10.0.32.5 free" in row_words(view.frames[-1].rows[0])


def test_quiet_time_is_one_frame(story: PoolView) -> None:
    long = pool_view(two_nodes(), "node-b", ["sleep 600"])
    assert len(long.frames) < 12
    assert long.frames[-1].until == 600
    for before, after in zip(story.frames, story.frames[1:], strict=False):
        assert before.until <= after.time


def test_a_setting_moves_the_pool_and_restarts_the_daemon() -> None:
    view = pool_view(two_nodes(), "node-b", ["set WARM_IP_TARGET=1", "sleep 300"])
    assert view.frames[1].decisions[0].step == "start"
    assert "default/api-1" in row_words(view.frames[-1].rows[0]), "a restart loses no pod"
    assert view.frames[-1].numbers["TotalIPs"] == 2
    assert view.film.ipamd.settings.warm_ip_target == 1


def test_prefixes_are_slots_of_sixteen() -> None:
    view = pool_view(prefixes(), "node-0", ["create 2"])
    slots = [slot for row in view.frames[-1].rows for slot in row.slots if slot.kind == "prefix"]
    assert slots
    assert all(len(slot.cells) == 16 for slot in slots)
    assert sum(cell.kind == "assigned" for slot in slots for cell in slot.cells) == 2
    assert any(slot.words.endswith(": 2 of 16 assigned") for slot in slots) or len(slots) > 1
    assert "cells" in json.dumps(view.film_data)


def test_a_pod_without_an_address_is_told_in_kubelets_words() -> None:
    view = pool_view(two_nodes(), "node-b", ["create 12"])
    assert view.frames[-1].pending
    assert "failed to assign an IP address to container" in view.words
    assert view.frames[-1].pending[0] in view.film_data["frames"][-1]["pending"]


def test_watching_changes_nothing_and_says_the_same_again() -> None:
    lab = two_nodes()
    before = describe(lab), listings(lab), list(lab.lines), lab.world.clock
    one = pool_view(lab, "node-b", STORY)
    assert (describe(lab), listings(lab), list(lab.lines), lab.world.clock) == before
    two = pool_view(two_nodes(), "node-b", STORY)
    assert (one.words, one.html(), repr(one)) == (two.words, two.html(), repr(two))


NONSENSE = [
    "", "nothing", "create", "create 0", "create -1", "create x", "create 9999999", "delete 0",
    "delete default/none", "sleep", "sleep 0", "sleep 1e9", "sleep 99999", "set X=1", "set WARM",
    "set WARM_IP_TARGET=", "set WARM_IP_TARGET=-1", "set WARM_IP_TARGET=<b>", "create " + "9" * 500,
    "create default/api-1", "create /", "create Default/x", "create a/b/c", "delete default/web-1",
]  # fmt: skip


@pytest.mark.parametrize("line", NONSENSE)
def test_nonsense_is_refused_in_one_sentence_and_nothing_happens(line: str) -> None:
    made = film(two_nodes(), "node-b")
    before = describe(made.cluster), made.cluster.world.clock, len(made.frames)
    with pytest.raises(EkslearnError) as refusal:
        made.run(line)
    assert 10 < len(str(refusal.value)) < 300
    assert (describe(made.cluster), made.cluster.world.clock, len(made.frames)) == before


def test_what_isnt_there_is_refused() -> None:
    with pytest.raises(EkslearnError, match="no node 'node-z' in two-nodes; there are node-a"):
        pool_view(two_nodes(), "node-z")
    with pytest.raises(EkslearnError, match="a lab of bare namespaces: it has no pool"):
        pool_view(two_rooms())  # type: ignore[arg-type]


def test_the_browser_is_answered_whatever_it_sends() -> None:
    view = pool_view(two_nodes(), "node-b", live=True)
    answers: list[dict[str, object]] = []
    view.send = answers.append  # type: ignore[method-assign]
    view._hear({"serial": 1, "line": "create 2"})
    assert view.step == len(view.frames) - 1 == 1
    view._hear({"serial": 2, "line": "set WARM_IP_TARGET=2;set MINIMUM_IP_TARGET=4"})
    assert view.film_data["settings"]["MINIMUM_IP_TARGET"] == 4
    frames = len(view.frames)
    for odd in ({}, {"line": None}, {"line": [1]}, {"line": "rm -rf /"}, {"line": "<b>"}):
        view._hear({"serial": 3, **odd})
        assert view.wrong
    assert len(view.frames) == frames
    assert [each["serial"] for each in answers] == [1, 2, 3, 3, 3, 3, 3]
    view._hear({"serial": 4, "line": "sleep 5"})
    assert view.wrong == ""


def test_the_html_holds_all_of_it_and_asks_for_nothing(story: PoolView) -> None:
    html = story.html()
    data = re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    assert data
    assert json.loads(data[1]) == story.film_data
    assert not re.search(r'(src|href)="(?!data:)', html)
    for slot in story.frames[-1].rows[0].slots:
        assert slot.words in story.fallback()
    assert len(html) < 120_000


def test_the_first_node_is_taken_if_none_is_named() -> None:
    view = pool_view(two_nodes())
    assert repr(view) == "<PoolView of node-a: 1 frame>"
    assert isinstance(view.film, Film)
    assert isinstance(view.frames[0], Frame)
    assert lines_of(view.frames[0], 0.0)[0].startswith("0 s: the pool as it is; TotalIPs 9")


def test_waits_and_what_is_taken_are_told() -> None:
    """A node with no address to spare: each pod's seconds, by ipamd's own times."""
    made = pool_view(two_nodes(), "node-b", ["set WARM_IP_TARGET=1 MINIMUM_IP_TARGET=2",
                     "sleep 60", "create 4", "delete default/pod-4", "sleep 30"])  # fmt: skip
    assert made.frames[1].title == "WARM_IP_TARGET=1 MINIMUM_IP_TARGET=2: aws-node starts again"
    assert len(made.waits) == 4
    assert made.waits.count(0.0) >= 2, "one had an address at once, one was deleted at once"
    assert max(made.waits) > 0
    assert not made.film.asked
    for frame, (time, held) in zip(made.frames, made.taken, strict=False):
        assert (time, held) == (frame.time, frame.numbers["TotalIPs"] + frame.numbers["ENIs"])
    assert made.taken[-1] == (made.frames[-1].until, made.frames[-1].taken)
    told = [call for one in made.film.ipamd.decisions for call in one.calls]
    assert made.calls[-len(told) :] == told


def test_a_pod_that_waits_for_ever_waits_until_now() -> None:
    made = pool_view(two_nodes(), "node-b", ["set MINIMUM_IP_TARGET=1", "sleep 60", "create 9",
                     "sleep 60"])  # fmt: skip
    assert made.film.asked
    assert max(made.waits) == 60.0


def test_a_prefix_takes_sixteen() -> None:
    made = pool_view(prefixes(), "node-0", ["create 1", "sleep 10"])
    found = made.frames[-1]
    assert found.taken == found.numbers["TotalIPs"] + found.numbers["ENIs"]


def test_a_live_view_says_what_it_needs_where_no_kernel_runs(story: PoolView) -> None:
    needs = "needs a running kernel: run this cell"
    assert needs in pool_view(two_nodes(), "node-b", live=True)._still()
    assert needs not in story._still()
