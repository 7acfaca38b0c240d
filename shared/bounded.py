"""The operations of the expressions inside ``{{ ... }}``, each with a bound of its work and of its result.

No value within an expression is larger than `MAX_SIZE`, so most operations cost little by themselves. Those whose cost
comes from a number, from repetition or from the product of two values are checked before they run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from itertools import islice
from typing import Any, Final

import msgspec
from jinja2 import pass_environment
from jinja2.environment import Environment
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.nodes import EvalContext
from jinja2.runtime import Undefined
from jinja2.tests import TESTS

#: Largest value within an expression: characters of its texts and items of its lists together. No argument is longer.
MAX_SIZE: Final = 1 << 17
#: Largest integer within an expression, in bits.
MAX_BITS: Final = 64
#: Most digits that `round` is asked for; a number has no more.
MAX_DIGITS: Final = 308
#: Size of a value times the length of what is searched for in it, where each position could be compared with all of it.
MAX_COMPARISONS: Final = 1 << 22

# fmt: off
_FILTERS: Final = frozenset(
    {
        "abs", "capitalize", "count", "d", "default", "first", "float", "int", "items", "last", "length", "list",
        "lower", "max", "min", "reverse", "round", "sort", "string", "title", "trim", "truncate", "unique", "upper",
        "urlencode",
    }
)
_TESTS: Final = frozenset(
    {
        "!=", "<", "<=", "==", ">", ">=", "boolean", "defined", "divisibleby", "eq", "equalto", "even", "false",
        "float", "ge", "greaterthan", "gt", "in", "integer", "iterable", "le", "lessthan", "lower", "lt", "mapping",
        "ne", "none", "number", "odd", "sameas", "sequence", "string", "true", "undefined", "upper",
    }
)
METHODS: Final = frozenset(
    {
        "capitalize", "count", "endswith", "find", "get", "index", "isalnum", "isalpha", "isascii", "isdecimal",
        "isdigit", "isidentifier", "islower", "isnumeric", "isspace", "isupper", "items", "join", "keys", "lower",
        "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit",
        "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper", "values",
    }
)
# fmt: on
#: Filters and methods that compare each position, character or item of a value with all of a text.
_COMPARING: Final = frozenset(
    {
        "lstrip",
        "max",
        "min",
        "rfind",
        "rindex",
        "rpartition",
        "rsplit",
        "rstrip",
        "sort",
        "strip",
        "sum",
        "trim",
        "unique",
    }
)
#: Tests that take a remainder; of a text, `%` makes a text as wide as a number in it says.
_OF_NUMBERS: Final = frozenset({"divisibleby", "even", "odd"})


def bound_value(value: Any) -> Any:
    """Return a value of an expression, an iterator as a list; raise SecurityError when it is too large."""
    if type(value) is str:
        if len(value) > MAX_SIZE:
            raise SecurityError("the text becomes too long")
        return value
    if isinstance(value, Iterable) and not isinstance(value, str | list | tuple | dict | Undefined):
        value = list(islice(value, MAX_SIZE + 1))
    _measure(value)
    return value


def _measure(value: object) -> int:
    """Return the size of a value; raise SecurityError as soon as it is too large."""
    size, rest = 0, [value]
    while rest:
        part = rest.pop()
        size += len(part) if isinstance(part, str | list | tuple | dict) else 1
        if isinstance(part, dict):
            rest += (*part.keys(), *part.values())
        elif isinstance(part, list | tuple):
            if set(map(type, part)) == {str}:
                size += sum(map(len, part))
            else:
                rest += part
        elif isinstance(part, int) and part.bit_length() > MAX_BITS:
            raise SecurityError("the number is too large")
        if size > MAX_SIZE:
            raise SecurityError("the value becomes too large")
    return size


def calculate(operator: str, function: Callable[[Any, Any], object], left: Any, right: Any) -> Any:
    """Return the result of a binary operator."""
    if operator == "**":
        raise SecurityError("powers are not allowed")
    if operator != "+" and not (_is_number(left) and _is_number(right)):
        raise SecurityError(f"{operator} is for numbers")
    for operand in (left, right):
        bound_value(operand)
    return bound_value(function(left, right))


def join_texts(values: Iterable[object], d: str = "") -> str:
    """Return the texts of some values as one text with `d` between them."""
    parts: list[str] = []
    size = 0
    for value in values:
        parts.append(value if isinstance(value, str) else str(value))
        size += len(parts[-1]) + len(d)
        if size > MAX_SIZE:
            raise SecurityError("the text becomes too long")
    return d.join(parts)


def replace_text(text: object, old: str, new: str, count: int = -1) -> str:
    """Return a text with a piece of it replaced."""
    source = str(text)
    found = source.count(old) if count < 0 else min(count, source.count(old))
    if len(source) + found * (len(new) - len(old)) > MAX_SIZE:
        raise SecurityError("the text becomes too long")
    return source.replace(old, new, count)


@pass_environment
def _sum_numbers(environment: Environment, values: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
    """Return the sum of numbers; of lists, each sum would be a longer copy."""
    read = make_attrgetter(environment, attribute)
    total = start
    for value in values:
        number = value if attribute is None else read(value)
        if not (_is_number(number) and _is_number(total)):
            raise SecurityError("sum is for numbers")
        total += number
    return total


def _round_number(value: Any, precision: Any = 0, method: str = "common") -> Any:
    if not _is_number(value) or not isinstance(precision, int) or abs(precision) > MAX_DIGITS:
        raise SecurityError(f"round is for numbers, and for at most {MAX_DIGITS} digits")
    return FILTERS["round"](value, precision, method)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def call_method(name: str, method: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return what a method of a text, list or mapping answers."""
    receiver = method.__self__  # type: ignore[attr-defined]  # the sandbox lets through bound methods alone
    if name == "replace":
        return replace_text(receiver, *args, **kwargs)
    if name == "join":
        return join_texts(args[0] if args else (), receiver)
    _check_comparisons(name, receiver, [*args, *kwargs.values()])
    return bound_value(method(*args, **kwargs))


