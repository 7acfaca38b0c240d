"""Writing tasks: how they come to be, how attempts end, and what a stage does to all of its tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from echelon.controller.core.states import State
from echelon.controller.datastore import statements_tasks as sql
from echelon.controller.datastore.records import HeldTask, NewTask, Settlement
from echelon.controller.datastore.rows import clean
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.statements_files import MARK_UNPUBLISHED
from echelon.controller.datastore.statements_jobs import LAST_ATTEMPT
from echelon.controller.datastore.writes_base import WritesBase
from echelon.shared.ids import JobId, TaskId
from echelon.shared.messages import Outcome


class TaskWrites(WritesBase):
    """The methods of `Transaction` about tasks, but for those about claims and leases."""

    def insert_tasks(self, job_id: JobId, stage: int, tasks: Sequence[NewTask]) -> None:
        """Insert tasks of one stage; an index that exists already is an error (a bug of the caller)."""
        self._insert_tasks(self._entry(job_id).key + stage, tasks)

    def held(self, task_ids: Collection[TaskId]) -> list[HeldTask]:
        """Return the present state of these tasks, those that do not exist left out. Call after `lock_jobs`."""
        return self._held_tasks(self._rows_of(sql.HELD, task_ids)) if task_ids else []

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Write how attempts ended: the task rows (guarded: RUNNING and the attempt) and one attempt row each."""
        if not settlements:
            return
        now = self.now()
        # In the order of their keys, so that two transactions never wait for each other's rows.
        settlements = sorted(settlements, key=lambda settlement: settlement.task.key)
        keys = {worker: self._worker_key(worker) for worker in {s.task.worker for s in settlements} if worker}
        tasks, ended = [], []
        for settlement in settlements:
            worker = keys.get(settlement.task.worker) if settlement.task.worker else None
            error = clean(settlement.error) if settlement.error else None
            tasks.append(_task_row(settlement, worker, error, now))
            ended.append(_attempt_row(settlement, self._entry(settlement.task.job_id).key, worker, error, now))
        complaint = "an attempt that had lost its right to count was settled (a bug of Echelon)"
        self._session.post_exactly(sql.SETTLE, tasks, complaint)
        self._session.post(sql.INSERT_ATTEMPT, *self._numbered(LAST_ATTEMPT, ended))
        private = [(settlement.task.key, settlement.task.attempt) for settlement in settlements if settlement.private]
        if private:
            self._session.post(MARK_UNPUBLISHED, *private)

    def release(self, job_id: JobId, stage: int, *, spawn: bool) -> None:
        """Make a stage's tasks (or its spawn task) claimable: PENDING -> QUEUED. What has run before: see `put_off`."""
        first, end = self._range(job_id, stage)
        keys = (first, first + 1) if spawn else (first + 1, end)
        self._session.post(sql.RELEASE, keys)

    def release_due(self, tasks: Collection[TaskId], *, expire: bool = True) -> list[HeldTask]:
        """Make tasks whose wait is over claimable: PENDING with `not_before` <= now -> QUEUED; return those changed."""
        if not tasks:
            return []
        judged_at = self._last_leases_judged_at(expire=expire)
        rows = self._session.rows(sql.DUE_NOW, (self._session.listed(tasks), self.now(), judged_at))
        rows.sort()
        complaint = "a waiting task was changed without the lock of its job (a bug of Echelon)"
        self._session.post_exactly(sql.RELEASE_ONE, [(row[0],) for row in rows], complaint)
        released = self._held_tasks(rows)
        for task in released:
            task.state = State.QUEUED
        return released


def _task_row(settlement: Settlement, worker: int | None, error: str | None, now: float) -> Row:
    state = settlement.state
    task = settlement.task
    still_open = state is State.PENDING or state is State.QUEUED
    return (
        state._value_, int(settlement.failure), int(settlement.loss), int(settlement.killed), settlement.not_before,
        None if still_open else now, settlement.exit_code, settlement.signal, error,
        clean(settlement.result) if settlement.result else None, int(still_open), int(still_open), task.key,
        task.attempt, worker,
    )  # fmt: skip


def _attempt_row(settlement: Settlement, job: int, worker: int | None, error: str | None, now: float) -> Row:
    task = settlement.task
    kept = not (task.attempt == 1 and settlement.state is State.COMPLETED and settlement.outcome is Outcome.COMPLETED)
    return (
        job, task.key, task.attempt, int(kept), settlement.outcome._value_, worker, settlement.exit_code,
        settlement.signal, error, task.started_at, now,
    )  # fmt: skip
