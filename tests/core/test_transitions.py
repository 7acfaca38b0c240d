"""A step that changes a state as no table allows is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from echelon.controller.core.states import State
from echelon.controller.core.transitions import ForbiddenTransition, check_transitions
from tests.core.test_machine import begin, fixed


def test_a_state_of_a_job_that_the_table_forbids_is_refused() -> None:
    job = begin(fixed(0))

    with pytest.raises(ForbiddenTransition, match="job cannot go from RUNNING to PENDING"):
        check_transitions(job, replace(job, state=State.PENDING))


def test_a_state_of_a_stage_that_the_table_forbids_is_refused() -> None:
    job = begin(fixed(0))

    with pytest.raises(ForbiddenTransition, match="stage 0 of job job cannot go from RUNNING to PENDING"):
        check_transitions(job, job.with_stage(replace(job.stage(0), state=State.PENDING)))


def test_two_changes_by_way_of_running_are_one_step() -> None:
    job = begin(fixed(0), fixed(1))

    check_transitions(job, job.with_stage(replace(job.stage(1), state=State.COMPLETED)))
