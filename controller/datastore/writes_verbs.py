"""Writing what a person's verbs do to the tasks of a stage: as many as it takes, with one statement for each range."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from echelon.controller.core.model import Spans
from echelon.controller.core.states import State
from echelon.controller.datastore import statements_verbs as sql
from echelon.controller.datastore.records import SPAWN_INDEX, SPAWN_ONLY, Counted, HeldTask
from echelon.controller.datastore.rows import STATES, clean
from echelon.controller.datastore.session import Row
from echelon.controller.datastore.statements_jobs import LAST_ATTEMPT
from echelon.controller.datastore.statements_tasks import INSERT_ATTEMPT
from echelon.controller.datastore.tables import task_key
from echelon.controller.datastore.writes_base import WritesBase
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId, TaskId, WorkerId
from echelon.shared.messages import AttemptRef, Outcome


class VerbWrites(WritesBase):
    """The methods of `Transaction` about what people do to tasks. `spans` None: all but the spawn task."""

    def census(
        self, job_id: JobId, stage: int, *, spans: Spans | None = None, only: State | None = None
    ) -> list[Counted]:
        """Count tasks of a stage that are alike for whoever wants to do something to them."""
        found: Counter[tuple[str, int, int, int]] = Counter()
        now = self.now()
        for keys in self._keys(job_id, stage, spans):
            for *kind, count in self._session.rows(sql.CENSUS, (now, *keys, only)):
                found[tuple(kind)] += count
        return [
            Counted(STATES[state], bool(hand), bool(waits), count, bool(misfit))
            for (state, hand, waits, misfit), count in found.items()
        ]

    def running_among(self, job_id: JobId, stage: int, *, spans: Spans | None = None) -> list[HeldTask]:
        """Return the tasks of a stage that run."""
        rows = [row for keys in self._keys(job_id, stage, spans) for row in self._rows_running(keys)]
        return self._held_tasks(rows)

    def hold(
        self, job_id: JobId, stage: int, *, spans: Spans | None = None, only: State | None = None, by: str
    ) -> None:
        """Pause open tasks of a stage that are not paused; QUEUED ones become PENDING."""
        now = self.now()
        rows = [(clean(by), now, *keys, only) for keys in self._keys(job_id, stage, spans)]
        self._session.post(sql.HOLD, *rows)

    def let_on(
        self, job_id: JobId, stage: int, *, spans: Spans | None = None, only: State | None = None, begun: bool
    ) -> None:
        """End the pause of tasks of a stage; where the stage has begun, those that wait for no time become QUEUED."""
        now = self.now()
        values = (int(begun), now, now, now, now, int(begun))
        self._session.post(sql.LET_ON, *[(*values, *keys, only) for keys in self._keys(job_id, stage, spans)])

    def leave(
        self,
        job_id: JobId,
        stage: int,
        state: State,
        *,
        by: str,
        spans: Spans | None = None,
        only: State | None = None,
    ) -> list[tuple[WorkerId, AttemptRef]]:
        """Make tasks of a stage CANCELLED (what is open) or SKIPPED (what has not completed) by a person's hand.

        Return whom to tell about those that ran.
        """
        told = []
        for keys in self._keys(job_id, stage, spans):
            told += self._leave(job_id, keys, state, by=by, only=only, running=True)
        return told

    def withdraw(
        self, job_id: JobId, stage: int, *, running: bool, by: str | None = None
    ) -> list[tuple[WorkerId, AttemptRef]]:
        """Cancel tasks of a stage that have not started, the spawn task included; with `running` those that run too."""
        return self._leave(job_id, self._range(job_id, stage), State.CANCELLED, by=by, running=running)

    def skip(self, job_id: JobId, stage: int, *, by: str) -> list[tuple[WorkerId, AttemptRef]]:
        """Make all tasks of a stage that have not completed SKIPPED, the spawn task included."""
        return self._leave(job_id, self._range(job_id, stage), State.SKIPPED, by=by, running=True)

    def reopen(
        self,
        job_id: JobId,
        stage: int,
        *,
        target: State,
        sources: Collection[State],
        spawn: bool = False,
        spans: Spans | None = None,
    ) -> None:
        """Put ended tasks of a stage to `target` with fresh budgets; with `spawn` the spawn task too.

        Those whose items did not fit stay as they are.
        """
        ranges = self._keys(job_id, stage, spans)
        if State.COMPLETED in sources:
            job = self._entry(job_id).key
            self._session.post(sql.KEEP_ATTEMPTS, *[(job, *keys) for keys in ranges])
        rows = [(target.value, *keys, source.value) for source in sorted(sources) for keys in ranges]
        if spawn:
            ended = (State.FAILED, State.CANCELLED, State.SKIPPED)
            (spawn_keys,) = self._keys(job_id, stage, SPAWN_ONLY)
            rows += [(target.value, *spawn_keys, source.value) for source in ended]
        self._session.post(sql.REOPEN, *rows)

    def restore(self, job_id: JobId, stage: int, *, target: State) -> None:
        """Put tasks of a stage that no person has cancelled back in line."""
        self._session.post(sql.RESTORE, (target.value, *self._range(job_id, stage)))

    def put_off(self, job_id: JobId, stage: int) -> tuple[int, bool]:
        """Let QUEUED tasks wait (PENDING) of whose last attempts something may be there; the worker tells, or a lease.

        Return how many that were, and whether the spawn task was one.
        """
        found = [index for (index,) in self._session.rows(sql.PUT_OFF, self._range(job_id, stage))]
        return len(found) - (SPAWN_INDEX in found), SPAWN_INDEX in found

    def let_go(self, ended: Sequence[HeldTask]) -> None:
        """Note that nothing of these tasks' last attempts is there any more: their workers have told."""
        rows = [(task.key, task.attempt, self._worker_key(task.worker)) for task in ended if task.worker is not None]
        self._session.post(sql.LET_GO, *sorted(rows))

    def job_etag(self, job_id: JobId) -> int:
        """Return the etag of a locked job as it was when it was locked or last saved."""
        return self._entry(job_id).etag

    def stage_etag(self, job_id: JobId, stage: int) -> int:
        """Return the etag of a stage of a locked job."""
        return int(self._session.rows(sql.STAGE_ETAG, (self._entry(job_id).key + stage,))[0][0])

    # --- inside

    def _keys(self, job_id: JobId, stage: int, spans: Spans | None) -> list[tuple[int, int]]:
        """Return ranges of keys, each from its first to before its second."""
        if spans is None or (spans != SPAWN_ONLY and ablated("span_choice")):
            first, end = self._range(job_id, stage)
            return [(first + 1, end)]
        key = self._entry(job_id).key + stage
        return [(task_key(key, first), task_key(key, last + 1)) for first, last in spans]

    def _rows_running(self, keys: tuple[int, int]) -> list[Row]:
        return self._session.rows(sql.RUNNING_AMONG, keys)

    def _leave(
        self,
        job_id: JobId,
        keys: tuple[int, int],
        state: State,
        *,
        by: str | None,
        running: bool,
        only: State | None = None,
    ) -> list[tuple[WorkerId, AttemptRef]]:
        now = self.now()
        parameters = (state.value, now, clean(by), *keys, only)
        stopped = self._session.rows(sql.LEAVE_RUNNING, parameters) if running else []
        self._session.post(sql.LEAVE_UNDONE if state is State.SKIPPED else sql.LEAVE_WAITING, parameters)
        if not stopped:
            return []
        stopped.sort()
        job = self._entry(job_id).key
        ended: list[Row] = [
            (job, key, attempt, 1, Outcome.STOPPED.value, worker, None, None, None, started_at, now)
            for key, _, attempt, worker, started_at in stopped
        ]
        self._session.post(INSERT_ATTEMPT, *self._numbered(LAST_ATTEMPT, ended))
        if ablated("cancel_lease"):
            self._session.post(sql.LET_GO, *[(key, attempt, worker) for key, _, attempt, worker, _ in stopped])
        names = self._names_of_workers({row[3] for row in stopped})
        return [(names[worker], AttemptRef(TaskId(task_id), attempt)) for _, task_id, attempt, worker, _ in stopped]
