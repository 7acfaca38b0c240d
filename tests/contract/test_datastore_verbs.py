"""What people do to the tasks of a stage, as the statements of each product do it."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from msgspec.structs import replace
from sqlalchemy import create_engine, text

from echelon.controller.core.events import CancelRequested, PauseRequested, TasksCreated, TasksMoved
from echelon.controller.core.model import OnError
from echelon.controller.core.states import State
from echelon.controller.datastore import migrate as migrations
from echelon.controller.datastore.filters import TaskFilter
from echelon.controller.datastore.open import migrate_datastore, open_datastore
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import SPAWN_ONLY, NewTask, TaskCount, TaskView
from echelon.shared.ids import JobId, new_task_ids
from echelon.shared.messages import AttemptRef, Outcome
from tests.contract.stores import (
    OTHER,
    WORKER,
    claim,
    fan_out,
    plain_job,
    settle,
    spawn_started,
    start,
    stepped,
    submitted,
)

P, Q, R, C, F, X, S = (
    State.PENDING, State.QUEUED, State.RUNNING, State.COMPLETED, State.FAILED, State.CANCELLED, State.SKIPPED,
)  # fmt: skip


def rows(store: Datastore, job_id: JobId) -> list[TaskView]:
    with store.read() as reader:
        found = reader.list_tasks(job_id, TaskFilter(stage=0), limit=500, cursor=None).items
    return [task for task in found if task.index >= 0]


def states(store: Datastore, job_id: JobId) -> list[State]:
    return [task.state for task in rows(store, job_id)]


def test_what_is_paused_is_not_claimed_and_goes_on_where_it_stood(store: Datastore) -> None:
    job_id = fan_out(store, 6)
    with store.write() as tx:
        start(tx, job_id, *claim(tx, job_id, 1))
        now = tx.now()
        tx.pause_tasks(job_id, 0, spans=((0, 2), (4, 4)), by="me")
        stepped(tx, job_id, TasksMoved(0, {(Q, P): 3}, held=3))
        tx.pause_tasks(job_id, 0, spans=((2, 2),), by="somebody else")

    held = rows(store, job_id)
    assert [task.state for task in held] == [R, P, P, Q, P, Q]
    assert [task.by for task in held] == ["me", "me", "me", None, "me", None]
    assert [task.paused_at == now for task in held] == [task.by == "me" for task in held]
    with store.write() as tx:
        assert [task.index for task in claim(tx, job_id, 10)] == [3, 5]
        assert tx.find_due(limit=10) == []
        assert sorted((one.state, one.hand, one.count, one.started) for one in tx.count_tasks(job_id, 0)) == [
            (P, True, 3, False), (R, False, 2, False), (R, True, 1, True),
        ]  # fmt: skip
        tx.resume_tasks(job_id, 0, only=P, begun=True)
        stepped(tx, job_id, TasksMoved(0, {(P, Q): 3}, held=-3))
        assert [task.index for task in claim(tx, job_id, 10)] == [1, 2, 4]
    assert [task.by for task in rows(store, job_id)] == ["me", None, None, None, None, None]


def test_a_stage_that_begins_again_lets_wait_what_may_still_be_there(store: Datastore) -> None:
    job_id = fan_out(store, 3)
    with store.write() as tx:
        _, second = claim(tx, job_id, 2)
        tx.withdraw_tasks(job_id, 0, running=True)
        tx.clear_leases(tx.load_tasks([second.task_id]))
        tx.restore_tasks(job_id, 0, target=P)
        tx.release_tasks(job_id, 0, spawn=False)
        assert tx.wait_for_exit(job_id, 0) == (1, False)
        assert tx.wait_for_exit(job_id, 0) == (0, False)

    assert states(store, job_id) == [P, Q, Q]


def test_a_spawn_task_that_may_still_be_there_is_put_off_by_itself(store: Datastore) -> None:
    job_id = spawn_started(store)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.claim_tasks(job_id, 0, spawn=True, count=1, worker=WORKER, lease=15.0)
        tx.withdraw_tasks(job_id, 0, running=True)
        tx.restore_tasks(job_id, 0, target=Q)
        assert tx.wait_for_exit(job_id, 0) == (0, True)


@pytest.mark.parametrize("begun", [False, True])
def test_what_goes_on_while_its_last_attempt_may_be_there_becomes_due(store: Datastore, begun: bool) -> None:
    job_id = fan_out(store, 1)
    with store.write() as tx:
        (task,) = claim(tx, job_id, 1)
        tx.withdraw_tasks(job_id, 0, running=True)
        tx.restore_tasks(job_id, 0, target=P)
        tx.pause_tasks(job_id, 0, by="me")
        (counted,) = tx.count_tasks(job_id, 0)
        tx.resume_tasks(job_id, 0, begun=begun)
        assert tx.find_due(limit=10) == []
        tx.clear_leases(tx.load_tasks([task.task_id]))

        assert tx.find_due(limit=10) == ([(job_id, task.task_id)] if begun else [])
    assert counted == TaskCount(P, hand=True, waits=True, count=1)
    assert states(store, job_id) == [P]


def test_a_lease_that_is_over_lets_nothing_go_on_but_what_is_due(store: Datastore) -> None:
    job_id = fan_out(store, 1)
    with store.write() as tx:
        (task,) = claim(tx, job_id, 1, lease=-1.0)
        tx.withdraw_tasks(job_id, 0, running=True)
        tx.restore_tasks(job_id, 0, target=Q)
        assert tx.wait_for_exit(job_id, 0) == (1, False)
        assert tx.find_due(limit=10, expire=False) == tx.release_due([task.task_id], expire=False) == []
        assert tx.find_due(limit=10) == [(job_id, task.task_id)]
        assert [held.task_id for held in tx.release_due([task.task_id])] == [task.task_id]
        assert tx.wait_for_exit(job_id, 0) == (0, False)


def test_a_stage_that_begins_releases_what_is_not_paused(store: Datastore) -> None:
    job_id = submitted(store, plain_job(stages=2))
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.insert_tasks(job_id, 1, [NewTask(new_task_ids(1)[0], 1, P, "work", "default", paused_by="me")])
        tx.release_tasks(job_id, 1, spawn=False)

    with store.read() as reader:
        found = reader.list_tasks(job_id, TaskFilter(stage=1), limit=10, cursor=None).items
    assert [(task.state, task.by) for task in found] == [(Q, None), (P, "me")]


def test_a_paused_task_does_not_become_due_and_one_that_goes_on_after_its_time_is_queued(store: Datastore) -> None:
    job_id = fan_out(store, 2)
    with store.write() as tx:
        first, second = claim(tx, job_id, 2)
        tx.pause_tasks(job_id, 0, spans=((0, 0),), by="me")
        settle(tx, job_id, [first.task_id, second.task_id], P, not_before=tx.now() - 1.0)
        stepped(tx, job_id, TasksMoved(0, {}, held=1))

    with store.write() as tx:
        assert tx.find_due(limit=10) == [(job_id, second.task_id)]
        tx.lock_jobs([job_id])
        assert tx.release_due([first.task_id]) == []
        (counted,) = tx.count_tasks(job_id, 0, spans=((0, 0),))
        tx.resume_tasks(job_id, 0, spans=((0, 0),), begun=True)

    assert counted == TaskCount(P, hand=True, waits=False, count=1)
    assert states(store, job_id) == [Q, P]


def test_an_item_that_did_not_fit_is_told_apart_and_never_opened_again(store: Datastore) -> None:
    job_id = spawn_started(store, expected=2, on_error=OnError.IGNORE)
    ids = new_task_ids(2)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        fitting = NewTask(ids[0], 0, Q, "work", "default", {"n": 0})
        tx.insert_tasks(job_id, 0, [fitting, NewTask(ids[1], 1, F, "work", "default", {}, error="it does not fit")])
        stepped(tx, job_id, TasksCreated(0, queued=1, failed=1))
        claim(tx, job_id, 1)
        settle(tx, job_id, [ids[0]], F, error="exit code 1")

    with store.write() as tx:
        tx.lock_jobs([job_id])
        found = sorted(tx.count_tasks(job_id, 0), key=lambda one: one.misfit)
        tx.end_tasks(job_id, 0, S, by="me", spans=((1, 1),))
        (skipped,) = tx.count_tasks(job_id, 0, spans=((1, 1),))
        tx.reopen_tasks(job_id, 0, target=P, sources={F, S})

    assert found == [TaskCount(F, False, False, 1), TaskCount(F, False, False, 1, misfit=True)]
    assert skipped == TaskCount(S, True, False, 1, misfit=True)
    assert [(task.state, task.error) for task in rows(store, job_id)] == [(P, None), (S, "it does not fit")]


def test_who_waits_and_who_is_held_is_found_without_walking_through_a_stage(store: Datastore) -> None:
    job_id = fan_out(store, 4)
    with store.write() as tx:
        now = tx.now()
        killed, failed = claim(tx, job_id, 2)
        # The first one's processes may be there until its lease is over, after the time of the second.
        settle(tx, job_id, [killed.task_id], P, not_before=now, killed=True, outcome=Outcome.KILLED)
        settle(tx, job_id, [failed.task_id], P, not_before=now + 5.0)
        tx.pause_tasks(job_id, 0, spans=((2, 3),), by="me")

    with store.read() as reader:
        first, held = reader.find_next_due(job_id, 0), reader.find_first_paused(job_id, 0)
        told = reader.now()

    assert first is not None and held is not None
    assert (first.task_id, first.due_at) == (failed.task_id, now + 5.0)
    assert (held.index, held.by, held.paused_at) == (2, "me", now)
    assert now <= told < now + 60.0


def test_what_is_left_tells_by_whom_and_whom_to_tell(store: Datastore) -> None:
    job_id = fan_out(store, 5)
    with store.write() as tx:
        (ran,) = claim(tx, job_id, 1)
        start(tx, job_id, ran)
        told = tx.end_tasks(job_id, 0, X, by="me", spans=((0, 1),))
        assert told == [(WORKER, AttemptRef(ran.task_id, 1))]
        assert tx.end_tasks(job_id, 0, S, by="you", spans=((1, 2),), only=X) == []
        tx.withdraw_tasks(job_id, 0, running=True)

    assert [(task.state, task.by) for task in rows(store, job_id)] == [
        (X, "me"), (S, "you"), (X, None), (X, None), (X, None),
    ]  # fmt: skip
    with store.read() as reader:
        (attempt,) = reader.list_attempts(ran.task_id)
    assert attempt.outcome is Outcome.STOPPED
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.restore_tasks(job_id, 0, target=P)
    assert states(store, job_id) == [X, S, P, P, P]


def test_the_first_attempt_of_a_completed_task_stays_readable_when_it_runs_again(store: Datastore) -> None:
    job_id = fan_out(store, 3)
    with store.write() as tx:
        tasks = claim(tx, job_id, 3)
        settle(tx, job_id, [task.task_id for task in tasks], C, result="r")
        tx.reopen_tasks(job_id, 0, target=P, sources={C}, spans=((1, 1),))

    assert states(store, job_id) == [C, P, C]
    with store.read() as reader:
        for task in tasks:
            assert [(one.attempt, one.outcome) for one in reader.list_attempts(task.task_id)] == [
                (1, Outcome.COMPLETED)
            ]


def test_a_spawn_task_is_reopened_with_its_stage_or_alone(store: Datastore) -> None:
    job_id = spawn_started(store)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.end_tasks(job_id, 0, X, by="me", spans=SPAWN_ONLY)
        tx.reopen_tasks(job_id, 0, target=Q, sources=(), spans=(), spawn=True)
        (claimed,) = tx.claim_tasks(job_id, 0, spawn=True, count=1, worker=WORKER, lease=15.0)

    assert (claimed.index, claimed.attempt, claimed.task_class) == (-1, 1, "list")


@pytest.mark.parametrize("told", [False, True])
def test_what_was_ended_while_it_ran_waits_for_its_worker_or_its_lease(store: Datastore, told: bool) -> None:
    job_id = fan_out(store, 2)
    with store.write() as tx:
        (task,) = claim(tx, job_id, 1)
        tx.end_tasks(job_id, 0, X, by="me", spans=((0, 0),))
        (held,) = tx.load_tasks([task.task_id])
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.clear_leases([replace(held, attempt=held.attempt + 1), replace(held, worker=OTHER)])
        if told:
            tx.clear_leases([held])
        tx.reopen_tasks(job_id, 0, target=Q, sources={X}, spans=((0, 0),))
        waits = tx.wait_for_exit(job_id, 0)
        due = tx.find_due(limit=10)

    assert waits == ((0, False) if told else (1, False))
    assert due == []
    assert states(store, job_id) == [Q if told else P, Q]


def test_a_killed_attempt_keeps_its_lease_until_its_end_is_told(store: Datastore) -> None:
    job_id = fan_out(store, 1)
    with store.write() as tx:
        (task,) = claim(tx, job_id, 1)
        settle(tx, job_id, [task.task_id], P, not_before=tx.now() - 1.0, outcome=Outcome.KILLED, killed=True)
        (held,) = tx.load_tasks([task.task_id])
        assert tx.find_due(limit=10) == []
        tx.clear_leases([held])
        assert tx.find_due(limit=10) == [(job_id, task.task_id)]


def test_a_pause_is_told_with_its_beginning_until_it_ends(store: Datastore) -> None:
    job_id = submitted(store, plain_job())
    with store.write() as tx:
        stepped(tx, job_id, PauseRequested("me"))
        stepped(tx, job_id, PauseRequested("me", 0))
        now = tx.now()
    with store.read() as reader:
        view = reader.find_job(job_id)
    assert view is not None
    assert (view.by, view.paused_at, view.stages[0].by, view.stages[0].paused_at) == ("me", now, "me", now)

    with store.write() as tx:
        assert tx.lock_jobs([job_id])[job_id].paused
        stepped(tx, job_id, CancelRequested("you"))

    with store.read() as reader:
        view = reader.find_job(job_id)
    assert view is not None
    assert (view.by, view.paused_at, view.stages[0].by, view.stages[0].paused_at) == ("you", None, "you", None)


def test_ten_thousand_tasks_are_changed_by_one_statement_each_way(store: Datastore) -> None:
    count = 10_000
    job_id = spawn_started(store, expected=count)
    ids = new_task_ids(count)
    with store.write() as tx:
        tx.lock_jobs([job_id])
        tx.insert_tasks(job_id, 0, [NewTask(ids[place], place, Q, "work", "default") for place in range(count)])
    whole = ((0, count),)
    found = []
    for name in ("pause", "resume", "cancel", "retry", "skip"):
        with store.write() as tx:
            tx.lock_jobs([job_id])
            match name:
                case "pause":
                    tx.pause_tasks(job_id, 0, spans=whole, by="me")
                case "resume":
                    tx.resume_tasks(job_id, 0, spans=whole, begun=True)
                case "retry":
                    tx.reopen_tasks(job_id, 0, target=Q, sources={X}, spans=whole)
                case _:
                    tx.end_tasks(job_id, 0, X if name == "cancel" else S, by="me", spans=whole)
            (counted,) = tx.count_tasks(job_id, 0, spans=whole)
            found.append((counted.state, counted.count))

    assert found == [(state, count) for state in (P, Q, X, Q, S)]


def test_jobs_of_the_first_schema_go_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/echelon.db"
    engine = create_engine(url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            text(
                "INSERT INTO jobs (key, job_id, type, state, stage_count, etag, created_at)"
                " VALUES (1, 'j', 'plain', 'RUNNING', 2, 1, 0.0)"
            )
        )
        for number, state, failed, cancelled in ((0, "RUNNING", 1, 2), (1, "PENDING", 0, 0)):
            connection.execute(
                text(
                    "INSERT INTO stages (key, job, number, place, name, source, on_error, task_class, queue, fail_fast,"
                    " state, pending, queued, running, completed, failed, cancelled, skipped, expected, ready,"
                    " claim_queue, unfilled, items_created, items_offset, etag) VALUES (:key, 1, :number, :number, 'n',"
                    " 'fixed', 'fail_job', 'work', 'default', 0, :state, 0, 0, 1, 0, :failed, :cancelled, 0, 4, 0,"
                    " 'default', 0, 0, 0, 1)"
                ),
                {"key": 1 + number, "number": number, "state": state, "failed": failed, "cancelled": cancelled},
            )
    engine.dispose()

    assert migrate_datastore(url) == migrations.HEAD
    store = open_datastore(url)
    with store.write() as tx:
        job = tx.lock_jobs([JobId("j")])[JobId("j")]
    store.close()

    assert [(stage.failing, stage.tally.withdrawn, stage.paused) for stage in job.stages] == [
        (True, 2, False), (False, 0, False),
    ]  # fmt: skip
    assert not job.paused
