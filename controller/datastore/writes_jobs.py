"""Writing jobs, stages, their history, and revisions of the catalogue."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from echelon.controller.core.model import Job, Stage
from echelon.controller.core.states import ENDED, JOB_TRANSITIONS, STAGE_TRANSITIONS, State
from echelon.controller.datastore import statements_jobs as sql
from echelon.controller.datastore.cache import Entry, Kept, short
from echelon.controller.datastore.errors import GuardFailed
from echelon.controller.datastore.records import JobInputs, NewJob, Remembered
from echelon.controller.datastore.rows import (
    STATES,
    clean,
    decode_names,
    decode_object,
    encode,
    stage_counters,
    stage_of,
    words_of,
)
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.statements_files import DELETE_UNPUBLISHED
from echelon.controller.datastore.tables import task_key
from echelon.controller.datastore.writes_base import WritesBase
from echelon.controller.datastore.writes_new import new_rows
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId
from echelon.shared.messages import JsonValue


class JobWrites(WritesBase):
    """The methods of `Transaction` about jobs."""

    def insert_job(self, new: NewJob) -> None:
        """Insert a job with its stages, the tasks that are known, its sealed secrets and its idempotency key."""
        key = self._session.reserve_keys(max(1, len(new.job.stages)))
        rows = new_rows(new, key, self.now())
        self._session.post(sql.INSERT_JOB, rows.job)
        self._session.post(sql.INSERT_INPUT, rows.input)
        self._session.post(sql.INSERT_STAGE, *rows.stages)
        if new.composition is not None:
            self._session.post(sql.INSERT_COMPOSITION, (key, new.composition))
        self._hold(Entry(key, 1, new.job, short(Kept(rows.input[2], *rows.input[4:7]))))
        for number, tasks in enumerate(new.tasks):
            self._insert_tasks(key + number, tasks)

    def submitted_with(self, key: str) -> Remembered | None:
        """Return what was submitted with an idempotency key."""
        for job_id, request_hash in self._session.rows(sql.SUBMITTED_WITH, (key,)):
            return Remembered(job_id, request_hash or "")
        return None

    def lock_jobs(self, job_ids: Collection[JobId], *, skip_locked: bool = False) -> dict[JobId, Job]:
        """Lock jobs, always in the same order, and return them; those that do not exist are left out."""
        wanted = [job_id for job_id in job_ids if job_id not in self._locked]
        if wanted:
            statement = sql.LOCK_FREE_JOBS if skip_locked else sql.LOCK_JOBS
            for job_id, key, etag, count, state, error, by in self._rows_of(statement, wanted):
                entry = self._cache.get(job_id, etag)
                self._hold(entry or self._load(Job(job_id, STATES[state], (), error, by), key, etag, count))
        return {job_id: self._locked[job_id].job for job_id in job_ids if job_id in self._locked}

    def save_job(self, before: Job, after: Job) -> None:
        """Write what differs: the job and the stages that changed, with new etags and the times of state changes."""
        entry = self._entry(after.job_id)
        if before is not entry.job and before != entry.job:
            raise GuardFailed(f"job {after.job_id} is not as the transaction has left it (a bug of Echelon)")
        changed = [new for old, new in zip(before.stages, after.stages, strict=True) if old is not new and old != new]
        if not changed and (before.state, before.error, before.by) == (after.state, after.error, after.by):
            return
        _check_states(before, after, changed)
        now = self.now()
        state = after.state.value
        started, ended = _times(after.state, now)
        pause = (clean(after.by), int(after.paused), now)
        row = (state, clean(after.error), started, state, ended, *pause, entry.key, entry.etag)
        complaint = f"job {after.job_id} was changed without its lock (a bug of Echelon)"
        self._session.post_exactly(sql.SAVE_JOB, [row], complaint)
        self._save_stages(entry.key, changed, now)
        if after.state in ENDED and not ablated("secret_erasure"):
            self._session.post(sql.ERASE_SECRETS, (entry.key,))
        self._hold(Entry(entry.key, entry.etag + 1, after, None if after.state in ENDED else entry.input))

    def delete_job(self, job_id: JobId) -> None:
        """Remove a job and all that belongs to it."""
        self._write_history()
        entry = self._entry(job_id)
        key, end = entry.key, entry.key + len(entry.job.stages)
        for of_tasks in (DELETE_UNPUBLISHED, sql.DELETE_TASKS):
            self._session.post(of_tasks, (task_key(key, -1), task_key(end, -1)))
        self._session.post(sql.DELETE_STAGES, (key, end))
        of_job = (sql.DELETE_ATTEMPTS, sql.DELETE_EVENTS, sql.DELETE_COMPOSITION, sql.DELETE_INPUT, sql.DELETE_JOB)
        for statement in of_job:
            self._session.post(statement, (key,))
        del self._locked[job_id]
        self._deleted.add(job_id)

    def replace_input(
        self, job_id: JobId, values: Mapping[str, JsonValue], sealed: Mapping[str, str], seal: str | None = None
    ) -> None:
        """Give a job that is opened again its secrets (and the masked form of its input) anew, and a new seal."""
        entry = self._entry(job_id)
        key = entry.key
        # A copy: what other transactions know of the job stays as it is until this one is committed.
        self._hold(Entry(key, entry.etag, entry.job))
        ((names, job_type),) = self._session.rows(sql.READ_SECRET_NAMES, (key,))
        secret = sorted({*decode_names(names), *sealed})
        words = words_of(job_id, job_type, values)
        self._session.post(sql.REPLACE_INPUT, (encode(values), encode(secret), encode(sealed), seal, words, key))

    def inputs(self, job_id: JobId) -> JobInputs:
        """Return the values of a locked job."""
        entry = self._entry(job_id)
        known = entry.input
        if known is None:
            (row,) = self._session.rows(sql.READ_INPUT, (entry.key,))
            known = Kept(*row)
            entry.input = short(known)
        sealed = {name: str(value) for name, value in decode_object(known.sealed).items()}
        return JobInputs(decode_object(known.values), sealed, known.seal, known.seal_number)

    def remember(
        self, job_id: JobId, kind: str, *, stage: int | None = None, detail: Mapping[str, object] | None = None
    ) -> None:
        """Append a line to a job's history."""
        text = clean(encode(detail)) if detail else None
        self._history.append((self._entry(job_id).key, self.now(), kind, stage, text))

    def save_definition(self, revision: str, document: str) -> None:
        """Keep a revision of the catalogue; a revision that is there already stays as it is."""
        self._session.post(sql.SAVE_DEFINITION, (revision, document, self.now()))

    def _load(self, job: Job, key: int, etag: int, count: int) -> Entry:
        stages = tuple(stage_of(row) for row in self._session.rows(sql.LOAD_STAGES, (key, key + count)))
        return Entry(key, etag, replace(job, stages=stages, live=None))

    def _save_stages(self, job_key: int, changed: list[Stage], now: float) -> None:
        rows: list[Row] = []
        for stage in changed:
            started, ended = _times(stage.state, now)
            times = (started, stage.state.value, ended, int(stage.paused), now)
            rows.append((*stage_counters(stage), *times, job_key + stage.number))
        self._session.post_exactly(sql.SAVE_STAGE, rows, f"a stage of job {job_key} is missing (a bug of Echelon)")


