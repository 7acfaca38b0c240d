"""Workers: the real protocol classes of one life after another, around processes that are made up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from echelon.shared.ids import WorkerId
from echelon.shared.lease import HURRIED_PART
from echelon.shared.messages import AttemptRef, WorkerCard, orders_queue
from echelon.worker import agent
from echelon.worker.agent import Agent, AgentParts
from echelon.worker.backlog import HeldAttempt
from echelon.worker.holdings import Holdings
from echelon.worker.liveness.fence import LeaseFence, VolumeSigns
from echelon.worker.liveness.heartbeat import DeadIncarnations, Heartbeat
from echelon.worker.liveness.report_log import ReportLog
from echelon.worker.orders import OrderBook
from echelon.worker.reporter import Reporter
from echelon.worker.settings import WorkerSettings
from echelon.worker.slots import Slots
from tests.simulation.broker import Line
from tests.simulation.clocks import SimClock
from tests.simulation.faults import CALM_FROM
from tests.simulation.history import Life, Taken
from tests.simulation.signs import OneTurn
from tests.simulation.steps import strike_within
from tests.simulation.tasks import SimExecutor
from tests.simulation.world import Actor, Process

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

#: A worker's own code, and so many lines of it are run by most turns at most.
CODE, LINES = os.path.dirname(agent.__file__), 300
#: Seconds between two turns of a loop that has something to do.
BUSY = 0.001
#: A worker sleeps for so many seconds at most, less than what makes its heart believe that it hangs.
LONGEST_TURN = 2.5

#: A worker that is started again comes back after so many seconds; most come back soon.
RESTART = (0.2, 1.0, 1.0, 3.0, 20.0, 40.0)


class SimHoldings(Holdings):
    """Holdings that note in which order attempts get a slot, and which of them waited for one meanwhile."""

    def __init__(self, slots: Slots, clock: SimClock, taken: list[Taken]) -> None:
        super().__init__(slots, clock)
        self._taken = taken
        self._arrived: dict[AttemptRef, int] = {}

    def add_granted(self, number: int, granted: Sequence[HeldAttempt]) -> None:
        super().add_granted(number, granted)
        self._arrived.update((held.ref, len(self._taken)) for held in granted)

    def start_next(self) -> HeldAttempt | None:
        held = super().start_next()
        if held is not None:
            grant = held.grant
            self._taken.append(Taken(grant.job_id, grant.queue, grant.priority, self._arrived[held.ref]))
        return held


@dataclass(eq=False)
class Body:
    """The parts of one life."""

    id: WorkerId
    process: Process
    thread: Actor
    heart: Actor
    heartbeat: Heartbeat
    reporter: Reporter
    agent: Agent
    clock: SimClock


class SimWorker:
    """One worker of the cluster, through all of its lives."""

    def __init__(self, cluster: Cluster, name: str, slots: dict[str, int]) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._settings = WorkerSettings(state_dir=Path("/"), name=name, host=name, slots=slots, drain_timeout=10.0)
        self.name = name
        self._lives = 0
        #: Earlier lives that are not yet declared dead.
        self._unburied: tuple[WorkerId, ...] = ()
        self._due = float("inf")
        self._asleep_until = 0.0
        self._last_beat = 0.0
        self.body: Body | None = None
        #: Those of earlier lives on this host, whose processes the next life ends before it begins.
        self._executors: list[SimExecutor] = []
        #: Seconds until it comes back when it dies next; None: as it comes.
        self.comes_back_after: float | None = None

    @property
    def dead(self) -> bool:
        """Tell whether it is between two lives."""
        return self.body is None or self.body.process.dead

    def start(self) -> None:
        """Begin a life."""
        self._lives += 1
        worker = WorkerId(self._cluster.ids.uuid())
        world = self._world
        process = Process(f"{self.name}.{self._lives}", world.now)
        process.at_death.append(self._died)
        thread, heart = Actor(process, f"{self.name}.{self._lives}"), Actor(process, f"{self.name}.{self._lives} heart")
        kept: list[float] = []
        slots = sum(self._settings.slots.values())
        self._cluster.lives[worker] = Life(worker, self.name, world.now, None, process.pauses, kept, slots)
        self._due, self._asleep_until = float("inf"), 0.0
        self._sweep()
        self.body = self._build(worker, process, thread, heart, kept)
        world.log(process.name, f"begins as {worker[:8]}, buries {[life[:8] for life in self._unburied]}")
        self._cluster.buried += [(world.now, life) for life in self._unburied if world.now > CALM_FROM + 10.0]
        self._unburied = (*self._unburied, worker)
        world.at(0.0, heart, self._beat)
        self._schedule(0.0)

    def _build(self, worker: WorkerId, process: Process, thread: Actor, heart: Actor, kept: list[float]) -> Body:
        settings, cluster = self._settings, self._cluster
        clock = SimClock(self._world, offset=self._world.rng.uniform(0.0, 1e6))
        sent = ReportLog(clock)
        slots = Slots(settings.slots, ahead=settings.ahead, ahead_limit=settings.ahead_limit)
        holdings = SimHoldings(slots, clock, self._cluster.taken.setdefault(worker, []))
        heartbeat = Heartbeat(
            WorkerCard(self.name, self.name, 1, "0", dict(settings.slots)),
            Line(cluster.hub, heart, self._wake),
            worker=worker,
            holdings=holdings,
            sent=sent,
            interval=settings.heartbeat,
            dead=DeadIncarnations(self._unburied, self._buried) if self._unburied else None,
        )
        line = Line(cluster.hub, thread, self._wake)
        executor = SimExecutor(cluster.ground, thread, life=worker, settings=settings, wake=self._wake)
        cluster.signs.starts[worker] = executor.starts
        self._executors.append(executor)
        reporter = Reporter(worker, line, holdings=holdings, sent=sent, clock=clock, wake=self._wake)
        orders = OrderBook(worker, holdings=holdings, sent=sent, clock=clock)
        subscription = line.subscribe([orders_queue(worker)], prefetch=100)
        signs = VolumeSigns(lambda: self._any_controller_able(kept), self._cluster.signs.is_stopped)
        fence = LeaseFence(holdings, heartbeat, clock, signs)
        parts = AgentParts(
            subscription, executor, holdings, orders, reporter, heartbeat, fence, self._wake,
        )  # fmt: skip
        agent = Agent(parts, settings, clock)
        return Body(worker, process, thread, heart, heartbeat, reporter, agent, clock)

    def _sweep(self) -> None:
        for executor in self._executors:
            executor.end_all()
        self._executors.clear()

    def _any_controller_able(self, kept: list[float]) -> bool:
        able = self._cluster.signs.any_controller_able()
        if not able:
            kept.append(self._world.now)
        return able

    # --- its two threads

    def _wake(self) -> None:
        self._schedule(BUSY)

    def _schedule(self, delay: float) -> None:
        assert self.body is not None
        due = max(self._world.now + delay, self._asleep_until)
        if due < self._due:
            self._due = due
            self._world.at(due - self._world.now, self.body.thread, lambda: self._step(due))

    def _step(self, due: float) -> None:
        if due != self._due or self.body is None:
            return
        body = self.body
        self._due = float("inf")
        body.thread.wait = None
        turn = OneTurn(self._world, body.thread.name)
        with strike_within(self._world, body.thread, CODE, LINES):
            body.agent.run(turn.event)
        if body.agent.done:
            self._leave(body)
        elif turn.back_off is not None:
            # Wake-ups in the meantime are ignored.
            self._due, self._asleep_until = float("inf"), self._world.now + turn.back_off
            self._schedule(turn.back_off)
        else:
            self._schedule(max(BUSY, body.agent._compute_wait(LONGEST_TURN)))

    def _beat(self) -> None:
        """Look whether the heart has to beat: at once when a life begins, after an interval, or when hurried."""
        assert self.body is not None
        body, world = self.body, self._world
        interval = self._settings.heartbeat
        if body.heartbeat._stopped.is_set():
            return
        since = world.now - self._last_beat
        if self._last_beat < body.process.born or since >= interval - BUSY or body.heartbeat._hurried.is_set():
            self._last_beat = world.now
            body.heartbeat._hurried.clear()
            self._strike(body)
            body.heartbeat.send_heartbeat()
        world.at(interval * HURRIED_PART, body.heart, self._beat)

    def _strike(self, body: Body) -> None:
        fault = self._world.strike("beat")
        if fault is not None and fault.kind == "drain":
            self.drain()
        elif fault is not None and fault.kind == "skew":
            body.clock.skew += self._world.rng.uniform(-3600.0, 3600.0)
        else:
            self._world.suffer(body.heart, fault)

    # --- how it ends

    def drain(self) -> None:
        """Ask it to leave."""
        assert self.body is not None
        self._world.log(self.body.process.name, "is asked to leave")
        self.body.agent.drain()
        self._wake()

    def kill(self, *, back_after: float | None = None) -> None:
        """Kill it; it comes back after so many seconds."""
        assert self.body is not None
        self.comes_back_after = back_after
        self._world.kill(self.body.process)

    def _leave(self, body: Body) -> None:
        if body.reporter.deregistered:
            self._unburied = ()
        self._world.kill(body.process)

    def _buried(self) -> None:
        assert self.body is not None
        self._unburied = (self.body.id,)

    def _died(self) -> None:
        assert self.body is not None
        self._cluster.lives[self.body.id].died = self._world.now
        if self._world.rng.random() < 0.15:
            # Another host takes over: it does not know the earlier lives, and does not end their processes.
            self._unburied = ()
            self._executors.clear()
        delay, self.comes_back_after = self.comes_back_after, None
        self._world.at(self._world.rng.choice(RESTART) if delay is None else delay, None, self.start)
