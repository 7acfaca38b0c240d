"""The part of the OpenAPI document that describes what goes out, made from `echelon.controller.shapes`."""

from __future__ import annotations

import functools
import re
from typing import Any, get_args

import msgspec

from echelon.controller import shape_words

Schema = dict[str, Any]

PREFIX = "#/components/schemas/"
#: Words that no release of this version of the interface adds to: programs may know them all.
_CLOSED: dict[str, tuple[str, ...]] = {
    "JobState": get_args(shape_words.JobState),
    "TaskState": get_args(shape_words.TaskState),
}


@functools.cache
def describe_shape(shape: Any) -> tuple[Schema, dict[str, Schema]]:
    """Return a reference to the schema of a shape, and every schema that it needs by its name."""
    template = PREFIX + "{name}"
    (made,), parts = msgspec.json.schema_components([shape], schema_hook=_any_value, ref_template=template)
    components = {_component_name(name): _translate_schema(one) for name, one in parts.items()}
    text = str(components)
    for name, words in _CLOSED.items():
        if f"'{PREFIX}{name}'" in text:
            components[name] = {"type": "string", "enum": [*words]}
    return _translate_schema(made), components


def _any_value(_: type) -> Schema:
    return {"nullable": True}


def _component_name(name: str) -> str:
    """Return the name of a schema: a page of jobs is a JobPage."""
    return re.sub(r"PageOf_(\w+)_", r"\1Page", name)


def _translate_schema(schema: Schema) -> Schema:
    """Return a JSON Schema in the words of OpenAPI 3.0, which knows no type null. Objects are open for new fields."""
    made = {key: value for key, value in schema.items() if key not in ("title", "anyOf")}
    if kinds := [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]:
        made |= _translate_kinds(kinds)
        if len(kinds) < len(schema["anyOf"]):
            made["nullable"] = True
    if "$ref" in made:
        made["$ref"] = _component_name(made["$ref"])
    if "enum" in made:
        made |= _translate_words(made.pop("enum"), made)
    for key in {"items", "additionalProperties"} & made.keys():
        made[key] = _translate_schema(made[key])
    if "properties" in made:
        made["properties"] = {name: _translate_schema(one) for name, one in made["properties"].items()}
        made["additionalProperties"] = True
    return made


def _translate_kinds(kinds: list[Schema]) -> Schema:
    """Return the schema of a value that is one of several types."""
    if len(kinds) == 1:
        return kinds[0]
    # One that may be a list or an object is any JSON value.
    return {"anyOf": kinds} if all(one.get("type") not in ("array", "object") for one in kinds) else {"nullable": True}


def _translate_words(words: list[str | None], beside: Schema) -> Schema:
    """Return the schema of one of several words; those that may get company are text for generated programs."""
    known = set(words) - {None}
    for name, closed in _CLOSED.items():
        if known == set(closed):
            reference = {"$ref": PREFIX + name}
            # In OpenAPI 3.0 nothing can stand beside a reference.
            return {"allOf": [reference]} if beside else reference
    return {"type": "string", "x-extensible-enum": sorted(known)}
