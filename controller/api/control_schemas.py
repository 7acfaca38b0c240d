"""Requests of live control (marshmallow): which tasks they are about, and what they bring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow
from marshmallow import fields, validate

from echelon.controller.api.queries import AddQuery, ChoiceQuery
from echelon.controller.api.schemas import (
    STATES,
    PriorityField,
    StateField,
    TextField,
    describe_field,
    no_value,
    values_field,
)

_TASK_ID = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_SPAN = r"[0-9]{1,8}(-[0-9]{1,8})?"


def _switch_field(default: str, text: str) -> fields.String:
    """Return a field of a query that is true or false."""
    return fields.String(load_default=default, validate=validate.OneOf(["true", "false"]), **describe_field(text))


class ChoiceQuerySchema(marshmallow.Schema):
    """Which tasks are meant; without any of it the job or the stage itself."""

    state = StateField(
        load_default=no_value, validate=validate.OneOf(STATES), **describe_field("Only the tasks in this state.")
    )
    index = fields.String(
        load_default=no_value,
        validate=validate.Regexp(
            f"^{_SPAN}(,{_SPAN})*$", error="write positions and ranges of positions, for example 0-99,150"
        ),
        **describe_field("Only the tasks at these positions in their stage, for example 0-99,150."),
    )

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> ChoiceQuery:
        return ChoiceQuery(data["state"], data["index"], **_read_switches(data))


class NothingSchema(marshmallow.Schema):
    """No tasks are chosen."""

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> ChoiceQuery:
        return ChoiceQuery(None, None, **_read_switches(data))


def _read_switches(data: dict[str, Any]) -> dict[str, bool]:
    return {
        "only_failed": data.get("only_failed", "true") == "true",
        "downstream": data.get("downstream", "false") == "true",
    }


_DOWNSTREAM = "true: the later stages that have run begin their next run, their spawn tasks included."
_ONLY_FAILED = "false: completed and skipped tasks run again too, and running ones are killed first."


class RetryQuerySchema(ChoiceQuerySchema):
    """Which tasks are meant."""

    only_failed = _switch_field("true", _ONLY_FAILED)
    downstream = _switch_field("false", _DOWNSTREAM)


class RetryListQuerySchema(NothingSchema):
    """Whether the stages behind the tasks are meant too."""

    downstream = _switch_field("false", _DOWNSTREAM)


class RetryTaskQuerySchema(RetryListQuerySchema):
    """Whether a completed task is meant too."""

    only_failed = _switch_field("true", _ONLY_FAILED)


class AddQuerySchema(marshmallow.Schema):
    """How tasks are added."""

    paused = _switch_field("false", "true: they wait until they are resumed.")

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> AddQuery:
        return AddQuery(data["paused"] == "true")


class EmptyBodySchema(marshmallow.Schema):
    """An empty object: the query chooses tasks."""

    def __init__(self, query: type[marshmallow.Schema]) -> None:
        """`query`: the parameters of the same request."""
        super().__init__()
        self._query = query()

    @marshmallow.pre_load
    def refuse_choice(self, data: object, **_: object) -> object:
        """Refuse what belongs in the query."""
        wrong = [one for one in self._query.fields if isinstance(data, Mapping) and one in data]
        if wrong:
            raise marshmallow.ValidationError({one: [f"belongs in the query: ?{one}=..."] for one in wrong})
        return data


class GivenSchema(EmptyBodySchema):
    """The values for a job that this opens again."""

    input = values_field(load_default=dict, **describe_field("Secret values, erased when the job ended."))


class PrioritySchema(marshmallow.Schema):
    """Another priority for what waits."""

    priority = PriorityField(required=True, **describe_field("From 0 to 9; higher first."))


class TaskToRetrySchema(marshmallow.Schema):
    """A task to run again."""

    task_id = fields.String(
        required=True,
        validate=validate.Regexp(_TASK_ID, error="is not the whole id of a task"),
        **describe_field("Its id."),
    )
    etag = TextField(100, load_default=None, allow_none=True, **describe_field("Only if the task still has this etag."))
