"""What the REST interface answers with, as types. At run time they are the plain dictionaries of the JSON.

Times are ISO 8601 in UTC with milliseconds, e.g. "2026-01-31T12:00:00.000Z".
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from echelon.shared.messages import JsonValue


class Stage(TypedDict):
    """A stage of a job."""

    number: int
    order: int
    name: str
    task_class: str
    spawn_task: str | None
    #: Where its tasks come from: fixed, spawn or open.
    source: str
    #: What a task that is out of attempts does: fail_job, ignore or block.
    on_error: str
    state: str
    #: Number of tasks per state, every state named; the spawn task is not counted.
    counts: dict[str, int]
    #: Number of tasks it will have; None: not known yet.
    total: int | None
    #: State of the spawn task; None: the stage has none.
    spawn_state: str | None
    max_parallel: int | None
    queue: str
    #: Why none of its tasks begins: no worker listens to the queue.
    waiting: str | None
    error: str | None
    started_at: str | None
    ended_at: str | None
    paused: bool
    #: Who has paused it, and when.
    paused_by: str | None
    paused_at: str | None
    etag: str


class Job(TypedDict):
    """A job with all its stages."""

    job_id: str
    type: str
    revision: str
    state: str
    #: Secret values are "********".
    input: dict[str, JsonValue]
    failed_tasks: int
    error: str | None
    created_at: str
    started_at: str | None
    ended_at: str | None
    stages: list[Stage]
    paused: bool
    #: Who has paused it, and when.
    paused_by: str | None
    paused_at: str | None
    etag: str


class Attempt(TypedDict):
    """One execution of a task that has ended."""

    attempt: int
    outcome: str
    worker: str | None
    exit_code: int | None
    signal: int | None
    error: str | None
    started_at: str | None
    ended_at: str


class Task(TypedDict):
    """A task."""

    task_id: str
    job_id: str
    stage: int
    #: Place in its stage from 0; None for a spawn task.
    index: int | None
    spawn: bool
    task_class: str
    queue: str
    state: str
    attempt: int
    input: dict[str, JsonValue]
    worker: str | None
    exit_code: int | None
    signal: int | None
    error: str | None
    result: str | None
    not_before: str | None
    started_at: str | None
    ended_at: str | None
    paused: bool
    #: Who has paused it, and when.
    paused_by: str | None
    paused_at: str | None
    etag: str
    #: Only where one task is asked for.
    attempts: NotRequired[list[Attempt]]


class ChangedCounts(TypedDict):
    """How much a request has changed."""

    #: Jobs and stages that it changed themselves, not only by their tasks.
    jobs: int
    stages: int
    tasks: int


class Left(TypedDict):
    """What a request did not change, and why."""

    reason: str
    count: int
    #: The state that the reason is about; None: it needs none.
    state: str | None


class Changed(TypedDict):
    """What a verb came to."""

    changed: ChangedCounts
    unchanged: list[Left]


class Told(TypedDict):
    """What became of one task of a list."""

    task_id: str
    changed: bool
    #: Why it was not changed; None: it was.
    reason: str | None
    #: The state that it was in; None: there is no such task.
    state: str | None


class Retried(Changed):
    """What became of a list of tasks, each in the order of the list."""

    tasks: list[Told]


class ChangedJob(Job, Changed):
    """A job as it is after a verb."""


class ChangedStage(Stage, Changed):
    """A stage as it is after a verb."""


class ChangedTask(Task, Changed):
    """A task as it is after a verb."""


class Added(TypedDict):
    """Tasks that were added to a stage."""

    task_ids: list[str]
    #: Index of the first of them; the others follow.
    first_index: int


class Why(TypedDict):
    """What holds a job, a stage or a task back now."""

    #: WAITING_STAGE, PAUSED, MAX_PARALLEL, NO_WORKER_FOR_QUEUE, ALL_SLOTS_BUSY, RETRY_AT, BLOCKED_BY_FAILURE,
    #: BROKER_DOWN, READY, RUNNING or ENDED.
    code: str
    sentence: str
    #: The stage, and the task, that it is about; None: the job.
    stage: int | None
    task_id: str | None
    index: int | None
    #: Since when (PAUSED), or when it goes on (RETRY_AT).
    at: str | None
    #: Who has paused it.
    by: str | None
    queue: str | None
    #: How many run, and how many may (MAX_PARALLEL, ALL_SLOTS_BUSY).
    running: int | None
    limit: int | None


class Event(TypedDict):
    """A line of a job's history."""

    number: int
    at: str
    kind: str
    stage: int | None
    detail: dict[str, JsonValue]


class Artefact(TypedDict):
    """A file that a job left."""

    path: str
    size: int
    modified_at: str


class Held(TypedDict):
    """An attempt that a worker holds."""

    task_id: str
    job_id: str
    stage: int
    #: None: the spawn task.
    index: int | None
    spawn: bool
    attempt: int
    started_at: str


class Worker(TypedDict):
    """A worker process."""

    worker_id: str
    name: str
    host: str
    version: str
    #: UP, DRAINING or LOST.
    state: str
    #: Slots per queue.
    slots: dict[str, int]
    #: As it last said itself.
    running: int
    #: The first 100, as the store knows now.
    attempts: list[Held]
    last_seen_at: str


class Queue(TypedDict):
    """What waits and runs in one queue."""

    queue: str
    ready: int
    running: int


class Part(TypedDict):
    """One of the systems that a controller leans on."""

    name: str
    ok: bool
    detail: str


class Health(TypedDict):
    """The condition of a controller."""

    ready: bool
    parts: list[Part]


class Input(TypedDict):
    """An input of a job or a task class."""

    name: str
    description: str | None
    #: parameter, http-header or environment.
    source: str
    #: Name of the header or the variable.
    key: str
    type: str | None
    required: bool
    secret: bool
    default: NotRequired[JsonValue]
    enum: NotRequired[list[JsonValue]]
    pattern: NotRequired[str]
    minimum: NotRequired[float]
    maximum: NotRequired[float]


class StageDefinition(TypedDict):
    """A stage as the catalogue has it."""

    number: int
    #: Stages of equal order run at the same time.
    order: int
    name: str
    task_class: str
    spawn_task: str | None
    #: fixed, spawn or open.
    source: str
    #: fail_job, ignore or block.
    on_error: str
    #: It does not begin until it is resumed.
    paused: bool
    job_failed_on_error: bool
    fail_fast: bool
    max_parallel: int | None


class JobDefinition(TypedDict):
    """A job as the catalogue has it."""

    type: str
    name: str | None
    description: str | None
    input: list[Input]
    stages: list[StageDefinition]


class TaskDefinition(TypedDict):
    """A task class as the catalogue has it; the command is not told."""

    task_class: str
    name: str | None
    description: str | None
    queue: str
    #: Seconds; None: no limit.
    timeout: float | None
    workdir: str
    #: Additional attempts.
    retry_limit: int
    input: list[Input]


class Definitions(TypedDict):
    """The catalogue in force."""

    revision: str
    tasks: list[TaskDefinition]
    jobs: list[JobDefinition]


class Found(TypedDict):
    """What an abbreviated id may mean; each list is cut short after 10."""

    jobs: list[str]
    tasks: list[str]
