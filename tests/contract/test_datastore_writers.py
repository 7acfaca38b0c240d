"""The store when several threads, processes and controllers write at once."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from echelon.controller.core.events import CancelRequested, RetryRequested
from echelon.controller.core.states import State
from echelon.controller.datastore.errors import TransactionAborted
from echelon.controller.datastore.open import open_datastore
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import JobInputs
from echelon.controller.fair_lock import FairLock
from echelon.shared.errors import EchelonError
from echelon.shared.ids import JobId, TaskId, new_worker_id
from tests.contract.stores import OTHER, WORKER, card, claim, fan_out, plain_job, settle, stepped, submitted

PATIENCE = 30.0


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


def test_what_another_controller_gives_a_job_anew_is_seen_here(store: Datastore, store_url: str) -> None:
    job_id = submitted(store, plain_job(values={"url": "old"}, sealed={"token": "old"}))
    other = open_datastore(store_url)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        assert tx.load_inputs(job_id) == JobInputs({"url": "old"}, {"token": "old"})

    with other.write() as tx:
        stepped(tx, job_id, CancelRequested())
    with other.write() as tx:
        tx.lock_jobs([job_id])
        assert tx.load_inputs(job_id).sealed == {}, "an ended job has no secrets"
        tx.replace_input(job_id, {"url": "new"}, {"token": "new"})
        stepped(tx, job_id, RetryRequested())
    other.close()

    for _ in range(2):
        with store.write() as tx:
            tx.lock_jobs([job_id])
            assert tx.load_inputs(job_id) == JobInputs({"url": "new"}, {"token": "new"}, seal_number=2)


def test_whoever_may_not_wait_is_given_the_rooms_that_nobody_works_on(store: Datastore, store_url: str) -> None:
    with store.write() as tx:
        for worker in (WORKER, OTHER):
            tx.record_heartbeat(worker, card(worker), running=0)
        told = tx.lock_capacities(told_after=0.0, also=[WORKER, OTHER])
        tx.save_capacities([replace(demand, told_at=tx.now()) for demand in told])
    if not store_url.startswith("postgresql"):
        with store.write() as tx:
            assert {one.worker for one in tx.lock_free_capacities(told_after=0.0)} == {WORKER, OTHER}
        return
    other = open_datastore(store_url)

    with store.write() as tx, other.write() as beside:
        # Both are locked by whoever asks in earnest.
        tx.lock_capacities(told_after=0.0, also=[])
        found = beside.lock_free_capacities(told_after=0.0)
    with other.write() as beside:
        again = {one.worker for one in beside.lock_free_capacities(told_after=0.0)}
    other.close()

    assert (found, again) == ([], {WORKER, OTHER})


def test_a_new_input_that_is_rolled_back_was_never_there(store: Datastore) -> None:
    job_id = submitted(store, plain_job(values={"url": "old"}))

    with pytest.raises(TransactionAborted), store.write() as tx:
        tx.lock_jobs([job_id])
        tx.replace_input(job_id, {"url": "new"}, {})
        assert tx.load_inputs(job_id).values == {"url": "new"}
        raise TransactionAborted("undone")

    with store.write() as tx:
        tx.lock_jobs([job_id])
        assert tx.load_inputs(job_id).values == {"url": "old"}


def test_two_processes_share_the_tasks_of_a_job_and_count_each_once(store: Datastore, store_url: str) -> None:
    job_id = fan_out(store, 60)

    with multiprocessing.get_context("spawn").Pool(2) as pool:
        shares = pool.starmap(claim_all, [(store_url, job_id)] * 2)

    claimed = [task for share in shares for task in share]
    assert len(claimed) == len(set(claimed)) == 60
    with store.read() as reader:
        view = reader.find_job(job_id)
        assert len(reader.list_attempts_since(job_id, after=0, limit=100)) == 61
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
        assert reader.count_states()["jobs"] == {"RUNNING": 80}


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
    turns, order = FairLock(), []
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


def enter(turns: FairLock, order: list[int], number: int) -> None:
    with turns:
        order.append(number)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)
