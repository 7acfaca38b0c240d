"""What a worker holds: attempts that wait for a slot, attempts that run, and the room that is left.

The agent's thread changes it, the heartbeat's thread reads it. Its lock is held for arithmetic only, never across I/O,
so a heartbeat goes out while the agent hangs in a slow disk.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from echelon.shared.clock import Clock
from echelon.shared.messages import AttemptRef, Grant, GrantedTask
from echelon.worker.slots import Slots

#: An agent that has not turned for so many seconds hangs: it asks for nothing more until it is back.
HUNG_AFTER = 3.0


@dataclass(slots=True, eq=False)
class Held:
    """One attempt that this worker has been granted. Times are seconds on the monotonic clock."""

    ref: AttemptRef
    grant: Grant
    task: GrantedTask
    arrived: float
    #: When the lease ends, as far as this worker knows; and its length.
    lease_end: float
    lease: float
    #: When to look again whether anybody could take it away: it was not renewed in time, and nobody could. Its lease is
    #: only believed then, until a renewal tells.
    look_at: float = math.inf
    #: Name of the pool whose slot it runs in; None while it waits.
    pool: str | None = None
    started: float = 0.0
    #: Its end has been ordered.
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What one moment's report says of this worker."""

    running: tuple[AttemptRef, ...]
    room: dict[str, int]
    seen: int
    as_of: float


@dataclass(slots=True)
class _State:
    held: dict[AttemptRef, Held] = field(default_factory=dict)
    backlog: dict[str, deque[Held]] = field(default_factory=dict)
    seen: int = 0
    seen_when_told: int = 0
    #: The greatest store's time that an order has told.
    as_of: float = 0.0
    sick: bool = False
    draining: bool = False
    turned: float = 0.0


class Holdings:
    """The attempts that a worker holds. Reading is safe for any thread, changing is the agent's."""

    def __init__(self, slots: Slots, clock: Clock) -> None:
        self._slots = slots
        self._clock = clock
        self._lock = threading.Lock()
        self._state = _State(turned=clock.monotonic())

    def __len__(self) -> int:
        return len(self._state.held)

    def __contains__(self, ref: object) -> bool:
        return ref in self._state.held

    def get(self, ref: AttemptRef) -> Held | None:
        """Return the attempt if it is held."""
        return self._state.held.get(ref)

    def all(self) -> list[Held]:
        """Return every held attempt."""
        return list(self._state.held.values())

    def serves(self, queue: str) -> bool:
        """Tell whether tasks of this queue may run here."""
        return self._slots.serves(queue)

    def take_in(self, number: int, granted: Sequence[Held], *, at: float) -> None:
        """Hold what order `number`, made at the store's time `at`, grants; it waits for a slot."""
        with self._lock:
            # Told together with what is granted, never before it: who is as far as this order names its attempts.
            self._state.as_of = max(self._state.as_of, at)
            # A mere courtesy has number 0, and so has a part of an order whose last part is still to come.
            self._state.seen = max(self._state.seen, number)
            for held in granted:
                self._state.held[held.ref] = held
                self._state.backlog.setdefault(held.grant.queue, deque()).append(held)
                self._slots.granted(held.grant.queue)

    def begin_next(self) -> Held | None:
        """Move the oldest waiting attempt that has a free slot into it; None when there is none."""
        with self._lock:
            oldest, pool = None, ""
            for waiting in self._state.backlog.values():
                if waiting and (oldest is None or waiting[0].arrived < oldest[0].arrived):
                    free = self._slots.free_for(waiting[0].grant.queue)
                    if free is not None:
                        oldest, pool = waiting, free
            if oldest is None:
                return None
            held = oldest.popleft()
            held.pool = pool
            held.started = self._clock.monotonic()
            self._slots.occupy(pool)
            return held

    def end(self, ref: AttemptRef, *, typical: bool = False) -> Held | None:
        """Let go of an attempt; None when it is not held. A typical run tells how long tasks take here."""
        with self._lock:
            held = self._state.held.pop(ref, None)
            if held is None:
                return None
            if held.pool is None:
                self._state.backlog[held.grant.queue].remove(held)
            else:
                self._slots.vacate(held.pool, self._clock.monotonic() - held.started if typical else None)
            return held

    def hand_back(self, *, arrived_until: float, because_slow: bool = False) -> list[AttemptRef]:
        """Let go of the waiting attempts that had arrived by that moment and return them."""
        refs: list[AttemptRef] = []
        with self._lock:
            for queue, waiting in self._state.backlog.items():
                while waiting and waiting[0].arrived <= arrived_until:
                    held = waiting.popleft()
                    del self._state.held[held.ref]
                    refs.append(held.ref)
                    if because_slow:
                        self._slots.slow_down(queue, self._clock.monotonic() - held.arrived)
        return refs

    def oldest_waiting(self) -> float | None:
        """Return when the oldest waiting attempt arrived; None when nothing waits."""
        oldest: float | None = None
        for waiting in self._state.backlog.values():
            if waiting and (oldest is None or waiting[0].arrived < oldest):
                oldest = waiting[0].arrived
        return oldest

    @property
    def withheld(self) -> bool:
        """Tell whether this worker wants nothing at the moment."""
        return self._state.sick or self._state.draining

    @property
    def draining(self) -> bool:
        """Tell whether this worker will want nothing ever again."""
        return self._state.draining

    def drain(self) -> None:
        """Want nothing ever again."""
        with self._lock:
            self._state.draining = True

    def set_sick(self, sick: bool) -> None:
        """Want nothing while the worker itself cannot do its part."""
        with self._lock:
            self._state.sick = sick

    def turned(self) -> None:
        """Note that the agent is alive."""
        with self._lock:
            self._state.turned = self._clock.monotonic()

    def worth_telling(self) -> bool:
        """Tell whether the room has changed enough for a report of its own."""
        with self._lock:
            if self.withheld:
                return self._slots.anything_told()
            return self._slots.worth_telling(self._slots.needs(self._waiting()))

    def tell(self) -> Standing:
        """Return what to report now, and count its room as told."""
        with self._lock:
            room = self._room()
            self._slots.tell(room)
            self._state.seen_when_told = self._state.seen
            return Standing(tuple(self._state.held), room, self._state.seen, self._state.as_of)

    def untell(self) -> None:
        """Note that the room last told did not reach anybody."""
        with self._lock:
            self._slots.tell({})

    @property
    def seen_when_told(self) -> int:
        """Return the number of the last order that the told room takes into account."""
        return self._state.seen_when_told

    def _room(self) -> dict[str, int]:
        hung = self._clock.monotonic() - self._state.turned > HUNG_AFTER
        none = self.withheld or hung
        return {name: 0 if none else need.room for name, need in self._slots.needs(self._waiting()).items()}

    def _waiting(self) -> dict[str, int]:
        return {name: len(queue) for name, queue in self._state.backlog.items() if queue}
