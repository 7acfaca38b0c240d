"""Tasks and their attempts: inserting tasks, settling attempts, and making a stage's tasks claimable."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, and_, case, func, null, or_, select, update
from sqlalchemy import bindparam as _p

from echelon.controller.core.states import OPEN, State
from echelon.controller.datastore.encoding import STATES, NamedItem, clean_text, decode_items, encode_json
from echelon.controller.datastore.files import MARK_UNPUBLISHED
from echelon.controller.datastore.prepared import Among, Prepared
from echelon.controller.datastore.records import SPAWN_INDEX, NewTask, Settlement, TaskRow
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.sql import (
    AT_ONCE,
    IN_RANGE,
    ONE,
    RUNNING,
    build_insertion,
    guard_leaving,
    is_in,
    state_literal,
)
from echelon.controller.datastore.tables import INDEX_BITS, attempts, stages, tasks
from echelon.controller.datastore.workers import WorkerWrites
from echelon.shared.ids import JobId, TaskId
from echelon.shared.messages import Outcome

INSERT_TASK = build_insertion(tasks)
INSERT_ATTEMPT = build_insertion(attempts)
LAST_ATTEMPT = Prepared(select(func.max(attempts.c.number)).where(attempts.c.job == _p("job")), "job")

#: The columns of a `TaskRow`, in the order of `_task_rows`.
TASK_ROW_COLUMNS = (
    tasks.c.key, tasks.c.task_id, stages.c.job, stages.c.number, tasks.c.idx, tasks.c.task_class, tasks.c.state,
    tasks.c.attempt, tasks.c.failures, tasks.c.losses, tasks.c.worker, tasks.c.started_at, tasks.c.lease_until,
    tasks.c.etag, tasks.c.by_whom, tasks.c.unstarted,
)  # fmt: skip
LOAD_TASKS = Prepared(
    select(*TASK_ROW_COLUMNS)
    .join_from(tasks, stages, stages.c.key == tasks.c.stage)
    .where(Among(tasks.c.task_id, _p("task_ids"))),
    "task_ids",
)

LOAD_ITEMS = Prepared(
    select(tasks.c.task_id, tasks.c.task_class, tasks.c.input, tasks.c.idx).where(
        Among(tasks.c.task_id, _p("task_ids"))
    ),
    "task_ids",
)

SETTLE = Prepared(
    update(tasks)
    .where(
        tasks.c.key == _p("at_key"),
        RUNNING,
        tasks.c.attempt == _p("at_attempt"),
        tasks.c.worker == _p("at_worker"),
    )
    .values(
        state=_p("state"),
        unstarted=tasks.c.unstarted + _p("unstarted"),
        failures=tasks.c.failures + _p("failure"),
        losses=tasks.c.losses + _p("loss"),
        # Processes of a killed attempt may exist until its worker reports their end or its lease is over.
        lease_until=case((_p("killed") == ONE, tasks.c.lease_until), else_=null()),
        not_before=_p("not_before"),
        started_at=_p("started_at"),
        ended_at=_p("ended_at"),
        exit_code=_p("exit_code"),
        signal=_p("signal"),
        etag=tasks.c.etag + ONE,
        error=_p("error"),
        result=_p("result"),
        # A pause outlives an attempt, not the task.
        by_whom=case((_p("open") == ONE, tasks.c.by_whom), else_=null()),
        paused_at=case((_p("again") == ONE, tasks.c.paused_at), else_=null()),
    ),
    "state unstarted failure loss killed not_before started_at ended_at exit_code signal error result open again"
    " at_key at_attempt at_worker",
)

_open_again = {"not_before": null(), "ended_at": null(), "etag": tasks.c.etag + ONE}
#: Keeps the lease of a task that has run before: see `WAIT_FOR_EXIT`.
RELEASE = Prepared(
    update(tasks)
    .where(IN_RANGE, guard_leaving(State.PENDING, to=State.QUEUED), tasks.c.by_whom.is_(None))
    .values(state=state_literal(State.QUEUED), **_open_again),
    "first_key end_key",
)


def waited_for(now: str, too: str) -> ColumnElement[bool]:
    """Select tasks whose time has come, which are not paused, and whose last attempt is gone.

    `too` is the moment at which leases are judged; at one before all leases, only the worker's report counts.
    """
    return and_(
        is_in(tasks.c.state, State.PENDING),
        tasks.c.by_whom.is_(None),
        tasks.c.not_before.is_not(None),
        tasks.c.not_before <= _p(now),
        or_(tasks.c.lease_until.is_(None), tasks.c.lease_until <= _p(too)),
    )


DUE = waited_for("now", "now_too")
DUE_NOW = Prepared(
    select(*TASK_ROW_COLUMNS)
    .join_from(tasks, stages, stages.c.key == tasks.c.stage)
    .where(Among(tasks.c.task_id, _p("task_ids")), DUE),
    "task_ids now now_too",
)
RELEASE_ONE = Prepared(
    update(tasks)
    .where(tasks.c.key == _p("at_key"), guard_leaving(State.PENDING, to=State.QUEUED))
    .values(state=state_literal(State.QUEUED), lease_until=null(), **_open_again),
    "at_key",
)

#: Claimable tasks whose last attempt's processes may still exist wait for their end.
WAIT_FOR_EXIT = Prepared(
    update(tasks)
    .where(IN_RANGE, guard_leaving(State.QUEUED, to=State.PENDING), tasks.c.lease_until.is_not(None))
    .values(state=state_literal(State.PENDING), not_before=AT_ONCE, etag=tasks.c.etag + ONE)
    .returning(tasks.c.idx),
    "first_key end_key",
)
#: The worker has reported the end of an attempt that had lost its claim.
CLEAR_LEASE = Prepared(
    update(tasks)
    .where(
        tasks.c.key == _p("at_key"),
        tasks.c.attempt == _p("at_attempt"),
        tasks.c.worker == _p("at_worker"),
        is_in(tasks.c.state, *(state for state in State if state is not State.RUNNING)),
        tasks.c.lease_until.is_not(None),
    )
    .values(lease_until=null(), etag=tasks.c.etag + ONE),
    "at_key at_attempt at_worker",
)


class TaskWrites(WorkerWrites):
    """The methods of a transaction about tasks, but for those about claims and leases."""

    def insert_tasks(self, job_id: JobId, stage: int, tasks: Sequence[NewTask]) -> None:
        """Insert tasks of one stage; an index that exists is an error (a bug of the caller)."""
        self._insert_tasks(self._locked_entry(job_id).key + stage, tasks)

    def load_tasks(self, task_ids: Collection[TaskId]) -> list[TaskRow]:
        """Return the rows of these tasks as far as they exist. Call `lock_jobs` first."""
        return self._task_rows(self._rows_of(LOAD_TASKS, task_ids)) if task_ids else []

    def load_items(self, task_ids: Collection[TaskId]) -> dict[TaskId, NamedItem]:
        """Return what names these tasks, as far as they exist; secret values are sealed."""
        return decode_items(self._rows_of(LOAD_ITEMS, task_ids) if task_ids else [])

    def settle_attempts(self, settlements: Sequence[Settlement]) -> None:
        """Save how claims ended: the task rows (guarded: RUNNING and the claim), and a row of each that had started.

        Attempts with files to publish are noted.
        """
        if not settlements:
            return
        now = self.now()
        # In the order of their keys, so that two transactions never wait for each other's rows.
        settlements = sorted(settlements, key=lambda settlement: settlement.task.key)
        keys = {worker: self._worker_key(worker) for worker in {s.task.worker for s in settlements} if worker}
        tasks, ended = [], []
        for settlement in settlements:
            worker = keys.get(settlement.task.worker) if settlement.task.worker else None
            error = clean_text(settlement.error) if settlement.error else None
            tasks.append(_task_row(settlement, worker, error, now))
            if settlement.counted:
                job = self._locked_entry(settlement.task.job_id).key
                ended.append(_attempt_row(settlement, job, worker, error, now))
        complaint = "an attempt that had lost its right to count was settled (a bug of Echelon)"
        self._session.send_guarded(SETTLE, tasks, complaint)
        if ended:
            self._session.send_rows(INSERT_ATTEMPT, *self._number_lines(LAST_ATTEMPT, ended))
        private = [(settlement.task.key, settlement.task.attempt) for settlement in settlements if settlement.private]
        if private:
            self._session.send_rows(MARK_UNPUBLISHED, *private)

    def release_tasks(self, job_id: JobId, stage: int, *, spawn: bool) -> None:
        """Make a stage's tasks (or its spawn task) claimable: PENDING -> QUEUED.

        For tasks that have run before see `wait_for_exit`.
        """
        first, end = self._task_keys(job_id, stage)
        keys = (first, first + 1) if spawn else (first + 1, end)
        self._session.send_rows(RELEASE, keys)

    def release_due(self, tasks: Collection[TaskId], *, expire: bool = True) -> list[TaskRow]:
        """Make tasks whose wait is over claimable: PENDING with `not_before` <= now -> QUEUED; return them.

        Without `expire`, tasks that wait for the lease of their last attempt stay.
        """
        if not tasks:
            return []
        judged_at = self._last_leases_judged_at(expire=expire)
        rows = self._session.fetch_rows(DUE_NOW, (self._session.list_parameter(tasks), self.now(), judged_at))
        rows.sort()
        complaint = "a waiting task was changed without the lock of its job (a bug of Echelon)"
        self._session.send_guarded(RELEASE_ONE, [(row[0],) for row in rows], complaint)
        released = self._task_rows(rows)
        for task in released:
            task.state = State.QUEUED
        return released

    def wait_for_exit(self, job_id: JobId, stage: int) -> tuple[int, bool]:
        """Let QUEUED tasks wait (PENDING) for the end of their last attempts, which may still run.

        The worker reports that end, or the lease runs out: a claimable task has no lease. Return the number of these
        tasks, and whether the spawn task was one.
        """
        found = [index for (index,) in self._session.fetch_rows(WAIT_FOR_EXIT, self._task_keys(job_id, stage))]
        return len(found) - (SPAWN_INDEX in found), SPAWN_INDEX in found

    def clear_leases(self, ended: Sequence[TaskRow]) -> None:
        """Note that these tasks' last attempts are gone, as their workers have reported."""
        rows = [(task.key, task.attempt, self._worker_key(task.worker)) for task in ended if task.worker is not None]
        self._session.send_rows(CLEAR_LEASE, *sorted(rows))

    # --- for the parts

    def _insert_tasks(self, stage_key: int, tasks: Sequence[NewTask]) -> None:
        if not tasks:
            return
        now = self.now()
        base = (stage_key << INDEX_BITS) + 1
        failed = State.FAILED
        rows = [
            (
                base + task.index, task.task_id, stage_key, task.index, task.state._value_, 0, 0, 0, 0, None, None,
                None, None, now if task.state is failed else None, None, None, 1, task.task_class, task.queue,
                encode_json(task.input) if task.input else None, clean_text(task.error) if task.error else None, None,
                clean_text(task.paused_by), now if task.paused_by is not None else None, task.seal_number,
                task.run,
            )
            for task in tasks
        ]  # fmt: skip
        self._session.send_rows(INSERT_TASK, *rows)

    def _task_rows(self, rows: list[Row]) -> list[TaskRow]:
        """Return records of rows that hold `TASK_ROW_COLUMNS`."""
        job_ids = self._ids_of_jobs(row[2] for row in rows)
        names = self._names_of_workers({row[10] for row in rows if row[10] is not None})
        return [
            TaskRow(
                key, TaskId(task_id), job_ids[job], number, index, task_class, STATES[state], attempt, failures,
                losses, names[worker] if worker is not None else None, started_at, until, etag, by, unstarted,
            )
            for (
                key, task_id, job, number, index, task_class, state, attempt, failures, losses, worker, started_at,
                until, etag, by, unstarted,
            ) in rows
        ]  # fmt: skip


def _task_row(settlement: Settlement, worker: int | None, error: str | None, now: float) -> Row:
    state = settlement.state
    task = settlement.task
    still_open = state in OPEN
    return (
        state._value_, int(not settlement.counted), int(settlement.failure), int(settlement.loss),
        int(settlement.killed), settlement.not_before, task.started_at or settlement.started_at,
        None if still_open else now, settlement.exit_code, settlement.signal, error,
        clean_text(settlement.result) if settlement.result else None, int(still_open), int(still_open), task.key,
        task.attempt, worker,
    )  # fmt: skip


def _attempt_row(settlement: Settlement, job: int, worker: int | None, error: str | None, now: float) -> Row:
    task = settlement.task
    kept = not (task.number == 1 and settlement.state is State.COMPLETED and settlement.outcome is Outcome.COMPLETED)
    return (
        job, task.key, task.attempt, task.unstarted, int(kept), settlement.outcome._value_, worker,
        settlement.exit_code, settlement.signal, error, task.started_at or settlement.started_at, now,
    )  # fmt: skip
