"""The suite that every adapter of `Datastore` passes: suspects, and the workers that are kept for them."""

from __future__ import annotations

from controller.core.states import State
from controller.datastore.outstanding import Load
from controller.datastore.port import Datastore
from shared.ids import JobId, new_worker_id
from shared.messages import Outcome
from tests.contract.stores import OTHER, WORKER, card, claim, fan_out, settle


def lose(store: Datastore, job_id: JobId, count: int, times: int) -> None:
    """Let the first tasks of a job lose so many workers."""
    for _ in range(times):
        with store.write() as tx:
            lost = [task.task_id for task in claim(tx, job_id, count)]
            settle(tx, job_id, lost, State.QUEUED, outcome=Outcome.LOST, loss=True)


def test_a_claim_gives_only_tasks_that_have_lost_so_many_workers(store: Datastore) -> None:
    job_id = fan_out(store, 4)
    lose(store, job_id, 2, times=2)
    lose(store, job_id, 1, times=1)

    with store.write() as tx:
        tx.lock_jobs([job_id])

        def claimed(losses: range) -> list[int]:
            found = tx.claim(job_id, 0, spawn=False, count=10, worker=WORKER, lease=15.0, losses=losses)
            return [task.index for task in found]

        assert claimed(range(1, 2)) == []
        assert claimed(range(2)) == [2, 3]
        assert claimed(range(3, 2**31)) == [0]
        assert claimed(range(2, 3)) == [1]


def test_the_load_of_a_worker_is_what_runs_on_it_and_the_most_losses_of_it(store: Datastore) -> None:
    job_id = fan_out(store, 4)
    lose(store, job_id, 1, times=2)
    with store.write() as tx:
        claim(tx, job_id, 3)
        (ended,) = claim(tx, job_id, 1, worker=OTHER)

    with store.write() as tx:
        assert tx.loads([WORKER, OTHER, new_worker_id()]) == {WORKER: Load(3, 2), OTHER: Load(1, 0)}
        settle(tx, job_id, [ended.task_id])
        assert tx.loads([OTHER]) == {}


def test_a_job_is_there_until_it_is_deleted(store: Datastore) -> None:
    job_id = fan_out(store, 1)
    with store.write() as tx:
        assert tx.exists(job_id)
        assert not tx.exists(JobId("another"))


def test_a_worker_is_heard_for_so_long_after_its_last_sign_of_life_and_not_when_it_is_gone(store: Datastore) -> None:
    with store.write() as tx:
        tx.greet(WORKER, card("one"), running=0)
        tx.greet(OTHER, card("two"), running=0)
        tx.farewell([OTHER])

    with store.write() as tx:
        assert tx.heard([WORKER, OTHER, new_worker_id()], within=60.0) == {WORKER}
        assert tx.heard([WORKER], within=-60.0) == set()


def test_what_a_worker_is_kept_for_is_kept_with_its_demand(store: Datastore) -> None:
    with store.write() as tx:
        tx.greet(WORKER, card("one"), running=0)
        (demand,) = tx.demands(told_after=0.0, also=[WORKER])
        assert demand.alone is None
        demand.alone = JobId("job"), 3
        tx.save_demands([demand])

    with store.write() as tx:
        (demand,) = tx.demands(told_after=0.0, also=[WORKER])
        assert demand.alone == ("job", 3)


def test_leases_that_reach_too_far_are_shortened_to_one_that_begins_now(store: Datastore) -> None:
    job_id = fan_out(store, 2)
    with store.write() as tx:
        (far,) = claim(tx, job_id, 1, lease=3600.0)
        (due,) = claim(tx, job_id, 1, lease=-1.0)

    with store.write() as tx:
        tx.shorten_leases(longest=-0.5)
        late = {task_id for _, task_id in tx.expired(limit=10)}

    assert late == {far.task_id, due.task_id}
