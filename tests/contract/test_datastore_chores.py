"""The suite that every adapter of `Datastore` passes: one look at what there is to do, locks that nobody waits for."""

from __future__ import annotations

import pytest

from echelon.controller.core.events import CancelRequested
from echelon.controller.core.states import State
from echelon.controller.datastore.claims import Chores
from echelon.controller.datastore.open import open_datastore
from echelon.controller.datastore.port import Datastore
from echelon.shared.messages import AttemptRef
from tests.contract.stores import (
    OTHER,
    WORKER,
    card,
    claim,
    fan_out,
    plain_job,
    settle,
    spawn_started,
    stepped,
    submitted,
)


def look(store: Datastore) -> Chores:
    with store.write() as tx:
        return tx.find_chores()


def test_an_idle_store_has_no_chores(store: Datastore) -> None:
    job_id = fan_out(store, 2)
    with store.write() as tx:
        claim(tx, job_id, 2, lease=3600.0)

    assert look(store) == Chores(expired=False, due=False, expanding=False, ready=False)


def test_each_chore_is_told(store: Datastore) -> None:
    job_id = fan_out(store, 2)
    assert look(store).ready
    with store.write() as tx:
        (failed,) = claim(tx, job_id, 1, lease=3600.0)
    with store.write() as tx:
        settle(tx, job_id, [failed.task_id], State.PENDING, not_before=tx.now() - 1.0)
    assert look(store) == Chores(expired=False, due=True, expanding=False, ready=True)
    with store.write() as tx:
        claim(tx, job_id, 1, lease=-1.0)
    assert look(store) == Chores(expired=True, due=True, expanding=False, ready=False)
    spawn_started(store, expected=2)
    assert look(store).expanding


def test_open_jobs_are_counted_up_to_a_limit(store: Datastore) -> None:
    job_ids = [submitted(store, plain_job()) for _ in range(4)]
    with store.write() as tx:
        stepped(tx, job_ids[0], CancelRequested())

    with store.read() as reader:
        assert [reader.count_open_jobs(limit=limit) for limit in (2, 3, 9)] == [2, 3, 3]


def test_one_that_was_silent_for_long_is_believed_again_when_it_speaks_and_one_that_is_gone_is_not(
    store: Datastore,
) -> None:
    with store.write() as tx:
        for worker in (WORKER, OTHER):
            tx.record_heartbeat(worker, card("one"), running=0)
        tx.prune_workers(older_than=-1.0)
        tx.deregister_workers([OTHER])

    with store.write() as tx:
        assert [demand.worker for demand in tx.lock_capacities(told_after=0.0, also=[WORKER, OTHER])] == [WORKER]


@pytest.mark.server
def test_a_renewal_does_not_wait_for_a_transaction_that_is_at_work_on_the_same_task(postgresql_url: str) -> None:
    store = open_datastore(postgresql_url)
    job_id = fan_out(store, 2)
    with store.write() as tx:
        refs = [AttemptRef(task.task_id, 1) for task in claim(tx, job_id, 2)]

    with store.write() as one:
        assert one.renew_leases(WORKER, refs[:1], lease=15.0) == {refs[0]}
        with store.write() as two:
            assert two.renew_leases(WORKER, refs, lease=15.0) == {refs[1]}
    store.close()
