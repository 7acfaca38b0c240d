"""Composition root of everything in one process: controller, worker, in-process broker and SQLite."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from echelon.controller.catalogue.watcher import CatalogueLook
from echelon.controller.engine.jobs import Jobs
from echelon.controller.serve import Controller, open_outside, watch_catalogue
from echelon.controller.settings import Settings
from echelon.shared.broker.memory import MemoryBroker
from echelon.shared.messages import ANY_QUEUE
from echelon.worker.serve import WorkerService, build_worker
from echelon.worker.settings import WorkerSettings

#: Seconds that the broker gets to deliver its last messages.
_FLUSH = 2.0
#: Seconds for which an earlier life, whose first process was killed, may still be ending its tasks.
_SUCCESSION = 10.0


@dataclass(frozen=True, slots=True)
class StandaloneOptions:
    """Options of the one-process form."""

    #: Seconds that running tasks get to end when everything shuts down.
    drain_timeout: float = 60.0
    #: This process has no children but tasks, so every orphan must be a task's.
    sole_parent: bool = False


class Standalone:
    """Everything in one process. `start` once, `stop` once."""

    def __init__(
        self,
        settings: Settings,
        *,
        options: StandaloneOptions | None = None,
        environ: Mapping[str, str] | None = None,
        first: CatalogueLook | None = None,
    ) -> None:
        """Build it; `first` is what the catalogue was found to be already."""
        options = options or StandaloneOptions()
        self._broker = MemoryBroker()
        self._outside = open_outside(settings, self._broker)
        self._controller = Controller(settings, self._outside, watch_catalogue(settings, self._outside.volume, first))
        self._drain_timeout = options.drain_timeout
        self._hurried = False
        self._worker: WorkerService = build_worker(
            WorkerSettings(
                state_dir=settings.volume / ".echelon" / "standalone",
                slots={ANY_QUEUE: settings.slots},
                heartbeat=settings.heartbeat,
                drain_timeout=options.drain_timeout,
                patience=_SUCCESSION,
                log_cap=settings.max_output,
                task_user=settings.task_user,
                sole_parent=options.sole_parent,
            ),
            broker=self._broker,
            volume=self._outside.volume,
            clock=self._outside.clock,
            environ=dict(os.environ if environ is None else environ),
        )

    @property
    def jobs(self) -> Jobs:
        """Return the use cases."""
        return self._controller.jobs

    def start(self) -> None:
        """Begin to work: the engine first, so that the worker's first report finds it."""
        self._controller.start()
        self._worker.start()

    def hurry(self) -> None:
        """Give running tasks no more time than their grace, and at the second call none. For signal handlers too."""
        if self._hurried:
            self.kill()
        self._hurried = True
        self._worker.drain()

    def kill(self) -> None:
        """End running tasks without any grace. For signal handlers too: waits for nothing."""
        # In a thread: the one that a signal interrupts may hold a lock that this needs.
        threading.Thread(target=self._worker.stop, name="kill", daemon=True).start()

    def stop(self) -> None:
        """Let running tasks end, keep their results, and let go of everything."""
        self._worker.drain()
        self._worker.join(self._drain_timeout + 30.0)
        self._worker.stop()
        self._controller.stop()
        self._broker.close(timeout=_FLUSH)
        self._outside.store.close()
