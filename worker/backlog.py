"""The attempts of a worker that wait for a slot: the highest priority first; jobs of equal priority alternate.

A worker asks for short tasks ahead. Started in the order of their arrival, those of one job would hold up all others.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping

import msgspec

from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId
from echelon.shared.messages import AttemptRef, Grant, GrantedTask


class HeldAttempt(msgspec.Struct, eq=False):
    """An attempt that was granted to this worker. Times are seconds on the monotonic clock."""

    ref: AttemptRef
    grant: Grant
    task: GrantedTask
    arrived: float
    #: When the lease ends, by this worker's knowledge; and its length.
    lease_end: float
    lease: float
    #: How long before that end it has to be told to end.
    reserve: float
    #: When to check again whether a controller could take it away: it was not renewed in time, and none could. Until
    #: the next renewal, `lease_end` is an assumption.
    look_at: float = math.inf
    #: Name of the pool of its slot; None while it waits.
    pool: str | None = None
    #: When it got the slot, and when its process had started; None: not yet.
    started: float = 0.0
    runs_since: float | None = None
    #: The executor has been told to end it.
    stopping: bool = False

    @property
    def end_by(self) -> float:
        """Return when it has to be told to end, so that its processes are gone well before its lease ends."""
        return self.lease_end - self.reserve


class Backlog:
    """Attempts that wait for a slot."""

    def __init__(self) -> None:
        #: By priority, the highest first; there the lines of jobs in the order in which they are served.
        self._lines: dict[int, dict[tuple[JobId, str], deque[HeldAttempt]]] = {}
        self._counts: Counter[tuple[int, str]] = Counter()
        #: All of them in the order of their arrival.
        self._waiting: dict[AttemptRef, HeldAttempt] = {}

    def add_attempt(self, held: HeldAttempt) -> None:
        """Add an attempt behind those of its job."""
        grant = held.grant
        if grant.priority not in self._lines:
            self._lines[grant.priority] = {}
            if not ablated("waiting_priority"):
                self._lines = dict(sorted(self._lines.items(), reverse=True))
        self._lines[grant.priority].setdefault((grant.job_id, grant.queue), deque()).append(held)
        self._counts[grant.priority, grant.queue] += 1
        self._waiting[held.ref] = held

    def take_next(self, choose_pool: Callable[[str], str | None]) -> tuple[HeldAttempt, str] | None:
        """Remove and return the next attempt whose queue has a pool with a free slot, and that pool's name."""
        for lines in self._lines.values():
            for key, line in lines.items():
                pool = choose_pool(key[1])
                if pool is not None:
                    held = line.popleft()
                    if not line or not ablated("waiting_turns"):
                        del lines[key]
                    if line:
                        # The other jobs come first now.
                        lines[key] = line
                    self._note_left(held)
                    return held, pool
        return None

    def remove_attempt(self, held: HeldAttempt) -> None:
        """Remove an attempt."""
        grant = held.grant
        lines, key = self._lines[grant.priority], (grant.job_id, grant.queue)
        lines[key].remove(held)
        if not lines[key]:
            del lines[key]
        self._note_left(held)

    def find_arrived(self, until: float) -> list[HeldAttempt]:
        """Return the attempts that had arrived by that time."""
        return [held for held in self._waiting.values() if held.arrived <= until]

    def oldest_arrival(self) -> float | None:
        """Return when the oldest attempt arrived; None if there is none."""
        for held in self._waiting.values():
            return held.arrived
        return None

    def count_waiting(self, *, least: int = 0) -> Mapping[str, int]:
        """Return the number of attempts per queue; `least`: only those of at least this priority."""
        found: dict[str, int] = {}
        for (priority, queue), count in self._counts.items():
            if priority >= least:
                found[queue] = found.get(queue, 0) + count
        return found

    def list_priorities(self) -> list[int]:
        """Return the priorities of the attempts, the highest first."""
        return list(self._lines)

    def _note_left(self, held: HeldAttempt) -> None:
        priority, queue = held.grant.priority, held.grant.queue
        del self._waiting[held.ref]
        self._counts[priority, queue] -= 1
        if not self._counts[priority, queue]:
            del self._counts[priority, queue]
        if not self._lines[priority]:
            del self._lines[priority]
