"""Composition root of a worker: builds its parts, starts its two threads, and closes everything in order."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from echelon.shared.broker.port import Broker, Subscription
from echelon.shared.clock import Clock
from echelon.shared.ids import WorkerId
from echelon.shared.messages import WorkerCard, orders_queue
from echelon.shared.volume import Volume
from echelon.shared.volume.starts import StartLog
from echelon.shared.volume.status_files import StatusReader
from echelon.shared.volume.stops import StopFiles
from echelon.worker.agent import Agent, AgentParts
from echelon.worker.executor import Executor, ExecutorSettings
from echelon.worker.holdings import Holdings
from echelon.worker.liveness.fence import LeaseFence, VolumeSigns
from echelon.worker.liveness.heartbeat import DeadIncarnations, Heartbeat
from echelon.worker.liveness.incarnation import Incarnation
from echelon.worker.liveness.report_log import ReportLog
from echelon.worker.orders import OrderBook
from echelon.worker.reporter import Reporter
from echelon.worker.rights import find_task_user
from echelon.worker.runtimes.cgroups import make_cgroups
from echelon.worker.runtimes.process import ProcessRuntime
from echelon.worker.runtimes.spawning import spawn_with_popen
from echelon.worker.settings import WorkerSettings
from echelon.worker.slots import Slots
from echelon.worker.sweep import kill_leftovers

log = logging.getLogger(__name__)

#: Unacknowledged orders that the broker may deliver to one worker.
PREFETCH = 100
#: Seconds that `stop` waits for the threads to end.
PATIENCE = 15.0


class Waker:
    """Wakes the executor from any thread, until the executor is closed."""

    def __init__(self, wake: Callable[[], None]) -> None:
        # Reentrant: a signal handler may call `wake` in the middle of a `wake`.
        self._lock = threading.RLock()
        self._wake: Callable[[], None] | None = wake

    def wake(self) -> None:
        """Wake the executor, unless it is closed."""
        with self._lock:
            if self._wake is not None:
                self._wake()

    def stop_waking(self) -> None:
        """Do nothing in later calls of `wake`."""
        with self._lock:
            self._wake = None


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The parts of one incarnation of a worker."""

    incarnation: Incarnation
    waker: Waker
    subscription: Subscription
    executor: Executor
    heartbeat: Heartbeat
    reporter: Reporter
    holdings: Holdings
    agent: Agent
    #: The broker keeps messages when this process ends, so that the last report arrives.
    durable: bool
    #: Number of its slots.
    slots: int = 0


