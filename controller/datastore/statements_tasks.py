"""Statements of the write path about tasks and attempts, each with the order of its parameters.

Words of states stand literally in them: only then do the partial indexes apply.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, any_, case, exists, func, null, or_, select, union_all, update
from sqlalchemy import bindparam as _p

from echelon.controller.core.states import State
from echelon.controller.datastore.prepared import Among, Prepared
from echelon.controller.datastore.sql import ONE, ZERO, insertion, is_in, still, word
from echelon.controller.datastore.tables import attempts, jobs, stages, tasks, unpublished, workers

INSERT_TASK = insertion(tasks)
INSERT_ATTEMPT = insertion(attempts)

#: What makes a `HeldTask`, in the order of `writes_tasks`.
HELD_COLUMNS = (
    tasks.c.key, tasks.c.task_id, stages.c.job, stages.c.number, tasks.c.idx, tasks.c.task_class, tasks.c.state,
    tasks.c.attempt, tasks.c.failures, tasks.c.losses, tasks.c.worker, tasks.c.started_at, tasks.c.lease_until,
    tasks.c.etag, tasks.c.by_whom,
)  # fmt: skip
HELD = Prepared(
    select(*HELD_COLUMNS)
    .join_from(tasks, stages, stages.c.key == tasks.c.stage)
    .where(Among(tasks.c.task_id, _p("task_ids"))),
    "task_ids",
)
KNOWN_JOBS = Prepared(select(jobs.c.job_id).where(Among(jobs.c.job_id, _p("job_ids"))), "job_ids")
JOB_IDS = Prepared(select(jobs.c.key, jobs.c.job_id).where(Among(jobs.c.key, _p("keys"))), "keys")

SETTLE = Prepared(
    update(tasks)
    .where(
        tasks.c.key == _p("at_key"),
        is_in(tasks.c.state, State.RUNNING),
        tasks.c.attempt == _p("at_attempt"),
        tasks.c.worker == _p("at_worker"),
    )
    .values(
        state=_p("state"),
        failures=tasks.c.failures + _p("failure"),
        losses=tasks.c.losses + _p("loss"),
        # The processes of an attempt that a person has killed may be there until its worker tells, or its lease ends.
        lease_until=case((_p("killed") == ONE, tasks.c.lease_until), else_=null()),
        not_before=_p("not_before"),
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
    "state failure loss killed not_before ended_at exit_code signal error result open again at_key at_attempt"
    " at_worker",
)

_next = (
    select(tasks.c.key)
    .where(is_in(tasks.c.state, State.QUEUED), tasks.c.stage == _p("at_stage"), tasks.c.idx >= _p("first"))
    .where(tasks.c.idx <= _p("last"), tasks.c.losses >= _p("least"), tasks.c.losses <= _p("most"))
    .order_by(tasks.c.idx)
    .limit(_p("count"))
    .offset(ZERO)
)


def _claim(chosen: ColumnElement[bool]) -> Any:
    return (
        update(tasks)
        .where(chosen, still(tasks.c.state, State.QUEUED))
        .values(
            state=word(State.RUNNING),
            attempt=tasks.c.attempt + ONE,
            worker=_p("worker"),
            lease_until=_p("lease_until"),
            not_before=null(),
            started_at=_p("started_at"),
            ended_at=null(),
            exit_code=null(),
            signal=null(),
            etag=tasks.c.etag + ONE,
            error=null(),
        )
        .returning(tasks.c.task_id, tasks.c.idx, tasks.c.attempt, tasks.c.input, tasks.c.task_class)
    )


# Not `IN (SELECT .. LIMIT)` on PostgreSQL: its planner may run the subselect once per row, and with row locks in it
# each run finds other rows. An array is made once. Row locks are not needed: who claims holds the lock of the job.
CLAIM = Prepared(
    _claim(tasks.c.key.in_(_next)),
    "worker lease_until started_at at_stage first last least most count",
    postgresql=_claim(tasks.c.key == any_(func.array(_next.scalar_subquery()))),
)

_open_again = {"not_before": null(), "ended_at": null(), "etag": tasks.c.etag + ONE}
_in_range = and_(tasks.c.key >= _p("first_key"), tasks.c.key < _p("end_key"))

#: Keeps the lease of what has run before: see `PUT_OFF`.
RELEASE = Prepared(
    update(tasks)
    .where(_in_range, is_in(tasks.c.state, State.PENDING), tasks.c.by_whom.is_(None))
    .values(state=word(State.QUEUED), **_open_again),
    "first_key end_key",
)


def _waited_for(now: str, too: str) -> ColumnElement[bool]:
    """Its time has come, no person holds it back, and nothing of the attempt before can be there any more.

    `too` is the moment by which leases are judged: before all of them, nothing counts but the worker's word.
    """
    return and_(
        is_in(tasks.c.state, State.PENDING),
        tasks.c.by_whom.is_(None),
        tasks.c.not_before.is_not(None),
        tasks.c.not_before <= _p(now),
        or_(tasks.c.lease_until.is_(None), tasks.c.lease_until <= _p(too)),
    )


_due = _waited_for("now", "now_too")
DUE_NOW = Prepared(
    select(*HELD_COLUMNS)
    .join_from(tasks, stages, stages.c.key == tasks.c.stage)
    .where(Among(tasks.c.task_id, _p("task_ids")), _due),
    "task_ids now now_too",
)
RELEASE_ONE = Prepared(
    update(tasks)
    .where(tasks.c.key == _p("at_key"), is_in(tasks.c.state, State.PENDING))
    .values(state=word(State.QUEUED), lease_until=null(), **_open_again),
    "at_key",
)

#: The (job, stage) pairs with something to claim, oldest first; by queue once for each queue.
CLAIMABLE = Prepared(
    select(stages.c.key, jobs.c.job_id, stages.c.number)
    .join_from(stages, jobs, jobs.c.key == stages.c.job)
    .where(stages.c.ready > ZERO)
    .order_by(stages.c.key)
    .limit(_p("count"))
    .offset(ZERO),
    "count",
)
CLAIMABLE_IN = Prepared(
    select(stages.c.key, jobs.c.job_id, stages.c.number)
    .join_from(stages, jobs, jobs.c.key == stages.c.job)
    .where(stages.c.ready > ZERO, stages.c.claim_queue == _p("queue"))
    .order_by(stages.c.key)
    .limit(_p("count"))
    .offset(ZERO),
    "queue count",
)

EXPIRED = Prepared(
    select(jobs.c.job_id, tasks.c.task_id)
    .select_from(tasks)
    .join(stages, stages.c.key == tasks.c.stage)
    .join(jobs, jobs.c.key == stages.c.job)
    .where(is_in(tasks.c.state, State.RUNNING), tasks.c.lease_until < _p("now"))
    .order_by(tasks.c.lease_until)
    .limit(_p("count"))
    .offset(ZERO),
    "now count",
)
DUE = Prepared(
    select(jobs.c.job_id, tasks.c.task_id)
    .select_from(tasks)
    .join(stages, stages.c.key == tasks.c.stage)
    .join(jobs, jobs.c.key == stages.c.job)
    .where(_due)
    .order_by(tasks.c.not_before)
    .limit(_p("count"))
    .offset(ZERO),
    "now now_too count",
)
RUNNING_ON = Prepared(
    select(jobs.c.job_id, tasks.c.task_id)
    .select_from(tasks)
    .join(stages, stages.c.key == tasks.c.stage)
    .join(jobs, jobs.c.key == stages.c.job)
    .where(is_in(tasks.c.state, State.RUNNING), Among(tasks.c.worker, _p("workers")))
    # In the order of the index of what runs: asked for another order, a planner walks through all tasks there are.
    .order_by(tasks.c.lease_until, tasks.c.key)
    .limit(_p("count"))
    .offset(ZERO),
    "workers count",
)

#: Whether there is anything to do that nobody reports, all in one look: see `records.Chores`.
CHORES = Prepared(
    select(
        exists(select(ONE).where(is_in(tasks.c.state, State.RUNNING), tasks.c.lease_until < _p("now"))),
        exists(select(ONE).where(_waited_for("at", "at_too"))),
        exists(
            select(ONE).where(
                stages.c.unfilled > ZERO, is_in(stages.c.state, State.RUNNING), stages.c.items_path.is_not(None)
            )
        ),
        exists(select(ONE).where(stages.c.ready > ZERO)),
        exists(select(ONE).select_from(unpublished)),
    ),
    "now at at_too",
)
#: It runs no more for the store, but its processes may be there: as the index of such tasks has it.
_dying = and_(tasks.c.state != word(State.RUNNING), tasks.c.lease_until.is_not(None))
SHORTEN_LEASES = Prepared(
    update(tasks)
    .where(is_in(tasks.c.state, State.RUNNING), tasks.c.lease_until > _p("latest"))
    .values(lease_until=_p("lease_until")),
    "lease_until latest",
)
SHORTEN_LAST_LEASES = Prepared(
    # Shown as the time of the next attempt.
    update(tasks)
    .where(_dying, tasks.c.lease_until > _p("latest"))
    .values(lease_until=_p("lease_until"), etag=tasks.c.etag + ONE),
    "lease_until latest",
)
_ended_last = (
    select(func.max(attempts.c.ended_at))
    .where(attempts.c.task == tasks.c.key, attempts.c.attempt == tasks.c.attempt, attempts.c.kept == ONE)
    .scalar_subquery()
)


def begun_too_late(now: str) -> ColumnElement[bool]:
    """Tell whether a task waits for a time since a moment that is still to come: the clock has been set back."""
    return and_(tasks.c.not_before > _p(now), _ended_last > _p(f"{now}_too"))


def waits_anew(now: str) -> ColumnElement[float]:
    """Return until when it waits if all of its wait begins now."""
    return _p(now) + tasks.c.not_before - _ended_last


_waiting = and_(is_in(tasks.c.state, State.PENDING), tasks.c.by_whom.is_(None), tasks.c.not_before.is_not(None))
SHORTEN_WAITS = Prepared(
    update(tasks)
    .where(_waiting, begun_too_late("now"))
    .values(not_before=waits_anew("since"), etag=tasks.c.etag + ONE),
    "since now now_too",
)
#: So that a wait which was begun anew is not shortened again, whoever else sees that the clock was set.
END_IN_TIME = Prepared(
    update(attempts)
    .where(
        attempts.c.kept == ONE,
        attempts.c.ended_at > _p("now"),
        attempts.c.task.in_(select(tasks.c.key).where(_waiting, tasks.c.not_before > _p("now_too"))),
    )
    .values(ended_at=_p("ended_at")),
    "ended_at now now_too",
)
_here = union_all(
    select(tasks.c.worker, tasks.c.losses).where(is_in(tasks.c.state, State.RUNNING)),
    select(tasks.c.worker, tasks.c.losses).where(_dying, tasks.c.lease_until > _p("now")),
).subquery("here")
LOADS = Prepared(
    select(workers.c.worker_id, func.count(), func.max(_here.c.losses))
    .join_from(_here, workers, workers.c.key == _here.c.worker)
    .where(Among(workers.c.worker_id, _p("worker_ids")))
    .group_by(workers.c.worker_id),
    "now worker_ids",
)

_renewed = and_(still(tasks.c.state, State.RUNNING), tasks.c.worker == _p("at_worker"))
_NAMED = (tasks.c.key, tasks.c.task_id, tasks.c.attempt, tasks.c.lease_until)
RENEWABLE = Prepared(
    select(*_NAMED).where(_renewed, Among(tasks.c.task_id, _p("task_ids"))),
    "at_worker task_ids",
    postgresql=select(*_NAMED)
    .where(_renewed, Among(tasks.c.task_id, _p("task_ids")))
    .order_by(tasks.c.key)
    # Tasks are locked here without their jobs: whoever waited could wait for somebody who waits for us.
    .with_for_update(skip_locked=True),
)
RENEW = Prepared(
    update(tasks).where(Among(tasks.c.key, _p("keys")), _renewed).values(lease_until=_p("lease_until")),
    "lease_until keys at_worker",
)
