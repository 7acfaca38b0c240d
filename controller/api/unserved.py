"""Says why nothing of a stage runs: its tasks wait for a queue that no worker takes tasks from."""

from __future__ import annotations

from collections.abc import Collection

from controller.api.config import context
from controller.core.states import State
from controller.datastore.records import JobView, StageView
from shared.messages import ANY_QUEUE

#: Stage number -> a sentence; only of stages that wait in vain.
Waiting = dict[int, str]


class Listeners:
    """The queues that workers take tasks from. Asked for once, and only when something waits."""

    def __init__(self) -> None:
        self._queues: frozenset[str] | None = None

    def waiting(self, job: JobView) -> Waiting:
        """Return what each stage of a job waits for in vain."""
        return {
            stage.number: _sentence(number, stage.waits_in)
            for stage in job.stages
            if (number := _claimable(stage)) and not _serves(self._listened(), stage.waits_in)
        }

    def _listened(self) -> frozenset[str]:
        if self._queues is None:
            here = context()
            with here.jobs.store.read() as reader:
                workers = reader.workers(lost_after=here.settings.lost_after)
            self._queues = frozenset(queue for worker in workers if worker.state == "UP" for queue in worker.slots)
        return self._queues


def _claimable(stage: StageView) -> int:
    """Return how many tasks of a stage could begin now."""
    if stage.state is not State.RUNNING:
        return 0
    return 1 if stage.spawn is State.QUEUED else stage.tally.queued


def _serves(queues: Collection[str], queue: str) -> bool:
    return queue in queues or ANY_QUEUE in queues


def _sentence(number: int, queue: str) -> str:
    tasks = "1 task waits" if number == 1 else f"{number} tasks wait"
    return f"{tasks} for the queue {queue!r}, and no worker takes tasks from it"
