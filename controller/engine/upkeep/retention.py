"""Removes jobs some time after their end: when they are too old, too many or too large.

It has a thread of its own, because files take long to remove. Several controllers do no harm to each other: one removes
a job, for the others it is not there any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from threading import Event

from echelon.controller.catalogue.definitions import Catalogue
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.removals import EndedJob
from echelon.controller.engine.upkeep.remover import Remover
from echelon.shared.errors import EchelonError
from echelon.shared.ids import JobId
from echelon.shared.volume import Volume

log = logging.getLogger(__name__)

#: Seconds between two looks for what is left of deleted jobs.
_FINISH_EVERY = 10.0
#: So many of those to one look for jobs that may go: it reads all jobs, because no index of their ends is worth its
#: cost for each job.
_FINISHES_PER_LOOK = 30
#: Jobs that one look counts or measures.
_MOST = 10_000
#: Jobs that one transaction removes.
_BATCH = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, how many and how large ended jobs may stay; 0: no limit."""

    age: float = 0.0
    jobs: int = 0
    bytes: int = 0


class Retention:
    """Finds jobs that may go, and removes them."""

    def __init__(
        self, *, store: Datastore, volume: Volume, remover: Remover, catalogue: Callable[[], Catalogue], limits: Limits
    ) -> None:
        self._store = store
        self._volume = volume
        self._remover = remover
        self._catalogue = catalogue
        self._limits = limits
        #: Bytes of ended jobs, by job and end: measured once.
        self._sizes: dict[tuple[JobId, float], int] = {}

    def run(self, stop: Event) -> None:
        """Look from time to time until told to stop."""
        number = 0
        while not stop.wait(_FINISH_EVERY):
            try:
                if number % _FINISHES_PER_LOOK == 0:
                    self.remove_expired(stop)
                else:
                    self._remover.finish_all()
                number += 1
            except EchelonError as error:
                log.warning("ended jobs are removed later: %s", error)
            except Exception:
                log.exception("ended jobs are removed later, because of a mistake of ours")

    def remove_expired(self, stop: Event) -> int:
        """Remove every job that may go; return their number."""
        self._remover.finish_all()
        removed = 0
        for find in (self._find_old, self._find_surplus, self._find_large):
            found = iter(find())
            while not stop.is_set() and (batch := list(islice(found, _BATCH))):
                removed += len(self._remover.remove_jobs(batch))
        if removed:
            log.info("%d ended jobs are removed: the limits of retention", removed)
        return removed

    def _find_old(self) -> Iterator[EndedJob]:
        own = self._find_own_ages()
        if self._limits.age:
            yield from self._list_ended(self._limits.age, without=list(own))
        for type_, age in own.items():
            yield from self._list_ended(age, only=type_)

    def _list_ended(self, age: float, *, only: str | None = None, without: Sequence[str] = ()) -> Iterator[EndedJob]:
        after: int | None = -1
        while after is not None:
            with self._store.read() as reader:
                before = reader.now() - age
                found = reader.list_ended(before=before, limit=1_000, after=after, only=only, without=without)
            after = found[-1].key if found else None
            yield from found

    def _find_surplus(self) -> list[EndedJob]:
        """Return the jobs beside the number that ended last, those that ended first at the front."""
        if not self._limits.jobs:
            return []
        with self._store.read() as reader:
            found = reader.list_surplus(kept=self._limits.jobs, limit=_MOST, without=list(self._find_own_ages()))
        return found[::-1]

    def _find_large(self) -> list[EndedJob]:
        """Return the jobs beside those that ended last and fit into the bytes that ended jobs may take."""
        if not self._limits.bytes:
            return []
        with self._store.read() as reader:
            newest = reader.list_surplus(kept=0, limit=_MOST, without=list(self._find_own_ages()))
        self._sizes = {
            (one.job_id, one.ended_at): self._sizes.get((one.job_id, one.ended_at))
            or self._volume.measure_job(one.job_id)
            for one in newest
        }
        room, surplus = self._limits.bytes, []
        for one in newest:
            room -= self._sizes[one.job_id, one.ended_at]
            if room < 0:
                surplus.append(one)
        return surplus[::-1]

    def _find_own_ages(self) -> dict[str, float]:
        """Return the ages of job types with a limit of their own; the general limits do not hold for them."""
        return {name: job.keep for name, job in self._catalogue().jobs.items() if job.keep is not None}
