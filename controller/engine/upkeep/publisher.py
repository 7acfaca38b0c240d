"""Let the files of attempts that count be seen, after the commit that counts them: what was seen cannot be taken back.

The commit leaves a row for each; a controller that finds it moves the files, which may happen twice and at the same
time, and then removes the row. No task of a later stage is granted before (see `Dispatcher`), and no artefact is looked
for.

Of a task that a person has repeated several attempts have counted. Their files are moved in the order of the attempts,
all files of one before those of the next: a controller that is late with an older attempt finds nothing to move.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from echelon.controller.core.events import FilesMissing
from echelon.controller.datastore.files import Unpublished
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import SPAWN_INDEX
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.shared.errors import VolumeUnavailable
from echelon.shared.failpoints import failpoint
from echelon.shared.ids import JobId
from echelon.shared.volume import Volume, attempt_name

log = logging.getLogger(__name__)

#: Attempts of one look.
_BATCH = 256
#: Files of one attempt that get a line of the history when they cannot be published.
_REMEMBERED = 20
#: Paths that the error of the job names.
_NAMED = 5


class FilePublisher:
    """Publishes files that the store lists. The engine's thread calls `publish_next`, any thread `publish_job`."""

    def __init__(self, *, store: Datastore, volume: Volume) -> None:
        self._store = store
        self._volume = volume
        #: Where the next look begins: what cannot be published must not stand in the way of the rest.
        self._after = -1

    def publish_next(self) -> bool:
        """Publish the files of some attempts; return whether there were any."""
        found = self._find_unpublished(None, after=self._after)
        self._after = found[-1].key if len(found) == _BATCH else -1
        if not found:
            return False
        failpoint("files.before_publish")
        left = self.publish_found(found)
        failpoint("files.after_publish")
        if left:
            self._record_published([one for one in found if one.key in left], left)
        return bool(left)

    def publish_job(self, job_id: JobId) -> None:
        """Publish all files of a job that are to be seen by now; the line in the store stays for the engine."""
        after, more = -1, True
        while more:
            found = self._find_unpublished(job_id, after=after)
            for one in found:
                self._move_files(one)
            after, more = found[-1].key if found else after, len(found) == _BATCH

    def _find_unpublished(self, job_id: JobId | None, *, after: int) -> list[Unpublished]:
        with self._store.read() as reader:
            return reader.find_unpublished(job_id, after=after, limit=_BATCH)

    def publish_found(self, found: Sequence[Unpublished]) -> dict[int, tuple[str, ...]]:
        """Publish as far as the volume lets us; return, for each attempt that was, what had to stay behind."""
        left: dict[int, tuple[str, ...]] = {}
        for one in found:
            try:
                left[one.key] = self._move_files(one)
            except VolumeUnavailable as error:
                log.warning("the files of %s are published later: %s", _attempt_name(one, one.attempt), error)
        return left

    def _move_files(self, one: Unpublished) -> tuple[str, ...]:
        """Move the files of an attempt, after those of the ones that counted before it; return what had to stay."""
        left: tuple[str, ...] = ()
        for attempt in (*one.before, one.attempt):
            left += self._volume.publish_files(one.job_id, _attempt_name(one, attempt))
        return left

    def _record_published(self, published: Sequence[Unpublished], left: dict[int, tuple[str, ...]]) -> None:
        errors: list[tuple[JobId, str]] = []
        with self._store.write() as tx:
            unit = UnitOfWork(tx)
            unit.lock_jobs({one.job_id for one in published})
            for one in tx.mark_published([one for one in published if unit.find_job(one.job_id) is not None]):
                index = "spawn" if one.index == SPAWN_INDEX else one.index
                for path in left[one.key][:_REMEMBERED]:
                    detail = {"index": index, "path": path, "reason": "something else is in its place"}
                    tx.record_event(one.job_id, "file_not_published", stage=one.stage, detail=detail)
                if left[one.key]:
                    errors.append((one.job_id, _describe_left(one, left[one.key])))
                    unit.apply_event(one.job_id, FilesMissing(errors[-1][1]))
            unit.save_jobs()
        for job_id, error in errors:
            log.warning("job %s: %s", job_id, error)


def _describe_left(one: Unpublished, left: Sequence[str]) -> str:
    """Say which files of an attempt are not in the workspace, although its worker had found a place for them."""
    about = "the spawn task" if one.index == SPAWN_INDEX else f"task {one.index}"
    names = ", ".join([*left[:_NAMED], *(["..."] if len(left) > _NAMED else [])])
    return (
        f"files of {about} of stage {one.stage} are missing from the workspace, because something else came into their"
        f" place when it ended: {names}; they are in {_attempt_name(one, one.attempt)}/work"
    )


def _attempt_name(one: Unpublished, attempt: int) -> str:
    return attempt_name(one.job_id, one.stage, one.index, attempt)
