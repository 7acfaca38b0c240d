"""The body of POST /jobs: a job of the catalogue by its type, or one that is composed in the request.

The catalogue checks the stages of a composed job (`catalogue.inline`) and gives a pointer to each mistake. The OpenAPI
document describes them with the keys of the catalogue.
"""

from __future__ import annotations

from typing import Any

import marshmallow
from marshmallow import fields, validate

from echelon.controller.api.openapi import PREFIX
from echelon.controller.api.schemas import PriorityField, TextField, describe_field, values_field
from echelon.controller.catalogue.definitions import StageDefinition, TaskDefinition
from echelon.controller.catalogue.keys import Dialect, Shape, describe_record
from echelon.controller.catalogue.task_classes import InlineCommand

#: Schemas of what stands in a composed job, by name.
COMPONENTS: dict[str, Shape] = {}


def _refer_to(record: type) -> Shape:
    """Return a reference to the schema of a record, and see that it is there."""
    name = _NAMES.get(record, record.__name__)
    if name not in COMPONENTS:
        COMPONENTS[name] = describe_record(record, _DIALECT)
    return {"$ref": PREFIX + name}


_NAMES = {StageDefinition: "ComposedStage", TaskDefinition: "ListedTask"}
#: A request is no YAML, where a number can stand for a text.
_DIALECT = Dialect(text="string", full=False, refer=_refer_to)


def _describe_stage() -> Shape:
    """Return a reference to the JSON Schema of a stage: a catalogue's, but that its tasks can be listed."""
    reference = _refer_to(StageDefinition)
    stage: dict[str, Any] = COMPONENTS["ComposedStage"]
    del stage["required"]
    task = {"anyOf": [_refer_to(TaskDefinition), _refer_to(InlineCommand)]}
    tasks = {"anyOf": [{"type": "array", "items": task}, {"type": "string", "enum": ["open"]}]}
    stage["properties"]["tasks"] = {**tasks, "description": "Its tasks, or `open`: tasks are added later."}
    return reference


class TrueOrFalse(fields.Boolean):
    """True or false; the many texts and numbers that could be meant so are refused."""

    def _deserialize(self, value: object, *_: object, **__: object) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class SubmissionSchema(marshmallow.Schema):
    """A job to run: `type` and `input` for one of the catalogue, `name` and `stages` for one that is composed here."""

    type = fields.String(validate=validate.Length(min=1, max=200), **describe_field("Name of a job of the catalogue."))
    input = values_field(load_default=dict, **describe_field("Values of the job's inputs of source parameter."))
    name = TextField(200, **describe_field("What the job that is composed here is called."))
    stages = fields.List(
        fields.Raw(metadata={"allOf": [_describe_stage()]}),
        **describe_field("The stages of a job that is in no catalogue.", minItems=1),
    )
    paused = TrueOrFalse(load_default=False, **describe_field("Accepted, but not begun until it is resumed."))
    priority = PriorityField(
        load_default=None,
        **describe_field("From 0 to 9, higher first; else the catalogue's. That of a task class stands over it."),
    )

    @marshmallow.validates_schema
    def one_of_both(self, data: dict[str, Any], **_: object) -> None:
        """Refuse what is neither, and what is both."""
        if "stages" not in data and "name" not in data:
            if "type" not in data:
                raise marshmallow.ValidationError("is missing; or compose a job with name and stages", "type")
            return
        for name in ("name", "stages"):
            if name not in data:
                raise marshmallow.ValidationError("Missing data for required field.", name)
        for name in ("type", "input"):
            if data.get(name):
                raise marshmallow.ValidationError("means nothing for a job whose stages stand here", name)
