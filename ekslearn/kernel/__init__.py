"""The same lab on this machine's real kernel: the proof that the model is right.

``script`` prints it, ``up`` and ``down`` build and remove it as root, ``verify`` compares it with
the model in a private ``World`` that needs no root and leaves nothing behind.
"""

from __future__ import annotations

from ekslearn.kernel.machine import down, up
from ekslearn.kernel.verify import Report, Row, verify
from ekslearn.kernel.wiring import places, script
from ekslearn.kernel.world import World

__all__ = ["Report", "Row", "World", "down", "places", "script", "up", "verify"]
