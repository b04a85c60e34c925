"""Log bundles whose listings the real kernel printed: read as the model's, whole and damaged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekslearn import EkslearnError
from ekslearn.bundle import read_bundle
from ekslearn.cluster import Cluster
from ekslearn.kernel import World
from ekslearn.scenario import load
from tests.bundles import LISTINGS, gather
from tests.test_bundle import DAMAGE, FAULTS, SETTINGS, node

SAVE, SWITCHES = "networking/iptables-save.txt", "sysctls/sysctl_all.txt"
# What a node may have and the model hasn't: the command, and what is said of it.
FOREIGN = {
    "ip rule add prio 600 from all ipproto tcp dport 25 lookup 7":
        "ip rule add from all ipproto tcp dport 25 lookup 7 prio 600",
    "iptables -A INPUT -p tcp -m length --length 0:99 -j DROP": "-m length",
    "iptables -t raw -A PREROUTING -s 10.9.9.9 -j DROP": "the iptables table raw",
    "ip route add 10.98.0.0/16 via 10.0.0.1 dev eth0 mtu lock 1400": "mtu lock 1400",
}  # fmt: skip
# What becomes of files that are cut off, some earlier, some later.
READ, REFUSED = "read", "refused"
CUT = {
    "networking/iprule.txt": {READ}, "networking/iproute.txt": {READ, REFUSED},
    SAVE: {READ, REFUSED},  # read where it ends between two tables: that can't be seen
    SWITCHES: {READ}, "ipamd/enis.json": {REFUSED},
}  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as one:
        yield one


@pytest.fixture(scope="module")
def kept(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a node with two faults."""
    return gathered(world, tmp_path_factory.mktemp("kept"), node(*FAULTS[:2]))


def gathered(world: World, folder: Path, made: Cluster, *, built: bool = False) -> Path:
    """The bundle of a node as it stands on the kernel."""
    if not built:
        world.build(made)
    return gather(made, "node-a", folder, lambda place, line: world.run(place, line).stdout)


def modelled(folder: Path, made: Cluster) -> Path:
    return gather(made, "node-a", folder, lambda place, line: made.run(place, line).stdout)


def rows(text: str) -> list[str]:
    """A listing without the comments of iptables-save, which tell when it was."""
    return [line for line in text.splitlines() if not line.startswith("#")]


def alike(tmp_path: Path, world: World, made: Cluster) -> None:
    """Both bundles become the same scenario, and that scenario lists what the kernel listed."""
    real, model = gathered(world, tmp_path / "b", made), modelled(tmp_path / "m", made)
    assert " on " in (real / SAVE).read_text().splitlines()[0]
    assert len((real / SWITCHES).read_text()) > 5 * len((model / SWITCHES).read_text())
    text, notes = read_bundle(real)
    assert (text, notes) == read_bundle(model)
    assert not [note for note in notes if note.startswith("left out")]
    again = load(text)
    for name, command in LISTINGS.items():
        listed = rows(again.run("node", command).stdout)
        there = rows((real / name).read_text())
        assert listed == there if name != SWITCHES else set(listed) <= set(there), command


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_whole_one_is_read_as_the_models(tmp_path: Path, world: World, settings: str) -> None:
    alike(tmp_path, world, node(settings=settings))


@pytest.mark.parametrize("count", (1, 4, len(FAULTS)))
def test_a_broken_node_is_read_as_the_models(tmp_path: Path, world: World, count: int) -> None:
    alike(tmp_path, world, node(*FAULTS[:count]))


@pytest.mark.parametrize("command", FOREIGN)
def test_what_only_the_kernel_can_is_named(tmp_path: Path, world: World, command: str) -> None:
    """All else is read as if it weren't there."""
    made = node()
    world.build(made)
    done = world.run("node-a", command)
    assert not done.status, done.stderr
    text, notes = read_bundle(gathered(world, tmp_path / "b", made, built=True))
    left = [note for note in notes if note.startswith("left out")]
    assert len(left) == 1 and FOREIGN[command] in left[0]
    plain = read_bundle(modelled(tmp_path / "m", made))[0]
    again, wanted = load(text), load(plain)
    for listing in LISTINGS.values():
        assert again.run("node", listing).stdout == wanted.run("node", listing).stdout


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_one_is_one_sentence(tmp_path: Path, kept: Path, case: str) -> None:
    folder = shutil.copytree(kept, tmp_path / "b")
    damage, said = DAMAGE[case]
    damage(folder)
    with pytest.raises(EkslearnError) as caught:
        read_bundle(folder)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CUT)
def test_one_cut_off_anywhere_is_read_or_refused(tmp_path: Path, kept: Path, name: str) -> None:
    """A disk that was full: a file ends in the middle of a word."""
    folder = shutil.copytree(kept, tmp_path / "b")
    whole, outcomes = (kept / name).read_text(), set()
    for part in range(1, 10):
        (folder / name).write_text(whole[: len(whole) * part // 10])
        try:
            load(read_bundle(folder)[0])
            outcomes.add(READ)
        except EkslearnError as error:
            assert "\n" not in str(error)
            outcomes.add(REFUSED)
    assert outcomes == CUT[name]
