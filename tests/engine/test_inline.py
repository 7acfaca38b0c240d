"""Jobs that are composed in a request: planned, checked and run like those of the catalogue."""

from __future__ import annotations

import json

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.engine.base.requests import Composition, InvalidInputs
from echelon.shared.errors import Conflict
from echelon.shared.ids import JobId
from echelon.shared.messages import Grant, GrantedTask, Outcome
from tests.engine.house import House, Make, Puppet
from tests.engine.jobs import CATALOGUE


@pytest.fixture
def free(make: Make) -> House:
    """Give a house where requests may bring commands of their own."""
    return make(CATALOGUE, allow_inline_commands=True)


def mistakes(house: House, stages: object) -> dict[str, str]:
    with pytest.raises(InvalidInputs) as caught:
        house.jobs.submit_composition(Composition("mine", stages))
    return {one.pointer: one.detail for one in caught.value.mistakes}


def test_a_job_by_task_classes_runs_and_each_task_has_its_own_values(house: House) -> None:
    puppet = Puppet(house)
    stages = [
        {
            "name": "Fetch",
            "tasks": [{"task_class": "fetch", "input": {"url": url, "token": "canary"}} for url in "abc"],
        },
        {"name": "After", "tasks": [{"task_class": "step"}, {"task_class": "flaky"}]},
        {"name": "Later", "task_class": "fetch", "tasks": []},
    ]
    job_id, created = house.jobs.submit_composition(Composition("mine", stages, idempotency_key="k"))
    again = house.jobs.submit_composition(Composition("mine", stages, idempotency_key="k"))
    house.turn()
    puppet.listen()

    assert (created, again) == (True, (job_id, False))
    assert [task.input["url"] for _, task in puppet.granted] == ["a", "b", "c"]
    assert "canary" not in str(puppet.granted)
    ran: list[str] = []

    def note(grant: Grant, _task: GrantedTask) -> Outcome:
        ran.append(grant.recipe.task_class)
        return Outcome.COMPLETED

    puppet.run_all(note)
    view = house.view(job_id)
    assert (view.type, view.state) == ("mine", State.COMPLETED)
    assert sorted(ran) == ["fetch", "fetch", "fetch", "flaky", "step"]
    with pytest.raises(Conflict):
        house.jobs.submit_composition(Composition("mine", stages[:1], idempotency_key="k"))


def test_own_commands_run_when_they_are_allowed_and_equal_ones_are_one_class(free: House) -> None:
    puppet = Puppet(free)
    command = {"exec_command": "echo", "exec_args": ["{index}", "a"], "retry": {"limit": 1, "delay": "1s"}}
    stages = [{"tasks": [command, command, {"exec_command": "true"}]}]
    job_id, _ = free.jobs.submit_composition(Composition("mine", stages))
    free.turn()
    puppet.listen()

    assert [(grant.recipe.exec_command, grant.recipe.exec_args) for grant, _ in puppet.granted] == [
        ("echo", ("{index}", "a")), ("echo", ("{index}", "a")), ("true", ()),
    ]  # fmt: skip
    base = free.jobs.current_catalogue().revision
    assert {grant.revision for grant, _ in puppet.granted} == {base}, "its tasks find the files of the catalogue"
    assert free.view(job_id).revision != base
    assert len({grant.recipe.task_class for grant, _ in puppet.granted}) == 2
    free.close()
    reopened = House(free.settings.volume.parent, CATALOGUE)
    try:
        assert reopened.view(job_id).state is State.RUNNING
        assert reopened.jobs.snapshots.find_definition(job_id).stages[0].name == "Stage 0"
    finally:
        reopened.close()


def test_what_a_composed_job_has_brought_along_goes_with_it(free: House) -> None:
    puppet = Puppet(free)
    stages = [{"tasks": [{"exec_command": "echo", "exec_args": ["canary"]}]}]
    (gone, _), (kept, _) = (free.jobs.submit_composition(Composition("mine", stages)) for _ in range(2))
    free.turn()
    puppet.listen()
    puppet.run_all()

    free.jobs.delete_job(gone)

    assert free.jobs.snapshots.find_definition(kept).stages[0].name == "Stage 0"
    assert stored(free, kept) is not None, "one like it has what it runs with"
    free.jobs.delete_job(kept)
    assert stored(free, kept) is None
    free.close()
    assert not [
        path for path in free.settings.volume.parent.rglob("*") if path.is_file() and b"canary" in path.read_bytes()
    ]


