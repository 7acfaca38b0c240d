"""Gives a job that opens again its values: its secrets were erased when it ended.

Secrets of single tasks are not given again: a job whose tasks need one that was erased has to be submitted again.
"""

from __future__ import annotations

from echelon.controller.core.model import Job
from echelon.controller.core.states import ENDED
from echelon.controller.engine.base.inputs import gather_inputs
from echelon.controller.engine.base.items import new_seal
from echelon.controller.engine.base.requests import Given
from echelon.controller.engine.base.unit_of_work import UnitOfWork
from echelon.controller.engine.dependencies import JobDependencies
from echelon.shared.ablation import ablated
from echelon.shared.errors import Conflict


class Opening:
    """Gives jobs their values again, in a unit of work where they have just been opened."""

    def __init__(self, parts: JobDependencies) -> None:
        self._parts = parts

    def give_inputs(self, unit: UnitOfWork, before: Job, given: Given) -> None:
        """Give a job its values, if it has been opened again.

        Raises InvalidInputs when a value is missing or does not fit, and Conflict when a task that is to run has lost a
        secret of its own.
        """
        if before.state in ENDED and unit.require_job(before.job_id).state not in ENDED:
            sealed = self._give_job(unit, before, given)
        else:
            # The seal's number does not tell whether this is the job's first life: a job that an earlier release has
            # accepted gets its first seal when it is opened again.
            sealed = unit.tx.load_inputs(before.job_id).seal is not None
        if sealed and not ablated("lost_secrets"):
            self._refuse_lost_secrets(unit, before)

    def _give_job(self, unit: UnitOfWork, job: Job, given: Given) -> bool:
        """Give a job its values; tell whether its tasks may have had secrets of their own."""
        sealer, snapshots = self._parts.sealer, self._parts.snapshots
        catalogue, definition = snapshots.find_catalogue(job.job_id), snapshots.find_definition(job.job_id)
        kept = unit.tx.load_inputs(job.job_id).values
        inputs = gather_inputs(catalogue, definition, given.input, given.headers, kept=kept)
        secrets = {} if ablated("given_secrets") else inputs.secrets
        sealed = {name: sealer.seal_text(value) for name, value in secrets.items()}
        seal = new_seal(sealer, catalogue, definition)
        unit.tx.replace_input(job.job_id, inputs.values, sealed, seal)
        return seal is not None

    def _refuse_lost_secrets(self, unit: UnitOfWork, job: Job) -> None:
        task = unit.tx.find_lost_secret(job.job_id)
        if task is None:
            return
        secret = self._parts.snapshots.secret_inputs_of(job.job_id, task.task_class)
        names = ", ".join(sorted(secret & task.input.keys()))
        raise Conflict(
            f"task {task.index} of stage {task.stage} needs its own {names}, erased when the job ended: submit the job "
            "again, or skip the task"
        )
