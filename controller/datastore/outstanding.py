"""Records of work in progress: what controllers know of workers' rooms, and what is to be done that nobody reports."""

from __future__ import annotations

from dataclasses import dataclass, field

from echelon.shared.ids import JobId, WorkerId


@dataclass(slots=True)
class Demand:
    """What one worker has room for."""

    worker: WorkerId
    #: Number of the report that told it.
    number: int = 0
    told_at: float = 0.0
    #: Tasks per queue.
    room: dict[str, int] = field(default_factory=dict)
    #: Number of the last order with grants, across all controllers.
    order: int = 0
    #: Grants that were on their way when the room was told: (order, queue of the room, tasks, time).
    unseen: list[tuple[int, str, int, float]] = field(default_factory=list)
    #: (job, number of the stage) whose suspects are the only tasks that the worker is given, one at a time.
    alone: tuple[JobId, int] | None = None


@dataclass(frozen=True, slots=True)
class Chores:
    """What there is to do that nobody reports."""

    #: Leases have run out.
    expired: bool
    #: Retries are due.
    due: bool
    #: Stages lack tasks for some of their items.
    expanding: bool
    #: Tasks wait for a worker.
    ready: bool
    #: Files of attempts that count are not published yet.
    unpublished: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """What runs on one worker."""

    attempts: int
    #: How many workers the most suspicious of these tasks has lost so far.
    losses: int


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


@dataclass(frozen=True, slots=True)
class Unpublished:
    """An attempt that counts and whose files may not be in the workspace yet."""

    #: Of the task; lists are in its order.
    key: int
    job_id: JobId
    stage: int
    index: int
    attempt: int
    #: Earlier attempts that counted before the task was repeated: their files come first, or never.
    before: tuple[int, ...] = ()
