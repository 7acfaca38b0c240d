"""The suite that every adapter of `echelon.controller.datastore.port.Datastore` passes: jobs and their history."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs
from sqlalchemy import create_engine, text

from echelon.controller.core.events import CancelRequested, RetryRequested, TasksMoved
from echelon.controller.core.model import Tally
from echelon.controller.core.states import State
from echelon.controller.datastore.errors import GuardFailed
from echelon.controller.datastore.filters import TaskFilter
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import Remembered
from echelon.shared.ids import JobId, new_job_id
from tests.contract.stores import claim, fan_out, plain_job, settle, stepped, submitted


def test_a_submitted_job_is_found_with_all_its_stages(store: Datastore) -> None:
    new = plain_job(stages=3, values={"url": "http://x", "n": 7}, sealed={"token": "sealed"})

    with store.write() as tx:
        tx.insert_job(new)

    with store.read() as reader:
        view = reader.find_job(new.job.job_id)
        facts = reader.find_facts(new.job.job_id)
    assert view is not None and facts is not None
    assert (view.type, view.state, view.input, view.secret) == ("plain", State.PENDING, new.input, ["token"])
    assert [(stage.number, stage.name, stage.state) for stage in view.stages] == [
        (number, f"stage {number}", State.PENDING) for number in range(3)
    ]
    assert [stage.tally for stage in view.stages] == [Tally(pending=1)] * 3
    assert facts.inputs.sealed == {"token": "sealed"}
    assert view.started_at is None and view.created_at > 0


@pytest.mark.parametrize("bound", [None, 0, 3, "5%"])
def test_what_is_locked_is_what_was_saved(store: Datastore, bound: int | str | None) -> None:
    new = plain_job(stages=2)
    stages = tuple(structs.replace(stage, max_failed=bound) for stage in new.job.stages)
    job_id = submitted(store, replace(new, job=structs.replace(new.job, stages=stages)))

    with store.write() as tx:
        job = stepped(tx, job_id, TasksMoved(0, {(State.QUEUED, State.RUNNING): 1}))

    with store.write() as tx:
        assert tx.lock_jobs([job_id]) == {job_id: job}
    assert [stage.max_failed for stage in job.stages] == [bound, bound]


def test_jobs_that_do_not_exist_are_left_out_of_the_locked_ones(store: Datastore) -> None:
    job_id = submitted(store, plain_job())

    with store.write() as tx:
        assert set(tx.lock_jobs([job_id, new_job_id()])) == {job_id}
        assert tx.lock_jobs([]) == {}


def test_an_exception_rolls_everything_back(store: Datastore) -> None:
    job_id = submitted(store, plain_job())
    other = plain_job()

    with pytest.raises(ZeroDivisionError), store.write() as tx:
        stepped(tx, job_id, CancelRequested())
        tx.insert_job(other)
        tx.record_event(job_id, "never")
        raise ZeroDivisionError

    with store.read() as reader:
        assert reader.find_job(other.job.job_id) is None
        view = reader.find_job(job_id)
        assert view is not None and view.state is State.RUNNING
        assert "never" not in [event.kind for event in reader.list_events(job_id, limit=100, cursor=None).items]
    with store.write() as tx:
        assert tx.lock_jobs([job_id])[job_id].state is State.RUNNING


def test_saving_counts_etags_up_and_notes_the_times_of_changes(store: Datastore) -> None:
    job_id = submitted(store, plain_job(stages=2))
    with store.read() as reader:
        before = reader.find_job(job_id)

    with store.write() as tx:
        (task,) = claim(tx, job_id)
        settle(tx, job_id, [task.task_id])

    with store.read() as reader:
        after = reader.find_job(job_id)
    assert before is not None and after is not None
    assert before.started_at is not None and before.ended_at is None
    assert after.etag > before.etag
    first, second = after.stages
    assert first.state is State.COMPLETED and first.ended_at is not None and first.started_at is not None
    assert second.state is State.RUNNING and second.started_at is not None and second.ended_at is None


def test_saving_over_something_else_than_what_is_there_is_refused(store: Datastore) -> None:
    job_id = submitted(store, plain_job())

    with pytest.raises(GuardFailed), store.write() as tx:
        job = tx.lock_jobs([job_id])[job_id]
        ended = stepped(tx, job_id, CancelRequested())
        tx.save_job(job, ended)


def test_a_job_that_has_ended_has_lost_its_secrets_but_not_their_names(store: Datastore) -> None:
    job_id = submitted(store, plain_job(sealed={"token": "sealed", "key": "sealed too"}))

    with store.write() as tx:
        stepped(tx, job_id, CancelRequested())

    with store.read() as reader:
        facts, view = reader.find_facts(job_id), reader.find_job(job_id)
    assert facts is not None and view is not None
    assert facts.inputs.sealed == {}
    assert view.secret == ["key", "token"]


def test_secrets_are_given_anew_when_a_job_is_opened_again(store: Datastore) -> None:
    job_id = submitted(store, plain_job(sealed={"token": "old"}))
    with store.write() as tx:
        stepped(tx, job_id, CancelRequested())

    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.replace_input(job_id, {"url": "other"}, {"token": "new"})
        job = stepped(tx, job_id, RetryRequested())

    assert job.state is State.RUNNING
    with store.read() as reader:
        facts, view = reader.find_facts(job_id), reader.find_job(job_id)
    assert facts is not None and view is not None
    assert (facts.inputs.sealed, view.input, view.secret) == ({"token": "new"}, {"url": "other"}, ["token"])
    assert view.ended_at is None


def test_an_idempotency_key_leads_to_the_job_that_it_made(store: Datastore) -> None:
    new = replace(plain_job(), idempotency_key="key", request_hash="hash")
    with store.write() as tx:
        assert tx.submitted_with("key") is None
        tx.insert_job(new)

    with store.write() as tx:
        assert tx.submitted_with("key") == Remembered(new.job.job_id, "hash")
        assert tx.submitted_with("other") is None


def test_a_deleted_job_leaves_nothing_behind_and_its_neighbours_alone(store: Datastore) -> None:
    before, gone, after = (fan_out(store, 5) for _ in range(3))
    with store.write() as tx:
        tx.lock_jobs([gone])
        claimed = claim(tx, gone, 2)
        settle(tx, gone, [task.task_id for task in claimed])
        stepped(tx, gone, CancelRequested())

    with store.write() as tx:
        tx.lock_jobs([gone])
        tx.delete_job(gone)

    with store.read() as reader:
        assert reader.find_job(gone) is None and reader.find_facts(gone) is None
        assert reader.find_task(claimed[0].task_id) is None
        assert reader.list_attempts_since(gone, after=0, limit=10) == []
        assert reader.list_events(gone, limit=10, cursor=None).items == []
        for kept in (before, after):
            assert len(reader.list_tasks(kept, TaskFilter(), limit=100, cursor=None).items) == 6
    with store.write() as tx:
        assert tx.lock_jobs([gone]) == {}
    assert fan_out(store, 5) != gone


def test_no_key_is_given_twice_even_when_the_newest_job_is_deleted(store: Datastore, store_url: str) -> None:
    keys = []
    for job_id in (submitted(store, plain_job()), submitted(store, plain_job())):
        keys.append(key_of(store_url, job_id))
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.delete_job(job_id)

    keys.append(key_of(store_url, submitted(store, plain_job())))

    assert keys == sorted(set(keys))


def test_a_release_that_does_not_count_keys_may_still_insert_jobs(store: Datastore, store_url: str) -> None:
    first = key_of(store_url, submitted(store, plain_job()))
    if store_url.startswith("sqlite"):
        # So the counter looks after a controller of an earlier release has gone on for a while.
        change(store_url, "UPDATE sqlite_sequence SET seq = 0 WHERE name = 'job_keys'")

    second = key_of(store_url, submitted(store, plain_job()))

    assert second > first


def change(store_url: str, statement: str) -> None:
    engine = create_engine(store_url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def key_of(store_url: str, job_id: JobId) -> int:
    engine = create_engine(store_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        key = connection.execute(text("SELECT key FROM jobs WHERE job_id = :job_id"), {"job_id": job_id}).scalar_one()
    engine.dispose()
    return int(key)


def test_the_history_is_kept_in_order(store: Datastore) -> None:
    job_id = submitted(store, plain_job())
    with store.read() as reader:
        begun = len(reader.list_events(job_id, limit=100, cursor=None).items)

    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.record_event(job_id, "first", stage=0, detail={"who": "ä"})
        tx.record_event(job_id, "second")
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.record_event(job_id, "third")

    with store.read() as reader:
        whole = reader.list_events(job_id, limit=100, cursor=None).items
        page = reader.list_events(job_id, limit=begun + 1, cursor=None)
        rest = reader.list_events(job_id, limit=100, cursor=page.next_cursor)
    assert [event.kind for event in whole[begun:]] == ["first", "second", "third"]
    assert (whole[begun].stage, whole[begun].detail) == (0, {"who": "ä"})
    assert [*page.items, *rest.items] == whole and rest.next_cursor is None


def test_a_kept_revision_of_the_catalogue_stays_as_it_is(store: Datastore) -> None:
    with store.write() as tx:
        tx.save_definition("r1", "document")
        tx.save_definition("r1", "another")

    with store.read() as reader:
        assert reader.find_definition("r1") == "document"
        assert reader.find_definition("r2") is None
