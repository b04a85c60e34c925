"""The controllers that make load balancers out of Kubernetes objects."""

from .binding import Binding, add_binding
from .ingress import Ingress, Route, read_ingress
from .node import KubeNode, internal_ip, read_node
from .plan import Plan, plan_of_ingress, plan_of_service
from .reconcile import Controller

__all__ = [
    "Binding", "Controller", "Ingress", "KubeNode", "Plan", "Route", "add_binding",
    "internal_ip", "plan_of_ingress", "plan_of_service", "read_ingress", "read_node",
]  # fmt: skip
