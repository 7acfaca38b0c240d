"""Reads requests strictly: input that two parsers could understand differently is refused.

JSON with duplicate keys, NaN, lone surrogates, NUL characters, bottomless nesting or endless numbers never gets further
than this file; nor does a query parameter that is sent twice or is unknown.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NoReturn, cast

import flask
import marshmallow
from webargs.core import missing
from webargs.flaskparser import FlaskParser

from echelon.controller.api.problems import Refusal, refuse_value
from echelon.controller.engine.base.requests import RequestMistake
from echelon.shared.encodings import NotUtf8, decode_text
from echelon.shared.expressions import suggest_name

#: Maximum number of mistakes in one answer.
MOST_MISTAKES = 50
#: Maximum levels of nesting.
MAX_DEPTH = 64

#: What marshmallow says of a value that is no object -> the same with what is expected.
_DETAILS = dict.fromkeys(("Invalid input type.", "Not a valid mapping type."), "must be an object")
_KINDS = ((dict, "an object"), (list, "a list"), (str, "text"), (bool, "true or false"), (int | float, "a number"))

_SURROGATE = re.compile("[\ud800-\udfff]")


class StrictParser(FlaskParser):
    """Takes bodies and query strings apart for flask-smorest."""

    DEFAULT_UNKNOWN_BY_LOCATION = {"json": marshmallow.RAISE, "query": marshmallow.RAISE}

    def load_json(self, req: flask.Request, schema: marshmallow.Schema) -> object:
        """Return the body; without one `missing`, which the schema judges."""
        data = req.get_data(cache=True)
        value = read_json(data) if data else missing
        if data and not isinstance(value, list if schema.many else dict):
            expected = "a list of objects is" if schema.many else "an object is"
            raise refuse_value("#", f"{expected} expected, this is {_describe_kind(value)}")
        return value

    def load_querystring(self, req: flask.Request, schema: marshmallow.Schema) -> object:
        """Return the query; a parameter that is sent twice is a mistake, unless it is a list."""
        lists = {name for name, field in schema.fields.items() if isinstance(field, marshmallow.fields.List)}
        twice = [name for name, values in req.args.lists() if len(values) > 1 and name not in lists]
        if twice:
            raise Refusal(
                422, "a parameter was sent twice", mistakes=[_query_mistake(name, "send it once") for name in twice]
            )
        return {name: req.args.getlist(name) if name in lists else req.args[name] for name in req.args}

    def handle_error(
        self, error: marshmallow.ValidationError, req: flask.Request, schema: marshmallow.Schema, **_: object
    ) -> NoReturn:
        """Refuse with every mistake that the schema found."""
        found = (
            mistake
            for location, messages in error.messages_dict.items()
            for mistake in _iterate_mistakes(
                messages, "#" if location == "json" else f"#/{location}", list(schema.fields)
            )
        )
        mistakes = list(itertools.islice(found, MOST_MISTAKES))
        raise Refusal(422, "; ".join(f"{one.pointer}: {one.detail}" for one in mistakes), mistakes=mistakes)


def _iterate_mistakes(messages: object, pointer: str, known: list[str]) -> Iterator[RequestMistake]:
    if isinstance(messages, Mapping):
        for name, inner in messages.items():
            deeper = pointer if name == "_schema" else f"{pointer}/{_escape_pointer(str(name))}"
            if inner == ["Unknown field."]:
                yield RequestMistake(deeper, describe_unknown(str(name), known))
            else:
                yield from _iterate_mistakes(inner, deeper, known)
    elif isinstance(messages, list):
        for message in messages:
            yield from _iterate_mistakes(message, pointer, known)
    else:
        yield RequestMistake(pointer, _DETAILS.get(str(messages), str(messages)))


def _describe_kind(value: object) -> str:
    """Return what a JSON value is."""
    return next((word for kind, word in _KINDS if isinstance(value, kind)), "null")


def describe_unknown(name: str, known: list[str]) -> str:
    """Return the detail for a name that is not among `known`."""
    if (guess := suggest_name(name, known)) is not None:
        return f"unknown; did you mean {guess!r}?"
    return f"unknown; known here: {', '.join(known) or 'nothing'}"


def _query_mistake(name: str, detail: str) -> RequestMistake:
    return RequestMistake(f"#/query/{_escape_pointer(name)}", detail)


def _escape_pointer(name: str) -> str:
    """Write a name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


