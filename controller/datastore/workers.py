"""Workers: their keys, their heartbeats and their capacity."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import msgspec
from sqlalchemy import (
    ColumnClause,
    and_,
    any_,
    case,
    func,
    literal_column,
    or_,
    select,
    union,
    union_all,
    update,
)
from sqlalchemy import bindparam as _p
from sqlalchemy.dialects import postgresql, sqlite

from echelon.controller.datastore.base import TransactionBase
from echelon.controller.datastore.encoding import decode_object, encode_json
from echelon.controller.datastore.prepared import Among, Prepared
from echelon.controller.datastore.reading import ReaderBase
from echelon.controller.datastore.records import RunningAttempt, WorkerView
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.sql import DYING, ONE, RUNNING, STARTED, ZERO
from echelon.controller.datastore.tables import jobs, stages, tasks, workers
from echelon.shared.ids import JobId, TaskId, WorkerId
from echelon.shared.messages import WorkerCard


@dataclass(slots=True)
class Capacity:
    """The free slots of one worker."""

    worker: WorkerId
    #: Number of the report that it is from.
    number: int = 0
    told_at: float = 0.0
    #: Tasks per queue.
    room: dict[str, int] = field(default_factory=dict)
    #: How much of it is for tasks that would wait at the worker.
    ahead: dict[str, int] = field(default_factory=dict)
    #: Per queue and priority: how much more there is for tasks above that priority.
    urgent: dict[str, dict[int, int]] = field(default_factory=dict)
    #: Number of the last order with grants, across all controllers.
    order: int = 0
    #: Grants that were on their way when the worker reported: (order, queue, tasks, time).
    unseen: list[tuple[int, str, int, float]] = field(default_factory=list)
    #: (job, number of the stage) whose suspects alone the worker gets, one at a time.
    alone: tuple[JobId, int] | None = None
    #: Number of the last heartbeat: later reports may have been read before it.
    heartbeat: int = 0


class _StoredCapacity(msgspec.Struct, frozen=True, array_like=True):
    """A capacity in its column. Controllers of two releases share it: add fields only with defaults."""

    number: int
    room: dict[str, int]
    order: int
    unseen: list[tuple[int, str, int, float]]
    alone: tuple[JobId, int] | None = None
    ahead: dict[str, int] = {}
    urgent: dict[str, dict[int, int]] = {}
    heartbeat: int = 0


_demand_decoder = msgspec.json.Decoder(_StoredCapacity)


def _read_capacity(worker_id: str, text: str | None, told_at: float | None) -> Capacity:
    """Return the capacity in a worker's row; without a report it is empty."""
    if text is None:
        return Capacity(WorkerId(worker_id))
    told = _demand_decoder.decode(text)
    return Capacity(
        WorkerId(worker_id), told.number, told_at or 0.0, told.room, told.ahead, told.urgent, told.order, told.unseen,
        told.alone, told.heartbeat,
    )  # fmt: skip


#: In `list_workers.gone`: said goodbye or known to be dead, for good. (1: not heard of for long, may come back.)
DEREGISTERED: ColumnClause[int] = literal_column("2")

FIND_WORKER = Prepared(select(workers.c.key).where(workers.c.worker_id == _p("worker_id")), "worker_id")
FIND_WORKERS = Prepared(
    select(workers.c.worker_id, workers.c.key).where(Among(workers.c.worker_id, _p("worker_ids"))), "worker_ids"
)
NAME_WORKERS = Prepared(select(workers.c.worker_id, workers.c.key).where(Among(workers.c.key, _p("keys"))), "keys")
INSERT_WORKER = Prepared(
    sqlite.insert(workers).inline().values(worker_id=_p("worker_id"), gone=ZERO).on_conflict_do_nothing(),
    "worker_id",
    postgresql=postgresql.insert(workers)
    .inline()
    .values(worker_id=_p("worker_id"), gone=ZERO)
    .on_conflict_do_nothing(),
)


