"""The worker's loop: takes orders, fills slots, ends attempts whose lease runs out, drains on shutdown.

One thread does all this and starts the tasks' processes, which end with the thread that started them. So it must live
as long as the worker. Other threads may only call `drain`. A turn waits in the executor's `poll_ended`, and for orders
after a pause of this process.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from echelon.shared.broker.port import Subscription
from echelon.shared.clock import Clock
from echelon.shared.failpoints import failpoint
from echelon.shared.lease import lease_grace
from echelon.shared.messages import AttemptRef, Finished, Grant, GrantedTask, Orders, Outcome
from echelon.worker.attempt_log import log_end, log_start
from echelon.worker.backlog import HeldAttempt
from echelon.worker.holdings import Holdings
from echelon.worker.liveness.fence import LeaseFence
from echelon.worker.liveness.heartbeat import Heartbeat
from echelon.worker.orders import OrderBook
from echelon.worker.reporter import Reporter
from echelon.worker.settings import WorkerSettings

log = logging.getLogger(__name__)

#: Most orders taken at once.
ORDERS_AT_ONCE = 100
#: Longest wait of a turn of `run`, in seconds.
LONGEST_TURN = 1.0
#: A step that takes so many seconds longer than planned was a pause of this process (SIGSTOP, suspend) or a slow disk.
#: No attempt starts before the orders have been taken that came meanwhile: the broker's thread gets so long to read.
PAUSE_NOTICED, ORDERS_ARRIVE = 0.25, 0.05
#: Seconds in which a worker asks for no tasks after a fault of its own; the time doubles with each fault in a row.
FIRST_FAULT_PAUSE, LONGEST_FAULT_PAUSE = 1.0, 30.0
#: Seconds before the loop goes on after an unexpected exception.
AFTER_BUG = 1.0
#: Seconds that a broker which is there gets beyond the usual wait to confirm the last reports.
SLOW_BROKER = 15.0
#: Outcomes whose duration counts for the mean duration of tasks.
TYPICAL = frozenset({Outcome.COMPLETED, Outcome.FAILED, Outcome.NOT_STARTED})


class Runner(Protocol):
    """The methods of an executor that the agent calls, from its own thread."""

    @property
    def running_attempts(self) -> Collection[AttemptRef]:
        """The attempts whose processes have started and whose end `poll_ended` has not returned yet."""

    def start_attempt(self, grant: Grant, task: GrantedTask, may_start: Callable[[], bool]) -> bool:
        """Start one attempt; a failure to start is reported as its end.

        When all is prepared, ask `may_start`; if it says no, start nothing, report nothing and return False.
        """

    def poll_ended(self, timeout: float) -> Sequence[Finished]:
        """Return the attempts that have ended; wait up to `timeout` seconds for an event."""

    def stop_attempt(self, ref: AttemptRef, outcome: Outcome, reason: str, *, grace: float = math.inf) -> None:
        """End an attempt's process tree; its end is reported with this outcome. `grace` shortens the task's own."""

    def wake(self) -> None:
        """End a wait of `poll_ended`."""


@dataclass(frozen=True, slots=True)
class AgentParts:
    """The parts of an agent."""

    subscription: Subscription
    executor: Runner
    holdings: Holdings
    orders: OrderBook
    reporter: Reporter
    heartbeat: Heartbeat
    fence: LeaseFence
    #: Ends the wait of a turn. Any thread may call it.
    wake: Callable[[], None]


@dataclass(slots=True)
class _Timers:
    """Times on the monotonic clock; None if the agent does not wait for the event."""

    #: Until when this worker asks for no tasks after a fault of its own; and for how many seconds.
    fault_until: float | None = None
    fault_pause: float = 0.0
    #: When the shutdown ends running tasks.
    cut_off: float | None = None
    #: When the worker ends even if the broker has not confirmed its last reports.
    leave_at: float | None = None
    #: It was put off, as the broker had the reports.
    leaves_late: bool = False


class Agent:
    """Runs the attempts that controllers grant to this worker."""

    def __init__(self, parts: AgentParts, settings: WorkerSettings, clock: Clock) -> None:
        self._subscription = parts.subscription
        self._executor = parts.executor
        self._holdings = parts.holdings
        self._orders = parts.orders
        self._reporter = parts.reporter
        self._heartbeat = parts.heartbeat
        self._wake = parts.wake
        self._fence = parts.fence
        self._settings = settings
        self._clock = clock
        self._timers = _Timers()
        #: After this moment, on the monotonic clock, the orders taken last are old: this process was paused.
        self._awake_until = math.inf
        self._drains = 0
        self._deregistering = False
        self._done = threading.Event()

    @property
    def done(self) -> bool:
        """Whether this worker has drained and sent its last report."""
        return self._done.is_set()

    def drain(self) -> None:
        """Take no more tasks and end after the running ones; the second call ends those too. Any thread may call it."""
        self._drains += 1
        self._wake()

    def run(self, stop: threading.Event) -> None:
        """Turn until the worker has drained, or until `stop` is set and a wake-up ends the wait."""
        while not (self.done or stop.is_set()):
            try:
                self.turn(LONGEST_TURN)
            except Exception:
                log.exception("the worker's loop goes on after an unexpected exception")
                stop.wait(AFTER_BUG)

    def turn(self, timeout: float) -> None:
        """Do one pass of the loop; wait up to `timeout` seconds for an event."""
        self._holdings.note_turn()
        wait = self._compute_wait(timeout)
        self._awake_until = self._clock.monotonic() + wait + PAUSE_NOTICED
        for finished in self._executor.poll_ended(wait):
            self._note_end(finished)
        # Orders come before the check of the leases: after a pause of this process renewals may be among them.
        self._take_orders()
        for held in self._fence.find_overdue():
            self._give_up(held)
        self._end_fault_pause()
        self._handle_shutdown()
        self._hand_back_late()
        self._fill_slots()
        if not self._deregistering:
            self._reporter.send_due(more_to_start=self._holdings.oldest_waiting() is not None)
        self._holdings.note_turn()

    def _compute_wait(self, timeout: float) -> float:
        """Return how long this turn may wait until the next timer."""
        timers, now = self._timers, self._clock.monotonic()
        moments = [math.inf, self._reporter.next_due(), timers.fault_until, timers.leave_at, self._fence.next_check]
        if timers.cut_off is not None and timers.cut_off > now:
            moments.append(timers.cut_off)
        oldest = self._holdings.oldest_waiting()
        if oldest is not None:
            moments.append(oldest + self._settings.hand_back_after)
        return min(timeout, max(0.0, min([moment for moment in moments if moment is not None]) - now))

    def _note_end(self, finished: Finished) -> None:
        ref = AttemptRef(finished.task_id, finished.attempt)
        held = self._holdings.end_attempt(ref, typical=finished.outcome in TYPICAL)
        self._reporter.add_finished(finished)
        log_end(held, finished)
        if finished.outcome is Outcome.WORKER_FAULT:
            self._pause_after_fault(finished.error)
        elif finished.outcome not in (Outcome.STOPPED, Outcome.INTERRUPTED):
            self._timers.fault_pause = 0.0

    def _take_orders(self) -> None:
        now = self._clock.monotonic()
        was_paused, self._awake_until = now > self._awake_until, now + PAUSE_NOTICED
        patience = ORDERS_ARRIVE if was_paused else 0.0
        deliveries = self._subscription.take_deliveries(limit=ORDERS_AT_ONCE, timeout=patience)
        try:
            for delivery in deliveries:
                if isinstance(delivery.message, Orders):
                    self._apply_orders(delivery.message)
            if deliveries:
                failpoint("orders.before_ack")
        finally:
            # The broker need not keep them: to lose them from here on costs a lease, not a task.
            self._subscription.ack(deliveries)
        if deliveries:
            failpoint("orders.after_ack")

    def _apply_orders(self, orders: Orders) -> None:
        self._heartbeat.keep_pace(orders.lease)
        if orders.drain and not self._drains:
            # Once: the second call would end what runs.
            self.drain()
        taken = self._orders.apply_orders(orders)
        self._fence.mind_granted(taken.granted)
        for held in taken.recalled:
            self._holdings.end_attempt(held.ref)
        self._reporter.add_released([*taken.refused, *(held.ref for held in taken.recalled)])
        for held, reason in taken.stopped:
            self._stop_attempt(held, Outcome.STOPPED, reason)

    def _stop_attempt(self, held: HeldAttempt, outcome: Outcome, reason: str, *, grace: float = math.inf) -> None:
        if held.pool is None:
            self._holdings.end_attempt(held.ref)
            ended = Finished(held.grant.job_id, held.ref.task_id, held.ref.attempt, outcome, error=reason, begun=False)
            self._reporter.add_finished(ended)
        elif not held.stopping:
            held.stopping = True
            self._executor.stop_attempt(held.ref, outcome, reason, grace=grace)

    def _give_up(self, held: HeldAttempt) -> None:
        if held.pool is None:
            self._holdings.end_attempt(held.ref)
            self._reporter.add_released([held.ref])
        elif not held.stopping:
            log.warning("the lease of attempt %d of task %s ran out: it is ended", held.ref.attempt, held.ref.task_id)
            self._stop_attempt(held, Outcome.STOPPED, "lease_lost", grace=lease_grace(held.lease))

    def _pause_after_fault(self, error: str | None) -> None:
        """Ask for no tasks for a while, so that a broken worker does not take and fail task after task."""
        now, timers = self._clock.monotonic(), self._timers
        if timers.fault_until is not None and now < timers.fault_until:
            return
        timers.fault_pause = min(LONGEST_FAULT_PAUSE, 2 * timers.fault_pause) or FIRST_FAULT_PAUSE
        timers.fault_until = now + timers.fault_pause
        self._holdings.set_faulty(True)
        log.warning("this worker takes no tasks for %.0f s: %s", timers.fault_pause, error)

    def _end_fault_pause(self) -> None:
        until = self._timers.fault_until
        if until is not None and self._clock.monotonic() >= until:
            self._timers.fault_until = None
            self._holdings.set_faulty(False)

    def _handle_shutdown(self) -> None:
        if not self._drains:
            return
        now, timers = self._clock.monotonic(), self._timers
        if timers.cut_off is None:
            failpoint("drain.begun")
            log.info("shutting down; running tasks have %.0f s to end", self._settings.drain_timeout)
            self._holdings.drain()
            self._heartbeat.hurry_next()
            self._reporter.stop_pausing()
            timers.cut_off = now + self._settings.drain_timeout
        if self._drains > 1:
            timers.cut_off = min(timers.cut_off, now)
        if now >= timers.cut_off:
            for held in self._holdings.list_held():
                self._stop_attempt(held, Outcome.INTERRUPTED, "the worker was shut down")
        if not len(self._holdings):
            self._deregister(now)

    def _deregister(self, now: float) -> None:
        if self._timers.leave_at is None:
            self._timers.leave_at = now + self._settings.deregister_timeout
        if now >= self._timers.leave_at and not self._timers.leaves_late and self._reporter.awaits_confirmation:
            # A broker that is there and slow, most often because of its disk: its word is worth a wait.
            self._timers.leaves_late = True
            self._timers.leave_at = now + SLOW_BROKER
        hurried = self._timers.leaves_late and self._drains > 1
        late = hurried or now >= self._timers.leave_at
        if not (late or self._reporter.all_confirmed):
            return
        if self._deregistering or late:
            if late:
                log.warning("the broker has not confirmed this worker's last reports; their attempts may run again")
            else:
                log.info("drained: the broker has confirmed all reports")
            self._done.set()
            return
        self._deregistering = True
        self._heartbeat.stop()
        self._reporter.send_deregistration()

    def _fill_slots(self) -> None:
        while (held := self._holdings.start_next()) is not None:
            may_start = partial(self._may_start, held)
            if not self._executor.start_attempt(held.grant, held.task, may_start):
                self._holdings.end_attempt(held.ref)
                self._reporter.add_released([held.ref])
                continue
            if held.ref in self._executor.running_attempts:
                self._holdings.note_start(held)
                log_start(held)
            if not self._fence.may_start(held):
                # A pause between the last question and the start. The process may have done some work already, so it
                # is killed at once, without waiting for orders.
                self._stop_attempt(held, Outcome.STOPPED, "lease_lost", grace=0.0)

    def _may_start(self, held: HeldAttempt) -> bool:
        """Return whether an attempt may start at this moment. Any step before may have ended with a pause."""
        if self._clock.monotonic() > self._awake_until:
            self._take_orders()
        return not held.stopping and self._fence.may_start(held)

    def _hand_back_late(self) -> None:
        """Hand back the attempts that have waited longer than a start on another worker would take."""
        if self._holdings.wants_nothing:
            self._reporter.add_released(self._holdings.hand_back(arrived_until=math.inf))
            return
        oldest = self._holdings.oldest_waiting()
        late = self._clock.monotonic() - self._settings.hand_back_after
        if oldest is not None and oldest <= late:
            self._reporter.add_released(self._holdings.hand_back(arrived_until=late, because_slow=True))
