"""Looks up what `find_reason` needs to know."""

from __future__ import annotations

from collections.abc import Iterable

from echelon.controller.core.model import OnError
from echelon.controller.core.states import State
from echelon.controller.datastore.files import Unpublished
from echelon.controller.datastore.filters import TaskFilter
from echelon.controller.datastore.reader import Reader
from echelon.controller.datastore.records import SPAWN_INDEX, JobView, StageView, TaskView
from echelon.controller.engine.dependencies import JobDependencies
from echelon.controller.engine.why.explanations import (
    Facts,
    Reason,
    count_claimable,
    explain_job,
    explain_stage,
    explain_task,
)
from echelon.shared.errors import NotFound
from echelon.shared.ids import JobId


class Reasons:
    """Says why jobs, stages and tasks do not move on. Safe for any thread."""

    def __init__(self, parts: JobDependencies) -> None:
        self._parts = parts

    def find_reason(self, job_id: JobId, stage: int | None = None, index: int | None = None) -> Reason:
        """Return the one reason that holds a job, a stage, or the task at an index back now; raise NotFound."""
        trouble = None if self._parts.broker.connected else self._parts.broker.condition
        with self._parts.store.read() as reader:
            job = reader.find_job(job_id)
            if job is None:
                raise NotFound(f"there is no job {job_id}")
            if stage is not None and not 0 <= stage < len(job.stages):
                raise NotFound(f"job {job_id} has no stage {stage}")
            task = reader.find_task_at(job_id, stage, index) if stage is not None and index is not None else None
            if index is not None and task is None:
                raise NotFound(f"stage {stage} of job {job_id} has no task {index}")
            chosen = job.stages if stage is None else [job.stages[stage]]
            facts = Facts(
                job=job,
                workers=reader.list_workers(lost_after=self._parts.lease),
                taken=reader.count_slots_taken(),
                broker_trouble=trouble,
                blocking=dict(_find_blocking(reader, job, chosen)),
                waiting=dict(_find_waiting(reader, job, chosen)),
                held=dict(_find_held(reader, job, chosen)),
                unpublished=dict(_find_unpublished(reader, job, chosen)),
                now=reader.now(),
            )
        if task is not None:
            return explain_task(facts, task)
        return explain_job(facts) if stage is None else explain_stage(facts, stage)


def _find_blocking(reader: Reader, job: JobView, stages: Iterable[StageView]) -> Iterable[tuple[int, TaskView]]:
    for stage in stages:
        if stage.on_error != OnError.BLOCK or stage.state is not State.RUNNING:
            continue
        for state in (State.FAILED, State.CANCELLED):
            found = reader.list_tasks(job.job_id, TaskFilter(stage.number, (state,)), limit=1, cursor=None).items
            if found:
                yield stage.number, found[0]
                break


def _find_waiting(reader: Reader, job: JobView, stages: Iterable[StageView]) -> Iterable[tuple[int, TaskView]]:
    for stage in stages:
        waits = stage.tally.pending > stage.tally.held or stage.spawn is State.PENDING
        if stage.state is State.RUNNING and waits:
            task = reader.find_next_due(job.job_id, stage.number)
            if task is not None:
                yield stage.number, task


def _find_unpublished(reader: Reader, job: JobView, stages: Iterable[StageView]) -> Iterable[tuple[int, Unpublished]]:
    first = next(iter(reader.find_unpublished(job.job_id, limit=1)), None)
    if first is None:
        return
    for stage in stages:
        if job.stages[first.stage].order < stage.order:
            yield stage.number, first
        elif count_claimable(stage):
            own = reader.find_unpublished(job.job_id, stage=stage.number, limit=1)
            if own and own[0].index == SPAWN_INDEX:
                yield stage.number, own[0]


def _find_held(reader: Reader, job: JobView, stages: Iterable[StageView]) -> Iterable[tuple[int, TaskView]]:
    for stage in stages:
        if stage.state is State.RUNNING and (stage.tally.held or stage.spawn is State.PENDING):
            task = reader.find_first_paused(job.job_id, stage.number)
            if task is not None:
                yield stage.number, task
