"""What may be looked up in a datastore, by the interface, by people's reasons, and by the engine.

An adapter passes the suite in tests/contract/test_datastore_reads.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from echelon.controller.datastore.outstanding import Unpublished
from echelon.controller.datastore.records import (
    AttemptView,
    EventView,
    JobFacts,
    JobFilter,
    JobView,
    Page,
    QueueView,
    RunningAttempt,
    TaskFilter,
    TaskView,
    WorkerView,
)
from echelon.shared.ids import JobId, TaskId, WorkerId


class Reader(Protocol):
    """Reads without locks; each method is one consistent look. Masked inputs only: no secret ever comes out here."""

    def now(self) -> float:
        """Return the store's own time, seconds since the epoch."""

    def job(self, job_id: JobId) -> JobView | None:
        """Return a job with all its stages."""

    def jobs(self, wanted: JobFilter, *, limit: int, cursor: str | None) -> Page[JobView]:
        """Return a page of jobs, newest first, with their stages. A cursor that is not ours raises InvalidInput."""

    def tasks(self, job_id: JobId, wanted: TaskFilter, *, limit: int, cursor: str | None) -> Page[TaskView]:
        """Return a page of a job's tasks, by stage and index, the spawn task first."""

    def task(self, task_id: TaskId) -> TaskView | None:
        """Return one task."""

    def task_at(self, job_id: JobId, stage: int, index: int) -> TaskView | None:
        """Return the task at a place; index -1 is the spawn task."""

    def next_due(self, job_id: JobId, stage: int) -> TaskView | None:
        """Return the task of a stage that waits for the time which comes first; what is paused waits for none."""

    def first_paused(self, job_id: JobId, stage: int) -> TaskView | None:
        """Return the first task of a stage that a person holds back, the spawn task before all others."""

    def attempts(self, task_id: TaskId) -> list[AttemptView]:
        """Return the ended attempts of a task, in order."""

    def attempts_since(self, job_id: JobId, *, after: int, limit: int) -> list[tuple[int, AttemptView]]:
        """Return attempts of a job that ended after a cursor (0: from the first), in the order of their end."""

    def running(self, job_id: JobId, *, limit: int) -> list[TaskView]:
        """Return tasks of a job that run now."""

    def events(self, job_id: JobId, *, limit: int, cursor: str | None) -> Page[EventView]:
        """Return a page of a job's history, in order."""

    def unpublished(
        self, job_id: JobId | None = None, *, stage: int | None = None, after: int = -1, limit: int
    ) -> list[Unpublished]:
        """Return the last attempts that counted and whose files are to be published, with keys behind `after`."""

    def matching(self, prefix: str, *, limit: int) -> tuple[list[JobId], list[TaskId]]:
        """Return jobs and tasks whose id begins with `prefix`."""

    def workers(self, *, lost_after: float) -> list[WorkerView]:
        """Return the workers; without a sign of life for `lost_after` seconds one is LOST."""

    def at_work(self, *, limit: int) -> dict[WorkerId, list[RunningAttempt]]:
        """Return the first `limit` attempts that each worker holds, by job, stage and index."""

    def taken(self) -> dict[WorkerId, dict[str, int]]:
        """Return how many attempts each worker holds per queue, with those that lost their claim and may be there."""

    def queues(self) -> list[QueueView]:
        """Return what waits and runs per queue."""

    def open_jobs(self, *, limit: int) -> int:
        """Return how many jobs have not ended, `limit` at most."""

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Return {"jobs": {state: n}} of all jobs and {"tasks": {state: n}} of the open ones, for the metrics."""

    def facts(self, job_id: JobId) -> JobFacts | None:
        """Return what never changes about a job, and its values with the secrets sealed."""

    def definition(self, revision: str, *, of: JobId | None = None) -> str | None:
        """Return a revision of the catalogue; of a composed job the small one that it has brought along."""
