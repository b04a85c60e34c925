"""Log bundles of a node: what is read, what is taken over, and what is said of the rest."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ekslearn import EkslearnError
from ekslearn.bundle import read_bundle
from ekslearn.cluster import Cluster
from ekslearn.scenario import load

from .bundles import LISTINGS, gather
from .test_clusters import HEAD, POD

FAULTS = [
    "ip rule del prio 1024",
    "ip route add 10.99.0.0/16 via 10.0.0.1 dev eth0",
    "ip route del default table 2",
    "ip route del 10.0.0.1 table 2",
    "ip rule del prio 32765",
    "iptables -A FORWARD -s 10.1.1.1 -m comment --comment 'a note' -j DROP",
    "sysctl -w net.ipv4.conf.eth0.rp_filter=1",
]
SETTINGS = [
    "{}", "{AWS_VPC_K8S_CNI_EXTERNALSNAT: 'true'}", "{AWS_VPC_K8S_CNI_VETHPREFIX: veth}",
    "{AWS_VPC_CNI_NODE_PORT_SUPPORT: 'false'}", "{ENABLE_PREFIX_DELEGATION: 'true'}",
    "{AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS: '192.168.0.0/16'}",
]  # fmt: skip


def node(*lines: str, settings: str = "{}") -> Cluster:
    pods = "".join(POD % (f"p{n}", "node-a") for n in range(5))
    made = load(HEAD.replace("  connmark", f"  cni: {settings}\n  connmark") + pods)
    assert isinstance(made, Cluster)
    for line in lines:
        assert not made.run("node-a", line).status
    return made


def whole(folder: Path, *lines: str, settings: str = "{}") -> tuple[Cluster, Path]:
    made = node(*lines, settings=settings)
    return made, gather(made, "node-a", folder, lambda place, line: made.run(place, line).stdout)


def same(folder: Path, again: Cluster) -> None:
    for name, command in LISTINGS.items():
        assert again.run("node", command).stdout == (folder / name).read_text(), command


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_whole_bundle_becomes_the_same_node(tmp_path: Path, settings: str) -> None:
    made, folder = whole(tmp_path, settings=settings)
    text, notes = read_bundle(folder)
    again = load(text)
    assert isinstance(again, Cluster)
    same(folder, again)
    for place in made.pods:
        assert again.address(place) == made.address(place)
    assert not [note for note in notes if note.startswith("left out")]


@pytest.mark.parametrize("count", range(1, len(FAULTS) + 1))
def test_what_was_broken_is_broken_again(tmp_path: Path, count: int) -> None:
    made, folder = whole(tmp_path, *FAULTS[:count])
    again = load(read_bundle(folder)[0])
    assert isinstance(again, Cluster)
    same(folder, again)
    assert len(again.lines) > len(made.lines) // 3


def test_an_archive_is_read_like_a_folder(tmp_path: Path) -> None:
    _, folder = whole(tmp_path / "b")
    archive = tmp_path / "eks_i-0abc_2026-08-20_1200-UTC_0.7.9.tar.gz"
    with tarfile.open(archive, "w:gz") as out:
        out.add(folder, arcname=".")
    assert read_bundle(archive)[0] == read_bundle(folder)[0]


def test_secrets_and_container_ids_are_not_kept(tmp_path: Path) -> None:
    _, folder = whole(tmp_path)
    env = {"Spec": {"process": {"env": ["AWS_SECRET=hunter2", "WARM_ENI_TARGET=2"]}}}
    (folder / "cni").mkdir()
    (folder / "cni/cni-configuration-variables-containerd.json").write_text(json.dumps(env))
    text = read_bundle(folder)[0]
    assert "WARM_ENI_TARGET: '2'" in text
    assert "hunter2" not in text
    assert "s3cret" not in text


def test_what_the_model_refuses_is_named_and_left_out(tmp_path: Path) -> None:
    _, folder = whole(tmp_path)
    save = folder / "networking/iptables-save.txt"
    save.write_text(save.read_text().replace(
        "COMMIT", "-A PREROUTING -m ipvs --ipvs -j ACCEPT\nCOMMIT", 1
    ))  # fmt: skip
    text, notes = read_bundle(folder)
    assert any("ipvs" in note and note.startswith("left out") for note in notes)
    load(text)


def test_the_collector_that_ran_twice(tmp_path: Path) -> None:
    _, folder = whole(tmp_path)
    told = folder / "ipamd/enis.json"
    before = read_bundle(folder)[0]
    told.write_text('{"0": {"ENIs": {}}}\n' + told.read_text())
    assert read_bundle(folder)[0] == before


def _emptied(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text("") and None


def _cut(name: str, text: str, instead: str = "") -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        assert text in (folder / name).read_text()
        (folder / name).write_text((folder / name).read_text().replace(text, instead))

    return cut


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no rules": (lambda f: (f / "networking/iprule.txt").unlink(), "iprule.txt isn't there; a "),
    "empty routes": (_emptied("networking/iproute.txt"), "iproute.txt is empty; a bundle of"),
    "empty ENIs": (_emptied("ipamd/enis.json"), "ipamd/enis.json is empty; a bundle of"),
    "half an answer": (
        lambda f: (f / "ipamd/enis.json").write_text((f / "ipamd/enis.json").read_text()[:200]),
        "enis.json isn't what ipamd answers on /v1/enis",
    ),
    "another answer": (
        lambda f: (f / "ipamd/enis.json").write_text('{"AvailableCommands": ["/v1/enis"]}'),
        "enis.json isn't what ipamd answers on /v1/enis",
    ),
    "half a table": (
        lambda f: (f / "networking/iptables-save.txt").write_text(
            (f / "networking/iptables-save.txt").read_text().rpartition("COMMIT")[0]
        ),
        "iptables-save.txt is cut off: not every table has its COMMIT",
    ),
    "no local routes": (
        _cut("networking/iproute.txt", "table local", "table 99"),
        "neither networking/iproute.txt nor networking/iprule.txt tells which interface eni-",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_bundle_is_one_sentence(tmp_path: Path, case: str) -> None:
    _, folder = whole(tmp_path)
    damage, said = DAMAGE[case]
    damage(folder)
    with pytest.raises(EkslearnError) as caught:
        read_bundle(folder)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no archive")
    for source, said in ((tmp_path / "nowhere", "can't be read: no such file"),
                         (tmp_path / "x", "can't be read"), (tmp_path, "isn't there")):  # fmt: skip
        with pytest.raises(EkslearnError) as caught:
            read_bundle(source)
        assert said in str(caught.value).lower()
    broken = io.BytesIO()
    with tarfile.open(fileobj=broken, mode="w:gz") as out:
        out.addfile(tarfile.TarInfo("networking/iprule.txt"))
    (tmp_path / "cut.tar.gz").write_bytes(broken.getvalue()[:-20])
    with pytest.raises(EkslearnError):
        read_bundle(tmp_path / "cut.tar.gz")


def test_the_instance_type_can_be_named(tmp_path: Path) -> None:
    _, folder = whole(tmp_path)
    assert "instanceType: m5.large" in read_bundle(folder, kind="m5.large")[0]
    with pytest.raises(EkslearnError, match="EC2 has no instance type"):
        read_bundle(folder, kind="m5.huge")
