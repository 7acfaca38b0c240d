"""The shapes of bodies, queries and answers (marshmallow): what comes in is checked, what goes out is documented.

Answers are not dumped through these schemas, `render` writes them directly; the tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow
from marshmallow import fields, validate

from echelon.controller.api.queries import IdQuery, JobsQuery, LogQuery, PageQuery, TasksQuery
from echelon.controller.core.model import OnError, Source
from echelon.controller.core.states import State
from echelon.shared.messages import Outcome

MAX_LIMIT = 500
DEFAULT_LIMIT = 50

STATES = [str(state) for state in State]
JOB_STATES = [word for word in STATES if word != State.QUEUED]


def _about(text: str, **more: object) -> dict[str, Any]:
    """Return field options that document it."""
    return {"metadata": {"description": text, **more}}


class WholeNumber(fields.Integer):
    """A number of decimal digits; what else `int` would take (blanks, underscores, other scripts) is refused."""

    def _validated(self, value: Any) -> int:
        if not (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9):
            raise self.make_error("invalid", input=value)
        return int(value)


class Text(fields.String):
    """A text without NUL, which PostgreSQL cannot hold."""

    def __init__(self, longest: int, **more: Any) -> None:
        pattern = validate.Regexp("^[^\x00]*$", error="a NUL character cannot be used")
        super().__init__(validate=[validate.Length(max=longest), pattern], **more)


# --- what comes in --------------------------------------------------------------------------------------------------


class PageQuerySchema(marshmallow.Schema):
    """Which part of a list is wanted."""

    limit = WholeNumber(
        load_default=DEFAULT_LIMIT,
        validate=validate.Range(min=1, max=MAX_LIMIT),
        **_about("At most so many items."),
    )
    cursor = Text(1000, load_default=None, **_about("The next_cursor of the page before."))

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> PageQuery:
        return PageQuery(**data)


class JobsQuerySchema(PageQuerySchema):
    """Which jobs are wanted."""

    state = fields.String(load_default=None, validate=validate.OneOf(JOB_STATES))
    type = Text(200, load_default=None, **_about("Jobs of this type."))
    q = Text(200, load_default=None, **_about("Text that the id, the type or an input value contains."))

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> JobsQuery:
        return JobsQuery(**data)


class TasksQuerySchema(PageQuerySchema):
    """Which tasks are wanted."""

    stage = WholeNumber(
        load_default=None, validate=validate.Range(min=0, max=999_999), **_about("Tasks of this stage, from 0.")
    )
    index = WholeNumber(
        load_default=None,
        validate=validate.Range(min=0, max=999_999_999),
        **_about("The task of this place in its stage, from 0."),
    )
    state = fields.String(load_default=None, validate=validate.OneOf(STATES))

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> TasksQuery:
        return TasksQuery(**data)


class FollowQuerySchema(marshmallow.Schema):
    """How a log is wanted."""

    follow = fields.String(
        load_default="0",
        validate=validate.OneOf(["0", "1"]),
        **_about("1: the answer goes on until the job, or the task, has ended."),
    )

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> LogQuery:
        return LogQuery(**{**data, "follow": data["follow"] == "1"})


class LogQuerySchema(FollowQuerySchema):
    """Which log of a task is wanted."""

    stream = fields.String(
        load_default=None,
        validate=validate.OneOf(["stdout", "stderr"]),
        **_about("Without it both, one after the other."),
    )
    attempt = WholeNumber(
        load_default=None,
        validate=validate.Range(min=1, max=999_999),
        **_about("Numbered from 1; without it the last."),
    )


class IdQuerySchema(marshmallow.Schema):
    """The beginning of an id."""

    prefix = fields.String(
        required=True,
        validate=validate.Regexp("^[0-9a-fA-F-]{1,36}$", error="an id has hexadecimal digits and dashes, 36 at most"),
        **_about("The first characters of an id."),
    )

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> IdQuery:
        return IdQuery(data["prefix"].lower())


def values_field(**more: Any) -> fields.Dict:
    """Return a field of input values by name."""
    return fields.Dict(keys=fields.String(), values=fields.Raw(allow_none=True), **more)


# --- what goes out --------------------------------------------------------------------------------------------------


def _time(text: str, *, optional: bool = False) -> fields.String:
    return fields.String(required=True, allow_none=optional, **_about(text, format="date-time"))


def _state(words: list[str], *, optional: bool = False) -> fields.String:
    return fields.String(required=True, allow_none=optional, validate=validate.OneOf(words))


def text_field(text: str, *, optional: bool = False) -> fields.String:
    """Return a field of an answer that holds text."""
    return fields.String(required=True, allow_none=optional, **_about(text))


def number_field(text: str, *, optional: bool = False) -> fields.Integer:
    """Return a field of an answer that holds a whole number."""
    return fields.Integer(required=True, allow_none=optional, strict=True, **_about(text))


def source_field() -> fields.String:
    """Return a field that says where the tasks of a stage come from."""
    about = "Where its tasks come from: known from the start, from a spawn task, or added while the job lives."
    return fields.String(required=True, validate=validate.OneOf([str(one) for one in Source]), **_about(about))


def on_error_field() -> fields.String:
    """Return a field that says what the failure of a task means."""
    about = "What a task that is out of attempts does; block: its siblings go on, then the job waits for a person."
    return fields.String(required=True, validate=validate.OneOf([str(one) for one in OnError]), **_about(about))


def _uuid(text: str) -> fields.String:
    return fields.String(required=True, **_about(text, format="uuid"))


class PausedSchema(marshmallow.Schema):
    """Whether a person holds something back."""

    paused = fields.Boolean(required=True, **_about("Nothing of it is started until it is resumed."))
    paused_by = text_field("Who has paused it.", optional=True)
    paused_at = _time("When.", optional=True)


class Counts(marshmallow.Schema):
    """Number of tasks per state."""

    PENDING = number_field("Not begun, or waiting for a retry.")
    QUEUED = number_field("May be started.")
    RUNNING = number_field("Run now.")
    COMPLETED = number_field("Ended well.")
    FAILED = number_field("Out of attempts.")
    CANCELLED = number_field("Withdrawn or ended by a cancel.")
    SKIPPED = number_field("Counted as done without having run.")


class StageSchema(PausedSchema):
    """A stage of a job."""

    number = number_field("Place in the job, from 0.")
    order = number_field("Stages of equal order run at the same time.")
    name = text_field("Its name.")
    task_class = text_field("What its tasks are.")
    spawn_task = text_field("Task class whose spawn.json makes the tasks.", optional=True)
    source = source_field()
    on_error = on_error_field()
    state = _state(JOB_STATES)
    counts = fields.Nested(Counts, required=True)
    total = number_field("Number of tasks it will have; null: not known yet.", optional=True)
    spawn_state = _state(STATES, optional=True)
    max_parallel = number_field("At most so many of its tasks run at once.", optional=True)
    queue = text_field("Where its tasks wait.")
    waiting = text_field("Why none of its tasks begins: no worker listens to the queue.", optional=True)
    error = text_field("Why it failed.", optional=True)
    started_at = _time("When it began.", optional=True)
    ended_at = _time("When it ended.", optional=True)
    etag = text_field("Changes whenever the stage does.")


class JobSchema(PausedSchema):
    """A job with all its stages."""

    job_id = _uuid("Its id.")
    type = text_field("Name of the job in the catalogue.")
    revision = text_field("Revision of the catalogue it runs with.")
    state = _state(JOB_STATES)
    input = values_field(required=True, **_about("Its input values; secret ones are masked."))
    failed_tasks = number_field("Tasks that are out of attempts.")
    error = text_field("Why it failed.", optional=True)
    created_at = _time("When it was accepted.")
    started_at = _time("When it began.", optional=True)
    ended_at = _time("When it ended.", optional=True)
    stages = fields.List(fields.Nested(StageSchema), required=True)
    etag = text_field("Changes whenever the job does.")


class AttemptSchema(marshmallow.Schema):
    """One execution of a task that has ended."""

    attempt = number_field("Numbered from 1.")
    outcome = fields.String(required=True, validate=validate.OneOf([str(one) for one in Outcome]))
    worker = text_field("Name of the worker.", optional=True)
    exit_code = number_field("Exit code of the process.", optional=True)
    signal = number_field("Signal that ended the process.", optional=True)
    error = text_field("What went wrong.", optional=True)
    started_at = _time("When it began.", optional=True)
    ended_at = _time("When it ended.")


class TaskSchema(PausedSchema):
    """A task."""

    task_id = _uuid("Its id.")
    job_id = _uuid("The job it belongs to.")
    stage = number_field("The stage it belongs to, from 0.")
    index = number_field("Place in its stage, from 0; null for a spawn task.", optional=True)
    spawn = fields.Boolean(required=True, **_about("Whether it is its stage's spawn task."))
    task_class = text_field("What it is.")
    queue = text_field("Where it waits.")
    state = _state(STATES)
    attempt = number_field("Number of the current or last attempt; 0 before the first.")
    input = values_field(required=True, **_about("Its input values; secret ones are masked."))
    worker = text_field("Name of the worker that runs it or ran it last.", optional=True)
    exit_code = number_field("Exit code of the process.", optional=True)
    signal = number_field("Signal that ended the process.", optional=True)
    error = text_field("What went wrong.", optional=True)
    result = text_field("What it wrote to $ECHELON_OUTPUT.", optional=True)
    not_before = _time("When it is tried again.", optional=True)
    started_at = _time("When its last attempt began.", optional=True)
    ended_at = _time("When it ended.", optional=True)
    etag = text_field("Changes whenever the task does.")


class OneTaskSchema(TaskSchema):
    """A task with its ended attempts."""

    attempts = fields.List(fields.Nested(AttemptSchema), required=True)


class EventSchema(marshmallow.Schema):
    """A line of a job's history."""

    number = number_field("Grows from line to line.")
    at = _time("When it happened.")
    kind = text_field("What happened.")
    stage = number_field("In which stage.", optional=True)
    detail = values_field(required=True)


