"""Lines of the worker's log about attempts, failed ones at info and all others at debug; and their count."""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry, Counter

from echelon.shared.logs import ATTEMPTS, log_facts
from echelon.shared.messages import Finished, Outcome
from echelon.worker.backlog import HeldAttempt

#: The metrics of this worker's process.
REGISTRY = CollectorRegistry()
ENDED = Counter("echelon_worker_attempts", "Attempts that have ended here, by outcome.", ["outcome"], registry=REGISTRY)

#: Ends that say nothing bad of the task or the worker.
_USUAL = frozenset({Outcome.COMPLETED, Outcome.STOPPED, Outcome.INTERRUPTED, Outcome.KILLED})


def log_start(held: HeldAttempt) -> None:
    """Log the start of an attempt."""
    if ATTEMPTS.isEnabledFor(logging.DEBUG):
        log_facts(ATTEMPTS, logging.DEBUG, [{"event": "attempt_started", **_name_attempt(held)}])


def log_end(held: HeldAttempt | None, finished: Finished) -> None:
    """Log the end of an attempt."""
    ENDED.labels(finished.outcome.value).inc()
    level = logging.DEBUG if finished.outcome in _USUAL else logging.INFO
    if held is None or not ATTEMPTS.isEnabledFor(level):
        return
    event = "attempt_ended" if finished.outcome in _USUAL else "attempt_failed"
    fact = {
        "event": event,
        **_name_attempt(held),
        "outcome": finished.outcome.value,
        "exit_code": finished.exit_code,
        "signal": finished.signal,
        "seconds": round(finished.seconds, 3),
        "error": finished.error,
    }
    log_facts(ATTEMPTS, level, [fact])


def _name_attempt(held: HeldAttempt) -> dict[str, object]:
    grant, task = held.grant, held.task
    index = "spawn" if task.index < 0 else task.index
    number = task.number or task.attempt
    return {
        "job": grant.job_id,
        "stage": grant.stage,
        "index": index,
        "attempt": number,
        "task": grant.recipe.task_class,
    }
