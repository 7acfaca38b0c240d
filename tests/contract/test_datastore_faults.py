"""The store when several write at once, and when processes, connections and servers die under it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from controller.core.model import CancelRequested, TasksMoved
from controller.core.states import State
from controller.datastore import sqlite
from controller.datastore.errors import OutcomeUnknown, TransactionAborted
from controller.datastore.open import migrate, open_datastore
from controller.datastore.port import Datastore
from controller.datastore.records import TaskFilter
from controller.datastore.sqlite import SqliteDatastore
from controller.datastore.turns import Turns
from shared.clock import SystemClock
from shared.errors import EchelonError, StoreUnavailable
from shared.ids import JobId, TaskId, new_worker_id
from tests.contract.servers import PrivatePostgresql, postgresql_binaries, unavailable
from tests.contract.stores import WORKER, claim, fan_out, plain_job, settle, stepped, submitted

PATIENCE = 30.0


# --- several at once ------------------------------------------------------------------------------------------------


def claim_all(url: str, job_id: JobId) -> list[TaskId]:
    """Claim and settle the tasks of a job two at a time until none is left; return what was claimed."""
    store = open_datastore(url)
    mine: list[TaskId] = []
    worker = new_worker_id()
    while True:
        with store.write() as tx:
            tx.lock_jobs([job_id])
            claimed = [task.task_id for task in claim(tx, job_id, 2, worker=worker)]
        if not claimed:
            break
        mine += claimed
        with store.write() as tx:
            settle(tx, job_id, claimed)
    store.close()
    return mine


def test_two_processes_share_the_tasks_of_a_job_and_count_each_once(store: Datastore, store_url: str) -> None:
    job_id = fan_out(store, 60)

    with multiprocessing.get_context("spawn").Pool(2) as pool:
        shares = pool.starmap(claim_all, [(store_url, job_id)] * 2)

    claimed = [task for share in shares for task in share]
    assert len(claimed) == len(set(claimed)) == 60
    with store.read() as reader:
        view = reader.job(job_id)
        assert len(reader.attempts_since(job_id, after=0, limit=100)) == 61
    assert view is not None and view.state is State.COMPLETED
    assert view.stages[0].tally.completed == 60
    with store.write() as tx:
        assert tx.lock_jobs([job_id])[job_id].state is State.COMPLETED, "what was cached here is not believed"


def test_threads_of_one_process_write_one_after_the_other(store: Datastore) -> None:
    def work(_: int) -> None:
        for _ in range(10):
            submitted(store, plain_job())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    with store.read() as reader:
        assert reader.counts()["jobs"] == {"RUNNING": 80}


def test_the_same_idempotency_key_at_the_same_moment_makes_one_job(store: Datastore) -> None:
    ready = threading.Barrier(4)

    def submit(_: int) -> str:
        new = replace(plain_job(), idempotency_key="key", request_hash="hash")
        ready.wait(PATIENCE)
        while True:
            try:
                with store.write() as tx:
                    known = tx.submitted_with("key")
                    if known is not None:
                        return known.job_id
                    tx.insert_job(new)
                return new.job.job_id
            except TransactionAborted:
                continue

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(submit, range(4)))) == 1


@pytest.mark.server
def test_a_job_that_another_transaction_holds_is_skipped_if_asked(postgresql_store: Datastore) -> None:
    job_id = submitted(postgresql_store, plain_job())

    with postgresql_store.write() as first, postgresql_store.write() as second:
        assert first.lock_jobs([job_id])
        assert second.lock_jobs([job_id], skip_locked=True) == {}


@pytest.mark.server
def test_a_transaction_that_loses_a_deadlock_may_be_done_again(postgresql_store: Datastore) -> None:
    jobs = [submitted(postgresql_store, plain_job()) for _ in range(2)]
    both_hold = threading.Barrier(2)

    def cross(order: list[JobId]) -> bool:
        try:
            with postgresql_store.write() as tx:
                tx.lock_jobs(order[:1])
                both_hold.wait(PATIENCE)
                tx.lock_jobs(order[1:])
            return True
        except TransactionAborted:
            return False

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(cross, [jobs, jobs[::-1]]))

    assert sorted(outcomes) == [False, True]


@pytest.mark.server
def test_a_lock_waits_and_then_sees_what_the_other_has_saved(postgresql_store: Datastore) -> None:
    job_id = submitted(postgresql_store, plain_job())
    locked = threading.Event()

    def second() -> State:
        with postgresql_store.write() as tx:
            locked.set()
            return tx.lock_jobs([job_id])[job_id].state

    with ThreadPoolExecutor(1) as pool:
        with postgresql_store.write() as tx:
            stepped(tx, job_id, CancelRequested())
            found = pool.submit(second)
            assert locked.wait(PATIENCE)
        assert found.result(PATIENCE) is State.CANCELLED


def test_writers_of_one_process_take_turns_in_the_order_they_came() -> None:
    turns, order = Turns(), []
    waiting = [threading.Thread(target=lambda n=n: enter(turns, order, n)) for n in range(5)]

    with turns:
        for number, thread in enumerate(waiting):
            thread.start()
            wait_until(lambda number=number: turns.waiting == number + 1)
    for thread in waiting:
        thread.join(PATIENCE)

    assert order == list(range(5))


def test_a_write_transaction_inside_another_of_the_same_thread_is_refused(tmp_path: Path) -> None:
    store = open_datastore(f"sqlite:///{tmp_path}/echelon.db")

    with store.write(), pytest.raises(EchelonError, match="already"), store.write():
        pass

    submitted(store, plain_job())
    store.close()


def enter(turns: Turns, order: list[int], number: int) -> None:
    with turns:
        order.append(number)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


# --- SQLite ---------------------------------------------------------------------------------------------------------

_DIES_WRITING = """
import sys
from tests.contract.stores import plain_job, stepped, submitted
from controller.core.model import CancelRequested
from controller.datastore.open import open_datastore
store = open_datastore(sys.argv[1])
with store.write() as tx:
    tx.insert_job(plain_job())
    stepped(tx, sys.argv[2], CancelRequested())
    tx.flush()
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
        assert reader.counts()["jobs"] == {"RUNNING": 1}
    with store.write() as tx:
        stepped(tx, job_id, CancelRequested())
    store.close()
    connection = sqlite3.connect(tmp_path / "echelon.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_another_writer_that_does_not_let_go_makes_the_store_unavailable_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "echelon.db"
    sqlite.migrate(path)
    store = SqliteDatastore(path, SystemClock(), busy_timeout=0.05)
    other = sqlite.connect(str(path))
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

    error = sqlite.translated(caught.value)
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
        assert tx.expired(limit=10) == []
    clock.time += 0.2
    with store.write() as tx:
        assert tx.expired(limit=10) == [(job_id, task.task_id)]
    store.close()


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


def terminate_others(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.server
def test_a_connection_lost_before_the_commit_changes_nothing(postgresql_store: Datastore, postgresql_url: str) -> None:
    job_id = submitted(postgresql_store, plain_job())

    with pytest.raises(StoreUnavailable) as caught, postgresql_store.write() as tx:
        stepped(tx, job_id, CancelRequested())
        terminate_others(postgresql_url)
        tx.claimable(None, limit=1)

    assert not isinstance(caught.value, OutcomeUnknown)
    with postgresql_store.write() as tx:
        assert tx.lock_jobs([job_id])[job_id].state is State.RUNNING


@pytest.mark.server
def test_a_connection_lost_in_the_commit_leaves_the_outcome_unknown(
    postgresql_store: Datastore, postgresql_url: str
) -> None:
    job_id = submitted(postgresql_store, plain_job())
    with postgresql_store.read() as reader:
        before = reader.job(job_id)

    with pytest.raises(OutcomeUnknown), postgresql_store.write() as tx:
        job = tx.lock_jobs([job_id])[job_id]
        tx.save_job(job, job.with_stage(job.stage(0)))
        terminate_others(postgresql_url)

    with postgresql_store.read() as reader:
        assert reader.job(job_id) == before


@pytest.mark.server
def test_idle_connections_that_died_are_not_noticed_by_the_next_transaction(
    postgresql_store: Datastore, postgresql_url: str
) -> None:
    job_id = submitted(postgresql_store, plain_job())

    terminate_others(postgresql_url)

    with postgresql_store.read() as reader:
        assert reader.job(job_id) is not None
    with postgresql_store.write() as tx:
        stepped(tx, job_id, CancelRequested())


@pytest.mark.server
@pytest.mark.slow
def test_a_server_that_crashes_and_comes_back_has_kept_every_commit() -> None:
    binaries = postgresql_binaries()
    if binaries is None:
        unavailable("no PostgreSQL binaries to start a server that may be killed")
        return
    with PrivatePostgresql(binaries, durable=True) as server:
        migrate(server.url)
        store = open_datastore(server.url)
        job_id = submitted(store, plain_job())

        server.stop(signal.SIGQUIT)
        with pytest.raises(StoreUnavailable), store.write() as tx:
            tx.lock_jobs([job_id])
        with pytest.raises(StoreUnavailable), store.read() as reader:
            reader.job(job_id)
        with pytest.raises(StoreUnavailable):
            store.check()
        server.start()

        store.check()
        with store.write() as tx:
            stepped(tx, job_id, TasksMoved(0, {(State.QUEUED, State.RUNNING): 1}))
        store.close()


# --- scale ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cancel_of_100000_queued_tasks_is_one_statement_and_none_can_be_claimed_after(store: Datastore) -> None:
    job_id = fan_out(store, 100_000)

    with store.write() as tx:
        stepped(tx, job_id, CancelRequested())

    with store.write() as tx:
        tx.lock_jobs([job_id])
        assert tx.claim(job_id, 0, spawn=False, count=1, worker=WORKER, lease=1.0) == []
        tx.delete_job(job_id)
    with store.read() as reader:
        assert reader.tasks(job_id, TaskFilter(), limit=1, cursor=None).items == []


@pytest.fixture
def postgresql_store(postgresql_url: str) -> Iterator[Datastore]:
    """Give an empty datastore on PostgreSQL."""
    datastore = open_datastore(postgresql_url)
    yield datastore
    datastore.close()
