"""The state machine: what it decides in the cases that users know, and that random lives never break its promises."""

from __future__ import annotations

import cProfile
import random

import pytest
from msgspec.structs import replace

from echelon.controller.core.effects import ReleaseTasks, Remember, WithdrawTasks
from echelon.controller.core.events import (
    CancelRequested,
    RetryRequested,
    SpawnTaskMoved,
    Submitted,
    TasksCreated,
    TasksMoved,
    TasksSkipped,
    Together,
)
from echelon.controller.core.machine import step
from echelon.controller.core.model import Job, OnError, Source, Stage, Tally
from echelon.controller.core.states import ENDED, ForbiddenTransition, State
from echelon.shared.ids import JobId
from tests.core.life import Life
from tests.core.rows import random_job


def fixed(number: int, *, tasks: int = 1, **more: object) -> Stage:
    values = {"on_error": OnError.FAIL_JOB, "order": number, "tally": Tally(pending=tasks), "expected": tasks} | more
    return Stage(number=number, name=f"stage {number}", source=Source.FIXED, **values)  # type: ignore[arg-type]


def spawning(number: int, **more: object) -> Stage:
    values = {"on_error": OnError.FAIL_JOB, "order": number, "spawn": State.PENDING} | more
    return Stage(number=number, name=f"stage {number}", source=Source.SPAWN, **values)  # type: ignore[arg-type]


def begin(*stages: Stage) -> Job:
    return step(Job(JobId("job"), State.PENDING, stages), Submitted())[0]


def moved(job: Job, stage: int, source: State, target: State, count: int = 1) -> Job:
    return step(job, TasksMoved(stage, {(source, target): count}))[0]


def run(job: Job, stage: int, target: State, count: int = 1) -> Job:
    return moved(moved(job, stage, State.QUEUED, State.RUNNING, count), stage, State.RUNNING, target, count)


def states(job: Job) -> list[State]:
    return [stage.state for stage in job.stages]


def test_a_submitted_job_releases_its_first_stage_only() -> None:
    job, effects = step(Job(JobId("job"), State.PENDING, (fixed(0), fixed(1))), Submitted())

    assert states(job) == [State.RUNNING, State.PENDING]
    assert [effect for effect in effects if isinstance(effect, ReleaseTasks)] == [ReleaseTasks(0)]


def test_a_completed_stage_starts_the_next_and_the_last_one_completes_the_job() -> None:
    job = run(begin(fixed(0), fixed(1)), 0, State.COMPLETED)

    assert states(job) == [State.COMPLETED, State.RUNNING]
    assert run(job, 1, State.COMPLETED).state is State.COMPLETED


def test_stages_of_equal_order_run_together_and_the_next_order_waits_for_both() -> None:
    job = begin(fixed(0, order=5), fixed(1, order=5), fixed(2, order=9))
    one_done = run(job, 1, State.COMPLETED)
    both_done = run(one_done, 0, State.COMPLETED)

    assert states(job) == [State.RUNNING, State.RUNNING, State.PENDING]
    assert states(one_done) == [State.RUNNING, State.COMPLETED, State.PENDING]
    assert states(both_done) == [State.COMPLETED, State.COMPLETED, State.RUNNING]


def test_a_failure_withdraws_what_has_not_started_and_waits_for_what_runs() -> None:
    job = moved(begin(fixed(0, tasks=5), fixed(1)), 0, State.QUEUED, State.RUNNING, 2)
    failing, effects = step(job, TasksMoved(0, {(State.RUNNING, State.FAILED): 1}, "task 0: exit code 1"))
    ended = moved(failing, 0, State.RUNNING, State.COMPLETED)

    assert WithdrawTasks(0, running=False, reason="job_failed") in effects
    assert failing.stages[0].tally == Tally(running=1, failed=1, cancelled=3, withdrawn=3)
    assert failing.state is State.RUNNING
    assert states(ended) == [State.FAILED, State.CANCELLED]
    assert ended.error == "stage 0 (stage 0) failed: task 0: exit code 1"
    assert ended.failed_tasks == 1


