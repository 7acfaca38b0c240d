"""Keys of the catalogue: fields of a record, each with the kind of its value and its description, written once.

A record (a dataclass of `definitions`) says of each field how people write it: `described(...)`. The parser, the JSON
Schema, the lists of known keys, the body of composed jobs and the reference page are all made from these descriptions.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validates_schema

from echelon.controller.catalogue.mistakes import MAX_REPORTED, Complaint
from echelon.shared.expressions import suggest_name

Shape = dict[str, object]
NOT_A_MAPPING = Complaint("must be a mapping", "write `key: value` below it")


@dataclasses.dataclass(frozen=True)
class Dialect:
    """The differences between the two JSON Schemas that describe a key."""

    #: Types of a text: YAML takes a number or a boolean as it is written.
    text: object
    #: All of JSON Schema 2020-12, not only what OpenAPI 3.0 takes of it.
    full: bool
    #: Returns the shape of a record, or a reference to it.
    refer: Callable[[type], Shape]


class ValueKind(fields.Field[Any]):
    """A kind of value that a key can have."""

    default_error_messages = {
        "required": Complaint("is missing"),
        "null": Complaint("is empty", "write a value, or leave the key out"),
    }
    #: A number or a boolean that is written without quotes is text.
    textual: ClassVar[bool] = False

    @property
    def single(self) -> ValueKind:
        """Return the kind of a single value, within a list or a mapping."""
        return self

    def describe_shape(self, dialect: Dialect) -> Shape:
        """Return its JSON Schema."""
        return {}


@dataclasses.dataclass(frozen=True)
class Key:
    """How people write a field of a record."""

    kind: ValueKind
    #: For the reference page and for editors, in Markdown.
    description: str
    _: dataclasses.KW_ONLY
    #: In the file; empty: as the field.
    name: str = ""
    #: Another name in the file.
    alias: str = ""
    #: For the reference page, where the record's own default does not say it.
    usual: str = ""
    #: Makes the field's value of the key's, for a field that several keys can fill.
    make: Callable[[Any], object] = lambda value: value
    required: bool = False
    #: Name of the field, known from the record.
    field: str = ""


def described(
    kind: ValueKind,
    description: str,
    default: Any = dataclasses.MISSING,
    *,
    factory: Any = dataclasses.MISSING,
    **more: Any,
) -> Any:
    """Return a field of a record that people write under a key; `more` is for the key."""
    given = {"default": default, "default_factory": factory}
    given = {name: value for name, value in given.items() if value is not dataclasses.MISSING}
    one = Key(kind, description, required=not given and "usual" not in more, **more)
    return described_by(one, **given)


def described_by(*keys: Key, **default: Any) -> Any:
    """Return a field of a record that several keys can fill."""
    return dataclasses.field(**default, metadata={"keys": keys})


def one_of(record: type) -> tuple[str, ...]:
    """Return the keys of which each record of this type has exactly one; empty: there are none such."""
    choice: tuple[str, ...] = getattr(record, "ONE_OF", ())
    return choice


@cache
def keys_of(record: type) -> Mapping[str, Key]:
    """Return the keys that people can write for a record, its own before those of its base."""
    own = vars(record)["__annotations__"]
    fields = sorted(dataclasses.fields(record), key=lambda field: field.name not in own)
    found = [
        dataclasses.replace(one, name=one.name or field.name, field=field.name)
        for field in fields
        for one in field.metadata.get("keys", ())
    ]
    return {one.name: one for one in found}


def walk_keys(record: type) -> Iterator[Key]:
    """Yield the keys of a record and of all records within it."""
    for one in keys_of(record).values():
        yield one
        inner = getattr(one.kind.single, "record", None)
        if inner is not None:
            yield from walk_keys(inner)


class RecordSchema(Schema):
    """The shape of a record. Refuses keys that it does not know, with the one that was meant."""

    error_messages = {"type": NOT_A_MAPPING}
    record: ClassVar[type]

    class Meta:
        unknown = EXCLUDE

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def refuse_unknown_keys(self, data: object, original: object, **kwargs: Any) -> None:
        """Raise ValidationError with every unknown key."""
        if not isinstance(original, Mapping):
            return
        ignored = getattr(self.record, "IGNORED", None)
        unknown = [one for one in original if one not in self.fields and not (ignored and one.startswith(ignored))]
        if unknown:
            missing, told = self._find_missing(original), unknown[: MAX_REPORTED + 1]
            raise ValidationError({one: [unknown_key(one, self.fields, missing)] for one in told})

    def _find_missing(self, original: Mapping[str, object]) -> list[str]:
        missing = [one for one, field in self.fields.items() if field.required and one not in original]
        choice = one_of(self.record)
        return missing if any(one in original for one in choice) else [*choice, *missing]

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def refuse_none_or_several(self, data: object, original: object, **kwargs: Any) -> None:
        """Raise ValidationError unless exactly one of the keys is given of which each record has one."""
        choice = one_of(self.record)
        if not choice or not isinstance(original, Mapping):
            return
        given = [one for one in choice if one in original]
        if not given:
            raise ValidationError(Complaint("is missing", f"write {' or '.join(choice)}"), choice[0])
        if len(given) > 1:
            raise ValidationError(Complaint(f"stands beside {given[0]}", "leave one of them out"), given[1])

    def handle_error(self, error: ValidationError, data: object, **kwargs: Any) -> None:
        """Say of a key under a wrong name nothing but that: the right one is not missing beside it."""
        if not isinstance(data, Mapping) or not isinstance(error.messages, dict):
            return
        remedies = {getattr(one, "remedy", None) for found in error.messages.values() for one in found}
        meant = {name for name in self._find_missing(data) if f"did you mean {name}?" in remedies}
        choice = one_of(self.record)
        for name in meant.union(choice) if meant.intersection(choice) else meant:
            error.messages.pop(name, None)

    @validates_schema(skip_on_field_errors=False)
    def refuse_both_spellings(self, data: Mapping[str, object], **kwargs: Any) -> None:
        """Raise ValidationError when a key is given under both of its names."""
        for one in keys_of(self.record).values():
            if one.name in data and one.alias in data:
                complaint = Complaint(f"is another spelling of {one.name}", "leave one of them out")
                raise ValidationError(complaint, one.alias)


def unknown_key(name: str, known: Mapping[str, object], missing: Sequence[str] = ()) -> Complaint:
    """Return what is wrong with a key that is not known; a missing key that begins with it is the best guess."""
    guess = next((one for one in missing if one.startswith(f"{name}_")), None) or suggest_name(name, known)
    return Complaint("unknown key", f"did you mean {guess}?" if guess else f"known are {', '.join(known)}")


@cache
def schema_of(record: type) -> type[RecordSchema]:
    """Return the marshmallow schema of a record."""
    members: dict[str, object] = {"record": record}
    for name, one in keys_of(record).items():
        kind = copy.copy(one.kind)
        kind.required = one.required
        members[name] = kind
        if one.alias:
            members[one.alias] = copy.copy(kind)
    return type(f"{record.__name__}Schema", (RecordSchema,), members)


def describe_record(record: type, dialect: Dialect) -> Shape:
    """Return the JSON Schema of a record."""
    properties: dict[str, Shape] = {}
    for name, one in keys_of(record).items():
        shape = one.kind.describe_shape(dialect)
        if one.kind.allow_none and shape and dialect.full:
            shape = {"anyOf": [shape, {"type": "null"}]}
        if "$ref" in shape and not dialect.full:
            # In OpenAPI 3.0 nothing can stand beside a reference.
            shape = {"allOf": [shape]}
        properties[name] = {**shape, "description": one.description}
        if one.alias:
            properties[one.alias] = {**shape, "description": f"Another spelling of {name}."}
    required = [name for name, one in keys_of(record).items() if one.required]
    shape = {"type": "object", "properties": properties, "additionalProperties": False}
    shape["description"] = (record.__doc__ or "").strip().split("\n")[0]
    if choice := one_of(record):
        shape["oneOf"] = [{"required": [one]} for one in choice]
    return {**shape, "required": required} if required else shape
