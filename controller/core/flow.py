"""How a job moves on by itself: stages end, the next ones start, the job ends.

Nothing here is a person's will (`verbs`) or news of tasks (`machine`); both change the job and then let it settle down.
A paused stage neither starts nor completes; its running tasks go on, and a failure has its consequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from echelon.controller.core.effects import (
    Effect,
    RecallTasks,
    ReleaseSpawnTask,
    ReleaseTasks,
    Remember,
    RestoreTasks,
    WithdrawTasks,
)
from echelon.controller.core.model import Job, OnError, Source, Stage
from echelon.controller.core.states import ENDED, OPEN, State
from echelon.shared.ablation import ablated

Effects = list[Effect]


def settle_job(job: Job, effects: Effects, *, rearranged: bool = True) -> Job:
    """End stages that are over, then start the next ones or end the job, until nothing changes.

    Unless the event has `rearranged` stages, only those that live are looked at as long as none of them ends.
    """
    while job.state is State.RUNNING:
        before = job
        job = _end_stages(job, effects)
        if job is before and not rearranged:
            break
        rearranged = False
        job = _advance_job(job, effects)
        if job is before:
            break
        rearranged = True
    return job


def _end_stages(job: Job, effects: Effects) -> Job:
    living = job.living
    failing = any(stage.failing for stage in living)
    for stage in living:
        if stage.state is not State.RUNNING:
            continue
        if failing:
            after = _fail_stage(stage, effects)
        elif stage.at_rest and not stage.paused and not job.paused:
            after = _end_stage(stage, effects)
        else:
            continue
        if after is not stage:
            job = job.with_stage(after)
    return job


def _end_stage(stage: Stage, effects: Effects) -> Stage:
    """End a stage that is at rest; one that waits for a person stays as it is."""
    if not stage.unfit:
        return _close_stage(stage, State.COMPLETED, effects)
    if stage.on_error is OnError.BLOCK:
        return stage
    return _close_stage(stage, State.FAILED if stage.overrun else State.CANCELLED, effects)


def _fail_stage(stage: Stage, effects: Effects) -> Stage:
    """Withdraw what has not started; the stage ends when nothing of it runs any more."""
    reason = "fail_fast" if stage.fail_fast else "job_failed"
    waiting = stage.tally.pending + stage.tally.queued or stage.spawn in (State.PENDING, State.QUEUED)
    running = stage.tally.running or stage.spawn is State.RUNNING
    if waiting or (running and stage.fail_fast):
        stage = withdraw_stage(stage, effects, running=stage.fail_fast, reason=reason, state=stage.state)
    if stage.tally.running or stage.spawn is State.RUNNING:
        if stage.given:
            effects.append(RecallTasks(stage.number))
        return stage
    # A sibling of equal order that did nothing wrong ends as withdrawn, unless it was complete already.
    if not stage.overrun:
        complete = stage.filled and not stage.tally.cancelled and not stage.spawning
        state = State.COMPLETED if complete else State.CANCELLED
    else:
        state = State.CANCELLED if stage.on_error is OnError.BLOCK else State.FAILED
    return _close_stage(stage, state, effects)


def _close_stage(stage: Stage, state: State, effects: Effects) -> Stage:
    effects.append(Remember(f"stage_{state.lower()}", stage.number, count_outcomes(stage)))
    return replace(stage, state=state, by=None)


def withdraw_stage(
    stage: Stage, effects: Effects, *, running: bool, reason: str, state: State, by: str | None = None
) -> Stage:
    """Cancel what has not started, and with `running` what runs; `by` is the person who wants it."""
    gone = OPEN if running else OPEN - {State.RUNNING}
    tally = stage.tally.move_all(gone, State.CANCELLED)
    withdrawn = tally.withdrawn + (tally.cancelled - stage.tally.cancelled if by is None else 0)
    if stage.spawn in gone:
        stage = replace(stage, spawn=State.CANCELLED, spawn_hand=by is not None)
    effects.append(WithdrawTasks(stage.number, running=running, reason=reason, by=by))
    return replace(stage, state=state, tally=replace(tally, held=0, withdrawn=withdrawn), by=by)


class _Situation(msgspec.Struct, frozen=True):
    """The facts that decide how a job moves on; `front` are the stages whose turn it is."""

    job: Job
    front: list[Stage]
    failing: bool

    @property
    def ready(self) -> list[Stage]:
        """Return the stages that may start now."""
        if self.job.paused or self.failing:
            return []
        return [stage for stage in self.front if stage.state is State.PENDING and not stage.paused]

    @property
    def running(self) -> bool:
        """Tell whether a stage runs."""
        return any(stage.state is State.RUNNING for stage in self.job.living)

    @property
    def blocked_front(self) -> list[Stage]:
        """Return the front if all of it has ended, although later stages run."""
        ended = all(stage.state in ENDED for stage in self.front)
        return self.front if ended and self.running and not self.failing else []

    @property
    def failed(self) -> Stage | None:
        """Return the stage whose failure ends the job."""
        found = {stage.number: stage for stage in (*self.job.living, *self.front) if stage.state is State.FAILED}
        return min(found.values(), key=lambda stage: stage.number, default=None)

    @property
    def cancelled(self) -> Stage | None:
        """Return the cancelled stage that ends the job: nothing of its order may start any more."""
        if any(stage.state is State.PENDING for stage in self.front):
            return None
        return next((stage for stage in self.front if stage.state is State.CANCELLED), None)


def _advance_job(job: Job, effects: Effects) -> Job:
    """Take the first move of `_MOVES` whose condition holds; stay if none does."""
    front = [job.stages[number] for _, number in job.ahead] if ablated("stage_order") else job.front
    if front:
        job = _block_stages(job, front[0].order, effects)
    now = _Situation(job, front, any(stage.failing for stage in job.living))
    for _, find, move in _MOVES:
        found = find(now)
        if found:
            return move(job, found, effects)
    return job


def _keep_job(job: Job, found: object, effects: Effects) -> Job:
    return job


def _complete_job(job: Job, found: object, effects: Effects) -> Job:
    effects.append(Remember("job_completed", detail={"failed_tasks": job.failed_tasks}))
    return job.in_state(State.COMPLETED, error=job.error)


def _start_stages(job: Job, ready: Sequence[Stage], effects: Effects) -> Job:
    for stage in ready:
        job = job.with_stage(_start_stage(stage, effects))
    return job


def _fail_front(job: Job, front: Sequence[Stage], effects: Effects) -> Job:
    """Let a front that has ended badly, since it was opened again, end the later stages that had begun already."""
    return job.with_stage(replace(front[0], failing=True))


def _block_stages(job: Job, order: int, effects: Effects) -> Job:
    """Let nothing start in stages that run although it is not their turn any more, or the job is paused."""
    for stage in job.living:
        early = stage.order > order and not ablated("stage_block")
        blocked = stage.state is State.RUNNING and (job.paused or early)
        if blocked is not stage.blocked:
            job = job.with_stage(replace(stage, blocked=blocked))
            if blocked and stage.given:
                effects.append(RecallTasks(stage.number))
    return job


def _end_job(job: Job, cause: Stage, effects: Effects) -> Job:
    """End a job as one of its stages has ended, FAILED or CANCELLED, and withdraw the stages that have not started."""
    reason = f"job_{cause.state.lower()}"
    for stage in job.stages:
        if stage.state is State.PENDING:
            job = job.with_stage(withdraw_stage(stage, effects, running=False, reason=reason, state=State.CANCELLED))
    what = f"failed: {cause.error or 'a task failed'}" if cause.state is State.FAILED else "was cancelled"
    error = f"stage {cause.number} ({cause.name}) {what}"
    effects.append(Remember(reason, cause.number, {"error": error}))
    return job.in_state(cause.state, error=error)


#: How a job moves on, in order: the first move that finds something is taken, with what it has found.
_MOVES: Sequence[tuple[str, Callable[[_Situation], object], Callable[[Job, Any, Effects], Job]]] = (
    ("a paused job does not complete", lambda now: not now.front and now.job.paused, _keep_job),
    ("all stages are done", lambda now: not now.front, _complete_job),
    ("stages may start", lambda now: now.ready, _start_stages),
    ("later stages run behind a failed front", lambda now: now.blocked_front, _fail_front),
    ("stages run", lambda now: now.running, _keep_job),
    ("a stage has failed", lambda now: now.failed, _end_job),
    ("a stage was cancelled", lambda now: now.cancelled, _end_job),
)


def _start_stage(stage: Stage, effects: Effects) -> Stage:
    effects.append(Remember("stage_started", stage.number, {"name": stage.name}))
    again = stage.begun
    stage = replace(stage, state=State.RUNNING, blocked=False, begun=True)
    if stage.spawn is State.PENDING and not stage.spawn_hand:
        effects.append(ReleaseSpawnTask(stage.number, again))
        stage = replace(stage, spawn=State.QUEUED)
    free = stage.tally.pending - stage.tally.held
    if free:
        effects.append(ReleaseTasks(stage.number, again))
        stage = replace(stage, tally=stage.tally.move_tasks(State.PENDING, State.QUEUED, free))
    return stage


def restore_stages(job: Job, effects: Effects) -> Job:
    """Put back in line what was withdrawn when a failure ended everything, once nothing fails any more."""
    if any(stage.failing for stage in job.living):
        return job
    for stage in job.stages:
        if stage.by is None and (stage.state is State.CANCELLED or (stage.state is State.FAILED and can_return(stage))):
            job = job.with_stage(restore_stage(replace(stage, state=State.PENDING, error=None), effects))
        elif stage.state is State.RUNNING and has_withdrawn(stage):
            job = job.with_stage(restore_stage(stage, effects))
    return job


def restore_stage(stage: Stage, effects: Effects) -> Stage:
    """Return a stage that is open again with what no person has cancelled of it back in line."""
    if not has_withdrawn(stage):
        return _settle_expected(stage)
    target = State.QUEUED if stage.state is State.RUNNING else State.PENDING
    tally = stage.tally.move_tasks(State.CANCELLED, target, stage.tally.withdrawn)
    spawn, expected = stage.spawn, stage.expected
    if spawn is State.CANCELLED and not stage.spawn_hand:
        spawn, expected = target, None
    effects.append(RestoreTasks(stage.number, target))
    return _settle_expected(replace(stage, tally=replace(tally, withdrawn=0), spawn=spawn, expected=expected))


def _settle_expected(stage: Stage) -> Stage:
    """Return a stage with the tasks that it has as all that it will have, when no spawn task will tell of more."""
    if stage.expected is None and stage.spawn in (State.FAILED, State.CANCELLED, State.SKIPPED):
        return replace(stage, expected=stage.tally.total)
    return stage


def has_withdrawn(stage: Stage) -> bool:
    """Tell whether something of a stage was withdrawn when its job ended, and returns with it."""
    return stage.tally.withdrawn > 0 or (
        stage.source is Source.SPAWN and stage.spawn is State.CANCELLED and not stage.spawn_hand
    )


def is_cured(stage: Stage) -> bool:
    """Tell whether nothing of a stage stands in the way any more: it tolerates the failures and cancels that are left.

    Where failures do not count, and where a person has cancelled the stage as a whole, none may be left.
    """
    if stage.on_error is OnError.IGNORE or (stage.state is State.CANCELLED and stage.by is not None):
        return not (stage.unfit or stage.tally.failed or stage.tally.left)
    return not stage.unfit


def can_return(stage: Stage) -> bool:
    """Tell whether a stage that has FAILED or is CANCELLED would not end its job again if that went on.

    A stage that a person cancelled as a whole would; so would failures that count and were not skipped.
    """
    return stage.by is None and (stage.on_error is OnError.BLOCK or not stage.unfit)


def count_outcomes(stage: Stage) -> dict[str, object]:
    """Return what the history tells at a stage's end."""
    tally = stage.tally
    found: dict[str, object] = {"completed": tally.completed, "failed": stage.failures, "cancelled": tally.cancelled}
    if tally.skipped:
        found["skipped"] = tally.skipped
    return found
