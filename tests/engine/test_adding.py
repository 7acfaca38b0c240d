"""Live control: tasks that are added, values that are given anew, what is told of it, and what does not exist."""

from __future__ import annotations

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.engine.base.requests import Choice, Given, InvalidInputs, Submission, Who
from echelon.shared.errors import Conflict, NotFound
from echelon.shared.ids import JobId
from echelon.shared.messages import Outcome
from tests.engine.house import House, Puppet
from tests.engine.jobs import urls

ME = Who("r-1")


def test_tasks_are_added_to_a_stage_that_has_not_begun_or_is_paused(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("two")
    control = house.jobs.control
    added = control.add_tasks(job_id, 1, [{}, {}], who=ME)
    with pytest.raises(Conflict, match="pause it first"):
        control.add_tasks(job_id, 0, [{}])
    control.change_stage(Verb.PAUSE, job_id, 0)
    control.add_tasks(job_id, 0, [{}], paused=True)
    control.change_stage(Verb.RESUME, job_id, 0)
    house.turn()
    assert puppet.run_all() == 1
    control.change_job(Verb.RESUME, job_id, choice=Choice(state=State.PENDING))
    house.turn()
    assert puppet.run_all() == 4

    assert (len(added.task_ids), added.first_index) == (2, 1)
    view = house.view(job_id)
    assert view.state is State.COMPLETED
    assert [stage.tally.completed for stage in view.stages] == [2, 3]


def test_added_items_are_checked_like_spawned_ones_and_secrets_are_sealed(house: House) -> None:
    job_id = house.submit("many")
    with pytest.raises(InvalidInputs) as caught:
        house.jobs.control.add_tasks(job_id, 0, [{"url": "u"}, {"ulr": 1}, 7])
    assert [mistake.pointer for mistake in caught.value.mistakes] == [
        "#/tasks/1/ulr", "#/tasks/1/url", "#/tasks/2",
    ]  # fmt: skip

    house.jobs.control.change_stage(Verb.PAUSE, job_id, 0)
    house.jobs.control.add_tasks(job_id, 0, [{"url": "u", "token": "canary"}])

    (task,) = [task for task in house.tasks(job_id, 0) if task.index >= 0]
    assert task.input["url"] == "u" and "canary" not in str(task.input)


def test_added_tasks_and_spawned_items_make_one_stage(house: House) -> None:
    job_id = house.submit("many")
    house.jobs.control.change_stage(Verb.PAUSE, job_id, 0)
    house.jobs.control.add_tasks(job_id, 0, urls(2))
    house.jobs.control.change_stage(Verb.RESUME, job_id, 0)
    house.turn()
    puppet = Puppet(house)
    puppet.finish(puppet.take(), items=[{"url": f"s{number}"} for number in range(3)])
    puppet.run_all()

    view = house.view(job_id)
    assert (view.state, view.stages[0].tally.completed, view.stages[0].expected) == (State.COMPLETED, 5, 5)
    assert [task.input.get("url") for task in house.tasks(job_id, 0)][1:] == [
        "http://here/0", "http://here/1", "s0", "s1", "s2",
    ]  # fmt: skip


def test_a_job_that_goes_on_needs_its_secrets_anew(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("secret", {"Authorization": ["first"]}, url="u")
    held = puppet.take()
    puppet.finish(held, Outcome.FAILED)
    before = house.view(job_id)
    with pytest.raises(InvalidInputs, match="Authorization"):
        house.jobs.control.change_task(Verb.RETRY, held[1].task_id)
    assert house.view(job_id) == before

    given = Given(headers={"Authorization": ["second"]})
    house.jobs.control.change_task(Verb.RETRY, held[1].task_id, given=given)
    house.turn()

    assert set(puppet.take()[0].sealed) == {"token"}


def test_a_job_that_is_submitted_paused_begins_when_it_is_resumed(house: House) -> None:
    puppet = Puppet(house)
    job_id, _ = house.jobs.submit_job(Submission("one", {}, paused=True, request_id="r-9"))
    house.turn()
    puppet.listen()
    assert (house.view(job_id).state, house.view(job_id).by, puppet.granted) == (State.PENDING, "request r-9", [])

    house.jobs.control.change_job(Verb.RESUME, job_id)
    house.turn()
    puppet.run_all()

    assert house.view(job_id).state is State.COMPLETED


def test_what_does_not_exist_is_not_found(house: House) -> None:
    job_id = house.submit("one")
    control = house.jobs.control
    missing = JobId("00000000-0000-4000-8000-000000000000")
    for ask in (
        lambda: control.change_job(Verb.PAUSE, missing),
        lambda: control.change_stage(Verb.PAUSE, job_id, 5),
        lambda: control.change_task(Verb.PAUSE, missing),  # type: ignore[arg-type]
        lambda: control.add_tasks(job_id, 5, [{}]),
        lambda: control.add_tasks(missing, 0, [{}]),
    ):
        with pytest.raises(NotFound):
            ask()


def test_the_history_tells_who_did_what(house: House) -> None:
    job_id = house.submit("one")
    house.jobs.control.change_stage(Verb.PAUSE, job_id, 0, who=ME)
    house.jobs.control.change_task(Verb.CANCEL, house.tasks(job_id)[0].task_id, who=Who("r-2"))

    with house.store.read() as reader:
        events = reader.list_events(job_id, limit=100, cursor=None).items
    told = {event.kind: event.detail for event in events}
    assert told["stage_paused"] == {"request_id": "r-1"}
    assert told["tasks_cancelled"] == {"tasks": 1, "index": "0", "request_id": "r-2"}
