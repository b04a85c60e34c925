"""AWS's load balancers, apart from Kubernetes: Application, Network and Classic.

All of it is AWS as documented; no kernel can confirm it. What AWS doesn't publish carries the
mark [model] in the words of its step: which target a flow gets, by which way the answer of a
preserved flow comes back, how long a change takes to reach the balancer's nodes.
"""

from .balancer import Flow, Listener, LoadBalancer, Rule
from .group import HealthCheck, Target, TargetGroup
from .reading import read_load_balancer
from .service import Elb

__all__ = [
    "Elb", "Flow", "HealthCheck", "Listener", "LoadBalancer", "Rule", "Target", "TargetGroup",
    "read_load_balancer",
]  # fmt: skip
