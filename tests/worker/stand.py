"""A worker's loop on a test stand: real parts around an executor whose attempts end when the test says so."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from echelon.shared.broker.memory import MemoryBroker
from echelon.shared.broker.port import Confirmed, Outgoing, Unconfirmed
from echelon.shared.ids import JobId, TaskId, WorkerId
from echelon.shared.messages import (
    REPORTS,
    AttemptRef,
    Finished,
    Grant,
    GrantedTask,
    Orders,
    Outcome,
    Recipe,
    Report,
    Stop,
    WorkerCard,
    orders_queue,
)
from echelon.worker.agent import Agent, AgentParts
from echelon.worker.holdings import Holdings
from echelon.worker.liveness.fence import LeaseFence, VolumeSigns
from echelon.worker.liveness.heartbeat import DeadIncarnations, Heartbeat
from echelon.worker.liveness.report_log import ReportLog
from echelon.worker.orders import OrderBook
from echelon.worker.reporter import Reporter
from echelon.worker.settings import WorkerSettings
from echelon.worker.slots import Slots

WORKER = WorkerId("3b0a7c5e-4f0e-4c65-9a59-6d9dfb3f5f11")
JOB = JobId("5f7c1d0a-52a7-4b06-bb0a-9c9f4c6c1d22")
LEASE = 15.0


class HeldClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class CutBroker(MemoryBroker):
    """A broker whose line can be cut, and that can refuse all that is sent, or confirm it late."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = self.refusing = self.slow = False
        self._late: list[Callable[[], None]] = []

    @property
    def condition(self) -> str:
        return "connected" if self.connected else "away"

    @property
    def connected(self) -> bool:
        return not self.cut and super().connected

    def publish(self, messages: Sequence[Outgoing], *, confirmed: Confirmed | None = None) -> None:
        if self.slow and confirmed is not None:
            super().publish(messages, confirmed=lambda unconfirmed: self._late.append(partial(confirmed, unconfirmed)))
        elif not (self.cut or self.refusing):
            super().publish(messages, confirmed=confirmed)
        elif confirmed is not None:
            confirmed(Unconfirmed(messages))

    def confirm_late(self) -> None:
        """Confirm what was sent while it was slow."""
        self.slow = False
        while self._late:
            self._late.pop(0)()


def _do_nothing() -> None:
    """Let a step pass without a pause."""


@dataclass
class HandExecutor:
    """Runs nothing; remembers what it was told."""

    running: dict[AttemptRef, Grant] = field(default_factory=dict)
    started: list[AttemptRef] = field(default_factory=list)
    stopped: list[tuple[AttemptRef, Outcome, str]] = field(default_factory=list)
    graces: list[float] = field(default_factory=list)
    wakes: int = 0
    #: The longest wait of the last turn.
    wait: float = 0.0
    #: What happens at each step of a start.
    pauses: dict[str, Callable[[], None]] = field(default_factory=lambda: defaultdict(lambda: _do_nothing))
    _ended: list[Finished] = field(default_factory=list)

    @property
    def running_attempts(self) -> Collection[AttemptRef]:
        return self.running.keys()

    def start_attempt(self, grant: Grant, task: GrantedTask, may_start: Callable[[], bool]) -> bool:
        ref = AttemptRef(task.task_id, task.attempt)
        self.pauses["preparing"]()
        if not may_start():
            return False
        self.pauses["asked"]()
        self.running[ref] = grant
        self.started.append(ref)
        self.pauses["started"]()
        return True

    def poll_ended(self, timeout: float) -> list[Finished]:
        self.wait = timeout
        ended, self._ended = self._ended, []
        return ended

    def stop_attempt(self, ref: AttemptRef, outcome: Outcome, reason: str, *, grace: float = math.inf) -> None:
        self.stopped.append((ref, outcome, reason))
        self.graces.append(grace)

    def wake(self) -> None:
        self.wakes += 1

    def end(
        self,
        ref: AttemptRef,
        outcome: Outcome = Outcome.COMPLETED,
        *,
        result: str | None = None,
        error: str | None = None,
    ) -> Finished:
        """Let a running attempt end."""
        grant = self.running.pop(ref)
        finished = Finished(grant.job_id, ref.task_id, ref.attempt, outcome, error=error, result=result)
        self._ended.append(finished)
        return finished


