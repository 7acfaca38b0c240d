"""Makes the records of the catalogue from the checked values of a file.

Takes incomplete values too: those that the schema has refused are absent, so that the other checks can go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from echelon.controller.catalogue.definitions import StageDefinition
from echelon.controller.catalogue.keys import ValueKind, keys_of
from echelon.controller.catalogue.kinds import Items, Named, Record
from echelon.controller.catalogue.task_classes import InputDefinition, InputSource, InputType
from echelon.controller.catalogue.values import InvalidValue, coerce_text
from echelon.shared.expressions import to_text
from echelon.shared.messages import JsonValue

Values = Mapping[str, Any]
Built = TypeVar("Built")


def build_record(record: type[Built], values: Values, *name: str) -> Built:
    """Return a record; `name` is the key under which it stands, where users choose that."""
    fields: dict[str, object] = {}
    known: type = record
    for one in keys_of(known).values():
        value = values.get(one.name, values.get(one.alias))
        if value is not None:
            fields[one.field] = one.make(_build_value(one.kind, value))
        elif one.required:
            fields[one.field] = () if isinstance(one.kind, Items) else ""
    if record in _COMPLETE:
        _COMPLETE[record](fields, values, *name)
    return record(*name, **fields)


def _build_value(kind: ValueKind, value: Any) -> object:
    if isinstance(kind, Record):
        return build_record(kind.record, value)
    if isinstance(kind, Items):
        return tuple(_build_value(kind.items, one) for one in value)
    if isinstance(kind, Named) and isinstance(kind.items, Record):
        record = kind.items.record
        return {
            name: build_record(record, one if isinstance(one, Mapping) else {}, name) for name, one in value.items()
        }
    return value


def _complete_input(fields: dict[str, Any], values: Values, name: str) -> None:
    kind = fields.get("type")
    fields.setdefault("key", name)
    fields.setdefault("secret", fields.get("source") is InputSource.HTTP_HEADER)
    fields["required"] = "default" not in values
    fields["default"] = _convert_value(kind, values.get("default"))
    if "enum" in fields:
        fields["enum"] = tuple(_convert_value(kind, one) for one in fields["enum"])


def _complete_stage(fields: dict[str, Any], values: Values) -> None:
    fields["name"] = fields.get("name") or fields["task_class"]


#: Fill in fields that depend on others.
_COMPLETE: dict[type, Callable[..., None]] = {InputDefinition: _complete_input, StageDefinition: _complete_stage}


def _convert_value(kind: InputType | None, value: JsonValue) -> JsonValue:
    """Return a value from the file as its declared type has it: `1.10` is a text for one and a number for another."""
    if kind is InputType.STRING and isinstance(value, int | float):
        return to_text(value)
    if kind not in (None, InputType.STRING, InputType.JSON) and isinstance(value, str):
        try:
            return coerce_text(InputDefinition("", type=kind), value)
        except InvalidValue:
            return value
    return value
