"""What a retry runs again and what it does not, and that whoever asks for what cannot be is told so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.engine.base.requests import Changed, Choice, Composition, UnchangedGroup
from echelon.shared.errors import Conflict
from echelon.shared.ids import JobId
from echelon.shared.messages import Outcome
from tests.engine.house import House, Puppet
from tests.engine.jobs import spawned, urls

#: The second fits nothing.
ITEMS: list[object] = [{"url": "a"}, {"url": "b", "size": "large"}, {"url": "c"}]
MISFIT = "its item did not fit the task, so there is nothing to run: it can only be skipped"


def states(house: House, job_id: JobId, stage: int = 0) -> list[State]:
    return [task.state for task in house.tasks(job_id, stage) if task.index >= 0]


def with_a_misfit(house: House, puppet: Puppet, type_: str = "many") -> JobId:
    job_id = spawned(house, puppet, type_, ITEMS)
    house.turn()
    puppet.run_all()
    assert house.tasks(job_id, 0)[2].attempt == 0
    return job_id


# --- items that do not fit


@pytest.mark.parametrize("only_failed", [True, False])
def test_an_item_that_did_not_fit_is_not_run_with_defaults_when_it_is_retried(house: House, only_failed: bool) -> None:
    puppet = Puppet(house)
    job_id = with_a_misfit(house, puppet)
    before = house.view(job_id), house.tasks(job_id)

    with pytest.raises(Conflict, match=MISFIT):
        house.jobs.control.change_task(Verb.RETRY, house.tasks(job_id, 0)[2].task_id, only_failed=only_failed)

    assert (house.view(job_id), house.tasks(job_id)) == before


def test_an_item_that_did_not_fit_is_left_out_of_the_retry_of_its_stage_and_told(house: House) -> None:
    puppet = Puppet(house)
    job_id = with_a_misfit(house, puppet)
    assert states(house, job_id) == [State.CANCELLED, State.FAILED, State.CANCELLED]

    changed = house.jobs.control.change_stage(Verb.RETRY, job_id, 0)
    house.turn()
    ran = [task.index for _, task in [puppet.take(), puppet.take()]]

    assert changed == Changed(tasks=2, stages=1, unchanged=(UnchangedGroup(MISFIT, 1, State.FAILED),))
    assert (ran, puppet.granted) == ([0, 2], [])


def test_a_stage_of_which_only_items_have_failed_that_do_not_fit_cannot_be_retried(house: House) -> None:
    puppet = Puppet(house)
    job_id = with_a_misfit(house, puppet)
    house.jobs.control.change_job(Verb.RETRY, job_id)
    house.turn()
    puppet.run_all()
    before = house.view(job_id)
    assert (before.state, states(house, job_id)) == (
        State.FAILED,
        [State.COMPLETED, State.FAILED, State.COMPLETED],
    )

    stage = house.jobs.control.change_stage(Verb.RETRY, job_id, 0)
    with pytest.raises(Conflict, match=r"stage 0 \(Fetch\) is FAILED"):
        house.jobs.control.change_job(Verb.RETRY, job_id)

    assert (stage.tasks, stage.stages) == (0, 0)
    assert stage.unchanged == (
        UnchangedGroup("nothing of it can run again: the item of 1 task did not fit; skip it", 1),
    )
    assert house.view(job_id) == before
    house.jobs.control.change_job(Verb.SKIP, job_id, choice=Choice(state=State.FAILED))
    house.turn()
    puppet.run_all()
    assert house.view(job_id).state is State.COMPLETED


def test_a_skipped_item_that_did_not_fit_stays_skipped(house: House) -> None:
    puppet = Puppet(house)
    job_id = with_a_misfit(house, puppet, "lenient")
    house.jobs.control.change_stage(Verb.SKIP, job_id, 0, choice=Choice(state=State.FAILED))
    misfit = house.tasks(job_id, 0)[2]

    everything = house.jobs.control.change_stage(Verb.RETRY, job_id, 0, choice=Choice(only_failed=False))
    chosen = house.jobs.control.change_stage(Verb.RETRY, job_id, 0, choice=Choice(state=State.SKIPPED))
    with pytest.raises(Conflict, match=MISFIT):
        house.jobs.control.change_task(Verb.RETRY, misfit.task_id)
    named = house.jobs.control.retry_tasks({misfit.task_id: None})

    assert everything == Changed(tasks=2, stages=1, unchanged=(UnchangedGroup(MISFIT, 1, State.SKIPPED),), stale=1)
    assert everything.hint == "1 later stage ran before this and was not run again"
    assert chosen == Changed(unchanged=(UnchangedGroup(MISFIT, 1, State.SKIPPED),))
    assert [(one.changed, one.reason) for one in named.tasks] == [(False, MISFIT)]
    assert states(house, job_id)[1] is State.SKIPPED


# --- stages that wait for an earlier one


def failed_in_the_first_stage(house: House, puppet: Puppet) -> JobId:
    job_id = house.submit("two")
    puppet.finish(puppet.take(), Outcome.FAILED)
    assert [stage.state for stage in house.view(job_id).stages] == [State.FAILED, State.CANCELLED]
    return job_id


def test_a_later_stage_is_not_retried_while_an_earlier_one_has_failed(house: House) -> None:
    job_id = failed_in_the_first_stage(house, Puppet(house))
    before = house.view(job_id), house.tasks(job_id), house.kinds(job_id)
    control, later = house.jobs.control, house.tasks(job_id, 1)[0].task_id
    remedy = r"stage 0 \(One\) is FAILED and comes before it: retry or skip that first"

    with pytest.raises(Conflict, match=f"the stage cannot be retried: {remedy}"):
        control.change_stage(Verb.RETRY, job_id, 1)
    with pytest.raises(Conflict, match=f"the task cannot be retried: {remedy}"):
        control.change_task(Verb.RETRY, later)
    with pytest.raises(Conflict, match=f"the tasks cannot be retried: {remedy}"):
        control.change_stage(Verb.RETRY, job_id, 1, choice=Choice(spans=((0, 0),)))
    named = control.retry_tasks({later: None})

    assert [one.changed for one in named.tasks] == [False] and "comes before it" in str(named.tasks[0].reason)
    assert (house.view(job_id), house.tasks(job_id), house.kinds(job_id)) == before


def test_a_later_stage_is_retried_once_the_earlier_one_is_skipped_or_retried_with_it(house: House) -> None:
    puppet = Puppet(house)
    job_id, other = (failed_in_the_first_stage(house, puppet) for _ in range(2))
    house.jobs.control.change_stage(Verb.SKIP, job_id, 0)
    tasks = [task.task_id for task in house.tasks(other)]
    together = house.jobs.control.retry_tasks(dict.fromkeys(tasks))

    assert house.view(job_id).state is State.RUNNING
    assert [one.changed for one in together.tasks] == [True, True]
    puppet.heartbeat()
    puppet.run_all()
    assert [house.view(one).state for one in (job_id, other)] == [State.COMPLETED, State.COMPLETED]


def failing_while_another_runs(house: House, puppet: Puppet) -> JobId:
    """Return an open job whose first task has failed it while the second one still runs; the third is withdrawn."""
    job_id = spawned(house, puppet, "many", urls(3))
    puppet.room = {}
    first = puppet.take()
    puppet.start(*puppet.granted)
    puppet.finish(first, Outcome.FAILED)
    assert states(house, job_id) == [State.FAILED, State.RUNNING, State.RUNNING]
    return job_id


def test_a_task_that_runs_while_its_stage_fails_runs_again_and_is_not_withdrawn(house: House) -> None:
    puppet = Puppet(house)
    job_id = failing_while_another_runs(house, puppet)
    held = puppet.take()

    changed = house.jobs.control.change_task(Verb.RETRY, held[1].task_id)
    puppet.room = {"*": 9}
    puppet.finish(held, Outcome.STOPPED)
    ran: list[tuple[int, int]] = []
    puppet.run_all(lambda _grant, task: ran.append((task.index, task.attempt)) or Outcome.COMPLETED)  # type: ignore[func-returns-value]

    assert (changed.tasks, sorted(ran)) == (1, [(1, 2), (2, 1)])
    assert (house.view(job_id).state, states(house, job_id)[0]) == (State.FAILED, State.FAILED)


def test_a_stage_beside_one_that_has_failed_its_job_is_refused_while_the_rest_is_waited_for(house: House) -> None:
    puppet = Puppet(house)
    stages = [
        {"name": "Left", "order": 1, "tasks": [{"task_class": "step"}]},
        {"name": "Right", "order": 1, "tasks": [{"task_class": "step"}]},
    ]
    job_id, _ = house.jobs.submit_composition(Composition("pair", stages))
    house.turn()
    left, right = puppet.take(), puppet.take()
    puppet.finish(left, Outcome.FAILED)
    before = house.view(job_id), house.tasks(job_id)
    said = r"stage 0 \(Left\) has failed, and its job ends for it: retry or skip that first"

    with pytest.raises(Conflict, match=f"the task cannot be retried: {said}"):
        house.jobs.control.change_task(Verb.RETRY, right[1].task_id)
    listed = house.jobs.control.retry_tasks({right[1].task_id: None})

    assert [one.changed for one in listed.tasks] == [False]
    assert (house.view(job_id), house.tasks(job_id)) == before
    both = house.jobs.control.retry_tasks({right[1].task_id: None, left[1].task_id: None})
    assert [one.changed for one in both.tasks] == [True, True]


def test_a_stage_whose_end_would_fail_its_job_again_is_refused_with_all_its_tasks_too_and_nothing_is_killed(
    house: House,
) -> None:
    puppet = Puppet(house)
    stages = [
        {"name": "Left", "order": 1, "tasks": [{"task_class": "step"}, {"task_class": "step"}]},
        {"name": "Right", "order": 1, "tasks": [{"task_class": "step"}]},
    ]
    job_id, _ = house.jobs.submit_composition(Composition("pair", stages))
    house.turn()
    puppet.room = {}
    left, sibling, _right = puppet.take(), puppet.take(), puppet.take()
    puppet.finish(left, Outcome.FAILED)
    puppet.finish(sibling)
    before = house.view(job_id), house.tasks(job_id), house.kinds(job_id)
    control, everything = house.jobs.control, Choice(only_failed=False)
    said = r"the stage cannot be retried: stage 0 \(Left\) has failed, and its job ends for it"

    with pytest.raises(Conflict, match=said):
        control.change_stage(Verb.RETRY, job_id, 1, choice=everything)

    assert (house.view(job_id), house.tasks(job_id), house.kinds(job_id)) == before
    changed = control.change_job(Verb.RETRY, job_id, choice=everything)
    assert (changed.tasks, changed.stages, house.view(job_id).state) == (3, 2, State.RUNNING)


@pytest.mark.parametrize("choice", [Choice(only_failed=False), Choice(spans=((0, 9),), only_failed=False)])
def test_all_of_a_job_runs_again_whose_earlier_stage_fails_anew_while_a_later_one_runs(
    house: House, choice: Choice
) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", urls(2))
    while len(puppet.granted) != 1 or puppet.granted[0][0].stage != 1:
        puppet.finish(puppet.take())
    later = puppet.take()
    house.jobs.control.change_stage(Verb.RETRY, job_id, 0, choice=Choice(only_failed=False))
    puppet.heartbeat()
    failed, sibling = puppet.take(), puppet.take()
    puppet.finish(failed, Outcome.FAILED)
    assert [stage.state for stage in house.view(job_id).stages] == [State.RUNNING, State.RUNNING]

    changed = house.jobs.control.change_job(Verb.RETRY, job_id, choice=choice)

    assert (changed.tasks, [stage.state for stage in house.view(job_id).stages]) == (3, [State.RUNNING, State.PENDING])
    for held in (sibling, later):
        puppet.finish(held, Outcome.STOPPED)
    puppet.run_all()
    assert house.view(job_id).state is State.COMPLETED
    assert [task.attempt for task in house.tasks(job_id)] == [1, 3, 3, 2]


def test_a_list_with_a_task_behind_a_failed_stage_is_not_told_as_retried_for_one_before_it(house: House) -> None:
    puppet = Puppet(house)
    tasks = [{"task_class": "step"}]
    job_id, _ = house.jobs.submit_composition(
        Composition("three", [{"name": name, "tasks": tasks} for name in ("A", "B", "C")])
    )
    first, failed, withdrawn = (task.task_id for task in house.tasks(job_id))
    house.jobs.control.change_task(Verb.SKIP, first)
    house.turn()
    puppet.heartbeat()
    puppet.finish(puppet.take(), Outcome.FAILED)
    assert [stage.state for stage in house.view(job_id).stages] == [State.COMPLETED, State.FAILED, State.CANCELLED]
    before = house.view(job_id), house.tasks(job_id), house.kinds(job_id)

    around = house.jobs.control.retry_tasks({first: None, withdrawn: None})

    assert [one.changed for one in around.tasks] == [False, False]
    assert "stage 1 (B) is FAILED and comes before it" in str(around.tasks[1].reason)
    assert (house.view(job_id), house.tasks(job_id), house.kinds(job_id)) == before
    every = house.jobs.control.retry_tasks(dict.fromkeys((first, failed, withdrawn)))
    assert [one.changed for one in every.tasks] == [True, True, True]


# --- a spawn task and tasks of its stage


@pytest.mark.parametrize("only_failed", [True, False])
def test_a_completed_spawn_task_says_how_a_new_list_is_made(house: House, only_failed: bool) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", urls(2))
    puppet.run_all(lambda *_: Outcome.FAILED)
    spawn = house.tasks(job_id, 0)[0]
    told = "its items are tasks already: for a new list retry the stage before it with `downstream`, or submit"

    with pytest.raises(Conflict, match=told):
        house.jobs.control.change_task(Verb.RETRY, spawn.task_id, only_failed=only_failed)
    (listed,) = house.jobs.control.retry_tasks({spawn.task_id: None}).tasks

    assert spawn.index < 0 and not listed.changed and told in str(listed.reason)


def by_state(house: House, job_id: JobId) -> int:
    return house.jobs.control.change_job(Verb.RETRY, job_id, choice=Choice(state=State.CANCELLED)).tasks


def by_list(house: House, job_id: JobId) -> int:
    listed = house.jobs.control.retry_tasks(dict.fromkeys(task.task_id for task in house.tasks(job_id)))
    return sum(one.changed for one in listed.tasks)


@pytest.mark.parametrize("retry", [by_state, by_list])
def test_a_spawn_task_and_tasks_of_its_stage_that_are_retried_together_all_run(
    house: House, retry: Callable[[House, JobId], int]
) -> None:
    job_id, puppet = house.submit("many"), Puppet(house)
    house.jobs.control.change_stage(Verb.PAUSE, job_id, 0)
    house.jobs.control.add_tasks(job_id, 0, urls(2))
    house.jobs.control.change_job(Verb.CANCEL, job_id)
    assert [task.state for task in house.tasks(job_id)] == [State.CANCELLED] * 4
    puppet.finish(puppet.take(), Outcome.STOPPED)

    changed = retry(house, job_id)
    after = [task.state for task in house.tasks(job_id)]
    house.turn()
    puppet.heartbeat()
    puppet.run_all()

    assert (changed, State.CANCELLED in after) == (4, False)
    assert house.view(job_id).state is State.COMPLETED
    assert states(house, job_id) == [State.COMPLETED, State.COMPLETED]


# --- what was skipped


def test_what_a_person_has_skipped_comes_back_only_when_it_is_asked_for(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", urls(4))
    house.jobs.control.change_stage(Verb.SKIP, job_id, 0, choice=Choice(spans=((0, 1),)))
    puppet.run_all(lambda _grant, task: Outcome.FAILED if task.index == 3 else Outcome.COMPLETED)
    assert states(house, job_id) == [State.SKIPPED, State.SKIPPED, State.COMPLETED, State.FAILED]
    control, first = house.jobs.control, house.tasks(job_id, 0)[1].task_id

    whole = control.change_job(Verb.RETRY, job_id)
    ranged = control.change_stage(Verb.RETRY, job_id, 0, choice=Choice(spans=((0, 2),)))
    named = control.change_task(Verb.RETRY, first)
    by_state = control.change_stage(Verb.RETRY, job_id, 0, choice=Choice(state=State.SKIPPED))

    skipped = "it was skipped: name it, ask for the state SKIPPED, or for all"
    assert (whole.tasks, whole.unchanged) == (2, (UnchangedGroup(skipped, 2, State.SKIPPED),))
    assert UnchangedGroup(skipped, 2, State.SKIPPED) in ranged.unchanged and ranged.tasks == 0
    assert (named.tasks, by_state.tasks) == (1, 1)


# --- one by one


def test_fifty_tasks_one_failed_that_one_runs_again_and_the_forty_nine_are_kept(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", urls(50))
    puppet.run_all(lambda _grant, task: Outcome.FAILED if task.index == 17 else Outcome.COMPLETED)
    before = {task.index: task for task in house.tasks(job_id, 0)}
    assert before[17].state is State.FAILED and states(house, job_id).count(State.COMPLETED) == 49

    assert house.jobs.control.change_job(Verb.RETRY, job_id).tasks == 2, "the one, and what comes after it"
    house.turn()
    ran: list[tuple[int, int, int]] = []
    puppet.run_all(lambda grant, task: ran.append((grant.stage, task.index, task.attempt)) or Outcome.COMPLETED)  # type: ignore[func-returns-value]

    assert ran == [(0, 17, 2), (1, 0, 1)]
    after = {task.index: task for task in house.tasks(job_id, 0)}
    assert {index: task for index, task in after.items() if index != 17} == {
        index: task for index, task in before.items() if index != 17
    }
    assert house.view(job_id).state is State.COMPLETED


def test_a_list_of_tasks_is_answered_one_by_one_in_its_order(house: House) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", urls(3))
    puppet.run_all(lambda _grant, task: Outcome.COMPLETED if task.index == 1 else Outcome.FAILED)
    first, done, third = house.tasks(job_id, 0)[1:]

    answer = house.jobs.control.retry_tasks(
        {third.task_id: third.etag, first.task_id: first.etag - 1, done.task_id: None}
    )

    assert [(one.task_id, one.changed) for one in answer.tasks] == [
        (third.task_id, True),
        (first.task_id, False),
        (done.task_id, False),
    ]
    assert [str(one.reason).split(";")[0] for one in answer.tasks[1:]] == [
        "it has changed since it was read",
        "it is COMPLETED already",
    ]
    assert (answer.changed.tasks, sum(left.count for left in answer.changed.unchanged)) == (1, 2)
