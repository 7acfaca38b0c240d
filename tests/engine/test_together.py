"""What happens to several stages of a job at once: none of it is done to what another part of it is about."""

from __future__ import annotations

import pytest

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.engine.base.requests import Changed, Choice, Composition, UnchangedGroup
from echelon.shared.ids import JobId
from echelon.shared.messages import Finished, Grant, GrantedTask, Outcome
from tests.engine.house import House, Puppet

STEP = {"task_class": "step"}
Held = tuple[Grant, GrantedTask]


def composed(house: House, *stages: dict[str, object]) -> JobId:
    """Submit a job of stages and let the engine see it."""
    named = [{"name": f"Stage {number}", "tasks": [STEP], **stage} for number, stage in enumerate(stages)]
    job_id, _ = house.jobs.submit_composition(Composition("together", named))
    house.turn()
    return job_id


def states(house: House, job_id: JobId) -> list[State]:
    return [task.state for task in house.tasks(job_id)]


def ended(held: Held, outcome: Outcome) -> Finished:
    error = None if outcome is Outcome.COMPLETED else f"it {outcome}"
    return Finished(held[0].job_id, held[1].task_id, held[1].attempt, outcome, error=error)


@pytest.mark.parametrize("first", [0, 1])
def test_a_failure_that_is_told_together_with_a_success_of_another_stage_withdraws_no_task_that_is_done(
    house: House, first: int
) -> None:
    puppet = Puppet(house)
    hasty: dict[str, object] = {"order": 1, "fail_fast": True}
    job_id = composed(house, hasty, hasty)
    puppet.listen()
    outcomes = [Outcome.FAILED, Outcome.COMPLETED]
    both = [ended(held, outcomes[(held[0].stage + first) % 2]) for held in puppet.granted]
    puppet.granted.clear()

    puppet.report(finished=tuple(both), room=puppet.room)

    told = [[getattr(stage.tally, state.lower()) for state in State] for stage in house.view(job_id).stages]
    assert told == [[int(state is task.state) for state in State] for task in house.tasks(job_id)]
    assert sorted(states(house, job_id)) == [State.COMPLETED, State.FAILED]
    house.jobs.control.change_job(Verb.RETRY, job_id)
    puppet.heartbeat()
    assert puppet.run_all() == 1
    assert house.view(job_id).state is State.COMPLETED


@pytest.mark.parametrize("paused", ["nothing", "job", "stage in front"])
def test_what_runs_is_repeated_behind_a_stage_that_is_to_run_again_whoever_holds_that_back(
    house: House, paused: str
) -> None:
    puppet = Puppet(house)
    lenient: dict[str, object] = {"order": 0, "tasks": [STEP] * 2, "job_failed_on_error": False}
    job_id = composed(house, lenient, {"order": 1, "tasks": [STEP] * 2}, {"order": 1, "tasks": [STEP] * 3})
    control = house.jobs.control

    def end(stage: int, index: int, outcome: Outcome = Outcome.COMPLETED) -> None:
        puppet.heartbeat()
        puppet.start(*puppet.granted)
        held = next(one for one in puppet.granted if (one[0].stage, one[1].index) == (stage, index))
        puppet.granted.remove(held)
        puppet.finish(held, outcome)

    end(0, 0, Outcome.FAILED)
    end(0, 1)
    end(2, 0)
    if paused == "stage in front":
        control.change_job(Verb.PAUSE, job_id)
        control.change_task(Verb.RETRY, house.tasks(job_id)[0].task_id)
        control.change_stage(Verb.PAUSE, job_id, 0)
        control.change_job(Verb.RESUME, job_id)
    end(1, 0, Outcome.FAILED)
    if paused == "job":
        control.change_job(Verb.PAUSE, job_id)

    if paused == "stage in front":
        changed = control.change_stage(Verb.RETRY, job_id, 1, choice=Choice(only_failed=False))
    else:
        changed = control.change_job(Verb.RETRY, job_id, choice=Choice(spans=((0, 1),), only_failed=False))

    assert changed.tasks >= 2
    assert house.view(job_id).stages[1].state is State.PENDING


@pytest.mark.parametrize(("verb", "state"), [(Verb.SKIP, State.SKIPPED), (Verb.CANCEL, State.CANCELLED)])
def test_the_tasks_of_a_job_that_are_queued_are_chosen_once_and_not_those_that_get_into_line_for_it(
    house: House, verb: Verb, state: State
) -> None:
    lenient: dict[str, object] = {"job_failed_on_error": False}
    job_id = composed(house, lenient, lenient, lenient)

    changed = house.jobs.control.change_job(verb, job_id, choice=Choice(state=State.QUEUED))

    assert changed == Changed(tasks=1)
    assert states(house, job_id) == [state, State.QUEUED, State.PENDING]


def test_all_tasks_of_a_job_that_wait_are_skipped_although_the_first_of_them_let_the_others_into_line(
    house: House,
) -> None:
    job_id = composed(house, {"paused": True}, {}, {"tasks": [STEP, {**STEP, "paused": True}]})

    house.jobs.control.change_stage(Verb.RESUME, job_id, 0, choice=Choice())
    house.jobs.control.change_task(Verb.PAUSE, house.tasks(job_id, 0)[0].task_id)
    changed = house.jobs.control.change_job(Verb.SKIP, job_id, choice=Choice(state=State.PENDING))

    assert changed == Changed(tasks=4)
    assert states(house, job_id) == [State.SKIPPED] * 4
    assert house.view(job_id).state is State.COMPLETED


def test_tasks_of_two_failed_stages_that_are_skipped_in_one_call_let_their_job_go_on(house: House) -> None:
    puppet = Puppet(house)
    job_id = composed(house, {"order": 1}, {"order": 1}, {})
    puppet.listen()
    failed = tuple(ended(held, Outcome.FAILED) for held in puppet.granted)
    puppet.report(finished=failed)
    assert states(house, job_id) == [State.FAILED, State.FAILED, State.CANCELLED]

    changed = house.jobs.control.change_job(Verb.SKIP, job_id, choice=Choice(state=State.FAILED))

    assert changed == Changed(tasks=2)
    assert states(house, job_id) == [State.SKIPPED, State.SKIPPED, State.QUEUED]


@pytest.mark.parametrize("choice", [Choice(), Choice(state=State.RUNNING)])
def test_what_is_killed_of_two_stages_in_one_call_is_told_in_full_although_the_first_fails_their_job(
    house: House, choice: Choice
) -> None:
    puppet = Puppet(house)
    hasty: dict[str, object] = {"order": 1, "fail_fast": True}
    job_id = composed(house, hasty, hasty)
    puppet.listen()
    puppet.start(*puppet.granted)

    changed = house.jobs.control.change_job(Verb.KILL, job_id, choice=choice)

    assert changed == Changed(tasks=2)
    assert (house.view(job_id).state, states(house, job_id)) == (State.FAILED, [State.FAILED, State.FAILED])


def test_who_chooses_what_is_not_there_is_told_so_of_every_stage(house: House) -> None:
    job_id = composed(house, {}, {})

    changed = house.jobs.control.change_job(Verb.KILL, job_id, choice=Choice(spans=((0, 0),)))

    reason = "nothing of it runs"
    assert changed == Changed(
        unchanged=(UnchangedGroup(reason, 1, State.QUEUED), UnchangedGroup(reason, 1, State.PENDING))
    )
