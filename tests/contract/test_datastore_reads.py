"""The suite that every adapter of `Datastore` passes: pages, searches, the fleet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from echelon.controller.core.events import CancelRequested
from echelon.controller.core.states import State
from echelon.controller.datastore.errors import GuardFailed
from echelon.controller.datastore.filters import JobFilter, TaskFilter
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import QueueView
from echelon.shared.errors import InvalidInput
from echelon.shared.ids import JobId, TaskId, new_job_id
from tests.contract.stores import OTHER, WORKER, card, claim, fan_out, plain_job, start, stepped, submitted


def test_pages_of_jobs_hold_each_job_once_newest_first(store: Datastore) -> None:
    job_ids = [submitted(store, plain_job(stages=2)) for _ in range(7)]
    late = plain_job()

    with store.read() as reader:
        page = reader.list_jobs(JobFilter(), limit=3, cursor=None)
    with store.write() as tx:
        tx.insert_job(late)
    found = [view.job_id for view in page.items]
    with store.read() as reader:
        while page.next_cursor is not None:
            page = reader.list_jobs(JobFilter(), limit=3, cursor=page.next_cursor)
            found += [view.job_id for view in page.items]
            assert all(len(view.stages) == 2 for view in page.items)

    assert found == job_ids[::-1]


def test_jobs_are_found_by_state_type_and_text(store: Datastore) -> None:
    first = submitted(store, plain_job(values={"url": "http://Example.org/100%_sure"}))
    second = submitted(store, plain_job("other", values={"name": "Ärger", "list": ["x", {"deep": "Tief"}]}))
    with store.write() as tx:
        stepped(tx, second, CancelRequested())

    def found(**wanted: object) -> list[JobId]:
        with store.read() as reader:
            return [view.job_id for view in reader.list_jobs(JobFilter(**wanted), limit=10, cursor=None).items]

    assert found() == [second, first]
    assert found(states=(State.CANCELLED,)) == [second] and found(states=(State.RUNNING,)) == [first]
    assert found(states=(State.CANCELLED, State.RUNNING)) == [second, first]
    assert found(states=(State.CANCELLED, State.FAILED)) == [second]
    assert found(type="other") == [second] and found(type="oth") == []
    assert found(text="example.ORG") == [first] and found(text="100%_s") == [first]
    assert found(text="ärger") == [second] and found(text="tief") == [second] and found(text="OTHER") == [second]
    assert found(text=first[:13]) == [first]
    assert found(text="100_") == [] == found(text="%%") == found(text="' OR 1=1 --") == found(text="\\")
    assert found(text="url") == []


def test_jobs_are_found_by_the_times_of_creation_and_change(store: Datastore) -> None:
    job_ids = [submitted(store, plain_job()) for _ in range(3)]
    first, second, third = job_ids
    with store.read() as reader:
        views = {job_id: reader.find_job(job_id) for job_id in job_ids}
    created = {job_id: view.created_at for job_id, view in views.items() if view is not None}
    with store.write() as tx:
        stepped(tx, first, CancelRequested())

    def found(**wanted: object) -> list[JobId]:
        with store.read() as reader:
            return [view.job_id for view in reader.list_jobs(JobFilter(**wanted), limit=10, cursor=None).items]

    assert found(created_after=created[second]) == [third, second]
    assert found(created_before=created[second]) == [first]
    assert found(created_after=created[second], created_before=created[third]) == [second]
    assert found(updated_after=created[third]) == [third, first]
    assert found(updated_after=created[third], states=(State.RUNNING,)) == [third]
    assert found(oldest_first=True) == job_ids
    assert found(type="plain", oldest_first=True, created_after=created[second]) == [second, third]


@pytest.mark.parametrize("oldest_first", [False, True])
def test_pages_of_jobs_in_several_states_hold_each_job_once(store: Datastore, oldest_first: bool) -> None:
    job_ids = [submitted(store, plain_job()) for _ in range(7)]
    with store.write() as tx:
        for job_id in job_ids[::2]:
            stepped(tx, job_id, CancelRequested())
    wanted = JobFilter(states=(State.RUNNING, State.CANCELLED, State.FAILED), oldest_first=oldest_first)

    found, cursor = [], None
    while True:
        with store.read() as reader:
            page = reader.list_jobs(wanted, limit=2, cursor=cursor)
        found += [view.job_id for view in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert found == (job_ids if oldest_first else job_ids[::-1])


def test_pages_of_tasks_hold_each_task_once_the_spawn_task_first(store: Datastore) -> None:
    job_id = fan_out(store, 7, later_stages=2)

    with store.read() as reader:
        found, cursor = [], None
        while True:
            page = reader.list_tasks(job_id, TaskFilter(), limit=2, cursor=cursor)
            found += [(task.stage, task.index) for task in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        of_stage = reader.list_tasks(job_id, TaskFilter(stage=1), limit=10, cursor=None).items
        queued = reader.list_tasks(job_id, TaskFilter(states=(State.QUEUED,)), limit=100, cursor=None).items
        nothing = reader.list_tasks(job_id, TaskFilter(stage=99), limit=10, cursor=None)
        first = reader.list_tasks(job_id, TaskFilter(stage=1, index=0), limit=10, cursor=None).items
        nowhere = reader.list_tasks(job_id, TaskFilter(index=2**40), limit=10, cursor=None)

    assert found == [(0, index) for index in range(-1, 7)] + [(1, 0), (2, 0)]
    assert [(task.stage, task.index) for task in of_stage] == [(1, 0)]
    assert len(queued) == 7
    assert (nothing.items, nothing.next_cursor) == ([], None)
    assert [(task.stage, task.index) for task in first] == [(1, 0)]
    assert (nowhere.items, nowhere.next_cursor) == ([], None)


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "é", "W10", "WyJ0YXNrcyIsMV0", "WyJ0YXNrcyIsMSw5OTk5OTk5OTk5OTk5OTk5OTk5OV0", "WyJqb2JzIiwiYSJd",
     "WyJqb2JzIiwtMV0", "WyJqb2JzIix0cnVlXQ", "W1tbW1tbW1tb", "A" * 10_000, "\0", "bnVsbA"],
)  # fmt: skip
def test_a_cursor_that_is_not_ours_is_refused(store: Datastore, cursor: str) -> None:
    job_id = submitted(store, plain_job())

    with store.read() as reader:
        lists: list[Callable[[], object]] = [
            lambda: reader.list_jobs(JobFilter(), limit=1, cursor=cursor),
            lambda: reader.list_tasks(job_id, TaskFilter(), limit=1, cursor=cursor),
            lambda: reader.list_events(job_id, limit=1, cursor=cursor),
        ]
        for read in lists:
            with pytest.raises(InvalidInput):
                read()


def test_a_limit_beyond_every_integer_is_only_a_large_page(store: Datastore) -> None:
    job_id = submitted(store, plain_job())

    with store.read() as reader:
        assert len(reader.list_jobs(JobFilter(), limit=10**30, cursor=None).items) == 1
        assert len(reader.list_tasks(job_id, TaskFilter(), limit=10**30, cursor=None).items) == 1


@pytest.mark.parametrize("text", ["\0", "\ud800", "x" * 100_000])
def test_text_that_no_job_can_hold_is_refused(store: Datastore, text: str) -> None:
    with store.read() as reader:
        with pytest.raises(InvalidInput):
            reader.list_jobs(JobFilter(text=text), limit=1, cursor=None)
        with pytest.raises(InvalidInput):
            reader.list_jobs(JobFilter(type=text), limit=1, cursor=None)


def test_ids_are_found_by_their_beginning(store: Datastore) -> None:
    job_id = fan_out(store, 2)
    with store.read() as reader:
        first, second = (
            task.task_id for task in reader.list_tasks(job_id, TaskFilter(), limit=10, cursor=None).items[1:]
        )

    with store.read() as reader:
        assert reader.find_by_prefix(job_id[:8], limit=5) == ([job_id], [])
        assert reader.find_by_prefix(first, limit=5) == ([], [first])
        assert reader.find_by_prefix(first[:-1], limit=5) == ([], [first, second])
        assert reader.find_by_prefix(first[:-1], limit=1) == ([], [first])
        assert reader.find_by_prefix("", limit=5) == ([], []) == reader.find_by_prefix("%", limit=5)


def test_workers_are_up_draining_lost_or_forgotten(store: Datastore) -> None:
    with store.write() as tx:
        tx.record_heartbeat(WORKER, card("b"), running=3)
        tx.record_heartbeat(OTHER, card("a", draining=True), running=0)

    with store.read() as reader:
        assert [(view.name, view.state) for view in reader.list_workers(lost_after=60.0)] == [
            ("a", "DRAINING"),
            ("b", "UP"),
        ]
        assert {view.state for view in reader.list_workers(lost_after=-60.0)} == {"LOST"}
        (_, view) = reader.list_workers(lost_after=60.0)
    assert (view.worker_id, view.running, view.slots) == (WORKER, 3, {"default": 4, "*": 1})
    assert view.containment == "cgroup"
    with store.write() as tx:
        tx.deregister_workers([OTHER])
        tx.prune_workers(older_than=60.0)
    with store.read() as reader:
        assert [view.name for view in reader.list_workers(lost_after=60.0)] == ["b"]
    with store.write() as tx:
        tx.prune_workers(older_than=-60.0)
    with store.read() as reader:
        assert reader.list_workers(lost_after=60.0) == []
    with store.write() as tx:
        tx.record_heartbeat(WORKER, card("b"), running=0)
        tx.record_heartbeat(OTHER, card("a"), running=0)
    with store.read() as reader:
        assert [view.name for view in reader.list_workers(lost_after=60.0)] == ["b"], "a farewell is for good"


def test_it_is_told_which_attempts_each_worker_holds_and_no_more_of_them_than_asked_for(store: Datastore) -> None:
    first, second = fan_out(store, 5), fan_out(store, 3)
    with store.write() as tx:
        tx.record_heartbeat(WORKER, card("b"), running=0)
        tx.record_heartbeat(OTHER, card("a"), running=0)
        mine, (other,), more = claim(tx, first, 3), claim(tx, second, 1, worker=OTHER), claim(tx, second, 2)
        start(tx, first, *mine)
        start(tx, second, other, *more)
        mine += more
        # These wait for a slot.
        assert len(claim(tx, first, 2)) == 2

    with store.read() as reader:
        held = reader.list_attempts_at_work(limit=4)
        assert len(reader.list_attempts_at_work(limit=10)[WORKER]) == 5
    assert [(one.job_id, one.stage, one.index) for one in held[WORKER]] == [
        (first, 0, 0), (first, 0, 1), (first, 0, 2), (second, 0, 1),
    ]  # fmt: skip
    assert [(one.task_id, one.attempt) for one in held[OTHER]] == [(other.task_id, other.attempt)]
    assert [one.task_id for one in held[WORKER]] == [one.task_id for one in mine[:4]]
    assert all(one.started_at for one in held[WORKER])


def test_it_is_told_how_many_attempts_each_worker_holds_per_queue_and_a_killed_one_until_its_lease_is_over(
    store: Datastore,
) -> None:
    alive, dying, over = fan_out(store, 3), fan_out(store, 2), fan_out(store, 2)
    with store.write() as tx:
        tx.record_heartbeat(WORKER, card("b"), running=0)
        tx.record_heartbeat(OTHER, card("a"), running=0)
        claim(tx, alive, 2)
        claim(tx, alive, 1, worker=OTHER)
        claim(tx, dying, 1)
        claim(tx, over, 1, lease=-1.0)
        tx.withdraw_tasks(dying, 0, running=True)
        tx.withdraw_tasks(over, 0, running=True)

    with store.read() as reader:
        assert reader.count_slots_taken() == {WORKER: {"default": 3}, OTHER: {"default": 1}}


def test_what_has_ended_is_held_by_nobody(store: Datastore) -> None:
    job_id = fan_out(store, 2)
    with store.write() as tx:
        tx.record_heartbeat(WORKER, card("b"), running=0)
        claim(tx, job_id, 2)
        stepped(tx, job_id, CancelRequested())

    with store.read() as reader:
        assert reader.list_attempts_at_work(limit=10) == {}


def test_queues_and_counts_tell_what_waits_and_runs(store: Datastore) -> None:
    job_id = fan_out(store, 5, max_parallel=2)
    submitted(store, plain_job(queue="other", stages=2))
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tasks = claim(tx, job_id, 2)
    with store.read() as reader:
        assert reader.count_queues() == [QueueView("default", 5, 0), QueueView("other", 1, 0)]
        assert reader.count_states()["tasks"]["RUNNING"] == 0
        assert reader.list_running(job_id, limit=10) == []
    with store.write() as tx:
        start(tx, job_id, *tasks)

    with store.read() as reader:
        assert reader.count_queues() == [QueueView("default", 3, 2), QueueView("other", 1, 0)]
        counts = reader.count_states()
        assert [task.index for task in reader.list_running(job_id, limit=10)] == [0, 1]
        assert len(reader.list_running(job_id, limit=1)) == 1
    assert counts["jobs"] == {"RUNNING": 2}
    assert counts["tasks"] == {"PENDING": 1, "QUEUED": 4, "RUNNING": 2}


def test_a_look_does_not_change_while_it_lasts(store: Datastore) -> None:
    job_id = fan_out(store, 3)

    with store.read() as reader:
        before = reader.find_job(job_id)
        with store.write() as tx:
            stepped(tx, job_id, CancelRequested())
        during = reader.find_job(job_id)
        tasks = reader.list_tasks(job_id, TaskFilter(), limit=10, cursor=None).items

    assert before == during
    assert {task.state for task in tasks} == {State.COMPLETED, State.QUEUED}


def test_a_look_at_one_job_shows_what_every_other_look_shows(store: Datastore) -> None:
    others = [submitted(store, plain_job(stages=2)), fan_out(store, 3)]
    job_id = submitted(store, plain_job(stages=3, values={"text": "x" * 5000}, sealed={"token": "sealed"}))

    looked = [store.find_job(each) for each in (*others, job_id)]

    with store.read() as reader:
        assert looked == [reader.find_job(each) for each in (*others, job_id)]
        assert looked[::-1] == reader.list_jobs(JobFilter(), limit=10, cursor=None).items
    last = looked[-1]
    assert last is not None and last.input == {"text": "x" * 5000} and last.secret == ["token"]
    assert [stage.number for stage in last.stages] == [0, 1, 2]


def test_a_look_at_one_job_shows_the_last_commit(store: Datastore) -> None:
    job_id = fan_out(store, 3)
    before = store.find_job(job_id)

    with store.write() as tx:
        stepped(tx, job_id, CancelRequested())

    after = store.find_job(job_id)
    assert before is not None and after is not None
    assert (before.state, after.state) == (State.RUNNING, State.CANCELLED)


def test_a_job_that_is_unknown_shows_nothing(store: Datastore) -> None:
    nobody = new_job_id()
    assert store.find_job(nobody) is None
    with store.read() as reader:
        assert reader.find_job(nobody) is None and reader.find_facts(nobody) is None
        assert reader.list_tasks(nobody, TaskFilter(), limit=1, cursor=None).items == []
        assert reader.list_events(nobody, limit=1, cursor=None).items == []
        assert reader.list_running(nobody, limit=1) == [] == reader.list_attempts_since(nobody, after=0, limit=1)
        assert reader.find_task_at(nobody, 0, 0) is None and reader.list_attempts(TaskId("none")) == []


def test_a_change_without_the_jobs_lock_is_refused(store: Datastore) -> None:
    job_id = submitted(store, plain_job())

    with pytest.raises(GuardFailed), store.write() as tx:
        tx.claim_tasks(job_id, 0, spawn=False, count=1, worker=WORKER, lease=1.0)


def test_a_healthy_store_says_so(store: Datastore) -> None:
    store.check()
