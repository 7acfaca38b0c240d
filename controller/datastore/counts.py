"""Counts: of queues, of open jobs, of states."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import ColumnElement, and_, case, func, select

from echelon.controller.core.states import OPEN, State
from echelon.controller.datastore.reading import ReaderBase
from echelon.controller.datastore.records import QueueView
from echelon.controller.datastore.sql import RUNNING, ZERO, is_in
from echelon.controller.datastore.tables import jobs, stages, tasks

_OPEN_STAGE = is_in(stages.c.state, State.PENDING, State.RUNNING)
_OPEN_TASK = [state for state in State if state in OPEN]


#: How many tasks of a stage wait for a slot at their workers: people see them as QUEUED.
_GIVEN = (
    stages.c.running
    - stages.c.started
    + case((and_(stages.c.spawn == State.RUNNING.value, stages.c.spawn_started == 0), 1), else_=0)
)


def _count_of(state: State) -> ColumnElement[int]:
    """Return how many tasks of a stage are in a state as people see it, the spawn task included."""
    count = stages.c[state.lower()] + case((stages.c.spawn == state.value, 1), else_=0)
    return count + _GIVEN if state is State.QUEUED else count - _GIVEN if state is State.RUNNING else count


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
        held = (
            select(tasks.c.queue, func.count(), func.count(tasks.c.started_at)).where(RUNNING).group_by(tasks.c.queue)
        )
        waits = {queue: int(count) for queue, count in self._connection.execute(ready) if count}
        runs: dict[str, int] = {}
        for queue, count, started in self._connection.execute(held):
            runs[queue] = started
            waits[queue] = waits.get(queue, 0) + count - started
        return [QueueView(queue, waits.get(queue, 0), runs.get(queue, 0)) for queue in sorted({*waits, *runs})]

    def find_oldest_stages(self) -> dict[str, float]:
        """Return, for each queue with waiting tasks, for how many seconds its oldest such stage has run."""
        query = (
            select(stages.c.claim_queue, func.min(stages.c.started_at))
            .where(stages.c.ready > ZERO, stages.c.started_at.is_not(None))
            .group_by(stages.c.claim_queue)
        )
        now = self.now()
        return {queue: max(0.0, now - started) for queue, started in self._connection.execute(query)}

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
