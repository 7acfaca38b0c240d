"""What workers have room for. In memory only: a worker says it again with every heartbeat, so losing it costs seconds.

A room counts from the moment its report was sent, so it is believed only for a while: a grant must reach a worker that
can still trust the lease.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.ids import WorkerId
from shared.messages import ANY_QUEUE, Report

#: Seconds that a room is believed. With a lease of 15 s it leaves a worker time to start and to renew.
BELIEVED = 10.0


@dataclass(slots=True)
class Demand:
    """One worker's room."""

    worker: WorkerId
    #: Number of the report that told it.
    number: int
    #: Monotonic time at which that report was taken.
    at: float
    room: dict[str, int]
    #: Orders on their way that the worker had not seen when it told its room: (order number, queue, tasks).
    unseen: deque[tuple[int, str, int]] = field(default_factory=deque)

    def left(self, queue: str) -> int:
        """Return how many more tasks of a queue it can take, through that queue's room or the one for any."""
        return self._left(queue) + self._left(ANY_QUEUE)

    def take(self, queue: str, count: int, order: int) -> None:
        """Note that `count` tasks of a queue go to this worker with an order."""
        own = min(count, self._left(queue))
        if own:
            self.unseen.append((order, queue, own))
        if count > own:
            self.unseen.append((order, ANY_QUEUE, count - own))

    def _left(self, queue: str) -> int:
        told = self.room.get(queue, 0)
        return max(0, told - sum(count for _, name, count in self.unseen if name == queue)) if told else 0


class Demands:
    """The rooms of all workers. Used by the engine's thread alone."""

    def __init__(self) -> None:
        self._demands: dict[WorkerId, Demand] = {}

    def note(self, reports: Iterable[Report], *, now: float) -> None:
        """Take in what reports say of room."""
        for report in reports:
            if report.goodbye or (report.card is not None and report.card.draining):
                self._demands.pop(report.worker, None)
                continue
            demand = self._demands.get(report.worker)
            if demand is None:
                demand = self._demands[report.worker] = Demand(report.worker, 0, now, {})
            if report.number < demand.number:
                continue
            while demand.unseen and demand.unseen[0][0] <= report.seen:
                demand.unseen.popleft()
            demand.number, demand.at = report.number, now
            if report.room is not None:
                demand.room = report.room

    def forget(self, workers: Iterable[WorkerId]) -> None:
        """Drop workers that are gone."""
        for worker in workers:
            self._demands.pop(worker, None)

    def number(self, worker: WorkerId) -> int:
        """Return the number of the last report that was taken from a worker."""
        demand = self._demands.get(worker)
        return demand.number if demand else 0

    def open(self, *, now: float) -> list[Demand]:
        """Return the demands that are still believed and have room, the longest-waiting first."""
        stale = [demand.worker for demand in self._demands.values() if now - demand.at > 6 * BELIEVED]
        self.forget(stale)
        fresh = (demand for demand in self._demands.values() if now - demand.at <= BELIEVED)
        return sorted((demand for demand in fresh if any(demand.room.values())), key=lambda demand: demand.at)
