"""The JSON that the REST interface answers with, each shape described once: its fields, their types and meanings.

The interface renders these types, the OpenAPI document is made from them, and the client returns them. At run time
they are plain dictionaries. A field whose name a record of the engine has too is shown by its line here alone.
"""

# No postponed annotations here: with them, NotRequired would be overlooked in `__required_keys__`.

from typing import Annotated, Generic, Literal, NotRequired, TypedDict, TypeVar

from echelon.controller.shape_words import (
    AttemptOutcome,
    ErrorRule,
    JobState,
    TaskSource,
    TaskState,
    Time,
    Uuid,
    Values,
    WhyCode,
    about,
)

Item = TypeVar("Item")

WhereFrom = Annotated[
    TaskSource, about("Where its tasks come from: the catalogue, a spawn task, or requests that add them.")
]
AfterFailure = Annotated[
    ErrorRule,
    about("What happens when a task fails for good. block: the job waits until a person retries or skips the task."),
]


class PageOf(TypedDict, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_cursor: Annotated[str | None, about("Cursor of the next page; null on the last page.")]


class Paused(TypedDict):
    """Whether a person holds something back."""

    paused: Annotated[bool, about("None of its tasks start until it is resumed.")]
    paused_by: Annotated[str | None, about("Who paused it.")]
    paused_at: Annotated[Time | None, about("When it was paused.")]


class Counts(TypedDict):
    """Number of tasks per state; the spawn task is not counted."""

    PENDING: Annotated[int, about("Not started, or waiting for a retry.")]
    QUEUED: Annotated[int, about("Ready to run.")]
    RUNNING: Annotated[int, about("Running now.")]
    COMPLETED: Annotated[int, about("Succeeded.")]
    FAILED: Annotated[int, about("Failed, with no attempts left.")]
    CANCELLED: Annotated[int, about("Cancelled, or withdrawn before they ran.")]
    SKIPPED: Annotated[int, about("Counted as done without having run.")]


class StageSettings(TypedDict):
    """A stage's settings from the catalogue."""

    number: Annotated[int, about("Position in the job, from 0.")]
    order: Annotated[int, about("Stages of equal order run at the same time.")]
    name: Annotated[str, about("Name of the stage.")]
    task_class: Annotated[str, about("Class of its tasks.")]
    spawn_task: Annotated[str | None, about("Task class whose spawn.json makes the tasks.")]
    source: WhereFrom
    on_error: AfterFailure
    max_parallel: Annotated[int | None, about("Maximum number of its tasks that run at once.")]
    max_failed: Annotated[int | str | None, about("How many tasks may fail, or 5% of them; null: on_error.")]


class Stage(StageSettings, Paused):
    """A stage of a job."""

    state: JobState
    run: Annotated[int, about("Number of its present run, from 1: see docs/reference/control.md.")]
    counts: Counts
    total: Annotated[int | None, about("Number of tasks it will have; null: not known yet.")]
    spawn_state: Annotated[TaskState | None, about("State of the spawn task; null: it has none.")]
    queue: Annotated[str, about("Queue of its tasks.")]
    priority: Annotated[int, about("Priority of its tasks, from 0 to 9; higher first.")]
    waiting: Annotated[str | None, about("Why none of its tasks start: no worker for the queue, or no broker.")]
    error: Annotated[str | None, about("Why it failed.")]
    started_at: Annotated[Time | None, about("When it started.")]
    ended_at: Annotated[Time | None, about("When it ended.")]
    etag: Annotated[str, about("Changes whenever the stage does.")]


class Job(Paused):
    """A job with all its stages."""

    job_id: Annotated[Uuid, about("Id of the job.")]
    type: Annotated[str, about("Name of the job in the catalogue.")]
    revision: Annotated[str, about("Revision of the catalogue it runs with.")]
    state: JobState
    input: Annotated[Values, about("Input values; secret ones are masked.")]
    failed_tasks: Annotated[int, about("Number of tasks that failed with no attempts left.")]
    error: Annotated[str | None, about("Why it failed; of a COMPLETED job, which files are missing.")]
    created_at: Annotated[Time, about("When it was accepted.")]
    started_at: Annotated[Time | None, about("When it started.")]
    ended_at: Annotated[Time | None, about("When it ended.")]
    updated_at: Annotated[Time, about("When it last changed.")]
    stages: list[Stage]
    etag: Annotated[str, about("Changes whenever the job does.")]


class ProcessEnd(TypedDict):
    """How a process ended."""

    exit_code: Annotated[int | None, about("Exit code of the process.")]
    signal: Annotated[int | None, about("Signal that ended the process.")]
    error: Annotated[str | None, about("What went wrong.")]


class Attempt(ProcessEnd):
    """One execution of a task that has ended."""

    attempt: Annotated[int, about("Number of the attempt, from 1.")]
    outcome: AttemptOutcome
    worker: Annotated[str | None, about("Name of the worker.")]
    started_at: Annotated[Time | None, about("When it started.")]
    ended_at: Annotated[Time, about("When it ended.")]


class TaskPlace(TypedDict):
    """Which task it is."""

    task_id: Annotated[Uuid, about("Id of the task.")]
    job_id: Annotated[Uuid, about("Id of its job.")]
    stage: Annotated[int, about("Number of its stage, from 0.")]
    index: Annotated[int | None, about("Position in its stage, from 0; null for a spawn task.")]
    spawn: Annotated[bool, about("Whether it is the spawn task of its stage.")]


class NamedTask(TaskPlace):
    """Which task it is, and how people may call it."""

    label: Annotated[str | None, about("Its name: the label of its class, or else the values of its item; null: none.")]


class Task(NamedTask, ProcessEnd, Paused):
    """A task."""

    task_class: Annotated[str, about("Class of the task.")]
    queue: Annotated[str, about("Queue of the task.")]
    state: TaskState
    run: Annotated[int, about("Run of its stage that it belongs to, from 1.")]
    attempt: Annotated[int, about("Number of the current or last attempt; 0 before the first.")]
    input: Annotated[Values, about("Input values; secret ones are masked.")]
    worker: Annotated[str | None, about("Name of the worker that runs it or ran it last.")]
    result: Annotated[str | None, about("What it wrote to $ECHELON_OUTPUT.")]
    not_before: Annotated[Time | None, about("When it is tried again.")]
    started_at: Annotated[Time | None, about("When its last attempt started.")]
    ended_at: Annotated[Time | None, about("When it ended.")]
    etag: Annotated[str, about("Changes whenever the task does.")]


class TaskWithAttempts(Task):
    """A task with the attempts that have ended."""

    attempts: list[Attempt]


class ChangedCounts(TypedDict):
    """How many things a request changed."""

    jobs: Annotated[int, about("Jobs changed directly, not only through their tasks.")]
    stages: Annotated[int, about("Stages changed directly, not only through their tasks.")]
    tasks: Annotated[int, about("Tasks, including spawn tasks; not those that end in consequence.")]


class Unchanged(TypedDict):
    """Tasks that a request did not change, with the reason."""

    reason: Annotated[str, about("Why they were not changed.")]
    count: Annotated[int, about("Number of tasks.")]
    state: Annotated[str | None, about("Their state; null if it does not matter.")]


class ChangeResult(TypedDict):
    """Changed and unchanged things of a request."""

    changed: ChangedCounts
    unchanged: list[Unchanged]
    hint: Annotated[str | None, about("What the request did not do, if that may be wanted.")]


class PrunedJobs(TypedDict):
    """A part of the jobs that ended long ago."""

    jobs: Annotated[int, about("Number of jobs that are removed, or would be.")]
    bytes: Annotated[int, about("Bytes of their workspaces and logs.")]
    next: Annotated[int | None, about("Where the next call begins (`after`); null: there are no more.")]


class RetriedTask(TypedDict):
    """The result for one task of a list."""

    task_id: Annotated[str, about("Id of the task, as it was sent.")]
    changed: Annotated[bool, about("Whether it runs again.")]
    reason: Annotated[str | None, about("Why it does not run again.")]
    state: Annotated[str | None, about("Its state before the request; null if there is no such task.")]


class RetriedTasks(ChangeResult):
    """The result of a retry of a list of tasks."""

    tasks: Annotated[list[RetriedTask], about("One result per task, in the order of the list.")]


class ChangedJob(Job, ChangeResult):
    """A job as it is after a request, and what the request changed."""


class ChangedStage(Stage, ChangeResult):
    """A stage as it is after a request, and what the request changed."""


class ChangedTask(Task, ChangeResult):
    """A task as it is after a request, and what the request changed."""


class AddedTasks(TypedDict):
    """Tasks that were added to a stage."""

    task_ids: Annotated[list[str], about("Their ids, in the order of the request.")]
    first_index: Annotated[int, about("Position of the first one in its stage; the others follow.")]


class ErrorGroup(TypedDict):
    """Failed tasks of a stage whose errors are of one kind."""

    stage: Annotated[int, about("Number of the stage.")]
    error: Annotated[str, about("What their errors have in common: <n>, <path>, <id>, <time> and {input} differ.")]
    example: Annotated[str, about("The whole error of the first one.")]
    count: Annotated[int, about("How many they are.")]
    tasks: Annotated[list[NamedTask], about("The first five of them.")]


class JobErrors(TypedDict):
    """Why tasks of a job are FAILED, in groups."""

    failed_tasks: Annotated[int, about("Number of its tasks that are FAILED.")]
    grouped_tasks: Annotated[int, about("How many of them were read: the first 20,000.")]
    groups: Annotated[list[ErrorGroup], about("The largest first.")]


class Why(TypedDict):
    """The one reason that holds a job, a stage or a task back now."""

    code: WhyCode
    sentence: Annotated[str, about("The reason as a sentence.")]
    stage: Annotated[int | None, about("Number of the stage it is about; null: the job as a whole.")]
    task_id: Annotated[str | None, about("Id of the task it is about, if it is about one.")]
    index: Annotated[int | None, about("Position of that task in its stage; null for a spawn task.")]
    at: Annotated[Time | None, about("Since when (PAUSED), or when it goes on (RETRY_AT).")]
    by: Annotated[str | None, about("Who paused it (PAUSED).")]
    queue: Annotated[str | None, about("Queue it waits in (NO_WORKER_FOR_QUEUE, ALL_SLOTS_BUSY).")]
    running: Annotated[int | None, about("Number of running tasks (MAX_PARALLEL, ALL_SLOTS_BUSY).")]
    limit: Annotated[int | None, about("Maximum number of running tasks (MAX_PARALLEL, ALL_SLOTS_BUSY).")]


class JobEvent(TypedDict):
    """A line of a job's history."""

    number: Annotated[int, about("Increases from line to line.")]
    at: Annotated[Time, about("When it happened.")]
    kind: Annotated[str, about("What happened.")]
    stage: Annotated[int | None, about("Number of the stage it happened in.")]
    detail: Values


class JobArtefact(TypedDict):
    """A file that a job left."""

    path: Annotated[str, about("Path below the job's workspace.")]
    size: Annotated[int, about("Size in bytes.")]
    modified_at: Annotated[Time | None, about("When it was last written; null: at a moment that no calendar has.")]


class JobArtefactPage(PageOf[JobArtefact]):
    """One page of a job's files."""

    left_out: Annotated[int, about("Entries of this page that are no plain files with a UTF-8 name, such as links.")]


class WorkerAttempt(TaskPlace):
    """An attempt that runs on a worker."""

    attempt: Annotated[int, about("Number of the attempt, from 1.")]
    started_at: Annotated[Time, about("When it started.")]


class Worker(TypedDict):
    """A worker process."""

    worker_id: Annotated[Uuid, about("Id of this run of the process.")]
    name: Annotated[str, about("Name of the worker.")]
    host: Annotated[str, about("Machine it runs on.")]
    version: Annotated[str, about("Its release of Echelon.")]
    state: Literal["UP", "DRAINING", "LOST"]
    slots: Annotated[dict[str, int], about("Number of slots per queue.")]
    containment: Annotated[
        Literal["cgroup", "subreaper"] | None,
        about("How it finds the processes that a task leaves. Null: a worker of an earlier release."),
    ]
    running: Annotated[int, about("Number of attempts that run there, by its own last report.")]
    attempts: Annotated[list[WorkerAttempt], about("The first 100 attempts that run there, by the store.")]
    last_seen_at: Annotated[Time, about("Time of its last heartbeat.")]


class Queue(TypedDict):
    """How much waits and runs in one queue."""

    queue: Annotated[str, about("Name of the queue.")]
    ready: Annotated[int, about("Number of tasks ready to run.")]
    running: Annotated[int, about("Number of running tasks.")]


class MatchingIds(TypedDict):
    """Whole ids that an abbreviated id may stand for, at most 10 in each list."""

    jobs: list[str]
    tasks: list[str]


class Alive(TypedDict):
    """The process answers."""

    status: Annotated[str, about("ok")]


class ReadinessPart(TypedDict):
    """One of the systems that a controller depends on."""

    name: Annotated[str, about("store, volume, disk, broker, catalogue, workers or processes.")]
    ok: bool
    detail: Annotated[str, about("What is wrong, or what it is.")]


class Readiness(TypedDict):
    """Whether a controller can accept and run jobs."""

    ready: Annotated[bool, about("It accepts jobs.")]
    working: Annotated[bool, about("It is ready, and no task waits for a worker that is not there.")]
    parts: list[ReadinessPart]


class ProblemPart(TypedDict):
    """One thing that is wrong with a request."""

    pointer: Annotated[str, about('JSON pointer, e.g. "#/input/url", "#/query/limit", "#/headers/Authorization".')]
    detail: Annotated[str, about("What is wrong, and what to write instead.")]


class Problem(TypedDict):
    """Why a request was refused (RFC 9457)."""

    type: Annotated[str, about("about:blank: the title says it.")]
    title: Annotated[str, about("Name of the status.")]
    status: Annotated[int, about("The HTTP status.")]
    detail: Annotated[str, about("What is wrong.")]
    request_id: Annotated[str | None, about("Id of the request, as in the log.")]
    errors: NotRequired[list[ProblemPart]]
