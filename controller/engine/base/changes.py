"""Wakes the threads of one process that wait for a job's end."""

from __future__ import annotations

from collections.abc import Callable, Collection
from threading import Condition

from echelon.shared.clock import Clock
from echelon.shared.ids import JobId

#: Seconds between looks at the store: another controller may have ended the job, and its wake-up does not arrive here.
_LOOK = 0.5


class Changes:
    """Lets threads wait for a job's end without asking the store all the time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._condition = Condition()
        self._wakes = 0

    def wake_waiting(self, ended: Collection[JobId]) -> None:
        """Wake those who wait, if a job has ended."""
        if ended:
            with self._condition:
                self._wakes += 1
                self._condition.notify_all()

    def await_change(self, over: Callable[[], bool], timeout: float) -> bool:
        """Return whether `over` came true within `timeout` seconds; it is asked after every wake-up."""
        deadline = self._clock.monotonic() + timeout
        while True:
            wakes = self._wakes
            if over():
                return True
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return False
            with self._condition:
                if self._wakes == wakes:
                    self._condition.wait(min(left, _LOOK))
