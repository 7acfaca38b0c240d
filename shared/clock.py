"""Time as a port, so that a test can control it.

`wall` is only for timestamps; durations are measured with `monotonic`.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Final, Protocol


class Clock(Protocol):
    """Tells the time."""

    def wall(self) -> float:
        """Return seconds since the Unix epoch."""

    def monotonic(self) -> float:
        """Return seconds on a clock that is never adjusted and goes on while the machine is suspended."""


#: Python's own monotonic clock stands still while the machine is suspended; leases run on.
_MONOTONIC: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's own clocks."""

    def wall(self) -> float:
        return time.time()

    # Asked some twenty times for each task: a function of Python around it would double its cost.
    monotonic = staticmethod(partial(time.clock_gettime, _MONOTONIC))
