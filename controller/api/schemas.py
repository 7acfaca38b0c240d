"""The shapes of queries, checked and documented (marshmallow); those of answers are `echelon.controller.shapes`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import marshmallow
from marshmallow import fields, validate

from echelon.controller.api.openapi import PREFIX
from echelon.controller.api.queries import IdQuery, JobsQuery, LogQuery, PageQuery, TasksQuery
from echelon.controller.core.states import State

MAX_LIMIT = 500
DEFAULT_LIMIT = 50

STATES = [str(state) for state in State]
JOB_STATES = [word for word in STATES if word != State.QUEUED]


def no_value() -> None:
    """Return what stands for a parameter that was not sent: it cannot be sent as null."""


def describe_field(text: str, **more: object) -> dict[str, Any]:
    """Return field options that document it."""
    return {"metadata": {"description": text, **more}}


class WholeNumber(fields.Integer):
    """A number of decimal digits; what else `int` would take (blanks, underscores, other scripts) is refused."""

    def _validated(self, value: Any) -> int:
        if not (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9):
            raise self.make_error("invalid", input=value)
        return int(value)


class PriorityField(fields.Integer):
    """A priority in a body: a whole number from 0 to 9, and not a text or a boolean."""

    def __init__(self, **more: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(min=0, max=9), **more)

    def _validated(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class StatesField(fields.List[Any]):
    """Words of a query: the parameter several times, or words with commas between them; the case does not matter."""

    def __init__(self, words: Sequence[str], component: str, text: str) -> None:
        inner = fields.Raw(metadata={"allOf": [{"$ref": PREFIX + component}]})
        super().__init__(inner, load_default=tuple, **describe_field(text))
        self._words = words

    def _deserialize(self, value: Any, *_: object, **__: object) -> Any:
        found = [word.strip().upper() for one in value for word in one.split(",")]
        if not set(found) <= set(self._words):
            raise marshmallow.ValidationError(f"Must be one of: {', '.join(self._words)}.")
        return tuple(dict.fromkeys(State(word) for word in found))


class StateField(fields.String):
    """One state; the case does not matter."""

    def _deserialize(self, value: Any, *more: Any, **named: Any) -> str:
        return super()._deserialize(value, *more, **named).upper()


class TimeField(fields.String):
    """A time in ISO 8601, as seconds since the epoch; without a zone it is UTC."""

    def __init__(self, text: str) -> None:
        super().__init__(load_default=no_value, **describe_field(text, format="date-time"))

    def _deserialize(self, value: Any, *_: object, **__: object) -> Any:
        try:
            when = datetime.fromisoformat(value)
            return when.replace(tzinfo=when.tzinfo or UTC).timestamp()
        except (ValueError, OverflowError):
            raise marshmallow.ValidationError("write a time in UTC, for example 2026-01-31T12:00:00Z") from None


class TextField(fields.String):
    """A text without NUL, which PostgreSQL cannot hold."""

    def __init__(self, longest: int, **more: Any) -> None:
        pattern = validate.Regexp(r"^[^\x00]*$", error="a NUL character cannot be used")
        super().__init__(validate=[validate.Length(max=longest), pattern], **more)


class PageQuerySchema(marshmallow.Schema):
    """Which part of a list is wanted."""

    limit = WholeNumber(
        load_default=DEFAULT_LIMIT,
        validate=validate.Range(min=1, max=MAX_LIMIT),
        **describe_field("At most so many items."),
    )
    cursor = TextField(1000, load_default=no_value, **describe_field("The next_cursor of the page before."))

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> PageQuery:
        return PageQuery(**data)


class JobsQuerySchema(PageQuerySchema):
    """Which jobs are wanted."""

    state = StatesField(JOB_STATES, "JobState", "Jobs in one of these states.")
    type = TextField(200, load_default=no_value, **describe_field("Jobs of this type."))
    q = TextField(
        200, load_default=no_value, **describe_field("Text that the id, the type or an input value contains.")
    )

    created_after = TimeField("Jobs that were accepted at this time or later.")
    created_before = TimeField("Jobs that were accepted before this time.")
    updated_after = TimeField("Jobs that have changed at this time or later.")
    order = fields.String(
        load_default="newest",
        validate=validate.OneOf(["newest", "oldest"]),
        **describe_field("Which jobs come first, by the time when they were accepted."),
    )

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> JobsQuery:
        return JobsQuery(**data)


class TasksQuerySchema(PageQuerySchema):
    """Which tasks are wanted."""

    stage = WholeNumber(
        load_default=no_value,
        validate=validate.Range(min=0, max=999_999),
        **describe_field("Tasks of this stage, from 0."),
    )
    index = WholeNumber(
        load_default=no_value,
        validate=validate.Range(min=0, max=999_999_999),
        **describe_field("The task of this place in its stage, from 0."),
    )
    state = StatesField(STATES, "TaskState", "Tasks in one of these states.")
    run = WholeNumber(
        load_default=no_value,
        validate=validate.Range(min=1, max=999_999),
        **describe_field("Tasks of this run of their stages, from 1; without it, of the present runs."),
    )

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> TasksQuery:
        return TasksQuery(**data)


class FollowQuerySchema(marshmallow.Schema):
    """How a log is wanted."""

    follow = fields.String(
        load_default="0",
        validate=validate.OneOf(["0", "1"]),
        **describe_field("1: the answer goes on until the job, or the task, has ended."),
    )

    since = TimeField("Only of attempts that have printed something at this time or later.")

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> LogQuery:
        return LogQuery(**{**data, "follow": data["follow"] == "1"})


class LogQuerySchema(FollowQuerySchema):
    """Which log of a task is wanted."""

    stream = fields.String(
        load_default=no_value,
        validate=validate.OneOf(["stdout", "stderr"]),
        **describe_field("Without it both, one after the other."),
    )
    attempt = WholeNumber(
        load_default=no_value,
        validate=validate.Range(min=1, max=999_999),
        **describe_field("Numbered from 1; without it the last."),
    )


class IdQuerySchema(marshmallow.Schema):
    """The beginning of an id."""

    prefix = fields.String(
        required=True,
        validate=validate.Regexp("^[0-9a-fA-F-]{1,36}$", error="an id has hexadecimal digits and dashes, 36 at most"),
        **describe_field("The first characters of an id."),
    )

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> IdQuery:
        return IdQuery(data["prefix"].lower())


def values_field(**more: Any) -> fields.Dict:
    """Return a field of input values by name."""
    return fields.Dict(keys=fields.String(), values=fields.Raw(allow_none=True), **more)
