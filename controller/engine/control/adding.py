"""Tasks that are added by hand: checked and planned like the items of a spawn.json, then inserted behind the others."""

from __future__ import annotations

from collections.abc import Sequence

from echelon.controller.catalogue.inputs import check_item_inputs
from echelon.controller.core.answers import Allowed, Kind, Verb, answer_verb
from echelon.controller.core.events import TasksAdded
from echelon.controller.core.model import Stage
from echelon.controller.core.states import ENDED, State
from echelon.controller.datastore.records import NewTask
from echelon.controller.engine.base.items import open_sealing
from echelon.controller.engine.base.requests import Added, InvalidInputs, RequestMistake
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.controller.engine.dependencies import JobDependencies
from echelon.shared.errors import Conflict, NotFound
from echelon.shared.ids import JobId, new_task_ids

#: Mistakes that one answer tells.
_TOLD = 100
#: Tasks of one statement.
_AT_ONCE = 5_000


class Adding:
    """Plans tasks outside of a transaction, and adds them within one."""

    def __init__(self, parts: JobDependencies) -> None:
        self._parts = parts

    def plan_tasks(self, job_id: JobId, stage: int, items: Sequence[object], *, paused_by: str | None) -> list[NewTask]:
        """Return a task for each item, its index counted from 0; raise NotFound, InvalidInputs."""
        snapshots = self._parts.snapshots
        definition = snapshots.find_definition(job_id)
        if not 0 <= stage < len(definition.stages):
            raise NotFound(f"job {job_id} has no stage {stage}")
        if not items:
            raise InvalidInputs([RequestMistake("#/tasks", "is empty: name at least one task")])
        name = definition.stages[stage].task_class
        task_class = snapshots.task_class(job_id, name)
        secret = snapshots.secret_inputs_of(job_id, name)
        sealed = open_sealing(self._parts.sealer, snapshots.find_facts(job_id).inputs)
        mistakes: list[RequestMistake] = []
        tasks = []
        for place, (item, task_id) in enumerate(zip(items, new_task_ids(len(items)), strict=True)):
            values, wrong = check_item_inputs(task_class, item, definition.input.keys(), where=f"#/tasks/{place}")
            mistakes += [RequestMistake(one.pointer, one.detail) for one in wrong]
            if len(mistakes) >= _TOLD:
                break
            given = {key: value for key, value in values.items() if isinstance(item, dict) and key in item}
            own, seal_number = sealed.seal_values(given, secret)
            tasks.append(
                NewTask(
                    task_id=task_id,
                    index=place,
                    state=State.PENDING,
                    task_class=name,
                    queue=task_class.queue,
                    input=own,
                    seal_number=seal_number,
                    paused_by=paused_by,
                    run=0,
                )
            )
        if mistakes:
            raise InvalidInputs(mistakes[:_TOLD])
        return tasks

    def insert_tasks(self, unit: UnitOfWork, job_id: JobId, stage: Stage, planned: Sequence[NewTask]) -> Added:
        """Insert planned tasks behind those that a stage of a locked job has; raise Conflict."""
        job = unit.require_job(job_id)
        said = answer_verb(Kind.STAGE, stage.state, Verb.ADD, paused=stage.paused or job.paused)
        if not isinstance(said, Allowed):
            raise Conflict(f"no tasks can be added to the stage: {said.reason}")
        present = unit.tx.load_inputs(job_id).seal_number
        sealed = [task.seal_number for task in planned if task.seal_number is not None]
        if sealed and (job.state in ENDED or any(number != present for number in sealed)):
            raise Conflict("the job has ended, and keeps no secret: retry it before tasks with secrets are added")
        first = stage.next_index
        if max(stage.tally.total, stage.expected or 0) + len(planned) > self._parts.max_items:
            raise InvalidInputs([RequestMistake("#/tasks", f"a stage has at most {self._parts.max_items} tasks")])
        held = sum(task.paused_by is not None for task in planned)
        free = State.QUEUED if stage.state is State.RUNNING else State.PENDING
        for task in planned:
            task.index += first
            task.state = State.PENDING if task.paused_by is not None else free
        for start in range(0, len(planned), _AT_ONCE):
            unit.tx.insert_tasks(job_id, stage.number, planned[start : start + _AT_ONCE])
        unit.apply_event(job_id, TasksAdded(stage.number, len(planned), held))
        return Added(tuple(task.task_id for task in planned), first)
