"""Exercises: ``exercise("pods-on-one-node/next-hop")`` shows one, ``.check("...")`` judges.

>>> "pods-on-one-node/next-hop" in EXERCISES
True
"""

from __future__ import annotations

import difflib

from ekslearn.errors import EkslearnError
from ekslearn.exercises import (
    capstone,
    capstone_way_back,
    containers_of_one_pod,
    dns_and_network_policy,
    enis_and_their_addresses,
    hairpin_health_and_rollouts,
    hooks_nat_and_marks,
    how_a_route_is_chosen,
    load_balancers_and_ingress,
    nodeport_and_traffic_policy,
    out_to_the_world,
    pods_on_different_nodes,
    pods_on_one_node,
    prefixes_and_fragmentation,
    rules_choose_the_table,
    security_groups_for_pods,
    services,
    the_warm_pool,
)
from ekslearn.exercises.format import (
    NOBODY,
    Dice,
    Exercise,
    Look,
    Mend,
    Question,
    Variant,
    Verdict,
    fault,
    pick,
    renamed,
)

__all__ = [
    "EXERCISES",
    "Dice",
    "Exercise",
    "Look",
    "Mend",
    "Question",
    "Variant",
    "Verdict",
    "exercise",
    "fault",
    "pick",
    "renamed",
]

EXERCISES: dict[str, Exercise] = {
    one.name: one
    for one in (
        *containers_of_one_pod.EXERCISES,
        *pods_on_one_node.EXERCISES,
        *how_a_route_is_chosen.EXERCISES,
        *rules_choose_the_table.EXERCISES,
        *hooks_nat_and_marks.EXERCISES,
        *enis_and_their_addresses.EXERCISES,
        *the_warm_pool.EXERCISES,
        *prefixes_and_fragmentation.EXERCISES,
        *pods_on_different_nodes.EXERCISES,
        *out_to_the_world.EXERCISES,
        *security_groups_for_pods.EXERCISES,
        *services.EXERCISES,
        *nodeport_and_traffic_policy.EXERCISES,
        *load_balancers_and_ingress.EXERCISES,
        *hairpin_health_and_rollouts.EXERCISES,
        *dns_and_network_policy.EXERCISES,
        *capstone.EXERCISES,
        *capstone_way_back.EXERCISES,
    )
}


def exercise(name: str, *, learner: str = NOBODY) -> Question:
    """The exercise of that name, in this learner's variant.

    ``learner`` may be any text that stays the same for a learner, such as a number from the
    class list. Raises EkslearnError if there is no such exercise.
    """
    if name not in EXERCISES:
        near = difflib.get_close_matches(name, EXERCISES, n=1) or sorted(EXERCISES)
        raise EkslearnError(f"there is no exercise {name!r}; did you mean {' or '.join(near)}?")
    return Question(EXERCISES[name], learner)
