"""The workers as this controller saw them last: what has changed since goes to the log.

No message tells that a worker is lost, so the store is asked from time to time, as it is for users.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import WorkerView
from echelon.shared.clock import Clock
from echelon.shared.ids import WorkerId
from echelon.shared.logs import WORKERS, log_facts

#: Seconds between two looks.
_LOOK_EVERY = 2.0


class Roster:
    """The workers that are known. Its caller's thread alone."""

    def __init__(self, store: Datastore, clock: Clock, *, lease: float) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease
        self._look_at = clock.monotonic()
        self._known: dict[WorkerId, WorkerView] | None = None

    def look_if_due(self) -> None:
        """Log which workers have come, left, been lost or returned since the last look."""
        now = self._clock.monotonic()
        if now < self._look_at or not WORKERS.isEnabledFor(logging.WARNING):
            return
        self._look_at = now + _LOOK_EVERY
        with self._store.read() as reader:
            found = {one.worker_id: one for one in reader.list_workers(lost_after=self._lease)}
        _log_changes(self._known or {}, found, first=self._known is None)
        self._known = found


def _log_changes(known: Mapping[WorkerId, WorkerView], found: Mapping[WorkerId, WorkerView], *, first: bool) -> None:
    changes: list[tuple[str, WorkerView]] = []
    for worker, view in found.items():
        before = known[worker].state if worker in known else None
        # After a start of this controller a worker that was lost long ago is no news.
        if view.state != before and not (first and view.state == "LOST"):
            returned = before == "LOST" and view.state == "UP"
            changes.append(("worker_returned" if returned else f"worker_{view.state.lower()}", view))
    changes += [("worker_left", view) for worker, view in known.items() if worker not in found and view.state != "LOST"]
    log_facts(WORKERS, logging.WARNING, [_describe(*one) for one in changes if one[0] == "worker_lost"])
    log_facts(WORKERS, logging.INFO, [_describe(*one) for one in changes if one[0] != "worker_lost"])


def _describe(event: str, view: WorkerView) -> dict[str, object]:
    slots = ",".join(f"{queue}:{count}" for queue, count in view.slots.items())
    described = {"event": event, "name": view.name, "host": view.host, "worker": view.worker_id, "slots": slots}
    return described | {"running": view.running}
