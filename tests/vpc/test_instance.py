from __future__ import annotations

import gzip
import json
import subprocess
import sys
from typing import Any

import pytest

from ekslearn.errors import EkslearnError
from ekslearn.vpc.error import rows
from ekslearn.vpc.instance import InstanceType, instance_type, instance_types, max_pods
from tests.data.instance_types import COLUMNS, row, table
from tests.ground import ROOT
from tests.vectors.ec2 import AREAS

# By hand, from the facts: ENIs, IPv4 addresses per ENI, max pods, by prefixes and uncapped.
KNOWN = """
t3.nano        2  2    4    34
t3.small       3  4   11   146
t3.medium      3  6   17   242
t3.large       3 12   35   530
a1.medium      2  4    8    98
m7g.medium     2  4    8    98
m5.large       3 10   29   434
c5.large       3 10   29   434
r5.large       3 10   29   434
m5.xlarge      4 15   58   898
m5.4xlarge     8 30  234  3714
c5.9xlarge     8 30  234  3714
m4.4xlarge     8 30  234   234
m5.24xlarge   15 50  737 11762
c5n.18xlarge  15 50  737 11762
p3dn.24xlarge 15 50  737 11762
g5.48xlarge    7 50  345  5490
p4d.24xlarge  15 50  737 11762
trn1.32xlarge  5 50  247  3922
p5.48xlarge    2 50  100  1570
m8gn.48xlarge 12 50  590  9410
c8a.48xlarge  24 64 1514 24194
"""


@pytest.mark.parametrize("line", KNOWN.split("\n")[1:-1], ids=lambda line: line.split()[0])
def test_published_limits_and_max_pods(line: str) -> None:
    name, *numbers = line.split()
    kind = instance_type(name)
    got = (kind.enis, kind.ipv4_per_eni, max_pods(kind), max_pods(kind, prefixes=True))
    assert got == tuple(map(int, numbers))


def test_custom_networking_spares_the_primary_eni() -> None:
    large = instance_type("m5.large")
    assert max_pods(instance_type("t3.medium"), custom_networking=True) == 12
    assert max_pods(large, custom_networking=True) == 20
    assert max_pods(large, custom_networking=True, prefixes=True) == 290
    assert max_pods(large, custom_networking=True, prefixes=True, capped=True) == 110


@pytest.mark.parametrize(("vcpus", "cap"), [(2, 110), (30, 110), (31, 250), (96, 250)])
def test_the_cap_depends_on_vcpus(vcpus: int, cap: int) -> None:
    kind = InstanceType(name="any", enis=15, ipv4_per_eni=50, vcpus=vcpus)
    assert max_pods(kind, prefixes=True, capped=True) == cap
    assert (
        max_pods(InstanceType(name="any", enis=3, ipv4_per_eni=4, vcpus=vcpus), capped=True) == 11
    )


def test_prefixes_need_nitro_or_bare_metal() -> None:
    assert instance_type("m5.large").prefix_delegation
    assert instance_type("m5.metal").prefix_delegation and not instance_type("m5.metal").hypervisor
    assert not instance_type("m4.large").prefix_delegation


def test_an_unknown_type_is_answered_with_names_like_it() -> None:
    with pytest.raises(EkslearnError) as refusal:
        instance_type("m5.lagre")
    assert str(refusal.value).startswith("EC2 has no instance type 'm5.lagre'; there are, for")
    assert "m5.large" in str(refusal.value)
    with pytest.raises(EkslearnError, match=r"m5\.large"):
        instance_type("")


def test_every_row_makes_sense() -> None:
    kinds = instance_types()
    assert len(kinds) == len(rows("instance_types.csv")) > 1300
    for kind in kinds.values():
        assert kind.network_cards and kind.network_cards[0] == kind.enis, kind
        assert kind.hypervisor in (("",) if kind.bare_metal else ("nitro", "xen")), kind
        assert kind.enis >= 1 and kind.ipv4_per_eni > 1 and kind.vcpus >= 1, kind
    assert len(instance_type("p5.48xlarge").network_cards) == 32


def test_the_file_says_where_it_comes_from() -> None:
    head = (ROOT / "data" / "instance_types.csv").read_text(encoding="utf-8").splitlines()
    assert head[0].startswith("#") and "moto 5." in head[1] and "2026" in head[1]
    assert next(line for line in head if not line.startswith("#")) == COLUMNS


def described(**changes: Any) -> dict[str, Any]:
    """One type in the shape of EC2's answer, written by hand."""
    net = {"DefaultNetworkCardIndex": 0, "Ipv4AddressesPerInterface": 50, "NetworkCards": [
        {"NetworkCardIndex": 0, "MaximumNetworkInterfaces": 15},
        {"NetworkCardIndex": 1, "MaximumNetworkInterfaces": 2},
    ]}  # fmt: skip
    return {"InstanceType": "x9.big", "BareMetal": False, "Hypervisor": "nitro",
            "VCpuInfo": {"DefaultVCpus": 96}, "NetworkInfo": net} | changes  # fmt: skip


def test_the_script_reads_ec2s_description() -> None:
    assert row(described()) == "x9.big,15,50,nitro,no,96,15 2"
    metal = described(InstanceType="x9.metal", BareMetal=True)
    del metal["Hypervisor"]
    assert row(metal) == "x9.metal,15,50,,yes,96,15 2"
    other = described()
    other["NetworkInfo"]["DefaultNetworkCardIndex"] = 1  # the default card's limit is what counts
    assert row(other).startswith("x9.big,2,50,")
    other["NetworkInfo"]["NetworkCards"].reverse()
    with pytest.raises(ValueError, match="numbered"):
        row(other)


def test_the_script_writes_a_whole_file() -> None:
    source = gzip.compress(json.dumps({"b.x": described(InstanceType="b.x"),
                                       "a.x": described(InstanceType="a.x")}).encode())  # fmt: skip
    text = table(source, "9.9", "2030-01-01")
    assert "moto 9.9 of 2030-01-01" in text
    body = [line.split(",")[0] for line in text.splitlines() if not line.startswith("#")]
    assert body == ["instance_type", "a.x", "b.x"]
    done = subprocess.run([sys.executable, ROOT / "tests" / "data" / "instance_types.py"],
                          capture_output=True)  # fmt: skip
    assert done.returncode != 0  # without its three words it writes nothing


def test_vectors_of_max_pods() -> None:
    pods = AREAS["max-pods"]
    given = {"instance_type": "t3.small", "max_enis": 3, "ipv4_per_eni": 4, "mode": "secondary-ip"}
    assert pods(given) == {"max_pods": 11, "usable_ips_per_eni": 3}
    assert pods({"instance_type": "t3.small", "mode": "secondary-ip"})["max_pods"] == 11
    assert "max_pods" not in pods(given | {"max_enis": 4})  # the data would be out of date
    unknown = {"instance_type": "z1.new", "max_enis": 6, "ipv4_per_eni": 12}
    assert pods(unknown | {"mode": "secondary-ip"})["max_pods"] == 68
    big = {"max_enis": 15, "ipv4_per_eni": 50, "mode": "prefix", "cap": True}
    assert [pods(big | {"vcpus": n})["max_pods"] for n in (30, 31, 96)] == [110, 250, 250]
    assert pods(big | {"cap": False})["max_pods"] == 11762
    custom = {"instance_type": "t3.medium", "mode": "secondary-ip", "custom_networking": True}
    assert pods(custom)["max_pods"] == 12
