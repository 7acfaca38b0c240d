"""The options -p and -H: parse their values, and describe the values that a controller rejects.

Text is converted to the type that the job's definition declares; the engine checks the values.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import click

from echelon.controller.commands.screen import escape_text
from echelon.shared.errors import InvalidInput
from echelon.shared.messages import JsonValue
from echelon.shared.readers import MASK

if TYPE_CHECKING:
    from echelon.controller.shapes import Job

#: Bytes of a file that -p name=@file reads; a request's body has the same limit.
_FILE_AT_MOST: Final = 1 << 20
_YES: Final = {"true", "yes", "on", "1"}
_NO: Final = {"false", "no", "off", "0"}

PARAMETER_HELP: Final = (
    "An input: name=value, converted to the type that the job declares. name:=JSON gives the value as JSON, "
    "name=@FILE the content of a file without its last line end (@- is stdin, @@ begins a value with @)."
)
HEADER_HELP: Final = "A header, as over HTTP: 'Name: value'. 'Name: @FILE' takes the value from a file."


class ReportedMistake(Protocol):
    """One mistake in a request, as the engine and the client report it."""

    @property
    def pointer(self) -> str: ...

    @property
    def detail(self) -> str: ...


def find_types(own: Mapping[str, str | None], of_tasks: Iterable[Mapping[str, str | None]]) -> dict[str, str]:
    """Return the type of each of a job's inputs: its own, else that of the first task with this input.

    `own` holds the types that the job declares, `of_tasks` those of its tasks, in the order of its stages.
    """
    types: dict[str, str] = {}
    for declared in (own, *of_tasks):
        for name, kind in declared.items():
            if name in own and kind and name not in types:
                types[name] = str(kind)
    return types


def parse_parameters(written: Sequence[str], types: Mapping[str, str]) -> dict[str, JsonValue]:
    """Read -p options; `types` holds the declared type of each input, text by default.

    Raises click.UsageError if an option is not name=value, InvalidInput if values do not fit their type.
    """
    values: dict[str, JsonValue] = {}
    mistakes: list[str] = []
    for text in written:
        name, equals, value = text.partition("=")
        as_json = name.endswith(":")
        name = name[: -1 if as_json else None].strip()
        if not equals or not name:
            raise click.UsageError(f"-p {escape_text(text)}: write name=value, for example -p url=http://host/file")
        if name in values:
            raise click.UsageError(f"-p {escape_text(name)} is given twice; give it once")
        try:
            values[name] = _convert_text(value, "json" if as_json else types.get(name, "string"))
        except ValueError as error:
            values[name] = None
            mistakes.append(f"-p {escape_text(name)}: {error}")
    if mistakes:
        raise InvalidInput("\n".join(mistakes))
    return values


def parse_headers(written: Sequence[str]) -> dict[str, str]:
    """Read -H options; raises click.UsageError if one is not 'Name: value' or a header is given twice."""
    values: dict[str, str] = {}
    for text in written:
        name, colon, value = text.partition(":")
        name, value = name.strip(), value.strip()
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            # The value may be a secret: do not print it.
            raise click.UsageError(
                f"-H {escape_text(name)}: write 'Name: value', for example -H 'Authorization: Bearer abc'"
            )
        if name.lower() in {known.lower() for known in values}:
            raise click.UsageError(f"-H {name} is given twice; give it once")
        try:
            value = _read_content(value)
        except ValueError as error:
            raise click.UsageError(f"-H {name}: {error}") from error
        if "\n" in value or "\r" in value or "\0" in value:
            raise click.UsageError(f"-H {name}: the value of a header is one line")
        values[name] = value
    return values


def _convert_text(text: str, kind: str) -> JsonValue:
    """Convert text to a declared type; raises ValueError with the expected form."""
    text = _read_content(text)
    match kind:
        case "integer":
            if not re.fullmatch(r"[+-]?[0-9]{1,1000}", text.strip()):
                raise ValueError(f"{_quote_text(text)} is not a whole number")
            return int(text)
        case "number":
            return _convert_number(text)
        case "boolean":
            if text.strip().lower() not in _YES | _NO:
                raise ValueError(f"{_quote_text(text)} is neither true nor false")
            return text.strip().lower() in _YES
        case "json":
            return _parse_json(text)
        case _:
            return text


def _convert_number(text: str) -> float:
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", text.strip()[:1000]):
        raise ValueError(f"{_quote_text(text)} is not a number")
    whole = re.fullmatch(r"[+-]?[0-9]+", text.strip())
    return int(text) if whole else float(text)


def _parse_json(text: str) -> JsonValue:
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


def _read_content(text: str) -> str:
    """Return the text itself, or the content of the file that it names."""
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
            raise ValueError(
                f"{escape_text(text[1:])} holds more than {_FILE_AT_MOST >> 20} MiB; give its path as the value"
            )
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ValueError(f"{escape_text(text[1:])} is not UTF-8 text; give its path as the value") from error
    except OSError as error:
        raise ValueError(
            f"cannot read {escape_text(text[1:])}: {error.strerror} (a value that begins with @: @@)"
        ) from error


def _quote_text(text: str) -> str:
    return repr(escape_text(text if len(text) <= 60 else text[:57] + "..."))


def describe_retry(target: object, job: Job, headers: Mapping[str, str]) -> str:
    """Return the command that runs again what has failed, with a placeholder for each secret that a job has lost.

    `headers` holds the header of each input that is taken from one.
    """
    options = "".join(
        f" -H '{escape_text(headers[name])}: ...'" if name in headers else f" -p {escape_text(name)}=..."
        for name, value in job["input"].items()
        if value == MASK and job["ended_at"]
    )
    return f"echelon retry {target}{options}"


def describe_mistakes(message: str, mistakes: Sequence[ReportedMistake]) -> str:
    """Describe what is wrong with a job's inputs, and how to give each on the command line."""
    return "\n".join(_describe_mistake(mistake) for mistake in mistakes) or message


