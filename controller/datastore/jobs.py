"""Jobs and revisions of the catalogue: inserting them, locking and saving a job."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec.structs import replace
from sqlalchemy import bindparam as _p
from sqlalchemy import case, func, null, select, update
from sqlalchemy.dialects import postgresql, sqlite

from echelon.controller.core.model import Job, Stage
from echelon.controller.core.states import ENDED
from echelon.controller.datastore.cache import Entry, KeptInput, keep_if_short
from echelon.controller.datastore.encoding import STATES, clean_text, encode_json
from echelon.controller.datastore.errors import GuardFailed
from echelon.controller.datastore.prepared import Among, Prepared
from echelon.controller.datastore.records import NewJob, Remembered
from echelon.controller.datastore.secrets import ERASE_SECRETS, words_of
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.sql import ONE, build_insertion
from echelon.controller.datastore.stages import (
    INSERT_STAGE,
    LOAD_STAGES,
    SAVE_STAGE,
    STAGE_ETAG,
    new_stage_row,
    saved_stage_row,
    stage_of,
    times_from_start,
    times_of_change,
)
from echelon.controller.datastore.tables import compositions, definitions, job_inputs, jobs
from echelon.controller.datastore.tasks import TaskWrites
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId

INSERT_JOB = build_insertion(jobs)
INSERT_INPUT = build_insertion(job_inputs)
INSERT_COMPOSITION = build_insertion(compositions)

SUBMITTED_WITH = Prepared(
    select(jobs.c.job_id, job_inputs.c.request_hash)
    .join_from(job_inputs, jobs, jobs.c.key == job_inputs.c.key)
    .where(job_inputs.c.idempotency_key == _p("idempotency_key")),
    "idempotency_key",
)

_locked = select(
    jobs.c.job_id, jobs.c.key, jobs.c.etag, jobs.c.stage_count, jobs.c.state, jobs.c.error, jobs.c.by_whom
).where(Among(jobs.c.job_id, _p("job_ids")))
LOCK_JOBS = Prepared(_locked, "job_ids", postgresql=_locked.order_by(jobs.c.key).with_for_update())
LOCK_FREE_JOBS = Prepared(_locked, "job_ids", postgresql=_locked.order_by(jobs.c.key).with_for_update(skip_locked=True))
KNOWN_JOBS = Prepared(select(jobs.c.job_id).where(Among(jobs.c.job_id, _p("job_ids"))), "job_ids")
SAVE_JOB = Prepared(
    update(jobs)
    .where(jobs.c.key == _p("at_key"), jobs.c.etag == _p("at_etag"))
    .values(
        state=_p("state"),
        error=_p("error"),
        etag=jobs.c.etag + ONE,
        started_at=func.coalesce(jobs.c.started_at, _p("begun_at")),
        ended_at=case((jobs.c.state == _p("same"), jobs.c.ended_at), else_=_p("ended")),
        by_whom=_p("by_whom"),
        paused_at=case((_p("paused") == ONE, func.coalesce(jobs.c.paused_at, _p("since"))), else_=null()),
        updated_at=_p("updated"),
    ),
    "state error begun_at same ended by_whom paused since updated at_key at_etag",
)
SAVE_DEFINITION = Prepared(
    sqlite.insert(definitions).inline().on_conflict_do_nothing(),
    "revision document created_at",
    postgresql=postgresql.insert(definitions).inline().on_conflict_do_nothing(),
)


class JobWrites(TaskWrites):
    """The methods of a transaction about jobs."""

    def insert_job(self, new: NewJob) -> None:
        """Insert a job with its stages, its known tasks, its sealed secrets and its idempotency key."""
        key = self._session.reserve_keys(max(1, len(new.job.stages)))
        now = self.now()
        values = _input_row(new, key)
        stages = zip(new.job.stages, new.classes, strict=True)
        self._session.send_rows(INSERT_JOB, _job_row(new, key, now))
        self._session.send_rows(INSERT_INPUT, values)
        self._session.send_rows(INSERT_STAGE, *(new_stage_row(stage, key, classes, now) for stage, classes in stages))
        if new.composition is not None:
            self._session.send_rows(INSERT_COMPOSITION, (key, new.composition))
        self._keep_entry(Entry(key, 1, new.job, keep_if_short(KeptInput(values[2], *values[4:7]))))
        self._note_ready(new.job, new.job.stages)
        for number, of_stage in enumerate(new.tasks):
            self._insert_tasks(key + number, of_stage)

    def submitted_with(self, key: str) -> Remembered | None:
        """Return the job that was submitted with an idempotency key."""
        for job_id, request_hash in self._session.fetch_rows(SUBMITTED_WITH, (key,)):
            return Remembered(job_id, request_hash or "")
        return None

    def lock_jobs(self, job_ids: Collection[JobId], *, skip_locked: bool = False) -> dict[JobId, Job]:
        """Lock jobs, always in the same order, and return those that exist.

        `skip_locked` also leaves out jobs that another transaction has locked, instead of waiting.
        """
        wanted = [job_id for job_id in job_ids if job_id not in self._locked]
        if wanted:
            statement = LOCK_FREE_JOBS if skip_locked else LOCK_JOBS
            for job_id, key, etag, count, state, error, by in self._rows_of(statement, wanted):
                entry = self._cache.find_job(job_id, etag)
                self._keep_entry(entry or self._load_job(Job(job_id, STATES[state], (), error, by), key, etag, count))
        return {job_id: self._locked[job_id].job for job_id in job_ids if job_id in self._locked}

    def save_job(self, before: Job, after: Job) -> None:
        """Write the changes of a job and its stages, with new etags and the times of state changes.

        The sealed secrets and the seal of a job that has ended are erased here.
        """
        entry = self._locked_entry(after.job_id)
        if before is not entry.job and before != entry.job:
            raise GuardFailed(f"job {after.job_id} is not as the transaction has left it (a bug of Echelon)")
        changed = [new for old, new in zip(before.stages, after.stages, strict=True) if old is not new and old != new]
        if not changed and (before.state, before.error, before.by) == (after.state, after.error, after.by):
            return
        now = self.now()
        state = after.state.value
        started, ended = times_of_change(after.state, now)
        pause = (clean_text(after.by), int(after.paused), now)
        row = (state, clean_text(after.error), started, state, ended, *pause, now, entry.key, entry.etag)
        complaint = f"job {after.job_id} was changed without its lock (a bug of Echelon)"
        self._session.send_guarded(SAVE_JOB, [row], complaint)
        self._note_ready(after, [stage for stage in changed if _is_new_in_line(before, stage)])
        rows = [saved_stage_row(stage, entry.key, now) for stage in changed]
        self._session.send_guarded(SAVE_STAGE, rows, f"a stage of job {entry.key} is missing (a bug of Echelon)")
        if after.state in ENDED and not ablated("secret_erasure"):
            self._session.send_rows(ERASE_SECRETS, (entry.key,))
        self._keep_entry(Entry(entry.key, entry.etag + 1, after, None if after.state in ENDED else entry.input))

    def job_exists(self, job_id: JobId) -> bool:
        """Tell whether a job exists, without waiting for its lock."""
        return bool(self._rows_of(KNOWN_JOBS, [job_id]))

    def job_etag(self, job_id: JobId) -> int:
        """Return the etag of a locked job as of its lock or last save."""
        return self._locked_entry(job_id).etag

    def stage_etag(self, job_id: JobId, stage: int) -> int:
        """Return the etag of a stage of a locked job."""
        return int(self._session.fetch_rows(STAGE_ETAG, (self._locked_entry(job_id).key + stage,))[0][0])

    def save_definition(self, revision: str, document: str) -> None:
        """Store a revision of the catalogue; an existing one stays as it is."""
        self._session.send_rows(SAVE_DEFINITION, (revision, document, self.now()))

    def _note_ready(self, job: Job, stages: Iterable[Stage]) -> None:
        """Have stages that become ready take the last place of their rank."""
        self._moved.update(((job.job_id, stage.number), None) for stage in stages if stage.claimable)

    def _load_job(self, job: Job, key: int, etag: int, count: int) -> Entry:
        stages = tuple(stage_of(row) for row in self._session.fetch_rows(LOAD_STAGES, (key, key + count)))
        return Entry(key, etag, replace(job, stages=stages, live=None))


def _is_new_in_line(before: Job, stage: Stage) -> bool:
    """Tell whether a stage becomes ready or changes its rank."""
    old = before.stages[stage.number]
    return (not old.claimable and not ablated("new_place")) or old.claim_rank != stage.claim_rank


def _job_row(new: NewJob, key: int, now: float) -> Row:
    job = new.job
    times = (now, *times_from_start(job.state, now))
    pause = (clean_text(job.by), now if job.paused else None)
    return (key, job.job_id, new.type, job.state.value, clean_text(job.error), len(job.stages), 1, *times, *pause, now)


def _input_row(new: NewJob, key: int) -> Row:
    ended = new.job.state in ENDED
    return (
        key,
        new.revision,
        encode_json(new.input),
        encode_json(sorted(new.sealed)),
        encode_json(new.sealed) if new.sealed and not ended else None,
        None if ended else new.seal,
        int(new.seal is not None),
        words_of(new.job.job_id, new.type, new.input),
        new.idempotency_key,
        new.request_hash,
        new.request_id,
    )
