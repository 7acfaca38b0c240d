"""The arithmetic of slots: how much room a worker has, how far it asks ahead, and when asking is worth a message.

Values in, values out: no thread, no clock, no message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from echelon.shared.messages import ANY_QUEUE

#: Weight of the newest task in the moving mean. A single long task among short ones stops the asking ahead for about
#: ten tasks, a change of load is learned as fast.
NEWEST = 0.25
#: No task is taken for shorter than this, in seconds: starting a process costs that much.
SHORTEST = 0.0005


@dataclass(slots=True)
class Pool:
    """The slots of one queue."""

    slots: int
    #: Attempts that run in these slots.
    busy: int = 0
    #: Moving mean of the seconds that a task holds a slot; None: nothing has run yet.
    pace: float | None = None
    #: Room that the controllers have been told of and have not filled.
    told: int = 0

    def learn(self, seconds: float) -> None:
        """Take the length of one run into the mean."""
        self.pace = seconds if self.pace is None else self.pace + NEWEST * (seconds - self.pace)


@dataclass(frozen=True, slots=True)
class Need:
    """What one pool could take now."""

    #: Attempts that it could take beyond what it holds.
    room: int
    #: Attempts that it wants to hold when all is well: its slots and those ahead.
    target: int
    #: Slots for which nothing is at hand.
    idle: int


class Slots:
    """The pools of a worker, by queue name."""

    def __init__(self, slots: Mapping[str, int], *, ahead: float, ahead_limit: int) -> None:
        self._pools = {name: Pool(count) for name, count in slots.items()}
        self._ahead = ahead
        self._ahead_limit = ahead_limit

    def serves(self, queue: str) -> bool:
        """Tell whether tasks of this queue may run here at all."""
        return queue in self._pools or ANY_QUEUE in self._pools

    def free_for(self, queue: str) -> str | None:
        """Return the name of a pool with a free slot for a task of this queue; its own queue's first."""
        for name in (queue, ANY_QUEUE):
            pool = self._pools.get(name)
            if pool is not None and pool.busy < pool.slots:
                return name
        return None

    def occupy(self, name: str) -> None:
        """Take one slot of a pool."""
        self._pools[name].busy += 1

    def vacate(self, name: str, seconds: float | None) -> None:
        """Give one slot back after a run of so many seconds; None when its length means nothing."""
        pool = self._pools[name]
        pool.busy -= 1
        if seconds is not None:
            pool.learn(seconds)

    def slow_down(self, queue: str, seconds: float) -> None:
        """Learn that tasks of a queue have waited so long for a slot: they were not short."""
        pool = self._pools.get(queue) or self._pools.get(ANY_QUEUE)
        if pool is not None:
            pool.pace = max(pool.pace or 0.0, seconds)

    def needs(self, backlog: Mapping[str, int]) -> dict[str, Need]:
        """Return what each pool could take, given how many attempts wait for a slot, by queue."""
        needs: dict[str, Need] = {}
        spilled = sum(count for queue, count in backlog.items() if queue not in self._pools)
        for name, pool in self._pools.items():
            if name != ANY_QUEUE:
                needs[name], spill = self._need(pool, backlog.get(name, 0))
                spilled += spill
        if ANY_QUEUE in self._pools:
            needs[ANY_QUEUE], _ = self._need(self._pools[ANY_QUEUE], spilled)
        return needs

    def granted(self, queue: str) -> None:
        """Count one granted attempt against the room that was told."""
        for name in (queue, ANY_QUEUE):
            pool = self._pools.get(name)
            if pool is not None and pool.told > 0:
                pool.told -= 1
                return

    def tell(self, room: Mapping[str, int]) -> None:
        """Note the room that is being told."""
        for name, pool in self._pools.items():
            pool.told = room.get(name, 0)

    def anything_told(self) -> bool:
        """Tell whether the controllers know of any room."""
        return any(pool.told for pool in self._pools.values())

    def worth_telling(self, needs: Mapping[str, Need]) -> bool:
        """Tell whether the room has changed enough for a message.

        It has when a slot is idle, when half of the target is not asked for, or when far too much is.
        """
        for name, need in needs.items():
            told = self._pools[name].told
            unasked = need.room - told
            if unasked > 0 and (need.idle > told or 2 * unasked >= need.target):
                return True
            if told > 2 * need.target:
                return True
        return False

    def _need(self, pool: Pool, waiting: int) -> tuple[Need, int]:
        ahead = 0
        if pool.pace is not None:
            ahead = min(int(pool.slots * self._ahead / max(pool.pace, SHORTEST)), pool.slots * self._ahead_limit)
        free = pool.slots - pool.busy
        want = free + ahead
        need = Need(room=max(0, want - waiting), target=pool.slots + ahead, idle=max(0, free - waiting))
        return need, max(0, waiting - want)
