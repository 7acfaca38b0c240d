"""How fast the tasks of a stage end, and when the last one will have, seen from outside."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from echelon.controller.commands.screen import count_seconds, format_duration

if TYPE_CHECKING:
    from echelon.controller.shapes import Stage

#: Seconds of the past that the rate is measured over, and how many tasks must have ended for one.
_WINDOW: Final = 60.0
_ENOUGH: Final = 5
#: Nine of ten estimates lie within so many standard deviations.
_SPREAD: Final = 1.64


class Pace:
    """The pace of each stage of a job, from the counts that were seen."""

    def __init__(self) -> None:
        #: Of each stage: moments and how many of its tasks had ended then.
        self._seen: dict[int, deque[tuple[float, int]]] = {}

    def describe_pace(self, stage: Stage, *, now: float | None = None) -> str:
        """Return the rate of a running stage and how long it may still take; nothing if too few tasks have ended."""
        now = time.monotonic() if now is None else now
        counts, total = stage["counts"], stage["total"]
        ended = counts["COMPLETED"] + counts["FAILED"]
        seen = self._seen.setdefault(stage["number"], deque())
        if seen and ended < seen[-1][1]:
            # A retry has opened tasks again.
            seen.clear()
        seen.append((now, ended))
        while now - seen[0][0] > _WINDOW:
            seen.popleft()
        if stage["state"] != "RUNNING" or not stage["started_at"] or not total:
            return ""
        seconds, number = now - seen[0][0], ended - seen[0][1]
        if number < _ENOUGH:
            # The watch has just begun: the whole life of the stage is all there is.
            seconds, number = count_seconds(stage["started_at"]), ended
        left = total - ended - counts["CANCELLED"] - counts["SKIPPED"]
        if number < _ENOUGH or seconds <= 0 or left <= 0:
            return ""
        return _format_pace(left, number / seconds, number)


def _format_pace(left: int, rate: float, number: int) -> str:
    """Return the words for a rate that was measured with `number` tasks: the fewer, the wider the spread."""
    spread = min(0.9, _SPREAD / math.sqrt(number))
    soonest, latest = left / rate / (1 + spread), left / rate / (1 - spread)
    speed = f"{rate:.3g}/s" if rate >= 1 else f"{rate * 60:.3g}/min" if rate >= 1 / 60 else f"{rate * 3600:.3g}/h"
    first, last = format_duration(soonest), format_duration(latest)
    span = first if first == last else f"{first} to {last}"
    return f"{speed}, {left} left: {span}"
