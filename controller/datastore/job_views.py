"""Reads of jobs and their history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, bindparam, literal, select, true, tuple_, union_all

from echelon.controller.core.states import State
from echelon.controller.datastore.cursors import cursor_after, decode_time, encode_time, place_of
from echelon.controller.datastore.encoding import STATES, decode_names, decode_object
from echelon.controller.datastore.filters import JobFilter
from echelon.controller.datastore.prepared import Prepared
from echelon.controller.datastore.reading import Found, ReaderBase, check_search_text, page_size
from echelon.controller.datastore.records import EventView, JobFacts, JobInputs, JobView, RecordPage, StageView
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.stages import STAGE_COLUMNS, stage_view
from echelon.controller.datastore.tables import compositions, definitions, events, job_inputs, jobs, stages
from echelon.shared.ids import JobId

_JOB = (
    jobs.c.key, jobs.c.stage_count, jobs.c.job_id, jobs.c.type, job_inputs.c.revision, jobs.c.state, job_inputs.c.input,
    job_inputs.c.secret, jobs.c.error, jobs.c.etag, jobs.c.created_at, jobs.c.started_at, jobs.c.ended_at,
    jobs.c.by_whom, jobs.c.paused_at, jobs.c.updated_at,
)  # fmt: skip
_JOBS = select(*_JOB).join_from(jobs, job_inputs, job_inputs.c.key == jobs.c.key)
_OWN_STAGES = and_(stages.c.key >= jobs.c.key, stages.c.key < jobs.c.key + jobs.c.stage_count)
#: A job with its stages, one per row. The job's key is that of its first stage: only that row has the inputs.
ONE_JOB = Prepared(
    select(*_JOB, *STAGE_COLUMNS)
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


class JobReads(ReaderBase):
    """The methods of a reader about jobs."""

    def find_job(self, job_id: JobId) -> JobView | None:
        """Return a job with all its stages."""
        return job_of(self._run_prepared(ONE_JOB, job_id))

    def list_jobs(self, wanted: JobFilter, *, limit: int, cursor: str | None) -> RecordPage[JobView]:
        """Return a page of jobs by the time of creation, with their stages. A foreign cursor raises InvalidInput."""
        limit = page_size(limit)
        rows = self._connection.execute(select_jobs(wanted, limit + 1, cursor)).all()
        more = len(rows) > limit
        rows = rows[:limit]
        after = cursor_after("jobs", encode_time(rows[-1].created_at), rows[-1].key) if more else None
        return RecordPage(self._load_views(rows), after)

    def list_events(self, job_id: JobId, *, limit: int, cursor: str | None) -> RecordPage[EventView]:
        """Return a page of a job's history, in order."""
        after = place_of("events", cursor, 1)[0] if cursor is not None else 0
        limit = page_size(limit)
        query = (
            select(events.c.number, events.c.at, events.c.kind, events.c.stage, events.c.detail)
            .where(events.c.job == self._job_key(job_id), events.c.number > after)
            .order_by(events.c.number)
            .limit(limit + 1)
        )
        rows = self._connection.execute(query).all()
        items = [EventView(number, at, kind, stage, decode_object(detail)) for number, at, kind, stage, detail in rows]
        more = len(items) > limit
        items = items[:limit]
        return RecordPage(items, cursor_after("events", items[-1].number) if more else None)

    def find_facts(self, job_id: JobId) -> JobFacts | None:
        """Return a job's constant facts and its values, with sealed secrets."""
        rows = self._run_prepared(_FACTS, job_id)
        if not rows:
            return None
        row = rows[0]
        sealed = {name: str(value) for name, value in decode_object(row.sealed).items()}
        inputs = JobInputs(decode_object(row.input), sealed, row.seal, row.seal_number)
        return JobFacts(job_id, row.type, row.revision, inputs)

    def find_definition(self, revision: str, *, of: JobId | None = None) -> str | None:
        """Return a revision of the catalogue; for a composed job (`of`), its own small catalogue."""
        own = select(compositions.c.document).where(compositions.c.key == self._job_key(of)) if of is not None else None
        brought: str | None = None if own is None else self._connection.execute(own).scalar()
        if brought is not None:
            return brought
        query = select(definitions.c.document).where(definitions.c.revision == revision)
        return self._connection.execute(query).scalar()

    def _load_views(self, rows: Sequence[Found]) -> list[JobView]:
        """Return jobs with their stages; all stages come from one more query."""
        if not rows:
            return []
        views: dict[int, list[StageView]] = {row.key: [] for row in rows}
        query = select(stages.c.job, *STAGE_COLUMNS).join_from(jobs, stages, _OWN_STAGES)
        for stage in self._connection.execute(query.where(jobs.c.key.in_(views)).order_by(stages.c.key)):
            views[stage[0]].append(stage_view(stage[1:]))
        return [_job_view(row, views[row.key]) for row in rows]


