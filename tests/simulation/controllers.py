"""Controllers: a real engine and real use cases on the real store, life after life."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast
from unittest import mock

from echelon.controller import serve
from echelon.controller.catalogue.watcher import CatalogueWatcher
from echelon.controller.engine.jobs import Jobs
from echelon.controller.liveness.status import StatusWriter
from echelon.controller.serve import Controller, Outside
from echelon.controller.settings import Settings
from echelon.shared.broker.port import Unconfirmed
from echelon.shared.lease import status_written_every
from echelon.shared.messages import Message, Orders
from echelon.shared.volume import Volume
from echelon.shared.volume.status_files import StatusFile
from tests.simulation.broker import Line
from tests.simulation.clocks import SimClock, StoreClock
from tests.simulation.signs import OneTurn, SimStatusFile
from tests.simulation.steps import strike_within
from tests.simulation.store import SimDatastore
from tests.simulation.volume import SimSealer, SimVolume
from tests.simulation.world import Actor, Process

if TYPE_CHECKING:
    from echelon.controller.catalogue.definitions import Catalogue
    from tests.simulation.cluster import Cluster

LEASE = 15.0
MAX_LOSSES = 3
#: A controller's own code, and so many lines of it are run by most turns at most.
CODE, LINES = os.path.dirname(serve.__file__), 700
#: Seconds between two sweeps.
SWEEP = 2.0
#: Seconds between two turns that have something to do.
BUSY = 0.001
RESTART = (0.3, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Watcher:
    """Stands in for the one that watches files: as much of it as a controller asks for."""

    cluster: Cluster

    @property
    def current(self) -> Catalogue:
        return self.cluster.catalogue

    @property
    def mistakes(self) -> list[str]:
        return []

    def run(self, stop: object) -> None:
        """Watch nothing: the world edits the catalogue itself."""


class SimController:
    """One controller of the cluster, through all of its lives."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self.name = name
        self._lives = 0
        self._due = float("inf")
        self._asleep_until = 0.0
        self.actor: Actor | None = None
        self._controller: Controller | None = None
        self._store: SimDatastore | None = None
        self._status_writer: StatusWriter | None = None

    @property
    def answers(self) -> bool:
        """Tell whether a request would get through to it."""
        return self.actor is not None and not (self.actor.process.dead or self.actor.process.paused)

    def start(self) -> None:
        """Begin a life."""
        self._lives += 1
        process = Process(f"{self.name}.{self._lives}", self._world.now)
        process.at_death.append(self._died)
        self.actor = actor = Actor(process, process.name)
        self._due, self._asleep_until = float("inf"), 0.0
        self._world.log(process.name, "begins")
        line = Line(self._cluster.hub, actor, self._wake)
        doubtful: set[tuple[str, int]] = set()
        line.on_unconfirmed = lambda unconfirmed: self._note_refused(unconfirmed, doubtful)
        clock = SimClock(self._world)
        store = SimDatastore(self._cluster.file, StoreClock(self._world), world=self._world, actor=actor)
        self._store = store
        volume = SimVolume(self._cluster.ground.files, world=self._world, actor=actor)
        outside = Outside(store, line, cast(Volume, volume), clock)
        settings = Settings(volume=Path("/"), lease=LEASE, max_losses=MAX_LOSSES)
        stops = self._cluster.signs
        stand_ins = {
            "Sealer": lambda volume: SimSealer(self._cluster.seals),
            "StatusFile": lambda volume, name, fresh_for: None,
            "StopFiles": lambda volume: stops,
            "StartFiles": lambda volume: stops,
        }
        with mock.patch.multiple(serve, **stand_ins):
            self._controller = controller = Controller(
                settings, outside, cast(CatalogueWatcher, Watcher(self._cluster))
            )
        status = cast(StatusFile, SimStatusFile(self._cluster.signs, process.name))
        # Idle sweeps are most of what an idle cluster does: half as many find the same.
        engine = controller.engine
        engine._parts = replace(engine._parts, sweep=SWEEP)
        self._status_writer = StatusWriter(status, lambda: controller.engine.hearing.is_able, lease=LEASE)
        self._light = Actor(process, f"{process.name} light")
        self._world.at(0.0, self._light, self._show)
        self._schedule(0.0)

    def call(
        self, request: Callable[[Jobs], object], *, around: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> object:
        """Carry out a request in this process; `around` is entered for each of its commits."""
        assert self._controller is not None and self._store is not None
        with self._store.watched(around):
            return request(self._controller.jobs)

    def _wake(self) -> None:
        self._schedule(BUSY)

    def _schedule(self, delay: float) -> None:
        assert self.actor is not None
        due = max(self._world.now + delay, self._asleep_until)
        if due < self._due:
            self._due = due
            self._world.at(due - self._world.now, self.actor, lambda: self._step(due))

    def _step(self, due: float) -> None:
        """Let the engine's loop turn once."""
        assert self.actor is not None and self._controller is not None
        if due != self._due:
            return
        self._due = float("inf")
        actor = self.actor
        actor.wait = None
        turn = OneTurn(self._world, actor.name)
        with strike_within(self._world, actor, CODE, LINES):
            self._controller.engine.try_turn(turn.event)
        if turn.back_off is not None:
            # Wake-ups in the meantime are ignored.
            self._due, self._asleep_until = float("inf"), self._world.now + turn.back_off
            self._schedule(turn.back_off)
        else:
            self._schedule(max(BUSY, self._controller.engine.rest_for(SWEEP)))

    def _show(self) -> None:
        assert self.actor is not None and self._status_writer is not None
        self._status_writer.write_status()
        self._world.at(status_written_every(LEASE), self._light, self._show)

    def _note_refused(self, unconfirmed: Unconfirmed, doubtful: set[tuple[str, int]]) -> None:
        """Remember attempts whose orders came back, for the checker: those that no worker can have got before."""
        doubtful.update(ref for one in unconfirmed.unknown for ref in _granted(one.message))
        for ref in (ref for one in unconfirmed.refused for ref in _granted(one.message)):
            if ref not in doubtful:
                self._cluster.refused.append((self._world.now, *ref))

    def _died(self) -> None:
        self._world.at(self._world.rng.choice(RESTART), None, self.start)


def _granted(message: Message) -> list[tuple[str, int]]:
    grants = message.grants if isinstance(message, Orders) else ()
    return [(task.task_id, task.attempt) for grant in grants for task in grant.tasks]
