"""The shapes of the catalogue as the interface tells it."""

from __future__ import annotations

import marshmallow
from marshmallow import fields, validate

from echelon.controller.api.schemas import number_field, on_error_field, source_field, text_field
from echelon.controller.catalogue.task_classes import InputSource, InputType


class InputSchema(marshmallow.Schema):
    """An input of a job or a task class."""

    name = text_field("Its name.")
    description = text_field("What it is for.", optional=True)
    source = fields.String(required=True, validate=validate.OneOf([str(one) for one in InputSource]))
    key = text_field("Name of the header or the variable.")
    type = fields.String(required=True, allow_none=True, validate=validate.OneOf([str(one) for one in InputType]))
    required = fields.Boolean(required=True)
    secret = fields.Boolean(required=True)
    default = fields.Raw(allow_none=True, metadata={"description": "Only of an input that is not required."})
    enum = fields.List(fields.Raw(allow_none=True))
    pattern = fields.String()
    minimum = fields.Float()
    maximum = fields.Float()


class StageDefinitionSchema(marshmallow.Schema):
    """A stage as the catalogue has it."""

    number = number_field("Place in the job, from 0.")
    order = number_field("Stages of equal order run at the same time.")
    name = text_field("Its name.")
    task_class = text_field("What its tasks are.")
    spawn_task = text_field("Task class whose spawn.json makes the tasks.", optional=True)
    source = source_field()
    on_error = on_error_field()
    paused = fields.Boolean(required=True, metadata={"description": "It does not begin until it is resumed."})
    job_failed_on_error = fields.Boolean(required=True)
    fail_fast = fields.Boolean(required=True)
    max_parallel = number_field("At most so many of its tasks run at once.", optional=True)


class JobDefinitionSchema(marshmallow.Schema):
    """A job as the catalogue has it."""

    type = text_field("Its name.")
    name = text_field("Its title.", optional=True)
    description = text_field("What it does.", optional=True)
    input = fields.List(fields.Nested(InputSchema), required=True)
    stages = fields.List(fields.Nested(StageDefinitionSchema), required=True)


class TaskDefinitionSchema(marshmallow.Schema):
    """A task class as the catalogue has it."""

    task_class = text_field("Its name.")
    name = text_field("Its title.", optional=True)
    description = text_field("What it does.", optional=True)
    queue = text_field("Where its tasks wait.")
    timeout = fields.Float(required=True, allow_none=True, metadata={"description": "Seconds; null: no limit."})
    workdir = fields.String(required=True, validate=validate.OneOf(["job", "task"]))
    retry_limit = number_field("Additional attempts.")
    input = fields.List(fields.Nested(InputSchema), required=True)


class DefinitionsSchema(marshmallow.Schema):
    """The catalogue in force."""

    revision = text_field("Names this content of the catalogue.")
    tasks = fields.List(fields.Nested(TaskDefinitionSchema), required=True)
    jobs = fields.List(fields.Nested(JobDefinitionSchema), required=True)
