"""An engine on a real store and the in-process broker, turned by hand, and a worker that does what a test says."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from echelon.controller.core.states import ENDED
from echelon.controller.datastore.filters import TaskFilter
from echelon.controller.datastore.open import open_datastore
from echelon.controller.datastore.records import JobView, TaskView
from echelon.controller.engine.base.requests import Submission
from echelon.controller.serve import Controller, Outside, watch_catalogue
from echelon.controller.settings import Settings
from echelon.shared.broker.memory import MemoryBroker
from echelon.shared.broker.port import Outgoing, Subscription
from echelon.shared.ids import JobId, WorkerId, new_worker_id
from echelon.shared.messages import (
    ANY_QUEUE,
    REPORTS,
    AttemptRef,
    Finished,
    Grant,
    GrantedTask,
    JsonValue,
    Orders,
    Outcome,
    Report,
    SpawnedItems,
    Started,
    Stop,
    WorkerCard,
    orders_queue,
)
from echelon.shared.volume import Volume, attempt_name


@dataclass
class HeldClock:
    """A clock that stands still until it is told."""

    seconds: float = 1_000_000.0
    #: By how much the wall's clock is wrong.
    skew: float = 0.0

    def wall(self) -> float:
        return self.seconds + self.skew

    def monotonic(self) -> float:
        return self.seconds

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds


class House:
    """A controller without threads: `turn` makes it work."""

    def __init__(self, folder: Path, catalogue: str, *, broker: MemoryBroker | None = None, **settings: object) -> None:
        file = folder / "catalogue.yaml"
        file.write_text(textwrap.dedent(catalogue))
        self.settings = Settings(catalogue=(file,), volume=folder / "volume", **settings)  # type: ignore[arg-type]
        self.clock = HeldClock()
        self.broker = broker or MemoryBroker()
        self.volume = Volume.create(self.settings.volume)
        self.store = open_datastore(self.settings.datastore_url, clock=self.clock)
        outside = Outside(self.store, self.broker, self.volume, self.clock)
        self.watcher = watch_catalogue(self.settings, self.volume)
        self.controller = Controller(self.settings, outside, self.watcher)
        self.jobs = self.controller.jobs

    def turn(self, times: int = 3) -> None:
        """Let the engine do what there is to do."""
        for _ in range(times):
            self.controller.engine.turn(0.0)

    def submit(self, type_: str, headers: Mapping[str, list[str]] | None = None, **values: JsonValue) -> JobId:
        """Submit a job and let the engine see it."""
        job_id, _ = self.jobs.submit_job(Submission(type_, values, headers or {}))
        self.turn()
        return job_id

    def view(self, job_id: JobId) -> JobView:
        """Return a job as users see it."""
        with self.store.read() as reader:
            view = reader.find_job(job_id)
        assert view is not None
        return view

    def tasks(self, job_id: JobId, stage: int | None = None) -> list[TaskView]:
        """Return a job's tasks."""
        with self.store.read() as reader:
            return list(reader.list_tasks(job_id, TaskFilter(stage=stage), limit=500, cursor=None).items)

    def kinds(self, job_id: JobId) -> list[str]:
        """Return the kinds of a job's history, in order."""
        with self.store.read() as reader:
            return [event.kind for event in reader.list_events(job_id, limit=500, cursor=None).items]

    def close(self) -> None:
        """Let go of everything."""
        self.controller.engine.close()
        self.broker.close(timeout=1.0)
        self.store.close()


