"""The inputs of a job and of a spawned task against their definitions: every mistake at once. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from echelon.controller.catalogue.definitions import Catalogue, JobDefinition
from echelon.controller.catalogue.task_classes import InputDefinition, InputSource, TaskClass
from echelon.controller.catalogue.values import InvalidValue, check_value, coerce_text
from echelon.shared.expressions import suggest_name, to_text
from echelon.shared.messages import JsonValue

#: All values of one job or one task, in characters.
MAX_TOTAL = 1 << 20
#: Mistakes that one answer lists, and those of them for which a name is suggested: to find one costs time.
MAX_MISTAKES = 100
_SUGGESTED = 10


class InputMistake(NamedTuple):
    """A value that does not fit."""

    #: Where it stands: a JSON pointer of the body, "#/headers/<name>" for a header.
    pointer: str
    detail: str


Checked = tuple[dict[str, JsonValue], list[InputMistake]]


def check_inputs(
    definitions: Mapping[str, InputDefinition],
    given: Mapping[str, object],
    *,
    where: str = "#/input",
    leading: Collection[str] = (),
    inherited: Collection[str] = (),
) -> Checked:
    """Return the values of the parameters, defaults filled in, and what is wrong with them.

    `leading` are those that would begin an argument; `inherited` those that need not be given. Inputs of other sources
    are not looked for, and refused when they are given.
    """
    values: dict[str, JsonValue] = {}
    mistakes = list(islice(_find_unknown(definitions, given, where), MAX_MISTAKES))
    parameter = InputSource.PARAMETER
    for name, definition in definitions.items():
        if definition.source is not parameter:
            continue
        if name in given:
            try:
                values[name] = check_value(definition, given[name], leading=name in leading)
            except InvalidValue as error:
                mistakes.append(InputMistake(f"{where}/{_escape_name(name)}", error.detail))
        elif name not in inherited:
            if definition.required:
                mistakes.append(InputMistake(f"{where}/{_escape_name(name)}", "is required"))
            else:
                values[name] = definition.default
    if sum(len(value) if isinstance(value, str) else len(to_text(value)) for value in values.values()) > MAX_TOTAL:
        mistakes.append(InputMistake(where, f"the values are longer than {MAX_TOTAL} characters together"))
    return values, mistakes[:MAX_MISTAKES]


def check_job_inputs(
    catalogue: Catalogue, job: JobDefinition, given: object, headers: Iterable[tuple[str, str]] = ()
) -> Checked:
    """Return all values of a job, from the body and from the headers of its request, and what is wrong with them.

    A value is held against the definitions of the tasks that will take it too, so that it fails here and not there.
    """
    if not isinstance(given, Mapping):
        return {}, [InputMistake("#/input", "must be an object")]
    values, mistakes = check_inputs(job.input, given, leading=job.leading)
    from_headers, more = _read_headers(job, headers)
    values.update(from_headers)
    mistakes += more
    wrong = {mistake.pointer for mistake in mistakes}
    for mistake in _check_for_tasks(catalogue, job, values):
        if mistake.pointer not in wrong:
            wrong.add(mistake.pointer)
            mistakes.append(mistake)
    return values, mistakes[:MAX_MISTAKES]


def check_item_inputs(task: TaskClass, item: object, inherited: Collection[str] = (), *, where: str = "#") -> Checked:
    """Return the values that an item of a spawn.json gives a task, and what is wrong with them.

    `inherited` are the names of the job's inputs: they need not be given, and defaults do not stand over them. An item
    may name one that the task does not take.
    """
    if not isinstance(item, Mapping):
        return {}, [InputMistake(where, "must be an object")]
    foreign = set(inherited) - set(task.input)
    mine = {name: value for name, value in item.items() if name not in foreign} if foreign else item
    return check_inputs(task.input, mine, where=where, leading=task.leading, inherited=inherited)


def _find_unknown(
    definitions: Mapping[str, InputDefinition], given: Mapping[str, object], where: str
) -> Iterable[InputMistake]:
    unknown = 0
    for name in given:
        definition = definitions.get(name)
        if definition is not None and definition.source is InputSource.PARAMETER:
            continue
        if definition is None:
            unknown += 1
            takes = [known for known, one in definitions.items() if one.source is InputSource.PARAMETER]
            guess = suggest_name(name, takes) if unknown <= _SUGGESTED else None
            detail = "is not an input" + (f"; did you mean {guess!r}?" if guess else "")
            yield InputMistake(f"{where}/{_escape_name(name)}", detail)
        elif definition.source is InputSource.HTTP_HEADER:
            yield InputMistake(f"{where}/{_escape_name(name)}", f"is taken from the header {definition.key!r}")
        elif definition.source is InputSource.ENVIRONMENT:
            yield InputMistake(f"{where}/{_escape_name(name)}", "is taken from the environment of the worker")


def _read_headers(job: JobDefinition, headers: Iterable[tuple[str, str]]) -> Checked:
    values: dict[str, JsonValue] = {}
    mistakes = []
    sent: dict[str, list[str]] = {}
    for name, text in headers:
        sent.setdefault(name.casefold(), []).append(text)
    for name, definition in job.input.items():
        if definition.source is not InputSource.HTTP_HEADER:
            continue
        try:
            values[name] = _read_header(definition, sent.get(definition.key.casefold(), []), name in job.leading)
        except InvalidValue as error:
            mistakes.append(InputMistake(f"#/headers/{_escape_name(definition.key)}", error.detail))
    return values, mistakes


def _read_header(definition: InputDefinition, texts: list[str], leading: bool) -> JsonValue:
    if len(texts) > 1:
        raise InvalidValue(f"the header is given {len(texts)} times")
    if texts and not texts[0].isascii():
        # Servers and proxies read other bytes of a header in different ways.
        raise InvalidValue("a header holds ASCII characters only; give the value as a parameter")
    if texts:
        return check_value(definition, coerce_text(definition, texts[0]), leading=leading)
    if definition.required:
        raise InvalidValue(f"the header is required for the input {definition.name!r}")
    return definition.default


def _check_for_tasks(
    catalogue: Catalogue, job: JobDefinition, values: Mapping[str, JsonValue]
) -> Iterable[InputMistake]:
    """Yield what the tasks that take a job's values as they are would refuse; an item may still replace the others'."""
    for stage in job.stages:
        task = catalogue.tasks[stage.spawn_task or stage.task_class]
        for name in task.input.keys() & values.keys():
            yield from _check_for_task(task, job.input[name], values[name])


def _check_for_task(task: TaskClass, source: InputDefinition, value: JsonValue) -> Iterable[InputMistake]:
    wanted = task.input[source.name]
    if wanted.source is not InputSource.PARAMETER or (not source.required and value == source.default):
        return
    from_header = source.source is InputSource.HTTP_HEADER
    try:
        known = coerce_text(wanted, value) if from_header and isinstance(value, str) else value
        check_value(replace(wanted, allow_leading_dash=True), known)
    except InvalidValue as error:
        place = f"headers/{_escape_name(source.key)}" if from_header else f"input/{_escape_name(source.name)}"
        yield InputMistake(f"#/{place}", f"{error.detail} (as the task {task.task_class!r} takes it)")


def _escape_name(name: str) -> str:
    """Return a name as a step of a JSON pointer (RFC 6901), safe to print."""
    short = name if len(name) <= 100 else name[:100] + "..."
    printable = short.encode("utf-8", "backslashreplace").decode()
    return printable.replace("~", "~0").replace("/", "~1")
