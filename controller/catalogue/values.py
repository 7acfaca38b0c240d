"""One value against one definition: its type, its limits, what no process can be given. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NoReturn

import msgspec

from echelon.controller.catalogue.patterns import UnusablePattern, matches_pattern
from echelon.controller.catalogue.task_classes import InputDefinition, InputType
from echelon.shared.errors import InvalidInput
from echelon.shared.expressions import is_number, to_text
from echelon.shared.messages import JsonValue

#: Longest value in bytes. Well below the 128 KiB that the kernel takes as one argument.
MAX_VALUE = 64 * 1024
#: Longest value that is matched with a pattern, in characters: what a pattern costs grows with the length.
MAX_MATCHED = 1024
#: Deepest value of type json.
MAX_DEPTH = 32
#: Integers beyond this many bits do not survive JSON everywhere.
INTEGERS = range(-(1 << 63), 1 << 63)

#: Control characters but for tab and line ends, and halves of surrogate pairs.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})


class InvalidValue(InvalidInput):
    """The value does not fit the input."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def check_value(definition: InputDefinition, value: object, *, leading: bool = False) -> JsonValue:
    """Return a value as the input takes it; raise InvalidValue when it does not fit.

    `leading` says that the value would begin an argument, where one with a dash would be read as an option.
    """
    if type(value) is str and definition.type is None and definition.enum is None and definition.pattern is None:
        # By far the most common, and a fan-out has hundreds of thousands of them.
        if leading and value[:1] == "-" and not definition.allow_leading_dash:
            _check_dash(value)
        return _check_text(value)
    fitting = _check_type(definition, value)
    _check_choice(definition, fitting)
    _check_range(definition, fitting)
    if definition.pattern is not None:
        _check_pattern(definition, definition.pattern, to_text(fitting))
    if leading and not definition.allow_leading_dash:
        _check_dash(fitting)
    return fitting


def coerce_text(definition: InputDefinition, text: str) -> JsonValue:
    """Return what a text means where only texts can be given (headers, variables, command lines).

    Raises InvalidValue when the declared type cannot be read from it.
    """
    if definition.type is InputType.BOOLEAN:
        return _read_boolean(definition, text)
    if definition.type is InputType.INTEGER:
        if re.fullmatch(r"\s*[-+]?\d{1,20}\s*", text, re.ASCII) is None:
            raise InvalidValue(f"{_show_value(definition, text)} is not an integer")
        return int(text)
    if definition.type is InputType.NUMBER:
        if not is_number(text.strip()):
            raise InvalidValue(f"{_show_value(definition, text)} is not a number")
        return float(text) if re.search(r"[.eE]", text) else int(text)
    if definition.type is InputType.JSON:
        return _read_json(definition, text)
    return text


def _read_boolean(definition: InputDefinition, text: str) -> bool:
    word = text.strip().casefold()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidValue(f"{_show_value(definition, text)} is not true or false")


def _read_json(definition: InputDefinition, text: str) -> JsonValue:
    if len(text) > MAX_VALUE:
        _refuse_length()
    try:
        value: JsonValue = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError) as error:
        raise InvalidValue(f"{_show_value(definition, text)} is not JSON: {error}") from error
    return value


def _check_type(definition: InputDefinition, value: object) -> JsonValue:
    """Return the value as its declared type has it."""
    match definition.type:
        case InputType.JSON:
            return _check_json(value)
        case InputType.BOOLEAN:
            return value if isinstance(value, bool) else _refuse_type(value, "true or false")
        case InputType.INTEGER:
            return _check_integer(value)
        case InputType.NUMBER:
            return _check_number(value)
        case InputType.STRING:
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                _refuse_type(value, "text")
            return _check_text(to_text(_check_scalar(value)))
        case None:
            if not isinstance(value, str | int | float):
                _refuse_type(value, "text, a number or a boolean (declare `type: json` for more)")
            return _check_scalar(value)


def _check_scalar(value: str | int | float) -> str | int | float:
    if isinstance(value, str):
        return _check_text(value)
    return value if isinstance(value, bool) else _check_number(value)


