"""The kinds of values in a catalogue: marshmallow fields with their complaints and their JSON Schema."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields

from echelon.controller.catalogue.keys import NOT_A_MAPPING, Dialect, Shape, ValueKind, schema_of
from echelon.controller.catalogue.mistakes import Complaint
from echelon.shared.expressions import suggest_name, to_text

#: Longest length of time: a year.
MAX_SECONDS = 366 * 86400.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class TextValue(ValueKind):
    """Text, optionally of a given form."""

    textual = True

    def __init__(self, *, form: str | None = None, saying: str = "", longest: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._form, self._saying, self._longest = form, saying, longest

    def describe_shape(self, dialect: Dialect) -> Shape:
        """Return its JSON Schema."""
        shape: Shape = {"type": dialect.text}
        if self._form is not None:
            shape["pattern"] = f"^(?:{self._form})$"
        if self._longest is not None:
            shape["maxLength"] = self._longest
        return shape

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError(Complaint("must be text"))
        if "\0" in value:
            raise ValidationError(Complaint("holds a NUL character"))
        if self._longest is not None and len(value) > self._longest:
            raise ValidationError(Complaint(f"is longer than {self._longest} characters"))
        if self._form is not None and re.fullmatch(self._form, value) is None:
            raise ValidationError(Complaint(f"{value[:60]!r} cannot be used", self._saying))
        return value


class Argument(TextValue):
    """A text with placeholders, read as it is written, whatever YAML makes of its braces and numbers."""


class Word(ValueKind):
    """One of some words, each with the value that it stands for."""

    textual = True

    def __init__(self, words: Mapping[str, object], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._words = words

    def describe_shape(self, dialect: Dialect) -> Shape:
        """Return its JSON Schema."""
        shape: Shape = {"enum": list(self._words)}
        return shape if dialect.full else {"type": "string", **shape}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> object:
        if isinstance(value, str) and value in self._words:
            return self._words[value]
        guess = suggest_name(value, self._words) if isinstance(value, str) else None
        remedy = f"did you mean {guess}?" if guess else "write " + " or ".join(self._words)
        raise ValidationError(Complaint(f"{_show_value(value)} is not one of {', '.join(self._words)}", remedy))


class Duration(ValueKind):
    """A length of time, as seconds."""

    def __init__(self, *, positive: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._positive = positive

    def describe_shape(self, dialect: Dialect) -> Shape:
        """Return its JSON Schema."""
        written = {"type": "string", "pattern": f"^(?:{_DURATION.pattern})$"}
        return {"anyOf": [{"type": "number", "minimum": 0}, written]}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> float:
        seconds = parse_duration(value)
        if seconds is None:
            raise ValidationError(
                Complaint(f"{_show_value(value)} is not a length of time", "write for example 90, 10m or 1h30m")
            )
        if seconds > MAX_SECONDS:
            raise ValidationError(Complaint(f"{_show_value(value)} is longer than a year"))
        if self._positive and seconds == 0:
            raise ValidationError(Complaint("must be more than 0", "leave it out for no limit"))
        return seconds


def parse_duration(value: object) -> float | None:
    """Return a length of time in seconds, given as a number or like `10m`, `5s`, `1h30m`; None when it is neither."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) and value >= 0 else None
    if not isinstance(value, str) or len(value) > 40:
        return None
    text = value.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    if _DURATION.fullmatch(text) is None or not text.isascii():
        return None
    return math.fsum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))


class Flag(ValueKind):
    """True or false."""

    _words = {"yes": True, "no": False, "on": True, "off": False, "true": True, "false": False}

    def describe_shape(self, dialect: Dialect) -> Shape:
        """Return its JSON Schema."""
        return {"enum": [True, False, "yes", "no", "on", "off"]} if dialect.full else {"type": "boolean"}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.casefold() in self._words:
            return self._words[value.casefold()]
        raise ValidationError(Complaint(f"{_show_value(value)} is neither true nor false", "write true or false"))