# --- JSON -----------------------------------------------------------------------------------------------------------


class _Ambiguous(ValueError):
    """JSON that Python takes and others would not."""


def read_json(data: bytes) -> object:
    """Return the value that a body holds; a Refusal (400 not JSON, 422 JSON that cannot be used) says why not."""
    try:
        value = json.loads(
            decode_text(data),
            object_pairs_hook=_build_object,
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
        )
    except NotUtf8 as error:
        raise Refusal(400, f"the body {error}") from error
    except json.JSONDecodeError as error:
        raise Refusal(400, f"the body is not JSON: {error.msg}: line {error.lineno} column {error.colno}") from error
    except RecursionError as error:
        raise Refusal(422, f"the JSON is nested more than {MAX_DEPTH} levels deep") from error
    except _Ambiguous as error:
        raise Refusal(400, f"the body is not JSON: {error}") from error
    except ValueError as error:
        # Python refuses integers of more than 4300 digits.
        raise Refusal(422, "the JSON holds a number with too many digits") from error
    _refuse_unusable(value)
    return value


def _build_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Ambiguous(f"the key {name[:100]!a} stands twice in one object")
            seen.add(name)
    return made


def _refuse_constant(word: str) -> NoReturn:
    raise _Ambiguous(f"{word} is not a JSON value")


def _parse_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _Ambiguous(f"{text[:40]} is too large for a number")
    return number


def _refuse_unusable(value: object) -> None:
    """Refuse text that cannot be stored or passed to a process, and nesting that would exhaust a stack further on."""
    # Only what holds more waits here: a list of 300,000 numbers must not become 300,000 entries.
    waiting: list[tuple[object, _Path | None]] = [([value], None)]
    while waiting:
        holder, path = waiting.pop()
        if path is not None and path.depth > MAX_DEPTH:
            raise Refusal(422, f"the JSON is nested more than {MAX_DEPTH} levels deep")
        if isinstance(holder, dict):
            for name in holder:
                _examine_text(name, path, None)
        inside: Iterable[tuple[str | int, object]]
        inside = holder.items() if isinstance(holder, dict) else enumerate(cast(list[object], holder))
        for place, inner in inside:
            if isinstance(inner, str):
                _examine_text(inner, path, place)
            elif isinstance(inner, dict | list):
                waiting.append((inner, _Path(path, place)))


class _Path:
    """Where a value stands. Its text is put together only when it is needed: a long key may have 100,000 children."""

    __slots__ = ("depth", "name", "parent")

    def __init__(self, parent: _Path | None, name: str | int) -> None:
        self.parent = parent
        self.name = name
        self.depth: int = parent.depth + 1 if parent else 1

    def __str__(self) -> str:
        # The outermost holder is ours: what it holds is the document.
        return f"{self.parent}/{_escape_pointer(str(self.name))}" if self.parent else "#"


def _examine_text(text: str, path: _Path | None, place: str | int | None) -> None:
    if "\x00" in text:
        wrong = "a NUL character"
    elif not text.isascii() and _SURROGATE.search(text):
        wrong = "half of a surrogate pair"
    else:
        return
    pointer = str(_Path(path, place) if place is not None else path or _Path(None, 0))
    detail = f"holds {wrong}, which no program can be given"
    raise Refusal(422, f"{pointer}: {detail}", mistakes=[RequestMistake(pointer, detail)])
