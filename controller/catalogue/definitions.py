"""The records of a catalogue, and their form as JSON for the store. Must not know how they are written by people."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from echelon.shared.errors import NotFound
from echelon.shared.expressions import suggestion, to_text
from echelon.shared.messages import EnvironmentInput, JsonValue, Recipe

DEFAULT_QUEUE = "default"
#: Seconds between SIGTERM and SIGKILL.
DEFAULT_GRACE = 5.0

Definition = TypeVar("Definition")


class InputSource(StrEnum):
    """Where the value of an input comes from."""

    PARAMETER = "parameter"
    #: The environment of the worker that runs the task.
    ENVIRONMENT = "environment"
    #: A header of the request that submits the job.
    HTTP_HEADER = "http-header"


class InputType(StrEnum):
    """What an input's value must be."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class InputDefinition:
    """An input of a task class or of a job."""

    name: str
    source: InputSource = InputSource.PARAMETER
    #: Name of the header or of the variable.
    key: str = ""
    description: str | None = None
    #: None: any text, number or boolean.
    type: InputType | None = None
    #: False when it has a default.
    required: bool = True
    default: JsonValue = None
    enum: tuple[JsonValue, ...] | None = None
    #: Regular expression that the whole text matches.
    pattern: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    secret: bool = False
    allow_leading_dash: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a failed attempt is followed by another, and when."""

    #: Additional attempts.
    limit: int = 0
    #: Seconds before the first of them.
    delay: float = 1.0
    #: Each wait is so many times as long as the one before.
    factor: float = 2.0
    #: Longest wait in seconds.
    max_delay: float = 300.0


@dataclass(frozen=True, slots=True)
class TaskClass:
    """What a task does."""

    #: Its key in the catalogue.
    task_class: str
    exec_command: str
    exec_args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    #: Title for people.
    name: str | None = None
    description: str | None = None
    input: dict[str, InputDefinition] = field(default_factory=dict)
    queue: str = DEFAULT_QUEUE
    #: Seconds; None: no limit.
    timeout: float | None = None
    grace: float = DEFAULT_GRACE
    retry: Retry = Retry()
    workdir: Literal["job", "task"] = "job"
    #: Inputs whose placeholders begin an argument.
    leading: frozenset[str] = frozenset()

    @property
    def secret(self) -> frozenset[str]:
        """Return the inputs whose values nobody may see."""
        return frozenset(name for name, one in self.input.items() if one.secret)


@dataclass(frozen=True, slots=True)
class StageDefinition:
    """A step of a job: tasks of one class."""

    name: str
    task_class: str
    #: Task class of the task that leaves a spawn.json; None: the stage has one task.
    spawn_task: str | None = None
    job_failed_on_error: bool = True
    fail_fast: bool = False
    #: At most so many of its tasks run at once.
    max_parallel: int | None = None
    #: Stages of equal order run at the same time; None: its place in the list.
    order: int | None = None
    #: When a task has failed for good, its siblings go on, and then the job waits for a person.
    block_on_error: bool = False
    #: It has no tasks of its own: what is added while the job lives.
    open: bool = False
    #: It does not begin until a person lets it go on.
    paused: bool = False
    #: Tasks with values of their own, of a job composed in a request; empty: one task with the job's inputs.
    tasks: tuple[TaskDefinition, ...] = ()

    @property
    def classes(self) -> frozenset[str]:
        """Return the classes of all tasks that it can have, its spawn task's too."""
        names = {self.task_class, *(task.task_class for task in self.tasks)}
        return frozenset(names if self.spawn_task is None else {*names, self.spawn_task})


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """A task that is known when its job is submitted."""

    task_class: str
    #: Not part of the JSON: some are secret, and all of them stand with the tasks.
    input: dict[str, JsonValue] = field(default_factory=dict)
    paused: bool = False


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """What a job takes and which stages it has."""

    #: Its key in the catalogue.
    type: str
    stages: tuple[StageDefinition, ...]
    #: Title for people.
    name: str | None = None
    description: str | None = None
    input: dict[str, InputDefinition] = field(default_factory=dict)
    #: Inputs whose values nobody may see: secret here or in a task that takes them.
    secret: frozenset[str] = frozenset()
    #: Inputs that begin an argument of a task and may not begin with a dash.
    leading: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One revision of all tasks and jobs."""

    #: Names this content: equal content has an equal revision.
    revision: str
    tasks: dict[str, TaskClass]
    jobs: dict[str, JobDefinition]
    #: Folder of what the tasks bring along; None: there is none. Not part of the JSON.
    files: Path | None = None
    #: Digest of that folder's content, as `echelon.controller.catalogue.files.digest` counts it.
    files_digest: str | None = None
    #: Of a catalogue that a request brought along for its own job: the revision whose files its tasks find.
    base: str | None = None

    def job(self, type: str) -> JobDefinition:  # noqa: A002  (the word users see)
        """Return a job's definition; raise NotFound with what was meant."""
        return _find(type, self.jobs, "job type")

    def task(self, task_class: str) -> TaskClass:
        """Return a task class; raise NotFound with what was meant."""
        return _find(task_class, self.tasks, "task class")


