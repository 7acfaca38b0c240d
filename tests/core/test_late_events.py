"""News that come too late, and questions that have no answer: nothing happens, and nothing is told."""

from __future__ import annotations

import pytest

from echelon.controller.catalogue.task_classes import TaskClass
from echelon.controller.core.again import plan_stage_retry
from echelon.controller.core.answers import Kind, Verb, answer_verb
from echelon.controller.core.effects import RestoreTasks
from echelon.controller.core.events import (
    CancelRequested,
    Event,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    SkipRequested,
    SpawnTaskHeld,
    SpawnTaskMoved,
    TasksCreated,
    TasksMoved,
)
from echelon.controller.core.machine import step
from echelon.controller.core.planner import plan_item
from echelon.controller.core.states import State
from tests.core.test_machine import begin, fixed, moved, run, spawning, states

#: What workers and the expander may tell of a job that has ended meanwhile, and what people may still ask of it.
LATE: list[Event] = [
    TasksMoved(0, {(State.RUNNING, State.COMPLETED): 1}),
    SpawnTaskMoved(0, State.COMPLETED, 5),
    TasksCreated(0, queued=5),
    SpawnTaskHeld(0, held=True, state=State.PENDING),
    PauseRequested("me"),
    PauseRequested("me", stage=0),
    ResumeRequested(),
    ResumeRequested(stage=0),
    CancelRequested("me"),
    CancelRequested("me", stage=0),
]


@pytest.mark.parametrize("event", LATE, ids=str)
def test_what_comes_after_the_end_of_a_job_changes_nothing(event: Event) -> None:
    ended = step(begin(spawning(0)), CancelRequested("somebody"))[0]

    assert ended.state is State.CANCELLED
    assert step(ended, event) == (ended, [])


@pytest.mark.parametrize("event", [SkipRequested("me"), SkipRequested("me", stage=0)], ids=str)
def test_what_is_done_is_not_skipped(event: Event) -> None:
    done = run(begin(fixed(0)), 0, State.COMPLETED)

    assert step(done, event) == (done, [])


@pytest.mark.parametrize("event", [PauseRequested("me", stage=0), CancelRequested("me", stage=0)], ids=str)
def test_a_stage_that_has_ended_is_left_as_it_is_while_its_job_goes_on(event: Event) -> None:
    job = run(begin(fixed(0), fixed(1)), 0, State.COMPLETED)

    assert states(job) == [State.COMPLETED, State.RUNNING]
    assert step(job, event) == (job, [])


def test_what_a_failure_withdrew_from_a_stage_that_still_runs_is_put_back_when_that_is_retried() -> None:
    job = moved(begin(fixed(0, order=0), fixed(1, order=0, tasks=3)), 1, State.QUEUED, State.RUNNING)
    failed = run(job, 0, State.FAILED)
    alone = plan_stage_retry(failed.stage(0))
    assert alone is not None
    retried, effects = step(failed, RetryRequested((alone,), whole=False))

    assert failed.stage(1).state is State.RUNNING and failed.stage(1).tally.cancelled == 2
    assert RestoreTasks(1, State.QUEUED) in effects
    assert (retried.stage(1).tally.queued, retried.stage(1).tally.running, retried.stage(1).tally.cancelled) == (
        2,
        1,
        0,
    )
    assert states(retried) == [State.RUNNING, State.RUNNING]


def test_an_item_that_is_gone_says_so() -> None:
    values, why = plan_item(TaskClass("say", exec_command="echo"), None, ())

    assert (values, why) == ({}, "spawn.json does not hold this item any more")


@pytest.mark.parametrize(("kind", "verb"), [(Kind.TASK, Verb.ADD), (Kind.JOB, Verb.ADD), (Kind.TASK, Verb.PRIORITY)])
def test_a_verb_that_a_thing_does_not_know_is_a_mistake_of_whoever_asks(kind: Kind, verb: Verb) -> None:
    with pytest.raises(ValueError, match="means nothing"):
        answer_verb(kind, State.RUNNING, verb)
