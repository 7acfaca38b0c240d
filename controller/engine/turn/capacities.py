"""The capacity of workers: reported by them and kept in the store, so that every controller knows the same.

A room is believed only for a while: a grant must reach a worker that can still trust the lease, and that counts from
the moment its report was sent. Nor is one that was told after the transaction's own time, as happens when that has
waited for its locks: the lease that is written counts from this time, and the worker would trust it for longer than it
lasts. Orders that were on their way when a room was told are taken off it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter
from types import MappingProxyType

from echelon.controller.datastore.transaction import Transaction
from echelon.controller.datastore.workers import Capacity
from echelon.shared.ids import JobId, WorkerId
from echelon.shared.lease import CAPACITY_TRUSTED_PART, capacity_ahead
from echelon.shared.messages import ANY_QUEUE, Report


class Capacities:
    """The rooms of all workers within one transaction. Lock jobs before: this locks the workers."""

    def __init__(
        self, tx: Transaction, reporters: Collection[WorkerId] = (), *, lease: float, free: bool = False
    ) -> None:
        """Lock the workers that have reported capacity lately, and those who report; `free`: unlocked ones only."""
        self._tx = tx
        self._now = tx.now()
        #: A room told before this moment is not believed.
        self._since = self._now - CAPACITY_TRUSTED_PART * lease
        #: ... nor one told after this one.
        self._before = self._now + capacity_ahead(lease)
        self._lost_before = self._now - lease
        #: A report later than this was made before the clock was set back; its age is unknown.
        self._until = self._now + lease
        since = self._since
        rows = (
            tx.lock_free_capacities(told_after=since) if free else tx.lock_capacities(told_after=since, also=reporters)
        )
        self._rows = {demand.worker: demand for demand in rows}
        #: The workers whose figures are believed, the longest-waiting first; None: to be found.
        self._trusted: list[Capacity] | None = None
        self._changed: set[WorkerId] = set()
        self._orders: dict[WorkerId, int] = {}

    def note_reports(self, reports: Iterable[Report]) -> None:
        """Take in what reports say of room."""
        self._trusted = None
        for report in reports:
            demand = self._rows.get(report.worker)
            if demand is None:
                continue
            if report.running is not None and report.number > demand.heartbeat:
                demand.heartbeat = report.number
                self._changed.add(report.worker)
            if report.number <= demand.number:
                continue
            self._changed.add(report.worker)
            demand.number, demand.told_at = report.number, self._now
            # An order that is not seen for so long is lost: it must not take up room for ever.
            demand.unseen = [
                sent for sent in demand.unseen if sent[0] > report.seen and self._lost_before < sent[3] < self._until
            ]
            if report.goodbye or (report.card is not None and report.card.draining):
                _set_room(demand, {})
                demand.alone = None
            elif report.room is not None:
                _set_room(demand, report.room, report.ahead, report.urgent)

    def drop_workers(self, workers: Iterable[WorkerId]) -> None:
        """Believe no room of these workers until they tell it again."""
        for worker in workers:
            if worker in self._rows:
                self._changed.add(worker)
                _set_room(self._rows[worker], {})

    def find_free(self) -> list[Capacity]:
        """Return the demands that are still believed and have room, the longest-waiting first."""
        return [
            demand
            for demand in self.find_trusted()
            if demand.alone is None and (demand.urgent or any(demand.room.values()))
        ]

    def count_free(self, queues: Collection[str] | None = None, *, priority: int = 0) -> int:
        """Return how many tasks of a priority in these queues (None: in any) can be granted now."""
        count = 0
        for demand in self.find_free():
            for name in demand.room:
                if queues is None or name == ANY_QUEUE or name in queues:
                    count += reported_for(demand, name, priority, any_queue=False)
        return count

    def find_trusted(self) -> list[Capacity]:
        """Return the demands that are still believed, the longest-waiting first."""
        if self._trusted is None:
            told = [demand for demand in self._rows.values() if self._since < demand.told_at < self._before]
            self._trusted = sorted(told, key=attrgetter("told_at"))
        return self._trusted

    def keep_worker(self, demand: Capacity, alone: tuple[JobId, int] | None) -> None:
        """Keep a worker for the suspects of a stage, or free it (None)."""
        demand.alone = alone
        self._changed.add(demand.worker)

    def book_tasks(self, demand: Capacity, queue: str, priority: int, count: int) -> int:
        """Note that `count` tasks of a queue go to a worker, first to the queue's own room; return the order's number.

        All grants of one transaction to one worker travel in one order.
        """
        own = min(count, reported_for(demand, queue, priority, any_queue=False))
        order = self._orders.setdefault(demand.worker, demand.order + 1)
        demand.order = order
        rooms = ((queue, own), (ANY_QUEUE, count - own))
        for name, part in rooms:
            _note_waiting(demand, name, priority, part)
        demand.unseen += [(order, name, part, self._now) for name, part in rooms if part]
        self._changed.add(demand.worker)
        return order

    def save_changes(self) -> None:
        """Write the demands that changed."""
        if self._changed:
            self._tx.save_capacities([self._rows[worker] for worker in self._changed])
            self._changed.clear()


def _set_room(
    demand: Capacity,
    room: Mapping[str, int],
    ahead: Mapping[str, int] = MappingProxyType({}),
    urgent: Mapping[str, Mapping[int, int]] = MappingProxyType({}),
) -> None:
    demand.room, demand.ahead = dict(room), dict(ahead)
    demand.urgent = {name: dict(more) for name, more in urgent.items()}


def _note_waiting(demand: Capacity, name: str, priority: int, count: int) -> None:
    """Note that those of `count` tasks that find no free slot start behind all of a higher priority."""
    ahead = demand.ahead.get(name)
    if ahead:
        slots = max(0, reported_for(demand, name, any_queue=False) - ahead)
        waiting = min(ahead, max(0, count - slots))
        if waiting:
            demand.ahead[name] = ahead - waiting
            more = demand.urgent.setdefault(name, {})
            more[priority] = more.get(priority, 0) + waiting


def free_for(demand: Capacity, queue: str, priority: int = 0) -> int:
    """Return how many more tasks of a queue a worker can take: none when it is kept for suspects."""
    return reported_for(demand, queue, priority) if demand.alone is None else 0


def reported_for(demand: Capacity, queue: str, priority: int = 0, *, any_queue: bool = True) -> int:
    """Return how many more tasks of a queue a worker has room for, in that queue's room and in the one for any.

    A task of a higher priority also has the room of those below it that wait at the worker.
    """
    own = demand.room.get(queue, 0)
    for _, name, count, _ in demand.unseen:
        if name == queue:
            own -= count
    if priority and queue in demand.urgent:
        own += sum(more for below, more in demand.urgent[queue].items() if below < priority)
    shared = reported_for(demand, ANY_QUEUE, priority, any_queue=False) if any_queue and queue != ANY_QUEUE else 0
    return own + shared if own > 0 else shared


def serves_queue(demand: Capacity, queue: str) -> bool:
    """Tell whether a worker takes tasks of a queue at all, with room for them or without."""
    return queue in demand.room or ANY_QUEUE in demand.room
