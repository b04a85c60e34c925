"""The kept walks: what a real wire showed, the model shows; and it says why in the same words."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekslearn.linux import Decision

from . import kept

FILES = sorted(kept.FOLDER.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_model_shows_what_the_kernel_showed(path: Path) -> None:
    """Words changed on purpose? ``python -m tests.linux.kept words`` keeps the new ones."""
    walks = kept.read(path)
    now = walks.played()
    assert now.asked == walks.asked
    assert now.words == walks.words


def test_lost_listeners_are_noticed() -> None:
    """The test above can fail: without its listeners, some walk ends otherwise."""
    walks = kept.read(FILES[0])
    walks.listeners.clear()
    assert walks.played().asked != kept.read(FILES[0]).asked


STAGES = {
    "arp", "conntrack", "conntrack INPUT", "conntrack OUTPUT", "conntrack POSTROUTING",
    "conntrack PREROUTING", "deliver", "filter FORWARD", "filter INPUT", "filter OUTPUT",
    "forward", "link", "mangle FORWARD", "mangle INPUT", "mangle OUTPUT", "mangle POSTROUTING",
    "mangle PREROUTING", "nat INPUT", "nat OUTPUT", "nat POSTROUTING", "nat PREROUTING",
    "neighbor", "route",
}  # fmt: skip


def test_every_decision_is_of_a_stage_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    stages: set[str] = set()

    class Noting(kept.Recording):
        def decision(self, decision: Decision) -> None:
            stages.add(decision.stage)
            super().decision(decision)

    monkeypatch.setattr(kept, "Recording", Noting)
    for path in FILES:
        kept.read(path).played()
    assert stages <= STAGES
    assert len(stages) > 18
