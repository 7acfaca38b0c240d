"""A catalogue as JSON for the store, and the revision that names its content."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import msgspec

from echelon.controller.catalogue.definitions import (
    Catalogue,
    JobDefinition,
    LaterTasks,
    ListedTasks,
    SingleTask,
    SpawnedTasks,
    StageDefinition,
    TaskDefinition,
    TaskSource,
)
from echelon.controller.catalogue.task_classes import TaskClass


class _Document(msgspec.Struct, frozen=True):
    revision: str
    tasks: dict[str, TaskClass]
    jobs: dict[str, JobDefinition]
    base: str | None = None


def to_json(catalogue: Catalogue) -> str:
    """Return a catalogue as text for the store: equal catalogues give equal text.

    The values of single tasks are left out: some are secret, and a revision is a digest of this text.
    """
    jobs = {name: _without_values(job) for name, job in catalogue.jobs.items()}
    document = _Document(catalogue.revision, catalogue.tasks, jobs, catalogue.base)
    return msgspec.json.encode(document, order="deterministic").decode()


def _without_values(job: JobDefinition) -> JobDefinition:
    if not any(isinstance(stage.source, ListedTasks) for stage in job.stages):
        return job
    return replace(job, stages=tuple(_stage_without_values(stage) for stage in job.stages))


def _stage_without_values(stage: StageDefinition) -> StageDefinition:
    if not isinstance(stage.source, ListedTasks):
        return stage
    return replace(stage, source=ListedTasks(tuple(replace(task, input={}) for task in stage.source.tasks)))


def from_json(text: str) -> Catalogue:
    """Return the catalogue that `to_json` wrote, without its folder of files."""
    document = msgspec.json.decode(text, type=_Document)
    older = msgspec.json.decode(text, type=_OlderDocument)
    jobs = {name: _with_sources(job, older.jobs[name].stages) for name, job in document.jobs.items()}
    return Catalogue(document.revision, document.tasks, jobs, base=document.base)


class _OlderStage(msgspec.Struct, frozen=True):
    """A stage as releases before `source` stored it."""

    source: TaskSource | None = None
    spawn_task: str | None = None
    open: bool = False
    tasks: tuple[TaskDefinition, ...] = ()

    def read_source(self) -> TaskSource:
        if self.spawn_task is not None:
            return SpawnedTasks(self.spawn_task)
        if self.tasks:
            return ListedTasks(self.tasks)
        return LaterTasks() if self.open else SingleTask()


class _OlderJob(msgspec.Struct, frozen=True):
    stages: tuple[_OlderStage, ...]


class _OlderDocument(msgspec.Struct, frozen=True):
    jobs: dict[str, _OlderJob]


def _with_sources(job: JobDefinition, older: tuple[_OlderStage, ...]) -> JobDefinition:
    if all(one.source is not None for one in older):
        return job
    stages = (replace(stage, source=one.read_source()) for stage, one in zip(job.stages, older, strict=True))
    return replace(job, stages=tuple(stages))


def revision_of(tasks: dict[str, TaskClass], jobs: dict[str, JobDefinition], files_digest: str | None) -> str:
    """Return the name of this content: 16 hexadecimal digits."""
    content = to_json(Catalogue("", tasks, jobs)) + (files_digest or "")
    return hashlib.sha256(content.encode()).hexdigest()[:16]
