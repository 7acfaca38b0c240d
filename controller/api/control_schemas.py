"""The shapes of live control: which tasks a verb is meant for, what it came to, why something does not move on."""

from __future__ import annotations

from typing import Any

import marshmallow
from marshmallow import fields, validate

from echelon.controller.api.queries import AddQuery, ChoiceQuery
from echelon.controller.api.schemas import (
    STATES,
    JobSchema,
    StageSchema,
    TaskSchema,
    Text,
    number_field,
    text_field,
    values_field,
)
from echelon.controller.engine.why.why import Code

_TASK_ID = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_SPAN = r"[0-9]{1,8}(-[0-9]{1,8})?"


def _about(text: str, **more: object) -> dict[str, Any]:
    return {"metadata": {"description": text, **more}}


def _switch(default: str, text: str) -> fields.String:
    """Return a field of a query that is true or false."""
    return fields.String(load_default=default, validate=validate.OneOf(["true", "false"]), **_about(text))


# --- what comes in


class ChoiceQuerySchema(marshmallow.Schema):
    """Which tasks are meant; without any of it the job or the stage itself."""

    state = fields.String(load_default=None, validate=validate.OneOf(STATES), **_about("Only the tasks in this state."))
    index = fields.String(
        load_default=None,
        validate=validate.Regexp(
            f"^{_SPAN}(,{_SPAN})*$", error="write places and ranges of places, for example 0-99,150"
        ),
        **_about("Only the tasks of these places in their stage, for example 0-99,150."),
    )

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> ChoiceQuery:
        return ChoiceQuery(**{**data, "only_failed": data.get("only_failed", "true") == "true"})


class NothingSchema(marshmallow.Schema):
    """Nothing is chosen here."""

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> ChoiceQuery:
        return ChoiceQuery(None, None, data.get("only_failed", "true") == "true")


_ONLY_FAILED = "false: what has completed or was skipped runs again too, and what runs is killed first."


class RetryQuerySchema(ChoiceQuerySchema):
    """Which tasks are meant."""

    only_failed = _switch("true", _ONLY_FAILED)


class RetryTaskQuerySchema(NothingSchema):
    """Whether a completed task is meant too."""

    only_failed = _switch("true", _ONLY_FAILED)


class AddQuerySchema(marshmallow.Schema):
    """How tasks are added."""

    paused = _switch("false", "true: they wait until they are resumed.")

    @marshmallow.post_load
    def record(self, data: dict[str, Any], **_: object) -> AddQuery:
        return AddQuery(data["paused"] == "true")


class EmptyBodySchema(marshmallow.Schema):
    """Nothing: which tasks are meant is said in the query."""


class GivenSchema(marshmallow.Schema):
    """What is given anew to a job that this opens again."""

    input = values_field(load_default=dict, **_about("Secret values, erased when the job ended."))
    tasks = fields.Dict(
        keys=fields.String(validate=validate.Regexp(_TASK_ID, error="is not the whole id of a task")),
        values=values_field(),
        load_default=dict,
        **_about("Secret values of single tasks, erased likewise: by the id of the task."),
    )


class TaskToRetrySchema(marshmallow.Schema):
    """A task to run again."""

    task_id = fields.String(
        required=True,
        validate=validate.Regexp(_TASK_ID, error="is not the whole id of a task"),
        **_about("Its id."),
    )
    etag = Text(100, load_default=None, allow_none=True, **_about("Only if the task still has this etag."))
    input = values_field(load_default=dict, **_about("Its own secret values, if they were erased when the job ended."))


# --- what goes out


class ChangedCountsSchema(marshmallow.Schema):
    """How much was changed."""

    jobs = number_field("Jobs that were changed themselves, and not only by their tasks.")
    stages = number_field("Stages likewise.")
    tasks = number_field("Tasks, spawn tasks among them.")


class LeftSchema(marshmallow.Schema):
    """What was not changed, and why."""

    reason = text_field("Why.")
    count = number_field("How many.")
    state = text_field("The state that they are in; null: it does not matter.", optional=True)


class ChangedSchema(marshmallow.Schema):
    """What a verb came to."""

    changed = fields.Nested(ChangedCountsSchema, required=True)
    unchanged = fields.List(fields.Nested(LeftSchema), required=True)


class ToldSchema(marshmallow.Schema):
    """What became of one task of the list."""

    task_id = fields.String(required=True, **_about("Its id, as it was sent."))
    changed = fields.Boolean(required=True, **_about("It runs again."))
    reason = text_field("Why it does not.", optional=True)
    state = text_field("The state that it was in; null: there is no such task.", optional=True)


class RetriedSchema(ChangedSchema):
    """What became of a list of tasks."""

    tasks = fields.List(fields.Nested(ToldSchema), required=True, **_about("Each of them, in the order of the list."))


class ChangedJobSchema(JobSchema, ChangedSchema):
    """A job as it is now, and what the verb came to."""


class ChangedStageSchema(StageSchema, ChangedSchema):
    """A stage as it is now, and what the verb came to."""


class ChangedTaskSchema(TaskSchema, ChangedSchema):
    """A task as it is now, and what the verb came to."""


class AddedSchema(marshmallow.Schema):
    """Tasks that were added."""

    task_ids = fields.List(fields.String(), required=True, **_about("Their ids, in the order of the request."))
    first_index = number_field("Place of the first one in its stage; the others follow.")


class WhySchema(marshmallow.Schema):
    """The one reason that holds something back now."""

    code = fields.String(required=True, validate=validate.OneOf([str(code) for code in Code]))
    sentence = text_field("The same for people.")
    stage = number_field("The stage that it is about; null: the job as a whole.", optional=True)
    task_id = text_field("The task that it is about, if it is about one.", optional=True)
    index = number_field("Its place in its stage; null for a spawn task.", optional=True)
    at = fields.String(
        required=True,
        allow_none=True,
        **_about("Since when (PAUSED); when it goes on (RETRY_AT).", format="date-time"),
    )
    by = text_field("Who has paused it (PAUSED).", optional=True)
    queue = text_field("Where it waits (NO_WORKER_FOR_QUEUE, ALL_SLOTS_BUSY).", optional=True)
    running = number_field("How many run (MAX_PARALLEL, ALL_SLOTS_BUSY).", optional=True)
    limit = number_field("How many may.", optional=True)
