"""What Echelon asks of a datastore: short write transactions with guarded statements, and pages to read.

An adapter passes the suite in tests/contract/test_datastore.py. Rules that hold for every method of `Transaction`:

* Whoever changes a task's state or a stage's counters holds the lock of its job (`lock_jobs`) in the same transaction.
* A task row changes only by a statement that names the states it may leave, and the attempt where there is one.
* Lists that are handed in are bounded by the caller; only what people do to stages, `release` and `delete_job` touch
  grows with a stage.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from echelon.controller.core.model import Job, Spans
from echelon.controller.core.states import State
from echelon.controller.datastore.outstanding import Chores, Demand, Expansion, Load, Unpublished
from echelon.controller.datastore.reader import Reader
from echelon.controller.datastore.records import (
    ANY_LOSSES,
    Claimed,
    Counted,
    HeldTask,
    JobInputs,
    JobView,
    LostSecrets,
    NewJob,
    NewTask,
    Remembered,
    Settlement,
)
from echelon.shared.ids import JobId, TaskId, WorkerId
from echelon.shared.messages import AttemptRef, JsonValue, WorkerCard


class Transaction(Protocol):
    """One write transaction. What it returns is true until it ends."""

    def now(self) -> float:
        """Return the store's own time, seconds since the epoch; the only clock that judges leases."""

    # --- jobs

    def insert_job(self, new: NewJob) -> None:
        """Insert a job with its stages, the tasks that are known, its sealed secrets and its idempotency key."""

    def submitted_with(self, key: str) -> Remembered | None:
        """Return what was submitted with an idempotency key."""

    def lock_jobs(self, job_ids: Collection[JobId], *, skip_locked: bool = False) -> dict[JobId, Job]:
        """Lock jobs, always in the same order, and return them; those that do not exist are left out.

        `skip_locked` leaves out also those that another transaction holds, instead of waiting for it.
        """

    def save_job(self, before: Job, after: Job) -> None:
        """Write what differs: the job and the stages that changed, with new etags and the times of state changes.

        A job that has ended loses its sealed secrets and its seal here.
        """

    def delete_job(self, job_id: JobId) -> None:
        """Remove a job and all that belongs to it."""

    def replace_input(
        self, job_id: JobId, values: Mapping[str, JsonValue], sealed: Mapping[str, str], seal: str | None = None
    ) -> None:
        """Give a job that is opened again its secrets (and the masked form of its input) anew, and a new seal."""

    def lost_secrets(self, job_id: JobId, *, limit: int, among: Collection[TaskId] | None = None) -> list[LostSecrets]:
        """Return tasks of a locked job whose own secrets were erased with an earlier seal of it.

        `among`: only of these, however they stand; else only those that are to run.
        """

    def give_secrets(self, job_id: JobId, given: Sequence[tuple[int, Mapping[str, JsonValue]]]) -> None:
        """Give tasks (by their keys) of a locked job their values anew, secrets sealed with its present seal."""

    def inputs(self, job_id: JobId) -> JobInputs:
        """Return the values of a locked job."""

    def remember(
        self, job_id: JobId, kind: str, *, stage: int | None = None, detail: Mapping[str, object] | None = None
    ) -> None:
        """Append a line to a job's history."""

    # --- definitions

    def save_definition(self, revision: str, document: str) -> None:
        """Keep a revision of the catalogue; a revision that is there already stays as it is."""

    # --- tasks

    def insert_tasks(self, job_id: JobId, stage: int, tasks: Sequence[NewTask]) -> None:
        """Insert tasks of one stage; an index that exists already is an error (a bug of the caller)."""

    def held(self, task_ids: Collection[TaskId]) -> list[HeldTask]:
        """Return the present state of these tasks, those that do not exist left out. Call after `lock_jobs`."""

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Write how attempts ended: the task rows (guarded: RUNNING and the attempt) and one attempt row each.

        It is also noted whose files are to be published.
        """

    def claim(
        self,
        job_id: JobId,
        stage: int,
        *,
        spawn: bool,
        count: int,
        worker: WorkerId,
        lease: float,
        losses: range = ANY_LOSSES,
    ) -> list[Claimed]:
        """Give up to `count` QUEUED tasks of a stage, lowest index first, to a worker (QUEUED -> RUNNING).

        Each gets the next attempt number and a lease of `lease` seconds. With `spawn` the spawn task is meant. Only
        tasks that have lost so many workers are given.
        """

    def loads(self, workers: Collection[WorkerId]) -> dict[WorkerId, Load]:
        """Return what runs on each of these workers, those without anything left out.

        What was taken from a worker that has not told of its end runs as well, until its lease is over.
        """

    def exists(self, job_id: JobId) -> bool:
        """Tell whether there is a job, whoever holds its lock."""

    def claimable(
        self, queues: Collection[str] | None, *, limit: int, unsaved: Collection[Job] = ()
    ) -> list[tuple[JobId, int]]:
        """Return (job, stage) pairs that have tasks to claim in one of the queues (None: any), oldest first.

        `unsaved` are locked jobs as they stand now: what their rows say still is left aside.
        """

    def release(self, job_id: JobId, stage: int, *, spawn: bool) -> None:
        """Make a stage's tasks (or its spawn task) claimable: PENDING -> QUEUED. What has run before: see `put_off`."""

    def release_due(self, tasks: Collection[TaskId], *, expire: bool = True) -> list[HeldTask]:
        """Make tasks whose wait is over claimable: PENDING with `not_before` <= now -> QUEUED; return those changed.

        Without `expire` no task that waits for the lease of its last attempt.
        """

    # --- what people do to them: `spans` are ranges of indexes, None: all but the spawn task; `only`: in this state

    def census(
        self, job_id: JobId, stage: int, *, spans: Spans | None = None, only: State | None = None
    ) -> list[Counted]:
        """Count tasks of a stage that are alike for whoever wants to do something to them."""

    def running_among(self, job_id: JobId, stage: int, *, spans: Spans | None = None) -> list[HeldTask]:
        """Return the tasks of a stage that run."""

    def hold(
        self, job_id: JobId, stage: int, *, spans: Spans | None = None, only: State | None = None, by: str
    ) -> None:
        """Pause open tasks of a stage that are not paused; QUEUED ones become PENDING."""

    def let_on(
        self, job_id: JobId, stage: int, *, spans: Spans | None = None, only: State | None = None, begun: bool
    ) -> None:
        """End the pause of tasks of a stage; where the stage has begun, those that wait for no time become QUEUED."""

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

    def withdraw(
        self, job_id: JobId, stage: int, *, running: bool, by: str | None = None
    ) -> list[tuple[WorkerId, AttemptRef]]:
        """Cancel tasks of a stage that have not started, the spawn task included; with `running` those that run too.

        `by` is the person who wants it, None: nobody. Return whom to tell about those that ran.
        """

    def skip(self, job_id: JobId, stage: int, *, by: str) -> list[tuple[WorkerId, AttemptRef]]:
        """Make all tasks of a stage that have not completed SKIPPED, the spawn task included; return whom to tell."""

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

        Those that were refused when their item was read stay as they are: there is nothing that they could run with.
        """

    def restore(self, job_id: JobId, stage: int, *, target: State) -> None:
        """Put tasks of a stage that no person has cancelled back in line."""

    def put_off(self, job_id: JobId, stage: int) -> tuple[int, bool]:
        """Let QUEUED tasks wait (PENDING) of whose last attempts something may be there; the worker tells, or a lease.

        What may be claimed has no lease. Return how many that were, and whether the spawn task was one.
        """

    def let_go(self, ended: Sequence[HeldTask]) -> None:
        """Note that nothing of these tasks' last attempts is there any more: their workers have told."""

    def job_etag(self, job_id: JobId) -> int:
        """Return the etag of a locked job as it was when it was locked or last saved."""

    def stage_etag(self, job_id: JobId, stage: int) -> int:
        """Return the etag of a stage of a locked job."""

    def renew(self, worker: WorkerId, refs: Collection[AttemptRef], *, lease: float) -> set[AttemptRef]:
        """Extend the leases of attempts that run on this worker; return those that were extended.

        It waits for nobody: what another transaction is at work on is left out as if it did not run here.
        """

    def chores(self) -> Chores:
        """Tell what there is to do that nobody reports, in one cheap look."""

    def expired(self, *, limit: int) -> list[tuple[JobId, TaskId]]:
        """Return RUNNING tasks whose lease has run out."""

    def due(self, *, limit: int, expire: bool = True) -> list[tuple[JobId, TaskId]]:
        """Return PENDING tasks whose `not_before` has come; without `expire` none that waits for a lease to end."""

    def shorten_leases(self, *, longest: float) -> None:
        """Let no lease end later than one of `longest` seconds that begins now: the clock has been set back.

        A wait for a retry is begun anew when it began at a moment that is still to come.
        """

    def running_on(self, workers: Collection[WorkerId], *, limit: int) -> list[tuple[JobId, TaskId]]:
        """Return the tasks that run on these workers."""

    # --- fan-out

    def set_spawned(self, job_id: JobId, stage: int, path: str) -> None:
        """Remember where the checked items of a stage lie, and that none is read yet."""

    def expansions(self, *, limit: int) -> list[Expansion]:
        """Return RUNNING stages that still lack task rows for some of their items."""

    def set_expanded(self, job_id: JobId, stage: int, *, created: int, offset: int) -> None:
        """Remember how many items became tasks and the byte where the next one begins."""

    # --- files

    def lacks_files(self, job_id: JobId, stage: int) -> bool:
        """Tell whether files that a stage's tasks may want are still to be published: of the stages in front of it, or
        of its own spawn task. Once False, this stays so until a stage in front of it is opened again.
        """

    def published(self, attempts: Sequence[Unpublished]) -> list[Unpublished]:
        """Note that the files of attempts are where they belong; return those of which nobody had noted it before.

        An attempt in whose place another one counts by now is left out: with that one its files come again.
        """

    # --- workers

    def greet(self, worker: WorkerId, card: WorkerCard, *, running: int, as_of: float = 0.0) -> None:
        """Note a worker's sign of life, and the greatest moment after which such a one was sent for sure."""

    def demands(self, *, told_after: float, also: Collection[WorkerId]) -> list[Demand]:
        """Lock (in order, behind jobs) and return demands told after a moment and those of `also`; none of the gone."""

    def free_demands(self, *, told_after: float) -> list[Demand]:
        """Lock and return those of the demands told after a moment that nobody else has locked."""

    def save_demands(self, demands: Sequence[Demand]) -> None:
        """Write demands that were returned in this transaction."""

    def heard(self, workers: Collection[WorkerId], *, within: float) -> dict[WorkerId, float]:
        """Return which of these workers have given a sign of life in so many seconds, and are not gone.

        With each comes the moment after which it has given one for sure, however late that was read; 0.0: not known.
        """

    def farewell(self, workers: Collection[WorkerId]) -> None:
        """Forget workers that said goodbye or are known to be dead."""

    def prune_workers(self, *, older_than: float) -> None:
        """Forget workers without a sign of life for so many seconds."""


class Datastore(Protocol):
    """A database. Safe for any thread."""

    def write(self) -> AbstractContextManager[Transaction]:
        """Begin a write transaction; leaving the block commits durably, an exception rolls back.

        Raises StoreUnavailable when the database is away, or when it cannot be told whether the commit took effect.
        """

    def read(self) -> AbstractContextManager[Reader]:
        """Begin a consistent look."""

    def job(self, job_id: JobId) -> JobView | None:
        """Return a job with all its stages: a look of one statement, for what clients ask again and again."""

    def check(self) -> None:
        """Raise StoreUnavailable when the database does not answer or its schema is not ours."""

    def close(self) -> None:
        """Let go of every connection."""
