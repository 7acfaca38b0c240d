"""Single tasks on their way into the store: those that are known when a job is submitted, and their secret values."""

from __future__ import annotations

from collections.abc import Collection

from controller.catalogue.definitions import Catalogue, StageDefinition, TaskDefinition
from controller.core.model import Source, Stage
from controller.core.planner import DEFINED
from controller.core.states import State
from controller.datastore.records import SPAWN_INDEX, NewTask
from shared.expressions import to_text
from shared.ids import new_task_ids
from shared.messages import JsonValue
from shared.sealing import Sealer


def seal_values(sealer: Sealer, values: dict[str, JsonValue], secret: Collection[str]) -> dict[str, JsonValue]:
    """Return values with the secret ones sealed."""
    if not any(name in secret for name in values):
        return values
    return {name: sealer.seal(to_text(value)) if name in secret else value for name, value in values.items()}


def plan_tasks(catalogue: Catalogue, stage: Stage, described: StageDefinition, sealer: Sealer) -> list[NewTask]:
    """Return the tasks of a stage that are known when its job is submitted."""
    if stage.source is Source.OPEN:
        return []
    if stage.source is Source.SPAWN:
        assert described.spawn_task is not None and stage.spawn_queue is not None, (
            "a stage that spawns has a spawn task"
        )
        return [NewTask(new_task_ids(1)[0], SPAWN_INDEX, State.PENDING, described.spawn_task, stage.spawn_queue)]
    known = described.tasks or (TaskDefinition(described.task_class),)
    return [
        NewTask(
            task_id=task_id,
            index=index,
            state=State.PENDING,
            task_class=task.task_class,
            queue=stage.queue,
            input=seal_values(sealer, task.input, catalogue.tasks[task.task_class].secret),
            paused_by=DEFINED if task.paused else None,
        )
        for index, (task, task_id) in enumerate(zip(known, new_task_ids(len(known)), strict=True))
    ]
