"""Tells who lives and what runs, so that leases are renewed. A thread of its own.

It must go on while the agent's thread hangs in a slow disk: it only reads the holdings and hands reports to the broker.
The answers come with the agent's orders.
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

#: Seconds between two looks whether there is a connection again.
LOOK = 0.05
#: Signs of life that reached the broker and that nobody has answered, until that is worth a word.
UNANSWERED = 6


@dataclass(frozen=True, slots=True)
class DeadIncarnations:
    """Earlier lives of this worker that are known to be dead."""

    lives: tuple[WorkerId, ...] = ()
    #: Called once, by the heartbeat's thread, when the broker has taken the report that names them.
    done: Callable[[], None] = lambda: None


class Heartbeat:
    """Sends a sign of life at a steady pace."""

    def __init__(
        self,
        card: WorkerCard,
        broker: Broker,
        *,
        worker: WorkerId,
        holdings: Holdings,
        sent: ReportLog,
        interval: float,
        burial: DeadIncarnations | None = None,
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        """`heard` is called, from any thread, when the broker has taken a sign of life; `interval` is a limit."""
        self._card = card
        self._broker = broker
        self._worker = worker
        self._holdings = holdings
        self._sent = sent
        self._longest = interval
        #: Seconds between two signs of life.
        self.interval = interval
        self._burial = burial
        self._burial_taken = False
        self._heard = heard
        self._unanswered = 0
        #: That has been said.
        self._wondered = False
        #: The last report was refused because there was no connection.
        self._cut_off = False
        self._hurried = threading.Event()
        self._stopped = threading.Event()

    def send_heartbeat(self) -> None:
        """Send one sign of life."""
        if self._burial is not None and self._burial_taken:
            self._burial.done()
            self._burial = None
        if self._unanswered >= UNANSWERED and not self._wondered:
            self._wondered = True
            log.warning(
                "RabbitMQ is there, and no controller answers this worker: none runs, its database is away, "
                "or it has another --queue-type"
            )
        standing = self._holdings.tell()
        report = Report(
            worker=self._worker,
            number=self._sent.log_report(running=standing.running),
            room=standing.room,
            seen=standing.seen,
            running=standing.running,
            as_of=standing.as_of,
            card=msgspec.structs.replace(self._card, draining=self._holdings.draining),
            buried=self._burial.lives if self._burial is not None else (),
        )
        # While no controller takes them they would pile up, and what is said anew would be heard behind all of them.
        lives = None if report.buried else HEARTBEATS_PER_LEASE * self.interval
        failpoint("heartbeat.before_publish")
        self._broker.publish([Outgoing(REPORTS, report, lives)], confirmed=self._note_confirmed)
        failpoint("heartbeat.after_publish")

    def run(self) -> None:
        """Send signs of life until `stop`, the first one after an interval."""
        while True:
            self._await_next()
            self._hurried.clear()
            if self._stopped.is_set():
                return
            try:
                self.send_heartbeat()
            except Exception:
                # A worker without a heart would lose every lease from now on.
                log.exception("the heart goes on after a mistake")

    def keep_pace(self, lease: float) -> None:
        """Note that a controller has spoken, and beat often enough for its leases (seconds). Any thread may call it."""
        self._unanswered, self._wondered = 0, False
        before, self.interval = self.interval, heartbeat_interval(lease, self._longest)
        if self.interval < before:
            self._hurried.set()

    def hurry_next(self) -> None:
        """Send the next sign of life soon. Any thread may call it."""
        self._hurried.set()

    def stop(self) -> None:
        """Send no more. Any thread may call it."""
        self._stopped.set()
        self._hurried.set()

    def _await_next(self) -> None:
        """Wait until the next one is due; what found no connection is said again as soon as there is one."""
        if self._cut_off:
            for _ in range(math.ceil(self.interval / LOOK)):
                if self._broker.connected or self._stopped.wait(LOOK):
                    break
            # Said once: whether the broker has taken it is heard later, and the pace is as ever until then.
            self._cut_off = False
            return
        quiet = min(HURRIED_AFTER, self.interval * HURRIED_PART)
        if not self._stopped.wait(quiet):
            self._hurried.wait(self.interval - quiet)

    def _note_confirmed(self, unconfirmed: Unconfirmed) -> None:
        self._cut_off = bool(unconfirmed) and not self._broker.connected
        self._unanswered += self._broker.connected
        if unconfirmed:
            self._holdings.untell()
            self._hurried.set()
        else:
            self._burial_taken = True
            self._heard()
