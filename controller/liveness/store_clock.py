"""Notices that the store's clock was set, so that no lease ends for that reason alone.

Leases are judged by the store's clock: SQLite's is the machine's own, PostgreSQL's is its server's, and both may be set
by an hour at any moment. Then the clock does not tell how long a worker has been silent: until every worker has had the
time to renew, nothing expires, and no lease may reach further than one that begins now. A controller that has just
started does not know what happened before: at its first look no lease may reach further than the longest possible one.
"""

from __future__ import annotations

import logging

from echelon.shared.clock import Clock
from echelon.shared.lease import RETURN_TIME, clock_tolerance

log = logging.getLogger(__name__)


class StoreClockCheck:
    """Compares the store's clock with the monotonic one. One thread uses it."""

    def __init__(self, clock: Clock, *, lease: float) -> None:
        self._clock = clock
        self._lease = lease
        #: The store's clock less the monotonic one at the last look, in seconds.
        self._apart: float | None = None
        self._trusted_from = 0.0
        #: How many seconds a lease may reach from now on; None: as far as it does.
        self._longest: float | None = None

    @property
    def is_trusted(self) -> bool:
        """Tell whether the store's clock says how old a lease is."""
        return self._clock.monotonic() >= self._trusted_from

    def longest_lease(self, store_now: float) -> float | None:
        """Return how far leases may reach; None unless the clock was set, or may have been, since `confirm_shortened`.

        `store_now` is what the store's clock shows.
        """
        now = self._clock.monotonic()
        before, self._apart = self._apart, store_now - now
        if before is None:
            # After an outage leases are longer by this.
            self._longest = self._lease + RETURN_TIME
        step = 0.0 if before is None else self._apart - before
        if abs(step) > clock_tolerance(self._lease):
            self._longest, self._trusted_from = self._lease, now + self._lease
            words = "the datastore's clock was set by %+.1f s; no lease ends within the next %g s"
            log.warning(words, step, self._lease)
        return self._longest

    def confirm_shortened(self) -> None:
        """Note that it is committed that no lease reaches further than it may."""
        self._longest = None
