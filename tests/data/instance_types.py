"""Makes data/instance_types.csv from the copy of EC2's own description that moto ships.

    pip download --no-deps moto
    unzip moto-*.whl moto/ec2/resources/instance_types.json.gz
    python tests/data/instance_types.py VERSION DATE moto/ec2/resources/instance_types.json.gz

VERSION and DATE are moto's, of that release. moto is no dependency of the project.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[2] / "data" / "instance_types.csv"
COLUMNS = "instance_type,enis,ipv4_per_eni,hypervisor,bare_metal,vcpus,network_cards"
HEAD = """\
# EC2's instance types: every one that DescribeInstanceTypes describes, all Regions.
# Source: moto {version} of {date} (Apache-2.0), moto/ec2/resources/instance_types.json.gz, its copy
# of EC2's answers; made by tests/data/instance_types.py.
# enis: the limit of the default network card. ipv4_per_eni: with the primary address.
# hypervisor: empty for bare metal. network_cards: the limit of each card.
"""


def row(kind: dict[str, Any]) -> str:
    """One type as a line of the table; ValueError if EC2 says something the table can't hold."""
    net = kind["NetworkInfo"]
    cards = [card["MaximumNetworkInterfaces"] for card in net["NetworkCards"]]
    if [card["NetworkCardIndex"] for card in net["NetworkCards"]] != list(range(len(cards))):
        raise ValueError(f"{kind['InstanceType']}: its network cards aren't numbered from 0")
    fields = (
        kind["InstanceType"], cards[net["DefaultNetworkCardIndex"]],
        net["Ipv4AddressesPerInterface"], kind.get("Hypervisor", ""),
        "yes" if kind["BareMetal"] else "no", kind["VCpuInfo"]["DefaultVCpus"],
        " ".join(str(card) for card in cards),
    )  # fmt: skip
    return ",".join(str(field) for field in fields)


def table(source: bytes, version: str, date: str) -> str:
    """The whole file, from moto's compressed copy."""
    kinds = json.loads(gzip.decompress(source))
    rows = [row(kinds[name]) for name in sorted(kinds)]
    return HEAD.format(version=version, date=date) + "\n".join([COLUMNS, *rows]) + "\n"


if __name__ == "__main__":
    version, date, path = sys.argv[1:]
    TARGET.write_text(table(Path(path).read_bytes(), version, date), encoding="utf-8")
