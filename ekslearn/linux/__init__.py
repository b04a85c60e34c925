"""What one Linux kernel does with a packet, as much of it as EKS uses, and why.

Nothing here knows the tools' text: see ``ekslearn.tools`` for that. Read in this order: packet,
link, sysctl, route, neighbor, ip, socket, namespace.
"""

from .link import Address, Link, Segment
from .namespace import NetworkNamespace
from .neighbor import Neighbor
from .packet import Arp, Frame, Packet
from .route import Flow, Lookup, PassedOver, Route, Rule
from .socket import Client, Listener
from .world import Decision, Recorder, World

__all__ = [
    "Address", "Arp", "Client", "Decision", "Flow", "Frame", "Link", "Listener", "Lookup",
    "Neighbor", "NetworkNamespace", "Packet", "PassedOver", "Recorder", "Route", "Rule", "Segment",
    "World",
]  # fmt: skip