class ArtefactSchema(marshmallow.Schema):
    """A file that a job left."""

    path = text_field("Below the job's workspace.")
    size = number_field("Bytes.")
    modified_at = _time("When it was last written.")


class HeldSchema(marshmallow.Schema):
    """An attempt that a worker holds."""

    task_id = _uuid("Names the task.")
    job_id = _uuid("Names its job.")
    stage = number_field("Number of the stage.")
    index = number_field("Its place among the tasks of its stage; null: the spawn task.", optional=True)
    spawn = fields.Boolean(required=True, **_about("It is the stage's spawn task."))
    attempt = number_field("Counts from 1.")
    started_at = _time("When the worker was given it.")


class WorkerSchema(marshmallow.Schema):
    """A worker process."""

    worker_id = _uuid("Names one life of the process.")
    name = text_field("Its name.")
    host = text_field("The machine it runs on.")
    version = text_field("Its release of Echelon.")
    state = _state(["UP", "DRAINING", "LOST"])
    slots = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True, **_about("Slots per queue."))
    running = number_field("Attempts it holds, as it last said itself.")
    attempts = fields.List(
        fields.Nested(HeldSchema), required=True, **_about("The first 100 that it holds, as the store knows now.")
    )
    last_seen_at = _time("Its last sign of life.")


