"""Run one seed in a world of its own and check it; reduce the faults of a failing seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.checker import check
from tests.simulation.cluster import Cluster
from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one seed."""

    seed: int
    violations: list[str]
    facts: dict[str, object]
    #: The steps at which faults struck.
    steps: list[int]
    #: How often each kind of fault struck, as "place:kind".
    struck: Counter[str]
    lines: list[str] = field(repr=False)


def run_seed(seed: int, *, trace: bool = False, only: frozenset[int] | None = None) -> Result:
    """Run one seed and check its history; faults may strike only at the steps `only` (None: at all)."""
    world = World(str(seed), trace=trace, only=only)
    cluster = Cluster(world)
    try:
        cluster.live()
        history = cluster.history()
    finally:
        cluster.close()
    facts: dict[str, object] = {
        "seconds": round(history.ended),
        "jobs": dict(Counter(str(job["state"]) for job in history.jobs)),
        "tasks": len(history.tasks),
        "processes": len(history.ledger),
        "outcomes": dict(Counter(str(row["outcome"]) for row in history.attempts)),
    }
    steps = [fault.step for fault in world.faults.struck]
    violations = world.violations or check(history)
    return Result(seed, violations, facts, steps, world.struck, world.lines)


def shrink(steps: list[int], fails: Callable[[frozenset[int]], bool]) -> list[int]:
    """Return a small set of faults with which a seed still fails: ddmin over their steps."""
    parts = 2
    while len(steps) > 1:
        size = -(-len(steps) // parts)
        for start in range(0, len(steps), size):
            rest = steps[:start] + steps[start + size :]
            if fails(frozenset(rest)):
                steps, parts = rest, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(steps), 2 * parts)
    return steps
