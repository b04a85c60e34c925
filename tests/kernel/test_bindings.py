"""A balancer that AWS has apart from Kubernetes, and its bound targets, on the real kernel."""

from __future__ import annotations

import importlib

from ekslearn.kernel import World
from tests.controller.test_binding import TO_PODS, TO_PORTS, WEB, account

verifying = importlib.import_module("ekslearn.kernel.verify")  # the name is the function's


def test_pods_and_nodes_bound_to_groups_of_aws() -> None:
    """Targets of type ip and of type instance, each from a pod and from a node."""
    cluster = account(WEB, TO_PODS, TO_PORTS)
    made = cluster.elb.balancers["lb/aws/shared"]
    asked = [(source, f"{eni.primary}:{port}/tcp") for source in ("shop/cart-1", "node-a")
             for eni in made.enis.values() for port in (80, 81) for _ in range(2)]  # fmt: skip
    with World() as world:
        world.build(cluster)
        rows = verifying.compare(cluster, asked, world)
    assert all(row.ok for row in rows), "\n".join(str(row) for row in rows if not row.ok)
    ends = [next(line for line in row.kernel if line.startswith("outcome"))
            for row in rows[: len(asked)]]  # fmt: skip
    assert ends.count("outcome answered") >= 12, ends
