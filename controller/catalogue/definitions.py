"""The records of a catalogue. Each field says how people write it: see `keys`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

import msgspec

from echelon.controller.catalogue.keys import Key
from echelon.controller.catalogue.kinds import (
    Amount,
    Anything,
    Argument,
    Duration,
    Flag,
    Items,
    Named,
    Record,
    Text,
    Word,
)
from echelon.shared.errors import NotFound
from echelon.shared.expressions import suggestion
from echelon.shared.messages import JsonValue

DEFAULT_QUEUE = "default"
#: Seconds between SIGTERM and SIGKILL.
DEFAULT_GRACE = 5.0
#: Names of inputs: what a placeholder can hold.
_INPUT_NAME = Text(
    form=r"[A-Za-z_][A-Za-z0-9_.-]*", saying="letters, digits, _ . and -, a letter or _ first", longest=100
)
#: Names of tasks and jobs: they stand in addresses and on command lines.
_DEFINITION_NAME = Text(
    form=r"[^\s/\x00-\x20\x7f-][^/\x00-\x1f\x7f]*",
    saying="no / and no control characters, no - or space first",
    longest=100,
)

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
    """An input of a task or of a job."""

    name: str
    source: Annotated[
        InputSource,
        Key(
            Word({str(one): one for one in InputSource}),
            "`parameter`: given with the job, or by a spawn task. `http-header` (jobs only): a header of the request "
            "that submits the job. `environment` (tasks only): a variable of the worker that runs the task.",
            alias="source_type",
        ),
    ] = InputSource.PARAMETER
    key: Annotated[
        str,
        Key(
            Text(form=r"[^\s:=\x00]+", saying="write the name of a header or of a variable"),
            "Name of the header or of the variable; the case of a header does not matter.",
            default="the input's name",
        ),
    ] = ""
    description: Annotated[str | None, Key(Text(), "What the value is, for people.")] = None
    type: Annotated[
        InputType | None,
        Key(
            Word({str(one): one for one in InputType}),
            "What the value must be: `string`, `integer`, `number`, `boolean` or `json`.",
            default="text, a number or a boolean",
        ),
    ] = None
    #: False when it has a default.
    required: bool = True
    default: Annotated[
        JsonValue,
        Key(Anything(allow_none=True), "The value when none is given; an input without a default is required."),
    ] = None
    enum: Annotated[tuple[JsonValue, ...] | None, Key(Items(Anything()), "The only values that are accepted.")] = None
    pattern: Annotated[
        str | None, Key(Text(longest=1000), "A regular expression (Python's) that the whole value matches.")
    ] = None
    minimum: Annotated[float | None, Key(Amount(), "The least number that is accepted.")] = None
    maximum: Annotated[float | None, Key(Amount(), "The greatest number that is accepted.")] = None
    secret: Annotated[
        bool,
        Key(
            Flag(),
            "The value is stored encrypted, masked wherever it could be seen, and erased when the job has ended; so is "
            "one that a spawn task leaves for a task.",
            default="`true` for a header, else `false`",
        ),
    ] = False
    allow_leading_dash: Annotated[
        bool, Key(Flag(), "The value may begin an argument with `-`, and could be read as an option there.")
    ] = False


@dataclass(frozen=True, slots=True)
class Retry:
    """What follows a failed attempt."""

    limit: Annotated[int, Key(Amount(whole=True, least=0, most=1000), "Additional attempts.")] = 0
    delay: Annotated[float, Key(Duration(), "Wait before the first of them.")] = 1.0
    factor: Annotated[
        float, Key(Amount(least=1, most=1000), "Each later wait is so many times as long as the one before.")
    ] = 2.0
    max_delay: Annotated[float, Key(Duration(), "The longest wait.")] = 300.0


Title = Annotated[str | None, Key(Text(longest=200, allow_none=True), "A title for people.")]
Paused = Annotated[bool, Key(Flag(), "It does not begin until a person resumes it.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What runs, and how: the same keys in a task class and in a task that a request composes."""

    exec_command: Annotated[
        str,
        Key(
            Argument(form=r"[\s\S]+", saying="write a command"),
            "The program to run: a name that `PATH` finds, or a path. No shell sees it.",
        ),
    ]
    exec_args: Annotated[
        tuple[str, ...],
        Key(
            Items(Argument(), allow_none=True),
            "Its arguments, one list item each; never split, never seen by a shell. `{name}` is filled in, `\\{` is a "
            "literal brace.",
        ),
    ] = ()
    env: Annotated[
        dict[str, str],
        Key(
            Named(
                Text(form=r"[^=\x00]+", saying="write the name of a variable", longest=200), Argument(), allow_none=True
            ),
            "Environment variables of the process; `{name}` is filled in.",
        ),
    ] = field(default_factory=dict)
    queue: Annotated[
        str,
        Key(
            Text(form=r"[A-Za-z0-9_][A-Za-z0-9_.-]*", saying="letters, digits, _ . and -", longest=64),
            "Only workers that listen to this queue run the task.",
        ),
    ] = DEFAULT_QUEUE
    #: Seconds; None: no limit.
    timeout: Annotated[
        float | None,
        Key(Duration(positive=True), "After this long the process tree is ended, and the attempt has failed."),
    ] = None
    grace: Annotated[float, Key(Duration(), "Time between TERM and KILL when a task is ended.")] = DEFAULT_GRACE
    retry: Annotated[
        Retry, Key(Record(Retry, example="retry: {limit: 2}"), "What follows a failed attempt.", default="none")
    ] = Retry()
    workdir: Annotated[
        Literal["job", "task"],
        Key(
            Word({"job": "job", "task": "task"}),
            "`job`: the task runs in the job's workspace. `task`: in a folder of its attempt; its files move into the "
            "workspace when, and only when, the attempt counts.",
        ),
    ] = "job"