def stored(house: House, job_id: JobId) -> str | None:
    """Return what the store holds of the catalogue of a composed job."""
    with house.store.read() as reader:
        return reader.find_definition("none", of=job_id)


def test_own_commands_are_refused_unless_they_are_allowed(house: House) -> None:
    found = mistakes(house, [{"tasks": [{"exec_command": "sh"}]}])

    assert list(found) == ["#/stages/0/tasks/0/exec_command"]
    assert "--allow-inline-commands" in found["#/stages/0/tasks/0/exec_command"]


def test_every_mistake_is_named_with_its_place_in_the_request(free: House) -> None:
    stages = [
        {"tasks": [{"task_class": "fetsch"}, {"task_class": "fetch", "input": {"ulr": 1}}, {}, 7]},
        {"tasks": [{"exec_command": "a", "exec_args": ["{nobody}", 3], "timeout": "long", "evn": {}}]},
        {"order": "x", "on_error": "wait", "task_class": "step", "max_paralel": 2},
        {"tasks": "opn"},
        {"task_class": "fetch"},
        5,
        {"tasks": [{"task_class": "step"}, {"task_class": "encode"}]},
    ]

    found = mistakes(free, stages)

    assert set(found) >= {
        "#/stages/0/tasks/0/task_class",
        "#/stages/0/tasks/1/input/ulr",
        "#/stages/0/tasks/1/input/url",
        "#/stages/0/tasks/2/task_class",
        "#/stages/0/tasks/3",
        "#/stages/1/tasks/0/exec_args/1",
        "#/stages/1/tasks/0/timeout",
        "#/stages/1/tasks/0/evn",
        "#/stages/2/order",
        "#/stages/2/on_error",
        "#/stages/2/max_paralel",
        "#/stages/3/tasks",
        "#/stages/4/task_class/url",
        "#/stages/5",
    }
    assert "did you mean 'fetch'" in found["#/stages/0/tasks/0/task_class"]
    assert not any("inline-" in detail for detail in found.values())


def test_a_placeholder_that_is_no_input_is_a_mistake_in_an_own_command_too(free: House) -> None:
    found = mistakes(free, [{"tasks": [{"exec_command": "echo", "exec_args": ["ok", "{nobody}"]}]}])

    assert list(found) == ["#/stages/0/tasks/0/exec_args/1"]


def test_tasks_of_one_stage_wait_in_one_queue(house: House) -> None:
    found = mistakes(house, [{"tasks": [{"task_class": "step"}, {"task_class": "encode"}]}])

    assert list(found) == ["#/stages/0/tasks/1"]
    assert "transcoding" in found["#/stages/0/tasks/1"]


@pytest.mark.parametrize("stages", [None, [], {}, "x", [{}] * 1001])
def test_what_is_no_list_of_stages_is_refused(house: House, stages: object) -> None:
    assert list(mistakes(house, stages)) == ["#/stages"]


def test_stages_of_equal_order_run_together_and_parts_can_be_created_paused(house: House) -> None:
    puppet = Puppet(house)
    stages = [
        {"name": "a", "order": 5, "tasks": [{"task_class": "step"}, {"task_class": "step", "paused": True}]},
        {"name": "b", "order": 5, "task_class": "step"},
        {"name": "c", "order": 9, "task_class": "step", "paused": True},
    ]
    job_id, _ = house.jobs.submit_composition(Composition("mine", json.loads(json.dumps(stages))))
    house.turn()

    assert puppet.run_all() == 2
    view = house.view(job_id)
    assert [stage.state for stage in view.stages] == [State.RUNNING, State.COMPLETED, State.PENDING]
    task = next(task for task in house.tasks(job_id, 0) if task.by)
    house.jobs.control.change_task(Verb.RESUME, task.task_id)
    house.turn()
    assert puppet.run_all() == 1
    house.jobs.control.change_stage(Verb.RESUME, job_id, 2)
    house.turn()
    assert puppet.run_all() == 1
    assert house.view(job_id).state is State.COMPLETED
