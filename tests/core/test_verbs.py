"""What a person's verbs do to a job, in the cases that users know; random lives (`test_machine`) play all of them."""

from __future__ import annotations

import pytest

from echelon.controller.core.again import find_obstacle, plan_job_retry, plan_stage_retry
from echelon.controller.core.answers import STATES, VERBS, Refused, answer_verb
from echelon.controller.core.effects import ReleaseTasks, Remember, ReopenTasks, RestoreTasks
from echelon.controller.core.events import (
    Again,
    CancelRequested,
    Event,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    SkipRequested,
    Submitted,
    TasksAdded,
    TasksMoved,
    TasksSkipped,
)
from echelon.controller.core.machine import step
from echelon.controller.core.model import Job, OnError, Source, Stage, Tally
from echelon.controller.core.states import ENDED, State
from echelon.shared.ids import JobId
from tests.core.test_machine import begin, fixed, moved, run, states


def after(job: Job, *events: Event) -> Job:
    for event in events:
        job, _ = step(job, event)
    return job


def open_stage(number: int, **more: object) -> Stage:
    values = {"on_error": OnError.FAIL_JOB, "order": number, "expected": 0} | more
    return Stage(number=number, name=f"stage {number}", source=Source.OPEN, **values)  # type: ignore[arg-type]


def test_nothing_of_a_paused_job_starts_or_completes_and_what_runs_goes_on() -> None:
    job = moved(begin(fixed(0, tasks=2), fixed(1)), 0, State.QUEUED, State.RUNNING)
    job = after(job, PauseRequested("me"))
    assert job.stages[0].claimable == 0
    job = moved(job, 0, State.RUNNING, State.COMPLETED)
    resumed = after(job, ResumeRequested())

    assert resumed.stages[0].claimable == 1
    done = run(after(job, TasksMoved(0, {(State.QUEUED, State.CANCELLED): 1})), 0, State.COMPLETED, 0)
    assert states(done) == [State.RUNNING, State.PENDING]


def test_a_job_that_was_created_paused_begins_when_it_is_resumed() -> None:
    job, effects = step(Job(JobId("job"), State.PENDING, (fixed(0),), by="me"), Submitted())
    assert (job.state, [type(effect) for effect in effects]) == (State.PENDING, [Remember, Remember])

    job = after(job, ResumeRequested())

    assert (job.state, states(job)) == (State.RUNNING, [State.RUNNING])


def test_a_paused_stage_does_not_begin_while_its_sibling_does_and_resuming_starts_it() -> None:
    job = begin(fixed(0, order=1, by="me"), fixed(1, order=1), fixed(2, order=2))
    sibling_done = run(job, 1, State.COMPLETED)
    resumed = after(sibling_done, ResumeRequested(0))

    assert states(sibling_done) == [State.PENDING, State.COMPLETED, State.PENDING]
    assert states(resumed) == [State.RUNNING, State.COMPLETED, State.PENDING]


def test_a_paused_task_keeps_its_stage_open() -> None:
    job = begin(fixed(0, tasks=2))
    job = after(job, TasksMoved(0, {(State.QUEUED, State.PENDING): 1}, held=1))
    job = run(job, 0, State.COMPLETED)
    assert job.state is State.RUNNING

    job = after(job, TasksMoved(0, {(State.PENDING, State.QUEUED): 1}, held=-1))

    assert run(job, 0, State.COMPLETED).state is State.COMPLETED


def test_a_stage_that_begins_releases_all_but_what_is_paused() -> None:
    stage = fixed(1, tasks=3)
    job = after(begin(fixed(0), stage), TasksMoved(1, {}, held=1))
    job, effects = step(
        moved(job, 0, State.QUEUED, State.RUNNING), TasksMoved(0, {(State.RUNNING, State.COMPLETED): 1})
    )

    assert ReleaseTasks(1) in effects
    assert job.stages[1].tally == Tally(pending=1, queued=2, held=1)


def test_one_failed_of_fifty_runs_again_and_the_forty_nine_are_kept() -> None:
    job = begin(fixed(0, tasks=50), fixed(1))
    job = run(job, 0, State.COMPLETED, 49)
    job = run(job, 0, State.FAILED)
    assert job.state is State.FAILED

    job, effects = step(job, RetryRequested((Again(0, {State.FAILED: 1}, spans=((7, 7),)),), whole=False))

    assert ReopenTasks(0, State.QUEUED, frozenset({State.FAILED}), spans=((7, 7),)) in effects
    assert RestoreTasks(1, State.PENDING) in effects
    assert [effect.kind for effect in effects if isinstance(effect, Remember)] == ["job_reopened", "stage_reopened"]
    assert states(job) == [State.RUNNING, State.PENDING]
    job = run(run(job, 0, State.COMPLETED), 1, State.COMPLETED)
    assert job.state is State.COMPLETED


