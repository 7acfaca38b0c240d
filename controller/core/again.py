"""Decides which tasks of a job or of a stage a retry runs again."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from echelon.controller.core.events import Again
from echelon.controller.core.flow import can_return, has_withdrawn
from echelon.controller.core.model import Job, Stage
from echelon.controller.core.states import DONE, ENDED, State

#: The states that a retry repeats by default.
UNDONE = frozenset({State.FAILED, State.CANCELLED})


#: Of some stages, how many tasks in each state can never run: their items did not fit.
Misfits = Mapping[int, Mapping[State, int]]
_NONE: Mapping[State, int] = {}


def plan_job_retry(job: Job, *, everything: bool = False, misfits: Misfits | None = None) -> tuple[Again, ...]:
    """Return what of a job runs again: what has failed or was cancelled in stages that are not done.

    In a job that is done all the same, what failed in spite of it; in a skipped one, what was skipped too. With
    `everything` also what has completed.
    """
    stages = [stage for stage in job.stages if everything or job.state in DONE or stage.state not in DONE]
    skipped = job.state is State.SKIPPED
    agains = (
        plan_stage_retry(
            stage,
            everything=everything,
            skipped=skipped and stage.state is State.SKIPPED,
            misfits=(misfits or {}).get(stage.number, _NONE),
        )
        for stage in stages
    )
    return tuple(again for again in agains if again)


def plan_stage_retry(
    stage: Stage, *, everything: bool = False, skipped: bool | None = None, misfits: Mapping[State, int] = _NONE
) -> Again | None:
    """Return what of a stage runs again; None: nothing. Skipped tasks run again if the whole stage was skipped."""
    skipped = stage.state is State.SKIPPED if skipped is None else skipped
    sources = ENDED if everything else UNDONE | {State.SKIPPED} if skipped else UNDONE
    found = {state: getattr(stage.tally, state.lower()) - misfits.get(state, 0) for state in sorted(sources)}
    counts = {state: count for state, count in found.items() if count}
    # A spawn task that has completed is not run twice: its items are tasks already.
    spawn = stage.spawn in sources and stage.spawn is not State.COMPLETED
    unfinished = stage.state in ENDED and stage.state is not State.COMPLETED and stage.state in sources
    if not (counts or spawn or (unfinished and not misfits)):
        return None
    return Again(stage.number, counts, spawn, stage.tally.withdrawn if State.CANCELLED in counts else 0)


def plan_downstream(job: Job, order: int) -> tuple[Again, ...]:
    """Return what of the stages behind an order runs again because they have run before: all of it.

    The spawn tasks run again and make their lists anew. What a person has skipped as a whole stays skipped.
    """
    agains = (_plan_run(stage) for stage in list_downstream(job, order))
    return tuple(again for again in agains if again)


def list_downstream(job: Job, order: int) -> list[Stage]:
    """Return the stages behind an order that have run."""
    return [stage for stage in job.stages if stage.order > order and stage.begun and stage.state is not State.SKIPPED]


def _plan_run(stage: Stage) -> Again | None:
    if stage.spawn is None or stage.spawning:
        return plan_stage_retry(stage, everything=True)
    return Again(stage.number, {}, spawn=True, anew=True)


def find_obstacle(job: Job, agains: Collection[Again]) -> Stage | None:
    """Return the stage for which a job would end, or end again, before all of a retry could run; None: none.

    It has failed an open job, or it comes before something of the retry: a person has to retry or skip it first.
    """
    wanted = {again.stage for again in agains}
    if not wanted:
        return None
    if job.state not in ENDED:
        return next((stage for stage in job.living if stage.failing and stage.number not in wanted), None)
    last: float = max(job.stage(number).order for number in wanted)
    if not any(again.counts or again.spawn for again in agains):
        # They are done at once. The job goes on to the first stage that returns with something to run, or to its end.
        last = max(last, min((stage.order for stage in job.stages if _returns(stage, wanted)), default=math.inf))
    before = (stage for stage in job.stages if stage.order < last and stage.number not in wanted)
    return next((stage for stage in before if stage.state in UNDONE and not can_return(stage)), None)


def _returns(stage: Stage, wanted: Collection[int]) -> bool:
    return stage.number not in wanted and stage.state in UNDONE and can_return(stage) and has_withdrawn(stage)
