"""The engine's loop: reports in, one transaction, orders out.

One turn takes what has arrived, settles it, lets the machine step, claims for the rooms there are, commits, and only
then speaks and acks: commit before publish, commit before ack. So a chain of stages costs one commit a stage, and a
fan-out one commit a batch. A turn that fails changes nothing; its reports come again.
"""

from __future__ import annotations

import heapq
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event

from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.transaction import Transaction
from echelon.controller.engine.base.changes import Changes
from echelon.controller.engine.base.counters import Counters
from echelon.controller.engine.base.outbox import Outbox, OutgoingOrders
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.controller.engine.turn.capacities import Capacities
from echelon.controller.engine.turn.claiming import ClaimedTasks
from echelon.controller.engine.turn.dispatcher import Dispatcher
from echelon.controller.engine.turn.intake import Intake, IntakeResult, find_departed
from echelon.controller.engine.turn.sending import Sender
from echelon.controller.engine.upkeep.expander import Expander
from echelon.controller.engine.upkeep.open_jobs import OpenJobs
from echelon.controller.engine.upkeep.publisher import FilePublisher
from echelon.controller.engine.upkeep.roster import Roster
from echelon.controller.engine.upkeep.watchdog import Watchdog
from echelon.controller.liveness.hearing import Hearing
from echelon.shared.ablation import ablated
from echelon.shared.broker.port import Broker, Delivery, Subscription
from echelon.shared.clock import Clock
from echelon.shared.errors import Unavailable
from echelon.shared.failpoints import failpoint
from echelon.shared.ids import JobId
from echelon.shared.messages import REPORTS, Report

log = logging.getLogger(__name__)

#: Reports of one turn. With 64 results in each this is a transaction of some 16,000 rows at most.
_REPORTS_AT_ONCE = 256
#: Seconds to wait after a turn that failed.
_BACK_OFF = 0.5
#: Seconds that an idle engine sleeps at most; it bounds how late a missed wake-up is noticed.
_IDLE = 1.0


@dataclass(frozen=True, slots=True)
class EngineDependencies:
    """The dependencies of an engine; the composition root builds them."""

    store: Datastore
    broker: Broker
    clock: Clock
    counters: Counters
    changes: Changes
    outbox: Outbox
    intake: Intake
    dispatcher: Dispatcher
    expander: Expander
    publisher: FilePublisher
    watchdog: Watchdog
    hearing: Hearing
    open_jobs: OpenJobs
    roster: Roster
    #: Seconds that a lease lasts.
    lease: float
    #: Seconds between sweeps of the watchdog.
    sweep: float = 1.0