def test_one_of_two_failed_tasks_runs_again_to_its_end_and_then_the_job_fails_for_the_other() -> None:
    job = moved(begin(fixed(0, tasks=2)), 0, State.QUEUED, State.RUNNING, 2)
    job = moved(moved(job, 0, State.RUNNING, State.FAILED), 0, State.RUNNING, State.FAILED)
    job = after(job, RetryRequested((Again(0, {State.FAILED: 1}, spans=((0, 0),)),), whole=False))

    assert job.state is State.RUNNING
    assert job.stages[0].claimable == 1
    assert run(job, 0, State.COMPLETED).state is State.FAILED


def test_skipping_what_failed_lets_a_failed_job_go_on_with_what_its_failure_withdrew() -> None:
    job = run(begin(fixed(0, tasks=3), fixed(1)), 0, State.FAILED)
    assert job.stages[0].tally == Tally(failed=1, cancelled=2, withdrawn=2)

    job = after(job, TasksSkipped(0, {State.FAILED: 1}))

    assert states(job) == [State.RUNNING, State.PENDING]
    assert job.stages[0].tally == Tally(queued=2, skipped=1)


def test_a_stage_that_is_skipped_lets_a_failed_job_go_on() -> None:
    job = run(begin(fixed(0, tasks=3), fixed(1)), 0, State.FAILED)

    job = after(job, SkipRequested("me", 0))

    assert states(job) == [State.SKIPPED, State.RUNNING]
    assert job.stages[0].tally == Tally(skipped=3)


def test_what_a_person_cancelled_stays_cancelled_when_a_failed_job_goes_on() -> None:
    job = begin(fixed(0, tasks=3, on_error=OnError.IGNORE), fixed(1))
    job = after(job, TasksMoved(0, {(State.QUEUED, State.CANCELLED): 1}))
    job = run(run(job, 0, State.COMPLETED, 2), 1, State.FAILED)
    job = after(job, RetryRequested())

    assert states(job) == [State.COMPLETED, State.RUNNING]
    assert job.stages[0].tally.cancelled == 1


def test_a_blocked_stage_waits_for_a_person() -> None:
    job = moved(begin(fixed(0, tasks=2, on_error=OnError.BLOCK), fixed(1)), 0, State.QUEUED, State.RUNNING, 2)
    job = moved(job, 0, State.RUNNING, State.FAILED)
    job, effects = step(job, TasksMoved(0, {(State.RUNNING, State.COMPLETED): 1}))
    assert [effect.kind for effect in effects if isinstance(effect, Remember)] == ["stage_blocked"]
    assert states(job) == [State.RUNNING, State.PENDING]

    retried = after(job, RetryRequested(whole=False))
    skipped = after(job, TasksSkipped(0, {State.FAILED: 1}))

    assert retried.stages[0].claimable == 1
    assert states(run(retried, 0, State.COMPLETED)) == [State.COMPLETED, State.RUNNING]
    assert states(skipped) == [State.COMPLETED, State.RUNNING]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(OnError.FAIL_JOB, State.CANCELLED), (OnError.IGNORE, State.COMPLETED), (OnError.BLOCK, State.RUNNING)],
)
def test_a_cancelled_task_holds_up_its_stage_as_a_failed_one_would(policy: OnError, expected: State) -> None:
    job = begin(fixed(0, tasks=2, on_error=policy))
    job = after(job, TasksMoved(0, {(State.QUEUED, State.CANCELLED): 1}))
    assert job.stages[0].claimable == 1, "its siblings go on"

    assert run(job, 0, State.COMPLETED).state is expected


def test_an_open_stage_completes_at_once_unless_tasks_were_added_or_it_is_paused() -> None:
    stages = (fixed(0), open_stage(1), fixed(2))
    empty = run(begin(*stages), 0, State.COMPLETED)
    added = run(after(begin(*stages), TasksAdded(1, 2)), 0, State.COMPLETED)
    paused = run(after(begin(*stages), PauseRequested("me", 1)), 0, State.COMPLETED)

    assert states(empty) == [State.COMPLETED, State.COMPLETED, State.RUNNING]
    assert states(added) == [State.COMPLETED, State.RUNNING, State.PENDING]
    assert added.stages[1].claimable == 2
    assert states(paused) == [State.COMPLETED, State.PENDING, State.PENDING]


def test_a_running_stage_that_is_paused_takes_tasks_and_does_not_complete() -> None:
    job = after(begin(fixed(0), fixed(1)), PauseRequested("me", 0))
    job = moved(job, 0, State.QUEUED, State.RUNNING)
    job = moved(job, 0, State.RUNNING, State.COMPLETED)
    assert states(job) == [State.RUNNING, State.PENDING]

    job = after(job, TasksAdded(0, 1), ResumeRequested(0))

    assert job.stages[0].claimable == 1
    assert states(run(job, 0, State.COMPLETED)) == [State.COMPLETED, State.RUNNING]


