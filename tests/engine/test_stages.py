"""Stages and their tasks, on a real store, turned by hand: what users are promised, one sentence a test."""

from __future__ import annotations

import pytest

from echelon.controller.core.states import State
from echelon.shared.messages import Outcome
from tests.engine.house import House, Puppet
from tests.engine.jobs import spawned, urls


def test_a_job_runs_stage_after_stage_and_its_history_says_so(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("two")
    first = puppet.take()

    assert puppet.granted == []
    puppet.finish(first)
    assert [stage.state for stage in house.view(job_id).stages] == [State.COMPLETED, State.RUNNING]
    puppet.finish(puppet.take())

    view = house.view(job_id)
    assert (view.state, view.failed_tasks, view.error) == (State.COMPLETED, 0, None)
    assert house.kinds(job_id) == [
        "job_submitted",
        "job_started",
        "stage_started",
        "stage_completed",
        "stage_started",
        "stage_completed",
        "job_completed",
    ]


def test_all_stages_are_listed_from_the_first_moment_on(house: House) -> None:
    view = house.view(house.submit("many"))

    assert [(stage.name, stage.state, stage.spawn, stage.expected) for stage in view.stages] == [
        ("Fetch", State.RUNNING, State.QUEUED, None),
        ("After", State.PENDING, None, 1),
    ]


def test_a_spawn_task_fans_out_and_every_item_becomes_one_task(house: House) -> None:
    puppet = Puppet(house, room={"*": 5000})
    job_id = spawned(house, puppet, "many", urls(2500))
    house.turn(10)
    counted = puppet.run_all()

    tasks = house.tasks(job_id, 0)
    assert counted == 2501
    assert house.view(job_id).state is State.COMPLETED
    assert house.view(job_id).stages[0].tally.completed == 2500
    assert [task.index for task in tasks[:3]] == [-1, 0, 1]


def test_an_item_stands_over_the_jobs_value_and_a_default_fills_in(house: House) -> None:
    puppet = Puppet(house)
    spawned(house, puppet, "many", [{"url": "a", "size": 7}, {"url": "b"}])
    (grant, first), (_, second) = puppet.granted

    assert first.input == {"url": "a", "size": 7}
    assert grant.input | second.input == {"url": "b", "size": 1, "token": "none"}


def test_an_item_that_does_not_fit_is_a_failed_task_that_says_why_and_the_others_run(house: House) -> None:
    puppet = Puppet(house)
    unread = "spawn.json, line 6, column 2, item 5: NaN is no JSON number"
    items = [{"url": "a"}, {"size": "many"}, {"url": "-rf"}, ["text"], {"urls": 1}, unread, {"url": "b"}]
    job_id = spawned(house, puppet, "lenient", items)
    ran = puppet.run_all()

    tasks = house.tasks(job_id, 0)[1:]
    assert [task.state.value[0] for task in tasks] == ["C", "F", "F", "F", "F", "F", "C"]
    assert "url" in (tasks[1].error or "") and "size" in (tasks[1].error or "")
    assert "-" in (tasks[2].error or "")
    assert "must be an object" in (tasks[3].error or "")
    assert "urls" in (tasks[4].error or "")
    assert tasks[5].error == unread
    assert ran == 3
    assert (house.view(job_id).state, house.view(job_id).failed_tasks) == (State.COMPLETED, 5)


def test_an_item_that_does_not_fit_withdraws_the_others_where_a_failure_fails_the_job(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", [{"url": "a"}, {"wrong": 1}, {"url": "b"}])
    ran = puppet.run_all()

    assert [task.state for task in house.tasks(job_id, 0)[1:]] == [State.CANCELLED, State.FAILED, State.CANCELLED]
    assert (ran, house.view(job_id).state) == (0, State.FAILED)


@pytest.mark.parametrize(("misfits", "expected"), [(1, State.COMPLETED), (2, State.FAILED)])
def test_items_that_do_not_fit_count_as_failed_tasks_of_which_so_many_may_be(
    house: House, misfits: int, expected: State
) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "tolerant", [*urls(4 - misfits), *[{"wrong": 1}] * misfits])
    puppet.run_all()

    view = house.view(job_id)
    assert (view.state, view.failed_tasks, view.stages[0].max_failed) == (expected, misfits, "25%")


def test_an_empty_spawn_file_completes_the_stage(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", [])
    puppet.run_all()

    assert house.view(job_id).state is State.COMPLETED


def test_max_parallel_bounds_what_runs_at_once(house: House) -> None:
    puppet = Puppet(house)
    spawned(house, puppet, "lenient", urls(5))

    assert len(puppet.granted) == 2
    puppet.finish(puppet.take())
    assert len(puppet.granted) == 2


def test_a_failure_fails_the_job_when_its_running_siblings_are_done(house: House) -> None:
    puppet = Puppet(house, room={"*": 2})
    job_id = spawned(house, puppet, "many", urls(5))
    bad, good = puppet.take(), puppet.take()
    puppet.room = {"*": 0}
    puppet.finish(bad, Outcome.FAILED, exit_code=3, error="exit code 3")

    assert house.view(job_id).state is State.RUNNING
    puppet.finish(good)
    view = house.view(job_id)
    assert view.state is State.FAILED
    assert view.stages[0].tally.completed == 1 and view.stages[0].tally.cancelled == 3
    assert view.stages[1].state is State.CANCELLED
    assert "exit code 3" in (view.error or "")


def test_fail_fast_tells_the_workers_of_running_siblings_to_stop(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "hasty", urls(3))
    bad, *others = [puppet.take() for _ in range(3)]
    puppet.finish(bad, Outcome.FAILED)

    assert {(stop.task_id, stop.reason) for stop in puppet.stopped} == {
        (task.task_id, "fail_fast") for _, task in others
    }
    assert house.view(job_id).state is State.FAILED
