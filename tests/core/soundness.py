"""What holds of a job and its task rows after every step, whatever has happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from echelon.controller.core.again import UNDONE
from echelon.controller.core.flow import can_return
from echelon.controller.core.model import Job, OnError, Stage
from echelon.controller.core.states import DONE, ENDED, JOB_TRANSITIONS, STAGE_TRANSITIONS, State
from tests.core.rows import SPAWN, Row, Rows, assert_path


def check_paths(before: Job, after: Job) -> None:
    """Every change of a state follows the tables."""
    if after.state is not before.state:
        assert_path(JOB_TRANSITIONS, before.state, after.state)
    for old, new in zip(before.stages, after.stages, strict=True):
        if new.state is not old.state:
            assert_path(STAGE_TRANSITIONS, old.state, new.state)


def check_rows(job: Job, rows: Rows, there: set[tuple[int, int]]) -> None:
    """Compare the counters with the rows; nothing may be claimed whose last attempt may still be there."""
    assert not any(row.state is State.QUEUED and key in there for key, row in rows.items())
    for stage in job.stages:
        mine = [row for (number, index), row in rows.items() if number == stage.number and index != SPAWN]
        counted = {state: getattr(stage.tally, state.lower()) for state in State}
        assert {state: count for state, count in counted.items() if count} == Counter(row.state for row in mine)
        assert stage.tally.started == sum(row.started for row in mine) <= stage.tally.running
        shown = Counter(row.shown for row in mine)
        assert all(getattr(stage.tally.shown, state.lower()) == shown[state] for state in State)
        assert stage.tally.held == mine.count(Row(State.PENDING, hand=True))
        assert stage.tally.withdrawn == mine.count(Row(State.CANCELLED))
        if stage.spawn is not None:
            row = rows[stage.number, SPAWN]
            assert (row.state, row.hand) == (stage.spawn, stage.spawn_hand)
            assert row.shown is stage.shown_spawn
        _check_stage(stage)
        if stage.state is State.COMPLETED:
            _check_completed(stage, [row.state for row in mine])
    assert job.live == tuple(stage.number for stage in job.stages if stage.state is State.RUNNING or stage.failing)


def check_turn(job: Job, stage: Stage) -> None:
    """Nothing is started before those in front of it are done, nor in anything that is paused."""
    waiting = [other.number for other in job.stages if other.order < stage.order and other.state not in DONE]
    assert not waiting, f"stage {stage.number} starts before {waiting}"
    assert not job.paused and not stage.paused


def check_recalls(job: Job, rows: Rows, recalled: set[tuple[int, int]]) -> None:
    """What workers hold of a stage in which nothing may start was asked back."""
    failing = any(stage.failing for stage in job.living)
    for (number, index), row in rows.items():
        stage = job.stage(number)
        if row.given and stage.state is State.RUNNING and (failing or stage.blocked or stage.paused):
            assert (number, index) in recalled, f"task {number}.{index} may start although {stage} may not"


def _check_stage(stage: Stage) -> None:
    if stage.state in ENDED:
        assert not stage.tally.open and not stage.spawning
    if stage.state is State.PENDING:
        assert not stage.tally.queued and not stage.tally.running
    if stage.tally.queued or stage.tally.running:
        assert stage.begun


def _check_completed(stage: Stage, tasks: Sequence[State]) -> None:
    """A stage completes with the list of its spawn task, and with no more lost tasks than it tolerates."""
    lost, bound = tasks.count(State.FAILED) + tasks.count(State.CANCELLED), stage.max_failed or 0
    assert stage.spawn in (None, State.COMPLETED, State.SKIPPED)
    if isinstance(bound, str):
        bound = len(tasks) * int(bound[:-1]) // 100
    assert stage.on_error is OnError.IGNORE or lost <= bound, f"{lost} of {len(tasks)} are lost, {bound} may be"


def check_end(job: Job, rows: Rows) -> None:
    """Nothing of an ended job is open, and whatever is open can move on."""
    if job.state in ENDED:
        assert all(stage.state in ENDED for stage in job.stages)
        assert all(row.state in ENDED for row in rows.values())
        if job.state in UNDONE and job.by is None:
            bad = [stage for stage in job.stages if stage.state in UNDONE]
            assert not all(can_return(stage) for stage in bad), "nothing of it is in the way, and it does not go on"
    else:
        _check_open(job)


def _check_open(job: Job) -> None:
    """Whatever is open can move on: by itself, or when a person lets it go on, retries or skips."""
    failing = any(stage.failing for stage in job.stages)
    for stage in job.stages:
        if not failing and stage.state is not State.FAILED:
            assert not stage.tally.withdrawn, f"stage {stage.number} is still withdrawn"
    if job.paused:
        return
    left = [stage for stage in job.stages if stage.state not in DONE]
    order = min(stage.order for stage in left)
    for stage in left:
        if stage.order == order and stage.state is State.PENDING:
            assert stage.paused or failing
    waits = [
        stage for stage in left
        if stage.state is State.RUNNING
        and (not stage.at_rest or stage.paused or (stage.on_error is OnError.BLOCK and stage.unfit))
    ]  # fmt: skip
    assert waits or any(stage.paused for stage in left)


def check_chosen(before: Rows, after: Rows, chosen: Collection[tuple[int, int]]) -> None:
    """What was chosen for a retry is to run, and nothing else that has ended is but what a failure had withdrawn."""
    for key, row in after.items():
        was = before[key]
        if key in chosen:
            assert row.state in (State.PENDING, State.QUEUED), f"task {key} was chosen, and is {row.state}"
        elif was.state in ENDED and was != Row(State.CANCELLED):
            assert row == was, f"task {key} was not chosen, and went from {was} to {row}"
        else:
            assert row.state not in ENDED or row == Row(State.CANCELLED), f"task {key} was {was} and is {row}"
