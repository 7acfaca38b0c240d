"""The attempts whose files are still to be published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, FromClause, Insert, and_, delete, exists, or_, select
from sqlalchemy import bindparam as _p
from sqlalchemy.dialects import postgresql, sqlite

from echelon.controller.datastore.base import TransactionBase
from echelon.controller.datastore.prepared import Among, Prepared
from echelon.controller.datastore.reading import ReaderBase
from echelon.controller.datastore.records import SPAWN_INDEX
from echelon.controller.datastore.sql import ONE
from echelon.controller.datastore.tables import attempts, jobs, stages, task_key, tasks, unpublished
from echelon.shared.ids import JobId
from echelon.shared.messages import Outcome

_MARK: dict[str, BindParameter[Any]] = {"task": _p("task"), "attempt": _p("attempt")}
_sqlite = sqlite.insert(unpublished).inline().values(_MARK)
_postgresql = postgresql.insert(unpublished).inline().values(_MARK)


def _mark_of_records(records: FromClause) -> Insert:
    marks = postgresql.insert(unpublished).inline()
    marks = marks.from_select(["task", "attempt"], select(records.c.task, records.c.attempt))
    return marks.on_conflict_do_update(index_elements=["task"], set_={"attempt": marks.excluded.attempt})


#: One row per task. Attempts that counted before the one in it are published first.
MARK_UNPUBLISHED = Prepared(
    _sqlite.on_conflict_do_update(index_elements=["task"], set_={"attempt": _sqlite.excluded.attempt}),
    "task attempt",
    postgresql=_postgresql.on_conflict_do_update(
        index_elements=["task"], set_={"attempt": _postgresql.excluded.attempt}
    ),
    of_records=_mark_of_records,
)
_in_range = and_(unpublished.c.task >= _p("first_key"), unpublished.c.task < _p("end_key"))
LACKS_FILES = Prepared(
    select(exists(select(ONE).where(or_(_in_range, unpublished.c.task == _p("at_key"))))),
    "first_key end_key at_key",
)
DELETE_PUBLISHED = Prepared(
    delete(unpublished)
    .where(Among(unpublished.c.task, _p("keys")), unpublished.c.attempt == _p("at_attempt"))
    .returning(unpublished.c.task),
    "keys at_attempt",
)
DELETE_UNPUBLISHED = Prepared(delete(unpublished).where(_in_range), "first_key end_key")


@dataclass(frozen=True, slots=True)
class Unpublished:
    """An attempt that counts and whose files may be missing from the workspace."""

    #: Key of the task; lists are in its order.
    key: int
    job_id: JobId
    stage: int
    index: int
    attempt: int
    #: Earlier attempts that counted before the task was repeated: their files are published first, or never.
    before: tuple[int, ...] = ()


class FileWrites(TransactionBase):
    """The methods of a transaction about files. To add or remove a row, lock its job first."""

    def lacks_files(self, job_id: JobId, stage: int) -> bool:
        """Tell whether files that a stage's tasks may need are unpublished: of earlier stages or of its own spawn task.

        Once False, it stays False until an earlier stage is reopened.
        """
        entry = self._locked_entry(job_id)
        order = entry.job.stages[stage].order
        first = min(each.number for each in entry.job.stages if each.order == order)
        ahead = task_key(entry.key, SPAWN_INDEX), task_key(entry.key + first, SPAWN_INDEX)
        ((lacks,),) = self._session.fetch_rows(LACKS_FILES, (*ahead, task_key(entry.key + stage, SPAWN_INDEX)))
        return bool(lacks)

    def mark_published(self, attempts: Sequence[Unpublished]) -> list[Unpublished]:
        """Note that the files of attempts are published; return the attempts for which this is new.

        An attempt that a later one has replaced is left out: its files are published again with the later one.
        """
        removed: set[tuple[int, int]] = set()
        for number in sorted({one.attempt for one in attempts}):
            keys = self._session.list_parameter([one.key for one in attempts if one.attempt == number])
            removed |= {(key, number) for (key,) in self._session.fetch_rows(DELETE_PUBLISHED, (keys, number))}
        return [one for one in attempts if (one.key, one.attempt) in removed]


_UNPUBLISHED = (
    select(unpublished.c.task, jobs.c.job_id, stages.c.number, tasks.c.idx, unpublished.c.attempt)
    .select_from(unpublished)
    .join(tasks, tasks.c.key == unpublished.c.task)
    .join(stages, stages.c.key == tasks.c.stage)
    .join(jobs, jobs.c.key == stages.c.job)
)


class FileReads(ReaderBase):
    """The methods of a reader about files."""

    def find_unpublished(
        self, job_id: JobId | None = None, *, stage: int | None = None, after: int = -1, limit: int
    ) -> list[Unpublished]:
        """Return attempts whose files are still to be published: of any job, of one, or of one of its stages.

        Of each task the last attempt that counted; only tasks whose key is above `after`.
        """
        query = _UNPUBLISHED.where(unpublished.c.task > after)
        if job_id is not None:
            job = self._find_keys(job_id)
            if job is None:
                return []
            key, count = job if stage is None else (job[0] + stage, 1)
            query = query.where(unpublished.c.task >= task_key(key, -1), unpublished.c.task < task_key(key + count, -1))
        rows = self._connection.execute(query.order_by(unpublished.c.task).limit(limit)).all()
        before = self._counted_before({key: attempt for key, _, _, _, attempt in rows if attempt > 1})
        return [
            Unpublished(key, JobId(job), stage, index, attempt, before.get(key, ()))
            for key, job, stage, index, attempt in rows
        ]

    def _counted_before(self, marked: Mapping[int, int]) -> dict[int, tuple[int, ...]]:
        """Return, for each task, its attempts before this one that were counted until the task was repeated."""
        if not marked:
            return {}
        query = select(attempts.c.task, attempts.c.attempt).where(
            attempts.c.task.in_(marked), attempts.c.kept == 1, attempts.c.outcome == Outcome.COMPLETED.value
        )
        found: dict[int, tuple[int, ...]] = {}
        for key, attempt in self._connection.execute(query.order_by(attempts.c.task, attempts.c.attempt)):
            if attempt < marked[key]:
                found[key] = (*found.get(key, ()), attempt)
        return found