class QueueSchema(marshmallow.Schema):
    """What waits and runs in one queue."""

    queue = text_field("Its name.")
    ready = number_field("Tasks that may be started.")
    running = number_field("Tasks that run.")


class FoundSchema(marshmallow.Schema):
    """What an abbreviated id may mean; each list is cut short after 10."""

    jobs = fields.List(fields.String(), required=True)
    tasks = fields.List(fields.String(), required=True)


def page_of(schema: type[marshmallow.Schema]) -> type[marshmallow.Schema]:
    """Return the schema of a page of items."""
    members: Mapping[str, object] = {
        "__doc__": "A page.",
        "items": fields.List(fields.Nested(schema), required=True),
        "next_cursor": text_field("Where the next page begins; null: this is the last.", optional=True),
    }
    return type(f"{schema.__name__.removesuffix('Schema')}Page", (marshmallow.Schema,), dict(members))


class MistakeSchema(marshmallow.Schema):
    """One thing that is wrong with a request."""

    pointer = text_field('JSON pointer, e.g. "#/input/url", "#/query/limit", "#/headers/Authorization".')
    detail = text_field("What is wrong, and what to write instead.")


class ProblemSchema(marshmallow.Schema):
    """Why a request was refused (RFC 9457)."""

    type = text_field("about:blank: the title says it.")
    title = text_field("Name of the status.")
    status = number_field("The HTTP status.")
    detail = text_field("What is wrong.")
    request_id = text_field("What the log names this request.", optional=True)
    errors = fields.List(fields.Nested(MistakeSchema))
