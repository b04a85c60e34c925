"""A node's pool over time: what happened, what ipamd compared and did, what each address was.

A film is made in a copy of a cluster: time passes there, pods come and go, settings change. It
keeps a frame of every moment at which something was done or came out differently. Nothing is
decided here; numbers, comparisons and words are ipamd's own (``ekslearn.cni``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ekslearn.cluster import Cluster
from ekslearn.draw.shown import count
from ekslearn.errors import EkslearnError
from ekslearn.kubernetes import Pod

if TYPE_CHECKING:
    from ekslearn.ipamd.daemon import Decision
    from ekslearn.ipamd.datastore import Cidr, StoredEni

NAME = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
TURN_S = 5.0  # one round of ipamd's loop
LONGEST_S, MOST_PODS = 3600.0, 250  # what one line may ask for
SETTINGS = {name: name.lower() for name in (
    "WARM_ENI_TARGET", "WARM_IP_TARGET", "MINIMUM_IP_TARGET", "WARM_PREFIX_TARGET", "MAX_ENI",
)} | {"IP_COOLDOWN_PERIOD": "ip_cooldown_s"}  # fmt: skip
HELP = ("create 3, create NAMESPACE/POD, delete 3, delete NAMESPACE/POD, sleep 30 or set"
        " WARM_IP_TARGET=2")  # fmt: skip
COUNTS = ("TotalIPs", "AssignedIPs", "CooldownIPs", "available", "short", "over", "ENIs", "maxENI",
          "maxPods")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One address an ENI can have, or one prefix with its sixteen in ``cells``.

    ``kind`` is primary, assigned, cooling, free, prefix or empty (room for one more).
    """

    kind: str
    address: str = ""
    pod: str = ""
    left_s: float = 0.0  # of the cooldown
    cells: tuple[Slot, ...] = ()

    @property
    def words(self) -> str:
        """The slot in a phrase."""
        if self.kind == "prefix":
            held = sum(cell.kind == "assigned" for cell in self.cells)
            return f"prefix {self.address}: {held} of {len(self.cells)} assigned"
        if self.kind == "empty":
            return "room for one more"
        said = {"assigned": self.pod, "cooling": f"cooling, {self.left_s:.0f} s left"}
        return f"{self.address} {said.get(self.kind, self.kind)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An ENI with its slots."""

    name: str
    eni: str
    device: int
    slots: tuple[Slot, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One moment: ``time`` and ``until`` in seconds since the film's beginning."""

    time: float
    until: float
    title: str
    rows: tuple[Row, ...]
    numbers: dict[str, int]
    decisions: tuple[Decision, ...] = ()
    pending: tuple[str, ...] = ()

    def quiet(self, before: Frame) -> bool:
        """Whether it shows nothing that the one before didn't."""
        if still(self.rows) != still(before.rows) or self.pending != before.pending:
            return False
        acted = any(one.did or one.calls for one in self.decisions)
        return not self.decisions or (not acted and outcomes(self) == outcomes(before))

    @property
    def taken(self) -> int:
        """How many of the subnet's addresses the node has, the ENIs' own included."""
        slots = [slot for row in self.rows for slot in row.slots if slot.kind != "empty"]
        return sum(len(slot.cells) or 1 for slot in slots)


def outcomes(frame: Frame) -> list[tuple[str, bool]]:
    """How each comparison came out."""
    return [(check.name, check.holds) for one in frame.decisions for check in one.checks]


def still(rows: Iterable[Row]) -> list[Row]:
    """The rows without the seconds that are left."""
    return [replace(row, slots=tuple(_still(slot) for slot in row.slots)) for row in rows]


def _still(slot: Slot) -> Slot:
    return replace(slot, left_s=0.0, cells=tuple(map(_still, slot.cells)))


@dataclass(slots=True)
class Film:
    """Runs lines such as ``create 3`` or ``sleep 30`` on one node, and keeps the frames."""

    cluster: Cluster
    node: str
    frames: list[Frame] = field(default_factory=list)
    began: float = 0.0
    seen: int = 0  # decisions of ipamd that are in a frame
    asked: dict[str, float] = field(default_factory=dict)  # pods that wait, and since when
    waits: list[float] = field(default_factory=list)  # of the others, in seconds

    @property
    def ipamd(self) -> Any:
        """The node's daemon, which a change of settings replaces."""
        return self.cluster.machines[self.node].ipamd

    def run(self, line: str) -> None:
        """Let one thing happen; EkslearnError for a line that isn't one, and nothing happens."""
        verb, _, what = line.strip().partition(" ")
        what = what.strip()
        if verb == "sleep":
            self.sleep(number(what, line, LONGEST_S))
        elif verb == "create":
            self.create(what, line)
        elif verb == "delete":
            self.delete(what, line)
        elif verb == "set":
            self.set(what, line)
        else:
            raise EkslearnError(f"{line[:60]!r} can't happen to a pool; there are {HELP}")

    def sleep(self, seconds: float) -> None:
        """Let time pass, and look after each round of the daemon."""
        end = self.cluster.world.clock + seconds
        while (left := end - self.cluster.world.clock) > 0:
            self.cluster.sleep(min(TURN_S, left))
            self.look("time passes")

    def create(self, what: str, line: str) -> None:
        """Schedule pods on the node: so many, or one by its name."""
        space, slash, name = what.partition("/")
        if slash and not (NAME.fullmatch(space) and NAME.fullmatch(name)):
            raise EkslearnError(f"{line[:60]!r}: a pod is named by small letters, digits and -, as"
                                " in default/web-1")  # fmt: skip
        pods = [Pod(namespace=space, name=name, node=self.node)]
        if not slash:
            names = (f"pod-{n}" for n in range(1, 10_000))
            new = (each for each in names if f"default/{each}" not in self.cluster.pods)
            many = int(number(what, line, MOST_PODS))
            pods = [Pod(name=next(new), node=self.node) for _ in range(many)]
        for pod in pods:
            self.cluster.add_pod(pod)
            if pod.place in self.cluster.pending:
                self.asked[pod.place] = self.cluster.world.clock
            else:
                self.waits.append(0.0)
        waiting = [pod.place for pod in pods if pod.place in self.cluster.pending]
        said = f"{some([pod.place for pod in pods])} scheduled"
        self.look(said + (f"; {count(len(waiting), 'pod')} without an address" if waiting else ""))

    def delete(self, what: str, line: str) -> None:
        """Delete pods of the node: so many, the youngest first, or one by its name."""
        mine = [name for name, pod in self.cluster.pods.items()
                if pod.node == self.node and name not in self.cluster.aliases]  # fmt: skip
        gone = [what] if "/" in what else mine[::-1][: int(number(what, line, MOST_PODS))]
        if not gone or not set(gone) <= set(mine):
            raise EkslearnError(f"{line[:60]!r}: {self.node} has {', '.join(mine) or 'no pods'}")
        for name in gone:
            self.cluster.delete_pod(name)
            if name in self.asked:
                self.waits.append(self.cluster.world.clock - self.asked.pop(name))
        self.look(f"{some(gone)} deleted")

    def set(self, what: str, line: str) -> None:
        """Change one setting or more, which restarts the daemon once."""
        changed = {}
        for one in what.split() or [what]:
            name, _, value = one.partition("=")
            if name not in SETTINGS:
                raise EkslearnError(f"{line[:60]!r}: the pool has no {name[:40]!r} to be set; it"
                                    f" has {', '.join(SETTINGS)}")  # fmt: skip
            changed[name] = int(number(value, line, 1000, least=0))
        settings = {SETTINGS[name]: value for name, value in changed.items()}
        self.cluster.restart_cni(self.node, replace(self.ipamd.settings, **settings))
        self.seen = 0
        said = " ".join(f"{name}={value}" for name, value in changed.items())
        self.look(f"{said}: aws-node starts again")

    def look(self, title: str) -> None:
        """Keep a frame of this moment; one that shows nothing new only makes the last longer."""
        new = tuple(self.ipamd.decisions[self.seen :])
        self.seen += len(new)
        self.note_waits()
        now = self.cluster.world.clock - self.began
        waiting = tuple(f"{pod}: {why}" for pod, why in self.cluster.pending.items()
                        if self.cluster.pods[pod].node == self.node)  # fmt: skip
        frame = Frame(
            time=now, until=now, title=title, rows=self.rows(), numbers=self.ipamd.pool().numbers(),
            decisions=new, pending=waiting,
        )  # fmt: skip
        last = self.frames[-1] if self.frames else None
        if last and last.title == title and frame.quiet(last):
            kept = new or last.decisions  # a node whose calls took long has had no round yet
            self.frames[-1] = replace(frame, time=last.time, decisions=kept)
        else:
            self.frames.append(frame)

    def note_waits(self) -> None:
        """Note how long the pods that have got an address by now had been asking for it."""
        for eni in self.ipamd.store.enis.values() if self.asked else ():
            for info in (one for cidr in eni.cidrs.values() for one in cidr.addresses.values()):
                since = self.asked.pop(f"{info.namespace}/{info.pod}", None) if info.key else None
                if since is not None:
                    self.waits.append(max(info.assigned_at - since, 0.0))

    def rows(self) -> tuple[Row, ...]:
        """The node's ENIs as ipamd's store has them, and those that only EC2 knows."""
        store, machine = self.ipamd.store, self.cluster.machines[self.node]
        enis = self.cluster.vpc.enis
        rows = [self.row(eni) for eni in store.enis.values()]
        for eni in enis.values():
            if eni.instance == self.ipamd.instance and eni.eni_id not in store.enis:
                slots = (Slot(kind="primary", address=str(eni.primary)),)
                rows.append(Row(name=machine.interface(eni.device_index), eni=eni.eni_id,
                                device=eni.device_index, slots=slots,
                                notes=("not in ipamd's store",)))  # fmt: skip
        return tuple(sorted(rows, key=lambda row: row.device))

    def row(self, stored: StoredEni) -> Row:
        """One ENI of the store, with room for as many addresses as the instance type allows."""
        machine = self.cluster.machines[self.node]
        real = self.cluster.vpc.enis.get(stored.eni_id)
        slots = [Slot(kind="primary", address=str(real.primary) if real else "")]
        slots += [self.slot(cidr) for _, cidr in sorted(stored.cidrs.items())]
        empty = machine.kind.ipv4_per_eni - len(slots)
        notes = ["trunk"] if stored.trunk else []
        notes += ["excluded by its subnet's tags"] if stored.excluded else []
        notes += [] if real and real.attached else ["EC2 has it no more"]
        return Row(name=machine.interface(stored.device), eni=stored.eni_id, device=stored.device,
                   slots=(*slots, *[Slot(kind="empty")] * empty), notes=tuple(notes))  # fmt: skip

    def slot(self, cidr: Cidr) -> Slot:
        """An address of the store, or a prefix with all of its."""
        cells = tuple(self.cell(cidr, address) for address in cidr.network)
        if not cidr.prefix:
            return cells[0]
        return Slot(kind="prefix", address=str(cidr.network), cells=cells)

    def cell(self, cidr: Cidr, address: Any) -> Slot:
        """What one address is at this moment."""
        store, info = self.ipamd.store, cidr.addresses.get(address)
        now, period = self.cluster.machines[self.node].now(), store.cooldown_s
        if info and info.key:
            return Slot(kind="assigned", address=str(address), pod=f"{info.namespace}/{info.pod}")
        if info and info.cooling(now, period):
            left = period - (now - (info.unassigned_at or 0.0))
            return Slot(kind="cooling", address=str(address), left_s=left)
        return Slot(kind="free", address=str(address))


def film(cluster: Cluster, node: str, lines: Iterable[str] = ()) -> Film:
    """A film of ``node`` in a copy of ``cluster`` in which ``lines`` happen one after another."""
    if not isinstance(cluster, Cluster):
        raise EkslearnError(f"{cluster.name} is a lab of bare namespaces: it has no pool")
    if node not in cluster.machines:
        there = ", ".join(cluster.machines) or "none"
        raise EkslearnError(f"there is no node {node!r} in {cluster.name}; there are {there}")
    twin = cluster.copy()
    assert isinstance(twin, Cluster)
    made = Film(twin, node, began=twin.world.clock)
    made.seen = len(made.ipamd.decisions)
    made.look("the pool as it is")
    for line in lines:
        made.run(line)
    return made


def some(pods: Sequence[str], most: int = 3) -> str:
    """So many pods by name, and how many more.

    >>> some(["a", "b"]), some(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    more = f" and {len(pods) - most} more" if len(pods) > most else ""
    return ", ".join(pods[:most]) + more


def number(text: str, line: str, most: float, *, least: float = 1) -> float:
    """A whole number of a line; EkslearnError if it is none, too large or too small."""
    if text.isdecimal() and len(text) < 8 and least <= int(text) <= most:
        return int(text)
    raise EkslearnError(f"{line[:60]!r}: {text[:40]!r} isn't a number from {least:.0f} to"
                        f" {most:.0f}; there are {HELP}")  # fmt: skip


# In words


def decision_head(one: Decision, began: float) -> str:
    """Which round of the daemon, when, and how long it took."""
    took = f", took {one.took_s:.1f} s" if one.took_s else ""
    return f"ipamd, {one.step}, at {one.time - began:.1f} s{took}"


def when(frame: Frame) -> str:
    """The moment, or the time through which nothing new came."""
    if frame.until - frame.time < 0.05:
        return f"{frame.time:.0f} s"
    return f"{frame.time:.0f} to {frame.until:.0f} s"


def counts(frame: Frame) -> str:
    """The counts a decision starts from."""
    return ", ".join(f"{name} {frame.numbers[name]}" for name in COUNTS[:4])


def call_words(call: Any) -> str:
    """An API call: its name, seconds, and error."""
    return f"{call.name} {call.took_s:.2f} s" + (f" {call.error}" if call.error else "")


def row_words(row: Row) -> str:
    """An ENI in one line; runs of free and empty slots are counted."""
    empty = sum(slot.kind == "empty" for slot in row.slots)
    said = [slot.words for slot in row.slots if slot.kind != "empty"]
    said += [f"room for {empty} more"] if empty else []
    notes = "".join(f", {note}" for note in row.notes)
    return f"{row.name} {row.eni}, device {row.device}{notes}: {'; '.join(said)}"


def lines_of(frame: Frame, began: float) -> list[str]:
    """One frame as text."""
    lines = [f"{when(frame)}: {frame.title}; {counts(frame)}"]
    for one in frame.decisions:
        lines.append(f"  {decision_head(one, began)}")
        lines += [f"    {'yes' if c.holds else 'no '} {c.name}: {c.words}" for c in one.checks]
        lines += [f"    did: {did}" for did in one.did]
        lines += [f"    EC2: {', '.join(map(call_words, one.calls))}"] if one.calls else []
    return lines
