"""What goes into the datastore and what comes out of it, as records. Times are seconds since the Unix epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from echelon.controller.core.model import Job, Spans, Stage
from echelon.controller.core.states import ENDED, State
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


@dataclass(slots=True)
class NewTask:
    """A task that is to exist. (Not frozen: a fan-out makes 100,000 of them.)"""

    task_id: TaskId
    index: int
    state: State
    task_class: str
    queue: str
    #: Values that stand over the job's; None: the job's alone.
    input: dict[str, JsonValue] | None = None
    #: Number of the job's seal that secrets among them are sealed with; None: there are none.
    seal_number: int | None = None
    #: Only of a task that was refused from the start.
    error: str | None = None
    #: Who holds it back from the start; None: nobody.
    paused_by: str | None = None


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
    #: What secrets of its tasks are sealed with (see `echelon.shared.sealing`); None: they have none.
    seal: str | None = None
    idempotency_key: str | None = None
    #: Hash of the request, so that a key cannot be used for something else.
    request_hash: str | None = None
    request_id: str | None = None


@dataclass(slots=True)
class Settlement:
    """How one attempt ended and what becomes of its task."""

    task: HeldTask
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
    #: Counts against the number of workers that it may take down.
    loss: bool = False
    #: A person has ended the attempt: its processes may be there until its worker tells of their end.
    killed: bool = False
    #: COMPLETED in a folder of its own: its files are to be published after the commit.
    private: bool = False


# --- in between -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class HeldTask:
    """A task as a decision about one of its attempts needs it."""

    key: int
    task_id: TaskId
    job_id: JobId
    stage: int
    index: int
    task_class: str
    state: State
    #: Number of the current or last attempt; 0 before the first.
    attempt: int
    failures: int
    losses: int
    worker: WorkerId | None
    started_at: float | None
    lease_until: float | None = None
    etag: int = 0
    #: Who has paused, cancelled or skipped it.
    by: str | None = None

    @property
    def paused(self) -> bool:
        """Tell whether a person holds it back."""
        return self.by is not None and self.state not in ENDED

    @property
    def spawn(self) -> bool:
        """Tell whether this is its stage's spawn task."""
        return self.index == SPAWN_INDEX


@dataclass(slots=True)
class Claimed:
    """A task that has just been given to a worker."""

    task_id: TaskId
    index: int
    attempt: int
    input: dict[str, JsonValue] | None
    task_class: str


@dataclass(frozen=True, slots=True)
class Counted:
    """How many of some tasks are alike."""

    state: State
    #: A person has paused, cancelled or skipped them.
    hand: bool
    #: They wait for a time.
    waits: bool
    count: int
    #: Their items did not fit: they have never run, and never will.
    misfit: bool = False


@dataclass(frozen=True, slots=True)
class JobInputs:
    """The values of a job as they are now: a retry may bring others."""

    #: As anybody may see them: without secrets.
    values: Mapping[str, JsonValue]
    #: The secret ones, sealed; none when the job has ended.
    sealed: Mapping[str, str]
    #: What secrets of single tasks are sealed with; None: the job has none, or has ended.
    seal: str | None = None
    #: Changes with every seal, and when one is erased.
    seal_number: int = 0


@dataclass(frozen=True, slots=True)
class LostSecrets:
    """A task that cannot run as it is: secrets of its own were erased when its job had ended."""

    key: int
    task_id: TaskId
    stage: int
    index: int
    task_class: str
    state: State
    #: Its own values; what stands in the place of the secret ones is of no use.
    input: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What never changes about a job, and its values as they are now."""

    job_id: JobId
    type: str
    revision: str
    inputs: JobInputs


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was submitted with an idempotency key."""

    job_id: JobId
    request_hash: str


# --- out ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StageView(Stage):
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
    #: Without secrets: those are shown as a mask by who renders this, from the names in `secret`.
    input: Mapping[str, JsonValue]
    secret: Sequence[str]
    failed_tasks: int
    error: str | None
    etag: int
    created_at: float
    started_at: float | None
    ended_at: float | None
    stages: Sequence[StageView] = ()
    #: Who has paused (while it is open), cancelled or skipped it.
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
    #: Who has paused (while it is open), cancelled or skipped it.
    by: str | None = None
    paused_at: float | None = None
    #: Until when the attempt that runs may go on; of a task that does not run, until when its last one may be there.
    lease_until: float | None = None

    @property
    def due_at(self) -> float | None:
        """Return when a task that waits goes on at the latest: nothing of its last attempt is left then."""
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
    running: int
    last_seen_at: float


@dataclass(frozen=True, slots=True)
class RunningAttempt:
    """An attempt that a worker holds."""

    task_id: TaskId
    job_id: JobId
    stage: int
    #: -1: the spawn task.
    index: int
    attempt: int
    #: When the worker was given it, seconds since the epoch.
    started_at: float | None


@dataclass(frozen=True, slots=True)
class QueueView:
    """What waits and runs in one queue."""

    queue: str
    ready: int
    running: int


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted; None: any."""

    state: State | None = None
    type: str | None = None
    #: Text that the id, the type or an input value contains.
    text: str | None = None


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks are wanted; None: any."""

    stage: int | None = None
    state: State | None = None
    #: Place in its stage; SPAWN_INDEX: the spawn task.
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Part of a list."""

    items: Sequence[Item]
    #: Where the next page begins; None: this was the last.
    next_cursor: str | None