RECORD_HEARTBEAT = Prepared(
    update(workers)
    .where(workers.c.key == _p("at_key"))
    .values(
        name=_p("name"),
        host=_p("host"),
        version=_p("version"),
        slots=_p("slots"),
        draining=_p("draining"),
        containment=_p("containment"),
        running=_p("running"),
        last_seen_at=_p("last_seen_at"),
        gone=case((workers.c.gone == DEREGISTERED, DEREGISTERED), else_=ZERO),
    ),
    "name host version slots draining containment running last_seen_at at_key",
)
_demands = select(workers.c.worker_id, workers.c.key, workers.c.demand, workers.c.told_at)
_told = and_(workers.c.gone == ZERO, workers.c.told_at > _p("told_after"))
#: A silent worker may come back.
_named = and_(workers.c.gone != DEREGISTERED, Among(workers.c.worker_id, _p("worker_ids")))
LOCK_CAPACITIES = Prepared(
    # Not `OR`: SQLite would read all workers that ever were.
    union(_demands.where(_told), _demands.where(_named)).order_by("key"),
    "told_after worker_ids",
    postgresql=_demands.where(or_(_told, _named)).order_by(workers.c.key).with_for_update(),
)
LOCK_FREE_CAPACITIES = Prepared(
    _demands.where(_told).order_by(workers.c.key),
    "told_after",
    postgresql=_demands.where(_told).order_by(workers.c.key).with_for_update(skip_locked=True),
)
FIND_CAPACITIES = Prepared(_demands.where(Among(workers.c.worker_id, _p("worker_ids"))), "worker_ids")
SAVE_CAPACITY = Prepared(
    update(workers).where(workers.c.key == _p("at_key")).values(demand=_p("demand"), told_at=_p("told_at")),
    "demand told_at at_key",
)
HEARD = Prepared(
    select(workers.c.worker_id).where(
        Among(workers.c.worker_id, _p("worker_ids")),
        workers.c.gone == ZERO,
        workers.c.last_seen_at >= _p("since"),
        # A time in the future is from before the clock was set back.
        workers.c.last_seen_at <= _p("until"),
    ),
    "worker_ids since until",
)
DEREGISTER = Prepared(
    update(workers).where(Among(workers.c.worker_id, _p("worker_ids"))).values(gone=DEREGISTERED), "worker_ids"
)
_silent = and_(workers.c.gone == ZERO, workers.c.last_seen_at < _p("before"))
_silent_and_free = select(workers.c.key).where(_silent).with_for_update(skip_locked=True)
PRUNE_WORKERS = Prepared(
    update(workers).where(_silent).values(gone=ONE),
    "before",
    postgresql=update(workers)
    .where(workers.c.key == any_(func.array(_silent_and_free.scalar_subquery())))
    .values(gone=ONE),
)


class WorkerWrites(TransactionBase):
    """The methods of a transaction about workers."""

    def record_heartbeat(self, worker: WorkerId, card: WorkerCard, *, running: int) -> None:
        """Save a worker's heartbeat."""
        shown = (card.name, card.host, card.version, encode_json(card.slots), int(card.draining), card.containment)
        self._session.send_rows(RECORD_HEARTBEAT, (*shown, running, self.now(), self._worker_key(worker)))

    def lock_capacities(self, *, told_after: float, also: Collection[WorkerId]) -> list[Capacity]:
        """Lock and return capacities reported after a moment, and those of `also`; lock jobs before them."""
        # In one order: two transactions that insert the same rows wait for each other.
        for worker in sorted(also):
            self._worker_key(worker)
        return self._read_capacities(
            self._session.fetch_rows(LOCK_CAPACITIES, (told_after, self._session.list_parameter(list(also))))
        )

    def lock_free_capacities(self, *, told_after: float) -> list[Capacity]:
        """Lock and return capacities reported after a moment, without those that others have locked."""
        return self._read_capacities(self._session.fetch_rows(LOCK_FREE_CAPACITIES, (told_after,)))

    def find_capacities(self, workers: Collection[WorkerId]) -> dict[WorkerId, Capacity]:
        """Return the capacities of these workers without locking them."""
        rows = self._session.fetch_rows(FIND_CAPACITIES, (self._session.list_parameter(list(workers)),))
        return {capacity.worker: capacity for capacity in self._read_capacities(rows)}

    def save_capacities(self, demands: Sequence[Capacity]) -> None:
        """Save capacities that were locked in this transaction."""
        rows = [
            (
                encode_json(
                    _StoredCapacity(
                        demand.number, demand.room, demand.order, demand.unseen, demand.alone, demand.ahead,
                        demand.urgent, demand.heartbeat,
                    )
                ),
                demand.told_at,
                self._worker_key(demand.worker),
            )
            for demand in demands
        ]  # fmt: skip
        self._session.send_rows(SAVE_CAPACITY, *sorted(rows, key=lambda row: row[2]))

    def find_heard(self, workers: Collection[WorkerId], *, within: float) -> set[WorkerId]:
        """Return which of these workers were heard `within` so many seconds and are not gone."""
        now = self.now()
        rows = self._session.fetch_rows(
            HEARD, (self._session.list_parameter(list(workers)), now - within, now + within)
        )
        return {WorkerId(worker) for (worker,) in rows}

    def deregister_workers(self, workers: Collection[WorkerId]) -> None:
        """Mark workers that said goodbye or are dead as gone for good."""
        if workers:
            self._session.send_rows(DEREGISTER, (self._session.list_parameter(list(workers)),))

    def prune_workers(self, *, older_than: float) -> None:
        """Mark workers without a heartbeat for so many seconds as gone."""
        self._session.send_rows(PRUNE_WORKERS, (self.now() - older_than,))

    # --- for the parts

    def _read_capacities(self, rows: list[Row]) -> list[Capacity]:
        for worker_id, key, *_ in rows:
            self._note_key(worker_id, key)
        return [_read_capacity(worker_id, *told) for worker_id, _, *told in rows]

    def _names_of_workers(self, keys: set[int]) -> dict[int, WorkerId]:
        names: dict[int, WorkerId] = {}
        unknown = []
        for key in keys:
            name = self._worker_ids.get(key) or self._worker_keys.find_worker(key)
            if name is None:
                unknown.append(key)
            else:
                names[key] = WorkerId(name)
        if unknown:
            for worker_id, key in self._rows_of(NAME_WORKERS, unknown):
                self._note_key(worker_id, key)
                names[key] = worker_id
        return names

    def _worker_key(self, worker: WorkerId) -> int:
        """Return a worker's key; one that is not known yet gets its row."""
        key = self._workers.get(worker) or self._worker_keys.find_key(worker)
        if key is None:
            found = self._session.fetch_rows(FIND_WORKER, (worker,))
            if not found:
                self._session.send_rows(INSERT_WORKER, (worker,))
                found = self._session.fetch_rows(FIND_WORKER, (worker,))
            key = int(found[0][0])
            self._note_key(worker, key)
        return key

    def _note_key(self, worker: str, key: int) -> None:
        self._workers[worker] = key
        self._worker_ids[key] = worker


