"""The controllers that make load balancers out of Kubernetes objects."""

from .ingress import Ingress, Route, read_ingress
from .plan import Plan, plan_of_ingress, plan_of_service
from .reconcile import Controller

__all__ = [
    "Controller", "Ingress", "Plan", "Route", "plan_of_ingress", "plan_of_service", "read_ingress",
]  # fmt: skip
