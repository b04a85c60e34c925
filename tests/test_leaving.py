"""A pod is deleted as time passes: who hears of it when, and what is refused."""

from __future__ import annotations

from itertools import count

import pytest

from ekslearn.cluster import Cluster
from ekslearn.control import ControlPlane
from ekslearn.errors import EkslearnError
from ekslearn.exercises.hairpin_health_and_rollouts import asks, losses, states
from ekslearn.kubernetes import Pod
from ekslearn.scenario import load

LEAVING = "shop/web-2"
SERVES = "shop/web-2:8080/tcp"


@pytest.fixture
def lab() -> Cluster:
    made = load("rollout")
    assert isinstance(made, Cluster)
    return made


@pytest.fixture(autouse=True)
def time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is due and never done would have a cluster sleep for ever: that is an error."""
    asked, ask = count(), ControlPlane.next_event

    def counted(plane: ControlPlane) -> float | None:
        assert next(asked) < 20_000, "something is due again and again: time stands still"
        return ask(plane)

    monkeypatch.setattr(ControlPlane, "next_event", counted)


def test_a_pod_listens_while_its_hook_runs_then_ends_its_work_then_is_gone(lab: Cluster) -> None:
    lab.control.terminate_pod(LEAVING, prestop_s=4, work_s=3)
    seen = []
    for _ in range(9):
        there = LEAVING in lab.pods
        seen.append(lab.trace("desk", SERVES).verdict if there else "gone")
        lab.sleep(1)
    assert seen == ["delivered"] * 4 + ["refused"] * 3 + ["gone"] * 2
    assert LEAVING not in lab.places


@pytest.mark.parametrize(
    ("prestop", "work", "grace", "stops", "gone"),
    [(0, 0, 30, 0, 0), (0, 5, 30, 0, 5), (10, 5, 12, 10, 12), (20, 5, 12, 12, 12)],
)
def test_the_grace_period_holds_hook_and_work(
    lab: Cluster, prestop: int, work: int, grace: int, stops: int, gone: int
) -> None:
    lab.control.terminate_pod(LEAVING, prestop_s=prestop, work_s=work, grace_s=grace)
    listening = there = 0
    for second in range(40):
        if LEAVING in lab.pods:
            there = second + 1
            listening = second + 1 if lab.namespace(LEAVING).sockets.listeners else listening
        lab.sleep(1)
    assert (listening, there) == (stops, gone)


def test_steps_come_on_time_in_a_long_sleep(lab: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows from a step is done then, not at the end of the sleep or at the next check."""
    gone, delete = [], lab.delete_pod

    def noted(place: str) -> None:
        gone.append(lab.world.clock - start)
        delete(place)

    start = lab.world.clock
    monkeypatch.setattr(lab, "delete_pod", noted)
    lab.control.terminate_pod(LEAVING, prestop_s=7, work_s=2)
    lab.sleep(60)
    assert gone == [9]


def test_everybody_hears_of_it_at_once(lab: Cluster) -> None:
    lab.control.terminate_pod(LEAVING, prestop_s=20)
    assert asks(lab, "desk", "shop/local") == {"node-a": "200", "node-b": "503", "node-c": "503"}
    assert states(lab, "shop/pods")[LEAVING] == "draining Target.DeregistrationInProgress"
    answers = {lab.trace("desk", "service/shop/pods:80").verdict for _ in range(4)}
    assert answers == {"dropped"}  # a ClusterIP means nothing outside the cluster's nodes
    seen = {lab.trace("shop/client", "service/shop/pods:80").answer.split()[0] for _ in range(12)}
    assert seen == {"shop/web-1"}


def test_the_last_one_of_a_node_is_used_while_it_leaves(lab: Cluster) -> None:
    """KEP-1669: with policy Local kube-proxy takes endpoints that leave where none else is."""
    node_port = f"node-b:{lab.services['shop/local'].ports[0].node_port}/tcp"
    lab.control.terminate_pod(LEAVING, prestop_s=5)
    assert lab.trace("desk", node_port).answer.startswith(LEAVING)
    lab.sleep(5)
    assert lab.trace("desk", node_port).verdict == "dropped"


def test_calls_are_lost_from_sigterm_till_the_last_of_the_callers_knows(lab: Cluster) -> None:
    lost = losses(lab, "desk", "shop/pods", LEAVING, prestop_s=12, grace_s=60)
    assert [second for second, count in enumerate(lost) if count] == list(range(12, 30))
    assert not sum(losses(lab, "desk", "shop/pods", LEAVING, prestop_s=30, grace_s=30))
    assert not sum(losses(lab, "desk", "shop/any-node", LEAVING))
    assert LEAVING in lab.pods  # it was a copy that lost them


def test_one_that_comes_back_is_left_alone(lab: Cluster) -> None:
    pod = lab.pods[LEAVING]
    lab.control.terminate_pod(LEAVING, prestop_s=10)
    lab.delete_pod(LEAVING)
    lab.sleep(1)
    lab.add_pod(pod)
    lab.sleep(60)
    assert lab.trace("desk", SERVES).verdict == "delivered"


def test_a_node_whose_pods_nobody_heals_fails_open(lab: Cluster) -> None:
    for node in lab.machines:
        lab.run(node, "iptables -I INPUT -p tcp --dport 32100 -j DROP")
    lab.sleep(40)
    assert set(states(lab, "shop/local").values()) == {"unhealthy Target.Timeout"}
    assert {lab.trace("desk", "lb/shop/local:80").verdict for _ in range(20)} == {
        "delivered", "dropped",
    }  # fmt: skip


REFUSED = "is no pod that runs, with a network of its own, and isn't leaving already"


def test_what_cannot_leave(lab: Cluster) -> None:
    leave = lab.control.terminate_pod
    with pytest.raises(EkslearnError, match=f"shop/web-9 {REFUSED}"):
        leave("shop/web-9")
    with pytest.raises(EkslearnError, match="are seconds, 0 or more"):
        leave(LEAVING, grace_s=-1)
    leave(LEAVING, prestop_s=5)
    with pytest.raises(EkslearnError, match=f"{LEAVING} {REFUSED}"):
        leave(LEAVING)


def test_a_pod_on_its_nodes_network_does_not_leave_in_time(lab: Cluster) -> None:
    """Its listeners are among the node's; it is deleted at once."""
    lab.add_pod(Pod(name="agent", node="node-a", host_network=True))
    before = lab.listeners()
    with pytest.raises(EkslearnError, match=REFUSED):
        lab.control.terminate_pod("default/agent")
    lab.sleep(60)
    assert lab.listeners() == before and not lab.pods["default/agent"].terminating