def _times(state: State, now: float) -> Row:
    """Return what a change to this state puts into started_at (where it is empty) and into ended_at."""
    return now if state is State.RUNNING else None, now if state in ENDED else None


def _may_follow(table: Mapping[State, frozenset[State]], before: State, after: State) -> bool:
    """Tell whether the table allows a change, or two of them in one step of the machine by way of RUNNING.

    (An empty stage starts and completes in one step; so does a job that a person opens again and nothing of it runs.)
    """
    if after is before or after in table[before]:
        return True
    return State.RUNNING in table[before] and after in table[State.RUNNING]


def _came_back(job: Job, stage: Stage, before: State) -> bool:
    """Tell whether a stage that ran may wait again: it has ended with its failing job and come back in line with it.

    So it is when what runs of it is killed for a retry, and a stage in front of it is to run again.
    """
    if (before, stage.state) != (State.RUNNING, State.PENDING):
        return False
    return any(each.order < stage.order and each.state not in ENDED for each in job.stages)


def _check_states(before: Job, after: Job, changed: list[Stage]) -> None:
    if not _may_follow(JOB_TRANSITIONS, before.state, after.state):
        raise GuardFailed(f"job {after.job_id} cannot go from {before.state} to {after.state} (a bug of Echelon)")
    for stage in changed:
        was = before.stages[stage.number].state
        if not _may_follow(STAGE_TRANSITIONS, was, stage.state) and not _came_back(after, stage, was):
            raise GuardFailed(
                f"stage {stage.number} of job {after.job_id} cannot go from {was} to {stage.state} (a bug of Echelon)"
            )
