"""How many jobs are open, and when that is enough.

They are counted from time to time and not for each submit, which would then cost the more the more there are. Between
two counts this controller adds what it has accepted itself; what others accept, and what ends, it learns with the next.
When that makes too many, they are counted anew before a job is refused, once a second at most. So the limit is exact to
the jobs that all controllers accept in a few seconds. That is enough to keep endless submits from filling a datastore
while nothing runs.
"""

from __future__ import annotations

import threading

from echelon.controller.datastore.port import Datastore
from echelon.controller.engine.base.requests import TooManyJobs
from echelon.shared.clock import Clock

#: Seconds between two counts. One reads as many entries of an index as jobs are open, the limit at most: some
#: milliseconds for 100,000.
COUNTED_EVERY = 5.0
#: Seconds between two counts when there seem to be too many: jobs may have ended since.
_COUNTED_ANEW = 1.0


class OpenJobs:
    """The number of open jobs, as this controller knows it. Safe for any thread."""

    def __init__(self, store: Datastore, clock: Clock, *, most: int) -> None:
        """`most`: so many may be open; 0: any number, and nothing is ever counted."""
        self._store = store
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        #: Held by the thread that counts.
        self._counting = threading.Lock()
        self._counted = 0
        #: Accepted by this process since then.
        self._accepted = 0
        self._look_at = clock.monotonic()

    def count_if_due(self) -> None:
        """Count if it is time to."""
        if self._most:
            with self._counting:
                self._count_jobs(earliest=self._look_at)

    def _count_jobs(self, *, earliest: float) -> None:
        now = self._clock.monotonic()
        if now < earliest:
            return
        before = self._accepted
        with self._store.read() as reader:
            counted = reader.count_open_jobs(limit=self._most)
        with self._lock:
            self._counted = counted
            # The count may or may not include jobs accepted meanwhile.
            self._accepted -= before
        self._look_at = now + COUNTED_EVERY

    def note_accepted(self) -> None:
        """Note that this process has accepted a job."""
        with self._lock:
            self._accepted += 1

    def refuse_more(self) -> None:
        """Raise TooManyJobs when as many jobs are open as may be."""
        if not self._most or self._counted + self._accepted < self._most:
            return
        with self._counting:
            self._count_jobs(earliest=self._look_at - COUNTED_EVERY + _COUNTED_ANEW)
        known = self._counted + self._accepted
        if known >= self._most:
            raise TooManyJobs(
                f"no more jobs are taken: about {known} are open, and at most {self._most} may be; try again when some"
                " have ended, or let controllers take more (max_open_jobs)"
            )
