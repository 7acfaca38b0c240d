"""Writing claims and leases: who may run what, and until when; and where a fan-out stands."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from echelon.controller.core.model import Job
from echelon.controller.core.states import State
from echelon.controller.datastore import statements_jobs as job_sql
from echelon.controller.datastore import statements_tasks as sql
from echelon.controller.datastore.outstanding import Chores, Demand, Expansion, Load
from echelon.controller.datastore.records import ANY_LOSSES, SPAWN_INDEX, Claimed
from echelon.controller.datastore.rows import decode_object, demand_of, encode, encode_demand
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.tables import INDEX_BITS
from echelon.controller.datastore.writes_base import WritesBase
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId, TaskId, WorkerId
from echelon.shared.messages import AttemptRef, WorkerCard

_LAST_INDEX = (1 << INDEX_BITS) - 2


class ClaimWrites(WritesBase):
    """The methods of `Transaction` about claims, leases, fan-out and workers."""

    def claim(
        self,
        job_id: JobId,
        stage: int,
        *,
        spawn: bool,
        count: int,
        worker: WorkerId,
        lease: float,
        losses: range = ANY_LOSSES,
    ) -> list[Claimed]:
        """Give up to `count` QUEUED tasks of a stage, lowest index first, to a worker (QUEUED -> RUNNING)."""
        now = self.now()
        first, last = (SPAWN_INDEX, SPAWN_INDEX) if spawn else (0, _LAST_INDEX)
        key = self._entry(job_id).key + stage
        parameters = (
            self._worker_key(worker),
            now + lease,
            now,
            key,
            first,
            last,
            losses.start,
            losses.stop - 1,
            count,
        )
        claimed = [
            Claimed(TaskId(task_id), index, attempt, decode_object(values) if values else None, task_class)
            for task_id, index, attempt, values, task_class in self._session.rows(sql.CLAIM, parameters)
        ]
        claimed.sort(key=lambda task: task.index)
        return claimed

    def loads(self, workers: Collection[WorkerId]) -> dict[WorkerId, Load]:
        """Return what runs on each of these workers, those without anything left out."""
        rows = self._session.rows(sql.LOADS, (self.now(), self._session.listed(list(workers))))
        return {WorkerId(worker): Load(count, losses) for worker, count, losses in rows}

    def exists(self, job_id: JobId) -> bool:
        """Tell whether there is a job, whoever holds its lock."""
        return bool(self._rows_of(sql.KNOWN_JOBS, [job_id]))

    def claimable(
        self, queues: Collection[str] | None, *, limit: int, unsaved: Collection[Job] = ()
    ) -> list[tuple[JobId, int]]:
        """Return (job, stage) pairs that have tasks to claim in one of the queues (None: any), oldest first."""
        entries = {job.job_id: self._entry(job.job_id) for job in unsaved}
        # So many rows at most say what is no longer true.
        old = sum(stage.state is State.RUNNING for entry in entries.values() for stage in entry.job.stages)
        rows: list[Row] = []
        if queues is None:
            rows = self._session.rows(sql.CLAIMABLE, (limit + old,))
        else:
            for queue in queues:
                rows += self._session.rows(sql.CLAIMABLE_IN, (queue, limit + old))
        if entries:
            rows = [row for row in rows if row[1] not in entries]
        rows += [
            (entries[job.job_id].key + stage.number, job.job_id, stage.number)
            for job in unsaved
            for stage in job.stages
            if stage.state is State.RUNNING and stage.claimable and (queues is None or stage.claim_queue in queues)
        ]
        rows.sort()
        return [(JobId(job_id), number) for _, job_id, number in rows[:limit]]

    def renew(self, worker: WorkerId, refs: Collection[AttemptRef], *, lease: float) -> set[AttemptRef]:
        """Extend the leases of attempts that run on this worker; return those that run on. No lease becomes shorter."""
        if not refs:
            return set()
        worker_key = self._worker_key(worker)
        asked = set(refs)
        rows = self._session.rows(sql.RENEWABLE, (worker_key, self._session.listed([ref.task_id for ref in refs])))
        found = [(key, AttemptRef(TaskId(task_id), attempt), until) for key, task_id, attempt, until in rows]
        found = [one for one in found if one[1] in asked]
        wanted = self.now() + lease
        keys = [key for key, _, until in found if until is None or until < wanted]
        if keys:
            self._session.post(sql.RENEW, (wanted, self._session.listed(keys), worker_key))
        return {ref for _, ref, _ in found}

    def chores(self) -> Chores:
        """Tell what there is to do that nobody reports."""
        (row,) = self._session.rows(sql.CHORES, (self.now(), self.now(), self._last_leases_judged_at()))
        return Chores(*map(bool, row))

    def expired(self, *, limit: int) -> list[tuple[JobId, TaskId]]:
        """Return RUNNING tasks whose lease has run out."""
        return _pairs(self._session.rows(sql.EXPIRED, (self.now(), limit)))

    def due(self, *, limit: int, expire: bool = True) -> list[tuple[JobId, TaskId]]:
        """Return PENDING tasks whose `not_before` has come; without `expire` none that waits for a lease to end."""
        return _pairs(self._session.rows(sql.DUE, (self.now(), self._last_leases_judged_at(expire=expire), limit)))

    def shorten_leases(self, *, longest: float) -> None:
        """Let no lease end later than one of `longest` seconds that begins now: the clock has been set back.

        A wait for a retry is begun anew when it began at a moment that is still to come.
        """
        now = self.now()
        self._session.post(sql.SHORTEN_LEASES, (now + longest, now + longest))
        if not ablated("last_lease_shortening"):
            self._session.post(sql.SHORTEN_LAST_LEASES, (now + longest, now + longest))
        if not ablated("wait_shortening"):
            self._session.post(sql.SHORTEN_WAITS, (now, now, now))
            self._session.post(sql.END_IN_TIME, (now, now, now))

    def running_on(self, workers: Collection[WorkerId], *, limit: int) -> list[tuple[JobId, TaskId]]:
        """Return the tasks that run on these workers."""
        keys = [key for _, key in self._rows_of(job_sql.FIND_WORKERS, workers)]
        return _pairs(self._session.rows(sql.RUNNING_ON, (self._session.listed(keys), limit))) if keys else []

    # --- fan-out

    def set_spawned(self, job_id: JobId, stage: int, path: str) -> None:
        """Remember where the checked items of a stage lie, and that none is read yet."""
        self._session.post(job_sql.SET_SPAWNED, (path, self._entry(job_id).key + stage))

    def expansions(self, *, limit: int) -> list[Expansion]:
        """Return RUNNING stages that still lack task rows for some of their items."""
        return [Expansion(*row) for row in self._session.rows(job_sql.EXPANSIONS, (limit,))]

    def set_expanded(self, job_id: JobId, stage: int, *, created: int, offset: int) -> None:
        """Remember how many items became tasks and the byte where the next one begins."""
        self._session.post(job_sql.SET_EXPANDED, (created, offset, self._entry(job_id).key + stage))

    # --- workers

    def greet(self, worker: WorkerId, card: WorkerCard, *, running: int, as_of: float = 0.0) -> None:
        """Note a worker's sign of life, and the greatest moment after which such a one was sent for sure."""
        seen = (card.name, card.host, card.version, encode(card.slots), int(card.draining), running, self.now())
        self._session.post(job_sql.GREET, (*seen, as_of, self._worker_key(worker)))

    def demands(self, *, told_after: float, also: Collection[WorkerId]) -> list[Demand]:
        """Lock and return the demands told after a moment, and those of the workers in `also`; none of the gone."""
        # In one order, as everything that is locked: two that make the same rows wait for each other.
        for worker in sorted(also):
            self._worker_key(worker)
        return self._demands(self._session.rows(job_sql.DEMANDS, (told_after, self._session.listed(list(also)))))

    def free_demands(self, *, told_after: float) -> list[Demand]:
        """Lock and return those of the demands told after a moment that nobody else has locked."""
        return self._demands(self._session.rows(job_sql.FREE_DEMANDS, (told_after,)))

    def _demands(self, rows: list[Row]) -> list[Demand]:
        for worker_id, key, _, _ in rows:
            self._know(worker_id, key)
        return [demand_of(worker_id, text, told_at) for worker_id, _, text, told_at in rows]

    def save_demands(self, demands: Sequence[Demand]) -> None:
        """Write demands that were returned in this transaction."""
        rows = [(encode_demand(one), one.told_at, self._worker_key(one.worker)) for one in demands]
        self._session.post(job_sql.SAVE_DEMAND, *sorted(rows, key=lambda row: row[2]))

    def heard(self, workers: Collection[WorkerId], *, within: float) -> dict[WorkerId, float]:
        """Return which of these workers have given a sign of life in so many seconds, and are not gone."""
        now = self.now()
        rows = self._session.rows(job_sql.HEARD, (self._session.listed(list(workers)), now - within, now + within))
        # A moment still to come was told before the clock was set back: it lies before nothing.
        return {WorkerId(worker): as_of if as_of is not None and as_of <= now else 0.0 for worker, as_of in rows}

    def farewell(self, workers: Collection[WorkerId]) -> None:
        """Forget workers that said goodbye or are known to be dead."""
        if workers:
            self._session.post(job_sql.BID_FAREWELL, (self._session.listed(list(workers)),))

    def prune_workers(self, *, older_than: float) -> None:
        """Forget workers without a sign of life for so many seconds."""
        self._session.post(job_sql.PRUNE_WORKERS, (self.now() - older_than,))


def _pairs(rows: list[Row]) -> list[tuple[JobId, TaskId]]:
    return [(JobId(job_id), TaskId(task_id)) for job_id, task_id in rows]