def _describe_mistake(mistake: ReportedMistake) -> str:
    pointer, detail = mistake.pointer, escape_text(mistake.detail)
    found = re.fullmatch(r"#/(input|headers)/(.+)", pointer)
    if not found:
        return detail if pointer in ("#", "#/", "") else f"{escape_text(pointer)}: {detail}"
    name = _read_pointer(found[2])
    if found[1] == "headers":
        return f"header {name}: {detail}" + (f"  (-H '{name}: ...')" if "is required" in detail else "")
    header = re.fullmatch(r"is taken from the header '(.+)'", mistake.detail)
    option = f"-H '{escape_text(header[1])}: ...'" if header else f"-p {name}=..." if "is required" in detail else ""
    return f"input {name}: {detail}" + (f"  ({option})" if option else "")


def describe_item_mistakes(message: str, mistakes: Sequence[ReportedMistake], *, one: bool) -> str:
    """Describe what is wrong with added tasks; `one`: the only one was given with -p."""
    return "\n".join(_describe_item_mistake(mistake, one) for mistake in mistakes) or message


def _describe_item_mistake(mistake: ReportedMistake, one: bool) -> str:
    detail = escape_text(mistake.detail)
    found = re.fullmatch(r"#(?:/tasks)?/(\d+)(?:/(.+))?", mistake.pointer) or re.fullmatch(r"#()/(.+)", mistake.pointer)
    if found is None:
        return detail
    item = "" if one or not found[1] else f"item {int(found[1]) + 1}: "
    name = _read_pointer(found[2] or "")
    option = f"  (-p {name}=...)" if one and name and re.search("is (required|missing)", detail) else ""
    return f"{item}{f'{name}: ' if name else ''}{detail}{option}"


def _read_pointer(name: str) -> str:
    """Return a name from a JSON pointer."""
    return escape_text(name.replace("~1", "/").replace("~0", "~"))
