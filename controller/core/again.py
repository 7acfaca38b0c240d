"""What a retry means: which tasks of a job or of a stage run again."""

from __future__ import annotations

from controller.core.model import Again, Job, Stage
from controller.core.states import DONE, ENDED, State

#: What runs again when nothing else is said.
UNDONE = frozenset({State.FAILED, State.CANCELLED})


def of_job(job: Job, *, everything: bool = False) -> tuple[Again, ...]:
    """Return what of a job runs again: what has failed or was cancelled in stages that are not done.

    In a job that is done all the same, what failed in spite of it; in a skipped one, what was skipped too. With
    `everything` also what has completed.
    """
    stages = [stage for stage in job.stages if everything or job.state in DONE or stage.state not in DONE]
    skipped = job.state is State.SKIPPED
    return tuple(
        again
        for stage in stages
        if (again := of_stage(stage, everything=everything, skipped=skipped and stage.state is State.SKIPPED))
    )


def of_stage(stage: Stage, *, everything: bool = False, skipped: bool | None = None) -> Again | None:
    """Return what of a stage runs again; None: nothing. What was skipped does when the stage was, as a whole."""
    skipped = stage.state is State.SKIPPED if skipped is None else skipped
    sources = ENDED if everything else UNDONE | {State.SKIPPED} if skipped else UNDONE
    counts = {state: count for state in sorted(sources) if (count := getattr(stage.tally, state.lower()))}
    # A spawn task that has completed is not run twice: its items are tasks already.
    spawn = stage.spawn in sources and stage.spawn is not State.COMPLETED
    unfinished = stage.state in ENDED and stage.state is not State.COMPLETED and stage.state in sources
    if not (counts or spawn or unfinished):
        return None
    return Again(stage.number, counts, spawn, stage.tally.withdrawn if State.CANCELLED in counts else 0)
