"""The worker's loop: takes orders, fills slots, minds leases, drains on shutdown.

One thread does it all: it starts the tasks' processes (which end with the thread that started them), so it must live as
long as the worker. Others may only call `drain`. A turn waits nowhere but in the executor's `poll`.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from echelon.shared.broker.port import Subscription
from echelon.shared.clock import Clock
from echelon.shared.failpoints import failpoint
from echelon.shared.lease import lease_grace
from echelon.shared.messages import AttemptRef, Finished, Grant, GrantedTask, Orders, Outcome
from echelon.worker.holdings import Held, Holdings
from echelon.worker.liveness.fence import LeaseFence
from echelon.worker.liveness.heartbeat import Heartbeat
from echelon.worker.orders import OrderBook
from echelon.worker.reporter import Reporter
from echelon.worker.settings import WorkerSettings

log = logging.getLogger(__name__)

#: Orders taken in one go.
ORDERS_AT_ONCE = 100
#: A turn of `run` waits no longer than so many seconds.
LONGEST_TURN = 1.0
#: A worker that could not do its part asks for nothing for so many seconds, twice as long each time.
FIRST_SICKNESS, LONGEST_SICKNESS = 1.0, 30.0
#: Seconds before the loop goes on after a mistake in it.
AFTER_MISTAKE = 1.0
#: Ends that tell how long tasks take here.
TYPICAL = frozenset({Outcome.COMPLETED, Outcome.FAILED, Outcome.NOT_STARTED})


class Runner(Protocol):
    """What the agent asks of an executor, from its own thread."""

    def start(self, grant: Grant, task: GrantedTask) -> None:
        """Start one attempt; whatever goes wrong becomes its end."""

    def poll(self, timeout: float) -> Sequence[Finished]:
        """Return the attempts that have ended; wait up to `timeout` seconds for something to happen."""

    def stop(self, ref: AttemptRef, outcome: Outcome, reason: str, *, grace: float = math.inf) -> None:
        """End an attempt's process tree; its end is reported with this outcome. `grace` shortens the task's own."""

    def wake(self) -> None:
        """Make a waiting `poll` return at once."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What an agent works with."""

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
    """Moments on the monotonic clock; None where there is nothing to wait for."""

    #: Until when this worker asks for nothing because it cannot do its part; and how long that is in seconds.
    sick_until: float | None = None
    sickness: float = 0.0
    #: When running tasks are cut off by the shutdown.
    cut_off: float | None = None
    #: When the worker leaves, whether the broker has taken its last results or not.
    leave: float | None = None


