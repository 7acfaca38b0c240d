"""Whether this controller could have heard its workers, so that a lease that ran out means a lost worker.

A controller hears workers while the broker is connected, the store answers, and this process runs. After a break it
waits until each worker has had the time to come back and to renew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from echelon.shared.broker.port import Broker
from echelon.shared.clock import Clock
from echelon.shared.lease import HANGS_PART, RETURN_TIME


class Hearing:
    """Watches the broker's connection and the store's answers. The engine's thread uses it, others read `is_able`."""

    def __init__(self, broker: Broker, clock: Clock, *, lease: float) -> None:
        self._broker = broker
        self._clock = clock
        self._lease = lease
        #: A wait that is longer than this is an outage, in seconds.
        self._hangs_after = HANGS_PART * lease
        #: Since when workers can be heard without a break, on the monotonic clock; None: they cannot.
        self._since: float | None = None
        #: The first such moment.
        self._first: float | None = None
        #: Since when the store has been asked for something, on the monotonic clock; None: it is not.
        self._asking_since: float | None = None

    @property
    def is_able(self) -> bool:
        """Tell whether this controller hears workers and can write what becomes of their attempts. Any thread.

        Once it does not, workers have the time to come back, however short the break was: they may have read of it.
        """
        if self._store_hangs() or not self._broker.connected:
            self._since = None
        return self._since is not None

    @contextlib.contextmanager
    def ask_store(self) -> Iterator[None]:
        """Count the block as questions to the store: without an answer in time the store hangs."""
        self._asking_since = self._clock.monotonic()
        try:
            yield
        finally:
            self.note_answer()
            self._asking_since = None

    def note_answer(self) -> None:
        """Note that the store has answered. After a long wait it counts as having been away."""
        if self._store_hangs():
            self._since = None
        self._asking_since = self._clock.monotonic()

    def note_wait(self, begun: float, planned: float) -> None:
        """Note the end of a wait that was to last `planned` seconds.

        If it lasted longer this process was stopped, or its machine: no worker was heard meanwhile.
        """
        if self._clock.monotonic() - begun > planned + self._hangs_after:
            self._since = None

    def note_outage(self) -> None:
        """Note that the broker or the store is away."""
        self._since = None

    def heard_for(self) -> float | None:
        """Return for how many seconds workers could be heard; None if that does not prove that a worker is lost.

        For the length of one lease after this controller began to hear, no worker is lost for being silent: it could
        not have renewed. After an outage leases are longer by `RETURN_TIME`, and so is this wait.
        """
        self.note_answer()
        if not self._broker.connected:
            self._since = None
            return None
        # Another thread may note an outage at any moment.
        now, since = self._clock.monotonic(), self._since
        if since is None:
            since = self._since = now
            self._first = now if self._first is None else self._first
        heard = now - since
        more = 0.0 if since == self._first else RETURN_TIME
        return heard if heard >= self._lease + more else None

    def extra_lease(self) -> float:
        """Return by how much leases are longer than usual, for as long as workers may be on their way back.

        A broker that has just come back is slow, and so may be the answer to the first workers that are connected.
        """
        since = self._since
        if since == self._first:
            return 0.0
        if since is None:
            return RETURN_TIME
        return max(0.0, RETURN_TIME - (self._clock.monotonic() - since))

    def _store_hangs(self) -> bool:
        since = self._asking_since
        return since is not None and self._clock.monotonic() - since > self._hangs_after