def test_fail_fast_stops_running_siblings_too() -> None:
    job = moved(begin(fixed(0, tasks=3, fail_fast=True)), 0, State.QUEUED, State.RUNNING, 2)
    ended, effects = step(job, TasksMoved(0, {(State.RUNNING, State.FAILED): 1}))

    assert WithdrawTasks(0, running=True, reason="fail_fast") in effects
    assert ended.state is State.FAILED
    assert ended.stages[0].tally == Tally(failed=1, cancelled=2, withdrawn=2)


def test_an_ignored_failure_is_counted_and_the_job_completes() -> None:
    job = begin(fixed(0, tasks=2, on_error=OnError.IGNORE), fixed(1))
    job = run(run(job, 0, State.FAILED), 0, State.COMPLETED)
    job = run(job, 1, State.COMPLETED)

    assert (job.state, job.failed_tasks) == (State.COMPLETED, 1)


def test_so_many_tasks_may_fail_and_one_more_fails_the_stage_and_withdraws_what_has_not_started() -> None:
    job = begin(fixed(0, tasks=6, max_failed=2), fixed(1))
    tolerated = run(run(job, 0, State.FAILED), 0, State.FAILED)
    failed, effects = step(
        moved(tolerated, 0, State.QUEUED, State.RUNNING), TasksMoved(0, {(State.RUNNING, State.FAILED): 1}, "task 2: x")
    )

    assert tolerated.stages[0].claimable == 4
    assert states(run(tolerated, 0, State.COMPLETED, 4)) == [State.COMPLETED, State.RUNNING]
    assert WithdrawTasks(0, running=False, reason="job_failed") in effects
    assert failed.error == "stage 0 (stage 0) failed: more tasks failed than max_failed: 2 allows; the first: task 2: x"
    assert states(failed) == [State.FAILED, State.CANCELLED]
    cured, _ = step(failed, TasksSkipped(0, {State.FAILED: 1}))
    assert (cured.state, cured.stages[0].tally) == (State.RUNNING, Tally(queued=3, failed=2, skipped=1))
    again, _ = step(failed, RetryRequested())
    assert (again.state, again.stages[0].tally) == (State.RUNNING, Tally(queued=6))


@pytest.mark.parametrize(("percent", "tolerated"), [("0%", 0), ("9%", 0), ("10%", 1), ("19%", 1), ("100%", 10)])
def test_a_share_counts_of_the_whole_once_that_is_known_and_misfits_count(percent: str, tolerated: int) -> None:
    job, _ = step(begin(spawning(0, max_failed=percent), fixed(1)), SpawnTaskMoved(0, State.RUNNING))
    job, _ = step(job, SpawnTaskMoved(0, State.COMPLETED, expected=10))
    good, _ = step(job, TasksCreated(0, queued=10 - tolerated, failed=tolerated))

    assert (good.stages[0].failing, good.stages[0].claimable) == (False, 10 - tolerated)
    if tolerated < 10:
        assert states(run(good, 0, State.COMPLETED, 10 - tolerated)) == [State.COMPLETED, State.RUNNING]
        assert step(job, TasksCreated(0, queued=8 - tolerated, failed=tolerated + 1))[0].state is State.FAILED


def test_a_stage_that_waits_for_a_person_does_so_when_more_tasks_failed_than_may() -> None:
    job = begin(fixed(0, tasks=3, max_failed=1, on_error=OnError.BLOCK), fixed(1))
    one = run(run(job, 0, State.FAILED), 0, State.COMPLETED, 2)
    two = run(run(job, 0, State.FAILED, 2), 0, State.COMPLETED)

    assert states(one) == [State.COMPLETED, State.RUNNING]
    assert states(two) == [State.RUNNING, State.PENDING]
    assert states(step(two, TasksSkipped(0, {State.FAILED: 1}))[0]) == [State.COMPLETED, State.RUNNING]


