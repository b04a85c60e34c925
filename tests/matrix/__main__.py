"""``python -m tests.matrix [--kernel]``: every cell as one Markdown table, with its counts.

With ``--kernel`` each is played on the real kernel, too. Status 0 if all is as data/
ingress_matrix.csv says, and nothing disagrees.
"""

from __future__ import annotations

import sys
from collections import Counter

from ekslearn.kernel import World
from tests.matrix.cells import Cell, table
from tests.matrix.played import COLUMNS, cells_told, play, refusals

BATCH = 16  # cells in one cluster
HEAD = ("Way in", "Endpoint", "Address of", "Arrives from", "Pod sees", "DNAT", "SNAT",
        "Second node", "Outside", "In the VPC", "Admitted by", "Whose word")  # fmt: skip


def run(*, kernel: bool, listed: bool = True) -> int:
    """Play it all, print the counts, and the table if it is to be ``listed``; 0 if all is well."""
    wanted, wrong, lines = table(), [], list[tuple[str, ...]]()
    counts: Counter[str] = Counter()
    valid = [cell for cell, said in wanted.items() if not said["refusal"]]
    refused = [cell for cell in wanted if cell not in valid]
    for at in range(0, len(valid), BATCH):
        with World() as world:
            played = play(valid[at : at + BATCH], world if kernel else None)
        wrong += [one.words for one in played if kernel and not one.agrees]
        counts.update(f"connections, {one.proof}" for one in played)
        counts.update({"connections that the kernel made alike": sum(o.agrees for o in played)})
        for cell, said in cells_told(played):
            lines.append(_line(cell, said))
            wrong += [f"{cell.name}: {name} is {said[name]!r}, not {wanted[cell][name]!r}"
                      for name in said if said[name] != wanted[cell][name]]  # fmt: skip
    for cell, why in refusals(refused).items():
        wrong += [] if why == wanted[cell]["refusal"] else [f"{cell.name}: {why!r}"]
        said = why if why.startswith("ignored") else f"refused: {why}"
        lines.append((_mode(cell), cell.endpoint, cell.eni, said))
    if listed:
        print(_markdown(lines))
    print(f"\n{len(valid)} valid cells, {len(refused)} refused ones")
    for what, count in sorted(counts.items()):
        print(f"{count:8}  {what}")
    for sentence in wrong:
        print(f"NOT AS IT SHOULD BE: {sentence}")
    return 1 if wrong else 0


def _mode(cell: Cell) -> str:
    kept = f", preserve {cell.preserve}" if cell.balancer == "NLB" or cell.preserve == "on" else ""
    return f"{cell.balancer}, {cell.target}, {cell.policy}{kept}"


def _line(cell: Cell, said: dict[str, str]) -> tuple[str, ...]:
    arrives, sees, dnat, snat, nodes, admits = (said[name] or "–" for name in COLUMNS)
    second = nodes.partition("; ")[2] or "no"
    return (_mode(cell), cell.endpoint, cell.eni, arrives, sees, dnat, snat, second,
            said["outside"], said["inside"], admits, said["proof"])  # fmt: skip


def _markdown(lines: list[tuple[str, ...]]) -> str:
    """A line for both ENIs where they have the same, one for all endpoints of what is refused."""
    merged: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for mode, endpoint, eni, *rest in lines:
        key = (mode, endpoint, *rest) if rest[1:] else (mode, *rest)
        merged.setdefault(key, []).append((endpoint, eni))
    rows = [" | ".join(HEAD), " | ".join("---" for _ in HEAD)]
    for (mode, *rest), where in merged.items():
        endpoints, enis = (", ".join(dict.fromkeys(each)) for each in zip(*where, strict=True))
        kept = rest[1:] or rest
        rows.append(" | ".join([mode, endpoints, enis, *kept, *[""] * (9 - len(kept))]))
    return "\n".join(f"| {row} |" for row in rows)


if __name__ == "__main__":
    sys.exit(run(kernel="--kernel" in sys.argv[1:]))