@dataclass
class Puppet:
    """A worker in a test's hands: it says what the test says, and keeps what it is granted."""

    house: House
    name: str = "puppet"
    room: dict[str, int] = field(default_factory=lambda: {ANY_QUEUE: 1000})
    worker: WorkerId = field(default_factory=new_worker_id)
    number: int = 0
    seen: int = 0
    seen_when_told: int = 0
    granted: list[tuple[Grant, GrantedTask]] = field(default_factory=list)
    stopped: list[Stop] = field(default_factory=list)
    renewed: list[int] = field(default_factory=list)
    heard: list[Orders] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.orders: Subscription = self.house.broker.subscribe([orders_queue(self.worker)], prefetch=100)
        self.heartbeat()

    def report(self, **parts: object) -> None:
        """Send one report, let the engine turn, and take in the orders."""
        self.number += 1
        # What was granted since belongs to the room that is told next.
        self.seen_when_told = self.seen if "room" in parts else self.seen_when_told
        report = Report(worker=self.worker, number=self.number, seen=self.seen_when_told, **parts)  # type: ignore[arg-type]
        self.house.broker.publish([Outgoing(REPORTS, report)])
        self.house.turn()
        self.listen()

    def listen(self) -> None:
        """Take in what was ordered."""
        deliveries = self.orders.take_deliveries(limit=100, timeout=0.0)
        for delivery in deliveries:
            orders = delivery.message
            assert isinstance(orders, Orders)
            self.heard.append(orders)
            self.seen = max(self.seen, orders.number)
            self.granted += [(grant, task) for grant in orders.grants for task in grant.tasks]
            self.stopped += orders.stop
            self.renewed += [orders.answers] if orders.renewed else []
        self.orders.ack(deliveries)

    def heartbeat(self, running: tuple[AttemptRef, ...] = (), **parts: object) -> None:
        """Say that it lives, what it runs, and how much room it has."""
        card = WorkerCard(self.name, "host", 1, "test", self.room)
        self.report(running=running, room=self.room, card=card, **parts)

    def take(self) -> tuple[Grant, GrantedTask]:
        """Start the oldest granted attempt, and tell of it."""
        held = self.take_ahead()
        self.start(held)
        return held

    def take_ahead(self) -> tuple[Grant, GrantedTask]:
        """Return the oldest granted attempt; it waits for a slot."""
        self.listen()
        return self.granted.pop(0)

    def start(self, *held: tuple[Grant, GrantedTask], seconds: float = 0.0) -> None:
        """Tell that attempts started so many seconds ago."""
        self.report(
            started=tuple(Started(grant.job_id, task.task_id, task.attempt, seconds) for grant, task in held)
        )

    def finish(
        self,
        held: tuple[Grant, GrantedTask],
        outcome: Outcome = Outcome.COMPLETED,
        *,
        error: str | None = None,
        items: list[object] | None = None,
        **more: object,
    ) -> None:
        """Report how an attempt ended; `items` are what a spawn task left."""
        grant, task = held
        if items is not None:
            more["spawned"] = self._spawn(grant, task, items)
        if outcome is not Outcome.COMPLETED and error is None:
            error = f"it {outcome}"
        finished = Finished(grant.job_id, task.task_id, task.attempt, outcome, error=error, **more)  # type: ignore[arg-type]
        self.report(finished=(finished,), room=self.room)

    def run_all(self, decide: Callable[[Grant, GrantedTask], Outcome] = lambda _grant, _task: Outcome.COMPLETED) -> int:
        """Finish whatever is granted until nothing comes any more; return how many attempts that were."""
        count = 0
        self.listen()
        while self.granted:
            held = self.granted.pop(0)
            self.finish(held, decide(*held))
            count += 1
        return count

    def _spawn(self, grant: Grant, task: GrantedTask, items: list[object]) -> SpawnedItems:
        import json

        path = f"{attempt_name(grant.job_id, grant.stage, task.index, task.attempt)}/items.ndjson"
        file = self.house.settings.volume / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(item) + "\n" for item in items))
        return SpawnedItems(path, len(items))


def ref(held: tuple[Grant, GrantedTask]) -> AttemptRef:
    """Return the name of a granted attempt."""
    return AttemptRef(held[1].task_id, held[1].attempt)


def ended(house: House, job_id: JobId) -> bool:
    """Tell whether a job has ended."""
    return house.view(job_id).state in ENDED


#: Builds a house from a catalogue (the usual one when none is given) and settings.
Make = Callable[..., House]