class WorkerService:
    """A worker in this process. Its methods may be called from any thread."""

    def __init__(self, parts: WorkerParts, sweep: Callable[[], None]) -> None:
        self._parts = parts
        self._sweep = sweep
        self._stop = threading.Event()
        self._gone = False
        self._agent = threading.Thread(target=self._run_agent, name="agent", daemon=True)
        self._heart = threading.Thread(target=parts.heartbeat.run, name="heartbeat", daemon=True)

    @property
    def id(self) -> WorkerId:
        """The id of this incarnation of the worker."""
        return self._parts.incarnation.id

    @property
    def holdings(self) -> Holdings:
        """The attempts that it holds."""
        return self._parts.holdings

    @property
    def slot_count(self) -> int:
        """The number of its slots."""
        return self._parts.slots

    def start(self) -> None:
        """Kill the processes that an earlier incarnation has left, then begin to work."""
        # Before the first report: after it the controllers may start the earlier incarnation's tasks again at once.
        self._sweep()
        self._parts.heartbeat.send_heartbeat()
        self._agent.start()
        self._heart.start()

    def drain(self) -> None:
        """Take no more tasks and end after the running ones; the second call ends those too."""
        self._parts.agent.drain()

    def stop(self) -> None:
        """End now and kill the running attempts, which run again elsewhere. Drain first if there is time."""
        self._stop.set()
        self._parts.waker.wake()
        if self._agent.ident is None and not self._gone:
            self._release_parts()
        self.join(PATIENCE)

    def join(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the worker's end; return whether it has ended."""
        deadline = time.monotonic() + timeout
        for thread in (self._agent, self._heart):
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        return not (self._agent.is_alive() or self._heart.is_alive())

    def _run_agent(self) -> None:
        try:
            self._parts.agent.run(self._stop)
        finally:
            self._release_parts()

    def _release_parts(self) -> None:
        self._gone = True
        parts = self._parts
        parts.heartbeat.stop()
        parts.subscription.close()
        parts.waker.stop_waking()
        parts.executor.close()
        parts.incarnation.release_name(deregistered=parts.durable and parts.reporter.deregistered)


def build_worker(
    settings: WorkerSettings, *, broker: Broker, volume: Volume, clock: Clock, environ: Mapping[str, str]
) -> WorkerService:
    """Build a worker; raise Conflict if another process holds its name. Nothing runs before `start`."""
    incarnation = Incarnation(settings.state_dir, settings.name, patience=settings.patience)
    try:
        executor, containment = _build_executor(settings, incarnation.id, volume, clock, environ)
    except Exception:
        incarnation.release_name(deregistered=False)
        raise
    waker = Waker(executor.wake)
    holdings = Holdings(Slots(settings.slots, ahead=settings.ahead, ahead_limit=settings.ahead_limit), clock)
    sent = ReportLog(clock)
    heartbeat = Heartbeat(
        _build_card(settings, containment),
        broker,
        worker=incarnation.id,
        holdings=holdings,
        sent=sent,
        interval=settings.heartbeat,
        dead=DeadIncarnations(incarnation.earlier, incarnation.forget_earlier) if incarnation.earlier else None,
        heard=incarnation.record_heartbeat,
    )
    subscription = broker.subscribe([orders_queue(incarnation.id)], prefetch=PREFETCH, notify=waker.wake)
    signs = VolumeSigns(StatusReader(volume, incarnation.id).any_controller_able, StopFiles(volume).is_stopped)
    parts = AgentParts(
        subscription=subscription,
        executor=executor,
        holdings=holdings,
        orders=OrderBook(incarnation.id, holdings=holdings, sent=sent, clock=clock),
        reporter=Reporter(incarnation.id, broker, holdings=holdings, sent=sent, clock=clock, wake=waker.wake),
        heartbeat=heartbeat,
        fence=LeaseFence(holdings, heartbeat, clock, signs),
        wake=waker.wake,
    )
    built = WorkerParts(
        incarnation, waker, subscription, executor, heartbeat, parts.reporter, holdings, Agent(parts, settings, clock),
        durable=not broker.volatile, slots=sum(settings.slots.values()),
    )  # fmt: skip
    return WorkerService(built, sweep=lambda: _kill_leftovers(settings, incarnation.earlier))


def _kill_leftovers(settings: WorkerSettings, earlier: Sequence[WorkerId]) -> None:
    killed = kill_leftovers(process_mark(settings), earlier)
    if killed:
        log.warning("killed %d processes that an earlier incarnation of this worker had left", killed)


def _build_executor(
    settings: WorkerSettings, worker: WorkerId, volume: Volume, clock: Clock, environ: Mapping[str, str]
) -> tuple[Executor, str]:
    """Return the executor, and how it finds the processes that tasks leave."""
    user = find_task_user(settings.task_user, root=volume.root) if settings.task_user else None
    spawner = None if user is None else partial(spawn_with_popen, user=user.uid, group=user.gid)
    runtime = ProcessRuntime(sole_parent=settings.sole_parent, cgroups=make_cgroups(worker), spawner=spawner)
    executor = Executor(
        volume=volume,
        runtime=runtime,
        clock=clock,
        worker_name=process_mark(settings),
        environ=environ,
        settings=ExecutorSettings(log_cap=settings.log_cap, user=user),
        starts=StartLog(volume, worker),
    )
    return executor, runtime.containment


def process_mark(settings: WorkerSettings) -> str:
    """Return the name that marks this worker's processes: the same in each incarnation, and unique on this host."""
    place = hashlib.sha256(os.fsencode(settings.state_dir.resolve())).hexdigest()[:12]
    return f"{settings.name}-{place}"


def _build_card(settings: WorkerSettings, containment: str) -> WorkerCard:
    return WorkerCard(
        name=settings.name,
        host=settings.host,
        pid=os.getpid(),
        version=settings.version,
        slots=dict(settings.slots),
        containment=containment,
    )
