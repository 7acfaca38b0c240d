"""The state machine of a job: `step(job, event) -> (job, effects)`.

It sees counts, never single tasks, so its cost follows the stages that run and not their tasks. How it works: the
event changes one stage's counters or marks the job; then `_settle_down` asks each running stage whether it is over, and
the job whether its next stages may start, until nothing changes any more. Effects are carried out in the transaction
that saves the job. Late news of an ended job changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

from controller.core.model import (
    CancelRequested,
    Effect,
    Event,
    Job,
    OnError,
    ReleaseSpawnTask,
    ReleaseTasks,
    Remember,
    ReopenTasks,
    RetryRequested,
    SpawnTaskMoved,
    Stage,
    Submitted,
    TasksCreated,
    TasksMoved,
    WithdrawTasks,
)
from controller.core.states import DONE, ENDED, State

Effects = list[Effect]


def step(job: Job, event: Event) -> tuple[Job, Effects]:
    """Return the job after an event, and what is to be done about it."""
    effects: Effects = []
    return _apply(event, job, effects), effects


@singledispatch
def _apply(event: Event, job: Job, effects: Effects) -> Job:
    raise TypeError(f"no rule for {event!r}")


@_apply.register
def _(event: Submitted, job: Job, effects: Effects) -> Job:
    effects.append(Remember("job_submitted"))
    effects.append(Remember("job_started"))
    return _settle_down(replace(job, state=State.RUNNING), effects)


@_apply.register
def _(event: TasksMoved, job: Job, effects: Effects) -> Job:
    if job.state in ENDED:
        return job
    stage = job.stage(event.stage)
    tally = stage.tally
    for (source, target), count in event.moves.items():
        tally = tally.moved(source, target, count)
    stage = replace(stage, tally=tally, error=stage.error or event.error)
    return _settle_down(job.with_stage(stage), effects)


@_apply.register
def _(event: SpawnTaskMoved, job: Job, effects: Effects) -> Job:
    if job.state in ENDED:
        return job
    stage = job.stage(event.stage)
    stage = replace(stage, spawn=event.state, error=stage.error or event.error)
    if event.state is State.COMPLETED:
        stage = replace(stage, expected=event.expected)
        effects.append(Remember("tasks_spawned", stage.number, {"tasks": event.expected}))
    elif event.state in ENDED:
        stage = replace(stage, expected=0)
    return _settle_down(job.with_stage(stage), effects)


@_apply.register
def _(event: TasksCreated, job: Job, effects: Effects) -> Job:
    if job.state in ENDED:
        return job
    stage = job.stage(event.stage)
    tally = stage.tally.added(State.QUEUED, event.queued).added(State.FAILED, event.failed)
    stage = replace(stage, tally=tally, error=stage.error or event.error)
    return _settle_down(job.with_stage(stage), effects)


@_apply.register
def _(event: CancelRequested, job: Job, effects: Effects) -> Job:
    if job.state in ENDED:
        return job
    for stage in job.stages:
        if stage.state not in ENDED:
            job = job.with_stage(_withdraw(stage, effects, running=True, reason="cancelled", state=State.CANCELLED))
    effects.append(Remember("job_cancelled"))
    return replace(job, state=State.CANCELLED)


@_apply.register
def _(event: RetryRequested, job: Job, effects: Effects) -> Job:
    if job.state not in (State.FAILED, State.CANCELLED):
        return job
    effects.append(Remember("job_retried"))
    begun = min(stage.order for stage in job.stages if stage.state not in DONE)
    for stage in job.stages:
        if stage.state in DONE:
            continue
        # Stages that had not begun go back to waiting; the one that failed goes on where it stopped.
        first = stage.order == begun
        job = job.with_stage(_reopen(stage, effects, running=first))
    return _settle_down(replace(job, state=State.RUNNING, error=None), effects)


def _reopen(stage: Stage, effects: Effects, *, running: bool) -> Stage:
    """Put what failed or was cancelled back in line; a failed spawn task runs again, and its stage is unknown again."""
    target = State.QUEUED if running else State.PENDING
    tally = stage.tally
    again = tally.failed + tally.cancelled
    tally = replace(tally, failed=0, cancelled=0).added(target, again)
    spawn, expected = stage.spawn, stage.expected
    if spawn in (State.FAILED, State.CANCELLED):
        spawn, expected = target, None
    effects.append(ReopenTasks(stage.number, target))
    if running:
        effects.append(Remember("stage_reopened", stage.number, {"tasks": again}))
    state = State.RUNNING if running else State.PENDING
    return replace(stage, state=state, tally=tally, spawn=spawn, expected=expected, error=None)


def _settle_down(job: Job, effects: Effects) -> Job:
    """End stages that are over, then start the next ones or end the job, until nothing changes."""
    while job.state is State.RUNNING:
        before = job
        job = _end_stages(job, effects)
        job = _advance(job, effects)
        if job is before:
            break
    return job


def _end_stages(job: Job, effects: Effects) -> Job:
    failing = any(_fails_job(stage) for stage in job.stages if stage.state in (State.RUNNING, State.FAILED))
    for stage in job.stages:
        if stage.state is not State.RUNNING:
            continue
        after = _fail_stage(stage, effects) if failing else _complete_stage(stage, effects)
        if after is not stage:
            job = job.with_stage(after)
    return job


def _fails_job(stage: Stage) -> bool:
    return stage.on_error is OnError.FAIL_JOB and stage.failures > 0


def _complete_stage(stage: Stage, effects: Effects) -> Stage:
    if stage.spawning or not stage.filled or stage.tally.open:
        return stage
    effects.append(Remember("stage_completed", stage.number, _counts(stage)))
    return replace(stage, state=State.COMPLETED)


def _fail_stage(stage: Stage, effects: Effects) -> Stage:
    """Withdraw what has not started; the stage ends when nothing of it runs any more."""
    reason = "fail_fast" if stage.fail_fast else "job_failed"
    waiting = stage.tally.pending + stage.tally.queued or stage.spawn in (State.PENDING, State.QUEUED)
    running = stage.tally.running or stage.spawn is State.RUNNING
    if waiting or (running and stage.fail_fast):
        stage = _withdraw(stage, effects, running=stage.fail_fast, reason=reason, state=stage.state)
    if stage.tally.running or stage.spawn is State.RUNNING:
        return stage
    # A sibling of equal order that did nothing wrong ends as withdrawn, unless it was complete already.
    if not stage.failures:
        complete = stage.filled and not stage.tally.cancelled and not stage.spawning
        state = State.COMPLETED if complete else State.CANCELLED
    else:
        state = State.FAILED if _fails_job(stage) else State.CANCELLED
    effects.append(Remember(f"stage_{state.lower()}", stage.number, _counts(stage)))
    return replace(stage, state=state)


def _withdraw(stage: Stage, effects: Effects, *, running: bool, reason: str, state: State) -> Stage:
    tally = stage.tally
    gone = tally.pending + tally.queued + (tally.running if running else 0)
    left = 0 if running else tally.running
    tally = replace(tally, pending=0, queued=0, running=left, cancelled=tally.cancelled + gone)
    spawn = stage.spawn
    if spawn in (State.PENDING, State.QUEUED) or (running and spawn is State.RUNNING):
        spawn = State.CANCELLED
    effects.append(WithdrawTasks(stage.number, running=running, reason=reason))
    return replace(stage, state=state, tally=tally, spawn=spawn)


def _advance(job: Job, effects: Effects) -> Job:
    """Start the stages of the next order, or end the job."""
    if any(stage.state is State.RUNNING for stage in job.stages):
        return job
    failed = next((stage for stage in job.stages if stage.state is State.FAILED), None)
    if failed is not None:
        return _fail_job(job, failed, effects)
    orders = job.orders_left()
    if not orders:
        effects.append(Remember("job_completed", detail={"failed_tasks": job.failed_tasks}))
        return replace(job, state=State.COMPLETED)
    for stage in job.stages:
        if stage.order == orders[0] and stage.state is State.PENDING:
            job = job.with_stage(_start(stage, effects))
    return job


def _fail_job(job: Job, failed: Stage, effects: Effects) -> Job:
    for stage in job.stages:
        if stage.state is State.PENDING:
            job = job.with_stage(_withdraw(stage, effects, running=False, reason="job_failed", state=State.CANCELLED))
    error = f"stage {failed.number} ({failed.name}) failed: {failed.error or 'a task failed'}"
    effects.append(Remember("job_failed", failed.number, {"error": error}))
    return replace(job, state=State.FAILED, error=error)


def _start(stage: Stage, effects: Effects) -> Stage:
    effects.append(Remember("stage_started", stage.number, {"name": stage.name}))
    if stage.spawn is State.PENDING:
        effects.append(ReleaseSpawnTask(stage.number))
        return replace(stage, state=State.RUNNING, spawn=State.QUEUED)
    if stage.tally.pending:
        effects.append(ReleaseTasks(stage.number))
        tally = stage.tally.moved(State.PENDING, State.QUEUED, stage.tally.pending)
        stage = replace(stage, tally=tally)
    return replace(stage, state=State.RUNNING)


def _counts(stage: Stage) -> dict[str, object]:
    tally = stage.tally
    return {"completed": tally.completed, "failed": stage.failures, "cancelled": tally.cancelled}
