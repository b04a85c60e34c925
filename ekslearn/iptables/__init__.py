"""``iptables``, ``iptables-save``, ``iptables-restore`` and ``conntrack`` on the model.

The language of netfilter, a room of its own beside ``ekslearn.tools``: whoever imports it can run
these commands with ``tools.run`` as well. Read in this order: rows, line, commands, conntrack.
"""

from ..tools import TOOLS
from .commands import iptables, iptables_restore, iptables_save, rule_text
from .conntrack import connection_text, conntrack

TOOLS |= {
    "iptables": lambda namespace, words, stdin: iptables(namespace, words),
    "iptables-save": lambda namespace, words, stdin: iptables_save(namespace, words),
    "iptables-restore": iptables_restore,
    "conntrack": lambda namespace, words, stdin: conntrack(namespace, words),
}

__all__ = ["connection_text", "rule_text"]
