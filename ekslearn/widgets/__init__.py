"""Widgets, one question each: where does a packet go, why there, what did my command change?"""

from __future__ import annotations

from ekslearn.widgets.ledger import Ledger, ledger
from ekslearn.widgets.lookup import RouteLookup, route_lookup
from ekslearn.widgets.pool_view import PoolView, pool_view
from ekslearn.widgets.shell import Shell, shell
from ekslearn.widgets.subnet_view import SubnetView, subnet_view
from ekslearn.widgets.walk import PacketWalk, packet_walk
from ekslearn.widgets.workbench import Workbench, workbench

__all__ = [
    "Ledger",
    "PacketWalk",
    "PoolView",
    "RouteLookup",
    "Shell",
    "SubnetView",
    "Workbench",
    "ledger",
    "packet_walk",
    "pool_view",
    "route_lookup",
    "shell",
    "subnet_view",
    "workbench",
]
