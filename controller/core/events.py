"""The events of a job: what happened to its tasks, and what people ask for (past tense). `machine.step` takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from echelon.controller.core.states import State


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
    #: How many more (or, below 0, less) of the PENDING ones are paused.
    held: int = 0
    #: How many more (or, below 0, less) of the RUNNING ones have started.
    started: int = 0


@dataclass(frozen=True, slots=True)
class SpawnTaskMoved:
    """The spawn task of one stage changed its state."""

    stage: int
    state: State
    #: With COMPLETED: the number of items in its spawn.json.
    expected: int | None = None
    error: str | None = None
    #: With RUNNING: it has started; else a worker only holds it.
    started: bool = False


@dataclass(frozen=True, slots=True)
class TasksCreated:
    """Items of a spawn.json became tasks; those that do not fit are FAILED from the start."""

    stage: int
    queued: int
    failed: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class FilesMissing:
    """Files of tasks that have COMPLETED could not be moved into the workspace; the job may have ended since."""

    error: str


@dataclass(frozen=True, slots=True)
class SpawnTaskHeld:
    """A person has paused the spawn task of a stage, or lets it go on."""

    stage: int
    held: bool
    #: Where it stands now.
    state: State


@dataclass(frozen=True, slots=True)
class TasksAdded:
    """Tasks were added by hand: PENDING where they are paused or the stage has not begun, else QUEUED."""

    stage: int
    count: int
    #: How many of them are paused.
    held: int = 0


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """A person holds a job back, or one stage of it."""

    by: str
    stage: int | None = None


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """A person lets a job go on, or one stage of it."""

    stage: int | None = None


@dataclass(frozen=True, slots=True)
class PrioritySet:
    """A person changes the priority of the waiting tasks of a job, or of one stage of it."""

    priority: int
    stage: int | None = None


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A person ends a job for good, or one stage of it."""

    by: str = ""
    stage: int | None = None


@dataclass(frozen=True, slots=True)
class SkipRequested:
    """A person lets a job, or one stage of it, count as done."""

    by: str = ""
    stage: int | None = None


@dataclass(frozen=True, slots=True)
class TasksSkipped:
    """Tasks of one stage were made SKIPPED by a person."""

    stage: int
    #: From which state -> how many.
    counts: Mapping[State, int]
    #: How many of the PENDING ones were paused.
    held: int = 0
    #: How many of the CANCELLED ones no person had cancelled.
    withdrawn: int = 0
    #: How many of the RUNNING ones had started.
    started: int = 0
    #: The spawn task is meant, and not the others.
    spawn: bool = False


@dataclass(frozen=True, slots=True)
class Together:
    """Several things of one kind that happened at once: the job moves on when all of them are counted.

    One after the other, what the first has for its consequence would be done to tasks that the others are about.
    """

    events: tuple[TasksMoved | SpawnTaskMoved, ...] | tuple[TasksSkipped, ...]


#: Indexes of tasks: from the first to the last, both included.
Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Again:
    """The tasks of one stage that are to run again."""

    stage: int
    #: From which state -> how many; the spawn task is not counted.
    counts: Mapping[State, int]
    #: Its spawn task too.
    spawn: bool = False
    #: How many of the CANCELLED ones no person had cancelled.
    withdrawn: int = 0
    #: Which tasks; None: all that are in these states.
    spans: Spans | None = None
    #: It begins its next run: its spawn task and what people added run again, the tasks of the last list leave it.
    anew: bool = False


@dataclass(frozen=True, slots=True)
class RetryRequested:
    """A person lets tasks run again."""

    #: At most one of each stage. None: what has failed or was cancelled.
    stages: tuple[Again, ...] | None = None
    #: The job as a whole is meant.
    whole: bool = True


Event = (
    Submitted
    | TasksMoved
    | SpawnTaskMoved
    | TasksCreated
    | FilesMissing
    | SpawnTaskHeld
    | TasksAdded
    | PauseRequested
    | ResumeRequested
    | PrioritySet
    | CancelRequested
    | SkipRequested
    | TasksSkipped
    | Together
    | RetryRequested
)