class Stand:
    """One worker, the broker between, and the test in the controller's place."""

    def __init__(
        self, tmp_path: Path, *, slots: Mapping[str, int], drain_timeout: float = 60.0, buried: Sequence[WorkerId] = ()
    ) -> None:
        self.clock = HeldClock()
        self.broker = CutBroker()
        self.executor = HandExecutor()
        self.settings = WorkerSettings(state_dir=tmp_path, name="w", slots=slots, drain_timeout=drain_timeout)
        self.buried_lives: list[str] = []
        #: Whether a controller is in charge, as the signs on the volume say.
        self.any_controller_able = True
        self.taken_away: set[AttemptRef] = set()
        self.controller = self.broker.subscribe([REPORTS], prefetch=100_000)
        self._build(buried)
        #: What the controllers' leases last.
        self.lease = LEASE
        self.order_number = 0
        self.task_number = 0
        #: Every attempt that was ever granted.
        self.granted: list[AttemptRef] = []

    def turn(self, *, after: float = 0.0) -> None:
        """Let the agent turn once, `after` seconds later."""
        self.clock.now += after
        self.agent.turn(0.0)

    def reports(self) -> list[Report]:
        """Return the reports that have come in."""
        taken = self.controller.take_deliveries(limit=10_000, timeout=0.0)
        self.controller.ack(taken)
        return [delivery.message for delivery in taken if isinstance(delivery.message, Report)]

    def report(self) -> Report:
        """Return the one report that has come in."""
        (report,) = self.reports()
        return report

    def beat(self) -> Report:
        """Let the heart beat once and return what it said."""
        self.heartbeat.send_heartbeat()
        return self.reports()[-1]

    def tasks(self, count: int = 1) -> list[AttemptRef]:
        """Return the first attempts of so many new tasks."""
        self.task_number += count
        return [
            AttemptRef(TaskId(f"task-{number:05}"), 1) for number in range(self.task_number - count, self.task_number)
        ]

    def grant(
        self,
        refs: Sequence[AttemptRef],
        *,
        answers: int,
        queue: str = "default",
        grace: float = 5.0,
        priority: int = 0,
    ) -> Orders:
        """Order these attempts as the answer to a report."""
        self.granted += refs
        tasks = tuple(GrantedTask(ref.task_id, ref.attempt, index) for index, ref in enumerate(refs))
        recipe = Recipe(task_class="t", exec_command="true", grace=grace)
        grant = Grant(JOB, 0, "Stage", "r1", queue, recipe, {}, {}, tasks, priority=priority)
        return self.order(answers=answers, grants=(grant,))

    def stop(self, ref: AttemptRef, reason: str = "cancelled") -> Orders:
        """Order an attempt to be stopped."""
        return self.order(answers=0, stop=(Stop(ref.task_id, ref.attempt, reason),))

    def recall(self, *refs: AttemptRef) -> Orders:
        """Ask for attempts back."""
        return self.order(answers=0, recall=refs)

    def renew(self, *, answers: int, stop: tuple[Stop, ...] = ()) -> Orders:
        """Renew what a report named."""
        return self.order(answers=answers, renewed=True, stop=stop)

    def order(
        self,
        *,
        answers: int,
        grants: tuple[Grant, ...] = (),
        stop: tuple[Stop, ...] = (),
        renewed: bool = False,
        recall: tuple[AttemptRef, ...] = (),
    ) -> Orders:
        """Send an order to the worker."""
        self.order_number += 1
        orders = Orders(WORKER, self.order_number, answers, self.lease, grants, stop, renewed, recall=recall)
        self.send(orders)
        return orders

    def send(self, orders: Orders) -> None:
        """Put an order into the worker's queue."""
        self.broker.publish([Outgoing(orders_queue(WORKER), orders)])

    def run(self, count: int = 1, *, queue: str = "default") -> list[AttemptRef]:
        """Beat, grant so many attempts, let them start, and drop the reports of all this."""
        refs = self.tasks(count)
        self.grant(refs, answers=self.beat().number, queue=queue)
        self.turn()
        self.reports()
        return refs

    def _build(self, buried: Sequence[WorkerId]) -> None:
        settings = self.settings
        sent = ReportLog(self.clock)
        slots = Slots(settings.slots, ahead=settings.ahead, ahead_limit=settings.ahead_limit)
        self.holdings = Holdings(slots, self.clock)
        self.heartbeat = Heartbeat(
            WorkerCard("w", "host", 1, "0", dict(settings.slots)),
            self.broker,
            worker=WORKER,
            holdings=self.holdings,
            sent=sent,
            interval=settings.heartbeat,
            dead=DeadIncarnations(tuple(buried), lambda: self.buried_lives.extend(buried)),
        )
        self.reporter = Reporter(
            WORKER, self.broker, holdings=self.holdings, sent=sent, clock=self.clock, wake=self.executor.wake
        )
        orders = OrderBook(WORKER, holdings=self.holdings, sent=sent, clock=self.clock)
        self.subscription = self.broker.subscribe([orders_queue(WORKER)], prefetch=1000, notify=self.executor.wake)
        signs = VolumeSigns(lambda: self.any_controller_able, lambda ref: ref in self.taken_away)
        parts = AgentParts(
            subscription=self.subscription,
            executor=self.executor,
            holdings=self.holdings,
            orders=orders,
            reporter=self.reporter,
            heartbeat=self.heartbeat,
            fence=LeaseFence(self.holdings, self.heartbeat, self.clock, signs),
            wake=self.executor.wake,
        )
        self.agent = Agent(parts, settings, self.clock)


def released(reports: list[Report]) -> list[AttemptRef]:
    return [ref for report in reports for ref in report.released]


def finished(reports: list[Report]) -> list[Finished]:
    return [end for report in reports for end in report.finished]
