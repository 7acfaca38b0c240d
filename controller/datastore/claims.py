"""Claims and leases: which worker may run which task, and until when; and the work that no message announces."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, any_, exists, func, literal_column, null, select, union_all, update
from sqlalchemy import bindparam as _p

from echelon.controller.core.model import Job
from echelon.controller.core.policy import WORKER_FAULT_DELAY
from echelon.controller.core.states import State
from echelon.controller.datastore.encoding import decode_object
from echelon.controller.datastore.fanout import EXPANDING
from echelon.controller.datastore.prepared import Among, Prepared
from echelon.controller.datastore.records import ANY_LOSSES, SPAWN_INDEX, Claimed
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.sql import (
    DYING,
    ONE,
    RUNNING,
    TASKS_OF_JOBS,
    ZERO,
    guard_leaving,
    is_in,
    state_literal,
    still_in,
)
from echelon.controller.datastore.tables import INDEX_BITS, attempts, jobs, stages, tasks, unpublished, workers
from echelon.controller.datastore.tasks import DUE, TaskWrites, waited_for
from echelon.controller.datastore.workers import FIND_WORKERS
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId, TaskId, WorkerId
from echelon.shared.messages import AttemptRef

_LAST_INDEX = (1 << INDEX_BITS) - 2

_next = (
    select(tasks.c.key)
    .where(guard_leaving(State.QUEUED, to=State.RUNNING), tasks.c.stage == _p("at_stage"), tasks.c.idx >= _p("first"))
    .where(tasks.c.idx <= _p("last"), tasks.c.losses >= _p("least"), tasks.c.losses <= _p("most"))
    .order_by(tasks.c.idx)
    .limit(_p("count"))
    .offset(ZERO)
)


def _build_claim(chosen: ColumnElement[bool]) -> Any:
    return (
        update(tasks)
        .where(chosen, still_in(tasks.c.state, State.QUEUED))
        .values(
            state=state_literal(State.RUNNING),
            attempt=tasks.c.attempt + ONE,
            worker=_p("worker"),
            lease_until=_p("lease_until"),
            not_before=null(),
            # Its worker tells of the start.
            started_at=null(),
            ended_at=null(),
            exit_code=null(),
            signal=null(),
            etag=tasks.c.etag + ONE,
            error=null(),
        )
        .returning(tasks.c.task_id, tasks.c.idx, tasks.c.attempt, tasks.c.unstarted, tasks.c.input, tasks.c.task_class)
    )


# Not `IN (SELECT .. LIMIT)` on PostgreSQL: its planner may run the subselect once per row, and with row locks in it
# each run finds other rows. An array is made once. Row locks are not needed: the job is locked.
CLAIM = Prepared(
    _build_claim(tasks.c.key.in_(_next)),
    "worker lease_until at_stage first last least most count",
    postgresql=_build_claim(tasks.c.key == any_(func.array(_next.scalar_subquery()))),
)

_claimable = (
    select(
        stages.c.claim_rank, stages.c.served, stages.c.key, jobs.c.job_id, stages.c.number, stages.c.claim_queue,
        stages.c.ready,
    )
    .join_from(stages, jobs, jobs.c.key == stages.c.job)
    .where(stages.c.ready > ZERO, stages.c.claim_rank <= _p("most_rank"))
    .order_by(stages.c.claim_rank, stages.c.served, stages.c.key)
    .limit(_p("count"))
    .offset(ZERO)
)  # fmt: skip
#: The stages with claimable tasks first to last; by queue once for each queue.
CLAIMABLE = Prepared(_claimable, "most_rank count")
CLAIMABLE_IN = Prepared(_claimable.where(stages.c.claim_queue == _p("queue")), "most_rank queue count")

_some = select(jobs.c.job_id, tasks.c.task_id).select_from(TASKS_OF_JOBS).limit(_p("count")).offset(ZERO)
EXPIRED = Prepared(
    _some.where(RUNNING, tasks.c.lease_until < _p("now")).order_by(tasks.c.lease_until),
    "now count",
)
FIND_DUE = Prepared(_some.where(DUE).order_by(tasks.c.not_before), "now now_too count")
RUNNING_ON = Prepared(
    # In the order of the index of what runs: asked for another order, a planner walks through all tasks there are.
    _some.where(RUNNING, Among(tasks.c.worker, _p("workers"))).order_by(tasks.c.lease_until, tasks.c.key),
    "workers count",
)

#: All of `Chores` in one statement.
CHORES = Prepared(
    select(
        exists(select(ONE).where(RUNNING, tasks.c.lease_until < _p("now"))),
        exists(select(ONE).where(waited_for("at", "at_too"))),
        exists(select(ONE).where(*EXPANDING)),
        exists(select(ONE).where(stages.c.ready > ZERO)),
        exists(select(ONE).select_from(unpublished)),
    ),
    "now at at_too",
)
SHORTEN_LEASES = Prepared(
    update(tasks).where(RUNNING, tasks.c.lease_until > _p("latest")).values(lease_until=_p("lease_until")),
    "lease_until latest",
)
SHORTEN_LAST_LEASES = Prepared(
    # Shown as the time of the next attempt.
    update(tasks)
    .where(DYING, tasks.c.lease_until > _p("latest"))
    .values(lease_until=_p("lease_until"), etag=tasks.c.etag + ONE),
    "lease_until latest",
)
#: A claim that ended without a start has no row: after a fault of its worker the task waits for that time.
_ended_last = func.coalesce(
    select(func.max(attempts.c.ended_at))
    .where(attempts.c.task == tasks.c.key, attempts.c.attempt == tasks.c.attempt, attempts.c.kept == ONE)
    .scalar_subquery(),
    tasks.c.not_before - literal_column(str(WORKER_FAULT_DELAY)),
)


def begun_too_late(now: str) -> ColumnElement[bool]:
    """Select tasks whose wait began at a moment in the future: the clock has been set back."""
    return and_(tasks.c.not_before > _p(now), _ended_last > _p(f"{now}_too"))


_waiting = and_(is_in(tasks.c.state, State.PENDING), tasks.c.by_whom.is_(None), tasks.c.not_before.is_not(None))
SHORTEN_WAITS = Prepared(
    update(tasks).where(_waiting, begun_too_late("now")).values(not_before=_p("at"), etag=tasks.c.etag + ONE),
    "at now now_too",
)
_here = union_all(
    select(tasks.c.worker, tasks.c.losses).where(RUNNING),
    select(tasks.c.worker, tasks.c.losses).where(DYING, tasks.c.lease_until > _p("now")),
).subquery("here")
LOADS = Prepared(
    select(workers.c.worker_id, func.count(), func.max(_here.c.losses))
    .join_from(_here, workers, workers.c.key == _here.c.worker)
    .where(Among(workers.c.worker_id, _p("worker_ids")))
    .group_by(workers.c.worker_id),
    "now worker_ids",
)

_renewed = and_(still_in(tasks.c.state, State.RUNNING), tasks.c.worker == _p("at_worker"))
_NAMED = (tasks.c.key, tasks.c.task_id, tasks.c.attempt, tasks.c.lease_until)
RENEWABLE = Prepared(
    select(*_NAMED).where(_renewed, Among(tasks.c.task_id, _p("task_ids"))),
    "at_worker task_ids",
    postgresql=select(*_NAMED)
    .where(_renewed, Among(tasks.c.task_id, _p("task_ids")))
    .order_by(tasks.c.key)
    # Tasks are locked here without their jobs: waiting for a lock could end in a deadlock.
    .with_for_update(skip_locked=True),
)
RENEW = Prepared(
    update(tasks).where(Among(tasks.c.key, _p("keys")), _renewed).values(lease_until=_p("lease_until")),
    "lease_until keys at_worker",
)


@dataclass(frozen=True, slots=True)
class Chores:
    """Which kinds of work there are that no message announces."""

    #: Leases have run out.
    expired: bool
    #: Retries are due.
    due: bool
    #: Stages lack tasks for some of their items.
    expanding: bool
    #: Tasks wait for a worker.
    ready: bool
    #: Files of attempts that count are not published yet.
    unpublished: bool = False


class Claimable(NamedTuple):
    """A stage with tasks that a worker may claim now."""

    job_id: JobId
    stage: int
    priority: int
    queue: str
    #: How many of its tasks there are to claim.
    ready: int


@dataclass(frozen=True, slots=True)
class Load:
    """The attempts that run on one worker."""

    attempts: int
    #: The highest number of workers that one of these tasks has lost.
    losses: int


class ClaimWrites(TaskWrites):
    """The methods of a transaction about claims and leases."""

    def claim_tasks(
        self,
        job_id: JobId,
        stage: int,
        *,
        spawn: bool,
        count: int,
        worker: WorkerId,
        lease: float,
        losses: range = ANY_LOSSES,
    ) -> list[Claimed]:
        """Claim up to `count` QUEUED tasks of a stage, lowest index first, for a worker (QUEUED -> RUNNING).

        Each gets the next number of a claim and a lease of `lease` seconds. `spawn` claims the spawn task. `losses`
        limits the claim to tasks that have lost that many workers.
        """
        now = self.now()
        first, last = (SPAWN_INDEX, SPAWN_INDEX) if spawn else (0, _LAST_INDEX)
        key = self._locked_entry(job_id).key + stage
        parameters = (
            self._worker_key(worker),
            now + lease,
            key,
            first,
            last,
            losses.start,
            losses.stop - 1,
            count,
        )
        claimed = [
            Claimed(
                TaskId(task_id), index, attempt, attempt - unstarted, decode_object(values) if values else None, kind
            )
            for task_id, index, attempt, unstarted, values, kind in self._session.fetch_rows(CLAIM, parameters)
        ]
        claimed.sort(key=lambda task: task.index)
        return claimed

    def count_loads(self, workers: Collection[WorkerId]) -> dict[WorkerId, Load]:
        """Return the load of each of these workers; a worker without attempts is missing.

        An attempt that lost its claim counts until its worker reports its end or its lease is over.
        """
        rows = self._session.fetch_rows(LOADS, (self.now(), self._session.list_parameter(list(workers))))
        return {WorkerId(worker): Load(count, losses) for worker, count, losses in rows}

    def find_claimable(
        self, queues: Collection[str] | None, *, limit: int, least: int = 0, unsaved: Collection[Job] = ()
    ) -> list[Claimable]:
        """Return stages that have tasks to claim in one of the queues (None: any), first to last.

        `least` is the lowest priority that is wanted. `unsaved` are locked jobs as they are now: they count instead of
        their rows.
        """
        entries = {job.job_id: self._locked_entry(job.job_id) for job in unsaved}
        # At most this many rows are outdated.
        old = sum(len(entry.job.living) for entry in entries.values())
        rows: list[Row] = []
        if queues is None:
            rows = self._session.fetch_rows(CLAIMABLE, (-least, limit + old))
        else:
            for queue in queues:
                rows += self._session.fetch_rows(CLAIMABLE_IN, (-least, queue, limit + old))
        places: dict[int, float] = {}
        if entries:
            places = {row[2]: row[1] for row in rows if row[3] in entries}
            rows = [row for row in rows if row[3] not in entries]
        for job in unsaved:
            first = entries[job.job_id].key
            rows += [
                # A stage that becomes ready now stands behind all others.
                (stage.claim_rank, places.get(first + stage.number, math.inf), first + stage.number, job.job_id,
                 stage.number, stage.claim_queue, stage.claimable)
                for stage in job.living
                if stage.claimable and stage.claim_rank <= -least and (queues is None or stage.claim_queue in queues)
            ]  # fmt: skip
        rows.sort(key=itemgetter(1, 2) if ablated("priority_order") else None)
        return [Claimable(JobId(row[3]), row[4], -row[0], row[5], row[6]) for row in rows[:limit]]

    def move_back(self, job_id: JobId) -> None:
        """Put a locked job behind all others of its priority, in every queue: it has been given its share."""
        self._moved.update(((job_id, stage.number), None) for stage in self._locked_entry(job_id).job.living)

    def renew_leases(self, worker: WorkerId, refs: Collection[AttemptRef], *, lease: float) -> set[AttemptRef]:
        """Extend the leases of attempts on this worker and return those that still run. No lease becomes shorter.

        It waits for no lock: a task that another transaction has locked counts as not running here.
        """
        if not refs:
            return set()
        worker_key = self._worker_key(worker)
        asked = set(refs)
        rows = self._session.fetch_rows(
            RENEWABLE, (worker_key, self._session.list_parameter([ref.task_id for ref in refs]))
        )
        found = [(key, AttemptRef(TaskId(task_id), attempt), until) for key, task_id, attempt, until in rows]
        found = [one for one in found if one[1] in asked]
        wanted = self.now() + lease
        keys = [key for key, _, until in found if until is None or until < wanted]
        if keys:
            self._session.send_rows(RENEW, (wanted, self._session.list_parameter(keys), worker_key))
        return {ref for _, ref, _ in found}

    def find_chores(self) -> Chores:
        """Return which kinds of work there are that no message announces, in one cheap statement."""
        (row,) = self._session.fetch_rows(CHORES, (self.now(), self.now(), self._last_leases_judged_at()))
        return Chores(*map(bool, row))

    def find_expired(self, *, limit: int) -> list[tuple[JobId, TaskId]]:
        """Return RUNNING tasks whose lease has run out."""
        return _as_pairs(self._session.fetch_rows(EXPIRED, (self.now(), limit)))

    def find_due(self, *, limit: int, expire: bool = True) -> list[tuple[JobId, TaskId]]:
        """Return PENDING tasks whose `not_before` has come; without `expire`, none that waits for a lease."""
        return _as_pairs(
            self._session.fetch_rows(FIND_DUE, (self.now(), self._last_leases_judged_at(expire=expire), limit))
        )

    def shorten_leases(self, *, longest: float) -> None:
        """Shorten leases to at most `longest` seconds from now, after the clock has been set back.

        A wait for a retry that began at a moment in the future ends now: how much of it is over cannot be told.
        """
        now = self.now()
        self._session.send_rows(SHORTEN_LEASES, (now + longest, now + longest))
        if not ablated("last_lease_shortening"):
            self._session.send_rows(SHORTEN_LAST_LEASES, (now + longest, now + longest))
        if not ablated("wait_shortening"):
            self._session.send_rows(SHORTEN_WAITS, (now, now, now))

    def running_on(self, workers: Collection[WorkerId], *, limit: int) -> list[tuple[JobId, TaskId]]:
        """Return the tasks that run on these workers."""
        keys = [key for _, key in self._rows_of(FIND_WORKERS, workers)]
        return (
            _as_pairs(self._session.fetch_rows(RUNNING_ON, (self._session.list_parameter(keys), limit))) if keys else []
        )


def _as_pairs(rows: list[Row]) -> list[tuple[JobId, TaskId]]:
    return [(JobId(job_id), TaskId(task_id)) for job_id, task_id in rows]
