"""The JSON Schema of a catalogue file, made from the marshmallow schema, for editors."""

from __future__ import annotations

from marshmallow import Schema, fields

from echelon.controller.catalogue.schema import CatalogueSchema

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Shape = dict[str, object]


def json_schema() -> Shape:
    """Return the JSON Schema of a catalogue file."""
    definitions: dict[str, Shape] = {}
    top = _of_schema(CatalogueSchema(), definitions)
    return {"$schema": DIALECT, "title": "Echelon catalogue", **top, "$defs": definitions}


def _of_schema(schema: Schema, definitions: dict[str, Shape]) -> Shape:
    shape: Shape = {
        "type": "object",
        "properties": {name: _of_field(field, definitions) for name, field in schema.fields.items()},
        "additionalProperties": False,
    }
    if schema.__doc__:
        shape["description"] = schema.__doc__.strip().split("\n")[0]
    required = [name for name, field in schema.fields.items() if field.required]
    if required:
        shape["required"] = required
    if isinstance(schema, CatalogueSchema):
        shape["patternProperties"] = {"^x-": {}}
    return shape


def _of_field(field: fields.Field[object], definitions: dict[str, Shape]) -> Shape:
    shape = _shape(field, definitions)
    if field.allow_none and shape:
        shape = {"anyOf": [shape, {"type": "null"}]}
    description = field.metadata.get("description")
    return {**shape, "description": description} if description else shape


def _shape(field: fields.Field[object], definitions: dict[str, Shape]) -> Shape:
    if isinstance(field, fields.Nested):
        return _reference(field.schema, definitions)
    if isinstance(field, fields.List):
        items: Shape = {"type": "array", "items": _of_field(field.inner, definitions)}
        return {**items, "minItems": field.metadata["min_items"]} if "min_items" in field.metadata else items
    if isinstance(field, fields.Dict):
        shape: Shape = {"type": "object"}
        if field.value_field is not None:
            shape["additionalProperties"] = _of_field(field.value_field, definitions)
        names = getattr(field.key_field, "shape", {})
        shape["propertyNames"] = {key: value for key, value in names.items() if key != "type"}
        return shape
    return dict(getattr(field, "shape", {}))


def _reference(schema: Schema, definitions: dict[str, Shape]) -> Shape:
    name = type(schema).__name__.removesuffix("Schema").lower()
    if name not in definitions:
        definitions[name] = _of_schema(schema, definitions)
    return {"$ref": f"#/$defs/{name}"}
