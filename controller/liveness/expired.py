"""Judges an attempt whose lease ran out: lost with its worker, or never delivered."""

from __future__ import annotations

from collections.abc import Mapping

from echelon.controller.datastore.records import TaskRow
from echelon.shared.messages import AttemptRef, Finished, Outcome


def judge_expired(task: TaskRow, started: Mapping[AttemptRef, float] | None) -> Finished:
    """Return how the attempt ended. `started` is what its worker has started, if that lives; None: it is unknown.

    A worker writes down each start before it. If one that lives has written none of this attempt, that has done no
    harm: its order was lost, or it waited for a slot until its lease was over. From then on it cannot start.
    """
    if started is not None and not task.started and AttemptRef(task.task_id, task.attempt) not in started:
        outcome, error = Outcome.INTERRUPTED, "the attempt's lease ran out before its worker had started it"
    else:
        outcome, error = Outcome.LOST, describe_loss(task, "the worker's lease ran out during this attempt")
    return Finished(task.job_id, task.task_id, task.attempt, outcome, error=error, begun=False)


def describe_loss(task: TaskRow, during: str) -> str:
    """Return the error of a task that was lost with its worker: `during` if it is known to have started."""
    return during if task.started else "the worker that held it was lost before it had told of a start"
