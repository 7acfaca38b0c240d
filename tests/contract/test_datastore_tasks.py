"""The suite that every adapter of `Datastore` passes: tasks, attempts, leases, fan-out."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from echelon.controller.core.events import CancelRequested, RetryRequested, TasksCreated, TasksMoved
from echelon.controller.core.machine import step
from echelon.controller.core.model import Tally
from echelon.controller.core.states import State
from echelon.controller.datastore.errors import GuardFailed, StatementRefused
from echelon.controller.datastore.fanout import Expansion
from echelon.controller.datastore.filters import TaskFilter
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import SPAWN_INDEX, NewTask, Settlement
from echelon.shared.ids import TaskId, new_task_ids, new_worker_id
from echelon.shared.messages import AttemptRef, Outcome
from tests.contract.stores import (
    OTHER,
    WORKER,
    card,
    claim,
    fan_out,
    in_line,
    plain_job,
    settle,
    spawn_started,
    start,
    stepped,
    submitted,
)


def test_a_claim_gives_the_lowest_indexes_to_one_worker_and_no_task_twice(store: Datastore) -> None:
    job_id = fan_out(store, 5)

    with store.write() as tx:
        tx.lock_jobs([job_id])
        first = claim(tx, job_id, 2)
        second = claim(tx, job_id, 10, worker=OTHER)
        third = tx.claim_tasks(job_id, 0, spawn=False, count=10, worker=OTHER, lease=15.0)

    assert [(task.index, task.attempt, task.input) for task in first] == [(0, 1, {"n": 0}), (1, 1, {"n": 1})]
    assert [task.index for task in second] == [2, 3, 4]
    assert third == []


def test_a_claim_of_tasks_does_not_take_the_spawn_task_and_the_other_way_round(store: Datastore) -> None:
    job_id = spawn_started(store)

    with store.write() as tx:
        tx.lock_jobs([job_id])
        assert tx.claim_tasks(job_id, 0, spawn=False, count=10, worker=WORKER, lease=15.0) == []
        claimed = tx.claim_tasks(job_id, 0, spawn=True, count=10, worker=WORKER, lease=15.0)

    assert [task.index for task in claimed] == [SPAWN_INDEX]


def test_held_tells_what_a_decision_needs(store: Datastore) -> None:
    job_id = fan_out(store, 2)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        (task,) = claim(tx, job_id, 1)
        (given,) = tx.load_tasks([task.task_id])
        start(tx, job_id, task)

    with store.write() as tx:
        now = tx.now()
        (held,) = tx.load_tasks([task.task_id, TaskId("none")])

    assert (given.shown, given.started_at, held.shown) == (State.QUEUED, None, State.RUNNING)
    assert held.key > 0 and held.started_at is not None and held.started_at <= now
    assert (held.job_id, held.stage, held.index, held.state) == (job_id, 0, 0, State.RUNNING)
    assert (held.attempt, held.failures, held.losses, held.worker) == (1, 0, 0, WORKER)


def test_a_settled_task_shows_how_it_ended(store: Datastore) -> None:
    job_id = fan_out(store, 1)
    with store.write() as tx:
        tx.record_heartbeat(WORKER, card("w1"), running=1)
        tx.lock_jobs([job_id])
        (task,) = claim(tx, job_id)

    with store.write() as tx:
        job = settle(tx, job_id, [task.task_id], exit_code=0, result="räsult\0\ud800")

    assert job.state is State.COMPLETED
    with store.read() as reader:
        view = reader.find_task(task.task_id)
        (attempt,) = reader.list_attempts(task.task_id)
        assert reader.find_task_at(job_id, 0, 0) == view
    assert view is not None
    assert (view.state, view.exit_code, view.result, view.worker) == (State.COMPLETED, 0, "räsult\ufffd\ufffd", "w1")
    assert view.started_at is not None and view.ended_at is not None and view.started_at <= view.ended_at
    assert (attempt.attempt, attempt.outcome, attempt.worker) == (1, Outcome.COMPLETED, "w1")


def test_an_attempt_counts_once(store: Datastore) -> None:
    job_id = fan_out(store, 2)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        first, second = claim(tx, job_id)
        start(tx, job_id, second)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        stale = tx.load_tasks([first.task_id, second.task_id])
    with store.write() as tx:
        settle(tx, job_id, [first.task_id])

    with pytest.raises(GuardFailed), store.write() as tx:
        tx.lock_jobs([job_id])
        tx.settle_attempts([Settlement(task, State.FAILED, Outcome.FAILED) for task in stale])

    with store.read() as reader:
        states = [task.state for task in reader.list_tasks(job_id, TaskFilter(stage=0), limit=10, cursor=None).items]
        assert states == [State.COMPLETED, State.COMPLETED, State.RUNNING]
        assert len(reader.list_attempts(first.task_id)) == 1


@pytest.mark.parametrize("lie", [{"attempt": 2}, {"attempt": 0}, {"worker": OTHER}, {"worker": None}])
def test_an_attempt_that_is_not_the_current_one_of_its_worker_does_not_count(store: Datastore, lie: dict) -> None:
    job_id = fan_out(store, 1)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        (task,) = claim(tx, job_id)

    with pytest.raises(GuardFailed), store.write() as tx:
        tx.lock_jobs([job_id])
        (held,) = tx.load_tasks([task.task_id])
        tx.settle_attempts([Settlement(replace(held, **lie), State.COMPLETED, Outcome.COMPLETED)])


def test_a_retry_waits_until_its_time_and_keeps_every_attempt(store: Datastore) -> None:
    job_id = fan_out(store, 1)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        (task,) = claim(tx, job_id)
    with store.write() as tx:
        settle(tx, job_id, [task.task_id], State.PENDING, not_before=tx.now() + 3600, failure=True, exit_code=3)
        assert tx.find_due(limit=10) == [] and tx.release_due([task.task_id]) == []
        assert tx.claim_tasks(job_id, 0, spawn=False, count=1, worker=WORKER, lease=15.0) == []
    with store.write() as tx:
        tx.lock_jobs([job_id])
        (waiting,) = tx.load_tasks([task.task_id])
    assert (waiting.state, waiting.failures, waiting.losses) == (State.PENDING, 1, 0)


def test_a_retry_whose_time_has_come_is_claimed_as_the_next_attempt(store: Datastore) -> None:
    job_id = fan_out(store, 1)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        (task,) = claim(tx, job_id)
        settle(tx, job_id, [task.task_id], State.PENDING, not_before=tx.now() - 1, loss=True, outcome=Outcome.LOST)

    with store.write() as tx:
        assert tx.find_due(limit=10) == [(job_id, task.task_id)]
        tx.lock_jobs([job_id])
        (released,) = tx.release_due([task.task_id])
        assert tx.release_due([task.task_id]) == []
        stepped(tx, job_id, TasksMoved(0, {(State.PENDING, State.QUEUED): 1}))
        (again,) = claim(tx, job_id, worker=OTHER)
        settle(tx, job_id, [task.task_id])

    assert (released.task_id, released.state, released.losses) == (task.task_id, State.QUEUED, 1)
    assert again.attempt == 2
    with store.read() as reader:
        attempts = reader.list_attempts(task.task_id)
        since = reader.list_attempts_since(job_id, after=0, limit=10)
    assert [(a.attempt, a.outcome) for a in attempts] == [(1, Outcome.LOST), (2, Outcome.COMPLETED)]
    assert [a for _, a in since][1:] == attempts


def test_attempts_are_followed_in_the_order_of_their_end(store: Datastore) -> None:
    job_id = fan_out(store, 3)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tasks = claim(tx, job_id)
    for task in reversed(tasks):
        with store.write() as tx:
            settle(tx, job_id, [task.task_id])

    with store.read() as reader:
        seen = reader.list_attempts_since(job_id, after=0, limit=2)
        seen += reader.list_attempts_since(job_id, after=seen[-1][0], limit=10)
    assert [attempt.index for _, attempt in seen] == [SPAWN_INDEX, 2, 1, 0]


def test_an_index_that_exists_is_refused(store: Datastore) -> None:
    job_id = fan_out(store, 3)

    with pytest.raises(StatementRefused), store.write() as tx:
        tx.lock_jobs([job_id])
        tx.insert_tasks(job_id, 0, [NewTask(new_task_ids(1)[0], 2, State.QUEUED, "work", "default")])


def test_a_task_that_was_refused_from_the_start_is_failed_with_its_reason(store: Datastore) -> None:
    job_id = spawn_started(store, expected=1)
    (task_id,) = new_task_ids(1)

    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.insert_tasks(
            job_id, 0, [NewTask(task_id, 0, State.FAILED, "work", "default", {"n": 1}, error="item 0: no url")]
        )
        stepped(tx, job_id, TasksCreated(0, queued=0, failed=1))

    with store.read() as reader:
        view = reader.find_task(task_id)
    assert view is not None and view.ended_at is not None
    assert (view.state, view.error, view.attempt, view.input) == (State.FAILED, "item 0: no url", 0, {"n": 1})


def test_a_cancel_reaches_every_open_task_and_names_those_that_run(store: Datastore) -> None:
    job_id = fan_out(store, 5)
    with store.write() as tx:
        done, running, waiting, given = claim(tx, job_id, 4)
        start(tx, job_id, running)
        settle(tx, job_id, [done.task_id])
        settle(tx, job_id, [waiting.task_id], State.PENDING, not_before=tx.now() + 3600)

    with store.write() as tx:
        tx.lock_jobs([job_id])
        told = tx.withdraw_tasks(job_id, 0, running=True)
        stepped(tx, job_id, CancelRequested(), carry_out=False)

    assert told == [(WORKER, AttemptRef(running.task_id, 1)), (WORKER, AttemptRef(given.task_id, 1))]
    with store.read() as reader:
        states = [task.state for task in reader.list_tasks(job_id, TaskFilter(stage=0), limit=10, cursor=None).items]
        (stopped,) = reader.list_attempts(running.task_id)
        assert reader.list_attempts(given.task_id) == []
    assert states == [State.COMPLETED] * 2 + [State.CANCELLED] * 4
    assert stopped.outcome is Outcome.STOPPED
    with store.write() as tx:
        tx.lock_jobs([job_id])
        assert tx.claim_tasks(job_id, 0, spawn=False, count=10, worker=WORKER, lease=15.0) == []
        assert in_line(tx, None, limit=10) == []


def test_withdrawing_what_waits_leaves_what_runs(store: Datastore) -> None:
    job_id = fan_out(store, 3)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        (ran,) = claim(tx, job_id, 1)
        start(tx, job_id, ran)
        assert tx.withdraw_tasks(job_id, 0, running=False) == []

    with store.read() as reader:
        states = [
            task.state for task in reader.list_tasks(job_id, TaskFilter(stage=0), limit=10, cursor=None).items[1:]
        ]
    assert states == [State.RUNNING, State.CANCELLED, State.CANCELLED]


def test_a_reopened_stage_runs_again_what_has_not_completed_with_fresh_budgets(store: Datastore) -> None:
    job_id = fan_out(store, 3)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        good, bad = claim(tx, job_id, 2)
        settle(tx, job_id, [good.task_id])
        settle(tx, job_id, [bad.task_id], State.FAILED, failure=True, exit_code=1, error="bad")

    with store.write() as tx:
        job = stepped(tx, job_id, RetryRequested())
        (again, third) = claim(tx, job_id)
        (held,) = tx.load_tasks([bad.task_id])

    assert job.state is State.RUNNING
    assert (again.task_id, again.attempt, third.attempt) == (bad.task_id, 2, 1)
    assert (held.failures, held.losses) == (0, 0)
    with store.read() as reader:
        view = reader.find_task(bad.task_id)
        assert [attempt.error for attempt in reader.list_attempts(bad.task_id)] == ["bad"]
    assert view is not None and view.exit_code is None and view.error is None


def test_a_lease_is_renewed_for_its_worker_and_attempt_alone(store: Datastore) -> None:
    job_id = fan_out(store, 2)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        mine, theirs = claim(tx, job_id, 1) + claim(tx, job_id, 1, worker=OTHER)
    asked = {
        AttemptRef(mine.task_id, 1), AttemptRef(mine.task_id, 2), AttemptRef(theirs.task_id, 1),
        AttemptRef(TaskId("none"), 1),
    }  # fmt: skip

    with store.write() as tx:
        assert tx.renew_leases(WORKER, asked, lease=15.0) == {AttemptRef(mine.task_id, 1)}
        assert tx.renew_leases(WORKER, [], lease=15.0) == set()
        assert tx.renew_leases(new_worker_id(), asked, lease=15.0) == set()


def test_an_attempt_with_a_lease_that_ran_out_is_found_until_it_is_renewed(store: Datastore) -> None:
    job_id = fan_out(store, 3)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        first, second = claim(tx, job_id, 2, lease=-1.0)
        claim(tx, job_id, 1, lease=3600.0)

    with store.write() as tx:
        assert set(tx.find_expired(limit=10)) == {(job_id, first.task_id), (job_id, second.task_id)}
        assert len(tx.find_expired(limit=1)) == 1
        tx.renew_leases(WORKER, [AttemptRef(first.task_id, 1)], lease=15.0)
        assert tx.find_expired(limit=10) == [(job_id, second.task_id)]


def test_what_runs_on_a_worker_is_found(store: Datastore) -> None:
    job_id = fan_out(store, 3)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tasks = claim(tx, job_id, 2)
        claim(tx, job_id, 1, worker=OTHER)

    with store.write() as tx:
        assert tx.running_on([WORKER], limit=10) == [(job_id, task.task_id) for task in tasks]
        assert len(tx.running_on([WORKER, OTHER], limit=10)) == 3
        assert tx.running_on([new_worker_id()], limit=10) == []
        assert tx.running_on([], limit=10) == []


def test_stages_with_something_to_claim_are_listed_oldest_first_by_queue(store: Datastore) -> None:
    first = submitted(store, plain_job(queue="a"))
    second = submitted(store, plain_job(queue="b"))
    third = submitted(store, plain_job(queue="a"))

    with store.write() as tx:
        assert in_line(tx, None, limit=10) == [(first, 0), (second, 0), (third, 0)]
        assert in_line(tx, None, limit=2) == [(first, 0), (second, 0)]
        assert in_line(tx, ["a"], limit=10) == [(first, 0), (third, 0)]
        assert in_line(tx, ["b", "a", "c"], limit=2) == [(first, 0), (second, 0)]
        assert in_line(tx, ["c"], limit=10) == [] == in_line(tx, [], limit=10)
        tx.lock_jobs([first])
        claim(tx, first)
        assert in_line(tx, ["a"], limit=10) == [(third, 0)]


def test_jobs_that_are_not_saved_yet_are_listed_as_they_stand(store: Datastore) -> None:
    first, second = submitted(store, plain_job(stages=2)), submitted(store, plain_job(queue="b"))

    with store.write() as tx:
        queued = tx.lock_jobs([first])[first]
        running, _ = step(queued, TasksMoved(0, {(State.QUEUED, State.RUNNING): 1}))
        assert in_line(tx, None, limit=1, unsaved=[running]) == [(second, 0)]
        assert in_line(tx, ["default"], limit=9, unsaved=[running]) == []
        begun, _ = step(running, TasksMoved(0, {(State.RUNNING, State.COMPLETED): 1}))
        assert in_line(tx, None, limit=9, unsaved=[begun]) == [(second, 0), (first, 1)]
        assert in_line(tx, ["default"], limit=9, unsaved=[begun]) == [(first, 1)]
        assert in_line(tx, ["b"], limit=9, unsaved=[begun]) == [(second, 0)]


def test_a_stage_offers_no_more_than_may_run_at_once(store: Datastore) -> None:
    job_id = fan_out(store, 3, max_parallel=1)

    with store.write() as tx:
        tx.lock_jobs([job_id])
        assert in_line(tx, None, limit=10) == [(job_id, 0)]
        (task,) = claim(tx, job_id, 1)
        assert in_line(tx, None, limit=10) == []
        settle(tx, job_id, [task.task_id])
        assert in_line(tx, None, limit=10) == [(job_id, 0)]


def test_items_become_tasks_in_chunks_until_none_is_left(store: Datastore) -> None:
    job_id = spawn_started(store, expected=4)
    with store.write() as tx:
        assert tx.find_expansions(limit=10) == [Expansion(job_id, 0, "items", 0, 4, 0)]

    for created in (3, 4):
        with store.write() as tx:
            tx.lock_jobs([job_id])
            first = 0 if created == 3 else 3
            tasks = [
                NewTask(task_id, first + place, State.QUEUED, "work", "default")
                for place, task_id in enumerate(new_task_ids(created - first))
            ]
            tx.insert_tasks(job_id, 0, tasks)
            tx.set_expanded(job_id, 0, created=created, offset=created * 10)
            stepped(tx, job_id, TasksCreated(0, queued=len(tasks)))
            left = tx.find_expansions(limit=10)

    assert left == []
    with store.read() as reader:
        view = reader.find_job(job_id)
    assert view is not None and view.stages[0].tally == Tally(queued=4) and view.stages[0].expected == 4


def test_a_half_made_fan_out_is_offered_again_where_it_stopped(store: Datastore) -> None:
    job_id = spawn_started(store, expected=4)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.insert_tasks(job_id, 0, [NewTask(new_task_ids(1)[0], 0, State.QUEUED, "work", "default")])
        tx.set_expanded(job_id, 0, created=1, offset=17)
        stepped(tx, job_id, TasksCreated(0, queued=1))

    with store.write() as tx:
        assert tx.find_expansions(limit=10) == [Expansion(job_id, 0, "items", 1, 4, 17)]
        stepped(tx, job_id, CancelRequested())
        assert tx.find_expansions(limit=10) == []
