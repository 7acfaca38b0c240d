"""A program that reads reports and sends them again, for as long as the run lasts; in some runs."""

from __future__ import annotations

import random
from typing import Final

from echelon.shared.codec import decode_message
from echelon.shared.ids import WorkerId
from echelon.shared.messages import REPORTS, Report
from tests.simulation.broker import Hub
from tests.simulation.world import World

#: It is there in one of so many runs.
_ONE_OF: Final = 4
#: Seconds between two messages that it sends.
_PAUSE: Final = 0.5, 1.5
#: Heartbeats that it remembers: those of the workers that live, and of some that died lately.
_REMEMBERED: Final = 6


class Stranger:
    """Keeps the last heartbeat of each life of a worker that held something, and repeats one now and then.

    It has a stream of random numbers of its own, so the runs without it are the same as if it did not exist.
    """

    def __init__(self, world: World, hub: Hub) -> None:
        self._world, self._hub = world, hub
        self._rng = random.Random(f"{world.seed}/stranger")
        self._heard: dict[WorkerId, bytes] = {}
        if self._rng.randrange(_ONE_OF) == 0:
            hub.overhear = self._note_message
            world.at(self._rng.uniform(*_PAUSE), None, self._repeat_report)

    def _note_message(self, queue: str, data: bytes) -> None:
        message = decode_message(data) if queue == REPORTS else None
        if isinstance(message, Report) and message.running:
            self._heard.pop(message.worker, None)
            self._heard[message.worker] = data
            if len(self._heard) > _REMEMBERED:
                del self._heard[next(iter(self._heard))]

    def _repeat_report(self) -> None:
        if self._heard:
            again = self._rng.choice(list(self._heard.values()))
            self._hub.deliver_message(REPORTS, again)
        self._world.at(self._rng.uniform(*_PAUSE), None, self._repeat_report)
