"""Decides the next state of a task whose attempt has ended."""

from __future__ import annotations

import msgspec

from echelon.controller.catalogue.task_classes import Retry
from echelon.controller.core.states import State
from echelon.shared.ablation import ablated
from echelon.shared.messages import Outcome

#: Ended by Echelon or by its own machine: says nothing about the task, and costs it nothing.
_BLAMELESS = frozenset({Outcome.INTERRUPTED, Outcome.WORKER_FAULT})
#: Seconds until a task is tried again whose worker could not do its part.
WORKER_FAULT_DELAY = 1.0


class Budget(msgspec.Struct, frozen=True):
    """The attempts that a task has used so far, without the one in question."""

    #: Attempts that failed.
    failures: int
    #: Attempts whose worker was lost.
    losses: int


class Verdict(msgspec.Struct, frozen=True):
    """The next state of the task."""

    #: COMPLETED, FAILED; PENDING: again after `delay`; QUEUED: again at once.
    state: State
    #: Seconds; only with PENDING.
    delay: float = 0.0
    failure: bool = False
    loss: bool = False


def judge_attempt(outcome: Outcome, budget: Budget, retry: Retry, *, max_losses: int, failing: bool) -> Verdict:
    """Return what becomes of a task after an attempt.

    `max_losses`: so many lost workers make a task FAILED. `failing`: the job fails anyway, so nothing is tried again.
    """
    if outcome is Outcome.COMPLETED:
        return Verdict(State.COMPLETED)
    if outcome is Outcome.LOST:
        spent = budget.losses + 1 >= max_losses and not ablated("loss_limit")
        return Verdict(State.FAILED if spent else State.QUEUED, loss=True)
    if outcome in _BLAMELESS:
        # A broken worker must not spin on the same task: it comes back after a moment, perhaps elsewhere.
        if outcome is Outcome.WORKER_FAULT:
            return Verdict(State.PENDING, delay=WORKER_FAULT_DELAY)
        return Verdict(State.QUEUED)
    if outcome is Outcome.STOPPED:
        # A stop is ordered only for attempts that have lost their claim already; one that still holds it runs again.
        return Verdict(State.QUEUED)
    if failing or budget.failures >= retry.limit:
        return Verdict(State.FAILED, failure=True)
    return Verdict(State.PENDING, delay=back_off(retry, budget.failures), failure=True)


def back_off(retry: Retry, failures: int) -> float:
    """Return seconds to wait before attempt number `failures` + 2: delay * factor ** failures, at most max_delay."""
    try:
        wait: float = retry.delay * retry.factor**failures
        return min(retry.max_delay, wait)
    except OverflowError:
        return retry.max_delay
