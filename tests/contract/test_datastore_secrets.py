"""Secrets of single tasks in the store: their job's seal goes with its end, and what an earlier release has left."""

from __future__ import annotations

import json

import psycopg
import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Connection, create_engine, text

from echelon.controller.core.events import CancelRequested, RetryRequested
from echelon.controller.core.states import State
from echelon.controller.datastore import migrate as migrating
from echelon.controller.datastore.open import migrate_datastore, open_datastore
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import JobInputs, LostSecret, NewTask
from echelon.controller.datastore.secrets import LOST_SECRET
from echelon.shared.ids import JobId, new_task_ids
from tests.contract.older import insert, schema
from tests.contract.stores import plain_job, stepped, submitted

KEY = Fernet.generate_key()


def test_the_seal_of_a_job_goes_with_its_end_and_another_comes_with_its_return(store: Datastore) -> None:
    new = plain_job()
    new = type(new)(**{name: getattr(new, name) for name in new.__slots__} | {"seal": "first"})
    job_id = submitted(store, new)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        before = tx.load_inputs(job_id)
        stepped(tx, job_id, CancelRequested())
    with store.write() as tx:
        tx.lock_jobs([job_id])
        ended = tx.load_inputs(job_id)
        tx.replace_input(job_id, {}, {}, "second")
        stepped(tx, job_id, RetryRequested())
    with store.write() as tx:
        tx.lock_jobs([job_id])
        again = tx.load_inputs(job_id)

    assert (before, ended.seal, again.seal) == (JobInputs({}, {}, "first", 1), None, "second")
    assert len({before.seal_number, ended.seal_number, again.seal_number}) == 3


def test_only_tasks_that_are_to_run_and_were_sealed_before_have_lost_their_secrets(store: Datastore) -> None:
    job_id = submitted(store, plain_job(stages=2))
    made = [(State.PENDING, 1), (State.PENDING, None), (State.QUEUED, 0), (State.FAILED, 0), (State.QUEUED, 0)]
    tasks = [
        NewTask(task_id, index, state, "work", "default", {"token": "x", "url": "u"}, seal_number=number)
        for (index, (state, number)), task_id in zip(enumerate(made, start=1), new_task_ids(len(made)), strict=True)
    ]
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.replace_input(job_id, {}, {}, "seal")
        tx.insert_tasks(job_id, 1, tasks)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        lost = tx.find_lost_secret(job_id)

    assert lost == LostSecret(1, 3, "work", {"token": "x", "url": "u"})


@pytest.mark.server
def test_of_very_many_tasks_those_that_have_lost_nothing_are_not_looked_at(postgresql_url: str) -> None:
    store = open_datastore(postgresql_url)
    job_id = submitted(store, plain_job(stages=2))
    made = [(index, State.COMPLETED, 0) for index in range(1, 3_000)]
    made += [(index, State.QUEUED, 1) for index in range(3_000, 6_000)] + [(6_000, State.QUEUED, 0)]
    tasks = [
        NewTask(task_id, index, state, "work", "default", {"token": "x"}, seal_number=number)
        for (index, state, number), task_id in zip(made, new_task_ids(len(made)), strict=True)
    ]
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.replace_input(job_id, {}, {}, "seal")
        tx.insert_tasks(job_id, 1, tasks)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        assert tx.find_lost_secret(job_id) == LostSecret(1, 6_000, "work", {"token": "x"})
    store.close()

    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute("ANALYZE")
        ((key,),) = connection.execute("SELECT key FROM jobs").fetchall()
        explained = b"EXPLAIN (ANALYZE) " + LOST_SECRET.postgresql.encode()
        plan = "\n".join(str(line) for (line,) in connection.execute(explained, (key, key + 2, 1, 1)).fetchall())

    assert "tasks_sealed" in plan, plan
    assert "Rows Removed by Filter" not in plan, plan


def test_what_an_earlier_release_has_left_of_secrets_is_erased(store_url: str) -> None:
    sealed = {name: Fernet(KEY).encrypt(b"S3CR3T").decode() for name in ("ended", "open")}
    _leave_old_store(store_url, sealed)

    assert migrate_datastore(store_url) == migrating.HEAD

    engine = create_engine(store_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        tasks = connection.execute(text("SELECT input, seal_number FROM tasks ORDER BY key")).all()
        inputs = connection.execute(text("SELECT revision, request_hash, seal FROM job_inputs ORDER BY key")).all()
        definitions = dict(connection.execute(text("SELECT revision, document FROM definitions")).all())
    engine.dispose()
    assert [(json.loads(words), number) for words, number in tasks] == [
        ({"token": "", "url": "u"}, 0), ({"token": sealed["open"], "url": "u"}, 0),
    ]  # fmt: skip
    renamed = inputs[0].revision
    assert renamed != "old" and renamed in definitions
    assert [tuple(row) for row in inputs] == [(renamed, None, None)] * 2
    assert "S3CR3T" not in str(definitions) and "other" in definitions
    assert json.loads(definitions[renamed])["revision"] == renamed
    store = open_datastore(store_url)
    with store.write() as tx:
        tx.lock_jobs([JobId("job1"), JobId("job2")])
        assert [tx.find_lost_secret(JobId(name)) for name in ("job1", "job2")] == [None, None]
        tx.replace_input(JobId("job1"), {}, {}, "seal")
        assert tx.find_lost_secret(JobId("job1")) == LostSecret(0, 0, "work", {"token": "", "url": "u"})
    store.close()


def _leave_old_store(url: str, sealed: dict[str, str]) -> None:
    """Make a store of the release before, with an ended job, an open one, and the definition of a composed one."""
    stage = {"name": "One", "tasks": [{"task_class": "t", "input": {"token": "S3CR3T"}, "paused": False}]}
    document = {"revision": "old", "tasks": {}, "base": "b", "jobs": {"mine": {"stages": [stage]}}}
    with schema(url, "0003") as connection:
        _insert_job(connection, 1, "FAILED", sealed["ended"])
        _insert_job(connection, 2, "RUNNING", sealed["open"])
        for name, words in (("old", json.dumps(document)), ("other", '{"jobs": {"x": {"stages": []}}}')):
            insert(connection, "definitions", {"revision": name, "document": words, "created_at": 0})


def _insert_job(connection: Connection, key: int, state: str, sealed: str) -> None:
    task = {"token": sealed, "url": "u"}
    rows = {
        "jobs": {"job_id": f"job{key}", "type": "plain", "state": state, "stage_count": 1, "etag": 1, "created_at": 0},
        "job_inputs": {"revision": "old", "input": "{}", "secret": "[]", "words": "", "request_hash": "digest"},
        "stages": {
            "job": key, "name": "n", "source": "fixed", "on_error": "fail_job", "task_class": "work",
            "queue": "default", "state": state, "claim_queue": "default",
            **dict.fromkeys(("queued", "expected", "etag"), 1), **dict.fromkeys(_COUNTERS, 0),
        },
        "tasks": {
            "key": (key << 28) + 1, "task_id": f"job{key}", "stage": key, "idx": 0, "state": "QUEUED", "etag": 1,
            "task_class": "work", "queue": "default", "input": json.dumps(task),
            **dict.fromkeys(("attempt", "failures", "losses"), 0),
        },
    }  # fmt: skip
    for table, row in rows.items():
        insert(connection, table, {"key": key, **row})


_COUNTERS = (
    "number", "place", "fail_fast", "pending", "running", "completed", "failed", "cancelled", "skipped", "ready",
    "unfilled", "items_created", "items_offset", "failing", "blocked", "spawn_hand", "added", "held", "withdrawn",
)  # fmt: skip
