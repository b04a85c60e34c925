"""AWS's part in a packet's way: the VPC's router, its filters, its gateways.

All of it is AWS as documented; no kernel can confirm it.
"""

from .router import PATH_MTU, PRIVATE, Balancer, Fabric, VpcRow

__all__ = ["PATH_MTU", "PRIVATE", "Balancer", "Fabric", "VpcRow"]
