"""The table of verbs and states says what really happens: every pair is tried on a real store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from echelon.controller.core.answers import STATES, VERBS, Allowed, Kind, NoEffect, Refused, Verb, answer_verb
from echelon.controller.core.states import ENDED, State
from echelon.controller.datastore.records import JobView, StageView, TaskView
from echelon.controller.engine.base.requests import Added, Changed, Choice, Submission
from echelon.shared.errors import Conflict
from echelon.shared.ids import JobId, TaskId
from echelon.shared.messages import Outcome
from tests.engine.house import House, Puppet
from tests.engine.jobs import spawned, urls

Bring = Callable[[House, Puppet], JobId]


def begun(house: House, puppet: Puppet) -> JobId:
    """Return a job of whose first stage one task has failed, which is ignored, one runs and two are queued."""
    job_id = house.submit("lenient")
    puppet.finish(puppet.take(), items=urls(4))
    puppet.room = {}
    puppet.finish(puppet.take(), Outcome.FAILED)
    puppet.start(puppet.granted[0])
    return job_id


def paused_from_the_start(house: House, puppet: Puppet) -> JobId:
    return house.jobs.submit_job(Submission("lenient", {}, paused=True))[0]


def completed(house: House, puppet: Puppet) -> JobId:
    job_id = begun(house, puppet)
    puppet.room = {"*": 100}
    puppet.heartbeat()
    puppet.run_all()
    return job_id


def failed(house: House, puppet: Puppet) -> JobId:
    job_id = spawned(house, puppet, "many", urls(2))
    puppet.run_all(lambda _grant, _task: Outcome.FAILED)
    return job_id


def ended_by(verb: Verb) -> Bring:
    def bring(house: House, puppet: Puppet) -> JobId:
        job_id = begun(house, puppet)
        house.jobs.control.change_job(verb, job_id)
        return job_id

    return bring


def stage_ended_by(verb: Verb) -> Bring:
    def bring(house: House, puppet: Puppet) -> JobId:
        job_id = begun(house, puppet)
        house.jobs.control.change_stage(verb, job_id, 0)
        return job_id

    return bring


JOBS: dict[State, Bring] = {
    State.PENDING: paused_from_the_start,
    State.RUNNING: begun,
    State.COMPLETED: completed,
    State.FAILED: failed,
    State.CANCELLED: ended_by(Verb.CANCEL),
    State.SKIPPED: ended_by(Verb.SKIP),
}
#: How a stage comes to a state, and which one it is.
STAGES: dict[State, tuple[Bring, int]] = {
    State.PENDING: (begun, 1),
    State.RUNNING: (begun, 0),
    State.COMPLETED: (completed, 0),
    State.FAILED: (failed, 0),
    State.CANCELLED: (stage_ended_by(Verb.CANCEL), 0),
    State.SKIPPED: (stage_ended_by(Verb.SKIP), 0),
}
#: How a task comes to a state, and where it stands.
TASKS: dict[State, tuple[Bring, int, int]] = {
    State.PENDING: (begun, 1, 0),
    State.QUEUED: (begun, 0, 3),
    State.RUNNING: (begun, 0, 1),
    State.COMPLETED: (completed, 0, 1),
    State.FAILED: (begun, 0, 0),
    State.CANCELLED: (ended_by(Verb.CANCEL), 0, 1),
    State.SKIPPED: (ended_by(Verb.SKIP), 0, 1),
}


def pairs(kind: Kind) -> list[tuple[State, Verb, bool, bool]]:
    """Return every state with every verb; what is open also paused, and a retry also of everything."""
    return [
        (state, verb, paused, everything)
        for state in STATES[kind]
        for verb in VERBS[kind]
        for paused in ((False,) if state in ENDED or (kind, state) == (Kind.JOB, State.PENDING) else (False, True))
        for everything in ((False, True) if verb is Verb.RETRY else (False,))
    ]


#: What a verb is meant for.
Thing = JobView | StageView | TaskView


def shown(house: House, task_id: TaskId) -> TaskView:
    with house.store.read() as reader:
        view = reader.find_task(task_id)
    assert view is not None
    return view


def looked(house: House, job_id: JobId) -> tuple[JobView, list[TaskView], list[str]]:
    return house.view(job_id), house.tasks(job_id), house.kinds(job_id)


def assert_became(verb: Verb, before: Thing, after: Thing) -> None:
    """See that a thing is what a verb makes of it."""
    match verb:
        case Verb.PAUSE:
            # What stands in line is taken out of it.
            assert after.paused_at is not None
            assert after.state is (State.PENDING if before.state is State.QUEUED else before.state)
        case Verb.RESUME:
            assert after.paused_at is None and after.state not in ENDED
        case Verb.CANCEL:
            assert after.state is State.CANCELLED
        case Verb.SKIP:
            assert after.state is State.SKIPPED
        case Verb.RETRY:
            assert after.state not in ENDED
        case Verb.KILL:
            assert running(after) == 0
        case Verb.PRIORITY:
            stages = after.stages if isinstance(after, JobView) else [after]
            open_stages = [one for one in stages if isinstance(one, StageView) and one.state not in ENDED]
            assert open_stages and all((one.priority, one.spawn_priority) == (9, 9) for one in open_stages)
        case Verb.ADD:
            assert isinstance(before, StageView) and isinstance(after, StageView)
            assert after.tally.total == before.tally.total + 1
            # What is paused is given a task that is not started.
            assert after.state is before.state


def running(thing: Thing) -> int:
    if isinstance(thing, TaskView):
        return int(thing.state is State.RUNNING)
    return sum(stage.tally.shown.running for stage in (thing.stages if isinstance(thing, JobView) else [thing]))


def hold_to(
    house: House,
    job_id: JobId,
    said: object,
    act: Callable[[], Changed | Added],
    *,
    verb: Verb,
    of: Callable[[], Thing],
) -> None:
    """Do something and see that it came to what the table says; `of` returns what it is done to."""
    before, thing = looked(house, job_id), of()
    if isinstance(said, Refused):
        with pytest.raises(Conflict, match=said.reason.split(";")[0]):
            act()
        assert looked(house, job_id) == before
        return
    changed = act()
    if isinstance(said, NoEffect):
        assert isinstance(changed, Changed)
        assert (changed.tasks, changed.stages, changed.jobs) == (0, 0, 0)
        assert [left.reason for left in changed.unchanged] == [said.reason]
        assert looked(house, job_id) == before
        return
    assert isinstance(said, Allowed)
    after = looked(house, job_id)
    etags = [sum([view.etag, *(task.etag for task in tasks)]) for view, tasks, _ in (before, after)]
    assert after[:2] != before[:2] and etags[0] < etags[1]
    assert len(after[2]) > len(before[2]), "the history does not tell"
    assert_became(verb, thing, of())


@pytest.mark.parametrize(("state", "verb", "paused", "everything"), pairs(Kind.JOB))
def test_what_happens_to_a_job_is_what_the_table_says(
    house: House, state: State, verb: Verb, paused: bool, everything: bool
) -> None:
    job_id = JOBS[state](house, Puppet(house))
    # A job that has not begun is a paused one.
    held = paused or state is State.PENDING
    if paused:
        house.jobs.control.change_job(Verb.PAUSE, job_id)
    assert house.view(job_id).state is state

    said = answer_verb(Kind.JOB, state, verb, paused=held, everything=everything)

    choice = Choice(only_failed=not everything)
    act: Callable[[], Changed | Added] = partial(house.jobs.control.change_job, verb, job_id, choice=choice)
    if verb is Verb.PRIORITY:
        act = partial(house.jobs.control.set_priority, job_id, 9)
    hold_to(house, job_id, said, act, verb=verb, of=lambda: house.view(job_id))


@pytest.mark.parametrize(("state", "verb", "paused", "everything"), pairs(Kind.STAGE))
def test_what_happens_to_a_stage_is_what_the_table_says(
    house: House, state: State, verb: Verb, paused: bool, everything: bool
) -> None:
    bring, number = STAGES[state]
    job_id = bring(house, Puppet(house))
    control = house.jobs.control
    if paused:
        control.change_stage(Verb.PAUSE, job_id, number)
    assert house.view(job_id).stages[number].state is state

    said = answer_verb(Kind.STAGE, state, verb, paused=paused, everything=everything)

    choice = Choice(only_failed=not everything)
    act: Callable[[], Changed | Added] = partial(control.change_stage, verb, job_id, number, choice=choice)
    if verb is Verb.PRIORITY:
        act = partial(control.set_priority, job_id, 9, stage=number)
    if verb is Verb.ADD:
        act = partial(control.add_tasks, job_id, number, [{} if number else {"url": "u"}])
    hold_to(house, job_id, said, act, verb=verb, of=lambda: house.view(job_id).stages[number])


@pytest.mark.parametrize(("state", "verb", "paused", "everything"), pairs(Kind.TASK))
def test_what_happens_to_a_task_is_what_the_table_says(
    house: House, state: State, verb: Verb, paused: bool, everything: bool
) -> None:
    bring, stage, index = TASKS[state]
    job_id = bring(house, Puppet(house))
    control = house.jobs.control
    (task,) = [one for one in house.tasks(job_id, stage) if one.index == index]
    assert task.state is state
    if paused:
        control.change_task(Verb.PAUSE, task.task_id)
        (task,) = [one for one in house.tasks(job_id, stage) if one.index == index]

    said = answer_verb(Kind.TASK, task.state, verb, paused=paused, everything=everything)

    act = partial(control.change_task, verb, task.task_id, only_failed=not everything)
    hold_to(house, job_id, said, act, verb=verb, of=lambda: shown(house, task.task_id))


@pytest.mark.parametrize("state", [State.FAILED, State.SKIPPED])
@pytest.mark.parametrize("verb", VERBS[Kind.TASK])
def test_what_happens_to_a_task_whose_item_did_not_fit_is_what_the_table_says(
    house: House, state: State, verb: Verb
) -> None:
    job_id = spawned(house, Puppet(house, room={"*": 1}), "lenient", [*urls(1), {"url": "b", "size": "large"}])
    misfit = house.tasks(job_id, 0)[2]
    if state is State.SKIPPED:
        house.jobs.control.change_task(Verb.SKIP, misfit.task_id)
    assert house.tasks(job_id, 0)[2].state is state

    said = answer_verb(Kind.TASK, state, verb, misfit=True)

    act = partial(house.jobs.control.change_task, verb, misfit.task_id)
    hold_to(house, job_id, said, act, verb=verb, of=lambda: shown(house, misfit.task_id))


@pytest.mark.parametrize("choice", [None, Choice(state=State.COMPLETED, only_failed=False)])
def test_a_completed_spawn_task_is_not_run_again_even_when_it_is_named(house: House, choice: Choice | None) -> None:
    puppet = Puppet(house)
    job_id = spawned(house, puppet, "many", urls(1))
    task = house.tasks(job_id, 0)[0]
    if choice is None:
        with pytest.raises(Conflict, match="a completed spawn task is not run again, its items are tasks already"):
            house.jobs.control.change_task(Verb.RETRY, task.task_id, only_failed=False)
    else:
        changed = house.jobs.control.change_stage(Verb.RETRY, job_id, 0, choice=choice)
        assert (changed.tasks, [left.state for left in changed.unchanged]) == (0, [State.COMPLETED])
    house.turn()

    assert house.view(job_id).stages[0].spawn is State.COMPLETED
    puppet.run_all()
    assert house.view(job_id).state is State.COMPLETED
