"""From the checked values of a file to the records of the catalogue. Takes incomplete values too: what the schema has
refused is simply absent, so that the other checks can go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from echelon.controller.catalogue.definitions import (
    DEFAULT_GRACE,
    DEFAULT_QUEUE,
    InputDefinition,
    InputSource,
    InputType,
    JobDefinition,
    Retry,
    StageDefinition,
    TaskClass,
)
from echelon.controller.catalogue.values import InvalidValue, coerce_text
from echelon.shared.expressions import to_text
from echelon.shared.messages import JsonValue

Values = Mapping[str, Any]


def task_class(name: str, values: Values) -> TaskClass:
    """Return a task class."""
    return TaskClass(
        task_class=name,
        exec_command=values.get("exec_command", ""),
        exec_args=tuple(values.get("exec_args") or ()),
        env=dict(values.get("env") or {}),
        name=values.get("name"),
        description=values.get("description"),
        input=inputs(values),
        queue=values.get("queue", DEFAULT_QUEUE),
        timeout=values.get("timeout"),
        grace=values.get("grace", DEFAULT_GRACE),
        retry=_retry(values.get("retry") or {}),
        workdir=values.get("workdir", "job"),
    )


def job(name: str, values: Values) -> JobDefinition:
    """Return a job."""
    return JobDefinition(
        type=name,
        stages=tuple(_stage(stage) for stage in values.get("stages") or ()),
        name=values.get("name"),
        description=values.get("description"),
        input=inputs(values),
    )


def inputs(values: Values) -> dict[str, InputDefinition]:
    """Return the inputs of a task or a job."""
    return {name: _input(name, one if isinstance(one, Mapping) else {}) for name, one in _mapping(values, "input")}


def _mapping(values: Values, key: str) -> list[tuple[str, Any]]:
    inner = values.get(key)
    return list(inner.items()) if isinstance(inner, Mapping) else []


def _input(name: str, values: Values) -> InputDefinition:
    source = InputSource(values.get("source") or values.get("source_type") or InputSource.PARAMETER)
    kind = InputType(values["type"]) if values.get("type") else None
    enum = values.get("enum")
    return InputDefinition(
        name=name,
        source=source,
        key=values.get("key", name),
        description=values.get("description"),
        type=kind,
        required="default" not in values,
        default=_meant(kind, values.get("default")),
        enum=tuple(_meant(kind, one) for one in enum) if isinstance(enum, list) else None,
        pattern=values.get("pattern"),
        minimum=values.get("minimum"),
        maximum=values.get("maximum"),
        secret=values.get("secret", source is InputSource.HTTP_HEADER),
        allow_leading_dash=values.get("allow_leading_dash", False),
    )


def _meant(kind: InputType | None, value: JsonValue) -> JsonValue:
    """Return a value from the file as its declared type has it: `1.10` is a text for one and a number for another."""
    if kind is InputType.STRING and isinstance(value, int | float):
        return to_text(value)
    if kind not in (None, InputType.STRING, InputType.JSON) and isinstance(value, str):
        try:
            return coerce_text(InputDefinition("", type=kind), value)
        except InvalidValue:
            return value
    return value


def _retry(values: Values) -> Retry:
    usual = Retry()
    return Retry(
        limit=values.get("limit", usual.limit),
        delay=values.get("delay", usual.delay),
        factor=values.get("factor", usual.factor),
        max_delay=values.get("max_delay", usual.max_delay),
    )


def _stage(values: Values) -> StageDefinition:
    name = values.get("task_class", "")
    return StageDefinition(
        name=values.get("name") or name,
        task_class=name,
        spawn_task=values.get("spawn_task"),
        job_failed_on_error=values.get("job_failed_on_error", True),
        fail_fast=values.get("fail_fast", False),
        max_parallel=values.get("max_parallel"),
        order=values.get("order"),
        block_on_error=values.get("on_error") == "block",
        open=values.get("tasks") == "open",
        paused=values.get("paused", False),
    )
