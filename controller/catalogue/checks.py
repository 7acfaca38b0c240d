"""Checks between the parts of a catalogue: jobs that name unknown tasks, tasks whose inputs no job gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from echelon.controller.catalogue.definitions import JobDefinition, LaterTasks, SingleTask, StageDefinition
from echelon.controller.catalogue.reading import Reading
from echelon.controller.catalogue.task_checks import (
    check_inputs,
    check_task,
    has_unread_inputs,
    warn_of_ascii,
    warn_of_secrets,
)
from echelon.controller.catalogue.task_classes import InputDefinition, InputSource, TaskClass
from echelon.controller.catalogue.tree import Path, join_path
from echelon.shared.expressions import suggest_name


@dataclass
class Draft:
    """All tasks and jobs of all files, as far as they could be read."""

    tasks: dict[str, TaskClass] = field(default_factory=dict)
    jobs: dict[str, JobDefinition] = field(default_factory=dict)
    #: The file that each stands in.
    task_readings: dict[str, Reading] = field(default_factory=dict)
    job_readings: dict[str, Reading] = field(default_factory=dict)
    #: Names of all task classes that are written, the refused ones too.
    named: set[str] = field(default_factory=set)
    #: Every file could be read.
    whole: bool = True


def check_draft(draft: Draft) -> tuple[dict[str, TaskClass], dict[str, JobDefinition]]:
    """Return the tasks and jobs with what one tells about the other, after noting every mistake in their readings."""
    tasks = {name: check_task(draft.task_readings[name], task) for name, task in draft.tasks.items()}
    jobs = {}
    for name, job in draft.jobs.items():
        reading = draft.job_readings[name]
        check_inputs(reading, ("jobs", name), job.input.values())
        _check_stages(reading, job, draft, tasks)
        jobs[name] = _with_tasks(job, tasks)
    warn_of_ascii(_list_inputs(draft))
    for name, task in tasks.items():
        warn_of_secrets(draft.task_readings[name], task, task.secret | _secret_from_jobs(task, jobs.values()))
    return tasks, jobs


def _list_inputs(draft: Draft) -> Iterator[tuple[Reading, Path, InputDefinition]]:
    for name, task in draft.tasks.items():
        yield from ((draft.task_readings[name], ("tasks", name), one) for one in task.input.values())
    for name, job in draft.jobs.items():
        yield from ((draft.job_readings[name], ("jobs", name), one) for one in job.input.values())


def _check_stages(reading: Reading, job: JobDefinition, draft: Draft, tasks: Mapping[str, TaskClass]) -> None:
    path: Path = ("jobs", job.type, "stages")
    _check_for_none(reading, path)
    for number, stage in enumerate(job.stages):
        here = (*path, number)
        _check_named(reading, (*here, "task_class"), stage.task_class, draft)
        if stage.spawn_task is not None:
            _check_named(reading, (*here, "spawn_task"), stage.spawn_task, draft)
            _check_reach(reading, (*here, "spawn_task"), tasks.get(stage.spawn_task), job)
        elif isinstance(stage.source, SingleTask):
            _check_reach(reading, (*here, "task_class"), tasks.get(stage.task_class), job)
        _check_sense(reading, here, stage)
    _warn_of_shared_folders(reading, path, job, tasks)


def _warn_of_shared_folders(reading: Reading, path: Path, job: JobDefinition, tasks: Mapping[str, TaskClass]) -> None:
    """Warn of spawn tasks that may leave their file in a folder where another stage runs at the same time."""
    by_order: dict[int, list[int]] = {}
    for number in range(len(job.stages)):
        by_order.setdefault(job.order_of(number), []).append(number)
    for together in by_order.values():
        for number in together if len(together) > 1 else ():
            spawn = tasks.get(job.stages[number].spawn_task or "")
            if spawn is None or spawn.workdir != "job" or _names_spawn_file(spawn):
                continue
            other = together[0] if together[0] != number else together[1]
            names = f"{job.stages[number].name!r} and {job.stages[other].name!r}"
            message = f"the stages {names} run at the same time in one folder: a spawn.json that is written there"
            remedy = 'write it to $ECHELON_SPAWN_FILE, or give the program "{spawn_file}"'
            reading.add_warning(reading.find_value((*path, number, "spawn_task")), f"{message} is not read", remedy)


def _names_spawn_file(task: TaskClass) -> bool:
    written = (task.exec_command, *task.exec_args, *task.env.values())
    return any("ECHELON_SPAWN_FILE" in text or "spawn_file" in text for text in written)


def _check_sense(reading: Reading, path: Path, stage: StageDefinition) -> None:
    """Note what contradicts itself in one stage."""
    if isinstance(stage.source, LaterTasks) and (*path, "spawn_task") in reading.keys:
        place = reading.find_key((*path, "tasks"))
        reading.add_mistake(
            place, f"{join_path(path)}.tasks: a stage with a spawn_task has its tasks from it", "leave one out"
        )
    if stage.block_on_error and not stage.job_failed_on_error:
        place = reading.find_key((*path, "on_error"))
        message = f"{join_path(path)}.on_error: block contradicts job_failed_on_error: false"
        reading.add_mistake(place, message, "leave one of them out")
    if stage.max_failed is not None and stage.job_failed_on_error and _is_written(reading, path, "job_failed_on_error"):
        place = reading.find_key((*path, "max_failed"))
        message = f"{join_path(path)}.max_failed: {stage.max_failed} contradicts job_failed_on_error: true"
        reading.add_mistake(place, message, "leave job_failed_on_error out")
    if stage.fail_fast and not stage.job_failed_on_error and stage.max_failed is None:
        place = reading.find_key((*path, "fail_fast"))
        reading.add_warning(place, "fail_fast means nothing when job_failed_on_error is false", "leave it out")
    if stage.block_on_error and stage.fail_fast:
        place = reading.find_key((*path, "fail_fast"))
        reading.add_warning(place, "fail_fast means nothing with on_error: block", "leave it out")


def _is_written(reading: Reading, path: Path, key: str) -> bool:
    """Tell whether a key stands in a table, also one that the table has from an anchor."""
    found: Any = reading.data
    for step in path:
        found = found[step]
    return key in found


def _check_for_none(reading: Reading, path: Path) -> None:
    jobs = reading.data.get("jobs")
    job = jobs.get(path[1]) if isinstance(jobs, dict) else None
    if isinstance(job, dict) and "stages" in job and not job["stages"]:
        place = reading.find_key(path)
        reading.add_mistake(place, f"{join_path(path)}: a job needs at least one stage", "add `- task_class: ...`")


def _check_named(reading: Reading, path: Path, name: str, draft: Draft) -> None:
    if not name or name in draft.named or not draft.whole:
        return
    guess = suggest_name(name, draft.named)
    remedy = f"did you mean {guess}?" if guess else "define it under `tasks:`"
    reading.add_mistake(reading.find_value(path), f"there is no task class {name!r}", remedy)


def _check_reach(reading: Reading, path: Path, task: TaskClass | None, job: JobDefinition) -> None:
    """Note the inputs of a task that takes the job's values as they are, and that no value can reach."""
    if task is None or has_unread_inputs(reading, path[:2]):
        return
    for one in task.input.values():
        if one.source is InputSource.PARAMETER and one.required and one.name not in job.input:
            remedy = f"declare {one.name} in the input of the job, or give it a default in the task"
            if path[-1] == "task_class":
                remedy += ", or add a spawn_task"
            message = f"the task class {task.task_class!r} needs the input {one.name!r}, and the job does not give it"
            reading.add_mistake(reading.find_value(path), message, remedy)


