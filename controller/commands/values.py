"""What a user writes after -p and -H, and what is said when a controller cannot use it.

Whether a value is right is for the engine to say; here text becomes the type that the job's definition declares.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import click

from echelon.controller.commands.screen import safe
from echelon.shared.errors import InvalidInput
from echelon.shared.messages import JsonValue

#: Bytes of a file that -p name=@file reads; a request's body holds no more.
_FILE_AT_MOST: Final = 1 << 20
_YES: Final = {"true", "yes", "on", "1"}
_NO: Final = {"false", "no", "off", "0"}

PARAMETER_HELP: Final = (
    "An input: name=value. The text becomes the type that the job declares; name:=JSON gives the value as JSON, "
    "name=@FILE the content of a file without its last line end (@- is stdin, @@ begins a value with @)."
)
HEADER_HELP: Final = "A header, as over HTTP: 'Name: value'. 'Name: @FILE' takes the value from a file."


class Mistake(Protocol):
    """One thing that is wrong with a request, as engine and client tell it."""

    @property
    def pointer(self) -> str: ...

    @property
    def detail(self) -> str: ...


def declared_types(own: Mapping[str, str | None], taken: Iterable[Mapping[str, str | None]]) -> dict[str, str]:
    """Return the type of each of a job's inputs: its own, else that of the first task that takes it.

    `own` gives the types that the job declares, `taken` those of its tasks, in the order of its stages.
    """
    types: dict[str, str] = {}
    for declared in (own, *taken):
        for name, kind in declared.items():
            if name in own and kind and name not in types:
                types[name] = str(kind)
    return types


def parameters(written: Sequence[str], types: Mapping[str, str]) -> dict[str, JsonValue]:
    """Read -p options; `types` gives the declared type of each input, text where there is none.

    Raises click.UsageError for what is not name=value, InvalidInput for values that do not fit their type.
    """
    values: dict[str, JsonValue] = {}
    mistakes: list[str] = []
    for text in written:
        name, equals, value = text.partition("=")
        as_json = name.endswith(":")
        name = name[: -1 if as_json else None].strip()
        if not equals or not name:
            raise click.UsageError(f"-p {safe(text)}: write name=value, for example -p url=http://host/file")
        if name in values:
            raise click.UsageError(f"-p {safe(name)} is given twice; give it once")
        try:
            values[name] = _read(value, "json" if as_json else types.get(name, "string"))
        except ValueError as error:
            values[name] = None
            mistakes.append(f"-p {safe(name)}: {error}")
    if mistakes:
        raise InvalidInput("\n".join(mistakes))
    return values


def headers(written: Sequence[str]) -> dict[str, str]:
    """Read -H options; raises click.UsageError for what is not 'Name: value' and for a header given twice."""
    values: dict[str, str] = {}
    for text in written:
        name, colon, value = text.partition(":")
        name, value = name.strip(), value.strip()
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            # The value may be a secret: it is not repeated.
            raise click.UsageError(f"-H {safe(name)}: write 'Name: value', for example -H 'Authorization: Bearer abc'")
        if name.lower() in {known.lower() for known in values}:
            raise click.UsageError(f"-H {name} is given twice; give it once")
        try:
            value = _content(value)
        except ValueError as error:
            raise click.UsageError(f"-H {name}: {error}") from error
        if "\n" in value or "\r" in value or "\0" in value:
            raise click.UsageError(f"-H {name}: the value of a header is one line")
        values[name] = value
    return values


def _read(text: str, kind: str) -> JsonValue:
    """Turn text into a value of a declared type; raises ValueError with what was expected."""
    text = _content(text)
    match kind:
        case "integer":
            if not re.fullmatch(r"[+-]?[0-9]{1,1000}", text.strip()):
                raise ValueError(f"{_quoted(text)} is not a whole number")
            return int(text)
        case "number":
            return _number(text)
        case "boolean":
            if text.strip().lower() not in _YES | _NO:
                raise ValueError(f"{_quoted(text)} is neither true nor false")
            return text.strip().lower() in _YES
        case "json":
            return _json(text)
        case _:
            return text


def _number(text: str) -> float:
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", text.strip()[:1000]):
        raise ValueError(f"{_quoted(text)} is not a number")
    whole = re.fullmatch(r"[+-]?[0-9]+", text.strip())
    return int(text) if whole else float(text)


def _json(text: str) -> JsonValue:
    def refuse(word: str) -> float:
        raise ValueError(f"{word} is not JSON")

    try:
        value: JsonValue = json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        hint = "; text stands in double quotes" if error.pos == 0 else ""
        raise ValueError(f"is not JSON at column {error.colno}: {error.msg}{hint}") from error
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    return value


def _content(text: str) -> str:
    """Return the text itself, or that of the file it names."""
    if text.startswith("@@"):
        return text[1:]
    if not text.startswith("@"):
        return text
    try:
        if text == "@-":
            data = sys.stdin.buffer.read(_FILE_AT_MOST + 1)
        else:
            with Path(text[1:]).open("rb") as file:
                data = file.read(_FILE_AT_MOST + 1)
        if len(data) > _FILE_AT_MOST:
            raise ValueError(f"{safe(text[1:])} holds more than {_FILE_AT_MOST >> 20} MiB; give its path as the value")
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ValueError(f"{safe(text[1:])} is not UTF-8 text; give its path as the value") from error
    except OSError as error:
        raise ValueError(f"cannot read {safe(text[1:])}: {error.strerror} (a value that begins with @: @@)") from error


def _quoted(text: str) -> str:
    return repr(safe(text if len(text) <= 60 else text[:57] + "..."))


def explain(message: str, mistakes: Sequence[Mistake]) -> str:
    """Say what is wrong with a job's inputs, and how each is given on the command line."""
    return "\n".join(_explained(mistake) for mistake in mistakes) or message


def in_items(message: str, mistakes: Sequence[Mistake], *, one: bool) -> str:
    """Say what is wrong with tasks that are added; `one`: it was given with -p."""
    return "\n".join(_in_item(mistake, one) for mistake in mistakes) or message


def _in_item(mistake: Mistake, one: bool) -> str:
    found = re.fullmatch(r"#(?:/tasks)?/(\d+)(?:/(.+))?", mistake.pointer)
    detail = safe(mistake.detail)
    if found is None:
        found = re.fullmatch(r"#()/(.+)", mistake.pointer)
    if found is None:
        return detail
    place = "" if one or not found[1] else f"item {int(found[1]) + 1}: "
    name = safe(found[2].replace("~1", "/").replace("~0", "~")) if found[2] else ""
    given = f"  (-p {name}=...)" if one and name and re.search("is (required|missing)", detail) else ""
    return f"{place}{f'{name}: ' if name else ''}{detail}{given}"


def _explained(mistake: Mistake) -> str:
    pointer, detail = mistake.pointer, safe(mistake.detail)
    found = re.fullmatch(r"#/(input|headers)/(.+)", pointer)
    if not found:
        return detail if pointer in ("#", "#/", "") else f"{safe(pointer)}: {detail}"
    name = safe(found[2].replace("~1", "/").replace("~0", "~"))
    if found[1] == "headers":
        return f"header {name}: {detail}" + (f"  (-H '{name}: ...')" if "is required" in detail else "")
    header = re.fullmatch(r"is taken from the header '(.+)'", mistake.detail)
    given = f"-H '{safe(header[1])}: ...'" if header else f"-p {name}=..." if "is required" in detail else ""
    return f"input {name}: {detail}" + (f"  ({given})" if given else "")