@dataclass(frozen=True, slots=True)
class TaskClass(Command):
    """What a task does."""

    #: Its key in the catalogue.
    task_class: str
    name: Title = None
    description: Annotated[str | None, Key(Text(allow_none=True), "What the task does, for people.")] = None
    input: Annotated[
        dict[str, InputDefinition],
        Key(
            Named(_INPUT_NAME, Record(InputDefinition, allow_none=True), allow_none=True),
            "What the task takes; `{name}` stands for a value in the command, its arguments and its variables.",
        ),
    ] = field(default_factory=dict)
    #: Inputs whose placeholders begin an argument.
    leading: frozenset[str] = frozenset()

    @property
    def secret(self) -> frozenset[str]:
        """Return the inputs whose values nobody may see."""
        return frozenset(name for name, one in self.input.items() if one.secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineCommand(Command):
    """A command of the request's own; only where the controller allows it (`allow_inline_commands`)."""

    paused: Paused = False


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """A task of a class of the catalogue, known when its job is submitted."""

    task_class: Annotated[str, Key(Text(), "The task class.")]
    #: Not part of the JSON: some are secret, and all of them stand with the tasks.
    input: Annotated[dict[str, JsonValue], Key(Named(_INPUT_NAME, Anything()), "Values of its inputs.")] = field(
        default_factory=dict
    )
    paused: Paused = False


class SingleTask(msgspec.Struct, frozen=True, tag="single"):
    """The stage has one task, with the job's inputs."""


class SpawnedTasks(msgspec.Struct, frozen=True, tag="spawn"):
    """A task runs first and leaves a spawn.json."""

    spawn_task: str


class ListedTasks(msgspec.Struct, frozen=True, tag="listed"):
    """The tasks are known when the job is submitted, with values of their own."""

    tasks: tuple[TaskDefinition, ...]


class AddedTasks(msgspec.Struct, frozen=True, tag="open"):
    """The stage has no tasks of its own: only what is added while the job lives."""


TaskSource = SingleTask | SpawnedTasks | ListedTasks | AddedTasks


@dataclass(frozen=True, slots=True)
class StageDefinition:
    """A part of a job: tasks of one class."""

    name: Annotated[
        str,
        Key(
            Text(longest=200),
            "What people see; tasks see it as `{stage}` and `ECHELON_STAGE`.",
            default="the task class",
        ),
    ]
    task_class: Annotated[str, Key(Text(), "The task that runs.")]
    source: Annotated[
        TaskSource,
        Key(
            Text(),
            "A task that runs first and says in `spawn.json` how many tasks there are.",
            name="spawn_task",
            make=SpawnedTasks,
        ),
        Key(
            Word({"open": AddedTasks()}),
            "`open`: the stage has no tasks but those that are added before its turn comes; without any it completes "
            "at once.",
            name="tasks",
        ),
    ] = field(default_factory=SingleTask)
    job_failed_on_error: Annotated[
        bool,
        Key(
            Flag(),
            "`true`: a task that is out of attempts fails the job when its running siblings are done; those not "
            "started are withdrawn, and no later stage starts. `false`: the failure is counted, and the job goes on. "
            "The spawn task counts too.",
        ),
    ] = True
    fail_fast: Annotated[
        bool, Key(Flag(), "With `job_failed_on_error: true`: the failure ends the running siblings too.")
    ] = False
    max_parallel: Annotated[
        int | None,
        Key(Amount(whole=True, least=1, most=1_000_000), "At most so many tasks of the stage run at once."),
    ] = None
    order: Annotated[
        int | None,
        Key(
            Amount(whole=True, least=-1_000_000, most=1_000_000),
            "Stages of equal order run at the same time; the next order waits for all of them.",
            default="its place, from 0",
        ),
    ] = None
    block_on_error: Annotated[
        bool,
        Key(
            Word({"block": True}),
            "`block`: after a failure its siblings go on, and then the job waits for a person who retries or skips "
            "what failed.",
            name="on_error",
        ),
    ] = False
    paused: Paused = False

    @property
    def spawn_task(self) -> str | None:
        """Return the class of the task that leaves a spawn.json."""
        return self.source.spawn_task if isinstance(self.source, SpawnedTasks) else None

    @property
    def classes(self) -> frozenset[str]:
        """Return the classes of all tasks that it can have, its spawn task's too."""
        listed = self.source.tasks if isinstance(self.source, ListedTasks) else ()
        names = {self.task_class, *(task.task_class for task in listed)}
        return frozenset(names if self.spawn_task is None else {*names, self.spawn_task})


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """What a job takes and which stages it has."""

    #: Its key in the catalogue.
    type: str
    stages: Annotated[
        tuple[StageDefinition, ...],
        Key(Items(Record(StageDefinition), least=1, allow_none=True), "Its stages, one after the other."),
    ]
    name: Title = None
    description: Annotated[str | None, Key(Text(allow_none=True), "What the job does, for people.")] = None
    input: Annotated[
        dict[str, InputDefinition],
        Key(
            Named(_INPUT_NAME, Record(InputDefinition, allow_none=True), allow_none=True),
            "What the job takes; its tasks take from it by name.",
        ),
    ] = field(default_factory=dict)
    #: Inputs whose values nobody may see: secret here or in a task that takes them.
    secret: frozenset[str] = frozenset()
    #: Inputs that begin an argument of a task and may not begin with a dash.
    leading: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A catalogue of tasks and jobs for Echelon. Keys that begin with x- are ignored."""

    #: Beginning of keys that are a place for anchors.
    IGNORED: ClassVar[str] = "x-"

    #: Names this content: equal content has an equal revision.
    revision: str
    tasks: Annotated[
        dict[str, TaskClass],
        Key(Named(_DEFINITION_NAME, Record(TaskClass), allow_none=True), "The task classes.", default="none"),
    ]
    jobs: Annotated[
        dict[str, JobDefinition],
        Key(Named(_DEFINITION_NAME, Record(JobDefinition), allow_none=True), "The jobs.", default="none"),
    ]
    #: Folder of what the tasks bring along; None: there is none. Not part of the JSON.
    files: Path | None = None
    #: Digest of that folder's content, as `files.digest` counts it.
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
