"""Reading jobs, their history and what never changes about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection, and_, bindparam, select
from sqlalchemy import Row as Named

from echelon.controller.core.model import Tally
from echelon.controller.datastore.cursors import cursor_after, place_of
from echelon.controller.datastore.prepared import Prepared
from echelon.controller.datastore.records import EventView, JobFacts, JobFilter, JobInputs, JobView, Page, StageView
from echelon.controller.datastore.rows import STATES, decode_names, decode_object
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.tables import compositions, definitions, events, job_inputs, jobs, stages
from echelon.shared.errors import InvalidInput
from echelon.shared.ids import JobId

_LONGEST_TEXT = 1_000
_LARGEST_PAGE = 10_000

#: A row of many columns.
Found: TypeAlias = "Named[*tuple[Any, ...]]"

_STAGE = (
    stages.c.job, stages.c.number, stages.c.place, stages.c.name, stages.c.task_class, stages.c.spawn_class,
    stages.c.state, stages.c.pending, stages.c.queued, stages.c.running, stages.c.completed, stages.c.failed,
    stages.c.cancelled, stages.c.skipped, stages.c.spawn, stages.c.expected, stages.c.max_parallel, stages.c.queue,
    stages.c.error, stages.c.etag, stages.c.started_at, stages.c.ended_at, stages.c.claim_queue, stages.c.source,
    stages.c.on_error, stages.c.by_whom, stages.c.paused_at, stages.c.blocked, stages.c.held, stages.c.withdrawn,
)  # fmt: skip
_JOB = (
    jobs.c.key, jobs.c.stage_count, jobs.c.job_id, jobs.c.type, job_inputs.c.revision, jobs.c.state, job_inputs.c.input,
    job_inputs.c.secret, jobs.c.error, jobs.c.etag, jobs.c.created_at, jobs.c.started_at, jobs.c.ended_at,
    jobs.c.by_whom, jobs.c.paused_at,
)  # fmt: skip
_JOBS = select(*_JOB).join_from(jobs, job_inputs, job_inputs.c.key == jobs.c.key)
_OWN_STAGES = and_(stages.c.key >= jobs.c.key, stages.c.key < jobs.c.key + jobs.c.stage_count)
#: A job with its stages, one in a row. The job's key is that of its first stage: only that row holds the inputs.
ONE_JOB = Prepared(
    select(*_JOB, *_STAGE)
    .join_from(jobs, stages, _OWN_STAGES)
    .outerjoin(job_inputs, job_inputs.c.key == stages.c.key)
    .where(jobs.c.job_id == bindparam("job_id"))
    .order_by(stages.c.key),
    "job_id",
)

_FACTS = Prepared(
    select(
        jobs.c.type,
        job_inputs.c.revision,
        job_inputs.c.input,
        job_inputs.c.sealed,
        job_inputs.c.seal,
        job_inputs.c.seal_number,
    )
    .join_from(jobs, job_inputs, job_inputs.c.key == jobs.c.key)
    .where(jobs.c.job_id == bindparam("job_id")),
    "job_id",
)


class JobReads:
    """The methods of `Reader` about jobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def job(self, job_id: JobId) -> JobView | None:
        """Return a job with all its stages."""
        return job_of(self._prepared(ONE_JOB, job_id))

    def jobs(self, wanted: JobFilter, *, limit: int, cursor: str | None) -> Page[JobView]:
        """Return a page of jobs, newest first, with their stages."""
        limit = page_size(limit)
        query = _JOBS.order_by(jobs.c.key.desc()).limit(limit + 1)
        if cursor is not None:
            query = query.where(jobs.c.key < place_of("jobs", cursor, 1)[0])
        if wanted.state is not None:
            query = query.where(jobs.c.state == wanted.state.value)
        if wanted.type is not None:
            query = query.where(jobs.c.type == searchable(wanted.type))
        if wanted.text is not None:
            text = searchable(wanted.text).casefold()
            query = query.where(job_inputs.c.words.contains(text, autoescape=True))
        rows = self._connection.execute(query).all()
        more = len(rows) > limit
        rows = rows[:limit]
        return Page(self._views(rows), cursor_after("jobs", rows[-1].key) if more else None)

    def events(self, job_id: JobId, *, limit: int, cursor: str | None) -> Page[EventView]:
        """Return a page of a job's history, in order."""
        after = place_of("events", cursor, 1)[0] if cursor is not None else 0
        limit = page_size(limit)
        query = (
            select(events.c.number, events.c.at, events.c.kind, events.c.stage, events.c.detail)
            .where(events.c.job == self._key(job_id), events.c.number > after)
            .order_by(events.c.number)
            .limit(limit + 1)
        )
        rows = self._connection.execute(query).all()
        items = [EventView(number, at, kind, stage, decode_object(detail)) for number, at, kind, stage, detail in rows]
        more = len(items) > limit
        items = items[:limit]
        return Page(items, cursor_after("events", items[-1].number) if more else None)

    def facts(self, job_id: JobId) -> JobFacts | None:
        """Return what never changes about a job, and its values with the secrets sealed."""
        rows = self._prepared(_FACTS, job_id)
        if not rows:
            return None
        row = rows[0]
        sealed = {name: str(value) for name, value in decode_object(row.sealed).items()}
        inputs = JobInputs(decode_object(row.input), sealed, row.seal, row.seal_number)
        return JobFacts(job_id, row.type, row.revision, inputs)

    def definition(self, revision: str, *, of: JobId | None = None) -> str | None:
        """Return a revision of the catalogue; of a composed job the small one that it has brought along."""
        own = select(compositions.c.document).where(compositions.c.key == self._key(of)) if of is not None else None
        brought: str | None = None if own is None else self._connection.execute(own).scalar()
        if brought is not None:
            return brought
        query = select(definitions.c.document).where(definitions.c.revision == revision)
        return self._connection.execute(query).scalar()

    def _prepared(self, statement: Prepared, *parameters: str) -> Sequence[Found]:
        text = statement.sqlite if self._connection.dialect.name == "sqlite" else statement.postgresql
        return self._connection.exec_driver_sql(text, parameters).all()

    def _key(self, job_id: JobId) -> Any:
        return select(jobs.c.key).where(jobs.c.job_id == job_id).scalar_subquery()

    def _views(self, rows: Sequence[Found]) -> list[JobView]:
        """Return jobs with their stages, all of which come in one more query."""
        if not rows:
            return []
        views: dict[int, list[StageView]] = {row.key: [] for row in rows}
        query = select(*_STAGE).join_from(jobs, stages, _OWN_STAGES).where(jobs.c.key.in_(views)).order_by(stages.c.key)
        for stage in self._connection.execute(query):
            views[stage[0]].append(_stage_view(stage))
        return [_job_view(row, views[row.key]) for row in rows]


