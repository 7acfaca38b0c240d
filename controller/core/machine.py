"""The state machine of a job: `step(job, event) -> (job, effects)`.

It sees counts, never single tasks, so its cost follows the stages that run and not their tasks. How it works: the
event changes one stage's counters or marks the job; then `flow.settle_down` asks each running stage whether it is over,
and the job whether its next stages may start, until nothing changes any more. Effects are carried out in the
transaction that saves the job. Late news of an ended job changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from echelon.controller.core import verbs
from echelon.controller.core.effects import Effect, Remember
from echelon.controller.core.events import (
    CancelRequested,
    Event,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    SkipRequested,
    SpawnTaskHeld,
    SpawnTaskMoved,
    Submitted,
    TasksAdded,
    TasksCreated,
    TasksMoved,
    TasksSkipped,
    Together,
)
from echelon.controller.core.flow import Effects, counts_of, settle_down
from echelon.controller.core.model import Job, OnError, Stage
from echelon.controller.core.states import ENDED, State


def step(job: Job, event: Event) -> tuple[Job, list[Effect]]:
    """Return the job after an event, and what is to be done about it."""
    effects: Effects = []
    rule: Callable[[Job, Any, Effects], Job] = _RULES[type(event)]
    after = rule(job, event, effects)
    return after, effects


def _take_together(job: Job, event: Together, effects: Effects) -> Job:
    skipped = [one for one in event.events if isinstance(one, TasksSkipped)]
    if skipped:
        return verbs.skip_tasks(job, skipped, effects)
    return _take(job, [one for one in event.events if not isinstance(one, TasksSkipped)], effects)


def _take(job: Job, events: Sequence[TasksMoved | SpawnTaskMoved], effects: Effects) -> Job:
    if job.state in ENDED:
        return job
    for event in events:
        moved = _tasks_moved(job, event) if isinstance(event, TasksMoved) else _spawn_task_moved(job, event, effects)
        job = _counted(job, moved, effects)
    return settle_down(job, effects, rearranged=False)


def _tasks_moved(job: Job, event: TasksMoved) -> Stage:
    stage = job.stage(event.stage)
    tally = stage.tally
    failed = 0
    for (source, target), count in event.moves.items():
        tally = tally.moved(source, target, count)
        failed += count if target is State.FAILED else 0
    if event.held:
        tally = replace(tally, held=tally.held + event.held)
    return _troubled(replace(stage, tally=tally), failed, event.error)


def _spawn_task_moved(job: Job, event: SpawnTaskMoved, effects: Effects) -> Stage:
    stage = replace(job.stage(event.stage), spawn=event.state)
    if event.state is State.COMPLETED:
        expected = (event.expected or 0) + stage.added
        effects.append(Remember("tasks_spawned", stage.number, {"tasks": event.expected}))
        stage = replace(stage, expected=expected, spawn_hand=False)
    elif event.state in ENDED:
        stage = replace(stage, expected=stage.tally.total, spawn_hand=event.state is State.CANCELLED)
    return _troubled(stage, event.state is State.FAILED, event.error)


def _create_tasks(job: Job, event: TasksCreated, effects: Effects) -> Job:
    if job.state in ENDED:
        return job
    stage = job.stage(event.stage)
    tally = stage.tally.added(State.QUEUED, event.queued).added(State.FAILED, event.failed)
    job = _counted(job, _troubled(replace(stage, tally=tally), event.failed, event.error), effects)
    return settle_down(job, effects, rearranged=False)


def _troubled(stage: Stage, failed: int, error: str | None) -> Stage:
    """Return a stage with what a failure means for it."""
    if error and not stage.error:
        stage = replace(stage, error=error)
    if failed and stage.on_error is OnError.FAIL_JOB and stage.state is State.RUNNING:
        stage = replace(stage, failing=True)
    return stage


def _counted(job: Job, stage: Stage, effects: Effects) -> Job:
    before = job.stage(stage.number)
    if stage.on_error is OnError.BLOCK and stage.unfit and stage.at_rest and not before.at_rest:
        effects.append(Remember("stage_blocked", stage.number, counts_of(stage)))
    return job.with_stage(stage)


_RULES: Mapping[type[Event], Callable[[Job, Any, Effects], Job]] = {
    Submitted: verbs.submit,
    TasksMoved: lambda job, event, effects: _take(job, [event], effects),
    SpawnTaskMoved: lambda job, event, effects: _take(job, [event], effects),
    Together: _take_together,
    TasksCreated: _create_tasks,
    SpawnTaskHeld: verbs.hold_spawn_task,
    TasksAdded: verbs.add_tasks,
    PauseRequested: verbs.pause,
    ResumeRequested: verbs.resume,
    CancelRequested: verbs.cancel,
    SkipRequested: verbs.skip,
    TasksSkipped: lambda job, event, effects: verbs.skip_tasks(job, [event], effects),
    RetryRequested: verbs.retry,
}
