"""Says why nothing of a stage runs: its tasks wait for a queue that no worker takes tasks from."""

from __future__ import annotations

from controller.api.config import context
from controller.datastore.records import JobView
from controller.engine.why import claimable, no_worker, serves

#: Stage number -> a sentence; only of stages that wait in vain.
Waiting = dict[int, str]


class Listeners:
    """The queues that workers take tasks from. Asked for once, and only when something waits."""

    def __init__(self) -> None:
        self._queues: frozenset[str] | None = None

    def waiting(self, job: JobView) -> Waiting:
        """Return what each stage of a job waits for in vain."""
        return {
            stage.number: no_worker(number, stage.waits_in)
            for stage in job.stages
            if (number := claimable(stage)) and not serves(self._listened(), stage.waits_in)
        }

    def _listened(self) -> frozenset[str]:
        if self._queues is None:
            here = context()
            with here.jobs.store.read() as reader:
                workers = reader.workers(lost_after=here.settings.lost_after)
            self._queues = frozenset(queue for worker in workers if worker.state == "UP" for queue in worker.slots)
        return self._queues
