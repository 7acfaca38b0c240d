"""Reads of tasks and their attempts."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, case, func, null, or_, select, true

from echelon.controller.core.states import State, show_state
from echelon.controller.datastore.cursors import cursor_after, place_of
from echelon.controller.datastore.encoding import STATES, decode_object
from echelon.controller.datastore.filters import TaskFilter
from echelon.controller.datastore.reading import Found, ReaderBase, page_size
from echelon.controller.datastore.records import AttemptView, RecordPage, TaskView
from echelon.controller.datastore.sql import AT_ONCE, PRESENT, SHOWN_STATE, STARTED, TASKS_OF_JOBS, ZERO, is_in
from echelon.controller.datastore.tables import (
    INDEX_BITS,
    attempts,
    jobs,
    stages,
    task_key,
    tasks,
    workers,
)
from echelon.shared.errors import InvalidInput
from echelon.shared.ids import JobId, TaskId
from echelon.shared.messages import Outcome

#: A task that waits for the end of its last attempt runs again when that attempt's lease is over, at the latest.
_not_before = case(
    (and_(is_in(tasks.c.state, State.PENDING), tasks.c.lease_until > tasks.c.not_before), tasks.c.lease_until),
    (tasks.c.not_before == AT_ONCE, null()),
    else_=tasks.c.not_before,
)
_worker = func.coalesce(workers.c.name, workers.c.worker_id)
_TASKS = (
    select(
        tasks.c.key, tasks.c.task_id, jobs.c.job_id, stages.c.number, tasks.c.idx, tasks.c.task_class, tasks.c.queue,
        tasks.c.state, tasks.c.attempt, tasks.c.unstarted, tasks.c.input, _worker.label("worker"), tasks.c.exit_code,
        tasks.c.signal, tasks.c.error, tasks.c.result, tasks.c.etag, _not_before.label("not_before"),
        tasks.c.started_at, tasks.c.ended_at, tasks.c.by_whom, tasks.c.paused_at,
        func.coalesce(func.nullif(tasks.c.run, ZERO), stages.c.run).label("run"), tasks.c.lease_until,
    )
    .select_from(TASKS_OF_JOBS)
    .outerjoin(workers, workers.c.key == tasks.c.worker)
)  # fmt: skip
_ATTEMPTS = (
    select(
        attempts.c.number, tasks.c.task_id, stages.c.number, tasks.c.idx, attempts.c.attempt, attempts.c.unstarted,
        attempts.c.outcome, _worker, attempts.c.exit_code, attempts.c.signal, attempts.c.error, attempts.c.started_at,
        attempts.c.ended_at,
    )
    .select_from(attempts)
    .join(tasks, tasks.c.key == attempts.c.task)
    .join(stages, stages.c.key == tasks.c.stage)
    .outerjoin(workers, workers.c.key == attempts.c.worker)
)  # fmt: skip

#: How many waiting tasks a search for the first one reads.
_LOOKED_AT = 100


class TaskReads(ReaderBase):
    """The methods of a reader about tasks."""

    def list_tasks(self, job_id: JobId, wanted: TaskFilter, *, limit: int, cursor: str | None) -> RecordPage[TaskView]:
        """Return a page of a job's tasks, by stage and index, the spawn task first."""
        after = place_of("tasks", cursor, 2) if cursor is not None else None
        limit = page_size(limit)
        job = self._find_keys(job_id)
        if job is None:
            return RecordPage([], None)
        key, count = job
        first, last = 0, count - 1
        if wanted.stage is not None:
            if not 0 <= wanted.stage < count:
                return RecordPage([], None)
            first = last = wanted.stage
        start = task_key(key + first, -1)
        if after is not None:
            if after[0] >= count or after[1] >= 1 << INDEX_BITS:
                raise InvalidInput("the cursor is not one that this list has given out; start without one")
            start = max(start, task_key(key + after[0], after[1] - 2) + 1)
        query = _TASKS.where(tasks.c.key >= start, tasks.c.key < task_key(key + last + 1, -1))
        query = query.where(_select_run(wanted))
        if wanted.states:
            query = query.where(SHOWN_STATE.in_([state.value for state in wanted.states]))
        if wanted.index is not None:
            if not -1 <= wanted.index < 1 << INDEX_BITS:
                return RecordPage([], None)
            query = query.where(
                tasks.c.key.in_([task_key(key + number, wanted.index) for number in range(first, last + 1)])
            )
        rows = self._connection.execute(query.order_by(tasks.c.key).limit(limit + 1)).all()
        items = [_task_view(row) for row in rows[:limit]]
        more = len(rows) > limit
        # The index may be -1; a cursor counts from 0.
        return RecordPage(items, cursor_after("tasks", items[-1].stage, items[-1].index + 2) if more else None)

    def find_task(self, task_id: TaskId) -> TaskView | None:
        """Return one task."""
        row = self._connection.execute(_TASKS.where(tasks.c.task_id == task_id)).first()
        return _task_view(row) if row else None

    def find_task_at(self, job_id: JobId, stage: int, index: int) -> TaskView | None:
        """Return the task at an index of a stage; -1 is the spawn task."""
        job = self._find_keys(job_id)
        if job is None or not 0 <= stage < job[1] or index < -1:
            return None
        row = self._connection.execute(_TASKS.where(tasks.c.key == task_key(job[0] + stage, index))).first()
        return _task_view(row) if row else None

    def find_next_due(self, job_id: JobId, stage: int) -> TaskView | None:
        """Return the task of a stage whose wait ends first; paused tasks do not count."""
        job = self._find_keys(job_id)
        if job is None:
            return None
        # Few tasks wait for a time: read them in the order of their index.
        waits = and_(is_in(tasks.c.state, State.PENDING), tasks.c.not_before.is_not(None), tasks.c.by_whom.is_(None))
        query = _TASKS.where(waits, tasks.c.stage == job[0] + stage).order_by(tasks.c.not_before).limit(_LOOKED_AT)
        first: TaskView | None = None
        for row in self._connection.execute(query):
            task = _task_view(row)
            # The lease of its last attempt can make a task later than the order of the index says.
            if first is not None and (task.not_before or 0.0) >= (first.due_at or 0.0):
                break
            if first is None or (task.due_at or 0.0) < (first.due_at or 0.0):
                first = task
        return first

    def find_first_paused(self, job_id: JobId, stage: int) -> TaskView | None:
        """Return the first paused task of a stage; the spawn task comes first."""
        job = self._find_keys(job_id)
        if job is None:
            return None
        key = job[0] + stage
        held = and_(is_in(tasks.c.state, State.PENDING), tasks.c.by_whom.is_not(None))
        mine = and_(tasks.c.key >= task_key(key, -1), tasks.c.key < task_key(key + 1, -1))
        row = self._connection.execute(_TASKS.where(mine, held).order_by(tasks.c.key).limit(1)).first()
        return _task_view(row) if row else None

    def list_attempts(self, task_id: TaskId) -> list[AttemptView]:
        """Return the ended attempts of a task, in order."""
        found = self._connection.execute(_TASKS.where(tasks.c.task_id == task_id)).first()
        if found is None:
            return []
        task = _task_view(found)
        if task.state is State.COMPLETED and task.attempt == 1:
            return [_only_attempt(task)]
        query = _ATTEMPTS.where(attempts.c.task == found.key, attempts.c.kept == 1).order_by(attempts.c.attempt)
        return [_attempt_view(row) for row in self._connection.execute(query)]

    def find_claims(self, task: TaskView) -> dict[int, int]:
        """Return by number the claims of a task's attempts, those that run included."""
        claims = {task.attempt + (task.given_to is not None): task.claim}
        return claims | {one.attempt: one.claim for one in self.list_attempts(task.task_id)}

    def list_attempts_since(self, job_id: JobId, *, after: int, limit: int) -> list[tuple[int, AttemptView]]:
        """Return attempts of a job that ended after a cursor (0: all), in the order of their end."""
        job = self._find_keys(job_id)
        if job is None:
            return []
        query = (
            _ATTEMPTS.where(attempts.c.job == job[0], attempts.c.number > after)
            .order_by(attempts.c.number)
            .limit(limit)
        )
        return [(row[0], _attempt_view(row)) for row in self._connection.execute(query)]

    def list_running(self, job_id: JobId, *, limit: int) -> list[TaskView]:
        """Return tasks of a job that run now."""
        job = self._find_keys(job_id)
        if job is None:
            return []
        key, count = job
        # Few tasks run at all: read them in the order of their index instead of the job's 100,000.
        query = _TASKS.where(STARTED, tasks.c.stage >= key, tasks.c.stage < key + count)
        rows = self._connection.execute(query.order_by(tasks.c.lease_until).limit(page_size(limit)))
        return [_task_view(row) for row in sorted(rows, key=lambda row: int(row.key))]

    def find_by_prefix(self, prefix: str, *, limit: int) -> tuple[list[JobId], list[TaskId]]:
        """Return jobs and tasks whose id begins with `prefix`."""
        if not prefix or not set(prefix) <= set("0123456789abcdef-"):
            return [], []
        # "g" sorts after every character of an id.
        of_jobs = select(jobs.c.job_id).where(jobs.c.job_id >= prefix, jobs.c.job_id < prefix + "g")
        of_tasks = select(tasks.c.task_id).where(tasks.c.task_id >= prefix, tasks.c.task_id < prefix + "g")
        return (
            [JobId(found) for found in self._connection.scalars(of_jobs.order_by(jobs.c.job_id).limit(limit))],
            [TaskId(found) for found in self._connection.scalars(of_tasks.order_by(tasks.c.task_id).limit(limit))],
        )


