"""Notices that somebody has set the store's clock, so that no lease ends for that alone.

Leases are judged by the store's clock: SQLite's is the machine's own, PostgreSQL's that of its server, and both may be
set by an hour at any moment. How long a worker has been silent is then told by nobody: until every worker has had the
time to renew, nothing expires; and no lease may reach further than one that begins now. A controller that has just
started does not know what has happened before: at its first look no lease may reach further than any that there can be.
"""

from __future__ import annotations

import logging

from echelon.shared.clock import Clock
from echelon.shared.volume.beacons import WAY_BACK

log = logging.getLogger(__name__)

#: A clock that moves by this part of a lease more or less than time has passed was set. Less than a lease's margin.
_TOLERATED = 0.1


class Timekeeper:
    """Compares the store's clock with one that nobody sets. One thread uses it."""

    def __init__(self, clock: Clock, *, lease: float) -> None:
        self._clock = clock
        self._lease = lease
        #: The last look: by the store's clock less by ours, in seconds.
        self._apart: float | None = None
        self._trusted_from = 0.0
        #: How many seconds a lease may reach from now on; None: as far as it does.
        self._longest: float | None = None

    @property
    def trusted(self) -> bool:
        """Tell whether the store's clock says how old a lease is."""
        return self._clock.monotonic() >= self._trusted_from

    def look(self, store_now: float) -> float | None:
        """Return how far leases may reach, if the store's clock was or may have been set since that was last settled.

        `store_now` is what it shows.
        """
        now = self._clock.monotonic()
        before, self._apart = self._apart, store_now - now
        if before is None:
            # After an outage leases are so much longer.
            self._longest = self._lease + WAY_BACK
        step = 0.0 if before is None else self._apart - before
        if abs(step) > _TOLERATED * self._lease:
            self._longest, self._trusted_from = self._lease, now + self._lease
            words = "the datastore's clock was set by %+.1f s; no lease ends within the next %g s"
            log.warning(words, step, self._lease)
        return self._longest

    def settle(self) -> None:
        """Note that no lease reaches further than it may, and that this is committed."""
        self._longest = None
