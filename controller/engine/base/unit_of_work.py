"""The jobs that one transaction works on: lock, step, carry out effects, save.

Every change of a job goes through a `UnitOfWork`: the machine's counters and the rows change together or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from echelon.controller.core.effects import (
    BeginRun,
    Effect,
    RecallTasks,
    ReleaseSpawnTask,
    ReleaseTasks,
    Remember,
    ReopenTasks,
    RestoreTasks,
    SkipTasks,
    WithdrawTasks,
    list_reopened_stages,
)
from echelon.controller.core.events import Event, SpawnTaskMoved, TasksMoved
from echelon.controller.core.machine import step
from echelon.controller.core.model import Job
from echelon.controller.core.states import ENDED, State
from echelon.controller.datastore.claims import Claimable
from echelon.controller.datastore.files import Unpublished
from echelon.controller.datastore.transaction import Transaction
from echelon.shared.ablation import ablated
from echelon.shared.errors import NotFound
from echelon.shared.ids import JobId, WorkerId
from echelon.shared.messages import AttemptRef, Stop


class UnitOfWork:
    """Holds locked jobs for the length of one transaction."""

    def __init__(self, tx: Transaction, *, request_id: str | None = None) -> None:
        self.tx = tx
        #: Attempts that lost their claim and whose workers are to be told after the commit.
        self.stops: list[tuple[WorkerId, Stop]] = []
        #: Attempts that workers are asked to give back, if they have not started, after the commit.
        self.recalled: list[tuple[WorkerId, AttemptRef]] = []
        #: Jobs that ended in this transaction.
        self.ended: set[JobId] = set()
        #: Attempts that are counted in this transaction, whose files are to be published after the commit.
        self.unpublished: list[Unpublished] = []
        self._request_id = request_id
        self._saved: dict[JobId, Job] = {}
        self._jobs: dict[JobId, Job] = {}

    def lock_jobs(self, job_ids: Collection[JobId], *, skip_locked: bool = False) -> None:
        """Lock jobs that are not locked yet; those that do not exist are left out."""
        missing = [job_id for job_id in job_ids if job_id not in self._jobs]
        if missing:
            found = self.tx.lock_jobs(missing, skip_locked=skip_locked)
            self._saved.update(found)
            self._jobs.update(found)

    def find_job(self, job_id: JobId) -> Job | None:
        """Return a locked job as it stands now; None when it does not exist."""
        return self._jobs.get(job_id)

    def require_job(self, job_id: JobId) -> Job:
        """Lock a job and return it; raise NotFound when it does not exist."""
        self.lock_jobs([job_id])
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFound(f"there is no job {job_id}")
        return job

    def apply_event(self, job_id: JobId, event: Event) -> Job:
        """Let the machine take one step with a locked job and carry out what follows."""
        job, effects = step(self._jobs[job_id], event)
        self._jobs[job_id] = job
        self._carry_out(job_id, effects)
        return job

    @property
    def is_expanding(self) -> bool:
        """Tell whether one of the jobs has items that are not tasks yet."""
        return any(
            stage.state is State.RUNNING and stage.spawn is State.COMPLETED and not stage.filled
            for job in self._jobs.values()
            for stage in job.living
        )

    def find_claimable(self, queues: Collection[str] | None, *, limit: int, least: int = 0) -> list[Claimable]:
        """Return stages with tasks to claim in one of the queues (None: any), first to last."""
        unsaved = [job for job_id, job in self._jobs.items() if job is not self._saved[job_id]]
        return self.tx.find_claimable(queues, limit=limit, least=least, unsaved=unsaved)

    def has_claimable(self, job_id: JobId) -> bool:
        """Tell whether a locked job has tasks that a worker may claim now."""
        return any(stage.claimable for stage in self._jobs[job_id].living)

    def save_jobs(self) -> None:
        """Write the jobs that changed since they were locked or last saved."""
        for job_id, job in self._jobs.items():
            before = self._saved[job_id]
            if job is not before:
                self.tx.save_job(before, job)
                self._saved[job_id] = job
                if job.state in ENDED and before.state not in ENDED:
                    self.ended.add(job_id)

    def _carry_out(self, job_id: JobId, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case ReleaseTasks(stage) | ReleaseSpawnTask(stage):
                    self.tx.release_tasks(job_id, stage, spawn=isinstance(effect, ReleaseSpawnTask))
                case WithdrawTasks(stage, running, reason, by) if not ablated("task_withdrawal"):
                    self.stop_attempts(self.tx.withdraw_tasks(job_id, stage, running=running, by=by), reason)
                case SkipTasks(stage, by):
                    self.stop_attempts(self.tx.skip_tasks(job_id, stage, by=by), "skipped")
                case ReopenTasks(stage, target, sources, spawn, spans):
                    self.tx.reopen_tasks(job_id, stage, target=target, sources=sources, spawn=spawn, spans=spans)
                case BeginRun(stage, target, run, shift):
                    self.tx.begin_run(job_id, stage, target=target, run=run, shift=shift)
                case RestoreTasks(stage, target):
                    self.tx.restore_tasks(job_id, stage, target=target)
                case Remember(kind, stage_number, detail):
                    self._record_event(job_id, kind, stage_number, detail)
        self._recall_tasks(job_id, effects)
        for stage_number in list_reopened_stages(effects):
            self._wait_for_exit(job_id, stage_number)

    def _recall_tasks(self, job_id: JobId, effects: Sequence[Effect]) -> None:
        for stage in [effect.stage for effect in effects if isinstance(effect, RecallTasks)]:
            self.recalled += self.tx.list_given(job_id, stage, everything=True)

    def stop_attempts(self, stopped: Iterable[tuple[WorkerId, AttemptRef]], reason: str) -> None:
        """Have workers told, after the commit, to end attempts that have lost their claim."""
        self.stops += [(worker, Stop(ref.task_id, ref.attempt, reason)) for worker, ref in stopped]

    def _wait_for_exit(self, job_id: JobId, stage: int) -> None:
        """Make reopened tasks wait, in rows and counters, while their last attempts may still run."""
        if ablated("reopen_wait"):
            return
        tasks, spawn = self.tx.wait_for_exit(job_id, stage)
        if tasks:
            self.apply_event(job_id, TasksMoved(stage, {(State.QUEUED, State.PENDING): tasks}))
        if spawn:
            self.apply_event(job_id, SpawnTaskMoved(stage, State.PENDING))

    def record_event(self, job_id: JobId, kind: str, stage: int | None = None, **detail: object) -> None:
        """Write a line of a job's history, with the request that it comes from."""
        self._record_event(job_id, kind, stage, detail)

    def _record_event(self, job_id: JobId, kind: str, stage: int | None, detail: object) -> None:
        facts = dict(detail) if isinstance(detail, dict) else {}
        if self._request_id:
            facts["request_id"] = self._request_id
        self.tx.record_event(job_id, kind, stage=stage, detail=facts or None)
