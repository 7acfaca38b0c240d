"""How a task is named for people: by its class's `label`, else by the values of its own item."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from echelon.controller.catalogue.task_classes import TaskClass
from echelon.controller.core.planner import stage_input
from echelon.controller.datastore.encoding import encode_json
from echelon.shared.expressions import Template, TemplateError, compile_template
from echelon.shared.messages import JsonValue

#: Stands for a secret value.
MASK: Final = "********"
_LONGEST: Final = 200


def label_item(values: Mapping[str, object] | None) -> str | None:
    """Return an item's values as one line of text, secret ones masked before; None: the task has none of its own."""
    if not values:
        return None
    texts = {name: value if isinstance(value, str) else encode_json(value) for name, value in values.items()}
    # A single value needs no name.
    return _fit_line(next(iter(texts.values())) if len(texts) == 1 else " ".join(f"{k}={v}" for k, v in texts.items()))


def _fit_line(text: str) -> str:
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


@dataclass(frozen=True)
class _Naming:
    """A task class with its inputs that are secret in a job."""

    task_class: TaskClass
    secret: frozenset[str]

    @cached_property
    def template(self) -> Template | None:
        """Return its label with places to fill."""
        return None if self.task_class.label is None else compile_template(self.task_class.label, None)

    def mask_values(self, values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        return {name: MASK if name in self.secret else value for name, value in values.items()}


class TaskLabels:
    """Names the tasks of one job, and masks the secret values of their items."""

    def __init__(
        self,
        find_class: Callable[[str], TaskClass],
        find_secrets: Callable[[str], frozenset[str]],
        job_values: Callable[[], Mapping[str, JsonValue]],
    ) -> None:
        """`find_secrets` returns the secret inputs of a class; `job_values` those of the job, secret ones masked."""
        self._find_class, self._find_secrets, self._read_job = find_class, find_secrets, job_values
        self._known: dict[str, _Naming] = {}

    @cached_property
    def _job_values(self) -> Mapping[str, JsonValue]:
        return self._read_job()

    def list_values(self, task_class: str, item: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        """Return the input values of a task, the secret ones masked: those of its item stand over the job's."""
        return {**self._job_values, **self._find_naming(task_class).mask_values(item)} if item else self._job_values

    def label_task(self, task_class: str, values: Mapping[str, JsonValue] | None, index: int | None) -> str | None:
        """Return the name of a task of this class; `values` are those of its item, `index` its place in the stage."""
        naming = self._find_naming(task_class)
        own = naming.mask_values(values or {})
        if naming.template is not None:
            scope: dict[str, JsonValue] = {**stage_input(naming.task_class, self._job_values), **own, "index": index}
            try:
                return _fit_line(naming.template.render_text(scope))
            except TemplateError:
                # A value does not fit the expression: the task itself tells of that.
                pass
        return label_item(own)

    def _find_naming(self, task_class: str) -> _Naming:
        if task_class not in self._known:
            self._known[task_class] = _Naming(self._find_class(task_class), self._find_secrets(task_class))
        return self._known[task_class]
