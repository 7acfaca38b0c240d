"""The arithmetic of slots: how much capacity a worker has, how many tasks it asks for ahead, and when to report it.

Values in, values out: no thread, no clock, no message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from echelon.shared.messages import ANY_QUEUE

#: Weight of the newest task in the moving mean. One long task among short ones stops the asking ahead for about ten
#: tasks; the mean adapts to a change of load as fast.
NEWEST = 0.25
#: Shortest assumed duration of a task, in seconds: the cost of starting a process.
SHORTEST = 0.0005


@dataclass(slots=True)
class Pool:
    """The slots of one queue."""

    slots: int
    #: Attempts running in these slots.
    busy: int = 0
    #: Moving mean of the seconds that a task occupies a slot; None: no task has run yet.
    pace: float | None = None
    #: Capacity that was reported to the controllers and that they have not used.
    reported: int = 0

    def add_run(self, seconds: float) -> None:
        """Add the duration of one run to the mean."""
        self.pace = seconds if self.pace is None else self.pace + NEWEST * (seconds - self.pace)


class PoolCapacity(msgspec.Struct, frozen=True):
    """The capacity of one pool now."""

    #: Attempts that it can take in addition.
    room: int
    #: Attempts to hold in a steady state: one per slot, and those asked for ahead.
    target: int
    #: Free slots without a waiting attempt.
    idle: int


class Slots:
    """The pools of a worker, by queue name."""

    def __init__(self, slots: Mapping[str, int], *, ahead: float, ahead_limit: int) -> None:
        self._pools = {name: Pool(count) for name, count in slots.items()}
        self._ahead = ahead
        self._ahead_limit = ahead_limit

    def serves_queue(self, queue: str) -> bool:
        """Return whether tasks of this queue may run here."""
        return queue in self._pools or ANY_QUEUE in self._pools

    def free_for(self, queue: str) -> str | None:
        """Return the name of a pool with a free slot for a task of this queue, preferably its own queue's."""
        for name in (queue, ANY_QUEUE):
            pool = self._pools.get(name)
            if pool is not None and pool.busy < pool.slots:
                return name
        return None

    def occupy_slot(self, name: str) -> None:
        """Occupy one slot of a pool."""
        self._pools[name].busy += 1

    def vacate_slot(self, name: str, seconds: float | None) -> None:
        """Free one slot after a run of so many seconds; None: the duration does not count for the mean."""
        pool = self._pools[name]
        pool.busy -= 1
        if seconds is not None:
            pool.add_run(seconds)

    def slow_down(self, queue: str, seconds: float) -> None:
        """Raise the mean to this wait of a queue's tasks for a slot: the running tasks were not short."""
        pool = self._pools.get(queue) or self._pools.get(ANY_QUEUE)
        if pool is not None:
            pool.pace = max(pool.pace or 0.0, seconds)

    def compute_capacity(self, backlog: Mapping[str, int]) -> dict[str, PoolCapacity]:
        """Return each pool's capacity, given the number of attempts that wait for a slot, by queue."""
        capacity: dict[str, PoolCapacity] = {}
        spilled = sum(count for queue, count in backlog.items() if queue not in self._pools)
        for name, pool in self._pools.items():
            if name != ANY_QUEUE:
                capacity[name], spill = self._compute_pool(pool, backlog.get(name, 0))
                spilled += spill
        if ANY_QUEUE in self._pools:
            capacity[ANY_QUEUE], _ = self._compute_pool(self._pools[ANY_QUEUE], spilled)
        return capacity

    def count_grant(self, queue: str) -> None:
        """Subtract one granted attempt from the reported capacity."""
        for name in (queue, ANY_QUEUE):
            pool = self._pools.get(name)
            if pool is not None and pool.reported > 0:
                pool.reported -= 1
                return

    def set_reported(self, room: Mapping[str, int]) -> None:
        """Record the capacity that is being reported."""
        for name, pool in self._pools.items():
            pool.reported = room.get(name, 0)

    def any_reported(self) -> bool:
        """Return whether the controllers know of unused capacity."""
        return any(pool.reported for pool in self._pools.values())

    def should_report(self, capacity: Mapping[str, PoolCapacity]) -> bool:
        """Return whether the capacity has changed enough for a report.

        It has if a slot is idle, if half of the target is unreported, or if the reported capacity is far too large.
        """
        for name, pool in capacity.items():
            reported = self._pools[name].reported
            unreported = pool.room - reported
            if unreported > 0 and (pool.idle > reported or 2 * unreported >= pool.target):
                return True
            if reported > 2 * pool.target:
                return True
        return False

    def _compute_pool(self, pool: Pool, waiting: int) -> tuple[PoolCapacity, int]:
        ahead = 0
        if pool.pace is not None:
            ahead = min(int(pool.slots * self._ahead / max(pool.pace, SHORTEST)), pool.slots * self._ahead_limit)
        free = pool.slots - pool.busy
        want = free + ahead
        capacity = PoolCapacity(room=max(0, want - waiting), target=pool.slots + ahead, idle=max(0, free - waiting))
        return capacity, max(0, waiting - want)
