"""Removes ended jobs: rows, logs and files. The next sweep finishes a deletion that was cut off."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from echelon.controller.core.states import ENDED
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.removals import EndedJob, Removal
from echelon.controller.engine.base.snapshots import Snapshots
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.shared.errors import EchelonError
from echelon.shared.ids import JobId
from echelon.shared.volume import Volume

log = logging.getLogger(__name__)

#: Rows of each table that one transaction deletes: some 10 ms.
_ROWS = 1_000
_REMOVALS = 100


class Remover:
    """Removes jobs. Safe for any thread, and for several controllers at once."""

    def __init__(self, *, store: Datastore, volume: Volume, snapshots: Snapshots) -> None:
        self._store = store
        self._volume = volume
        self._snapshots = snapshots

    def remove_jobs(self, found: Sequence[EndedJob]) -> list[EndedJob]:
        """Remove jobs that have not changed since they were found; return them."""
        with self._store.write() as tx:
            unit = UnitOfWork(tx)
            unit.lock_jobs([one.job_id for one in found], skip_locked=True)
            now_ended = tx.find_ended_at([one.job_id for one in found])
            same = [one for one in found if self._is_same(unit, one, now_ended.get(one.job_id))]
            removals = [tx.delete_job(one.job_id) for one in same]
        # A death here is tried with the deletion of one job, which leaves the same behind.
        for removal in removals:
            self.finish_removal(removal)
        return same

    def finish_job(self, job_id: JobId) -> None:
        """Remove what is left of a deleted job."""
        with self._store.read() as reader:
            found = reader.list_removals(limit=1, job_id=job_id)
        for removal in found:
            self.finish_removal(removal)
        if not found:
            # Of a deletion by an earlier release only files can be left.
            self._volume.remove_job(job_id)

    def finish_all(self) -> None:
        """Remove what is left of deleted jobs, those of other controllers included."""
        with self._store.read() as reader:
            found = reader.list_removals(limit=_REMOVALS)
        for removal in found:
            try:
                self.finish_removal(removal)
            except EchelonError as error:
                log.warning("job %s is deleted, and its rest is removed later: %s", removal.job_id, error)

    def finish_removal(self, removal: Removal) -> None:
        """Remove the rows and the files that are left of a deleted job; later, if processes of it are still ending."""
        self._snapshots.forget_job(removal.job_id)
        with self._store.write() as tx:
            if tx.is_dying(removal):
                return
        more = True
        while more:
            with self._store.write() as tx:
                more = tx.delete_leftovers(removal, limit=_ROWS)
        self._volume.remove_job(removal.job_id)
        with self._store.write() as tx:
            tx.forget_removal(removal)

    def _is_same(self, unit: UnitOfWork, found: EndedJob, ended_at: float | None) -> bool:
        job = unit.find_job(found.job_id)
        return job is not None and job.state in ENDED and ended_at == found.ended_at
