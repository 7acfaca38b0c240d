"""Datastores to test with, and jobs brought to the states that tests begin from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from echelon.controller.core.effects import (
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
from echelon.controller.core.events import Event, SpawnTaskMoved, Submitted, TasksCreated, TasksMoved
from echelon.controller.core.machine import step
from echelon.controller.core.model import Job, OnError, Source, Stage, Tally
from echelon.controller.core.states import State
from echelon.controller.datastore.open import migrate_datastore, open_datastore
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import SPAWN_INDEX, Claimed, NewJob, NewTask, Settlement
from echelon.controller.datastore.transaction import Transaction
from echelon.shared.ids import JobId, TaskId, WorkerId, new_job_id, new_task_ids, new_worker_id
from echelon.shared.messages import JsonValue, Outcome, WorkerCard
from tests.contract.servers import fresh_database

_TEMPLATE = "echelon_template"

WORKER = new_worker_id()
OTHER = new_worker_id()


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: str) -> str:
    """Give the name of a migrated, empty database to copy."""
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {_TEMPLATE}")
        connection.execute(f"CREATE DATABASE {_TEMPLATE}")
    migrate_datastore(f"{postgresql_server.partition('?')[0].rsplit('/', 1)[0]}/{_TEMPLATE}")
    return _TEMPLATE


@pytest.fixture
def postgresql_url(postgresql_server: str, postgresql_template: str) -> Iterator[str]:
    """Give the URL of an empty datastore on PostgreSQL."""
    with fresh_database(postgresql_server, template=postgresql_template) as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of an empty datastore of each product."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/echelon.db"
    return str(request.getfixturevalue("postgresql_url"))


@pytest.fixture
def store(store_url: str) -> Iterator[Datastore]:
    """Give an empty datastore of each product."""
    datastore = open_datastore(store_url)
    yield datastore
    datastore.close()


@pytest.fixture
def postgresql_store(postgresql_url: str) -> Iterator[Datastore]:
    """Give an empty datastore on PostgreSQL."""
    datastore = open_datastore(postgresql_url)
    yield datastore
    datastore.close()


def plain_job(
    job_type: str = "plain",
    *,
    stages: int = 1,
    queue: str = "default",
    values: dict[str, JsonValue] | None = None,
    sealed: dict[str, str] | None = None,
) -> NewJob:
    """Return a job of stages with one task each."""
    made = tuple(
        Stage(
            number, number, f"stage {number}", Source.FIXED, OnError.FAIL_JOB, queue,
            tally=Tally(pending=1), expected=1,
        )
        for number in range(stages)
    )  # fmt: skip
    return NewJob(
        job=Job(new_job_id(), State.PENDING, made),
        type=job_type,
        revision="r1",
        input=values or {},
        sealed=sealed or {},
        classes=[("work", None)] * stages,
        tasks=[[NewTask(new_task_ids(1)[0], 0, State.PENDING, "work", queue)] for _ in range(stages)],
    )


def spawning_job(
    *, max_parallel: int | None = None, later_stages: int = 0, on_error: OnError = OnError.FAIL_JOB
) -> NewJob:
    """Return a job whose first stage has a spawn task."""
    rest = plain_job(stages=later_stages + 1)
    first = Stage(
        0, 0, "fan-out", Source.SPAWN, on_error, max_parallel=max_parallel, spawn=State.PENDING,
        spawn_queue="default",
    )  # fmt: skip
    spawn_task = NewTask(new_task_ids(1)[0], SPAWN_INDEX, State.PENDING, "list", "default")
    return NewJob(
        job=Job(rest.job.job_id, State.PENDING, (first, *rest.job.stages[1:])),
        type="fan_out",
        revision="r1",
        input={},
        sealed={},
        classes=[("work", "list"), *rest.classes[1:]],
        tasks=[[spawn_task], *rest.tasks[1:]],
    )


def stepped(tx: Transaction, job_id: JobId, event: Event, *, carry_out: bool = True) -> Job:
    """Lock a job, let the machine take a step, carry out what follows and save."""
    before = tx.lock_jobs([job_id])[job_id]
    after, effects = step(before, event)
    if carry_out:
        _carry_out(tx, job_id, effects)
        for stage in list_reopened_stages(effects):
            waiting, spawn = tx.wait_for_exit(job_id, stage)
            after, _ = step(after, TasksMoved(stage, {(State.QUEUED, State.PENDING): waiting}))
            if spawn:
                after, _ = step(after, SpawnTaskMoved(stage, State.PENDING))
    tx.save_job(before, after)
    return after


def _carry_out(tx: Transaction, job_id: JobId, effects: Sequence[Effect]) -> None:
    for effect in effects:
        match effect:
            case ReleaseTasks(stage):
                tx.release_tasks(job_id, stage, spawn=False)
            case ReleaseSpawnTask(stage):
                tx.release_tasks(job_id, stage, spawn=True)
            case WithdrawTasks(stage, running, _, by):
                tx.withdraw_tasks(job_id, stage, running=running, by=by)
            case RecallTasks(stage):
                tx.list_given(job_id, stage, everything=True)
            case SkipTasks(stage, by):
                tx.skip_tasks(job_id, stage, by=by)
            case ReopenTasks(stage, target, sources, spawn, spans):
                tx.reopen_tasks(job_id, stage, target=target, sources=sources, spawn=spawn, spans=spans)
            case RestoreTasks(stage, target):
                tx.restore_tasks(job_id, stage, target=target)
            case Remember(kind, stage_number, detail):
                tx.record_event(job_id, kind, stage=stage_number, detail=detail)


def submitted(store: Datastore, new: NewJob) -> JobId:
    """Insert and start a job."""
    with store.write() as tx:
        tx.insert_job(new)
        stepped(tx, new.job.job_id, Submitted())
    return new.job.job_id


def spawn_started(store: Datastore, *, expected: int | None = None, **shape: Any) -> JobId:
    """Start a job with a spawn task; with `expected` the spawn task has completed with so many items."""
    job_id = submitted(store, spawning_job(**shape))
    if expected is not None:
        with store.write() as tx:
            tx.lock_jobs([job_id])
            (claimed,) = tx.claim_tasks(job_id, 0, spawn=True, count=1, worker=new_worker_id(), lease=15.0)
            stepped(tx, job_id, SpawnTaskMoved(0, State.RUNNING))
            (held,) = tx.load_tasks([claimed.task_id])
            tx.settle_attempts([Settlement(held, State.COMPLETED, Outcome.COMPLETED, exit_code=0)])
            tx.set_spawned(job_id, 0, "items")
            stepped(tx, job_id, SpawnTaskMoved(0, State.COMPLETED, expected))
    return job_id


def fan_out(store: Datastore, count: int, **shape: Any) -> JobId:
    """Start a job whose spawn task has made `count` tasks, all of them QUEUED."""
    job_id = spawn_started(store, expected=count, **shape)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tasks = [
            NewTask(task_id, index, State.QUEUED, "work", "default", {"n": index})
            for index, task_id in enumerate(new_task_ids(count))
        ]
        tx.insert_tasks(job_id, 0, tasks)
        tx.set_expanded(job_id, 0, created=count, offset=count)
        stepped(tx, job_id, TasksCreated(0, queued=count))
    return job_id


def claim(
    tx: Transaction, job_id: JobId, count: int = 10, *, worker: WorkerId = WORKER, lease: float = 15.0
) -> list[Claimed]:
    """Claim tasks of stage 0 and let the machine know."""
    tx.lock_jobs([job_id])
    claimed = tx.claim_tasks(job_id, 0, spawn=False, count=count, worker=worker, lease=lease)
    stepped(tx, job_id, TasksMoved(0, {(State.QUEUED, State.RUNNING): len(claimed)}))
    return claimed


def in_line(
    tx: Transaction, queues: Collection[str] | None, *, limit: int, unsaved: Collection[Job] = ()
) -> list[tuple[JobId, int]]:
    """Return the (job, stage) pairs with tasks to claim first to last."""
    return [(one.job_id, one.stage) for one in tx.find_claimable(queues, limit=limit, unsaved=unsaved)]


def start(tx: Transaction, job_id: JobId, *claimed: Claimed) -> None:
    """Note that claimed tasks of stage 0 have started, and let the machine know."""
    tx.lock_jobs([job_id])
    tx.mark_started([(task, tx.now()) for task in tx.load_tasks([one.task_id for one in claimed])])
    stepped(tx, job_id, TasksMoved(0, {}, started=len(claimed)))


def settle(
    tx: Transaction, job_id: JobId, task_ids: Sequence[TaskId], state: State = State.COMPLETED, **facts: Any
) -> Job:
    """Settle tasks of stage 0 and let the machine know."""
    outcome = facts.pop("outcome", Outcome.COMPLETED if state is State.COMPLETED else Outcome.FAILED)
    tx.lock_jobs([job_id])
    tasks = tx.load_tasks(task_ids)
    tx.settle_attempts([Settlement(task, state, outcome, started_at=tx.now(), **facts) for task in tasks])
    started = sum(task.started for task in tasks)
    return stepped(tx, job_id, TasksMoved(0, {(State.RUNNING, state): len(task_ids)}, started=-started))


def card(name: str, *, draining: bool = False) -> WorkerCard:
    """Return what a worker says of itself."""
    return WorkerCard(
        name=name, host="h", pid=1, version="1", slots={"default": 4, "*": 1}, draining=draining, containment="cgroup"
    )
