"""What Kubernetes adds to a node's network, as far as packets meet it: pods and Services."""

from .endpoints import SERVICE_CIDR, Backed, Services, service_cidr
from .manifests import read_manifests, unpacked
from .pod import Container, Pod, SecurityGroupPolicy
from .proxy import KubeProxy, rule_set
from .service import Endpoint, EndpointSlice, Service, ServicePort

__all__ = [
    "SERVICE_CIDR", "Backed", "Container", "Endpoint", "EndpointSlice", "KubeProxy",
    "Pod", "SecurityGroupPolicy", "Service", "ServicePort",
    "Services", "read_manifests", "rule_set", "service_cidr", "unpacked",
]  # fmt: skip