def job_of(rows: Sequence[Found] | Sequence[Row]) -> JobView | None:
    """Return the job that the rows of `ONE_JOB` hold."""
    if not rows:
        return None
    return _job_view(rows[0][: len(_JOB)], [_stage_view(row[len(_JOB) :]) for row in rows])


def page_size(limit: int) -> int:
    """Return a limit that the database's integers hold."""
    return max(1, min(limit, _LARGEST_PAGE))


def searchable(text: str) -> str:
    """Return text that a database can compare; InvalidInput for what no stored text can hold."""
    if len(text) > _LONGEST_TEXT or "\0" in text:
        raise InvalidInput(f"the text to look for holds NUL or more than {_LONGEST_TEXT} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("the text to look for is not valid Unicode") from None
    return text


def _stage_view(row: Found | Row) -> StageView:
    (
        _, number, order, name, task_class, spawn_task, state, pending, queued, running, completed, failed, cancelled,
        skipped, spawn, expected, max_parallel, queue, error, etag, started_at, ended_at, waits_in,
        source, on_error, by, paused_at, blocked, held, withdrawn,
    ) = row  # fmt: skip
    return StageView(
        number, order, name, task_class, spawn_task, STATES[state],
        Tally(pending, queued, running, completed, failed, cancelled, skipped, held, withdrawn),
        STATES[spawn] if spawn else None, expected, max_parallel, queue, error, etag, started_at, ended_at,
        waits_in, source, on_error, by, paused_at, bool(blocked),
    )  # fmt: skip


def _job_view(row: Found | Row, found: Sequence[StageView]) -> JobView:
    (
        _, _, job_id, job_type, revision, state, values, secret, error, etag, created_at, started_at, ended_at, by,
        paused_at,
    ) = row  # fmt: skip
    failed = sum(stage.tally.failed + (stage.spawn == "FAILED") for stage in found)
    return JobView(
        JobId(job_id), job_type, revision, STATES[state], decode_object(values), decode_names(secret), failed, error,
        etag, created_at, started_at, ended_at, found, by, paused_at,
    )  # fmt: skip
