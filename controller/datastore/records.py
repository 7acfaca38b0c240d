"""Records that go into the datastore and come out of it. Times are seconds since the Unix epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from echelon.controller.core.events import Spans
from echelon.controller.core.model import Job, Stage
from echelon.controller.core.states import ENDED, State, show_state
from echelon.shared.ids import JobId, TaskId, WorkerId
from echelon.shared.messages import JsonValue, Outcome

#: The index under which a stage's spawn task is kept.
SPAWN_INDEX = -1
#: That task alone.
SPAWN_ONLY: Spans = ((SPAWN_INDEX, SPAWN_INDEX),)
#: How many workers a task may have lost: any number.
ANY_LOSSES = range(2**31)

Item = TypeVar("Item")


# --- in -------------------------------------------------------------------------------------------------------------


class NewTask(msgspec.Struct):
    """A task that is to exist. (Not frozen: a fan-out makes 100,000 of them.)"""

    task_id: TaskId
    index: int
    state: State
    task_class: str
    queue: str
    #: Values that override the job's; None: only the job's.
    input: dict[str, JsonValue] | None = None
    #: Number of the job's seal that secrets among them are sealed with; None: there are none.
    seal_number: int | None = None
    #: Only of a task that was refused from the start.
    error: str | None = None
    #: The person who has paused it from the start, if any.
    paused_by: str | None = None
    #: 0 if a person has added it: it is part of every run of its stage.
    run: int | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is to exist."""

    job: Job
    type: str
    revision: str
    #: Input values as anybody may see them: without secrets.
    input: Mapping[str, JsonValue]
    #: Secret values, sealed.
    sealed: Mapping[str, str]
    #: (task class, spawn task class or None) per stage.
    classes: Sequence[tuple[str, str | None]]
    #: Tasks per stage that are known now.
    tasks: Sequence[Sequence[NewTask]]
    #: The catalogue that a composed job brings along; None: `revision` is kept for all.
    composition: str | None = None
    #: The key of its tasks' secrets (see `echelon.shared.sealing`); None if they have none.
    seal: str | None = None
    idempotency_key: str | None = None
    #: Hash of the request, so that a key cannot be used for something else.
    request_hash: str | None = None
    request_id: str | None = None


class Settlement(msgspec.Struct):
    """How one attempt ended and what becomes of its task."""

    task: TaskRow
    #: COMPLETED, FAILED, CANCELLED; PENDING with `not_before` for a retry; QUEUED to run again at once.
    state: State
    outcome: Outcome
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    result: str | None = None
    #: Only with PENDING: the store's time before which it is not tried again.
    not_before: float | None = None
    #: Counts against the retry limit.
    failure: bool = False
    #: Counts against the number of workers that the task may lose.
    loss: bool = False
    #: A person has ended the attempt: its processes may exist until its worker reports their end.
    killed: bool = False
    #: Whether it had started, and when: else only the claim ends, and it is no attempt.
    counted: bool = True
    started_at: float | None = None
    #: COMPLETED in a folder of its own: its files are to be published after the commit.
    private: bool = False


# --- in between -----------------------------------------------------------------------------------------------------


class TaskRow(msgspec.Struct):
    """A task's row, as decisions about its attempts need it."""

    key: int
    task_id: TaskId
    job_id: JobId
    stage: int
    index: int
    task_class: str
    state: State
    #: Number of the current or last claim; 0 before the first.
    attempt: int
    failures: int
    losses: int
    worker: WorkerId | None
    started_at: float | None
    lease_until: float | None = None
    etag: int = 0
    #: The person who has paused, cancelled or skipped it.
    by: str | None = None
    unstarted: int = 0

    @property
    def number(self) -> int:
        """Return the number for people of the attempt that the last claim is: claims without a start do not count."""
        return self.attempt - self.unstarted

    @property
    def shown(self) -> State:
        """Return its state as people see it."""
        return show_state(self.state, started=self.started)

    @property
    def started(self) -> bool:
        """Tell whether it runs and its worker has told of the start."""
        return self.state is State.RUNNING and self.started_at is not None

    @property
    def paused(self) -> bool:
        """Tell whether a person has paused it."""
        return self.by is not None and self.state not in ENDED

    @property
    def spawn(self) -> bool:
        """Tell whether this is its stage's spawn task."""
        return self.index == SPAWN_INDEX


class Claimed(msgspec.Struct):
    """A task that has just been given to a worker: `attempt` counts claims, `number` attempts as people see them."""

    task_id: TaskId
    index: int
    attempt: int
    number: int
    input: dict[str, JsonValue] | None
    task_class: str


