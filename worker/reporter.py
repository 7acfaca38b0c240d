"""Collects the ends of attempts and reports them to the controllers, together with the free capacity.

The reporter keeps each end until the broker has confirmed its report. It sends unconfirmed reports again after a pause,
which grows each time and ends when the connection is back. A result may therefore arrive twice; the store counts it
once. Only the agent's thread uses a reporter; the broker's thread puts its confirmations into a queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from echelon.shared.broker.port import Broker, Outgoing, Unconfirmed
from echelon.shared.clock import Clock
from echelon.shared.failpoints import failpoint
from echelon.shared.ids import WorkerId
from echelon.shared.messages import REPORTS, AttemptRef, Finished, Report, Started
from echelon.worker.holdings import Holdings
from echelon.worker.liveness.report_log import ReportLog

#: Limits of one report: ends of attempts ...
BATCH = 64
#: ... characters of results and errors, each of which may take six bytes of a message ...
BATCH_BYTES = 256 * 1024
#: ... and attempts that are handed back.
BATCH_RELEASED = 10_000
#: While attempts wait to start, an end waits up to so many seconds for more ends. A start waits as long for the end of
#: its attempt: then nothing is told of it.
LINGER = 0.05
#: Pause before unconfirmed reports are sent again, in seconds.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class _ReportBatch:
    finished: tuple[Finished, ...] = ()
    released: tuple[AttemptRef, ...] = ()
    reports_capacity: bool = False


@dataclass(slots=True)
class _Unsent:
    finished: deque[Finished] = field(default_factory=deque)
    released: deque[AttemptRef] = field(default_factory=deque)
    #: When the oldest end was added, on the monotonic clock.
    since: float = 0.0


class Reporter:
    """Reports the ends of this worker's attempts, and attempts handed back."""

    def __init__(
        self,
        worker: WorkerId,
        broker: Broker,
        *,
        holdings: Holdings,
        sent: ReportLog,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._worker = worker
        self._broker = broker
        self._holdings = holdings
        self._sent = sent
        self._clock = clock
        #: Wakes the agent; any thread may call it.
        self._wake = wake
        self._unsent = _Unsent()
        self._in_flight: dict[int, _ReportBatch] = {}
        #: (number of a report, whether the broker confirmed it), added by the broker's thread.
        self._confirmations: deque[tuple[int, bool]] = deque()
        self._pause = 0.0
        self._not_before = 0.0
        #: The cause of the pause is a lost connection.
        self._cut_off = False
        self._leaving = False
        self._deregistration = 0
        #: Whether the broker has confirmed this incarnation's last report.
        self.deregistered = False

    def add_finished(self, finished: Finished) -> None:
        """Add the end of one attempt to the next report."""
        if not self._unsent.finished:
            self._unsent.since = self._clock.monotonic()
        self._unsent.finished.append(_clean_error(finished))

    def add_released(self, refs: Sequence[AttemptRef]) -> None:
        """Add attempts that never started and are handed back to the next report."""
        self._unsent.released.extend(refs)

    def send_due(self, *, more_to_start: bool) -> None:
        """Send the due reports: at once if no attempt waits to start, else if a batch is full or old enough."""
        self._handle_confirmations()
        if self._is_pausing():
            return
        telling, start_due = self._holdings.should_report(), self._is_start_due()
        if not (telling or start_due or self._is_due(more_to_start)):
            return
        last = False
        while not last:
            batch = self._cut_batch()
            last = not (self._unsent.finished or self._unsent.released)
            # A start that gets lost is told again by the next heartbeat.
            started = self._holdings.take_untold() if start_due and last else None
            self._send_batch(batch, telling=telling and last, started=started)
        self._handle_confirmations()

    def next_due(self) -> float | None:
        """Return when the next report is due by time, in seconds on the monotonic clock."""
        if self._is_pausing():
            return self._not_before
        started = self._holdings.first_untold()
        if not self._unsent.finished:
            return None if started is None else started + LINGER
        return (self._unsent.since if started is None else min(self._unsent.since, started)) + LINGER

    @property
    def all_confirmed(self) -> bool:
        """Whether the broker has confirmed every report."""
        self._handle_confirmations()
        return not (self._unsent.finished or self._unsent.released or self._in_flight)

    @property
    def awaits_confirmation(self) -> bool:
        """Whether the broker is there and has reports that it has neither confirmed nor refused."""
        return bool(self._in_flight) and self._broker.connected

    def send_deregistration(self) -> None:
        """Send this incarnation's last report."""
        self._leaving = True
        self._deregistration = self._sent.log_report()
        self._in_flight[self._deregistration] = _ReportBatch()
        self._publish_report(Report(worker=self._worker, number=self._deregistration, room={}, goodbye=True))
        failpoint("goodbye.after_publish")

    def stop_pausing(self) -> None:
        """Pause no more, and wake the agent at every confirmation: it waits for `all_confirmed`."""
        self._leaving = True
        self._not_before = 0.0

    def _is_pausing(self) -> bool:
        if self._cut_off and self._broker.connected:
            self._cut_off, self._pause, self._not_before = False, 0.0, 0.0
        return self._clock.monotonic() < self._not_before

    def _is_due(self, more_to_start: bool) -> bool:
        if self._unsent.released:
            return True
        if not self._unsent.finished:
            return False
        waited = self._clock.monotonic() - self._unsent.since
        return not more_to_start or waited >= LINGER or len(self._unsent.finished) >= BATCH

    def _is_start_due(self) -> bool:
        started = self._holdings.first_untold()
        return started is not None and self._clock.monotonic() - started >= LINGER

    def _cut_batch(self) -> _ReportBatch:
        released = [self._unsent.released.popleft() for _ in range(min(BATCH_RELEASED, len(self._unsent.released)))]
        finished: list[Finished] = []
        size = 0
        while self._unsent.finished and len(finished) < BATCH and size < BATCH_BYTES:
            finished.append(self._unsent.finished.popleft())
            size += _estimate_size(finished[-1])
        return _ReportBatch(tuple(finished), tuple(released))

    def _send_batch(self, batch: _ReportBatch, *, telling: bool, started: tuple[Started, ...] | None) -> None:
        capacity = self._holdings.report_capacity() if telling else None
        number = self._sent.log_report()
        self._in_flight[number] = _ReportBatch(batch.finished, batch.released, reports_capacity=telling)
        self._publish_report(
            Report(
                worker=self._worker,
                number=number,
                room=capacity.room if capacity else None,
                ahead=capacity.ahead if capacity else {},
                urgent=capacity.urgent if capacity else {},
                # `seen` belongs to the capacity that was reported last: without a new one it stays the same.
                seen=capacity.seen if capacity else self._holdings.seen_when_reported,
                finished=batch.finished,
                released=batch.released,
                started=started,
            )
        )
        if batch.finished:
            failpoint("result.after_publish")

    def _publish_report(self, report: Report) -> None:
        def note_confirmation(unconfirmed: Unconfirmed) -> None:
            # Unconfirmed reports are sent again in any case: a result that arrives twice counts once.
            self._confirmations.append((report.number, not unconfirmed))
            if unconfirmed or self._leaving:
                self._wake()

        try:
            if report.released:
                failpoint("release.before_publish")
            if report.finished:
                failpoint("result.before_publish")
            if report.goodbye:
                failpoint("goodbye.before_publish")
            self._broker.publish([Outgoing(REPORTS, report)], confirmed=note_confirmation)
        except Exception:
            # Its content is sent again.
            self._confirmations.append((report.number, False))
            raise

    def _handle_confirmations(self) -> None:
        while self._confirmations:
            number, taken = self._confirmations.popleft()
            batch = self._in_flight.pop(number)
            if taken:
                if batch.finished:
                    failpoint("result.after_confirm")
                self.deregistered |= number == self._deregistration
                self._pause = self._not_before = 0.0
            else:
                self._take_back(batch)

    def _take_back(self, batch: _ReportBatch) -> None:
        self._unsent.finished.extendleft(reversed(batch.finished))
        self._unsent.released.extendleft(reversed(batch.released))
        if batch.reports_capacity:
            self._holdings.mark_unreported()
        now = self._clock.monotonic()
        self._cut_off = not self._broker.connected
        if now >= self._not_before:
            self._pause = min(LONGEST_PAUSE, 2 * self._pause) or FIRST_PAUSE
            self._not_before = now + self._pause


def _clean_error(finished: Finished) -> Finished:
    """Return the end with an encodable error: a file's name in it may contain bytes that are not Unicode."""
    error = finished.error
    if error is None or error.isascii():
        return finished
    return msgspec.structs.replace(finished, error=error.encode("utf-8", "replace").decode("utf-8"))


def _estimate_size(finished: Finished) -> int:
    return 256 + len(finished.result or "") + len(finished.error or "")