def test_what_a_person_cancelled_counts_with_what_failed() -> None:
    job = begin(fixed(0, tasks=3, max_failed=1), fixed(1))
    job = moved(job, 0, State.QUEUED, State.CANCELLED)
    well, ill = run(job, 0, State.COMPLETED, 2), run(run(job, 0, State.FAILED), 0, State.COMPLETED)

    assert states(well) == [State.COMPLETED, State.RUNNING]
    assert states(ill) == [State.CANCELLED, State.CANCELLED]


def test_a_spawn_task_comes_first_and_its_items_are_the_stage() -> None:
    job = begin(spawning(0, max_parallel=2))
    job, _ = step(job, SpawnTaskMoved(0, State.RUNNING))
    job, _ = step(job, SpawnTaskMoved(0, State.COMPLETED, expected=3))
    half, _ = step(job, TasksCreated(0, queued=2))
    still = run(half, 0, State.COMPLETED, 2)
    whole, _ = step(still, TasksCreated(0, queued=0, failed=1, error="item 2: 'url' is missing"))

    assert half.stages[0].claimable == 2
    assert still.state is State.RUNNING
    assert whole.state is State.FAILED


def test_an_empty_array_completes_the_stage() -> None:
    job, _ = step(begin(spawning(0), fixed(1)), SpawnTaskMoved(0, State.RUNNING))
    job, _ = step(job, SpawnTaskMoved(0, State.COMPLETED, expected=0))

    assert states(job) == [State.COMPLETED, State.RUNNING]


@pytest.mark.parametrize(
    ("policy", "end", "expected"),
    [
        (OnError.FAIL_JOB, State.FAILED, State.FAILED),
        (OnError.IGNORE, State.FAILED, State.FAILED),
        (OnError.BLOCK, State.FAILED, State.RUNNING),
        (OnError.IGNORE, State.CANCELLED, State.CANCELLED),
    ],
)
def test_a_stage_without_the_list_of_its_spawn_task_does_not_complete(
    policy: OnError, end: State, expected: State
) -> None:
    job = begin(spawning(0, on_error=policy), fixed(1))
    job, _ = step(job, SpawnTaskMoved(0, State.RUNNING))
    job, _ = step(job, SpawnTaskMoved(0, end, error="exit code 1"))

    assert (job.state, states(job)[0], job.failed_tasks) == (expected, expected, int(end is State.FAILED))
    again, _ = step(job, RetryRequested())
    assert (again.state, again.stages[0].spawn) == (State.RUNNING, State.QUEUED)


def test_cancel_ends_every_open_stage_at_once_and_late_news_changes_nothing() -> None:
    job = moved(begin(fixed(0, tasks=3), fixed(1)), 0, State.QUEUED, State.RUNNING)
    cancelled, effects = step(job, CancelRequested())

    assert states(cancelled) == [State.CANCELLED, State.CANCELLED]
    assert WithdrawTasks(0, running=True, reason="cancelled", by="") in effects
    assert moved(cancelled, 0, State.RUNNING, State.COMPLETED) == cancelled
    assert step(cancelled, CancelRequested()) == (cancelled, [])


@pytest.mark.parametrize("failed", [0, 1])
def test_a_failure_and_a_success_beside_each_other_are_both_counted_before_anything_is_withdrawn(failed: int) -> None:
    job = begin(fixed(0, order=1, fail_fast=True), fixed(1, order=1, fail_fast=True), fixed(2))
    job = moved(moved(job, 0, State.QUEUED, State.RUNNING), 1, State.QUEUED, State.RUNNING)
    ends = [State.FAILED if number == failed else State.COMPLETED for number in (0, 1)]

    after, effects = step(
        job, Together(tuple(TasksMoved(number, {(State.RUNNING, end): 1}) for number, end in enumerate(ends)))
    )

    assert (after.state, states(after)) == (State.FAILED, [*ends, State.CANCELLED])
    assert [effect.stage for effect in effects if isinstance(effect, WithdrawTasks)] == [2]


