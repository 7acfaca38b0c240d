"""Gathers how attempts ended and tells the controllers, together with the room that has become free.

Nothing is forgotten before the broker has confirmed it: what could not be handed over is sent again, after a pause that
grows and that a connection which has come back cuts short. A result may therefore arrive twice; the store counts it
once. One thread uses it, the agent's; only the broker's confirmation comes from elsewhere and is put down in a queue.
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
from echelon.shared.messages import REPORTS, AttemptRef, Finished, Report
from echelon.worker.holdings import Holdings
from echelon.worker.liveness.report_log import ReportLog

#: A report holds so many ends of attempts at most ...
BATCH = 64
#: ... and about so many characters of results and errors, each of which may take six bytes of a message ...
BATCH_BYTES = 256 * 1024
#: ... and so many attempts that are handed back.
BATCH_RELEASED = 10_000
#: While there is more to start, an end waits so many seconds for company.
LINGER = 0.05
#: Pause before what was not handed over is sent again, in seconds.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class _Batch:
    finished: tuple[Finished, ...] = ()
    released: tuple[AttemptRef, ...] = ()
    told: bool = False


@dataclass(slots=True)
class _Unsent:
    finished: deque[Finished] = field(default_factory=deque)
    released: deque[AttemptRef] = field(default_factory=deque)
    #: When the oldest end was gathered, on the monotonic clock.
    since: float = 0.0


class Reporter:
    """Tells the controllers what became of the attempts of this worker."""

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
        self._in_flight: dict[int, _Batch] = {}
        #: (number of a report, whether it was handed over), put down by the broker's thread.
        self._answers: deque[tuple[int, bool]] = deque()
        self._pause = 0.0
        self._not_before = 0.0
        #: The pause is because there was no connection.
        self._cut_off = False
        self._leaving = False
        self._goodbye = 0
        self._goodbye_taken = False

    def finished(self, finished: Finished) -> None:
        """Take the end of one attempt for the next report."""
        if not self._unsent.finished:
            self._unsent.since = self._clock.monotonic()
        self._unsent.finished.append(_clean(finished))

    def released(self, refs: Sequence[AttemptRef]) -> None:
        """Take attempts that never started and are handed back for the next report."""
        self._unsent.released.extend(refs)

    def flush(self, *, more_to_start: bool) -> None:
        """Send what is due: at once when nothing is left to start, else when a batch is full or old enough."""
        self._hear_answers()
        if self._resting():
            return
        telling = self._holdings.worth_telling()
        if not (telling or self._due(more_to_start)):
            return
        last = False
        while not last:
            batch = self._cut()
            last = not (self._unsent.finished or self._unsent.released)
            self._send(batch, telling=telling and last)
        self._hear_answers()

    def next_due(self) -> float | None:
        """Return when `flush` has something to do by itself, in seconds on the monotonic clock."""
        if self._resting():
            return self._not_before
        return self._unsent.since + LINGER if self._unsent.finished else None

    @property
    def settled(self) -> bool:
        """Tell whether the broker has confirmed everything."""
        self._hear_answers()
        return not (self._unsent.finished or self._unsent.released or self._in_flight)

    def say_goodbye(self) -> None:
        """Send this life's last report; `settled` tells when it was taken."""
        self._leaving = True
        self._goodbye = self._sent.log_report()
        self._in_flight[self._goodbye] = _Batch()
        self._publish(Report(worker=self._worker, number=self._goodbye, room={}, goodbye=True))
        failpoint("goodbye.after_publish")

    @property
    def goodbye_taken(self) -> bool:
        """Tell whether the broker has taken this life's last report."""
        return self._goodbye_taken

    def hurry(self) -> None:
        """Pause no more and be woken by every confirmation from now on: somebody waits for `settled`."""
        self._leaving = True
        self._not_before = 0.0

    def _resting(self) -> bool:
        if self._cut_off and self._broker.connected:
            self._cut_off, self._pause, self._not_before = False, 0.0, 0.0
        return self._clock.monotonic() < self._not_before

    def _due(self, more_to_start: bool) -> bool:
        if self._unsent.released:
            return True
        if not self._unsent.finished:
            return False
        waited = self._clock.monotonic() - self._unsent.since
        return not more_to_start or waited >= LINGER or len(self._unsent.finished) >= BATCH

    def _cut(self) -> _Batch:
        released = [self._unsent.released.popleft() for _ in range(min(BATCH_RELEASED, len(self._unsent.released)))]
        finished: list[Finished] = []
        size = 0
        while self._unsent.finished and len(finished) < BATCH and size < BATCH_BYTES:
            finished.append(self._unsent.finished.popleft())
            size += _size(finished[-1])
        return _Batch(tuple(finished), tuple(released))

    def _send(self, batch: _Batch, *, telling: bool) -> None:
        standing = self._holdings.tell() if telling else None
        number = self._sent.log_report()
        self._in_flight[number] = _Batch(batch.finished, batch.released, told=telling)
        self._publish(
            Report(
                worker=self._worker,
                number=number,
                room=standing.room if standing else None,
                # A room and the orders it takes into account belong together: without the one the other stands too.
                seen=standing.seen if standing else self._holdings.seen_when_told,
                finished=batch.finished,
                released=batch.released,
            )
        )
        if batch.finished:
            failpoint("result.after_publish")

    def _publish(self, report: Report) -> None:
        def confirmed(unconfirmed: Unconfirmed) -> None:
            # Told again in any case: a result that comes twice counts once.
            self._answers.append((report.number, not unconfirmed))
            if unconfirmed or self._leaving:
                self._wake()

        try:
            if report.released:
                failpoint("release.before_publish")
            if report.finished:
                failpoint("result.before_publish")
            if report.goodbye:
                failpoint("goodbye.before_publish")
            self._broker.publish([Outgoing(REPORTS, report)], confirmed=confirmed)
        except Exception:
            # What it would have told is still to be told.
            self._answers.append((report.number, False))
            raise

    def _hear_answers(self) -> None:
        while self._answers:
            number, taken = self._answers.popleft()
            batch = self._in_flight.pop(number)
            if taken:
                if batch.finished:
                    failpoint("result.after_confirm")
                self._goodbye_taken |= number == self._goodbye
                self._pause = self._not_before = 0.0
            else:
                self._take_back(batch)

    def _take_back(self, batch: _Batch) -> None:
        self._unsent.finished.extendleft(reversed(batch.finished))
        self._unsent.released.extendleft(reversed(batch.released))
        if batch.told:
            self._holdings.untell()
        now = self._clock.monotonic()
        self._cut_off = not self._broker.connected
        if now >= self._not_before:
            self._pause = min(LONGEST_PAUSE, 2 * self._pause) or FIRST_PAUSE
            self._not_before = now + self._pause


def _clean(finished: Finished) -> Finished:
    """Return the end with text that can be sent: a file's name in an error may hold bytes that are no Unicode."""
    error = finished.error
    if error is None or error.isascii():
        return finished
    return msgspec.structs.replace(finished, error=error.encode("utf-8", "replace").decode("utf-8"))


def _size(finished: Finished) -> int:
    return 256 + len(finished.result or "") + len(finished.error or "")
