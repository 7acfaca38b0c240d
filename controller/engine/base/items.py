"""Single tasks on their way into the store: those that are known when a job is submitted, and their secret values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass

from echelon.controller.catalogue.definitions import Catalogue, JobDefinition, StageDefinition
from echelon.controller.catalogue.recipes import find_secret_inputs
from echelon.controller.core.model import Stage
from echelon.controller.core.planner import DEFINED, known_tasks
from echelon.controller.core.states import State
from echelon.controller.datastore.records import SPAWN_INDEX, JobInputs, NewTask
from echelon.shared.expressions import to_text
from echelon.shared.ids import new_task_ids
from echelon.shared.messages import JsonValue
from echelon.shared.sealing import CannotOpen, Seal, Sealer, open_value


@dataclass(frozen=True, slots=True)
class TaskSealing:
    """The seal that a job has in its present life."""

    seal: Seal
    number: int

    def seal_values(
        self, values: dict[str, JsonValue], secret: Collection[str]
    ) -> tuple[dict[str, JsonValue], int | None]:
        """Return values with the secret ones sealed, and the number of the seal; None: there are none."""
        if not any(name in secret for name in values):
            return values, None
        sealed = {
            name: self.seal.seal_text(to_text(value)) if name in secret else value for name, value in values.items()
        }
        return sealed, self.number


def open_sealing(sealer: Sealer, inputs: JobInputs) -> TaskSealing:
    """Return what the secrets of a job's tasks are sealed with."""
    return TaskSealing(sealer.open_seal(inputs.seal), inputs.seal_number)


def new_seal(sealer: Sealer, catalogue: Catalogue, definition: JobDefinition) -> str | None:
    """Return a seal for a job whose tasks may have secrets of their own; None: they have none."""
    classes = {name for stage in definition.stages for name in stage.classes}
    secret = any(find_secret_inputs(catalogue, definition, name) for name in classes)
    return sealer.new_seal() if secret else None


def open_item(seal: Seal, item: object, secret: Set[str]) -> tuple[object, frozenset[str]]:
    """Return a spawned item with what its worker has sealed in clear, and which of that cannot be opened any more."""
    if not isinstance(item, dict):
        return item, frozenset()
    clear, lost = dict(item), set()
    for name in secret & item.keys():
        try:
            clear[name] = open_value(seal, item[name])
        except CannotOpen:
            del clear[name]
            lost.add(name)
    return clear, frozenset(lost)


def explain_erased(names: Iterable[str]) -> str:
    """Return what is said of an item whose secrets were erased before it became a task."""
    shown = ", ".join(repr(name) for name in sorted(names))
    return f"its own {shown} was erased when the job ended, before this item became a task: submit the job again"


def plan_tasks(catalogue: Catalogue, stage: Stage, described: StageDefinition, sealing: TaskSealing) -> list[NewTask]:
    """Return the tasks of a stage that are known when its job is submitted."""
    spawn = described.spawn_task
    if spawn is not None:
        return [NewTask(new_task_ids(1)[0], SPAWN_INDEX, State.PENDING, spawn, catalogue.tasks[spawn].queue)]
    known = known_tasks(described)
    tasks = []
    for index, (task, task_id) in enumerate(zip(known, new_task_ids(len(known)), strict=True)):
        values, number = sealing.seal_values(task.input, catalogue.tasks[task.task_class].secret)
        tasks.append(
            NewTask(
                task_id=task_id,
                index=index,
                state=State.PENDING,
                task_class=task.task_class,
                queue=stage.queue,
                input=values,
                seal_number=number,
                paused_by=DEFINED if task.paused else None,
            )
        )
    return tasks
