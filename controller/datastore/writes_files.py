"""Writing which attempts' files are still to be published."""

from __future__ import annotations

from collections.abc import Sequence

from echelon.controller.datastore import statements_files as sql
from echelon.controller.datastore.outstanding import Unpublished
from echelon.controller.datastore.records import SPAWN_INDEX
from echelon.controller.datastore.tables import task_key
from echelon.controller.datastore.writes_base import WritesBase
from echelon.shared.ids import JobId


class FileWrites(WritesBase):
    """The methods of `Transaction` about files. Who adds or removes a line holds the lock of its job."""

    def lacks_files(self, job_id: JobId, stage: int) -> bool:
        """Tell whether files that a stage's tasks may want are still to be published."""
        entry = self._entry(job_id)
        order = entry.job.stages[stage].order
        first = min(each.number for each in entry.job.stages if each.order == order)
        ahead = task_key(entry.key, SPAWN_INDEX), task_key(entry.key + first, SPAWN_INDEX)
        ((lacks,),) = self._session.rows(sql.LACKS_FILES, (*ahead, task_key(entry.key + stage, SPAWN_INDEX)))
        return bool(lacks)

    def published(self, attempts: Sequence[Unpublished]) -> list[Unpublished]:
        """Note that the files of attempts are where they belong; return those of which nobody had noted it before."""
        removed: set[tuple[int, int]] = set()
        for number in sorted({one.attempt for one in attempts}):
            keys = self._session.listed([one.key for one in attempts if one.attempt == number])
            removed |= {(key, number) for (key,) in self._session.rows(sql.DELETE_PUBLISHED, (keys, number))}
        return [one for one in attempts if (one.key, one.attempt) in removed]
