"""Statements of the write path about jobs, stages, events and workers, each with the order of its parameters."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Update,
    and_,
    any_,
    case,
    delete,
    func,
    literal_column,
    null,
    or_,
    select,
    union,
    update,
)
from sqlalchemy import bindparam as _p
from sqlalchemy.dialects import postgresql, sqlite

from echelon.controller.core.states import State
from echelon.controller.datastore.prepared import Among, Prepared
from echelon.controller.datastore.rows import STAGE_COLUMNS
from echelon.controller.datastore.sql import ONE, ZERO, insertion, is_in
from echelon.controller.datastore.tables import (
    attempts,
    compositions,
    definitions,
    events,
    job_inputs,
    jobs,
    stages,
    tasks,
    workers,
)

INSERT_JOB = insertion(jobs)
INSERT_INPUT = insertion(job_inputs)
INSERT_STAGE = insertion(stages)
INSERT_COMPOSITION = insertion(compositions)

SUBMITTED_WITH = Prepared(
    select(jobs.c.job_id, job_inputs.c.request_hash)
    .join_from(job_inputs, jobs, jobs.c.key == job_inputs.c.key)
    .where(job_inputs.c.idempotency_key == _p("idempotency_key")),
    "idempotency_key",
)

_locked = select(
    jobs.c.job_id, jobs.c.key, jobs.c.etag, jobs.c.stage_count, jobs.c.state, jobs.c.error, jobs.c.by_whom
).where(Among(jobs.c.job_id, _p("job_ids")))
LOCK_JOBS = Prepared(_locked, "job_ids", postgresql=_locked.order_by(jobs.c.key).with_for_update())
LOCK_FREE_JOBS = Prepared(_locked, "job_ids", postgresql=_locked.order_by(jobs.c.key).with_for_update(skip_locked=True))
_stages_of_job = and_(stages.c.key >= _p("first_key"), stages.c.key < _p("end_key"))
LOAD_STAGES = Prepared(select(*STAGE_COLUMNS).where(_stages_of_job).order_by(stages.c.key), "first_key end_key")

SAVE_JOB = Prepared(
    update(jobs)
    .where(jobs.c.key == _p("at_key"), jobs.c.etag == _p("at_etag"))
    .values(
        state=_p("state"),
        error=_p("error"),
        etag=jobs.c.etag + ONE,
        started_at=func.coalesce(jobs.c.started_at, _p("started")),
        ended_at=case((jobs.c.state == _p("same"), jobs.c.ended_at), else_=_p("ended")),
        by_whom=_p("by_whom"),
        paused_at=case((_p("paused") == ONE, func.coalesce(jobs.c.paused_at, _p("since"))), else_=null()),
    ),
    "state error started same ended by_whom paused since at_key at_etag",
)
ERASE_SECRETS = Prepared(
    update(job_inputs)
    .where(job_inputs.c.key == _p("at_key"), or_(job_inputs.c.sealed.is_not(None), job_inputs.c.seal.is_not(None)))
    .values(sealed=null(), seal=null(), seal_number=job_inputs.c.seal_number + ONE),
    "at_key",
)
READ_SECRET_NAMES = Prepared(
    select(job_inputs.c.secret, jobs.c.type)
    .join_from(job_inputs, jobs, jobs.c.key == job_inputs.c.key)
    .where(job_inputs.c.key == _p("at_key")),
    "at_key",
)
READ_INPUT = Prepared(
    select(job_inputs.c.input, job_inputs.c.sealed, job_inputs.c.seal, job_inputs.c.seal_number).where(
        job_inputs.c.key == _p("at_key")
    ),
    "at_key",
)
REPLACE_INPUT = Prepared(
    update(job_inputs)
    .where(job_inputs.c.key == _p("at_key"))
    .values(
        input=_p("input"),
        secret=_p("secret"),
        sealed=_p("sealed"),
        seal=_p("seal"),
        seal_number=job_inputs.c.seal_number + ONE,
        words=_p("words"),
    ),
    "input secret sealed seal words at_key",
)

#: Takes what `rows.stage_counters` returns, then the times, then the key.
SAVE_STAGE = Prepared(
    update(stages)
    .where(stages.c.key == _p("at_key"))
    .values(
        state=_p("state"),
        pending=_p("pending"),
        queued=_p("queued"),
        running=_p("running"),
        completed=_p("completed"),
        failed=_p("failed"),
        cancelled=_p("cancelled"),
        skipped=_p("skipped"),
        spawn=_p("spawn"),
        expected=_p("expected"),
        error=_p("error"),
        ready=_p("ready"),
        claim_queue=_p("claim_queue"),
        unfilled=_p("unfilled"),
        by_whom=_p("by_whom"),
        failing=_p("failing"),
        blocked=_p("blocked"),
        spawn_hand=_p("spawn_hand"),
        added=_p("added"),
        held=_p("held"),
        withdrawn=_p("withdrawn"),
        etag=stages.c.etag + ONE,
        started_at=func.coalesce(stages.c.started_at, _p("started")),
        ended_at=case((stages.c.state == _p("same"), stages.c.ended_at), else_=_p("ended")),
        paused_at=case((_p("paused") == ONE, func.coalesce(stages.c.paused_at, _p("since"))), else_=null()),
    ),
    "state pending queued running completed failed cancelled skipped spawn expected error ready claim_queue unfilled"
    " by_whom failing blocked spawn_hand added held withdrawn started same ended paused since at_key",
)

INSERT_EVENT = insertion(events)
LAST_EVENT = Prepared(select(func.max(events.c.number)).where(events.c.job == _p("job")), "job")
LAST_ATTEMPT = Prepared(select(func.max(attempts.c.number)).where(attempts.c.job == _p("job")), "job")

DELETE_TASKS = Prepared(
    delete(tasks).where(tasks.c.key >= _p("first_key"), tasks.c.key < _p("end_key")), "first_key end_key"
)
DELETE_ATTEMPTS = Prepared(delete(attempts).where(attempts.c.job == _p("job")), "job")
DELETE_EVENTS = Prepared(delete(events).where(events.c.job == _p("job")), "job")
DELETE_STAGES = Prepared(delete(stages).where(_stages_of_job), "first_key end_key")
DELETE_INPUT = Prepared(delete(job_inputs).where(job_inputs.c.key == _p("at_key")), "at_key")
DELETE_COMPOSITION = Prepared(delete(compositions).where(compositions.c.key == _p("at_key")), "at_key")
DELETE_JOB = Prepared(delete(jobs).where(jobs.c.key == _p("at_key")), "at_key")

SAVE_DEFINITION = Prepared(
    sqlite.insert(definitions).inline().on_conflict_do_nothing(),
    "revision document created_at",
    postgresql=postgresql.insert(definitions).inline().on_conflict_do_nothing(),
)

SET_SPAWNED = Prepared(
    update(stages)
    .where(stages.c.key == _p("at_key"))
    .values(items_path=_p("items_path"), items_created=ZERO, items_offset=ZERO),
    "items_path at_key",
)
EXPANSIONS = Prepared(
    select(
        jobs.c.job_id, stages.c.number, stages.c.items_path, stages.c.items_created,
        (stages.c.expected - stages.c.added).label("items"), stages.c.items_offset,
    )
    .join_from(stages, jobs, jobs.c.key == stages.c.job)
    .where(stages.c.unfilled > ZERO, is_in(stages.c.state, State.RUNNING), stages.c.items_path.is_not(None))
    .order_by(stages.c.key)
    .limit(_p("count")).offset(ZERO),
    "count",
)  # fmt: skip
SET_EXPANDED = Prepared(
    update(stages)
    .where(stages.c.key == _p("at_key"))
    .values(items_created=_p("items_created"), items_offset=_p("items_offset")),
    "items_created items_offset at_key",
)

#: In `workers.gone`: said goodbye or known to be dead, for good. (1: not heard of for long, may come back.)
FAREWELL: ColumnClause[int] = literal_column("2")

FIND_WORKER = Prepared(select(workers.c.key).where(workers.c.worker_id == _p("worker_id")), "worker_id")
FIND_WORKERS = Prepared(
    select(workers.c.worker_id, workers.c.key).where(Among(workers.c.worker_id, _p("worker_ids"))), "worker_ids"
)
NAME_WORKERS = Prepared(select(workers.c.worker_id, workers.c.key).where(Among(workers.c.key, _p("keys"))), "keys")
INSERT_WORKER = Prepared(
    sqlite.insert(workers).inline().values(worker_id=_p("worker_id"), gone=ZERO).on_conflict_do_nothing(),
    "worker_id",
    postgresql=postgresql.insert(workers)
    .inline()
    .values(worker_id=_p("worker_id"), gone=ZERO)
    .on_conflict_do_nothing(),
)


def _greet(greatest: Callable[..., ColumnElement[float]]) -> Update:
    return (
        update(workers)
        .where(workers.c.key == _p("at_key"))
        .values(
            name=_p("name"),
            host=_p("host"),
            version=_p("version"),
            slots=_p("slots"),
            draining=_p("draining"),
            running=_p("running"),
            last_seen_at=_p("last_seen_at"),
            as_of=greatest(func.coalesce(workers.c.as_of, ZERO), _p("as_of")),
            gone=case((workers.c.gone == FAREWELL, FAREWELL), else_=ZERO),
        )
    )


GREET = Prepared(
    _greet(func.max),
    "name host version slots draining running last_seen_at as_of at_key",
    postgresql=_greet(func.greatest),
)
_demands = select(workers.c.worker_id, workers.c.key, workers.c.demand, workers.c.told_at)
_told = and_(workers.c.gone == ZERO, workers.c.told_at > _p("told_after"))
#: One that was silent for long may come back.
_named = and_(workers.c.gone != FAREWELL, Among(workers.c.worker_id, _p("worker_ids")))
DEMANDS = Prepared(
    # Not `OR`: SQLite would walk through all workers there ever were.
    union(_demands.where(_told), _demands.where(_named)).order_by("key"),
    "told_after worker_ids",
    postgresql=_demands.where(or_(_told, _named)).order_by(workers.c.key).with_for_update(),
)
FREE_DEMANDS = Prepared(
    _demands.where(_told).order_by(workers.c.key),
    "told_after",
    postgresql=_demands.where(_told).order_by(workers.c.key).with_for_update(skip_locked=True),
)
SAVE_DEMAND = Prepared(
    update(workers).where(workers.c.key == _p("at_key")).values(demand=_p("demand"), told_at=_p("told_at")),
    "demand told_at at_key",
)
HEARD = Prepared(
    select(workers.c.worker_id, workers.c.as_of).where(
        Among(workers.c.worker_id, _p("worker_ids")),
        workers.c.gone == ZERO,
        workers.c.last_seen_at >= _p("since"),
        # One that was heard at a moment still to come was heard before the clock was set back.
        workers.c.last_seen_at <= _p("until"),
    ),
    "worker_ids since until",
)
BID_FAREWELL = Prepared(
    update(workers).where(Among(workers.c.worker_id, _p("worker_ids"))).values(gone=FAREWELL), "worker_ids"
)
_silent = and_(workers.c.gone == ZERO, workers.c.last_seen_at < _p("before"))
_silent_and_free = select(workers.c.key).where(_silent).with_for_update(skip_locked=True)
PRUNE_WORKERS = Prepared(
    update(workers).where(_silent).values(gone=ONE),
    "before",
    postgresql=update(workers)
    .where(workers.c.key == any_(func.array(_silent_and_free.scalar_subquery())))
    .values(gone=ONE),
)
