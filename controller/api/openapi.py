"""The part of the OpenAPI document that describes what goes out, made from `echelon.controller.shapes`."""

from __future__ import annotations

import functools
import re
from typing import Any

import msgspec

Schema = dict[str, Any]

_PREFIX = "#/components/schemas/"


@functools.cache
def describe_shape(shape: Any) -> tuple[Schema, dict[str, Schema]]:
    """Return a reference to the schema of a shape, and every schema that it needs by its name."""
    template = _PREFIX + "{name}"
    (made,), parts = msgspec.json.schema_components([shape], schema_hook=_any_value, ref_template=template)
    return _translate_schema(made), {_component_name(name): _translate_schema(one) for name, one in parts.items()}


def _any_value(_: type) -> Schema:
    return {"nullable": True}


def _component_name(name: str) -> str:
    """Return the name of a schema: a page of jobs is a JobPage."""
    return re.sub(r"PageOf_(\w+)_", r"\1Page", name)


def _translate_schema(schema: Schema) -> Schema:
    """Return a JSON Schema in the words of OpenAPI 3.0, which knows no type null."""
    made = {key: value for key, value in schema.items() if key not in ("title", "anyOf")}
    if kinds := [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]:
        # A value of one of several types is any JSON value.
        made |= {"nullable": True, **(kinds[0] if len(kinds) == 1 else {})}
    if "$ref" in made:
        made["$ref"] = _component_name(made["$ref"])
    if "enum" in made:
        made |= {"type": "string", "enum": [*made["enum"], *([None] if "nullable" in made else [])]}
    for key in {"items", "additionalProperties"} & made.keys():
        made[key] = _translate_schema(made[key])
    if "properties" in made:
        made["properties"] = {name: _translate_schema(one) for name, one in made["properties"].items()}
        made["additionalProperties"] = False
    return made
