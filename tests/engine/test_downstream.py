"""A retry that lets later stages run again, and what it says where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.datastore.filters import TaskFilter
from echelon.controller.datastore.records import JobView
from echelon.controller.engine.base.requests import Changed, Choice
from echelon.shared.errors import Conflict
from echelon.shared.ids import JobId
from echelon.shared.messages import Outcome
from tests.engine.house import House, Puppet

CATALOGUE = """
    tasks:
      list: {exec_command: "true"}
      fetch: {input: {n: {source: parameter, type: integer}}, exec_command: "true"}
      merge: {exec_command: "true"}
    jobs:
      merged:
        stages:
        - {name: Fetch, spawn_task: list, task_class: fetch, job_failed_on_error: false}
        - {name: Check, spawn_task: list, task_class: fetch, max_parallel: 9}
        - {name: Merge, task_class: merge}
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path, CATALOGUE)
    yield made
    made.close()


def items(*numbers: int) -> list[object]:
    return [{"n": number} for number in numbers]


def finished(house: House, puppet: Puppet) -> JobId:
    """Return a COMPLETED job whose second task has failed, and whose second stage knows of the other two."""
    job_id = house.submit("merged")
    puppet.finish(puppet.take(), items=items(0, 1, 2))
    for outcome in (Outcome.COMPLETED, Outcome.FAILED, Outcome.COMPLETED):
        puppet.finish(puppet.take(), outcome)
    puppet.finish(puppet.take(), items=items(0, 2))
    puppet.run_all()
    assert house.view(job_id).state is State.COMPLETED
    return job_id


def retry(house: House, job_id: JobId, stage: int | None = None, **more: object) -> Changed:
    choice = Choice(**more)  # type: ignore[arg-type]
    if stage is None:
        return house.jobs.control.change_job(Verb.RETRY, job_id, choice=choice)
    return house.jobs.control.change_stage(Verb.RETRY, job_id, stage, choice=choice)


def states(view: JobView) -> list[str]:
    return [stage.state.value for stage in view.stages]


def listed(house: House, job_id: JobId, stage: int, run: int | None = None) -> list[tuple[int, int, object, str]]:
    """Return (index, run, n, state) of the tasks of a stage but its spawn task."""
    with house.store.read() as reader:
        found = reader.list_tasks(job_id, TaskFilter(stage, run=run), limit=100, cursor=None).items
    return [(one.index, one.run, one.input.get("n"), one.state.value) for one in found if one.index >= 0]


@pytest.mark.parametrize("way", ["job", "stage", "index", "task"])
def test_the_stages_behind_a_retry_run_again_with_the_lists_that_their_spawn_tasks_make_then(
    house: House, way: str
) -> None:
    puppet = Puppet(house)
    job_id = finished(house, puppet)
    if way == "task":
        failed = next(task for task in house.tasks(job_id, 0) if task.state is State.FAILED)
        changed = house.jobs.control.change_task(Verb.RETRY, failed.task_id, downstream=True)
    elif way == "index":
        changed = retry(house, job_id, 0, spans=((1, 1),), downstream=True)
    else:
        changed = retry(house, job_id, 0 if way == "stage" else None, downstream=True)

    assert (changed.tasks, changed.stages, changed.hint) == (1, 2 + (way == "job" or way == "stage"), None)
    assert states(house.view(job_id)) == ["RUNNING", "PENDING", "PENDING"]
    assert [(stage.tally.total, stage.expected) for stage in house.view(job_id).stages] == [(3, 3), (0, None), (1, 1)]
    house.turn()
    puppet.heartbeat()
    puppet.finish(puppet.take())
    grant, spawn = puppet.take()
    assert (grant.stage, spawn.index, spawn.attempt) == (1, -1, 2)
    puppet.finish((grant, spawn), items=items(0, 1, 2))
    firsts = [task.attempt for grant, task in puppet.granted if grant.stage == 1]
    puppet.run_all()

    view = house.view(job_id)
    assert (view.state, [stage.run for stage in view.stages]) == (State.COMPLETED, [1, 2, 1])
    assert firsts == [1, 1, 1]
    assert listed(house, job_id, 1) == listed(house, job_id, 1, 2)
    assert listed(house, job_id, 1) == [(2, 2, 0, "COMPLETED"), (3, 2, 1, "COMPLETED"), (4, 2, 2, "COMPLETED")]
    assert listed(house, job_id, 1, 1) == [(0, 1, 0, "COMPLETED"), (1, 1, 2, "COMPLETED")]
    assert view.stages[1].tally.completed == view.stages[1].tally.total == 3
    merge = house.tasks(job_id, 2)[0]
    assert (merge.state, merge.attempt) == (State.COMPLETED, 2)


