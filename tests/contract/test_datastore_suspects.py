"""The suite that every adapter of `Datastore` passes: suspects, and the workers that are kept for them."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from echelon.controller.core.states import State
from echelon.controller.datastore.claims import Load
from echelon.controller.datastore.filters import TaskFilter
from echelon.controller.datastore.port import Datastore
from echelon.shared.ids import JobId, new_worker_id
from echelon.shared.messages import Outcome
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
            found = tx.claim_tasks(job_id, 0, spawn=False, count=10, worker=WORKER, lease=15.0, losses=losses)
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
        assert tx.count_loads([WORKER, OTHER, new_worker_id()]) == {WORKER: Load(3, 2), OTHER: Load(1, 0)}
        settle(tx, job_id, [ended.task_id])
        assert tx.count_loads([OTHER]) == {}


def test_what_was_taken_from_a_worker_is_on_it_until_it_tells_or_its_lease_is_over(store: Datastore) -> None:
    job_id, over = fan_out(store, 2), fan_out(store, 1)
    lose(store, job_id, 1, times=2)
    with store.write() as tx:
        suspect, _ = claim(tx, job_id, 2)
        claim(tx, over, 1, lease=-1.0)
        for one in (job_id, over):
            tx.end_tasks(one, 0, State.CANCELLED, by="me", spans=((0, 0),))

    with store.write() as tx:
        tx.lock_jobs([job_id])
        assert tx.count_loads([WORKER]) == {WORKER: Load(2, 2)}
        tx.clear_leases(tx.load_tasks([suspect.task_id]))
        assert tx.count_loads([WORKER]) == {WORKER: Load(1, 0)}


def test_a_job_is_there_until_it_is_deleted(store: Datastore) -> None:
    job_id = fan_out(store, 1)
    with store.write() as tx:
        assert tx.job_exists(job_id)
        assert not tx.job_exists(JobId("another"))


def test_a_worker_is_heard_for_so_long_after_its_last_sign_of_life_and_not_when_it_is_gone(store: Datastore) -> None:
    with store.write() as tx:
        tx.record_heartbeat(WORKER, card("one"), running=0)
        tx.record_heartbeat(OTHER, card("two"), running=0)
        tx.deregister_workers([OTHER])

    with store.write() as tx:
        assert tx.find_heard([WORKER, OTHER, new_worker_id()], within=60.0) == {WORKER}
        assert tx.find_heard([WORKER], within=-60.0) == set()


def test_what_a_worker_is_kept_for_is_kept_with_its_demand(store: Datastore) -> None:
    with store.write() as tx:
        tx.record_heartbeat(WORKER, card("one"), running=0)
        (demand,) = tx.lock_capacities(told_after=0.0, also=[WORKER])
        assert demand.alone is None
        demand.alone = JobId("job"), 3
        tx.save_capacities([demand])

    with store.write() as tx:
        (demand,) = tx.lock_capacities(told_after=0.0, also=[WORKER])
        assert demand.alone == ("job", 3)


def test_leases_that_reach_too_far_are_shortened_to_one_that_begins_now(store: Datastore) -> None:
    job_id = fan_out(store, 2)
    with store.write() as tx:
        (far,) = claim(tx, job_id, 1, lease=3600.0)
        (due,) = claim(tx, job_id, 1, lease=-1.0)

    with store.write() as tx:
        tx.shorten_leases(longest=-0.5)
        late = {task_id for _, task_id in tx.find_expired(limit=10)}

    assert late == {far.task_id, due.task_id}


def test_so_are_those_of_attempts_that_have_lost_their_claim(store: Datastore) -> None:
    job_id = fan_out(store, 1)
    with store.write() as tx:
        (task,) = claim(tx, job_id, 1, lease=3600.0)
        tx.end_tasks(job_id, 0, State.CANCELLED, by="me", spans=((0, 0),))
        tx.reopen_tasks(job_id, 0, target=State.QUEUED, sources={State.CANCELLED})
        tx.wait_for_exit(job_id, 0)

    with store.write() as tx:
        tx.shorten_leases(longest=-0.5)
        assert tx.find_due(limit=10) == [(job_id, task.task_id)]


@pytest.mark.parametrize("step", [0.0, 3600.0])
def test_a_wait_for_a_retry_is_over_when_it_began_in_the_future(store: Datastore, store_url: str, step: float) -> None:
    job_id = fan_out(store, 2)
    with store.write() as tx:
        waiting, paused = claim(tx, job_id, 2)
        settle(tx, job_id, [waiting.task_id, paused.task_id], State.PENDING, not_before=tx.now() + 60.0)
        tx.pause_tasks(job_id, 0, spans=((1, 1),), by="me")
    # So it looks when the clock has been set back.
    engine = create_engine(store_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE attempts SET ended_at = ended_at + :step"), {"step": step})
        connection.execute(text("UPDATE tasks SET not_before = not_before + :step"), {"step": step})
    engine.dispose()

    with store.write() as tx:
        tx.lock_jobs([job_id])
        now = tx.now()
        for _ in range(2):
            tx.shorten_leases(longest=15.0)
        tx.resume_tasks(job_id, 0, spans=((1, 1),), begun=True)

    with store.read() as reader:
        found = [
            task.not_before for task in reader.list_tasks(job_id, TaskFilter(stage=0), limit=10, cursor=None).items
        ][1:]
    left = [at - now for at in found if at is not None]
    assert len(left) == 2 and all(one < 1.0 if step else 50.0 < one < 61.0 for one in left)
