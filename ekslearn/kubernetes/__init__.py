"""What Kubernetes adds to a node's network, as far as packets meet it: for now its pods."""

from .pod import Container, Pod, read_pod

__all__ = ["Container", "Pod", "read_pod"]
