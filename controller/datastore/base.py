"""The base of all parts of a write transaction: its session, the jobs it has locked, and their history."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from sqlalchemy import ColumnElement, FromClause, Update, func, select, update
from sqlalchemy import bindparam as _p

from echelon.controller.datastore.cache import Entry, JobCache, WorkerKeys
from echelon.controller.datastore.encoding import clean_text, encode_json
from echelon.controller.datastore.errors import GuardFailed
from echelon.controller.datastore.prepared import Among, Prepared
from echelon.controller.datastore.session import Row, Session
from echelon.controller.datastore.sql import ZERO, build_insertion
from echelon.controller.datastore.tables import events, jobs, stages, task_key
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId
from echelon.shared.logs import JOBS, Fact, log_facts

#: A moment at which no lease is over, and one at which all are.
_BEFORE_ALL, _AFTER_ALL = 0.0, 1e18

INSERT_EVENT = build_insertion(events)
LAST_EVENT = Prepared(select(func.max(events.c.number)).where(events.c.job == _p("job")), "job")
JOB_IDS = Prepared(select(jobs.c.key, jobs.c.job_id).where(Among(jobs.c.key, _p("keys"))), "keys")

_line = stages.alias("line")


def _build_move(
    key: ColumnElement[int], rank: ColumnElement[int], nth: ColumnElement[int], *given: FromClause
) -> Update:
    """Return the statement that gives a stage the nth place behind all of its rank."""
    last = select(func.coalesce(func.max(_line.c.served), ZERO)).where(_line.c.ready > ZERO, _line.c.claim_rank == rank)
    return update(stages).where(stages.c.key == key).values(served=last.correlate(*given).scalar_subquery() + nth)


MOVE_BACK = Prepared(
    _build_move(_p("at_key"), _p("at_rank"), _p("nth")),
    "at_rank nth at_key",
    of_records=lambda given: _build_move(given.c.at_key, given.c.at_rank, given.c.nth, given),
)


class TransactionBase:
    """One transaction's view of jobs and workers; other transactions see nothing of it before the commit."""

    def __init__(self, session: Session, cache: JobCache, worker_keys: WorkerKeys) -> None:
        self._session = session
        self._cache = cache
        self._worker_keys = worker_keys
        self._locked: dict[JobId, Entry] = {}
        self._job_ids: dict[int, JobId] = {}
        self._deleted: set[JobId] = set()
        self._workers: dict[str, int] = {}
        self._worker_ids: dict[int, str] = {}
        self._history: list[Row] = []
        #: Lines of the log, written after the commit.
        self._facts: dict[int, list[Fact]] = {logging.INFO: [], logging.DEBUG: []}
        #: (job, stage) that become ready in this transaction or were given their share, in order.
        self._moved: dict[tuple[JobId, int], None] = {}

    def now(self) -> float:
        """Return the store's own time, seconds since the epoch; the only clock that judges leases."""
        return self._session.now()

    def record_event(
        self, job_id: JobId, kind: str, *, stage: int | None = None, detail: Mapping[str, object] | None = None
    ) -> None:
        """Append a line to a job's history."""
        text = clean_text(encode_json(detail)) if detail else None
        self._history.append((self._locked_entry(job_id).key, self.now(), kind, stage, text))
        self.log_fact(job_id, kind, stage=stage, detail=detail)

    def log_fact(
        self,
        job_id: JobId,
        event: str,
        *,
        stage: int | None = None,
        detail: Mapping[str, object] | None = None,
        level: int = logging.INFO,
    ) -> None:
        """Write a line to the log of this process if the transaction is committed."""
        if JOBS.isEnabledFor(level):
            self._facts[level].append({"event": event, "job": job_id, "stage": stage, **(detail or {})})

    def flush_writes(self) -> None:
        """Write the buffered lines of history and places in line, and check that every guard held."""
        self._write_history()
        self._write_places()
        self._session.verify_guards()

    def note_commit(self) -> None:
        """Put what this transaction has committed into the process's caches and its log."""
        self._cache.update_jobs(self._locked.values(), self._deleted)
        self._worker_keys.add_keys(self._workers)
        for level, facts in self._facts.items():
            log_facts(JOBS, level, facts)

    # --- for the parts

    def _last_leases_judged_at(self, *, expire: bool = True) -> float:
        """Return the moment by which leases of attempts without a claim are judged; without `expire` none is over."""
        if ablated("last_lease_wait"):
            return _AFTER_ALL
        return self.now() if expire else _BEFORE_ALL

    def _write_history(self) -> None:
        if self._history:
            self._session.send_rows(INSERT_EVENT, *self._number_lines(LAST_EVENT, self._history))
            self._history.clear()

    def _write_places(self) -> None:
        """Give stages the last place of their rank. A stage with nothing left to claim gets one when it has again."""
        places = [(self._locked[job_id], number) for job_id, number in self._moved if job_id in self._locked]
        rows = [
            (entry.job.stage(number).claim_rank, nth, entry.key + number)
            for nth, (entry, number) in enumerate(places, start=1)
            if entry.job.stage(number).claimable
        ]
        self._moved.clear()
        if rows:
            self._session.send_rows(MOVE_BACK, *rows)

    def _locked_entry(self, job_id: JobId) -> Entry:
        try:
            return self._locked[job_id]
        except KeyError:
            raise GuardFailed(f"job {job_id} is not locked in this transaction (a bug of Echelon)") from None

    def _keep_entry(self, entry: Entry) -> None:
        self._locked[entry.job.job_id] = entry
        self._job_ids[entry.key] = entry.job.job_id

    def _task_keys(self, job_id: JobId, stage: int) -> tuple[int, int]:
        """Return the first key of a stage's tasks and the first key after them."""
        key = self._locked_entry(job_id).key + stage
        return task_key(key, -1), task_key(key + 1, -1)

    def _ids_of_jobs(self, keys: Iterable[int]) -> dict[int, JobId]:
        missing = {key for key in keys if key not in self._job_ids}
        if missing:
            self._job_ids.update(self._rows_of(JOB_IDS, missing))
        return self._job_ids

    def _number_lines(self, last: Prepared, lines: list[Row]) -> list[Row]:
        """Insert into each line, after its job's key, its number in that job's history."""
        numbers: dict[int, int | None] = {}
        rows = []
        for job, *line in lines:
            number = numbers.get(job)
            number = self._session.next_number(last, job) if number is None else number + 1
            numbers[job] = number
            rows.append((job, number, *line))
        return rows

    def _rows_of(self, statement: Prepared, values: Iterable[object]) -> list[Row]:
        return self._session.fetch_rows(statement, (self._session.list_parameter(list(values)),))
