"""Widgets, one question each: where does the packet go, and what did my command change?"""

from __future__ import annotations

from ekslearn.widgets.shell import Shell, shell
from ekslearn.widgets.walk import PacketWalk, packet_walk
from ekslearn.widgets.workbench import Workbench, workbench

__all__ = ["PacketWalk", "Shell", "Workbench", "packet_walk", "shell", "workbench"]