def _with_tasks(job: JobDefinition, tasks: Mapping[str, TaskClass]) -> JobDefinition:
    """Return the job with what its tasks say about its inputs."""
    secret = {name for name, one in job.input.items() if one.secret}
    leading: set[str] = set()
    for task in _tasks_of(job.stages, tasks):
        secret |= task.secret & job.input.keys()
        for name in task.leading & job.input.keys():
            wanted = task.input[name]
            allowed = wanted.allow_leading_dash or job.input[name].allow_leading_dash
            if wanted.source is InputSource.PARAMETER and not allowed:
                leading.add(name)
    return replace(job, secret=frozenset(secret), leading=frozenset(leading))


def _tasks_of(stages: Iterable[StageDefinition], tasks: Mapping[str, TaskClass]) -> list[TaskClass]:
    names = [name for stage in stages for name in (stage.spawn_task, stage.task_class) if name]
    return [tasks[name] for name in names if name in tasks]


def _secret_from_jobs(task: TaskClass, jobs: Iterable[JobDefinition]) -> set[str]:
    """Return the inputs of a task that some job fills with a secret."""
    secret: set[str] = set()
    for job in jobs:
        if any(task.task_class in (stage.task_class, stage.spawn_task) for stage in job.stages):
            secret |= job.secret & task.input.keys()
    return secret
