"""What a job that opens again is given anew: its secrets were erased when it had ended, and those of its tasks.

A task that is to run and has lost a secret of its own is never started without it: whoever lets it run again gives it
the secret, or is told which tasks lack which.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from echelon.controller.catalogue.inputs import item_inputs
from echelon.controller.core.model import Job
from echelon.controller.core.states import ENDED, State
from echelon.controller.datastore.records import LostSecrets
from echelon.controller.engine.base.board import Board
from echelon.controller.engine.base.inputs import Inputs, gather_inputs
from echelon.controller.engine.base.items import Sealing, new_seal, sealing
from echelon.controller.engine.base.requests import Given, InvalidInputs, Mistake
from echelon.controller.engine.dependencies import JobsParts
from echelon.shared.ablation import ablated
from echelon.shared.ids import JobId, TaskId
from echelon.shared.messages import JsonValue

_TO_RUN = frozenset({State.PENDING, State.QUEUED})
#: Tasks that one answer names.
_TOLD = 100
#: Tasks whose secrets are looked for and sealed in one go.
_BATCH = 1_000


class Opening:
    """Gives jobs and tasks their values anew, on a board where they have just been let run again."""

    def __init__(self, parts: JobsParts) -> None:
        self._parts = parts

    def _gather(self, board: Board, job: Job, given: Given) -> Inputs:
        """Return the values of a job that opens again; raise InvalidInputs."""
        snapshots = self._parts.snapshots
        catalogue = snapshots.catalogue(job.job_id)
        kept = board.tx.load_inputs(job.job_id).values
        return gather_inputs(catalogue, snapshots.definition(job.job_id), given.input, given.headers, kept=kept)

    def give(self, board: Board, before: Job, given: Given) -> None:
        """Give a job, if it has been opened again, its values anew, and its tasks what they have lost.

        Raises InvalidInputs when something is missing or does not fit.
        """
        if before.state in ENDED and board.require(before.job_id).state not in ENDED:
            lost = self._give_job(board, before, given)
        else:
            # Tasks of a job that is still in its first life have lost nothing, but the number of its seal does not tell
            # that: one that an earlier release has accepted, and that was opened again, has got its first seal there.
            lost = board.tx.load_inputs(before.job_id).seal is not None
        if given.tasks or lost:
            self._give_tasks(board, before, given)

    def lacking(self, board: Board, job_id: JobId, task_ids: Collection[TaskId], given: Given) -> dict[TaskId, str]:
        """Return which of these tasks have lost secrets that they are not given anew, and what to do about it."""
        asked = [task_id for task_id in task_ids if task_id not in given.tasks]
        if not asked:
            return {}
        lost = board.tx.lost_secrets(job_id, limit=len(asked), among=asked)
        return {one.task_id: self._lacks(job_id, one) for one in lost}

    def _give_job(self, board: Board, job: Job, given: Given) -> bool:
        """Give a job its values anew; tell whether its tasks may have had secrets of their own."""
        inputs = self._gather(board, job, given)
        sealer, snapshots = self._parts.sealer, self._parts.snapshots
        catalogue = snapshots.catalogue(job.job_id)
        sealed = {name: sealer.seal_text(value) for name, value in inputs.secrets.items()}
        seal = new_seal(sealer, catalogue, snapshots.definition(job.job_id))
        board.tx.replace_input(job.job_id, inputs.values, sealed, seal)
        return seal is not None

    def _give_tasks(self, board: Board, job: Job, given: Given) -> None:
        mistakes: list[Mistake] = []
        if given.tasks:
            mistakes += self._take(board, job, given.tasks)
        if not mistakes:
            lost = [] if ablated("lost_secrets") else board.tx.lost_secrets(job.job_id, limit=_TOLD)
            mistakes += [Mistake(_place(one.task_id), self._lacks(job.job_id, one)) for one in lost]
        if mistakes:
            raise InvalidInputs(mistakes[:_TOLD])

    def _take(self, board: Board, job: Job, given: Mapping[TaskId, Mapping[str, JsonValue]]) -> list[Mistake]:
        """Seal what tasks are given; return what is wrong with it."""
        # All that comes back needs its secrets at once: as many tasks as the job may have.
        most = self._parts.max_items * len(job.stages)
        if len(given) > most:
            return [Mistake("#/tasks", f"names {len(given)} tasks, this job has at most {most}")]
        own = sealing(self._parts.sealer, board.tx.load_inputs(job.job_id))
        mistakes: list[Mistake] = []
        task_ids = list(given)
        for start in range(0, len(task_ids), _BATCH):
            some = {task_id: given[task_id] for task_id in task_ids[start : start + _BATCH]}
            mistakes += self._take_some(board, job, some, own)
            if len(mistakes) >= _TOLD:
                break
        return mistakes

    def _take_some(
        self, board: Board, job: Job, given: Mapping[TaskId, Mapping[str, JsonValue]], own: Sealing
    ) -> list[Mistake]:
        lost = board.tx.lost_secrets(job.job_id, limit=len(given), among=given.keys())
        found = {one.task_id: one for one in lost if one.state in _TO_RUN}
        mistakes, rows = [], []
        for task_id, values in given.items():
            one = found.get(task_id)
            if one is None:
                what = "no task of this job that runs again and has lost a secret"
                mistakes.append(Mistake(_place(task_id), f"is {what}"))
                continue
            fitting, wrong = self._fitting(job, one, values, own)
            mistakes += wrong
            rows.append((one.key, one.input if ablated("given_secrets") else fitting))
        if not mistakes:
            board.tx.give_secrets(job.job_id, rows)
        return mistakes

    def _fitting(
        self, job: Job, task: LostSecrets, values: Mapping[str, JsonValue], own: Sealing
    ) -> tuple[dict[str, JsonValue], list[Mistake]]:
        """Return a task's values with the lost ones replaced, sealed; and what is wrong with those."""
        place = _place(task.task_id)
        lost = self._names(job.job_id, task)
        mistakes = [Mistake(f"{place}/{name}", "is no secret of this task") for name in sorted(values.keys() - lost)]
        mistakes += [Mistake(f"{place}/{name}", "is required") for name in sorted(lost - values.keys())]
        task_class = self._parts.snapshots.task_class(job.job_id, task.task_class)
        known = {name: value for name, value in values.items() if name in lost}
        checked, wrong = item_inputs(task_class, known, task_class.input.keys(), where=place)
        mistakes += [Mistake(one.pointer, one.detail) for one in wrong]
        sealed, _ = own.values({name: value for name, value in checked.items() if name in known}, lost)
        return {**task.input, **sealed}, mistakes

    def _names(self, job_id: JobId, task: LostSecrets) -> frozenset[str]:
        return self._parts.snapshots.secret(job_id, task.task_class) & task.input.keys()

    def _lacks(self, job_id: JobId, task: LostSecrets) -> str:
        names = ", ".join(sorted(self._names(job_id, task)))
        where = f"task {task.index} of stage {task.stage}"
        return f"{where} has lost its own {names}, erased when the job had ended: give it again here, or skip the task"


def _place(task_id: TaskId) -> str:
    return f"#/tasks/{task_id}"
