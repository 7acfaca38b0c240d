"""The progress of a fan-out: which items of a spawn.json are tasks already."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam as _p
from sqlalchemy import select, update

from echelon.controller.core.states import State
from echelon.controller.datastore.base import TransactionBase
from echelon.controller.datastore.prepared import Prepared
from echelon.controller.datastore.sql import ZERO, is_in
from echelon.controller.datastore.tables import jobs, stages
from echelon.shared.ids import JobId

SET_SPAWNED = Prepared(
    update(stages)
    .where(stages.c.key == _p("at_key"))
    .values(items_path=_p("items_path"), items_created=ZERO, items_offset=ZERO),
    "items_path at_key",
)
#: Stages with items that are not tasks yet.
EXPANDING = (stages.c.unfilled > ZERO, is_in(stages.c.state, State.RUNNING), stages.c.items_path.is_not(None))
EXPANSIONS = Prepared(
    select(
        jobs.c.job_id, stages.c.number, stages.c.items_path, stages.c.items_created,
        (stages.c.expected - stages.c.added).label("items"), stages.c.items_offset, stages.c.run,
    )
    .join_from(stages, jobs, jobs.c.key == stages.c.job)
    .where(*EXPANDING)
    .order_by(stages.c.key)
    .limit(_p("count")).offset(ZERO),
    "count",
)  # fmt: skip
SET_EXPANDED = Prepared(
    update(stages)
    .where(stages.c.key == _p("at_key"))
    .values(items_created=_p("items_created"), items_offset=_p("items_offset")),
    "items_created items_offset at_key",
)


@dataclass(frozen=True, slots=True)
class Expansion:
    """A stage whose items are not all tasks yet."""

    job_id: JobId
    stage: int
    path: str
    #: Items that are tasks already.
    created: int
    expected: int
    #: Byte in the file where the next item begins.
    offset: int
    run: int = 1


class FanOutWrites(TransactionBase):
    """The methods of a transaction about fan-out."""

    def set_spawned(self, job_id: JobId, stage: int, path: str) -> None:
        """Note the file with a stage's checked items; none is read yet."""
        self._session.send_rows(SET_SPAWNED, (path, self._locked_entry(job_id).key + stage))

    def find_expansions(self, *, limit: int) -> list[Expansion]:
        """Return RUNNING stages with items that are not tasks yet."""
        return [Expansion(*row) for row in self._session.fetch_rows(EXPANSIONS, (limit,))]

    def set_expanded(self, job_id: JobId, stage: int, *, created: int, offset: int) -> None:
        """Note how many items have become tasks and the byte at which the next begins."""
        self._session.send_rows(SET_EXPANDED, (created, offset, self._locked_entry(job_id).key + stage))
