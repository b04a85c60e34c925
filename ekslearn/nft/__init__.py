"""``nft`` on the model, as far as the VPC CNI's table ``ip aws-cni`` needs it.

A room of its own beside ``ekslearn.iptables``: whoever imports it can run ``nft`` with
``tools.run`` as well. Read in this order: statements, commands.
"""

from ..tools import TOOLS
from .commands import nft
from .statements import BASE_TEXT, rule_text

TOOLS["nft"] = lambda namespace, words, stdin: nft(namespace, words)

__all__ = ["BASE_TEXT", "rule_text"]
