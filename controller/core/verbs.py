"""Carries out a person's verbs on a job and its stages: pause, resume, cancel, skip, retry, add.

`answers` says which of them are allowed in which state; callers have asked there. Each changes the job and its
counters, and asks for the rows to follow; `flow` then lets the job go on. Killing is no event of its own: it is the end
of an attempt (`machine`).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from echelon.controller.core.again import plan_job_retry
from echelon.controller.core.effects import BeginRun, RecallTasks, Remember, ReopenTasks, SkipTasks
from echelon.controller.core.events import (
    Again,
    CancelRequested,
    PauseRequested,
    PrioritySet,
    ResumeRequested,
    RetryRequested,
    SkipRequested,
    SpawnTaskHeld,
    Submitted,
    TasksAdded,
    TasksSkipped,
)
from echelon.controller.core.flow import (
    Effects,
    can_return,
    count_outcomes,
    is_cured,
    restore_stage,
    restore_stages,
    settle_job,
    withdraw_stage,
)
from echelon.controller.core.model import Job, Stage, Tally
from echelon.controller.core.states import DONE, ENDED, NOT_DONE, State


def submit_job(job: Job, event: Submitted, effects: Effects) -> Job:
    """Begin a job that was accepted, unless it is to wait for a person."""
    effects.append(Remember("job_submitted"))
    if job.paused:
        effects.append(Remember("job_paused"))
        return job
    return _begin_job(job, effects)


def _begin_job(job: Job, effects: Effects) -> Job:
    effects.append(Remember("job_started"))
    return settle_job(job.in_state(State.RUNNING, by=job.by, error=job.error), effects)


# --- pause and resume


def apply_pause(job: Job, event: PauseRequested, effects: Effects) -> Job:
    """Hold a job back, or one stage."""
    if job.state in ENDED:
        return job
    if event.stage is None:
        effects.append(Remember("job_paused"))
        return settle_job(replace(job, by=event.by), effects)
    stage = job.stage(event.stage)
    if stage.state in ENDED:
        return job
    effects.append(Remember("stage_paused", stage.number))
    if stage.given:
        effects.append(RecallTasks(stage.number))
    return settle_job(job.with_stage(replace(stage, by=event.by)), effects)


def apply_resume(job: Job, event: ResumeRequested, effects: Effects) -> Job:
    """Let a job go on, or one stage."""
    if event.stage is None:
        if not job.paused:
            return job
        effects.append(Remember("job_resumed"))
        job = replace(job, by=None)
        return _begin_job(job, effects) if job.state is State.PENDING else settle_job(job, effects)
    stage = job.stage(event.stage)
    if not stage.paused:
        return job
    effects.append(Remember("stage_resumed", stage.number))
    return settle_job(job.with_stage(replace(stage, by=None)), effects)


def hold_spawn_task(job: Job, event: SpawnTaskHeld, effects: Effects) -> Job:
    """Hold a spawn task back, or let it go on."""
    if job.state in ENDED:
        return job
    stage = replace(job.stage(event.stage), spawn_hand=event.held, spawn=event.state)
    return settle_job(job.with_stage(stage), effects, rearranged=False)


# --- priority


def set_priority(job: Job, event: PrioritySet, effects: Effects) -> Job:
    """Give the tasks of a job, or of one stage, another priority; it stands over those of their classes."""
    stages = job.stages if event.stage is None else (job.stage(event.stage),)
    for stage in stages:
        if stage.state not in ENDED:
            job = job.with_stage(replace(stage, priority=event.priority, spawn_priority=event.priority))
    kind = "job_priority" if event.stage is None else "stage_priority"
    effects.append(Remember(kind, event.stage, {"priority": event.priority}))
    return job


# --- cancel


def apply_cancel(job: Job, event: CancelRequested, effects: Effects) -> Job:
    """End a job for good, or one stage."""
    if job.state in ENDED:
        return job
    before, by = job, event.by
    for stage in job.stages if event.stage is None else (job.stage(event.stage),):
        if stage.state not in ENDED:
            ended = withdraw_stage(stage, effects, running=True, reason="cancelled", state=State.CANCELLED, by=by)
            job = job.with_stage(ended)
    if event.stage is None:
        effects.append(Remember("job_cancelled"))
        return job.in_state(State.CANCELLED, by=by, error=job.error)
    if job is before:
        return job
    effects.append(Remember("stage_cancelled", event.stage, count_outcomes(job.stage(event.stage))))
    return settle_job(job, effects)


# --- skip


def apply_skip(job: Job, event: SkipRequested, effects: Effects) -> Job:
    """Let a job count as done, or one stage: then what comes after it may start, and a FAILED job goes on."""
    if event.stage is not None:
        return _skip_stage(job, job.stage(event.stage), event.by, effects)
    if job.state in DONE:
        return job
    for stage in job.stages:
        if stage.state not in DONE:
            job = job.with_stage(_skip_whole_stage(stage, event.by, effects))
    effects.append(Remember("job_skipped"))
    return job.in_state(State.SKIPPED, by=event.by)


def _skip_stage(job: Job, stage: Stage, by: str, effects: Effects) -> Job:
    if stage.state in DONE:
        return job
    before = job
    stage = _skip_whole_stage(stage, by, effects)
    skipped = Remember("stage_skipped", stage.number, count_outcomes(stage))
    job = job.with_stage(stage)
    if job.state in ENDED and _can_continue(before, job):
        return _continue_job(job, effects, skipped)
    effects.append(skipped)
    return settle_job(restore_stages(job, effects), effects) if job.state not in ENDED else job


def _skip_whole_stage(stage: Stage, by: str, effects: Effects) -> Stage:
    tally = replace(stage.tally.move_all(NOT_DONE, State.SKIPPED), held=0, withdrawn=0)
    spawn = State.SKIPPED if stage.spawn in NOT_DONE else stage.spawn
    effects.append(SkipTasks(stage.number, by))
    return replace(
        stage, state=State.SKIPPED, tally=tally, spawn=spawn, spawn_hand=spawn is State.SKIPPED, by=by, failing=False,
        error=None,
    )  # fmt: skip


def skip_tasks(job: Job, events: Sequence[TasksSkipped], effects: Effects) -> Job:
    """Take in that tasks count as done; where nothing else stands in its way, a stage goes on."""
    before = job
    for event in events:
        stage = job.stage(event.stage)
        job = job.with_stage(_skip_spawn_task(stage) if event.spawn else _count_skipped(stage, event))
    well = [stage for stage in job.stages if stage.number in {event.stage for event in events} and is_cured(stage)]
    for stage in well:
        job = job.with_stage(replace(stage, failing=False, error=None))
    if job.state in ENDED:
        return _continue_ended_job(before, job, [stage.number for stage in well if stage.state not in DONE], effects)
    for stage in well:
        if stage.state in (State.FAILED, State.CANCELLED):
            opened = replace(job.stage(stage.number), state=State.PENDING, by=None)
            job = job.with_stage(restore_stage(opened, effects))
    return settle_job(restore_stages(job, effects), effects)


def _continue_ended_job(before: Job, job: Job, well: Sequence[int], effects: Effects) -> Job:
    """Let an ended job go on when these stages of it are well now and nothing else would end it again."""
    if not well:
        return job
    for number in well:
        # Its other tasks may have to wait for the failures of a stage beside it: nothing of its own is in the way now.
        job = job.with_stage(replace(job.stage(number), by=None))
    return _continue_job(job, effects) if _can_continue(before, job) else job


def _skip_spawn_task(stage: Stage) -> Stage:
    # Its items are unknown, so the stage keeps the tasks that it has.
    return replace(stage, spawn=State.SKIPPED, spawn_hand=True, expected=stage.tally.total)


def _count_skipped(stage: Stage, event: TasksSkipped) -> Stage:
    tally = stage.tally
    for source, count in event.counts.items():
        tally = tally.move_tasks(source, State.SKIPPED, count)
    tally = replace(tally, held=tally.held - event.held, withdrawn=tally.withdrawn - event.withdrawn)
    return replace(stage, tally=tally.add_started(-event.started))


def _can_continue(before: Job, job: Job) -> bool:
    """Tell whether a job that ended of itself has nothing left that would end it the same way again."""
    if before.state not in (State.FAILED, State.CANCELLED) or before.by is not None:
        return False
    return all(can_return(stage) for stage in job.stages if stage.state in (State.FAILED, State.CANCELLED))


def _continue_job(job: Job, effects: Effects, *remembered: Remember) -> Job:
    effects.append(Remember("job_reopened"))
    effects.extend(remembered)
    return settle_job(restore_stages(_reopen_job(job), effects), effects)


def _reopen_job(job: Job) -> Job:
    for stage in job.living:
        job = job.with_stage(replace(stage, failing=False))
    return job.in_state(State.RUNNING)


# --- retry


def apply_retry(job: Job, event: RetryRequested, effects: Effects) -> Job:
    """Let what has ended run again; an ended job opens again, and later stages wait for the earlier ones."""
    wanted = {one.stage: one for one in (plan_job_retry(job) if event.stages is None else event.stages)}
    if not wanted:
        return job
    if job.state in ENDED:
        effects.append(Remember("job_retried" if event.whole else "job_reopened"))
        job = _reopen_job(job)
    order = min(stage.order for stage in job.stages if stage.state not in DONE or stage.number in wanted)
    for number, again in sorted(wanted.items()):
        stage = job.stage(number)
        may_run = stage.order == order and job.state is State.RUNNING and not job.paused
        job = job.with_stage(_run_again(stage, again, effects, may_run=may_run))
    return settle_job(restore_stages(job, effects), effects)


def _run_again(stage: Stage, again: Again, effects: Effects, *, may_run: bool) -> Stage:
    ended = stage.state in ENDED
    if ended:
        stage = replace(
            stage, state=State.RUNNING if may_run else State.PENDING, by=None, blocked=False, failing=False, error=None,
            begun=stage.begun or may_run,
        )  # fmt: skip
    stage = replace(stage, failing=False)
    target = State.QUEUED if stage.state is State.RUNNING else State.PENDING
    if again.anew:
        return _begin_run(stage, target, effects)
    tally, tasks = stage.tally, sum(again.counts.values())
    for source, count in again.counts.items():
        tally = tally.move_tasks(source, target, count)
    stage = replace(stage, tally=replace(tally, withdrawn=tally.withdrawn - again.withdrawn))
    if again.spawn:
        stage = replace(stage, spawn=target, spawn_hand=False, expected=None)
    if is_cured(stage):
        stage = replace(stage, error=None)
    if tasks or again.spawn:
        effects.append(ReopenTasks(stage.number, target, frozenset(again.counts), again.spawn, again.spans))
    if ended and stage.state is State.RUNNING:
        effects.append(Remember("stage_reopened", stage.number, {"tasks": tasks}))
    return restore_stage(stage, effects)


def _begin_run(stage: Stage, target: State, effects: Effects) -> Stage:
    """Return a stage as its spawn task is to find it once more: with what people added to it, and nothing else."""
    shift = stage.next_index - stage.added
    effects.append(BeginRun(stage.number, target, stage.run, shift))
    effects.append(Remember("stage_run_begun", stage.number, {"run": stage.run + 1}))
    return replace(
        stage, run=stage.run + 1, shift=shift, tally=Tally().add_tasks(target, stage.added), spawn=target,
        spawn_hand=False, expected=None, error=None,
    )  # fmt: skip


# --- add


def add_tasks(job: Job, event: TasksAdded, effects: Effects) -> Job:
    """Count tasks that were added by hand."""
    stage = job.stage(event.stage)
    target = State.QUEUED if stage.state is State.RUNNING else State.PENDING
    tally = stage.tally.add_tasks(target, event.count - event.held).add_tasks(State.PENDING, event.held)
    stage = replace(
        stage,
        tally=replace(tally, held=tally.held + event.held),
        added=stage.added + event.count,
        expected=None if stage.expected is None else stage.expected + event.count,
    )
    effects.append(Remember("tasks_added", stage.number, {"tasks": event.count}))
    return settle_job(job.with_stage(stage), effects, rearranged=False)