def test_an_earlier_stage_that_is_opened_again_holds_back_what_comes_after_it() -> None:
    job = run(begin(fixed(0, on_error=OnError.IGNORE), fixed(1, tasks=2)), 0, State.FAILED)
    job = moved(job, 1, State.QUEUED, State.RUNNING)
    job = after(job, RetryRequested((Again(0, {State.FAILED: 1}),), whole=False))
    assert states(job) == [State.RUNNING, State.RUNNING]
    assert [stage.claimable for stage in job.stages] == [1, 0]

    job = run(job, 0, State.COMPLETED)

    assert [stage.claimable for stage in job.stages] == [0, 1]


def test_a_cancelled_stage_ends_its_job_when_its_turn_comes() -> None:
    job = after(begin(fixed(0), fixed(1), fixed(2)), CancelRequested("me", 1))
    assert states(job) == [State.RUNNING, State.CANCELLED, State.PENDING]

    job = run(job, 0, State.COMPLETED)

    assert (job.state, states(job)[2]) == (State.CANCELLED, State.CANCELLED)
    assert after(job, SkipRequested("me", 1)).state is State.RUNNING


def test_retry_runs_completed_tasks_only_when_all_are_asked_for() -> None:
    job = run(begin(fixed(0, tasks=2)), 0, State.COMPLETED, 2)

    assert plan_job_retry(job) == ()
    assert plan_job_retry(job, everything=True) == (Again(0, {State.COMPLETED: 2}),)
    assert plan_stage_retry(job.stages[0]) is None


def test_a_job_ends_unpaused() -> None:
    job = moved(begin(fixed(0)), 0, State.QUEUED, State.RUNNING)
    job = after(job, PauseRequested("me"), PauseRequested("me", 0))
    failed = moved(job, 0, State.RUNNING, State.FAILED)

    assert (failed.state, failed.by, failed.stages[0].by) == (State.FAILED, None, None)


@pytest.mark.parametrize("kind", list(VERBS))
def test_every_verb_has_an_answer_in_every_state(kind: object) -> None:
    for state in STATES[kind]:  # type: ignore[index]
        for verb in VERBS[kind]:  # type: ignore[index]
            found = answer_verb(kind, state, verb)  # type: ignore[arg-type]
            assert found.reason if not hasattr(found, "meaning") else found.meaning
            if isinstance(found, Refused):
                assert state.value in found.reason or "pause" in found.reason


def side_by_side(**more: object) -> Job:
    """Return a FAILED job of whose two stages of equal order one task has failed each, with one behind them."""
    job = begin(fixed(0, order=1, tasks=2, **more), fixed(1, order=1, tasks=2), fixed(2, order=2))
    job = moved(moved(job, 0, State.QUEUED, State.RUNNING), 1, State.QUEUED, State.RUNNING)
    job = moved(moved(job, 0, State.RUNNING, State.FAILED), 1, State.RUNNING, State.FAILED)
    assert job.state is State.FAILED
    return job


@pytest.mark.parametrize("first", [0, 1])
def test_a_job_goes_on_when_the_failures_of_two_stages_side_by_side_are_both_skipped(first: int) -> None:
    failed = side_by_side()
    one = after(failed, TasksSkipped(first, {State.FAILED: 1}))
    both = after(one, TasksSkipped(1 - first, {State.FAILED: 1}))
    stage = after(one, SkipRequested("me", 1 - first))

    assert (one.state, states(one)) == (State.FAILED, [State.FAILED, State.FAILED, State.CANCELLED])
    assert (both.state, states(both)) == (State.RUNNING, [State.RUNNING, State.RUNNING, State.PENDING])
    assert [one.tally for one in both.stages[:2]] == [Tally(queued=1, skipped=1)] * 2
    assert stage.state is State.RUNNING and stage.stages[1 - first].state is State.SKIPPED
    done = run(run(both, 0, State.COMPLETED), 1, State.COMPLETED)
    assert states(done) == [State.COMPLETED, State.COMPLETED, State.RUNNING]


def test_a_retry_of_one_stage_goes_on_with_the_other_whose_failure_was_skipped() -> None:
    job = after(side_by_side(), TasksSkipped(0, {State.FAILED: 1}))
    job = after(job, RetryRequested((Again(1, {State.FAILED: 1}, spans=((0, 0),)),), whole=False))

    assert states(job) == [State.RUNNING, State.RUNNING, State.PENDING]
    assert run(run(job, 0, State.COMPLETED), 1, State.COMPLETED, 2).state is State.RUNNING