class Amount(ValueKind):
    """A number within limits; a whole one when `whole`."""

    def __init__(
        self, *, whole: bool = False, least: float | None = None, most: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._whole, self._least, self._most = whole, least, most

    def describe_shape(self, dialect: Dialect) -> Shape:
        """Return its JSON Schema."""
        shape: Shape = {"type": "integer" if self._whole else "number"}
        if self._least is not None:
            shape["minimum"] = self._least
        if self._most is not None:
            shape["maximum"] = self._most
        return shape

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> float:
        kind = "a whole number" if self._whole else "a number"
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValidationError(Complaint(f"{_show_value(value)} is not {kind}"))
        if self._whole and value != int(value):
            raise ValidationError(Complaint(f"{_show_value(value)} is not {kind}"))
        if self._least is not None and value < self._least:
            raise ValidationError(Complaint(f"{_show_value(value)} is less than {to_text(self._least)}"))
        if self._most is not None and value > self._most:
            raise ValidationError(Complaint(f"{_show_value(value)} is more than {to_text(self._most)}"))
        return int(value) if self._whole else value


class Bound(Amount):
    """A number of things, or a share of all: a whole number of percent."""

    _share = r"(?:100|[1-9]?[0-9])%"

    def __init__(self, *, most: float, **kwargs: Any) -> None:
        super().__init__(whole=True, least=0, most=most, **kwargs)

    def describe_shape(self, dialect: Dialect) -> Shape:
        """Return its JSON Schema."""
        share = {"type": "string", "pattern": f"^(?:{self._share})$"}
        return {"anyOf": [super().describe_shape(dialect), share]}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, str):
            return super()._deserialize(value, attr, data, **kwargs)
        if re.fullmatch(self._share, value):
            return value
        raise ValidationError(
            Complaint(f"{_show_value(value)} is neither a number nor a share", "write for example 5 or 5%")
        )


class Anything(ValueKind):
    """Any value, read as its input's type says; what it must be depends on what stands beside it."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        return value


class Items(fields.List[Any], ValueKind):
    """A list."""

    default_error_messages = {"invalid": Complaint("must be a list", "write `- ` before each item")}

    def __init__(self, inner: ValueKind, *, least: int = 0, **kwargs: Any) -> None:
        super().__init__(inner, **kwargs)
        self.items: ValueKind = inner
        self._least = least

    @property
    def single(self) -> ValueKind:
        """Return the kind of a single value."""
        return self.items

    def describe_shape(self, dialect: Dialect) -> Shape:
        """Return its JSON Schema."""
        shape: Shape = {"type": "array", "items": self.items.describe_shape(dialect)}
        return {**shape, "minItems": self._least} if self._least else shape


class Record(fields.Nested, ValueKind):
    """A mapping whose keys are those of a record."""

    def __init__(self, record: type, *, example: str = "", **kwargs: Any) -> None:
        schema = schema_of(record)()
        if example:
            schema.error_messages = {"type": Complaint("must be a mapping", f"write for example `{example}`")}
        super().__init__(schema, **kwargs)
        self.record = record

    def describe_shape(self, dialect: Dialect) -> Shape:
        """Return its JSON Schema."""
        shape = dialect.refer(self.record)
        return {"anyOf": [shape, {"type": "null"}]} if self.allow_none and dialect.full else shape


class Named(fields.Dict, ValueKind):
    """A mapping whose keys are names that users choose."""

    default_error_messages = {"invalid": NOT_A_MAPPING, "null": NOT_A_MAPPING}

    def __init__(self, names: TextValue, inner: ValueKind, **kwargs: Any) -> None:
        super().__init__(names, inner, **kwargs)
        self.names: TextValue = names
        self.items: ValueKind = inner

    @property
    def single(self) -> ValueKind:
        """Return the kind of a single value."""
        return self.items

    def describe_shape(self, dialect: Dialect) -> Shape:
        """Return its JSON Schema."""
        shape: Shape = {"type": "object", "additionalProperties": self.items.describe_shape(dialect)}
        names = {key: value for key, value in self.names.describe_shape(dialect).items() if key != "type"}
        return {**shape, "propertyNames": names} if dialect.full else shape


def _show_value(value: object) -> str:
    text = value if isinstance(value, str) else to_text(value)
    return repr(text if len(text) <= 60 else text[:60] + "...") if isinstance(value, str) else text[:60]
