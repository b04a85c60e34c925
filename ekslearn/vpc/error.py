"""EC2's refusals by their own codes, and identifiers of the shape EC2 gives."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Network

from ..errors import EkslearnError


class Ec2Error(EkslearnError):
    """EC2 says no: ``code`` is the name of the error, ``said`` what it adds.

    Codes are those of "Error codes for the Amazon EC2 API". The sentences are the ones that EC2 is
    known to answer with where somebody has published them; a docstring says where one is ours.
    """

    def __init__(self, code: str, said: str) -> None:
        super().__init__(f"{code}: {said}")
        self.code = code
        self.said = said

    def __reduce__(self) -> tuple[type[Ec2Error], tuple[str, str]]:
        return type(self), (self.code, self.said)


def aws_id(kind: str, *words: str) -> str:
    """An identifier as EC2 makes them ("eni-" and 17 hex digits), the same on every run.

    >>> aws_id("eni", "node-a", "0")
    'eni-03d0d88ae8ff0f3e9'
    """
    return f"{kind}-0{hashlib.sha256('/'.join((kind, *words)).encode()).hexdigest()[:16]}"


def ec2_refuses(so: object, code: str, said: str) -> None:
    """Raise Ec2Error if it is so."""
    if so:
        raise Ec2Error(code, said)


def cidr_of(text: str | IPv4Network, code: str = "", what: str = "cidrBlock") -> IPv4Network:
    """Read a CIDR, with host bits cleared as EC2 does; a VPC's or a subnet's is /16 to /28.

    Raises Ec2Error: InvalidParameterValue where it is none, ``code``, if one is given, where its
    size is wrong. ``what`` is EC2's name for the parameter.
    """
    try:
        network = IPv4Network(text, strict=False)
    except ValueError:
        said = f"Value ({text}) for parameter {what} is invalid. This is not a valid CIDR block."
        raise Ec2Error("InvalidParameterValue", said) from None
    wrong = code and not 16 <= network.prefixlen <= 28
    ec2_refuses(wrong, code, f"The CIDR '{text}' is invalid.")
    return network
