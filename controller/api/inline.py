"""The body of POST /jobs: a job of the catalogue by its type, or one that is composed in the request.

What the stages of a composed job may hold is decided by the catalogue (`echelon.controller.catalogue.inline`), with a
pointer to each mistake; the OpenAPI document describes it for programs.
"""

from __future__ import annotations

from typing import Any

import marshmallow
from marshmallow import fields, validate

from echelon.controller.api.schemas import Text, values_field

_TEXT = {"type": "string"}
_INPUT = {"type": "object", "description": "Its input values."}
_PAUSED = {"type": "boolean", "description": "It is not started until it is resumed."}
_BY_CLASS = {
    "type": "object",
    "description": "A task of a class of the catalogue.",
    "properties": {"task_class": _TEXT, "input": _INPUT, "paused": _PAUSED},
    "required": ["task_class"],
}
_BY_COMMAND = {
    "type": "object",
    "description": "A command of the request's own; only where the controller allows it (allow_inline_commands).",
    "properties": {
        "exec_command": _TEXT,
        "exec_args": {"type": "array", "items": _TEXT},
        "env": {"type": "object"},
        "queue": _TEXT,
        "timeout": {},
        "grace": {},
        "retry": {"type": "object"},
        "workdir": {"type": "string", "enum": ["job", "task"]},
        "paused": _PAUSED,
    },
    "required": ["exec_command"],
}
_STAGE = {
    "type": "object",
    "description": "A stage; beside its tasks it holds what a stage of a catalogue does.",
    "properties": {
        "name": _TEXT,
        "order": {"type": "integer", "description": "Stages of equal order run at the same time."},
        "tasks": {
            "oneOf": [
                {"type": "array", "items": {"oneOf": [_BY_CLASS, _BY_COMMAND]}},
                {"type": "string", "enum": ["open"]},
            ]
        },
        "task_class": _TEXT,
        "spawn_task": _TEXT,
        "on_error": _TEXT,
        "job_failed_on_error": {"type": "boolean"},
        "fail_fast": {"type": "boolean"},
        "max_parallel": {"type": "integer", "minimum": 1},
        "paused": _PAUSED,
    },
}


def _about(text: str, **more: object) -> dict[str, Any]:
    return {"metadata": {"description": text, **more}}


class Truth(fields.Boolean):
    """True or false; the many texts and numbers that could be meant so are refused."""

    def _deserialize(self, value: object, *_: object, **__: object) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class SubmissionSchema(marshmallow.Schema):
    """A job to run: `type` and `input` for one of the catalogue, `name` and `stages` for one that is composed here."""

    type = fields.String(validate=validate.Length(min=1, max=200), **_about("Name of a job of the catalogue."))
    input = values_field(load_default=dict, **_about("Values of the job's inputs of source parameter."))
    name = Text(200, **_about("What the job that is composed here is called."))
    stages = fields.List(
        fields.Raw(), **_about("The stages of a job that is in no catalogue.", items=_STAGE, minItems=1)
    )
    paused = Truth(load_default=False, **_about("Accepted, but not begun until it is resumed."))

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