def test_a_retry_that_leaves_later_stages_as_they_are_says_so(house: House) -> None:
    puppet = Puppet(house)
    job_id = finished(house, puppet)

    changed = retry(house, job_id)

    assert changed.hint == "2 later stages ran before this and were not run again"
    house.turn()
    puppet.heartbeat()
    puppet.run_all()
    assert house.view(job_id).state is State.COMPLETED
    behind = retry(house, job_id, 0, downstream=True)
    assert (behind.tasks, behind.stages) == (0, 2)
    assert states(house.view(job_id)) == ["COMPLETED", "RUNNING", "PENDING"]


def test_what_people_added_stays_and_runs_again_and_an_earlier_run_is_left_alone(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("merged")
    house.jobs.control.add_tasks(job_id, 1, items(7))
    puppet.finish(puppet.take(), items=items(0))
    puppet.finish(puppet.take())
    puppet.finish(puppet.take(), items=items(1, 2))
    puppet.run_all()
    retry(house, job_id, 0, downstream=True)
    house.turn()
    puppet.heartbeat()
    puppet.finish(puppet.take(), items=items(3))
    puppet.run_all()

    assert listed(house, job_id, 1) == [(0, 2, 7, "COMPLETED"), (3, 2, 3, "COMPLETED")]
    assert listed(house, job_id, 1, 1) == [(1, 1, 1, "COMPLETED"), (2, 1, 2, "COMPLETED")]
    assert house.view(job_id).state is State.COMPLETED
    retry(house, job_id, 1, only_failed=False)
    with house.store.read() as reader:
        left = reader.list_tasks(job_id, TaskFilter(1, run=1), limit=9, cursor=None).items[0]
    assert listed(house, job_id, 1, 1) == [(1, 1, 1, "COMPLETED"), (2, 1, 2, "COMPLETED")]
    assert house.view(job_id).stages[1].tally.queued == 2
    with pytest.raises(Conflict, match="belongs to an earlier run"):
        house.jobs.control.change_task(Verb.RETRY, left.task_id, only_failed=False)


def test_a_later_stage_that_runs_is_not_begun_anew_beside_its_own_attempts(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("merged")
    puppet.finish(puppet.take(), items=items(0, 1))
    puppet.finish(puppet.take(), Outcome.FAILED)
    puppet.finish(puppet.take())
    puppet.finish(puppet.take(), items=items(0))
    held = puppet.take()

    with pytest.raises(Conflict, match=r"stage 1 \(Check\) runs and cannot begin its next run: cancel it first"):
        retry(house, job_id, 0, downstream=True)
    house.jobs.control.change_job(Verb.CANCEL, job_id)
    with pytest.raises(Conflict, match="may still be there: try again in a moment"):
        retry(house, job_id, 0, downstream=True)
    puppet.finish(held, Outcome.STOPPED)

    assert retry(house, job_id, 0, downstream=True).tasks == 1
    assert [stage.run for stage in house.view(job_id).stages] == [1, 2, 1]


def test_a_failure_of_the_spawn_task_in_a_later_run_fails_the_job(house: House) -> None:
    puppet = Puppet(house)
    job_id = finished(house, puppet)
    retry(house, job_id, downstream=True)
    house.turn()
    puppet.heartbeat()
    puppet.finish(puppet.take())
    puppet.finish(puppet.take(), Outcome.SPAWN_INVALID, error="no list")

    assert (house.view(job_id).state, states(house.view(job_id))) == (
        State.FAILED, ["COMPLETED", "FAILED", "CANCELLED"],
    )  # fmt: skip
    retry(house, job_id)
    house.turn()
    puppet.heartbeat()
    puppet.finish(puppet.take(), items=items(4))
    puppet.run_all()
    assert (house.view(job_id).state, listed(house, job_id, 1)) == (State.COMPLETED, [(2, 2, 4, "COMPLETED")])