def _check_comparisons(name: str, value: object, args: Iterable[object]) -> None:
    if name not in _COMPARING:
        return
    longest = max((len(arg) for arg in args if isinstance(arg, str)), default=0)
    if longest and longest * _measure(value) > MAX_COMPARISONS:
        raise SecurityError(f"{name} takes too long a text")


def _decode_json(text: object) -> Any:
    """Return the value of a JSON text; objects and lists together are bounded like any value."""
    if not isinstance(text, str):
        raise SecurityError("from_json is for text")
    try:
        return msgspec.json.decode(bound_value(text))
    except RecursionError as error:
        raise SecurityError("the JSON text is too deep") from error


def _encode_json(value: object) -> str:
    return msgspec.json.encode(bound_value(value)).decode()


def _split_text(text: object, separator: str | None = None) -> list[str]:
    if not isinstance(text, str):
        raise SecurityError("split is for text")
    return text.split(separator)


def _list_numbers(first: object, end: object) -> list[int]:
    """Return the whole numbers from the first one up to, and without, the end."""
    if not (type(first) is int and type(end) is int):
        raise SecurityError("sequence is for whole numbers")
    if end - first > MAX_SIZE:
        raise SecurityError(f"sequence gives at most {MAX_SIZE} numbers")
    return list(range(first, end))


def list_functions() -> dict[str, Callable[..., Any]]:
    """Return the functions that an expression may call by name."""
    own = {**_OWN_FILTERS, "len": FILTERS["length"], "sequence": _list_numbers}
    return {name: _bound_filter(name, function) for name, function in own.items()}


#: Filters that are functions too.
_OWN_FILTERS: Final = {"from_json": _decode_json, "to_json": _encode_json, "split": _split_text}


def list_filters() -> dict[str, Any]:
    """Return the filters."""
    own = {"replace": replace_text, "join": join_texts, "sum": _sum_numbers, "round": _round_number, **_OWN_FILTERS}
    functions: dict[str, Any] = {**{name: FILTERS[name] for name in _FILTERS}, **own}
    return {name: _bound_filter(name, function) for name, function in functions.items()}


def _bound_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        given = islice(args, 1, None) if args and isinstance(args[0], Environment | EvalContext) else iter(args)
        value = next(given, None)
        _check_comparisons(name, value, [*given, *kwargs.values()])
        return bound_value(function(*args, **kwargs))

    return bounded


def list_tests() -> dict[str, Any]:
    """Return the tests, the words behind `is`."""
    return {name: _of_numbers(name, TESTS[name]) if name in _OF_NUMBERS else TESTS[name] for name in _TESTS}


def _of_numbers(name: str, test: Any) -> Callable[..., Any]:
    def checked(*values: Any) -> Any:
        if not all(map(_is_number, values)):
            raise SecurityError(f"{name} is for numbers")
        return test(*values)

    return checked
