"""Starts: workers tell which of the tasks that they hold have started. Few tasks live long enough to be told of."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import bindparam as _p
from sqlalchemy import func, select, update

from echelon.controller.core.states import ENDED
from echelon.controller.datastore.encoding import decode_object
from echelon.controller.datastore.prepared import Among, Prepared
from echelon.controller.datastore.records import TaskRow
from echelon.controller.datastore.sql import ONE, RUNNING, STARTED
from echelon.controller.datastore.tables import tasks, workers
from echelon.controller.datastore.tasks import INSERT_ATTEMPT, LAST_ATTEMPT
from echelon.controller.datastore.verbs import VerbWrites
from echelon.shared.ids import WorkerId
from echelon.shared.messages import Outcome

MARK_STARTED = Prepared(
    update(tasks)
    .where(
        tasks.c.key == _p("at_key"),
        RUNNING,
        tasks.c.attempt == _p("at_attempt"),
        tasks.c.worker == _p("at_worker"),
        tasks.c.started_at.is_(None),
    )
    .values(started_at=_p("started_at"), etag=tasks.c.etag + ONE),
    "started_at at_key at_attempt at_worker",
)
#: It has lost its claim before its start was told: it was an attempt after all.
COUNT_LATE = Prepared(
    update(tasks)
    .where(tasks.c.key == _p("at_key"), tasks.c.attempt == _p("at_attempt"), tasks.c.started_at.is_(None))
    .values(unstarted=tasks.c.unstarted - ONE, started_at=_p("started_at"), etag=tasks.c.etag + ONE),
    "started_at at_key at_attempt",
)
_started = select(func.count()).where(STARTED, tasks.c.worker == workers.c.key).scalar_subquery()
START_ROOM = Prepared(
    select(workers.c.worker_id, workers.c.slots, _started).where(
        Among(workers.c.worker_id, _p("worker_ids")), workers.c.slots.is_not(None)
    ),
    "worker_ids",
)


class StartWrites(VerbWrites):
    """The methods of a transaction about starts."""

    def count_start_room(self, workers: Collection[WorkerId]) -> dict[WorkerId, int]:
        """Return how many more tasks can run on each of these workers by its slots; without one: unknown."""
        rows = self._session.fetch_rows(START_ROOM, (self._session.list_parameter(list(workers)),))
        return {
            WorkerId(worker): sum(int(str(count)) for count in decode_object(slots).values()) - started
            for worker, slots, started in rows
        }

    def mark_started(self, started: Sequence[tuple[TaskRow, float]]) -> None:
        """Save when tasks started that their workers hold."""
        rows = [(at, task.key, task.attempt, self._worker_key(task.worker)) for task, at in started if task.worker]
        complaint = "a task was marked as started without the lock of its job (a bug of Echelon)"
        self._session.send_guarded(MARK_STARTED, sorted(rows, key=lambda row: row[1]), complaint)

    def count_late_starts(self, started: Sequence[tuple[TaskRow, float]]) -> None:
        """Save the attempts of tasks that had lost their claim before their start was told."""
        if not started:
            return
        now = self.now()
        rows = [(at, task.key, task.attempt) for task, at in started]
        self._session.send_rows(COUNT_LATE, *sorted(rows, key=lambda row: row[1]))
        ended = [
            (
                self._locked_entry(task.job_id).key, task.key, task.attempt, task.unstarted - 1, 1,
                (Outcome.STOPPED if task.state in ENDED else Outcome.LOST).value,
                self._worker_key(task.worker) if task.worker else None, None, None, None, at, now,
            )
            for task, at in started
        ]  # fmt: skip
        self._session.send_rows(INSERT_ATTEMPT, *self._number_lines(LAST_ATTEMPT, ended))
