"""Give queued tasks to workers that have room: claim in the store, then write the orders.

The claim is the right to run an attempt; the order only tells of it. An order that gets lost costs one lease.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controller.core.model import SpawnTaskMoved, Stage, TasksMoved
from controller.core.states import State
from controller.datastore.records import Claimed
from controller.engine.board import Board
from controller.engine.demands import Demand, Demands
from controller.engine.snapshots import Snapshots
from shared.ids import JobId, WorkerId
from shared.messages import ANY_QUEUE, Grant, GrantedTask

#: Stages looked at in one turn. More than enough to fill every room; the next turn sees the rest.
_STAGES = 64
#: Attempts of one grant, so that an order stays small.
_GRANTED_AT_ONCE = 512


@dataclass(slots=True)
class Granting:
    """A claim, before it has been made an order."""

    worker: WorkerId
    job_id: JobId
    stage: Stage
    spawn: bool
    queue: str
    claimed: list[Claimed]


class Dispatcher:
    """Matches rooms and stages inside a transaction that its caller holds."""

    def __init__(
        self, *, demands: Demands, snapshots: Snapshots, lease: float, next_order: Callable[[WorkerId], int]
    ) -> None:
        self._demands = demands
        self._snapshots = snapshots
        self._lease = lease
        self._next_order = next_order

    def claim(self, board: Board, *, now: float) -> list[Granting]:
        """Claim tasks for every room there is, oldest stage first; save the board before."""
        demands = self._demands.open(now=now)
        if not demands:
            return []
        wanted = {queue for demand in demands for queue, room in demand.room.items() if room}
        queues = None if ANY_QUEUE in wanted else wanted
        grantings: list[Granting] = []
        for job_id, number in board.tx.claimable(queues, limit=_STAGES):
            if not any(demand.left(queue) for demand in demands for queue in demand.room):
                break
            board.lock([job_id], skip_locked=True)
            grantings += self._share_out(board, job_id, number, demands)
        return grantings

    def _share_out(self, board: Board, job_id: JobId, number: int, demands: Sequence[Demand]) -> list[Granting]:
        """Divide the tasks of one stage among the workers that can take them, as evenly as their rooms allow."""
        job = board.job(job_id)
        if job is None:
            return []
        stage = job.stage(number)
        queue, left = stage.claim_queue, stage.claimable
        takers = [demand for demand in demands if demand.left(queue)]
        grantings = []
        for place, demand in enumerate(takers):
            share = -(-left // (len(takers) - place))
            count = min(share, demand.left(queue), _GRANTED_AT_ONCE)
            if count <= 0:
                break
            granting = self._grant(board, job_id, stage, demand, count)
            if granting is None:
                break
            left -= len(granting.claimed)
            grantings.append(granting)
        return grantings

    def _grant(self, board: Board, job_id: JobId, stage: Stage, demand: Demand, count: int) -> Granting | None:
        spawn, queue = stage.spawning, stage.claim_queue
        claimed = board.tx.claim(
            job_id, stage.number, spawn=spawn, count=count, worker=demand.worker, lease=self._lease
        )
        if not claimed:
            return None
        if spawn:
            board.apply(job_id, SpawnTaskMoved(stage.number, State.RUNNING))
        else:
            board.apply(job_id, TasksMoved(stage.number, {(State.QUEUED, State.RUNNING): len(claimed)}))
        demand.take(queue, len(claimed), self._next_order(demand.worker))
        return Granting(demand.worker, job_id, stage, spawn, queue, claimed)

    def grant(self, granting: Granting) -> Grant:
        """Return the grant that a worker gets for a claim: all that it needs to run the attempts."""
        definition = self._snapshots.definition(granting.job_id).stages[granting.stage.number]
        task_class = definition.spawn_task if granting.spawn else definition.task_class
        assert task_class is not None, "only a stage with a spawn task has a spawn claim"
        facts = self._snapshots.facts(granting.job_id)
        recipe = self._snapshots.recipe(granting.job_id, task_class, spawns=granting.spawn)
        wanted = self._snapshots.task_class(granting.job_id, task_class).input
        return Grant(
            job_id=granting.job_id,
            stage=granting.stage.number,
            stage_name=granting.stage.name,
            revision=facts.revision,
            queue=granting.queue,
            recipe=recipe,
            input=dict(self._snapshots.stage_input(granting.job_id, task_class)),
            sealed={name: value for name, value in facts.sealed.items() if name in wanted},
            tasks=tuple(
                GrantedTask(task.task_id, task.attempt, task.index, task.input or {}) for task in granting.claimed
            ),
        )
