"""Composition root of a controller: build the engine from settings, run its loops, let go of them in order.

Threads and connections are made in `start`, never before: a server that forks must fork first.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry

from echelon.controller.catalogue.definitions import Catalogue
from echelon.controller.catalogue.last_good import LastGood
from echelon.controller.catalogue.watcher import CatalogueLook, CatalogueWatcher
from echelon.controller.datastore.open import open_datastore, open_when_there
from echelon.controller.datastore.port import Datastore
from echelon.controller.engine.base.changes import Changes
from echelon.controller.engine.base.counters import Counters
from echelon.controller.engine.base.outbox import Outbox
from echelon.controller.engine.base.settle import Settler
from echelon.controller.engine.base.snapshots import Snapshots
from echelon.controller.engine.dependencies import JobDependencies
from echelon.controller.engine.jobs import Jobs
from echelon.controller.engine.turn.claim_at_submit import ClaimAtSubmit
from echelon.controller.engine.turn.dispatcher import Dispatcher
from echelon.controller.engine.turn.intake import Intake
from echelon.controller.engine.turn.loop import Engine, EngineDependencies
from echelon.controller.engine.upkeep.expander import Expander
from echelon.controller.engine.upkeep.open_jobs import OpenJobs
from echelon.controller.engine.upkeep.publisher import FilePublisher
from echelon.controller.engine.upkeep.retention import Limits, Retention
from echelon.controller.engine.upkeep.roster import Roster
from echelon.controller.engine.upkeep.watchdog import Watchdog
from echelon.controller.engine.why.disks import DiskWatch
from echelon.controller.liveness.hearing import Hearing
from echelon.controller.liveness.status import StatusWriter
from echelon.controller.liveness.store_clock import StoreClockCheck
from echelon.controller.settings import Settings
from echelon.shared.broker.port import Broker
from echelon.shared.broker.rabbitmq import RabbitBroker, RabbitOptions
from echelon.shared.broker.topology import QueueType
from echelon.shared.clock import Clock, SystemClock
from echelon.shared.lease import status_fresh_for
from echelon.shared.sealing import Sealer
from echelon.shared.signing import make_signer
from echelon.shared.volume import Volume
from echelon.shared.volume.starts import StartFiles
from echelon.shared.volume.status_files import StatusFile
from echelon.shared.volume.stops import StopFiles

#: Seconds that an engine gets to finish its turn.
_PATIENCE = 10.0


class Loop(Protocol):
    """Runs in a thread of its own."""

    def run(self, stop: threading.Event) -> None:
        """Run until told to stop."""


@dataclass(frozen=True, slots=True)
class Outside:
    """The systems that a controller leans on, opened."""

    store: Datastore
    broker: Broker
    volume: Volume
    clock: Clock


class Controller:
    """A running controller: the use cases, and the engine's thread behind them."""

    def __init__(self, settings: Settings, outside: Outside, watcher: CatalogueWatcher) -> None:
        self._outside = outside
        self._stop = threading.Event()
        counters = Counters(CollectorRegistry())
        sealer = Sealer(outside.volume)
        snapshots = Snapshots(outside.store, max_items=settings.max_items)
        changes = Changes(outside.clock)
        open_jobs = OpenJobs(outside.store, outside.clock, most=settings.max_open_jobs)
        self.jobs = Jobs(
            JobDependencies(
                store=outside.store,
                broker=outside.broker,
                volume=outside.volume,
                sealer=sealer,
                snapshots=snapshots,
                changes=changes,
                counters=counters,
                catalogue=lambda: watcher.current,
                catalogue_problems=lambda: [str(mistake) for mistake in watcher.mistakes],
                wake=lambda: self.engine.wake(),
                head_start=self._head_start(settings, snapshots, counters),
                open_jobs=open_jobs,
                lease=settings.lease,
                max_losses=settings.max_losses,
                max_items=settings.max_items,
                disks=tuple(str(folder) for folder in settings.disks),
                min_free=settings.min_free,
                inline_commands=settings.allow_inline_commands,
                stop_files=StopFiles(outside.volume),
            )
        )
        self.engine = _engine(settings, outside, snapshots, sealer, changes, counters, open_jobs)
        hearing = self.engine.hearing
        file = StatusFile(outside.volume, str(uuid.uuid4()), fresh_for=status_fresh_for(settings.lease))
        status = StatusWriter(file, lambda: hearing.is_able, lease=settings.lease)
        self.retention = _retention(settings, outside, self.jobs, watcher)
        disks = DiskWatch(self.jobs.disks, settings.min_free)
        self._threads = self._make_threads(
            engine=self.engine, catalogue=watcher, status=status, retention=self.retention, disks=disks
        )

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the turn at hand and stop; what is not settled yet is settled after the next start."""
        self._stop.set()
        self.engine.interrupt()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_PATIENCE)
        self.engine.close()

    def _make_threads(self, **loops: Loop) -> list[threading.Thread]:
        return [
            threading.Thread(target=loop.run, args=(self._stop,), name=name, daemon=True)
            for name, loop in loops.items()
        ]

    def _head_start(self, settings: Settings, snapshots: Snapshots, counters: Counters) -> ClaimAtSubmit:
        return ClaimAtSubmit(
            broker=self._outside.broker,
            dispatcher=_dispatcher(settings, snapshots),
            counters=counters,
            lease=settings.lease,
            idle=lambda: self.engine.is_idle,
            tell=lambda post: self.engine.send_orders(post),
        )


class RemoteController:
    """A controller whose workers are elsewhere, behind RabbitMQ."""

    def __init__(self, settings: Settings, first: CatalogueLook | None = None) -> None:
        queue_type: QueueType = "quorum" if settings.queue_type == "quorum" else "classic"
        options = RabbitOptions(queue_type=queue_type, lease=settings.lease)
        volume = Volume.create(settings.volume)
        # Both connect while the rest is built.
        self._broker = RabbitBroker(settings.broker, make_signer(volume), options)
        store = open_when_there(settings.datastore_url)
        self._outside = Outside(store, self._broker, volume, SystemClock())
        self._controller = Controller(settings, self._outside, watch_catalogue(settings, self._outside.volume, first))

    @property
    def jobs(self) -> Jobs:
        """Return the use cases."""
        return self._controller.jobs

    def start(self) -> None:
        """Begin to work."""
        self._controller.start()

    def hurry(self) -> None:
        """Do nothing: no task runs here, and a turn is short."""

    def stop(self) -> None:
        """Finish the turn at hand and let go of everything."""
        self._controller.stop()
        self._broker.close(timeout=_PATIENCE)
        self._outside.store.close()


def open_outside(settings: Settings, broker: Broker) -> Outside:
    """Open the volume and the store."""
    clock = SystemClock()
    volume = Volume.create(settings.volume)
    return Outside(open_datastore(settings.datastore_url, clock=clock), broker, volume, clock)


def watch_catalogue(settings: Settings, volume: Volume, first: CatalogueLook | None = None) -> CatalogueWatcher:
    """Keep an eye on the catalogue; `first` is what it was found to be already.

    Before a revision is in force its files are on the volume, and it is known there as the last good one.
    """
    last_good = LastGood(volume.root, settings.catalogue)

    def install(catalogue: Catalogue) -> None:
        volume.install_files(catalogue.revision, catalogue.files)
        last_good.keep_catalogue(catalogue)

    return CatalogueWatcher(settings.catalogue, install, first=first, last_good=last_good.read_catalogue)


def _engine(
    settings: Settings,
    outside: Outside,
    snapshots: Snapshots,
    sealer: Sealer,
    changes: Changes,
    counters: Counters,
    open_jobs: OpenJobs,
) -> Engine:
    starts = StartFiles(outside.volume)
    settler = Settler(snapshots=snapshots, counters=counters, max_losses=settings.max_losses, starts=starts)
    return Engine(
        EngineDependencies(
            store=outside.store,
            broker=outside.broker,
            clock=outside.clock,
            counters=counters,
            changes=changes,
            outbox=Outbox(lease=settings.lease, longest=outside.broker.longest),
            intake=Intake(settler=settler, counters=counters, lease=settings.lease),
            dispatcher=_dispatcher(settings, snapshots),
            expander=Expander(
                store=outside.store, snapshots=snapshots, volume=outside.volume, sealer=sealer, clock=outside.clock
            ),
            publisher=FilePublisher(store=outside.store, volume=outside.volume),
            lease=settings.lease,
            open_jobs=open_jobs,
            roster=Roster(outside.store, outside.clock, lease=settings.lease),
            hearing=Hearing(outside.broker, outside.clock, lease=settings.lease),
            watchdog=Watchdog(
                store=outside.store,
                settler=settler,
                counters=counters,
                store_clock=StoreClockCheck(outside.clock, lease=settings.lease),
                lease=settings.lease,
            ),
        )
    )


def _retention(settings: Settings, outside: Outside, jobs: Jobs, watcher: CatalogueWatcher) -> Retention:
    return Retention(
        store=outside.store,
        volume=outside.volume,
        remover=jobs.remover,
        catalogue=lambda: watcher.current,
        limits=Limits(settings.retention_age, settings.retention_jobs, settings.retention_bytes),
    )


def _dispatcher(settings: Settings, snapshots: Snapshots) -> Dispatcher:
    return Dispatcher(snapshots=snapshots, lease=settings.lease, max_losses=settings.max_losses)
