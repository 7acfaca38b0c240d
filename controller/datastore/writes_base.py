"""What the parts of a transaction share: its session, the jobs that it has locked, the keys of workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from echelon.controller.core.states import State
from echelon.controller.datastore import statements_jobs as sql
from echelon.controller.datastore.cache import Entry, JobCache, WorkerKeys
from echelon.controller.datastore.errors import GuardFailed
from echelon.controller.datastore.prepared import Prepared
from echelon.controller.datastore.records import HeldTask, NewTask
from echelon.controller.datastore.rows import STATES, clean, encode
from echelon.controller.datastore.session import Row, Session
from echelon.controller.datastore.statements_tasks import INSERT_TASK, JOB_IDS
from echelon.controller.datastore.tables import INDEX_BITS, task_key
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId, TaskId, WorkerId

#: Before all leases: by this moment none is over. After all leases: by this moment each is over.
_BEFORE_ALL, _AFTER_ALL = 0.0, 1e18


class WritesBase:
    """One transaction's view of jobs and workers; nothing of it reaches other transactions before the commit."""

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

    def now(self) -> float:
        """Return the store's own time."""
        return self._session.now()

    def flush(self) -> None:
        """Write the lines of history that are still held back, all in one statement, and see that every guard held."""
        self._write_history()
        self._session.verify()

    def _write_history(self) -> None:
        if not self._history:
            return
        rows = self._numbered(sql.LAST_EVENT, self._history)
        self._session.post(sql.INSERT_EVENT, *rows)
        self._history.clear()

    def publish(self) -> None:
        """Let later transactions profit from what this one has committed."""
        self._cache.publish(self._locked.values(), self._deleted)
        self._worker_keys.publish(self._workers)

    # --- for the parts

    def _last_leases_judged_at(self, *, expire: bool = True) -> float:
        """Return the moment by which leases of attempts without a claim are judged; without `expire` none is over."""
        if ablated("last_lease_wait"):
            return _AFTER_ALL
        return self.now() if expire else _BEFORE_ALL

    def _entry(self, job_id: JobId) -> Entry:
        try:
            return self._locked[job_id]
        except KeyError:
            raise GuardFailed(f"job {job_id} is not locked in this transaction (a bug of Echelon)") from None

    def _hold(self, entry: Entry) -> None:
        self._locked[entry.job.job_id] = entry
        self._job_ids[entry.key] = entry.job.job_id

    def _range(self, job_id: JobId, stage: int) -> tuple[int, int]:
        """Return the keys of a stage's tasks: from the first, to before the second."""
        key = self._entry(job_id).key + stage
        return task_key(key, -1), task_key(key + 1, -1)

    def _insert_tasks(self, stage_key: int, tasks: Sequence[NewTask]) -> None:
        if not tasks:
            return
        now = self.now()
        base = (stage_key << INDEX_BITS) + 1
        failed = State.FAILED
        rows = [
            (
                base + task.index, task.task_id, stage_key, task.index, task.state._value_, 0, 0, 0, None, None, None,
                None, now if task.state is failed else None, None, None, 1, task.task_class, task.queue,
                encode(task.input) if task.input else None, clean(task.error) if task.error else None, None,
                clean(task.paused_by), now if task.paused_by is not None else None, task.seal_number,
            )
            for task in tasks
        ]  # fmt: skip
        self._session.post(INSERT_TASK, *rows)

    def _ids_of_jobs(self, keys: Iterable[int]) -> dict[int, JobId]:
        missing = {key for key in keys if key not in self._job_ids}
        if missing:
            self._job_ids.update(self._rows_of(JOB_IDS, missing))
        return self._job_ids

    def _held_tasks(self, rows: list[Row]) -> list[HeldTask]:
        """Return records of rows that hold `HELD_COLUMNS`."""
        job_ids = self._ids_of_jobs(row[2] for row in rows)
        names = self._names_of_workers({row[10] for row in rows if row[10] is not None})
        return [
            HeldTask(
                key, TaskId(task_id), job_ids[job], number, index, task_class, STATES[state], attempt, failures,
                losses, names[worker] if worker is not None else None, started_at, until, etag, by,
            )
            for (
                key, task_id, job, number, index, task_class, state, attempt, failures, losses, worker, started_at,
                until, etag, by,
            ) in rows
        ]  # fmt: skip

    def _names_of_workers(self, keys: set[int]) -> dict[int, WorkerId]:
        names: dict[int, WorkerId] = {}
        unknown = []
        for key in keys:
            name = self._worker_ids.get(key) or self._worker_keys.worker(key)
            if name is None:
                unknown.append(key)
            else:
                names[key] = WorkerId(name)
        if unknown:
            for worker_id, key in self._session.rows(sql.NAME_WORKERS, (self._session.listed(unknown),)):
                self._know(worker_id, key)
                names[key] = worker_id
        return names

    def _worker_key(self, worker: WorkerId) -> int:
        """Return a worker's key; one that is not known yet gets its row."""
        key = self._workers.get(worker) or self._worker_keys.key(worker)
        if key is None:
            found = self._session.rows(sql.FIND_WORKER, (worker,))
            if not found:
                self._session.post(sql.INSERT_WORKER, (worker,))
                found = self._session.rows(sql.FIND_WORKER, (worker,))
            key = int(found[0][0])
            self._know(worker, key)
        return key

    def _numbered(self, last: Prepared, lines: list[Row]) -> list[Row]:
        """Return lines that begin with a job's key with their number in its history put behind it."""
        numbers: dict[int, int | None] = {}
        rows = []
        for job, *line in lines:
            number = numbers.get(job)
            number = self._session.next_number(last, job) if number is None else number + 1
            numbers[job] = number
            rows.append((job, number, *line))
        return rows

    def _know(self, worker: str, key: int) -> None:
        self._workers[worker] = key
        self._worker_ids[key] = worker

    def _rows_of(self, statement: Prepared, values: Iterable[object]) -> list[Row]:
        return self._session.rows(statement, (self._session.listed(list(values)),))
