"""Claim tasks of a stage for a worker: the rows and the stage's counters change together."""

from __future__ import annotations

from dataclasses import dataclass

from echelon.controller.core.events import SpawnTaskMoved, TasksMoved
from echelon.controller.core.model import Stage
from echelon.controller.core.states import State
from echelon.controller.datastore.records import Claimed
from echelon.controller.datastore.workers import Capacity
from echelon.controller.engine.base.snapshots import Snapshots
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.controller.engine.turn.capacities import Capacities
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId

#: More workers than any task loses.
_MOST_LOSSES = 2**31


@dataclass(slots=True)
class ClaimedTasks:
    """A claim, before it has been made an order."""

    demand: Capacity
    #: Number of the order that it travels in.
    order: int
    job_id: JobId
    stage: Stage
    spawn: bool
    queue: str
    priority: int
    claimed: list[Claimed]


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """How this controller claims."""

    #: Seconds that a lease lasts.
    lease: float
    #: How many workers a task has lost that is under no suspicion, and one that is.
    innocent: range
    suspected: range

    def claim_tasks(
        self,
        unit: UnitOfWork,
        demands: Capacities,
        demand: Capacity,
        job_id: JobId,
        stage: Stage,
        *,
        count: int,
        losses: range,
    ) -> ClaimedTasks | None:
        """Claim up to `count` tasks of a stage that have lost so many workers; None when there are none."""
        spawn = stage.spawning
        if ablated("claim_guard"):
            # Tasks that run pass for QUEUED ones.
            unit.tx.reopen_tasks(job_id, stage.number, target=State.QUEUED, sources=[State.RUNNING])
        claimed = unit.tx.claim_tasks(
            job_id,
            stage.number,
            spawn=spawn,
            count=count,
            worker=demand.worker,
            lease=self.lease,
            losses=losses,
        )
        if not claimed:
            return None
        if spawn:
            unit.apply_event(job_id, SpawnTaskMoved(stage.number, State.RUNNING))
        else:
            unit.apply_event(job_id, TasksMoved(stage.number, {(State.QUEUED, State.RUNNING): len(claimed)}))
        order = demands.book_tasks(demand, stage.claim_queue, -stage.claim_rank, len(claimed))
        return ClaimedTasks(demand, order, job_id, stage, spawn, stage.claim_queue, -stage.claim_rank, claimed)


def make_claim_rules(*, lease: float, max_losses: int) -> ClaimRules:
    """Return how to claim when so many lost workers make a task FAILED.

    A task whose next loss would be its last is a suspect. It has lost a worker at least: with `max_losses` 1 a task is
    FAILED at its first loss, and none is ever suspected.
    """
    least = _MOST_LOSSES if ablated("suspect_isolation") else max(1, max_losses - 1)
    return ClaimRules(lease, range(least), range(least, _MOST_LOSSES))


def must_wait_for_files(unit: UnitOfWork, snapshots: Snapshots, job_id: JobId, number: int) -> bool:
    """Tell whether a stage has to wait for files of those in front of it, or of its own spawn task."""
    return snapshots.has_private_files(job_id) and unit.tx.lacks_files(job_id, number)
