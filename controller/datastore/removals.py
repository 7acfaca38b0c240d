"""Deleting jobs: first what shows a job, in one short transaction; then its tasks and history, part by part.

The rows of a large job are too many for one transaction: nothing else could be written meanwhile. Until all of them and
the job's files are gone, a row of `removals` remembers what is left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Table, and_, delete, func, select
from sqlalchemy import bindparam as _p

from echelon.controller.datastore.base import TransactionBase
from echelon.controller.datastore.files import DELETE_UNPUBLISHED
from echelon.controller.datastore.prepared import Among, Prepared
from echelon.controller.datastore.reading import ReaderBase, check_search_text, page_size
from echelon.controller.datastore.sql import DYING, IN_RANGE, ZERO, build_insertion
from echelon.controller.datastore.stages import DELETE_STAGES
from echelon.controller.datastore.tables import (
    attempts,
    compositions,
    events,
    job_inputs,
    jobs,
    removals,
    task_key,
    tasks,
)
from echelon.shared.ids import JobId

DELETE_TASKS = Prepared(delete(tasks).where(IN_RANGE), "first_key end_key")
TASKS_AFTER = Prepared(
    select(tasks.c.key).where(IN_RANGE).order_by(tasks.c.key).limit(_p("count")).offset(_p("count")),
    "first_key end_key count count",
)
#: A task whose last attempt is not known to be gone.
COUNT_DYING = Prepared(
    select(func.count(tasks.c.key)).where(IN_RANGE, DYING, tasks.c.lease_until > _p("now")), "first_key end_key now"
)
DELETE_INPUT = Prepared(delete(job_inputs).where(job_inputs.c.key == _p("at_key")), "at_key")
DELETE_COMPOSITION = Prepared(delete(compositions).where(compositions.c.key == _p("at_key")), "at_key")
DELETE_JOB = Prepared(delete(jobs).where(jobs.c.key == _p("at_key")), "at_key")
INSERT_REMOVAL = build_insertion(removals)
DELETE_REMOVAL = Prepared(delete(removals).where(removals.c.key == _p("at_key")), "at_key")
ENDED_AT = Prepared(select(jobs.c.job_id, jobs.c.ended_at).where(Among(jobs.c.job_id, _p("job_ids"))), "job_ids")


def _delete_history(table: Table) -> Prepared:
    """Return the statement that deletes the first lines of a job in a table of its history."""
    first = select(table.c.number).where(table.c.job == _p("job")).order_by(table.c.number).limit(_p("count"))
    lines = delete(table).where(and_(table.c.job == _p("at_key"), table.c.number.in_(first.offset(ZERO))))
    return Prepared(lines.returning(table.c.number), "at_key job count")


DELETE_ATTEMPTS, DELETE_EVENTS = _delete_history(attempts), _delete_history(events)


@dataclass(frozen=True, slots=True)
class Removal:
    """A deleted job of which something is left."""

    key: int
    job_id: JobId
    #: First key after those of its stages.
    end_key: int


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that has ended."""

    key: int
    job_id: JobId
    type: str
    ended_at: float


class RemovalWrites(TransactionBase):
    """The methods of a transaction about deleting jobs."""

    def delete_job(self, job_id: JobId) -> Removal:
        """Delete all that shows a locked job; `delete_leftovers` deletes the rest."""
        self._write_history()
        entry = self._locked_entry(job_id)
        key, end = entry.key, entry.key + max(1, len(entry.job.stages))
        self._session.send_rows(DELETE_UNPUBLISHED, (task_key(key, -1), task_key(end, -1)))
        self._session.send_rows(DELETE_STAGES, (key, end))
        for statement in (DELETE_COMPOSITION, DELETE_INPUT, DELETE_JOB):
            self._session.send_rows(statement, (key,))
        self._session.send_rows(INSERT_REMOVAL, (key, job_id, end))
        self.log_fact(job_id, "job_deleted")
        del self._locked[job_id]
        self._deleted.add(job_id)
        return Removal(key, job_id, end)

    def is_dying(self, removal: Removal) -> bool:
        """Tell whether processes of a deleted job may still be ending: they would make its folders again."""
        first, end = task_key(removal.key, -1), task_key(removal.end_key, -1)
        return bool(self._session.fetch_rows(COUNT_DYING, (first, end, self.now()))[0][0])

    def delete_leftovers(self, removal: Removal, *, limit: int) -> bool:
        """Delete up to `limit` rows of a deleted job in each table; return whether there may be more."""
        first, end = task_key(removal.key, -1), task_key(removal.end_key, -1)
        following = self._session.fetch_rows(TASKS_AFTER, (first, end, 1, limit))
        self._session.send_rows(DELETE_TASKS, (first, following[0][0] if following else end))
        lines = [
            len(self._session.fetch_rows(statement, (removal.key, removal.key, limit)))
            for statement in (DELETE_ATTEMPTS, DELETE_EVENTS)
        ]
        return bool(following) or max(lines) >= limit

    def forget_removal(self, removal: Removal) -> None:
        """Note that nothing is left of a deleted job."""
        self._session.send_rows(DELETE_REMOVAL, (removal.key,))

    def find_ended_at(self, job_ids: Collection[JobId]) -> Mapping[JobId, float | None]:
        """Return when jobs ended; None for open ones."""
        return dict(self._rows_of(ENDED_AT, job_ids))


class RemovalReads(ReaderBase):
    """The methods of a reader about jobs that may go, and about those that are gone."""

    def list_removals(self, *, limit: int, job_id: JobId | None = None) -> list[Removal]:
        """Return deleted jobs of which something is left; with `job_id` that one alone."""
        query = select(removals.c.key, removals.c.job_id, removals.c.end_key).order_by(removals.c.key).limit(limit)
        if job_id is not None:
            query = query.where(removals.c.job_id == job_id)
        return [Removal(key, JobId(name), end) for key, name, end in self._connection.execute(query)]

    def list_ended(
        self,
        *,
        before: float,
        limit: int,
        after: int = -1,
        only: str | None = None,
        without: Sequence[str] = (),
    ) -> list[EndedJob]:
        """Return jobs that ended before a moment, the oldest first: of one type, or of all but some.

        Only jobs whose key is above `after`. It reads all jobs: not for the hot path.
        """
        query = _ENDED.where(jobs.c.ended_at < before, jobs.c.key > after).order_by(jobs.c.key)
        if only is not None:
            query = query.where(jobs.c.type == check_search_text(only))
        if without:
            query = query.where(jobs.c.type.not_in(without))
        return [EndedJob(*row) for row in self._connection.execute(query.limit(page_size(limit)))]

    def list_surplus(self, *, kept: int, limit: int, without: Sequence[str] = ()) -> list[EndedJob]:
        """Return ended jobs beside the `kept` ones that ended last, of all types but some."""
        query = _ENDED.where(jobs.c.ended_at.is_not(None)).order_by(jobs.c.ended_at.desc(), jobs.c.key.desc())
        if without:
            query = query.where(jobs.c.type.not_in(without))
        return [EndedJob(*row) for row in self._connection.execute(query.offset(kept).limit(page_size(limit)))]


_ENDED = select(jobs.c.key, jobs.c.job_id, jobs.c.type, jobs.c.ended_at)
