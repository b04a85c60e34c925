"""What one Linux kernel does with a packet, as much of it as EKS uses, and why.

Nothing here knows the tools' text: see ``ekslearn.tools`` for that. Read in this order: packet,
link, sysctl, route, neighbor, ip, socket, namespace.
"""

from .link import Address, Link
from .namespace import NetworkNamespace
from .neighbor import Neighbor
from .packet import Packet
from .route import Flow, Lookup, PassedOver, Route, Rule
from .socket import Client
from .world import Decision, World

__all__ = [
    "Address", "Client", "Decision", "Flow", "Link", "Lookup", "Neighbor", "NetworkNamespace",
    "Packet", "PassedOver", "Route", "Rule", "World",
]  # fmt: skip
