"""The store when processes, connections and servers die under it, and when it is full."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event

from echelon.controller.core.events import CancelRequested, TasksCreated, TasksMoved
from echelon.controller.core.states import State
from echelon.controller.datastore import sqlite
from echelon.controller.datastore.errors import OutcomeUnknown
from echelon.controller.datastore.filters import TaskFilter
from echelon.controller.datastore.open import migrate_datastore, open_datastore
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.postgresql import PostgresqlDatastore
from echelon.controller.datastore.records import NewTask
from echelon.controller.datastore.sqlite import SqliteDatastore
from echelon.shared.clock import SystemClock
from echelon.shared.errors import EchelonError, StoreUnavailable
from echelon.shared.ids import new_job_id, new_task_ids
from tests.contract.servers import PrivatePostgresql, postgresql_binaries, unavailable
from tests.contract.stores import WORKER, claim, fan_out, plain_job, spawn_started, stepped, submitted

PATIENCE = 30.0


# --- SQLite ---------------------------------------------------------------------------------------------------------

_DIES_WRITING = """
import sys
from tests.contract.stores import plain_job, stepped, submitted
from echelon.controller.core.events import CancelRequested
from echelon.controller.datastore.open import open_datastore
store = open_datastore(sys.argv[1])
with store.write() as tx:
    tx.insert_job(plain_job())
    stepped(tx, sys.argv[2], CancelRequested())
    tx.flush_writes()
    print("written", flush=True)
    sys.stdin.read()
"""


def test_a_process_killed_in_the_middle_of_a_transaction_leaves_nothing_of_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/echelon.db"
    store = open_datastore(url)
    job_id = submitted(store, plain_job())
    child = subprocess.Popen(
        [sys.executable, "-c", _DIES_WRITING, url, job_id], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None and child.stdin is not None
    assert child.stdout.readline() == b"written\n"

    child.send_signal(signal.SIGKILL)
    child.wait(PATIENCE)
    child.stdin.close()
    child.stdout.close()

    with store.read() as reader:
        assert reader.count_states()["jobs"] == {"RUNNING": 1}
    with store.write() as tx:
        stepped(tx, job_id, CancelRequested())
    store.close()
    connection = sqlite3.connect(tmp_path / "echelon.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_another_writer_that_does_not_let_go_makes_the_store_unavailable_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "echelon.db"
    sqlite.migrate_file(path)
    store = SqliteDatastore(path, SystemClock(), busy_timeout=0.05)
    other = sqlite.open_connection(str(path))
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable), store.write():
        pass

    other.execute("ROLLBACK")
    submitted(store, plain_job())
    other.close()
    store.close()


def test_a_full_disk_makes_the_store_unavailable_and_says_so(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "full.db")
    connection.execute("PRAGMA max_page_count = 2")

    with pytest.raises(sqlite3.Error) as caught:
        connection.execute("CREATE TABLE t AS SELECT randomblob(100000)")
    connection.close()

    error = sqlite.translate_error(caught.value)
    assert isinstance(error, StoreUnavailable) and "disk" in str(error)


def test_a_database_file_that_vanished_is_unavailable_not_a_traceback(tmp_path: Path) -> None:
    store = open_datastore(f"sqlite:///{tmp_path}/echelon.db")
    store.close()
    for file in tmp_path.iterdir():
        file.unlink()

    with pytest.raises(StoreUnavailable):
        store.check()
    with pytest.raises(EchelonError), store.write() as tx:
        tx.insert_job(plain_job())


def test_a_store_is_not_used_across_a_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_datastore(f"sqlite:///{tmp_path}/echelon.db")
    parent = os.getpid()

    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    uses: list[Callable[[], object]] = [
        store.check,
        lambda: store.write().__enter__(),
        lambda: store.read().__enter__(),
    ]
    for use in uses:
        with pytest.raises(EchelonError, match="fork"):
            use()
    monkeypatch.undo()
    store.close()


class StandingClock(SystemClock):
    """Shows the time that it is told."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def wall(self) -> float:
        return self.time


def test_the_time_of_sqlite_is_the_injected_clocks(tmp_path: Path) -> None:
    clock = StandingClock()
    store = open_datastore(f"sqlite:///{tmp_path}/echelon.db", clock=clock)
    job_id = fan_out(store, 1)
    with store.write() as tx:
        assert tx.now() == 1_000_000.0
        (task,) = claim(tx, job_id, lease=15.0)

    clock.time += 14.9
    with store.write() as tx:
        assert tx.find_expired(limit=10) == []
    clock.time += 0.2
    with store.write() as tx:
        assert tx.find_expired(limit=10) == [(job_id, task.task_id)]
    store.close()


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


