"""The shape of a catalogue file as marshmallow schemas. What one value means for another is for `checks`.

The JSON Schema for editors is made from the same (`jsonschema`), so every key has its description here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validates_schema

from echelon.controller.catalogue.definitions import DEFAULT_GRACE, DEFAULT_QUEUE, Retry
from echelon.controller.catalogue.fields import Amount, Anything, Duration, Flag, Messages, Text, Word
from echelon.controller.catalogue.mistakes import MAX_REPORTED, Complaint
from echelon.shared.expressions import suggestion

#: Names of inputs: what a placeholder can hold.
INPUT_NAME = r"[A-Za-z_][A-Za-z0-9_.-]*"
#: Names of tasks and jobs: they stand in addresses and on command lines.
DEFINITION_NAME = r"[^\s/\x00-\x20\x7f-][^/\x00-\x1f\x7f]*"
QUEUE_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
VARIABLE_NAME = r"[^=\x00]+"

_NOT_A_MAPPING = Complaint("must be a mapping", "write `key: value` below it")
_MAPPING: Messages = {"invalid": _NOT_A_MAPPING, "null": _NOT_A_MAPPING, "required": Complaint("is missing")}
_LIST: Messages = {
    "invalid": Complaint("must be a list", "write `- ` before each item"),
    "required": Complaint("is missing"),
}


class _Strict(Schema):
    """Refuses keys that it does not know, with the one that was meant."""

    error_messages = {"type": _NOT_A_MAPPING}

    class Meta:
        unknown = EXCLUDE

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def refuse_unknown_keys(self, data: object, original: object, **kwargs: Any) -> None:
        """Raise ValidationError with every unknown key."""
        if not isinstance(original, Mapping):
            return
        unknown = [key for key in original if key not in self.fields and not self.ignores(key)]
        complaints = {key: [self._unknown(key)] for key in unknown[: MAX_REPORTED + 1]}
        if complaints:
            raise ValidationError(complaints)

    def ignores(self, key: str) -> bool:
        """Tell whether an unknown key is fine."""
        return False

    def _unknown(self, key: str) -> Complaint:
        guess = suggestion(key, self.fields)
        return Complaint("unknown key", f"did you mean {guess}?" if guess else f"known are {', '.join(self.fields)}")


class InputSchema(_Strict):
    """An input of a task or of a job."""

    description = Text(metadata={"description": "What the value is, for people."})
    source = Word(
        "parameter",
        "environment",
        "http-header",
        metadata={
            "description": "Where the value comes from: a parameter of the job or an entry of spawn.json; the "
            "environment of the worker (tasks only); a header of the request (jobs only). Default: parameter."
        },
    )
    source_type = Word(
        "parameter", "environment", "http-header", metadata={"description": "Another spelling of source."}
    )
    key = Text(
        form=r"[^\s:=\x00]+",
        saying="write the name of a header or of a variable",
        metadata={"description": "Name of the header or of the variable. Default: the input's own name."},
    )
    default = Anything(
        allow_none=True, metadata={"description": "Value when none is given. Without it the input is required."}
    )
    type = Word(
        "string",
        "integer",
        "number",
        "boolean",
        "json",
        metadata={"description": "What the value must be. Default: text, a number or a boolean."},
    )
    enum = fields.List(Anything(), error_messages=_LIST, metadata={"description": "The only values that are accepted."})
    pattern = Text(
        longest=1000, metadata={"description": "Regular expression (Python's) that the whole value matches."}
    )
    minimum = Amount(metadata={"description": "Least number."})
    maximum = Amount(metadata={"description": "Greatest number."})
    secret = Flag(metadata={"description": "Hide the value everywhere. Default: true for headers, false for the rest."})
    allow_leading_dash = Flag(
        load_default=False,
        metadata={"description": "Accept a value that begins an argument with '-' and may thus be read as an option."},
    )

    @validates_schema(skip_on_field_errors=False)
    def refuse_both_spellings(self, data: Mapping[str, object], **kwargs: Any) -> None:
        """Raise ValidationError when source is given twice."""
        if "source" in data and "source_type" in data:
            raise ValidationError(Complaint("is another spelling of source", "leave one of them out"), "source_type")


class RetrySchema(_Strict):
    """How often a failed attempt is followed by another, and when."""

    error_messages = {"type": Complaint("must be a mapping", "write for example `retry: {limit: 2}`")}

    limit = Amount(
        whole=True, least=0, most=1000, load_default=Retry().limit, metadata={"description": "Additional attempts."}
    )
    delay = Duration(load_default=Retry().delay, metadata={"description": "Wait before the first of them."})
    factor = Amount(
        least=1,
        most=1000,
        load_default=Retry().factor,
        metadata={"description": "Each wait is so many times as long as the one before."},
    )
    max_delay = Duration(load_default=Retry().max_delay, metadata={"description": "Longest wait."})


def _inputs(description: str) -> fields.Dict:
    return fields.Dict(
        keys=Text(form=INPUT_NAME, saying="letters, digits, _ . and -, a letter or _ first", longest=100),
        values=fields.Nested(InputSchema, allow_none=True),
        allow_none=True,
        error_messages=_MAPPING,
        metadata={"description": description},
    )


class TaskSchema(_Strict):
    """What a task does."""

    name = Text(longest=200, allow_none=True, metadata={"description": "Title for people."})
    description = Text(allow_none=True, metadata={"description": "What the task does, for people."})
    input = _inputs("What the task takes; each name can stand as {name} in the command, its arguments and variables.")
    exec_command = Text(
        form=r"[\s\S]+",
        saying="write a command",
        required=True,
        metadata={"description": "The program to run; no shell."},
    )
    exec_args = fields.List(
        Text(),
        allow_none=True,
        error_messages=_LIST,
        metadata={"description": "Its arguments, one item each. {name} is filled in; \\{ is a literal brace."},
    )
    env = fields.Dict(
        keys=Text(form=VARIABLE_NAME, saying="write the name of a variable", longest=200),
        values=Text(),
        allow_none=True,
        error_messages=_MAPPING,
        metadata={"description": "Environment variables; {name} is filled in."},
    )
    queue = Text(
        form=QUEUE_NAME,
        saying="letters, digits, _ . and -",
        longest=64,
        load_default=DEFAULT_QUEUE,
        metadata={"description": "Queue that workers subscribe to."},
    )
    timeout = Duration(positive=True, metadata={"description": "Longest run of one attempt, such as 10m."})
    grace = Duration(
        load_default=DEFAULT_GRACE, metadata={"description": "Time between SIGTERM and SIGKILL. Default: 5s."}
    )
    retry = fields.Nested(RetrySchema, metadata={"description": "What follows a failed attempt. Default: nothing."})
    workdir = Word(
        "job",
        "task",
        load_default="job",
        metadata={
            "description": "job: the job's workspace. task: a directory of the attempt, published when it counts."
        },
    )


class StageSchema(_Strict):
    """A step of a job: tasks of one class."""

    name = Text(longest=200, metadata={"description": "Title for people. Default: the task class."})
    task_class = Text(required=True, metadata={"description": "The task that the stage runs."})
    spawn_task = Text(
        metadata={"description": "A task that runs first and leaves spawn.json: one task of the stage per entry."}
    )
    job_failed_on_error = Flag(
        load_default=True, metadata={"description": "A task that failed for good fails the job. Default: true."}
    )
    fail_fast = Flag(
        load_default=False, metadata={"description": "When it does, stop its running siblings too. Default: false."}
    )
    max_parallel = Amount(
        whole=True, least=1, most=1_000_000, metadata={"description": "At most so many of its tasks run at once."}
    )
    order = Amount(
        whole=True,
        least=-1_000_000,
        most=1_000_000,
        metadata={"description": "Stages of equal order run at the same time. Default: its place, from 0."},
    )
    on_error = Word(
        "block",
        metadata={"description": "block: after a failure its siblings go on, then the job waits for a person."},
    )
    tasks = Word("open", metadata={"description": "open: no tasks but those that are added while the job lives."})
    paused = Flag(load_default=False, metadata={"description": "Does not begin until it is resumed. Default: false."})


class JobSchema(_Strict):
    """What a job takes and which stages it has."""

    name = Text(longest=200, allow_none=True, metadata={"description": "Title for people."})
    description = Text(allow_none=True, metadata={"description": "What the job does, for people."})
    input = _inputs("What the job takes; its tasks take from it by name.")
    stages = fields.List(
        fields.Nested(StageSchema),
        required=True,
        allow_none=True,
        error_messages=_LIST,
        metadata={"description": "Its stages, one after the other.", "min_items": 1},
    )


def _definitions(schema: type[Schema], description: str) -> fields.Dict:
    return fields.Dict(
        keys=Text(form=DEFINITION_NAME, saying="no / and no control characters, no - or space first", longest=100),
        values=fields.Nested(schema),
        allow_none=True,
        error_messages=_MAPPING,
        metadata={"description": description},
    )


class CatalogueSchema(_Strict):
    """A catalogue of tasks and jobs for Echelon. Keys that begin with x- are ignored."""

    tasks = _definitions(TaskSchema, "The task classes.")
    jobs = _definitions(JobSchema, "The jobs.")

    def ignores(self, key: str) -> bool:
        """Tell whether an unknown key is fine: a place for anchors."""
        return key.startswith("x-")
