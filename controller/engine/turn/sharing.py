"""Which jobs share the free slots. Shares are between jobs, not between stages.

Values in, values out. The store keeps the order: a job that has been given its share goes behind all others of its
priority, so between two grants of a job each other job of that priority gets one at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from echelon.controller.datastore.claims import Claimable
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId

#: Jobs that share the free slots at once. Each costs a claim of its own; the others come next.
_AT_ONCE = 8


@dataclass(slots=True)
class JobInLine:
    """Stages of one job that wait with the same priority."""

    job_id: JobId
    priority: int
    stages: list[int] = field(default_factory=list)
    queues: set[str] = field(default_factory=set)
    #: How many of their tasks there are to claim.
    count: int = 0


def list_jobs(line: Sequence[Claimable]) -> list[JobInLine]:
    """Return the jobs of stages in line, in the order of their first stages."""
    found: dict[tuple[JobId, int], JobInLine] = {}
    for one in line:
        key = one.job_id, one.priority
        job = found.get(key)
        if job is None:
            job = found[key] = JobInLine(*key)
        job.stages.append(one.stage)
        job.queues.add(one.queue)
        job.count += one.ready
    return list(found.values())


def choose_rivals(jobs: Sequence[JobInLine], most: int) -> list[JobInLine]:
    """Return the first jobs, `most` at most, that share the free slots: of equal priority, as they stand in line."""
    rivals = jobs[: min(most, _AT_ONCE)]
    return [job for job in rivals if job.priority == jobs[0].priority]


def compute_share(count: int, others: Sequence[int], slots: int) -> int:
    """Return how many of the free slots go to the first job, which has `count` tasks; `others` are those of its rivals.

    A job with fewer tasks than an equal share leaves the rest to the others. The first job gets a slot at least.
    """
    if ablated("equal_shares"):
        return count
    left = 1 + len(others)
    for tasks in sorted((count, *others)):
        if tasks * left > slots:
            return max(1, min(count, slots // left))
        slots, left = slots - tasks, left - 1
    return count
