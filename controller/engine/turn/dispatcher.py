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
from echelon.controller.engine.turn.sharing import JobInLine, choose_rivals, compute_share, list_jobs
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId
from echelon.shared.messages import ANY_QUEUE, Grant, GrantedTask

#: Stages looked at in one turn. More than enough to fill every room; the next turn sees the rest.
_STAGES = 64
#: Attempts of one grant, so that an order stays small.
_GRANTED_AT_ONCE = 512
#: The highest priority.
_HIGHEST = 9


class Dispatcher:
    """Matches rooms and stages inside a transaction that its caller holds."""

    def __init__(self, *, snapshots: Snapshots, lease: float, max_losses: int) -> None:
        self._snapshots = snapshots
        self._claims = make_claim_rules(lease=lease, max_losses=max_losses)
        self._isolation = Isolation(self._claims, snapshots)
        #: Stages that had nothing but suspects at the last look; what stands behind them must be seen all the same.
        self._suspected = 0

    def claim_tasks(self, unit: UnitOfWork, demands: Capacities) -> list[ClaimedTasks]:
        """Claim tasks for all free slots; jobs of equal priority share them."""
        grantings = self._isolation.serve_kept_workers(unit, demands)
        open_demands = demands.find_free()
        wanted = {queue for demand in open_demands for queue in demand.room if free_for(demand, queue, _HIGHEST)}
        if not wanted:
            return grantings
        queues = None if ANY_QUEUE in wanted else wanted
        limit, self._suspected = _STAGES + self._suspected, 0
        # Without a free slot only what starts before others that wait at a worker.
        line = unit.find_claimable(queues, limit=limit, least=0 if demands.count_free() else 1)
        jobs = list_jobs(line)
        alone = len(jobs) == 1 and len(line) < limit
        while jobs and (free := demands.count_free(priority=jobs[0].priority)):
            rivals = choose_rivals(jobs, free)
            jobs = jobs[len(rivals) :]
            granted = self._serve_round(unit, demands, rivals)
            if not alone and not ablated("job_turns"):
                served = {one.job_id for one in granted}
                for job_id in [job.job_id for job in rivals if job.job_id in served]:
                    unit.tx.move_back(job_id)
            grantings += granted
        return grantings

    def _serve_round(self, unit: UnitOfWork, demands: Capacities, rivals: Sequence[JobInLine]) -> list[ClaimedTasks]:
        """Divide the free slots among jobs of equal priority, as evenly as their tasks allow."""
        if len(rivals) == 1:
            unit.lock_jobs([rivals[0].job_id], skip_locked=True)
            return self._serve_job(unit, demands, rivals[0], rivals[0].count)
        priority = rivals[0].priority
        rivals = [job for job in rivals if demands.count_free(job.queues, priority=priority)]
        unit.lock_jobs([job.job_id for job in rivals], skip_locked=True)
        grantings: list[ClaimedTasks] = []
        limited = []
        any_queue = bool(demands.count_free((), priority=priority))
        for place, job in enumerate(rivals, 1):
            others = [one.count for one in rivals[place:] if any_queue or not job.queues.isdisjoint(one.queues)]
            share = compute_share(job.count, others, demands.count_free(job.queues, priority=priority))
            granted = self._serve_job(unit, demands, job, share)
            if sum(len(one.claimed) for one in granted) == share < job.count:
                limited.append(job)
            grantings += granted
        # Free slots that are left were the shares of jobs whose tasks could not be claimed.
        for job in limited:
            grantings += self._serve_job(unit, demands, job, demands.count_free(job.queues, priority=priority))
        return grantings

    def _serve_job(self, unit: UnitOfWork, demands: Capacities, job: JobInLine, share: int) -> list[ClaimedTasks]:
        """Claim up to `share` tasks of one job."""
        grantings: list[ClaimedTasks] = []
        for number in job.stages:
            if share <= 0:
                break
            granted = self._share_out(unit, job.job_id, number, demands, most=share)
            share -= sum(len(one.claimed) for one in granted)
            grantings += granted
        return grantings

    def claim_tasks_of(self, unit: UnitOfWork, demands: Capacities, job_id: JobId) -> list[ClaimedTasks]:
        """Claim tasks of one locked job, for capacity that no other job wants."""
        job = unit.find_job(job_id)
        if job is None or not demands.find_free():
            return []
        ready = [stage.number for stage in job.stages if stage.claimable]
        return [
            granting
            for number in ready
            for granting in self._share_out(unit, job_id, number, demands, most=job.stage(number).claimable)
        ]

    def _share_out(
        self, unit: UnitOfWork, job_id: JobId, number: int, demands: Capacities, *, most: int
    ) -> list[ClaimedTasks]:
        """Divide tasks of one stage among the workers that can take them, as evenly as their rooms allow."""
        job = unit.find_job(job_id)
        if job is None:
            return []
        if not ablated("files_wait") and must_wait_for_files(unit, self._snapshots, job_id, number):
            # The controller that counted the attempts publishes the files; if it died, the next sweep does.
            return []
        stage = job.stage(number)
        queue, left = stage.claim_queue, stage.claimable
        most = min(most, left)
        # A free slot is better than the first place in front of one.
        priority = 0 if demands.count_free((queue,)) else -stage.claim_rank
        takers = [demand for demand in demands.find_free() if free_for(demand, queue, priority)]
        grantings = []
        for place, demand in enumerate(takers):
            share = -(-most // (len(takers) - place))
            count = min(share, free_for(demand, queue, priority), _GRANTED_AT_ONCE)
            if count <= 0:
                break
            granting = self._claims.claim_tasks(
                unit, demands, demand, job_id, stage, count=count, losses=self._claims.innocent
            )
            if granting is not None:
                grantings.append(granting)
                left -= len(granting.claimed)
                most -= len(granting.claimed)
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
            tasks=tuple(
                GrantedTask(task.task_id, task.attempt, task.index, task.input or {}, task.number) for task in tasks
            ),
            seal=inputs.seal if recipe.secret or recipe.item_secret else None,
            priority=granting.priority,
        )
