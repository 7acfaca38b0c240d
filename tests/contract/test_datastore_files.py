"""The suite that every adapter of `Datastore` passes: which attempts' files are still to be published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from msgspec import structs
from sqlalchemy import create_engine

from echelon.controller.core.events import Again, RetryRequested, SpawnTaskMoved, TasksMoved
from echelon.controller.core.states import State
from echelon.controller.datastore import migrate as migrating
from echelon.controller.datastore.files import Unpublished
from echelon.controller.datastore.open import migrate_datastore, open_datastore
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import SPAWN_INDEX, Settlement
from echelon.shared.errors import StoreUnavailable
from echelon.shared.ids import JobId
from echelon.shared.messages import Outcome
from tests.contract.stores import (
    WORKER,
    claim,
    fan_out,
    plain_job,
    settle,
    spawn_started,
    stepped,
    submitted,
)


def unpublished(
    store: Datastore, job_id: JobId | None = None, *, after: int = -1, limit: int = 100
) -> list[Unpublished]:
    with store.read() as reader:
        return reader.find_unpublished(job_id, after=after, limit=limit)


def completed(store: Datastore, count: int = 1, *, tasks: int = 3) -> JobId:
    """Return a fan-out of which so many tasks have completed in folders of their own."""
    job_id = fan_out(store, tasks, later_stages=1)
    with store.write() as tx:
        claimed = claim(tx, job_id, count)
    with store.write() as tx:
        settle(tx, job_id, [task.task_id for task in claimed], private=True)
    return job_id


def test_what_has_completed_in_a_folder_of_its_own_is_told_until_it_is_published(store: Datastore) -> None:
    job_id, other = completed(store, 2), completed(store, 1)
    told = unpublished(store, job_id)

    assert [(one.job_id, one.stage, one.index, one.attempt) for one in told] == [(job_id, 0, 0, 1), (job_id, 0, 1, 1)]
    assert unpublished(store) == told + unpublished(store, other)
    with store.write() as tx:
        assert tx.find_chores().unpublished
        tx.lock_jobs([job_id, other])
        assert tx.mark_published(told) == told
    with store.write() as tx:
        tx.lock_jobs([job_id])
        assert tx.mark_published(told) == []
        assert tx.find_chores().unpublished
        tx.lock_jobs([other])
        tx.mark_published(unpublished(store, other))
        assert not tx.find_chores().unpublished
    assert unpublished(store) == []


def test_they_come_in_pages(store: Datastore) -> None:
    told = unpublished(store, completed(store, 3))

    assert unpublished(store, limit=2) == told[:2]
    assert unpublished(store, after=told[1].key, limit=2) == told[2:]
    assert unpublished(store, told[0].job_id, after=told[0].key) == told[1:]
    assert unpublished(store, told[0].job_id, after=told[2].key) == []


def test_nothing_is_told_of_a_commit_that_failed_nor_of_tasks_in_the_workspace(store: Datastore) -> None:
    job_id = fan_out(store, 2)
    with store.write() as tx:
        first, second = claim(tx, job_id, 2)
    with pytest.raises(StoreUnavailable), store.write() as tx:
        settle(tx, job_id, [first.task_id], private=True)
        raise StoreUnavailable("refused")
    with store.write() as tx:
        settle(tx, job_id, [second.task_id])
        assert not tx.find_chores().unpublished

    assert unpublished(store) == []


def again(store: Datastore, job_id: JobId, state: State, **facts: bool) -> None:
    """Repeat the first task of a job."""
    with store.write() as tx:
        stepped(tx, job_id, RetryRequested((Again(0, {State.COMPLETED: 1}, spans=((0, 0),)),), whole=False))
        settle(tx, job_id, [task.task_id for task in claim(tx, job_id, 1)], state, **facts)


def test_of_a_task_that_is_repeated_one_attempt_is_told_with_those_that_counted_before_it(store: Datastore) -> None:
    job_id = completed(store, 2, tasks=2)
    first, second = unpublished(store, job_id)
    again(store, job_id, State.FAILED)
    assert unpublished(store, job_id) == [first, second]
    with store.write() as tx:
        stepped(tx, job_id, RetryRequested((Again(0, {State.FAILED: 1}, spans=((0, 0),)),), whole=False))
        settle(tx, job_id, [task.task_id for task in claim(tx, job_id, 1)], private=True)

    told = unpublished(store, job_id)

    assert told == [replace(first, attempt=3, before=(1,)), second]
    with store.write() as tx:
        tx.lock_jobs([job_id])
        assert tx.mark_published([first, second]) == [second]
        assert tx.lacks_files(job_id, 1)
        assert tx.mark_published(told) == told[:1]
        assert not tx.lacks_files(job_id, 1)


def test_many_tasks_are_marked_again_at_once(store: Datastore) -> None:
    job_id = completed(store, 3)
    with store.write() as tx:
        stepped(tx, job_id, RetryRequested((Again(0, {State.COMPLETED: 3}),), whole=False))
        settle(tx, job_id, [task.task_id for task in claim(tx, job_id, 3)], private=True)

    assert [(one.attempt, one.before) for one in unpublished(store, job_id)] == [(2, (1,))] * 3


def test_a_stage_lacks_the_files_of_those_in_front_of_it_and_not_those_of_its_own(store: Datastore) -> None:
    job_id = completed(store, 1)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        assert not tx.lacks_files(job_id, 0)
        assert tx.lacks_files(job_id, 1)
        tx.mark_published(unpublished(store, job_id))
        assert not tx.lacks_files(job_id, 1)


def test_a_stage_lacks_the_files_of_its_spawn_task_from_the_transaction_that_settles_it(store: Datastore) -> None:
    job_id = spawn_started(store)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        (task,) = tx.claim_tasks(job_id, 0, spawn=True, count=1, worker=WORKER, lease=15.0)
        stepped(tx, job_id, SpawnTaskMoved(0, State.RUNNING))
        tx.settle_attempts(
            [
                Settlement(held, State.COMPLETED, Outcome.COMPLETED, private=True)
                for held in tx.load_tasks([task.task_id])
            ]
        )
        stepped(tx, job_id, SpawnTaskMoved(0, State.COMPLETED, 2))
        assert tx.lacks_files(job_id, 0)

    assert [(one.stage, one.index) for one in unpublished(store)] == [(0, SPAWN_INDEX)]


def test_stages_side_by_side_do_not_wait_for_each_others_files(store: Datastore) -> None:
    new = plain_job(stages=2)
    stages = tuple(structs.replace(stage, order=0) for stage in new.job.stages)
    job_id = submitted(store, replace(new, job=structs.replace(new.job, stages=stages)))
    with store.write() as tx:
        tx.lock_jobs([job_id])
        (task,) = tx.claim_tasks(job_id, 0, spawn=False, count=1, worker=WORKER, lease=15.0)
        stepped(tx, job_id, TasksMoved(0, {(State.QUEUED, State.RUNNING): 1}))
        settle(tx, job_id, [task.task_id], private=True)
        assert not tx.lacks_files(job_id, 1)


def test_a_deleted_job_has_nothing_to_publish(store: Datastore) -> None:
    job_id, other = completed(store, 1), completed(store, 1)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.delete_job(job_id)

    assert [one.job_id for one in unpublished(store)] == [other]
    assert unpublished(store, job_id) == []


def test_a_store_of_the_first_schema_gets_a_place_for_the_marks(store_url: str) -> None:
    engine = create_engine(store_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrating.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()

    assert migrate_datastore(store_url) == migrating.HEAD
    store = open_datastore(store_url)
    job_id = fan_out(store, 2)
    assert unpublished(store) == []
    with store.write() as tx:
        settle(tx, job_id, [task.task_id for task in claim(tx, job_id, 1)], private=True)
    assert [one.job_id for one in unpublished(store)] == [job_id]
    store.close()