def _find(name: str, known: dict[str, Definition], what: str) -> Definition:
    if name in known:
        return known[name]
    guess = suggestion(name, known)
    shown = name if len(name) <= 100 else name[:100] + "..."
    raise NotFound(f"there is no {what} {shown!r}" + (f"; did you mean {guess!r}?" if guess else ""))


def secret_inputs(catalogue: Catalogue, job: JobDefinition, task_class: str) -> frozenset[str]:
    """Return the inputs of a class whose values nobody may see: the job may hide more than the class does."""
    return catalogue.tasks[task_class].secret | job.secret


def recipe(
    task_class: TaskClass,
    *,
    spawns: bool,
    max_items: int = 100_000,
    job: JobDefinition | None = None,
    item_secret: frozenset[str] = frozenset(),
) -> Recipe:
    """Return what a worker has to know to run tasks of a class; a job may allow and hide more of its inputs.

    `item_secret`: the secret inputs of the tasks that are spawned.
    """
    allowed = {name for name, one in task_class.input.items() if one.allow_leading_dash}
    secret = set(task_class.secret)
    if job is not None:
        allowed |= {name for name, one in job.input.items() if one.allow_leading_dash}
        secret |= job.secret
    return Recipe(
        task_class=task_class.task_class,
        exec_command=task_class.exec_command,
        exec_args=task_class.exec_args,
        env=task_class.env,
        environment=tuple(_environment_inputs(task_class.input.values())),
        secret=frozenset(secret),
        leading_dash=frozenset(allowed),
        timeout=task_class.timeout,
        grace=task_class.grace,
        workdir=task_class.workdir,
        spawns=spawns,
        max_items=max_items,
        item_secret=item_secret,
    )


def _environment_inputs(inputs: Iterable[InputDefinition]) -> Iterable[EnvironmentInput]:
    for one in inputs:
        if one.source is InputSource.ENVIRONMENT:
            default = None if one.required else to_text(one.default)
            yield EnvironmentInput(one.name, one.key, default, one.secret)


class _Document(msgspec.Struct, frozen=True):
    revision: str
    tasks: dict[str, TaskClass]
    jobs: dict[str, JobDefinition]
    base: str | None = None


def to_json(catalogue: Catalogue) -> str:
    """Return a catalogue as text for the store: equal catalogues give equal text.

    The values of single tasks are left out: some are secret, and a revision is a digest of this text.
    """
    jobs = {name: _without_values(job) for name, job in catalogue.jobs.items()}
    document = _Document(catalogue.revision, catalogue.tasks, jobs, catalogue.base)
    return msgspec.json.encode(document, order="deterministic").decode()


def _without_values(job: JobDefinition) -> JobDefinition:
    if not any(stage.tasks for stage in job.stages):
        return job
    stages = (replace(stage, tasks=tuple(replace(task, input={}) for task in stage.tasks)) for stage in job.stages)
    return replace(job, stages=tuple(stages))


def from_json(text: str) -> Catalogue:
    """Return the catalogue that `to_json` wrote, without its folder of files."""
    document = msgspec.json.decode(text, type=_Document)
    return Catalogue(document.revision, document.tasks, document.jobs, base=document.base)


def revision_of(tasks: dict[str, TaskClass], jobs: dict[str, JobDefinition], files_digest: str | None) -> str:
    """Return the name of this content: 16 hexadecimal digits."""
    content = to_json(Catalogue("", tasks, jobs)) + (files_digest or "")
    return hashlib.sha256(content.encode()).hexdigest()[:16]
