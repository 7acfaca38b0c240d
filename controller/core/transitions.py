"""The check of every step of a job against the tables of `states`."""

from __future__ import annotations

from collections.abc import Mapping

from echelon.controller.core.model import Job
from echelon.controller.core.states import JOB_TRANSITIONS, STAGE_TRANSITIONS, State
from echelon.shared.errors import EchelonError


class ForbiddenTransition(EchelonError):
    """A step of a job changed a state as no table allows: a bug of Echelon."""


def check_transitions(before: Job, after: Job) -> None:
    """Raise ForbiddenTransition if a step changed the state of the job or of a stage as no table allows."""
    if not _is_allowed(JOB_TRANSITIONS, before.state, after.state):
        raise ForbiddenTransition(
            f"job {after.job_id} cannot go from {before.state} to {after.state} (a bug of Echelon)"
        )
    for old, new in zip(before.stages, after.stages, strict=True):
        if old is not new and not _is_allowed(STAGE_TRANSITIONS, old.state, new.state):
            raise ForbiddenTransition(
                f"stage {new.number} of job {after.job_id} cannot go from {old.state} to {new.state} (a bug of Echelon)"
            )


def _is_allowed(table: Mapping[State, frozenset[State]], before: State, after: State) -> bool:
    """Tell whether the table allows a change, or two of them in one step by way of RUNNING.

    (An empty stage starts and completes in one step; so does a job that is reopened and has nothing to run.)
    """
    if after is before or after in table[before]:
        return True
    return State.RUNNING in table[before] and after in table[State.RUNNING]
