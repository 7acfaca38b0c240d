"""The errors of a job's failed tasks in groups: numbers, paths and the values of items make no difference."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from echelon.controller.datastore.failures import Failure
from echelon.shared.messages import JsonValue

#: Failed tasks that are read; the cost of one answer ends here.
READ_AT_MOST: Final = 20_000
#: Tasks of a group that are named.
_NAMED_AT_MOST: Final = 5
#: A shorter value of an item says too little to be looked for in a text.
_SHORTEST_VALUE: Final = 3

#: What differs between two errors of the same kind, and what stands for it. A code or a signal tells kinds apart.
_DIFFERS: Final = (
    (re.compile(r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?"), "<time>"),
    (re.compile(r"(https?://[\w.:-]+/)[^\s?,;]+"), r"\1<path>"),
    (re.compile(r"(?<![\w.<:/])(/[\w.@%+~=-]+){2,}/?"), "<path>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b|\b(?=[0-9a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\b"), "<id>"),
)
_NUMBER: Final = re.compile(r"(exit code |signal |HTTP |status )?\d+(?:[.,]\d+)*")


@dataclass(slots=True)
class ErrorGroup:
    """Failed tasks of a stage whose errors are of one kind."""

    stage: int
    #: What their errors have in common.
    text: str
    #: The error of the first one.
    example: str
    count: int = 0
    #: The first of them.
    tasks: list[Failure] = field(default_factory=list)


def group_errors(failures: Iterable[Failure]) -> list[ErrorGroup]:
    """Return failures in groups, the largest first."""
    groups: dict[tuple[int, str], ErrorGroup] = {}
    for failure in failures:
        text = normalise_error(failure.error, failure.input)
        group = groups.setdefault((failure.stage, text), ErrorGroup(failure.stage, text, failure.error))
        group.count += 1
        if len(group.tasks) < _NAMED_AT_MOST:
            group.tasks.append(failure)
    return sorted(groups.values(), key=lambda group: -group.count)


def normalise_error(error: str, values: Mapping[str, JsonValue] | None = None) -> str:
    """Return an error with placeholders instead of what differs from task to task."""
    texts = {value: name for name, value in (values or {}).items() if isinstance(value, str)}
    for value in sorted(texts, key=len, reverse=True):
        if len(value) >= _SHORTEST_VALUE:
            error = error.replace(value, f"{{{texts[value]}}}")
    for pattern, placeholder in _DIFFERS:
        error = pattern.sub(placeholder, error)
    return _NUMBER.sub(lambda found: found[0] if found[1] else "<n>", error)
