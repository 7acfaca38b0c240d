"""Sends heartbeats: reports that this worker lives and which attempts it holds, so that leases are renewed.

It has a thread of its own, because it must go on while the agent's thread hangs in a slow disk: it only reads the
holdings and publishes reports. The answers come with the agent's orders.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from echelon.shared.broker.port import Broker, Outgoing, Unconfirmed
from echelon.shared.failpoints import failpoint
from echelon.shared.ids import WorkerId
from echelon.shared.lease import HEARTBEATS_PER_LEASE, HURRIED_AFTER, HURRIED_PART, heartbeat_interval
from echelon.shared.messages import REPORTS, Report, WorkerCard
from echelon.worker.holdings import Holdings
from echelon.worker.liveness.report_log import ReportLog

log = logging.getLogger(__name__)

#: Seconds between two checks for a new connection.
CHECK_EVERY = 0.05
#: Heartbeats confirmed by the broker without any answer, until a warning is logged.
UNANSWERED = 6


@dataclass(frozen=True, slots=True)
class DeadIncarnations:
    """Earlier incarnations of this worker that are known to be dead."""

    ids: tuple[WorkerId, ...] = ()
    #: Called once, by the heartbeat's thread, when the broker has confirmed the report that names them.
    done: Callable[[], None] = lambda: None


class Heartbeat:
    """Sends heartbeats at a steady pace."""

    def __init__(
        self,
        card: WorkerCard,
        broker: Broker,
        *,
        worker: WorkerId,
        holdings: Holdings,
        sent: ReportLog,
        interval: float,
        dead: DeadIncarnations | None = None,
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        """`heard` is called, from any thread, when the broker has confirmed a heartbeat; `interval` is a limit."""
        self._card = card
        self._broker = broker
        self._worker = worker
        self._holdings = holdings
        self._sent = sent
        self._longest = interval
        #: Seconds between two heartbeats.
        self.interval = interval
        self._dead = dead
        self._dead_reported = False
        self._heard = heard
        self._unanswered = 0
        #: The warning has been logged.
        self._warned = False
        #: The last report was not sent because there was no connection.
        self._cut_off = False
        self._hurried = threading.Event()
        self._stopped = threading.Event()

    def send_heartbeat(self) -> None:
        """Send one heartbeat."""
        if self._dead is not None and self._dead_reported:
            self._dead.done()
            self._dead = None
        if self._unanswered >= UNANSWERED and not self._warned:
            self._warned = True
            log.warning(
                "RabbitMQ is there, and no controller answers this worker: none runs, its database is away, "
                "or it has another --queue-type"
            )
        state = self._holdings.report_capacity()
        report = Report(
            worker=self._worker,
            number=self._sent.log_report(running=state.running),
            room=state.room,
            ahead=state.ahead,
            urgent=state.urgent,
            seen=state.seen,
            running=state.running,
            started=state.started,
            card=msgspec.structs.replace(self._card, draining=self._holdings.draining),
            buried=self._dead.ids if self._dead is not None else (),
        )
        # Heartbeats expire: while no controller takes them they would pile up, and a new one would wait behind them.
        lifetime = None if report.buried else HEARTBEATS_PER_LEASE * self.interval
        failpoint("heartbeat.before_publish")
        self._broker.publish([Outgoing(REPORTS, report, lifetime)], confirmed=self._note_confirmed)
        failpoint("heartbeat.after_publish")

    def run(self) -> None:
        """Send heartbeats until `stop`, the first one after an interval."""
        while True:
            self._await_next()
            self._hurried.clear()
            if self._stopped.is_set():
                return
            try:
                self.send_heartbeat()
            except Exception:
                # Without this thread the worker would lose every lease from now on.
                log.exception("heartbeats go on after an unexpected exception")

    def keep_pace(self, lease: float) -> None:
        """Record an answer of a controller; adapt the interval to its lease (seconds). Any thread may call it."""
        self._unanswered, self._warned = 0, False
        before, self.interval = self.interval, heartbeat_interval(lease, self._longest)
        if self.interval < before:
            self._hurried.set()

    def hurry_next(self) -> None:
        """Send the next heartbeat soon. Any thread may call it."""
        self._hurried.set()

    def stop(self) -> None:
        """Send no more heartbeats. Any thread may call it."""
        self._stopped.set()
        self._hurried.set()

    def _await_next(self) -> None:
        """Wait until the next one is due; after a lost connection, send it as soon as there is a connection."""
        if self._cut_off:
            for _ in range(math.ceil(self.interval / CHECK_EVERY)):
                if self._broker.connected or self._stopped.wait(CHECK_EVERY):
                    break
            # Only once: the broker's confirmation comes later, and the pace is the usual one until then.
            self._cut_off = False
            return
        quiet = min(HURRIED_AFTER, self.interval * HURRIED_PART)
        if not self._stopped.wait(quiet):
            self._hurried.wait(self.interval - quiet)

    def _note_confirmed(self, unconfirmed: Unconfirmed) -> None:
        self._cut_off = bool(unconfirmed) and not self._broker.connected
        self._unanswered += self._broker.connected
        if unconfirmed:
            self._holdings.mark_unreported()
            self._hurried.set()
        else:
            self._dead_reported = True
            self._heard()
