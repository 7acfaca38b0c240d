"""Reads of failed tasks: why they failed, without all else that a task's view holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import select

from echelon.controller.core.states import State
from echelon.controller.datastore.encoding import NamedItem, decode_items, decode_object
from echelon.controller.datastore.reading import ReaderBase
from echelon.controller.datastore.sql import PRESENT, is_in
from echelon.controller.datastore.tables import tasks
from echelon.shared.ids import JobId, TaskId
from echelon.shared.messages import JsonValue


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that is FAILED now."""

    task_id: TaskId
    stage: int
    index: int
    task_class: str
    error: str
    #: The values of its item; secret ones are sealed.
    input: Mapping[str, JsonValue] | None


class FailureReads(ReaderBase):
    """The methods of a reader about failed tasks, and about what tells tasks apart."""

    def find_items(self, task_ids: Collection[TaskId]) -> dict[TaskId, NamedItem]:
        """Return what names these tasks, as far as they exist; secret values are sealed."""
        query = select(tasks.c.task_id, tasks.c.task_class, tasks.c.input, tasks.c.idx)
        return decode_items(self._connection.execute(query.where(tasks.c.task_id.in_(task_ids))))

    def list_failures(self, job_id: JobId, *, limit: int) -> list[Failure]:
        """Return the first failed tasks of a job, by stage and index: of a spawn task, its stage's first."""
        job = self._find_keys(job_id)
        if job is None:
            return []
        key, count = job
        # The index of failed tasks finds them; those that have not failed are not read.
        query = (
            select(
                tasks.c.task_id, tasks.c.stage, tasks.c.idx, tasks.c.task_class, tasks.c.error, tasks.c.input,
                tasks.c.exit_code, tasks.c.signal,
            )
            .where(is_in(tasks.c.state, State.FAILED), tasks.c.stage >= key, tasks.c.stage < key + count, PRESENT)
            .order_by(tasks.c.stage, tasks.c.idx)
            .limit(limit)
        )  # fmt: skip
        return [
            Failure(
                TaskId(task_id), stage - key, index, task_class, error or _describe_end(exit_code, signal),
                decode_object(values) if values else None,
            )
            for task_id, stage, index, task_class, error, values, exit_code, signal in self._connection.execute(query)
        ]  # fmt: skip


def _describe_end(exit_code: int | None, signal: int | None) -> str:
    if signal is not None:
        return f"signal {signal}"
    return "failed" if exit_code is None else f"exit code {exit_code}"