class WorkerReads(ReaderBase):
    """The methods of a reader about workers."""

    def list_workers(self, *, lost_after: float) -> list[WorkerView]:
        """Return the workers; one without a heartbeat for `lost_after` seconds is LOST."""
        query = (
            select(
                workers.c.worker_id, workers.c.name, workers.c.host, workers.c.version, workers.c.draining,
                workers.c.slots, workers.c.containment, workers.c.running, workers.c.last_seen_at,
            )
            .where(workers.c.gone == ZERO, workers.c.name.is_not(None))
            .order_by(workers.c.name, workers.c.key)
        )  # fmt: skip
        before = self.now() - lost_after
        return [
            WorkerView(
                WorkerId(worker_id), name, host, version,
                "LOST" if seen < before else "DRAINING" if draining else "UP",
                {queue: int(str(count)) for queue, count in decode_object(slots).items()},
                containment or None, running, seen,
            )
            for worker_id, name, host, version, draining, slots, containment, running, seen
            in self._connection.execute(query)
        ]  # fmt: skip

    def list_attempts_at_work(self, *, limit: int) -> dict[WorkerId, list[RunningAttempt]]:
        """Return the first `limit` attempts that run on each worker, by job, stage and index."""
        place = func.row_number().over(partition_by=tasks.c.worker, order_by=tasks.c.key)
        held = select(tasks.c.key, place.label("place")).where(STARTED).subquery()
        query = (
            select(
                workers.c.worker_id, tasks.c.task_id, jobs.c.job_id, stages.c.number, tasks.c.idx,
                tasks.c.attempt - tasks.c.unstarted, tasks.c.started_at,
            )
            .select_from(held)
            .join(tasks, tasks.c.key == held.c.key)
            .join(workers, workers.c.key == tasks.c.worker)
            .join(stages, stages.c.key == tasks.c.stage)
            .join(jobs, jobs.c.key == stages.c.job)
            .where(held.c.place <= limit)
            .order_by(tasks.c.key)
        )  # fmt: skip
        found: dict[WorkerId, list[RunningAttempt]] = {}
        for worker, task_id, job_id, *more in self._connection.execute(query):
            found.setdefault(WorkerId(worker), []).append(RunningAttempt(TaskId(task_id), JobId(job_id), *more))
        return found

    def count_slots_taken(self) -> dict[WorkerId, dict[str, int]]:
        """Return how many tasks each worker holds per queue, with those that lost their claim and may still exist."""
        here = union_all(
            select(tasks.c.worker, tasks.c.queue).where(RUNNING),
            select(tasks.c.worker, tasks.c.queue).where(DYING, tasks.c.lease_until > self.now()),
        ).subquery("here")
        query = (
            select(workers.c.worker_id, here.c.queue, func.count())
            .join_from(here, workers, workers.c.key == here.c.worker)
            .group_by(workers.c.worker_id, here.c.queue)
        )
        found: dict[WorkerId, dict[str, int]] = {}
        for worker, queue, count in self._connection.execute(query):
            found.setdefault(WorkerId(worker), {})[queue] = count
        return found
