"""A node for tests: an instance in a simulated EC2, a kernel that is a list, a clock, ipamd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ekslearn.cni.settings import Settings, parse
from ekslearn.errors import EkslearnError
from ekslearn.ipamd.daemon import Assignment, Ipamd, NoAddress
from ekslearn.ipamd.pool import EniConfig
from ekslearn.vpc.ec2 import Ec2
from ekslearn.vpc.instance import InstanceType
from ekslearn.vpc.model import Eni, Vpc
from ekslearn.vpc.subnet import Subnet

PLENTY = 1_000_000  # maxPods that no test reaches


@dataclass
class Kernel:
    """What the node's kernel has, and what it was told, in order. ``broken``: links that fail."""

    now: float = 0.0
    links: dict[str, int] = field(default_factory=dict)  # ENI id -> route table
    pods: set[str] = field(default_factory=set)  # host veths
    told: list[tuple[str, str]] = field(default_factory=list)
    broken: bool = False

    def attached(self, eni: Eni, device: int, table: int) -> None:
        if self.broken:
            raise EkslearnError("failed to find the link which uses MAC address " + eni.mac)
        self.links[eni.eni_id] = table

    def detached(self, eni: Eni) -> None:
        del self.links[eni.eni_id]
        self.told.append(("detached", eni.eni_id))

    def veths(self) -> set[str]:
        return self.pods | {"eth0", "lo"}

    def delete_rules_by_source(self, ip: str) -> None:
        self.told.append(("DeleteRulesBySrc", ip))

    def forget_pod(self, ip: str) -> None:
        self.told.append(("forget_pod", ip))

    def wait(self, seconds: float) -> None:
        self.now += seconds


class Node:
    """An instance called "node" with ipamd on it, and pods that want addresses."""

    def __init__(
        self,
        kind: InstanceType,
        env: Mapping[str, Any],
        *,
        vpc: Vpc | None = None,
        max_pods: int = PLENTY,
        seed: int = 0,
        eniconfig: EniConfig | None = None,
        **ec2: Any,
    ) -> None:
        self.kernel = Kernel()
        self.dice = Random(seed)
        if vpc is None:
            vpc = Vpc(["10.0.0.0/16"], [Subnet("a", "10.0.0.0/17", "us-east-1a")])
        self.subnet = next(iter(vpc.subnets.values()))
        self.ec2 = Ec2(vpc, clock=lambda: self.kernel.now, **ec2)
        self.primary = self.ec2.run_instances("node", kind, self.subnet)
        self.kind, self.max_pods, self.eniconfig = kind, max_pods, eniconfig
        self.settings: Settings = parse({name: str(value) for name, value in env.items()})
        self.pending: list[str] = []
        self.running: dict[str, Assignment] = {}
        self.ipamd = self.new_ipamd()

    def new_ipamd(self) -> Ipamd:
        """The daemon, as a new container would run it."""
        return Ipamd(
            self.settings,
            self.ec2,
            self.primary.instance,
            self.kind,
            host=self.kernel,
            clock=lambda: self.kernel.now,
            dice=self.dice,
            max_pods=self.max_pods,
            eniconfig=self.eniconfig,
        )

    @property
    def store(self) -> Any:
        return self.ipamd.store

    def schedule(self, *pods: str) -> None:
        self.pending += pods
        self.retry()

    def retry(self) -> None:
        """As kubelet does: every pod without an address asks again."""
        waiting, self.pending = self.pending, []
        for pod in waiting:
            try:
                self.running[pod] = self.ipamd.assign("default", pod, f"sandbox-{pod}")
            except NoAddress:
                self.pending.append(pod)

    def delete(self, *pods: str) -> None:
        for pod in pods:
            self.ipamd.release("default", pod, f"sandbox-{pod}")
            del self.running[pod]

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.ipamd.tick()
            self.retry()

    def settle(self, quiet: int = 40) -> None:
        """Until nothing changes for so many turns: longer than any age or pause ipamd waits for."""
        seen: list[object] = []

        def still() -> bool:
            seen.append((sorted(map(sorted, self.addresses())), len(self.pending)))
            return len(seen) > quiet and all(each == seen[-1] for each in seen[-quiet - 1 :])

        self.until(still)

    def until(self, done: Callable[[], bool]) -> None:
        """Turn by turn, until it is so; it has to be within an hour or so."""
        for _ in range(1000):
            if done():
                return
            self.tick()
        raise AssertionError("nothing comes of waiting")

    def addresses(self) -> list[list[str]]:
        """What the store has on each ENI."""
        return [[str(each) for each in eni.cidrs] for eni in self.store.enis.values()]

    def calls(self, since: int = 0) -> list[str]:
        return [call.name for call in self.ec2.calls[since:]]
