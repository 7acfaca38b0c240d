"""The records that the core reasons about: a job, its stages, and counts of tasks instead of tasks.

Nothing here grows with the number of tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from controller.core.states import DONE, State
from shared.ids import JobId


class Source(StrEnum):
    """Where the tasks of a stage come from."""

    #: Known when the job is submitted.
    FIXED = "fixed"
    #: A spawn task's spawn.json.
    SPAWN = "spawn"


class OnError(StrEnum):
    """What a task that is out of attempts does to its job."""

    FAIL_JOB = "fail_job"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Tally:
    """How many tasks of a stage are in each state; the spawn task is not counted."""

    pending: int = 0
    queued: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0

    @property
    def open(self) -> int:
        """Return how many have not ended."""
        return self.pending + self.queued + self.running

    @property
    def total(self) -> int:
        """Return how many there are."""
        return self.open + self.completed + self.failed + self.cancelled + self.skipped

    def moved(self, source: State, target: State, count: int) -> Self:
        """Return the tally after `count` tasks went from one state to another; a count never goes below 0."""
        left = getattr(self, source.lower()) - count
        if left < 0:
            raise ValueError(f"{count} tasks cannot leave {source}: the tally is {self}")
        moved = replace(self, **{source.lower(): left})
        return replace(moved, **{target.lower(): getattr(moved, target.lower()) + count})

    def added(self, state: State, count: int) -> Self:
        """Return the tally with `count` more tasks in a state."""
        return replace(self, **{state.lower(): getattr(self, state.lower()) + count})


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of a job."""

    #: Place in the job, from 0.
    number: int
    #: Stages of equal order run at the same time; the next order waits for all of them.
    order: int
    name: str
    source: Source
    on_error: OnError
    #: Queue of its tasks.
    queue: str = "default"
    #: Queue of its spawn task.
    spawn_queue: str | None = None
    #: At most so many of its tasks run at once.
    max_parallel: int | None = None
    #: Stop running siblings too when a task has failed the job.
    fail_fast: bool = False
    state: State = State.PENDING
    tally: Tally = Tally()
    #: State of the spawn task; None when the stage has none.
    spawn: State | None = None
    #: How many tasks the stage will have; None until its spawn task has told.
    expected: int | None = None
    #: A sentence for people: why the stage failed.
    error: str | None = None

    @property
    def filled(self) -> bool:
        """Tell whether every task that the stage will have exists as a row."""
        return self.expected is not None and self.tally.total == self.expected

    @property
    def failures(self) -> int:
        """Return how many of its tasks failed for good, the spawn task included."""
        return self.tally.failed + (self.spawn is State.FAILED)

    @property
    def spawning(self) -> bool:
        """Tell whether its spawn task has not ended yet."""
        return self.spawn in (State.PENDING, State.QUEUED, State.RUNNING)

    @property
    def claimable(self) -> int:
        """Return how many of its tasks a worker may claim now, the spawn task included."""
        if self.state is not State.RUNNING:
            return 0
        if self.spawning:
            return int(self.spawn is State.QUEUED)
        if self.max_parallel is None:
            return self.tally.queued
        return max(0, min(self.tally.queued, self.max_parallel - self.tally.running))

    @property
    def claim_queue(self) -> str:
        """Return the queue that its claimable tasks wait in."""
        return self.spawn_queue if self.spawning and self.spawn_queue else self.queue


@dataclass(frozen=True, slots=True)
class Job:
    """One submitted run, as far as decisions need it."""

    job_id: JobId
    state: State
    stages: tuple[Stage, ...]
    error: str | None = None

    @property
    def failed_tasks(self) -> int:
        """Return how many tasks failed for good."""
        return sum(stage.failures for stage in self.stages)

    def stage(self, number: int) -> Stage:
        """Return a stage by its number."""
        return self.stages[number]

    def with_stage(self, stage: Stage) -> Self:
        """Return the job with one stage put in the place of its former self."""
        stages = self.stages[: stage.number] + (stage,) + self.stages[stage.number + 1 :]
        return replace(self, stages=stages)

    def orders_left(self) -> list[int]:
        """Return the orders that are not done, lowest first."""
        return sorted({stage.order for stage in self.stages if stage.state not in DONE})


# --- events: what happened (past tense) -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job was accepted."""


@dataclass(frozen=True, slots=True)
class TasksMoved:
    """Tasks of one stage changed their state: a whole batch folded into counts."""

    stage: int
    #: (from, to) -> how many.
    moves: Mapping[tuple[State, State], int]
    #: One of the errors, for people; None when nothing failed.
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SpawnTaskMoved:
    """The spawn task of one stage changed its state."""

    stage: int
    state: State
    #: With COMPLETED: the number of items in its spawn.json.
    expected: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TasksCreated:
    """Items of a spawn.json became tasks; those that do not fit are FAILED from the start."""

    stage: int
    queued: int
    failed: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A person ends the job for good."""


@dataclass(frozen=True, slots=True)
class RetryRequested:
    """A person opens an ended job again."""


Event = Submitted | TasksMoved | SpawnTaskMoved | TasksCreated | CancelRequested | RetryRequested


# --- effects: what is to be done in the same transaction (imperative) -----------------------------------------------


@dataclass(frozen=True, slots=True)
class ReleaseTasks:
    """Make a stage's tasks claimable: PENDING -> QUEUED."""

    stage: int


@dataclass(frozen=True, slots=True)
class ReleaseSpawnTask:
    """Make a stage's spawn task claimable: PENDING -> QUEUED."""

    stage: int


@dataclass(frozen=True, slots=True)
class WithdrawTasks:
    """End tasks of a stage that have not started (PENDING, QUEUED -> CANCELLED), the spawn task included."""

    stage: int
    #: Those that run as well (RUNNING -> CANCELLED); their workers are told.
    running: bool
    #: Why, in the words of the history: cancelled, fail_fast, job_failed.
    reason: str


@dataclass(frozen=True, slots=True)
class ReopenTasks:
    """Make what has failed or was cancelled run again (FAILED, CANCELLED -> target), with fresh budgets."""

    stage: int
    target: State


@dataclass(frozen=True, slots=True)
class Remember:
    """Write a line of the job's history."""

    kind: str
    stage: int | None = None
    detail: Mapping[str, object] | None = None


Effect = ReleaseTasks | ReleaseSpawnTask | WithdrawTasks | ReopenTasks | Remember