@dataclass(frozen=True, slots=True)
class TaskCount:
    """The number of tasks that are alike. What is RUNNING in the store and has not `started` is QUEUED for people."""

    state: State
    #: A person has paused, cancelled or skipped them.
    hand: bool
    #: They wait for a time.
    waits: bool
    count: int
    #: Their items did not fit: they have not run and never will.
    misfit: bool = False
    started: bool = False


class JobInputs(msgspec.Struct, frozen=True):
    """The present values of a job: a retry may bring others."""

    #: As anybody may see them: without secrets.
    values: Mapping[str, JsonValue]
    #: The secret ones, sealed; none when the job has ended.
    sealed: Mapping[str, str]
    #: The key of single tasks' secrets; None if there are none or the job has ended.
    seal: str | None = None
    #: Changes with every seal, and when one is erased.
    seal_number: int = 0


@dataclass(frozen=True, slots=True)
class LostSecret:
    """A task that cannot run as it is: its own secrets were erased when its job ended."""

    stage: int
    index: int
    task_class: str
    #: Its own values; those of secrets are unusable.
    input: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job's constant facts and its present values."""

    job_id: JobId
    type: str
    revision: str
    inputs: JobInputs


@dataclass(frozen=True, slots=True)
class Remembered:
    """The job that was submitted with an idempotency key."""

    job_id: JobId
    request_hash: str


# --- out ------------------------------------------------------------------------------------------------------------


class StageView(Stage, frozen=True):
    """A stage as users see it: with what only its row knows."""

    task_class: str = ""
    spawn_task: str | None = None
    etag: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    paused_at: float | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as users see it."""

    job_id: JobId
    type: str
    revision: str
    state: State
    #: Without secrets: the renderer masks them by the names in `secret`.
    input: Mapping[str, JsonValue]
    secret: Sequence[str]
    failed_tasks: int
    error: str | None
    etag: int
    created_at: float
    started_at: float | None
    ended_at: float | None
    #: When it last changed.
    updated_at: float
    stages: Sequence[StageView] = ()
    #: The person who has paused (while it is open), cancelled or skipped it.
    by: str | None = None
    paused_at: float | None = None


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as users see it."""

    task_id: TaskId
    job_id: JobId
    stage: int
    #: -1 for a spawn task.
    index: int
    task_class: str
    queue: str
    state: State
    attempt: int
    #: The values that its item gave; the job's others are the job's.
    input: Mapping[str, JsonValue]
    #: Name of the worker that runs it or ran it last.
    worker: str | None
    exit_code: int | None
    signal: int | None
    error: str | None
    result: str | None
    etag: int
    not_before: float | None
    started_at: float | None
    ended_at: float | None
    #: The person who has paused (while it is open), cancelled or skipped it.
    by: str | None = None
    paused_at: float | None = None
    #: The run of its stage that it belongs to.
    run: int = 1
    #: End of the running attempt's lease; if the task does not run, until then its last attempt may still exist.
    lease_until: float | None = None
    #: Number of its current or last claim, which names files; and the worker where it waits for a slot.
    claim: int = 0
    given_to: str | None = None

    @property
    def due_at(self) -> float | None:
        """Return the latest time at which a waiting task goes on: its last attempt is gone by then."""
        times = [time for time in (self.not_before, self.lease_until) if time is not None]
        return max(times, default=None)


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One execution of a task that has ended."""

    task_id: TaskId
    stage: int
    index: int
    attempt: int
    outcome: Outcome
    worker: str | None
    exit_code: int | None
    signal: int | None
    error: str | None
    started_at: float | None
    ended_at: float
    claim: int = 0


@dataclass(frozen=True, slots=True)
class EventView:
    """A line of a job's history."""

    number: int
    at: float
    kind: str
    stage: int | None
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as users see it."""

    worker_id: WorkerId
    name: str
    host: str
    version: str
    #: UP, DRAINING or LOST.
    state: str
    slots: Mapping[str, int]
    #: How it finds the processes that a task leaves: cgroup or subreaper; None: a worker of an earlier release.
    containment: str | None
    running: int
    last_seen_at: float


@dataclass(frozen=True, slots=True)
class RunningAttempt:
    """An attempt that runs on a worker."""

    task_id: TaskId
    job_id: JobId
    stage: int
    #: -1: the spawn task.
    index: int
    attempt: int
    started_at: float | None


@dataclass(frozen=True, slots=True)
class QueueView:
    """The number of tasks that wait and run in one queue."""

    queue: str
    ready: int
    running: int


@dataclass(frozen=True, slots=True)
class RecordPage(Generic[Item]):
    """Part of a list."""

    items: Sequence[Item]
    #: Where the next page begins; None: this is the last page.
    next_cursor: str | None
