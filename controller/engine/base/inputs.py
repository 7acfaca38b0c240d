"""The inputs of a request, checked, and divided into public values and secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from echelon.controller.catalogue.definitions import Catalogue, JobDefinition
from echelon.controller.catalogue.inputs import check_job_inputs
from echelon.controller.catalogue.task_classes import InputSource
from echelon.controller.engine.base.requests import InvalidInputs, RequestMistake
from echelon.shared.expressions import to_text
from echelon.shared.messages import JsonValue


@dataclass(frozen=True, slots=True)
class Inputs:
    """The checked values of a job."""

    #: As anybody may see them.
    values: dict[str, JsonValue]
    #: Secret values, as text.
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
    sent = [(name, text) for name, texts in headers.items() for text in texts]
    body, again = _give_again(definition, kept or {}, {name.casefold() for name in headers})
    values, wrong = check_job_inputs(catalogue, definition, body | dict(given), sent + again)
    if wrong:
        raise InvalidInputs([RequestMistake(mistake.pointer, mistake.detail) for mistake in wrong])
    return Inputs(
        values={name: value for name, value in values.items() if name not in definition.secret},
        secrets={name: to_text(value) for name, value in values.items() if name in definition.secret},
    )


def _give_again(
    definition: JobDefinition, kept: Mapping[str, JsonValue], sent: set[str]
) -> tuple[dict[str, JsonValue], list[tuple[str, str]]]:
    """Return earlier values as they would be given again: in the body, or as headers that have not been sent."""
    body: dict[str, JsonValue] = {}
    headers = []
    for name, value in kept.items():
        one = definition.input[name]
        if one.source is not InputSource.HTTP_HEADER:
            body[name] = value
        elif one.key.casefold() not in sent:
            headers.append((one.key, to_text(value)))
    return body, headers
