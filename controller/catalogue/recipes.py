"""Recipes: everything a worker needs to run the tasks of a class; and the names of secret inputs."""

from __future__ import annotations

from collections.abc import Iterable

from echelon.controller.catalogue.definitions import Catalogue, JobDefinition
from echelon.controller.catalogue.scripts import is_variable
from echelon.controller.catalogue.task_classes import InputDefinition, InputSource, TaskClass
from echelon.shared.expressions import to_text
from echelon.shared.messages import EnvironmentInput, Recipe

#: Name of the file that holds a script, in the folder of an attempt.
SCRIPT = "script"


def find_secret_inputs(catalogue: Catalogue, job: JobDefinition, task_class: str) -> frozenset[str]:
    """Return the inputs of a class whose values are secret: the job may hide more than the class does."""
    return catalogue.tasks[task_class].secret | job.secret


def make_recipe(
    task_class: TaskClass,
    *,
    spawns: bool,
    max_items: int = 100_000,
    job: JobDefinition | None = None,
    item_secret: frozenset[str] = frozenset(),
    shares_folder: bool = False,
) -> Recipe:
    """Return everything a worker needs to run tasks of a class; a job may allow and hide more of its inputs.

    `item_secret`: the secret inputs of the tasks that are spawned. `shares_folder`: other stages run beside it.
    """
    allowed = {name for name, one in task_class.input.items() if one.allow_leading_dash}
    secret = set(task_class.secret)
    if job is not None:
        allowed |= {name for name, one in job.input.items() if one.allow_leading_dash}
        secret |= job.secret
    command, *arguments = _list_words(task_class)
    return Recipe(
        task_class=task_class.task_class,
        exec_command=command,
        exec_args=tuple(arguments),
        env=_export_inputs(task_class) | task_class.env,
        files=task_class.files if task_class.run is None else {**task_class.files, SCRIPT: task_class.run},
        environment=tuple(_environment_inputs(task_class.input.values())),
        secret=frozenset(secret),
        leading_dash=frozenset(allowed),
        timeout=task_class.timeout,
        grace=task_class.grace,
        workdir=task_class.workdir,
        spawns=spawns,
        max_items=max_items,
        item_secret=item_secret,
        shares_folder=shares_folder and spawns and task_class.workdir == "job",
    )


def _list_words(task_class: TaskClass) -> Iterable[str]:
    """Return the command and its arguments as templates."""
    if task_class.run is None:
        return (task_class.exec_command, *task_class.exec_args)
    script = f"{{task_dir}}/{SCRIPT}"
    if task_class.run.startswith("#!"):
        return (script,)
    return (*(word.replace("{", "\\{") for word in task_class.shell), script)


def _export_inputs(task_class: TaskClass) -> dict[str, str]:
    """Return the variables by which a script gets its inputs."""
    if task_class.run is None:
        return {}
    return {name: f"{{{name}}}" for name in task_class.input if is_variable(name)}


def _environment_inputs(inputs: Iterable[InputDefinition]) -> Iterable[EnvironmentInput]:
    for one in inputs:
        if one.source is InputSource.ENVIRONMENT:
            default = None if one.required else to_text(one.default)
            yield EnvironmentInput(one.name, one.key, default, one.secret)
