"""The records of jobs and of the whole catalogue. Each field says how people write it: see `keys`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import msgspec

from echelon.controller.catalogue.keys import Key, described, described_by
from echelon.controller.catalogue.kinds import (
    Amount,
    Anything,
    Bound,
    Duration,
    Flag,
    Items,
    Named,
    Record,
    TextValue,
    Word,
)
from echelon.controller.catalogue.task_classes import INPUT_NAME, PRIORITY, TITLE, InputDefinition, TaskClass
from echelon.shared.errors import NotFound
from echelon.shared.expressions import suggest_name
from echelon.shared.messages import JsonValue

#: Names of tasks and jobs: they stand in addresses and on command lines.
_DEFINITION_NAME = TextValue(
    form=r"[^\s/\x00-\x20\x7f-\x9f-][^/\x00-\x1f\x7f-\x9f]*",
    saying="no / and no control characters, no - or space first",
    longest=100,
)

Definition = TypeVar("Definition")


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """A task of a class of the catalogue, known when its job is submitted."""

    task_class: str = described(TextValue(), "The task class.")
    #: Not part of the JSON: some are secret, and all of them stand with the tasks.
    input: dict[str, JsonValue] = described(Named(INPUT_NAME, Anything()), "Values of its inputs.", factory=dict)
    paused: bool = described(Flag(), "It does not begin until a person resumes it.", False)


class SingleTask(msgspec.Struct, frozen=True, tag="single"):
    """The stage has one task, with the job's inputs."""


class SpawnedTasks(msgspec.Struct, frozen=True, tag="spawn"):
    """A task runs first and leaves a spawn.json."""

    spawn_task: str


class ListedTasks(msgspec.Struct, frozen=True, tag="listed"):
    """The tasks are known when the job is submitted, with values of their own."""

    tasks: tuple[TaskDefinition, ...]


class LaterTasks(msgspec.Struct, frozen=True, tag="open"):
    """The stage has no tasks of its own: only what is added while the job lives."""


TaskSource = SingleTask | SpawnedTasks | ListedTasks | LaterTasks


@dataclass(frozen=True, slots=True)
class StageDefinition:
    """A part of a job: tasks of one class."""

    name: str = described(
        TextValue(longest=200),
        "What people see; tasks see it as `{stage}` and `ECHELON_STAGE`.",
        usual="the task class",
    )
    task_class: str = described(TextValue(), "The task that runs.")
    source: TaskSource = described_by(
        Key(
            TextValue(),
            "A task that runs first; its `spawn.json` lists the tasks of the stage.",
            name="spawn_task",
            make=SpawnedTasks,
        ),
        Key(
            Word({"open": LaterTasks()}),
            "`open`: the stage starts without tasks; people add them before its turn comes. Without any, it completes "
            "at once.",
            name="tasks",
        ),
        default_factory=SingleTask,
    )
    job_failed_on_error: bool = described(
        Flag(),
        "`true`: when a task has failed and has no attempts left, the running tasks of the stage finish, the "
        "others are withdrawn, and the job fails; no later stage starts. `false`: the failure is counted, and the "
        "job goes on. A spawn task that fails fails the job in either case: it leaves `[]` where no tasks are fine.",
        True,
    )
    max_failed: int | str | None = described(
        Bound(most=1_000_000),
        "`5` or `5%`: up to so many tasks may fail, items that do not fit included; one more fails the stage and the "
        "job, and withdraws what has not started. With `on_error: block` the job waits instead. It takes the place of "
        "`job_failed_on_error`.",
        None,
    )
    fail_fast: bool = described(Flag(), "A failure that fails the job also ends the running tasks of the stage.", False)
    max_parallel: int | None = described(
        Amount(whole=True, least=1, most=1_000_000), "How many tasks of the stage may run at once.", None
    )
    order: int | None = described(
        Amount(whole=True, least=-1_000_000, most=1_000_000),
        "Stages of equal order run at the same time; the next order waits for all of them.",
        None,
        usual="its place, from 0",
    )
    block_on_error: bool = described(
        Word({"block": True}),
        "`block`: after a failure the other tasks go on; then the job waits for a person who retries or skips the "
        "failed ones.",
        False,
        name="on_error",
    )
    paused: bool = described(Flag(), "It does not begin until a person resumes it.", False)

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
    """The inputs and the stages of a job."""

    #: Its key in the catalogue.
    type: str
    stages: tuple[StageDefinition, ...] = described(
        Items(Record(StageDefinition), least=1, allow_none=True), "Its stages, in the order in which they run."
    )
    name: str | None = described(TITLE, "A title for people.", None)
    description: str | None = described(TextValue(allow_none=True), "What the job does, for people.", None)
    input: dict[str, InputDefinition] = described(
        Named(INPUT_NAME, Record(InputDefinition, allow_none=True), allow_none=True),
        "The inputs of the job; a task takes those of the same name.",
        factory=dict,
    )
    priority: int = described(
        PRIORITY,
        "From 0 to 9, for tasks whose class says nothing else: of the tasks that wait in a queue, those of a higher "
        "priority start first. Jobs of equal priority share the slots. A submission can give another one.",
        0,
    )
    keep: float | None = described(
        Duration(),
        "How long its jobs are kept after their end, with history, logs and files: `30d`. It takes the place of the "
        "limits of [retention](../how-to/remove-old-jobs.md).",
        None,
        usual="those limits",
    )
    #: Inputs whose values are hidden: secret here or in a task that takes them.
    secret: frozenset[str] = frozenset()
    #: Inputs that begin an argument of a task and may not begin with a dash.
    leading: frozenset[str] = frozenset()

    def order_of(self, number: int) -> int:
        """Return the order of a stage."""
        order = self.stages[number].order
        return number if order is None else order

    def has_siblings(self, number: int) -> bool:
        """Tell whether other stages run at the same time as one."""
        order = self.order_of(number)
        return any(other != number and self.order_of(other) == order for other in range(len(self.stages)))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A catalogue of tasks and jobs for Echelon. Keys that begin with x- are ignored."""

    #: Beginning of keys that are a place for anchors.
    IGNORED: ClassVar[str] = "x-"

    #: Names this content: equal content has an equal revision.
    revision: str
    tasks: dict[str, TaskClass] = described(
        Named(_DEFINITION_NAME, Record(TaskClass), allow_none=True), "The task classes.", usual="none"
    )
    jobs: dict[str, JobDefinition] = described(
        Named(_DEFINITION_NAME, Record(JobDefinition), allow_none=True), "The jobs.", usual="none"
    )
    #: Folder of what the tasks bring along; None: there is none. Not part of the JSON.
    files: Path | None = None
    #: Digest of that folder's content, as `files.digest_folder` counts it.
    files_digest: str | None = None
    #: Of a catalogue that a request brought along for its own job: the revision whose files its tasks find.
    base: str | None = None

    def find_job(self, type: str) -> JobDefinition:  # noqa: A002  (the word users see)
        """Return a job's definition; raise NotFound with what was meant."""
        return _find_definition(type, self.jobs, "job type")


def _find_definition(name: str, known: dict[str, Definition], what: str) -> Definition:
    if name in known:
        return known[name]
    guess = suggest_name(name, known)
    shown = name if len(name) <= 100 else name[:100] + "..."
    raise NotFound(f"there is no {what} {shown!r}" + (f"; did you mean {guess!r}?" if guess else ""))
