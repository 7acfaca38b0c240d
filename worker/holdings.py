"""A worker's holdings: waiting attempts, running attempts, and the free capacity.

The agent's thread changes them, the heartbeat's thread reads them. The lock is held only for arithmetic, never during
I/O, so heartbeats go on while the agent hangs in a slow disk.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from echelon.shared.clock import Clock
from echelon.shared.messages import AttemptRef, Started
from echelon.worker.backlog import Backlog, HeldAttempt
from echelon.worker.slots import PoolCapacity, Slots

#: An agent without a turn for so many seconds hangs: the worker reports no capacity until the next turn.
HUNG_AFTER = 3.0


@dataclass(frozen=True, slots=True)
class CapacityReport:
    """The state of this worker in one report."""

    running: tuple[AttemptRef, ...]
    started: tuple[Started, ...]
    room: dict[str, int]
    ahead: dict[str, int]
    urgent: dict[str, dict[int, int]]
    seen: int


@dataclass(slots=True)
class _State:
    held: dict[AttemptRef, HeldAttempt] = field(default_factory=dict)
    backlog: Backlog = field(default_factory=Backlog)
    #: Started attempts whose start was not told, oldest first; some have ended.
    untold: deque[HeldAttempt] = field(default_factory=deque)
    seen: int = 0
    seen_when_reported: int = 0
    faulty: bool = False
    draining: bool = False
    turned: float = 0.0


class Holdings:
    """The attempts that a worker holds. Any thread may read them; only the agent's thread changes them."""

    def __init__(self, slots: Slots, clock: Clock) -> None:
        self._slots = slots
        self._clock = clock
        self._lock = threading.Lock()
        self._state = _State(turned=clock.monotonic())

    def __len__(self) -> int:
        return len(self._state.held)

    def __contains__(self, ref: object) -> bool:
        return ref in self._state.held

    def get(self, ref: AttemptRef) -> HeldAttempt | None:
        """Return the attempt, or None if it is not held."""
        return self._state.held.get(ref)

    def list_held(self) -> list[HeldAttempt]:
        """Return all held attempts."""
        return list(self._state.held.values())

    def serves_queue(self, queue: str) -> bool:
        """Return whether tasks of this queue may run here."""
        return self._slots.serves_queue(queue)

    def add_granted(self, number: int, granted: Sequence[HeldAttempt]) -> None:
        """Add the attempts granted by order `number` to those that wait for a slot."""
        with self._lock:
            # The number is 0 if the order grants nothing, or if it is a non-final part of a split order.
            self._state.seen = max(self._state.seen, number)
            for held in granted:
                self._state.held[held.ref] = held
                self._state.backlog.add_attempt(held)
                self._slots.count_grant(held.grant.queue)

    def start_next(self) -> HeldAttempt | None:
        """Give the next waiting attempt with a free slot that slot and return it; None if there is none."""
        with self._lock:
            taken = self._state.backlog.take_next(self._slots.free_for)
            if taken is None:
                return None
            held, pool = taken
            held.pool = pool
            held.started = self._clock.monotonic()
            self._slots.occupy_slot(pool)
            return held

    def note_start(self, held: HeldAttempt) -> None:
        """Record that the process of an attempt runs: its start may be told."""
        with self._lock:
            held.runs_since = self._clock.monotonic()
            self._state.untold.append(held)

    def first_untold(self) -> float | None:
        """Return when the oldest running attempt started whose start was not told; None if there is none."""
        untold = self._state.untold
        while untold and untold[0].ref not in self._state.held:
            untold.popleft()
        return untold[0].runs_since if untold else None

    def take_untold(self) -> tuple[Started, ...]:
        """Return the running attempts whose start was not told, and count them as told."""
        with self._lock:
            now, untold = self._clock.monotonic(), self._state.untold
            found = tuple(_describe_start(held, now) for held in untold if held.ref in self._state.held)
            untold.clear()
            return found

    def end_attempt(self, ref: AttemptRef, *, typical: bool = False) -> HeldAttempt | None:
        """Remove an attempt; None if it is not held. The duration of a typical run counts for the mean."""
        with self._lock:
            held = self._state.held.pop(ref, None)
            if held is None:
                return None
            if held.pool is None:
                self._state.backlog.remove_attempt(held)
            else:
                self._slots.vacate_slot(held.pool, self._clock.monotonic() - held.started if typical else None)
            return held

    def hand_back(self, *, arrived_until: float, because_slow: bool = False) -> list[AttemptRef]:
        """Remove and return the waiting attempts that had arrived by that time."""
        with self._lock:
            late = self._state.backlog.find_arrived(arrived_until)
            for held in late:
                self._state.backlog.remove_attempt(held)
                del self._state.held[held.ref]
                if because_slow:
                    self._slots.slow_down(held.grant.queue, self._clock.monotonic() - held.arrived)
        return [held.ref for held in late]

    def oldest_waiting(self) -> float | None:
        """Return when the oldest waiting attempt arrived; None if none waits."""
        return self._state.backlog.oldest_arrival()

    @property
    def wants_nothing(self) -> bool:
        """Whether this worker asks for no tasks at the moment."""
        return self._state.faulty or self._state.draining

    @property
    def draining(self) -> bool:
        """Whether this worker will never ask for tasks again."""
        return self._state.draining

    def drain(self) -> None:
        """Never ask for tasks again."""
        with self._lock:
            self._state.draining = True

    def set_faulty(self, sick: bool) -> None:
        """Ask for no tasks while the worker has a fault of its own."""
        with self._lock:
            self._state.faulty = sick

    def note_turn(self) -> None:
        """Record that the agent does not hang."""
        with self._lock:
            self._state.turned = self._clock.monotonic()

    def should_report(self) -> bool:
        """Return whether the capacity has changed enough for a report of its own."""
        with self._lock:
            if self.wants_nothing:
                return self._slots.any_reported()
            return self._slots.should_report(self._slots.compute_capacity(self._state.backlog.count_waiting()))

    def report_capacity(self) -> CapacityReport:
        """Return the state to report now, and count its capacity as reported."""
        with self._lock:
            capacity = self._slots.compute_capacity(self._state.backlog.count_waiting())
            room, ahead, urgent = dict.fromkeys(capacity, 0), {}, {}
            hung = self._clock.monotonic() - self._state.turned > HUNG_AFTER
            if not (self.wants_nothing or hung):
                room = {name: one.room for name, one in capacity.items()}
                ahead = {name: one.room - one.idle for name, one in capacity.items() if one.room > one.idle}
                urgent = self._compute_urgent(capacity)
            self._slots.set_reported(room)
            self._state.seen_when_reported = self._state.seen
            now, state = self._clock.monotonic(), self._state
            started = tuple(_describe_start(held, now) for held in state.held.values() if held.runs_since is not None)
            return CapacityReport(tuple(state.held), started, room, ahead, urgent, state.seen)

    def mark_unreported(self) -> None:
        """Record that the capacity reported last did not arrive."""
        with self._lock:
            self._slots.set_reported({})

    @property
    def seen_when_reported(self) -> int:
        """The number of the last order that the reported capacity takes into account."""
        return self._state.seen_when_reported

    def _compute_urgent(self, capacity: Mapping[str, PoolCapacity]) -> dict[str, dict[int, int]]:
        """Return by pool and priority how much more room there is for attempts above that priority."""
        urgent: dict[str, dict[int, int]] = {}
        backlog = self._state.backlog
        for priority in reversed(backlog.list_priorities()):
            above = self._slots.compute_capacity(backlog.count_waiting(least=priority + 1))
            for name, one in above.items():
                if one.room > capacity[name].room:
                    urgent.setdefault(name, {})[priority] = one.room - capacity[name].room
            capacity = above
        return urgent


def _describe_start(held: HeldAttempt, now: float) -> Started:
    return Started(held.grant.job_id, held.ref.task_id, held.ref.attempt, now - (held.runs_since or now))
