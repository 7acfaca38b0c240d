"""Plan: a job's definition becomes stages; an item of a spawn.json becomes the values of a task."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from echelon.controller.catalogue.definitions import (
    Catalogue,
    JobDefinition,
    LaterTasks,
    ListedTasks,
    SingleTask,
    SpawnedTasks,
    StageDefinition,
    TaskDefinition,
)
from echelon.controller.catalogue.inputs import check_item_inputs
from echelon.controller.catalogue.task_classes import InputDefinition, InputSource, TaskClass
from echelon.controller.core.model import OnError, Source, Stage, Tally
from echelon.controller.core.states import State
from echelon.shared.messages import JsonValue

#: The author of a pause that the definition asks for.
DEFINED = "its definition"
#: Mistakes of one item that its task's error names.
_NAMED = 5
#: Longest reason that a worker gives in place of an item, in characters.
_LONGEST = 500


def plan_stages(catalogue: Catalogue, definition: JobDefinition) -> tuple[Stage, ...]:
    """Return the stages of a job that is to be submitted, all of them PENDING."""
    return tuple(_plan_stage(catalogue, definition, number) for number in range(len(definition.stages)))


def _plan_stage(catalogue: Catalogue, definition: JobDefinition, number: int) -> Stage:
    stage = definition.stages[number]
    spawns = stage.spawn_task is not None
    known = known_tasks(stage)
    return Stage(
        number=number,
        order=definition.order_of(number),
        name=stage.name,
        source=source_of(stage),
        on_error=policy_of(stage),
        queue=catalogue.tasks[stage.task_class].queue,
        spawn_queue=catalogue.tasks[stage.spawn_task].queue if stage.spawn_task else None,
        max_parallel=stage.max_parallel,
        fail_fast=stage.fail_fast,
        priority=_find_priority(catalogue, stage.task_class, definition),
        spawn_priority=_find_priority(catalogue, stage.spawn_task or stage.task_class, definition),
        max_failed=stage.max_failed,
        tally=Tally(pending=len(known), held=sum(task.paused for task in known)),
        spawn=State.PENDING if spawns else None,
        expected=None if spawns else len(known),
        by=DEFINED if stage.paused else None,
    )


def _find_priority(catalogue: Catalogue, task_class: str, definition: JobDefinition) -> int:
    own = catalogue.tasks[task_class].priority
    return definition.priority if own is None else own


def source_of(stage: StageDefinition) -> Source:
    """Return where the tasks of a stage come from."""
    match stage.source:
        case SpawnedTasks():
            return Source.SPAWN
        case LaterTasks():
            return Source.OPEN
        case SingleTask() | ListedTasks():
            return Source.FIXED


def known_tasks(stage: StageDefinition) -> tuple[TaskDefinition, ...]:
    """Return the tasks of a stage that are known when its job is submitted; a spawn task is none of them."""
    match stage.source:
        case SingleTask():
            return (TaskDefinition(stage.task_class),)
        case ListedTasks(tasks):
            return tasks
        case SpawnedTasks() | LaterTasks():
            return ()


def policy_of(stage: StageDefinition) -> OnError:
    """Return the effect that failed tasks of a stage have; with `max_failed`, once there are more."""
    if stage.block_on_error:
        return OnError.BLOCK
    counts = stage.job_failed_on_error or stage.max_failed is not None
    return OnError.FAIL_JOB if counts else OnError.IGNORE


def list_parameters(task_class: TaskClass) -> dict[str, InputDefinition]:
    """Return the inputs whose values come from the job or from an item, and not from the worker."""
    return {name: one for name, one in task_class.input.items() if one.source is not InputSource.ENVIRONMENT}


def stage_input(task_class: TaskClass, job_values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the values that every task of a class gets: the job's where the class wants them, else its defaults."""
    wanted = list_parameters(task_class)
    values = {name: one.default for name, one in wanted.items() if not one.required}
    return values | {name: value for name, value in job_values.items() if name in wanted}


def plan_item(task_class: TaskClass, item: object, given: Collection[str]) -> tuple[dict[str, JsonValue], str | None]:
    """Return the values that an item gives its task, and why it does not fit (None: it does).

    `given` names the inputs that the job has a value for.
    """
    if item is None:
        return {}, "spawn.json does not hold this item any more"
    if isinstance(item, str):
        # Its worker has written the reason in its place.
        return {}, "".join(one if one.isprintable() else "?" for one in item[:_LONGEST])
    values, mistakes = check_item_inputs(task_class, item, given)
    if not mistakes:
        return {name: value for name, value in values.items() if name in item}, None  # type: ignore[operator]
    named = [f"{mistake.pointer.removeprefix('#').lstrip('/')} {mistake.detail}" for mistake in mistakes[:_NAMED]]
    more = f"; and {len(mistakes) - _NAMED} more" if len(mistakes) > _NAMED else ""
    return {}, "the item does not fit the task: " + "; ".join(named) + more