def _check_number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse_type(value, "a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidValue("must be a finite number")
    if isinstance(value, int) and value not in INTEGERS:
        raise InvalidValue("has more than 64 bits")
    return value


def _check_integer(value: object) -> int:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse_type(value, "an integer")
    number = _check_number(value)
    return int(number)


def _check_text(text: str) -> str:
    if len(text) > MAX_VALUE // 4 and (len(text) > MAX_VALUE or len(text.encode(errors="replace")) > MAX_VALUE):
        _refuse_length()
    if (found := _FORBIDDEN.search(text)) is not None:
        kind = "half of a surrogate pair" if found[0] >= "\ud800" else "a control character"
        raise InvalidValue(f"holds {kind} (U+{ord(found[0]):04X}) at position {found.start()}")
    return text


def _check_json(value: object) -> JsonValue:
    """Return a JSON value after a look at every part of it, level by level and thus without recursion."""
    level: list[object] = [value]
    size = 0
    for _ in range(MAX_DEPTH):
        deeper: list[object] = []
        for part in level:
            size += len(part) if isinstance(part, str) else 1
            deeper.extend(_list_parts(part))
        if size > MAX_VALUE:
            _refuse_length()
        if not deeper:
            break
        level = deeper
    else:
        raise InvalidValue(f"is nested more than {MAX_DEPTH} deep")
    if len(to_text(value).encode()) > MAX_VALUE:
        _refuse_length()
    return value  # type: ignore[return-value]  # every part of it was looked at


def _list_parts(part: object) -> Iterable[object]:
    if isinstance(part, dict):
        if not all(isinstance(key, str) for key in part):
            raise InvalidValue("has a key that is no text")
        return [*part.keys(), *part.values()]
    if isinstance(part, list):
        return part
    if part is not None:
        _check_scalar(part if isinstance(part, str | int | float) else _refuse_type(part, "JSON"))
    return ()


def _check_choice(definition: InputDefinition, value: JsonValue) -> None:
    if definition.enum is None:
        return
    wanted = to_text(value)
    if not any(to_text(choice) == wanted for choice in definition.enum):
        choices = ", ".join(_shorten_text(to_text(choice)) for choice in definition.enum[:20])
        raise InvalidValue(f"{_show_value(definition, wanted)} is not one of {choices}")


def _check_range(definition: InputDefinition, value: JsonValue) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    shown = "the secret value" if definition.secret else to_text(value)
    if definition.minimum is not None and value < definition.minimum:
        raise InvalidValue(f"{shown} is less than {_show_limit(definition.minimum)}")
    if definition.maximum is not None and value > definition.maximum:
        raise InvalidValue(f"{shown} is more than {_show_limit(definition.maximum)}")


def _show_limit(number: float) -> str:
    """Return a limit as it was written: the store's form of a catalogue makes 9 of it 9.0."""
    return to_text(int(number) if number == int(number) else number)


def _check_pattern(definition: InputDefinition, pattern: str, text: str) -> None:
    if len(text) > MAX_MATCHED:
        raise InvalidValue(f"is longer than {MAX_MATCHED} characters")
    try:
        matches = matches_pattern(pattern, text)
    except UnusablePattern as error:
        raise InvalidValue(f"cannot be checked, the pattern {error}") from error
    if not matches:
        raise InvalidValue(f"{_show_value(definition, text)} does not match {_shorten_text(pattern)}")


def _check_dash(value: JsonValue) -> None:
    if isinstance(value, str) and value.startswith("-") and not is_number(value):
        raise InvalidValue("begins with '-' and would be read as an option")


def _refuse_type(value: object, wanted: str) -> NoReturn:
    raise InvalidValue(f"must be {wanted}, not {_name_type(value)}")


def _name_type(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _refuse_length() -> NoReturn:
    raise InvalidValue(f"is longer than {MAX_VALUE} bytes")


def _show_value(definition: InputDefinition, text: str) -> str:
    """Return a value as a message may show it."""
    return "the secret value" if definition.secret else _shorten_text(text)


def _shorten_text(text: str) -> str:
    shown = text if len(text) <= 60 else text[:60] + "..."
    return repr(shown)
