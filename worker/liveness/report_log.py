"""Numbers reports and remembers when each was sent, because leases count from that time. Any thread may use it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from echelon.shared.clock import Clock
from echelon.shared.lease import REPORT_REMEMBERED_FOR
from echelon.shared.messages import AttemptRef


@dataclass(frozen=True, slots=True)
class SentReport:
    """One report that was sent."""

    #: Seconds on the monotonic clock, taken before it was published.
    at: float
    #: The attempts whose leases it asked to renew; None if it was no heartbeat.
    running: tuple[AttemptRef, ...] | None = None


class ReportLog:
    """The reports that one incarnation of a worker has sent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._number = 0
        self._sent: dict[int, SentReport] = {}

    def log_report(self, *, running: tuple[AttemptRef, ...] | None = None) -> int:
        """Add a report that is about to be sent, and return its number."""
        with self._lock:
            now = self._clock.monotonic()
            while self._sent and (oldest := next(iter(self._sent.items())))[1].at < now - REPORT_REMEMBERED_FOR:
                del self._sent[oldest[0]]
            self._number += 1
            self._sent[self._number] = SentReport(now, running)
            return self._number

    def find_report(self, number: int) -> SentReport | None:
        """Return a report; None if it is too old or was never sent."""
        with self._lock:
            return self._sent.get(number)