def test_retry_opens_the_job_at_the_stage_that_failed_and_keeps_what_completed() -> None:
    job = run(begin(fixed(0), fixed(1, tasks=3), fixed(2)), 0, State.COMPLETED)
    job = moved(job, 1, State.QUEUED, State.RUNNING, 3)
    job = moved(moved(job, 1, State.RUNNING, State.COMPLETED, 2), 1, State.RUNNING, State.FAILED)
    again, _ = step(job, RetryRequested())

    assert job.state is State.FAILED
    assert states(again) == [State.COMPLETED, State.RUNNING, State.PENDING]
    assert again.stages[1].tally == Tally(queued=1, completed=2)
    assert (again.state, again.error) == (State.RUNNING, None)


def test_a_completed_job_cannot_be_retried() -> None:
    job = run(begin(fixed(0)), 0, State.COMPLETED)

    assert step(job, RetryRequested()) == (job, [])


def test_history_tells_each_stage_start_and_end_once() -> None:
    job, effects = step(Job(JobId("job"), State.PENDING, (fixed(0), fixed(1))), Submitted())
    for stage in (0, 1):
        for source, target in ((State.QUEUED, State.RUNNING), (State.RUNNING, State.COMPLETED)):
            job, more = step(job, TasksMoved(stage, {(source, target): 1}))
            effects += more

    kinds = [(effect.kind, effect.stage) for effect in effects if isinstance(effect, Remember)]
    assert kinds == [
        ("job_submitted", None),
        ("job_started", None),
        ("stage_started", 0),
        ("stage_completed", 0),
        ("stage_started", 1),
        ("stage_completed", 1),
        ("job_completed", None),
    ]


def test_counters_that_would_go_below_zero_are_a_bug_and_raise() -> None:
    with pytest.raises(ValueError, match="cannot leave"):
        moved(begin(fixed(0)), 0, State.RUNNING, State.COMPLETED)


@pytest.mark.parametrize("block", range(20))
def test_random_lives_keep_every_promise_and_end(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        rng = random.Random(seed)
        life = Life(random_job(rng), rng)
        for _ in range(rng.randint(1, 120)):
            life.act()
            life.check()
        life.finish()
        life.check()
        assert life.job.state in ENDED, f"seed {seed}"


@pytest.mark.parametrize("target", [State.PENDING, State.QUEUED])
def test_a_state_that_the_tables_forbid_is_refused(target: State) -> None:
    stage = replace(fixed(0), state=State.RUNNING)
    job = Job(JobId("j"), State.RUNNING, (stage,))

    with pytest.raises(ForbiddenTransition, match="stage 0 of job j cannot go from RUNNING to"):
        job.with_stage(replace(stage, state=target))
    with pytest.raises(ForbiddenTransition, match="job j cannot go from RUNNING to"):
        job.in_state(target)
    with pytest.raises(ForbiddenTransition, match="a task cannot go from COMPLETED to CANCELLED"):
        Tally(completed=1).move_tasks(State.COMPLETED, State.CANCELLED, 1)


def calls_of_a_step(stages: int) -> int:
    """Count the Python calls of the step that ends the first half of a chain's stages and starts the next one."""
    job, _ = step(Job(JobId("j"), State.PENDING, tuple(fixed(number) for number in range(stages))), Submitted())
    for number in range(stages // 2):
        moves = {(State.QUEUED, State.RUNNING): 1}
        job, _ = step(job, TasksMoved(number, moves))
        job, _ = step(job, TasksMoved(number, {(State.RUNNING, State.COMPLETED): 1}))
    job, _ = step(job, TasksMoved(stages // 2, {(State.QUEUED, State.RUNNING): 1}))
    profile = cProfile.Profile()
    profile.enable()
    step(job, TasksMoved(stages // 2, {(State.RUNNING, State.COMPLETED): 1}))
    profile.disable()
    return sum(entry.callcount for entry in profile.getstats())


def test_a_step_costs_the_same_in_a_long_chain() -> None:
    few, many = calls_of_a_step(10), calls_of_a_step(300)

    assert few == many