def select_jobs(wanted: JobFilter, limit: int, cursor: str | None = None) -> Select[Any]:
    """Return the query for jobs. Its cost grows with what it finds, not with all jobs, but for a search of text."""
    columns = _Columns(jobs.c.state, jobs.c.type, jobs.c.created_at)
    states = wanted.states or (tuple(State) if wanted.type is not None else ())
    # The first jobs of each state in order, each from the index.
    choices = [columns.state == state.value for state in states] or [true()]
    if wanted.updated_after is not None:
        # Few jobs have changed, many may be of a state: as expressions, so that no other index is read.
        columns = _Columns(jobs.c.state.concat(""), jobs.c.type.concat(""), jobs.c.created_at + literal(0.0))
        choices = [columns.state.in_([state.value for state in wanted.states]) if wanted.states else true()]
    conditions = [*_conditions(wanted, columns), *_behind(wanted, cursor, columns.created_at)]
    parts = [select(jobs.c.key).where(choice, *conditions) for choice in choices]
    first = [part.order_by(*_order(wanted, columns.created_at)).limit(limit).subquery() for part in parts]
    found = union_all(*(select(part.c.key) for part in first))
    return _JOBS.where(jobs.c.key.in_(found)).order_by(*_order(wanted, jobs.c.created_at)).limit(limit)


class _Columns(NamedTuple):
    """The columns that filters compare."""

    state: ColumnElement[str]
    type: ColumnElement[str]
    created_at: ColumnElement[float]


def _order(wanted: JobFilter, created_at: ColumnElement[float]) -> tuple[ColumnElement[Any], ...]:
    place = (created_at, jobs.c.key)
    return place if wanted.oldest_first else tuple(column.desc() for column in place)


def _behind(wanted: JobFilter, cursor: str | None, created_at: ColumnElement[float]) -> Iterator[ColumnElement[bool]]:
    if cursor is not None:
        when, key = place_of("jobs", cursor, 2)
        here, there = tuple_(created_at, jobs.c.key), tuple_(literal(decode_time(when)), literal(key))
        yield here > there if wanted.oldest_first else here < there


def _conditions(wanted: JobFilter, columns: _Columns) -> Iterator[ColumnElement[bool]]:
    if wanted.created_after is not None:
        yield columns.created_at >= wanted.created_after
    if wanted.created_before is not None:
        yield columns.created_at < wanted.created_before
    if wanted.updated_after is not None:
        yield jobs.c.updated_at >= wanted.updated_after
    if wanted.type is not None:
        yield columns.type == check_search_text(wanted.type)
    if wanted.text is not None:
        text = check_search_text(wanted.text).casefold()
        words = select(job_inputs.c.key).where(job_inputs.c.key == jobs.c.key)
        yield words.where(job_inputs.c.words.contains(text, autoescape=True)).exists()


def job_of(rows: Sequence[Found] | Sequence[Row]) -> JobView | None:
    """Return the job in the rows of `ONE_JOB`."""
    if not rows:
        return None
    return _job_view(rows[0][: len(_JOB)], [stage_view(row[len(_JOB) :]) for row in rows])


def _job_view(row: Found | Row, found: Sequence[StageView]) -> JobView:
    (
        _, _, job_id, job_type, revision, state, values, secret, error, etag, created_at, started_at, ended_at, by,
        paused_at, updated_at,
    ) = row  # fmt: skip
    return JobView(
        JobId(job_id), job_type, revision, STATES[state], decode_object(values), decode_names(secret),
        sum(stage.failures for stage in found), error, etag, created_at, started_at, ended_at, updated_at, found, by,
        paused_at,
    )  # fmt: skip
