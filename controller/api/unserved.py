"""Says why nothing of a stage runs: its tasks wait for a queue that no worker takes tasks from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from echelon.controller.datastore.records import JobView, WorkerView
from echelon.controller.engine.why.explanations import count_claimable, no_worker, serves_queue

#: Stage number -> a sentence, for stages whose queue no worker serves.
Waiting = dict[int, str]


#: Seconds that served queues are remembered: every look at a job with something in line asks for them.
_REMEMBERED = 0.5


class ServedQueues:
    """The queues that workers take tasks from. Asked for only when something waits; any thread may."""

    def __init__(self, ask: Callable[[], Iterable[WorkerView]], connected: Callable[[], bool]) -> None:
        self._ask = ask
        self._connected = connected
        self._queues: frozenset[str] = frozenset()
        self._asked_at = -math.inf

    def explain_waiting(self, job: JobView) -> Waiting:
        """Return the stages of a job that no worker serves, each with a sentence."""
        return {
            stage.number: no_worker(number, stage.claim_queue, connected=self._connected())
            for stage in job.stages
            if (number := count_claimable(stage)) and not self._is_served(stage.claim_queue)
        }

    def _is_served(self, queue: str) -> bool:
        # Bad news is never old: a worker that has just come is seen at once.
        now = time.monotonic()
        if now - self._asked_at > _REMEMBERED or not serves_queue(self._queues, queue):
            self._queues = frozenset(name for worker in self._ask() if worker.state == "UP" for name in worker.slots)
            self._asked_at = now
        return serves_queue(self._queues, queue)
