"""Says why nothing of a stage runs: its tasks wait for a queue that no worker takes tasks from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable

from controller.core.states import State
from controller.datastore.records import JobView, StageView, WorkerView
from shared.messages import ANY_QUEUE

#: Stage number -> a sentence; only of stages that wait in vain.
Waiting = dict[int, str]


#: Seconds that served queues are remembered: every look at a job with something in line asks for them.
_REMEMBERED = 0.5


class Listeners:
    """The queues that workers take tasks from. Asked for only when something waits; any thread may."""

    def __init__(self, ask: Callable[[], Iterable[WorkerView]]) -> None:
        self._ask = ask
        self._queues: frozenset[str] = frozenset()
        self._asked_at = -math.inf

    def waiting(self, job: JobView) -> Waiting:
        """Return what each stage of a job waits for in vain."""
        return {
            stage.number: _sentence(number, stage.waits_in)
            for stage in job.stages
            if (number := _claimable(stage)) and not self._served(stage.waits_in)
        }

    def _served(self, queue: str) -> bool:
        # Bad news is never old: a worker that has just come is seen at once.
        now = time.monotonic()
        if now - self._asked_at > _REMEMBERED or not _serves(self._queues, queue):
            self._queues = frozenset(name for worker in self._ask() if worker.state == "UP" for name in worker.slots)
            self._asked_at = now
        return _serves(self._queues, queue)


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