class Agent:
    """Runs the attempts that controllers grant to this worker."""

    def __init__(self, parts: Parts, settings: WorkerSettings, clock: Clock) -> None:
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
        self._drains = 0
        self._said_goodbye = False
        self._done = threading.Event()

    @property
    def done(self) -> bool:
        """Tell whether this worker has said its last word."""
        return self._done.is_set()

    def drain(self) -> None:
        """Take no more and leave when the running tasks are done; asked again, cut them off. Any thread may call it."""
        self._drains += 1
        self._wake()

    def run(self, stop: threading.Event) -> None:
        """Turn until the worker has drained, or until `stop` is set and it is woken."""
        while not (self.done or stop.is_set()):
            try:
                self.turn(LONGEST_TURN)
            except Exception:
                log.exception("the worker's loop goes on after a mistake")
                stop.wait(AFTER_MISTAKE)

    def turn(self, timeout: float) -> None:
        """Do once what is to be done, waiting up to `timeout` seconds for something to happen."""
        self._holdings.turned()
        for finished in self._executor.poll(self._wait(timeout)):
            self._note_end(finished)
        # Renewals come before the check of the leases: after a pause of this process they may lie waiting.
        self._take_orders()
        for held in self._fence.find_overdue():
            self._give_up(held)
        self._mind_sickness()
        self._mind_shutdown()
        self._mind_backlog()
        self._fill_slots()
        if not self._said_goodbye:
            self._reporter.flush(more_to_start=self._holdings.oldest_waiting() is not None)
        self._holdings.turned()

    def _wait(self, timeout: float) -> float:
        """Return how long this turn may wait before something is due by itself."""
        timers, now = self._timers, self._clock.monotonic()
        moments = [self._reporter.next_due(), timers.sick_until, timers.leave, self._fence.next_check]
        if timers.cut_off is not None and timers.cut_off > now:
            moments.append(timers.cut_off)
        oldest = self._holdings.oldest_waiting()
        if oldest is not None:
            moments.append(oldest + self._settings.hand_back_after)
        return min([timeout, *(max(0.0, moment - now) for moment in moments if moment is not None)])

    def _note_end(self, finished: Finished) -> None:
        self._holdings.end(AttemptRef(finished.task_id, finished.attempt), typical=finished.outcome in TYPICAL)
        self._reporter.finished(finished)
        if finished.outcome is Outcome.WORKER_FAULT:
            self._fall_sick(finished.error)
        elif finished.outcome not in (Outcome.STOPPED, Outcome.INTERRUPTED):
            self._timers.sickness = 0.0

    def _take_orders(self) -> None:
        deliveries = self._subscription.take_deliveries(limit=ORDERS_AT_ONCE, timeout=0.0)
        try:
            for delivery in deliveries:
                if isinstance(delivery.message, Orders):
                    self._take_in(delivery.message)
            if deliveries:
                failpoint("orders.before_ack")
        finally:
            # Losing them from here on costs a lease, not a task: nothing has to be kept at the broker.
            self._subscription.ack(deliveries)
        if deliveries:
            failpoint("orders.after_ack")

    def _take_in(self, orders: Orders) -> None:
        self._heartbeat.keep_pace(orders.lease)
        taken = self._orders.take_in(orders)
        self._reporter.released(taken.refused)
        for held, reason in taken.stopped:
            self._stop(held, Outcome.STOPPED, reason)

    def _stop(self, held: Held, outcome: Outcome, reason: str, *, grace: float = math.inf) -> None:
        if held.pool is None:
            self._holdings.end(held.ref)
            ended = Finished(held.grant.job_id, held.ref.task_id, held.ref.attempt, outcome, error=reason)
            self._reporter.finished(ended)
        elif not held.stopping:
            held.stopping = True
            self._executor.stop(held.ref, outcome, reason, grace=grace)

    def _give_up(self, held: Held) -> None:
        if held.pool is None:
            self._holdings.end(held.ref)
            self._reporter.released([held.ref])
        elif not held.stopping:
            log.warning("the lease of attempt %d of task %s ran out: it is ended", held.ref.attempt, held.ref.task_id)
            self._stop(held, Outcome.STOPPED, "lease_lost", grace=lease_grace(held.lease))

    def _fall_sick(self, error: str | None) -> None:
        """Ask for nothing for a while, or a broken worker would eat the tasks of the sound ones."""
        now, timers = self._clock.monotonic(), self._timers
        if timers.sick_until is not None and now < timers.sick_until:
            return
        timers.sickness = min(LONGEST_SICKNESS, 2 * timers.sickness) or FIRST_SICKNESS
        timers.sick_until = now + timers.sickness
        self._holdings.set_sick(True)
        log.warning("this worker takes no tasks for %.0f s: %s", timers.sickness, error)

    def _mind_sickness(self) -> None:
        until = self._timers.sick_until
        if until is not None and self._clock.monotonic() >= until:
            self._timers.sick_until = None
            self._holdings.set_sick(False)

    def _mind_shutdown(self) -> None:
        if not self._drains:
            return
        now, timers = self._clock.monotonic(), self._timers
        if timers.cut_off is None:
            failpoint("drain.begun")
            log.info("shutting down; running tasks have %.0f s to end", self._settings.drain_timeout)
            self._holdings.drain()
            self._heartbeat.hurry_next()
            self._reporter.hurry()
            timers.cut_off = now + self._settings.drain_timeout
        if self._drains > 1:
            timers.cut_off = min(timers.cut_off, now)
        if now >= timers.cut_off:
            for held in self._holdings.all():
                self._stop(held, Outcome.INTERRUPTED, "the worker was shut down")
        if not len(self._holdings):
            self._leave(now)

    def _leave(self, now: float) -> None:
        if self._timers.leave is None:
            self._timers.leave = now + self._settings.farewell_timeout
        in_vain = now >= self._timers.leave
        if not (in_vain or self._reporter.settled):
            return
        if self._said_goodbye or in_vain:
            if in_vain:
                log.warning("the broker has not taken this worker's last reports; their attempts may run again")
            self._done.set()
            return
        self._said_goodbye = True
        self._heartbeat.stop()
        self._reporter.say_goodbye()

    def _fill_slots(self) -> None:
        while (held := self._holdings.begin_next()) is not None:
            self._executor.start(held.grant, held.task)

    def _mind_backlog(self) -> None:
        """Hand back what waits for longer than it would take to start elsewhere."""
        if self._holdings.withheld:
            self._reporter.released(self._holdings.hand_back(arrived_until=math.inf))
            return
        oldest = self._holdings.oldest_waiting()
        late = self._clock.monotonic() - self._settings.hand_back_after
        if oldest is not None and oldest <= late:
            self._reporter.released(self._holdings.hand_back(arrived_until=late, because_slow=True))
