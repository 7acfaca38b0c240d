"""Reading what runs where: workers, queues, counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, and_, case, func, select, union_all

from echelon.controller.core.states import State
from echelon.controller.datastore.reads_tasks import TaskReads
from echelon.controller.datastore.records import QueueView, RunningAttempt, WorkerView
from echelon.controller.datastore.rows import decode_object
from echelon.controller.datastore.sql import ZERO, is_in, word
from echelon.controller.datastore.tables import jobs, stages, tasks, workers
from echelon.shared.ids import JobId, TaskId, WorkerId

_OPEN_STAGE = is_in(stages.c.state, State.PENDING, State.RUNNING)


class SqlReader(TaskReads):
    """Reads of one snapshot of an SQL database."""

    def __init__(self, connection: Connection, now: Callable[[], float]) -> None:
        super().__init__(connection)
        self._now = now

    def now(self) -> float:
        """Return the store's own time, seconds since the epoch."""
        return self._now()

    def workers(self, *, lost_after: float) -> list[WorkerView]:
        """Return the workers; without a sign of life for `lost_after` seconds one is LOST."""
        query = (
            select(
                workers.c.worker_id, workers.c.name, workers.c.host, workers.c.version, workers.c.draining,
                workers.c.slots, workers.c.running, workers.c.last_seen_at,
            )
            .where(workers.c.gone == ZERO, workers.c.name.is_not(None))
            .order_by(workers.c.name, workers.c.key)
        )  # fmt: skip
        before = self._now() - lost_after
        return [
            WorkerView(
                WorkerId(worker_id), name, host, version,
                "LOST" if seen < before else "DRAINING" if draining else "UP",
                {queue: int(str(count)) for queue, count in decode_object(slots).items()}, running, seen,
            )
            for worker_id, name, host, version, draining, slots, running, seen in self._connection.execute(query)
        ]  # fmt: skip

    def at_work(self, *, limit: int) -> dict[WorkerId, list[RunningAttempt]]:
        """Return the first `limit` attempts that each worker holds, by job, stage and index."""
        place = func.row_number().over(partition_by=tasks.c.worker, order_by=tasks.c.key)
        held = select(tasks.c.key, place.label("place")).where(is_in(tasks.c.state, State.RUNNING)).subquery()
        query = (
            select(
                workers.c.worker_id, tasks.c.task_id, jobs.c.job_id, stages.c.number, tasks.c.idx, tasks.c.attempt,
                tasks.c.started_at,
            )
            .select_from(held)
            .join(tasks, tasks.c.key == held.c.key)
            .join(workers, workers.c.key == tasks.c.worker)
            .join(stages, stages.c.key == tasks.c.stage)
            .join(jobs, jobs.c.key == stages.c.job)
            .where(held.c.place <= limit)
            .order_by(tasks.c.key)
        )  # fmt: skip
        found: dict[WorkerId, list[RunningAttempt]] = {}
        for worker, task_id, job_id, *more in self._connection.execute(query):
            found.setdefault(WorkerId(worker), []).append(RunningAttempt(TaskId(task_id), JobId(job_id), *more))
        return found

    def taken(self) -> dict[WorkerId, dict[str, int]]:
        """Return how many attempts each worker holds per queue, with those that lost their claim and may be there."""
        dying = and_(tasks.c.state != word(State.RUNNING), tasks.c.lease_until.is_not(None))
        here = union_all(
            select(tasks.c.worker, tasks.c.queue).where(is_in(tasks.c.state, State.RUNNING)),
            select(tasks.c.worker, tasks.c.queue).where(dying, tasks.c.lease_until > self._now()),
        ).subquery("here")
        query = (
            select(workers.c.worker_id, here.c.queue, func.count())
            .join_from(here, workers, workers.c.key == here.c.worker)
            .group_by(workers.c.worker_id, here.c.queue)
        )
        found: dict[WorkerId, dict[str, int]] = {}
        for worker, queue, count in self._connection.execute(query):
            found.setdefault(WorkerId(worker), {})[queue] = count
        return found

    def queues(self) -> list[QueueView]:
        """Return what waits and runs per queue."""
        waiting = case(
            (stages.c.spawn == State.QUEUED.value, 1),
            else_=stages.c.queued,
        )
        ready = (
            select(stages.c.claim_queue, func.sum(waiting))
            .where(_OPEN_STAGE, stages.c.state == State.RUNNING.value)
            .group_by(stages.c.claim_queue)
        )
        running = select(tasks.c.queue, func.count()).where(is_in(tasks.c.state, State.RUNNING)).group_by(tasks.c.queue)
        found: dict[str, list[int]] = {}
        for place, query in enumerate((ready, running)):
            for queue, count in self._connection.execute(query):
                if count:
                    found.setdefault(queue, [0, 0])[place] = int(count)
        return [QueueView(queue, *counts) for queue, counts in sorted(found.items())]

    def open_jobs(self, *, limit: int) -> int:
        """Return how many jobs have not ended, `limit` at most."""
        some = select(jobs.c.key).where(is_in(jobs.c.state, State.PENDING, State.RUNNING)).limit(limit)
        return self._connection.execute(select(func.count()).select_from(some.subquery())).scalar_one()

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Return {"jobs": {state: n}} of all jobs and {"tasks": {state: n}} of the open ones, for the metrics."""
        by_state = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        sums = select(
            func.sum(stages.c.pending + case((stages.c.spawn == State.PENDING.value, 1), else_=0)),
            func.sum(stages.c.queued + case((stages.c.spawn == State.QUEUED.value, 1), else_=0)),
            func.sum(stages.c.running + case((stages.c.spawn == State.RUNNING.value, 1), else_=0)),
        ).where(_OPEN_STAGE)
        found = self._connection.execute(sums).one()
        words = (State.PENDING.value, State.QUEUED.value, State.RUNNING.value)
        return {
            "jobs": {row[0]: row[1] for row in self._connection.execute(by_state)},
            "tasks": {word: int(count or 0) for word, count in zip(words, found, strict=True)},
        }
