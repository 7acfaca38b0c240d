"""A bell inside one process: rung when jobs end, heard by those who wait for one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from threading import Condition

from echelon.shared.clock import Clock
from echelon.shared.ids import JobId

#: Seconds between looks at the store: another controller may have ended the job, and its bell is not heard here.
_LOOK = 0.5


class Changes:
    """Lets threads wait for a job's end without asking the store all the time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._condition = Condition()
        self._rings = 0

    def ring(self, ended: Collection[JobId]) -> None:
        """Wake those who wait, if a job has ended."""
        if ended:
            with self._condition:
                self._rings += 1
                self._condition.notify_all()

    def wait(self, over: Callable[[], bool], timeout: float) -> bool:
        """Return whether `over` came true within `timeout` seconds; it is asked after every ring."""
        deadline = self._clock.monotonic() + timeout
        while True:
            rings = self._rings
            if over():
                return True
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return False
            with self._condition:
                if self._rings == rings:
                    self._condition.wait(min(left, _LOOK))
