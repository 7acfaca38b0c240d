"""The state machine of a job: `step(job, event) -> (job, effects)`.

It sees counts, never single tasks, so its cost follows the stages that run and not their tasks. How it works: the
event changes one stage's counters or marks the job; then `flow.settle_job` asks each running stage whether it is over,
and the job whether its next stages may start, until nothing changes any more. Effects are carried out in the
transaction that saves the job. Late news of an ended job changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from echelon.controller.core import verbs
from echelon.controller.core.effects import Effect, Remember
from echelon.controller.core.events import (
    CancelRequested,
    Event,
    FilesMissing,
    PauseRequested,
    PrioritySet,
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
from echelon.controller.core.flow import Effects, count_outcomes, settle_job
from echelon.controller.core.model import Job, OnError, Stage
from echelon.controller.core.states import ENDED, State


def step(job: Job, event: Event) -> tuple[Job, list[Effect]]:
    """Return the job after an event, and what is to be done about it."""
    effects: Effects = []
    rule: Callable[[Job, Any, Effects], Job] = _RULES[type(event)]
    after = rule(job, event, effects)
    return after, effects


def _apply_together(job: Job, event: Together, effects: Effects) -> Job:
    skipped = [one for one in event.events if isinstance(one, TasksSkipped)]
    if skipped:
        return verbs.skip_tasks(job, skipped, effects)
    return _apply_moves(job, [one for one in event.events if not isinstance(one, TasksSkipped)], effects)


def _apply_moves(job: Job, events: Sequence[TasksMoved | SpawnTaskMoved], effects: Effects) -> Job:
    if job.state in ENDED:
        return job
    for event in events:
        moved = _move_tasks(job, event) if isinstance(event, TasksMoved) else _move_spawn_task(job, event, effects)
        job = _put_stage(job, moved, effects)
    return settle_job(job, effects, rearranged=False)


def _move_tasks(job: Job, event: TasksMoved) -> Stage:
    stage = job.stage(event.stage)
    tally = stage.tally
    failed = 0
    for (source, target), count in event.moves.items():
        tally = tally.move_tasks(source, target, count)
        failed += count if target is State.FAILED else 0
    if event.held:
        tally = replace(tally, held=tally.held + event.held)
    if event.started:
        tally = tally.add_started(event.started)
    return _note_failure(replace(stage, tally=tally), failed, event.error)


def _move_spawn_task(job: Job, event: SpawnTaskMoved, effects: Effects) -> Stage:
    stage = replace(job.stage(event.stage), spawn=event.state, spawn_started=event.started)
    if event.state is State.COMPLETED:
        expected = (event.expected or 0) + stage.added
        effects.append(Remember("tasks_spawned", stage.number, {"tasks": event.expected}))
        stage = replace(stage, expected=expected, spawn_hand=False)
    elif event.state in ENDED:
        stage = replace(stage, expected=stage.tally.total, spawn_hand=event.state is State.CANCELLED)
    return _note_failure(stage, event.state is State.FAILED, event.error)


def _create_tasks(job: Job, event: TasksCreated, effects: Effects) -> Job:
    if job.state in ENDED:
        return job
    stage = job.stage(event.stage)
    tally = stage.tally.add_tasks(State.QUEUED, event.queued).add_tasks(State.FAILED, event.failed)
    job = _put_stage(job, _note_failure(replace(stage, tally=tally), event.failed, event.error), effects)
    return settle_job(job, effects, rearranged=False)


def _note_failure(stage: Stage, failed: int, error: str | None) -> Stage:
    """Return a stage with what a failure means for it."""
    if error and not stage.error:
        stage = replace(stage, error=error)
    if failed and stage.overrun and stage.on_error is not OnError.BLOCK and stage.state is State.RUNNING:
        if stage.max_failed is not None and stage.spawn is not State.FAILED and not stage.failing:
            reason = f"more tasks failed than max_failed: {stage.max_failed} allows"
            stage = replace(stage, error=f"{reason}; the first: {stage.error}" if stage.error else reason)
        stage = replace(stage, failing=True)
    return stage


def _put_stage(job: Job, stage: Stage, effects: Effects) -> Job:
    before = job.stage(stage.number)
    if stage.on_error is OnError.BLOCK and stage.unfit and stage.at_rest and not before.at_rest:
        effects.append(Remember("stage_blocked", stage.number, count_outcomes(stage)))
    return job.with_stage(stage)


_RULES: Mapping[type[Event], Callable[[Job, Any, Effects], Job]] = {
    Submitted: verbs.submit_job,
    TasksMoved: lambda job, event, effects: _apply_moves(job, [event], effects),
    SpawnTaskMoved: lambda job, event, effects: _apply_moves(job, [event], effects),
    Together: _apply_together,
    TasksCreated: _create_tasks,
    # A state that has been told stays; the error stays until the job is retried.
    FilesMissing: lambda job, event, effects: job if job.error else replace(job, error=event.error),
    SpawnTaskHeld: verbs.hold_spawn_task,
    TasksAdded: verbs.add_tasks,
    PauseRequested: verbs.apply_pause,
    ResumeRequested: verbs.apply_resume,
    PrioritySet: verbs.set_priority,
    CancelRequested: verbs.apply_cancel,
    SkipRequested: verbs.apply_skip,
    TasksSkipped: lambda job, event, effects: verbs.skip_tasks(job, [event], effects),
    RetryRequested: verbs.apply_retry,
}
