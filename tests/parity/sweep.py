"""``make sweep``: the whole comparison of model and kernel, by two processes, with its counts.

``python -m tests.parity.sweep [--labs N] [--clusters N] [--services N] [--commands N]
[--first SEED] [--workers N] [--minutes N] [--no-matrix]``. Status 0 if nothing disagrees, every
feature decided something, the shares are as they should be, and the dice that picked endpoints were
fair. Every way into a cluster is played as well: ``tests.matrix``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from multiprocessing.queues import Queue
from queue import Empty
from typing import Any

from ekslearn.kernel import World
from tests.matrix.__main__ import run as every_way
from tests.parity import clusters, iptables_text, services, text
from tests.parity.coverage import WANTED, WANTED_OF_CLUSTERS, WANTED_OF_SERVICES
from tests.parity.packets import VERDICTS, Tally, play
from tests.parity.real import Real

DELIVERED, EACH = 0.40, 0.01  # the least shares of probes: delivered, and any verdict
LABS, CLUSTERS, SERVICES, COMMANDS = 1000, 300, 280, 10_000
BATCH, SEQUENCES = 10, 5  # labs played in one world; command sequences in one
LIMIT_MIN = 60.0
PATIENCE_S = 900


# What plays random probes, by the kind of a job, and what its features are.
PLAYED = {"packets": play, "clusters": clusters.play, "services": services.play}
NAMES = {"packets": ("labs", WANTED), "clusters": ("clusters", WANTED_OF_CLUSTERS),
         "services": ("clusters with Services", WANTED_OF_SERVICES)}  # fmt: skip


def _worker(jobs: Any, results: Any, end: float) -> None:
    """Take jobs until there are none or it is time: a kind ("packets", "clusters", "ip",
    "iptables") and seeds.
    """
    boss = multiprocessing.parent_process()
    while time.monotonic() < end and boss and boss.is_alive():
        try:
            kind, seeds = jobs.get(timeout=1)
        except Empty:
            break
        tally, commands = Tally(), 0
        try:
            if kind in PLAYED:
                with World() as world:
                    for seed in seeds:
                        PLAYED[kind](seed, world, tally)
            else:
                commands = _texts(kind, seeds, tally)
        except Exception as error:  # a crash is a finding too, and the sweep goes on
            tally.found.append(f"{kind} {seeds}: {type(error).__name__}: {error}")
        results.put((kind, tally, commands))
    results.put(None)


def _texts(kind: str, seeds: list[int], tally: Tally) -> int:
    """Play command sequences; how many commands that was."""
    module = {"ip": text, "iptables": iptables_text}[kind]
    count = 0
    with Real() as real:
        for seed in seeds:
            count += len(module.commands(seed))
            found = module.compare(seed, real)
            if found:
                tally.found.append(f"{kind} commands, seed {seed}: {found}")
    return count


def _jobs(first: int, counts: dict[str, int], commands: int) -> list[tuple[str, list[int]]]:
    """All there is to do, the kinds mixed evenly."""
    found = [(at / count, (kind, list(range(first, first + count)[at : at + BATCH])))
             for kind, count in counts.items() for at in range(0, count, BATCH)]  # fmt: skip
    for kind, module in (("ip", text), ("iptables", iptables_text)):
        done, seed = 0, first
        while done < commands / 2:
            share, seeds = 2 * done / commands, []
            while done < commands / 2 and len(seeds) < SEQUENCES:
                done += len(module.commands(seed))
                seeds.append(seed)
                seed += 1
            found.append((share, (kind, seeds)))
    return [job for _, job in sorted(found)]


def report(kind: str, total: Tally) -> list[str]:
    """Print the counts of random labs or clusters; what is wrong, a sentence each."""
    name, wanted = NAMES[kind]
    print(f"\n{total.probes} probes over {total.labs} random {name}")
    wrong = [f"{len(total.found)} disagreements in {name}"] if total.found else []
    print(f"disagreements: {len(total.found)}; probes that differed once and agreed when sent"
          f" alone: {total.doubtful}")  # fmt: skip
    for verdict in VERDICTS:
        share = total.verdicts[verdict] / max(total.probes, 1)
        least = DELIVERED if verdict == "delivered" else EACH
        print(f"{share:8.1%}  {verdict}")
        if share < least:
            wrong.append(f"{verdict}: {share:.2%} of the probes in {name}, less than {least:.0%}")
    print("\nprobes that a feature decided:")
    for feature in sorted({*wanted, *total.features}):
        print(f"{total.features[feature]:8}  {feature}")
    wrong += services.unfair(total.features)
    return wrong + [f"{one} decided nothing" for one in wanted if not total.features[one]]


def run(counts: dict[str, int], commands: int, first: int, workers: int, limit_s: float) -> int:
    """Play it all; 0 if all is well."""
    started = time.monotonic()
    context = multiprocessing.get_context("spawn")
    jobs: Queue[Any] = context.Queue()
    results: Queue[Any] = context.Queue()
    for job in _jobs(first, counts, commands):
        jobs.put(job)
    arguments = (jobs, results, started + limit_s)
    processes = [context.Process(target=_worker, args=arguments) for _ in range(workers)]
    for process in processes:
        process.start()
    totals, count, done, working = {kind: Tally() for kind in PLAYED}, 0, 0, workers
    texts = Tally()
    while working:
        found = results.get(timeout=PATIENCE_S)
        if found is None:
            working -= 1
            continue
        kind, tally, played = found
        totals.get(kind, texts).join(tally)
        count += played
        done += 1
        for words in tally.found:
            print(f"DISAGREEMENT: {words}", flush=True)
        if done % 10 == 0:
            far = ", ".join(
                f"{one.labs} {NAMES[kind][0]} with {one.probes} probes,"
                f" {len(one.found)} disagreements"
                for kind, one in totals.items()
            )
            print(f"{time.monotonic() - started:6.0f} s: {far}, {count} commands,"
                  f" {len(texts.found)} disagreements", flush=True)  # fmt: skip
    jobs.cancel_join_thread()
    wrong = [f"{len(texts.found)} disagreements in commands"] if texts.found else []
    for kind, wanted in counts.items():
        wrong += report(kind, totals[kind]) if wanted else []
        if (there := totals[kind].labs) < wanted:
            wrong.append(f"only {there} of {wanted} {NAMES[kind][0]} in time")
    print(f"\n{count} commands, in {(time.monotonic() - started) / 60:.1f} minutes altogether")
    if count < commands:
        wrong.append(f"only {count} of {commands} commands in time")
    for sentence in wrong:
        print(f"NOT AS IT SHOULD BE: {sentence}")
    return 1 if wrong else 0


def main() -> int:
    """Read the options."""
    parser = argparse.ArgumentParser(description="Compare the model with the real kernel.")
    parser.add_argument("--labs", type=int, default=LABS)
    parser.add_argument("--clusters", type=int, default=CLUSTERS)
    parser.add_argument("--services", type=int, default=SERVICES)
    parser.add_argument("--commands", type=int, default=COMMANDS)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--minutes", type=float, default=LIMIT_MIN, help="begin nothing later")
    parser.add_argument("--matrix", action=argparse.BooleanOptionalAction, default=True)
    chosen = parser.parse_args()
    counts = {"packets": chosen.labs, "clusters": chosen.clusters, "services": chosen.services}
    matrix = every_way(kernel=True, listed=False) if chosen.matrix else 0
    minutes = chosen.minutes * 60
    return run(counts, chosen.commands, chosen.first, chosen.workers, minutes) or matrix


if __name__ == "__main__":
    sys.exit(main())