class Engine:
    """One controller's loop. One thread runs it; `wake` may come from any."""

    def __init__(self, parts: EngineDependencies) -> None:
        self._parts = parts
        #: Whether workers can be heard; its `able` may be read by any thread.
        self.hearing = parts.hearing
        self._subscription: Subscription = parts.broker.subscribe([REPORTS], prefetch=4 * _REPORTS_AT_ONCE)
        self._sender = Sender(
            broker=parts.broker,
            store=parts.store,
            clock=parts.clock,
            counters=parts.counters,
            lease=parts.lease,
            wake=self._subscription.wake,
        )
        self._next_sweep = 0.0
        #: Moments of the monotonic clock at which retries are due, as a heap.
        self._due: list[float] = []
        self._expanding = True
        #: True while files of counted attempts may be unpublished.
        self._publishing = False
        #: Jobs that ended, until those who wait for them have been told.
        self._ended: set[JobId] = set()
        #: True while there may be something to claim that no report announces.
        self._claimable = True
        #: The same, set by another thread and not noticed yet.
        self._woken = False
        self._idle = False

    def run(self, stop: Event) -> None:
        """Turn until told to stop."""
        while not stop.is_set():
            self.try_turn(stop)
        self._settle_rest()

    def try_turn(self, stop: Event) -> None:
        """Turn once. The one place where any exception is caught: a fault must not end the engine."""
        try:
            self.turn(_IDLE)
        except Unavailable as error:
            self.hearing.note_outage()
            log.warning("the engine waits: %s", error)
            stop.wait(_BACK_OFF)
        except Exception:
            self._parts.counters.faults.inc()
            log.exception("a turn of the engine failed; its reports come again")
            stop.wait(_BACK_OFF)

    def _settle_rest(self) -> None:
        """Settle what has arrived already: an in-process broker would forget it."""
        try:
            self.turn(0.0)
        except Unavailable as error:
            log.warning("what the last turn would have settled runs again: %s", error)

    @property
    def is_idle(self) -> bool:
        """Tell whether the last look found nothing to do. Any thread."""
        return self._idle and not self._woken

    def wake(self) -> None:
        """End the wait of a turn, and look for something to claim. Any thread may call it."""
        self._woken = True
        self._subscription.wake()

    def interrupt(self) -> None:
        """End the wait of a turn. Any thread may call it."""
        self._subscription.wake()

    def close(self) -> None:
        """Stop listening; reports that were not settled go back to the broker."""
        self._subscription.close()

    def rest_for(self, timeout: float) -> float:
        """Return how many seconds the next turn may wait, `timeout` at most, if nothing arrives."""
        if self._expanding or self._publishing or self._claimable or self._woken:
            return 0.0
        return max(0.0, min(timeout, self._next_sweep - self._parts.clock.monotonic()))

    def turn(self, timeout: float) -> None:
        """Take what has arrived, waiting up to `timeout` seconds for it, and do what is due."""
        rest = self.rest_for(timeout)
        self._idle = rest > 0.0
        begun = self._parts.clock.monotonic()
        deliveries = self._subscription.take_deliveries(limit=_REPORTS_AT_ONCE, timeout=rest)
        self._idle = self._idle and not deliveries
        self.hearing.note_wait(begun, rest)
        with self.hearing.ask_store():
            self._settle_deliveries(deliveries)
            self._follow_up()

    def _settle_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        try:
            self._run_transaction(deliveries)
        except (Unavailable, MemoryError):
            self._give_back(deliveries)
            raise
        except Exception:
            self._settle_one_by_one(deliveries)
            raise
        except BaseException:
            self._give_back(deliveries)
            raise
        self._subscription.ack(deliveries)
        if deliveries:
            failpoint("reports.after_ack")

    def _follow_up(self) -> None:
        """Do what is due beside the reports."""
        self.hearing.note_answer()
        if self._publishing:
            self._publishing = self._parts.publisher.publish_next()
            self._claimable = self._claimable or self._publishing
            self.hearing.note_answer()
        if self._ended:
            self._parts.changes.wake_waiting(self._ended)
            self._ended = set()
        if self._expanding:
            self._expanding = self._parts.expander.add_chunks()
            self._claimable = True
            self.hearing.note_answer()
        if self._parts.clock.monotonic() >= self._next_sweep:
            self._sweep_store()

    def _run_transaction(self, deliveries: Sequence[Delivery]) -> None:
        """Settle and claim in one transaction, then send the orders."""
        if self._woken:
            # A wake-up from now on is noticed in the next turn.
            self._woken, self._claimable = False, True
        reports = [delivery.message for delivery in deliveries if isinstance(delivery.message, Report)]
        returned = list(self._sender.returned)
        if not (reports or self._claimable or returned):
            return
        parts = self._parts
        with parts.store.write() as tx:
            unit = UnitOfWork(tx)
            taken, demands = self._take_in(unit, reports, returned)
            grantings = parts.dispatcher.claim_tasks(unit, demands)
            unit.save_jobs()
            demands.save_changes()
            self._write_orders(tx, grantings)
            wait = None if taken.due is None else taken.due - tx.now()
            if ablated("commit_before_orders"):
                self._tell_workers(unit, taken, wait)
        if taken.settled:
            failpoint("settle.after_commit")
        for _ in returned:
            self._sender.returned.popleft()
        self._claimable = False
        parts.counters.granted.inc(sum(len(granting.claimed) for granting in grantings))
        if grantings:
            failpoint("claim.after_commit")
        self._tell_workers(unit, taken, wait)

    def _take_in(
        self, unit: UnitOfWork, reports: Sequence[Report], returned: Sequence[Report]
    ) -> tuple[IntakeResult, Capacities]:
        """Carry out reports, and what came back undelivered; return what came of it and the rooms as they are now."""
        taken = self._parts.intake.settle_reports(unit, [*reports, *returned], more=self.hearing.extra_lease())
        if taken.settled:
            failpoint("settle.before_commit")
        if ablated("files_after_commit"):
            self._parts.publisher.publish_found(unit.unpublished)
        departed = find_departed(reports)
        demands = Capacities(unit.tx, {report.worker for report in reports} | departed, lease=self._parts.lease)
        self._parts.intake.record_heartbeats(unit, reports, taken.heard)
        self._parts.intake.mark_started(unit, taken)
        demands.note_reports(reports)
        demands.drop_workers({report.worker for report in returned if report.released} | departed)
        return taken, demands

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        self._parts.outbox.clear()
        self._subscription.requeue(deliveries)

    def _settle_one_by_one(self, deliveries: Sequence[Delivery]) -> None:
        """After a turn that failed by a mistake of ours: carry out its reports one by one, without claiming anything.

        A report that fails alone would fail for ever and hold up all others: it goes to the dead ones. Orders that came
        back are forgotten, the leases in them run out.
        """
        self._parts.outbox.clear()
        self._sender.returned.clear()
        left = deque(deliveries)
        try:
            while left:
                self._settle_alone(left[0])
                left.popleft()
        except BaseException:
            self._give_back(left)
            raise
        self._claimable = True

    def _settle_alone(self, delivery: Delivery) -> None:
        message = delivery.message
        try:
            if isinstance(message, Report):
                with self._parts.store.write() as tx:
                    unit = UnitOfWork(tx)
                    taken, demands = self._take_in(unit, [message], [])
                    unit.save_jobs()
                    demands.save_changes()
                    wait = None if taken.due is None else taken.due - tx.now()
                self._tell_workers(unit, taken, wait)
        except (Unavailable, MemoryError):
            raise
        except Exception as error:
            self._parts.outbox.clear()
            self._parts.counters.rejected.inc()
            log.exception("a report cannot be carried out and goes to the dead ones")
            self._subscription.reject(delivery, f"{type(error).__name__}: {error}")
        else:
            self._subscription.ack([delivery])

    def _write_orders(self, tx: Transaction, grantings: Sequence[ClaimedTasks]) -> None:
        for granting in grantings:
            demand = granting.demand
            for grant in self._parts.dispatcher.make_grants(tx, granting):
                self._parts.outbox.add_grant(demand.worker, grant, number=granting.order, told=demand.number)
        if grantings:
            failpoint("claim.before_commit")

    def _tell_workers(self, unit: UnitOfWork, taken: IntakeResult, wait: float | None) -> None:
        """Speak of what has been committed."""
        parts = self._parts
        for worker, stop in [*unit.stops, *taken.stops]:
            parts.outbox.add_stop(worker, stop)
        for worker, ref in unit.recalled:
            parts.outbox.add_recall(worker, ref)
        for worker, number in taken.renewed.items():
            parts.outbox.add_renewal(worker, number, lease=taken.lease)
        post = parts.outbox.take_orders()
        if post.outgoing:
            failpoint("orders.before_publish")
        self.send_orders(post)
        if post.outgoing:
            failpoint("orders.after_publish")
        self._sweep_after(wait)
        self._expanding = self._expanding or unit.is_expanding
        self._publishing = self._publishing or bool(unit.unpublished)
        self._ended |= unit.ended

    def send_orders(self, post: OutgoingOrders) -> None:
        """Tell workers what has been committed; what cannot be told comes back. Any thread."""
        self._sender.send_orders(post)

    def _sweep_store(self) -> None:
        now = self._parts.clock.monotonic()
        while self._due and self._due[0] <= now:
            heapq.heappop(self._due)
        self._next_sweep = min([now + self._parts.sweep, *self._due[:1]])
        self._sender.send_again()
        self._parts.open_jobs.count_if_due()
        self._parts.roster.look_if_due()
        chores = self._parts.watchdog.find_chores()
        ended, wait = self._parts.watchdog.do_chores(chores, heard_for=self.hearing.heard_for)
        self._sweep_after(wait)
        self._expanding = self._expanding or chores.expanding
        self._publishing = self._publishing or (chores.unpublished and not ablated("files_sweep"))
        # Tasks that expired or were released just now are ready too.
        self._claimable = self._claimable or chores.ready or chores.expired or chores.due
        self._parts.changes.wake_waiting(ended)

    def _sweep_after(self, wait: float | None) -> None:
        """Sweep as soon as a retry is due."""
        if wait is not None:
            due = self._parts.clock.monotonic() + max(0.0, wait)
            heapq.heappush(self._due, due)
            self._next_sweep = min(self._next_sweep, due)
