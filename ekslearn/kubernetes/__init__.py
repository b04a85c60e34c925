"""What Kubernetes adds to a node's network, as far as packets meet it: for now its pods."""

from .pod import Container, Pod, SecurityGroupPolicy, read_pod, read_policy

__all__ = ["Container", "Pod", "SecurityGroupPolicy", "read_pod", "read_policy"]
