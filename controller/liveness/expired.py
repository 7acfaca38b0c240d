"""Judges an attempt whose lease ran out: lost with its worker, or never delivered."""

from __future__ import annotations

from collections.abc import Mapping

from echelon.controller.datastore.records import TaskRow
from echelon.shared.ablation import ablated
from echelon.shared.ids import WorkerId
from echelon.shared.lease import ORDER_ARRIVES_PART
from echelon.shared.messages import Finished, Outcome


def judge_expired(task: TaskRow, heard: Mapping[WorkerId, float], *, lease: float) -> Finished:
    """Return how the attempt ended. `heard` holds the workers that were heard lately, with the moment they spoke of.

    A heartbeat names every attempt that its worker holds. If a worker was heard lately and did not name the attempt, it
    never got the order, or has dropped it: the task has done no harm. But a controller that was stopped may read a
    heartbeat long after it was sent. So one counts that was sent after the attempt's order had its time to arrive, and
    after the last heartbeat that named the attempt.
    """
    if _is_unknown_to_worker(task, heard, lease):
        outcome, error = Outcome.INTERRUPTED, "the worker does not know of this attempt: its order was lost on the way"
    else:
        outcome, error = Outcome.LOST, describe_loss(task, "the worker's lease ran out during this attempt")
    return Finished(task.job_id, task.task_id, task.attempt, outcome, error=error, begun=False)


def describe_loss(task: TaskRow, during: str) -> str:
    """Return the error of a task that was lost with its worker: `during` if it is known to have started."""
    return during if task.started else "the worker that held it was lost before it had told of a start"


def _is_unknown_to_worker(task: TaskRow, heard: Mapping[WorkerId, float], lease: float) -> bool:
    if task.worker is None or task.worker not in heard or task.lease_until is None:
        return False
    # Claimed then, or named for the last time.
    leased_at = task.lease_until - lease
    return ablated("heartbeat_moment") or heard[task.worker] >= leased_at + ORDER_ARRIVES_PART * lease