def _select_run(wanted: TaskFilter) -> ColumnElement[bool]:
    if wanted.run is not None:
        return or_(tasks.c.run == wanted.run, and_(stages.c.run == wanted.run, PRESENT))
    # An index names one task, of whatever run.
    return PRESENT if wanted.index is None else true()


def _task_view(row: Found) -> TaskView:
    (
        _, task_id, job_id, stage, index, task_class, queue, state, claim, unstarted, values, worker, exit_code, signal,
        error, result, etag, not_before, started_at, ended_at, by, paused_at, run, lease_until,
    ) = row  # fmt: skip
    given = state == State.RUNNING and started_at is None
    shown, number = show_state(STATES[state], started=not given), claim - unstarted - given
    holds, ran = (worker, None) if given else (None, worker)
    return TaskView(
        TaskId(task_id), JobId(job_id), stage, index, task_class, queue, shown, number, decode_object(values), ran,
        exit_code, signal, error, result, etag, not_before, started_at, ended_at, by, paused_at, run, lease_until,
        claim, holds,
    )  # fmt: skip


def _attempt_view(row: Found) -> AttemptView:
    _, task_id, stage, index, claim, unstarted, outcome, worker, exit_code, signal, error, started_at, ended_at = row
    return AttemptView(
        TaskId(task_id), stage, index, claim - unstarted, Outcome(outcome), worker, exit_code, signal, error,
        started_at, ended_at, claim,
    )  # fmt: skip


def _only_attempt(task: TaskView) -> AttemptView:
    """Return the only attempt of a completed task; its row is not indexed by task."""
    return AttemptView(
        task.task_id, task.stage, task.index, 1, Outcome.COMPLETED, task.worker, task.exit_code, task.signal,
        task.error, task.started_at, task.ended_at or 0.0, task.claim,
    )  # fmt: skip
