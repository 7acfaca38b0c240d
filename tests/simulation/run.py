"""One seed: a world, a cluster in it, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulation.checker import check
from tests.simulation.cluster import Cluster
from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one seed."""

    seed: int
    violations: list[str]
    counts: dict[str, int]
    lines: list[str] = field(repr=False)


def run_seed(seed: int, *, trace: bool = False, spared: frozenset[int] = frozenset()) -> Result:
    """Let one seed run and check its history."""
    world = World(str(seed), trace=trace, spared=spared)
    cluster = Cluster(world)
    try:
        cluster.live()
        history = cluster.history()
    finally:
        cluster.close()
    states: dict[str, int] = {}
    for job in history.jobs:
        states[str(job["state"])] = states.get(str(job["state"]), 0) + 1
    counts = {"ended": round(history.ended), "tasks": len(history.tasks), "runs": len(history.ledger), **states, 'faults': len(world.faults.struck)}
    return Result(seed, world.violations + check(history), counts, world.lines)
