"""Gather the inputs of a job from where its definition says: the request's parameters and its headers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controller.catalogue.definitions import Catalogue, InputDefinition, InputSource, JobDefinition, TaskClass
from controller.catalogue.inputs import check_inputs
from controller.core.planner import parameters
from controller.engine.requests import InvalidInputs, Mistake
from shared.expressions import to_text
from shared.messages import JsonValue


@dataclass(frozen=True, slots=True)
class Inputs:
    """The checked values of a job."""

    #: As anybody may see them.
    values: dict[str, JsonValue]
    #: Those that nobody may see, as text.
    secrets: dict[str, str]


def gather_inputs(
    catalogue: Catalogue,
    definition: JobDefinition,
    given: Mapping[str, JsonValue],
    headers: Mapping[str, Sequence[str]],
    *,
    kept: Mapping[str, JsonValue] | None = None,
) -> Inputs:
    """Return a job's inputs; raise InvalidInputs with every mistake at once.

    `kept` are values of an earlier submission that stand where nothing new is given.
    """
    mistakes = [_unknown(name, definition) for name in given if name not in _named(definition, InputSource.PARAMETER)]
    found, more = _from_headers(definition, headers)
    mistakes += more
    parameters = {name: value for name, value in given.items() if name in _named(definition, InputSource.PARAMETER)}
    raw = dict(kept or {}) | parameters | found
    values, wrong = check_inputs(definition.input, raw, where="#/input", leading=definition.leading)
    mistakes += [_placed(definition, mistake.pointer, mistake.detail) for mistake in wrong]
    if not mistakes:
        mistakes = _against_tasks(catalogue, definition, values)
    if mistakes:
        raise InvalidInputs(mistakes)
    secret = definition.secret
    return Inputs(
        values={name: value for name, value in values.items() if name not in secret},
        secrets={name: to_text(value) for name, value in values.items() if name in secret},
    )


def _named(definition: JobDefinition, source: InputSource) -> dict[str, InputDefinition]:
    return {name: one for name, one in definition.input.items() if one.source is source}


def _unknown(name: str, definition: JobDefinition) -> Mistake:
    pointer = "#/input/" + name.replace("~", "~0").replace("/", "~1")
    header = definition.input.get(name)
    if header is not None and header.source is InputSource.HTTP_HEADER:
        return Mistake(pointer, f"this input comes from the header {header.key!r}, not from the body")
    known = list(_named(definition, InputSource.PARAMETER))
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it takes: {', '.join(known) or 'none'}"
    return Mistake(pointer, f"the job has no such input; {hint}")


def _from_headers(
    definition: JobDefinition, headers: Mapping[str, Sequence[str]]
) -> tuple[dict[str, JsonValue], list[Mistake]]:
    lowered: dict[str, list[str]] = {}
    for name, sent in headers.items():
        lowered.setdefault(name.lower(), []).extend(sent)
    values: dict[str, JsonValue] = {}
    mistakes = []
    for name, one in _named(definition, InputSource.HTTP_HEADER).items():
        sent = lowered.get(one.key.lower(), [])
        if len(sent) > 1:
            mistakes.append(Mistake(f"#/headers/{one.key}", "the header was sent more than once; send it once"))
        elif sent:
            values[name] = sent[0]
    return values, mistakes


def _placed(definition: JobDefinition, pointer: str, detail: str) -> Mistake:
    """Point at the header where a header's value is wrong or missing."""
    name = pointer.removeprefix("#/input/").split("/")[0]
    one = definition.input.get(name)
    if one is not None and one.source is InputSource.HTTP_HEADER:
        return Mistake(f"#/headers/{one.key}", detail)
    return Mistake(pointer, detail)


def _first_tasks(catalogue: Catalogue, definition: JobDefinition) -> Iterable[TaskClass]:
    """Yield the classes whose tasks take the job's values as they are: fixed tasks and spawn tasks."""
    for stage in definition.stages:
        yield catalogue.tasks[stage.spawn_task or stage.task_class]


def _against_tasks(catalogue: Catalogue, definition: JobDefinition, values: Mapping[str, JsonValue]) -> list[Mistake]:
    """Check the values against what the task classes say of inputs of the same name."""
    mistakes: dict[tuple[str, str], Mistake] = {}
    for task_class in _first_tasks(catalogue, definition):
        wanted = {name: one for name, one in parameters(task_class).items() if name in values}
        _, wrong = check_inputs(wanted, {name: values[name] for name in wanted}, where="#/input")
        for mistake in wrong:
            placed = _placed(definition, mistake.pointer, mistake.detail)
            mistakes.setdefault((placed.pointer, placed.detail), placed)
    return list(mistakes.values())