def terminate_others(url: str) -> None:
    """End all other sessions of this database; return when they have ended."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.server
def test_a_connection_lost_before_the_commit_changes_nothing(postgresql_store: Datastore, postgresql_url: str) -> None:
    job_id = submitted(postgresql_store, plain_job())

    with pytest.raises(StoreUnavailable) as caught, postgresql_store.write() as tx:
        stepped(tx, job_id, CancelRequested())
        terminate_others(postgresql_url)
        tx.find_claimable(None, limit=1)

    assert not isinstance(caught.value, OutcomeUnknown)
    with postgresql_store.write() as tx:
        assert tx.lock_jobs([job_id])[job_id].state is State.RUNNING


@pytest.mark.server
def test_a_connection_lost_in_the_commit_leaves_the_outcome_unknown(
    postgresql_store: Datastore, postgresql_url: str
) -> None:
    job_id = submitted(postgresql_store, plain_job())
    with postgresql_store.read() as reader:
        before = reader.find_job(job_id)

    with pytest.raises(OutcomeUnknown), postgresql_store.write() as tx:
        job = tx.lock_jobs([job_id])[job_id]
        tx.save_job(job, job.with_stage(job.stage(0)))
        terminate_others(postgresql_url)

    with postgresql_store.read() as reader:
        assert reader.find_job(job_id) == before


@pytest.mark.server
def test_idle_connections_that_died_are_not_noticed_by_the_next_transaction(
    postgresql_store: Datastore, postgresql_url: str
) -> None:
    job_id = submitted(postgresql_store, plain_job())

    terminate_others(postgresql_url)

    with postgresql_store.read() as reader:
        assert reader.find_job(job_id) is not None
    with postgresql_store.write() as tx:
        stepped(tx, job_id, CancelRequested())


def _write(store: Datastore) -> None:
    with store.write() as tx:
        tx.find_chores()


def _read(store: Datastore) -> None:
    with store.read() as reader:
        reader.find_job(new_job_id())


def _find_job(store: Datastore) -> None:
    store.find_job(new_job_id())


@pytest.mark.server
@pytest.mark.parametrize("use", [_write, _read, _find_job, lambda store: store.check()])
def test_a_server_that_ends_each_connection_once_it_is_made_is_away(
    postgresql_store: PostgresqlDatastore, postgresql_url: str, use: Callable[[Datastore], None]
) -> None:
    use(postgresql_store)
    # A proxy in front of a server that restarts does the same.
    for engine in (postgresql_store._writing, postgresql_store._reading):
        event.listen(engine, "connect", lambda connection, record: terminate_others(postgresql_url))
    terminate_others(postgresql_url)

    with pytest.raises(StoreUnavailable):
        use(postgresql_store)


@pytest.mark.server
@pytest.mark.slow
def test_a_server_that_crashes_and_comes_back_has_kept_every_commit() -> None:
    binaries = postgresql_binaries()
    if binaries is None:
        unavailable("no PostgreSQL binaries to start a server that may be killed")
        return
    with PrivatePostgresql(binaries, durable=True) as server:
        migrate_datastore(server.url)
        store = open_datastore(server.url)
        job_id = submitted(store, plain_job())

        server.stop(signal.SIGQUIT)
        with pytest.raises(StoreUnavailable), store.write() as tx:
            tx.lock_jobs([job_id])
        with pytest.raises(StoreUnavailable), store.read() as reader:
            reader.find_job(job_id)
        with pytest.raises(StoreUnavailable):
            store.find_job(job_id)
        with pytest.raises(StoreUnavailable):
            store.check()
        server.start()

        store.check()
        with store.write() as tx:
            stepped(tx, job_id, TasksMoved(0, {(State.QUEUED, State.RUNNING): 1}))
        store.close()


# --- scale ----------------------------------------------------------------------------------------------------------


def test_a_batch_larger_than_every_buffer_arrives(store: Datastore) -> None:
    job_id = spawn_started(store, expected=2_000)
    large = {"text": "x" * 10_000}

    with store.write() as tx:
        stepped(tx, job_id, TasksCreated(0, queued=2_000))
        ids = new_task_ids(2_000)
        # The last thing before the guards are verified: nothing else pushes it out.
        tx.insert_tasks(job_id, 0, [NewTask(ids[n], n, State.QUEUED, "work", "default", large) for n in range(2_000)])

    with store.read() as reader:
        last = reader.find_task(ids[-1])
    assert last is not None and last.input == large


@pytest.mark.slow
def test_a_cancel_of_100000_queued_tasks_is_one_statement_and_none_can_be_claimed_after(store: Datastore) -> None:
    job_id = fan_out(store, 100_000)

    with store.write() as tx:
        stepped(tx, job_id, CancelRequested())

    with store.write() as tx:
        tx.lock_jobs([job_id])
        assert tx.claim_tasks(job_id, 0, spawn=False, count=1, worker=WORKER, lease=1.0) == []
        tx.delete_job(job_id)
    with store.read() as reader:
        assert reader.list_tasks(job_id, TaskFilter(), limit=1, cursor=None).items == []
