"""EC2's refusals by their own codes, the tables of data/, and identifiers as EC2 gives them."""

from __future__ import annotations

import csv
import hashlib
from functools import cache
from ipaddress import IPv4Network

from ..errors import EkslearnError
from ..paths import data_path


class Ec2Error(EkslearnError):
    """EC2 says no: ``code`` is the name of the error, ``said`` the sentence it adds."""

    def __init__(self, code: str, said: str) -> None:
        super().__init__(f"{code}: {said}")
        self.code = code
        self.said = said


def rows(name: str) -> list[dict[str, str]]:
    """The rows of a table in data/, by its columns' names; lines that begin with # are comments."""
    with data_path(name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(line for line in lines if not line.startswith("#")))


@cache
def _refusals() -> dict[str, tuple[str, str]]:
    return {row["refusal"]: (row["code"], row["sentence"]) for row in rows("ec2_errors.csv")}


def ec2_refuses(so: object, refusal: str, *values: object) -> None:
    """Raise Ec2Error if it is so.

    ``refusal`` is a row of data/ec2_errors.csv, which has the code, the sentence and who has
    published it.
    """
    if so:
        code, sentence = _refusals()[refusal]
        raise Ec2Error(code, sentence.format(*values))


def aws_id(kind: str, *words: str) -> str:
    """An identifier as EC2 makes them ("eni-" and 17 hex digits), the same on every run.

    >>> aws_id("eni", "node-a", "0")
    'eni-0895d36decb8b28fb'
    """
    return f"{kind}-0{hashlib.sha256('/'.join((kind, *words)).encode()).hexdigest()[:16]}"


def cidr_of(text: str | IPv4Network, size: str = "", what: str = "cidrBlock") -> IPv4Network:
    """Read a CIDR, with host bits cleared as EC2 does.

    ``size`` names the refusal where a VPC's or a subnet's isn't /16 to /28; ``what`` is EC2's
    name for the parameter.
    """
    try:
        network = IPv4Network(text, strict=False)
    except ValueError:
        ec2_refuses(True, "no cidr", text, what)
        raise
    ec2_refuses(size and not 16 <= network.prefixlen <= 28, size, text)
    return network
