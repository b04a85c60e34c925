"""A plain Ethernet wire: what the VPC's is not, for what a kernel does on any."""

from __future__ import annotations

from ekslearn.linux.link import Link, Wire
from ekslearn.linux.packet import Frame


class Segment(Wire):
    """One Ethernet wire or switch: every link plugged in hears every frame."""

    def __init__(self, *links: Link) -> None:
        self.links = list(links)
        for link in links:
            link.segment = self

    def carry(self, link: Link, frame: Frame) -> None:
        """Let every other link that is up hear the frame."""
        for other in self.links:
            if other is not link and other.up:
                link.namespace.world.later(other.namespace.receive, other, frame)
