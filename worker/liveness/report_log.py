"""Numbers reports and remembers when each was sent, for leases count from that moment.

Any thread may use it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from echelon.shared.clock import Clock
from echelon.shared.lease import REPORT_REMEMBERED_FOR
from echelon.shared.messages import AttemptRef


@dataclass(frozen=True, slots=True)
class SentReport:
    """One report that went out."""

    #: Seconds on the monotonic clock, taken before it was handed to the broker.
    at: float
    #: The attempts it asked to renew; None when it asked for nothing of that kind.
    running: tuple[AttemptRef, ...] | None = None


class ReportLog:
    """The reports that one life of a worker has sent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._number = 0
        self._sent: dict[int, SentReport] = {}

    def log_report(self, *, running: tuple[AttemptRef, ...] | None = None) -> int:
        """Return the number of a report that is about to be sent."""
        with self._lock:
            now = self._clock.monotonic()
            while self._sent and (oldest := next(iter(self._sent.items())))[1].at < now - REPORT_REMEMBERED_FOR:
                del self._sent[oldest[0]]
            self._number += 1
            self._sent[self._number] = SentReport(now, running)
            return self._number

    def find_report(self, number: int) -> SentReport | None:
        """Return what is known of a report; None when it is too old or was never sent."""
        with self._lock:
            return self._sent.get(number)
