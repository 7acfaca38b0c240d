"""What becomes of a task when an attempt has ended, for every way in which one can end."""

from __future__ import annotations

import pytest

from echelon.controller.catalogue.task_classes import Retry
from echelon.controller.core.policy import Budget, Verdict, back_off, judge_attempt
from echelon.controller.core.states import State
from echelon.shared.messages import Outcome

FRESH = Budget(failures=0, losses=0)
#: Ends that count as the task's own failure.
FAILURES = [one for one in Outcome if one not in (
    Outcome.COMPLETED, Outcome.LOST, Outcome.INTERRUPTED, Outcome.WORKER_FAULT, Outcome.STOPPED
)]  # fmt: skip


def verdict(outcome: Outcome, budget: Budget = FRESH, *, limit: int = 2, failing: bool = False) -> Verdict:
    return judge_attempt(outcome, budget, Retry(limit=limit, delay=3.0), max_losses=3, failing=failing)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome.COMPLETED, Verdict(State.COMPLETED)),
        (Outcome.LOST, Verdict(State.QUEUED, loss=True)),
        (Outcome.INTERRUPTED, Verdict(State.QUEUED)),
        (Outcome.STOPPED, Verdict(State.QUEUED)),
        (Outcome.WORKER_FAULT, Verdict(State.PENDING, delay=1.0)),
        *((one, Verdict(State.PENDING, delay=3.0, failure=True)) for one in FAILURES),
    ],
)
def test_a_task_runs_again_as_far_as_its_end_and_its_budget_say(outcome: Outcome, expected: Verdict) -> None:
    assert verdict(outcome) == expected


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_failure_is_final_when_its_retries_are_spent_or_the_job_fails_anyway(outcome: Outcome) -> None:
    final = Verdict(State.FAILED, failure=True)

    assert verdict(outcome, Budget(failures=2, losses=0)) == final
    assert verdict(outcome, failing=True) == final
    assert verdict(outcome, Budget(failures=1, losses=99)).state is State.PENDING


def test_a_task_that_has_taken_down_enough_workers_is_failed_whatever_its_retries() -> None:
    assert verdict(Outcome.LOST, Budget(failures=99, losses=1)).state is State.QUEUED
    assert verdict(Outcome.LOST, Budget(failures=0, losses=2)) == Verdict(State.FAILED, loss=True)


@pytest.mark.parametrize(("failures", "seconds"), [(0, 2.0), (1, 6.0), (2, 18.0), (3, 50.0), (5000, 50.0)])
def test_the_wait_before_a_retry_grows_to_its_limit(failures: int, seconds: float) -> None:
    assert back_off(Retry(limit=9999, delay=2.0, factor=3.0, max_delay=50.0), failures) == seconds
