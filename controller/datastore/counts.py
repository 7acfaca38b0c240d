"""Counts: of queues, of open jobs, of states."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import ColumnElement, case, func, select

from echelon.controller.core.states import OPEN, State
from echelon.controller.datastore.reading import ReaderBase
from echelon.controller.datastore.records import QueueView
from echelon.controller.datastore.sql import RUNNING, is_in
from echelon.controller.datastore.tables import jobs, stages, tasks

_OPEN_STAGE = is_in(stages.c.state, State.PENDING, State.RUNNING)
_OPEN_TASK = [state for state in State if state in OPEN]


def _count_of(state: State) -> ColumnElement[int]:
    """Return how many tasks of a stage are in a state, the spawn task included."""
    return stages.c[state.lower()] + case((stages.c.spawn == state.value, 1), else_=0)


class CountReads(ReaderBase):
    """The methods of a reader that count."""

    def count_queues(self) -> list[QueueView]:
        """Return what waits and runs per queue."""
        waiting = case((stages.c.spawn == State.QUEUED.value, 1), else_=stages.c.queued)
        ready = (
            select(stages.c.claim_queue, func.sum(waiting))
            .where(_OPEN_STAGE, stages.c.state == State.RUNNING.value)
            .group_by(stages.c.claim_queue)
        )
        running = select(tasks.c.queue, func.count()).where(RUNNING).group_by(tasks.c.queue)
        found: dict[str, list[int]] = {}
        for place, query in enumerate((ready, running)):
            for queue, count in self._connection.execute(query):
                if count:
                    found.setdefault(queue, [0, 0])[place] = int(count)
        return [QueueView(queue, *counts) for queue, counts in sorted(found.items())]

    def count_open_jobs(self, *, limit: int) -> int:
        """Return how many jobs have not ended, `limit` at most."""
        some = select(jobs.c.key).where(is_in(jobs.c.state, State.PENDING, State.RUNNING)).limit(limit)
        return self._connection.execute(select(func.count()).select_from(some.subquery())).scalar_one()

    def count_states(self) -> Mapping[str, Mapping[str, int]]:
        """Return {"jobs": {state: n}} of all jobs and {"tasks": {state: n}} of the open ones, for the metrics."""
        by_state = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        sums = select(*(func.sum(_count_of(state)) for state in _OPEN_TASK)).where(_OPEN_STAGE)
        found = self._connection.execute(sums).one()
        return {
            "jobs": {row[0]: row[1] for row in self._connection.execute(by_state)},
            "tasks": {state.value: int(count or 0) for state, count in zip(_OPEN_TASK, found, strict=True)},
        }
