"""Give queued tasks to workers that have room: claim in the store, then write the orders.

The claim is the right to run an attempt; the order only tells of it. An order that gets lost costs one lease.
"""

from __future__ import annotations

from collections.abc import Sequence

from echelon.controller.core.planner import stage_input
from echelon.controller.datastore.records import Claimed, JobInputs
from echelon.controller.datastore.transaction import Transaction
from echelon.controller.engine.base.snapshots import Snapshots
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.controller.engine.turn.capacities import Capacities, free_for
from echelon.controller.engine.turn.claiming import ClaimedTasks, make_claim_rules, must_wait_for_files
from echelon.controller.engine.turn.isolation import Isolation
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId
from echelon.shared.messages import ANY_QUEUE, Grant, GrantedTask

#: Stages looked at in one turn. More than enough to fill every room; the next turn sees the rest.
_STAGES = 64
#: Attempts of one grant, so that an order stays small.
_GRANTED_AT_ONCE = 512


class Dispatcher:
    """Matches rooms and stages inside a transaction that its caller holds."""

    def __init__(self, *, snapshots: Snapshots, lease: float, max_losses: int) -> None:
        self._snapshots = snapshots
        self._claims = make_claim_rules(lease=lease, max_losses=max_losses)
        self._isolation = Isolation(self._claims, snapshots)
        #: Stages that had nothing but suspects at the last look; what stands behind them must be seen all the same.
        self._suspected = 0

    def claim_tasks(self, unit: UnitOfWork, demands: Capacities) -> list[ClaimedTasks]:
        """Claim tasks for every room there is, oldest stage first."""
        grantings = self._isolation.serve_kept_workers(unit, demands)
        open_demands = demands.find_free()
        wanted = {queue for demand in open_demands for queue in demand.room if free_for(demand, queue)}
        if not wanted:
            return grantings
        queues = None if ANY_QUEUE in wanted else wanted
        limit, self._suspected = _STAGES + self._suspected, 0
        for job_id, number in unit.find_claimable(queues, limit=limit):
            if not any(free_for(demand, queue) for demand in open_demands for queue in demand.room):
                break
            unit.lock_jobs([job_id], skip_locked=True)
            grantings += self._share_out(unit, job_id, number, demands)
        return grantings

    def claim_tasks_of(self, unit: UnitOfWork, demands: Capacities, job_id: JobId) -> list[ClaimedTasks]:
        """Claim tasks of one locked job, for capacity that no other job wants."""
        job = unit.find_job(job_id)
        if job is None or not demands.find_free():
            return []
        ready = [stage.number for stage in job.stages if stage.claimable]
        return [granting for number in ready for granting in self._share_out(unit, job_id, number, demands)]

    def _share_out(self, unit: UnitOfWork, job_id: JobId, number: int, demands: Capacities) -> list[ClaimedTasks]:
        """Divide the tasks of one stage among the workers that can take them, as evenly as their rooms allow."""
        job = unit.find_job(job_id)
        if job is None:
            return []
        if not ablated("files_wait") and must_wait_for_files(unit, self._snapshots, job_id, number):
            # The controller that counted the attempts publishes the files; if it died, the next sweep does.
            return []
        stage = job.stage(number)
        queue, left = stage.claim_queue, stage.claimable
        takers = [demand for demand in demands.find_free() if free_for(demand, queue)]
        grantings = []
        for place, demand in enumerate(takers):
            share = -(-left // (len(takers) - place))
            count = min(share, free_for(demand, queue), _GRANTED_AT_ONCE)
            if count <= 0:
                break
            granting = self._claims.claim_tasks(
                unit, demands, demand, job_id, stage, count=count, losses=self._claims.innocent
            )
            if granting is not None:
                grantings.append(granting)
                left -= len(granting.claimed)
                count -= len(granting.claimed)
            if count:
                # The counters are exact while the job is locked: the unclaimed tasks are suspects.
                self._suspected += granting is None
                return grantings + self._isolation.keep_workers(unit, demands, job_id, number, left)
        return grantings

    def make_grants(self, tx: Transaction, granting: ClaimedTasks) -> list[Grant]:
        """Return the grants for a claim of this transaction: all that a worker needs to run the attempts.

        One for each class of the tasks; a stage has tasks of several when its job was composed in a request.
        """
        inputs = tx.load_inputs(granting.job_id)
        by_class: dict[str, list[Claimed]] = {}
        for task in granting.claimed:
            by_class.setdefault(task.task_class, []).append(task)
        return [self._make_grant(granting, name, tasks, inputs) for name, tasks in by_class.items()]

    def _make_grant(
        self, granting: ClaimedTasks, task_class: str, tasks: Sequence[Claimed], inputs: JobInputs
    ) -> Grant:
        spawns = granting.stage.number if granting.spawn else None
        recipe = self._snapshots.find_recipe(granting.job_id, task_class, spawns=spawns)
        described = self._snapshots.task_class(granting.job_id, task_class)
        return Grant(
            job_id=granting.job_id,
            stage=granting.stage.number,
            stage_name=granting.stage.name,
            revision=self._snapshots.files_revision(granting.job_id),
            queue=granting.queue,
            recipe=recipe,
            input=stage_input(described, inputs.values),
            sealed={name: value for name, value in inputs.sealed.items() if name in described.input},
            tasks=tuple(GrantedTask(task.task_id, task.attempt, task.index, task.input or {}) for task in tasks),
            seal=inputs.seal if recipe.secret or recipe.item_secret else None,
        )