def test_failures_that_are_ignored_or_wait_for_a_person_do_not_keep_a_job_from_going_on() -> None:
    ignored = after(side_by_side(on_error=OnError.IGNORE), TasksSkipped(1, {State.FAILED: 1}))
    blocked = after(side_by_side(on_error=OnError.BLOCK), TasksSkipped(1, {State.FAILED: 1}))

    assert states(ignored) == states(blocked) == [State.RUNNING, State.RUNNING, State.PENDING]
    assert ignored.stages[0].tally == Tally(queued=1, failed=1)


def test_a_stage_that_a_person_has_cancelled_keeps_a_job_from_going_on() -> None:
    job = begin(fixed(0, order=1), fixed(1, order=1), open_stage(2, order=1, by="me"))
    job = run(after(job, CancelRequested("me", 2)), 0, State.FAILED)
    job = after(job, TasksSkipped(0, {State.FAILED: 1}))

    assert (job.state, states(job)) == (State.FAILED, [State.FAILED, State.CANCELLED, State.CANCELLED])
    assert after(job, SkipRequested("me", 2)).state is State.RUNNING


def test_a_later_stage_cannot_be_retried_while_one_before_it_would_end_the_job_again() -> None:
    failed = run(begin(fixed(0), fixed(1), fixed(2)), 0, State.FAILED)
    later = (Again(1, {State.CANCELLED: 1}, withdrawn=1),)
    together = (Again(0, {State.FAILED: 1}), *later)
    by_hand = after(begin(fixed(0), fixed(1)), CancelRequested("me", 0))
    skipped = after(side_by_side(), TasksSkipped(0, {State.FAILED: 1}))

    assert find_obstacle(failed, later) == failed.stages[0]
    assert find_obstacle(failed, together) is None
    assert find_obstacle(failed, plan_job_retry(failed)) is None
    assert find_obstacle(by_hand, (Again(1, {State.CANCELLED: 1}, withdrawn=1),)) == by_hand.stages[0]
    assert find_obstacle(skipped, (Again(2, {State.CANCELLED: 1}, withdrawn=1),)) == skipped.stages[1]
    assert find_obstacle(skipped, (Again(1, {State.FAILED: 1}),)) is None


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_stage_with_nothing_to_run_cannot_be_retried_while_another_would_end_the_job_at_once(empty: int) -> None:
    """Before, beside and behind a stage that a person has cancelled."""
    job = begin(fixed(0, order=5), open_stage(1, order=empty + 4, by="me"))
    job = after(after(job, CancelRequested("me", 0)), CancelRequested("me", 1))
    again = Again(1, {})

    assert states(job) == [State.CANCELLED, State.CANCELLED]
    assert find_obstacle(job, (again,)) == job.stages[0]
    assert after(job, RetryRequested((again,), whole=False)).state in ENDED
    assert find_obstacle(job, (again, Again(0, {State.CANCELLED: 1}))) is None


def test_such_a_stage_is_retried_when_another_one_runs_before_the_job_would_end() -> None:
    job = begin(open_stage(0, by="me"), fixed(1), fixed(2))
    job = after(after(job, CancelRequested("me", 2)), CancelRequested("me", 0))
    again = Again(0, {})

    assert states(job) == [State.CANCELLED] * 3
    assert find_obstacle(job, (again,)) is None
    assert states(after(job, RetryRequested((again,), whole=False)))[1] is State.RUNNING


def test_a_failed_stage_between_two_that_are_to_run_again_is_in_the_way_of_the_later_one() -> None:
    job = run(after(begin(fixed(0), fixed(1), fixed(2)), TasksSkipped(0, {State.QUEUED: 1})), 1, State.FAILED)
    first, failed, last = (
        Again(0, {State.SKIPPED: 1}),
        Again(1, {State.FAILED: 1}),
        Again(2, {State.CANCELLED: 1}, withdrawn=1),
    )

    assert states(job) == [State.COMPLETED, State.FAILED, State.CANCELLED]
    assert find_obstacle(job, (first, last)) == job.stages[1]
    assert find_obstacle(job, (first,)) is None
    assert find_obstacle(job, (first, failed, last)) is None


def test_a_stage_cannot_be_retried_while_the_failure_of_another_ends_the_job() -> None:
    job = begin(fixed(0, order=1), fixed(1, order=1, tasks=2, on_error=OnError.IGNORE))
    job = moved(run(job, 1, State.FAILED), 1, State.QUEUED, State.RUNNING)
    failing = run(job, 0, State.FAILED)
    beside, both = (Again(1, {State.FAILED: 1}),), (Again(0, {State.FAILED: 1}), Again(1, {State.FAILED: 1}))

    assert (failing.state, states(failing)) == (State.RUNNING, [State.FAILED, State.RUNNING])
    assert find_obstacle(failing, beside) == failing.stages[0]
    assert find_obstacle(failing, both) is None
    assert after(failing, RetryRequested(both, whole=False)).stages[1].claimable == 1
